//! `evmux load`: what it prints, where, and with which status.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::Scratch;
use crate::binary::{Ended, Process, Server, evmux, free_address, run};

/// A short run against `server`, with more arguments.
fn load(server: &Server, arguments: &[&str]) -> Command {
    let target = server.address.to_string();
    let short = ["load", &target, "--connections", "4", "--warmup", "0s", "--timeout", "30s"];
    evmux(&[&short, arguments].concat())
}

#[track_caller]
fn done(command: Command) -> Ended {
    let ended = run(command);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    ended
}

#[test]
fn a_run_ends_with_a_summary_on_stdout() {
    let server = Server::start(&["--service", "echo"]);
    let Ended { stdout, stderr, .. } = done(load(&server, &["--requests", "500"]));
    assert_eq!(stderr, "", "nothing is drawn where there is no terminal");
    for text in ["4 connections", "closed loop", "coordinated omission", "service time", "p99.9"] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
    assert!(stdout.contains("answered           500"), "{stdout}");
    let Ended { stdout, .. } = done(load(&server, &["--requests", "500", "--rate", "5000"]));
    for text in ["open loop", "latency", "service time", "own lag"] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
}

#[test]
fn each_service_is_verified_in_its_framing() {
    for (service, framing, verify) in [
        ("echo", "raw", "echo"),
        ("upper", "raw", "upper"),
        ("lines", "lines", "upper"),
        ("blocks", "blocks", "upper"),
        ("json", "lines", "none"),
    ] {
        let server = Server::start(&["--service", service]);
        let options = ["--requests", "500", "--framing", framing, "--verify", verify];
        done(load(&server, &options));
    }
}

#[test]
fn wrong_bytes_are_named_and_status_1() {
    let server = Server::start(&["--service", "upper"]);
    let ended = run(load(&server, &["--requests", "10"]));
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("answered wrongly: reply 1 on connection"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1);
    assert!(ended.stdout.contains("wrong"), "{}", ended.stdout);
}

#[test]
fn a_server_that_answers_nothing_is_status_1() {
    let server = Server::start(&["--service", "discard"]);
    let mut command = load(&server, &["--duration", "100ms"]);
    command.args(["--timeout", "300ms"]);
    // The option was given before.
    assert_eq!(run(command).status.code(), Some(2));
    let target = server.address.to_string();
    let ended = run(evmux(&["load", &target, "--duration", "100ms", "--timeout", "300ms"]));
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("left replies out"), "{}", ended.stderr);
    let nobody = free_address().to_string();
    let ended = run(evmux(&["load", &nobody]));
    assert_eq!(ended.status.code(), Some(1));
    let line = format!("evmux: cannot connect to tcp:{nobody}: ");
    assert!(ended.stderr.starts_with(&line), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_threshold_that_is_crossed_is_status_3() {
    let server = Server::start(&["--service", "echo"]);
    let kept = ["--threshold", "p99<1h", "--threshold", "errors<0.1%", "--threshold", "rate>1"];
    let requests = ["--requests", "500"];
    let ended = done(load(&server, &[requests.as_slice(), &kept].concat()));
    assert_eq!(ended.stdout.matches(": held").count(), 3, "{}", ended.stdout);
    let crossed = ["--threshold", "p50<1ns"];
    let ended = run(load(&server, &[requests.as_slice(), &kept, &crossed].concat()));
    assert_eq!(ended.status.code(), Some(3));
    assert!(ended.stderr.contains("p50<1ns: it is "), "{}", ended.stderr);
    assert!(ended.stdout.contains("p50<1ns: crossed"), "{}", ended.stdout);
}

#[test]
fn an_interrupted_run_says_what_there_was_and_is_status_130() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let server = Server::start(&["--service", "echo"]);
        let log = Scratch::file("interrupted.hlog");
        let target = server.address.to_string();
        let options = ["--duration", "1h", "--warmup", "0s", "--hlog", log.path()];
        let command = evmux(&[&["load", &target], options.as_slice()].concat());
        let interrupt = thread::spawn({
            let path = log.0.clone();
            move || {
                // The first second is in the log, so it measures.
                while !fs::read_to_string(&path).is_ok_and(|text| text.contains("Tag=service")) {
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let (mut process, stdout) = Process::with_stdout(command);
        interrupt.join().unwrap();
        process.signal(signal);
        assert_eq!(process.status().code(), Some(status));
        let summary = stdout.rest();
        assert!(summary.contains("interrupted") && summary.contains("service time"), "{summary}");
    }
}

#[test]
fn json_on_stdout_is_all_that_stands_there() {
    let server = Server::start(&["--service", "echo"]);
    let options = ["--requests", "200", "--json", "-", "--label", "build=42", "--rate", "4000"];
    let ended = done(load(&server, &options));
    let record: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(record["schema"], "evmux-load-1");
    assert_eq!(record["counts"]["answered"], 200);
    assert_eq!(record["labels"]["build"], "42");
    assert_eq!(record["latency"]["count"], 200);
    assert!(ended.stderr.contains("service time"), "{}", ended.stderr);
}

#[test]
fn results_are_what_the_schema_says() {
    let schema = fs::read_to_string("docs/schema/load.schema.json").unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let server = Server::start(&["--service", "echo"]);
    for options in [
        &["--rate", "4000", "--threshold", "p99<1h", "--bind", "127.0.0.2"][..],
        &["--per-connection", "7", "--verify", "upper"],
    ] {
        let options = [&["--requests", "50", "--json", "-"], options].concat();
        let ended = run(load(&server, &options));
        let record: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_is(&schema, &schema, &record, "result");
        // What is not in the schema is a mistake of the schema.
        let mut more = record.clone();
        more["surprise"] = true.into();
        let strict = std::panic::catch_unwind(|| assert_is(&schema, &schema, &more, "result"));
        assert!(strict.is_err());
    }
}

/// As much of JSON Schema as ours uses.
#[track_caller]
fn assert_is(root: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return assert_is(root, &root["$defs"][name], value, place);
    }
    if let Some(expected) = schema.get("const") {
        assert_eq!(value, expected, "{place}");
    }
    if let Some(choices) = schema["enum"].as_array() {
        assert!(choices.contains(value), "{place}: {value}");
    }
    if let Some(least) = schema["minimum"].as_f64() {
        assert!(value.as_f64().is_none_or(|value| value >= least), "{place}: {value}");
    }
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{place}: the schema has the type {kind}"),
    };
    match &schema["type"] {
        Value::String(kind) => assert!(is(kind), "{place} is no {kind}: {value}"),
        Value::Array(kinds) => {
            let fits = kinds.iter().any(|kind| is(kind.as_str().unwrap()));
            assert!(fits, "{place} is none of {kinds:?}: {value}");
        }
        _ => {}
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(fields.contains_key(name.as_str().unwrap()), "{place} has no {name}");
        }
        for (name, field) in fields {
            let place = format!("{place}.{name}");
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(schema), _) => assert_is(root, schema, field, &place),
                (None, Some(Value::Bool(true))) => {}
                (None, Some(schema)) if schema.is_object() => {
                    assert_is(root, schema, field, &place);
                }
                (None, _) => panic!("{place} is not in the schema"),
            }
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        assert_is(root, &schema["items"], item, &format!("{place}[{index}]"));
    }
}

#[test]
fn results_go_to_the_files_that_were_named() {
    let server = Server::start(&["--service", "echo"]);
    let (json, csv) = (Scratch::file("load.json"), Scratch::file("load.csv"));
    let log = Scratch::file("load.hlog");
    let options = ["--json", json.path(), "--csv", csv.path(), "--hlog", log.path()];
    done(load(&server, &[&["--requests", "300", "--label", "a=b,c"], options.as_slice()].concat()));
    let record: Value = serde_json::from_str(&fs::read_to_string(json.path()).unwrap()).unwrap();
    assert_eq!(record["counts"]["answered"], 300);
    let table = fs::read_to_string(csv.path()).unwrap();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("target,") && lines[0].ends_with(",label_a"), "{table}");
    assert!(lines[1].ends_with(",\"b,c\""), "{table}");
    let log = fs::read(log.path()).unwrap();
    let sums = evmux::load::logs::sums([log.as_slice()]).unwrap();
    assert_eq!(sums["service"].len(), 300);
    // What is asked for but is of another command is named.
    let ended = run(evmux(&["report", json.path()]));
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("evmux-load") && ended.stderr.contains("--hlog"),
        "{}",
        ended.stderr
    );
    // Said before anything is sent.
    let ended = run(load(&server, &["--json", "/nonexistent/x.json"]));
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("/nonexistent/x.json"), "{}", ended.stderr);
}

#[test]
fn more_connections_than_files_may_be_open_are_fewer_and_said_to_be() {
    let server = Server::start(&["--service", "echo"]);
    let target = server.address.to_string();
    let words = ["load", &target, "--connections", "100", "--duration", "200ms", "--json", "-"];
    let ended = done(crate::binary::evmux_after("ulimit -n 64", &words));
    let record: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(record["connections"], 48);
    let kinds: Vec<_> =
        record["warnings"].as_array().unwrap().iter().map(|all| &all["kind"]).collect();
    for kind in ["descriptor_limit", "fewer_connections"] {
        assert!(kinds.contains(&&Value::from(kind)), "{kinds:?}");
    }
    assert!(ended.stderr.contains("48 connections were open of 100 asked for"), "{}", ended.stderr);
}

#[test]
fn a_listener_that_nobody_accepts_from_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let options = ["--connections", "1", "--duration", "100ms", "--timeout", "200ms"];
    let ended = run(evmux(&[&["load", &target], options.as_slice()].concat()));
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("left replies out"), "{}", ended.stderr);
}

#[test]
fn the_help_names_every_option_and_explains_both_times() {
    let help = run(evmux(&["load", "--help"])).stdout;
    for option in [
        "connections",
        "connect-rate",
        "duration",
        "requests",
        "warmup",
        "rate",
        "pipeline",
        "size",
        "framing",
        "verify",
        "per-connection",
        "idle",
        "slow-readers",
        "timeout",
        "bind",
        "seed",
        "json",
        "hlog",
        "csv",
        "threshold",
        "label",
    ] {
        assert!(help.contains(&format!("--{option}")), "--{option}");
        let variable = format!("EVMUX_{}", option.replace('-', "_").to_uppercase());
        assert!(help.contains(&variable), "{variable}");
    }
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "The service time is that from when a request was sent",
        "The latency, in the open loop, is that from when it was due",
        "coordinated omission",
    ] {
        assert!(words.contains(text), "{text}");
    }
}

#[test]
fn mistakes_are_one_line_and_status_2() {
    let tcp = "127.0.0.1:9";
    for words in [
        &[][..],
        &["localhost"],
        &[tcp, "stray"],
        &[tcp, "--connections", "0"],
        &[tcp, "--connect-rate", "0"],
        &[tcp, "--duration", "0s"],
        &[tcp, "--duration", "10"],
        &[tcp, "--duration", "1000w"],
        &[tcp, "--requests", "0"],
        &[tcp, "--requests", "9", "--duration", "1s"],
        &[tcp, "--warmup", "soon"],
        &[tcp, "--rate", "0"],
        &[tcp, "--rate", "nan"],
        &[tcp, "--rate", "1e9"],
        &[tcp, "--pipeline", "0"],
        &[tcp, "--pipeline", "100000"],
        &[tcp, "--size", "0"],
        &[tcp, "--size", "1GiB"],
        &[tcp, "--framing", "frames"],
        &[tcp, "--verify", "lower"],
        &[tcp, "--per-connection", "0"],
        &[tcp, "--hlog", "-"],
        &[tcp, "--csv", "-"],
        &[tcp, "--idle", "-1"],
        &[tcp, "--slow-readers", "some"],
        &[tcp, "--timeout", "0s"],
        &[tcp, "--bind", "localhost"],
        &[tcp, "--bind", "127.0.0.2:80"],
        &[tcp, "--seed", "-1"],
        &[tcp, "--threshold", "p99=1s"],
        &[tcp, "--threshold", "p99<20"],
        &[tcp, "--label", "build"],
        &["unix:/tmp/x", "--bind", "127.0.0.2"],
        &["udp:127.0.0.1:9", "--idle", "1"],
        &["udp:127.0.0.1:9", "--size", "70000"],
    ] {
        let ended = run(evmux(&[&["load"], words].concat()));
        assert_eq!(ended.status.code(), Some(2), "{words:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.starts_with("evmux: "), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_variable_for_the_number_gives_way_to_a_flag_for_the_time() {
    let server = Server::start(&["--service", "echo"]);
    let mut command = load(&server, &["--json", "-"]);
    command.env("EVMUX_REQUESTS", "50");
    let record: Value = serde_json::from_str(&done(command).stdout).unwrap();
    assert_eq!(record["plan"]["requests"], 50);
    let mut command = load(&server, &["--json", "-", "--duration", "100ms"]);
    command.env("EVMUX_REQUESTS", "50").env("EVMUX_LABEL", "a=1 b=2");
    let record: Value = serde_json::from_str(&done(command).stdout).unwrap();
    assert_eq!(record["plan"]["requests"], Value::Null);
    assert_eq!(record["labels"]["b"], "2");
}
