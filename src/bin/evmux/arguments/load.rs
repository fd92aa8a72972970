//! `evmux load`: its options, and the plan that they amount to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use evmux::Address;
use evmux::load::{
    Framing, MOST_BYTES, MOST_CONNECTIONS, MOST_PIPELINE, Pacing, Plan, Until, Verify,
};

use super::Usage;
use super::given::Given;
use super::read::{count, duration, size, timeout};
use super::threshold::Threshold;

/// All that `evmux load` was asked for.
pub(crate) struct LoadOptions {
    pub(crate) plan: Plan,
    pub(crate) json: Option<Json>,
    /// Where the histograms of each second go.
    pub(crate) hlog: Option<PathBuf>,
    /// Where the figures go as a line for spreadsheets.
    pub(crate) csv: Option<PathBuf>,
    pub(crate) thresholds: Vec<Threshold>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Where the result goes as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Stdout,
    File(PathBuf),
}

/// Ask a server as fast as it answers, or at a rate, and judge every byte
///
/// Closed loop, without --rate: each connection sends its next request when the reply to the one
/// before has come. Open loop, with --rate: requests are due at that rate, whether the server keeps
/// up or not.
///
/// The service time is that from when a request was sent to its reply. The latency, in the open
/// loop, is that from when it was due: what waited because the server stood still has waited. In
/// the closed loop nobody asks while the server stands still, so that a stall is hardly seen
/// (coordinated omission); to learn what users would feel, use --rate.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Whom to ask: HOST:PORT or tcp:HOST:PORT, udp:HOST:PORT, unix:PATH
    #[arg(value_name = "TARGET")]
    target: String,

    /// Connections that ask
    #[arg(long, env = "EVMUX_CONNECTIONS", value_name = "N", default_value = "50")]
    #[arg(help_heading = HOW_MUCH)]
    connections: Given,

    /// New connections a second, at most [default: as fast as the server takes them]
    #[arg(long, env = "EVMUX_CONNECT_RATE", value_name = "N")]
    #[arg(help_heading = HOW_MUCH)]
    connect_rate: Option<Given>,

    /// How long to measure
    #[arg(long, env = "EVMUX_DURATION", value_name = "DURATION", default_value = "10s")]
    #[arg(help_heading = HOW_MUCH)]
    duration: Given,

    /// How many requests to measure, instead of a duration
    #[arg(long, env = "EVMUX_REQUESTS", value_name = "N")]
    #[arg(help_heading = HOW_MUCH)]
    requests: Option<Given>,

    /// How long to ask before anything is measured
    #[arg(long, env = "EVMUX_WARMUP", value_name = "DURATION", default_value = "1s")]
    #[arg(help_heading = HOW_MUCH)]
    warmup: Given,

    /// Open loop: requests a second over all connections, latency from when each was due [default:
    /// closed loop]
    #[arg(long, env = "EVMUX_RATE", value_name = "R")]
    #[arg(help_heading = HOW_MUCH)]
    rate: Option<Given>,

    /// Requests under way on a connection at a time
    #[arg(long, env = "EVMUX_PIPELINE", value_name = "P", default_value = "1")]
    #[arg(help_heading = HOW_MUCH)]
    pipeline: Given,

    /// Close a connection after N replies, and make another
    #[arg(long, env = "EVMUX_PER_CONNECTION", value_name = "N")]
    #[arg(help_heading = HOW_MUCH)]
    per_connection: Option<Given>,

    /// Further connections that say nothing
    #[arg(long, env = "EVMUX_IDLE", value_name = "N", default_value = "0")]
    #[arg(help_heading = HOW_MUCH)]
    idle: Given,

    /// Further connections that ask all the time and read 10 KiB a second
    #[arg(long, env = "EVMUX_SLOW_READERS", value_name = "N", default_value = "0")]
    #[arg(help_heading = HOW_MUCH)]
    slow_readers: Given,

    /// Bytes of a request, without the line feed or the length that the framing adds
    #[arg(long, env = "EVMUX_SIZE", value_name = "BYTES", default_value = "64")]
    #[arg(help_heading = WHAT)]
    size: Given,

    /// Where a request and its reply end:
    ///   raw     after so many bytes
    ///   lines   at a line feed
    ///   blocks  after the length in their first four bytes
    #[arg(long, env = "EVMUX_FRAMING", value_name = "NAME", default_value = "raw")]
    #[arg(help_heading = WHAT, verbatim_doc_comment)]
    framing: Given,

    /// What each byte of a reply is compared with:
    ///   echo   the request
    ///   upper  the request in upper case
    ///   none   nothing: replies are counted, by the framing
    #[arg(long, env = "EVMUX_VERIFY", value_name = "NAME", default_value = "echo")]
    #[arg(help_heading = WHAT, verbatim_doc_comment)]
    verify: Given,

    /// How long a connection may take to be made, a reply to come, and a request that is due to
    /// find a free connection
    #[arg(long, env = "EVMUX_TIMEOUT", value_name = "DURATION", default_value = "5s")]
    #[arg(help_heading = WHAT)]
    timeout: Given,

    /// An address that connections come from, may be repeated: each has ports of its own, some
    /// 28,000 for one server
    #[arg(long, env = "EVMUX_BIND", value_name = "ADDR")]
    #[arg(help_heading = WHAT)]
    bind: Vec<Given>,

    /// What the bytes of the requests are drawn from: the same seed, the same bytes
    #[arg(long, env = "EVMUX_SEED", value_name = "N", default_value = "1")]
    #[arg(help_heading = WHAT)]
    seed: Given,

    /// Write the result as JSON to FILE; - is stdout, and the summary goes to stderr then
    #[arg(long, env = "EVMUX_JSON", value_name = "FILE")]
    #[arg(help_heading = RESULTS)]
    json: Option<Given>,

    /// Write the histograms of each second to FILE, as an HdrHistogram log, version 2
    #[arg(long, env = "EVMUX_HLOG", value_name = "FILE")]
    #[arg(help_heading = RESULTS)]
    hlog: Option<Given>,

    /// Write the figures to FILE as CSV: a line of names and one of values
    #[arg(long, env = "EVMUX_CSV", value_name = "FILE")]
    #[arg(help_heading = RESULTS)]
    csv: Option<Given>,

    /// What must hold, or the status is 3; may be repeated: p99<20ms, p99.9<=1s, mean<5ms, max<1s,
    /// errors<0.1%, errors<10, rate>10000
    #[arg(long, env = "EVMUX_THRESHOLD", value_name = "EXPR")]
    #[arg(help_heading = RESULTS)]
    threshold: Vec<Given>,

    /// What to remember of this run, in the JSON and the CSV; may be repeated
    #[arg(long, env = "EVMUX_LABEL", value_name = "K=V")]
    #[arg(help_heading = RESULTS)]
    label: Vec<Given>,
}

const HOW_MUCH: &str = "How much";
const WHAT: &str = "What is asked, and how";
const RESULTS: &str = "Results";

const AFTER_HELP: &str = "\
BYTES is written 64, 4KiB or 1MB; DURATION 500ms, 30s or '1m 30s'. An option beats its variable; \
those that may be repeated are separated by spaces in theirs. A variable that is empty is ignored.

In thresholds, p…, mean and max are latencies, in the closed loop service times.

Exit status: 0 done; 1 it could not run, or a byte was wrong or missing; 2 a mistake in the options; \
3 a threshold was crossed; 130 interrupted, after the summary of what there was.";

impl Arguments {
    /// What the arguments amount to, or the first mistake in them.
    pub(super) fn options(self) -> Result<LoadOptions, Usage> {
        let target = self.target.parse::<Address>().map_err(|why| {
            Usage(format!("TARGET '{}': {} (see 'evmux load --help')", self.target, why.problem))
        })?;
        let mut plan = Plan::new(target);
        plan.connections = self.connections.read(|text| count(text, MOST_CONNECTIONS))?;
        plan.connect_rate = read(self.connect_rate, rate)?;
        plan.until = until(&self.duration, self.requests.and_then(Given::set))?;
        plan.warmup = self.warmup.read(duration)?;
        if let Some(rate) = read(self.rate, rate)? {
            plan.pacing = Pacing::Open { rate };
        }
        plan.pipeline = self.pipeline.read(|text| count(text, MOST_PIPELINE))?;
        plan.per_connection =
            read(self.per_connection, |text| count(text, usize::MAX))?.map(|count| count as u64);
        plan.idle = self.idle.read(|text| count_from_zero(text, MOST_CONNECTIONS))?;
        plan.slow_readers =
            self.slow_readers.read(|text| count_from_zero(text, MOST_CONNECTIONS))?;
        plan.size = self.size.read(|text| match size(text)? {
            size if size > MOST_BYTES => Err(format!("must be at most {MOST_BYTES} bytes")),
            size => Ok(size),
        })?;
        plan.framing = self.framing.read(|text| one_of(text, Framing::ALL, Framing::name))?;
        plan.verify = self.verify.read(|text| one_of(text, Verify::ALL, Verify::name))?;
        plan.timeout = self.timeout.read(timeout)?;
        for given in Given::each(self.bind) {
            plan.sources.push(given.read(source)?);
        }
        plan.seed = self.seed.read(|text| {
            text.parse().map_err(|_| "must be a whole number, from 0 to 2^64 - 1".to_string())
        })?;
        let thresholds = Given::each(self.threshold);
        let thresholds = thresholds.iter().map(|given| given.read(Threshold::parse));
        let thresholds = thresholds.collect::<Result<_, _>>()?;
        let labels = Given::each(self.label);
        let labels = labels.iter().map(|given| given.read(label));
        let labels = labels.collect::<Result<_, _>>()?;
        // What no option can know alone.
        plan.check().map_err(|why| Usage(format!("{why} (see 'evmux load --help')")))?;
        let path = |given: Given| PathBuf::from(given.text());
        Ok(LoadOptions {
            plan,
            json: self.json.and_then(Given::set).map(|given| match path(given) {
                path if path.as_os_str() == "-" => Json::Stdout,
                path => Json::File(path),
            }),
            hlog: read(self.hlog, file)?,
            csv: read(self.csv, file)?,
            thresholds,
            labels,
        })
    }
}

/// The flag that was given counts; a variable for one gives way to the flag for the other.
fn until(duration: &Given, requests: Option<Given>) -> Result<Until, Usage> {
    match requests {
        Some(requests) if requests.is_flag() && duration.is_flag() => {
            Err(requests.wrong("is instead of --duration: leave one of them out"))
        }
        Some(requests) if !duration.is_flag() => {
            requests.read(|text| count(text, usize::MAX)).map(|count| Until::Requests(count as u64))
        }
        _ => duration.read(timeout).map(Until::Duration),
    }
}

fn read<T>(
    given: Option<Given>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Usage> {
    given.and_then(Given::set).map(|given| given.read(read)).transpose()
}

/// `-` is standard output elsewhere, and would be a file of that name here.
fn file(text: &str) -> Result<PathBuf, String> {
    match text {
        "-" => Err("standard output has the summary, so a file is needed".into()),
        _ => Ok(text.into()),
    }
}

fn count_from_zero(text: &str, most: usize) -> Result<usize, String> {
    if text == "0" { Ok(0) } else { count(text, most) }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (evmux::load::LEAST_RATE..=evmux::load::MOST_RATE).contains(&rate) => Ok(rate),
        _ => Err("must be a number a second, from 0.001 to 1000000".into()),
    }
}

fn one_of<T: Copy, const N: usize>(
    text: &str,
    all: [T; N],
    name: impl Fn(T) -> &'static str,
) -> Result<T, String> {
    let found = all.into_iter().find(|one| name(*one) == text);
    found.ok_or_else(|| format!("choose one of {}", all.map(&name).join(", ")))
}

/// An IP address, also as the part of an ADDR that a client may choose: with port 0.
fn source(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(address);
    }
    match text.parse::<Address>() {
        Ok(Address::Tcp { host, port } | Address::Udp { host, port }) => match host.parse() {
            Ok(_) if port != 0 => {
                Err("has a port, which one connection only could have: leave it out".into())
            }
            Ok(address) => Ok(address),
            Err(_) => Err("must be an IP address of this machine, as 127.0.0.2".into()),
        },
        _ => Err("must be an IP address of this machine, as 127.0.0.2".into()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("must be a name and a value, as build=42".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_without_a_port() {
        for text in ["127.0.0.2", "127.0.0.2:0", "tcp:127.0.0.2:0", "::1", "[::1]", "[::1]:0"] {
            assert!(source(text).is_ok(), "{text}");
        }
        for text in ["", "localhost", "127.0.0.2:80", "unix:/tmp/x", "127.0.0.300"] {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_label_has_a_name() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        assert!(label("=b").is_err() && label("a").is_err());
    }
}
