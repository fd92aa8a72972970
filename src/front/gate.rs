//! Who is let in: the same piece of code for every model.
//!
//! A result of accept(2) has more meanings than yes and no. A client may be one too many; it may
//! have gone again; there may be no descriptor for it, and then no event will say when there is
//! one. The gate names these cases, counts those who are refused, and keeps the log quiet.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::counters::Counters;
use crate::front::quiet::Quiet;
use crate::moment::{Moment, Patience};

/// Lets in at most so many connections at a time. Shared by the threads of a server.
pub(crate) struct Gate {
    limit: usize,
    open: AtomicUsize,
    complaints: Quiet,
}

/// What to do after an accept.
#[derive(Debug)]
pub(crate) enum Verdict<T> {
    /// Serve it; [`Gate::leave`] when it is over.
    Serve(T),
    /// One too many: refuse it.
    TooMany(T),
    /// This client is gone, or was never allowed; the next one may be there.
    Next,
    /// Nobody waits.
    Nobody,
    /// There is no descriptor or no memory for a connection: try again when one has closed, or
    /// after a while. No event will come for those who wait.
    Exhausted,
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, open: AtomicUsize::new(0), complaints: Quiet::default() }
    }

    /// Names what an accept came to, and counts it.
    pub(crate) fn judge<T>(
        &self,
        accepted: io::Result<T>,
        counters: &Counters,
        now: Moment,
    ) -> Verdict<T> {
        let error = match accepted {
            Ok(client) => {
                counters.accepted.increment();
                if self.open.fetch_add(1, Ordering::Relaxed) < self.limit {
                    return Verdict::Serve(client);
                }
                self.leave();
                counters.refused_limit.increment();
                self.complain(now, || {
                    format!("refusing clients: {} connections are open, the limit", self.limit)
                });
                return Verdict::TooMany(client);
            }
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Verdict::Nobody,
            Some(libc::EINTR) => {
                counters.interrupts.increment();
                Verdict::Next
            }
            // accept(2): errors already pending on the new socket are passed on as its own.
            Some(
                libc::ECONNABORTED
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::ETIMEDOUT,
            ) => {
                counters.accept_errors.increment();
                Verdict::Next
            }
            // EMFILE, ENFILE, ENOBUFS, ENOMEM; what is unknown must not be asked for in a loop.
            _ => {
                counters.accept_errors.increment();
                self.complain(now, || {
                    format!("cannot accept: {error}; clients wait until a connection closes")
                });
                Verdict::Exhausted
            }
        }
    }

    /// A connection that nobody asked to be let in: the server made it itself.
    pub(crate) fn enter(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that was let in is over.
    pub(crate) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Says something to the operator, at most once a second whatever the clients do.
    pub(crate) fn complain(&self, now: Moment, text: impl FnOnce() -> String) {
        self.complaints.warn(now, text);
    }
}

/// When to try again what failed for want of descriptors or memory: 50 ms, twice as long each time, at most 1 s.
#[derive(Debug)]
pub(crate) struct Backoff {
    wait: Duration,
    until: Moment,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        Self { wait: Self::FIRST, until: Moment::NEVER }
    }

    /// It failed once more: not before this.
    pub(crate) fn fail(&mut self, now: Moment) -> Moment {
        self.until = now + Patience::new(self.wait);
        self.wait = (self.wait * 2).min(Self::LONGEST);
        self.until
    }

    /// It works again.
    pub(crate) fn succeed(&mut self) {
        *self = Self::new();
    }

    /// A descriptor has become free.
    pub(crate) fn retry_now(&mut self) {
        self.until = Moment::START;
    }

    /// When to try again; `NEVER` when nothing is wrong.
    pub(crate) fn until(&self) -> Moment {
        self.until
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.until.is_never()
    }
}
