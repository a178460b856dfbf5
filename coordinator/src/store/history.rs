//! What units and cases took in earlier runs: raw samples, one row a unit and run.
//!
//! The ids of a unit's cases rarely change, so they are stored once per distinct list; a row holds only durations and
//! outcomes, in the list's order.

use super::StoreError;
use crate::record::{Outcome, Record};
use crate::run::History;
use evenkeel_schedule::{Micros, Sample};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;

/// Estimates look this many runs back.
const RUNS: u32 = 10;

#[derive(Clone, Debug)]
pub struct HistoryQuery {
    pub project: String,
    pub suite: String,
    /// Samples of this command, environment class and number of slots are preferred to others.
    pub command: [u8; 32],
    pub environment_class: String,
    pub slots: u32,
}

/// What one unit took in one run.
#[derive(Clone, Debug)]
pub struct UnitSample {
    pub query: HistoryQuery,
    pub unit: String,
    pub work: Micros,
    pub setup: Micros,
    pub case_list: Vec<u8>,
    /// For each case of the list: outcome (one byte) and duration in microseconds (four bytes, little endian).
    pub samples: Vec<u8>,
}

/// The samples of a run that is over. A unit that lost a process on its way tells nothing about its duration.
pub fn samples_of(record: &Record, command: [u8; 32]) -> Vec<UnitSample> {
    let clean =
        |unit: u32, count: usize| count == 1 && record.units[unit as usize].settled.is_none();
    let mut leases: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    // A lease that was given back before it began took nothing.
    let begun = |(_, lease): &(usize, &crate::record::Lease)| lease.begun.is_some();
    for (index, lease) in record.leases.iter().enumerate().filter(begun) {
        leases.entry(lease.unit).or_default().push(index as u64 + 1);
    }
    leases
        .into_iter()
        .filter(|(unit, leases)| clean(*unit, leases.len()))
        .filter_map(|(unit, leases)| {
            let lease = record.lease(leases[0])?;
            let ended = lease.ended?;
            if lease.begun.is_none()
                || ended.reason != evenkeel_proto::ledger::lease_ended::Reason::Closed
            {
                return None;
            }
            let unit = &record.units[unit as usize];
            if unit.cases.iter().any(|case| case.last_attempt().is_none()) {
                return None;
            }
            let agent = &record.agents[record.shards[lease.shard as usize].agent as usize];
            let mut case_list = Vec::new();
            let mut samples = Vec::with_capacity(unit.cases.len() * 5);
            for case in &unit.cases {
                case_list.extend((case.id.len() as u32).to_le_bytes());
                case_list.extend(case.id.as_bytes());
                case_list.extend(case.occurrence.to_le_bytes());
                let attempt = case.last_attempt()?;
                samples.push(match attempt.outcome {
                    Outcome::Passed => 1,
                    Outcome::Failed => 2,
                    Outcome::Error | Outcome::Killed => 3,
                    Outcome::Skipped => 4,
                });
                samples.extend(
                    u32::try_from(attempt.duration.0)
                        .unwrap_or(u32::MAX)
                        .to_le_bytes(),
                );
            }
            Some(UnitSample {
                query: HistoryQuery {
                    project: record.opened.project.clone(),
                    suite: record.opened.suite.clone(),
                    command,
                    environment_class: agent.environment_class.clone(),
                    slots: record.shards.len() as u32,
                },
                unit: unit.name.to_string(),
                work: lease.span() - ended.setup,
                setup: ended.setup,
                case_list,
                samples,
            })
        })
        .collect()
}

pub(super) async fn save(
    connection: &mut SqliteConnection,
    run: i64,
    samples: &[UnitSample],
) -> Result<(), StoreError> {
    for sample in samples {
        let digest = blake3::hash(&sample.case_list);
        sqlx::query("INSERT OR IGNORE INTO case_lists (digest, cases) VALUES (?, ?)")
            .bind(&digest.as_bytes()[..])
            .bind(&sample.case_list[..])
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "INSERT INTO history (project, suite, run, unit, environment_class, command, slots, work_us, setup_us,
             cases, samples) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&sample.query.project)
        .bind(&sample.query.suite)
        .bind(run)
        .bind(&sample.unit)
        .bind(&sample.query.environment_class)
        .bind(&sample.query.command[..])
        .bind(sample.query.slots)
        .bind(sample.work.0 as i64)
        .bind(sample.setup.0 as i64)
        .bind(&digest.as_bytes()[..])
        .bind(&sample.samples[..])
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn load(
    connection: &mut SqliteConnection,
    query: &HistoryQuery,
) -> Result<History, StoreError> {
    let rows = sqlx::query(
        "SELECT unit, work_us, setup_us, command, environment_class, slots FROM history
         WHERE project = ?1 AND suite = ?2 AND run IN
           (SELECT DISTINCT run FROM history WHERE project = ?1 AND suite = ?2 ORDER BY run DESC LIMIT ?3)
         ORDER BY id DESC",
    )
    .bind(&query.project)
    .bind(&query.suite)
    .bind(RUNS)
    .fetch_all(connection)
    .await?;

    // Of each unit only the samples that were taken under the most similar circumstances.
    let mut best: BTreeMap<String, (u8, Vec<Sample>)> = BTreeMap::new();
    for row in rows {
        let (unit, work, setup): (String, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (command, class, slots): (Vec<u8>, String, u32) =
            (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        let likeness = 4 * u8::from(command == query.command)
            + 2 * u8::from(class == query.environment_class)
            + u8::from(slots == query.slots);
        let sample = Sample {
            work: Micros(work as u64),
            setup: Micros(setup as u64),
        };
        let entry = best.entry(unit).or_insert((likeness, Vec::new()));
        if likeness > entry.0 {
            *entry = (likeness, vec![sample]);
        } else if likeness == entry.0 {
            entry.1.push(sample);
        }
    }

    let mut hasher = blake3::Hasher::new();
    for (unit, (_, samples)) in &best {
        hasher
            .update(unit.as_bytes())
            .update(&[0])
            .update(&(samples.len() as u64).to_le_bytes());
        for sample in samples {
            hasher
                .update(&sample.work.0.to_le_bytes())
                .update(&sample.setup.0.to_le_bytes());
        }
    }
    Ok(History {
        samples: best
            .into_iter()
            .map(|(unit, (_, samples))| (unit, samples))
            .collect(),
        digest: *hasher.finalize().as_bytes(),
    })
}
