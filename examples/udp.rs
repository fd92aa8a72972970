//! UDP beside TCP: `cargo run --example udp`, then `echo hello | nc -u -w1 127.0.0.1 9000`.
//!
//! A datagram is answered with who sent it and how long it was. It has no connection, so there is
//! no handler for each peer: one function serves them all. The same server echoes on TCP, since a
//! port of UDP and one of TCP have nothing but the number in common.

use std::io::Write;

use evmux::{Datagram, Error, Reply, Server, services};

fn describe(datagram: &mut Datagram<'_>) -> Reply {
    let (length, peer) = (datagram.received.len(), datagram.peer());
    match writeln!(datagram.to_send, "{length} bytes from {peer}") {
        Ok(()) => Reply::Send,
        Err(_) => Reply::Nothing,
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9000".into());
    let server = Server::builder(services::echo)
        .listen(address.as_str())
        .datagrams(format!("udp:{address}").as_str(), describe)
        .build()?;
    for address in server.local_addresses() {
        println!("listening on {address}");
    }
    server.run().map(drop)
}
