//! A whole request, for who answers it.

/// A request: its line, its headers, its body.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`, ...; a method's name is in capitals.
    pub method: &'a str,
    /// What is asked for, as it was sent: `/path?query`, or a whole URL.
    pub target: &'a str,
    /// The body, without the chunks that it may have come in.
    pub body: &'a [u8],
    /// The most bytes that a body may have here: what one that is packed may be unpacked to.
    pub max_body: usize,
    pub(super) minor: u8,
    pub(super) headers: Vec<httparse::Header<'a>>,
}

impl<'a> Request<'a> {
    /// The path of the target, as it was sent: `%41` stays `%41`.
    ///
    /// ```
    /// use evmux::codec::http1::{Next, Requests};
    ///
    /// let bytes = b"GET /metrics?all HTTP/1.1\r\n\r\n";
    /// let mut requests = Requests::default();
    /// assert_eq!(requests.next(bytes, 0), Ok(Next::Whole { length: bytes.len() }));
    /// let request = requests.request(bytes);
    /// assert_eq!((request.path(), request.query()), ("/metrics", Some("all")));
    /// ```
    pub fn path(&self) -> &'a str {
        let target = self.local_target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// What stands behind the question mark of the target.
    pub fn query(&self) -> Option<&'a str> {
        self.local_target().split_once('?').map(|(_, query)| query)
    }

    /// The value of the first header of this name, in any case; none, too, when it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.all(name).next().and_then(|value| str::from_utf8(value).ok())
    }

    /// The headers in the order in which they came, with the blanks around their values cut off.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// Whether the client will send other requests on this connection: not with HTTP/1.0, nor when
    /// it says `Connection: close`.
    pub fn keeps_alive(&self) -> bool {
        self.minor > 0 && !self.lists("connection", "close")
    }

    /// Whether the client said how long its body is, be it by chunks.
    pub fn has_length(&self) -> bool {
        ["content-length", "transfer-encoding"].iter().any(|name| self.all(name).next().is_some())
    }

    /// Whether a header that is a list has this word in it.
    fn lists(&self, name: &str, word: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// The target without the scheme and the host, which clients send to proxies.
    fn local_target(&self) -> &'a str {
        if self.target.starts_with('/') {
            return self.target;
        }
        match self.target.split_once("://") {
            Some((_, rest)) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
            None => self.target,
        }
    }
}
