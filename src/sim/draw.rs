//! Where all chance in a simulated world comes from: one number, the seed.
//!
//! The generator is splitmix64, ten lines that will give the same numbers in ten years. A crate
//! would stand in the public interface, and a new version of it would change what every recorded
//! seed means.

use std::ops::RangeInclusive;

/// A seeded generator. The same seed draws the same numbers, on every machine.
///
/// ```
/// use evmux::sim::Draw;
///
/// let (mut one, mut other) = (Draw::new(7), Draw::new(7));
/// assert_eq!(one.bytes(16), other.bytes(16));
/// assert!((3..=5).contains(&one.between(3..=5)));
/// ```
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn between(&mut self, range: RangeInclusive<usize>) -> usize {
        assert!(
            !range.is_empty(),
            "there is nothing between {} and {}",
            range.start(),
            range.end()
        );
        let count = (range.end() - range.start()) as u64;
        let offset = if count == u64::MAX { self.number() } else { self.number() % (count + 1) };
        range.start() + offset as usize
    }

    /// True once in `times` draws, on average; always when `times` is 0 or 1.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.number().is_multiple_of(times.max(1))
    }

    /// One of several things.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'t, T>(&mut self, things: &'t [T]) -> &'t T {
        assert!(!things.is_empty(), "there is nothing to pick from");
        &things[self.between(0..=things.len() - 1)]
    }

    /// `count` bytes of any value.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number() as u8).collect()
    }

    /// A generator of its own: what it draws, and how often, changes nothing here.
    pub fn branch(&mut self) -> Self {
        Self(self.number())
    }

    /// Changes the order of `things`.
    pub(super) fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.between(0..=last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut draw = Draw::new(1234567);
        let numbers = [(); 3].map(|()| draw.number());
        assert_eq!(numbers, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn every_number_of_a_range_is_drawn() {
        let mut draw = Draw::new(0);
        let mut seen = [false; 4];
        for _ in 0..100 {
            seen[draw.between(2..=5) - 2] = true;
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn shuffling_loses_nothing() {
        let mut things: Vec<u32> = (0..50).collect();
        Draw::new(3).shuffle(&mut things);
        assert_ne!(things, (0..50).collect::<Vec<_>>());
        things.sort_unstable();
        assert_eq!(things, (0..50).collect::<Vec<_>>());
    }
}
