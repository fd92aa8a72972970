//! `evmux load`: the library's generator, a line that moves while it runs, and what was found in
//! the forms that people and programs read.
//!
//! The files are opened before anything is sent: who learns after an hour that a directory does
//! not exist has lost that hour.

mod live;
mod summary;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use evmux::load::logs::LogWriter;
use evmux::load::{self, Interim, Observer, Outcome, Phase, Record, Second, ThresholdRecord};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::arguments::{Json, LoadOptions};
use crate::failure::Failure;
use crate::line_queue::LineQueue;
use crate::output::Output;

use live::LiveLine;

pub(crate) fn load(options: LoadOptions, stderr: &LineQueue) -> Result<(), Failure> {
    let (files, log) = Files::open(&options)?;
    let signal = end_on_signal().map_err(|why| Failure::new("cannot wait for signals", why))?;
    let live = io::stderr().is_terminal().then(|| LiveLine::new(stderr.clone()));
    let mut watch = Watch { live, signal, log };
    let outcome = load::run(&options.plan, &mut watch);
    if let Some(live) = &mut watch.live {
        live.clear();
    }
    let outcome = outcome.map_err(|why| Failure::Run(why.to_string()))?;

    let record = record(&options, &outcome);
    let text = summary::text(&options.plan, &outcome, &record);
    if options.json == Some(Json::Stdout) {
        stderr.push(text.as_bytes());
        // A reader that is gone has read enough.
        let _ = Output::new()?.write(&json(&record)?)?;
    } else {
        let _ = Output::new()?.write(text.as_bytes())?;
    }
    files.write(&record)?;
    if let Log::Failed(path, why) = watch.log {
        return Err(cannot_write(&path, why));
    }
    verdict(&options, &outcome, watch.signal.load(Ordering::SeqCst))
}

/// How it ended: the first of these that is so.
fn verdict(options: &LoadOptions, outcome: &Outcome, signal: usize) -> Result<(), Failure> {
    let target = &options.plan.target;
    if let Some(wrong) = &outcome.first_wrong {
        return Err(Failure::Run(format!("{target} answered wrongly: {wrong}")));
    }
    if outcome.errors.are_of_bytes() {
        let (missing, timed_out) = (outcome.errors.missing, outcome.errors.timed_out);
        return Err(Failure::Run(format!(
            "{target} left replies out: {missing} whose connection ended, {timed_out} in time"
        )));
    }
    if outcome.interrupted {
        return Err(Failure::Interrupted(signal as i32));
    }
    if outcome.counts.answered == 0 {
        return Err(Failure::Run(format!("{target} answered nothing")));
    }
    if outcome.server_gone {
        return Err(Failure::Run(format!("{target} is gone: the figures are those of a part")));
    }
    let crossed = options.thresholds.iter().find_map(|threshold| threshold.crossed(outcome));
    crossed.map_or(Ok(()), |crossed| {
        Err(Failure::Threshold(format!("a threshold was crossed: {crossed}")))
    })
}

fn record(options: &LoadOptions, outcome: &Outcome) -> Record {
    let mut record = Record::new(&options.plan, outcome, options.labels.clone());
    record.thresholds = options
        .thresholds
        .iter()
        .map(|threshold| {
            let held = threshold.crossed(outcome).is_none();
            ThresholdRecord::new(threshold.to_string(), held)
        })
        .collect();
    record
}

fn json(record: &Record) -> Result<Vec<u8>, Failure> {
    let mut text = serde_json::to_vec_pretty(record)
        .map_err(|why| Failure::new("cannot write the result as JSON", why))?;
    text.push(b'\n');
    Ok(text)
}

/// Where the results go, opened.
struct Files {
    json: Option<(PathBuf, File)>,
    csv: Option<(PathBuf, File)>,
}

impl Files {
    fn open(options: &LoadOptions) -> Result<(Self, Log), Failure> {
        let open = |path: &Path| match File::create(path) {
            Ok(file) => Ok((path.to_owned(), file)),
            Err(why) => Err(cannot_write(path, why)),
        };
        let json = match &options.json {
            Some(Json::File(path)) => Some(open(path)?),
            Some(Json::Stdout) | None => None,
        };
        let csv = options.csv.as_deref().map(open).transpose()?;
        let log = match options.hlog.as_deref().map(open).transpose()? {
            Some((path, file)) => Log::Waiting(path, file),
            None => Log::None,
        };
        Ok((Self { json, csv }, log))
    }

    fn write(self, record: &Record) -> Result<(), Failure> {
        if let Some((path, mut file)) = self.json {
            file.write_all(&json(record)?).map_err(|why| cannot_write(&path, why))?;
        }
        if let Some((path, file)) = self.csv {
            summary::write_csv(file, record).map_err(|why| cannot_write(&path, why.into()))?;
        }
        Ok(())
    }
}

fn cannot_write(path: &Path, why: io::Error) -> Failure {
    Failure::new(format_args!("cannot write to {}", path.display()), why)
}

/// The number of the first signal that asks for the end; the second one ends the process, even if
/// the generator should be stuck.
fn end_on_signal() -> io::Result<Arc<AtomicUsize>> {
    let asked = Arc::new(AtomicBool::new(false));
    let number = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        // What is registered first is done first: a first signal finds the flag down.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
        flag::register_usize(signal, Arc::clone(&number), signal as usize)?;
    }
    Ok(number)
}

struct Watch {
    live: Option<LiveLine>,
    signal: Arc<AtomicUsize>,
    log: Log,
}

/// The file of the histograms, and what became of it.
enum Log {
    None,
    /// The measurement has not begun.
    Waiting(PathBuf, File),
    Open(PathBuf, LogWriter<File>),
    /// Nothing more is written: half a log would be read as a whole one.
    Failed(PathBuf, io::Error),
}

impl Log {
    fn begin(&mut self) {
        if let Self::Waiting(path, file) = mem::replace(self, Self::None) {
            *self = match LogWriter::begin(file, SystemTime::now()) {
                Ok(log) => Self::Open(path, log),
                Err(why) => Self::Failed(path, why),
            };
        }
    }

    fn write(&mut self, second: &Second<'_>) {
        if let Self::Open(path, log) = self
            && let Err(why) = log.write(second)
        {
            *self = Self::Failed(mem::take(path), why);
        }
    }
}

impl Observer for Watch {
    fn phase(&mut self, phase: Phase) {
        if phase == Phase::Measuring {
            self.log.begin();
        }
    }

    fn interim(&mut self, interim: &Interim) -> ControlFlow<()> {
        if let Some(live) = &mut self.live {
            live.draw(interim);
        }
        if self.signal.load(Ordering::SeqCst) == 0 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    fn second(&mut self, second: &Second<'_>) {
        if let Some(live) = &mut self.live {
            live.note(second);
        }
        self.log.write(second);
    }
}
