//! Each option reaches what it is for.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::binary::{Server, evmux, evmux_after, read_to_end};
use crate::{MODELS, Scratch};

#[test]
fn the_summary_is_json_and_replaces_what_the_file_held() {
    let file = Scratch::file("summary.json");
    fs::write(&file.0, "x".repeat(100_000)).unwrap();
    let server = Server::start(&["--service", "echo", "--summary", file.path()]);
    assert_eq!(server.ask(b"counted"), b"counted");
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));

    let text = fs::read_to_string(&file.0).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(summary["opened"], 1, "{text}");
    assert_eq!(summary["open"], 0, "{text}");
    assert_eq!(summary["closed"]["finished"], 1, "{text}");
    assert_eq!(summary["bytes_received"], 7, "{text}");
    assert_eq!(summary["bytes_sent"], 7, "{text}");
    assert_eq!(summary["sends"], 1, "{text}");
}

#[test]
fn the_limit_of_open_files_is_raised_to_the_hard_one() {
    let words = ["serve", "--listen", "127.0.0.1:0"];
    let server = Server::spawn(evmux_after("ulimit -Sn 64", &words));
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.process.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<_> = files.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{files}");
}

#[test]
fn a_port_can_be_taken_again_at_once() {
    let server = Server::start(&["--service", "hello"]);
    let address = server.address.to_string();
    // The server closes first, so the port stays in TIME_WAIT.
    assert!(!read_to_end(server.connect()).is_empty());
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));
    Server::spawn(evmux(&["serve", "--listen", &address]));
}

/// Serves `client` with these options, and returns what was counted.
#[track_caller]
pub(crate) fn counted(name: &str, options: &[&str], client: impl FnOnce(&Server)) -> Value {
    let file = Scratch::file(name);
    let server = Server::start(&[options, &["--summary", file.path()]].concat());
    client(&server);
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));
    serde_json::from_str(&fs::read_to_string(file.path()).unwrap()).expect("JSON")
}

#[test]
fn idle_timeout_closes_a_connection_on_which_nothing_moves() {
    for model in MODELS {
        let options = ["--idle-timeout", "200ms", "--model", model];
        let counted = counted(&format!("idle-{model}"), &options, |server| {
            assert_eq!(read_to_end(server.connect()), b"");
        });
        assert_eq!(counted["closed"]["idle"], 1, "{model}");
    }
}

#[test]
fn frame_timeout_closes_a_connection_with_a_begun_line() {
    for model in MODELS {
        let options = ["--service", "lines", "--frame-timeout", "200ms", "--model", model];
        let counted = counted(&format!("frame-{model}"), &options, |server| {
            let mut stream = server.connect();
            stream.write_all(b"whole\nbegun").unwrap();
            assert_eq!(read_to_end(stream), b"WHOLE\n");
        });
        assert_eq!(counted["closed"]["incomplete"], 1, "{model}");
    }
}

#[test]
fn write_timeout_cuts_a_client_that_reads_nothing() {
    for model in MODELS {
        let options = ["--service", "echo", "--write-timeout", "200ms", "--model", model];
        let counted = counted(&format!("write-{model}"), &options, |server| {
            let mut stream = server.connect();
            let more = [b'x'; 65536];
            // Until all buffers are full, and then until the cut.
            let end = loop {
                if let Err(error) = stream.write_all(&more) {
                    break error.kind();
                }
            };
            let cut = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            assert!(cut.contains(&end), "{model}: {end}");
        });
        assert_eq!(counted["closed"]["too_slow"], 1, "{model}");
    }
}

#[test]
fn send_buffer_limit_decides_whether_a_slow_reader_is_read_from() {
    // More than the kernel takes for both directions, so that the rest waits in the server.
    let sent = 64 << 20;
    for (limit, pauses) in [("64KiB", true), ("1GiB", false)] {
        let options = ["--service", "echo", "--send-buffer-limit", limit];
        let counted = counted(&format!("limit-{limit}"), &options, |server| {
            let mut reading = server.connect();
            let mut writing = reading.try_clone().unwrap();
            let writer = std::thread::spawn(move || {
                let more = vec![b'x'; 1 << 20];
                for _ in 0..sent / more.len() {
                    writing.write_all(&more).unwrap();
                }
                writing.shutdown(std::net::Shutdown::Write).unwrap();
            });
            if !pauses {
                // All of it is taken although nobody reads.
                writer.join().unwrap();
                assert_eq!(read_to_end(reading).len(), sent);
            } else {
                // The writer is stopped before its end, or this would see everything at once.
                std::thread::sleep(Duration::from_millis(300));
                assert!(!writer.is_finished());
                let mut all = Vec::new();
                reading.read_to_end(&mut all).unwrap();
                assert_eq!(all.len(), sent);
                writer.join().unwrap();
            }
        });
        assert_eq!(counted["paused"] != 0, pauses, "{limit}");
    }
}

#[test]
fn one_connection_past_max_connections_is_closed() {
    for model in ["threads", "poll", "epoll"] {
        let options = ["--max-connections", "1", "--model", model];
        let counted = counted(&format!("most-{model}"), &options, |server| {
            let mut first = server.connect();
            assert_eq!(answer(&mut first, b"in"), b"IN");
            assert_eq!(read_to_end(server.connect()), b"");
            assert_eq!(answer(&mut first, b"still in"), b"STILL IN");
        });
        assert_eq!(counted["refused_limit"], 1, "{model}");
        assert_eq!(counted["opened"], 1, "{model}");
    }
}

#[test]
fn threads_is_how_many_the_pool_serves_at_a_time() {
    let server = Server::start(&["--model", "pool", "--threads", "2"]);
    let (mut first, mut second) = (server.connect(), server.connect());
    assert_eq!(answer(&mut first, b"one"), b"ONE");
    assert_eq!(answer(&mut second, b"two"), b"TWO");
    let mut third = server.connect();
    third.write_all(b"three").unwrap();
    // However long this waits, nobody can answer.
    third.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(first);
    third.set_read_timeout(Some(crate::binary::PATIENCE)).unwrap();
    assert_eq!(answer(&mut third, b""), b"THREE");
}

#[test]
fn keep_alive_is_on_unless_switched_off() {
    for (options, timer) in [(&[][..], "02"), (&["--no-keepalive"], "00")] {
        let server = Server::start(options);
        let mut stream = server.connect();
        assert_eq!(answer(&mut stream, b"x"), b"X");
        // Its side of the connection, as the kernel lists it; 02 is a keep-alive timer.
        let (local, peer) = (server.address.port(), stream.local_addr().unwrap().port());
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let row = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>()).find(|row| {
            row[1].ends_with(&format!(":{local:04X}")) && row[2].ends_with(&format!(":{peer:04X}"))
        });
        let row = row.expect("the connection is listed");
        assert!(row[5].starts_with(timer), "{options:?}: {row:?}");
    }
}

/// Sends `bytes`, and reads what one read brings.
#[track_caller]
fn answer(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).unwrap();
    let mut answer = [0; 100];
    let count = stream.read(&mut answer).unwrap();
    answer[..count].to_vec()
}
