//! UDP beside the streams: datagrams come from strangers, one by one and in floods, and are answered
//! by a handler of the simulation's own.
//!
//! What a datagram says decides what is done with it, so that the world knows each answer without the
//! handler: it goes out once, whole, and to who asked. What cannot be sent is dropped and counted, and
//! the next one is served; what had come before a drain is answered before the socket is closed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::panic;
use std::rc::Rc;
use std::time::Duration;

use crate::counters::Snapshot;
use crate::datagram::{Datagram, Reply};
use crate::kernel::Ready;
use crate::net::datagram::{BoxedHandler, DatagramSocket, STRIDE};
use crate::stop::Phase;
use crate::sys::{BATCH, Envelope};

use super::Fault;
use super::sockets::error;
use super::world::{Action, World};

/// All the datagrams of a world, and the sockets that they come to.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    sockets: Vec<Socket>,
    mail: Vec<Mail>,
}

#[derive(Debug)]
struct Socket {
    arrived: VecDeque<usize>,
    /// How many it holds; those that come then are lost.
    room: usize,
    lost: u32,
    lost_as_told: u32,
    names_destinations: bool,
    /// How many were received since the last wait.
    in_turn: usize,
    is_closed: bool,
    /// Nothing is reported of it: the loop looks by itself.
    is_muted: bool,
}

#[derive(Debug)]
struct Mail {
    socket: usize,
    bytes: Vec<u8>,
    is_truncated: bool,
    /// It had come when a drain began.
    is_promised: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotYet,
    Waiting,
    Lost,
    Received,
    Answered,
    Unsent,
}

/// What is made of a datagram.
enum Outcome {
    Answer(Vec<u8>),
    Nothing,
    TooLong,
    Panic,
}

fn outcome(bytes: &[u8]) -> Outcome {
    match bytes.first() {
        None | Some(0..=9) => Outcome::Answer(bytes.to_vec()),
        Some(10 | 11) => Outcome::Answer([&bytes[..1], b"appended", &bytes[1..]].concat()),
        Some(12) => Outcome::Nothing,
        Some(13) => Outcome::Panic,
        Some(_) => Outcome::TooLong,
    }
}

/// The handler, which does the same without the oracle.
fn answer(datagram: &mut Datagram<'_>) -> Reply {
    match datagram.received.first() {
        None | Some(0..=9) => return datagram.answer_received(),
        Some(10 | 11) => {
            datagram.to_send.append_received(&mut datagram.received, 1);
            datagram.to_send.append(b"appended");
            return datagram.answer_received();
        }
        Some(12) => return Reply::Nothing,
        Some(13) => {
            datagram.to_send.append(b"begun");
            panic::resume_unwind(Box::new("a fault"));
        }
        Some(_) => datagram.to_send.append(&[0; Datagram::LONGEST + 1]),
    }
    Reply::Send
}

impl World {
    pub(super) fn plan_datagrams(&mut self) {
        let Some(mut draw) = self.options.datagrams.clone() else { return };
        let with_errors = self.ever_has(Fault::DatagramErrors);
        let mut datagrams = Datagrams::default();
        for _ in 0..draw.between(1..=2) {
            datagrams.sockets.push(Socket {
                arrived: VecDeque::new(),
                room: *draw.pick(&[2, 40, 1000]),
                lost: 0,
                lost_as_told: 0,
                names_destinations: draw.one_in(2),
                in_turn: 0,
                is_closed: false,
                is_muted: false,
            });
        }
        let (most, span) = *draw.pick(&[(10, 3_000_000), (20, 3_000), (120, 100)]);
        for number in 0..draw.between(0..=most) {
            let length = draw.between(0..=12);
            let mut bytes = draw.bytes(length);
            if let Some(first) = bytes.first_mut() {
                // Answers that are too long take a while to make.
                *first %= if draw.one_in(8) { 15 } else { 14 };
            }
            // Some come when the flood is over.
            let span = if draw.one_in(8) { 3_000_000 } else { span };
            let after = Duration::from_micros(draw.between(0..=span) as u64);
            self.plan(after, Action::Arrive(number));
            datagrams.mail.push(Mail {
                socket: draw.between(0..=datagrams.sockets.len() - 1),
                bytes,
                is_truncated: with_errors && draw.one_in(8),
                is_promised: false,
                state: State::NotYet,
            });
        }
        self.datagrams = Some(datagrams);
    }

    /// A datagram comes, and may find the socket closed or full.
    pub(super) fn arrive(&mut self, number: usize) {
        let Some(datagrams) = &mut self.datagrams else { return };
        let mail = &mut datagrams.mail[number];
        let socket = &mut datagrams.sockets[mail.socket];
        if socket.is_closed {
            return;
        }
        let index = mail.socket;
        if socket.arrived.len() >= socket.room {
            mail.state = State::Lost;
            socket.lost += 1;
            return self.note(|| format!("datagram {number} is lost"));
        }
        mail.state = State::Waiting;
        socket.arrived.push_back(number);
        self.note(|| format!("datagram {number} comes"));
        self.tell_of_datagrams(index);
    }

    fn tell_of_datagrams(&mut self, index: usize) {
        let sockets = self.datagrams.iter().flat_map(|datagrams| datagrams.sockets.get(index));
        let is_told = sockets.into_iter().any(|it| !it.is_muted && !it.arrived.is_empty());
        // A socket stands in the list of the ready once.
        let event = Ready::Datagrams(index);
        if is_told && !self.events.iter().any(|(_, pending)| *pending == event) {
            self.push_event(event);
        }
    }

    /// Edge-triggered, a socket is taken out of the set, or put in again, which may fail.
    pub(super) fn report_datagrams(&mut self, index: usize, report: bool) -> io::Result<()> {
        if !self.tick() {
            return error(libc::EIO);
        }
        if self.strikes(Fault::FailedRegistration, 4) {
            return error(if report { libc::ENOMEM } else { libc::ENOENT });
        }
        self.note(|| format!("datagrams of socket {index} are reported: {report}"));
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.sockets[index].is_muted = !report;
        }
        self.tell_of_datagrams(index);
        Ok(())
    }

    /// Sockets that have something to receive.
    pub(super) fn readable_sockets(&self) -> impl Iterator<Item = Ready> {
        let sockets = self.datagrams.iter().flat_map(|datagrams| datagrams.sockets.iter());
        let readable =
            sockets.enumerate().filter(|(_, it)| !it.is_closed && !it.arrived.is_empty());
        readable.map(|(index, _)| Ready::Datagrams(index))
    }

    pub(super) fn begin_turn_of_datagrams(&mut self) {
        for socket in self.datagrams.iter_mut().flat_map(|datagrams| &mut datagrams.sockets) {
            socket.in_turn = 0;
        }
    }

    /// As recvmmsg(2).
    fn receive_datagrams(
        &mut self,
        index: usize,
        storage: &mut [u8],
        envelopes: &mut [Envelope],
    ) -> io::Result<usize> {
        if !self.tick() {
            return error(libc::EAGAIN);
        }
        if self.strikes(Fault::Interrupts, 16) {
            return error(libc::EINTR);
        }
        if self.strikes(Fault::DatagramErrors, 8) {
            return error(*self.draw.pick(&[libc::ECONNREFUSED, libc::ENOMEM, libc::EHOSTUNREACH]));
        }
        let Some(datagrams) = &mut self.datagrams else { return error(libc::EBADF) };
        let socket = &mut datagrams.sockets[index];
        let count = envelopes.len().min(socket.arrived.len());
        for (place, number) in socket.arrived.drain(..count).enumerate() {
            let mail = &mut datagrams.mail[number];
            mail.state = State::Received;
            let length = mail.received().len();
            storage[place * STRIDE..][..length].copy_from_slice(mail.received());
            envelopes[place].write(address(number), length, mail.is_truncated);
        }
        socket.in_turn += count;
        let (in_turn, is_closed) = (socket.in_turn, socket.is_closed);
        if is_closed {
            self.fail(|| "it receives from a closed socket".into());
        }
        // Two one by one, and then a batch; two batches in a flood.
        if in_turn > 2 * BATCH && self.stop.phase() == Phase::Serving {
            self.fail(|| format!("{in_turn} datagrams of socket {index} were served in one turn"));
        }
        self.note(|| format!("receive from socket {index}: {count} datagrams"));
        if count == 0 {
            return error(libc::EAGAIN);
        }
        self.progress();
        Ok(count)
    }

    /// As sendmmsg(2).
    fn send_datagrams<'r>(
        &mut self,
        index: usize,
        mut replies: impl ExactSizeIterator<Item = (&'r [u8], &'r Envelope)>,
    ) -> io::Result<usize> {
        if !self.tick() {
            return error(libc::EIO);
        }
        if self.strikes(Fault::Interrupts, 16) {
            return error(libc::EINTR);
        }
        let fails = self.strikes(Fault::DatagramErrors, 4);
        let most = replies.len();
        let count =
            if self.has(Fault::DatagramErrors) { self.draw.between(1..=most) } else { most };
        for (bytes, envelope) in replies.by_ref().take(count) {
            let number = envelope.from().map_or(usize::MAX, |from| usize::from(from.port()) - 1);
            let state = if fails { State::Unsent } else { State::Answered };
            if let Some(wrong) = self.answers(index, number, bytes, state) {
                self.fail(|| format!("the answer to datagram {number} {wrong}"));
            }
            if fails {
                let errors =
                    [libc::ECONNREFUSED, libc::EMSGSIZE, libc::ENOBUFS, libc::EPERM, libc::EAGAIN];
                return error(*self.draw.pick(&errors));
            }
        }
        self.progress();
        Ok(count)
    }

    /// One answer; what is wrong with it.
    fn answers(
        &mut self,
        index: usize,
        number: usize,
        bytes: &[u8],
        state: State,
    ) -> Option<&'static str> {
        let mail = self.datagrams.as_mut()?.mail.get_mut(number)?;
        if mail.state != State::Received || mail.socket != index {
            return Some("goes out twice, or by another socket");
        }
        mail.state = state;
        match outcome(&mail.bytes) {
            _ if mail.is_truncated => Some("was made of a part of it"),
            Outcome::Answer(right) if right == bytes => None,
            _ => Some("is another one's"),
        }
    }

    fn lost_datagrams(&mut self, index: usize) -> u32 {
        self.tick();
        let Some(datagrams) = &mut self.datagrams else { return 0 };
        let socket = &mut datagrams.sockets[index];
        socket.lost_as_told = socket.lost;
        socket.lost
    }

    /// What has come by now is to be answered.
    pub(super) fn promise_datagrams(&mut self) {
        for mail in self.datagrams.iter_mut().flat_map(|datagrams| &mut datagrams.mail) {
            mail.is_promised |= mail.state == State::Waiting;
        }
    }

    pub(super) fn close_datagram_sockets(&mut self) {
        let draining = self.stop.phase() == Phase::Draining;
        let Some(datagrams) = &mut self.datagrams else { return };
        for socket in &mut datagrams.sockets {
            socket.is_closed = true;
        }
        let left = |mail: &Mail| mail.state == State::Waiting && mail.is_promised;
        if let Some(number) = datagrams.mail.iter().position(left).filter(|_| draining) {
            self.fail(|| format!("datagram {number} waited, and the drain left it there"));
        }
        self.note(|| "the datagram sockets are closed".into());
    }

    /// Nothing will happen any more.
    pub(super) fn look_for_forgotten_datagrams(&mut self) {
        let Some(datagrams) = &self.datagrams else { return };
        if let Some(number) = datagrams.mail.iter().position(|mail| mail.state == State::Waiting) {
            self.fail(|| format!("datagram {number} waits for ever"));
        }
    }

    /// When the loop has ended. How many bytes of datagrams went in and out.
    pub(super) fn look_back_at_datagrams(&mut self, counters: &Snapshot) -> (u64, u64) {
        let Some(datagrams) = &self.datagrams else { return (0, 0) };
        let mut counted = Snapshot::default();
        let mut unanswered = None;
        for (number, mail) in datagrams.mail.iter().enumerate() {
            let outcome = outcome(&mail.bytes);
            match mail.state {
                State::NotYet | State::Waiting | State::Lost => continue,
                State::Unsent => counted.datagrams_unsent += 1,
                State::Answered => {
                    counted.datagrams_sent += 1;
                    if let Outcome::Answer(bytes) = outcome {
                        counted.bytes_sent += bytes.len() as u64;
                    }
                }
                State::Received => match outcome {
                    _ if mail.is_truncated => counted.datagrams_truncated += 1,
                    Outcome::Answer(_) => unanswered = Some(number),
                    Outcome::Nothing => {}
                    Outcome::TooLong => counted.datagrams_too_long += 1,
                    Outcome::Panic => counted.datagrams_panicked += 1,
                },
            }
            counted.datagrams_received += 1;
            counted.bytes_received += mail.received().len() as u64;
        }
        let lost = datagrams.sockets.iter().map(|socket| u64::from(socket.lost_as_told));
        counted.datagrams_lost = lost.sum();
        let of = |it: &Snapshot| {
            let dropped = [it.datagrams_too_long, it.datagrams_truncated, it.datagrams_unsent];
            let others = [it.datagrams_received, it.datagrams_sent, it.datagrams_lost];
            (dropped, it.datagrams_panicked, others)
        };
        let (right, told) = (of(&counted), of(counters));
        if let Some(number) = unanswered {
            self.fail(|| format!("datagram {number} was received and never answered"));
        }
        if right != told {
            self.fail(|| format!("datagrams are miscounted: {told:?}, and not {right:?}"));
        }
        (counted.bytes_received, counted.bytes_sent)
    }

    /// A handler for each socket.
    pub(super) fn datagram_handlers(&self) -> Vec<BoxedHandler> {
        let sockets = self.datagrams.iter().flat_map(|datagrams| &datagrams.sockets);
        sockets.map(|_| Box::new(answer) as BoxedHandler).collect()
    }
}

impl Mail {
    /// What the server gets of it.
    fn received(&self) -> &[u8] {
        let length = self.bytes.len();
        &self.bytes[..if self.is_truncated { length / 2 } else { length }]
    }
}

/// Who has sent a datagram: its number, and back.
fn address(number: usize) -> SocketAddr {
    ([127, 0, 0, 1], number as u16 + 1).into()
}

/// The server's end of one UDP socket.
pub(super) struct SimSocket {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) index: usize,
}

impl DatagramSocket for SimSocket {
    fn names_destinations(&self) -> bool {
        let world = self.world.borrow();
        world.datagrams.as_ref().is_some_and(|it| it.sockets[self.index].names_destinations)
    }

    fn receive(
        &self,
        storage: &mut [u8],
        envelopes: &mut [Envelope],
        _: bool,
    ) -> io::Result<usize> {
        self.world.borrow_mut().receive_datagrams(self.index, storage, envelopes)
    }

    fn send<'r>(
        &self,
        replies: impl ExactSizeIterator<Item = (&'r [u8], &'r Envelope)>,
    ) -> io::Result<usize> {
        self.world.borrow_mut().send_datagrams(self.index, replies)
    }

    fn lost(&self) -> u32 {
        self.world.borrow_mut().lost_datagrams(self.index)
    }
}
