//! Addresses as people write them: in options, in logs, in the line that says where a server
//! listens.
//!
//! ```text
//!   HOST:PORT        TCP
//!   tcp:HOST:PORT    TCP
//!   udp:HOST:PORT    UDP
//!   unix:PATH        a Unix stream socket
//! ```
//!
//! An IPv6 HOST stands in brackets, and what stands in brackets is an IPv6 address. The text
//! decides alone what it means: no name is looked up here before [`Address::resolve`].

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen, or whom to reach. The host may be a name.
///
/// ```
/// use evmux::Address;
///
/// let address: Address = "[::1]:9000".parse()?;
/// assert_eq!(address, Address::Tcp { host: "::1".into(), port: 9000 });
/// assert_eq!(address.to_string(), "tcp:[::1]:9000");
/// # Ok::<(), evmux::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Tcp {
        /// A name or an IP address; IPv6 without brackets.
        host: String,
        /// 0 to listen on one that the kernel chooses.
        port: u16,
    },
    /// UDP.
    Udp {
        /// A name or an IP address; IPv6 without brackets.
        host: String,
        /// 0 to listen on one that the kernel chooses.
        port: u16,
    },
    /// A Unix stream socket at this path.
    Unix(PathBuf),
}

impl Address {
    /// The IP addresses that this stands for, at least one, in the order in which they should be
    /// tried. **It may block** for as long as the system's resolver takes: never call it on a
    /// thread that serves.
    ///
    /// # Errors
    /// When the name is not known or cannot be looked up; for [`Address::Unix`], which has none.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let (Self::Tcp { host, port } | Self::Udp { host, port }) = self else {
            let problem = format!("{self} has no IP address");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        };
        let addresses: Vec<_> = (host.as_str(), *port).to_socket_addrs()?.collect();
        if addresses.is_empty() {
            let problem = format!("{host} has no IP address");
            return Err(io::Error::new(io::ErrorKind::NotFound, problem));
        }
        Ok(addresses)
    }
}

impl fmt::Display for Address {
    /// In the form that is read back as the same address, with its protocol always named. Only a
    /// path that is not UTF-8, which cannot have been read, is shown with replacements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, host, port) = match self {
            Self::Tcp { host, port } => ("tcp", host, port),
            Self::Udp { host, port } => ("udp", host, port),
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
        };
        if host.contains(':') {
            write!(f, "{protocol}:[{host}]:{port}")
        } else {
            write!(f, "{protocol}:{host}:{port}")
        }
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map_err(|problem| AddressError { address: text.to_owned(), problem })
    }
}

fn parse(text: &str) -> Result<Address, AddressProblem> {
    if let Some(path) = text.strip_prefix("unix:") {
        parse_path(path)
    } else if let Some(rest) = text.strip_prefix("udp:") {
        parse_host_and_port(rest).map(|(host, port)| Address::Udp { host, port })
    } else {
        let rest = text.strip_prefix("tcp:").unwrap_or(text);
        parse_host_and_port(rest).map(|(host, port)| Address::Tcp { host, port })
    }
}

/// The longest path of a Unix socket: `sun_path` has 108 bytes, the last of them zero.
const LONGEST_PATH: usize = 107;

fn parse_path(path: &str) -> Result<Address, AddressProblem> {
    if path.is_empty() {
        Err(AddressProblem::NoPath)
    } else if path.contains('\0') {
        Err(AddressProblem::BadPath)
    } else if path.len() > LONGEST_PATH {
        Err(AddressProblem::PathTooLong { length: path.len(), limit: LONGEST_PATH })
    } else {
        Ok(Address::Unix(path.into()))
    }
}

fn parse_host_and_port(text: &str) -> Result<(String, u16), AddressProblem> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(AddressProblem::OpenBracket)?;
        if !is_ipv6(host) {
            return Err(AddressProblem::NotIpv6 { host: host.to_owned() });
        }
        (host, rest.strip_prefix(':').ok_or(AddressProblem::NoPort)?)
    } else if is_ipv6(text) || text.rsplit_once(':').is_some_and(|(host, _)| is_ipv6(host)) {
        return Err(AddressProblem::NoBrackets);
    } else {
        let (host, port) = text.rsplit_once(':').ok_or(AddressProblem::NoPort)?;
        if host.is_empty() {
            return Err(AddressProblem::NoHost);
        }
        if !host.chars().all(may_be_in_a_name) {
            return Err(AddressProblem::BadHost { host: host.to_owned() });
        }
        (host, port)
    };
    if port.is_empty() {
        return Err(AddressProblem::NoPort);
    }
    // `u16::from_str` takes "+80".
    let only_digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(number) if only_digits => Ok((host.to_owned(), number)),
        _ => Err(AddressProblem::BadPort { port: port.to_owned() }),
    }
}

/// With or without a zone, as in `fe80::1%eth0`.
fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "any"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(may_be_in_a_name)
}

/// What the resolver takes is its business; this keeps out what certainly is a slip, such as a
/// URL, or would break a line of the log.
fn may_be_in_a_name(character: char) -> bool {
    !character.is_whitespace() && !character.is_control() && !"/:[]%@".contains(character)
}

/// A text that is no [`Address`]: which, and what is wrong with it. Shown in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressError {
    /// The text.
    pub address: String,
    /// What is wrong with it.
    pub problem: AddressProblem,
}

/// What is wrong with a text that should be an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressProblem {
    /// Nothing stands before the port.
    NoHost,
    /// The host has characters that no host has.
    BadHost {
        /// As it was written.
        host: String,
    },
    /// An IPv6 address without brackets: where does the port begin?
    NoBrackets,
    /// A bracket is not closed.
    OpenBracket,
    /// What stands in brackets is not an IPv6 address.
    NotIpv6 {
        /// What stands there.
        host: String,
    },
    /// No port follows the host.
    NoPort,
    /// The port is not a number up to 65,535.
    BadPort {
        /// As it was written.
        port: String,
    },
    /// Nothing follows `unix:`.
    NoPath,
    /// The path has a zero byte.
    BadPath,
    /// The kernel takes no path that is so long.
    PathTooLong {
        /// Bytes that it has.
        length: usize,
        /// Bytes that it may have.
        limit: usize,
    },
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As Debug shows them, whatever was written stays in one line.
        let Self { address, problem } = self;
        write!(f, "{address:?} is no address: {problem}")
    }
}

impl fmt::Display for AddressProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => f.write_str(
                "no host stands before the port; every address of this machine is 0.0.0.0 or [::]",
            ),
            Self::BadHost { host } => {
                write!(f, "{host:?} is no host; expected a name or an IP address, then :PORT")
            }
            Self::NoBrackets => {
                f.write_str("an IPv6 address stands in brackets, as in [::1]:9000")
            }
            Self::OpenBracket => {
                f.write_str("the bracket is not closed; expected [IPV6]:PORT, as in [::1]:9000")
            }
            Self::NotIpv6 { host } => {
                write!(f, "{host:?} is no IPv6 address, and only those stand in brackets")
            }
            Self::NoPort => f.write_str(
                "the port is missing; expected HOST:PORT, tcp:HOST:PORT, udp:HOST:PORT or unix:PATH",
            ),
            Self::BadPort { port } => {
                write!(f, "{port:?} is no port; expected a number from 0 to 65535")
            }
            Self::NoPath => f.write_str("the path is missing; expected unix:PATH"),
            Self::BadPath => f.write_str("a path cannot have a zero byte"),
            Self::PathTooLong { length, limit } => {
                write!(f, "the path has {length} bytes; a Unix socket's has at most {limit}")
            }
        }
    }
}

impl Error for AddressError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    fn udp(host: &str, port: u16) -> Address {
        Address::Udp { host: host.into(), port }
    }

    #[track_caller]
    fn problem(text: &str) -> AddressProblem {
        let error = text.parse::<Address>().unwrap_err();
        assert_eq!(error.address, text);
        assert_eq!(error.to_string().lines().count(), 1);
        error.problem
    }

    #[test]
    fn each_form_is_read() {
        for (text, address) in [
            ("127.0.0.1:9000", tcp("127.0.0.1", 9000)),
            ("localhost:0", tcp("localhost", 0)),
            ("tcp:example.org:65535", tcp("example.org", 65535)),
            ("udp:0.0.0.0:53", udp("0.0.0.0", 53)),
            ("[::]:9000", tcp("::", 9000)),
            ("tcp:[::1]:9000", tcp("::1", 9000)),
            ("udp:[fe80::1%eth0]:9000", udp("fe80::1%eth0", 9000)),
            ("unix:/run/evmux.sock", Address::Unix("/run/evmux.sock".into())),
            ("unix:a relative:path", Address::Unix("a relative:path".into())),
            ("tcp:udp:1", tcp("udp", 1)),
        ] {
            assert_eq!(text.parse(), Ok(address.clone()), "{text}");
            assert_eq!(Address::try_from(text), Ok(address));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        use AddressProblem::*;
        let host = |host: &str| BadHost { host: host.into() };
        let not_ipv6 = |host: &str| NotIpv6 { host: host.into() };
        let port = |port: &str| BadPort { port: port.into() };
        for (text, expected) in [
            ("", NoPort),
            ("localhost", NoPort),
            ("localhost:", NoPort),
            ("tcp:80", NoPort),
            ("[::1]", NoPort),
            ("[::1]:", NoPort),
            ("[::1]80", NoPort),
            (":80", NoHost),
            ("udp::80", NoHost),
            ("http://localhost:80", host("http://localhost")),
            ("local host:80", host("local host")),
            ("a\nb:80", host("a\nb")),
            ("a\0b:80", host("a\0b")),
            ("a]:80", host("a]")),
            ("TCP:localhost:80", host("TCP:localhost")),
            ("::1:9000", NoBrackets),
            ("::1", NoBrackets),
            ("fe80::1%eth0:9000", NoBrackets),
            ("[::1", OpenBracket),
            ("[localhost]:80", not_ipv6("localhost")),
            ("[127.0.0.1]:80", not_ipv6("127.0.0.1")),
            ("[]:80", not_ipv6("")),
            ("[fe80::1%]:80", not_ipv6("fe80::1%")),
            ("localhost:http", port("http")),
            ("localhost:65536", port("65536")),
            ("localhost:-1", port("-1")),
            ("localhost:+80", port("+80")),
            ("localhost: 80", port(" 80")),
            ("localhost:٨٠", port("٨٠")),
            ("unix:", NoPath),
            ("unix:a\0b", BadPath),
        ] {
            assert_eq!(problem(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_path_is_as_long_as_the_kernel_takes_it_and_no_longer() {
        use std::os::unix::net::SocketAddr;

        let longest = "x".repeat(LONGEST_PATH);
        assert!(SocketAddr::from_pathname(&longest).is_ok());
        assert!(format!("unix:{longest}").parse::<Address>().is_ok());

        let longer = "x".repeat(LONGEST_PATH + 1);
        assert!(SocketAddr::from_pathname(&longer).is_err());
        let expected = AddressProblem::PathTooLong { length: 108, limit: 107 };
        assert_eq!(problem(&format!("unix:{longer}")), expected);
    }

    #[test]
    fn a_mistake_is_told_in_one_line_with_what_is_expected() {
        let told = |text: &str| text.parse::<Address>().unwrap_err().to_string();
        assert_eq!(
            told("localhost"),
            "\"localhost\" is no address: the port is missing; \
             expected HOST:PORT, tcp:HOST:PORT, udp:HOST:PORT or unix:PATH"
        );
        assert_eq!(
            told("a\n:99999"),
            "\"a\\n:99999\" is no address: \"a\\n\" is no host; \
             expected a name or an IP address, then :PORT"
        );
    }

    #[test]
    fn numbers_resolve_to_themselves_without_a_resolver() {
        for text in ["127.0.0.1:80", "[::1]:80"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.resolve().unwrap(), [text.parse::<SocketAddr>().unwrap()]);
        }
    }

    #[test]
    fn a_path_resolves_to_nothing() {
        let error = Address::Unix("/run/x".into()).resolve().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "unix:/run/x has no IP address");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(
            host in prop_oneof![
                "[a-z0-9.-]{1,20}",
                any::<Ipv6Addr>().prop_map(|address| address.to_string()),
            ],
            path in "[^\0]{1,26}",
            port: u16,
        ) {
            for address in [tcp(&host, port), udp(&host, port), Address::Unix(path.into())] {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }

        #[test]
        fn no_text_panics_and_what_is_read_is_read_again(text in "(tcp:|udp:|unix:)?[\\[:%0-9a-f\\]. ]{0,12}|.*") {
            match text.parse::<Address>() {
                Ok(address) => prop_assert_eq!(address.to_string().parse(), Ok(address)),
                Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
            }
        }
    }
}
