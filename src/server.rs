//! The door: what to serve, where, under which model, within which limits.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::info;
use socket2::Socket;

use crate::counters::{Snapshot, Totals};
use crate::datagram::DatagramHandler;
use crate::error::Error;
use crate::front::gate::Gate;
use crate::front::quiet::Quiet;
use crate::front::{Balance, Crowd, Front, Model, Sockets};
use crate::handler::Service;
use crate::limits::Limits;
use crate::mailbox::Mailbox;
use crate::net::address::Address;
use crate::net::datagram::{BoxedHandler, UdpSocket};
use crate::net::listener::{self, ListenOptions};
use crate::net::unix::{self, SocketFile};
use crate::stop::Stop;
use crate::sys;
use crate::trace::Recorder;
use crate::watch::Watch;
use crate::witness::Audience;

/// A server that listens and is about to serve.
///
/// ```no_run
/// use evmux::{Exchange, Flow, Handler, Model, Peer, Server};
///
/// struct Echo;
/// impl Handler for Echo {
///     fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
///         let count = exchange.received.len();
///         exchange.to_send.append_received(&mut exchange.received, count);
///         Flow::Continue
///     }
/// }
///
/// let server = Server::builder(|_: &Peer| Echo)
///     .model(Model::Epoll)
///     .listen("127.0.0.1:9000")
///     .build()?;
/// server.run()?;
/// # Ok::<(), evmux::Error>(())
/// ```
pub struct Server<S> {
    service: S,
    settings: Settings,
    sockets: Sockets,
    addresses: Vec<LocalAddress>,
    /// Removed from the file system when the server is over.
    files: Vec<SocketFile>,
    mailbox: Option<Mailbox>,
    stop: Stop,
    totals: Totals,
    audience: Audience,
    /// When its clock began.
    origin: Instant,
}

/// Says how a [`Server`] is to be; [`build`](Builder::build) checks it and listens.
pub struct Builder<S> {
    service: S,
    settings: Settings,
    options: ListenOptions,
    doors: Vec<Result<Door, Error>>,
    mailbox: Option<Mailbox>,
    audience: Audience,
}

enum Door {
    Address(Address),
    Listener(TcpListener),
    UnixListener(UnixListener),
    Datagrams(Address, BoxedHandler),
}

#[derive(Clone)]
struct Settings {
    model: Model,
    crowd: Crowd,
    limits: Limits,
    /// `None`: as many as there are descriptors for.
    max_connections: Option<usize>,
    drain_timeout: Duration,
}

/// Where a server listens, with the real port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// A Unix stream socket; the path is empty when it has none.
    Unix(PathBuf),
}

impl LocalAddress {
    /// The IP address and port, of those that have one.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Udp(address) => write!(f, "udp {address}"),
            Self::Unix(path) => write!(f, "unix {}", path.display()),
        }
    }
}

impl<S> Builder<S> {
    /// Descriptors that are not for connections: listeners, the log, the loop's own.
    const KEPT_DESCRIPTORS: u64 = 32;

    /// The way of waiting; [`Model::Epoll`] unless said.
    #[must_use]
    pub fn model(mut self, model: Model) -> Self {
        self.settings.model = model;
        self
    }

    /// The threads that [`Model::Pool`] has for each listener; 4 unless said. The other models
    /// ignore it.
    #[must_use]
    pub fn threads(mut self, count: usize) -> Self {
        self.settings.crowd.threads = count;
        self
    }

    /// The threads that [`Model::Epoll`] serves on, each with a reactor of its own; 1 unless said.
    /// With more than one, a further thread accepts and hands the connections over.
    #[must_use]
    pub fn reactors(mut self, count: usize) -> Self {
        self.settings.crowd.reactors = count;
        self
    }

    /// Which of several reactors gets a new connection; [`Balance::RoundRobin`] unless said.
    #[must_use]
    pub fn balance(mut self, balance: Balance) -> Self {
        self.settings.crowd.balance = balance;
        self
    }

    /// What each connection may use.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// How many connections may be open at a time. Unless said, as many as the process may have
    /// descriptors, less 32. A client past it gets our FIN at once.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.settings.max_connections = Some(count);
        self
    }

    /// How long the open connections may take to finish after [`Stop::drain`]; 10 s unless said.
    /// Then they are cut.
    #[must_use]
    pub fn drain_timeout(mut self, after: Duration) -> Self {
        self.settings.drain_timeout = after;
        self
    }

    /// How the listeners are opened: backlog, keep-alive. For all of them.
    #[must_use]
    pub fn listen_options(mut self, options: ListenOptions) -> Self {
        self.options = options;
        self
    }

    /// Listens here, too: on TCP or at the path of a Unix socket.
    ///
    /// A name is bound at its first address that can be; that it is looked up may block
    /// [`build`](Builder::build). A path that a dead server left behind is taken over, one at which
    /// a server listens or another file is not; our own is removed when the server is over.
    #[must_use]
    pub fn listen<A>(mut self, address: A) -> Self
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        self.doors.push(address.try_into().map(Door::Address).map_err(Error::from));
        self
    }

    /// Serves a listener that was opened elsewhere, too; inherited from a supervisor, say. It keeps
    /// its backlog. That of `TcpListener::bind` is 128: in a flood, clients past it wait a second
    /// for another try.
    #[must_use]
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.doors.push(Ok(Door::Listener(listener)));
        self
    }

    /// As [`listener`](Builder::listener), for a Unix socket. Its file is not ours to remove.
    #[must_use]
    pub fn unix_listener(mut self, listener: UnixListener) -> Self {
        self.doors.push(Ok(Door::UnixListener(listener)));
        self
    }

    /// Lets other threads speak to the connections, by the mailbox's [`Handle`](crate::Handle)s.
    /// For the readiness models only: a thread that waits in recv(2) hears nobody.
    #[must_use]
    pub fn mailbox(mut self, mailbox: Mailbox) -> Self {
        self.mailbox = Some(mailbox);
        self
    }

    /// Has `recorder` record what the server does. Each thing that it does then costs the time to
    /// write it down, and a look at the clock.
    #[must_use]
    pub fn trace(mut self, recorder: Recorder) -> Self {
        self.audience.recorder = Some(recorder);
        self
    }

    /// Answers datagrams here, too, with a handler of their own: the service is for streams.
    ///
    /// The address must say that it is one of UDP: `udp:127.0.0.1:9000`. Of a socket for all of
    /// the machine's addresses, an answer comes from the address that was asked. Each blocking
    /// model has one thread more for each of these; the others serve them in their loop, a few at
    /// a time, so that a flood of datagrams does not starve the streams.
    ///
    /// A server may have these only; then its service is never asked for a handler.
    #[must_use]
    pub fn datagrams<A, H>(mut self, address: A, handler: H) -> Self
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
        H: DatagramHandler + Send + 'static,
    {
        let door = |address| Door::Datagrams(address, Box::new(handler));
        self.doors.push(address.try_into().map(door).map_err(Error::from));
        self
    }

    /// Checks the settings and listens.
    ///
    /// # Errors
    /// When a setting is zero that must not be, no listener was named, an address cannot be read
    /// or be listened on, or [`Model::Sequential`] was given several for streams.
    pub fn build(self) -> Result<Server<S>, Error> {
        let settings = self.settings;
        let must = |holds: bool, name: &'static str, must: &'static str| {
            if holds { Ok(()) } else { Err(Error::Setting { name, must }) }
        };
        let Crowd { threads, reactors, .. } = settings.crowd;
        must(threads > 0, "threads", "at least 1")?;
        must(reactors > 0, "reactors", "at least 1")?;
        let has_reactors = settings.model == Model::Epoll || reactors == 1;
        must(has_reactors, "the number of reactors of another model than epoll", "1")?;
        let mailboxes = self.mailbox.as_ref().map_or(reactors, |mailbox| mailbox.queues.len());
        must(mailboxes == reactors, "the mailbox", "made for as many reactors as there are")?;
        must(settings.max_connections != Some(0), "max_connections", "at least 1")?;
        must(!self.doors.is_empty(), "the number of listeners", "at least 1")?;
        let is_stream = |door: &&Result<Door, Error>| !matches!(door, Ok(Door::Datagrams(..)));
        let streams = self.doors.iter().filter(is_stream).count();
        let one_at_a_time = settings.model != Model::Sequential || streams <= 1;
        let name = "the number of listeners of the sequential model";
        must(one_at_a_time, name, "1, beside UDP sockets")?;

        let hears = self.mailbox.is_none() || !settings.model.is_blocking();
        must(hears, "the model of a server with a mailbox", "epoll or poll")?;

        let mut server = Server {
            service: self.service,
            settings,
            sockets: Sockets { listeners: Vec::new(), datagrams: Vec::new() },
            addresses: Vec::new(),
            files: Vec::new(),
            mailbox: self.mailbox,
            stop: Stop::new().map_err(Error::Start)?,
            totals: Totals::new(),
            audience: self.audience,
            origin: Instant::now(),
        };
        for door in self.doors {
            server.open(door?, &self.options)?;
        }
        Ok(server)
    }
}

fn failed(address: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Listen { address: address.into(), source }
}

/// What `open` makes of the first of the addresses that it can be made of.
fn first_that_can_be<T>(
    address: &Address,
    mut open: impl FnMut(SocketAddr) -> io::Result<T>,
) -> Result<T, Error> {
    let name = address.to_string();
    let candidates = address.resolve().map_err(failed(name.as_str()))?;
    // Of several failures the last one is told.
    let mut opened = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for candidate in candidates {
        opened = open(candidate);
        if opened.is_ok() {
            break;
        }
    }
    opened.map_err(failed(name))
}

fn tell_cut_backlog(name: &str, options: &ListenOptions) {
    let wanted = options.backlog;
    if let Some(most) = listener::somaxconn().filter(|most| *most < wanted) {
        info!("{name}: the kernel cuts the backlog of {wanted} to {most} (net.core.somaxconn)");
    }
}

fn local_address(socket: &Socket) -> Result<LocalAddress, Error> {
    let address = socket.local_addr().map_err(Error::Start)?;
    Ok(match address.as_socket() {
        Some(address) => LocalAddress::Tcp(address),
        None => LocalAddress::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default()),
    })
}

impl<S> Server<S> {
    fn open(&mut self, door: Door, options: &ListenOptions) -> Result<(), Error> {
        let socket = match door {
            Door::Datagrams(address, handler) => return self.bind(&address, handler),
            Door::Listener(listener) => {
                let address = listener.local_addr().map(|address| format!("tcp:{address}"));
                let name = address.unwrap_or("a listener".into());
                listener::adopt(listener, options).map_err(failed(name))?
            }
            Door::UnixListener(listener) => Socket::from(listener),
            Door::Address(Address::Unix(path)) => {
                let name = format!("unix:{}", path.display());
                let (socket, file) = unix::listen(&path, options).map_err(failed(name.as_str()))?;
                tell_cut_backlog(&name, options);
                self.files.push(file);
                socket
            }
            Door::Address(address @ Address::Tcp { .. }) => {
                let socket = first_that_can_be(&address, |a| listener::listen(a, options))?;
                tell_cut_backlog(&address.to_string(), options);
                socket
            }
            Door::Address(address @ Address::Udp { .. }) => {
                let source = io::Error::other("a stream service cannot be served on UDP");
                return Err(failed(address.to_string())(source));
            }
        };
        self.addresses.push(local_address(&socket)?);
        self.sockets.listeners.push(socket);
        Ok(())
    }

    fn bind(&mut self, address: &Address, handler: BoxedHandler) -> Result<(), Error> {
        if !matches!(address, Address::Udp { .. }) {
            let source = io::Error::other("datagrams are served on UDP only, say udp:HOST:PORT");
            return Err(failed(address.to_string())(source));
        }
        let socket = first_that_can_be(address, UdpSocket::bind)?;
        let local = socket.local_address().map_err(Error::Start)?;
        self.addresses.push(LocalAddress::Udp(local));
        self.sockets.datagrams.push((socket, handler));
        Ok(())
    }
}

impl<S> Server<S> {
    /// A server of `service`, as yet without a listener.
    pub fn builder(service: S) -> Builder<S> {
        Builder {
            service,
            settings: Settings {
                model: Model::Epoll,
                crowd: Crowd { threads: 4, reactors: 1, balance: Balance::default() },
                limits: Limits::default(),
                max_connections: None,
                drain_timeout: Duration::from_secs(10),
            },
            options: ListenOptions::default(),
            doors: Vec::new(),
            mailbox: None,
            audience: Audience::default(),
        }
    }

    /// Where it listens, in the order in which the listeners were named. A port of 0 stands here
    /// as the one that the kernel chose.
    pub fn local_addresses(&self) -> &[LocalAddress] {
        &self.addresses
    }

    /// What ends it, from any thread.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// What shows the server to other threads while it serves: its counters, its threads, its
    /// connections.
    ///
    /// From now on each thread keeps a ledger of its connections, and each readiness loop has a
    /// bell by which it can be asked.
    ///
    /// # Errors
    /// When there is no descriptor for the bell.
    pub fn watch(&mut self) -> Result<Watch, Error> {
        let cards = self.audience.cards.get_or_insert_default().clone();
        let Settings { model, crowd, .. } = self.settings;
        if self.mailbox.is_none() && !model.is_blocking() {
            let mailbox = Mailbox::with(crowd.reactors, Mailbox::CAPACITY);
            self.mailbox = Some(mailbox.map_err(Error::Start)?);
        }
        let queues = self.mailbox.as_ref().map_or(Vec::new(), |mailbox| mailbox.queues.clone());
        let (totals, stop) = (self.totals.clone(), self.stop.clone());
        Ok(Watch { totals, stop, cards, queues, origin: self.origin })
    }

    /// Serves on this thread until it is stopped and the last connection is over; what was
    /// counted.
    ///
    /// # Errors
    /// When what the model needs cannot be had, or when waiting itself fails. What a client does
    /// is never an error.
    pub fn run(self) -> Result<Snapshot, Error>
    where
        S: Service + Sync,
    {
        let Settings { model, crowd, .. } = self.settings;
        self.over_front(|front, sockets| front.run(model, crowd, sockets).map_err(Error::Run))
    }

    pub(crate) fn model(&self) -> Model {
        self.settings.model
    }

    pub(crate) fn reactors(&self) -> usize {
        self.settings.crowd.reactors
    }

    /// Runs a front end to its end; what was counted.
    pub(crate) fn over_front(
        self,
        run: impl FnOnce(&Front<'_, S>, Sockets) -> Result<(), Error>,
    ) -> Result<Snapshot, Error> {
        let max_connections = match self.settings.max_connections {
            Some(count) => count,
            None => {
                let descriptors = sys::descriptor_limit().map_err(Error::Start)?;
                descriptors.saturating_sub(Builder::<S>::KEPT_DESCRIPTORS).max(1) as usize
            }
        };
        let front = Front {
            service: &self.service,
            limits: self.settings.limits,
            drain_timeout: self.settings.drain_timeout,
            gate: Gate::new(max_connections),
            refusals: Quiet::default(),
            stop: &self.stop,
            totals: &self.totals,
            mailbox: self.mailbox.as_ref(),
            audience: self.audience,
            origin: self.origin,
        };
        run(&front, self.sockets)?;
        // The files of Unix sockets go last, when nobody is served any more.
        drop(self.files);
        Ok(self.totals.snapshot())
    }

    /// Serves on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(self) -> Result<Running, Error>
    where
        S: Service + Send + Sync + 'static,
    {
        let (addresses, stop) = (self.addresses.clone(), self.stop.clone());
        let totals = self.totals.clone();
        let thread = thread::Builder::new()
            .name("evmux".into())
            .spawn(move || self.run())
            .map_err(Error::Start)?;
        Ok(Running { addresses, stop, totals, thread: Some(thread) })
    }
}

/// A server on a thread of its own. Dropping it stops the server at once and waits for its end;
/// for an orderly end, [`drain`](Stop::drain) it and [`join`](Running::join).
pub struct Running {
    addresses: Vec<LocalAddress>,
    stop: Stop,
    totals: Totals,
    /// `None` once it was joined.
    thread: Option<JoinHandle<Result<Snapshot, Error>>>,
}

impl Running {
    /// Where it listens.
    pub fn local_addresses(&self) -> &[LocalAddress] {
        &self.addresses
    }

    /// What ends it, from any thread.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Snapshot {
        self.totals.snapshot()
    }

    /// Waits until the server has ended: somebody must have stopped it, or will.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn join(mut self) -> Result<Snapshot, Error> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(Error::Run(io::Error::other("the serving thread panicked"))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop.now();
            // Whether it ended well was not asked.
            let _ = thread.join();
        }
    }
}
