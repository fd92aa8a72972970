//! The mistakes of the slides' poll loop, each seen happening. docs/slides.md tells their stories.

use std::fs;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::running::{Client, Example, PATIENCE};

/// Several times what the kernels of both sides hold of what is sent to a slow reader.
const LARGE: usize = 32 << 20;

fn slides() -> Example {
    Example::start("slides_poll")
}

#[test]
fn the_slides_answer_clients_that_stay() {
    let example = slides();
    let (mut first, mut second) = (example.connect(), example.connect());
    for _ in 0..3 {
        first.say("first");
        second.say("second");
        first.hear("FIRST");
        second.hear("SECOND");
    }
}

#[test]
fn the_slides_end_when_any_client_leaves() {
    let mut example = slides();
    let (mut first, mut second) = (example.connect(), example.connect());
    first.say("hello");
    first.hear("HELLO");
    second.say("hello");
    second.hear("HELLO");
    drop(first);
    assert!(example.line().starts_with("KeyError: "));
    // The other one had done nothing.
    assert!(matches!(second.0.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn the_slides_lose_the_last_answer_to_the_end_behind_the_question() {
    let mut example = slides();
    let mut client = example.connect();
    client.say("first");
    client.hear("FIRST");
    // Both are there before the loop looks.
    example.stop();
    client.say("last");
    client.finish();
    example.go_on();
    client.hear_last("");
    assert!(example.line().starts_with("KeyError: "));
}

#[test]
fn the_slides_lose_the_tail_of_eight_megabytes() {
    let (sent, tail) = (8 << 20, 1000);
    let example = slides();
    let mut client = example.connect();
    let mut reader = Client(client.0.try_clone().unwrap());
    let reader = thread::spawn(move || {
        read(&mut reader, sent - tail);
        reader
    });
    client.0.write_all(&vec![b'x'; sent - tail]).unwrap();
    let mut reader = reader.join().unwrap();
    // The tail and the end are there before the loop looks, as they are when a client is quick.
    example.stop();
    client.0.write_all(&vec![b'x'; tail]).unwrap();
    client.finish();
    example.go_on();
    reader.hear_last("");
}

#[test]
fn the_slides_end_when_there_is_a_rest_to_send_and_nothing_received() {
    let mut example = Example::start_with("slides_poll", &["127.0.0.1:0", "nonblocking"]);
    let mut client = slow_reader(&example);
    client.0.write_all(&vec![b'x'; LARGE]).unwrap();
    until_all_is_received(&example, &client);
    let mut heard = Vec::new();
    let _ = client.0.read_to_end(&mut heard);
    assert!(heard.len() < LARGE);
    let line = example.line();
    assert!(line.starts_with("KeyError: ") && line.ends_with("in received"), "{line}");
}

#[test]
fn the_slides_end_over_a_letter_that_a_read_has_cut() {
    let mut example = slides();
    let (mut first, mut second) = (example.connect(), example.connect());
    second.say("hello");
    second.hear("HELLO");
    first.0.write_all(b"caf\xc3").unwrap();
    assert!(example.line().starts_with("UnicodeDecodeError: "));
    assert!(matches!(second.0.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn the_slides_keep_everything_for_a_slow_reader_and_then_wait_for_it_alone() {
    let example = slides();
    let (mut slow, mut quick) = (slow_reader(&example), example.connect());
    slow.0.write_all(&vec![b'x'; LARGE]).unwrap();
    until_all_is_received(&example, &slow);
    let kept = example.peak_memory() << 10;
    assert!(kept > LARGE as u64 / 2, "{kept} bytes");
    quick.say("before");
    quick.hear("BEFORE");
    // More than the kernels hold, so that the loop has begun to send the rest, in one call.
    let held = 8 << 20;
    read(&mut slow, held);
    quick.say("after");
    // Long enough for any answer; that none comes can only be seen by waiting.
    thread::sleep(Duration::from_millis(300));
    quick.hears_nothing();
    read(&mut slow, LARGE - held);
    quick.hear("AFTER");
}

/// A client for which the kernel keeps little, however much it reads later.
fn slow_reader(example: &Example) -> Client {
    let client = example.connect();
    SockRef::from(&client.0).set_recv_buffer_size(64 << 10).unwrap();
    client
}

/// Waits until the server has received all that the client sent: nothing of it is left in either
/// kernel.
#[track_caller]
fn until_all_is_received(example: &Example, client: &Client) {
    let (server, client) = (example.address.port(), client.0.local_addr().unwrap().port());
    let deadline = Instant::now() + PATIENCE;
    while queue(client, server, SENDING) + queue(server, client, RECEIVING) > 0 {
        assert!(Instant::now() < deadline, "the server does not receive");
        // Nothing tells when another process has received something.
        thread::sleep(Duration::from_millis(10));
    }
}

const SENDING: usize = 0;
const RECEIVING: usize = 1;

/// How many bytes are in a queue of the socket at port `own`, as the kernel's table has it.
#[track_caller]
fn queue(own: u16, other: u16, which: usize) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let (own, other) = (format!(":{own:04X}"), format!(":{other:04X}"));
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.into_iter().find(|row| row[1].ends_with(&own) && row[2].ends_with(&other));
    let queues = row.expect("the connection is in the table")[4];
    u64::from_str_radix(queues.split(':').nth(which).unwrap(), 16).unwrap()
}

fn read(client: &mut Client, count: usize) {
    client.0.read_exact(&mut vec![0; count]).unwrap();
}
