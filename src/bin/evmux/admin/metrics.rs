//! `/metrics`: the counters of the library under the names that Prometheus' users expect.
//!
//! Base units, `_total` behind what only grows, and reasons as labels. docs/operating.md says what
//! to look at.

use std::time::{Duration, UNIX_EPOCH};

use evmux::services::Response;
use evmux::{Snapshot, Watch};

use super::exposition::{CONTENT_TYPE, Exposition};
use super::{Subject, health, process};

pub(super) fn page(subject: &Subject) -> Response {
    let mut text = Exposition::default();
    let about = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("service", subject.service),
        ("model", subject.model),
    ];
    text.family("gauge", "evmux_build_info", "What runs; always 1.", [(about, 1_u64.into())]);
    let ready = health::unreadiness(subject).is_none();
    text.gauge("evmux_ready", "1 while the server wants new clients, as /readyz says.", ready);
    if let Some(shown) = subject.shown.get() {
        let counted = shown.watch.counters();
        connections(&mut text, &counted);
        bytes_and_calls(&mut text, &counted);
        slow_readers(&mut text, &counted);
        datagrams(&mut text, &counted);
        loops(&mut text, &counted, &shown.watch);
    }
    this_process(&mut text, subject);
    Response::new(CONTENT_TYPE, text.into_text())
}

fn connections(text: &mut Exposition, counted: &Snapshot) {
    text.counter(
        "evmux_connections_accepted_total",
        "Connections taken from a listener, whatever became of them.",
        counted.accepted,
    );
    text.counter(
        "evmux_connections_opened_total",
        "Connections given to the service.",
        counted.opened,
    );
    text.gauge("evmux_connections_open", "Connections that are open.", counted.open());
    text.counters(
        "evmux_connections_refused_total",
        "Connections accepted and closed at once: as many as may be were open, no descriptor was \
         left, or another reason.",
        "reason",
        [
            ("limit", counted.refused_limit),
            ("descriptors", counted.refused_descriptors),
            ("other", counted.refused_other),
        ],
    );
    text.counters(
        "evmux_connections_closed_total",
        "Connections that are over, by the reason.",
        "reason",
        counted.closed_by_label(),
    );
    text.counter(
        "evmux_accept_errors_total",
        "Calls of accept that failed.",
        counted.accept_errors,
    );
}

fn bytes_and_calls(text: &mut Exposition, counted: &Snapshot) {
    let received = counted.bytes_received;
    text.counter("evmux_received_bytes_total", "Bytes that came from clients.", received);
    let sent = counted.bytes_sent;
    text.counter("evmux_sent_bytes_total", "Bytes that the kernel took for clients.", sent);
    text.counter(
        "evmux_receive_calls_total",
        "Calls that receive, those that found nothing included.",
        counted.receives,
    );
    text.counter(
        "evmux_send_calls_total",
        "Calls that send, those that found no room included.",
        counted.sends,
    );
    text.counter(
        "evmux_blocked_calls_total",
        "Calls that found nothing to receive or no room to send.",
        counted.would_blocks,
    );
    text.counter(
        "evmux_partial_sends_total",
        "Calls that sent less than they were asked to.",
        counted.partial_sends,
    );
    text.counter(
        "evmux_interrupted_calls_total",
        "Calls that a signal interrupted.",
        counted.interrupts,
    );
}

fn slow_readers(text: &mut Exposition, counted: &Snapshot) {
    text.gauge(
        "evmux_waiting_bytes",
        "Bytes in the buffers of the connections: not consumed by the service, or not taken by the \
         kernel.",
        settled(counted.waiting_bytes),
    );
    text.counter(
        "evmux_pauses_total",
        "Times that a client was no longer read from, since it read too slowly.",
        counted.paused,
    );
    text.counter("evmux_resumes_total", "Times that reading it went on.", counted.resumed);
    text.gauge(
        "evmux_paused_connections",
        "Connections that are not read from.",
        settled(counted.paused_connections),
    );
    text.counter(
        "evmux_paused_seconds_total",
        "How long connections were not read from, all of them together, up to the last pause or \
         resumption.",
        Duration::from_nanos(settled(counted.paused_nanos)).as_secs_f64(),
    );
}

/// What rises and falls in several threads, which are looked at one after the other, may for a
/// moment have fallen more than it rose.
pub(super) fn settled(sum: u64) -> u64 {
    if sum > i64::MAX as u64 { 0 } else { sum }
}

fn datagrams(text: &mut Exposition, counted: &Snapshot) {
    text.counter(
        "evmux_datagrams_received_total",
        "Datagrams that came, whatever became of them.",
        counted.datagrams_received,
    );
    text.counter(
        "evmux_datagrams_sent_total",
        "Datagrams that the kernel took for peers.",
        counted.datagrams_sent,
    );
    text.counters(
        "evmux_datagrams_dropped_total",
        "Datagrams without an answer: it or they were too long, the kernel did not take it, the \
         handler panicked, or the kernel had no room and threw them away before.",
        "reason",
        [
            ("too_long", counted.datagrams_too_long),
            ("truncated", counted.datagrams_truncated),
            ("unsent", counted.datagrams_unsent),
            ("panicked", counted.datagrams_panicked),
            ("lost", counted.datagrams_lost),
        ],
    );
}

fn loops(text: &mut Exposition, counted: &Snapshot, watch: &Watch) {
    text.counter(
        "evmux_waits_total",
        "Times that a thread asked what has happened, or waited for it.",
        counted.waits,
    );
    text.counter(
        "evmux_spent_budgets_total",
        "Times that a connection had to let the others go first, with more to do.",
        counted.spent_budgets,
    );
    text.counter("evmux_timers_total", "Deadlines that came.", counted.timers);
    text.counter(
        "evmux_messages_delivered_total",
        "Messages of other threads that reached their connection.",
        counted.messages_delivered,
    );
    text.counter(
        "evmux_messages_dropped_total",
        "Messages of other threads whose connection was gone, closing, or had too much waiting.",
        counted.messages_dropped,
    );
    text.histogram(
        "evmux_turn_seconds",
        "How long the turns of the serving loops took, from one wait to the next.",
        &counted.turn_micros,
        1e-6,
    );
    text.histogram(
        "evmux_loop_lag_seconds",
        "How late a serving loop came to what was due.",
        &counted.lag_micros,
        1e-6,
    );
    text.histogram(
        "evmux_wait_events",
        "How many events a wait of a serving loop returned.",
        &counted.events,
        1.0,
    );
    text.gauge(
        "evmux_longest_turn_seconds",
        "Since when the serving loop that has not waited for longest has not; 0 if all wait.",
        watch.longest_turn().as_secs_f64(),
    );
    let threads = watch.threads();
    text.gauge("evmux_threads", "Threads that serve.", threads.len() as u64);
    text.gauge(
        "evmux_slots",
        "Places for connections in the serving loops, used and free.",
        threads.iter().map(|thread| thread.slots).sum::<u64>(),
    );
    text.gauge(
        "evmux_ready_connections",
        "Connections that could go on without an event at the end of the last turn.",
        threads.iter().map(|thread| thread.ready).sum::<u64>(),
    );
}

/// Under the names that Prometheus' own libraries give them.
fn this_process(text: &mut Exposition, subject: &Subject) {
    let began = subject.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    text.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since 1970.",
        began.as_secs_f64(),
    );
    text.counter(
        "process_cpu_seconds_total",
        "Processor time that the process has used.",
        process::processor_time().as_secs_f64(),
    );
    if let Some(open) = process::open_descriptors() {
        text.gauge("process_open_fds", "Descriptors that are open.", open);
    }
    if let Some(most) = process::max_descriptors() {
        text.gauge("process_max_fds", "Descriptors that may be open.", most);
    }
    if let Some((all, resident)) = process::memory() {
        text.gauge("process_virtual_memory_bytes", "Memory in all.", all);
        text.gauge("process_resident_memory_bytes", "Memory that is resident.", resident);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_listeners_are_bound_there_are_metrics_of_the_process() {
        let text = format!("{:?}", page(&Subject::unbound()));
        assert!(!text.contains("evmux_connections"), "{text}");
    }

    #[test]
    fn a_sum_that_is_negative_for_a_moment_is_shown_as_nothing() {
        assert_eq!(settled(0_u64.wrapping_sub(5)), 0);
        assert_eq!(settled(5), 5);
    }
}
