//! What the coordinator's history would have of an instance, and what units should take by that.

use crate::model::Instance;
use evenkeel_schedule::{Experience, Learner, Past, PastRun, Sample, UnitFacts};
use evenkeel_schedule::{Micros, Weight};
use std::collections::BTreeMap;

pub struct Estimates(Learner);

impl Estimates {
    pub fn new(instance: &Instance) -> Estimates {
        let names: Vec<String> = (0..instance.times.len())
            .map(|unit| format!("tests/file{:05}/case{unit:05}", instance.files[unit]))
            .collect();
        let sample = |work: u64, run: usize| Sample {
            work: Micros(work),
            setup: Micros::ZERO,
            run: run as u32,
            passed: true,
        };
        // One after the other: what lies between two runs is what drift shows in.
        let run = |before: usize| PastRun {
            runs: before as u32,
            ..PastRun::default()
        };
        let mut past = Past {
            runs: (0..instance.runs).map(run).collect(),
            units: BTreeMap::new(),
        };
        for (name, said) in names.iter().zip(&instance.history) {
            if let Some(said) = said {
                let samples = (0..instance.runs).map(|run| sample(*said, run));
                past.units.insert(name.clone(), samples.collect());
            }
        }
        let facts = names.iter().map(|name| UnitFacts { name, size: 0 });
        let facts: Vec<UnitFacts<'_>> = facts.collect();
        Estimates(Learner::new(&Experience::new(&past), &facts, true))
    }

    pub fn weight(&self, unit: u32) -> Weight {
        let estimate = self.0.estimate(unit);
        Weight {
            expected: estimate.work + estimate.setup,
            high: estimate.high,
            order: estimate.order,
            known: estimate.known,
            early: estimate.early,
        }
    }

    /// A unit took so long at the reference speed. Of which units something else is expected from now on.
    pub fn observe(&mut self, unit: u32, took: Micros) -> Vec<u32> {
        self.0.observe(unit, took, Micros::ZERO)
    }
}
