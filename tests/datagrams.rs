//! UDP under every model, over real sockets of this machine.
//!
//! On the loopback interface a datagram is lost for one reason only: there was no room for it in
//! the receiver's buffer. So a client that waits for each answer before it asks again loses none,
//! and in a flood every one that was sent is received or counted as lost.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use evmux::services::{self, datagrams};
use evmux::{Datagram, DatagramHandler, LocalAddress, Model, Reply, Running, Server, Snapshot};

/// Far more than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with one UDP socket and nothing else.
fn start(model: Model, handler: impl DatagramHandler + Send + 'static) -> (Running, SocketAddr) {
    let server = Server::builder(services::echo).model(model);
    let server = server.datagrams("udp:127.0.0.1:0", handler).build().unwrap();
    let address = server.local_addresses()[0].socket_addr().unwrap();
    (server.start().unwrap(), address)
}

/// Drains the server and waits for its end.
#[track_caller]
fn drain(running: Running) -> Snapshot {
    running.stop().drain();
    joined(running).0
}

/// Waits for the end of a server that was stopped; what it counted, and how long it took.
#[track_caller]
fn joined(running: Running) -> (Snapshot, Duration) {
    let start = Instant::now();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || drop(sender.send(running.join().unwrap())));
    let snapshot = ended.recv_timeout(PATIENCE).expect("the server does not end");
    (snapshot, start.elapsed())
}

/// A client that hears only of `server`.
fn client(server: SocketAddr) -> UdpSocket {
    let unspecified: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let client = UdpSocket::bind(unspecified).unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

#[track_caller]
fn answer(client: &UdpSocket) -> Vec<u8> {
    let mut answer = vec![0; 65536];
    let length = client.recv(&mut answer).expect("no answer");
    answer.truncate(length);
    answer
}

#[track_caller]
fn ask(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    client.send(question).unwrap();
    answer(client)
}

/// A handler that takes its first datagram and then waits until it is let go on: what is sent in
/// the meantime is queued by the kernel.
fn held_back<H: DatagramHandler>(
    let_go: Receiver<()>,
    mut handler: H,
) -> impl FnMut(&mut Datagram<'_>) -> Reply {
    let mut is_first = true;
    move |datagram| {
        if std::mem::take(&mut is_first) {
            let_go.recv_timeout(PATIENCE).unwrap();
        }
        handler.receive(datagram)
    }
}

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // Xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn ten_thousand_datagrams_of_every_length_come_back_whole_and_to_who_sent_them() {
    const CLIENTS: u64 = 8;
    const EACH: u64 = 1250;
    for model in Model::ALL {
        let (running, address) = start(model, datagrams::echo);
        // The server's buffer has room for one of the longest and some short ones.
        let only_long_one = Mutex::new(());
        thread::scope(|scope| {
            for number in 1..=CLIENTS {
                let only_long_one = &only_long_one;
                scope.spawn(move || {
                    let client = client(address);
                    let mut numbers = Numbers(number);
                    for round in 0..EACH {
                        let most = if round % 16 == 0 { 65_508 } else { 1_500 };
                        let length = match round {
                            0 => 0,
                            1 => Datagram::LONGEST,
                            _ => (numbers.next() % most) as usize,
                        };
                        let first = numbers.next();
                        let question: Vec<u8> =
                            (0..length as u64).map(|index| (first + index) as u8).collect();
                        let _alone = (length > 1_500)
                            .then(|| only_long_one.lock().unwrap_or_else(PoisonError::into_inner));
                        assert!(ask(&client, &question) == question, "{model}, {length} bytes");
                    }
                });
            }
        });
        let snapshot = drain(running);
        assert_eq!(snapshot.datagrams_received, CLIENTS * EACH, "{model}");
        assert_eq!(snapshot.datagrams_sent, CLIENTS * EACH, "{model}");
        assert_eq!(snapshot.bytes_received, snapshot.bytes_sent, "{model}");
        assert_eq!((snapshot.datagrams_dropped(), snapshot.datagrams_lost), (0, 0), "{model}");
    }
}

#[test]
fn of_a_burst_everything_is_answered_or_counted_as_lost() {
    const SENT: u32 = 20_000;
    for model in Model::ALL {
        let (go, let_go) = mpsc::channel();
        let (running, address) = start(model, held_back(let_go, datagrams::echo));
        let client = client(address);
        for number in 0..SENT {
            client.send(&number.to_be_bytes().repeat(25)).unwrap();
        }
        go.send(()).unwrap();
        let snapshot = drain(running);
        assert!(snapshot.datagrams_lost > 0, "{model}: the burst was too small");
        let arrived = snapshot.datagrams_received + snapshot.datagrams_lost;
        assert_eq!(arrived, u64::from(SENT), "{model}");
        assert_eq!(snapshot.datagrams_sent, snapshot.datagrams_received, "{model}");

        // The client's own buffer may have lost some, too; those that are there are right.
        client.set_nonblocking(true).unwrap();
        let mut answers = HashSet::new();
        let mut bytes = [0; 200];
        while let Ok(length) = client.recv(&mut bytes) {
            let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
            assert!(number < SENT && bytes[..length] == number.to_be_bytes().repeat(25));
            assert!(answers.insert(number), "{model}: {number} was answered twice");
        }
        assert!(!answers.is_empty() && answers.len() as u64 <= snapshot.datagrams_sent, "{model}");
    }
}

/// More than a turn of a loop serves, and no event comes for what is left.
#[test]
fn of_many_that_wait_the_last_is_answered_without_another_event_and_then_the_next() {
    for model in Model::ALL {
        let (go, let_go) = mpsc::channel();
        let (running, address) = start(model, held_back(let_go, datagrams::echo));
        let client = client(address);
        // As many as fit into the buffers of both ends.
        for number in 0..200 {
            client.send(&[number]).unwrap();
        }
        go.send(()).unwrap();
        for number in 0..200 {
            assert_eq!(answer(&client), [number], "{model}");
        }
        // A loop does without events while so many wait; then it must be told of the next one.
        for number in 0..3 {
            assert_eq!(ask(&client, &[number]), [number], "{model}");
        }
        assert_eq!(drain(running).datagrams_lost, 0, "{model}");
    }
}

#[test]
fn an_answer_that_grew_too_long_is_dropped_and_the_next_datagram_answered() {
    for model in Model::ALL {
        let (running, address) = start(model, datagrams::upper);
        let client = client(address);
        // Each of these is two bytes long and three in upper case.
        client.send("ŉ".repeat(30_000).as_bytes()).unwrap();
        assert_eq!(ask(&client, "straße".as_bytes()), b"STRASSE", "{model}");
        let longest = "ŉ".repeat(21_835);
        assert_eq!(ask(&client, longest.as_bytes()).len(), 65_505, "{model}");
        let snapshot = drain(running);
        assert_eq!((snapshot.datagrams_received, snapshot.datagrams_sent), (3, 2), "{model}");
        assert_eq!(snapshot.datagrams_too_long, 1, "{model}");
    }
}

#[test]
fn an_empty_datagram_is_answered_like_any_other() {
    for model in Model::ALL {
        let (running, address) = start(model, datagrams::echo);
        let client = client(address);
        for _ in 0..3 {
            assert_eq!(ask(&client, b""), b"", "{model}");
        }
        assert_eq!(ask(&client, b"x"), b"x", "{model}");
        assert_eq!(drain(running).datagrams_sent, 4, "{model}");
    }
}

#[test]
fn a_client_that_went_away_harms_nobody() {
    for model in Model::ALL {
        let (running, address) = start(model, datagrams::echo);
        let staying = client(address);
        for _ in 0..50 {
            // Its answer meets no socket, and the kernel hears of that.
            client(address).send(b"gone").unwrap();
            assert_eq!(ask(&staying, b"here"), b"here", "{model}");
        }
        assert_eq!(drain(running).datagrams_received, 100, "{model}");
    }
}

#[test]
fn a_datagram_that_is_not_answered_leaves_the_client_waiting_and_nobody_else() {
    for model in Model::ALL {
        let (running, address) = start(model, datagrams::discard);
        let client = client(address);
        client.send(b"x").unwrap();
        let snapshot = drain(running);
        assert_eq!((snapshot.datagrams_received, snapshot.datagrams_sent), (1, 0), "{model}");
        assert_eq!(snapshot.datagrams_dropped(), 0, "{model}");
        client.set_nonblocking(true).unwrap();
        assert!(client.recv(&mut [0; 1]).is_err(), "{model}");
    }
}

#[test]
fn a_panic_costs_one_datagram() {
    for model in Model::ALL {
        let (running, address) = start(model, |datagram: &mut Datagram<'_>| {
            if &datagram.received[..] == b"bad" {
                // Not panic!, which would print.
                panic::resume_unwind(Box::new(()));
            }
            datagram.answer_received()
        });
        let client = client(address);
        for _ in 0..3 {
            client.send(b"bad").unwrap();
            assert_eq!(ask(&client, b"good"), b"good", "{model}");
        }
        let snapshot = drain(running);
        assert_eq!((snapshot.datagrams_panicked, snapshot.datagrams_sent), (3, 3), "{model}");
    }
}

#[test]
fn each_socket_has_its_own_handler_and_answers_for_itself() {
    for model in Model::ALL {
        let server = Server::builder(services::echo)
            .model(model)
            .datagrams("udp:127.0.0.1:0", datagrams::upper)
            .listen("127.0.0.1:0")
            .datagrams("udp:127.0.0.1:0", datagrams::greeting("hi"))
            .build()
            .unwrap();
        let addresses = server.local_addresses().to_vec();
        let ports: Vec<_> =
            addresses.iter().map(|address| address.socket_addr().unwrap()).collect();
        let expected =
            [LocalAddress::Udp(ports[0]), LocalAddress::Tcp(ports[1]), LocalAddress::Udp(ports[2])];
        assert_eq!(addresses, expected);
        assert_eq!(addresses[0].to_string(), format!("udp {}", ports[0]));
        let running = server.start().unwrap();
        // They take answers from the address they asked only.
        let (one, other) = (client(ports[0]), client(ports[2]));
        let mut stream = TcpStream::connect(ports[1]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..3 {
            assert_eq!(ask(&one, b"x"), b"X", "{model}");
            assert_eq!(ask(&other, b"x"), b"hi", "{model}");
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
        }
        drop(stream);
        drain(running);
    }
}

#[test]
fn a_socket_for_all_addresses_answers_from_the_one_that_was_asked() {
    for model in Model::ALL {
        let server = Server::builder(services::echo).model(model);
        let server = server.datagrams("udp:0.0.0.0:0", datagrams::hello).build().unwrap();
        let port = server.local_addresses()[0].socket_addr().unwrap().port();
        let running = server.start().unwrap();
        for asked in [[127, 0, 0, 1], [127, 1, 2, 3]] {
            // It hears only of the address that it asks.
            let client = client((asked, port).into());
            let expected = format!("Hello {}\n", client.local_addr().unwrap().ip());
            for _ in 0..2 {
                assert_eq!(ask(&client, b""), expected.as_bytes(), "{model}");
            }
        }
        assert_eq!(drain(running).datagrams_sent, 4, "{model}");
    }
}

#[test]
fn what_has_come_before_a_drain_is_answered() {
    for model in Model::ALL {
        let (go, let_go) = mpsc::channel();
        let (running, address) = start(model, held_back(let_go, datagrams::echo));
        let client = client(address);
        for number in 0..100 {
            client.send(&[number]).unwrap();
        }
        running.stop().drain();
        go.send(()).unwrap();
        for number in 0..100 {
            assert_eq!(answer(&client), [number], "{model}");
        }
        assert_eq!(joined(running).0.datagrams_sent, 100, "{model}");
    }
}

#[test]
fn an_idle_server_wakes_for_nothing_and_ends_when_it_is_asked() {
    thread::scope(|scope| {
        for model in Model::ALL {
            scope.spawn(move || {
                let (running, address) = start(model, datagrams::echo);
                ask(&client(address), b"x");
                // A thread that waits in a call parks after a second. What is claimed is that
                // nothing happens, and that takes time to see.
                thread::sleep(Duration::from_millis(1500));
                let before = running.counters();
                thread::sleep(Duration::from_millis(1500));
                assert_eq!(running.counters(), before, "{model}");
                running.stop().drain();
                let (_, took) = joined(running);
                assert!(took < Duration::from_secs(1), "{model} took {took:?}");
            });
        }
    });
}

#[test]
fn a_server_that_has_just_begun_to_wait_ends_within_a_second_or_so() {
    for model in Model::ALL {
        for at_once in [false, true] {
            let (running, address) = start(model, datagrams::echo);
            ask(&client(address), b"x");
            let stop = running.stop();
            if at_once {
                stop.now()
            } else {
                stop.drain()
            };
            let (_, took) = joined(running);
            assert!(took < Duration::from_secs(3), "{model} took {took:?}");
        }
    }
}

/// Sends datagrams to `server` as fast as it can while `run` runs.
fn flooding<R>(server: SocketAddr, run: impl FnOnce() -> R) -> R {
    struct Ends<'f>(&'f AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let client = client(server);
            while !over.load(Ordering::Relaxed) {
                // Once the server is gone, sending fails.
                let _ = client.send(&[0; 100]);
            }
        });
        let _ends = Ends(&over);
        run()
    })
}

/// Looks until the server has received so many datagrams.
#[track_caller]
fn have_come(running: &Running, count: u64) {
    let start = Instant::now();
    while running.counters().datagrams_received < count {
        assert!(start.elapsed() < PATIENCE, "{} datagrams", running.counters().datagrams_received);
        thread::yield_now();
    }
}

#[test]
fn a_flood_of_datagrams_does_not_starve_the_streams() {
    for model in Model::ALL {
        let server = Server::builder(services::echo)
            .model(model)
            .datagrams("udp:127.0.0.1:0", datagrams::echo)
            .listen("127.0.0.1:0")
            .build()
            .unwrap();
        let addresses: Vec<_> =
            server.local_addresses().iter().map(|a| a.socket_addr().unwrap()).collect();
        let running = server.start().unwrap();
        flooding(addresses[0], || {
            have_come(&running, 1000);
            let mut stream = TcpStream::connect(addresses[1]).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            for number in 0..200 {
                stream.write_all(&[number]).unwrap();
                let mut answer = [0; 1];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer, [number], "{model}");
            }
        });
        drain(running);
    }
}

#[test]
fn a_drain_ends_although_datagrams_go_on_coming() {
    for model in Model::ALL {
        let (running, address) = start(model, datagrams::echo);
        flooding(address, || {
            have_come(&running, 1);
            drain(running);
        });
    }
}

#[test]
fn several_reactors_serve_datagrams_too() {
    let server = Server::builder(services::echo)
        .reactors(3)
        .listen("127.0.0.1:0")
        .datagrams("udp:127.0.0.1:0", datagrams::echo)
        .datagrams("udp:127.0.0.1:0", datagrams::upper)
        .build()
        .unwrap();
    let addresses: Vec<_> =
        server.local_addresses().iter().map(|a| a.socket_addr().unwrap()).collect();
    let running = server.start().unwrap();
    let mut stream = TcpStream::connect(addresses[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    drop(stream);
    assert_eq!(ask(&client(addresses[1]), b"x"), b"x");
    assert_eq!(ask(&client(addresses[2]), b"x"), b"X");
    assert_eq!(drain(running).datagrams_sent, 2);
}

#[test]
fn an_ipv6_socket_answers_ipv6() {
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        // A machine without IPv6 cannot show it.
        return;
    }
    for listen in ["udp:[::1]:0", "udp:[::]:0"] {
        let server = Server::builder(services::echo).datagrams(listen, datagrams::hello);
        let server = server.build().unwrap();
        let port = server.local_addresses()[0].socket_addr().unwrap().port();
        let running = server.start().unwrap();
        let client = client((Ipv6Addr::LOCALHOST, port).into());
        assert_eq!(ask(&client, b""), b"Hello ::1\n", "{listen}");
        drain(running);
    }
}

#[test]
fn what_cannot_be_served_is_said_when_the_server_is_built() {
    let builder = || Server::builder(services::echo);
    let error = builder().datagrams("127.0.0.1:0", datagrams::echo).build().err().unwrap();
    let expected =
        "cannot listen on tcp:127.0.0.1:0: datagrams are served on UDP only, say udp:HOST:PORT";
    assert_eq!(error.to_string(), expected);
    let error = builder().listen("udp:127.0.0.1:0").build().err().unwrap();
    let expected = "cannot listen on udp:127.0.0.1:0: a stream service cannot be served on UDP";
    assert_eq!(error.to_string(), expected);
    assert!(builder().datagrams("udp:127.0.0.1", datagrams::echo).build().is_err());

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp:{}", taken.local_addr().unwrap());
    let error = builder().datagrams(address.as_str(), datagrams::echo).build().err().unwrap();
    assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
}

#[test]
fn the_sequential_model_has_one_listener_for_streams_beside_its_udp_sockets() {
    let builder = || {
        let builder = Server::builder(services::echo).model(Model::Sequential);
        builder
            .datagrams("udp:127.0.0.1:0", datagrams::echo)
            .datagrams("udp:127.0.0.1:0", datagrams::echo)
    };
    assert!(builder().build().is_ok());
    assert!(builder().listen("127.0.0.1:0").build().is_ok());
    let error = builder().listen("127.0.0.1:0").listen("127.0.0.1:0").build().err().unwrap();
    let expected = "the number of listeners of the sequential model must be 1, beside UDP sockets";
    assert_eq!(error.to_string(), expected);
}
