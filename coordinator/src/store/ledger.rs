//! Rows of ledgers: append-only, chained by hash, fenced by epoch.

use super::history::{self, UnitSample};
use super::{Reply, RunHandle, StoreError};
use crate::record::Totals;
use evenkeel_proto::ledger as l;
use prost::Message;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Executor, Row};
use std::collections::HashMap;

/// What names a run: project, run id and round, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunKey {
    pub project: String,
    pub run: String,
    pub round: u32,
}

/// A run as listings show it.
#[derive(Clone, Debug)]
pub struct RunRow {
    pub(crate) row: i64,
    pub key: RunKey,
    pub suite: String,
    pub opened_unix_us: u64,
    /// Absent while the run goes on, or if its coordinator died.
    pub closed: Option<ClosedRow>,
}

#[derive(Clone, Debug)]
pub struct ClosedRow {
    pub verdict: String,
    pub exit_code: u32,
    pub tests: u32,
    pub failures: u32,
    pub makespan_us: u64,
    pub lower_bound_us: u64,
}

impl ClosedRow {
    pub(super) fn new(closed: &l::Closed, totals: Totals) -> ClosedRow {
        ClosedRow {
            verdict: closed.verdict.clone(),
            exit_code: closed.exit_code,
            tests: totals.tests,
            failures: totals.failures(),
            makespan_us: closed.makespan_us,
            lower_bound_us: closed.lower_bound_us,
        }
    }
}

/// Rows for one run, and who waits for them.
pub(super) type Append = (RunHandle, Vec<Vec<u8>>, Reply<()>);

/// For each run being written: the next sequence and the hash of the row before it.
#[derive(Default)]
pub(super) struct Chains(HashMap<RunHandle, (i64, [u8; 32])>);

fn link(previous: &[u8; 32], sequence: i64, epoch: i64, payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(previous)
        .update(&sequence.to_le_bytes())
        .update(&epoch.to_le_bytes())
        .update(payload);
    *hasher.finalize().as_bytes()
}

pub(super) async fn open(
    connection: &mut SqliteConnection,
    chains: &mut Chains,
    key: &RunKey,
    opened_unix_us: u64,
    suite: &str,
    payloads: &[Vec<u8>],
) -> Result<RunHandle, StoreError> {
    connection.execute("BEGIN IMMEDIATE").await?;
    let written = async {
        let row = sqlx::query(
            "INSERT INTO runs (project, run, round, suite, epoch, opened_unix_us) VALUES (?, ?, ?, ?, 1, ?) RETURNING id",
        )
        .bind(&key.project)
        .bind(&key.run)
        .bind(key.round)
        .bind(suite)
        .bind(opened_unix_us as i64)
        .fetch_one(&mut *connection)
        .await?;
        let handle = RunHandle { row: row.try_get(0)?, epoch: 1 };
        insert(connection, chains, handle, payloads).await?;
        connection.execute("COMMIT").await?;
        Ok(handle)
    }
    .await;
    match written {
        Ok(handle) => Ok(handle),
        Err(error) => {
            connection.execute("ROLLBACK").await.ok();
            match error {
                sqlx::Error::Database(error) if error.is_unique_violation() => {
                    Err(StoreError::Exists {
                        run: key.run.clone(),
                    })
                }
                error => Err(error.into()),
            }
        }
    }
}

/// Writes all of these in one transaction and answers each. A fenced run fails alone.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    chains: &mut Chains,
    appends: Vec<Append>,
) {
    if appends.is_empty() {
        return;
    }
    let before: Vec<_> = appends
        .iter()
        .map(|(run, ..)| (*run, chains.0.get(run).copied()))
        .collect();
    match transaction(connection, chains, &appends).await {
        Ok(fenced) => {
            for (run, _, reply) in appends {
                let result = if fenced.contains(&run) {
                    Err(StoreError::Fenced { run: run.row })
                } else {
                    Ok(())
                };
                reply.send(result).ok();
            }
        }
        Err(error) => {
            for (run, chain) in before {
                match chain {
                    Some(chain) => chains.0.insert(run, chain),
                    None => chains.0.remove(&run),
                };
            }
            connection.execute("ROLLBACK").await.ok();
            let reason = error.to_string();
            for (_, _, reply) in appends {
                reply
                    .send(Err(StoreError::Statement(sqlx::Error::Protocol(
                        reason.clone(),
                    ))))
                    .ok();
            }
        }
    }
}

async fn transaction(
    connection: &mut SqliteConnection,
    chains: &mut Chains,
    appends: &[Append],
) -> Result<Vec<RunHandle>, sqlx::Error> {
    let mut fenced = Vec::new();
    connection.execute("BEGIN IMMEDIATE").await?;
    for (run, payloads, _) in appends {
        if is_current(connection, *run).await? {
            insert(connection, chains, *run, payloads).await?;
        } else {
            fenced.push(*run);
        }
    }
    connection.execute("COMMIT").await?;
    Ok(fenced)
}

/// Whether the run is still this coordinator's.
async fn is_current(
    connection: &mut SqliteConnection,
    run: RunHandle,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("SELECT epoch FROM runs WHERE id = ?").bind(run.row);
    let epoch: i64 = query.fetch_one(connection).await?.try_get(0)?;
    Ok(epoch == run.epoch)
}

async fn insert(
    connection: &mut SqliteConnection,
    chains: &mut Chains,
    run: RunHandle,
    payloads: &[Vec<u8>],
) -> Result<(), sqlx::Error> {
    let (mut sequence, mut previous) = chains.0.get(&run).copied().unwrap_or((1, [0; 32]));
    for payload in payloads {
        sqlx::query(
            "INSERT INTO ledger (run, sequence, epoch, previous, payload) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(run.row)
        .bind(sequence)
        .bind(run.epoch)
        .bind(&previous[..])
        .bind(&payload[..])
        .execute(&mut *connection)
        .await?;
        previous = link(&previous, sequence, run.epoch, payload);
        sequence += 1;
    }
    chains.0.insert(run, (sequence, previous));
    Ok(())
}

pub(super) async fn close(
    connection: &mut SqliteConnection,
    chains: &mut Chains,
    run: RunHandle,
    payloads: &[Vec<u8>],
    closed: &ClosedRow,
    samples: &[UnitSample],
) -> Result<(), StoreError> {
    connection.execute("BEGIN IMMEDIATE").await?;
    let written = async {
        if !is_current(connection, run).await? {
            return Err(StoreError::Fenced { run: run.row });
        }
        insert(connection, chains, run, payloads).await?;
        sqlx::query(
            "UPDATE runs SET verdict = ?, exit_code = ?, tests = ?, failures = ?, makespan_us = ?, lower_bound_us = ?
             WHERE id = ? AND epoch = ?",
        )
        .bind(&closed.verdict)
        .bind(closed.exit_code)
        .bind(closed.tests)
        .bind(closed.failures)
        .bind(closed.makespan_us as i64)
        .bind(closed.lower_bound_us as i64)
        .bind(run.row)
        .bind(run.epoch)
        .execute(&mut *connection)
        .await?;
        history::save(connection, run.row, samples).await?;
        connection.execute("COMMIT").await?;
        Ok(())
    }
    .await;
    if written.is_err() {
        connection.execute("ROLLBACK").await.ok();
    }
    written
}

const RUN_COLUMNS: &str =
    "id, project, run, round, suite, opened_unix_us, verdict, exit_code, tests, failures,
    makespan_us, lower_bound_us";

fn run_row(row: &SqliteRow) -> Result<RunRow, sqlx::Error> {
    let verdict: Option<String> = row.try_get(6)?;
    let closed = match verdict {
        None => None,
        Some(verdict) => Some(ClosedRow {
            verdict,
            exit_code: row.try_get(7)?,
            tests: row.try_get(8)?,
            failures: row.try_get(9)?,
            makespan_us: row.try_get::<i64, _>(10)? as u64,
            lower_bound_us: row.try_get::<i64, _>(11)? as u64,
        }),
    };
    Ok(RunRow {
        row: row.try_get(0)?,
        key: RunKey {
            project: row.try_get(1)?,
            run: row.try_get(2)?,
            round: row.try_get(3)?,
        },
        suite: row.try_get(4)?,
        opened_unix_us: row.try_get::<i64, _>(5)? as u64,
        closed,
    })
}

pub(super) async fn runs(
    connection: &mut SqliteConnection,
    limit: u32,
) -> Result<Vec<RunRow>, StoreError> {
    let query = format!("SELECT {RUN_COLUMNS} FROM runs ORDER BY id DESC LIMIT ?");
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(limit)
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(run_row).collect::<Result<_, _>>()?)
}

pub(super) async fn payloads(
    connection: &mut SqliteConnection,
    run: RunHandle,
    after: u64,
    until: u64,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let rows = sqlx::query("SELECT payload FROM ledger WHERE run = ? AND sequence > ? AND sequence <= ? ORDER BY sequence")
        .bind(run.row)
        .bind(after as i64)
        .bind(until as i64)
        .fetch_all(connection)
        .await?;
    Ok(rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?)
}

pub(super) async fn rows(
    connection: &mut SqliteConnection,
    run: &str,
) -> Result<Option<(RunRow, Vec<l::Batch>)>, StoreError> {
    let query = format!(
        "SELECT {RUN_COLUMNS} FROM runs WHERE run = ?1 OR substr(run, 1, length(?1)) = ?1
         ORDER BY run = ?1 DESC, id DESC LIMIT 2"
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(run)
        .fetch_all(&mut *connection)
        .await?;
    let found: Vec<RunRow> = found.iter().map(run_row).collect::<Result<_, _>>()?;
    let row = match found.as_slice() {
        [only] => only.clone(),
        [first, second] if first.key.run == run || first.key.run == second.key.run => first.clone(),
        _ => return Ok(None),
    };

    let stored = sqlx::query(
        "SELECT sequence, epoch, previous, payload FROM ledger WHERE run = ? ORDER BY sequence",
    )
    .bind(row.row)
    .fetch_all(connection)
    .await?;
    let mut batches = Vec::with_capacity(stored.len());
    let mut expected = [0u8; 32];
    for (index, stored) in stored.iter().enumerate() {
        let sequence: i64 = stored.try_get(0)?;
        let damaged = |reason: &str| StoreError::Damaged {
            run: row.key.run.clone(),
            sequence: sequence as u64,
            reason: reason.to_owned(),
        };
        let (epoch, previous, payload): (i64, &[u8], &[u8]) =
            (stored.try_get(1)?, stored.try_get(2)?, stored.try_get(3)?);
        if sequence != index as i64 + 1 {
            return Err(damaged("a row is missing before it"));
        }
        if previous != expected {
            return Err(damaged("it does not follow from the row before it"));
        }
        expected = link(&expected, sequence, epoch, payload);
        batches.push(l::Batch::decode(payload).map_err(|error| damaged(&error.to_string()))?);
    }
    Ok(Some((row, batches)))
}
