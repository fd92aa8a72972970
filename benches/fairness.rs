//! What one client that never stops does to fifty who ask now and then.
//!
//! `cargo bench --no-default-features --bench fairness`, or `make bench-fairness`. The server is a
//! process on the second CPU, all clients are on the first. One connection sends as fast as costs
//! the server half of its CPU, and takes all that comes back; fifty others, each a thread, send 64
//! bytes ten times a second and wait for the answer. Their time counts from when a question was
//! due, so that a server which stands still cannot hide it. The threads of the one have the lowest
//! priority: it is the server that is to choose between the clients, and not their own CPU.
//!
//! Options: `--rounds N` (5), `--seconds S` (2) a measurement. Without `--bench` (so when tests are
//! run) everything is only tried.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evmux::Model;
use rustix::process::setpriority_process;

use support::child::{self, Server as Child};
use support::figures::{machine, spread};
use support::options::Options;

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

const PINGERS: usize = 50;
const EVERY: Duration = Duration::from_millis(100);
/// What the one client sends at a time.
const CHUNK: usize = 64 * 1024;

fn main() {
    let options = Options::read();
    if let Some(words) = options.serve() {
        child::end_with_parent();
        return child::serve_echo(words[0].parse().unwrap());
    }
    child::pin(child::Side::Load);
    let (rounds, seconds) = if options.measures() { (5, 2.0) } else { (1, 0.02) };
    let rounds = options.number("--rounds", rounds);
    let time = Duration::from_secs_f64(options.number("--seconds", seconds));
    println!("{}", machine());
    println!("{PINGERS} clients, each 64 B every {EVERY:?}; microseconds from when it was due");
    println!("{:10} {:>22} {:>22}   beside them", "", "median", "p99");
    for model in [Model::Epoll, Model::Poll, Model::Threads] {
        // In turns, so that what else happens hits both.
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.push(measure(model, false, time));
            beside.push(measure(model, true, time));
        }
        for (figures, is_beside) in [(alone, false), (beside, true)] {
            let median = spread(figures.iter().map(|figure| figure.median));
            let p99 = spread(figures.iter().map(|figure| figure.p99));
            let share = spread(figures.iter().map(|figure| figure.share)).median * 100.0;
            let rate = spread(figures.iter().map(|figure| figure.rate)).median / 1e6;
            let text = match is_beside {
                true => format!("one sends {rate:.0} MB/s; the server uses {share:.0} % of a CPU"),
                false => format!("nobody; the server uses {share:.0} % of a CPU"),
            };
            println!("{:10} {median:>22.0} {p99:>22.0}   {text}", model.to_string());
        }
    }
}

struct Figure {
    /// In microseconds.
    median: f64,
    p99: f64,
    /// Of one CPU.
    share: f64,
    /// Bytes a second that the one client sent.
    rate: f64,
}

fn measure(model: Model, beside: bool, time: Duration) -> Figure {
    let server = Child::start(&[&model.to_string()]);
    let pace = Pace::new();
    thread::scope(|scope| {
        if beside {
            let stream = connect(server.address());
            let (pace, taking) = (&pace, stream.try_clone().unwrap());
            scope.spawn(move || pour(stream, pace));
            scope.spawn(move || take(taking));
            pace.find(&server, time);
        }
        let (cpu, sent, began) = (server.cpu_nanoseconds(), pace.sent(), Instant::now());
        let mut micros = ping(server.address(), time);
        let took = began.elapsed().as_secs_f64();
        let share = (server.cpu_nanoseconds() - cpu) as f64 / 1e9 / took;
        let rate = (pace.sent() - sent) as f64 / took;
        pace.over.store(true, Ordering::Relaxed);
        micros.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| micros[(micros.len() - 1) * part / 100];
        Figure { median: at(50), p99: at(99), share, rate }
    })
}

/// Microseconds from when a question was due to its answer, of all clients.
fn ping(address: SocketAddr, time: Duration) -> Vec<f64> {
    let clients: Vec<_> = (0..PINGERS).map(|_| connect(address)).collect();
    let began = Instant::now();
    thread::scope(|scope| {
        let asking: Vec<_> = (0..)
            .zip(clients)
            .map(|(number, client)| {
                // Not all at once.
                let first = began + EVERY * number / PINGERS as u32;
                scope.spawn(move || ask(client, first, began + time))
            })
            .collect();
        asking.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

fn ask(mut client: TcpStream, first: Instant, end: Instant) -> Vec<f64> {
    let (question, mut answer) = ([b'x'; 64], [0; 64]);
    let mut micros = Vec::new();
    let mut due = first;
    while due < end || micros.is_empty() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        client.write_all(&question).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, question, "a wrong answer");
        micros.push(due.elapsed().as_secs_f64() * 1e6);
        due += EVERY;
    }
    micros
}

/// How fast the one client sends, found while it does.
struct Pace {
    /// Bytes a millisecond.
    rate: AtomicU64,
    sent: AtomicU64,
    over: AtomicBool,
}

impl Pace {
    fn new() -> Self {
        let (sent, over) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { rate: AtomicU64::new(50_000), sent, over }
    }

    /// Tries until the server uses half a CPU.
    fn find(&self, server: &Child, time: Duration) {
        let mut rate = self.rate.load(Ordering::Relaxed) as f64;
        for _ in 0..6 {
            self.rate.store(rate as u64, Ordering::Relaxed);
            let (cpu, began) = (server.cpu_nanoseconds(), Instant::now());
            thread::sleep(time / 6);
            let used = (server.cpu_nanoseconds() - cpu) as f64;
            let share = used / began.elapsed().as_nanos() as f64;
            // A step too far would fill the buffers, and they would have to be emptied first.
            rate *= (0.5 / share.max(0.01)).clamp(0.5, 2.0);
        }
        self.rate.store(rate as u64, Ordering::Relaxed);
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Sends at the pace, in chunks.
fn pour(mut stream: TcpStream, pace: &Pace) {
    step_back();
    let chunk = vec![b'y'; CHUNK];
    let mut due = Instant::now();
    while !pace.over.load(Ordering::Relaxed) {
        stream.write_all(&chunk).unwrap();
        pace.sent.fetch_add(CHUNK as u64, Ordering::Relaxed);
        let rate = pace.rate.load(Ordering::Relaxed).max(1);
        due += Duration::from_secs_f64(CHUNK as f64 / 1000.0 / rate as f64);
        // What it could not send in time is not made up for in one go.
        due = due.max(Instant::now() - Duration::from_millis(10));
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Takes what comes back, to its end.
fn take(mut stream: TcpStream) {
    step_back();
    let mut scratch = vec![0; CHUNK];
    while matches!(stream.read(&mut scratch), Ok(1..)) {}
}

/// The thread that calls gets what the others leave.
fn step_back() {
    // To Linux, 0 is the thread and not its process.
    setpriority_process(None, 19).unwrap();
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
