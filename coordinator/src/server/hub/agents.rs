//! Agents at the hub: who comes, comes back, is cut off, is lost or goes.

use super::{Agent, Arrival, Hub, HubMessage, Name, Seated, names};
use crate::run::{AgentBack, AgentId, Event};
use crate::server::doors::Outbox;
use crate::server::metrics;
use crate::server::planted::{Fault, is_planted};
use crate::server::run_task::RunMessage;
use crate::server::seats::{Member, Seat};
use evenkeel_proto::v1;
use evenkeel_schedule::Micros;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;
use v1::coordinator_message::Body as Out;

/// Where it is looked so much too late for agents that are overdue, this process stood still, and nobody could come back.
const LATE: Duration = Duration::from_millis(250);
/// They have this long from then on.
const AFTER_STANDSTILL: Duration = Duration::from_secs(1);

impl Hub {
    pub(super) fn is_session(&self, agent: AgentId, session: u64) -> bool {
        let known = self.agents.get(&agent);
        known.is_some_and(|agent| agent.session == session)
    }

    pub(super) fn connect(&mut self, arrival: Arrival) -> Result<Seated, Status> {
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
        let mut before = self.agents.remove(&id);
        if is_planted(Fault::TwoSessions) {
            let ends = before.as_mut().and_then(|before| before._ends.take());
            std::mem::forget(ends);
        }
        if let Some(before) = &before {
            agent.runs.clone_from(&before.runs);
        }
        // What it has open is its own until the run says otherwise.
        for held in &hello.held {
            let slots = held.slots.iter().copied();
            let slots: Vec<u32> = slots.filter(|slot| *slot < hello.slots).collect();
            let back = RunMessage::Back {
                back: AgentBack {
                    agent: id,
                    incarnation: hello.incarnation.clone(),
                    opening: held.opening,
                    slots: slots.clone(),
                    clock: Micros(hello.clock_us),
                },
                outbox: outbox.clone(),
            };
            let live = self.runs.get(&held.number);
            if !live.is_some_and(|live| live.door.tell(back)) {
                // It is over, or is about to be.
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
            }
            for slot in &slots {
                agent.member.seats[*slot as usize] = Seat::Serves(held.number);
            }
            agent.runs.insert(held.number);
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
            self.tell_of_its_run(id);
        }
        self.tell_matching();
        self.look_soon();
        Ok(Seated {
            agent: id,
            session,
            ends: ended,
        })
    }

    /// An agent that is for one run only waits for it no longer, or goes where that cannot use it: nobody else is to wait for that.
    pub(super) fn tell_of_its_run(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get(&id) else {
            return;
        };
        let Some(only) = &agent.member.only else {
            return;
        };
        let live = self.runs.values().filter(|live| names(only, &live.name));
        let lacking: Vec<Option<String>> = live
            .map(|live| {
                let lacking = live.claim.lacking(&agent.member);
                lacking.map(|(key, value)| {
                    format!(
                        "run {} wants agents with the label {key}={value}, which this one has not",
                        live.name.1
                    )
                })
            })
            .collect();
        match lacking.iter().min().cloned() {
            Some(Some(reason)) => self.dismiss(id, reason, true),
            Some(None) => {
                if let Some(outbox) = &agent.outbox {
                    let found = Out::RunFound(v1::RunFound {});
                    // One that does not listen is cut off.
                    let _ = outbox.send(Outbox::body(found));
                }
            }
            None => {}
        }
    }

    /// An agent that is for one run only may have come when that is over.
    pub(super) fn look_for_its_run(&self, agent: AgentId, only: Name) {
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

    pub(super) fn dismiss(&mut self, agent: AgentId, reason: String, failed: bool) {
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

    pub(super) fn cut(&mut self, id: AgentId, session: u64, last_heard: Instant) {
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

    pub(super) fn gone(&mut self, id: AgentId, reason: &str, lost: bool) {
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

    pub(super) fn give_up_overdue(&mut self) {
        let now = Instant::now();
        for agent in self.agents.values_mut() {
            if agent.due.is_some_and(|due| due + LATE <= now) {
                agent.due = Some(now + AFTER_STANDSTILL);
            }
        }
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
    pub(super) fn leaving(&mut self, id: AgentId) {
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
    pub(super) fn tell_matching(&self) {
        for live in self.runs.values() {
            let mut agents = self.agents.iter();
            let any = agents.any(|(id, agent)| {
                agent.member.serves && agent.outbox.is_some() && live.claim.fits(*id, &agent.member)
            });
            live.door.event(Event::Matching { any });
        }
    }
}
