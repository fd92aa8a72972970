//! What a serving thread lends a connection for one call, and what it gets back.
//!
//! A connection at rest owns no buffer. The thread that serves it lends its own: the input that
//! it received into, and one growing output. What the handler answered comes back as an
//! [`Answer`], one slice of either of the two; only what the socket does not take of it is copied
//! into the connection's own storage.

use crate::limits::Limits;
use crate::moment::Moment;

/// Output storage, limits and the time, for one call.
pub struct Lent<'l> {
    pub(crate) output: &'l mut Vec<u8>,
    pub(crate) limits: &'l Limits,
    pub(crate) now: Moment,
}

impl<'l> Lent<'l> {
    /// Lends `output`, which is emptied, for a call at `now`.
    #[inline]
    pub fn new(output: &'l mut Vec<u8>, limits: &'l Limits, now: Moment) -> Self {
        output.clear();
        Self { output, limits, now }
    }
}

/// What a call answered: bytes of the lent input or of the lent output, to be sent now.
///
/// Every answer, an empty one too, goes back to
/// [`Connection::keep`](crate::Connection::keep) with the number of its bytes that were sent: a
/// connection is not flushed while its answer is under way.
#[must_use = "give it back with Connection::keep, or answers are lost"]
#[derive(Clone, Copy, Debug)]
pub struct Answer<'l>(pub(crate) &'l [u8]);

impl<'l> Answer<'l> {
    pub(crate) const NOTHING: Self = Self(&[]);

    /// The bytes to send.
    #[inline]
    pub fn as_slice(&self) -> &'l [u8] {
        self.0
    }

    /// Whether there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
