//! No byte is lost, doubled or moved, whoever closes first and however full the buffers are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use evmux::{CloseReason, Limits, Model, Peer};

use crate::support::handlers::{
    Blocks, Echo, Flood, Hello, LastWords, Panicking, Sixteen, block, flood,
};
use crate::support::{
    Client, assert_bytes, listener_with_small_buffers, pattern, prepare, serve, serve_within,
};

every_front_end! {
    what_goes_in_comes_out,
    frames_that_come_a_byte_at_a_time_are_answered,
    frames_that_come_in_one_piece_are_all_answered,
    a_client_in_lock_step_is_answered_within_the_smallest_limits,
    a_frame_of_a_megabyte_comes_back,
    eight_megabytes_half_closed_come_back_whole,
    a_half_open_connection_is_still_sent_to,
    a_client_that_finishes_at_once_gets_an_end_and_no_reset,
    a_greeting_reaches_a_client_that_talks_all_the_time,
    a_last_answer_is_not_lost_to_what_the_client_sent_behind_it,
    a_long_last_answer_reaches_a_client_that_sends_everything_first,
    a_reset_in_mid_answer_ends_that_connection_alone,
    clients_that_come_and_go_leave_nothing_behind,
}

at_once! { Model::ALL;
    an_answer_that_the_socket_does_not_take_at_once_is_sent_whole,
}

front_ends! { several clients at a time:
    a_reset_in_mid_answer_does_not_disturb_another_client,
}

front_ends! { epoll:
    sixty_four_megabytes_half_closed_come_back_whole,
}

fn what_goes_in_comes_out(model: Model) {
    let served = serve(model, |_| Echo);
    let mut client = served.connect();
    let bytes = pattern(300_000);
    let mut from = 0;
    for length in [1, 2, 3, 1447, 1448, 1449, 65535, 65536, 65537] {
        client.ask(&bytes[from..from + length]);
        from += length;
    }
    client.finish();
    client.expect_end();
    assert_eq!(served.closed(1), [CloseReason::Finished]);
}

fn frames_that_come_a_byte_at_a_time_are_answered(model: Model) {
    let served = serve(model, |_| Blocks);
    let mut client = served.connect();
    let frames = [block(b"one"), block(b""), block(b"three")].concat();
    for byte in &frames {
        client.send(&[*byte]);
    }
    client.expect(&frames);
    // A frame that is cut by the end gets no answer.
    client.send(&block(b"four")[..7]);
    client.finish();
    client.expect_end();
    assert_eq!(served.closed(1), [CloseReason::Finished]);
}

fn frames_that_come_in_one_piece_are_all_answered(model: Model) {
    // With room for less than one answer: the handler stops after each, and most of what it has
    // yet to answer lies in the connection's own buffer, for which no event comes.
    for send_buffer in [1, 20, 1000, 1 << 20] {
        let limits = Limits::default().send_buffer(send_buffer);
        let served = serve_within(model, limits, |_| Blocks);
        let mut client = served.connect();
        let frames: Vec<u8> = (0..2000_u32).flat_map(|n| block(&n.to_be_bytes())).collect();
        client.send(&frames);
        client.finish();
        assert_bytes(&client.rest(), &frames);
        assert_eq!(served.closed(1), [CloseReason::Finished]);
    }
}

fn a_client_in_lock_step_is_answered_within_the_smallest_limits(model: Model) {
    let limits = Limits::default().send_buffer(1).max_frame(100);
    let served = serve_within(model, limits, |_| Blocks);
    let mut client = served.connect();
    for length in 0..=100 {
        client.ask(&block(&pattern(length)));
    }
}

fn a_frame_of_a_megabyte_comes_back(model: Model) {
    let served = serve(model, |_| Blocks);
    let mut client = served.connect();
    let frame = block(&pattern(1 << 20));
    let mut writer = client.split();
    thread::scope(|scope| {
        scope.spawn(|| writer.send(&frame));
        client.expect(&frame);
    });
    client.ask(&block(b"and a small one behind it"));
}

fn eight_megabytes_half_closed_come_back_whole(model: Model) {
    half_closed(model, 8 << 20);
}

fn sixty_four_megabytes_half_closed_come_back_whole(model: Model) {
    half_closed(model, 64 << 20);
}

/// A client that sends from one thread, finishes, and reads slowly from another: its end reaches
/// the server long before the answers have left it.
fn half_closed(model: Model, length: usize) {
    let served = serve(model, |_| Echo);
    let mut reader = Client::with_small_buffer(served.address);
    let mut writer = reader.split();
    let bytes = pattern(length);
    let slow = 4 << 20;
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.send(&bytes);
            writer.finish();
        });
        // Everything between the two fills up.
        thread::sleep(Duration::from_millis(200));
        let mut answer = reader.receive_slowly(slow, 65536, Duration::from_millis(2));
        answer.extend(reader.rest());
        assert_bytes(&answer, &bytes);
    });
    assert_eq!(served.closed(1), [CloseReason::Finished]);
}

fn an_answer_that_the_socket_does_not_take_at_once_is_sent_whole(model: Model) {
    let served = serve(model, |_| Flood::default());
    let mut client = Client::with_small_buffer(served.address);
    let length = 20 << 20;
    client.send(&flood(length));
    // Long enough for a blocking send to give up once.
    thread::sleep(Duration::from_millis(1200));
    assert_bytes(&client.rest(), &pattern(length));
    drop(client);
    assert_eq!(served.closed(1), [CloseReason::Served]);
}

fn a_half_open_connection_is_still_sent_to(model: Model) {
    let served = serve(model, |_| LastWords::default());
    let mut client = served.connect();
    client.ask(b"question");
    client.finish();
    assert_bytes(&client.rest(), b"word word word ");
    assert_eq!(served.closed(1), [CloseReason::Served]);
}

fn a_client_that_finishes_at_once_gets_an_end_and_no_reset(model: Model) {
    let served = serve(model, |_| Echo);
    for _ in 0..10 {
        let mut client = served.connect();
        client.finish();
        client.expect_end();
    }
    assert_eq!(served.closed(10), [CloseReason::Finished; 10]);
}

fn a_greeting_reaches_a_client_that_talks_all_the_time(model: Model) {
    let served = serve(model, |_| Hello);
    let mut client = served.connect();
    client.send(&pattern(1 << 20));
    client.expect(b"hello");
    client.send(&pattern(1 << 20));
    client.finish();
    client.expect_end();
    assert_eq!(served.closed(1), [CloseReason::Served]);
}

fn a_last_answer_is_not_lost_to_what_the_client_sent_behind_it(model: Model) {
    let served = serve(model, |_| Sixteen(b"farewell".to_vec()));
    let mut client = served.connect();
    // It sends everything before it reads anything; and what comes after our FIN is no reason for
    // a reset either.
    client.send(&pattern(4 << 20));
    client.expect(b"farewell");
    client.expect_end();
    client.send(b"and another thing");
    client.finish();
    assert_eq!(served.closed(1), [CloseReason::Served]);
}

/// Nobody would go on if the server read no more than it has to.
fn a_long_last_answer_reaches_a_client_that_sends_everything_first(model: Model) {
    let answer = pattern(1 << 20);
    let last_words = answer.clone();
    let listener = listener_with_small_buffers();
    let make = move |_: &Peer| Sixteen(last_words.clone());
    let served = prepare(model, make, |builder| builder.listener(listener)).start();
    let mut client = Client::with_small_buffer(served.address);
    client.send(&pattern(16 << 20));
    client.finish();
    assert_bytes(&client.rest(), &answer);
    assert_eq!(served.closed(1), [CloseReason::Served]);
}

fn a_reset_in_mid_answer_ends_that_connection_alone(model: Model) {
    let served = serve(model, |_| Flood::default());
    // More than once as many as a pool has threads: none may be lost.
    for _ in 0..10 {
        let mut client = served.connect();
        client.send(&flood(100 << 20));
        client.receive(100_000);
        client.reset();
    }
    assert_eq!(served.closed(10), [CloseReason::Reset; 10]);
    let mut client = served.connect();
    client.send(&flood(1000));
    assert_bytes(&client.rest(), &pattern(1000));
}

fn a_reset_in_mid_answer_does_not_disturb_another_client(model: Model) {
    // Panicking in nothing: it echoes.
    let served = serve(model, |_| Panicking(None));
    let mut steady = served.connect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                let mut client = served.connect();
                client.send(&pattern(1 << 20));
                client.receive(10);
                client.reset();
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            steady.ask(b"still here");
        }
    });
    steady.ask(b"still here");
    assert_eq!(served.closed(20), [CloseReason::Reset; 20]);
}

/// Slots and descriptors are used again and again, with every kind of end in between; what one
/// client sent must never reach another.
fn clients_that_come_and_go_leave_nothing_behind(model: Model) {
    let served = serve(model, |_| Echo);
    thread::scope(|scope| {
        for thread in 0..4_u32 {
            let address = served.address;
            scope.spawn(move || {
                for round in 0..60_u32 {
                    let mut client = Client::connect(address);
                    let name = format!("client {thread} in round {round} ").repeat(20);
                    match round % 4 {
                        0 => client.ask(name.as_bytes()),
                        1 => client.send(name.as_bytes()),
                        2 => {
                            client.send(name.as_bytes());
                            client.reset();
                        }
                        _ => {
                            client.send(name.as_bytes());
                            client.finish();
                            assert_bytes(&client.rest(), name.as_bytes());
                        }
                    }
                }
            });
        }
    });
    served.closed(240);
    let counters = served.drained();
    assert_eq!(counters.opened, 240);
}
