//! One scenario, and in it every call of the loop that can fail, failing: in each way that a kernel
//! has for it, once and from then on, without a drain and with one at each step.
//!
//! What happens once in a year of service happens here by counting and not by chance.
#![cfg(feature = "sim")]

use std::collections::BTreeSet;
use std::time::Duration;

use evmux::sim::{
    Client, FailedCall, Faults, Leaving, Reading, Script, Simulation, Trigger, Writing,
};
use evmux::{Exchange, Flow, Handler, Limits, Peer, Violation};

const MAX_FRAME: usize = 12;

/// Greets, echoes lines, thinks for a while about those that begin with a question mark, and
/// refuses long ones.
#[derive(Default)]
struct Lines {
    thinks: bool,
}

impl Handler for Lines {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"hello\n");
        Flow::Continue
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            let end = exchange.received.iter().position(|byte| *byte == b'\n');
            let length = end.unwrap_or(exchange.received.len());
            if length > MAX_FRAME {
                let limit = MAX_FRAME as u64;
                return Flow::Refuse(Violation::TooLong { length: length as u64, limit });
            }
            if end.is_none() {
                return Flow::Continue;
            }
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
            if exchange.received.first() == Some(&b'?') && !self.thinks {
                self.thinks = true;
                exchange.set_timer(Duration::from_millis(3));
                return Flow::Wait;
            }
            self.thinks = false;
            exchange.to_send.append_received(&mut exchange.received, length + 1);
        }
    }

    fn timer(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Again
    }
}

fn hello() -> Script {
    Script::new().hears(b"hello\n")
}

fn polite() -> Script {
    hello().says(b"one\n", b"one\n").says(b"?two\n", b"?two\n")
}

/// Four clients: one in lock-step, one that pours and reads slowly, one that is refused, one that
/// vanishes; and a limit that lets three of them in.
fn scenario(trigger: Trigger) -> Simulation<impl evmux::Service + Clone> {
    let many = (0..6).fold(hello(), |script, _| script.says(b"abcdefgh\n", b"abcdefgh\n"));
    let long = hello().says(b"ok\n", b"ok\n").says(b"0123456789abcdef", b"").server_closes();
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let limits = Limits::default().send_buffer(10).max_frame(MAX_FRAME);
    let limits = limits.idle_timeout(minutes(10)).write_timeout(minutes(5));
    let ms = Duration::from_millis;
    Simulation::new(|_: &Peer| Lines::default())
        .trigger(trigger)
        .faults(Faults::none())
        .limits(limits)
        .max_connections(3)
        .client(Client::new(polite()).writing(Writing::LockStep).leaving(Leaving::FinishLast))
        .client(Client::new(many).reading(Reading::Slow).buffers(30, 7))
        .client(Client::new(long).begins(ms(1)))
        .client(Client::new(hello()).leaving(Leaving::Vanish(3)).begins(ms(2)))
}

#[track_caller]
fn all_fail(simulation: &Simulation<impl evmux::Service>) -> BTreeSet<FailedCall> {
    simulation.fail_each_call().unwrap_or_else(|failure| panic!("{failure}"))
}

/// Of each of the calls something failed, once and for ever.
fn every_call_failed(trigger: Trigger) {
    let failed = all_fail(&scenario(trigger));
    let calls =
        ["accept", "refuse_one", "register", "receive", "send", "finish", "wait", "reserve"];
    for call in calls {
        for from_then_on in [false, true] {
            // The spare descriptor is only asked for when accepting has failed before.
            if call == "refuse_one" && !from_then_on {
                continue;
            }
            let found = failed.iter().any(|it| it.call == call && it.from_then_on == from_then_on);
            assert!(found, "{call} never failed, from then on: {from_then_on}: {failed:?}");
        }
    }
    let errors: BTreeSet<i32> = failed.iter().map(|it| it.error).collect();
    assert!(errors.len() >= 18, "{errors:?}");
}

#[test]
fn nothing_is_lost_whichever_call_fails_edge_triggered() {
    every_call_failed(Trigger::Edge);
}

#[test]
fn nothing_is_lost_whichever_call_fails_level_triggered() {
    every_call_failed(Trigger::Level);
}

/// A drain, or a stop, at each step of the scenario.
#[test]
fn a_drain_or_a_stop_may_come_at_any_call() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        // It makes less than half as many calls, and those that a drain adds.
        for call in 1..=250 {
            for simulation in [
                scenario(trigger).drain_at(call),
                scenario(trigger).stop_at(call),
                scenario(trigger).drain_at(call).stop_at(call + 5),
            ] {
                simulation.run().unwrap_or_else(|failure| panic!("at call {call}: {failure}"));
            }
        }
    }
}

/// The second signal, at each step that follows the first.
#[test]
fn a_stop_may_come_at_any_call_of_a_drain() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        for first in 1..=120 {
            for second in first + 1..=first + 80 {
                let simulation = scenario(trigger).drain_at(first).stop_at(second);
                let failed = |failure| panic!("at calls {first} and {second}: {failure}");
                simulation.run().unwrap_or_else(failed);
            }
        }
    }
}

/// The first client resets, or is never heard of again, at each byte that it says or is answered.
#[test]
fn a_client_may_go_at_any_byte() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        for byte in 0..=30 {
            for leaving in [Leaving::Reset(byte), Leaving::Vanish(byte)] {
                let client = Client::new(polite()).writing(Writing::LockStep).leaving(leaving);
                let simulation = scenario(trigger).client(client);
                simulation.run().unwrap_or_else(|failure| panic!("at byte {byte}: {failure}"));
            }
        }
    }
}

/// Two of the clients are called by the server, and every call that this takes fails.
#[test]
fn a_call_may_fail_while_the_server_connects() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        let mut failed = BTreeSet::new();
        for seed in 0..6 {
            failed.extend(all_fail(&scenario(trigger).outgoing().seed(seed)));
        }
        for from_then_on in [false, true] {
            let connects =
                |it: &&FailedCall| it.call == "connect" && it.from_then_on == from_then_on;
            assert!(failed.iter().filter(connects).count() >= 4, "{failed:?}");
        }
    }
}

/// The call that fails may be one of those that the drain makes.
#[test]
fn a_call_may_fail_while_the_server_drains() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        for call in (5..80).step_by(5) {
            all_fail(&scenario(trigger).drain_at(call));
        }
    }
}
