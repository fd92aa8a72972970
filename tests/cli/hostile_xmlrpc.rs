//! Clients that mean harm to the service `xmlrpc`, against the real binary: the same three things
//! are asked of each attack, see `hostile`. HTTP has more ways to be refused than a frame has, and
//! a document more ways to be large than its bytes.

use std::io::Write;
use std::net::Shutdown;

use evmux::codec::xmlrpc::{Fault, Value, read_response, write_call, write_response};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::binary::{Server, read_to_end};
use crate::hostile::{KINDS, each_kind, endure, flood, peak};

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST /RPC2 HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A call, and what is answered to it.
fn question_and_answer() -> (Vec<u8>, Vec<u8>) {
    let body = write_response(&"A".into()).unwrap();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let question = post("", write_call("upper", &["a".into()]).unwrap().as_bytes());
    (question, answer.into_bytes())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("an answer is text")
}

/// What the last of these answers says.
#[track_caller]
fn last_answer(answers: &str) -> Result<Value, Fault> {
    let body = &answers[answers.rfind("<?xml").expect("a document")..];
    read_response(body.as_bytes()).expect("an answer")
}

#[test]
fn requests_that_could_be_read_in_two_ways_or_are_too_large_are_refused() {
    let (question, answer) = question_and_answer();
    let junk = "x".repeat(1 << 16);
    for (name, attack, status) in [
        ("past-u64", "Content-Length: 99999999999999999999999\r\n\r\n", 413),
        ("u64", "Content-Length: 18446744073709551615\r\n\r\n", 413),
        ("too-long", "Content-Length: 1048577\r\n\r\n", 413),
        ("negative", "Content-Length: -1\r\n\r\n", 400),
        ("both", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("two", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        ("headers", "A: ", 431),
        ("chunk", "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413),
        ("extension", "Transfer-Encoding: chunked\r\n\r\n1;", 431),
        ("trailer", "Transfer-Encoding: chunked\r\n\r\n0\r\nA: ", 431),
    ] {
        let options = ["--service", "xmlrpc"];
        each_kind(&format!("xmlrpc-{name}"), &options, "refused", |server| {
            endure(server, &question, &answer, |mut attacker| {
                attacker.write_all(&question).unwrap();
                attacker.write_all(b"POST / HTTP/1.1\r\n").unwrap();
                attacker.write_all(attack.as_bytes()).unwrap();
                // It goes on without looking at what it was told.
                flood(&mut attacker, junk.as_bytes(), 64);
                attacker.shutdown(Shutdown::Write).unwrap();
                let heard = text(read_to_end(attacker));
                let refusal = heard.strip_prefix(std::str::from_utf8(&answer).unwrap());
                let refusal = refusal.unwrap_or_else(|| panic!("{name}: {heard}"));
                let status = format!("HTTP/1.1 {status} ");
                assert!(refusal.starts_with(&status), "{name}: {refusal}");
                assert!(refusal.contains("\r\nConnection: close\r\n"), "{name}: {refusal}");
            });
        });
    }
}

#[test]
fn documents_that_grow_or_nest_are_faults_and_the_next_call_is_answered() {
    let (question, answer) = question_and_answer();
    let called = |value: &str| {
        format!(
            "<methodCall><methodName>addtogether</methodName><params><param>{value}</param>\
             </params></methodCall>"
        )
    };
    let nested = |depth| {
        let (begin, end) = ("<value><array><data>", "</data></array></value>");
        called(&(begin.repeat(depth) + "<value/>" + &end.repeat(depth)))
    };
    let entities: String = ('b'..='j')
        .map(|name| {
            let before = char::from(name as u8 - 1);
            format!("<!ENTITY {name} \"{}\">", format!("&{before};").repeat(10))
        })
        .collect();
    let bomb = format!(
        "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\">{entities}]>{}",
        called("<value>&j;</value>")
    );
    for model in KINDS {
        let server = Server::start(&["--service", "xmlrpc", "--model", model]);
        for (document, told) in [
            (nested(20_000), "RecursionError"),
            ("<a>".repeat(300_000), "ResponseError"),
            (bomb.clone(), "a document type is not allowed"),
            (called("<value>&#0;</value>"), "reference to invalid character number"),
            (called(&format!("<value><i8>{}</i8></value>", "9".repeat(500_000))), "OverflowError"),
            ("<a ".to_owned() + &"b='c' ".repeat(150_000) + "/>", "ResponseError"),
        ] {
            endure(&server, &question, &answer, |mut attacker| {
                attacker.write_all(&post("", document.as_bytes())).unwrap();
                attacker.write_all(&question).unwrap();
                attacker.shutdown(Shutdown::Write).unwrap();
                let heard = text(read_to_end(attacker));
                let refusal = heard.strip_suffix(std::str::from_utf8(&answer).unwrap());
                let fault = last_answer(refusal.expect("the next call is answered")).unwrap_err();
                assert_eq!(fault.code, 1);
                assert!(fault.text.contains(told), "{}", fault.text);
            });
        }
    }
}

#[test]
fn what_is_packed_a_thousandfold_is_not_unpacked() {
    let (question, answer) = question_and_answer();
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    let blanks = vec![b' '; 1 << 20];
    for _ in 0..1000 {
        packer.write_all(&blanks).unwrap();
    }
    let packed = packer.finish().unwrap();
    assert!(packed.len() < 1 << 20, "it passes for a request");
    for model in KINDS {
        let server = Server::start(&["--service", "xmlrpc", "--model", model]);
        endure(&server, &question, &answer, |mut attacker| {
            attacker.write_all(&post("Content-Encoding: gzip\r\n", &packed)).unwrap();
            attacker.write_all(&question).unwrap();
            attacker.shutdown(Shutdown::Write).unwrap();
            let heard = text(read_to_end(attacker));
            assert!(heard.starts_with("HTTP/1.1 413 "), "{heard}");
            assert!(heard.ends_with(std::str::from_utf8(&answer).unwrap()), "{heard}");
        });
    }
}

#[test]
fn a_request_that_stalls_is_closed_at_the_frame_timeout() {
    let options = ["--service", "xmlrpc", "--frame-timeout", "200ms"];
    for (name, begun) in [
        ("line", "POST /RPC2"),
        ("head", "POST / HTTP/1.1\r\nHost: a\r\n"),
        ("body", "POST / HTTP/1.1\r\nContent-Length: 258\r\n\r\n<?xml"),
        ("chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<?xml\r\n"),
    ] {
        each_kind(&format!("xmlrpc-stalled-{name}"), &options, "incomplete", |server| {
            let mut attacker = server.connect();
            attacker.write_all(begun.as_bytes()).unwrap();
            assert_eq!(read_to_end(attacker), b"", "{name}");
        });
    }
}

/// The answers of a batch are in memory together, and each may be longer than its question.
#[test]
fn a_batch_of_the_longest_answers_costs_a_known_multiple_of_the_request() {
    const MOST: u64 = 20 << 10;
    let entry = "<value><struct><member><name>methodName</name><value>system.listMethods</value>\
                 </member><member><name>params</name><value><array><data/></array></value></member>\
                 </struct></value>";
    let count = 1_040_000 / entry.len();
    let document = format!(
        "<methodCall><methodName>system.multicall</methodName><params><param><value><array><data>\
         {}</data></array></value></param></params></methodCall>",
        entry.repeat(count)
    );
    for model in KINDS {
        let server = Server::start(&["--service", "xmlrpc", "--model", model]);
        let before = peak(&server);
        let mut attacker = server.connect();
        attacker.write_all(&post("", document.as_bytes())).unwrap();
        attacker.shutdown(Shutdown::Write).unwrap();
        let heard = text(read_to_end(attacker));
        let Ok(Value::Array(results)) = last_answer(&heard) else { panic!("{heard:.1000}") };
        assert_eq!(results.len(), count);
        let cost = peak(&server) - before;
        assert!(cost < MOST, "{count} calls cost {cost} KiB");
    }
}
