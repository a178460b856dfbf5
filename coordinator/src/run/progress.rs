//! What a person wants to see while a run goes on.

use super::{Phase, Run};
use crate::record::Totals;
use evenkeel_schedule::Micros;

/// A snapshot for display.
#[derive(Clone, Debug)]
pub struct Progress {
    pub elapsed: Micros,
    pub expected_left: Option<Micros>,
    pub units: u32,
    pub units_done: u32,
    pub totals: Totals,
    /// Shard, what runs there, for how long.
    pub running: Vec<(u32, String, Micros)>,
    pub phase: &'static str,
}

impl Run {
    /// What a person wants to see while the run goes on.
    pub fn progress(&self, now: Micros) -> Progress {
        Progress {
            elapsed: now,
            expected_left: (self.phase == Phase::Running)
                .then(|| self.dispatcher.expected_left(now)),
            units: self.record.units.len() as u32,
            units_done: self.units_done,
            totals: self.totals,
            running: self
                .shards
                .iter()
                .enumerate()
                .filter_map(|(shard, state)| {
                    let (what, since) = state.long_case.as_ref().or(state.unit.as_ref())?;
                    Some((shard as u32, what.clone(), now - *since))
                })
                .collect(),
            phase: match self.phase {
                Phase::Listing if self.shards.is_empty() => "waiting for an agent",
                Phase::Listing => "listing",
                Phase::Running if self.record.stopped.is_some() => "stopping",
                Phase::Running => "running",
                Phase::Concluding | Phase::Finishing { .. } => "concluding",
                Phase::Closed => "closed",
            },
        }
    }
}
