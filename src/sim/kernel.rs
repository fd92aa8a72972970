//! The third kernel: its waiting is a step of a virtual clock, its sockets are counts.
//!
//! It is as strict as the contract of [`Kernel`] allows. Edge-triggered, it tells of a state when
//! that begins and never again: bytes that arrive, an end, a reset, a window that opens after a
//! send took less than it was given, a client at the listener. Level-triggered, it tells for as
//! long as interest says so, and of a hang-up unasked.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::connection::Wants;
use crate::handler::PeerAddress;
use crate::kernel::{Kernel, Ready, Token};
use crate::local::Target;
use crate::moment::{Moment, Patience};
use crate::stop::Phase;
use crate::transfer::Stream;

use super::Fault;
use super::wire::{End, Standing, Wire};
use super::world::World;

pub(super) struct SimKernel<const EDGE: bool>(pub(super) Rc<RefCell<World>>);

/// The server's end of a simulated connection.
pub(super) struct SimStream {
    world: Rc<RefCell<World>>,
    client: usize,
}

impl SimStream {
    pub(super) fn client(&self) -> usize {
        self.client
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        if world.wires[self.client].held {
            let client = self.client;
            world.fail(|| format!("the stream of client {client} was dropped, not released"));
        }
    }
}

/// More turns than this without a byte, an accept, a close or a sleep: the loop spins.
const MOST_TURNS_IN_VAIN: u32 = 1000;
/// So many sleeps in which nothing came of it, and nobody who is about to do something: the world
/// is quiet, though a loop that has no descriptors may try again for ever.
const SLEEPS_UNTIL_QUIET: u32 = 64;

fn error<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

impl<const EDGE: bool> Kernel for SimKernel<EDGE> {
    type Stream = SimStream;
    type Events = Vec<Ready>;

    const EDGE: bool = EDGE;

    fn events(&self) -> Vec<Ready> {
        Vec::new()
    }

    fn now(&self) -> Moment {
        self.0.borrow().now
    }

    fn wait(&mut self, events: &mut Vec<Ready>, until: Moment, seen: Phase) -> io::Result<()> {
        events.clear();
        let mut world = self.0.borrow_mut();
        world.turns += 1;
        world.turns_in_vain += 1;
        if world.turns_in_vain > MOST_TURNS_IN_VAIN {
            world.fail(|| format!("the loop spins: {MOST_TURNS_IN_VAIN} turns without progress"));
        }
        loop {
            if !world.tick() {
                return error(libc::EIO);
            }
            world.catch_up();
            world.collect(events);
            if !events.is_empty() || until <= world.now || world.stop.phase() > seen {
                return Ok(());
            }
            if world.strikes(Fault::Interrupts, 32) {
                return Ok(());
            }
            if world.sleep(until)? {
                return Ok(());
            }
        }
    }

    fn ready(events: &Vec<Ready>) -> impl Iterator<Item = Ready> {
        events.iter().copied()
    }

    fn listeners(&self) -> usize {
        self.0.borrow().listeners.len()
    }

    fn accept(&mut self, listener: usize) -> io::Result<(SimStream, PeerAddress)> {
        let client = self.0.borrow_mut().accept(listener)?;
        Ok((SimStream { world: self.0.clone(), client }, Wire::address(client)))
    }

    /// Nobody listens in this world: whom its servers call cannot be reached.
    fn connect(&mut self, _: &Target, _: Option<SocketAddr>) -> io::Result<SimStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn listen(&mut self, listener: usize, interest: bool) {
        self.0.borrow_mut().listeners[listener].interest = interest;
    }

    fn refuse_one(&mut self, listener: usize) -> bool {
        self.0.borrow_mut().refuse_one(listener)
    }

    fn close_listeners(&mut self) {
        self.0.borrow_mut().close_listeners();
    }

    fn register(&mut self, stream: &SimStream, token: Token) -> io::Result<()> {
        self.0.borrow_mut().register(stream.client, token)
    }

    fn interest(&mut self, token: Token, wants: Wants) {
        let mut world = self.0.borrow_mut();
        world.tick();
        if let Some(client) = world.owner(token) {
            world.wires[client].interest = wants;
        }
    }

    fn release(&mut self, stream: SimStream, token: Token, cut: bool) {
        self.0.borrow_mut().release(stream.client, token, cut);
    }

    fn refuse(&mut self, stream: SimStream, _: &mut [u8]) {
        self.0.borrow_mut().refuse(stream.client);
    }
}

impl Stream for SimStream {
    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.world.borrow_mut().receive(self.client, bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.world.borrow_mut().send(self.client, bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.world.borrow_mut().finish_stream(self.client)
    }

    fn unread(&self) -> usize {
        self.world.borrow().wires[self.client].unread()
    }

    fn error(&self) -> io::ErrorKind {
        let mut world = self.world.borrow_mut();
        let wire = &mut world.wires[self.client];
        wire.error_told = true;
        let number = wire.broken.unwrap_or(libc::ECONNRESET);
        io::Error::from_raw_os_error(number).kind()
    }

    fn is_connected(&self) -> io::Result<bool> {
        Ok(true)
    }
}

impl World {
    // ── waiting ──────────────────────────────────────────────────────────────────────────────

    /// What this wait returns.
    fn collect(&mut self, events: &mut Vec<Ready>) {
        let now = self.now;
        if self.strikes(Fault::SpuriousEvents, 4) {
            self.invent(events);
        }
        if !self.is_edge() {
            self.collect_states(events);
        }
        let mut later = Vec::new();
        let mut due = Vec::new();
        for (at, event) in self.events.drain(..) {
            if at <= now { due.push(event) } else { later.push((at, event)) }
        }
        if self.options.merging {
            self.merge(&mut due);
        }
        events.append(&mut due);
        if self.has(Fault::Disorder) {
            self.draw.shuffle(events);
            self.split(events);
        }
        // The next wait brings what does not fit; a level-triggered one finds it by itself.
        let most = self.options.batch;
        if events.len() > most {
            let rest = events.split_off(most);
            if self.is_edge() {
                later.extend(rest.into_iter().map(|event| (now, event)));
            }
        }
        self.events = later;
        if self.trace.is_some() && !events.is_empty() {
            let told = format!("events {events:?}");
            self.note(|| told);
        }
    }

    /// Level-triggered: everything that is so, and is of interest.
    fn collect_states(&mut self, events: &mut Vec<Ready>) {
        if self.listening {
            for (index, listener) in self.listeners.iter().enumerate() {
                if listener.interest && !listener.backlog.is_empty() {
                    events.push(Ready::Listener(index));
                }
            }
        }
        for wire in self.wires.iter().filter(|wire| wire.held) {
            let Some(token) = wire.token else { continue };
            let hung_up = wire.is_hung_up();
            let receive = hung_up || (wire.interest.receive && wire.is_readable());
            let send = wire.interest.send && wire.is_writable();
            if receive || send {
                events.push(Ready::Stream { token, receive, end: false, hung_up });
            }
        }
        if events.len() > 1 && self.strikes(Fault::LateEvents, 4) {
            let kept = self.draw.between(0..=events.len() - 1);
            events.swap(0, kept);
            events.truncate(1);
        }
    }

    /// An event for nothing, of a connection that lives.
    fn invent(&mut self, events: &mut Vec<Ready>) {
        let live: Vec<Token> = self.wires.iter().filter_map(|wire| wire.token).collect();
        if !live.is_empty() {
            let token = *self.draw.pick(&live);
            let (receive, end) = (self.draw.one_in(2), self.draw.one_in(2));
            let end = end && self.is_edge();
            events.push(Ready::Stream { token, receive, end, hung_up: false });
        }
    }

    /// A stream that is in the list of the ready more than once is told of once, as it is now.
    fn merge(&mut self, events: &mut Vec<Ready>) {
        let mut told: Vec<Token> = Vec::new();
        events.retain_mut(|event| {
            let Ready::Stream { token, .. } = *event else { return true };
            if told.contains(&token) {
                return false;
            }
            told.push(token);
            let owner = self.slots.get(token.slot as usize).copied().flatten();
            if let Some(client) = owner
                && self.wires[client].token == Some(token)
            {
                *event = self.wires[client].state(token);
            }
            true
        });
    }

    /// One event may come as two.
    fn split(&mut self, events: &mut Vec<Ready>) {
        let mut seconds = Vec::new();
        for event in events.iter_mut() {
            if let Ready::Stream { token, receive: true, end: end @ true, hung_up } = event
                && self.draw.one_in(4)
            {
                let (token, hung_up) = (*token, *hung_up);
                seconds.push(Ready::Stream { token, receive: false, end: true, hung_up });
                *end = false;
            }
        }
        events.append(&mut seconds);
    }

    /// Lets the time pass until something can happen. True when the wait is to return without an
    /// event.
    fn sleep(&mut self, until: Moment) -> io::Result<bool> {
        let told = self.events.iter().map(|(at, _)| *at).min().unwrap_or(Moment::NEVER);
        let next = self.next_action().min(told);
        self.sleeps_in_vain += 1;
        let is_quiet = next.is_never()
            && (until.is_never() || self.sleeps_in_vain > SLEEPS_UNTIL_QUIET)
            && self.stop.phase() == Phase::Serving;
        if is_quiet {
            self.look_for_somebody_forgotten();
            self.drain();
            return if self.failure.is_none() { Ok(true) } else { error(libc::EIO) };
        }
        if next.min(until).is_never() {
            self.fail(|| "the loop waits for ever, though it was stopped".into());
            return error(libc::EIO);
        }
        self.turns_in_vain = 0;
        let target = next.min(until);
        let millisecond = Duration::from_millis(1);
        if target == until && self.strikes(Fault::EarlyReturns, 2) {
            let left = until.since(self.now).saturating_sub(millisecond);
            self.now = self.now + Patience::new(left);
            // Who returned early once must not do so again without end.
            return Ok(!left.is_zero() || self.draw.one_in(2));
        }
        self.now = self.now.max(target);
        if self.strikes(Fault::Jumps, 16) {
            let most = self.options.longest_jump.as_micros() as usize;
            let jump = Duration::from_micros(self.draw.between(0..=most) as u64);
            self.note(|| format!("the clock jumps by {jump:?}"));
            self.now = self.now + Patience::new(jump);
        }
        Ok(false)
    }

    // ── accepting ────────────────────────────────────────────────────────────────────────────

    fn accept(&mut self, listener: usize) -> io::Result<usize> {
        if !self.tick() {
            return error(libc::EAGAIN);
        }
        if !self.listening {
            self.fail(|| "it accepts at a closed listener".into());
            return error(libc::EBADF);
        }
        if self.strikes(Fault::Interrupts, 16) {
            return error(libc::EINTR);
        }
        if self.strikes(Fault::Exhaustion, 8) {
            let length = [0, 1_000, 10_000_000][self.draw.between(0..=2)];
            self.exhausted_until = self.now + Patience::new(Duration::from_micros(length));
        }
        // The kernel takes a descriptor first, and only then looks who waits.
        self.exhausted = self.held >= self.options.descriptors || self.now <= self.exhausted_until;
        if self.exhausted {
            let errors = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
            let number = *self.draw.pick(&errors);
            self.note(|| format!("accept at listener {listener}: error {number}"));
            return error(number);
        }
        let Some(client) = self.listeners[listener].backlog.pop_front() else {
            return error(libc::EAGAIN);
        };
        self.progress();
        if self.strikes(Fault::AcceptErrors, 8) {
            let errors = [libc::ECONNABORTED, libc::EPROTO, libc::EPERM, libc::ENETDOWN];
            let number = *self.draw.pick(&errors);
            self.note(|| format!("accept of client {client}: error {number}"));
            self.wires[client].spoil("it went before it was accepted");
            self.wires[client].ended.get_or_insert(End::Left);
            return error(number);
        }
        self.note(|| format!("client {client} is accepted"));
        self.held += 1;
        let now = self.now;
        let wire = &mut self.wires[client];
        wire.standing = Standing::Accepted;
        wire.held = true;
        wire.last_received = now;
        Ok(client)
    }

    fn refuse_one(&mut self, listener: usize) -> bool {
        if !self.tick() {
            return false;
        }
        if !self.exhausted {
            self.fail(|| "it gave up the spare descriptor though accepting works".into());
        }
        // Now and then another thread has taken the spare one.
        if self.strikes(Fault::Exhaustion, 4) {
            return false;
        }
        let Some(client) = self.listeners[listener].backlog.pop_front() else { return false };
        self.note(|| format!("client {client} is refused, for want of a descriptor"));
        self.progress();
        let now = self.now;
        let wire = &mut self.wires[client];
        wire.standing = Standing::Refused;
        wire.close(now, false, 0);
        self.plan_read(client);
        self.plan_write(client);
        true
    }

    fn refuse(&mut self, client: usize) {
        self.tick();
        self.note(|| format!("client {client} is refused"));
        let served = self.held - 1;
        let most = self.options.max_connections;
        if !self.wires[client].unregistrable && served < most {
            self.fail(|| format!("client {client} is refused with {served} of {most} open"));
        }
        let wire = &mut self.wires[client];
        wire.standing = Standing::Refused;
        // What had come is thrown away, so that closing sends our end and not a reset.
        wire.received = wire.said;
        self.close(client, false);
    }

    fn close_listeners(&mut self) {
        self.tick();
        self.note(|| "the listeners are closed".into());
        self.listening = false;
        let draining = self.stop.phase() == Phase::Draining;
        for listener in 0..self.listeners.len() {
            for client in std::mem::take(&mut self.listeners[listener].backlog) {
                if draining && !self.exhausted && self.wires[client].promised.is_some() {
                    self.fail(|| format!("client {client} waited, and the drain left it there"));
                }
                let wire = &mut self.wires[client];
                wire.standing = Standing::Refused;
                wire.reset_client(0);
                self.plan_read(client);
            }
        }
    }

    // ── streams ──────────────────────────────────────────────────────────────────────────────

    fn register(&mut self, client: usize, token: Token) -> io::Result<()> {
        if !self.tick() {
            return error(libc::EIO);
        }
        if self.strikes(Fault::FailedRegistration, 8) {
            self.note(|| format!("client {client} cannot be registered"));
            self.wires[client].unregistrable = true;
            return error(*self.draw.pick(&[libc::ENOMEM, libc::ENOSPC]));
        }
        let slot = token.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, None);
        }
        if let Some(other) = self.slots[slot].replace(client) {
            self.fail(|| format!("slot {slot} was given to client {other} already"));
        }
        self.note(|| format!("client {client} is {token:?}"));
        let wire = &mut self.wires[client];
        wire.token = Some(token);
        wire.interest = Wants { receive: true, ..Wants::default() };
        // Registering reports what is there already.
        if wire.is_readable() {
            let end = wire.client_finished || wire.broken.is_some() || wire.mark.is_some();
            self.stream_event(client, true, end);
        }
        Ok(())
    }

    fn release(&mut self, client: usize, token: Token, cut: bool) {
        self.tick();
        self.note(|| format!("client {client} is released, cut: {cut}"));
        if self.owner(token) != Some(client) {
            self.fail(|| format!("client {client} is released as {token:?}"));
        }
        if !cut {
            self.look_at_orderly_close(client);
        }
        self.close(client, cut);
    }

    /// A close in order comes after the client's end or a break; or after ours, when the client
    /// was waited for long enough.
    fn look_at_orderly_close(&mut self, client: usize) {
        let limits = &self.options.limits;
        let wire = &self.wires[client];
        if wire.end_received || wire.broken.is_some() {
            return;
        }
        let drained = self.drained_at.map(|at| at + self.options.drain_timeout.into());
        let lingered = wire.server_finished.is_some_and(|finished| {
            let silent = finished.max(wire.last_received) + limits.linger_silence;
            let until = silent.min(finished + limits.linger);
            let now = self.now + Patience::new(Self::A_TURN);
            until <= now || drained.is_some_and(|until| until <= now)
        });
        if lingered {
            self.wires[client].spoil("it was waited for, and did not finish");
        } else {
            self.fail(|| format!("client {client} was closed before it had finished"));
        }
    }

    fn receive(&mut self, client: usize, bytes: &mut [u8]) -> io::Result<usize> {
        if !self.tick() {
            return error(libc::EIO);
        }
        if bytes.is_empty() {
            self.fail(|| "it receives into nothing".into());
        }
        if self.strikes(Fault::Interrupts, 16) {
            return error(libc::EINTR);
        }
        let now = self.now;
        let wire = &mut self.wires[client];
        let unread = wire.unread();
        if unread == 0 {
            if let Some(number) = wire.broken
                && !std::mem::replace(&mut wire.error_told, true)
            {
                return error(number);
            }
            if wire.client_finished || wire.broken.is_some() {
                if !wire.end_received {
                    wire.end_received = true;
                    wire.last_received = now;
                    self.progress();
                    self.note(|| format!("receive from client {client}: the end"));
                }
                return Ok(0);
            }
            self.note(|| format!("receive from client {client}: nothing"));
            return error(libc::EAGAIN);
        }
        if wire.mark.is_some_and(|mark| mark <= wire.received) {
            wire.mark = None;
        }
        let mut count = unread.min(bytes.len());
        let mut told_again = false;
        if let Some(mark) = wire.mark
            && mark <= wire.received + count
        {
            count = mark - wire.received;
            wire.mark = None;
        } else if count > 1 && self.strikes(Fault::ShortReads, 4) {
            count = self.draw.between(1..=count - 1);
            told_again = true;
        }
        let wire = &mut self.wires[client];
        let from = wire.received;
        bytes[..count].copy_from_slice(&wire.client.script.said()[from..from + count]);
        wire.received += count;
        wire.last_received = now;
        let wanted_room = std::mem::take(&mut wire.wants_room);
        self.note(|| format!("receive from client {client}: {count} of {unread} bytes"));
        self.progress();
        if told_again {
            let wire = &self.wires[client];
            let end = wire.client_finished || wire.mark.is_some();
            self.stream_event(client, true, end);
        }
        if wanted_room {
            self.plan_write(client);
        }
        Ok(count)
    }

    fn send(&mut self, client: usize, bytes: &[u8]) -> io::Result<usize> {
        if !self.tick() {
            return error(libc::EIO);
        }
        if bytes.is_empty() || self.wires[client].server_finished.is_some() {
            let count = bytes.len();
            self.fail(|| format!("client {client} is sent {count} bytes after our end"));
        }
        if self.strikes(Fault::Interrupts, 16) {
            self.note(|| format!("send to client {client}: interrupted"));
            return error(libc::EINTR);
        }
        if self.strikes(Fault::Breaks, 200) {
            self.wires[client].spoil("the kernel had no buffer for it");
            return error(libc::ENOBUFS);
        }
        let wire = &mut self.wires[client];
        if let Some(number) = wire.broken {
            let told = std::mem::replace(&mut wire.error_told, true);
            return error(if told { libc::EPIPE } else { number });
        }
        let mut count = bytes.len().min(wire.room_for_answers());
        if count > 0 && self.strikes(Fault::ShortWrites, 4) {
            count = self.draw.between(0..=count - 1);
            self.wires[client].shut = true;
            self.plan_window(client);
        }
        let wire = &mut self.wires[client];
        wire.starved |= count < bytes.len();
        let room = bytes.len();
        let right = wire.client.script.answered()[wire.answered..].get(..count);
        if right != Some(&bytes[..count]) {
            let (at, sent) = (wire.answered, bytes[..count].escape_ascii().to_string());
            let right = &wire.client.script.answered()[at..];
            let right = right[..count.min(right.len())].escape_ascii().to_string();
            self.fail(|| {
                format!(
                    "client {client} is sent \"{sent}\" at byte {at}, and was to get \"{right}\""
                )
            });
            return error(libc::EIO);
        }
        wire.answered += count;
        self.note(|| format!("send to client {client}: {count} of {room} bytes"));
        if count == 0 {
            return error(libc::EAGAIN);
        }
        self.progress();
        self.plan_read(client);
        Ok(count)
    }

    fn finish_stream(&mut self, client: usize) -> io::Result<()> {
        if !self.tick() {
            return error(libc::EIO);
        }
        let now = self.now;
        let wire = &mut self.wires[client];
        if wire.broken.is_some() {
            return error(libc::ENOTCONN);
        }
        if wire.server_finished.replace(now).is_some() {
            self.fail(|| format!("client {client} is finished twice"));
        }
        self.note(|| format!("our end for client {client}"));
        self.progress();
        self.plan_read(client);
        // With both ends told, the kernel reports a hang-up.
        if self.wires[client].client_finished {
            self.stream_event(client, true, true);
        }
        Ok(())
    }

    /// Nothing will happen any more: no client may be left in the middle.
    fn look_for_somebody_forgotten(&mut self) {
        let send_buffer = self.options.limits.high;
        for client in 0..self.wires.len() {
            let wire = &self.wires[client];
            if wire.is_active() && wire.is_well(send_buffer) {
                let (said, read) = (wire.said, wire.read);
                let standing = wire.standing;
                self.fail(|| {
                    format!(
                        "client {client} waits for ever: {standing:?}, it said {said} bytes and \
                         has {read}"
                    )
                });
            }
        }
    }
}
