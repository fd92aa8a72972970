//! What is measured: each scenario at its points, for each subject that can.

use super::Entrant;
use super::subject::Kind;
use crate::arguments::CompareOptions;
use crate::results::{Cell, Scenario};

/// The cells of one round, in their order: scenarios one after the other, at each point all
/// subjects, so that what changes on the machine meanwhile meets all of them.
pub(super) fn all(options: &CompareOptions, entrants: &[Entrant]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &scenario in &options.scenarios {
        for (at, connections) in points(scenario, options) {
            for entrant in entrants {
                let connections = connections.of(entrant);
                let cannot = match &entrant.conforms {
                    Ok(()) => cannot(scenario, &entrant.kind, at, connections),
                    Err(why) => Some(format!("it gives other bytes: {why}")),
                };
                cells.push(Cell {
                    scenario,
                    subject: entrant.name.clone(),
                    at,
                    connections,
                    cannot,
                    rounds: Vec::new(),
                });
            }
        }
    }
    cells
}

/// How many connections ask.
#[derive(Clone, Copy)]
enum Connections {
    Exactly(usize),
    /// Or as many as the subject serves at a time, if that is less.
    AtMost(usize),
}

impl Connections {
    fn of(self, entrant: &Entrant) -> usize {
        match self {
            Self::Exactly(count) => count,
            Self::AtMost(count) => count.min(entrant.kind.most_connections()),
        }
    }
}

/// Where a scenario is measured, and with how many connections.
fn points(scenario: Scenario, options: &CompareOptions) -> Vec<(u64, Connections)> {
    let few = options.connections.iter().copied().filter(|count| *count <= 100).max().unwrap_or(1);
    match scenario {
        Scenario::Throughput => options
            .connections
            .iter()
            .map(|&count| (count as u64, Connections::Exactly(count)))
            .collect(),
        Scenario::Latency => {
            let shares: &[u64] = if options.quick { &[25, 75] } else { &[25, 50, 75, 90] };
            shares.iter().map(|&share| (share, Connections::AtMost(few))).collect()
        }
        Scenario::SlowClients => {
            let slow: &[u64] = if options.quick { &[0, 4] } else { &[0, 1, 4, 16] };
            slow.iter().map(|&slow| (slow, Connections::Exactly(1))).collect()
        }
        Scenario::IdleMemory => {
            // The memory of fewer is lost among the pages that a process has anyway.
            let most = options.connections.iter().copied().max().unwrap_or(1).max(FEWEST_IDLE);
            vec![(most as u64, Connections::Exactly(1))]
        }
        Scenario::Connect => vec![(few as u64, Connections::AtMost(few))],
        Scenario::BusyHandler => vec![(8, Connections::AtMost(8))],
    }
}

const FEWEST_IDLE: usize = 1000;

/// Why the subject cannot do it.
fn cannot(scenario: Scenario, kind: &Kind, at: u64, connections: usize) -> Option<String> {
    let most = kind.most_connections();
    let waits = format!("it serves {most} at a time: the others wait in the backlog");
    match (scenario, kind) {
        (Scenario::Throughput, _) if connections > most => Some(waits),
        // One more asks beside those that idle.
        (Scenario::IdleMemory, _) if most != usize::MAX && at as usize + 1 > most => Some(waits),
        (Scenario::BusyHandler, Kind::Foreign(_)) => {
            Some("it has no handler that computes for a known time".into())
        }
        _ => None,
    }
}
