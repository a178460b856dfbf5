//! `cargo bench -p evenkeel-schedule --bench estimates`: how good estimates are, beside those of other tools.
//!
//! On recorded suites with made-up histories (`world.rs`), each with several seeds. The seeds that are judged were not used while anything
//! was tuned; `-- tuning` shows the others, `-- suites` each suite by itself. The same bytes each time.

mod peers;
mod random;
mod score;
#[path = "../traces/mod.rs"]
mod traces;
mod world;

use evenkeel_schedule::{Experience, Guess, Learner, Micros, UnitFacts};
use peers::PEERS;
use random::Random;
use score::{Scores, Table};
use world::{Fate, World, recorded, world};

const TUNING: std::ops::Range<u64> = 1..9;
const JUDGED: std::ops::Range<u64> = 1001..1017;

/// A suite is looked at by its files if it has so many, with so many cases in each.
const FILES: usize = 40;
const CASES: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let seeds = if has("tuning") { TUNING } else { JUDGED };
    let mut all = Table::default();
    for (name, cases) in traces::all() {
        for by_file in [false, true] {
            let units = recorded(&cases, by_file);
            if by_file && (units.len() < FILES || cases.len() < CASES * units.len()) {
                continue;
            }
            let mut suite = Table::default();
            for seed in seeds.clone() {
                suite.add(&judge(&world(&units, seed), seed));
            }
            if has("suites") {
                let what = if by_file { "files" } else { "cases" };
                println!("\n{name}: {} {what}", units.len());
                print!("{suite}");
            }
            all.add_suite(&suite);
        }
    }
    println!(
        "\nall suites alike, seeds {} to {}",
        seeds.start,
        seeds.end - 1
    );
    print!("{all}");
}

/// Compares all ways to estimate on one history.
fn judge(world: &World, seed: u64) -> Scores {
    let mut scores = Scores::default();
    let names: Vec<&str> = world.units.iter().map(|unit| unit.name.as_str()).collect();
    for peer in &PEERS {
        let estimates = peer.estimates(&world.past, &names);
        for (unit, estimate) in world.units.iter().zip(estimates) {
            scores.add(row_of(unit.fate), peer.name, estimate, unit.took);
        }
    }
    let facts: Vec<UnitFacts<'_>> = world
        .units
        .iter()
        .map(|unit| UnitFacts {
            name: &unit.name,
            size: unit.size,
        })
        .collect();
    let experience = Experience::new(&world.past);
    let mut learner = Learner::new(&experience, &facts, true);
    for (number, unit) in (0u32..).zip(&world.units) {
        scores.add_guess(row_of(unit.fate), learner.guess(number), unit.took);
    }
    learn(
        &mut scores,
        world,
        seed,
        &mut learner,
        "new, half of the run has ended",
    );

    let nothing = Experience::new(&evenkeel_schedule::Past::default());
    let mut learner = Learner::new(&nothing, &facts, true);
    learn(
        &mut scores,
        world,
        seed,
        &mut learner,
        "no history, half of the run has ended",
    );
    scores
}

/// Half of the units end, in any order; the new ones of the others are estimated after that.
fn learn(scores: &mut Scores, world: &World, seed: u64, learner: &mut Learner, row: &'static str) {
    let mut random = Random::new(seed ^ 0x5eed);
    let ended: Vec<bool> = world.units.iter().map(|_| random.happens(0.5)).collect();
    let mut order: Vec<(u64, u32)> = (0u32..)
        .zip(&ended)
        .filter(|(_, ended)| **ended)
        .map(|(unit, _)| (random.next(), unit))
        .collect();
    order.sort_unstable();
    let mut logs = Vec::new();
    for (_, unit) in order {
        let took = world.units[unit as usize].took;
        logs.push((took.0 as f64).ln());
        learner.observe(unit, took, Micros::ZERO);
    }
    let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
    for (number, unit) in (0u32..).zip(&world.units) {
        let Guess { known, .. } = learner.guess(number);
        if !ended[number as usize] && !known {
            scores.add_guess(row, learner.guess(number), unit.took);
            let usual = Micros(mean.exp() as u64);
            scores.add(row, "like what has ended, on average", usual, unit.took);
        }
    }
}

fn row_of(fate: Fate) -> &'static str {
    match fate {
        Fate::Known => "known",
        Fate::New => "new",
        Fate::NewFile => "new, with its file",
        Fate::Moved => "moved",
        Fate::Renamed => "renamed",
        Fate::Reparametrised => "other parameters",
        Fate::Gone => unreachable!("what is gone is not judged"),
    }
}
