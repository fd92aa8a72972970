//! Serves very many stream connections from one thread, and the same handlers under the classic ways of
//! waiting beside it.
//!
//! One connection, one [`Handler`]: bytes come in, answers go out, and a [`Flow`] says what the
//! handler waits for next. How to wait for many clients at a time is another matter, and a word:
//! a [`Model`]. A [`Server`] puts the two together.
//!
//! # Example
//!
//! A handler that answers text in upper case, served by one thread with epoll:
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{Shutdown, TcpStream};
//!
//! use evmux::{Exchange, Flow, Handler, Model, Peer, Server};
//!
//! struct Shout;
//!
//! impl Handler for Shout {
//!     fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
//!         // The received bytes may be rewritten where they are, and be the answer.
//!         exchange.received.make_ascii_uppercase();
//!         let count = exchange.received.len();
//!         exchange.to_send.append_received(&mut exchange.received, count);
//!         Flow::Continue
//!     }
//! }
//!
//! let server = Server::builder(|_: &Peer| Shout)
//!     .model(Model::Epoll)
//!     .listen("127.0.0.1:0")
//!     .build()?
//!     .start()?;
//!
//! # (|| -> std::io::Result<()> {
//! let address = server.local_addresses()[0].socket_addr().unwrap();
//! let mut client = TcpStream::connect(address)?;
//! client.write_all(b"hello")?;
//! client.shutdown(Shutdown::Write)?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert_eq!(answer, "HELLO");
//! # Ok(())
//! # })().unwrap();
//!
//! server.stop().drain();
//! let counted = server.join()?;
//! assert_eq!(counted.bytes_sent, 5);
//! # Ok::<(), evmux::Error>(())
//! ```
//!
//! # What is where
//!
//! - [`Handler`], [`Exchange`], [`Flow`], [`Service`]: what one writes.
//! - [`Server`], [`Builder`], [`Running`], [`Stop`]: what one runs.
//! - [`Mailbox`], [`Handle`]: how other threads speak to connections. [`Local`], [`Reactor`]: a loop on
//!   the caller's own thread, outgoing connections, and a loop inside another.
//! - [`Limits`], [`CloseReason`], [`Snapshot`]: what a connection may use, why it ended, what was
//!   counted.
//! - [`services`], [`codec`]: handlers that are ready, and what they are made of.
//! - [`client`]: for blocking programs that ask a server.
//! - [`Connection`], [`Lent`], [`Answer`], [`Wants`]: a connection without any I/O, for who drives
//!   it with sockets of an own, or in a test without any.
//!
//! # Why so
//!
//! **Bytes, not streams.** A handler gets slices and returns what it waits for. It cannot block,
//! cannot forget a short write, and cannot be called while it is being called. The same handler
//! runs under every model, and in a unit test with [`Connection`] alone.
//!
//! **Buffers are lent.** A serving thread has one input buffer and one output buffer, and lends
//! them for a call. A connection owns storage only while bytes wait in it: an idle one holds none.
//! What is answered in place is neither copied nor allocated between recv and send.
//!
//! **Time is an argument.** Nothing at or below the connection asks a clock; deadlines are data.
//!
//! **Closing is a state.** An orderly close is our FIN behind the last answer, and then input is
//! discarded until the peer has finished, too: no answer is lost to a reset. Only a cut resets.
//!
//! **How a connection ends is no error.** It is a [`CloseReason`], counted and logged in one place.
//! An [`Error`] is what keeps a server from starting or from going on.
//!
//! # Limits
//!
//! Waiting bytes, frames, connections and times all have a bound; [`Limits`] and [`Builder`] name
//! them and their defaults. A handler that computes for long holds up whom it shares a thread
//! with: under [`Model::Poll`] and [`Model::Epoll`], everybody.
//!
//! 64-bit Linux; TCP and Unix stream sockets. No TLS, no UDP, no names looked up while
//! serving.
//! The library starts no thread that it was not asked for, installs no signal handler, prints
//! nothing and never ends the process.
//!
//! # Features
//!
//! `default` is `cli`, the program `evmux` with all that it needs. Who embeds the library writes
//! `default-features = false`. `sim` is a simulated world to test a handler in; `json` and `zlib` are
//! the services of these names; `http` serves a function from requests to responses; `xmlrpc` reads
//! and writes calls; `load` is a load generator that compares every byte.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("evmux runs on 64-bit Linux only: it waits with epoll, timerfd and eventfd");

mod buffer;
pub mod client;
pub mod codec;
mod connection;
mod counters;
mod datagram;
mod error;
mod front;
mod handler;
mod kernel;
mod lent;
mod limits;
#[cfg(feature = "load")]
pub mod load;
mod local;
mod mailbox;
mod moment;
mod net;
mod reactor;
mod server;
pub mod services;
#[cfg(feature = "sim")]
pub mod sim;
mod stop;
mod sys;
mod timers;
pub mod trace;
mod transfer;
mod watch;
mod witness;

pub use buffer::{Outgoing, Received};
pub use connection::{Connection, Stage, Wants};
pub use counters::{Distribution, Snapshot, Thread};
pub use datagram::{Datagram, DatagramHandler, Reply};
pub use error::Error;
pub use front::{Balance, Model, UnknownModel};
pub use handler::{ConnectionId, Exchange, Flow, Handler, Peer, PeerAddress, Service, Violation};
pub use lent::{Answer, Lent};
pub use limits::{CloseReason, Limits, Overflow};
pub use local::{ConnectOptions, Local, Target};
pub use mailbox::{Handle, Mailbox, PostError};
pub use moment::{Moment, Patience};
pub use net::address::{Address, AddressError, AddressProblem};
pub use net::listener::ListenOptions;
pub use reactor::{Next, Reactor};
pub use server::{Builder, LocalAddress, Running, Server};
pub use stop::{Phase, Stop};
pub use sys::raise_descriptor_limit;
pub use watch::Watch;
pub use witness::OpenConnection;

// The program in the README is compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// And those in docs/embedding.md, some of which need features.
#[cfg(all(doctest, feature = "sim", feature = "xmlrpc"))]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
