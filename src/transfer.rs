//! Bytes between a connection and its stream, one floor above the one and beside the other.
//!
//! [`run`] is for the front ends that wait for readiness: steps until nothing more can be done or
//! the budget is spent. [`step`] is for those that wait in the call itself: at most one receive or
//! one send of what waits, so that deadlines and a stop can be looked at between any two.
//!
//! The order is always the same: send what waits, make the calls that are due, finish, receive.
//! So nothing is read while a handler could still answer what it has.

use std::io;

use crate::connection::{Connection, Wants};
use crate::counters::Counters;
use crate::handler::{Handler, PeerAddress};
use crate::lent::{Answer, Lent};
use crate::limits::Limits;
use crate::moment::Moment;

/// What a connection needs of a stream socket.
pub(crate) trait Stream {
    /// As recv(2): 0 is the peer's end.
    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<usize>;
    /// As send(2) with MSG_NOSIGNAL; may take a part.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Our FIN: shutdown(2) of the writing side.
    fn finish(&mut self) -> io::Result<()>;
    /// How many bytes have come and were not received.
    fn unread(&self) -> usize;
    /// How many bytes were sent that the peer has not taken; 0 if that is not known.
    fn queued(&self) -> usize {
        0
    }
    /// Who is at the other end, if that is still known.
    fn peer(&self) -> Option<PeerAddress> {
        None
    }
    /// Why the kernel says that the stream is broken.
    fn error(&self) -> io::ErrorKind;
    /// Whether a stream that is being connected is so by now, or why it will not be.
    fn is_connected(&self) -> io::Result<bool>;
}

/// What time it is *after* a call. For a front end whose calls do not wait, one moment a turn is
/// near enough, and so a [`Moment`] is a clock.
pub(crate) trait Clock {
    fn now(&self) -> Moment;
}

impl Clock for Moment {
    #[inline(always)]
    fn now(&self) -> Moment {
        *self
    }
}

/// The buffers of one serving thread, lent to each connection while it is served, and the numbers
/// that the thread counts.
pub(crate) struct Scratch<'s, const INPUT: usize = 65536> {
    input: Box<Aligned<INPUT>>,
    output: Vec<u8>,
    pub(crate) limits: &'s Limits,
    pub(crate) counters: &'s Counters,
}

/// The kernel copies into it: 16 bytes beside a cache line cost up to 6 % at 16 KiB messages.
#[repr(align(64))]
struct Aligned<const N: usize>([u8; N]);

impl<'s, const INPUT: usize> Scratch<'s, INPUT> {
    /// An output that one call made larger than this is given back.
    const KEEP_OUTPUT: usize = 1 << 20;

    pub(crate) fn new(limits: &'s Limits, counters: &'s Counters) -> Self {
        Self { input: Box::new(Aligned([0; INPUT])), output: Vec::new(), limits, counters }
    }

    /// Gives back what an unusually large answer needed.
    pub(crate) fn trim(&mut self) {
        if self.output.capacity() > Self::KEEP_OUTPUT {
            self.output = Vec::new();
        }
    }

    /// For a call that brings no bytes.
    pub(crate) fn lend(&mut self, now: Moment) -> Lent<'_> {
        self.trim();
        Lent::new(&mut self.output, self.limits, now)
    }

    pub(crate) fn input(&mut self) -> &mut [u8] {
        &mut self.input.0
    }
}

/// How much of a connection is served before it is another one's turn, and how it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Calls: receives, sends and calls to the handler that no byte asked for.
    pub(crate) calls: u32,
    pub(crate) reads: Reads,
    /// Whether the kernel reports a state only once: then, after a pause, reading goes on until
    /// the kernel says that there is nothing.
    pub(crate) edge: bool,
}

/// How far a stream is read in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Not at all: no byte was reported.
    None,
    /// One receive; a level-triggered kernel will report what is left.
    Once,
    /// Until a receive returns less than it could: then all had been read when it returned, and
    /// what comes later makes an event.
    UntilShort,
    /// Until WouldBlock or the end: the peer's end may stand behind the last bytes.
    UntilWouldBlock,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It was idle, and is again: nothing has waited meanwhile.
    Quiet,
    /// Nothing waits; it goes on when bytes come.
    Idle,
    /// It goes on when the kernel reports something.
    Blocked,
    /// The budget is spent: it can go on now, and no event will say so.
    Spent,
    /// The connection is over.
    Closed,
}

/// Serves a connection until nothing more can be done or the budget is spent.
///
/// The way of nearly every message goes straight down here. What is not over after the first
/// receive goes on elsewhere: with the loop in the same function, its variables took the registers,
/// and a message cost 20 instructions more.
#[inline(always)]
pub(crate) fn run<H: Handler, S: Stream, const INPUT: usize>(
    connection: &mut Connection<H>,
    stream: &mut S,
    scratch: &mut Scratch<'_, INPUT>,
    clock: &impl Clock,
    budget: Budget,
) -> Progress {
    if connection.is_idle() && budget.reads != Reads::None && budget.calls > 0 {
        match serve_idle(connection, stream, scratch, clock) {
            Done::Answered { short } if is_enough(budget.reads, short) => Progress::Quiet,
            done => go_on(connection, stream, scratch, clock, budget, Some(done)),
        }
    } else {
        go_on(connection, stream, scratch, clock, budget, None)
    }
}

/// The rest of a run, behind what was `done` first.
#[cold]
#[inline(never)]
fn go_on<H: Handler, S: Stream, const INPUT: usize>(
    connection: &mut Connection<H>,
    stream: &mut S,
    scratch: &mut Scratch<'_, INPUT>,
    clock: &impl Clock,
    budget: Budget,
    mut done: Option<Done>,
) -> Progress {
    let Budget { mut calls, mut reads, edge } = budget;
    calls -= u32::from(done.is_some());
    let mut receive_blocked = reads == Reads::None;
    let mut send_blocked = false;
    loop {
        match done {
            Some(Done::Answered { short }) => receive_blocked = is_enough(reads, short),
            Some(Done::Received { short, stuck }) => {
                receive_blocked = is_enough(reads, short);
                send_blocked |= stuck;
            }
            Some(Done::ReceiveBlocked) => receive_blocked = true,
            Some(Done::Called { stuck }) => send_blocked |= stuck,
            None => {}
        }
        if connection.is_idle() {
            if receive_blocked {
                return Progress::Idle;
            }
            if calls == 0 {
                return Progress::Spent;
            }
            calls -= 1;
            done = Some(serve_idle(connection, stream, scratch, clock));
            continue;
        }
        if connection.is_closed() {
            return Progress::Closed;
        }
        let mut wants = connection.wants();
        if !wants.receive && edge {
            // It was paused, and the event that told of bytes may be long gone.
            reads = Reads::UntilWouldBlock;
            receive_blocked = false;
        }
        wants.send &= !send_blocked;
        wants.receive &= !receive_blocked;
        if wants == Wants::default() {
            return Progress::Blocked;
        }
        if calls == 0 {
            return Progress::Spent;
        }
        calls -= 1;
        done = Some(act(connection, stream, scratch, clock, wants));
    }
}

#[inline(always)]
fn is_enough(reads: Reads, short: bool) -> bool {
    // The usual one first: a table of jumps costs three instructions more.
    if reads == Reads::UntilShort { short } else { reads != Reads::UntilWouldBlock }
}

/// One step of a connection whose stream blocks: the first thing of `wants`, which may be less than
/// the connection's own. False when the call waited in vain.
pub(crate) fn step<H: Handler, S: Stream, const INPUT: usize>(
    connection: &mut Connection<H>,
    stream: &mut S,
    scratch: &mut Scratch<'_, INPUT>,
    clock: &impl Clock,
    wants: Wants,
) -> bool {
    let done = if connection.is_idle() && wants.receive {
        serve_idle(connection, stream, scratch, clock)
    } else {
        act(connection, stream, scratch, clock, wants)
    };
    !matches!(done, Done::ReceiveBlocked | Done::Called { stuck: true })
}

/// Sends what a call answered, behind what waits already, and gives the rest back. Whether the
/// socket took less than all.
#[inline(always)]
pub(crate) fn deliver<H: Handler, S: Stream>(
    connection: &mut Connection<H>,
    stream: &mut S,
    answer: Answer<'_>,
    limits: &Limits,
    counters: &Counters,
    clock: &impl Clock,
) -> bool {
    let mut sent = 0;
    let direct = !answer.is_empty() && connection.to_send().is_empty() && !connection.is_closed();
    if direct {
        let began = clock.now();
        sent = send(connection, stream, answer.as_slice(), counters);
        connection.was_sending(began, clock.now());
    }
    connection.keep(answer, sent, limits, clock.now());
    direct && sent < answer.as_slice().len()
}

/// What one action came to. `stuck`: the socket took less than there was to send, so that more
/// can be sent only when it says so.
enum Done {
    /// As `Received`, and everything was answered and sent: the connection is idle.
    Answered { short: bool },
    /// Bytes were received; `short`: less than there was room for.
    Received { short: bool, stuck: bool },
    /// Nothing could be received.
    ReceiveBlocked,
    /// Something else was done, or failed: look again.
    Called { stuck: bool },
}

/// The way of nearly every message: receive, answer, send, and nothing waits.
#[inline(always)]
fn serve_idle<H: Handler, S: Stream, const INPUT: usize>(
    connection: &mut Connection<H>,
    stream: &mut S,
    scratch: &mut Scratch<'_, INPUT>,
    clock: &impl Clock,
) -> Done {
    let counters = scratch.counters;
    counters.receives.increment();
    let count = match stream.receive(&mut scratch.input.0) {
        Ok(count) if count > 0 => count,
        other => return nothing_received(connection, stream, scratch, clock, other.map(|_| ())),
    };
    counters.bytes_received.add(count as u64);
    let began = clock.now();
    let lent = Lent::new(&mut scratch.output, scratch.limits, began);
    let (answer, quiet) = connection.receive_idle(&mut scratch.input.0[..count], lent);
    let mut sent = 0;
    if !answer.is_empty() && (quiet || !connection.is_closed()) {
        sent = send(connection, stream, answer.as_slice(), counters);
    }
    let short = count < INPUT;
    let stuck = sent < answer.as_slice().len();
    if quiet && !stuck {
        return Done::Answered { short };
    }
    connection.was_sending(began, clock.now());
    connection.keep(answer, sent, scratch.limits, clock.now());
    Done::Received { short, stuck }
}

/// Does the first thing of `wants`.
#[cold]
#[inline(never)]
fn act<H: Handler, S: Stream, const INPUT: usize>(
    connection: &mut Connection<H>,
    stream: &mut S,
    scratch: &mut Scratch<'_, INPUT>,
    clock: &impl Clock,
    wants: Wants,
) -> Done {
    let (limits, counters) = (scratch.limits, scratch.counters);
    if wants.send {
        let waiting = connection.to_send();
        let length = waiting.len();
        counters.sends.increment();
        return match stream.send(waiting) {
            Ok(sent) => {
                counters.bytes_sent.add(sent as u64);
                if sent < length {
                    counters.partial_sends.increment();
                }
                connection.sent(sent, limits, clock.now());
                Done::Called { stuck: sent < length }
            }
            Err(error) => Done::Called { stuck: failed(connection, counters, &error) },
        };
    }
    if wants.pump {
        let answer = connection.pump(scratch.lend(clock.now()));
        let stuck = deliver(connection, stream, answer, limits, counters, clock);
        return Done::Called { stuck };
    }
    if wants.finish {
        match stream.finish() {
            Ok(()) => connection.finished(limits, clock.now()),
            Err(error) => drop(failed(connection, counters, &error)),
        }
        return Done::Called { stuck: false };
    }
    counters.receives.increment();
    let front = connection.front(INPUT);
    let count = match stream.receive(&mut scratch.input.0[front..]) {
        Ok(count) if count > 0 => count,
        other => return nothing_received(connection, stream, scratch, clock, other.map(|_| ())),
    };
    counters.bytes_received.add(count as u64);
    let lent = Lent::new(&mut scratch.output, limits, clock.now());
    let answer = connection.receive(&mut scratch.input.0[..front + count], front, lent);
    let stuck = deliver(connection, stream, answer, limits, counters, clock);
    Done::Received { short: count < INPUT - front, stuck }
}

/// The peer's end, or a receive that failed.
#[cold]
#[inline(never)]
fn nothing_received<H: Handler, S: Stream, const INPUT: usize>(
    connection: &mut Connection<H>,
    stream: &mut S,
    scratch: &mut Scratch<'_, INPUT>,
    clock: &impl Clock,
    result: io::Result<()>,
) -> Done {
    let (limits, counters) = (scratch.limits, scratch.counters);
    match result {
        Ok(()) => {
            let answer = connection.receive_end(scratch.lend(clock.now()));
            let stuck = deliver(connection, stream, answer, limits, counters, clock);
            Done::Called { stuck }
        }
        Err(error) if failed(connection, counters, &error) => {
            connection.dry();
            Done::ReceiveBlocked
        }
        Err(_) => Done::Called { stuck: false },
    }
}

/// Sends an answer directly. How much was taken; an error ends the connection.
#[inline(always)]
fn send<H: Handler, S: Stream>(
    connection: &mut Connection<H>,
    stream: &mut S,
    bytes: &[u8],
    counters: &Counters,
) -> usize {
    loop {
        counters.sends.increment();
        match stream.send(bytes) {
            Ok(sent) => {
                counters.bytes_sent.add(sent as u64);
                if sent < bytes.len() {
                    counters.partial_sends.increment();
                }
                return sent;
            }
            // Less than all means to the caller that there is no room, and that an event will tell
            // of some. After a signal none will: the call is made again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                counters.interrupts.increment();
            }
            Err(error) => {
                failed(connection, counters, &error);
                return 0;
            }
        }
    }
}

/// Whether the call would have blocked. That is no failure, nor is a signal that came in between;
/// everything else ends the connection.
#[cold]
fn failed<H: Handler>(
    connection: &mut Connection<H>,
    counters: &Counters,
    error: &io::Error,
) -> bool {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            counters.would_blocks.increment();
            return true;
        }
        io::ErrorKind::Interrupted => counters.interrupts.increment(),
        kind => connection.failed(kind),
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Totals;

    #[test]
    fn an_output_is_given_back_when_one_answer_made_it_large() {
        let (limits, totals) = (Limits::default(), Totals::new());
        let counters = totals.register();
        let mut scratch = Scratch::<64>::new(&limits, &counters);
        const MEBIBYTE: usize = 1 << 20;
        for (capacity, kept) in [(MEBIBYTE, MEBIBYTE), (MEBIBYTE + 1, 0)] {
            scratch.output = Vec::with_capacity(capacity);
            scratch.trim();
            assert_eq!(scratch.output.capacity(), kept);
        }
    }
}
