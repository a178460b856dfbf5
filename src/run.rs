//! `evenkeel run`: submit a suite, watch it, fetch the reports, exit with the verdict.

use crate::cli::RunArgs;
use crate::config::Place;
use crate::connect::{self, Address, Local};
use crate::events::EventWriter;
use crate::exit::{Exit, Failure};
use crate::project;
use crate::render::{Renderer, Style};
use crate::suites;
use evenkeel_agent::{AgentConfig, AgentError};
use evenkeel_coordinator::server::{Coordinator, Settings};
use evenkeel_coordinator::store::{Store, StoreError};
use evenkeel_proto::{MAX_MESSAGE, suite, v1};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;
use v1::fetch_request::Report;
use v1::run_service_client::RunServiceClient;
use v1::watch_event::Body;

/// After the first signal what runs may finish for this long.
const GRACE: Duration = Duration::from_secs(5);

/// What to run, from the command line and the file.
struct Plan {
    suites: Vec<suite::Suite>,
    project: String,
    state: PathBuf,
    slots: u32,
}

pub async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let plan = plan(&args)?;
    let signals = Signals::listen()?;
    // Before anything runs: what cannot be written is said now.
    let events = args.events.as_deref().map(EventWriter::open).transpose()?;
    // Asking git takes as long as opening the house.
    let directory = PathBuf::from(&plan.suites[0].directory);
    let commit = tokio::task::spawn_blocking(move || project::commit(&directory));
    let listening = Listening {
        events,
        signals,
        commit,
    };
    let exit = match &args.coordinator {
        Some(_) => conduct(&args, &plan, None, listening).await?,
        None => {
            let mut house = LocalHouse::open(&plan.state, plan.slots).await?;
            let local = Some(house.client.clone());
            let conducted = tokio::select! {
                biased;
                conducted = conduct(&args, &plan, local, listening) => conducted,
                failure = house.agent_failed() => return Err(failure),
            };
            if !matches!(conducted, Ok(None)) {
                house.close().await;
            }
            conducted?
        }
    };
    Ok(exit.unwrap_or(Exit::Interrupted))
}

/// What a run has open from its start.
struct Listening {
    events: Option<EventWriter>,
    signals: Signals,
    commit: JoinHandle<v1::Commit>,
}

/// From the submission to the reports. None after a second signal: nothing more is waited for.
async fn conduct(
    args: &RunArgs,
    plan: &Plan,
    local: Option<Local>,
    listening: Listening,
) -> Result<Option<Exit>, Failure> {
    let Listening {
        events,
        signals,
        commit,
    } = listening;
    let channel = match (&args.coordinator, &local) {
        (Some(address), _) => connect::connect(&Address::parse(address)?).await?,
        (None, Some(local)) => local.channel().await?,
        (None, None) => unreachable!("one of the two is there"),
    };
    let mut client = client(channel);
    let request = v1::SubmitRequest {
        project: plan.project.clone(),
        run: args.run_id.clone().unwrap_or_default(),
        suites: plan.suites.clone(),
        seed: args.seed.unwrap_or_else(random_seed),
        max_fail: args.max_fail.unwrap_or(0),
        commit: Some(commit.await.unwrap_or_default()),
        evenkeel: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let run = client
        .submit(request)
        .await
        .map_err(|status| refused(&status))?
        .into_inner()
        .run;
    let style = Style::new(args.color, args.quiet);
    let mut renderer = Renderer::new(style, run.clone());

    let watching = watch_run(&mut client, &run, events, &mut renderer, signals).await?;
    let ended = match watching {
        Watched::Ended(ended) => *ended,
        Watched::Killed => return Ok(None),
    };
    let mut reports: Vec<(Report, Option<u32>, PathBuf)> = Vec::new();
    match &args.junit {
        Some(path) => reports.push((Report::Junit, None, path.clone())),
        // What the suites' own options ask for: each its own part.
        None => reports.extend(ended.junit.iter().filter_map(|wanted| {
            let suite = plan.suites.get(wanted.suite as usize)?;
            let path = Path::new(&suite.directory).join(&wanted.path);
            Some((Report::Junit, Some(wanted.suite), path))
        })),
    }
    reports.extend(
        args.json
            .iter()
            .map(|path| (Report::Json, None, path.clone())),
    );
    let mut unwritten = Vec::new();
    for (report, suite, path) in reports {
        let written = fetch(&mut client, &run, report, suite, &path).await;
        unwritten.extend(written.err());
    }
    renderer.ended(&ended);
    unwritten.iter().for_each(Failure::print);
    let exit = Exit::of_run(ended.exit_code);
    // A red run stays red, whatever else happened; every other one is not what its verdict says.
    let whole = unwritten.is_empty() || matches!(exit, Exit::Red | Exit::Unbuilt);
    Ok(Some(if whole { exit } else { Exit::Incomplete }))
}

fn plan(args: &RunArgs) -> Result<Plan, Failure> {
    let place = Place::find(args.what.root.as_deref(), args.what.state.as_deref())?;
    let (suites, slots) = suites::of_run(&args.what, &place)?;
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    Ok(Plan {
        suites,
        project: place.project(),
        state: place.state,
        slots: args.slots.or(slots).unwrap_or_else(cores),
    })
}

/// From the clock and the process id: good enough to differ, and it is recorded.
fn random_seed() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let bytes = [
        now.as_nanos().to_le_bytes(),
        u128::from(std::process::id()).to_le_bytes(),
    ]
    .concat();
    let digest = blake3::hash(&bytes);
    let first = digest
        .as_bytes()
        .first_chunk::<4>()
        .copied()
        .unwrap_or_default();
    u64::from(u32::from_le_bytes(first))
}

pub fn client(channel: Channel) -> RunServiceClient<Channel> {
    RunServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

fn refused(status: &tonic::Status) -> Failure {
    match status.code() {
        Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition => {
            Failure::usage(status.message())
        }
        _ => Failure::infrastructure("the coordinator did not take the run", status.clone()),
    }
}

pub fn store_failure(error: StoreError) -> Failure {
    match error {
        StoreError::Newer { .. } => Failure::usage(error.to_string())
            .with_hint("use the newer evenkeel, or another --state directory; nothing was changed"),
        error => Failure::infrastructure("the state directory cannot be used", error),
    }
}

/// A coordinator and an agent within this process.
pub struct LocalHouse {
    pub client: Local,
    agent: JoinHandle<Result<(), AgentError>>,
    shutdown: watch::Sender<bool>,
    // Keeps the coordinator alive.
    _coordinator: Coordinator,
}

impl LocalHouse {
    async fn open(state: &Path, slots: u32) -> Result<LocalHouse, Failure> {
        let store = Store::open(state).await.map_err(store_failure)?;
        let coordinator = Coordinator::start(
            store,
            Settings {
                closed_shop: true,
                ..Settings::default()
            },
        );
        LocalHouse::around(coordinator, state, slots).await
    }

    /// An agent beside a coordinator that has been started.
    pub async fn around(
        coordinator: Coordinator,
        cache: &Path,
        slots: u32,
    ) -> Result<LocalHouse, Failure> {
        let client = connect::embed(&coordinator);
        let guard = std::env::current_exe().map_err(|error| {
            Failure::infrastructure("the path of this program is not known", error)
        })?;
        let config = AgentConfig {
            name: "local".to_owned(),
            slots,
            labels: BTreeMap::new(),
            cache: cache.to_owned(),
            guard,
        };
        let channel = client.channel().await?;
        let (shutdown, stopped) = watch::channel(false);
        let agent =
            tokio::spawn(async move { evenkeel_agent::serve(channel, &config, stopped).await });
        Ok(LocalHouse {
            client,
            agent,
            shutdown,
            _coordinator: coordinator,
        })
    }

    /// Returns if the agent ends before it is told to: nobody else would run anything.
    pub async fn agent_failed(&mut self) -> Failure {
        match (&mut self.agent).await {
            Ok(Ok(())) => Failure::infrastructure("the local agent failed", "it left early"),
            Ok(Err(error)) => Failure::infrastructure("the local agent failed", error),
            Err(error) => Failure::infrastructure("the local agent failed", error),
        }
    }

    /// Waits until every slot has torn down and is gone.
    pub async fn close(self) {
        self.shutdown.send(true).ok();
        match self.agent.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("warning: the local agent ended badly: {error}"),
            Err(error) => eprintln!("warning: the local agent ended badly: {error}"),
        }
    }
}

/// SIGINT and SIGTERM, heard from the start.
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn listen() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::infrastructure("signals cannot be heard", error))
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

pub enum Watched {
    Ended(Box<v1::Ended>),
    /// A second signal: nothing more is waited for.
    Killed,
}

/// Shows the run until it has ended. The first signal stops it in order, the second ends this process.
pub async fn watch_run(
    client: &mut RunServiceClient<Channel>,
    run: &str,
    mut events: Option<EventWriter>,
    renderer: &mut Renderer,
    mut signals: Signals,
) -> Result<Watched, Failure> {
    let mut after = 0;
    let mut signalled = false;
    let lost = |status: tonic::Status| {
        Failure::infrastructure(
            "the coordinator is gone, so the run's verdict is not known",
            status,
        )
    };
    'attach: loop {
        let request = v1::WatchRequest {
            run: run.to_owned(),
            after,
            rows: events.is_some(),
        };
        let mut stream = client.watch(request).await.map_err(lost)?.into_inner();
        loop {
            let message = tokio::select! {
                message = stream.message() => message.map_err(lost)?,
                name = signals.next() => {
                    if signalled {
                        return Ok(Watched::Killed);
                    }
                    signalled = true;
                    renderer.notice(&format!("{name}: finishing what runs; once more to end at once"));
                    let stop = v1::StopRequest {
                        run: run.to_owned(),
                        reason: format!("interrupted by {name}"),
                        grace_us: GRACE.as_micros() as u64,
                    };
                    client.stop(stop).await.map_err(lost)?;
                    continue;
                }
                () = renderer.tick() => continue,
            };
            // A stream that ends without a last word was cut because we were too slow: attach again where we were.
            let Some(event) = message else {
                continue 'attach;
            };
            match event.body {
                Some(Body::Row(row)) => {
                    after = row.sequence;
                    if let Some(events) = &mut events {
                        events.row(&row)?;
                    }
                }
                Some(Body::Ended(ended)) => {
                    if let Some(events) = events {
                        events.close()?;
                    }
                    return Ok(Watched::Ended(Box::new(ended)));
                }
                Some(Body::Progress(progress)) => renderer.progress(progress),
                Some(Body::Failure(failure)) => renderer.failure(failure),
                Some(Body::Printed(printed)) => renderer.printed(printed),
                Some(Body::Notice(notice)) => renderer.log(&notice),
                None => {}
            }
        }
    }
}

/// Copies a report to where the user wants it; the file appears whole or not at all.
async fn fetch(
    client: &mut RunServiceClient<Channel>,
    run: &str,
    report: Report,
    suite: Option<u32>,
    path: &Path,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::infrastructure(
            format!("the report {} cannot be written", path.display()),
            error,
        )
    };
    let request = v1::FetchRequest {
        run: run.to_owned(),
        report: report as i32,
        suite,
    };
    let lost = |status| Failure::infrastructure("the report cannot be fetched", status);
    let mut chunks = client.fetch(request).await.map_err(lost)?.into_inner();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut file = std::fs::File::create(&partial).map_err(failed)?;
    while let Some(chunk) = chunks.message().await.map_err(lost)? {
        file.write_all(&chunk.data).map_err(failed)?;
    }
    std::fs::rename(&partial, path).map_err(failed)
}
