//! A server in a process of its own, on a CPU of its own, and what it costs.
//!
//! The process is this program again, with `--serve` and what to serve; or any other that says its
//! port in the first line it prints.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use evmux::{Model, services};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts this program again; `serve` there sees `words`.
    pub(crate) fn start(words: &[&str]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("--serve").args(words);
        Self::start_command(command)
    }

    /// Starts a program that says its port in the first line it prints.
    pub(crate) fn start_command(mut command: Command) -> Self {
        // A child is where its parent was when it was made, and so are its threads.
        pin(Side::Server);
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        pin(Side::Load);
        let mut process = process.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let digits = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse();
        let port = line.split(':').filter_map(|part| digits(part).ok()).next();
        let port = port.unwrap_or_else(|| panic!("{command:?} said no port, but {line:?}"));
        Self { process, port }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The CPU time of all threads that live, in nanoseconds. It is exact only while they sleep;
    /// while they run, it is that of the last tick.
    pub(crate) fn cpu_nanoseconds(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        tasks
            .filter_map(|task| fs::read_to_string(task.unwrap().path().join("schedstat")).ok())
            .map(|line| line.split(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// Waits until the main thread sleeps.
    pub(crate) fn wait_until_asleep(&self) {
        let state = || fs::read_to_string(format!("/proc/{0}/task/{0}/stat", self.id())).unwrap();
        // The state stands behind the name, which is in brackets and may have any letter.
        while !state().rsplit(')').next().unwrap().starts_with(" S") {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Waits until it has ended.
    pub(crate) fn wait(mut self) {
        self.process.wait().unwrap();
    }

    /// Waits until all threads sleep. Whoever measures has taken all answers, so it takes no
    /// longer than what a server does behind its last one.
    pub(crate) fn settle(&self) {
        let mut before = self.cpu_nanoseconds();
        loop {
            std::thread::sleep(Duration::from_millis(3));
            let now = self.cpu_nanoseconds();
            if now == before {
                return;
            }
            before = now;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a server child does first: it ends with its parent, even one that is killed.
pub(crate) fn end_with_parent() {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
}

/// What a server child does that serves echo, as `model`, to a hundred connections or more.
pub(crate) fn serve_echo(model: Model) {
    let server = evmux::Server::builder(services::echo)
        .model(model)
        .threads(100)
        .listen("0.0.0.0:0")
        .build();
    let server = server.unwrap();
    say_port(server.local_addresses()[0].socket_addr().unwrap());
    server.run().unwrap();
}

pub(crate) fn say_port(address: SocketAddr) {
    println!("port:{}", address.port());
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Load,
}

/// Stays on the CPU of a side from now on: the first one is the load's, the second the server's.
/// With one CPU they share it, as the head of the figures says.
pub(crate) fn pin(side: Side) {
    let allowed = allowed();
    let cpu = if side == Side::Load { allowed.first() } else { allowed.get(1).or(allowed.first()) };
    let mut set = CpuSet::new();
    set.set(*cpu.unwrap());
    sched_setaffinity(None, &set).unwrap();
}

/// The CPUs that this process was allowed when it was asked first.
pub(crate) fn allowed() -> &'static [usize] {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(|| {
        let set = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
    })
}
