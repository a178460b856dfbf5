//! Rows of recorded durations of real suites.

use crate::model::{Instance, history, speeds};
use crate::traces::{self, Case};
use std::collections::BTreeMap;
use std::path::Path;

/// What a case takes at least, in microseconds: reports round to milliseconds, and nothing takes no time.
const LEAST: u64 = 100;
/// Deviation of the logarithm of what the history says of them, the share of which it says nothing, and of slow slots.
const NOISE: f64 = 0.3;
const NEW: f64 = 0.05;
const SLOW: f64 = 0.25;

pub struct Trace {
    pub name: String,
    /// Of each case its file, and what it took in microseconds.
    cases: Vec<(u32, u64)>,
}

/// The traces of a directory, by name; without one, those of the repository.
pub fn read(directory: Option<&Path>) -> std::io::Result<Vec<Trace>> {
    let Some(directory) = directory else {
        let all = traces::all().into_iter();
        return Ok(all.map(|(name, cases)| Trace::new(name, &cases)).collect());
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut read = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.strip_suffix(".csv.gz") {
            read.push(Trace::new(name, &traces::cases(&std::fs::read(&path)?)));
        }
    }
    Ok(read)
}

impl Trace {
    fn new(name: &str, all: &[Case]) -> Trace {
        let mut files = BTreeMap::new();
        let mut cases = Vec::new();
        for case in all {
            let next = files.len() as u32;
            let file = *files.entry(&case.file).or_insert(next);
            cases.push((file, case.micros.max(LEAST)));
        }
        let name = name.to_owned();
        Trace { name, cases }
    }

    /// Its cases, each a unit, on so many slots.
    pub fn of_cases(&self, slots: usize, seed: u64) -> Instance {
        let times = self.cases.iter().map(|(_, time)| *time).collect();
        let files = self.cases.iter().map(|(file, _)| *file).collect();
        instance(times, files, slots, seed)
    }

    /// Its files, each a unit.
    pub fn of_files(&self, slots: usize, seed: u64) -> Instance {
        let mut files = BTreeMap::new();
        for (file, time) in &self.cases {
            *files.entry(*file).or_default() += *time;
        }
        let times: Vec<u64> = files.into_values().collect();
        let files = vec![0; times.len()];
        instance(times, files, slots, seed)
    }
}

fn instance(times: Vec<u64>, files: Vec<u32>, slots: usize, seed: u64) -> Instance {
    let history = history(&times, NOISE, NEW, seed);
    Instance::new(
        times,
        history,
        files,
        speeds(slots, SLOW, seed),
        None,
        0,
        seed,
    )
}
