//! What other threads, and the handlers themselves, ask of the loop: done after the batch.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::connection::Connection;
use crate::front::readiness::{Place, Readiness, Slot};
use crate::handler::{ConnectionId, Service};
use crate::kernel::{Kernel, Token};
use crate::lent::{Answer, Lent};
use crate::local::{Local, Request};
use crate::mailbox::{Look, Message, Queue};
use crate::moment::Moment;
use crate::transfer::{self, Reads, Stream};
use crate::witness::largest;

/// Where requests come from. A loop without any has neither and looks at nothing.
pub(super) struct Inbox<St, H> {
    /// From other threads.
    pub(super) queue: Option<Arc<Queue<St>>>,
    /// From this thread's handlers.
    pub(super) local: Option<Local<H>>,
    /// Emptied in each turn; kept for its storage.
    messages: VecDeque<Message<St>>,
}

impl<St, H> Inbox<St, H> {
    pub(super) fn new() -> Self {
        Self { queue: None, local: None, messages: VecDeque::new() }
    }

    /// Whether anybody could ask for anything.
    pub(super) fn is_read(&self) -> bool {
        self.queue.is_some() || self.local.is_some()
    }

    pub(super) fn has_messages(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| !queue.is_empty())
    }

    /// Whether the loop may wait: nothing has come since the messages were read.
    pub(super) fn may_sleep(&self) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.may_sleep())
            && self.local.as_ref().is_none_or(Local::is_empty)
    }
}

impl<K: Kernel, S: Service, const INPUT: usize> Readiness<'_, K, S, INPUT> {
    /// Does what was asked for.
    pub(super) fn read_messages(&mut self, now: Moment) {
        if let Some(queue) = &self.inbox.queue {
            queue.empty_into(&mut self.inbox.messages);
            let mut messages = std::mem::take(&mut self.inbox.messages);
            for message in messages.drain(..) {
                match message {
                    Message::Send(id, bytes) => self.post(id, &bytes, now),
                    Message::Wake(id) => self.wake(id, now),
                    Message::Close(id) => self.dismiss(id, now),
                    Message::Adopt(stream, peer) => self.adopt(stream, peer, now),
                    Message::Freed => {
                        if self.backoff.is_waiting() {
                            self.backoff.retry_now();
                        }
                    }
                    Message::Look(look) => self.show(look, now),
                }
            }
            self.inbox.messages = messages;
        }
        let Some(local) = &self.inbox.local else { return };
        if local.is_empty() {
            return;
        }
        // What is asked for meanwhile is done in the next turn, which does not wait.
        for request in local.take() {
            match request {
                Request::Wake(id) => self.wake(id, now),
                Request::Close(id) => self.dismiss(id, now),
                Request::Connect(outgoing) => self.connect(outgoing, now),
            }
        }
    }

    /// Answers who wants to see the connections.
    #[cold]
    fn show(&self, look: Look, now: Moment) {
        self.scratch.counters.late(look.asked, now);
        // A loop that was stuck has no time for questions that nobody asks any more.
        if now > look.until {
            return;
        }
        let Some(witness) = &self.witness else { return };
        let waiting = |slot: &Slot<K::Stream, S::Handler>| {
            (slot.connection.to_send().len() + slot.connection.held_back()) as u64
        };
        // The kernel is asked for those that are shown only: a call for each of ten thousand would
        // hold up the loop.
        let slots = self.slots.iter().map(|(index, slot)| (index, waiting(slot))).collect();
        let mut shown = Vec::new();
        for (index, _) in largest(slots, look.most, |(_, waiting)| *waiting) {
            let slot = &self.slots[index];
            let queued = Some(slot.stream.queued());
            shown.extend(witness.describe(index, &slot.connection, queued, now));
        }
        // Who asked may have gone.
        let _ = look.answer.send(shown);
    }

    /// Sends bytes that no handler made.
    fn post(&mut self, id: ConnectionId, bytes: &[u8], now: Moment) {
        let counters = self.scratch.counters;
        let Some(token) = self.addressee(id) else {
            counters.messages_dropped.increment();
            return;
        };
        let limits = self.scratch.limits;
        let Slot { connection, stream, .. } = &mut self.slots[token.slot as usize];
        match connection.post(bytes, limits) {
            Some(answer) => {
                counters.messages_delivered.increment();
                transfer::deliver(connection, stream, answer, limits, counters, &now);
            }
            None => counters.messages_dropped.increment(),
        }
        if connection.is_closed() {
            self.closed.push(token.slot);
            self.look_on(token, None, now);
        } else {
            self.blaming_handlers(|this| this.run_connection(token, Reads::None, false, now));
        }
    }

    fn wake(&mut self, id: ConnectionId, now: Moment) {
        self.request(id, now, Connection::wake);
    }

    fn dismiss(&mut self, id: ConnectionId, now: Moment) {
        self.request(id, now, Connection::dismiss);
    }

    fn request(
        &mut self,
        id: ConnectionId,
        now: Moment,
        make: impl for<'l> FnOnce(&mut Connection<S::Handler>, Lent<'l>) -> Answer<'l>,
    ) {
        match self.addressee(id) {
            Some(token) => {
                self.scratch.counters.messages_delivered.increment();
                self.call(token, now, make);
            }
            None => self.scratch.counters.messages_dropped.increment(),
        }
    }

    /// The connection that a message is for, if it still is open.
    fn addressee(&self, id: ConnectionId) -> Option<Token> {
        let slot = self.slots.get(id.slot as usize)?;
        let is_it = slot.named == id.generation
            && id.reactor == self.reactor
            && slot.place != Place::Connecting
            && !slot.connection.is_closed();
        is_it.then_some(Token { slot: id.slot, generation: slot.generation })
    }
}
