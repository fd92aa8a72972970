//! HTTP/1.0 and HTTP/1.1 as a server reads them: where a request ends.
//!
//! ```text
//!   POST /RPC2 HTTP/1.1 CR LF            a line, then headers
//!   Host: example.org CR LF
//!   Content-Length: 5 CR LF              or Transfer-Encoding: chunked, or nothing: no body
//!   CR LF
//!   h e l l o                            or 5 CR LF h e l l o CR LF 0 CR LF CR LF
//!   GET / HTTP/1.1 ...                   the next one may stand behind it at once
//! ```
//!
//! The head is read by httparse, the framing of bodies here. Proxies and servers that disagree
//! about where a request ends can be made to see a request where the other saw a body. So what can
//! be read in two ways is refused, even where RFC 9112 would let it pass: a length and chunks, two
//! lengths that are the same, a line feed alone between chunks. Only in the head, where it moves no
//! border, may a line end with a line feed alone: people type such lines.
//!
//! Nothing is stored on a header's word, and nothing is scanned twice because it trickles in.

mod chunks;
mod request;
mod requests;

pub use request::Request;
pub use requests::{Next, Refused, Requests};

/// Bytes that a head may have, its last blank line included. As many may go with the chunks of a
/// body, for extensions and trailers.
pub const MAX_HEAD: usize = 64 * 1024;

/// Headers that a head may have.
pub const MAX_HEADERS: usize = 100;
