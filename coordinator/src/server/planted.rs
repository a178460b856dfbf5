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
}

/// All of them.
#[cfg(feature = "planted")]
pub const FAULTS: [Fault; 4] = [
    Fault::AcknowledgedBeforeDurable,
    Fault::HeardEverything,
    Fault::MissedRows,
    Fault::ShownBeforeDurable,
];

#[cfg(feature = "planted")]
mod thread {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// From now on servers of this thread have this fault, or none.
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
