//! `evmux compare` and `evmux report`: real servers, a short while each.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::Scratch;
use crate::binary::{Process, evmux, run};

/// A directory that goes away with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let scratch = Scratch::file(name);
        Self(PathBuf::from(scratch.path()))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).expect(file)
    }

    fn results(&self) -> Value {
        serde_json::from_str(&self.read("results.json")).expect("results.json")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cells(results: &Value) -> &[Value] {
    results["cells"].as_array().expect("cells")
}

fn rounds(cell: &Value) -> &[Value] {
    cell["rounds"].as_array().expect("rounds")
}

fn answered(results: &Value) -> u64 {
    let of = |cell: &Value| -> u64 {
        rounds(cell).iter().map(|round| round["answered"].as_u64().expect("answered")).sum()
    };
    cells(results).iter().map(of).sum()
}

const SHORT: [&str; 4] = ["--duration", "100ms", "--size", "32"];

#[test]
fn a_comparison_writes_what_it_measured_and_a_report_that_needs_nobody_else() {
    let out = Directory::new("compare-whole");
    let line = ["compare", "--models", "threads,epoll", "--connections", "1,3", "--rounds", "2"];
    let scenarios = ["--scenario", "throughput", "--scenario", "latency"];
    let mut command = evmux(&line);
    command.args(scenarios).args(SHORT).args(["--out", out.path()]);
    // Of the user's own servers, and not of these.
    command.env("EVMUX_MAX_CONNECTIONS", "1").env("EVMUX_TRACE", "/nonexistent/trace");
    let ended = run(command);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("report.html"), "{}", ended.stdout);

    let results = out.results();
    assert_eq!(results["complete"], true);
    assert!(results["command"].as_str().expect("command").starts_with("evmux compare --models"));
    assert!(results["machine"]["kernel"].as_str().expect("kernel").starts_with("Linux"));
    // Two models, at two numbers of connections and four shares of the rate.
    assert_eq!(cells(&results).len(), 2 * (2 + 4));
    for cell in cells(&results) {
        assert_eq!(rounds(cell).len(), 2, "{cell}");
        for round in rounds(cell) {
            assert!(round["answered"].as_u64() > Some(0), "{round}");
            assert_eq!(round["errors"]["wrong"], 0);
            let server = &round["server"];
            assert!(server["cpu_ns_per_message"].as_f64() > Some(0.0), "{server}");
            // At least one call that receives and one that sends.
            assert!(server["calls_per_message"].as_f64() >= Some(1.9), "{server}");
            assert!(server["resident_bytes"].as_u64() > Some(100_000), "{server}");
            assert!(server["threads"].as_u64() >= Some(1), "{server}");
        }
    }
    let table = out.read("results.csv");
    assert_eq!(table.lines().count(), 1 + 12 * 2);

    let report = out.read("report.html");
    for piece in ["<!DOCTYPE html>", "<svg", "<title>", "threads", "epoll", "All figures", "±"] {
        assert!(report.contains(piece), "{piece}");
    }
    for foreign in ["<script", "src=", "href=\"http", "url(", "@import"] {
        assert!(!report.contains(foreign), "{foreign}");
    }

    // The same twice: all rounds of both, and every reply.
    let merged = Directory::new("compare-merged");
    let file = format!("{}/results.json", out.path());
    let ended = run(evmux(&["report", &file, &file, "--out", merged.path()]));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(answered(&merged.results()), 2 * answered(&results));
    assert!(merged.read("report.html").contains("<svg"));
}

/// Answers with the same bytes in upper case, or with a byte of its own among them.
const FOREIGN: &str = r#"
import socketserver, sys
class Upper(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data.upper().replace(b'Z', sys.argv[2].encode()))
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(('127.0.0.1', int(sys.argv[1])), Upper).serve_forever()
"#;

#[test]
fn another_server_stands_in_the_same_table_unless_it_gives_other_bytes() {
    let script = Scratch::file("foreign.py");
    fs::write(script.path(), FOREIGN).expect("a script");
    let out = Directory::new("compare-against");
    let right = format!("right=python3 {} {{port}} Z", script.path());
    let wrong = format!("wrong=python3 {} {{port}} z", script.path());
    let line = ["compare", "--models", "poll", "--connections", "2", "--rounds", "1"];
    let ended = run(evmux(
        &[
            &line[..],
            &SHORT,
            &["--scenario", "throughput", "--out", out.path()],
            &["--against", &right, "--against", &wrong],
        ]
        .concat(),
    ));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let results = out.results();
    let cell = |name: &str| {
        cells(&results).iter().find(|cell| cell["subject"] == name).expect("a cell").clone()
    };
    assert_eq!(rounds(&cell("poll")).len(), 1);
    let right = cell("right");
    assert!(rounds(&right)[0]["server"]["cpu_ns_per_message"].as_f64() > Some(0.0), "{right}");
    // What it counts itself nobody knows.
    assert!(rounds(&right)[0]["server"]["calls_per_message"].is_null());
    let wrong = cell("wrong");
    assert!(rounds(&wrong).is_empty());
    assert!(wrong["cannot"].as_str().expect("why").contains("other bytes"), "{wrong}");
    assert!(ended.stdout.contains("wrong"), "{}", ended.stdout);
}

#[test]
fn slow_clients_hold_up_who_serves_one_at_a_time() {
    let out = Directory::new("compare-slow");
    let line = ["compare", "--models", "sequential,pool,epoll", "--rounds", "1"];
    let ended = run(evmux(
        &[&line[..], &SHORT, &["--scenario", "slow-clients", "--out", out.path()]].concat(),
    ));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    for cell in cells(&out.results()) {
        let slow = cell["at"].as_u64().expect("at");
        let room = match cell["subject"].as_str() {
            Some("sequential") => 1,
            Some("pool") => 4,
            _ => u64::MAX,
        };
        let answered = rounds(cell)[0]["answered"].as_u64().expect("answered");
        assert_eq!(answered > 0, slow < room, "{} beside {slow}: {answered}", cell["subject"]);
    }
}

#[test]
fn a_comparison_that_is_broken_off_keeps_what_there_is_and_leaves_no_server_behind() {
    let out = Directory::new("compare-broken-off");
    let line = ["compare", "--models", "epoll", "--connections", "1", "--rounds", "1000"];
    let mut command = evmux(&line);
    command.args(SHORT).args(["--scenario", "throughput", "--out", out.path()]);
    command.stdout(Stdio::null());
    let mut process = Process::spawn(command);
    let id = process.id();
    while fs::metadata(out.0.join("results.json")).is_err() {
        // It is written after the first measurement.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    process.signal(Signal::INT);
    assert_eq!(process.status().code(), Some(130));
    let results = out.results();
    assert_eq!(results["complete"], false);
    assert!(answered(&results) > 0);
    assert!(out.read("report.html").contains("broken off"));
    let ours = format!("evmux-compare-{id}-");
    for process in fs::read_dir("/proc").expect("/proc").flatten() {
        let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        assert!(!line.contains(&ours), "{line} is still there");
    }
}

#[test]
fn what_cannot_be_compared_or_merged_is_said_in_one_line() {
    for (words, what) in [
        (&["--models", "epoll,fast"][..], "fast"),
        (&["--connections", "1,0"], "at least 1"),
        (&["--scenario", "everything"], "throughput"),
        (&["--service", "xmlrpc"], "upper, echo, lines, blocks"),
        (&["--rounds", "0"], "at least 1"),
        (&["--duration", "0s"], "more than zero"),
        (&["--size", "0"], "at least 1"),
        (&["--against", "nginx"], "{port}"),
        (&["--against", "epoll=x {port}"], "model of our own"),
    ] {
        let ended = run(evmux(&[&["compare"], words].concat()));
        assert_eq!(ended.status.code(), Some(2), "{words:?}");
        assert!(ended.stderr.contains(what), "{words:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
    let nowhere = run(evmux(&["report", "/nonexistent/results.json"]));
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(nowhere.stderr.starts_with("evmux: cannot read /nonexistent/results.json"));
    let file = Scratch::file("no-results.json");
    fs::write(file.path(), "{}").expect("a file");
    let out = Directory::new("report-nothing");
    let ended = run(evmux(&["report", file.path(), "--out", out.path()]));
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn logs_of_several_generators_are_merged_and_no_count_is_lost() {
    let server = crate::binary::Server::start(&["--service", "echo"]);
    let target = server.address.to_string();
    let logs = ["one.hlog", "other.hlog"].map(Scratch::file);
    for log in &logs {
        let ended = run(evmux(&[
            "load",
            &target,
            "--connections",
            "2",
            "--requests",
            "500",
            "--warmup",
            "0s",
            "--hlog",
            log.path(),
        ]));
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }
    let out = Directory::new("report-logs");
    let ended = run(evmux(&["report", logs[0].path(), logs[1].path(), "--out", out.path()]));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("1,000 replies"), "{}", ended.stdout);
    assert!(out.read("report.html").contains("1,000"));
}
