//! Frames of a fixed length: the slides' server that takes sixteen octets, says farewell and
//! closes.
//!
//! A fixed length needs neither a header nor a delimiter, and knows when a message is cut short:
//! the slides raise an error then and end the server; here it is a
//! [`Violation::Truncated`], which closes this connection and is told in the log.

use crate::{Exchange, Flow, Handler, Peer, Violation};

/// Takes [`Sixteen::OCTETS`] octets, in whatever pieces, and answers with as many:
/// [`Sixteen::FAREWELL`]. Octets behind them are not listened to. Who finishes before them gets no
/// answer.
#[derive(Clone, Copy, Debug)]
pub struct Sixteen;

impl Sixteen {
    /// The length of a message.
    pub const OCTETS: usize = 16;
    /// The answer to it.
    pub const FAREWELL: [u8; Self::OCTETS] = *b"Farewell, client";
}

/// Sixteen octets in, sixteen out.
pub fn sixteen(_: &Peer) -> Sixteen {
    Sixteen
}

impl Handler for Sixteen {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if exchange.received.len() < Self::OCTETS {
            return Flow::AtLeast(Self::OCTETS);
        }
        exchange.received.consume(Self::OCTETS);
        exchange.to_send.append(&Self::FAREWELL);
        Flow::Close
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        Flow::Refuse(Violation::Truncated {
            received: exchange.received.len() as u64,
            expected: Self::OCTETS as u64,
        })
    }
}
