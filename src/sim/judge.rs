//! What must be true of a world: after each turn, and when all is over.

use crate::connection::Connection;
use crate::counters::Snapshot;
use crate::handler::Handler;
use crate::limits::CloseReason;
use crate::moment::Moment;
use crate::stop::Phase;

use super::Fault;
use super::client::Close;
use super::messages::LONGEST;
use super::options::LONG_DRAIN;
use super::wire::{End, Standing};
use super::world::World;

impl World {
    /// What a connection holds has a bound, whatever its peer does.
    pub(super) fn look_at_bounds<H: Handler>(&mut self, client: usize, it: &Connection<H>) {
        let limits = &self.options.limits;
        let answer = self.wires[client].seen.largest_answer;
        let (to_send, most_to_send) = (it.to_send().len(), limits.high + answer + LONGEST);
        let (held, most_held) = (it.held_back(), limits.received() + self.options.input);
        self.wires[client].waits_to_send = to_send > 0;
        if to_send > most_to_send {
            self.fail(|| format!("{to_send} bytes wait for client {client}, over {most_to_send}"));
        }
        if held > most_held {
            self.fail(|| format!("{held} bytes of client {client} are held, over {most_held}"));
        }
    }

    /// Before a level-triggered kernel sleeps, it is asked for writability exactly where answers wait.
    pub(super) fn look_at_interests(&mut self) {
        for client in 0..self.wires.len() {
            let wire = &self.wires[client];
            let is_asked = wire.interest.send;
            // That it is writable is how a connection tells that it is there.
            let is_attempt = matches!(wire.standing, Standing::Called | Standing::Established);
            let waits = wire.waits_to_send || is_attempt;
            if wire.held && !wire.muted && wire.token.is_some() && is_asked != waits {
                self.fail(|| {
                    format!(
                        "answers wait for client {client}: {waits}; to be told of room: {is_asked}"
                    )
                });
            }
        }
    }

    /// After a turn no deadline is left that has passed: the loop would not come back to it.
    /// `next` is when it does.
    pub(super) fn look_at_deadline<H: Handler>(
        &mut self,
        client: usize,
        it: &Connection<H>,
        next: Moment,
    ) {
        // One that is not there yet has a time of its own.
        if matches!(self.wires[client].standing, Standing::Called | Standing::Established) {
            return;
        }
        let deadline = it.deadline(&self.options.limits);
        let missed = self.now.since(deadline);
        // When the machine has slept, a second one may be due at once; it has its turn, the next.
        let is_next = !self.longest_leap.is_zero() && next <= self.now;
        if is_next {
            return;
        }
        if !deadline.is_never() && missed > Self::A_TURN {
            self.fail(|| format!("a deadline of client {client} passed {missed:?} ago, unheeded"));
        }
    }

    /// A deadline ends a connection only when it has passed, as the bytes tell that moved.
    pub(super) fn look_at_reason(&mut self, client: usize, reason: CloseReason) {
        let limits = &self.options.limits;
        let wire = &self.wires[client];
        let moved = wire.moved_before_our_end.unwrap_or(wire.last_received.max(wire.last_sent));
        let earliest = match reason {
            CloseReason::Idle => moved + limits.idle,
            CloseReason::Incomplete => wire.seen.in_frame_since + limits.frame,
            // A message was one too many for it.
            CloseReason::TooSlow if wire.was_sent_to => return,
            // The last answers may take so long in all, and only a machine that sleeps gets there.
            CloseReason::TooSlow if self.now >= Moment::START + limits.flush => return,
            CloseReason::TooSlow => (wire.last_sent + limits.write).min(moved + limits.idle),
            CloseReason::OutOfMemory => {
                self.cut_for_memory += 1;
                if self.cut_for_memory > self.refused_storage() {
                    self.fail(|| format!("client {client} was cut for memory that it was given"));
                }
                return;
            }
            _ => return,
        };
        let early = earliest.since(self.now);
        if earliest.is_never() || early > Self::A_TURN {
            self.fail(|| format!("client {client} was closed as {reason}, {early:?} too early"));
        }
    }

    /// When the loop has ended and every client has found out.
    pub(super) fn look_back(&mut self, counters: &Snapshot) {
        for client in 0..self.wires.len() {
            if let Some(what) = self.wrong_with_stream(client).or_else(|| self.denied(client)) {
                self.fail(|| format!("client {client} {what}"));
            }
        }
        let (cut, refused) = (self.cut_for_memory, self.refused_storage());
        if cut != refused {
            self.fail(|| format!("storage was refused {refused} times, and {cut} were cut for it"));
        }
        let datagrams = self.look_back_at_datagrams(counters);
        if let Some(what) = self.miscounted(counters, datagrams) {
            self.fail(|| format!("{what}; {counters:?}"));
        }
    }

    fn refused_storage(&self) -> u64 {
        self.reservations.as_ref().map_or(0, |reservations| reservations.refused())
    }

    fn wrong_with_stream(&self, client: usize) -> Option<String> {
        let wire = &self.wires[client];
        if wire.held {
            return Some("has a stream that was never released".into());
        }
        let in_vain = wire.seen.closed.is_some_and(|it| self.was_called_in_vain(client, it));
        if wire.seen.opened != wire.seen.closed.is_some() && !in_vain {
            return Some("has a handler that was opened and never told of its end".into());
        }
        if (wire.standing == Standing::Accepted) != wire.seen.opened && wire.spoiled.is_none() {
            return Some("was accepted and not opened, or opened and not accepted".into());
        }
        None
    }

    /// What was promised to a client that did its part, and was not kept.
    fn denied(&self, client: usize) -> Option<String> {
        let wire = &self.wires[client];
        let reason = wire.seen.closed?;
        let script = &wire.client.script;
        let promised =
            wire.is_well(self.options.limits.high) && wire.standing == Standing::Accepted;
        if !promised || self.stop.phase() == Phase::Stopped || self.failures.fatal {
            return None;
        }
        let timeout = self.drained_at.map(|at| at + self.options.drain_timeout.into());
        if reason == CloseReason::DrainTimeout {
            let closed = wire.seen.closed_at + Self::A_TURN.into();
            let in_time = timeout.is_some_and(|timeout| timeout <= closed);
            let was_long = self.options.drain_timeout.as_secs() >= LONG_DRAIN;
            return if !in_time {
                Some("was cut by a drain timeout that had not passed".into())
            } else if was_long && !self.ever_has(Fault::Jumps) && self.longest_leap.is_zero() {
                Some("was kept until the drain timeout, though it did its part".into())
            } else {
                None
            };
        }
        let expected = match (reason, script.close()) {
            (CloseReason::Finished, _) => true,
            (CloseReason::Drained, _) => self.drained_at.is_some(),
            (CloseReason::Served | CloseReason::Refused(_), Close::ByClient) => {
                wire.seen.ended || self.drained_at.is_some()
            }
            (CloseReason::Served | CloseReason::Refused(_), Close::ByServer) => true,
            (CloseReason::Aborted | CloseReason::Panicked, Close::Cut) => return None,
            (CloseReason::TooSlow, _) if wire.was_sent_to => return None,
            // It was looked at when it was closed whether there was a reason.
            (CloseReason::OutOfMemory, _) => return None,
            (CloseReason::Idle | CloseReason::Incomplete | CloseReason::TooSlow, _)
                if !self.longest_leap.is_zero() =>
            {
                return None;
            }
            // It had its time, which was looked at when it was closed.
            (CloseReason::Idle | CloseReason::Incomplete | CloseReason::TooSlow, _)
                if self.options.hurries =>
            {
                return None;
            }
            _ => false,
        };
        if !expected {
            return Some(format!("did its part, and was closed: {reason}"));
        }
        if wire.ended != Some(End::Whole) {
            let (read, ended) = (wire.read, wire.ended);
            return Some(format!("did its part, and did not end well: {read} bytes, {ended:?}"));
        }
        let whole = script.answered().len();
        let by_drain = self.drained_at.is_some() && reason != CloseReason::Finished;
        let owed = match wire.promised {
            // One that waits for something else is told of the drain as it is.
            _ if by_drain && wire.seen.has_waited => 0,
            Some(promised) if by_drain => promised,
            None if by_drain => 0,
            _ => whole,
        };
        let read = wire.read;
        (read < owed).then(|| format!("did its part, and got {read} of {owed} bytes ({reason})"))
    }

    fn miscounted(
        &self,
        counters: &Snapshot,
        (in_datagrams, out_in_datagrams): (u64, u64),
    ) -> Option<&'static str> {
        let refused = counters.refused_limit + counters.refused_other;
        let called = self.wires.iter().filter(|wire| wire.call.is_some() && wire.seen.opened);
        if counters.accepted + called.count() as u64 != counters.opened + refused {
            return Some("accepted is not opened and refused");
        }
        if counters.open() != 0 || counters.opened != counters.closed_in_all() {
            return Some("opened is not closed");
        }
        let opened = self.wires.iter().filter(|wire| wire.seen.opened);
        let closed = |label: &str| {
            let reasons = opened.clone().filter_map(|wire| wire.seen.closed);
            reasons.filter(|reason| reason.label() == label).count() as u64
        };
        if counters.closed_by_label().any(|(label, count)| count != closed(label)) {
            return Some("handlers were told other reasons than those that were counted");
        }
        let received = opened.clone().map(|wire| wire.received as u64).sum::<u64>() + in_datagrams;
        let answered =
            opened.clone().map(|wire| wire.answered as u64).sum::<u64>() + out_in_datagrams;
        if (counters.bytes_received, counters.bytes_sent) != (received, answered) {
            return Some("other bytes moved than were counted");
        }
        if counters.partial_sends != self.partial_sends {
            return Some("other sends were partial than were counted");
        }
        None
    }
}
