//! HdrHistogram logs, version 2: what each second of a run was like, for other tools to read, and
//! to be added to those of other generators.
//!
//! A log has a line for each second with the tag `service`, and in the open loop one with the tag
//! `latency`; values are nanoseconds. Percentiles of several generators cannot be averaged; their
//! histograms can be added, and no count is lost.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use evmux::load::{Observer, Phase, Plan, Second, Until, logs};
//! # use evmux::{Server, services};
//!
//! struct Keep(logs::LogWriter<Vec<u8>>);
//!
//! impl Observer for Keep {
//!     fn second(&mut self, second: &Second<'_>) {
//!         self.0.write(second).unwrap();
//!     }
//! }
//!
//! # let server = Server::builder(services::echo).listen("127.0.0.1:0").build()?.start()?;
//! # let address = server.local_addresses()[0].socket_addr().unwrap();
//! let mut plan = Plan::new(format!("tcp:{address}").parse()?);
//! plan.until = Until::Requests(1000);
//! plan.warmup = Duration::ZERO;
//! let mut keep = Keep(logs::LogWriter::begin(Vec::new(), SystemTime::now())?);
//! evmux::load::run(&plan, &mut keep)?;
//! let log = keep.0.into_inner();
//!
//! // As from two generators.
//! let sums = logs::sums([log.as_slice(), log.as_slice()])?;
//! assert_eq!(sums["service"].len(), 2000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogHistogram, IntervalLogIterator, IntervalLogWriterBuilder, IntervalLogWriterError,
    LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use super::outcome::Second;

/// Writes a log, second by second.
pub struct LogWriter<W> {
    output: W,
    serializer: V2DeflateSerializer,
}

impl<W: Write> LogWriter<W> {
    /// Writes the head of a log: its times count from `started`.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn begin(mut output: W, started: SystemTime) -> io::Result<Self> {
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment(concat!("evmux ", env!("CARGO_PKG_VERSION"), ", values in nanoseconds"))
            .with_start_time(started)
            .with_base_time(started)
            .begin_log_with(&mut output, &mut serializer)?;
        Ok(Self { output, serializer })
    }

    /// Writes the lines of a second, and flushes them.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&mut self, second: &Second<'_>) -> io::Result<()> {
        let all =
            [("service", Some(&second.times.service)), ("latency", second.times.latency.as_ref())];
        let mut log = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.output, &mut self.serializer)?;
        for (tag, histogram) in all {
            let Some(histogram) = histogram else { continue };
            log.write_histogram(histogram, second.begin, second.length, Tag::new(tag)).map_err(
                |error| match error {
                    IntervalLogWriterError::IoError(error) => error,
                    IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
                },
            )?;
        }
        self.output.flush()
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.output
    }
}

/// All histograms of these logs added, by their tags; those without one under the empty name.
///
/// # Errors
/// The first line that is none of a log, or whose histogram cannot be read.
pub fn sums<'a>(
    logs: impl IntoIterator<Item = &'a [u8]>,
) -> Result<BTreeMap<String, Histogram<u64>>, LogError> {
    let mut sums = BTreeMap::new();
    for (index, log) in logs.into_iter().enumerate() {
        let wrong = |offset: usize, why: String| {
            let before = &log[..offset.min(log.len())];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            LogError { log: index, line, why }
        };
        for entry in IntervalLogIterator::new(log) {
            match entry {
                Ok(LogEntry::Interval(interval)) => add(&mut sums, &interval).map_err(|why| {
                    let place = interval.encoded_histogram().as_ptr() as usize;
                    wrong(place - log.as_ptr() as usize, why)
                })?,
                Ok(LogEntry::StartTime(_) | LogEntry::BaseTime(_)) => {}
                Err(hdrhistogram::serialization::interval_log::LogIteratorError::ParseError {
                    offset,
                }) => return Err(wrong(offset, "is not a line of a histogram log".into())),
            }
        }
    }
    Ok(sums)
}

fn add(
    sums: &mut BTreeMap<String, Histogram<u64>>,
    interval: &IntervalLogHistogram<'_>,
) -> Result<(), String> {
    let bytes = STANDARD
        .decode(interval.encoded_histogram())
        .map_err(|error| format!("its histogram is not base64: {error}"))?;
    let histogram: Histogram<u64> = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| format!("its histogram cannot be read: {error}"))?;
    let tag = interval.tag().map_or("", |tag| tag.as_str());
    let sum = sums.entry(tag.to_string()).or_insert_with(|| {
        let mut empty = Histogram::new_from(&histogram);
        empty.auto(true);
        empty
    });
    sum.add(&histogram).map_err(|error| format!("its histogram cannot be added: {error}"))
}

/// A log that cannot be read. Shown in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogError {
    /// Which of them, from 0.
    pub log: usize,
    /// Which line of it, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl Error for LogError {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::tally::{Times, histogram};

    fn log(values: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut log = LogWriter::begin(Vec::new(), SystemTime::UNIX_EPOCH).unwrap();
        let mut times =
            Times { service: histogram().unwrap(), latency: Some(histogram().unwrap()) };
        for (second, value) in values.into_iter().enumerate() {
            times.service.reset();
            times.service.record(value).unwrap();
            times.latency.as_mut().unwrap().record(value).unwrap();
            let begin = Duration::from_secs(second as u64);
            log.write(&Second { begin, length: Duration::from_secs(1), times: &times }).unwrap();
        }
        log.into_inner()
    }

    #[test]
    fn merging_keeps_every_count() {
        let (first, second) = (log([1, 1_000_000]), log([5_000_000_000, 7, 7]));
        let sums = sums([first.as_slice(), second.as_slice()]).unwrap();
        assert_eq!(sums["service"].len(), 5);
        // Each line of `latency` holds those before it, too.
        assert_eq!(sums["latency"].len(), 3 + 6);
        for value in [1, 1_000_000, 5_000_000_000] {
            assert_eq!(sums["service"].count_at(value), 1, "{value}");
        }
        assert_eq!(sums["service"].count_at(7), 2);
    }

    #[test]
    fn a_log_says_when_it_began_and_in_which_version() {
        let text = String::from_utf8(log([5])).unwrap();
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"), "{text}");
        assert!(text.contains("#[BaseTime: 0.000 "), "{text}");
        assert!(text.contains("\nTag=service,0.000,1.000,5.000,HISTFAAA"), "{text}");
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let mut bytes = log([5]);
        bytes.extend_from_slice(b"and more");
        let error = sums([bytes.as_slice()]).unwrap_err();
        assert_eq!(error.line, 7, "{error}");
        let text = String::from_utf8(log([5])).unwrap().replace("HISTF", "HIST!");
        let error = sums([text.as_bytes()]).unwrap_err();
        assert_eq!((error.line, error.why.contains("base64")), (5, true), "{error}");
        let text = String::from_utf8(log([5])).unwrap().replace("HISTFAAA", "AAAAAAAA");
        assert!(sums([text.as_bytes()]).is_err());
    }
}
