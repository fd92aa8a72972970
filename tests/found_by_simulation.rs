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
