//! What only the load generator asks of the kernel: what its thread has used, and ports that are
//! chosen late.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use libc::c_int;

use super::checked;

/// What a thread has used since it began: getrusage(2).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time in the program.
    pub(crate) user: Duration,
    /// Processor time in the kernel.
    pub(crate) system: Duration,
    /// How often it waited.
    pub(crate) waits: u64,
    /// How often another thread was given its processor.
    pub(crate) preemptions: u64,
}

/// What the calling thread has used.
pub(crate) fn thread_usage() -> io::Result<Usage> {
    // SAFETY: integers only, for which zero is a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: `usage` is valid for the write that the call makes.
    checked(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) })?;
    Ok(Usage {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        waits: usage.ru_nvcsw.unsigned_abs(),
        preemptions: usage.ru_nivcsw.unsigned_abs(),
    })
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.unsigned_abs())
        + Duration::from_micros(time.tv_usec.unsigned_abs())
}

/// Lets bind(2) of this socket take an address and leave the port to connect(2), which then needs
/// one that is free for this peer only: with a port from bind, all connections from one address
/// share some 28,000, whomever they go to. ip(7), IP_BIND_ADDRESS_NO_PORT; it is for IPv6, too.
pub(crate) fn bind_without_port(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: pointer and length are those of one int that lives during the call.
    checked(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            mem::size_of::<c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_thread_that_works_uses_its_processor() {
        let before = thread_usage().unwrap();
        let patience = Instant::now() + Duration::from_secs(20);
        let used = || {
            let now = thread_usage().unwrap();
            (now.user + now.system) - (before.user + before.system)
        };
        while used() < Duration::from_millis(10) {
            assert!(Instant::now() < patience, "nothing was used");
        }
    }

    #[test]
    fn a_port_is_chosen_when_the_peer_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bind_without_port(socket.as_fd()).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        let port = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap().port();
        assert_eq!(port(&socket), 0);
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        assert_ne!(port(&socket), 0);
    }
}
