//! Where requests of HTTP begin and end, and which are refused because that could be read in two
//! ways.

use evmux::codec::http1::{MAX_HEAD, MAX_HEADERS, Next, Refused, Requests};
use proptest::prelude::*;

const LIMIT: usize = 1000;

/// What a caller does: bytes come in pieces, and what is done with goes.
#[derive(Default)]
struct Server {
    requests: Requests,
    received: Vec<u8>,
    /// `METHOD target body` of each.
    seen: Vec<String>,
    continues: usize,
    refused: Option<Refused>,
}

impl Server {
    fn receive(&mut self, piece: &[u8]) {
        self.received.extend_from_slice(piece);
        while self.refused.is_none() {
            match self.requests.next(&self.received, LIMIT) {
                Ok(Next::Whole { length }) => {
                    let request = self.requests.request(&self.received[..length]);
                    let body = String::from_utf8_lossy(request.body);
                    self.seen.push(format!("{} {} {body}", request.method, request.target));
                    self.received.drain(..length);
                }
                Ok(Next::Taken { length }) => {
                    assert!(length > 0);
                    self.received.drain(..length);
                }
                Ok(Next::Partial { need, expects_continue }) => {
                    assert!(need > self.received.len(), "what is there was asked for");
                    self.continues += usize::from(expects_continue);
                    break;
                }
                Err(refused) => self.refused = Some(refused),
            }
        }
    }

    fn whole(bytes: &[u8]) -> Self {
        let mut server = Self::default();
        server.receive(bytes);
        server
    }
}

#[track_caller]
fn seen(bytes: &str) -> Vec<String> {
    let server = Server::whole(bytes.as_bytes());
    assert_eq!(server.refused, None, "{bytes:?}");
    assert!(server.received.is_empty(), "{bytes:?}");
    server.seen
}

#[track_caller]
fn status(bytes: impl AsRef<[u8]>) -> u16 {
    let server = Server::whole(bytes.as_ref());
    let text = String::from_utf8_lossy(bytes.as_ref());
    assert!(server.seen.is_empty(), "{text:?} was {:?}", server.seen);
    server.refused.unwrap_or_else(|| panic!("{text:?} was not refused")).status()
}

/// A POST with this header and this behind it.
fn post(header: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

// ── what is a request ────────────────────────────────────────────────────────────────────────────

#[test]
fn requests_follow_each_other_without_a_gap() {
    let bytes = "GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\ncontent-LENGTH: 5\r\n\r\nhello\
                 PUT /c HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n\
                 HEAD /d HTTP/1.0\r\n\r\n";
    assert_eq!(seen(bytes), ["GET /a ", "POST /b hello", "PUT /c abcde", "HEAD /d "]);
}

#[test]
fn lines_of_a_head_may_end_with_a_line_feed_alone() {
    let bytes = "GET / HTTP/1.0\nHost: a\n\nPOST / HTTP/1.1\nContent-Length: 2\n\r\nhi";
    assert_eq!(seen(bytes), ["GET / ", "POST / hi"]);
}

#[test]
fn blank_lines_in_front_are_passed_over() {
    assert_eq!(seen("\r\n\n\r\nGET / HTTP/1.1\r\n\r\n\r\n"), ["GET / "]);
}

#[test]
fn chunks_may_have_extensions_trailers_and_many_digits() {
    let body =
        "000000000000000000000003 ; a=\"b;c\"\r\nabc\r\nA\r\n0123456789\r\n0\r\nWhat: ever\r\n\r\n";
    assert_eq!(seen(&chunked(body)), ["POST / abc0123456789"]);
}

#[test]
fn a_target_may_be_a_whole_url() {
    for (target, path, query) in [
        ("/", "/", None),
        ("/a/b?c=d?e", "/a/b", Some("c=d?e")),
        ("http://example.org", "/", None),
        ("http://example.org/a?b", "/a", Some("b")),
        ("http://example.org?b", "", Some("b")),
        ("*", "*", None),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\n\r\n").into_bytes();
        let mut requests = Requests::default();
        assert_eq!(requests.next(&bytes, 0), Ok(Next::Whole { length: bytes.len() }));
        let request = requests.request(&bytes);
        assert_eq!((request.path(), request.query()), (path, query), "{target}");
    }
}

#[test]
fn a_connection_is_kept_by_http_1_1_unless_the_client_says_close() {
    for (head, keeps) in [
        ("GET / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nconnection: TE , Close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: TE\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: closed\r\n\r\n", true),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
    ] {
        let mut requests = Requests::default();
        requests.next(head.as_bytes(), 0).unwrap();
        assert_eq!(requests.request(head.as_bytes()).keeps_alive(), keeps, "{head:?}");
    }
}

#[test]
fn headers_are_found_in_any_case() {
    let head = b"GET / HTTP/1.1\r\nX-Name:  two words \r\nx-name: again\r\nOdd: \xff\r\n\r\n";
    let mut requests = Requests::default();
    requests.next(head, 0).unwrap();
    let request = requests.request(head);
    assert_eq!(request.header("X-NAME"), Some("two words"));
    assert_eq!(request.header("odd"), None);
    assert_eq!(request.headers().nth(2), Some(("Odd", &b"\xff"[..])));
    assert!(!request.has_length());
}

#[test]
fn a_client_that_waits_is_told_once_to_go_on() {
    let head = post("Content-Length: 2\r\nExpect: 100-Continue", "");
    let mut server = Server::whole(head.as_bytes());
    assert_eq!(server.continues, 1);
    server.receive(b"h");
    server.receive(b"i");
    assert_eq!((server.continues, server.seen.len()), (1, 1));

    let mut server = Server::whole(head.replace("Length: 2", "Length: 0").as_bytes());
    assert_eq!((server.continues, server.seen.len()), (0, 1), "nothing to wait for");
    server.receive(head.as_bytes());
    assert_eq!(server.continues, 1, "another request");

    let server = Server::whole(post("Expect: 100-continue\r\nContent-Length: 2", "h").as_bytes());
    assert_eq!(server.continues, 0, "it has begun");
    let old = head.replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(Server::whole(old.as_bytes()).continues, 0, "HTTP/1.0 does not know it");

    let head = post("Transfer-Encoding: chunked\r\nExpect: 100-continue", "");
    let mut server = Server::whole(head.as_bytes());
    server.receive(b"2\r\n");
    server.receive(b"hi\r\n0\r\n\r\n");
    assert_eq!((server.continues, server.seen.len()), (1, 1));
}

#[test]
fn what_was_searched_is_not_searched_again() {
    let mut requests = Requests::default();
    let partial = |need| Ok(Next::Partial { need, expects_continue: false });
    assert_eq!(requests.next(b"GET / HTTP/1.1\r\nA: bcdefg", 0), partial(26));
    // Were the first bytes looked at again, this head would end.
    assert_eq!(requests.next(b"GET / HTTP/1.1\r\nA: \n\nefghi", 0), partial(27));

    let mut requests = Requests::default();
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(requests.next(head, 9), Ok(Next::Taken { length: head.len() }));
    assert_eq!(requests.next(b"1;abc", 9), partial(6));
    assert_eq!(requests.next(b"1;a\r\nd", 9), partial(7));
}

#[test]
fn a_body_is_asked_for_as_a_whole() {
    let head = post("Content-Length: 900", "");
    let mut requests = Requests::default();
    let need = head.len() + 900;
    let partial = Ok(Next::Partial { need, expects_continue: false });
    assert_eq!(requests.next(head.as_bytes(), LIMIT), partial);
}

// ── what is refused ──────────────────────────────────────────────────────────────────────────────

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for header in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2, 2",
        "Content-Length: -2",
        "Content-Length: +2",
        "Content-Length: 0x2",
        "Content-Length: 2 2",
        "Content-Length: 2.0",
        "Content-Length: \u{665}",
        "Content-Length:",
        "Content-Length : 2",
        " Content-Length: 2",
        "A: b\r\n Content-Length: 2",
        "A: b\r\n\tfolded",
        "A: b\rContent-Length: 2",
        "A: b\0",
        "Content-Length\x0b: 2",
        "Content-Length: 2\x0b",
        ": a",
        "no colon",
        "Host: b",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        assert_eq!(status(post(header, "hi")), 400, "{header:?}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(status(old), 400);
}

#[test]
fn other_transfer_encodings_are_not_implemented() {
    for value in
        ["gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "", "chunked;a"]
    {
        assert_eq!(
            status(post(&format!("Transfer-Encoding: {value}"), "0\r\n\r\n")),
            501,
            "{value:?}"
        );
    }
    assert_eq!(status(post("Transfer-Encoding: \x0bchunked", "0\r\n\r\n")), 400);
}

#[test]
fn what_is_not_http_is_refused_at_the_end_of_its_first_line() {
    for line in [
        "hello\n",
        "GET /\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET /a b HTTP/1.1\r\n",
        " GET / HTTP/1.1\r\n",
        "GET\t/ HTTP/1.1\r\n",
        "/ HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\r\n",
        "G\0T / HTTP/1.1\r\n",
        "GET / http/1.1\r\n",
        "\x16\x03\x01\x02\x00\n",
    ] {
        assert_eq!(status(line), 400, "{line:?}");
    }
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/11"] {
        assert_eq!(status(format!("GET / {version}\r\n")), 505, "{version}");
    }
}

#[test]
fn lengths_are_judged_before_anything_comes() {
    let too_long = |length| Some(Refused::TooLong(evmux::codec::TooLong { length, limit: 1000 }));
    for (length, refused) in [
        ("1001", too_long(1001)),
        ("18446744073709551615", too_long(u64::MAX)),
        ("18446744073709551616", too_long(u64::MAX)),
        ("99999999999999999999999999999999", too_long(u64::MAX)),
        ("000000000000000000000000000001000", None),
    ] {
        let server = Server::whole(post(&format!("Content-Length: {length}"), "").as_bytes());
        assert_eq!(server.refused, refused, "{length}");
    }
    for (size, refused) in [
        ("3e9", too_long(1001)),
        ("ffffffffffffffff", too_long(u64::MAX)),
        ("fffffffffffffffff", too_long(u64::MAX)),
        ("1\r\na\r\n3e8", too_long(1001)),
        ("1\r\na\r\nffffffffffffffff", too_long(u64::MAX)),
        ("3e8", None),
    ] {
        let server = Server::whole(chunked(&format!("{size}\r\n")).as_bytes());
        assert_eq!(server.refused, refused, "{size}");
    }
    assert_eq!(too_long(0).unwrap().status(), 413);
}

#[test]
fn chunks_that_could_be_read_in_two_ways_are_refused() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5 5\r\nhello\r\n",
        "g\r\n",
        "\r\n",
        ";a\r\n",
        "5;a\rb\r\nhello\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n",
        "0\r\n\n",
        "0\r\nA: b\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\n folded\r\n\r\n",
    ] {
        assert_eq!(status(chunked(body)), 400, "{body:?}");
    }
}

#[test]
fn what_is_not_payload_has_its_limit() {
    let long = "a".repeat(MAX_HEAD);
    assert_eq!(status(&long), 414);
    assert_eq!(status(format!("GET /{long}")), 414);
    assert_eq!(status(format!("GET / HTTP/1.1\r\nA: {long}")), 431);
    assert_eq!(
        status(format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1))),
        431
    );
    assert_eq!(seen(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS))).len(), 1);
    assert_eq!(status(chunked(&format!("5;{long}"))), 431, "an endless extension");
    let extended = format!("1;{}\r\nx\r\n", "a".repeat(100));
    assert_eq!(status(chunked(&extended.repeat(800))), 431, "many");
    assert_eq!(status(chunked(&format!("0\r\nA: {long}"))), 431, "an endless trailer");
    assert_eq!(status(chunked(&format!("0\r\n{}", "A: b\r\n".repeat(MAX_HEAD / 6 + 1)))), 431);

    let whole = MAX_HEAD - "GET / HTTP/1.1\r\nA: \r\n\r\n".len();
    let head = |value: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", &long[..value]);
    assert_eq!(seen(&head(whole)).len(), 1);
    assert_eq!(status(head(whole + 1)), 431);
}

#[test]
fn an_unknown_expectation_is_refused() {
    assert_eq!(status(post("Expect: tea", "")), 417);
}

// ── pieces ───────────────────────────────────────────────────────────────────────────────────────

fn request() -> impl Strategy<Value = String> {
    let body = "[ -~]{0,40}";
    prop_oneof![
        body.prop_map(|body| post(&format!("Content-Length: {}", body.len()), &body)),
        body.prop_map(|body| format!("PUT /a HTTP/1.1\nContent-Length: {}\n\n{body}", body.len())),
        (proptest::collection::vec("[ -~]{1,20}", 0..5), any::<bool>()).prop_map(
            |(pieces, more)| {
                let chunk = |piece: &String| {
                    format!("{:x}{}\r\n{piece}\r\n", piece.len(), if more { " ;a=b" } else { "" })
                };
                let chunks: String = pieces.iter().map(chunk).collect();
                chunked(&format!("{chunks}0\r\n{}\r\n", if more { "Trailer: a\r\n" } else { "" }))
            }
        ),
        Just("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        Just("GET / HTTP/1.1\r\nA : b\r\n\r\n".to_owned()),
        Just(post("Content-Length: 5000", "")),
        Just(chunked("2\r\nabc\r\n")),
    ]
}

proptest! {
    #[test]
    fn however_requests_are_cut_they_are_the_same(
        requests in proptest::collection::vec(request(), 1..6),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
    ) {
        let bytes = requests.concat().into_bytes();
        let whole = Server::whole(&bytes);
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let mut cut = Server::default();
        for pair in places.windows(2) {
            cut.receive(&bytes[pair[0]..pair[1]]);
        }
        let mut single = Server::default();
        bytes.chunks(1).for_each(|byte| single.receive(byte));
        for other in [cut, single] {
            prop_assert_eq!(&whole.seen, &other.seen);
            prop_assert_eq!(whole.refused, other.refused);
        }
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_judged(
        pieces in proptest::collection::vec(proptest::sample::select(&[
            "GET", "POST", " ", "/", "HTTP/1.1", "HTTP/1.0", "\r\n", "\r\n", "\n", "\r", ":",
            "Content-Length: ", "Transfer-Encoding: chunked", "5", "0", "-", "a", "\0", "é", ";",
            "POST / HTTP/1.1\r\n", "Expect: 100-continue\r\n",
        ][..]), 0..60),
    ) {
        let bytes = pieces.concat().into_bytes();
        let whole = Server::whole(&bytes);
        let mut single = Server::default();
        bytes.chunks(1).for_each(|byte| single.receive(byte));
        prop_assert_eq!(&whole.seen, &single.seen);
        prop_assert_eq!(whole.refused, single.refused);
    }
}
