//! How often a number had which size: what an average hides.
//!
//! The bounds go 1, 2, 5, 10, 20, 50: fine enough to see that a turn took milliseconds and not
//! microseconds, and few enough that a record is a short search and two stores. They are the same
//! for every thread, so distributions are added by adding their counts.

use std::array;
use std::ops::AddAssign;

use crate::counters::Counter;

/// The first bound of each step of ten, times 1, 2 and 5.
const BOUNDS: [u64; 24] = {
    let mut bounds = [0; 24];
    let mut index = 0;
    let mut ten = 1;
    while index < bounds.len() {
        bounds[index] = ten;
        bounds[index + 1] = 2 * ten;
        bounds[index + 2] = 5 * ten;
        index += 3;
        ten *= 10;
    }
    bounds
};

/// Counts up a distribution; one thread does.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// One more than there are bounds: what is larger than all of them.
    counts: [Counter; BOUNDS.len() + 1],
    sum: Counter,
}

impl Tally {
    #[inline]
    pub(crate) fn record(&self, value: u64) {
        self.counts[BOUNDS.partition_point(|bound| *bound < value)].increment();
        self.sum.add(value);
    }

    pub(super) fn snapshot(&self) -> Distribution {
        let counts = array::from_fn(|index| self.counts[index].value());
        Distribution { counts, sum: self.sum.value() }
    }
}

/// How often a number had which size. In the unit of the number.
///
/// ```
/// use evmux::Snapshot;
///
/// let turns = Snapshot::default().turn_micros;
/// assert_eq!(turns.count(), 0);
/// assert!(turns.up_to().all(|(_bound, count)| count == 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    counts: [u64; BOUNDS.len() + 1],
    sum: u64,
}

impl Distribution {
    /// How many numbers there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Each bound, in rising order, with how many numbers were not larger. The count of all is
    /// [`count`](Distribution::count).
    pub fn up_to(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        BOUNDS.into_iter().zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    /// The smallest bound that at least this share of the numbers, from 0 to 1, does not exceed:
    /// 0.99 for the 99th percentile, rounded up to 1, 2 or 5 of a power of ten. `None` when there
    /// are no numbers, or it is larger than the last bound.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let all = self.count();
        let rank = ((all as f64 * share).ceil() as u64).max(1);
        self.up_to().find(|(_, count)| *count >= rank).map(|(bound, _)| bound).filter(|_| all > 0)
    }
}

impl AddAssign<&Self> for Distribution {
    fn add_assign(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_under_the_first_bound_that_holds_it() {
        let tally = Tally::default();
        for value in [0, 1, 2, 3, 5, 6, 50_000_000, 50_000_001] {
            tally.record(value);
        }
        let distribution = tally.snapshot();
        let counts: Vec<_> = distribution.up_to().take(4).collect();
        assert_eq!(counts, [(1, 2), (2, 3), (5, 5), (10, 6)]);
        assert_eq!(distribution.up_to().last(), Some((50_000_000, 7)));
        assert_eq!(distribution.count(), 8);
        assert_eq!(distribution.sum(), 100_000_018);
    }

    #[test]
    fn a_quantile_is_the_bound_that_so_many_do_not_exceed() {
        let tally = Tally::default();
        for _ in 0..99 {
            tally.record(3);
        }
        tally.record(900);
        let distribution = tally.snapshot();
        assert_eq!(distribution.quantile(0.5), Some(5));
        assert_eq!(distribution.quantile(0.99), Some(5));
        assert_eq!(distribution.quantile(0.995), Some(1000));
        assert_eq!(Distribution::default().quantile(0.5), None);
    }
}
