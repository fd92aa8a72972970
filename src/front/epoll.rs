//! Waiting with epoll, by mio: edge-triggered, each stream registered once for what comes.
//!
//! A state is reported when it begins, so nothing is ever switched off: a connection costs one
//! epoll_ctl in its life, since closing the descriptor is what takes it out, and a second one if a
//! send ever finds no room. The price is that the loop must go on by itself where it stopped
//! halfway; `readiness.rs` keeps the list.
//!
//! The deadline is kept by a timerfd in the set that is armed only when the nearest deadline comes
//! nearer. A timeout in each wait would have the kernel arm and cancel a timer in each, which is
//! over a percent of what a short connection costs.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Poll};
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
use crate::sys::TimerFd;

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
    let kernel = Epoll::new(front.origin, listeners, udp, front.stop, queue.as_deref())?;
    Readiness::<_, _>::new(front, kernel, &counters)
        .with_queue(queue.clone(), 0)
        .with_local(local)
        .named("epoll")
        .with_datagrams(handlers)
        .run()
}

pub(crate) struct Epoll {
    poll: Poll,
    acceptor: Acceptor,
    datagram_sockets: Vec<UdpSocket>,
    timer: TimerFd,
    /// When the timer fires; `NEVER` when it is not armed. Whoever asks the clock finds out that it
    /// has fired, and the loop asks after each wait: a look at the clock for this alone was 80
    /// instructions in each turn.
    armed: Cell<Moment>,
    origin: Instant,
}

/// Room to send is there from the beginning, and would be reported of each connection as soon as it
/// is registered: an event for nothing, and a tenth of a wait more for each short connection.
const WHAT_COMES: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// A generation that no connection has.
const RESERVED: u32 = u32::MAX;
const STOP: Token = Token { slot: u32::MAX, generation: RESERVED };
const TIMER: Token = Token { slot: u32::MAX - 1, generation: RESERVED };
const MAILBOX: Token = Token { slot: u32::MAX - 2, generation: RESERVED };

/// UDP sockets stand above the listeners, both far below the tokens of the loop itself.
const FIRST_DATAGRAMS: u32 = 1 << 31;

fn listener_token(listener: usize) -> Token {
    Token { slot: listener as u32, generation: RESERVED }
}

fn datagrams_token(socket: usize) -> Token {
    Token { slot: FIRST_DATAGRAMS + socket as u32, generation: RESERVED }
}

impl Epoll {
    /// Events taken out of the kernel at once; what is left comes with the next wait.
    const BATCH: usize = 1024;

    pub(crate) fn new(
        origin: Instant,
        listeners: Vec<Socket>,
        datagram_sockets: Vec<UdpSocket>,
        stop: &Stop,
        queue: Option<&Queue<SocketStream>>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let acceptor = Acceptor::new(listeners)?;
        for (index, listener) in acceptor.listeners.iter().enumerate() {
            let token = mio::Token(listener_token(index).to_usize());
            let descriptor = listener.as_raw_fd();
            poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
        }
        for (index, socket) in datagram_sockets.iter().enumerate() {
            let token = mio::Token(datagrams_token(index).to_usize());
            // Not for writing: the kernel would report each datagram that has left.
            let descriptor = socket.as_raw_fd();
            poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
        }
        // None of these is ever read: each write to one makes an event, and that is all they say.
        let timer = TimerFd::new()?;
        let mut watched = vec![
            (stop.next_phase_fd(Phase::Serving), STOP),
            (stop.next_phase_fd(Phase::Draining), STOP),
            (timer.as_fd(), TIMER),
        ];
        watched.extend(queue.map(|queue| (queue.descriptor.as_fd(), MAILBOX)));
        for (descriptor, token) in watched {
            let token = mio::Token(token.to_usize());
            let mut source = SourceFd(&descriptor.as_raw_fd());
            poll.registry().register(&mut source, token, Interest::READABLE)?;
        }
        let armed = Cell::new(Moment::NEVER);
        Ok(Self { poll, acceptor, datagram_sockets, timer, armed, origin })
    }

    /// The timeout for a wait until `until`: none when the timer sees to it.
    fn timeout(&mut self, until: Moment) -> io::Result<Option<Duration>> {
        if until >= self.armed.get() {
            return Ok(None);
        }
        let left = until.since(self.now());
        if !left.is_zero() {
            self.timer.arm(left)?;
            self.armed.set(until);
            return Ok(None);
        }
        Ok(Some(Duration::ZERO))
    }
}

impl AsFd for Epoll {
    /// Readable when there is an event: an epoll set can stand in another one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

impl Kernel for Epoll {
    type Stream = SocketStream;
    type Events = mio::Events;

    const EDGE: bool = true;

    fn events(&self) -> mio::Events {
        mio::Events::with_capacity(Self::BATCH)
    }

    fn now(&self) -> Moment {
        let now = Moment::from_nanos(self.origin.elapsed().as_nanos() as u64);
        if self.armed.get() <= now {
            self.armed.set(Moment::NEVER);
        }
        now
    }

    fn wait(&mut self, events: &mut mio::Events, until: Moment, _: Phase) -> io::Result<()> {
        let timeout = self.timeout(until)?;
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    #[inline]
    fn ready(events: &mio::Events) -> impl Iterator<Item = Ready> {
        events.iter().filter_map(|event| {
            let token = Token::from_usize(event.token().0);
            if token.generation != RESERVED {
                let end = event.is_read_closed() || event.is_error() || event.is_priority();
                let hung_up = end && event.is_write_closed();
                return Some(Ready::Stream { token, receive: event.is_readable(), end, hung_up });
            }
            match token {
                STOP | TIMER | MAILBOX => None,
                Token { slot: FIRST_DATAGRAMS.., .. } => {
                    Some(Ready::Datagrams((token.slot - FIRST_DATAGRAMS) as usize))
                }
                _ => Some(Ready::Listener(token.slot as usize)),
            }
        })
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

    fn listen(&mut self, _: usize, _: bool) {}

    fn refuse_one(&mut self, listener: usize) -> bool {
        self.acceptor.refuse_one(listener)
    }

    fn close_listeners(&mut self) {
        for listener in self.acceptor.listeners.drain(..) {
            // A listener may be shared with another process: dropped only, it would go on
            // reporting its clients here.
            let _ = self.poll.registry().deregister(&mut SourceFd(&listener.as_raw_fd()));
        }
    }

    fn datagram_socket(&self, socket: usize) -> Option<impl DatagramSocket> {
        self.datagram_sockets.get(socket)
    }

    fn report_datagrams(&self, socket: usize, report: bool) -> io::Result<()> {
        let Some(udp) = self.datagram_sockets.get(socket) else { return Ok(()) };
        let (descriptor, registry) = (udp.as_raw_fd(), self.poll.registry());
        let mut source = SourceFd(&descriptor);
        if !report {
            return registry.deregister(&mut source);
        }
        let token = mio::Token(datagrams_token(socket).to_usize());
        registry.register(&mut source, token, Interest::READABLE)
    }

    fn close_datagram_sockets(&mut self) {
        for socket in self.datagram_sockets.drain(..) {
            // As for a listener. One that is flooded is not in the set.
            let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
    }

    fn register(&mut self, stream: &SocketStream, token: Token) -> io::Result<()> {
        let descriptor = stream.as_fd().as_raw_fd();
        let token = mio::Token(token.to_usize());
        self.poll.registry().register(&mut SourceFd(&descriptor), token, WHAT_COMES)
    }

    fn report_room(&mut self, stream: &SocketStream, token: Token) -> io::Result<()> {
        let descriptor = stream.as_fd().as_raw_fd();
        let token = mio::Token(token.to_usize());
        let everything = WHAT_COMES | Interest::WRITABLE;
        self.poll.registry().reregister(&mut SourceFd(&descriptor), token, everything)
    }

    #[inline(always)]
    fn interest(&mut self, _: Token, _: Wants) {}

    fn mute(&mut self, _: Token) {}

    fn release(&mut self, stream: SocketStream, _: Token, cut: bool) {
        if cut {
            stream.cut();
        }
    }

    fn refuse(&mut self, stream: SocketStream, scratch: &mut [u8]) {
        stream.refuse(scratch);
    }
}
