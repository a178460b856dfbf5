//! Faults that tests plant in the core, to see that they would be found. Without the feature `planted`, which only tests of this
//! crate have, none of this is compiled.

/// What the core does wrong, where it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A result counts although its lease is not live.
    StaleResult,
    /// A result counts although its case has a verdict.
    SecondVerdict,
    /// What an agent was lost with may go to it again.
    SameAgentAgain,
    /// A lock is kept when the lease that held it is lost.
    LeakedLock,
    /// The last part of what was given back is not put up again.
    DroppedPart,
    /// A case may take down as many agents as there are.
    EndlessLosses,
    /// What has no verdict at the end is not said to have none.
    Undecided,
    /// What the rest of a unit has is put up once more after a recovery.
    TwiceRecovered,
    /// What needs a lock, or to be alone, is run twice at the same time.
    CopiedLocked,
    /// Of what runs twice both results count.
    BothCount,
    /// More is spent on copies than may be.
    CopiedBeyondBudget,
    /// What was cancelled goes up again.
    LoserAgain,
}

#[cfg(feature = "planted")]
mod thread {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// From now on runs of this thread have this fault, or none.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }

    pub(in super::super) fn is_planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }
}

#[cfg(feature = "planted")]
pub(super) use thread::is_planted;
#[cfg(feature = "planted")]
pub use thread::plant;

#[cfg(not(feature = "planted"))]
pub(super) const fn is_planted(_: Fault) -> bool {
    false
}
