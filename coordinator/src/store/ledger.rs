//! Rows of ledgers as they are written: append-only, chained by hash, fenced by epoch.
//!
//! A transaction whose end is unknown, because the connection was lost in its commit, is looked for before it is repeated.

use super::database::Value;
use super::history::{self, UnitSample};
use super::session::{Session, unix_us};
use super::{RunHandle, StoreError};
use crate::record::Totals;
use evenkeel_proto::ledger as l;
use std::collections::{BTreeSet, HashMap};

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

impl RunRow {
    /// To read the run with; it gives no right to write.
    pub fn handle(&self) -> RunHandle {
        RunHandle {
            row: self.row,
            epoch: 0,
        }
    }
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

/// Where a ledger goes on: the next sequence, and the hash of the row before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub sequence: i64,
    pub previous: [u8; 32],
}

impl Position {
    pub const FIRST: Position = Position {
        sequence: 1,
        previous: [0; 32],
    };

    /// What follows a row at this position.
    pub fn next(self, epoch: i64, payload: &[u8]) -> Position {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&self.previous)
            .update(&self.sequence.to_le_bytes())
            .update(&epoch.to_le_bytes())
            .update(payload);
        Position {
            sequence: self.sequence + 1,
            previous: *hasher.finalize().as_bytes(),
        }
    }
}

/// For each run being written, what is known to be stored. A run that is missing here is looked up.
pub(super) type Chains = HashMap<RunHandle, Position>;

/// A run that is to be registered.
pub(super) struct NewRun {
    pub key: RunKey,
    pub opened_unix_us: u64,
    pub suite: String,
    pub payloads: Vec<Vec<u8>>,
}

/// Rows that one transaction writes, for as many runs as there are.
#[derive(Default)]
pub(super) struct Staged<'a> {
    rows: Vec<(RunHandle, Position, &'a [u8])>,
    ends: Chains,
    /// Runs that another coordinator holds by now.
    pub fenced: Vec<RunHandle>,
}

impl<'a> Staged<'a> {
    async fn add(
        &mut self,
        session: &mut Session,
        run: RunHandle,
        payloads: &'a [Vec<u8>],
    ) -> Result<(), StoreError> {
        let mut position = match self.ends.get(&run) {
            Some(position) => *position,
            None => position(session, run).await?,
        };
        for payload in payloads {
            self.rows.push((run, position, payload));
            position = position.next(run.epoch, payload);
        }
        self.ends.insert(run, position);
        Ok(())
    }

    async fn insert(&self, session: &mut Session) -> Result<(), StoreError> {
        let into = "INSERT INTO ledger (run, sequence, epoch, previous, payload)";
        let mut values = Vec::with_capacity(5 * self.rows.len());
        for (run, position, payload) in &self.rows {
            values.extend([
                Value::Integer(run.row),
                Value::Integer(position.sequence),
                Value::Integer(run.epoch),
                Value::Bytes(&position.previous),
                Value::Bytes(payload),
            ]);
        }
        Ok(session.connection.insert(into, 5, &values, "").await?)
    }

    /// Whether the transaction that wrote these rows was committed. All of them are there, or none.
    async fn is_stored(&self, session: &mut Session) -> Result<bool, StoreError> {
        let Some((run, position, payload)) = self.rows.first() else {
            return Ok(false);
        };
        let row = session
            .connection
            .fetch_optional(
                "SELECT epoch, payload FROM ledger WHERE run = $1 AND sequence = $2",
                &[run.row.into(), position.sequence.into()],
            )
            .await?;
        Ok(match row {
            Some(row) => row.get::<i64>(0)? == run.epoch && row.get::<&[u8]>(1)? == *payload,
            None => false,
        })
    }
}

/// Where the run's ledger goes on.
async fn position(session: &mut Session, run: RunHandle) -> Result<Position, StoreError> {
    if let Some(position) = session.chains.get(&run) {
        return Ok(*position);
    }
    let last = session
        .connection
        .fetch_optional(
            "SELECT sequence, epoch, previous, payload FROM ledger WHERE run = $1 ORDER BY sequence DESC LIMIT 1",
            &[run.row.into()],
        )
        .await?;
    let position = match last {
        Some(row) => {
            let wrong = |_| sqlx::Error::Decode("a hash of the ledger has not 32 bytes".into());
            let last = Position {
                sequence: row.get(0)?,
                previous: row.get::<&[u8]>(2)?.try_into().map_err(wrong)?,
            };
            last.next(row.get(1)?, row.get(3)?)
        }
        None => Position::FIRST,
    };
    session.chains.insert(run, position);
    Ok(position)
}

/// Registers a run with its first rows.
pub(super) async fn open(session: &mut Session, new: &NewRun) -> Result<RunHandle, StoreError> {
    if session.is_in_doubt()
        && let Some(run) = opened(session, new).await?
    {
        return Ok(run);
    }
    session.begin().await?;
    let key = &new.key;
    let epoch = session.epoch;
    let inserted = session
        .connection
        .fetch_one(
            "INSERT INTO runs (project, run, round, suite, epoch, opened_unix_us, served)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
            &[
                key.project.as_str().into(),
                key.run.as_str().into(),
                key.round.into(),
                new.suite.as_str().into(),
                epoch.into(),
                new.opened_unix_us.into(),
                i64::from(epoch > 0).into(),
            ],
        )
        .await;
    let row = match inserted {
        Err(error) if super::database::is_conflict(&error) => {
            return Err(StoreError::Exists {
                run: key.run.clone(),
            });
        }
        inserted => inserted?.get(0)?,
    };
    let run = RunHandle { row, epoch };
    let mut staged = Staged::default();
    staged.ends.insert(run, Position::FIRST);
    staged.add(session, run, &new.payloads).await?;
    staged.insert(session).await?;
    session.commit().await?;
    session.chains.extend(staged.ends);
    Ok(run)
}

/// The run, if it was registered by a transaction whose end is unknown.
async fn opened(session: &mut Session, new: &NewRun) -> Result<Option<RunHandle>, StoreError> {
    let key = &new.key;
    let epoch = session.epoch;
    let row = session
        .connection
        .fetch_optional(
            "SELECT id FROM runs WHERE project = $1 AND run = $2 AND round = $3 AND epoch = $4 AND opened_unix_us = $5
             AND verdict IS NULL",
            &[
                key.project.as_str().into(),
                key.run.as_str().into(),
                key.round.into(),
                epoch.into(),
                new.opened_unix_us.into(),
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let run = RunHandle {
        row: row.get(0)?,
        epoch,
    };
    let mut staged = Staged::default();
    staged.ends.insert(run, Position::FIRST);
    staged.add(session, run, &new.payloads).await?;
    if !staged.rows.is_empty() && !staged.is_stored(session).await? {
        return Ok(None);
    }
    session.chains.extend(staged.ends);
    Ok(Some(run))
}

/// Writes all of these in one transaction. A fenced run fails alone: the answer names those. `tried` is what an earlier attempt
/// wrote.
pub(super) async fn append<'a>(
    session: &mut Session,
    appends: &[(RunHandle, &'a [Vec<u8>])],
    tried: &mut Staged<'a>,
) -> Result<Vec<RunHandle>, StoreError> {
    if session.is_in_doubt() && tried.is_stored(session).await? {
        session.chains.extend(std::mem::take(&mut tried.ends));
        return Ok(std::mem::take(&mut tried.fenced));
    }
    session.begin().await?;
    let runs: BTreeSet<RunHandle> = appends.iter().map(|(run, _)| *run).collect();
    let runs: Vec<RunHandle> = runs.into_iter().collect();
    let current = session.current(&runs).await?;
    let mut staged = Staged::default();
    for (run, payloads) in appends {
        if current.contains(run) {
            staged.add(session, *run, payloads).await?;
        }
    }
    staged.fenced = runs
        .into_iter()
        .filter(|run| !current.contains(run))
        .collect();
    staged.insert(session).await?;
    *tried = staged;
    session.commit().await?;
    session.chains.extend(std::mem::take(&mut tried.ends));
    Ok(std::mem::take(&mut tried.fenced))
}

/// Appends a run's last rows, notes its verdict and stores what its units took.
pub(super) async fn close(
    session: &mut Session,
    run: RunHandle,
    payloads: &[Vec<u8>],
    closed: &ClosedRow,
    samples: &[UnitSample],
) -> Result<(), StoreError> {
    if session.is_in_doubt() && is_closed(session, run).await? {
        session.chains.remove(&run);
        return Ok(());
    }
    session.begin().await?;
    if session.current(&[run]).await?.is_empty() {
        return Err(StoreError::Fenced { run: run.row });
    }
    let mut staged = Staged::default();
    staged.add(session, run, payloads).await?;
    staged.insert(session).await?;
    let now = unix_us();
    session
        .connection
        .execute(
            "UPDATE runs SET verdict = $1, exit_code = $2, tests = $3, failures = $4, makespan_us = $5, lower_bound_us = $6,
             closed_unix_us = $7 WHERE id = $8",
            &[
                closed.verdict.as_str().into(),
                closed.exit_code.into(),
                closed.tests.into(),
                closed.failures.into(),
                closed.makespan_us.into(),
                closed.lower_bound_us.into(),
                now.into(),
                run.row.into(),
            ],
        )
        .await?;
    history::save_lists(&mut session.connection, samples).await?;
    history::save(&mut session.connection, run.row, now, samples).await?;
    session.commit().await?;
    // Whoever appends to it all the same has its position looked up.
    session.chains.remove(&run);
    Ok(())
}

async fn is_closed(session: &mut Session, run: RunHandle) -> Result<bool, StoreError> {
    let row = session
        .connection
        .fetch_optional(
            "SELECT id FROM runs WHERE id = $1 AND epoch = $2 AND verdict IS NOT NULL",
            &[run.row.into(), run.epoch.into()],
        )
        .await?;
    Ok(row.is_some())
}
