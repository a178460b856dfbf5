//! Why units may well fail, by what was known of them before they ran.

use super::Record;
use evenkeel_proto::ledger as l;

/// The least suspicious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suspicion {
    /// It failed in one of the last runs that are known of it, and passed since.
    FailedBefore,
    /// It has not run before.
    New,
    /// Its source is another one than when it ran last.
    Changed,
    FailedLast,
}

impl Suspicion {
    pub const ALL: [Suspicion; 4] = [
        Suspicion::FailedLast,
        Suspicion::Changed,
        Suspicion::New,
        Suspicion::FailedBefore,
    ];

    /// As it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Suspicion::FailedBefore => "failed_before",
            Suspicion::New => "new",
            Suspicion::Changed => "changed",
            Suspicion::FailedLast => "failed_last",
        }
    }

    fn of(why: l::suspect::Why) -> Option<Suspicion> {
        use l::suspect::Why;
        match why {
            Why::Unspecified => None,
            Why::FailedBefore => Some(Suspicion::FailedBefore),
            Why::New => Some(Suspicion::New),
            Why::Changed => Some(Suspicion::Changed),
            Why::FailedLast => Some(Suspicion::FailedLast),
        }
    }
}

impl From<Suspicion> for i32 {
    fn from(suspicion: Suspicion) -> i32 {
        use l::suspect::Why;
        let why = match suspicion {
            Suspicion::FailedBefore => Why::FailedBefore,
            Suspicion::New => Why::New,
            Suspicion::Changed => Why::Changed,
            Suspicion::FailedLast => Why::FailedLast,
        };
        why as i32
    }
}

impl Record {
    /// The units that might well fail, each with the reason, in the order of their numbers; none before all units are known.
    pub fn suspects(&self) -> impl Iterator<Item = (u32, Suspicion)> + '_ {
        let planned = self.planned.iter().flat_map(|planned| &planned.suspects);
        planned.filter_map(|suspect| Some((suspect.unit, Suspicion::of(suspect.why())?)))
    }

    pub fn suspicion(&self, unit: u32) -> Option<Suspicion> {
        let planned = &self.planned.as_ref()?.suspects;
        let at = planned
            .binary_search_by_key(&unit, |suspect| suspect.unit)
            .ok()?;
        Suspicion::of(planned[at].why())
    }
}
