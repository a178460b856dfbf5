//! A plan on standard output: for people, for programs, or as names for a command.

use super::node::Node;
use crate::cli::{PlanArgs, PlanFormat};
use crate::exit::Failure;
use evenkeel_coordinator::shards::{Split, Weighed};
use serde::Serialize;
use std::io::Write;

/// The shape of the JSON; see docs/plan.md.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    shards: u32,
    index: Option<u32>,
    plan: &'a str,
    manifest: &'a str,
    durations: &'a str,
    makespan_s: f64,
    bound_s: f64,
    /// The one with the index, else all.
    split: Vec<Shard<'a>>,
}

#[derive(Serialize)]
struct Shard<'a> {
    shard: u32,
    expected_s: f64,
    units: Vec<Unit<'a>>,
}

#[derive(Serialize)]
struct Unit<'a> {
    suite: &'a str,
    unit: &'a str,
    expected_s: f64,
    known: bool,
}

/// What cannot be printed is said before anything is listed.
pub fn check(args: &PlanArgs, node: Node) -> Result<(), Failure> {
    if args.null && args.format != PlanFormat::Files {
        return Err(
            Failure::usage("--null was given, and another format than files")
                .with_hint("write --format files --null"),
        );
    }
    if args.format == PlanFormat::Files && node.index.is_none() {
        return Err(
            Failure::usage("the files of which shard?").with_hint(format!(
                "name it, counted from one: --index 1 for the first of {}",
                node.shards
            )),
        );
    }
    Ok(())
}

pub fn print(args: &PlanArgs, split: &Split, suites: &[&str], node: Node) -> Result<(), Failure> {
    let text = match args.format {
        PlanFormat::Text => text(split, suites, node),
        PlanFormat::Json => json(split, suites, node),
        PlanFormat::Files => files(split, suites, node, args.null)?,
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Who has stopped reading has seen enough (`| head`).
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::infrastructure("the plan cannot be written", error))
        }
        _ => Ok(()),
    }
}

/// The shards that are printed, each with its number, what it should take, and its units.
fn chosen(split: &Split, node: Node) -> Vec<(u32, f64, Vec<&Weighed>)> {
    let numbered = (1..).zip(&split.shards);
    let chosen = numbered.filter(|(number, _)| node.index.is_none_or(|index| index == *number));
    chosen
        .map(|(number, units)| {
            let units: Vec<&Weighed> = units
                .iter()
                .map(|&unit| &split.units[unit as usize])
                .collect();
            let expected: u64 = units.iter().map(|unit| unit.expected.0).sum();
            (number, expected as f64 / 1e6, units)
        })
        .collect()
}

fn suite_of<'a>(suites: &[&'a str], unit: &Weighed) -> &'a str {
    suites
        .get(unit.unit.suite as usize)
        .copied()
        .unwrap_or_default()
}

fn text(split: &Split, suites: &[&str], node: Node) -> String {
    let mut text = String::new();
    for (number, expected, mut units) in chosen(split, node) {
        let count = units.len();
        text += &format!(
            "shard {number}/{}: {expected:.3} s, {count} unit{}\n",
            node.shards,
            super::plural(count)
        );
        units.sort_by_key(|unit| std::cmp::Reverse(unit.expected));
        for unit in units {
            let suite = match suites {
                [_, _, ..] => format!("{}: ", suite_of(suites, unit)),
                _ => String::new(),
            };
            let guess = if unit.known { "" } else { " (guess)" };
            let took = unit.expected.as_secs_f64();
            text += &format!("{took:>12.3}  {suite}{}{guess}\n", unit.unit.name);
        }
    }
    text
}

fn json(split: &Split, suites: &[&str], node: Node) -> String {
    let shards = chosen(split, node).into_iter();
    let written = Written {
        schema: SCHEMA,
        shards: node.shards,
        index: node.index,
        plan: &split.plan,
        manifest: &split.manifest,
        durations: &split.durations,
        makespan_s: split.makespan.as_secs_f64(),
        bound_s: split.bound.as_secs_f64(),
        split: shards
            .map(|(shard, expected_s, units)| Shard {
                shard,
                expected_s,
                units: units
                    .into_iter()
                    .map(|unit| Unit {
                        suite: suite_of(suites, unit),
                        unit: &unit.unit.name,
                        expected_s: unit.expected.as_secs_f64(),
                        known: unit.known,
                    })
                    .collect(),
            })
            .collect(),
    };
    let mut text = serde_json::to_string_pretty(&written).expect("a plan is plain data");
    text.push('\n');
    text
}

fn files(split: &Split, suites: &[&str], node: Node, null: bool) -> Result<String, Failure> {
    if suites.len() > 1 {
        return Err(
            Failure::usage("the names of several suites would be printed as one list").with_hint(
                format!(
                    "choose one: --suite {}; or --format json, which says whose they are",
                    suites[0]
                ),
            ),
        );
    }
    let end = if null { '\0' } else { '\n' };
    let mut text = String::new();
    for (_, _, units) in chosen(split, node) {
        for unit in units {
            let name = &unit.unit.name;
            if name.contains(end) {
                return Err(
                    Failure::usage(format!("the name {name:?} would be read as two"))
                        .with_hint("separate names by NUL characters: --null"),
                );
            }
            text.push_str(name);
            text.push(end);
        }
    }
    Ok(text)
}
