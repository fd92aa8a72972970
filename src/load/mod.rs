//! A load generator: asks a server as fast or as often as it is told, compares every byte of the
//! replies, and says how long they took and what makes these figures worth less than they look.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use evmux::load::{self, Plan, Until};
//! use evmux::{Address, Server, services};
//!
//! let server = Server::builder(services::echo).listen("127.0.0.1:0").build()?.start()?;
//! let address = server.local_addresses()[0].socket_addr().unwrap();
//!
//! let mut plan = Plan::new(format!("tcp:{address}").parse()?);
//! plan.connections = 10;
//! plan.warmup = Duration::ZERO;
//! plan.until = Until::Requests(1000);
//! let outcome = load::run(&plan, &mut ())?;
//!
//! assert_eq!(outcome.counts.answered, 1000);
//! assert_eq!(outcome.errors.total(), 0);
//! println!("p99: {} ns", outcome.times.service.value_at_quantile(0.99));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Why so
//!
//! **Two times.** The *service time* of a reply counts from when its request was sent. In the
//! closed loop it is all there is, and it flatters: while the server stalls, nobody asks. In the
//! open loop ([`Pacing::Open`]) requests are due at a rate whatever the server does, and the
//! *latency* counts from when a request was due; what waited because the server stalled has waited.
//!
//! **Every byte.** Requests are drawn from a seed, and no two are alike, so that an answer to
//! another request or of another connection is found out, too.
//!
//! **One thread.** What the caller runs this on is all it uses: the generator's processor time is
//! that of one thread, and it is said when that was the bottleneck.
//!
//! # Limits
//!
//! [`Plan::check`] names them. A million requests a second cannot be timed by one thread; run
//! several processes and add their histograms ([`logs`]).

mod asking;
mod client;
mod connecting;
mod generator;
pub mod logs;
mod machine;
mod outcome;
mod plan;
mod record;
mod replies;
mod schedule;
mod socket;
mod tally;
mod tape;
mod warning;

pub use hdrhistogram::Histogram;

pub use machine::{Machine, OwnUsage};
pub use outcome::{Interim, LoadError, Observer, Outcome, Phase, Second};
pub use plan::{
    Framing, LEAST_RATE, LONGEST, MOST_BYTES, MOST_CONNECTIONS, MOST_DATAGRAM, MOST_PIPELINE,
    MOST_RATE, Pacing, Plan, PlanError, SLOW_READ, Until, Verify,
};
pub use record::{Distribution, PlanRecord, Record, ThresholdRecord, WarningRecord};
pub use replies::Mistake;
pub use tally::{Counts, Errors, Times, WrongReply};
pub use warning::{PERCENTILES, Warning, samples_needed};

/// Carries out `plan` on this thread, until there is enough or `observer` breaks it off.
///
/// It blocks: looking up the target's name may take as long as the system's resolver likes, and
/// the rest as long as the plan says, plus the time to connect and at most one timeout for the
/// last replies. The soft limit of open files is raised to the hard one.
///
/// # Errors
/// When the plan makes no sense, when not one connection could be made, or when the kernel denies
/// the generator itself something. What goes wrong later is part of the outcome.
pub fn run(plan: &Plan, observer: &mut impl Observer) -> Result<Outcome, LoadError> {
    generator::Generator::new(plan)?.run(observer)
}
