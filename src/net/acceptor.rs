//! Listening sockets as the readiness kernels use them, and the descriptor that is kept to refuse
//! a client when there is no other.

use std::fs::File;
use std::io;

use mio::net::TcpListener;
use socket2::Socket;

use crate::handler::PeerAddress;
use crate::net::stream::SocketStream;

/// A descriptor that is held only to be given up.
///
/// Without one, a process at its limit can neither serve nor refuse: the clients in the backlog
/// wait without a word, and with edge-triggered epoll no event ever tells of them again.
pub(crate) struct Spare(Option<File>);

impl Spare {
    pub(crate) fn new() -> Self {
        let mut spare = Self(None);
        spare.take();
        spare
    }

    /// Gives the descriptor up, makes one accept with it, closes what was accepted, and takes it
    /// again. False when nobody was refused.
    pub(crate) fn refuse_one<T>(&mut self, accept: impl FnOnce() -> io::Result<T>) -> bool {
        if self.0.take().is_none() {
            self.take();
            return false;
        }
        let refused = accept().map(drop).is_ok();
        // Another thread may have been faster; then the next refusal begins with taking it.
        self.take();
        refused
    }

    fn take(&mut self) {
        self.0 = File::open("/dev/null").ok();
    }
}

/// The listeners of a loop.
pub(crate) struct Acceptor {
    pub(crate) listeners: Vec<TcpListener>,
    spare: Spare,
}

impl Acceptor {
    pub(crate) fn new(sockets: Vec<Socket>) -> io::Result<Self> {
        let listeners = sockets
            .into_iter()
            .map(|socket| {
                socket.set_nonblocking(true)?;
                Ok(TcpListener::from_std(socket.into()))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { listeners, spare: Spare::new() })
    }

    /// Accepts a client with accept4(2): the stream does not block from the start.
    pub(crate) fn accept(&self, listener: usize) -> io::Result<(SocketStream, PeerAddress)> {
        let (stream, address) = self.listeners[listener].accept()?;
        Ok((SocketStream::from(std::os::fd::OwnedFd::from(stream)), address.into()))
    }

    pub(crate) fn refuse_one(&mut self, listener: usize) -> bool {
        let socket = &self.listeners[listener];
        self.spare.refuse_one(|| socket.accept())
    }
}
