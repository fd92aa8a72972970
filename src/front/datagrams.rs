//! UDP beside streams: in the readiness loop, and under the blocking models.
//!
//! A loop serves each socket a bounded number of datagrams a turn, so that a flood of them does not
//! starve the streams. A blocking model has one thread for each socket; it waits in the call, and
//! parks as the threads of streams do.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use log::{debug, warn};
use socket2::Socket;

use crate::counters::{Counters, Totals};
use crate::front::blocking::TICK;
use crate::front::gate::Backoff;
use crate::front::{Front, Sockets};
use crate::kernel::Kernel;
use crate::moment::Moment;
use crate::net::datagram::{Batch, BoxedHandler, Responder, Served, UdpSocket};
use crate::stop::{Phase, Stop};
use crate::sys::{self, PollFd};

// ── in a loop ────────────────────────────────────────────────────────────────────────────────

/// The datagrams of a readiness loop.
pub(crate) struct Datagrams {
    /// Those of the kernel's sockets, in their order.
    responders: Vec<Responder>,
    states: Vec<State>,
    /// `None` as long as there are no sockets.
    batch: Option<Batch>,
    /// While the kernel cannot report what comes at a socket that was flooded.
    deaf: Backoff,
}

/// What is known of a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing waits; an event will tell when something comes.
    Quiet,
    /// Datagrams may wait. An edge-triggered kernel says so once.
    Waiting,
    /// So many wait that no event is wanted. A socket in an epoll set wakes whoever waits for it
    /// with each datagram that has left, which is 5 % of what a datagram costs; so it is taken out
    /// for as long as it is served without one.
    Flooded,
}

impl Datagrams {
    pub(crate) fn new(handlers: Vec<BoxedHandler>) -> Self {
        Self {
            states: vec![State::Waiting; handlers.len()],
            batch: (!handlers.is_empty()).then(Batch::new),
            responders: handlers.into_iter().map(Responder::new).collect(),
            deaf: Backoff::new(),
        }
    }

    /// The kernel said so.
    pub(crate) fn have_come(&mut self, socket: usize) {
        if let Some(state) = self.states.get_mut(socket)
            && *state == State::Quiet
        {
            *state = State::Waiting;
        }
    }

    /// When a socket is to be served without an event.
    pub(crate) fn due(&self) -> Moment {
        let due = |state: &State| match state {
            State::Quiet => Moment::NEVER,
            State::Waiting => Moment::START,
            State::Flooded if self.deaf.is_waiting() => self.deaf.until(),
            State::Flooded => Moment::START,
        };
        self.states.iter().map(due).min().unwrap_or(Moment::NEVER)
    }

    /// Gives each socket its turn.
    pub(crate) fn serve(&mut self, kernel: &impl Kernel, counters: &Counters, now: Moment) {
        let Some(batch) = &mut self.batch else { return };
        let is_deaf = self.deaf.is_waiting() && now < self.deaf.until();
        for (index, (responder, state)) in
            self.responders.iter_mut().zip(&mut self.states).enumerate()
        {
            let Some(socket) = kernel.datagram_socket(index) else {
                *state = State::Quiet;
                continue;
            };
            *state = match *state {
                State::Quiet => continue,
                State::Flooded if is_deaf => continue,
                State::Waiting => {
                    let mut is_out = false;
                    let leave = || is_out = kernel.report_datagrams(index, false).is_ok();
                    match responder.serve(&socket, batch, counters, leave) {
                        Served::Dry => State::Quiet,
                        Served::More if is_out => State::Flooded,
                        Served::More => State::Waiting,
                    }
                }
                State::Flooded => match responder.serve_flood(&socket, batch, counters) {
                    Served::More => State::Flooded,
                    Served::Dry => match kernel.report_datagrams(index, true) {
                        Ok(()) => {
                            self.deaf.succeed();
                            State::Quiet
                        }
                        Err(error) => {
                            debug!("cannot be told of datagrams: {error}");
                            self.deaf.fail(now);
                            State::Flooded
                        }
                    },
                },
            };
        }
    }

    /// Answers what has come, and closes. With `at_once`, closes only.
    pub(crate) fn close(&mut self, kernel: &mut impl Kernel, counters: &Counters, at_once: bool) {
        if let Some(mut batch) = self.batch.take().filter(|_| !at_once) {
            for (index, responder) in self.responders.iter_mut().enumerate() {
                if let Some(socket) = kernel.datagram_socket(index) {
                    responder.drain(&socket, &mut batch, counters);
                }
            }
        }
        kernel.close_datagram_sockets();
        self.responders.clear();
        self.states.clear();
    }
}

// ── threads ──────────────────────────────────────────────────────────────────────────────────

/// Serves datagrams, each socket on a thread of its own, and has `streams` serve the listeners.
/// Returns when all have ended.
pub(crate) fn beside<S>(
    front: &Front<'_, S>,
    sockets: Sockets,
    streams: impl FnOnce(Vec<Socket>) -> io::Result<()>,
) -> io::Result<()> {
    let (stop, totals) = (front.stop, front.totals);
    thread::scope(|scope| {
        // Without one of its parts the server ends as a whole.
        let _guard = StopOnUnwind(stop);
        for (index, (socket, handler)) in sockets.datagrams.into_iter().enumerate() {
            thread::Builder::new()
                .name(format!("evmux-datagrams-{index}"))
                .spawn_scoped(scope, move || answer(stop, totals, &socket, handler))
                .inspect_err(|_| stop.now())?;
        }
        streams(sockets.listeners).inspect_err(|_| stop.now())
    })
}

/// Threads that are to be joined must have been told to end.
struct StopOnUnwind<'s>(&'s Stop);

impl Drop for StopOnUnwind<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.now();
        }
    }
}

/// The life of one thread.
fn answer(stop: &Stop, totals: &Totals, socket: &UdpSocket, handler: BoxedHandler) {
    let counters = totals.register();
    let mut batch = Batch::new();
    let mut responder = Responder::new(handler);
    // Without a timeout it would not see the stop; then it waits in poll(2) for each datagram.
    let waits_in_the_call = socket.wait_at_most(TICK).is_ok();
    loop {
        match stop.phase() {
            Phase::Serving => {}
            Phase::Draining => return responder.drain(&socket, &mut batch, &counters),
            Phase::Stopped => return,
        }
        let served = if waits_in_the_call {
            responder.wait_and_serve(&socket, &mut batch, &counters)
        } else {
            responder.serve(&socket, &mut batch, &counters, || ())
        };
        if served == Served::Dry {
            counters.waits.increment();
            park(stop, socket);
        }
    }
}

/// Waits until datagrams have come or the server is being stopped.
fn park(stop: &Stop, socket: &UdpSocket) {
    let readable = |fd: i32| PollFd { fd, events: libc::POLLIN, revents: 0 };
    let stop = stop.next_phase_fd(Phase::Serving);
    let mut fds = [readable(socket.as_raw_fd()), readable(stop.as_fd().as_raw_fd())];
    if let Err(error) = sys::poll(&mut fds, None)
        && error.kind() != io::ErrorKind::Interrupted
    {
        warn!("cannot wait: {error}");
        thread::sleep(Duration::from_secs(1));
    }
}
