//! Who looks on while a thread serves: for a trace, and for a table of the open connections.
//!
//! The hot path counts for its thread and not for each connection. A witness, if there is one,
//! looks at the thread's counters after each run of a connection; what they have grown by is that
//! connection's. So a server that nobody watches pays one branch, and one that is watched keeps a
//! ledger beside its slots.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;

use crate::connection::{Connection, Stage};
use crate::counters::{Counter, Counters};
use crate::handler::{Handler, PeerAddress};
use crate::moment::Moment;
use crate::trace::{Event, Recorder, Track};

/// Who wants to know what the threads of a server do.
#[derive(Clone, Default)]
pub(crate) struct Audience {
    pub(crate) recorder: Option<Recorder>,
    pub(crate) cards: Option<Cards>,
}

impl Audience {
    /// What the thread that calls is to tell everything; `None` if nobody wants to know.
    pub(crate) fn witness(&self, name: &str) -> Option<Box<Witness>> {
        if cfg!(evmux_bare) || (self.recorder.is_none() && self.cards.is_none()) {
            return None;
        }
        let track = self.recorder.as_ref().map(|recorder| recorder.track(name));
        Some(Box::new(Witness {
            audience: self.clone(),
            track,
            ledger: Vec::new(),
            seen: Seen::default(),
            waiting: 0,
        }))
    }
}

/// Sees everything that a thread does.
pub(crate) struct Witness {
    audience: Audience,
    track: Option<Track>,
    /// By slot.
    ledger: Vec<Option<Entry>>,
    /// The thread's counters at the last look.
    seen: Seen,
    /// What the trace was told last.
    waiting: u64,
}

/// What is known of an open connection beside what itself knows.
#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    peer: PeerAddress,
    opened: Moment,
    received: u64,
    sent: u64,
    stage: Stage,
}

/// What a thread had counted at a moment.
#[derive(Clone, Copy, Default)]
struct Seen {
    received: u64,
    sent: u64,
    partial_sends: u64,
    paused: u64,
    resumed: u64,
    spent: u64,
}

impl Seen {
    fn of(counters: &Counters) -> Self {
        Self {
            received: counters.bytes_received.value(),
            sent: counters.bytes_sent.value(),
            partial_sends: counters.partial_sends.value(),
            paused: counters.paused.value(),
            resumed: counters.resumed.value(),
            spent: counters.spent_budgets.value(),
        }
    }
}

/// A part of a turn that is worth a record if it did something.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Messages,
    Accept,
    Datagrams,
    Timers,
}

impl Part {
    /// What grows when it does something.
    pub(crate) fn count(self, counters: &Counters) -> u64 {
        let sum = |numbers: &[&Counter]| numbers.iter().map(|number| number.value()).sum();
        match self {
            Self::Messages => sum(&[
                &counters.messages_delivered,
                &counters.messages_dropped,
                &counters.opened,
                &counters.refused_other,
            ]),
            Self::Accept => sum(&[&counters.accepted, &counters.refused_descriptors]),
            Self::Datagrams => counters.datagrams_received.value(),
            Self::Timers => counters.timers.value(),
        }
    }
}

/// How a connection was run.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// By a readiness loop.
    Run,
    /// By a thread of its own, in calls that wait.
    Call,
}

impl Witness {
    pub(crate) fn opened(&mut self, slot: usize, peer: PeerAddress, now: Moment) {
        if self.ledger.len() <= slot {
            self.ledger.resize(slot + 1, None);
        }
        let number = self.audience.recorder.as_ref().map_or(0, Recorder::number);
        let stage = Stage::Idle;
        self.ledger[slot] = Some(Entry { number, peer, opened: now, received: 0, sent: 0, stage });
        if let Some(track) = &mut self.track {
            track.instant(now, Event::Opened { connection: number, peer });
            track.instant(now, Event::Stage { connection: number, stage });
        }
    }

    /// The connection in the slot has run, since `began` if that took time. What was counted
    /// since the last look was done for it.
    pub(crate) fn ran<H: Handler>(
        &mut self,
        slot: usize,
        connection: &Connection<H>,
        counters: &Counters,
        slice: Option<(Way, Moment)>,
        now: Moment,
    ) {
        let before = std::mem::replace(&mut self.seen, Seen::of(counters));
        let Some(Some(entry)) = self.ledger.get_mut(slot) else { return };
        let received = self.seen.received - before.received;
        let sent = self.seen.sent - before.sent;
        entry.received += received;
        entry.sent += sent;
        let Some(track) = &mut self.track else { return };
        let number = entry.number;
        let happened = [
            (
                before.partial_sends,
                self.seen.partial_sends,
                Event::PartialSend { connection: number },
            ),
            (before.paused, self.seen.paused, Event::Paused { connection: number }),
            (before.resumed, self.seen.resumed, Event::Resumed { connection: number }),
            (before.spent, self.seen.spent, Event::SpentBudget { connection: number }),
        ];
        for (_, _, event) in happened.into_iter().filter(|(before, now, _)| now > before) {
            track.instant(now, event);
        }
        let stage = connection.stage();
        if stage != entry.stage && stage != Stage::Closed {
            entry.stage = stage;
            track.instant(now, Event::Stage { connection: number, stage });
        }
        if let Some((way, began)) = slice {
            let event = match way {
                Way::Run => Event::Run { connection: number, received, sent },
                Way::Call => Event::Call { connection: number, received, sent },
            };
            track.slice(began, now, event);
        }
    }

    pub(crate) fn closed(&mut self, slot: usize, reason: &'static str, now: Moment) {
        let Some(entry) = self.ledger.get_mut(slot).and_then(Option::take) else { return };
        if let Some(track) = &mut self.track {
            track.instant(now, Event::Closed { connection: entry.number, reason });
        }
    }

    /// The thread waited.
    pub(crate) fn waited(&mut self, began: Moment, now: Moment, events: u64) {
        if let Some(track) = &mut self.track {
            track.slice(began, now, Event::Wait { events: events as u32 });
        }
    }

    /// A part of a turn in which so much happened.
    pub(crate) fn did(
        &mut self,
        part: Part,
        count: u64,
        slice: (Moment, Moment),
        counters: &Counters,
    ) {
        if matches!(part, Part::Datagrams) {
            // Their bytes are no connection's.
            self.seen = Seen::of(counters);
        }
        let event = match part {
            _ if count == 0 => return,
            Part::Messages => Event::Messages,
            Part::Accept => Event::Accept { clients: count as u32 },
            Part::Datagrams => Event::Datagrams { datagrams: count },
            Part::Timers => Event::Timers,
        };
        if let Some(track) = &mut self.track {
            track.slice(slice.0, slice.1, event);
        }
    }

    /// A turn of a readiness loop is over, and it is about to wait.
    pub(crate) fn turned(&mut self, began: Moment, now: Moment, counters: &Counters) {
        let Some(track) = &mut self.track else { return };
        track.slice(began, now, Event::Turn);
        self.count(now, counters);
        self.hand_over();
    }

    /// How much waits in the buffers of the thread's connections, if that has changed.
    pub(crate) fn count(&mut self, now: Moment, counters: &Counters) {
        let waiting = counters.waiting_bytes.value();
        if let Some(track) = &mut self.track
            && waiting != self.waiting
        {
            self.waiting = waiting;
            track.instant(now, Event::Waiting { bytes: waiting });
        }
    }

    /// Before a thread waits in a call.
    pub(crate) fn hand_over(&mut self) {
        if let Some(track) = &mut self.track {
            track.hand_over();
        }
    }

    /// What is known of the connection in the slot, for whoever looks.
    pub(crate) fn describe<H: Handler>(
        &self,
        slot: usize,
        connection: &Connection<H>,
        queued: Option<usize>,
        now: Moment,
    ) -> Option<OpenConnection> {
        let entry = (*self.ledger.get(slot)?)?;
        let peer = match entry.peer {
            PeerAddress::Inet(address) => Some(address),
            PeerAddress::Unix => None,
        };
        Some(OpenConnection {
            peer,
            stage: connection.stage(),
            age: now.since(entry.opened),
            received: entry.received,
            sent: entry.sent,
            unconsumed: connection.held_back() as u64,
            unsent: connection.to_send().len() as u64,
            queued: queued.map(|count| count as u64),
        })
    }

    /// A card for a connection that has a thread to itself.
    pub(crate) fn card(&self) -> Option<Card> {
        self.audience.cards.as_ref().map(Cards::add)
    }
}

/// An open connection, as [`Watch::connections`](crate::Watch::connections) saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenConnection {
    /// Who is at the other end; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// How far it is.
    pub stage: Stage,
    /// Since when it is open.
    pub age: Duration,
    /// Bytes received.
    pub received: u64,
    /// Bytes that the kernel took.
    pub sent: u64,
    /// Bytes received that its handler has not consumed.
    pub unconsumed: u64,
    /// Bytes answered that the kernel has not taken.
    pub unsent: u64,
    /// Bytes that the kernel has taken and the peer has not: SIOCOUTQ, see tcp(7). `None` where
    /// it was not asked.
    pub queued: Option<u64>,
}

impl OpenConnection {
    /// All bytes that wait on our side: in our buffers, and in the kernel for the peer.
    pub fn waiting(&self) -> u64 {
        self.unconsumed + self.unsent + self.queued.unwrap_or(0)
    }
}

/// What the threads that serve one connection each say of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cards(Arc<Mutex<Slab<Shown>>>);

type Shown = Arc<Mutex<Option<(OpenConnection, Moment)>>>;

/// One thread's. Its connection is shown as long as the card is there.
pub(crate) struct Card {
    cards: Cards,
    key: usize,
    shown: Shown,
}

impl Cards {
    fn add(&self) -> Card {
        let shown = Shown::default();
        let key = lock(&self.0).insert(Arc::clone(&shown));
        Card { cards: self.clone(), key, shown }
    }

    /// The connections, each as old as it is at `now`.
    pub(crate) fn connections(&self, now: Moment) -> Vec<OpenConnection> {
        // The list is locked no longer than it takes to copy it: who opens a connection waits.
        let cards: Vec<Shown> = lock(&self.0).iter().map(|(_, card)| Arc::clone(card)).collect();
        let shown = cards.iter().filter_map(|card| lock(card).clone());
        let aged = shown.map(|(mut connection, seen)| {
            connection.age += now.since(seen);
            connection
        });
        aged.collect()
    }
}

impl Card {
    pub(crate) fn show(&self, connection: Option<OpenConnection>, now: Moment) {
        *lock(&self.shown) = connection.map(|connection| (connection, now));
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        lock(&self.cards.0).remove(self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The `most` largest of `items` by `size`, the largest first.
pub(crate) fn largest<T>(mut items: Vec<T>, most: usize, size: impl Fn(&T) -> u64) -> Vec<T> {
    if items.len() > most && most > 0 {
        items.select_nth_unstable_by_key(most - 1, |item| std::cmp::Reverse(size(item)));
    }
    items.truncate(most);
    items.sort_by_key(|item| std::cmp::Reverse(size(item)));
    items
}
