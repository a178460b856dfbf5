//! Planted bugs: what the suite must see if it is there.

use super::world::World;
use evenkeel_coordinator::run::{Command, Event, FactBody, Level};
use evenkeel_proto::ledger as l;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    AcknowledgedBeforeStored,
}

pub fn plant(_: Option<Fault>) {}

impl World {
    pub fn perturb_event(&mut self, event: Event) -> Event {
        event
    }
    pub fn perturb_command(&mut self, command: Command) -> Command {
        command
    }
    pub fn perturb_batch(&mut self, batch: l::Batch) -> l::Batch {
        batch
    }
    pub fn perturbed_lease(&self, lease: u64) -> u64 {
        lease
    }
}
