//! One connection of the generator, and what is under way on it.

use std::collections::VecDeque;
use std::io;

use super::plan::Plan;
use super::replies::Replies;
use super::socket::Socket;
use super::tape::Tape;
use crate::moment::Moment;

/// What a connection is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Its replies are the figures.
    Asks,
    /// It says nothing.
    Idles,
    /// It asks without an end, and reads slowly.
    ReadsSlowly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is none; another attempt is due at the moment.
    Absent(Moment),
    /// There is none, and it stands in the queue of those that are to be made.
    Queued,
    /// An attempt began at the moment.
    Connecting(Moment),
    /// It is there again after a server had closed it at once. Until the next look at all
    /// connections it asks nothing: a server that is full closes it, and no request is lost to that.
    OnProbation,
    Open,
}

/// A request whose reply is to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// When it was due.
    pub(super) planned: Moment,
    /// When it was sent.
    pub(super) sent: Moment,
    /// Its place on the tape.
    pub(super) place: usize,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) role: Role,
    pub(super) state: State,
    pub(super) socket: Option<Socket>,
    /// In the order in which they were sent.
    pub(super) under_way: VecDeque<Request>,
    /// Requests of a slow reader whose replies are to come: their times are nobody's business.
    pub(super) unread: usize,
    pub(super) replies: Replies,
    /// Requests begun, and answered, since the connection was made.
    pub(super) begun: u64,
    pub(super) answered: u64,
    /// On the tape: the next request, and the next byte to send.
    next: usize,
    position: usize,
    /// Bytes of begun requests that the kernel has not taken.
    pub(super) unsent: usize,
    /// Whether it stands in the queue of those that are free, and since when it could have.
    pub(super) queued: bool,
    pub(super) free_since: Moment,
    /// Attempts that failed one after the other.
    pub(super) failures: u32,
    /// Whether it was connected once, or failed.
    pub(super) settled: bool,
    /// Which of the target's addresses it was connected to.
    pub(super) target: usize,
    /// Datagrams: the places of requests whose replies are no longer waited for, and may come.
    pub(super) given_up: VecDeque<usize>,
}

impl Client {
    pub(super) fn new(role: Role, plan: &Plan, place: usize) -> Self {
        Self {
            role,
            state: State::Queued,
            socket: None,
            under_way: VecDeque::new(),
            unread: 0,
            replies: Replies::new(plan, place),
            begun: 0,
            answered: 0,
            next: place,
            position: place,
            unsent: 0,
            queued: false,
            free_since: Moment::NEVER,
            failures: 0,
            settled: false,
            target: 0,
            given_up: VecDeque::new(),
        }
    }

    /// Forgets the connection, and goes on with the next request on another.
    pub(super) fn disconnect(&mut self, plan: &Plan, again: Moment) {
        self.state = State::Absent(again);
        self.socket = None;
        self.under_way.clear();
        self.unread = 0;
        self.replies = Replies::new(plan, self.next);
        self.begun = 0;
        self.answered = 0;
        self.position = self.next;
        self.unsent = 0;
        self.given_up.clear();
    }

    #[inline]
    pub(super) fn has_room(&self, plan: &Plan) -> bool {
        self.under_way.len() < plan.pipeline
            && self.state == State::Open
            && plan.per_connection.is_none_or(|most| self.begun < most)
    }

    /// One more request is to be sent, and timed.
    #[inline]
    pub(super) fn begin(&mut self, tape: &Tape, planned: Moment, sent: Moment) {
        self.under_way.push_back(Request { planned, sent, place: self.next });
        self.begin_untimed(tape);
    }

    /// One more request is to be sent.
    #[inline]
    pub(super) fn begin_untimed(&mut self, tape: &Tape) {
        self.begun += 1;
        self.unsent += tape.frame;
        self.next = tape.after(self.next, tape.frame);
    }

    /// Sends what the kernel takes at once; how much that was.
    #[inline]
    pub(super) fn flush(&mut self, tape: &Tape, is_datagrams: bool) -> io::Result<usize> {
        let Some(socket) = &self.socket else { return Ok(0) };
        let mut sent = 0;
        while self.unsent > 0 {
            let most = if is_datagrams { tape.frame } else { self.unsent };
            match socket.send(tape.requests(self.position, most)) {
                Ok(count) => {
                    self.position = tape.after(self.position, count);
                    self.unsent -= count;
                    sent += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}
