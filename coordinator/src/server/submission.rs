//! What clients submit, checked; and runs as they begin, anew or from what the store holds of them.

use super::error_chain;
use super::hub::{Name, failed, key};
use super::panics;
use super::run_task::{self, Opened};
use super::set_aside::set_aside;
use super::{Replay, Settings};
use crate::record::Record;
use crate::report;
use crate::run::{self, History, Run};
use crate::store::{HistoryQuery, RunHandle, Store, StoreError, Unfinished, command_digest};
use crate::wire::Opening;
use evenkeel_proto::{ledger as l, suite::Suite, v1};
use evenkeel_schedule::Micros;
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::Status;

/// The most that a client may ask for.
const MAX_SUITES: usize = 256;
const MAX_LABELS: usize = 64;
/// Of a name or a label, in bytes.
const MAX_NAME: usize = 256;

pub(super) struct Submission {
    pub opened: l::RunOpened,
    rules: run::Rules,
    settings: run::Settings,
    identity: Option<(u32, u32)>,
}

impl Submission {
    pub(super) fn check(
        request: v1::SubmitRequest,
        settings: &Settings,
        replay: Option<&Replay>,
    ) -> Result<Submission, Status> {
        let suites = request.suites;
        check_suites(&suites).map_err(Status::invalid_argument)?;
        let rules = run::Rules::new(&suites)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let now = unix_us();
        let run = if request.run.is_empty() {
            run_id(now)
        } else {
            request.run
        };
        check_run_id(&run).map_err(Status::invalid_argument)?;
        check_name("a project", &request.project).map_err(Status::invalid_argument)?;
        check_labels(&request.labels).map_err(Status::invalid_argument)?;
        let commit = request.commit.unwrap_or_default();
        let opened = l::RunOpened {
            project: request.project,
            run,
            round: 1,
            opened_unix_us: now,
            seed: request.seed,
            max_fail: request.max_fail,
            commit: commit.id,
            branch: commit.branch,
            changes: commit.changes,
            evenkeel: request.evenkeel,
            suites,
            priority: request.priority,
            labels: request.labels,
            first_red: request.first_red,
            ..l::RunOpened::default()
        };
        Ok(Submission {
            settings: run::Settings {
                max_fail: request.max_fail,
                closed_shop: settings.closed_shop,
                script: replay.map(|replay| replay.script.clone()),
                few: None,
                answer: None,
            },
            identity: replay.map(|replay| replay.identity),
            opened,
            rules,
        })
    }

    pub(super) fn name(&self) -> Name {
        (self.opened.project.clone(), self.opened.run.clone())
    }

    /// Registers the run in the store.
    pub(super) async fn open(self, store: &Store) -> Result<Opened, Status> {
        let name = self.name();
        let now = self.opened.opened_unix_us;
        let (kinds, seed) = (self.rules.kinds(), self.opened.seed);
        let (run, effects) = Run::open(self.opened, self.rules, self.settings);
        let (rows, effects) = run_task::first_rows(effects);
        let stored = rows.len() as u64;
        let opened = store.open_run(key(&name), now, run.record().suites(), rows);
        let handle = opened.await.map_err(|error| failed(&error))?;
        let opening = Opening {
            run: name.1,
            number: handle.number() as u64,
            kinds,
            seed,
            identity: self.identity,
        };
        Ok(Opened {
            run,
            handle,
            opening,
            stored,
            effects,
            history_loaded: false,
            since: Micros::ZERO,
        })
    }
}

/// Runs that an earlier coordinator left without a verdict, as they go on. One that cannot is left alone, and named; one that ended several
/// coordinators is closed.
pub(super) async fn recover(
    store: &Store,
    settings: &Settings,
) -> Result<(Vec<Opened>, Vec<String>), StoreError> {
    let mut opened = Vec::new();
    let mut failed = Vec::new();
    for unfinished in store.unfinished().await? {
        let name = unfinished.row.key.run.clone();
        let directory = store.run_directory(unfinished.handle);
        let panics = panics::noted(&directory);
        if panics.len() < panics::MOST {
            let recovering = recover_one(store, settings, unfinished);
            match panics::for_run(directory, recovering).await {
                Ok(run) => opened.push(run),
                Err(reason) => failed.push(format!("run {name} cannot be gone on with: {reason}")),
            }
        } else if panics.len() == panics::MOST {
            let closing = close_one(store, unfinished, &panics);
            match panics::for_run(directory, closing).await {
                Ok(reason) => failed.push(format!("run {name} is closed: {reason}")),
                Err(reason) => failed.push(format!("run {name} cannot be closed: {reason}")),
            }
        } else {
            let last = panics.last().map_or("", String::as_str);
            failed.push(format!(
                "run {name} is left alone, it cannot even be closed: {last}"
            ));
        }
    }
    Ok((opened, failed))
}

async fn close_one(
    store: &Store,
    unfinished: Unfinished,
    panics: &[String],
) -> Result<String, String> {
    let record = record_of(&unfinished.batches)?;
    set_aside(store, unfinished.handle, record, panics).await
}

fn record_of(batches: &[l::Batch]) -> Result<Record, String> {
    let mut record = Record::default();
    for batch in batches {
        record
            .apply_batch(batch)
            .map_err(|error| error.to_string())?;
    }
    Ok(record)
}

async fn recover_one(
    store: &Store,
    settings: &Settings,
    unfinished: Unfinished,
) -> Result<Opened, String> {
    let record = record_of(&unfinished.batches)?;
    let stored = unfinished.batches.len() as u64;
    drop(unfinished.batches);
    let rules = run::Rules::new(&record.opened.suites).map_err(|error| error.to_string())?;
    let (handle, kinds) = (unfinished.handle, rules.kinds());
    let queries = history_queries(&record, None);
    let history = match queries {
        Some(queries) => Some(
            load_history(store, queries)
                .await
                .map_err(|error| error_chain(&error))?,
        ),
        None => None,
    };
    let run_settings = run::Settings {
        max_fail: record.opened.max_fail,
        closed_shop: settings.closed_shop,
        script: None,
        few: None,
        answer: None,
    };
    let opening = Opening {
        run: record.opened.run.clone(),
        number: handle.number() as u64,
        kinds,
        seed: record.opened.seed,
        identity: None,
    };
    let outputs = store.run_directory(handle).join(report::OUTPUTS);
    let texts = std::fs::metadata(&outputs).map_or(0, |file| file.len());
    let since = clock_of(&record);
    let history_loaded = history.is_some();
    let epoch = epoch_of(handle);
    let recovered = Run::recover(record, rules, run_settings, history, epoch, texts, since);
    let (run, effects) = recovered.map_err(|error| error.to_string())?;
    Ok(Opened {
        run,
        handle,
        opening,
        stored,
        effects,
        history_loaded,
        since,
    })
}

fn epoch_of(handle: RunHandle) -> u64 {
    handle.epoch() as u64
}

/// Where the run's clock stands now: it counts from its opening, and never goes back, whatever the machine's clock does.
pub(super) fn clock_of(record: &Record) -> Micros {
    let passed = unix_us().saturating_sub(record.opened.opened_unix_us);
    Micros(passed).max(record.latest)
}

/// What to ask the history for, once an agent has shown on what kind of machine the run goes.
pub(super) fn history_queries(
    record: &Record,
    machine: Option<(&str, u32)>,
) -> Option<Vec<HistoryQuery>> {
    let first = record.agents.first();
    let (class, slots) = machine.or_else(|| {
        let slots = record.shards.len() as u32;
        first.map(|agent| (agent.environment_class.as_str(), slots))
    })?;
    let suites = record.opened.suites.iter();
    let query = |suite: &Suite| HistoryQuery {
        project: record.opened.project.clone(),
        suite: suite.name.clone(),
        command: command_digest(suite),
        environment_class: class.to_owned(),
        slots,
    };
    Some(suites.map(query).collect())
}

pub(super) async fn load_history(
    store: &Store,
    queries: Vec<HistoryQuery>,
) -> Result<History, StoreError> {
    let mut history = History::default();
    for query in queries {
        history.suites.push(store.history(query).await?);
    }
    Ok(history)
}

fn unix_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A run has suites, each with a command and a name of its own.
fn check_suites(suites: &[Suite]) -> Result<(), String> {
    if suites.is_empty() {
        return Err("a submission needs a suite".to_owned());
    }
    if suites.len() > MAX_SUITES {
        return Err(format!("a run has at most {MAX_SUITES} suites"));
    }
    for (number, suite) in suites.iter().enumerate() {
        check_name("a suite", &suite.name)?;
        if suite.command.is_empty() {
            return Err(format!("the command of suite {:?} is empty", suite.name));
        }
        if suites[..number]
            .iter()
            .any(|other| other.name == suite.name)
        {
            return Err(format!("two suites are named {:?}", suite.name));
        }
    }
    Ok(())
}

pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!("the name of {what} has at most {MAX_NAME} bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("the name of {what} holds control characters"));
    }
    Ok(())
}

pub(super) fn check_labels(
    labels: &std::collections::BTreeMap<String, String>,
) -> Result<(), String> {
    if labels.len() > MAX_LABELS {
        return Err(format!("at most {MAX_LABELS} labels are allowed"));
    }
    for (key, value) in labels {
        check_name("a label", key)?;
        check_name("a label's value", value)?;
    }
    Ok(())
}

/// Date, time and four random characters: sorts by age, short enough to type.
fn run_id(unix_us: u64) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let seconds = jiff::Timestamp::from_second((unix_us / 1_000_000) as i64).unwrap_or_default();
    let salt = blake3::hash(
        &[
            unix_us.to_le_bytes(),
            u64::from(std::process::id()).to_le_bytes(),
            COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes(),
        ]
        .concat(),
    );
    format!(
        "{}-{}",
        seconds.strftime("%Y%m%d-%H%M%S"),
        &salt.to_hex()[..4]
    )
}

/// Run ids become parts of file names, commands and environment variables.
fn check_run_id(run: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let fits =
        (1..=128).contains(&run.len()) && run.chars().all(allowed) && !run.starts_with(['.', '-']);
    if fits {
        return Ok(());
    }
    Err(format!(
        "{run:?} is no run id: up to 128 letters, digits and - _ . : are allowed, the first neither '.' nor '-'"
    ))
}
