//! What the codecs cost without anything around them; `upper` beside `str::to_uppercase`, which
//! is given the same text as a `str` and returns a new one.
//!
//! `cargo bench --no-default-features --bench codecs`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use evmux::codec::blocks::{self, Block, HEADER};
use evmux::codec::lines::{Line, Lines};
use evmux::codec::upper;

const KIBIBYTE: usize = 1024;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    upper_case(&mut criterion);
    frames(&mut criterion);
    criterion.final_summary();
}

/// As much of `text` as is near `length` and ends with a character, again and again.
fn repeated(text: &str, length: usize) -> String {
    text.chars()
        .cycle()
        .scan(0, |bytes, letter| {
            *bytes += letter.len_utf8();
            (*bytes <= length).then_some(letter)
        })
        .collect()
}

fn upper_case(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("upper");
    for (name, text) in [
        ("ascii", "the quick brown fox jumps over the lazy dog 0123456789\n"),
        // The length of each letter stays.
        ("latin and cyrillic", "Grüße aus Köln, привет мир; naïve café, Ærøskøbing\n"),
        // A letter now and then becomes two.
        ("growing", "Die Straße ist groß und weiß, der Maßstab heißt Fußmaß\n"),
    ] {
        let text = repeated(text, KIBIBYTE);
        group.throughput(Throughput::Bytes(text.len() as u64));
        let received = text.clone().into_bytes();
        group.bench_with_input(BenchmarkId::new("evmux", name), &received, |bencher, received| {
            let fresh = || received.clone();
            bencher.iter_batched_ref(fresh, |text| upper::in_place(text), BatchSize::SmallInput);
        });
        group.bench_with_input(BenchmarkId::new("to_uppercase", name), &text, |bencher, text| {
            let fresh = || text.clone();
            bencher.iter_batched_ref(fresh, |text| text.to_uppercase(), BatchSize::SmallInput);
        });
        let expected = text.to_uppercase().into_bytes();
        let mut rewritten = received.clone();
        let answered = upper::in_place(&mut rewritten).unwrap_or(rewritten);
        assert!(answered == expected, "{name}: another upper case than that of Rust");
    }
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    let text = "a line of sixty-four bytes, with its line feed at the end of it\n".repeat(16);
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("16 lines of 64 bytes", |bencher| {
        bencher.iter(|| {
            let (mut lines, mut rest) = (Lines::default(), black_box(text.as_bytes()));
            let mut payloads = 0;
            while let Ok(Line::Whole { payload, length }) = lines.next(rest, KIBIBYTE) {
                payloads += payload;
                rest = &rest[length..];
            }
            payloads
        });
    });
    let mut stream = Vec::new();
    for _ in 0..16 {
        stream.extend_from_slice(&60_u32.to_be_bytes());
        stream.extend_from_slice(&[b'x'; 60]);
    }
    group.bench_function("16 blocks of 64 bytes", |bencher| {
        bencher.iter(|| {
            let mut rest = black_box(stream.as_slice());
            let mut payloads = 0;
            while let Ok(Block::Whole { length }) = blocks::first(rest, KIBIBYTE) {
                payloads += length - HEADER;
                rest = &rest[length..];
            }
            payloads
        });
    });
    group.finish();
}
