//! `--trace` and `trace-text`: the timeline of a real server, checked by rules of our own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::Scratch;
use crate::binary::{Process, Server, evmux, read_to_end, run};

/// What the checker has found in a timeline.
#[derive(Default)]
struct Checked {
    /// Peers of all connections, by number.
    lives: BTreeMap<u64, String>,
    /// Why they ended, of those that have.
    reasons: BTreeMap<u64, String>,
    /// Who was at a stage of this name, or has a record of this name.
    seen: BTreeMap<String, BTreeSet<u64>>,
    /// Slices, by name.
    slices: BTreeMap<String, u64>,
    tracks: BTreeSet<String>,
    /// The largest count of each name, and the last one.
    counts: BTreeMap<String, (u64, u64)>,
}

/// Panics unless `text` is a timeline: every field is there, time goes forwards, slices of a track
/// nest, what begins ends, in its own life, and each life is one.
#[track_caller]
fn check(text: &str) -> Checked {
    assert!(text.starts_with("{\"displayTimeUnit\":"), "{}", &text[..40.min(text.len())]);
    let document: Value = serde_json::from_str(text).expect("JSON");
    let mut checked = Checked::default();
    let mut named = BTreeSet::new();
    let mut last = 0;
    let mut enclosing: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut lives: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in document["traceEvents"].as_array().expect("a list") {
        let name = event["name"].as_str().unwrap_or_else(|| panic!("{event}")).to_owned();
        let track = event["tid"].as_u64().unwrap_or_else(|| panic!("{event}"));
        assert!(event["pid"].as_u64().is_some(), "{event}");
        let at = nanos(&event["ts"]);
        let kind = event["ph"].as_str().unwrap_or_else(|| panic!("{event}"));
        let args = &event["args"];
        let number = args["connection"].as_u64();
        if kind == "M" {
            let text = args["name"].as_str().unwrap_or_else(|| panic!("{event}"));
            if name == "thread_name" {
                named.insert(track);
                assert!(checked.tracks.insert(text.to_owned()), "two tracks are called {text}");
            }
            continue;
        }
        assert!(at >= last, "time goes backwards at {event}");
        last = at;
        assert!(named.contains(&track), "a track without a name: {event}");
        match kind {
            "X" => {
                let end = at + nanos(&event["dur"]);
                let ends = enclosing.entry(track).or_default();
                ends.retain(|&outer| outer > at);
                assert!(ends.iter().all(|&outer| outer >= end), "overlaps its neighbour: {event}");
                ends.push(end);
                *checked.slices.entry(name).or_default() += 1;
            }
            "i" => {
                assert_eq!(event["s"], "t", "{event}");
                let number = number.unwrap_or_else(|| panic!("{event}"));
                checked.seen.entry(name).or_default().insert(number);
            }
            "C" => {
                let values: Vec<_> = args.as_object().expect("counts").values().collect();
                let [value] = values[..] else { panic!("{event}") };
                let value = value.as_u64().unwrap_or_else(|| panic!("{event}"));
                let (most, last) = checked.counts.entry(name).or_default();
                *most = value.max(*most);
                *last = value;
            }
            "b" | "n" | "e" => {
                assert_eq!(event["cat"], "connection", "{event}");
                let id = event["id"].as_str().unwrap_or_else(|| panic!("{event}"));
                match kind {
                    "b" => {
                        let number = number.unwrap_or_else(|| panic!("{event}"));
                        assert_eq!(id, format!("{number:#x}"), "{event}");
                        let open = lives.entry(id.to_owned()).or_default();
                        if open.is_empty() {
                            assert_eq!(name, format!("connection {number}"));
                            let peer = args["peer"].as_str().unwrap_or_else(|| panic!("{event}"));
                            let twice = checked.lives.insert(number, peer.to_owned());
                            assert!(twice.is_none(), "{event} lives twice");
                        } else {
                            assert_eq!(open.len(), 1, "a stage within a stage: {event}");
                            checked.seen.entry(name.clone()).or_default().insert(number);
                        }
                        open.push(name);
                    }
                    "n" => assert!(lives.get(id).is_some_and(|open| open.len() == 2), "{event}"),
                    _ => {
                        let open = lives.get_mut(id).and_then(Vec::pop);
                        assert_eq!(open.as_deref(), Some(&*name), "{event}");
                        if let Some(reason) = args["reason"].as_str() {
                            checked.reasons.insert(number.expect("whose"), reason.to_owned());
                        }
                    }
                }
            }
            _ => panic!("what is {event}"),
        }
    }
    for (id, open) in lives {
        assert!(open.is_empty(), "{id} never ends: {open:?}");
    }
    checked
}

/// A time of the file, which has microseconds with three digits behind the point.
#[track_caller]
fn nanos(time: &Value) -> u64 {
    let micros = time.as_f64().unwrap_or_else(|| panic!("{time} is no time"));
    assert!((0.0..1e15).contains(&micros), "{micros}");
    (micros * 1000.0).round() as u64
}

/// Rather more than all buffers between two sockets hold.
const LONG: usize = 32 << 20;

/// A client that sends much, and reads nothing for now.
fn slow_reader(server: &Server) -> TcpStream {
    let stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    thread::spawn(move || {
        writer.write_all(&vec![b'x'; LONG]).expect("the server reads when we do");
        writer.shutdown(Shutdown::Write).expect("an end");
    });
    stream
}

fn fast_clients(server: &Server, count: usize) {
    let mut streams: Vec<_> = (0..count).map(|_| server.connect()).collect();
    for _ in 0..3 {
        for stream in &mut streams {
            stream.write_all(b"word").unwrap();
        }
        for stream in &mut streams {
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"word");
        }
    }
}

/// A hundred clients, of which two read slowly: the file at SIGUSR1 shows the two of them paused,
/// that at exit all of the lives.
fn a_hundred_with_two_slow_readers(model: &str, wait: &str, run_name: &str) {
    let file = Scratch::file(&format!("trace-{model}.json"));
    let words = ["--service", "echo", "--model", model, "--send-buffer-limit", "8MiB"];
    let mut server = Server::start(&[words.as_slice(), &["--trace", file.path()]].concat());
    let slow = [slow_reader(&server), slow_reader(&server)];
    fast_clients(&server, 98);
    let paused = loop {
        server.process.signal(Signal::USR1);
        server.wait_for_log("SIGUSR1: the trace is in");
        let checked = check(&fs::read_to_string(file.path()).unwrap());
        match checked.seen.get("paused") {
            Some(paused) if paused.len() == 2 => break paused.clone(),
            // The next signal looks again: that costs more time than a pause takes to come.
            _ => {}
        }
    };
    // One after the other, so that one of them waits for long.
    for stream in slow {
        assert_eq!(read_to_end(stream).len(), LONG);
    }
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));

    let checked = check(&fs::read_to_string(file.path()).unwrap());
    assert_eq!(checked.lives.len(), 100);
    assert_eq!(checked.lives.values().collect::<BTreeSet<_>>().len(), 100);
    assert_eq!(checked.reasons.len(), 100);
    assert!(checked.reasons.values().all(|reason| reason == "finished"), "{:?}", checked.reasons);
    if model == "epoll" {
        // More waits than the kernel has room for. A blocking send may take all of it, or nothing.
        assert!(paused.is_subset(&checked.seen["partial send"]), "{:?}", checked.seen);
    }
    assert!(paused.is_subset(&checked.seen["resumed"]), "{:?}", checked.seen["resumed"]);
    assert!(checked.slices[wait] > 0, "{:?}", checked.slices);
    // Everyone asked three times.
    assert!(checked.slices[run_name] >= 300, "{:?}", checked.slices);
    let (most, last) = checked.counts["open connections"];
    assert!(most >= 98 && last == 0, "{most}, {last}");
    let (most, last) = checked.counts["waiting bytes"];
    assert!(most > 0 && last == 0, "{most}, {last}");

    for number in paused {
        let text = run(evmux(&["trace-text", file.path(), "--connection", &number.to_string()]));
        assert_eq!((text.status.code(), text.stderr.as_str()), (Some(0), ""));
        let has = |what: &str| assert!(text.stdout.contains(what), "{what}: {}", text.stdout);
        has(&format!("connection {number} from {}, on ", checked.lives[&number]));
        has("is paused");
        has("closed          finished");
        has(&format!("{LONG} bytes received, {LONG} sent"));
    }
    let text = run(evmux(&["trace-text", file.path()])).stdout;
    assert!(text.starts_with(&format!("service echo, model {model}: ")), "{text}");
    for number in checked.lives.keys() {
        assert!(text.contains(&format!("connection {number} ")), "{number}");
    }
}

#[test]
fn a_hundred_clients_and_two_slow_readers_under_epoll() {
    a_hundred_with_two_slow_readers("epoll", "turn", "run");
}

#[test]
fn a_hundred_clients_and_two_slow_readers_under_threads() {
    a_hundred_with_two_slow_readers("threads", "wait", "call");
}

/// As long as one can go on and waits, every other one spends one budget at most, and a budget is 16
/// receives of 64 KiB.
#[test]
fn who_has_spent_a_budget_waits_for_one_budget_of_each_other() {
    // Whether the floods are there at the same time is not in our hands.
    let met = (0..100).any(|_| waits_for_another_flood() > 0);
    assert!(met, "nobody had to wait for another one");
}

/// How often one of two floods waited while the other had its turn.
fn waits_for_another_flood() -> usize {
    let file = Scratch::file("trace-fair.json");
    let server = Server::start(&["--service", "echo", "--trace", file.path()]);
    let floods = [slow_reader(&server), slow_reader(&server)];
    let floods = floods.map(|stream| thread::spawn(|| read_to_end(stream).len()));
    fast_clients(&server, 20);
    assert_eq!(floods.map(|flood| flood.join().unwrap()), [LONG; 2]);
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));

    let document: Value = serde_json::from_str(&fs::read_to_string(file.path()).unwrap()).unwrap();
    // Who can go on, with those that have spent a budget since.
    let mut waiting: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let (mut met, mut most) = (0, 0);
    for event in document["traceEvents"].as_array().expect("a list") {
        let number = event["args"]["connection"].as_u64();
        match (event["name"].as_str(), number) {
            (Some("run"), Some(number)) => {
                most = most.max(event["args"]["received"].as_u64().expect("bytes"));
                waiting.remove(&number);
            }
            // It is told twice: on the thread's track, and on the connection's.
            (Some("spent budget"), Some(number)) if event["ph"] == "i" => {
                for (other, spent) in &mut waiting {
                    assert!(spent.insert(number), "{number} twice while {other} waits: {event}");
                    met += 1;
                }
                waiting.insert(number, BTreeSet::new());
            }
            _ => {}
        }
    }
    assert!(most > 65_536 && most <= 16 * 65_536, "{most}");
    met
}

#[test]
fn a_few_clients_under_the_other_ways_of_waiting() {
    for (words, track) in [
        (&["--model", "sequential"][..], "sequential"),
        (&["--model", "pool"], "pool #1"),
        (&["--model", "poll"], "poll"),
        (&["--model", "epoll", "--reactors", "2"], "reactor 0"),
    ] {
        let file = Scratch::file(&format!("trace-few-{}.json", words.join("-")));
        let server = Server::start(&[words, &["--trace", file.path()]].concat());
        for _ in 0..5 {
            assert_eq!(server.ask(b"word"), b"WORD");
        }
        assert_eq!(server.end(Signal::TERM).status.code(), Some(0));
        let checked = check(&fs::read_to_string(file.path()).unwrap());
        assert_eq!(checked.lives.len(), 5, "{words:?}");
        assert_eq!(checked.reasons.len(), 5, "{words:?}");
        assert!(checked.tracks.contains(track), "{:?}", checked.tracks);
    }
}

#[test]
fn a_trace_that_cannot_be_written_is_found_before_anything_is_served() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    for path in ["/nonexistent/trace.json", directory, "/proc/version", ""] {
        let ended = run(evmux(&["serve", "--listen", "127.0.0.1:0", "--trace", path]));
        assert_eq!(ended.status.code(), Some(1), "{path}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{path}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.starts_with("evmux: cannot write the trace to "), "{}", ended.stderr);
    }
}

#[test]
fn a_device_is_written_to_and_not_replaced() {
    let server = Server::start(&["--trace", "/dev/null"]);
    assert_eq!(server.ask(b"word"), b"WORD");
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));
    use std::os::unix::fs::FileTypeExt;
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn sigusr1_without_a_trace_ends_nothing() {
    let server = Server::start(&[]);
    for _ in 0..3 {
        server.process.signal(Signal::USR1);
        assert_eq!(server.ask(b"word"), b"WORD");
    }
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));
}

#[test]
fn a_file_that_is_no_trace_is_one_line_and_status_1() {
    let nested = format!("{{\"traceEvents\":{}", "[".repeat(100_000));
    let event = |event: &str| format!("{{\"traceEvents\":[{event}]}}");
    let texts = [
        String::new(),
        "{".into(),
        "[]".into(),
        "{}".into(),
        "{\"traceEvents\":{}}".into(),
        "\u{0}\u{1}\u{1b}[31m".into(),
        nested,
        event("1"),
        event("{\"ph\":7}"),
        event("{\"ph\":\"X\",\"ts\":-1}"),
        event("{\"ph\":\"X\",\"ts\":\"soon\"}"),
        event("{\"ph\":\"X\",\"ts\":1e300}"),
        event("{\"ph\":\"X\",\"ts\":1,\"dur\":1e16}"),
        event("{\"ph\":\"X\",\"tid\":-1}"),
        event("{\"ph\":\"i\",\"args\":{\"connection\":1.5}}"),
    ];
    let file = Scratch::file("no-trace.json");
    for text in texts {
        fs::write(file.path(), &text).unwrap();
        let ended = run(evmux(&["trace-text", file.path()]));
        assert_eq!(ended.status.code(), Some(1), "{text:.40}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{text:.40}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("evmux: cannot read "), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panic"), "{}", ended.stderr);
    }
    let ended = run(evmux(&["trace-text", "/nonexistent"]));
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.starts_with("evmux: cannot read /nonexistent: "), "{}", ended.stderr);
}

#[test]
fn what_a_foreign_trace_holds_is_shown_as_text_only() {
    let file = Scratch::file("foreign.json");
    let text = r#"{"traceEvents":[
        {"ph":"X","ts":2,"dur":5,"name":"\u001b[31mred\n","tid":1},
        {"ph":"e","ts":18446744073,"name":"idle","cat":"connection","id":"0xffffffffffffffff"},
        {"ph":"b","ts":9,"name":"idle","cat":"connection","id":"no number"},
        {"ph":"C","ts":3,"name":"bytes","args":{"bytes":18446744073709551615}},
        {"ph":"??","ts":4}]}"#;
    fs::write(file.path(), text).unwrap();
    let ended = run(evmux(&["trace-text", file.path()]));
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains(r"\u{1b}[31mred\n"), "{}", ended.stdout);
    let ended = run(evmux(&["trace-text", file.path(), "--connection", "18446744073709551615"]));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let ended = run(evmux(&["trace-text", file.path(), "--connection", "3"]));
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.starts_with("evmux: no connection 3 in "), "{}", ended.stderr);
}

#[test]
fn a_reader_that_is_gone_has_read_enough() {
    let file = Scratch::file("long.json");
    let event = r#"{"ph":"X","ts":2,"dur":5,"name":"turn","tid":1}"#;
    let events = vec![event; 20_000].join(",\n");
    fs::write(file.path(), format!("{{\"traceEvents\":[{events}]}}")).unwrap();
    let mut command = evmux(&["trace-text", file.path()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(command);
    drop(process.stdout());
    let mut stderr = process.stderr();
    assert_eq!(process.status().code(), Some(0));
    assert_eq!(stderr.next(), None);
}
