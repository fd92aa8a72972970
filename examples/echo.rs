//! An echo server in twenty lines: `cargo run --example echo`, then `nc 127.0.0.1 9000`.
//! `cargo run --example echo threads 127.0.0.1:9001` is the same handler under another model.

use evmux::{Error, Exchange, Flow, Handler, Model, Peer, Server};

struct Echo;

impl Handler for Echo {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Continue
    }
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().and_then(|name| name.parse().ok()).unwrap_or(Model::Epoll);
    let address = arguments.next().unwrap_or("127.0.0.1:9000".into());
    let server = Server::builder(|_: &Peer| Echo).model(model).listen(address.as_str()).build()?;
    println!("listening on {} (model {model})", server.local_addresses()[0]);
    server.run().map(drop)
}
