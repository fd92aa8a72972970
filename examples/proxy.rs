//! A TCP proxy: `cargo run --example proxy -- 127.0.0.1:9001 127.0.0.1:9000` listens at the first
//! address and passes everything on to the second.
//!
//! The two ends of a connection are two handlers of one reactor. They share a pipe, an `Rc`, that
//! holds at most 64 KiB for each direction. Who finds it full waits, and its peer is no longer
//! read from; who has taken something out of it wakes the other. So a slow reader at one end slows
//! the sender at the other, and nothing piles up here.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use evmux::{
    Address, CloseReason, ConnectOptions, ConnectionId, Exchange, Flow, Handler, Limits, Local,
    Peer, Server, Target,
};

/// What one direction may hold.
const PIPE: usize = 64 * 1024;

/// What the two ends share; the side that listens to the client is 0, the other one 1.
#[derive(Default)]
struct Pipe {
    sides: [Side; 2],
}

#[derive(Default)]
struct Side {
    id: Option<ConnectionId>,
    /// What this side is to send.
    to_send: Vec<u8>,
    /// This side's peer has finished.
    ended: bool,
    /// This side waits, because there is no room in the other side's `to_send`.
    waits: bool,
    closed: bool,
}

/// One end of a proxied connection.
struct End {
    pipe: Rc<RefCell<Pipe>>,
    side: usize,
    local: Local<End>,
    /// The client's end connects to the server when it is opened.
    upstream: Option<Vec<Target>>,
    finished: bool,
}

impl End {
    fn notify(&self, id: Option<ConnectionId>) {
        if let Some(id) = id {
            self.local.wake(id);
        }
    }

    /// Moves what the other side has received into what this one sends.
    fn forward(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let mut pipe = self.pipe.borrow_mut();
        let [first, second] = &mut pipe.sides;
        let (mine, other) = if self.side == 0 { (first, second) } else { (second, first) };
        if !exchange.to_send.is_full() && !mine.to_send.is_empty() {
            exchange.to_send.append(&mine.to_send);
            mine.to_send.clear();
            if other.waits {
                other.waits = false;
                self.notify(other.id);
            }
        }
        let all_came = (other.ended || other.closed) && mine.to_send.is_empty();
        match (all_came, mine.ended || other.closed) {
            (true, true) => Flow::Close,
            (true, false) if !self.finished => {
                self.finished = true;
                Flow::Finish
            }
            // What made this side wait is over, unless it still is.
            _ if mine.waits => Flow::Continue,
            _ => Flow::Again,
        }
    }
}

impl Handler for End {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let Some(targets) = self.upstream.take() else { return self.forward(exchange) };
        let (pipe, local) = (Rc::clone(&self.pipe), self.local.clone());
        self.local.connect(targets, ConnectOptions::default(), move |peer: &Peer| {
            pipe.borrow_mut().sides[1].id = peer.id;
            End { pipe, side: 1, local, upstream: None, finished: false }
        });
        Flow::Continue
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let mut pipe = self.pipe.borrow_mut();
        let other = &mut pipe.sides[1 - self.side];
        let count = exchange.received.len().min(PIPE - other.to_send.len());
        other.to_send.extend_from_slice(&exchange.received[..count]);
        exchange.received.consume(count);
        exchange.partial(false);
        if count > 0 {
            self.notify(other.id);
        }
        if exchange.received.is_empty() {
            return Flow::Continue;
        }
        pipe.sides[self.side].waits = true;
        Flow::Wait
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let id = {
            let mut pipe = self.pipe.borrow_mut();
            pipe.sides[self.side].ended = true;
            pipe.sides[1 - self.side].id
        };
        self.notify(id);
        match self.forward(exchange) {
            Flow::Again => Flow::Continue,
            flow => flow,
        }
    }

    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.forward(exchange)
    }

    fn room(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.forward(exchange)
    }

    /// A proxied connection goes on until one of its ends is over, or the drain timeout.
    fn drain(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Continue
    }

    fn closed(&mut self, _: &CloseReason) {
        let other = {
            let mut pipe = self.pipe.borrow_mut();
            pipe.sides[self.side].closed = true;
            pipe.sides[1 - self.side].id
        };
        self.notify(other);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or("127.0.0.1:9001".into());
    let upstream: Address = arguments.next().unwrap_or("127.0.0.1:9000".into()).parse()?;
    // Names are looked up here, once, and never by the loop.
    let targets: Vec<SocketAddr> = upstream.resolve()?;

    let local = Local::new();
    let for_service = local.clone();
    let service = move |peer: &Peer| {
        let pipe = Rc::new(RefCell::new(Pipe::default()));
        pipe.borrow_mut().sides[0].id = peer.id;
        let upstream = Some(targets.iter().copied().map(Target::from).collect());
        End { pipe, side: 0, local: for_service.clone(), upstream, finished: false }
    };
    let limits = Limits::default().send_buffer(PIPE);
    let server = Server::builder(service).limits(limits).listen(listen.as_str()).build()?;
    println!("listening on {}, for {upstream}", server.local_addresses()[0]);
    server.run_local(&local)?;
    Ok(())
}
