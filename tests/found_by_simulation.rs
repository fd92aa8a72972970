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

/// Reads one byte, and a while later answers and closes, whatever came meanwhile.
#[derive(Default)]
struct Deferred {
    answer: u8,
}

impl Handler for Deferred {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.answer = exchange.received[0];
        exchange.received.consume(1);
        exchange.set_timer(Duration::from_millis(5));
        Flow::Wait
    }

    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(&[self.answer; 20]);
        Flow::Close
    }
}

/// Edge-triggered, the events of what came during the pause were gone: it stayed in the socket, the
/// client's end behind it was never seen, and closing with it would have been a reset.
#[test]
fn what_came_while_a_handler_waited_is_read_when_its_timer_closes() {
    let script = |draw: &mut Draw| {
        let count = draw.between(1..=100);
        let more = draw.bytes(count);
        Script::new().says(b"a", &[b'a'; 20]).says(&more, b"").server_closes()
    };
    Simulation::new(|_: &Peer| Deferred::default())
        .trigger(Trigger::Edge)
        .faults(Faults::none())
        .check(0..100, script);
}

/// An echo that waits for room when its answers have filled the buffer.
struct Patient;

impl Handler for Patient {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        if exchange.to_send.is_full() { Flow::Wait } else { Flow::Continue }
    }

    fn room(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Again
    }
}

/// The buffer was full in the handler's eyes only: the socket took all of it at once, the high mark
/// was never reached, and `room` was not called.
#[test]
fn room_is_called_though_the_socket_took_all_that_filled_the_buffer() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        Simulation::new(|_: &Peer| Patient)
            .trigger(trigger)
            .faults(Faults::none())
            .check(0..100, echoed);
    }
}

/// A connection whose budget was spent had its next one from the ready list, and another one for each
/// event that came meanwhile, before others on the list had one.
#[test]
fn a_connection_has_no_second_budget_before_those_who_wait_have_one() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        Simulation::new(|_: &Peer| Echo)
            .trigger(trigger)
            .faults(Faults::none().with(Fault::Races))
            .check(0..1000, echoed);
    }
}

/// A connection that took long to make was closed as idle: the time was counted from when it was
/// asked for.
#[test]
fn an_outgoing_connection_is_idle_only_since_it_is_there() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        Simulation::new(|_: &Peer| Echo)
            .trigger(trigger)
            .faults(Faults::none().with(Fault::Unreachable))
            .outgoing()
            .check(0..500, echoed);
    }
}

/// One that was asked for during a drain stayed open until the drain timeout: its handler was not
/// told of the drain.
#[test]
fn an_outgoing_connection_that_comes_during_a_drain_is_told_of_it() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        for call in [1, 10, 20] {
            Simulation::new(|_: &Peer| Echo)
                .trigger(trigger)
                .faults(Faults::none())
                .outgoing()
                .drain_at(call)
                .check(0..500, echoed);
        }
    }
}

/// An attempt that could not be registered was waited for, and taken for a connection when it had
/// come about: nothing was ever heard of it.
#[test]
fn an_outgoing_connection_that_cannot_be_registered_is_not_used() {
    Simulation::new(|_: &Peer| Echo)
        .trigger(Trigger::Edge)
        .faults(Faults::none().with(Fault::FailedRegistration).with(Fault::Unreachable))
        .outgoing()
        .check(0..1000, echoed);
}

/// An echo that takes a while before it begins.
struct Slow;

impl Handler for Slow {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.set_timer(Duration::from_millis(50));
        Flow::Wait
    }

    fn timer(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Again
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Continue
    }
}

/// The address that was tried next had the token of the one that had failed: what was still said of
/// the old stream, that it had hung up, ended the new one.
#[test]
fn what_is_said_of_a_failed_attempt_does_not_end_the_next() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        Simulation::new(|_: &Peer| Slow)
            .trigger(trigger)
            .faults(Faults::none().with(Fault::StaleEvents).with(Fault::Unreachable))
            .outgoing()
            .check(0..1000, echoed);
    }
}

/// That a client was gone when it was accepted says that there are descriptors again. A drain that
/// had found none a moment before turned away those who waited at the other listener.
#[test]
fn who_waits_in_a_drain_is_accepted_when_descriptors_are_to_be_had_again() {
    for call in [4, 8, 12, 16] {
        Simulation::new(|_: &Peer| Echo)
            .trigger(Trigger::Edge)
            .faults(
                Faults::none().with(Fault::Exhaustion).with(Fault::AcceptErrors).with(Fault::Races),
            )
            .drain_at(call)
            .check(0..1000, echoed);
    }
}
