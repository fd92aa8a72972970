//! What a connection promises its handler: when it is called, with what, and in which order its
//! answers leave. No socket, no clock. How a connection ends is in `connection_end.rs`, what it may
//! use, of memory and of time, in `connection_limits.rs`.

mod wire;

use evmux::{Connection, Exchange, Flow, Limits, Wants};
use wire::{Call, Wire};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

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

// ── when the handler is called ───────────────────────────────────────────────────────────────

#[test]
fn at_least_is_not_called_early() {
    let mut wire = Wire::new(Limits::default(), fours);
    for byte in b"abcdabcd" {
        wire.receive(&[*byte]);
    }
    assert_eq!(wire.calls(), "open:0 receive:1 receive:4 receive:1 receive:4");
    assert_eq!(wire.sent, b"abcdabcd");
}

#[test]
fn at_least_is_called_with_all_that_came() {
    let mut wire = Wire::new(Limits::default(), fours);
    wire.receive(b"abc");
    wire.receive(b"dabcdab");
    assert_eq!(wire.calls(), "open:0 receive:3 receive:10");
    assert_eq!(wire.connection.held_back(), 2);
    wire.receive(b"cd");
    assert_eq!((wire.sent, wire.connection.held_back()), (b"abcdabcdabcd".to_vec(), 0));
}

#[test]
fn a_connection_says_how_far_it_is() {
    let mut wire = Wire::new(Limits::default(), fours);
    assert_eq!(wire.connection.stage().name(), "idle");
    wire.receive(b"ab");
    assert_eq!(wire.connection.stage().name(), "receiving");
    wire.window = 0;
    wire.receive(b"cd");
    assert_eq!(wire.connection.stage().name(), "sending");
    wire.window = 4;
    wire.go_on();
    assert_eq!(wire.connection.stage().name(), "idle");
    let mut wire = Wire::new(Limits::default(), |_, _| Flow::Wait);
    assert_eq!(wire.connection.stage().name(), "paused");
    wire.call(Connection::dismiss);
    assert_eq!(wire.connection.stage().name(), "flushing");
}

#[test]
fn a_trickled_frame_is_not_looked_at_again_for_each_byte() {
    let long = 10_000;
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive if exchange.received.len() < long => Flow::AtLeast(long),
        Call::Receive => echo(exchange),
        other => other.usual(),
    });
    for _ in 0..long {
        wire.receive(b"x");
    }
    assert_eq!(wire.calls(), "open:0 receive:1 receive:10000");
    wire.go_on();
    assert_eq!(wire.sent.len(), long);
    assert!(wire.connection.is_idle());
}

#[test]
fn the_gap_in_front_is_left_alone_until_the_frame_is_whole() {
    let mut wire = Wire::new(Limits::default(), fours);
    wire.receive(b"ab");
    let mut input = *b"??c";
    let front = wire.connection.front(64);
    assert_eq!(front, 2);
    let mut output = Vec::new();
    let lent = evmux::Lent::new(&mut output, &wire.limits, wire.now);
    let answer = wire.connection.receive(&mut input, front, lent);
    assert!(answer.is_empty());
    wire.connection.keep(answer, 0, &wire.limits, wire.now);
    assert_eq!(&input, b"??c");
    assert_eq!(wire.connection.held_back(), 3);
}

#[test]
fn a_remainder_too_large_for_the_gap_stays_where_it_is() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive if exchange.received.len() < 40 => Flow::Continue,
        Call::Receive => echo(exchange),
        other => other.usual(),
    });
    wire.receive(&[b'a'; 30]);
    assert_eq!(wire.connection.front(Wire::<fn(Call, &mut Exchange<'_>) -> Flow>::INPUT), 0);
    wire.receive(&[b'b'; 10]);
    wire.go_on();
    assert_eq!(wire.sent, [[b'a'; 30].as_slice(), &[b'b'; 10]].concat());
}

#[test]
fn a_gap_that_no_longer_fits_is_ignored() {
    // A driver whose receives complete later asked for a gap; then a timer consumed the rest.
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Open => {
            exchange.set_timer(SECOND);
            Flow::Continue
        }
        Call::Timer => {
            exchange.received.consume(1);
            Flow::Continue
        }
        Call::Receive if exchange.received.len() < 3 => Flow::Continue,
        Call::Receive => echo(exchange),
        other => other.usual(),
    });
    wire.receive(b"ab");
    let front = wire.connection.front(64);
    wire.pass(SECOND);
    let mut input = *b"??cd";
    let mut output = Vec::new();
    let lent = evmux::Lent::new(&mut output, &wire.limits, wire.now);
    let answer = wire.connection.receive(&mut input, front, lent);
    wire.connection.keep(answer, 0, &wire.limits, wire.now);
    assert_eq!(wire.connection.to_send(), b"bcd");
}

#[test]
fn continue_is_called_at_every_new_byte() {
    let mut wire = Wire::new(Limits::default(), |call, _| call.usual());
    for _ in 0..3 {
        wire.receive(b"x");
        wire.assert_only_receives();
    }
    assert_eq!(wire.calls(), "open:0 receive:1 receive:2 receive:3");
}

#[test]
fn at_least_with_nothing_left_means_any_byte() {
    for count in [0, 1, 4] {
        let mut wire = Wire::new(Limits::default(), |call, exchange| {
            echoing(call, exchange);
            Flow::AtLeast(count)
        });
        wire.receive(b"a");
        assert!(wire.connection.is_idle(), "at least {count}");
        wire.receive(b"b");
        assert_eq!(wire.calls(), "open:0 receive:1 receive:1");
    }
}

#[test]
fn who_asks_for_what_is_there_gets_it_in_the_next_turn() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive => {
            exchange.received.consume(1);
            Flow::AtLeast(1)
        }
        other => other.usual(),
    });
    wire.receive(b"abc");
    assert_eq!(wire.calls(), "open:0 receive:3");
    assert_eq!(wire.connection.wants(), Wants { pump: true, ..Wants::default() });
    wire.go_on();
    assert_eq!(wire.calls(), "receive:2 receive:1");
    wire.assert_only_receives();
}

#[test]
fn who_asks_for_what_is_there_and_leaves_it_waits_for_a_new_byte() {
    for count in [0, 1, 2] {
        let mut wire = Wire::new(Limits::default(), |call, _| match call {
            Call::Receive => Flow::AtLeast(count),
            other => other.usual(),
        });
        wire.receive(b"ab");
        wire.go_on();
        wire.receive(b"c");
        wire.go_on();
        assert_eq!(wire.calls(), "open:0 receive:2 receive:3", "at least {count}");
    }
}

#[test]
fn again_is_called_without_a_new_byte_and_reads_nothing_meanwhile() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive => {
            exchange.to_send.append_received(&mut exchange.received, 1);
            if exchange.received.is_empty() { Flow::Continue } else { Flow::Again }
        }
        other => other.usual(),
    });
    wire.receive(b"abc");
    assert_eq!(wire.connection.wants(), Wants { pump: true, ..Wants::default() });
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 receive:3 receive:2 receive:1");
    assert_eq!(wire.sent, b"abc");
    assert!(wire.connection.is_idle());
}

#[test]
fn who_waits_is_not_called_until_its_timer_says_again() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive if exchange.now().as_nanos() < 1000 => {
            exchange.set_timer(SECOND);
            Flow::Wait
        }
        Call::Receive => echo(exchange),
        Call::Timer => Flow::Again,
        other => other.usual(),
    });
    wire.receive(b"abc");
    assert!(wire.connection.is_paused());
    assert_eq!(wire.connection.wants(), Wants::default());
    wire.pass(SECOND / 2);
    assert_eq!(wire.calls(), "open:0 receive:3");
    wire.pass(SECOND / 2);
    wire.go_on();
    assert_eq!(wire.calls(), "timer:3 receive:3");
    assert_eq!(wire.sent, b"abc");
    wire.assert_only_receives();
}

#[test]
fn what_comes_while_the_handler_waits_is_kept_for_it() {
    // No front end receives then, but a receive that completes later may have begun before.
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive if exchange.received.len() < 3 => {
            exchange.set_timer(SECOND);
            Flow::Wait
        }
        Call::Timer => Flow::Again,
        _ => echoing(call, exchange),
    });
    wire.receive(b"ab");
    wire.receive(b"c");
    assert_eq!(wire.calls(), "open:0 receive:2");
    wire.pass(SECOND);
    wire.go_on();
    assert_eq!(wire.calls(), "timer:3 receive:3");
    assert_eq!(wire.sent, b"abc");
}

#[test]
fn a_server_may_wait_from_the_beginning() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Open => {
            exchange.set_timer(SECOND);
            Flow::Wait
        }
        Call::Timer => Flow::Again,
        _ => echoing(call, exchange),
    });
    assert_eq!(wire.connection.wants(), Wants::default());
    wire.pass(SECOND);
    wire.go_on();
    assert_eq!(wire.calls(), "open:0 timer:0 receive:0");
    wire.assert_only_receives();
    wire.receive(b"abc");
    assert_eq!(wire.sent, b"abc");
}

#[test]
fn what_receive_asked_for_stands_when_a_timer_consumes_some_of_it() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Open => {
            exchange.set_timer(SECOND);
            Flow::Continue
        }
        Call::Timer => {
            exchange.received.consume(4);
            Flow::Continue
        }
        _ => Flow::Continue,
    });
    wire.receive(b"abcdef");
    wire.pass(SECOND);
    wire.receive(b"g");
    assert_eq!(wire.calls(), "open:0 receive:6 timer:6 receive:3");
}

#[test]
fn a_server_may_speak_first() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| {
        exchange.to_send.append(b"hello");
        if call == Call::Open { Flow::Close } else { call.usual() }
    });
    wire.go_on();
    assert_eq!(wire.sent, b"hello");
    assert!(wire.finished);
    assert_eq!(wire.calls(), "open:0");
}

// ── the order of answers ─────────────────────────────────────────────────────────────────────

/// Answers `a` in place, `b` with a capital letter, and drops everything else.
fn mixed(call: Call, exchange: &mut Exchange<'_>) -> Flow {
    if call != Call::Receive {
        return call.usual();
    }
    while let Some(&byte) = exchange.received.first() {
        match byte {
            b'a' => exchange.to_send.append_received(&mut exchange.received, 1),
            b'!' => return Flow::Continue,
            other => {
                if other == b'b' {
                    exchange.to_send.append(b"B");
                }
                exchange.received.consume(1);
            }
        }
    }
    Flow::Continue
}

#[test]
fn answers_in_place_and_appended_ones_keep_their_order() {
    for input in ["aabab", "baab", "axa", "xaax", "aaxba", "b", "aa!"] {
        let expected: String =
            input.chars().filter(|c| matches!(c, 'a' | 'b')).collect::<String>().replace('b', "B");
        for window in 0..=expected.len() {
            let mut wire = Wire::new(Limits::default(), mixed);
            wire.window = window;
            wire.receive(input.as_bytes());
            assert_eq!(wire.sent, expected.as_bytes()[..window], "{input}");
            wire.window = usize::MAX;
            wire.go_on();
            assert_eq!(wire.sent, expected.as_bytes(), "{input}");
        }
    }
}

#[test]
fn answers_in_place_in_bytes_that_were_kept_keep_their_order() {
    for (kept, rest) in [(20, "a"), (20, "aabab"), (3, "ab"), (40, "b"), (20, "ba!aaaa"), (1, "!")]
    {
        // Held back until a `.` opens the way, so that the answers stand in owned storage.
        let mut open = false;
        let mut wire = Wire::new(Limits::default(), |call, exchange| {
            open |= call == Call::Timer;
            match call {
                Call::Open => exchange.set_timer(SECOND),
                Call::Timer => return Flow::Again,
                Call::Receive if open => return mixed(call, exchange),
                _ => {}
            }
            call.usual()
        });
        let input = "a".repeat(kept) + rest;
        wire.receive(input.as_bytes());
        wire.pass(SECOND);
        wire.go_on();
        let answered = input.split('!').next().unwrap_or_default().replace('b', "B");
        assert_eq!(String::from_utf8_lossy(&wire.sent), answered);
        assert_eq!(wire.connection.held_back(), input.len() - answered.len());
    }
}

#[test]
fn an_answer_waits_behind_what_waits_already() {
    let mut wire = Wire::new(Limits::default(), mixed);
    wire.window = 1;
    wire.receive(b"aaa");
    wire.receive(b"bab");
    assert_eq!(wire.connection.to_send(), b"aaBaB");
    wire.window = 5;
    wire.go_on();
    assert_eq!(wire.sent, b"aaaBaB");
}
