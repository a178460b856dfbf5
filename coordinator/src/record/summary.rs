//! Sums over a record: totals, shards, makespan and its lower bound.

use super::{Record, Verdict};
use evenkeel_schedule::{Bound, Micros, SlotCapacity, lower_bound};

/// Counts of final verdicts. A unit without cases that got a verdict as a whole counts as one test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub tests: u32,
    pub passed: u32,
    pub failed: u32,
    pub errors: u32,
    pub skipped: u32,
    pub not_run: u32,
    pub lost: u32,
}

impl Totals {
    pub fn add(&mut self, verdict: Option<Verdict>) {
        self.tests += 1;
        match verdict {
            Some(Verdict::Passed) => self.passed += 1,
            Some(Verdict::Failed) => self.failed += 1,
            Some(Verdict::Error) => self.errors += 1,
            Some(Verdict::Skipped) => self.skipped += 1,
            Some(Verdict::NotRun) => self.not_run += 1,
            Some(Verdict::Lost) | None => self.lost += 1,
        }
    }

    pub fn failures(&self) -> u32 {
        self.failed + self.errors
    }
}

/// What one slot did.
#[derive(Clone, Debug)]
pub struct ShardSummary {
    pub shard: u32,
    pub busy: Micros,
    pub units: u32,
    pub cases: u32,
    pub failures: u32,
}

/// How well the slots were used. Times are on the run's clock.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub slots: u32,
    /// From the first unit's start to the last one's end.
    pub makespan: Micros,
    pub bound: Bound,
    /// The longest single lease and its unit.
    pub longest: Option<(Micros, u32)>,
}

impl Schedule {
    /// Makespan over lower bound, 1 where nothing ran.
    pub fn gap(&self) -> f64 {
        let bound = self.bound.makespan().0;
        if bound == 0 {
            1.0
        } else {
            self.makespan.0 as f64 / bound as f64
        }
    }
}

impl Record {
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for unit in &self.units {
            if let Some((verdict, _)) = unit.settled {
                totals.add(Some(verdict));
            } else if !unit.declared {
                totals.add(None);
            }
            for case in &unit.cases {
                totals.add(case.verdict());
            }
        }
        totals
    }

    pub fn schedule(&self) -> Schedule {
        let spans = self
            .leases
            .iter()
            .filter_map(|lease| Some((lease, lease.begun?, lease.ended?)));
        let first = spans
            .clone()
            .map(|(_, begun, _)| begun.at)
            .min()
            .unwrap_or_default();
        let last = spans
            .clone()
            .map(|(_, _, ended)| ended.at)
            .max()
            .unwrap_or_default();
        let pieces: Vec<Micros> = spans.clone().map(|(lease, _, _)| lease.span()).collect();
        let longest = spans
            .map(|(lease, _, _)| (lease.span(), lease.unit))
            .max_by_key(|(span, _)| *span);
        let capacity: Vec<SlotCapacity> = self
            .shards
            .iter()
            .filter_map(|shard| shard.processes.first())
            .map(|process| SlotCapacity {
                ready: Micros(process.started.at_us) - first,
                speed_milli: 1000,
            })
            .collect();
        Schedule {
            slots: self.shards.len() as u32,
            makespan: last - first,
            bound: lower_bound(&pieces, &capacity),
            longest,
        }
    }

    pub fn shard_summaries(&self) -> Vec<ShardSummary> {
        let mut shards: Vec<ShardSummary> = (0..self.shards.len() as u32)
            .map(|shard| ShardSummary {
                shard,
                busy: Micros::ZERO,
                units: 0,
                cases: 0,
                failures: 0,
            })
            .collect();
        for lease in self.leases.iter().filter(|lease| lease.begun.is_some()) {
            let shard = &mut shards[lease.shard as usize];
            shard.busy += lease.span();
            shard.units += 1;
        }
        for case in self.units.iter().flat_map(|unit| &unit.cases) {
            let Some(lease) = case
                .last_attempt()
                .and_then(|attempt| self.lease(attempt.lease.into()))
            else {
                continue;
            };
            let shard = &mut shards[lease.shard as usize];
            shard.cases += 1;
            shard.failures += u32::from(case.verdict().is_some_and(Verdict::is_failure));
        }
        shards
    }

    /// The shard that a case's deciding attempt ran on.
    pub fn shard_of(&self, case: &super::Case) -> Option<u32> {
        let attempt = case.last_attempt()?;
        self.lease(attempt.lease.into()).map(|lease| lease.shard)
    }
}
