//! What one connection may hold: bytes that wait for the rest of a frame, and bytes that wait for a
//! slow reader. No socket; the deadlines are in `connection_deadlines.rs`.

mod wire;

use std::time::Duration;

use evmux::{CloseReason, Connection, Exchange, Flow, Limits, Overflow, Violation, Wants};
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

/// Echoes byte by byte and stops when it is full.
fn byte_by_byte(call: Call, exchange: &mut Exchange<'_>) -> Flow {
    if call != Call::Receive {
        return call.usual();
    }
    while !exchange.received.is_empty() {
        if exchange.to_send.is_full() {
            return Flow::Again;
        }
        exchange.to_send.append_received(&mut exchange.received, 1);
    }
    Flow::Continue
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

fn too_long(length: usize, limit: u64) -> CloseReason {
    CloseReason::Refused(Violation::TooLong { length: length as u64, limit })
}

/// The reason, once everything is sent and the peer has finished.
fn ended<F: FnMut(Call, &mut Exchange<'_>) -> Flow>(wire: &mut Wire<F>) -> CloseReason {
    wire.go_on();
    wire.call(Connection::receive_end);
    wire.connection.close_reason().expect("it is over")
}

// ── bytes held back ──────────────────────────────────────────────────────────────────────────

#[test]
fn a_frame_that_can_never_fit_is_refused_at_its_header() {
    let limits = Limits::default().max_frame(10);
    let fits = 10 + Limits::HEAD;
    for (count, refused) in [(fits, false), (fits + 1, true), (usize::MAX, true)] {
        let mut wire = Wire::new(limits.clone(), |call, _| match call {
            Call::Receive => Flow::AtLeast(count),
            other => other.usual(),
        });
        wire.receive(b"head");
        if refused {
            assert_eq!(wire.connection.held_back(), 0);
            assert_eq!(ended(&mut wire), too_long(count, 10));
        } else {
            assert_eq!(wire.connection.held_back(), 4);
            wire.assert_only_receives();
        }
    }
}

#[test]
fn a_frame_of_any_length_may_be_allowed() {
    let limits = Limits::default().max_frame(usize::MAX);
    let mut wire = Wire::new(limits, |call, _| match call {
        Call::Receive => Flow::AtLeast(usize::MAX),
        other => other.usual(),
    });
    wire.receive(b"abc");
    wire.receive(b"def");
    wire.assert_only_receives();
    assert_eq!(wire.calls(), "open:0 receive:3");
}

#[test]
fn who_never_consumes_is_refused_at_the_limit_and_not_before() {
    let limits = Limits::default().max_frame(10);
    let mut wire = Wire::new(limits, |call, _| call.usual());
    wire.receive(&vec![0; 10 + Limits::HEAD]);
    wire.assert_only_receives();
    wire.receive(b"x");
    assert_eq!(wire.connection.held_back(), 0);
    assert_eq!(ended(&mut wire), too_long(10 + Limits::HEAD + 1, 10));
}

#[test]
fn whole_frames_before_a_partial_one_do_not_count() {
    let limits = Limits::default().max_frame(10);
    let mut wire = Wire::new(limits, fours);
    wire.receive(b"ab");
    let many = 4 * Limits::HEAD;
    wire.receive(&vec![0; many]);
    wire.go_on();
    assert_eq!(wire.sent.len(), many);
    wire.assert_only_receives();
}

#[test]
fn whole_frames_that_wait_for_room_are_not_refused_by_a_timer() {
    let limits = Limits::default().max_frame(10).send_buffer(4000);
    let mut wire = Wire::new(limits, |call, exchange| {
        if call == Call::Open {
            exchange.set_timer(SECOND);
        }
        byte_by_byte(call, exchange)
    });
    wire.window = 0;
    let many = 2 * Limits::HEAD;
    wire.receive(&vec![0; many]);
    wire.pass(SECOND);
    wire.window = usize::MAX;
    wire.go_on();
    assert_eq!(wire.sent.len(), many);
    wire.assert_only_receives();
}

#[test]
fn whole_frames_of_one_who_waits_are_not_refused() {
    let limits = Limits::default().max_frame(10);
    let mut wire = Wire::new(limits, |call, exchange| match call {
        Call::Receive if exchange.now().as_nanos() < 1000 => {
            exchange.set_timer(SECOND);
            Flow::Wait
        }
        Call::Timer => Flow::Again,
        _ => echoing(call, exchange),
    });
    let many = 2 * Limits::HEAD;
    wire.receive(&vec![0; many]);
    wire.pass(SECOND);
    wire.go_on();
    assert_eq!(wire.sent.len(), many);
    wire.assert_only_receives();
}

// ── bytes that wait to be sent ───────────────────────────────────────────────────────────────

#[test]
fn reading_stops_at_the_high_mark_and_goes_on_at_the_low_one() {
    let mut wire = Wire::new(Limits::default().send_buffer(8), echoing);
    wire.window = 0;
    wire.receive(b"1234567");
    assert_eq!(wire.connection.wants(), Wants { receive: true, send: true, ..Wants::default() });
    wire.receive(b"8");
    assert!(wire.connection.is_paused());
    assert_eq!(wire.connection.wants(), Wants { send: true, ..Wants::default() });
    wire.window = 3;
    wire.go_on();
    assert_eq!(wire.connection.wants(), Wants { send: true, ..Wants::default() });
    assert_eq!(wire.calls(), "open:0 receive:7 receive:1");
    wire.connection.sent(1, &wire.limits, wire.now);
    assert!(!wire.connection.is_paused());
    assert!(wire.connection.wants().pump);
    wire.go_on();
    assert_eq!(wire.calls(), "room:0");
    assert_eq!(wire.connection.wants(), Wants { receive: true, send: true, ..Wants::default() });
}

#[test]
fn a_send_buffer_of_one_byte_still_moves() {
    let mut wire = Wire::new(Limits::default().send_buffer(0), byte_by_byte);
    wire.window = 0;
    wire.receive(b"abc");
    for count in 1..=3 {
        assert!(wire.connection.is_paused());
        assert_eq!(wire.connection.to_send().len(), 1);
        wire.window = 1;
        wire.go_on();
        assert_eq!(wire.sent.len(), count);
    }
    assert_eq!(wire.sent, b"abc");
    wire.assert_only_receives();
}

#[test]
fn a_handler_that_heeds_is_full_overshoots_by_one_frame_at_most() {
    let mut wire = Wire::new(Limits::default().send_buffer(100), |call, exchange| {
        if call != Call::Receive {
            return call.usual();
        }
        while !exchange.received.is_empty() {
            exchange.received.consume(1);
            exchange.to_send.append(b"seven..");
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
        }
        Flow::Continue
    });
    wire.window = 0;
    for _ in 0..10 {
        if !wire.connection.wants().receive {
            break;
        }
        wire.receive(&[b'x'; 9]);
        wire.go_on();
    }
    assert_eq!(wire.connection.to_send().len(), 105);
    assert_eq!(wire.connection.held_back(), 3);
    wire.window = usize::MAX;
    wire.go_on();
    assert_eq!(wire.sent.len(), 18 * 7);
}

#[test]
fn one_who_is_throttled_is_not_called_on_what_is_buffered() {
    let mut wire = Wire::new(Limits::default().send_buffer(4), byte_by_byte);
    wire.window = 0;
    wire.receive(b"abcdefgh");
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:8");
    wire.window = 2;
    wire.go_on();
    assert_eq!(wire.calls(), "room:4 receive:4");
    assert_eq!(wire.connection.to_send(), b"cdef");
    wire.window = usize::MAX;
    wire.go_on();
    assert_eq!(wire.sent, b"abcdefgh");
    assert!(wire.connection.is_idle());
}

#[test]
fn what_comes_while_throttled_is_kept_until_there_is_room() {
    // No front end receives then, but a receive that completes later may have begun before.
    let mut wire = Wire::new(Limits::default().send_buffer(4), fours);
    wire.window = 0;
    wire.receive(b"abcdef");
    for byte in [b"g", b"h"] {
        wire.receive(byte);
    }
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:6");
    wire.window = usize::MAX;
    wire.go_on();
    assert_eq!(wire.calls(), "room:4 receive:4 room:0");
    assert_eq!(wire.sent, b"abcdefgh");
}

#[test]
fn the_end_waits_for_room() {
    let mut wire = Wire::new(Limits::default().send_buffer(4), byte_by_byte);
    wire.window = 0;
    wire.receive(b"abcdef");
    wire.call(Connection::receive_end);
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:6");
    wire.window = usize::MAX;
    wire.go_on();
    assert_eq!(wire.calls(), "room:2 receive:2 end:0");
    assert_eq!(wire.sent, b"abcdef");
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn room_ends_a_wait() {
    let mut wire = Wire::new(Limits::default().send_buffer(4), |call, exchange| match call {
        Call::Receive if exchange.received.len() > 4 => {
            exchange.to_send.append_received(&mut exchange.received, 4);
            Flow::Wait
        }
        Call::Room => Flow::Again,
        _ => echoing(call, exchange),
    });
    wire.window = 0;
    wire.receive(b"abcdefgh");
    wire.window = 2;
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:8 room:4 receive:4");
    wire.window = usize::MAX;
    wire.go_on();
    assert_eq!(wire.sent, b"abcdefgh");
}

// ── bytes that no handler made ───────────────────────────────────────────────────────────────

/// Posts so many bytes to a peer that takes none; whether they are to be sent.
fn post<F: FnMut(Call, &mut Exchange<'_>) -> Flow>(wire: &mut Wire<F>, count: usize) -> bool {
    let Wire { connection, limits, now, .. } = wire;
    let bytes = vec![b'p'; count];
    let Some(answer) = connection.post(&bytes, limits) else { return false };
    assert_eq!(answer.as_slice(), bytes);
    connection.keep(answer, 0, limits, *now);
    true
}

#[test]
fn posts_are_taken_until_the_send_buffer_is_full() {
    for (overflow, reason) in
        [(Overflow::Drop, None), (Overflow::Close, Some(CloseReason::TooSlow))]
    {
        let mut wire = Wire::new(Limits::default().send_buffer(10).overflow(overflow), echoing);
        assert!(post(&mut wire, 9), "it is open");
        assert!(post(&mut wire, 1), "there is room");
        assert!(!post(&mut wire, 1), "there is none");
        assert_eq!(wire.connection.close_reason(), reason);
        if reason.is_none() {
            assert_eq!(wire.connection.to_send().len(), 10);
        }
    }
}

#[test]
fn nothing_is_posted_to_who_is_closing() {
    let mut wire = Wire::new(Limits::default(), echoing);
    wire.call(Connection::dismiss);
    assert!(!post(&mut wire, 1));
}

#[test]
fn what_is_asked_of_an_idle_connections_socket_holds_no_memory() {
    let mut wire = Wire::new(Limits::default(), echoing);
    wire.connection.queued(0, wire.now);
    assert!(wire.connection.is_idle());
}
