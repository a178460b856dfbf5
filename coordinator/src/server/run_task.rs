//! The task of one run: it owns the state machine, performs its effects in order, and tells watchers.
//!
//! Rows go to the store one append at a time; what arrives meanwhile waits for the next one, so that a fast run is
//! written in few large transactions. Effects that depend on durability wait in `gated` until their row is stored.

use super::ended::ended;
use super::hub::{HubMessage, error_chain};
use crate::report;
use crate::run::{AgentId, AgentJoined, Command, Effect, Event, Run, Settings, Show};
use crate::store::{HistoryQuery, RunHandle, Store, StoreError, samples_of};
use crate::wire::{self, Opening};
use evenkeel_proto::{ledger as l, v1};
use evenkeel_schedule::Micros;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use v1::watch_event::Body as Watched;

pub(super) enum RunMessage {
    Event(Event),
    Agent {
        joined: AgentJoined,
        outbox: mpsc::Sender<v1::CoordinatorMessage>,
    },
    Watch {
        rows: bool,
        events: mpsc::Sender<v1::WatchEvent>,
        attached: tokio::sync::oneshot::Sender<(RunHandle, u64)>,
    },
}

/// Where a run sits: everything around the state machine.
pub(super) struct RunSeat {
    pub store: Store,
    pub handle: RunHandle,
    pub directory: PathBuf,
    pub hub: mpsc::WeakSender<HubMessage>,
    pub opening: Opening,
    pub keep_history: bool,
}

enum Gated {
    Ack { agent: AgentId, sequence: u64 },
    Stored,
    Close,
}

struct Watcher {
    events: mpsc::Sender<v1::WatchEvent>,
    rows: bool,
}

struct RunTask {
    seat: RunSeat,
    run: Run,
    started: Instant,
    outboxes: BTreeMap<AgentId, mpsc::Sender<v1::CoordinatorMessage>>,
    watchers: Vec<Watcher>,
    history_loaded: bool,
    // Rows and texts that wait for the next append, those of the append under way, and what waits for them.
    rows: Vec<Vec<u8>>,
    texts: Vec<u8>,
    writing: Option<JoinHandle<Result<Vec<Vec<u8>>, StoreError>>>,
    appended: u64,
    stored: u64,
    gated: VecDeque<(u64, Gated)>,
    dirty: bool,
    shown: Instant,
}

/// How many messages may wait for a run; agents wait then.
const QUEUE: usize = 256;
/// How often watchers hear of progress, at most.
const PROGRESS: Duration = Duration::from_millis(100);

pub(super) fn spawn(
    seat: RunSeat,
    opened: l::RunOpened,
    settings: Settings,
) -> mpsc::Sender<RunMessage> {
    let (sender, inbox) = mpsc::channel(QUEUE);
    let (run, effects) = Run::open(opened, settings);
    let mut task = RunTask {
        seat,
        run,
        started: Instant::now(),
        outboxes: BTreeMap::new(),
        watchers: Vec::new(),
        history_loaded: false,
        rows: Vec::new(),
        texts: Vec::new(),
        writing: None,
        appended: 0,
        stored: 0,
        gated: VecDeque::new(),
        dirty: false,
        shown: Instant::now(),
    };
    tokio::spawn(async move {
        task.perform(effects).await;
        let failed = task.serve(inbox).await;
        task.finish(failed.err()).await;
    });
    sender
}

impl RunTask {
    fn now(&self) -> Micros {
        self.started.elapsed().into()
    }

    async fn serve(&mut self, mut inbox: mpsc::Receiver<RunMessage>) -> Result<(), StoreError> {
        let mut messages = Vec::new();
        loop {
            self.write();
            let wake = self
                .run
                .wake_at(self.now())
                .map(|at| self.started + Duration::from(at));
            let show = (self.dirty && !self.watchers.is_empty()).then(|| self.shown + PROGRESS);
            let timer = [wake, show].into_iter().flatten().min();
            tokio::select! {
                biased;
                written = async { self.writing.as_mut().expect("guarded by the condition").await }, if self.writing.is_some() => {
                    self.writing = None;
                    let rows = written.map_err(|_| StoreError::Gone)??;
                    if self.written(rows).await {
                        return Ok(());
                    }
                }
                count = inbox.recv_many(&mut messages, QUEUE) => {
                    if count == 0 {
                        return Err(StoreError::Gone);
                    }
                    for message in messages.drain(..) {
                        self.message(message).await?;
                    }
                }
                () = sleep_until(timer) => {
                    let now = self.now();
                    if self.run.wake_at(now).is_some_and(|at| at <= now) {
                        let effects = self.run.step(now, Event::Tick);
                        self.perform(effects).await;
                    }
                }
            }
            self.show_progress();
        }
    }

    async fn message(&mut self, message: RunMessage) -> Result<(), StoreError> {
        match message {
            RunMessage::Event(event) => {
                let effects = self.run.step(self.now(), event);
                self.perform(effects).await;
            }
            RunMessage::Agent { joined, outbox } => {
                if !self.history_loaded {
                    self.history_loaded = true;
                    self.load_history(&joined).await?;
                }
                self.outboxes.insert(joined.agent, outbox);
                let effects = self.run.step(self.now(), joined.into());
                self.perform(effects).await;
            }
            RunMessage::Watch {
                rows,
                events,
                attached,
            } => {
                if attached.send((self.seat.handle, self.stored)).is_ok() {
                    self.watchers.push(Watcher { events, rows });
                    self.dirty = true;
                }
            }
        }
        Ok(())
    }

    async fn load_history(&mut self, joined: &AgentJoined) -> Result<(), StoreError> {
        let opened = &self.run.record().opened;
        let query = HistoryQuery {
            project: opened.project.clone(),
            suite: opened.suite.clone(),
            command: command_digest(opened),
            environment_class: joined.environment_class.clone(),
            slots: joined.slots,
        };
        let history = self.seat.store.history(query).await?;
        let effects = self.run.step(self.now(), Event::History(history));
        self.perform(effects).await;
        Ok(())
    }

    async fn perform(&mut self, effects: Vec<Effect>) {
        self.dirty |= !effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Append(batch) => {
                    self.rows.push(batch.encode_to_vec());
                    self.appended += 1;
                }
                Effect::StoreText { bytes, .. } => self.texts.extend(bytes),
                Effect::CallWhenStored => self.gated.push_back((self.appended, Gated::Stored)),
                Effect::Ack { agent, sequence } => {
                    self.gated
                        .push_back((self.appended, Gated::Ack { agent, sequence }));
                }
                Effect::Close => self.gated.push_back((self.appended, Gated::Close)),
                Effect::Send { agent, command } => self.send(agent, command).await,
                Effect::Show(show) => self.show(show),
            }
        }
    }

    async fn send(&mut self, agent: AgentId, command: Command) {
        let message = wire::command(command, &self.seat.opening);
        if let Some(outbox) = self.outboxes.get(&agent)
            && outbox.send(message).await.is_err()
        {
            // The session's own task reports that the agent is gone.
            self.outboxes.remove(&agent);
        }
    }

    /// Starts the next append, if there is something to append and none is under way.
    fn write(&mut self) {
        if self.writing.is_some() || self.rows.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut self.rows);
        let texts = std::mem::take(&mut self.texts);
        let store = self.seat.store.clone();
        let handle = self.seat.handle;
        let directory = self.seat.directory.clone();
        self.writing = Some(tokio::spawn(async move {
            if !texts.is_empty() {
                let path = directory.join(report::OUTPUTS);
                let written =
                    tokio::task::spawn_blocking(move || append_texts(&path, &texts)).await;
                written
                    .map_err(|_| StoreError::Gone)?
                    .map_err(|source| StoreError::Directory {
                        path: directory,
                        source,
                    })?;
            }
            store.append(handle, rows.clone()).await?;
            Ok(rows)
        }));
    }

    /// An append is durable: release what waited for it. True once the run is closed and all of it is stored.
    async fn written(&mut self, rows: Vec<Vec<u8>>) -> bool {
        for payload in rows {
            self.stored += 1;
            let row = v1::LedgerRow {
                sequence: self.stored,
                payload,
            };
            self.watchers.retain(|watcher| {
                !watcher.rows || offer(&watcher.events, Watched::Row(row.clone()))
            });
        }
        while let Some((after, _)) = self.gated.front()
            && *after <= self.stored
        {
            match self.gated.pop_front() {
                Some((_, Gated::Ack { agent, sequence })) => {
                    if let Some(outbox) = self.outboxes.get(&agent) {
                        let body = v1::coordinator_message::Body::Ack(v1::Ack { sequence });
                        outbox
                            .send(v1::CoordinatorMessage { body: Some(body) })
                            .await
                            .ok();
                    }
                }
                Some((_, Gated::Stored)) => {
                    let effects = self.run.step(self.now(), Event::Stored);
                    self.perform(effects).await;
                }
                Some((_, Gated::Close)) => return true,
                None => {}
            }
        }
        false
    }

    fn show(&mut self, show: Show) {
        let body = match show {
            Show::Failure {
                id,
                outcome,
                shard,
                duration,
                text,
            } => Watched::Failure(v1::Failure {
                id,
                outcome: wire::outcome_out(outcome) as i32,
                shard,
                duration_us: duration.0,
                text: Some(wire::case_text_out(text)),
            }),
            Show::Notice { level, text } => Watched::Notice(v1::Notice {
                level: wire::level_out(level) as i32,
                text,
            }),
        };
        self.watchers
            .retain(|watcher| offer(&watcher.events, body.clone()));
    }

    fn show_progress(&mut self) {
        if !self.dirty || self.watchers.is_empty() || self.shown.elapsed() < PROGRESS {
            return;
        }
        self.dirty = false;
        self.shown = Instant::now();
        let progress = self.run.progress(self.now());
        let body = Watched::Progress(v1::Progress {
            elapsed_us: progress.elapsed.0,
            expected_left_us: progress.expected_left.unwrap_or_default().0,
            units: progress.units,
            units_done: progress.units_done,
            cases_known: progress.totals.tests,
            passed: progress.totals.passed,
            failed: progress.totals.failed,
            errors: progress.totals.errors,
            skipped: progress.totals.skipped,
            running: progress
                .running
                .into_iter()
                .map(|(shard, what, since)| v1::Running {
                    shard,
                    what,
                    since_us: since.0,
                })
                .collect(),
            phase: progress.phase.to_owned(),
        });
        self.watchers
            .retain(|watcher| offer(&watcher.events, body.clone()));
    }

    /// The last thing: reports and history are written, then everybody hears how it ended.
    async fn finish(self, failed: Option<StoreError>) {
        let RunTask {
            seat,
            run,
            watchers,
            outboxes,
            ..
        } = self;
        let mut last = ended(&run);
        let record = std::sync::Arc::new(run.into_record());
        let failed = match failed {
            Some(error) => Some(error_chain(&error)),
            None => write_everything(&seat, record).await.err(),
        };
        if let Some(reason) = failed {
            // Not a test's failure and never a pass.
            last.verdict = "incomplete".to_owned();
            last.exit_code = 3;
            last.message = format!("the run's record could not be written: {reason}");
            for outbox in outboxes.values() {
                let close = wire::command(Command::Close { abort: true }, &seat.opening);
                outbox.send(close).await.ok();
            }
        }
        for watcher in &watchers {
            let body = Some(Watched::Ended(last.clone()));
            watcher.events.send(v1::WatchEvent { body }).await.ok();
        }
        if let Some(hub) = seat.hub.upgrade() {
            hub.send(HubMessage::RunEnded {
                run: seat.opening.run.clone(),
                ended: last,
            })
            .await
            .ok();
        }
    }
}

async fn write_everything(
    seat: &RunSeat,
    record: std::sync::Arc<crate::record::Record>,
) -> Result<(), String> {
    let directory = seat.directory.clone();
    let reported = record.clone();
    let reports = tokio::task::spawn_blocking(move || report::write_all(&reported, &directory));
    let closed = record.closed.clone().unwrap_or_default();
    let samples = if seat.keep_history {
        samples_of(&record, command_digest(&record.opened))
    } else {
        Vec::new()
    };
    let kept = seat
        .store
        .close_run(seat.handle, &closed, record.totals(), samples)
        .await;
    reports
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error_chain(&error))?;
    kept.map_err(|error| error_chain(&error))
}

/// What of a run's suite decides how long its units take.
fn command_digest(opened: &l::RunOpened) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for word in &opened.command {
        hasher
            .update(&(word.len() as u64).to_le_bytes())
            .update(word.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// A watcher that does not keep up is dropped; it attaches again from its cursor.
fn offer(events: &mpsc::Sender<v1::WatchEvent>, body: Watched) -> bool {
    events.try_send(v1::WatchEvent { body: Some(body) }).is_ok()
}

fn append_texts(path: &std::path::Path, texts: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    file.write_all(texts)?;
    file.sync_data()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
