//! What a message costs in memory: counted by an allocator of our own, which is why these tests
//! have a binary to themselves. Echo, and rewriting in place, neither copy nor allocate between
//! receiving and sending; storage exists only while bytes wait.

#![allow(unsafe_code)]

mod wire;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use evmux::{Answer, Connection, Exchange, Flow, Handler, Lent, Limits, Moment};
use wire::{Call, Wire};

/// Counts for each thread, since the test harness has several.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(allocations: usize, bytes: isize) {
    // While a thread ends, its counters may be gone already, and nobody asks for them.
    let _ = ALLOCATIONS.try_with(|counter| counter.set(counter.get() + allocations));
    let _ = LIVE_BYTES.try_with(|counter| counter.set(counter.get() + bytes));
}

// SAFETY: every call is passed on to `System` unchanged, which keeps the contract; counting
// allocates nothing, since the counters are constants until they are first set.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller's promise for this call is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: `pointer` came from `alloc` above, and so from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        // SAFETY: as for `dealloc`; the new size is the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often `run` allocates.
fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

struct Echo;

impl Handler for Echo {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Continue
    }
}

struct Upper;

impl Handler for Upper {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.received.make_ascii_uppercase();
        Echo.receive(exchange)
    }
}

/// One byte of length, then as many bytes; answered without the length.
struct Blocks;

impl Handler for Blocks {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        while let Some(&length) = exchange.received.first() {
            let length = usize::from(length);
            if exchange.received.len() <= length {
                return Flow::AtLeast(length + 1);
            }
            exchange.received.consume(1);
            exchange.to_send.append_received(&mut exchange.received, length);
        }
        Flow::Continue
    }
}

/// An open connection, with an output that has storage already.
fn opened<H: Handler>(handler: H) -> (Connection<H>, Vec<u8>, Limits) {
    let (limits, mut output) = (Limits::default(), Vec::with_capacity(4096));
    let mut connection = Connection::new(handler, Moment::START);
    let answer = connection.open(Lent::new(&mut output, &limits, Moment::START));
    connection.keep(answer, 0, &limits, Moment::START);
    (connection, output, limits)
}

fn stands_in(answer: &Answer<'_>, start: *const u8) -> bool {
    std::ptr::eq(answer.as_slice().as_ptr(), start)
}

#[test]
fn echo_and_ascii_upper_neither_copy_nor_allocate() {
    fn check<H: Handler>(handler: H, expected: &[u8]) {
        let (mut connection, mut output, limits) = opened(handler);
        let mut input = *b"hello";
        let start = input.as_ptr();
        let lent = Lent::new(&mut output, &limits, Moment::START);
        let allocated = allocations(|| {
            let answer = connection.receive(&mut input, 0, lent);
            assert!(stands_in(&answer, start), "the answer is not the input itself");
            assert_eq!(answer.as_slice(), expected);
            connection.keep(answer, 5, &limits, Moment::START);
            assert!(connection.is_idle());
        });
        assert_eq!(allocated, 0);
    }
    check(Echo, b"hello");
    check(Upper, b"HELLO");
}

#[test]
fn an_answer_behind_a_kept_remainder_stands_in_the_input() {
    let (mut connection, mut output, limits) = opened(Blocks);
    let mut input = *b"\x04ab";
    let answer = connection.receive(&mut input, 0, Lent::new(&mut output, &limits, Moment::START));
    connection.keep(answer, 0, &limits, Moment::START);
    let mut input = *b"???cd";
    let start = input.as_ptr();
    assert_eq!(connection.front(64), 3);
    let lent = Lent::new(&mut output, &limits, Moment::START);
    let allocated = allocations(|| {
        let answer = connection.receive(&mut input, 3, lent);
        assert!(stands_in(&answer, start.wrapping_add(1)), "the answer is not the input itself");
        assert_eq!(answer.as_slice(), b"abcd");
        connection.keep(answer, 4, &limits, Moment::START);
    });
    assert_eq!(allocated, 0);
    assert!(connection.is_idle());
}

#[test]
fn an_idle_connection_owns_nothing_after_a_burst() {
    let limits = Limits::default().send_buffer(1 << 20);
    let mut wire = Wire::new(limits, |call, exchange| match call {
        Call::Receive if exchange.received.len() < 100_000 => Flow::AtLeast(100_000),
        Call::Receive => Echo.receive(exchange),
        other => other.usual(),
    });
    wire.sent.reserve(1 << 20);
    let _ = wire.calls();
    let before = LIVE_BYTES.get();
    for _ in 0..1000 {
        wire.receive(&[b'x'; 100]);
    }
    assert_eq!(wire.connection.to_send().len(), 100_000);
    assert!(LIVE_BYTES.get() - before >= 100_000);
    wire.go_on();
    assert_eq!(wire.sent.len(), 100_000);
    wire.pass(std::time::Duration::from_secs(1));
    assert!(wire.connection.is_idle());
    let _ = wire.calls();
    assert_eq!(LIVE_BYTES.get() - before, 0);
}

#[test]
fn storage_grows_with_what_came_and_not_on_a_header_s_word() {
    let mut wire = Wire::new(Limits::default(), |_, _| Flow::AtLeast(1 << 20));
    let before = LIVE_BYTES.get();
    wire.receive(b"a mebibyte follows");
    wire.assert_only_receives();
    assert!(LIVE_BYTES.get() - before < 1000);
}

#[test]
fn a_trickled_frame_is_stored_in_a_few_growing_steps() {
    let mut wire = Wire::new(Limits::default(), |_, _| Flow::AtLeast(100_000));
    let mut input = *b"x";
    let mut output = Vec::new();
    let allocated = allocations(|| {
        for _ in 0..99_999 {
            let lent = Lent::new(&mut output, &wire.limits, wire.now);
            let answer = wire.connection.receive(&mut input, 0, lent);
            wire.connection.keep(answer, 0, &wire.limits, wire.now);
        }
    });
    assert_eq!(wire.connection.held_back(), 99_999);
    assert!(allocated < 30, "{allocated} allocations");
}

#[test]
fn a_long_answer_from_owned_storage_is_moved_and_not_copied() {
    let mut wire = Wire::new(Limits::default(), |call, exchange| match call {
        Call::Receive if exchange.received.len() < 100_000 => Flow::AtLeast(100_000),
        Call::Receive => Echo.receive(exchange),
        other => other.usual(),
    });
    for _ in 0..999 {
        wire.receive(&[b'x'; 100]);
    }
    let mut input = [b'x'; 100];
    let mut output = Vec::new();
    let before = LIVE_BYTES.get();
    let lent = Lent::new(&mut output, &wire.limits, wire.now);
    let answer = wire.connection.receive(&mut input, 0, lent);
    assert!(answer.is_empty());
    wire.connection.keep(answer, 0, &wire.limits, wire.now);
    assert_eq!(wire.connection.to_send().len(), 100_000);
    assert!(LIVE_BYTES.get() - before < 1000);
}
