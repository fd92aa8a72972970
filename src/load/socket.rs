//! The generator's end of a connection, or of a UDP conversation: one type for all, since what is
//! sent and received on a connected socket is the same calls.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockAddr, Type};

use super::plan::Plan;
use crate::net::address::Address;
use crate::sys;

/// Whom to connect to, without a name to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Stream(SocketAddr),
    Datagram(SocketAddr),
    Unix(PathBuf),
}

impl Target {
    /// Those of the plan, in the order in which they are tried.
    pub(super) fn all(plan: &Plan) -> io::Result<Vec<Self>> {
        match &plan.target {
            Address::Unix(path) => Ok(vec![Self::Unix(path.clone())]),
            Address::Tcp { .. } => Ok(resolved(plan)?.map(Self::Stream).collect()),
            Address::Udp { .. } => Ok(resolved(plan)?.map(Self::Datagram).collect()),
        }
    }

    fn domain(&self) -> Domain {
        match self {
            Self::Stream(address) | Self::Datagram(address) => Domain::for_address(*address),
            Self::Unix(_) => Domain::UNIX,
        }
    }

    fn address(&self) -> io::Result<SockAddr> {
        match self {
            Self::Stream(address) | Self::Datagram(address) => Ok((*address).into()),
            Self::Unix(path) => SockAddr::unix(path),
        }
    }
}

/// The IP addresses of the plan's target, without those that no source address can reach.
fn resolved(plan: &Plan) -> io::Result<impl Iterator<Item = SocketAddr>> {
    let mut addresses = plan.target.resolve()?;
    addresses.retain(|address| {
        plan.sources.is_empty()
            || plan.sources.iter().any(|source| source.is_ipv4() == address.is_ipv4())
    });
    if addresses.is_empty() {
        let problem = "the target has no address of the family of the source addresses";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    Ok(addresses.into_iter())
}

/// A connected socket, or one that will be.
#[derive(Debug)]
pub(super) struct Socket(socket2::Socket);

impl Socket {
    /// Begins to connect, without waiting.
    pub(super) fn connect(target: &Target, source: Option<IpAddr>) -> io::Result<Self> {
        let kind = if matches!(target, Target::Datagram(_)) { Type::DGRAM } else { Type::STREAM };
        let socket = socket2::Socket::new(target.domain(), kind.nonblocking(), None)?;
        if matches!(target, Target::Stream(_)) {
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(source) = source {
            sys::bind_without_port(socket.as_fd())?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&target.address()?) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Self(socket)),
        }
    }

    /// Both directions, once: readiness is reported when it changes.
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&self.0.as_raw_fd()), token, both)
    }

    /// Whether it is connected by now.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        match self.0.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    #[inline]
    pub(super) fn receive(&self, bytes: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(bytes)
    }

    #[inline]
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_with_flags(bytes, libc::MSG_NOSIGNAL)
    }
}
