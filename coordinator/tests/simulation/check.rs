//! What must hold: of each row as it is appended, of each lease as it is given, of what an agent forgets, and of the whole at the
//! end.

mod end;

use super::agent::Kept;
use super::model::{Model, place_of};
use super::slot::cases_of;
use super::world::World;
use evenkeel_coordinator::record::{Ended, Lease, Record, Unit};
use evenkeel_coordinator::run::copies::{BUDGET_PERCENT, EVERY};
use evenkeel_coordinator::run::{AgentId, FactBody, LeaseCommand};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;
use l::entry::Body;
use l::lease_ended::Reason;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What may be spent on copies before anybody can see that it is too much.
const UNSEEN: Micros = Micros(3 * EVERY.0);

/// What a reader of rows knows, who trusts nothing that the run says of itself.
#[derive(Clone, Default)]
pub struct Ledger {
    pub record: Record,
    /// Who holds what.
    locks: HashMap<String, u32>,
    /// Results that left a trace: by lease and the case's number, or as evidence by lease and position.
    results: HashSet<(u64, u32)>,
    evidence: HashSet<(u64, u32)>,
}

/// What is known of slots' time beside the rows: crashes lose rows, and not this.
#[derive(Default)]
pub struct Budget {
    /// The most that slots were known to have spent on what is no copy: what is told later may make it less.
    work: Micros,
    /// What copies took while there was no coordinator, and when it was heard of last.
    unwatched: Micros,
    latest: Micros,
}

impl Ledger {
    /// Takes in a row, and with a model checks that each of its entries may be there.
    pub fn apply(&mut self, batch: &l::Batch, model: Option<&Model>) {
        for entry in &batch.entries {
            let body = entry.body.as_ref().expect("an entry says something");
            if let Some(model) = model {
                self.check(body, model);
            }
            match body {
                Body::Locked(locked) => {
                    let before = self.locks.insert(locked.lock.clone(), locked.shard);
                    assert_eq!(before, None, "lock {} is held twice", locked.lock);
                }
                Body::Unlocked(unlocked) => {
                    let holder = self.locks.remove(&unlocked.lock);
                    assert_eq!(holder, Some(unlocked.shard), "lock {}", unlocked.lock);
                }
                Body::Attempt(attempt) => {
                    self.results.insert((attempt.lease, attempt.case));
                }
                Body::Evidence(evidence) => {
                    self.evidence.insert((evidence.lease, evidence.case));
                }
                _ => {}
            }
            if model.is_some() {
                let applied = self.record.apply(entry);
                applied.expect("the ledger can be read back");
            }
        }
        if model.is_none() {
            let applied = self.record.apply_batch(batch);
            applied.expect("the ledger can be read back");
        }
    }

    fn check(&self, body: &Body, model: &Model) {
        assert!(
            self.record.closed.is_none(),
            "something follows the verdict"
        );
        match body {
            Body::Attempt(attempt) => {
                let lease = self.record.lease(attempt.lease);
                let lease = lease.expect("a result has a lease");
                let case = &self.record.units[lease.unit as usize].cases[attempt.case as usize];
                assert!(
                    lease.is_live(),
                    "{} has a result under a dead lease",
                    case.id
                );
                let original = lease.copied.as_ref().map(|copy| copy.of);
                let shared = original.is_some_and(|of| {
                    let original = self.record.lease(of).expect("a copy is one of a lease");
                    original.is_live() && case.is_owned_by(of)
                });
                assert!(
                    case.is_owned_by(attempt.lease) || shared,
                    "{} was somebody else's",
                    case.id
                );
                assert_eq!(case.verdict(), None, "{} has a second verdict", case.id);
            }
            Body::Settled(settled) => {
                let unit = &self.record.units[settled.unit as usize];
                let before = match settled.case {
                    Some(case) => unit.cases[case as usize].verdict(),
                    None => unit.settled.as_ref().map(|(verdict, _)| *verdict),
                };
                assert_eq!(before, None, "{} is settled twice", unit.name);
            }
            Body::Leased(leased) => {
                self.check_locks(leased, model);
                if let Some(copy) = &leased.copy {
                    self.check_copy(leased, copy, model);
                }
            }
            _ => {}
        }
    }

    /// Who is given a unit holds its locks, nobody else does, and what must be alone is.
    fn check_locks(&self, leased: &l::Leased, model: &Model) {
        let unit = &self.record.units[leased.unit as usize];
        let own = model.unit(unit.suite, &unit.name);
        for lock in &own.locks {
            assert_eq!(self.locks.get(lock), Some(&leased.shard), "lock {lock}");
        }
        let live = self.record.leases.iter().filter(|lease| lease.is_live());
        for other in live.filter(|other| other.shard != leased.shard) {
            let unit = &self.record.units[other.unit as usize];
            let beside = model.unit(unit.suite, &unit.name);
            let alone = own.exclusive || beside.exclusive;
            assert!(!alone, "{} runs beside {}", beside.name, own.name);
        }
    }

    /// What runs twice at the same time may: its suite says so, nothing holds it to one place, it has taken nothing down, and it
    /// has not run twice before.
    fn check_copy(&self, leased: &l::Leased, copy: &l::Copy, model: &Model) {
        let unit = &self.record.units[leased.unit as usize];
        let own = model.unit(unit.suite, &unit.name);
        let name = &own.name;
        assert!(self.record.suite_of(unit).copies, "{name} runs twice");
        assert!(
            own.locks.is_empty() && !own.exclusive,
            "{name} is locked and runs twice"
        );
        let concludes = model.closing && model.finish;
        assert!(
            !(model.bundles[own.suite as usize] || concludes),
            "{name} runs twice"
        );
        let original = self
            .record
            .lease(copy.of)
            .expect("a copy is one of a lease");
        assert!(original.is_live() && original.unit == leased.unit && original.alone.is_none());
        assert_ne!(
            original.shard, leased.shard,
            "{name} runs twice on one slot"
        );
        let void = |lease: &Lease| {
            let returned = |ended: Ended| ended.reason == Reason::Returned;
            lease.cases.is_empty() && lease.ended.is_some_and(returned)
        };
        let leases = self.record.leases.iter().filter(|lease| !void(lease));
        let copies = leases.filter(|lease| lease.unit == leased.unit && lease.copied.is_some());
        let before: BTreeSet<u32> = copies.flat_map(|lease| &lease.named).copied().collect();
        for number in &leased.named {
            assert!(!before.contains(number), "{name} runs three times");
        }
        for &number in &leased.named {
            let case = &unit.cases[number as usize];
            assert!(case.is_owned_by(copy.of) && case.verdict().is_none());
            assert!(
                case.group().is_none(),
                "{} is separated from its group",
                case.id
            );
            assert_eq!(
                case.attempts().count(),
                0,
                "{} took something down",
                case.id
            );
        }
        assert!(!leased.named.is_empty(), "a copy has cases");
    }

    /// Where nothing of a run's work is left, nobody holds anything.
    fn holds_nothing(&self) -> bool {
        self.locks.is_empty()
    }
}

impl Budget {
    /// What slots have spent on copies by now is a twentieth of what they spent on everything else, as far as can be told from rows,
    /// and as far as time that nobody looks at can be bounded.
    pub fn check(&mut self, record: &Record, batch: &l::Batch) {
        let now = Micros(batch.at_us);
        let again = |entry: &l::Entry| matches!(entry.body, Some(Body::Recovered(_)));
        let again = batch.entries.iter().any(again);
        let away = now - std::mem::replace(&mut self.latest, now);
        let (mut work, mut spent) = (Micros::ZERO, Micros::ZERO);
        for lease in &record.leases {
            let copied = lease.copied.is_some() && lease.ended.is_none_or(|ended| ended.at == now);
            self.unwatched += if again && copied { away } else { Micros::ZERO };
            spent += lease.spent_as_copy(now);
            let alone = lease.copied.as_ref().map(|copy| copy.stands);
            let since = alone.unwrap_or(lease.begun.map(|begun| begun.at));
            let end = lease.ended.map_or(now, |ended| ended.at);
            work += since.map_or(Micros::ZERO, |since| end - since);
        }
        self.work = self.work.max(work);
        let allowed = Micros(self.work.0 * BUDGET_PERCENT / 100) + UNSEEN + self.unwatched;
        assert!(
            spent <= allowed,
            "{spent} was spent on copies, {allowed} is allowed"
        );
    }
}

impl World {
    /// A lease is given: under a number that nobody has seen, of a unit that is in the store, and of cases that are neither decided
    /// nor anybody else's.
    pub fn check_lease(&mut self, agent: AgentId, command: &LeaseCommand) {
        let record = &self.ledger.record;
        let suite = self.model.suite_of_kind(command.kind);
        let mut units = record.units.iter();
        let number = units.position(|unit| unit.suite == suite && *unit.name == *command.unit);
        let number = number.expect("what is leased is listed");
        assert!(
            number < self.stored_units,
            "unit {} is leased before its listing is stored",
            command.unit
        );
        let place = self.model.find(suite, &command.unit);
        let cases: BTreeSet<usize> = cases_of(command, &self.model.units[place])
            .into_iter()
            .collect();
        let seen = self.perturbed_lease(command.lease);
        let before = self.leases.insert(seen, (command.kind, cases.clone()));
        assert!(before.is_none(), "lease {seen} is given twice");
        let record = &self.ledger.record;
        let Some(lease) = record.lease(command.lease).filter(|lease| lease.is_live()) else {
            return;
        };
        let owner = record.shards[lease.shard as usize].agent as usize;
        let name = &record.agents[owner].name;
        let machine = self.machines.iter().find(|own| own.name == *name);
        // One that comes again under a coordinator or as an incarnation that has not seen it may show what it can do once more.
        let same = self.crashes == 0 && machine.is_some_and(|own| own.boot == 1);
        let aside = format!("agent {name} is set aside");
        let noted = record
            .notes
            .iter()
            .any(|note| note.text.starts_with(&aside));
        assert!(!(same && noted), "{aside} and given more");
        let unable = &record.shards[lease.shard as usize].unable;
        assert!(
            !unable.contains(&suite),
            "a slot is given what it said that it cannot run"
        );
        let unit = &record.units[number];
        let decided = unit.cases.iter().filter(|case| case.verdict().is_some());
        let again = decided
            .filter_map(|case| place_of(&case.id))
            .find(|case| cases.contains(case));
        assert_eq!(
            again, None,
            "a case of {} is run again that has its verdict",
            unit.name
        );
        for (at, other) in (1u32..).zip(&record.leases) {
            let id = u64::from(other.term) << 32 | u64::from(at);
            // A copy has on purpose what another one has.
            let of = |lease: &Lease| lease.copied.as_ref().map(|copy| copy.of);
            if of(lease) == Some(id) || of(other) == Some(command.lease) {
                continue;
            }
            if id != command.lease && other.unit as usize == number && other.is_live() {
                let theirs = self.covered(id, other, unit);
                let twice: Vec<&usize> = theirs.intersection(&cases).collect();
                assert!(
                    twice.is_empty(),
                    "cases {twice:?} of {} are given twice",
                    unit.name
                );
            }
        }
        self.check_elsewhere(agent, command, lease, unit);
    }

    /// The cases that a lease still has.
    fn covered(&self, id: u64, lease: &Lease, unit: &Unit) -> BTreeSet<usize> {
        let Some((_, cases)) = self.leases.get(&self.perturbed_lease(id)) else {
            return BTreeSet::new();
        };
        if lease.cases.is_empty() {
            return cases.clone();
        }
        let own = lease.cases.iter().map(|&case| &unit.cases[case as usize]);
        let own = own.filter(|case| case.is_owned_by(id) && case.verdict().is_none());
        own.filter_map(|case| place_of(&case.id)).collect()
    }

    /// A case with which an agent was lost runs on another one, if there is any. Looked at where it is beyond doubt who is there.
    fn check_elsewhere(&self, agent: AgentId, command: &LeaseCommand, lease: &Lease, unit: &Unit) {
        let Some(case) = lease.alone.filter(|_| !self.mix.moves_much()) else {
            return;
        };
        let record = &self.ledger.record;
        // Whoever lists a suite is going to have a process of that.
        if !record.listed {
            return;
        }
        let attempt = unit.cases[case as usize].last_attempt();
        let Some(lost) = attempt.filter(|attempt| attempt.agent_lost) else {
            return;
        };
        let lost = record.lease_at(lost.lease).expect("it is on record");
        // It may have been lost again since then, before it had begun.
        let own = |other: &&Lease| other.unit == lease.unit && other.alone == lease.alone;
        let ended = |other: &&Lease| {
            other
                .ended
                .is_some_and(|ended| ended.reason == l::lease_ended::Reason::Lost)
        };
        let again = record.leases.iter().rev().filter(own).find(ended);
        let lost = again.unwrap_or(lost);
        let name = |shard: u32| &record.agents[record.shards[shard as usize].agent as usize].name;
        if name(lost.shard) != name(lease.shard) {
            return;
        }
        let suite = self.model.suite_of_kind(command.kind);
        // Who holds the lock that it needs keeps the others from it.
        let own = self.model.unit(suite, &command.unit);
        if own.exclusive || !own.locks.is_empty() {
            return;
        }
        for (shard, state) in (0..).zip(&record.shards) {
            let owner = &record.agents[state.agent as usize];
            // Another kind of process may not be worth its start.
            let up = state
                .processes
                .last()
                .is_some_and(|last| last.ended.is_none() && last.started.kind == command.kind);
            // And one that has something else before it is going to be of another kind.
            let stays = (1u32..).zip(&record.leases).all(|(at, held)| {
                let id = u64::from(held.term) << 32 | u64::from(at);
                let kind = self
                    .leases
                    .get(&self.perturbed_lease(id))
                    .map(|(kind, _)| *kind);
                held.shard != shard || !held.is_live() || kind == Some(command.kind)
            });
            let able =
                up && stays && !state.closed && state.unable.is_empty() && owner.gone.is_none();
            let machine = self
                .machines
                .iter()
                .position(|own| own.incarnation() == owner.incarnation);
            let there = machine.is_some_and(|machine| {
                let session = self.machines[machine].session;
                let cannot = self.unable.contains(&(machine, state.slot, suite));
                session.is_some_and(|session| self.sessions[session].open) && !cannot
            });
            assert!(
                !(able && there) || name(shard) == name(lease.shard),
                "{} took agent {} down and is given to its like again, {}",
                unit.cases[case as usize].id,
                name(lost.shard),
                agent.0
            );
        }
    }

    /// A run is about to be over: who has heard everything, and has nothing more to tell, holds nothing that the run knows not of.
    pub fn check_quiet_slots(&self) {
        let stopped = self.ledger.record.stopped.is_some() || !self.unable.is_empty();
        for machine in self.machines.iter().filter(|_| !stopped) {
            let (Some(hold), Some(session)) = (&machine.hold, machine.session) else {
                continue;
            };
            let quiet = hold.is_heard_over(session) && self.is_quiet(session);
            if !quiet || machine.frozen.is_some() {
                continue;
            }
            let held: Vec<u64> = hold.slots.iter().flat_map(|slot| slot.holds()).collect();
            assert!(
                held.is_empty(),
                "{} still holds {held:?}",
                machine.incarnation()
            );
        }
    }

    /// What an agent forgets is in rows that are durable, or was told about nothing that the run knows of.
    pub fn check_forgotten(&self, forgotten: &Kept) {
        for (_, fact) in forgotten {
            match &fact.body {
                FactBody::CaseEnded(ended) => {
                    let Some(lease) = self.durable.record.lease(ended.lease) else {
                        continue;
                    };
                    let number = lease.cases.get(ended.case as usize);
                    let decided = number.is_some_and(|&number| {
                        self.durable.results.contains(&(ended.lease, number))
                    });
                    assert!(
                        decided || self.durable.evidence.contains(&(ended.lease, ended.case)),
                        "an agent forgets case {} of lease {}, and no row that is durable has it",
                        ended.case,
                        ended.lease
                    );
                }
                FactBody::UnitClosed { lease, .. }
                | FactBody::Returned {
                    lease, all: true, ..
                } => {
                    let lease = self.durable.record.lease(*lease);
                    assert!(
                        lease.is_none_or(|lease| !lease.is_live()),
                        "an agent forgets the end of a lease that no durable row has"
                    );
                }
                _ => {}
            }
        }
    }
}
