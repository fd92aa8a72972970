//! A world that fails, made smaller: without the clients and the faults that it fails without.
//!
//! A failing seed has up to eight clients and a dozen faults, of which mostly one or two matter.
//! Each is left out in turn, and stays out if something still fails; what is left is told with the
//! seed, and replays.

use super::client::Client;
use super::faults::{Fault, Faults};
use super::simulation::Failure;

/// Which clients and faults of a seed's world are kept; all, when nothing is said.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) clients: Option<Vec<usize>>,
    pub(super) faults: Option<Faults>,
}

impl Kept {
    /// What `EVMUX_SIM_CLIENTS` and `EVMUX_SIM_FAULTS` say, which a shrunk failure names.
    pub(super) fn from_environment() -> Self {
        let clients = std::env::var("EVMUX_SIM_CLIENTS").ok().map(|text| {
            let number = |number: &str| match number.parse() {
                Ok(number) => number,
                Err(_) => panic!("EVMUX_SIM_CLIENTS has {number}, which is no number"),
            };
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(number).collect()
        });
        let faults = std::env::var("EVMUX_SIM_FAULTS").ok().map(|text| match text.parse() {
            Ok(faults) => faults,
            Err(unknown) => panic!("EVMUX_SIM_FAULTS has {unknown}, which is no fault"),
        });
        Self { clients, faults }
    }

    /// Those of `clients` that are kept, with the numbers that they had.
    pub(super) fn of(&self, clients: Vec<Client>) -> Vec<(usize, Client)> {
        let all = clients.into_iter().enumerate();
        all.filter(|(index, _)| self.clients.as_ref().is_none_or(|kept| kept.contains(index)))
            .collect()
    }
}

/// Leaves out of a failing world what it fails without; `try_it` runs what is kept. The last
/// failure, and what was kept then.
pub(super) fn shrink(
    failure: Failure,
    clients: usize,
    faults: Faults,
    mut try_it: impl FnMut(&Kept) -> Result<(), Failure>,
) -> (Failure, Kept) {
    let mut found = failure;
    let mut clients: Vec<usize> = (0..clients).collect();
    let mut faults = faults;
    loop {
        let before = (clients.len(), faults);
        for client in clients.clone() {
            let fewer: Vec<usize> = clients.iter().copied().filter(|it| *it != client).collect();
            let kept = Kept { clients: Some(fewer.clone()), faults: Some(faults) };
            if let Err(failure) = try_it(&kept) {
                (found, clients) = (failure, fewer);
            }
        }
        for fault in Fault::ALL.into_iter().filter(|fault| before.1.has(*fault)) {
            let fewer = faults.without(fault);
            let kept = Kept { clients: Some(clients.clone()), faults: Some(fewer) };
            if let Err(failure) = try_it(&kept) {
                (found, faults) = (failure, fewer);
            }
        }
        if before == (clients.len(), faults) {
            return (found, Kept { clients: Some(clients), faults: Some(faults) });
        }
    }
}
