//! When the next request is due, and whether there is one.
//!
//! In the open loop the plan is a line of moments, `start + i / rate`, and the schedule is a place
//! on it. However late the generator is, it takes them one by one: none is left out, since the
//! requests that a stall would have hit are those that matter (Gil Tene calls leaving them out
//! *coordinated omission*). What cannot be sent within the timeout is given up, and counted.

use std::time::Duration;

use super::plan::{Plan, Until};
use crate::moment::{Moment, Patience};

#[derive(Debug)]
pub(super) struct Schedule {
    /// Nanoseconds between two requests; none in the closed loop.
    interval: Option<f64>,
    until: Until,
    /// When the warm-up begins; the plan's line starts there.
    start: Moment,
    /// When it is over: what is due from here on is measured.
    pub(super) measured_from: Moment,
    /// What is due from here on is nobody's business; [`Moment::NEVER`] while only the number of
    /// requests says when it is enough.
    pub(super) end: Moment,
    /// How many were taken, the warm-up's included.
    taken: u64,
    /// How many of those are measured.
    pub(super) measured: u64,
}

impl Schedule {
    /// One on which nothing is due before [`begin`](Self::begin).
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            interval: plan.pacing.rate().map(|rate| 1e9 / rate),
            until: plan.until,
            start: Moment::NEVER,
            measured_from: Moment::NEVER,
            end: Moment::NEVER,
            taken: 0,
            measured: 0,
        }
    }

    pub(super) fn begin(&mut self, now: Moment, warmup: Duration) {
        self.start = now;
        self.measured_from = now + Patience::new(warmup);
        if let Until::Duration(duration) = self.until {
            self.end = self.measured_from + Patience::new(duration);
        }
    }

    /// Nothing is due any more.
    pub(super) fn stop(&mut self) {
        self.start = Moment::NEVER;
    }

    /// When the next request is or was due: at [`Moment::START`] in the closed loop, where it
    /// always is; never, if there is none.
    #[inline]
    pub(super) fn next(&self) -> Moment {
        let enough = matches!(self.until, Until::Requests(most) if self.measured >= most);
        if self.start.is_never() || enough {
            return Moment::NEVER;
        }
        let Some(interval) = self.interval else { return Moment::START };
        let nanos = (self.taken as f64 * interval) as u64;
        let planned = Moment::from_nanos(self.start.as_nanos().saturating_add(nanos));
        if planned < self.end { planned } else { Moment::NEVER }
    }

    /// Takes the next request, if it is due at `now`, and says when it was due.
    #[inline]
    pub(super) fn take(&mut self, now: Moment) -> Option<Moment> {
        let next = self.next();
        let none = next > now || next.is_never();
        if none || (self.interval.is_none() && now >= self.end) {
            return None;
        }
        let planned = if self.interval.is_some() { next } else { now };
        self.taken += 1;
        self.measured += u64::from(planned >= self.measured_from);
        Some(planned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::Pacing;

    const SECOND: u64 = 1_000_000_000;

    fn schedule(pacing: Pacing, until: Until, warmup: u64) -> Schedule {
        let plan = Plan { pacing, until, ..Plan::new("127.0.0.1:9".parse().unwrap()) };
        let mut schedule = Schedule::new(&plan);
        assert!(schedule.next().is_never());
        schedule.begin(at(10 * SECOND), Duration::from_nanos(warmup));
        schedule
    }

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn a_late_generator_leaves_nothing_out() {
        let open = Pacing::Open { rate: 100.0 };
        let mut schedule = schedule(open, Until::Duration(Duration::from_secs(1)), 0);
        // It sleeps through all of it, and an hour more.
        let late = at(3600 * SECOND);
        let planned: Vec<_> = std::iter::from_fn(|| schedule.take(late)).collect();
        assert_eq!(planned.len(), 100);
        for (index, planned) in planned.iter().enumerate() {
            assert_eq!(*planned, at(10 * SECOND + index as u64 * SECOND / 100));
        }
        assert!(schedule.next().is_never());
        assert_eq!(schedule.take(Moment::NEVER), None);
        assert_eq!(schedule.measured, 100);
    }

    #[test]
    fn nothing_is_sent_before_it_is_due() {
        let open = Pacing::Open { rate: 10.0 };
        let mut schedule = schedule(open, Until::Requests(2), 0);
        assert_eq!(schedule.take(at(10 * SECOND)), Some(at(10 * SECOND)));
        assert_eq!(schedule.take(at(10 * SECOND + SECOND / 10 - 1)), None);
        assert_eq!(schedule.next(), at(10 * SECOND + SECOND / 10));
        assert!(schedule.take(at(10 * SECOND + SECOND / 10)).is_some());
        assert_eq!(schedule.take(at(99 * SECOND)), None);
    }

    #[test]
    fn the_warm_up_is_not_measured_and_does_not_count() {
        for pacing in [Pacing::Closed, Pacing::Open { rate: 10.0 }] {
            let mut schedule = schedule(pacing, Until::Requests(1), SECOND / 2);
            for step in 0..5 {
                assert!(schedule.take(at(10 * SECOND + step * SECOND / 10)).is_some());
                assert_eq!(schedule.measured, 0, "{step}");
            }
            assert!(schedule.take(at(10 * SECOND + SECOND / 2)).is_some());
            assert_eq!(schedule.measured, 1);
            assert_eq!(schedule.take(at(11 * SECOND)), None);
        }
    }

    #[test]
    fn the_closed_loop_is_due_whenever_one_is_free_until_its_end() {
        let until = Until::Duration(Duration::from_secs(1));
        let mut schedule = schedule(Pacing::Closed, until, 0);
        for _ in 0..3 {
            assert_eq!(schedule.take(at(10 * SECOND + 5)), Some(at(10 * SECOND + 5)));
        }
        assert_eq!(schedule.take(at(11 * SECOND)), None);
    }

    #[test]
    fn what_was_stopped_stays_stopped() {
        let mut schedule = schedule(Pacing::Closed, Until::Requests(9), 0);
        schedule.stop();
        assert_eq!(schedule.take(at(99 * SECOND)), None);
    }
}
