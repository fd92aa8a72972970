//! HTTP/1.0 and HTTP/1.1 for any application: a function from requests to responses.
//!
//! An application sees whole requests only, of at most `max-frame` bytes of body. What is not a
//! request is answered here with the status that says why, and ends its connection in order.

use std::borrow::Cow;
use std::io::Write;

use crate::codec::http1::{Next, Refused, Request, Requests};
use crate::{Exchange, Flow, Handler, Violation};

pub use body::Body;

mod body;

/// What answers requests: a function, or a type of yours.
///
/// One belongs to one connection, and is called for one request at a time.
pub trait Application {
    /// Answers a request. A response to HEAD is sent without its body.
    fn answer(&mut self, request: &Request<'_>) -> Response;
}

impl<F> Application for F
where
    F: FnMut(&Request<'_>) -> Response,
{
    fn answer(&mut self, request: &Request<'_>) -> Response {
        self(request)
    }
}

/// One connection of HTTP.
///
/// ```
/// use evmux::codec::http1::Request;
/// use evmux::services::{Http, Response};
/// use evmux::{Peer, Server};
///
/// fn page(request: &Request<'_>) -> Response {
///     match request.path() {
///         "/" => Response::html("<h1>Hello</h1>"),
///         "/healthz" => Response::text("ok\n"),
///         _ => Response::error(404),
///     }
/// }
///
/// let server = Server::builder(|_: &Peer| Http::new(page)).listen("127.0.0.1:0").build()?;
/// # Ok::<(), evmux::Error>(())
/// ```
///
/// Requests may be pipelined, and are answered one after the other. A connection lasts until the
/// client says `Connection: close`, speaks HTTP/1.0, or finishes; when the server is drained, the
/// last answer says `Connection: close`.
///
/// A response has no `Date`, since a service knows no clock. The whole of it is copied into the
/// connection's output once; the next request waits until the client has taken most of it.
#[derive(Debug)]
pub struct Http<A> {
    requests: Requests,
    application: A,
}

impl<A: Application> Http<A> {
    /// A connection that `application` answers.
    pub fn new(application: A) -> Self {
        Self { requests: Requests::default(), application }
    }
}

impl<A: Application> Handler for Http<A> {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            match self.requests.next(&exchange.received, exchange.max_frame()) {
                Ok(Next::Taken { length }) => exchange.received.consume(length),
                Ok(Next::Partial { need, expects_continue }) => {
                    if expects_continue {
                        exchange.to_send.append(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    exchange.partial(self.requests.has_begun(&exchange.received));
                    return Flow::AtLeast(need);
                }
                Ok(Next::Whole { length }) => {
                    if !self.answer(exchange, length) {
                        return Flow::Close;
                    }
                    exchange.partial(false);
                    if exchange.to_send.is_full() {
                        return Flow::Again;
                    }
                }
                Err(refused) => {
                    let text = format!("{refused}\n");
                    let response = Response::text(text).status(refused.status());
                    response.write(&mut exchange.to_send, true, false);
                    return Flow::Refuse(refused.into());
                }
            }
        }
    }

    /// A request that was cut gets no answer.
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if self.requests.has_begun(&exchange.received) {
            Flow::Refuse(Violation::Malformed("the peer finished in the middle of a request"))
        } else {
            Flow::Close
        }
    }
}

impl<A: Application> Http<A> {
    /// Answers the request of which `length` bytes are in front, and says whether others may
    /// follow.
    fn answer(&mut self, exchange: &mut Exchange<'_>, length: usize) -> bool {
        let request = self.requests.request(&exchange.received[..length]);
        let response = self.application.answer(&request);
        let is_last = exchange.draining() && exchange.received.len() == length;
        let goes_on = request.keeps_alive() && !response.closes && !is_last;
        response.write(&mut exchange.to_send, !goes_on, request.method == "HEAD");
        exchange.received.consume(length);
        goes_on
    }
}

/// What a request is answered with.
///
/// ```
/// use evmux::services::Response;
///
/// let json = Response::new("application/json", r#"{"open": 3}"#).header("Cache-Control", "no-store");
/// let gone = Response::text("no such page\n").status(404);
/// ```
#[derive(Clone, Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Body,
    closes: bool,
}

impl Response {
    /// Status 200 and `body`, which is of this `Content-Type`.
    pub fn new(content_type: &'static str, body: impl Into<Body>) -> Self {
        Self::empty(200).header("Content-Type", content_type).body(body)
    }

    /// Status 200 and plain text in UTF-8.
    pub fn text(body: impl Into<Body>) -> Self {
        Self::new("text/plain; charset=utf-8", body)
    }

    /// Status 200 and a page.
    pub fn html(body: impl Into<Body>) -> Self {
        Self::new("text/html; charset=utf-8", body)
    }

    /// A status of three digits, and its meaning as the text.
    pub fn error(status: u16) -> Self {
        Self::text(format!("{}\n", meaning(status))).status(status)
    }

    /// A status, and no body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::default(), closes: false }
    }

    /// With another status, of three digits.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With one more header. A control character in its value, such as a line end, becomes a blank:
    /// what a client sent may be part of it. `Content-Length` and `Connection` are not yours to
    /// say.
    ///
    /// # Panics
    /// When the name is not that of a header, or one of those two.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        assert!(is_name, "{name:?} is not the name of a header");
        let is_ours = ["content-length", "connection", "transfer-encoding"]
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name));
        assert!(!is_ours, "{name} is written by the connection");
        self.headers.push((name, value.into()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// The last on its connection.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    fn write(&self, out: &mut crate::Outgoing<'_>, is_last: bool, is_head: bool) {
        let body = self.body.as_ref();
        // Writing to what goes out cannot fail.
        let _ = write!(out, "HTTP/1.1 {:03} {}\r\n", self.status, meaning(self.status));
        for (name, value) in &self.headers {
            let value = value.replace(|character: char| character.is_control(), " ");
            let _ = write!(out, "{name}: {value}\r\n");
        }
        // These two never have a body, and so no length of one.
        let bodiless = matches!(self.status, 204 | 304);
        if !bodiless {
            let _ = write!(out, "Content-Length: {}\r\n", body.len());
        }
        if is_last {
            out.append(b"Connection: close\r\n");
        }
        out.append(b"\r\n");
        if !bodiless && !is_head {
            out.append(body);
        }
    }
}

/// What a status says to people.
fn meaning(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

impl From<Refused> for Violation {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooLong(numbers)
            | Refused::LineTooLong(numbers)
            | Refused::HeadTooLong(numbers) => numbers.into(),
            Refused::Malformed(what) => Self::Malformed(what),
            Refused::TooManyHeaders => Self::Malformed("too many headers"),
            Refused::UnknownEncoding => Self::Malformed("an unknown transfer encoding"),
            Refused::UnknownVersion => Self::Malformed("an unknown version of HTTP"),
            Refused::UnknownExpectation => Self::Malformed("an unknown expectation"),
        }
    }
}
