//! The loop of the blocking models: a thread waits in the call itself.
//!
//! What `sequential`, `threads` and `pool` share: accepting one client, and serving one connection
//! from its first byte to its end. They differ only in who calls these two.
//!
//! Every call on a socket gives up after a second ([`TICK`]; SO_RCVTIMEO and SO_SNDTIMEO, on the
//! listeners and on each stream). Who has waited that long parks in poll(2) on its socket and on the
//! descriptor of [`Stop`](crate::Stop), until its deadline: a busy connection costs two calls a
//! message, an idle one wakes nobody, and a stop is seen within a second. Nobody is woken by
//! shutdown(2) on a listener or on the reading half of a stream, by a signal, or by a connection
//! to ourselves: the first two reset clients that were to be served.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use log::{debug, warn};
use socket2::Socket;

use crate::connection::{Connection, Wants};
use crate::counters::{Counters, Share};
use crate::front::Front;
use crate::front::gate::{Backoff, Verdict};
use crate::handler::{Handler, Peer, PeerAddress, Service};
use crate::lent::{Answer, Lent};
use crate::limits::{CloseReason, Limits};
use crate::moment::{Moment, Patience};
use crate::net::acceptor::Spare;
use crate::net::stream::SocketStream;
use crate::stop::Phase;
use crate::sys::{self, EventFd, PollFd};
use crate::transfer::{self, Clock, Scratch, Stream};
use crate::witness::{Card, Way, Witness};

/// How long a call on a socket waits.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// What the threads of a blocking model share.
pub(crate) struct Blocking<'f, S> {
    pub(crate) front: &'f Front<'f, S>,
    pub(crate) limits: Limits,
    /// When what is still open is cut, in nanoseconds; set by the thread that sees the drain first.
    drain_ends: AtomicU64,
    spare: Mutex<Spare>,
    /// A thread waits for a descriptor ...
    starved: AtomicBool,
    /// ... and this wakes it.
    freed: EventFd,
}

/// Where a thread serves its clients, one after the other.
pub(crate) struct Desk<'s> {
    scratch: Scratch<'s>,
    /// What of its connection is in the thread's counts.
    share: Share,
    witness: Option<Box<Witness>>,
    /// Shows its connection to whoever looks.
    card: Option<Card>,
}

impl<S> Clock for Blocking<'_, S> {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.front.origin.elapsed().as_nanos() as u64)
    }
}

/// Remembers what time it was when it was asked last: a message costs one look at the clock.
struct Remembering<'c, C> {
    clock: &'c C,
    last: Cell<Option<Moment>>,
}

impl<C: Clock> Clock for Remembering<'_, C> {
    fn now(&self) -> Moment {
        let now = self.clock.now();
        self.last.set(Some(now));
        now
    }
}

impl<'f, S: Service> Blocking<'f, S> {
    /// Prepares `listeners` for waiting in the call.
    pub(crate) fn new(front: &'f Front<'f, S>, listeners: &[Socket]) -> io::Result<Self> {
        for listener in listeners {
            listener.set_nonblocking(false)?;
            listener.set_read_timeout(Some(TICK))?;
        }
        Ok(Self {
            front,
            limits: front.limits.clone().without_reading_ahead(),
            drain_ends: AtomicU64::new(Moment::NEVER.as_nanos()),
            spare: Mutex::new(Spare::new()),
            starved: AtomicBool::new(false),
            freed: EventFd::new()?,
        })
    }

    /// A desk for the thread that calls, whose track in a trace is called `name`.
    pub(crate) fn desk<'s>(&'s self, name: &str, counters: &'s Counters) -> Desk<'s> {
        Desk {
            scratch: Scratch::new(&self.limits, counters),
            share: Share::default(),
            witness: self.front.audience.witness(name),
            card: None,
        }
    }

    // ── accepting ────────────────────────────────────────────────────────────────────────────

    /// Waits for the next client that is let in. `None` when there will be none: the server is
    /// being stopped, and whoever waited in the backlog has been accepted.
    ///
    /// Who gets a client calls [`left`](Blocking::left) when it is over, the descriptor closed.
    pub(crate) fn accept(
        &self,
        listener: &Socket,
        index: usize,
        counters: &Counters,
        witness: &mut Option<Box<Witness>>,
    ) -> Option<(SocketStream, Peer)> {
        let mut backoff = Backoff::new();
        loop {
            let seen = self.front.stop.phase();
            if seen >= Phase::Draining {
                if seen == Phase::Stopped || self.now() >= self.drain_ends() {
                    return None;
                }
                // All threads see it: the flag belongs to the socket, not to the descriptor.
                if listener.set_nonblocking(true).is_err() {
                    return None;
                }
            }
            let now = self.now();
            if let Some(witness) = witness {
                witness.hand_over();
            }
            let accepted = listener.accept();
            if let Some(witness) = witness {
                witness.waited(now, self.now(), accepted.is_ok().into());
            }
            let now = self.now();
            match self.front.gate.judge(accepted, counters, now) {
                Verdict::Serve((socket, address)) => {
                    // Only TCP inherits these from its listener, and not who was in the backlog
                    // before the listener had them: its thread would wait in the call for ever.
                    let _ = socket.set_read_timeout(Some(TICK));
                    let _ = socket.set_write_timeout(Some(TICK));
                    let address = address.as_socket().map_or(PeerAddress::Unix, Into::into);
                    return Some((socket.into(), Peer::new(address, index)));
                }
                Verdict::TooMany((socket, _)) => {
                    SocketStream::from(socket).refuse(&mut [0; 4096]);
                }
                Verdict::Next => {}
                Verdict::Nobody if seen >= Phase::Draining => return None,
                Verdict::Nobody => {
                    counters.waits.increment();
                    self.wait(seen, &mut [readable(listener)], Moment::NEVER, witness);
                }
                Verdict::Exhausted => {
                    let refused = self.spare.lock().is_ok_and(|mut spare| {
                        // It must not wait here for a client that another thread has refused.
                        let _ = listener.set_nonblocking(true);
                        let refused = spare.refuse_one(|| listener.accept());
                        let _ = listener.set_nonblocking(seen >= Phase::Draining);
                        refused
                    });
                    if refused {
                        counters.refused_descriptors.increment();
                    }
                    counters.waits.increment();
                    self.starved.store(true, Ordering::SeqCst);
                    let until = backoff.fail(now).min(self.drain_ends());
                    self.wait(seen, &mut [readable(&self.freed)], until, witness);
                    self.starved.store(false, Ordering::SeqCst);
                    self.freed.clear();
                }
            }
        }
    }

    /// A client that was let in is over, and its descriptor is closed.
    pub(crate) fn left(&self) {
        self.front.gate.leave();
        if self.starved.load(Ordering::SeqCst) {
            self.freed.signal();
        }
    }

    // ── one connection ───────────────────────────────────────────────────────────────────────

    /// Waits for clients at a listener and serves one after the other, until the server is stopped.
    pub(crate) fn serve_at(
        &self,
        listener: &Socket,
        index: usize,
        counters: &Counters,
        desk: &mut Desk<'_>,
    ) {
        while let Some((stream, peer)) = self.accept(listener, index, counters, &mut desk.witness) {
            self.serve(stream, &peer, desk);
        }
    }

    /// Serves a client to its end.
    pub(crate) fn serve(&self, stream: SocketStream, peer: &Peer, desk: &mut Desk<'_>) {
        self.serve_stream(stream, peer, desk);
        self.left();
    }

    fn serve_stream(&self, mut stream: SocketStream, peer: &Peer, desk: &mut Desk<'_>) {
        let counters = desk.scratch.counters;
        let service = self.front.service;
        let Ok(handler) = panic::catch_unwind(AssertUnwindSafe(|| service.handler(peer))) else {
            counters.refused_other.increment();
            let problem = || format!("cannot serve {}: the service panicked", peer.address);
            self.front.gate.complain(self.now(), problem);
            stream.refuse(desk.scratch.input());
            return;
        };
        counters.opened.increment();
        let mut connection = Connection::new(handler, self.now());
        if let Some(witness) = &mut desk.witness {
            witness.opened(0, peer.address, self.now());
            desk.card = witness.card();
        }
        let served = panic::catch_unwind(AssertUnwindSafe(|| {
            self.converse(&mut connection, &mut stream, desk);
        }));
        if served.is_err() {
            connection.panicked();
        }
        let reason = connection.close_reason().unwrap_or(CloseReason::Stopped);
        desk.share.update(&connection, counters, self.now());
        counters.close(&reason);
        desk.card = None;
        if let Some(witness) = &mut desk.witness {
            let now = self.now();
            // If its handler panicked, nobody has looked since.
            witness.ran(0, &connection, counters, None, now);
            witness.count(now, counters);
            witness.closed(0, reason.label(), now);
        }
        if let CloseReason::Refused(violation) = &reason {
            self.front.tell_of_refusal(Some(peer.address), violation, self.now());
        }
        if reason.is_cut() {
            stream.cut();
        }
        if panic::catch_unwind(AssertUnwindSafe(|| connection.close())).is_err() {
            warn!("a handler panicked when it was told that its connection is over");
        }
        debug!("connection from {} closed: {reason}", peer.address);
    }

    /// The loop of one connection, until it is closed.
    fn converse<H: Handler>(
        &self,
        connection: &mut Connection<H>,
        stream: &mut SocketStream,
        desk: &mut Desk<'_>,
    ) {
        let mut seen = Phase::Serving;
        self.call(connection, stream, desk, Connection::open);
        let mut now = self.now();
        while !connection.is_closed() {
            let before = std::mem::replace(&mut seen, self.front.stop.phase());
            if before == Phase::Serving && seen == Phase::Draining {
                let unread = stream.unread();
                self.call(connection, stream, desk, |c, lent| c.drain(unread, lent));
            }
            if seen == Phase::Stopped {
                connection.stop();
            } else if seen == Phase::Draining && now >= self.drain_ends() {
                connection.drain_timeout();
            } else if now >= connection.deadline(&self.limits) {
                connection.queued(stream.queued(), now);
                desk.scratch.counters.timers.increment();
                self.call(connection, stream, desk, Connection::expire);
            } else if let Some(then) = self.step(connection, stream, desk, seen, now) {
                now = then;
                continue;
            }
            now = self.now();
        }
    }

    /// Does one thing that the connection wants, or waits until one of them can be done. When it
    /// received, if that was all there was to do.
    fn step<H: Handler>(
        &self,
        connection: &mut Connection<H>,
        stream: &mut SocketStream,
        desk: &mut Desk<'_>,
        seen: Phase,
        now: Moment,
    ) -> Option<Moment> {
        let mut wants = connection.wants();
        if wants.send {
            // The last send may have waited for a second, and has taken what it could.
            connection.queued(stream.queued(), now);
        }
        let mut deadline = connection.deadline(&self.limits);
        if seen == Phase::Draining {
            deadline = deadline.min(self.drain_ends());
        }
        let waits = !wants.pump && !wants.finish;
        // Waiting in the call is for one direction, and not past a deadline.
        let in_the_call = wants.receive != wants.send && deadline > now + Patience::new(TICK);
        if !waits || in_the_call {
            let moved = self.move_bytes(connection, stream, desk, wants);
            if moved.is_some() || !waits {
                return moved.filter(|_| connection.is_idle());
            }
        }
        desk.scratch.counters.waits.increment();
        let mut fds = [readable(stream)];
        let receive = if wants.receive { libc::POLLIN } else { 0 };
        let send = if wants.send { libc::POLLOUT } else { 0 };
        fds[0].events = receive | send;
        self.wait(seen, &mut fds, deadline, &mut desk.witness);
        let happened = fds[0].revents;
        let broken = happened & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
        if broken && !wants.receive && !wants.send {
            if stream.unread() == 0 {
                connection.failed(stream.error());
            } else {
                // Who closed a Unix socket may have left bytes in it; they are still read. It
                // would be reported without end.
                fds[0].fd = -1;
                self.wait(seen, &mut fds, deadline, &mut desk.witness);
            }
            return None;
        }
        wants.receive &= broken || happened & libc::POLLIN != 0;
        wants.send &= happened & libc::POLLOUT != 0 || (broken && !wants.receive);
        if wants.receive || wants.send {
            self.move_bytes(connection, stream, desk, wants);
        }
        None
    }

    /// One step, which may wait in its call. When it looked at the clock last; `None` when it waited
    /// in vain.
    fn move_bytes<H: Handler>(
        &self,
        connection: &mut Connection<H>,
        stream: &mut SocketStream,
        desk: &mut Desk<'_>,
        wants: Wants,
    ) -> Option<Moment> {
        let began = desk.witness.as_mut().map(|witness| {
            witness.hand_over();
            self.now()
        });
        let clock = Remembering { clock: self, last: Cell::new(None) };
        let moved = transfer::step(connection, stream, &mut desk.scratch, &clock, wants);
        self.count(connection, desk);
        if began.is_some() {
            self.look_on(connection, stream, desk, began);
        }
        // A call that a signal ended has not looked.
        moved.then(|| clock.last.get().unwrap_or_else(|| self.now()))
    }

    /// Brings the thread's counts up to date.
    fn count<H: Handler>(&self, connection: &Connection<H>, desk: &mut Desk<'_>) {
        if !connection.is_idle() || !desk.share.is_none() {
            desk.share.update(connection, desk.scratch.counters, self.now());
        }
    }

    /// Shows the witness the connection, after a call or a step that `began` then.
    #[cold]
    fn look_on<H: Handler>(
        &self,
        connection: &Connection<H>,
        stream: &SocketStream,
        desk: &mut Desk<'_>,
        began: Option<Moment>,
    ) {
        let Some(witness) = &mut desk.witness else { return };
        let now = self.now();
        let slice = began.map(|began| (Way::Call, began));
        witness.ran(0, connection, desk.scratch.counters, slice, now);
        witness.count(now, desk.scratch.counters);
        if let Some(card) = &desk.card {
            // The kernel is asked only where it may hold something.
            let queued = connection.wants().send.then(|| stream.queued());
            card.show(witness.describe(0, connection, queued, now), now);
        }
    }

    /// Makes a call that no byte asked for, and sends what it answered.
    fn call<H: Handler>(
        &self,
        connection: &mut Connection<H>,
        stream: &mut SocketStream,
        desk: &mut Desk<'_>,
        make: impl for<'l> FnOnce(&mut Connection<H>, Lent<'l>) -> Answer<'l>,
    ) {
        let (limits, counters) = (desk.scratch.limits, desk.scratch.counters);
        let answer = make(connection, desk.scratch.lend(self.now()));
        transfer::deliver(connection, stream, answer, limits, counters, self);
        self.count(connection, desk);
        if desk.witness.is_some() {
            self.look_on(connection, stream, desk, None);
        }
    }

    // ── waiting ──────────────────────────────────────────────────────────────────────────────

    /// Waits for one of `fds`, a later phase than `seen`, or `until`. A signal ends it early.
    fn wait(
        &self,
        seen: Phase,
        fds: &mut [PollFd; 1],
        until: Moment,
        witness: &mut Option<Box<Witness>>,
    ) {
        let began = self.now();
        if let Some(witness) = witness {
            witness.hand_over();
        }
        let stop = self.front.stop.next_phase_fd(seen);
        let mut both = [fds[0], readable(&stop)];
        let timeout = (!until.is_never()).then(|| until.since(self.now()));
        if let Err(error) = sys::poll(&mut both, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            warn!("cannot wait: {error}");
            std::thread::sleep(TICK);
        }
        fds[0].revents = both[0].revents;
        if let Some(witness) = witness {
            witness.waited(began, self.now(), (fds[0].revents != 0).into());
        }
    }

    /// When the drain ends; the first to ask once it has begun sets it.
    fn drain_ends(&self) -> Moment {
        let ends = Moment::from_nanos(self.drain_ends.load(Ordering::Relaxed));
        if !ends.is_never() || self.front.stop.phase() == Phase::Serving {
            return ends;
        }
        let ends = (self.now() + Patience::new(self.front.drain_timeout)).as_nanos();
        match self.drain_ends.compare_exchange(
            Moment::NEVER.as_nanos(),
            ends,
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            Ok(_) => Moment::from_nanos(ends),
            Err(theirs) => Moment::from_nanos(theirs),
        }
    }
}

fn readable(descriptor: &impl AsFd) -> PollFd {
    PollFd { fd: descriptor.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 }
}
