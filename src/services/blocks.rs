//! Frames with a length: each block comes back in upper case, with the length that it has then.

use crate::codec::blocks::{self, Block, HEADER};
use crate::codec::upper;
use crate::{Exchange, Flow, Handler, Peer, Violation};

/// Answers each block with its upper case. A block is a text of its own: a code point cut off at
/// its end does not go on in the next one.
#[derive(Clone, Copy, Debug)]
pub struct Blocks;

/// Blocks in upper case.
pub fn blocks(_: &Peer) -> Blocks {
    Blocks
}

impl Handler for Blocks {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            let answered = match blocks::first(&exchange.received, exchange.max_frame()) {
                Ok(Block::Whole { length }) => answer(exchange, length),
                Ok(Block::Partial { need }) => return Flow::AtLeast(need),
                Err(too_long) => Err(too_long.into()),
            };
            if let Err(violation) = answered {
                return Flow::Refuse(violation);
            }
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
        }
    }

    /// A block that was cut gets no answer, and is told from the end between two blocks.
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let received = exchange.received.len();
        match blocks::first(&exchange.received, exchange.max_frame()) {
            Ok(Block::Partial { need }) if received > 0 => Flow::Refuse(Violation::Truncated {
                received: received as u64,
                expected: need as u64,
            }),
            _ => Flow::Close,
        }
    }
}

/// Answers the block of `length` bytes in front: where it stands if its length stays.
#[inline]
fn answer(exchange: &mut Exchange<'_>, length: usize) -> Result<(), Violation> {
    match upper::in_place(&mut exchange.received[HEADER..length]) {
        None => exchange.to_send.append_received(&mut exchange.received, length),
        Some(payload) => {
            // Three times a payload of more than 1 GiB would not fit.
            exchange.to_send.append(&blocks::header(payload.len())?);
            exchange.to_send.append(&payload);
            exchange.received.consume(length);
        }
    }
    Ok(())
}
