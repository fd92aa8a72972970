//! Bytes dropped: how fast a way of waiting can receive when it has nothing to send.

use crate::{Exchange, Flow, Handler, Peer};

/// Takes bytes and answers nothing.
#[derive(Clone, Copy, Debug)]
pub struct Discard;

/// Bytes dropped.
pub fn discard(_: &Peer) -> Discard {
    Discard
}

impl Handler for Discard {
    #[inline]
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.received.consume(count);
        Flow::Continue
    }
}
