//! What each service promises its clients.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use evmux::services::{
    Blocks, Discard, Echo, Lines, Sixteen, Upper, busy, echo, greeting, hello, lines, once,
    sixteen, time, upper,
};
use evmux::{CloseReason, Exchange, Flow, Handler, Limits, Peer, PeerAddress, Service, Violation};

use crate::talk::Talk;

fn nobody() -> Peer {
    Peer::new(PeerAddress::Unix, 0)
}

fn peer(address: &str) -> Peer {
    let address: SocketAddr = address.parse().expect("an address");
    Peer::new(address.into(), 0)
}

fn strict(max_frame: usize) -> Limits {
    Limits::default().max_frame(max_frame)
}

// ── upper ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn upper_answers_as_the_text_comes() {
    let mut talk = Talk::new(Upper);
    assert_eq!(talk.say("Straße".as_bytes()).heard(), b"STRASSE");
    assert_eq!(talk.say(b" 7").heard(), b"STRASSE 7");
    assert_eq!(talk.reason(), CloseReason::Finished);
}

#[test]
fn a_code_point_that_a_read_has_cut_is_held_until_it_is_whole() {
    let mut talk = Talk::new(Upper);
    assert_eq!(talk.say(b"a\xef").heard(), b"A");
    assert_eq!(talk.say(b"\xac").heard(), b"A");
    assert_eq!(talk.say(b"\x81b").heard(), b"AFIB");
}

#[test]
fn what_can_never_become_a_code_point_is_not_held() {
    assert_eq!(Talk::new(Upper).say(b"a\xe0\x80").heard(), b"A\xe0\x80");
    assert_eq!(Talk::new(Upper).say(b"a\xed\xa0").heard(), b"A\xed\xa0");
    assert_eq!(Talk::new(Upper).say(b"a\xff").heard(), b"A\xff");
}

#[test]
fn a_code_point_that_is_cut_off_comes_back_at_the_end() {
    assert_eq!(Talk::new(Upper).say(b"a\xc3").finish().heard(), b"A\xc3");
}

#[test]
fn a_code_point_that_is_cut_off_comes_back_when_the_server_goes_away() {
    let mut talk = Talk::new(Upper);
    assert_eq!(talk.say(b"a\xf0\x9f\x98").drain().heard(), b"A\xf0\x9f\x98");
    assert_eq!(talk.reason(), CloseReason::Drained);
}

#[test]
fn nobody_is_timed_out_for_a_code_point_that_is_not_whole() {
    let mut talk = Talk::new(Upper);
    assert_eq!(talk.say(b"a\xc3").deadline(), None);
}

#[test]
fn a_stream_knows_no_frame_limit() {
    let mut talk = Talk::with(Upper, strict(1), usize::MAX);
    assert_eq!(talk.say(&[b'a'; 100_000]).heard(), [b'A'; 100_000]);
    assert_eq!(talk.reason(), CloseReason::Finished);
}

// ── once ─────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn once_answers_the_first_bytes_and_closes() {
    let mut talk = Talk::new(once(upper).handler(&nobody()));
    assert_eq!(talk.say(b"hello").say(b"again").heard(), b"HELLO");
    assert_eq!(talk.reason(), CloseReason::Served);
    let mut talk = Talk::new(once(echo).handler(&nobody()));
    assert_eq!(talk.say(b"hello").say(b"again").heard(), b"hello");
    assert_eq!(talk.reason(), CloseReason::Served);
}

#[test]
fn once_gives_back_a_code_point_that_the_first_read_has_cut() {
    let mut talk = Talk::new(once(upper).handler(&nobody()));
    assert_eq!(talk.say(b"a\xc3").say(b"\xa9").heard(), b"A\xc3");
}

#[test]
fn once_does_not_wait_for_who_says_nothing() {
    let mut talk = Talk::new(once(upper).handler(&nobody()));
    assert_eq!(talk.reason(), CloseReason::Finished);
    assert_eq!(talk.heard(), b"");
}

#[test]
fn once_passes_on_every_call_that_a_handler_may_get() {
    /// Says which of its calls was made.
    struct Telltale;
    impl Handler for Telltale {
        fn receive(&mut self, _: &mut Exchange<'_>) -> Flow {
            Flow::Wait
        }
        fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
            exchange.to_send.append(b"woken");
            Flow::Close
        }
    }
    let mut talk = Talk::new(once(|_: &Peer| Telltale).handler(&nobody()));
    assert_eq!(talk.say(b"x").wake().heard(), b"woken");
}

// ── echo, discard ────────────────────────────────────────────────────────────────────────────────

#[test]
fn echo_gives_back_every_byte() {
    let all: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
    let mut talk = Talk::with(Echo, Limits::default().send_buffer(100), 7);
    assert_eq!(talk.say(&all).heard(), all);
    assert_eq!(talk.reason(), CloseReason::Finished);
}

#[test]
fn discard_answers_nothing() {
    let mut talk = Talk::new(Discard);
    assert_eq!(talk.say(&[7; 100_000]).heard(), b"");
    assert_eq!(talk.reason(), CloseReason::Finished);
}

// ── hello, greeting, time ────────────────────────────────────────────────────────────────────────

#[test]
fn hello_says_the_address_without_the_port_and_closes() {
    let mut talk = Talk::new(hello(&peer("192.0.2.7:4711")));
    assert_eq!(talk.say(b"who is there?").heard(), b"Hello 192.0.2.7\n");
    assert_eq!(talk.reason(), CloseReason::Served);
}

#[test]
fn hello_knows_the_other_families() {
    assert_eq!(Talk::new(hello(&peer("[2001:db8::1]:1"))).heard(), b"Hello 2001:db8::1\n");
    assert_eq!(Talk::new(hello(&peer("[::ffff:192.0.2.7]:1"))).heard(), b"Hello 192.0.2.7\n");
    assert_eq!(Talk::new(hello(&nobody())).heard(), b"Hello unix\n");
}

#[test]
fn a_greeting_is_said_as_it_is() {
    let service = greeting(*b"Thank you for connecting");
    assert_eq!(Talk::new(service(&nobody())).heard(), b"Thank you for connecting");
    let mut talk = Talk::new(greeting(*b"")(&nobody()));
    assert_eq!(talk.heard(), b"");
    assert_eq!(talk.reason(), CloseReason::Served);
}

#[test]
fn time_asks_the_clock_for_each_connection() {
    let seconds = Cell::new(58);
    let clock = || {
        seconds.set(seconds.get() + 1);
        format!("Thu Jun 17 19:49:{} 2010\n", seconds.get())
    };
    let service = time(clock);
    assert_eq!(Talk::new(service(&nobody())).heard(), b"Thu Jun 17 19:49:59 2010\n");
    let mut talk = Talk::new(service(&nobody()));
    assert_eq!(talk.heard(), b"Thu Jun 17 19:49:60 2010\n");
    assert_eq!(talk.reason(), CloseReason::Served);
}

// ── sixteen ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn sixteen_octets_in_any_pieces_are_answered_with_sixteen() {
    let message = b"Hi there, server";
    for cut in 0..=message.len() {
        let (first, second) = message.split_at(cut);
        let mut talk = Talk::new(sixteen(&nobody()));
        assert_eq!(talk.say(first).say(second).heard(), b"Farewell, client");
        assert_eq!(talk.reason(), CloseReason::Served);
    }
}

#[test]
fn octets_behind_the_sixteenth_are_not_listened_to() {
    let mut talk = Talk::with(Sixteen, Limits::default(), 1);
    assert_eq!(talk.say(&[7; 10_000]).say(b"more").heard(), b"Farewell, client");
    assert_eq!(talk.reason(), CloseReason::Served);
}

#[test]
fn fewer_than_sixteen_octets_get_no_answer_and_are_told_with_their_number() {
    for count in 0..16 {
        let mut talk = Talk::new(Sixteen);
        let violation = talk.say(&vec![b'x'; count]).violation();
        let received = count as u64;
        assert_eq!(violation, Some(Violation::Truncated { received, expected: 16 }));
        assert_eq!(talk.heard(), b"");
    }
}

#[test]
fn begun_octets_are_waited_for_no_longer_than_a_frame_may_take() {
    let mut talk = Talk::new(Sixteen);
    assert_eq!(talk.deadline(), None);
    let deadline = talk.say(b"x").deadline();
    assert!(deadline.is_some());
    assert_eq!(talk.say(b"x").deadline(), deadline);
}

// ── lines, busy ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn lines_keep_the_ends_that_they_had() {
    let mut talk = Talk::new(lines(&nobody()));
    talk.say("grün\r\n\nße".as_bytes());
    assert_eq!(talk.heard(), "GRÜN\r\n\n".as_bytes());
    assert_eq!(talk.say(b"\n").heard(), "GRÜN\r\n\nSSE\n".as_bytes());
}

#[test]
fn the_last_line_needs_no_end() {
    let mut talk = Talk::new(lines(&nobody()));
    assert_eq!(talk.say(b"one\ntwo").finish().heard(), b"ONE\nTWO");
    assert_eq!(talk.reason(), CloseReason::Finished);
}

#[test]
fn a_code_point_does_not_go_on_in_the_next_line() {
    let mut talk = Talk::new(lines(&nobody()));
    assert_eq!(talk.say(b"a\xc3\n\xa9b\n").heard(), b"A\xc3\n\xa9B\n");
}

#[test]
fn a_line_that_is_too_long_is_refused_behind_the_answers_before_it() {
    let refused = Some(Violation::TooLong { length: 5, limit: 4 });
    for bytes in [&b"four\nfives\nsix\n"[..], b"four\nfives", b"four\r\nfives\r\n"] {
        let mut talk = Talk::with(Lines::default(), strict(4), 3);
        assert_eq!(talk.say(bytes).violation(), refused);
        assert!(talk.heard() == b"FOUR\n" || talk.heard() == b"FOUR\r\n");
    }
}

#[test]
fn a_last_line_that_is_too_long_for_its_carriage_return_is_refused() {
    let mut talk = Talk::with(Lines::default(), strict(4), 3);
    assert_eq!(talk.say(b"four\r").heard(), b"");
    assert_eq!(talk.violation(), Some(Violation::TooLong { length: 5, limit: 4 }));
}

#[test]
fn a_begun_line_is_waited_for_no_longer_than_a_frame_may_take() {
    let mut talk = Talk::new(lines(&nobody()));
    assert_eq!(talk.say(b"one\n").deadline(), None);
    assert!(talk.say(b"tw").deadline().is_some());
    assert_eq!(talk.say(b"o\n").deadline(), None);
}

#[test]
fn busy_works_once_for_each_line() {
    let worked = Rc::new(Cell::new(0));
    let counter = Rc::clone(&worked);
    let service = busy(move || counter.set(counter.get() + 1));
    let mut talk = Talk::with(service(&nobody()), Limits::default().send_buffer(3), 2);
    assert_eq!(talk.say(b"a\nb\n\nc").heard(), b"A\nB\n\n");
    assert_eq!(worked.get(), 3);
    assert_eq!(talk.finish().heard(), b"A\nB\n\nC");
    assert_eq!(worked.get(), 4);
}

#[test]
fn busy_does_not_work_for_the_end_alone() {
    let worked = Rc::new(Cell::new(0));
    let counter = Rc::clone(&worked);
    let service = busy(move || counter.set(counter.get() + 1));
    assert_eq!(Talk::new(service(&nobody())).say(b"a\n").finish().heard(), b"A\n");
    assert_eq!(worked.get(), 1);
}

// ── blocks ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_length_of_a_block_is_that_of_the_answer() {
    let mut talk = Talk::new(Blocks);
    assert_eq!(
        talk.say(b"\0\0\0\x02hi\0\0\0\x02\xc5\x89").heard(),
        b"\0\0\0\x02HI\0\0\0\x03\xca\xbcN"
    );
}

#[test]
fn an_empty_block_is_a_block() {
    assert_eq!(Talk::new(Blocks).say(&[0; 8]).heard(), [0; 8]);
}

#[test]
fn a_code_point_does_not_go_on_in_the_next_block() {
    let bytes = b"\0\0\0\x02a\xc3\0\0\0\x02\xa9b";
    assert_eq!(Talk::new(Blocks).say(bytes).heard(), b"\0\0\0\x02A\xc3\0\0\0\x02\xa9B");
}

#[test]
fn a_block_that_is_cut_gets_no_answer() {
    let cut = |bytes: &[u8]| {
        let mut talk = Talk::new(Blocks);
        let violation = talk.say(b"\0\0\0\x01a").say(bytes).violation();
        assert_eq!(talk.heard(), b"\0\0\0\x01A");
        violation
    };
    assert_eq!(cut(b""), None);
    assert_eq!(cut(b"\0\0"), Some(Violation::Truncated { received: 2, expected: 4 }));
    assert_eq!(cut(b"\0\0\0\x03bc"), Some(Violation::Truncated { received: 6, expected: 7 }));
}

#[test]
fn a_block_is_refused_by_its_header_behind_the_answers_before_it() {
    let mut talk = Talk::with(Blocks, strict(4), 3);
    assert_eq!(talk.say(b"\0\0\0\x04four\xff\xff\xff\xff").violation(), {
        let length = u64::from(u32::MAX);
        Some(Violation::TooLong { length, limit: 4 })
    });
    assert_eq!(talk.heard(), b"\0\0\0\x04FOUR");
}

#[test]
fn an_answer_may_be_longer_than_a_block_may() {
    let mut talk = Talk::with(Blocks, strict(4), 3);
    let answer = ["\0\0\0\x06".as_bytes(), "ʼNʼN".as_bytes()].concat();
    assert_eq!(talk.say("\0\0\0\x04ŉŉ".as_bytes()).heard(), answer);
}

#[test]
fn a_begun_block_is_waited_for_no_longer_than_a_frame_may_take() {
    let mut talk = Talk::new(Blocks);
    assert_eq!(talk.say(b"\0\0\0\x01a").deadline(), None);
    assert!(talk.say(b"\0").deadline().is_some());
    assert_eq!(talk.say(b"\0\0\0").deadline(), None);
}

// ── all of them ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_handler_is_no_larger_than_what_it_must_remember() {
    assert_eq!(size_of::<(Echo, Upper, Blocks, Sixteen)>(), 0);
    assert_eq!(size_of::<Lines>(), 8);
    fn size<S: Service>(_: &S) -> usize {
        size_of::<S::Handler>()
    }
    assert_eq!(size(&once(upper)), 0);
    assert_eq!(size(&busy(|| ())), 8);
}

#[test]
fn letters_that_keep_their_length_are_answered_where_they_were_received() {
    let mut talk = Talk::new(Upper);
    assert_eq!(talk.say("hello grüß съешь ".as_bytes()).heard(), "HELLO GRÜSS СЪЕШЬ ".as_bytes());
    assert!(!talk.has_copied());
    let mut talk = Talk::new(Lines::default());
    assert_eq!(talk.say(b"hello\nworld\n").heard(), b"HELLO\nWORLD\n");
    assert!(!talk.has_copied());
    let mut talk = Talk::new(Blocks);
    assert_eq!(talk.say(b"\0\0\0\x01a\0\0\0\x01b").heard(), b"\0\0\0\x01A\0\0\0\x01B");
    assert!(!talk.has_copied());
}

#[test]
fn answers_to_many_frames_stop_where_the_send_buffer_is_full() {
    let limits = || Limits::default().send_buffer(100);
    let mut talk = Talk::with(Lines::default(), limits(), 1);
    assert_eq!(talk.say(&b"abcd\n".repeat(500)).heard(), b"ABCD\n".repeat(500));
    assert!(talk.most_waiting() < 100 + 5, "{}", talk.most_waiting());
    let mut talk = Talk::with(Blocks, limits(), 1);
    assert_eq!(talk.say(&b"\0\0\0\x01a".repeat(500)).heard(), b"\0\0\0\x01A".repeat(500));
    assert!(talk.most_waiting() < 100 + 5, "{}", talk.most_waiting());
}

#[test]
fn services_can_be_shared_by_threads() {
    fn shared(_: impl Service + Sync + Send) {}
    shared(upper);
    shared(once(echo));
    shared(hello);
    shared(greeting(*b"hi"));
    shared(time(|| "now\n"));
    shared(lines);
    shared(busy(|| ()));
}
