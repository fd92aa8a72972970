//! Each codec beside a naive one of a few lines that takes the whole input at once, while the
//! codec gets it in pieces cut at random, through a connection whose client takes little at a time.

use evmux::codec::blocks::{self, Block};
use evmux::codec::lines::{Line, Lines};
use evmux::codec::upper;
use evmux::{Handler, Limits, services};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::talk::Talk;

// ── the oracles ──────────────────────────────────────────────────────────────────────────────────

fn upper_of(bytes: &[u8]) -> Vec<u8> {
    let mut upper = Vec::new();
    for chunk in bytes.utf8_chunks() {
        upper.extend(chunk.valid().to_uppercase().into_bytes());
        upper.extend(chunk.invalid());
    }
    upper
}

/// The answers to lines, and whether one was refused after them.
fn lines_of(bytes: &[u8], limit: usize) -> (Vec<u8>, bool) {
    let mut answers = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let payload = match line.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => line,
        };
        if payload.len() > limit {
            return (answers, true);
        }
        answers.extend(upper_of(line));
    }
    (answers, false)
}

/// The answers to blocks, and whether one was too long or cut after them.
fn blocks_of(mut bytes: &[u8], limit: usize) -> (Vec<u8>, bool) {
    let mut answers = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let length = u32::from_be_bytes(*header) as usize;
        if length > limit || length > rest.len() {
            return (answers, true);
        }
        answers.extend(block(&upper_of(&rest[..length])));
        bytes = &rest[length..];
    }
    (answers, !bytes.is_empty())
}

fn block(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

// ── what is tried ────────────────────────────────────────────────────────────────────────────────

/// Text whose letters grow, shrink, keep their length, have no case, or end a line.
fn text() -> impl Strategy<Value = String> {
    let telling = select("az ßŉﬁΐıſéжაǆⱥ漢가😀𐐨ᾳ\r\n".chars().collect::<Vec<_>>());
    vec(prop_oneof![4 => telling, 1 => any::<char>()], 0..200)
        .prop_map(|characters| characters.into_iter().collect())
}

/// Text, with bytes changed, and so often no text any more.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let telling = vec![0x80, 0xbf, 0xc0, 0xc3, 0xe0, 0xed, 0xa0, 0xf0, 0xf4, 0x90, 0xff, b'\n'];
    let byte = prop_oneof![select(telling), any::<u8>()];
    (text(), vec((any::<prop::sample::Index>(), byte), 0..8)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (place, byte) in changes {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
        }
        bytes
    })
}

/// Short lines with every kind of end.
fn short_lines() -> impl Strategy<Value = Vec<u8>> {
    vec(select(b"aa\xc3\x9f\r\r\n\n".to_vec()), 0..100)
}

/// Blocks, of which the last may be cut; now and then a header that is none.
fn some_blocks() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![bytes(), vec(any::<u8>(), 0..4)];
    let one =
        prop_oneof![9 => payload.prop_map(|payload| block(&payload)), 1 => vec(any::<u8>(), 4)];
    (vec(one, 0..6), any::<prop::sample::Index>(), any::<bool>()).prop_map(|(blocks, at, cut)| {
        let mut bytes = blocks.concat();
        if cut && !bytes.is_empty() {
            bytes.truncate(at.index(bytes.len()));
        }
        bytes
    })
}

/// How a conversation goes: the sizes of what arrives, over and over, what the client takes at a
/// time, and when the server finds that enough waits.
#[derive(Clone, Debug)]
struct Course {
    pieces: Vec<usize>,
    takes: usize,
    send_buffer: usize,
}

fn course() -> impl Strategy<Value = Course> {
    let size = || prop_oneof![1..4usize, 1..40usize, Just(usize::MAX)];
    (vec(size(), 1..8), size(), size()).prop_map(|(pieces, takes, send_buffer)| Course {
        pieces,
        takes,
        send_buffer,
    })
}

/// What is heard, and whether it ended with a refusal.
fn talk<H: Handler>(handler: H, bytes: &[u8], course: &Course, limit: usize) -> (Vec<u8>, bool) {
    let limits = Limits::default().max_frame(limit).send_buffer(course.send_buffer);
    let mut talk = Talk::with(handler, limits, course.takes);
    for piece in cut(bytes, &course.pieces) {
        talk.say(piece);
    }
    let refused = talk.finish().violation().is_some();
    (talk.heard().to_vec(), refused)
}

fn cut<'b>(mut bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(bytes.len().min(*size));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

// ── the claims ───────────────────────────────────────────────────────────────────────────────────

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn text_in_pieces_is_upper_cased_as_the_whole_is(text in text(), course in course()) {
        let (heard, _) = talk(services::Upper, text.as_bytes(), &course, 64);
        prop_assert_eq!(heard, text.to_uppercase().into_bytes());
    }

    #[test]
    fn bytes_that_are_no_text_pass_between_the_text(bytes in bytes(), course in course()) {
        let (heard, _) = talk(services::Upper, &bytes, &course, 64);
        prop_assert_eq!(heard, upper_of(&bytes));
    }

    #[test]
    fn a_whole_text_is_upper_cased_in_place_exactly_when_its_length_stays(bytes in bytes()) {
        let expected = upper_of(&bytes);
        let mut text = bytes.clone();
        match upper::in_place(&mut text) {
            None => prop_assert_eq!(text, expected),
            Some(upper) => prop_assert_eq!(upper, expected),
        }
    }

    #[test]
    fn lines_in_pieces_are_answered_as_split_finds_them(
        bytes in prop_oneof![bytes(), short_lines()],
        course in course(),
        limit in prop_oneof![1..8usize, 1..1000usize],
    ) {
        let heard = talk(services::Lines::default(), &bytes, &course, limit);
        prop_assert_eq!(heard, lines_of(&bytes, limit));
    }

    #[test]
    fn busy_answers_as_lines_does(bytes in short_lines(), course in course(), limit in 1..8usize) {
        let busy = services::busy(|| ());
        let peer = evmux::Peer::new(evmux::PeerAddress::Unix, 0);
        prop_assert_eq!(talk(busy(&peer), &bytes, &course, limit), lines_of(&bytes, limit));
    }

    #[test]
    fn blocks_in_pieces_are_answered_one_by_one(
        bytes in some_blocks(),
        course in course(),
        limit in prop_oneof![1..8usize, Just(1000)],
    ) {
        let heard = talk(services::Blocks, &bytes, &course, limit);
        prop_assert_eq!(heard, blocks_of(&bytes, limit));
    }

    #[test]
    fn a_line_is_found_wherever_it_was_cut(bytes in short_lines(), course in course()) {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let (mut start, mut end) = (0, 0);
        for piece in cut(&bytes, &course.pieces) {
            end += piece.len();
            while let Ok(Line::Whole { payload, length }) = lines.next(&bytes[start..end], 1000) {
                found.push(&bytes[start..start + payload]);
                start += length;
            }
        }
        let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
        prop_assert_eq!(Some(&bytes[start..]), expected.pop());
        let expected: Vec<_> =
            expected.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_block_never_needs_more_than_its_limit_allows(bytes in some_blocks(), limit in 0..100usize) {
        match blocks::first(&bytes, limit) {
            Ok(Block::Whole { length }) => prop_assert!((4..=bytes.len().min(4 + limit)).contains(&length)),
            Ok(Block::Partial { need }) => prop_assert!((bytes.len() + 1..=4 + limit).contains(&need)),
            Err(too_long) => prop_assert!(too_long.length > limit as u64),
        }
    }
}
