//! The third kernel: its waiting is a step of a virtual clock, its sockets are counts.
//!
//! It is as strict as the contract of [`Kernel`] allows. Edge-triggered, it tells of a state when
//! that begins and never again: bytes that arrive, an end, a reset, a window that opens after a
//! send took less than it was given, a client at the listener. Level-triggered, it tells for as
//! long as interest says so, and of a hang-up unasked.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::connection::Wants;
use crate::handler::PeerAddress;
use crate::kernel::{Kernel, Ready, Token};
use crate::local::Target;
use crate::moment::Moment;
use crate::net::datagram::DatagramSocket;
use crate::stop::Phase;
use crate::transfer::Stream;

use super::datagrams::SimSocket;
use super::wire::Wire;
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

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream of client {}", self.client)
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        if world.wires[self.client].held && !world.drops(self.client) {
            let client = self.client;
            world.fail(|| format!("the stream of client {client} was dropped, not released"));
        }
    }
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
        self.0.borrow_mut().wait(events, until, seen)
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

    fn connect(&mut self, target: &Target, source: Option<SocketAddr>) -> io::Result<SimStream> {
        let client = self.0.borrow_mut().connect_to(target, source)?;
        Ok(SimStream { world: self.0.clone(), client })
    }

    fn datagram_socket(&self, socket: usize) -> Option<impl DatagramSocket> {
        Some(SimSocket { world: self.0.clone(), index: socket })
    }

    fn report_datagrams(&self, socket: usize, report: bool) -> io::Result<()> {
        if EDGE { self.0.borrow_mut().report_datagrams(socket, report) } else { Ok(()) }
    }

    fn close_datagram_sockets(&mut self) {
        self.0.borrow_mut().close_datagram_sockets();
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
            world.wires[client].muted = false;
        }
    }

    fn report_room(&mut self, stream: &SimStream, token: Token) -> io::Result<()> {
        self.0.borrow_mut().report_room(stream.client, token)
    }

    fn mute(&mut self, token: Token) {
        let mut world = self.0.borrow_mut();
        world.tick();
        if let Some(client) = world.owner(token) {
            world.wires[client].muted = true;
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
        self.world.borrow().wires[self.client].reported_unread()
    }

    fn queued(&self) -> usize {
        let world = self.world.borrow();
        world.wires[self.client].answered - world.wires[self.client].read
    }

    fn error(&self) -> io::ErrorKind {
        let mut world = self.world.borrow_mut();
        let wire = &mut world.wires[self.client];
        wire.error_told = true;
        let number = wire.broken.unwrap_or(libc::ECONNRESET);
        io::Error::from_raw_os_error(number).kind()
    }

    fn is_connected(&self) -> io::Result<bool> {
        self.world.borrow_mut().is_connected(self.client)
    }
}
