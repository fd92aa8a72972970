//! Whole messages out of a stream: so many bytes, everything, blocks that begin with their length.
//!
//! A stream keeps no borders between what was sent: one read may bring a part of a message, or
//! two. These functions read until a message is whole, and an end before that is an error with its
//! numbers. A length that the other side announces is compared with a limit, and memory grows with
//! the bytes that arrive, never with the announcement.
//!
//! They take any [`Read`] and [`Write`], so that they can be tested without a socket; over a
//! [`TcpStream`](std::net::TcpStream) its own time limits hold.

use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};

use crate::codec::TooLong;
use crate::codec::blocks::{self, HEADER};

/// Receives `length` bytes, and not one more.
///
/// ```
/// use evmux::client::{TransferError, receive_exactly};
///
/// let mut stream = &b"Farewell, client!"[..];
/// assert_eq!(receive_exactly(&mut stream, 16)?, b"Farewell, client");
///
/// let short = receive_exactly(&mut stream, 16);
/// assert!(matches!(short, Err(TransferError::Truncated { received: 1, expected: 16 })));
/// # Ok::<(), TransferError>(())
/// ```
///
/// # Errors
/// [`TransferError::Truncated`] when the stream ends before; [`TransferError::Io`]. What had been
/// received by then is lost.
pub fn receive_exactly(
    stream: &mut (impl Read + ?Sized),
    length: usize,
) -> Result<Vec<u8>, TransferError> {
    let mut received = Vec::new();
    // It grows with what it reads, whatever `length` is.
    stream.take(length as u64).read_to_end(&mut received)?;
    if received.len() < length {
        return Err(TransferError::truncated(received.len(), length));
    }
    Ok(received)
}

/// Receives everything until the other side's end, at most `limit` bytes.
///
/// ```
/// use evmux::client::{TransferError, receive_to_end};
///
/// assert_eq!(receive_to_end(&mut &b"all of it"[..], 9)?, b"all of it");
/// let more = receive_to_end(&mut &b"all of it"[..], 8);
/// assert!(matches!(more, Err(TransferError::TooLong { limit: 8, .. })));
/// # Ok::<(), TransferError>(())
/// ```
///
/// # Errors
/// [`TransferError::TooLong`] when there is more: its length is what was seen of it;
/// [`TransferError::Io`]. What had been received by then is lost.
pub fn receive_to_end(
    stream: &mut (impl Read + ?Sized),
    limit: usize,
) -> Result<Vec<u8>, TransferError> {
    let mut received = Vec::new();
    stream.take((limit as u64).saturating_add(1)).read_to_end(&mut received)?;
    if received.len() > limit {
        return Err(TransferError::too_long(received.len(), limit));
    }
    Ok(received)
}

/// Sends `payload` as a block: its length in four bytes, the most significant one first, and the
/// bytes themselves. The slides call it `put_block`.
///
/// Header and payload go out together where the stream can do that (writev(2)): a header alone in
/// a packet would wait for its acknowledgement before the payload may follow.
///
/// ```
/// use evmux::client::{TransferError, write_block};
///
/// let mut sent = Vec::new();
/// write_block(&mut sent, b"hi")?;
/// assert_eq!(sent, b"\0\0\0\x02hi");
/// # Ok::<(), TransferError>(())
/// ```
///
/// # Errors
/// [`TransferError::TooLong`] when four bytes cannot say so much; [`TransferError::Io`].
pub fn write_block(
    stream: &mut (impl Write + ?Sized),
    payload: &[u8],
) -> Result<(), TransferError> {
    let header = blocks::header(payload.len())?;
    let written = loop {
        match stream.write_vectored(&[IoSlice::new(&header), IoSlice::new(payload)]) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(count) => break count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    };
    stream.write_all(header.get(written..).unwrap_or_default())?;
    stream.write_all(payload.get(written.saturating_sub(HEADER)..).unwrap_or_default())?;
    Ok(())
}

/// Receives a block and returns its payload, at most `limit` bytes; `None` at the other side's end.
/// The slides call it `get_block`.
///
/// An end between two blocks is an orderly one, and no error; an end inside a block is.
///
/// ```
/// use evmux::client::{TransferError, read_block};
///
/// let mut stream = &b"\0\0\0\x02hi\0\0\0\0\0\0\0\x02h"[..];
/// assert_eq!(read_block(&mut stream, 100)?, Some(b"hi".to_vec()));
/// assert_eq!(read_block(&mut stream, 100)?, Some(Vec::new()));
/// let cut = read_block(&mut stream, 100);
/// assert!(matches!(cut, Err(TransferError::Truncated { received: 5, expected: 6 })));
/// assert_eq!(read_block(&mut stream, 100)?, None);
/// # Ok::<(), TransferError>(())
/// ```
///
/// # Errors
/// [`TransferError::TooLong`] when the header announces more than `limit`: nothing of the payload
/// was read, and what follows cannot be told from it any more. [`TransferError::Truncated`], whose
/// numbers include the header; [`TransferError::Io`].
pub fn read_block(
    stream: &mut (impl Read + ?Sized),
    limit: usize,
) -> Result<Option<Vec<u8>>, TransferError> {
    let mut header = Vec::with_capacity(HEADER);
    stream.take(HEADER as u64).read_to_end(&mut header)?;
    let Some(length) = header.first_chunk::<HEADER>() else {
        return match header.len() {
            0 => Ok(None),
            received => Err(TransferError::truncated(received, HEADER)),
        };
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > limit {
        return Err(TransferError::too_long(length, limit));
    }
    match receive_exactly(stream, length) {
        Ok(payload) => Ok(Some(payload)),
        Err(TransferError::Truncated { received, expected }) => Err(TransferError::Truncated {
            received: received + HEADER as u64,
            expected: expected + HEADER as u64,
        }),
        Err(error) => Err(error),
    }
}

/// Why a message did not come through.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransferError {
    /// The stream ended before the message was whole.
    Truncated {
        /// Bytes of the message that came.
        received: u64,
        /// Bytes that it should have had.
        expected: u64,
    },
    /// The message is longer than it may be.
    TooLong {
        /// Its length in bytes, or as much of it as was seen.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The stream failed, or its time limit passed.
    Io(io::Error),
}

impl TransferError {
    pub(super) fn truncated(received: usize, expected: usize) -> Self {
        Self::Truncated { received: received as u64, expected: expected as u64 }
    }

    pub(super) fn too_long(length: usize, limit: usize) -> Self {
        Self::TooLong { length: length as u64, limit: limit as u64 }
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { received, expected } => write!(
                f,
                "was expecting {expected} bytes but only received {received} before the end"
            ),
            Self::TooLong { length, limit } => TooLong { length: *length, limit: *limit }.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for TransferError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Truncated { .. } | Self::TooLong { .. } => None,
        }
    }
}

impl From<io::Error> for TransferError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<TooLong> for TransferError {
    fn from(TooLong { length, limit }: TooLong) -> Self {
        Self::TooLong { length, limit }
    }
}

impl From<TransferError> for io::Error {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Truncated { .. } => Self::new(io::ErrorKind::UnexpectedEof, error),
            TransferError::TooLong { .. } => Self::new(io::ErrorKind::InvalidData, error),
            TransferError::Io(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that gives a byte at a time, with a signal before each, and then ends or fails.
    struct Trickle<'a> {
        bytes: &'a [u8],
        interrupted: bool,
        fails: bool,
    }

    impl<'a> Trickle<'a> {
        fn of(bytes: &'a [u8]) -> Self {
            Self { bytes, interrupted: false, fails: false }
        }
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match (self.bytes.split_first(), into.first_mut()) {
                (Some((byte, rest)), Some(place)) => {
                    (*place, self.bytes) = (*byte, rest);
                    Ok(1)
                }
                (None, Some(_)) if self.fails => Err(io::ErrorKind::ConnectionReset.into()),
                _ => Ok(0),
            }
        }
    }

    /// Takes few bytes at a time, with a signal before each.
    struct Narrow {
        taken: Vec<u8>,
        at_a_time: usize,
        interrupted: bool,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            let count = all.len().min(self.at_a_time);
            self.taken.extend(&all[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_in_any_pieces_are_the_same_message() {
        let mut stream = Trickle::of(b"\0\0\0\x05first\0\0\0\x00\0\0\0\x06secondrest");
        assert_eq!(read_block(&mut stream, 6).unwrap().unwrap(), b"first");
        assert_eq!(read_block(&mut stream, 6).unwrap().unwrap(), b"");
        assert_eq!(read_block(&mut stream, 6).unwrap().unwrap(), b"second");
        assert_eq!(receive_exactly(&mut stream, 2).unwrap(), b"re");
        assert_eq!(receive_to_end(&mut stream, 2).unwrap(), b"st");
        assert_eq!(read_block(&mut stream, 6).unwrap(), None);
        assert_eq!(receive_exactly(&mut stream, 0).unwrap(), b"");
    }

    #[test]
    fn a_block_goes_out_whole_however_little_the_stream_takes() {
        for at_a_time in 1..10 {
            let mut narrow = Narrow { taken: Vec::new(), at_a_time, interrupted: false };
            for payload in [&b"payload"[..], b"", b"x"] {
                write_block(&mut narrow, payload).unwrap();
            }
            assert_eq!(narrow.taken, b"\0\0\0\x07payload\0\0\0\0\0\0\0\x01x");
        }
    }

    #[test]
    fn a_stream_that_takes_nothing_is_an_error() {
        let mut full = Narrow { taken: Vec::new(), at_a_time: 0, interrupted: false };
        let Err(TransferError::Io(error)) = write_block(&mut full, b"x") else {
            panic!("it was sent");
        };
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn an_end_inside_a_message_says_how_much_came() {
        let cut = |length: usize| read_block(&mut &b"\0\0\0\x05first"[..length], 100);
        for length in 1..9 {
            let Err(TransferError::Truncated { received, expected }) = cut(length) else {
                panic!("{length} bytes are a block");
            };
            assert_eq!(received, length as u64);
            assert_eq!(expected, if length < HEADER { 4 } else { 9 });
        }
        let error = receive_exactly(&mut &b"hello"[..], 16).unwrap_err();
        let text = "was expecting 16 bytes but only received 5 before the end";
        assert_eq!(error.to_string(), text);
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_failing_stream_is_not_taken_for_an_end() {
        let mut failing = Trickle { fails: true, ..Trickle::of(b"\0\0") };
        assert!(matches!(read_block(&mut failing, 9), Err(TransferError::Io(_))));
        let mut failing = Trickle { fails: true, ..Trickle::of(b"") };
        assert!(matches!(receive_to_end(&mut failing, 9), Err(TransferError::Io(_))));
    }

    #[test]
    fn an_announced_length_is_neither_believed_nor_stored() {
        let mut liar = &b"\xff\xff\xff\xffabc"[..];
        assert!(matches!(
            read_block(&mut liar, 1 << 20),
            Err(TransferError::TooLong { length: 0xffff_ffff, limit: 0x10_0000 })
        ));
        assert_eq!(liar, b"abc");

        // Allowed by its limit, but never sent. No machine has room for what is expected of the
        // second one: asking for it would be a panic.
        assert!(matches!(
            read_block(&mut &b"\xff\xff\xff\xffabc"[..], usize::MAX),
            Err(TransferError::Truncated { received: 7, expected: 0x1_0000_0003 })
        ));
        assert!(matches!(
            receive_exactly(&mut &b"abc"[..], usize::MAX),
            Err(TransferError::Truncated { received: 3, expected: u64::MAX })
        ));
    }
}
