//! Unix stream sockets that listen at a path, and whose file it is.
//!
//! A path outlives its server: bind(2) makes a file that nobody removes when a process is killed,
//! and that makes the next bind fail. So a file is taken over when it is a socket at which nobody
//! listens any more, and only then; and what we remove at the end is the file that we made.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use log::warn;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::net::listener::ListenOptions;

/// A socket file that we made. It is removed when this is dropped, if it still is the same file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// A blocking socket that listens at `path`.
///
/// # Errors
/// `AddrInUse` when a server listens there; `AlreadyExists` when the file is not a socket.
pub(crate) fn listen(path: &Path, options: &ListenOptions) -> io::Result<(Socket, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    socket.listen(options.queue_length())?;
    Ok((socket, file))
}

/// Removes a socket file at which nobody listens.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.file_type().is_socket() {
        let problem = "a file is there that is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
    }
    let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A live server whose backlog is full must not make us wait: it answers WouldBlock.
    client.set_nonblocking(true)?;
    match client.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => return Err(io::ErrorKind::AddrInUse.into()),
    }
    // Another server may have taken it over meanwhile; its file is another one.
    if identity(path)? == (metadata.dev(), metadata.ino()) {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}
