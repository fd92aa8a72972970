//! The clocks that services are given: they have none of their own.

use std::hint;
use std::time::Duration;

use jiff::Zoned;
use rustix::time::{ClockId, clock_gettime};

/// The local time as C's ctime writes it, with its line feed: `Thu Jun 17 19:49:58 2010`.
pub(crate) fn local_time() -> String {
    ctime(&Zoned::now())
}

fn ctime(time: &Zoned) -> String {
    time.strftime("%a %b %e %H:%M:%S %Y\n").to_string()
}

/// Keeps the processor busy until this thread has used `cost` of its time. A thread that has to
/// wait for a processor takes longer, as it would over real work.
pub(crate) fn use_processor(cost: Duration) {
    let start = thread_time();
    while thread_time().saturating_sub(start) < cost {
        // Asking for the time is a system call; most of the work should be the program's own.
        for step in 0..1000 {
            hint::black_box(step);
        }
    }
}

/// The processor time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_time_is_written_as_ctime_writes_it() {
        let time = local_time();
        // Thu Jun 17 19:49:58 2010
        assert_eq!(time.len(), 25, "{time:?}");
        assert!(time.ends_with('\n'));
        let day = &time[8..10];
        assert!(day.starts_with([' ', '1', '2', '3']), "{day:?} is not padded with a space");
    }

    #[test]
    fn what_is_asked_of_the_processor_is_used() {
        let cost = Duration::from_millis(20);
        let before = thread_time();
        use_processor(cost);
        assert!(thread_time() - before >= cost);
    }

    #[test]
    fn the_day_of_the_month_is_padded_with_a_space() {
        let at = |text: &str| ctime(&text.parse().expect("a time"));
        assert_eq!(at("2010-06-17T19:49:58[UTC]"), "Thu Jun 17 19:49:58 2010\n");
        assert_eq!(at("2026-11-01T00:00:09+05:30[Asia/Kolkata]"), "Sun Nov  1 00:00:09 2026\n");
    }
}
