//! What the engine costs beside others: a server with nothing but its way of waiting, written by
//! hand, and tokio on one thread.
//!
//! `cargo bench --no-default-features --bench peers`, or `make bench-peers`; on a quiet machine.
//! The figures stand in docs/performance.md.
//!
//! Each server is a process on the second CPU, the load is on the first. A round is a new process
//! and new connections for each server, in turns, so that a disturbance hits all of them, and so
//! that a process that was lucky with its memory does not decide. The figure is the CPU time that
//! the server's process has used for a message: the kernel's share, which is nearly all, is in it,
//! and what else happens on the machine is not, except in the caches.
//!
//! Options: `--scenario NAME` (a part of the name; repeated by commas), `--rounds N`,
//! `--seconds S` a measurement, `--quick`. With `EVMUX=PATH`, the program `evmux serve` is one of
//! the servers; with `EVMUX_BARE=PATH`, which is this bench built with `--cfg evmux_bare`, its evmux
//! is, that counts nothing. Without `--bench` (so when tests are run) everything is only tried.

use std::env;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use support::child::{self, Server};
use support::figures::{self, spread};
use support::load::{self, Load};
use support::options::Options;

mod servers;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

struct Scenario {
    name: &'static str,
    traffic: Traffic,
    /// The first one is what the others are compared with.
    servers: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Traffic {
    /// So many connections, each with one message under way, of so many bytes.
    Echo { connections: usize, size: usize },
    /// The same with so many requests in each packet.
    Pipelined { connections: usize, size: usize, requests: usize },
    /// ASCII text that comes back in upper case.
    Upper { connections: usize, size: usize },
    /// Connect, one message, close; so many at a time.
    Connect { at_once: usize, size: usize },
    /// The same, and another process wants all of the server's CPU. Otherwise the rate is that of
    /// the load: who answers sooner sleeps more often, and waking costs the load its time.
    ConnectBesideRival { at_once: usize, size: usize },
    /// Datagrams: so many are sent, then all their answers awaited.
    Datagrams { burst: usize, size: usize },
}

const STREAMS: &[&str] = &["raw epoll", "evmux epoll", "tokio", PROGRAM];
/// `evmux serve`, where it is given.
const PROGRAM: &str = "evmux serve";
/// An evmux that counts nothing and cannot be traced, where it is given.
const BARE: &str = "evmux bare";

/// The variable by which a server is given that is not in this program.
fn given_by(server: &str) -> Option<&'static str> {
    match server {
        PROGRAM => Some("EVMUX"),
        BARE => Some("EVMUX_BARE"),
        _ => None,
    }
}

const SCENARIOS: &[Scenario] = &[
    echo("64 B, 1 connection", 1, 64),
    echo("64 B, 100 connections", 100, 64),
    echo("64 B, 1000 connections", 1000, 64),
    echo("64 B, 10000 connections", 10_000, 64),
    Scenario {
        name: "64 B, 16 pipelined, 100 connections",
        traffic: Traffic::Pipelined { connections: 100, size: 64, requests: 16 },
        servers: STREAMS,
    },
    echo("16 KiB, 100 connections", 100, 16 * 1024),
    Scenario {
        name: "upper 1 KiB, 100 connections",
        traffic: Traffic::Upper { connections: 100, size: 1024 },
        servers: STREAMS,
    },
    Scenario {
        name: "connect, 64 B, close",
        traffic: Traffic::Connect { at_once: 50, size: 64 },
        servers: &["raw epoll", "evmux epoll", "raw epoll keep-alive", "tokio", PROGRAM],
    },
    Scenario {
        name: "connect beside a rival for the CPU",
        traffic: Traffic::ConnectBesideRival { at_once: 50, size: 64 },
        servers: STREAMS,
    },
    Scenario {
        name: "counting, 64 B, 100 connections",
        traffic: Traffic::Echo { connections: 100, size: 64 },
        servers: &[BARE, "evmux epoll"],
    },
    Scenario {
        name: "poll, 64 B, 100 connections",
        traffic: Traffic::Echo { connections: 100, size: 64 },
        servers: &["raw poll", "evmux poll"],
    },
    Scenario {
        name: "threads, 64 B, 100 connections",
        traffic: Traffic::Echo { connections: 100, size: 64 },
        servers: &["std threads", "evmux threads", "evmux pool"],
    },
    Scenario {
        name: "datagrams of 64 B, 1 at a time",
        traffic: Traffic::Datagrams { burst: 1, size: 64 },
        servers: &["std udp", "evmux udp"],
    },
    Scenario {
        name: "datagrams of 64 B, 64 at a time",
        traffic: Traffic::Datagrams { burst: 64, size: 64 },
        servers: &["std udp", "evmux udp"],
    },
];

const fn echo(name: &'static str, connections: usize, size: usize) -> Scenario {
    Scenario { name, traffic: Traffic::Echo { connections, size }, servers: STREAMS }
}

/// How long each measurement goes on, and how often it is made.
struct Effort {
    rounds: usize,
    seconds: f64,
    most_connections: usize,
}

struct Cell {
    nanoseconds: f64,
    rate: f64,
}

fn main() {
    let options = Options::read();
    if let Some(words) = options.serve() {
        child::end_with_parent();
        return servers::serve(&words[0], words[1] == "upper");
    }
    let (rounds, seconds) = match (options.measures(), options.has("--quick")) {
        (false, _) => (1, 0.02),
        (true, true) => (3, 0.15),
        (true, false) => (9, 0.4),
    };
    let effort = Effort {
        rounds: options.number("--rounds", rounds),
        seconds: options.number("--seconds", seconds),
        most_connections: if options.measures() { usize::MAX } else { 100 },
    };
    child::pin(child::Side::Load);
    println!("{}", figures::machine());
    println!(
        "server CPU for a message, median (quartiles) of {} rounds of {} s",
        effort.rounds, effort.seconds
    );
    for scenario in SCENARIOS.iter().filter(|scenario| is_asked_for(&options, scenario)) {
        compare(scenario, &effort);
    }
}

fn is_asked_for(options: &Options, scenario: &Scenario) -> bool {
    let Some(names) = options.value("--scenario") else { return true };
    names.split(',').any(|name| scenario.name.contains(name.trim()))
}

fn compare(scenario: &Scenario, effort: &Effort) {
    let is_given = |name: &&&str| given_by(name).is_none_or(|name| env::var_os(name).is_some());
    let servers: Vec<_> = scenario.servers.iter().filter(is_given).collect();
    if servers.first() != scenario.servers.first().as_ref() {
        return;
    }
    let mut cells: Vec<Vec<Cell>> = servers.iter().map(|_| Vec::new()).collect();
    for round in 0..effort.rounds {
        for place in 0..servers.len() {
            // Another one begins in each round: what the one before leaves behind hits all.
            let place = (place + round) % servers.len();
            cells[place].push(measure(servers[place], scenario.traffic, effort));
        }
    }
    println!("\n{:36} {:>24} {:>24} {:>12}", scenario.name, "ns", "of the first", "a second");
    for (name, figures) in servers.iter().zip(&cells) {
        let nanoseconds = spread(figures.iter().map(|cell| cell.nanoseconds));
        let pairs = figures.iter().zip(&cells[0]);
        let part = spread(pairs.map(|(cell, first)| cell.nanoseconds / first.nanoseconds));
        let rate = spread(figures.iter().map(|cell| cell.rate)).median;
        println!("  {name:34} {nanoseconds:>24.0} {part:>24.3} {rate:>12.0}");
    }
}

fn measure(name: &str, traffic: Traffic, effort: &Effort) -> Cell {
    let upper = matches!(traffic, Traffic::Upper { .. });
    let service = if upper { "upper" } else { "echo" };
    let server = match name {
        PROGRAM => program(service),
        BARE => {
            let mut command = Command::new(env::var_os("EVMUX_BARE").unwrap());
            command.args(["--serve", "evmux epoll", service]);
            Server::start_command(command)
        }
        _ => Server::start(&[name, service]),
    };
    let address = server.address();
    let (connections, request, answer, requests) = match traffic {
        Traffic::Echo { connections, size } => (connections, text(size), text(size), 1),
        Traffic::Pipelined { connections, size, requests } => {
            (connections, text(size * requests), text(size * requests), requests as u64)
        }
        Traffic::Upper { connections, size } => {
            (connections, text(size), text(size).to_ascii_uppercase(), 1)
        }
        Traffic::Connect { at_once, size } => {
            let request = text(size);
            return time(&server, effort, |end| {
                load::connect_until(address, at_once, &request, end)
            });
        }
        Traffic::ConnectBesideRival { at_once, size } => {
            let request = text(size);
            let _rival = Server::start(&["rival", ""]);
            return time(&server, effort, |end| {
                load::connect_until(address, at_once, &request, end)
            });
        }
        Traffic::Datagrams { burst, size } => {
            let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
            socket.connect(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let request = text(size);
            return time(&server, effort, |end| bursts_until(&socket, burst, &request, end));
        }
    };
    let connections = connections.min(effort.most_connections);
    let mut load = Load::connect(address, connections, request, answer);
    time(&server, effort, |end| load.run_until(end) * requests)
}

/// Lower-case ASCII, as `upper` would find it in life: letters, spaces, line ends.
fn text(size: usize) -> Vec<u8> {
    b"the quick brown fox jumps over the lazy dog 0123456789\n"
        .iter()
        .copied()
        .cycle()
        .take(size)
        .collect()
}

fn program(service: &str) -> Server {
    let mut command = Command::new(env::var_os("EVMUX").unwrap());
    command.args(["serve", "--listen", "0.0.0.0:0", "--idle-timeout", "60s", "--service", service]);
    command.env("RUST_LOG", "error");
    Server::start_command(command)
}

/// Warms up, then measures. The server sleeps whenever its CPU time is read.
fn time(server: &Server, effort: &Effort, mut run: impl FnMut(Instant) -> u64) -> Cell {
    run(Instant::now() + Duration::from_secs_f64(effort.seconds / 4.0));
    server.settle();
    let before = server.cpu_nanoseconds();
    let start = Instant::now();
    let count = run(start + Duration::from_secs_f64(effort.seconds)) as f64;
    let seconds = start.elapsed().as_secs_f64();
    server.settle();
    let nanoseconds = (server.cpu_nanoseconds() - before) as f64;
    Cell { nanoseconds: nanoseconds / count, rate: count / seconds }
}

/// A lost datagram ends the bench: over loopback, one loses only what it does not wait for.
fn bursts_until(socket: &UdpSocket, burst: usize, request: &[u8], end: Instant) -> u64 {
    let mut answer = [0; 2048];
    let mut answered = 0;
    while Instant::now() < end {
        for _ in 0..burst {
            socket.send(request).unwrap();
        }
        for _ in 0..burst {
            let count = socket.recv(&mut answer).unwrap();
            assert_eq!(&answer[..count], request, "a wrong answer");
        }
        answered += burst as u64;
    }
    answered
}
