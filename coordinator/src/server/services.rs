//! The clients' service: submissions, watchers, reports.

use super::abandon::record_of;
use super::blocking;
use super::ended::ended;
use super::error_chain;
use super::hub::{self, Found, HubMessage};
use super::past;
use super::planted::{Fault, is_planted};
use super::run_task::RunMessage;
use crate::record::Record;
use crate::report;
use crate::run::Event;
use crate::store::{RunHandle, RunRow, Store};
use evenkeel_proto::v1;
use evenkeel_schedule::Micros;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How many events may wait for a watcher before it is dropped.
const WATCH_QUEUE: usize = 16_384;
const CHUNK: usize = 256 << 10;
/// A listing of runs is no longer than this.
const MAX_LISTED: u32 = 1000;
/// A run that takes no watcher any more has written its last rows and reports within this time.
const ENDING: std::time::Duration = std::time::Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK: std::time::Duration = std::time::Duration::from_millis(5);

/// A receiver as the stream that tonic wants.
pub(super) fn outgoing<T: Send + 'static>(
    mut receiver: mpsc::Receiver<T>,
) -> impl Stream<Item = T> + Send {
    futures_poll(move |context| receiver.poll_recv(context))
}

fn futures_poll<T, F>(poll: F) -> impl Stream<Item = T> + Send
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Send + Unpin,
{
    struct PollFn<F>(F);
    impl<T, F> Stream for PollFn<F>
    where
        F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
    {
        type Item = T;
        fn poll_next(
            mut self: Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            (self.0)(context)
        }
    }
    PollFn(poll)
}

pub(super) fn gone() -> Status {
    Status::unavailable("the coordinator is shutting down")
}

/// Of what a refusal says so much is written down, in characters: others have a say in it.
const SAID: usize = 400;

/// Writes down that something was refused, and to whom. Who may try again, since this coordinator ends, is not refused.
pub(super) fn log_refusal(what: &str, from: Option<SocketAddr>, status: &Status) {
    if status.code() == Code::Unavailable {
        return;
    }
    let from = from.map_or_else(|| "a local socket".to_owned(), |from| from.to_string());
    let reason: String = status.message().chars().take(SAID).collect();
    tracing::warn!(from, code = ?status.code(), "{what} refused: {reason}");
}

pub(super) struct Runs {
    pub hub: mpsc::Sender<HubMessage>,
    pub store: Store,
}

impl Runs {
    /// A run of this process or of the store.
    async fn find(&self, project: &str, run: &str) -> Result<Found, Status> {
        let (reply, found) = oneshot::channel();
        let find = HubMessage::Find {
            project: project.to_owned(),
            run: run.to_owned(),
            reply,
        };
        self.hub.send(find).await.map_err(|_| gone())?;
        match found.await.map_err(|_| gone())?? {
            Found::Unknown => self.find_stored(project, run).await,
            found => Ok(found),
        }
    }

    async fn find_stored(&self, project: &str, run: &str) -> Result<Found, Status> {
        let row = self.row(project, run).await?;
        if row.closed.is_none() {
            return Err(Status::failed_precondition(format!(
                "run {} was never finished, and is not this coordinator's to finish",
                row.key.run
            )));
        }
        let batches = self.store.batches(&row).await;
        let batches = batches.map_err(|error| hub::failed(&error))?;
        let mut record = Record::default();
        for batch in &batches {
            record
                .apply_batch(batch)
                .map_err(|error| Status::data_loss(error.to_string()))?;
        }
        Ok(Found::Ended {
            ended: Box::new(ended(&record, None, self.store.directory())),
            directory: self.store.run_directory_of(&row),
            handle: row.handle(),
            rows: batches.len() as u64,
        })
    }

    /// The run of this id, or the only one whose id begins with it.
    async fn row(&self, project: &str, run: &str) -> Result<RunRow, Status> {
        let named = Some(project).filter(|project| !project.is_empty());
        let found = self.store.find(named, run).await;
        let found = found.map_err(|error| hub::failed(&error))?;
        let exact: Vec<&RunRow> = found.iter().filter(|row| row.key.run == run).collect();
        match (exact.as_slice(), found.as_slice()) {
            ([only], _) => Ok((*only).clone()),
            ([], [only]) => Ok(only.clone()),
            ([first, ..], _) if exact.iter().all(|row| row.key.project == first.key.project) => {
                Ok((*first).clone())
            }
            ([], []) => Err(Status::not_found(format!(
                "this coordinator knows no run {run:?}"
            ))),
            _ => Err(Status::failed_precondition(format!(
                "more than one run is meant by {run:?}; write more of its id, or name its project"
            ))),
        }
    }
}

#[tonic::async_trait]
impl v1::run_service_server::RunService for Runs {
    type WatchStream = Outgoing<v1::WatchEvent>;
    type FetchStream = Outgoing<v1::FetchChunk>;

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let from = request.remote_addr();
        let answer = self.take_in(request).await;
        answer.inspect_err(|status| log_refusal("submit", from, status))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let from = request.remote_addr();
        let answer = self.attach(request).await;
        answer.inspect_err(|status| log_refusal("watch", from, status))
    }

    async fn stop(
        &self,
        request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::StopResponse>, Status> {
        let from = request.remote_addr();
        let answer = self.end(request).await;
        answer.inspect_err(|status| log_refusal("stop", from, status))
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let from = request.remote_addr();
        let answer = self.report_of(request).await;
        answer.inspect_err(|status| log_refusal("fetch", from, status))
    }

    async fn list(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        let from = request.remote_addr();
        let answer = self.lines(request).await;
        answer.inspect_err(|status| log_refusal("list", from, status))
    }
}

impl Runs {
    async fn take_in(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let (reply, response) = oneshot::channel();
        let submit = HubMessage::Submit {
            request: Box::new(request.into_inner()),
            reply,
        };
        self.hub.send(submit).await.map_err(|_| gone())?;
        response.await.map_err(|_| gone())?.map(Response::new)
    }

    async fn attach(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Outgoing<v1::WatchEvent>>, Status> {
        let request = request.into_inner();
        // A run that is about to end takes nobody in any more, and has ended soon.
        let by = tokio::time::Instant::now() + ENDING;
        let (place, stored, live) = loop {
            match self.find(&request.project, &request.run).await? {
                Found::Live(door) => {
                    let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
                    let (attached, seat) = oneshot::channel();
                    let watch = RunMessage::Watch {
                        rows: request.rows,
                        events: sender,
                        attached,
                    };
                    if door.send(watch).await
                        && let Ok((handle, stored)) = seat.await
                    {
                        let place = (handle, self.store.run_directory(handle));
                        break (place, stored, Rest::Live(receiver));
                    }
                    if tokio::time::Instant::now() >= by {
                        return Err(gone());
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Found::Ended {
                    ended,
                    directory,
                    handle,
                    rows,
                } => break ((handle, directory), rows, Rest::Ended(ended)),
                Found::Unknown => return Err(gone()),
            }
        };
        let (sender, receiver) = mpsc::channel(64);
        let store = self.store.clone();
        tokio::spawn(watch(store, place, request, stored, live, sender));
        Ok(Response::new(Box::pin(outgoing(receiver))))
    }

    async fn end(
        &self,
        request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::StopResponse>, Status> {
        let request = request.into_inner();
        if let Found::Live(door) = self.find(&request.project, &request.run).await? {
            let stop = Event::Stop {
                reason: request.reason,
                interrupted: true,
                grace: Micros(request.grace_us),
            };
            // A run that has just ended needs no stopping.
            door.send(RunMessage::Event(stop)).await;
        }
        Ok(Response::new(v1::StopResponse {}))
    }

    async fn report_of(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<Outgoing<v1::FetchChunk>>, Status> {
        let request = request.into_inner();
        let found = self.find(&request.project, &request.run).await?;
        let Found::Ended {
            directory, handle, ..
        } = found
        else {
            return Err(Status::failed_precondition(format!(
                "run {} has not ended yet",
                request.run
            )));
        };
        let (name, report) = match request.report() {
            v1::fetch_request::Report::Junit => match request.suite {
                // Where there is one suite, its part is all of it.
                Some(suite) if directory.join(report::junit_of(suite)).exists() => (
                    report::junit_of(suite),
                    Some(report::Report::Junit(Some(suite))),
                ),
                _ => (report::JUNIT.to_owned(), Some(report::Report::Junit(None))),
            },
            v1::fetch_request::Report::Json => {
                (report::JSON.to_owned(), Some(report::Report::Json))
            }
            v1::fetch_request::Report::Outputs => (report::OUTPUTS.to_owned(), None),
            v1::fetch_request::Report::Unspecified => {
                return Err(Status::invalid_argument(
                    "which report is wanted is not said",
                ));
            }
        };
        let (sender, receiver) = mpsc::channel(4);
        match (std::fs::File::open(directory.join(name)), report) {
            (Ok(file), _) => {
                tokio::task::spawn_blocking(move || send_chunks(file, &sender));
            }
            // What there was no room for is in the ledger all the same.
            (Err(error), Some(report)) if error.kind() == std::io::ErrorKind::NotFound => {
                let record = record_of(&self.store, handle).await;
                let record = record.map_err(|error| hub::failed(&error))?;
                if record.closed.is_none() {
                    return Err(Status::not_found(
                        "there is no report, and the ledger does not hold the end of the run yet",
                    ));
                }
                let several = record.opened.suites.len() > 1;
                let report = match request.suite {
                    Some(suite) if several && record.wanted_junit().contains_key(&suite) => {
                        report::Report::Junit(Some(suite))
                    }
                    _ => report,
                };
                let rendering =
                    blocking::beside(move || report::render(&record, &directory, report));
                let text = rendering.await.map_err(|_| gone())?;
                let text = text.map_err(|error| Status::internal(error_chain(&error)))?;
                tokio::task::spawn_blocking(move || {
                    send_chunks(std::io::Cursor::new(text), &sender);
                });
            }
            (Err(error), _) => {
                return Err(Status::not_found(format!("no such report: {error}")));
            }
        }
        Ok(Response::new(Box::pin(outgoing(receiver))))
    }

    async fn lines(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        let request = request.into_inner();
        let (reply, live) = oneshot::channel();
        self.hub
            .send(HubMessage::Live { reply })
            .await
            .map_err(|_| gone())?;
        let live = live.await.map_err(|_| gone())?;
        let project = Some(request.project.as_str()).filter(|project| !project.is_empty());
        let limit = request.limit.clamp(1, MAX_LISTED);
        let rows = self.store.runs_of(project, limit).await;
        let rows = rows.map_err(|error| hub::failed(&error))?;
        let line = |row: RunRow| {
            let closed = row.closed.as_ref();
            v1::RunLine {
                live: live.contains(&row.handle().number()),
                project: row.key.project.clone(),
                run: row.key.run.clone(),
                round: row.key.round,
                suites: row.suite.clone(),
                opened_unix_us: row.opened_unix_us,
                verdict: closed
                    .map(|closed| closed.verdict.clone())
                    .unwrap_or_default(),
                exit_code: closed.map_or(0, |closed| closed.exit_code),
                tests: closed.map_or(0, |closed| closed.tests),
                failures: closed.map_or(0, |closed| closed.failures),
                makespan_us: closed.map_or(0, |closed| closed.makespan_us),
            }
        };
        let runs = rows.into_iter().map(line).collect();
        Ok(Response::new(v1::ListRunsResponse { runs }))
    }
}

/// Sends all that can be read, piece by piece.
fn send_chunks(mut from: impl Read, sender: &mpsc::Sender<Result<v1::FetchChunk, Status>>) {
    loop {
        let mut data = vec![0; CHUNK];
        let chunk = match from.read(&mut data) {
            Ok(0) => return,
            Ok(length) => {
                data.truncate(length);
                Ok(v1::FetchChunk { data })
            }
            Err(error) => Err(Status::internal(error.to_string())),
        };
        let failed = chunk.is_err();
        if sender.blocking_send(chunk).is_err() || failed {
            return;
        }
    }
}

/// What follows what is past.
enum Rest {
    Live(mpsc::Receiver<v1::WatchEvent>),
    Ended(Box<v1::Ended>),
}

/// Shows a watcher what it has missed, and then what comes.
async fn watch(
    store: Store,
    (handle, directory): (RunHandle, PathBuf),
    request: v1::WatchRequest,
    stored: u64,
    rest: Rest,
    events: mpsc::Sender<Result<v1::WatchEvent, Status>>,
) {
    let missed = request.after > 0 && is_planted(Fault::MissedRows);
    let past = (if missed { stored } else { request.after }, stored);
    let shown = past::replay(&store, (handle, &directory), past, request.rows, &events).await;
    match shown {
        Ok(true) => {}
        Ok(false) => return,
        Err(error) => {
            events.send(Err(hub::failed(&error))).await.ok();
            return;
        }
    }
    match rest {
        Rest::Ended(ended) => {
            let event = v1::WatchEvent {
                sequence: 0,
                body: Some(v1::watch_event::Body::Ended(*ended)),
            };
            events.send(Ok(event)).await.ok();
        }
        Rest::Live(mut live) => {
            while let Some(event) = live.recv().await {
                if events.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        }
    }
}
