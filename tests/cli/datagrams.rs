//! `--listen udp:…`: the ready line, the services that answer datagrams, and their end.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use rustix::process::Signal;

use crate::MODELS;
use crate::binary::{Ended, PATIENCE, Server, connect, evmux, read_to_end, run};

/// The answer to one datagram.
#[track_caller]
fn answer(server: SocketAddr, question: &[u8]) -> Vec<u8> {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(question).unwrap();
    let mut answer = vec![0; 65536];
    let length = client.recv(&mut answer).expect("no answer");
    answer.truncate(length);
    answer
}

#[test]
fn datagrams_are_answered_under_every_model_and_the_ready_line_says_where() {
    for model in MODELS {
        let server =
            Server::spawn(evmux(&["serve", "--model", model, "--listen", "udp:127.0.0.1:0"]));
        let expected =
            format!("evmux: listening on udp {} (service upper, model {model})", server.address);
        assert_eq!(server.ready, expected);
        assert_eq!(answer(server.address, "straße".as_bytes()), b"STRASSE");
        assert_eq!(answer(server.address, b""), b"");
        let ended = server.end(Signal::TERM);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        let last = ended.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("served 0 connections, 7 bytes in, 7 out"), "{last}");
    }
}

#[test]
fn a_service_may_be_served_over_tcp_and_udp_at_one_port() {
    // Another test may have the port by chance; that it has each of ten is no chance.
    let served = (0..10).any(|_| {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let udp = format!("udp:{free}");
        let Ok(_) = UdpSocket::bind(free) else { return false };
        let server = Server::spawn(evmux(&[
            "serve",
            "--model",
            "sequential",
            "--service",
            "hello",
            "--listen",
            &udp,
            "--listen",
            &free.to_string(),
        ]));
        assert_eq!(answer(free, b"x"), b"Hello 127.0.0.1\n");
        assert_eq!(read_to_end(connect(free)), b"Hello 127.0.0.1\n");
        drop(server);
        true
    });
    assert!(served);
}

#[test]
fn each_service_for_datagrams_answers_as_it_should() {
    let start = |arguments: &[&str]| {
        Server::spawn(evmux(&[&["serve", "--listen", "udp:127.0.0.1:0"], arguments].concat()))
    };
    assert_eq!(answer(start(&["--service", "echo"]).address, b"\xff\0"), b"\xff\0");
    let hello = start(&["--service", "hello", "--greeting", "Hi!"]);
    assert_eq!(answer(hello.address, b""), b"Hi!");
    let time = answer(start(&["--service", "time"]).address, b"");
    assert_eq!((time.len(), time.last()), (25, Some(&b'\n')));

    let discard = start(&["--service", "discard"]);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"four", discard.address).unwrap();
    let ended = discard.end(Signal::TERM);
    assert!(ended.stderr.contains("4 bytes in, 0 out"), "{}", ended.stderr);
}

#[test]
fn a_port_that_is_taken_is_one_line_and_status_1() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp:{}", taken.local_addr().unwrap());
    let Ended { status, stdout, stderr } = run(evmux(&["serve", "--listen", &address]));
    assert_eq!((status.code(), stdout.as_str()), (Some(1), ""));
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with(&format!("evmux: cannot listen on {address}: ")), "{stderr}");
}
