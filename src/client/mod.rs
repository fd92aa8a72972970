//! The other side: what a blocking program needs in order to ask a server.
//!
//! A server waits for very many at a time; a client mostly waits for one, and then the calls of
//! `std::net` are what one wants. This module has what is missing around them, since it goes wrong
//! so often when it is written anew: one read is taken for one message, a short answer for a whole
//! one, an announced length for memory that may be had, and a client that sends everything before
//! it reads meets a server that does the same.
//!
//! | the system call's promise | here |
//! |---|---|
//! | connects to one address | [`connect`]: to each address of a name in turn |
//! | sends some of it | [`Write::write_all`](std::io::Write::write_all) of the standard library: there is nothing to add |
//! | receives some of it | [`receive_exactly`], [`receive_to_end`] |
//! | knows no messages | [`write_block`], [`read_block`]: blocks that begin with their length |
//! | sends or receives | [`exchange`], [`converse`]: both at a time |
//! | loses datagrams | [`request`]: sends again, each time after twice the delay |
//! | shows what others say | [`PacketSocket`]: the packets of an interface |
//!
//! Everything here blocks. A thread that serves connections must call none of it; [`Local`] and
//! [`Reactor`] make connections from a loop.
//!
//! # Example
//!
//! Two blocks to a server, and their answers:
//!
//! ```
//! use std::net::Shutdown;
//!
//! use evmux::client::{connect, read_block, write_block};
//! # let server = evmux::Server::builder(|_: &evmux::Peer| evmux::services::Blocks)
//! #     .listen("127.0.0.1:0").build()?.start()?;
//! # let address = server.local_addresses()[0].socket_addr().unwrap();
//!
//! let mut stream = connect(address)?;
//! write_block(&mut stream, b"first")?;
//! write_block(&mut stream, b"second")?;
//! stream.shutdown(Shutdown::Write)?;
//!
//! const LIMIT: usize = 1 << 20;
//! assert_eq!(read_block(&mut stream, LIMIT)?.as_deref(), Some(&b"FIRST"[..]));
//! assert_eq!(read_block(&mut stream, LIMIT)?.as_deref(), Some(&b"SECOND"[..]));
//! // The server has nothing more to say.
//! assert_eq!(read_block(&mut stream, LIMIT)?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Local`]: crate::Local
//! [`Reactor`]: crate::Reactor

mod connect;
mod converse;
mod frames;
mod packets;
mod request;

pub use connect::{ConnectError, connect};
pub use converse::{ConverseError, ToSend, converse, exchange};
pub use frames::{TransferError, read_block, receive_exactly, receive_to_end, write_block};
pub use packets::PacketSocket;
pub use request::{LONGEST_DATAGRAM, RequestError, RequestOptions, request};
