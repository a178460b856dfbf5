//! The hub: which runs there are, which agents, and who serves whom.
//!
//! It never waits for a run, an agent or the store: what takes time is done beside it and comes back as a message.

use super::doors::{HubDoor, Outbox, RunDoor};
use super::metrics;
use super::run_task::{self, RunMessage, RunSeat};
use super::seats::{Claim, Member, Seat, share};
use super::submission::Submission;
use super::{Replay, Settings};
use crate::run::{AgentBack, AgentId, AgentJoined, Event};
use crate::store::{RunHandle, RunKey, Store, StoreError};
use evenkeel_proto::v1;
use evenkeel_schedule::Micros;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use v1::coordinator_message::Body as Out;

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
        Some(at) => tokio::time::sleep_until(at.into()).await,
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
                    free(&mut known.member.seats, slot, run);
                    self.look_soon();
                }
            }
            Notice::Appetite { run, slots } => {
                let several = self.runs.len() > 1;
                if let Some(live) = self.runs.get_mut(&run) {
                    live.claim.appetite = slots;
                    if several {
                        self.look_soon();
                    }
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
        }
    }

    fn look_soon(&mut self) {
        self.look = Some(Instant::now());
    }

    fn due(&self) -> Option<Instant> {
        let agents = self.agents.values().filter_map(|agent| agent.due);
        agents.chain(self.look).min()
    }

    // ------------------------------------------------------------ runs

    fn submit(
        &mut self,
        request: v1::SubmitRequest,
        reply: oneshot::Sender<Result<v1::SubmitResponse, Status>>,
    ) {
        let submission = match Submission::check(request, &self.settings, self.replay.as_ref()) {
            Ok(submission) => submission,
            Err(status) => {
                reply.send(Err(status)).ok();
                return;
            }
        };
        let name = submission.name();
        if let Some(live) = self
            .names
            .get(&name)
            .and_then(|number| self.runs.get(number))
        {
            let same = live.suites == submission.opened.suites;
            reply
                .send(if same {
                    Ok(v1::SubmitResponse {
                        run: name.1,
                        round: 1,
                        attached: true,
                    })
                } else {
                    Err(Status::already_exists(format!(
                        "run {} is running with other suites; choose another --run-id",
                        name.1
                    )))
                })
                .ok();
            return;
        }
        if !self.opening.insert(name.clone()) {
            let status = format!("run {} is being opened; try again", name.1);
            reply.send(Err(Status::unavailable(status))).ok();
            return;
        }
        let (store, inbox) = (self.store.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let opened = submission.open(&store).await.map(Box::new);
            if let Some(inbox) = inbox.upgrade() {
                let message = HubMessage::Opened {
                    name,
                    opened,
                    reply,
                };
                inbox.send(message).await.ok();
            }
        });
    }

    /// A run that is in the store goes on from here.
    fn take_up(&mut self, mut opened: run_task::Opened) {
        let number = opened.handle.number() as u64;
        let record = opened.run.record();
        let name = (record.opened.project.clone(), record.opened.run.clone());
        let claim = Claim {
            project: name.0.clone(),
            run: name.1.clone(),
            priority: record.opened.priority,
            labels: record.opened.labels.clone(),
            appetite: opened.run.appetite(),
            unfit: BTreeSet::new(),
            served: 0.0,
        };
        let suites = record.opened.suites.clone();
        let due = Instant::now() + self.settings.lost_after.max(COMING_BACK);
        opened
            .run
            .number_awaited(|incarnation| self.await_agent(incarnation, number, due));
        let directory = self.store.run_directory(opened.handle);
        let handle = opened.handle;
        let seat = RunSeat {
            store: self.store.clone(),
            handle,
            directory: directory.clone(),
            hub: self.notices.clone(),
            opening: opened.opening.clone(),
            keep_history: !self.settings.ephemeral,
        };
        let door = run_task::spawn(seat, opened);
        self.names.insert(name.clone(), number);
        tracing::info!(run = name.1, project = name.0, number, "run opened");
        let live = LiveRun {
            door,
            name,
            claim,
            suites,
            handle,
            directory,
        };
        self.runs.insert(number, live);
        metrics::runs(self.runs.len());
        self.tell_matching();
        self.look_soon();
    }

    /// An agent that a recovered run waits for, under the number that it has from now on.
    fn await_agent(&mut self, incarnation: &str, run: u64, due: Instant) -> AgentId {
        let known = self.by_incarnation.get(incarnation).copied();
        let id = known.unwrap_or_else(|| {
            let id = self.number_agent(incarnation);
            let member = Member {
                labels: BTreeMap::new(),
                only: None,
                serves: false,
                shares: true,
                seats: Vec::new(),
            };
            self.agents.insert(
                id,
                Agent {
                    name: String::new(),
                    incarnation: incarnation.to_owned(),
                    environment_class: String::new(),
                    clock: Micros::ZERO,
                    member,
                    outbox: None,
                    session: 0,
                    _ends: None,
                    due: Some(due),
                    runs: BTreeSet::new(),
                },
            );
            id
        });
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.runs.insert(run);
        }
        id
    }

    fn number_agent(&mut self, incarnation: &str) -> AgentId {
        let id = AgentId(self.next_agent);
        self.next_agent += 1;
        self.by_incarnation.insert(incarnation.to_owned(), id);
        id
    }

    fn ended(&mut self, run: u64, ended: Box<v1::Ended>, rows: u64) {
        let Some(live) = self.runs.remove(&run) else {
            return;
        };
        self.names.remove(&live.name);
        metrics::run_ended(&ended.verdict);
        metrics::runs(self.runs.len());
        tracing::info!(
            run = live.name.1,
            project = live.name.0,
            verdict = ended.verdict,
            "run ended"
        );
        let reason = format!("run {} has ended: {}", live.name.1, ended.verdict);
        let found = Found::Ended {
            ended,
            directory: live.directory,
            handle: live.handle,
            rows,
        };
        self.ended.push_back((live.name.clone(), found));
        if self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
        let mut dismissed = Vec::new();
        for (id, agent) in &mut self.agents {
            agent.runs.remove(&run);
            for seat in &mut agent.member.seats {
                if seat.run() == Some(run) {
                    *seat = Seat::Free;
                }
            }
            let only = agent.member.only.as_ref();
            if only.is_some_and(|only| names(only, &live.name)) {
                dismissed.push(*id);
            }
        }
        for agent in dismissed {
            let failed = live.claim.unfit.contains(&agent);
            self.dismiss(agent, reason.clone(), failed);
        }
        self.look_soon();
    }

    fn find(&self, project: &str, run: &str) -> Result<Found, Status> {
        let wanted = (project.to_owned(), run.to_owned());
        let live: Vec<&LiveRun> = self
            .runs
            .values()
            .filter(|live| names(&wanted, &live.name))
            .collect();
        match live.as_slice() {
            [only] => return Ok(Found::Live(only.door.clone())),
            [] => {}
            [first, second, ..] => {
                return Err(Status::failed_precondition(format!(
                    "several runs are named {run}, of the projects {} and {}; name the project",
                    first.name.0, second.name.0
                )));
            }
        }
        let ended = self.ended.iter().rev();
        let ended = ended.clone().find(|(name, _)| names(&wanted, name));
        Ok(ended.map_or(Found::Unknown, |(_, found)| found.clone()))
    }

    // ------------------------------------------------------------ agents

    fn is_session(&self, agent: AgentId, session: u64) -> bool {
        let known = self.agents.get(&agent);
        known.is_some_and(|agent| agent.session == session)
    }

    fn connect(&mut self, arrival: Arrival) -> Result<Seated, Status> {
        let Arrival {
            hello,
            version,
            environment_class,
            outbox,
            proven,
        } = arrival;
        let known = self.by_incarnation.get(&hello.incarnation).copied();
        if known.is_some() && !proven {
            return Err(Status::permission_denied(
                "another agent has this incarnation, and this one cannot show that it is the same",
            ));
        }
        let id = known.unwrap_or_else(|| self.number_agent(&hello.incarnation));
        let session = self.next_session;
        self.next_session += 1;
        let (ends, ended) = oneshot::channel();
        let only = (!hello.run.is_empty()).then(|| (hello.project.clone(), hello.run.clone()));
        let leaving = self
            .agents
            .get(&id)
            .is_some_and(|agent| agent.outbox.is_some() && !agent.member.serves);
        let mut agent = Agent {
            name: hello.agent.clone(),
            incarnation: hello.incarnation.clone(),
            environment_class,
            clock: Micros(hello.clock_us),
            member: Member {
                labels: hello.labels.clone(),
                only: only.clone(),
                serves: !leaving,
                shares: version >= 2,
                seats: vec![Seat::Free; hello.slots as usize],
            },
            outbox: Some(outbox.clone()),
            session,
            _ends: Some(ends),
            due: None,
            runs: BTreeSet::new(),
        };
        let before = self.agents.remove(&id);
        if let Some(before) = &before {
            agent.runs.clone_from(&before.runs);
        }
        // What it has open is its own until the run says otherwise.
        for held in &hello.held {
            let slots = held.slots.iter().copied();
            let slots: Vec<u32> = slots.filter(|slot| *slot < hello.slots).collect();
            let Some(live) = self.runs.get(&held.number) else {
                let close = v1::CloseRun {
                    run: String::new(),
                    abort: true,
                };
                let message = v1::CoordinatorMessage {
                    body: Some(Out::CloseRun(close)),
                    run: held.number,
                };
                if !outbox.send(message) {
                    return Err(Status::resource_exhausted("it holds too many runs"));
                }
                continue;
            };
            for slot in &slots {
                agent.member.seats[*slot as usize] = Seat::Serves(held.number);
            }
            agent.runs.insert(held.number);
            live.door.tell(RunMessage::Back {
                back: AgentBack {
                    agent: id,
                    incarnation: hello.incarnation.clone(),
                    opening: held.opening,
                    slots,
                    clock: Micros(hello.clock_us),
                },
                outbox: outbox.clone(),
            });
        }
        // What it was given and does not know of.
        for run in agent.runs.clone() {
            if hello.held.iter().any(|held| held.number == run) {
                continue;
            }
            agent.runs.remove(&run);
            if let Some(live) = self.runs.get(&run) {
                let reason = "it came back without what it had".to_owned();
                live.door.event(Event::AgentGone {
                    agent: id,
                    reason,
                    lost: true,
                });
            }
        }
        tracing::info!(
            agent = agent.name,
            slots = agent.member.seats.len(),
            again = known.is_some(),
            "agent connected"
        );
        self.agents.insert(id, agent);
        if let Some(only) = only {
            self.look_for_its_run(id, only);
        }
        self.tell_matching();
        self.look_soon();
        Ok(Seated {
            agent: id,
            session,
            ends: ended,
        })
    }

    /// An agent that is for one run only may have come when that is over.
    fn look_for_its_run(&self, agent: AgentId, only: Name) {
        if self.runs.values().any(|live| names(&only, &live.name)) {
            return;
        }
        let (store, inbox) = (self.store.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let project = Some(only.0.as_str()).filter(|project| !project.is_empty());
            let Ok(found) = store.find(project, &only.1).await else {
                return;
            };
            let mut ended = found.iter().filter(|row| row.key.run == only.1);
            let Some(closed) = ended.find_map(|row| row.closed.as_ref()) else {
                return;
            };
            let reason = format!("run {} has ended: {}", only.1, closed.verdict);
            if let Some(inbox) = inbox.upgrade() {
                inbox.send(HubMessage::Dismiss { agent, reason }).await.ok();
            }
        });
    }

    fn dismiss(&mut self, agent: AgentId, reason: String, failed: bool) {
        let Some(agent) = self.agents.get_mut(&agent) else {
            return;
        };
        agent.member.serves = false;
        if let Some(outbox) = &agent.outbox {
            let dismiss = v1::Dismiss { reason, failed };
            // One that does not listen goes by itself.
            let _ = outbox.send(Outbox::body(Out::Dismiss(dismiss)));
        }
    }

    fn cut(&mut self, id: AgentId, session: u64, last_heard: Instant) {
        if !self.is_session(id, session) {
            return;
        }
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        if agent.outbox.take().is_none() {
            return;
        }
        agent._ends = None;
        if agent.runs.is_empty() {
            self.gone(id, "its connection is gone", false);
            return;
        }
        agent.due = Some(last_heard + self.settings.lost_after);
        for run in &agent.runs {
            if let Some(live) = self.runs.get(run) {
                live.door.event(Event::AgentCut { agent: id });
            }
        }
        self.tell_matching();
    }

    fn gone(&mut self, id: AgentId, reason: &str, lost: bool) {
        let Some(agent) = self.agents.remove(&id) else {
            return;
        };
        self.by_incarnation.remove(&agent.incarnation);
        if lost {
            metrics::agent_lost();
            tracing::warn!(agent = agent.name, reason, "agent lost");
        } else {
            tracing::info!(agent = agent.name, reason, "agent left");
        }
        for run in &agent.runs {
            if let Some(live) = self.runs.get(run) {
                live.door.event(Event::AgentGone {
                    agent: id,
                    reason: reason.to_owned(),
                    lost,
                });
            }
        }
        self.tell_matching();
        self.look_soon();
    }

    fn give_up_overdue(&mut self) {
        let now = Instant::now();
        let overdue: Vec<AgentId> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.due.is_some_and(|due| due <= now))
            .map(|(id, _)| *id)
            .collect();
        for agent in overdue {
            let reason = format!(
                "nothing was heard of it for {} s",
                self.settings.lost_after.as_secs_f32()
            );
            self.gone(agent, &reason, true);
        }
    }

    /// An agent wants to go: its slots are asked back, and it says goodbye when it has none any more.
    fn leaving(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        agent.member.serves = false;
        for run in agent.runs.clone() {
            let seats = (0..).zip(&mut agent.member.seats);
            let own = seats.filter(|(_, seat)| seat.run() == Some(run));
            let slots: Vec<u32> = own
                .map(|(slot, seat)| {
                    *seat = Seat::Leaves(run);
                    slot
                })
                .collect();
            if let Some(live) = self.runs.get(&run) {
                live.door.event(Event::Release { agent: id, slots });
            }
        }
        self.tell_matching();
    }

    /// Tells runs whether anybody is there who could serve them.
    fn tell_matching(&self) {
        for live in self.runs.values() {
            let mut agents = self.agents.iter();
            let any = agents.any(|(id, agent)| {
                agent.member.serves && agent.outbox.is_some() && live.claim.fits(*id, &agent.member)
            });
            live.door.event(Event::Matching { any });
        }
    }

    // ------------------------------------------------------------ who has what

    fn share(&mut self) {
        self.look = None;
        let now = Instant::now();
        let passed = now.duration_since(self.shared).as_secs_f64();
        self.shared = now;
        if self.runs.is_empty() {
            return;
        }
        let mut members = BTreeMap::new();
        for (id, agent) in &self.agents {
            for seat in &agent.member.seats {
                if let Some(live) = seat.run().and_then(|run| self.runs.get_mut(&run)) {
                    live.claim.served += passed;
                }
            }
            let serves = agent.member.serves && agent.outbox.is_some();
            let member = Member {
                serves,
                ..agent.member.clone()
            };
            members.insert(*id, member);
        }
        let claims: BTreeMap<u64, Claim> = self
            .runs
            .iter()
            .map(|(number, live)| (*number, live.claim.clone()))
            .collect();
        let shares = share(&members, &claims);
        for ((run, id), slots) in shares.give {
            let (Some(agent), Some(live)) = (self.agents.get_mut(&id), self.runs.get(&run)) else {
                continue;
            };
            let Some(outbox) = agent.outbox.clone() else {
                continue;
            };
            for slot in &slots {
                agent.member.seats[*slot as usize] = Seat::Serves(run);
            }
            agent.runs.insert(run);
            let joined = AgentJoined {
                agent: id,
                name: agent.name.clone(),
                incarnation: agent.incarnation.clone(),
                environment_class: agent.environment_class.clone(),
                slots,
                clock: agent.clock,
            };
            live.door.tell(RunMessage::Agent { joined, outbox });
        }
        for (run, (count, agents)) in shares.ask {
            let Some(live) = self.runs.get(&run) else {
                continue;
            };
            // The run knows which it can do without; until it has said so, it is not asked again.
            let mut left = count;
            for id in &agents {
                let Some(agent) = self.agents.get_mut(id) else {
                    continue;
                };
                let seats = agent.member.seats.iter_mut();
                let own: Vec<&mut Seat> = seats
                    .filter(|seat| **seat == Seat::Serves(run))
                    .take(left as usize)
                    .collect();
                left -= own.len() as u32;
                let count = own.len() as u32;
                own.into_iter().for_each(|seat| *seat = Seat::Leaves(run));
                live.door.event(Event::Spare { agent: *id, count });
            }
        }
        if self.runs.len() > 1 {
            self.look = Some(now + TURN);
        }
    }

    /// Counts who is there and who serves.
    fn count(&self) {
        let connected = self.agents.values().filter(|agent| agent.outbox.is_some());
        let seats = connected.clone().flat_map(|agent| &agent.member.seats);
        let serving = seats.clone().filter(|seat| **seat != Seat::Free).count();
        metrics::agents(connected.count(), seats.count() - serving, serving);
    }
}

/// A run has given a slot back. Which one it can do without it knows better than who asked: another one that was marked stays.
fn free(seats: &mut [Seat], slot: u32, run: u64) {
    let Some(seat) = seats
        .get_mut(slot as usize)
        .filter(|seat| seat.run() == Some(run))
    else {
        return;
    };
    let asked = std::mem::replace(seat, Seat::Free) == Seat::Leaves(run);
    if !asked && let Some(marked) = seats.iter_mut().find(|seat| **seat == Seat::Leaves(run)) {
        *marked = Seat::Serves(run);
    }
}

/// Whether a name, of which the project may be left open, is this one.
fn names(wanted: &Name, name: &Name) -> bool {
    wanted.1 == name.1 && (wanted.0.is_empty() || wanted.0 == name.0)
}

/// Why a store that fails does so, for who asked.
pub(super) fn failed(error: &StoreError) -> Status {
    match error {
        StoreError::Exists { run } => {
            Status::already_exists(format!("run {run} exists already; choose another --run-id"))
        }
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
