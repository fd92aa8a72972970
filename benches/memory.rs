//! What an idle connection costs in user memory, and whether it is given back what a burst needed.
//!
//! `cargo bench --no-default-features --bench memory`, or `make bench-memory`. This process is the
//! server, and counts every byte and every block of its heap; the clients are a process of their
//! own, since one process may not have descriptors for both ends.
//!
//! First real connections: made, left alone, then each sends 300 kB before it reads anything, so
//! that the server has to keep what the sockets do not take, and is left alone again. Then a
//! million connections without sockets, for which the same is played.
//!
//! Options: `--connections N` (19000), `--simulated N` (1000000). Without `--bench` (so when tests
//! are run) it is a few of each.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write, stdin, stdout};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evmux::services::{self, Echo};
use evmux::{Connection, Lent, Limits, Moment, Running, Server};
use socket2::{Domain, SockRef, Socket, Type};

use support::child::end_with_parent;
use support::figures::machine;
use support::options::Options;

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

/// What each connection moves.
const BURST: usize = 300_000;
/// So many connections are in their burst at a time.
const GROUP: usize = 250;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static BLOCKS: AtomicUsize = AtomicUsize::new(0);

fn count(more: usize, less: usize) {
    let live = LIVE.fetch_add(more.wrapping_sub(less), Ordering::Relaxed);
    MOST.fetch_max(live.wrapping_add(more).wrapping_sub(less), Ordering::Relaxed);
}

// SAFETY: every call is passed on to `System` unchanged, which keeps the contract; counting
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise for this call is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: `pointer` came from `alloc` above, and so from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as for `dealloc`; the new size is the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The heap, and what the kernel says that the process has.
#[derive(Clone, Copy)]
struct Memory {
    live: usize,
    blocks: usize,
    resident: usize,
}

impl Memory {
    fn now() -> Self {
        // SAFETY: malloc_trim(3) has no precondition; it gives back to the kernel what is free.
        unsafe { libc::malloc_trim(0) };
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kibibytes: usize = resident.trim().trim_end_matches(" kB").parse().unwrap();
        let (live, blocks) = (LIVE.load(Ordering::Relaxed), BLOCKS.load(Ordering::Relaxed));
        MOST.store(live, Ordering::Relaxed);
        Self { live, blocks, resident: kibibytes * 1024 }
    }

    fn tell(&self, what: &str, before: &Self, connections: usize) {
        let part = |now: usize, before: usize| (now as f64 - before as f64) / connections as f64;
        println!(
            "  {what:32} {:>12} live  {:>8} blocks  {:>12} resident; each {:7.1} live {:7.1} resident",
            self.live,
            self.blocks,
            self.resident,
            part(self.live, before.live),
            part(self.resident, before.resident),
        );
    }
}

fn main() {
    let options = Options::read();
    if let Some(words) = options.serve() {
        end_with_parent();
        return be_clients(words[0].parse().unwrap(), words[1].parse().unwrap());
    }
    let (connections, simulated) = if options.measures() { (19_000, 1_000_000) } else { (20, 100) };
    println!("{}", machine());
    real(options.number("--connections", connections));
    without_sockets(options.number("--simulated", simulated));
}

fn real(connections: usize) {
    let limits = Limits::default().idle_timeout(Some(Duration::from_secs(3600)));
    let server = Server::builder(services::echo).limits(limits).listener(listen()).build();
    let server = server.unwrap().start().unwrap();
    let port = server.local_addresses()[0].socket_addr().unwrap().port();
    println!("{connections} real connections, idle timeout of an hour");
    // A few in advance: what they make the loop itself keep is not that of a connection.
    let mut first = Clients::start(port, GROUP.min(connections));
    first.ask("burst");
    first.end();
    until_open(&server, 0);
    let empty = Memory::now();
    empty.tell("none", &empty, connections);
    let mut clients = Clients::start(port, connections);
    until_open(&server, connections as u64);
    let idle = Memory::now();
    idle.tell("idle", &empty, connections);
    let waits = server.counters().waits;
    let pause = Duration::from_secs(2);
    thread::sleep(pause);
    let waits = server.counters().waits - waits;
    println!("  woken in {pause:?} of silence: {waits} times");
    let began = Instant::now();
    clients.ask("burst");
    let took = began.elapsed();
    thread::sleep(Duration::from_millis(200));
    let most = MOST.load(Ordering::Relaxed);
    let after = Memory::now();
    after.tell("idle, after each moved 300 kB", &empty, connections);
    println!("  at most {most} bytes were live meanwhile; it took {took:.1?}");
    assert!(most > idle.live + BURST / 4, "nothing waited: the kernel took it all");
    judge(&idle, &after);
    clients.end();
    server.stop().now();
    server.join().unwrap();
}

/// With small send buffers, which the connections inherit: the kernel would otherwise keep all that
/// a slow reader leaves.
fn listen() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(16 * 1024).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
    socket.listen(4096).unwrap();
    socket.into()
}

fn until_open(server: &Running, count: u64) {
    while server.counters().open() != count {
        thread::sleep(Duration::from_millis(10));
    }
    // The loop may still be behind its counter.
    thread::sleep(Duration::from_millis(100));
}

/// All must be back, to the byte.
fn judge(idle: &Memory, after: &Memory) {
    let bytes = after.live as i64 - idle.live as i64;
    let blocks = after.blocks as i64 - idle.blocks as i64;
    let part = after.resident as f64 / idle.resident as f64;
    println!("  not given back: {bytes} bytes, {blocks} blocks; resident {part:.3} of before");
    assert!(bytes == 0 && blocks == 0, "something was kept");
    assert!(part <= 1.15, "the process did not shrink to what it was");
}

/// As long as the peer takes nothing, the answers are kept; then it takes them in pieces.
fn without_sockets(connections: usize) {
    println!(
        "{connections} connections without sockets, {} bytes each",
        size_of::<Connection<Echo>>()
    );
    let (limits, now) = (Limits::default(), Moment::START);
    let (mut output, mut input) = (Vec::new(), vec![b'x'; 60_000]);
    let empty = Memory::now();
    let mut idle: Vec<_> = (0..connections).map(|_| Connection::new(Echo, now)).collect();
    for connection in &mut idle {
        let answer = connection.open(Lent::new(&mut output, &limits, now));
        connection.keep(answer, 0, &limits, now);
    }
    let before = Memory::now();
    before.tell("idle", &empty, connections);
    for group in idle.chunks_mut(GROUP) {
        for connection in &mut *group {
            for _ in 0..BURST / input.len() {
                let answer =
                    connection.receive(&mut input, 0, Lent::new(&mut output, &limits, now));
                connection.keep(answer, 0, &limits, now);
            }
        }
        for connection in group {
            assert_eq!(connection.to_send().len(), BURST);
            while connection.wants().send {
                connection.sent(connection.to_send().len().min(50_000), &limits, now);
            }
        }
    }
    assert!(idle.iter().all(Connection::is_idle));
    let after = Memory::now();
    after.tell("idle, after each moved 300 kB", &empty, connections);
    judge(&before, &after);
}

/// The process of the clients, told what to do line by line.
struct Clients {
    process: Child,
    orders: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
}

impl Clients {
    /// Returns when all are connected.
    fn start(port: u16, connections: usize) -> Self {
        let words = ["--serve".into(), port.to_string(), connections.to_string()];
        let mut command = Command::new(env::current_exe().unwrap());
        let command = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let orders = process.stdin.take().unwrap();
        let replies = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut clients = Self { process, orders, replies };
        clients.replies.next().unwrap().unwrap();
        clients
    }

    fn ask(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        self.replies.next().unwrap().unwrap();
    }

    fn end(mut self) {
        drop(self.orders);
        self.process.wait().unwrap();
    }
}

fn be_clients(port: u16, connections: usize) {
    let mut clients: Vec<_> = (0..connections).map(|index| connect(port, index)).collect();
    let done = || {
        println!("done");
        stdout().flush().unwrap();
    };
    done();
    let message = vec![b'x'; BURST];
    let mut answer = vec![0; BURST];
    for _ in stdin().lines() {
        for group in clients.chunks_mut(GROUP) {
            thread::scope(|scope| {
                // The kernel takes not all of it: somebody has to wait until it does.
                for client in &*group {
                    let (mut client, message) = (client, &message);
                    scope.spawn(move || client.write_all(message).unwrap());
                }
            });
            for client in group {
                // The rest need not be read through a keyhole.
                SockRef::from(&*client).set_recv_buffer_size(1 << 20).unwrap();
                client.read_exact(&mut answer).unwrap();
                assert!(answer == message, "a wrong answer");
            }
        }
        done();
    }
}

/// With a small receive buffer at first: the kernel would otherwise take all of it for us.
fn connect(port: u16, index: usize) -> TcpStream {
    let host = Ipv4Addr::new(127, 0, 1 + (index / 250 % 250) as u8, 1 + (index % 250) as u8);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&SocketAddr::from((host, port)).into()).unwrap();
    socket.into()
}
