//! What an application on HTTP gets, and what its clients do.

use evmux::codec::http1::Request;
use evmux::services::{Http, Response};
use evmux::{CloseReason, Limits, Violation};

use crate::talk::Talk;

fn page(request: &Request<'_>) -> Response {
    match request.path() {
        "/" => Response::text("hello\n"),
        "/echo" => Response::new("application/octet-stream", request.body.to_vec()),
        "/large" => Response::html("x".repeat(3_000_000)),
        "/header" => Response::empty(204)
            .header("X-Asked", request.query().unwrap_or("").replace('+', "\r\n")),
        "/last" => Response::text("bye\n").closing(),
        _ => Response::error(404),
    }
}

type Page = fn(&Request<'_>) -> Response;

fn talk() -> Talk<Http<Page>> {
    Talk::new(Http::new(page))
}

/// What is heard for these bytes alone.
fn answer(bytes: &str) -> (String, CloseReason) {
    let mut talk = talk();
    talk.say(bytes.as_bytes());
    (String::from_utf8_lossy(talk.heard()).into_owned(), talk.reason())
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n\r\nhello\n";

fn closing(answer: &str) -> String {
    answer.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)
}

#[test]
fn a_request_is_answered_and_the_connection_stays() {
    let mut talk = talk();
    assert_eq!(talk.say(b"GET / HTTP/1.1\r\n\r\n").heard(), HELLO.as_bytes());
    assert_eq!(talk.deadline(), None, "nothing has begun");
    assert_eq!(talk.say(b"GET / HTTP/1.1\r\n\r\n").heard(), HELLO.repeat(2).as_bytes());
    assert_eq!(talk.reason(), CloseReason::Finished);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (heard, _) = answer(
        "GET / HTTP/1.1\r\n\r\nPOST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\n\r\n",
    );
    let (first, rest) = heard.split_at(HELLO.len());
    assert_eq!(first, HELLO);
    assert!(rest.strip_suffix(HELLO).unwrap().ends_with("\r\nContent-Length: 2\r\n\r\nhi"));
}

#[test]
fn who_says_close_or_speaks_http_1_0_is_closed_and_heard_no_more() {
    for head in ["GET / HTTP/1.0\n\n", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"] {
        let (heard, reason) = answer(&format!("{head}GET /echo HTTP/1.1\r\n\r\n"));
        assert_eq!((heard, reason), (closing(HELLO), CloseReason::Served), "{head:?}");
    }
    let (heard, reason) = answer("GET /last HTTP/1.1\r\n\r\n");
    assert!(heard.contains("\r\nConnection: close\r\n"), "{heard}");
    assert_eq!(reason, CloseReason::Served);
}

#[test]
fn head_is_answered_without_the_body_that_it_tells_of() {
    let (heard, _) = answer("HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!(heard, HELLO.replace("hello\n", "") + HELLO);
}

#[test]
fn a_status_without_a_body_has_no_length_of_one() {
    let (heard, _) = answer("GET /header HTTP/1.1\r\n\r\n");
    assert_eq!(heard, "HTTP/1.1 204 No Content\r\nX-Asked: \r\n\r\n");
}

#[test]
fn what_a_client_sent_makes_no_header_of_its_own() {
    let (heard, _) = answer("GET /header?a+Evil:b HTTP/1.1\r\n\r\n");
    assert!(heard.contains("X-Asked: a  Evil:b\r\n"), "{heard}");
}

#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let mut talk = talk();
    talk.say(b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(talk.heard(), b"HTTP/1.1 100 Continue\r\n\r\n");
    talk.say(b"hi");
    assert!(talk.heard().ends_with(b"Content-Length: 2\r\n\r\nhi"));
}

#[test]
fn a_client_that_waits_with_too_much_is_refused_instead() {
    let (heard, _) =
        answer("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n");
    assert!(heard.starts_with("HTTP/1.1 413 Content Too Large\r\n"), "{heard}");
}

#[test]
fn a_refusal_stands_behind_the_answers_before_it_and_has_its_numbers() {
    let (heard, reason) =
        answer("GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\nx");
    let refusal = heard.strip_prefix(HELLO).unwrap();
    assert_eq!(
        refusal,
        "HTTP/1.1 413 Content Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 55\r\nConnection: close\r\n\r\n\
         body: 1048577 bytes are more than the limit of 1048576\n"
    );
    let violation = Violation::TooLong { length: 1_048_577, limit: 1 << 20 };
    assert_eq!(reason, CloseReason::Refused(violation));
    let (heard, reason) = answer("hello\r\n");
    assert!(heard.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{heard}");
    assert_eq!(reason, CloseReason::Refused(Violation::Malformed("not a request of HTTP")));
}

#[test]
fn a_request_that_is_cut_gets_no_answer() {
    for bytes in [
        "GET / HT",
        "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nh",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        let (heard, reason) = answer(bytes);
        assert_eq!(heard, "", "{bytes:?}");
        assert!(matches!(reason, CloseReason::Refused(Violation::Malformed(_))), "{reason}");
    }
}

#[test]
fn a_request_must_be_whole_in_time_even_if_its_chunks_were_taken() {
    for begun in [
        "G",
        "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        "GET / HTTP/1.1\r\n\r\nG",
    ] {
        assert!(talk().say(begun.as_bytes()).deadline().is_some(), "{begun:?}");
    }
    assert_eq!(talk().say(b"\r\n").deadline(), None);
}

#[test]
fn a_slow_reader_keeps_its_own_requests_waiting() {
    let limits = Limits::default().send_buffer(100_000);
    let mut talk = Talk::with(Http::new(page), limits, 10_000);
    let requests = "GET /large HTTP/1.1\r\n\r\n".repeat(5);
    talk.say(requests.as_bytes());
    assert!(talk.most_waiting() < 3_100_000, "{} bytes waited", talk.most_waiting());
    assert!(talk.heard().len() > 15_000_000);
}

#[test]
fn the_last_answer_of_a_server_that_goes_away_says_so() {
    let mut talk = talk();
    talk.say(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nh").drain();
    assert_eq!(talk.heard(), b"", "it may go on");
    talk.say(b"i");
    let heard = String::from_utf8_lossy(talk.heard()).into_owned();
    assert!(heard.contains("\r\nConnection: close\r\n\r\nhi"), "{heard}");

    let mut talk = self::talk();
    talk.say(b"GET / HTTP/1.1\r\n\r\n").drain();
    assert_eq!(talk.heard(), HELLO.as_bytes());
    assert_eq!(talk.reason(), CloseReason::Drained);
}

#[test]
fn all_that_had_come_is_answered_before_the_server_goes_away() {
    let mut talk = talk();
    talk.say(b"GET / HTTP/1.").drain();
    talk.say(b"1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    let expected = HELLO.to_owned() + &closing(HELLO);
    assert_eq!(String::from_utf8_lossy(talk.heard()), expected);
}

#[test]
#[should_panic = "is not the name of a header"]
fn a_program_cannot_name_a_header_what_is_no_name() {
    let _ = Response::text("").header("A:b", "");
}

#[test]
#[should_panic = "is written by the connection"]
fn a_program_cannot_say_where_a_response_ends() {
    let _ = Response::text("").header("content-length", "5");
}
