//! A world that fails, made smaller: without the clients and the faults that it fails without.
//!
//! A failing seed has up to eight clients and a dozen faults, of which mostly one or two matter.
//! Each is left out in turn, and stays out if something still fails; what is left is told with the
//! seed, and replays.

use super::client::Client;
use super::faults::{Fault, Faults};

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

    /// Each client and each fault left out in turn.
    fn with_one_less(&self) -> Vec<Self> {
        let clients = self.clients.clone().unwrap_or_default();
        let faults = self.faults.unwrap_or_default();
        let without_client = clients.iter().map(|left_out| {
            let others = clients.iter().copied().filter(|it| it != left_out).collect();
            Self { clients: Some(others), faults: self.faults }
        });
        let present = Fault::ALL.into_iter().filter(|fault| faults.has(*fault));
        let without_fault = present.map(|left_out| Self {
            clients: self.clients.clone(),
            faults: Some(faults.without(left_out)),
        });
        without_client.chain(without_fault).collect()
    }

    /// Those of `clients` that are kept, with the numbers that they had.
    pub(super) fn of(&self, clients: Vec<Client>) -> Vec<(usize, Client)> {
        let all = clients.into_iter().enumerate();
        all.filter(|(index, _)| self.clients.as_ref().is_none_or(|kept| kept.contains(index)))
            .collect()
    }
}

/// Leaves out of a failing world what it fails without; `fails` runs what is kept. A world that loses
/// its way takes long, so that not more than [`MOST_TRIES`] are run.
pub(super) fn shrink(clients: usize, faults: Faults, mut fails: impl FnMut(&Kept) -> bool) -> Kept {
    let mut found = Kept { clients: Some((0..clients).collect()), faults: Some(faults) };
    let mut tries = 0;
    loop {
        let fewer = found.with_one_less();
        let Some(kept) = fewer.into_iter().take(MOST_TRIES - tries).find(|kept| {
            tries += 1;
            fails(kept)
        }) else {
            return found;
        };
        found = kept;
    }
}

/// About four times as many as there are things to leave out.
const MOST_TRIES: usize = 100;
