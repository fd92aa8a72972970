//! What a run counts: times in histograms, everything else in numbers.
//!
//! A reply is recorded in the histogram of the current second only; at its end that is handed to
//! the observer, added to the whole and emptied. So what each second was like is known, the whole
//! is exactly the sum of its seconds, and a reply costs one record.

use std::fmt;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::replies::Mistake;
use crate::moment::Moment;

/// What happened, in numbers. Without the warm-up, unless it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Requests that were due. In the closed loop, those sent.
    pub planned: u64,
    /// Requests that were sent, the last byte of each at least queued.
    pub sent: u64,
    /// Requests whose reply came whole and right.
    pub answered: u64,
    /// Of these, those that came before the end of the measurement. The others had been due
    /// before it, and were waited for.
    pub in_time: u64,
    /// Requests that nobody waited for any more when the run was interrupted.
    pub abandoned: u64,
    /// Bytes sent on all connections, the warm-up and slow readers included.
    pub bytes_sent: u64,
    /// Bytes received on them.
    pub bytes_received: u64,
    /// Connections made, from the beginning.
    pub connects: u64,
    /// Datagrams that came when their request had been given up.
    pub late: u64,
}

/// What went wrong, by kind, from the beginning: what fails in the warm-up is no better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Errors {
    /// Connections that the server refused, or closed before anything was asked on them.
    pub refused: u64,
    /// Connections that could not be made for another reason, or not in time.
    pub unreachable: u64,
    /// Connections for which the system had no port left.
    pub no_port: u64,
    /// Replies with a byte that is not what it must be, or with one too many.
    pub wrong: u64,
    /// Requests whose connection ended before their reply was whole.
    pub missing: u64,
    /// Requests on streams whose reply was not whole in time.
    pub timed_out: u64,
    /// Datagrams whose reply did not come in time.
    pub lost: u64,
    /// Requests that were due, and for which no connection became free in time.
    pub unsent: u64,
}

impl Errors {
    /// All kinds, by name.
    pub fn by_name(&self) -> [(&'static str, u64); 8] {
        [
            ("refused", self.refused),
            ("unreachable", self.unreachable),
            ("no_port", self.no_port),
            ("wrong", self.wrong),
            ("missing", self.missing),
            ("timed_out", self.timed_out),
            ("lost", self.lost),
            ("unsent", self.unsent),
        ]
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.by_name().iter().map(|(_, count)| count).sum()
    }

    /// Whether a byte was wrong, or did not come although a stream promises every one.
    pub fn are_of_bytes(&self) -> bool {
        self.wrong + self.missing + self.timed_out > 0
    }
}

/// The first reply that was wrong. Shown in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WrongReply {
    /// The connection, from 1.
    pub connection: usize,
    /// Its reply, from 1, counted from when it was last made.
    pub reply: u64,
    /// What is wrong with it.
    pub mistake: Mistake,
}

impl fmt::Display for WrongReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, reply, mistake } = self;
        write!(f, "reply {reply} on connection {connection}: {mistake}")
    }
}

/// Times in nanoseconds, each to 0.1 %, up to an hour. All have the same bounds, so that they can
/// be added without loss.
pub(super) fn histogram() -> io::Result<Histogram<u64>> {
    const HOUR: u64 = 3_600_000_000_000;
    Histogram::new_with_bounds(1, HOUR, 3).map_err(io::Error::other)
}

/// The times of replies.
#[derive(Clone, Debug)]
pub struct Times {
    /// From when the first byte of a request was sent to when the last byte of its reply was read,
    /// in nanoseconds.
    pub service: Histogram<u64>,
    /// In the open loop, the same from when the request was due.
    pub latency: Option<Histogram<u64>>,
}

impl Times {
    fn new(open: bool) -> io::Result<Self> {
        let latency = if open { Some(histogram()?) } else { None };
        Ok(Self { service: histogram()?, latency })
    }

    /// What a user has waited: from when it was due if that is known, else from when it was sent.
    pub fn felt(&self) -> &Histogram<u64> {
        self.latency.as_ref().unwrap_or(&self.service)
    }

    fn take(&mut self, other: &mut Self) -> io::Result<()> {
        self.service.add(&other.service).map_err(io::Error::other)?;
        other.service.reset();
        if let (Some(latency), Some(other)) = (&mut self.latency, &mut other.latency) {
            latency.add(&*other).map_err(io::Error::other)?;
            other.reset();
        }
        Ok(())
    }
}

/// All that is counted while a run goes on.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    pub(super) errors: Errors,
    pub(super) first_wrong: Option<WrongReply>,
    /// Of the whole seconds.
    pub(super) times: Times,
    /// Of the second that is not over.
    pub(super) second: Times,
    /// How long it took to make a connection.
    pub(super) connect: Histogram<u64>,
    /// How late the generator itself was with what was due.
    pub(super) lag: Histogram<u64>,
}

impl Tally {
    pub(super) fn new(open: bool) -> io::Result<Self> {
        Ok(Self {
            counts: Counts::default(),
            errors: Errors::default(),
            first_wrong: None,
            times: Times::new(open)?,
            second: Times::new(open)?,
            connect: histogram()?,
            lag: histogram()?,
        })
    }

    /// A reply is whole.
    #[inline]
    pub(super) fn answered(&mut self, planned: Moment, sent: Moment, now: Moment, end: Moment) {
        self.counts.answered += 1;
        self.counts.in_time += u64::from(now <= end);
        self.second.service.saturating_record(nanos(now, sent));
        if let Some(latency) = &mut self.second.latency {
            latency.saturating_record(nanos(now, planned));
        }
    }

    pub(super) fn connected(&mut self, since: Moment, now: Moment) {
        self.counts.connects += 1;
        self.connect.saturating_record(nanos(now, since));
    }

    pub(super) fn sent_late(&mut self, by: Duration) {
        self.lag.saturating_record(by.as_nanos() as u64);
    }

    /// The second is over.
    pub(super) fn close_second(&mut self) -> io::Result<()> {
        self.times.take(&mut self.second)
    }
}

fn nanos(later: Moment, earlier: Moment) -> u64 {
    later.as_nanos().saturating_sub(earlier.as_nanos())
}
