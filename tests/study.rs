//! The study guide stays true: the command of each chapter is run, and what it says one will see
//! is looked for.
//!
//! A chapter of docs/study has a block `sh study`, which bash runs in an empty directory with
//! `evmux` in its PATH and a free port in PORT, and a block `text study`. Each line of that must be
//! found in the output, in this order; `…` stands for what differs from run to run. The functions
//! that a chapter names beside a link to their file must be there.
//!
//! The pictures of a chapter are made by its block `sh picture`, in the same directory after those
//! commands. So are they here, to see that they can be made; `make study-pictures` keeps them.
//! What takes a browser is a block `sh page`, which is run there only.

use std::collections::BTreeSet;
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

/// Far more than any chapter takes, with the measurements of some pictures.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where to keep the pictures, for who wants to.
const KEPT: &str = "STUDY_PICTURES";

/// A picture that is drawn, and one of a page: many are seen over a slow line.
const LARGEST: &[(&str, u64)] = &[("svg", 60_000), ("png", 80_000)];

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

#[test]
fn every_picture_is_shown() {
    let shown: BTreeSet<_> = CHAPTERS
        .iter()
        .flat_map(|file| pictures(&fs::read_to_string(guide().join(file)).unwrap()))
        .collect();
    let found: BTreeSet<_> = fs::read_dir(guide())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| LARGEST.iter().any(|(kind, _)| name.ends_with(kind)))
        .collect();
    assert_eq!(found, shown);
}

#[test]
fn every_chapter_shows_a_picture_and_tells_it_to_who_cannot_see_it() {
    for file in CHAPTERS {
        let text = fs::read_to_string(guide().join(file)).unwrap();
        assert!(!pictures(&text).is_empty(), "{file} has no picture");
        for part in text.split("![").skip(1) {
            let (told, rest) = part.split_once("](").unwrap_or_default();
            let (name, rest) = rest.split_once(")\n\n").unwrap_or_default();
            assert!(told.len() > 60, "{file}: too little is told of a picture: {told:?}");
            let size = fs::metadata(guide().join(name)).map(|picture| picture.len());
            let size = size.unwrap_or_else(|why| panic!("{file}: {name}: {why}"));
            let kind = LARGEST.iter().find(|(kind, _)| name.ends_with(kind));
            let (_, largest) = kind.unwrap_or_else(|| panic!("{file}: what is {name}?"));
            assert!(size <= *largest, "{name} has {size} bytes");
            // What one sees in it, which is a paragraph and no block.
            let caption = rest.split("\n\n").next().unwrap_or_default();
            assert!(caption.len() > 60 && !caption.starts_with('`'), "{file}: {name}: {caption:?}");
        }
    }
}

#[track_caller]
fn chapter(file: &str) {
    let text = fs::read_to_string(guide().join(file)).unwrap();
    let heading = text.lines().next().unwrap_or_default();
    assert!(heading.starts_with("# ") && heading.ends_with('?'), "{heading:?} is no question");
    look_up_the_source(&text);
    let output = run(file, &text);
    let mut lines = output.lines();
    for expected in block(&text, "text study").lines() {
        let seen = lines.by_ref().any(|line| has(line, expected));
        assert!(seen, "{file}: no line is (or none behind the last one)\n{expected}\nin\n{output}");
    }
}

/// The text between the fences, which there must be one of.
#[track_caller]
fn block(text: &str, kind: &str) -> String {
    let mut parts = blocks(text, kind);
    let (Some(part), None) = (parts.pop(), parts.pop()) else {
        panic!("not one block of {kind}");
    };
    part
}

fn blocks(text: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    let parts = text.split(&fence).skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// The names of those that a chapter shows.
fn pictures(text: &str) -> Vec<String> {
    let parts = text.split("![").skip(1).filter_map(|part| part.split_once("]("));
    parts.filter_map(|(_, rest)| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// What bash is to run: the commands of a chapter, then those that make its pictures.
#[track_caller]
fn script(text: &str, are_kept: bool) -> String {
    let mut script = format!("exec 2>&1\n{}", block(text, "sh study"));
    if are_kept {
        script.push_str(&blocks(text, "sh page").concat());
    } else {
        // Whether a comparison can be drawn is seen of a short one, too.
        script.push_str("export EVMUX_QUICK=1 EVMUX_DURATION=20ms EVMUX_MODELS=threads,epoll\n");
    }
    script.push_str(&blocks(text, "sh picture").concat());
    script
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

/// What the commands of a chapter print. It fails when one of them does, or makes no picture.
#[track_caller]
fn run(file: &str, text: &str) -> String {
    let kept = std::env::var_os(KEPT).map(PathBuf::from);
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("study-{}-{file}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    for tool in ["clients.py", "timeline.py", "drawing.py", "chart.py", "page.py"] {
        fs::copy(guide().join(tool), directory.join(tool)).unwrap();
    }
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
        .args(["-euc", &script(text, kept.is_some())])
        .current_dir(&directory)
        .env("PATH", path)
        .env("PORT", port.to_string())
        // What drives a browser.
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
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
    for name in pictures(text) {
        let made = directory.join(&name);
        match &kept {
            Some(folder) => drop(fs::copy(&made, folder.join(&name)).expect(&name)),
            // Of a page there is one only where there is a browser.
            None if name.ends_with(".png") => {}
            None => assert!(made.metadata().is_ok_and(|it| it.len() > 0), "{file} makes no {name}"),
        }
    }
    let _ = fs::remove_dir_all(&directory);
    output
}
