//! The situations of the matrix: what a client does, and what must come of it, whatever the
//! handler, the model and the transport.

use std::time::Duration;

use crate::harness::{Cell, Kind};
use crate::support::child::Plan;
use crate::support::{assert_bytes, eventually};

/// What is said comes byte by byte.
pub(crate) fn fragmented(cell: Cell) {
    let served = cell.serve(|limits| limits);
    let (request, answer) = cell.exchange(300);
    let mut client = served.connect();
    for byte in request {
        client.send(&[byte]);
    }
    client.expect(&answer);
    if !cell.closes() {
        client.finish();
    }
    client.expect_end();
}

/// The client finishes behind its last byte, and everything is still answered.
pub(crate) fn half_close(cell: Cell) {
    let served = cell.serve(|limits| limits);
    let (request, answer) = cell.exchange(300_000);
    let mut client = served.connect();
    client.send_all_while(&request, |client| assert_bytes(&client.rest(), &answer));
}

/// The client takes its time to read.
pub(crate) fn slow_reader(cell: Cell) {
    let served = cell.serve(|limits| limits.send_buffer(10_000));
    let (request, answer) = cell.exchange(400_000);
    let mut client = served.connect();
    client.send_all_while(&request, |client| {
        client.expect_slowly(&answer);
        client.expect_end();
    });
}

/// A client goes with a reset in the middle; another one does not notice.
pub(crate) fn reset(cell: Cell) {
    let served = cell.serve(|limits| limits);
    let (request, answer) = cell.exchange(5000);
    let mut gone = served.connect();
    gone.send(&request[..request.len() / 2]);
    gone.reset();
    let mut client = served.connect();
    client.send_all_while(&request, |client| assert_bytes(&client.rest(), &answer));
}

/// A frame is too long, or more stands behind the last one: what came before is answered, and then
/// it is the end.
pub(crate) fn over_long(cell: Cell) {
    let served = cell.serve(|limits| limits);
    let (mut request, answer) = cell.exchange(3000);
    if cell.kind == Kind::Framed {
        request.extend_from_slice(&(Cell::MAX_FRAME as u32 + 1).to_be_bytes());
    }
    request.extend_from_slice(&[b'x'; 50_000]);
    let mut client = served.connect();
    client.send_all_while(&request, |client| assert_bytes(&client.rest(), &answer));
}

/// A client that says nothing is closed in order when its time is over.
pub(crate) fn idle(cell: Cell) {
    let served = cell.serve(|limits| limits.idle_timeout(Some(Duration::from_millis(100))));
    served.connect().expect_end();
}

/// What has begun when the server drains is answered, and then everything ends.
pub(crate) fn drain(cell: Cell) {
    let served = cell.serve(|limits| limits);
    let (request, answer) = cell.exchange(700);
    let mut client = served.connect();
    if cell.kind == Kind::Stream {
        client.send(&request);
        client.expect(&answer);
        served.running().stop().drain();
    } else {
        let (begun, rest) = request.split_at(6);
        client.send(begun);
        eventually("the beginning has come", || served.running().counters().bytes_received == 6);
        served.running().stop().drain();
        client.send(rest);
        client.expect(&answer);
    }
    client.expect_end();
    drop(client);
    served.ended();
}

/// More clients than descriptors: the server lives, and serves when there are some again.
pub(crate) fn exhaustion(cell: Cell) {
    let service = match cell.kind {
        Kind::Stream => "echo",
        Kind::Framed => "blocks",
        Kind::Closing => "flood",
    };
    let mut plan = Plan::new(cell.model, service);
    plan.ulimit = "-n 48";
    plan.max_connections = 1000;
    // A pool that could serve them all, if it could have their descriptors.
    plan.threads = 60;
    let mut child = plan.start();
    let clients: Vec<_> = (0..70).map(|_| child.connect()).collect();
    eventually("descriptors run out", || child.counted().refused_descriptors > 0);
    child.assert_alive();
    drop(clients);
    let (request, answer) = cell.exchange(300);
    eventually("a client is served again", || {
        let mut client = child.connect();
        let mut received = Vec::new();
        let sent = std::io::Write::write_all(&mut client.stream, &request);
        let finished = client.stream.shutdown(std::net::Shutdown::Write);
        let read = std::io::Read::read_to_end(&mut client.stream, &mut received);
        sent.is_ok() && finished.is_ok() && read.is_ok() && received == answer
    });
    child.assert_alive();
}
