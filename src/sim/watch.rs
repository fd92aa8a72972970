//! A handler between the loop and the embedder's: it looks at every call and passes it on.
//!
//! What is promised to a handler is asserted here: `open` first, `closed` last and once, no call
//! inside another, all that was received and nothing else in `received`, `AtLeast`, `Wait` and
//! timers heeded.

use std::cell::RefCell;
use std::panic;
use std::rc::Rc;
use std::time::Duration;

use crate::handler::{Exchange, Flow, Handler, Partial, Peer, Service};
use crate::limits::CloseReason;
use crate::moment::Moment;

use super::Fault;
use super::wire::Wire;
use super::world::World;

/// Makes watched handlers. They are boxed, so that the loop is compiled once, in this crate, and
/// not again for each service of an embedder's tests.
pub(super) struct WatchedService<'s> {
    pub(super) make: &'s dyn Fn(&Peer) -> Box<dyn Handler + 's>,
    pub(super) world: Rc<RefCell<World>>,
}

pub(super) struct Watched<'s> {
    inner: Box<dyn Handler + 's>,
    world: Rc<RefCell<World>>,
    client: usize,
}

impl<'s> Service for WatchedService<'s> {
    type Handler = Watched<'s>;

    fn handler(&self, peer: &Peer) -> Watched<'s> {
        let client = Wire::index(peer.address);
        {
            let mut world = self.world.borrow_mut();
            world.wires[client].id = peer.id;
            if world.wires[client].listener != peer.listener {
                world.fail(|| format!("client {client} came by another listener"));
            }
            if world.strikes(Fault::Panics, 40) {
                world.note(|| format!("no handler for client {client}: the service panics"));
                world.wires[client].unregistrable = true;
                drop(world);
                panic::resume_unwind(Box::new("a fault"));
            }
        }
        Watched { inner: (self.make)(peer), world: self.world.clone(), client }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Open,
    Receive,
    End,
    Room,
    Timer,
    Wake,
    Drain,
}

impl Watched<'_> {
    /// The handler for a client that the server calls.
    pub(super) fn called(
        make: &dyn Fn(&Peer) -> Box<dyn Handler>,
        peer: &Peer,
        client: usize,
        world: Rc<RefCell<World>>,
    ) -> Self {
        world.borrow_mut().wires[client].id = peer.id;
        if peer.listener != Peer::OUTGOING {
            world.borrow_mut().fail(|| format!("client {client} was called, and came by itself"));
        }
        Self { inner: make(peer), world, client }
    }
}

/// How late a timer may come beside what the clock jumps: turns take time.
const LATE: Duration = Duration::from_millis(200);

impl Watched<'_> {
    fn pass_on(
        &mut self,
        call: Call,
        exchange: &mut Exchange<'_>,
        run: impl FnOnce(&mut dyn Handler, &mut Exchange<'_>) -> Flow,
    ) -> Flow {
        self.before(call, exchange);
        if self.panics(40) {
            panic::resume_unwind(Box::new("a fault"));
        }
        let flow = run(&mut *self.inner, exchange);
        self.after(call, exchange, flow);
        flow
    }

    /// Whether the handler is to panic: in one of so many calls.
    fn panics(&self, times: u64) -> bool {
        let client = self.client;
        let mut world = self.world.borrow_mut();
        let panics = world.strikes(Fault::Panics, times);
        if panics {
            world.note(|| format!("the handler of client {client} panics"));
            world.wires[client].spoil("its handler panicked");
        }
        panics
    }

    fn before(&self, call: Call, exchange: &Exchange<'_>) {
        let client = self.client;
        let mut world = self.world.borrow_mut();
        world.serves(client);
        if !matches!(call, Call::Receive | Call::End | Call::Room) {
            world.begins_anew();
        }
        let length = exchange.received.len();
        world.note(|| format!("{call:?} of client {client}, {length} bytes"));
        let (sleeps, until_drain) = (world.sleeps, world.sleeps_until_drain);
        let never_full =
            world.options.limits.high > world.wires[client].client.script.answered().len();
        let wire = &mut world.wires[client];
        let end_received = wire.end_received;
        let (received, timer) = (wire.received, wire.seen.timer);
        let seen = &mut wire.seen;
        let wrong = if seen.closed.is_some() {
            Some("it was told that it is closed")
        } else if seen.in_call {
            Some("another call runs, or panicked")
        } else if seen.opened == (call == Call::Open) {
            Some("it was opened not at all, or twice")
        } else if call == Call::End && seen.ended {
            Some("it was told of the end")
        } else if seen.consumed + length != received {
            Some("it does not see all that was received and not consumed, or sees more")
        } else if call == Call::Receive && seen.waits {
            Some("it had said Wait")
        } else if call == Call::Receive && length < seen.at_least {
            Some("it had asked for more bytes")
        } else if call == Call::Receive
            && never_full
            && !(seen.drained || seen.ended || seen.has_waited || seen.in_frame)
            && until_drain.is_some_and(|until| sleeps > until.max(seen.sleeps))
        {
            Some("it had nothing to do and was not told that the server goes away")
        } else if call == Call::Drain && seen.in_frame && !seen.waits && !end_received {
            Some("a frame has begun and may still become whole")
        } else if call == Call::Timer && exchange.now() < timer {
            Some("its timer is not due yet")
        } else {
            None
        };
        (seen.opened, seen.in_call) = (true, true);
        seen.ended |= call == Call::End;
        seen.drained |= call == Call::Drain;
        if call == Call::Timer {
            seen.timer = Moment::NEVER;
        }
        if let Some(wrong) = wrong {
            world.fail(|| format!("{call:?} of client {client}, though {wrong}"));
        }
        let latest = LATE + world.options.longest_jump + world.longest_leap;
        let late = world.now.since(timer);
        if call == Call::Timer && late > latest {
            world.fail(|| format!("the timer of client {client} is late by {late:?}"));
        }
    }

    fn after(&self, call: Call, exchange: &Exchange<'_>, flow: Flow) {
        let client = self.client;
        let mut world = self.world.borrow_mut();
        world.note(|| format!("  {flow:?}, answered {} bytes", exchange.to_send.len()));
        if exchange.received.consumed() > 0 {
            world.progress();
        }
        let (sleeps, now) = (world.sleeps, world.now);
        let seen = &mut world.wires[client].seen;
        let was_in_frame = seen.in_frame;
        (seen.in_call, seen.sleeps) = (false, sleeps);
        seen.consumed += exchange.received.consumed();
        seen.left = exchange.received.len();
        seen.timer = *exchange.timer;
        seen.in_frame = match exchange.partial {
            Partial::Unsaid if call == Call::Receive => {
                seen.left > 0 && matches!(flow, Flow::Continue | Flow::AtLeast(_))
            }
            Partial::Unsaid => seen.in_frame && seen.left > 0,
            Partial::No => false,
            Partial::Yes { .. } => true,
        };
        seen.in_frame_since = match seen.in_frame {
            true if was_in_frame => seen.in_frame_since,
            _ => now,
        };
        seen.largest_answer = seen.largest_answer.max(exchange.to_send.len());
        match flow {
            Flow::Continue if call == Call::Receive => seen.at_least = 0,
            Flow::AtLeast(count) => seen.at_least = if seen.left == 0 { 0 } else { count },
            Flow::Again => (seen.at_least, seen.waits) = (0, false),
            Flow::Wait => {
                (seen.at_least, seen.waits) = (0, true);
                seen.has_waited = true;
            }
            _ => {}
        }
        if world.strikes(Fault::Meddling, 8) {
            let last = world.wires.len() - 1;
            let other = world.draw.between(0..=last);
            world.post(other);
        }
    }
}

impl Handler for Watched<'_> {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass_on(Call::Open, exchange, |inner, exchange| inner.open(exchange))
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass_on(Call::Receive, exchange, |inner, exchange| inner.receive(exchange))
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass_on(Call::End, exchange, |inner, exchange| inner.end(exchange))
    }

    fn room(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass_on(Call::Room, exchange, |inner, exchange| inner.room(exchange))
    }

    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass_on(Call::Timer, exchange, |inner, exchange| inner.timer(exchange))
    }

    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass_on(Call::Wake, exchange, |inner, exchange| inner.wake(exchange))
    }

    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass_on(Call::Drain, exchange, |inner, exchange| inner.drain(exchange))
    }

    fn closed(&mut self, reason: &CloseReason) {
        {
            let client = self.client;
            let mut world = self.world.borrow_mut();
            world.note(|| format!("client {client} is closed: {reason}"));
            let now = world.now;
            let seen = &mut world.wires[client].seen;
            seen.closed_at = now;
            let again = seen.closed.replace(*reason).is_some();
            // After a panic the call that panicked was never left.
            let inside = seen.in_call && *reason != CloseReason::Panicked;
            let unopened = !seen.opened && !world.was_called_in_vain(client, *reason);
            if again || inside || unopened {
                world
                    .fail(|| format!("client {client} is closed twice, inside a call or unopened"));
            }
            world.look_at_reason(client, *reason);
        }
        self.inner.closed(reason);
        if self.panics(8) {
            panic::resume_unwind(Box::new("a fault"));
        }
    }
}
