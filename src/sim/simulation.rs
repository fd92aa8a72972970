//! One world from its seed to its end, and many of them.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::counters::{Snapshot, Totals};
use crate::front::Front;
use crate::front::gate::Gate;
use crate::front::quiet::Quiet;
use crate::front::readiness::Readiness;
use crate::handler::{Handler, Peer, Service};
use crate::limits::{CloseReason, Limits};
use crate::local::{ConnectOptions, Local};
use crate::moment::Moment;
use crate::stop::Stop;
use crate::witness::Audience;

use super::client::Manners;
use super::failing::{FailedCall, Failing, Failures};
use super::kernel::SimKernel;
use super::messages::Messages;
use super::options::{Fixed, INPUTS, Options, Trigger};
use super::scarcity::{Reservations, Scarcity};
use super::shrink::{Kept, shrink};
use super::watch::{Watched, WatchedService};
use super::world::World;
use super::{Client, Draw, Faults, Script};

/// Runs `service` in one world for each of `seeds`, with clients whose scripts `script` draws.
///
/// The short form of [`Simulation::check`], which can fix more.
///
/// # Panics
/// When a world fails.
#[track_caller]
pub fn check<S: Service>(
    service: S,
    seeds: Range<u64>,
    script: impl FnMut(&mut Draw) -> Script,
) -> Snapshot {
    Simulation::new(service).check(seeds, script)
}

/// A service, and what is fixed of the worlds that it is to be tried in. What is not fixed is
/// drawn from the seed.
///
/// ```
/// use evmux::sim::{Client, Faults, Leaving, Script, Simulation, Trigger, Writing};
/// use evmux::{Exchange, Flow, Handler, Peer};
///
/// struct Echo;
/// impl Handler for Echo {
///     fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
///         let count = exchange.received.len();
///         exchange.to_send.append_received(&mut exchange.received, count);
///         Flow::Continue
///     }
/// }
///
/// let script = Script::new().says(b"one", b"one").says(b"two", b"two");
/// let report = Simulation::new(|_: &Peer| Echo)
///     .seed(7)
///     .trigger(Trigger::Edge)
///     .faults(Faults::none())
///     .client(Client::new(script.clone()).writing(Writing::LockStep))
///     .client(Client::new(script).leaving(Leaving::Reset(4)))
///     .run()
///     .unwrap_or_else(|failure| panic!("{failure}"));
/// assert_eq!(report.answers(0), b"onetwo");
/// assert!(b"onetwo".starts_with(report.answers(1)));
/// ```
pub struct Simulation<S> {
    service: S,
    /// What makes the handlers of those who are called.
    maker: Option<fn(&S) -> Maker>,
    seed: u64,
    fixed: Fixed,
    clients: Vec<Client>,
    kept: Kept,
}

/// Makes a handler for somebody that the server calls.
type Maker = Rc<dyn Fn(&Peer) -> Box<dyn Handler>>;

impl<S: Service + Clone + 'static> Simulation<S> {
    /// In some of the worlds the server calls some of the clients, instead of they it, as
    /// [`Local::connect`](crate::Local::connect) has it: some answer late or at their second address
    /// only, and some not at all. Their handlers come from the same service.
    #[must_use]
    pub fn outgoing(mut self) -> Self {
        self.maker = Some(|service| {
            let service = service.clone();
            Rc::new(move |peer| Box::new(service.handler(peer)))
        });
        self.fixed.outgoing = true;
        self
    }
}

impl<S: Service> Simulation<S> {
    /// Of a service, with seed 0, and as yet without a client.
    pub fn new(service: S) -> Self {
        Self {
            service,
            maker: None,
            seed: 0,
            fixed: Fixed::default(),
            clients: Vec::new(),
            kept: Kept::default(),
        }
    }

    /// What [`run`](Simulation::run) draws everything from.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// One more client.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    /// Of the clients of a world only these, by their numbers: what a shrunk failure names.
    #[must_use]
    pub fn keeping(mut self, clients: impl IntoIterator<Item = usize>) -> Self {
        self.kept.clients = Some(clients.into_iter().collect());
        self
    }

    /// How the kernel reports events.
    #[must_use]
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.fixed.trigger = Some(trigger);
        self
    }

    /// Exactly these faults.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.fixed.faults = Some(faults);
        self
    }

    /// Exactly these limits. Drawn ones are small, and half of them have no deadline at all. A
    /// client that does its part must never be ended by a deadline, so those given here must be
    /// minutes.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.fixed.limits = Some(limits);
        self
    }

    /// The longest frame, of limits that are drawn otherwise.
    #[must_use]
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.fixed.max_frame = Some(bytes);
        self
    }

    /// How many connections may be open at a time.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.fixed.max_connections = Some(count);
        self
    }

    /// In some of the worlds other threads wake handlers, close connections and send bytes to their
    /// peers, before and after these are gone. The bytes are zeros, which no answer of the scripts
    /// may have; and a handler that is woken for nothing must answer nothing.
    #[must_use]
    pub fn messages(mut self) -> Self {
        self.fixed.messages = true;
        self
    }

    /// In some of the worlds datagrams come, too, to one or two sockets beside the listeners. They
    /// are answered by a handler of the simulation's own: this tries the loop, and not a
    /// [`DatagramHandler`](crate::DatagramHandler).
    #[must_use]
    pub fn datagrams(mut self) -> Self {
        self.fixed.datagrams = true;
        self
    }

    /// Drains the server at this call that the loop makes of the kernel, counted from 1. Every
    /// world is drained when nothing happens any more.
    #[must_use]
    pub fn drain_at(mut self, call: u64) -> Self {
        self.fixed.drain_at = Some(call);
        self
    }

    /// Stops the server at once at this call of the loop.
    #[must_use]
    pub fn stop_at(mut self, call: u64) -> Self {
        self.fixed.stop_at = Some(call);
        self
    }

    /// Runs the world of the seed with the clients that were given. Unless said otherwise nobody is
    /// refused for want of a place, and the server is drained only when nothing happens any more.
    ///
    /// # Errors
    /// When something that is asserted is not so.
    pub fn run(&self) -> Result<Report, Failure> {
        let mut fixed = self.fixed.clone();
        fixed.max_connections.get_or_insert(usize::MAX);
        fixed.until_quiet = fixed.drain_at.is_none() && fixed.stop_at.is_none();
        fixed.always = true;
        let clients = self.kept.of(self.clients.clone());
        self.run_seed(self.seed, &fixed, clients).map(|(report, _)| report)
    }

    /// Runs the world of the seed with the clients that were given, again and again: each time
    /// another of the calls that the loop makes of the kernel fails, in each way that it can, once
    /// and from then on; and then each time other storage for bytes that must wait is refused. Nobody is promised an answer on a stream of which a call has failed; but
    /// nothing may be left, nothing may hang, and everybody else is served. Which calls failed.
    ///
    /// A drain or a stop that was asked for happens in each of these worlds.
    ///
    /// # Errors
    /// When something that is asserted is not so.
    pub fn fail_each_call(&self) -> Result<BTreeSet<FailedCall>, Failure> {
        let mut fixed = self.fixed.clone();
        fixed.max_connections.get_or_insert(usize::MAX);
        fixed.until_quiet = fixed.drain_at.is_none() && fixed.stop_at.is_none();
        fixed.always = true;
        let mut failed = BTreeSet::new();
        for from_then_on in [false, true] {
            let (mut number, mut variant) = (1, 0);
            loop {
                fixed.failing = Some(Failing { number, variant, from_then_on });
                let clients = self.kept.of(self.clients.clone());
                let (_, failures) = self.run_seed(self.seed, &fixed, clients)?;
                failed.extend(failures.failed);
                (number, variant) = match failures.variants {
                    // The world was over before it came to this call.
                    0 => break,
                    variants if variant + 1 < variants => (number, variant + 1),
                    _ => (number + 1, 0),
                };
            }
        }
        fixed.failing = None;
        for from_then_on in [false, true] {
            for number in 1.. {
                fixed.scarcity = Some(Scarcity::Nth { number, from_then_on });
                let clients = self.kept.of(self.clients.clone());
                let (_, failures) = self.run_seed(self.seed, &fixed, clients)?;
                if failures.reservations < number {
                    break;
                }
                failed.insert(FailedCall { call: "reserve", error: libc::ENOMEM, from_then_on });
            }
        }
        Ok(failed)
    }

    /// Runs one world for each of `seeds`: the clients that were given, and up to eight more of any
    /// manner, whose scripts `script` draws. What was counted in all of them.
    ///
    /// With `EVMUX_SIM_SEED` in the environment, that seed alone is run, with the clients of
    /// `EVMUX_SIM_CLIENTS` and the faults of `EVMUX_SIM_FAULTS` if these are there, too.
    ///
    /// # Panics
    /// When a world fails: with the seed, and with as few clients and faults as it fails with. When
    /// one of these variables is not what it must be.
    #[track_caller]
    pub fn check(
        &self,
        seeds: Range<u64>,
        mut script: impl FnMut(&mut Draw) -> Script,
    ) -> Snapshot {
        let mut sum = Snapshot::default();
        let replayed = seed_from_environment();
        let mut kept = self.kept.clone();
        if replayed.is_some() {
            let said = Kept::from_environment();
            kept.clients = said.clients.or(kept.clients);
            kept.faults = said.faults;
        }
        for seed in replayed.map_or(seeds, |seed| seed..seed + 1) {
            // Scripts and manners by generators of their own: another script for one seed leaves
            // the world as it was.
            let mut draw = Draw::new(seed ^ CLIENTS);
            let mut words = draw.branch();
            let mut clients = self.clients.clone();
            let manners = Manners::drawn(&mut draw);
            for _ in 0..draw.between(1..=8) {
                let client = Client::drawn(script(&mut words), &mut draw);
                clients.push(manners.of(client));
            }
            match self.run_kept(seed, &kept, clients.clone()) {
                Ok(report) => sum += report.counters,
                Err(failure) if replayed.is_some() => panic!("{failure}"),
                Err(failure) => panic!("{}", self.shrunk(seed, failure, clients)),
            }
        }
        sum
    }

    fn run_kept(&self, seed: u64, kept: &Kept, clients: Vec<Client>) -> Result<Report, Failure> {
        let mut fixed = self.fixed.clone();
        fixed.faults = kept.faults.or(fixed.faults);
        self.run_seed(seed, &fixed, kept.of(clients)).map(|(report, _)| report)
    }

    fn shrunk(&self, seed: u64, failure: Failure, clients: Vec<Client>) -> Failure {
        let faults = Options::drawn(&self.fixed, &mut Draw::new(seed)).faults;
        let fixed_to = |kept: &Kept| {
            let mut fixed = self.fixed.clone();
            fixed.faults = kept.faults.or(fixed.faults);
            fixed
        };
        let kept = shrink(clients.len(), faults, |kept| {
            self.simulate(seed, &fixed_to(kept), kept.of(clients.clone()), false).is_err()
        });
        let told = self.simulate(seed, &fixed_to(&kept), kept.of(clients.clone()), true);
        let mut failure = told.err().unwrap_or(failure);
        failure.kept = Some(Box::new(kept));
        failure
    }

    fn run_seed(
        &self,
        seed: u64,
        fixed: &Fixed,
        clients: Vec<(usize, Client)>,
    ) -> Result<(Report, Failures), Failure> {
        // The same world again, to be told what happened: nothing is written down in the others.
        self.simulate(seed, fixed, clients.clone(), false)
            .map_err(|failure| self.simulate(seed, fixed, clients, true).err().unwrap_or(failure))
    }

    fn simulate(
        &self,
        seed: u64,
        fixed: &Fixed,
        clients: Vec<(usize, Client)>,
        traced: bool,
    ) -> Result<(Report, Failures), Failure> {
        let mut draw = Draw::new(seed);
        let options = Options::drawn(fixed, &mut draw);
        let mut failure = Failure {
            seed,
            what: String::new(),
            options: options.to_string(),
            clients: clients.iter().map(|(index, it)| format!("client {index}: {it}")).collect(),
            kept: None,
            trace: Vec::new(),
        };
        let messages = options.messages.clone().map(Messages::new).transpose();
        let (stop, messages) = match Stop::new().and_then(|stop| Ok((stop, messages?))) {
            Ok(made) => made,
            Err(error) => {
                failure.what = format!("the world cannot be made: {error}");
                return Err(failure);
            }
        };
        let clients = clients.into_iter().map(|(_, client)| client).collect();
        let mut limits = options.limits.clone();
        let reservations =
            options.scarcity.map(|scarcity| Reservations::new(scarcity, &mut draw.clone()));
        if let Some(reservations) = &reservations {
            limits.memory = reservations.memory();
        }
        let mut world = World::new(draw, options.clone(), clients, stop.clone(), messages, traced);
        world.reservations = reservations;
        let world = Rc::new(RefCell::new(world));
        let make = |peer: &Peer| Box::new(self.service.handler(peer)) as Box<dyn Handler + '_>;
        let maker = self.maker.map(|maker| maker(&self.service));
        let totals = Totals::new();
        let front = Front {
            mailbox: None,
            audience: Audience::default(),
            service: &WatchedService { make: &make, world: world.clone() },
            limits,
            drain_timeout: options.drain_timeout,
            gate: Gate::new(options.max_connections),
            refusals: Quiet::default(),
            stop: &stop,
            totals: &totals,
            origin: Instant::now(),
        };
        let driven = panic::catch_unwind(AssertUnwindSafe(|| match options.trigger {
            Trigger::Edge => drive::<true>(&front, maker.as_ref(), &world),
            Trigger::Level => drive::<false>(&front, maker.as_ref(), &world),
        }));
        let mut world = world.borrow_mut();
        if let Err(payload) = driven {
            world.fail(|| format!("the loop panicked: {}", text(&*payload)));
        }
        let counters = totals.snapshot();
        if world.failure.is_none() {
            world.finish();
            world.look_back(&counters);
        }
        match world.failure.take() {
            None => {
                let mut failures = std::mem::take(&mut world.failures);
                failures.reservations =
                    world.reservations.as_ref().map_or(0, |reservations| reservations.made());
                Ok((Report::new(seed, &mut world, counters), failures))
            }
            Some(what) => {
                failure.what = what;
                failure.trace = world.trace.take().unwrap_or_default().into();
                Err(failure)
            }
        }
    }
}

/// What the generator of the clients differs in from that of the world.
const CLIENTS: u64 = 0xC11E_0175_0000_0000;

fn seed_from_environment() -> Option<u64> {
    let seed = std::env::var("EVMUX_SIM_SEED").ok()?;
    match seed.parse() {
        Ok(seed) => Some(seed),
        Err(_) => panic!("EVMUX_SIM_SEED is {seed}, and must be a number"),
    }
}

fn drive<const EDGE: bool>(
    front: &Front<'_, WatchedService<'_>>,
    maker: Option<&Maker>,
    world: &Rc<RefCell<World>>,
) {
    let input = world.borrow().options.input;
    match input {
        16 => drive_with::<EDGE, 16>(front, maker, world),
        64 => drive_with::<EDGE, 64>(front, maker, world),
        _ => drive_with::<EDGE, 4096>(front, maker, world),
    }
}

const _: () = assert!(INPUTS[0] == 16 && INPUTS[1] == 64 && INPUTS[2] == 4096);

fn drive_with<const EDGE: bool, const INPUT: usize>(
    front: &Front<'_, WatchedService<'_>>,
    maker: Option<&Maker>,
    world: &Rc<RefCell<World>>,
) {
    let counters = front.totals.register();
    let kernel = SimKernel::<EDGE>(world.clone());
    world.borrow_mut().fairness.counters = Some(counters.shared());
    let (calls, accepts) = {
        let options = &world.borrow().options;
        (options.calls, options.accepts)
    };
    let mut readiness =
        Readiness::<_, _, INPUT>::new(front, kernel, &counters).budgets(calls, accepts);
    let queue = world.borrow().messages.as_ref().map(|messages| messages.queue.clone());
    readiness = readiness.with_queue(queue, 0);
    readiness = readiness.with_datagrams(world.borrow().datagram_handlers());
    let local = maker.map(|_| Local::new());
    readiness = readiness.with_local(local.as_ref());
    let mut events = Vec::new();
    loop {
        if let (Some(maker), Some(local)) = (maker, &local) {
            ask_for_connections(maker, local, world);
        }
        let goes_on = readiness.turn(&mut events);
        let mut world = world.borrow_mut();
        world.look_at_attempts();
        let next = readiness.deadline();
        let (mut waiting, mut paused) = (0, 0);
        for (stream, connection) in readiness.connections() {
            world.look_at_bounds(stream.client(), connection);
            world.look_at_deadline(stream.client(), connection, next);
            if !connection.is_closed() {
                waiting += (connection.to_send().len() + connection.held_back()) as u64;
                paused += u64::from(connection.is_paused());
            }
        }
        let counted = (counters.waiting_bytes.value(), counters.paused_connections.value());
        if counted != (waiting, paused) {
            world.fail(|| format!("{waiting} bytes wait and {paused} pause, counted: {counted:?}"));
        }
        match goes_on {
            Ok(true) if world.failure.is_none() => {}
            Ok(_) => return,
            Err(_) if world.failures.fatal => {
                drop(world);
                return readiness.cut_open();
            }
            Err(error) => return world.fail(|| format!("the loop ended: {error}")),
        }
    }
}

fn ask_for_connections<'s>(maker: &Maker, local: &Local<Watched<'s>>, world: &Rc<RefCell<World>>) {
    loop {
        let Some((client, targets, within)) = world.borrow_mut().next_call() else { return };
        let (maker, world) = (Rc::clone(maker), Rc::clone(world));
        local.connect(targets, ConnectOptions::default().timeout(within), move |peer| {
            Watched::called(&*maker, peer, client, world)
        });
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without text")
}

/// What happened in a world in which everything was as it must be.
#[derive(Clone, Debug)]
pub struct Report {
    seed: u64,
    turns: u64,
    elapsed: Duration,
    counters: Snapshot,
    clients: Vec<(Vec<u8>, Option<CloseReason>)>,
}

impl Report {
    fn new(seed: u64, world: &mut World, counters: Snapshot) -> Self {
        let clients = world.wires.iter().map(|wire| {
            let answers = wire.client.script.answered()[..wire.read].to_vec();
            (answers, wire.seen.closed)
        });
        let elapsed = world.now.since(Moment::START);
        Self { seed, turns: world.turns, elapsed, counters, clients: clients.collect() }
    }

    /// The seed of the world.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Turns of the loop.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// What time passed in the world.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// What the server counted.
    pub fn counters(&self) -> &Snapshot {
        &self.counters
    }

    /// What client number `client` got, counted from 0.
    ///
    /// # Panics
    /// When there were not so many clients.
    pub fn answers(&self, client: usize) -> &[u8] {
        &self.clients[client].0
    }

    /// Why the connection of client number `client` ended; `None` if no handler was opened for it.
    ///
    /// # Panics
    /// When there were not so many clients.
    pub fn close_reason(&self, client: usize) -> Option<CloseReason> {
        self.clients[client].1
    }
}

/// What was not as it must be, in which world, and what happened last in it.
#[derive(Clone, Debug)]
pub struct Failure {
    seed: u64,
    what: String,
    options: String,
    clients: Vec<String>,
    /// With what it still fails.
    kept: Option<Box<Kept>>,
    trace: Vec<String>,
}

impl Failure {
    /// The seed of the world.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What is wrong, in one line.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, what, options, clients, kept, trace } = self;
        writeln!(f, "seed {seed}: {what}")?;
        write!(f, "replay it with EVMUX_SIM_SEED={seed}")?;
        if let Some(kept) = kept
            && let (Some(clients), Some(faults)) = (&kept.clients, kept.faults)
        {
            let numbers: Vec<_> = clients.iter().map(ToString::to_string).collect();
            write!(f, " EVMUX_SIM_CLIENTS={}", numbers.join(","))?;
            write!(f, " EVMUX_SIM_FAULTS=\"{faults}\"")?;
        }
        writeln!(f, "; its world:")?;
        for line in options.lines() {
            writeln!(f, "  {line}")?;
        }
        for client in clients {
            writeln!(f, "  {client}")?;
        }
        writeln!(f, "what happened last:")?;
        for line in trace {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
