//! The end of a run: whatever has no verdict gets one, and the run gets its own.

use super::planted::{Fault, is_planted};
use super::{Command, Effect, Phase, RED, Run, UNBUILT};
use crate::record::Verdict;
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;
use l::entry::Body;

/// So many tests that got lost are named in a run's last word.
const NAMED: usize = 5;

impl Run {
    /// Its record can be written no more, for this reason: nothing is waited for, and the run gets the verdict that what is known allows,
    /// at best incomplete. What it says of its end names what is lost.
    pub fn abandon(&mut self, now: Micros, reason: &str) -> Vec<Effect> {
        if !self.is_closed() {
            self.abandoned = Some(reason.to_owned());
            self.end_work();
            self.close(now);
        }
        self.flush(now)
    }

    /// Every work is done: whatever still has no verdict gets one, and the run gets its own.
    pub(super) fn close(&mut self, now: Micros) {
        let stopped = self.record.stopped.clone();
        let (left, why) = match (&self.abandoned, &stopped) {
            (Some(reason), _) => (Verdict::Lost, reason.clone()),
            (None, Some(stopped)) => (Verdict::NotRun, stopped.reason.clone()),
            (None, None) => (Verdict::Lost, "no verdict came for it".to_owned()),
        };
        let unsettled = match is_planted(Fault::Undecided) {
            true => Vec::new(),
            false => self.record.unsettled(),
        };
        let lost = self.names_of(&unsettled);
        for (unit, case) in unsettled {
            self.settle(unit, case, left, &why);
        }
        self.flush_entries(now);

        let totals = self.record.totals();
        let schedule = self.record.schedule();
        let incomplete =
            totals.lost + totals.not_run > 0 || !self.record.listed || self.unconcluded;
        let interrupted = stopped.as_ref().is_some_and(|stopped| stopped.interrupted);
        let objection = self.record.objections.first();
        let abandoned = self.abandoned.as_ref();
        let abandoned = abandoned.map(|reason| format!("{reason}{lost}"));
        let (verdict, exit_code, message) = if totals.failures() > 0 || objection.is_some() {
            let reason = stopped.map(|stopped| stopped.reason);
            let objection = objection.map(|objection| objection.message.clone());
            let unbuilt = self.unbuilt && totals.failures() == 0;
            let code = if unbuilt { UNBUILT } else { RED };
            let message = abandoned.or(objection).or(reason);
            ("red", code, message.unwrap_or_default())
        } else if let Some(message) = abandoned {
            ("incomplete", 3, message)
        } else if let Some((message, _)) = &self.refused {
            ("incomplete", 2, message.clone())
        } else if interrupted {
            (
                "incomplete",
                130,
                stopped.map(|stopped| stopped.reason).unwrap_or_default(),
            )
        } else if incomplete {
            (
                "incomplete",
                3,
                stopped.map_or_else(
                    || {
                        let note = self.record.notes.last();
                        note.map(|note| note.text.clone()).unwrap_or_default()
                    },
                    |stopped| stopped.reason,
                ),
            )
        } else if let Some(message) = self.found_nothing() {
            ("incomplete", 4, message)
        } else {
            ("green", 0, String::new())
        };
        self.append(Body::Closed(l::Closed {
            verdict: verdict.to_owned(),
            exit_code,
            makespan_us: schedule.makespan.0,
            lower_bound_us: schedule.bound.makespan().0,
            message,
            hint: match (&self.refused, exit_code) {
                (Some((_, hint)), 2) => hint.clone(),
                _ => String::new(),
            },
        }));
        self.phase = Phase::Closed;
        self.flush_entries(now);
        self.effects.push(Effect::Close);
        self.send_all(&Command::Close { abort: false });
    }

    /// How many these are and what some of them are called, to be said behind a reason.
    fn names_of(&self, unsettled: &[(u32, Option<u32>)]) -> String {
        let named = unsettled.iter().take(NAMED).map(|&(unit, case)| {
            let unit = &self.record.units[unit as usize];
            let name = case.map_or(&unit.name, |case| &unit.cases[case as usize].id);
            self.record.with_suite(unit.suite, name)
        });
        let names = named.collect::<Vec<_>>().join(", ");
        match unsettled.len() {
            0 => String::new(),
            count if count <= NAMED => format!("; no verdict is known of {names}"),
            count => format!(
                "; no verdict is known of {names} and {} more",
                count - NAMED
            ),
        }
    }

    /// Says which suite has nothing that could have failed. A replay has only what one shard ran.
    pub(super) fn found_nothing(&self) -> Option<String> {
        let whole = self.settings.script.is_none();
        let mut suites =
            (0..self.suites.len() as u32).filter(|&suite| whole || self.record.tests_of(suite) > 0);
        let empty = suites
            .clone()
            .find(|&suite| self.record.tests_of(suite) == 0);
        if let Some(suite) = empty {
            return Some(self.with_suite(suite, "no test was found"));
        }
        let skipped = suites.find(|&suite| self.record.has_only_skipped_units(suite));
        let message = "no test was found: whatever was loaded skipped itself";
        skipped.map(|suite| self.with_suite(suite, message))
    }

    pub(super) fn settle(&mut self, unit: u32, case: Option<u32>, verdict: Verdict, message: &str) {
        self.totals.add(Some(verdict));
        self.append(Body::Settled(l::Settled {
            unit,
            case,
            outcome: verdict.name().to_owned(),
            message: message.to_owned(),
        }));
    }
}
