//! `evmux compare`: its options.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use evmux::Model;
use evmux::load::{MOST_BYTES, MOST_CONNECTIONS};

use super::Usage;
use super::given::Given;
use super::read::{count, size, switch, timeout};
use crate::compare::Service;
use crate::results::Scenario;

/// All that `evmux compare` was asked for.
pub(crate) struct CompareOptions {
    pub(crate) models: Vec<Model>,
    pub(crate) connections: Vec<usize>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) service: Service,
    pub(crate) size: usize,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    /// Names and commands.
    pub(crate) against: Vec<(String, String)>,
    pub(crate) out: PathBuf,
    /// At fewer points.
    pub(crate) quick: bool,
}

/// Measure the same service under each model, and beside other servers
///
/// The servers are child processes, on a processor of their own where there are two. First each
/// must give the right bytes; then rounds measure all of them in turn. The results stand in
/// results.json after each measurement, and at the end in results.csv and report.html.
///
/// throughput: closed loop, by connections. latency: open loop at 25, 50, 75 and 90 % of what each
/// reaches. slow-clients: what a fast client sees beside 0, 1, 4 and 16 slow ones. idle-memory:
/// resident memory for each idle connection. connect: a connection for each request.
/// busy-handler: each line costs half a millisecond, on all processors.
#[derive(Args)]
pub(super) struct Arguments {
    /// Models, separated by commas [default: all]
    #[arg(long, env = "EVMUX_MODELS", value_name = "LIST")]
    models: Option<Given>,

    /// Connections, separated by commas [default: 1,10,100,1000; with --quick 1,100]
    #[arg(long, env = "EVMUX_CONNECTIONS", value_name = "LIST")]
    connections: Option<Given>,

    /// throughput, latency, slow-clients, idle-memory, connect or busy-handler; repeatable
    /// [default: all]
    #[arg(long, env = "EVMUX_SCENARIO", value_name = "NAME")]
    scenario: Vec<Given>,

    /// upper, echo, lines or blocks
    #[arg(long, env = "EVMUX_SERVICE", value_name = "NAME", default_value = "upper")]
    service: Given,

    /// Bytes of a request
    #[arg(long, env = "EVMUX_SIZE", value_name = "SIZE", default_value = "64")]
    size: Given,

    /// How often everything is measured [default: 3; with --quick 1]
    #[arg(long, env = "EVMUX_ROUNDS", value_name = "N")]
    rounds: Option<Given>,

    /// How long each measurement takes [default: 2s; with --quick 300ms]
    #[arg(long, env = "EVMUX_DURATION", value_name = "DURATION")]
    duration: Option<Given>,

    /// A first impression, at fewer points, in less than a minute
    #[arg(long, env = "EVMUX_QUICK", action = clap::ArgAction::SetTrue)]
    quick: Given,

    /// Another server in the same table: a name, '=' and a command in which {port} stands for a
    /// free port; repeatable, but the variable holds one
    #[arg(long, env = "EVMUX_AGAINST", value_name = "NAME=COMMAND")]
    against: Vec<Given>,

    /// The directory of the results
    #[arg(long, env = "EVMUX_OUT", value_name = "DIR", default_value = "evmux-compare")]
    out: Given,
}

impl Arguments {
    pub(super) fn options(self) -> Result<CompareOptions, Usage> {
        let quick = self.quick.read(switch)?;
        let models = match self.models.and_then(Given::set) {
            Some(given) => given.read(|text| list(text, model))?,
            None => Model::ALL.to_vec(),
        };
        let connections = match self.connections.and_then(Given::set) {
            Some(given) => given.read(|text| list(text, |item| count(item, MOST_CONNECTIONS)))?,
            None if quick => vec![1, 100],
            None => vec![1, 10, 100, 1000],
        };
        let mut scenarios = Vec::new();
        for given in Given::each(self.scenario) {
            let scenario = given.read(scenario)?;
            if !scenarios.contains(&scenario) {
                scenarios.push(scenario);
            }
        }
        if scenarios.is_empty() {
            scenarios = Scenario::ALL.to_vec();
        }
        let rounds = match self.rounds.and_then(Given::set) {
            Some(given) => given.read(|text| count(text, 1000))?,
            None => {
                if quick {
                    1
                } else {
                    3
                }
            }
        };
        let duration = match self.duration.and_then(Given::set) {
            Some(given) => given.read(timeout)?,
            None if quick => Duration::from_millis(300),
            None => Duration::from_secs(2),
        };
        let size = self.size.read(size)?;
        if size > MOST_BYTES {
            return Err(self.size.wrong(&format!("must be at most {MOST_BYTES} bytes")));
        }
        // A command has spaces of its own: what stands in the variable is one.
        let named: Vec<_> = self.against.into_iter().filter_map(Given::set).collect();
        let against: Vec<_> =
            named.iter().map(|given| given.read(against)).collect::<Result<_, _>>()?;
        for (index, (name, _)) in against.iter().enumerate() {
            if against[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(named[index].wrong("the name is that of another one"));
            }
        }
        Ok(CompareOptions {
            models,
            connections,
            scenarios,
            service: self.service.read(service)?,
            size,
            rounds,
            duration,
            against,
            out: self.out.text().into(),
            quick,
        })
    }
}

/// What stands between commas, each once, in the order given.
fn list<T: PartialEq>(
    text: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let mut items = Vec::new();
    for item in text.split(',') {
        let item = read(item.trim())?;
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Ok(items)
}

fn model(name: &str) -> Result<Model, String> {
    name.parse().map_err(|why: evmux::UnknownModel| why.to_string())
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let names = Scenario::ALL.map(Scenario::name).join(", ");
    let known = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name);
    known.ok_or_else(|| format!("the scenarios are {names}"))
}

fn service(name: &str) -> Result<Service, String> {
    let names = Service::ALL.map(Service::name).join(", ");
    let known = Service::ALL.into_iter().find(|service| service.name() == name);
    known.ok_or_else(|| format!("what can be compared is {names}"))
}

fn against(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, _)) if name.parse::<Model>().is_ok() => {
            Err(format!("{name} is a model of our own"))
        }
        Some((name, command)) if !name.trim().is_empty() && command.contains("{port}") => {
            Ok((name.trim().to_string(), command.to_string()))
        }
        _ => Err("must be a name, '=', and a command with {port} in it".into()),
    }
}
