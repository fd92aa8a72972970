//! `evmux client tcp`: a message or standard input to a server, and what comes back to stdout.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use evmux::client::{ConverseError, ToSend, converse};

use super::connect;
use crate::arguments::TcpOptions;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(options: &TcpOptions) -> Result<(), Failure> {
    let input;
    let line;
    let to_send = match &options.message {
        Some(message) if options.lines => {
            line = [message.as_bytes(), b"\n"].concat();
            ToSend::Bytes(&line)
        }
        Some(message) => ToSend::Bytes(message.as_bytes()),
        None => {
            // Read past the standard library's buffer, since it is also waited for.
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            input = File::from(stdin.map_err(|why| Failure::new("cannot read stdin", why))?);
            if options.lines { ToSend::Lines(&input) } else { ToSend::File(&input) }
        }
    };
    let mut output = Lines { output: Output::new()?, whole: options.lines, begun: Vec::new() };
    let mut failed = None;
    let stream = connect(&options.server)?;
    let ended = converse(&stream, to_send, |received| {
        Ok(output.print(received).unwrap_or_else(|failure| {
            failed = Some(failure);
            ControlFlow::Break(())
        }))
    });
    if let Some(failure) = failed {
        return Err(failure);
    }
    let _ = output.print_rest()?;
    match ended {
        Ok(()) => Ok(()),
        Err(ConverseError::ToSend(why)) => Err(Failure::new("cannot read stdin", why)),
        Err(error) => Err(Failure::new(&options.server, error)),
    }
}

/// What is printed as it comes, or line by line.
struct Lines {
    output: Output,
    /// Whether only whole lines are printed.
    whole: bool,
    /// A line that is not whole yet.
    begun: Vec<u8>,
}

impl Lines {
    /// A line so long is printed in pieces.
    const LONGEST: usize = 64 * 1024;

    fn print(&mut self, received: &[u8]) -> Result<ControlFlow<()>, Failure> {
        if !self.whole {
            return self.output.write(received);
        }
        let lines = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let (lines, begun) = received.split_at(lines);
        if !lines.is_empty() {
            self.begun.extend_from_slice(lines);
            let flow = self.print_rest()?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        self.begun.extend_from_slice(begun);
        if self.begun.len() > Self::LONGEST {
            self.print_rest()
        } else {
            Ok(ControlFlow::Continue(()))
        }
    }

    /// What is left when nothing more comes.
    fn print_rest(&mut self) -> Result<ControlFlow<()>, Failure> {
        let flow = self.output.write(&self.begun);
        self.begun.clear();
        flow
    }
}
