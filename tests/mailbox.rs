//! Other threads speak to connections: send, wake, close.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use evmux::{
    ConnectionId, Exchange, Flow, Handler, Mailbox, Model, Peer, PostError, Running, Server,
};

/// Says its name to the test, answers bytes with themselves, and `woken` when it is woken.
struct Known;

impl Handler for Known {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Continue
    }

    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(b"woken");
        Flow::Continue
    }
}

struct Started {
    server: Running,
    handle: evmux::Handle,
    ids: mpsc::Receiver<ConnectionId>,
}

impl Started {
    fn under(model: Model) -> Self {
        let mailbox = Mailbox::new().unwrap();
        let handle = mailbox.handle();
        let (tell, ids) = mpsc::channel();
        let tell = std::sync::Mutex::new(tell);
        let service = move |peer: &Peer| {
            tell.lock().unwrap().send(peer.id.unwrap()).unwrap();
            Known
        };
        let server = Server::builder(service)
            .model(model)
            .mailbox(mailbox)
            .listen("127.0.0.1:0")
            .build()
            .unwrap();
        Self { server: server.start().unwrap(), handle, ids }
    }

    fn client(&self) -> (TcpStream, ConnectionId) {
        let address = self.server.local_addresses()[0].socket_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (client, self.ids.recv_timeout(Duration::from_secs(20)).unwrap())
    }
}

#[track_caller]
fn expect(client: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    client.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes);
}

fn messages_reach_their_connection_and_no_other(model: Model) {
    let started = Started::under(model);
    let (mut first, first_id) = started.client();
    let (mut second, second_id) = started.client();
    for round in 0..100 {
        let text: Arc<[u8]> = format!("round {round}").into_bytes().into();
        started.handle.send(first_id, Arc::clone(&text)).unwrap();
        expect(&mut first, &text);
        started.handle.wake(second_id).unwrap();
        expect(&mut second, b"woken");
        second.write_all(b"x").unwrap();
        expect(&mut second, b"x");
    }
    started.handle.close(first_id).unwrap();
    assert_eq!(first.read(&mut [0; 1]).unwrap(), 0);
    drop(first);
    // Its end takes a moment to be seen; then messages to it come back.
    let gone = (0..2000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        matches!(started.handle.wake(first_id), Err(PostError::Stale(())))
    });
    assert!(gone, "the connection that was closed is still known");
    let counted = started.server.counters();
    assert!(counted.messages_delivered >= 201, "{counted:?}");
}

#[test]
fn messages_reach_their_connection_and_no_other_under_epoll() {
    messages_reach_their_connection_and_no_other(Model::Epoll);
}

#[test]
fn messages_reach_their_connection_and_no_other_under_poll() {
    messages_reach_their_connection_and_no_other(Model::Poll);
}

fn a_service_may_speak_to_the_connection_that_it_makes_a_handler_for(model: Model) {
    let mailbox = Mailbox::new().unwrap();
    let handle = mailbox.handle();
    let (tell, refused) = mpsc::channel();
    let (made, tell) = (AtomicUsize::new(0), std::sync::Mutex::new(tell));
    let for_service = handle.clone();
    let service = move |peer: &Peer| {
        let id = peer.id.unwrap();
        for_service.wake(id).unwrap();
        if made.fetch_add(1, Ordering::Relaxed) == 1 {
            tell.lock().unwrap().send(id).unwrap();
            // Without a word: this is no failure.
            std::panic::resume_unwind(Box::new("the second is not served"));
        }
        Known
    };
    let builder = Server::builder(service).model(model).mailbox(mailbox).listen("127.0.0.1:0");
    let server = builder.build().unwrap().start().unwrap();
    let address = server.local_addresses()[0].socket_addr().unwrap();
    let connect = || {
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    };
    expect(&mut connect(), b"woken");
    assert_eq!(connect().read(&mut [0; 1]).unwrap(), 0);
    let id = refused.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(handle.wake(id), Err(PostError::Stale(())));
    expect(&mut connect(), b"woken");
}

#[test]
fn a_service_may_speak_to_the_connection_that_it_makes_a_handler_for_under_epoll() {
    a_service_may_speak_to_the_connection_that_it_makes_a_handler_for(Model::Epoll);
}

#[test]
fn a_service_may_speak_to_the_connection_that_it_makes_a_handler_for_under_poll() {
    a_service_may_speak_to_the_connection_that_it_makes_a_handler_for(Model::Poll);
}

#[test]
fn a_mailbox_is_refused_where_nobody_would_read_it() {
    let server = Server::builder(|_: &Peer| Known)
        .model(Model::Threads)
        .mailbox(Mailbox::new().unwrap())
        .listen("127.0.0.1:0")
        .build();
    let Err(error) = server.map(drop) else { panic!("it was taken") };
    assert!(error.to_string().contains("epoll or poll"), "{error}");
}
