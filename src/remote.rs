//! What clients ask a coordinator: again and again while it is being restarted, for a while.

use crate::cli::Reach;
use crate::connect::{self, Address};
use crate::exit::Failure;
use crate::run::client;
use evenkeel_coordinator::record::Record;
use evenkeel_proto::{ledger as l, v1};
use prost::Message;
use std::error::Error;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};
use v1::run_service_client::RunServiceClient;
use v1::watch_event::Body;

/// The first pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The pauses double up to this.
const PAUSE: Duration = Duration::from_secs(1);

/// A way to a coordinator that outlives its restarts.
#[derive(Clone)]
pub struct Remote {
    channel: Channel,
    /// One in this process is not started again.
    patience: Duration,
}

/// Whether asking again may help: the connection failed, not what was asked.
pub fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled => true,
        // A connection that broke has an error of its own behind it; a coordinator's answer has none.
        Code::Unknown | Code::Internal | Code::DeadlineExceeded => status.source().is_some(),
        _ => false,
    }
}

/// Tries until something that may pass has passed, and not for ever.
pub struct Patience {
    until: Option<Instant>,
    pause: Duration,
    lasts: Duration,
}

impl Patience {
    fn new(lasts: Duration) -> Patience {
        Patience {
            until: None,
            pause: FIRST_PAUSE,
            lasts,
        }
    }

    /// Something went well: what fails next is counted anew.
    pub fn renew(&mut self) {
        *self = Patience::new(self.lasts);
    }

    /// Waits before the next try; an error where it has been tried for long enough.
    pub async fn again(&mut self, status: Status) -> Result<(), Failure> {
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.lasts);
        if !is_passing(&status) {
            return Err(refused(&status));
        }
        if now >= until {
            return Err(Failure::infrastructure(
                "the coordinator is gone, so the run's verdict is not known",
                status,
            ));
        }
        tokio::time::sleep(self.pause.min(until - now)).await;
        self.pause = (self.pause * 2).min(PAUSE);
        Ok(())
    }
}

/// What a coordinator does not do, in its words.
pub fn refused(status: &Status) -> Failure {
    match status.code() {
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::PermissionDenied => Failure::usage(status.message()),
        _ => Failure::infrastructure("the coordinator did not do it", status.clone()),
    }
}

impl Remote {
    /// Connects. Where nobody answers it may be that a coordinator is just being restarted: it is tried for as long as for one that has gone.
    pub async fn reach(address: &str, reach: &Reach) -> Result<Remote, Failure> {
        let address = Address::parse(address)?;
        address.trusted(&reach.trust)?;
        let patience = reach.give_up_after;
        let until = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match connect::connect(&address).await {
                Ok(channel) => return Ok(Remote { channel, patience }),
                Err(failure) => failure,
            };
            let now = Instant::now();
            if failure.is_usage() || now >= until {
                return Err(failure);
            }
            if pause == FIRST_PAUSE {
                let seconds = patience.as_secs_f32();
                say!("warning: {failure}; trying for {seconds} s");
            }
            tokio::time::sleep(pause.min(until - now)).await;
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// A coordinator in this process.
    pub fn local(channel: Channel) -> Remote {
        Remote {
            channel,
            patience: Duration::ZERO,
        }
    }

    pub fn client(&self) -> RunServiceClient<Channel> {
        client(self.channel.clone())
    }

    pub fn patience(&self) -> Patience {
        Patience::new(self.patience)
    }

    /// Asks until there is an answer.
    pub async fn ask<T, F>(
        &self,
        mut what: impl FnMut(RunServiceClient<Channel>) -> F,
    ) -> Result<T, Failure>
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

    /// The record of a run that has ended, and how it did.
    pub async fn record(&self, project: &str, run: &str) -> Result<(Record, v1::Ended), Failure> {
        let request = v1::WatchRequest {
            run: run.to_owned(),
            after: 0,
            rows: true,
            project: project.to_owned(),
        };
        let mut events = self
            .ask(|mut client| {
                let request = request.clone();
                async move { client.watch(request).await }
            })
            .await?;
        let unreadable =
            |reason: String| Failure::infrastructure("the run's ledger cannot be read", reason);
        let mut record = Record::default();
        loop {
            let event = events.message().await.map_err(|status| refused(&status))?;
            match event.and_then(|event| event.body) {
                Some(Body::Row(row)) => {
                    let batch = l::Batch::decode(row.payload.as_slice())
                        .map_err(|error| unreadable(error.to_string()))?;
                    record
                        .apply_batch(&batch)
                        .map_err(|error| unreadable(error.to_string()))?;
                }
                Some(Body::Ended(ended)) => return Ok((record, ended)),
                // What is known of a run that goes on is known up to here.
                Some(Body::Progress(_)) => return Ok((record, v1::Ended::default())),
                Some(_) => {}
                None => return Err(unreadable("the coordinator ended it early".to_owned())),
            }
        }
    }
}
