//! Where a run took place, and what it took of the processors: a figure without its machine is
//! worth nothing, and neither is one whose generator was the bottleneck.

use std::fs;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys;

/// The machine, as the kernel describes it. What it does not say is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Machine {
    /// `Linux` and its release.
    pub kernel: String,
    /// The name of the processor.
    pub cpu: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// What the clock is read from: `tsc`, `kvm-clock`, `hpet`.
    pub clock: String,
    /// Whether this program was built with optimisation: without, it measures itself.
    pub optimized: bool,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let line =
            |path| fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default();
        let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        Self {
            kernel: format!("Linux {}", line("/proc/sys/kernel/osrelease")),
            cpu: model(&line("/proc/cpuinfo")),
            cpus: allowed().len(),
            clock: line(clock),
            optimized: !cfg!(debug_assertions),
        }
    }
}

fn model(text: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == "model name")
        .map_or_else(String::new, |(_, model)| model.trim().to_string())
}

/// What the generator's thread used while it measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OwnUsage {
    /// Its processor time in the program, in nanoseconds.
    pub user_ns: u64,
    /// Its processor time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Its share of one processor, from 0 to 1.
    pub share: f64,
    /// How busy the processors were that it may use, with whatever else ran on them, from 0 to 1;
    /// none when the kernel does not say.
    pub processors: Option<f64>,
    /// How often it waited.
    pub waits: u64,
    /// How often its processor was taken from it.
    pub preemptions: u64,
}

/// The clocks of processors at one time, to be compared with a later one.
#[derive(Debug)]
pub(super) struct Meter {
    own: sys::Usage,
    cpus: Option<Ticks>,
}

impl Meter {
    pub(super) fn read() -> io::Result<Self> {
        Ok(Self { own: sys::thread_usage()?, cpus: Ticks::read() })
    }

    /// What was used since, in `elapsed` of real time.
    pub(super) fn since(&self, elapsed: Duration) -> io::Result<OwnUsage> {
        let now = Self::read()?;
        let user = now.own.user.saturating_sub(self.own.user);
        let system = now.own.system.saturating_sub(self.own.system);
        let share = (user + system).as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
        Ok(OwnUsage {
            user_ns: user.as_nanos() as u64,
            system_ns: system.as_nanos() as u64,
            share: share.min(1.0),
            processors: self.cpus.zip(now.cpus).and_then(|(before, now)| now.busy_since(before)),
            waits: now.own.waits - self.own.waits,
            preemptions: now.own.preemptions - self.own.preemptions,
        })
    }
}

/// The ticks of all processors that this process may use together.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    fn read() -> Option<Self> {
        Self::of(&fs::read_to_string("/proc/stat").ok()?, &allowed())
    }

    /// Those of `cpus`, from the text of /proc/stat: proc_stat(5).
    fn of(text: &str, cpus: &[usize]) -> Option<Self> {
        let mut sum = Self { idle: 0, all: 0 };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let cpu = words.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
            if !cpu.is_some_and(|cpu| cpus.contains(&cpu)) {
                continue;
            }
            // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
            let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
            sum.idle += ticks.get(3)? + ticks.get(4)?;
            sum.all += ticks.iter().sum::<u64>();
        }
        (sum.all > 0).then_some(sum)
    }

    /// In a time shorter than some ticks nothing can be said.
    fn busy_since(self, before: Self) -> Option<f64> {
        const FEWEST: u64 = 20;
        let all = self.all.checked_sub(before.all).filter(|all| *all >= FEWEST)?;
        let idle = self.idle.saturating_sub(before.idle);
        Some((1.0 - idle as f64 / all as f64).clamp(0.0, 1.0))
    }
}

/// The processors that the calling thread may use.
fn allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    ranges(list.unwrap_or_default().trim())
}

/// The numbers of `0-2,5`.
fn ranges(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(ranges("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(ranges("1"), [1]);
        assert_eq!(ranges(""), [0; 0]);
        assert!(!allowed().is_empty());
    }

    #[test]
    fn only_the_processors_that_may_be_used_count() {
        let text =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 0 0 90 0 0 0 0 0 0\ncpu1 1 2 3 4 5 6 7 8 9 9\n";
        assert_eq!(Ticks::of(text, &[0]), Some(Ticks { idle: 90, all: 100 }));
        assert_eq!(Ticks::of(text, &[0, 1]), Some(Ticks { idle: 99, all: 136 }));
        assert_eq!(Ticks::of(text, &[7]), None);
        let before = Ticks { idle: 0, all: 0 };
        assert_eq!(Ticks { idle: 25, all: 100 }.busy_since(before), Some(0.75));
        assert_eq!(Ticks { idle: 1, all: 2 }.busy_since(before), None);
    }

    #[test]
    fn this_machine_has_a_kernel_and_processors() {
        let machine = Machine::here();
        assert!(machine.kernel.starts_with("Linux "));
        assert!(machine.cpus > 0);
        assert_eq!(machine.optimized, !cfg!(debug_assertions));
    }
}
