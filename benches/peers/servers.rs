//! The servers that are compared, each run in a process of its own until that is killed.
//!
//! The hand-written ones are the floor of what their way of waiting costs: no limits, no deadlines,
//! no half-close, no fairness, no counters. They are right for the load that is put on them here,
//! and for nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use evmux::{Limits, Model, Server, Service, services};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::net::{SocketFlags, accept_with};
use slab::Slab;
use socket2::{Domain, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::child::say_port;

/// Serves as `words` say: what, and whether upper-cased.
pub(crate) fn serve(name: &str, upper: bool) {
    match (name, upper) {
        ("raw epoll", false) => raw_epoll(listen(), |_| {}),
        ("raw epoll", true) => raw_epoll(listen(), <[u8]>::make_ascii_uppercase),
        ("raw epoll keep-alive", _) => raw_epoll(listen_keeping_alive(), |_| {}),
        ("raw poll", _) => raw_poll(),
        ("std threads", _) => std_threads(),
        ("std udp", _) => std_udp(),
        ("tokio", false) => tokio_streams(|_| {}),
        ("tokio", true) => tokio_streams(<[u8]>::make_ascii_uppercase),
        ("evmux udp", _) => evmux_udp(),
        ("rival", _) => rival(),
        _ => {
            let model = name.strip_prefix("evmux ").and_then(|name| name.parse().ok());
            let model = model.unwrap_or_else(|| panic!("there is no server {name}"));
            if upper { evmux(services::upper, model) } else { evmux(services::echo, model) }
        }
    }
}

/// With everything switched on that costs something for each message.
fn evmux<S: Service + Sync>(service: S, model: Model) {
    let server = Server::builder(service)
        .model(model)
        .threads(128)
        .limits(Limits::default().idle_timeout(Some(Duration::from_secs(60))))
        .listen("0.0.0.0:0")
        .build()
        .unwrap();
    say_port(server.local_addresses()[0].socket_addr().unwrap());
    server.run().unwrap();
}

fn evmux_udp() {
    let server = Server::builder(services::echo)
        .datagrams("udp:127.0.0.1:0", services::datagrams::echo)
        .build()
        .unwrap();
    say_port(server.local_addresses()[0].socket_addr().unwrap());
    server.run().unwrap();
}

/// Serves nobody, and takes as much of the CPU as it is given.
fn rival() {
    say_port(std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    loop {
        std::hint::spin_loop();
    }
}

/// A listener as evmux makes one, except for keep-alive.
fn listen() -> TcpListener {
    listen_with(|_| {})
}

/// As evmux makes one by default: the kernel has a timer for each connection then, which is armed
/// when it comes and cancelled when it goes.
fn listen_keeping_alive() -> TcpListener {
    let second = Duration::from_secs(1);
    let times = TcpKeepalive::new().with_time(60 * second).with_interval(15 * second);
    listen_with(|socket| socket.set_tcp_keepalive(&times.with_retries(4)).unwrap())
}

fn listen_with(set: impl FnOnce(&Socket)) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    set(&socket);
    socket.set_tcp_nodelay(true).unwrap();
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
    socket.listen(4096).unwrap();
    let listener = TcpListener::from(socket);
    say_port(listener.local_addr().unwrap());
    listener
}

/// The kernel copies fastest to the beginning of a cache line.
#[repr(align(64))]
struct Input([u8; 65536]);

const LISTENER: u64 = u64::MAX;

/// Edge-triggered; one read and one write for each message.
fn raw_epoll(listener: TcpListener, rewrite: impl Fn(&mut [u8])) {
    listener.set_nonblocking(true).unwrap();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let data = epoll::EventData::new_u64(LISTENER);
    epoll::add(&epoll, &listener, data, epoll::EventFlags::IN).unwrap();
    let mut streams = Slab::new();
    let mut input = Box::new(Input([0; 65536]));
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None).unwrap();
        for event in &events {
            let data = event.data.u64();
            if data == LISTENER {
                while let Some(stream) = accept(&listener, SocketFlags::NONBLOCK) {
                    let slot = streams.vacant_entry();
                    let data = epoll::EventData::new_u64(slot.key() as u64);
                    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
                    epoll::add(&epoll, &stream, data, flags).unwrap();
                    slot.insert(stream);
                }
            } else if !answer_once(&mut &streams[data as usize], &mut input.0, &rewrite) {
                streams.remove(data as usize);
            }
        }
    }
}

fn accept(listener: &TcpListener, flags: SocketFlags) -> Option<TcpStream> {
    let accepted = accept_with(listener, flags | SocketFlags::CLOEXEC);
    accepted.ok().map(TcpStream::from)
}

/// False when the connection is over.
fn answer_once(stream: &mut &TcpStream, input: &mut [u8], rewrite: &impl Fn(&mut [u8])) -> bool {
    match stream.read(input) {
        Ok(count) if count > 0 => {
            rewrite(&mut input[..count]);
            stream.write(&input[..count]).is_ok_and(|written| written == count)
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
        Ok(_) => false,
    }
}

/// The array of poll(2) is made again only when a connection comes or goes.
fn raw_poll() {
    let listener = listen();
    listener.set_nonblocking(true).unwrap();
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut input = Box::new(Input([0; 65536]));
    loop {
        let mut polled = vec![PollFd::new(&listener, PollFlags::IN)];
        polled.extend(streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)));
        let mut over = None;
        while over.is_none() && polled[0].revents().is_empty() {
            poll(&mut polled, None).unwrap();
            for (index, (mut stream, polled)) in streams.iter().zip(&polled[1..]).enumerate() {
                if !polled.revents().is_empty()
                    && !answer_once(&mut stream, &mut input.0, &|_: &mut [u8]| {})
                {
                    over = Some(index);
                }
            }
        }
        drop(polled);
        if let Some(index) = over {
            streams.swap_remove(index);
        }
        while let Some(stream) = accept(&listener, SocketFlags::NONBLOCK) {
            streams.push(stream);
        }
    }
}

/// A thread for each connection, with what `std` has.
fn std_threads() {
    let listener = listen();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        thread::spawn(move || {
            let mut input = Box::new(Input([0; 65536]));
            while answer_once(&mut &stream, &mut input.0, &|_: &mut [u8]| {}) {}
        });
    }
}

fn std_udp() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    say_port(socket.local_addr().unwrap());
    let mut input = Box::new(Input([0; 65536]));
    loop {
        let (count, peer) = socket.recv_from(&mut input.0).unwrap();
        socket.send_to(&input.0[..count], peer).unwrap();
    }
}

/// As tokio's own examples have it: a task for each connection, with a buffer of its own.
fn tokio_streams(rewrite: impl Fn(&mut [u8]) + Copy + Send + 'static) {
    let listener = listen();
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                // Room that is not cleared first, and not touched beyond what comes.
                let mut input = Vec::with_capacity(65536);
                while let Ok(1..) = stream.read_buf(&mut input).await {
                    rewrite(&mut input);
                    if stream.write_all(&input).await.is_err() {
                        return;
                    }
                    input.clear();
                }
            });
        }
    });
}
