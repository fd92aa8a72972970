//! How the generator's connections are made, and lost.

use std::io;
use std::time::Duration;

use mio::Token;

use super::client::{Role, State};
use super::generator::Generator;
use super::outcome::Phase;
use super::socket::Socket;
use crate::moment::{Moment, Patience};

/// Attempts under way at a time: enough to keep a server busy, and few enough that its queue is
/// not simply overrun, where each loser waits a second for its SYN to be sent again.
const MOST_CONNECTING: usize = 256;
/// Between two attempts of one that failed: growing from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What a turn may be late; what was missed before is not made up for in a burst.
const A_LITTLE: Duration = Duration::from_millis(20);

impl Generator<'_> {
    pub(super) fn may_connect_more(&self) -> bool {
        self.connecting < MOST_CONNECTING && self.phase != Phase::Finishing
    }

    /// Begins as many attempts as may be.
    pub(super) fn connect_absent(&mut self, now: Moment) {
        while !self.absent.is_empty() && self.may_connect_more() && now >= self.next_connect {
            let Some(slot) = self.absent.pop_front() else { return };
            if let Some(rate) = self.plan.connect_rate {
                let pause = Patience::new(Duration::from_secs_f64(1.0 / rate));
                // From when it was due: a rate is kept although each turn is a little late.
                self.next_connect = self.next_connect.max(earlier(now, A_LITTLE)) + pause;
            }
            self.connect(slot as usize, now);
        }
    }

    fn connect(&mut self, slot: usize, now: Moment) {
        let sources = &self.plan.sources;
        let target = &self.targets[self.target];
        let source = sources.get(slot % sources.len().max(1)).copied();
        let client = &mut self.clients[slot];
        client.target = self.target;
        let since = match client.state {
            State::Connecting(since) => since,
            _ => now,
        };
        client.state = State::Connecting(since);
        let registry = self.poll.registry();
        let socket = Socket::connect(target, source)
            .and_then(|socket| socket.register(registry, Token(slot)).map(|()| socket));
        match socket {
            Ok(socket) => {
                client.socket = Some(socket);
                self.connecting += 1;
            }
            // The queue of a Unix listener is full; the next look tries again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.not_connected(slot, error, now),
        }
    }

    /// Something happened to a connection that is being made.
    #[cold]
    pub(super) fn look_at_attempt(&mut self, slot: usize, is_closed: bool, now: Moment) {
        let client = &mut self.clients[slot];
        let (Some(socket), State::Connecting(since)) = (&client.socket, client.state) else {
            return;
        };
        match socket.is_connected() {
            Ok(true) => {
                self.connecting -= 1;
                self.tally.connected(since, now);
                let again = client.failures > 0 && !self.is_datagrams;
                let running = self.phase != Phase::Connecting;
                client.state = if again && running { State::OnProbation } else { State::Open };
                self.settle(slot);
                match self.clients[slot].role {
                    Role::Asks => {
                        self.open += 1;
                        self.most_open = self.most_open.max(self.open);
                        if is_closed {
                            self.receive(slot, true);
                            let state = self.clients[slot].state;
                            if !matches!(state, State::Open | State::OnProbation) {
                                return;
                            }
                        }
                        self.becomes_free(slot, now);
                        self.dispatch(now);
                    }
                    Role::Idles | Role::ReadsSlowly => {
                        self.others += 1;
                        self.most_others = self.most_others.max(self.others);
                        self.flush(slot, now);
                    }
                }
            }
            Ok(false) => {}
            Err(error) => {
                self.connecting -= 1;
                self.not_connected(slot, error, now);
            }
        }
    }

    /// An attempt failed. It is not among those being made any more.
    pub(super) fn not_connected(&mut self, slot: usize, error: io::Error, now: Moment) {
        let client = &mut self.clients[slot];
        client.disconnect(self.plan, now);
        // As long as nobody has got through, another address of the name may be the right one.
        let is_last = self.target + 1 == self.targets.len();
        if self.tally.counts.connects == 0 && (client.target < self.target || !is_last) {
            self.target = self.target.max(client.target + 1);
            self.queue(slot);
            return;
        }
        let errors = &mut self.tally.errors;
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                errors.refused += 1;
            }
            io::ErrorKind::AddrNotAvailable => errors.no_port += 1,
            _ => errors.unreachable += 1,
        }
        self.last_failure = Some(error);
        self.settle(slot);
        self.pause(slot, now);
    }

    /// The server has ended a connection, or it broke.
    #[cold]
    pub(super) fn lost(&mut self, slot: usize, error: Option<io::Error>, now: Moment) {
        let client = &mut self.clients[slot];
        let under_way = client.under_way.len() as u64;
        let nothing_asked = client.begun == 0;
        if client.role == Role::Asks {
            let refused = io::ErrorKind::ConnectionRefused;
            if self.is_datagrams && error.as_ref().is_some_and(|error| error.kind() == refused) {
                // ICMP says that nobody listens.
                self.tally.errors.refused += under_way.max(1);
            } else if self.is_datagrams {
                self.tally.errors.unreachable += under_way.max(1);
            } else if nothing_asked {
                self.tally.errors.refused += 1;
            } else {
                self.tally.errors.missing += under_way;
            }
        }
        self.last_failure = error.or_else(|| Some(io::ErrorKind::ConnectionRefused.into()));
        self.replace(slot, now);
    }

    /// Ends a connection and makes another: at once if it was good for anything.
    pub(super) fn replace(&mut self, slot: usize, now: Moment) {
        let client = &mut self.clients[slot];
        let served = client.role == Role::Asks && client.answered > 0;
        if served {
            client.failures = 0;
        }
        self.drop_connection(slot, now);
        if served {
            self.connect_again(slot, now);
        } else {
            self.pause(slot, now);
        }
    }

    /// Takes a connection off the books: what was under way on it is over.
    pub(super) fn drop_connection(&mut self, slot: usize, now: Moment) {
        let client = &mut self.clients[slot];
        self.under_way -= client.under_way.len();
        match (client.state, client.role) {
            (State::Absent(_) | State::Queued, _) => return,
            (State::Connecting(_), _) => {
                self.connecting -= usize::from(client.socket.is_some());
            }
            (State::OnProbation | State::Open, Role::Asks) => self.open -= 1,
            (State::OnProbation | State::Open, _) => self.others -= 1,
        }
        client.disconnect(self.plan, now);
    }

    pub(super) fn connect_again(&mut self, slot: usize, now: Moment) {
        if self.phase != Phase::Finishing {
            self.queue(slot);
            self.connect_absent(now);
        }
    }

    fn queue(&mut self, slot: usize) {
        self.clients[slot].state = State::Queued;
        self.absent.push_back(slot as u32);
    }

    /// It is tried again, a while later.
    fn pause(&mut self, slot: usize, now: Moment) {
        let client = &mut self.clients[slot];
        let pause = FIRST_PAUSE.saturating_mul(1 << client.failures.min(10)).min(LONGEST_PAUSE);
        client.failures += 1;
        client.state = State::Absent(now + Patience::new(pause));
    }

    fn settle(&mut self, slot: usize) {
        let client = &mut self.clients[slot];
        if !client.settled {
            client.settled = true;
            self.unsettled -= 1;
        }
    }

    /// Looks at all connections: attempts, replies and pauses whose time is over, and the slow
    /// readers.
    pub(super) fn expire(&mut self, now: Moment) {
        let timeout = Patience::new(self.plan.timeout);
        for slot in 0..self.clients.len() {
            let client = &mut self.clients[slot];
            match client.state {
                State::Absent(again) if now >= again => {
                    self.connect_again(slot, now);
                }
                State::Absent(_) | State::Queued => {}
                State::Connecting(since) if now >= since + timeout => {
                    self.connecting -= usize::from(client.socket.is_some());
                    self.not_connected(slot, io::ErrorKind::TimedOut.into(), now);
                }
                State::Connecting(_) if client.socket.is_none() => self.connect(slot, now),
                State::Connecting(_) => {}
                State::OnProbation => {
                    client.state = State::Open;
                    self.becomes_free(slot, now);
                }
                State::Open => match client.role {
                    Role::Idles => {}
                    Role::ReadsSlowly => self.read_slowly(slot, now),
                    Role::Asks => {
                        let oldest = client.under_way.front();
                        if oldest.is_some_and(|oldest| now >= oldest.sent + timeout) {
                            self.time_out(slot, now);
                        }
                    }
                },
            }
        }
        let given_up = self.give_up_unsent(earlier(now, self.plan.timeout));
        self.tally.errors.unsent += given_up;
    }
}

fn earlier(now: Moment, by: Duration) -> Moment {
    Moment::from_nanos(now.as_nanos().saturating_sub(by.as_nanos() as u64))
}
