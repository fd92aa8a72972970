//! The services that make sense for single datagrams, for
//! [`Builder::datagrams`](crate::Builder::datagrams).
//!
//! Each datagram is answered by itself: nothing is remembered of the one before, not even of the
//! same peer. An answer that came out longer than [`Datagram::LONGEST`] is dropped and counted.

use std::io::Write;

use crate::codec;
use crate::{Datagram, PeerAddress, Reply};

/// Answers text with its upper case. The datagram is a text of its own: a code point that is cut
/// off at its end comes back as it is, and does not go on in the next one.
pub fn upper(datagram: &mut Datagram<'_>) -> Reply {
    let count = datagram.received.len();
    codec::upper::answer_whole(&mut datagram.received, &mut datagram.to_send, count);
    Reply::Send
}

/// Answers a datagram with itself.
pub fn echo(datagram: &mut Datagram<'_>) -> Reply {
    datagram.answer_received()
}

/// Takes datagrams and answers nothing.
pub fn discard(_: &mut Datagram<'_>) -> Reply {
    Reply::Nothing
}

/// Answers whatever comes with `Hello <IP address of the peer>` on a line.
pub fn hello(datagram: &mut Datagram<'_>) -> Reply {
    if let PeerAddress::Inet(peer) = datagram.peer() {
        // Writing to what is sent cannot fail.
        let _ = writeln!(datagram.to_send, "Hello {}", peer.ip());
    }
    Reply::Send
}

/// Answers whatever comes with the same text, as it is.
pub fn greeting<T: AsRef<[u8]>>(text: T) -> impl FnMut(&mut Datagram<'_>) -> Reply {
    move |datagram| {
        datagram.to_send.append(text.as_ref());
        Reply::Send
    }
}

/// Answers whatever comes with what `clock` says then; the line's end is for `clock` to add.
///
/// ```
/// use evmux::services::datagrams;
///
/// let handler = datagrams::time(|| "Thu Jun 17 19:49:58 2010\n");
/// ```
pub fn time<C, T>(mut clock: C) -> impl FnMut(&mut Datagram<'_>) -> Reply
where
    C: FnMut() -> T,
    T: AsRef<[u8]>,
{
    move |datagram| {
        datagram.to_send.append(clock().as_ref());
        Reply::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatagramHandler;

    fn answer(mut handler: impl DatagramHandler, bytes: &[u8]) -> Option<Vec<u8>> {
        let (mut bytes, mut output) = (bytes.to_vec(), Vec::new());
        let from = "192.0.2.1:7".parse().unwrap();
        let mut datagram = Datagram::new(from, &mut bytes, &mut output);
        let reply = handler.receive(&mut datagram);
        (reply == Reply::Send).then(|| datagram.into_answer())
    }

    #[test]
    fn upper_answers_a_datagram_as_a_text_of_its_own() {
        assert_eq!(answer(upper, "straße ŉ ǆ".as_bytes()).unwrap(), "STRASSE ʼN Ǆ".as_bytes());
        assert_eq!(answer(upper, b"half \xc3").unwrap(), b"HALF \xc3");
        assert_eq!(answer(upper, b"\xa4").unwrap(), b"\xa4");
        assert_eq!(answer(upper, b"").unwrap(), b"");
    }

    #[test]
    fn echo_answers_any_byte_and_no_byte() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(answer(echo, &bytes).unwrap(), bytes);
        assert_eq!(answer(echo, b"").unwrap(), b"");
    }

    #[test]
    fn discard_answers_nothing_at_all() {
        assert_eq!(answer(discard, b"x"), None);
    }

    #[test]
    fn those_who_speak_say_the_same_to_whatever_comes() {
        assert_eq!(answer(hello, b"").unwrap(), b"Hello 192.0.2.1\n");
        assert_eq!(answer(greeting("Hi\n"), b"x").unwrap(), b"Hi\n");
        let mut hour = 0;
        let mut clock = time(|| {
            hour += 1;
            format!("{hour}\n")
        });
        assert_eq!(answer(&mut clock, b"").unwrap(), b"1\n");
        assert_eq!(answer(&mut clock, b"").unwrap(), b"2\n");
    }
}
