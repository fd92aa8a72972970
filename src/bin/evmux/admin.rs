//! `--admin ADDR`: the server seen from outside, by HTTP.
//!
//! The pages are served by the engine itself, on a thread and a loop of their own: a reactor that
//! is stuck in a handler cannot say so, and its neighbour can. Nothing here changes anything, and
//! nothing is secret except who is connected; so it is read by whoever reaches the address.

mod data;
mod exposition;
mod health;
mod metrics;
mod process;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use evmux::codec::http1::Request;
use evmux::services::{Http, Response};
use evmux::{Address, Limits, Peer, Running, Server, Watch};
use log::warn;

use crate::failure::Failure;
use crate::serve::boxed;

/// What serves the pages.
pub(crate) struct Admin {
    subject: Arc<Subject>,
    running: Running,
    address: SocketAddr,
}

impl Admin {
    /// A browser opens six connections at most, a scraper one, a load balancer one for each check.
    /// They come out of the 32 descriptors that are kept from clients.
    const MAX_CONNECTIONS: usize = 8;
    /// Longer than the page waits between two looks, and not much longer: who holds a connection
    /// holds one of a few.
    const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
    /// No page is asked for with a body.
    const MAX_BODY: usize = 4096;
    /// For those who are being answered when the server has ended.
    const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

    /// Listens, and serves the pages of a server that is not there yet.
    pub(crate) fn start(
        address: &Address,
        service: &'static str,
        model: &'static str,
    ) -> Result<Self, Failure> {
        let subject = Arc::new(Subject {
            service,
            model,
            is_private: match address {
                Address::Tcp { host, .. } => match host.parse::<IpAddr>() {
                    Ok(address) => address.is_loopback(),
                    Err(_) => host.eq_ignore_ascii_case("localhost"),
                },
                _ => false,
            },
            began: SystemTime::now(),
            clock: Instant::now(),
            shown: OnceLock::new(),
            data: data::Cache::default(),
        });
        let limits = Limits::default()
            .max_frame(Self::MAX_BODY)
            .idle_timeout(Some(Self::IDLE_TIMEOUT))
            .frame_timeout(Some(Self::IDLE_TIMEOUT))
            .write_timeout(Some(Self::IDLE_TIMEOUT));
        let pages = Arc::clone(&subject);
        let http = move |_: &Peer| {
            let subject = Arc::clone(&pages);
            Http::new(move |request: &Request<'_>| answer(request, &subject))
        };
        let server = Server::builder(boxed(http))
            .limits(limits)
            .max_connections(Self::MAX_CONNECTIONS)
            .drain_timeout(Self::DRAIN_TIMEOUT)
            .listen(address.clone())
            .build()?;
        let listens = server.local_addresses().iter().find_map(|local| local.socket_addr());
        let address = listens.ok_or_else(|| Failure::new(address, "is no address of TCP"))?;
        if !address.ip().is_loopback() {
            warn!(
                "the admin page on http://{address} can be read by whoever reaches that address, \
                 and names who is connected; a loopback address would keep it to this machine"
            );
        }
        Ok(Self { subject, running: server.start()?, address })
    }

    /// From now on the pages are about the server of `watch`, all of whose listeners are bound.
    /// `ending` is true from the first signal on.
    pub(crate) fn show(&self, watch: Watch, ending: Arc<AtomicBool>) {
        let shown = self.subject.shown.set(Shown { watch, ending });
        debug_assert!(shown.is_ok(), "one server is shown, once");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends with the server that was shown.
    pub(crate) fn end(self) {
        self.running.stop().drain();
        if let Err(why) = self.running.join() {
            warn!("the admin page ended before its server: {why}");
        }
    }
}

/// What the pages are about.
struct Subject {
    service: &'static str,
    model: &'static str,
    /// Only this machine was meant to be answered.
    is_private: bool,
    began: SystemTime,
    clock: Instant,
    /// None as long as the listeners are not bound.
    shown: OnceLock<Shown>,
    data: data::Cache,
}

#[cfg(test)]
impl Subject {
    /// As it is at first.
    fn unbound() -> Self {
        Self {
            service: "upper",
            model: "epoll",
            is_private: true,
            began: SystemTime::now(),
            clock: Instant::now(),
            shown: OnceLock::new(),
            data: data::Cache::default(),
        }
    }
}

struct Shown {
    watch: Watch,
    ending: Arc<AtomicBool>,
}

impl Shown {
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }
}

fn answer(request: &Request<'_>, subject: &Subject) -> Response {
    let page: fn(&Subject) -> Response = match request.path() {
        "/" => |_| Response::html(PAGE),
        "/page.css" => |_| Response::new("text/css; charset=utf-8", STYLE),
        "/page.js" => |_| Response::new("text/javascript; charset=utf-8", SCRIPT),
        "/icon.svg" => |_| Response::new("image/svg+xml", ICON),
        "/metrics" => metrics::page,
        "/healthz" => health::healthz,
        "/readyz" => health::readyz,
        "/data.json" => data::page,
        _ => return safe(Response::error(404)),
    };
    let host = request.header("host");
    if subject.is_private && host.is_some_and(|host| !is_private_name(host)) {
        let why = "this page is asked for by an address or as localhost\n";
        return safe(Response::text(why).status(403));
    }
    if !matches!(request.method, "GET" | "HEAD") {
        return safe(Response::error(405).header("Allow", "GET, HEAD"));
    }
    safe(page(subject))
}

const PAGE: &str = include_str!("admin/page/page.html");
const STYLE: &str = include_str!("admin/page/page.css");
const SCRIPT: &str = include_str!("admin/page/page.js");
const ICON: &str = include_str!("admin/page/icon.svg");

/// Whether a client on this machine may mean us by this name. A page from elsewhere, whose name was
/// made to lead here, would be taken by a browser for one of ours, and could read who is connected.
fn is_private_name(asked: &str) -> bool {
    if let Some((address, _port)) = asked.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let host = asked.split_once(':').map_or(asked, |(host, _port)| host);
    host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

/// A browser is to take a page for what it is called, ask for it again each time, and fetch
/// nothing from elsewhere, whatever has come to stand in it.
fn safe(response: Response) -> Response {
    response
        .header("Content-Security-Policy", POLICY)
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "no-referrer")
        .header("Cache-Control", "no-store")
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_neither_an_address_nor_localhost_is_that_of_somebody_else() {
        for own in ["127.0.0.1", "127.0.0.1:9090", "localhost:9090", "LOCALHOST", "[::1]:9090"] {
            assert!(is_private_name(own), "{own}");
        }
        for other in ["evil.example", "evil.example:9090", "127.0.0.1.evil.example", "[evil]", ""] {
            assert!(!is_private_name(other), "{other}");
        }
    }
}
