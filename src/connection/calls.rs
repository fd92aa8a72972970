//! The calls to the handler: which is due, making it, and heeding what it says.

use std::mem;
use std::ops::Range;

use crate::buffer::{Buffer, Memory, OutOfMemory, Outgoing, Received};
use crate::connection::Connection;
use crate::connection::state::{End, Ending, State};
use crate::connection::waiting::{Drain, Finish};
use crate::handler::{Exchange, Flow, Handler, Partial, Violation};
use crate::lent::{Answer, Lent};
use crate::limits::Limits;
use crate::moment::Moment;

/// Which of a handler's calls is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Open,
    Receive,
    End,
    Room,
    Timer,
    Wake,
    Drain,
}

/// What came of one handler call.
pub(super) struct Outcome {
    pub(super) flow: Flow,
    pub(super) consumed: usize,
    pub(super) answered: Range<usize>,
    pub(super) partial: Partial,
}

impl<H: Handler> Connection<H> {
    /// The call that is to be made without any event.
    pub(super) fn due(&self) -> Option<Call> {
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
        let all_came = match waiting.drain {
            Drain::Reading(unread) => unread == 0 || self.end != End::NotYet,
            Drain::No | Drain::Told => false,
        };
        (all_came && !frame_begun).then_some(Call::Drain)
    }

    #[inline(always)]
    pub(super) fn call(
        &mut self,
        call: Call,
        bytes: &mut [u8],
        output: &mut Vec<u8>,
        limits: &Limits,
        room: usize,
        now: Moment,
    ) -> Outcome {
        let draining = self
            .waiting
            .as_deref()
            .is_some_and(|waiting| matches!(waiting.drain, Drain::Reading(0) | Drain::Told));
        let mut exchange = Exchange {
            received: Received::new(bytes),
            to_send: Outgoing::new(output, room),
            timer: &mut self.timer,
            now,
            max_frame: limits.max_frame,
            partial: Partial::Unsaid,
            draining,
        };
        let handler = &mut self.handler;
        let flow = match call {
            Call::Receive => handler.receive(&mut exchange),
            Call::Open => handler.open(&mut exchange),
            Call::End => handler.end(&mut exchange),
            Call::Room => handler.room(&mut exchange),
            Call::Timer => handler.timer(&mut exchange),
            Call::Wake => handler.wake(&mut exchange),
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
    pub(super) fn call_on_kept<'l>(&mut self, call: Call, lent: Lent<'l>) -> Answer<'l> {
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
            Call::Open | Call::Receive | Call::Timer | Call::Wake => {}
        }
        let room = self.room(limits);
        let mut own = self
            .waiting
            .as_deref_mut()
            .map_or_else(Buffer::default, |w| mem::take(&mut w.received));
        let outcome = self.call(call, own.as_mut_slice(), output, limits, room, now);
        let progress = outcome.consumed > 0 || !output.is_empty();
        let full = outcome.answered.len() + output.len() >= room;
        // An answer in place stands in storage that the connection owns, and so does not need to
        // be lent: that storage itself becomes what waits to be sent.
        if outcome.answered.is_empty() {
            own.consume(outcome.consumed);
        } else if let Err(error) = self.answer_from(&mut own, &outcome, output, &limits.memory, now)
        {
            return self.out_of_memory(error);
        }
        let left = own.len();
        if left > 0 {
            self.waiting.get_or_insert_default().received = own;
        }
        self.heed(call, &outcome, left, progress, limits, now);
        if full {
            self.owe_room(outcome.flow);
        }
        Answer(output)
    }

    pub(super) fn answer_from(
        &mut self,
        own: &mut Buffer,
        outcome: &Outcome,
        output: &mut Vec<u8>,
        memory: &Memory,
        now: Moment,
    ) -> Result<(), OutOfMemory> {
        let in_place = own.divide(outcome.answered.clone(), outcome.consumed, memory)?;
        let waiting = self.waiting.get_or_insert_default();
        if waiting.to_send.is_empty() {
            waiting.stalled_since = now;
        }
        waiting.to_send.append_buffer(in_place, memory)?;
        waiting.to_send.append(output, memory)?;
        output.clear();
        Ok(())
    }

    /// Does what the handler said after a call on lent bytes, and keeps what it left of them.
    #[cold]
    #[inline(never)]
    pub(super) fn heed_on_lent<'l>(
        &mut self,
        bytes: &'l mut [u8],
        outcome: Outcome,
        lent: Lent<'l>,
    ) -> Answer<'l> {
        let rest = &bytes[outcome.consumed..];
        if !rest.is_empty() {
            let waiting = self.waiting.get_or_insert_default();
            if let Err(error) = waiting.received.append(rest, &lent.limits.memory) {
                return self.out_of_memory(error);
            }
        }
        let progress = outcome.consumed > 0 || !lent.output.is_empty();
        let full = outcome.answered.len() + lent.output.len() >= self.room(lent.limits);
        self.heed(Call::Receive, &outcome, rest.len(), progress, lent.limits, lent.now);
        if full {
            self.owe_room(outcome.flow);
        }
        answer(bytes, lent.output, outcome.answered)
    }

    /// Does what the handler said. `left` bytes are unconsumed.
    pub(super) fn heed(
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
            // Both sides have finished: nothing could ever happen to it any more.
            Flow::Finish if self.end == End::Told => {
                return self.flush(Ending::Finished, limits, now);
            }
            Flow::Refuse(violation) => return self.refuse(violation, limits, now),
            Flow::Abort => return self.cut(Ending::Aborted),
            Flow::AtLeast(count) if count > limits.received() => {
                let (length, limit) = (count as u64, limits.max_frame as u64);
                return self.refuse(Violation::TooLong { length, limit }, limits, now);
            }
            // Judged only where more bytes are needed: what is left after `Again` or `Wait`, or
            // after a call that no byte made, may be many whole frames.
            Flow::Continue | Flow::AtLeast(_)
                if call == Call::Receive && left > limits.received() =>
            {
                let (length, limit) = (left as u64, limits.max_frame as u64);
                return self.refuse(Violation::TooLong { length, limit }, limits, now);
            }
            _ => {}
        }
        self.note_frame(call, outcome, left, now);
        if let Some(waiting) = &mut self.waiting
            && waiting.need > 0
        {
            // It was counted from the first unconsumed byte, and that is another one now.
            let need = waiting.need.saturating_sub(outcome.consumed).max(1);
            waiting.need = if left == 0 { 1 } else { need };
        }
        let any_byte = left == 0 && matches!(outcome.flow, Flow::Continue | Flow::AtLeast(_));
        if any_byte && self.waiting.is_none() {
            return;
        }
        if call == Call::Receive || outcome.flow != Flow::Continue {
            let waiting = self.waiting.get_or_insert_default();
            match outcome.flow {
                Flow::Again => (waiting.need, waiting.told_to_wait) = (0, false),
                Flow::Finish => {
                    waiting.need = left + 1;
                    if waiting.finish == Finish::No {
                        waiting.finish = Finish::Wanted;
                    }
                }
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

    /// A handler that filled the buffer and waits is waiting for `room`, and that is due even if
    /// the socket takes everything at once: then the buffer is full in the handler's eyes only.
    fn owe_room(&mut self, flow: Flow) {
        if let Some(waiting) = &mut self.waiting
            && flow == Flow::Wait
            && self.state == State::Open
        {
            waiting.throttled = true;
        }
    }

    /// Starts, goes on with, or stops the frame clock.
    pub(super) fn note_frame(&mut self, call: Call, outcome: &Outcome, left: usize, now: Moment) {
        let bytes_needed = matches!(outcome.flow, Flow::Continue | Flow::AtLeast(_));
        let (begun, new) = match outcome.partial {
            Partial::Unsaid if call != Call::Receive && outcome.consumed == 0 => return,
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

    /// How much a call may answer before `is_full`.
    pub(super) fn room(&self, limits: &Limits) -> usize {
        limits.send_buffer.saturating_sub(self.to_send().len())
    }
}

/// The one slice that a call answered. Answers in place and appended ones in the same call must
/// become one; that is rare, and the only copy between receiving and sending.
#[inline(always)]
pub(super) fn answer<'l>(
    bytes: &'l [u8],
    output: &'l mut Vec<u8>,
    answered: Range<usize>,
) -> Answer<'l> {
    if output.is_empty() {
        Answer(&bytes[answered])
    } else {
        if !answered.is_empty() {
            output.splice(0..0, bytes[answered].iter().copied());
        }
        Answer(output)
    }
}
