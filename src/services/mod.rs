//! What a server can be for its clients: the services of the binary, for anyone to run or to learn
//! from.
//!
//! Each is a handler, one connection's side of it, and the function that makes one for a peer,
//! which is the [`Service`](crate::Service). They know bytes and the time they are given: no socket,
//! no thread, no model.
//!
//! | service | what it does |
//! |---|---|
//! | [`upper`] | answers text with its upper case, as it comes |
//! | [`echo`] | answers bytes with themselves |
//! | [`discard`] | takes bytes and answers nothing |
//! | [`hello`], [`greeting`] | says a line, and closes |
//! | [`time`] | says what time it is, and closes |
//! | [`lines`] | answers each line with its upper case |
//! | [`blocks`] | the same for frames that begin with their length |
//! | [`sixteen`] | takes sixteen octets, says farewell, and closes |
//! | `json` | answers each JSON value with itself, its strings in upper case; feature `json` |
//! | `zlib` | answers all that comes compressed; feature `zlib` |
//! | [`busy`] | as `lines`, and works for each line |
//!
//! The first five are for UDP sockets too, in [`datagrams`].
//!
//! With the feature `http`, `Http` makes a service of a function from requests to responses; with
//! the feature `xmlrpc`, `xmlrpc` makes one of functions that other programs call.
//!
//! [`once`] makes a service of a stream one that answers the first bytes and closes.

mod blocks;
mod busy;
pub mod datagrams;
mod discard;
mod echo;
mod hello;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "json")]
mod json;
mod lines;
mod once;
mod say;
mod sixteen;
mod time;
mod upper;
#[cfg(feature = "xmlrpc")]
mod xmlrpc;
#[cfg(feature = "zlib")]
mod zlib;

pub use blocks::{Blocks, blocks};
pub use busy::{Busy, busy};
pub use discard::{Discard, discard};
pub use echo::{Echo, echo};
pub use hello::{greeting, hello};
#[cfg(feature = "http")]
pub use http::{Application, Body, Http, Response};
#[cfg(feature = "json")]
pub use json::{Json, json};
pub use lines::{Lines, lines};
pub use once::{Once, once};
pub use say::Say;
pub use sixteen::{Sixteen, sixteen};
pub use time::time;
pub use upper::{Upper, upper};
#[cfg(feature = "xmlrpc")]
pub use xmlrpc::{Registry, XmlRpc, xmlrpc};
#[cfg(feature = "zlib")]
pub use zlib::{Zlib, zlib};
