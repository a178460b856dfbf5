//! The gRPC services. They check what comes in, turn it into messages for hub and runs, and hold no state of their own.

use super::Settings;
use super::hub::{Found, HubMessage};
use super::run_task::RunMessage;
use crate::report;
use crate::run::{AgentId, AgentJoined, Event};
use crate::wire;
use evenkeel_proto::{VERSIONS, v1};
use evenkeel_schedule::Micros;
use std::collections::HashMap;
use std::io::Read;
use std::pin::Pin;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use v1::agent_message::Body as In;
use v1::coordinator_message::Body as Out;

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How many messages may wait for an agent; the run's task waits then.
const AGENT_QUEUE: usize = 4096;
/// How many events may wait for a watcher before it is dropped.
const WATCH_QUEUE: usize = 16_384;
/// An agent with more slots than this is misconfigured.
const MAX_SLOTS: u32 = 4096;
const CHUNK: usize = 256 << 10;
/// A run that takes no watcher any more has written its last rows and reports within this time.
const ENDING: std::time::Duration = std::time::Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK: std::time::Duration = std::time::Duration::from_millis(5);

/// A receiver as the stream that tonic wants.
fn outgoing<T: Send + 'static>(mut receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send {
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

fn gone() -> Status {
    Status::unavailable("the coordinator is shutting down")
}

pub(super) struct Agents {
    pub hub: mpsc::Sender<HubMessage>,
    pub settings: Settings,
}

#[tonic::async_trait]
impl v1::agent_service_server::AgentService for Agents {
    type SessionStream = Outgoing<v1::CoordinatorMessage>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(self.settings.lost_after, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(In::Hello(hello)) = first.and_then(|message| message.body) else {
            return Err(Status::invalid_argument("a session starts with a hello"));
        };
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
        let version = hello.max_version.min(highest);
        let (reply, agent) = oneshot::channel();
        self.hub
            .send(HubMessage::NextAgent { reply })
            .await
            .map_err(|_| gone())?;
        let agent = agent.await.map_err(|_| gone())?;

        let (outbox, outgoing_messages) = mpsc::channel(AGENT_QUEUE);
        let welcome = v1::Welcome {
            version,
            last_sequence: 0,
            heartbeat_ms: self.settings.heartbeat.as_millis() as u32,
            lost_after_ms: self.settings.lost_after.as_millis() as u32,
        };
        let message = v1::CoordinatorMessage {
            body: Some(Out::Welcome(welcome)),
        };
        outbox.send(message).await.map_err(|_| gone())?;
        let joined = AgentJoined {
            agent,
            name: hello.agent,
            incarnation: hello.incarnation,
            environment_class: environment_class(hello.environment.as_ref(), &hello.labels),
            slots: hello.slots,
            clock: Micros(hello.clock_us),
        };
        self.hub
            .send(HubMessage::AgentConnected { joined, outbox })
            .await
            .map_err(|_| gone())?;
        tokio::spawn(listen(
            agent,
            incoming,
            self.hub.clone(),
            self.settings.lost_after,
        ));
        Ok(Response::new(Box::pin(outgoing(outgoing_messages).map(Ok))))
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

/// Carries an agent's messages to its runs until the stream ends or falls silent.
async fn listen(
    agent: AgentId,
    mut incoming: Streaming<v1::AgentMessage>,
    hub: mpsc::Sender<HubMessage>,
    lost_after: std::time::Duration,
) {
    let mut runs: HashMap<String, mpsc::Sender<RunMessage>> = HashMap::new();
    let (reason, lost) = loop {
        let message = match tokio::time::timeout(lost_after, incoming.message()).await {
            Err(_) => {
                break (
                    format!("nothing was heard of it for {} s", lost_after.as_secs_f32()),
                    true,
                );
            }
            Ok(Err(status)) => break (format!("its connection broke: {}", status.message()), true),
            Ok(Ok(None)) => {
                break (
                    "its connection was closed without a goodbye".to_owned(),
                    true,
                );
            }
            Ok(Ok(Some(message))) => message,
        };
        match message.body {
            Some(In::Facts(batch)) => {
                if !runs.contains_key(&batch.run) {
                    if runs.len() > 64 {
                        runs.clear();
                    }
                    let (reply, found) = oneshot::channel();
                    let find = HubMessage::Find {
                        run: batch.run.clone(),
                        reply,
                    };
                    if hub.send(find).await.is_err() {
                        return;
                    }
                    // Facts about a run that is over or was never here have no effect.
                    let Ok(Some(Found::Live(events))) = found.await else {
                        continue;
                    };
                    runs.insert(batch.run.clone(), events);
                }
                let facts: Result<Vec<_>, _> = batch.facts.into_iter().map(wire::fact).collect();
                let facts = match facts {
                    Ok(facts) => facts,
                    Err(error) => {
                        break (
                            format!("it sent a message that is not allowed: {error}"),
                            true,
                        );
                    }
                };
                let event = Event::Facts {
                    agent,
                    first_sequence: batch.first_sequence,
                    sent_at: Micros(batch.sent_at_us),
                    facts,
                };
                if runs[&batch.run]
                    .send(RunMessage::Event(event))
                    .await
                    .is_err()
                {
                    runs.remove(&batch.run);
                }
            }
            Some(In::Heartbeat(_)) => {}
            Some(In::Goodbye(goodbye)) => break (goodbye.reason, false),
            Some(In::Hello(_)) | None => {
                break ("it sent a message that is not allowed".to_owned(), true);
            }
        }
    };
    hub.send(HubMessage::AgentGone {
        agent,
        reason,
        lost,
    })
    .await
    .ok();
}

pub(super) struct Runs {
    pub hub: mpsc::Sender<HubMessage>,
}

impl Runs {
    async fn find(&self, run: &str) -> Result<Found, Status> {
        let (reply, found) = oneshot::channel();
        self.hub
            .send(HubMessage::Find {
                run: run.to_owned(),
                reply,
            })
            .await
            .map_err(|_| gone())?;
        let found = found.await.map_err(|_| gone())?;
        found.ok_or_else(|| Status::not_found(format!("this coordinator knows no run {run:?}")))
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
        let (reply, response) = oneshot::channel();
        let submit = HubMessage::Submit {
            request: request.into_inner(),
            reply,
        };
        self.hub.send(submit).await.map_err(|_| gone())?;
        response.await.map_err(|_| gone())?.map(Response::new)
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        // A run that is about to end takes nobody in any more, and has ended soon.
        let by = tokio::time::Instant::now() + ENDING;
        let (handle, stored, live) = loop {
            match self.find(&request.run).await? {
                Found::Live(events) => {
                    let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
                    let (attached, seat) = oneshot::channel();
                    let watch = RunMessage::Watch {
                        rows: request.rows,
                        events: sender,
                        attached,
                    };
                    if events.send(watch).await.is_ok()
                        && let Ok((handle, stored)) = seat.await
                    {
                        let live: Self::WatchStream = Box::pin(outgoing(receiver).map(Ok));
                        break (handle, stored, live);
                    }
                    if tokio::time::Instant::now() >= by {
                        return Err(gone());
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Found::Ended {
                    ended,
                    handle,
                    rows,
                    ..
                } => {
                    let last = v1::WatchEvent {
                        body: Some(v1::watch_event::Body::Ended(*ended)),
                    };
                    let live: Self::WatchStream = Box::pin(tokio_stream::once(Ok(last)));
                    break (handle, rows, live);
                }
            }
        };
        if !request.rows || stored <= request.after {
            return Ok(Response::new(live));
        }
        let (reply, payloads) = oneshot::channel();
        let ask = HubMessage::Payloads {
            run: handle,
            after: request.after,
            until: stored,
            reply,
        };
        self.hub.send(ask).await.map_err(|_| gone())?;
        let payloads = payloads
            .await
            .map_err(|_| gone())?
            .map_err(|error| Status::internal(error.to_string()))?;
        let rows = payloads
            .into_iter()
            .zip(request.after + 1..)
            .map(|(payload, sequence)| {
                let row = v1::LedgerRow { sequence, payload };
                Ok(v1::WatchEvent {
                    body: Some(v1::watch_event::Body::Row(row)),
                })
            });
        let past: Vec<_> = rows.collect();
        Ok(Response::new(Box::pin(
            tokio_stream::iter(past).chain(live),
        )))
    }

    async fn stop(
        &self,
        request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::StopResponse>, Status> {
        let request = request.into_inner();
        if let Found::Live(events) = self.find(&request.run).await? {
            let stop = Event::Stop {
                reason: request.reason,
                interrupted: true,
                grace: Micros(request.grace_us),
            };
            // A run that has just ended needs no stopping.
            events.send(RunMessage::Event(stop)).await.ok();
        }
        Ok(Response::new(v1::StopResponse {}))
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let request = request.into_inner();
        let Found::Ended { directory, .. } = self.find(&request.run).await? else {
            return Err(Status::failed_precondition(format!(
                "run {} has not ended yet",
                request.run
            )));
        };
        let name = match request.report() {
            v1::fetch_request::Report::Junit => match request.suite {
                // Where there is one suite, its part is all of it.
                Some(suite) if directory.join(report::junit_of(suite)).exists() => {
                    report::junit_of(suite)
                }
                _ => report::JUNIT.to_owned(),
            },
            v1::fetch_request::Report::Json => report::JSON.to_owned(),
            v1::fetch_request::Report::Unspecified => {
                return Err(Status::invalid_argument(
                    "which report is wanted is not said",
                ));
            }
        };
        let path = directory.join(name);
        let mut file = std::fs::File::open(&path)
            .map_err(|error| Status::not_found(format!("no such report: {error}")))?;
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut data = vec![0; CHUNK];
                let chunk = match file.read(&mut data) {
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
        });
        Ok(Response::new(Box::pin(outgoing(receiver))))
    }
}
