//! What keeps a server from starting or from going on. How a connection ends is no error, but a
//! [`CloseReason`](crate::CloseReason).

use std::convert::Infallible;
use std::fmt;
use std::io;

use crate::net::address::AddressError;

/// Why a server cannot start or go on: one line that says what failed, on what, and why.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An address that cannot be read.
    Address(AddressError),
    /// A setting that cannot be.
    Setting {
        /// Which one.
        name: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// A listener cannot be had.
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Something that the server needs beside its listeners cannot be had: descriptors, threads.
    Start(io::Error),
    /// Waiting failed, and with it the server.
    Run(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::Setting { name, must } => write!(f, "{name} must be {must}"),
            Self::Listen { address, source } => {
                write!(f, "cannot listen on {address}: {source}")?;
                match source.kind() {
                    io::ErrorKind::AddrInUse => f.write_str(
                        "; another server has it: stop that one or choose another address",
                    ),
                    io::ErrorKind::AddrNotAvailable => {
                        f.write_str("; no interface of this machine has that address")
                    }
                    io::ErrorKind::PermissionDenied => {
                        f.write_str("; ports below 1024 need a privilege: choose a higher one")
                    }
                    _ => Ok(()),
                }
            }
            Self::Start(error) => write!(f, "cannot start the server: {error}"),
            Self::Run(error) => write!(f, "the server cannot go on: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(error) => Some(error),
            Self::Listen { source, .. } => Some(source),
            Self::Start(error) | Self::Run(error) => Some(error),
            Self::Setting { .. } => None,
        }
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
