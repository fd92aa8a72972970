//! Help, mistakes on the command line, and the variables behind the options.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;

use rustix::process::Signal;

use crate::MODELS;
use crate::binary::{Ended, Process, Server, evmux, read_to_end, run};

#[test]
fn help_and_version_go_to_stdout_with_status_0() {
    for words in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["serve", "--help"],
        &["help", "serve"],
        &["client", "--help"],
        &["client", "tcp", "--help"],
        &["client", "help", "udp"],
        &["client", "blocks", "-h"],
        &["client", "sixteen", "--help"],
        &["client", "xmlrpc", "--help"],
        &["client", "http", "--help"],
        &["resolve", "--help"],
        &["sniff", "--help"],
        &["trace-text", "--help"],
        &["--version"],
        &["-V"],
    ] {
        let ended = run(evmux(words));
        assert_eq!(ended.status.code(), Some(0), "{words:?}");
        assert_eq!(ended.stderr, "", "{words:?}");
        assert!(!ended.stdout.is_empty(), "{words:?}");
    }
    let version = run(evmux(&["--version"])).stdout;
    assert_eq!(version, format!("evmux {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_help_of_serve_shows_what_works_and_nothing_else() {
    let help = run(evmux(&["serve", "--help"])).stdout;
    for option in [
        "service",
        "model",
        "listen",
        "threads",
        "reactors",
        "backlog",
        "max-connections",
        "idle-timeout",
        "write-timeout",
        "frame-timeout",
        "send-buffer-limit",
        "max-frame",
        "drain-delay",
        "drain-timeout",
        "admin",
        "greeting",
        "once",
        "busy",
        "no-keepalive",
        "summary",
        "trace",
    ] {
        assert!(help.contains(&format!("--{option}")), "--{option}");
        let variable = format!("EVMUX_{}", option.replace('-', "_").to_uppercase());
        assert!(help.contains(&variable), "{variable}");
    }
    for name in MODELS {
        assert!(help.contains(name), "{name}");
    }
    // Grouped: headings stand at the margin.
    let headings = help.lines().filter(|line| !line.starts_with(' ') && line.ends_with(':'));
    assert!(headings.count() > 3, "{help}");
}

#[test]
fn the_help_of_the_clients_names_their_options_and_variables() {
    for (words, options) in [
        (&["client", "tcp"][..], &["lines"][..]),
        (&["client", "udp"], &["retry-after", "give-up-after", "broadcast"]),
        (&["client", "http"], &["output"]),
        (&["sniff"], &["count"]),
        (&["trace-text"], &["connection"]),
    ] {
        let help = run(evmux(&[words, &["--help"]].concat())).stdout;
        for option in options {
            assert!(help.contains(&format!("--{option}")), "--{option}");
            let variable = format!("EVMUX_{}", option.replace('-', "_").to_uppercase());
            assert!(help.contains(&variable), "{variable}");
        }
    }
}

#[test]
fn help_harms_nothing_when_nobody_reads_it() {
    let mut command = evmux(&["serve", "--help"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(Process::spawn(command).status().code(), Some(0));
}

// Mistakes.

/// Asserts that this is a usage error in one line, and returns the line.
#[track_caller]
fn refused(command: Command) -> String {
    let Ended { status, stdout, stderr } = run(command);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stdout, "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("evmux: "), "{stderr}");
    assert!(!stderr.contains("panic"), "{stderr}");
    stderr
}

#[test]
fn every_mistake_on_the_command_line_is_one_line_and_status_2() {
    for words in [
        &[][..],
        &["frobnicate"],
        &["--frobnicate"],
        &["serve", "--frobnicate"],
        &["serve", "--modle", "poll"],
        &["serve", "stray"],
        &["serve", "--model"],
        &["serve", "--once=yes"],
        &["serve", "--model", "poll", "--model", "epoll"],
        &["serve", "--model", "io_uring"],
        &["serve", "--model", "two\nlines"],
        &["serve", "--two\n\nlines"],
        &["serve", "--service", "smtp"],
        &["serve", "--service", "UPPER"],
        &["serve", "--listen", "localhost"],
        &["serve", "--listen", "localhost:http"],
        &["serve", "--listen", "127.0.0.1:65536"],
        &["serve", "--listen", "::1:9000"],
        &["serve", "--service", "lines", "--listen", "udp:127.0.0.1:9000"],
        &["serve", "--service", "blocks", "--listen", "udp:127.0.0.1:9000"],
        &["serve", "--service", "busy", "--listen", "udp:127.0.0.1:9000"],
        &["serve", "--service", "sixteen", "--listen", "udp:127.0.0.1:9000"],
        &["serve", "--service", "json", "--listen", "udp:127.0.0.1:9000"],
        &["serve", "--service", "zlib", "--listen", "udp:127.0.0.1:9000"],
        &["serve", "--service", "xmlrpc", "--listen", "udp:127.0.0.1:9000"],
        &["serve", "--listen", "unix:"],
        &["serve", "--listen", ""],
        &["serve", "--model", "pool", "--threads", "0"],
        &["serve", "--model", "pool", "--threads", "-1"],
        &["serve", "--model", "pool", "--threads", "four"],
        &["serve", "--model", "pool", "--threads", "99999999999999999999"],
        &["serve", "--reactors", "0"],
        &["serve", "--backlog", "0"],
        &["serve", "--backlog", "2147483648"],
        &["serve", "--max-connections", "0"],
        &["serve", "--max-connections", "1.5"],
        &["serve", "--idle-timeout", "0s"],
        &["serve", "--idle-timeout", "30"],
        &["serve", "--write-timeout", "0ms"],
        &["serve", "--write-timeout", "soon"],
        &["serve", "--service", "lines", "--frame-timeout", "0s"],
        &["serve", "--send-buffer-limit", "0"],
        &["serve", "--send-buffer-limit", "1XB"],
        &["serve", "--service", "lines", "--max-frame", "0KiB"],
        &["serve", "--service", "lines", "--max-frame", "-1"],
        &["serve", "--drain-timeout", "ten"],
        &["serve", "--service", "busy", "--busy", "much"],
        &["client"],
        &["client", "frobnicate"],
        &["client", "tcp"],
        &["client", "tcp", "localhost"],
        &["client", "tcp", "localhost:99999"],
        &["client", "tcp", "udp:localhost:9"],
        &["client", "tcp", "localhost:9", "two", "messages"],
        &["client", "tcp", "localhost:9", "--line"],
        &["client", "udp", "localhost:9"],
        &["client", "udp", "localhost:9", "x", "--retry-after", "0s"],
        &["client", "udp", "localhost:9", "x", "--retry-after", "3s"],
        &["client", "udp", "localhost:9", "x", "--give-up-after", "later"],
        &["client", "blocks", "localhost:9"],
        &["client", "sixteen", "localhost:9", "stray"],
        &["client", "http", "x", "-o"],
        &["resolve", "one", "two", "three"],
        &["sniff", "--count", "0"],
        &["trace-text"],
        &["trace-text", "x", "--connection", "0"],
        &["trace-text", "x", "--connection", "one"],
    ] {
        refused(evmux(words));
    }
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let line = refused(evmux(&["serve", "--service", "uper"]));
    assert!(line.contains("uper"), "{line}");
    assert!(
        line.contains(
            "upper, echo, discard, hello, time, sixteen, lines, blocks, json, zlib, xmlrpc, busy"
        ),
        "{line}"
    );
    let line = refused(evmux(&["serve", "--model", "kqueue"]));
    assert!(line.contains("kqueue"), "{line}");
    assert!(line.contains("sequential, threads, pool, poll, epoll"), "{line}");
}

#[test]
fn the_sequential_model_takes_one_listener() {
    let two = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let line = refused(evmux(&[&["serve", "--model", "sequential"], two.as_slice()].concat()));
    assert!(line.contains("one address only"), "{line}");
}

#[test]
fn a_service_of_streams_is_not_served_over_udp() {
    let line = refused(evmux(&["serve", "--service", "lines", "--listen", "udp:127.0.0.1:0"]));
    let why = "the service lines is not for UDP; upper, echo, discard, hello and time are";
    assert!(line.contains(why), "{line}");
}

/// Options that concern some services or models only, with a value, and one that they do not
/// concern.
const SELECTIVE: [(&str, Option<&str>, &[&str]); 8] = [
    ("reactors", Some("2"), &["--model", "poll"]),
    ("threads", Some("2"), &["--model", "epoll"]),
    ("greeting", Some("hi"), &["--service", "upper"]),
    ("once", None, &["--service", "lines"]),
    ("busy", Some("1ms"), &["--service", "lines"]),
    ("max-frame", Some("1KiB"), &["--service", "echo"]),
    ("max-frame", Some("1KiB"), &["--service", "sixteen"]),
    ("frame-timeout", Some("1s"), &["--service", "time"]),
];

#[test]
fn a_flag_that_does_not_concern_the_service_or_the_model_is_refused() {
    for (option, value, elsewhere) in SELECTIVE {
        let option = format!("--{option}");
        let mut words = vec!["serve", option.as_str()];
        words.extend(value);
        words.extend(elsewhere);
        let line = refused(evmux(&words));
        assert!(line.contains(&option), "{line}");
    }
}

#[test]
fn a_variable_that_does_not_concern_the_service_or_the_model_is_ignored() {
    for (option, _, elsewhere) in SELECTIVE {
        let variable = format!("EVMUX_{}", option.replace('-', "_").to_uppercase());
        let mut command = evmux(&["serve", "--listen", "127.0.0.1:0"]);
        // Not even looked at.
        command.args(elsewhere).env(variable, "nonsense");
        assert_eq!(Server::spawn(command).end(Signal::TERM).status.code(), Some(0));
    }
}

#[test]
fn a_mistake_in_a_variable_names_the_variable() {
    for (variable, value, words) in [
        ("EVMUX_MODEL", "kqueue", &[][..]),
        ("EVMUX_SERVICE", "uper", &[]),
        ("EVMUX_LISTEN", "localhost", &[]),
        ("EVMUX_BACKLOG", "0", &[]),
        ("EVMUX_MAX_CONNECTIONS", "0", &[]),
        ("EVMUX_IDLE_TIMEOUT", "0s", &[]),
        ("EVMUX_DRAIN_DELAY", "soon", &[]),
        ("EVMUX_ADMIN", "udp:localhost:9090", &[]),
        ("EVMUX_WRITE_TIMEOUT", "0s", &[]),
        ("EVMUX_SEND_BUFFER_LIMIT", "0", &[]),
        ("EVMUX_NO_KEEPALIVE", "perhaps", &[]),
        ("EVMUX_ONCE", "perhaps", &[]),
        ("EVMUX_THREADS", "0", &["--model", "pool"]),
        ("EVMUX_MAX_FRAME", "0", &["--service", "blocks"]),
        ("EVMUX_FRAME_TIMEOUT", "0s", &["--service", "blocks"]),
        ("EVMUX_BUSY", "much", &["--service", "busy"]),
    ] {
        let mut command = evmux(&["serve"]);
        command.args(words).env(variable, value);
        let line = refused(command);
        assert!(line.contains(variable), "{line}");
    }
}

// Variables.

#[test]
fn each_option_can_be_given_by_its_variable() {
    let mut command = evmux(&["serve"]);
    command
        .env("EVMUX_LISTEN", "127.0.0.1:0")
        .env("EVMUX_SERVICE", "echo")
        .env("EVMUX_MODEL", "poll")
        .env("EVMUX_ONCE", "true");
    let server = Server::spawn(command);
    assert!(server.ready.ends_with("(service echo, model poll)"), "{}", server.ready);
    let mut stream = server.connect();
    stream.write_all(b"once").unwrap();
    assert_eq!(read_to_end(stream), b"once");
}

#[test]
fn a_flag_beats_its_variable_whatever_that_holds() {
    let mut command = evmux(&["serve", "--listen", "127.0.0.1:0", "--model", "pool"]);
    command.args(["--threads", "1", "--service", "echo"]);
    command
        .env("EVMUX_LISTEN", "nonsense")
        .env("EVMUX_MODEL", "kqueue")
        .env("EVMUX_THREADS", "0")
        .env("EVMUX_SERVICE", "hello");
    let server = Server::spawn(command);
    assert!(server.ready.ends_with("(service echo, model pool)"), "{}", server.ready);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let mut command = evmux(&["serve", "--listen", "127.0.0.1:0"]);
    for variable in ["SERVICE", "MODEL", "THREADS", "IDLE_TIMEOUT", "ONCE", "SUMMARY", "BACKLOG"] {
        command.env(format!("EVMUX_{variable}"), "");
    }
    let server = Server::spawn(command);
    assert!(server.ready.ends_with("(service upper, model epoll)"), "{}", server.ready);
}

#[test]
fn a_switch_can_be_switched_off_by_its_variable() {
    let mut command = evmux(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("EVMUX_ONCE", "0").env("EVMUX_NO_KEEPALIVE", "false");
    let server = Server::spawn(command);
    let mut stream = server.connect();
    let mut answer = [0; 3];
    for _ in 0..2 {
        stream.write_all(b"two").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"TWO");
    }
}
