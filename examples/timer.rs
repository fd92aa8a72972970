//! A heartbeat: `cargo run --example timer`, then `nc 127.0.0.1 9000`, and answer now and then.
//! `cargo run --example timer 127.0.0.1:9001 500` asks each half second.
//!
//! Each connection has one timer. It asks whether the client is still there; a client that has
//! said nothing since it was asked last is sent away. No thread sleeps for it.

use std::time::Duration;

use evmux::{Error, Exchange, Flow, Handler, Peer, Server};

struct Heart {
    interval: Duration,
    alive: bool,
}

impl Handler for Heart {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.set_timer(self.interval);
        Flow::Continue
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.alive = true;
        let count = exchange.received.len();
        exchange.received.consume(count);
        Flow::Continue
    }

    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if !self.alive {
            exchange.to_send.append(b"good bye\n");
            return Flow::Close;
        }
        self.alive = false;
        exchange.to_send.append(b"still there?\n");
        exchange.set_timer(self.interval);
        Flow::Continue
    }
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:9000".into());
    let milliseconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5000);
    let interval = Duration::from_millis(milliseconds);
    let server = Server::builder(|_: &Peer| Heart { interval, alive: true })
        .listen(address.as_str())
        .build()?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run().map(drop)
}
