//! Names to addresses, with the words for a name that leads nowhere.
//!
//! getaddrinfo(3) by `dns-lookup`: the standard library asks for hosts only, and here a service may
//! have a name, too.

use std::net::SocketAddr;

use dns_lookup::{AddrInfo, AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};

use crate::arguments::Endpoint;
use crate::failure::Failure;

/// The addresses of a server, in the order in which they should be tried.
pub(crate) fn addresses(server: &Endpoint, over: SockType) -> Result<Vec<SocketAddr>, Failure> {
    let found = look_up(&server.host, Some(&server.service), Some(over))?;
    Ok(found.into_iter().map(|found| found.sockaddr).collect())
}

/// All that is known of `host` and `service`, at least one address; of one kind of socket or all.
pub(crate) fn look_up(
    host: &str,
    service: Option<&str>,
    over: Option<SockType>,
) -> Result<Vec<AddrInfo>, Failure> {
    let hints = AddrInfoHints { socktype: over.map_or(0, Into::into), ..Default::default() };
    let failed = |error: LookupError| unknown(host, service, &error);
    let found = getaddrinfo(Some(host), service, Some(hints)).map_err(failed)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|why| failed(why.into()))?;
    if found.is_empty() {
        return Err(nonexistent(host, "no address"));
    }
    Ok(found)
}

fn unknown(host: &str, service: Option<&str>, error: &LookupError) -> Failure {
    let why = error.to_string();
    let why = why.strip_prefix(NO_NEWS).unwrap_or(&why);
    match (error.kind(), service) {
        (LookupErrorKind::Service, Some(service)) => {
            Failure::Run(format!("{host}: there is no service '{service}' ({why})"))
        }
        _ => nonexistent(host, why),
    }
}

/// What every error of a look-up begins with.
pub(crate) const NO_NEWS: &str = "failed to lookup address information: ";

/// `host` leads nowhere, in the words of the slides.
pub(crate) fn nonexistent(host: &str, why: &str) -> Failure {
    Failure::Run(format!("{host}: This host does not seem to exist ({why})"))
}
