//! Everything about a world that is neither its clients nor its faults, drawn from the seed.
//!
//! What is drawn here is small on purpose. A limit that no client ever reaches, a budget that is
//! never spent and a buffer that is never full test nothing: a first simulation with one large
//! limit missed two of three planted bugs.

use std::fmt;
use std::time::Duration;

use crate::limits::Limits;

use super::failing::Failing;
use super::scarcity::Scarcity;
use super::{Draw, Fault, Faults};

/// How the kernel reports that something can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Once, when it begins; as epoll does for [`Model::Epoll`](crate::Model::Epoll).
    Edge,
    /// In each wait, for as long as it lasts; as poll(2) does for
    /// [`Model::Poll`](crate::Model::Poll).
    Level,
}

/// What the user of a simulation has fixed; the rest is drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Fixed {
    pub(super) trigger: Option<Trigger>,
    pub(super) limits: Option<Limits>,
    pub(super) max_frame: Option<usize>,
    pub(super) max_connections: Option<usize>,
    pub(super) faults: Option<Faults>,
    pub(super) drain_at: Option<u64>,
    pub(super) stop_at: Option<u64>,
    /// What some worlds have this one has.
    pub(super) always: bool,
    /// No end before nothing happens any more.
    pub(super) until_quiet: bool,
    pub(super) failing: Option<Failing>,
    pub(super) scarcity: Option<Scarcity>,
    /// Other threads send messages in some worlds.
    pub(super) messages: bool,
    /// The server calls clients in some worlds.
    pub(super) outgoing: bool,
    /// Datagrams come in some worlds.
    pub(super) datagrams: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) trigger: Trigger,
    pub(super) faults: Faults,
    /// The size of the buffer that the loop receives into: one of [`INPUTS`].
    pub(super) input: usize,
    /// Calls on a connection, and accepts, before it is another one's turn.
    pub(super) calls: u32,
    pub(super) accepts: u32,
    pub(super) limits: Limits,
    pub(super) max_connections: usize,
    pub(super) drain_timeout: Duration,
    pub(super) listeners: usize,
    /// Streams that the process has descriptors for.
    pub(super) descriptors: usize,
    /// The call of the loop at which a drain, or a stop at once, is asked for.
    pub(super) drain_at: Option<u64>,
    pub(super) stop_at: Option<u64>,
    /// How long clients hesitate.
    pub(super) latency: Duration,
    /// Events of one stream that wait together become one, as the kernel describes it then.
    pub(super) merging: bool,
    /// Events that one wait returns at most.
    pub(super) batch: usize,
    /// How much longer than asked a wait may sleep.
    pub(super) longest_jump: Duration,
    /// The call of the loop from which on nothing goes wrong any more: what faults have done must
    /// be got over without another one that happens to help.
    pub(super) calm_from: Option<u64>,
    /// The deadlines are short, and clients do not keep them.
    pub(super) hurries: bool,
    pub(super) failing: Option<Failing>,
    /// Which storage is refused.
    pub(super) scarcity: Option<Scarcity>,
    /// Where the messages of other threads are drawn from.
    pub(super) messages: Option<Draw>,
    /// Where it is drawn from which clients are called.
    pub(super) outgoing: Option<Draw>,
    /// Where the datagrams are drawn from.
    pub(super) datagrams: Option<Draw>,
}

/// In so many seconds every client that does its part is through, in a world without jumps.
pub(super) const LONG_DRAIN: u64 = 100_000;
/// The loop is compiled for each of these.
pub(super) const INPUTS: [usize; 3] = [16, 64, 4096];

impl Options {
    pub(super) fn drawn(fixed: &Fixed, draw: &mut Draw) -> Self {
        // A generator aside: whether there are messages changes nothing else.
        let mut aside = draw.clone().branch();
        let mut outgoing = aside.clone().branch();
        let outgoing = (fixed.outgoing && (fixed.always || outgoing.one_in(3))).then_some(outgoing);
        let mut datagrams = aside.clone().branch().branch();
        let datagrams =
            (fixed.datagrams && (fixed.always || datagrams.one_in(8))).then_some(datagrams);
        let messages = (fixed.messages && aside.one_in(3)).then_some(aside);
        // A deadline rescues a loop that has lost a wake-up, so half of the worlds have none.
        let deadlines = fixed.limits.is_some() || draw.one_in(2);
        let hurries = deadlines && fixed.limits.is_none() && draw.one_in(3);
        let send_buffer = *draw.pick(&[1, 2, 10, 33, 100, 1000, 1 << 20]);
        let drawn_limits = limits(deadlines, hurries, send_buffer);
        let drawn_faults = Faults::drawn(draw);
        let trigger = *draw.pick(&[Trigger::Edge, Trigger::Level]);
        let few = draw.between(1..=4);
        // Half of the worlds go on until nothing happens any more; then they are drained.
        let at = draw.between(1..=400) as u64;
        let (drawn_drain, drawn_stop) = match draw.between(0..=7) {
            0 | 1 => (Some(at), None),
            2 => (Some(at), Some(at + draw.between(1..=60) as u64)),
            3 => (None, Some(at)),
            _ => (None, None),
        };
        let ends_as_drawn =
            !fixed.until_quiet && fixed.drain_at.is_none() && fixed.stop_at.is_none();
        let faults = fixed.faults.unwrap_or(drawn_faults);
        let enough = if faults.has(Fault::Exhaustion) { few } else { usize::MAX };
        let mut limits = fixed.limits.clone().unwrap_or(drawn_limits);
        if let Some(bytes) = fixed.max_frame {
            limits = limits.max_frame(bytes);
        }
        Self {
            trigger: fixed.trigger.unwrap_or(trigger),
            faults,
            input: *draw.pick(&INPUTS),
            calls: *draw.pick(&[2, 2, 3, 16]),
            accepts: *draw.pick(&[1, 2, 64]),
            limits,
            max_connections: fixed.max_connections.unwrap_or(*draw.pick(&[
                few,
                usize::MAX,
                usize::MAX,
            ])),
            drain_timeout: Duration::from_secs(*draw.pick(&[1, LONG_DRAIN])),
            listeners: draw.between(1..=2),
            descriptors: *draw.pick(&[enough, usize::MAX]),
            drain_at: if ends_as_drawn { drawn_drain } else { fixed.drain_at },
            stop_at: if ends_as_drawn { drawn_stop } else { fixed.stop_at },
            latency: Duration::from_micros(*draw.pick(&[0, 10, 1_000, 10_000])),
            merging: draw.one_in(2),
            batch: *draw.pick(&[1, 2, 1024]),
            longest_jump: Duration::from_millis(if deadlines { 500 } else { 10_000_000 }),
            calm_from: draw.one_in(2).then(|| draw.between(1..=400) as u64),
            hurries,
            failing: fixed.failing,
            scarcity: fixed
                .scarcity
                .or(faults.has(Fault::OutOfMemory).then_some(Scarcity::OneIn(20))),
            messages,
            outgoing,
            datagrams,
        }
    }
}

fn limits(deadlines: bool, hurries: bool, send_buffer: usize) -> Limits {
    let limits = Limits::default().send_buffer(send_buffer);
    if !deadlines {
        let limits = limits.idle_timeout(None).write_timeout(None).frame_timeout(None);
        return limits.flush_timeout(None).linger(Duration::MAX, Duration::MAX);
    }
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    if hurries {
        // Shorter than a slow client hesitates: whom they end, they must end in time and no sooner.
        let limits = limits.idle_timeout(seconds(20)).write_timeout(seconds(5));
        return limits.frame_timeout(seconds(10)).flush_timeout(seconds(100_000));
    }
    // Longer than any client that does its part hesitates at once, so that no deadline is a reason
    // to lose it; and shorter than some of them take in all, so that progress must be noted.
    let limits = limits.idle_timeout(seconds(900)).write_timeout(seconds(120));
    limits.frame_timeout(seconds(12_000)).flush_timeout(seconds(100_000))
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trigger, faults, input, calls, accepts, limits, .. } = self;
        let Self { max_connections, drain_timeout, listeners, descriptors, .. } = self;
        let Self { drain_at, stop_at, latency, merging, batch, longest_jump, .. } = self;
        writeln!(f, "{trigger:?}-triggered, {listeners} listeners, faults: {faults}")?;
        if let Some(call) = self.calm_from {
            writeln!(f, "nothing goes wrong from call {call} on")?;
        }
        if self.messages.is_some() {
            writeln!(f, "other threads send messages")?;
        }
        if self.datagrams.is_some() {
            writeln!(f, "datagrams come")?;
        }
        if self.outgoing.is_some() {
            writeln!(f, "the server calls some clients")?;
        }
        if let Some(failing) = self.failing {
            writeln!(f, "{failing:?}")?;
        }
        if let Some(scarcity) = self.scarcity {
            writeln!(f, "storage is refused: {scarcity:?}")?;
        }
        writeln!(f, "{input} bytes of input, {calls} calls, {accepts} accepts a turn")?;
        let or_any = |most: usize| {
            if most == usize::MAX { "any number of".into() } else { most.to_string() }
        };
        let (connections, streams) = (or_any(*max_connections), or_any(*descriptors));
        writeln!(f, "{connections} connections, descriptors for {streams} streams")?;
        writeln!(f, "events: {batch} at once, merged {merging}, jumps of {longest_jump:?}")?;
        writeln!(f, "clients hesitate {latency:?}; drain timeout {drain_timeout:?}")?;
        writeln!(f, "drain at call {drain_at:?}, stop at call {stop_at:?}")?;
        write!(f, "{limits:?}")
    }
}
