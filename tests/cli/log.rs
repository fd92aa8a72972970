//! What is in the log, and what is not.

use std::fs;

use rustix::process::Signal;

use crate::binary::{Server, ask, evmux};
use crate::{MODELS, last_line};

#[test]
fn rust_log_decides_what_is_logged() {
    let mut command = evmux(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("RUST_LOG", "off");
    assert_eq!(Server::spawn(command).end(Signal::TERM).stderr, "");

    let mut command = evmux(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("RUST_LOG", "a=b=c");
    let log = Server::spawn(command).end(Signal::TERM).stderr;
    assert!(log.lines().next().unwrap().contains("RUST_LOG is ignored"), "{log}");
    assert!(last_line(&log).contains("served 0 connections"), "{log}");
}

#[test]
fn a_connection_is_not_logged_at_info() {
    let lines = |clients: usize| {
        let server = Server::start(&[]);
        for _ in 0..clients {
            server.ask(b"x");
        }
        server.end(Signal::TERM).stderr.lines().count()
    };
    assert_eq!(lines(20), lines(0));
}

#[test]
fn a_backlog_that_somaxconn_cuts_is_said() {
    let Ok(limit) = fs::read_to_string("/proc/sys/net/core/somaxconn") else {
        // Nothing to compare with.
        return;
    };
    let limit: u64 = limit.trim().parse().unwrap();
    let more = (limit + 1).to_string();
    let log = Server::start(&["--backlog", &more]).end(Signal::TERM).stderr;
    assert!(log.contains("somaxconn") && log.contains(&more), "{log}");
    let log = Server::start(&["--backlog", "1"]).end(Signal::TERM).stderr;
    assert!(!log.contains("somaxconn"), "{log}");
}

#[test]
fn octets_that_are_too_few_are_told_at_the_default_level_once_a_second() {
    for model in MODELS {
        let mut server = Server::start(&["--service", "sixteen", "--model", model]);
        let stream = server.connect();
        let client = stream.local_addr().unwrap();
        assert_eq!(ask(stream, b"only eleven"), b"");
        let line = server.wait_for_log("WARN");
        let expected = format!("refused {client}: the peer finished after 11 of 16 bytes");
        assert!(line.ends_with(&expected), "{model}: {line}");
        for _ in 0..50 {
            assert_eq!(server.ask(b"short"), b"");
        }
        // The server lives.
        assert_eq!(server.ask(b"Hi there, server"), b"Farewell, client");
        let log = server.end(Signal::TERM).stderr;
        let warnings = log.lines().filter(|line| line.contains("WARN")).count();
        // One a second, however long these fifty took.
        assert!(warnings < 50, "{model}: {log}");
    }
}
