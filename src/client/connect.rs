//! A connection to whichever address of a name takes it.
//!
//! A name has several addresses more often than not: `localhost` is `::1` and `127.0.0.1`, and a
//! server may listen at one of them. They are tried in the resolver's order, and when none takes
//! the connection, the error is the one that tells most.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};

/// Connects to the first address of `target` that takes the connection.
///
/// An address that is silent is given up by the kernel after about two minutes (`tcp_syn_retries`
/// in tcp(7)); one that refuses, at once. [`TcpStream::connect_timeout`] has a shorter limit, for
/// one address.
///
/// ```
/// use evmux::client::{ConnectError, connect};
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let port = listener.local_addr().unwrap().port();
///
/// let stream = connect(("localhost", port)).unwrap();
///
/// # let port = { let stream = listener.local_addr().unwrap().port(); drop(listener); stream };
/// let error = connect(("127.0.0.1", port)).unwrap_err();
/// assert!(matches!(error, ConnectError::Failed { tried: 1, .. }));
/// ```
///
/// # Errors
/// When `target` has no address, or when none of its addresses takes the connection.
pub fn connect(target: impl ToSocketAddrs) -> Result<TcpStream, ConnectError> {
    let addresses: Vec<_> = target.to_socket_addrs().map_err(ConnectError::Lookup)?.collect();
    let mut told: Option<(SocketAddr, io::Error)> = None;
    for &address in &addresses {
        match TcpStream::connect(address) {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                let tells_more = is_telling(&source) || !told.as_ref().is_some_and(telling);
                if tells_more {
                    told = Some((address, source));
                }
            }
        }
    }
    Err(match told {
        Some((address, source)) => ConnectError::Failed { address, source, tried: addresses.len() },
        None => ConnectError::Lookup(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
    })
}

fn telling(attempt: &(SocketAddr, io::Error)) -> bool {
    is_telling(&attempt.1)
}

/// Whether the error came from the other side. A machine without IPv6 says of each such address
/// only that it cannot go there, which hides why the IPv4 address behind it failed.
fn is_telling(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::Unsupported
    ) && error.raw_os_error() != Some(libc::EAFNOSUPPORT)
}

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name is not known, cannot be looked up, or has no address.
    Lookup(io::Error),
    /// No address took the connection.
    Failed {
        /// The last one of those whose error tells something about the other side, else the last.
        address: SocketAddr,
        /// What happened there.
        source: io::Error,
        /// How many addresses were tried.
        tried: usize,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(source) => write!(f, "cannot look the address up: {source}"),
            Self::Failed { address, source, tried: 1 } => {
                write!(f, "cannot connect to {address}: {source}")
            }
            Self::Failed { address, source, tried } => {
                write!(f, "cannot connect to {address}, nor to {} more: {source}", tried - 1)
            }
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Lookup(source) | Self::Failed { source, .. } => Some(source),
        }
    }
}

impl From<ConnectError> for io::Error {
    /// Its kind is that of the error which the system reported.
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::Lookup(source) | ConnectError::Failed { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// An address at which nobody listens.
    fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn an_address_that_refuses_is_followed_by_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = connect(&[nobody(), nobody(), address][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }

    #[test]
    fn the_error_is_that_of_the_address_which_tells_most() {
        // A link-local address without its zone leads nowhere, on any machine.
        let nowhere: SocketAddr = "[fe80::1]:9".parse().unwrap();
        let refused = nobody();
        for addresses in [[refused, nowhere], [nowhere, refused]] {
            let Err(ConnectError::Failed { address, source, tried }) = connect(&addresses[..])
            else {
                panic!("somebody took the connection");
            };
            if is_telling(&TcpStream::connect(nowhere).unwrap_err()) {
                // Where the kernel has another word for it, the last one is as good as the first.
                assert_eq!(address, addresses[1]);
                continue;
            }
            assert_eq!((address, tried), (refused, 2));
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn nothing_to_try_is_an_error() {
        assert!(matches!(connect(&[][..]), Err(ConnectError::Lookup(_))));
    }
}
