//! What must hold of a run that was played, checked from its record alone.

use evenkeel_coordinator::record::{Outcome, Record, Verdict};
use evenkeel_coordinator::rehearsal::Scene;
use evenkeel_coordinator::rules::Rules;
use evenkeel_schedule::Micros;

/// What is broken, if anything.
pub fn broken(scene: &Scene, record: &Record) -> Option<String> {
    cases(scene, record).or_else(|| constraints(scene, record))
}

fn cases(scene: &Scene, record: &Record) -> Option<String> {
    if record.units.len() != scene.units.len() {
        return Some(format!(
            "{} units of {}",
            record.units.len(),
            scene.units.len()
        ));
    }
    let closed = record.closed.as_ref()?;
    let fails = scene
        .units
        .iter()
        .flat_map(|unit| &unit.cases)
        .any(|case| case.fails);
    let verdict = if fails { "red" } else { "green" };
    if closed.verdict != verdict {
        return Some(format!(
            "{} and not {verdict}: {}",
            closed.verdict, closed.message
        ));
    }
    for unit in &record.units {
        let of = scene
            .units
            .iter()
            .find(|on_scene| on_scene.name == *unit.name)?;
        if unit.cases.len() != of.cases.len() {
            return Some(format!("{} has {} cases", unit.name, unit.cases.len()));
        }
        for case in &unit.cases {
            let on_scene = of.cases.iter().find(|on_scene| on_scene.id == *case.id)?;
            let verdict = if on_scene.fails {
                Verdict::Failed
            } else {
                Verdict::Passed
            };
            if case.verdict() != Some(verdict) {
                return Some(format!("{} has {:?}", case.id, case.verdict()));
            }
            let decided = case
                .attempts()
                .filter(|attempt| attempt.outcome != Outcome::Killed);
            if decided.count() != 1 {
                return Some(format!("{} was decided more than once", case.id));
            }
        }
    }
    None
}

struct Span {
    shard: u32,
    from: Micros,
    to: Micros,
    unit: u32,
}

fn constraints(scene: &Scene, record: &Record) -> Option<String> {
    let suites: Vec<_> = scene
        .suites
        .iter()
        .map(|suite| suite.suite.clone())
        .collect();
    let rules = Rules::new(&suites).ok()?;
    let spans = record.leases.iter().filter_map(|lease| {
        let (begun, ended) = (lease.begun?, lease.ended?);
        Some(Span {
            shard: lease.shard,
            from: begun.at,
            to: ended.at,
            unit: lease.unit,
        })
    });
    let mut spans: Vec<Span> = spans.collect();
    spans.sort_by_key(|span| (span.from, span.to));
    for (at, span) in spans.iter().enumerate() {
        let (locks, exclusive) = rules.demands(0, &record.units[span.unit as usize].name);
        for other in spans[at + 1..]
            .iter()
            .take_while(|other| other.from < span.to)
        {
            let (theirs, alone) = rules.demands(0, &record.units[other.unit as usize].name);
            let shared = locks.iter().any(|lock| theirs.contains(lock));
            if (shared || exclusive || alone) && other.shard != span.shard {
                return Some(format!(
                    "{} and {} ran side by side at {}",
                    record.units[span.unit as usize].name,
                    record.units[other.unit as usize].name,
                    other.from
                ));
            }
        }
    }
    None
}
