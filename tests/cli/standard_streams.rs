//! stdout and stderr that are closed, full or blocked: nothing waits for them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};

use rustix::pipe::fcntl_getpipe_size;
use rustix::process::Signal;

use crate::binary::{
    Process, ask, connect_when_ready, evmux, evmux_after, free_address, read_to_end,
};

/// Serves a client and ends in order, wherever stdout and stderr may lead.
#[track_caller]
fn serves_and_ends(setup: impl FnOnce(&[&str]) -> Command) {
    let address = free_address();
    let listen = address.to_string();
    let command = setup(&["serve", "--listen", &listen]);
    let mut process = Process::spawn(command);
    for _ in 0..3 {
        assert_eq!(ask(connect_when_ready(address), b"still here"), b"STILL HERE");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.status().code(), Some(0));
}

#[test]
fn closed_stdout_and_stderr_stop_nothing() {
    serves_and_ends(|words| evmux_after("exec >&- 2>&-", words));
    serves_and_ends(|words| evmux_after("exec <&- >&- 2>&-", words));
}

#[test]
fn a_full_disk_under_stdout_and_stderr_stops_nothing() {
    serves_and_ends(|words| {
        let mut command = evmux(words);
        let full = || File::options().write(true).open("/dev/full").unwrap();
        command.env("RUST_LOG", "trace").stdout(full()).stderr(full());
        command
    });
}

#[test]
fn pipes_whose_reader_went_away_stop_nothing() {
    serves_and_ends(|words| {
        let mut command = evmux(words);
        // The readers are dropped here.
        let (stdout, stderr) = (io::pipe().unwrap().1, io::pipe().unwrap().1);
        command.env("RUST_LOG", "trace").stdout(stdout).stderr(stderr);
        command
    });
}

/// A pipe that takes nothing more, and whoever could read it.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    let size = fcntl_getpipe_size(&writer).unwrap();
    writer.write_all(&vec![b'\n'; size]).unwrap();
    (reader, writer)
}

#[test]
fn full_pipes_that_nobody_reads_stop_nothing() {
    let (stdout_reader, stdout) = full_pipe();
    let (stderr_reader, stderr) = full_pipe();
    serves_and_ends(|words| {
        let mut command = evmux(words);
        command.env("RUST_LOG", "trace").stdout(stdout).stderr(stderr);
        command
    });
    drop((stdout_reader, stderr_reader));
}

#[test]
fn a_usage_error_ends_although_nobody_reads_it() {
    let (reader, stderr) = full_pipe();
    let mut command = evmux(&["serve", "--model", "kqueue"]);
    command.stderr(stderr);
    assert_eq!(Process::spawn(command).status().code(), Some(2));
    drop(reader);
}

#[test]
fn a_log_that_is_read_again_tells_the_rest() {
    let (reader, stderr) = full_pipe();
    let mut command = evmux(&["serve", "--listen", "127.0.0.1:0", "--drain-timeout", "5m"]);
    command.args(["--service", "lines"]).stdout(Stdio::piped()).stderr(stderr);
    let mut process = Process::spawn(command);
    let ready = process.stdout().next().expect("a ready line");
    let address = ready.split(' ').nth(4).unwrap().parse().unwrap();
    let mut stream = connect_when_ready(address);
    stream.write_all(b"whole\nbegun").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    process.signal(Signal::TERM);
    // While the drain waits for the end of the line, the log is blocked. Now it is not.
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("SIGTERM")));
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(stream), b"BEGUN");
    assert_eq!(process.status().code(), Some(0));
    assert!(lines.last().unwrap().contains("served "));
}
