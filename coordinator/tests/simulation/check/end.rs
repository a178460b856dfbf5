//! What must hold when a run has come to its end.

use crate::model::{Behaviour, ModelUnit, place_of};
use crate::world::World;
use evenkeel_coordinator::record::{Case, Lease, Outcome, Record, Unit, Verdict};
use evenkeel_proto::ledger::lease_ended::Reason;
use std::collections::HashMap;

/// How often a case or a unit may be at work when what it runs on is lost.
const CAP: usize = 3;

impl World {
    pub fn check(&self) {
        let record = &self.durable.record;
        self.check_records();
        let mut red = false;
        let mut expected_cases = vec![0; self.model.bundles.len()];
        for model in &self.model.units {
            let mut units = record.units.iter();
            let Some(unit) =
                units.find(|unit| unit.suite == model.suite && *unit.name == *model.name)
            else {
                assert!(
                    self.excuses(model.suite),
                    "unit {} was never listed",
                    model.name
                );
                continue;
            };
            expected_cases[model.suite as usize] += if model.kills_loader {
                self.check_killer(model, unit);
                1
            } else {
                self.check_unit(model, unit)
            };
            let verdicts = unit.cases.iter().filter_map(Case::verdict);
            let whole = unit.settled.as_ref().map(|(verdict, _)| *verdict);
            red |= verdicts.chain(whole).any(Verdict::is_failure);
        }
        if !self.mix.moves() {
            self.check_quiet(record);
        }
        self.check_conclusion(record);
        self.check_verdict(record, red, &expected_cases);
    }

    /// The run, who reads what it appends, and who reads what is stored, know the same.
    fn check_records(&self) {
        let stored = &self.durable.record;
        let live = self
            .run
            .as_ref()
            .map_or(&self.ledger.record, |run| run.record());
        assert!(
            self.durable.holds_nothing() || self.mix.stops(),
            "a lock is held when all is over"
        );
        assert_eq!(
            live.totals(),
            stored.totals(),
            "the run and its ledger differ"
        );
        assert_eq!(live.leases.len(), stored.leases.len());
        for (live, stored) in live.units.iter().zip(&stored.units) {
            let verdicts = |unit: &Unit| -> Vec<Option<Verdict>> {
                unit.cases.iter().map(Case::verdict).collect()
            };
            assert_eq!(
                verdicts(live),
                verdicts(stored),
                "the run and its ledger differ"
            );
        }
    }

    /// Whether something of a suite may be left out: the run was stopped, or nobody was there who could be set up for it.
    fn excuses(&self, suite: u32) -> bool {
        let mut shards = self.durable.record.shards.iter();
        let unable = shards.any(|shard| shard.unable.contains(&suite));
        let sick = self.mix.sick;
        self.stopped || (unable && (self.mix.moves() || sick || self.late()))
    }

    /// Slots came one after the other: for a while those that can run a suite may have been missing.
    fn late(&self) -> bool {
        !self.unable.is_empty()
    }

    fn check_killer(&self, model: &ModelUnit, unit: &Unit) {
        let cases: Vec<_> = unit
            .cases
            .iter()
            .map(|case| (&*case.id, case.verdict()))
            .collect();
        let whole = unit.settled.as_ref().map(|(verdict, _)| *verdict);
        let named = cases == [(&*model.name, Some(Verdict::Error))];
        let left = matches!(whole, Some(Verdict::NotRun | Verdict::Lost));
        assert!(
            named || whole == Some(Verdict::Error) || left && self.excuses(model.suite),
            "{cases:?} {whole:?}"
        );
    }

    /// Every case is there exactly once, with the verdict that it must have. How many there are.
    fn check_unit(&self, model: &ModelUnit, unit: &Unit) -> usize {
        if !unit.declared {
            let whole = unit.settled.as_ref().map(|(verdict, _)| *verdict);
            let left = matches!(whole, Some(Verdict::NotRun | Verdict::Lost));
            let lost =
                self.losses_of(unit) >= CAP && whole.is_some_and(|whole| whole != Verdict::Passed);
            assert!(
                left && self.excuses(model.suite) || lost,
                "unit {} was not declared: {:?}",
                model.name,
                unit.settled
            );
            return 0;
        }
        assert_eq!(
            unit.cases.len(),
            model.cases.len(),
            "unit {} has its cases exactly once",
            model.name
        );
        for case in &unit.cases {
            let place = place_of(&case.id).expect("a case's id");
            self.check_case(model, unit, case, model.cases[place].0);
        }
        unit.cases.len()
    }

    fn check_case(&self, model: &ModelUnit, unit: &Unit, case: &Case, behaviour: Behaviour) {
        let wanted = match behaviour {
            // Whichever attempt counts.
            Behaviour::Moody if case.verdict() == Some(Verdict::Failed) => Verdict::Failed,
            Behaviour::Pass | Behaviour::KilledOnce | Behaviour::Hangs | Behaviour::Moody => {
                Verdict::Passed
            }
            Behaviour::Fail => Verdict::Failed,
            Behaviour::Skip => Verdict::Skipped,
            Behaviour::Crash | Behaviour::KilledAlways | Behaviour::Poison => Verdict::Error,
            Behaviour::Forgotten => Verdict::Lost,
        };
        let verdict = case.verdict();
        let left = matches!(verdict, Some(Verdict::NotRun | Verdict::Lost));
        let lost = case.attempts().filter(|attempt| attempt.agent_lost).count();
        let capped = verdict == Some(Verdict::Error) && lost >= CAP;
        let broken = verdict == Some(Verdict::Error) && self.losses_of(unit) >= CAP;
        let sick = verdict == Some(Verdict::Failed) && self.ran_on_sick(case);
        assert!(
            verdict == Some(wanted)
                || left && self.excuses(model.suite)
                || capped
                || broken && self.mix.moves()
                || sick,
            "{} {behaviour:?} became {verdict:?}: {:?}",
            case.id,
            case.reason
        );
        let killed = |outcome: Outcome| outcome == Outcome::Killed;
        let decided = case
            .attempts()
            .filter(|attempt| !killed(attempt.outcome))
            .count();
        assert!(decided <= 1, "{} was decided {decided} times", case.id);
        assert!(lost <= CAP, "{} took {lost} agents", case.id);
        let others = case.attempts().count() - lost;
        assert!(others <= 2, "{} has too many attempts", case.id);
    }

    fn ran_on_sick(&self, case: &Case) -> bool {
        let record = &self.durable.record;
        let shard = record.shard_of(case);
        let agent = shard.map(|shard| &record.agents[record.shards[shard as usize].agent as usize]);
        let mut machines = self.machines.iter();
        agent.is_some_and(|agent| machines.any(|own| own.sick && own.name == agent.name))
    }

    /// How often something of a unit was at work when what it ran on was lost.
    fn losses_of(&self, unit: &Unit) -> usize {
        let record = &self.durable.record;
        let number = record.units.iter().position(|own| std::ptr::eq(own, unit));
        let own = record
            .leases
            .iter()
            .filter(|lease| Some(lease.unit as usize) == number);
        let lost = |lease: &&Lease| {
            let ended = lease.ended.map(|ended| ended.reason);
            ended.is_some_and(|reason| matches!(reason, Reason::Lost | Reason::Broken))
        };
        own.filter(lost).count()
    }

    /// Where nothing goes wrong but tests, nothing is done twice or in two places.
    fn check_quiet(&self, record: &Record) {
        let ends = [
            Behaviour::Crash,
            Behaviour::KilledOnce,
            Behaviour::KilledAlways,
        ];
        for unit in &record.units {
            let model = self.model.unit(unit.suite, &unit.name);
            let mut cases = model.cases.iter();
            let crashes =
                model.kills_loader || cases.any(|(behaviour, _)| ends.contains(behaviour));
            let mut places: HashMap<&str, u32> = HashMap::new();
            for case in unit.cases.iter().filter(|_| !crashes) {
                if let (Some(group), Some(shard)) = (case.group(), record.shard_of(case)) {
                    let place = *places.entry(group).or_insert(shard);
                    assert_eq!(place, shard, "group {group} of {} was separated", unit.name);
                }
            }
        }
        let mut again = 0;
        for (before, lease) in record.leases.iter().zip(record.leases.iter().skip(1)) {
            let what = |lease: &Lease| (lease.unit, lease.shard, lease.alone, lease.named.clone());
            let same = what(before) == what(lease);
            let unbegun = before.begun.is_none() && before.ended.is_some();
            // A bundle that loses its process may hold the same the next time.
            let counts = unbegun && same && !self.model.bundles.contains(&true);
            again = if counts { again + 1 } else { 0 };
            assert!(
                again < 4,
                "unit {} goes to and fro between a slot and nobody",
                lease.unit
            );
        }
        for (number, shard) in (0..).zip(&record.shards) {
            // Each suite may have to be listed, and each kind to be run.
            let kinds = self.model.kinds.len();
            let reasons = if kinds == 1 { 1 } else { 3 * kinds };
            // And one more process may have concluded the run as a whole.
            let reasons = reasons + usize::from(self.model.finish) * self.model.bundles.len();
            let mut units = self.model.units.iter();
            let bound = units.any(|unit| unit.exclusive || !unit.locks.is_empty());
            // One that is told to run what is late on another one, or that is late itself, gets another process.
            let own = record.leases.iter().filter(|lease| lease.shard == number);
            let twice = own.filter(|lease| lease.copied.is_some() || lease.was_cancelled());
            let reasons = reasons + 2 * twice.count();
            let needless = shard.processes.len() > reasons && !self.mix.crashes;
            assert!(
                !needless || bound,
                "a slot was given a new process without a reason"
            );
        }
    }

    /// Whoever concludes the run has what every process left for it.
    fn check_conclusion(&self, record: &Record) {
        let lost = record
            .agents
            .iter()
            .any(|agent| agent.gone.as_ref().is_some_and(|gone| gone.lost));
        for suite in 0..self.model.bundles.len() as u32 {
            let of_suite = self.carried.iter().filter(|(of, _)| *of == suite);
            let heard: Vec<&String> = of_suite.map(|(_, carry)| carry).collect();
            if let Some(finished) = self.finished.get(&suite) {
                // An empty one stands for a process that was lost.
                let mut finished: Vec<&String> = finished.iter().collect();
                finished.retain(|carry| !carry.is_empty());
                assert!(finished.iter().all(|carry| heard.contains(carry)));
                assert!(
                    lost || finished.len() == heard.len() || self.mix.moves(),
                    "{finished:?} of {heard:?}"
                );
            } else {
                let wanted = self.model.closing && self.model.finish;
                let mut processes = record.shards.iter().flat_map(|shard| &shard.processes);
                let unstarted = processes.all(|process| process.started.suite != suite);
                assert!(!wanted || self.mix.moves() || self.stopped || unstarted);
            }
        }
    }

    fn check_verdict(&self, record: &Record, red: bool, expected_cases: &[usize]) {
        let closed = record.closed.as_ref().expect("a closed run says how");
        let totals = record.totals();
        let incomplete = totals.not_run + totals.lost > 0 || !record.listed;
        let (closing, finish) = (self.model.closing, self.model.finish);
        // Somebody was lost before the run was concluded as a whole, or nobody could be set up for a suite.
        let unconcluded =
            closed.exit_code == 3 && (self.mix.moves() && closing && finish || self.late());
        let wanted = if red {
            1
        } else if record.stopped.is_some() {
            130
        } else if incomplete || unconcluded {
            3
        } else if expected_cases.contains(&0) {
            4
        } else {
            0
        };
        let suites = 0..self.model.bundles.len() as u32;
        let excused = suites.into_iter().any(|suite| self.excuses(suite));
        assert!(
            !incomplete || excused || self.mix.lies || self.mix.poison,
            "something is missing without a reason"
        );
        assert_eq!(
            closed.exit_code, wanted,
            "verdict {} with {totals:?}",
            closed.verdict
        );
        assert!(
            !(incomplete && closed.exit_code == 0),
            "green although something is missing"
        );
    }
}
