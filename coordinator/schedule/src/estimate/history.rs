//! What earlier runs of a suite tell: samples, and what is learned from all of them together.

use super::names::groups;
use super::samples::{Level, levels};
use super::tree::{self, Belief, Spreads, Tree};
use crate::Micros;
use std::collections::BTreeMap;

/// One earlier execution of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub work: Micros,
    pub setup: Micros,
    /// In which run of the history.
    pub run: u32,
    /// False where a test of it failed: such a one may end early, and counts only where nothing else is known.
    pub passed: bool,
}

/// One earlier run, or what went under other circumstances in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PastRun {
    /// How many runs before the newest, and how many days.
    pub runs: u32,
    pub days: u32,
    /// 0 where it went under the circumstances of the run that is to be estimated: command, kind of machine, and so on.
    /// Runs with the same number are alike.
    pub circumstances: u32,
}

/// What is recorded of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The newest first.
    pub runs: Vec<PastRun>,
    /// By the unit's name, the newest first; of units that are gone, too.
    pub units: BTreeMap<String, Vec<Sample>>,
}

/// What was learned from the past of a suite, whatever it has for units now.
#[derive(Clone, Debug)]
pub struct Experience {
    pub(super) names: Vec<String>,
    pub(super) work: Vec<Level>,
    pub(super) setup: Vec<Level>,
    /// How many times as wide the upper end of what a unit takes is as that of a log-normal distribution.
    pub(super) tail: f64,
    pub(super) work_spreads: Spreads,
    pub(super) setup_spreads: Spreads,
    /// Work and set-up of the suite as a whole.
    pub(super) work_root: Belief,
    pub(super) setup_root: Belief,
}

/// Variance of a suite's level before anything is known, and around the mean of its units.
const ANY_SUITE: f64 = 2.25;

impl Experience {
    pub fn new(past: &Past) -> Experience {
        let (work, tail) = levels(past, |sample| sample.work);
        let (setup, _) = levels(past, |sample| sample.setup);
        let names: Vec<String> = past.units.keys().cloned().collect();
        let (work_root, work_spreads) = learned(&names, &work);
        let (setup_root, setup_spreads) = learned(&names, &setup);
        Experience {
            names,
            work,
            setup,
            tail,
            work_spreads,
            setup_spreads,
            work_root,
            setup_root,
        }
    }

    /// Whether any unit has run before.
    pub fn is_empty(&self) -> bool {
        !self.work.iter().any(|level| level.is_known())
    }
}

/// How alike neighbours are, and what the suite as a whole takes.
fn learned(names: &[String], levels: &[Level]) -> (Belief, Spreads) {
    let own: Vec<Belief> = levels
        .iter()
        .map(|level| Belief::new(level.mean, level.variance))
        .collect();
    let known = levels.iter().filter(|level| level.is_known());
    let count = known.clone().count().max(1) as f64;
    let mean = known.map(|level| level.mean).sum::<f64>() / count;
    let root = Belief::new(mean, ANY_SUITE);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.is_empty() {
        return (root, tree::ASSUMED);
    }
    let spreads = Tree::new(groups(&names), own, root, tree::ASSUMED).learn();
    (root, spreads)
}
