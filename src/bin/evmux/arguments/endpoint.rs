//! `HOST:PORT` as clients take it: the port may be the name of a service.
//!
//! Where a server listens is a number, since it is compared with what the ready line and netstat
//! say. Whom a client reaches may be `localhost:http`, as getaddrinfo(3) has it.

use std::fmt;

use evmux::{Address, AddressProblem};

use super::Usage;

/// Whom to reach. Nothing is looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// A name or an IP address; IPv6 without brackets.
    pub(crate) host: String,
    /// A port or the name of a service.
    pub(crate) service: String,
}

/// Over what it is reached: the prefix that an address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Tcp,
    Udp,
}

impl Endpoint {
    /// Reads `text`, which `command` was given.
    pub(super) fn parse(text: &str, over: Over, command: &str) -> Result<Self, Usage> {
        Self::read(text, over)
            .map_err(|why| Usage(format!("'{text}': {why} (see '{command} --help')")))
    }

    fn read(text: &str, over: Over) -> Result<Self, String> {
        let (own, other) = match over {
            Over::Tcp => ("tcp:", ["udp:", "unix:"]),
            Over::Udp => ("udp:", ["tcp:", "unix:"]),
        };
        if other.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(format!("this client reaches {own}HOST:PORT only"));
        }
        let plain = text.strip_prefix(own).unwrap_or(text);
        match plain.parse::<Address>() {
            Ok(Address::Tcp { host, port } | Address::Udp { host, port }) => {
                Ok(Self { host, service: port.to_string() })
            }
            Ok(Address::Unix(_)) => Err("HOST:PORT is expected".into()),
            Err(error) => match (&error.problem, plain.rsplit_once(':')) {
                (AddressProblem::BadPort { port }, Some((host, _))) if is_service(port) => {
                    // The same host, with a port that certainly is one.
                    Self::read(&format!("{host}:0"), over)
                        .map(|endpoint| Self { service: port.clone(), ..endpoint })
                }
                _ => Err(error.problem.to_string()),
            },
        }
    }
}

/// The characters of RFC 6335, and those that older names have; a letter keeps wrong numbers out.
fn is_service(name: &str) -> bool {
    name.bytes().any(|byte| byte.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, service } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{service}")
        } else {
            write!(f, "{host}:{service}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_a_number_or_a_service() {
        for (text, host, service) in [
            ("localhost:80", "localhost", "80"),
            ("localhost:http", "localhost", "http"),
            ("[::1]:http-alt", "::1", "http-alt"),
            ("tcp:127.0.0.1:9000", "127.0.0.1", "9000"),
        ] {
            let endpoint = Endpoint::read(text, Over::Tcp).unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.service.as_str()), (host, service));
        }
        assert_eq!(Endpoint::read("[::1]:www", Over::Udp).unwrap().to_string(), "[::1]:www");
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "localhost",
            ":80",
            "localhost:",
            "localhost:65536",
            "localhost:-1",
            "::1:80",
            "local host:http",
            "localhost:ht tp",
            "udp:localhost:80",
            "unix:/tmp/x",
            "",
            "http://localhost:80",
        ] {
            assert!(Endpoint::read(text, Over::Tcp).is_err(), "{text}");
        }
    }
}
