//! Messages from other threads into a loop: what to send, whom to wake, whom to close.
//!
//! A loop waits in one system call, and only another system call can end that wait; one for each
//! message would cost more than the message. So the loop hangs up a [`Bell`]: it is asleep, awake,
//! or told already, and only who finds it asleep rings, by writing to the descriptor in its set.
//!
//! ```text
//!   loop:    ... hang up the bell (asleep) ─▶ look into the queue ─▶ wait ─▶ awake ─▶ empty the queue
//!   thread:  put the message into the queue ─▶ ring: told; was it asleep? then write to the descriptor
//! ```
//!
//! Both sides first do the one and then look at the other, so one of the two sees it: a message
//! never lies in the queue of a loop that sleeps. `tests` below tries all
//! orders of these steps, with loom.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Release},
};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::handler::{ConnectionId, Peer};
use crate::moment::Moment;
use crate::net::stream::SocketStream;
use crate::sys::EventFd;
use crate::witness::OpenConnection;

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, Ordering::SeqCst},
};
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, Ordering::SeqCst},
};

/// Where the messages for a server arrive. Made before the service, so that the service can keep a
/// [`Handle`] to it.
///
/// ```
/// use evmux::{Mailbox, Peer, Server, services};
///
/// let mailbox = Mailbox::new()?;
/// let handle = mailbox.handle(); // for any thread, and for the service itself
/// let server = Server::builder(services::echo).mailbox(mailbox).listen("127.0.0.1:0").build()?;
/// # drop((handle, server));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Mailbox {
    pub(crate) queues: Vec<Arc<Queue<SocketStream>>>,
}

impl Mailbox {
    /// Messages that one reactor holds at a time, unless said otherwise.
    pub const CAPACITY: usize = 65_536;

    /// A mailbox for a server with one reactor, of [`Mailbox::CAPACITY`].
    ///
    /// # Errors
    /// When a descriptor cannot be had.
    pub fn new() -> io::Result<Self> {
        Self::with(1, Self::CAPACITY)
    }

    /// A mailbox for a server with so many reactors, that holds `capacity` messages for each.
    ///
    /// # Errors
    /// When a descriptor for each cannot be had.
    pub fn with(reactors: usize, capacity: usize) -> io::Result<Self> {
        let queues = (0..reactors)
            .map(|_| Ok(Arc::new(Queue::new(capacity)?)))
            .collect::<io::Result<_>>()?;
        Ok(Self { queues })
    }

    /// What sends to it. Clones of a handle send to the same mailbox.
    pub fn handle(&self) -> Handle {
        Handle { queues: self.queues.as_slice().into() }
    }
}

/// Speaks to the connections of a server from any thread.
///
/// A connection is named by the [`ConnectionId`] that its handler was made with
/// ([`Peer::id`]). Messages of one thread to one connection arrive in their order. One that
/// arrives after the connection has closed is dropped and counted.
#[derive(Clone, Debug)]
pub struct Handle {
    queues: Arc<[Arc<Queue<SocketStream>>]>,
}

impl Handle {
    /// Sends `bytes` to a peer, behind what waits for it already. The bytes are shared: a message
    /// to many is stored once, and copied only for those whose socket does not take it at once.
    ///
    /// A peer for which too much waits is treated as [`Limits::overflow`](crate::Limits::overflow)
    /// says, when the message arrives.
    ///
    /// # Errors
    /// With the bytes given back: the connection is gone, or the mailbox is full.
    pub fn send(&self, id: ConnectionId, bytes: Arc<[u8]>) -> Result<(), PostError<Arc<[u8]>>> {
        self.post(id, bytes, |bytes| Message::Send(id, bytes))
    }

    /// Has [`Handler::wake`](crate::Handler::wake) called.
    ///
    /// # Errors
    /// The connection is gone, or the mailbox is full.
    pub fn wake(&self, id: ConnectionId) -> Result<(), PostError<()>> {
        self.post(id, (), |()| Message::Wake(id))
    }

    /// Closes a connection in order: what waits for the peer is sent before.
    ///
    /// # Errors
    /// The connection is gone, or the mailbox is full.
    pub fn close(&self, id: ConnectionId) -> Result<(), PostError<()>> {
        self.post(id, (), |()| Message::Close(id))
    }

    fn post<M>(
        &self,
        id: ConnectionId,
        content: M,
        message: impl FnOnce(M) -> Message<SocketStream>,
    ) -> Result<(), PostError<M>> {
        match self.queues.get(id.reactor as usize) {
            Some(queue) if queue.is_open(id) => {
                queue.post(content, message).map_err(PostError::Full)
            }
            _ => Err(PostError::Stale(content)),
        }
    }
}

/// Why a message was not taken, and the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostError<M> {
    /// The connection is gone.
    Stale(M),
    /// The mailbox holds as many messages as it may.
    Full(M),
}

impl<M> fmt::Display for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale(_) => "the connection is gone",
            Self::Full(_) => "the mailbox of the server is full",
        })
    }
}

impl<M: fmt::Debug> std::error::Error for PostError<M> {}

/// The messages for one loop, whose streams are `St`.
#[derive(Debug)]
pub(crate) struct Queue<St> {
    messages: Mutex<VecDeque<Message<St>>>,
    capacity: usize,
    bell: Bell,
    /// Readable when the bell was rung; the loop has it in its set.
    pub(crate) descriptor: EventFd,
    /// The generation in each slot, so that a message to one that is gone is not even posted.
    generations: RwLock<Vec<AtomicU32>>,
}

#[derive(Debug)]
pub(crate) enum Message<St> {
    Send(ConnectionId, Arc<[u8]>),
    Wake(ConnectionId),
    Close(ConnectionId),
    /// A client that another loop accepted.
    Adopt(St, Peer),
    /// A descriptor has become free in another loop.
    Freed,
    /// Somebody wants to see the connections.
    Look(Look),
}

/// A question about the connections of a loop.
#[derive(Debug)]
pub(crate) struct Look {
    /// Those with the most waiting bytes, and no more than these.
    pub(crate) most: usize,
    pub(crate) asked: Moment,
    /// Then nobody waits for the answer any longer.
    pub(crate) until: Moment,
    pub(crate) answer: Sender<Vec<OpenConnection>>,
}

impl<St> Queue<St> {
    const NOBODY: u32 = u32::MAX;

    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self {
            messages: Mutex::new(VecDeque::new()),
            capacity: capacity.max(1),
            bell: Bell::new(),
            descriptor: EventFd::new()?,
            generations: RwLock::new(Vec::new()),
        })
    }

    /// Puts a message in, and rings if the loop sleeps. A full queue gives `content` back.
    pub(crate) fn post<M>(
        &self,
        content: M,
        message: impl FnOnce(M) -> Message<St>,
    ) -> Result<(), M> {
        {
            let mut messages = self.messages();
            if messages.len() >= self.capacity {
                return Err(content);
            }
            messages.push_back(message(content));
        }
        self.ring();
        Ok(())
    }

    /// Wakes the loop if it sleeps.
    pub(crate) fn ring(&self) {
        if self.bell.ring() {
            self.descriptor.signal();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages().is_empty()
    }

    /// Before the loop waits. False when there are messages, or somebody rang since they were
    /// taken: then it must not.
    pub(crate) fn may_sleep(&self) -> bool {
        self.bell.hang_up() && self.messages().is_empty()
    }

    /// Takes all messages, by exchanging the queue for an empty one.
    pub(crate) fn empty_into(&self, messages: &mut VecDeque<Message<St>>) {
        debug_assert!(messages.is_empty());
        self.bell.take_down();
        std::mem::swap(&mut *self.messages(), messages);
    }

    /// The loop has a connection in the slot.
    pub(crate) fn note_open(&self, id: ConnectionId) {
        let slot = id.slot as usize;
        if slot >= self.generations().len() {
            let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
            generations.resize_with(slot + 1, || AtomicU32::new(Self::NOBODY));
        }
        self.generations()[slot].store(id.generation, Release);
    }

    /// The loop's connection in the slot is gone.
    pub(crate) fn note_closed(&self, slot: usize) {
        if let Some(generation) = self.generations().get(slot) {
            generation.store(Self::NOBODY, Release);
        }
    }

    fn is_open(&self, id: ConnectionId) -> bool {
        self.generations()
            .get(id.slot as usize)
            .is_some_and(|generation| generation.load(Acquire) == id.generation)
    }

    fn messages(&self) -> MutexGuard<'_, VecDeque<Message<St>>> {
        // Nothing that is done under the lock can leave the queue half-changed.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generations(&self) -> RwLockReadGuard<'_, Vec<AtomicU32>> {
        self.generations.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a loop sleeps, and whether somebody has told it to wake up.
#[derive(Debug)]
pub(crate) struct Bell(AtomicU8);

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const TOLD: u8 = 2;

impl Bell {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(AWAKE))
    }

    /// The loop is about to sleep; it must look once more whether there is anything to do. False
    /// when somebody has rung since it looked.
    pub(crate) fn hang_up(&self) -> bool {
        self.0.swap(ASLEEP, SeqCst) != TOLD
    }

    /// The loop is awake, and about to look what there is to do.
    pub(crate) fn take_down(&self) {
        self.0.swap(AWAKE, SeqCst);
    }

    /// There is something to do. True when the loop sleeps and has not been told: tell it.
    pub(crate) fn ring(&self) -> bool {
        self.0.swap(TOLD, SeqCst) == ASLEEP
    }
}

/// Run by `make loom`: each order in which the steps of the threads can come, one after the other.
#[cfg(all(test, loom))]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    use loom::sync::atomic::AtomicBool;
    use loom::thread;

    use super::*;
    use crate::sys::{self, PollFd};

    const SENDERS: usize = 2;

    /// A loop that sleeps with `queue`, and those who wake it.
    struct Model {
        queue: Queue<()>,
        /// Those who will still ring. The model does not look at it, so that it makes no more
        /// orders of steps.
        left: std::sync::atomic::AtomicUsize,
    }

    impl Model {
        fn new(senders: usize) -> Arc<Self> {
            Arc::new(Self { queue: Queue::new(8).unwrap(), left: senders.into() })
        }

        /// Runs `send` on a thread of its own.
        fn sender(self: &Arc<Self>, send: impl FnOnce(&Queue<()>) + 'static) {
            let model = Arc::clone(self);
            thread::spawn(move || {
                send(&model.queue);
                model.left.fetch_sub(1, SeqCst);
            });
        }

        /// As the loop does: empties the queue, acts, and sleeps until the descriptor is readable.
        /// Ends when `act`, which is given the number of messages, says that all has come.
        fn run(&self, mut act: impl FnMut(usize) -> bool) {
            let mut messages = VecDeque::new();
            loop {
                self.queue.empty_into(&mut messages);
                if act(messages.drain(..).count()) {
                    return;
                }
                if !self.queue.may_sleep() {
                    continue;
                }
                while !self.is_readable() {
                    let left = self.left.load(SeqCst);
                    assert!(left > 0, "the loop sleeps, and nobody is left to wake it");
                    thread::yield_now();
                }
                self.queue.descriptor.clear();
            }
        }

        fn is_readable(&self) -> bool {
            let fd = self.queue.descriptor.as_fd().as_raw_fd();
            let mut fds = [PollFd { fd, events: libc::POLLIN, revents: 0 }];
            sys::poll(&mut fds, Some(Duration::ZERO)).unwrap() == 1
        }
    }

    #[test]
    fn a_message_never_lies_in_the_queue_of_a_loop_that_sleeps() {
        loom::model(|| {
            let model = Model::new(SENDERS);
            for _ in 0..SENDERS {
                model.sender(|queue| queue.post((), |()| Message::Freed).unwrap());
            }
            let mut come = 0;
            model.run(|count| {
                come += count;
                come == SENDERS
            });
        });
    }

    #[test]
    fn who_rings_for_what_is_not_in_the_queue_is_heard_as_well() {
        loom::model(|| {
            let model = Model::new(1);
            let over = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&over);
            model.sender(move |queue| {
                flag.store(true, SeqCst);
                queue.ring();
            });
            model.run(|_| over.load(SeqCst));
        });
    }
}
