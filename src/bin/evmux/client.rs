//! `evmux client`: the other side of the services, a file for each.
//!
//! The library's `evmux::client` has the blocking calls; here are the arguments, stdin and stdout,
//! and the words for what goes wrong.

mod blocks;
mod http;
mod sixteen;
mod tcp;
mod udp;
mod xmlrpc;

use std::io;
use std::net::TcpStream;

use dns_lookup::SockType;
use evmux::client::ConnectError;

use crate::arguments::{ClientOptions, Endpoint};
use crate::failure::Failure;
use crate::names;

pub(crate) fn run(options: ClientOptions) -> Result<(), Failure> {
    match options {
        ClientOptions::Tcp(options) => tcp::run(&options),
        ClientOptions::Udp(options) => udp::run(&options),
        ClientOptions::Blocks { server, messages } => blocks::run(&server, &messages),
        ClientOptions::Sixteen { server } => sixteen::run(&server),
        ClientOptions::XmlRpc(options) => xmlrpc::run(&options),
        ClientOptions::Http { url, output } => http::run(&url, output.as_deref()),
    }
}

/// A connection to whichever address of `server` takes it.
fn connect(server: &Endpoint) -> Result<TcpStream, Failure> {
    let addresses = names::addresses(server, SockType::Stream)?;
    evmux::client::connect(&addresses[..]).map_err(|error| {
        let mut line = error.to_string();
        if let ConnectError::Failed { address, source, .. } = &error {
            if address.to_string() != server.to_string() {
                line = format!("{server}: {line}");
            }
            if source.kind() == io::ErrorKind::ConnectionRefused {
                line.push_str("; does a server listen there?");
            }
        }
        Failure::Run(line)
    })
}
