//! `evmux client udp`: sent again with doubling waits, given up, broadcast only when asked for.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::binary::{PATIENCE, Process, Server, evmux, feed};

fn socket(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The next question, when it came, and whose it is.
#[track_caller]
fn question(server: &UdpSocket) -> (Vec<u8>, Instant, SocketAddr) {
    let mut bytes = vec![0; 1 << 16];
    let (length, client) = server.recv_from(&mut bytes).expect("no question came");
    bytes.truncate(length);
    (bytes, Instant::now(), client)
}

#[test]
fn a_datagram_is_answered_by_our_own_server() {
    let start = |service: &str| {
        Server::spawn(evmux(&["serve", "--listen", "udp:127.0.0.1:0", "--service", service]))
    };
    let upper = start("upper");
    let ask = |server: &Server, message: &str| {
        feed(evmux(&["client", "udp", &server.address.to_string(), message]), b"").ok()
    };
    assert_eq!(ask(&upper, "straße"), b"STRASSE\n");
    assert_eq!(ask(&upper, ""), b"\n");
    assert_eq!(ask(&upper, "-4"), b"-4\n");
    // Its own line end is enough.
    assert_eq!(ask(&start("hello"), "x"), b"Hello 127.0.0.1\n");
}

#[test]
fn three_dropped_datagrams_are_sent_again_after_doubling_waits() {
    let (server, address) = socket("127.0.0.1:0");
    let dropping = thread::spawn(move || {
        let came: Vec<_> = (0..4).map(|_| question(&server)).collect();
        server.send_to(b"AT LAST", came[3].2).unwrap();
        came
    });
    let began = Instant::now();
    let answered = feed(evmux(&["client", "udp", &address.to_string(), "the same"]), b"");
    assert_eq!(answered.ok(), b"AT LAST\n");
    let came = dropping.join().unwrap();
    // Sent at 0, 0.1, 0.3 and 0.7 s: later is possible on a busy machine, sooner is not.
    for ((bytes, at, client), due) in came.iter().zip([0, 100, 300, 700]) {
        assert_eq!(bytes, b"the same");
        assert_eq!(*client, came[0].2, "a question from another port is another question");
        assert!(at.duration_since(began) >= Duration::from_millis(due), "before {due} ms");
    }
}

#[test]
fn an_unanswered_server_seems_down_after_five_datagrams_in_three_seconds() {
    let (silent, address) = socket("127.0.0.1:0");
    let began = Instant::now();
    let line = feed(evmux(&["client", "udp", &address.to_string(), "anybody?"]), b"").failed();
    assert!(began.elapsed() >= Duration::from_millis(3100));
    assert_eq!(
        line,
        format!("evmux: {address}: no answer to 5 datagrams in 3.1 s: server seems down")
    );
    for _ in 0..5 {
        assert_eq!(question(&silent).0, b"anybody?");
    }
    silent.set_nonblocking(true).unwrap();
    assert!(silent.recv(&mut [0; 10]).is_err(), "a sixth datagram was sent");
}

#[test]
fn the_waits_are_as_they_are_asked_for() {
    let (silent, address) = socket("127.0.0.1:0");
    let mut command = evmux(&["client", "udp", &address.to_string(), "x"]);
    command.args(["--retry-after", "1ms"]).env("EVMUX_GIVE_UP_AFTER", "4ms");
    let line = feed(command, b"").failed();
    assert!(line.contains("no answer to 3 datagrams"), "{line}");
    drop(silent);

    // Where no other test asks for a port meanwhile.
    let line =
        feed(evmux(&["client", "udp", "127.77.0.1:9", "x", "--give-up-after", "100ms"]), b"");
    let line = line.failed();
    // That nobody is there is told by ICMP, and is neither an answer nor a reason to stop sooner.
    let end = ": refused, and no answer to a datagram in 0.1 s: server seems down";
    assert!(line.ends_with(end), "{line}");
}

#[test]
fn never_goes_on_until_it_is_answered_or_ended() {
    let (server, address) = socket("127.0.0.1:0");
    let address = address.to_string();
    let words =
        ["client", "udp", &address, "x", "--retry-after", "1ms", "--give-up-after", "never"];
    let mut process = Process::spawn(evmux(&words));
    // The tenth is sent half a second after the first.
    for _ in 0..10 {
        question(&server);
    }
    // Not SIGINT, which a shell has those ignore that it starts in the background.
    process.signal(Signal::TERM);
    assert_eq!(process.status().code(), None, "the signal ends it");
}

#[test]
fn broadcast_works_with_its_option_and_is_refused_without() {
    // Every address of 127.0.0.0/8 is this machine, and the last one its broadcast address.
    let (server, address) = socket("0.0.0.0:0");
    let everybody = format!("127.255.255.255:{}", address.port());
    let line = feed(evmux(&["client", "udp", &everybody, "hello"]), b"").failed();
    assert!(line.contains("a broadcast address needs --broadcast"), "{line}");
    server.set_nonblocking(true).unwrap();
    assert!(server.recv(&mut [0; 10]).is_err(), "it was sent all the same");
    server.set_nonblocking(false).unwrap();

    let answering = thread::spawn(move || {
        let (bytes, _, client) = question(&server);
        // From the machine's own address, which is not the one that was asked.
        server.send_to(&bytes.to_ascii_uppercase(), client).unwrap();
    });
    let answered = feed(evmux(&["client", "udp", &everybody, "hello", "--broadcast"]), b"");
    assert_eq!(answered.ok(), b"HELLO\n");
    answering.join().unwrap();
}

#[test]
fn the_longest_answer_is_printed_and_a_longer_question_refused() {
    let (server, address) = socket("127.0.0.1:0");
    let answering = thread::spawn(move || {
        let (_, _, client) = question(&server);
        server.send_to(&[b'x'; 65_507], client).unwrap();
    });
    let answered = feed(evmux(&["client", "udp", &address.to_string(), "much"]), b"").ok();
    assert!(answered == [&[b'x'; 65_507][..], b"\n"].concat());
    answering.join().unwrap();

    let longer = "x".repeat(65_508);
    let line = feed(evmux(&["client", "udp", &address.to_string(), &longer]), b"").failed();
    assert!(line.contains("65508 bytes fit no datagram: at most 65507 do"), "{line}");
}

#[test]
fn each_address_of_a_name_is_asked() {
    let server = Server::spawn(evmux(&["serve", "--listen", "udp:127.0.0.1:0"]));
    let name = format!("localhost:{}", server.address.port());
    assert_eq!(feed(evmux(&["client", "udp", &name, "by name"]), b"").ok(), b"BY NAME\n");
    let line = feed(evmux(&["client", "udp", "nonexistent.invalid:1", "x"]), b"").failed();
    assert!(line.contains("This host does not seem to exist"), "{line}");
}
