//! The server: gRPC services, the hub that knows runs and agents, and one task per run that performs its effects.
//!
//! Shape: an agent's session task turns messages into events for the run that the agent serves; the run's task steps its
//! state machine and performs effects; one store task writes. They talk over bounded queues and share no state.

mod abandon;
mod agents;
mod blocking;
mod doors;
mod ended;
mod hub;
pub mod metrics;
mod panics;
mod past;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
mod run_task;
mod seats;
mod services;
mod set_aside;
mod submission;

pub(crate) use ended::explanation;
pub use panics::{Blamed, blamed};

use crate::run::Script;
use crate::store::{Store, StoreError};
use evenkeel_proto::{MAX_MESSAGE, v1};
use hub::HubMessage;
use std::time::Duration;
use tokio::sync::mpsc;
use v1::agent_service_server::AgentServiceServer;
use v1::run_service_server::RunServiceServer;

/// How a coordinator behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often agents say that they are alive.
    pub heartbeat: Duration,
    /// An agent that was silent for this long is lost.
    pub lost_after: Duration,
    /// The agents of this coordinator are all that will ever come.
    pub closed_shop: bool,
    /// Runs leave nothing behind: no history, no listing of runs.
    pub ephemeral: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            heartbeat: Duration::from_secs(1),
            lost_after: Duration::from_secs(5),
            closed_shop: false,
            ephemeral: false,
        }
    }
}

/// A run that repeats what a shard did, in place of what the framework lists.
#[derive(Clone, Debug)]
pub struct Replay {
    pub script: Script,
    /// Which shard of how many the slot plays, counted from 0.
    pub identity: (u32, u32),
}

/// A running coordinator. Dropping it and every session ends its tasks.
#[derive(Clone)]
pub struct Coordinator {
    hub: mpsc::Sender<HubMessage>,
    settings: Settings,
    store: Store,
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

impl Coordinator {
    /// Goes on with what an earlier coordinator left in the store, if that was opened to serve.
    pub async fn start(store: Store, settings: Settings) -> Result<Coordinator, StoreError> {
        let (recovered, failed) = if store.epoch() > 0 {
            submission::recover(&store, &settings).await?
        } else {
            (Vec::new(), Vec::new())
        };
        for reason in &failed {
            tracing::error!("{reason}");
        }
        if !recovered.is_empty() {
            tracing::info!(runs = recovered.len(), "going on with runs from before");
        }
        Ok(Coordinator {
            hub: hub::spawn(store.clone(), settings.clone(), None, recovered),
            settings,
            store,
        })
    }

    /// A coordinator for one run that plays a shard again.
    pub fn start_replay(store: Store, replay: Replay) -> Coordinator {
        let settings = Settings {
            closed_shop: true,
            ephemeral: true,
            ..Settings::default()
        };
        Coordinator {
            hub: hub::spawn(store.clone(), settings.clone(), Some(replay), Vec::new()),
            settings,
            store,
        }
    }

    /// Returns once another coordinator has taken over the store: this one must stop at once.
    pub async fn superseded(&self) -> StoreError {
        self.store.superseded().await
    }

    /// The gRPC services, to be served on whatever connections the caller accepts.
    pub fn router(&self) -> tonic::transport::server::Router {
        let agents = agents::Agents {
            hub: self.hub.clone(),
            settings: self.settings.clone(),
            secret: self.store.secret(),
        };
        let runs = services::Runs {
            hub: self.hub.clone(),
            store: self.store.clone(),
        };
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .initial_stream_window_size(Some(4 << 20))
            .initial_connection_window_size(Some(8 << 20))
            .add_service(
                AgentServiceServer::new(agents)
                    .max_decoding_message_size(MAX_MESSAGE)
                    .max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(
                RunServiceServer::new(runs)
                    .max_decoding_message_size(MAX_MESSAGE)
                    .max_encoding_message_size(MAX_MESSAGE),
            )
    }

    /// The same, with what tells strangers that it is well and what it understands.
    pub fn public_router(&self) -> tonic::transport::server::Router {
        let (health, healthy) = tonic_health::server::health_reporter();
        tokio::spawn(async move {
            health
                .set_serving::<AgentServiceServer<agents::Agents>>()
                .await;
            health
                .set_serving::<RunServiceServer<services::Runs>>()
                .await;
        });
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(evenkeel_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the descriptors were compiled with the services");
        self.router().add_service(healthy).add_service(reflection)
    }
}
