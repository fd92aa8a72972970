//! The simulated world behind the kernel: a clock, an agenda of what the clients are about to do,
//! the listeners, and the events that the loop has not been told of.
//!
//! Everything happens either while the loop waits or, in worlds with races, between two of its
//! calls. Whatever is found wrong is kept in `failure`; from then on every call fails, so that a
//! loop that has lost its way comes to an end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::kernel::{Ready, Token};
use crate::moment::{Moment, Patience};
use crate::stop::{Phase, Stop};

use super::client::Client;
use super::datagrams::Datagrams;
use super::failing::Failures;
use super::fairness::Fairness;
use super::messages::Messages;
use super::options::{Options, Trigger};
use super::scarcity::Reservations;
use super::wire::{Standing, Wire};
use super::{Draw, Fault};

pub(super) struct World {
    pub(super) draw: Draw,
    pub(super) options: Options,
    pub(super) stop: Stop,
    pub(super) now: Moment,
    /// Calls that the loop made of the kernel.
    pub(super) calls: u64,
    pub(super) turns: u64,
    pub(super) wires: Vec<Wire>,
    pub(super) listeners: Vec<Listener>,
    pub(super) listening: bool,
    /// Which client's stream each slot of the loop holds.
    pub(super) slots: Vec<Option<usize>>,
    /// Streams that the loop holds.
    pub(super) held: usize,
    /// The last accept found no descriptor or no memory; and until when it will go on so.
    pub(super) exhausted: bool,
    pub(super) exhausted_until: Moment,
    /// Events that wait to be told, and when they may be.
    pub(super) events: Vec<(Moment, Ready)>,
    agenda: BinaryHeap<Reverse<(Moment, u64, Action)>>,
    planned: u64,
    /// Turns, and waits that slept, since a byte moved, a client was accepted or one was closed;
    /// waits also since a client did anything.
    pub(super) turns_in_vain: u32,
    pub(super) sleeps_in_vain: u32,
    pub(super) partial_sends: u64,
    pub(super) drained_at: Option<Moment>,
    /// How often the loop has slept; it does so only when nobody can go on. And how often it had
    /// when it closed its listeners.
    pub(super) sleeps: u64,
    pub(super) sleeps_until_drain: Option<u64>,
    pub(super) messages: Option<Messages>,
    pub(super) datagrams: Option<Datagrams>,
    /// Who is to be called, and the addresses of each who may be.
    pub(super) to_call: Vec<usize>,
    pub(super) addresses: BTreeMap<usize, Vec<usize>>,
    /// Storage that was asked for, if some is refused; and connections that were cut for it.
    pub(super) reservations: Option<Arc<Reservations>>,
    pub(super) cut_for_memory: u64,
    /// How long the machine slept at once, at most.
    pub(super) longest_leap: Duration,
    pub(super) failures: Failures,
    pub(super) fairness: Fairness,
    pub(super) failure: Option<String>,
    /// The last things that happened, if they are to be told.
    pub(super) trace: Option<VecDeque<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Listener {
    pub(super) backlog: VecDeque<usize>,
    /// A level-triggered kernel is to report who waits.
    pub(super) interest: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Connect(usize),
    Write(usize),
    Read(usize),
    OpenWindow(usize),
    Break(usize),
    Establish(usize),
    Arrive(usize),
    Post(usize),
}

impl World {
    /// The loop takes the time once a turn, and between its calls time passes.
    pub(super) const A_TURN: Duration = Duration::from_millis(20);
    /// A loop that makes so many calls in one world has lost its way.
    const MOST_CALLS: u64 = 3_000_000;
    /// Things that a trace remembers.
    const TRACE: usize = 60;

    pub(super) fn new(
        mut draw: Draw,
        options: Options,
        clients: Vec<Client>,
        stop: Stop,
        messages: Option<Messages>,
        traced: bool,
    ) -> Self {
        let listeners = options.listeners;
        let mut world = Self {
            stop,
            now: Moment::from_nanos(1_000_000_000),
            calls: 0,
            turns: 0,
            wires: Vec::new(),
            listeners: (0..listeners)
                .map(|_| Listener { interest: true, ..Default::default() })
                .collect(),
            listening: true,
            slots: Vec::new(),
            held: 0,
            exhausted: false,
            exhausted_until: Moment::START,
            events: Vec::new(),
            agenda: BinaryHeap::new(),
            planned: 0,
            turns_in_vain: 0,
            sleeps_in_vain: 0,
            partial_sends: 0,
            drained_at: None,
            sleeps: 0,
            sleeps_until_drain: None,
            messages,
            datagrams: None,
            to_call: Vec::new(),
            addresses: BTreeMap::new(),
            reservations: None,
            cut_for_memory: 0,
            longest_leap: Duration::ZERO,
            failures: Failures::default(),
            fairness: Fairness::default(),
            failure: None,
            trace: traced.then(VecDeque::new),
            draw: draw.branch(),
            options,
        };
        for (index, client) in clients.into_iter().enumerate() {
            let begins = client.begins;
            world.wires.push(Wire::new(client, draw.between(0..=listeners - 1)));
            world.plan(begins, Action::Connect(index));
            if world.has(Fault::Breaks) && draw.one_in(4) {
                let after = Duration::from_micros(draw.between(0..=20_000) as u64);
                world.plan(begins + after, Action::Break(index));
            }
        }
        world.plan_messages();
        world.plan_calls();
        world.plan_datagrams();
        world
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.ever_has(fault) && !self.is_calm()
    }

    /// Whether a fault that this world has happens now: once in `times`.
    pub(super) fn strikes(&mut self, fault: Fault, times: u64) -> bool {
        self.has(fault) && self.draw.one_in(times)
    }

    pub(super) fn is_edge(&self) -> bool {
        self.options.trigger == Trigger::Edge
    }

    /// Something is wrong; what is found first is told.
    pub(super) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(what());
        }
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == Self::TRACE {
                trace.pop_front();
            }
            trace.push_back(format!("{:?}: {}", self.now, what()));
        }
    }

    /// A byte moved or was consumed, a client was accepted, a connection was closed.
    pub(super) fn progress(&mut self) {
        self.turns_in_vain = 0;
        self.sleeps_in_vain = 0;
    }

    /// The loop makes a call. False when it must fail, because the simulation has.
    pub(super) fn tick(&mut self) -> bool {
        self.calls += 1;
        if self.calls > Self::MOST_CALLS {
            self.fail(|| "the loop makes calls without end".into());
        }
        let (drain_at, stop_at) = (self.options.drain_at, self.options.stop_at);
        if drain_at == Some(self.calls) {
            self.drain();
        }
        if stop_at == Some(self.calls) {
            self.note(|| "stop at once".into());
            self.stop.now();
        }
        if self.options.calm_from == Some(self.calls)
            && let Some(reservations) = &self.reservations
        {
            reservations.end();
        }
        if self.has(Fault::Races) && self.draw.one_in(2) {
            let passed = self.draw.between(0..=20_000) as u64;
            self.now = self.now + Patience::new(Duration::from_nanos(passed));
            self.catch_up();
        }
        self.failure.is_none()
    }

    /// Asks the server to drain. What has come until now must be answered.
    pub(super) fn drain(&mut self) {
        if self.stop.phase() > Phase::Serving {
            return;
        }
        self.note(|| "drain".into());
        self.drained_at = Some(self.now);
        for wire in &mut self.wires {
            if matches!(wire.standing, Standing::InBacklog | Standing::Accepted) {
                wire.promised = Some(wire.client.script.owed(wire.said));
            }
        }
        self.promise_datagrams();
        self.stop.drain();
    }

    /// Does all that is due, and only that.
    pub(super) fn catch_up(&mut self) {
        while let Some(Reverse((at, _, action))) = self.agenda.peek().copied()
            && at <= self.now
        {
            self.agenda.pop();
            self.act(action);
        }
    }

    /// When the next client does something.
    pub(super) fn next_action(&self) -> Moment {
        self.agenda.peek().map_or(Moment::NEVER, |Reverse((at, ..))| *at)
    }

    /// The server is gone: the clients find out.
    pub(super) fn finish(&mut self) {
        let mut left = 1_000_000u32;
        while let Some(Reverse((at, _, action))) = self.agenda.pop() {
            self.now = self.now.max(at);
            self.act(action);
            left -= 1;
            if left == 0 {
                return self.fail(|| "the clients never come to an end".into());
            }
        }
    }

    pub(super) fn plan(&mut self, after: Duration, action: Action) {
        self.planned += 1;
        self.agenda.push(Reverse((self.now + after.into(), self.planned, action)));
    }

    fn act(&mut self, action: Action) {
        self.sleeps_in_vain = 0;
        match action {
            Action::Connect(client) => self.connect(client),
            Action::Establish(client) => self.establish(client),
            Action::Arrive(number) => self.arrive(number),
            Action::Post(client) => self.post(client),
            Action::Write(client) => self.write(client),
            Action::Read(client) => self.read(client),
            Action::OpenWindow(client) => {
                self.wires[client].shut = false;
                self.note(|| format!("the window of client {client} opens"));
                self.room_was_made(client);
            }
            Action::Break(client) => {
                let errors = [
                    libc::ECONNRESET,
                    libc::ETIMEDOUT,
                    libc::EHOSTUNREACH,
                    libc::ENETDOWN,
                    libc::EIO,
                ];
                let error = *self.draw.pick(&errors);
                let wire = &mut self.wires[client];
                if wire.is_active() {
                    wire.spoil("its network broke");
                    self.break_off(client, error);
                }
            }
        }
    }

    // ── what the loop will be told ───────────────────────────────────────────────────────────

    /// An edge-triggered kernel has something to tell; it may take its time.
    pub(super) fn push_event(&mut self, ready: Ready) {
        if !self.is_edge() {
            return;
        }
        let mut at = self.now;
        if self.strikes(Fault::LateEvents, 8) {
            let late = [10, 1_000, 1_000_000][self.draw.between(0..=2)];
            at = at + Patience::new(Duration::from_micros(late));
        }
        self.events.push((at, ready));
    }

    pub(super) fn stream_event(&mut self, client: usize, receive: bool, end: bool) {
        let wire = &self.wires[client];
        let hung_up = wire.is_hung_up();
        let is_deaf = wire.call.as_ref().is_some_and(|call| call.is_deaf);
        if let Some(token) = wire.token.filter(|_| !is_deaf) {
            self.push_event(Ready::Stream { token, receive, end: end || hung_up, hung_up });
        }
    }

    /// Who had less room than it wanted is told once there is enough.
    pub(super) fn room_was_made(&mut self, client: usize) {
        let wire = &mut self.wires[client];
        if wire.reports_room && wire.starved && wire.is_writable() {
            wire.starved = false;
            self.stream_event(client, false, false);
        }
    }

    // ── streams of the loop ──────────────────────────────────────────────────────────────────

    /// The client whose stream is registered under `token`.
    pub(super) fn owner(&mut self, token: Token) -> Option<usize> {
        let client = self.slots.get(token.slot as usize).copied().flatten();
        match client {
            Some(client) if self.wires[client].token == Some(token) => Some(client),
            _ => {
                self.fail(|| format!("{token:?} is not registered"));
                None
            }
        }
    }

    /// The loop lets go of a stream.
    pub(super) fn close(&mut self, client: usize, cut: bool) {
        self.note_gone(client);
        if let Some(token) = self.wires[client].token {
            self.slots[token.slot as usize] = None;
            if self.strikes(Fault::StaleEvents, 2) {
                let late = [0, 0, 10, 1_000, 100_000][self.draw.between(0..=4)];
                let at = self.now + Patience::new(Duration::from_micros(late));
                let stale = Ready::Stream { token, receive: true, end: true, hung_up: true };
                self.events.push((at, stale));
            }
        }
        self.held -= 1;
        let lost = self.wires[client].unread_answers();
        let arrived = self.draw.between(0..=lost);
        let now = self.now;
        self.wires[client].close(now, cut, arrived);
        self.progress();
        self.plan_read(client);
        self.plan_write(client);
    }
}
