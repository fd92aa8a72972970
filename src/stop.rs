//! How a server is asked to end, and how everybody who waits hears of it.
//!
//! A phase only goes forward, and for each there is a descriptor that becomes readable when the
//! phase is asked for and stays so. Nobody reads it. So one descriptor wakes any number of threads
//! that wait in poll(2) or epoll, none can take the wake-up away from another, and one that looks
//! only later still sees it. No signal is sent, no tick is needed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::sys::EventFd;

/// Ends a server from any thread. Clones ask the same server.
///
/// The library installs no signal handler; a program that wants one calls this from its own.
///
/// ```
/// use evmux::{Phase, Stop};
///
/// let stop = Stop::new()?;
/// let for_another_thread = stop.clone();
/// std::thread::spawn(move || for_another_thread.drain()).join().unwrap();
/// assert_eq!(stop.phase(), Phase::Draining);
/// stop.now();
/// assert_eq!(stop.phase(), Phase::Stopped);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stop(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// A [`Phase`] as a number; never goes down.
    phase: AtomicU8,
    /// Signalled when `phase` is at least `Draining`.
    draining: EventFd,
    /// Signalled when `phase` is `Stopped`.
    stopped: EventFd,
}

/// How far the end of a server has come. Later phases compare as greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Nobody asked for an end.
    Serving,
    /// What has arrived is answered; nothing new is begun.
    Draining,
    /// Everything that is still open is cut.
    Stopped,
}

impl Stop {
    /// Of a server that goes on serving, until [`drain`](Stop::drain) or [`now`](Stop::now).
    ///
    /// # Errors
    /// When two descriptors cannot be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            phase: AtomicU8::new(Phase::Serving as u8),
            draining: EventFd::new()?,
            stopped: EventFd::new()?,
        })))
    }

    /// Asks the server to answer what has arrived, to close and to end. Does not wait for it.
    /// Asking again, or after [`now`](Stop::now), changes nothing.
    pub fn drain(&self) {
        self.reach(Phase::Draining);
        self.0.draining.signal();
    }

    /// Asks the server to cut every connection and to end. Does not wait for it.
    pub fn now(&self) {
        self.reach(Phase::Stopped);
        self.0.draining.signal();
        self.0.stopped.signal();
    }

    /// What was asked for so far. One atomic load: cheap enough for every message.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            SERVING => Phase::Serving,
            DRAINING => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// Becomes readable, and stays so, when a phase later than `seen` was asked for: who is woken
    /// looks at [`phase`](Stop::phase) and waits for the next one. After [`Phase::Stopped`] there
    /// is none, and its descriptor is readable already.
    pub(crate) fn next_phase_fd(&self, seen: Phase) -> BorrowedFd<'_> {
        match seen {
            Phase::Serving => self.0.draining.as_fd(),
            Phase::Draining | Phase::Stopped => self.0.stopped.as_fd(),
        }
    }

    /// Before the signal, so that who is woken by it finds the phase.
    fn reach(&self, phase: Phase) {
        self.0.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }
}

const SERVING: u8 = Phase::Serving as u8;
const DRAINING: u8 = Phase::Draining as u8;

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::sys::{self, PollFd};

    fn is_readable(fd: BorrowedFd<'_>, within: Duration) -> bool {
        let mut fds = [PollFd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        sys::poll(&mut fds, Some(within)).unwrap() == 1
    }

    /// What each of four threads finds that wait for the phase after `seen` while `ask` is called.
    fn phases_found_by_waiting(stop: &Stop, seen: Phase, ask: impl FnOnce(&Stop)) -> Vec<Phase> {
        thread::scope(|scope| {
            let waiters = [(); 4].map(|()| {
                scope.spawn(|| {
                    assert!(is_readable(stop.next_phase_fd(seen), Duration::from_secs(10)));
                    stop.phase()
                })
            });
            // That they sleep in poll(2) already cannot be observed; most of them will by then,
            // and the claim holds for the others too.
            thread::sleep(Duration::from_millis(20));
            ask(stop);
            waiters.map(|waiter| waiter.join().unwrap()).into()
        })
    }

    #[test]
    fn every_waiter_is_woken_in_each_phase() {
        let stop = Stop::new().unwrap();
        let found = phases_found_by_waiting(&stop, Phase::Serving, Stop::drain);
        assert_eq!(found, [Phase::Draining; 4]);
        let found = phases_found_by_waiting(&stop, Phase::Draining, Stop::now);
        assert_eq!(found, [Phase::Stopped; 4]);
    }

    #[test]
    fn stopping_at_once_wakes_who_waits_for_the_drain() {
        let stop = Stop::new().unwrap();
        let found = phases_found_by_waiting(&stop, Phase::Serving, Stop::now);
        assert_eq!(found, [Phase::Stopped; 4]);
        assert!(is_readable(stop.next_phase_fd(Phase::Draining), Duration::ZERO));
    }

    #[test]
    fn a_reached_phase_stays_readable_and_the_next_is_not_yet() {
        let stop = Stop::new().unwrap();
        assert!(!is_readable(stop.next_phase_fd(Phase::Serving), Duration::ZERO));
        stop.drain();
        for _ in 0..3 {
            assert!(is_readable(stop.next_phase_fd(Phase::Serving), Duration::ZERO));
            assert!(!is_readable(stop.next_phase_fd(Phase::Draining), Duration::ZERO));
        }
        stop.now();
        for phase in [Phase::Serving, Phase::Draining, Phase::Stopped] {
            assert!(is_readable(stop.next_phase_fd(phase), Duration::ZERO));
        }
    }

    #[test]
    fn a_phase_never_goes_back_however_often_it_is_asked_for() {
        let stop = Stop::new().unwrap();
        assert_eq!(stop.phase(), Phase::Serving);
        for _ in 0..3 {
            stop.drain();
            assert_eq!(stop.phase(), Phase::Draining);
        }
        stop.now();
        for _ in 0..3 {
            stop.drain();
            assert_eq!(stop.phase(), Phase::Stopped);
        }
    }

    #[test]
    fn clones_ask_the_same_server() {
        let stop = Stop::new().unwrap();
        stop.clone().drain();
        assert_eq!(stop.phase(), Phase::Draining);
        assert!(is_readable(stop.next_phase_fd(Phase::Serving), Duration::ZERO));
    }

    #[test]
    fn a_stop_can_go_to_another_thread() {
        fn is_send_and_sync<T: Clone + Send + Sync>() {}
        is_send_and_sync::<Stop>();
    }
}
