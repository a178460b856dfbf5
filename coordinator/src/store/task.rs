//! The task that owns the store's connection: it answers requests in their order, groups appends, finds the way back to a
//! database that was gone, and looks whether the store is still ours.

use super::database::{Access, Connection};
use super::history::{self, HistoryQuery, UnitSample};
use super::ledger::{self, ClosedRow, NewRun, RunRow, Staged};
use super::reading::{self, StoredRow, Unfinished};
use super::session::Session;
use super::timings::{self, UnitTimes};
use super::{QUEUE, RunHandle, StoreAddress, StoreError, check, prune};
use evenkeel_proto::ledger as l;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout};

/// How long a database may be gone before what was asked of it fails.
const RECONNECT: Duration = Duration::from_secs(60);
/// How long a server may say nothing before its connection counts as lost.
const SILENCE: Duration = Duration::from_secs(60);
/// The same for what goes through much of the store.
const LONG_SILENCE: Duration = Duration::from_secs(3600);
/// How often the store of a coordinator that serves looks whether it is still its own.
const LOOK: Duration = Duration::from_secs(1);
/// Pauses between attempts to reach a database grow from the first to the second of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Rows for one run, and who waits for them.
type Append = (RunHandle, Vec<Vec<u8>>, Reply<()>);

pub(super) enum Request {
    Open {
        new: NewRun,
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
        row: ClosedRow,
        samples: Vec<UnitSample>,
        reply: Reply<()>,
    },
    Unfinished {
        reply: Reply<Vec<Unfinished>>,
    },
    History {
        query: HistoryQuery,
        reply: Reply<crate::run::SuiteHistory>,
    },
    Runs {
        project: Option<String>,
        limit: u32,
        reply: Reply<Vec<RunRow>>,
    },
    Find {
        project: Option<String>,
        run: String,
        reply: Reply<Vec<RunRow>>,
    },
    Batches {
        row: RunRow,
        reply: Reply<Vec<l::Batch>>,
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
    Snapshot {
        run: i64,
        reply: Reply<Option<(RunRow, i64, Vec<StoredRow>)>>,
    },
    Strays {
        reply: Reply<check::Strays>,
    },
    ClosedBefore {
        unix_us: u64,
        reply: Reply<Vec<i64>>,
    },
    RemoveRun {
        run: i64,
        reply: Reply<Option<u64>>,
    },
    RemoveSamples {
        before_unix_us: u64,
        reply: Reply<u64>,
    },
}

/// The attempts at one request.
struct Attempts {
    number: u32,
    deadline: Instant,
    pause: Duration,
    /// Something was there already that was in doubt.
    conflict: bool,
}

impl Attempts {
    fn new() -> Attempts {
        Attempts {
            number: 0,
            deadline: Instant::now() + RECONNECT,
            pause: PAUSES.0,
            conflict: false,
        }
    }
}

/// Makes an expression of `$task.session` come true: again and again while the connection gets lost. A function cannot do this,
/// since nothing says of a closure that the futures it makes may go from one thread to another.
macro_rules! persist {
    ($task:ident, $silence:expr, $work:expr) => {{
        let mut attempts = Attempts::new();
        loop {
            if let Err(error) = $task.ready(&mut attempts).await {
                break Err($task.fail(error));
            }
            let result = match $task.session.connection.is_remote() {
                false => $work.await,
                true => match timeout($silence, $work).await {
                    Ok(result) => result,
                    Err(elapsed) => Err($task.unreachable(std::io::Error::from(elapsed).into())),
                },
            };
            if let Some(settled) = $task.settle(result, &mut attempts).await {
                break settled;
            }
        }
    }};
}

struct Task {
    session: Session,
    address: StoreAddress,
    lost: bool,
    /// The database could not be reached for long: nobody waits for it any more until it is back.
    given_up: bool,
    superseded: watch::Sender<Option<String>>,
}

/// Starts the task. It ends when nobody can ask any more; what comes back says who has taken the store over.
pub(super) fn spawn(
    session: Session,
    address: StoreAddress,
    inbox: mpsc::Receiver<Request>,
) -> watch::Receiver<Option<String>> {
    let (superseded, told) = watch::channel(None);
    let task = Task {
        session,
        address,
        lost: false,
        given_up: false,
        superseded,
    };
    tokio::spawn(task.serve(inbox));
    told
}

impl Task {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut waiting = Vec::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = inbox.recv_many(&mut waiting, QUEUE) => {
                    if received == 0 {
                        break;
                    }
                    self.answer_all(&mut waiting).await;
                }
                _ = looks.tick(), if self.session.epoch > 0 => self.look().await,
            }
        }
        self.session.connection.close().await.ok();
    }

    async fn answer_all(&mut self, waiting: &mut Vec<Request>) {
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
            self.append(std::mem::take(&mut appends)).await;
            self.answer(request).await;
        }
        self.append(appends).await;
    }

    /// Writes all of these in one transaction and answers each. A fenced run fails alone.
    async fn append(&mut self, appends: Vec<Append>) {
        if appends.is_empty() {
            return;
        }
        let rows: Vec<(RunHandle, &[Vec<u8>])> = appends
            .iter()
            .map(|(run, payloads, _)| (*run, payloads.as_slice()))
            .collect();
        let mut tried = Staged::default();
        let result = persist!(
            self,
            SILENCE,
            ledger::append(&mut self.session, &rows, &mut tried)
        );
        for (run, _, reply) in appends {
            let result = match &result {
                Ok(fenced) if fenced.contains(&run) => Err(StoreError::Fenced { run: run.row }),
                Ok(_) => Ok(()),
                Err(error) => Err(error.repeated()),
            };
            reply.send(result).ok();
        }
    }

    /// Makes ready for an attempt: there is a connection.
    async fn ready(&mut self, attempts: &mut Attempts) -> Result<(), StoreError> {
        if attempts.number == 0 {
            self.session.begin_request();
        }
        attempts.number += 1;
        match self.lost {
            true => self.reconnect(attempts.deadline).await,
            false => Ok(()),
        }
    }

    /// What an attempt came to; nothing if there is to be another one.
    async fn settle<T>(
        &mut self,
        result: Result<T, StoreError>,
        attempts: &mut Attempts,
    ) -> Option<Result<T, StoreError>> {
        let mut error = match result {
            Ok(done) => return Some(Ok(done)),
            Err(error) => error,
        };
        let remote = self.session.connection.is_remote();
        if !(remote && error.is_lost())
            && let Err(lost) = self.session.rollback().await
        {
            self.lost = true;
            if self.session.is_in_doubt() {
                error = lost;
            }
        }
        if remote && error.is_lost() {
            self.lost = true;
            if Instant::now() + attempts.pause > attempts.deadline || self.given_up {
                return Some(Err(self.fail(error)));
            }
            tokio::time::sleep(attempts.pause).await;
            attempts.pause = (2 * attempts.pause).min(PAUSES.1);
            return None;
        }
        if self.session.is_in_doubt() && error.is_conflict() && !attempts.conflict {
            // What was in doubt has been committed meanwhile, so that it is found now.
            attempts.conflict = true;
            return None;
        }
        Some(Err(self.fail(error)))
    }

    /// A request has failed for good.
    fn fail(&mut self, error: StoreError) -> StoreError {
        if self.session.is_in_doubt() {
            // Nobody knows where these ledgers end; the next to append looks.
            self.session.chains.clear();
        }
        self.tell(&error);
        error
    }

    async fn reconnect(&mut self, deadline: Instant) -> Result<(), StoreError> {
        let mut pause = PAUSES.0;
        loop {
            let error = match Connection::open(&self.address, Access::Write).await {
                Ok(connection) => {
                    self.session.renew(connection);
                    self.lost = false;
                    self.given_up = false;
                    // Somebody may have taken the store over; each write finds that out by itself.
                    if let Err(error) = self.session.check(false).await {
                        self.tell(&error);
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            if self.given_up || Instant::now() + pause > deadline {
                self.given_up = true;
                return Err(match error {
                    StoreError::Open { source, .. } => self.unreachable(source),
                    other => other,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(PAUSES.1);
        }
    }

    fn unreachable(&self, source: sqlx::Error) -> StoreError {
        StoreError::Unreachable {
            store: self.address.clone(),
            source: Arc::new(source),
        }
    }

    /// Looks whether the store is still ours. A connection that is lost is tried once; requests have the patience.
    async fn look(&mut self) {
        if self.superseded.borrow().is_some() {
            return;
        }
        if self.lost {
            match Connection::open(&self.address, Access::Write).await {
                Ok(connection) => self.session.renew(connection),
                Err(_) => return,
            }
            self.lost = false;
            self.given_up = false;
        }
        match timeout(SILENCE, self.session.check(false)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.is_lost() => self.lost = true,
            Ok(Err(error)) => self.tell(&error),
            Err(_) => self.lost = true,
        }
    }

    fn tell(&self, error: &StoreError) {
        if let StoreError::Superseded { by } = error {
            self.superseded.send_replace(Some(by.clone()));
        }
    }

    /// Whoever asked may have gone away; an answer that nobody waits for is dropped.
    async fn answer(&mut self, request: Request) {
        match request {
            Request::Append { .. } => unreachable!("appends are grouped by the caller"),
            Request::Open { new, reply } => {
                let done = persist!(self, SILENCE, ledger::open(&mut self.session, &new));
                reply.send(done).ok();
            }
            Request::Close {
                run,
                payloads,
                row,
                samples,
                reply,
            } => {
                let done = persist!(
                    self,
                    SILENCE,
                    ledger::close(&mut self.session, run, &payloads, &row, &samples)
                );
                reply.send(done).ok();
            }
            Request::Unfinished { reply } => {
                let mut tried = Vec::new();
                let done = persist!(
                    self,
                    LONG_SILENCE,
                    reading::unfinished(&mut self.session, &mut tried)
                );
                reply.send(done).ok();
            }
            Request::History { query, reply } => {
                let done = persist!(
                    self,
                    SILENCE,
                    history::load(&mut self.session.connection, &query)
                );
                reply.send(done).ok();
            }
            Request::Runs {
                project,
                limit,
                reply,
            } => {
                let done = persist!(
                    self,
                    SILENCE,
                    reading::runs(&mut self.session.connection, project.as_deref(), limit)
                );
                reply.send(done).ok();
            }
            Request::Find {
                project,
                run,
                reply,
            } => {
                let done = persist!(
                    self,
                    SILENCE,
                    reading::find(&mut self.session.connection, project.as_deref(), &run)
                );
                reply.send(done).ok();
            }
            Request::Batches { row, reply } => {
                let done = persist!(
                    self,
                    SILENCE,
                    reading::batches(&mut self.session.connection, &row)
                );
                reply.send(done).ok();
            }
            Request::Payloads {
                run,
                after,
                until,
                reply,
            } => {
                let done = persist!(
                    self,
                    SILENCE,
                    reading::payloads(&mut self.session.connection, run, after, until)
                );
                reply.send(done).ok();
            }
            Request::Rows { run, reply } => {
                let done = persist!(
                    self,
                    SILENCE,
                    reading::rows(&mut self.session.connection, &run)
                );
                reply.send(done).ok();
            }
            Request::Import { samples, reply } => {
                let done = persist!(self, SILENCE, timings::import(&mut self.session, &samples));
                reply.send(done).ok();
            }
            Request::Suites { project, reply } => {
                let done = persist!(
                    self,
                    SILENCE,
                    timings::suites(&mut self.session.connection, &project)
                );
                reply.send(done).ok();
            }
            Request::Times {
                project,
                suite,
                reply,
            } => {
                let done = persist!(
                    self,
                    SILENCE,
                    timings::times(&mut self.session.connection, &project, &suite)
                );
                reply.send(done).ok();
            }
            Request::Snapshot { run, reply } => {
                let done = persist!(
                    self,
                    LONG_SILENCE,
                    reading::snapshot(&mut self.session, run)
                );
                reply.send(done).ok();
            }
            Request::Strays { reply } => {
                let done = persist!(
                    self,
                    LONG_SILENCE,
                    check::strays(&mut self.session.connection)
                );
                reply.send(done).ok();
            }
            Request::ClosedBefore { unix_us, reply } => {
                let done = persist!(
                    self,
                    SILENCE,
                    prune::closed_before(&mut self.session.connection, unix_us)
                );
                reply.send(done).ok();
            }
            Request::RemoveRun { run, reply } => {
                let done = persist!(
                    self,
                    LONG_SILENCE,
                    prune::remove_run(&mut self.session, run)
                );
                reply.send(done).ok();
            }
            Request::RemoveSamples {
                before_unix_us,
                reply,
            } => {
                let done = persist!(
                    self,
                    LONG_SILENCE,
                    prune::remove_samples(&mut self.session, before_unix_us)
                );
                reply.send(done).ok();
            }
        }
    }
}
