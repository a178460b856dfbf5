//! `evenkeel plan`: the static split of a suite over CI nodes that have no coordinator. Each node works out the same one.

mod known;
mod node;
mod units;
mod written;

use crate::cli::PlanArgs;
use crate::config::Place;
use crate::exit::{Exit, Failure};
use evenkeel_coordinator::shards::{self, Durations, Split};
use known::Of;
use node::Node;
use std::collections::BTreeSet;
use units::Units;

pub use node::MOST;

pub async fn plan(args: PlanArgs) -> Result<Exit, Failure> {
    let node = Node::find(args.shards, args.index, |name| std::env::var(name).ok())?;
    written::check(&args, node)?;
    let place = Place::find(args.what.root.as_deref(), args.what.state.as_deref())?;
    let units = match units::of(&args, &place).await? {
        Some(units) => units,
        None => return Ok(Exit::Unbuilt),
    };
    if units.listed.is_empty() {
        say!("error: there is no unit to plan");
        say!(
            "hint: a job that runs nothing should not pass; are the patterns or the command right?"
        );
        return Ok(Exit::NothingRan);
    }
    let durations = durations(&args, &place, &units).await?;
    let split = shards::split(&units.suites, units.listed, &durations, node.shards)
        .map_err(|error| Failure::usage("these units cannot be planned").caused_by(error))?;
    let names: Vec<&str> = units.suites.iter().map(|suite| &*suite.name).collect();
    tell(&split, &durations, node);
    written::print(&args, &split, &names, node)?;
    Ok(Exit::Green)
}

async fn durations(
    args: &PlanArgs,
    place: &Place,
    units: &Units,
) -> Result<Vec<Durations>, Failure> {
    let of: Vec<Of<'_>> = units
        .named
        .iter()
        .map(|named| Of {
            suite: named.suite.as_deref(),
            naming: named.naming,
            directory: &named.directory,
        })
        .collect();
    match (&args.timings[..], &of[..]) {
        ([], _) => known::from_state(place, &of).await,
        (files, [of]) => Ok(vec![known::from_files(files, of)?]),
        (_, several) => Err(
            Failure::usage("--timings was given, and several suites are planned").with_hint(
                format!(
                    "choose the one that they are of: --suite {}",
                    several.first().and_then(|of| of.suite).unwrap_or_default()
                ),
            ),
        ),
    }
}

/// What people should know, on standard error.
fn tell(split: &Split, durations: &[Durations], node: Node) {
    let units = split.units.len();
    let known = split.units.iter().filter(|unit| unit.known).count();
    if let (Some(provider), Some(index)) = (node.provider, node.index) {
        say!("shard {index}/{}, as {provider} says", node.shards);
    }
    let (makespan, bound) = (split.makespan.as_secs_f64(), split.bound.as_secs_f64());
    say!(
        "{units} unit{} on {} shard{}: the longest should take {makespan:.2} s, {:.1}% above the bound of {bound:.2} s",
        plural(units),
        node.shards,
        plural(node.shards as usize),
        (makespan / bound - 1.0) * 100.0,
    );
    say!(
        "plan {} of units {} with durations {}: nodes that print anything else here run other shards",
        split.plan,
        split.manifest,
        split.durations
    );
    mismatch(split, durations, known);
    guesses(split, known);
    long_ones(split, node);
    empty_ones(split, node);
}

fn guesses(split: &Split, known: usize) {
    let unknown = split.units.len() - known;
    if unknown == 0 {
        return;
    }
    let guesses = split.units.iter().filter(|unit| !unit.known);
    let guesses: Vec<f64> = guesses.map(|unit| unit.expected.as_secs_f64()).collect();
    let least = guesses.iter().copied().fold(f64::MAX, f64::min);
    let most = guesses.iter().copied().fold(0.0, f64::max);
    let each = if least == most {
        format!("{least:.3} s each")
    } else {
        format!("{least:.3} to {most:.3} s")
    };
    let by = if known == 0 {
        "their sizes"
    } else {
        "their neighbours"
    };
    say!(
        "{unknown} unit{} without durations: {each}, by {by}",
        plural(unknown)
    );
}

/// What no number of shards makes shorter, and what cannot be kept apart.
fn long_ones(split: &Split, node: Node) {
    let all: u64 = split.units.iter().map(|unit| unit.expected.0).sum();
    let share = all / u64::from(node.shards);
    let shown = share as f64 / 1e6;
    let several = split.units.len() > node.shards as usize;
    let longest = split.units.iter().max_by_key(|unit| unit.expected);
    if let Some(unit) = longest.filter(|unit| several && unit.expected.0 > share) {
        say!(
            "{} alone should take {:.2} s, more than a shard's share of {shown:.2} s: more shards will not help, a shorter one would",
            unit.unit.name,
            unit.expected.as_secs_f64(),
        );
    }
    for (what, took) in &split.chains {
        let took = took.as_secs_f64();
        say!("{what} takes {took:.2} s and has to be in one shard, whose share is {shown:.2} s");
    }
    if split.alone > 0 {
        say!(
            "warning: {} unit{} must run alone: they are in one shard, and nothing keeps the other shards from running meanwhile",
            split.alone,
            plural(split.alone)
        );
    }
}

fn empty_ones(split: &Split, node: Node) {
    let is_empty = |index: &u32| split.shards[*index as usize - 1].is_empty();
    let empty = (1..=node.shards).filter(is_empty).count();
    let why = if split.units.len() < node.shards as usize {
        "there are fewer units than shards"
    } else {
        "what has to be in one shard leaves nothing for it"
    };
    match node.index {
        Some(index) if is_empty(&index) => say!(
            "shard {index}/{} is empty: {why}; it prints nothing, which a framework must not take for everything (xargs -r)",
            node.shards
        ),
        None if empty > 0 => say!(
            "{empty} shard{} empty: {why}",
            if empty == 1 { " is" } else { "s are" }
        ),
        _ => {}
    }
}

/// Durations that say nothing of what is planned are worth a word: they would be left out in silence.
fn mismatch(split: &Split, durations: &[Durations], known: usize) {
    let all: BTreeSet<&str> = durations
        .iter()
        .flat_map(|of| of.keys().map(String::as_str))
        .collect();
    if all.is_empty() || 2 * known >= split.units.len() {
        return;
    }
    say!(
        "warning: of {} units only {known} have durations, though durations of {} are known",
        split.units.len(),
        all.len()
    );
    // A name and another one of which it is the end: the same file, seen from another directory.
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let alike = split
        .units
        .iter()
        .filter(|unit| !unit.known)
        .find_map(|unit| {
            let name = unit.unit.name.as_str();
            let other = all.iter().find(|other| last(other) == last(name))?;
            Some((name, *other))
        });
    match alike {
        Some((name, other)) => say!(
            "hint: the plan has {name}, the durations have {other}: paths must be the same, relative to the directory that the suite runs in (--root)"
        ),
        None => say!("hint: are they of this suite (--suite), and of these names?"),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
