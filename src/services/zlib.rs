//! Compression: everything that a client sends comes back as one zlib stream (RFC 1950), whose end
//! is the client's end.
//!
//! What comes is compressed as it comes, and answered as soon as the compressor lets go of it, so
//! neither the input nor the output is ever held whole. What a connection holds is the compressor:
//! a window of the last 32 KiB, tables of what was seen where in it, and a block of output. It is
//! made with the first byte, so a client that says nothing costs nothing.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::{Exchange, Flow, Handler, Peer, Violation};

/// Answers everything until the peer's end, compressed.
///
/// All of it is one frame: it is limited by [`Limits::max_frame`](crate::Limits::max_frame), past
/// which the stream breaks off without its end, and so every decompressor sees that it is not
/// whole; and it has the time of [`Limits::frame_timeout`](crate::Limits::frame_timeout).
#[derive(Debug, Default)]
pub struct Zlib {
    encoder: Option<Box<Encoder>>,
}

type Encoder = ZlibEncoder<Vec<u8>>;

/// All that comes, compressed.
pub fn zlib(_: &Peer) -> Zlib {
    Zlib::default()
}

impl Handler for Zlib {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.partial(true);
        let encoder = self.encoder.get_or_insert_with(new_encoder);
        let (count, limit) = (exchange.received.len(), exchange.max_frame() as u64);
        let length = encoder.total_in() + count as u64;
        if length > limit {
            self.encoder = None;
            return Flow::Refuse(Violation::TooLong { length, limit });
        }
        let compressed = compress(encoder, exchange);
        exchange.received.consume(count);
        done(compressed, Flow::Continue)
    }

    /// The end of nothing is an empty stream, which has a head and an end, too.
    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let encoder = self.encoder.take().unwrap_or_else(new_encoder);
        let last = encoder.finish().map(|last| exchange.to_send.append(&last));
        done(last, Flow::Close)
    }
}

fn new_encoder() -> Box<Encoder> {
    Box::new(ZlibEncoder::new(Vec::new(), Compression::default()))
}

/// Compresses what was received, and answers what came out.
fn compress(encoder: &mut Encoder, exchange: &mut Exchange<'_>) -> io::Result<()> {
    encoder.write_all(&exchange.received)?;
    exchange.to_send.append(encoder.get_ref());
    encoder.get_mut().clear();
    Ok(())
}

/// Writing to memory does not fail, and a compressor takes any bytes; if it is ever otherwise, half
/// a stream must not look like a whole one.
fn done(result: io::Result<()>, flow: Flow) -> Flow {
    match result {
        Ok(()) => flow,
        Err(_) => Flow::Abort,
    }
}
