//! The server: gRPC services, the hub that knows runs and agents, and one task per run that performs its effects.
//!
//! Shape: an agent's session task turns messages into events for the run that the agent serves; the run's task steps its
//! state machine and performs effects; one store task writes. They talk over bounded queues and share no state.

mod ended;
mod hub;
mod run_task;
mod services;

pub(crate) use ended::explanation;

use crate::run::Script;
use crate::store::Store;
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
}

impl Coordinator {
    pub fn start(store: Store, settings: Settings) -> Coordinator {
        Coordinator {
            hub: hub::spawn(store, settings.clone(), None),
            settings,
        }
    }

    /// A coordinator for one run that plays a shard again.
    pub fn start_replay(store: Store, replay: Replay) -> Coordinator {
        let settings = Settings {
            closed_shop: true,
            ephemeral: true,
            ..Settings::default()
        };
        Coordinator {
            hub: hub::spawn(store, settings.clone(), Some(replay)),
            settings,
        }
    }

    /// The gRPC services, to be served on whatever connections the caller accepts.
    pub fn router(&self) -> tonic::transport::server::Router {
        let agents = services::Agents {
            hub: self.hub.clone(),
            settings: self.settings.clone(),
        };
        let runs = services::Runs {
            hub: self.hub.clone(),
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
}
