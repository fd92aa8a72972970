//! `--summary FILE`: what the server counted, as JSON.
//!
//! The file is opened before anything is served. Who learns only after an hour of serving that the
//! directory does not exist has lost that hour's numbers.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use evmux::Snapshot;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// A file that will hold the counters; until then it keeps what it holds.
pub(crate) struct Summary {
    file: File,
    path: PathBuf,
}

impl Summary {
    /// Opens `path`, and creates the file if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        match file {
            Ok(file) => Ok(Self { file, path: path.into() }),
            Err(why) => Err(cannot_write(path, why)),
        }
    }

    /// Replaces what the file holds.
    pub(crate) fn write(mut self, counted: &Snapshot) -> Result<(), Failure> {
        self.replace(counted).map_err(|why| cannot_write(&self.path, why))
    }

    fn replace(&mut self, counted: &Snapshot) -> io::Result<()> {
        // A terminal or a pipe has nothing that could be cut off.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        let text = format!("{:#}\n", json(counted));
        self.file.write_all(text.as_bytes())
    }
}

fn cannot_write(path: &Path, why: io::Error) -> Failure {
    Failure::new(format_args!("cannot write the summary to {}", path.display()), why)
}

/// The counters under the names that the library gives them.
fn json(counted: &Snapshot) -> Value {
    let closed = counted.closed_by_label().map(|(label, count)| (label.to_string(), count.into()));
    json!({
        "accepted": counted.accepted,
        "accept_errors": counted.accept_errors,
        "opened": counted.opened,
        "open": counted.open(),
        "closed": closed.collect::<Map<_, _>>(),
        "refused_limit": counted.refused_limit,
        "refused_descriptors": counted.refused_descriptors,
        "refused_other": counted.refused_other,
        "bytes_received": counted.bytes_received,
        "bytes_sent": counted.bytes_sent,
        "receives": counted.receives,
        "sends": counted.sends,
        "waits": counted.waits,
        "would_blocks": counted.would_blocks,
        "partial_sends": counted.partial_sends,
        "interrupts": counted.interrupts,
        "spent_budgets": counted.spent_budgets,
        "paused": counted.paused,
        "resumed": counted.resumed,
        "paused_nanos": counted.paused_nanos,
        "timers": counted.timers,
        "events": counted.events.sum(),
        "turns": counted.turn_micros.count(),
        "turn_micros": counted.turn_micros.sum(),
        "messages_delivered": counted.messages_delivered,
        "messages_dropped": counted.messages_dropped,
        "datagrams_received": counted.datagrams_received,
        "datagrams_sent": counted.datagrams_sent,
        "datagrams_too_long": counted.datagrams_too_long,
        "datagrams_truncated": counted.datagrams_truncated,
        "datagrams_unsent": counted.datagrams_unsent,
        "datagrams_panicked": counted.datagrams_panicked,
        "datagrams_lost": counted.datagrams_lost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_for_closing_has_its_place() {
        let json = json(&Snapshot::default());
        for label in evmux::CloseReason::LABELS {
            assert_eq!(json["closed"][label], 0, "{label}");
        }
    }
}
