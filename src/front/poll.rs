//! Waiting with poll(2): level-triggered, with interest switched on and off as in the slides.
//!
//! ```text
//!   fds:     | stop | mailbox | listener ... | UDP socket ... | stream | stream ...
//!   tokens:                                                   | token  | token  ...
//! ```
//!
//! The kernel is handed the whole array in each wait and looks at every entry: that is the O(n)
//! that epoll was made to avoid. What it reports it reports again and again until the state has
//! gone, so a stream that is not to be read from must not be asked for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::connection::Wants;
use crate::front::readiness::Readiness;
use crate::front::{Front, Sockets};
use crate::handler::{PeerAddress, Service};
use crate::kernel::{Kernel, Ready, Token};
use crate::local::{Local, Target};
use crate::mailbox::Queue;
use crate::moment::Moment;
use crate::net::acceptor::Acceptor;
use crate::net::datagram::{DatagramSocket, UdpSocket};
use crate::net::stream::SocketStream;
use crate::stop::{Phase, Stop};
use crate::sys::{self, PollFd};

/// Serves until the server is stopped and the last connection is over.
pub(crate) fn run<S: Service>(front: &Front<'_, S>, sockets: Sockets) -> io::Result<()> {
    run_local(front, sockets, None)
}

/// The same, for handlers that ask their own loop for things.
pub(crate) fn run_local<S: Service>(
    front: &Front<'_, S>,
    sockets: Sockets,
    local: Option<&Local<S::Handler>>,
) -> io::Result<()> {
    let counters = front.totals.register();
    let queue = front.queue(0);
    let Sockets { listeners, datagrams } = sockets;
    let (udp, handlers) = datagrams.into_iter().unzip();
    let kernel = Poll::new(front.origin, listeners, udp, front.stop, queue.as_deref())?;
    Readiness::<_, _>::new(front, kernel, &counters)
        .with_queue(queue.clone(), 0)
        .with_local(local)
        .named("poll")
        .with_datagrams(handlers)
        .run()
}

struct Poll<'s> {
    acceptor: Acceptor,
    datagram_sockets: Vec<UdpSocket>,
    stop: &'s Stop,
    queue: Option<&'s Queue<SocketStream>>,
    fds: Vec<PollFd>,
    /// The token of each stream, in the order of `fds`.
    tokens: Vec<Token>,
    /// Where the stream of each slot stands in `tokens`.
    place: Vec<u32>,
    origin: Instant,
}

impl<'s> Poll<'s> {
    /// Where `fds` has what is not a socket; a negative descriptor is skipped.
    const STOP: usize = 0;
    const MAILBOX: usize = 1;
    const FIRST_LISTENER: usize = 2;

    fn new(
        origin: Instant,
        listeners: Vec<Socket>,
        datagram_sockets: Vec<UdpSocket>,
        stop: &'s Stop,
        queue: Option<&'s Queue<SocketStream>>,
    ) -> io::Result<Self> {
        let acceptor = Acceptor::new(listeners)?;
        let mailbox = queue.map_or(-1, |queue| queue.descriptor.as_fd().as_raw_fd());
        let fds = [-1, mailbox]
            .into_iter()
            .chain(acceptor.listeners.iter().map(AsRawFd::as_raw_fd))
            .chain(datagram_sockets.iter().map(AsRawFd::as_raw_fd))
            .map(|fd| PollFd { fd, events: libc::POLLIN, revents: 0 })
            .collect();
        let (tokens, place) = (Vec::new(), Vec::new());
        Ok(Self { acceptor, datagram_sockets, stop, queue, fds, tokens, place, origin })
    }

    /// Where the streams begin in `fds`.
    fn first_stream(&self) -> usize {
        self.fds.len() - self.tokens.len()
    }

    fn entry(&mut self, token: Token) -> &mut PollFd {
        let index = self.first_stream() + self.place[token.slot as usize] as usize;
        &mut self.fds[index]
    }
}

impl Kernel for Poll<'_> {
    type Stream = SocketStream;
    type Events = Vec<Ready>;

    const EDGE: bool = false;

    fn events(&self) -> Vec<Ready> {
        Vec::new()
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(self.origin.elapsed().as_nanos() as u64)
    }

    fn wait(&mut self, events: &mut Vec<Ready>, until: Moment, seen: Phase) -> io::Result<()> {
        events.clear();
        // Each phase's descriptor stays readable: waiting for one that was seen would spin.
        self.fds[Self::STOP].fd =
            if seen == Phase::Stopped { -1 } else { self.stop.next_phase_fd(seen).as_raw_fd() };
        let timeout = match until {
            Moment::NEVER => None,
            Moment::START => Some(Duration::ZERO),
            until => Some(until.since(self.now())),
        };
        let mut found = match sys::poll(&mut self.fds, timeout) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        };
        let first = self.first_stream();
        let first_datagrams = first - self.datagram_sockets.len();
        for (index, entry) in self.fds.iter().enumerate() {
            if found == 0 {
                break;
            }
            if entry.revents == 0 {
                continue;
            }
            found -= 1;
            if index >= first {
                let broken = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
                events.push(Ready::Stream {
                    token: self.tokens[index - first],
                    receive: entry.revents & (libc::POLLIN | broken) != 0,
                    end: false,
                    hung_up: entry.revents & broken != 0,
                });
            } else if index >= first_datagrams {
                events.push(Ready::Datagrams(index - first_datagrams));
            } else if index >= Self::FIRST_LISTENER {
                events.push(Ready::Listener(index - Self::FIRST_LISTENER));
            } else if index == Self::MAILBOX
                && let Some(queue) = self.queue
            {
                queue.descriptor.clear();
            }
        }
        Ok(())
    }

    #[inline]
    fn ready(events: &Vec<Ready>) -> impl Iterator<Item = Ready> {
        events.iter().copied()
    }

    fn listeners(&self) -> usize {
        self.acceptor.listeners.len()
    }

    fn accept(&mut self, listener: usize) -> io::Result<(SocketStream, PeerAddress)> {
        self.acceptor.accept(listener)
    }

    fn connect(&mut self, target: &Target, source: Option<SocketAddr>) -> io::Result<SocketStream> {
        SocketStream::connect(target, source)
    }

    fn listen(&mut self, listener: usize, interest: bool) {
        self.fds[Self::FIRST_LISTENER + listener].events = if interest { libc::POLLIN } else { 0 };
    }

    fn refuse_one(&mut self, listener: usize) -> bool {
        self.acceptor.refuse_one(listener)
    }

    fn close_listeners(&mut self) {
        let listeners = Self::FIRST_LISTENER..self.first_stream();
        self.fds.drain(listeners);
        self.acceptor.listeners.clear();
    }

    fn datagram_socket(&self, socket: usize) -> Option<impl DatagramSocket> {
        self.datagram_sockets.get(socket)
    }

    fn close_datagram_sockets(&mut self) {
        let first_stream = self.first_stream();
        self.fds.drain(first_stream - self.datagram_sockets.len()..first_stream);
        self.datagram_sockets.clear();
    }

    fn register(&mut self, stream: &SocketStream, token: Token) -> io::Result<()> {
        let slot = token.slot as usize;
        if self.place.len() <= slot {
            self.place.resize(slot + 1, u32::MAX);
        }
        self.place[slot] = self.tokens.len() as u32;
        self.tokens.push(token);
        let fd = stream.as_fd().as_raw_fd();
        self.fds.push(PollFd { fd, events: libc::POLLIN, revents: 0 });
        Ok(())
    }

    fn interest(&mut self, token: Token, wants: Wants) {
        let receive = if wants.receive { libc::POLLIN } else { 0 };
        let send = if wants.send { libc::POLLOUT } else { 0 };
        let entry = self.entry(token);
        entry.events = receive | send;
        if entry.fd < 0 {
            entry.fd = !entry.fd;
        }
    }

    fn report_room(&mut self, _: &SocketStream, _: Token) -> io::Result<()> {
        Ok(())
    }

    /// The kernel skips a negative descriptor.
    fn mute(&mut self, token: Token) {
        let entry = self.entry(token);
        if entry.fd >= 0 {
            entry.fd = !entry.fd;
        }
    }

    fn release(&mut self, stream: SocketStream, token: Token, cut: bool) {
        let first = self.first_stream();
        let place = self.place[token.slot as usize];
        self.tokens.swap_remove(place as usize);
        self.fds.swap_remove(first + place as usize);
        if let Some(moved) = self.tokens.get(place as usize) {
            self.place[moved.slot as usize] = place;
        }
        if cut {
            stream.cut();
        }
    }

    fn refuse(&mut self, stream: SocketStream, scratch: &mut [u8]) {
        stream.refuse(scratch);
    }
}
