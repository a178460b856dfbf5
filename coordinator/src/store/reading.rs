//! Runs and their ledgers as they are read: listings, a run by its name, and rows that are checked against their chain.

use super::database::{Connection, Row};
use super::ledger::{ClosedRow, Position, RunKey, RunRow};
use super::session::Session;
use super::{RunHandle, StoreError};
use evenkeel_proto::ledger as l;
use prost::Message;
use sqlx::AssertSqlSafe;

/// How many runs a beginning of a name may stand for.
const MATCHES: u32 = 10;

/// A run that a coordinator left without a verdict. There are as many rows as batches.
#[derive(Clone, Debug)]
pub struct Unfinished {
    pub handle: RunHandle,
    pub row: RunRow,
    pub batches: Vec<l::Batch>,
}

/// A row of a ledger as it is stored.
pub(super) struct StoredRow {
    pub sequence: i64,
    pub epoch: i64,
    pub previous: Vec<u8>,
    pub payload: Vec<u8>,
}

const RUN_COLUMNS: &str =
    "id, project, run, round, suite, opened_unix_us, verdict, exit_code, tests, failures,
    makespan_us, lower_bound_us";

fn run_row(row: &Row) -> Result<RunRow, sqlx::Error> {
    let verdict: Option<String> = row.get(6)?;
    let closed = match verdict {
        None => None,
        Some(verdict) => Some(ClosedRow {
            verdict,
            exit_code: row.count(7)?,
            tests: row.count(8)?,
            failures: row.count(9)?,
            makespan_us: row.unsigned(10)?,
            lower_bound_us: row.unsigned(11)?,
        }),
    };
    Ok(RunRow {
        row: row.get(0)?,
        key: RunKey {
            project: row.get(1)?,
            run: row.get(2)?,
            round: row.count(3)?,
        },
        suite: row.get(4)?,
        opened_unix_us: row.unsigned(5)?,
        closed,
    })
}

fn run_rows(rows: &[Row]) -> Result<Vec<RunRow>, StoreError> {
    Ok(rows.iter().map(run_row).collect::<Result<_, _>>()?)
}

/// The newest runs first, of one project if it is named.
pub(super) async fn runs(
    connection: &mut Connection,
    project: Option<&str>,
    limit: u32,
) -> Result<Vec<RunRow>, StoreError> {
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM runs WHERE $1 IS NULL OR project = $1 ORDER BY id DESC LIMIT $2"
    );
    let values = [project.into(), limit.into()];
    run_rows(&connection.fetch(AssertSqlSafe(sql), &values).await?)
}

/// All runs of this name, or else the newest whose names begin so.
pub(super) async fn find(
    connection: &mut Connection,
    project: Option<&str>,
    run: &str,
) -> Result<Vec<RunRow>, StoreError> {
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM runs WHERE run = $2 AND ($1 IS NULL OR project = $1) ORDER BY id DESC"
    );
    let values = [project.into(), run.into()];
    let named = run_rows(&connection.fetch(AssertSqlSafe(sql), &values).await?)?;
    match named.is_empty() {
        true => beginning(connection, project, run, MATCHES).await,
        false => Ok(named),
    }
}

async fn beginning(
    connection: &mut Connection,
    project: Option<&str>,
    run: &str,
    limit: u32,
) -> Result<Vec<RunRow>, StoreError> {
    // Names are compared by their bytes, and no character comes after the last one.
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM runs WHERE run >= $2 AND run < $3 AND ($1 IS NULL OR project = $1)
         ORDER BY id DESC LIMIT $4"
    );
    let end = format!("{run}{}", char::MAX);
    let values = [
        project.into(),
        run.into(),
        end.as_str().into(),
        limit.into(),
    ];
    run_rows(&connection.fetch(AssertSqlSafe(sql), &values).await?)
}

pub(super) async fn payloads(
    connection: &mut Connection,
    run: RunHandle,
    after: u64,
    until: u64,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let rows = connection
        .fetch(
            "SELECT payload FROM ledger WHERE run = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence",
            &[run.row.into(), after.into(), until.into()],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| row.get(0))
        .collect::<Result<_, _>>()?)
}

/// The run of this name, of several rounds the last, or the only one whose name begins so.
pub(super) async fn rows(
    connection: &mut Connection,
    run: &str,
) -> Result<Option<(RunRow, Vec<l::Batch>)>, StoreError> {
    let mut found = find(connection, None, run).await?.into_iter();
    let Some(first) = found.next() else {
        return Ok(None);
    };
    // Rounds of one run share its name.
    if found.any(|other| other.key.run != first.key.run) {
        return Ok(None);
    }
    let batches = batches(connection, &first).await?;
    Ok(Some((first, batches)))
}

pub(super) async fn batches(
    connection: &mut Connection,
    run: &RunRow,
) -> Result<Vec<l::Batch>, StoreError> {
    let stored = stored(connection, run.row).await?;
    Ok(checked(&run.key.run, &stored)?.0)
}

async fn stored(connection: &mut Connection, run: i64) -> Result<Vec<StoredRow>, StoreError> {
    let rows = connection
        .fetch(
            "SELECT sequence, epoch, previous, payload FROM ledger WHERE run = $1 ORDER BY sequence",
            &[run.into()],
        )
        .await?;
    let row = |row: &Row| -> Result<StoredRow, sqlx::Error> {
        Ok(StoredRow {
            sequence: row.get(0)?,
            epoch: row.get(1)?,
            previous: row.get(2)?,
            payload: row.get(3)?,
        })
    };
    Ok(rows.iter().map(row).collect::<Result<_, _>>()?)
}

/// The batches of a ledger and where it goes on; an error at the first row that does not follow from those before.
fn checked(run: &str, stored: &[StoredRow]) -> Result<(Vec<l::Batch>, Position), StoreError> {
    let mut batches = Vec::with_capacity(stored.len());
    let mut expected = Position::FIRST;
    for row in stored {
        let damaged = |reason: &str| StoreError::Damaged {
            run: run.to_owned(),
            sequence: row.sequence as u64,
            reason: reason.to_owned(),
        };
        if row.sequence != expected.sequence {
            return Err(damaged("a row is missing before it"));
        }
        if row.previous != expected.previous {
            return Err(damaged("it does not follow from the row before it"));
        }
        expected = expected.next(row.epoch, &row.payload);
        let batch = l::Batch::decode(&row.payload[..]);
        batches.push(batch.map_err(|error| damaged(&error.to_string()))?);
    }
    Ok((batches, expected))
}

/// A run with its ledger and its epoch, all as they were at one moment.
pub(super) async fn snapshot(
    session: &mut Session,
    run: i64,
) -> Result<Option<(RunRow, i64, Vec<StoredRow>)>, StoreError> {
    session.begin_reading().await?;
    let sql = format!("SELECT {RUN_COLUMNS}, epoch FROM runs WHERE id = $1");
    let row = session
        .connection
        .fetch_optional(AssertSqlSafe(sql), &[run.into()])
        .await?;
    let found = match row {
        Some(row) => {
            let stored = stored(&mut session.connection, run).await?;
            Some((run_row(&row)?, row.get(12)?, stored))
        }
        None => None,
    };
    session.rollback().await?;
    Ok(found)
}

/// Takes over the runs that a coordinator of an earlier epoch left without a verdict, the oldest first. `tried` are those that an
/// earlier attempt took over, whose end may be unknown.
pub(super) async fn unfinished(
    session: &mut Session,
    tried: &mut Vec<i64>,
) -> Result<Vec<Unfinished>, StoreError> {
    if session.epoch == 0 {
        return Ok(Vec::new());
    }
    session.begin().await?;
    let epoch = session.epoch;
    let sql = format!(
        "SELECT {RUN_COLUMNS}, epoch FROM runs WHERE served = 1 AND verdict IS NULL AND epoch <= $1 ORDER BY id"
    );
    let rows = session
        .connection
        .fetch(AssertSqlSafe(sql), &[epoch.into()])
        .await?;
    let mut left = Vec::new();
    let mut chains = Vec::new();
    for found in &rows {
        let row = run_row(found)?;
        if found.get::<i64>(12)? == epoch && !tried.contains(&row.row) {
            continue;
        }
        let stored = stored(&mut session.connection, row.row).await?;
        let (batches, position) = match checked(&row.key.run, &stored) {
            Ok(found) => found,
            // The others go on; this one stays as it is, for somebody to look at.
            Err(error) => {
                tracing::error!("a run cannot be gone on with: {error}");
                continue;
            }
        };
        let handle = RunHandle {
            row: row.row,
            epoch,
        };
        chains.push((handle, position));
        left.push(Unfinished {
            handle,
            row,
            batches,
        });
    }
    for run in &left {
        session
            .connection
            .execute(
                "UPDATE runs SET epoch = $1 WHERE id = $2",
                &[epoch.into(), run.handle.row.into()],
            )
            .await?;
    }
    *tried = left.iter().map(|run| run.handle.row).collect();
    session.commit().await?;
    session.chains.extend(chains);
    Ok(left)
}
