//! What a loop may overlook: states that are reported once, or not at all.

use std::thread;
use std::time::Duration;

use evmux::{CloseReason, Limits, Model};

use crate::support::handlers::{
    Blocks, Chatty, Echo, Heartbeat, Hold, Later, Never, Spinner, Stopping, block,
};
use crate::support::{
    Client, assert_bytes, comes_to_rest, eventually, pattern, serve, serve_within,
};

every_front_end! {
    urgent_data_does_not_hide_what_stands_behind_it,
    an_end_that_waits_behind_the_bytes_is_seen,
    a_client_that_finished_before_it_was_accepted_is_answered,
    a_client_that_was_reset_before_it_was_accepted_harms_nobody,
    what_came_while_a_handler_waited_is_read_afterwards,
    what_came_while_the_peer_did_not_read_is_read_afterwards,
    a_timer_comes_again_and_again,
    a_timer_does_not_keep_bytes_from_being_read,
    a_paused_connection_whose_peer_is_gone_is_over,
    a_handler_that_never_has_enough_can_be_stopped,
    a_hundred_clients_one_after_the_other_are_served,
}

front_ends! { several clients at a time:
    a_handler_that_never_has_enough_does_not_starve_the_others,
    a_client_that_sends_all_the_time_does_not_starve_the_others,
}

at_once! { Model::ALL;
    a_paused_connection_whose_peer_has_finished_costs_nothing,
    a_hundred_idle_connections_wake_nobody,
}

/// `abc`, urgent, `defgh`: one event tells of all of them, and one receive ends before the mark.
fn urgent_data_does_not_hide_what_stands_behind_it(model: Model) {
    let (hold, holder) = Hold::new();
    let served = serve(model, move |_| Stopping(hold.clone()));
    let mut client = served.connect();
    client.send(b"!");
    holder.meanwhile(|| {
        client.send(b"abc");
        client.send_urgent(b'?');
        client.send(b"defgh");
    });
    client.expect(b"!abcdefgh");
}

/// Bytes and end are there before the loop waits: one event for both, and the receive of the bytes
/// is a short one.
fn an_end_that_waits_behind_the_bytes_is_seen(model: Model) {
    let (hold, holder) = Hold::new();
    let served = serve(model, move |_| Stopping(hold.clone()));
    let mut client = served.connect();
    client.send(b"!");
    holder.meanwhile(|| {
        client.send(b"the last words");
        client.finish();
    });
    assert_bytes(&client.rest(), b"!the last words");
    assert_eq!(served.closed(1), [CloseReason::Finished]);
}

fn a_client_that_finished_before_it_was_accepted_is_answered(model: Model) {
    let (hold, holder) = Hold::new();
    let served = serve(model, move |_| Stopping(hold.clone()));
    let mut first = served.connect();
    first.send(b"!");
    let mut second = holder.meanwhile(|| {
        let mut second = served.connect();
        second.send(b"early");
        second.finish();
        second
    });
    first.expect(b"!");
    drop(first);
    assert_bytes(&second.rest(), b"early");
}

fn a_client_that_was_reset_before_it_was_accepted_harms_nobody(model: Model) {
    let (hold, holder) = Hold::new();
    let served = serve(model, move |_| Stopping(hold.clone()));
    let mut first = served.connect();
    first.send(b"!");
    holder.meanwhile(|| {
        for sends in [false, true].repeat(10) {
            let mut client = served.connect();
            if sends {
                client.send(b"and away");
            }
            client.reset();
        }
    });
    first.expect(b"!");
    drop(first);
    served.connect().ask(b"next");
    served.closed(22);
    let counters = served.drained();
    assert_eq!(counters.accepted, 22);
}

fn what_came_while_a_handler_waited_is_read_afterwards(model: Model) {
    let served = serve(model, |_| Later::default());
    let mut client = served.connect();
    // Much more than one receive, so that most of it is left in the kernel without an event.
    let bytes = pattern(400_000);
    let mut writer = client.split();
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.send(b"first");
            thread::sleep(Duration::from_millis(10)); // So that it is received alone.
            writer.send(&bytes);
            writer.finish();
        });
        assert_bytes(&client.rest(), &[b"first", &bytes[..]].concat());
    });
    assert_eq!(served.closed(1), [CloseReason::Finished]);
}

fn what_came_while_the_peer_did_not_read_is_read_afterwards(model: Model) {
    let limits = Limits::default().send_buffer(10_000);
    let served = serve_within(model, limits, |_| Chatty);
    let mut client = Client::with_small_buffer(served.address);
    // Ten megabytes of answers; the last bytes come when the server has long stopped reading.
    client.send(&[b'x'; 9_000]);
    thread::sleep(Duration::from_millis(200)); // Nothing tells when all buffers are full.
    client.send(&[b'x'; 1_000]);
    client.finish();
    let length = client.rest().len();
    assert_eq!(length, 10_000 * 1024);
    assert_eq!(served.closed(1), [CloseReason::Finished]);
}

fn a_timer_comes_again_and_again(model: Model) {
    let served = serve(model, |_| Heartbeat(Duration::from_millis(20)));
    let mut client = served.connect();
    client.expect(&b"beat ".repeat(10));
}

fn a_timer_does_not_keep_bytes_from_being_read(model: Model) {
    let served = serve(model, |_| Heartbeat(Duration::from_micros(300)));
    let mut client = served.connect();
    // Beats may stand between the pieces, but never in them.
    for _ in 0..20 {
        client.send(b"x");
        while client.receive(1) != b"x" {
            client.receive(4);
        }
    }
}

fn a_paused_connection_whose_peer_is_gone_is_over(model: Model) {
    let served = serve(model, |_| Never);
    let mut client = served.connect();
    client.send(b"x");
    eventually("the byte is received", || served.counters().bytes_received == 1);
    client.reset();
    assert_eq!(served.closed(1), [CloseReason::Reset]);
}

/// Level-triggered, the end of a peer that is not read from is reported for ever, if it is asked
/// for.
fn a_paused_connection_whose_peer_has_finished_costs_nothing(model: Model) {
    let served = serve(model, |_| Never);
    let mut client = served.connect();
    client.send(b"x");
    client.finish();
    let waits = || served.counters().waits;
    comes_to_rest("waiting", Duration::from_millis(1500), waits);
}

fn a_handler_that_never_has_enough_can_be_stopped(model: Model) {
    let served = serve(model, |_| Spinner);
    let mut client = served.connect();
    client.ask(b"x");
    client.send(b"spin");
    served.stop().now();
    served.ended();
}

fn a_handler_that_never_has_enough_does_not_starve_the_others(model: Model) {
    let served = serve(model, |_| Spinner);
    let mut spinner = served.connect();
    spinner.ask(b"x");
    spinner.send(b"spin");
    let mut client = served.connect();
    for _ in 0..100 {
        client.ask(b"my turn");
    }
}

fn a_client_that_sends_all_the_time_does_not_starve_the_others(model: Model) {
    let served = serve(model, |_| Blocks);
    let address = served.address;
    let mut busy = served.connect();
    let mut busy_writer = busy.split();
    thread::scope(|scope| {
        scope.spawn(move || {
            let frames = block(&pattern(1000)).repeat(64);
            for _ in 0..1000 {
                busy_writer.send(&frames);
            }
            busy_writer.finish();
        });
        scope.spawn(move || assert_eq!(busy.rest().len(), 1004 * 64 * 1000));
        for _ in 0..50 {
            Client::connect(address).ask(&block(b"my turn"));
        }
    });
}

fn a_hundred_clients_one_after_the_other_are_served(model: Model) {
    let served = serve(model, |_| Echo);
    for number in 0..100_u32 {
        let mut client = served.connect();
        client.ask(&number.to_be_bytes());
        client.finish();
        client.expect_end();
    }
    served.closed(100);
}

fn a_hundred_idle_connections_wake_nobody(model: Model) {
    let served = serve(model, |_| Echo);
    let mut clients: Vec<_> = (0..100).map(|_| served.connect()).collect();
    // The others wait in the backlog.
    let served_at_once = match model {
        Model::Sequential => 1,
        Model::Pool => 4,
        _ => clients.len(),
    };
    for client in &mut clients[..served_at_once] {
        client.ask(b"x");
    }
    comes_to_rest("waiting", Duration::from_secs(2), || served.counters().waits);
}
