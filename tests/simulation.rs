//! The loop that ships, in thousands of simulated worlds, under handlers of every kind.
//!
//! Each test is one handler under one kind of kernel; they run side by side. A failing seed is
//! printed with its world, and `EVMUX_SIM_SEED=<seed>` replays it.
#![cfg(feature = "sim")]

use std::ops::Range;
use std::time::Duration;

use evmux::sim::{Client, Draw, Faults, Leaving, Script, Simulation, Trigger};
use evmux::{CloseReason, Exchange, Flow, Handler, Limits, Peer, Service, Snapshot, Violation};

/// How many worlds each test goes through, unless `EVMUX_SIM_SEEDS` says otherwise; and
/// `EVMUX_SIM_START` says at which it begins.
const SEEDS: u64 = 2000;

fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let start = number("EVMUX_SIM_START").unwrap_or(0);
    start..start + number("EVMUX_SIM_SEEDS").unwrap_or(SEEDS)
}

/// Both triggers for each service, and for each the claims about what must have happened in so many
/// worlds: a simulation that never gets into trouble would prove nothing.
macro_rules! in_many_worlds {
    ($($name:ident: $service:expr, $script:expr;)+) => {
        $(mod $name {
            use super::*;

            #[test]
            fn is_served_edge_triggered() {
                must_have_seen_trouble(&many($service, $script, Trigger::Edge));
            }

            #[test]
            fn is_served_level_triggered() {
                must_have_seen_trouble(&many($service, $script, Trigger::Level));
            }
        })+
    };
}

in_many_worlds! {
    echo: |_: &Peer| Echo, echoed;
    upper: |_: &Peer| Upper, uppered;
    lines: |_: &Peer| Lines, shouted;
    blocks: |_: &Peer| Blocks, blocks_answered;
    a_handler_that_answers_a_hundredfold: |_: &Peer| Hundredfold, multiplied;
    discard: |_: &Peer| Discard { count: 0 }, counted;
    hello: |_: &Peer| Hello, greeted;
    a_handler_that_waits_for_its_timer: |_: &Peer| Later::default(), answered_later;
    a_handler_that_answers_after_a_pause: |_: &Peer| Slow::default(), echoed;
    a_handler_that_waits_for_room: |_: &Peer| Patient, echoed;
    a_handler_that_closes_by_its_timer: |_: &Peer| Deferred::default(), closed_later;
    a_handler_that_panics_or_aborts: |_: &Peer| Fragile, cut_short;
    a_half_open_connection: |_: &Peer| HalfOpen::default(), answered_after_the_end;
}

#[track_caller]
fn many<S: Service + Clone + 'static>(
    service: S,
    script: impl FnMut(&mut Draw) -> Script,
    trigger: Trigger,
) -> Snapshot {
    let simulation = Simulation::new(service).trigger(trigger).max_frame(MAX_FRAME);
    simulation.messages().outgoing().datagrams().check(seeds(), script)
}

#[track_caller]
fn must_have_seen_trouble(sum: &Snapshot) {
    // In fewer worlds, some of it may well be missing.
    let worlds = seeds().end - seeds().start;
    if std::env::var_os("EVMUX_SIM_SEED").is_some() || worlds < SEEDS {
        return;
    }
    println!("{sum:?}");
    for (label, count) in sum.closed_by_label() {
        println!("{label}: {count}");
    }
    assert!(sum.opened > SEEDS && sum.would_blocks > SEEDS && sum.interrupts > 0);
    assert!(sum.partial_sends > 0 && sum.spent_budgets > 0);
    assert!(sum.refused_limit > 0 && sum.refused_descriptors > 0 && sum.refused_other > 0);
    assert!(sum.datagrams_sent > 0 && sum.datagrams_unsent > 0 && sum.datagrams_truncated > 0);
    assert!(sum.datagrams_panicked > 0 && sum.datagrams_too_long > 0 && sum.datagrams_lost > 0);
    assert!(sum.closed(&CloseReason::OutOfMemory) > 0 && sum.closed(&CloseReason::Panicked) > 0);
    // Those that the server called were not accepted.
    assert!(sum.opened + sum.refused_limit + sum.refused_other > sum.accepted);
    assert!(sum.messages_delivered > 0 && sum.messages_dropped > 0);
    assert!(sum.accept_errors > 0 && sum.closed(&CloseReason::Reset) > 0);
    assert!(sum.closed(&CloseReason::Idle) + sum.closed(&CloseReason::TooSlow) > 0);
}

/// A frame deadline is due only where frames are, and there it must have ended some.
#[test]
fn some_frames_are_not_whole_in_time() {
    let sum = Simulation::new(|_: &Peer| Lines)
        .limits(Limits::default().max_frame(MAX_FRAME).frame_timeout(Some(Duration::from_secs(1))))
        .faults(Faults::none())
        .client(Client::new(Script::new().says(b"never whole", b"")).leaving(Leaving::Vanish(5)))
        .check(0..1, |_| Script::new());
    assert_eq!(sum.closed(&CloseReason::Incomplete), 1);
}

/// Forgets its answer to a line with a `q` in it.
struct Forgetful;

impl Handler for Forgetful {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        while let Some(byte) = exchange.received.first() {
            match byte {
                b'q' => exchange.received.consume(1),
                _ => exchange.to_send.append_received(&mut exchange.received, 1),
            }
        }
        Flow::Continue
    }
}

#[test]
fn a_world_that_fails_is_shrunk_to_the_client_and_the_faults_that_it_takes() {
    if std::env::var_os("EVMUX_SIM_SEED").is_some() {
        return;
    }
    let run = || Simulation::new(|_: &Peer| Forgetful).check(0..50, echoed);
    let payload = std::panic::catch_unwind(run).expect_err("a forgotten answer was not seen");
    let text = payload.downcast_ref::<String>().expect("a text");
    let line = text.lines().nth(1).expect("what to replay it with");
    assert!(
        line.contains("EVMUX_SIM_SEED=") && line.contains("EVMUX_SIM_FAULTS=\"none\""),
        "{line}"
    );
    let clients = line.split("EVMUX_SIM_CLIENTS=").nth(1).and_then(|rest| rest.split(' ').next());
    let clients = clients.expect("which clients").split(',').count();
    assert_eq!(clients, 1, "{line}");
}

// ── services ─────────────────────────────────────────────────────────────────────────────────

const MAX_FRAME: usize = 40;

struct Echo;

impl Handler for Echo {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Continue
    }
}

fn echoed(draw: &mut Draw) -> Script {
    words(draw).fold(Script::new(), |script, word| script.says(&word, &word))
}

/// Answers in capitals; one letter takes more room than it came in, so that not all of the answer
/// can be given in place.
struct Upper;

impl Handler for Upper {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        while !exchange.received.is_empty() {
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
            match exchange.received.iter().position(|byte| *byte == b'z') {
                Some(0) => {
                    exchange.received.consume(1);
                    exchange.to_send.append(b"ZZZ");
                }
                position => {
                    let count = position.unwrap_or(exchange.received.len());
                    exchange.received[..count].make_ascii_uppercase();
                    exchange.to_send.append_received(&mut exchange.received, count);
                }
            }
        }
        Flow::Continue
    }
}

fn uppered(draw: &mut Draw) -> Script {
    words(draw).fold(Script::new(), |script, word| {
        let answer = String::from_utf8_lossy(&word).to_uppercase().replace('Z', "ZZZ");
        script.says(&word, answer.as_bytes())
    })
}

/// Answers each line; one that is too long is refused.
struct Lines;

impl Handler for Lines {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            let end = exchange.received.iter().position(|byte| *byte == b'\n');
            let length = end.unwrap_or(exchange.received.len());
            if length > exchange.max_frame() {
                let limit = exchange.max_frame() as u64;
                return Flow::Refuse(Violation::TooLong { length: length as u64, limit });
            }
            if end.is_none() {
                return Flow::Continue;
            }
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
            exchange.to_send.append_received(&mut exchange.received, length + 1);
        }
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Close
    }
}

fn shouted(draw: &mut Draw) -> Script {
    let mut script = Script::new();
    for mut word in words(draw) {
        word.truncate(MAX_FRAME);
        word.push(b'\n');
        script = script.says(&word, &word);
    }
    match draw.between(0..=3) {
        0 => script.says(&[b'x'; MAX_FRAME + 1], b"").says(b"more\nof it\n", b"").server_closes(),
        1 => script.says(b"the end", b"").hears_at_the_end(b"the end"),
        _ => script,
    }
}

/// Frames of a length byte and a payload, answered with the same.
struct Blocks;

impl Handler for Blocks {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            let Some(length) = exchange.received.first().map(|byte| usize::from(*byte)) else {
                return Flow::AtLeast(1);
            };
            if length > exchange.max_frame() {
                let limit = exchange.max_frame() as u64;
                return Flow::Refuse(Violation::TooLong { length: length as u64, limit });
            }
            if exchange.received.len() < 1 + length {
                return Flow::AtLeast(1 + length);
            }
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
            exchange.to_send.append_received(&mut exchange.received, 1 + length);
        }
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        match exchange.received.first() {
            Some(_) => Flow::Refuse(Violation::Malformed("half a block")),
            None => Flow::Close,
        }
    }
}

fn blocks_answered(draw: &mut Draw) -> Script {
    let mut script = Script::new();
    for mut word in words(draw) {
        word.truncate(MAX_FRAME);
        word.insert(0, word.len() as u8);
        script = script.says(&word, &word);
    }
    match draw.between(0..=3) {
        0 => script.says(&[255, 1, 2, 3], b"").says(&[1, 2, 1, 2], b"").server_closes(),
        1 => script.says(&[5, 1, 2], b""),
        _ => script,
    }
}

/// Answers a hundred bytes to each, and asks nobody whether there is room.
struct Hundredfold;

impl Handler for Hundredfold {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        for index in 0..exchange.received.len() {
            exchange.to_send.append(&[exchange.received[index]; 100]);
        }
        let count = exchange.received.len();
        exchange.received.consume(count);
        Flow::Continue
    }
}

fn multiplied(draw: &mut Draw) -> Script {
    // More of it would take a slow reader through one byte of buffer longer than a day.
    words(draw).take(2).fold(Script::new(), |script, mut word| {
        word.truncate(5);
        let answer: Vec<u8> = word.iter().flat_map(|byte| [*byte; 100]).collect();
        script.says(&word, &answer)
    })
}

/// Answers nothing until the end, and then how much came.
struct Discard {
    count: usize,
}

impl Handler for Discard {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.received.consume(count);
        self.count += count;
        Flow::Continue
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(self.count.to_string().as_bytes());
        Flow::Close
    }
}

fn counted(draw: &mut Draw) -> Script {
    let script = words(draw).fold(Script::new(), |script, word| script.says(&word, b""));
    let count = script.said().len().to_string();
    script.hears_at_the_end(count.as_bytes())
}

/// Speaks first, and closes.
struct Hello;

impl Handler for Hello {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(&[b'!'; 30]);
        Flow::Close
    }

    fn receive(&mut self, _: &mut Exchange<'_>) -> Flow {
        unreachable!("it was closed")
    }
}

fn greeted(draw: &mut Draw) -> Script {
    let script = Script::new().hears(&[b'!'; 30]);
    words(draw).fold(script, |script, word| script.says(&word, b"")).server_closes()
}

/// Reads one byte, does not read on while it thinks, and answers when its timer comes.
#[derive(Default)]
struct Later {
    answer: Option<u8>,
}

impl Handler for Later {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let Some(byte) = exchange.received.first().copied() else { return Flow::Continue };
        exchange.received.consume(1);
        self.answer = Some(byte);
        exchange.set_timer(Duration::from_millis(u64::from(byte % 8)));
        Flow::Wait
    }

    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(&[self.answer.take().expect("the timer was set once")]);
        Flow::Again
    }
}

fn answered_later(draw: &mut Draw) -> Script {
    words(draw).take(2).fold(Script::new(), |script, word| script.says(&word, &word))
}

/// An echo that answers when nothing has come for a while. Nothing waits meanwhile but its timer.
#[derive(Default)]
struct Slow {
    held: Vec<u8>,
}

impl Slow {
    fn answer(&mut self, exchange: &mut Exchange<'_>) {
        exchange.to_send.append(&self.held);
        self.held.clear();
    }
}

impl Handler for Slow {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        self.held.extend_from_slice(&exchange.received);
        exchange.received.consume(count);
        exchange.set_timer(Duration::from_millis(3));
        Flow::Continue
    }

    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.answer(exchange);
        Flow::Continue
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.answer(exchange);
        Flow::Close
    }

    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.answer(exchange);
        Flow::Close
    }
}

/// An echo that stops reading when its answers fill the buffer, until there is room.
struct Patient;

impl Handler for Patient {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        if !exchange.to_send.is_full() {
            return Flow::Continue;
        }
        Flow::Wait
    }

    fn room(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Again
    }
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

fn closed_later(draw: &mut Draw) -> Script {
    let script = words(draw)
        .fold(Script::new().says(b"a", &[b'a'; 20]), |script, word| script.says(&word, b""));
    script.server_closes()
}

/// An echo that panics at a `p` and aborts at a `q`.
struct Fragile;

impl Handler for Fragile {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        while let Some(byte) = exchange.received.first() {
            match byte {
                b'p' => std::panic::resume_unwind(Box::new("asked for")),
                b'q' => return Flow::Abort,
                _ => exchange.to_send.append_received(&mut exchange.received, 1),
            }
        }
        Flow::Continue
    }
}

fn cut_short(draw: &mut Draw) -> Script {
    let script = words(draw).fold(Script::new(), |script, mut word| {
        word.retain(|byte| !b"pq".contains(byte));
        script.says(&word, &word)
    });
    match draw.between(0..=3) {
        0 => script.says(b"p", b"").server_cuts(),
        1 => script.says(b"q", b"").server_cuts(),
        _ => script,
    }
}

/// Goes on after the client's end, and closes by its timer.
#[derive(Default)]
struct HalfOpen {
    last: Option<u8>,
}

impl Handler for HalfOpen {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.last = exchange.received.last().copied();
        let count = exchange.received.len();
        exchange.received.consume(count);
        Flow::Continue
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.set_timer(Duration::from_millis(3));
        Flow::Continue
    }

    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(&[self.last.unwrap_or(b'-'); 50]);
        Flow::Close
    }
}

fn answered_after_the_end(draw: &mut Draw) -> Script {
    let script = words(draw).fold(Script::new(), |script, word| script.says(&word, b""));
    let last = script.said().last().copied().unwrap_or(b'-');
    script.hears_at_the_end(&[last; 50])
}

/// Words of small letters, none empty: a few, or many tiny ones.
fn words(draw: &mut Draw) -> impl Iterator<Item = Vec<u8>> + use<> {
    let (count, longest) = *draw.pick(&[(1, 200), (3, 40), (8, 8), (40, 3), (12, 60)]);
    let count = draw.between(0..=count);
    let mut draw = draw.branch();
    (0..count).map(move |_| {
        (0..draw.between(1..=longest)).map(|_| b'a' + (draw.number() % 26) as u8).collect()
    })
}
