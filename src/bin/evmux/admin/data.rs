//! `/data.json`: what the live page shows.
//!
//! Everything that grows is sent as it stands, and the page makes rates of two looks. So any
//! number of pages can look, each when it likes, and nothing is kept for them here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evmux::services::Response;
use evmux::{Distribution, OpenConnection, Phase, Snapshot, Thread, Watch};
use serde_json::{Value, json};

use super::metrics::settled;
use super::{Subject, health};

/// The connections of the table, out of any number.
const MOST_CONNECTIONS: usize = 20;
/// A model with a thread for each connection has thousands.
const MOST_THREADS: usize = 16;
/// How long a loop may take to name its connections. One that is stuck does not, and the page is
/// to say so rather than to wait.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long an answer serves everybody who asks: looking costs the serving loops the same for one
/// page and for many.
const FRESH: Duration = Duration::from_millis(250);

/// The last answer.
#[derive(Default)]
pub(super) struct Cache(Mutex<Option<(Instant, Arc<[u8]>)>>);

pub(super) fn page(subject: &Subject) -> Response {
    let mut last = subject.data.0.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = last.take_if(|(when, _)| when.elapsed() < FRESH);
    let (when, text) =
        fresh.unwrap_or_else(|| (Instant::now(), look(subject).to_string().into_bytes().into()));
    *last = Some((when, Arc::clone(&text)));
    Response::new("application/json", text)
}

fn look(subject: &Subject) -> Value {
    let mut data = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "service": subject.service,
        "model": subject.model,
        "uptime": subject.clock.elapsed().as_secs_f64(),
        "not_ready": health::unreadiness(subject),
    });
    if let Some(shown) = subject.shown.get() {
        let watch = &shown.watch;
        let turn = watch.longest_turn();
        data["phase"] = match watch.phase() {
            Phase::Serving if shown.is_ending() => "ending".into(),
            Phase::Serving => "serving".into(),
            Phase::Draining => "draining".into(),
            Phase::Stopped => "stopped".into(),
        };
        data["longest_turn"] = turn.as_secs_f64().into();
        data["ill"] = health::illness(turn).into();
        data["counted"] = counted(&watch.counters());
        data["threads"] = threads(watch.threads());
        data["connections"] = connections(watch);
    }
    data
}

fn counted(counted: &Snapshot) -> Value {
    json!({
        "accepted": counted.accepted,
        "opened": counted.opened,
        "open": counted.open(),
        "closed": counted.closed_in_all(),
        "refused": counted.refused_limit + counted.refused_descriptors + counted.refused_other,
        "bytes_received": counted.bytes_received,
        "bytes_sent": counted.bytes_sent,
        "receives": counted.receives,
        "sends": counted.sends,
        "waits": counted.waits,
        "waiting_bytes": settled(counted.waiting_bytes),
        "paused": settled(counted.paused_connections),
        "datagrams_received": counted.datagrams_received,
        "datagrams_sent": counted.datagrams_sent,
        "turn_micros": distribution(&counted.turn_micros),
        "lag_micros": distribution(&counted.lag_micros),
    })
}

/// The bounds, and how many were not larger than each; then all.
fn distribution(numbers: &Distribution) -> Value {
    let (bounds, counts): (Vec<_>, Vec<_>) = numbers.up_to().unzip();
    json!({ "bounds": bounds, "up_to": counts, "all": numbers.count() })
}

/// Those that have not waited for longest and that have most connections, and the sums.
fn threads(mut threads: Vec<Thread>) -> Value {
    let sum = |number: fn(&Thread) -> u64| threads.iter().map(number).sum::<u64>();
    let (count, slots, ready) = (threads.len(), sum(|t| t.slots), sum(|t| t.ready));
    threads.sort_by_key(|thread| std::cmp::Reverse((thread.awake_for, thread.connections)));
    threads.truncate(MOST_THREADS);
    let each = threads.iter().map(|thread| {
        json!({
            "connections": thread.connections,
            "slots": thread.slots,
            "ready": thread.ready,
            "awake_for": thread.awake_for.map(|awake| awake.as_secs_f64()),
        })
    });
    json!({ "count": count, "slots": slots, "ready": ready, "each": each.collect::<Vec<_>>() })
}

fn connections(watch: &Watch) -> Value {
    watch.connections(MOST_CONNECTIONS, PATIENCE).iter().map(connection).collect()
}

fn connection(connection: &OpenConnection) -> Value {
    json!({
        "peer": connection.peer.map_or("unix".into(), |address| address.to_string()),
        "stage": connection.stage.name(),
        "age": connection.age.as_secs_f64(),
        "received": connection.received,
        "sent": connection.sent,
        "unconsumed": connection.unconsumed,
        "unsent": connection.unsent,
        "queued": connection.queued,
    })
}
