//! The calls of the kernel that no dependency wraps, and the only unsafe code of the library.
//!
//! Each function here is a system call and its conversion, nothing else: who decides anything does
//! it elsewhere, in safe code. Reading and writing go through [`File`], which needs no unsafe.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use libc::c_int;

mod datagrams;
#[cfg(feature = "load")]
mod measuring;
mod packets;
mod streams;

pub(crate) use datagrams::{
    BATCH, Envelope, lost_datagrams, name_destinations, receive_datagrams, send_datagrams,
};
pub(crate) use packets::{EVERY_INTERFACE, bind_to_packets, interface_index, receive_packet};

pub(crate) use streams::{receive, send};

#[cfg(feature = "load")]
pub(crate) use measuring::{Usage, bind_without_port, thread_usage};

/// One descriptor to wait for. A negative `fd` is skipped by the kernel.
pub(crate) use libc::pollfd as PollFd;

/// Waits until one of `fds` is ready, at most `timeout`, `None` for ever; how many are ready.
///
/// The timeout is rounded up to milliseconds. Rounded down, the last part of one would make a
/// loop spin until its deadline. One longer than 24 days ends after 24 days with 0: a caller looks
/// at its deadlines anyway.
///
/// # Errors
/// `Interrupted` when a signal came: not retried here, since then the timeout would begin again.
pub(crate) fn poll(fds: &mut [PollFd], timeout: Option<Duration>) -> io::Result<usize> {
    // SAFETY: pointer and length are those of one exclusively borrowed slice, and the kernel
    // writes only `revents` of its elements. A descriptor that is not open is reported there.
    let ready = unsafe {
        libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, poll_milliseconds(timeout))
    };
    Ok(checked(ready)? as usize)
}

fn poll_milliseconds(timeout: Option<Duration>) -> c_int {
    const FOR_EVER: c_int = -1;
    timeout.map_or(FOR_EVER, |timeout| {
        c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    })
}

/// A flag that poll(2) and epoll can wait for; any thread may raise it.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        Ok(Self(File::from(owned(fd)?)))
    }

    /// Makes it readable, until [`clear`](EventFd::clear).
    pub(crate) fn signal(&self) {
        if let Err(error) = (&self.0).write(&1_u64.to_ne_bytes()) {
            // A counter that can take no more is not zero: it is signalled already. Nothing else
            // can go wrong with a descriptor that we own and a write that never sleeps.
            debug_assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }
}

impl EventFd {
    /// Makes it unreadable. That it was so already is no error.
    pub(crate) fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A deadline that poll(2) and epoll can wait for: readable once it has passed.
///
/// It costs a system call when it is armed, where a timeout of epoll_wait(2) costs the kernel a
/// timer in every wait.
#[derive(Debug)]
pub(crate) struct TimerFd(OwnedFd);

impl TimerFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe {
            libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
        };
        owned(fd).map(Self)
    }

    /// Fires once, `after` from now, in place of what was armed before. Whether that had fired is
    /// forgotten: arming takes the readiness away, so nobody needs to read the descriptor.
    pub(crate) fn arm(&self, after: Duration) -> io::Result<()> {
        // All zeros would disarm it; what is due now must fire.
        let after = after.max(Duration::from_nanos(1));
        let timer = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: after.subsec_nanos().into(),
            },
        };
        // SAFETY: `timer` is read during the call and lives longer; the previous setting is not
        // asked for, which a null pointer says.
        checked(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &timer, ptr::null_mut()) })?;
        Ok(())
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How many bytes wait in the kernel's receive buffer of the stream `fd`.
pub(crate) fn unread(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: FIONREAD writes one int, to a pointer that is valid for it during the call.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// How many bytes wait in the kernel's send buffer of the stream `fd` for its peer to take them.
pub(crate) fn queued(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: TIOCOUTQ, which sockets call SIOCOUTQ, writes one int, to a pointer that is valid for
    // it during the call.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Lets the UDP socket `fd`, which is not connected, hear of datagrams that came to nobody.
///
/// Without this, only a connected socket does. Each refusal is then an error of the next call, and
/// stays in a queue of its own, for MSG_ERRQUEUE, until it is taken from there (ip(7), ipv6(7)).
pub(crate) fn report_refusals(fd: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    let (level, option) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    } else {
        (libc::IPPROTO_IP, libc::IP_RECVERR)
    };
    let on: c_int = 1;
    // SAFETY: the option is an int, and pointer and length are those of one.
    checked(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&on).cast(),
            mem::size_of::<c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Lets this process have as many descriptors as it may: raises the soft limit to the hard one.
/// Returns the limit that is now in force.
///
/// Each connection is a descriptor, and the soft limit is often 1,024. The library never does this
/// by itself: the limit belongs to the process, and select(2), should the process use it anywhere,
/// cannot cope with descriptors from 1,024 on.
///
/// ```
/// let limit = evmux::raise_descriptor_limit()?;
/// println!("about {limit} connections at most");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When the kernel refuses; the limit is then what it was.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = descriptor_limits()?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        set_descriptor_limits(limit)?;
    }
    Ok(limit.rlim_cur)
}

/// How many descriptors this process may have: the soft limit.
pub(crate) fn descriptor_limit() -> io::Result<u64> {
    descriptor_limits().map(|limit| limit.rlim_cur)
}

fn descriptor_limits() -> io::Result<libc::rlimit> {
    // SAFETY: two integers, for which zero is a value.
    let mut limit: libc::rlimit = unsafe { mem::zeroed() };
    // SAFETY: `limit` is valid for the write that the call makes.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    Ok(limit)
}

fn set_descriptor_limits(limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is valid for the read that the call makes.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(())
}

/// Takes a descriptor that the kernel has just made.
fn owned(fd: c_int) -> io::Result<OwnedFd> {
    let fd = checked(fd)?;
    // SAFETY: the callers pass the result of a call that makes a new descriptor; it is open, and
    // nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[track_caller]
    fn is_readable(fd: BorrowedFd<'_>, within: Duration) -> bool {
        let mut fds = [PollFd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        let ready = poll(&mut fds, Some(within)).unwrap();
        assert_eq!(ready == 1, fds[0].revents & libc::POLLIN != 0);
        ready == 1
    }

    #[test]
    fn the_timeout_of_poll_is_rounded_up_to_milliseconds() {
        assert_eq!(poll_milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(poll_milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(poll_milliseconds(Some(Duration::from_millis(1))), 1);
        assert_eq!(poll_milliseconds(Some(Duration::from_nanos(1_000_001))), 2);
        assert_eq!(poll_milliseconds(Some(Duration::MAX)), c_int::MAX);
        assert_eq!(poll_milliseconds(None), -1);
    }

    #[test]
    fn poll_never_returns_before_its_timeout() {
        // Real time is what is tested.
        for timeout in [1, 300_000, 1_200_000].map(Duration::from_nanos) {
            let start = Instant::now();
            assert_eq!(poll(&mut [], Some(timeout)).unwrap(), 0);
            assert!(start.elapsed() >= timeout);
        }
    }

    #[test]
    fn poll_says_which_descriptor_is_ready() {
        let (silent, _other) = UnixStream::pair().unwrap();
        let (talking, mut other) = UnixStream::pair().unwrap();
        other.write_all(b"x").unwrap();
        let mut fds = [&silent, &talking].map(|stream| PollFd {
            fd: stream.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert_eq!(fds.map(|fd| fd.revents), [0, libc::POLLIN]);
    }

    #[test]
    fn a_signalled_event_stays_readable() {
        let event = EventFd::new().unwrap();
        assert!(!is_readable(event.as_fd(), Duration::ZERO));
        event.signal();
        for _ in 0..3 {
            assert!(is_readable(event.as_fd(), Duration::ZERO));
        }
    }

    #[test]
    fn an_event_whose_counter_is_full_can_be_signalled_again() {
        let event = EventFd::new().unwrap();
        (&event.0).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        event.signal();
        assert!(is_readable(event.as_fd(), Duration::ZERO));
    }

    #[test]
    fn a_timer_of_zero_fires_at_once() {
        let timer = TimerFd::new().unwrap();
        assert!(!is_readable(timer.as_fd(), Duration::ZERO));
        timer.arm(Duration::ZERO).unwrap();
        assert!(is_readable(timer.as_fd(), LONG));
    }

    #[test]
    fn a_timer_never_fires_before_its_time() {
        let timer = TimerFd::new().unwrap();
        let start = Instant::now();
        timer.arm(Duration::from_millis(5)).unwrap();
        assert!(is_readable(timer.as_fd(), LONG));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn arming_a_timer_replaces_what_was_armed_and_forgets_that_it_fired() {
        let timer = TimerFd::new().unwrap();
        timer.arm(Duration::ZERO).unwrap();
        assert!(is_readable(timer.as_fd(), LONG));
        timer.arm(Duration::MAX).unwrap();
        assert!(!is_readable(timer.as_fd(), Duration::ZERO));
        timer.arm(Duration::ZERO).unwrap();
        assert!(is_readable(timer.as_fd(), LONG));
    }

    #[test]
    fn unread_counts_what_has_arrived_and_was_not_read() {
        let (stream, mut other) = UnixStream::pair().unwrap();
        assert_eq!(unread(stream.as_fd()).unwrap(), 0);
        other.write_all(&[0; 1000]).unwrap();
        assert_eq!(unread(stream.as_fd()).unwrap(), 1000);
    }

    #[test]
    fn queued_counts_what_the_peer_has_not_taken() {
        let (mut stream, mut other) = UnixStream::pair().unwrap();
        assert_eq!(queued(stream.as_fd()).unwrap(), 0);
        stream.write_all(&[0; 1000]).unwrap();
        assert!(queued(stream.as_fd()).unwrap() >= 1000);
        other.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(queued(stream.as_fd()).unwrap(), 0);
    }

    #[test]
    fn unread_and_queued_of_what_is_no_stream_are_errors() {
        assert!(unread(EventFd::new().unwrap().as_fd()).is_err());
        assert!(queued(EventFd::new().unwrap().as_fd()).is_err());
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_the_hard_one() {
        let mut limit = descriptor_limits().unwrap();
        // One less than the most disturbs no other test of this process.
        limit.rlim_cur = limit.rlim_max - 1;
        set_descriptor_limits(limit).unwrap();
        assert_eq!(descriptor_limit().unwrap(), limit.rlim_max - 1);
        assert_eq!(raise_descriptor_limit().unwrap(), limit.rlim_max);
        assert_eq!(descriptor_limit().unwrap(), limit.rlim_max);
        assert_eq!(raise_descriptor_limit().unwrap(), limit.rlim_max);
    }
}
