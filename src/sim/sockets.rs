//! The simulated calls on listeners and streams.

use std::io;
use std::time::Duration;

use crate::connection::Wants;
use crate::kernel::Token;
use crate::moment::Patience;
use crate::stop::Phase;

use super::failing;
use super::wire::Standing;
use super::{Fault, world::World};

pub(super) fn error<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

impl World {
    // ── accepting ────────────────────────────────────────────────────────────────────────────

    pub(super) fn accept(&mut self, listener: usize) -> io::Result<usize> {
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
        match self.fails("accept", failing::ACCEPT) {
            Some(libc::EINTR) => return error(libc::EINTR),
            Some(number) => {
                self.exhausted = true;
                return error(number);
            }
            None => {}
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
            self.lose_in_backlog(client, number);
            return error(number);
        }
        if let Some(number) = self.fails("accept", failing::ACCEPTED) {
            self.lose_in_backlog(client, number);
            return error(number);
        }
        self.note(|| format!("client {client} is accepted"));
        self.held += 1;
        let now = self.now;
        let wire = &mut self.wires[client];
        wire.standing = Standing::Accepted;
        wire.held = true;
        (wire.last_received, wire.last_sent) = (now, now);
        Ok(client)
    }

    pub(super) fn refuse_one(&mut self, listener: usize) -> bool {
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
        if self.fails("refuse_one", failing::REFUSE_ONE).is_some() {
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

    pub(super) fn refuse(&mut self, client: usize) {
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

    pub(super) fn close_listeners(&mut self) {
        self.tick();
        self.note(|| "the listeners are closed".into());
        self.listening = false;
        self.sleeps_until_drain = Some(self.sleeps);
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

    pub(super) fn register(&mut self, client: usize, token: Token) -> io::Result<()> {
        if !self.tick() {
            return error(libc::EIO);
        }
        let slot = token.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, None);
        }
        if self.wires[client].call.is_some() {
            return self.register_call(client, token);
        }
        if self.strikes(Fault::FailedRegistration, 8) {
            self.note(|| format!("client {client} cannot be registered"));
            self.wires[client].unregistrable = true;
            return error(*self.draw.pick(&[libc::ENOMEM, libc::ENOSPC]));
        }
        if let Some(number) = self.fails("register", failing::REGISTER) {
            self.wires[client].unregistrable = true;
            return error(number);
        }
        self.give_slot(client, token);
        let (served, most) = (self.slots.iter().flatten().count(), self.options.max_connections);
        if served > most {
            self.fail(|| format!("client {client} is served as one of {served}, over {most}"));
        }
        self.report_state(client);
        Ok(())
    }

    /// That of a stream that is being connected. Level-triggered it is a place in an array, and
    /// cannot fail.
    fn register_call(&mut self, client: usize, token: Token) -> io::Result<()> {
        let mut failure = None;
        if self.is_edge() {
            if self.strikes(Fault::FailedRegistration, 8) {
                failure = Some(*self.draw.pick(&[libc::ENOMEM, libc::ENOSPC]));
            } else {
                failure = self.fails("register", failing::REGISTER);
            }
        }
        self.give_slot(client, token);
        if let Some(number) = failure {
            self.note(|| format!("the stream of {client} cannot be registered"));
            if let Some(call) = &mut self.wires[client].call {
                call.is_deaf = true;
            }
            return error(number);
        }
        self.report_state(client);
        Ok(())
    }

    fn give_slot(&mut self, client: usize, token: Token) {
        let slot = token.slot as usize;
        if let Some(other) = self.slots[slot].replace(client) {
            self.fail(|| format!("slot {slot} was given to client {other} already"));
        }
        self.note(|| format!("client {client} is {token:?}"));
        let wire = &mut self.wires[client];
        wire.token = Some(token);
        wire.interest = Wants { receive: true, ..Wants::default() };
    }

    /// Registering reports what is there already.
    fn report_state(&mut self, client: usize) {
        let wire = &self.wires[client];
        if wire.is_readable() {
            let end = wire.client_finished || wire.broken.is_some() || wire.mark.is_some();
            self.stream_event(client, true, end);
        }
    }

    pub(super) fn report_room(&mut self, client: usize, token: Token) -> io::Result<()> {
        if !self.tick() {
            return error(libc::EIO);
        }
        if self.owner(token) != Some(client) || self.wires[client].reports_room {
            self.fail(|| format!("client {client} is asked for room as {token:?}, or twice"));
        }
        if let Some(number) = self.room_is_not_reported() {
            let standing = self.wires[client].standing;
            match &mut self.wires[client].call {
                Some(call) if standing != Standing::Accepted => call.is_deaf = true,
                _ => self.fail_stream(client, number),
            }
            return error(number);
        }
        self.note(|| format!("room of client {client} is reported from now on"));
        self.wires[client].reports_room = true;
        // Room that was made before is not forgotten: the beginning is what there is.
        if self.wires[client].is_writable() {
            self.wires[client].starved = false;
            self.stream_event(client, false, false);
        }
        Ok(())
    }

    fn room_is_not_reported(&mut self) -> Option<i32> {
        if self.strikes(Fault::FailedRegistration, 16) {
            return Some(libc::ENOMEM);
        }
        self.fails("report_room", failing::REPORT_ROOM)
    }

    pub(super) fn release(&mut self, client: usize, token: Token, cut: bool) {
        self.tick();
        self.note(|| format!("client {client} is released, cut: {cut}"));
        if self.owner(token) != Some(client) {
            self.fail(|| format!("client {client} is released as {token:?}"));
        }
        if !self.gives_up(client) && !cut {
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

    pub(super) fn receive(&mut self, client: usize, bytes: &mut [u8]) -> io::Result<usize> {
        self.look_at_standing(client);
        self.serves_by_receiving(client);
        if !self.tick() {
            return error(libc::EIO);
        }
        if bytes.is_empty() {
            self.fail(|| "it receives into nothing".into());
        }
        if self.strikes(Fault::Interrupts, 16) {
            return error(libc::EINTR);
        }
        // A kernel that says how much there is does not say that there is nothing.
        let failing = match self.stop.phase() {
            Phase::Serving => failing::RECEIVE,
            _ => (&[][..], failing::RECEIVE.1),
        };
        if let Some(number) = self.fails("receive", failing) {
            self.fail_receive(client, number);
            return error(number);
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

    pub(super) fn send(&mut self, client: usize, bytes: &[u8]) -> io::Result<usize> {
        self.look_at_standing(client);
        self.serves(client);
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
        if let Some(number) = self.fails("send", failing::SEND) {
            self.fail_send(client, number);
            return error(number);
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
        self.partial_sends += u64::from(0 < count && count < bytes.len());
        let wire = &mut self.wires[client];
        wire.starved |= count < bytes.len();
        let room = bytes.len();
        wire.take_in_marks(&bytes[..count]);
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
        if count > 0 {
            wire.last_sent = self.now;
        }
        self.note(|| format!("send to client {client}: {count} of {room} bytes"));
        if count == 0 {
            return error(libc::EAGAIN);
        }
        self.progress();
        self.plan_read(client);
        Ok(count)
    }

    fn look_at_standing(&mut self, client: usize) {
        let standing = self.wires[client].standing;
        if standing != Standing::Accepted {
            self.fail(|| format!("a call on the stream of client {client}, which is {standing:?}"));
        }
    }

    pub(super) fn finish_stream(&mut self, client: usize) -> io::Result<()> {
        self.serves(client);
        if !self.tick() {
            return error(libc::EIO);
        }
        let now = self.now;
        if let Some(number) = self.fails("finish", failing::FINISH) {
            self.fail_stream(client, number);
            return error(number);
        }
        let wire = &mut self.wires[client];
        if wire.broken.is_some() {
            return error(libc::ENOTCONN);
        }
        if wire.server_finished.replace(now).is_some() {
            self.fail(|| format!("client {client} is finished twice"));
        }
        let wire = &mut self.wires[client];
        wire.moved_before_our_end = Some(wire.last_received.max(wire.last_sent));
        self.note(|| format!("our end for client {client}"));
        self.progress();
        self.plan_read(client);
        // With both ends told, the kernel reports a hang-up.
        if self.wires[client].client_finished {
            self.stream_event(client, true, true);
        }
        Ok(())
    }
}
