//! What is known of a run, rebuilt from the entries of its ledger.
//!
//! A [`Record`] changes by [`Record::apply`] only, one entry at a time. The live run, a reader of the store and a watcher
//! at the other end of the wire hold the same record because they applied the same entries. Applying is total: an entry
//! that refers to something unknown (a damaged or newer ledger) is an error, never a guess.

mod case;
mod copies;
mod first_red;
mod summary;
mod suspects;

pub use case::{Attempt, Case, CaseLabels, Outcome, TextRef, Verdict};
pub use copies::{Copied, Copies, Differing};
pub use first_red::FirstRed;
pub use summary::{Longest, Schedule, ShardSummary, Totals};
pub use suspects::Suspicion;

use evenkeel_proto::{ledger as l, suite::Suite};
use evenkeel_schedule::Micros;
use l::entry::Body;
use std::collections::{BTreeMap, BTreeSet};

/// An entry that does not fit the record it is applied to.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the ledger names {what} {number}, which it never introduced")]
    Unknown { what: &'static str, number: u64 },
    #[error("the ledger holds an entry of a kind that this version does not know")]
    UnknownKind,
    #[error("the ledger holds the value {value} for {what}, which this version does not know")]
    UnknownValue { what: &'static str, value: i64 },
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub name: String,
    pub incarnation: String,
    pub environment_class: String,
    /// What it told is taken in up to here.
    pub sequence: u64,
    /// How often the run had been recovered when it joined.
    pub term: u32,
    pub gone: Option<l::AgentGone>,
}

#[derive(Clone, Debug)]
pub struct Shard {
    pub agent: u32,
    pub slot: u32,
    /// Operating-system processes that the slot used, in order.
    pub processes: Vec<Process>,
    /// Leases in the order in which they were given.
    pub leases: Vec<u64>,
    /// Unplanned ends of its processes.
    pub ends: u32,
    /// Suites that it could not be set up for.
    pub unable: Vec<u32>,
    /// It runs nothing more.
    pub closed: bool,
}

#[derive(Clone, Debug)]
pub struct Process {
    pub started: l::ProcessStarted,
    pub ended: Option<l::ProcessEnded>,
}

#[derive(Clone, Debug)]
pub struct Unit {
    /// Number of its suite.
    pub suite: u32,
    pub name: Box<str>,
    pub path: Box<str>,
    pub size: u64,
    /// Of its source, 0 where unknown.
    pub revision: u64,
    /// Whether some lease has declared its cases.
    pub declared: bool,
    pub cases: Vec<Case>,
    /// A verdict on the unit as a whole, where there are no cases that could have one.
    pub settled: Option<(Verdict, Box<str>)>,
}

#[derive(Clone, Debug)]
pub struct Lease {
    pub unit: u32,
    pub shard: u32,
    pub generation: u32,
    /// The first position that it was to give back when it was last asked.
    pub revoked: Option<u32>,
    /// How often the run had been recovered when it was given.
    pub term: u32,
    /// The lease is for this case only.
    pub alone: Option<u32>,
    /// Just these cases of the unit, by number; empty where it has all that no other lease has.
    pub named: Box<[u32]>,
    /// What it names was at work under another lease when it was given.
    pub copied: Option<Box<Copied>>,
    pub expected: Micros,
    pub begun: Option<Begun>,
    /// For each declared index the number of the case in its unit.
    pub cases: Vec<u32>,
    pub ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug)]
pub struct Begun {
    pub incarnation: u32,
    pub at: Micros,
}

#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub reason: l::lease_ended::Reason,
    pub at: Micros,
    pub setup: Micros,
    /// Of its time, what passed until the slot knew what comes next.
    pub waited: Micros,
}

impl Lease {
    pub fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// Time from the start of loading to the end, without what was waiting; zero where either is missing.
    pub fn span(&self) -> Micros {
        match (self.begun, self.ended) {
            (Some(begun), Some(ended)) => ended.at - begun.at - ended.waited,
            _ => Micros::ZERO,
        }
    }
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub opened: l::RunOpened,
    pub agents: Vec<Agent>,
    pub shards: Vec<Shard>,
    pub units: Vec<Unit>,
    /// In the order in which they were given; see [`Record::lease`].
    pub leases: Vec<Lease>,
    /// Of the coordinator that recovered the run last, 0 before: grows each time.
    pub term: u32,
    pub planned: Option<l::Planned>,
    pub listed: bool,
    /// Suites whose listing is on record to its end.
    pub listed_suites: BTreeSet<u32>,
    /// What processes left for those that conclude the run: shard, suite, and what it is.
    pub carried: Vec<l::Carried>,
    pub notes: Vec<l::Noted>,
    pub stopped: Option<l::Stopped>,
    /// Why the framework fails the run although no test did.
    pub objections: Vec<l::Objected>,
    /// What the framework printed at its end, and the warnings that it collected.
    pub summaries: Vec<l::Summarised>,
    pub warnings: Vec<l::Warned>,
    pub closed: Option<l::Closed>,
    pub evidence: u64,
    /// Results that differ from their cases' verdicts, of cases that ran twice.
    pub differing: Vec<Differing>,
    /// Of each live lease that has a live copy, that copy.
    copies: BTreeMap<u64, u64>,
    /// When the last batch was written, on the run's clock.
    pub latest: Micros,
}

/// An opened run with its suites in their place, also where it was written before there could be several.
fn with_suites(mut opened: l::RunOpened) -> l::RunOpened {
    if opened.suites.is_empty() {
        opened.suites.push(Suite {
            name: std::mem::take(&mut opened.suite),
            runner: std::mem::take(&mut opened.runner),
            command: std::mem::take(&mut opened.command),
            directory: std::mem::take(&mut opened.directory),
            environment: std::mem::take(&mut opened.environment),
            case_timeout_us: opened.case_timeout_us,
            whole: opened.whole,
            isolate: opened.isolate,
            settings: std::mem::take(&mut opened.settings),
            ..Suite::default()
        });
    }
    opened
}

impl Record {
    /// The suite that a unit belongs to.
    pub fn suite_of(&self, unit: &Unit) -> &Suite {
        &self.opened.suites[unit.suite as usize]
    }

    /// A text about something of a suite: it says which, where there are several.
    pub fn with_suite(&self, suite: u32, text: &str) -> String {
        match self.opened.suites.get(suite as usize) {
            Some(suite) if self.opened.suites.len() > 1 => format!("{}: {text}", suite.name),
            _ => text.to_owned(),
        }
    }

    /// JUnit reports that the suites' own options ask for: the suite and the path.
    pub fn wanted_junit(&self) -> BTreeMap<u32, &str> {
        let processes = self.shards.iter().flat_map(|shard| &shard.processes);
        let wanted = processes.filter(|process| !process.started.junit.is_empty());
        wanted
            .map(|process| (process.started.suite, process.started.junit.as_str()))
            .collect()
    }

    /// The names of all suites, for where one text stands for the run.
    pub fn suites(&self) -> String {
        let names = self.opened.suites.iter().map(|suite| suite.name.as_str());
        names.collect::<Vec<&str>>().join(", ")
    }

    /// A lease by its number: the lower half counts the run's leases, from 1, the upper half how often the run had been recovered
    /// before. So what was given and not recorded before a crash is never taken for what is given after it.
    pub fn lease(&self, lease: u64) -> Option<&Lease> {
        let found = self.lease_at(lease as u32);
        found.filter(|found| u64::from(found.term) == lease >> 32)
    }

    /// A lease by the lower half of its number.
    pub fn lease_at(&self, number: u32) -> Option<&Lease> {
        self.leases.get((number as usize).checked_sub(1)?)
    }

    /// The number of the lease that is given next.
    pub fn next_lease(&self) -> u64 {
        u64::from(self.term) << 32 | (self.leases.len() as u64 + 1)
    }

    fn lease_mut(&mut self, lease: u64) -> Result<&mut Lease, ApplyError> {
        let unknown = ApplyError::Unknown {
            what: "lease",
            number: lease,
        };
        if self.lease(lease).is_none() {
            return Err(unknown);
        }
        self.leases
            .get_mut(lease as u32 as usize - 1)
            .ok_or(unknown)
    }

    fn unit_mut(&mut self, unit: u32) -> Result<&mut Unit, ApplyError> {
        self.units
            .get_mut(unit as usize)
            .ok_or(ApplyError::Unknown {
                what: "unit",
                number: unit.into(),
            })
    }

    fn shard_mut(&mut self, shard: u32) -> Result<&mut Shard, ApplyError> {
        self.shards
            .get_mut(shard as usize)
            .ok_or(ApplyError::Unknown {
                what: "shard",
                number: shard.into(),
            })
    }

    fn check_suite(&self, suite: u32) -> Result<(), ApplyError> {
        if (suite as usize) < self.opened.suites.len() {
            return Ok(());
        }
        Err(ApplyError::Unknown {
            what: "suite",
            number: suite.into(),
        })
    }

    pub fn apply_batch(&mut self, batch: &l::Batch) -> Result<(), ApplyError> {
        self.latest = Micros(batch.at_us);
        batch
            .entries
            .iter()
            .try_for_each(|entry| self.apply(entry))?;
        if let Some(taken) = &batch.taken {
            let agent = self.agents.get_mut(taken.agent as usize);
            agent
                .ok_or(ApplyError::Unknown {
                    what: "agent",
                    number: taken.agent.into(),
                })?
                .sequence = taken.sequence;
        }
        Ok(())
    }

    pub fn apply(&mut self, entry: &l::Entry) -> Result<(), ApplyError> {
        match entry.body.as_ref().ok_or(ApplyError::UnknownKind)? {
            Body::RunOpened(opened) => self.opened = with_suites(opened.clone()),
            Body::AgentJoined(joined) => self.agents.push(Agent {
                name: joined.name.clone(),
                incarnation: joined.incarnation.clone(),
                environment_class: joined.environment_class.clone(),
                sequence: 0,
                term: self.term,
                gone: None,
            }),
            Body::ShardOpened(opened) => self.shards.push(Shard {
                agent: opened.agent,
                slot: opened.slot,
                processes: Vec::new(),
                leases: Vec::new(),
                ends: 0,
                unable: Vec::new(),
                closed: false,
            }),
            Body::ShardClosed(closed) => self.shard_mut(closed.shard)?.closed = true,
            Body::Unable(unable) => {
                self.check_suite(unable.suite)?;
                let shard = self.shard_mut(unable.shard)?;
                shard.unable.push(unable.suite);
                shard.ends += 1;
            }
            // A coordinator that was killed before this row was durable has given leases all the same: its epoch is not used again.
            Body::Recovered(recovered) => {
                self.term = (self.term + 1).max(recovered.epoch as u32);
            }
            Body::Carried(carried) => self.carried.push(carried.clone()),
            Body::ProcessStarted(started) => {
                self.check_suite(started.suite)?;
                let process = Process {
                    started: started.clone(),
                    ended: None,
                };
                self.shard_mut(started.shard)?.processes.push(process);
            }
            Body::Listed(listed) => {
                let mut suites = listed.units.iter().map(|unit| unit.suite);
                suites.try_for_each(|suite| self.check_suite(suite))?;
                self.units.extend(listed.units.iter().map(|unit| Unit {
                    suite: unit.suite,
                    name: unit.name.as_str().into(),
                    path: unit.path.as_str().into(),
                    size: unit.size,
                    revision: unit.revision,
                    declared: false,
                    cases: Vec::new(),
                    settled: None,
                }));
                self.listed = !listed.more;
                self.listed_suites.extend(listed.whole);
            }
            Body::Planned(planned) => self.planned = Some(planned.clone()),
            Body::Leased(leased) => self.apply_leased(leased)?,
            Body::Revoked(revoked) => {
                let lease = self.lease_mut(revoked.lease)?;
                lease.generation = revoked.generation;
                lease.revoked = Some(revoked.from);
            }
            Body::UnitBegun(begun) => {
                self.lease_mut(begun.lease)?.begun = Some(Begun {
                    incarnation: begun.incarnation,
                    at: Micros(begun.at_us),
                });
            }
            Body::Declared(declared) => self.apply_declared(declared)?,
            Body::Attempt(attempt) => self.apply_attempt(attempt)?,
            Body::LeaseEnded(ended) => self.apply_lease_ended(ended)?,
            Body::ProcessEnded(ended) => {
                let shard = self.shard_mut(ended.shard)?;
                shard.ends += u32::from(ended.unplanned);
                for process in shard
                    .processes
                    .iter_mut()
                    .rev()
                    .filter(|process| process.started.incarnation == ended.incarnation)
                    .take(1)
                {
                    process.ended = Some(ended.clone());
                }
            }
            Body::AgentGone(gone) => {
                let agent = self.agents.get_mut(gone.agent as usize);
                agent
                    .ok_or(ApplyError::Unknown {
                        what: "agent",
                        number: gone.agent.into(),
                    })?
                    .gone = Some(gone.clone());
            }
            Body::Noted(noted) => self.notes.push(noted.clone()),
            Body::Stopped(stopped) => self.stopped = Some(stopped.clone()),
            Body::Settled(settled) => self.apply_settled(settled)?,
            Body::Closed(closed) => self.closed = Some(closed.clone()),
            Body::Evidence(evidence) => {
                self.evidence += 1;
                if evidence.differs {
                    self.apply_differing(evidence)?;
                }
            }
            // Whoever holds what can be read off the leases.
            Body::Locked(_) | Body::Unlocked(_) => {}
            Body::Returned(returned) => self.apply_returned(returned)?,
            Body::Objected(objected) => self.objections.push(objected.clone()),
            Body::Summarised(summary) => self.summaries.push(summary.clone()),
            Body::Warned(warned) => {
                let known = self.warnings.iter_mut();
                match known.into_iter().find(|known| known.text == warned.text) {
                    Some(known) => {
                        known.cases.extend_from_slice(&warned.cases);
                        known.count += warned.count;
                    }
                    None => self.warnings.push(warned.clone()),
                }
            }
        }
        Ok(())
    }

    fn apply_leased(&mut self, leased: &l::Leased) -> Result<(), ApplyError> {
        if leased.lease != self.next_lease() {
            return Err(ApplyError::Unknown {
                what: "lease",
                number: leased.lease,
            });
        }
        self.unit_mut(leased.unit)?;
        if let Some(copy) = &leased.copy {
            self.lease_mut(copy.of)?;
            self.copies.insert(copy.of, leased.lease);
        }
        self.shard_mut(leased.shard)?.leases.push(leased.lease);
        self.leases.push(Lease {
            unit: leased.unit,
            shard: leased.shard,
            generation: leased.generation,
            revoked: None,
            term: self.term,
            alone: leased.alone,
            named: leased.named.as_slice().into(),
            copied: leased.copy.as_ref().map(|copy| Box::new(Copied::of(copy))),
            expected: Micros(leased.expected_us.into()),
            begun: None,
            cases: Vec::new(),
            ended: None,
        });
        Ok(())
    }

    fn apply_declared(&mut self, declared: &l::Declared) -> Result<(), ApplyError> {
        let lease = self.lease(declared.lease).ok_or(ApplyError::Unknown {
            what: "lease",
            number: declared.lease,
        })?;
        let unit_number = lease.unit;
        let owner = case::owner(declared.lease);
        // What a copy has is its original's for as long as that lives.
        let original = self.original(lease).map_or(owner, case::owner);
        let gave_back = lease.copied.as_ref().map(|copy| copy.gave_back.clone());
        let gave_back = gave_back.unwrap_or_default();
        let unit = self.unit_mut(unit_number)?;
        unit.declared = true;
        let first_new = unit.cases.len() as u32;
        unit.cases.reserve(declared.cases.len());
        for known in &declared.known {
            let case = unit.cases.get_mut(*known as usize);
            let case = case.ok_or(ApplyError::Unknown {
                what: "case",
                number: (*known).into(),
            })?;
            if case.owner != original && !gave_back.contains(known) {
                case.owner = owner;
            }
        }
        unit.cases.extend(
            declared
                .cases
                .iter()
                .map(|case| Case::declared(case, owner)),
        );
        let end = unit.cases.len() as u32;
        let lease = self.lease_mut(declared.lease)?;
        lease.cases.extend(&declared.known);
        lease.cases.extend(first_new..end);
        Ok(())
    }

    fn apply_attempt(&mut self, attempt: &l::Attempt) -> Result<(), ApplyError> {
        let unit = self.lease_mut(attempt.lease)?.unit;
        let case = self.unit_mut(unit)?.cases.get_mut(attempt.case as usize);
        case.ok_or(ApplyError::Unknown {
            what: "case",
            number: attempt.case.into(),
        })?
        .attempt(attempt)
    }

    fn apply_lease_ended(&mut self, ended: &l::LeaseEnded) -> Result<(), ApplyError> {
        let reason = l::lease_ended::Reason::try_from(ended.reason).map_err(|error| {
            ApplyError::UnknownValue {
                what: "the end of a lease",
                value: error.0.into(),
            }
        })?;
        let owner = case::owner(ended.lease);
        let free = reason != l::lease_ended::Reason::Closed;
        // What a lease leaves undecided is its copy's from now on.
        let heir = self.end_pair(ended, free);
        let lease = self.lease_mut(ended.lease)?;
        lease.ended = Some(Ended {
            reason,
            at: Micros(ended.at_us),
            setup: Micros(ended.setup_us),
            waited: Micros(ended.waited_us),
        });
        let unit = lease.unit as usize;
        // What the lease had not finished is free for another one.
        if free {
            for case in self.units[unit]
                .cases
                .iter_mut()
                .filter(|case| case.owner == owner)
            {
                case.owner = 0;
            }
            self.inherit(heir, unit);
        }
        Ok(())
    }

    fn apply_returned(&mut self, returned: &l::Returned) -> Result<(), ApplyError> {
        let owner = case::owner(returned.lease);
        // What its original gives back is not the copy's any more either.
        let copy = self.copies.get(&returned.lease).copied();
        for lease in [Some(returned.lease), copy].into_iter().flatten() {
            let copied = self.lease_mut(lease)?.copied.as_mut();
            if let Some(copied) = copied.filter(|copied| copied.stands.is_none()) {
                copied.gave_back.extend_from_slice(&returned.cases);
            }
        }
        let unit = self.lease_mut(returned.lease)?.unit;
        let unit = self.unit_mut(unit)?;
        for number in &returned.cases {
            let case = unit
                .cases
                .get_mut(*number as usize)
                .ok_or(ApplyError::Unknown {
                    what: "case",
                    number: (*number).into(),
                })?;
            if case.owner == owner {
                case.owner = 0;
            }
        }
        Ok(())
    }

    fn apply_settled(&mut self, settled: &l::Settled) -> Result<(), ApplyError> {
        let verdict = Verdict::parse(&settled.outcome).ok_or(ApplyError::UnknownValue {
            what: "a verdict",
            value: settled.outcome.len() as i64,
        })?;
        let unit = self.unit_mut(settled.unit)?;
        match settled.case {
            None => unit.settled = Some((verdict, settled.message.as_str().into())),
            Some(number) => {
                let case = unit.cases.get_mut(number as usize);
                let case = case.ok_or(ApplyError::Unknown {
                    what: "case",
                    number: number.into(),
                })?;
                case.settle(verdict, &settled.message);
            }
        }
        Ok(())
    }
}
