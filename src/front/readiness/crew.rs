//! Several loops that serve together: one accepts, the others own the connections.
//!
//! The acceptor is the same loop without slots. Listeners, gate and the spare descriptor are its
//! alone; it hands each client to a reactor by that one's mailbox. A connection never changes its
//! reactor, so nothing of it is ever locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::front::Balance;
use crate::front::readiness::Readiness;
use crate::handler::{Peer, Service};
use crate::kernel::Kernel;
use crate::mailbox::{Message, Queue};
use crate::moment::Moment;

/// What the loops of a server know of each other.
pub(crate) struct Crew<St> {
    reactors: Vec<Member<St>>,
    pub(crate) acceptor: Arc<Queue<St>>,
    balance: Balance,
    /// Whose turn it is, round robin.
    next: AtomicUsize,
    /// The acceptor waits for a descriptor: who closes a connection tells it.
    starved: AtomicBool,
    /// The acceptor may still hand over clients.
    accepting: AtomicBool,
}

struct Member<St> {
    queue: Arc<Queue<St>>,
    /// Connections that it was handed and that are not over.
    open: AtomicUsize,
}

/// What a loop is to the others.
pub(super) enum Role<'s, St> {
    /// It accepts and serves.
    Alone,
    Acceptor(&'s Crew<St>),
    Reactor(&'s Crew<St>),
}

impl<St> Crew<St> {
    pub(crate) fn new(
        queues: impl IntoIterator<Item = Arc<Queue<St>>>,
        acceptor: Arc<Queue<St>>,
        balance: Balance,
    ) -> Self {
        let member = |queue| Member { queue, open: AtomicUsize::new(0) };
        Self {
            reactors: queues.into_iter().map(member).collect(),
            acceptor,
            balance,
            next: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
            accepting: AtomicBool::new(true),
        }
    }

    /// Hands a client to a reactor: the next one, or the one with the fewest connections; those
    /// whose mailbox is full are passed over. Gives it back when all are.
    fn hand_over(&self, stream: St, peer: Peer) -> Result<(), St> {
        let count = self.reactors.len();
        let first = match self.balance {
            Balance::RoundRobin => self.next.fetch_add(1, Ordering::Relaxed) % count,
            Balance::Fewest => (0..count)
                .min_by_key(|&index| self.reactors[index].open.load(Ordering::Relaxed))
                .unwrap_or(0),
        };
        let mut content = (stream, peer);
        for offset in 0..count {
            let member = &self.reactors[(first + offset) % count];
            let adopt = |(stream, peer)| Message::Adopt(stream, peer);
            match member.queue.post(content, adopt) {
                Ok(()) => {
                    member.open.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(back) => content = back,
            }
        }
        Err(content.0)
    }

    /// The acceptor has handed over the last client, or died: the reactors may end.
    pub(crate) fn accepting_is_over(&self) {
        self.accepting.store(false, Ordering::SeqCst);
        for member in &self.reactors {
            member.queue.ring();
        }
    }
}

impl<'s, K: Kernel, S: Service, const INPUT: usize> Readiness<'s, K, S, INPUT> {
    pub(crate) fn accepting_for(mut self, crew: &'s Crew<K::Stream>) -> Self {
        self.inbox.queue = Some(Arc::clone(&crew.acceptor));
        self.role = Role::Acceptor(crew);
        self
    }

    pub(crate) fn serving_in(mut self, crew: &'s Crew<K::Stream>, number: u32) -> Self {
        self.inbox.queue = Some(Arc::clone(&crew.reactors[number as usize].queue));
        self.reactor = number;
        self.role = Role::Reactor(crew);
        self
    }

    /// Serves a client that the gate has let in, here or in another loop.
    pub(super) fn take_in(&mut self, stream: K::Stream, peer: Peer, now: Moment) {
        let Role::Acceptor(crew) = self.role else { return self.adopt(stream, peer, now) };
        let address = peer.address;
        if let Err(stream) = crew.hand_over(stream, peer) {
            self.front.gate.leave();
            self.scratch.counters.refused_other.increment();
            let problem = || format!("cannot serve {address}: the mailboxes are full");
            self.front.gate.complain(now, problem);
            self.kernel.refuse(stream, self.scratch.input());
        }
    }

    /// A connection of this loop is over, and its descriptor is closed.
    pub(super) fn note_freed(&mut self) {
        self.front.gate.leave();
        if self.backoff.is_waiting() {
            // There is a descriptor again.
            self.backoff.retry_now();
        }
        if let Role::Reactor(crew) = self.role {
            crew.reactors[self.reactor as usize].open.fetch_sub(1, Ordering::Relaxed);
            // Once is enough, however many close.
            if crew.starved.load(Ordering::Relaxed) && crew.starved.swap(false, Ordering::SeqCst) {
                let _ = crew.acceptor.post((), |()| Message::Freed);
            }
        }
    }

    /// Descriptors have run out.
    pub(super) fn note_starved(&self) {
        if let Role::Acceptor(crew) = self.role {
            crew.starved.store(true, Ordering::SeqCst);
        }
    }

    /// Whether another loop may still send clients here.
    pub(super) fn may_be_handed_clients(&self) -> bool {
        match self.role {
            Role::Reactor(crew) => {
                crew.accepting.load(Ordering::SeqCst) || self.inbox.has_messages()
            }
            _ => false,
        }
    }
}
