//! `evmux client`: its commands, and what they amount to.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use evmux::client::RequestOptions;
use evmux::codec::xmlrpc::Value;

use super::Usage;
use super::endpoint::{Endpoint, Over};
use super::given::Given;
use super::read::{switch, timeout};
use super::xmlrpc_value;

/// All that `evmux client` was asked for.
pub(crate) enum ClientOptions {
    Tcp(TcpOptions),
    Udp(UdpOptions),
    Blocks { server: Endpoint, messages: Vec<OsString> },
    Sixteen { server: Endpoint },
    XmlRpc(XmlRpcOptions),
    Http { url: String, output: Option<PathBuf> },
}

pub(crate) struct TcpOptions {
    pub(crate) server: Endpoint,
    /// Standard input without it.
    pub(crate) message: Option<OsString>,
    /// Whole lines only, in both directions.
    pub(crate) lines: bool,
}

pub(crate) struct UdpOptions {
    pub(crate) server: Endpoint,
    pub(crate) message: OsString,
    pub(crate) request: RequestOptions,
    /// Whether `request` allows it.
    pub(crate) broadcast: bool,
}

pub(crate) struct XmlRpcOptions {
    /// With its path.
    pub(crate) url: String,
    pub(crate) method: String,
    pub(crate) arguments: Vec<Value>,
}

/// Ask a server
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Clients,
}

#[derive(Subcommand)]
enum Clients {
    Tcp(Tcp),
    Udp(Udp),
    Blocks(Blocks),
    Sixteen(Sixteen),
    Xmlrpc(XmlRpc),
    Http(Http),
}

const AFTER_HELP: &str = "\
HOST is a name or an address, IPv6 in brackets; each address of a name is tried. PORT is a number or \
the name of a service, as http. A message that begins with a hyphen and is no number stands behind \
--.

Exit status: 0 with the answer on stdout, 1 when there is none, 2 for a mistake in the arguments.";

/// Send a message or standard input over TCP, and print what comes back
///
/// It prints while it sends, tells the server the end of what it sends, and ends with the server.
#[derive(Args)]
struct Tcp {
    /// The server
    #[arg(value_name = "HOST:PORT")]
    server: String,

    /// What to send [default: standard input]
    #[arg(allow_negative_numbers = true)]
    message: Option<OsString>,

    /// Whole lines only, as telnet: a line is sent when it is complete, and printed when it is; a
    /// MESSAGE gets a line end
    #[arg(long, env = "EVMUX_LINES", action = clap::ArgAction::SetTrue)]
    lines: Given,
}

/// Send a datagram until an answer comes, and print that
///
/// Each wait for an answer is twice as long as the one before. The answer gets a line end if it has
/// none.
#[derive(Args)]
struct Udp {
    /// The server
    #[arg(value_name = "HOST:PORT")]
    server: String,

    /// What to send, at most 65,507 bytes
    #[arg(allow_negative_numbers = true)]
    message: OsString,

    /// The first wait
    #[arg(long, env = "EVMUX_RETRY_AFTER", value_name = "DURATION", default_value = "100ms")]
    retry_after: Given,

    /// The longest wait, or never; when a longer one is due, the server seems down. By default,
    /// five datagrams in 3.1 seconds
    #[arg(long, env = "EVMUX_GIVE_UP_AFTER", value_name = "DURATION", default_value = "2s")]
    give_up_after: Given,

    /// HOST may be a broadcast address; the first answer is printed
    #[arg(long, env = "EVMUX_BROADCAST", action = clap::ArgAction::SetTrue)]
    broadcast: Given,
}

/// Send blocks, each a 4-byte length and so many bytes, and print their answers, each on a line
#[derive(Args)]
struct Blocks {
    /// The server
    #[arg(value_name = "HOST:PORT")]
    server: String,

    /// What each block holds
    #[arg(value_name = "MESSAGE", required = true, allow_negative_numbers = true)]
    messages: Vec<OsString>,
}

/// Send the sixteen bytes 'Hi there, server', and print the sixteen that come back
#[derive(Args)]
struct Sixteen {
    /// The server
    #[arg(value_name = "HOST:PORT")]
    server: String,
}

/// Call a function by XML-RPC, and print what it returns
///
/// A string is printed as it is, another value as JSON, in which times and base64 are text. A fault
/// goes to stderr, with status 1.
#[derive(Args)]
struct XmlRpc {
    /// http://HOST[:PORT][/PATH]; without a path, /RPC2
    #[arg(value_name = "URL")]
    url: String,

    /// The function; system.listMethods often lists them
    method: String,

    /// An integer, a double, true or false, an array or a struct as JSON; what is none of these is
    /// a string, and string:7 is one, too
    #[arg(value_name = "ARG", allow_hyphen_values = true, trailing_var_arg = true)]
    arguments: Vec<String>,
}

/// Get a page, and print it or write it to a file
///
/// Redirects are followed. No proxy is used, and there is no TLS: URL begins with http://.
#[derive(Args)]
struct Http {
    /// http://HOST[:PORT][/PATH]
    #[arg(value_name = "URL")]
    url: String,

    /// Write to FILE, once the server has the page
    #[arg(short, long, env = "EVMUX_OUTPUT", value_name = "FILE")]
    output: Option<Given>,
}

impl Arguments {
    /// What the arguments amount to, or the first mistake in them.
    pub(super) fn options(self) -> Result<ClientOptions, Usage> {
        Ok(match self.command {
            Clients::Tcp(Tcp { server, message, lines }) => {
                let server = Endpoint::parse(&server, Over::Tcp, "evmux client tcp")?;
                ClientOptions::Tcp(TcpOptions { server, message, lines: lines.read(switch)? })
            }
            Clients::Udp(udp) => ClientOptions::Udp(udp.options()?),
            Clients::Blocks(Blocks { server, messages }) => {
                let server = Endpoint::parse(&server, Over::Tcp, "evmux client blocks")?;
                ClientOptions::Blocks { server, messages }
            }
            Clients::Sixteen(Sixteen { server }) => {
                let server = Endpoint::parse(&server, Over::Tcp, "evmux client sixteen")?;
                ClientOptions::Sixteen { server }
            }
            Clients::Xmlrpc(XmlRpc { url, method, arguments }) => {
                let url = with_path(page(url, "evmux client xmlrpc")?);
                let values = arguments.iter().map(|text| {
                    xmlrpc_value::read(text).map_err(|why| {
                        Usage(format!("'{text}': {why} (see 'evmux client xmlrpc --help')"))
                    })
                });
                let arguments = values.collect::<Result<_, _>>()?;
                ClientOptions::XmlRpc(XmlRpcOptions { url, method, arguments })
            }
            Clients::Http(Http { url, output }) => {
                let output = output.and_then(Given::set).map(|file| PathBuf::from(file.text()));
                ClientOptions::Http { url: page(url, "evmux client http")?, output }
            }
        })
    }
}

impl Udp {
    fn options(self) -> Result<UdpOptions, Usage> {
        let server = Endpoint::parse(&self.server, Over::Udp, "evmux client udp")?;
        let retry_after = self.retry_after.read(timeout)?;
        let give_up_after = self.give_up_after.read(timeout_or_never)?;
        if give_up_after.is_some_and(|longest| retry_after > longest) {
            let why = "is longer than --give-up-after: nothing would be sent";
            return Err(self.retry_after.wrong(why));
        }
        let broadcast = self.broadcast.read(switch)?;
        let request = RequestOptions::default()
            .retry_after(retry_after)
            .give_up_after(give_up_after)
            .broadcast(broadcast);
        Ok(UdpOptions { server, message: self.message, request, broadcast })
    }
}

fn timeout_or_never(text: &str) -> Result<Option<Duration>, String> {
    if text == "never" { Ok(None) } else { timeout(text).map(Some) }
}

/// A URL that can be asked for.
fn page(url: String, command: &str) -> Result<String, Usage> {
    let begins_with = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    };
    let why = if begins_with("http://") {
        // What the client would take for another port is no port.
        let rest = &url["http://".len()..];
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (place, None),
        };
        match port.map(str::parse::<u16>) {
            _ if host.is_empty() || host.starts_with('[') != host.ends_with(']') => {
                "a host, with an IPv6 address in brackets, follows http://"
            }
            _ if url.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                "a URL has no blanks; write %20"
            }
            Some(Err(_) | Ok(0)) => "a port is a number from 1 to 65535",
            None | Some(Ok(_)) => return Ok(url),
        }
    } else if begins_with("https://") {
        "https is not supported, since there is no TLS here: http:// only"
    } else {
        "a URL begins with http://"
    };
    Err(Usage(format!("'{url}': {why} (see '{command} --help')")))
}

/// Where XML-RPC is answered when nobody says otherwise.
fn with_path(url: String) -> String {
    let host = "http://".len();
    let end = url.get(host..).and_then(|rest| rest.find(['/', '?', '#']));
    match end.map_or((url.as_str(), ""), |end| url.split_at(host + end)) {
        (_, path) if path.starts_with('/') => url,
        (server, query) => format!("{server}/RPC2{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_gets_the_usual_one() {
        for (url, expected) in [
            ("http://localhost:8000", "http://localhost:8000/RPC2"),
            ("http://localhost:8000/", "http://localhost:8000/"),
            ("http://localhost:8000/x?y", "http://localhost:8000/x?y"),
            ("http://localhost?y/z", "http://localhost/RPC2?y/z"),
            ("HTTP://[::1]:7001", "HTTP://[::1]:7001/RPC2"),
        ] {
            assert_eq!(with_path(url.into()), expected);
        }
    }
}
