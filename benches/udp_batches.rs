//! What receiving and sending several datagrams in one call saves: recvmmsg(2) and sendmmsg(2)
//! against one call for each.
//!
//! `cargo bench --bench udp_batches`, best on a quiet machine. The figures that decided stand in
//! docs/decisions/udp-batches.md.
//!
//! Two measurements. *Queued*: so many datagrams wait; what does it cost to receive and answer
//! them all and to know that there is no more? One thread does both ends, and only the server's
//! part is timed. *Lock-step*: a client on another thread waits for each answer; what is the CPU
//! time of the server's thread for a datagram, its wait in epoll included?
//!
//! Without `--bench` (so when tests are run) each way is only tried.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use datagrams::{BATCH, Envelope};
use mio::unix::SourceFd;

/// The calls for several datagrams.
#[path = "../src/sys/datagrams.rs"]
#[allow(dead_code, unsafe_code, unused_imports)]
mod datagrams;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

const STRIDE: usize = 65536;

/// A way of answering all that waits, until the socket is dry.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    /// How many datagrams the first receive asks for, the second, and so on; the last number holds
    /// for all that follow. One is received by recvfrom(2) and answered by sendto(2).
    asks: &'static [usize],
    /// Whether the kernel says to which address each came, and the answer comes from there.
    names_destinations: bool,
}

const WAYS: [Way; 5] = [
    Way { name: "one by one", asks: &[1], names_destinations: false },
    Way { name: "batches", asks: &[BATCH], names_destinations: false },
    Way { name: "1, 1, batches", asks: &[1, 1, BATCH], names_destinations: false },
    Way { name: "destinations, batches", asks: &[BATCH], names_destinations: true },
    Way { name: "destinations, 2, batches", asks: &[2, BATCH], names_destinations: true },
];

struct Server {
    socket: UdpSocket,
    storage: Vec<u8>,
    envelopes: Vec<Envelope>,
    asks: &'static [usize],
}

impl Server {
    fn new(way: Way) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if way.names_destinations {
            datagrams::name_destinations(socket.as_fd(), false).unwrap();
        }
        let envelopes = (0..BATCH).map(|_| Envelope::new()).collect();
        Self { socket, storage: vec![0; STRIDE * BATCH], envelopes, asks: way.asks }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Answers what has come, upper-cased, and says how much that was.
    fn answer_all(&mut self) -> usize {
        let mut answered = 0;
        for round in 0.. {
            let ask = self.asks[round.min(self.asks.len() - 1)];
            let received = self.answer_batch(ask);
            answered += received;
            if received < ask {
                break;
            }
        }
        answered
    }

    fn answer_batch(&mut self, ask: usize) -> usize {
        let (fd, storage) = (self.socket.as_fd(), &mut self.storage);
        let envelopes = &mut self.envelopes[..ask];
        let received = match datagrams::receive_datagrams(fd, storage, STRIDE, envelopes, false) {
            Ok(received) => received,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return 0;
            }
        };
        let envelopes = &envelopes[..received];
        for (bytes, envelope) in storage.chunks_exact_mut(STRIDE).zip(envelopes) {
            bytes[..envelope.length()].make_ascii_uppercase();
        }
        let replies = storage
            .chunks_exact(STRIDE)
            .zip(envelopes)
            .map(|(bytes, envelope)| (&bytes[..envelope.length()], envelope));
        assert_eq!(datagrams::send_datagrams(fd, replies).unwrap(), received);
        received
    }
}

/// Nanoseconds for each of `queued` datagrams that wait: the median of many rounds.
fn queued(way: Way, queued: usize, size: usize, rounds: usize) -> f64 {
    let mut server = Server::new(way);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.connect(server.address()).unwrap();
    let message = vec![b'x'; size];
    let mut answer = vec![0; STRIDE];
    let mut times: Vec<_> = (0..rounds)
        .map(|_| {
            for _ in 0..queued {
                client.send(&message).unwrap();
            }
            let start = Instant::now();
            assert_eq!(server.answer_all(), queued);
            let time = start.elapsed();
            for _ in 0..queued {
                assert_eq!(client.recv(&mut answer).unwrap(), size);
            }
            time
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as f64 / queued as f64
}

/// Nanoseconds of the server's CPU time for a datagram, with a client that waits for each answer.
fn lock_step(way: Way, size: usize, count: usize) -> f64 {
    let mut server = Server::new(way);
    let address = server.address();
    let client = thread::spawn(move || {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let message = vec![b'x'; size];
        let mut answer = vec![0; STRIDE];
        for _ in 0..count {
            client.send(&message).unwrap();
            assert_eq!(client.recv(&mut answer).unwrap(), size);
        }
    });
    let mut poll = mio::Poll::new().unwrap();
    let mut events = mio::Events::with_capacity(8);
    let descriptor = server.socket.as_raw_fd();
    let interest = mio::Interest::READABLE;
    poll.registry().register(&mut SourceFd(&descriptor), mio::Token(0), interest).unwrap();
    let before = cpu_nanoseconds();
    let mut answered = 0;
    while answered < count {
        poll.poll(&mut events, None).unwrap();
        answered += server.answer_all();
    }
    let time = cpu_nanoseconds() - before;
    client.join().unwrap();
    time as f64 / count as f64
}

/// The CPU time of this thread, as of the last time it was switched out or ticked.
fn cpu_nanoseconds() -> u64 {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse().unwrap()
}

/// One line for each way: the least, the median and the most of several runs, taken in turns so
/// that a disturbance hits all ways; and the least as a part of that of the first way.
fn compare(what: &str, repeats: usize, mut measure: impl FnMut(Way) -> f64) {
    let mut figures = WAYS.map(|_| Vec::new());
    for _ in 0..repeats {
        for (way, figures) in WAYS.iter().zip(&mut figures) {
            figures.push(measure(*way));
        }
    }
    let mut first = None;
    for (way, figures) in WAYS.iter().zip(&mut figures) {
        figures.sort_unstable_by(f64::total_cmp);
        let (least, median, most) = (figures[0], figures[repeats / 2], figures[repeats - 1]);
        let part = least / *first.get_or_insert(least);
        let name = way.name;
        println!("{what:24} {name:24} {least:7.0} {median:7.0} {most:7.0}   {part:.3}");
    }
}

fn main() {
    let measures = env::args().any(|argument| argument == "--bench");
    let (rounds, count, repeats) = if measures { (2000, 100_000, 9) } else { (2, 10, 1) };
    println!("{:49} {:>7} {:>7} {:>7}   ns a datagram", "", "least", "median", "most");
    for size in [64, 1400] {
        for length in [1, 2, 8, 32, 64] {
            let what = format!("queued {length}, {size} bytes");
            compare(&what, repeats, |way| queued(way, length, size, rounds));
        }
    }
    compare("lock-step, 64 bytes", repeats, |way| lock_step(way, 64, count));
}
