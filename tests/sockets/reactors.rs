//! One thread accepts, several serve.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use evmux::{Balance, Builder, Exchange, Flow, Handler, Mailbox, Model, Peer};

use crate::support::child::Plan;
use crate::support::handlers::Echo;
use crate::support::{
    Child, Client, PATIENCE, Served, Watching, assert_bytes, pattern, prepare, serve_with,
};

/// Answers each byte with the digit of its reactor.
struct Named(u8);

impl Named {
    fn new(peer: &Peer) -> Self {
        Self(b'0' + peer.id.unwrap().reactor() as u8)
    }
}

impl Handler for Named {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.received.fill(self.0);
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Continue
    }
}

fn serve_named(settings: impl FnOnce(Builder<Watching>) -> Builder<Watching>) -> Served {
    serve_with(Model::Epoll, Named::new, settings)
}

/// `count` clients, by the reactor that serves them.
#[track_caller]
fn clients_by_reactor(served: &Served, count: usize) -> HashMap<u8, Vec<Client>> {
    let mut clients: HashMap<_, Vec<_>> = HashMap::new();
    for _ in 0..count {
        let mut client = served.connect();
        client.send(b"?");
        let reactor = client.receive(1)[0] - b'0';
        clients.entry(reactor).or_default().push(client);
    }
    clients
}

#[test]
fn round_robin_gives_each_reactor_as_many() {
    let served = serve_named(|builder| builder.reactors(3));
    let clients = clients_by_reactor(&served, 60);
    for reactor in 0..3 {
        assert_eq!(clients[&reactor].len(), 20, "reactor {reactor}");
    }
}

#[test]
fn the_reactor_with_the_fewest_connections_gets_the_next() {
    let served = serve_named(|builder| builder.reactors(2).balance(Balance::Fewest));
    let mut clients = clients_by_reactor(&served, 20);
    assert_eq!((clients[&0].len(), clients[&1].len()), (10, 10));
    clients.remove(&0);
    served.closed(10);
    let more = clients_by_reactor(&served, 9);
    assert_eq!(more[&0].len(), 9);
}

#[test]
fn nothing_of_five_hundred_clients_is_lost() {
    const ROUNDS: usize = 20;
    let served = serve_with(Model::Epoll, |_| Echo, |builder| builder.reactors(2));
    let mut clients: Vec<_> = (0..500).map(|_| served.connect()).collect();
    let message = |client: usize, round: usize| pattern(4000)[client..][..64 + round].to_vec();
    for round in 0..ROUNDS {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&message(number, round));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.expect(&message(number, round));
        }
    }
    clients.iter_mut().for_each(Client::finish);
    clients.iter_mut().for_each(Client::expect_end);
    let counters = served.drained();
    let bytes: usize = (0..ROUNDS).map(|round| 500 * (64 + round)).sum();
    assert_eq!((counters.accepted, counters.opened), (500, 500));
    assert_eq!((counters.bytes_received, counters.bytes_sent), (bytes as u64, bytes as u64));
}

#[test]
fn who_waits_in_the_backlog_when_the_drain_begins_is_served_by_all() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients: Vec<_> = (0..100).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.send(b"????");
    }
    let served =
        prepare(Model::Epoll, Named::new, |builder| builder.reactors(2).listener(listener)).start();
    served.stop().drain();
    let mut by_reactor = [0; 2];
    for client in &mut clients {
        let answer = client.rest();
        let reactor = answer[0] - b'0';
        assert_bytes(&answer, &[answer[0]; 4]);
        by_reactor[usize::from(reactor)] += 1;
    }
    assert_eq!(by_reactor, [50, 50]);
    assert_eq!(served.ended().opened, 100);
}

#[test]
fn a_server_whose_reactors_have_nobody_ends_soon() {
    // The acceptor tells the reactors that nobody will come any more, while these may be about to
    // sleep. Were it missed, a drain would take its timeout, and a stop would never end. `make loom`
    // tries every order of this; here it is the whole server.
    let settings = |builder: Builder<Watching>| {
        builder.reactors(4).drain_timeout(10 * PATIENCE).listen("127.0.0.1:0")
    };
    for round in 0..100 {
        let served = prepare(Model::Epoll, |_| Echo, settings).start();
        if round % 2 == 0 {
            served.stop().drain()
        } else {
            served.stop().now()
        }
        served.ended();
    }
}

#[test]
fn other_threads_reach_the_connections_of_every_reactor() {
    const MESSAGES: usize = 200;
    let mailbox = Mailbox::with(2, Mailbox::CAPACITY).unwrap();
    let handle = mailbox.handle();
    let (tell, ids) = mpsc::channel();
    let tell = Mutex::new(tell);
    let make = move |peer: &Peer| {
        tell.lock().unwrap().send(peer.id.unwrap()).unwrap();
        Named::new(peer)
    };
    let served = serve_with(Model::Epoll, make, |b| b.reactors(2).mailbox(mailbox));
    let (mut clients, mut known) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        clients.push(served.connect());
        known.push(ids.recv_timeout(PATIENCE).unwrap());
    }
    assert_eq!(known.iter().filter(|id| id.reactor() == 1).count(), 10);
    let senders = [b'a', b'b'].map(|letter| {
        let (handle, known) = (handle.clone(), known.clone());
        thread::spawn(move || {
            for number in 0..MESSAGES {
                for (index, &id) in known.iter().enumerate() {
                    let text = format!("{} {index:02} {number:03}\n", letter as char);
                    handle.send(id, Arc::from(text.into_bytes())).unwrap();
                }
            }
        })
    });
    for (index, client) in clients.iter_mut().enumerate() {
        let text = String::from_utf8(client.receive(2 * MESSAGES * 9)).unwrap();
        for letter in ["a", "b"] {
            let of_one: Vec<_> = text.lines().filter(|line| line.starts_with(letter)).collect();
            let expected: Vec<_> =
                (0..MESSAGES).map(|number| format!("{letter} {index:02} {number:03}")).collect();
            assert_eq!(of_one, expected);
        }
    }
    for sender in senders {
        sender.join().unwrap();
    }
    // And they are what they were.
    for (client, id) in clients.iter_mut().zip(known) {
        client.send(b"?");
        client.expect(&[b'0' + id.reactor() as u8]);
    }
    assert_eq!(served.counters().messages_delivered, 2 * 20 * MESSAGES as u64);
}

#[test]
fn who_waits_for_a_descriptor_gets_that_of_another_reactors_client_at_once() {
    let mut plan = Plan::new(Model::Epoll, "echo");
    (plan.reactors, plan.ulimit, plan.max_connections) = (2, "-n 64", 1000);
    let mut child = plan.start();
    let mut old = Vec::new();
    while let Some(client) = served_client(&child) {
        old.push(client);
    }
    assert!((20..64).contains(&old.len()), "{} are served", old.len());
    // The acceptor tries again by itself, but only after a second, once it has waited for so long.
    // Who is served sooner after a refusal is served because a client of a reactor has gone. That
    // may take a second on a busy machine, but not each time.
    let soon = Duration::from_millis(700);
    let served_soon = (0..5).any(|_| {
        thread::sleep(Duration::from_millis(2000)); // For the wait to have grown.
        assert!(served_client(&child).is_none(), "a descriptor came from nowhere");
        let refused = Instant::now();
        drop(old.pop());
        let new = served_client(&child).expect("a descriptor is free");
        old.push(new);
        refused.elapsed() < soon
    });
    assert!(served_soon, "nobody told the acceptor");
    for client in &mut old {
        client.ask(b"still here");
    }
    child.assert_alive();
    assert_eq!(child.counted().refused_limit, 0);
}

/// A client that is served; `None` when it was refused.
fn served_client(child: &Child) -> Option<Client> {
    let mut client = Client::try_connect(child.address)?;
    // One that is refused may be gone already.
    let _ = std::io::Write::write(&mut client.stream, b"x");
    let answer = std::io::Read::read(&mut client.stream, &mut [0; 10]);
    matches!(answer, Ok(1)).then_some(client)
}
