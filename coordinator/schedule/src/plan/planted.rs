//! Faults that tests plant in plans, to see that they would be found. Without the feature `planted`, which only tests of this
//! crate have, none of this is compiled.

/// What a plan does wrong, where it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The last unit is not placed.
    DroppedUnit,
    /// A unit is placed twice.
    TwicePlaced,
    /// A unit may run on any slot, whatever labels it needs.
    AnyLabel,
    /// Of units that stay together the last one goes by itself.
    TornApart,
    /// Units that have to be apart share a slot.
    Shared,
    /// One more slot of an agent than its maximum takes such units.
    OverMaximum,
    /// A lock is free before its holder has ended.
    EarlyLock,
    /// What must run alone starts when its slot is free.
    Accompanied,
    /// The smallest unit is placed first.
    SmallestFirst,
    /// The slot that is free first takes a unit, whatever its speed.
    SpeedBlind,
    /// Slots are taken to be ready at once.
    ReadyBlind,
    /// What a slot has been given is not seen.
    StaleEnds,
    /// MULTIFIT takes a packing that is over its capacity.
    Overfull,
    /// The exact search leaves out what would be as long as the best so far but for its last unit.
    Overpruned,
    /// The makespan is that of the first slot.
    FirstEnd,
    /// Equal units go by what was planned before.
    Unstable,
    /// The error names the unit behind the one that cannot be placed.
    WrongUnit,
    /// Where units have to be apart, the first that finds no place at once is given up.
    NoSecondLook,
    /// An earlier plan is not looked at.
    Forgetful,
}

#[cfg(feature = "planted")]
mod thread {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
        static PLANS: Cell<u32> = const { Cell::new(0) };
    }

    /// From now on plans of this thread have this fault, or none.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }

    pub(in super::super) fn is_planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// Something that is different in each plan.
    pub(in super::super) fn chance() -> u32 {
        PLANS.set(PLANS.get().wrapping_add(1));
        PLANS.get()
    }
}

#[cfg(feature = "planted")]
pub use thread::plant;
#[cfg(feature = "planted")]
pub(super) use thread::{chance, is_planted};

#[cfg(not(feature = "planted"))]
pub(super) const fn is_planted(_: Fault) -> bool {
    false
}

#[cfg(not(feature = "planted"))]
pub(super) const fn chance() -> u32 {
    0
}
