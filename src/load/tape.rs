//! The bytes of all requests, and what must come back for them.
//!
//! The requests stand one behind the other on a tape that is made before anything is measured; a
//! connection begins somewhere on it, goes on frame by frame, and from the end to the beginning.
//!
//! ```text
//!   requests  | frame 0 | frame 1 | frame 2 | …     drawn from the seed, each another one
//!                  ^ connection 7 sends from here: no copy, and several in one call
//!   replies   | frame 0 | frame 1 | frame 2 | …     what must come back, byte for byte
//!                  ^ and compares here: no parsing, whatever pieces they come in
//! ```
//!
//! Since no two frames are alike, a server that answers one connection with the bytes of another,
//! or twice with the same, is found out, and not only one that damages bytes. With payloads of one
//! or two bytes that is left to luck.

use super::plan::{Framing, Plan, Verify};
use crate::codec::blocks;

/// All requests and their replies.
#[derive(Debug)]
pub(super) struct Tape {
    requests: Vec<u8>,
    /// Empty when replies are the same as requests, or are not compared.
    other_replies: Vec<u8>,
    /// Bytes of a request, and of its reply: upper case of ASCII is not longer.
    pub(super) frame: usize,
    frames: usize,
}

impl Tape {
    pub(super) fn new(plan: &Plan) -> Self {
        let frame = plan.framed_size();
        let frames = (LENGTH / frame).max(FEWEST);
        let mut random = Random::new(plan.seed);
        let letters = alphabet(plan);
        let mut requests = Vec::with_capacity(frames * frame);
        let mut other_replies = Vec::new();
        for _ in 0..frames {
            let begin = requests.len();
            if plan.framing == Framing::Blocks {
                // The largest payload of a plan has a header.
                requests.extend(blocks::header(plan.size).unwrap_or_default());
            }
            let payload = requests.len();
            requests.extend((0..plan.size).map(|_| letters[random.below(letters.len())]));
            let end = requests.len();
            if plan.framing == Framing::Lines {
                requests.push(b'\n');
            }
            if plan.verify == Verify::Upper {
                other_replies.extend_from_slice(&requests[begin..payload]);
                other_replies.extend(requests[payload..end].iter().map(u8::to_ascii_uppercase));
                other_replies.extend_from_slice(&requests[end..]);
            }
        }
        Self { requests, other_replies, frame, frames }
    }

    /// Where a connection begins: a byte position, of a frame.
    pub(super) fn begin(&self, random: &mut Random) -> usize {
        random.below(self.frames) * self.frame
    }

    /// Up to `length` bytes of requests from `position`, at least one frame of them, if `position`
    /// is where one begins.
    pub(super) fn requests(&self, position: usize, length: usize) -> &[u8] {
        piece(&self.requests, position, length)
    }

    /// Up to `length` bytes of replies from `position`, likewise.
    pub(super) fn replies(&self, position: usize, length: usize) -> &[u8] {
        let replies =
            if self.other_replies.is_empty() { &self.requests } else { &self.other_replies };
        piece(replies, position, length)
    }

    /// The position `count` bytes behind `position`; `count` is at most the whole tape.
    pub(super) fn after(&self, position: usize, count: usize) -> usize {
        let next = position + count;
        if next >= self.requests.len() { next - self.requests.len() } else { next }
    }
}

/// Enough that connections do not soon stand at the same place, and not more than the processor's
/// caches hold.
const LENGTH: usize = 1 << 20;
/// However large they are: the one before, the one after and the neighbour's are others.
const FEWEST: usize = 4;

fn piece(bytes: &[u8], position: usize, length: usize) -> &[u8] {
    &bytes[position..bytes.len().min(position + length)]
}

/// What payloads are made of: as much as the framing and the judge allow.
fn alphabet(plan: &Plan) -> Vec<u8> {
    let text = plan.framing == Framing::Lines || plan.verify != Verify::Echo;
    if text {
        // No white space: some servers strip it from the ends of lines.
        (b'!'..=b'~').collect()
    } else {
        (0..=u8::MAX).collect()
    }
}

/// Numbers from a seed. SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The high half of the product is as even as 64 bits can be.
        ((u128::from(mixed) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn plan(framing: Framing, verify: Verify, size: usize) -> Plan {
        Plan { framing, verify, size, ..Plan::new("127.0.0.1:9".parse().unwrap()) }
    }

    #[test]
    fn no_two_frames_are_alike() {
        for framing in Framing::ALL {
            for (verify, size) in [(Verify::Echo, 64), (Verify::Upper, 16), (Verify::Echo, 300_000)]
            {
                let tape = Tape::new(&plan(framing, verify, size));
                let frames: HashSet<_> = tape.requests.chunks(tape.frame).collect();
                assert_eq!(frames.len(), tape.frames);
                assert!(tape.frames >= FEWEST);
            }
        }
    }

    #[test]
    fn replies_are_what_the_standard_library_says_is_upper_case() {
        for framing in Framing::ALL {
            let tape = Tape::new(&plan(framing, Verify::Upper, 100));
            let skip = if framing == Framing::Blocks { blocks::HEADER } else { 0 };
            for position in (0..tape.requests.len()).step_by(tape.frame) {
                let request = &tape.requests(position, tape.frame)[skip..];
                let reply = &tape.replies(position, tape.frame)[skip..];
                let text = std::str::from_utf8(request).unwrap();
                assert_eq!(text.to_uppercase().as_bytes(), reply);
                assert_ne!(request, reply);
            }
        }
    }

    #[test]
    fn frames_are_read_back_by_the_codecs() {
        use crate::codec::blocks::Block;
        use crate::codec::lines::{Line, Lines};

        let tape = Tape::new(&plan(Framing::Blocks, Verify::Echo, 10));
        let block = blocks::first(tape.requests(14, 28), 10);
        assert_eq!(block, Ok(Block::Whole { length: 14 }));
        let tape = Tape::new(&plan(Framing::Lines, Verify::Echo, 10));
        let line = Lines::default().next(tape.requests(11, 22), 10);
        assert_eq!(line, Ok(Line::Whole { payload: 10, length: 11 }));
    }

    #[test]
    fn the_tape_goes_on_from_its_end_to_its_beginning() {
        let tape = Tape::new(&plan(Framing::Raw, Verify::Echo, 64));
        let end = tape.requests.len();
        assert_eq!(tape.requests(end - 64, 1000).len(), 64);
        assert_eq!(tape.after(end - 64, 64), 0);
        assert_eq!(tape.after(end - 64, 65), 1);
        assert_eq!(tape.after(0, 64), 64);
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes() {
        let plan = plan(Framing::Raw, Verify::Echo, 64);
        assert_eq!(Tape::new(&plan).requests, Tape::new(&plan).requests);
        let other = Plan { seed: 2, ..plan.clone() };
        assert_ne!(Tape::new(&plan).requests, Tape::new(&other).requests);
    }
}
