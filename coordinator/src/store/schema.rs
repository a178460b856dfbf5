//! The tables, and which version of them a file has.

use super::StoreError;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Executor, Row};
use std::path::Path;

/// Each entry takes the schema one version further. Entries are only ever added.
const MIGRATIONS: &[&str] = &["
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    suite TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    opened_unix_us INTEGER NOT NULL,
    verdict TEXT,
    exit_code INTEGER,
    tests INTEGER,
    failures INTEGER,
    makespan_us INTEGER,
    lower_bound_us INTEGER,
    UNIQUE (project, run, round)
);
CREATE TABLE ledger (
    run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    previous BLOB NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (run, sequence)
) WITHOUT ROWID;
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    suite TEXT NOT NULL,
    run INTEGER NOT NULL,
    unit TEXT NOT NULL,
    environment_class TEXT NOT NULL,
    command BLOB NOT NULL,
    slots INTEGER NOT NULL,
    work_us INTEGER NOT NULL,
    setup_us INTEGER NOT NULL,
    cases BLOB NOT NULL,
    samples BLOB NOT NULL
);
CREATE INDEX history_by_suite ON history (project, suite, run);
CREATE TABLE case_lists (
    digest BLOB PRIMARY KEY,
    cases BLOB NOT NULL
) WITHOUT ROWID;
"];

/// Brings the file to this version. A newer file is refused as it is; two processes may do this at the same time.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), StoreError> {
    if is_current(connection, path).await? {
        return Ok(());
    }
    let known = MIGRATIONS.len() as i64;
    connection.execute("BEGIN IMMEDIATE").await?;
    let found = version(connection).await?.min(known);
    for migration in &MIGRATIONS[found as usize..] {
        connection.execute(*migration).await?;
    }
    let set = format!("PRAGMA user_version = {known}");
    connection.execute(sqlx::AssertSqlSafe(set)).await?;
    connection.execute("COMMIT").await?;
    Ok(())
}

/// Whether the file has this version's schema; an error where it has a newer one.
pub(super) async fn is_current(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<bool, StoreError> {
    let (found, known) = (version(connection).await?, MIGRATIONS.len() as i64);
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(found == known)
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(connection
        .fetch_one("PRAGMA user_version")
        .await?
        .try_get(0)?)
}
