//! One simulated connection: the client, and what the server's kernel holds between the two.
//!
//! No bytes are stored. What is said and what must be answered is known from the script, so that
//! both directions are counts, and a wrong byte is found when the server sends it:
//!
//! ```text
//!   script.said:     | received by the server | in its kernel | not sent yet |
//!                                             ^received       ^said
//!   script.answered: | read by the client     | in its kernel | not sent yet |
//!                                             ^read           ^answered
//! ```

use crate::connection::Wants;
use crate::handler::{ConnectionId, PeerAddress};
use crate::kernel::{Ready, Token};
use crate::limits::CloseReason;
use crate::moment::Moment;

use super::client::{Client, Leaving};
use super::outgoing::Call;

/// Where a client stands on its way through the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    NotYet,
    InBacklog,
    Accepted,
    /// The server connects to it, and it has not answered.
    Called,
    /// It has, and the loop does not know yet.
    Established,
    /// Turned away: no place, no descriptor, not registered.
    Refused,
}

/// How it ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It read to the server's end, after all that had been sent.
    Whole,
    /// The server reset it, or its network did.
    Reset,
    /// It went away by itself, or never came in.
    Left,
}

/// What a handler was told, as far as the next call must fit to it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) opened: bool,
    pub(super) ended: bool,
    pub(super) in_call: bool,
    pub(super) closed: Option<CloseReason>,
    pub(super) closed_at: Moment,
    /// Bytes that it consumed, and that it left in its last call.
    pub(super) consumed: usize,
    pub(super) left: usize,
    /// It asked for so many bytes, or not to be called.
    pub(super) at_least: usize,
    pub(super) waits: bool,
    /// It said `Wait` at least once.
    pub(super) has_waited: bool,
    pub(super) timer: Moment,
    /// It was told that the server goes away.
    pub(super) drained: bool,
    /// How often the loop had slept when it was called last, and whether a frame had begun then.
    pub(super) sleeps: u64,
    pub(super) in_frame: bool,
    pub(super) in_frame_since: Moment,
    /// Answered in the call that answered most.
    pub(super) largest_answer: usize,
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) client: Client,
    pub(super) listener: usize,
    pub(super) standing: Standing,
    pub(super) ended: Option<End>,
    /// Something happened to it that frees the server from its promises, and what.
    pub(super) spoiled: Option<&'static str>,

    // Towards the server.
    pub(super) said: usize,
    pub(super) received: usize,
    /// Urgent data stands behind the byte of this number.
    pub(super) mark: Option<usize>,
    pub(super) client_finished: bool,
    pub(super) end_received: bool,
    /// The connection is broken, the error is to be told, and what was unread may be lost.
    pub(super) broken: Option<i32>,
    pub(super) error_told: bool,
    pub(super) purged: bool,

    // Towards the client.
    pub(super) answered: usize,
    pub(super) read: usize,
    /// A send took less than it was given; an event is due when there is room.
    pub(super) starved: bool,
    /// The window is shut, whatever room there is.
    pub(super) shut: bool,
    pub(super) server_finished: Option<Moment>,
    /// The server closed its descriptor.
    pub(super) closed: bool,
    /// It was reset; the client may still read as far as this.
    pub(super) reset_at: Option<usize>,

    // The client's own doing.
    pub(super) vanished: bool,
    pub(super) quits: bool,
    pub(super) wants_room: bool,
    pub(super) write_planned: bool,
    pub(super) read_planned: bool,
    pub(super) last_said: Moment,

    // The server's.
    pub(super) token: Option<Token>,
    pub(super) interest: Wants,
    /// Edge-triggered: it is told when there is room again.
    pub(super) reports_room: bool,
    /// Level-triggered: nothing is reported, not even a hang-up.
    pub(super) muted: bool,
    pub(super) unregistrable: bool,
    /// Streams that the loop holds: 0 or 1.
    pub(super) held: bool,
    pub(super) last_received: Moment,
    pub(super) last_sent: Moment,
    /// When a byte had moved last when our end was sent.
    pub(super) moved_before_our_end: Option<Moment>,
    /// What the client must still get of its answers, since a drain began.
    pub(super) promised: Option<usize>,
    pub(super) seen: Seen,
    /// By what other threads name the connection.
    pub(super) id: Option<ConnectionId>,
    /// Bytes of messages that may still be sent; and whether there ever were any.
    pub(super) marks_due: usize,
    pub(super) was_sent_to: bool,
    /// How the server reaches it, if it does not come by itself.
    pub(super) call: Option<Call>,
    /// Whether the loop had answers for it after its last turn.
    pub(super) waits_to_send: bool,
}

impl Wire {
    pub(super) fn new(client: Client, listener: usize) -> Self {
        Self {
            client,
            listener,
            standing: Standing::NotYet,
            ended: None,
            spoiled: None,
            said: 0,
            received: 0,
            mark: None,
            client_finished: false,
            end_received: false,
            broken: None,
            error_told: false,
            purged: false,
            answered: 0,
            read: 0,
            starved: false,
            shut: false,
            server_finished: None,
            closed: false,
            reset_at: None,
            vanished: false,
            quits: false,
            wants_room: false,
            write_planned: false,
            read_planned: false,
            last_said: Moment::START,
            token: None,
            interest: Wants::default(),
            reports_room: false,
            muted: false,
            unregistrable: false,
            held: false,
            last_received: Moment::START,
            last_sent: Moment::START,
            moved_before_our_end: None,
            promised: None,
            seen: Seen { timer: Moment::NEVER, ..Seen::default() },
            id: None,
            marks_due: 0,
            was_sent_to: false,
            call: None,
            waits_to_send: false,
        }
    }

    /// The address of client number `index`, and back.
    pub(super) fn address(index: usize) -> PeerAddress {
        PeerAddress::Inet(([127, 0, 0, 1], index as u16 + 1).into())
    }

    pub(super) fn index(address: PeerAddress) -> usize {
        match address {
            PeerAddress::Inet(address) => usize::from(address.port()) - 1,
            PeerAddress::Unix => unreachable!("a simulated client has an address"),
        }
    }

    /// Whether the client still does anything.
    pub(super) fn is_active(&self) -> bool {
        let is_there = !matches!(self.standing, Standing::NotYet | Standing::Called);
        self.ended.is_none() && !self.vanished && is_there
    }

    /// Whether everything is promised to it, if at most `send_buffer` bytes may wait for it.
    pub(super) fn is_well(&self, send_buffer: usize) -> bool {
        let is_in = matches!(self.standing, Standing::InBacklog | Standing::Accepted);
        // Messages, too, wait for one that reads only afterwards.
        let room = send_buffer.saturating_sub(self.marks_due);
        self.spoiled.is_none() && is_in && self.client.is_well(room)
    }

    pub(super) fn spoil(&mut self, why: &'static str) {
        self.spoiled.get_or_insert(why);
    }

    /// What the server can receive without waiting.
    pub(super) fn unread(&self) -> usize {
        if self.purged { 0 } else { self.said - self.received }
    }

    /// What the kernel says that there is: it counts the urgent byte, too, which cannot be received.
    pub(super) fn reported_unread(&self) -> usize {
        self.unread() + usize::from(self.mark.is_some())
    }

    pub(super) fn room_for_said(&self) -> usize {
        self.client.buffers.0.saturating_sub(self.said - self.received)
    }

    pub(super) fn room_for_answers(&self) -> usize {
        let most = self.client.buffers.1;
        if self.shut { 0 } else { most.saturating_sub(self.answered - self.read) }
    }

    /// A kernel calls a socket writable when a third of its buffer is free, not when a byte is.
    pub(super) fn is_writable(&self) -> bool {
        let room = self.room_for_answers();
        if self.standing == Standing::Called {
            return self.broken.is_some();
        }
        self.broken.is_some() || (room > 0 && room * 3 >= self.client.buffers.1)
    }

    pub(super) fn is_readable(&self) -> bool {
        self.unread() > 0 || self.client_finished || self.broken.is_some()
    }

    pub(super) fn is_hung_up(&self) -> bool {
        self.broken.is_some() || (self.client_finished && self.server_finished.is_some())
    }

    /// As the kernel describes it now.
    pub(super) fn state(&self, token: Token) -> Ready {
        Ready::Stream {
            token,
            receive: self.is_readable(),
            end: self.client_finished || self.broken.is_some() || self.mark.is_some(),
            hung_up: self.is_hung_up(),
        }
    }

    /// What the client can read, and whether nothing comes behind it.
    pub(super) fn unread_answers(&self) -> usize {
        self.reset_at.unwrap_or(self.answered) - self.read
    }

    /// Whether it has come to the byte where it leaves badly.
    pub(super) fn leaves_now(&self) -> Option<Leaving> {
        let moved = self.said + self.read;
        match self.client.leaving {
            leaving @ (Leaving::Reset(after) | Leaving::Vanish(after)) if moved >= after => {
                Some(leaving)
            }
            _ => None,
        }
    }

    /// The server closed its descriptor, or was refused one: with a reset if it says so, or if
    /// there are bytes that it did not read. Then the kernel throws away its own send queue, and
    /// only what the network carried already arrives.
    pub(super) fn close(&mut self, now: Moment, cut: bool, arrived: usize) {
        self.closed = true;
        self.held = false;
        self.token = None;
        if cut || self.unread() > 0 {
            self.reset_client(arrived);
        } else {
            self.server_finished.get_or_insert(now);
        }
    }

    /// The client is reset; of what is on its way `arrived` bytes still come.
    pub(super) fn reset_client(&mut self, arrived: usize) {
        let at = (self.read + arrived).min(self.answered);
        self.reset_at.get_or_insert(at);
    }
}
