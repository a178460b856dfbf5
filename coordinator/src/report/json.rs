//! The JSON report. Its schema is documented in docs/report.md; fields are only ever added within a version.

use super::Outputs;
use crate::record::{Case, Record, Suspicion, Unit, Verdict};
use crate::rehearsal::{Change, Explained, Step};
use evenkeel_schedule::Micros;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::Write;

/// The report's `schema` field.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Run<'a> {
    id: &'a str,
    project: &'a str,
    round: u32,
    verdict: &'a str,
    exit_code: u32,
    message: &'a str,
    opened: String,
    /// Of all suites the names; of the first one the rest.
    suite: String,
    command: &'a [String],
    directory: &'a str,
    suites: Vec<Suite<'a>>,
    seed: u64,
    commit: &'a str,
    branch: &'a str,
    evenkeel: &'a str,
}

#[derive(Serialize)]
struct Suite<'a> {
    name: &'a str,
    runner: &'a str,
    command: &'a [String],
    directory: &'a str,
}

/// What the framework said on the run as a whole.
#[derive(Serialize)]
struct Said<'a> {
    failed: Vec<Objection<'a>>,
    summaries: Vec<Summary<'a>>,
    warnings: Vec<Warning<'a>>,
}

#[derive(Serialize)]
struct Objection<'a> {
    message: &'a str,
    detail: &'a str,
}

#[derive(Serialize)]
struct Summary<'a> {
    shard: u32,
    title: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Warning<'a> {
    text: &'a str,
    count: u32,
    tests: &'a [String],
}

impl<'a> Suite<'a> {
    fn of(suite: &'a evenkeel_proto::suite::Suite) -> Suite<'a> {
        Suite {
            name: &suite.name,
            runner: &suite.runner,
            command: &suite.command,
            directory: &suite.directory,
        }
    }
}

impl<'a> Said<'a> {
    fn of(record: &'a Record) -> Said<'a> {
        let failed = record.objections.iter().map(|objection| Objection {
            message: &objection.message,
            detail: &objection.detail,
        });
        let summaries = record.summaries.iter().map(|summary| Summary {
            shard: summary.shard + 1,
            title: &summary.title,
            text: &summary.text,
        });
        let warnings = record.warnings.iter().map(|warning| Warning {
            text: &warning.text,
            count: warning.count,
            tests: &warning.cases,
        });
        Said {
            failed: failed.collect(),
            summaries: summaries.collect(),
            warnings: warnings.collect(),
        }
    }
}

#[derive(Serialize)]
struct Totals {
    tests: u32,
    passed: u32,
    failed: u32,
    errors: u32,
    skipped: u32,
    not_run: u32,
    lost: u32,
}

#[derive(Serialize)]
struct Schedule<'a> {
    slots: u32,
    makespan_s: f64,
    lower_bound_s: f64,
    gap: f64,
    /// What decides the bound: "work", "longest_test" or "longest_unit".
    bound_by: &'static str,
    /// "balanced" or "first-red".
    order: &'static str,
    /// How many units might well have failed, by the reason.
    suspects: BTreeMap<&'static str, u32>,
    /// What ran twice because it took too long where it was.
    copies: Copies,
    explanation: String,
    /// What the makespan has above the bound, by causes; absent where nothing was replayed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<Lost<'a>>,
    /// What would shorten it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    next: Vec<Next<'a>>,
}

#[derive(Serialize)]
struct Copies {
    given: u32,
    /// Ended first, or were left alone when the other one was lost.
    won: u32,
    stood: u32,
    /// Slot time.
    spent_s: f64,
    /// Results that said something else than the one that counts.
    differing: usize,
}

#[derive(Serialize)]
struct Lost<'a> {
    cause: &'static str,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
}

#[derive(Serialize)]
struct Next<'a> {
    /// "split", "setup" or "slots".
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    less_setup_s: Option<f64>,
    makespan_s: f64,
    saved_s: f64,
}

impl<'a> Next<'a> {
    fn of(change: &'a Change) -> Next<'a> {
        let (name, unit, slots, less) = match &change.what {
            Step::Split(unit) => ("split", Some(unit.as_str()), None, None),
            Step::LessSetup { unit, less } => ("setup", unit.as_deref(), None, Some(*less)),
            Step::Slots(slots) => ("slots", None, Some(*slots), None),
        };
        Next {
            change: name,
            unit,
            slots,
            less_setup_s: less.map(Micros::as_secs_f64),
            makespan_s: change.makespan.as_secs_f64(),
            saved_s: change.saved.as_secs_f64(),
        }
    }
}

#[derive(Serialize)]
struct FirstRed<'a> {
    suite: &'a str,
    test: &'a str,
    after_s: f64,
    apfd: f64,
    /// Why its unit was thought to fail, if it was.
    suspect: Option<&'static str>,
}

#[derive(Serialize)]
struct Shard<'a> {
    shard: String,
    agent: &'a str,
    slot: u32,
    busy_s: f64,
    units: Vec<ShardUnit<'a>>,
    tests: u32,
    failures: u32,
    processes: Vec<Process<'a>>,
}

#[derive(Serialize)]
struct ShardUnit<'a> {
    suite: &'a str,
    unit: &'a str,
    start_s: f64,
    end_s: f64,
    incarnation: u32,
}

#[derive(Serialize)]
struct Process<'a> {
    suite: &'a str,
    incarnation: u32,
    pid: u32,
    framework: &'a str,
    language: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'a str>,
}

#[derive(Serialize)]
struct Test<'a> {
    suite: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    class: &'a str,
    file: &'a str,
    outcome: &'static str,
    duration_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<&'a str>,
    attempts: usize,
    #[serde(skip_serializing_if = "is_zero")]
    occurrence: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    output: Vec<Output>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct Property {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct Output {
    name: String,
    text: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// How many units are turned into text at a time.
const WINDOW: usize = 64;
/// A unit with more cases than this is turned into text in pieces of this size.
const PIECE: usize = 4096;

/// Writes the report; tests come last, in the order of the listing, one a line.
pub(super) fn write(
    record: &Record,
    explained: Option<&Explained>,
    outputs: &Outputs,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let opened = &record.opened;
    let closed = record.closed.clone().unwrap_or_default();
    let totals = record.totals();
    let schedule = record.schedule();
    let run = Run {
        id: &opened.run,
        project: &opened.project,
        round: opened.round,
        verdict: &closed.verdict,
        exit_code: closed.exit_code,
        message: &closed.message,
        opened: jiff::Timestamp::from_microsecond(opened.opened_unix_us as i64)
            .unwrap_or_default()
            .to_string(),
        suite: record.suites(),
        command: opened.suites.first().map_or(&[], |suite| &suite.command),
        directory: opened.suites.first().map_or("", |suite| &suite.directory),
        suites: opened.suites.iter().map(Suite::of).collect(),
        seed: opened.seed,
        commit: &opened.commit,
        branch: &opened.branch,
        evenkeel: &opened.evenkeel,
    };
    let totals = Totals {
        tests: totals.tests,
        passed: totals.passed,
        failed: totals.failed,
        errors: totals.errors,
        skipped: totals.skipped,
        not_run: totals.not_run,
        lost: totals.lost,
    };
    let copies = record.copies();
    let explained = Schedule {
        slots: schedule.slots,
        makespan_s: schedule.makespan.as_secs_f64(),
        lower_bound_s: schedule.bound.makespan().as_secs_f64(),
        gap: schedule.gap(),
        bound_by: match schedule.bound {
            evenkeel_schedule::Bound::Work(_) => "work",
            evenkeel_schedule::Bound::Pieces(_)
                if schedule.longest.is_some_and(|l| l.case.is_some()) =>
            {
                "longest_test"
            }
            evenkeel_schedule::Bound::Pieces(_) => "longest_unit",
            evenkeel_schedule::Bound::Chain(_) => "lock",
        },
        order: if record.opened.first_red {
            "first-red"
        } else {
            "balanced"
        },
        suspects: suspects(record),
        copies: Copies {
            given: copies.given,
            won: copies.won,
            stood: copies.stood,
            spent_s: copies.spent.as_secs_f64(),
            differing: record.differing.len(),
        },
        explanation: crate::server::explanation(record, explained),
        lost: explained
            .into_iter()
            .flat_map(|explained| &explained.lost)
            .map(|lost| Lost {
                cause: lost.cause.name(),
                seconds: lost.us as f64 / 1e6,
                what: lost.what.as_deref(),
            })
            .collect(),
        next: explained
            .into_iter()
            .flat_map(|explained| &explained.next)
            .map(Next::of)
            .collect(),
    };
    let first_red = record.first_red().map(|first| FirstRed {
        suite: &record.suite_of(first.unit).name,
        test: &first.case.id,
        after_s: first.after.as_secs_f64(),
        apfd: first.apfd,
        suspect: first.suspicion.map(Suspicion::name),
    });
    let names: Vec<String> = (1..=record.shards.len())
        .map(|shard| format!("{shard}/{}", record.shards.len()))
        .collect();

    writeln!(out, "{{\"schema\":{SCHEMA_VERSION},")?;
    writeln!(out, "\"run\":{},", serde_json::to_string(&run)?)?;
    writeln!(out, "\"totals\":{},", serde_json::to_string(&totals)?)?;
    writeln!(out, "\"schedule\":{},", serde_json::to_string(&explained)?)?;
    writeln!(out, "\"first_red\":{},", serde_json::to_string(&first_red)?)?;
    writeln!(
        out,
        "\"shards\":{},",
        serde_json::to_string(&shards(record, &names))?
    )?;
    let notes: Vec<&str> = record.notes.iter().map(|note| note.text.as_str()).collect();
    writeln!(out, "\"notes\":{},", serde_json::to_string(&notes)?)?;
    let said = Said::of(record);
    writeln!(out, "\"framework\":{},", serde_json::to_string(&said)?)?;
    write!(out, "\"tests\":[")?;
    let pieces = pieces(record);
    let mut separator = "\n";
    for window in pieces.chunks(WINDOW) {
        let texts: Vec<Vec<Box<RawValue>>> = window
            .par_iter()
            .map(|(unit, range)| tests(record, outputs, &names, unit, range.clone()))
            .collect::<Result<_, _>>()?;
        for text in texts.iter().flatten() {
            out.write_all(separator.as_bytes())?;
            out.write_all(text.get().as_bytes())?;
            separator = ",\n";
        }
    }
    writeln!(out, "\n]}}")
}

/// All reasons that there are, also those that no unit gave.
fn suspects(record: &Record) -> BTreeMap<&'static str, u32> {
    let reasons = Suspicion::ALL.map(|why| (why.name(), 0));
    let mut counts = BTreeMap::from(reasons);
    for (_, why) in record.suspects() {
        *counts.entry(why.name()).or_default() += 1;
    }
    counts
}

fn pieces(record: &Record) -> Vec<(&Unit, std::ops::Range<usize>)> {
    record
        .units
        .iter()
        .flat_map(|unit| {
            let whole = unit.settled.is_some() || !unit.declared;
            let count = unit.cases.len() + usize::from(whole);
            (0..count)
                .step_by(PIECE)
                .map(move |start| (unit, start..count.min(start + PIECE)))
        })
        .collect()
}

fn tests(
    record: &Record,
    outputs: &Outputs,
    names: &[String],
    unit: &Unit,
    range: std::ops::Range<usize>,
) -> serde_json::Result<Vec<Box<RawValue>>> {
    range
        .map(|index| match unit.cases.get(index) {
            Some(case) => {
                serde_json::value::to_raw_value(&test(record, outputs, names, unit, case))
            }
            None => {
                let (verdict, reason) = unit.settled.clone().unwrap_or((Verdict::Lost, "".into()));
                serde_json::value::to_raw_value(&Test {
                    suite: &record.suite_of(unit).name,
                    id: &unit.name,
                    name: "",
                    class: "",
                    file: &unit.name,
                    outcome: verdict.name(),
                    duration_s: 0.0,
                    shard: None,
                    attempts: 0,
                    occurrence: 0,
                    message: &reason,
                    detail: String::new(),
                    output: Vec::new(),
                    properties: Vec::new(),
                })
            }
        })
        .collect()
}

fn test<'a>(
    record: &'a Record,
    outputs: &Outputs,
    names: &'a [String],
    unit: &'a Unit,
    case: &'a Case,
) -> Test<'a> {
    let last = case.last_attempt();
    let text = last
        .and_then(|attempt| attempt.text.as_deref())
        .map(|text| outputs.read(text))
        .unwrap_or_default();
    let labels = case.labels.as_deref();
    let file = labels
        .map(|labels| &*labels.file)
        .filter(|file| !file.is_empty());
    Test {
        suite: &record.suite_of(unit).name,
        id: &case.id,
        name: labels.map_or("", |labels| &labels.name),
        class: labels.map_or("", |labels| &labels.class),
        file: file.unwrap_or(&unit.name),
        outcome: case.verdict().unwrap_or(Verdict::Lost).name(),
        duration_s: last.map_or(0.0, |attempt| attempt.duration.as_secs_f64()),
        shard: record
            .shard_of(case)
            .map(|shard| names[shard as usize].as_str()),
        attempts: case.attempts().count(),
        occurrence: case.occurrence,
        message: case
            .reason
            .as_deref()
            .or(last.map(|attempt| &*attempt.message))
            .unwrap_or_default(),
        detail: text.detail,
        output: text
            .output
            .into_iter()
            .map(|(name, text)| Output { name, text })
            .collect(),
        properties: text
            .properties
            .into_iter()
            .map(|(name, value)| Property { name, value })
            .collect(),
    }
}

fn shards<'a>(record: &'a Record, names: &[String]) -> Vec<Shard<'a>> {
    record
        .shard_summaries()
        .into_iter()
        .zip(&record.shards)
        .zip(names)
        .map(|((summary, shard), name)| Shard {
            shard: name.clone(),
            agent: &record.agents[shard.agent as usize].name,
            slot: shard.slot,
            busy_s: summary.busy.as_secs_f64(),
            units: shard
                .leases
                .iter()
                .filter_map(|lease| {
                    let lease = record.lease(*lease)?;
                    let (begun, ended) = (lease.begun?, lease.ended?);
                    let unit = &record.units[lease.unit as usize];
                    Some(ShardUnit {
                        suite: &record.suite_of(unit).name,
                        unit: &unit.name,
                        start_s: begun.at.as_secs_f64(),
                        end_s: ended.at.as_secs_f64(),
                        incarnation: begun.incarnation,
                    })
                })
                .collect(),
            tests: summary.cases,
            failures: summary.failures,
            processes: shard
                .processes
                .iter()
                .map(|process| Process {
                    suite: &record.opened.suites[process.started.suite as usize].name,
                    incarnation: process.started.incarnation,
                    pid: process.started.pid,
                    framework: &process.started.framework,
                    language: &process.started.language,
                    ended: process
                        .ended
                        .as_ref()
                        .map(|ended| ended.explanation.as_str()),
                })
                .collect(),
        })
        .collect()
}
