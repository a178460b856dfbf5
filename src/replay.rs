//! `evenkeel reproduce`: run what a shard ran, in that order, in the same processes' bounds, and leave no trace.

use crate::cli::ReproduceArgs;
use crate::exit::{Exit, Failure};
use crate::project;
use crate::remote;
use crate::render::{Renderer, Style};
use crate::run::{LocalHouse, Meant, OnSignal, Signals, Watched, store_failure, watch_run};
use crate::show;
use evenkeel_coordinator::record::{Attempt, Record};
use evenkeel_coordinator::run::{CaseKey, Script, ScriptLease};
use evenkeel_coordinator::server::{Coordinator, Replay};
use evenkeel_coordinator::store::Store;
use evenkeel_proto::{suite::Suite, v1};
use std::collections::BTreeMap;
use std::path::Path;

pub async fn reproduce(args: ReproduceArgs) -> Result<Exit, Failure> {
    let found = show::load(&args.books, &args.run).await?;
    let (record, state) = (found.record, found.state);
    let run = record.opened.run.clone();
    let (shard, shards) = args.shard;
    let count = record.shards.len() as u32;
    if shards != count || shard > count {
        return Err(Failure::usage(format!(
            "run {run} has {count} shards, so there is no shard {shard}/{shards}"
        ))
        .with_hint(format!("name one of 1/{count} to {count}/{count}")));
    }
    let suites = (0..).zip(&record.opened.suites);
    let suite = match &args.suite {
        Some(name) => {
            let mut named = suites.filter(|(_, suite)| suite.name == *name);
            let missing = || {
                Failure::usage(format!("run {run} has no suite {name:?}"))
                    .with_hint(format!("its suites are: {}", record.suites()))
            };
            Some(named.next().ok_or_else(missing)?.0)
        }
        None => None,
    };
    let until = args.until.as_deref().map(|test| Until { test, suite });
    let script = script(&record, shard - 1, until)?;
    let opened = &record.opened;
    for suite in &opened.suites {
        if !Path::new(&suite.directory).is_dir() {
            return Err(Failure::usage(format!(
                "the run's directory {} is not on this machine",
                suite.directory
            )));
        }
    }
    let commit = project::commit(Path::new(&opened.suites[0].directory));
    if commit.id != opened.commit || commit.changes != opened.changes {
        say!("warning: the checkout is not as it was in that run; what runs may differ");
    }

    // The replay keeps its own books, in a place that goes away with it: the run's record and the history stay as they are.
    let books = Books::create()?;
    let scratch = Store::open(&books.0).await.map_err(store_failure)?;
    let coordinator = Coordinator::start_replay(
        scratch,
        Replay {
            script,
            identity: (shard - 1, shards),
        },
    );
    let signals = Signals::listen()?;
    let mut house = LocalHouse::around(coordinator, &state, 1).await?;
    let remote = remote::local(house.client.channel().await?);
    let request = v1::SubmitRequest {
        project: opened.project.clone(),
        run: opened.run.clone(),
        suites: (0..)
            .zip(&opened.suites)
            .map(|(number, suite)| Suite {
                environment: recorded_environment(&record, shard - 1, number),
                ..suite.clone()
            })
            .collect(),
        seed: opened.seed,
        max_fail: 0,
        commit: Some(commit),
        evenkeel: env!("CARGO_PKG_VERSION").to_owned(),
        ..v1::SubmitRequest::default()
    };
    let refused =
        |status: tonic::Status| Failure::infrastructure("the shard cannot be run again", status);
    let submitted = remote.client().submit(request).await;
    let run = submitted.map_err(refused)?.into_inner().run;
    let meant = Meant {
        project: opened.project.clone(),
        run: run.clone(),
    };
    let mut renderer = Renderer::new(
        Style::new(args.color, false),
        format!("{run}, shard {shard}/{shards} again"),
    )
    .playing(shard - 1);
    let watched = tokio::select! {
        biased;
        watched = watch_run(&remote, &meant, None, &mut renderer, signals, OnSignal::Stop) => watched?,
        failure = house.agent_failed() => return Err(failure),
    };
    let ended = match watched {
        Watched::Ended(mut ended) => {
            // To reproduce the reproduction is the same command again.
            ended.failing.clear();
            // Processes that start anew on purpose say nothing about a schedule.
            ended.explanation.clear();
            ended
        }
        Watched::Killed => return Ok(Exit::Interrupted),
    };
    renderer.ended(&ended);
    house.close().await;
    Ok(Exit::of_run(ended.exit_code))
}

/// The suite's environment, and what the slot's processes were seen to have of what changes how tests behave.
fn recorded_environment(record: &Record, shard: u32, suite: u32) -> BTreeMap<String, String> {
    const TAKEN: [&str; 12] = [
        "CI",
        "LANG",
        "LC_ALL",
        "TZ",
        "PYTHONHASHSEED",
        "PYTHONWARNINGS",
        "PYTEST_ADDOPTS",
        "PYTEST_PLUGINS",
        "DJANGO_SETTINGS_MODULE",
        "NODE_ENV",
        "RUST_BACKTRACE",
        "RUSTFLAGS",
    ];
    let suite_number = suite;
    let suite = &record.opened.suites[suite_number as usize];
    let mut environment = suite.environment.clone();
    let mut processes = record.shards[shard as usize].processes.iter();
    // Of a process that has the suite's own environment, which is the kind of the same number.
    if let Some(process) = processes.find(|process| process.started.kind == suite_number) {
        let seen = process
            .started
            .environment
            .iter()
            .filter(|(name, _)| TAKEN.contains(&name.as_str()));
        environment.extend(seen.map(|(name, value)| (name.clone(), value.clone())));
    }
    environment
}

/// The test behind which a shard stops.
#[derive(Clone, Copy)]
struct Until<'a> {
    test: &'a str,
    /// The number of its suite, where it is known.
    suite: Option<u32>,
}

/// What the shard's processes ran, in order. A lease that did not run all of its unit names the cases that it started.
fn script(record: &Record, shard: u32, until: Option<Until<'_>>) -> Result<Script, Failure> {
    let mut processes: BTreeMap<u32, Vec<ScriptLease>> = BTreeMap::new();
    let mut found = until.is_none();
    let mut leases: Vec<(u64, &evenkeel_coordinator::record::Lease)> = record.shards
        [shard as usize]
        .leases
        .iter()
        .filter_map(|number| {
            Some((
                *number,
                record
                    .lease(*number)
                    .filter(|lease| lease.begun.is_some())?,
            ))
        })
        .collect();
    leases.sort_by_key(|(_, lease)| lease.begun.map(|begun| begun.at));
    for (number, lease) in leases {
        let Some(begun) = lease.begun else { continue };
        let unit = &record.units[lease.unit as usize];
        // The attempts under this lease, in the order in which they started.
        let mut ran: Vec<(&Attempt, CaseKey)> = unit
            .cases
            .iter()
            .flat_map(|case| case.attempts().map(move |attempt| (attempt, case)))
            .filter(|(attempt, _)| u64::from(attempt.lease) == number)
            .map(|(attempt, case)| {
                (
                    attempt,
                    CaseKey {
                        id: case.id.to_string(),
                        occurrence: case.occurrence,
                    },
                )
            })
            .collect();
        ran.sort_by_key(|(attempt, _)| attempt.ordinal);
        let here = until.filter(|until| until.suite.is_none_or(|suite| suite == unit.suite));
        let stop = here.and_then(|until| ran.iter().position(|(_, key)| key.id == until.test));
        if let Some(stop) = stop {
            ran.truncate(stop + 1);
        }
        let whole = stop.is_none() && ran.len() == unit.cases.len();
        if ran.is_empty() && unit.declared && stop.is_none() {
            continue; // everything of it ran elsewhere
        }
        let loads_only = ran.is_empty() || ran.iter().any(|(_, key)| key.id == *unit.name);
        let only = if whole || loads_only {
            Vec::new()
        } else {
            ran.into_iter().map(|(_, key)| key).collect()
        };
        let lease = ScriptLease {
            suite: unit.suite,
            unit: unit.name.to_string(),
            path: unit.path.to_string(),
            only,
        };
        processes.entry(begun.incarnation).or_default().push(lease);
        if stop.is_some() {
            found = true;
            break;
        }
    }
    if !found {
        let until = until.map_or("", |until| until.test);
        return Err(
            Failure::usage(format!("shard {} did not run {until}", shard + 1))
                .with_hint("`evenkeel show` and the JSON report say which shard ran which test"),
        );
    }
    if processes.is_empty() {
        return Err(Failure::usage(format!("shard {} ran nothing", shard + 1)));
    }
    Ok(Script {
        processes: processes.into_values().collect(),
    })
}

/// A state directory that is removed at the end.
struct Books(std::path::PathBuf);

impl Books {
    fn create() -> Result<Books, Failure> {
        let path = std::env::temp_dir().join(format!("evenkeel-replay-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| {
            Failure::infrastructure("no temporary directory can be made", error)
        })?;
        Ok(Books(path))
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
