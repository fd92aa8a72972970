//! A look at a server that runs, from any other thread.
//!
//! What is counted can be read at any time. What the connections are like only their own thread
//! knows: it is asked, as an other thread asks for anything, and a thread that is stuck does not
//! answer.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::counters::{Snapshot, Thread, Totals};
use crate::mailbox::{Look, Message, Queue};
use crate::moment::{Moment, Patience};
use crate::net::stream::SocketStream;
use crate::stop::{Phase, Stop};
use crate::witness::{Cards, OpenConnection, largest};

/// Shows a server to other threads while it serves. Clones show the same one.
///
/// ```
/// use evmux::{Server, services};
/// use std::time::Duration;
///
/// let mut server = Server::builder(services::echo).listen("127.0.0.1:0").build()?;
/// let watch = server.watch()?;
/// let running = server.start()?;
/// assert_eq!(watch.counters().open(), 0);
/// assert!(watch.connections(10, Duration::from_secs(1)).is_empty());
/// # running.stop().drain();
/// # running.join()?;
/// # Ok::<(), evmux::Error>(())
/// ```
#[derive(Clone)]
pub struct Watch {
    pub(crate) totals: Totals,
    pub(crate) stop: Stop,
    pub(crate) cards: Cards,
    pub(crate) queues: Vec<Arc<Queue<SocketStream>>>,
    pub(crate) origin: Instant,
}

impl Watch {
    /// What was counted so far.
    pub fn counters(&self) -> Snapshot {
        self.totals.snapshot()
    }

    /// Whether the server serves, drains, or has been stopped.
    pub fn phase(&self) -> Phase {
        self.stop.phase()
    }

    /// Its threads, in no order.
    pub fn threads(&self) -> Vec<Thread> {
        self.totals.threads(self.now())
    }

    /// Since when the readiness loop that has not waited for longest has not. A loop that waits is
    /// well, however long nothing has happened; a thread that serves one client alone never counts,
    /// since it holds up nobody else.
    pub fn longest_turn(&self) -> Duration {
        let awake = self.threads().into_iter().filter_map(|thread| thread.awake_for);
        awake.max().unwrap_or_default()
    }

    /// The `most` connections with the most [waiting](OpenConnection::waiting) bytes, the largest
    /// first.
    ///
    /// Each readiness loop is asked and has `patience` to answer; the connections of one that does
    /// not are missing. It chooses by the bytes in our own buffers, and asks the kernel only for
    /// the bytes of those that it chose.
    pub fn connections(&self, most: usize, patience: Duration) -> Vec<OpenConnection> {
        let (answer, answers) = mpsc::channel();
        let asked = self.now();
        // Nobody is waited for longer than a year.
        let patience = patience.min(Duration::from_secs(365 * 24 * 3600));
        let until = Instant::now() + patience;
        for queue in &self.queues {
            // One whose mailbox is full does not answer.
            let until = asked + Patience::new(patience);
            let look = Look { most, asked, until, answer: answer.clone() };
            let _ = queue.post(look, Message::Look);
        }
        drop(answer);
        let mut connections = self.cards.connections(asked);
        while let Ok(shown) = answers.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            connections.extend(shown);
        }
        largest(connections, most, OpenConnection::waiting)
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(self.origin.elapsed().as_nanos() as u64)
    }
}
