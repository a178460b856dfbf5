//! A connection with what its task knows: transactions that are fenced, and where each ledger goes on.

use super::claim;
use super::database::{self, Connection};
use super::ledger::Chains;
use super::{RunHandle, StoreError, disk};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) struct Session {
    pub connection: Connection,
    pub chains: Chains,
    /// The coordinator's, 0 where the store was not taken over.
    pub epoch: i64,
    in_transaction: bool,
    in_doubt: bool,
}

impl Session {
    pub fn new(connection: Connection, epoch: i64) -> Session {
        Session {
            connection,
            chains: Chains::default(),
            epoch,
            in_transaction: false,
            in_doubt: false,
        }
    }

    /// Goes on with another connection.
    pub fn renew(&mut self, connection: Connection) {
        self.connection = connection;
        self.in_transaction = false;
    }

    /// A new request begins: nothing of it can be in the database yet.
    pub fn begin_request(&mut self) {
        self.in_doubt = false;
    }

    /// The connection was lost in a commit: what was written may be in the database or not.
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Begins a transaction that writes, unless another coordinator has taken the store over.
    pub async fn begin(&mut self) -> Result<(), StoreError> {
        disk::delay().await;
        self.in_transaction = true;
        self.connection.begin().await?;
        self.check(true).await
    }

    pub async fn begin_reading(&mut self) -> Result<(), StoreError> {
        self.in_transaction = true;
        Ok(self.connection.begin_reading().await?)
    }

    pub async fn check(&mut self, hold: bool) -> Result<(), StoreError> {
        match self.epoch {
            0 => Ok(()),
            epoch => claim::check(&mut self.connection, epoch, hold).await,
        }
    }

    pub async fn commit(&mut self) -> Result<(), StoreError> {
        // It stays in doubt if nobody waits for this any more.
        let before = std::mem::replace(&mut self.in_doubt, true);
        let result = self.connection.script("COMMIT").await;
        match &result {
            Ok(()) => {
                self.in_doubt = false;
                self.in_transaction = false;
            }
            Err(error) if database::is_lost(error) => {}
            Err(_) => self.in_doubt = before,
        }
        disk::delay().await;
        Ok(result?)
    }

    /// Ends the transaction that a request left open when it failed.
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.in_transaction) {
            match self.connection.script("ROLLBACK").await {
                Err(error) if database::is_lost(&error) => return Err(error.into()),
                // SQLite may have ended it by itself.
                Err(_) | Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Which of these runs are still held as their handles say.
    pub async fn current(&mut self, runs: &[RunHandle]) -> Result<Vec<RunHandle>, StoreError> {
        let numbers: Vec<i64> = runs.iter().map(|run| run.row).collect();
        let (list, values) = self.connection.numbers(&numbers);
        let sql = format!("SELECT id, epoch FROM runs WHERE id IN {list}");
        let rows = self.connection.fetch(sqlx::AssertSqlSafe(sql), &values);
        let mut current = Vec::new();
        for row in rows.await? {
            let found = RunHandle {
                row: row.get(0)?,
                epoch: row.get(1)?,
            };
            current.extend(runs.iter().copied().find(|run| *run == found));
        }
        Ok(current)
    }
}

/// Microseconds since 1970.
pub(super) fn unix_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl StoreError {
    /// The connection is gone, and with another one this may work.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            StoreError::Statement(error) => database::is_lost(error),
            StoreError::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// What was to be stored is there already.
    pub(super) fn is_conflict(&self) -> bool {
        match self {
            StoreError::Statement(error) => database::is_conflict(error),
            StoreError::Exists { .. } => true,
            _ => false,
        }
    }

    /// The same failure for another of those that wait for one transaction.
    pub(super) fn repeated(&self) -> StoreError {
        match self {
            StoreError::Superseded { by } => StoreError::Superseded { by: by.clone() },
            StoreError::Unreachable { store, source } => StoreError::Unreachable {
                store: store.clone(),
                source: Arc::clone(source),
            },
            StoreError::Statement(source) => StoreError::Statement(Arc::clone(source)),
            other => StoreError::Statement(Arc::new(sqlx::Error::Protocol(other.to_string()))),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        StoreError::Statement(Arc::new(error))
    }
}
