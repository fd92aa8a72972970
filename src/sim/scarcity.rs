//! Memory that is refused: storage for bytes that must wait cannot be had, and the connection that
//! needs it is cut. Nothing else may come of it.
//!
//! The library reserves storage in one place, where a buffer grows, and asks there. Which connection
//! it was for is known by how that one ends: there must be as many cut for it as were refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::buffer::Memory;

use super::Draw;

/// Which reservations of a world are refused. They are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scarcity {
    /// This one, or all from this one on.
    Nth { number: u64, from_then_on: bool },
    /// One in so many, by chance.
    OneIn(u64),
}

/// What was asked for and refused. Limits are shared by threads, and so is what stands in them.
#[derive(Debug)]
pub(super) struct Reservations {
    scarcity: Scarcity,
    draw: AtomicU64,
    is_over: AtomicBool,
    made: AtomicU64,
    refused: AtomicU64,
}

impl Reservations {
    pub(super) fn new(scarcity: Scarcity, draw: &mut Draw) -> Arc<Self> {
        Arc::new(Self {
            scarcity,
            draw: AtomicU64::new(draw.number()),
            is_over: AtomicBool::new(false),
            made: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    pub(super) fn memory(self: &Arc<Self>) -> Memory {
        let reservations = Arc::clone(self);
        Memory { refuses: Some(Arc::new(move || reservations.refuses())) }
    }

    fn refuses(&self) -> bool {
        let number = self.made.fetch_add(1, Relaxed) + 1;
        let is_refused = !self.is_over.load(Relaxed)
            && match self.scarcity {
                Scarcity::Nth { number: nth, from_then_on } => {
                    number == nth || from_then_on && number > nth
                }
                Scarcity::OneIn(times) => {
                    let mut draw = Draw::new(self.draw.load(Relaxed));
                    let strikes = draw.one_in(times);
                    self.draw.store(draw.number(), Relaxed);
                    strikes
                }
            };
        self.refused.fetch_add(u64::from(is_refused), Relaxed);
        is_refused
    }

    /// From now on there is enough.
    pub(super) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    pub(super) fn made(&self) -> u64 {
        self.made.load(Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}
