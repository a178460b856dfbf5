//! `evenkeel timings`: durations from elsewhere, and what is recorded.

use crate::cli::{ImportArgs, OfSuite, TimesArgs, Timings, TimingsArgs};
use crate::config::Place;
use crate::exit::{Exit, Failure};
use crate::run::store_failure;
use evenkeel_coordinator::report::{Imported, Naming, import};
use evenkeel_coordinator::store::{CaseTime, Store, UnitTimes, samples_from};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub async fn timings(args: TimingsArgs) -> Result<Exit, Failure> {
    match args.what {
        Timings::Import(args) => take_in(args).await,
        Timings::Show(args) => show(args).await,
        Timings::Export(args) => export(args).await,
    }
}

/// Which suite's durations are meant.
struct Meant {
    place: Place,
    suite: Option<String>,
    /// The framework of the suite, and the directory that it runs in.
    runner: Option<String>,
    directory: PathBuf,
}

fn meant(of: &OfSuite) -> Result<Meant, Failure> {
    let place = Place::find(of.root.as_deref(), of.state.as_deref())?;
    let suites = place.found.as_ref().map(|found| found.config.suites());
    let configured = suites.and_then(|suites| {
        let wanted = of.suite.as_ref();
        let mut fitting = suites
            .into_iter()
            .map(|(name, suite)| (name, suite.get_ref()))
            .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(first)
    });
    let runner = configured.and_then(|(_, suite)| {
        let runner = suite.runner.as_ref().map(|runner| runner.get_ref().clone());
        let command = suite.command.get_ref().list();
        let framework = evenkeel_agent::recognise(&command, &runner.unwrap_or_default()).ok()?;
        Some(framework.name().to_owned())
    });
    let directory = configured.map(|(_, suite)| match &suite.directory {
        Some(directory) => place.home.join(directory.get_ref()),
        None => place.home.clone(),
    });
    let suite = of.suite.clone();
    let suite = suite.or_else(|| configured.map(|(name, _)| name.to_owned()));
    Ok(Meant {
        directory: directory.unwrap_or_else(|| place.root.clone()),
        suite,
        runner,
        place,
    })
}

async fn take_in(args: ImportArgs) -> Result<Exit, Failure> {
    let meant = meant(&args.of)?;
    let (project, suite) = (meant.place.project(), meant.suite.clone());
    let suite = suite.ok_or_else(|| {
        Failure::usage("which suite are these durations of?").with_hint(
            "name it: --suite pytest or --suite cargo for a suite whose command is given to `evenkeel run`, else its name in evenkeel.toml",
        )
    })?;
    let runner = args
        .runner
        .as_ref()
        .or(meant.runner.as_ref())
        .unwrap_or(&suite);
    let naming = match runner.as_str() {
        "pytest" => Naming::Pytest,
        "cargo" => Naming::Cargo,
        _ => Naming::Files,
    };
    let root = meant.directory.clone();
    let files = args.files.clone();
    let read = tokio::task::spawn_blocking(move || {
        let read = files.par_iter().map(|path| {
            import(path, naming, &root).map_err(|error| {
                Failure::usage(format!("cannot read {}", path.display())).caused_by(error)
            })
        });
        read.collect::<Result<Vec<Imported>, Failure>>()
    });
    let read = read
        .await
        .map_err(|error| Failure::infrastructure("the reports could not be read", error))??;
    let mut cases: Vec<CaseTime> = Vec::new();
    let mut setup = BTreeMap::new();
    let mut damaged = false;
    for file in read {
        let (path, summary) = (file.path.display(), &file.summary);
        if let Some(damage) = &summary.damage {
            damaged = true;
            say!(
                "warning: {path}: {damage}; {} tests before that are taken",
                file.cases.len()
            );
        }
        if file.useless > 0 {
            say!(
                "warning: {path}: {} of {} tests have no time, or nothing in them says which {} they belong to",
                file.useless,
                summary.cases,
                match naming {
                    Naming::Pytest => "file of this directory",
                    Naming::Cargo => "test binary",
                    Naming::Files => "file or suite",
                }
            );
        }
        cases.extend(file.cases);
        setup.extend(file.setup);
    }
    if cases.is_empty() {
        return Err(
            Failure::usage("no test with a time was found, so nothing was imported").with_hint(
                "are these JUnit reports of this suite, and is this its directory (--root)?",
            ),
        );
    }
    let samples = samples_from(&project, &suite, &cases, &setup);
    let units = samples.len();
    let store = Store::open(&meant.place.state)
        .await
        .map_err(store_failure)?;
    store.import(samples).await.map_err(store_failure)?;
    say!(
        "imported {} tests in {units} units of suite {suite}, project {}",
        cases.len(),
        project
    );
    Ok(if damaged {
        Exit::Incomplete
    } else {
        Exit::Green
    })
}

/// What is recorded of a suite: of at least one unit.
pub(crate) async fn recorded(of: &OfSuite) -> Result<Vec<UnitTimes>, Failure> {
    let meant = meant(of)?;
    let project = meant.place.project();
    let state = crate::show::state_directory(Some(meant.place.state))?;
    let store = Store::read(&state).await.map_err(store_failure)?;
    let suites = store.suites(&project).await.map_err(store_failure)?;
    let suite = match meant.suite {
        Some(suite) => suite,
        None if suites.len() == 1 => suites[0].clone(),
        None => {
            if suites.is_empty() {
                let state = state.display();
                return Err(Failure::usage(format!(
                    "nothing is recorded of project {project} in {state}"
                ))
                .with_hint("run a suite first, or name another project's directory: --root DIR"));
            }
            let names = suites.join(", ");
            return Err(Failure::usage(format!(
                "project {} has durations of several suites or of none",
                project
            ))
            .with_hint(format!("name one with --suite: {names}")));
        }
    };
    let times = store.times(&project, &suite).await.map_err(store_failure)?;
    if times.is_empty() {
        let message = format!(
            "nothing is recorded of suite {suite} in project {}",
            project
        );
        return Err(Failure::usage(message)
            .with_hint(format!("there is something of: {}", suites.join(", "))));
    }
    Ok(times)
}

async fn show(args: TimesArgs) -> Result<Exit, Failure> {
    let mut times = recorded(&args.of).await?;
    times.sort_by_key(|unit| std::cmp::Reverse(unit.work + unit.setup));
    println!(
        "{:>10} {:>10} {:>6} {:>7}  unit",
        "work s", "set-up s", "tests", "samples"
    );
    for unit in &times {
        println!(
            "{:>10.3} {:>10.3} {:>6} {:>7}  {}{}",
            unit.work.as_secs_f64(),
            unit.setup.as_secs_f64(),
            unit.cases.len(),
            unit.samples,
            unit.unit,
            if unit.imported { " (imported)" } else { "" }
        );
    }
    Ok(Exit::Green)
}

#[derive(Serialize)]
struct Export<'a> {
    suite: &'a str,
    unit: &'a str,
    work_s: f64,
    setup_s: f64,
    samples: u32,
    imported: bool,
    tests: Vec<ExportedTest<'a>>,
}

#[derive(Serialize)]
struct ExportedTest<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    occurrence: u32,
    duration_s: f64,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One object a unit and line.
async fn export(args: TimesArgs) -> Result<Exit, Failure> {
    for unit in recorded(&args.of).await? {
        let line = Export {
            suite: &unit.suite,
            unit: &unit.unit,
            work_s: unit.work.as_secs_f64(),
            setup_s: unit.setup.as_secs_f64(),
            samples: unit.samples,
            imported: unit.imported,
            tests: unit
                .cases
                .iter()
                .map(|(key, took)| ExportedTest {
                    id: &key.id,
                    occurrence: key.occurrence,
                    duration_s: took.as_secs_f64(),
                })
                .collect(),
        };
        let line = serde_json::to_string(&line).expect("durations are plain data");
        println!("{line}");
    }
    Ok(Exit::Green)
}
