//! Who is served before whom. A connection that can go on, because an event has told of it or because
//! its budget was spent, has its turn again after at most one budget of every other one.
//!
//! In turns: who was told of has it in the same turn, who had more to do in the next one. In bytes: a
//! budget of `calls` is as many receives of one input each, and as many sends of what was answered to
//! them; 16 and 64 KiB in a server. The budgets are counted by the loop; whose they were is seen by
//! the calls that it makes.

use std::sync::Arc;

use crate::counters::Counters;
use crate::kernel::{Ready, Token};

use super::world::World;

#[derive(Debug, Default)]
pub(super) struct Fairness {
    /// Those of the loop.
    pub(super) counters: Option<Arc<Counters>>,
    /// Budgets that were spent, as far as they were looked at.
    spent: u64,
    /// On whose stream or handler the last call was made; nobody's since the wait.
    last: Option<usize>,
    /// Receives on its stream, one after the other.
    receives: u32,
    turns: Vec<Turn>,
}

/// When it was whose turn, by the number of budgets that had been spent.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// It waits for its next turn since then.
    since: u64,
    /// Its budget was spent, and no call was made for it since.
    is_left: bool,
    /// Events of it that the last wait returned; and whether it was served since.
    told: u32,
    is_due: bool,
    /// The last two budgets that it spent.
    spent: [u64; 2],
}

impl World {
    /// The loop makes a call on the stream or the handler of a client.
    pub(super) fn serves(&mut self, client: usize) {
        self.look_at_budgets();
        let fairness = &mut self.fairness;
        if fairness.last != Some(client) {
            (fairness.last, fairness.receives) = (Some(client), 0);
        }
        if fairness.turns.len() <= client {
            fairness.turns.resize(client + 1, Turn::default());
        }
        let turn = &mut fairness.turns[client];
        (turn.since, turn.is_left, turn.is_due) = (fairness.spent, false, false);
    }

    /// The loop receives from a client, which counts.
    pub(super) fn serves_by_receiving(&mut self, client: usize) {
        self.look_at_budgets();
        // One that another thread dismisses is read from before it says anything.
        let is_due = self.fairness.turns.get(client).is_some_and(|turn| turn.is_due);
        if is_due && self.messages.is_none() {
            self.look_whether_overtaken(client);
        }
        self.serves(client);
        let calls = self.options.calls;
        let fairness = &mut self.fairness;
        fairness.receives += 1;
        // One budget for each event, one from the ready list, one when a deadline ends it; and what
        // a drain, or another thread, asks for comes on top.
        let most = calls * (fairness.turns[client].told + 2);
        let receives = fairness.receives;
        if receives > most && self.drained_at.is_none() && self.messages.is_none() {
            self.fail(|| format!("{receives} receives from client {client} at once, over {most}"));
        }
    }

    /// A call of a handler that no byte asked for: what follows is not what went before.
    pub(super) fn begins_anew(&mut self) {
        self.fairness.receives = 0;
    }

    /// The wait returned these.
    pub(super) fn note_told(&mut self, events: &[Ready]) {
        let fairness = &mut self.fairness;
        (fairness.last, fairness.receives) = (None, 0);
        for turn in &mut fairness.turns {
            (turn.told, turn.is_due) = (0, false);
        }
        for event in events {
            let Ready::Stream { token, receive, .. } = *event else { continue };
            let Some(client) = self.served_as(token) else { continue };
            let fairness = &mut self.fairness;
            if fairness.turns.len() <= client {
                fairness.turns.resize(client + 1, Turn::default());
            }
            let turn = &mut fairness.turns[client];
            if !turn.is_left && turn.told == 0 {
                turn.since = fairness.spent;
            }
            turn.told += 1;
            turn.is_due = receive && !turn.is_left;
        }
    }

    /// It has no turn any more.
    pub(super) fn note_gone(&mut self, client: usize) {
        self.look_at_budgets();
        if let Some(turn) = self.fairness.turns.get_mut(client) {
            (turn.is_left, turn.is_due) = (false, false);
        }
    }

    /// Budgets are counted when they are spent, before anything else is done.
    pub(super) fn look_at_budgets(&mut self) {
        let fairness = &mut self.fairness;
        let Some(counters) = &fairness.counters else { return };
        let spent = counters.spent_budgets.value();
        if spent == fairness.spent {
            return;
        }
        let Some(client) = fairness.last.filter(|_| spent == fairness.spent + 1) else {
            return self.fail(|| "budgets were spent without a call".into());
        };
        fairness.spent = spent;
        let turn = &mut fairness.turns[client];
        turn.spent = [turn.spent[1], spent];
        (turn.since, turn.is_left) = (spent, true);
        for other in 0..self.fairness.turns.len() {
            if self.fairness.turns[other].is_left {
                self.look_whether_overtaken(other);
            }
        }
    }

    fn look_whether_overtaken(&mut self, client: usize) {
        let turns = &self.fairness.turns;
        let since = turns[client].since;
        if let Some(other) = turns.iter().position(|other| other.spent[0] > since) {
            self.fail(|| {
                format!("client {other} spent two budgets while client {client} could go on")
            });
        }
    }

    fn served_as(&self, token: Token) -> Option<usize> {
        let client = self.slots.get(token.slot as usize).copied().flatten()?;
        (self.wires[client].token == Some(token)).then_some(client)
    }
}
