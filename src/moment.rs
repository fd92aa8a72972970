//! Time as a value.
//!
//! Nothing at or below the connection asks a clock: whoever drives it says what time it is. A
//! [`Moment`] is a number that a simulation can make up, fits one register, and has a `NEVER` that
//! compares as later than everything, so that "no deadline" needs no `Option`.

use std::fmt;
use std::time::Duration;

/// A point in time: nanoseconds since the clock that made it was started.
///
/// Moments of different clocks must not be compared. The last one, [`Moment::NEVER`], is 584 years
/// after the start.
///
/// ```
/// use evmux::{Moment, Patience};
/// use std::time::Duration;
///
/// let start = Moment::from_nanos(5);
/// let deadline = start + Patience::new(Duration::from_secs(1));
/// assert_eq!(deadline.since(start), Duration::from_secs(1));
/// assert_eq!(start + Patience::FOREVER, Moment::NEVER);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// When the clock was started.
    pub const START: Self = Self(0);
    /// Later than every other moment: the deadline of what may take for ever.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the clock was started.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock was started.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whether this is [`Moment::NEVER`].
    pub const fn is_never(self) -> bool {
        self.0 == u64::MAX
    }

    /// How long after `earlier` this is; zero when it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(crate) const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

impl std::ops::Add<Patience> for Moment {
    type Output = Self;

    /// Saturates at [`Moment::NEVER`].
    fn add(self, patience: Patience) -> Self {
        Self(self.0.saturating_add(patience.0))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            f.write_str("never")
        } else {
            write!(f, "{:?}", Duration::from_nanos(self.0))
        }
    }
}

/// How long something may take, in nanoseconds; [`Patience::FOREVER`] for what has no limit.
///
/// A `Duration` longer than 584 years counts as forever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Patience(u64);

impl Patience {
    /// No limit.
    pub const FOREVER: Self = Self(u64::MAX);

    /// A limit of `duration`.
    pub const fn new(duration: Duration) -> Self {
        let nanos = duration.as_nanos();
        Self(if nanos < u64::MAX as u128 { nanos as u64 } else { u64::MAX })
    }

    /// Whether there is no limit.
    pub const fn is_forever(self) -> bool {
        self.0 == u64::MAX
    }
}

impl From<Duration> for Patience {
    fn from(duration: Duration) -> Self {
        Self::new(duration)
    }
}

impl From<Option<Duration>> for Patience {
    /// `None` is [`Patience::FOREVER`].
    fn from(duration: Option<Duration>) -> Self {
        duration.map_or(Self::FOREVER, Self::new)
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_forever() {
            f.write_str("forever")
        } else {
            write!(f, "{:?}", Duration::from_nanos(self.0))
        }
    }
}
