//! `cargo bench -p evenkeel-schedule --bench schedule`: how far the makespan is from the bound, beside other policies.
//!
//! Each row is a setting, each figure the excess of the makespan over the least that any schedule could take, in percent, over
//! seeds that nothing was tuned on. The same arguments print the same bytes. Arguments after `--`: `--seeds FROM..TO`, `--row NAME`,
//! `--policy NAME`, `--traces DIRECTORY` and `--cost`, for
//! what decisions cost alone; that goes to the standard error, since it is never the same twice.

mod cost;
mod estimates;
mod model;
mod ours;
mod peers;
mod random;
mod recorded;
mod rows;
mod table;
#[path = "../traces/mod.rs"]
mod traces;
mod world;
mod xdist;

use std::ops::Range;
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: cost::Counting = cost::Counting;

/// What is judged on; tuning is done on those from zero.
const JUDGED: Range<u64> = 1000..1100;

pub struct Arguments {
    pub seeds: Range<u64>,
    pub row: Option<String>,
    pub policy: Option<String>,
    /// Where other traces than those of the repository are.
    pub traces: Option<PathBuf>,
}

fn main() {
    let mut arguments = Arguments {
        seeds: JUDGED,
        row: None,
        policy: None,
        traces: None,
    };
    let mut given = std::env::args().skip(1);
    let mut cost_only = false;
    while let Some(name) = given.next() {
        // Cargo says that this is a bench.
        if name == "--bench" {
            continue;
        }
        if name == "--cost" {
            cost_only = true;
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
            "--traces" => arguments.traces = Some(value.into()),
            other => panic!("unknown argument {other}"),
        }
    }
    if !cost_only {
        table::print(&arguments);
    }
    if arguments.row.is_none() {
        cost::print();
    }
}
