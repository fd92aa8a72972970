//! Medians with their spread, and on what machine they were taken.

use std::fmt;
use std::fs;
use std::process::Command;

use super::child;

/// The median of several figures and the quartiles beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

pub(crate) fn spread(figures: impl IntoIterator<Item = f64>) -> Spread {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| {
        let place = part * (figures.len() - 1) as f64;
        let (below, above) = (figures[place.floor() as usize], figures[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    Spread { low: at(0.25), median: at(0.5), high: at(0.75) }
}

impl fmt::Display for Spread {
    /// The median, and in brackets the quartiles. The precision is that of the format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = f.precision().unwrap_or(0);
        let Self { low, median, high } = self;
        let width = f.width().unwrap_or(0);
        let text = format!("{median:.places$} ({low:.places$}–{high:.places$})");
        write!(f, "{text:>width$}")
    }
}

/// The machine, in one line.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let name = info.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let version = Command::new("rustc").arg("-V").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let load = read("/proc/loadavg");
    format!(
        "Linux {}, {} ({} CPUs), {}, load average {}{}",
        read("/proc/sys/kernel/osrelease").trim(),
        name.unwrap_or("an unknown CPU"),
        child::allowed().len(),
        version.unwrap_or("an unknown rustc".into()),
        load.split(' ').next().unwrap_or("unknown"),
        if child::allowed().len() > 1 { "" } else { "; server and load SHARE one CPU" },
    )
}
