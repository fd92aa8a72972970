//! Frames that begin with their length: four bytes, the most significant one first, as `!I` of the
//! slides' `struct` packs it, then so many bytes of payload.
//!
//! ```text
//!   00 00 00 02 'h' 'i' 00 00 00 00 00 00 04
//!   header      payload empty block partial: the header is not whole
//! ```
//!
//! The length is what a stranger says. It is compared with the limit as soon as it can be read,
//! before anything is stored for it.

use super::TooLong;

/// Bytes in front of each payload.
pub const HEADER: usize = 4;

/// What stands at the front of the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// A block. Its payload is `bytes[HEADER..length]`.
    Whole {
        /// Bytes with the header: what to consume.
        length: usize,
    },
    /// The beginning of a block, or nothing.
    Partial {
        /// How many bytes must be there before it is worth looking again: those of the header, and
        /// once this is known, those of the block.
        need: usize,
    },
}

/// Looks at `bytes`: everything received that was not consumed.
///
/// ```
/// use evmux::codec::blocks::{self, Block};
///
/// assert_eq!(blocks::first(&[0, 0], 100), Ok(Block::Partial { need: 4 }));
/// assert_eq!(blocks::first(&[0, 0, 0, 2, b'h'], 100), Ok(Block::Partial { need: 6 }));
/// assert_eq!(blocks::first(&[0, 0, 0, 2, b'h', b'i'], 100), Ok(Block::Whole { length: 6 }));
/// assert!(blocks::first(&[0, 0, 0, 2], 1).is_err());
/// ```
///
/// # Errors
/// The header announces more than `limit` bytes of payload.
#[inline]
pub fn first(bytes: &[u8], limit: usize) -> Result<Block, TooLong> {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Ok(Block::Partial { need: HEADER });
    };
    let payload = u32::from_be_bytes(*header) as usize;
    if payload > limit {
        return Err(TooLong::new(payload, limit));
    }
    let length = HEADER + payload;
    Ok(if bytes.len() < length { Block::Partial { need: length } } else { Block::Whole { length } })
}

/// The header of a block with `payload` bytes.
///
/// ```
/// assert_eq!(evmux::codec::blocks::header(1234), Ok([0x00, 0x00, 0x04, 0xd2]));
/// ```
///
/// # Errors
/// Four bytes cannot say so much.
#[inline]
pub fn header(payload: usize) -> Result<[u8; HEADER], TooLong> {
    match u32::try_from(payload) {
        Ok(length) => Ok(length.to_be_bytes()),
        Err(_) => Err(TooLong::new(payload, u32::MAX as usize)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_block_without_payload() {
        assert_eq!(first(&[0, 0, 0, 0], 0), Ok(Block::Whole { length: 4 }));
    }

    #[test]
    fn the_header_alone_is_judged() {
        assert_eq!(first(&[0, 0, 0, 9], 9), Ok(Block::Partial { need: 13 }));
        assert_eq!(first(&[0, 0, 0, 9], 8), Err(TooLong { length: 9, limit: 8 }));
        let most = u64::from(u32::MAX);
        assert_eq!(first(&[0xff; 4], 8), Err(TooLong { length: most, limit: 8 }));
        let need = HEADER + u32::MAX as usize;
        assert_eq!(first(&[0xff; 4], usize::MAX), Ok(Block::Partial { need }));
    }

    #[test]
    fn a_length_past_four_bytes_has_no_header() {
        assert_eq!(header(u32::MAX as usize), Ok([0xff; 4]));
        assert!(header(u32::MAX as usize + 1).is_err());
    }
}
