//! Who is let in, and what becomes of those who are not.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use evmux::{Exchange, Flow, Handler, Model};

use crate::support::handlers::Echo;
use crate::support::{Client, PATIENCE, eventually, prepare, serve, serve_with};

every_front_end! {
    a_thousand_simultaneous_clients_fit_into_the_accept_queue,
}

front_ends! { several clients at a time:
    a_client_past_the_limit_gets_our_end_and_no_reset,
}

front_ends! { any number of clients:
    two_hundred_clients_at_a_time_are_all_served,
}

front_ends! { poll epoll: a_client_that_comes_again_and_again_is_never_one_too_many, }

fn a_thousand_simultaneous_clients_fit_into_the_accept_queue(model: Model) {
    const CLIENTS: usize = 1000;
    let most = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    if most.trim().parse::<usize>().unwrap() < CLIENTS {
        return; // The kernel does not let anybody have as many.
    }
    // It listens and does not accept: they are all there at the same time.
    let prepared = prepare(model, |_| Echo, |builder| builder.listen("127.0.0.1:0"));
    // A client that finds no room comes again after a second.
    let at_once = Duration::from_millis(900);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| match TcpStream::connect_timeout(&prepared.address, at_once) {
            Ok(stream) => stream,
            Err(error) => panic!("client {number}: {error}"),
        })
        .collect();
    let served = prepared.start();
    for stream in clients {
        let mut client = Client { stream };
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        client.ask(b"at last");
    }
    assert_eq!(served.closed(CLIENTS).len(), CLIENTS);
}

fn a_client_past_the_limit_gets_our_end_and_no_reset(model: Model) {
    let served = serve_with(model, |_| Echo, |builder| builder.max_connections(2));
    let mut first = served.connect();
    first.ask(b"x");
    let mut second = served.connect();
    second.ask(b"x");
    for _ in 0..5 {
        served.connect().expect_end();
    }
    first.ask(b"still here");
    second.ask(b"still here");
    drop(first);
    served.closed(1);
    // The place is free once the server is done with it, which is a moment later.
    eventually("a new client is served", || {
        let mut client = served.connect();
        client.send(b"x");
        matches!(client.stream.read(&mut [0]), Ok(1))
    });
    drop(second);
    let counters = served.drained();
    assert!(counters.refused_limit >= 5);
}

fn two_hundred_clients_at_a_time_are_all_served(model: Model) {
    let served = serve(model, |_| Echo);
    let mut clients: Vec<_> = (0..200).map(|_| served.connect()).collect();
    for round in 0..3_u32 {
        for client in &mut clients {
            client.send(&round.to_be_bytes());
        }
        for client in &mut clients {
            client.expect(&round.to_be_bytes());
        }
    }
    assert_eq!(served.counters().open(), 200);
    drop(clients);
    served.closed(200);
}

/// Echoes once, and closes.
struct Once;

impl Handler for Once {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Close
    }
}

/// The server closes first, and whoever has seen it comes again at once: what was left behind must
/// have been looked at by then.
fn a_client_that_comes_again_and_again_is_never_one_too_many(model: Model) {
    let served = serve_with(model, |_| Once, |builder| builder.max_connections(2));
    for _ in 0..500 {
        let mut client = served.connect();
        client.send(b"x");
        assert_eq!(client.until_gone(), 1);
    }
    let counters = served.drained();
    assert_eq!((counters.opened, counters.refused_limit), (500, 0));
}
