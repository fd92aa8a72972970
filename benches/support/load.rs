//! A closed loop over many connections: each sends, waits for the whole answer, compares it, and
//! sends again. One thread, epoll, nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::fd::OwnedFd;
use socket2::SockRef;

pub(crate) struct Load {
    epoll: OwnedFd,
    clients: Vec<Client>,
    request: Vec<u8>,
    answer: Vec<u8>,
    scratch: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// Bytes of the answer that have come.
    come: usize,
}

/// A server that says nothing for so long has lost a message.
const SILENCE: Duration = Duration::from_secs(20);

impl Load {
    /// So many connections; the server answers `request` with `answer`.
    pub(crate) fn connect(
        address: SocketAddr,
        connections: usize,
        request: Vec<u8>,
        answer: Vec<u8>,
    ) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let clients: Vec<_> = (0..connections)
            .map(|index| Client { stream: connect(address, index), come: 0 })
            .collect();
        for (index, client) in clients.iter().enumerate() {
            client.stream.set_nonblocking(true).unwrap();
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &client.stream, data, flags).unwrap();
        }
        Self { epoll, clients, request, answer, scratch: vec![0; 65536] }
    }

    /// Goes round until `end`, and then until each has its answer. How many there were.
    pub(crate) fn run_until(&mut self, end: Instant) -> u64 {
        let Self { epoll, clients, request, answer, scratch } = self;
        for client in clients.iter_mut() {
            client.send(request);
        }
        let (mut answered, mut done) = (0, 0);
        let mut events = Vec::with_capacity(1024);
        while done < clients.len() {
            events.clear();
            let silence = SILENCE.try_into().unwrap();
            let count = epoll::wait(&*epoll, spare_capacity(&mut events), Some(&silence)).unwrap();
            assert!(count > 0, "the server says nothing");
            let goes_on = Instant::now() < end;
            for event in &events {
                let client = &mut clients[event.data.u64() as usize];
                if client.receive(answer, scratch) {
                    answered += 1;
                    if goes_on {
                        client.send(request);
                    } else {
                        done += 1;
                    }
                }
            }
        }
        answered
    }
}

impl Drop for Load {
    /// With a reset: nobody is left in TIME_WAIT, of whom the next round would need the port.
    fn drop(&mut self) {
        for client in &self.clients {
            let _ = SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Client {
    fn send(&mut self, request: &[u8]) {
        self.come = 0;
        let mut rest = request;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut room = [PollFd::new(&self.stream, PollFlags::OUT)];
                    poll(&mut room, None).unwrap();
                }
                Err(error) => panic!("the server does not take a request: {error}"),
            }
        }
    }

    /// Takes what has come; true when the answer is whole.
    fn receive(&mut self, answer: &[u8], scratch: &mut [u8]) -> bool {
        match self.stream.read(scratch) {
            Ok(0) => panic!("the server has closed a connection"),
            Ok(count) => {
                let expected = answer.get(self.come..self.come + count);
                assert_eq!(expected, Some(&scratch[..count]), "a wrong answer");
                self.come += count;
                self.come == answer.len()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("the server has cut a connection: {error}"),
        }
    }
}

/// Connects, makes one request, and closes: again and again, `at_once` at the same time. How many
/// there were.
pub(crate) fn connect_until(
    address: SocketAddr,
    at_once: usize,
    request: &[u8],
    end: Instant,
) -> u64 {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut clients: Vec<TcpStream> = Vec::new();
    let begin = |index: usize, turn: u64| {
        let mut stream = connect(address, turn as usize);
        stream.write_all(request).unwrap();
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).unwrap();
        stream
    };
    let mut begun = 0;
    for index in 0..at_once {
        clients.push(begin(index, begun));
        begun += 1;
    }
    let mut answered = 0;
    let mut scratch = vec![0; 65536];
    let mut events = Vec::with_capacity(1024);
    while answered < begun {
        events.clear();
        let silence = SILENCE.try_into().unwrap();
        let count = epoll::wait(&epoll, spare_capacity(&mut events), Some(&silence)).unwrap();
        assert!(count > 0, "the server says nothing");
        let goes_on = Instant::now() < end;
        for event in &events {
            let index = event.data.u64() as usize;
            let mut stream = &clients[index];
            let count = stream.read(&mut scratch).unwrap();
            assert_eq!(&scratch[..count], request, "a wrong answer");
            answered += 1;
            if goes_on {
                // The old one is closed as the new one takes its place.
                clients[index] = begin(index, begun);
                begun += 1;
            } else {
                epoll::delete(&epoll, stream).unwrap();
            }
        }
    }
    answered
}

/// To one of many addresses of the same server, so that ports in TIME_WAIT are no limit.
fn connect(address: SocketAddr, turn: usize) -> TcpStream {
    let host = Ipv4Addr::new(127, 0, 1 + (turn / 250 % 250) as u8, 1 + (turn % 250) as u8);
    let stream = TcpStream::connect((host, address.port())).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
