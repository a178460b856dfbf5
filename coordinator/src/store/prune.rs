//! Removes what is old.

use super::database::Connection;
use super::history::RUNS;
use super::session::Session;
use super::task::Request;
use super::{Store, StoreError};

/// How much was removed: runs, rows of their ledgers, samples of the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub runs: u64,
    pub rows: u64,
    pub samples: u64,
}

/// The numbers of the runs that were closed before then.
pub(super) async fn closed_before(
    connection: &mut Connection,
    before_unix_us: u64,
) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT id FROM runs WHERE verdict IS NOT NULL AND closed_unix_us < $1 ORDER BY id";
    let rows = connection.fetch(sql, &[before_unix_us.into()]).await?;
    rows.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// Removes a run that is closed and returns how many rows it had, or nothing if it is not there.
pub(super) async fn remove_run(session: &mut Session, run: i64) -> Result<Option<u64>, StoreError> {
    session.begin().await?;
    let sql = "DELETE FROM runs WHERE id = $1 AND verdict IS NOT NULL";
    if session.connection.execute(sql, &[run.into()]).await? == 0 {
        session.rollback().await?;
        return Ok(None);
    }
    let sql = "DELETE FROM ledger WHERE run = $1";
    let rows = session.connection.execute(sql, &[run.into()]).await?;
    session.commit().await?;
    Ok(Some(rows))
}

/// Removes samples that are older than that, but for those of the newest runs of each suite, which estimates are made of; and lists of
/// cases that nothing names any more. Returns how many samples there were.
pub(super) async fn remove_samples(
    session: &mut Session,
    before_unix_us: u64,
) -> Result<u64, StoreError> {
    session.begin().await?;
    if session.connection.is_remote() {
        // Nobody is about to name a list that nothing names yet: lists are stored first.
        session
            .connection
            .script("LOCK TABLE case_lists IN SHARE ROW EXCLUSIVE MODE")
            .await?;
    }
    let samples = session
        .connection
        .execute(
            "DELETE FROM history WHERE taken_unix_us < $1 AND (project, suite, run) NOT IN
               (SELECT project, suite, run FROM
                 (SELECT project, suite, run, ROW_NUMBER() OVER (PARTITION BY project, suite ORDER BY run DESC) AS place
                  FROM (SELECT DISTINCT project, suite, run FROM history) AS taken) AS placed
                WHERE place <= $2)",
            &[before_unix_us.into(), RUNS.into()],
        )
        .await?;
    session
        .connection
        .execute(
            "DELETE FROM case_lists WHERE digest NOT IN (SELECT cases FROM history)",
            &[],
        )
        .await?;
    session.commit().await?;
    Ok(samples)
}

impl Store {
    /// Removes runs that were closed before then, in microseconds since 1970, with their directories; and what the history knows
    /// from before, but for the newest runs of each suite. Runs without a verdict stay.
    pub async fn prune(&self, before_unix_us: u64) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        let closed = |reply| Request::ClosedBefore {
            unix_us: before_unix_us,
            reply,
        };
        for run in self.ask(closed).await? {
            // The directory first: what is interrupted between the two is done by the next one that prunes.
            let path = self.directory.join("runs").join(run.to_string());
            let removing = path.clone();
            let removed =
                tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&removing) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                    removed => removed,
                });
            removed
                .await
                .map_err(|_| StoreError::Gone)?
                .map_err(|source| StoreError::Remove { path, source })?;
            if let Some(rows) = self.ask(|reply| Request::RemoveRun { run, reply }).await? {
                pruned.runs += 1;
                pruned.rows += rows;
            }
        }
        let samples = |reply| Request::RemoveSamples {
            before_unix_us,
            reply,
        };
        pruned.samples = self.ask(samples).await?;
        Ok(pruned)
    }
}
