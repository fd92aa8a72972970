//! `evmux client xmlrpc` against answers that no good server gives; Python's server is its peer in
//! `tests/peers/test_clients.py`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::binary::{Answered, PATIENCE, Server, evmux, feed};

/// Calls `add 1 -2` at a server that gives this answer, and returns what it was asked.
fn call(answer: Vec<u8>) -> (Answered, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"</methodCall>\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        // A client that has read enough may have gone.
        let _ = stream.write_all(&answer);
        String::from_utf8(request).unwrap()
    });
    let answered = feed(evmux(&["client", "xmlrpc", &url, "add", "1", "-2"]), b"");
    (answered, served.join().unwrap())
}

fn with_head(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap()
}

const MINUS_ONE: &[u8] = b"<?xml version='1.0'?><methodResponse><params><param>\
    <value><int>-1</int></value></param></params></methodResponse>";

#[test]
fn a_call_is_a_post_to_the_usual_path() {
    let (answered, request) = call(with_head("", MINUS_ONE));
    assert_eq!(answered.ok(), b"-1\n");
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /RPC2 HTTP/1.1\r\n"), "{head}");
    let head = head.to_lowercase();
    for field in ["content-type: text/xml", "accept-encoding: gzip"] {
        assert!(head.contains(field), "{head}");
    }
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert!(body.contains("<methodName>add</methodName>"), "{body}");
    assert!(body.contains("<value><int>-2</int></value>"), "{body}");
}

#[test]
fn our_own_server_computes_what_the_slides_print() {
    let server = Server::start(&["--service", "xmlrpc"]);
    let url = format!("http://{}", server.address);
    let call = |words: &[&str]| feed(evmux(&[&["client", "xmlrpc", &url], words].concat()), b"");
    assert_eq!(call(&["addtogether", "x", "y", "z"]).ok(), b"xyz\n");
    assert_eq!(call(&["addtogether", "1", "2", "3", "4", "5"]).ok(), b"15\n");
    assert_eq!(call(&["quadratic", "2", "-4", "0"]).ok(), b"[0.0, 8.0]\n");
    assert_eq!(call(&["divide", "-7", "2"]).ok(), b"-4\n");
    let long = "straße".repeat(10_000);
    assert_eq!(call(&["upper", &long]).ok(), ("STRASSE".repeat(10_000) + "\n").as_bytes());
    let line = call(&["divide", "7", "0"]).failed();
    assert!(line.starts_with("evmux: fault 1: "), "{line}");
}

#[test]
fn a_zipped_answer_is_read() {
    let (answered, _) = call(with_head("Content-Encoding: gzip\r\n", &zipped(MINUS_ONE)));
    assert_eq!(answered.ok(), b"-1\n");
}

#[test]
fn no_good_answer_is_one_line_and_status_1() {
    // 40 MiB of blanks in 40 KiB.
    let bomb = zipped(&[b' '; 40 << 20]);
    let nested = "<value><array><data>".repeat(20_000);
    let fault =
        b"<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>4\
        </int></value></member><member><name>faultString</name><value><string>too\nmany</string>\
        </value></member></struct></value></fault></methodResponse>";
    for (answer, complaint) in [
        (with_head("", b"<html>no</html>"), "does not answer in XML-RPC"),
        (with_head("", b""), "does not answer in XML-RPC"),
        (with_head("", nested.as_bytes()), "does not answer in XML-RPC"),
        (with_head("Content-Encoding: gzip\r\n", &bomb), "more than the limit of 20971520"),
        (with_head("Content-Encoding: gzip\r\n", &bomb[..99]), "the answer: "),
        (with_head("Content-Encoding: gzip\r\n", b"not zipped"), "the answer: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<?xml".to_vec(), "the answer: "),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".to_vec(), "302 Found"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n".to_vec(), "the server says 404 Not Found"),
        (with_head("", fault), r"evmux: fault 4: too\nmany"),
    ] {
        let (answered, _) = call(answer);
        assert_eq!(answered.stdout, b"");
        let line = answered.failed();
        assert!(line.contains(complaint), "{line}");
    }
}

#[test]
fn an_argument_that_cannot_be_sent_is_a_mistake_on_the_command_line() {
    for argument in ["99999999999999999999", "[1", "1e999"] {
        let words = ["client", "xmlrpc", "http://127.0.0.1:1", "add", argument];
        let answered = feed(evmux(&words), b"");
        assert_eq!((answered.status, answered.stderr.lines().count()), (Some(2), 1));
        assert!(answered.stderr.contains(argument), "{}", answered.stderr);
    }
    // No XML has this character.
    let words = ["client", "xmlrpc", "http://127.0.0.1:1", "add", "\u{1}"];
    assert!(feed(evmux(&words), b"").failed().contains("cannot write the call"));
}
