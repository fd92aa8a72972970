//! What a client sends, or does not read, costs a bounded amount of memory: that of a whole
//! process, which serves nobody else.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;

use evmux::Model;

use crate::support::child::Plan;
use crate::support::{Client, pattern};

every_front_end! {
    two_hundred_megabytes_for_a_client_that_reads_late_do_not_pile_up,
    answers_that_are_larger_than_their_questions_do_not_pile_up,
    an_announced_length_reserves_nothing,
}

/// Resident memory, in KiB, that a server never reaches.
const BOUND: u64 = 20 * 1024;

fn two_hundred_megabytes_for_a_client_that_reads_late_do_not_pile_up(model: Model) {
    let child = Plan::new(model, "echo").start();
    let mut reader = child.connect();
    let mut writer = reader.split();
    let piece = pattern(1 << 20);
    thread::scope(|scope| {
        let piece = &piece;
        scope.spawn(move || {
            for _ in 0..200 {
                writer.send(piece);
            }
            writer.finish();
        });
        // Nothing tells when all buffers are full.
        thread::sleep(Duration::from_millis(500));
        for number in 0..200 {
            assert!(reader.receive(piece.len()) == *piece, "megabyte {number} is another one");
        }
        reader.expect_end();
    });
    let peak = child.peak_memory();
    assert!(peak < BOUND, "{peak} KiB");
}

/// A megabyte of input would make a gigabyte of output.
fn answers_that_are_larger_than_their_questions_do_not_pile_up(model: Model) {
    let mut child = Plan::new(model, "chatty").start();
    let mut client = child.connect();
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // The server may stop reading before it has all of it.
    match client.stream.write_all(&pattern(4 << 20)) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("cannot send: {error}"),
        _ => {}
    }
    thread::sleep(Duration::from_millis(500));
    let peak = child.peak_memory();
    assert!(peak < BOUND, "{peak} KiB");
    client.reset();
    child.assert_alive();
}

fn an_announced_length_reserves_nothing(model: Model) {
    let mut plan = Plan::new(model, "blocks");
    plan.max_frame = 1 << 30;
    let child = plan.start();
    let mut clients: Vec<Client> = (0..4).map(|_| child.connect()).collect();
    for client in &mut clients {
        client.send(&(1_u32 << 30).to_be_bytes());
        client.send(&pattern(100_000));
    }
    thread::sleep(Duration::from_millis(300));
    let peak = child.peak_memory();
    assert!(peak < BOUND, "{peak} KiB");
}
