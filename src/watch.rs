//! `evenkeel watch`: follow a run that a coordinator has, and exit with its verdict.

use crate::cli::WatchArgs;
use crate::events::EventWriter;
use crate::exit::{Exit, Failure};
use crate::remote;
use crate::render::{Renderer, Style};
use crate::run::{self, OnSignal, Signals, Watched};
use v1::fetch_request::Report;

use evenkeel_proto::v1;

pub async fn watch(args: WatchArgs) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let events = args.events.as_deref().map(EventWriter::open).transpose()?;
    let reaching = remote::reach(&args.of.coordinator, &args.of.reach);
    let Some(remote) = signals.unless(reaching).await else {
        return Ok(Exit::Interrupted);
    };
    let remote = remote?;
    let style = Style::new(args.color, args.quiet);
    let mut renderer =
        Renderer::new(style, args.of.run.clone()).of(Some(args.of.coordinator.as_str()));
    let meant = run::Meant {
        project: args.of.project.clone(),
        run: args.of.run.clone(),
    };
    let watching = run::watch_run(
        &remote,
        &meant,
        events,
        &mut renderer,
        signals,
        OnSignal::Leave,
    );
    let ended = match watching.await? {
        Watched::Ended(ended) => *ended,
        Watched::Killed => return Ok(Exit::Interrupted),
    };
    let junit = args.junit.map(|path| (Report::Junit, None, path));
    let json = args.json.map(|path| (Report::Json, None, path));
    let reports = junit.into_iter().chain(json).collect();
    Ok(run::conclude(&remote, &meant, &mut renderer, &ended, reports).await)
}
