//! One round of one cell: a server is started, asked, looked at, and ended.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use evmux::load::{self, Framing, Interim, Observer, Outcome, Pacing, Phase, Plan, Until};
use serde_json::Value;

use super::Setup;
use super::subject::{Kind, Served, Usage};
use crate::failure::Failure;
use crate::results::{Cell, Round, Scenario, ServerFigures, encode};

/// Measures `cell` once, with requests due at `rate` if there is one.
pub(super) fn round(
    setup: &Setup,
    kind: &Kind,
    cell: &Cell,
    rate: Option<f64>,
) -> Result<Round, Failure> {
    let everywhere;
    let cpus = match cell.scenario {
        // That threads compute on several processors is the point of it.
        Scenario::BusyHandler => {
            everywhere = setup.cpus.for_all();
            &everywhere
        }
        _ => &setup.cpus,
    };
    let busy = format!("{}us", BUSY.as_micros());
    let (service, extra): (_, &[&str]) = match (cell.scenario, kind) {
        (Scenario::BusyHandler, Kind::Own(_)) => ("busy", &["--busy", &busy]),
        _ => (setup.service.name(), &[]),
    };
    let served = kind.start(service, extra, cpus)?;
    let slow = SlowClients::start(&served, setup, cell);
    let plan = plan(setup, cell, rate, &served);
    let mut watch = Watch {
        served: &served,
        interrupted: &setup.interrupted,
        before: served.usage(),
        begin: None,
        end: None,
    };
    let outcome = load::run(&plan, &mut watch).map_err(|why| Failure::Run(why.to_string()))?;
    let (before, begin, end) = (watch.before, watch.begin, watch.end);
    let end = end.unwrap_or_else(|| served.usage());
    let figures = figures(&outcome, &before, &begin.unwrap_or_else(|| before.clone()), &end);
    drop(slow);
    let counted = served.end();
    let calls_per_message = counted.and_then(|counted| calls(&counted, &plan));
    Ok(Round {
        rate: outcome.rate(),
        asked_rate: plan.pacing.rate(),
        answered: outcome.counts.answered,
        errors: outcome.errors,
        measured_ns: outcome.measured.as_nanos() as u64,
        histogram: encode(outcome.times.felt()),
        server: ServerFigures { calls_per_message, ..figures },
        generator: outcome.own,
        warnings: outcome.warnings,
    })
}

/// What each line costs in `busy-handler`.
pub(super) const BUSY: Duration = Duration::from_micros(500);

fn plan(setup: &Setup, cell: &Cell, rate: Option<f64>, served: &Served) -> Plan {
    let mut plan = Plan::new(served.target());
    plan.connections = cell.connections;
    plan.size = setup.size;
    plan.framing = setup.service.framing();
    plan.verify = setup.service.verify();
    plan.until = Until::Duration(setup.duration);
    plan.warmup = setup.duration / 4;
    // Who waits for longer than the round will not be served in it.
    plan.timeout = setup.duration.max(Duration::from_secs(1));
    if let Some(rate) = rate {
        plan.pacing = Pacing::Open { rate };
    }
    match cell.scenario {
        Scenario::Connect => plan.per_connection = Some(1),
        Scenario::IdleMemory => plan.idle = cell.at as usize,
        Scenario::BusyHandler => {
            plan.framing = Framing::Lines;
            plan.verify = load::Verify::Upper;
        }
        Scenario::Throughput | Scenario::Latency | Scenario::SlowClients => {}
    }
    plan
}

/// Looks at the server when the measurement begins and when it is over.
struct Watch<'s> {
    served: &'s Served,
    interrupted: &'s AtomicBool,
    before: Usage,
    begin: Option<Usage>,
    end: Option<Usage>,
}

impl Observer for Watch<'_> {
    fn phase(&mut self, phase: Phase) {
        match phase {
            Phase::Measuring => self.begin = Some(self.served.usage()),
            Phase::Finishing => self.end = Some(self.served.usage()),
            Phase::Connecting | Phase::WarmingUp => {}
        }
    }

    fn interim(&mut self, _: &Interim) -> ControlFlow<()> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

fn figures(outcome: &Outcome, before: &Usage, begin: &Usage, end: &Usage) -> ServerFigures {
    let messages = outcome.counts.in_time as f64;
    let each = |amount: f64| (messages > 0.0).then(|| amount / messages);
    let processor = end.processor_since(begin);
    let measured = outcome.measured.as_secs_f64();
    ServerFigures {
        cpu_ns_per_message: processor.and_then(|time| each(time.as_nanos() as f64)),
        cpu_share: processor.map(|time| time.as_secs_f64() / measured),
        switches_per_message: end.switches_since(begin).and_then(|count| each(count as f64)),
        resident_bytes: end.resident,
        resident_before_bytes: before.resident,
        threads: Some(end.thread_count()),
        calls_per_message: None,
    }
}

/// Calls that receive, send and wait, for each message of the whole run.
fn calls(counted: &Value, plan: &Plan) -> Option<f64> {
    let number = |name: &str| counted.get(name)?.as_f64();
    let messages = number("bytes_received")? / plan.framed_size() as f64;
    let calls = number("receives")? + number("sends")? + number("waits")?;
    (messages >= 1.0).then(|| calls / messages)
}

/// Clients that say a byte ten times a second and hold their connections all the time. They come
/// before those that are measured.
struct SlowClients {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl SlowClients {
    fn start(served: &Served, setup: &Setup, cell: &Cell) -> Option<Self> {
        if cell.scenario != Scenario::SlowClients || cell.at == 0 {
            return None;
        }
        let mut plan = Plan::new(served.target());
        plan.connections = cell.at as usize;
        plan.size = 1;
        plan.framing = setup.service.framing();
        plan.verify = setup.service.verify();
        plan.pacing = Pacing::Open { rate: 10.0 * cell.at as f64 };
        plan.warmup = Duration::ZERO;
        plan.until = Until::Duration(setup.duration * 10 + Duration::from_secs(10));
        let over = Arc::new(AtomicBool::new(false));
        let (there, come) = mpsc::channel();
        let mut watch = UntilOver { over: Arc::clone(&over), there };
        // What they were answered is nobody's figure.
        let thread = thread::Builder::new()
            .name("slow clients".into())
            .spawn(move || drop(load::run(&plan, &mut watch)))
            .ok();
        // All are connected, those included that a blocking server leaves in its backlog. If they
        // cannot be, the figures show it: the fast client is as fast as without them.
        let _ = come.recv_timeout(Duration::from_secs(5));
        Some(Self { over, thread })
    }
}

impl Drop for SlowClients {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct UntilOver {
    over: Arc<AtomicBool>,
    there: mpsc::Sender<()>,
}

impl Observer for UntilOver {
    fn phase(&mut self, phase: Phase) {
        if phase != Phase::Connecting {
            let _ = self.there.send(());
        }
    }

    fn interim(&mut self, _: &Interim) -> ControlFlow<()> {
        match self.over.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
