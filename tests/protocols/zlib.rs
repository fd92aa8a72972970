//! What the service `zlib` promises: one stream, whole or visibly not.

use std::io::{self, Read};

use evmux::services::{Zlib, zlib};
use evmux::{CloseReason, Limits, Peer, PeerAddress, Violation};
use flate2::read::ZlibDecoder;

use crate::talk::Talk;

fn nobody() -> Peer {
    Peer::new(PeerAddress::Unix, 0)
}

fn decompressed(stream: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = ZlibDecoder::new(stream);
    let mut bytes = Vec::new();
    decoder.read_to_end(&mut bytes)?;
    assert_eq!(decoder.total_in(), stream.len() as u64, "something stands behind the stream");
    Ok(bytes)
}

/// Bytes that cannot be compressed, always the same.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        // Numerical Recipes' generator; its upper byte has no short period.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn everything_until_the_end_comes_back_as_one_stream() {
    let text = b"A very long test string to evaluate compression".repeat(2000);
    for bytes in [&b"x"[..], &text, &noise(300_000)] {
        let mut talk = Talk::with(zlib(&nobody()), Limits::default(), 1000);
        assert_eq!(talk.say(bytes).reason(), CloseReason::Finished);
        assert_eq!(decompressed(talk.heard()).expect("a whole stream"), bytes);
    }
    let mut talk = Talk::new(zlib(&nobody()));
    assert_eq!(talk.say(&text).reason(), CloseReason::Finished);
    assert!(talk.heard().len() < text.len() / 50, "{}", talk.heard().len());
}

#[test]
fn the_end_of_nothing_is_an_empty_stream() {
    let mut talk = Talk::new(zlib(&nobody()));
    assert_eq!(talk.reason(), CloseReason::Finished);
    assert_eq!(decompressed(talk.heard()).expect("a whole stream"), b"");
}

#[test]
fn what_comes_is_answered_while_it_comes() {
    let mut talk = Talk::new(zlib(&nobody()));
    let half = noise(500_000);
    let heard = talk.say(&half).heard().len();
    assert!(heard > 400_000, "{heard}");
    assert_eq!(talk.most_waiting(), 0);
}

#[test]
fn past_the_limit_the_stream_breaks_off_without_its_end() {
    let limits = Limits::default().max_frame(100_000);
    let mut talk = Talk::with(zlib(&nobody()), limits.clone(), usize::MAX);
    assert_eq!(talk.say(&noise(100_000)).reason(), CloseReason::Finished);
    assert_eq!(decompressed(talk.heard()).expect("a whole stream"), noise(100_000));

    let mut talk = Talk::with(zlib(&nobody()), limits, usize::MAX);
    let violation = talk.say(&noise(100_001)).violation();
    assert_eq!(violation, Some(Violation::TooLong { length: 100_001, limit: 100_000 }));
    let broken = decompressed(talk.heard()).expect_err("it is not whole");
    assert_eq!(broken.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn the_whole_input_is_a_frame_that_must_end_in_time() {
    let mut talk = Talk::new(zlib(&nobody()));
    assert_eq!(talk.deadline(), None);
    let deadline = talk.say(b"x").deadline();
    assert!(deadline.is_some());
    assert_eq!(talk.say(b"y").deadline(), deadline);
}

#[test]
fn who_has_said_nothing_costs_no_compressor() {
    assert_eq!(size_of::<Zlib>(), size_of::<usize>());
    assert_eq!(Talk::new(zlib(&nobody())).drain().heard(), b"");
}
