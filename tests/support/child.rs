//! A server in a process of its own, for what can be seen or limited only for a whole process:
//! memory, processor time, descriptors, threads, signals.
//!
//! The child is this test binary again, told to run the one test [`is_here`]. It serves until its
//! input ends, so that it does not outlive the test whatever happens to that.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use evmux::{Handler, Limits, Model, Peer, Server};

use super::handlers::{Blocks, Chatty, Echo, Flood};
use super::{Client, PATIENCE};

/// How a child is to be.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) model: Model,
    /// `echo`, `blocks`, `chatty` or `flood`.
    pub(crate) service: &'static str,
    pub(crate) threads: usize,
    pub(crate) reactors: usize,
    /// 0 for the server's own default.
    pub(crate) max_connections: usize,
    pub(crate) max_frame: usize,
    /// The shell's `ulimit`, such as `-n 64`.
    pub(crate) ulimit: &'static str,
    /// Whether SIGPIPE ends the process, as it does in one that Rust's runtime did not start.
    pub(crate) sigpipe: bool,
}

impl Plan {
    pub(crate) fn new(model: Model, service: &'static str) -> Self {
        Self {
            model,
            service,
            threads: 4,
            reactors: 1,
            max_connections: 0,
            max_frame: 1 << 20,
            ulimit: "",
            sigpipe: false,
        }
    }

    #[track_caller]
    pub(crate) fn start(self) -> Child {
        Child::start(self)
    }
}

pub(crate) struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
    pub(crate) address: SocketAddr,
}

/// What a child tells of its counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) opened: u64,
    pub(crate) refused_limit: u64,
    pub(crate) refused_descriptors: u64,
    pub(crate) refused_other: u64,
}

impl Child {
    #[track_caller]
    fn start(plan: Plan) -> Self {
        let Plan { model, service, threads, reactors, max_connections, max_frame, .. } = plan;
        let Plan { ulimit, sigpipe, .. } = plan;
        let limits = if ulimit.is_empty() { String::new() } else { format!("ulimit {ulimit} && ") };
        let mut process = Command::new("sh")
            .arg("-c")
            .arg(format!("{limits}exec \"$0\" \"$@\""))
            .arg(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "support::child::is_here", "--nocapture"])
            .env(
                VARIABLE,
                format!(
                    "{model} {service} {threads} {reactors} {max_connections} {max_frame} {sigpipe}"
                ),
            )
            // Large stacks and one heap: under a limit of memory it is the next thread that fails,
            // and not the next small allocation.
            .env("RUST_MIN_STACK", "16777216")
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(PREFIX) {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        let mut child = Self { process, lines, address: SocketAddr::from(([0; 4], 0)) };
        child.address = child.line().parse().unwrap();
        child
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Still the same process, and it serves.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        assert_eq!(self.process.try_wait().unwrap(), None, "the child ended");
    }

    #[track_caller]
    pub(crate) fn counted(&mut self) -> Counted {
        writeln!(self.process.stdin.as_mut().unwrap()).unwrap();
        let line = self.line();
        let mut numbers = line.split(' ').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Counted {
            opened: next(),
            refused_limit: next(),
            refused_descriptors: next(),
            refused_other: next(),
        }
    }

    /// The processor time that it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // The name of the process, in brackets, may hold anything; utime is the twelfth field
        // behind it. A tick is a hundredth of a second on every Linux.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// The most memory that it ever had, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the child says nothing")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const VARIABLE: &str = "EVMUX_TEST_CHILD";
const PREFIX: &str = "child: ";

#[test]
#[ignore = "no test, but where the child processes of other tests begin"]
fn is_here() {
    let Ok(plan) = env::var(VARIABLE) else { return };
    let plan: Vec<&str> = plan.split(' ').collect();
    let [model, service, threads, reactors, max_connections, max_frame, sigpipe] = plan[..] else {
        panic!("not a plan: {plan:?}");
    };
    if sigpipe == "true" {
        default_sigpipe();
    }
    let service = match service {
        "echo" => || Box::new(Echo) as Box<dyn Handler>,
        "blocks" => || Box::new(Blocks) as Box<dyn Handler>,
        "chatty" => || Box::new(Chatty) as Box<dyn Handler>,
        "flood" => || Box::new(Flood::default()) as Box<dyn Handler>,
        other => panic!("not a service: {other}"),
    };
    let mut builder = Server::builder(move |_: &Peer| service())
        .model(model.parse().unwrap())
        .threads(threads.parse().unwrap())
        .reactors(reactors.parse().unwrap())
        .limits(Limits::default().max_frame(max_frame.parse().unwrap()))
        .listen("127.0.0.1:0");
    if max_connections != "0" {
        builder = builder.max_connections(max_connections.parse().unwrap());
    }
    let running = builder.build().unwrap().start().unwrap();
    // On a line of its own: the test harness writes to the same output.
    println!("\n{PREFIX}{}", running.local_addresses()[0].socket_addr().unwrap());
    for _ in io::stdin().lines().map_while(Result::ok) {
        let counters = running.counters();
        println!(
            "{PREFIX}{} {} {} {}",
            counters.opened,
            counters.refused_limit,
            counters.refused_descriptors,
            counters.refused_other
        );
    }
}

/// Rust's runtime has it ignored; an embedder's process, or one that a C program started, may not.
#[allow(unsafe_code)]
fn default_sigpipe() {
    // SAFETY: the disposition of a signal is set, no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
