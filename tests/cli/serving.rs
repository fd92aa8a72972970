//! The line that says where the server listens, the services behind it, and what keeps it from
//! starting.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::MODELS;
use crate::binary::{Ended, Server, evmux, read_to_end, run};

// The ready line.

#[test]
fn the_ready_line_names_the_real_port_the_service_and_the_model() {
    for model in MODELS {
        let server = Server::start(&["--model", model, "--service", "echo"]);
        let expected =
            format!("evmux: listening on tcp {} (service echo, model {model})", server.address);
        assert_eq!(server.ready, expected);
        assert_ne!(server.address.port(), 0);
        assert_eq!(server.ask(b"there?"), b"there?");
    }
}

#[test]
fn the_ready_line_is_all_that_stdout_says() {
    let server = Server::start(&[]);
    assert!(server.ready.ends_with("(service upper, model epoll)"), "{}", server.ready);
    assert_eq!(server.end(Signal::TERM).stdout, "");
}

#[test]
fn an_ipv6_address_is_written_in_brackets() {
    if TcpListener::bind("[::1]:0").is_err() {
        // A machine without IPv6 cannot show it.
        return;
    }
    let server = Server::spawn(evmux(&["serve", "--listen", "[::1]:0"]));
    let expected = format!("evmux: listening on tcp [::1]:{} (", server.address.port());
    assert!(server.ready.starts_with(&expected), "{}", server.ready);
    assert_eq!(server.ask(b"six"), b"SIX");
}

#[test]
fn a_name_is_resolved() {
    let server = Server::spawn(evmux(&["serve", "--listen", "tcp:localhost:0"]));
    assert!(server.address.ip().is_loopback());
}

// Failures at run time.

/// Asserts that this fails at run time with one line, and returns the line.
#[track_caller]
fn failed(command: Command) -> String {
    let Ended { status, stdout, stderr } = run(command);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert_eq!(stdout, "");
    let lines: Vec<_> = stderr.lines().filter(|line| line.starts_with("evmux: ")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert_eq!(stderr.lines().last(), Some(lines[0]));
    assert!(!stderr.contains("panic"), "{stderr}");
    lines[0].to_string()
}

#[test]
fn an_address_in_use_is_one_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for model in MODELS {
        let line = failed(evmux(&["serve", "--model", model, "--listen", &address]));
        assert!(line.contains(&address), "{line}");
        assert!(line.contains("in use"), "{line}");
    }
}

#[test]
fn an_address_of_another_machine_is_one_line_and_status_1() {
    // Reserved for documentation: nobody has it.
    let line = failed(evmux(&["serve", "--listen", "192.0.2.1:9000"]));
    assert!(line.contains("192.0.2.1:9000"), "{line}");
}

#[test]
fn a_summary_that_cannot_be_written_is_said_before_anything_is_served() {
    let file = "/nonexistent/summary.json";
    let line = failed(evmux(&["serve", "--listen", "127.0.0.1:0", "--summary", file]));
    assert!(line.contains(file), "{line}");
}

// Services.

#[test]
fn upper_and_echo_answer_to_the_end() {
    let server = Server::start(&[]);
    assert_eq!(server.ask("straße\n".as_bytes()), b"STRASSE\n");
    let server = Server::start(&["--service", "echo"]);
    assert_eq!(server.ask(b"\x00\xff"), b"\x00\xff");
}

#[test]
fn once_answers_the_first_bytes_and_closes() {
    for (service, answer) in [("upper", b"ABC"), ("echo", b"abc")] {
        for model in MODELS {
            let server = Server::start(&["--once", "--service", service, "--model", model]);
            let mut stream = server.connect();
            stream.write_all(b"abc").unwrap();
            assert_eq!(read_to_end(stream), answer, "{service}, {model}");
        }
    }
}

#[test]
fn discard_answers_nothing() {
    let server = Server::start(&["--service", "discard"]);
    assert_eq!(server.ask(&[b'x'; 100_000]), b"");
}

#[test]
fn hello_says_who_the_client_is_or_what_it_was_told() {
    let server = Server::start(&["--service", "hello"]);
    assert_eq!(read_to_end(server.connect()), b"Hello 127.0.0.1\n");
    let text = "Thank you for connecting";
    let server = Server::start(&["--service", "hello", "--greeting", text]);
    assert_eq!(read_to_end(server.connect()), text.as_bytes());
    let server = Server::start(&["--service", "hello", "--greeting", "-\\n ß"]);
    assert_eq!(read_to_end(server.connect()), "-\\n ß".as_bytes());
}

#[test]
fn time_is_the_local_time_as_ctime_writes_it() {
    for zone in ["UTC", "Asia/Kolkata", "XYZ-5:30"] {
        let mut command = evmux(&["serve", "--listen", "127.0.0.1:0", "--service", "time"]);
        command.env("TZ", zone);
        let server = Server::spawn(command);
        let date = || {
            let mut date = Command::new("date");
            date.arg("+%a %b %e %H:%M:%S %Y").env("TZ", zone).env("LC_ALL", "C");
            date.output().unwrap().stdout
        };
        // The second may change between the two; not in each of many tries.
        let same = (0..100).any(|_| read_to_end(server.connect()) == date());
        assert!(same, "{zone}: {:?}", String::from_utf8(read_to_end(server.connect())));
    }
}

#[test]
fn lines_and_blocks_keep_to_max_frame() {
    let server = Server::start(&["--service", "lines", "--max-frame", "8"]);
    assert_eq!(server.ask(b"eight888\nab\r\nrest"), b"EIGHT888\nAB\r\nREST");
    assert_eq!(server.ask(b"good\nninetynin\nlost\n"), b"GOOD\n");
    let server = Server::start(&["--service", "blocks", "--max-frame", "8"]);
    assert_eq!(server.ask(b"\0\0\0\x02ab\0\0\0\0"), b"\0\0\0\x02AB\0\0\0\0");
    assert_eq!(server.ask(b"\0\0\0\x02ab\0\0\0\x09ninetynin"), b"\0\0\0\x02AB");
}

#[test]
fn busy_costs_processor_time_for_each_line() {
    let server = Server::start(&["--service", "busy", "--busy", "50ms"]);
    let start = Instant::now();
    assert_eq!(server.ask(b"a\nb\n"), b"A\nB\n");
    assert!(start.elapsed() >= Duration::from_millis(100));
}
