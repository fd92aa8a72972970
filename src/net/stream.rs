//! A connected stream socket, TCP or Unix, as every front end uses it.
//!
//! One type of four bytes for all of them: it receives and sends as recv(2) and send(2) do, never as
//! read(2) and write(2), which cost a few percent more and raise SIGPIPE.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::handler::PeerAddress;
use crate::local::Target;
use crate::sys;
use crate::transfer::Stream;

/// A connected stream socket. Its descriptor is owned alone and never duplicated, so that closing
/// it is also what takes it out of an epoll set.
#[derive(Debug)]
pub(crate) struct SocketStream(Socket);

impl SocketStream {
    /// Reads at most so many times what a refused client had sent already.
    const DISCARDS: usize = 16;

    /// Begins to connect, without waiting.
    pub(crate) fn connect(target: &Target, source: Option<SocketAddr>) -> io::Result<Self> {
        let (domain, address) = match target {
            Target::Inet(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Target::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
        if domain != Domain::UNIX {
            socket.set_tcp_nodelay(true)?;
            if let Some(source) = source {
                socket.bind(&source.into())?;
            }
        }
        match socket.connect(&address) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Self(socket)),
        }
    }

    /// A connection that is not served: our FIN, what has come is thrown away so that closing does
    /// not reset it, and no waiting.
    pub(crate) fn refuse(self, scratch: &mut [u8]) {
        let _ = self.0.set_nonblocking(true);
        let _ = self.0.shutdown(Shutdown::Write);
        for _ in 0..Self::DISCARDS {
            if !matches!((&self.0).read(scratch), Ok(count) if count > 0) {
                break;
            }
        }
    }

    /// Closes with a reset, so that nothing stays behind in the kernel.
    pub(crate) fn cut(self) {
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}

impl Stream for SocketStream {
    #[inline]
    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        sys::receive(self.0.as_fd(), bytes)
    }

    #[inline]
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        sys::send(self.0.as_fd(), bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn unread(&self) -> usize {
        sys::unread(self.0.as_fd()).unwrap_or(0)
    }

    fn queued(&self) -> usize {
        sys::queued(self.0.as_fd()).unwrap_or(0)
    }

    fn peer(&self) -> Option<PeerAddress> {
        let address = self.0.peer_addr().ok()?;
        Some(address.as_socket().map_or(PeerAddress::Unix, PeerAddress::from))
    }

    fn error(&self) -> io::ErrorKind {
        match self.0.take_error() {
            Ok(Some(error)) | Err(error) => error.kind(),
            Ok(None) => io::ErrorKind::ConnectionReset,
        }
    }

    fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        match self.0.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl From<Socket> for SocketStream {
    fn from(socket: Socket) -> Self {
        Self(socket)
    }
}

impl From<OwnedFd> for SocketStream {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl AsFd for SocketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
