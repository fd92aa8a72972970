//! Any sequence of operations on a connection, over several handlers: what a sensible handler
//! answers is what an oracle of a few lines says, and what a handler drawn at random says is sent
//! in its order; nothing is stuck, nothing grows, and what is wanted fits the state.

mod wire;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use evmux::{CloseReason, Connection, Exchange, Flow, Limits, Moment, Violation, Wants};
use proptest::prelude::*;
use wire::{Call, Wire};

const SECOND: Duration = Duration::from_secs(1);
/// The most bytes that come in one receive, and the longest frame of the handlers here.
const PIECE: usize = 40;
const FRAME: usize = 20;

/// What the world does to a connection.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// So many bytes come, if any are wanted.
    Receive(usize),
    /// The same, wanted or not: a receive that began before a pause completes.
    ReceiveLate(usize),
    /// The peer takes so many bytes more.
    Window(usize),
    /// So many steps of what the connection wants.
    Steps(usize),
    /// Time passes.
    Pass(Duration),
    /// The deadlines are looked at, whether one has passed or not.
    Expire,
    /// The server is going away, and so many bytes were not received yet.
    Drain(usize),
    /// Nothing more can be received for now.
    Dry,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (1..=PIECE).prop_map(Operation::Receive),
        4 => (0..=PIECE).prop_map(Operation::Window),
        4 => (1..5_usize).prop_map(Operation::Steps),
        2 => (0..2000_u64).prop_map(|ms| Operation::Pass(Duration::from_millis(ms))),
        1 => Just(Operation::Expire),
        1 => Just(Operation::Dry),
    ]
}

fn operation_or_drain() -> impl Strategy<Value = Operation> {
    prop_oneof![
        20 => operation(),
        1 => (0..2 * PIECE).prop_map(Operation::Drain),
    ]
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        10 => operation_or_drain(),
        1 => (1..=PIECE).prop_map(Operation::ReceiveLate),
    ]
}

/// A connection in the hands of a sequence of operations.
struct World<'i, F> {
    wire: Wire<F>,
    input: &'i [u8],
    /// How much of the input has come.
    came: usize,
    ended: bool,
    /// How many unconsumed bytes the handler asked for.
    asked: Asked,
}

/// At how many unconsumed bytes a handler is to be called: 0 when that is not known from what it
/// said, `usize::MAX` when it closes.
type Asked = Rc<Cell<usize>>;

impl<'i, F: FnMut(Call, &mut Exchange<'_>) -> Flow> World<'i, F> {
    fn new(limits: Limits, input: &'i [u8], asked: Asked, say: F) -> Self {
        let mut wire = Wire::new(limits, say);
        wire.window = 0;
        Self { wire, input, came: 0, ended: false, asked }
    }

    fn receive(&mut self, count: usize) {
        let count = count.min(self.input.len() - self.came);
        if self.ended {
            return;
        }
        if count == 0 {
            self.ended = true;
            self.wire.call(Connection::receive_end);
            return;
        }
        let connection = &self.wire.connection;
        let (paused, pump) = (connection.is_paused(), connection.wants().pump);
        let (asked, there) = (self.asked.get(), connection.held_back() + count);
        let calls = self.wire.log.borrow().len();
        self.wire.receive(&self.input[self.came..][..count]);
        self.came += count;
        let called = self.wire.log.borrow().len() > calls;
        if asked == usize::MAX || paused {
            assert!(!called, "called while it waits, or after its last word");
        } else if asked > 0 && !pump {
            assert_eq!(called, there >= asked, "{there} bytes for one who asked for {asked}");
        }
    }

    fn operate(&mut self, operation: Operation) {
        let wire = &mut self.wire;
        match operation {
            Operation::Receive(count) => {
                if wire.connection.wants().receive {
                    self.receive(count);
                }
            }
            Operation::ReceiveLate(count) => {
                if !wire.connection.is_closed() {
                    self.receive(count);
                }
            }
            Operation::Window(count) => wire.window = wire.window.saturating_add(count),
            Operation::Steps(count) => {
                for _ in 0..count {
                    wire.step();
                }
            }
            Operation::Pass(time) => wire.pass(time),
            Operation::Expire => wire.call(Connection::expire),
            Operation::Drain(unread) => {
                wire.call(|connection, lent| connection.drain(unread, lent))
            }
            Operation::Dry => wire.connection.dry(),
        }
        self.check();
    }

    /// What must hold between any two operations.
    fn check(&self) {
        let connection = &self.wire.connection;
        let wants = connection.wants();
        if connection.is_closed() {
            assert_eq!(wants, Wants::default());
            let reason = connection.close_reason().expect("it is closed");
            assert!(reason.is_cut() || self.ended || self.wire.finished, "closed without our FIN");
            assert_eq!(connection.deadline(&self.wire.limits), Moment::NEVER);
            return;
        }
        assert_eq!(connection.close_reason(), None);
        assert_eq!(wants.send, !connection.to_send().is_empty(), "{wants:?}");
        assert!(!(wants.send && wants.finish), "a FIN before the last answer");
        assert!(!(wants.receive && self.ended), "bytes after the end");
        if connection.is_idle() {
            self.wire.assert_only_receives();
            assert_eq!(connection.held_back(), 0);
        }
        if self.asked.get() == usize::MAX {
            assert!(!wants.pump && wants.receive != self.ended, "closing: {wants:?}");
        } else if connection.is_paused() {
            assert!(!wants.receive, "paused: {wants:?}");
        }
        if self.wire.finished {
            assert!(!wants.pump && !wants.send && !wants.finish, "it went on after the FIN");
        }
    }

    /// The peer reads on, sends the rest and finishes, and time passes: it must come to an end.
    #[track_caller]
    fn finish(&mut self, seconds: usize) -> CloseReason {
        self.wire.window = usize::MAX;
        for _ in 0..seconds {
            self.wire.go_on();
            while self.wire.connection.wants().receive && !self.ended {
                self.receive(PIECE);
                self.wire.go_on();
            }
            if let Some(reason) = self.wire.connection.close_reason() {
                self.check();
                return reason;
            }
            self.check();
            self.wire.pass(SECOND);
        }
        panic!("stuck: {:?} after {}", self.wire.connection.wants(), self.wire.calls());
    }
}

// ── sensible handlers ────────────────────────────────────────────────────────────────────────

/// Answers one frame of what `received` holds, or says what to wait for when it holds none.
type OneFrame = fn(&mut Exchange<'_>) -> Result<(), Flow>;

/// Any bytes, in place.
fn one_echo(exchange: &mut Exchange<'_>) -> Result<(), Flow> {
    if exchange.received.is_empty() {
        return Err(Flow::Continue);
    }
    let count = exchange.received.len().min(FRAME);
    exchange.to_send.append_received(&mut exchange.received, count);
    Ok(())
}

fn echo_oracle(input: &[u8]) -> Vec<u8> {
    input.to_vec()
}

/// A byte of length, then the payload; answered as it came, or copied when its length is odd.
fn one_block(exchange: &mut Exchange<'_>) -> Result<(), Flow> {
    let Some(&length) = exchange.received.first() else { return Err(Flow::Continue) };
    let whole = 1 + usize::from(length) % FRAME;
    if exchange.received.len() < whole {
        return Err(Flow::AtLeast(whole));
    }
    if length % 2 == 0 {
        exchange.to_send.append_received(&mut exchange.received, whole);
    } else {
        exchange.to_send.append(&exchange.received[..whole]);
        exchange.received.consume(whole);
    }
    Ok(())
}

fn block_oracle(mut input: &[u8]) -> Vec<u8> {
    let mut answers = Vec::new();
    while let Some(&length) = input.first() {
        let Some((frame, rest)) = input.split_at_checked(1 + usize::from(length) % FRAME) else {
            break;
        };
        answers.extend_from_slice(frame);
        input = rest;
    }
    answers
}

/// Text up to a byte below 32, answered without it, in place and in upper case.
fn one_line(exchange: &mut Exchange<'_>) -> Result<(), Flow> {
    let Some(length) = exchange.received.iter().position(|&byte| byte < 32) else {
        return Err(Flow::Continue);
    };
    exchange.received[..length].make_ascii_uppercase();
    exchange.to_send.append_received(&mut exchange.received, length);
    exchange.received.consume(1);
    Ok(())
}

fn line_oracle(input: &[u8]) -> Vec<u8> {
    let Some(last) = input.iter().rposition(|&byte| byte < 32) else { return Vec::new() };
    input[..last].iter().filter(|&&byte| byte >= 32).map(u8::to_ascii_uppercase).collect()
}

/// Frame by frame while there is room; every so many receives it has to wait for something first.
/// `seen` is how many bytes had come when it was told that there will be no more.
fn sensible(
    one: OneFrame,
    wait_each: usize,
    seen: Rc<Cell<usize>>,
    asked: Asked,
) -> impl FnMut(Call, &mut Exchange<'_>) -> Flow {
    let (mut receives, mut consumed, mut waits) = (0, 0, false);
    let mut say = move |call: Call, exchange: &mut Exchange<'_>| match call {
        Call::Receive => {
            receives += 1;
            if receives % wait_each == 0 {
                exchange.set_timer(SECOND);
                waits = true;
                return Flow::Wait;
            }
            loop {
                let left = exchange.received.len();
                let result = one(exchange);
                consumed += left - exchange.received.len();
                match result {
                    Err(flow) => return flow,
                    Ok(()) if exchange.to_send.is_full() => return Flow::Again,
                    Ok(()) => {}
                }
            }
        }
        Call::Timer => {
            waits = false;
            Flow::Again
        }
        other => {
            // Who waits is told of a drain at once, and gives up what it has not looked at.
            let looked_at = if waits { 0 } else { exchange.received.len() };
            seen.set(consumed + looked_at);
            other.usual()
        }
    };
    move |call, exchange| {
        let flow = say(call, exchange);
        match flow {
            Flow::Continue if call != Call::Receive => {}
            Flow::Continue => asked.set(exchange.received.len() + 1),
            Flow::AtLeast(count) => asked.set(count),
            Flow::Close => asked.set(usize::MAX),
            _ => asked.set(0),
        }
        flow
    }
}

/// Long runs of letters, so that lines are longer than pieces, and everything else.
fn input() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![8 => b'a'..=b'z', 1 => any::<u8>(), 1 => 0..32_u8], 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn sensible_handlers_answer_what_their_oracles_say(
        input in input(),
        send_buffer in 0..100_usize,
        wait_each in 2..8_usize,
        operations in prop::collection::vec(any_operation(), 0..80),
    ) {
        type Oracle = fn(&[u8]) -> Vec<u8>;
        let handlers: [(OneFrame, Oracle, usize); 3] = [
            (one_echo, echo_oracle, FRAME),
            (one_block, block_oracle, FRAME),
            (one_line, line_oracle, input.len()),
        ];
        for (one, oracle, longest) in handlers {
            let seen = Rc::new(Cell::new(0));
            let limits = Limits::default().send_buffer(send_buffer);
            let asked = Rc::new(Cell::new(1));
            let say = sensible(one, wait_each, seen.clone(), asked.clone());
            let mut world = World::new(limits, &input, asked, say);
            let late = operations.iter().any(|it| matches!(it, Operation::ReceiveLate(_)));
            for &operation in &operations {
                world.operate(operation);
                let connection = &world.wire.connection;
                prop_assert!(connection.to_send().len() < send_buffer.max(1) + longest);
                prop_assert!(late || connection.held_back() < longest + 2 * PIECE);
            }
            let reason = world.finish(1000);
            prop_assert_eq!(&world.wire.sent, &oracle(&input[..seen.get()]));
            if reason == CloseReason::Finished {
                prop_assert_eq!(seen.get(), input.len());
            } else {
                prop_assert_eq!(reason, CloseReason::Drained);
            }
        }
    }

    #[test]
    fn whatever_a_handler_says_its_answers_are_sent_in_order_and_it_ends(
        input in input(),
        send_buffer in 0..100_usize,
        script in prop::collection::vec(line_of_script(), 0..60),
        operations in prop::collection::vec(any_operation(), 0..80),
        timeouts in any::<bool>(),
    ) {
        let patience = |seconds| timeouts.then_some(seconds * SECOND);
        let limits = Limits::default()
            .send_buffer(send_buffer)
            .idle_timeout(patience(20))
            .frame_timeout(patience(10))
            .write_timeout(patience(15));
        let record = Rc::new(RefCell::new(Record::default()));
        // What is closed by a timeout is not called any more, whatever it asked for.
        let asked = Rc::new(Cell::new(if timeouts { 0 } else { 1 }));
        let told = if timeouts { Rc::default() } else { asked.clone() };
        let say = scripted(input.clone(), script, record.clone(), told);
        let mut world = World::new(limits, &input, asked, say);
        for &operation in &operations {
            world.operate(operation);
        }
        let reason = world.finish(1000);
        let calls = world.wire.calls();
        let record = record.borrow();
        let sent = &world.wire.sent;
        if reason.is_cut() {
            prop_assert!(record.answers.starts_with(sent), "{}", calls);
        } else {
            prop_assert_eq!(sent, &record.answers, "{}", calls);
        }
        prop_assert_eq!(calls.matches("open").count(), 1);
        prop_assert!(calls.matches("end").count() <= 1, "{}", calls);
        prop_assert!(calls.matches("drain").count() <= 1, "{}", calls);
        if record.said_last {
            prop_assert!(calls.ends_with(&record.last), "called after its last word: {}", calls);
        }
    }
}

// ── a handler drawn at random ────────────────────────────────────────────────────────────────

/// What the handler does in one call.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Which of its answers stand in place, in order; each is of one byte.
    answers: [Option<bool>; 4],
    /// Bytes that it consumes then.
    consumes: usize,
    partial: Option<bool>,
    /// Milliseconds.
    timer: u64,
    flow: Flow,
}

fn line_of_script() -> impl Strategy<Value = Line> {
    let flow = prop_oneof![
        10 => Just(Flow::Continue),
        6 => (0..60_usize).prop_map(Flow::AtLeast),
        8 => Just(Flow::Again),
        3 => Just(Flow::Wait),
        1 => prop_oneof![
            Just(Flow::Close),
            Just(Flow::Abort),
            Just(Flow::AtLeast(usize::MAX)),
            Just(Flow::Refuse(Violation::Malformed("drawn"))),
        ],
    ];
    let answer = || prop::option::of(any::<bool>());
    let answers = [answer(), answer(), answer(), answer()];
    (answers, 0..30_usize, prop::option::of(any::<bool>()), 0..3000_u64, flow).prop_map(
        |(answers, consumes, partial, timer, flow)| Line {
            answers,
            consumes,
            partial,
            timer,
            flow,
        },
    )
}

/// What a handler drawn at random did.
#[derive(Default)]
struct Record {
    answers: Vec<u8>,
    consumed: usize,
    ended: bool,
    /// Whether it has said that it wants to close, and in which call.
    said_last: bool,
    last: String,
}

/// Follows the script, and looks at what it is given; when the script is over it consumes what
/// comes and closes with the peer.
fn scripted(
    input: Vec<u8>,
    script: Vec<Line>,
    record: Rc<RefCell<Record>>,
    asked: Asked,
) -> impl FnMut(Call, &mut Exchange<'_>) -> Flow {
    let mut script = script.into_iter();
    move |call, exchange| {
        let mut record = record.borrow_mut();
        let seen = exchange.received.len();
        assert_eq!(exchange.received[..], input[record.consumed..][..seen]);
        assert!(!record.said_last, "{call:?} after the last word");
        record.ended |= call == Call::End;
        let Some(line) = script.next() else {
            exchange.received.consume(seen);
            record.consumed += seen;
            let flow = match call {
                Call::Timer | Call::Room if !record.ended => Flow::Again,
                Call::Receive if !record.ended => Flow::Continue,
                _ => Flow::Close,
            };
            asked.set(if flow == Flow::Close { usize::MAX } else { 0 });
            return flow;
        };
        for in_place in line.answers.into_iter().flatten() {
            if in_place && !exchange.received.is_empty() {
                exchange.received[0] ^= 128;
                record.answers.push(exchange.received[0]);
                exchange.to_send.append_received(&mut exchange.received, 1);
            } else {
                record.answers.push(b'.');
                exchange.to_send.append(b".");
            }
        }
        let consumes = line.consumes.min(exchange.received.len());
        exchange.received.consume(consumes);
        record.consumed = record.consumed + seen - exchange.received.len();
        if let Some(begun) = line.partial {
            exchange.partial(begun);
        }
        // Who waits, or goes on after the peer's end, must see to it that it is called again.
        exchange.set_timer(Duration::from_millis(line.timer));
        let left = exchange.received.len();
        record.said_last = match line.flow {
            Flow::Close | Flow::Abort | Flow::Refuse(_) => true,
            Flow::AtLeast(count) => count > 1 << 30,
            _ => false,
        };
        asked.set(match (call, line.flow) {
            _ if record.said_last => usize::MAX,
            (Call::Receive, Flow::Continue) => left + 1,
            // What receive asked for stands, counted from where the unconsumed bytes begin now.
            (_, Flow::Continue) if asked.get() <= seen => 0,
            (_, Flow::Continue) if left == 0 => 1,
            (_, Flow::Continue) => asked.get() - (seen - left),
            (_, Flow::AtLeast(_)) if left == 0 => 1,
            (_, Flow::AtLeast(count)) if count > left => count,
            _ => 0,
        });
        if record.said_last {
            record.last = format!("{call:?}:{seen}").to_lowercase();
        }
        line.flow
    }
}
