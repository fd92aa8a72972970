//! Listening sockets as the readiness kernels use them, and the descriptor that is kept to refuse
//! a client when there is no other.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use mio::net::{TcpListener, UnixListener};
use socket2::{Domain, Socket};

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

/// A listener that does not block; its streams do not either, from accept4(2) on.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(if socket.domain()? == Domain::UNIX {
            Self::Unix(UnixListener::from_std(socket.into()))
        } else {
            Self::Tcp(TcpListener::from_std(socket.into()))
        })
    }

    fn accept(&self) -> io::Result<(SocketStream, PeerAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                Ok((OwnedFd::from(stream).into(), address.into()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((OwnedFd::from(stream).into(), PeerAddress::Unix))
            }
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        }
    }
}

/// The listeners of a loop.
pub(crate) struct Acceptor {
    pub(crate) listeners: Vec<Listener>,
    spare: Spare,
}

impl Acceptor {
    pub(crate) fn new(sockets: Vec<Socket>) -> io::Result<Self> {
        let listeners = sockets.into_iter().map(Listener::new).collect::<io::Result<_>>()?;
        Ok(Self { listeners, spare: Spare::new() })
    }

    pub(crate) fn accept(&self, listener: usize) -> io::Result<(SocketStream, PeerAddress)> {
        self.listeners[listener].accept()
    }

    pub(crate) fn refuse_one(&mut self, listener: usize) -> bool {
        let listener = &self.listeners[listener];
        self.spare.refuse_one(|| listener.accept())
    }
}
