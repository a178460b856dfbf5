//! One that comes twice: a second session under the incarnation and the token of the first, which goes on. So does a machine that was
//! restored from a snapshot, or an agent that does not know yet that its connection is dead.

use crate::net;
use crate::world::{Shared, say};
use evenkeel_proto::{VERSIONS, v1};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use v1::agent_message::Body as Out;
use v1::agent_service_client::AgentServiceClient;
use v1::coordinator_message::Body as In;

/// The first session must have been ended so soon after the second has begun; who is silent may go on for longer.
const BOUND: Duration = Duration::from_secs(2);

struct Session {
    incoming: Streaming<v1::CoordinatorMessage>,
    token: String,
    _outgoing: mpsc::Sender<v1::AgentMessage>,
}

/// Comes, and comes again. What breaks meanwhile is a coordinator that is restarted.
pub async fn come_twice(
    find: impl Fn() -> String + Clone + Send + Sync + 'static,
    seen: &Shared,
) -> Result<(), Box<dyn std::error::Error>> {
    let coordinator = find();
    let mut first = begin(net::connect(find.clone()).await?, String::new()).await?;
    let second = begin(net::connect(find.clone()).await?, first.token.clone()).await?;
    let ending = async { while let Ok(Some(_)) = first.incoming.message().await {} };
    let ended = tokio::time::timeout(BOUND, ending).await;
    say(seen, || {
        format!("twin: the first session has ended {}", ended.is_ok())
    });
    // One that has been superseded meanwhile does not hear of what comes to the next.
    if ended.is_err() && find() == coordinator {
        let mut seen = seen.lock().expect("nobody panics with it");
        seen.failed.push("an agent has two sessions".to_owned());
    }
    drop(second);
    Ok(())
}

async fn begin(channel: Channel, token: String) -> Result<Session, Status> {
    let (sender, receiver) = mpsc::channel(4);
    let hello = v1::Hello {
        min_version: VERSIONS.0,
        max_version: VERSIONS.1,
        agent: "twin".into(),
        incarnation: "twin".into(),
        slots: 1,
        // One that nobody submits.
        run: "nobodys".into(),
        token,
        ..v1::Hello::default()
    };
    let hello = v1::AgentMessage {
        body: Some(Out::Hello(hello)),
    };
    sender.send(hello).await.ok();
    let mut client = AgentServiceClient::new(channel);
    let mut incoming = client
        .session(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    let message = incoming.message().await?;
    match message.and_then(|message| message.body) {
        Some(In::Welcome(welcome)) => Ok(Session {
            incoming,
            token: welcome.token,
            _outgoing: sender,
        }),
        _ => Err(Status::unavailable("it ended before it began")),
    }
}
