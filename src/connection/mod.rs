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
//! Everything that changes the state of a connection is in this file; `calls.rs` makes the calls to
//! the handler and heeds what it says, `state.rs` tells what the connection waits for. Between two calls a connection is
//! its handler and 32 bytes; [`Waiting`] exists only while something waits.

use std::io;
use std::mem;

use crate::buffer::{Buffer, OutOfMemory};
use crate::handler::{Flow, Handler, Partial, Violation};
use crate::lent::{Answer, Lent};
use crate::limits::{CloseReason, Limits, Overflow};
use crate::moment::Moment;

mod calls;
mod state;
mod waiting;

use calls::{Call, answer};
use state::{End, Ending, State};
pub use state::{Stage, Wants};
use waiting::{Drain, Finish, Waiting};

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
    /// [`front`](Connection::front) said. While the connection is paused they are kept for later:
    /// a receive that completes late may have begun before the pause.
    pub fn receive<'l>(&mut self, bytes: &'l mut [u8], front: usize, lent: Lent<'l>) -> Answer<'l> {
        debug_assert!(front < bytes.len(), "no byte was received");
        self.last_progress = lent.now;
        if self.state != State::Open {
            return Answer::NOTHING;
        }
        let received = bytes.len() - front;
        let (mut kept, mut need) = (0, 1);
        let mut paused = false;
        if let Some(waiting) = &mut self.waiting {
            (kept, need) = (waiting.received.len(), waiting.need);
            waiting.queued = 0;
            paused = waiting.is_paused();
            if let Drain::Reading(unread) = &mut waiting.drain {
                *unread = unread.saturating_sub(received);
            }
        }
        if kept != front || kept + received < need || paused {
            let waiting = self.waiting.get_or_insert_default();
            if let Err(error) = waiting.received.append(&bytes[front..], &lent.limits.memory) {
                return self.out_of_memory(error);
            }
            if kept + received < need {
                return Answer::NOTHING;
            }
            if paused {
                // No event will come for what is there already.
                waiting.need = 0;
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

    /// Another thread or connection asks the handler to look.
    #[cold]
    pub fn wake<'l>(&mut self, lent: Lent<'l>) -> Answer<'l> {
        if self.state != State::Open {
            return Answer::NOTHING;
        }
        self.call_on_kept(Call::Wake, lent)
    }

    /// The program sends `bytes` that no handler made: they are the answer, to be sent and given
    /// back as any other. None when the connection is closing, or when too much waits already and
    /// [`Limits::overflow`] says that then a message is dropped.
    #[cold]
    pub fn post<'l>(&mut self, bytes: &'l [u8], limits: &Limits) -> Option<Answer<'l>> {
        if self.state != State::Open {
            return None;
        }
        if self.to_send().len() < limits.send_buffer {
            return Some(Answer(bytes));
        }
        if limits.overflow == Overflow::Close {
            self.cut(Ending::TooSlow);
        }
        None
    }

    /// The program closes the connection, in order.
    #[cold]
    pub fn dismiss<'l>(&mut self, lent: Lent<'l>) -> Answer<'l> {
        if self.state == State::Open {
            self.flush(Ending::Dismissed, lent.limits, lent.now);
        }
        Answer::NOTHING
    }

    /// The server is going away; `unread` bytes of this peer have come and were not received yet.
    /// They are received and answered first, and so is a frame that has begun. A second call does
    /// nothing.
    #[cold]
    pub fn drain<'l>(&mut self, unread: usize, lent: Lent<'l>) -> Answer<'l> {
        if self.state != State::Open {
            return Answer::NOTHING;
        }
        let waiting = self.waiting.get_or_insert_default();
        if waiting.drain != Drain::No {
            return Answer::NOTHING;
        }
        waiting.drain = Drain::Reading(unread);
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

    /// Tells that the stream holds `count` bytes which the peer has not taken (SIOCOUTQ), before
    /// [`expire`](Connection::expire) is called; 0 when that is not known.
    ///
    /// A kernel may take megabytes for a slow peer, and then nothing until a third of them has
    /// left. Here it shows that bytes move meanwhile: when there are fewer than at the last look,
    /// or at the first look any. So who does not take a byte is found out at the second look, after
    /// twice the timeout.
    #[cold]
    pub fn queued(&mut self, count: usize, now: Moment) {
        if self.is_closed() || (self.waiting.is_none() && count == 0) {
            return;
        }
        let waiting = self.waiting.get_or_insert_default();
        let before = mem::replace(&mut waiting.queued, count);
        if count < before || (before == 0 && count > 0) {
            self.last_progress = now;
            waiting.stalled_since = now;
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
            if let Some(waiting) = &mut self.waiting {
                waiting.queued = 0;
            }
        }
        let rest = &answer.0[sent..];
        if !rest.is_empty() && !self.is_closed() {
            let waiting = self.waiting.get_or_insert_default();
            if waiting.to_send.is_empty() {
                waiting.stalled_since = now;
            }
            if let Err(error) = waiting.to_send.append(rest, &limits.memory) {
                let _ = self.out_of_memory(error);
            }
        }
        self.settle(limits, now);
    }

    /// An answer was being sent since `began`, by a call that may wait for the peer: nothing was
    /// read meanwhile, so the frame clock stood still. Before the answer is given back.
    #[inline]
    pub fn was_sending(&mut self, began: Moment, now: Moment) {
        if let Some(waiting) = &mut self.waiting {
            waiting.note_no_reading(began, now);
        }
    }

    /// The first `count` bytes of [`to_send`](Connection::to_send) were sent.
    pub fn sent(&mut self, count: usize, limits: &Limits, now: Moment) {
        if count == 0 {
            return;
        }
        self.last_progress = now;
        if let Some(waiting) = &mut self.waiting {
            waiting.to_send.consume(count);
            (waiting.queued, waiting.stalled_since) = (0, now);
        }
        self.settle(limits, now);
    }

    /// Our FIN is sent.
    pub fn finished(&mut self, limits: &Limits, now: Moment) {
        match self.state {
            State::Flushing(ending) => {
                self.state = State::Lingering(ending);
                self.last_progress = now;
                self.timer = now + limits.linger;
            }
            State::Open => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.finish = Finish::Done;
                }
            }
            State::Lingering(_) | State::Closed(_) => {}
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

    /// An outgoing connection is there: it has been idle since now, and not since it was asked for.
    #[cold]
    pub(crate) fn connected(&mut self, now: Moment) {
        self.last_progress = now;
    }

    /// An outgoing connection could not be made.
    #[cold]
    pub(crate) fn unreachable(&mut self, kind: io::ErrorKind) {
        self.cut(Ending::Unreachable(kind));
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
}

/// An idle connection is what a server has a million of.
const _: () = assert!(size_of::<Connection<()>>() == 32);
