//! An example as a child process that does not outlive its test, and clients that do not wait for
//! ever.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Far more than anything takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Example {
    process: Child,
    output: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl Example {
    /// Starts the example on a port that the system chooses.
    #[track_caller]
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &["127.0.0.1:0"])
    }

    #[track_caller]
    pub(crate) fn start_with(name: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(program(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut example = Self { process, output, address: SocketAddr::from(([0; 4], 0)) };
        let line = example.line();
        let address = line
            .strip_prefix("listening on tcp ")
            .and_then(|rest| rest.split([' ', ',']).next())
            .and_then(|address| address.parse().ok());
        example.address = address.unwrap_or_else(|| panic!("{line:?} does not say where"));
        example
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client(connect(self.address))
    }

    /// What it says next.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn input(&mut self, text: &str) {
        self.process.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Ends its input, and waits for its own end, which must be a good one.
    #[track_caller]
    pub(crate) fn end_input(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }

    /// It does nothing until it goes on.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    #[track_caller]
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// The most memory that it ever had, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processor time that it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // utime and stime are the twelfth and the thirteenth field behind the name in brackets, in
        // ticks of a hundredth of a second.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where Cargo puts the examples: beside the folder of the tests.
fn program(name: &str) -> PathBuf {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    assert!(path.exists(), "{} is not there: cargo build --examples", path.display());
    path
}

#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    #[track_caller]
    pub(crate) fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// The next bytes must be these.
    #[track_caller]
    pub(crate) fn hear(&mut self, text: &str) {
        let mut heard = vec![0; text.len()];
        if let Err(why) = self.0.read_exact(&mut heard) {
            panic!("instead of {:?}: {why}", text.lines().next());
        }
        assert_eq!(String::from_utf8_lossy(&heard), text);
    }

    /// These must be the last ones.
    #[track_caller]
    pub(crate) fn hear_last(&mut self, text: &str) {
        let mut heard = String::new();
        self.0.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, text);
    }

    /// One line, without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        line.pop();
        String::from_utf8(line).unwrap()
    }

    /// Nothing has come for it.
    #[track_caller]
    pub(crate) fn hears_nothing(&mut self) {
        self.0.set_nonblocking(true).unwrap();
        let mut bytes = [0; 100];
        let heard = self.0.read(&mut bytes);
        self.0.set_nonblocking(false).unwrap();
        let nothing = heard.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(nothing, "{heard:?}: {:?}", String::from_utf8_lossy(&bytes));
    }
}
