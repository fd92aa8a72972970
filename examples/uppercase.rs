//! A server with limits of its own: `cargo run --example uppercase`, then `nc 127.0.0.1 9000`.
//!
//! Each line comes back in upper case. What a client may use of memory and time has defaults; a
//! server that faces strangers says what it is ready to give. A line that is too long is refused,
//! and what was asked before it is answered all the same.

use std::time::Duration;

use evmux::codec::lines::{Line, Lines};
use evmux::codec::upper;
use evmux::{Error, Exchange, Flow, Handler, Limits, Peer, Server};

#[derive(Default)]
struct Upper {
    lines: Lines,
}

impl Handler for Upper {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            // Upper case may be longer than what it was made of, and the reader slow.
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
            match self.lines.next(&exchange.received, exchange.max_frame()) {
                Ok(Line::Whole { length, .. }) => {
                    upper::answer_whole(&mut exchange.received, &mut exchange.to_send, length);
                }
                Ok(Line::Partial) => return Flow::Continue,
                Err(too_long) => return Flow::Refuse(too_long.into()),
            }
        }
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9000".into());
    let limits = Limits::default()
        .max_frame(1024)
        .send_buffer(16 * 1024)
        .frame_timeout(Some(Duration::from_secs(10)))
        .write_timeout(Some(Duration::from_secs(10)))
        .idle_timeout(Some(Duration::from_secs(60)));
    let server = Server::builder(|_: &Peer| Upper::default())
        .limits(limits)
        .max_connections(1000)
        .listen(address.as_str())
        .build()?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run().map(drop)
}
