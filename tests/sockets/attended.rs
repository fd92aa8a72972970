//! A server that is turned inside a loop of the caller's own: what each turn says, and what makes
//! the descriptor readable.

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use evmux::{
    CloseReason, ConnectionId, Error, Exchange, Flow, Handle, Handler, Local, Mailbox, Model, Next,
    Peer, Reactor, Server, Stop,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::{Client, PATIENCE};

/// `a` is answered with itself, `m` with a hundred bytes in as many calls, `t` after 50 ms.
struct Tasks {
    left: usize,
    seen: Rc<RefCell<Seen>>,
}

#[derive(Default)]
struct Seen {
    ids: Vec<ConnectionId>,
    closed: Vec<CloseReason>,
}

const MANY: usize = 100;
const LATER: Duration = Duration::from_millis(50);

impl Handler for Tasks {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        match exchange.received.first() {
            Some(b'm') => self.left = MANY,
            Some(b't') => exchange.set_timer(LATER),
            Some(byte) => exchange.to_send.append(&[*byte]),
            None => {}
        }
        let count = exchange.received.len();
        exchange.received.consume(count);
        if self.left == 0 {
            return Flow::Continue;
        }
        exchange.to_send.append(b"m");
        self.left -= 1;
        Flow::Again
    }

    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"t");
        Flow::Continue
    }

    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"w");
        Flow::Continue
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.seen.borrow_mut().closed.push(*reason);
    }
}

struct Attended<'a, 'r> {
    reactor: &'a mut Reactor<'r>,
    client: Client,
    seen: Rc<RefCell<Seen>>,
    handle: Handle,
    stop: Stop,
}

impl Attended<'_, '_> {
    /// Waits as long as the descriptor is not readable. False when that takes longer than `time`.
    fn readable_within(&self, time: Duration) -> bool {
        let time = Timespec::try_from(time).unwrap();
        let mut waited_for = [PollFd::new(&*self.reactor, PollFlags::IN)];
        poll(&mut waited_for, Some(&time)).unwrap() == 1
    }

    #[track_caller]
    fn turn(&mut self) -> Next {
        self.reactor.turn(Some(Duration::ZERO)).unwrap()
    }

    /// Turns until there is nothing more to do; what was said then.
    #[track_caller]
    fn settle(&mut self) -> Next {
        let began = Instant::now();
        loop {
            match self.turn() {
                Next::Now => assert!(began.elapsed() < PATIENCE, "it is never done"),
                next => return next,
            }
        }
    }

    /// Turns until nobody has anything to say: a new connection has said that it can be sent to.
    #[track_caller]
    fn rest(&mut self) {
        while self.readable_within(Duration::ZERO) {
            assert_eq!(self.settle(), Next::Event);
        }
    }

    /// Waits for what the client said, and does it.
    #[track_caller]
    fn say(&mut self, text: &[u8]) -> Next {
        self.client.send(text);
        assert!(self.readable_within(PATIENCE));
        self.turn()
    }
}

/// Attends a server with one client that has been accepted.
fn attend(drive: impl FnOnce(Attended<'_, '_>)) -> Rc<RefCell<Seen>> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let mailbox = Mailbox::new().unwrap();
    let handle = mailbox.handle();
    let service = |peer: &Peer| {
        seen.borrow_mut().ids.extend(peer.id);
        Tasks { left: 0, seen: Rc::clone(&seen) }
    };
    let server = Server::builder(service).mailbox(mailbox).listen("127.0.0.1:0").build().unwrap();
    let address = server.local_addresses()[0].socket_addr().unwrap();
    let stop = server.stop();
    server
        .attend(&Local::new(), |reactor| {
            let client = Client::connect(address);
            let seen = Rc::clone(&seen);
            let mut attended = Attended { reactor, client, seen, handle, stop };
            assert_eq!(attended.settle(), Next::Event);
            assert_eq!(attended.seen.borrow().ids.len(), 1);
            attended.rest();
            drive(attended);
            Ok(())
        })
        .unwrap();
    seen
}

#[test]
fn a_turn_that_did_everything_says_event() {
    attend(|mut attended| {
        assert!(!attended.readable_within(Duration::ZERO));
        assert_eq!(attended.say(b"a"), Next::Event);
        attended.client.expect(b"a");
        assert!(!attended.readable_within(Duration::ZERO));
    });
}

#[test]
fn a_turn_that_has_spent_its_budget_says_now() {
    attend(|mut attended| {
        assert_eq!(attended.say(b"m"), Next::Now);
        // Nothing else tells of it.
        assert!(!attended.readable_within(Duration::ZERO));
        assert_eq!(attended.settle(), Next::Event);
        attended.client.expect(&[b'm'; MANY]);
    });
}

#[test]
fn a_timer_makes_a_turn_say_until_when_to_wait() {
    attend(|mut attended| {
        let before = Instant::now();
        let Next::At(instant) = attended.say(b"t") else { panic!("there is a timer") };
        let bounds = before + LATER..=Instant::now() + LATER;
        assert!(bounds.contains(&instant), "{instant:?} is not in {bounds:?}");
        thread::sleep(instant.saturating_duration_since(Instant::now()));
        assert_eq!(attended.turn(), Next::Event);
        attended.client.expect(b"t");
    });
}

#[test]
fn a_turn_may_wait_by_itself() {
    attend(|mut attended| {
        let began = Instant::now();
        let time = Duration::from_millis(20);
        assert_eq!(attended.reactor.turn(Some(time)).unwrap(), Next::Event);
        assert!(began.elapsed() >= time);
        attended.client.send(b"t");
        let first = attended.reactor.turn(None).unwrap();
        assert!(matches!(first, Next::At(_)), "{first:?}");
        assert_eq!(attended.reactor.turn(None).unwrap(), Next::Event);
        attended.client.expect(b"t");
    });
}

#[test]
fn another_thread_makes_the_descriptor_readable() {
    attend(|mut attended| {
        let (handle, id) = (attended.handle.clone(), attended.seen.borrow().ids[0]);
        for _ in 0..100 {
            let handle = handle.clone();
            let thread = thread::spawn(move || handle.wake(id).unwrap());
            assert!(attended.readable_within(PATIENCE));
            assert_eq!(attended.settle(), Next::Event);
            attended.client.expect(b"w");
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_loop_that_waits_for_edges_misses_nothing() {
    attend(|mut attended| {
        let mut outer = mio::Poll::new().unwrap();
        let descriptor = attended.reactor.as_raw_fd();
        let mut source = mio::unix::SourceFd(&descriptor);
        outer.registry().register(&mut source, mio::Token(0), mio::Interest::READABLE).unwrap();
        let mut events = mio::Events::with_capacity(1);
        for text in [&b"a"[..], b"m"].repeat(100) {
            attended.client.send(text);
            outer.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "it was not told");
            attended.settle();
            let count = if text == b"m" { MANY } else { 1 };
            attended.client.expect(&text.repeat(count));
        }
    });
}

#[test]
fn a_stop_makes_the_descriptor_readable_and_the_turns_end() {
    let seen = attend(|mut attended| {
        let stop = attended.stop.clone();
        thread::spawn(move || stop.drain()).join().unwrap();
        assert!(attended.readable_within(PATIENCE));
        // The client still has to finish, and there is a time for that.
        let next = attended.settle();
        assert!(matches!(next, Next::At(_)), "{next:?}");
        attended.client.expect_end();
        attended.client.finish();
        assert!(attended.readable_within(PATIENCE));
        assert_eq!(attended.settle(), Next::Finished);
        assert_eq!(attended.settle(), Next::Finished);
    });
    assert_eq!(seen.borrow().closed, [CloseReason::Drained]);
}

#[test]
fn what_is_open_when_the_driving_ends_is_closed() {
    let seen = attend(|mut attended| {
        attended.say(b"a");
    });
    assert_eq!(seen.borrow().closed, [CloseReason::Stopped]);
}

#[test]
fn a_batch_that_was_full_is_followed_by_another() {
    // An edge-triggered loop is not told again of what a turn has left in the set.
    const CLIENTS: usize = 1200;
    evmux::raise_descriptor_limit().unwrap();
    attend(|mut attended| {
        let address = attended.client.stream.peer_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Client::connect(address));
            attended.settle();
        }
        attended.rest();
        for client in &mut clients {
            client.send(b"a");
        }
        assert_eq!(attended.turn(), Next::Now);
        assert_eq!(attended.settle(), Next::Event);
        assert!(!attended.readable_within(Duration::ZERO));
        for client in &mut clients {
            client.expect(b"a");
        }
    });
}

#[test]
fn the_error_of_the_driver_is_that_of_the_server() {
    let server = Server::builder(evmux::services::echo).listen("127.0.0.1:0").build().unwrap();
    let failed = server.attend(&Local::new(), |_| -> Result<(), Error> {
        Err(Error::Run(std::io::Error::other("the driver has had enough")))
    });
    assert!(failed.unwrap_err().to_string().contains("the driver has had enough"));
}

#[test]
fn only_one_reactor_with_epoll_can_be_attended() {
    for (model, reactors) in [(Model::Poll, 1), (Model::Threads, 1), (Model::Epoll, 2)] {
        let server = Server::builder(evmux::services::echo)
            .model(model)
            .reactors(reactors)
            .listen("127.0.0.1:0")
            .build()
            .unwrap();
        let Err(error) = server.attend(&Local::new(), |_| Ok(())) else { panic!("it was") };
        assert!(error.to_string().contains("epoll, with one reactor"), "{error}");
    }
}
