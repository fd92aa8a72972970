//! The study guide stays true: the command of each chapter is run, and what it says one will see
//! is looked for.
//!
//! A chapter of docs/study has a block `sh study`, which bash runs in an empty directory with
//! `evmux` in its PATH and a free port in PORT, and a block `text study`. Each line of that must be
//! found in the output, in this order; `…` stands for what differs from run to run. The functions
//! that a chapter names beside a link to their file must be there.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// Far more than any chapter takes.
const PATIENCE: Duration = Duration::from_secs(180);

macro_rules! chapters {
    ($($name:ident $file:literal)*) => {
        const CHAPTERS: &[&str] = &[$($file),*];

        $(#[test]
        fn $name() {
            chapter($file);
        })*
    };
}

chapters! {
    what_blocking_means "01-blocking.md"
    one_slow_client_under_each_model "02-one-slow-client.md"
    where_the_state_of_a_connection_lives "03-state.md"
    partial_writes "04-partial-writes.md"
    half_close "05-half-close.md"
    backpressure "06-backpressure.md"
    edge_or_level "07-edge-or-level.md"
    the_full_table_of_descriptors "08-full-table.md"
    fairness "09-fairness.md"
    when_threads_win "10-when-threads-win.md"
}

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/study")
}

#[test]
fn every_chapter_is_run_and_in_the_table_of_contents() {
    let mut found: Vec<_> = fs::read_dir(guide())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md") && name != "README.md")
        .collect();
    found.sort();
    assert_eq!(found, CHAPTERS);
    let contents = fs::read_to_string(guide().join("README.md")).unwrap();
    for name in CHAPTERS {
        assert!(contents.contains(&format!("]({name})")), "{name}");
    }
}

#[track_caller]
fn chapter(file: &str) {
    let text = fs::read_to_string(guide().join(file)).unwrap();
    let heading = text.lines().next().unwrap_or_default();
    assert!(heading.starts_with("# ") && heading.ends_with('?'), "{heading:?} is no question");
    look_up_the_source(&text);
    let output = run(file, &block(&text, "sh study"));
    let mut lines = output.lines();
    for expected in block(&text, "text study").lines() {
        let seen = lines.by_ref().any(|line| has(line, expected));
        assert!(seen, "{file}: no line is (or none behind the last one)\n{expected}\nin\n{output}");
    }
}

/// The text between the fences, which there must be one of.
#[track_caller]
fn block(text: &str, kind: &str) -> String {
    let fence = format!("```{kind}\n");
    let mut parts = text.split(&fence).skip(1);
    let (Some(part), None) = (parts.next(), parts.next()) else {
        panic!("not one block of {kind}");
    };
    part.split("```").next().unwrap_or_default().to_owned()
}

/// Whether the pieces of `expected` are in `line`, in this order. Columns may be wider there.
fn has(line: &str, expected: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, expected) = (squeeze(line), squeeze(expected));
    let mut rest = line.as_str();
    expected.split('…').map(str::trim).all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

/// The last name in backquotes before each link to a source file is in that file.
#[track_caller]
fn look_up_the_source(text: &str) {
    let (_, text) = text.split_once("The source:").expect("what explains it");
    let mut before = String::new();
    let mut links = 0;
    for part in text.split("](../../") {
        if links > 0 || !before.is_empty() {
            let path = part.split(')').next().unwrap_or_default();
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            let source = fs::read_to_string(&source).unwrap_or_else(|why| panic!("{path}: {why}"));
            let name = before.split('`').skip(1).step_by(2).last().unwrap_or_default();
            let is_there = !name.is_empty() && source.contains(name);
            assert!(is_there, "{path} has no {name:?}");
            links += 1;
        }
        before.push_str(part);
    }
    assert!(links > 0, "no source is named");
}

/// What the script prints. It fails when the script does.
#[track_caller]
fn run(file: &str, script: &str) -> String {
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("study-{}-{file}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::copy(guide().join("clients.py"), directory.join("clients.py")).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_evmux")).parent().unwrap();
    // The examples are built with the tests, unless these are run alone: `make study` builds them.
    let mut path = OsString::from(binary);
    path.push(":");
    path.push(binary.join("examples"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();

    let mut command = Command::new("bash");
    command
        .args(["-euc", &format!("exec 2>&1\n{script}")])
        .current_dir(&directory)
        .env("PATH", path)
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // So that a server whose script failed can be found.
        .process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EVMUX_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG");
    let mut child = command.spawn().expect("bash");
    let group = Pid::from_child(&child);
    let mut pipe = child.stdout.take().expect("it is a pipe");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        let _ = pipe.read_to_end(&mut output);
        let _ = sender.send(String::from_utf8_lossy(&output).into_owned());
    });
    let output = receiver.recv_timeout(PATIENCE);
    if output.is_err() {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().expect("its status");
    // Nobody is left when all went well.
    let _ = kill_process_group(group, Signal::KILL);
    let output = output.or_else(|_| receiver.recv()).expect("what it printed");
    assert!(status.success(), "{file}: {status}\n{output}");
    let _ = fs::remove_dir_all(&directory);
    output
}
