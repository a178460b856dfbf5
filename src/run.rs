//! `evenkeel run`: submit a suite, watch it, fetch the reports, exit with the verdict.

use crate::cli::{Order, RunArgs};
use crate::config::Place;
use crate::connect::{self, Local};
use crate::events::EventWriter;
use crate::exit::{Exit, Failure};
use crate::project;
use crate::remote;
use crate::render::{Renderer, Style};
use crate::suites;
use evenkeel_agent::{Agent, AgentConfig, AgentError, Left};
use evenkeel_coordinator::client::{Remote, Seen};
use evenkeel_coordinator::server::{Coordinator, Settings};
use evenkeel_coordinator::store::{Store, StoreError};
use evenkeel_proto::{suite, v1};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use v1::fetch_request::Report;
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
        mut signals,
        commit,
    } = listening;
    let remote = match (&args.coordinator, &local) {
        (Some(address), _) => match signals.unless(remote::reach(address, &args.reach)).await {
            Some(reached) => reached?,
            None => return Ok(None),
        },
        (None, Some(local)) => remote::local(local.channel().await?),
        (None, None) => unreachable!("one of the two is there"),
    };
    let named = args.run_id.clone();
    let request = v1::SubmitRequest {
        project: plan.project.clone(),
        // What is submitted again, since no answer came, must be the same run.
        run: named
            .clone()
            .or_else(|| args.coordinator.as_ref().map(|_| run_id()))
            .unwrap_or_default(),
        suites: plan.suites.clone(),
        seed: args.seed.unwrap_or_else(random_seed),
        max_fail: args.max_fail.unwrap_or(0),
        commit: Some(commit.await.unwrap_or_default()),
        evenkeel: env!("CARGO_PKG_VERSION").to_owned(),
        priority: args.priority,
        labels: args.labels.iter().cloned().collect(),
        first_red: args.order == Order::FirstRed,
    };
    let submitting = remote.ask(|mut client| {
        let request = request.clone();
        async move { client.submit(request).await }
    });
    let submitted = if args.coordinator.is_some() {
        match signals.unless(submitting).await {
            Some(submitted) => submitted?,
            None => return Ok(None),
        }
    } else {
        submitting.await?
    };
    if submitted.attached && named.is_some() {
        say!("run {} is running already; following it", submitted.run);
    }
    if args.detach {
        println!("{}", submitted.run);
        return Ok(Some(Exit::Green));
    }
    let meant = Meant {
        project: plan.project.clone(),
        run: submitted.run,
    };
    let style = Style::new(args.color, args.quiet);
    let mut renderer = Renderer::new(style, meant.run.clone()).of(args.coordinator.as_deref());
    let watching = watch_run(
        &remote,
        &meant,
        events,
        &mut renderer,
        signals,
        OnSignal::Stop,
    );
    let ended = match watching.await? {
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
    Ok(Some(
        conclude(&remote, &meant, &mut renderer, &ended, reports).await,
    ))
}

/// The reports where they are wanted, the end of the run on the terminal, and its exit code.
pub async fn conclude(
    remote: &Remote,
    meant: &Meant,
    renderer: &mut Renderer,
    ended: &v1::Ended,
    reports: Vec<(Report, Option<u32>, PathBuf)>,
) -> Exit {
    let mut unwritten = Vec::new();
    for (report, suite, path) in reports {
        let written = fetch(remote, meant, report, suite, &path).await;
        unwritten.extend(written.err());
    }
    renderer.ended(ended);
    unwritten.iter().for_each(Failure::print);
    let exit = Exit::of_run(ended.exit_code);
    // A red run stays red, whatever else happened; every other one is not what its verdict says.
    let whole = unwritten.is_empty() || matches!(exit, Exit::Red | Exit::Unbuilt);
    if whole { exit } else { Exit::Incomplete }
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

/// Date, time and four random characters: sorts by age, short enough to type.
fn run_id() -> String {
    let now = jiff::Timestamp::now();
    let random = random_seed() & 0xffff;
    format!("{}-{random:04x}", now.strftime("%Y%m%d-%H%M%S"))
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
    agent: JoinHandle<Result<Left, AgentError>>,
    shutdown: watch::Sender<bool>,
    // Keeps the coordinator alive.
    _coordinator: Coordinator,
}

impl LocalHouse {
    async fn open(state: &Path, slots: u32) -> Result<LocalHouse, Failure> {
        let store = Store::open(state).await.map_err(store_failure)?;
        let settings = Settings {
            closed_shop: true,
            ..Settings::default()
        };
        let coordinator = Coordinator::start(store, settings)
            .await
            .map_err(store_failure)?;
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
            run: None,
            drain: Duration::ZERO,
            cache: cache.to_owned(),
            guard,
        };
        let channel = client.channel().await?;
        let (shutdown, stopped) = watch::channel(false);
        let mut agent = Agent::new(config)
            .map_err(|error| Failure::infrastructure("the local agent failed", error))?;
        let agent = tokio::spawn(async move {
            let served = agent.serve(channel, stopped, || {}).await;
            agent.end().await;
            served
        });
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
            Ok(Ok(_)) => Failure::infrastructure("the local agent failed", "it left early"),
            Ok(Err(error)) => Failure::infrastructure("the local agent failed", error),
            Err(error) => Failure::infrastructure("the local agent failed", error),
        }
    }

    /// Waits until every slot has torn down and is gone.
    pub async fn close(self) {
        self.shutdown.send(true).ok();
        match self.agent.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => say!("warning: the local agent ended badly: {error}"),
            Err(error) => say!("warning: the local agent ended badly: {error}"),
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

    /// What comes of something that may take long; nothing where a signal comes first.
    pub async fn unless<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = what => Some(done),
            _ = self.next() => None,
        }
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

/// A run, as people name it.
#[derive(Clone, Debug)]
pub struct Meant {
    /// Empty where the run's id says it all.
    pub project: String,
    pub run: String,
}

/// What a signal does to the run that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSignal {
    /// The first stops it in order, the second ends this process.
    Stop,
    /// It goes on without this process.
    Leave,
}

/// Shows the run until it has ended, across restarts of its coordinator.
pub async fn watch_run(
    remote: &Remote,
    meant: &Meant,
    mut events: Option<EventWriter>,
    renderer: &mut Renderer,
    mut signals: Signals,
    on_signal: OnSignal,
) -> Result<Watched, Failure> {
    let mut following = remote.follow(&meant.project, &meant.run, events.is_some());
    let mut signalled = false;
    loop {
        let seen = tokio::select! {
            seen = following.next() => seen?,
            name = signals.next() => {
                if following.is_cut() {
                    renderer.notice(&format!("{name}: the coordinator is not there"));
                    return Ok(Watched::Killed);
                }
                if on_signal == OnSignal::Leave {
                    renderer.notice(&format!("{name}: the run goes on; `evenkeel cancel` ends it"));
                    return Ok(Watched::Killed);
                }
                if signalled {
                    return Ok(Watched::Killed);
                }
                signalled = true;
                renderer.notice(&format!("{name}: finishing what runs; once more to end at once"));
                let stop = v1::StopRequest {
                    run: meant.run.clone(),
                    reason: format!("interrupted by {name}"),
                    grace_us: GRACE.as_micros() as u64,
                    project: meant.project.clone(),
                };
                if let Err(status) = remote.client().stop(stop).await {
                    renderer.notice(&format!("the coordinator does not hear it: {}", status.message()));
                }
                continue;
            }
            () = renderer.tick() => continue,
        };
        let body = match seen {
            Seen::Event(body) => body,
            Seen::Cut(status) => {
                renderer.notice(&format!(
                    "the connection to the coordinator is lost ({}); attaching again",
                    status.message()
                ));
                continue;
            }
        };
        match body {
            Body::Row(row) => {
                if let Some(events) = &mut events {
                    events.row(&row)?;
                }
            }
            Body::Ended(ended) => {
                if let Some(events) = events {
                    events.close()?;
                }
                return Ok(Watched::Ended(Box::new(ended)));
            }
            Body::Progress(progress) => renderer.progress(progress),
            Body::Failure(failure) => renderer.failure(failure),
            Body::Printed(printed) => renderer.printed(printed),
            Body::Notice(notice) => renderer.log(&notice),
        }
    }
}

/// Copies a report to where the user wants it; the file appears whole or not at all.
async fn fetch(
    remote: &Remote,
    meant: &Meant,
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
        run: meant.run.clone(),
        report: report as i32,
        suite,
        project: meant.project.clone(),
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut patience = remote.patience();
    'again: loop {
        let mut file = std::fs::File::create(&partial).map_err(failed)?;
        let mut chunks = match remote.client().fetch(request.clone()).await {
            Ok(chunks) => chunks.into_inner(),
            Err(status) => {
                patience.again(status).await?;
                continue;
            }
        };
        loop {
            match chunks.message().await {
                Ok(Some(chunk)) => file.write_all(&chunk.data).map_err(failed)?,
                Ok(None) => break 'again,
                Err(status) => {
                    patience.again(status).await?;
                    continue 'again;
                }
            }
        }
    }
    std::fs::rename(&partial, path).map_err(failed)
}
