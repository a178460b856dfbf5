//! A scene from a history: the tests of a suite as they were recorded last, on machines that are alike, before any run on them.

use super::scene::{Agent, Case, Scene, Slot, Suite, Unit};
use crate::store::UnitTimes;
use evenkeel_schedule::Micros;

/// The suite of which this is recorded, on one machine with so many slots, by a run that knows it.
///
/// What a history does not hold is taken to be nothing: the start of processes and the listing, and loading a file once more in the same
/// process. A file of which no test is recorded is one test.
pub fn remembered(name: &str, units: &[UnitTimes], slots: u32) -> Scene {
    let whole = |unit: &UnitTimes| Case {
        id: unit.unit.clone(),
        work: unit.work,
        ..Case::default()
    };
    let units = units.iter().map(|unit| {
        let told: Micros = unit.cases.iter().map(|(_, took)| *took).sum();
        let between = Micros((unit.work - told).0 / unit.cases.len().max(1) as u64);
        let cases = unit.cases.iter().map(|(key, took)| Case {
            id: key.id.clone(),
            occurrence: key.occurrence,
            work: *took,
            between,
            ..Case::default()
        });
        let mut cases: Vec<Case> = cases.collect();
        if cases.is_empty() {
            cases.push(whole(unit));
        }
        Unit {
            name: unit.unit.clone(),
            load: unit.setup,
            cases,
            ..Unit::default()
        }
    });
    let mut scene = Scene {
        suites: vec![Suite::made_up(name)],
        units: units.collect(),
        agents: vec![Agent {
            name: "machine".to_owned(),
            slots: vec![Slot::default(); slots as usize],
            ..Agent::default()
        }],
        ..Scene::default()
    };
    scene.history = scene.truth();
    scene
}
