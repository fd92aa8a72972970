//! `evmux resolve`: names that every machine has.

use std::process::Command;

use crate::binary::{evmux, feed};

fn resolve(words: &[&str]) -> String {
    String::from_utf8(feed(evmux(&[&["resolve"], words].concat()), b"").ok()).unwrap()
}

#[test]
fn an_address_leads_to_itself_and_to_its_name() {
    let line = resolve(&["127.0.0.1"]);
    assert!(
        line == "IPv4  127.0.0.1  localhost\n" || line.starts_with("IPv4  127.0.0.1"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1, "{line}");
    for bracketed in ["::1", "[::1]"] {
        assert!(resolve(&[bracketed]).starts_with("IPv6  ::1"));
    }
}

#[test]
fn the_name_of_an_address_is_what_the_system_says() {
    let getent = Command::new("getent").args(["hosts", "127.0.0.1"]).output().unwrap();
    let getent = String::from_utf8(getent.stdout).unwrap();
    let name = getent.split_whitespace().nth(1);
    let line = resolve(&["127.0.0.1"]);
    assert_eq!(line.split_whitespace().nth(2), name, "{line}");
}

#[test]
fn localhost_has_each_address_on_a_line_of_its_own() {
    let text = resolve(&["localhost"]);
    for line in text.lines() {
        let begins = ["IPv4  127.0.0.1", "IPv6  ::1"].iter().any(|begin| line.starts_with(begin));
        assert!(begins, "{line}");
    }
    let mut lines: Vec<_> = text.lines().collect();
    lines.dedup();
    assert_eq!(lines.len(), text.lines().count(), "{text}");
}

#[test]
fn a_service_has_its_port_by_name_or_number_for_each_kind_of_socket() {
    let text = resolve(&["127.0.0.1", "80"]);
    let fields: Vec<Vec<_>> =
        text.lines().map(|line| line.split_whitespace().take(4).collect()).collect();
    assert_eq!(
        fields,
        [["IPv4", "127.0.0.1", "80", "stream"], ["IPv4", "127.0.0.1", "80", "dgram"]]
    );
    if std::fs::exists("/etc/services").unwrap() {
        for (name, port) in [("http", "80"), ("www", "80"), ("domain", "53")] {
            let text = resolve(&["127.0.0.1", name]);
            assert!(text.starts_with(&format!("IPv4  127.0.0.1  {port}  stream")), "{text}");
        }
    } else {
        // Then the system knows no service by name, and says so.
        let line = feed(evmux(&["resolve", "127.0.0.1", "http"]), b"").failed();
        assert!(line.contains("there is no service 'http'"), "{line}");
    }
}

#[test]
fn this_machine_has_a_name_a_full_name_and_addresses() {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let ended = feed(evmux(&["resolve"]), b"");
    let text = String::from_utf8(ended.stdout.clone()).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(format!("name  {}", name.trim_end()).as_str()));
    let known = Command::new("getent").args(["hosts", name.trim_end()]).output().unwrap();
    if known.status.success() {
        ended.ok();
        assert!(lines.next().unwrap().starts_with("full name  "), "{text}");
        assert!(lines.next().unwrap().starts_with("IPv"), "{text}");
    } else {
        // A machine whose own name leads nowhere still knows the name.
        assert!(ended.failed().contains("This host does not seem to exist"));
    }
}

#[test]
fn what_is_not_known_is_one_line_and_status_1() {
    let line = feed(evmux(&["resolve", "nonexistent.invalid"]), b"").failed();
    let begin = "evmux: nonexistent.invalid: This host does not seem to exist (";
    assert!(line.starts_with(begin) && line.ends_with(')'), "{line}");
    let line = feed(evmux(&["resolve", "nonexistent.invalid", "80"]), b"").failed();
    assert!(line.starts_with(begin), "{line}");
    let line = feed(evmux(&["resolve", "localhost", "no-such-service"]), b"").failed();
    assert!(
        line.starts_with("evmux: localhost: there is no service 'no-such-service' ("),
        "{line}"
    );
}

#[test]
fn what_no_port_can_be_is_not_looked_up() {
    for service in ["65536", "99999", ""] {
        let ended = feed(evmux(&["resolve", "localhost", service]), b"");
        assert_eq!((ended.status, ended.stderr.lines().count()), (Some(2), 1), "{service}");
        assert!(ended.stderr.contains("65535"), "{}", ended.stderr);
    }
}
