//! The end of the loop: the drain, and the cut of what a drain leaves open.

use log::warn;

use crate::connection::Connection;
use crate::front::readiness::{Place, Readiness};
use crate::handler::Service;
use crate::kernel::{Kernel, Token};
use crate::moment::{Moment, Patience};
use crate::stop::Phase;
use crate::transfer::{Reads, Stream};

impl<K: Kernel, S: Service, const INPUT: usize> Readiness<'_, K, S, INPUT> {
    /// Rounds of accepting when the drain begins; clients that come faster for ever are not waited
    /// for.
    const LAST_ACCEPTS: u32 = 1024;

    /// Looks whether the server is to end. False when it has.
    pub(super) fn heed_stop(&mut self, now: Moment) -> bool {
        let phase = self.front.stop.phase();
        if phase > self.seen {
            self.seen = phase;
            match phase {
                Phase::Serving => {}
                Phase::Draining => self.drain(now),
                Phase::Stopped => {
                    self.kernel.close_listeners();
                    self.datagrams.close(&mut self.kernel, self.scratch.counters, true);
                    self.cut_all(Connection::stop);
                }
            }
        }
        if self.seen == Phase::Serving {
            return true;
        }
        if now >= self.drain_ends && !self.slots.is_empty() {
            let open = self.slots.len();
            self.cut_all(Connection::drain_timeout);
            warn!("drain timeout: {open} connections were still open and are cut");
        }
        !self.slots.is_empty() || self.may_be_handed_clients()
    }

    /// Accepts everybody who waits, closes the listeners, and reads each connection once more: a
    /// request that came before the drain is answered.
    pub(super) fn drain(&mut self, now: Moment) {
        self.drain_ends = now + Patience::new(self.front.drain_timeout);
        self.waiting.fill(true);
        // That descriptors had run out is no reason not to try: some may be free by now.
        self.can_accept();
        for _ in 0..Self::LAST_ACCEPTS {
            self.accept(now);
            self.free();
            if self.backoff.is_waiting() || !self.waiting.contains(&true) {
                break;
            }
        }
        // Whom there is no descriptor for is told so by a FIN, not by the reset of a listener
        // that closes.
        for listener in 0..self.waiting.len() {
            for _ in 0..Self::LAST_ACCEPTS {
                if !self.waiting[listener] || !self.kernel.refuse_one(listener) {
                    break;
                }
                self.scratch.counters.refused_descriptors.increment();
            }
        }
        self.kernel.close_listeners();
        self.datagrams.close(&mut self.kernel, self.scratch.counters, false);
        self.waiting.clear();
        self.backoff.succeed();
        let tokens: Vec<_> = self
            .slots
            .iter()
            .map(|(slot, entry)| Token { slot: slot as u32, generation: entry.generation })
            .collect();
        for token in tokens {
            self.drain_connection(token, now);
        }
        self.free();
    }

    pub(super) fn drain_connection(&mut self, token: Token, now: Moment) {
        let slot = &mut self.slots[token.slot as usize];
        if slot.connection.is_closed() {
            return;
        }
        if slot.place == Place::Connecting {
            // It has nothing to finish.
            slot.connection.stop();
            self.closed.push(token.slot);
            return;
        }
        let unread = slot.stream.unread();
        self.call(token, now, |connection, lent| connection.drain(unread, lent));
        self.blaming_handlers(|this| {
            this.run_connection(token, Reads::UntilWouldBlock, false, now);
        });
    }

    pub(super) fn cut_all(&mut self, cut: impl Fn(&mut Connection<S::Handler>)) {
        self.free();
        for (index, slot) in &mut self.slots {
            cut(&mut slot.connection);
            self.closed.push(index as u32);
        }
        self.free();
    }
}
