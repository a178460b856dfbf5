//! A coordinator that is played by hand, message by message, to the agent's real code and real processes.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use evenkeel_agent::{Agent, AgentConfig};
use evenkeel_proto::{suite::Suite as ProtoSuite, v1};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;
use support::{EVENKEEL, Suite, noop};
use tokio::net::UnixListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use v1::agent_message::Body as Said;
use v1::agent_service_server::{AgentService, AgentServiceServer};
use v1::coordinator_message::Body as Say;

const PATIENCE: Duration = Duration::from_secs(60);

/// The two ends of the one session that there is.
type Ends = (
    mpsc::Receiver<Result<v1::CoordinatorMessage, Status>>,
    mpsc::Sender<v1::AgentMessage>,
);

struct Coordinator(Mutex<Option<Ends>>);

type Outgoing = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl AgentService for Coordinator {
    type SessionStream = Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Outgoing>, Status> {
        let (mut outgoing, said) = self.0.lock().await.take().unwrap();
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                said.send(message).await.ok();
            }
        });
        let stream = async_stream(move |context| outgoing.poll_recv(context));
        Ok(Response::new(Box::pin(stream)))
    }
}

fn async_stream<T>(
    poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
) -> impl Stream<Item = T> {
    struct Polled<F>(F);
    impl<T, F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin> Stream
        for Polled<F>
    {
        type Item = T;
        fn poll_next(
            mut self: Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            (self.0)(context)
        }
    }
    Polled(poll)
}

struct Played {
    say: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    said: mpsc::Receiver<v1::AgentMessage>,
}

impl Played {
    async fn say(&self, body: Say) {
        let message = v1::CoordinatorMessage {
            run: 7,
            body: Some(body),
        };
        self.say.send(Ok(message)).await.unwrap();
    }

    /// The next fact that this finds something in.
    async fn fact<T>(&mut self, find: impl Fn(u64, &v1::fact::Body) -> Option<T>) -> T {
        loop {
            let said = tokio::time::timeout(PATIENCE, self.said.recv()).await;
            let Some(Said::Facts(batch)) = said.unwrap().unwrap().body else {
                continue;
            };
            let mut facts = batch.facts.iter().filter_map(|fact| fact.body.as_ref());
            if let Some(found) = facts.find_map(|fact| find(batch.opening, fact)) {
                return found;
            }
        }
    }
}

fn opening(suite: &Suite, opening: u64) -> v1::OpenRun {
    v1::OpenRun {
        run: "r".to_owned(),
        number: 7,
        opening,
        kinds: vec![ProtoSuite {
            name: "noop".to_owned(),
            runner: "protocol".to_owned(),
            command: noop(&["--units", "3"])
                .into_iter()
                .map(str::to_owned)
                .collect(),
            directory: suite.root.to_string_lossy().into_owned(),
            ..ProtoSuite::default()
        }],
        slots: 1,
        shards: vec![v1::SlotShard {
            slot: 0,
            shard: opening as u32,
            kind: 0,
        }],
        ..v1::OpenRun::default()
    }
}

/// A run that is taken from an agent and given to it anew, as after it was held to be lost: what the new slot is told, while the old one
/// has not closed yet, is not the old one's. What was lost was the question for the listing; the run waited for the answer for ever.
#[test]
fn what_a_slot_is_told_before_the_one_before_it_has_closed_is_not_lost() {
    let suite = Suite::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (say, outgoing) = mpsc::channel(64);
        let (told, said) = mpsc::channel(64);
        let mut played = Played { say, said };
        let path = suite.root.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let incoming = async_stream(move |context| {
            listener
                .poll_accept(context)
                .map(|accepted| Some(accepted.map(|(stream, _)| stream)))
        });
        let service = AgentServiceServer::new(Coordinator(Mutex::new(Some((outgoing, told)))));
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        let channel = tonic::transport::Endpoint::from_shared(format!("unix:{}", path.display()))
            .unwrap()
            .connect()
            .await
            .unwrap();

        let config = AgentConfig {
            name: "agent".to_owned(),
            slots: 1,
            labels: BTreeMap::new(),
            run: None,
            drain: Duration::from_secs(1),
            cache: suite.root.join("cache"),
            guard: EVENKEEL.into(),
        };
        let (shutdown, stopped) = watch::channel(false);
        let agent = tokio::spawn(async move {
            let mut agent = Agent::new(config).unwrap();
            agent.serve(channel, stopped, || {}).await.unwrap();
        });
        played
            .say(Say::Welcome(v1::Welcome {
                version: 2,
                heartbeat_ms: 1000,
                lost_after_ms: 5000,
                ..v1::Welcome::default()
            }))
            .await;

        use v1::fact::Body;
        played.say(Say::OpenRun(opening(&suite, 1))).await;
        played
            .fact(|_, fact| matches!(fact, Body::ProcessStarted(_)).then_some(()))
            .await;
        // All at once, so that the slot has not closed when it is opened and asked.
        played
            .say(Say::CloseRun(v1::CloseRun {
                run: "r".to_owned(),
                abort: true,
            }))
            .await;
        played.say(Say::OpenRun(opening(&suite, 2))).await;
        played
            .say(Say::List(v1::List {
                slot: 0,
                kind: 0,
                ask: 1,
            }))
            .await;
        let units = played
            .fact(|opening, fact| match fact {
                Body::Listed(listed) if opening == 2 => Some(listed.units.len()),
                _ => None,
            })
            .await;
        assert_eq!(units, 3);

        played
            .say(Say::CloseRun(v1::CloseRun {
                run: "r".to_owned(),
                abort: false,
            }))
            .await;
        shutdown.send(true).unwrap();
        tokio::time::timeout(PATIENCE, agent)
            .await
            .unwrap()
            .unwrap();
    });
    suite.nothing_stays();
}
