//! Pages: `cargo run --example http`, then <http://127.0.0.1:9000> in a browser, or curl, or
//! telnet.
//!
//! HTTP is a handler like any other, so pages are served under every model, beside other services,
//! with the same limits. What all connections share is an `Arc` in the function that answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evmux::codec::http1::Request;
use evmux::services::{Http, Response};
use evmux::{Error, Peer, Server};

fn page(request: &Request<'_>, visits: &AtomicU64) -> Response {
    match (request.method, request.path()) {
        ("GET" | "HEAD", "/") => {
            let visit = visits.fetch_add(1, Ordering::Relaxed) + 1;
            Response::html(format!("<!DOCTYPE html>\n<title>evmux</title>\nvisit {visit}\n"))
        }
        ("GET" | "HEAD", "/visits.json") => {
            let visits = visits.load(Ordering::Relaxed);
            Response::new("application/json", format!("{{\"visits\": {visits}}}\n"))
                .header("Cache-Control", "no-store")
        }
        ("POST", "/shout") => Response::text(request.body.to_ascii_uppercase()),
        (_, "/" | "/visits.json") => Response::error(405).header("Allow", "GET, HEAD"),
        (_, "/shout") => Response::error(405).header("Allow", "POST"),
        _ => Response::error(404),
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9000".into());
    let visits = Arc::new(AtomicU64::new(0));
    let service = move |_: &Peer| {
        let visits = Arc::clone(&visits);
        Http::new(move |request: &Request<'_>| page(request, &visits))
    };
    let server = Server::builder(service).listen(address.as_str()).build()?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run().map(drop)
}
