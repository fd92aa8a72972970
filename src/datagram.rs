//! What a datagram means: the protocol's side of a UDP socket.
//!
//! A datagram is whole when it comes, belongs to no connection, and may never come at all. So the
//! protocol is one call: a datagram in, one or none out. There is no state for each peer, nothing
//! waits, and nothing is closed.

use std::net::SocketAddr;

use crate::buffer::{Outgoing, Received};
use crate::handler::PeerAddress;

/// The protocol of a UDP socket.
///
/// One handler serves all peers of its socket, one datagram at a time. A closure is a handler. If
/// it panics, that datagram has no answer, and it is called for the next one.
///
/// ```
/// use evmux::{Datagram, Model, Peer, Reply, Server, services};
///
/// /// Answers each datagram with itself, upside down.
/// fn reversed(datagram: &mut Datagram<'_>) -> Reply {
///     datagram.received.reverse();
///     datagram.answer_received()
/// }
///
/// let server = Server::builder(services::echo)
///     .model(Model::Epoll)
///     .datagrams("udp:127.0.0.1:0", reversed)
///     .build()?;
/// # Ok::<(), evmux::Error>(())
/// ```
pub trait DatagramHandler {
    /// A datagram has come; it may be empty.
    fn receive(&mut self, datagram: &mut Datagram<'_>) -> Reply;
}

impl<F> DatagramHandler for F
where
    F: FnMut(&mut Datagram<'_>) -> Reply,
{
    fn receive(&mut self, datagram: &mut Datagram<'_>) -> Reply {
        self(datagram)
    }
}

/// A handler chosen at run time.
impl DatagramHandler for Box<dyn DatagramHandler + Send> {
    fn receive(&mut self, datagram: &mut Datagram<'_>) -> Reply {
        (**self).receive(datagram)
    }
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reply {
    /// Send the peer what the call appended to [`to_send`](Datagram::to_send), as one datagram; an
    /// empty one if that is nothing.
    Send,
    /// No answer.
    Nothing,
}

/// One datagram, and its answer.
///
/// As in an [`Exchange`](crate::Exchange), what was received may be rewritten where it stands, and
/// become the answer without being copied. What is left unconsumed is dropped with the datagram.
pub struct Datagram<'a> {
    /// The bytes of the datagram.
    pub received: Received<'a>,
    /// The bytes of the answer: at most [`Datagram::LONGEST`], or it is dropped and counted.
    pub to_send: Outgoing<'a>,
    from: SocketAddr,
}

impl<'a> Datagram<'a> {
    /// The most bytes that a datagram over IPv4 can carry: 65,535 less its headers.
    pub const LONGEST: usize = 65_507;

    /// A datagram that came from `from`, whose answer may use `output`, which is emptied; for
    /// testing a handler without a socket.
    ///
    /// ```
    /// use evmux::{Datagram, DatagramHandler, Reply, services};
    ///
    /// let (mut bytes, mut output) = (*b"hello", Vec::new());
    /// let from = "192.0.2.1:7".parse().unwrap();
    /// let mut datagram = Datagram::new(from, &mut bytes, &mut output);
    /// let reply = services::datagrams::upper.receive(&mut datagram);
    /// assert_eq!(reply, Reply::Send);
    /// assert_eq!(datagram.into_answer(), b"HELLO");
    /// ```
    pub fn new(from: SocketAddr, bytes: &'a mut [u8], output: &'a mut Vec<u8>) -> Self {
        output.clear();
        let to_send = Outgoing::new(output, Self::LONGEST);
        Self { received: Received::new(bytes), to_send, from }
    }

    /// Who sent it, as far as the sender is to be believed: a datagram's source can be forged, and
    /// an answer much longer than the question makes a weapon of the server.
    pub fn peer(&self) -> PeerAddress {
        self.from.into()
    }

    /// Answers with what was received, as it now stands.
    #[inline]
    pub fn answer_received(&mut self) -> Reply {
        let count = self.received.len();
        self.to_send.append_received(&mut self.received, count);
        Reply::Send
    }

    /// The answer as a copy, for tests.
    pub fn into_answer(self) -> Vec<u8> {
        let answered = self.received.answered();
        [&self.received.into_bytes()[answered], self.to_send.appended()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_a_handler(_: impl DatagramHandler + Send + 'static) {}

    #[test]
    fn functions_closures_and_boxes_are_handlers() {
        fn function(datagram: &mut Datagram<'_>) -> Reply {
            datagram.answer_received()
        }
        let mut seen = Vec::new();
        is_a_handler(function);
        is_a_handler(move |datagram: &mut Datagram<'_>| {
            seen.extend_from_slice(&datagram.received);
            Reply::Nothing
        });
        let chosen: Box<dyn DatagramHandler + Send> = Box::new(function);
        is_a_handler(chosen);
    }

    #[test]
    fn what_was_rewritten_and_what_was_appended_are_one_answer_in_order() {
        let (mut bytes, mut output) = (*b"abcdef", b"old".to_vec());
        let from = SocketAddr::from(([192, 0, 2, 1], 7));
        let mut datagram = Datagram::new(from, &mut bytes, &mut output);
        datagram.received.consume(1);
        datagram.received[0] = b'B';
        datagram.to_send.append_received(&mut datagram.received, 2);
        datagram.to_send.append(b"-");
        datagram.to_send.append_received(&mut datagram.received, 1);
        assert_eq!(datagram.into_answer(), b"Bc-d");
    }
}
