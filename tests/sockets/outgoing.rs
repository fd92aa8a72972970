//! Connections that a handler asks for: the first address that can be reached, within the time.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evmux::{
    CloseReason, ConnectOptions, ConnectionId, Exchange, Flow, Handler, Local, Model, Peer,
    PeerAddress, Server, Stop, Target,
};
use socket2::{Domain, Socket, Type};

use crate::support::PATIENCE;

front_ends! { poll epoll: a_connection_is_opened_and_speaks, }
front_ends! { poll epoll: when_the_first_address_refuses_the_second_is_used, }
front_ends! { poll epoll: when_all_refuse_the_handler_is_closed_and_never_opened, }
front_ends! { poll epoll: the_reason_is_that_of_the_last_address, }
front_ends! { poll epoll: an_address_that_does_not_answer_has_its_share_of_the_time, }
front_ends! { poll epoll: when_nobody_answers_in_time_the_handler_is_closed, }
front_ends! { poll epoll: a_connection_comes_from_the_address_that_was_asked_for, }
front_ends! { poll epoll: a_target_of_another_family_than_the_source_is_left_out, }
front_ends! { poll epoll: a_unix_socket_is_a_target_as_well, }
front_ends! { poll epoll: a_server_that_is_drained_does_not_wait_for_an_address, }

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Opened,
    Heard(String),
    Closed(CloseReason),
}

/// Greets who it is connected to, writes down what happens, and stops the server when it is over. To
/// greet it must be woken: whichever address was reached, it is found by its id.
struct Witness {
    events: Rc<RefCell<Vec<Event>>>,
    stop: Stop,
    local: Local<Self>,
    id: ConnectionId,
}

impl Witness {
    fn note(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }
}

impl Handler for Witness {
    fn open(&mut self, _: &mut Exchange<'_>) -> Flow {
        self.note(Event::Opened);
        self.local.wake(self.id);
        Flow::Continue
    }

    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"hello");
        Flow::Continue
    }

    /// Everything comes in one piece: a few bytes and the end.
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.note(Event::Heard(String::from_utf8_lossy(&exchange.received).into_owned()));
        Flow::Close
    }

    fn receive(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Continue
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.note(Event::Closed(*reason));
        self.stop.drain();
    }
}

/// Asks for one connection and runs the loop until it is over.
#[track_caller]
fn connect(model: Model, targets: Vec<Target>, options: ConnectOptions) -> Vec<Event> {
    connect_and(model, targets, options, |_| ())
}

#[track_caller]
fn connect_and(
    model: Model,
    targets: Vec<Target>,
    options: ConnectOptions,
    meanwhile: impl FnOnce(Stop) + Send + 'static,
) -> Vec<Event> {
    let service = |_: &Peer| -> Witness { panic!("nobody connects to this server") };
    let server = Server::builder(service).model(model).listen("127.0.0.1:0").build().unwrap();
    let (stop, local) = (server.stop(), Local::new());
    let events = Rc::new(RefCell::new(Vec::new()));
    let first = match targets.first() {
        Some(Target::Inet(address)) => PeerAddress::Inet(*address),
        _ => PeerAddress::Unix,
    };
    let witness = {
        let (events, stop, local) = (Rc::clone(&events), stop.clone(), local.clone());
        move |peer: &Peer| {
            assert_eq!((peer.address, peer.listener), (first, Peer::OUTGOING));
            Witness { events, stop, local, id: peer.id.expect("it is served by a loop") }
        }
    };
    local.connect(targets, options, witness);
    let (over, is_over) = mpsc::channel::<()>();
    let watchdog = thread::spawn({
        let stop = stop.clone();
        move || {
            meanwhile(stop.clone());
            if is_over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                stop.now();
            }
        }
    });
    server.run_local(&local).unwrap();
    drop(over);
    watchdog.join().unwrap();
    events.take()
}

fn opened_and_answered() -> [Event; 3] {
    let answer = Event::Heard("welcome".into());
    [Event::Opened, answer, Event::Closed(CloseReason::Finished)]
}

fn unreachable(kind: ErrorKind) -> [Event; 1] {
    [Event::Closed(CloseReason::Unreachable(kind))]
}

/// Answers one client; who it was.
fn answering() -> (Target, JoinHandle<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::from(listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (stream, address) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        answer(stream);
        address
    });
    (target, thread)
}

fn answer(mut stream: impl Read + Write) {
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello");
    stream.write_all(b"welcome").unwrap();
}

fn refusing() -> Target {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().into()
}

/// An address that answers nothing, as one behind a firewall: its queue is full, so the kernel
/// ignores who would come.
struct Silent {
    listener: Socket,
    _queue: Vec<TcpStream>,
}

impl Silent {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                Ok(stream) => queue.push(stream),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(error) => panic!("{error}"),
            }
            assert!(queue.len() < 100, "the queue has no end");
        }
        Self { listener, _queue: queue }
    }

    fn target(&self) -> Target {
        self.listener.local_addr().unwrap().as_socket().unwrap().into()
    }
}

fn a_connection_is_opened_and_speaks(model: Model) {
    let (target, server) = answering();
    let events = connect(model, vec![target], ConnectOptions::default());
    assert_eq!(events, opened_and_answered());
    server.join().unwrap();
}

fn when_the_first_address_refuses_the_second_is_used(model: Model) {
    let (target, server) = answering();
    let events = connect(model, vec![refusing(), target], ConnectOptions::default());
    assert_eq!(events, opened_and_answered());
    server.join().unwrap();
}

fn when_all_refuse_the_handler_is_closed_and_never_opened(model: Model) {
    let targets = vec![refusing(), refusing(), refusing()];
    let events = connect(model, targets, ConnectOptions::default());
    assert_eq!(events, unreachable(ErrorKind::ConnectionRefused));
    let events = connect(model, Vec::new(), ConnectOptions::default());
    assert_eq!(events, unreachable(ErrorKind::AddrNotAvailable));
}

fn the_reason_is_that_of_the_last_address(model: Model) {
    let nowhere = Target::Unix("/nowhere/at/all".into());
    let events = connect(model, vec![nowhere.clone(), refusing()], ConnectOptions::default());
    assert_eq!(events, unreachable(ErrorKind::ConnectionRefused));
    let events = connect(model, vec![refusing(), nowhere], ConnectOptions::default());
    assert_eq!(events, unreachable(ErrorKind::NotFound));
}

fn an_address_that_does_not_answer_has_its_share_of_the_time(model: Model) {
    let silent = Silent::new();
    let (target, server) = answering();
    let began = Instant::now();
    let options = ConnectOptions::default().timeout(Duration::from_millis(800));
    let events = connect(model, vec![silent.target(), target], options);
    assert_eq!(events, opened_and_answered());
    // Half of it; what a busy machine adds has no bound.
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    server.join().unwrap();
}

fn when_nobody_answers_in_time_the_handler_is_closed(model: Model) {
    let (first, second) = (Silent::new(), Silent::new());
    let began = Instant::now();
    let options = ConnectOptions::default().timeout(Duration::from_millis(300));
    let events = connect(model, vec![first.target(), second.target()], options);
    assert_eq!(events, unreachable(ErrorKind::TimedOut));
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_millis(300), "{elapsed:?}");
    assert!(elapsed < PATIENCE / 2, "{elapsed:?}");
}

fn a_connection_comes_from_the_address_that_was_asked_for(model: Model) {
    let (target, server) = answering();
    let source = SocketAddr::from(([127, 0, 0, 2], 0));
    let events = connect(model, vec![target], ConnectOptions::default().source(source));
    assert_eq!(events, opened_and_answered());
    assert_eq!(server.join().unwrap().ip(), source.ip());
}

fn a_target_of_another_family_than_the_source_is_left_out(model: Model) {
    let (target, server) = answering();
    let other = Target::from(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9)));
    let source = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = ConnectOptions::default().source(source);
    let events = connect(model, vec![other.clone(), target], options);
    assert_eq!(events, opened_and_answered());
    server.join().unwrap();
    // And has no say in why none can be reached.
    let events = connect(model, vec![refusing(), other.clone()], options);
    assert_eq!(events, unreachable(ErrorKind::ConnectionRefused));
    assert_eq!(connect(model, vec![other], options), unreachable(ErrorKind::AddrNotAvailable));
}

fn a_unix_socket_is_a_target_as_well(model: Model) {
    let name = format!("evmux-{}-outgoing-{model}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || answer(listener.accept().unwrap().0));
    let events = connect(model, vec![Target::Unix(path.clone())], ConnectOptions::default());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(events, opened_and_answered());
    server.join().unwrap();
}

fn a_server_that_is_drained_does_not_wait_for_an_address(model: Model) {
    let silent = Silent::new();
    let options = ConnectOptions::default().timeout(10 * PATIENCE);
    let events = connect_and(model, vec![silent.target()], options, |stop| {
        thread::sleep(Duration::from_millis(50)); // For the attempt to begin; earlier is right, too.
        stop.drain();
    });
    assert_eq!(events, [Event::Closed(CloseReason::Stopped)]);
}
