//! What the clients do: each plays its script in its manner, step by step, and plans its next one.

use std::time::Duration;

use crate::kernel::Ready;

use super::Fault;
use super::client::{Close, Leaving, Reading, Writing};
use super::wire::{End, Standing};
use super::world::{Action, World};

impl World {
    fn pause(&mut self, client: usize, reading: bool) -> Duration {
        let wire = &self.wires[client];
        let most = match (reading, wire.client.reading, wire.client.writing) {
            (true, Reading::Slow, _) => 50_000,
            (true, Reading::Seldom, _) => 25_000_000,
            (false, _, Writing::Seldom) => 100_000_000,
            _ => self.options.latency.as_micros() as usize,
        };
        Duration::from_micros(self.draw.between(0..=most) as u64)
    }

    pub(super) fn plan_write(&mut self, client: usize) {
        if !self.wires[client].write_planned {
            self.wires[client].write_planned = true;
            let after = self.pause(client, false);
            self.plan(after, Action::Write(client));
        }
    }

    pub(super) fn plan_read(&mut self, client: usize) {
        let wire = &self.wires[client];
        if !wire.read_planned && wire.client.reading != Reading::Never {
            self.wires[client].read_planned = true;
            let after = self.pause(client, true);
            self.plan(after, Action::Read(client));
        }
    }

    pub(super) fn plan_window(&mut self, client: usize) {
        let after = self.draw.between(0..=5_000) as u64;
        self.plan(Duration::from_micros(after), Action::OpenWindow(client));
    }

    pub(super) fn connect(&mut self, client: usize) {
        if self.wires[client].call.is_some() {
            return self.call(client);
        }
        let listener = self.wires[client].listener;
        self.note(|| format!("client {client} connects to listener {listener}"));
        if !self.listening {
            self.wires[client].standing = Standing::Refused;
            self.wires[client].ended = Some(End::Left);
            return;
        }
        self.wires[client].standing = Standing::InBacklog;
        self.listeners[listener].backlog.push_back(client);
        self.push_event(Ready::Listener(listener));
        self.plan_write(client);
    }

    pub(super) fn write(&mut self, client: usize) {
        self.wires[client].write_planned = false;
        let wire = &self.wires[client];
        if !wire.is_active() || wire.client_finished || self.leave(client) {
            return;
        }
        let wire = &self.wires[client];
        let script = &wire.client.script;
        let whole = script.said().len();
        if wire.quits || wire.said == whole {
            let served = wire.read >= script.owed(whole) && script.close() == Close::ByClient;
            let finishes = wire.quits
                || wire.reset_at.is_some()
                || wire.client.leaving != Leaving::FinishLast
                || served
                || wire.server_finished.is_some() && wire.unread_answers() == 0;
            // Nothing is promised to one that leaves badly; it stays until it has.
            let stays = matches!(wire.client.leaving, Leaving::Reset(_) | Leaving::Vanish(_));
            if finishes && (!stays || wire.quits) {
                self.finish_client(client);
            }
            if self.wires[client].client.reading == Reading::Afterwards {
                self.plan_read(client);
            }
            return;
        }
        if wire.closed {
            // Bytes for a socket that is gone are answered with a reset.
            let lost = wire.unread_answers();
            let arrived = self.draw.between(0..=lost);
            self.wires[client].reset_client(arrived);
            self.plan_read(client);
            return;
        }
        let mut most = whole - wire.said;
        if wire.client.writing == Writing::LockStep {
            if wire.read < script.owed(wire.said) {
                return;
            }
            most = script.end_of_message(wire.said) - wire.said;
        }
        if wire.room_for_said() == 0 {
            self.wires[client].wants_room = true;
            return;
        }
        let most = most.min(wire.room_for_said());
        let count = match wire.client.writing {
            Writing::Firehose | Writing::LockStep => most,
            Writing::Pieces | Writing::Seldom => self.draw.between(1..=most.min(9)),
            Writing::Trickle => 1,
        };
        self.say(client, count);
        self.plan_write(client);
    }

    fn say(&mut self, client: usize, count: usize) {
        let now = self.now;
        let urgent = self.strikes(Fault::Urgent, 8);
        let mark = self.wires[client].said + self.draw.between(0..=count);
        let wire = &mut self.wires[client];
        if urgent && wire.mark.is_none() {
            wire.mark = Some(mark);
        }
        wire.said += count;
        wire.last_said = now;
        let marked = wire.mark.is_some();
        self.note(|| format!("client {client} says {count} bytes"));
        self.stream_event(client, true, marked);
    }

    fn finish_client(&mut self, client: usize) {
        self.note(|| format!("client {client} finishes"));
        self.wires[client].client_finished = true;
        self.stream_event(client, true, true);
        if self.wires[client].server_finished.is_some() {
            self.plan_read(client);
        }
    }

    pub(super) fn read(&mut self, client: usize) {
        self.wires[client].read_planned = false;
        let wire = &self.wires[client];
        if !wire.is_active() || self.leave(client) {
            return;
        }
        let wire = &self.wires[client];
        let everything_said = wire.said == wire.client.script.said().len() || wire.quits;
        let must_write = wire.client.reading == Reading::Afterwards && !everything_said;
        if must_write && !(wire.closed || wire.reset_at.is_some()) {
            return;
        }
        let there = wire.unread_answers();
        if there > 0 {
            let count = match wire.client.reading {
                Reading::Slow => self.draw.between(1..=there.min(8)),
                Reading::Seldom => there.div_ceil(2),
                _ => there,
            };
            let wire = &mut self.wires[client];
            wire.read += count;
            self.note(|| format!("client {client} reads {count} bytes"));
            self.progress();
            self.room_was_made(client);
            self.plan_write(client);
            self.plan_read(client);
        } else if wire.reset_at.is_some() {
            self.note(|| format!("client {client} was reset"));
            self.wires[client].ended = Some(End::Reset);
        } else if wire.server_finished.is_some() {
            if wire.client_finished {
                self.note(|| format!("client {client} has it all"));
                self.wires[client].ended = Some(End::Whole);
            } else {
                // It goes now, or says the rest to one who does not listen any more.
                let quits = everything_said || self.draw.one_in(2);
                self.wires[client].quits |= quits;
                self.plan_write(client);
            }
        }
    }

    /// The client leaves badly, if it is to do so at this byte.
    fn leave(&mut self, client: usize) -> bool {
        match self.wires[client].leaves_now() {
            Some(Leaving::Reset(_)) => self.break_off(client, libc::ECONNRESET),
            Some(_) => {
                self.note(|| format!("client {client} vanishes"));
                self.wires[client].vanished = true;
            }
            None => return false,
        }
        true
    }

    /// The connection is gone, for both sides. What the server had not received may be lost.
    pub(super) fn break_off(&mut self, client: usize, error: i32) {
        self.note(|| format!("client {client} breaks off with error {error}"));
        let purged = self.draw.one_in(2);
        let wire = &mut self.wires[client];
        wire.broken = Some(error);
        wire.purged = purged;
        wire.ended = Some(End::Left);
        self.stream_event(client, true, true);
    }
}
