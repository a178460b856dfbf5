//! Which units may well fail: new ones, changed ones, and those that failed lately. What a failure would tell is worth to be known early.

use super::{Run, SuiteHistory};
use crate::record::{Suspicion, Unit};
use evenkeel_proto::ledger as l;

/// What the last runs tell of a unit, its durations aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lately {
    /// Of its source when it ran last, 0 where unknown.
    pub revision: u64,
    /// How many of its runs ago one failed.
    pub failed: Option<u32>,
}

impl SuiteHistory {
    /// Why a unit may well fail. Nothing where nothing is known of its suite: then there is no reason to prefer any.
    pub(super) fn suspicion(&self, unit: &Unit) -> Option<Suspicion> {
        if let Some(suspects) = &self.suspects {
            return suspects.get(&*unit.name).copied();
        }
        if self.lately.is_empty() {
            return None;
        }
        let Some(known) = self.lately.get(&*unit.name) else {
            return Some(Suspicion::New);
        };
        let both = known.revision != 0 && unit.revision != 0;
        match known.failed {
            Some(0) => Some(Suspicion::FailedLast),
            _ if both && known.revision != unit.revision => Some(Suspicion::Changed),
            Some(_) => Some(Suspicion::FailedBefore),
            None => None,
        }
    }
}

impl Run {
    pub(super) fn suspicion(&self, unit: u32) -> Option<Suspicion> {
        let unit = &self.record.units[unit as usize];
        self.history_of(unit.suite).suspicion(unit)
    }

    /// Has what may well fail run early.
    pub(super) fn hasten(&mut self, work: u32, unit: u32) {
        // With one slot all that another order would do is to run tests otherwise than their framework does.
        let kept = self.settings.closed_shop && self.shards.len() == 1;
        if self.settings.script.is_some() || kept && !self.record.opened.first_red {
            return;
        }
        if let Some(suspicion) = self.suspicion(unit) {
            self.dispatcher.suspect(work, suspicion as u8 + 1);
        }
    }

    /// All of them, as they are recorded.
    pub(super) fn suspects(&self) -> Vec<l::Suspect> {
        let units = 0..self.record.units.len() as u32;
        let suspects = units.filter_map(|unit| {
            let why = self.suspicion(unit)?.into();
            Some(l::Suspect { unit, why })
        });
        suspects.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use l::entry::Body;

    #[test]
    fn what_failed_last_comes_before_what_was_changed_is_new_or_failed_once() {
        let unit = |name: &str, revision| l::Unit {
            name: name.to_owned(),
            revision,
            ..l::Unit::default()
        };
        let mut record = Record::default();
        let opened = l::RunOpened {
            suites: vec![evenkeel_proto::suite::Suite::default()],
            ..l::RunOpened::default()
        };
        let listed = l::Listed {
            units: vec![
                unit("as it was", 5),
                unit("changed", 6),
                unit("failed last", 6),
                unit("failed before", 5),
                unit("new", 5),
                unit("of no known source", 0),
            ],
            ..l::Listed::default()
        };
        for body in [Body::RunOpened(opened), Body::Listed(listed)] {
            record.apply(&l::Entry { body: Some(body) }).unwrap();
        }
        let lately = |failed| Lately {
            revision: 5,
            failed,
        };
        let known = [
            ("as it was", None),
            ("changed", None),
            ("failed last", Some(0)),
            ("failed before", Some(3)),
            ("of no known source", None),
        ];
        let known = known.map(|(name, failed)| (name.to_owned(), lately(failed)));
        let history = SuiteHistory {
            lately: known.into(),
            ..SuiteHistory::default()
        };
        let why = |history: &SuiteHistory| -> Vec<Option<Suspicion>> {
            let units = record.units.iter();
            units.map(|unit| history.suspicion(unit)).collect()
        };
        let expected = [
            None,
            Some(Suspicion::Changed),
            Some(Suspicion::FailedLast),
            Some(Suspicion::FailedBefore),
            Some(Suspicion::New),
            None,
        ];
        assert_eq!(why(&history), expected);
        let mut order: Vec<Suspicion> = expected.into_iter().flatten().collect();
        order.sort();
        let least_first = [
            Suspicion::FailedBefore,
            Suspicion::New,
            Suspicion::Changed,
            Suspicion::FailedLast,
        ];
        assert_eq!(order, least_first);
        assert_eq!(why(&SuiteHistory::default()), [None; 6]);
    }
}
