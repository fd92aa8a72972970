//! The generator: one thread, one epoll set, and the course of a run.
//!
//! ```text
//!   Connecting ── all there, or failed ──▶ WarmingUp ──▶ Measuring ── enough ──▶ Finishing ──▶ end
//! ```
//!
//! It shares addresses and codecs with the engine, and nothing of its connections or loops: a
//! ruler that bends with what it measures shows nothing. A turn of the loop is: look at the time,
//! wait, run what is ready. What happens to one connection stands in `asking`, how they are made
//! and lost in `connecting`.
//!
//! All waiting ends by a timerfd in the set, since a timeout of epoll_wait(2) has milliseconds
//! only, and half of one would be found in every latency of the open loop.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::client::{Client, Role, State};
use super::machine::{Machine, Meter, OwnUsage};
use super::outcome::{Interim, LoadError, Observer, Outcome, Phase, Second};
use super::plan::{Plan, Until};
use super::schedule::Schedule;
use super::socket::Target;
use super::tally::Tally;
use super::tape::{Random, Tape};
use super::warning::Warning;
use crate::moment::{Moment, Patience};
use crate::sys::{self, TimerFd};

pub(super) struct Generator<'a> {
    pub(super) plan: &'a Plan,
    pub(super) tape: Tape,
    pub(super) is_datagrams: bool,
    clock: Instant,
    pub(super) poll: Poll,
    timer: TimerFd,
    /// When the timer goes off: not later than anything is due.
    armed: Moment,
    pub(super) scratch: Box<[u8]>,
    /// Their places are their tokens.
    pub(super) clients: Vec<Client>,
    /// Those that may ask, the one that has been free for longest first. Some of them may have been
    /// lost since.
    pub(super) free: VecDeque<u32>,
    pub(super) schedule: Schedule,
    pub(super) tally: Tally,
    /// Requests whose replies are to come, on all connections.
    pub(super) under_way: usize,

    pub(super) targets: Vec<Target>,
    /// The one that is connected to: the first that can be.
    pub(super) target: usize,
    /// Those whose attempt is due, and when the connect rate allows for the next one.
    pub(super) absent: VecDeque<u32>,
    pub(super) next_connect: Moment,
    pub(super) connecting: usize,
    /// Those that were neither connected once nor failed.
    pub(super) unsettled: usize,
    /// Those that ask and are open, and the most that were.
    pub(super) open: usize,
    pub(super) most_open: usize,
    pub(super) others: usize,
    pub(super) most_others: usize,
    pub(super) last_failure: Option<io::Error>,

    pub(super) phase: Phase,
    /// When every connection had been made or had failed. A server that is full closes those that
    /// are too many a moment later: it is given that moment, so that no request is lost to it.
    settled: Moment,
    /// When a connection was last open. A server that is gone for longer than the timeout does not
    /// come back.
    last_open: Moment,
    next_look: Moment,
    /// When the current second of the measurement began.
    second_began: Moment,
    /// When the last replies are no longer waited for.
    finish: Moment,
    course: Course,
}

/// What is noted on the way for the outcome.
#[derive(Default)]
struct Course {
    started: Option<SystemTime>,
    connecting: Duration,
    meter: Option<Meter>,
    measured: Duration,
    own: OwnUsage,
    limit: u64,
    needed: u64,
    interrupted: bool,
    server_gone: bool,
}

/// Connections are looked at so often: timeouts, slow readers, the observer.
const LOOK: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// Descriptors for what is not a connection: the three standard ones, the set, the timer, files.
const OTHER_DESCRIPTORS: u64 = 16;
/// Events taken at a time.
const EVENTS: usize = 1024;
/// Bytes read at a time.
const SCRATCH: usize = 64 * 1024;
const TIMER: Token = Token(usize::MAX);

impl<'a> Generator<'a> {
    pub(super) fn new(plan: &'a Plan) -> Result<Self, LoadError> {
        plan.check()?;
        let resolve = |error| LoadError::Resolve { target: plan.target.clone(), error };
        let targets = Target::all(plan).map_err(resolve)?;
        let mut course = Course::default();
        let clients = clients_within_the_limit(plan, &mut course);

        let setup = |error| LoadError::Generator { what: "cannot set up the generator", error };
        let poll = Poll::new().map_err(setup)?;
        let timer = TimerFd::new().map_err(setup)?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)
            .map_err(setup)?;
        let tape = Tape::new(plan);
        // Another sequence than that of the bytes.
        let mut random = Random::new(!plan.seed);
        let clients: Vec<_> = clients
            .into_iter()
            .map(|role| Client::new(role, plan, tape.begin(&mut random)))
            .collect();
        Ok(Self {
            plan,
            tape,
            is_datagrams: plan.is_datagrams(),
            clock: Instant::now(),
            poll,
            timer,
            armed: Moment::NEVER,
            scratch: vec![0; SCRATCH].into(),
            free: VecDeque::with_capacity(clients.len()),
            schedule: Schedule::new(plan),
            tally: Tally::new(plan.pacing.rate().is_some()).map_err(setup)?,
            under_way: 0,
            targets,
            target: 0,
            absent: (0..clients.len() as u32).collect(),
            next_connect: Moment::START,
            connecting: 0,
            unsettled: clients.len(),
            clients,
            open: 0,
            most_open: 0,
            others: 0,
            most_others: 0,
            last_failure: None,
            phase: Phase::Connecting,
            settled: Moment::NEVER,
            last_open: Moment::NEVER,
            next_look: Moment::START,
            second_began: Moment::NEVER,
            finish: Moment::NEVER,
            course,
        })
    }

    /// The run, from the first connection to the last reply.
    pub(super) fn run(mut self, observer: &mut impl Observer) -> Result<Outcome, LoadError> {
        let stuck = |error| LoadError::Generator { what: "the generator cannot go on", error };
        let mut events = Events::with_capacity(EVENTS);
        observer.phase(self.phase);
        loop {
            let now = self.now();
            self.connect_absent(now);
            if self.look(now, observer).map_err(stuck)?.is_break() {
                break;
            }
            if self.advance(now, observer)?.is_break() {
                break;
            }
            self.dispatch(now);
            self.arm().map_err(stuck)?;
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled.map_err(stuck)?,
            }
            for event in &events {
                if event.token() == TIMER {
                    self.armed = Moment::NEVER;
                } else {
                    self.run_ready(event);
                }
            }
        }
        self.end(observer).map_err(stuck)
    }

    #[inline]
    pub(super) fn now(&self) -> Moment {
        Moment::from_nanos(self.clock.elapsed().as_nanos() as u64)
    }

    /// Ten times a second: what has waited for too long, and whoever watches.
    fn look(&mut self, now: Moment, observer: &mut impl Observer) -> io::Result<ControlFlow<()>> {
        if now < self.next_look {
            return Ok(ControlFlow::Continue(()));
        }
        // With a short timeout more often, so that none lasts much longer than it should.
        self.next_look = now + Patience::new(LOOK.min(self.plan.timeout / 4));
        self.expire(now);
        if self.open > 0 {
            self.last_open = now;
        }
        while !self.second_began.is_never() && now.since(self.second_began) >= SECOND {
            self.close_second(self.second_began + SECOND.into(), observer)?;
        }
        self.tally.counts.planned = self.schedule.measured;
        let left = if self.schedule.end.is_never() {
            None
        } else {
            Some(self.schedule.end.since(now.max(self.schedule.measured_from)))
        };
        let interim = Interim {
            phase: self.phase,
            connections: self.open,
            counts: self.tally.counts,
            errors: self.tally.errors,
            left,
        };
        let flow = observer.interim(&interim);
        self.course.interrupted = flow.is_break();
        Ok(flow)
    }

    fn close_second(&mut self, end: Moment, observer: &mut impl Observer) -> io::Result<()> {
        observer.second(&Second {
            begin: self.second_began.since(self.schedule.measured_from),
            length: end.since(self.second_began),
            times: &self.tally.second,
        });
        self.second_began = end;
        self.tally.close_second()
    }

    /// From one part of the run to the next, if it is time; breaks at the end.
    fn advance(
        &mut self,
        now: Moment,
        observer: &mut impl Observer,
    ) -> Result<ControlFlow<()>, LoadError> {
        let setup = |error| LoadError::Generator { what: "cannot read what the run costs", error };
        let before = self.phase;
        if self.phase == Phase::Connecting && self.unsettled == 0 {
            self.settled = self.settled.min(now);
        }
        if self.phase == Phase::Connecting && now >= self.settled + LOOK.into() {
            if self.open == 0 {
                let error = self.last_failure.take();
                return Err(LoadError::Unreachable {
                    target: self.plan.target.clone(),
                    error: error.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()),
                });
            }
            self.course.connecting = self.settled.since(Moment::START);
            self.last_open = now;
            self.schedule.begin(now, self.plan.warmup);
            self.phase = Phase::WarmingUp;
        }
        if self.phase == Phase::WarmingUp && now >= self.schedule.measured_from {
            self.course.meter = Some(Meter::read().map_err(setup)?);
            self.course.started = Some(SystemTime::now());
            self.second_began = self.schedule.measured_from;
            self.phase = Phase::Measuring;
        }
        if self.phase == Phase::Measuring && self.has_enough(now) {
            self.finish = now + Patience::new(self.plan.timeout);
            self.phase = Phase::Finishing;
            self.course.server_gone = self.open == 0;
            if matches!(self.plan.until, Until::Duration(_)) {
                self.stop_measuring(now).map_err(setup)?;
            }
        }
        if self.phase != before {
            observer.phase(self.phase);
        }
        // In the open loop, what was due before the end and could not be sent may be yet.
        let all_sent = self.plan.pacing.rate().is_none() || self.schedule.next().is_never();
        let nothing_left = self.under_way == 0 && all_sent;
        Ok(match self.phase {
            Phase::Finishing if nothing_left || now >= self.finish => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    }

    fn has_enough(&self, now: Moment) -> bool {
        if now >= self.last_open + Patience::new(self.plan.timeout) {
            return true;
        }
        match self.plan.until {
            Until::Duration(_) => now >= self.schedule.end,
            Until::Requests(most) => self.schedule.measured >= most,
        }
    }

    /// What was used until now was used for what is measured.
    fn stop_measuring(&mut self, now: Moment) -> io::Result<()> {
        if let Some(meter) = self.course.meter.take() {
            let elapsed = now.since(self.schedule.measured_from);
            self.course.own = meter.since(elapsed)?;
            self.course.measured = match self.plan.until {
                Until::Duration(duration) => duration.min(elapsed),
                Until::Requests(_) => elapsed,
            };
        }
        Ok(())
    }

    /// Sees to it that the next wait ends when something is due.
    fn arm(&mut self) -> io::Result<()> {
        let mut due = self.next_look.min(match self.phase {
            Phase::Connecting => Moment::NEVER,
            Phase::WarmingUp => self.schedule.measured_from,
            Phase::Measuring => self.schedule.end,
            Phase::Finishing => self.finish,
        });
        if !self.free.is_empty() {
            let next = self.schedule.next();
            // In the closed loop the free ones ask until it ends, and that is due already.
            if next > Moment::START {
                due = due.min(next);
            }
        }
        if !self.absent.is_empty() && self.may_connect_more() {
            due = due.min(self.next_connect);
        }
        // A timer that goes off earlier than needed costs less than one that is set again.
        if due < self.armed {
            self.timer.arm(due.since(self.now()))?;
            self.armed = due;
        }
        Ok(())
    }

    fn end(mut self, observer: &mut impl Observer) -> io::Result<Outcome> {
        let now = self.now();
        self.stop_measuring(now)?;
        if self.course.interrupted {
            self.tally.counts.abandoned += self.under_way as u64;
        } else {
            self.give_up_what_is_under_way();
            self.schedule.stop();
            self.look_for_surplus();
        }
        if !self.second_began.is_never() {
            self.close_second(now, observer)?;
        }
        self.tally.counts.planned = self.schedule.measured;
        let course = self.course;
        let mut outcome = Outcome {
            started: course.started.unwrap_or_else(SystemTime::now),
            connecting: course.connecting,
            measured: course.measured,
            times: self.tally.times,
            connect: self.tally.connect,
            lag: self.tally.lag,
            counts: self.tally.counts,
            errors: self.tally.errors,
            first_wrong: self.tally.first_wrong,
            connections: self.most_open,
            others: self.most_others,
            limit: course.limit,
            needed: course.needed,
            own: course.own,
            machine: Machine::here(),
            warnings: Vec::new(),
            interrupted: course.interrupted,
            server_gone: course.server_gone,
        };
        outcome.warnings = Warning::about(self.plan, &outcome);
        Ok(outcome)
    }

    /// Everything that is still under way is too late.
    fn give_up_what_is_under_way(&mut self) {
        for slot in 0..self.clients.len() {
            if self.clients[slot].role == Role::Asks && !self.clients[slot].under_way.is_empty() {
                self.time_out(slot, Moment::NEVER);
            }
        }
        let unsent = self.give_up_unsent(Moment::NEVER);
        self.tally.errors.unsent += unsent;
    }

    /// A server that sends more than it was asked for may have done so last.
    fn look_for_surplus(&mut self) {
        for slot in 0..self.clients.len() {
            let client = &self.clients[slot];
            if client.role == Role::Asks && client.state == State::Open && !self.is_datagrams {
                self.receive(slot, false);
            }
        }
    }
}

/// What each connection is there for: as many as the limit of open files allows, those that ask
/// first. The limit is raised as far as it goes.
fn clients_within_the_limit(plan: &Plan, course: &mut Course) -> Vec<Role> {
    let roles = [
        (Role::Asks, plan.connections),
        (Role::Idles, plan.idle),
        (Role::ReadsSlowly, plan.slow_readers),
    ];
    let asked: usize = roles.iter().map(|(_, count)| count).sum();
    course.needed = asked as u64 + OTHER_DESCRIPTORS;
    // Unknown limits are found when they are reached.
    let limit = sys::raise_descriptor_limit().or_else(|_| sys::descriptor_limit());
    course.limit = limit.unwrap_or(u64::MAX);
    let most = usize::try_from(course.limit.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(asked);
    let all = roles.into_iter().flat_map(|(role, count)| std::iter::repeat_n(role, count));
    all.take(most.max(1)).collect()
}
