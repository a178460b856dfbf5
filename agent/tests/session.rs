//! Sessions of an agent with a coordinator that is played: it answers each as the script has it.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use evenkeel_agent::{Agent, AgentConfig, Left, RunName, stand};
use evenkeel_proto::v1;
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use v1::agent_message::Body as Out;
use v1::agent_service_server::{AgentService, AgentServiceServer};
use v1::coordinator_message::Body as In;

/// What a session hears, each so long after what came before. When nothing is left it is cut, unless the agent was sent away.
type Script = Vec<(Duration, In)>;

#[derive(Clone, Default)]
struct Coordinator {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    hellos: Arc<Mutex<Vec<v1::Hello>>>,
}

/// A bounded queue as the stream that tonic wants.
type Messages = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

#[tonic::async_trait]
impl AgentService for Coordinator {
    type SessionStream = Messages;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Messages>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|message| message.body);
        let Some(Out::Hello(hello)) = first else {
            return Err(Status::invalid_argument("a session starts with a hello"));
        };
        self.hellos.lock().unwrap().push(hello);
        let script = self.scripts.lock().unwrap().pop_front();
        let script = script.expect("no more sessions than the script has");
        let (messages, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let stays = matches!(script.last(), Some((_, In::Dismiss(_))));
            for (after, body) in script {
                tokio::time::sleep(after).await;
                let body = Some(body);
                let message = v1::CoordinatorMessage { body, run: 0 };
                messages.send(Ok(message)).await.ok();
            }
            while stays && let Ok(Some(message)) = incoming.message().await {
                if matches!(message.body, Some(Out::Goodbye(_))) {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// What the agent said at the begin of each session, and how it left.
async fn play(scripts: Vec<Script>, run: Option<RunName>) -> (Vec<v1::Hello>, Left) {
    let coordinator = Coordinator {
        scripts: Arc::new(Mutex::new(scripts.into())),
        ..Coordinator::default()
    };
    let (connections, accepted) = mpsc::channel(8);
    let service = AgentServiceServer::new(coordinator.clone());
    let serving = Server::builder().add_service(service);
    tokio::spawn(
        serving.serve_with_incoming(ReceiverStream::new(accepted).map(Ok::<_, std::io::Error>)),
    );
    let config = AgentConfig {
        name: "agent".into(),
        slots: 1,
        labels: BTreeMap::new(),
        run,
        drain: Duration::ZERO,
        cache: std::env::temp_dir(),
        guard: PathBuf::new(),
    };
    let agent = Agent::new(config).unwrap();
    let (_told, stopped) = watch::channel(false);
    let patience = Duration::from_secs(20);
    let connect = || connect(connections.clone());
    let left = stand(agent, connect, stopped, patience, |_| {}).await;
    let hellos = coordinator.hellos.lock().unwrap().clone();
    (hellos, left.unwrap())
}

async fn connect(
    connections: mpsc::Sender<DuplexStream>,
) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let connections = connections.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            connections.send(theirs).await.ok();
            Ok::<_, std::io::Error>(TokioIo::new(ours))
        }
    });
    let endpoint = Endpoint::from_static("http://played");
    endpoint.connect_with_connector(connector).await
}

fn at_once(body: In) -> (Duration, In) {
    (Duration::ZERO, body)
}

fn welcome() -> In {
    In::Welcome(v1::Welcome {
        version: 2,
        heartbeat_ms: 1_000,
        lost_after_ms: 5_000,
        token: "token".into(),
        ..v1::Welcome::default()
    })
}

fn goes() -> In {
    In::Dismiss(v1::Dismiss {
        reason: "run r has ended: green".into(),
        failed: false,
    })
}

/// The run that the agent is for, and for how long it waits for that.
fn for_a_run(wait: Duration) -> Option<RunName> {
    Some(RunName {
        project: String::new(),
        run: "r".into(),
        wait,
    })
}

#[tokio::test]
async fn one_whose_welcome_got_lost_comes_again_as_another() {
    let scripts = vec![
        // The coordinator has heard of it, and it has not heard of that.
        Vec::new(),
        vec![at_once(welcome())],
        vec![at_once(welcome()), at_once(goes())],
    ];
    let (hellos, _) = play(scripts, None).await;
    let [lost, taken_in, again] = &hellos[..] else {
        panic!("{} sessions", hellos.len());
    };
    assert_ne!(lost.incarnation, taken_in.incarnation);
    assert_eq!(taken_in.token, "", "it has nothing to show yet");
    assert_eq!(taken_in.incarnation, again.incarnation);
    assert_eq!(again.token, "token");
}

#[tokio::test]
async fn one_whose_run_is_there_does_not_take_it_for_missing() {
    let found = In::RunFound(v1::RunFound {});
    let later = (Duration::from_millis(600), goes());
    let script = vec![at_once(welcome()), at_once(found), later];
    let run = for_a_run(Duration::from_millis(100));
    let (_, left) = play(vec![script], run).await;
    let Left::Dismissed { failed, reason } = left else {
        panic!("{left:?}");
    };
    assert!(!failed, "{reason}");
}

#[tokio::test]
async fn one_whose_run_does_not_come_goes_and_says_so() {
    let never = (Duration::from_secs(60), goes());
    let script = vec![at_once(welcome()), never];
    let run = for_a_run(Duration::from_millis(100));
    let (_, left) = play(vec![script], run).await;
    let Left::Dismissed { failed, reason } = left else {
        panic!("{left:?}");
    };
    assert!(failed && reason.contains("no run r came"), "{reason}");
}
