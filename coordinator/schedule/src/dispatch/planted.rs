//! Faults that tests plant in dispatch, to see that they would be found. Without the feature `planted`, which only tests of this
//! crate have, none of this is compiled.

/// What the dispatcher does wrong, where it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A unit that is given out keeps waiting.
    KeptWaiting,
    /// What comes back is not put up again.
    NotAgain,
    /// A lock is free whoever holds it.
    LockBlind,
    /// What must run alone starts whatever runs.
    Accompanied,
    /// A slot gets what needs a kind of process that it cannot have.
    BarBlind,
    /// What would end earlier elsewhere is left to nobody.
    LeftToNobody,
    /// Units stay left to a slot that does not come for them.
    Faithful,
    /// Slots that have nothing do not hear that something is left to them.
    NobodyAsked,
    /// What waits behind something that takes longer than it should stays there.
    NeverBack,
    /// A slot that lost its process keeps what it had at work.
    StillBusy,
    /// A slot that takes longer than it should is the faster one.
    SpeedsBackwards,
    /// Slots are measured by the shortest units that there are.
    TinyProbes,
    /// A busy slot gets its next unit only when it is about to end what it has.
    NeverAhead,
    /// A busy slot gets its next unit at once, whatever waits.
    AnythingAhead,
    /// What is to start before others that are as large does not.
    NoneEarly,
    /// What is long is given wherever it may just end in time.
    JustInTime,
    /// Nothing that may well fail comes early.
    NoSuspects,
    /// What may well fail comes early whatever that costs.
    SuspectsAnyway,
    /// Machines are as fast all the time.
    Steady,
    /// One slot alone tells of its machine.
    OneTells,
    /// Slots that are slower and ones that are faster tell the same of their machine.
    EitherWay,
}

#[cfg(feature = "planted")]
mod thread {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// From now on dispatchers of this thread have this fault, or none.
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
