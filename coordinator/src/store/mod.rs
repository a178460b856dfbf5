//! The store: ledgers and history in SQLite or PostgreSQL, behind one task that owns the only connection.
//!
//! Appends that wait while a transaction is being written go into the next one together, so that a busy coordinator pays
//! for one flush to the disk per batch and not per row. Stored means durable: WAL with `synchronous=FULL`, and
//! `synchronous_commit`. A store is served by one coordinator at a time: who takes it over fences the one before.

mod address;
mod check;
mod claim;
mod database;
mod disk;
mod history;
mod ledger;
mod prune;
mod reading;
mod schema;
mod session;
mod task;
mod timings;

pub use address::{AddressError, StoreAddress};
pub use check::{Fault, Finding};
#[cfg(feature = "planted")]
pub use disk::{Delay, simulate};
pub use history::{HistoryQuery, UnitSample, command_digest, samples_of};
pub use ledger::{ClosedRow, RunKey, RunRow};
pub use prune::Pruned;
pub use reading::Unfinished;
pub use timings::{CaseTime, UnitTimes, samples_from};

use claim::Claim;
use database::{Access, Connection};
use evenkeel_proto::ledger as l;
use session::Session;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use task::{Reply, Request};
use tokio::sync::{mpsc, oneshot, watch};

/// Why the store could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store {store}")]
    Open {
        store: StoreAddress,
        #[source]
        source: sqlx::Error,
    },
    #[error("the store {store} cannot be reached")]
    Unreachable {
        store: StoreAddress,
        #[source]
        source: Arc<sqlx::Error>,
    },
    #[error("cannot create the state directory {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot remove the run directory {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the store {store} was written by a newer evenkeel (schema {found}, this one knows {known})"
    )]
    Newer {
        store: StoreAddress,
        found: i64,
        known: i64,
    },
    #[error("the store refused a statement")]
    Statement(#[source] Arc<sqlx::Error>),
    #[error("another coordinator ({by}) has taken over the store")]
    Superseded { by: String },
    #[error("another coordinator has taken over run {run}")]
    Fenced { run: i64 },
    #[error("run {run} exists already")]
    Exists { run: String },
    #[error("the ledger of run {run} is damaged at row {sequence}: {reason}")]
    Damaged {
        run: String,
        sequence: u64,
        reason: String,
    },
    #[error("the store has been closed")]
    Gone,
}

/// A run as its coordinator holds it in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunHandle {
    pub(crate) row: i64,
    pub(crate) epoch: i64,
}

impl RunHandle {
    /// A number for the run that is unique in its store.
    pub fn number(self) -> i64 {
        self.row
    }

    /// Of the store when it was taken over by who holds the run.
    pub fn epoch(self) -> i64 {
        self.epoch
    }
}

/// A handle to the task that owns the store. Cheap to clone; the task ends when the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    directory: PathBuf,
    claim: Claim,
    superseded: watch::Receiver<Option<String>>,
}

/// The database's name within the state directory.
pub const FILE: &str = "evenkeel.db";
/// How many requests may wait before those who ask have to.
const QUEUE: usize = 256;

impl Store {
    /// Opens the store in the state directory, which is created where it does not exist. Several processes may use it so at the
    /// same time, each for runs of its own.
    pub async fn open(directory: &Path) -> Result<Store, StoreError> {
        let address = StoreAddress::Sqlite(directory.join(FILE));
        let connection = open_in(directory, &address, Access::Create).await?;
        Ok(Store::start(
            connection,
            address,
            directory,
            Claim::default(),
        ))
    }

    /// Opens an existing store to look at it: nothing in it is changed, not even its files.
    pub async fn read(directory: &Path) -> Result<Store, StoreError> {
        let address = StoreAddress::Sqlite(directory.join(FILE));
        let mut connection = Connection::open(&address, Access::Look).await?;
        if schema::is_current(&mut connection, &address).await? {
            return Ok(Store::start(
                connection,
                address,
                directory,
                Claim::default(),
            ));
        }
        // Written by an older version: it has to be brought up to date first.
        drop(connection);
        Store::open(directory).await
    }

    /// Opens the store for a coordinator that serves, and takes it over: what the one before still writes fails with
    /// [`StoreError::Superseded`]. `directory` is where outputs and reports of runs lie; it is created where it does not exist.
    pub async fn serve_from(
        address: &StoreAddress,
        directory: &Path,
        name: &str,
    ) -> Result<Store, StoreError> {
        let mut connection = open_in(directory, address, Access::Create).await?;
        connection.begin().await?;
        let claim = claim::take_over(&mut connection, name).await?;
        connection.script("COMMIT").await?;
        Ok(Store::start(connection, address.clone(), directory, claim))
    }

    /// Opens an existing store for looking and maintenance; nothing is taken over.
    pub async fn inspect(address: &StoreAddress, directory: &Path) -> Result<Store, StoreError> {
        let mut connection = Connection::open(address, Access::Write).await?;
        schema::migrate(&mut connection, address).await?;
        let secret = claim::secret(&mut connection).await?;
        let claim = Claim { epoch: 0, secret };
        Ok(Store::start(connection, address.clone(), directory, claim))
    }

    fn start(
        connection: Connection,
        address: StoreAddress,
        directory: &Path,
        claim: Claim,
    ) -> Store {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let session = Session::new(connection, claim.epoch);
        let superseded = task::spawn(session, address, inbox);
        Store {
            requests,
            directory: directory.to_owned(),
            claim,
            superseded,
        }
    }

    /// Which coordinator this is, counted from 1; 0 where it took nothing over.
    pub fn epoch(&self) -> i64 {
        self.claim.epoch
    }

    /// Random bytes that belong to the store for ever; all zero where it was opened without an address.
    pub fn secret(&self) -> [u8; 32] {
        self.claim.secret
    }

    /// Whether another coordinator has taken the store over, as far as has been seen.
    pub fn is_superseded(&self) -> bool {
        self.superseded.borrow().is_some()
    }

    /// Comes back once another coordinator has taken the store over: with the next write, or within a second or so.
    pub async fn superseded(&self) -> StoreError {
        if self.claim.epoch == 0 {
            return std::future::pending().await;
        }
        let mut superseded = self.superseded.clone();
        let by = superseded.wait_for(Option::is_some).await;
        match by.ok().and_then(|by| by.clone()) {
            Some(by) => StoreError::Superseded { by },
            None => StoreError::Gone,
        }
    }

    /// The state directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a run keeps its outputs and reports.
    pub fn run_directory(&self, run: RunHandle) -> PathBuf {
        self.directory.join("runs").join(run.row.to_string())
    }

    pub fn run_directory_of(&self, row: &RunRow) -> PathBuf {
        self.directory.join("runs").join(row.row.to_string())
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| StoreError::Gone)?;
        answer.await.map_err(|_| StoreError::Gone)?
    }

    /// Registers a run with its first rows; the key must be new.
    pub async fn open_run(
        &self,
        key: RunKey,
        opened_unix_us: u64,
        suite: String,
        payloads: Vec<Vec<u8>>,
    ) -> Result<RunHandle, StoreError> {
        let new = ledger::NewRun {
            key,
            opened_unix_us,
            suite,
            payloads,
        };
        self.ask(|reply| Request::Open { new, reply }).await
    }

    /// Appends rows to a run's ledger; they are durable when this returns.
    pub async fn append(&self, run: RunHandle, payloads: Vec<Vec<u8>>) -> Result<(), StoreError> {
        self.ask(|reply| Request::Append {
            run,
            payloads,
            reply,
        })
        .await
    }

    /// Appends a run's last rows and notes its verdict for listings and what its units took, all at once. The future owns
    /// what it needs and may be spawned.
    pub fn close_run(
        &self,
        run: RunHandle,
        payloads: Vec<Vec<u8>>,
        closed: &l::Closed,
        totals: crate::record::Totals,
        samples: Vec<UnitSample>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let row = ledger::ClosedRow::new(closed, totals);
        let store = self.clone();
        async move {
            store
                .ask(|reply| Request::Close {
                    run,
                    payloads,
                    row,
                    samples,
                    reply,
                })
                .await
        }
    }

    pub async fn history(
        &self,
        query: HistoryQuery,
    ) -> Result<crate::run::SuiteHistory, StoreError> {
        self.ask(|reply| Request::History { query, reply }).await
    }

    /// The newest runs first.
    pub async fn runs(&self, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        self.runs_of(None, limit).await
    }

    /// The newest runs first, of one project if it is named.
    pub async fn runs_of(
        &self,
        project: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError> {
        let project = project.map(str::to_owned);
        self.ask(|reply| Request::Runs {
            project,
            limit,
            reply,
        })
        .await
    }

    /// All runs with exactly this id, or else the ten newest whose ids begin with it; of one project if it is named. The newest come
    /// first.
    pub async fn find(&self, project: Option<&str>, run: &str) -> Result<Vec<RunRow>, StoreError> {
        let (project, run) = (project.map(str::to_owned), run.to_owned());
        self.ask(|reply| Request::Find {
            project,
            run,
            reply,
        })
        .await
    }

    /// A run's ledger, checked against its hash chain.
    pub async fn batches(&self, row: &RunRow) -> Result<Vec<l::Batch>, StoreError> {
        let row = row.clone();
        self.ask(|reply| Request::Batches { row, reply }).await
    }

    /// Runs that a coordinator of an earlier epoch left without a verdict, the oldest first. They belong to this one from now on,
    /// and what is appended goes behind their last rows. Runs that no coordinator served are left alone.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        self.ask(|reply| Request::Unfinished { reply }).await
    }

    /// The payloads of a run's rows with `after` < sequence ≤ `until`.
    pub async fn payloads(
        &self,
        run: RunHandle,
        after: u64,
        until: u64,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        self.ask(|reply| Request::Payloads {
            run,
            after,
            until,
            reply,
        })
        .await
    }

    /// A run's ledger, checked against its hash chain. `run` is a run's id or an unambiguous beginning of one; of several
    /// rounds the last.
    pub async fn rows(&self, run: &str) -> Result<Option<(RunRow, Vec<l::Batch>)>, StoreError> {
        self.ask(|reply| Request::Rows {
            run: run.to_owned(),
            reply,
        })
        .await
    }

    /// Takes durations from elsewhere into the history; they count as long as a unit has none of its own.
    pub async fn import(&self, samples: Vec<UnitSample>) -> Result<(), StoreError> {
        self.ask(|reply| Request::Import { samples, reply }).await
    }

    /// The suites of a project with recorded durations.
    pub async fn suites(&self, project: &str) -> Result<Vec<String>, StoreError> {
        let project = project.to_owned();
        self.ask(|reply| Request::Suites { project, reply }).await
    }

    /// What each unit of a suite took last.
    pub async fn times(&self, project: &str, suite: &str) -> Result<Vec<UnitTimes>, StoreError> {
        let (project, suite) = (project.to_owned(), suite.to_owned());
        self.ask(|reply| Request::Times {
            project,
            suite,
            reply,
        })
        .await
    }
}

/// Opens a store with the directory that belongs to it, and brings it up to date.
async fn open_in(
    directory: &Path,
    address: &StoreAddress,
    access: Access,
) -> Result<Connection, StoreError> {
    create_directory(directory).map_err(|source| StoreError::Directory {
        path: directory.to_owned(),
        source,
    })?;
    let mut connection = Connection::open(address, access).await?;
    schema::migrate(&mut connection, address).await?;
    Ok(connection)
}

/// The state directory keeps itself out of version control.
fn create_directory(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let ignore = directory.join(".gitignore");
    if !ignore.exists() {
        std::fs::write(ignore, "*\n")?;
    }
    Ok(())
}
