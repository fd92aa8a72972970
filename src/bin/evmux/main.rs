//! The command line of evmux: what is asked for, done, and how it ended.

mod admin;
mod arguments;
mod client;
mod clocks;
mod compare;
mod failure;
mod line_queue;
mod load;
mod logging;
mod names;
mod output;
mod report;
mod resolve;
mod results;
mod serve;
mod signals;
mod sniff;
mod summary;
mod trace;
mod trace_text;

use std::env;
use std::io::{self, Write};
use std::iter;
use std::panic;
use std::process::ExitCode;

use crate::arguments::Command;
use crate::failure::Failure;
use crate::line_queue::LineQueue;
use crate::output::Output;

fn main() -> ExitCode {
    logging::catch_panics();
    let stderr = match LineQueue::to(io::stderr(), "stderr") {
        Ok(stderr) => stderr,
        Err(why) => {
            // Nothing runs yet that could be stopped by waiting for stderr.
            let failure = Failure::new("cannot start the thread that writes the log", why);
            let _ = writeln!(io::stderr(), "evmux: {failure}");
            return failure.status();
        }
    };
    let outcome = panic::catch_unwind(|| run(&stderr)).unwrap_or(Err(Failure::Panicked));
    let status = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            stderr.push(format!("evmux: {failure}\n").as_bytes());
            failure.status()
        }
    };
    stderr.settle();
    status
}

fn run(stderr: &LineQueue) -> Result<(), Failure> {
    let command = arguments::parse(env::args_os())?;
    if !matches!(command, Command::Explain(_)) {
        logging::start(stderr);
    }
    match command {
        Command::Explain(text) => {
            // A reader that is gone, as `head` soon is, has read enough.
            let _ = text.print();
            Ok(())
        }
        Command::Serve(options) => serve::serve(*options, stderr),
        Command::Client(options) => client::run(options),
        Command::Resolve(options) => resolve::resolve(&options),
        Command::Sniff(options) => sniff::sniff(&options),
        Command::Load(options) => load::load(*options, stderr),
        Command::Completions(text) | Command::Man(text) => Output::new()?.write(&text).map(drop),
        Command::Compare(options) => compare::compare(&options, command_line()),
        Command::Report(options) => report::report(&options),
        Command::TraceText(options) => trace_text::print(&options),
    }
}

/// The command line, as a shell would be given it again.
fn command_line() -> String {
    let word = |word: std::ffi::OsString| {
        let word = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+%@".contains(c);
        match !word.is_empty() && word.chars().all(plain) {
            true => word,
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    let words = env::args_os().skip(1).map(word);
    iter::once("evmux".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
