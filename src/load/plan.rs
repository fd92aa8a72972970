//! What a run shall do: whom to ask, what, how fast, how long, and how the answers are judged.
//!
//! The parts do not know each other. A [`Pacing`] says when a request is due, an [`Until`] when
//! there are enough of them, a [`Framing`] where one ends, a [`Verify`] what its reply must be;
//! every combination is a plan, and none has code of its own.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::net::address::Address;

/// What a run shall do.
///
/// ```
/// use std::time::Duration;
/// use evmux::load::{Pacing, Plan, Until, Verify};
///
/// let mut plan = Plan::new("127.0.0.1:9000".parse()?);
/// plan.connections = 100;
/// plan.pacing = Pacing::Open { rate: 5_000.0 };
/// plan.until = Until::Duration(Duration::from_secs(30));
/// plan.verify = Verify::Upper;
/// plan.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// Whom to ask.
    pub target: Address,
    /// Connections that ask, or UDP sockets. 50.
    pub connections: usize,
    /// New connections a second, at most; `None`: as fast as the server takes them.
    pub connect_rate: Option<f64>,
    /// When a request is due. [`Pacing::Closed`].
    pub pacing: Pacing,
    /// How long requests are measured. 10 seconds.
    pub until: Until,
    /// How long requests are sent before any is measured. 1 second.
    pub warmup: Duration,
    /// Requests that a connection may have under way at a time. 1.
    pub pipeline: usize,
    /// Bytes of a request's payload, without the line feed or the header of its frame. 64.
    pub size: usize,
    /// Where a request ends. [`Framing::Raw`].
    pub framing: Framing,
    /// What a reply must be. [`Verify::Echo`].
    pub verify: Verify,
    /// A connection is closed and made again after so many replies.
    pub per_connection: Option<u64>,
    /// Further connections that never say anything.
    pub idle: usize,
    /// Further connections that ask all the time and read [`SLOW_READ`] bytes ten times a second.
    pub slow_readers: usize,
    /// How long a connection may take to be made, a reply to come, and a request that is due to
    /// wait for a connection that is free. 5 seconds.
    pub timeout: Duration,
    /// The addresses that connections come from, in turn; empty: the system chooses.
    pub sources: Vec<IpAddr>,
    /// What the bytes of the requests are drawn from: the same seed, the same bytes. 1.
    pub seed: u64,
}

/// Bytes that a slow reader takes at a time, ten times a second: about a modem of 1995.
pub const SLOW_READ: usize = 1024;

/// The largest payload. Some requests are kept in memory, so that no two that follow each other are
/// the same.
pub const MOST_BYTES: usize = 16 << 20;
/// The largest payload of a datagram over IPv4.
pub const MOST_DATAGRAM: usize = 65_507;
/// The most requests under way on one connection.
pub const MOST_PIPELINE: usize = 65_536;
/// The most connections of each kind: what one process can have open, whatever its limit says.
pub const MOST_CONNECTIONS: usize = 1 << 24;
/// The highest rate: a request a microsecond is more than one thread can send.
pub const MOST_RATE: f64 = 1e6;
/// The lowest rate: one in about a quarter of an hour.
pub const LEAST_RATE: f64 = 0.001;
/// The longest of the times: a week.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

impl Plan {
    /// 50 connections in closed loop for 10 seconds after a second of warm-up, 64 bytes each, of
    /// which every byte must come back.
    pub fn new(target: Address) -> Self {
        Self {
            target,
            connections: 50,
            connect_rate: None,
            pacing: Pacing::Closed,
            until: Until::Duration(Duration::from_secs(10)),
            warmup: Duration::from_secs(1),
            pipeline: 1,
            size: 64,
            framing: Framing::Raw,
            verify: Verify::Echo,
            per_connection: None,
            idle: 0,
            slow_readers: 0,
            timeout: Duration::from_secs(5),
            sources: Vec::new(),
            seed: 1,
        }
    }

    /// Whether this can be done at all.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        let wrong = |what, why: String| Err(PlanError { what, why });
        let between = |what, count: usize, most: usize| match count {
            0 => wrong(what, "must be at least 1".into()),
            count if count > most => wrong(what, format!("must be at most {most}")),
            _ => Ok(()),
        };
        between("connections", self.connections, MOST_CONNECTIONS)?;
        between("pipeline", self.pipeline, MOST_PIPELINE)?;
        between("size", self.size, MOST_BYTES)?;
        between("idle", self.idle + 1, MOST_CONNECTIONS)?;
        between("slow readers", self.slow_readers + 1, MOST_CONNECTIONS)?;
        for (what, rate) in [("connect rate", self.connect_rate), ("rate", self.pacing.rate())] {
            if rate.is_some_and(|rate| !(LEAST_RATE..=MOST_RATE).contains(&rate)) {
                return wrong(what, format!("must be from {LEAST_RATE} to {MOST_RATE} a second"));
            }
        }
        let duration = match self.until {
            Until::Requests(0) => return wrong("requests", "must be at least 1".into()),
            Until::Requests(_) => None,
            Until::Duration(duration) => Some(duration),
        };
        for (what, time, may_be_zero) in [
            ("duration", duration.unwrap_or(LONGEST), false),
            ("warmup", self.warmup, true),
            ("timeout", self.timeout, false),
        ] {
            if time > LONGEST {
                return wrong(what, "must be at most a week".into());
            }
            if time.is_zero() && !may_be_zero {
                return wrong(what, "must be more than zero".into());
            }
        }
        if self.per_connection == Some(0) {
            return wrong("requests of a connection", "must be at least 1".into());
        }
        match self.target {
            Address::Unix(_) if !self.sources.is_empty() => {
                wrong("source address", "is not for a Unix socket, which has none".into())
            }
            Address::Udp { .. } if self.framed_size() > MOST_DATAGRAM => {
                wrong("size", format!("must fit a datagram: at most {MOST_DATAGRAM} in all"))
            }
            Address::Udp { .. } if self.idle > 0 || self.slow_readers > 0 => wrong(
                "idle and slow readers",
                "are connections, and UDP has none: choose another target".into(),
            ),
            _ => Ok(()),
        }
    }

    /// Bytes of a request with its frame.
    pub fn framed_size(&self) -> usize {
        self.size + self.framing.overhead()
    }

    /// Whether requests are datagrams.
    pub(super) fn is_datagrams(&self) -> bool {
        matches!(self.target, Address::Udp { .. })
    }
}

/// When a request is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// As soon as a reply has come. The server sets the pace, and while it stalls nobody asks: its
    /// stall is one slow request for each connection, however long it was.
    Closed,
    /// So many a second over all connections, evenly, whether the server keeps up or not. A
    /// request that is due is sent by the connection that has been free for longest; while there
    /// is none it waits, and its latency counts from when it was due.
    Open {
        /// Requests a second.
        rate: f64,
    },
}

impl Pacing {
    /// Requests a second, of the open loop.
    pub fn rate(self) -> Option<f64> {
        match self {
            Self::Closed => None,
            Self::Open { rate } => Some(rate),
        }
    }
}

/// When there are enough requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Those due in this time are measured.
    Duration(Duration),
    /// So many are measured.
    Requests(u64),
}

/// Where a request ends, and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes as were sent.
    Raw,
    /// At a line feed.
    Lines,
    /// After the length that its first four bytes say, the most significant one first.
    Blocks,
}

impl Framing {
    /// All, in the order of their names in the help.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Lines, Self::Blocks];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Lines => "lines",
            Self::Blocks => "blocks",
        }
    }

    /// Bytes of a frame that are not its payload.
    fn overhead(self) -> usize {
        match self {
            Self::Raw => 0,
            Self::Lines => 1,
            Self::Blocks => crate::codec::blocks::HEADER,
        }
    }
}

/// What a reply must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The bytes of its request.
    Echo,
    /// The payload of its request in upper case. It is ASCII then, so that servers which
    /// upper-case byte by byte can be measured beside those which know more letters.
    Upper,
    /// Anything: replies are only counted. Raw ones by the bytes that were sent, datagrams each.
    Nothing,
}

impl Verify {
    /// All, in the order of their names in the help.
    pub const ALL: [Self; 3] = [Self::Echo, Self::Upper, Self::Nothing];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Upper => "upper",
            Self::Nothing => "none",
        }
    }
}

/// A [`Plan`] that cannot be carried out: which part of it, and why. Shown in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanError {
    /// The part.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.why)
    }
}

impl Error for PlanError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(target: &str, change: impl FnOnce(&mut Plan)) -> String {
        let mut plan = Plan::new(target.parse().unwrap());
        plan.check().unwrap();
        change(&mut plan);
        plan.check().unwrap_err().to_string()
    }

    #[test]
    fn every_limit_of_a_plan_is_named_when_it_is_crossed() {
        let tcp = |change: fn(&mut Plan)| refused("127.0.0.1:9", change);
        assert_eq!(tcp(|plan| plan.connections = 0), "connections must be at least 1");
        assert!(tcp(|plan| plan.connections = MOST_CONNECTIONS + 1).contains("at most 16777216"));
        assert!(tcp(|plan| plan.idle = MOST_CONNECTIONS).contains("idle"));
        assert!(tcp(|plan| plan.slow_readers = MOST_CONNECTIONS).contains("slow readers"));
        assert!(tcp(|plan| plan.pipeline = MOST_PIPELINE + 1).contains("at most 65536"));
        assert!(tcp(|plan| plan.size = MOST_BYTES + 1).contains("at most 16777216"));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, MOST_RATE * 2.0] {
            let mut plan = Plan::new("127.0.0.1:9".parse().unwrap());
            plan.pacing = Pacing::Open { rate };
            assert!(plan.check().is_err(), "{rate}");
            plan.pacing = Pacing::Closed;
            plan.connect_rate = Some(rate);
            assert!(plan.check().is_err(), "{rate}");
        }
        assert!(tcp(|plan| plan.until = Until::Requests(0)).contains("requests"));
        assert!(tcp(|plan| plan.until = Until::Duration(Duration::ZERO)).contains("duration"));
        assert!(tcp(|plan| plan.warmup = LONGEST * 2).contains("a week"));
        assert!(tcp(|plan| plan.timeout = Duration::ZERO).contains("timeout"));
        assert!(tcp(|plan| plan.per_connection = Some(0)).contains("at least 1"));
    }

    #[test]
    fn what_a_transport_cannot_do_is_refused() {
        let sources = |plan: &mut Plan| plan.sources = vec![[127, 0, 0, 2].into()];
        assert!(refused("unix:/tmp/x", sources).contains("Unix socket"));
        let udp = "udp:127.0.0.1:9";
        assert!(refused(udp, |plan| plan.size = MOST_DATAGRAM + 1).contains("datagram"));
        assert!(refused(udp, |plan| plan.idle = 1).contains("UDP has none"));
        assert!(refused(udp, |plan| plan.slow_readers = 1).contains("UDP has none"));
    }
}
