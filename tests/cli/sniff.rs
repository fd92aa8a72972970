//! `evmux sniff`, on the loopback interface: for real where the tests may, and its refusal as a
//! user who may not.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::binary::{Answered, Process, evmux, feed};

/// Whether this process may see packets: bit 13 of the effective capabilities.
fn may_sniff() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & (1 << 13) != 0
}

#[track_caller]
fn is_refused(answered: Answered) {
    assert_eq!(answered.stdout, b"");
    let line = answered.failed();
    assert!(line.starts_with("evmux: cannot see the packets of lo: "), "{line}");
    assert!(line.ends_with("run it as root, or with the capability CAP_NET_RAW"), "{line}");
}

#[test]
fn without_the_capability_it_says_what_to_do() {
    let mut command = evmux(&["sniff", "lo", "--count", "1"]);
    if may_sniff() {
        // Nobody in particular: root who becomes another user leaves the capabilities behind. That
        // user may not be allowed to go where the program lies, so it is handed over open.
        let program = std::fs::File::open(env!("CARGO_BIN_EXE_evmux")).unwrap();
        command = std::process::Command::new("/proc/self/fd/0");
        command.args(["sniff", "lo", "--count", "1"]).uid(65_534).gid(65_534).stdin(program);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn(command);
        let mut stderr = process.stderr();
        let line = stderr.next().unwrap_or_default();
        assert_eq!(process.status().code(), Some(1), "{line}");
        let answered = Answered { status: Some(1), stdout: Vec::new(), stderr: line };
        is_refused(answered);
    } else {
        is_refused(feed(command, b""));
    }
}

#[test]
fn packets_of_the_loopback_interface_are_lines() {
    let mut command = evmux(&["sniff", "lo"]);
    if !may_sniff() {
        // Then this is what can be claimed.
        is_refused(feed(command, b""));
        return;
    }
    command.stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut lines = process.stdout();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = socket.local_addr().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let talking = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            // Nothing says when it has begun to look, so there is something to see until it did.
            while !done.load(Ordering::Relaxed) {
                let _ = TcpStream::connect(server);
                let _ = socket.send_to(b"hello", server);
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    // Other tests talk over the same interface; these lines are ours.
    let udp = format!("UDP {from} > {server} length 33");
    let syn = format!(" > {server} length 60 SYN");
    let (mut seen_udp, mut seen_syn) = (0, 0);
    while seen_udp == 0 || seen_syn == 0 {
        let line = lines.next().expect("it goes on");
        seen_udp += usize::from(line == udp);
        seen_syn += usize::from(line.starts_with("TCP 127.0.0.1:") && line.ends_with(&syn));
    }
    done.store(true, Ordering::Relaxed);
    talking.join().unwrap();
    // Not SIGINT, which a shell has those ignore that it starts in the background.
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.status().code(), None, "the signal ends it");
}

#[test]
fn it_ends_after_as_many_packets_as_were_asked_for() {
    if !may_sniff() {
        is_refused(feed(evmux(&["sniff", "lo", "--count", "3"]), b""));
        return;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let talking = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            // As above: until it has seen enough.
            while !done.load(Ordering::Relaxed) {
                let _ = socket.send_to(b"hello", socket.local_addr().unwrap());
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let answered = feed(evmux(&["sniff", "--count", "3"]), b"").ok();
    done.store(true, Ordering::Relaxed);
    talking.join().unwrap();
    assert_eq!(String::from_utf8(answered).unwrap().lines().count(), 3);
}

#[test]
fn no_such_interface_is_one_line_and_status_1() {
    let answered = feed(evmux(&["sniff", "nonesuch"]), b"");
    let line = answered.failed();
    assert!(line.starts_with("evmux: cannot see the packets of nonesuch: "), "{line}");
    assert!(line.contains("No such device") || !may_sniff(), "{line}");
}
