//! The first server of the slides: one `recv`, one answer, the end.

use crate::{CloseReason, Exchange, Flow, Handler, Peer, Service};

/// Ends a stream after the first bytes read, as if the peer had finished there.
#[derive(Clone, Copy, Debug)]
pub struct Once<H>(pub H);

/// The service of a stream, for the first bytes read of each connection.
///
/// ```
/// use evmux::services::{once, upper};
///
/// let service = once(upper);
/// ```
pub fn once<S: Service>(service: S) -> impl Fn(&Peer) -> Once<S::Handler> {
    move |peer| Once(service.handler(peer))
}

impl<H: Handler> Handler for Once<H> {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.0.open(exchange)
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        match self.0.receive(exchange) {
            // A code point that the read has cut is let out by the end.
            Flow::Continue => self.0.end(exchange),
            flow => flow,
        }
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.0.end(exchange)
    }

    fn room(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.0.room(exchange)
    }

    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.0.timer(exchange)
    }

    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.0.wake(exchange)
    }

    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.0.drain(exchange)
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.0.closed(reason);
    }
}
