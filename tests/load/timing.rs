//! What the figures say about servers whose delays are known.
//!
//! The servers here sleep: how long they take is what is measured. Nothing depends on being fast;
//! where there is an upper bound, it is for a stall that may not be seen, and far above what a slow
//! machine needs.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use evmux::load::{Pacing, Until};

use crate::{plan, run, server};

const MILLISECOND: u64 = 1_000_000;

#[test]
fn a_server_that_waits_is_never_faster_than_it_waits() {
    let wait = Duration::from_millis(5);
    let address = server(move |mut stream| {
        let mut message = [0; 64];
        loop {
            stream.read_exact(&mut message)?;
            thread::sleep(wait);
            stream.write_all(&message)?;
        }
    });
    for pacing in [Pacing::Closed, Pacing::Open { rate: 200.0 }] {
        let mut plan = plan(&address.to_string(), 100);
        plan.pacing = pacing;
        let outcome = run(&plan);
        // The buckets are 0.1 % wide.
        assert!(outcome.times.service.min() >= 4_990_000, "{}", outcome.times.service.min());
        let median = outcome.times.felt().value_at_quantile(0.5);
        assert!((4_990_000..100 * MILLISECOND).contains(&median), "{median} ns");
    }
}

/// Stands still for the first `stall` of every `period`, for all connections at the same time.
fn stalling(stall: Duration, period: Duration) -> String {
    let start = Instant::now();
    let address = server(move |mut stream| {
        let mut message = [0; 64];
        loop {
            stream.read_exact(&mut message)?;
            let phase = start.elapsed().as_nanos() % period.as_nanos();
            let left = stall.as_nanos().saturating_sub(phase);
            thread::sleep(Duration::from_nanos(left as u64));
            stream.write_all(&message)?;
        }
    });
    address.to_string()
}

#[test]
fn a_stall_is_hidden_by_the_closed_loop_and_shown_by_the_open_one() {
    // A tenth of the time, as a second in ten.
    let (stall, period) = (Duration::from_millis(200), Duration::from_secs(2));
    let target = stalling(stall, period);
    let mut plan = plan(&target, 1);
    plan.connections = 2;
    plan.until = Until::Duration(period * 2);

    let closed = run(&plan);
    // Each connection was hit once for each stall, whatever it could have asked in that time.
    let p99 = closed.times.felt().value_at_quantile(0.99);
    assert!(p99 < 100 * MILLISECOND, "closed: {p99} ns");
    assert!(closed.times.latency.is_none());

    plan.pacing = Pacing::Open { rate: 200.0 };
    let open = run(&plan);
    assert_eq!(open.errors.total(), 0);
    assert_eq!(open.counts.answered, 800);
    // A tenth of the requests were due in a stall, and waited for its end.
    let latency = open.times.latency.as_ref().unwrap();
    let p99 = latency.value_at_quantile(0.99);
    assert!(p99 > 120 * MILLISECOND, "open: {p99} ns");
    // The service time, beside it, hides it as the closed loop does.
    let service = open.times.service.value_at_quantile(0.9);
    assert!(service < 100 * MILLISECOND, "service: {service} ns");
}

#[test]
fn what_a_full_server_lets_wait_counts_from_when_it_was_due() {
    // 50 a second at most, and 100 are due.
    let address = server(|mut stream| {
        let mut message = [0; 64];
        loop {
            stream.read_exact(&mut message)?;
            thread::sleep(Duration::from_millis(20));
            stream.write_all(&message)?;
        }
    });
    let mut plan = plan(&address.to_string(), 50);
    plan.connections = 1;
    plan.pacing = Pacing::Open { rate: 100.0 };
    let outcome = run(&plan);
    assert_eq!(outcome.counts.answered, 50);
    // The last was due after half a second, and was served after the 49 before it.
    let latency = outcome.times.latency.as_ref().unwrap().max();
    assert!(latency > 400 * MILLISECOND, "{latency} ns");
    // The server was late, not the generator: each left when its connection became free.
    let lag = outcome.lag.value_at_quantile(0.5);
    assert!(lag < 400 * MILLISECOND, "{lag} ns");
}

#[test]
fn what_cannot_be_sent_in_time_is_counted_and_said() {
    // Nothing is ever answered.
    let address = server(|mut stream| {
        let mut message = [0; 64];
        loop {
            stream.read_exact(&mut message)?;
        }
    });
    let mut plan = plan(&address.to_string(), 1);
    plan.connections = 1;
    plan.pacing = Pacing::Open { rate: 100.0 };
    plan.until = Until::Duration(Duration::from_millis(500));
    plan.timeout = Duration::from_millis(400);
    let outcome = run(&plan);
    let errors = outcome.errors;
    assert_eq!(outcome.counts.planned, 50);
    assert_eq!(outcome.counts.answered, 0);
    assert!(errors.timed_out > 0 && errors.unsent > 0, "{errors:?}");
    assert_eq!(errors.timed_out + errors.unsent, 50, "{errors:?}");
    let names: Vec<_> = outcome.warnings.iter().map(|warning| warning.name()).collect();
    assert!(names.contains(&"rate_not_reached"), "{names:?}");
}
