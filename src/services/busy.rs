//! A service that costs something: to show what each way of waiting does with clients whose
//! requests take time.

use super::Lines;
use crate::{Exchange, Flow, Handler, Peer};

/// Answers as [`Lines`], and works for each line.
#[derive(Debug)]
pub struct Busy<W> {
    lines: Lines,
    work: W,
}

/// Lines in upper case, each of which costs one call of `work`.
///
/// ```
/// use evmux::services::busy;
///
/// let service = busy(|| {
///     std::hint::black_box((0..1000).sum::<u64>());
/// });
/// ```
pub fn busy<W: Fn() + Clone>(work: W) -> impl Fn(&Peer) -> Busy<W> {
    move |_| Busy { lines: Lines::default(), work: work.clone() }
}

impl<W: Fn()> Handler for Busy<W> {
    /// One line a call: the lines of a single read may be work for half a minute, and the other
    /// connections of the thread wait for as long as a call lasts.
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        match self.lines.answer_line(exchange) {
            Ok(true) => {
                (self.work)();
                Flow::Again
            }
            Ok(false) => Flow::Continue,
            Err(violation) => Flow::Refuse(violation),
        }
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        match self.lines.answer_last(exchange) {
            Ok(true) => {
                (self.work)();
                Flow::Close
            }
            Ok(false) => Flow::Close,
            Err(violation) => Flow::Refuse(violation),
        }
    }
}
