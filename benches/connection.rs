//! A step of a `Connection` without sockets: bytes are handed in, the answer is taken, and all of
//! it counts as sent. What the engine costs when the kernel costs nothing.
//!
//! `cargo bench --no-default-features --bench connection`. A step works on the same bytes again,
//! so they are in the cache, and those of `upper` are in upper case from the second one on.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use evmux::services::{Blocks, Echo, Upper};
use evmux::{Connection, Handler, Lent, Limits, Moment};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let text = |length: usize| b"the quick brown fox ".repeat(length / 20 + 1)[..length].to_vec();
    let block = [&60_u32.to_be_bytes()[..], &[b'x'; 60]].concat();
    step(&mut criterion, "echo, 64 B", Echo, text(64));
    step(&mut criterion, "echo, 16 KiB", Echo, text(16 * 1024));
    step(&mut criterion, "upper, 1 KiB", Upper, text(1024));
    step(&mut criterion, "blocks, 1 of 64 B", Blocks, block.clone());
    step(&mut criterion, "blocks, 16 of 64 B in one piece", Blocks, block.repeat(16));
    part(&mut criterion, "blocks, 1 of 64 B in two pieces", Blocks, &block, 30);
    waits(&mut criterion, "echo, 64 B, the peer takes 32 first", Echo, text(64));
    criterion.final_summary();
}

struct Stage<H> {
    connection: Connection<H>,
    output: Vec<u8>,
    limits: Limits,
}

impl<H: Handler> Stage<H> {
    fn new(handler: H) -> Self {
        let (limits, mut output) = (Limits::default(), Vec::new());
        let limits = limits.idle_timeout(Some(Duration::from_secs(60)));
        let mut connection = Connection::new(handler, Moment::START);
        let answer = connection.open(Lent::new(&mut output, &limits, Moment::START));
        connection.keep(answer, 0, &limits, Moment::START);
        Self { connection, output, limits }
    }

    /// How many bytes were answered; of them, as many as `takes` says were sent.
    fn receive(&mut self, bytes: &mut [u8], front: usize, takes: usize) -> usize {
        let lent = Lent::new(&mut self.output, &self.limits, Moment::START);
        let answer = self.connection.receive(bytes, front, lent);
        let answered = black_box(answer.as_slice()).len();
        self.connection.keep(answer, answered.min(takes), &self.limits, Moment::START);
        answered
    }
}

fn step(criterion: &mut Criterion, name: &str, handler: impl Handler, mut bytes: Vec<u8>) {
    let mut stage = Stage::new(handler);
    let mut group = criterion.benchmark_group("connection");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| stage.receive(black_box(&mut bytes), 0, usize::MAX));
    });
    assert_eq!(stage.receive(&mut bytes, 0, usize::MAX), bytes.len());
    assert!(stage.connection.is_idle());
}

/// The first `cut` bytes come alone.
fn part(criterion: &mut Criterion, name: &str, handler: impl Handler, bytes: &[u8], cut: usize) {
    let mut stage = Stage::new(handler);
    let mut scratch = bytes.to_vec();
    let mut group = criterion.benchmark_group("connection");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            stage.receive(&mut scratch[..cut], 0, usize::MAX);
            let front = stage.connection.front(65536);
            scratch[front..].copy_from_slice(&bytes[cut..]);
            let answered = stage.receive(&mut scratch, front, usize::MAX);
            scratch.copy_from_slice(bytes);
            answered
        });
    });
    assert!(stage.connection.is_idle());
}

/// The peer takes half, and the rest after a while.
fn waits(criterion: &mut Criterion, name: &str, handler: impl Handler, mut bytes: Vec<u8>) {
    let mut stage = Stage::new(handler);
    let half = bytes.len() / 2;
    let mut group = criterion.benchmark_group("connection");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            stage.receive(&mut bytes, 0, half);
            let waiting = black_box(stage.connection.to_send()).len();
            stage.connection.sent(waiting, &stage.limits, Moment::START);
            waiting
        });
    });
    assert!(stage.connection.is_idle());
}
