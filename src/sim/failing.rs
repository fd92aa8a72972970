//! One call that fails: the scenario of a test, again and again, with another call failing each
//! time.
//!
//! Chance finds what is likely. That the one registration fails which happens while a drain is
//! under way and the spare descriptor is gone, no seed may ever bring about; counting does. Each
//! call that the loop makes of its kernel and that can fail is made to fail in each way that a
//! kernel has for it, once and from then on.

use std::collections::BTreeSet;

use crate::moment::Patience;

use super::Fault;
use super::wire::End;
use super::world::World;

/// A call that was made to fail, as [`Simulation::fail_each_call`](super::Simulation::fail_each_call)
/// tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailedCall {
    /// `accept`, `connect`, `refuse_one`, `register`, `report_room`, `receive`, `send`, `finish` or
    /// `wait`; or `reserve`, which is not of the kernel but of the allocator.
    pub call: &'static str,
    /// The number of the error, as errno(3) has it.
    pub error: i32,
    /// Whether every later call that can fail did so, too.
    pub from_then_on: bool,
}

/// Which call of a world is to fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failing {
    /// Counted from 1, among those that can fail.
    pub(super) number: u64,
    /// Which of its errors.
    pub(super) variant: usize,
    pub(super) from_then_on: bool,
}

/// The calls of a world that can fail, and which of them did.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// How many were made.
    made: u64,
    /// In how many ways the call in question can fail.
    pub(super) variants: usize,
    pub(super) failed: BTreeSet<FailedCall>,
    /// Waiting itself was impossible, which ends the loop.
    pub(super) fatal: bool,
    /// How often storage was asked for, if some is refused.
    pub(super) reservations: u64,
}

/// Errors that a call can give now and then, and those that it can give for ever.
type Errors = (&'static [i32], &'static [i32]);

pub(super) const ACCEPT: Errors =
    (&[libc::EINTR], &[libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM]);
/// Of a client that is gone, or was never allowed: only where there is one.
pub(super) const ACCEPTED: Errors =
    (&[], &[libc::ECONNABORTED, libc::EPROTO, libc::EPERM, libc::ENETDOWN]);
pub(super) const CONNECT: Errors =
    (&[], &[libc::ECONNREFUSED, libc::ENETUNREACH, libc::EADDRNOTAVAIL, libc::EMFILE]);
pub(super) const REFUSE_ONE: Errors = (&[], &[libc::EMFILE]);
pub(super) const REGISTER: Errors =
    (&[], &[libc::ENOMEM, libc::ENOSPC, libc::EEXIST, libc::ENOENT]);
pub(super) const REPORT_ROOM: Errors = (&[], &[libc::ENOMEM, libc::ENOENT]);
pub(super) const RECEIVE: Errors = (
    &[libc::EINTR, libc::EAGAIN],
    &[
        libc::ECONNRESET,
        libc::ETIMEDOUT,
        libc::EHOSTUNREACH,
        libc::ENETDOWN,
        libc::ENOTCONN,
        libc::EIO,
        libc::ENOMEM,
    ],
);
pub(super) const SEND: Errors = (
    &[libc::EINTR, libc::EAGAIN],
    &[libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT, libc::ENOBUFS, libc::ENOMEM],
);
pub(super) const FINISH: Errors = (&[], &[libc::ENOTCONN, libc::ENOBUFS]);
/// A signal, and poll(2) without memory.
pub(super) const WAIT: Errors = (&[libc::EINTR], &[libc::ENOMEM]);

impl World {
    /// The error that this call is to fail with.
    pub(super) fn fails(&mut self, call: &'static str, errors: Errors) -> Option<i32> {
        let failing = self.options.failing?;
        let (passing, lasting) = errors;
        self.failures.made += 1;
        let made = self.failures.made;
        let error = if made == failing.number {
            let passing = if failing.from_then_on { &[] } else { passing };
            self.failures.variants = passing.len() + lasting.len();
            *passing.iter().chain(lasting).nth(failing.variant)?
        } else if made > failing.number && failing.from_then_on {
            // The first of the scenario has failed in each of its ways; the others take turns.
            lasting[(made as usize + failing.variant) % lasting.len()]
        } else {
            return None;
        };
        let from_then_on = failing.from_then_on;
        self.failures.failed.insert(FailedCall { call, error, from_then_on });
        self.note(|| format!("{call} is made to fail with error {error}"));
        Some(error)
    }

    /// Whether clients may be left in the backlog: accepting them fails for ever.
    pub(super) fn accepts_nobody(&self) -> bool {
        self.exhausted && self.options.failing.is_some_and(|failing| failing.from_then_on)
    }

    /// Receiving fails. What a real kernel says is so, and goes on being so.
    pub(super) fn fail_receive(&mut self, client: usize, error: i32) {
        match error {
            libc::EINTR => {}
            // It comes a moment later, and then there is an event for it.
            libc::EAGAIN => {
                let at = self.now + Patience::new(std::time::Duration::from_millis(1));
                if let Some(token) = self.wires[client].token
                    && self.is_edge()
                    && self.wires[client].is_readable()
                {
                    let ready = self.wires[client].state(token);
                    self.events.push((at, ready));
                }
            }
            _ => self.fail_stream(client, error),
        }
    }

    /// Sending fails.
    pub(super) fn fail_send(&mut self, client: usize, error: i32) {
        match error {
            libc::EINTR => {}
            libc::EAGAIN => {
                let wire = &mut self.wires[client];
                (wire.shut, wire.starved) = (true, true);
                self.plan_window(client);
            }
            libc::ENOBUFS | libc::ENOMEM => {
                self.wires[client].spoil("the kernel had no buffer for it");
            }
            _ => self.fail_stream(client, error),
        }
    }

    /// The stream is broken, and the loop has just been told.
    pub(super) fn fail_stream(&mut self, client: usize, error: i32) {
        self.wires[client].spoil("a call on its stream failed");
        if self.wires[client].is_active() && self.wires[client].broken.is_none() {
            self.break_off(client, error);
        }
        let wire = &mut self.wires[client];
        wire.broken.get_or_insert(error);
        wire.error_told = true;
    }

    /// A client in the backlog is gone when it is accepted.
    pub(super) fn lose_in_backlog(&mut self, client: usize, error: i32) {
        self.note(|| format!("accept of client {client}: error {error}"));
        self.wires[client].spoil("it went before it was accepted");
        self.wires[client].ended.get_or_insert(End::Left);
    }

    /// Whether a fault that this world had at its beginning has ended.
    pub(super) fn is_calm(&self) -> bool {
        self.options.calm_from.is_some_and(|call| self.calls >= call)
    }

    /// Whether a world may have had a fault at any time.
    pub(super) fn ever_has(&self, fault: Fault) -> bool {
        self.options.faults.has(fault)
    }
}
