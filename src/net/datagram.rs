//! UDP sockets, and how their datagrams are answered.
//!
//! Whatever happens to one datagram, the next one is served: what is too long, truncated, cannot be
//! sent or makes the handler panic is dropped and counted by its cause.

use std::io;
use std::iter;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use log::debug;
use socket2::{Domain, Protocol, Socket, Type};

use crate::counters::Counters;
use crate::datagram::{Datagram, DatagramHandler, Reply};
use crate::sys::{self, BATCH, Envelope};

/// What serving datagrams needs of a socket.
pub(crate) trait DatagramSocket {
    /// Whether it is to be asked for several datagrams even where one is expected, since only then
    /// it says to which address it came.
    fn names_destinations(&self) -> bool;

    /// As recvmmsg(2), with [`STRIDE`] bytes of `storage` for each.
    fn receive(
        &self,
        storage: &mut [u8],
        envelopes: &mut [Envelope],
        wait: bool,
    ) -> io::Result<usize>;

    /// As sendmmsg(2) that does not wait.
    fn send<'r>(
        &self,
        replies: impl ExactSizeIterator<Item = (&'r [u8], &'r Envelope)>,
    ) -> io::Result<usize>;

    /// How many datagrams the kernel threw away, so far.
    fn lost(&self) -> u32;
}

/// A bound UDP socket.
pub(crate) struct UdpSocket {
    socket: Socket,
    /// It has more than one address, and the kernel says which one was asked.
    names_destinations: bool,
}

impl UdpSocket {
    /// A socket at `address`. `[::]` is IPv6 only, whatever the system's default is: who wants both
    /// names both.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // No SO_REUSEADDR: for UDP it lets another program take the port, and the datagrams.
        let names_destinations = address.ip().is_unspecified();
        if names_destinations {
            // A client that asked one of our addresses does not take an answer from another.
            sys::name_destinations(socket.as_fd(), address.is_ipv6())?;
        }
        socket.bind(&address.into())?;
        Ok(Self { socket, names_destinations })
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        let no_address = || io::Error::other("the socket has no IP address");
        self.socket.local_addr()?.as_socket().ok_or_else(no_address)
    }

    /// How long a receive waits that is to wait.
    pub(crate) fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(time))
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl DatagramSocket for &UdpSocket {
    fn names_destinations(&self) -> bool {
        self.names_destinations
    }

    fn receive(
        &self,
        storage: &mut [u8],
        envelopes: &mut [Envelope],
        wait: bool,
    ) -> io::Result<usize> {
        sys::receive_datagrams(self.as_fd(), storage, STRIDE, envelopes, wait)
    }

    fn send<'r>(
        &self,
        replies: impl ExactSizeIterator<Item = (&'r [u8], &'r Envelope)>,
    ) -> io::Result<usize> {
        sys::send_datagrams(self.as_fd(), replies)
    }

    fn lost(&self) -> u32 {
        sys::lost_datagrams(self.as_fd()).unwrap_or(0)
    }
}

// ── answering ────────────────────────────────────────────────────────────────────────────────

/// A handler as a server keeps it. One virtual call a datagram is nothing beside its system calls,
/// and a server's type does not depend on what it does with datagrams.
pub(crate) type BoxedHandler = Box<dyn DatagramHandler + Send>;

/// The room for one datagram: more than any has, so that none is truncated.
pub(crate) const STRIDE: usize = 65536;

/// What one thread needs to serve datagrams: room for a batch of them. Their answers stand in the
/// same places.
pub(crate) struct Batch {
    storage: Vec<u8>,
    envelopes: Vec<Envelope>,
    /// The answers to send: where they stand in `storage`, and whose they are.
    replies: Vec<(Range<usize>, usize)>,
    /// What a handler appends.
    output: Vec<u8>,
}

impl Batch {
    /// An output that one answer made larger than this is given back.
    const KEEP_OUTPUT: usize = 1 << 20;

    pub(crate) fn new() -> Self {
        Self {
            // Zeroed memory is there only once it is written to: small datagrams take a page each.
            storage: vec![0; STRIDE * BATCH],
            envelopes: iter::repeat_with(Envelope::new).take(BATCH).collect(),
            replies: Vec::with_capacity(BATCH),
            output: Vec::new(),
        }
    }
}

/// One socket's protocol.
pub(crate) struct Responder {
    handler: BoxedHandler,
    /// How many lost datagrams of its socket are counted already ...
    lost: u32,
    /// ... and how many were received since.
    received: usize,
}

/// How far serving a socket came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Nothing more has come.
    Dry,
    /// There may be more.
    More,
}

impl Responder {
    /// Receives that fail in a row before an event is waited for. Each takes one error off the
    /// socket; one that stays must not be asked for in a loop.
    const FAILURES: u32 = 16;
    /// Turns when the server drains: 18,432 datagrams are more than a receive buffer holds, unless
    /// it was made very large. Peers that send for ever are not waited for.
    const LAST_TURNS: u32 = 1024;

    /// How many datagrams come until the kernel is asked again how many it has lost.
    const COUNTED_TOGETHER: usize = 32;

    pub(crate) fn new(handler: BoxedHandler) -> Self {
        Self { handler, lost: 0, received: 0 }
    }

    /// Answers what has come, at most 18 datagrams.
    ///
    /// Two go one by one, which is cheapest as long as each peer waits for its answer. If there is
    /// a third then, there will be many, and a batch is cheaper. If a whole one came, there will be
    /// more than it: `when_flooded` is told before it is answered.
    pub(crate) fn serve(
        &mut self,
        socket: &impl DatagramSocket,
        batch: &mut Batch,
        counters: &Counters,
        when_flooded: impl FnOnce(),
    ) -> Served {
        let asks: &[usize] = if socket.names_destinations() { &[2] } else { &[1, 1] };
        if self.serve_batches(socket, batch, counters, asks) == Served::Dry {
            return Served::Dry;
        }
        let received = receive(socket, batch, counters, BATCH, false);
        let is_whole = received == BATCH;
        if is_whole {
            when_flooded();
        }
        self.answer_batch(socket, batch, counters, received);
        if is_whole { Served::More } else { Served::Dry }
    }

    /// The same where so many came that there will be more: at most 32.
    pub(crate) fn serve_flood(
        &mut self,
        socket: &impl DatagramSocket,
        batch: &mut Batch,
        counters: &Counters,
    ) -> Served {
        self.serve_batches(socket, batch, counters, &[BATCH, BATCH])
    }

    fn serve_batches(
        &mut self,
        socket: &impl DatagramSocket,
        batch: &mut Batch,
        counters: &Counters,
        asks: &[usize],
    ) -> Served {
        for ask in asks {
            if self.serve_batch(socket, batch, counters, *ask, false) < *ask {
                return Served::Dry;
            }
        }
        Served::More
    }

    /// Waits for datagrams, as long as the socket's timeout says, and answers them; `Dry` when none
    /// came.
    pub(crate) fn wait_and_serve(
        &mut self,
        socket: &impl DatagramSocket,
        batch: &mut Batch,
        counters: &Counters,
    ) -> Served {
        let ask = if socket.names_destinations() { BATCH } else { 1 };
        match self.serve_batch(socket, batch, counters, ask, true) {
            0 => Served::Dry,
            _ => Served::More,
        }
    }

    /// Answers what has come once more, before the socket is closed.
    pub(crate) fn drain(
        &mut self,
        socket: &impl DatagramSocket,
        batch: &mut Batch,
        counters: &Counters,
    ) {
        for _ in 0..Self::LAST_TURNS {
            if self.serve(socket, batch, counters, || ()) == Served::Dry {
                break;
            }
        }
        self.count_lost(socket, counters);
    }

    /// Brings the number of lost datagrams up to date.
    fn count_lost(&mut self, socket: &impl DatagramSocket, counters: &Counters) {
        let lost = socket.lost();
        counters.datagrams_lost.add(lost.wrapping_sub(self.lost).into());
        (self.lost, self.received) = (lost, 0);
    }

    /// Receives at most `ask` datagrams and answers them; how many came.
    fn serve_batch(
        &mut self,
        socket: &impl DatagramSocket,
        batch: &mut Batch,
        counters: &Counters,
        ask: usize,
        wait: bool,
    ) -> usize {
        let received = receive(socket, batch, counters, ask, wait);
        self.answer_batch(socket, batch, counters, received);
        received
    }

    /// Answers the `received` datagrams of `batch`.
    fn answer_batch(
        &mut self,
        socket: &impl DatagramSocket,
        batch: &mut Batch,
        counters: &Counters,
        received: usize,
    ) {
        batch.replies.clear();
        let mut next = 0;
        while next < received {
            // One catch for the batch costs nothing; one for each call would cost more than the
            // rest of what is done here.
            let handled = panic::catch_unwind(AssertUnwindSafe(|| {
                while next < received {
                    next += 1;
                    self.answer(batch, next - 1, counters);
                }
            }));
            if handled.is_err() {
                counters.datagrams_panicked.increment();
            }
        }
        send(socket, batch, counters);
        self.received += received;
        if self.received >= Self::COUNTED_TOGETHER {
            self.count_lost(socket, counters);
        }
    }

    /// Has the handler answer the datagram in `place`.
    fn answer(&mut self, batch: &mut Batch, place: usize, counters: &Counters) {
        let Batch { storage, envelopes, replies, output } = batch;
        let envelope = &envelopes[place];
        counters.datagrams_received.increment();
        counters.bytes_received.add(envelope.length() as u64);
        if envelope.is_truncated() {
            counters.datagrams_truncated.increment();
            return;
        }
        // Every datagram on an IP socket has a source; one without could not be answered.
        let Some(from) = envelope.from() else { return };
        let room = &mut storage[place * STRIDE..][..STRIDE];
        let mut datagram = Datagram::new(from, &mut room[..envelope.length()], output);
        if self.handler.receive(&mut datagram) == Reply::Nothing {
            return;
        }
        let in_place = datagram.received.answered();
        let length = in_place.len() + output.len();
        if length > Datagram::LONGEST {
            debug!("the answer of {length} bytes to {from} is longer than a datagram");
            counters.datagrams_too_long.increment();
        } else {
            let reply = if output.is_empty() {
                in_place
            } else {
                let appended = in_place.len();
                room.copy_within(in_place, 0);
                room[appended..length].copy_from_slice(output);
                0..length
            };
            let start = place * STRIDE;
            replies.push((start + reply.start..start + reply.end, place));
        }
        if output.capacity() > Batch::KEEP_OUTPUT {
            *output = Vec::new();
        }
    }
}

/// Receives at most `ask` datagrams; how many came.
fn receive(
    socket: &impl DatagramSocket,
    batch: &mut Batch,
    counters: &Counters,
    ask: usize,
    wait: bool,
) -> usize {
    let envelopes = &mut batch.envelopes[..ask];
    for _ in 0..Responder::FAILURES {
        counters.receives.increment();
        match socket.receive(&mut batch.storage, envelopes, wait) {
            Ok(received) => return received,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    counters.would_blocks.increment();
                    return 0;
                }
                io::ErrorKind::Interrupted => counters.interrupts.increment(),
                // An answer that met no one may come back as an error of the next call.
                _ => debug!("cannot receive a datagram: {error}"),
            },
        }
    }
    0
}

/// Sends the answers of a batch. One that cannot be sent is dropped: its peer asks again or does
/// not, and the others must not wait.
fn send(socket: &impl DatagramSocket, batch: &Batch, counters: &Counters) {
    let mut rest = &batch.replies[..];
    while let Some((first, place)) = rest.first() {
        counters.sends.increment();
        let replies = rest
            .iter()
            .map(|(range, place)| (&batch.storage[range.clone()], &batch.envelopes[*place]));
        match socket.send(replies) {
            Ok(sent) => {
                debug_assert!(sent > 0, "a call that sent nothing must say why");
                let (done, left) = rest.split_at(sent);
                let bytes: usize = done.iter().map(|(range, _)| range.len()).sum();
                counters.datagrams_sent.add(sent as u64);
                counters.bytes_sent.add(bytes as u64);
                rest = left;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                counters.interrupts.increment();
            }
            Err(error) => {
                let to = batch.envelopes[*place].from();
                debug!("cannot send {} bytes to {to:?}: {error}", first.len());
                counters.datagrams_unsent.increment();
                rest = &rest[1..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    use super::*;
    use crate::services::datagrams::{echo, greeting, upper};

    /// A socket whose calls come to what a test says.
    #[derive(Default)]
    struct Scripted {
        names_destinations: bool,
        /// What each receive comes to: datagrams, or an error. Then WouldBlock.
        arrivals: RefCell<VecDeque<Result<Vec<Arrival>, i32>>>,
        /// What the next sends come to: how many are taken, or an error. Then all are.
        sends: RefCell<VecDeque<Result<usize, i32>>>,
        sent: RefCell<Vec<(Vec<u8>, u16)>>,
        lost: Cell<u32>,
    }

    #[derive(Clone)]
    struct Arrival {
        bytes: Vec<u8>,
        port: u16,
        truncated: bool,
    }

    fn arrival(bytes: impl AsRef<[u8]>, port: u16) -> Arrival {
        Arrival { bytes: bytes.as_ref().to_vec(), port, truncated: false }
    }

    impl Scripted {
        /// One that is asked for several at once.
        fn with(arrivals: impl IntoIterator<Item = Result<Vec<Arrival>, i32>>) -> Self {
            let arrivals = RefCell::new(arrivals.into_iter().collect());
            Self { names_destinations: true, arrivals, ..Self::default() }
        }

        fn sends(self, sends: impl IntoIterator<Item = Result<usize, i32>>) -> Self {
            *self.sends.borrow_mut() = sends.into_iter().collect();
            self
        }
    }

    impl DatagramSocket for Scripted {
        fn names_destinations(&self) -> bool {
            self.names_destinations
        }

        fn receive(
            &self,
            storage: &mut [u8],
            envelopes: &mut [Envelope],
            _: bool,
        ) -> io::Result<usize> {
            let next = self.arrivals.borrow_mut().pop_front().unwrap_or(Err(libc::EAGAIN));
            let arrivals = next.map_err(io::Error::from_raw_os_error)?;
            assert!(arrivals.len() <= envelopes.len(), "the script does not fit what is asked");
            let places = storage.chunks_mut(STRIDE).zip(envelopes);
            for ((room, envelope), Arrival { bytes, port, truncated }) in places.zip(&arrivals) {
                room[..bytes.len()].copy_from_slice(bytes);
                envelope.write(([192, 0, 2, 1], *port).into(), bytes.len(), *truncated);
            }
            Ok(arrivals.len())
        }

        fn send<'r>(
            &self,
            replies: impl ExactSizeIterator<Item = (&'r [u8], &'r Envelope)>,
        ) -> io::Result<usize> {
            let next = self.sends.borrow_mut().pop_front().unwrap_or(Ok(usize::MAX));
            let taken = next.map_err(io::Error::from_raw_os_error)?.min(replies.len());
            let replies = replies.take(taken).map(|(bytes, envelope)| {
                (bytes.to_vec(), envelope.from().map_or(0, |from| from.port()))
            });
            self.sent.borrow_mut().extend(replies);
            Ok(taken)
        }

        fn lost(&self) -> u32 {
            self.lost.get()
        }
    }

    /// Serves a socket until it is dry, and returns what was sent.
    fn serve(
        socket: &Scripted,
        handler: impl DatagramHandler + Send + 'static,
        counters: &Counters,
    ) -> Vec<(Vec<u8>, u16)> {
        let mut responder = Responder::new(Box::new(handler));
        responder.drain(socket, &mut Batch::new(), counters);
        socket.sent.take()
    }

    fn counted(count: impl FnOnce(&Counters)) -> crate::Snapshot {
        let totals = crate::counters::Totals::new();
        count(&totals.register());
        totals.snapshot()
    }

    #[test]
    fn each_answer_goes_to_who_asked_in_place_or_appended() {
        let socket = Scripted::with([
            Ok(vec![arrival("abc", 1), arrival("aß", 2)]),
            Ok(vec![arrival("ŉ", 3)]),
        ]);
        let snapshot = counted(|counters| {
            let sent = serve(&socket, upper, counters);
            let expected = [("ABC", 1), ("ASS", 2), ("ʼN", 3)];
            assert_eq!(sent, expected.map(|(text, port)| (text.as_bytes().to_vec(), port)));
        });
        assert_eq!((snapshot.datagrams_received, snapshot.datagrams_sent), (3, 3));
        assert_eq!((snapshot.bytes_received, snapshot.bytes_sent), (3 + 3 + 2, 3 + 3 + 3));
        assert_eq!(snapshot.datagrams_dropped(), 0);
    }

    #[test]
    fn an_empty_datagram_is_one_and_so_is_an_empty_answer() {
        let socket = Scripted::with([Ok(vec![arrival("", 1)])]);
        let snapshot = counted(|counters| {
            assert_eq!(serve(&socket, echo, counters), [(vec![], 1)]);
        });
        assert_eq!((snapshot.datagrams_received, snapshot.datagrams_sent), (1, 1));
    }

    #[test]
    fn an_answer_of_the_longest_length_goes_out_and_a_longer_one_is_dropped() {
        for (length, sent, dropped) in [(65_507, 1, 0), (65_508, 0, 1), (300_000, 0, 1)] {
            let socket = Scripted::with([Ok(vec![arrival("x", 1)])]);
            let snapshot = counted(|counters| {
                let answers = serve(&socket, greeting(vec![b'y'; length]), counters);
                assert!(answers.iter().all(|(bytes, _)| bytes.len() == length));
            });
            assert_eq!((snapshot.datagrams_sent, snapshot.datagrams_too_long), (sent, dropped));
        }
    }

    #[test]
    fn a_truncated_datagram_is_not_answered() {
        let truncated = Arrival { truncated: true, ..arrival("half", 1) };
        let socket = Scripted::with([Ok(vec![truncated, arrival("whole", 2)])]);
        let snapshot = counted(|counters| {
            assert_eq!(serve(&socket, echo, counters), [(b"whole".to_vec(), 2)]);
        });
        assert_eq!((snapshot.datagrams_received, snapshot.datagrams_truncated), (2, 1));
    }

    #[test]
    fn whatever_sending_comes_to_the_next_datagram_is_answered() {
        use libc::{EAGAIN, ECONNREFUSED, EINVAL, EMSGSIZE, ENOBUFS, EPERM};
        for error in [ECONNREFUSED, EMSGSIZE, ENOBUFS, EPERM, EAGAIN, EINVAL] {
            let socket = Scripted::with([
                Ok(vec![arrival("a", 1), arrival("b", 2)]),
                Ok(vec![arrival("c", 3), arrival("d", 4)]),
            ])
            .sends([Ok(1), Err(error), Err(libc::EINTR)]);
            let snapshot = counted(|counters| {
                let sent = serve(&socket, echo, counters);
                let expected = [("a", 1), ("c", 3), ("d", 4)];
                assert_eq!(sent, expected.map(|(text, port)| (text.as_bytes().to_vec(), port)));
            });
            assert_eq!((snapshot.datagrams_sent, snapshot.datagrams_unsent), (3, 1));
            assert_eq!(snapshot.interrupts, 1);
        }
    }

    #[test]
    fn a_receive_that_fails_is_followed_by_the_next() {
        let socket = Scripted::with([
            Err(libc::ECONNREFUSED),
            Err(libc::EINTR),
            Ok(vec![arrival("a", 1), arrival("b", 2)]),
            Err(libc::EHOSTUNREACH),
            Ok(vec![arrival("c", 3)]),
        ]);
        let snapshot = counted(|counters| {
            assert_eq!(serve(&socket, echo, counters).len(), 3);
        });
        assert_eq!((snapshot.datagrams_received, snapshot.interrupts), (3, 1));
    }

    #[test]
    fn a_socket_that_only_fails_is_not_asked_for_ever() {
        let socket = Scripted::with(vec![Err(libc::ENOMEM); 1000]);
        let snapshot = counted(|counters| assert_eq!(serve(&socket, echo, counters), []));
        assert_eq!(snapshot.receives, u64::from(Responder::FAILURES));
    }

    #[test]
    fn a_panic_costs_the_datagram_that_met_it_and_no_other() {
        let socket = Scripted::with([
            Ok(vec![arrival("good", 1), arrival("bad", 2)]),
            Ok(vec![arrival("bad", 3), arrival("good", 4), arrival("bad", 5)]),
        ]);
        let picky = |datagram: &mut Datagram<'_>| {
            datagram.to_send.append(b"begun");
            if &datagram.received[..] == b"bad" {
                // Not panic!, which would print.
                panic::resume_unwind(Box::new(()));
            }
            datagram.answer_received()
        };
        let snapshot = counted(|counters| {
            let sent = serve(&socket, picky, counters);
            assert_eq!(sent, [1, 4].map(|port| (b"begungood".to_vec(), port)));
        });
        assert_eq!((snapshot.datagrams_received, snapshot.datagrams_panicked), (5, 3));
    }

    #[test]
    fn a_turn_is_bounded_however_many_datagrams_come() {
        for (names_destinations, asks) in [(false, &[1, 1, BATCH][..]), (true, &[2, BATCH])] {
            let socket = Scripted { names_destinations, ..Scripted::default() };
            let many = |_: &()| asks.iter().map(|ask| Ok(vec![arrival("x", 1); *ask]));
            *socket.arrivals.borrow_mut() = [(), ()].iter().flat_map(many).collect();
            let snapshot = counted(|counters| {
                let mut responder = Responder::new(Box::new(echo));
                let mut is_flooded = false;
                let flooded = || is_flooded = socket.sent.borrow().len() == 2;
                let served = responder.serve(&socket, &mut Batch::new(), counters, flooded);
                assert_eq!(served, Served::More);
                assert!(is_flooded, "told of before the batch is answered");
            });
            assert_eq!(snapshot.datagrams_received, BATCH as u64 + 2);
        }
    }

    #[test]
    fn what_the_kernel_lost_is_counted_once() {
        let socket = Scripted::with(vec![Ok(vec![arrival("x", 1); 2]), Ok(vec![])]);
        let snapshot = counted(|counters| {
            let (mut responder, mut batch) = (Responder::new(Box::new(echo)), Batch::new());
            socket.lost.set(u32::MAX);
            responder.drain(&socket, &mut batch, counters);
            // The kernel's number is one of 32 bits, and begins again.
            socket.lost.set(4);
            responder.drain(&socket, &mut batch, counters);
            responder.drain(&socket, &mut batch, counters);
        });
        assert_eq!(snapshot.datagrams_lost, u64::from(u32::MAX) + 5);
    }

    #[test]
    fn a_socket_for_ipv6_is_for_ipv6_only() {
        let Ok(both) = UdpSocket::bind("[::]:0".parse().unwrap()) else { return };
        assert!(both.socket.only_v6().unwrap());
        assert!(both.names_destinations);
        let one = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(!one.names_destinations);
    }

    #[test]
    fn a_port_that_has_a_socket_cannot_be_had() {
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = UdpSocket::bind(socket.local_address().unwrap()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
