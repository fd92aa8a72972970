//! Judges what comes back, in whatever pieces it comes.

use std::collections::VecDeque;
use std::fmt;

use memchr::memchr_iter;
use serde::{Deserialize, Serialize};

use super::plan::{Framing, Plan, Verify};
use super::tape::Tape;
use crate::codec::blocks::{self, Block};

/// What is wrong with a reply. Shown in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mistake {
    /// A byte is another than it must be.
    Byte {
        /// Its place in the reply, with the head of its frame; the first is 0.
        offset: usize,
        /// What it must be.
        expected: u8,
        /// What it is.
        found: u8,
    },
    /// Bytes came that no request asked for.
    Surplus {
        /// How many were seen.
        bytes: usize,
    },
    /// A datagram has another length than its reply must have, or is nobody's reply.
    Datagram {
        /// Its length in bytes.
        length: usize,
    },
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte { offset, expected, found } => {
                write!(f, "byte {offset} is 0x{found:02x} and must be 0x{expected:02x}")
            }
            Self::Surplus { bytes } => write!(f, "{bytes} bytes too many"),
            Self::Datagram { length } => {
                write!(f, "a datagram of {length} bytes is the reply to none that was sent")
            }
        }
    }
}

/// Where the replies of one connection stand.
#[derive(Debug)]
pub(super) struct Replies {
    judge: Judge,
    /// On the tape of replies: the next byte to come.
    position: usize,
    /// So many bytes of the reply that is coming are here.
    part: usize,
}

#[derive(Clone, Debug)]
enum Judge {
    /// Every byte is compared.
    Compare,
    /// So many bytes as the request had are a reply.
    Length,
    /// A line feed ends a reply.
    Lines,
    /// The head says where a reply ends. `head` holds what has come of it, `left` the bytes of
    /// payload to come.
    Blocks { head: Vec<u8>, left: usize },
}

impl Replies {
    pub(super) fn new(plan: &Plan, position: usize) -> Self {
        let judge = match (plan.verify, plan.framing) {
            (Verify::Echo | Verify::Upper, _) => Judge::Compare,
            (Verify::Nothing, Framing::Raw) => Judge::Length,
            (Verify::Nothing, Framing::Lines) => Judge::Lines,
            (Verify::Nothing, Framing::Blocks) => Judge::Blocks { head: Vec::new(), left: 0 },
        };
        Self { judge, position, part: 0 }
    }

    /// Takes `bytes` of a stream on which `outstanding` replies are to come, and says how many are
    /// now whole.
    #[inline]
    pub(super) fn take(
        &mut self,
        tape: &Tape,
        bytes: &[u8],
        outstanding: usize,
    ) -> Result<usize, Mistake> {
        match &mut self.judge {
            Judge::Compare => self.compare(tape, bytes, outstanding),
            Judge::Length => {
                let whole = (self.part + bytes.len()) / tape.frame;
                self.part = (self.part + bytes.len()) % tape.frame;
                // Who answers with another length is not held to ours.
                if whole >= outstanding {
                    self.part = 0;
                }
                Ok(whole.min(outstanding))
            }
            Judge::Lines => Ok(memchr_iter(b'\n', bytes).count().min(outstanding)),
            Judge::Blocks { head, left } => Ok(count_blocks(head, left, bytes).min(outstanding)),
        }
    }

    #[inline]
    fn compare(&mut self, tape: &Tape, bytes: &[u8], outstanding: usize) -> Result<usize, Mistake> {
        let mut rest = bytes;
        let mut whole = 0;
        while !rest.is_empty() {
            if whole == outstanding {
                return Err(Mistake::Surplus { bytes: rest.len() });
            }
            let expected = tape.replies(self.position, rest.len().min(tape.frame - self.part));
            let (piece, behind) = rest.split_at(expected.len());
            if piece != expected {
                return Err(self.difference(piece, expected));
            }
            self.position = tape.after(self.position, piece.len());
            self.part += piece.len();
            if self.part == tape.frame {
                self.part = 0;
                whole += 1;
            }
            rest = behind;
        }
        Ok(whole)
    }

    #[cold]
    fn difference(&self, piece: &[u8], expected: &[u8]) -> Mistake {
        let same = piece.iter().zip(expected).take_while(|(found, must)| found == must).count();
        let offset = self.part + same;
        Mistake::Byte { offset, expected: expected[same], found: piece[same] }
    }

    /// Which of the requests that wait, given by their places on the tape, `datagram` answers: the
    /// first whose reply it is. Any answers the first, if replies are not compared.
    pub(super) fn find(
        &self,
        tape: &Tape,
        datagram: &[u8],
        mut waiting: impl Iterator<Item = usize>,
    ) -> Option<usize> {
        match self.judge {
            Judge::Compare => waiting.position(|place| tape.replies(place, tape.frame) == datagram),
            _ => waiting.next().map(|_| 0),
        }
    }

    /// Whether `datagram` is the reply to one of those given up.
    pub(super) fn is_late(&self, tape: &Tape, datagram: &[u8], given_up: &VecDeque<usize>) -> bool {
        !matches!(self.judge, Judge::Compare)
            || given_up.iter().any(|place| tape.replies(*place, tape.frame) == datagram)
    }
}

/// How many blocks end within `bytes`.
fn count_blocks(head: &mut Vec<u8>, left: &mut usize, bytes: &[u8]) -> usize {
    let mut whole = 0;
    let mut rest = bytes;
    while !rest.is_empty() {
        if *left > 0 {
            let taken = rest.len().min(*left);
            *left -= taken;
            rest = &rest[taken..];
        } else {
            head.push(rest[0]);
            rest = &rest[1..];
            *left = match blocks::first(head, usize::MAX) {
                Ok(Block::Partial { need: blocks::HEADER }) => continue,
                Ok(Block::Partial { need }) => need - blocks::HEADER,
                Ok(Block::Whole { .. }) | Err(_) => 0,
            };
            head.clear();
        }
        whole += usize::from(*left == 0);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(framing: Framing, verify: Verify) -> (Tape, Replies) {
        let plan = Plan { framing, verify, size: 10, ..Plan::new("127.0.0.1:9".parse().unwrap()) };
        (Tape::new(&plan), Replies::new(&plan, 0))
    }

    #[test]
    fn replies_are_whole_in_whatever_pieces_they_come() {
        for framing in Framing::ALL {
            for verify in Verify::ALL {
                let (tape, _) = replies(framing, verify);
                let stream = tape.replies(0, 5 * tape.frame);
                for piece in 1..stream.len() {
                    let (_, mut replies) = replies(framing, verify);
                    let whole = stream
                        .chunks(piece)
                        .map(|piece| replies.take(&tape, piece, 5).unwrap())
                        .sum::<usize>();
                    assert_eq!(whole, 5, "{framing:?}, {verify:?}, {piece}");
                }
            }
        }
    }

    #[test]
    fn each_wrong_byte_is_found_where_it_is() {
        for framing in Framing::ALL {
            let (tape, _) = replies(framing, Verify::Upper);
            let stream = tape.replies(0, 2 * tape.frame);
            for wrong in 0..stream.len() {
                let mut bytes = stream.to_vec();
                bytes[wrong] ^= 0x80;
                let (_, mut replies) = replies(framing, Verify::Upper);
                let mistake = replies.take(&tape, &bytes, 2).unwrap_err();
                let (expected, found) = (stream[wrong], bytes[wrong]);
                let offset = wrong % tape.frame;
                assert_eq!(mistake, Mistake::Byte { offset, expected, found });
            }
        }
    }

    #[test]
    fn a_byte_that_nobody_asked_for_is_found() {
        let (tape, mut replies) = replies(Framing::Raw, Verify::Echo);
        let mistake = replies.take(&tape, tape.replies(0, tape.frame + 1), 1);
        assert_eq!(mistake, Err(Mistake::Surplus { bytes: 1 }));
        assert_eq!(replies.take(&tape, b"x", 0), Err(Mistake::Surplus { bytes: 1 }));
    }

    #[test]
    fn an_empty_block_and_a_longer_line_are_replies_when_nothing_is_compared() {
        let (tape, mut blocks) = replies(Framing::Blocks, Verify::Nothing);
        assert_eq!(blocks.take(&tape, &[0, 0, 0, 0, 0, 0, 0, 1], 9), Ok(1));
        assert_eq!(blocks.take(&tape, &[b'x', 0, 0, 0, 0], 9), Ok(2));
        let (tape, mut lines) = replies(Framing::Lines, Verify::Nothing);
        assert_eq!(lines.take(&tape, b"a very long line, longer than it was\n\n", 9), Ok(2));
    }

    #[test]
    fn datagrams_are_told_apart_by_what_they_hold() {
        let (tape, replies) = replies(Framing::Raw, Verify::Upper);
        let third = tape.replies(20, 10).to_vec();
        assert_eq!(replies.find(&tape, &third, [0, 10, 20].into_iter()), Some(2));
        assert_eq!(replies.find(&tape, &third, [0, 10].into_iter()), None);
        assert_eq!(replies.find(&tape, &third[1..], [20].into_iter()), None);
        assert!(replies.is_late(&tape, &third, &[20].into()));
        assert!(!replies.is_late(&tape, &third, &[0].into()));
    }
}
