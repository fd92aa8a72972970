//! SIGTERM and SIGINT: the first drains, the second ends.

use std::io::{Read, Write};

use rustix::process::Signal;

use crate::binary::{Ended, Server, read_to_end};
use crate::{MODELS, last_line};

#[test]
fn sigterm_and_sigint_drain_and_end_with_status_0_and_the_numbers() {
    for model in MODELS {
        for signal in [Signal::TERM, Signal::INT] {
            let server = Server::start(&["--model", model]);
            assert_eq!(server.ask(b"one"), b"ONE");
            assert_eq!(server.ask(b"twelve"), b"TWELVE");
            let Ended { status, stderr, .. } = server.end(signal);
            assert_eq!(status.code(), Some(0), "{model}: {stderr}");
            let line = last_line(&stderr);
            let (_, numbers) = line.split_once("] ").expect("a log line");
            assert!(numbers.starts_with("served 2 connections, 9 bytes in, 9 out, "), "{line}");
            // Exactly that, then receives, sends and waits, and nothing else.
            let words: Vec<_> = numbers.split(' ').collect();
            assert_eq!(words.len(), 14, "{line}");
            assert_eq!(words[9], "receives,", "{line}");
            assert_eq!(words[11], "sends,", "{line}");
            assert_eq!(words[13], "waits", "{line}");
            for number in [words[8], words[10], words[12]] {
                number.parse::<u64>().expect("a number");
            }
        }
    }
}

#[test]
fn what_has_come_before_the_signal_is_answered() {
    for model in MODELS {
        let server = Server::start(&["--model", model, "--service", "lines"]);
        let mut streams: Vec<_> = (0..3).map(|_| server.connect()).collect();
        for stream in &mut streams {
            stream.write_all(b"a line\n").unwrap();
        }
        // The sequential server takes the next one when the first has gone.
        server.process.signal(Signal::TERM);
        for stream in streams {
            assert_eq!(read_to_end(stream), b"A LINE\n", "{model}");
        }
        assert_eq!(server.wait().status.code(), Some(0), "{model}");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second, status) in [
        (Signal::TERM, Signal::TERM, 143),
        (Signal::TERM, Signal::INT, 130),
        (Signal::INT, Signal::TERM, 143),
        (Signal::INT, Signal::INT, 130),
    ] {
        // A begun line keeps the drain waiting.
        let mut server = Server::start(&["--service", "lines", "--drain-timeout", "10m"]);
        let mut stream = server.connect();
        stream.write_all(b"whole\nbegun").unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
        server.process.signal(first);
        server.wait_for_log("draining");
        server.process.signal(second);
        assert_eq!(server.wait().status.code(), Some(status));
    }
}

#[test]
fn a_second_signal_ends_even_a_loop_that_is_stuck() {
    for model in MODELS {
        for (second, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let mut server =
                Server::start(&["--service", "busy", "--busy", "1h", "--model", model]);
            let mut stream = server.connect();
            stream.write_all(b"whole\n").unwrap();
            server.process.signal(Signal::TERM);
            server.wait_for_log("draining");
            server.process.signal(second);
            assert_eq!(server.wait().status.code(), Some(status), "{model}");
        }
    }
}

#[test]
fn what_is_still_open_at_the_drain_timeout_is_cut_counted_and_logged() {
    for model in MODELS {
        let words = ["--service", "lines", "--drain-timeout", "300ms", "--model", model];
        let server = Server::start(&words);
        let mut stream = server.connect();
        stream.write_all(b"whole\nbegun").unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
        let Ended { status, stderr, .. } = server.end(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{model}: {stderr}");
        let cut = stderr.lines().find(|line| line.contains("cut off")).expect("a line about it");
        assert!(cut.ends_with("300ms, and cut off: 1"), "{model}: {cut}");
        assert!(last_line(&stderr).contains("served 1 connections"), "{model}: {stderr}");
    }
}

#[test]
fn a_drain_timeout_of_zero_is_allowed() {
    let server = Server::start(&["--service", "lines", "--drain-timeout", "0s"]);
    let mut stream = server.connect();
    stream.write_all(b"whole\nbegun").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));
}
