//! The hub: which runs there are, which agents, and who serves whom.
//!
//! It never waits for a run, an agent or the store: what takes time is done beside it and comes back as a message.

mod agents;
mod runs;
mod sharing;

use super::doors::{HubDoor, Outbox, RunDoor};
use super::metrics;
use super::run_task;
use super::seats::{Claim, Member};
use super::{Replay, Settings};
use crate::run::AgentId;
use crate::store::{RunHandle, RunKey, Store, StoreError};
use evenkeel_proto::v1;
use evenkeel_schedule::Micros;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Status;

pub(super) enum HubMessage {
    Submit {
        request: Box<v1::SubmitRequest>,
        reply: oneshot::Sender<Result<v1::SubmitResponse, Status>>,
    },
    /// What came of opening a run in the store.
    Opened {
        name: Name,
        opened: Result<Box<run_task::Opened>, Status>,
        reply: oneshot::Sender<Result<v1::SubmitResponse, Status>>,
    },
    Connect {
        arrival: Box<Arrival>,
        reply: oneshot::Sender<Result<Seated, Status>>,
    },
    /// A session is over; its agent may come again.
    Cut {
        agent: AgentId,
        session: u64,
        last_heard: Instant,
    },
    /// Nothing was heard of an agent for too long, or it said goodbye.
    Gone {
        agent: AgentId,
        session: u64,
        reason: String,
        lost: bool,
    },
    Leaving {
        agent: AgentId,
    },
    /// The only run that an agent is for has ended already.
    Dismiss {
        agent: AgentId,
        reason: String,
    },
    /// The run of this number, if this agent serves or served it and it goes on.
    Serves {
        agent: AgentId,
        run: u64,
        reply: oneshot::Sender<Result<Option<RunDoor>, Status>>,
    },
    /// The number of a run that an agent serves, by its id; 0 where there is none.
    Named {
        agent: AgentId,
        run: String,
        reply: oneshot::Sender<u64>,
    },
    Find {
        project: String,
        run: String,
        reply: oneshot::Sender<Result<Found, Status>>,
    },
    Live {
        reply: oneshot::Sender<BTreeSet<i64>>,
    },
}

/// What runs tell the hub.
pub(super) enum Notice {
    Free {
        run: u64,
        agent: AgentId,
        slot: u32,
        unfit: bool,
    },
    Appetite {
        run: u64,
        slots: u32,
    },
    /// An agent's session must end.
    Cut {
        agent: AgentId,
        reason: String,
    },
    Ended {
        run: u64,
        ended: Box<v1::Ended>,
        /// How many rows it has.
        rows: u64,
    },
    /// The end of a run is in its ledger, where it was not when it was told.
    Written {
        run: u64,
    },
}

/// Project and id.
pub(super) type Name = (String, String);

/// An agent that says hello.
pub(super) struct Arrival {
    pub hello: v1::Hello,
    pub version: u32,
    pub environment_class: String,
    pub outbox: Outbox,
    /// Whether it has shown to be the incarnation that it says it is.
    pub proven: bool,
}

/// An agent's place at the hub.
pub(super) struct Seated {
    pub agent: AgentId,
    pub session: u64,
    /// Ends with the session: when another one of the same agent has taken its place, or it is told to end.
    pub ends: oneshot::Receiver<()>,
}

/// Where a run can be reached, or what is left of it.
#[derive(Clone)]
pub(super) enum Found {
    Live(RunDoor),
    Ended {
        ended: Box<v1::Ended>,
        directory: PathBuf,
        handle: RunHandle,
        rows: u64,
    },
    /// Not of this process: the store may know it.
    Unknown,
}

struct Agent {
    name: String,
    incarnation: String,
    environment_class: String,
    clock: Micros,
    member: Member,
    /// Absent while it is cut off.
    outbox: Option<Outbox>,
    session: u64,
    /// Dropped, it ends the session.
    _ends: Option<oneshot::Sender<()>>,
    /// When it is given up, unless it comes back.
    due: Option<Instant>,
    /// Runs that it serves, or that await it.
    runs: BTreeSet<u64>,
}

struct LiveRun {
    door: RunDoor,
    name: Name,
    claim: Claim,
    suites: Vec<evenkeel_proto::suite::Suite>,
    handle: RunHandle,
    directory: PathBuf,
}

pub(super) struct Hub {
    store: Store,
    settings: Settings,
    replay: Option<Replay>,
    inbox: mpsc::WeakSender<HubMessage>,
    notices: HubDoor,
    agents: BTreeMap<AgentId, Agent>,
    by_incarnation: HashMap<String, AgentId>,
    next_agent: u64,
    next_session: u64,
    runs: BTreeMap<u64, LiveRun>,
    names: BTreeMap<Name, u64>,
    /// Runs that are being opened.
    opening: BTreeSet<Name>,
    /// The last that ended, as they are still asked for.
    ended: VecDeque<(Name, Found)>,
    /// When it is to be looked again who should have what, and when that was done last.
    look: Option<Instant>,
    shared: Instant,
}

/// How many messages may wait for the hub.
const QUEUE: usize = 1024;
/// So many runs that ended are kept at hand; the store has all.
const REMEMBERED: usize = 64;
/// Where some run has less than it wants, it is looked this often whether it is another's turn.
const TURN: Duration = Duration::from_secs(2);
/// Who was there before a restart has at least this long to come back.
const COMING_BACK: Duration = Duration::from_secs(15);

/// Runs that go on from before, with the agents that they await.
pub(super) fn spawn(
    store: Store,
    settings: Settings,
    replay: Option<Replay>,
    recovered: Vec<run_task::Opened>,
) -> mpsc::Sender<HubMessage> {
    let (sender, mut inbox) = mpsc::channel(QUEUE);
    let (notices, mut noticed) = mpsc::unbounded_channel();
    let mut hub = Hub {
        store,
        settings,
        replay,
        inbox: sender.downgrade(),
        notices: HubDoor(notices),
        agents: BTreeMap::new(),
        by_incarnation: HashMap::new(),
        next_agent: 1,
        next_session: 1,
        runs: BTreeMap::new(),
        names: BTreeMap::new(),
        opening: BTreeSet::new(),
        ended: VecDeque::new(),
        look: None,
        shared: Instant::now(),
    };
    for opened in recovered {
        hub.take_up(opened);
    }
    tokio::spawn(async move {
        loop {
            let due = hub.due();
            tokio::select! {
                biased;
                Some(notice) = noticed.recv() => hub.notice(notice),
                message = inbox.recv() => match message {
                    Some(message) => hub.handle(message),
                    None => return,
                },
                () = sleep_until(due) => {}
            }
            hub.give_up_overdue();
            // What came together is answered together.
            while let Ok(notice) = noticed.try_recv() {
                hub.notice(notice);
            }
            if hub.look.is_some_and(|at| at <= Instant::now()) {
                hub.share();
                hub.count();
            }
        }
    });
    sender
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Hub {
    fn handle(&mut self, message: HubMessage) {
        match message {
            HubMessage::Submit { request, reply } => self.submit(*request, reply),
            HubMessage::Opened {
                name,
                opened,
                reply,
            } => {
                self.opening.remove(&name);
                let response = opened.map(|opened| {
                    self.take_up(*opened);
                    v1::SubmitResponse {
                        run: name.1,
                        round: 1,
                        attached: false,
                    }
                });
                reply.send(response).ok();
            }
            HubMessage::Connect { arrival, reply } => {
                let seated = self.connect(*arrival);
                reply.send(seated).ok();
            }
            HubMessage::Cut {
                agent,
                session,
                last_heard,
            } => self.cut(agent, session, last_heard),
            HubMessage::Gone {
                agent,
                session,
                reason,
                lost,
            } => {
                if self.is_session(agent, session) {
                    self.gone(agent, &reason, lost);
                }
            }
            HubMessage::Leaving { agent } => self.leaving(agent),
            HubMessage::Dismiss { agent, reason } => self.dismiss(agent, reason, false),
            HubMessage::Serves { agent, run, reply } => {
                let serves = self
                    .agents
                    .get(&agent)
                    .is_some_and(|agent| agent.runs.contains(&run));
                let answer = match self.runs.get(&run) {
                    Some(live) if serves => Ok(Some(live.door.clone())),
                    Some(_) => Err(Status::permission_denied(format!(
                        "this agent does not serve run {run}"
                    ))),
                    None => Ok(None),
                };
                reply.send(answer).ok();
            }
            HubMessage::Named { agent, run, reply } => {
                let own = self.agents.get(&agent).map(|agent| &agent.runs);
                let mut own = own.into_iter().flatten();
                let named = own.find(|number| {
                    let live = self.runs.get(number);
                    live.is_some_and(|live| live.name.1 == run)
                });
                reply.send(named.copied().unwrap_or_default()).ok();
            }
            HubMessage::Find {
                project,
                run,
                reply,
            } => {
                reply.send(self.find(&project, &run)).ok();
            }
            HubMessage::Live { reply } => {
                let live = self.runs.values().map(|run| run.handle.number());
                reply.send(live.collect()).ok();
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Free {
                run,
                agent,
                slot,
                unfit,
            } => {
                if unfit && let Some(live) = self.runs.get_mut(&run) {
                    live.claim.unfit.insert(agent);
                }
                if let Some(known) = self.agents.get_mut(&agent) {
                    sharing::free(&mut known.member.seats, slot, run);
                    self.look_soon();
                }
            }
            Notice::Appetite { run, slots } => {
                let Some(live) = self.runs.get_mut(&run) else {
                    return;
                };
                let before = std::mem::replace(&mut live.claim.appetite, slots);
                let seats = self.agents.values().flat_map(|agent| &agent.member.seats);
                if sharing::is_worth_a_look(self.runs.len(), (before, slots), seats) {
                    self.look_soon();
                }
            }
            Notice::Cut { agent, reason } => {
                if let Some(known) = self.agents.get(&agent) {
                    metrics::agent_refused();
                    tracing::warn!(agent = known.name, "session ended: {reason}");
                    if let Some(outbox) = &known.outbox {
                        outbox.end(Status::data_loss(reason));
                    }
                    let session = known.session;
                    self.cut(agent, session, Instant::now());
                }
            }
            Notice::Ended { run, ended, rows } => self.ended(run, ended, rows),
            Notice::Written { run } => self.forget(run),
        }
    }

    fn look_soon(&mut self) {
        self.look = Some(Instant::now());
    }

    fn due(&self) -> Option<Instant> {
        let agents = self.agents.values().filter_map(|agent| agent.due);
        agents.chain(self.look).min()
    }
}

/// Whether a name, of which the project may be left open, is this one.
fn names(wanted: &Name, name: &Name) -> bool {
    wanted.1 == name.1 && (wanted.0.is_empty() || wanted.0 == name.0)
}

/// Why a store that fails does so, for who asked.
pub(super) fn failed(error: &StoreError) -> Status {
    match error {
        StoreError::Exists { run } => Status::already_exists(format!(
            "run {run} exists already, and \"evenkeel show {run}\" tells how it went; choose another --run-id"
        )),
        // Who asks again finds the one that has.
        StoreError::Superseded { .. } => Status::unavailable(error.to_string()),
        error => Status::internal(crate::server::error_chain(error)),
    }
}

/// The key of a run in the store.
pub(super) fn key(name: &Name) -> RunKey {
    RunKey {
        project: name.0.clone(),
        run: name.1.clone(),
        round: 1,
    }
}
