//! Receiving from a connected stream and sending to it.
//!
//! By syscall(2), and not by recv(2) and send(2). In the C library these are places where another
//! thread may cancel the caller (pthreads(7)), and from the second thread of a process on, each of
//! them says so before and after: over a hundred instructions a message, and 2 % of what a message
//! costs a thread that waits in the call. Nobody cancels a thread of Rust.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_long, c_void};

/// As recv(2): how many bytes there were, 0 at the end of the stream.
#[inline]
pub(crate) fn receive(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    let (to, room) = (bytes.as_mut_ptr(), bytes.len());
    let nobody = ptr::null_mut::<c_void>();
    // SAFETY: pointer and length are those of one exclusively borrowed slice; who sent it is not
    // asked for, which the null pointers say.
    let count = unsafe {
        let fd = c_long::from(fd.as_raw_fd());
        libc::syscall(libc::SYS_recvfrom, fd, to, room, NO_FLAGS, nobody, nobody)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// As send(2), without a SIGPIPE: how many bytes were taken.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let (from, count) = (bytes.as_ptr(), bytes.len());
    let flags = c_long::from(libc::MSG_NOSIGNAL);
    // SAFETY: pointer and length are those of one borrowed slice, which is read only; a connected
    // stream needs no address, which the null pointer and the length of 0 say.
    let count = unsafe {
        let fd = c_long::from(fd.as_raw_fd());
        let nobody = ptr::null::<c_void>();
        libc::syscall(libc::SYS_sendto, fd, from, count, flags, nobody, NO_FLAGS)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

const NO_FLAGS: c_long = 0;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_sent_is_received_then_nothing_then_the_end() {
        let (one, other) = UnixStream::pair().unwrap();
        other.set_nonblocking(true).unwrap();
        let mut bytes = [0; 8];
        let nothing = receive(other.as_fd(), &mut bytes).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(send(one.as_fd(), b"hello").unwrap(), 5);
        assert_eq!(receive(other.as_fd(), &mut bytes[..3]).unwrap(), 3);
        assert_eq!(receive(other.as_fd(), &mut bytes[3..]).unwrap(), 2);
        assert_eq!(&bytes[..5], b"hello");
        drop(one);
        assert_eq!(receive(other.as_fd(), &mut bytes).unwrap(), 0);
        // And no signal, which would end the tests.
        assert_eq!(send(other.as_fd(), b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
