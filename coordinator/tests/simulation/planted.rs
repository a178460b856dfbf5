//! Planted bugs: each breaks one thing that must hold, and must be seen by the checks before many seeds have been played.
//!
//! Those that can be told from outside are done there, between the run and the world: a message that is changed or lost, an
//! acknowledgement that does not wait. The others are hooks in the core, which are compiled for tests only.

use super::world::World;
use evenkeel_coordinator::run::planted::{self, Fault as Core};
use evenkeel_coordinator::run::{Command, Event, FactBody, Level};
use evenkeel_proto::ledger as l;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Acknowledgements go out before their rows are durable.
    AcknowledgedBeforeStored,
    /// An agent forgets what the run has heard when it comes back, durable or not.
    ForgottenWhenHeard,
    /// Where an agent's facts stand is not on record.
    TakenNotRecorded,
    /// The word that a lease has been given back is lost.
    LostReturn,
    /// The first part of a listing is taken for all of it.
    PartForWhole,
    /// Lease numbers do not tell of which coordinator they are.
    NumbersUsedAgain,
    /// An agent that was given up keeps what it holds.
    OutlivedLease,
    /// In the core.
    In(Core),
}

/// All of them.
pub const FAULTS: [Fault; 19] = [
    Fault::AcknowledgedBeforeStored,
    Fault::ForgottenWhenHeard,
    Fault::TakenNotRecorded,
    Fault::LostReturn,
    Fault::PartForWhole,
    Fault::NumbersUsedAgain,
    Fault::OutlivedLease,
    Fault::In(Core::StaleResult),
    Fault::In(Core::SecondVerdict),
    Fault::In(Core::SameAgentAgain),
    Fault::In(Core::LeakedLock),
    Fault::In(Core::DroppedPart),
    Fault::In(Core::EndlessLosses),
    Fault::In(Core::Undecided),
    Fault::In(Core::TwiceRecovered),
    Fault::In(Core::CopiedLocked),
    Fault::In(Core::BothCount),
    Fault::In(Core::CopiedBeyondBudget),
    Fault::In(Core::LoserAgain),
];

/// From now on runs of this thread have the fault, if it is one of the core's.
pub fn plant(fault: Option<Fault>) {
    planted::plant(match fault {
        Some(Fault::In(fault)) => Some(fault),
        _ => None,
    });
}

impl World {
    /// What the run hears, as the planted fault has it.
    pub fn perturb_event(&mut self, event: Event) -> Event {
        match (self.planted, event) {
            (Some(Fault::OutlivedLease), Event::AgentGone { lost: true, .. }) => {
                Event::Matching { any: true }
            }
            (
                Some(fault),
                Event::Facts {
                    agent,
                    opening,
                    first_sequence,
                    sent_at,
                    mut facts,
                },
            ) => {
                for fact in &mut facts {
                    self.perturb_fact(fault, &mut fact.body);
                }
                Event::Facts {
                    agent,
                    opening,
                    first_sequence,
                    sent_at,
                    facts,
                }
            }
            (_, event) => event,
        }
    }

    fn perturb_fact(&self, fault: Fault, body: &mut FactBody) {
        match (fault, body) {
            (Fault::LostReturn, body @ FactBody::Returned { all: true, .. }) => {
                *body = FactBody::Log {
                    level: Level::Progress,
                    text: String::new(),
                };
            }
            (Fault::PartForWhole, FactBody::Listed { more, .. }) => *more = false,
            (
                Fault::NumbersUsedAgain,
                FactBody::UnitBegun { lease }
                | FactBody::Declared { lease, .. }
                | FactBody::UnitClosed { lease, .. }
                | FactBody::Returned { lease, .. }
                | FactBody::Waiting { lease },
            ) => *lease = self.numbered(*lease),
            (Fault::NumbersUsedAgain, FactBody::CaseEnded(ended)) => {
                ended.lease = self.numbered(ended.lease);
            }
            (Fault::NumbersUsedAgain, FactBody::ProcessEnded(ended)) => {
                if let Some(flight) = &mut ended.in_flight {
                    flight.lease = self.numbered(flight.lease);
                }
            }
            _ => {}
        }
    }

    /// The lease that a coordinator would take a number for that tells only how many there were.
    fn numbered(&self, lease: u64) -> u64 {
        let found = self.ledger.record.lease_at(lease as u32);
        found.map_or(lease, |found| u64::from(found.term) << 32 | lease)
    }

    /// What an agent is told, as the planted fault has it.
    pub fn perturb_command(&mut self, mut command: Command) -> Command {
        match &mut command {
            Command::Lease(lease) => lease.lease = self.perturbed_lease(lease.lease),
            Command::Revoke { lease, .. } => *lease = self.perturbed_lease(*lease),
            Command::Resume { slots, .. } => {
                for lease in slots.iter_mut().flat_map(|(_, leases)| leases) {
                    *lease = self.perturbed_lease(*lease);
                }
            }
            _ => {}
        }
        command
    }

    /// The number of a lease as agents see it.
    pub fn perturbed_lease(&self, lease: u64) -> u64 {
        match self.planted {
            Some(Fault::NumbersUsedAgain) => u64::from(lease as u32),
            _ => lease,
        }
    }

    /// A row, as the planted fault has it.
    pub fn perturb_batch(&mut self, mut batch: l::Batch) -> l::Batch {
        if self.planted == Some(Fault::TakenNotRecorded) {
            batch.taken = None;
        }
        batch
    }
}
