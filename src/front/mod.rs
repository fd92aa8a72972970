//! Ways of waiting. None imports another; the loops that they share are two, `readiness` and
//! `blocking`.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::counters::Totals;
use crate::front::datagrams::beside;
use crate::front::gate::Gate;
use crate::front::quiet::Quiet;
use crate::handler::{PeerAddress, Service, Violation};
use crate::limits::Limits;
use crate::mailbox::{Mailbox, Queue};
use crate::moment::Moment;
use crate::net::datagram::{BoxedHandler, UdpSocket};
use crate::net::stream::SocketStream;
use crate::stop::Stop;
use crate::witness::Audience;

pub(crate) mod blocking;
pub(crate) mod datagrams;
pub(crate) mod epoll;
pub(crate) mod gate;
pub(crate) mod poll;
pub(crate) mod pool;
pub(crate) mod quiet;
pub(crate) mod reactors;
pub(crate) mod readiness;
pub(crate) mod sequential;
pub(crate) mod threads;

/// A way of waiting for many clients.
///
/// The same handler runs under each of them; docs/models.md compares what they can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Model {
    /// One client at a time, in blocking calls; the others wait in the backlog.
    Sequential,
    /// A thread for each connection, in blocking calls.
    Threads,
    /// A fixed number of threads that each accept and serve one client at a time.
    Pool,
    /// One thread and poll(2), level-triggered.
    Poll,
    /// One thread and epoll, edge-triggered.
    Epoll,
}

impl Model {
    /// All of them, from the simplest on.
    pub const ALL: [Self; 5] =
        [Self::Sequential, Self::Threads, Self::Pool, Self::Poll, Self::Epoll];

    /// The name of the model in lower case, as the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Threads => "threads",
            Self::Pool => "pool",
            Self::Poll => "poll",
            Self::Epoll => "epoll",
        }
    }

    /// Whether its threads wait in the calls themselves, one connection each.
    pub fn is_blocking(self) -> bool {
        matches!(self, Self::Sequential | Self::Threads | Self::Pool)
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Model {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Self, UnknownModel> {
        Self::ALL.into_iter().find(|model| model.name() == name).ok_or(UnknownModel)
    }
}

/// A name that no [`Model`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownModel;

impl fmt::Display for UnknownModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the models are ")?;
        for (index, model) in Model::ALL.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{model}")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownModel {}

/// Which reactor gets a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest connections.
    Fewest,
}

/// How many threads a model has where it has several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Of the pool, for each listener.
    pub(crate) threads: usize,
    /// Of epoll, beside the one that accepts if there are several.
    pub(crate) reactors: usize,
    pub(crate) balance: Balance,
}

/// Where a front end serves.
pub(crate) struct Sockets {
    /// For streams.
    pub(crate) listeners: Vec<Socket>,
    pub(crate) datagrams: Vec<(UdpSocket, BoxedHandler)>,
}

/// What every front end is given: what to serve, within which bounds, and when to end.
pub(crate) struct Front<'s, S> {
    pub(crate) service: &'s S,
    pub(crate) limits: Limits,
    pub(crate) drain_timeout: Duration,
    pub(crate) gate: Gate,
    pub(crate) refusals: Quiet,
    pub(crate) stop: &'s Stop,
    pub(crate) totals: &'s Totals,
    pub(crate) mailbox: Option<&'s Mailbox>,
    pub(crate) audience: Audience,
    /// When all clocks of this server began.
    pub(crate) origin: Instant,
}

impl<S> Front<'_, S> {
    /// Tells the operator of a peer that broke the protocol. Its name is not always known any more.
    pub(crate) fn tell_of_refusal(
        &self,
        peer: Option<PeerAddress>,
        violation: &Violation,
        now: Moment,
    ) {
        self.refusals.warn(now, || match peer {
            Some(peer) => format!("refused {peer}: {violation}"),
            None => format!("refused a client: {violation}"),
        });
    }

    /// The messages for reactor number `reactor`.
    pub(crate) fn queue(&self, reactor: usize) -> Option<Arc<Queue<SocketStream>>> {
        self.mailbox.and_then(|mailbox| mailbox.queues.get(reactor)).cloned()
    }
}

impl<S> Front<'_, S>
where
    S: Service + Sync,
{
    /// Serves `sockets` until the server is stopped.
    pub(crate) fn run(&self, model: Model, crowd: Crowd, sockets: Sockets) -> io::Result<()> {
        let Crowd { threads, reactors, balance } = crowd;
        match model {
            Model::Sequential => beside(self, sockets, |streams| sequential::run(self, streams)),
            Model::Threads => beside(self, sockets, |streams| threads::run(self, streams)),
            Model::Pool => beside(self, sockets, |streams| pool::run(self, streams, threads)),
            Model::Poll => poll::run(self, sockets),
            Model::Epoll if reactors > 1 => reactors::run(self, sockets, reactors, balance),
            Model::Epoll => epoll::run(self, sockets),
        }
    }
}
