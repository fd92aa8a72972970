//! The line that moves on a terminal while a run goes on.
//!
//! It is handed to the queue of stderr and never waited for: a terminal that is stopped does not
//! stop the generator.

use std::time::Duration;

use evmux::load::{Interim, Phase, Second};

use super::summary::time;
use crate::line_queue::LineQueue;

pub(super) struct LiveLine {
    terminal: LineQueue,
    /// What the last whole second was like.
    second: String,
}

/// To the beginning of the line, and the line empty.
const CLEAR: &str = "\r\x1b[K";

impl LiveLine {
    pub(super) fn new(terminal: LineQueue) -> Self {
        Self { terminal, second: String::new() }
    }

    pub(super) fn note(&mut self, second: &Second<'_>) {
        let felt = second.times.felt();
        let rate = felt.len() as f64 / second.length.as_secs_f64().max(1e-9);
        let at = |quantile| time(felt.value_at_quantile(quantile));
        self.second = format!("  {rate:.0}/s  p50 {}  p99 {}", at(0.5), at(0.99));
    }

    pub(super) fn draw(&mut self, interim: &Interim) {
        let what = match interim.phase {
            Phase::Connecting => "connecting",
            Phase::WarmingUp => "warming up",
            Phase::Measuring => "measuring",
            Phase::Finishing => "waiting for the last replies",
        };
        let left = match interim.left {
            Some(left) if interim.phase == Phase::Measuring => {
                format!("  {} left", humantime::format_duration(whole_seconds(left)))
            }
            _ => String::new(),
        };
        let (connections, errors) = (interim.connections, interim.errors.total());
        let second = &self.second;
        let line =
            format!("{CLEAR}{what}: {connections} connections{second}  {errors} errors{left}");
        self.terminal.push(line.as_bytes());
    }

    pub(super) fn clear(&mut self) {
        self.terminal.push(CLEAR.as_bytes());
    }
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs_f64().ceil() as u64)
}
