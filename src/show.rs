//! `evenkeel runs` and `evenkeel show`: what the store holds.

use crate::cli::{Books, RunsArgs, ShowArgs};
use crate::exit::{Exit, Failure};
use crate::remote;
use crate::render::totals_line;
use crate::run::store_failure;
use evenkeel_coordinator::record::{Record, Verdict};
use evenkeel_coordinator::rehearsal::{Explained, explain, words};
use evenkeel_coordinator::store::{RunRow, Store};
use evenkeel_proto::v1;
use std::path::PathBuf;

/// The state directory: the one that was named, else the nearest `.evenkeel` at or above the current directory.
pub fn state_directory(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        if named.join(evenkeel_coordinator::store::FILE).is_file() {
            return Ok(named);
        }
        return Err(Failure::usage(format!("{} holds no runs", named.display()))
            .with_hint("run something first, or name the directory that holds runs"));
    }
    nearest_state().ok_or_else(|| {
        Failure::usage("there is no .evenkeel with runs here or above")
            .with_hint("run something first, or name the directory with --state DIR")
    })
}

/// The nearest `.evenkeel` with runs at or above the current directory.
pub fn nearest_state() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let mut candidates = here.ancestors().map(|above| above.join(".evenkeel"));
    candidates.find(|path| path.join(evenkeel_coordinator::store::FILE).is_file())
}

/// Runs with more tests than this are shown without the replays that say where their time went.
const MOST: usize = 100_000;

/// A run as its ledger tells it.
pub struct Found {
    pub record: Record,
    /// The state directory of this machine, for what outlives runs.
    pub state: PathBuf,
    /// Where its reports are, as whoever has them sees it.
    pub reports: String,
}

/// A run's record, rebuilt from the ledger of the state directory or of a coordinator.
pub async fn load(books: &Books, run: &str) -> Result<Found, Failure> {
    if let Some(address) = &books.coordinator {
        let remote = remote::reach(address, &books.reach).await?;
        let (record, ended) = remote::record(&remote, &books.project, run).await?;
        let reports = match ended.state.as_str() {
            "" => "when it has ended".to_owned(),
            state => format!("{state}, at the coordinator"),
        };
        return Ok(Found {
            record,
            state: nearest_state().unwrap_or_else(|| PathBuf::from(".evenkeel")),
            reports,
        });
    }
    let state = state_directory(books.state.clone())?;
    let store = Store::read(&state).await.map_err(store_failure)?;
    let (row, record) = load_from(&store, run).await?;
    Ok(Found {
        reports: store.run_directory_of(&row).display().to_string(),
        record,
        state,
    })
}

async fn load_from(store: &Store, run: &str) -> Result<(RunRow, Record), Failure> {
    let found = store.rows(run).await.map_err(store_failure)?;
    let (row, batches) = found.ok_or_else(|| {
        Failure::usage(format!("no run, or more than one, begins with {run:?}"))
            .with_hint("`evenkeel runs` lists what there is")
    })?;
    let mut record = Record::default();
    for batch in &batches {
        record
            .apply_batch(batch)
            .map_err(|error| Failure::infrastructure("the run's ledger cannot be read", error))?;
    }
    Ok((row, record))
}

fn when(unix_us: u64) -> String {
    let at = jiff::Timestamp::from_microsecond(unix_us as i64).unwrap_or_default();
    at.to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

pub async fn runs(args: RunsArgs) -> Result<Exit, Failure> {
    if let Some(address) = &args.books.coordinator {
        let remote = remote::reach(address, &args.books.reach).await?;
        let request = v1::ListRunsRequest {
            project: args.books.project.clone(),
            limit: args.limit,
        };
        let listed = remote
            .ask(|mut client| {
                let request = request.clone();
                async move { client.list(request).await }
            })
            .await?;
        for line in &listed.runs {
            println!("{}", run_line(line));
        }
        return Ok(Exit::Green);
    }
    let state = state_directory(args.books.state)?;
    let store = Store::read(&state).await.map_err(store_failure)?;
    let project = Some(args.books.project.as_str()).filter(|project| !project.is_empty());
    let rows = store.runs_of(project, args.limit).await;
    for row in rows.map_err(store_failure)? {
        let closed = row.closed.as_ref();
        let line = v1::RunLine {
            run: row.key.run.clone(),
            suites: row.suite.clone(),
            opened_unix_us: row.opened_unix_us,
            verdict: closed
                .map(|closed| closed.verdict.clone())
                .unwrap_or_default(),
            tests: closed.map_or(0, |closed| closed.tests),
            failures: closed.map_or(0, |closed| closed.failures),
            makespan_us: closed.map_or(0, |closed| closed.makespan_us),
            ..v1::RunLine::default()
        };
        println!("{}", run_line(&line));
    }
    Ok(Exit::Green)
}

fn run_line(line: &v1::RunLine) -> String {
    let verdict = match line.verdict.as_str() {
        "" if line.live => "running",
        "" => "unfinished",
        verdict => verdict,
    };
    let counts = if line.verdict.is_empty() {
        String::new()
    } else {
        format!(
            "{:>7} tests {:>5} failed {:>9.2} s",
            line.tests,
            line.failures,
            line.makespan_us as f64 / 1e6
        )
    };
    format!(
        "{:<28} {}  {verdict:<10} {counts}  {}",
        line.run,
        when(line.opened_unix_us),
        line.suites
    )
}

pub async fn show(args: ShowArgs) -> Result<Exit, Failure> {
    let found = load(&args.books, &args.run).await?;
    let record = &found.record;
    let tests: usize = record.units.iter().map(|unit| unit.cases.len()).sum();
    let over = record.closed.is_some() && record.stopped.is_none() && tests <= MOST;
    let explained = over.then(|| tokio::task::block_in_place(|| explain(record)).ok());
    let explained = explained.flatten();
    print!("{}", describe(record, explained.as_ref(), &found.reports));
    Ok(Exit::Green)
}

fn describe(record: &Record, explained: Option<&Explained>, reports: &str) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let opened = &record.opened;
    let mut line = |label: &str, value: &str| {
        writeln!(text, "{label:<10} {value}").ok();
    };
    line("run", &opened.run);
    line("project", &opened.project);
    line("opened", &when(opened.opened_unix_us));
    let several = opened.suites.len() > 1;
    for suite in &opened.suites {
        if several {
            line("suite", &suite.name);
        }
        line("command", &suite.command.join(" "));
        line("directory", &suite.directory);
    }
    line("seed", &opened.seed.to_string());
    if !opened.commit.is_empty() {
        let changed = if opened.changes.is_empty() {
            ""
        } else {
            ", with local changes"
        };
        line("commit", &format!("{}{changed}", opened.commit));
    }
    let verdict = record
        .closed
        .as_ref()
        .map_or("unfinished", |closed| closed.verdict.as_str());
    line("verdict", verdict);
    if let Some(closed) = record
        .closed
        .as_ref()
        .filter(|closed| !closed.message.is_empty())
    {
        line("why", &closed.message);
    }
    let totals = record.totals();
    line(
        "tests",
        &totals_line(&v1::Totals {
            tests: totals.tests,
            passed: totals.passed,
            failed: totals.failed,
            errors: totals.errors,
            skipped: totals.skipped,
            not_run: totals.not_run,
            lost: totals.lost,
        }),
    );
    let schedule = record.schedule();
    line(
        "schedule",
        &format!(
            "{:.2} s on {} slots, gap {:.3}",
            schedule.makespan.as_secs_f64(),
            schedule.slots,
            schedule.gap()
        ),
    );
    if let Some(explained) = explained {
        for part in words(explained).lines() {
            line("", part);
        }
    }
    line("reports", reports);
    for (summary, shard) in record.shard_summaries().iter().zip(&record.shards) {
        writeln!(
            text,
            "shard {}/{}  agent {}, slot {}: {} units, {} tests, {} failed, busy {:.2} s, {} process{}",
            summary.shard + 1,
            record.shards.len(),
            record.agents[shard.agent as usize].name,
            shard.slot,
            summary.units,
            summary.cases,
            summary.failures,
            summary.busy.as_secs_f64(),
            shard.processes.len(),
            if shard.processes.len() == 1 { "" } else { "es" },
        )
        .ok();
    }
    for unit in &record.units {
        for case in unit.cases.iter().filter(|case| {
            case.verdict()
                .is_none_or(|v| v != Verdict::Passed && v != Verdict::Skipped)
        }) {
            let verdict = case.verdict().map_or("lost", Verdict::name);
            let message = case
                .reason
                .as_deref()
                .or(case.last_attempt().map(|attempt| &*attempt.message));
            writeln!(
                text,
                "{verdict:<8} {}  {}",
                case.id,
                message.unwrap_or_default()
            )
            .ok();
        }
        if let Some((verdict, message)) = &unit.settled {
            writeln!(text, "{verdict:<8} {}  {message}", unit.name).ok();
        }
    }
    text
}
