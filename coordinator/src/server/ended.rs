//! What is said at the end of a run.

use crate::record::{Record, Suspicion, Unit, Verdict};
use crate::rehearsal::{Explained, words};
use crate::wire;
use evenkeel_proto::v1;
use evenkeel_schedule::{Bound, Micros};
use std::collections::BTreeMap;

/// Runs shorter than this have nothing to explain.
const SHORTEST: Micros = Micros::from_millis(100);
/// How many of the slowest cases are named.
const SLOWEST: usize = 5;

pub(super) fn ended(
    record: &Record,
    explained: Option<&Explained>,
    state: &std::path::Path,
) -> v1::Ended {
    let closed = record.closed.clone().unwrap_or_default();
    let schedule = record.schedule();
    v1::Ended {
        verdict: closed.verdict,
        exit_code: closed.exit_code,
        message: closed.message,
        hint: closed.hint,
        totals: Some(wire::totals(record.totals())),
        slots: schedule.slots,
        makespan_us: schedule.makespan.0,
        lower_bound_us: schedule.bound.makespan().0,
        slowest: slowest(record),
        durations: wanted_durations(record).is_some(),
        objections: record
            .objections
            .iter()
            .map(|objection| v1::Objection {
                message: objection.message.clone(),
                detail: objection.detail.clone(),
            })
            .collect(),
        summaries: summaries(record),
        warnings: record
            .warnings
            .iter()
            .map(|warning| v1::Warning {
                text: warning.text.clone(),
                cases: warning.cases.clone(),
                count: warning.count,
            })
            .collect(),
        failing: failing(record),
        first_red: record.first_red().map(|first| v1::FirstRed {
            id: record.with_suite(first.unit.suite, &first.case.id),
            after_us: first.after.0,
            apfd: first.apfd,
            suspect: first.suspicion.map_or("", words_of).to_owned(),
        }),
        explanation: match &record.stopped {
            // What was broken off says nothing about a schedule.
            Some(stopped) if stopped.interrupted => String::new(),
            _ => explanation(record, explained),
        },
        state: std::path::absolute(state)
            .unwrap_or_else(|_| state.to_owned())
            .to_string_lossy()
            .into_owned(),
        junit: record
            .wanted_junit()
            .into_iter()
            .map(|(suite, path)| v1::WantedReport {
                suite,
                path: path.to_owned(),
            })
            .collect(),
    }
}

/// How many of the slowest tests the framework's own options ask for, and from which duration on.
fn wanted_durations(record: &Record) -> Option<(usize, Micros)> {
    let mut processes = record.shards.iter().flat_map(|shard| &shard.processes);
    let wanted = processes.find(|process| process.started.durations > 0)?;
    let least = Micros(wanted.started.durations_min_us);
    Some((wanted.started.durations as usize, least))
}

/// What the framework printed at its end, equal texts once.
fn summaries(record: &Record) -> Vec<v1::Summary> {
    let mut summaries: Vec<v1::Summary> = Vec::new();
    for summary in &record.summaries {
        let summary = v1::Summary {
            title: summary.title.clone(),
            text: summary.text.clone(),
        };
        if !summaries.contains(&summary) {
            summaries.push(summary);
        }
    }
    summaries
}

fn slowest(record: &Record) -> Vec<v1::Slow> {
    let (most, least) = wanted_durations(record).unwrap_or((SLOWEST, Micros::ZERO));
    let mut slowest: Vec<(u64, &Unit, &str)> = Vec::new();
    let units = record.units.iter();
    for (unit, case) in units.flat_map(|unit| unit.cases.iter().map(move |case| (unit, case))) {
        let took = case.last_attempt().map(|attempt| attempt.duration);
        if let Some(took) = took.filter(|took| *took >= least) {
            slowest.push((took.0, unit, &*case.id));
        }
    }
    slowest.sort_by_key(|&(took, ..)| std::cmp::Reverse(took));
    slowest.truncate(most);
    slowest
        .into_iter()
        .map(|(duration_us, unit, id)| v1::Slow {
            id: record.with_suite(unit.suite, id),
            duration_us,
        })
        .collect()
}

/// For each shard with failures the last of them in the order in which it ran.
fn failing(record: &Record) -> Vec<v1::FailingShard> {
    let mut shards: BTreeMap<u32, (u32, u64, String, u32)> = BTreeMap::new();
    let units = record.units.iter();
    for (unit, case) in units.flat_map(|unit| unit.cases.iter().map(move |case| (unit, case))) {
        if !case.verdict().is_some_and(Verdict::is_failure) {
            continue;
        }
        let (Some(shard), Some(attempt)) = (record.shard_of(case), case.last_attempt()) else {
            continue;
        };
        let entry = shards.entry(shard).or_default();
        entry.0 += 1;
        if attempt.ended.0 >= entry.1 {
            entry.1 = attempt.ended.0;
            entry.2 = case.id.to_string();
            entry.3 = unit.suite;
        }
    }
    let count = record.shards.len() as u32;
    shards
        .into_iter()
        .map(|(shard, (failures, _, until, suite))| v1::FailingShard {
            suite: match record.opened.suites.len() {
                1 => String::new(),
                _ => record.opened.suites[suite as usize].name.clone(),
            },
            shard,
            shards: count,
            until,
            failures,
        })
        .collect()
}

/// Why a unit was thought to fail.
fn words_of(suspicion: Suspicion) -> &'static str {
    match suspicion {
        Suspicion::FailedBefore => "failed before",
        Suspicion::New => "new",
        Suspicion::Changed => "changed",
        Suspicion::FailedLast => "failed last time",
    }
}

/// The gap in words, and what replays say of it.
pub(crate) fn explanation(record: &Record, explained: Option<&Explained>) -> String {
    let schedule = record.schedule();
    // Below this the clock's own grain is all that a ratio would show.
    if schedule.makespan < SHORTEST {
        return String::new();
    }
    let percent = (schedule.gap() - 1.0) * 100.0;
    let mut text = format!(
        "{:.2} s on {} slot{}, {percent:.1}% above the bound of {:.2} s",
        schedule.makespan.as_secs_f64(),
        schedule.slots,
        if schedule.slots == 1 { "" } else { "s" },
        schedule.bound.makespan().as_secs_f64(),
    );
    if let (Bound::Chain(_), Some(lock)) = (schedule.bound, &schedule.lock) {
        text.push_str(&format!(
            "; what needs the lock {lock} runs one after the other and decides: more slots will not help, fewer tests under the lock would",
        ));
    }
    if let (Bound::Pieces(_), Some(longest)) = (schedule.bound, schedule.longest) {
        let unit = &record.units[longest.unit as usize];
        let (name, shorter) = match longest.case {
            Some(case) => (&unit.cases[case as usize].id, "test"),
            None => (&unit.name, "file"),
        };
        let span = longest.span.as_secs_f64();
        text.push_str(&format!(
            "; {name} alone took {span:.2} s and decides: more slots will not help, a shorter {shorter} would",
        ));
    }
    let copies = record.copies();
    if copies.given > 0 {
        let what = if copies.given == 1 { "copy" } else { "copies" };
        text.push_str(&format!(
            "\n{} {what} of what took too long ran, {} ended first; {:.2} s of slots' time went into that",
            copies.given,
            copies.won,
            copies.spent.as_secs_f64(),
        ));
    }
    let words = explained.map(words).unwrap_or_default();
    if !words.is_empty() {
        text.push('\n');
        text.push_str(&words);
    }
    text
}
