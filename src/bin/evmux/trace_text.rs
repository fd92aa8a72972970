//! `evmux trace-text`: what `--trace` wrote, for a terminal.
//!
//! ```text
//!       time      took  track       what
//!   0.000000   12.31ms  epoll       turn
//!   0.000000   12.20ms  epoll         wait              1 event
//!   0.012204    8.30us  epoll         run               connection 1, received 5 B, sent 5 B
//! ```

mod read;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;

use crate::arguments::TraceTextOptions;
use crate::failure::{Failure, in_one_line};
use crate::output::Output;
use crate::trace::{CLOSED, OPEN_CONNECTIONS};
use read::{Entry, Kind, Timeline};

pub(crate) fn print(options: &TraceTextOptions) -> Result<(), Failure> {
    let timeline = Timeline::read(&options.file)
        .map_err(|why| Failure::new(format_args!("cannot read {}", options.file.display()), why))?;
    match options.connection {
        None => all(&timeline),
        Some(number) if timeline.knows(number) => life(&timeline, number),
        Some(number) => {
            let which = match timeline.connections() {
                Some((first, last)) => format!("it has some of {first} to {last}"),
                None => "it has none".to_owned(),
            };
            let what = format_args!("no connection {number} in {}", options.file.display());
            Err(Failure::new(what, which))
        }
    }
}

/// Everything, in the order in which it began; what lies within a slice is indented.
fn all(timeline: &Timeline) -> Result<(), Failure> {
    let mut page = Page::new()?;
    let track_width = timeline.tracks.values().map(|name| name.chars().count()).max().unwrap_or(5);
    let track_width = track_width.clamp(5, 20);
    page.line(&heading(timeline));
    page.line(&format!("{:>12} {:>9}  {:track_width$}  what", "time", "took", "track"));
    let mut enclosing: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for entry in &timeline.entries {
        let (what, detail) = match entry.kind {
            // The beginning of the next one says it, and instants stand on their track, too.
            Kind::End | Kind::InLife => continue,
            Kind::Count if &*entry.name == OPEN_CONNECTIONS => continue,
            Kind::Begin if entry.is_life() => (&*entry.name, format!("opened{}", entry.detail())),
            Kind::Begin => ("stage", format!("connection {}: {}", entry.connection, entry.name)),
            Kind::Slice | Kind::Instant | Kind::Count => (&*entry.name, entry.told()),
        };
        let ends = enclosing.entry(entry.track).or_default();
        let is_slice = entry.kind == Kind::Slice;
        ends.retain(|&end| end > entry.at || (end == entry.at && !is_slice));
        let depth = ends.len().min(8);
        if is_slice {
            ends.push(entry.at + entry.took);
        }
        let what = format!("{:1$}{what}", "", 2 * depth);
        let row = format!(
            "{:>12} {:>9}  {:track_width$}  {what:24}  {detail}",
            timeline.seconds(entry.at),
            if is_slice { duration(entry.took) } else { String::new() },
            timeline.track(entry.track),
        );
        page.line(&row);
        if page.ended.is_some() {
            break;
        }
    }
    page.end()
}

/// One connection: each line with the time since it was opened and since the line before.
fn life(timeline: &Timeline, number: u64) -> Result<(), Failure> {
    let mut page = Page::new()?;
    let entries: Vec<&Entry> =
        timeline.entries.iter().filter(|entry| entry.connection == number).collect();
    let Some(first) = entries.first() else { return Ok(()) };
    let opened = entries.iter().find(|entry| entry.kind == Kind::Begin && entry.is_life());
    let peer = opened.map_or(String::new(), |entry| entry.detail().into());
    page.line(&format!("connection {number}{peer}, on {}", timeline.track(first.track)));
    page.line(&format!("{:>12} {:>9} {:>9}  what", "time", "after", "took"));
    let (mut received, mut sent, mut runs, mut last) = (0_u64, 0_u64, 0_u64, first.at);
    for (index, entry) in entries.iter().enumerate() {
        let (what, took, detail) = match entry.kind {
            Kind::Begin if entry.is_life() => ("opened".into(), None, String::new()),
            Kind::Begin => {
                let is_end = |later: &&&Entry| later.kind == Kind::End && later.name == entry.name;
                let end = entries[index..].iter().find(is_end).map_or(timeline.end, |end| end.at);
                (format!("is {}", entry.name), Some(end - entry.at), entry.reason().into())
            }
            Kind::Slice => {
                // Numbers of a file that anybody may have written.
                received = received.saturating_add(entry.received);
                sent = sent.saturating_add(entry.sent);
                runs += 1;
                (entry.name.to_string(), Some(entry.took), entry.moved())
            }
            Kind::Instant if &*entry.name == CLOSED => {
                ("closed".into(), None, entry.reason().into())
            }
            Kind::Instant => (entry.name.to_string(), None, String::new()),
            Kind::End | Kind::InLife | Kind::Count => continue,
        };
        let row = format!(
            "{:>12} {:>9} {:>9}  {what:14}  {detail}",
            micros(entry.at - first.at),
            duration(entry.at - last),
            took.map_or(String::new(), duration),
        );
        last = entry.at;
        page.line(&row);
        if page.ended.is_some() {
            break;
        }
    }
    let is_closed = entries.iter().any(|entry| &*entry.name == CLOSED);
    let end = if is_closed { last } else { timeline.end };
    let still = if is_closed { "" } else { "still open when the trace ends; " };
    page.line(&format!(
        "{still}{} in all, {received} bytes received, {sent} sent, {runs} runs",
        duration(end.saturating_sub(first.at))
    ));
    page.end()
}

fn heading(timeline: &Timeline) -> String {
    let mut text = format!(
        "{}: {} over {}",
        timeline.server,
        count(timeline.entries.len() as u64, "event"),
        duration(timeline.end.saturating_sub(timeline.begin)),
    );
    if timeline.dropped > 0 {
        let _ = write!(text, "; {} older ones are lost", timeline.dropped);
    }
    text
}

impl Timeline {
    /// Since its beginning.
    fn seconds(&self, at: u64) -> String {
        micros(at - self.begin)
    }

    fn track(&self, number: u32) -> &str {
        self.tracks.get(&number).map_or("?", |name| name)
    }
}

impl Entry {
    /// What an event of a track is about.
    fn told(&self) -> String {
        let mut parts = Vec::new();
        if self.connection > 0 {
            parts.push(format!("connection {}", self.connection));
        }
        if self.received > 0 || self.sent > 0 {
            parts.push(self.moved());
        }
        if !self.reason().is_empty() {
            parts.push(self.reason().to_owned());
        }
        parts.join(", ")
    }

    /// The detail, by itself.
    fn reason(&self) -> &str {
        self.detail().trim_start_matches([',', ':', ' '])
    }

    fn moved(&self) -> String {
        match (self.received, self.sent) {
            (0, 0) => String::new(),
            (received, 0) => format!("received {received} B"),
            (0, sent) => format!("sent {sent} B"),
            (received, sent) => format!("received {received} B, sent {sent} B"),
        }
    }
}

/// `1 event`, `2 events`.
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Nanoseconds as seconds, to the microsecond.
fn micros(nanos: u64) -> String {
    format!("{}.{:06}", nanos / 1_000_000_000, nanos / 1000 % 1_000_000)
}

/// Nanoseconds, with four digits and a unit.
fn duration(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{:.2}us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}ms", nanos as f64 / 1e6),
        _ => format!("{:.2}s", nanos as f64 / 1e9),
    }
}

/// stdout, some lines at a time.
struct Page {
    output: Output,
    text: String,
    /// Nobody reads any more, or it failed.
    ended: Option<Result<(), Failure>>,
}

impl Page {
    const SIZE: usize = 1 << 16;

    fn new() -> Result<Self, Failure> {
        Ok(Self { output: Output::new()?, text: String::new(), ended: None })
    }

    fn line(&mut self, line: &str) {
        // The file may name things as it likes.
        self.text.push_str(in_one_line(line).trim_end());
        self.text.push('\n');
        if self.text.len() >= Self::SIZE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        if self.ended.is_none() {
            self.ended = match self.output.write(text.as_bytes()) {
                Ok(ControlFlow::Continue(())) => None,
                Ok(ControlFlow::Break(())) => Some(Ok(())),
                Err(failure) => Some(Err(failure)),
            };
        }
    }

    fn end(mut self) -> Result<(), Failure> {
        self.flush();
        self.ended.unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_have_units() {
        assert_eq!(duration(0), "0ns");
        assert_eq!(duration(12_345), "12.35us");
        assert_eq!(duration(1_500_000), "1.50ms");
        assert_eq!(duration(61_000_000_000), "61.00s");
        assert_eq!(micros(1_000_001_999), "1.000001");
    }
}
