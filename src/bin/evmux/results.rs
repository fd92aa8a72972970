//! The results of a comparison: what was measured, raw, with everything needed to judge it.
//!
//! Each round keeps its own figures and its whole histogram. A median is made when it is shown, and
//! percentiles of several rounds or generators are those of their added histograms, never averages.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evmux::load::{Errors, Histogram, Machine, OwnUsage, Warning};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// What a comparison found so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Which form this is: [`Results::SCHEMA`].
    pub(crate) schema: String,
    pub(crate) version: String,
    /// The command that repeats it.
    pub(crate) command: String,
    /// When it began, in UTC, as RFC 3339 has it.
    pub(crate) began: String,
    pub(crate) machine: Machine,
    /// Processors of the servers, and of the generator; the same when there is one only.
    pub(crate) server_cpus: Vec<usize>,
    pub(crate) generator_cpus: Vec<usize>,
    pub(crate) service: String,
    /// Bytes of a request.
    pub(crate) size: usize,
    pub(crate) duration_ms: u64,
    pub(crate) rounds: usize,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) cells: Vec<Cell>,
    /// Whether all that was asked for is here.
    pub(crate) complete: bool,
}

/// One of those that are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) name: String,
    /// How it is started.
    pub(crate) command: String,
    /// Whether it gave the bytes that it must; why not.
    pub(crate) conforms: Result<(), String>,
}

/// One thing that is measured of one subject, in several rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) scenario: Scenario,
    pub(crate) subject: String,
    /// What is varied: connections, slow clients, or the share of the reachable rate in percent.
    pub(crate) at: u64,
    /// Connections that ask.
    pub(crate) connections: usize,
    /// Why it cannot be measured.
    pub(crate) cannot: Option<String>,
    pub(crate) rounds: Vec<Round>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    Throughput,
    Latency,
    SlowClients,
    IdleMemory,
    Connect,
    BusyHandler,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] = [
        Self::Throughput,
        Self::Latency,
        Self::SlowClients,
        Self::IdleMemory,
        Self::Connect,
        Self::BusyHandler,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::SlowClients => "slow-clients",
            Self::IdleMemory => "idle-memory",
            Self::Connect => "connect",
            Self::BusyHandler => "busy-handler",
        }
    }
}

/// The figures of one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Replies a second.
    pub(crate) rate: f64,
    /// Requests a second that were due, in the open loop.
    pub(crate) asked_rate: Option<f64>,
    pub(crate) answered: u64,
    pub(crate) errors: Errors,
    pub(crate) measured_ns: u64,
    /// The histogram of what a user feels, in nanoseconds: latency in the open loop, service time
    /// in the closed. As HdrHistogram's V2 with deflate, in base64.
    pub(crate) histogram: String,
    pub(crate) server: ServerFigures,
    pub(crate) generator: OwnUsage,
    pub(crate) warnings: Vec<Warning>,
}

/// What the server used. What is not known is none.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ServerFigures {
    /// Processor time for a message.
    pub(crate) cpu_ns_per_message: Option<f64>,
    /// Its share of one processor; more than 1 when it used several.
    pub(crate) cpu_share: Option<f64>,
    /// Times that a thread waited, or was taken from its processor, for each message.
    pub(crate) switches_per_message: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    /// Resident memory that it had before anybody connected.
    pub(crate) resident_before_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
    /// System calls that receive, send or wait, for each message, as the server counts them.
    pub(crate) calls_per_message: Option<f64>,
}

impl Results {
    pub(crate) const SCHEMA: &'static str = "evmux-compare-1";

    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        /// What is the same in every form of results.
        #[derive(Deserialize)]
        struct Form {
            schema: String,
        }
        let text = fs::read(path)?;
        let Form { schema } = serde_json::from_slice(&text)?;
        if schema != Self::SCHEMA {
            let what = format!(
                "it is in the form {schema}, and not in that of `evmux compare`, {}; what `evmux \
                 load` measured is merged from its logs (--hlog)",
                Self::SCHEMA
            );
            return Err(io::Error::other(what));
        }
        Ok(serde_json::from_slice(&text)?)
    }

    /// Replaces the file by one that is whole: who reads it meanwhile sees the old or the new one.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&fresh, path)
    }

    pub(crate) fn write_csv(&self, path: &Path) -> io::Result<()> {
        let mut table = csv::Writer::from_path(path)?;
        table.write_record([
            "scenario",
            "subject",
            "at",
            "connections",
            "round",
            "cannot",
            "rate",
            "errors",
            "p50_ns",
            "p99_ns",
            "p99.9_ns",
            "max_ns",
            "cpu_ns_per_message",
            "switches_per_message",
            "calls_per_message",
            "resident_bytes",
            "threads",
        ])?;
        let show = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
        for cell in &self.cells {
            let head = |round: String| {
                [
                    cell.scenario.name().to_string(),
                    cell.subject.clone(),
                    cell.at.to_string(),
                    cell.connections.to_string(),
                    round,
                    cell.cannot.clone().unwrap_or_default(),
                ]
            };
            if cell.cannot.is_some() {
                let empty = std::iter::repeat_n(String::new(), 11);
                table.write_record(head(String::new()).into_iter().chain(empty))?;
            }
            for (number, round) in cell.rounds.iter().enumerate() {
                let times = round.times();
                let server = round.server;
                let figures = [
                    round.rate.to_string(),
                    round.errors.total().to_string(),
                    times.value_at_quantile(0.5).to_string(),
                    times.value_at_quantile(0.99).to_string(),
                    times.value_at_quantile(0.999).to_string(),
                    times.max().to_string(),
                    show(server.cpu_ns_per_message),
                    show(server.switches_per_message),
                    show(server.calls_per_message),
                    show(server.resident_bytes.map(|bytes| bytes as f64)),
                    show(server.threads.map(|threads| threads as f64)),
                ];
                table.write_record(head((number + 1).to_string()).into_iter().chain(figures))?;
            }
        }
        table.flush()
    }

    /// Adds what another run of the same comparison found. What differs in the settings is said.
    pub(crate) fn add(&mut self, other: Self) -> Result<(), String> {
        if (self.service.as_str(), self.size) != (other.service.as_str(), other.size) {
            return Err(format!(
                "one asked the service {} for {} bytes, the other {} for {}",
                self.service, self.size, other.service, other.size
            ));
        }
        for (what, same) in [
            ("on different machines", self.machine == other.machine),
            ("by different versions", self.version == other.version),
            ("with rounds of different lengths", self.duration_ms == other.duration_ms),
            (
                "on different processors",
                (&self.server_cpus, &self.generator_cpus)
                    == (&other.server_cpus, &other.generator_cpus),
            ),
        ] {
            if !same {
                return Err(format!("they were made {what}"));
            }
        }
        for subject in other.subjects {
            match self.subjects.iter().find(|known| known.name == subject.name) {
                None => self.subjects.push(subject),
                Some(known) if *known == subject => {}
                Some(known) => {
                    return Err(format!("{} is not the same server in both", known.name));
                }
            }
        }
        for cell in other.cells {
            let is_same = |known: &&mut Cell| {
                (known.scenario, &known.subject, known.at, known.connections)
                    == (cell.scenario, &cell.subject, cell.at, cell.connections)
            };
            match self.cells.iter_mut().find(is_same) {
                Some(known) => {
                    known.rounds.extend(cell.rounds);
                    known.cannot = known.cannot.take().or(cell.cannot);
                }
                None => self.cells.push(cell),
            }
        }
        self.complete &= other.complete;
        Ok(())
    }

    /// The cells of a scenario, in the order in which they were measured.
    pub(crate) fn of(&self, scenario: Scenario) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.scenario == scenario)
    }
}

impl Cell {
    /// The median of a figure over the rounds that have it, its least and its largest.
    pub(crate) fn median(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<Spread> {
        let mut values: Vec<f64> = self.rounds.iter().filter_map(figure).collect();
        values.sort_by(f64::total_cmp);
        let (least, largest) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[half],
            _ => (values[half - 1] + values[half]) / 2.0,
        };
        Some(Spread { median, least, largest, rounds: values.len() })
    }

    pub(crate) fn rate(&self) -> Option<Spread> {
        self.median(|round| Some(round.rate))
    }

    /// A percentile of all rounds together, in nanoseconds; none when nothing was answered.
    pub(crate) fn percentile(&self, percentile: f64) -> Option<u64> {
        let times = self.times();
        (!times.is_empty()).then(|| times.value_at_percentile(percentile))
    }

    /// The times of all rounds.
    pub(crate) fn times(&self) -> Histogram<u64> {
        let mut sum = empty();
        for round in &self.rounds {
            // All have the same precision, so no count can be refused.
            let _ = sum.add(round.times());
        }
        sum
    }

    pub(crate) fn errors(&self) -> u64 {
        self.rounds.iter().map(|round| round.errors.total()).sum()
    }
}

/// A figure of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) largest: f64,
    pub(crate) rounds: usize,
}

impl Spread {
    /// Half of the distance between the least and the largest, as a share of the median.
    /// None when there was one round only, or nothing.
    pub(crate) fn relative(&self) -> Option<f64> {
        let half = (self.largest - self.least) / 2.0;
        (self.rounds > 1 && self.median != 0.0).then(|| half / self.median)
    }
}

impl Round {
    /// The histogram; empty when it cannot be read.
    pub(crate) fn times(&self) -> Histogram<u64> {
        let bytes = STANDARD.decode(&self.histogram).unwrap_or_default();
        Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap_or_else(|_| empty())
    }
}

/// `times` as it stands in a file.
pub(crate) fn encode(times: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    match V2DeflateSerializer::new().serialize(times, &mut bytes) {
        Ok(_) => STANDARD.encode(bytes),
        Err(_) => String::new(),
    }
}

fn empty() -> Histogram<u64> {
    // Three digits are always possible; it grows as it must.
    Histogram::new(3).unwrap_or_else(|_| unreachable!("3 digits are a precision of HdrHistogram"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(rates: &[f64]) -> Cell {
        let rounds = rates.iter().map(|rate| {
            let mut times = empty();
            times.record(*rate as u64).unwrap();
            Round {
                rate: *rate,
                asked_rate: None,
                answered: 1,
                errors: Errors::default(),
                measured_ns: 1,
                histogram: encode(&times),
                server: ServerFigures::default(),
                generator: OwnUsage::default(),
                warnings: Vec::new(),
            }
        });
        Cell {
            scenario: Scenario::Throughput,
            subject: "epoll".into(),
            at: 10,
            connections: 10,
            cannot: None,
            rounds: rounds.collect(),
        }
    }

    #[test]
    fn a_median_is_of_the_rounds_and_a_percentile_of_all_their_times() {
        let cell = cell(&[300.0, 100.0, 200.0]);
        let rate = cell.rate().unwrap();
        assert_eq!((rate.median, rate.least, rate.largest), (200.0, 100.0, 300.0));
        assert_eq!(rate.relative(), Some(0.5));
        assert_eq!(self::cell(&[5.0]).rate().unwrap().relative(), None);
        assert_eq!(cell.times().len(), 3);
        assert_eq!(cell.percentile(100.0), Some(300));
        assert_eq!(self::cell(&[1.0, 2.0]).rate().unwrap().median, 1.5);
        assert!(self::cell(&[]).rate().is_none() && self::cell(&[]).percentile(50.0).is_none());
    }
}
