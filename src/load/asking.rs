//! What happens to one connection while it is there: asked, answered, judged, timed.
//!
//! A reply costs one receive, one look at the clock and one send, as it costs the server. The
//! clock is asked after each receive and not once a turn: a hundred connections may be ready in one
//! turn, and the last of them would have waited for the others.

use std::io;

use mio::event::Event;

use super::client::{Client, Role, State};
use super::generator::Generator;
use super::plan::SLOW_READ;
use super::replies::Mistake;
use super::tally::WrongReply;
use crate::moment::{Moment, Patience};

/// Replies that are recognised although they come too late.
const MOST_GIVEN_UP: usize = 64;

impl Generator<'_> {
    pub(super) fn run_ready(&mut self, event: &Event) {
        let slot = event.token().0;
        let Some(client) = self.clients.get(slot) else { return };
        match client.state {
            // The connection that this was about is gone.
            State::Queued | State::Absent(_) => {}
            State::Connecting(_) => {
                // A server that is full may have closed it by now, and no event will say so again.
                let is_closed = event.is_read_closed() || event.is_error();
                self.look_at_attempt(slot, is_closed, self.now());
            }
            State::OnProbation | State::Open => {
                // The kernel has room for what it did not take at once.
                if client.unsent > 0 && event.is_writable() {
                    self.flush(slot, self.now());
                }
                if event.is_readable() && self.clients[slot].role != Role::ReadsSlowly {
                    let thorough =
                        event.is_read_closed() || event.is_error() || event.is_priority();
                    self.receive(slot, thorough);
                }
            }
        }
    }

    /// Receives and judges what has come. A receive that leaves room in the scratch has taken
    /// everything, unless an end or an error stands behind it: `thorough` looks for that.
    pub(super) fn receive(&mut self, slot: usize, thorough: bool) {
        loop {
            let client = &mut self.clients[slot];
            // What came may have ended it, and the next one may be under way.
            let (State::Open | State::OnProbation, Some(socket)) = (client.state, &client.socket)
            else {
                return;
            };
            let received = match socket.receive(&mut self.scratch) {
                Ok(0) if !self.is_datagrams => return self.lost(slot, None, self.now()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.lost(slot, Some(error), self.now()),
            };
            let now = self.now();
            self.tally.counts.bytes_received += received as u64;
            let judged = if self.is_datagrams {
                self.take_datagram(slot, received, now)
            } else {
                self.take(slot, received, now)
            };
            if let Err(mistake) = judged {
                return self.wrong(slot, mistake, now);
            }
            self.dispatch(now);
            if !self.is_datagrams && !thorough && received < self.scratch.len() {
                return;
            }
        }
    }

    /// The first `received` bytes of the scratch belong to the replies of this connection.
    #[inline]
    fn take(&mut self, slot: usize, received: usize, now: Moment) -> Result<(), Mistake> {
        let client = &mut self.clients[slot];
        let bytes = &self.scratch[..received];
        let whole = client.replies.take(&self.tape, bytes, client.under_way.len())?;
        if whole > 0 {
            for _ in 0..whole {
                let Some(request) = client.under_way.pop_front() else { break };
                if request.planned >= self.schedule.measured_from {
                    let end = self.schedule.end;
                    self.tally.answered(request.planned, request.sent, now, end);
                }
            }
            self.answered(slot, whole, now);
        }
        Ok(())
    }

    /// The first `length` bytes of the scratch are a datagram.
    fn take_datagram(&mut self, slot: usize, length: usize, now: Moment) -> Result<(), Mistake> {
        let client = &mut self.clients[slot];
        let datagram = &self.scratch[..length];
        let places = client.under_way.iter().map(|request| request.place);
        let found = client.replies.find(&self.tape, datagram, places);
        if let Some(request) = found.and_then(|index| client.under_way.remove(index)) {
            if request.planned >= self.schedule.measured_from {
                let end = self.schedule.end;
                self.tally.answered(request.planned, request.sent, now, end);
            }
            self.answered(slot, 1, now);
            Ok(())
        } else if client.replies.is_late(&self.tape, datagram, &client.given_up) {
            self.tally.counts.late += 1;
            Ok(())
        } else {
            Err(Mistake::Datagram { length })
        }
    }

    /// Replies are whole, and no longer under way on their connection.
    #[inline]
    fn answered(&mut self, slot: usize, replies: usize, now: Moment) {
        self.under_way -= replies;
        let client = &mut self.clients[slot];
        client.answered += replies as u64;
        if self.plan.per_connection.is_some_and(|most| client.answered >= most) {
            client.failures = 0;
            self.drop_connection(slot, now);
            self.connect_again(slot, now);
        } else {
            self.becomes_free(slot, now);
        }
    }

    /// Puts a connection behind those that have been free for longer.
    #[inline]
    pub(super) fn becomes_free(&mut self, slot: usize, now: Moment) {
        let client = &mut self.clients[slot];
        if !client.queued && client.has_room(self.plan) {
            client.queued = true;
            client.free_since = now;
            self.free.push_back(slot as u32);
        }
    }

    /// Sends what is due, by those that are free.
    #[inline]
    pub(super) fn dispatch(&mut self, mut now: Moment) {
        let is_open = self.plan.pacing.rate().is_some();
        while self.schedule.next() <= now {
            let Some(slot) = self.free.pop_front().map(|slot| slot as usize) else { return };
            let client = &mut self.clients[slot];
            client.queued = false;
            let mut begun = 0;
            while client.has_room(self.plan)
                && let Some(planned) = self.schedule.take(now)
            {
                if planned >= self.schedule.measured_from {
                    self.tally.counts.sent += 1;
                    if is_open {
                        // Until it became free, the server was what it waited for.
                        self.tally.sent_late(now.since(planned.max(client.free_since)));
                    }
                }
                client.begin(&self.tape, planned, now);
                begun += 1;
            }
            if client.has_room(self.plan) {
                client.queued = true;
                self.free.push_back(slot as u32);
            }
            if begun > 0 {
                self.under_way += begun;
                self.flush(slot, now);
            } else if client.queued {
                // It has room, and nothing is due.
                return;
            }
            if is_open {
                // The next one is not sent now, but behind this one.
                now = self.now();
            }
        }
    }

    /// Sends what waits on a connection, as far as the kernel takes it.
    pub(super) fn flush(&mut self, slot: usize, now: Moment) {
        let client = &mut self.clients[slot];
        let flushed = match client.role {
            Role::ReadsSlowly => ask_without_end(client, &self.tape),
            Role::Asks | Role::Idles => client.flush(&self.tape, self.is_datagrams),
        };
        match flushed {
            Ok(count) => self.tally.counts.bytes_sent += count as u64,
            Err(error) => self.lost(slot, Some(error), now),
        }
    }

    pub(super) fn read_slowly(&mut self, slot: usize, now: Moment) {
        self.flush(slot, now);
        let client = &mut self.clients[slot];
        let Some(socket) = &client.socket else { return };
        match socket.receive(&mut self.scratch[..SLOW_READ]) {
            Ok(0) => self.lost(slot, None, now),
            Ok(count) => {
                self.tally.counts.bytes_received += count as u64;
                match client.replies.take(&self.tape, &self.scratch[..count], client.unread) {
                    Ok(whole) => {
                        client.unread -= whole;
                        client.answered += whole as u64;
                    }
                    Err(mistake) => self.wrong(slot, mistake, now),
                }
            }
            Err(error) if is_for_later(&error) => {}
            Err(error) => self.lost(slot, Some(error), now),
        }
    }

    /// A reply is not what it must be. What comes behind it on a stream cannot be judged any more.
    #[cold]
    fn wrong(&mut self, slot: usize, mistake: Mistake, now: Moment) {
        let client = &mut self.clients[slot];
        let wrong = WrongReply { connection: slot + 1, reply: client.answered + 1, mistake };
        self.tally.errors.wrong += 1;
        self.tally.first_wrong.get_or_insert(wrong);
        if !self.is_datagrams {
            self.tally.counts.abandoned += client.under_way.len().saturating_sub(1) as u64;
            self.replace(slot, now);
        }
    }

    /// The oldest request of a connection has waited for too long. On a stream its reply may come
    /// at any time yet, and be taken for that of the next one: the connection is replaced.
    #[cold]
    pub(super) fn time_out(&mut self, slot: usize, now: Moment) {
        let client = &mut self.clients[slot];
        if self.is_datagrams {
            let timeout = Patience::new(self.plan.timeout);
            while let Some(request) = client.under_way.front().copied()
                && now >= request.sent + timeout
            {
                client.under_way.pop_front();
                self.tally.errors.lost += 1;
                self.under_way -= 1;
                client.given_up.push_back(request.place);
            }
            let surplus = client.given_up.len().saturating_sub(MOST_GIVEN_UP);
            client.given_up.drain(..surplus);
            self.becomes_free(slot, now);
        } else {
            self.tally.errors.timed_out += client.under_way.len() as u64;
            self.replace(slot, now);
        }
    }

    /// Gives up what was due at `before` or earlier and could not be sent; how many those were.
    pub(super) fn give_up_unsent(&mut self, before: Moment) -> u64 {
        let mut count = 0;
        if self.plan.pacing.rate().is_some() {
            while self.schedule.next() <= before && self.schedule.take(before).is_some() {
                count += 1;
            }
        }
        count
    }
}

/// Bytes that a slow reader sends at a time: the others want to be looked at, too.
const SLOW_READERS_TURN: usize = 256 * 1024;

/// Asks until the kernel takes no more, since the server does not.
fn ask_without_end(client: &mut Client, tape: &super::tape::Tape) -> io::Result<usize> {
    let mut sent = 0;
    while sent < SLOW_READERS_TURN {
        if client.unsent == 0 {
            client.begin_untimed(tape);
            client.unread += 1;
        }
        sent += client.flush(tape, false)?;
        if client.unsent > 0 {
            break;
        }
    }
    Ok(sent)
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
