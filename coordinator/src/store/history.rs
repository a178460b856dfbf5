//! What units and cases took in earlier runs: raw samples, one row a unit and run.
//!
//! The ids of a unit's cases rarely change, so they are stored once per distinct list; a row holds only durations and
//! outcomes, in the list's order.

use super::StoreError;
use super::database::{Connection, Value};
use crate::record::{Lease, Outcome, Record, Verdict};
use crate::run::{CaseKey, Lately, SuiteHistory};
use evenkeel_proto::{ledger::lease_ended::Reason, suite::Suite};
use evenkeel_schedule::{Micros, Past, PastRun, Sample};
use std::collections::{BTreeMap, HashMap};

/// Estimates look this many runs back.
pub(super) const RUNS: u32 = 10;
/// A row's, of those that are written.
const COLUMNS: usize = 14;
/// Bytes of a case's sample.
const SAMPLE: usize = 5;
/// A unit that takes more than a slot's fair share, divided by this, may have to be split: what its cases take is read too.
const SHARES: u64 = 4;

const DAY_US: u64 = 86_400_000_000;
/// What is older than a year is old.
const MOST_DAYS: u32 = 366;

#[derive(Clone, Debug)]
pub struct HistoryQuery {
    pub project: String,
    pub suite: String,
    /// Samples of other commands count only where there are none of this one; those of other environment classes tell less.
    pub command: [u8; 32],
    pub environment_class: String,
    pub slots: u32,
}

/// What one unit took in one run.
#[derive(Clone, Debug)]
pub struct UnitSample {
    pub query: HistoryQuery,
    pub unit: String,
    /// Of its source, 0 where unknown.
    pub revision: u64,
    pub work: Micros,
    pub setup: Micros,
    /// How many of its cases failed, and one more where it failed as a whole.
    pub failures: u32,
    pub case_list: Vec<u8>,
    /// For each case of the list: outcome (one byte) and duration in microseconds (four bytes, little endian).
    pub samples: Vec<u8>,
}

/// What of a suite decides how long its units take.
pub fn command_digest(suite: &Suite) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for word in &suite.command {
        hasher
            .update(&(word.len() as u64).to_le_bytes())
            .update(word.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The samples of a run that is over. A unit that lost a process on its way tells nothing about its duration, but that it failed,
/// where it did; one that was split tells what all of its parts took, with one set-up.
pub fn samples_of(record: &Record) -> Vec<UnitSample> {
    let suites = record.opened.suites.iter();
    let commands: Vec<[u8; 32]> = suites.map(command_digest).collect();
    let mut leases: BTreeMap<u32, Vec<&Lease>> = BTreeMap::new();
    // A lease that was given back before it began took nothing.
    for lease in record.leases.iter().filter(|lease| lease.begun.is_some()) {
        leases.entry(lease.unit).or_default().push(lease);
    }
    leases
        .into_iter()
        .filter_map(|(unit, leases)| sample_of(record, unit, &leases, &commands))
        .collect()
}

fn sample_of(
    record: &Record,
    unit: u32,
    leases: &[&Lease],
    commands: &[[u8; 32]],
) -> Option<UnitSample> {
    let unit = &record.units[unit as usize];
    let failed = |verdict: Option<Verdict>| verdict.is_some_and(Verdict::is_failure);
    let whole = unit.settled.as_ref().map(|(verdict, _)| *verdict);
    let cases = unit.cases.iter().filter(|case| failed(case.verdict()));
    let failures = cases.count() as u32 + u32::from(failed(whole));
    // What some of it took twice is not what it takes.
    if failures == 0 && leases.iter().any(|lease| lease.copied.is_some()) {
        return None;
    }
    let mut work = Micros::ZERO;
    let mut setups: Vec<Micros> = Vec::new();
    for lease in leases {
        let ended = lease.ended.filter(|ended| ended.reason == Reason::Closed);
        // That it failed is worth to be known, whatever became of its process.
        let ended = ended.or(lease.ended.filter(|_| failures > 0))?;
        work += lease.span() - ended.setup;
        setups.push(ended.setup);
    }
    // What one more part costs is the least that one paid, but nothing that is paid only where the unit was loaded already.
    let paid = setups.into_iter().filter(|setup| *setup > Micros::ZERO);
    let setup = paid.min().unwrap_or_default();
    let shard = &record.shards[leases.first()?.shard as usize];
    let agent = &record.agents[shard.agent as usize];
    let mut cases = Cases::default();
    for case in &unit.cases {
        let attempt = match case.last_attempt() {
            Some(attempt) => attempt,
            None if failures > 0 => continue,
            None => return None,
        };
        // What a case sets up for others is the unit's set-up; which case that falls to depends on how the unit was split.
        let took = attempt.duration - attempt.setup;
        cases.add(&case.id, case.occurrence, attempt.outcome, took);
    }
    Some(UnitSample {
        query: HistoryQuery {
            project: record.opened.project.clone(),
            suite: record.suite_of(unit).name.clone(),
            command: commands[unit.suite as usize],
            environment_class: agent.environment_class.clone(),
            slots: record.shards.len() as u32,
        },
        unit: unit.name.to_string(),
        revision: unit.revision,
        work,
        setup,
        failures,
        case_list: cases.list,
        samples: cases.samples,
    })
}

/// Cases as they are stored.
#[derive(Default)]
pub(super) struct Cases {
    pub list: Vec<u8>,
    pub samples: Vec<u8>,
}

impl Cases {
    pub(super) fn add(&mut self, id: &str, occurrence: u32, outcome: Outcome, took: Micros) {
        self.list.extend((id.len() as u32).to_le_bytes());
        self.list.extend(id.as_bytes());
        self.list.extend(occurrence.to_le_bytes());
        self.samples.push(match outcome {
            Outcome::Passed => 1,
            Outcome::Failed => 2,
            Outcome::Error | Outcome::Killed => 3,
            Outcome::Skipped => 4,
        });
        let took = u32::try_from(took.0).unwrap_or(u32::MAX);
        self.samples.extend(took.to_le_bytes());
    }
}

/// Reads back what [`Cases::add`] wrote: each case and its duration.
pub(super) fn cases_of(case_list: &[u8], samples: &[u8]) -> Option<HashMap<CaseKey, Micros>> {
    let mut cases = HashMap::new();
    let mut rest = case_list;
    for sample in samples.chunks_exact(SAMPLE) {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (id, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (occurrence, behind) = behind.split_first_chunk::<4>()?;
        rest = behind;
        let key = CaseKey {
            id: String::from_utf8(id.to_vec()).ok()?,
            occurrence: u32::from_le_bytes(*occurrence),
        };
        let took = u32::from_le_bytes(sample[1..].try_into().ok()?);
        cases.insert(key, Micros(took.into()));
    }
    Some(cases)
}

/// Stores the lists of cases that the samples name. This comes before anything else is done to the history, so that lists are
/// not removed meanwhile; in the order of their digests, so that two who do this never wait for each other.
pub(super) async fn save_lists(
    connection: &mut Connection,
    samples: &[UnitSample],
) -> Result<(), StoreError> {
    let lists = samples.iter().map(|sample| &sample.case_list[..]);
    let lists: BTreeMap<[u8; 32], &[u8]> = lists
        .map(|list| (*blake3::hash(list).as_bytes(), list))
        .collect();
    let values: Vec<Value<'_>> = lists
        .iter()
        .flat_map(|(digest, list)| [digest.as_slice(), list].map(Value::Bytes))
        .collect();
    let into = "INSERT INTO case_lists (digest, cases)";
    Ok(connection
        .insert(into, 2, &values, "ON CONFLICT DO NOTHING")
        .await?)
}

/// Stores the samples of a run, whose lists of cases are there.
pub(super) async fn save(
    connection: &mut Connection,
    run: i64,
    taken_unix_us: i64,
    samples: &[UnitSample],
) -> Result<(), StoreError> {
    let digests: Vec<blake3::Hash> = samples
        .iter()
        .map(|sample| blake3::hash(&sample.case_list))
        .collect();
    let mut values: Vec<Value<'_>> = Vec::with_capacity(COLUMNS * samples.len());
    for (sample, digest) in samples.iter().zip(&digests) {
        values.extend([
            Value::from(sample.query.project.as_str()),
            sample.query.suite.as_str().into(),
            run.into(),
            sample.unit.as_str().into(),
            sample.query.environment_class.as_str().into(),
            sample.query.command.as_slice().into(),
            sample.query.slots.into(),
            sample.work.0.into(),
            sample.setup.0.into(),
            digest.as_bytes().as_slice().into(),
            sample.samples.as_slice().into(),
            taken_unix_us.into(),
            sample.failures.into(),
            sample.revision.into(),
        ]);
    }
    let into = "INSERT INTO history (project, suite, run, unit, environment_class, command, slots, work_us, setup_us, cases,
                samples, taken_unix_us, failures, revision)";
    Ok(connection.insert(into, COLUMNS, &values, "").await?)
}

/// The samples of one unit, newest first.
struct Found {
    /// They are of the run's own command.
    own: bool,
    /// The newest one that passed, or else the newest.
    row: (bool, i64),
    lately: Lately,
    samples: Vec<Sample>,
}

impl Found {
    fn new(own: bool, row: (bool, i64), revision: u64) -> Found {
        Found {
            own,
            row,
            lately: Lately {
                revision,
                failed: None,
            },
            samples: Vec::new(),
        }
    }
}

/// The runs that samples are from, as they are met: the newest first.
#[derive(Default)]
struct Runs {
    list: Vec<PastRun>,
    numbers: HashMap<(i64, u32), u32>,
    /// Circumstances that are not those of the run that is estimated for, from 1 on.
    others: HashMap<(Vec<u8>, String), u32>,
    /// How many there are, which is the newest, and when that was.
    count: u32,
    last: Option<i64>,
    newest_unix_us: u64,
}

impl Runs {
    fn number(&mut self, run: i64, taken_unix_us: u64, others: Option<(&[u8], &str)>) -> u32 {
        let circumstances = others.map_or(0, |(command, class)| {
            let next = self.others.len() as u32 + 1;
            let key = (command.to_vec(), class.to_owned());
            *self.others.entry(key).or_insert(next)
        });
        if self.last != Some(run) {
            self.last = Some(run);
            self.count += 1;
            self.newest_unix_us = self.newest_unix_us.max(taken_unix_us);
        }
        let days = (self.newest_unix_us.saturating_sub(taken_unix_us)) / DAY_US;
        let past = PastRun {
            runs: self.count - 1,
            days: u32::try_from(days).unwrap_or(u32::MAX).min(MOST_DAYS),
            circumstances,
        };
        *self.numbers.entry((run, circumstances)).or_insert_with(|| {
            self.list.push(past);
            self.list.len() as u32 - 1
        })
    }
}

pub(super) async fn load(
    connection: &mut Connection,
    query: &HistoryQuery,
) -> Result<SuiteHistory, StoreError> {
    let rows = connection
        .fetch(
            "SELECT unit, work_us, setup_us, id, command, environment_class, run, taken_unix_us, failures, revision FROM history
             WHERE project = $1 AND suite = $2 AND run IN
               (SELECT DISTINCT run FROM history WHERE project = $1 AND suite = $2 ORDER BY run DESC LIMIT $3)
             ORDER BY run DESC, id DESC",
            &[
                query.project.as_str().into(),
                query.suite.as_str().into(),
                RUNS.into(),
            ],
        )
        .await?;

    let mut best: BTreeMap<String, Found> = BTreeMap::new();
    let mut runs = Runs::default();
    for row in rows {
        let (unit, id): (String, i64) = (row.get(0)?, row.get(3)?);
        let (command, class): (&[u8], &str) = (row.get(4)?, row.get(5)?);
        let own = command == query.command;
        // Another command may run other tests of a unit: what it took counts only where nothing else is known.
        let (passed, revision) = (row.count(8)? == 0, row.unsigned(9)?);
        let new = || Found::new(own, (passed, id), revision);
        let found = best.entry(unit).or_insert_with(new);
        if own && !found.own {
            *found = new();
        } else if found.own && !own {
            continue;
        }
        if passed && !found.row.0 {
            found.row = (passed, id);
        }
        if !passed && found.lately.failed.is_none() {
            found.lately.failed = Some(found.samples.len() as u32);
        }
        let alike = own && class == query.environment_class;
        let circumstances = (!alike).then_some((command, class));
        found.samples.push(Sample {
            work: Micros(row.unsigned(1)?),
            setup: Micros(row.unsigned(2)?),
            run: runs.number(row.get(6)?, row.unsigned(7)?, circumstances),
            passed,
        });
    }
    let past = runs.list;

    let mut hasher = blake3::Hasher::new();
    for run in &past {
        for number in [run.runs, run.days, run.circumstances] {
            hasher.update(&number.to_le_bytes());
        }
    }
    for (
        unit,
        Found {
            samples, lately, ..
        },
    ) in &best
    {
        hasher
            .update(&lately.revision.to_le_bytes())
            .update(unit.as_bytes())
            .update(&[0])
            .update(&(samples.len() as u64).to_le_bytes());
        for sample in samples {
            hasher
                .update(&sample.work.0.to_le_bytes())
                .update(&sample.setup.0.to_le_bytes())
                .update(&sample.run.to_le_bytes())
                .update(&[u8::from(sample.passed)]);
        }
    }
    let newest = |samples: &[Sample]| samples.first().map_or(Micros::ZERO, |s| s.work);
    let total: Micros = best.values().map(|found| newest(&found.samples)).sum();
    let long = Micros(total.0 / (SHARES * u64::from(query.slots.max(1))));
    let mut cases = HashMap::new();
    for (unit, Found { samples, row, .. }) in &best {
        if newest(samples) <= long {
            continue;
        }
        let row = connection
            .fetch_one(
                "SELECT case_lists.cases, history.samples FROM history
                 JOIN case_lists ON case_lists.digest = history.cases WHERE history.id = $1",
                &[row.1.into()],
            )
            .await?;
        let (list, took): (&[u8], &[u8]) = (row.get(0)?, row.get(1)?);
        hasher.update(list).update(took);
        if let Some(known) = cases_of(list, took) {
            cases.insert(unit.clone(), known);
        }
    }
    let known = best.iter();
    let lately = known.map(|(unit, found)| (unit.clone(), found.lately));
    Ok(SuiteHistory {
        lately: lately.collect(),
        past: Past {
            runs: past,
            units: best
                .into_iter()
                .map(|(unit, found)| (unit, found.samples))
                .collect(),
        },
        cases,
        suspects: None,
        digest: *hasher.finalize().as_bytes(),
    })
}
