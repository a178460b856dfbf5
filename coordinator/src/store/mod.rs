//! The store: ledgers and history in SQLite, behind one task that owns the only connection.
//!
//! Appends that wait while a transaction is being written go into the next one together, so that a busy coordinator pays
//! for one flush to the disk per batch and not per row. Stored means durable: WAL with `synchronous=FULL`.

mod history;
mod ledger;
mod schema;
mod timings;

pub use history::{HistoryQuery, UnitSample, command_digest, samples_of};
pub use ledger::{RunKey, RunRow};
pub use timings::{CaseTime, UnitTimes, samples_from};

use evenkeel_proto::ledger as l;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Why the store could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot create the state directory {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the store {path} was written by a newer evenkeel (schema {found}, this one knows {known})"
    )]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("the store refused a statement")]
    Statement(#[from] sqlx::Error),
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
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Request {
    Open {
        key: RunKey,
        opened_unix_us: u64,
        suite: String,
        payloads: Vec<Vec<u8>>,
        reply: Reply<RunHandle>,
    },
    Append {
        run: RunHandle,
        payloads: Vec<Vec<u8>>,
        reply: Reply<()>,
    },
    Close {
        run: RunHandle,
        payloads: Vec<Vec<u8>>,
        row: ledger::ClosedRow,
        samples: Vec<UnitSample>,
        reply: Reply<()>,
    },
    History {
        query: HistoryQuery,
        reply: Reply<crate::run::SuiteHistory>,
    },
    Runs {
        limit: u32,
        reply: Reply<Vec<RunRow>>,
    },
    Payloads {
        run: RunHandle,
        after: u64,
        until: u64,
        reply: Reply<Vec<Vec<u8>>>,
    },
    Rows {
        run: String,
        reply: Reply<Option<(RunRow, Vec<l::Batch>)>>,
    },
    Import {
        samples: Vec<UnitSample>,
        reply: Reply<()>,
    },
    Suites {
        project: String,
        reply: Reply<Vec<String>>,
    },
    Times {
        project: String,
        suite: String,
        reply: Reply<Vec<UnitTimes>>,
    },
}

/// A handle to the task that owns the store. Cheap to clone; the task ends when the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    directory: PathBuf,
}

/// The database's name within the state directory.
pub const FILE: &str = "evenkeel.db";
/// How many requests may wait before those who ask have to.
const QUEUE: usize = 256;

impl Store {
    /// Opens the store in the state directory, which is created where it does not exist.
    pub async fn open(directory: &Path) -> Result<Store, StoreError> {
        create_directory(directory).map_err(|source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        let path = directory.join(FILE);
        let options = options(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = connect(&path, &options).await?;
        schema::migrate(&mut connection, &path).await?;
        Ok(Store::serve(connection, directory))
    }

    /// Opens an existing store to look at it: nothing in it is changed, not even its files.
    pub async fn read(directory: &Path) -> Result<Store, StoreError> {
        let path = directory.join(FILE);
        let mut connection = connect(&path, &options(&path).read_only(true)).await?;
        if schema::is_current(&mut connection, &path).await? {
            return Ok(Store::serve(connection, directory));
        }
        // Written by an older version: it has to be brought up to date first.
        drop(connection);
        Store::open(directory).await
    }

    fn serve(connection: SqliteConnection, directory: &Path) -> Store {
        let (requests, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(serve(connection, inbox));
        Store {
            requests,
            directory: directory.to_owned(),
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
        self.ask(|reply| Request::Open {
            key,
            opened_unix_us,
            suite,
            payloads,
            reply,
        })
        .await
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
        self.ask(|reply| Request::Runs { limit, reply }).await
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

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(20))
        .foreign_keys(false)
        .statement_cache_capacity(32)
}

async fn connect(
    path: &Path,
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection, StoreError> {
    SqliteConnection::connect_with(options)
        .await
        .map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source,
        })
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

async fn serve(mut connection: SqliteConnection, mut inbox: mpsc::Receiver<Request>) {
    let mut chains = ledger::Chains::default();
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, QUEUE).await > 0 {
        let mut appends = Vec::new();
        for request in waiting.drain(..) {
            // Only appends are grouped; anything else keeps its place in the order.
            if let Request::Append {
                run,
                payloads,
                reply,
            } = request
            {
                appends.push((run, payloads, reply));
                continue;
            }
            ledger::append(&mut connection, &mut chains, std::mem::take(&mut appends)).await;
            answer(&mut connection, &mut chains, request).await;
        }
        ledger::append(&mut connection, &mut chains, appends).await;
    }
}

/// Whoever asked may have gone away; an answer that nobody waits for is dropped.
async fn answer(connection: &mut SqliteConnection, chains: &mut ledger::Chains, request: Request) {
    match request {
        Request::Open {
            key,
            opened_unix_us,
            suite,
            payloads,
            reply,
        } => {
            reply
                .send(
                    ledger::open(connection, chains, &key, opened_unix_us, &suite, &payloads).await,
                )
                .ok();
        }
        Request::Append { .. } => unreachable!("appends are grouped by the caller"),
        Request::Close {
            run,
            payloads,
            row,
            samples,
            reply,
        } => {
            reply
                .send(ledger::close(connection, chains, run, &payloads, &row, &samples).await)
                .ok();
        }
        Request::History { query, reply } => {
            reply.send(history::load(connection, &query).await).ok();
        }
        Request::Runs { limit, reply } => {
            reply.send(ledger::runs(connection, limit).await).ok();
        }
        Request::Payloads {
            run,
            after,
            until,
            reply,
        } => {
            reply
                .send(ledger::payloads(connection, run, after, until).await)
                .ok();
        }
        Request::Rows { run, reply } => {
            reply.send(ledger::rows(connection, &run).await).ok();
        }
        Request::Import { samples, reply } => {
            reply.send(timings::import(connection, &samples).await).ok();
        }
        Request::Suites { project, reply } => {
            reply.send(timings::suites(connection, &project).await).ok();
        }
        Request::Times {
            project,
            suite,
            reply,
        } => {
            reply
                .send(timings::times(connection, &project, &suite).await)
                .ok();
        }
    }
}
