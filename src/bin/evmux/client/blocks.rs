//! `evmux client blocks`: blocks to a server, and their answers, each on a line.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;

use evmux::client::{ToSend, converse, write_block};
use evmux::codec::blocks::{self, Block, HEADER};

use super::connect;
use crate::arguments::Endpoint;
use crate::failure::Failure;
use crate::output::Output;

/// The longest answer to a block. No argument is a tenth as long, so one that is longer than this
/// is the mistake of some server that does not speak in blocks.
const LIMIT: usize = 16 << 20;

pub(super) fn run(server: &Endpoint, messages: &[OsString]) -> Result<(), Failure> {
    let mut to_send = Vec::new();
    for message in messages {
        write_block(&mut to_send, message.as_bytes()).map_err(|why| Failure::new(server, why))?;
    }
    let mut answers = Answers {
        output: Output::new()?,
        received: Vec::new(),
        printed: 0,
        expected: messages.len(),
    };
    let stream = connect(server)?;
    let mut ended = Ok(Reader::Reads);
    // All at a time: a server that answers while it reads must not wait until we have sent all.
    converse(&stream, ToSend::Bytes(&to_send), |bytes| {
        ended = answers.print(bytes);
        let done = !matches!(ended, Ok(Reader::Reads)) || answers.are_all();
        Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .map_err(|why| Failure::new(server, why))?;
    match ended.map_err(|why| Failure::new(server, why))? {
        Reader::Reads if !answers.are_all() => Err(Failure::Run(format!(
            "{server}: the server ended after {} of {} answers, {} bytes into the next",
            answers.printed,
            answers.expected,
            answers.received.len()
        ))),
        _ => Ok(()),
    }
}

/// Whether there is still somebody who reads what is printed.
enum Reader {
    Reads,
    IsGone,
}

struct Answers {
    output: Output,
    /// What is not a whole block yet.
    received: Vec<u8>,
    printed: usize,
    expected: usize,
}

impl Answers {
    fn print(&mut self, bytes: &[u8]) -> Result<Reader, String> {
        self.received.extend_from_slice(bytes);
        let mut consumed = 0;
        while !self.are_all() {
            let rest = self.received.get(consumed..).unwrap_or_default();
            match blocks::first(rest, LIMIT) {
                Ok(Block::Whole { length }) => {
                    let payload = rest.get(HEADER..length).unwrap_or_default();
                    let flow = self.output.write_line(payload).map_err(|why| why.to_string())?;
                    if flow.is_break() {
                        return Ok(Reader::IsGone);
                    }
                    self.printed += 1;
                    consumed += length;
                }
                Ok(Block::Partial { .. }) => break,
                Err(why) => return Err(format!("answer {}: {why}", self.printed + 1)),
            }
        }
        self.received.drain(..consumed);
        Ok(Reader::Reads)
    }

    fn are_all(&self) -> bool {
        self.printed == self.expected
    }
}
