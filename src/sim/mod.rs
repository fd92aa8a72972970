//! A simulated world, to test a handler in: seeded, with a clock of its own, and unkind.
//!
//! A handler that passes its unit tests meets things in service that no test sends it: a frame
//! that comes byte by byte, a peer that reads nothing, a reset between two answers, a drain in the
//! middle of a request. Here a [`Simulation`] runs the real readiness loop over a kernel that is
//! made of one random number, the seed. The same seed is the same world, so that what went wrong
//! once goes wrong again under a debugger; an hour of timeouts takes a millisecond.
//!
//! ```
//! use evmux::sim::{self, Draw, Script};
//! use evmux::{Exchange, Flow, Handler, Peer};
//!
//! /// The handler to be tested: answers each line in capitals.
//! struct Shout;
//!
//! impl Handler for Shout {
//!     fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
//!         while let Some(end) = exchange.received.iter().position(|byte| *byte == b'\n') {
//!             if exchange.to_send.is_full() {
//!                 return Flow::Again;
//!             }
//!             exchange.received[..end].make_ascii_uppercase();
//!             exchange.to_send.append_received(&mut exchange.received, end + 1);
//!         }
//!         Flow::Continue
//!     }
//! }
//!
//! /// What a client may say, and what it must be answered: the oracle.
//! fn lines(draw: &mut Draw) -> Script {
//!     let mut script = Script::new();
//!     for _ in 0..draw.between(0..=10) {
//!         let word = *draw.pick(&["a", "hello", "world"]);
//!         script = script.says(
//!             format!("{word}\n").as_bytes(),
//!             format!("{}\n", word.to_uppercase()).as_bytes(),
//!         );
//!     }
//!     script
//! }
//!
//! // 200 worlds; in each a few clients of any manner, and some of the faults.
//! sim::check(|_: &Peer| Shout, 0..200, lines);
//! ```
//!
//! When a seed fails, the panic names it, tells what the world was like and what happened last,
//! and leaves out the clients and faults that it fails without. `EVMUX_SIM_SEED=<seed>` in the
//! environment makes [`check`] run that one alone; `EVMUX_SIM_CLIENTS` and `EVMUX_SIM_FAULTS`, which
//! the panic names, too, keep a part of its world.
//!
//! In half of the worlds things go wrong until the end: nothing may be broken at any step. In the
//! others they go wrong up to some call and never again, and then everything must finish: a fault
//! that happens to wake a loop that has lost its way helps it no longer.
//!
//! # What is asserted
//! - Every byte that a client gets is the right one. A client that does its part gets all of its
//!   answers and then the end: it is not forgotten, not reset, not ended by a deadline.
//! - After a drain, what had come before it is answered.
//! - A handler is opened first and told of its end once; it sees all that was received, and is
//!   called when it asked to be.
//! - What waits for a connection stays within the limits. Nothing is left when the server has
//!   ended, and the counters agree with what happened.
//! - A connection that can go on has its turn after at most one budget of every other one.
//! - The loop never spins, and sleeps whenever it can; no deadline passes unheeded, and none ends a
//!   connection before it has passed.
//!
//! # Limits
//! One thread. The kernel is simulated, TCP is not: no packet is lost, since the kernel hides that
//! from a server anyhow. A client says what its script says and not what depends on an answer.
//! Other threads send messages, the server calls clients, and datagrams come where
//! [`Simulation::messages`], [`outgoing`](Simulation::outgoing) and
//! [`datagrams`](Simulation::datagrams) say so.

mod client;
mod datagrams;
mod draw;
mod failing;
mod fairness;
mod faults;
mod judge;
mod kernel;
mod messages;
mod options;
mod outgoing;
mod play;
mod scarcity;
mod shrink;
mod simulation;
mod sockets;
mod waiting;
mod watch;
mod wire;
mod world;

pub use client::{Client, Leaving, Reading, Script, Writing};
pub use draw::Draw;
pub use failing::FailedCall;
pub use faults::{Fault, Faults};
pub use options::Trigger;
pub use simulation::{Failure, Report, Simulation, check};
