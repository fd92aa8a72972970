//! What a connection owns while something waits, and only then.

use crate::buffer::Buffer;
use crate::handler::Violation;
use crate::moment::Moment;

/// What waits. It owns storage, and everything that matters only while some is owned.
pub(super) struct Waiting {
    /// Unconsumed; what the handler sees first in its next call.
    pub(super) received: Buffer,
    /// Answers that the socket has not taken.
    pub(super) to_send: Buffer,
    /// `receive` is called at so many unconsumed bytes; 0 after `Again`: without any new byte.
    pub(super) need: usize,
    /// Over the high mark, and not yet down at the low one.
    pub(super) throttled: bool,
    /// The handler said `Wait`.
    pub(super) told_to_wait: bool,
    /// `room` is to be called.
    pub(super) room_due: bool,
    pub(super) drain: Drain,
    pub(super) finish: Finish,
    /// What the stream held at the last look that the peer had not taken; 0 before the first, and
    /// after a byte moved.
    pub(super) queued: usize,
    /// Since when `to_send` waits without progress.
    pub(super) stalled_since: Moment,
    /// Since when a frame is incomplete; the time that reading was paused is not counted.
    pub(super) partial_since: Moment,
    /// Since when we do not read: throttled or told to wait.
    pub(super) paused_since: Moment,
    pub(super) violation: Option<Violation>,
}

impl Waiting {
    pub(super) fn is_paused(&self) -> bool {
        self.throttled || self.told_to_wait
    }

    /// The frame clock stands still while we do not read.
    pub(super) fn note_pause(&mut self, now: Moment) {
        match (self.is_paused(), self.paused_since.is_never()) {
            (true, true) => self.paused_since = now,
            (false, false) => {
                let since = self.paused_since;
                self.paused_since = Moment::NEVER;
                self.note_no_reading(since, now);
            }
            _ => {}
        }
    }

    /// Nothing was read since `since`; in a pause that is known already.
    pub(super) fn note_no_reading(&mut self, since: Moment, now: Moment) {
        if self.paused_since.is_never() && !self.partial_since.is_never() {
            // The frame may have begun only then, and missed a part of it.
            let missed = now.since(since.max(self.partial_since));
            self.partial_since = self.partial_since + missed.into();
        }
    }

    /// Whether nothing waits, so that the storage can be given back.
    pub(super) fn is_over(&self) -> bool {
        self.received.is_empty()
            && self.to_send.is_empty()
            && self.need != 0
            && self.queued == 0
            && !self.is_paused()
            && !self.room_due
            && self.drain == Drain::No
            && self.finish == Finish::No
            && self.partial_since.is_never()
            && self.violation.is_none()
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            received: Buffer::default(),
            to_send: Buffer::default(),
            need: 1,
            throttled: false,
            told_to_wait: false,
            room_due: false,
            drain: Drain::No,
            finish: Finish::No,
            queued: 0,
            stalled_since: Moment::NEVER,
            partial_since: Moment::NEVER,
            paused_since: Moment::NEVER,
            violation: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// So many bytes had come when the drain began and are still to be received.
    Reading(usize),
    /// The handler was told.
    Told,
}

/// Our FIN while the connection is open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    No,
    /// The handler said `Finish`; due when everything is sent.
    Wanted,
    Done,
}
