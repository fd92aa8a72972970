//! What the readiness loop needs of the world: sockets, a clock, and one call that waits.
//!
//! `front/epoll.rs` is mio's kernel, `front/poll.rs` the one of poll(2), and `sim` a simulated
//! one; the loop in `front/readiness.rs` is the same for all three, so that what the simulation
//! tests is what ships.

use std::io;
use std::net::SocketAddr;

use crate::connection::Wants;
use crate::handler::PeerAddress;
use crate::local::Target;
use crate::moment::Moment;
use crate::net::datagram::{DatagramSocket, UdpSocket};
use crate::stop::Phase;
use crate::transfer::Stream;

/// A kernel, as far as a loop can see.
///
/// # For implementers
/// - [`wait`](Kernel::wait) may return early and without an event: the loop looks at everything
///   again.
/// - An edge-triggered kernel reports a state when it begins. A level-triggered one reports it for
///   as long as it lasts and [`interest`](Kernel::interest) asks for it; a broken stream it may
///   report without being asked.
/// - An event may be reported for a token that was released: the loop checks its generation.
pub(crate) trait Kernel {
    type Stream: Stream;
    /// A batch of events, apart from the kernel, so that it can be gone through while streams are
    /// accepted and registered.
    type Events;

    /// Whether a state is reported only when it begins.
    const EDGE: bool;

    fn events(&self) -> Self::Events;

    fn now(&self) -> Moment;

    /// Waits until something happens, a later phase than `seen` was asked for, or `until` has
    /// come; not at all when it is past. Never sleeps past `until`, however finely it can wait.
    ///
    /// # Errors
    /// When waiting itself is impossible, which ends the loop. A signal is no error.
    fn wait(&mut self, events: &mut Self::Events, until: Moment, seen: Phase) -> io::Result<()>;

    fn ready(events: &Self::Events) -> impl Iterator<Item = Ready>;

    /// Listeners are numbered from 0.
    fn listeners(&self) -> usize;

    /// As accept(2); the stream does not block.
    fn accept(&mut self, listener: usize) -> io::Result<(Self::Stream, PeerAddress)>;

    /// Whether a level-triggered kernel reports clients that wait; an edge-triggered one ignores
    /// it.
    fn listen(&mut self, listener: usize, interest: bool);

    /// Begins to connect to `target`, from `source`; writable means that it is done, or has failed.
    fn connect(&mut self, target: &Target, source: Option<SocketAddr>) -> io::Result<Self::Stream>;

    /// With a descriptor kept for this: one client is accepted and closed at once. False when
    /// there was none, or no descriptor.
    fn refuse_one(&mut self, listener: usize) -> bool;

    /// Closes all listeners.
    fn close_listeners(&mut self);

    /// UDP sockets are numbered from 0; `None` for one that is not there.
    fn datagram_socket(&self, socket: usize) -> Option<impl DatagramSocket> {
        let _ = socket;
        None::<&UdpSocket>
    }

    /// Whether to report datagrams that come at a UDP socket; `true` begins with what there is.
    /// Only asked of a kernel to which a socket that it reports costs something for each datagram
    /// that is sent.
    ///
    /// # Errors
    /// When it cannot report them (again): the socket must be looked at without an event.
    fn report_datagrams(&self, _: usize, _: bool) -> io::Result<()> {
        Ok(())
    }

    /// Closes all UDP sockets.
    fn close_datagram_sockets(&mut self) {}

    /// Asks for the events of a stream under `token`: of what comes, not yet of room to send.
    fn register(&mut self, stream: &Self::Stream, token: Token) -> io::Result<()>;

    /// What a level-triggered kernel is to report from now on; an edge-triggered one ignores it.
    fn interest(&mut self, token: Token, wants: Wants);

    /// From now on an edge-triggered kernel reports room to send, too, beginning with what there
    /// is; a level-triggered one goes by [`interest`](Kernel::interest) and ignores this.
    fn report_room(&mut self, stream: &Self::Stream, token: Token) -> io::Result<()>;

    /// A level-triggered kernel reports nothing of a stream, not even that it is broken, until its
    /// interest is set again; an edge-triggered one has said it and ignores this.
    fn mute(&mut self, token: Token);

    /// Closes a registered stream: in order, or with a reset.
    fn release(&mut self, stream: Self::Stream, token: Token, cut: bool);

    /// Closes a stream that is not served: our FIN, what has come is discarded, no waiting.
    fn refuse(&mut self, stream: Self::Stream, scratch: &mut [u8]);
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Clients wait to be accepted.
    Listener(usize),
    /// Datagrams have come.
    Datagrams(usize),
    Stream {
        token: Token,
        /// There is something to receive.
        receive: bool,
        /// Something stands behind the bytes: the end, an error, or urgent data that splits a
        /// receive in two.
        end: bool,
        /// Neither direction works any more.
        hung_up: bool,
    },
}

/// A connection in a kernel's events: its slot, and which of the slot's connections it is. A late
/// event, timer or message for one that is gone finds another generation, and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Token {
    pub(crate) fn to_usize(self) -> usize {
        (self.generation as usize) << 32 | self.slot as usize
    }

    pub(crate) fn from_usize(token: usize) -> Self {
        Self { slot: token as u32, generation: (token >> 32) as u32 }
    }
}
