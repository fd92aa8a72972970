//! `evmux resolve`: what names lead to, and back.
//!
//! ```text
//!   IPv4  127.0.0.1  80  stream  localhost
//!   family, address, with a service the port and the kind of socket, and the reverse name
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use dns_lookup::{AddrInfo, SockType, get_hostname, lookup_addr};

use crate::arguments::ResolveOptions;
use crate::failure::Failure;
use crate::names::look_up;
use crate::output::Output;

pub(crate) fn resolve(options: &ResolveOptions) -> Result<(), Failure> {
    match &options.host {
        Some(host) => other(host, options.service.as_deref()),
        None => this_machine(),
    }
}

fn other(host: &str, service: Option<&str>) -> Result<(), Failure> {
    // As an IPv6 address stands in front of a port.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // Without a service the kinds of socket say nothing, and each would repeat the address.
    let kind = if service.is_none() { Some(SockType::Stream) } else { None };
    let found = look_up(host, service, kind)?;
    let mut names = ReverseNames::default();
    let mut lines: Vec<String> = Vec::new();
    for address in &found {
        let ip = address.sockaddr.ip();
        let mut fields = vec![family(ip).to_owned(), shown(address)];
        if service.is_some() {
            // Raw sockets have no ports; getaddrinfo(3) lists them for a number all the same.
            let Some(kind) = kind_of(address) else { continue };
            fields.push(address.sockaddr.port().to_string());
            fields.push(kind.to_owned());
        }
        fields.extend(names.of(ip));
        // The same port over another protocol, as SCTP, and a name that is listed twice, say
        // nothing new.
        let line = fields.join("  ");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Output::new()?.write_line(lines.join("\n").as_bytes()).map(drop)
}

fn this_machine() -> Result<(), Failure> {
    let name =
        get_hostname().map_err(|why| Failure::new("cannot tell this machine's name", why))?;
    let mut output = Output::new()?;
    if output.write(format!("name  {name}\n").as_bytes())?.is_break() {
        return Ok(());
    }
    let found = look_up(&name, None, Some(SockType::Stream))?;
    let mut names = ReverseNames::default();
    let addresses: Vec<_> = found.iter().map(|found| found.sockaddr.ip()).collect();
    // The name that has a domain, as getfqdn of the slides says it.
    let full = addresses.iter().find_map(|ip| names.of(*ip).filter(|name| name.contains('.')));
    let mut text = format!("full name  {}\n", full.as_deref().unwrap_or(&name));
    for address in &found {
        let ip = address.sockaddr.ip();
        text.push_str(&format!("{}  {}\n", family(ip), shown(address)));
    }
    output.write(text.as_bytes()).map(drop)
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Without brackets and port, but with the zone that a link-local address has.
fn shown(address: &AddrInfo) -> String {
    match address.sockaddr {
        std::net::SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            format!("{}%{}", v6.ip(), v6.scope_id())
        }
        other => other.ip().to_string(),
    }
}

fn kind_of(address: &AddrInfo) -> Option<&'static str> {
    match address.socktype {
        kind if kind == SockType::Stream => Some("stream"),
        kind if kind == SockType::DGram => Some("dgram"),
        _ => None,
    }
}

/// Each address is asked about once, since an answer may take seconds.
#[derive(Default)]
struct ReverseNames(BTreeMap<IpAddr, Option<String>>);

impl ReverseNames {
    fn of(&mut self, address: IpAddr) -> Option<String> {
        self.0.entry(address).or_insert_with(|| lookup_addr(&address).ok()).clone()
    }
}
