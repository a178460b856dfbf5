//! Ways to a coordinator, as the command line reaches one; what it does not do becomes a failure in its words.

use crate::cli::Reach;
use crate::connect::{self, Address};
use crate::exit::Failure;
use evenkeel_coordinator::client::{AskError, FIRST_PAUSE, LONGEST_PAUSE, Remote};
use evenkeel_coordinator::record::Record;
use evenkeel_proto::{ledger as l, v1};
use prost::Message;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};
use v1::watch_event::Body;

/// Connects. Where nobody answers it may be that a coordinator is just being restarted: it is tried for as long as for one that has gone.
pub async fn reach(address: &str, reach: &Reach) -> Result<Remote, Failure> {
    let address = Address::parse(address)?;
    address.trusted(&reach.trust)?;
    let patience = reach.give_up_after;
    let until = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        let failure = match connect::connect(&address).await {
            Ok(channel) => return Ok(Remote::new(channel, patience)),
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
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A coordinator in this process is not started again.
pub fn local(channel: Channel) -> Remote {
    Remote::new(channel, Duration::ZERO)
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Failure {
        let message = error.to_string();
        match error {
            AskError::Refused(status) => refused(&status),
            AskError::Gone(status) => Failure::infrastructure(message, status),
        }
    }
}

/// What a coordinator does not do, in its words.
fn refused(status: &Status) -> Failure {
    match status.code() {
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::PermissionDenied => Failure::usage(status.message()),
        _ => Failure::infrastructure("the coordinator did not do it", status.clone()),
    }
}

/// The record of a run that has ended, and how it did.
pub async fn record(
    remote: &Remote,
    project: &str,
    run: &str,
) -> Result<(Record, v1::Ended), Failure> {
    let request = v1::WatchRequest {
        run: run.to_owned(),
        after: 0,
        rows: true,
        project: project.to_owned(),
    };
    let mut events = remote
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
