//! JSON a line: each value comes back with its strings in upper case, and otherwise as it was
//! written.
//!
//! *As it was written* rules out reading the value into a tree and writing that again: `1.0`,
//! `1e400`, `-0` and `12345678901234567890` are numbers that no type of ours gives back, names may
//! stand in any order, and twice. So the text itself is answered: serde_json checks that a line is
//! one value, and then only what stands between the quotes of its strings is exchanged. In a text
//! that is known to be JSON, a string is the name of a member exactly if a colon follows.
//!
//! Neither the check nor the exchange is recursive, so no nesting can overflow a stack; that of a
//! value is limited nevertheless, for the sake of whoever must read the answer.

use serde_json::value::RawValue;

use crate::codec::lines::{self, Line};
use crate::{Exchange, Flow, Handler, Peer, Violation};

/// Answers each line, which must be one JSON value (RFC 8259), with the same value, in which
/// strings are upper-cased, but names of members, numbers, order and spacing are kept. A name that
/// an object has twice is kept twice.
///
/// A line that is anything else is answered with `{"error": "…"}`, which says why, and the next one
/// is read. That includes values nested deeper than [`Json::DEEPEST`], and `\u` escapes of half a
/// surrogate pair, which stand for no text. A line longer than
/// [`Limits::max_frame`](crate::Limits::max_frame) is refused.
///
/// The answer ends as the line did; the last one gets a line feed if it had none.
#[derive(Debug, Default)]
pub struct Json {
    frames: lines::Lines,
}

impl Json {
    /// How many arrays and objects may stand in one another: what serde_json, and so most readers
    /// written in Rust, accept. Python's reader gives up near 1,000.
    pub const DEEPEST: usize = 128;
}

/// JSON values, one a line, with their strings in upper case.
pub fn json(_: &Peer) -> Json {
    Json::default()
}

impl Handler for Json {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            match self.frames.next(&exchange.received, exchange.max_frame()) {
                Ok(Line::Whole { payload, length }) => answer(exchange, payload, length),
                Ok(Line::Partial) => return Flow::Continue,
                Err(too_long) => return Flow::Refuse(too_long.into()),
            }
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
        }
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        match self.frames.last(&exchange.received, exchange.max_frame()) {
            Ok(0) => Flow::Close,
            Ok(length) => {
                answer(exchange, length, length);
                exchange.to_send.append(b"\n");
                Flow::Close
            }
            Err(too_long) => Flow::Refuse(Violation::from(too_long)),
        }
    }
}

/// Answers the line of `length` bytes in front, of which the first `payload` are not its end.
fn answer(exchange: &mut Exchange<'_>, payload: usize, length: usize) {
    let (line, end) = exchange.received[..length].split_at(payload);
    let text = in_upper_case(line).unwrap_or_else(|why| {
        let quoted = serde_json::Value::from(why);
        format!("{{\"error\": {quoted}}}").into_bytes()
    });
    exchange.to_send.append(&text);
    exchange.to_send.append(end);
    exchange.received.consume(length);
}

/// The value that the line is, with its strings in upper case, or why it is none.
fn in_upper_case(line: &[u8]) -> Result<Vec<u8>, String> {
    let line = str::from_utf8(line).map_err(|why| format!("not UTF-8: {why}"))?;
    let value: &RawValue = serde_json::from_str(line).map_err(|why| format!("not JSON: {why}"))?;
    let mut rest = value.get();
    let mut upper = Vec::with_capacity(rest.len());
    let mut depth = 0_usize;
    while let Some(quote) = rest.find('"') {
        let (between, string) = rest.split_at(quote);
        depth = depth_behind(between, depth)?;
        upper.extend_from_slice(between.as_bytes());
        let (literal, behind) = string.split_at(string_length(string));
        let text: String = serde_json::from_str(literal)
            .map_err(|_| "a string is no text: it has half a surrogate pair")?;
        if behind.trim_start().starts_with(':') {
            upper.extend_from_slice(literal.as_bytes());
        } else {
            let text = serde_json::Value::from(text.to_uppercase());
            upper.extend_from_slice(text.to_string().as_bytes());
        }
        rest = behind;
    }
    depth_behind(rest, depth)?;
    upper.extend_from_slice(rest.as_bytes());
    Ok(upper)
}

/// How deep the text behind `between` is nested, in which no string stands.
fn depth_behind(between: &str, mut depth: usize) -> Result<usize, String> {
    for byte in between.bytes() {
        match byte {
            b'[' | b'{' if depth == Json::DEEPEST => {
                return Err(format!("nested deeper than {}", Json::DEEPEST));
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    Ok(depth)
}

/// How long the string is that stands in front, with its quotes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}
