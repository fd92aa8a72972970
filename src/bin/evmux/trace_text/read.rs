//! A timeline, read back from its file.
//!
//! The file comes from anywhere: whatever is in it, there is one line that says what is wrong, and
//! bounded memory. Each event is brought into a small form as soon as it is read.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::trace::{Args, CONNECTIONS, Line, RECORDS, THREAD_NAME};

/// Four lines for each record are more than any timeline of ours has.
const MOST_EVENTS: usize = 4 * RECORDS;
/// And 512 bytes a line.
const MOST_BYTES: u64 = 512 * MOST_EVENTS as u64;
/// Microseconds: thirty years.
const LONGEST: f64 = 1e15;

pub(super) struct Timeline {
    /// What was served, and how.
    pub(super) server: String,
    /// Records that were lost before it was written.
    pub(super) dropped: u64,
    /// By beginning; of two that begin together the longer one first.
    pub(super) entries: Vec<Entry>,
    /// The names.
    pub(super) tracks: BTreeMap<u32, String>,
    /// Nanoseconds of its clock.
    pub(super) begin: u64,
    pub(super) end: u64,
}

/// An event. Times in nanoseconds.
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) took: u64,
    pub(super) kind: Kind,
    pub(super) track: u32,
    pub(super) name: Rc<str>,
    /// 0: about none.
    pub(super) connection: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    detail: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Slice,
    Instant,
    Count,
    /// Of a life or a stage.
    Begin,
    /// An instant in a life.
    InLife,
    End,
}

impl Timeline {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|why| why.to_string())?;
        let reader = BufReader::with_capacity(1 << 16, file.take(MOST_BYTES));
        let Document { about, events } = serde_json::from_reader(reader)
            .map_err(|why| format!("it is no trace of evmux: {why}"))?;
        let Events { mut entries, tracks } = events;
        entries.sort_by_key(|entry| (entry.at, std::cmp::Reverse(entry.took)));
        let begin = entries.first().map_or(0, |entry| entry.at);
        let end = entries.iter().map(|entry| entry.at + entry.took).max().unwrap_or(begin);
        Ok(Self { server: about.server, dropped: about.dropped, entries, tracks, begin, end })
    }

    pub(super) fn knows(&self, connection: u64) -> bool {
        connection > 0 && self.entries.iter().any(|entry| entry.connection == connection)
    }

    /// The first and the last one.
    pub(super) fn connections(&self) -> Option<(u64, u64)> {
        let numbers = || self.entries.iter().map(|entry| entry.connection).filter(|&n| n > 0);
        Some((numbers().min()?, numbers().max()?))
    }
}

impl Entry {
    /// Of a connection, and not of one of its stages.
    pub(super) fn is_life(&self) -> bool {
        self.name.starts_with("connection ")
    }

    /// To be put behind its name.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "otherData", default)]
    about: About,
    #[serde(rename = "traceEvents")]
    events: Events,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct About {
    server: String,
    dropped: u64,
}

#[derive(Default)]
struct Events {
    entries: Vec<Entry>,
    tracks: BTreeMap<u32, String>,
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Collector)
    }
}

struct Collector;

impl<'de> Visitor<'de> for Collector {
    type Value = Events;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut lines: A) -> Result<Events, A::Error> {
        let mut events = Events::default();
        let mut names = HashSet::new();
        while let Some(line) = lines.next_element::<Line<'_>>()? {
            if events.entries.len() == MOST_EVENTS {
                let text = format!("more than {MOST_EVENTS} events");
                return Err(de::Error::custom(text));
            }
            if line.ph == "M" {
                if line.name == THREAD_NAME {
                    let name = line.args.name.unwrap_or_default().into_owned();
                    events.tracks.insert(line.tid, name);
                }
                continue;
            }
            events.entries.extend(entry(&line, &mut names).map_err(de::Error::custom)?);
        }
        Ok(events)
    }
}

/// What is not ours to show is `None`.
fn entry(line: &Line<'_>, names: &mut HashSet<Rc<str>>) -> Result<Option<Entry>, String> {
    let kind = match &*line.ph {
        "X" => Kind::Slice,
        "i" => Kind::Instant,
        "C" => Kind::Count,
        "b" if line.cat == CONNECTIONS => Kind::Begin,
        "n" if line.cat == CONNECTIONS => Kind::InLife,
        "e" if line.cat == CONNECTIONS => Kind::End,
        _ => return Ok(None),
    };
    let name = match names.get(&*line.name) {
        Some(name) => Rc::clone(name),
        None => {
            let name: Rc<str> = (&*line.name).into();
            names.insert(Rc::clone(&name));
            name
        }
    };
    let Args { connection, received, sent, .. } = line.args;
    // The end of a stage has only its id.
    let by_id = || {
        let digits = line.id.as_deref()?.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    };
    Ok(Some(Entry {
        at: nanos(line.ts)?,
        took: nanos(line.dur.unwrap_or(0.0))?,
        kind,
        track: line.tid,
        name,
        connection: connection.or_else(by_id).unwrap_or(0),
        received: received.unwrap_or(0),
        sent: sent.unwrap_or(0),
        detail: detail(&line.args).into(),
    }))
}

fn nanos(micros: f64) -> Result<u64, String> {
    if (0.0..LONGEST).contains(&micros) {
        Ok((micros * 1000.0).round() as u64)
    } else {
        Err(format!("{micros} is no time in microseconds"))
    }
}

fn detail(args: &Args<'_>) -> String {
    let mut text = String::new();
    if let Some(peer) = &args.peer {
        text.push_str(&format!(" from {peer}"));
    }
    if let Some(earlier) = args.earlier {
        text.push_str(&format!(", {:.6}s before the trace begins", earlier / 1e6));
    }
    if let Some(reason) = &args.reason {
        text.push_str(&format!(": {reason}"));
    }
    let counts = [
        (args.events, "event", "events"),
        (args.clients, "client", "clients"),
        (args.datagrams, "datagram", "datagrams"),
        (args.bytes, "byte", "bytes"),
    ];
    for (count, one, many) in counts {
        match count {
            Some(1) => text.push_str(&format!(", 1 {one}")),
            Some(count) => text.push_str(&format!(", {count} {many}")),
            None => {}
        }
    }
    text
}
