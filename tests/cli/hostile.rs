//! Clients that mean harm, against the real binary, under a model of each kind: each is refused in
//! a way that it can tell, the server's memory stays what it was, and another client is answered
//! before and after.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use serde_json::Value;

use crate::binary::{Server, read_to_end};
use crate::options::counted;

/// One that shares its thread between all clients, and one that does not.
pub(crate) const KINDS: [&str; 2] = ["epoll", "threads"];

/// What an attack may cost, in KiB: the frame of 1 MiB that a client may send, the buffers of its
/// connection, and what an allocator keeps. What is announced or sent here is a multiple of it.
const COST: u64 = 6 << 10;

/// Lets `attack` loose on `server`, beside a client that wants nothing but its answers.
#[track_caller]
pub(crate) fn endure(
    server: &Server,
    question: &[u8],
    answer: &[u8],
    attack: impl FnOnce(TcpStream),
) {
    let mut neighbour = server.connect();
    let mut ask = || {
        neighbour.write_all(question).expect("the server reads");
        let mut heard = vec![0; answer.len()];
        neighbour.read_exact(&mut heard).expect("the server answers");
        assert_eq!(heard, answer);
    };
    ask();
    let before = peak(server);
    attack(server.connect());
    ask();
    let cost = peak(server) - before;
    assert!(cost < COST, "the attack cost {cost} KiB");
}

/// The most memory that the server ever had, in KiB.
#[track_caller]
pub(crate) fn peak(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line for it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Serves with these options under each kind of model, and asserts that one client was `closed` so.
#[track_caller]
pub(crate) fn each_kind(name: &str, options: &[&str], closed: &str, client: impl Fn(&Server)) {
    for model in KINDS {
        let options = [options, &["--model", model]].concat();
        let counted: Value = counted(&format!("{name}-{model}"), &options, &client);
        assert_eq!(counted["closed"][closed], 1, "{model}: {counted}");
    }
}

/// Sends `bytes` as often as the server takes them, up to `times`.
pub(crate) fn flood(stream: &mut TcpStream, bytes: &[u8], times: usize) {
    for _ in 0..times {
        match stream.write_all(bytes) {
            Ok(()) => {}
            Err(error)
                if [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) =>
            {
                return;
            }
            Err(error) => panic!("neither taken nor refused: {error}"),
        }
    }
}

#[test]
fn a_block_that_announces_four_gibibytes_is_refused_by_its_header() {
    each_kind("announced", &["--service", "blocks"], "refused", |server| {
        endure(server, b"\0\0\0\x01a", b"\0\0\0\x01A", |mut attacker| {
            attacker.write_all(b"\0\0\0\x02hi\xff\xff\xff\xff").unwrap();
            flood(&mut attacker, &[b'x'; 1 << 16], 16);
            attacker.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(attacker), b"\0\0\0\x02HI");
        });
    });
}

#[test]
fn a_line_without_end_is_refused_when_it_is_longer_than_a_line_may_be() {
    for service in ["lines", "json"] {
        each_kind(&format!("endless-{service}"), &["--service", service], "refused", |server| {
            endure(server, b"1\n", b"1\n", |mut attacker| {
                attacker.write_all(b"2\n").unwrap();
                flood(&mut attacker, &[b'x'; 1 << 16], 1 << 10);
                attacker.shutdown(Shutdown::Write).unwrap();
                assert_eq!(read_to_end(attacker), b"2\n");
            });
        });
    }
}

#[test]
fn twenty_thousand_nested_arrays_are_an_error_and_the_next_value_is_answered() {
    for model in KINDS {
        let server = Server::start(&["--service", "json", "--model", model]);
        endure(&server, b"1\n", b"1\n", |mut attacker| {
            for depth in [20_000, 500_000] {
                let nested = format!("{}{}\n", "[".repeat(depth), "]".repeat(depth));
                attacker.write_all(nested.as_bytes()).unwrap();
            }
            attacker.write_all(b"\"next\"\n").unwrap();
            attacker.shutdown(Shutdown::Write).unwrap();
            let error = "{\"error\": \"nested deeper than 128\"}\n";
            let heard = String::from_utf8(read_to_end(attacker)).unwrap();
            assert_eq!(heard, format!("{error}{error}\"NEXT\"\n"));
        });
    }
}

#[test]
fn a_message_that_stalls_is_closed_at_the_frame_timeout() {
    for (service, begun) in [
        ("sixteen", &b"Hi there"[..]),
        ("blocks", b"\0\0\0\x05hal"),
        ("json", b"[\"half\""),
        ("zlib", b"half"),
    ] {
        let options = ["--service", service, "--frame-timeout", "200ms"];
        each_kind(&format!("stalled-{service}"), &options, "incomplete", |server| {
            let mut attacker = server.connect();
            attacker.write_all(begun).unwrap();
            assert_eq!(read_to_end(attacker), b"", "{service}");
        });
    }
}

#[test]
fn input_for_zlib_past_the_limit_breaks_the_stream_off() {
    // Half a mebibyte in would be a stream; what is sent is a hundred times as much.
    let options = ["--service", "zlib", "--max-frame", "512KiB"];
    each_kind("compressed", &options, "refused", |server| {
        let before = peak(server);
        let mut attacker = server.connect();
        let reader = attacker.try_clone().unwrap();
        let reader = thread::spawn(move || read_to_end(reader));
        flood(&mut attacker, &[b'x'; 1 << 16], 800);
        attacker.shutdown(Shutdown::Write).unwrap();
        let heard = reader.join().unwrap();
        assert!(flate2::read::ZlibDecoder::new(&*heard).read_to_end(&mut Vec::new()).is_err());
        assert_eq!(inflated(&server.ask(b"another client")), b"another client");
        let cost = peak(server) - before;
        assert!(cost < COST, "the attack cost {cost} KiB");
    });
}

fn inflated(stream: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(stream).read_to_end(&mut bytes).expect("a whole stream");
    bytes
}
