//! Without descriptors, without threads, with a deadly signal: in a process of its own.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use evmux::Model;

use crate::support::child::Plan;
use crate::support::handlers::flood;
use crate::support::{Child, Client, PATIENCE, SEVERAL_CLIENTS, assert_bytes, eventually, pattern};

at_once! { SEVERAL_CLIENTS;
    at_the_limit_of_connections_nothing_spins_and_the_old_are_served,
    without_descriptors_nothing_spins_and_the_waiting_are_served_later,
}

front_ends! { threads:
    a_thread_that_cannot_be_made_is_not_the_end,
}

every_front_end! {
    a_reset_peer_raises_no_signal,
}

/// 200 clients where 64 descriptors are: each says a word.
fn two_hundred_clients(model: Model, max_connections: usize) -> (Child, Vec<Client>) {
    let mut plan = Plan::new(model, "echo");
    plan.ulimit = "-n 64";
    // A pool that could serve them all, if it could have their descriptors.
    plan.threads = 100;
    plan.max_connections = max_connections;
    let child = plan.start();
    let clients = (0..200)
        .map(|_| {
            let mut client = child.connect();
            // A refused one may be gone already.
            let _ = client.stream.write(b"x");
            client
        })
        .collect();
    (child, clients)
}

/// Those who are answered within `patience`; the others, in whatever state they are.
fn answered(clients: Vec<Client>, patience: Duration) -> (Vec<Client>, Vec<Client>) {
    clients.into_iter().partition(|client| {
        client.stream.set_read_timeout(Some(patience)).unwrap();
        let answer = (&client.stream).read(&mut [0; 10]);
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(answer, Ok(1))
    })
}

fn assert_served(clients: &mut [Client]) {
    for client in clients {
        client.ask(b"old");
    }
}

fn assert_does_not_spin(child: &Child) {
    let before = child.processor_time();
    thread::sleep(Duration::from_secs(3)); // That nothing happens can only be seen by waiting.
    let used = child.processor_time() - before;
    assert!(used < Duration::from_millis(100), "{used:?} of processor time in 3 s");
}

fn at_the_limit_of_connections_nothing_spins_and_the_old_are_served(model: Model) {
    let (mut child, clients) = two_hundred_clients(model, 0);
    let (mut old, others) = answered(clients, Duration::from_secs(5));
    assert_eq!(old.len(), 32, "the limit of descriptors less 32");
    drop(others);
    eventually("all the others are refused", || {
        // Each needs a descriptor until it is refused, and of a hundred threads so many may have one
        // to refuse at the same time that there is none left for the next.
        let counted = child.counted();
        counted.refused_limit + counted.refused_descriptors == 168
    });
    assert_does_not_spin(&child);
    assert_served(&mut old);
    old.truncate(20);
    eventually("twelve new ones are served", || {
        let mut client = child.connect();
        let _ = client.stream.write(b"x");
        old.extend(answered(vec![client], Duration::from_secs(5)).0);
        old.len() == 32
    });
    assert_served(&mut old);
    child.assert_alive();
}

fn without_descriptors_nothing_spins_and_the_waiting_are_served_later(model: Model) {
    let (mut child, clients) = two_hundred_clients(model, 1000);
    let (mut old, mut waiting) = answered(clients, Duration::from_millis(5));
    assert!((30..64).contains(&old.len()), "{} are served", old.len());
    assert_does_not_spin(&child);
    let counted = child.counted();
    assert_eq!(counted.refused_limit + counted.refused_other, 0, "{counted:?}");
    assert!(counted.refused_descriptors > 0, "{counted:?}");
    assert_served(&mut old);
    // Half of them go: as many of those who waited are served. They are the last ones, since the
    // first are refused one by one meanwhile.
    let half = old.len() / 2;
    old.truncate(half);
    eventually("the waiting are served", || {
        let (answered, others) = answered(std::mem::take(&mut waiting), Duration::from_millis(1));
        waiting = others;
        old.extend(answered);
        old.len() >= 2 * half - 1
    });
    assert_served(&mut old);
    child.assert_alive();
}

fn a_thread_that_cannot_be_made_is_not_the_end(model: Model) {
    let mut plan = Plan::new(model, "echo");
    // Each thread has a stack of 16 MiB.
    plan.ulimit = "-v 1000000";
    let mut child = plan.start();
    let clients = (0..100)
        .map(|_| {
            let mut client = child.connect();
            let _ = client.stream.write(b"x");
            client
        })
        .collect();
    let (mut old, refused) = answered(clients, Duration::from_secs(5));
    assert!((10..90).contains(&old.len()), "{} are served", old.len());
    assert_eq!(child.counted().refused_other, refused.len() as u64);
    assert_served(&mut old);
    old.truncate(5);
    eventually("a new client is served", || {
        let mut client = child.connect();
        let _ = client.stream.write(b"x");
        !answered(vec![client], Duration::from_secs(5)).0.is_empty()
    });
    assert_served(&mut old);
    child.assert_alive();
}

fn a_reset_peer_raises_no_signal(model: Model) {
    let mut plan = Plan::new(model, "flood");
    plan.sigpipe = true;
    let mut child = plan.start();
    for _ in 0..10 {
        let mut client = child.connect();
        client.send(&flood(50 << 20));
        // After a FIN a reset is told as EPIPE.
        client.finish();
        client.receive(100_000);
        client.reset();
        child.assert_alive();
    }
    let mut client = child.connect();
    client.send(&flood(1000));
    assert_bytes(&client.rest(), &pattern(1000));
    assert_eq!(child.counted().opened, 11);
}
