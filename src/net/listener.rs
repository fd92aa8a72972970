//! TCP sockets that listen as a server wants it.
//!
//! What every accepted connection shall have is set here once: on Linux it inherits TCP_NODELAY
//! and keep-alive from its listener, which saves two system calls a connection. And the length of
//! the accept queue is ours to say: the standard library and mio listen with 128, of 2,000
//! simultaneous connects 129 fit into that, and the others wait a second for their next attempt.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// How a server listens, and what its connections inherit from that.
///
/// ```
/// use evmux::ListenOptions;
///
/// let options = ListenOptions::default().backlog(512).keep_alive(false);
/// ```
#[derive(Clone, Debug)]
pub struct ListenOptions {
    pub(crate) backlog: u32,
    pub(crate) keep_alive: bool,
    pub(crate) no_delay: bool,
    pub(crate) reuse_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, keep_alive: true, no_delay: true, reuse_port: false }
    }
}

impl ListenOptions {
    /// How many connections may wait to be accepted; 4,096 by default, at least 1. The kernel cuts
    /// it to its `net.core.somaxconn`. A listener that is given ready-made keeps its own.
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections.max(1);
        self
    }

    /// Whether TCP looks after a silent peer and ends the connection when it is gone: after 60 s,
    /// every 15 s, 4 times. By default it does.
    #[must_use]
    pub fn keep_alive(mut self, on: bool) -> Self {
        self.keep_alive = on;
        self
    }

    /// Whether a small answer leaves at once (TCP_NODELAY), even if an earlier one is not
    /// acknowledged. By default it does: answers are sent in as few calls as can be anyway.
    #[must_use]
    pub fn no_delay(mut self, on: bool) -> Self {
        self.no_delay = on;
        self
    }

    /// Whether other processes of the same user may listen at the same TCP address
    /// (SO_REUSEPORT): the kernel then deals the clients out to the listeners. Off by default,
    /// since it has a cost: each listener has a queue of its own, and when one closes, those who
    /// wait in it are reset; with two listeners of which one closed, 106 of 200 queued clients were
    /// (Linux 6.18). Several reactors behind one listener
    /// ([`reactors`](crate::Builder::reactors)) lose none.
    #[must_use]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// As listen(2) takes it.
    pub(crate) fn queue_length(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }
}

/// A blocking socket that listens at `address`. `[::]` is IPv6 only, whatever the system's default
/// is: who wants both names both.
pub(crate) fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server must get its port although connections of the last one are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_inherited(&socket, options)?;
    socket.bind(&address.into())?;
    socket.listen(options.queue_length())?;
    Ok(socket)
}

/// Takes a listener that another made, with its backlog, and makes it blocking. Connections that
/// wait in its queue already inherited what it had before.
///
/// # Errors
/// `InvalidInput` when it does not listen, which would else be found at the first accept.
pub(crate) fn adopt(listener: TcpListener, options: &ListenOptions) -> io::Result<Socket> {
    let socket = Socket::from(listener);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
    }
    set_inherited(&socket, options)?;
    socket.set_nonblocking(false)?;
    Ok(socket)
}

/// What accepted connections inherit. Also set when it is off: a listener that was made elsewhere
/// may have it on.
fn set_inherited(socket: &Socket, options: &ListenOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.no_delay)?;
    if options.keep_alive {
        // A peer that vanished is gone after two minutes; a silent one costs four small packets
        // in that time at the most.
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(Duration::from_secs(60))
                .with_interval(Duration::from_secs(15))
                .with_retries(4),
        )
    } else {
        socket.set_keepalive(false)
    }
}

/// What the kernel cuts a backlog to, if it tells.
pub(crate) fn somaxconn() -> Option<u32> {
    fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn address(listener: &Socket) -> SocketAddr {
        listener.local_addr().unwrap().as_socket().unwrap()
    }

    #[test]
    fn two_listen_at_one_address_only_if_both_say_so() {
        let shared = ListenOptions::default().reuse_port(true);
        let first = listen(LOCAL, &shared).unwrap();
        listen(address(&first), &shared).unwrap();
        let refused = listen(address(&first), &ListenOptions::default()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }

    /// Both ends of a connection that `listener` accepted.
    fn accepted(listener: &Socket) -> (Socket, TcpStream) {
        let client = TcpStream::connect(address(listener)).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[track_caller]
    fn assert_keep_alive(socket: &Socket) {
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    }

    #[test]
    fn an_accepted_connection_inherits_no_delay_and_keep_alive() {
        let listener = listen(LOCAL, &ListenOptions::default()).unwrap();
        let (connection, _client) = accepted(&listener);
        assert!(connection.tcp_nodelay().unwrap());
        assert_keep_alive(&connection);
    }

    #[test]
    fn an_accepted_connection_has_neither_when_they_are_off() {
        let options = ListenOptions::default().no_delay(false).keep_alive(false);
        let listener = listen(LOCAL, &options).unwrap();
        let (connection, _client) = accepted(&listener);
        assert!(!connection.tcp_nodelay().unwrap());
        assert!(!connection.keepalive().unwrap());
    }

    #[test]
    fn an_adopted_listener_passes_on_the_same_and_is_made_blocking() {
        let listener = TcpListener::bind(LOCAL).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = adopt(listener, &ListenOptions::default()).unwrap();
        assert!(!listener.nonblocking().unwrap());
        let (connection, _client) = accepted(&listener);
        assert!(connection.tcp_nodelay().unwrap());
        assert_keep_alive(&connection);
    }

    #[test]
    fn an_adopted_listener_loses_what_is_turned_off() {
        let listener = listen(LOCAL, &ListenOptions::default()).unwrap();
        let options = ListenOptions::default().no_delay(false).keep_alive(false);
        let listener = adopt(listener.into(), &options).unwrap();
        let (connection, _client) = accepted(&listener);
        assert!(!connection.tcp_nodelay().unwrap());
        assert!(!connection.keepalive().unwrap());
    }

    #[test]
    fn a_socket_that_does_not_listen_is_not_adopted() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&LOCAL.into()).unwrap();
        let error = adopt(socket.into(), &ListenOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_ipv6_listener_and_its_connections_are_ipv6_only() {
        let options = ListenOptions::default();
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let listener = match listen(any, &options) {
            Ok(listener) => listener,
            // A machine without IPv6 cannot show it.
            Err(_) if Socket::new(Domain::IPV6, Type::STREAM, None).is_err() => return,
            Err(error) => panic!("{error}"),
        };
        assert!(listener.only_v6().unwrap());
        if let Ok(_client) = TcpStream::connect((Ipv6Addr::LOCALHOST, address(&listener).port())) {
            assert!(listener.accept().unwrap().0.only_v6().unwrap());
        }
    }

    #[test]
    fn every_address_of_both_families_can_be_listened_on_at_one_port() {
        let options = ListenOptions::default();
        if Socket::new(Domain::IPV6, Type::STREAM, None).is_err() {
            return;
        }
        // Another test may have the port by chance; that it has each of ten is no chance.
        let both = (0..10).any(|_| {
            let ipv6 = listen((Ipv6Addr::UNSPECIFIED, 0).into(), &options).unwrap();
            listen((Ipv4Addr::UNSPECIFIED, address(&ipv6).port()).into(), &options).is_ok()
        });
        assert!(both);
    }

    #[test]
    fn a_port_can_be_had_again_although_its_connections_are_in_time_wait() {
        let listener = listen(LOCAL, &ListenOptions::default()).unwrap();
        let address = address(&listener);
        let (connection, client) = accepted(&listener);
        // Who closes first has the TIME_WAIT.
        drop(connection);
        drop(client);
        drop(listener);
        assert!(listen(address, &ListenOptions::default()).is_ok());
    }

    #[test]
    fn a_port_that_is_listened_on_cannot_be_had() {
        let listener = listen(LOCAL, &ListenOptions::default()).unwrap();
        let error = listen(address(&listener), &ListenOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    const MANY: u32 = 300;

    /// Connects until one has to wait, at most [`MANY`] times, with nobody who accepts.
    fn connections_that_fit(listener: &Socket) -> Vec<TcpStream> {
        // A connection that fits is there at once; one that does not waits a second for its second
        // attempt, in vain.
        let patience = Duration::from_millis(800);
        let address = address(listener);
        (0..MANY).map_while(|_| TcpStream::connect_timeout(&address, patience).ok()).collect()
    }

    #[test]
    fn more_connections_than_128_fit_into_the_accept_queue() {
        if somaxconn().is_none_or(|most| most < MANY) {
            return;
        }
        let listener = listen(LOCAL, &ListenOptions::default()).unwrap();
        assert_eq!(connections_that_fit(&listener).len(), MANY as usize);
    }

    #[test]
    fn the_backlog_that_is_asked_for_is_the_one_that_counts() {
        let listener = listen(LOCAL, &ListenOptions::default().backlog(10)).unwrap();
        // Linux holds one more than it was told.
        assert_eq!(connections_that_fit(&listener).len(), 11);
    }

    #[test]
    fn an_adopted_listener_keeps_its_backlog() {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&LOCAL.into()).unwrap();
        listener.listen(5).unwrap();
        let listener = adopt(listener.into(), &ListenOptions::default()).unwrap();
        assert_eq!(connections_that_fit(&listener).len(), 6);
    }

    #[test]
    fn a_backlog_past_every_limit_is_taken() {
        assert!(listen(LOCAL, &ListenOptions::default().backlog(0)).is_ok());
        assert!(listen(LOCAL, &ListenOptions::default().backlog(u32::MAX)).is_ok());
    }

    #[test]
    fn the_kernel_tells_its_limit() {
        assert!(somaxconn().is_some_and(|most| most > 0));
    }
}
