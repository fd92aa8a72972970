//! What a simulated wait returns, and how long it sleeps.

use std::io;
use std::time::Duration;

use crate::kernel::{Ready, Token};
use crate::moment::{Moment, Patience};
use crate::stop::Phase;

use super::Fault;
use super::failing;
use super::sockets::error;
use super::wire::Standing;
use super::world::World;

/// More turns than this without a byte, an accept, a close or a sleep: the loop spins.
const MOST_TURNS_IN_VAIN: u32 = 1000;
/// So many sleeps in which nothing came of it, and nobody who is about to do something: the world
/// is quiet, though a loop that has no descriptors may try again for ever.
const SLEEPS_UNTIL_QUIET: u32 = 64;

impl World {
    /// As [`Kernel::wait`](crate::kernel::Kernel::wait).
    pub(super) fn wait(
        &mut self,
        events: &mut Vec<Ready>,
        until: Moment,
        seen: Phase,
    ) -> io::Result<()> {
        events.clear();
        self.look_at_budgets();
        self.note_told(&[]);
        self.begin_turn_of_datagrams();
        self.turns += 1;
        self.turns_in_vain += 1;
        if self.turns_in_vain > MOST_TURNS_IN_VAIN {
            self.fail(|| format!("the loop spins: {MOST_TURNS_IN_VAIN} turns without progress"));
        }
        match self.fails("wait", failing::WAIT) {
            Some(libc::EINTR) => return Ok(()),
            Some(number) => {
                self.failures.fatal = true;
                return error(number);
            }
            None => {}
        }
        loop {
            if !self.tick() {
                return error(libc::EIO);
            }
            self.catch_up();
            self.collect(events);
            let is_awaited = until <= self.now || self.stop.phase() > seen || self.is_asked();
            if !events.is_empty() || is_awaited {
                // Of changes there are only so many, and one by one they take as many turns.
                if self.is_edge() && !events.is_empty() {
                    self.turns_in_vain = self.turns_in_vain.saturating_sub(1);
                }
                self.note_told(events);
                return Ok(());
            }
            if self.strikes(Fault::Interrupts, 32) {
                return Ok(());
            }
            if self.sleep(until)? {
                return Ok(());
            }
        }
    }

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
        events.extend(self.readable_sockets());
        for wire in self.wires.iter().filter(|wire| wire.held && !wire.muted) {
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
            self.look_for_forgotten_datagrams();
            self.drain();
            return if self.failure.is_none() { Ok(true) } else { error(libc::EIO) };
        }
        if next.min(until).is_never() {
            self.fail(|| "the loop waits for ever, though it was stopped".into());
            return error(libc::EIO);
        }
        if !self.is_edge() {
            self.look_at_interests();
        }
        self.turns_in_vain = 0;
        self.sleeps += 1;
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
        if self.strikes(Fault::Leaps, 32) {
            let leap = Duration::from_secs(self.draw.between(60..=4 * 3600) as u64);
            self.note(|| format!("the machine sleeps for {leap:?}"));
            self.now = self.now + Patience::new(leap);
            self.longest_leap = self.longest_leap.max(leap);
        }
        Ok(false)
    }

    /// Nothing will happen any more: no client may be left in the middle.
    fn look_for_somebody_forgotten(&mut self) {
        let send_buffer = self.options.limits.high;
        for client in 0..self.wires.len() {
            let wire = &self.wires[client];
            let is_kept_out = wire.standing == Standing::InBacklog && self.accepts_nobody();
            if wire.is_active() && wire.is_well(send_buffer) && !is_kept_out {
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
