//! What a server did, and when: turns, waits, accepts, runs, and the lives of the connections.
//!
//! A [`Recorder`] keeps the last so many records of all threads in one ring, so that its memory is
//! bounded however long the server runs. Here are numbers and times only; what file is made of them
//! is for others to say.
//!
//! Each thread has a track, collects records in it and hands them over when its turn is over:
//! one lock a turn, and none at all while it waits.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::Stage;
use crate::handler::PeerAddress;
use crate::moment::Moment;

/// Records what a server does. Clones are the same recorder.
///
/// ```
/// use evmux::{Server, services, trace::Recorder};
///
/// let recorder = Recorder::new(100_000);
/// let server = Server::builder(services::echo)
///     .trace(recorder.clone())
///     .listen("127.0.0.1:0")
///     .build()?;
/// server.stop().drain();
/// server.run()?;
/// let recording = recorder.recording();
/// assert!(recording.records.iter().any(|record| record.event.name() == "turn"));
/// # Ok::<(), evmux::Error>(())
/// ```
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    ring: Mutex<Ring>,
    capacity: usize,
    /// The number of the connection that was opened last.
    connections: AtomicU64,
}

#[derive(Default)]
struct Ring {
    /// In pieces that whoever reads them shares: the lock is held no longer than it takes to count
    /// them, and the threads that serve do not wait for a copy of everything.
    pieces: VecDeque<Arc<Vec<Record>>>,
    /// How many of the first piece are dropped.
    skipped: usize,
    length: usize,
    tracks: Vec<String>,
    /// Tracks of threads that are gone. A thread for each connection would otherwise leave a
    /// track behind for each.
    free: Vec<u32>,
    dropped: u64,
    /// What the dropped records say of what was still so after them: by connection, and by track.
    /// No more than the connections that are open, and those whose end is in the ring.
    lives: BTreeMap<u64, Life>,
    waiting: BTreeMap<u32, Record>,
}

/// A connection that was opened in a record that there was no room for.
struct Life {
    opened: Record,
    stage: Option<Record>,
}

/// What a [`Recorder`] holds.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recording {
    /// Those of one track are ordered by their ends, and its slices nest or follow each other.
    pub records: Vec<Record>,
    /// The names of the tracks, by number.
    pub tracks: Vec<String>,
    /// How many older ones there were no room for.
    pub dropped: u64,
    /// What these had said, as far as it was still so at the first of `records`: for each
    /// connection that was open its [`Event::Opened`] and its [`Event::Stage`], for each track its
    /// [`Event::Waiting`].
    pub before: Vec<Record>,
}

/// Something that happened on a thread.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// When it began.
    pub began: Moment,
    /// When it was over; the same moment unless it is a slice.
    pub ended: Moment,
    /// On which track.
    pub track: u32,
    /// What it was.
    pub event: Event,
}

// What a recorder's memory is reckoned by.
const _: () = assert!(size_of::<Record>() <= 72);

/// What can happen. Connections are numbered from 1 in the order in which they were opened.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A slice: one turn of a readiness loop, its wait included.
    Turn,
    /// A slice: the thread waited in the kernel.
    Wait {
        /// What the wait returned; 0 when it was a deadline or another thread that ended it.
        events: u32,
    },
    /// A slice: clients were accepted.
    Accept {
        /// How many.
        clients: u32,
    },
    /// A slice: a connection was run.
    Run {
        /// Whose.
        connection: u64,
        /// Bytes that were received.
        received: u64,
        /// Bytes that were sent.
        sent: u64,
    },
    /// A slice: a thread that serves one connection alone received or sent; that it waited in the
    /// call is a part of it.
    Call {
        /// Whose.
        connection: u64,
        /// Bytes that were received.
        received: u64,
        /// Bytes that were sent.
        sent: u64,
    },
    /// A slice: datagrams were answered.
    Datagrams {
        /// How many had come.
        datagrams: u64,
    },
    /// A slice: messages of other threads and requests of handlers were read.
    Messages,
    /// A slice: deadlines were looked at.
    Timers,
    /// A connection was opened.
    Opened {
        /// Which.
        connection: u64,
        /// Who is at the other end.
        peer: PeerAddress,
    },
    /// A connection is at another stage.
    Stage {
        /// Which.
        connection: u64,
        /// The new one.
        stage: Stage,
    },
    /// A connection is over.
    Closed {
        /// Which.
        connection: u64,
        /// Why: one of [`CloseReason::LABELS`](crate::CloseReason::LABELS).
        reason: &'static str,
    },
    /// The kernel took less than it was offered.
    PartialSend {
        /// Of which connection.
        connection: u64,
    },
    /// A connection is no longer read from, since it does not read or its handler waits.
    Paused {
        /// Which.
        connection: u64,
    },
    /// It is read from again.
    Resumed {
        /// Which.
        connection: u64,
    },
    /// A connection had more to do, and had to let the others go first.
    SpentBudget {
        /// Which.
        connection: u64,
    },
    /// A count: bytes that wait in the buffers of this thread's connections.
    Waiting {
        /// How many.
        bytes: u64,
    },
}

impl Event {
    /// Its name, in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Wait { .. } => "wait",
            Self::Accept { .. } => "accept",
            Self::Run { .. } => "run",
            Self::Call { .. } => "call",
            Self::Datagrams { .. } => "datagrams",
            Self::Messages => "messages",
            Self::Timers => "timers",
            Self::Opened { .. } => "opened",
            Self::Stage { stage, .. } => stage.name(),
            Self::Closed { .. } => "closed",
            Self::PartialSend { .. } => "partial send",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::SpentBudget { .. } => "spent budget",
            Self::Waiting { .. } => "waiting bytes",
        }
    }

    /// The connection that it is about, if it is about one.
    pub fn connection(&self) -> Option<u64> {
        match *self {
            Self::Run { connection, .. }
            | Self::Call { connection, .. }
            | Self::Opened { connection, .. }
            | Self::Stage { connection, .. }
            | Self::Closed { connection, .. }
            | Self::PartialSend { connection }
            | Self::Paused { connection }
            | Self::Resumed { connection }
            | Self::SpentBudget { connection } => Some(connection),
            Self::Turn
            | Self::Wait { .. }
            | Self::Accept { .. }
            | Self::Datagrams { .. }
            | Self::Messages
            | Self::Timers
            | Self::Waiting { .. } => None,
        }
    }

    /// Whether it takes time, and so encloses what happens meanwhile on its track.
    pub fn is_slice(&self) -> bool {
        matches!(
            self,
            Self::Turn
                | Self::Wait { .. }
                | Self::Accept { .. }
                | Self::Run { .. }
                | Self::Call { .. }
                | Self::Datagrams { .. }
                | Self::Messages
                | Self::Timers
        )
    }
}

impl Recorder {
    /// A recorder that keeps the last `capacity` records, at least one, of at most 72 bytes each.
    /// Beside them it remembers the open connections whose beginning there was no room for.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared {
            ring: Mutex::default(),
            capacity: capacity.max(1),
            connections: AtomicU64::new(0),
        }))
    }

    /// What was recorded so far. A thread hands over what it has recorded before it waits, or
    /// after some records.
    pub fn recording(&self) -> Recording {
        let ring = self.ring();
        let lives = ring.lives.values();
        let lives = lives.flat_map(|life| [Some(life.opened), life.stage].into_iter().flatten());
        let before = lives.chain(ring.waiting.values().copied()).collect();
        let (pieces, skipped) = (ring.pieces.clone(), ring.skipped);
        let (tracks, dropped) = (ring.tracks.clone(), ring.dropped);
        let mut records = Vec::with_capacity(ring.length);
        drop(ring);
        records.extend(pieces.iter().flat_map(|piece| piece.iter()).skip(skipped).copied());
        Recording { records, tracks, dropped, before }
    }

    /// A track for the thread that calls, perhaps one that a thread of that name had before.
    pub(crate) fn track(&self, name: &str) -> Track {
        let mut ring = self.ring();
        let is_free = |&number: &u32| ring.tracks[number as usize] == name;
        let number = match ring.free.iter().position(is_free) {
            Some(index) => ring.free.swap_remove(index),
            None => {
                ring.tracks.push(name.to_string());
                ring.tracks.len() as u32 - 1
            }
        };
        Track { recorder: self.clone(), number, pending: Vec::new() }
    }

    /// The number of a connection that is opened.
    pub(crate) fn number(&self) -> u64 {
        self.0.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing that is done under the lock can leave the ring half-changed.
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("capacity", &self.0.capacity).finish_non_exhaustive()
    }
}

/// Where one thread records.
pub(crate) struct Track {
    recorder: Recorder,
    number: u32,
    /// Not yet handed over.
    pending: Vec<Record>,
}

impl Track {
    /// Handed over at the latest when there are so many.
    const BATCH: usize = 256;

    pub(crate) fn slice(&mut self, began: Moment, ended: Moment, event: Event) {
        self.pending.push(Record { began, ended, track: self.number, event });
        if self.pending.len() >= Self::BATCH {
            self.hand_over();
        }
    }

    pub(crate) fn instant(&mut self, at: Moment, event: Event) {
        self.slice(at, at, event);
    }

    pub(crate) fn hand_over(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut ring = self.recorder.ring();
        let room = self.recorder.0.capacity;
        for record in self.pending.drain(..) {
            if ring.length == room {
                ring.drop_oldest();
            }
            ring.push(record, room);
        }
    }
}

impl Ring {
    /// Records of a piece: 288 KiB, which is copied when one is written to that is being read.
    const PIECE: usize = 4096;

    fn push(&mut self, record: Record, room: usize) {
        let size = Self::PIECE.min(room);
        if self.pieces.back().is_none_or(|piece| piece.len() == size) {
            self.pieces.push_back(Arc::new(Vec::with_capacity(size)));
        }
        if let Some(piece) = self.pieces.back_mut() {
            Arc::make_mut(piece).push(record);
            self.length += 1;
        }
    }

    fn drop_oldest(&mut self) {
        let Some(piece) = self.pieces.front() else { return };
        let oldest = piece.get(self.skipped).copied();
        self.skipped += 1;
        if self.skipped == piece.len() {
            self.pieces.pop_front();
            self.skipped = 0;
        }
        if let Some(oldest) = oldest {
            self.length -= 1;
            self.drop_record(oldest);
        }
    }

    /// Keeps of a record for which there is no room what later ones build upon.
    fn drop_record(&mut self, record: Record) {
        self.dropped += 1;
        match record.event {
            Event::Opened { connection, .. } => {
                self.lives.insert(connection, Life { opened: record, stage: None });
            }
            Event::Stage { connection, .. } => {
                if let Some(life) = self.lives.get_mut(&connection) {
                    life.stage = Some(record);
                }
            }
            Event::Closed { connection, .. } => {
                self.lives.remove(&connection);
            }
            Event::Waiting { bytes: 0 } => {
                self.waiting.remove(&record.track);
            }
            Event::Waiting { .. } => {
                self.waiting.insert(record.track, record);
            }
            _ => {}
        }
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        self.hand_over();
        self.recorder.ring().free.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_records_and_counts_the_others() {
        let recorder = Recorder::new(10);
        let mut track = recorder.track("one");
        for connection in 0..1000 {
            track.instant(Moment::from_nanos(connection), Event::Paused { connection });
        }
        track.hand_over();
        let recording = recorder.recording();
        let kept: Vec<_> =
            recording.records.iter().filter_map(|record| record.event.connection()).collect();
        assert_eq!(kept, (990..1000).collect::<Vec<_>>());
        assert_eq!(recording.dropped, 990);
        assert_eq!(recording.tracks, ["one"]);
    }

    #[test]
    fn of_what_there_was_no_room_for_it_keeps_who_is_still_open() {
        let recorder = Recorder::new(3);
        let mut track = recorder.track("one");
        let at = Moment::from_nanos;
        for connection in [1, 2] {
            track.instant(at(connection), Event::Opened { connection, peer: PeerAddress::Unix });
            track.instant(at(3), Event::Stage { connection, stage: Stage::Idle });
            track.instant(at(4), Event::Stage { connection, stage: Stage::Paused });
        }
        track.instant(at(5), Event::Waiting { bytes: 7 });
        track.instant(at(6), Event::Closed { connection: 1, reason: "finished" });
        for turn in 7..10 {
            track.instant(at(turn), Event::Turn);
        }
        track.hand_over();
        let before: Vec<_> =
            recorder.recording().before.iter().map(|record| record.event).collect();
        assert_eq!(
            before,
            [
                Event::Opened { connection: 2, peer: PeerAddress::Unix },
                Event::Stage { connection: 2, stage: Stage::Paused },
                Event::Waiting { bytes: 7 },
            ]
        );
    }

    #[test]
    fn threads_that_come_and_go_share_their_tracks() {
        let recorder = Recorder::new(10);
        let staying = recorder.track("connection");
        for _ in 0..100 {
            drop(recorder.track("connection"));
        }
        drop(staying);
        assert_eq!(recorder.recording().tracks, ["connection", "connection"]);
    }

    #[test]
    fn what_a_thread_that_ends_has_recorded_is_not_lost() {
        let recorder = Recorder::new(10);
        recorder.track("short").instant(Moment::START, Event::Turn);
        assert_eq!(recorder.recording().records.len(), 1);
    }
}
