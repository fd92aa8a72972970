//! Requests in a stream of bytes, one after the other.

use std::error::Error;
use std::fmt;
use std::mem;

use memchr::memchr;

use super::chunks::Chunks;
use super::{MAX_HEAD, MAX_HEADERS, Request};
use crate::codec::TooLong;

/// Finds requests in what a client sends, and remembers how far it has come.
///
/// ```
/// use evmux::codec::http1::{Next, Requests};
///
/// let bytes = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
/// let mut requests = Requests::default();
/// let partial = requests.next(&bytes[..40], 1000);
/// assert_eq!(partial, Ok(Next::Partial { need: bytes.len(), expects_continue: false }));
/// assert_eq!(requests.next(bytes, 1000), Ok(Next::Whole { length: bytes.len() }));
/// assert_eq!(requests.request(bytes).body, b"hello");
/// ```
#[derive(Debug, Default)]
pub struct Requests {
    state: State,
    /// So many bytes of the head in front are known not to hold its end.
    searched: usize,
    /// The first line of the head in front was judged.
    line_judged: bool,
    /// The limit for this request's body.
    limit: usize,
    /// A request in chunks as if it had come with a length: its head, and the payload so far.
    collected: Vec<u8>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// The body begins at `head` and ends at `end`.
    Body {
        head: usize,
        end: usize,
        expects_continue: bool,
    },
    Chunks {
        head: usize,
        chunks: Chunks,
        expects_continue: bool,
    },
    /// It was told of, and in what it stands.
    Whole {
        head: usize,
        collected: bool,
    },
}

/// What stands at the front of the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A request: [`Requests::request`] says which. The caller then consumes `length` bytes.
    Whole {
        /// Bytes of it that were not taken before.
        length: usize,
    },
    /// So many bytes are done with: the caller consumes them and calls again.
    Taken {
        /// At least one.
        length: usize,
    },
    /// The beginning of a request, or nothing.
    Partial {
        /// How many bytes must be there before it is worth looking again.
        need: usize,
        /// The client waits for `100 Continue` before it sends the body. Told once.
        expects_continue: bool,
    },
}

/// Why a request is refused. What comes behind it cannot be told from it: the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It is not HTTP, or can be read in two ways; the text says what.
    Malformed(&'static str),
    /// The body is too long.
    TooLong(TooLong),
    /// The first line is too long.
    LineTooLong(TooLong),
    /// The head is too long, or what is beside the payload of chunks.
    HeadTooLong(TooLong),
    /// There are more than [`MAX_HEADERS`].
    TooManyHeaders,
    /// The body has a transfer encoding other than `chunked`.
    UnknownEncoding,
    /// It is of another version than HTTP/1.0 and HTTP/1.1.
    UnknownVersion,
    /// The client expects something other than `100 Continue`.
    UnknownExpectation,
}

impl Refused {
    /// The status code that tells the client.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::TooLong(_) => 413,
            Self::LineTooLong(_) => 414,
            Self::UnknownExpectation => 417,
            Self::HeadTooLong(_) | Self::TooManyHeaders => 431,
            Self::UnknownEncoding => 501,
            Self::UnknownVersion => 505,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::TooLong(numbers) => write!(f, "body: {numbers}"),
            Self::LineTooLong(numbers) => write!(f, "request line: {numbers}"),
            Self::HeadTooLong(numbers) => write!(f, "headers: {numbers}"),
            Self::TooManyHeaders => write!(f, "more than {MAX_HEADERS} headers"),
            Self::UnknownEncoding => f.write_str("a transfer encoding other than chunked"),
            Self::UnknownVersion => f.write_str("neither HTTP/1.0 nor HTTP/1.1"),
            Self::UnknownExpectation => f.write_str("an expectation other than 100-continue"),
        }
    }
}

impl Error for Refused {}

impl Requests {
    /// Looks at `bytes`: everything received that was not consumed. `limit` is for the body.
    ///
    /// What is partial must be given again, with what came behind it.
    ///
    /// # Errors
    /// What cannot be read in one way only, and what is larger than its limit; a body is judged by
    /// its length before it has come.
    pub fn next(&mut self, bytes: &[u8], limit: usize) -> Result<Next, Refused> {
        if let State::Whole { .. } = self.state {
            *self = Self::default();
        }
        if let State::Head = self.state {
            let blank = blank_lines(bytes);
            if blank > 0 && !self.line_judged {
                self.searched = 0;
                return Ok(Next::Taken { length: blank });
            }
            let Some(head) = self.find_head(bytes)? else {
                return Ok(Next::Partial { need: bytes.len() + 1, expects_continue: false });
            };
            self.limit = limit;
            self.state = judge(&bytes[..head], limit)?;
            if let State::Chunks { .. } = self.state {
                self.collected.extend_from_slice(&bytes[..head]);
                self.searched = 0;
                return Ok(Next::Taken { length: head });
            }
        }
        match &mut self.state {
            State::Chunks { head, chunks, expects_continue } => {
                let seen = chunks.take(bytes, limit, &mut self.collected)?;
                // A client that has begun with its body does not wait.
                let expects_continue = mem::take(expects_continue) && bytes.is_empty();
                if seen.taken > 0 && !seen.whole {
                    return Ok(Next::Taken { length: seen.taken });
                }
                if !seen.whole {
                    return Ok(Next::Partial { need: bytes.len() + 1, expects_continue });
                }
                self.state = State::Whole { head: *head, collected: true };
                Ok(Next::Whole { length: seen.taken })
            }
            State::Body { head, end, expects_continue } => {
                let (head, end) = (*head, *end);
                if bytes.len() < end {
                    let expects_continue = mem::take(expects_continue) && bytes.len() == head;
                    return Ok(Next::Partial { need: end, expects_continue });
                }
                self.state = State::Whole { head, collected: false };
                Ok(Next::Whole { length: end })
            }
            State::Head | State::Whole { .. } => {
                Ok(Next::Partial { need: bytes.len() + 1, expects_continue: false })
            }
        }
    }

    /// The request of which [`next`](Requests::next) has just told that it is whole, in the `bytes`
    /// of its length.
    ///
    /// # Panics
    /// When there is none, or when the bytes are others.
    pub fn request<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        let (head, whole) = match self.state {
            State::Whole { head, collected: true } => (head, &self.collected[..]),
            State::Whole { head, collected: false } => (head, bytes),
            _ => (0, &[][..]),
        };
        let (head, body) = whole.split_at(head);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let complete = parsed.parse(head).is_ok_and(|status| status.is_complete());
        assert!(complete, "there is no whole request, or it is not in these bytes");
        Request {
            method: parsed.method.unwrap_or_default(),
            target: parsed.path.unwrap_or_default(),
            body,
            max_body: self.limit,
            minor: parsed.version.unwrap_or_default(),
            headers: parsed.headers.to_vec(),
        }
    }

    /// Whether a request has begun that is not whole: what came of it is in `bytes`, or was taken.
    pub fn has_begun(&self, bytes: &[u8]) -> bool {
        match self.state {
            State::Head => !bytes.is_empty(),
            State::Body { .. } | State::Chunks { .. } => true,
            State::Whole { .. } => false,
        }
    }

    /// How many bytes there are up to the end of the head, once it is there.
    fn find_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        let end = loop {
            let Some(distance) = memchr(b'\n', &bytes[self.searched..]) else {
                self.searched = bytes.len();
                break None;
            };
            let line_feed = self.searched + distance;
            if !self.line_judged {
                // Who speaks another protocol is told now, and not when the frame timeout has come.
                self.line_judged = true;
                judge_line(&bytes[..=line_feed])?;
            }
            match &bytes[line_feed + 1..] {
                [b'\n', ..] => break Some(line_feed + 2),
                [b'\r', b'\n', ..] => break Some(line_feed + 3),
                [] | [b'\r'] => {
                    self.searched = line_feed;
                    break None;
                }
                _ => self.searched = line_feed + 1,
            }
        };
        let length = end.unwrap_or(bytes.len());
        if length > MAX_HEAD || (end.is_none() && length == MAX_HEAD) {
            let numbers = TooLong::new(length, MAX_HEAD);
            return Err(match self.line_judged {
                true => Refused::HeadTooLong(numbers),
                false => Refused::LineTooLong(numbers),
            });
        }
        Ok(end)
    }
}

/// The bytes of blank lines in front: some clients send one behind a body.
fn blank_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [b'\n', behind @ ..] | [b'\r', b'\n', behind @ ..] = rest {
        rest = behind;
    }
    bytes.len() - rest.len()
}

/// Says of a whole head where its body ends.
fn judge(head: &[u8], limit: usize) -> Result<State, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Refused::Malformed("a head that ends twice")),
        Err(why) => return Err(refused(why, head)),
    }
    let mut length = None;
    let (mut chunked, mut hosts, mut expects_continue) = (false, 0, false);
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            if length.is_some() {
                return Err(Refused::Malformed("two lengths"));
            }
            length = Some(decimal(header.value, limit)?);
        } else if is("transfer-encoding") {
            if chunked {
                return Err(Refused::Malformed("two transfer encodings"));
            }
            if !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refused::UnknownEncoding);
            }
            chunked = true;
        } else if is("host") {
            hosts += 1;
        } else if is("expect") {
            if !header.value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refused::UnknownExpectation);
            }
            expects_continue = true;
        }
    }
    let old = request.version == Some(0);
    if hosts > 1 {
        return Err(Refused::Malformed("two hosts"));
    }
    if chunked && length.is_some() {
        return Err(Refused::Malformed("a length and chunks"));
    }
    if chunked && old {
        return Err(Refused::Malformed("chunks in HTTP/1.0"));
    }
    let expects_continue = expects_continue && !old;
    let head = head.len();
    if chunked {
        return Ok(State::Chunks { head, chunks: Chunks::new(), expects_continue });
    }
    Ok(State::Body { head, end: head + length.unwrap_or(0), expects_continue })
}

/// Says whether this can be the beginning of a head.
fn judge_line(line: &[u8]) -> Result<(), Refused> {
    let mut headers = [httparse::EMPTY_HEADER; 1];
    match httparse::Request::new(&mut headers).parse(line) {
        Ok(_) => Ok(()),
        Err(why) => Err(refused(why, line)),
    }
}

fn refused(why: httparse::Error, head: &[u8]) -> Refused {
    match why {
        httparse::Error::TooManyHeaders => Refused::TooManyHeaders,
        httparse::Error::Version if names_http(head) => Refused::UnknownVersion,
        httparse::Error::HeaderName => Refused::Malformed("a header with a name that is none"),
        httparse::Error::HeaderValue => Refused::Malformed("a header with a value that is none"),
        httparse::Error::NewLine => Refused::Malformed("a carriage return without a line feed"),
        _ => Refused::Malformed("not a request of HTTP"),
    }
}

/// Whether the first line has a version of HTTP, be it which it may.
fn names_http(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.splitn(3, |byte| *byte == b' ').nth(2).is_some_and(|word| word.starts_with(b"HTTP/"))
}

/// A length as HTTP writes it: digits and nothing else. One that no machine word holds is too long,
/// not malformed.
fn decimal(value: &[u8], limit: usize) -> Result<usize, Refused> {
    let digits = str::from_utf8(value).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Refused::Malformed("a length that is no number"));
    }
    let length = digits.parse().unwrap_or(u64::MAX);
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err(Refused::TooLong(TooLong { length, limit: limit as u64 })),
    }
}
