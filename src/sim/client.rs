//! Who is at the other end in a simulated world: what a client says and is to be answered, and how
//! it behaves while it does so.
//!
//! The two are apart. A [`Script`] belongs to the protocol, and the handler must get it right
//! whatever happens. The manner belongs to the [`Client`]: it may wait for each answer or pour out
//! everything at once, read slowly or never, finish early, late or not at all.

use std::fmt;
use std::time::Duration;

use super::Draw;

/// What one client says, byte for byte, and what it must be answered.
///
/// It is the oracle: a plain list of what goes in and what has to come out, made without the
/// handler. It is divided into messages only so that a client can wait for each answer; how the
/// bytes are divided on their way is the world's business.
///
/// ```
/// use evmux::sim::Script;
///
/// let script = Script::new()
///     .hears(b"ready\n")
///     .says(b"hello\n", b"HELLO\n")
///     .says(b"wor", b"")
///     .says(b"ld\n", b"WORLD\n");
/// assert_eq!(script.said(), b"hello\nworld\n");
/// assert_eq!(script.answered(), b"ready\nHELLO\nWORLD\n");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script {
    said: Vec<u8>,
    answered: Vec<u8>,
    /// After so many bytes said, so many must have been answered; both only grow.
    steps: Vec<(usize, usize)>,
    close: Close,
}

/// How a scripted connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Close {
    /// When the client has finished.
    #[default]
    ByClient,
    /// The handler closes it in order, when the last answer is given.
    ByServer,
    /// The handler cuts it, or panics: answers may be lost.
    Cut,
}

impl Script {
    /// Nothing is said.
    pub fn new() -> Self {
        Self::default()
    }

    /// The server speaks: so many bytes more, without any from the client.
    #[must_use]
    pub fn hears(self, bytes: &[u8]) -> Self {
        self.says(b"", bytes)
    }

    /// The client says `bytes`, and as soon as the server has them, it answers `answer`.
    #[must_use]
    pub fn says(mut self, bytes: &[u8], answer: &[u8]) -> Self {
        self.said.extend_from_slice(bytes);
        self.answered.extend_from_slice(answer);
        self.steps.push((self.said.len(), self.answered.len()));
        self
    }

    /// What the server answers to the client's end, and not before. Call it last.
    #[must_use]
    pub fn hears_at_the_end(mut self, bytes: &[u8]) -> Self {
        self.answered.extend_from_slice(bytes);
        self
    }

    /// After the last answer the server closes by itself; what the client says beyond that is not
    /// answered. Without this, a handler that closes first fails the simulation.
    #[must_use]
    pub fn server_closes(mut self) -> Self {
        self.close = Close::ByServer;
        self
    }

    /// The server cuts the connection: some of the answers may be lost, though none may be wrong.
    #[must_use]
    pub fn server_cuts(mut self) -> Self {
        self.close = Close::Cut;
        self
    }

    /// All that the client says.
    pub fn said(&self) -> &[u8] {
        &self.said
    }

    /// All that it must be answered.
    pub fn answered(&self) -> &[u8] {
        &self.answered
    }

    /// One byte more comes at this place of the answers. What was owed before it still is as much.
    pub(super) fn insert(&mut self, at: usize, byte: u8) {
        self.answered.insert(at, byte);
        for (_, answered) in &mut self.steps {
            *answered += usize::from(*answered > at);
        }
    }

    pub(super) fn close(&self) -> Close {
        self.close
    }

    /// What must have been answered when the first `said` bytes have come.
    pub(super) fn owed(&self, said: usize) -> usize {
        let whole = self.steps.iter().take_while(|(end, _)| *end <= said);
        whole.last().map_or(0, |(_, answered)| *answered)
    }

    /// Where the message ends that goes on behind the first `said` bytes.
    pub(super) fn end_of_message(&self, said: usize) -> usize {
        let next = self.steps.iter().find(|(end, _)| *end > said);
        next.map_or(self.said.len(), |(end, _)| *end)
    }
}

/// How a client sends what its script says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Writing {
    /// As much at once as the server's kernel takes.
    Firehose,
    /// In pieces of a few bytes that end anywhere.
    Pieces,
    /// Byte by byte.
    Trickle,
    /// In pieces, with minutes between them: it is idle for longer than any deadline in all, but
    /// never at once.
    Seldom,
    /// A message, then it waits for the answer. Nothing else comes that could wake a loop that
    /// overlooked something.
    LockStep,
}

/// How a client receives its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reading {
    /// Soon, and all that is there.
    Eager,
    /// A few bytes at a time, with pauses.
    Slow,
    /// Half of what is there, with up to half a minute between: its bytes leave, and so it is not
    /// idle.
    Seldom,
    /// Only when it has sent everything.
    Afterwards,
    /// Never.
    Never,
}

/// How a client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leaving {
    /// It finishes sending behind its last byte, and reads on: a half-close.
    FinishAtOnce,
    /// It finishes when it has its last answer.
    FinishLast,
    /// It resets the connection when so many bytes went in either direction.
    Reset(usize),
    /// It is never heard of again when so many bytes went in either direction.
    Vanish(usize),
}

/// A client: a script, and the manner in which it is played.
///
/// ```
/// use evmux::sim::{Client, Leaving, Reading, Script, Writing};
///
/// let script = Script::new().says(b"ping", b"ping");
/// let client = Client::new(script)
///     .writing(Writing::Trickle)
///     .reading(Reading::Slow)
///     .leaving(Leaving::FinishLast)
///     .buffers(8, 1);
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) script: Script,
    pub(super) writing: Writing,
    pub(super) reading: Reading,
    pub(super) leaving: Leaving,
    /// What the server's kernel holds towards the server, and towards the client.
    pub(super) buffers: (usize, usize),
    pub(super) begins: Duration,
}

impl Client {
    /// One that says everything at once, finishes, and reads its answers eagerly, through socket
    /// buffers of 64 KiB.
    pub fn new(script: Script) -> Self {
        Self {
            script,
            writing: Writing::Firehose,
            reading: Reading::Eager,
            leaving: Leaving::FinishAtOnce,
            buffers: (1 << 16, 1 << 16),
            begins: Duration::ZERO,
        }
    }

    /// One of any manner. Most are well, since only to them anything is promised.
    pub fn drawn(script: Script, draw: &mut Draw) -> Self {
        use {Leaving as L, Reading as R, Writing as W};
        let bytes = script.said.len() + script.answered.len();
        let after = draw.between(0..=bytes);
        let finish = [L::FinishAtOnce, L::FinishLast];
        let leaving = match draw.between(0..=9) {
            0 => L::Reset(after),
            1 => L::Vanish(after),
            _ => *draw.pick(&finish),
        };
        let reading = match draw.between(0..=9) {
            0 => R::Never,
            1 => R::Afterwards,
            2 | 3 => R::Slow,
            4 => R::Seldom,
            _ => R::Eager,
        };
        let sizes = [1, 2, 7, 16, 50, 200, 1000, 65536];
        let writing = match draw.between(0..=9) {
            0 | 1 => W::Firehose,
            2 | 3 => W::Pieces,
            4 | 5 => W::Trickle,
            6 => W::Seldom,
            _ => W::LockStep,
        };
        let buffers = (*draw.pick(&sizes), *draw.pick(&sizes));
        let begins = Duration::from_micros(*draw.pick(&[0, 0, 10, 1_000, 100_000, 3_000_000]));
        Self { script, writing, reading, leaving, buffers, begins }
    }

    /// How it sends.
    #[must_use]
    pub fn writing(mut self, writing: Writing) -> Self {
        self.writing = writing;
        self
    }

    /// How it receives.
    #[must_use]
    pub fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    /// How it goes.
    #[must_use]
    pub fn leaving(mut self, leaving: Leaving) -> Self {
        self.leaving = leaving;
        self
    }

    /// How many bytes the kernel between the two holds towards the server, and towards the client;
    /// at least one each.
    #[must_use]
    pub fn buffers(mut self, towards_server: usize, towards_client: usize) -> Self {
        self.buffers = (towards_server.max(1), towards_client.max(1));
        self
    }

    /// When it connects, after the world began.
    #[must_use]
    pub fn begins(mut self, after: Duration) -> Self {
        self.begins = after;
        self
    }

    /// Whether it does its part, so that all its answers are promised to it, if at most
    /// `send_buffer` bytes may wait for it. One that reads nothing before it has sent everything
    /// stops itself once the answers do not fit any more.
    pub(super) fn is_well(&self, send_buffer: usize) -> bool {
        let reads = match self.reading {
            Reading::Eager | Reading::Slow | Reading::Seldom => true,
            Reading::Afterwards => {
                let writes_on = !matches!(self.writing, Writing::LockStep | Writing::Seldom);
                writes_on && self.script.answered.len() < send_buffer
            }
            Reading::Never => false,
        };
        reads && matches!(self.leaving, Leaving::FinishAtOnce | Leaving::FinishLast)
    }
}

/// What all clients of a world have in common. Where only some behaviours are on, they meet more of
/// their own kind: eight slow readers fill what one among seven others never does.
#[derive(Debug)]
pub(super) struct Manners {
    writing: Option<Writing>,
    reading: Option<Reading>,
    leaving: Option<Leaving>,
}

impl Manners {
    pub(super) fn drawn(draw: &mut Draw) -> Self {
        let model = Client::drawn(Script::new(), draw);
        let mut one_in_four = || draw.one_in(4);
        Self {
            writing: one_in_four().then_some(model.writing),
            reading: one_in_four().then_some(model.reading),
            leaving: one_in_four().then_some(model.leaving),
        }
    }

    pub(super) fn of(&self, mut client: Client) -> Client {
        client.writing = self.writing.unwrap_or(client.writing);
        client.reading = self.reading.unwrap_or(client.reading);
        let bytes = client.script.said.len() + client.script.answered.len();
        client.leaving = match (self.leaving, client.leaving) {
            // Where each of them leaves is its own.
            (Some(Leaving::Reset(_)), Leaving::Reset(at) | Leaving::Vanish(at)) => {
                Leaving::Reset(at)
            }
            (Some(Leaving::Reset(_)), _) => Leaving::Reset(bytes / 2),
            (Some(Leaving::Vanish(_)), Leaving::Reset(at) | Leaving::Vanish(at)) => {
                Leaving::Vanish(at)
            }
            (Some(Leaving::Vanish(_)), _) => Leaving::Vanish(bytes / 2),
            (common, own) => common.unwrap_or(own),
        };
        client
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { script, writing, reading, leaving, buffers, begins } = self;
        let (said, answered, close) = (script.said.len(), script.answered.len(), script.close);
        write!(f, "{said} bytes for {answered}, closed {close:?}; ")?;
        write!(f, "{writing:?}, {reading:?}, {leaving:?}, buffers {buffers:?}, at {begins:?}")
    }
}
