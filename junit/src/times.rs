//! What suites took, for whoever gives cases to owners of their own.

use crate::read::{ReadCase, ReadSuite};
use std::collections::BTreeMap;
use std::time::Duration;

/// The times of suites, by whose cases they hold. A suite that holds cases of several tells nothing of any one of them.
#[derive(Debug, Default)]
pub struct SuiteTimes {
    /// By name and time: the owner of all of its cases, if they have one, and what they took.
    suites: BTreeMap<(String, Duration), (Option<String>, Duration)>,
}

/// What the suites of one owner took, and their cases of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub suites: Duration,
    pub cases: Duration,
}

impl SuiteTimes {
    /// A case of this owner, in these suites.
    pub fn note(&mut self, within: &[ReadSuite], owner: &str, case: &ReadCase) {
        let suite = within.last();
        let Some((suite, time)) = suite.and_then(|suite| Some((suite, suite.time?))) else {
            return;
        };
        let entry = self.suites.entry((suite.name.clone(), time));
        let (known, cases) = entry.or_insert_with(|| (Some(owner.to_owned()), Duration::ZERO));
        *cases += case.time.unwrap_or_default();
        if known.as_ref().is_some_and(|known| known != owner) {
            *known = None;
        }
    }

    pub fn by_owner(self) -> BTreeMap<String, Taken> {
        let mut owners: BTreeMap<String, Taken> = BTreeMap::new();
        for ((_, time), (owner, cases)) in self.suites {
            if let Some(owner) = owner {
                let taken = owners.entry(owner).or_default();
                taken.suites += time;
                taken.cases += cases;
            }
        }
        owners
    }
}
