//! The real binary as a child process: started, asked, signalled, and never left behind.
//!
//! Nothing here depends on speed. What must happen is waited for up to [`PATIENCE`], and a test
//! whose wait is in vain fails and says what it waited for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Far more than anything takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `evmux` with these arguments, and without what the environment of the tests would tell it.
pub(crate) fn evmux(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evmux"));
    command.args(arguments);
    clean(&mut command);
    command
}

/// The same, started by a shell that first does `setup`, like `ulimit -Sn 64` or `exec 2>&-`.
pub(crate) fn evmux_after(setup: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{setup}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_evmux")]).args(arguments);
    clean(&mut command);
    command
}

fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EVMUX_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
}

/// A process that is killed when a test forgets it, or fails.
pub(crate) struct Process(Child);

impl Process {
    #[track_caller]
    pub(crate) fn spawn(mut command: Command) -> Self {
        Self(command.spawn().unwrap_or_else(|why| panic!("cannot start {command:?}: {why}")))
    }

    /// The same, and what it says on stdout.
    #[track_caller]
    pub(crate) fn with_stdout(mut command: Command) -> (Self, Lines) {
        command.stdout(Stdio::piped());
        let mut process = Self::spawn(command);
        let stdout = process.stdout();
        (process, stdout)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("the process is there");
    }

    /// What it says on stdout, which must be a pipe; asked once.
    pub(crate) fn stdout(&mut self) -> Lines {
        Lines::of(self.0.stdout.take().expect("a pipe that nobody has taken"))
    }

    /// The same of stderr.
    pub(crate) fn stderr(&mut self) -> Lines {
        Lines::of(self.0.stderr.take().expect("a pipe that nobody has taken"))
    }

    /// Where it hears stdin, which must be a pipe; asked once.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.0.stdin.take().expect("a pipe that nobody has taken")
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn status(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.try_wait().expect("its status can be asked for") {
                Some(status) => return status,
                // There is no wait with a timeout; the sleep only spares the processor.
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                None => panic!("the process did not end within {PATIENCE:?}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a command ended, and what it said.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` to its end.
#[track_caller]
pub(crate) fn run(mut command: Command) -> Ended {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(command);
    let stdout = process.stdout();
    let stderr = Lines::of(process.0.stderr.take().expect("it is a pipe"));
    let status = process.status();
    Ended { status, stdout: stdout.rest(), stderr: stderr.rest() }
}

/// How a client ended that was asked with bytes, and what it answered to the byte.
pub(crate) struct Answered {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Answered {
    /// What it printed, since all went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Vec<u8> {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""));
        self.stdout
    }

    /// What it complained of, in one line and with status 1.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.status, Some(1), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert!(self.stderr.starts_with("evmux: "), "{}", self.stderr);
        self.stderr.trim_end().to_owned()
    }
}

/// Runs `command` to its end with `input` on its stdin.
#[track_caller]
pub(crate) fn feed(mut command: Command, input: &[u8]) -> Answered {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut stdin = process.0.stdin.take().expect("it is a pipe");
    let input = input.to_vec();
    // Who ends before it has read everything is not interested in the rest.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_aside(process.0.stdout.take().expect("it is a pipe"));
    let stderr = read_aside(process.0.stderr.take().expect("it is a pipe"));
    let status = process.status().code();
    let stderr = String::from_utf8(stderr.recv().expect("its end")).expect("UTF-8");
    Answered { status, stdout: stdout.recv().expect("its end"), stderr }
}

fn read_aside(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        let _ = sender.send(all);
    });
    receiver
}

/// A running `evmux serve`, on a port of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The line that said so.
    pub(crate) ready: String,
    pub(crate) process: Process,
    stdout: Lines,
    log: Lines,
}

impl Server {
    /// Starts `evmux serve` with these arguments, on a port that the system chooses.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(evmux(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat()))
    }

    /// Starts `command` and reads the line that says where it listens.
    #[track_caller]
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(command);
        let mut stdout = process.stdout();
        let log = Lines::of(process.0.stderr.take().expect("it is a pipe"));
        let Some(ready) = stdout.next() else {
            panic!("no ready line; status {}, stderr: {}", process.status(), log.rest());
        };
        let address = ready
            .strip_prefix("evmux: listening on ")
            .and_then(|rest| rest.strip_prefix("tcp ").or(rest.strip_prefix("udp ")))
            .and_then(|rest| rest.split(' ').next())
            .and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{ready:?} does not say where"));
        Self { address, ready, process, stdout, log }
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// What comes back for `bytes`, to the end, when nothing is sent behind them.
    #[track_caller]
    pub(crate) fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        ask(self.connect(), bytes)
    }

    /// The next line on stdout, behind the one that says where it listens.
    #[track_caller]
    pub(crate) fn next_line(&mut self) -> String {
        self.stdout.next().expect("one more line on stdout")
    }

    /// Reads the log until a line contains `text`, and returns that line.
    #[track_caller]
    pub(crate) fn wait_for_log(&mut self, text: &str) -> String {
        loop {
            match self.log.next() {
                Some(line) if line.contains(text) => return line,
                Some(_) => {}
                None => panic!("the log ended without {text:?}"),
            }
        }
    }

    /// Sends `signal` and waits for the end.
    #[track_caller]
    pub(crate) fn end(self, signal: Signal) -> Ended {
        self.process.signal(signal);
        self.wait()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        let status = self.process.status();
        Ended { status, stdout: self.stdout.rest(), stderr: self.log.rest() }
    }
}

/// A connection on which no wait is for ever.
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .unwrap_or_else(|why| panic!("cannot connect to {address}: {why}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Sends `bytes` and the end, and reads to the end.
#[track_caller]
pub(crate) fn ask(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).expect("the server reads");
    stream.shutdown(std::net::Shutdown::Write).expect("an end");
    read_to_end(stream)
}

#[track_caller]
pub(crate) fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an orderly end");
    answer
}

/// An address on which nobody listens now: for servers that cannot say where they listen.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

/// Connects as soon as somebody listens at `address`.
#[track_caller]
pub(crate) fn connect_when_ready(address: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nobody listens at {address}");
        // Only the ready line could say when, and these servers have nowhere to write it.
        thread::sleep(Duration::from_millis(5));
    }
    connect(address)
}

/// The lines of a pipe, read by a thread of its own so that no child ever waits for its test.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// The next line; none at the end.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<String> {
        match self.0.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no line came within {PATIENCE:?}"),
        }
    }

    /// All that is left, to the end.
    #[track_caller]
    pub(crate) fn rest(mut self) -> String {
        let mut text = String::new();
        while let Some(line) = self.next() {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}
