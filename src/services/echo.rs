//! Bytes back unchanged: the smallest service, and what a way of waiting is measured with.

use crate::{Exchange, Flow, Handler, Peer};

/// Answers bytes with themselves. They are never copied on the way.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

/// Bytes back unchanged.
pub fn echo(_: &Peer) -> Echo {
    Echo
}

impl Handler for Echo {
    #[inline]
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Continue
    }
}
