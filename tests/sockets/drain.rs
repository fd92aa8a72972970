//! The end of a server: nothing that was asked before is left unanswered, and nobody is waited for
//! longer than was said.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use evmux::{CloseReason, Model};

use crate::support::handlers::{
    Blocks, Echo, Flood, Hold, Lodger, Spinner, Stopping, block, flood,
};
use crate::support::{Client, assert_bytes, eventually, pattern, prepare, serve, serve_with};

every_front_end! {
    a_request_that_races_the_drain_is_answered,
    clients_in_the_backlog_are_served,
    an_idle_connection_gets_an_end_and_no_reset,
    a_handler_may_take_its_time,
    a_drain_timeout_of_zero_cuts_at_once,
    a_stopped_server_is_not_listening,
    a_server_that_was_dropped_has_ended,
    a_stop_before_the_start_is_heeded,
}

at_once! { Model::ALL;
    a_slow_reader_gets_everything,
    a_begun_frame_gets_its_answer,
    the_drain_timeout_cuts_what_is_left,
    a_second_stop_cuts_at_once,
    a_server_without_clients_ends_soon,
    a_server_whose_threads_have_long_waited_ends_soon,
}

front_ends! { several clients at a time:
    every_connection_is_drained,
}

/// Requests come in the very moment of the stop: on a connection that looked idle, and from
/// clients that were not accepted yet.
fn a_request_that_races_the_drain_is_answered(model: Model) {
    let (hold, holder) = Hold::new();
    let served = serve(model, move |_| Stopping(hold.clone()));
    let mut idle = (model != Model::Sequential).then(|| served.connect());
    if let Some(idle) = &mut idle {
        idle.ask(b"hello");
    }
    let mut first = served.connect();
    first.send(b"!");
    let new = holder.meanwhile(|| {
        if let Some(idle) = &mut idle {
            idle.send(b"just in time");
        }
        let mut new = served.connect();
        new.send(b"even later");
        served.stop().drain();
        new
    });
    for (client, answer) in [(Some(first), "!"), (idle, "just in time"), (Some(new), "even later")]
    {
        if let Some(mut client) = client {
            assert_bytes(&client.rest(), answer.as_bytes());
        }
    }
    served.ended();
}

fn clients_in_the_backlog_are_served(model: Model) {
    const CLIENTS: u32 = 20;
    let (hold, holder) = Hold::new();
    let served = serve(model, move |_| Stopping(hold.clone()));
    let mut first = served.connect();
    first.send(b"!");
    let queue: Vec<_> = holder.meanwhile(|| {
        let queue = (0..CLIENTS)
            .map(|number| {
                let mut client = served.connect();
                client.send(&number.to_be_bytes());
                client
            })
            .collect();
        served.stop().drain();
        queue
    });
    first.expect(b"!");
    first.expect_end();
    drop(first);
    for (number, mut client) in (0..CLIENTS).zip(queue) {
        assert_bytes(&client.rest(), &number.to_be_bytes());
    }
    let counters = served.ended();
    assert_eq!(counters.opened, u64::from(CLIENTS) + 1);
}

fn a_slow_reader_gets_everything(model: Model) {
    let served = serve(model, |_| Flood::default());
    let mut client = Client::with_small_buffer(served.address);
    let length = 8 << 20;
    client.send(&flood(length));
    client.receive_slowly(100_000, 10_000, Duration::from_millis(1));
    served.stop().drain();
    thread::sleep(Duration::from_millis(1500)); // For longer than a blocking call waits.
    assert_bytes(&client.rest(), &pattern(length)[100_000..]);
    drop(client);
    served.ended();
}

fn a_begun_frame_gets_its_answer(model: Model) {
    let served = serve(model, |_| Blocks);
    let mut client = served.connect();
    let frame = block(&pattern(1000));
    let (first, second) = frame.split_at(500);
    client.send(first);
    eventually("the half is received", || served.counters().bytes_received == 500);
    served.stop().drain();
    // So that the drain is seen before the rest comes; if not, the answer is the same.
    thread::sleep(Duration::from_millis(100));
    client.send(second);
    assert_bytes(&client.rest(), &frame);
    drop(client);
    let counters = served.ended();
    assert_eq!(counters.closed(&CloseReason::Drained), 1);
}

fn an_idle_connection_gets_an_end_and_no_reset(model: Model) {
    let served = serve(model, |_| Echo);
    let mut client = served.connect();
    client.ask(b"x");
    served.stop().drain();
    client.expect_end();
    // Talking on is no reason for a reset either.
    client.send(b"too late");
    thread::sleep(Duration::from_millis(50));
    client.send(b"much too late");
    client.finish();
    client.expect_end();
    let counters = served.ended();
    assert_eq!(counters.closed(&CloseReason::Drained), 1);
}

fn a_handler_may_take_its_time(model: Model) {
    let served = serve(model, |_| Lodger);
    let mut client = served.connect();
    client.ask(b"x");
    served.stop().drain();
    assert_bytes(&client.rest(), b"soon now");
    drop(client);
    let counters = served.ended();
    assert_eq!(counters.closed(&CloseReason::Served), 1);
}

fn the_drain_timeout_cuts_what_is_left(model: Model) {
    let after = Duration::from_millis(700);
    let served = serve_with(model, |_| Blocks, |builder| builder.drain_timeout(after));
    let mut client = served.connect();
    client.send(&block(b"never whole")[..10]);
    eventually("the half is received", || served.counters().bytes_received == 10);
    let start = Instant::now();
    served.stop().drain();
    assert_eq!(client.until_reset(), 0);
    assert!(start.elapsed() >= after);
    let counters = served.ended();
    assert_eq!(counters.closed(&CloseReason::DrainTimeout), 1);
}

fn a_drain_timeout_of_zero_cuts_at_once(model: Model) {
    let served = serve_with(model, |_| Spinner, |builder| builder.drain_timeout(Duration::ZERO));
    let mut client = served.connect();
    client.ask(b"x");
    client.send(b"spin");
    served.stop().drain();
    client.until_gone();
    served.ended();
}

fn a_second_stop_cuts_at_once(model: Model) {
    let hour = Duration::from_secs(3600);
    let served = serve_with(model, |_| Flood::default(), |builder| builder.drain_timeout(hour));
    let mut client = Client::with_small_buffer(served.address);
    client.send(&flood(64 << 20));
    client.receive(1000);
    served.stop().drain();
    thread::sleep(Duration::from_millis(100));
    served.stop().now();
    let counters = served.ended();
    assert_eq!(counters.closed(&CloseReason::Stopped), 1);
    client.until_reset();
}

fn every_connection_is_drained(model: Model) {
    let served = serve_with(model, |_| Echo, |builder| builder.threads(60));
    let mut clients: Vec<_> = (0..50).map(|_| served.connect()).collect();
    for client in &mut clients {
        client.ask(b"x");
    }
    served.stop().drain();
    for client in &mut clients {
        client.expect_end();
    }
    drop(clients);
    let counters = served.ended();
    assert_eq!(counters.closed(&CloseReason::Drained), 50);
}

/// A thread that waits in accept(2) looks up once a second.
const SOON: Duration = Duration::from_secs(3);

fn a_server_without_clients_ends_soon(model: Model) {
    let served = serve(model, |_| Echo);
    let start = Instant::now();
    served.drained();
    assert!(start.elapsed() < SOON);
}

fn a_server_whose_threads_have_long_waited_ends_soon(model: Model) {
    let served = serve(model, |_| Echo);
    let mut client = served.connect();
    client.ask(b"x");
    thread::sleep(Duration::from_millis(1300)); // Until they wait in poll(2).
    let start = Instant::now();
    served.stop().drain();
    client.expect_end();
    drop(client);
    served.ended();
    assert!(start.elapsed() < SOON);
}

fn a_stopped_server_is_not_listening(model: Model) {
    let served = serve(model, |_| Echo);
    let address = served.address;
    served.connect().ask(b"x");
    served.drained();
    assert!(TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_err());
}

fn a_server_that_was_dropped_has_ended(model: Model) {
    let prepared = prepare(model, |_| Echo, |builder| builder.listen("127.0.0.1:0"));
    let address = prepared.address;
    let running = prepared.server.start().unwrap();
    let mut client = Client::connect(address);
    client.ask(b"x");
    drop(running);
    assert_eq!(client.until_reset(), 0);
    assert!(TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_err());
}

fn a_stop_before_the_start_is_heeded(model: Model) {
    let prepared = prepare(model, |_| Echo, |builder| builder.listen("127.0.0.1:0"));
    // Who came before the end was asked for is served.
    let mut client = Client::connect(prepared.address);
    client.send(b"early");
    prepared.server.stop().drain();
    let served = prepared.start();
    assert_bytes(&client.rest(), b"early");
    drop(client);
    assert_eq!(served.ended().opened, 1);
}
