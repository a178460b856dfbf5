//! Plays the rows and prints what came out, with the limits beside it.

use crate::Arguments;
use crate::model::Instance;
use crate::ours;
use crate::recorded::{self, Trace};
use crate::rows::{Limits, Make, OURS, POLICIES, ROWS};
use crate::world::play;
use rayon::prelude::*;

/// The slots that traces are played on.
const TRACED: [usize; 2] = [8, 32];
/// How far behind the best other policy a row may be, and from where on it has to be ahead.
const BEHIND: f64 = 0.005;
const AHEAD: f64 = 1.02;

#[derive(Clone, Copy, Debug)]
struct Figures {
    mean: f64,
    p95: f64,
    worst: f64,
    worst_seed: u64,
    /// What was run in vain, at most, as a share of the work.
    vain: f64,
}

fn figures(seeds: &[u64], make: Make, instance: impl Fn(u64) -> Instance + Sync) -> Figures {
    let mut played: Vec<(f64, u64, f64)> = seeds
        .par_iter()
        .map(|&seed| {
            let instance = instance(seed);
            let outcome = play(&instance, make(&instance).as_mut());
            let over = outcome.makespan as f64 / instance.bound.max(1) as f64;
            (over, seed, outcome.vain)
        })
        .collect();
    played.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let count = played.len();
    let sum: f64 = played.iter().map(|(over, ..)| over).sum();
    let worst = played[count - 1];
    Figures {
        mean: sum / count as f64,
        p95: played[(count * 95).div_ceil(100) - 1].0,
        worst: worst.0,
        worst_seed: worst.1,
        vain: played.iter().map(|(.., vain)| *vain).fold(0.0, f64::max),
    }
}

pub fn print(arguments: &Arguments) {
    let seeds: Vec<u64> = arguments.seeds.clone().collect();
    assert!(!seeds.is_empty(), "there are seeds");
    println!(
        "Makespan over the bound, seeds {} to {}: mean, 95th percentile, worst; * is over its limit",
        seeds[0],
        seeds[seeds.len() - 1]
    );
    let mut missed = Vec::new();
    for (setting, what, limits) in &ROWS {
        if arguments
            .row
            .as_ref()
            .is_some_and(|row| row != setting.name)
        {
            continue;
        }
        println!("\n{} {what}", setting.name);
        let instance = |seed| setting.instance(seed);
        row(
            arguments,
            setting.name,
            ours::one_ahead,
            &seeds,
            *limits,
            &instance,
            &mut missed,
        );
    }
    let traces = recorded::read(arguments.traces.as_deref()).expect("the traces can be read");
    for trace in &traces {
        of_trace(arguments, trace, &seeds, &mut missed);
    }
    println!();
    match &missed[..] {
        [] => println!("every limit is kept"),
        missed => println!("over a limit: {}", missed.join("; ")),
    }
}

fn of_trace(arguments: &Arguments, trace: &Trace, seeds: &[u64], missed: &mut Vec<String>) {
    if arguments.row.as_ref().is_some_and(|row| *row != trace.name) {
        return;
    }
    for slots in TRACED {
        let name = format!("{} cases on {slots}", trace.name);
        println!("\n{name}");
        let instance = |seed| trace.of_cases(slots, seed);
        row(
            arguments,
            &name,
            ours::freely,
            seeds,
            None,
            &instance,
            missed,
        );
    }
    let name = format!("{} files on {}", trace.name, TRACED[0]);
    println!("\n{name}");
    let instance = |seed| trace.of_files(TRACED[0], seed);
    row(
        arguments,
        &name,
        ours::freely,
        seeds,
        None,
        &instance,
        missed,
    );
}

/// Plays one row by all policies.
fn row(
    arguments: &Arguments,
    name: &str,
    own: Make,
    seeds: &[u64],
    limits: Option<Limits>,
    instance: &(impl Fn(u64) -> Instance + Sync),
    missed: &mut Vec<String>,
) {
    let mut best: Option<(f64, &str)> = None;
    let mut ours = None;
    for (policy, make) in POLICIES {
        if arguments.policy.as_ref().is_some_and(|only| only != policy) {
            continue;
        }
        let is_ours = policy == OURS;
        let figures = figures(seeds, if is_ours { own } else { make }, instance);
        let limits = limits.filter(|_| is_ours);
        let mark = |value: f64, limit: Option<f64>| {
            let over = limit.is_some_and(|limit| value > limit);
            format!("{value:.4}{}", if over { "*" } else { " " })
        };
        let mean = mark(figures.mean, limits.map(|limits| limits.mean));
        let p95 = mark(figures.p95, limits.map(|limits| limits.p95));
        let worst = mark(figures.worst, limits.map(|limits| limits.worst));
        let mut note = String::new();
        if is_ours {
            note = format!(
                "  worst seed {}, in vain at most {:.2}%",
                figures.worst_seed,
                figures.vain * 100.0
            );
            ours = Some(figures.mean);
            if [&mean, &p95, &worst]
                .iter()
                .any(|figure| figure.ends_with('*'))
            {
                missed.push(name.to_owned());
            }
        } else if !policy.starts_with(OURS) && best.is_none_or(|(mean, _)| figures.mean < mean) {
            best = Some((figures.mean, policy));
        }
        println!("  {policy:<30} {mean} {p95} {worst}{note}");
        if let Some(limits) = limits {
            println!(
                "  {:<30} {:.4}  {:.4}  {:.4}",
                "  at most", limits.mean, limits.p95, limits.worst
            );
        }
    }
    if let (Some(ours), Some((best, whose))) = (ours, best) {
        let least = if best > AHEAD { best } else { best + BEHIND };
        if ours > least {
            println!("  behind {whose}: {ours:.4}, {best:.4}");
            missed.push(format!("{name} behind {whose}"));
        }
    }
}
