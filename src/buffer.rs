//! The bytes that wait, and how a handler sees them.
//!
//! [`Buffer`] is a connection's own storage, a queue of bytes that exists only while bytes wait:
//!
//! ```text
//!   storage: |. . . . . . . a b c d e f g h|        start: how far it was consumed
//!                           ^start         ^end     empty: the storage is given back
//! ```
//!
//! [`Received`] and [`Outgoing`] are the two sides that one handler call sees. They are separate
//! so that a frame can be read from the one while it is written to the other, without a copy:
//!
//! ```text
//!   Received: |a a a A A A A c c c c n n n n n n|    a  answered in place, not sent yet
//!                    ^answered     ^consumed         c  consumed, no longer needed
//!                                                    n  what the handler still sees
//! ```

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut, Range};
#[cfg(feature = "sim")]
use std::panic::RefUnwindSafe;
#[cfg(feature = "sim")]
use std::sync::Arc;

/// Storage that grew past this for a burst is given back when it runs empty.
const KEEP: usize = 4096;

/// A queue of bytes: appended at the end, consumed from the front.
///
/// Invariant: `start <= storage.len()`, and `start == 0` when nothing waits.
#[derive(Default)]
pub(crate) struct Buffer {
    storage: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// Adds `bytes` at the end. The storage grows with what is there, never on a header's word.
    ///
    /// # Errors
    /// When memory for them cannot be had; nothing is changed then.
    pub(crate) fn append(&mut self, bytes: &[u8], memory: &Memory) -> Result<(), OutOfMemory> {
        self.make_room(bytes.len(), memory)?;
        self.storage.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds all of `other` at the end, by moving its storage where nothing waits here.
    pub(crate) fn append_buffer(
        &mut self,
        other: Self,
        memory: &Memory,
    ) -> Result<(), OutOfMemory> {
        if self.is_empty() {
            *self = other;
            Ok(())
        } else {
            self.append(other.as_slice(), memory)
        }
    }

    /// Drops the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed {count} of {} bytes", self.len());
        self.start += count;
        if self.start == self.storage.len() {
            self.start = 0;
            if self.storage.capacity() > KEEP {
                self.storage = Vec::new();
            } else {
                self.storage.clear();
            }
        }
    }

    /// Takes the bytes of `answered` out as a buffer of their own, and keeps what comes behind
    /// `consumed`. The larger part keeps the allocation, the smaller one is copied.
    pub(crate) fn divide(
        &mut self,
        answered: Range<usize>,
        consumed: usize,
        memory: &Memory,
    ) -> Result<Self, OutOfMemory> {
        assert!(answered.start <= answered.end && answered.end <= consumed);
        let rest = self.len() - consumed;
        let mut taken = Self::default();
        if answered.len() > rest {
            let mut kept = Self::default();
            kept.append(&self.as_slice()[consumed..], memory)?;
            std::mem::swap(self, &mut taken);
            *self = kept;
            taken.storage.truncate(taken.start + answered.end);
            taken.consume(answered.start);
        } else {
            taken.append(&self.as_slice()[answered], memory)?;
            self.consume(consumed);
        }
        Ok(taken)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.storage[self.start..]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..]
    }

    pub(crate) fn len(&self) -> usize {
        self.storage.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes sure that `count` bytes can be added. What was consumed is reused first, once it is
    /// at least half of the storage: each byte is moved at most once for each byte consumed.
    fn make_room(&mut self, count: usize, memory: &Memory) -> Result<(), OutOfMemory> {
        if self.storage.capacity() - self.storage.len() >= count {
            return Ok(());
        }
        if self.start >= self.len() {
            self.storage.drain(..self.start);
            self.start = 0;
        }
        memory.reserve(&mut self.storage, count)
    }
}

/// Where storage comes from: the allocator of the process, which for a server that serves many is
/// not to be relied upon. In a simulated world it refuses what its seed says.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    #[cfg(feature = "sim")]
    pub(crate) refuses: Option<Arc<dyn Fn() -> bool + Send + Sync + RefUnwindSafe>>,
}

impl Memory {
    fn reserve(&self, storage: &mut Vec<u8>, count: usize) -> Result<(), OutOfMemory> {
        #[cfg(feature = "sim")]
        if self.refuses.as_ref().is_some_and(|refuses| refuses()) {
            return Err(OutOfMemory);
        }
        storage.try_reserve(count).map_err(|_| OutOfMemory)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

/// Memory for bytes that must wait could not be had; the connection they belong to is cut.
#[derive(Debug)]
pub(crate) struct OutOfMemory;

/// The bytes that have come and were not consumed yet, as one slice that a handler reads, and may
/// rewrite in place.
///
/// What is left unconsumed at the end of a call is kept by the connection and comes first in the
/// next one.
pub struct Received<'a> {
    bytes: &'a mut [u8],
    consumed: usize,
    /// The run that is answered in place: all before `consumed`.
    answered: Range<usize>,
}

impl<'a> Received<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, consumed: 0, answered: 0..0 }
    }

    /// Drops the first `count` bytes: the handler is done with them.
    ///
    /// # Panics
    /// When fewer than `count` bytes are left.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let left = self.bytes.len() - self.consumed;
        assert!(count <= left, "consumed {count} of {left} received bytes");
        self.consumed += count;
    }

    pub(crate) fn consumed(&self) -> usize {
        self.consumed
    }

    pub(crate) fn answered(&self) -> Range<usize> {
        self.answered.clone()
    }

    /// All that came, the consumed ones too.
    pub(crate) fn into_bytes(self) -> &'a mut [u8] {
        self.bytes
    }
}

impl Deref for Received<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }
}

impl DerefMut for Received<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.consumed..]
    }
}

/// The answers of one handler call, in the order in which they were given.
///
/// It never refuses bytes. A handler that can produce much asks [`Outgoing::is_full`] between two
/// frames and returns [`Flow::Again`](crate::Flow::Again).
///
/// As an [`io::Write`], it never fails: `write!(exchange.to_send, "{answer}\n")`.
pub struct Outgoing<'a> {
    appended: &'a mut Vec<u8>,
    /// Answered in place, so far in this call.
    in_place: usize,
    /// How many bytes this call may answer before it should stop.
    room: usize,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(appended: &'a mut Vec<u8>, room: usize) -> Self {
        Self { appended, in_place: 0, room }
    }

    /// What was not answered in place.
    pub(crate) fn appended(&self) -> &[u8] {
        self.appended
    }

    /// Answers with a copy of `bytes`.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) {
        self.appended.extend_from_slice(bytes);
    }

    /// Answers with the next `count` received bytes *as they now stand*, and consumes them.
    ///
    /// Nothing is copied while the answers of this call are one piece of what was received; else
    /// the bytes are copied, and the order is kept.
    ///
    /// # Panics
    /// When fewer than `count` bytes are left in `received`.
    #[inline]
    pub fn append_received(&mut self, received: &mut Received<'_>, count: usize) {
        let from = received.consumed;
        received.consume(count);
        let in_one_piece = received.answered.end == from || received.answered.is_empty();
        if self.appended.is_empty() && in_one_piece {
            if received.answered.is_empty() {
                received.answered.start = from;
            }
            received.answered.end = received.consumed;
            self.in_place += count;
        } else {
            self.appended.extend_from_slice(&received.bytes[from..received.consumed]);
        }
    }

    /// How many bytes this call has answered.
    pub fn len(&self) -> usize {
        self.in_place + self.appended.len()
    }

    /// Whether this call has answered nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether so much waits to be sent that a handler should stop here, with
    /// [`Flow::Again`](crate::Flow::Again), until the peer has taken some of it.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() >= self.room
    }
}

impl io::Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_consumed_is_reused_before_the_storage_grows() -> Result<(), OutOfMemory> {
        let (mut buffer, memory) = (Buffer::default(), Memory::default());
        buffer.append(&[0; 100], &memory)?;
        for round in 1..=1000_u32 {
            let bytes = [round as u8; 100];
            buffer.append(&bytes, &memory)?;
            buffer.consume(100);
            assert_eq!(buffer.as_slice(), bytes);
        }
        // Twice what waits, and twice that since a `Vec` doubles.
        assert!(buffer.storage.capacity() <= 400, "{}", buffer.storage.capacity());
        Ok(())
    }

    #[test]
    fn an_empty_buffer_keeps_its_storage_if_that_is_small() {
        for (capacity, kept) in [(KEEP - 1, KEEP - 1), (KEEP, KEEP), (KEEP + 1, 0)] {
            let mut storage = Vec::with_capacity(capacity);
            storage.extend([0; 100]);
            let mut buffer = Buffer { storage, start: 0 };
            buffer.consume(99);
            assert!(buffer.storage.capacity() >= capacity);
            buffer.consume(1);
            assert_eq!(buffer.storage.capacity(), kept);
        }
    }

    #[cfg(feature = "sim")]
    #[test]
    fn memory_is_asked_for_exactly_when_there_is_no_room() {
        let refusing = Memory { refuses: Some(Arc::new(|| true)) };
        let mut buffer = Buffer { storage: Vec::with_capacity(100), start: 0 };
        assert!(buffer.append(&[0; 100], &refusing).is_ok());
        assert!(buffer.append(&[0; 1], &refusing).is_err());
        assert_eq!(buffer.len(), 100);
    }

    /// Where the bytes are.
    fn place(buffer: &Buffer) -> usize {
        buffer.as_slice().as_ptr().addr()
    }

    #[test]
    fn of_a_divided_buffer_the_larger_part_stays_where_it_is() -> Result<(), OutOfMemory> {
        let memory = Memory::default();
        let bytes: [u8; 100] = std::array::from_fn(|index| index as u8);
        for (answered, consumed, moved) in
            [(2..52, 60, true), (2..42, 60, false), (2..32, 60, false)]
        {
            let mut buffer = Buffer::default();
            buffer.append(&bytes, &memory)?;
            let before = place(&buffer);
            let taken = buffer.divide(answered.clone(), consumed, &memory)?;
            assert_eq!(taken.as_slice(), &bytes[answered.clone()]);
            assert_eq!(buffer.as_slice(), &bytes[consumed..]);
            let (taken_stays, rest_stays) =
                (place(&taken) == before + answered.start, place(&buffer) == before + consumed);
            assert_eq!((taken_stays, rest_stays), (moved, !moved), "{answered:?} {consumed}");
        }
        Ok(())
    }

    #[test]
    #[should_panic = "consumed 3 of 2 received bytes"]
    fn more_than_is_left_cannot_be_consumed() {
        let mut bytes = [0; 4];
        let mut received = Received::new(&mut bytes);
        received.consume(2);
        received.consume(3);
    }

    #[test]
    fn neighbours_are_answered_in_place_and_others_in_their_order() {
        let (mut bytes, mut appended) = (*b"abcdef", Vec::new());
        let mut received = Received::new(&mut bytes);
        let mut to_send = Outgoing::new(&mut appended, 4);
        assert!(to_send.is_empty());
        received.consume(1);
        to_send.append_received(&mut received, 1);
        assert!(!to_send.is_empty());
        to_send.append_received(&mut received, 1);
        assert_eq!((to_send.appended(), received.answered()), (&b""[..], 1..3));
        received.consume(1);
        to_send.append_received(&mut received, 1);
        assert_eq!((to_send.appended(), received.answered()), (&b"e"[..], 1..3));
        assert_eq!((to_send.len(), to_send.is_full()), (3, false));
        to_send.append_received(&mut received, 1);
        assert_eq!((to_send.appended(), to_send.is_full()), (&b"ef"[..], true));
    }
}
