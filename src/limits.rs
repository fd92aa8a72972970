//! What one connection may use, and the ways in which it ends.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::buffer::Memory;
use crate::handler::Violation;
use crate::moment::Patience;

/// What each connection may use, of memory and of time. Lent with every call and not stored per
/// connection.
///
/// ```
/// use evmux::Limits;
/// use std::time::Duration;
///
/// let limits = Limits::default()
///     .max_frame(64 * 1024)
///     .idle_timeout(Some(Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug)]
pub struct Limits {
    pub(crate) max_frame: usize,
    /// What a handler call may answer before `is_full`.
    pub(crate) send_buffer: usize,
    /// Waiting bytes at which the peer is no longer read from ...
    pub(crate) high: usize,
    /// ... and at which it is again.
    pub(crate) low: usize,
    pub(crate) overflow: Overflow,
    pub(crate) idle: Patience,
    pub(crate) write: Patience,
    pub(crate) frame: Patience,
    pub(crate) flush: Patience,
    pub(crate) linger_silence: Patience,
    pub(crate) linger: Patience,
    /// Of which a connection may use so much.
    pub(crate) memory: Memory,
}

impl Default for Limits {
    fn default() -> Self {
        let mebibyte = 1 << 20;
        Self {
            max_frame: mebibyte,
            send_buffer: mebibyte,
            high: mebibyte,
            low: mebibyte / 2,
            overflow: Overflow::Close,
            idle: Patience::FOREVER,
            write: Patience::new(Duration::from_secs(60)),
            frame: Patience::new(Duration::from_secs(60)),
            flush: Patience::new(Duration::from_secs(600)),
            linger_silence: Patience::new(Duration::from_secs(2)),
            linger: Patience::new(Duration::from_secs(30)),
            memory: Memory::default(),
        }
    }
}

impl Limits {
    /// What a frame may have beside its payload: length headers, line ends, the head of a request.
    pub const HEAD: usize = 64 * 1024;

    /// Longest payload of a frame that is received, in bytes; 1 MiB by default, at least 1.
    /// A handler may hold back at most this, [`Limits::HEAD`] and one read.
    #[must_use]
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes.max(1);
        self
    }

    /// Bytes that may wait for a slow reader before it is no longer read from; reading goes on
    /// when half of them are left. 1 MiB by default, at least 1. One handler call may overshoot it
    /// by what it answers.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        let bytes = bytes.max(1);
        (self.send_buffer, self.high, self.low) = (bytes, bytes, bytes / 2);
        self
    }

    /// What happens to a message that the program sends ([`Handle::send`](crate::Handle::send)) to a
    /// peer for which [`send_buffer`](Limits::send_buffer) waits already. Close, unless said.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How long no byte may move, in either direction, before the connection is closed, or cut if
    /// bytes wait that the peer does not take. `None`, the default: for ever.
    #[must_use]
    pub fn idle_timeout(mut self, after: Option<Duration>) -> Self {
        self.idle = after.into();
        self
    }

    /// How long bytes may wait without the peer taking any, before the connection is cut; up to
    /// twice as long when the kernel has some of them. 60 s.
    #[must_use]
    pub fn write_timeout(mut self, after: Option<Duration>) -> Self {
        self.write = after.into();
        self
    }

    /// How long a frame may take from its first byte until it is whole. 60 s. The clock stands
    /// still while the engine does not read, because the peer does not.
    #[must_use]
    pub fn frame_timeout(mut self, after: Option<Duration>) -> Self {
        self.frame = after.into();
        self
    }

    /// How long the last answers of a connection that is being closed may take in all, even if the
    /// peer goes on taking some. 10 min.
    #[must_use]
    pub fn flush_timeout(mut self, after: Option<Duration>) -> Self {
        self.flush = after.into();
        self
    }

    /// After our FIN: how long to wait for the peer's, without a byte from it (2 s), and in all
    /// (30 s).
    #[must_use]
    pub fn linger(mut self, silence: Duration, in_all: Duration) -> Self {
        self.linger_silence = Patience::new(silence);
        self.linger = Patience::new(in_all);
        self
    }

    /// As the blocking models need them: while anything waits, nothing is read.
    pub(crate) fn without_reading_ahead(mut self) -> Self {
        (self.high, self.low) = (1, 0);
        self
    }

    /// The most that a connection may hold back unconsumed.
    pub(crate) fn received(&self) -> usize {
        self.max_frame.saturating_add(Self::HEAD)
    }
}

/// What becomes of a message to a peer that reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The connection is cut, as too slow: a reader never misses a message that a later one follows.
    Close,
    /// The message is dropped, and counted.
    Drop,
}

/// Why a connection is over. Not an error: something to count, to label, to log in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer finished, and everything was answered.
    Finished,
    /// The handler closed it.
    Served,
    /// The peer broke the protocol.
    Refused(Violation),
    /// No byte moved for the idle timeout.
    Idle,
    /// A begun frame was not whole at the frame timeout.
    Incomplete,
    /// The server was drained.
    Drained,
    /// The program closed it, by [`Handle::close`](crate::Handle::close).
    Dismissed,
    /// The peer did not take what waited for it.
    TooSlow,
    /// The drain timeout passed with something still open.
    DrainTimeout,
    /// The peer reset it, or was found to be gone.
    Reset,
    /// Another I/O error.
    Failed(io::ErrorKind),
    /// An outgoing connection could not be made: what the last address said.
    Unreachable(io::ErrorKind),
    /// The handler cut it.
    Aborted,
    /// The handler panicked.
    Panicked,
    /// The server stopped at once.
    Stopped,
    /// Memory for bytes that must wait could not be had.
    OutOfMemory,
}

impl CloseReason {
    /// One label for each kind, for counters: `finished`, `too_slow`, ...
    pub const LABELS: [&'static str; 16] = [
        "finished",
        "served",
        "refused",
        "idle",
        "incomplete",
        "drained",
        "too_slow",
        "drain_timeout",
        "reset",
        "failed",
        "aborted",
        "panicked",
        "stopped",
        "out_of_memory",
        "dismissed",
        "unreachable",
    ];

    /// Which of [`CloseReason::LABELS`] this is.
    pub fn index(&self) -> usize {
        match self {
            Self::Finished => 0,
            Self::Served => 1,
            Self::Refused(_) => 2,
            Self::Idle => 3,
            Self::Incomplete => 4,
            Self::Drained => 5,
            Self::TooSlow => 6,
            Self::DrainTimeout => 7,
            Self::Reset => 8,
            Self::Failed(_) => 9,
            Self::Aborted => 10,
            Self::Panicked => 11,
            Self::Stopped => 12,
            Self::OutOfMemory => 13,
            Self::Dismissed => 14,
            Self::Unreachable(_) => 15,
        }
    }

    /// Whether the socket is reset instead of being closed in order, so that the kernel does not
    /// keep what the peer will not take.
    pub fn is_cut(&self) -> bool {
        matches!(
            self,
            Self::TooSlow
                | Self::DrainTimeout
                | Self::Failed(_)
                | Self::Aborted
                | Self::Panicked
                | Self::Stopped
                | Self::OutOfMemory
        )
    }

    /// The label that counters use.
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the peer finished"),
            Self::Served => f.write_str("the handler closed it"),
            Self::Refused(violation) => write!(f, "refused: {violation}"),
            Self::Idle => f.write_str("idle for too long"),
            Self::Incomplete => f.write_str("a frame was not whole in time"),
            Self::Drained => f.write_str("the server is going away"),
            Self::Dismissed => f.write_str("the program closed it"),
            Self::TooSlow => f.write_str("the peer reads too slowly"),
            Self::DrainTimeout => f.write_str("still open at the drain timeout"),
            Self::Reset => f.write_str("reset by the peer"),
            Self::Unreachable(kind) => write!(f, "cannot be reached: {kind}"),
            Self::Failed(kind) => write!(f, "failed: {kind}"),
            Self::Aborted => f.write_str("the handler cut it"),
            Self::Panicked => f.write_str("the handler panicked"),
            Self::Stopped => f.write_str("the server stopped"),
            Self::OutOfMemory => f.write_str("out of memory"),
        }
    }
}
