//! Against the servers of this library: every framing, judge and transport, and nothing is wrong.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use evmux::load::{self, Framing, Interim, Observer, Pacing, Phase, Plan, Second, Until, Verify};
use evmux::services::{blocks, datagrams, echo, lines, upper};
use evmux::{Model, Running, Server, Service};

use crate::{plan, run};

fn serve<S: Service + Send + Sync + 'static>(service: S) -> (Running, String) {
    let server = Server::builder(service).model(Model::Epoll).listen("127.0.0.1:0");
    let running = server.build().unwrap().start().unwrap();
    let address = running.local_addresses()[0].socket_addr().unwrap();
    (running, address.to_string())
}

#[track_caller]
fn all_is_well(plan: &Plan, requests: u64) {
    let outcome = run(plan);
    assert_eq!(outcome.errors.total(), 0, "{plan:?}: {:?}", outcome.first_wrong);
    assert_eq!(outcome.counts.planned, requests);
    assert_eq!(outcome.counts.sent, requests);
    assert_eq!(outcome.counts.answered, requests);
    assert_eq!(outcome.times.service.len(), requests);
    assert_eq!(outcome.counts.abandoned, 0);
}

/// Every combination of what is independent of the framing.
fn combinations(mut plan: Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    for pacing in [Pacing::Closed, Pacing::Open { rate: 10_000.0 }] {
        for pipeline in [1, 7] {
            for per_connection in [None, Some(50)] {
                for size in [1, 64, 70_000] {
                    plan.pacing = pacing;
                    plan.pipeline = pipeline;
                    plan.per_connection = per_connection;
                    plan.size = size;
                    plans.push(plan.clone());
                }
            }
        }
    }
    plans
}

#[test]
fn nothing_is_wrong_with_a_server_that_is_right() {
    let (_echo, echo) = serve(echo);
    let (_upper, upper) = serve(upper);
    let (_lines, lines) = serve(lines);
    let (_blocks, blocks) = serve(blocks);
    for (target, framing, verify) in [
        (&echo, Framing::Raw, Verify::Echo),
        (&echo, Framing::Lines, Verify::Echo),
        (&echo, Framing::Blocks, Verify::Echo),
        (&echo, Framing::Blocks, Verify::Nothing),
        (&upper, Framing::Raw, Verify::Upper),
        (&lines, Framing::Lines, Verify::Upper),
        (&lines, Framing::Lines, Verify::Nothing),
        (&blocks, Framing::Blocks, Verify::Upper),
    ] {
        let mut plan = plan(target, 200);
        plan.framing = framing;
        plan.verify = verify;
        for plan in combinations(plan) {
            all_is_well(&plan, 200);
        }
    }
}

#[test]
fn unix_and_udp_are_targets_as_tcp_is() {
    let path = std::env::temp_dir().join(format!("evmux-load-{}", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let server = Server::builder(upper)
        .listen(unix.as_str())
        .datagrams("udp:127.0.0.1:0", datagrams::upper)
        .build()
        .unwrap();
    let server = server.start().unwrap();
    let udp = server.local_addresses().iter().find_map(|address| {
        let text = address.to_string();
        text.starts_with("udp").then(|| format!("udp:{}", address.socket_addr().unwrap()))
    });
    for target in [unix, udp.unwrap()] {
        for pacing in [Pacing::Closed, Pacing::Open { rate: 2000.0 }] {
            let mut plan = plan(&target, 400);
            plan.pacing = pacing;
            plan.pipeline = 3;
            plan.verify = Verify::Upper;
            all_is_well(&plan, 400);
        }
    }
}

#[test]
fn connections_come_from_the_addresses_that_were_named() {
    let (server, address) = serve(echo);
    let mut plan = plan(&address, 300);
    plan.sources = vec![[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
    plan.per_connection = Some(1);
    all_is_well(&plan, 300);
    server.stop().drain();
    assert!(server.join().unwrap().opened >= 300);
}

#[test]
fn connections_are_made_no_faster_than_they_may_be() {
    let (_server, address) = serve(echo);
    let mut plan = plan(&address, 10);
    plan.connections = 6;
    plan.connect_rate = Some(20.0);
    let outcome = run(&plan);
    assert_eq!(outcome.counts.connects, 6);
    // Five pauses of 50 ms, of which the first may be shorter by what a turn may be late.
    assert!(outcome.connecting >= Duration::from_millis(220), "{:?}", outcome.connecting);
}

#[test]
fn idle_and_slow_connections_stand_beside_those_that_ask() {
    let (server, address) = serve(echo);
    let mut plan = plan(&address, 1);
    plan.until = Until::Duration(Duration::from_millis(500));
    plan.idle = 5;
    plan.slow_readers = 3;
    let outcome = run(&plan);
    assert_eq!((outcome.connections, outcome.others), (4, 8));
    assert_eq!(outcome.errors.total(), 0, "{:?}", outcome.first_wrong);
    assert!(outcome.counts.answered > 0);
    // Nobody read what the server answered to the slow ones.
    assert!(outcome.counts.bytes_sent > outcome.counts.bytes_received);
    server.stop().drain();
    assert_eq!(server.join().unwrap().opened, 12);
}

struct Notes {
    phases: Vec<Phase>,
    replies: u64,
    looks: u32,
    looks_left: u32,
}

impl Notes {
    fn for_looks(looks_left: u32) -> Self {
        Self { phases: Vec::new(), replies: 0, looks: 0, looks_left }
    }
}

impl Observer for Notes {
    fn phase(&mut self, phase: Phase) {
        self.phases.push(phase);
    }

    fn interim(&mut self, interim: &Interim) -> ControlFlow<()> {
        if interim.phase == Phase::Measuring {
            self.looks += 1;
        }
        if self.looks > self.looks_left {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn second(&mut self, second: &Second<'_>) {
        self.replies += second.times.felt().len();
    }
}

#[test]
fn the_seconds_together_are_the_whole() {
    let (_server, address) = serve(echo);
    let mut plan = plan(&address, 1);
    plan.warmup = Duration::from_millis(200);
    plan.until = Until::Duration(Duration::from_millis(2300));
    let mut notes = Notes::for_looks(u32::MAX);
    let start = Instant::now();
    let outcome = load::run(&plan, &mut notes).unwrap();
    assert!(start.elapsed() < plan.timeout, "it waited for replies that had come");
    assert_eq!(notes.replies, outcome.counts.answered);
    assert_eq!(outcome.times.service.len(), outcome.counts.answered);
    use Phase::{Connecting, Finishing, Measuring, WarmingUp};
    assert_eq!(notes.phases, [Connecting, WarmingUp, Measuring, Finishing]);
    assert_eq!(outcome.measured, Duration::from_millis(2300));
    assert!(outcome.own.user_ns + outcome.own.system_ns > 0);
}

#[test]
fn an_observer_ends_a_run_and_gets_what_there_was() {
    let (_server, address) = serve(echo);
    let mut plan = plan(&address, 1);
    plan.until = Until::Duration(Duration::from_secs(3600));
    let mut notes = Notes::for_looks(3);
    let outcome = load::run(&plan, &mut notes).unwrap();
    assert!(outcome.interrupted);
    assert!(outcome.counts.answered > 0);
    assert!(outcome.measured < Duration::from_secs(60));
    assert_eq!(notes.replies, outcome.counts.answered);
    assert_eq!(outcome.errors.total(), 0);
}
