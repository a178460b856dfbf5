//! Plays the rows and prints what came out, with the limits beside it.

use crate::Arguments;
use crate::rows::{LIMITS, Make, OURS, POLICIES, ROWS};
use crate::scenes::{Reality, Setting};
use crate::world::play_where;
use evenkeel_coordinator::record::Record;
use evenkeel_coordinator::rehearsal::play;
use evenkeel_schedule::Micros;
use rayon::prelude::*;

/// How far behind the best other policy a row may be, and from where on it has to be ahead.
const BEHIND: f64 = 0.005;
const AHEAD: f64 = 1.02;

/// How one seed ended. All but the seed are parts of the bound.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    seed: u64,
    makespan: f64,
    /// What slots could have done meanwhile and did not, as they loaded again what was loaded elsewhere, hung or had nothing to do.
    again: f64,
    hung: f64,
    idle: f64,
    least: f64,
}

pub fn print(arguments: &Arguments) {
    let seeds: Vec<u64> = arguments.seeds.clone().collect();
    println!(
        "Makespan over the bound, seeds {} to {}: mean, 95th percentile, worst; * is over its limit",
        seeds[0],
        seeds[seeds.len() - 1]
    );
    let mut missed = Vec::new();
    for (setting, what) in &ROWS {
        if arguments
            .row
            .as_ref()
            .is_some_and(|row| row != setting.name)
        {
            continue;
        }
        println!("\n{} {what}", setting.name);
        row(arguments, setting, &seeds, &mut missed);
    }
    println!();
    match &missed[..] {
        [] => println!("every limit is kept"),
        missed => println!("over a limit: {}", missed.join("; ")),
    }
}

fn row(arguments: &Arguments, setting: &Setting, seeds: &[u64], missed: &mut Vec<String>) {
    let wanted = |name: &str| {
        let only = arguments.policy.as_ref();
        only.is_none_or(|only| only == name)
    };
    let each = |play: &(dyn Fn(&Reality) -> Outcome + Sync)| {
        let seeds = seeds.par_iter();
        let played = seeds.map(|&seed| play(&setting.drawn(seed, arguments.without)));
        let mut played: Vec<Outcome> = played.collect();
        played.sort_by(|a, b| a.makespan.total_cmp(&b.makespan).then(a.seed.cmp(&b.seed)));
        played
    };
    let mut ours = None;
    if wanted(OURS) {
        let played = each(&own);
        let [mean, p95, worst] = figures(&played);
        let mark =
            |value: f64, limit: f64| format!("{value:.4}{}", if value > limit { "*" } else { " " });
        println!(
            "  {OURS:<30} {} {} {}  worst seed {}",
            mark(mean, LIMITS.mean),
            mark(p95, LIMITS.p95),
            mark(worst, LIMITS.worst),
            played[played.len() - 1].seed
        );
        println!(
            "  {:<30} {:.4}  {:.4}  {:.4}",
            "  at most", LIMITS.mean, LIMITS.p95, LIMITS.worst
        );
        let of = |what: fn(&Outcome) -> f64| {
            100.0 * played.iter().map(what).sum::<f64>() / played.len() as f64
        };
        println!(
            "    of it, in percent of the bound: loaded again {:.2}, hung {:.2}, nothing to do {:.2}; files that need several slots make it {:.2} at least",
            of(|played| played.again),
            of(|played| played.hung),
            of(|played| played.idle),
            of(|played| played.least - 1.0),
        );
        if mean > LIMITS.mean || p95 > LIMITS.p95 || worst > LIMITS.worst {
            missed.push(setting.name.to_owned());
        }
        ours = Some(mean);
    }
    let mut best: Option<(f64, &str)> = None;
    for (name, whole_files, make) in POLICIES {
        if !wanted(name) {
            continue;
        }
        let played = each(&|reality: &Reality| theirs(reality, whole_files, make));
        let [mean, p95, worst] = figures(&played);
        println!("  {name:<30} {mean:.4}  {p95:.4}  {worst:.4}");
        if best.is_none_or(|(best, _)| mean < best) {
            best = Some((mean, name));
        }
    }
    if let (Some(ours), Some((best, whose))) = (ours, best) {
        let most = if best > AHEAD { best } else { best + BEHIND };
        if ours > most {
            println!("  behind {whose}: {ours:.4}, {best:.4}");
            missed.push(format!("{} behind {whose}", setting.name));
        }
    }
}

/// Mean, 95th percentile and worst of what is in ascending order.
fn figures(played: &[Outcome]) -> [f64; 3] {
    let count = played.len();
    let sum: f64 = played.iter().map(|played| played.makespan).sum();
    let p95 = played[(count * 95).div_ceil(100) - 1].makespan;
    [sum / count as f64, p95, played[count - 1].makespan]
}

fn own(reality: &Reality) -> Outcome {
    let scene = &reality.scene;
    let played = play(scene).expect("the run comes to its end");
    let record = &played.record;
    let makespan = record.schedule().makespan;
    let bound = reality.bound.0 as f64;
    let (again, hung) = (loaded_again(reality, record), hung(reality, record));
    let begun = record.leases.iter().filter_map(|lease| lease.begun);
    let begun = begun.map(|begun| begun.at).min().unwrap_or_default();
    let could = |agent: &evenkeel_coordinator::rehearsal::Agent| {
        agent.speed.work(begun, begun + makespan).0 * agent.slots.len() as u64
    };
    let could: u64 = scene.agents.iter().map(could).sum();
    // All of it as if it were shared by all slots.
    let part = |work: f64| work / could as f64 * makespan.0 as f64 / bound;
    let idle = could as f64 - scene.work().0 as f64 - again - hung;
    Outcome {
        seed: scene.seed,
        makespan: makespan.0 as f64 / bound,
        again: part(again),
        hung: part(hung),
        idle: part(idle),
        least: reality.least.0 as f64 / bound,
    }
}

/// What loading files took that another slot had loaded before, at the speed of 1000.
fn loaded_again(reality: &Reality, record: &Record) -> f64 {
    let mut loaded = std::collections::HashSet::new();
    let mut had = std::collections::HashSet::new();
    let leases = record.leases.iter().filter(|lease| lease.begun.is_some());
    let again =
        leases.filter(|lease| loaded.insert((lease.unit, lease.shard)) && !had.insert(lease.unit));
    let loads = again.map(|lease| {
        let name = &*record.units[lease.unit as usize].name;
        let units = &reality.scene.units;
        let unit = units.iter().find(|unit| unit.name == name);
        unit.map_or(Micros::ZERO, |unit| unit.load)
    });
    loads.sum::<Micros>().0 as f64
}

/// What a slot that hung could have done meanwhile.
fn hung(reality: &Reality, record: &Record) -> f64 {
    let units = reality.scene.units.iter();
    let mut hanging = units.flat_map(|unit| unit.cases.iter().map(move |case| (unit, case)));
    let Some((unit, case)) = hanging.find(|(_, case)| case.hangs > Micros::ZERO) else {
        return 0.0;
    };
    let on_record = record.units.iter().find(|other| *other.name == *unit.name);
    let cases = on_record.into_iter().flat_map(|unit| &unit.cases);
    let attempts = cases
        .filter(|other| *other.id == *case.id)
        .flat_map(|case| case.attempts());
    let done = attempts.map(|attempt| {
        let lease = record.lease(attempt.lease.into());
        let agent = lease.map(|lease| record.shards[lease.shard as usize].agent);
        let agent = agent.map(|agent| &reality.scene.agents[agent as usize]);
        let began = attempt.started;
        let ended = attempt.ended;
        let done = agent.map_or(Micros::ZERO, |agent| agent.speed.work(began, ended));
        (done - case.work).0 as f64
    });
    done.sum()
}

fn theirs(reality: &Reality, whole_files: bool, make: Make) -> Outcome {
    let (instance, members) = reality.instance(whole_files);
    let mut takes = reality.takes(members);
    let outcome = play_where(&instance, make(&instance).as_mut(), &mut takes);
    Outcome {
        seed: reality.scene.seed,
        makespan: outcome.makespan as f64 / reality.bound.0 as f64,
        ..Outcome::default()
    }
}
