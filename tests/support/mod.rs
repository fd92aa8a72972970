//! What the tests on real sockets share: a server under any model that watches its handlers, and
//! clients that fail loudly instead of waiting for ever.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use evmux::{
    Builder, CloseReason, Exchange, Flow, Handler, Limits, Model, Peer, Running, Server, Service,
    Snapshot, Stop,
};
use socket2::{Domain, Socket, Type};

pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod handlers;

pub(crate) use child::Child;
pub(crate) use client::Client;

/// How long anything may take before a test fails. Nothing here takes a tenth of it on a machine
/// that has something else to do as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Makes of each claim, a function of a [`Model`], a module of its name with a test for each model.
macro_rules! every_front_end {
    ($($claim:ident,)+) => {
        $(front_ends! { sequential threads pool poll epoll: $claim, })+
    };
}

/// As `every_front_end`, for claims that not all models can keep.
macro_rules! front_ends {
    (several clients at a time: $($claim:ident,)+) => {
        $(front_ends! { threads pool poll epoll: $claim, })+
    };
    (any number of clients: $($claim:ident,)+) => {
        $(front_ends! { threads poll epoll: $claim, })+
    };
    ($($model:ident)+: $claim:ident,) => {
        mod $claim {
            $(#[test]
            fn $model() {
                super::$claim(stringify!($model).parse().unwrap());
            })+
        }
    };
}

/// As `every_front_end`, for claims that mostly wait: the models wait at the same time, in one
/// test.
macro_rules! at_once {
    ($models:expr; $($claim:ident,)+) => {
        $(mod $claim {
            use super::*;

            #[test]
            fn under_each_model() {
                crate::support::at_once(&$models, super::$claim);
            }
        })+
    };
}

/// The models that serve several clients at a time.
pub(crate) const SEVERAL_CLIENTS: [Model; 4] =
    [Model::Threads, Model::Pool, Model::Poll, Model::Epoll];

/// Of a panic in a claim, the name of the thread says the model.
#[track_caller]
pub(crate) fn at_once(models: &[Model], claim: fn(Model)) {
    let failed: Vec<&Model> = thread::scope(|scope| {
        let threads: Vec<_> = models
            .iter()
            .map(|model| {
                let thread = thread::Builder::new().name(model.name().into());
                (model, thread.spawn_scoped(scope, || claim(*model)).unwrap())
            })
            .collect();
        threads.into_iter().filter_map(|(model, it)| it.join().is_err().then_some(model)).collect()
    });
    assert!(failed.is_empty(), "it does not hold under {failed:?}");
}

/// Serves `make`'s handlers under `model` on a free port.
#[track_caller]
pub(crate) fn serve<F, H>(model: Model, make: F) -> Served
where
    F: Fn(&Peer) -> H + Send + Sync + 'static,
    H: Handler + 'static,
{
    serve_with(model, make, |builder| builder)
}

/// As [`serve`], within `limits`.
#[track_caller]
pub(crate) fn serve_within<F, H>(model: Model, limits: Limits, make: F) -> Served
where
    F: Fn(&Peer) -> H + Send + Sync + 'static,
    H: Handler + 'static,
{
    serve_with(model, make, |builder| builder.limits(limits))
}

/// As [`serve`], with what `settings` adds to the builder.
#[track_caller]
pub(crate) fn serve_with<F, H>(
    model: Model,
    make: F,
    settings: impl FnOnce(Builder<Watching>) -> Builder<Watching>,
) -> Served
where
    F: Fn(&Peer) -> H + Send + Sync + 'static,
    H: Handler + 'static,
{
    prepare(model, make, |builder| settings(builder.listen("127.0.0.1:0"))).start()
}

/// A server that listens and does not serve yet. `settings` names its listener.
#[track_caller]
pub(crate) fn prepare<F, H>(
    model: Model,
    make: F,
    settings: impl FnOnce(Builder<Watching>) -> Builder<Watching>,
) -> Prepared
where
    F: Fn(&Peer) -> H + Send + Sync + 'static,
    H: Handler + 'static,
{
    // Both ends of each connection are in this process, and so are the other tests.
    evmux::raise_descriptor_limit().unwrap();
    let watch = Arc::new(Watch::default());
    let make = move |peer: &Peer| Box::new(make(peer)) as Box<dyn Handler>;
    let service = Watching { make: Box::new(make), watch: Arc::clone(&watch) };
    let server = settings(Server::builder(service).model(model)).build().unwrap();
    let address = server.local_addresses()[0].socket_addr().unwrap();
    Prepared { server, model, address, watch }
}

/// A listener whose connections have a send buffer of a few kilobytes. That of the loopback is
/// megabytes, in which an answer vanishes whatever the peer does.
#[track_caller]
pub(crate) fn listener_with_small_buffers() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(8192).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(64).unwrap();
    socket.into()
}

pub(crate) struct Prepared {
    pub(crate) server: Server<Watching>,
    model: Model,
    pub(crate) address: SocketAddr,
    watch: Arc<Watch>,
}

impl Prepared {
    #[track_caller]
    pub(crate) fn start(self) -> Served {
        let Self { server, model, address, watch } = self;
        Served { running: Some(server.start().unwrap()), model, address, watch }
    }
}

/// A server in this process. When it goes, its handlers must all have been treated as promised.
pub(crate) struct Served {
    running: Option<Running>,
    model: Model,
    pub(crate) address: SocketAddr,
    watch: Arc<Watch>,
}

impl Served {
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub(crate) fn stop(&self) -> Stop {
        self.running().stop()
    }

    pub(crate) fn counters(&self) -> Snapshot {
        self.running().counters()
    }

    /// Waits until `count` connections are over; why they are, in that order.
    #[track_caller]
    pub(crate) fn closed(&self, count: usize) -> Vec<CloseReason> {
        self.watch.closed(count)
    }

    /// Drains the server and waits for its end.
    #[track_caller]
    pub(crate) fn drained(self) -> Snapshot {
        self.stop().drain();
        self.ended()
    }

    /// Waits for the end of a server that was stopped. Every handler must have been closed.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Snapshot {
        let running = self.running.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || drop(sender.send(running.join())));
        let counters = receiver.recv_timeout(PATIENCE).expect("the server did not end").unwrap();
        self.watch.assert_settled(&counters);
        counters
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.stop().now();
        if self.model.is_blocking() {
            // A thread that waits in accept(2) takes up to a second to see it, and hundreds of
            // tests do not wait for that.
            thread::spawn(move || running.join());
        } else if !thread::panicking() {
            let counters = running.join().unwrap();
            self.watch.assert_settled(&counters);
        }
    }
}

/// A service whose handlers are watched. One type for all tests: the library is compiled for each
/// type that it serves.
pub(crate) struct Watching {
    make: Box<MakeHandler>,
    watch: Arc<Watch>,
}

type MakeHandler = dyn Fn(&Peer) -> Box<dyn Handler> + Send + Sync;

impl Service for Watching {
    type Handler = Watched;

    fn handler(&self, peer: &Peer) -> Watched {
        let handler = (self.make)(peer);
        self.watch.note(|seen| seen.made += 1);
        Watched { handler, watch: Arc::clone(&self.watch), stage: Stage::Made }
    }
}

/// What the handlers of a server have seen.
#[derive(Default)]
struct Watch {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    made: usize,
    closed: Vec<CloseReason>,
    /// Promises that were broken. A panic there and then would end the connection only.
    faults: Vec<String>,
}

impl Watch {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    #[track_caller]
    fn closed(&self, count: usize) -> Vec<CloseReason> {
        let seen = self.seen.lock().unwrap();
        let (seen, waited) =
            self.changed.wait_timeout_while(seen, PATIENCE, |s| s.closed.len() < count).unwrap();
        let closed = seen.closed.clone();
        drop(seen);
        assert!(!waited.timed_out(), "waited for {count} connections to close, saw {closed:?}");
        closed
    }

    #[track_caller]
    fn assert_settled(&self, counters: &Snapshot) {
        let seen = self.seen.lock().unwrap();
        let (made, closed) = (seen.made, seen.closed.len());
        let faults = seen.faults.clone();
        drop(seen);
        assert_eq!(faults, [""; 0], "promises to a handler were broken");
        assert_eq!(made, closed, "handlers that were made, and that were told of their end");
        assert_eq!(counters.closed_in_all(), closed as u64);
        assert_eq!(counters.opened, counters.closed_in_all());
        let refused = counters.refused_limit + counters.refused_other;
        assert_eq!(counters.accepted, counters.opened + refused);
        // What rises and falls is down again.
        assert_eq!((counters.waiting_bytes, counters.paused_connections), (0, 0));
        assert_eq!(counters.paused, counters.resumed);
    }
}

/// A handler, and how far in its life it is.
pub(crate) struct Watched {
    handler: Box<dyn Handler>,
    watch: Arc<Watch>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Made,
    Open,
    Ended,
    Closed,
}

impl Watched {
    fn call(&mut self, call: &str, allowed: &[Stage], next: Option<Stage>) {
        if !allowed.contains(&self.stage) {
            let fault = format!("{call} in stage {:?}", self.stage);
            self.watch.note(|seen| seen.faults.push(fault));
        }
        self.stage = next.unwrap_or(self.stage);
    }
}

impl Handler for Watched {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.call("open", &[Stage::Made], Some(Stage::Open));
        self.handler.open(exchange)
    }
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.call("receive", &[Stage::Open, Stage::Ended], None);
        self.handler.receive(exchange)
    }
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.call("end", &[Stage::Open], Some(Stage::Ended));
        self.handler.end(exchange)
    }
    fn room(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.call("room", &[Stage::Open, Stage::Ended], None);
        self.handler.room(exchange)
    }
    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.call("timer", &[Stage::Open, Stage::Ended], None);
        self.handler.timer(exchange)
    }
    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.call("wake", &[Stage::Open, Stage::Ended], None);
        self.handler.wake(exchange)
    }
    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.call("drain", &[Stage::Open, Stage::Ended], None);
        self.handler.drain(exchange)
    }
    fn closed(&mut self, reason: &CloseReason) {
        let allowed = [Stage::Made, Stage::Open, Stage::Ended];
        self.call("closed", &allowed, Some(Stage::Closed));
        let reason = *reason;
        self.watch.note(|seen| seen.closed.push(reason));
        self.handler.closed(&reason);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.stage != Stage::Closed {
            self.call("dropped", &[], None);
        }
    }
}

/// Waits until `done` says so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        // Nothing tells when a counter changes.
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until what `count` counts stays the same for `rest`.
#[track_caller]
pub(crate) fn comes_to_rest(what: &str, rest: Duration, mut count: impl FnMut() -> u64) {
    let start = Instant::now();
    let mut before = count();
    loop {
        thread::sleep(rest); // That nothing happens can only be seen by waiting.
        let now = count();
        if now == before {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{what} went on: {before}, then {now}");
        before = now;
    }
}

/// `length` bytes that say where they stand: a piece that is lost, doubled or moved shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(pattern_at).collect()
}

/// The byte at `place` of [`pattern`]. Its period is no power of two, as buffers are.
pub(crate) fn pattern_at(place: usize) -> u8 {
    ((place / 251) ^ (place % 251)) as u8
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_bytes(actual: &[u8], expected: &[u8]) {
    let equal = actual.iter().zip(expected).take_while(|(a, e)| a == e).count();
    let around = |bytes: &[u8]| {
        let piece = &bytes[equal.min(bytes.len())..(equal + 40).min(bytes.len())];
        String::from_utf8_lossy(piece).into_owned()
    };
    assert!(
        actual == expected,
        "{} bytes instead of {}; at {equal} {:?} instead of {:?}",
        actual.len(),
        expected.len(),
        around(actual),
        around(expected),
    );
}
