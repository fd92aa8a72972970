//! A body in chunks: its length was not known when it began.
//!
//! ```text
//!   5 ; what = ever CR LF  h e l l o CR LF  0 CR LF  Trailer: x CR LF  CR LF
//!   size  extension        data             the last one               the end
//! ```
//!
//! Every line must end with CR LF here: who takes a line feed alone for an end, and who does not,
//! see different chunks.

use memchr::memchr;

use super::MAX_HEAD;
use super::requests::Refused;
use crate::codec::TooLong;

/// Where in a body we are.
#[derive(Debug)]
pub(super) struct Chunks {
    expected: Expected,
    /// So many bytes of the line in front are known to hold no line feed.
    searched: usize,
    /// Bytes of payload so far, and in the chunk that is being read.
    payload: usize,
    /// Bytes of extensions and trailers.
    beside: usize,
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    Size,
    Data {
        left: usize,
    },
    /// The line end behind the data.
    End,
    Trailer,
    Nothing,
}

/// What one look at the received bytes came to.
pub(super) struct Seen {
    /// So many of them are done with.
    pub(super) taken: usize,
    pub(super) whole: bool,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { expected: Expected::Size, searched: 0, payload: 0, beside: 0 }
    }

    /// Takes what it can of `bytes`, and adds what is payload to `body`.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        limit: usize,
        body: &mut Vec<u8>,
    ) -> Result<Seen, Refused> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            match self.expected {
                Expected::Size => {
                    let Some(line) = self.line(rest)? else { break };
                    taken += line.len() + 2;
                    // Sixteen digits and the line end are what a chunk costs; more is beside it.
                    self.count_beside(line.len().saturating_sub(16))?;
                    let size = size(line)?;
                    self.payload = self.payload.saturating_add(size);
                    if self.payload > limit {
                        return Err(Refused::TooLong(TooLong::new(self.payload, limit)));
                    }
                    self.expected = match size {
                        0 => Expected::Trailer,
                        left => Expected::Data { left },
                    };
                }
                Expected::Data { left } => {
                    let count = left.min(rest.len());
                    body.extend_from_slice(&rest[..count]);
                    taken += count;
                    if count < left {
                        self.expected = Expected::Data { left: left - count };
                        break;
                    }
                    self.expected = Expected::End;
                }
                Expected::End => {
                    match rest {
                        [b'\r', b'\n', ..] => taken += 2,
                        [] | [b'\r'] => break,
                        _ => return Err(Refused::Malformed("a chunk is longer than its size")),
                    }
                    self.expected = Expected::Size;
                }
                Expected::Trailer => {
                    let Some(line) = self.line(rest)? else { break };
                    taken += line.len() + 2;
                    if line.is_empty() {
                        self.expected = Expected::Nothing;
                    } else {
                        self.count_beside(line.len() + 2)?;
                        judge_trailer(line)?;
                    }
                }
                Expected::Nothing => break,
            }
        }
        Ok(Seen { taken, whole: matches!(self.expected, Expected::Nothing) })
    }

    /// The line in front, without its end, once it is whole.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<&'b [u8]>, Refused> {
        let Some(distance) = memchr(b'\n', &bytes[self.searched..]) else {
            self.searched = bytes.len();
            if bytes.len() > MAX_HEAD {
                return Err(too_much_beside(self.beside + bytes.len()));
            }
            return Ok(None);
        };
        let line = &bytes[..self.searched + distance];
        self.searched = 0;
        let Some(line) = line.strip_suffix(b"\r") else {
            return Err(Refused::Malformed("a line feed without a carriage return in chunks"));
        };
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(Refused::Malformed("a control character between chunks"));
        }
        Ok(Some(line))
    }

    fn count_beside(&mut self, bytes: usize) -> Result<(), Refused> {
        self.beside += bytes;
        if self.beside > MAX_HEAD { Err(too_much_beside(self.beside)) } else { Ok(()) }
    }
}

fn too_much_beside(length: usize) -> Refused {
    Refused::HeadTooLong(TooLong::new(length, MAX_HEAD))
}

/// The size that a line says, which may be more than a machine word.
fn size(line: &[u8]) -> Result<usize, Refused> {
    let malformed = Err(Refused::Malformed("a chunk without its size"));
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at(digits);
    let is_extension = extension.trim_ascii_start().first() == Some(&b';');
    if digits.is_empty() || !(extension.is_empty() || is_extension) {
        return malformed;
    }
    let mut size = 0_usize;
    for digit in digits {
        let value = (*digit as char).to_digit(16).unwrap_or(0) as usize;
        size = size.checked_mul(16).map_or(usize::MAX, |size| size | value);
    }
    Ok(size)
}

/// Trailers are dropped, but not unseen.
fn judge_trailer(line: &[u8]) -> Result<(), Refused> {
    let line = [line, b"\r\n\r\n"].concat();
    let mut headers = [httparse::EMPTY_HEADER; 1];
    match httparse::parse_headers(&line, &mut headers) {
        Ok(httparse::Status::Complete((length, [_]))) if length == line.len() => Ok(()),
        _ => Err(Refused::Malformed("a trailer that is no header")),
    }
}
