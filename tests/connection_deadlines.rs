//! The deadlines of a connection, each with who keeps it away and who does not. No socket, no
//! clock: time is a number here.

mod wire;

use std::time::Duration;

use evmux::{CloseReason, Connection, Exchange, Flow, Limits, Moment, Patience};
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

/// The reason, once everything is sent and the peer has finished.
fn ended<F: FnMut(Call, &mut Exchange<'_>) -> Flow>(wire: &mut Wire<F>) -> CloseReason {
    wire.go_on();
    wire.call(Connection::receive_end);
    wire.connection.close_reason().expect("it is over")
}

#[test]
fn idle_counts_both_directions() {
    let limits = Limits::default().idle_timeout(Some(10 * SECOND)).write_timeout(None);
    let mut wire = Wire::new(limits, echoing);
    wire.pass(9 * SECOND);
    wire.window = 0;
    wire.receive(b"abc");
    wire.pass(9 * SECOND);
    wire.connection.sent(1, &wire.limits, wire.now);
    wire.pass(9 * SECOND);
    wire.connection.sent(2, &wire.limits, wire.now);
    wire.pass(10 * SECOND - Duration::from_nanos(1));
    wire.assert_only_receives();
    wire.pass(Duration::from_nanos(1));
    assert_eq!(ended(&mut wire), CloseReason::Idle);
    assert_eq!(wire.calls(), "open:0 receive:3");
}

#[test]
fn what_a_timer_says_is_progress_though_the_peer_takes_it_at_once() {
    let say = |call: Call, exchange: &mut Exchange<'_>| {
        if matches!(call, Call::Open | Call::Timer) {
            exchange.set_timer(8 * SECOND);
            exchange.to_send.append(b"still here");
        }
        call.usual()
    };
    let mut wire = Wire::new(Limits::default().idle_timeout(Some(10 * SECOND)), say);
    for _ in 0..40 {
        wire.pass(SECOND);
        wire.assert_only_receives();
    }
    assert_eq!(wire.sent, b"still here".repeat(6));
}

#[test]
fn what_waits_without_progress_is_cut() {
    let mut wire = Wire::new(Limits::default().write_timeout(Some(10 * SECOND)), echoing);
    wire.pass(100 * SECOND);
    wire.window = 1;
    wire.receive(b"abc");
    wire.pass(9 * SECOND);
    wire.receive(b"def");
    wire.pass(SECOND / 2);
    wire.connection.sent(1, &wire.limits, wire.now);
    wire.pass(9 * SECOND);
    assert!(!wire.connection.is_closed());
    wire.pass(SECOND);
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::TooSlow));
}

#[test]
fn a_peer_that_takes_nothing_does_not_outlast_an_idle_one() {
    let limits = Limits::default().idle_timeout(Some(10 * SECOND));
    let mut wire = Wire::new(limits, echoing);
    wire.window = 0;
    wire.receive(b"abc");
    wire.pass(9 * SECOND);
    wire.receive(b"def");
    wire.pass(9 * SECOND);
    assert!(!wire.connection.is_closed());
    wire.pass(SECOND);
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::TooSlow));
}

#[test]
fn a_last_answer_of_which_nothing_is_taken_does_not_outlast_an_idle_connection() {
    let limits = Limits::default().idle_timeout(Some(10 * SECOND));
    let mut wire = Wire::new(limits, echoing);
    wire.window = 0;
    wire.receive(b"abc");
    wire.call(Connection::receive_end);
    wire.pass(9 * SECOND);
    wire.connection.sent(1, &wire.limits, wire.now);
    wire.pass(9 * SECOND);
    assert!(!wire.connection.is_closed());
    wire.pass(SECOND);
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::TooSlow));
}

#[test]
fn who_only_sends_is_not_idle() {
    let limits = Limits::default().idle_timeout(Some(10 * SECOND));
    let mut wire = Wire::new(limits, |call, exchange| {
        exchange.to_send.append(b"tick");
        exchange.set_timer(9 * SECOND);
        call.usual()
    });
    for _ in 0..5 {
        wire.pass(9 * SECOND);
        wire.assert_only_receives();
    }
    wire.window = 0;
    wire.pass(9 * SECOND);
    wire.pass(SECOND);
    assert_eq!(wire.sent, b"tick".repeat(6));
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::TooSlow));
}

/// With an answer waiting and without one.
#[test]
fn bytes_that_leave_the_stream_are_progress() {
    let limits = Limits::default().idle_timeout(Some(10 * SECOND));
    let limits = limits.write_timeout(Some(10 * SECOND));
    for (window, reason) in [(0, CloseReason::TooSlow), (3, CloseReason::Idle)] {
        let mut wire = Wire::new(limits.clone(), echoing);
        wire.window = window;
        wire.receive(b"abc");
        for queued in [1000, 900, 100, 0] {
            wire.queued = queued;
            wire.pass(10 * SECOND);
            assert!(!wire.connection.is_closed() && !wire.connection.wants().finish);
        }
        wire.pass(10 * SECOND);
        if !wire.connection.is_closed() {
            ended(&mut wire);
        }
        assert_eq!(wire.connection.close_reason(), Some(reason));
    }
}

#[test]
fn bytes_that_stay_in_the_stream_are_no_progress_at_the_second_look() {
    let limits = Limits::default().idle_timeout(Some(10 * SECOND));
    let limits = limits.write_timeout(Some(10 * SECOND));
    for (window, reason) in [(0, CloseReason::TooSlow), (3, CloseReason::Idle)] {
        let mut wire = Wire::new(limits.clone(), echoing);
        (wire.window, wire.queued) = (window, 1000);
        wire.receive(b"abc");
        wire.pass(10 * SECOND);
        assert!(!wire.connection.is_closed() && !wire.connection.wants().finish);
        wire.pass(10 * SECOND);
        if !wire.connection.is_closed() {
            ended(&mut wire);
        }
        assert_eq!(wire.connection.close_reason(), Some(reason));
    }
}

#[test]
fn what_was_seen_in_the_stream_is_forgotten_when_a_byte_moves() {
    let limits = Limits::default().idle_timeout(Some(10 * SECOND));
    let mut wire = Wire::new(limits, echoing);
    wire.queued = 1000;
    wire.pass(10 * SECOND);
    assert!(!wire.connection.is_idle());
    wire.receive(b"abc");
    assert!(wire.connection.is_idle());
}

#[test]
fn an_answer_from_kept_bytes_must_be_taken_in_time_as_well() {
    let limits = Limits::default().write_timeout(Some(10 * SECOND)).frame_timeout(None);
    let mut wire = Wire::new(limits, |call, exchange| match call {
        Call::Receive if exchange.received.len() < 40 => Flow::AtLeast(40),
        _ => echoing(call, exchange),
    });
    wire.pass(100 * SECOND);
    wire.receive(&[0; 39]);
    wire.receive(&[0; 1]);
    assert_eq!(wire.connection.to_send().len(), 40);
    wire.pass(9 * SECOND);
    assert!(!wire.connection.is_closed());
    wire.pass(SECOND);
    assert_eq!(wire.connection.close_reason(), Some(CloseReason::TooSlow));
}

#[test]
fn the_frame_timeout_runs_from_the_first_byte_and_is_not_renewed_by_a_trickle() {
    let mut wire = Wire::new(
        Limits::default().frame_timeout(Some(10 * SECOND)),
        |call, exchange| match call {
            Call::Receive if exchange.received.len() < 100 => Flow::Continue,
            _ => echoing(call, exchange),
        },
    );
    wire.pass(100 * SECOND);
    for _ in 0..10 {
        wire.assert_only_receives();
        wire.receive(b"x");
        wire.pass(SECOND);
    }
    assert_eq!(ended(&mut wire), CloseReason::Incomplete);
}

#[test]
fn the_frame_timeout_begins_anew_with_each_frame() {
    let mut wire = Wire::new(Limits::default().frame_timeout(Some(10 * SECOND)), fours);
    wire.receive(b"ab");
    for _ in 0..5 {
        wire.pass(9 * SECOND);
        wire.receive(b"cdab");
    }
    wire.pass(9 * SECOND);
    wire.receive(b"cd");
    assert_eq!(wire.sent.len(), 24);
    wire.pass(100 * SECOND);
    wire.assert_only_receives();
}

#[test]
fn a_handler_says_itself_whether_a_frame_has_begun() {
    // The bytes say it: `(` begins a frame, `)` ends one; all are consumed.
    let say = |call, exchange: &mut Exchange<'_>| {
        for &byte in exchange.received.to_vec().iter() {
            match byte {
                b'(' => exchange.partial(true),
                b')' => exchange.partial(false),
                _ => {}
            }
        }
        echoing(call, exchange)
    };
    let limits = Limits::default().frame_timeout(Some(10 * SECOND));
    for (pieces, over) in [
        (["(", "(", "("], true),
        (["(", ")(", "("], false),
        (["(", "()", ""], false),
        (["", "", "()("], false),
    ] {
        let mut wire = Wire::new(limits.clone(), say);
        for piece in pieces {
            if !piece.is_empty() {
                wire.receive(piece.as_bytes());
            }
            wire.pass(4 * SECOND);
        }
        assert_eq!(wire.connection.wants().finish, over, "{pieces:?}");
    }
    let mut stream = Wire::new(limits, |call, exchange| {
        exchange.partial(false);
        call.usual()
    });
    stream.receive(b"kept, and no frame");
    stream.pass(100 * SECOND);
    stream.assert_only_receives();
}

#[test]
fn the_frame_timeout_stands_still_while_we_do_not_read() {
    let limits =
        Limits::default().frame_timeout(Some(10 * SECOND)).write_timeout(None).send_buffer(4);
    let mut wire = Wire::new(limits, fours);
    wire.window = 0;
    wire.pass(5 * SECOND);
    wire.receive(b"abcdef");
    assert!(wire.connection.is_paused());
    wire.pass(100 * SECOND);
    wire.window = usize::MAX;
    wire.go_on();
    wire.pass(10 * SECOND - Duration::from_nanos(1));
    wire.assert_only_receives();
    wire.pass(Duration::from_nanos(1));
    assert_eq!(ended(&mut wire), CloseReason::Incomplete);
}

#[test]
fn a_timer_that_consumes_nothing_gives_a_frame_no_new_time() {
    let limits = Limits::default().frame_timeout(Some(10 * SECOND));
    let mut wire = Wire::new(limits, |call, exchange| match call {
        Call::Receive => {
            exchange.set_timer(4 * SECOND);
            Flow::AtLeast(4)
        }
        Call::Timer => Flow::Again,
        other => other.usual(),
    });
    wire.receive(b"ab");
    for _ in 0..2 {
        wire.pass(4 * SECOND);
        wire.go_on();
        wire.assert_only_receives();
    }
    wire.pass(2 * SECOND);
    assert_eq!(ended(&mut wire), CloseReason::Incomplete);
}

#[test]
fn the_frame_timeout_stands_still_while_a_call_sends() {
    let limits = Limits::default().frame_timeout(Some(10 * SECOND)).write_timeout(None);
    let mut wire = Wire::new(limits, fours);
    wire.receive(b"wholehalf");
    wire.receive(b"a");
    wire.pass(6 * SECOND);
    let began = wire.now;
    wire.now = wire.now + Patience::new(60 * SECOND);
    wire.connection.was_sending(began, wire.now);
    wire.pass(3 * SECOND);
    wire.assert_only_receives();
    wire.pass(SECOND);
    assert_eq!(ended(&mut wire), CloseReason::Incomplete);
}

#[test]
fn a_frame_that_begins_during_a_wait_is_given_its_timeout_and_no_more() {
    let limits = Limits::default().frame_timeout(Some(10 * SECOND));
    let mut wire = Wire::new(limits, |call, exchange| match call {
        Call::Open => {
            exchange.set_timer(50 * SECOND);
            Flow::Wait
        }
        Call::Timer => {
            exchange.partial(true);
            Flow::Again
        }
        Call::Receive => {
            exchange.partial(true);
            Flow::Continue
        }
        other => other.usual(),
    });
    wire.pass(50 * SECOND);
    wire.go_on();
    wire.pass(10 * SECOND);
    assert_eq!(ended(&mut wire), CloseReason::Incomplete);
}

#[test]
fn a_frame_that_a_timer_consumed_has_no_timeout() {
    let limits = Limits::default().frame_timeout(Some(10 * SECOND));
    let mut wire = Wire::new(limits, |call, exchange| match call {
        Call::Receive => {
            exchange.set_timer(SECOND);
            Flow::Continue
        }
        Call::Timer => echo(exchange),
        other => other.usual(),
    });
    wire.receive(b"abc");
    wire.pass(SECOND);
    wire.go_on();
    assert!(wire.connection.is_idle());
    wire.pass(100 * SECOND);
    wire.assert_only_receives();
}

#[test]
fn flushing_ends_at_its_deadline_however_the_peer_trickles() {
    let limits = Limits::default().flush_timeout(Some(10 * SECOND)).write_timeout(Some(3 * SECOND));
    for (pause, seconds) in [(2, 10), (4, 3)] {
        let mut wire = Wire::new(limits.clone(), |call, exchange| {
            echoing(call, exchange);
            exchange.set_timer(SECOND);
            if call == Call::Receive { Flow::Close } else { Flow::Continue }
        });
        wire.window = 0;
        wire.receive(&[0; 100]);
        let began = wire.now;
        let mut next = 0;
        while !wire.connection.is_closed() {
            next += 1;
            wire.pass(SECOND);
            wire.receive(b"still there");
            if next % pause == 0 && !wire.connection.is_closed() {
                wire.connection.sent(1, &wire.limits, wire.now);
            }
        }
        assert_eq!(wire.connection.close_reason(), Some(CloseReason::TooSlow));
        assert_eq!(wire.now.since(began), seconds * SECOND);
        assert_eq!(wire.calls(), "open:0 receive:100", "no timer while flushing");
    }
}

#[test]
fn lingering_ends_after_silence_or_absolutely() {
    for (talks, seconds) in [(false, 2), (true, 30)] {
        let mut wire = Wire::new(Limits::default(), |call, exchange| {
            exchange.set_timer(SECOND);
            echoing(call, exchange);
            Flow::Close
        });
        wire.go_on();
        assert!(wire.finished);
        let began = wire.now;
        while !wire.connection.is_closed() {
            if talks {
                wire.receive(b"still there");
            }
            wire.pass(SECOND);
        }
        assert_eq!(wire.now.since(began), seconds * SECOND);
        assert_eq!(wire.connection.close_reason(), Some(CloseReason::Served));
        assert_eq!(wire.calls(), "open:0");
    }
}

#[test]
fn nothing_expires_before_its_deadline() {
    let limits = Limits::default().idle_timeout(Some(10 * SECOND));
    let mut wire = Wire::new(limits, fours);
    wire.window = 0;
    for _ in 0..3 {
        wire.call(Connection::expire);
        wire.receive(b"abcdef");
        wire.call(Connection::expire);
    }
    assert_eq!(wire.connection.to_send().len(), 16);
    let mut patient = Wire::new(Limits::default(), echoing);
    assert_eq!(patient.connection.deadline(&patient.limits), Moment::NEVER);
    patient.now = Moment::NEVER;
    patient.call(Connection::expire);
    patient.assert_only_receives();
    assert_eq!(patient.calls(), "open:0");
}
