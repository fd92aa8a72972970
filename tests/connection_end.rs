//! How a connection ends: the peer's end, the orderly close, the cut, and the drain, each with what
//! is told to the handler and what is still sent. No socket, no clock.

mod wire;

use std::io;
use std::time::Duration;

use evmux::{CloseReason, Connection, Exchange, Flow, Limits, Violation, Wants};
use wire::{Call, Wire};

const SECOND: Duration = Duration::from_secs(1);

/// Answers all that is there with itself.
fn echo(exchange: &mut Exchange<'_>) -> Flow {
    let count = exchange.received.len();
    exchange.to_send.append_received(&mut exchange.received, count);
    Flow::Continue
}

/// Echoes; every other call as usual.
fn echoing(call: Call, exchange: &mut Exchange<'_>) -> Flow {
    if call == Call::Receive { echo(exchange) } else { call.usual() }
}

/// Echoes frames of four bytes.
fn fours(call: Call, exchange: &mut Exchange<'_>) -> Flow {
    if call != Call::Receive {
        return call.usual();
    }
    while exchange.received.len() >= 4 {
        exchange.to_send.append_received(&mut exchange.received, 4);
    }
    Flow::AtLeast(4)
}

// ── the peer's end ───────────────────────────────────────────────────────────────────────────

#[test]
fn the_end_is_told_once_with_what_is_left() {
    let mut wire = Wire::new(Limits::default(), fours);
    wire.receive(b"abcdef");
    wire.call(Connection::receive_end);
    wire.call(Connection::receive_end);
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:6 end:2");
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Finished));
    assert!(!wire.finished, "closing is our FIN when the peer has finished");
}

#[test]
fn who_finishes_is_read_from_until_the_peer_has_finished_too() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive => {
            echo(exchange);
            Flow::Finish
        }
        other => other.usual(),
    });
    wire.receive(b"last");
    wire.go_on();
    assert!(wire.finished);
    assert_eq!(wire.sent, b"last");
    wire.assert_only_receives();
    wire.call(Connection::receive_end);
    wire.go_on();
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn the_end_comes_after_the_last_receive() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive if exchange.received.len() > 1 => {
            exchange.received.consume(1);
            Flow::Again
        }
        _ => echoing(call, exchange),
    });
    wire.receive(b"abc");
    wire.call(Connection::receive_end);
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:3 receive:2 receive:1 end:0");
    assert_eq!(wire.sent, b"c");
}

#[test]
fn the_end_is_not_told_to_one_who_waits() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive if exchange.now().as_nanos() < 1000 => {
            exchange.set_timer(SECOND);
            Flow::Wait
        }
        Call::Timer => Flow::Again,
        _ => echoing(call, exchange),
    });
    wire.receive(b"abc");
    wire.call(Connection::receive_end);
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:3");
    wire.pass(SECOND);
    wire.go_on();
    assert_eq!(wire.calls(), "timer:3 receive:3 end:0");
}

#[test]
fn a_half_open_connection_can_still_send() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::End => {
            exchange.set_timer(SECOND);
            Flow::Continue
        }
        Call::Timer => {
            exchange.to_send.append(b"late");
            Flow::Close
        }
        _ => echoing(call, exchange),
    });
    wire.call(Connection::receive_end);
    wire.go_on();
    assert_eq!(wire.connection.wants(), Wants::default());
    assert!(!wire.connection.is_closed());
    wire.pass(SECOND);
    wire.go_on();
    assert_eq!(wire.sent, b"late");
    assert_eq!(wire.calls(), "open:0 end:0 timer:0");
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Served));
}

#[test]
fn who_says_again_at_the_end_is_called_for_more_until_it_closes() {
    let mut rounds = 0;
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::End => Flow::Again,
        Call::Receive => {
            rounds += 1;
            exchange.to_send.append(b"x");
            if rounds < 3 { Flow::Again } else { Flow::Close }
        }
        other => other.usual(),
    });
    wire.call(Connection::receive_end);
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 end:0 receive:0 receive:0 receive:0");
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Served));
}

// ── closing ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_orderly_close_flushes_then_finishes_then_waits_for_the_peer() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| {
        echoing(call, exchange);
        Flow::Close
    });
    wire.window = 2;
    wire.call(Connection::pump);
    assert_eq!(wire.connection.wants(), Wants { receive: true, finish: true, ..Wants::default() });
    wire.go_on();
    wire.assert_only_receives();
    wire.receive(b"too late");
    assert_eq!(wire.calls(), "open:0");
    wire.call(Connection::receive_end);
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Served));
}

#[test]
fn who_closes_during_a_wait_is_read_from_again_and_not_paused() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| {
        exchange.set_timer(SECOND);
        if call == Call::Open { Flow::Wait } else { Flow::Close }
    });
    assert!(wire.connection.is_paused());
    wire.pass(SECOND);
    assert!(wire.connection.wants().receive);
    assert!(!wire.connection.is_paused());
}

#[test]
fn what_comes_while_flushing_is_discarded() {
    let violation = Violation::TooLong { length: 7, limit: 3 };
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive => {
            echo(exchange);
            Flow::Refuse(violation)
        }
        other => other.usual(),
    });
    wire.window = 2;
    wire.receive(b"abcd");
    assert_eq!(wire.connection.wants(), Wants { receive: true, send: true, ..Wants::default() });
    wire.receive(b"efgh");
    assert_eq!((wire.connection.to_send(), wire.connection.held_back()), (b"cd".as_slice(), 0));
    wire.call(Connection::receive_end);
    assert_eq!(wire.connection.wants(), Wants { send: true, ..Wants::default() });
    wire.window = 2;
    wire.go_on();
    assert_eq!(wire.sent, b"abcd");
    assert_eq!(wire.calls(), "open:0 receive:4");
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Refused(violation)));
    assert!(!wire.finished);
}

#[test]
fn a_connection_is_not_flushed_while_its_answer_is_under_way() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| {
        if call == Call::End {
            exchange.to_send.append(b"bye");
        }
        call.usual()
    });
    let mut output = Vec::new();
    let lent = evmux::Lent::new(&mut output, &wire.limits, wire.now);
    let answer = wire.connection.receive_end(lent);
    assert_eq!(answer.as_slice(), b"bye");
    assert!(!wire.connection.is_closed());
    wire.connection.keep(answer, 1, &wire.limits, wire.now);
    assert_eq!(wire.connection.wants(), Wants { send: true, ..Wants::default() });
    wire.go_on();
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn an_abort_cuts_and_drops_what_waits() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive => {
            echo(exchange);
            Flow::Abort
        }
        other => other.usual(),
    });
    wire.receive(b"abc");
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Aborted));
    assert_eq!((wire.sent.len(), wire.connection.to_send().len()), (0, 0));
    assert_eq!(wire.connection.wants(), Wants::default());
    wire.receive(b"abc");
    wire.call(Connection::receive_end);
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:3");
}

#[test]
fn a_failed_call_is_the_peer_s_reset_or_an_error_unless_all_was_said() {
    for (kind, reason) in [
        (io::ErrorKind::BrokenPipe, CloseReason::Reset),
        (io::ErrorKind::ConnectionReset, CloseReason::Reset),
        (io::ErrorKind::TimedOut, CloseReason::Failed(io::ErrorKind::TimedOut)),
    ] {
        let mut wire = Wire::new(Limits::default(), echoing);
        wire.connection.failed(kind);
        assert_eq!(wire.connection.close_reason(), Some(reason));

        let mut lingering = Wire::new(Limits::default(), |_, _| Flow::Close);
        lingering.go_on();
        lingering.connection.failed(kind);
        assert_eq!(lingering.connection.close_reason(), Some(CloseReason::Served));
    }
}

/// Closes it; the calls that were not asked for yet.
fn close<F: FnMut(Call, &mut Exchange<'_>) -> Flow>(wire: Wire<F>) -> String {
    let _ = wire.connection.close();
    wire.log.borrow().join(" ")
}

#[test]
fn closed_is_told_exactly_once_whatever_happened() {
    let mut wire = Wire::new(Limits::default(), echoing);
    wire.connection.panicked();
    wire.connection.stop();
    wire.connection.failed(io::ErrorKind::BrokenPipe);
    assert_eq!(wire.calls(), "open:0");
    assert_eq!(close(wire), "closed:panicked");

    let open = Wire::new(Limits::default(), echoing);
    assert_eq!(close(open), "open:0 closed:stopped");

    let refusing = Wire::new(Limits::default(), |_, _| Flow::AtLeast(usize::MAX));
    assert_eq!(close(refusing), "open:0 closed:stopped");
}

// ── the drain ────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_idle_connection_is_told_of_a_drain_at_once() {
    let mut wire = Wire::new(Limits::default(), echoing);
    wire.call(|connection, lent| connection.drain(0, lent));
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 drain:0");
    assert!(wire.finished);
    wire.call(Connection::receive_end);
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Drained));
}

#[test]
fn a_drain_is_told_after_what_had_come_first() {
    let mut wire = Wire::new(Limits::default(), echoing);
    wire.call(|connection, lent| connection.drain(6, lent));
    wire.go_on();
    wire.receive(b"abc");
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:3");
    wire.receive(b"def");
    wire.go_on();
    assert_eq!(wire.calls(), "receive:3 drain:0");
    assert_eq!(wire.sent, b"abcdef");
}

#[test]
fn a_drain_is_told_when_nothing_more_can_be_received() {
    let mut wire = Wire::new(Limits::default(), echoing);
    wire.call(|connection, lent| connection.drain(100, lent));
    wire.receive(b"abc");
    wire.assert_only_receives();
    wire.connection.dry();
    assert!(wire.connection.wants().pump);
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:3 drain:0");
}

#[test]
fn a_drain_waits_for_a_frame_that_has_begun() {
    let mut wire = Wire::new(Limits::default(), fours);
    wire.receive(b"ab");
    wire.call(|connection, lent| connection.drain(0, lent));
    wire.go_on();
    wire.assert_only_receives();
    wire.receive(b"c");
    wire.go_on();
    wire.receive(b"d");
    wire.go_on();
    assert_eq!(wire.sent, b"abcd");
    assert_eq!(wire.calls(), "open:0 receive:2 receive:4 drain:0");
}

#[test]
fn a_drain_does_not_wait_for_a_frame_that_a_timer_consumed() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Open => {
            exchange.set_timer(SECOND);
            Flow::Continue
        }
        Call::Timer => echo(exchange),
        Call::Receive => Flow::Continue,
        other => other.usual(),
    });
    wire.receive(b"ab");
    wire.pass(SECOND);
    wire.call(|connection, lent| connection.drain(0, lent));
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:2 timer:2 drain:0");
}

#[test]
fn one_who_waits_is_told_of_a_drain_at_once() {
    let mut wire = Wire::new(Limits::default(), |call, _| match call {
        Call::Receive => Flow::Wait,
        other => other.usual(),
    });
    wire.receive(b"abc");
    wire.call(|connection, lent| connection.drain(100, lent));
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:3 drain:3");
    assert!(wire.finished);
}

#[test]
fn who_is_told_of_a_drain_may_go_on_and_close_later() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Drain => Flow::Continue,
        Call::Receive => {
            echo(exchange);
            Flow::Close
        }
        other => other.usual(),
    });
    wire.call(|connection, lent| connection.drain(0, lent));
    wire.go_on();
    wire.assert_only_receives();
    wire.call(|connection, lent| connection.drain(0, lent));
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 drain:0", "told once");
    wire.receive(b"abc");
    wire.go_on();
    assert_eq!(wire.sent, b"abc");
    wire.call(Connection::receive_end);
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Served));
}

#[test]
fn a_drain_is_told_after_the_end_however_much_was_thought_unread() {
    let mut wire = Wire::new(Limits::default(), |call, _| match call {
        Call::End => Flow::Continue,
        other => other.usual(),
    });
    wire.call(|connection, lent| connection.drain(100, lent));
    wire.receive(b"abc");
    wire.call(Connection::receive_end);
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:3 end:3 drain:3");
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Drained));
}

#[test]
fn throttled_ended_and_drained_at_once_ends_in_order() {
    let limits = Limits::default().send_buffer(4);
    let mut wire = Wire::new(limits, |call, exchange| match call {
        Call::Receive if !exchange.to_send.is_full() && !exchange.received.is_empty() => {
            exchange.to_send.append_received(&mut exchange.received, 1);
            Flow::Again
        }
        Call::End => Flow::Continue,
        other => other.usual(),
    });
    wire.window = 0;
    wire.receive(b"abcdefgh");
    wire.go_on();
    wire.call(Connection::receive_end);
    wire.call(|connection, lent| connection.drain(0, lent));
    wire.go_on();
    assert_eq!(wire.connection.wants(), Wants { send: true, ..Wants::default() });
    let before = wire.calls();
    assert!(!before.contains("end") && !before.contains("drain"), "{before}");
    wire.window = usize::MAX;
    wire.go_on();
    let calls = wire.calls();
    assert_eq!(wire.sent, b"abcdefgh", "{calls}");
    assert!(calls.starts_with("room:4 receive:4"), "{calls}");
    assert!(calls.ends_with("receive:0 end:0 drain:0"), "{calls}");
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Drained));
}

#[test]
fn the_drain_timeout_cuts_what_is_open_and_not_who_was_answered() {
    let mut wire = Wire::new(Limits::default(), echoing);
    wire.connection.drain_timeout();
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::DrainTimeout));

    let mut lingering = Wire::new(Limits::default(), |_, _| Flow::Close);
    lingering.go_on();
    lingering.connection.drain_timeout();
    assert_eq!(lingering.connection.close_reason(), Some(CloseReason::Served));
}
