//! Accepting: who comes in, from the queue of a listener to a slot of the loop.

use std::io;
use std::panic::{self, AssertUnwindSafe};

use crate::connection::Connection;
use crate::counters::Share;
use crate::front::gate::Verdict;
use crate::front::readiness::{Place, Readiness, Slot, kept};
use crate::handler::{ConnectionId, Peer, PeerAddress, Service};
use crate::kernel::{Kernel, Token};
use crate::moment::Moment;
use crate::stop::Phase;
use crate::transfer::Reads;

impl<K: Kernel, S: Service, const INPUT: usize> Readiness<'_, K, S, INPUT> {
    pub(super) fn accept(&mut self, now: Moment) {
        if self.backoff.is_waiting() && now < self.backoff.until() {
            return;
        }
        for listener in 0..self.waiting.len() {
            for _ in 0..self.accepts {
                if !self.waiting[listener] || !self.accept_one(listener, now) {
                    break;
                }
            }
        }
    }

    /// Serves those who have just come: mostly they have spoken already, and need no event.
    ///
    /// Not each behind its own accept: who is answered at once may leave, come again and be accepted
    /// in the same turn, while those that it has left, which nobody looks at, count as open.
    pub(super) fn serve_fresh(&mut self, now: Moment) {
        let reads = if K::EDGE { Reads::UntilShort } else { Reads::Once };
        let mut fresh = std::mem::take(&mut self.fresh);
        self.run_each(&mut fresh.drain(..), |this, token| {
            this.run_connection(token, reads, false, now);
        });
        self.fresh = kept(fresh);
    }

    /// One accept. False when it is not to be tried again in this turn.
    pub(super) fn accept_one(&mut self, listener: usize, now: Moment) -> bool {
        let accepted = self.kernel.accept(listener);
        let counters = self.scratch.counters;
        match self.front.gate.judge(accepted, counters, now) {
            Verdict::Serve((stream, address)) => {
                self.can_accept();
                self.welcome(stream, address, listener, now);
            }
            Verdict::TooMany((stream, _)) => {
                self.can_accept();
                self.kernel.refuse(stream, self.scratch.input());
            }
            // A descriptor is had before the client is looked at.
            Verdict::Next => self.can_accept(),
            Verdict::Nobody => {
                self.can_accept();
                self.waiting[listener] = false;
            }
            Verdict::Exhausted => {
                if self.kernel.refuse_one(listener) {
                    counters.refused_descriptors.increment();
                }
                if !self.backoff.is_waiting() {
                    self.listen(false);
                    // From now on nothing is heard of any of them.
                    self.waiting.fill(true);
                }
                self.note_starved();
                self.backoff.fail(now);
                return false;
            }
        }
        true
    }

    /// Accepting works, or works again.
    pub(super) fn can_accept(&mut self) {
        if self.backoff.is_waiting() {
            self.backoff.succeed();
            self.listen(true);
        }
    }

    pub(super) fn listen(&mut self, interest: bool) {
        for listener in 0..self.waiting.len() {
            self.kernel.listen(listener, interest);
        }
    }

    pub(super) fn welcome(
        &mut self,
        stream: K::Stream,
        address: PeerAddress,
        listener: usize,
        now: Moment,
    ) {
        self.take_in(stream, Peer::new(address, listener), now);
    }

    /// Serves a client that the gate has let in.
    pub(super) fn adopt(&mut self, stream: K::Stream, mut peer: Peer, now: Moment) {
        let service = self.front.service;
        let token = self.next_token();
        peer.id = Some(self.id(token));
        let handler = panic::catch_unwind(AssertUnwindSafe(|| service.handler(&peer)));
        let handler = match handler {
            Ok(handler) => self.kernel.register(&stream, token).map(|()| handler),
            Err(_) => Err(io::Error::other("the service panicked")),
        };
        match handler {
            Ok(handler) => {
                self.insert(Connection::new(handler, now), stream, token);
                self.scratch.counters.opened.increment();
                if let Some(witness) = &mut self.witness {
                    // Not the turn's: on its track it lies within the accepting.
                    witness.opened(token.slot as usize, peer.address, self.kernel.now());
                }
                self.call(token, now, Connection::open);
                self.fresh.push(token);
                if self.seen >= Phase::Draining {
                    self.drain_connection(token, now);
                }
            }
            Err(error) => {
                self.forget(token);
                self.note_freed();
                self.scratch.counters.refused_other.increment();
                let problem = || format!("cannot serve {}: {error}", peer.address);
                self.front.gate.complain(now, problem);
                self.kernel.refuse(stream, self.scratch.input());
            }
        }
    }

    /// The token of the next connection to be inserted. Its service may name it to other threads,
    /// and those may speak to it, before it is: what they say is read only afterwards.
    pub(super) fn next_token(&mut self) -> Token {
        let slot = self.slots.vacant_key() as u32;
        let token = Token { slot, generation: self.next_generation() };
        if let Some(queue) = &self.inbox.queue {
            queue.note_open(self.id(token));
        }
        token
    }

    /// Never that of [`NOBODY`](super::NOBODY).
    pub(super) fn next_generation(&mut self) -> u32 {
        self.generation = (self.generation + 1) % u32::MAX;
        self.generation
    }

    /// The connection of `token` is gone, or will not be.
    pub(super) fn forget(&self, token: Token) {
        if let Some(queue) = &self.inbox.queue {
            queue.note_closed(token.slot as usize);
        }
    }

    pub(super) fn id(&self, token: Token) -> ConnectionId {
        let Token { slot, generation } = token;
        ConnectionId { reactor: self.reactor, slot, generation }
    }

    pub(super) fn insert(
        &mut self,
        connection: Connection<S::Handler>,
        stream: K::Stream,
        token: Token,
    ) {
        let generation = token.generation;
        self.slots.insert(Slot {
            connection,
            stream,
            generation,
            named: generation,
            place: Place::AtRest,
            reports_room: false,
            share: Share::default(),
        });
    }
}
