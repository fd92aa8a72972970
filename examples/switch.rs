//! A connection that changes its protocol: `cargo run --example switch`, then `nc 127.0.0.1 9000` and
//! a line `echo` or `upper`. From the next byte on, the connection speaks that protocol. STARTTLS,
//! WebSocket and whatever begins with a greeting are of this kind.
//!
//! The first handler owns the second one and passes the same exchange on. What the client had sent
//! behind its line is still in it, unconsumed, and so nothing is lost however the bytes were cut.

use evmux::codec::lines::{Line, Lines};
use evmux::services::{echo, upper};
use evmux::{CloseReason, Error, Exchange, Flow, Handler, Peer, Server, Violation};

struct Switch {
    peer: Peer,
    stage: Stage,
}

enum Stage {
    Greeting(Lines),
    Chosen(Box<dyn Handler>),
}

impl Switch {
    fn greet(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let Stage::Greeting(lines) = &mut self.stage else { return Flow::Abort };
        let (payload, length) = match lines.next(&exchange.received, exchange.max_frame()) {
            Ok(Line::Whole { payload, length }) => (payload, length),
            Ok(Line::Partial) => return Flow::Continue,
            Err(too_long) => return Flow::Refuse(too_long.into()),
        };
        let mut next: Box<dyn Handler> = match &exchange.received[..payload] {
            b"echo" => Box::new(echo(&self.peer)),
            b"upper" => Box::new(upper(&self.peer)),
            _ => return Flow::Refuse(Violation::Malformed("a protocol is echo or upper")),
        };
        exchange.received.consume(length);
        exchange.to_send.append(b"go ahead\n");
        let opened = next.open(exchange);
        self.stage = Stage::Chosen(next);
        match opened {
            // Called again with what is left, even if no byte ever comes after it.
            Flow::Continue if !exchange.received.is_empty() => self.receive(exchange),
            flow => flow,
        }
    }

    /// What the chosen handler says, or `otherwise` before there is one.
    fn pass(&mut self, otherwise: Flow, call: impl FnOnce(&mut dyn Handler) -> Flow) -> Flow {
        match &mut self.stage {
            Stage::Greeting(_) => otherwise,
            Stage::Chosen(handler) => call(handler.as_mut()),
        }
    }
}

impl Handler for Switch {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        match &mut self.stage {
            Stage::Greeting(_) => self.greet(exchange),
            Stage::Chosen(handler) => handler.receive(exchange),
        }
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass(Flow::Close, |handler| handler.end(exchange))
    }

    fn room(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass(Flow::Continue, |handler| handler.room(exchange))
    }

    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass(Flow::Continue, |handler| handler.timer(exchange))
    }

    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass(Flow::Continue, |handler| handler.wake(exchange))
    }

    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.pass(Flow::Close, |handler| handler.drain(exchange))
    }

    fn closed(&mut self, reason: &CloseReason) {
        if let Stage::Chosen(handler) = &mut self.stage {
            handler.closed(reason);
        }
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9000".into());
    let service =
        |peer: &Peer| Switch { peer: peer.clone(), stage: Stage::Greeting(Lines::default()) };
    let server = Server::builder(service).listen(address.as_str()).build()?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run().map(drop)
}
