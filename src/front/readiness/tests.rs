//! The loop over a kernel of a few lines, for what a socket shows too seldom: each test says what
//! every wait reports, and a second passes with each.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::*;
use crate::counters::Totals;
use crate::front::gate::Gate;
use crate::front::quiet::Quiet;
use crate::handler::{Exchange, Flow, Handler, Peer, PeerAddress};
use crate::limits::Limits;
use crate::local::{ConnectOptions, Local, Target};
use crate::stop::Stop;
use crate::witness::Audience;

const SECOND: Duration = Duration::from_secs(1);

/// What a peer has sent: pieces, of which an empty one is its end. Then a receive would block.
#[derive(Default)]
struct Sent {
    pieces: VecDeque<&'static [u8]>,
    /// Bytes without end come after the pieces.
    floods: bool,
}

struct FakeStream(Rc<RefCell<Sent>>);

impl Stream for FakeStream {
    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut sent = self.0.borrow_mut();
        match sent.pieces.pop_front() {
            Some(piece) => {
                bytes[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            }
            None if sent.floods => Ok(bytes.len()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn unread(&self) -> usize {
        self.0.borrow().pieces.iter().map(|piece| piece.len()).sum()
    }

    fn error(&self) -> io::ErrorKind {
        io::ErrorKind::ConnectionReset
    }

    fn is_connected(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// An edge-triggered kernel with one client.
struct FakeKernel {
    client: Option<FakeStream>,
    now: Moment,
    reports: Vec<Ready>,
}

impl Kernel for FakeKernel {
    type Stream = FakeStream;
    type Events = Vec<Ready>;

    const EDGE: bool = true;

    fn events(&self) -> Vec<Ready> {
        Vec::new()
    }

    fn now(&self) -> Moment {
        self.now
    }

    fn wait(&mut self, events: &mut Vec<Ready>, _: Moment, _: Phase) -> io::Result<()> {
        *events = std::mem::take(&mut self.reports);
        self.now = self.now + Patience::new(SECOND);
        Ok(())
    }

    fn ready(events: &Vec<Ready>) -> impl Iterator<Item = Ready> {
        events.iter().copied()
    }

    fn listeners(&self) -> usize {
        1
    }

    fn accept(&mut self, _: usize) -> io::Result<(FakeStream, PeerAddress)> {
        let client = self.client.take().ok_or(io::Error::from_raw_os_error(libc::EAGAIN))?;
        Ok((client, PeerAddress::Unix))
    }

    fn listen(&mut self, _: usize, _: bool) {}

    fn connect(&mut self, _: &Target, _: Option<SocketAddr>) -> io::Result<FakeStream> {
        self.client.take().ok_or(io::ErrorKind::ConnectionRefused.into())
    }

    fn refuse_one(&mut self, _: usize) -> bool {
        false
    }

    fn close_listeners(&mut self) {}

    fn register(&mut self, _: &FakeStream, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn interest(&mut self, _: Token, _: Wants) {}

    fn report_room(&mut self, _: &FakeStream, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn mute(&mut self, _: Token) {}

    fn release(&mut self, _: FakeStream, _: Token, _: bool) {}

    fn refuse(&mut self, _: FakeStream, _: &mut [u8]) {}
}

/// Serves one client; `turn` says what the peer does and what is reported before each turn.
/// How many turns the connection was open.
fn turns_until_closed<S: Service>(
    service: &S,
    local: Option<Local<S::Handler>>,
    turns: usize,
    mut turn: impl FnMut(usize, &mut Sent, &mut Vec<Ready>),
) -> io::Result<Option<usize>> {
    let (stop, totals) = (Stop::new()?, Totals::new());
    let front = Front {
        service,
        limits: Limits::default(),
        drain_timeout: SECOND,
        gate: Gate::new(1),
        refusals: Quiet::default(),
        stop: &stop,
        totals: &totals,
        mailbox: None,
        audience: Audience::default(),
        origin: Instant::now(),
    };
    let counters = totals.register();
    let sent = Rc::new(RefCell::new(Sent::default()));
    let client = Some(FakeStream(sent.clone()));
    let kernel = FakeKernel { client, now: Moment::START, reports: Vec::new() };
    let mut readiness = Readiness::<_, _, 64>::new(&front, kernel, &counters);
    readiness.inbox.local = local;
    let mut events = Vec::new();
    for number in 0..turns {
        turn(number, &mut sent.borrow_mut(), &mut readiness.kernel.reports);
        assert!(readiness.turn(&mut events)?);
        if readiness.slots.is_empty() {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Of the only client.
fn report(receive: bool, end: bool) -> Ready {
    Ready::Stream { token: Token { slot: 0, generation: 1 }, receive, end, hung_up: false }
}

/// Of the first stream of the only outgoing connection.
fn report_outgoing(receive: bool, end: bool) -> Ready {
    Ready::Stream { token: Token { slot: 0, generation: 2 }, receive, end, hung_up: false }
}

/// Closes at the first byte.
struct Closing;

impl Handler for Closing {
    fn receive(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Close
    }
}

#[test]
fn a_peer_that_floods_after_our_end_is_not_lingered_with_for_ever() -> io::Result<()> {
    // Every budget is spent, so that the connection is always on the ready list.
    let closed = turns_until_closed(&|_: &Peer| Closing, None, 100, |number, sent, reports| {
        sent.floods = number > 0;
        if number == 1 {
            reports.push(report(true, false));
        }
    })?;
    assert_eq!(closed, Some(31), "30 seconds after our FIN");
    Ok(())
}

#[test]
fn who_has_spoken_when_it_is_accepted_is_answered_without_an_event() -> io::Result<()> {
    let closed = turns_until_closed(&|_: &Peer| Closing, None, 20, |number, sent, _| {
        if number == 0 {
            sent.pieces.push_back(b"hello");
        }
    })?;
    assert_eq!(closed, Some(2), "two seconds of silence after our FIN");
    Ok(())
}

/// Reads no more when it was called for the 40th time.
struct Pausing(u32);

impl Handler for Pausing {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.received.consume(count);
        self.0 += 1;
        if self.0 < 40 { Flow::Continue } else { Flow::Wait }
    }
}

#[test]
fn a_hang_up_is_not_forgotten_though_it_is_told_of_one_on_the_ready_list() -> io::Result<()> {
    let service = |_: &Peer| Pausing(0);
    let closed = turns_until_closed(&service, None, 20, |number, sent, reports| {
        sent.floods = number > 0;
        match number {
            // Two budgets are spent: one for the event, one from the list.
            1 => reports.push(report(true, false)),
            2 => {
                let token = Token { slot: 0, generation: 1 };
                reports.push(Ready::Stream { token, receive: true, end: true, hung_up: true });
            }
            _ => {}
        }
    })?;
    assert_eq!(closed, Some(2), "in the turn of the event");
    Ok(())
}

#[test]
fn a_server_that_speaks_at_once_is_heard_though_the_event_also_said_connected() -> io::Result<()> {
    let local = Local::new();
    let target = Target::Unix("/somewhere".into());
    local.connect([target], ConnectOptions::default(), |_| Closing);
    let service = |_: &Peer| Closing;
    let closed = turns_until_closed(&service, Some(local), 20, |number, sent, reports| {
        if number == 1 {
            sent.pieces.extend([&b"hello"[..], b""]);
            reports.push(report_outgoing(true, true));
        }
    })?;
    assert_eq!(closed, Some(1), "in the turn of the event, without another one");
    Ok(())
}

/// Closes when it has a frame of 74 bytes, ten more than the loop's input.
struct Framed;

impl Handler for Framed {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if exchange.received.len() < 74 { Flow::AtLeast(74) } else { Flow::Close }
    }
}

#[test]
fn a_receive_that_fills_what_is_left_of_the_input_is_not_the_last() -> io::Result<()> {
    let closed = turns_until_closed(&|_: &Peer| Framed, None, 20, |number, sent, reports| {
        match number {
            1 => sent.pieces.push_back(&[b'x'; 10]),
            // Behind the ten there is room for 54.
            2 => sent.pieces.extend([&[b'x'; 54][..], &[b'x'; 10]]),
            _ => return,
        }
        reports.push(report(true, false));
    })?;
    assert_eq!(closed, Some(4), "two seconds of silence after our FIN, in the turn of the event");
    Ok(())
}

/// Keeps nothing, and asks for more than any frame may have.
struct Greedy;

impl Handler for Greedy {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.received.consume(count);
        Flow::AtLeast(usize::MAX)
    }
}

#[test]
fn who_asks_for_more_than_can_come_is_refused_though_nothing_is_kept() -> io::Result<()> {
    let closed = turns_until_closed(&|_: &Peer| Greedy, None, 20, |number, sent, reports| {
        if number == 1 {
            sent.pieces.push_back(b"hello");
            reports.push(report(true, false));
        }
    })?;
    assert!(closed.is_some(), "it waits for what its limits refuse");
    Ok(())
}
