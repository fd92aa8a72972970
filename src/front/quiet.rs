//! What the operator must hear of, said seldom: a client may cause any number of lines, and the
//! log must stay readable and cheap.

use std::sync::atomic::{AtomicU64, Ordering};

use log::warn;

use crate::moment::Moment;

/// Who speaks, in the operator's eyes.
const TARGET: &str = "evmux";

/// One kind of warning, at most once a second; those between two are counted and told by the next.
/// Shared by the threads of a server.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// When something was logged last, in nanoseconds, plus one; 0 for never.
    logged: AtomicU64,
    unsaid: AtomicU64,
}

impl Quiet {
    const APART: u64 = 1_000_000_000;

    /// Logs `text`, unless something of this kind was logged less than a second ago.
    pub(crate) fn warn(&self, now: Moment, text: impl FnOnce() -> String) {
        if let Some(unsaid) = self.turn(now) {
            match unsaid {
                0 => warn!(target: TARGET, "{}", text()),
                _ => {
                    warn!(target: TARGET, "{} (and {unsaid} more like it since the last such line)", text())
                }
            }
        }
    }

    /// Whether it may speak now, and how often it could not since it last did.
    fn turn(&self, now: Moment) -> Option<u64> {
        let last = self.logged.load(Ordering::Relaxed);
        let again = now.as_nanos() + 1;
        let is_early = last != 0 && again.saturating_sub(last) < Self::APART;
        let mine = !is_early
            && self
                .logged
                .compare_exchange(last, again, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            Some(self.unsaid.swap(0, Ordering::Relaxed))
        } else {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Patience;
    use std::time::Duration;

    #[test]
    fn a_warning_is_said_once_a_second_and_counts_what_was_not_said() {
        let quiet = Quiet::default();
        let at = |millis| Moment::START + Patience::new(Duration::from_millis(millis));
        assert_eq!(quiet.turn(at(0)), Some(0));
        assert_eq!(quiet.turn(at(1)), None);
        assert_eq!(quiet.turn(at(999)), None);
        assert_eq!(quiet.turn(at(1000)), Some(2));
        assert_eq!(quiet.turn(at(5000)), Some(0));
    }
}
