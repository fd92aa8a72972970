//! Frames that end with a line feed.
//!
//! ```text
//!   f i r s t LF s e c o n d CR LF t h i
//!   payload 5    payload 6         partial: 3 bytes of payload so far
//! ```
//!
//! A carriage return in front of the line feed belongs to the line's end and is not counted; any
//! other is payload. The limit is for the payload, whether its line feed was seen or not: a line
//! that can only become too long is refused before it is whole.

use memchr::memchr;

use super::TooLong;

/// Finds lines, and remembers how far it has searched: a long line that comes in many pieces is
/// scanned once.
///
/// ```
/// use evmux::codec::lines::{Line, Lines};
///
/// let mut lines = Lines::default();
/// assert_eq!(lines.next(b"GET", 100), Ok(Line::Partial));
/// assert_eq!(lines.next(b"GET /\r\nHo", 100), Ok(Line::Whole { payload: 5, length: 7 }));
/// // The caller consumes the 7 bytes of the line; what is left is given again.
/// assert_eq!(lines.next(b"Ho", 100), Ok(Line::Partial));
/// ```
#[derive(Debug, Default)]
pub struct Lines {
    /// So many of the bytes at the front are known to hold no line feed.
    searched: usize,
}

/// What stands at the front of the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line.
    Whole {
        /// Bytes without the line's end.
        payload: usize,
        /// Bytes with it: what to consume.
        length: usize,
    },
    /// The beginning of a line, or nothing.
    Partial,
}

impl Lines {
    /// Looks at `bytes`: everything received that was not consumed.
    ///
    /// A whole line must be consumed before the next call; a partial one must be given again, with
    /// what came behind it.
    ///
    /// # Errors
    /// The payload is longer than `limit`, or what has come of it is.
    ///
    /// # Panics
    /// When `bytes` are fewer than those of the partial line before.
    #[inline]
    pub fn next(&mut self, bytes: &[u8], limit: usize) -> Result<Line, TooLong> {
        assert!(self.searched <= bytes.len(), "a partial line became shorter");
        let line_feed = memchr(b'\n', &bytes[self.searched..]);
        let (payload, line) = if let Some(distance) = line_feed {
            let end = self.searched + distance;
            let payload = without_carriage_return(&bytes[..end]);
            self.searched = 0;
            (payload, Line::Whole { payload, length: end + 1 })
        } else {
            self.searched = bytes.len();
            (without_carriage_return(bytes), Line::Partial)
        };
        if payload <= limit { Ok(line) } else { Err(TooLong::new(payload, limit)) }
    }

    /// How many bytes the unterminated last line has, once no more will come: all of `bytes`. A
    /// carriage return at its end is payload, since no line feed follows.
    ///
    /// # Errors
    /// It is longer than `limit`.
    pub fn last(&mut self, bytes: &[u8], limit: usize) -> Result<usize, TooLong> {
        self.searched = 0;
        let length = bytes.len();
        if length <= limit { Ok(length) } else { Err(TooLong::new(length, limit)) }
    }
}

fn without_carriage_return(line: &[u8]) -> usize {
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_is_a_line() {
        let empty = Lines::default().next(b"\n", 0);
        assert_eq!(empty, Ok(Line::Whole { payload: 0, length: 1 }));
        let empty = Lines::default().next(b"\r\n", 0);
        assert_eq!(empty, Ok(Line::Whole { payload: 0, length: 2 }));
    }

    #[test]
    fn the_limit_counts_neither_line_feed_nor_the_carriage_return_before_it() {
        let whole = |payload, length| Ok(Line::Whole { payload, length });
        assert_eq!(Lines::default().next(b"abcd\n", 4), whole(4, 5));
        assert_eq!(Lines::default().next(b"abcd\r\n", 4), whole(4, 6));
        assert_eq!(Lines::default().next(b"abcd\r\r\n", 4), Err(TooLong { length: 5, limit: 4 }));
        assert_eq!(Lines::default().next(b"abcde\n", 4), Err(TooLong { length: 5, limit: 4 }));
    }

    #[test]
    fn a_line_is_refused_before_its_end_was_seen() {
        assert_eq!(Lines::default().next(b"abcde", 4), Err(TooLong { length: 5, limit: 4 }));
        assert_eq!(Lines::default().next(b"abcd\r\r", 4), Err(TooLong { length: 5, limit: 4 }));
    }

    #[test]
    fn a_carriage_return_that_may_belong_to_the_end_is_not_refused() {
        let mut lines = Lines::default();
        assert_eq!(lines.next(b"abcd", 4), Ok(Line::Partial));
        assert_eq!(lines.next(b"abcd\r", 4), Ok(Line::Partial));
        assert_eq!(lines.next(b"abcd\r\n", 4), Ok(Line::Whole { payload: 4, length: 6 }));
    }

    #[test]
    fn at_the_end_of_input_a_carriage_return_is_payload() {
        assert_eq!(Lines::default().last(b"abcd", 4), Ok(4));
        assert_eq!(Lines::default().last(b"abcd\r", 4), Err(TooLong { length: 5, limit: 4 }));
    }

    #[test]
    fn what_was_searched_is_not_searched_again() {
        let mut lines = Lines::default();
        assert_eq!(lines.next(b"abc", 9), Ok(Line::Partial));
        // Were the first three bytes looked at again, this line feed would be found.
        assert_eq!(lines.next(b"\nbcdef", 9), Ok(Line::Partial));
    }
}
