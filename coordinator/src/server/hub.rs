//! The hub: which runs there are, which agents, and who serves whom.

use super::run_task::{self, RunMessage, RunSeat};
use super::{Replay, Settings};
use crate::run::{self, AgentId, AgentJoined, Event};
use crate::store::{RunHandle, RunKey, Store, StoreError};
use crate::wire::Opening;
use evenkeel_proto::{ledger as l, suite::Suite, v1};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

pub(super) enum HubMessage {
    Submit {
        request: v1::SubmitRequest,
        reply: oneshot::Sender<Result<v1::SubmitResponse, Status>>,
    },
    AgentConnected {
        joined: AgentJoined,
        outbox: mpsc::Sender<v1::CoordinatorMessage>,
    },
    AgentGone {
        agent: AgentId,
        reason: String,
        lost: bool,
    },
    NextAgent {
        reply: oneshot::Sender<AgentId>,
    },
    Find {
        run: String,
        reply: oneshot::Sender<Option<Found>>,
    },
    Payloads {
        run: RunHandle,
        after: u64,
        until: u64,
        reply: oneshot::Sender<Result<Vec<Vec<u8>>, StoreError>>,
    },
    RunEnded {
        run: String,
        ended: v1::Ended,
        /// Where its rows are, and how many.
        handle: RunHandle,
        rows: u64,
    },
}

/// Where a run can be reached, or what is left of it.
#[derive(Clone)]
pub(super) enum Found {
    Live(mpsc::Sender<RunMessage>),
    Ended {
        ended: Box<v1::Ended>,
        directory: PathBuf,
        handle: RunHandle,
        rows: u64,
    },
}

struct Agent {
    joined: AgentJoined,
    outbox: mpsc::Sender<v1::CoordinatorMessage>,
    run: Option<String>,
}

struct Hub {
    store: Store,
    settings: Settings,
    replay: Option<Replay>,
    inbox: mpsc::WeakSender<HubMessage>,
    agents: BTreeMap<AgentId, Agent>,
    next_agent: u64,
    /// In the order in which they came; agents serve the first.
    order: VecDeque<String>,
    runs: BTreeMap<String, (Found, PathBuf)>,
}

/// How many messages may wait for the hub.
const QUEUE: usize = 1024;

pub(super) fn spawn(
    store: Store,
    settings: Settings,
    replay: Option<Replay>,
) -> mpsc::Sender<HubMessage> {
    let (sender, mut inbox) = mpsc::channel(QUEUE);
    let mut hub = Hub {
        store,
        settings,
        replay,
        inbox: sender.downgrade(),
        agents: BTreeMap::new(),
        next_agent: 1,
        order: VecDeque::new(),
        runs: BTreeMap::new(),
    };
    tokio::spawn(async move {
        while let Some(message) = inbox.recv().await {
            hub.handle(message).await;
        }
    });
    sender
}

impl Hub {
    async fn handle(&mut self, message: HubMessage) {
        match message {
            HubMessage::Submit { request, reply } => {
                let response = self.submit(request).await;
                reply.send(response).ok();
                self.assign().await;
            }
            HubMessage::NextAgent { reply } => {
                let agent = AgentId(self.next_agent);
                self.next_agent += 1;
                reply.send(agent).ok();
            }
            HubMessage::AgentConnected { joined, outbox } => {
                self.agents.insert(
                    joined.agent,
                    Agent {
                        joined,
                        outbox,
                        run: None,
                    },
                );
                self.assign().await;
            }
            HubMessage::AgentGone {
                agent,
                reason,
                lost,
            } => {
                let run = self.agents.remove(&agent).and_then(|agent| agent.run);
                if let Some((Found::Live(events), _)) = run.and_then(|run| self.runs.get(&run)) {
                    let event = Event::AgentGone {
                        agent,
                        reason,
                        lost,
                    };
                    events.send(RunMessage::Event(event)).await.ok();
                }
            }
            HubMessage::Find { run, reply } => {
                reply
                    .send(self.runs.get(&run).map(|(found, _)| found.clone()))
                    .ok();
            }
            HubMessage::Payloads {
                run,
                after,
                until,
                reply,
            } => {
                reply
                    .send(self.store.payloads(run, after, until).await)
                    .ok();
            }
            HubMessage::RunEnded {
                run,
                ended,
                handle,
                rows,
            } => {
                self.order.retain(|open| *open != run);
                if let Some((found, directory)) = self.runs.get_mut(&run) {
                    *found = Found::Ended {
                        ended: Box::new(ended),
                        directory: directory.clone(),
                        handle,
                        rows,
                    };
                }
                for agent in self
                    .agents
                    .values_mut()
                    .filter(|agent| agent.run.as_ref() == Some(&run))
                {
                    agent.run = None;
                }
                self.assign().await;
            }
        }
    }

    /// Free agents serve the run that came first.
    async fn assign(&mut self) {
        let Some(run) = self.order.front() else {
            return;
        };
        let Some((Found::Live(events), _)) = self.runs.get(run) else {
            return;
        };
        for agent in self.agents.values_mut().filter(|agent| agent.run.is_none()) {
            agent.run = Some(run.clone());
            let message = RunMessage::Agent {
                joined: agent.joined.clone(),
                outbox: agent.outbox.clone(),
            };
            events.send(message).await.ok();
        }
    }

    async fn submit(&mut self, request: v1::SubmitRequest) -> Result<v1::SubmitResponse, Status> {
        let suites = request.suites;
        check_suites(&suites).map_err(Status::invalid_argument)?;
        let rules = run::Rules::new(&suites)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let now = unix_us();
        let run = if request.run.is_empty() {
            run_id(now)
        } else {
            request.run
        };
        check_run_id(&run).map_err(Status::invalid_argument)?;
        let project = request.project.clone();
        let commit = request.commit.unwrap_or_default();
        let opened = l::RunOpened {
            project: request.project,
            run: run.clone(),
            round: 1,
            opened_unix_us: now,
            seed: request.seed,
            max_fail: request.max_fail,
            commit: commit.id,
            branch: commit.branch,
            changes: commit.changes,
            evenkeel: request.evenkeel,
            suites,
            ..l::RunOpened::default()
        };
        let settings = run::Settings {
            max_fail: request.max_fail,
            closed_shop: self.settings.closed_shop,
            script: self.replay.as_ref().map(|replay| replay.script.clone()),
        };
        let opening = Opening {
            run: run.clone(),
            kinds: rules.kinds(),
            seed: request.seed,
            identity: self.replay.as_ref().map(|replay| replay.identity),
        };
        let (state, effects) = run::Run::open(opened, rules, settings);
        let (rows, effects) = run_task::first_rows(effects);
        let stored = rows.len() as u64;
        let key = RunKey {
            project,
            run: run.clone(),
            round: 1,
        };
        let handle = match self
            .store
            .open_run(key, now, state.record().suites(), rows)
            .await
        {
            Ok(handle) => handle,
            Err(StoreError::Exists { run }) => {
                return Err(Status::already_exists(format!(
                    "run {run} exists already; choose another --run-id"
                )));
            }
            Err(error) => return Err(Status::internal(error_chain(&error))),
        };
        let directory = self.store.run_directory(handle);
        let seat = RunSeat {
            store: self.store.clone(),
            handle,
            directory: directory.clone(),
            hub: self.inbox.clone(),
            opening,
            keep_history: !self.settings.ephemeral,
        };
        let events = run_task::spawn(seat, state, stored, effects);
        self.runs
            .insert(run.clone(), (Found::Live(events), directory));
        self.order.push_back(run.clone());
        Ok(v1::SubmitResponse { run, round: 1 })
    }
}

fn unix_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A run has suites, each with a command and a name of its own.
fn check_suites(suites: &[Suite]) -> Result<(), String> {
    if suites.is_empty() {
        return Err("a submission needs a suite".to_owned());
    }
    for (number, suite) in suites.iter().enumerate() {
        if suite.command.is_empty() {
            return Err(format!("the command of suite {:?} is empty", suite.name));
        }
        if suites[..number]
            .iter()
            .any(|other| other.name == suite.name)
        {
            return Err(format!("two suites are named {:?}", suite.name));
        }
    }
    Ok(())
}

/// Date, time and four random characters: sorts by age, short enough to type.
fn run_id(unix_us: u64) -> String {
    let seconds = jiff::Timestamp::from_second((unix_us / 1_000_000) as i64).unwrap_or_default();
    let salt = blake3::hash(
        &[
            unix_us.to_le_bytes(),
            u64::from(std::process::id()).to_le_bytes(),
        ]
        .concat(),
    );
    format!(
        "{}-{}",
        seconds.strftime("%Y%m%d-%H%M%S"),
        &salt.to_hex()[..4]
    )
}

/// Run ids become parts of file names, commands and environment variables.
fn check_run_id(run: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let fits =
        (1..=128).contains(&run.len()) && run.chars().all(allowed) && !run.starts_with(['.', '-']);
    if fits {
        return Ok(());
    }
    Err(format!(
        "{run:?} is no run id: up to 128 letters, digits and - _ . : are allowed, the first neither '.' nor '-'"
    ))
}

/// An error and its sources in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
