//! Sums over a record: totals, shards, makespan and its lower bound.

use super::{Begun, Ended, Lease, Outcome, Record, Unit, Verdict};
use crate::rules::Rules;
use evenkeel_proto::ledger::lease_ended::Reason;
use evenkeel_schedule::{Bound, Micros, SlotCapacity, lower_bound};
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
#[derive(Clone, Debug)]
pub struct Schedule {
    pub slots: u32,
    /// From the first unit's start to the last one's end.
    pub makespan: Micros,
    pub bound: Bound,
    /// The longest piece that nothing divides.
    pub longest: Option<Longest>,
    /// The lock that most depends on.
    pub lock: Option<String>,
}

/// A piece of a unit that nothing divides: a case or a group of them with what loading the unit takes, or the unit where
/// it has nothing smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Longest {
    pub span: Micros,
    pub unit: u32,
    /// The case that it is, or begins with; none where it is all of the unit.
    pub case: Option<u32>,
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
    /// What is known and has no verdict: units that have not been declared, and cases, by number.
    pub fn unsettled(&self) -> Vec<(u32, Option<u32>)> {
        let mut unsettled = Vec::new();
        for (unit, state) in (0..).zip(&self.units) {
            if state.settled.is_none() && !state.declared {
                unsettled.push((unit, None));
            }
            let cases = (0..).zip(&state.cases);
            let open = cases.filter(|(_, case)| case.verdict().is_none());
            unsettled.extend(open.map(|(case, _)| (unit, Some(case))));
        }
        unsettled
    }

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

    /// How many tests a suite has, as [`Record::totals`] counts them.
    pub fn tests_of(&self, suite: u32) -> usize {
        let units = self.units.iter().filter(|unit| unit.suite == suite);
        let count = |unit: &Unit| {
            let whole = unit.settled.is_some() || !unit.declared;
            unit.cases.len() + usize::from(whole)
        };
        units.map(count).sum()
    }

    /// Whether there is nothing in a suite but units that were skipped as a whole, each of them one case with the unit's name.
    pub fn has_only_skipped_units(&self, suite: u32) -> bool {
        let units = self.units.iter().filter(|unit| unit.suite == suite);
        let mut cases = units.flat_map(|unit| unit.cases.iter().map(move |case| (unit, case)));
        cases.all(|(unit, case)| case.id == unit.name && case.verdict() == Some(Verdict::Skipped))
    }

    /// Leases that have begun and ended. What was given back unrun was no part of the work, whatever it took.
    pub(super) fn spans(&self) -> impl Iterator<Item = (&Lease, Begun, Ended)> + Clone {
        let leases = self.leases.iter();
        leases
            .filter_map(|lease| Some((lease, lease.begun?, lease.ended?)))
            .filter(|(.., ended)| ended.reason != Reason::Returned)
    }

    pub fn schedule(&self) -> Schedule {
        let spans = self.spans();
        let first = self.begun();
        let last = spans
            .clone()
            .map(|(_, _, ended)| ended.at)
            .max()
            .unwrap_or_default();
        // What the parts of a unit took together, its set-up once.
        let mut taken: BTreeMap<u32, (Micros, Micros)> = BTreeMap::new();
        let kept = self.kept_of_lost();
        for (lease, _, ended) in spans {
            let (work, setup) = taken.entry(lease.unit).or_default();
            // What was lost with an agent ran elsewhere, and is work there.
            *work += if ran_elsewhere(lease) {
                Micros::ZERO
            } else {
                lease.span() - ended.setup
            };
            *setup = ended.setup.max(*setup);
        }
        for (unit, took) in kept {
            taken.entry(unit).or_default().0 += took;
        }
        let rules = Rules::new(&self.opened.suites).unwrap_or_default();
        let processes = self.shards.iter().flat_map(|shard| &shard.processes);
        let undividing = processes.filter(|process| process.started.undivided);
        let undivided: BTreeSet<u32> = undividing.map(|process| process.started.suite).collect();
        let mut pieces: Vec<Longest> = Vec::new();
        let (mut shared, mut alone) = (Micros::ZERO, Micros::ZERO);
        let mut chains: BTreeMap<u32, Micros> = BTreeMap::new();
        for (&number, &(work, setup)) in &taken {
            let unit = &self.units[number as usize];
            let (needs, _) = rules.of(unit.suite, &unit.name, &unit.path);
            if needs.exclusive {
                alone += work + setup;
                continue;
            }
            shared += work + setup;
            for &lock in &needs.locks {
                *chains.entry(lock).or_default() += work + setup;
            }
            if undivided.contains(&unit.suite) || !needs.locks.is_empty() {
                pieces.push(Longest {
                    span: work + setup,
                    unit: number,
                    case: None,
                });
            } else {
                self.pieces(number, work + setup, setup, &mut pieces);
            }
        }
        let chain = chains
            .into_iter()
            .max_by_key(|&(lock, chain)| (chain, lock));
        let longest = pieces.iter().copied().max();
        let pieces: Vec<Micros> = pieces.into_iter().map(|piece| piece.span).collect();
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
            bound: lower_bound(shared, &pieces, &capacity)
                .with_chain(chain.map_or(Micros::ZERO, |(_, chain)| chain))
                .behind(alone),
            longest,
            lock: chain.map(|(lock, _)| rules.lock(lock).to_owned()),
        }
    }

    /// Of units that were at work when their agent was lost, or at work twice, what their cases took there that had their result of it.
    fn kept_of_lost(&self) -> BTreeMap<u32, Micros> {
        let mut kept = BTreeMap::new();
        if !self.leases.iter().any(ran_elsewhere) {
            return kept;
        }
        for (number, unit) in (0..).zip(&self.units) {
            let attempts = unit.cases.iter().flat_map(|case| case.attempts());
            let decided = attempts.filter(|attempt| attempt.outcome != Outcome::Killed);
            for attempt in decided {
                if self.lease_at(attempt.lease).is_some_and(ran_elsewhere) {
                    *kept.entry(number).or_default() += attempt.duration - attempt.setup;
                }
            }
        }
        kept
    }

    /// What nothing divides of a unit that took `all`, `setup` of it for loading.
    fn pieces(&self, unit: u32, all: Micros, setup: Micros, pieces: &mut Vec<Longest>) {
        let cases = &self.units[unit as usize].cases;
        let mut groups: HashMap<&str, usize> = HashMap::new();
        let first = pieces.len();
        for (number, case) in (0..).zip(cases) {
            let ran = case
                .last_attempt()
                .map_or(Micros::ZERO, |attempt| attempt.duration - attempt.setup);
            let place = case
                .group()
                .map(|group| *groups.entry(group).or_insert(pieces.len()));
            match place.and_then(|place| pieces.get_mut(place)) {
                Some(piece) => piece.span += ran,
                None => pieces.push(Longest {
                    span: setup + ran,
                    unit,
                    case: Some(number),
                }),
            }
        }
        if pieces.len() - first <= 1 {
            pieces.truncate(first);
            pieces.push(Longest {
                span: all,
                unit,
                case: None,
            });
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
                .and_then(|attempt| self.lease_at(attempt.lease))
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
        self.lease_at(attempt.lease).map(|lease| lease.shard)
    }
}

/// Whether what a lease was at work on, or some of it, got its result under another one.
fn ran_elsewhere(lease: &Lease) -> bool {
    let ended = lease.ended.map(|ended| ended.reason);
    matches!(ended, Some(Reason::Lost | Reason::Cancelled)) || lease.copied.is_some()
}
