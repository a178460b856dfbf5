//! Faults that tests plant between the run and the wire, to see that they would be found. Without the feature `planted`, which only
//! tests of this crate have, none of this is compiled.

/// What the server does wrong, where it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledgements do not wait for their rows.
    AcknowledgedBeforeDurable,
    /// Who comes back is told that all that it said has been heard.
    HeardEverything,
    /// A watcher that attaches again is shown what comes from now on only.
    MissedRows,
    /// Watchers see rows that are not durable yet.
    ShownBeforeDurable,
    /// A second session of an agent does not end the first.
    TwoSessions,
    /// An agent that was given up goes on with leases that stand no more.
    #[cfg(feature = "planted")]
    ResumedThoughLost,
}

/// All of them.
#[cfg(feature = "planted")]
pub const FAULTS: [Fault; 6] = [
    Fault::AcknowledgedBeforeDurable,
    Fault::HeardEverything,
    Fault::MissedRows,
    Fault::ShownBeforeDurable,
    Fault::TwoSessions,
    Fault::ResumedThoughLost,
];

#[cfg(feature = "planted")]
mod thread {
    use super::Fault;
    use crate::record::Record;
    use crate::run::{AgentBack, Command};
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
        static POISONED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// From now on servers of this thread have this fault, or none.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }

    pub(in super::super) fn is_planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// From now on this thread panics when it takes up the run of this id.
    pub fn poison(run: &'static str) {
        POISONED.set(Some(run));
    }

    pub(in super::super) fn panic_if_planted(run: &str) {
        if POISONED.get() == Some(run) {
            panic!("a defect was planted for this run");
        }
    }

    /// What an agent that was given up is told where its leases are granted all the same.
    pub(in super::super) fn resumed(record: &Record, back: &AgentBack) -> Option<Command> {
        let agent = (back.opening as u32).wrapping_sub(1);
        let on_record = record.agents.get(agent as usize);
        let on_record = on_record.filter(|on_record| {
            on_record.incarnation == back.incarnation && on_record.gone.is_some()
        });
        let on_record = on_record.filter(|_| is_planted(Fault::ResumedThoughLost))?;
        let held = |slot: u32| {
            let leases = (1u64..).zip(&record.leases).filter(|(_, lease)| {
                let shard = &record.shards[lease.shard as usize];
                shard.agent == agent && shard.slot == slot
            });
            let ids = leases.map(|(number, lease)| u64::from(lease.term) << 32 | number);
            (slot, ids.collect())
        };
        Some(Command::Resume {
            sequence: on_record.sequence,
            slots: back.slots.iter().copied().map(held).collect(),
        })
    }
}

#[cfg(feature = "planted")]
pub(super) use thread::{is_planted, panic_if_planted, resumed};
#[cfg(feature = "planted")]
pub use thread::{plant, poison};

#[cfg(not(feature = "planted"))]
pub(super) const fn is_planted(_: Fault) -> bool {
    false
}

#[cfg(not(feature = "planted"))]
pub(super) const fn panic_if_planted(_: &str) {}

#[cfg(not(feature = "planted"))]
pub(super) const fn resumed(
    _: &crate::record::Record,
    _: &crate::run::AgentBack,
) -> Option<crate::run::Command> {
    None
}
