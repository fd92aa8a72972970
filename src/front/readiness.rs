//! The loop of the readiness models: wait, run the ready, accept, expire.
//!
//! One thread, very many connections. It is generic over its [`Kernel`], and is the same loop under
//! epoll, under poll(2) and in the simulation.
//!
//! Two things must be got right beside the obvious ones. First, an edge-triggered kernel tells of a
//! state once: whatever is left undone, because a budget was spent or a handler said `Again`, goes
//! on the *ready list*, and the loop then waits for no time at all. Second, slots are freed only
//! between batches, and a token carries a generation, so that no event, timer or message of a
//! connection that is gone can meet its successor.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use log::{debug, warn};
use slab::Slab;

use crate::connection::{Connection, Wants};
use crate::counters::{Counters, Share};
use crate::front::Front;
use crate::front::datagrams::Datagrams;
use crate::front::gate::Backoff;
use crate::handler::Service;
use crate::kernel::{Kernel, Ready, Token};
use crate::lent::{Answer, Lent};
use crate::limits::CloseReason;
use crate::local::Local;
use crate::mailbox::Queue;
use crate::moment::{Moment, Patience};
use crate::net::datagram::BoxedHandler;
use crate::stop::Phase;
use crate::timers::Timers;
use crate::transfer::{self, Budget, Progress, Reads, Scratch, Stream};
use crate::witness::{Part, Way, Witness};

mod admission;
mod crew;
mod ending;
mod messages;
mod outgoing;

pub(crate) use crew::Crew;
use crew::Role;
use messages::Inbox;
use outgoing::Attempt;

pub(crate) struct Readiness<'s, K: Kernel, S: Service, const INPUT: usize = 65536> {
    front: &'s Front<'s, S>,
    kernel: K,
    slots: Slab<Slot<K::Stream, S::Handler>>,
    /// Of the stream that was registered last.
    generation: u32,
    timers: Timers,
    /// Connections that can go on without an event; no token stands here twice.
    ready: Vec<Token>,
    /// The other list of the ready: one is gone through while the other fills. Empty between turns.
    spare: Vec<Token>,
    /// Connections that have been accepted in this turn.
    fresh: Vec<Token>,
    /// Connections that are over; their slots are freed after the batch.
    closed: Vec<u32>,
    scratch: Scratch<'s, INPUT>,
    /// Whether clients may wait at each listener. An edge-triggered kernel says so once.
    waiting: Vec<bool>,
    datagrams: Datagrams,
    /// While descriptors are exhausted.
    backoff: Backoff,
    /// What is asked of the loop, beside what its streams bring.
    inbox: Inbox<K::Stream, S::Handler>,
    /// Outgoing connections that are not there yet, by slot.
    attempts: HashMap<u32, Attempt>,
    /// Which of the server's reactors this is.
    reactor: u32,
    role: Role<'s, K::Stream>,
    /// The last phase that was acted upon, and when the drain ends.
    seen: Phase,
    drain_ends: Moment,
    /// Whose handler runs: it is to blame for a panic.
    running: Token,
    calls: u32,
    accepts: u32,
    /// Slots whose deadline is due; empty between turns, kept for its storage.
    due: Vec<usize>,
    /// Looks on, if anybody wants to know.
    witness: Option<Box<Witness>>,
}

/// A connection and where it is in the loop's lists. 56 bytes, its stream included, beside the handler.
struct Slot<S, H> {
    connection: Connection<H>,
    stream: S,
    /// Of the stream: what events and the ready list call it by.
    generation: u32,
    /// Of the connection: what its [`ConnectionId`](crate::ConnectionId) says. An outgoing one
    /// keeps it while it tries stream after stream.
    named: u32,
    place: Place,
    /// A send has found no room once: since then an edge-triggered kernel tells of it.
    reports_room: bool,
    /// What of it is in the thread's counts.
    share: Share,
}

/// From where a connection is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// When something happens to it.
    AtRest,
    /// From the ready list, and from nowhere else: whatever happens to it meanwhile, it does not
    /// get another budget before those who stand there with it. `hung_up`: an event said so.
    Listed { hung_up: bool },
    /// An outgoing one that is not there yet.
    Connecting,
}

const _: () = assert!(size_of::<Slot<crate::net::stream::SocketStream, ()>>() <= 56);

const NOBODY: Token = Token { slot: u32::MAX, generation: u32::MAX };

impl<'s, K: Kernel, S: Service, const INPUT: usize> Readiness<'s, K, S, INPUT> {
    /// Calls on one connection before it is another one's turn: at 64 KiB a receive, a fast peer
    /// gets a mebibyte in.
    const CALLS: u32 = 16;
    /// Accepts at one listener before the connections have their turn.
    const ACCEPTS: u32 = 64;
    pub(crate) fn new(front: &'s Front<'s, S>, kernel: K, counters: &'s Counters) -> Self {
        Self {
            waiting: vec![true; kernel.listeners()],
            kernel,
            slots: Slab::new(),
            generation: 0,
            timers: Timers::new(),
            ready: Vec::with_capacity(KEPT),
            spare: Vec::with_capacity(KEPT),
            fresh: Vec::with_capacity(KEPT),
            closed: Vec::with_capacity(KEPT),
            scratch: Scratch::new(&front.limits, counters),
            datagrams: Datagrams::new(Vec::new()),
            backoff: Backoff::new(),
            inbox: Inbox::new(),
            attempts: HashMap::new(),
            reactor: 0,
            role: Role::Alone,
            seen: Phase::Serving,
            drain_ends: Moment::NEVER,
            running: NOBODY,
            calls: Self::CALLS,
            accepts: Self::ACCEPTS,
            due: Vec::with_capacity(KEPT),
            witness: None,
            front,
        }
    }

    /// Reads the messages of other threads from `queue`, as reactor number `reactor`.
    pub(crate) fn with_queue(mut self, queue: Option<Arc<Queue<K::Stream>>>, reactor: u32) -> Self {
        self.inbox.queue = queue;
        self.reactor = reactor;
        self
    }

    /// Has the thread's track in a trace called `name`.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.witness = self.front.audience.witness(name);
        self
    }

    /// Other budgets than the usual ones: a simulation has few bytes and few clients, and would
    /// never spend them.
    #[cfg(feature = "sim")]
    pub(crate) fn budgets(mut self, calls: u32, accepts: u32) -> Self {
        (self.calls, self.accepts) = (calls, accepts);
        self
    }

    /// Who is served, for those who look at bounds between two turns.
    #[cfg(feature = "sim")]
    pub(crate) fn connections(
        &self,
    ) -> impl Iterator<Item = (&K::Stream, &Connection<S::Handler>)> {
        self.slots.iter().map(|(_, slot)| (&slot.stream, &slot.connection))
    }

    /// Does what the handlers ask for by `local`.
    pub(crate) fn with_local(mut self, local: Option<&Local<S::Handler>>) -> Self {
        self.inbox.local = local.cloned();
        self
    }

    /// Nothing is to be done until somebody asks for a turn.
    pub(crate) fn rest(&self) {
        self.scratch.counters.rest();
    }

    pub(crate) fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Closes at once whatever is open.
    pub(crate) fn cut_open(&mut self) {
        self.cut_all(Connection::stop);
    }

    /// Serves the kernel's UDP sockets too, with a handler for each.
    pub(crate) fn with_datagrams(mut self, handlers: Vec<BoxedHandler>) -> Self {
        self.datagrams = Datagrams::new(handlers);
        self
    }

    /// Serves until the server was stopped and every connection is over.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = self.kernel.events();
        loop {
            match self.turn(&mut events) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.cut_open();
                    return Err(error);
                }
            }
        }
    }

    /// One turn. False when there will be nothing more to do.
    pub(crate) fn turn(&mut self, events: &mut K::Events) -> io::Result<bool> {
        self.turn_until(events, Moment::NEVER)
    }

    /// One turn that waits no longer than `patience`.
    pub(crate) fn turn_within(
        &mut self,
        events: &mut K::Events,
        patience: Patience,
    ) -> io::Result<bool> {
        let until =
            if patience.is_forever() { Moment::NEVER } else { self.kernel.now() + patience };
        self.turn_until(events, until)
    }

    fn turn_until(&mut self, events: &mut K::Events, until: Moment) -> io::Result<bool> {
        let counters = self.scratch.counters;
        let began = self.witness.is_some().then(|| self.kernel.now());
        counters.rest();
        self.kernel.wait(events, self.deadline().min(until), self.seen)?;
        let now = self.kernel.now();
        counters.begin_turn(now);
        let came = self.run_ready(events, now, began);
        counters.came(came);
        self.scratch.trim();
        // A part that has nothing to do is not begun: with one message a turn, that is a fifth of
        // the turn's instructions.
        if self.inbox.is_read() {
            self.part(Part::Messages, |this| this.read_messages(now));
        }
        // Before accepting: what they held, descriptors above all, can be had again.
        self.free();
        if self.waiting.contains(&true) {
            self.part(Part::Accept, |this| this.accept(now));
        }
        if !self.fresh.is_empty() {
            self.serve_fresh(now);
        }
        if self.datagrams.due() <= now {
            self.part(Part::Datagrams, |this| {
                this.datagrams.serve(&this.kernel, this.scratch.counters, now);
            });
        }
        if self.timers.next() <= now {
            self.part(Part::Timers, |this| this.expire(now));
        }
        self.free();
        let goes_on = self.heed_stop(now);
        counters.slots.set(self.slots.capacity() as u64);
        counters.ready.set(self.ready.len() as u64);
        if cfg!(not(evmux_bare)) {
            counters.end_turn(now, self.kernel.now());
        }
        if let Some(began) = began {
            self.tell_turn(began);
        }
        Ok(goes_on)
    }

    /// Does a part of a turn, which the witness is told of.
    #[inline]
    fn part(&mut self, part: Part, run: impl FnOnce(&mut Self)) {
        if self.witness.is_none() {
            return run(self);
        }
        let (began, before) = (self.kernel.now(), part.count(self.scratch.counters));
        run(self);
        let (ended, after) = (self.kernel.now(), part.count(self.scratch.counters));
        if let Some(witness) = &mut self.witness {
            witness.did(part, after - before, (began, ended), self.scratch.counters);
        }
    }

    #[cold]
    fn tell_turn(&mut self, began: Moment) {
        let now = self.kernel.now();
        if let Some(witness) = &mut self.witness {
            witness.turned(began, now, self.scratch.counters);
        }
    }

    /// How long the next wait may take at most.
    pub(crate) fn deadline(&self) -> Moment {
        let clients_wait = !self.backoff.is_waiting() && self.waiting.contains(&true);
        if clients_wait || !self.ready.is_empty() || !self.inbox.may_sleep() {
            return Moment::START;
        }
        let datagrams = self.datagrams.due();
        self.timers.next().min(self.backoff.until()).min(self.drain_ends).min(datagrams)
    }

    // ── running connections ──────────────────────────────────────────────────────────────────

    /// Runs who has an event, and then who was not done in the last turn. How many events there
    /// were.
    fn run_ready(&mut self, events: &K::Events, now: Moment, began: Option<Moment>) -> u64 {
        let mut came = 0;
        let mut ready = K::ready(events);
        if let (Some(witness), Some(began)) = (&mut self.witness, began) {
            witness.waited(began, now, K::ready(events).count() as u64);
        }
        // One catch for the batch costs nothing; one for each call would cost more than all that
        // the loop adds to it.
        while self
            .blaming_handlers(|this| {
                for ready in ready.by_ref() {
                    came += 1;
                    this.run_event(ready, now);
                }
            })
            .is_none()
        {}
        if self.ready.is_empty() {
            return came;
        }
        let mut list = std::mem::replace(&mut self.ready, std::mem::take(&mut self.spare));
        self.run_each(&mut list.drain(..), |this, token| {
            let hung_up = this.take_from_list(token);
            this.run_connection(token, Reads::UntilWouldBlock, hung_up, now);
        });
        self.spare = kept(list);
        came
    }

    /// Goes through `tokens`; a handler that panics ends its connection, and the next one follows.
    fn run_each(
        &mut self,
        tokens: &mut impl Iterator<Item = Token>,
        run: impl Fn(&mut Self, Token),
    ) {
        while self
            .blaming_handlers(|this| tokens.by_ref().for_each(|token| run(this, token)))
            .is_none()
        {}
    }

    #[inline(always)]
    fn run_event(&mut self, ready: Ready, now: Moment) {
        match ready {
            Ready::Stream { token, receive, end, hung_up } => {
                let reads = match (receive || end, end) {
                    (false, _) => Reads::None,
                    _ if !K::EDGE => Reads::Once,
                    (_, true) => Reads::UntilWouldBlock,
                    (_, false) => Reads::UntilShort,
                };
                self.run_connection(token, reads, hung_up, now);
            }
            Ready::Listener(listener) => {
                if let Some(waiting) = self.waiting.get_mut(listener) {
                    *waiting = true;
                }
            }
            Ready::Datagrams(socket) => self.datagrams.have_come(socket),
        }
    }

    /// Runs the connection of `token`, if there still is one.
    #[inline(always)]
    fn run_connection(&mut self, token: Token, reads: Reads, hung_up: bool, now: Moment) {
        if self.witness.is_some() {
            self.run_watched(token, reads, hung_up, now);
        } else {
            self.run_unwatched(token, reads, hung_up, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn run_watched(&mut self, token: Token, reads: Reads, hung_up: bool, now: Moment) {
        let began = self.kernel.now();
        self.run_unwatched(token, reads, hung_up, now);
        self.look_on(token, Some(began), self.kernel.now());
    }

    /// Shows the witness the connection that has just run, or was called.
    #[inline]
    fn look_on(&mut self, token: Token, began: Option<Moment>, now: Moment) {
        let Some(witness) = &mut self.witness else { return };
        if let Some(slot) = self.slots.get(token.slot as usize)
            && slot.generation == token.generation
        {
            let (index, counters) = (token.slot as usize, self.scratch.counters);
            witness.ran(
                index,
                &slot.connection,
                counters,
                began.map(|began| (Way::Run, began)),
                now,
            );
        }
    }

    #[inline(always)]
    fn run_unwatched(&mut self, token: Token, reads: Reads, hung_up: bool, now: Moment) {
        let Some(slot) = self.slots.get_mut(token.slot as usize) else { return };
        if slot.generation != token.generation || slot.connection.is_closed() {
            return;
        }
        if slot.place != Place::AtRest {
            self.run_later(token, hung_up, now);
            return;
        }
        self.running = token;
        let budget = Budget { calls: self.calls, reads, edge: K::EDGE };
        let Slot { connection, stream, .. } = slot;
        let progress = transfer::run(connection, stream, &mut self.scratch, &now, budget);
        // Behind an edge that told of a hang-up, it is read until there is nothing: never quiet.
        if progress == Progress::Quiet && (K::EDGE || !hung_up) {
            debug_assert!(slot.share.is_none(), "what waited is still counted");
            self.timers.arm(token.slot as usize, connection.idle_deadline(self.scratch.limits));
            if !K::EDGE {
                self.kernel.interest(token, Wants { receive: true, ..Wants::default() });
            }
            return;
        }
        self.settle(token, progress, hung_up, now);
    }

    /// Something happened to one that is not run now: it has its turn from the ready list, or is not
    /// there yet.
    #[cold]
    fn run_later(&mut self, token: Token, hung_up: bool, now: Moment) {
        let slot = &mut self.slots[token.slot as usize];
        match &mut slot.place {
            Place::AtRest => {}
            Place::Listed { hung_up: told } => {
                *told |= hung_up;
                slot.share.update(&slot.connection, self.scratch.counters, now);
            }
            Place::Connecting => self.look_at_attempt(token, now),
        }
    }

    /// It is the turn of one on the ready list; whether it was said meanwhile that it hung up.
    fn take_from_list(&mut self, token: Token) -> bool {
        match self.slots.get_mut(token.slot as usize) {
            Some(slot) if slot.generation == token.generation => {
                let place = std::mem::replace(&mut slot.place, Place::AtRest);
                place == Place::Listed { hung_up: true }
            }
            _ => false,
        }
    }

    /// After a run that left something to wait for.
    #[cold]
    fn settle(&mut self, token: Token, progress: Progress, hung_up: bool, now: Moment) {
        let Some(slot) = self.slots.get_mut(token.slot as usize) else { return };
        slot.share.update(&slot.connection, self.scratch.counters, now);
        match progress {
            Progress::Quiet | Progress::Idle | Progress::Blocked => {
                let wants = slot.connection.wants();
                // A peer that is gone is found by the next call. A connection that is paused makes
                // none, and a level-triggered kernel would report the hang-up for ever.
                let paused = !wants.receive && !wants.send;
                if hung_up && paused && slot.stream.unread() == 0 {
                    slot.connection.failed(slot.stream.error());
                    self.closed.push(token.slot);
                    return;
                }
                let deadline = slot.connection.deadline(self.scratch.limits);
                self.timers.arm(token.slot as usize, deadline);
                if hung_up && paused {
                    // Who closed a Unix socket may have left bytes in it; they are still read.
                    self.kernel.mute(token);
                } else if !K::EDGE {
                    self.kernel.interest(token, wants);
                } else if wants.send && !slot.reports_room {
                    slot.reports_room = true;
                    if let Err(error) = self.kernel.report_room(&slot.stream, token) {
                        slot.connection.failed(error.kind());
                        self.closed.push(token.slot);
                    }
                }
            }
            Progress::Spent => {
                self.scratch.counters.spent_budgets.increment();
                // A peer that never lets it come to rest must not outlive its deadlines.
                let deadline = slot.connection.deadline(self.scratch.limits);
                self.timers.arm(token.slot as usize, deadline);
                slot.place = Place::Listed { hung_up: false };
                self.ready.push(token);
            }
            Progress::Closed => self.closed.push(token.slot),
        }
    }

    /// Makes one call that no byte asked for, sends what it answered, and goes on from there.
    fn call(
        &mut self,
        token: Token,
        now: Moment,
        make: impl for<'l> FnOnce(&mut Connection<S::Handler>, Lent<'l>) -> Answer<'l>,
    ) {
        // The events of a pause are gone, and this call may end it: a timer that closes, say.
        let is_paused = self.slots[token.slot as usize].connection.is_paused();
        let reads = if K::EDGE && is_paused { Reads::UntilWouldBlock } else { Reads::None };
        self.call_and_read(token, reads, now, make);
    }

    fn call_and_read(
        &mut self,
        token: Token,
        reads: Reads,
        now: Moment,
        make: impl for<'l> FnOnce(&mut Connection<S::Handler>, Lent<'l>) -> Answer<'l>,
    ) {
        self.blaming_handlers(|this| {
            this.running = token;
            let Slot { connection, stream, .. } = &mut this.slots[token.slot as usize];
            if connection.is_closed() {
                return;
            }
            let (limits, counters) = (this.scratch.limits, this.scratch.counters);
            let answer = make(connection, this.scratch.lend(now));
            transfer::deliver(connection, stream, answer, limits, counters, &now);
            if connection.is_closed() {
                this.closed.push(token.slot);
                this.look_on(token, None, now);
            } else {
                this.run_connection(token, reads, false, now);
            }
        });
    }

    /// Runs `run`; if a handler panics in it, that ends its connection, and `None` is returned.
    fn blaming_handlers<R>(&mut self, run: impl FnOnce(&mut Self) -> R) -> Option<R> {
        match panic::catch_unwind(AssertUnwindSafe(|| run(&mut *self))) {
            Ok(done) => Some(done),
            Err(payload) => {
                self.panicked(payload);
                None
            }
        }
    }

    #[cold]
    fn panicked(&mut self, payload: Box<dyn Any + Send>) {
        let token = std::mem::replace(&mut self.running, NOBODY);
        match self.slots.get_mut(token.slot as usize) {
            Some(slot) if slot.generation == token.generation => {
                if !slot.connection.is_closed() {
                    slot.connection.panicked();
                    self.closed.push(token.slot);
                    // What it moved before is its own, and not the next one's.
                    self.look_on(token, None, self.kernel.now());
                }
            }
            // Nobody's handler ran: the fault is ours, and must not be hidden.
            _ => panic::resume_unwind(payload),
        }
    }

    /// Frees the slots of connections that are over.
    #[inline(always)]
    fn free(&mut self) {
        if !self.closed.is_empty() {
            self.free_closed();
        }
    }

    fn free_closed(&mut self) {
        while let Some(index) = self.closed.pop() {
            let mut slot = self.slots.remove(index as usize);
            let token = Token { slot: index, generation: slot.generation };
            let is_connecting = slot.place == Place::Connecting;
            if is_connecting {
                self.attempts.remove(&index);
            }
            let reason = slot.connection.close_reason();
            let cut = reason.is_some_and(|reason| reason.is_cut());
            if let Some(CloseReason::Refused(violation)) = &reason {
                let peer = slot.stream.peer();
                self.front.tell_of_refusal(peer, violation, self.kernel.now());
            }
            self.kernel.release(slot.stream, token, cut);
            self.forget(token);
            if !is_connecting && let Some(reason) = reason {
                if !slot.share.is_none() {
                    let now = self.kernel.now();
                    slot.share.update(&slot.connection, self.scratch.counters, now);
                }
                self.scratch.counters.close(&reason);
                if let Some(witness) = &mut self.witness {
                    witness.closed(index as usize, reason.label(), self.kernel.now());
                }
                debug!("connection {index} closed: {reason}");
            }
            if panic::catch_unwind(AssertUnwindSafe(|| slot.connection.close())).is_err() {
                warn!("a handler panicked when it was told that its connection is over");
            }
            self.note_freed();
        }
        self.closed = kept(std::mem::take(&mut self.closed));
    }

    // ── deadlines ─────────────────────────────────────────────────────────────────────

    fn expire(&mut self, now: Moment) {
        self.scratch.counters.late(self.timers.next(), now);
        // Those that are due now, and not what they arm: a timer of zero would never end.
        let mut due = std::mem::take(&mut self.due);
        while let Some(slot) = self.timers.expired(now) {
            due.push(slot);
        }
        for index in due.drain(..) {
            let Some(slot) = self.slots.get(index) else { continue };
            if slot.connection.is_closed() {
                continue;
            }
            let token = Token { slot: index as u32, generation: slot.generation };
            if slot.place == Place::Connecting {
                self.look_at_attempt(token, now);
                continue;
            }
            let deadline = slot.connection.deadline(self.scratch.limits);
            if deadline > now {
                // It had moved on since it was armed.
                self.timers.arm(index, deadline);
                continue;
            }
            let queued = slot.stream.queued();
            self.scratch.counters.timers.increment();
            self.call(token, now, |connection, lent| {
                connection.queued(queued, lent.now);
                connection.expire(lent)
            });
        }
        self.due = kept(due);
    }
}

/// So many places each list of the loop keeps when it is empty, from the beginning on: what a burst
/// needed is given back whole.
const KEPT: usize = 256;

fn kept<T>(list: Vec<T>) -> Vec<T> {
    if list.capacity() > KEPT { Vec::with_capacity(KEPT) } else { list }
}

#[cfg(test)]
mod tests;
