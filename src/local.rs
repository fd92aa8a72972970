//! Requests to a loop from the handlers that it serves itself.
//!
//! A handler never touches the engine from inside a call. What it wants of it beside its own
//! answer, that another connection be woken, that one be opened, it asks for; the loop does it
//! after the batch. Nothing here crosses threads, so what two handlers share can be an `Rc`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::handler::{ConnectionId, Peer};

/// Speaks to the reactor that runs on this thread; made before the service, so that the service and
/// its handlers can keep clones of it.
///
/// `H` is the handler of the reactor's service: that of incoming and of outgoing connections, an
/// enum or a box where they differ. See the example `proxy`.
pub struct Local<H>(Rc<RefCell<VecDeque<Request<H>>>>);

impl<H> Local<H> {
    /// A new one, for one reactor.
    pub fn new() -> Self {
        Self(Rc::default())
    }

    /// Has [`Handler::wake`](crate::Handler::wake) called, after this batch.
    pub fn wake(&self, id: ConnectionId) {
        self.0.borrow_mut().push_back(Request::Wake(id));
    }

    /// Closes a connection in order: what waits for the peer is sent before.
    pub fn close(&self, id: ConnectionId) {
        self.0.borrow_mut().push_back(Request::Close(id));
    }

    /// Opens a connection to the first of `targets` that can be reached; they are tried in order,
    /// each with its share of the time. Names are to be resolved before, never on this thread:
    /// [`Address::resolve`](crate::Address::resolve).
    ///
    /// `make` makes the handler, before the first attempt; its peer has the
    /// [id](Peer::id) of the new connection, the first target as address and
    /// [`Peer::OUTGOING`] as listener. The handler is opened when the connection is there. If
    /// none can be had, [`closed`](crate::Handler::closed) is called without an `open`, with
    /// [`CloseReason::Unreachable`](crate::CloseReason::Unreachable).
    pub fn connect(
        &self,
        targets: impl IntoIterator<Item = Target>,
        options: ConnectOptions,
        make: impl FnOnce(&Peer) -> H + 'static,
    ) {
        let targets = targets.into_iter().collect();
        let outgoing = Outgoing { targets, options, make: Box::new(make) };
        self.0.borrow_mut().push_back(Request::Connect(outgoing));
    }

    pub(crate) fn take(&self) -> VecDeque<Request<H>> {
        self.0.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

impl<H> Clone for Local<H> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<H> Default for Local<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H> fmt::Debug for Local<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Local").field(&self.0.borrow().len()).finish()
    }
}

/// Whom to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// TCP.
    Inet(SocketAddr),
    /// The Unix stream socket at this path.
    Unix(PathBuf),
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

/// How an outgoing connection is made.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    pub(crate) timeout: Duration,
    pub(crate) source: Option<SocketAddr>,
}

impl ConnectOptions {
    /// How long all attempts may take together; 10 s unless said.
    #[must_use]
    pub fn timeout(mut self, in_all: Duration) -> Self {
        self.timeout = in_all;
        self
    }

    /// The address to come from, with port 0 for one that the kernel chooses. Targets of the other
    /// family are then left out.
    #[must_use]
    pub fn source(mut self, address: SocketAddr) -> Self {
        self.source = Some(address);
        self
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), source: None }
    }
}

pub(crate) enum Request<H> {
    Wake(ConnectionId),
    Close(ConnectionId),
    Connect(Outgoing<H>),
}

/// A connection that is to be opened.
pub(crate) struct Outgoing<H> {
    pub(crate) targets: VecDeque<Target>,
    pub(crate) options: ConnectOptions,
    pub(crate) make: Box<dyn FnOnce(&Peer) -> H>,
}
