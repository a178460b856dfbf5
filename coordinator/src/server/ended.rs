//! What is said at the end of a run.

use crate::record::{Record, Verdict};
use crate::run::Run;
use crate::wire;
use evenkeel_proto::v1;
use evenkeel_schedule::{Bound, Micros};
use std::collections::BTreeMap;

/// Runs shorter than this have nothing to explain.
const SHORTEST: Micros = Micros::from_millis(100);
/// How many of the slowest cases are named.
const SLOWEST: usize = 5;

pub(super) fn ended(run: &Run, state: &std::path::Path) -> v1::Ended {
    let record = run.record();
    let closed = record.closed.clone().unwrap_or_default();
    let schedule = record.schedule();
    let refused = run.refused();
    v1::Ended {
        verdict: closed.verdict,
        exit_code: closed.exit_code,
        message: closed.message,
        hint: refused.map(|(_, hint)| hint.to_owned()).unwrap_or_default(),
        totals: Some(wire::totals(record.totals())),
        slots: schedule.slots,
        makespan_us: schedule.makespan.0,
        lower_bound_us: schedule.bound.makespan().0,
        slowest: slowest(record),
        failing: failing(record),
        explanation: explanation(record),
        state: std::path::absolute(state)
            .unwrap_or_else(|_| state.to_owned())
            .to_string_lossy()
            .into_owned(),
        junit: record
            .shards
            .iter()
            .flat_map(|shard| &shard.processes)
            .map(|process| process.started.junit.clone())
            .find(|junit| !junit.is_empty())
            .unwrap_or_default(),
    }
}

fn slowest(record: &Record) -> Vec<v1::Slow> {
    let mut slowest: Vec<(u64, &str)> = Vec::with_capacity(SLOWEST + 1);
    for case in record.units.iter().flat_map(|unit| &unit.cases) {
        let Some(attempt) = case.last_attempt() else {
            continue;
        };
        let entry = (attempt.duration.0, &*case.id);
        let position = slowest.partition_point(|other| other.0 >= entry.0);
        if position < SLOWEST {
            slowest.insert(position, entry);
            slowest.truncate(SLOWEST);
        }
    }
    slowest
        .into_iter()
        .map(|(duration_us, id)| v1::Slow {
            id: id.to_owned(),
            duration_us,
        })
        .collect()
}

/// For each shard with failures the last of them in the order in which it ran.
fn failing(record: &Record) -> Vec<v1::FailingShard> {
    let mut shards: BTreeMap<u32, (u32, u64, String)> = BTreeMap::new();
    for case in record.units.iter().flat_map(|unit| &unit.cases) {
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
        }
    }
    let count = record.shards.len() as u32;
    shards
        .into_iter()
        .map(|(shard, (failures, _, until))| v1::FailingShard {
            shard,
            shards: count,
            until,
            failures,
        })
        .collect()
}

/// The gap in words.
pub(crate) fn explanation(record: &Record) -> String {
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
    if let (Bound::Pieces(_), Some((span, unit))) = (schedule.bound, schedule.longest) {
        text.push_str(&format!(
            "; {} alone took {:.2} s and decides: more slots will not help, a shorter file would",
            record.units[unit as usize].name,
            span.as_secs_f64()
        ));
    }
    text
}
