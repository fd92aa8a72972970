//! The states of a connection, what it waits for in each, and until when.

use std::io;

use crate::connection::Connection;
use crate::connection::waiting::{Finish, Waiting};
use crate::handler::{Handler, Violation};
use crate::limits::{CloseReason, Limits};
use crate::moment::Moment;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Flushing(Ending),
    Lingering(Ending),
    Closed(Ending),
}

/// The peer's end: that it came, and that the handler was told, are two things, since a handler
/// that is full is told later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    NotYet,
    Come,
    Told,
}

/// A [`CloseReason`] without the numbers of a violation, which stand in [`Waiting`]: two bytes in
/// each connection instead of 24.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Finished,
    Served,
    Refused,
    Idle,
    Incomplete,
    Drained,
    Dismissed,
    TooSlow,
    DrainTimeout,
    Reset,
    Failed(io::ErrorKind),
    Unreachable(io::ErrorKind),
    Aborted,
    Panicked,
    Stopped,
    OutOfMemory,
}

/// How far a connection is, for those who look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// An outgoing one that is not there yet.
    Connecting,
    /// Nothing waits in it.
    Idle,
    /// A part of something has come, and the rest has not.
    Receiving,
    /// What was answered waits for the peer to take it.
    Sending,
    /// The same, or its handler waits, and the peer is not read from.
    Paused,
    /// It is to be closed, when what was answered is sent.
    Flushing,
    /// We have finished, and the peer is waited for.
    Lingering,
    /// It is over.
    Closed,
}

impl Stage {
    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Idle => "idle",
            Self::Receiving => "receiving",
            Self::Sending => "sending",
            Self::Paused => "paused",
            Self::Flushing => "flushing",
            Self::Lingering => "lingering",
            Self::Closed => "closed",
        }
    }
}

/// What the connection is waiting for: which calls may make it go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Bytes of the peer, or its end: [`Connection::receive`], [`Connection::receive_end`].
    pub receive: bool,
    /// Sending of [`Connection::to_send`].
    pub send: bool,
    /// Our FIN (`shutdown(2)` of the writing side), then [`Connection::finished`].
    pub finish: bool,
    /// [`Connection::pump`], now: no event will come for it.
    pub pump: bool,
}
impl<H: Handler> Connection<H> {
    /// What waits to be sent, in order.
    pub fn to_send(&self) -> &[u8] {
        self.waiting.as_deref().map_or(&[], |waiting| waiting.to_send.as_slice())
    }

    /// How many bytes wait for the handler: unconsumed ones.
    pub fn held_back(&self) -> usize {
        self.waiting.as_deref().map_or(0, |waiting| waiting.received.len())
    }

    /// What the connection waits for.
    pub fn wants(&self) -> Wants {
        let not_ended = self.end == End::NotYet;
        match self.state {
            State::Open => match &self.waiting {
                None => {
                    Wants { receive: not_ended, pump: self.end == End::Come, ..Wants::default() }
                }
                Some(waiting) => Wants {
                    receive: not_ended && !waiting.is_paused() && waiting.need != 0,
                    send: !waiting.to_send.is_empty(),
                    finish: waiting.finish == Finish::Wanted && waiting.to_send.is_empty(),
                    pump: self.due().is_some(),
                },
            },
            // What still comes is discarded while we flush: a peer that sends everything before it
            // reads anything would otherwise wait for us as we wait for it.
            State::Flushing(_) => {
                let send = !self.to_send().is_empty();
                Wants { receive: not_ended, send, finish: !send && not_ended, pump: false }
            }
            State::Lingering(_) => Wants { receive: true, ..Wants::default() },
            State::Closed(_) => Wants::default(),
        }
    }

    /// When [`expire`](Connection::expire) is to be called, unless something happens before.
    #[inline]
    pub fn deadline(&self, limits: &Limits) -> Moment {
        if self.waiting.is_none() && self.state == State::Open {
            return self.timer.min(self.last_progress + limits.idle);
        }
        self.deadline_of_waiting(limits)
    }

    /// As [`deadline`](Connection::deadline), of a connection that is known to be idle.
    #[inline(always)]
    pub(crate) fn idle_deadline(&self, limits: &Limits) -> Moment {
        debug_assert!(self.is_idle());
        self.timer.min(self.last_progress + limits.idle)
    }

    /// Whether nothing waits: bytes that come now are seen by the handler as they are.
    #[inline(always)]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.state == State::Open && self.end == End::NotYet
    }

    /// Whether the peer is not read from, because it does not read or the handler said `Wait`.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.state == State::Open && self.waiting.as_deref().is_some_and(Waiting::is_paused)
    }

    /// Whether the connection is over: [`close`](Connection::close) it.
    #[inline]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        match (self.state, self.waiting.as_deref()) {
            (State::Open, None) => Stage::Idle,
            (State::Open, Some(waiting)) if waiting.is_paused() => Stage::Paused,
            (State::Open, Some(waiting)) if !waiting.to_send.is_empty() => Stage::Sending,
            (State::Open, Some(_)) => Stage::Receiving,
            (State::Flushing(_), _) => Stage::Flushing,
            (State::Lingering(_), _) => Stage::Lingering,
            (State::Closed(_), _) => Stage::Closed,
        }
    }

    /// Why it is over; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        let State::Closed(ending) = self.state else { return None };
        Some(match ending {
            Ending::Finished => CloseReason::Finished,
            Ending::Served => CloseReason::Served,
            Ending::Refused => {
                let violation = self.waiting.as_deref().and_then(|waiting| waiting.violation);
                CloseReason::Refused(violation.unwrap_or(Violation::Malformed("refused")))
            }
            Ending::Idle => CloseReason::Idle,
            Ending::Incomplete => CloseReason::Incomplete,
            Ending::Drained => CloseReason::Drained,
            Ending::Dismissed => CloseReason::Dismissed,
            Ending::TooSlow => CloseReason::TooSlow,
            Ending::DrainTimeout => CloseReason::DrainTimeout,
            Ending::Reset => CloseReason::Reset,
            Ending::Failed(kind) => CloseReason::Failed(kind),
            Ending::Unreachable(kind) => CloseReason::Unreachable(kind),
            Ending::Aborted => CloseReason::Aborted,
            Ending::Panicked => CloseReason::Panicked,
            Ending::Stopped => CloseReason::Stopped,
            Ending::OutOfMemory => CloseReason::OutOfMemory,
        })
    }

    #[cold]
    fn deadline_of_waiting(&self, limits: &Limits) -> Moment {
        match self.state {
            State::Open => self
                .timer
                .min(self.last_progress + limits.idle)
                .min(self.write_deadline(limits))
                .min(self.frame_deadline(limits)),
            State::Flushing(_) => self.timer.min(self.write_deadline(limits)),
            State::Lingering(_) => self.timer.min(self.last_progress + limits.linger_silence),
            State::Closed(_) => Moment::NEVER,
        }
    }

    /// A peer that takes nothing and says nothing is not kept for longer than an idle one.
    pub(super) fn write_deadline(&self, limits: &Limits) -> Moment {
        match &self.waiting {
            Some(waiting) if !waiting.to_send.is_empty() => {
                (waiting.stalled_since + limits.write).min(self.last_progress + limits.idle)
            }
            _ => Moment::NEVER,
        }
    }

    pub(super) fn frame_deadline(&self, limits: &Limits) -> Moment {
        match &self.waiting {
            Some(waiting) if !waiting.is_paused() && self.end == End::NotYet => {
                waiting.partial_since + limits.frame
            }
            _ => Moment::NEVER,
        }
    }
}
