//! Connections that the server makes: clients that are called, instead of calling it.
//!
//! Who is called has a few addresses, and only one of them is its own. The others refuse, at once or
//! after a while, or are never heard of; so does its own in some worlds. Each is a wire, so that each
//! attempt has its own stream; those that lead nowhere have a client that says nothing.
//!
//! An attempt has its share of the time, and not less; somebody who could be reached is not called
//! unreachable; and whatever comes of it, one handler is told of one end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::handler::PeerAddress;
use crate::limits::CloseReason;
use crate::local::Target;
use crate::moment::{Moment, Patience};
use crate::stop::Phase;

use super::client::{Client, Script};
use super::sockets::error;
use super::wire::{End, Standing, Wire};
use super::world::{Action, World};
use super::{Draw, Fault, failing};

/// One address of somebody who is called.
#[derive(Clone, Debug)]
pub(super) struct Call {
    fate: Fate,
    /// How many addresses are tried after this one.
    left: u32,
    /// When all attempts together must have ended.
    ends: Moment,
    begun: Moment,
    established: Moment,
    /// It could not be registered: nothing is ever heard of it.
    pub(super) is_deaf: bool,
}

/// What comes of an attempt.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// connect(2) itself fails.
    Refused(i32),
    /// It fails after a while.
    Fails(i32, Duration),
    Silent,
    Connects(Duration),
}

/// How long all attempts for a client may take.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Fate {
    fn drawn(draw: &mut Draw, is_own: bool, in_trouble: bool) -> Self {
        let while_ = |draw: &mut Draw| {
            let most = *draw.pick(&[0, 100, 10_000, 4_000_000]);
            Duration::from_micros(draw.between(0..=most) as u64)
        };
        let at_once = [libc::ECONNREFUSED, libc::ENETUNREACH, libc::EADDRNOTAVAIL];
        let later = [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ECONNRESET];
        match draw.between(0..=3) {
            _ if is_own && !(in_trouble && draw.one_in(8)) => Self::Connects(while_(draw)),
            0 => Self::Refused(*draw.pick(&at_once)),
            1 | 2 => Self::Fails(*draw.pick(&later), while_(draw)),
            _ => Self::Silent,
        }
    }
}

impl World {
    /// Some of the clients are called, and have further addresses.
    pub(super) fn plan_calls(&mut self) {
        let Some(mut draw) = self.options.outgoing.clone() else { return };
        let in_trouble = self.ever_has(Fault::Unreachable);
        for client in 0..self.wires.len() {
            if !draw.one_in(3) {
                continue;
            }
            let others = if in_trouble { draw.between(0..=2) } else { 0 };
            let own = draw.between(0..=others);
            let mut addresses = Vec::new();
            for place in 0..=others {
                let wire = if place == own { client } else { self.wires.len() };
                if wire == self.wires.len() {
                    self.wires.push(Wire::new(Client::new(Script::new()), 0));
                    self.wires[wire].ended = Some(End::Left);
                }
                let fate = Fate::drawn(&mut draw, place == own, in_trouble);
                self.wires[wire].call = Some(Call {
                    fate,
                    left: (others - place) as u32,
                    ends: Moment::NEVER,
                    begun: Moment::NEVER,
                    established: Moment::NEVER,
                    is_deaf: false,
                });
                addresses.push(wire);
            }
            self.addresses.insert(client, addresses);
        }
    }

    /// The program asks for a connection, between two turns of the loop or from within one.
    pub(super) fn call(&mut self, client: usize) {
        self.note(|| format!("client {client} is to be called"));
        self.to_call.push(client);
    }

    /// Whom to call now: with which addresses, and within what time.
    pub(super) fn next_call(&mut self) -> Option<(usize, Vec<Target>, Duration)> {
        let client = self.to_call.pop()?;
        let addresses = self.addresses.get(&client).cloned().unwrap_or_default();
        let ends = self.now + Patience::new(TIMEOUT);
        let target = |wire: usize| {
            if let Some(call) = &mut self.wires[wire].call {
                call.ends = ends;
            }
            match Wire::address(wire) {
                PeerAddress::Inet(address) => Target::Inet(address),
                PeerAddress::Unix => unreachable!("a simulated client has an address"),
            }
        };
        Some((client, addresses.into_iter().map(target).collect(), TIMEOUT))
    }

    /// As connect(2) that does not wait. By the address it is known whose attempt it is.
    pub(super) fn connect_to(
        &mut self,
        target: &Target,
        _: Option<SocketAddr>,
    ) -> io::Result<usize> {
        if !self.tick() {
            return error(libc::EIO);
        }
        let Target::Inet(address) = target else { return error(libc::ENOENT) };
        let index = Wire::index(PeerAddress::Inet(*address));
        if let Some(number) = self.fails("connect", failing::CONNECT) {
            return error(number);
        }
        if self.held >= self.options.descriptors {
            self.note(|| format!("connect to {index}: no descriptor"));
            return error(libc::EMFILE);
        }
        let now = self.now;
        let wire = &mut self.wires[index];
        let Some(call) = &mut wire.call else { return error(libc::EIO) };
        let fate = call.fate;
        call.begun = now;
        self.note(|| format!("connect to {index}, which is {fate:?}"));
        let after = match fate {
            Fate::Refused(number) => return error(number),
            Fate::Fails(_, after) | Fate::Connects(after) => Some(after),
            Fate::Silent => None,
        };
        let wire = &mut self.wires[index];
        (wire.held, wire.standing) = (true, Standing::Called);
        self.held += 1;
        self.progress();
        if let Some(after) = after {
            self.plan(after, Action::Establish(index));
        }
        Ok(index)
    }

    /// An attempt has come to what it comes to.
    pub(super) fn establish(&mut self, index: usize) {
        let now = self.now;
        let wire = &mut self.wires[index];
        let Some(call) = wire.call.as_mut().filter(|_| wire.standing == Standing::Called) else {
            return;
        };
        if let Fate::Fails(number, _) = call.fate {
            wire.broken = Some(number);
            self.note(|| format!("the attempt for {index} fails with error {number}"));
            return self.stream_event(index, true, true);
        }
        call.established = now;
        wire.standing = Standing::Established;
        let reports_room = wire.reports_room;
        self.note(|| format!("client {index} is there"));
        if reports_room {
            self.stream_event(index, false, false);
        }
        self.plan_write(index);
    }

    /// As `SO_ERROR` and getpeername(2) tell.
    pub(super) fn is_connected(&mut self, index: usize) -> io::Result<bool> {
        let now = self.now;
        let wire = &mut self.wires[index];
        if let Some(number) = wire.broken {
            wire.error_told = true;
            return error(number);
        }
        if wire.standing == Standing::Called {
            return Ok(false);
        }
        wire.standing = Standing::Accepted;
        (wire.last_received, wire.last_sent) = (now, now);
        self.progress();
        Ok(true)
    }

    /// The loop lets go of an attempt that came to nothing. True when it is one.
    pub(super) fn gives_up(&mut self, index: usize) -> bool {
        let wire = &self.wires[index];
        let Some(call) = &wire.call else { return false };
        if !matches!(wire.standing, Standing::Called | Standing::Established) {
            return false;
        }
        let is_over = self.stop.phase() > Phase::Serving || self.failures.fatal;
        if wire.broken.is_some() || call.is_deaf || is_over {
            return true;
        }
        let tolerance = Patience::new(Self::A_TURN);
        if call.established + tolerance < self.now {
            self.fail(|| format!("client {index} was there, and is given up"));
        } else if self.now + tolerance < call.until() {
            let early = call.until().since(self.now);
            self.fail(|| format!("the attempt for {index} ends {early:?} too early"));
        }
        true
    }

    /// A stream that was not registered is dropped. True when that is right.
    pub(super) fn drops(&mut self, index: usize) -> bool {
        let is_attempt = self.gives_up(index);
        if is_attempt {
            self.close(index, false);
        }
        is_attempt
    }

    /// After a turn no attempt goes on whose time is over.
    pub(super) fn look_at_attempts(&mut self) {
        let latest = Self::A_TURN + self.options.longest_jump + self.longest_leap;
        for index in 0..self.wires.len() {
            let wire = &self.wires[index];
            if let Some(call) = wire.call.as_ref().filter(|_| wire.held)
                && wire.standing == Standing::Called
                && self.now.since(call.until()) > latest
            {
                self.fail(|| format!("the attempt for {index} goes on, though its time is over"));
            }
        }
    }

    /// Whether a handler may be told of this end without having been opened.
    pub(super) fn was_called_in_vain(&self, client: usize, reason: CloseReason) -> bool {
        let is_end = match reason {
            CloseReason::Unreachable(_) => true,
            CloseReason::Stopped | CloseReason::DrainTimeout => {
                self.stop.phase() > Phase::Serving || self.failures.fatal
            }
            _ => false,
        };
        is_end && self.wires[client].call.is_some()
    }
}

impl Call {
    /// When its share of the time is over.
    fn until(&self) -> Moment {
        if self.begun.is_never() {
            return Moment::NEVER;
        }
        self.begun + Patience::new(self.ends.since(self.begun) / (self.left + 1))
    }
}
