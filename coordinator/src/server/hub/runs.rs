//! Runs at the hub: submitted, taken up, found and ended.

use super::{Agent, COMING_BACK, Found, Hub, HubMessage, LiveRun, REMEMBERED, names};
use crate::run::AgentId;
use crate::server::run_task::RunSeat;
use crate::server::seats::{Claim, Member, Seat};
use crate::server::submission::Submission;
use crate::server::{metrics, run_task};
use evenkeel_proto::v1;
use evenkeel_schedule::Micros;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

impl Hub {
    pub(super) fn submit(
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
    pub(super) fn take_up(&mut self, mut opened: run_task::Opened) {
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
        for agent in self.agents.keys().copied().collect::<Vec<_>>() {
            self.tell_of_its_run(agent);
        }
        self.tell_matching();
        self.look_soon();
    }

    /// An agent that a recovered run waits for, under the number that it has from now on.
    pub(super) fn await_agent(&mut self, incarnation: &str, run: u64, due: Instant) -> AgentId {
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

    pub(super) fn number_agent(&mut self, incarnation: &str) -> AgentId {
        let id = AgentId(self.next_agent);
        self.next_agent += 1;
        self.by_incarnation.insert(incarnation.to_owned(), id);
        id
    }

    pub(super) fn ended(&mut self, run: u64, ended: Box<v1::Ended>, rows: u64) {
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

    /// What was told of a run that has ended is from now on what its ledger says.
    pub(super) fn forget(&mut self, run: u64) {
        self.ended.retain(|(_, found)| match found {
            Found::Ended { handle, .. } => handle.number() as u64 != run,
            _ => true,
        });
    }

    pub(super) fn find(&self, project: &str, run: &str) -> Result<Found, Status> {
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
}
