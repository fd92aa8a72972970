//! Servers that do one thing wrong, and how it is found.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use evmux::load::{self, Mistake, Outcome, Pacing, Plan, Until, Verify, Warning};

use crate::{plan, run, server};

/// Echoes, but lets `harm` at the bytes of each message of 64 first, with its number.
fn harmful(harm: impl Fn(u64, &mut Vec<u8>) + Send + Sync + 'static) -> String {
    let harm = Arc::new(harm);
    let count = Arc::new(AtomicU64::new(0));
    let address = server(move |mut stream| {
        loop {
            let mut message = vec![0; 64];
            stream.read_exact(&mut message)?;
            harm(count.fetch_add(1, Ordering::SeqCst), &mut message);
            stream.write_all(&message)?;
        }
    });
    address.to_string()
}

/// Against it, for each way of asking.
fn against(target: &str, claim: impl Fn(&Outcome)) {
    for pacing in [Pacing::Closed, Pacing::Open { rate: 5000.0 }] {
        for pipeline in [1, 4] {
            let mut plan = plan(target, 500);
            plan.pacing = pacing;
            plan.pipeline = pipeline;
            // It is waited for in vain where a byte is missing.
            plan.timeout = Duration::from_secs(2);
            claim(&run(&plan));
        }
    }
}

#[test]
fn a_wrong_byte_is_found_and_named() {
    let target = harmful(|number, message| {
        if number % 500 == 300 {
            message[17] ^= 1;
        }
    });
    against(&target, |outcome| {
        assert_eq!(outcome.errors.wrong, 1, "{:?}", outcome.errors);
        assert!(outcome.errors.are_of_bytes());
        let mistake = outcome.first_wrong.unwrap().mistake;
        let Mistake::Byte { offset: 17, expected, found } = mistake else { panic!("{mistake}") };
        assert_eq!(expected ^ 1, found);
    });
}

#[test]
fn a_missing_byte_is_found() {
    let target = harmful(|number, message| {
        if number % 500 == 300 {
            message.remove(40);
        }
    });
    against(&target, |outcome| {
        assert!(outcome.errors.are_of_bytes(), "{:?}", outcome.errors);
        assert!(outcome.errors.wrong >= 1, "{:?}", outcome.errors);
    });
    // The last one of a message cannot be known to be wrong, only to be missing.
    let target = harmful(|number, message| {
        if number == 300 {
            message.pop();
        }
    });
    let mut plan = plan(&target, 500);
    plan.timeout = Duration::from_secs(2);
    let outcome = run(&plan);
    assert_eq!((outcome.errors.timed_out, outcome.errors.wrong), (1, 0));
    assert!(outcome.errors.are_of_bytes());
}

#[test]
fn a_byte_too_many_is_found() {
    let target = harmful(|number, message| {
        if number % 500 == 300 {
            message.push(0);
        }
    });
    against(&target, |outcome| assert_eq!(outcome.errors.wrong, 1, "{:?}", outcome.errors));
}

#[test]
fn a_byte_too_many_in_the_last_reply_of_all_is_found() {
    let target = harmful(|number, message| {
        if number == 9 {
            message.push(0);
        }
    });
    let mut plan = plan(&target, 10);
    plan.connections = 1;
    assert_eq!(run(&plan).errors.wrong, 1);
}

#[test]
fn bytes_of_another_connection_are_found() {
    // Each message is answered with one that came before it, on whatever connection.
    let last = Mutex::new(None::<Vec<u8>>);
    let target = harmful(move |_, message| {
        let mut last = last.lock().unwrap();
        let mine = message.clone();
        if let Some(other) = last.replace(mine) {
            *message = other;
        }
    });
    // Nearly none is right, and a connection that was good for nothing is not made again at once.
    let outcome = run(&plan(&target, 12));
    assert!(outcome.errors.wrong >= 6, "{:?}", outcome.errors);
}

#[test]
fn the_reply_to_the_request_before_is_found() {
    let address = server(|mut stream| {
        let mut before: Option<Vec<u8>> = None;
        loop {
            let mut message = vec![0; 64];
            stream.read_exact(&mut message)?;
            stream.write_all(before.as_ref().unwrap_or(&message))?;
            before = Some(message);
        }
    });
    let outcome = run(&plan(&address.to_string(), 200));
    // The first of each connection is right.
    assert!(outcome.errors.wrong >= 50, "{:?}", outcome.errors);
}

#[test]
fn a_server_that_does_not_upper_case_is_found() {
    let target = harmful(|_, _| {});
    let mut plan = plan(&target, 100);
    plan.verify = Verify::Upper;
    assert!(run(&plan).errors.wrong > 0);
    plan.verify = Verify::Nothing;
    assert_eq!(run(&plan).errors.total(), 0);
}

#[test]
fn a_connection_that_ends_before_its_reply_is_whole_is_found() {
    let address = server(|mut stream| {
        let mut message = [0; 64];
        for _ in 0..10 {
            stream.read_exact(&mut message)?;
            stream.write_all(&message)?;
        }
        stream.read_exact(&mut message)?;
        stream.write_all(&message[..30])
    });
    against(&address.to_string(), |outcome| {
        assert!(outcome.errors.missing > 0, "{:?}", outcome.errors);
        assert_eq!(outcome.errors.wrong, 0);
        assert!(outcome.counts.answered > 0);
    });
}

#[test]
fn a_server_that_closes_between_replies_loses_nothing() {
    // As one does that keeps connections for so many requests.
    let address = server(|mut stream| {
        let mut message = [0; 64];
        for _ in 0..10 {
            stream.read_exact(&mut message)?;
            stream.write_all(&message)?;
        }
        Ok(())
    });
    let mut plan = plan(&address.to_string(), 200);
    plan.per_connection = Some(10);
    let outcome = run(&plan);
    assert_eq!(outcome.errors.total(), 0, "{:?}", outcome.errors);
    assert_eq!(outcome.counts.answered, 200);
    assert!(outcome.counts.connects >= 20);
}

#[test]
fn connections_that_a_full_server_closes_are_refused() {
    let seats = Arc::new(AtomicU64::new(0));
    let address = server(move |mut stream: TcpStream| {
        if seats.fetch_add(1, Ordering::SeqCst) >= 2 {
            return Ok(());
        }
        io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
    });
    let mut plan = plan(&address.to_string(), 1);
    plan.connections = 5;
    plan.until = Until::Duration(Duration::from_secs(1));
    let outcome = run(&plan);
    assert!(outcome.errors.refused >= 1, "{:?}", outcome.errors);
    assert_eq!(outcome.errors.wrong, 0, "{:?}", outcome.errors);
    assert!(outcome.counts.answered > 0);
    assert!(warnings(&outcome).contains(&"refused"));
}

#[test]
fn a_server_that_goes_away_ends_the_run() {
    // A listener that takes one connection, serves it for a while, and is gone.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        drop(listener);
        let mut message = [0; 64];
        for _ in 0..100 {
            stream.read_exact(&mut message)?;
            stream.write_all(&message)?;
        }
        Ok(())
    });
    let mut plan = plan(&address.to_string(), u64::MAX);
    plan.connections = 1;
    plan.timeout = Duration::from_millis(500);
    let outcome = run(&plan);
    assert!(outcome.server_gone);
    assert!(!outcome.interrupted);
    assert!(outcome.counts.answered >= 99 && outcome.errors.refused > 0, "{:?}", outcome.errors);
}

#[test]
fn lost_datagrams_are_counted_and_are_no_wrong_bytes() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = format!("udp:{}", socket.local_addr().unwrap());
    thread::spawn(move || -> io::Result<()> {
        let mut datagram = [0; 2048];
        for number in 0.. {
            let (length, peer) = socket.recv_from(&mut datagram)?;
            if number % 10 != 3 {
                socket.send_to(&datagram[..length], peer)?;
            }
        }
        Ok(())
    });
    let mut plan = plan(&target, 100);
    plan.timeout = Duration::from_millis(300);
    let outcome = run(&plan);
    assert_eq!(outcome.errors.lost, 10, "{:?}", outcome.errors);
    assert_eq!(outcome.counts.answered, 90);
    assert!(!outcome.errors.are_of_bytes());
    assert!(warnings(&outcome).contains(&"datagram_loss"));
}

#[test]
fn a_wrong_datagram_is_found_and_one_out_of_order_is_not_wrong() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = format!("udp:{}", socket.local_addr().unwrap());
    thread::spawn(move || -> io::Result<()> {
        let mut datagrams = [[0; 64]; 4];
        for round in 0.. {
            let mut peer = None;
            for datagram in &mut datagrams {
                peer = Some(socket.recv_from(datagram)?.1);
            }
            if round == 10 {
                datagrams[2][5] ^= 1;
            }
            for datagram in datagrams.iter().rev() {
                socket.send_to(datagram, peer.unwrap())?;
            }
        }
        Ok(())
    });
    let mut plan: Plan = plan(&target, 80);
    plan.connections = 1;
    plan.pipeline = 4;
    plan.timeout = Duration::from_secs(2);
    let outcome = run(&plan);
    assert_eq!(outcome.errors.wrong, 1, "{:?}", outcome.errors);
    let Mistake::Datagram { length: 64 } = outcome.first_wrong.unwrap().mistake else {
        panic!("{:?}", outcome.first_wrong)
    };
}

/// One that is full, and is slow to say so: by then the client may have asked.
#[test]
fn a_connection_that_is_closed_while_it_is_being_noticed_is_refused_and_nothing_is_missing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp:{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream);
        }
    });
    let mut plan: Plan = plan(&target, 10);
    plan.connections = 200;
    plan.timeout = Duration::from_millis(500);
    match load::run(&plan, &mut ()) {
        Ok(outcome) => {
            assert_eq!(outcome.errors.missing, 0, "{:?}", outcome.errors);
            assert!(outcome.errors.refused > 0);
        }
        Err(error) => assert!(error.to_string().contains("cannot connect"), "{error}"),
    }
}

/// A server that does half of what it is asked has a backlog, whatever it does with it later.
#[test]
fn what_is_answered_after_the_end_is_no_part_of_the_rate() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp:{}", listener.local_addr().unwrap());
    thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut message = [0; 64];
        loop {
            stream.read_exact(&mut message)?;
            // At most a hundred a second is what is tested.
            thread::sleep(Duration::from_millis(10));
            stream.write_all(&message)?;
        }
    });
    let mut plan: Plan = plan(&target, 1);
    plan.connections = 1;
    plan.until = Until::Duration(Duration::from_millis(500));
    plan.pacing = Pacing::Open { rate: 200.0 };
    plan.timeout = Duration::from_secs(20);
    let outcome = run(&plan);
    assert_eq!(outcome.counts.answered, 100, "all of them, in the end");
    assert!(outcome.counts.in_time <= 50, "{:?}", outcome.counts);
    assert!(outcome.rate() <= 100.0, "{}", outcome.rate());
    assert!(warnings(&outcome).contains(&"rate_not_reached"));
}

fn warnings(outcome: &Outcome) -> Vec<&'static str> {
    outcome.warnings.iter().map(Warning::name).collect()
}
