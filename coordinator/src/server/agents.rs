//! The agents' service: hellos, and what agents tell, on its way to their runs.

use super::Settings;
use super::doors::{Outbox, RunDoor};
use super::hub::{Arrival, HubMessage, Seated};
use super::run_task::RunMessage;
use super::services::{gone, log_refusal, outgoing};
use super::submission::{check_labels, check_name};
use crate::run::{AgentId, Event};
use crate::wire;
use evenkeel_proto::{VERSIONS, v1};
use evenkeel_schedule::Micros;
use std::collections::HashMap;
use std::pin::Pin;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use v1::agent_message::Body as In;
use v1::coordinator_message::Body as Out;

/// An agent with more slots than this is misconfigured.
const MAX_SLOTS: u32 = 4096;
/// No message holds more facts than this.
const MAX_FACTS: usize = 100_000;
/// An agent serves no more runs than this at a time.
const MAX_RUNS: usize = 4096;

/// Who seems to be silent is listened to for this much longer.
const STILL_TO_READ: std::time::Duration = std::time::Duration::from_millis(250);

pub(super) struct Agents {
    pub hub: mpsc::Sender<HubMessage>,
    pub settings: Settings,
    pub secret: [u8; 32],
}

impl Agents {
    /// Shows that somebody is the incarnation that it says it is: the same under every coordinator of a store.
    fn token(&self, incarnation: &str) -> String {
        let token = blake3::keyed_hash(&self.secret, incarnation.as_bytes());
        token.to_hex().to_string()
    }

    fn check(&self, hello: &v1::Hello) -> Result<u32, Status> {
        let (lowest, highest) = VERSIONS;
        if hello.max_version < lowest || hello.min_version > highest {
            return Err(Status::failed_precondition(format!(
                "the agent speaks protocol versions {} to {}, this coordinator {lowest} to {highest}; use releases that are next to each other",
                hello.min_version, hello.max_version
            )));
        }
        if hello.slots == 0 || hello.slots > MAX_SLOTS {
            return Err(Status::invalid_argument(format!(
                "an agent has 1 to {MAX_SLOTS} slots, not {}",
                hello.slots
            )));
        }
        let names = check_name("an agent", &hello.agent)
            .and_then(|()| check_name("an incarnation", &hello.incarnation))
            .and_then(|()| check_name("a run", &hello.run))
            .and_then(|()| check_name("a project", &hello.project))
            .and_then(|()| check_labels(&hello.labels));
        names.map_err(Status::invalid_argument)?;
        if hello.incarnation.is_empty() {
            return Err(Status::invalid_argument("an agent names its incarnation"));
        }
        if hello.held.len() > MAX_RUNS {
            return Err(Status::invalid_argument(format!(
                "an agent serves at most {MAX_RUNS} runs"
            )));
        }
        Ok(hello.max_version.min(highest))
    }
}

type Outgoing = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl v1::agent_service_server::AgentService for Agents {
    type SessionStream = Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let from = request.remote_addr();
        let session = self.begin(request).await;
        session.inspect_err(|status| log_refusal("session", from, status))
    }
}

impl Agents {
    async fn begin(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Outgoing>, Status> {
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(self.settings.lost_after, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(In::Hello(hello)) = first.and_then(|message| message.body) else {
            return Err(Status::invalid_argument("a session starts with a hello"));
        };
        let version = self.check(&hello)?;
        let token = self.token(&hello.incarnation);
        let proven = !hello.token.is_empty() && hello.token == token;
        let claims = !hello.token.is_empty() || !hello.held.is_empty();
        if claims && !proven {
            return Err(Status::permission_denied(
                "the token of this agent is not the one that its incarnation was given",
            ));
        }
        let (outbox, messages) = Outbox::new(version);
        let welcome = v1::Welcome {
            version,
            last_sequence: 0,
            heartbeat_ms: self.settings.heartbeat.as_millis() as u32,
            lost_after_ms: self.settings.lost_after.as_millis() as u32,
            token,
        };
        if !outbox.send(Outbox::body(Out::Welcome(welcome))) {
            return Err(gone());
        }
        let arrival = Arrival {
            environment_class: environment_class(hello.environment.as_ref(), &hello.labels),
            hello,
            version,
            outbox: outbox.clone(),
            proven,
        };
        let (reply, seated) = oneshot::channel();
        let connect = HubMessage::Connect {
            arrival: Box::new(arrival),
            reply,
        };
        self.hub.send(connect).await.map_err(|_| gone())?;
        let seated = seated.await.map_err(|_| gone())??;
        let session = Session {
            agent: seated.agent,
            session: seated.session,
            hub: self.hub.clone(),
            outbox,
            runs: HashMap::new(),
            whole: version < 2,
            before: HashMap::new(),
        };
        tokio::spawn(session.listen(incoming, seated, self.settings.lost_after));
        Ok(Response::new(Box::pin(outgoing(messages))))
    }
}

/// OS, CPU model and declared labels: durations are comparable within a class.
fn environment_class(
    environment: Option<&v1::Environment>,
    labels: &std::collections::BTreeMap<String, String>,
) -> String {
    let environment = environment.cloned().unwrap_or_default();
    let mut class = format!(
        "{} {} {} x{}",
        environment.os, environment.arch, environment.cpu, environment.cores
    );
    for (key, value) in labels {
        class.push_str(&format!(" {key}={value}"));
    }
    class
}

/// One session of an agent.
struct Session {
    agent: AgentId,
    session: u64,
    hub: mpsc::Sender<HubMessage>,
    outbox: Outbox,
    runs: HashMap<u64, RunDoor>,
    /// Before version 2: facts name their run by its id, and their sequence goes on from run to run.
    whole: bool,
    before: HashMap<String, (u64, u64)>,
}

/// How a session ended.
enum Ending {
    /// The connection is gone: the agent may come again.
    Cut,
    Goodbye(String),
    /// It said nothing for too long.
    Silent,
    /// It said what it may not.
    Refused(Status),
    /// Another session has taken its place.
    Replaced,
}

/// What broke a stream: the connection, or what came over it.
fn ending_of(status: Status) -> Ending {
    match status.code() {
        Code::OutOfRange
        | Code::ResourceExhausted
        | Code::InvalidArgument
        | Code::Unimplemented => Ending::Refused(status),
        Code::Internal if status.message().contains("decode") => {
            Ending::Refused(Status::invalid_argument(status.message()))
        }
        _ => Ending::Cut,
    }
}

impl Session {
    /// Carries an agent's messages to its runs until the stream ends or falls silent.
    async fn listen(
        mut self,
        mut incoming: Streaming<v1::AgentMessage>,
        seated: Seated,
        lost_after: std::time::Duration,
    ) {
        let mut ends = seated.ends;
        let mut heard = Instant::now();
        let ending = loop {
            let message = tokio::select! {
                biased;
                _ = &mut ends => break Ending::Replaced,
                message = tokio::time::timeout(lost_after, incoming.message()) => message,
            };
            // Where it is this process that stood still, what the agent said meanwhile is still to be read.
            let message = match message {
                Err(_) => tokio::time::timeout(STILL_TO_READ, incoming.message()).await,
                message => message,
            };
            let message = match message {
                Err(_) => break Ending::Silent,
                Ok(Ok(None)) => break Ending::Cut,
                Ok(Err(status)) => break ending_of(status),
                Ok(Ok(Some(message))) => message,
            };
            heard = Instant::now();
            match message.body {
                Some(In::Facts(batch)) => {
                    if let Err(status) = self.facts(batch).await {
                        break Ending::Refused(status);
                    }
                }
                Some(In::Heartbeat(_)) => {}
                Some(In::Goodbye(goodbye)) => break Ending::Goodbye(goodbye.reason),
                Some(In::Leaving(_)) => {
                    let agent = self.agent;
                    self.hub.send(HubMessage::Leaving { agent }).await.ok();
                }
                Some(In::Hello(_)) => {
                    break Ending::Refused(Status::invalid_argument("a second hello"));
                }
                // Of a later version.
                None => {}
            }
        };
        let (agent, session) = (self.agent, self.session);
        let gone = |reason: String, lost| HubMessage::Gone {
            agent,
            session,
            reason,
            lost,
        };
        let message = match ending {
            Ending::Replaced => return,
            Ending::Cut => HubMessage::Cut {
                agent,
                session,
                last_heard: heard,
            },
            Ending::Goodbye(reason) => gone(reason, false),
            Ending::Silent => {
                let seconds = lost_after.as_secs_f32();
                let reason = format!("nothing was heard of it for {seconds} s");
                self.outbox.end(Status::deadline_exceeded(reason.clone()));
                gone(reason, true)
            }
            Ending::Refused(status) => {
                let reason = format!("it sent what is not allowed: {}", status.message());
                super::metrics::agent_refused();
                tracing::warn!(agent = agent.0, "{reason}");
                self.outbox.end(status);
                gone(reason, true)
            }
        };
        self.hub.send(message).await.ok();
    }

    async fn facts(&mut self, mut batch: v1::FactBatch) -> Result<(), Status> {
        if batch.facts.len() > MAX_FACTS {
            return Err(Status::invalid_argument(format!(
                "a message holds at most {MAX_FACTS} facts"
            )));
        }
        if self.whole {
            self.adapt(&mut batch).await?;
        }
        let number = batch.number;
        if !self.runs.contains_key(&number) {
            let (reply, found) = oneshot::channel();
            let serves = HubMessage::Serves {
                agent: self.agent,
                run: number,
                reply,
            };
            self.hub.send(serves).await.map_err(|_| gone())?;
            // Facts about a run that is over have no effect.
            let Some(door) = found.await.map_err(|_| gone())?? else {
                return Ok(());
            };
            if self.runs.len() > MAX_RUNS {
                self.runs.clear();
            }
            self.runs.insert(number, door);
        }
        let facts: Result<Vec<_>, _> = batch.facts.into_iter().map(wire::fact).collect();
        let facts = facts.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let event = Event::Facts {
            agent: self.agent,
            opening: batch.opening,
            first_sequence: batch.first_sequence,
            sent_at: Micros(batch.sent_at_us),
            facts,
        };
        if !self.runs[&number].send(RunMessage::Event(event)).await {
            self.runs.remove(&number);
        }
        Ok(())
    }

    /// Facts of an agent before version 2, as one of version 2 would tell them.
    async fn adapt(&mut self, batch: &mut v1::FactBatch) -> Result<(), Status> {
        if !self.before.contains_key(&batch.run) {
            let (reply, number) = oneshot::channel();
            let named = HubMessage::Named {
                agent: self.agent,
                run: batch.run.clone(),
                reply,
            };
            self.hub.send(named).await.map_err(|_| gone())?;
            let number = number.await.map_err(|_| gone())?;
            let first = batch.first_sequence.saturating_sub(1);
            self.before.insert(batch.run.clone(), (number, first));
        }
        let (number, first) = self.before[&batch.run];
        (batch.number, batch.opening) = (number, 0);
        batch.first_sequence = batch.first_sequence.saturating_sub(first);
        Ok(())
    }
}
