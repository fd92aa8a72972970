//! A server that is compared: a child process on processors of its own, and what the kernel says
//! that it used.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use evmux::{Address, Model};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::Failure;

/// How a server is started.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// This program, with a model.
    Own(Model),
    /// Any other, by a command of the shell; `{port}` stands for its port.
    Foreign(String),
}

/// A server under measurement. Dropping it kills it.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Where it will write what it counted.
    summary: Option<PathBuf>,
    /// Whether it has ended and was waited for.
    is_reaped: bool,
}

impl Kind {
    /// Connections that it serves at a time; the others wait.
    pub(crate) fn most_connections(&self) -> usize {
        match self {
            Self::Own(Model::Sequential) => 1,
            Self::Own(Model::Pool) => POOL,
            _ => usize::MAX,
        }
    }

    /// As a user would start it.
    pub(crate) fn command(&self, service: &str) -> String {
        match self {
            Self::Own(model) => format!("evmux serve --model {model} --service {service}"),
            Self::Foreign(command) => command.clone(),
        }
    }

    /// Starts it on `cpus`, and waits until it listens.
    pub(crate) fn start(
        &self,
        service: &str,
        extra: &[&str],
        cpus: &Cpus,
    ) -> Result<Served, Failure> {
        let summary = match self {
            Self::Own(_) => Some(summary_file()?),
            Self::Foreign(_) => None,
        };
        let port = match self {
            Self::Own(_) => 0,
            Self::Foreign(_) => free_port()?,
        };
        let mut command = match self {
            Self::Own(model) => {
                let program = std::env::current_exe()
                    .map_err(|why| Failure::new("cannot find this program again", why))?;
                let mut command = Command::new(program);
                // What a variable says of the user's own servers is not for these.
                for (name, _) in std::env::vars_os() {
                    if name.to_string_lossy().starts_with("EVMUX_") {
                        command.env_remove(name);
                    }
                }
                command.args(["serve", "--model", model.name(), "--service", service]);
                command.args(["--listen", "127.0.0.1:0"]).args(extra);
                command.arg("--summary").args(&summary).env("RUST_LOG", "error");
                command
            }
            Self::Foreign(text) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(foreign(text, port));
                command
            }
        };
        let stdout = if summary.is_some() { Stdio::piped() } else { Stdio::null() };
        // A group of its own: Ctrl-C is for us, and the server is ended in order.
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null()).process_group(0);
        let failed =
            |why: io::Error| Failure::new(format!("cannot start {}", self.command(service)), why);
        // The child inherits them, with all its threads.
        let child = cpus.on_servers(|| command.spawn()).map_err(failed)?;
        let mut served = Served {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            summary,
            is_reaped: false,
        };
        match self {
            Self::Own(_) => served.await_ready_line(),
            Self::Foreign(_) => served.await_port(),
        }
        .map_err(failed)?;
        Ok(served)
    }
}

/// The threads of `pool`, as on the slides.
const POOL: usize = 4;

/// Nobody waits for a server for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The shell's own process is replaced where that is possible, so that the figures are the server's.
fn foreign(command: &str, port: u16) -> String {
    let command = command.replace("{port}", &port.to_string());
    let is_assignment = command.split_whitespace().next().is_some_and(|word| word.contains('='));
    let is_plain = !is_assignment && !command.contains(['|', '&', ';', '<', '>', '(', ')', '\n']);
    if is_plain { format!("exec {command}") } else { command }
}

fn free_port() -> Result<u16, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|why| Failure::new("cannot find a free port", why))
}

fn summary_file() -> Result<PathBuf, Failure> {
    let began = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let name = format!("evmux-compare-{}-{}.json", std::process::id(), began.as_nanos());
    let path = std::env::temp_dir().join(name);
    File::create_new(&path)
        .map_err(|why| Failure::new(format!("cannot create {}", path.display()), why))?;
    Ok(path)
}

impl Served {
    pub(crate) fn target(&self) -> Address {
        Address::Tcp { host: self.address.ip().to_string(), port: self.address.port() }
    }

    fn await_ready_line(&mut self) -> io::Result<()> {
        let Some(stdout) = self.child.stdout.take() else { return Ok(()) };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        // evmux: listening on tcp ADDRESS (…
        let address = line.split_whitespace().nth(4).and_then(|word| word.parse().ok());
        match address {
            Some(address) => self.address = address,
            None => return Err(self.ended()),
        }
        Ok(())
    }

    fn await_port(&mut self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            if self.child.try_wait()?.is_some() {
                self.is_reaped = true;
                return Err(self.ended());
            }
            match TcpStream::connect(self.address) {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
                Err(why) => {
                    let what = format!("nobody listens on {} after 10 s: {why}", self.address);
                    return Err(io::Error::other(what));
                }
            }
        }
    }

    fn ended(&mut self) -> io::Error {
        let ended = self.child.wait();
        self.is_reaped = true;
        match ended {
            Ok(status) => io::Error::other(format!("it ended with {status}")),
            Err(why) => why,
        }
    }

    /// Ends it in order; what it counted of itself, if it does.
    pub(crate) fn end(mut self) -> Option<serde_json::Value> {
        self.signal(Signal::TERM);
        let Some(summary) = self.summary.clone() else {
            // What is left of its group goes when it is dropped.
            self.await_last_breath(PATIENCE);
            return None;
        };
        let status = self.wait(PATIENCE)?;
        let counted = fs::read(summary).ok()?;
        status.success().then(|| serde_json::from_slice(&counted).ok())?
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.is_reaped = true;
                return Some(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// Waits until it has ended, and leaves it to be waited for.
    fn await_last_breath(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let has_ended = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
            stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, s)| s.starts_with(" Z")))
        };
        while !has_ended() && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, signal: Signal) {
        // A child that was not waited for is still there, and so is its group.
        if let Ok(number) = i32::try_from(self.child.id())
            && let Some(group) = Pid::from_raw(number)
        {
            let _ = kill_process_group(group, signal);
        }
    }

    /// What it has used so far, with the processes that it has started.
    pub(crate) fn usage(&self) -> Usage {
        let leader = self.child.id();
        let mut usage = Usage::of(leader);
        for process in members(leader) {
            usage.add(Usage::of(process));
        }
        usage
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Until it is waited for, the number of its group is given to nobody else.
        if !self.is_reaped {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        if let Some(summary) = &self.summary {
            let _ = fs::remove_file(summary);
        }
    }
}

/// What a process has used, as /proc says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Of all its threads, those that are gone included; in steps of a hundredth of a second.
    ticks: Option<Duration>,
    /// How many threads live.
    thread_count: u64,
    /// Of each of them, with their numbers, to the nanosecond; of none when they are too many.
    threads: Vec<(u64, Duration)>,
    switches: Option<u64>,
    pub(crate) resident: Option<u64>,
}

impl Usage {
    /// Of another process of the same server.
    fn add(&mut self, other: Self) {
        self.thread_count += other.thread_count;
        self.ticks = self.ticks.zip(other.ticks).map(|(one, other)| one + other);
        self.threads.extend(other.threads);
        self.threads.sort_unstable();
        self.switches = self.switches.zip(other.switches).map(|(one, other)| one + other);
        self.resident = self.resident.zip(other.resident).map(|(one, other)| one + other);
    }

    fn of(process: u32) -> Self {
        let mut usage = Self {
            ticks: fs::read_to_string(format!("/proc/{process}/stat")).ok().and_then(|s| ticks(&s)),
            ..Self::default()
        };
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        usage.resident = field(&status, "VmRSS:").map(|kib| kib * 1024);
        usage.thread_count = field(&status, "Threads:").unwrap_or(0);
        if usage.thread_count > Self::READ_EACH {
            return usage;
        }
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let mut switches = 0;
        for task in tasks {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let number = task.file_name().to_str().and_then(|name| name.parse().ok());
            let ran = read("schedstat").split_whitespace().next().and_then(|ns| ns.parse().ok());
            if let (Some(number), Some(ran)) = (number, ran) {
                usage.threads.push((number, Duration::from_nanos(ran)));
            }
            let status = read("status");
            switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0)
                + field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        usage.threads.sort_unstable();
        usage.switches = Some(switches);
        usage
    }

    /// More threads than this are not read one by one: each is two files, the generator stands
    /// still meanwhile, and a thousand of them would be tens of milliseconds that the last replies
    /// of a measurement seem to have taken.
    const READ_EACH: u64 = 64;

    pub(crate) fn thread_count(&self) -> u64 {
        self.thread_count
    }

    /// Processor time since `before`: to the nanosecond when no thread has come or gone, and they
    /// are few.
    pub(crate) fn processor_since(&self, before: &Self) -> Option<Duration> {
        let numbers = |usage: &Self| usage.threads.iter().map(|(number, _)| *number).collect();
        let (now, then): (Vec<u64>, Vec<u64>) = (numbers(self), numbers(before));
        if now == then && now.len() as u64 == self.thread_count && !now.is_empty() {
            let sum = |usage: &Self| usage.threads.iter().map(|(_, ran)| *ran).sum::<Duration>();
            return Some(sum(self).saturating_sub(sum(before)));
        }
        Some(self.ticks?.saturating_sub(before.ticks?))
    }

    /// Context switches since `before`; not known when threads have come or gone, and taken their
    /// count with them, nor when they are many.
    pub(crate) fn switches_since(&self, before: &Self) -> Option<u64> {
        let same = self.threads.iter().map(|t| t.0).eq(before.threads.iter().map(|t| t.0));
        if same && self.threads.len() as u64 == self.thread_count {
            self.switches?.checked_sub(before.switches?)
        } else {
            None
        }
    }
}

/// The other processes of the group that `leader` leads: a shell's, or the workers of a server.
fn members(leader: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_member = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // state, parent, group: proc_pid_stat(5).
        let group = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(2));
        *process != leader && group.and_then(|group| group.parse().ok()) == Some(leader)
    };
    numbers.filter(is_member).collect()
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// utime and stime of proc_pid_stat(5), which count hundredths of a second on Linux.
fn ticks(stat: &str) -> Option<Duration> {
    // The name of the program, in parentheses, may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

/// Which processors the servers have, and which the generator.
pub(crate) struct Cpus {
    all: CpuSet,
    servers: CpuSet,
    generator: CpuSet,
    pub(crate) server_numbers: Vec<usize>,
    pub(crate) generator_numbers: Vec<usize>,
}

impl Cpus {
    /// The first processor is the generator's, the second one the servers'; where there is one only,
    /// they share it.
    pub(crate) fn divide() -> Result<Self, Failure> {
        let all = sched_getaffinity(None)
            .map_err(|why| Failure::new("cannot see which processors there are", why))?;
        let numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
        let generator_numbers: Vec<_> = numbers.iter().copied().take(1).collect();
        let server_numbers: Vec<_> = match numbers.get(1) {
            Some(second) => vec![*second],
            None => generator_numbers.clone(),
        };
        let set = |numbers: &[usize]| {
            let mut set = CpuSet::new();
            numbers.iter().for_each(|cpu| set.set(*cpu));
            set
        };
        let cpus = Self {
            all,
            servers: set(&server_numbers),
            generator: set(&generator_numbers),
            server_numbers,
            generator_numbers,
        };
        cpus.bind(&cpus.generator);
        Ok(cpus)
    }

    /// The same for servers that may use all processors, as is fair where a handler computes.
    pub(crate) fn for_all(&self) -> Self {
        Self {
            all: self.all,
            servers: self.all,
            generator: self.all,
            server_numbers: Vec::new(),
            generator_numbers: Vec::new(),
        }
    }

    /// How many there are in all.
    pub(crate) fn count(&self) -> usize {
        self.all.count() as usize
    }

    fn on_servers<R>(&self, start: impl FnOnce() -> R) -> R {
        self.bind(&self.servers);
        let started = start();
        self.bind(&self.generator);
        started
    }

    /// Where it is not allowed, the figures are those of shared processors: the generator's share
    /// says so.
    fn bind(&self, to: &CpuSet) {
        let _ = sched_setaffinity(None, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "12 (a) b) c) S 1 1 1 0 -1 4194304 90 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(Duration::from_secs(3)));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn this_process_has_threads_and_memory() {
        let usage = Usage::of(std::process::id());
        assert!(usage.thread_count() > 0);
        assert!(usage.resident.is_some_and(|bytes| bytes > 100_000));
        let later = Usage::of(std::process::id());
        assert!(later.processor_since(&usage).is_some());
    }

    #[test]
    fn a_plain_command_replaces_its_shell() {
        assert_eq!(foreign("server --port {port}", 9), "exec server --port 9");
        assert_eq!(foreign("cd / && server {port}", 9), "cd / && server 9");
        assert_eq!(foreign("PORT={port} server", 9), "PORT=9 server");
    }
}
