//! A run as JSON: everything that is needed to judge it, to draw it, and to do it again. The form
//! is docs/schema/load.schema.json.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::machine::{Machine, OwnUsage};
use super::outcome::Outcome;
use super::plan::{Plan, Until};
use super::tally::{Counts, Errors, WrongReply};
use super::warning::{PERCENTILES, Warning};

/// A run: the plan, the machine, what was found. Times are whole nanoseconds, and say so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// Which form this is: [`Record::SCHEMA`].
    pub schema: String,
    /// The version of evmux.
    pub version: String,
    /// What the user wants to remember.
    pub labels: BTreeMap<String, String>,
    /// When the measurement began: milliseconds since 1970 in UTC.
    pub started_unix_ms: u64,
    /// Where.
    pub machine: Machine,
    /// What was asked for.
    pub plan: PlanRecord,
    /// Whether it was ended before its time.
    pub interrupted: bool,
    /// Whether no connection was open any more when it ended.
    pub server_gone: bool,
    /// How long connecting took.
    pub connecting_ns: u64,
    /// How long requests were measured.
    pub measured_ns: u64,
    /// The most connections that asked at a time.
    pub connections: usize,
    /// Replies a second.
    pub rate: f64,
    /// Errors as a share of all that was tried, from 0 to 1.
    pub error_share: f64,
    /// The numbers.
    pub counts: Counts,
    /// What went wrong.
    pub errors: Errors,
    /// The first reply that was wrong.
    pub first_wrong: Option<WrongReply>,
    /// From a request that was sent to its reply.
    pub service: Distribution,
    /// In the open loop, from when a request was due to its reply.
    pub latency: Option<Distribution>,
    /// How long connections took to be made.
    pub connect: Distribution,
    /// In the open loop, how late the generator was.
    pub lag: Option<Distribution>,
    /// What the generator used while it measured.
    pub own: OwnUsage,
    /// The generator's processor time for a reply.
    pub own_ns_per_reply: f64,
    /// What makes these figures worth less than they look.
    pub warnings: Vec<WarningRecord>,
    /// What was asked of the figures. [`Record::new`] leaves it empty.
    pub thresholds: Vec<ThresholdRecord>,
}

impl Record {
    /// The form of this version; a later one that can be read as this has the same name.
    pub const SCHEMA: &'static str = "evmux-load-1";

    /// What `outcome` is of `plan`.
    pub fn new(plan: &Plan, outcome: &Outcome, labels: BTreeMap<String, String>) -> Self {
        let started = outcome.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            schema: Self::SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            labels,
            started_unix_ms: started.as_millis() as u64,
            machine: outcome.machine.clone(),
            plan: PlanRecord::of(plan),
            interrupted: outcome.interrupted,
            server_gone: outcome.server_gone,
            connecting_ns: nanos(outcome.connecting),
            measured_ns: nanos(outcome.measured),
            connections: outcome.connections,
            rate: outcome.rate(),
            error_share: outcome.error_share(),
            counts: outcome.counts,
            errors: outcome.errors,
            first_wrong: outcome.first_wrong,
            service: Distribution::of(&outcome.times.service),
            latency: outcome.times.latency.as_ref().map(Distribution::of),
            connect: Distribution::of(&outcome.connect),
            lag: plan.pacing.rate().map(|_| Distribution::of(&outcome.lag)),
            own: outcome.own,
            own_ns_per_reply: outcome.own_ns_per_reply(),
            warnings: outcome.warnings.iter().map(WarningRecord::of).collect(),
            thresholds: Vec::new(),
        }
    }
}

/// A [`Plan`] in plain words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlanRecord {
    /// As `tcp:127.0.0.1:9000`.
    pub target: String,
    /// Connections that ask.
    pub connections: usize,
    /// Connections a second, at most.
    pub connect_rate: Option<f64>,
    /// `closed` or `open`.
    pub pacing: String,
    /// Requests a second, in the open loop.
    pub rate: Option<f64>,
    /// How long to measure, if that was given.
    pub duration_ns: Option<u64>,
    /// How many requests to measure, if that was given.
    pub requests: Option<u64>,
    /// How long to ask before.
    pub warmup_ns: u64,
    /// Requests under way on a connection.
    pub pipeline: usize,
    /// Bytes of a payload.
    pub size: usize,
    /// `raw`, `lines` or `blocks`.
    pub framing: String,
    /// `echo`, `upper` or `none`.
    pub verify: String,
    /// Replies after which a connection is made anew.
    pub per_connection: Option<u64>,
    /// Further connections that idle.
    pub idle: usize,
    /// Further connections that read slowly.
    pub slow_readers: usize,
    /// How long a reply may take.
    pub timeout_ns: u64,
    /// Where connections come from.
    pub sources: Vec<String>,
    /// What the bytes were drawn from.
    pub seed: u64,
}

impl PlanRecord {
    fn of(plan: &Plan) -> Self {
        let (duration_ns, requests) = match plan.until {
            Until::Duration(duration) => (Some(nanos(duration)), None),
            Until::Requests(requests) => (None, Some(requests)),
        };
        Self {
            target: plan.target.to_string(),
            connections: plan.connections,
            connect_rate: plan.connect_rate,
            pacing: if plan.pacing.rate().is_some() { "open" } else { "closed" }.into(),
            rate: plan.pacing.rate(),
            duration_ns,
            requests,
            warmup_ns: nanos(plan.warmup),
            pipeline: plan.pipeline,
            size: plan.size,
            framing: plan.framing.name().into(),
            verify: plan.verify.name().into(),
            per_connection: plan.per_connection,
            idle: plan.idle,
            slow_readers: plan.slow_readers,
            timeout_ns: nanos(plan.timeout),
            sources: plan.sources.iter().map(ToString::to_string).collect(),
            seed: plan.seed,
        }
    }
}

/// A warning, with its reason and its hint as people read them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WarningRecord {
    /// Its kind and numbers.
    #[serde(flatten)]
    pub warning: Warning,
    /// Why, in one line.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

impl WarningRecord {
    fn of(warning: &Warning) -> Self {
        let (reason, hint) = (warning.to_string(), warning.hint().into());
        Self { warning: warning.clone(), reason, hint }
    }
}

/// What was asked of the figures, and whether they are so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ThresholdRecord {
    /// As it was written: `p99<20ms`.
    pub text: String,
    /// Whether it held.
    pub held: bool,
}

impl ThresholdRecord {
    /// One that held, or not.
    pub fn new(text: String, held: bool) -> Self {
        Self { text, held }
    }
}

/// How times are spread, in nanoseconds, each to 0.1 %.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Distribution {
    /// How many there are. With none of them the other figures are 0.
    pub count: u64,
    /// The shortest.
    pub min_ns: u64,
    /// Their mean.
    pub mean_ns: f64,
    /// Their standard deviation.
    pub stdev_ns: f64,
    /// The longest.
    pub max_ns: u64,
    /// Those of [`PERCENTILES`], by name: `p50`, `p99.9`.
    pub percentiles_ns: BTreeMap<String, u64>,
    /// The curve for a chart: pairs of a percentile and its nanoseconds, denser towards the end.
    pub curve: Vec<(f64, u64)>,
}

impl Distribution {
    /// What `histogram` holds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let percentile = |percentile: f64| {
            (format!("p{percentile}"), histogram.value_at_quantile(percentile / 100.0))
        };
        let curve = histogram
            .iter_quantiles(CURVE)
            .map(|step| (step.quantile_iterated_to() * 100.0, step.value_iterated_to()));
        Self {
            count: histogram.len(),
            min_ns: histogram.min(),
            mean_ns: histogram.mean(),
            stdev_ns: histogram.stdev(),
            max_ns: histogram.max(),
            percentiles_ns: PERCENTILES.map(percentile).into(),
            curve: if histogram.is_empty() { Vec::new() } else { curve.collect() },
        }
    }
}

/// Points for each halving of what is left to 100 %.
const CURVE: u32 = 4;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
