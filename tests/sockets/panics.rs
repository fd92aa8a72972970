//! A panic ends the connection whose handler it was, and nothing else.

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};

use evmux::{CloseReason, Model};

use crate::support::handlers::{Call, PLANNED, Panicking};
use crate::support::{Client, Served, eventually, serve};

every_front_end! {
    a_panic_in_open_ends_that_connection_alone,
    a_panic_in_receive_ends_that_connection_alone,
    a_panic_in_end_ends_that_connection_alone,
    a_panic_in_timer_ends_that_connection_alone,
    a_panic_in_drain_ends_that_connection_alone,
    a_panic_in_closed_harms_nobody,
    a_service_that_panics_refuses_that_client_alone,
}

at_once! { Model::ALL;
    a_panic_in_room_ends_that_connection_alone,
}

/// More often than a pool has threads, none of which may be lost.
const TIMES: usize = 6;

fn a_panic_in_open_ends_that_connection_alone(model: Model) {
    panics_in(model, Call::Open, TIMES);
}

fn a_panic_in_receive_ends_that_connection_alone(model: Model) {
    panics_in(model, Call::Receive, TIMES);
}

fn a_panic_in_end_ends_that_connection_alone(model: Model) {
    panics_in(model, Call::End, TIMES);
}

fn a_panic_in_room_ends_that_connection_alone(model: Model) {
    panics_in(model, Call::Room, 1);
}

fn a_panic_in_timer_ends_that_connection_alone(model: Model) {
    panics_in(model, Call::Timer, TIMES);
}

/// Connections that panic in `call`, between others that do not.
fn panics_in(model: Model, call: Call, times: usize) {
    let (served, next) = serve_panics(model);
    let mut bystander = (model != Model::Sequential).then(|| served.connect());
    for _ in 0..times {
        if let Some(bystander) = &mut bystander {
            bystander.ask(b"before");
        }
        *next.lock().unwrap() = Some(call);
        if let Some(mut victim) = Client::try_connect(served.address) {
            match call {
                Call::Receive => victim.send(b"x"),
                Call::Room => {
                    victim.send(b"x");
                    // A thread that waits in send(2) finds out after a second.
                    eventually("there is no room", || served.counters().paused > 0);
                }
                Call::End => victim.finish(),
                _ => {}
            }
            victim.until_gone();
        }
        *next.lock().unwrap() = None;
        if let Some(bystander) = &mut bystander {
            bystander.ask(b"after");
        }
        served.connect().ask(b"next");
    }
    drop(bystander);
    let bystanders = usize::from(model != Model::Sequential);
    served.closed(2 * times + bystanders);
    let counters = served.drained();
    assert_eq!(counters.closed(&CloseReason::Panicked), times as u64);
}

fn a_panic_in_drain_ends_that_connection_alone(model: Model) {
    let (served, next) = serve_panics(model);
    let mut bystander = (model != Model::Sequential).then(|| served.connect());
    if let Some(bystander) = &mut bystander {
        bystander.ask(b"before");
    }
    *next.lock().unwrap() = Some(Call::Drain);
    let mut victim = served.connect();
    victim.ask(b"x");
    served.stop().drain();
    victim.until_gone();
    if let Some(bystander) = &mut bystander {
        bystander.expect_end();
    }
    drop(bystander);
    let counters = served.ended();
    assert_eq!(counters.closed(&CloseReason::Panicked), 1);
}

fn a_panic_in_closed_harms_nobody(model: Model) {
    let (served, next) = serve_panics(model);
    for _ in 0..TIMES {
        *next.lock().unwrap() = Some(Call::Closed);
        let mut victim = served.connect();
        victim.ask(b"x");
        victim.finish();
        victim.expect_end();
        *next.lock().unwrap() = None;
        served.connect().ask(b"next");
    }
    served.closed(2 * TIMES);
    let counters = served.drained();
    assert_eq!(counters.closed(&CloseReason::Finished), 2 * TIMES as u64);
}

fn a_service_that_panics_refuses_that_client_alone(model: Model) {
    silence_planned_panics();
    let panics = Arc::new(AtomicBool::new(false));
    let service_panics = Arc::clone(&panics);
    let served = serve(model, move |_| {
        assert!(!service_panics.load(Ordering::Relaxed), "{PLANNED}");
        Panicking(None)
    });
    for _ in 0..TIMES {
        panics.store(true, Ordering::Relaxed);
        if let Some(mut refused) = Client::try_connect(served.address) {
            refused.until_gone();
        }
        panics.store(false, Ordering::Relaxed);
        served.connect().ask(b"next");
    }
    served.closed(TIMES);
    let counters = served.drained();
    assert_eq!(counters.refused_other, TIMES as u64);
    assert_eq!(counters.opened, TIMES as u64);
}

/// A server whose next handlers panic in the call that the test says.
fn serve_panics(model: Model) -> (Served, Arc<Mutex<Option<Call>>>) {
    silence_planned_panics();
    let next = Arc::new(Mutex::new(None));
    let service_next = Arc::clone(&next);
    (serve(model, move |_| Panicking(*service_next.lock().unwrap())), next)
}

/// Hundreds of planned panics would hide a real one.
fn silence_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            if text.or(payload.downcast_ref::<&str>().copied()) != Some(PLANNED) {
                report(info);
            }
        }));
    });
}
