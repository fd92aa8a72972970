//! What bytes mean: the protocol's side of a connection.
//!
//! A [`Handler`] is one connection's protocol: bytes in, bytes out, never a socket. The same
//! handler runs under every model, in the simulation and in a unit test. It is called when
//! something happened and says with its [`Flow`] what it waits for next:
//!
//! ```text
//!   open ──▶ receive ──▶ receive ... ──▶ end ──▶ closed
//!              ▲   room, timer, drain      │
//!              └──────── Flow ─────────────┘  closed comes exactly once, whatever happened
//! ```
//!
//! No call is made from inside another, and none after `closed`.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::buffer::{Outgoing, Received};
use crate::codec::TooLong;
use crate::limits::CloseReason;
use crate::moment::{Moment, Patience};

/// The protocol of one connection.
///
/// Only [`receive`](Handler::receive) must be written. A handler that panics ends its connection,
/// with [`CloseReason::Panicked`], and no other.
///
/// ```
/// use evmux::{Exchange, Flow, Handler};
///
/// /// Answers each byte with itself.
/// struct Echo;
///
/// impl Handler for Echo {
///     fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
///         let count = exchange.received.len();
///         exchange.to_send.append_received(&mut exchange.received, count);
///         Flow::Continue
///     }
/// }
/// ```
pub trait Handler {
    /// The connection is there; nothing has come yet. For a server that speaks first.
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let _ = exchange;
        Flow::Continue
    }

    /// Bytes have come: consume what can be; the rest stays and comes again, first in the slice.
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow;

    /// The peer has finished sending. Called once, after the last `receive`; what `received` holds
    /// now will never be more. The peer may still be reading: [`Flow::Continue`] keeps the
    /// half-open connection. Who has more to send than fits says [`Flow::Again`]: `receive` is then
    /// called without new bytes, until it returns something else.
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let _ = exchange;
        Flow::Close
    }

    /// The peer has read so much that half of the send buffer's limit is free again, after it had
    /// been full.
    fn room(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let _ = exchange;
        Flow::Continue
    }

    /// The time set by [`Exchange::set_timer`] has come.
    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let _ = exchange;
        Flow::Continue
    }

    /// [`Handle::wake`](crate::Handle::wake) was called for this connection, by another thread or
    /// another connection. Several calls may come as one.
    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let _ = exchange;
        Flow::Continue
    }

    /// The server is going away, and everything that had come was received. [`Flow::Close`] now,
    /// or [`Flow::Continue`] and close before the drain timeout cuts the connection.
    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let _ = exchange;
        Flow::Close
    }

    /// The connection is over. Called exactly once for every handler that was opened; and for one
    /// whose outgoing connection could not be made, which is not opened.
    fn closed(&mut self, reason: &CloseReason) {
        let _ = reason;
    }
}

/// A handler chosen at run time.
impl<H: Handler + ?Sized> Handler for Box<H> {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        (**self).open(exchange)
    }
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        (**self).receive(exchange)
    }
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        (**self).end(exchange)
    }
    fn room(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        (**self).room(exchange)
    }
    fn timer(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        (**self).timer(exchange)
    }
    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        (**self).wake(exchange)
    }
    fn drain(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        (**self).drain(exchange)
    }
    fn closed(&mut self, reason: &CloseReason) {
        (**self).closed(reason);
    }
}

/// What a handler waits for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// What is left is incomplete: call when a new byte has come. From `open`, `room`, `timer`,
    /// `wake` and `drain`: what `receive` asked for stands.
    Continue,
    /// Call `receive` when so many bytes are there, the unconsumed ones included: a frame whose
    /// length is known is not scanned again for each piece. With nothing left unconsumed it is
    /// [`Flow::Continue`]. A count that the connection's limit can never hold is refused at once,
    /// as [`Violation::TooLong`].
    AtLeast(usize),
    /// More can be done without new bytes: call `receive` again in a later turn, once there is
    /// room to send. What a handler says that stopped at [`Outgoing::is_full`]. From `room`,
    /// `timer` and `wake` it ends a `Wait`.
    Again,
    /// Stop reading, until `room`, `timer` or `wake` returns [`Flow::Again`].
    Wait,
    /// Send what was answered, then finish our side with a FIN, and go on receiving: the peer may
    /// still send. For who passes the end of one connection on to another. Nothing can be answered
    /// after it. From [`Handler::end`] on, when there is nothing more to receive either, it is
    /// `Close`.
    Finish,
    /// Send what was answered, then close in order: no answer is lost to a reset.
    Close,
    /// As `Close`, because the peer broke the protocol; counted and logged with its numbers.
    Refuse(Violation),
    /// Cut the connection now; what was not sent is dropped.
    Abort,
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A frame, line or body is longer than the limit.
    TooLong {
        /// Its length in bytes, or as much of it as was seen.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The peer finished in the middle of a frame.
    Truncated {
        /// Bytes of it that came.
        received: u64,
        /// Bytes that it was to have.
        expected: u64,
    },
    /// What came is not in the protocol; the text says what.
    Malformed(&'static str),
}

impl From<TooLong> for Violation {
    fn from(refused: TooLong) -> Self {
        Self::TooLong { length: refused.length, limit: refused.limit }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, limit } => {
                write!(f, "{length} bytes are more than the limit of {limit}")
            }
            Self::Truncated { received, expected } => {
                write!(f, "the peer finished after {received} of {expected} bytes")
            }
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

/// What one handler call sees and says.
pub struct Exchange<'a> {
    /// What has come and was not consumed yet.
    pub received: Received<'a>,
    /// What goes out.
    pub to_send: Outgoing<'a>,
    pub(crate) timer: &'a mut Moment,
    pub(crate) now: Moment,
    pub(crate) max_frame: usize,
    pub(crate) partial: Partial,
    pub(crate) draining: bool,
}

/// What a handler said of the frame it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partial {
    /// Nothing: a frame has begun if bytes are left.
    Unsaid,
    /// No frame has begun.
    No,
    /// One has begun: the same as before this call, or a new one.
    Yes { new: bool },
}

impl Exchange<'_> {
    /// The time of this call.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The longest payload that a peer may send in one frame, in bytes: what a codec compares a
    /// header's word with, before anything is stored.
    pub fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// Whether the server is going away, and everything that had come when it began to is here. What
    /// is answered now may say that it is the last answer; [`Handler::drain`] follows once no frame
    /// has begun.
    pub fn draining(&self) -> bool {
        self.draining
    }

    /// Calls [`Handler::timer`] once, when `after` has passed. One timer a connection: setting it
    /// again replaces it. Never early; late by the length of a turn of the loop.
    pub fn set_timer(&mut self, after: Duration) {
        *self.timer = self.now + Patience::new(after);
    }

    /// Takes the timer back.
    pub fn clear_timer(&mut self) {
        *self.timer = Moment::NEVER;
    }

    /// Says whether a frame has begun that is not whole yet. The frame timeout runs from its first
    /// byte and is not renewed by bytes that trickle in. `false` and then `true` in one call: one
    /// frame became whole, the next has begun.
    ///
    /// Without a word, a frame has begun when bytes are left unconsumed; it is a new one when any
    /// were consumed. So a codec that consumes whole frames only never needs this, and a stream
    /// without frames says `false`.
    pub fn partial(&mut self, begun: bool) {
        self.partial = match (begun, self.partial) {
            (false, _) => Partial::No,
            (true, Partial::No) => Partial::Yes { new: true },
            (true, Partial::Yes { new }) => Partial::Yes { new },
            (true, Partial::Unsaid) => Partial::Yes { new: false },
        };
    }
}

/// Makes a handler for each connection.
///
/// A closure is a service: `|_: &Peer| Echo`. The models with threads share one service between
/// them, so it must be [`Sync`] there; the handlers that it makes never change threads.
pub trait Service {
    /// The protocol of each connection.
    type Handler: Handler;

    /// A handler for the connection with `peer`.
    fn handler(&self, peer: &Peer) -> Self::Handler;
}

impl<F, H> Service for F
where
    F: Fn(&Peer) -> H,
    H: Handler,
{
    type Handler = H;

    fn handler(&self, peer: &Peer) -> H {
        self(peer)
    }
}

/// Who is at the other end. The engine does not keep it; a handler that needs it does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The address that the connection comes from.
    pub address: PeerAddress,
    /// Which of the server's listeners it was accepted on, counted from 0 in the order in which
    /// they were given.
    pub listener: usize,
    /// What other threads call the connection; only the readiness models have it. See
    /// [`Handle`](crate::Handle).
    pub id: Option<ConnectionId>,
}

impl Peer {
    /// The listener of a connection that was not accepted, but made.
    pub const OUTGOING: usize = usize::MAX;

    /// A peer at `address` that was accepted on listener number `listener`.
    pub fn new(address: PeerAddress, listener: usize) -> Self {
        Self { address, listener, id: None }
    }
}

/// The name of a connection, never given to another one in the life of a server: reactor, slot,
/// and which of the slot's connections it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub(crate) reactor: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// Which reactor the connection belongs to, counted from 0.
    pub fn reactor(&self) -> usize {
        self.reactor as usize
    }
}

/// The address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerAddress {
    /// An IP address and a port. An IPv4 peer of an IPv6 socket stands here as IPv4.
    Inet(SocketAddr),
    /// A peer on a Unix socket; clients seldom have a path.
    Unix,
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}
