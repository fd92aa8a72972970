//! What is tried with any bytes: the bodies of the fuzz targets, which the tests of `tests/fuzz` call
//! with the corpora.
//!
//! Of each codec: no input panics, memory stays within its bounds, and what comes in pieces is
//! answered as the whole is. The first two bytes of an input say how it is cut.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

#[cfg(feature = "http")]
use evmux::codec::http1::{Next, Refused, Requests};
#[cfg(feature = "xmlrpc")]
use evmux::codec::xmlrpc::{read_call, read_response, write_call, write_response};
use evmux::{
    CloseReason, Connection, Exchange, Flow, Handler, Lent, Limits, Moment, Overflow, Patience,
    Violation, Wants,
};
use evmux::{Peer, PeerAddress, Service, services};

#[allow(dead_code)] // The tests of the protocols use more of it.
#[path = "../protocols/talk.rs"]
mod talk;

use talk::Talk;

pub(crate) type Body = fn(&[u8]);

/// Each target by its name, which is that of its corpus.
pub(crate) const TARGETS: &[(&str, Body)] = &[
    ("blocks", blocks),
    ("lines", lines),
    ("upper", upper),
    ("connection", connection),
    #[cfg(feature = "http")]
    ("http1", http1),
    #[cfg(feature = "xmlrpc")]
    ("xmlrpc", xmlrpc),
];

pub(crate) fn blocks(data: &[u8]) {
    whole_equals_fragmented(services::blocks, data);
}

pub(crate) fn lines(data: &[u8]) {
    whole_equals_fragmented(services::lines, data);
}

pub(crate) fn upper(data: &[u8]) {
    whole_equals_fragmented(services::upper, data);
}

/// The sizes of the pieces that an input comes in, and the input.
fn cut(data: &[u8]) -> (impl FnMut() -> usize, &[u8], u8) {
    let (head, input) = data.split_at(data.len().min(2));
    let (mut state, takes) =
        (head.first().copied().unwrap_or(1), head.get(1).copied().unwrap_or(9));
    let next = move || {
        state = state.wrapping_mul(5).wrapping_add(3);
        usize::from(state >> 3) % 13 + 1
    };
    (next, input, takes)
}

fn whole_equals_fragmented<S: Service>(service: S, data: &[u8]) {
    const MAX_FRAME: usize = 60;
    const SEND_BUFFER: usize = 100;
    let (mut piece, input, takes) = cut(data);
    let peer = Peer::new(PeerAddress::Unix, 0);
    let limits = Limits::default().max_frame(MAX_FRAME);
    let mut whole = Talk::with(service.handler(&peer), limits.clone(), usize::MAX);
    whole.say(input);
    let reason = whole.reason();

    let limits = limits.send_buffer(SEND_BUFFER);
    let mut pieces = Talk::with(service.handler(&peer), limits, usize::from(takes) + 1);
    let mut rest = input;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(piece().min(rest.len()));
        pieces.say(now);
        rest = later;
    }
    let reason_of_pieces = pieces.reason();
    assert_eq!(pieces.heard(), whole.heard(), "in pieces, and in one");
    assert_eq!(reason_of_pieces.label(), reason.label(), "in pieces, and in one");
    // One call may overshoot by what one read is answered with, three times as long at most.
    let most = SEND_BUFFER + 3 * (MAX_FRAME + 4 + 13);
    assert!(pieces.most_waiting() <= most, "{} bytes waited", pieces.most_waiting());
}

// ── a connection ─────────────────────────────────────────────────────────────────────────────

/// Does what the bytes say, and answers with numbers, so that what is lost or moved shows.
struct Driven {
    says: Rc<Cell<u8>>,
    next: Rc<Cell<u8>>,
    closed: Rc<Cell<u32>>,
}

impl Driven {
    fn do_something(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        assert_eq!(self.closed.get(), 0, "called after its end");
        let says = self.says.get();
        for _ in 0..says % 7 {
            exchange.to_send.append(&[self.next.get()]);
            self.next.set(self.next.get().wrapping_add(1));
        }
        let count = exchange.received.len().min(usize::from(says >> 5));
        exchange.received.consume(count);
        match says % 23 {
            0 => Flow::Close,
            1 => Flow::Finish,
            2 | 3 => Flow::Wait,
            4 | 5 if !exchange.to_send.is_full() && count > 0 => Flow::Again,
            6 | 7 => Flow::AtLeast(usize::from(says >> 2)),
            8 => Flow::Refuse(Violation::Malformed("so it was drawn")),
            9 if says > 200 => Flow::Abort,
            10 | 11 => {
                exchange.set_timer(Duration::from_millis(says.into()));
                Flow::Continue
            }
            12 => {
                exchange.partial(true);
                Flow::Continue
            }
            _ => Flow::Continue,
        }
    }
}

impl Handler for Driven {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.do_something(exchange)
    }
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.do_something(exchange)
    }
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.do_something(exchange)
    }
    fn room(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.do_something(exchange)
    }
    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.do_something(exchange)
    }
    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.do_something(exchange)
    }
    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.do_something(exchange)
    }
    fn closed(&mut self, _: &CloseReason) {
        self.closed.set(self.closed.get() + 1);
    }
}

/// A connection, and the peer's side of it.
struct Driver {
    connection: Connection<Driven>,
    limits: Limits,
    now: Moment,
    output: Vec<u8>,
    /// How many bytes the peer takes.
    window: usize,
    /// The number of the byte that it must get next.
    due: u8,
}

/// Any sequence of operations: two bytes each, what is done and what the handler says to it.
pub(crate) fn connection(data: &[u8]) {
    let (says, next) = (Rc::new(Cell::new(19)), Rc::new(Cell::new(0)));
    let closed = Rc::new(Cell::new(0));
    let handler = Driven { says: says.clone(), next: next.clone(), closed: closed.clone() };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let limits = Limits::default().max_frame(50).send_buffer(20).overflow(match data.first() {
        Some(first) if first % 2 == 0 => Overflow::Drop,
        _ => Overflow::Close,
    });
    let limits = limits.idle_timeout(seconds(30)).write_timeout(seconds(20));
    let now = Moment::from_nanos(1);
    let connection = Connection::new(handler, now);
    let output = Vec::new();
    let mut driver = Driver { connection, limits, now, output, window: 0, due: 0 };
    driver.call(Connection::open);
    for operation in data.chunks_exact(2) {
        says.set(operation[1]);
        driver.operate(operation[0], &next);
        driver.check();
    }
    assert_eq!(driver.connection.close_reason().is_some(), driver.connection.is_closed());
    driver.connection.close();
    assert_eq!(closed.get(), 1, "told of its end");
}

impl Driver {
    fn operate(&mut self, operation: u8, next: &Cell<u8>) {
        let count = usize::from(operation / 16);
        match operation % 16 {
            0..=3 if self.connection.wants().receive => self.receive(count + 1),
            4 => self.window += count * 3,
            5 | 6 => self.step(),
            7 => self.now = self.now + Patience::new(Duration::from_secs(count as u64)),
            8 => {
                self.connection.queued(count, self.now);
                self.call(Connection::expire);
            }
            9 => self.call(Connection::receive_end),
            10 => self.call(Connection::wake),
            11 => self.post(next),
            12 => self.call(|connection, lent| connection.drain(count, lent)),
            13 => self.connection.dry(),
            14 if count == 0 => self.connection.failed(io::ErrorKind::ConnectionReset),
            14 if count == 1 => self.connection.drain_timeout(),
            14 if count == 2 => self.connection.panicked(),
            14 if count == 3 => self.connection.stop(),
            14 if count == 4 => self.call(Connection::dismiss),
            _ => self.call(Connection::pump),
        }
    }

    fn receive(&mut self, count: usize) {
        const INPUT: usize = 64;
        let front = self.connection.front(INPUT);
        let mut bytes = vec![b'x'; front + count];
        let Self { connection, limits, output, now, .. } = self;
        let answer = connection.receive(&mut bytes, front, Lent::new(output, limits, *now));
        let (sent, due) = taken(&mut self.window, self.due, answer.as_slice(), connection);
        self.due = due;
        connection.keep(answer, sent, limits, *now);
    }

    fn call(
        &mut self,
        make: impl for<'l> FnOnce(&mut Connection<Driven>, Lent<'l>) -> evmux::Answer<'l>,
    ) {
        let Self { connection, limits, output, now, .. } = self;
        let answer = make(connection, Lent::new(output, limits, *now));
        let (sent, due) = taken(&mut self.window, self.due, answer.as_slice(), connection);
        self.due = due;
        connection.keep(answer, sent, limits, *now);
    }

    /// The program sends the next number, unless the connection is past that.
    fn post(&mut self, next: &Cell<u8>) {
        let bytes = [next.get()];
        let Self { connection, limits, now, .. } = self;
        let Some(answer) = connection.post(&bytes, limits) else { return };
        next.set(next.get().wrapping_add(1));
        let (sent, due) = taken(&mut self.window, self.due, answer.as_slice(), connection);
        self.due = due;
        connection.keep(answer, sent, limits, *now);
    }

    fn step(&mut self) {
        let wants = self.connection.wants();
        if wants.send {
            let waiting = self.connection.to_send();
            let count = waiting.len().min(self.window);
            for byte in &waiting[..count] {
                assert_eq!(*byte, self.due, "another byte than the next");
                self.due = self.due.wrapping_add(1);
            }
            self.window -= count;
            self.connection.sent(count, &self.limits, self.now);
        } else if wants.pump {
            self.call(Connection::pump);
        } else if wants.finish {
            self.connection.finished(&self.limits, self.now);
        }
    }

    fn check(&self) {
        let (connection, wants) = (&self.connection, self.connection.wants());
        if connection.is_closed() {
            assert_eq!(wants, Wants::default());
            assert_eq!(connection.deadline(&self.limits), Moment::NEVER);
            return;
        }
        assert_eq!(wants.send, !connection.to_send().is_empty(), "{wants:?}");
        assert!(!(wants.send && wants.finish), "our end before the last answer");
        if connection.is_idle() {
            assert_eq!(connection.held_back(), 0);
        }
    }
}

/// How many bytes of an answer the peer takes, and which it must get next.
fn taken(
    window: &mut usize,
    mut due: u8,
    answer: &[u8],
    connection: &Connection<Driven>,
) -> (usize, u8) {
    let direct = connection.to_send().is_empty() && !connection.is_closed();
    let count = if direct { answer.len().min(*window) } else { 0 };
    for byte in &answer[..count] {
        assert_eq!(*byte, due, "another byte than the next");
        due = due.wrapping_add(1);
    }
    *window -= count;
    (count, due)
}

// ── HTTP and XML-RPC ─────────────────────────────────────────────────────────────────────────

/// Method, target and body of each request, and how the rest was refused.
#[cfg(feature = "http")]
type Read = (Vec<(String, String, Vec<u8>)>, Option<Refused>);

#[cfg(feature = "http")]
pub(crate) fn http1(data: &[u8]) {
    let (piece, input, _) = cut(data);
    let whole = requests(input, || usize::MAX);
    let pieces = requests(input, piece);
    assert_eq!(pieces.0, whole.0, "in pieces, and in one");
    let status = |read: &Read| read.1.map(|refused| refused.status());
    assert_eq!(status(&pieces), status(&whole), "in pieces, and in one");
}

#[cfg(feature = "http")]
fn requests(input: &[u8], mut piece: impl FnMut() -> usize) -> Read {
    const MAX_BODY: usize = 100;
    let (mut reader, mut read) = (Requests::default(), Vec::new());
    let (mut begin, mut end) = (0, 0);
    while end < input.len() {
        end = input.len().min(end.saturating_add(piece()));
        loop {
            match reader.next(&input[begin..end], MAX_BODY) {
                Ok(Next::Whole { length }) => {
                    let request = reader.request(&input[begin..begin + length]);
                    assert!(request.body.len() <= MAX_BODY);
                    read.push((request.method.into(), request.target.into(), request.body.into()));
                    begin += length;
                }
                Ok(Next::Taken { length }) => {
                    assert!(length > 0, "nothing was taken");
                    begin += length;
                }
                Ok(Next::Partial { need, .. }) => {
                    assert!(need > end - begin, "it is worth looking again");
                    break;
                }
                Err(refused) => return (read, Some(refused)),
            }
        }
    }
    (read, None)
}

/// What can be read can be written, and reads the same.
#[cfg(feature = "xmlrpc")]
pub(crate) fn xmlrpc(data: &[u8]) {
    if let Ok(call) = read_call(data)
        && let Ok(written) = write_call(&call.method, &call.arguments)
    {
        let again = read_call(written.as_bytes());
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(call)), "{written}");
    }
    if let Ok(Ok(value)) = read_response(data)
        && let Ok(written) = write_response(&value)
    {
        let again = read_response(written.as_bytes());
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(Ok::<_, ()>(value))));
    }
}
