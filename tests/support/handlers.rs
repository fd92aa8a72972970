//! Protocols for tests: each shows one thing that a handler may do.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use evmux::{CloseReason, Exchange, Flow, Handler, Violation};

use super::{PATIENCE, pattern_at};

/// What comes in goes out.
pub(crate) struct Echo;

impl Handler for Echo {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        echo(exchange);
        Flow::Continue
    }
}

fn echo(exchange: &mut Exchange<'_>) {
    // Echo has no frames.
    exchange.partial(false);
    let count = exchange.received.len();
    exchange.to_send.append_received(&mut exchange.received, count);
}

/// Frames of a length in four bytes, big-endian, and a payload; each is answered with itself.
pub(crate) struct Blocks;

impl Handler for Blocks {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        while let Some(header) = exchange.received.first_chunk() {
            let length = u32::from_be_bytes(*header) as usize;
            let limit = exchange.max_frame();
            if length > limit {
                let (length, limit) = (length as u64, limit as u64);
                return Flow::Refuse(Violation::TooLong { length, limit });
            }
            let whole = header.len() + length;
            if exchange.received.len() < whole {
                return Flow::AtLeast(whole);
            }
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
            exchange.to_send.append_received(&mut exchange.received, whole);
        }
        Flow::Continue
    }
}

/// A frame for [`Blocks`].
pub(crate) fn block(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// Lines, each answered with itself. It looks at every byte that comes, where [`Blocks`] is called
/// when a frame is whole.
pub(crate) struct Lines;

impl Handler for Lines {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        while let Some(end) = exchange.received.iter().position(|byte| *byte == b'\n') {
            exchange.to_send.append_received(&mut exchange.received, end + 1);
        }
        Flow::Continue
    }
}

/// Eight bytes are a number; as many bytes of the pattern are the answer, and then the end.
#[derive(Default)]
pub(crate) struct Flood {
    asked: usize,
    answered: usize,
}

/// Asks [`Flood`] for `count` bytes.
pub(crate) fn flood(count: usize) -> [u8; 8] {
    (count as u64).to_be_bytes()
}

impl Handler for Flood {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if self.asked == 0 {
            let Some(count) = exchange.received.first_chunk() else { return Flow::AtLeast(8) };
            self.asked = u64::from_be_bytes(*count) as usize;
            exchange.received.consume(8);
        }
        while self.answered < self.asked {
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
            let next = self.asked.min(self.answered + 65536);
            let piece: Vec<u8> = (self.answered..next).map(pattern_at).collect();
            exchange.to_send.append(&piece);
            self.answered = next;
        }
        Flow::Close
    }
}

/// Each byte is answered with a kilobyte.
pub(crate) struct Chatty;

impl Handler for Chatty {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        while !exchange.received.is_empty() {
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
            exchange.received.consume(1);
            exchange.to_send.append(&[b'.'; 1024]);
        }
        Flow::Continue
    }
}

/// Speaks first, then closes, whatever the peer says.
pub(crate) struct Hello;

impl Handler for Hello {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"hello");
        Flow::Close
    }
    fn receive(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Abort
    }
}

/// Sixteen bytes in, a farewell out, whatever stands behind them.
pub(crate) struct Sixteen(pub(crate) Vec<u8>);

impl Handler for Sixteen {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if exchange.received.len() < 16 {
            return Flow::AtLeast(16);
        }
        exchange.to_send.append(&self.0);
        Flow::Close
    }
}

/// Goes on after the peer's end: three times a word, by the timer, and then the end.
#[derive(Default)]
pub(crate) struct LastWords(usize);

impl Handler for LastWords {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        echo(exchange);
        Flow::Continue
    }
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.set_timer(Duration::from_millis(10));
        Flow::Continue
    }
    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"word ");
        exchange.set_timer(Duration::from_millis(10));
        self.0 += 1;
        if self.0 < 3 { Flow::Continue } else { Flow::Close }
    }
}

/// Says something from time to time, and echoes.
pub(crate) struct Heartbeat(pub(crate) Duration);

impl Handler for Heartbeat {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.set_timer(self.0);
        Flow::Continue
    }
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        echo(exchange);
        Flow::Continue
    }
    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"beat ");
        exchange.set_timer(self.0);
        Flow::Continue
    }
}

/// Answers later: reads nothing until its timer says that the work is done, then echoes.
#[derive(Default)]
pub(crate) struct Later {
    done: bool,
}

impl Handler for Later {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if !self.done {
            exchange.set_timer(Duration::from_millis(50));
            return Flow::Wait;
        }
        self.done = false;
        echo(exchange);
        Flow::Continue
    }
    fn timer(&mut self, _: &mut Exchange<'_>) -> Flow {
        self.done = true;
        Flow::Again
    }
}

/// Waits for something that never comes.
pub(crate) struct Never;

impl Handler for Never {
    fn receive(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Wait
    }
}

/// Never has enough, once it got `spin`; echoes before.
pub(crate) struct Spinner;

impl Handler for Spinner {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if exchange.received.starts_with(b"spin") {
            return Flow::Again;
        }
        echo(exchange);
        Flow::Continue
    }
}

/// Stays when the server is drained, says so, and closes by its timer.
pub(crate) struct Lodger;

impl Handler for Lodger {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        echo(exchange);
        Flow::Continue
    }
    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"soon ");
        exchange.set_timer(Duration::from_millis(100));
        Flow::Continue
    }
    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"now");
        Flow::Close
    }
}

/// Echoes, and stops at each `!` until the test lets it go on: what the test does meanwhile has
/// happened, for the kernel, before the serving thread looks again.
pub(crate) struct Stopping(pub(crate) Arc<Hold>);

impl Handler for Stopping {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if exchange.received.contains(&b'!') {
            self.0.stop();
        }
        echo(exchange);
        Flow::Continue
    }
}

/// Where a handler stops.
pub(crate) struct Hold {
    entered: Mutex<Sender<()>>,
    go: Mutex<Receiver<()>>,
}

/// The test's side of a [`Hold`].
pub(crate) struct Holder {
    entered: Receiver<()>,
    go: Sender<()>,
}

impl Hold {
    pub(crate) fn new() -> (Arc<Self>, Holder) {
        let (entered_sender, entered) = mpsc::channel();
        let (go, go_receiver) = mpsc::channel();
        let hold = Self { entered: Mutex::new(entered_sender), go: Mutex::new(go_receiver) };
        (Arc::new(hold), Holder { entered, go })
    }

    fn stop(&self) {
        let _ = self.entered.lock().unwrap_or_else(PoisonError::into_inner).send(());
        let _ = self.go.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE);
    }
}

impl Holder {
    /// Waits until a handler stopped, does `meanwhile`, and lets it go on.
    #[track_caller]
    pub(crate) fn meanwhile<R>(&self, meanwhile: impl FnOnce() -> R) -> R {
        self.entered.recv_timeout(PATIENCE).expect("the handler was not called");
        let result = meanwhile();
        self.go.send(()).unwrap();
        result
    }
}

/// A call of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Receive,
    End,
    Room,
    Timer,
    Drain,
    Closed,
}

/// Echoes, and panics in one of its calls. In [`Call::Room`] it floods first.
pub(crate) struct Panicking(pub(crate) Option<Call>);

impl Panicking {
    fn reach(&self, call: Call) {
        assert!(self.0 != Some(call), "{PLANNED}");
    }
}

/// What a panic says that belongs to a test.
pub(crate) const PLANNED: &str = "a panic that was planned";

impl Handler for Panicking {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.reach(Call::Open);
        if self.0 == Some(Call::Timer) {
            exchange.set_timer(Duration::from_millis(1));
        }
        Flow::Continue
    }
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.reach(Call::Receive);
        if self.0 == Some(Call::Room) {
            exchange.to_send.append(&vec![b'.'; 8 << 20]);
        }
        echo(exchange);
        Flow::Continue
    }
    fn end(&mut self, _: &mut Exchange<'_>) -> Flow {
        self.reach(Call::End);
        Flow::Close
    }
    fn room(&mut self, _: &mut Exchange<'_>) -> Flow {
        self.reach(Call::Room);
        Flow::Continue
    }
    fn timer(&mut self, _: &mut Exchange<'_>) -> Flow {
        self.reach(Call::Timer);
        Flow::Continue
    }
    fn drain(&mut self, _: &mut Exchange<'_>) -> Flow {
        self.reach(Call::Drain);
        Flow::Close
    }
    fn closed(&mut self, _: &CloseReason) {
        self.reach(Call::Closed);
    }
}
