//! One connection, without I/O: bytes and the time come in by calls, answers go out.
//!
//! ```text
//!        Close, Refuse, idle or            flushed         the peer's end,
//!        frame deadline, drained          (our FIN)        linger deadline
//!   Open ───────────────────────▶ Flushing ─────▶ Lingering ─────────────▶ Closed(reason)
//!     │                              │ flushed, and the peer has finished ▲
//!     └───────── a cut: I/O error, abort, write deadline, drain deadline ─┘
//! ```
//!
//! Closing is a state, not a call. `close(2)` with unread input makes Linux send a reset and throw
//! away what it had still to send; so an orderly close is our FIN after the last answer, and then
//! the input is discarded until the peer has finished as well ("lingering"). A cut resets.
//!
//! Everything that changes a connection's state is in this file. Between two calls a connection is
//! its handler and 32 bytes; [`Waiting`] exists only while something waits.

use std::io;
use std::mem;
use std::ops::Range;

use crate::buffer::{Buffer, OutOfMemory, Outgoing, Received};
use crate::handler::{Exchange, Flow, Handler, Partial, Violation};
use crate::lent::{Answer, Lent};
use crate::limits::{CloseReason, Limits};
use crate::moment::Moment;

/// One connection: a handler, and what waits between it and its peer.
///
/// Whoever owns the socket drives it: hand in what was received, send the [`Answer`], give it back
/// with [`keep`](Connection::keep), and do what [`wants`](Connection::wants) says until it
/// [`is_closed`](Connection::is_closed). The front ends of this crate do just that.
///
/// ```
/// use evmux::{Connection, Exchange, Flow, Handler, Lent, Limits, Moment};
///
/// struct Echo;
/// impl Handler for Echo {
///     fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
///         let count = exchange.received.len();
///         exchange.to_send.append_received(&mut exchange.received, count);
///         Flow::Continue
///     }
/// }
///
/// let (limits, now) = (Limits::default(), Moment::START);
/// let mut output = Vec::new();
/// let mut connection = Connection::new(Echo, now);
/// let answer = connection.open(Lent::new(&mut output, &limits, now));
/// connection.keep(answer, 0, &limits, now);
///
/// let mut bytes = *b"hello";
/// let answer = connection.receive(&mut bytes, 0, Lent::new(&mut output, &limits, now));
/// assert_eq!(answer.as_slice(), b"hello");
/// connection.keep(answer, 3, &limits, now); // the socket took three bytes of it
/// assert_eq!(connection.to_send(), b"lo");
/// assert!(connection.wants().send);
/// ```
pub struct Connection<H> {
    handler: H,
    /// `None` when nothing waits: the test of the fast path.
    waiting: Option<Box<Waiting>>,
    /// When a byte moved last, in either direction.
    last_progress: Moment,
    /// In `Open` the handler's timer; in `Flushing` and `Lingering` when that state ends at last.
    timer: Moment,
    state: State,
    end: End,
}

/// What waits. It owns storage, and everything that matters only while some is owned.
struct Waiting {
    /// Unconsumed; what the handler sees first in its next call.
    received: Buffer,
    /// Answers that the socket has not taken.
    to_send: Buffer,
    /// `receive` is called at so many unconsumed bytes; 0 after `Again`: without any new byte.
    need: usize,
    /// Over the high mark, and not yet down at the low one.
    throttled: bool,
    /// The handler said `Wait`.
    told_to_wait: bool,
    /// `room` is to be called.
    room_due: bool,
    drain: Drain,
    /// Since when `to_send` waits without progress.
    stalled_since: Moment,
    /// Since when a frame is incomplete; the time that reading was paused is not counted.
    partial_since: Moment,
    /// Since when we do not read: throttled or told to wait.
    paused_since: Moment,
    violation: Option<Violation>,
}

impl Waiting {
    fn is_paused(&self) -> bool {
        self.throttled || self.told_to_wait
    }

    /// The frame clock stands still while we do not read.
    fn note_pause(&mut self, now: Moment) {
        match (self.is_paused(), self.paused_since.is_never()) {
            (true, true) => self.paused_since = now,
            (false, false) => {
                if !self.partial_since.is_never() {
                    let paused = now.since(self.paused_since);
                    self.partial_since = self.partial_since + paused.into();
                }
                self.paused_since = Moment::NEVER;
            }
            _ => {}
        }
    }

    /// Whether nothing waits, so that the storage can be given back.
    fn is_over(&self) -> bool {
        self.received.is_empty()
            && self.to_send.is_empty()
            && self.need != 0
            && !self.is_paused()
            && !self.room_due
            && self.drain == Drain::No
            && self.partial_since.is_never()
            && self.violation.is_none()
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            received: Buffer::default(),
            to_send: Buffer::default(),
            need: 1,
            throttled: false,
            told_to_wait: false,
            room_due: false,
            drain: Drain::No,
            stalled_since: Moment::NEVER,
            partial_since: Moment::NEVER,
            paused_since: Moment::NEVER,
            violation: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    /// So many bytes had come when the drain began and are still to be received.
    Reading(usize),
    /// The handler was told.
    Told,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Flushing(Ending),
    Lingering(Ending),
    Closed(Ending),
}

/// The peer's end: that it came, and that the handler was told, are two things, since a handler
/// that is full is told later.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Come,
    Told,
}

/// A [`CloseReason`] without the numbers of a violation, which stand in [`Waiting`]: two bytes in
/// each connection instead of 24.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Finished,
    Served,
    Refused,
    Idle,
    Incomplete,
    Drained,
    TooSlow,
    DrainTimeout,
    Reset,
    Failed(io::ErrorKind),
    Aborted,
    Panicked,
    Stopped,
    OutOfMemory,
}

/// What the connection is waiting for: which calls may make it go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Bytes of the peer, or its end: [`Connection::receive`], [`Connection::receive_end`].
    pub receive: bool,
    /// Sending of [`Connection::to_send`].
    pub send: bool,
    /// Our FIN (`shutdown(2)` of the writing side), then [`Connection::finished`].
    pub finish: bool,
    /// [`Connection::pump`], now: no event will come for it.
    pub pump: bool,
}

/// Which of a handler's calls is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Open,
    Receive,
    End,
    Room,
    Timer,
    Drain,
}

/// What came of one handler call.
struct Outcome {
    flow: Flow,
    consumed: usize,
    answered: Range<usize>,
    partial: Partial,
}

impl<H: Handler> Connection<H> {
    /// A connection that was made at `now`. [`open`](Connection::open) comes next.
    pub fn new(handler: H, now: Moment) -> Self {
        Self {
            handler,
            waiting: None,
            last_progress: now,
            timer: Moment::NEVER,
            state: State::Open,
            end: End::NotYet,
        }
    }

    /// Tells the handler that the connection is open. Once, before every other call.
    pub fn open<'l>(&mut self, lent: Lent<'l>) -> Answer<'l> {
        self.call_on_kept(Call::Open, lent)
    }

    /// How much room to leave in front of the next received bytes: a small remainder is put there,
    /// so that the handler sees one slice and the new bytes are not copied. `input` is the size of
    /// the buffer that they are received into.
    #[inline]
    pub fn front(&self, input: usize) -> usize {
        match &self.waiting {
            None => 0,
            Some(waiting) => {
                let kept = waiting.received.len();
                if kept <= input / 4 { kept } else { 0 }
            }
        }
    }

    /// Takes in what was received at `bytes[front..]`, at least one byte, with `front` as
    /// [`front`](Connection::front) said.
    pub fn receive<'l>(&mut self, bytes: &'l mut [u8], front: usize, lent: Lent<'l>) -> Answer<'l> {
        debug_assert!(front < bytes.len(), "no byte was received");
        self.last_progress = lent.now;
        if self.state != State::Open {
            return Answer::NOTHING;
        }
        let received = bytes.len() - front;
        let (mut kept, mut need) = (0, 1);
        if let Some(waiting) = &mut self.waiting {
            (kept, need) = (waiting.received.len(), waiting.need);
            if let Drain::Reading(unread) = &mut waiting.drain {
                *unread = unread.saturating_sub(received);
            }
        }
        if kept != front || kept + received < need {
            let waiting = self.waiting.get_or_insert_default();
            if let Err(error) = waiting.received.append(&bytes[front..]) {
                return self.out_of_memory(error);
            }
            if kept + received < need {
                return Answer::NOTHING;
            }
            return self.call_on_kept(Call::Receive, lent);
        }
        if let Some(waiting) = &mut self.waiting
            && front > 0
        {
            bytes[..front].copy_from_slice(waiting.received.as_slice());
            waiting.received.consume(front);
        }
        let room = self.room(lent.limits);
        let outcome = self.call(Call::Receive, bytes, lent.output, lent.limits, room, lent.now);
        self.heed_on_lent(bytes, outcome, lent)
    }

    /// As [`receive`](Connection::receive), for an idle connection; also whether it still is idle
    /// when the answer is sent, so that it need not be given back.
    #[inline(always)]
    pub(crate) fn receive_idle<'l>(
        &mut self,
        bytes: &'l mut [u8],
        lent: Lent<'l>,
    ) -> (Answer<'l>, bool) {
        debug_assert!(self.is_idle());
        self.last_progress = lent.now;
        let room = lent.limits.send_buffer;
        let outcome = self.call(Call::Receive, bytes, lent.output, lent.limits, room, lent.now);
        let asks_for_bytes = match outcome.flow {
            Flow::Continue => true,
            Flow::AtLeast(count) => count <= lent.limits.received(),
            _ => false,
        };
        let no_frame = matches!(outcome.partial, Partial::Unsaid | Partial::No);
        if asks_for_bytes && no_frame && outcome.consumed == bytes.len() {
            return (answer(bytes, lent.output, outcome.answered), true);
        }
        (self.heed_on_lent(bytes, outcome, lent), false)
    }

    /// Takes in the peer's end: it will send nothing more. A second call does nothing.
    #[cold]
    pub fn receive_end<'l>(&mut self, lent: Lent<'l>) -> Answer<'l> {
        if self.end != End::NotYet {
            return Answer::NOTHING;
        }
        self.end = End::Come;
        self.last_progress = lent.now;
        match self.state {
            State::Lingering(ending) => self.state = State::Closed(ending),
            State::Open if self.wants().pump => return self.pump(lent),
            _ => {}
        }
        Answer::NOTHING
    }

    /// Makes the one call to the handler that is due without any event, when
    /// [`Wants::pump`] says so: `room`, `receive` on what is buffered, `end` or `drain`.
    #[cold]
    pub fn pump<'l>(&mut self, lent: Lent<'l>) -> Answer<'l> {
        match self.due() {
            Some(call) => self.call_on_kept(call, lent),
            None => Answer::NOTHING,
        }
    }

    /// The server is going away; `unread` bytes of this peer have come and were not received yet.
    /// They are received and answered first, and so is a frame that has begun.
    #[cold]
    pub fn drain<'l>(&mut self, unread: usize, lent: Lent<'l>) -> Answer<'l> {
        if self.state != State::Open {
            return Answer::NOTHING;
        }
        self.waiting.get_or_insert_default().drain = Drain::Reading(unread);
        self.pump(lent)
    }

    /// Nothing more can be received for now: what had come when a drain began is read.
    #[cold]
    pub fn dry(&mut self) {
        if let Some(waiting) = &mut self.waiting
            && let Drain::Reading(unread) = &mut waiting.drain
        {
            *unread = 0;
        }
    }

    /// Looks at the deadlines, since [`deadline`](Connection::deadline) has passed; a wrong call
    /// does nothing.
    #[cold]
    pub fn expire<'l>(&mut self, lent: Lent<'l>) -> Answer<'l> {
        let (now, limits) = (lent.now, lent.limits);
        let past = |moment: Moment| !moment.is_never() && moment <= now;
        let stalled = past(self.write_deadline(limits));
        match self.state {
            State::Closed(_) => {}
            State::Lingering(ending) => {
                if past(self.deadline(limits)) {
                    self.state = State::Closed(ending);
                }
            }
            State::Flushing(_) => {
                if stalled || past(self.timer) {
                    self.cut(Ending::TooSlow);
                }
            }
            State::Open if stalled => self.cut(Ending::TooSlow),
            State::Open if past(self.timer) => {
                self.timer = Moment::NEVER;
                return self.call_on_kept(Call::Timer, lent);
            }
            State::Open if past(self.frame_deadline(limits)) => {
                self.flush(Ending::Incomplete, limits, now);
            }
            State::Open if past(self.last_progress + limits.idle) => {
                self.flush(Ending::Idle, limits, now);
            }
            State::Open => {}
        }
        Answer::NOTHING
    }

    /// Takes an answer back, of which the first `sent` bytes were sent: the rest is kept to be
    /// sent after what waits already.
    pub fn keep(&mut self, answer: Answer<'_>, sent: usize, limits: &Limits, now: Moment) {
        if sent > 0 {
            self.last_progress = now;
        }
        let rest = &answer.0[sent..];
        if !rest.is_empty() && !self.is_closed() {
            let waiting = self.waiting.get_or_insert_default();
            if waiting.to_send.is_empty() {
                waiting.stalled_since = now;
            }
            if let Err(error) = waiting.to_send.append(rest) {
                let _ = self.out_of_memory(error);
            }
        }
        self.settle(limits, now);
    }

    /// The first `count` bytes of [`to_send`](Connection::to_send) were sent.
    pub fn sent(&mut self, count: usize, limits: &Limits, now: Moment) {
        if count == 0 {
            return;
        }
        self.last_progress = now;
        if let Some(waiting) = &mut self.waiting {
            waiting.to_send.consume(count);
            waiting.stalled_since = now;
        }
        self.settle(limits, now);
    }

    /// Our FIN is sent.
    pub fn finished(&mut self, limits: &Limits, now: Moment) {
        if let State::Flushing(ending) = self.state {
            self.state = State::Lingering(ending);
            self.last_progress = now;
            self.timer = now + limits.linger;
        }
    }

    /// A call on the socket failed. After our FIN that is only another way for a peer to go.
    #[cold]
    pub fn failed(&mut self, kind: io::ErrorKind) {
        match self.state {
            State::Lingering(ending) => self.state = State::Closed(ending),
            _ => self.cut(match kind {
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::NotConnected => Ending::Reset,
                kind => Ending::Failed(kind),
            }),
        }
    }

    /// The handler panicked: it is not called again, but for `closed`.
    #[cold]
    pub fn panicked(&mut self) {
        self.cut(Ending::Panicked);
    }

    /// The drain timeout has passed: what is still open is cut.
    #[cold]
    pub fn drain_timeout(&mut self) {
        match self.state {
            // All was answered and our FIN is out: nothing is lost, so nothing is said.
            State::Lingering(ending) => self.state = State::Closed(ending),
            _ => self.cut(Ending::DrainTimeout),
        }
    }

    /// The server stops at once.
    #[cold]
    pub fn stop(&mut self) {
        self.cut(Ending::Stopped);
    }

    /// Tells the handler that the connection is over, and why.
    pub fn close(mut self) -> CloseReason {
        self.stop();
        let reason = self.close_reason().unwrap_or(CloseReason::Stopped);
        self.handler.closed(&reason);
        reason
    }

    /// What waits to be sent, in order.
    pub fn to_send(&self) -> &[u8] {
        self.waiting.as_deref().map_or(&[], |waiting| waiting.to_send.as_slice())
    }

    /// How many bytes wait for the handler: unconsumed ones.
    pub fn held_back(&self) -> usize {
        self.waiting.as_deref().map_or(0, |waiting| waiting.received.len())
    }

    /// What the connection waits for.
    pub fn wants(&self) -> Wants {
        let not_ended = self.end == End::NotYet;
        match self.state {
            State::Open => match &self.waiting {
                None => {
                    Wants { receive: not_ended, pump: self.end == End::Come, ..Wants::default() }
                }
                Some(waiting) => Wants {
                    receive: not_ended && !waiting.is_paused() && waiting.need != 0,
                    send: !waiting.to_send.is_empty(),
                    finish: false,
                    pump: self.due().is_some(),
                },
            },
            // What still comes is discarded while we flush: a peer that sends everything before it
            // reads anything would otherwise wait for us as we wait for it.
            State::Flushing(_) => {
                let send = !self.to_send().is_empty();
                Wants { receive: not_ended, send, finish: !send && not_ended, pump: false }
            }
            State::Lingering(_) => Wants { receive: true, ..Wants::default() },
            State::Closed(_) => Wants::default(),
        }
    }

    /// When [`expire`](Connection::expire) is to be called, unless something happens before.
    #[inline]
    pub fn deadline(&self, limits: &Limits) -> Moment {
        if self.waiting.is_none() && self.state == State::Open {
            return self.timer.min(self.last_progress + limits.idle);
        }
        self.deadline_of_waiting(limits)
    }

    /// Whether nothing waits: bytes that come now are seen by the handler as they are.
    #[inline(always)]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.state == State::Open && self.end == End::NotYet
    }

    /// Whether the peer is not read from, because it does not read or the handler said `Wait`.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.waiting.as_deref().is_some_and(Waiting::is_paused)
    }

    /// Whether the connection is over: [`close`](Connection::close) it.
    #[inline]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Why it is over; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        let State::Closed(ending) = self.state else { return None };
        Some(match ending {
            Ending::Finished => CloseReason::Finished,
            Ending::Served => CloseReason::Served,
            Ending::Refused => {
                let violation = self.waiting.as_deref().and_then(|waiting| waiting.violation);
                CloseReason::Refused(violation.unwrap_or(Violation::Malformed("refused")))
            }
            Ending::Idle => CloseReason::Idle,
            Ending::Incomplete => CloseReason::Incomplete,
            Ending::Drained => CloseReason::Drained,
            Ending::TooSlow => CloseReason::TooSlow,
            Ending::DrainTimeout => CloseReason::DrainTimeout,
            Ending::Reset => CloseReason::Reset,
            Ending::Failed(kind) => CloseReason::Failed(kind),
            Ending::Aborted => CloseReason::Aborted,
            Ending::Panicked => CloseReason::Panicked,
            Ending::Stopped => CloseReason::Stopped,
            Ending::OutOfMemory => CloseReason::OutOfMemory,
        })
    }

    // ── what is due, and the calls ───────────────────────────────────────────────────────────

    /// The call that is to be made without any event.
    fn due(&self) -> Option<Call> {
        if self.state != State::Open {
            return None;
        }
        let Some(waiting) = self.waiting.as_deref() else {
            return (self.end == End::Come).then_some(Call::End);
        };
        if waiting.room_due {
            return Some(Call::Room);
        }
        if waiting.throttled {
            return None;
        }
        // Who waits for something else reads nothing more: it is told of the drain at once.
        if waiting.told_to_wait {
            return matches!(waiting.drain, Drain::Reading(_)).then_some(Call::Drain);
        }
        if waiting.need == 0 {
            return Some(Call::Receive);
        }
        if self.end == End::Come {
            return Some(Call::End);
        }
        let frame_begun = !waiting.partial_since.is_never() && self.end == End::NotYet;
        (waiting.drain == Drain::Reading(0) && !frame_begun).then_some(Call::Drain)
    }

    #[inline(always)]
    fn call(
        &mut self,
        call: Call,
        bytes: &mut [u8],
        output: &mut Vec<u8>,
        limits: &Limits,
        room: usize,
        now: Moment,
    ) -> Outcome {
        let mut exchange = Exchange {
            received: Received::new(bytes),
            to_send: Outgoing::new(output, room),
            timer: &mut self.timer,
            now,
            max_frame: limits.max_frame,
            partial: Partial::Unsaid,
        };
        let handler = &mut self.handler;
        let flow = match call {
            Call::Receive => handler.receive(&mut exchange),
            Call::Open => handler.open(&mut exchange),
            Call::End => handler.end(&mut exchange),
            Call::Room => handler.room(&mut exchange),
            Call::Timer => handler.timer(&mut exchange),
            Call::Drain => handler.drain(&mut exchange),
        };
        Outcome {
            flow,
            consumed: exchange.received.consumed(),
            answered: exchange.received.answered(),
            partial: exchange.partial,
        }
    }

    /// Makes a call on the bytes that the connection holds itself.
    #[inline(never)]
    fn call_on_kept<'l>(&mut self, call: Call, lent: Lent<'l>) -> Answer<'l> {
        let Lent { output, limits, now } = lent;
        match call {
            Call::End => self.end = End::Told,
            Call::Room | Call::Drain => {
                let waiting = self.waiting.get_or_insert_default();
                match call {
                    Call::Room => waiting.room_due = false,
                    _ => waiting.drain = Drain::Told,
                }
            }
            Call::Open | Call::Receive | Call::Timer => {}
        }
        let room = self.room(limits);
        let mut own = self
            .waiting
            .as_deref_mut()
            .map_or_else(Buffer::default, |w| mem::take(&mut w.received));
        let outcome = self.call(call, own.as_mut_slice(), output, limits, room, now);
        let progress = outcome.consumed > 0 || !output.is_empty();
        // An answer in place stands in storage that the connection owns, and so does not need to
        // be lent: that storage itself becomes what waits to be sent.
        if outcome.answered.is_empty() {
            own.consume(outcome.consumed);
        } else if let Err(error) =
            self.answer_from(&mut own, outcome.answered.clone(), outcome.consumed, output, now)
        {
            return self.out_of_memory(error);
        }
        let left = own.len();
        if left > 0 {
            self.waiting.get_or_insert_default().received = own;
        }
        self.heed(call, &outcome, left, progress, limits, now);
        Answer(output)
    }

    fn answer_from(
        &mut self,
        own: &mut Buffer,
        answered: Range<usize>,
        consumed: usize,
        output: &mut Vec<u8>,
        now: Moment,
    ) -> Result<(), OutOfMemory> {
        let in_place = own.divide(answered, consumed)?;
        let waiting = self.waiting.get_or_insert_default();
        if waiting.to_send.is_empty() {
            waiting.stalled_since = now;
        }
        waiting.to_send.append_buffer(in_place)?;
        waiting.to_send.append(output)?;
        output.clear();
        Ok(())
    }

    /// Does what the handler said after a call on lent bytes, and keeps what it left of them.
    #[cold]
    #[inline(never)]
    fn heed_on_lent<'l>(
        &mut self,
        bytes: &'l mut [u8],
        outcome: Outcome,
        lent: Lent<'l>,
    ) -> Answer<'l> {
        let rest = &bytes[outcome.consumed..];
        if !rest.is_empty() {
            let waiting = self.waiting.get_or_insert_default();
            if let Err(error) = waiting.received.append(rest) {
                return self.out_of_memory(error);
            }
        }
        let progress = outcome.consumed > 0 || !lent.output.is_empty();
        self.heed(Call::Receive, &outcome, rest.len(), progress, lent.limits, lent.now);
        answer(bytes, lent.output, outcome.answered)
    }

    /// Does what the handler said. `left` bytes are unconsumed.
    fn heed(
        &mut self,
        call: Call,
        outcome: &Outcome,
        left: usize,
        progress: bool,
        limits: &Limits,
        now: Moment,
    ) {
        match outcome.flow {
            Flow::Close => {
                let ending = match call {
                    Call::End => Ending::Finished,
                    Call::Drain => Ending::Drained,
                    _ => Ending::Served,
                };
                return self.flush(ending, limits, now);
            }
            Flow::Refuse(violation) => return self.refuse(violation, limits, now),
            Flow::Abort => return self.cut(Ending::Aborted),
            Flow::AtLeast(count) if count > limits.received() => {
                let (length, limit) = (count as u64, limits.max_frame as u64);
                return self.refuse(Violation::TooLong { length, limit }, limits, now);
            }
            _ if left > limits.received() && outcome.flow != Flow::Again => {
                let (length, limit) = (left as u64, limits.max_frame as u64);
                return self.refuse(Violation::TooLong { length, limit }, limits, now);
            }
            _ => {}
        }
        self.note_frame(call, outcome, left, now);
        if call == Call::Receive || outcome.flow != Flow::Continue {
            let waiting = self.waiting.get_or_insert_default();
            match outcome.flow {
                Flow::Again => (waiting.need, waiting.told_to_wait) = (0, false),
                Flow::Wait => (waiting.need, waiting.told_to_wait) = (0, true),
                // A handler that asks for what is there already gets it, unless it did nothing
                // with it the last time: it would be asked for ever.
                Flow::AtLeast(count) if count <= left && progress => waiting.need = 0,
                Flow::AtLeast(count) => waiting.need = count.max(left + 1),
                _ => waiting.need = left + 1,
            }
            if left == 0 && matches!(outcome.flow, Flow::AtLeast(_)) {
                waiting.need = 1;
            }
            waiting.note_pause(now);
        }
    }

    /// Starts, goes on with, or stops the frame clock.
    fn note_frame(&mut self, call: Call, outcome: &Outcome, left: usize, now: Moment) {
        let bytes_needed = matches!(outcome.flow, Flow::Continue | Flow::AtLeast(_));
        let (begun, new) = match outcome.partial {
            Partial::Unsaid if call != Call::Receive => return,
            Partial::Unsaid => (left > 0 && bytes_needed, outcome.consumed > 0),
            Partial::No => (false, false),
            Partial::Yes { new } => (true, new),
        };
        if begun {
            let waiting = self.waiting.get_or_insert_default();
            if new || waiting.partial_since.is_never() {
                waiting.partial_since = now;
            }
        } else if let Some(waiting) = &mut self.waiting {
            waiting.partial_since = Moment::NEVER;
        }
    }

    // ── the states ───────────────────────────────────────────────────────────────────────────

    fn refuse(&mut self, violation: Violation, limits: &Limits, now: Moment) {
        self.waiting.get_or_insert_default().violation = Some(violation);
        self.flush(Ending::Refused, limits, now);
    }

    /// Begins the orderly close. The answer of this call is still under way: the next
    /// [`keep`](Connection::keep) sees whether anything waits.
    fn flush(&mut self, ending: Ending, limits: &Limits, now: Moment) {
        self.state = State::Flushing(ending);
        self.timer = now + limits.flush;
        if let Some(waiting) = &mut self.waiting {
            waiting.received = Buffer::default();
        }
    }

    /// Ends the connection at once; what waits is dropped.
    fn cut(&mut self, ending: Ending) {
        if !self.is_closed() {
            self.state = State::Closed(ending);
            self.waiting = None;
        }
    }

    #[cold]
    fn out_of_memory<'l>(&mut self, _: OutOfMemory) -> Answer<'l> {
        self.cut(Ending::OutOfMemory);
        Answer::NOTHING
    }

    /// After every change of what waits to be sent: the marks, the end of flushing, and storage
    /// that is not needed any more.
    fn settle(&mut self, limits: &Limits, now: Moment) {
        match self.state {
            State::Open => {
                let Some(waiting) = &mut self.waiting else { return };
                let backlog = waiting.to_send.len();
                if !waiting.throttled && backlog >= limits.high {
                    waiting.throttled = true;
                    waiting.note_pause(now);
                } else if waiting.throttled && backlog <= limits.low {
                    waiting.throttled = false;
                    waiting.room_due = true;
                    waiting.note_pause(now);
                }
                if waiting.is_over() {
                    self.waiting = None;
                }
            }
            State::Flushing(ending) => {
                // When the peer has finished too, close(2) itself is our FIN.
                if self.to_send().is_empty() && self.end != End::NotYet {
                    self.state = State::Closed(ending);
                }
            }
            State::Lingering(_) | State::Closed(_) => {}
        }
    }

    /// How much a call may answer before `is_full`.
    fn room(&self, limits: &Limits) -> usize {
        limits.send_buffer.saturating_sub(self.to_send().len())
    }

    // ── deadlines ────────────────────────────────────────────────────────────────────────────

    #[cold]
    fn deadline_of_waiting(&self, limits: &Limits) -> Moment {
        match self.state {
            State::Open => self
                .timer
                .min(self.last_progress + limits.idle)
                .min(self.write_deadline(limits))
                .min(self.frame_deadline(limits)),
            State::Flushing(_) => self.timer.min(self.write_deadline(limits)),
            State::Lingering(_) => self.timer.min(self.last_progress + limits.linger_silence),
            State::Closed(_) => Moment::NEVER,
        }
    }

    fn write_deadline(&self, limits: &Limits) -> Moment {
        match &self.waiting {
            Some(waiting) if !waiting.to_send.is_empty() => waiting.stalled_since + limits.write,
            _ => Moment::NEVER,
        }
    }

    fn frame_deadline(&self, limits: &Limits) -> Moment {
        match &self.waiting {
            Some(waiting) if !waiting.is_paused() && self.end == End::NotYet => {
                waiting.partial_since + limits.frame
            }
            _ => Moment::NEVER,
        }
    }
}

/// The one slice that a call answered. Answers in place and appended ones in the same call must
/// become one; that is rare, and the only copy between receiving and sending.
#[inline(always)]
fn answer<'l>(bytes: &'l [u8], output: &'l mut Vec<u8>, answered: Range<usize>) -> Answer<'l> {
    if output.is_empty() {
        Answer(&bytes[answered])
    } else {
        if !answered.is_empty() {
            output.splice(0..0, bytes[answered].iter().copied());
        }
        Answer(output)
    }
}

/// An idle connection is what a server has a million of.
const _: () = assert!(size_of::<Connection<()>>() == 32);
