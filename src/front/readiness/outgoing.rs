//! Connections that a handler asked for: connect(2) without waiting, address after address.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};

use crate::connection::{Connection, Wants};
use crate::front::readiness::{Place, Readiness};
use crate::handler::{Handler, Peer, PeerAddress, Service};
use crate::kernel::{Kernel, Token};
use crate::limits::CloseReason;
use crate::local::{Outgoing, Target};
use crate::moment::{Moment, Patience};
use crate::stop::Phase;
use crate::transfer::{Reads, Stream};

/// A connection that is not there yet.
pub(super) struct Attempt {
    /// Those that were not tried.
    targets: VecDeque<Target>,
    source: Option<SocketAddr>,
    /// When this target's share of the time ends, and when all of it does.
    pub(super) until: Moment,
    ends: Moment,
    /// Of the target that is being tried.
    address: PeerAddress,
}

impl<K: Kernel, S: Service, const INPUT: usize> Readiness<'_, K, S, INPUT> {
    /// Begins to open a connection.
    pub(super) fn connect(&mut self, outgoing: Outgoing<S::Handler>, now: Moment) {
        let Outgoing { mut targets, options, make } = outgoing;
        let named = self.next_token();
        let address = targets.front().map_or(PeerAddress::Unix, address_of);
        let peer = Peer { id: Some(self.id(named)), ..Peer::new(address, Peer::OUTGOING) };
        let Ok(handler) = panic::catch_unwind(AssertUnwindSafe(|| make(&peer))) else {
            self.forget(named);
            self.front.gate.complain(now, || format!("no handler for {address}: it panicked"));
            return;
        };
        targets.retain(|target| can_be_reached_from(target, options.source));
        let ends = now + Patience::new(options.timeout);
        let source = options.source;
        let mut attempt = Attempt { targets, source, until: now, ends, address };
        let begun = loop {
            let begun = self.begin(&mut attempt, io::ErrorKind::AddrNotAvailable.into(), now);
            let token = self.next_attempt(named);
            match begun.and_then(|stream| {
                listen_to(&mut self.kernel, &stream, token).map(|()| (stream, token))
            }) {
                Err(_) if !attempt.targets.is_empty() => {}
                begun => break begun,
            }
        };
        match begun {
            Ok((stream, token)) => {
                self.front.gate.enter();
                self.insert(Connection::new(handler, now), stream, named);
                let slot = &mut self.slots[token.slot as usize];
                slot.generation = token.generation;
                (slot.place, slot.reports_room) = (Place::Connecting, K::EDGE);
                self.await_attempt(attempt, token);
            }
            Err(error) => {
                self.forget(named);
                let mut handler = handler;
                let reason = CloseReason::Unreachable(error.kind());
                let _ = panic::catch_unwind(AssertUnwindSafe(move || handler.closed(&reason)));
            }
        }
    }

    /// Starts connecting to the next target that does not fail at once. If all do, that is what
    /// the last one said; `last` when there is none.
    fn begin(
        &mut self,
        attempt: &mut Attempt,
        mut last: io::Error,
        now: Moment,
    ) -> io::Result<K::Stream> {
        while let Some(target) = attempt.targets.pop_front() {
            if now >= attempt.ends {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.kernel.connect(&target, attempt.source) {
                Ok(stream) => {
                    attempt.address = address_of(&target);
                    // What is left of the time is shared evenly by those that are left.
                    let left = attempt.ends.since(now) / (attempt.targets.len() as u32 + 1);
                    attempt.until = now + Patience::new(left);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The token of the next stream for the connection of `token`: what is still said of the last
    /// one must not be taken for its.
    fn next_attempt(&mut self, token: Token) -> Token {
        Token { generation: self.next_generation(), ..token }
    }

    fn await_attempt(&mut self, attempt: Attempt, token: Token) {
        self.kernel.interest(token, Wants { send: true, ..Wants::default() });
        self.timers.arm(token.slot as usize, attempt.until);
        self.attempts.insert(token.slot, attempt);
    }

    /// Something happened to a stream that is being connected, or its time is over.
    #[cold]
    pub(super) fn look_at_attempt(&mut self, token: Token, now: Moment) {
        let slot = &mut self.slots[token.slot as usize];
        let Some(attempt) = self.attempts.get(&token.slot) else { return };
        let mut failure = match slot.stream.is_connected() {
            Ok(true) => {
                slot.place = Place::AtRest;
                slot.connection.connected(now);
                self.scratch.counters.opened.increment();
                if let Some(witness) = &mut self.witness {
                    witness.opened(token.slot as usize, attempt.address, now);
                }
                self.attempts.remove(&token.slot);
                self.kernel.interest(token, Wants { receive: true, ..Wants::default() });
                // The event may have told of more than that the connection is there.
                self.call_and_read(token, Reads::UntilWouldBlock, now, Connection::open);
                if self.seen >= Phase::Draining {
                    self.drain_connection(token, now);
                }
                return;
            }
            Ok(false) if now < attempt.until => {
                self.timers.arm(token.slot as usize, attempt.until);
                return;
            }
            Ok(false) => io::Error::from(io::ErrorKind::TimedOut),
            Err(error) => error,
        };
        let Some(mut attempt) = self.attempts.remove(&token.slot) else { return };
        let mut token = token;
        loop {
            match self.begin(&mut attempt, failure, now) {
                Ok(stream) => {
                    let next = self.next_attempt(token);
                    let slot = &mut self.slots[token.slot as usize];
                    slot.generation = next.generation;
                    let old = std::mem::replace(&mut slot.stream, stream);
                    self.kernel.release(old, token, false);
                    token = next;
                    let stream = &self.slots[token.slot as usize].stream;
                    match listen_to(&mut self.kernel, stream, token) {
                        Ok(()) => return self.await_attempt(attempt, token),
                        // Nothing would be heard of it, and not even when it had connected.
                        Err(error) => failure = error,
                    }
                }
                Err(error) => {
                    let slot = &mut self.slots[token.slot as usize];
                    slot.connection.unreachable(error.kind());
                    self.closed.push(token.slot);
                    return;
                }
            }
        }
    }
}

/// Has the kernel tell of a stream, room to send included: that is how it says that it is there.
fn listen_to<K: Kernel>(kernel: &mut K, stream: &K::Stream, token: Token) -> io::Result<()> {
    kernel.register(stream, token)?;
    if K::EDGE { kernel.report_room(stream, token) } else { Ok(()) }
}

fn address_of(target: &Target) -> PeerAddress {
    match target {
        Target::Inet(address) => PeerAddress::from(*address),
        Target::Unix(_) => PeerAddress::Unix,
    }
}

/// Whether the families of both fit.
fn can_be_reached_from(target: &Target, source: Option<SocketAddr>) -> bool {
    match (target, source) {
        (Target::Inet(target), Some(source)) => target.is_ipv4() == source.is_ipv4(),
        _ => true,
    }
}
