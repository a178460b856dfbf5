//! `cargo bench -p evenkeel-coordinator --bench reality`: the real run, on virtual time, where everything happens at once.
//!
//! Tests are in files that take time to load on each slot and may be shared between slots, the history is older than they are, machines
//! differ and change, and one test hangs, which may run elsewhere meanwhile. What is played is the state machine of real runs with all
//! that it hands out, takes back, splits and copies, beside other policies on the same files and machines. Each figure is the makespan
//! over the least that any schedule could take. The same arguments print the same bytes. Arguments after `--`: `--seeds FROM..TO`,
//! `--row NAME`, `--policy NAME`, and `--without` with any of setup, drift, noise, slowdown, slow, hang and copies, separated by commas.

mod rows;
mod scenes;
mod table;

// What other policies are, and the machine that they are played on, is the schedule bench's.
#[allow(dead_code)]
#[path = "../schedule/model.rs"]
mod model;
#[allow(dead_code)]
#[path = "../schedule/peers.rs"]
mod peers;
#[allow(dead_code)]
#[path = "../schedule/random.rs"]
mod random;
#[allow(dead_code)]
#[path = "../schedule/world.rs"]
mod world;
#[path = "../schedule/xdist.rs"]
mod xdist;

use scenes::Without;
use std::ops::Range;

/// What is judged on; tuning is done on those from zero.
const JUDGED: Range<u64> = 1000..1100;

pub struct Arguments {
    pub seeds: Range<u64>,
    pub row: Option<String>,
    pub policy: Option<String>,
    pub without: Without,
}

fn main() {
    let mut arguments = Arguments {
        seeds: JUDGED,
        row: None,
        policy: None,
        without: Without::default(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        // Cargo says that this is a bench.
        if name == "--bench" {
            continue;
        }
        let value = given.next().unwrap_or_default();
        match name.as_str() {
            "--seeds" => {
                let ends = value.split_once("..").expect("--seeds FROM..TO");
                let end = |text: &str| text.parse().expect("--seeds FROM..TO, in whole numbers");
                arguments.seeds = end(ends.0)..end(ends.1);
            }
            "--row" => arguments.row = Some(value),
            "--policy" => arguments.policy = Some(value),
            "--without" => arguments.without = without(&value),
            other => panic!("unknown argument {other}"),
        }
    }
    assert!(!arguments.seeds.is_empty(), "there are seeds");
    table::print(&arguments);
}

fn without(names: &str) -> Without {
    let mut without = Without::default();
    for name in names.split(',') {
        let which = match name {
            "setup" => &mut without.setup,
            "drift" => &mut without.drift,
            "noise" => &mut without.noise,
            "slowdown" => &mut without.slowdown,
            "slow" => &mut without.slow,
            "hang" => &mut without.hang,
            "copies" => &mut without.copies,
            other => panic!("nothing is called {other}"),
        };
        *which = true;
    }
    without
}
