//! `evmux compare`: the same service under each model, and beside any other server, measured with
//! the same load generator.
//!
//! First every server must give the right bytes. Then come rounds: each measures every cell once,
//! one server after the other, so that a machine that is busy for a while is so for all of them.
//! After each cell the results are written: who breaks it off keeps what there is.

mod cells;
mod conform;
mod measure;
mod subject;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use evmux::load::{Framing, Machine, Verify};
use evmux::raise_descriptor_limit;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::arguments::CompareOptions;
use crate::failure::Failure;
use crate::output::Output;
use crate::report;
use crate::results::{Cell, Results, Scenario, Subject};
use subject::{Cpus, Kind};

/// What is asked of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Upper,
    Echo,
    Lines,
    Blocks,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Upper, Self::Echo, Self::Lines, Self::Blocks];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upper => "upper",
            Self::Echo => "echo",
            Self::Lines => "lines",
            Self::Blocks => "blocks",
        }
    }

    fn framing(self) -> Framing {
        match self {
            Self::Upper | Self::Echo => Framing::Raw,
            Self::Lines => Framing::Lines,
            Self::Blocks => Framing::Blocks,
        }
    }

    fn verify(self) -> Verify {
        match self {
            Self::Echo => Verify::Echo,
            Self::Upper | Self::Lines | Self::Blocks => Verify::Upper,
        }
    }
}

/// Who takes part.
struct Entrant {
    name: String,
    kind: Kind,
    conforms: Result<(), String>,
}

/// What is the same for all rounds.
struct Setup {
    service: Service,
    size: usize,
    duration: Duration,
    cpus: Cpus,
    interrupted: Arc<AtomicBool>,
}

pub(crate) fn compare(options: &CompareOptions, command: String) -> Result<(), Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let signal_number = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        flag::register_usize(signal, Arc::clone(&signal_number), signal as usize)
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|why| Failure::new("cannot wait for signals", why))?;
    }
    // The servers inherit it.
    let _ = raise_descriptor_limit();
    fs::create_dir_all(&options.out).map_err(|why| cannot_write(&options.out, why))?;
    let setup = Setup {
        service: options.service,
        size: options.size,
        duration: options.duration,
        cpus: Cpus::divide()?,
        interrupted,
    };
    let entrants = enter(options, &setup)?;
    let mut results = Results {
        schema: Results::SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        command,
        began: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        machine: Machine::here(),
        server_cpus: setup.cpus.server_numbers.clone(),
        generator_cpus: setup.cpus.generator_numbers.clone(),
        service: setup.service.name().into(),
        size: setup.size,
        duration_ms: setup.duration.as_millis() as u64,
        rounds: options.rounds,
        subjects: entrants
            .iter()
            .map(|entrant| Subject {
                name: entrant.name.clone(),
                command: entrant.kind.command(setup.service.name()),
                conforms: entrant.conforms.clone(),
            })
            .collect(),
        cells: cells::all(options, &entrants),
        complete: false,
    };
    // The generator is bound to one processor by now, and the machine is all of it.
    results.machine.cpus = setup.cpus.count();
    results.complete = measure_all(options, &setup, &entrants, &mut results)?;
    save(&results, &options.out)?;
    let _ = Output::new()?.write(text(&results, &options.out).as_bytes())?;
    match results.complete {
        true => Ok(()),
        false => Err(Failure::Interrupted(signal_number.load(Ordering::Relaxed) as i32)),
    }
}

/// Those that take part, each asked for the right bytes.
fn enter(options: &CompareOptions, setup: &Setup) -> Result<Vec<Entrant>, Failure> {
    let own = options.models.iter().map(|model| (model.name().to_string(), Kind::Own(*model)));
    let foreign = options
        .against
        .iter()
        .map(|(name, command)| (name.clone(), Kind::Foreign(command.clone())));
    let mut entrants = Vec::new();
    for (name, kind) in own.chain(foreign) {
        if setup.interrupted.load(Ordering::Relaxed) {
            break;
        }
        let served = kind.start(setup.service.name(), &[], &setup.cpus)?;
        let mut conforms = conform::check(served.address, setup.service, conform::ASCII);
        // What others make of letters that they do not know is their affair.
        if let Kind::Own(_) = kind {
            conforms = conforms
                .and_then(|()| conform::check(served.address, setup.service, conform::UNICODE));
        }
        served.end();
        entrants.push(Entrant { name, kind, conforms });
    }
    Ok(entrants)
}

/// All rounds. False when they were broken off.
fn measure_all(
    options: &CompareOptions,
    setup: &Setup,
    entrants: &[Entrant],
    results: &mut Results,
) -> Result<bool, Failure> {
    let can = results.cells.iter().filter(|cell| cell.cannot.is_none()).count();
    let progress = progress((can * options.rounds) as u64);
    for _ in 0..options.rounds {
        for index in 0..results.cells.len() {
            let cell = &results.cells[index];
            if cell.cannot.is_some() {
                continue;
            }
            let Some(entrant) = entrants.iter().find(|entrant| entrant.name == cell.subject) else {
                continue;
            };
            progress.set_message(format!("{} {} {}", cell.scenario.name(), cell.at, cell.subject));
            let rate = match cell.scenario {
                Scenario::Latency => match reachable(setup, entrant, cell, results) {
                    Ok(rate) => Some((rate * cell.at as f64 / 100.0).max(1.0)),
                    Err(why) => {
                        results.cells[index].cannot = Some(why.to_string());
                        progress.inc(1);
                        continue;
                    }
                },
                _ => None,
            };
            let measured = measure::round(setup, &entrant.kind, cell, rate);
            if setup.interrupted.load(Ordering::Relaxed) {
                progress.finish_and_clear();
                return Ok(false);
            }
            match measured {
                Ok(round) => results.cells[index].rounds.push(round),
                // One server that fails is a result, and not the end of all.
                Err(why) => results.cells[index].cannot = Some(why.to_string()),
            }
            results
                .write(&options.out.join(RESULTS))
                .map_err(|why| cannot_write(&options.out.join(RESULTS), why))?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(true)
}

/// The rate that the subject reached with as many connections in a closed loop; it is measured if
/// it was not.
fn reachable(
    setup: &Setup,
    entrant: &Entrant,
    cell: &Cell,
    results: &Results,
) -> Result<f64, Failure> {
    let known = results
        .of(Scenario::Throughput)
        .find(|known| known.subject == cell.subject && known.connections == cell.connections)
        .and_then(Cell::rate);
    if let Some(rate) = known {
        return Ok(rate.median);
    }
    // The first latency of this subject has been measured at a known share of it.
    let earlier = results
        .of(Scenario::Latency)
        .filter(|earlier| earlier.subject == cell.subject)
        .find_map(|earlier| Some(earlier.rounds.first()?.asked_rate? * 100.0 / earlier.at as f64));
    if let Some(rate) = earlier {
        return Ok(rate);
    }
    let closed = Cell { scenario: Scenario::Throughput, ..cell.clone() };
    measure::round(setup, &entrant.kind, &closed, None).map(|round| round.rate)
}

fn progress(steps: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg:32} {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(steps).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

const RESULTS: &str = "results.json";

fn save(results: &Results, out: &Path) -> Result<(), Failure> {
    let path = out.join(RESULTS);
    results.write(&path).map_err(|why| cannot_write(&path, why))?;
    let path = out.join("results.csv");
    results.write_csv(&path).map_err(|why| cannot_write(&path, why))?;
    report::write(results, out)
}

pub(crate) fn cannot_write(path: &Path, why: io::Error) -> Failure {
    Failure::new(format!("cannot write {}", path.display()), why)
}

/// For a terminal: what was found, and where the rest is.
fn text(results: &Results, out: &Path) -> String {
    let mut text = report::finding(results);
    text.push('\n');
    for scenario in Scenario::ALL {
        let mut cells = results.of(scenario).peekable();
        if cells.peek().is_none() {
            continue;
        }
        let _ = writeln!(text, "\n{}", report::table::title(scenario));
        for cell in cells {
            let _ = writeln!(text, "  {}", report::table::line(cell));
        }
    }
    let _ = writeln!(text, "\nreport: {}", out.join("report.html").display());
    text
}
