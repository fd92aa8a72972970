//! Frames with a delimiter: each line comes back in upper case, with the end that it had.

use crate::codec::lines::{self, Line};
use crate::codec::upper;
use crate::{Exchange, Flow, Handler, Peer, Violation};

/// Answers each line with its upper case.
#[derive(Debug, Default)]
pub struct Lines {
    frames: lines::Lines,
}

/// Lines in upper case.
pub fn lines(_: &Peer) -> Lines {
    Lines::default()
}

impl Handler for Lines {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            match self.answer_line(exchange) {
                Ok(true) if exchange.to_send.is_full() => return Flow::Again,
                Ok(true) => {}
                Ok(false) => return Flow::Continue,
                Err(violation) => return Flow::Refuse(violation),
            }
        }
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        match self.answer_last(exchange) {
            Ok(_) => Flow::Close,
            Err(violation) => Flow::Refuse(violation),
        }
    }
}

impl Lines {
    /// Answers the next line, and says whether there was one.
    #[inline]
    pub(super) fn answer_line(&mut self, exchange: &mut Exchange<'_>) -> Result<bool, Violation> {
        let Line::Whole { length, .. } =
            self.frames.next(&exchange.received, exchange.max_frame())?
        else {
            return Ok(false);
        };
        upper::answer_whole(&mut exchange.received, &mut exchange.to_send, length);
        Ok(true)
    }

    /// Answers the last line, which has no line feed and gets none, and says whether there was one.
    pub(super) fn answer_last(&mut self, exchange: &mut Exchange<'_>) -> Result<bool, Violation> {
        let length = self.frames.last(&exchange.received, exchange.max_frame())?;
        upper::answer_whole(&mut exchange.received, &mut exchange.to_send, length);
        Ok(length > 0)
    }
}
