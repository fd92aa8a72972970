//! The command line of evmux: what is asked for, done, and how it ended.

mod arguments;
mod client;
mod clocks;
mod failure;
mod line_queue;
mod load;
mod logging;
mod names;
mod output;
mod resolve;
mod serve;
mod signals;
mod sniff;
mod summary;
mod trace;
mod trace_text;

use std::env;
use std::io::{self, Write};
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
        Command::TraceText(options) => trace_text::print(&options),
    }
}
