//! The library on real sockets: one body for each claim, run under every way of waiting.
//!
//! A test is named `claim::model`. What is timed here is only what the kernel makes real; whatever
//! can be said without a clock is said in the simulation. Every wait is bounded, by
//! [`support::PATIENCE`], and says what it waited for.

#[path = "../support/mod.rs"]
#[macro_use]
mod support;

mod admission;
mod attended;
mod bytes;
mod drain;
mod exhaustion;
mod finish;
mod limits;
mod memory;
mod outgoing;
mod panics;
mod reactors;
mod sharing;
mod trace;
mod turns;
mod unix;
mod watch;
