//! What a server records of itself, under each way of waiting.

use std::collections::HashMap;

use evmux::trace::{Event, Record, Recorder, Recording};
use evmux::{Model, Stage};

use crate::support::handlers::{Echo, Flood, flood};
use crate::support::{Client, eventually, listener_with_small_buffers, prepare, serve_with};

every_front_end! {
    the_slices_of_a_thread_nest_and_the_lives_of_connections_are_whole,
}

front_ends! { any number of clients:
    a_slow_reader_is_seen_to_be_paused_and_resumed,
}

front_ends! { poll epoll:
    a_turn_holds_its_wait_and_its_runs,
}

/// Panics unless slices of a track nest, and each connection is opened, then has stages, then is
/// closed.
fn check(recording: &Recording) {
    assert_eq!(recording.dropped, 0);
    let mut slices: HashMap<u32, Vec<&Record>> = HashMap::new();
    for record in recording.records.iter().filter(|record| record.event.is_slice()) {
        assert!(record.began <= record.ended, "{record:?}");
        let track = slices.entry(record.track).or_default();
        // Ordered by their ends: one that came before lies within this one, or before it.
        while let Some(last) = track.last()
            && last.began >= record.began
        {
            track.pop();
        }
        let before = track.last().is_none_or(|last| last.ended <= record.began);
        assert!(before, "{record:?} overlaps {:?}", track.last());
        track.push(record);
    }
    let mut open = HashMap::new();
    for Record { event, .. } in &recording.records {
        match *event {
            Event::Opened { connection, .. } => {
                assert_eq!(open.insert(connection, true), None, "{connection} opened twice");
            }
            Event::Closed { connection, .. } => {
                assert_eq!(open.insert(connection, false), Some(true), "{connection} was not open");
            }
            _ => {
                if let Some(connection) = event.connection() {
                    // The bytes of the last run may be told after the close they led to.
                    let known = open.contains_key(&connection);
                    assert!(known, "{event:?} of an unknown connection");
                }
            }
        }
    }
    assert!(open.values().all(|open| !open), "one was not closed");
}

fn the_slices_of_a_thread_nest_and_the_lives_of_connections_are_whole(model: Model) {
    let recorder = Recorder::new(100_000);
    let served = serve_with(model, |_| Echo, |builder| builder.trace(recorder.clone()));
    for _ in 0..5 {
        let mut client = served.connect();
        client.ask(b"one");
        client.ask(b"two");
        client.finish();
        client.expect_end();
    }
    served.closed(5);
    served.drained();
    let recording = recorder.recording();
    check(&recording);
    let (mut received, mut sent, mut closed) = (0, 0, 0);
    for record in &recording.records {
        match record.event {
            Event::Run { received: more, sent: out, .. }
            | Event::Call { received: more, sent: out, .. } => {
                received += more;
                sent += out;
            }
            Event::Closed { reason, .. } => {
                assert_eq!(reason, "finished");
                closed += 1;
            }
            _ => {}
        }
    }
    assert_eq!((received, sent, closed), (30, 30, 5));
}

fn a_slow_reader_is_seen_to_be_paused_and_resumed(model: Model) {
    let recorder = Recorder::new(1_000_000);
    let listener = listener_with_small_buffers();
    let served = prepare(
        model,
        |_| Flood::default(),
        |builder| builder.trace(recorder.clone()).listener(listener),
    )
    .start();
    let mut slow = Client::with_small_buffer(served.address);
    slow.send(&flood(4 << 20));
    slow.finish();
    let stages = |recorder: &Recorder| -> Vec<Stage> {
        let records = recorder.recording().records;
        let stage = |record: &Record| match record.event {
            Event::Stage { stage, .. } => Some(stage),
            _ => None,
        };
        records.iter().filter_map(stage).collect()
    };
    eventually("a pause", || stages(&recorder).contains(&Stage::Paused));
    slow.rest();
    served.closed(1);
    served.drained();
    let recording = recorder.recording();
    check(&recording);
    let count = |name| recording.records.iter().filter(|r| r.event.name() == name).count();
    assert!(count("partial send") > 0);
    assert!(count("paused") > 0 && stages(&recorder).contains(&Stage::Paused));
    assert_eq!(
        recording.records.iter().filter(|r| matches!(r.event, Event::Paused { .. })).count(),
        recording.records.iter().filter(|r| matches!(r.event, Event::Resumed { .. })).count(),
    );
}

fn a_turn_holds_its_wait_and_its_runs(model: Model) {
    let recorder = Recorder::new(100_000);
    let served = serve_with(model, |_| Echo, |builder| builder.trace(recorder.clone()));
    let mut client = served.connect();
    client.ask(b"word");
    served.drained();
    let recording = recorder.recording();
    let turns: Vec<_> =
        recording.records.iter().filter(|record| record.event == Event::Turn).collect();
    let is_in_a_turn = |record: &Record| {
        turns.iter().any(|turn| turn.began <= record.began && record.ended <= turn.ended)
    };
    for name in ["wait", "accept", "run"] {
        let mut parts = recording.records.iter().filter(|r| r.event.name() == name).peekable();
        assert!(parts.peek().is_some(), "no {name}");
        assert!(parts.all(is_in_a_turn), "a {name} outside of a turn");
    }
}
