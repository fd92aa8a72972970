//! What can go wrong in a simulated world.
//!
//! Each world has only some of the faults, drawn from its seed. A world that has them all at once
//! hides bugs: an event for nothing wakes a loop that would have slept for ever, and so does a
//! deadline.

use std::fmt;
use std::str::FromStr;

use super::Draw;

/// One kind of thing that can go wrong. Each is something that a real kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A receive returns less than there is; more "arrives" right behind it.
    ShortReads,
    /// A send takes a part or nothing, though there seemed to be room; the window opens later.
    ShortWrites,
    /// Calls are interrupted by signals; a wait returns without an event.
    Interrupts,
    /// Connections break: reset, timed out, unreachable, no buffers.
    Breaks,
    /// Urgent data: a receive stops in front of it, and no event tells of what is behind.
    Urgent,
    /// There is no descriptor or no memory for a connection, for a while.
    Exhaustion,
    /// A client in the backlog is gone when it is accepted.
    AcceptErrors,
    /// A stream cannot be registered.
    FailedRegistration,
    /// Events of live connections for nothing.
    SpuriousEvents,
    /// Events of connections that are gone, some when their slot has a new one.
    StaleEvents,
    /// Events come later than their cause.
    LateEvents,
    /// Events come in any order, few at a time, one in two pieces.
    Disorder,
    /// The clients do something between any two calls, and not only while the loop waits.
    Races,
    /// A wait sleeps longer than it was asked to.
    Jumps,
    /// A wait returns a little before its deadline.
    EarlyReturns,
    /// Storage for bytes that must wait is refused.
    OutOfMemory,
    /// A handler panics, in any of its calls, or when it is made.
    Panics,
    /// Where there are messages, handlers send some, too: to other connections, and to their own.
    Meddling,
    /// The machine sleeps for minutes or hours, and no timer ran meanwhile.
    Leaps,
    /// Where the server calls clients: addresses that refuse, at once or later, or are silent.
    Unreachable,
    /// Where there are datagrams: some come truncated, some cannot be received or sent.
    DatagramErrors,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::ShortReads,
        Self::ShortWrites,
        Self::Interrupts,
        Self::Breaks,
        Self::Urgent,
        Self::Exhaustion,
        Self::AcceptErrors,
        Self::FailedRegistration,
        Self::SpuriousEvents,
        Self::StaleEvents,
        Self::LateEvents,
        Self::Disorder,
        Self::Races,
        Self::Jumps,
        Self::EarlyReturns,
        Self::OutOfMemory,
        Self::Panics,
        Self::Meddling,
        Self::Leaps,
        Self::Unreachable,
        Self::DatagramErrors,
    ];

    /// Those that a world has as often as not. The others, which spare nobody, are in one of six, and
    /// half of the worlds have none of them.
    const COMMON: usize = 15;
}

/// The faults that one world has.
///
/// ```
/// use evmux::sim::{Fault, Faults};
///
/// let faults = Faults::none().with(Fault::ShortWrites).with(Fault::Interrupts);
/// assert_eq!(faults.to_string(), "ShortWrites, Interrupts");
/// assert_eq!("Interrupts, ShortWrites".parse(), Ok(faults));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults(u32);

impl Faults {
    /// A world where nothing goes wrong.
    pub fn none() -> Self {
        Self(0)
    }

    /// All of them at once. It is not the hardest of worlds: some faults hide what others show.
    pub fn all() -> Self {
        Fault::ALL.into_iter().fold(Self::none(), Self::with)
    }

    /// Most with the same chance as not; so in half of the worlds nothing is there to rescue a
    /// loop that lost a wake-up.
    pub fn drawn(draw: &mut Draw) -> Self {
        let (common, rare) = Fault::ALL.split_at(Fault::COMMON);
        let common = common.iter().filter(|_| draw.one_in(2)).copied();
        let common = common.fold(Self::none(), Self::with);
        // By a generator aside, so that a new kind of fault leaves the seeds what they are without.
        let mut aside = draw.clone().branch();
        if aside.one_in(2) {
            return common;
        }
        rare.iter().filter(|_| aside.one_in(3)).copied().fold(common, Self::with)
    }

    /// These, and one more.
    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u32)
    }

    /// These without one of them.
    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u32))
    }

    /// Whether a fault is one of these.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }
}

impl FromStr for Faults {
    type Err = String;

    /// As they are displayed; `none` is none, and what is no fault is the error.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "none"));
        names.into_iter().try_fold(Self::none(), |faults, name| {
            let found = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name);
            found.map(|fault| faults.with(fault)).ok_or_else(|| name.to_owned())
        })
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for fault in Fault::ALL.into_iter().filter(|fault| self.has(*fault)) {
            write!(f, "{comma}{fault:?}")?;
            comma = ", ";
        }
        if comma.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}
