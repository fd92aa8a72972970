//! What a run found, and what it says while it goes on.

use std::error::Error;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use super::machine::{Machine, OwnUsage};
use super::plan::PlanError;
use super::tally::{Counts, Errors, Times, WrongReply};
use super::warning::Warning;
use crate::net::address::Address;

/// What a run found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// When the measurement began.
    pub started: SystemTime,
    /// How long it took until every connection was there, or had failed.
    pub connecting: Duration,
    /// How long requests were measured: from the end of the warm-up to when the last one was due,
    /// or to the last reply when a number of requests was asked for.
    pub measured: Duration,
    /// The times of the replies.
    pub times: Times,
    /// How long connections took to be made, in nanoseconds.
    pub connect: Histogram<u64>,
    /// How late the generator was with requests that a free connection waited for, in nanoseconds;
    /// empty in the closed loop.
    pub lag: Histogram<u64>,
    /// The numbers.
    pub counts: Counts,
    /// What went wrong.
    pub errors: Errors,
    /// The first reply that was wrong.
    pub first_wrong: Option<WrongReply>,
    /// The most connections that asked at a time, without those that idle or read slowly.
    pub connections: usize,
    /// Those that idle or read slowly, likewise.
    pub others: usize,
    /// The limit of open files, and what the plan needs of it.
    pub limit: u64,
    /// Open files that the plan needs.
    pub needed: u64,
    /// What the generator used while it measured.
    pub own: OwnUsage,
    /// Where.
    pub machine: Machine,
    /// What makes these figures worth less than they look.
    pub warnings: Vec<Warning>,
    /// Whether the observer ended it before its time.
    pub interrupted: bool,
    /// Whether no connection was open any more when it ended. After a timeout without any, a run
    /// ends before its time.
    pub server_gone: bool,
}

impl Outcome {
    /// Replies a second, of those that came while it was measured. What a server that does not keep
    /// up answers afterwards is no part of it.
    pub fn rate(&self) -> f64 {
        per_second(self.counts.in_time, self.measured)
    }

    /// The share of errors among everything that was tried, from 0 to 1.
    pub fn error_share(&self) -> f64 {
        let errors = self.errors.total();
        let all = errors + self.counts.answered;
        if all == 0 { 0.0 } else { errors as f64 / all as f64 }
    }

    /// Requests that were due and have no time, since nobody waited for their reply any longer, or
    /// no connection became free for them.
    pub fn unanswered(&self) -> u64 {
        let errors = &self.errors;
        errors.unsent + errors.lost + errors.timed_out + errors.missing
    }

    /// The generator's processor time for a reply, in nanoseconds.
    pub fn own_ns_per_reply(&self) -> f64 {
        let used = self.own.user_ns + self.own.system_ns;
        used as f64 / self.counts.in_time.max(1) as f64
    }
}

pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// In which part of it a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connections are made; nothing is sent.
    Connecting,
    /// Requests are sent and not measured.
    WarmingUp,
    /// Requests are measured.
    Measuring,
    /// Nothing more is due: the last replies are waited for.
    Finishing,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Interim {
    /// The part that it is in.
    pub phase: Phase,
    /// Connections that are open and ask.
    pub connections: usize,
    /// The numbers so far.
    pub counts: Counts,
    /// The errors so far.
    pub errors: Errors,
    /// How much longer it will measure; none when only the number of requests is known.
    pub left: Option<Duration>,
}

/// One second of a run, or what there was of its last one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Second<'a> {
    /// When it began, counted from when the measurement did.
    pub begin: Duration,
    /// How long it was.
    pub length: Duration,
    /// The replies that came in it.
    pub times: &'a Times,
}

/// Who watches a run, in its own thread: whatever it does costs the generator time.
///
/// `()` watches nothing.
pub trait Observer {
    /// A part of the run begins.
    fn phase(&mut self, _: Phase) {}

    /// Called about ten times a second. To break is to end the run now: what is under way is
    /// abandoned, and the outcome is that of the part that was.
    fn interim(&mut self, _: &Interim) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A second of the measurement is over.
    fn second(&mut self, _: &Second<'_>) {}
}

impl Observer for () {}

/// Why a run could not take place. Shown in one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The plan makes no sense.
    Plan(PlanError),
    /// The target's name could not be looked up.
    Resolve {
        /// The target.
        target: Address,
        /// Why.
        error: io::Error,
    },
    /// No connection could be made.
    Unreachable {
        /// The target.
        target: Address,
        /// What the last attempt said.
        error: io::Error,
    },
    /// The generator could not be set up, or could not go on.
    Generator {
        /// What failed.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(error) => error.fmt(f),
            Self::Resolve { target, error } => write!(f, "cannot look up {target}: {error}"),
            Self::Unreachable { target, error } => {
                write!(f, "cannot connect to {target}: {error}")
            }
            Self::Generator { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Plan(error) => Some(error),
            Self::Resolve { error, .. }
            | Self::Unreachable { error, .. }
            | Self::Generator { error, .. } => Some(error),
        }
    }
}

impl From<PlanError> for LoadError {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}
