//! Which slot has to be looked at next because of the time.
//!
//! An entry is a hint and belongs to the slot, not to the connection in it: it says "not later
//! than this", and the connection's own deadline is the truth. So almost every change of a
//! deadline, which is a step further away with each byte that moves, costs one comparison and no
//! work in the heap. When an entry comes up too early, the caller computes the true deadline and
//! arms again. A connection that goes leaves its entry, and a new one in the slot finds it and is
//! content; there is never more than one entry a slot, so a flood of short connections with long
//! timeouts piles up nothing.
//!
//! ```text
//!   at:    [ 9s, never, 4s, 7s ]     when each slot is to be looked at
//!   heap:  [ 2, 3, 0 ]               slots, the nearest first; a binary heap
//!   place: [ 2, -, 0, 1 ]            where in the heap each slot stands
//! ```

use crate::moment::Moment;

/// One entry for each slot, 16 bytes, and the nearest of all of them.
///
/// Invariants: a slot is in `heap` exactly if its `at` is not [`Moment::NEVER`], and then
/// `heap[place[slot]] == slot`; no parent in `heap` is later than its children; `at` and `place`
/// are equally long.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: Vec<Moment>,
    place: Vec<u32>,
    heap: Vec<u32>,
}

/// The place of a slot that is not in the heap.
const NOWHERE: u32 = u32::MAX;

impl Timers {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sees to it that `slot` comes up at `at` or earlier.
    #[inline]
    pub(crate) fn arm(&mut self, slot: usize, at: Moment) {
        let entry = self.at.get(slot).copied().unwrap_or(Moment::NEVER);
        if entry > at {
            self.bring_nearer(slot, at);
        }
    }

    /// Takes out the nearest slot if its entry is not later than `now`. Its deadline may have
    /// moved since: the caller looks, and arms it again.
    ///
    /// Who takes out until nothing is left must not arm for `now` or earlier meanwhile.
    pub(crate) fn expired(&mut self, now: Moment) -> Option<usize> {
        if self.heap.is_empty() || self.next() > now {
            return None;
        }
        let slot = self.heap.swap_remove(0) as usize;
        self.at[slot] = Moment::NEVER;
        self.place[slot] = NOWHERE;
        if !self.heap.is_empty() {
            self.sink(0);
        }
        Some(slot)
    }

    /// The nearest entry, [`Moment::NEVER`] if there is none.
    #[inline]
    pub(crate) fn next(&self) -> Moment {
        self.heap.first().map_or(Moment::NEVER, |&slot| self.at[slot as usize])
    }

    #[cold]
    fn bring_nearer(&mut self, slot: usize, at: Moment) {
        if slot >= self.at.len() {
            assert!(slot < NOWHERE as usize, "slot {slot} is past the last that can be numbered");
            self.at.resize(slot + 1, Moment::NEVER);
            self.place.resize(slot + 1, NOWHERE);
        }
        self.at[slot] = at;
        if self.place[slot] == NOWHERE {
            self.heap.push(slot as u32);
            self.rise(self.heap.len() - 1);
        } else {
            self.rise(self.place[slot] as usize);
        }
    }

    /// Moves what stands at `place` towards the root until its parent is not later.
    fn rise(&mut self, mut place: usize) {
        let slot = self.heap[place];
        let at = self.at[slot as usize];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.at_place(parent) <= at {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, slot);
    }

    /// Moves what stands at `place` away from the root until no child is nearer.
    fn sink(&mut self, mut place: usize) {
        let slot = self.heap[place];
        let at = self.at[slot as usize];
        loop {
            let left = 2 * place + 1;
            if left >= self.heap.len() {
                break;
            }
            let right = left + 1;
            let right_is_nearer =
                right < self.heap.len() && self.at_place(right) < self.at_place(left);
            let child = if right_is_nearer { right } else { left };
            if at <= self.at_place(child) {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, slot);
    }

    fn at_place(&self, place: usize) -> Moment {
        self.at[self.heap[place] as usize]
    }

    fn put(&mut self, place: usize, slot: u32) {
        self.heap[place] = slot;
        self.place[slot as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    impl Timers {
        #[track_caller]
        fn check(&self) {
            assert_eq!(self.at.len(), self.place.len());
            assert_eq!(self.heap.len(), self.at.iter().filter(|at| !at.is_never()).count());
            for (place, &slot) in self.heap.iter().enumerate() {
                assert_eq!(self.place[slot as usize] as usize, place);
                assert!(self.at_place(place.saturating_sub(1) / 2) <= self.at_place(place));
            }
            for (at, &place) in self.at.iter().zip(&self.place) {
                assert_eq!(at.is_never(), place == NOWHERE);
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(usize, Moment),
        Expire(Moment),
    }

    fn step() -> impl Strategy<Value = Step> {
        let moment = || prop_oneof![9 => (0..60_u64).prop_map(at), 1 => Just(Moment::NEVER)];
        prop_oneof![
            3 => (0..20_usize, moment()).prop_map(|(slot, at)| Step::Arm(slot, at)),
            1 => moment().prop_map(Step::Expire),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_armed_comes_up_in_order_as_a_plain_list_says(
            steps in prop::collection::vec(step(), 0..200)
        ) {
            let mut timers = Timers::new();
            let mut list = [Moment::NEVER; 20];
            for step in steps {
                match step {
                    Step::Arm(slot, at) => {
                        timers.arm(slot, at);
                        list[slot] = list[slot].min(at);
                    }
                    Step::Expire(now) => {
                        let nearest = *list.iter().min().unwrap();
                        match timers.expired(now) {
                            Some(slot) => {
                                prop_assert!(nearest <= now && !nearest.is_never());
                                prop_assert_eq!(list[slot], nearest);
                                list[slot] = Moment::NEVER;
                            }
                            None => prop_assert!(nearest > now || nearest.is_never()),
                        }
                    }
                }
                timers.check();
                prop_assert_eq!(timers.next(), *list.iter().min().unwrap());
            }
        }
    }

    #[test]
    fn nothing_armed_never_comes_up() {
        let mut timers = Timers::new();
        timers.arm(3, Moment::NEVER);
        assert_eq!(timers.next(), Moment::NEVER);
        assert_eq!(timers.expired(Moment::NEVER), None);
        assert_eq!(timers.at.capacity(), 0);
    }

    #[test]
    fn a_deadline_that_moves_away_leaves_the_entry() {
        let mut timers = Timers::new();
        timers.arm(0, at(10));
        timers.arm(0, at(20));
        assert_eq!(timers.next(), at(10));
        assert_eq!(timers.expired(at(9)), None);
        assert_eq!(timers.expired(at(10)), Some(0));
        timers.arm(0, at(20));
        assert_eq!(timers.next(), at(20));
    }

    #[test]
    fn a_nearer_deadline_comes_up_once_and_in_place_of_the_later_one() {
        let mut timers = Timers::new();
        timers.arm(1, at(10));
        timers.arm(0, at(20));
        timers.arm(0, at(5));
        assert_eq!(timers.expired(at(30)), Some(0));
        assert_eq!(timers.expired(at(30)), Some(1));
        assert_eq!(timers.expired(at(30)), None);
    }

    #[test]
    fn many_short_lives_of_a_slot_leave_one_entry() {
        let mut timers = Timers::new();
        for life in 0..100_000 {
            timers.arm(7, at(60_000_000_000 + life));
        }
        assert_eq!(timers.heap, [7]);
        timers.check();
    }

    #[test]
    fn an_entry_costs_sixteen_bytes_a_slot() {
        let timers = Timers::new();
        fn size<T>(_: &[T]) -> usize {
            size_of::<T>()
        }
        assert_eq!(size(&timers.at) + size(&timers.place) + size(&timers.heap), 16);
    }

    #[test]
    #[cfg_attr(miri, ignore = "an interpreter takes an hour for a million of anything")]
    fn among_a_million_deadlines_the_next_costs_nothing_and_moving_one_away_neither() {
        const SLOTS: usize = 1_000_000;
        let mut timers = Timers::new();
        // Multiplied by a prime, the deadlines come in no order that would suit a heap.
        let deadline = |slot: usize| at((slot * 7_919 % SLOTS) as u64 + 1);
        for slot in 0..SLOTS {
            timers.arm(slot, deadline(slot));
        }
        timers.check();

        // The clock is asked, since the cost is the claim: a look at each of the million slots
        // would be 10^10 steps, which no machine makes in the time allowed.
        let before = timers.heap.clone();
        let start = Instant::now();
        for round in 0..10_000 {
            assert_eq!(std::hint::black_box(&timers).next(), at(1));
            timers.arm(round, deadline(round) + Duration::from_secs(1).into());
        }
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(timers.heap, before);

        let mut last = Moment::START;
        for _ in 0..SLOTS {
            let nearest = timers.next();
            assert!(nearest >= last);
            last = nearest;
            assert!(timers.expired(Moment::NEVER).is_some());
        }
        assert_eq!(timers.expired(Moment::NEVER), None);
    }
}
