//! What happened, in numbers. No text, and no cost worth measuring.
//!
//! Each serving thread has [`Counters`] of its own and is the only one that writes to them. So a
//! count is a plain load, add and store, without a locked instruction; being atomic they can be
//! read by any thread at any time. [`Totals`] knows the counters of all threads that live and the
//! sum of those that are gone, and makes a [`Snapshot`] of both.

use std::array;
use std::ops::{Add, AddAssign, Deref};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;

use crate::connection::Connection;
use crate::handler::Handler;
use crate::limits::CloseReason;
use crate::moment::Moment;

mod distribution;

pub use distribution::Distribution;
use distribution::Tally;

/// A number that one thread counts up and any thread may read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    #[inline]
    pub(crate) fn add(&self, count: u64) {
        // What all this counting costs is measured against a build that does not (`make cost`).
        if cfg!(not(evmux_bare)) {
            // There is one writer, so nothing can come between the load and the store.
            self.0.store(self.value().wrapping_add(count), Ordering::Relaxed);
        }
    }

    /// For what rises and falls.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        if cfg!(not(evmux_bare)) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One list of the numbers, so that none can be counted and then forgotten in a snapshot or a sum.
macro_rules! numbers {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// What one thread counts. Written by that thread alone.
        // On cache lines of its own (they are fetched in pairs): otherwise two threads that count
        // would wait for each other's line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
            closed: [Counter; CloseReason::LABELS.len()],
            turn_micros: Tally,
            lag_micros: Tally,
            events: Tally,
            /// Of a readiness loop: since when it has not waited, in nanoseconds of the server's
            /// clock and one more; 0 while it waits.
            awake: Counter,
            /// When `paused_connections` changed last, in nanoseconds.
            pauses_changed: Counter,
            /// Of a readiness loop: its slots, used and free, and those on its ready list.
            pub(crate) slots: Counter,
            pub(crate) ready: Counter,
        }

        impl Counters {
            fn snapshot(&self) -> Snapshot {
                // The closed ones first: read the other way round, one that was opened and closed
                // meanwhile would be closed but not opened.
                let closed = array::from_fn(|index| self.closed[index].value());
                let turn_micros = self.turn_micros.snapshot();
                let lag_micros = self.lag_micros.snapshot();
                let events = self.events.snapshot();
                Snapshot {
                    closed,
                    turn_micros,
                    lag_micros,
                    events,
                    $($name: self.$name.value(),)+
                }
            }
        }

        /// What a server counted, up to one moment.
        ///
        /// The numbers of a server that runs are read one after the other, while it counts on: each
        /// is right, but two of them may be a few counts apart. Those of a server that has ended
        /// are exact.
        ///
        /// ```
        /// use evmux::{CloseReason, Snapshot};
        ///
        /// let (one, other) = (Snapshot::default(), Snapshot::default());
        /// let both = one + other;
        /// assert_eq!(both.open(), 0);
        /// assert_eq!(both.closed(&CloseReason::Finished), 0);
        /// ```
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Snapshot {
            $($(#[$doc])+ pub $name: u64,)+
            closed: [u64; CloseReason::LABELS.len()],
            /// How long the turns of the readiness loops took, from the end of a wait to the
            /// beginning of the next, in microseconds: so long nobody else is served.
            pub turn_micros: Distribution,
            /// How late a readiness loop came to what was due, in microseconds: a deadline, or a
            /// question by [`Watch::connections`](crate::Watch::connections).
            pub lag_micros: Distribution,
            /// How many events a wait of a readiness loop returned.
            pub events: Distribution,
        }

        impl AddAssign<&Snapshot> for Snapshot {
            fn add_assign(&mut self, other: &Self) {
                // A thread's share of what rises and falls may be negative, and the sum is not.
                $(self.$name = self.$name.wrapping_add(other.$name);)+
                self.turn_micros += &other.turn_micros;
                self.lag_micros += &other.lag_micros;
                self.events += &other.events;
                for (closed, more) in self.closed.iter_mut().zip(other.closed) {
                    *closed += more;
                }
            }
        }
    };
}

numbers! {
    /// Connections that were taken from a listener, whatever became of them.
    accepted,
    /// Connections that were given to a handler.
    opened,
    /// Accepted and closed at once, since as many as may be were open.
    refused_limit,
    /// Accepted and closed at once, since the process had no descriptor left.
    refused_descriptors,
    /// Accepted and closed for another reason: it could not be registered, or an option not set.
    refused_other,
    /// Calls of accept that failed.
    accept_errors,
    /// Bytes that came from peers.
    bytes_received,
    /// Bytes that the kernel took for peers.
    bytes_sent,
    /// Calls that receive, those that found nothing included.
    receives,
    /// Calls that send, those that found no room included.
    sends,
    /// Calls that found nothing to receive or no room to send.
    would_blocks,
    /// Calls that sent less than they were asked to.
    partial_sends,
    /// Calls that a signal interrupted.
    interrupts,
    /// Times that a thread asked what has happened, or waited for it.
    waits,
    /// Times that a connection had to let the others go first, with more to do.
    spent_budgets,
    /// Times that a connection was no longer read from, since too much waited to be sent.
    paused,
    /// Times that reading it went on.
    resumed,
    /// Connections that are not read from at this moment.
    paused_connections,
    /// How long connections were not read from, all of them together, up to the last change of
    /// [`paused_connections`](Snapshot::paused_connections), in nanoseconds.
    paused_nanos,
    /// Bytes that wait in the buffers of the connections at this moment: received and not
    /// consumed, or answered and not taken by the kernel.
    waiting_bytes,
    /// Deadlines that came: of the limits, and of the handlers.
    timers,
    /// Messages of the program that reached their connection.
    messages_delivered,
    /// Messages of the program whose connection was gone, closing, or had too much waiting.
    messages_dropped,
    /// Datagrams that came, whatever became of them.
    datagrams_received,
    /// Datagrams that the kernel took for peers.
    datagrams_sent,
    /// Answers that were dropped, since they were longer than a datagram can be.
    datagrams_too_long,
    /// Datagrams that were dropped, since they were longer than the room for one.
    datagrams_truncated,
    /// Answers that were dropped, since the kernel did not take them.
    datagrams_unsent,
    /// Datagrams that were dropped, since their handler panicked.
    datagrams_panicked,
    /// Datagrams that the kernel threw away before they were received, mostly for want of room in
    /// the socket's buffer. A server that runs looks now and then, one that has ended knows.
    datagrams_lost,
}

impl Counters {
    /// Counts a connection that was opened and is over.
    #[inline]
    pub(crate) fn close(&self, reason: &CloseReason) {
        self.closed[reason.index()].increment();
    }

    /// A readiness loop is about to wait.
    #[inline]
    pub(crate) fn rest(&self) {
        self.awake.set(0);
    }

    /// A readiness loop has waited.
    #[inline]
    pub(crate) fn begin_turn(&self, now: Moment) {
        self.waits.increment();
        self.awake.set(now.as_nanos() + 1);
    }

    /// The wait returned so many events.
    #[inline]
    pub(crate) fn came(&self, events: u64) {
        if cfg!(not(evmux_bare)) {
            self.events.record(events);
        }
    }

    /// It has done what there was to do.
    #[inline]
    pub(crate) fn end_turn(&self, began: Moment, now: Moment) {
        self.turn_micros.record(now.micros_since(began));
    }

    /// Something is done at `now` that was due before.
    pub(crate) fn late(&self, due: Moment, now: Moment) {
        self.lag_micros.record(now.micros_since(due));
    }

    fn pause_changed(&self, by: i64, now: Moment) {
        let (count, since) = (self.paused_connections.value(), self.pauses_changed.value());
        self.paused_nanos.add(count.wrapping_mul(now.as_nanos().saturating_sub(since)));
        self.pauses_changed.set(now.as_nanos());
        self.paused_connections.set(count.wrapping_add_signed(by));
    }

    fn thread(&self, now: Moment) -> Thread {
        let opened = self.opened.value();
        let closed: u64 = self.closed.iter().map(Counter::value).sum();
        let awake = self.awake.value();
        Thread {
            connections: opened.saturating_sub(closed),
            slots: self.slots.value(),
            ready: self.ready.value(),
            awake_for: (awake > 0).then(|| now.since(Moment::from_nanos(awake - 1))),
        }
    }
}

/// What is counted of one connection: how much waits in it, and whether it is paused. Kept beside
/// it, so that a change can be told from what was counted before.
#[derive(Debug, Default)]
pub(crate) struct Share {
    waiting: u32,
    paused: bool,
}

impl Share {
    /// Whether nothing of the connection is in the counts.
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        self.waiting == 0 && !self.paused
    }

    /// Brings the counts up to date.
    pub(crate) fn update<H: Handler>(
        &mut self,
        connection: &Connection<H>,
        counters: &Counters,
        now: Moment,
    ) {
        let mut waiting = 0;
        if !connection.is_closed() {
            let bytes = connection.to_send().len() + connection.held_back();
            waiting = u32::try_from(bytes).unwrap_or(u32::MAX);
        }
        let more = u64::from(waiting).wrapping_sub(u64::from(self.waiting));
        if more != 0 {
            counters.waiting_bytes.add(more);
            self.waiting = waiting;
        }
        let paused = connection.is_paused();
        if paused != self.paused {
            self.paused = paused;
            let (counter, by) =
                if paused { (&counters.paused, 1) } else { (&counters.resumed, -1) };
            counter.increment();
            counters.pause_changed(by, now);
        }
    }
}

/// One of the threads that serve. See [`Watch::threads`](crate::Watch::threads).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thread {
    /// Connections that it serves.
    pub connections: u64,
    /// Of a readiness loop: how many connections it has had room for at a time so far, those that
    /// are free included.
    pub slots: u64,
    /// Of a readiness loop: how many connections could go on without an event at the end of the
    /// last turn.
    pub ready: u64,
    /// Of a readiness loop that does not wait: since when.
    pub awake_for: Option<Duration>,
}

impl Snapshot {
    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed_in_all())
    }

    /// Connections that are over, for whatever reason.
    pub fn closed_in_all(&self) -> u64 {
        self.closed.iter().sum()
    }

    /// Connections that ended as `reason` says. The numbers that a reason carries make no
    /// difference: all refused ones are counted together.
    pub fn closed(&self, reason: &CloseReason) -> u64 {
        self.closed[reason.index()]
    }

    /// Datagrams that were received and should have had an answer, but had none, for whatever
    /// cause.
    pub fn datagrams_dropped(&self) -> u64 {
        self.datagrams_too_long
            + self.datagrams_truncated
            + self.datagrams_unsent
            + self.datagrams_panicked
    }

    /// Each of [`CloseReason::LABELS`] with the connections that ended so.
    pub fn closed_by_label(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        CloseReason::LABELS.into_iter().zip(self.closed)
    }
}

impl AddAssign for Snapshot {
    fn add_assign(&mut self, other: Self) {
        *self += &other;
    }
}

impl Add for Snapshot {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += &other;
        self
    }
}

/// The counters of all threads of a server; clones are the same totals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals(Arc<Mutex<Threads>>);

#[derive(Debug, Default)]
struct Threads {
    /// Of those that count.
    live: Slab<Arc<Counters>>,
    /// The sum of those that are gone. A thread for each connection would otherwise leave its
    /// counters behind for each.
    gone: Snapshot,
}

impl Totals {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Counters for the thread that calls; they are in the totals from now on, and stay there
    /// when they are dropped.
    pub(crate) fn register(&self) -> Registered {
        let counters = Arc::new(Counters::default());
        let key = self.lock().live.insert(Arc::clone(&counters));
        Registered { counters, totals: self.clone(), key }
    }

    /// The threads that live.
    pub(crate) fn threads(&self, now: Moment) -> Vec<Thread> {
        self.lock().live.iter().map(|(_, counters)| counters.thread(now)).collect()
    }

    /// What all threads counted, those that are gone included. No number is ever less than in an
    /// earlier snapshot.
    pub(crate) fn snapshot(&self) -> Snapshot {
        // Under the lock nobody can go from the live ones to the gone: none is missed or
        // counted twice.
        let threads = self.lock();
        let mut sum = threads.gone.clone();
        for (_, counters) in &threads.live {
            sum += &counters.snapshot();
        }
        sum
    }

    fn lock(&self) -> MutexGuard<'_, Threads> {
        // Nothing that is done under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's own counters, as long as it counts. It may move to another thread, but is not to be
/// shared: two that count at the same time lose counts.
#[derive(Debug)]
pub(crate) struct Registered {
    counters: Arc<Counters>,
    totals: Totals,
    key: usize,
}

#[cfg(feature = "sim")]
impl Registered {
    /// For who looks on while the thread counts.
    pub(crate) fn shared(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Deref for Registered {
    type Target = Counters;

    #[inline]
    fn deref(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut threads = self.totals.lock();
        let counters = threads.live.remove(self.key);
        threads.gone += &counters.snapshot();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn every_number_is_in_the_snapshot_and_in_the_sum() {
        let counters = Counters::default();
        counters.accepted.add(1);
        counters.opened.add(2);
        counters.refused_limit.add(3);
        counters.refused_descriptors.add(4);
        counters.refused_other.add(5);
        counters.accept_errors.add(6);
        counters.bytes_received.add(7);
        counters.bytes_sent.add(8);
        counters.receives.add(9);
        counters.sends.add(10);
        counters.would_blocks.add(11);
        counters.partial_sends.add(12);
        counters.interrupts.add(13);
        counters.waits.add(14);
        counters.spent_budgets.add(15);
        counters.paused.add(16);
        counters.resumed.increment();
        counters.paused_connections.add(24);
        counters.paused_nanos.add(25);
        counters.waiting_bytes.add(26);
        counters.timers.add(27);
        counters.waits.add(1);
        counters.came(3);
        counters.end_turn(Moment::START, Moment::from_nanos(2_000));
        counters.late(Moment::START, Moment::from_nanos(9_000));
        counters.datagrams_received.add(17);
        counters.datagrams_sent.add(18);
        counters.datagrams_too_long.add(19);
        counters.datagrams_truncated.add(20);
        counters.datagrams_unsent.add(21);
        counters.datagrams_panicked.add(22);
        counters.datagrams_lost.add(23);
        counters.close(&CloseReason::Idle);
        let twice = counters.snapshot() + counters.snapshot();
        let mut closed = [0; CloseReason::LABELS.len()];
        closed[CloseReason::Idle.index()] = 2;
        let expected = Snapshot {
            accepted: 2,
            opened: 4,
            refused_limit: 6,
            refused_descriptors: 8,
            refused_other: 10,
            accept_errors: 12,
            bytes_received: 14,
            bytes_sent: 16,
            receives: 18,
            sends: 20,
            would_blocks: 22,
            partial_sends: 24,
            interrupts: 26,
            waits: 30,
            spent_budgets: 30,
            paused: 32,
            resumed: 2,
            paused_connections: 48,
            paused_nanos: 50,
            waiting_bytes: 52,
            timers: 54,
            messages_delivered: 0,
            messages_dropped: 0,
            datagrams_received: 34,
            datagrams_sent: 36,
            datagrams_too_long: 38,
            datagrams_truncated: 40,
            datagrams_unsent: 42,
            datagrams_panicked: 44,
            datagrams_lost: 46,
            closed,
            turn_micros: twice.turn_micros.clone(),
            lag_micros: twice.lag_micros.clone(),
            events: twice.events.clone(),
        };
        assert_eq!(twice, expected);
        assert_eq!((twice.turn_micros.count(), twice.turn_micros.sum()), (2, 4));
        assert_eq!((twice.lag_micros.count(), twice.lag_micros.sum()), (2, 18));
        assert_eq!((twice.events.count(), twice.events.sum()), (2, 6));
        assert_eq!(twice.datagrams_dropped(), 38 + 40 + 42 + 44);
    }

    #[test]
    fn closed_connections_are_counted_by_reason_and_are_open_no_more() {
        let counters = Counters::default();
        counters.opened.add(5);
        counters.close(&CloseReason::Finished);
        counters.close(&CloseReason::Failed(io::ErrorKind::TimedOut));
        counters.close(&CloseReason::Failed(io::ErrorKind::BrokenPipe));
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.open(), 2);
        assert_eq!(snapshot.closed_in_all(), 3);
        assert_eq!(snapshot.closed(&CloseReason::Failed(io::ErrorKind::Other)), 2);
        assert_eq!(snapshot.closed(&CloseReason::Idle), 0);
        let counted: Vec<_> = snapshot.closed_by_label().filter(|&(_, count)| count > 0).collect();
        assert_eq!(counted, [("finished", 1), ("failed", 2)]);
    }

    #[test]
    fn a_thread_that_leaves_takes_no_count_with_it() {
        let totals = Totals::new();
        let staying = totals.register();
        staying.receives.add(1);
        for _ in 0..100 {
            totals.register().receives.add(10);
        }
        assert_eq!(totals.snapshot().receives, 1001);
        assert_eq!(totals.lock().live.len(), 1);
        drop(staying);
        assert_eq!(totals.snapshot().receives, 1001);
    }

    #[test]
    fn a_thread_that_panics_takes_no_count_with_it() {
        let totals = Totals::new();
        let counters = totals.register();
        let panicked = thread::spawn(move || {
            counters.waits.add(7);
            // Not panic!, which would print.
            std::panic::resume_unwind(Box::new(()));
        })
        .join();
        assert!(panicked.is_err());
        assert_eq!(totals.snapshot().waits, 7);
    }

    #[test]
    fn no_count_is_lost_or_doubled_while_threads_come_and_go_and_others_look() {
        const THREADS: u64 = 4;
        // Few under Miri, which interprets each step, and looks for a race in a few as in many.
        const LIVES: u64 = if cfg!(miri) { 3 } else { 200 };
        const COUNTS: u64 = if cfg!(miri) { 10 } else { 500 };
        let totals = Totals::new();
        let counting = AtomicBool::new(true);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut last = Snapshot::default();
                while counting.load(Ordering::Acquire) {
                    let now = totals.snapshot();
                    assert!(now.bytes_received >= last.bytes_received, "a count went back");
                    assert!(now.bytes_received <= 3 * THREADS * LIVES * COUNTS, "one was doubled");
                    last = now;
                }
            });
            let writers = [(); THREADS as usize].map(|()| {
                scope.spawn(|| {
                    for _ in 0..LIVES {
                        let counters = totals.register();
                        for _ in 0..COUNTS {
                            counters.receives.increment();
                            counters.bytes_received.add(3);
                            counters.opened.increment();
                            counters.close(&CloseReason::Served);
                        }
                    }
                })
            });
            for writer in writers {
                writer.join().unwrap();
            }
            counting.store(false, Ordering::Release);
        });
        let snapshot = totals.snapshot();
        assert_eq!(snapshot.receives, THREADS * LIVES * COUNTS);
        assert_eq!(snapshot.bytes_received, 3 * THREADS * LIVES * COUNTS);
        assert_eq!(snapshot.closed(&CloseReason::Served), THREADS * LIVES * COUNTS);
        assert_eq!(snapshot.open(), 0);
    }
}
