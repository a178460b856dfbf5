//! What is known of the units' durations: from files that were named, else from the state directory.

use crate::config::Place;
use crate::exit::Failure;
use crate::run::store_failure;
use evenkeel_coordinator::report::{Naming, import};
use evenkeel_coordinator::shards::Durations;
use evenkeel_coordinator::store::{Store, samples_from};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A suite whose units are to be planned.
pub struct Of<'a> {
    /// Its name in the history, where it has one.
    pub suite: Option<&'a str>,
    pub naming: Naming,
    pub directory: &'a Path,
}

/// A line of `evenkeel timings export`.
#[derive(Deserialize)]
struct Exported {
    #[serde(default)]
    suite: String,
    unit: String,
    work_s: f64,
    #[serde(default)]
    setup_s: f64,
}

/// What these files say of the suite's units; a later one counts before an earlier one.
pub fn from_files(files: &[PathBuf], of: &Of<'_>) -> Result<Durations, Failure> {
    let mut durations = Durations::new();
    for path in files {
        let failed = |error: std::io::Error| {
            Failure::usage(format!("cannot read {}", path.display())).caused_by(error)
        };
        let text = std::fs::read(path).map_err(failed)?;
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
        let found = match first {
            Some(b'{') => exported(path, &text, of)?,
            _ => reported(path, of).map_err(failed)?,
        };
        if found.is_empty() {
            say!("warning: {} has no durations", path.display());
        }
        durations.extend(found);
    }
    Ok(durations)
}

fn exported(path: &Path, text: &[u8], of: &Of<'_>) -> Result<Durations, Failure> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line: Exported = serde_json::from_slice(line).map_err(|error| {
            let place = format!("{}, line {number}", path.display());
            Failure::usage(format!("{place}: these are no durations"))
                .caused_by(error)
                .with_hint("give what `evenkeel timings export` prints, or a JUnit report")
        })?;
        lines.push(line);
    }
    // One suite's durations are meant where there is one, whatever it is called.
    let several = lines.iter().any(|line| line.suite != lines[0].suite);
    let ours = |line: &Exported| !several || of.suite.is_none_or(|suite| suite == line.suite);
    let took = |line: Exported| {
        let seconds = (line.work_s + line.setup_s).max(0.0);
        let took = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        (line.unit, took)
    };
    Ok(lines.into_iter().filter(ours).map(took).collect())
}

fn reported(path: &Path, of: &Of<'_>) -> std::io::Result<Durations> {
    let read = import(path, of.naming, of.directory)?;
    if let Some(damage) = &read.summary.damage {
        say!("warning: {}: {damage}", path.display());
    }
    let samples = samples_from("", "", &read.cases, &read.setup).into_iter();
    Ok(samples
        .map(|unit| (unit.unit, Duration::from(unit.work + unit.setup)))
        .collect())
}

/// What is recorded of these suites in the state directory, if there is one. For one without a name the only suite
/// that has durations is meant.
pub async fn from_state(place: &Place, suites: &[Of<'_>]) -> Result<Vec<Durations>, Failure> {
    let nothing = || suites.iter().map(|_| Durations::new()).collect();
    if !place
        .state
        .join(evenkeel_coordinator::store::FILE)
        .is_file()
    {
        return Ok(nothing());
    }
    let store = Store::read(&place.state).await.map_err(store_failure)?;
    let project = place.project();
    let recorded = store.suites(&project).await.map_err(store_failure)?;
    let mut durations = Vec::new();
    for of in suites {
        let suite = match (of.suite, &recorded[..]) {
            (Some(suite), _) => suite,
            (None, [only]) => only,
            (None, []) => return Ok(nothing()),
            (None, several) => {
                let names = several.join(", ");
                return Err(Failure::usage(format!(
                    "project {project} has durations of several suites"
                ))
                .with_hint(format!(
                    "name the one that these units are of with --suite: {names}"
                )));
            }
        };
        let times = store.times(&project, suite).await.map_err(store_failure)?;
        let times = times.into_iter();
        durations.push(
            times
                .map(|unit| (unit.unit, Duration::from(unit.work + unit.setup)))
                .collect(),
        );
    }
    Ok(durations)
}
