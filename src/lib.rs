//! One connection, one handler; a front end is only a way of waiting.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("evmux runs on 64-bit Linux only: it waits with epoll, timerfd and eventfd");

mod buffer;
pub mod codec;
mod connection;
mod counters;
mod error;
mod front;
mod handler;
mod kernel;
mod lent;
mod limits;
mod local;
mod mailbox;
mod moment;
mod net;
mod server;
pub mod services;
mod stop;
mod sys;
mod timers;
mod transfer;

pub use buffer::{Outgoing, Received};
pub use connection::{Connection, Wants};
pub use counters::Snapshot;
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
pub use server::{Builder, LocalAddress, Running, Server};
pub use stop::{Phase, Stop};
pub use sys::raise_descriptor_limit;
