//! The examples that a few lines of talk try out.

use std::net::UdpSocket;

use crate::running::{Example, PATIENCE};

#[test]
fn echo_answers_under_each_model() {
    for model in ["sequential", "threads", "pool", "poll", "epoll"] {
        let example = Example::start_with("echo", &[model, "127.0.0.1:0"]);
        let mut client = example.connect();
        client.say("hello");
        client.hear("hello");
        client.finish();
        client.hear_last("");
    }
}

#[test]
fn uppercase_refuses_a_line_that_is_too_long_behind_the_answers_before_it() {
    let example = Example::start("uppercase");
    let mut client = example.connect();
    client.say("straße\nand ");
    client.hear("STRASSE\n");
    client.say("more\n");
    client.say(&"x".repeat(1025));
    client.hear_last("AND MORE\n");
}

#[test]
fn udp_answers_datagrams_beside_a_stream() {
    let mut example = Example::start("udp");
    let line = example.line();
    let address = line.strip_prefix("listening on udp ").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"hello", address).unwrap();
    let mut answer = [0; 100];
    let length = socket.recv(&mut answer).unwrap();
    let expected = format!("5 bytes from {}\n", socket.local_addr().unwrap());
    assert_eq!(answer[..length], *expected.as_bytes());

    let mut client = example.connect();
    client.say("hello");
    client.hear("hello");
}

#[test]
fn timer_asks_until_nobody_answers() {
    let example = Example::start_with("timer", &["127.0.0.1:0", "200"]);
    let mut client = example.connect();
    for _ in 0..3 {
        client.hear("still there?\n");
        client.say("yes\n");
    }
    client.hear_last("still there?\ngood bye\n");
}

#[test]
fn switch_loses_no_byte_between_two_protocols() {
    let example = Example::start("switch");
    let mut client = example.connect();
    client.say("upper\nwhat came with it");
    client.hear("go ahead\nWHAT CAME WITH IT");
    client.say(", and later");
    client.finish();
    client.hear_last(", AND LATER");

    let mut client = example.connect();
    client.say("ec");
    client.say("ho\r\n");
    client.hear("go ahead\n");
    client.say("As it is");
    client.finish();
    client.hear_last("As it is");

    let mut client = example.connect();
    client.say("smtp\nhello");
    client.hear_last("");
}

#[test]
fn offload_answers_in_order_and_keeps_nobody_waiting() {
    let example = Example::start("offload");
    let mut patient = example.connect();
    // A worker is busy with it for longer than this test.
    patient.say("2000000000\n");
    let mut client = example.connect();
    client.say("10\n1000\n3\n100000\n0\n");
    client.finish();
    client.hear_last("4\n168\n1\n9592\n0\n");
    patient.hears_nothing();

    let mut client = example.connect();
    client.say("7\nmany\n");
    client.hear_last("3\n");
}

#[test]
fn foreign_serves_beside_what_its_program_waits_for() {
    let mut example = Example::start("foreign");
    let mut first = example.connect();
    first.say("hello");
    first.hear("hello");
    example.input("how many\n");
    assert_eq!(example.line(), "1 clients");
    let mut second = example.connect();
    second.say("as well");
    second.hear("as well");
    example.input("and now\n");
    assert_eq!(example.line(), "2 clients");
    first.finish();
    first.hear_last("");
    second.say("still here");
    second.hear("still here");
    example.input("and now\n");
    assert_eq!(example.line(), "1 clients");
    example.end_input();
    second.hear_last("");
}

#[cfg(feature = "http")]
#[test]
fn http_answers_a_browser_and_who_types_by_hand() {
    let example = Example::start("http");
    let mut by_hand = example.connect();
    by_hand.say("GET / HTTP/1.0\n\n");
    by_hand.hear_last(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 45\r\n\
         Connection: close\r\n\r\n<!DOCTYPE html>\n<title>evmux</title>\nvisit 1\n",
    );
    let mut browser = example.connect();
    browser.say("GET /visits.json HTTP/1.1\r\nHost: a\r\n\r\n");
    browser.hear(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
         Content-Length: 14\r\n\r\n{\"visits\": 1}\n",
    );
    browser.say("POST /shout HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe");
    browser.say("\r\n3\r\nllo\r\n0\r\n\r\n");
    browser.hear(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\n\
         HELLO",
    );
    browser.say("GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n");
    browser.hear_last(
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 10\r\nConnection: close\r\n\r\nNot Found\n",
    );
}
