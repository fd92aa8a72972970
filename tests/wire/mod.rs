//! A connection driven by hand: the test says what comes in, how much the peer takes, and what
//! time it is; the handler is a closure, and every call to it is written down.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use evmux::{
    Answer, CloseReason, Connection, Exchange, Flow, Handler, Lent, Limits, Moment, Patience, Wants,
};

/// Which call a handler got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Receive,
    End,
    Room,
    Timer,
    Drain,
}

impl Call {
    /// What the trait's own methods say.
    pub(crate) fn usual(self) -> Flow {
        match self {
            Self::End | Self::Drain => Flow::Close,
            _ => Flow::Continue,
        }
    }
}

/// A handler that does what a closure says, and writes down what it was called for: the calls,
/// how many bytes it saw, and why it ended.
pub(crate) struct Told<F> {
    calls: Rc<RefCell<Vec<String>>>,
    say: F,
}

impl<F: FnMut(Call, &mut Exchange<'_>) -> Flow> Told<F> {
    fn called(&mut self, call: Call, exchange: &mut Exchange<'_>) -> Flow {
        let name = format!("{call:?}").to_lowercase();
        self.calls.borrow_mut().push(format!("{name}:{}", exchange.received.len()));
        (self.say)(call, exchange)
    }
}

impl<F: FnMut(Call, &mut Exchange<'_>) -> Flow> Handler for Told<F> {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.called(Call::Open, exchange)
    }
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.called(Call::Receive, exchange)
    }
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.called(Call::End, exchange)
    }
    fn room(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.called(Call::Room, exchange)
    }
    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.called(Call::Timer, exchange)
    }
    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.called(Call::Drain, exchange)
    }
    fn closed(&mut self, reason: &CloseReason) {
        self.calls.borrow_mut().push(format!("closed:{}", reason.label()));
    }
}

/// The connection, and the peer's side of it.
pub(crate) struct Wire<F> {
    pub(crate) connection: Connection<Told<F>>,
    pub(crate) limits: Limits,
    pub(crate) now: Moment,
    /// What the peer has got.
    pub(crate) sent: Vec<u8>,
    /// How many bytes the peer takes before the socket would block.
    pub(crate) window: usize,
    /// What the socket holds of it.
    pub(crate) queued: usize,
    /// Whether our FIN was sent.
    pub(crate) finished: bool,
    /// The calls that were not asked for yet.
    pub(crate) log: Rc<RefCell<Vec<String>>>,
    output: Vec<u8>,
}

impl<F: FnMut(Call, &mut Exchange<'_>) -> Flow> Wire<F> {
    /// The size of the input that bytes are received into.
    pub(crate) const INPUT: usize = 64;

    /// An open connection whose peer takes everything.
    pub(crate) fn new(limits: Limits, say: F) -> Self {
        let log = Rc::new(RefCell::new(Vec::new()));
        let now = Moment::from_nanos(1);
        let connection = Connection::new(Told { calls: log.clone(), say }, now);
        let (sent, output) = (Vec::new(), Vec::new());
        let window = usize::MAX;
        let queued = 0;
        let finished = false;
        let mut wire =
            Self { connection, limits, now, sent, window, queued, finished, log, output };
        wire.call(Connection::open);
        wire
    }

    /// One call, and what the peer takes of its answer.
    pub(crate) fn call(
        &mut self,
        make: impl for<'l> FnOnce(&mut Connection<Told<F>>, Lent<'l>) -> Answer<'l>,
    ) {
        let Self { connection, limits, now, output, .. } = self;
        let answer = make(connection, Lent::new(output, limits, *now));
        deliver(connection, answer, limits, *now, (&mut self.sent, &mut self.window));
    }

    /// Bytes of the peer, all in one receive.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        let front = self.connection.front(Self::INPUT);
        let mut input = vec![b'?'; front];
        input.extend_from_slice(bytes);
        let Self { connection, limits, now, output, .. } = self;
        let answer = connection.receive(&mut input, front, Lent::new(output, limits, *now));
        deliver(connection, answer, limits, *now, (&mut self.sent, &mut self.window));
    }

    /// Does the first thing that the connection wants, in the order of the front ends, or nothing
    /// when only the peer or the time can make it go on.
    pub(crate) fn step(&mut self) -> bool {
        let wants = self.connection.wants();
        if wants.send && self.window > 0 {
            let taken = self.connection.to_send().len().min(self.window);
            self.sent.extend_from_slice(&self.connection.to_send()[..taken]);
            self.window -= taken;
            self.connection.sent(taken, &self.limits, self.now);
        } else if wants.pump {
            self.call(Connection::pump);
        } else if wants.finish {
            self.finished = true;
            self.connection.finished(&self.limits, self.now);
        } else {
            return false;
        }
        true
    }

    /// Goes on until only the peer or the time can make it go on.
    #[track_caller]
    pub(crate) fn go_on(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it spins: {:?}, {}", self.connection.wants(), self.calls());
    }

    /// Time passes, and the deadlines are looked at if they have passed.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + Patience::new(time);
        if self.connection.deadline(&self.limits) <= self.now {
            self.connection.queued(self.queued, self.now);
            self.call(Connection::expire);
        }
    }

    /// The calls to the handler since this was asked last, `receive:5` for one that saw five bytes.
    pub(crate) fn calls(&self) -> String {
        let calls = std::mem::take(&mut *self.log.borrow_mut());
        calls.join(" ")
    }

    /// Wants nothing but bytes.
    #[track_caller]
    pub(crate) fn assert_only_receives(&self) {
        let wants = Wants { receive: true, ..Wants::default() };
        assert_eq!(self.connection.wants(), wants);
    }
}

/// Sends what the peer takes of an answer, unless something waits already, and gives it back.
fn deliver<H: Handler>(
    connection: &mut Connection<H>,
    answer: Answer<'_>,
    limits: &Limits,
    now: Moment,
    (sent, window): (&mut Vec<u8>, &mut usize),
) {
    let direct = connection.to_send().is_empty() && !connection.is_closed();
    let taken = if direct { answer.as_slice().len().min(*window) } else { 0 };
    sent.extend_from_slice(&answer.as_slice()[..taken]);
    *window -= taken;
    connection.keep(answer, taken, limits, now);
}
