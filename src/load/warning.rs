//! Everything that makes a figure worth less than it looks, and what to do about it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::plan::{Pacing, Plan};

/// What makes the figures of a run untrustworthy. Shown in one line: the reason.
/// [`hint`](Warning::hint) says what to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// The generator, or the processors that it may use, had nothing left.
    GeneratorSaturated {
        /// The generator's share of one processor, from 0 to 1.
        own: f64,
        /// How busy the processors were that it may use, from 0 to 1, if the kernel says it.
        processors: Option<f64>,
    },
    /// The generator itself was late with requests that a free connection waited for.
    ScheduleLag {
        /// The 99th percentile of how late, in nanoseconds.
        p99_ns: u64,
    },
    /// Fewer requests were sent than were due.
    RateNotReached {
        /// Requests a second that were asked for.
        asked: f64,
        /// Requests a second that were answered.
        reached: f64,
    },
    /// Fewer connections than were asked for.
    FewerConnections {
        /// Those asked for.
        asked: usize,
        /// The most that were open at a time.
        reached: usize,
    },
    /// The limit of open files does not allow for the connections that were asked for.
    DescriptorLimit {
        /// The limit.
        limit: u64,
        /// What would have been needed.
        needed: u64,
    },
    /// The system had no port left for a connection.
    NoPort {
        /// How often.
        times: u64,
    },
    /// Datagrams were lost, or came too late.
    DatagramLoss {
        /// Requests without a reply in time.
        lost: u64,
        /// Requests sent.
        sent: u64,
    },
    /// A percentile stands on less than ten samples.
    TooFewSamples {
        /// The percentile, as 99.9.
        percentile: f64,
        /// All samples.
        samples: u64,
        /// Those needed.
        needed: u64,
    },
    /// The server refused connections.
    Refused {
        /// How often.
        times: u64,
    },
    /// The generator was built without optimisation.
    NotOptimized,
}

impl Warning {
    /// Its name in results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GeneratorSaturated { .. } => "generator_saturated",
            Self::ScheduleLag { .. } => "schedule_lag",
            Self::RateNotReached { .. } => "rate_not_reached",
            Self::FewerConnections { .. } => "fewer_connections",
            Self::DescriptorLimit { .. } => "descriptor_limit",
            Self::NoPort { .. } => "no_port",
            Self::DatagramLoss { .. } => "datagram_loss",
            Self::TooFewSamples { .. } => "too_few_samples",
            Self::Refused { .. } => "refused",
            Self::NotOptimized => "not_optimized",
        }
    }

    /// What to do about it, or how to read the figures nevertheless.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::GeneratorSaturated { .. } => {
                "the rate is the generator's, not the server's: compare the server's processor time \
                 for a message instead, or give the generator a processor of its own"
            }
            Self::ScheduleLag { .. } => {
                "latencies include it: give the generator a processor of its own, or lower the rate"
            }
            Self::RateNotReached { .. } => {
                "the server does not keep up: these latencies are those of a queue that grows; \
                 lower the rate"
            }
            Self::FewerConnections { .. } => {
                "the figures are those of fewer: see the errors, and the server's limits"
            }
            Self::DescriptorLimit { .. } => "raise the hard limit (ulimit -Hn), or ask for fewer",
            Self::NoPort { .. } => {
                "name more source addresses, as --bind 127.0.0.2 --bind 127.0.0.3: each has ports \
                 of its own"
            }
            Self::DatagramLoss { .. } => {
                "a lost datagram is no latency: the percentiles are those of the others; lower the \
                 rate, or give the sockets larger buffers"
            }
            Self::TooFewSamples { .. } => "let it run for longer, or read a lower percentile",
            Self::Refused { .. } => "see the server's limit of connections, and its log",
            Self::NotOptimized => "build it with --release",
        }
    }

    /// All that are due.
    pub(super) fn about(plan: &Plan, outcome: &Outcome) -> Vec<Self> {
        let mut warnings = Vec::new();
        let own = outcome.own;
        if !outcome.machine.optimized {
            warnings.push(Self::NotOptimized);
        }
        if own.share > SATURATED || own.processors.is_some_and(|busy| busy > SATURATED) {
            let (own, processors) = (own.share, own.processors);
            warnings.push(Self::GeneratorSaturated { own, processors });
        }
        let lag = outcome.lag.value_at_quantile(0.99);
        if lag > LATE.as_nanos() as u64 {
            warnings.push(Self::ScheduleLag { p99_ns: lag });
        }
        // What is under way at the end is no backlog.
        let counts = outcome.counts;
        let under_way = (plan.connections * plan.pipeline) as u64;
        let backlog = counts.planned.saturating_sub(counts.in_time + under_way);
        if let Pacing::Open { rate } = plan.pacing
            && (outcome.errors.unsent > 0 || backlog > counts.planned / 100)
        {
            warnings.push(Self::RateNotReached { asked: rate, reached: outcome.rate() });
        }
        if outcome.limit < outcome.needed {
            let (limit, needed) = (outcome.limit, outcome.needed);
            warnings.push(Self::DescriptorLimit { limit, needed });
        }
        if outcome.connections < plan.connections {
            let (asked, reached) = (plan.connections, outcome.connections);
            warnings.push(Self::FewerConnections { asked, reached });
        }
        let errors = outcome.errors;
        if errors.no_port > 0 {
            warnings.push(Self::NoPort { times: errors.no_port });
        }
        if errors.lost > 0 {
            let sent = outcome.counts.sent;
            warnings.push(Self::DatagramLoss { lost: errors.lost, sent });
        }
        if errors.refused > 0 {
            warnings.push(Self::Refused { times: errors.refused });
        }
        warnings.extend(too_few(outcome.times.felt().len()));
        warnings
    }
}

/// A processor that does 90 % is late for some of it.
const SATURATED: f64 = 0.9;
/// A request that leaves a millisecond late is felt in its latency.
const LATE: Duration = Duration::from_millis(1);

/// The percentiles that are shown.
pub const PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99];

/// Says of the lowest percentile that has too few samples that it does.
fn too_few(samples: u64) -> Option<Warning> {
    PERCENTILES
        .into_iter()
        .map(|percentile| (percentile, samples_needed(percentile)))
        .find(|(_, needed)| samples < *needed)
        .map(|(percentile, needed)| Warning::TooFewSamples { percentile, samples, needed })
}

/// Samples that a percentile needs: ten must lie above it.
///
/// ```
/// assert_eq!(evmux::load::samples_needed(99.9), 10_000);
/// ```
pub fn samples_needed(percentile: f64) -> u64 {
    const ABOVE: f64 = 10.0;
    let above = (100.0 - percentile) / 100.0;
    // 99.9 is not a number of this kind; what misses a whole one by so little is meant to be one.
    if above <= 0.0 { u64::MAX } else { (ABOVE / above - 1e-6).ceil() as u64 }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GeneratorSaturated { own, processors } => {
                write!(f, "the generator used {:.0} % of a processor", own * 100.0)?;
                match processors {
                    Some(busy) => {
                        write!(f, ", and those that it may use were {:.0} % busy", busy * 100.0)
                    }
                    None => Ok(()),
                }
            }
            Self::ScheduleLag { p99_ns } => {
                let late = Duration::from_nanos(*p99_ns);
                write!(f, "one request in a hundred left {late:.1?} late or more")
            }
            Self::RateNotReached { asked, reached } => {
                write!(f, "{reached:.0} requests a second were answered of {asked:.0} asked for")
            }
            Self::FewerConnections { asked, reached } => {
                write!(f, "{reached} connections were open of {asked} asked for")
            }
            Self::DescriptorLimit { limit, needed } => {
                write!(f, "{needed} open files are needed, and the limit is {limit}")
            }
            Self::NoPort { times } => {
                write!(f, "{times} times the system had no port left for a connection")
            }
            Self::DatagramLoss { lost, sent } => {
                write!(f, "{lost} of {sent} datagrams had no reply in time")
            }
            Self::TooFewSamples { percentile, samples, needed } => {
                write!(f, "p{percentile} and above need {needed} samples, and there are {samples}")
            }
            Self::Refused { times } => write!(f, "{times} connections were refused"),
            Self::NotOptimized => f.write_str("the generator was built without optimisation"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_ten_samples_above_it() {
        assert_eq!(samples_needed(50.0), 20);
        assert_eq!(samples_needed(99.0), 1000);
        assert_eq!(samples_needed(99.99), 100_000);
        assert_eq!(samples_needed(100.0), u64::MAX);
        assert_eq!(too_few(100_000), None);
        let warning = too_few(999).unwrap();
        assert_eq!(warning.to_string(), "p99 and above need 1000 samples, and there are 999");
    }

    #[test]
    fn the_name_in_results_is_the_name() {
        let warnings = [
            Warning::GeneratorSaturated { own: 1.0, processors: None },
            Warning::ScheduleLag { p99_ns: 2 },
            Warning::RateNotReached { asked: 2.0, reached: 1.0 },
            Warning::FewerConnections { asked: 2, reached: 1 },
            Warning::DescriptorLimit { limit: 1, needed: 2 },
            Warning::NoPort { times: 1 },
            Warning::DatagramLoss { lost: 1, sent: 2 },
            Warning::TooFewSamples { percentile: 99.9, samples: 1, needed: 10_000 },
            Warning::Refused { times: 1 },
            Warning::NotOptimized,
        ];
        for warning in warnings {
            assert_eq!(serde_json::to_value(&warning).unwrap()["kind"], warning.name());
            assert!(!warning.to_string().contains('\n') && !warning.hint().is_empty());
        }
    }
}
