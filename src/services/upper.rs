//! The server of the slides: upper case of whatever comes, as it comes.
//!
//! A read may end within a code point. Its bytes stay received until the rest has come, so the
//! handler itself remembers nothing.

use crate::codec::upper;
use crate::{Exchange, Flow, Handler, Peer};

/// Answers text with its upper case; see [`codec::upper`](crate::codec::upper).
#[derive(Clone, Copy, Debug)]
pub struct Upper;

/// Text in upper case.
pub fn upper(_: &Peer) -> Upper {
    Upper
}

impl Handler for Upper {
    #[inline]
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        upper::answer(&mut exchange.received, &mut exchange.to_send);
        // A code point that stays begun is no frame: nobody is timed out for it.
        exchange.partial(false);
        Flow::Continue
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        give_back(exchange)
    }

    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        give_back(exchange)
    }
}

/// What was cut off will never be whole: it comes back as it is.
fn give_back(exchange: &mut Exchange<'_>) -> Flow {
    let cut_off = exchange.received.len();
    exchange.to_send.append_received(&mut exchange.received, cut_off);
    Flow::Close
}
