//! What clients ask a coordinator: again and again while it is being restarted, for a while; and a run that is followed without missing
//! or repeating anything of it. What is shown of that, and what a signal does to it, is whose client it is.

mod following;
mod patience;

pub use following::{Following, Seen};
pub use patience::{AskError, FIRST_PAUSE, LONGEST_PAUSE, Patience, is_passing};

use evenkeel_proto::{MAX_MESSAGE, v1};
use std::time::Duration;
use tonic::Status;
use tonic::transport::Channel;
use v1::run_service_client::RunServiceClient;

/// A way to a coordinator that outlives its restarts.
#[derive(Clone)]
pub struct Remote {
    channel: Channel,
    patience: Duration,
}

impl Remote {
    /// `channel` connects again by itself, and need not be connected yet. A coordinator that does not answer is asked for as long as
    /// `patience`; zero for one that is not started again.
    pub fn new(channel: Channel, patience: Duration) -> Remote {
        Remote { channel, patience }
    }

    pub fn client(&self) -> RunServiceClient<Channel> {
        RunServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    pub fn patience(&self) -> Patience {
        Patience::new(self.patience)
    }

    /// Asks until there is an answer.
    pub async fn ask<T, F>(
        &self,
        mut what: impl FnMut(RunServiceClient<Channel>) -> F,
    ) -> Result<T, AskError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut patience = self.patience();
        loop {
            match what(self.client()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => patience.again(status).await?,
            }
        }
    }

    /// Follows a run from its beginning, with the rows of its ledger if they are wanted. The project may be left open.
    pub fn follow(&self, project: &str, run: &str, rows: bool) -> Following {
        Following::new(self.clone(), project, run, rows)
    }
}
