//! What a server that runs shows to other threads, under each way of waiting.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use evmux::{Model, OpenConnection, Phase, Stage, Watch};

use crate::support::handlers::{Echo, Flood, Hold, Stopping, flood};
use crate::support::{
    Client, PATIENCE, Served, eventually, listener_with_small_buffers, pattern, prepare,
};

front_ends! { any number of clients:
    who_does_not_read_stands_at_the_top_with_what_waits,
}

every_front_end! {
    a_connection_shows_what_it_has_moved,
    a_connection_that_is_over_is_shown_no_more,
    the_phase_of_a_server_is_seen_from_outside,
}

front_ends! { poll epoll:
    a_loop_that_is_stuck_in_a_handler_is_seen_and_one_that_waits_is_well,
}

fn watched(model: Model) -> (Served, Watch) {
    let mut prepared = prepare(model, |_| Echo, |builder| builder.listen("127.0.0.1:0"));
    let watch = prepared.server.watch().unwrap();
    (prepared.start(), watch)
}

fn connections(watch: &Watch) -> Vec<OpenConnection> {
    watch.connections(10, PATIENCE)
}

fn who_does_not_read_stands_at_the_top_with_what_waits(model: Model) {
    let listener = listener_with_small_buffers();
    let mut prepared = prepare(model, |_| Flood::default(), |builder| builder.listener(listener));
    let watch = prepared.server.watch().unwrap();
    let served = prepared.start();
    let _others: Vec<_> = (0..20).map(|_| Client::connect(served.address)).collect();
    let mut slow = Client::with_small_buffer(served.address);
    slow.send(&flood(8 << 20));
    let name = slow.stream.local_addr().unwrap();
    eventually("the slow reader at the top", || {
        connections(&watch).first().is_some_and(|top| {
            top.peer == Some(name) && top.stage == Stage::Paused && top.unsent > 0
        })
    });
    let shown = connections(&watch);
    assert_eq!(shown.len(), 10, "no more than was asked for");
    assert!(shown.windows(2).all(|pair| pair[0].waiting() >= pair[1].waiting()));
    assert!(shown[0].queued.is_some_and(|queued| queued > 0), "the kernel holds some of it");
    assert_eq!(watch.counters().paused_connections, 1);
    assert_eq!(watch.counters().waiting_bytes, shown[0].unsent + shown[0].unconsumed);
    slow.reset();
}

fn a_connection_shows_what_it_has_moved(model: Model) {
    let (served, watch) = watched(model);
    let mut client = served.connect();
    for _ in 0..3 {
        client.ask(&pattern(1000));
    }
    eventually("the connection as it is", || {
        matches!(connections(&watch).as_slice(), [only]
            if (only.received, only.sent) == (3000, 3000)
                && only.peer == client.stream.local_addr().ok()
                && only.stage == Stage::Idle)
    });
    let age = connections(&watch)[0].age;
    // A clock is what is tested.
    thread::sleep(Duration::from_millis(20));
    assert!(connections(&watch)[0].age >= age + Duration::from_millis(20));
}

fn a_connection_that_is_over_is_shown_no_more(model: Model) {
    let (served, watch) = watched(model);
    for _ in 0..3 {
        let mut client = served.connect();
        client.ask(b"word");
        eventually("the connection", || connections(&watch).len() == 1);
        drop(client);
        eventually("no connection", || connections(&watch).is_empty());
    }
}

fn the_phase_of_a_server_is_seen_from_outside(model: Model) {
    let (served, watch) = watched(model);
    assert_eq!(watch.phase(), Phase::Serving);
    served.stop().drain();
    assert_eq!(watch.phase(), Phase::Draining);
}

fn a_loop_that_is_stuck_in_a_handler_is_seen_and_one_that_waits_is_well(model: Model) {
    let (hold, holder) = Hold::new();
    let mut prepared = prepare(
        model,
        move |_| Stopping(Arc::clone(&hold)),
        |builder| builder.listen("127.0.0.1:0"),
    );
    let watch = prepared.server.watch().unwrap();
    let served = prepared.start();
    eventually("a loop that waits", || watch.threads().len() == 1);
    // Nothing happens, for longer than anything that may happen takes.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(watch.longest_turn(), Duration::ZERO);
    let mut client = served.connect();
    client.send(b"!");
    holder.meanwhile(|| {
        eventually("a turn that does not end", || {
            watch.longest_turn() > Duration::from_millis(200)
        });
        assert!(watch.connections(10, Duration::from_millis(50)).is_empty(), "it cannot answer");
    });
    eventually("its end", || watch.longest_turn() == Duration::ZERO);
    let turns = watch.counters().turn_micros;
    assert!(turns.quantile(1.0).is_some_and(|longest| longest >= 200_000), "{turns:?}");
}
