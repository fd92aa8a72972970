//! Bytes to frames and text, and back: what the services are made of, and a handler of yours may
//! be.
//!
//! A codec looks at what has been received and says what stands there. It holds no bytes, opens
//! nothing and waits for nothing, so it can be tested with slices. A frame that is not whole yet is
//! a value, not an error: more bytes will come. The only error is a frame that is refused, and it
//! carries its numbers.
//!
//! - [`upper`]: a stream of text, upper-cased as it passes.
//! - [`lines`]: frames that end with a line feed.
//! - [`blocks`]: frames that begin with their length.
//! - `http1`: requests of HTTP, each with its body (feature `http`).
//! - `xmlrpc`: calls of functions, as XML (feature `xmlrpc`).

pub mod blocks;
#[cfg(feature = "http")]
pub mod http1;
pub mod lines;
pub mod upper;
#[cfg(feature = "xmlrpc")]
pub mod xmlrpc;

use std::error::Error;
use std::fmt;

/// A frame is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The length of its payload in bytes, or as much of it as was seen.
    pub length: u64,
    /// The limit in bytes.
    pub limit: u64,
}

impl TooLong {
    fn new(length: usize, limit: usize) -> Self {
        Self { length: length as u64, limit: limit as u64 }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes are more than the limit of {}", self.length, self.limit)
    }
}

impl Error for TooLong {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_says_its_numbers() {
        let refused = TooLong::new(11, 10);
        assert_eq!(refused.to_string(), "11 bytes are more than the limit of 10");
    }
}
