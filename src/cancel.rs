//! `evenkeel cancel`: end a run that a coordinator has.

use crate::cli::CancelArgs;
use crate::exit::{Exit, Failure};
use crate::remote;
use evenkeel_proto::v1;

pub async fn cancel(args: CancelArgs) -> Result<Exit, Failure> {
    let of = args.of;
    let remote = remote::reach(&of.coordinator, &of.reach).await?;
    let request = v1::StopRequest {
        run: of.run.clone(),
        reason: "cancelled".to_owned(),
        grace_us: args.grace.as_micros() as u64,
        project: of.project,
    };
    remote
        .ask(|mut client| {
            let request = request.clone();
            async move { client.stop(request).await }
        })
        .await?;
    say!("run {} is told to end", of.run);
    Ok(Exit::Green)
}
