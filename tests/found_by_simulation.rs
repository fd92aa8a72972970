//! What the simulation has found in the engine, each as a test of its own: the worlds are narrowed
//! down to what it takes, so that they fail at once if it comes back.
#![cfg(feature = "sim")]

use std::time::Duration;

use evmux::sim::{Draw, Fault, Faults, Script, Simulation, Trigger};
use evmux::{Exchange, Flow, Handler, Peer};

struct Echo;

impl Handler for Echo {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Continue
    }
}

fn echoed(draw: &mut Draw) -> Script {
    (0..draw.between(1..=20)).fold(Script::new(), |script, _| {
        let count = draw.between(1..=20);
        let word = draw.bytes(count);
        script.says(&word, &word)
    })
}

/// The rest of the answer was kept for when the socket has room, and no event tells of room that
/// was there all the time.
#[test]
fn an_answer_is_not_forgotten_when_a_signal_interrupts_its_sending() {
    Simulation::new(|_: &Peer| Echo)
        .trigger(Trigger::Edge)
        .faults(Faults::none().with(Fault::Interrupts))
        .check(0..100, echoed);
}

/// While descriptors were exhausted at one listener, nothing was heard of the others: their clients
/// were neither served nor refused.
#[test]
fn clients_of_the_other_listener_are_refused_too_when_descriptors_are_exhausted() {
    Simulation::new(|_: &Peer| Echo)
        .trigger(Trigger::Level)
        .faults(Faults::none().with(Fault::Exhaustion))
        .check(0..400, echoed);
}
