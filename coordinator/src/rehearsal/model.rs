//! Suites and machines that are drawn: what tests, benches and explanations are tried on.
//!
//! Durations are log-normal, as they are in recorded suites; tests of one file share a part of the variance. What the run
//! believes is the truth with noise.

use super::draw::Draw;
use super::scene::{Agent, Case, Listing, Scene, Slot, Speed, Suite, Unit, Ways, seal};
use crate::run::{History, SuiteHistory};
use evenkeel_schedule::{Micros, PastRun, Sample};
use std::collections::HashMap;

/// What a drawn scene is like. All shares are parts of 1.
#[derive(Clone, Debug)]
pub struct Model {
    pub files: u32,
    /// Tests of each file.
    pub tests: u32,
    pub agents: u32,
    /// Of each agent.
    pub slots: u32,
    /// What a test takes on average.
    pub mean: Micros,
    /// Deviation of the logarithm of a test's duration, of which a file's tests share half of the variance.
    pub sigma: f64,
    /// No test takes more than this share of what all take on one slot; 0 for no limit.
    pub longest: f64,
    /// Deviation of the logarithm between what was recorded and what is.
    pub noise: f64,
    /// Files of which nothing is recorded.
    pub fresh: f64,
    /// The run knows nothing at all.
    pub unknown: bool,
    /// Loading a file, as a share of what its tests take.
    pub setup: f64,
    /// What all tests have become slower by since they were recorded: a share for each file, at most.
    pub drift: f64,
    /// Agents that are slower all the time, and how fast they are.
    pub slow: f64,
    pub slow_speed: f64,
    /// Deviation of the logarithm of an agent's speed from one second to the next, the same for all that it runs.
    pub weather: f64,
    pub undivided: bool,
    pub ways: Ways,
    pub listing: Micros,
    pub boot: Micros,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            files: 100,
            tests: 20,
            agents: 5,
            slots: 4,
            mean: Micros(1_000_000),
            sigma: 1.2,
            longest: 0.0,
            noise: 0.3,
            fresh: 0.05,
            unknown: false,
            setup: 0.0,
            drift: 0.0,
            slow: 0.0,
            slow_speed: 0.6,
            weather: 0.0,
            undivided: false,
            ways: Ways::default(),
            listing: Micros::ZERO,
            boot: Micros::ZERO,
        }
    }
}

/// How long an agent's weather stays the same.
const SPELL: Micros = Micros(1_000_000);
/// No weather is drawn beyond so many even shares of the work.
const FORECAST: u64 = 3;

impl Model {
    pub fn draw(&self, seed: u64) -> Scene {
        let draw = Draw::new(seed);
        let mut units = self.units(&draw);
        self.limit(&mut units);
        let mut scene = Scene {
            first_red: false,
            suites: vec![Suite {
                listing: Listing {
                    pieces: vec![(self.listing, 0)],
                },
                start: self.boot,
                undivided: self.undivided,
                ..Suite::made_up("drawn")
            }],
            units,
            agents: Vec::new(),
            history: History::default(),
            ways: self.ways,
            few: None,
            seed,
        };
        scene.agents = self.agents(&draw, scene.work());
        scene.history = self.history(&draw, &scene);
        scene
    }

    fn units(&self, draw: &Draw) -> Vec<Unit> {
        let mut draw = draw.apart(1);
        let half = self.sigma / std::f64::consts::SQRT_2;
        // The mean of a log-normal number is exp(μ + σ²/2).
        let median = self.mean.0 as f64 * (-self.sigma * self.sigma / 2.0).exp();
        let files = (0..self.files).map(|file| {
            let shared = draw.factor(half);
            let cases = (0..self.tests).map(|test| Case {
                id: format!("f{file}::t{test}"),
                work: micros(median * shared * draw.factor(half)),
                ..Case::default()
            });
            let cases: Vec<Case> = cases.collect();
            let work: Micros = cases.iter().map(|case| case.work).sum();
            Unit {
                name: format!("d{}/f{file}", file % 10),
                size: 1000,
                load: micros(work.0 as f64 * self.setup),
                cases,
                ..Unit::default()
            }
        });
        files.collect()
    }

    /// Cuts what is longer than the longest may be.
    fn limit(&self, units: &mut [Unit]) {
        if self.longest == 0.0 {
            return;
        }
        let total: Micros = units.iter().map(Unit::work).sum();
        let slots = u64::from(self.agents * self.slots).max(1);
        let most = micros((total.0 / slots) as f64 * self.longest);
        let cases = units.iter_mut().flat_map(|unit| &mut unit.cases);
        cases.for_each(|case| case.work = case.work.min(most));
    }

    fn agents(&self, draw: &Draw, work: Micros) -> Vec<Agent> {
        let mut draw = draw.apart(2);
        let slots = u64::from(self.agents * self.slots).max(1);
        let even = Micros(work.0 / slots);
        let agents = (0..self.agents).map(|agent| {
            let slow = draw.unit() < self.slow;
            let base = if slow { self.slow_speed } else { 1.0 };
            let mut weather = || milli(base * draw.factor(self.weather));
            let mut speed = Speed::constant(weather());
            if self.weather > 0.0 {
                let spells = (even.0 * FORECAST / SPELL.0).clamp(1, 10_000);
                for spell in 1..spells {
                    speed = speed.then(Micros(spell * SPELL.0), weather());
                }
            }
            Agent {
                name: format!("agent-{agent}"),
                slots: vec![Slot::default(); self.slots as usize],
                speed,
                ..Agent::default()
            }
        });
        agents.collect()
    }

    /// What was recorded: the truth, less what has drifted, with noise of each test.
    fn history(&self, draw: &Draw, scene: &Scene) -> History {
        let mut draw = draw.apart(3);
        let mut known = SuiteHistory::default();
        known.past.runs = vec![PastRun::default()];
        let total: Micros = scene.units.iter().map(Unit::work).sum();
        let long = Micros(total.0 / (4 * scene.slots().max(1) as u64));
        for unit in &scene.units {
            let drifted = 1.0 + self.drift * draw.unit();
            let cases: HashMap<_, _> = unit
                .cases
                .iter()
                .map(|case| {
                    let was = case.work.0 as f64 / drifted * draw.factor(self.noise);
                    (case.key(), micros(was))
                })
                .collect();
            let work: Micros = cases.values().copied().sum();
            let setup = micros(unit.setup().0 as f64 * draw.factor(self.noise));
            if draw.unit() < self.fresh || self.unknown {
                continue;
            }
            let sample = Sample {
                work,
                setup,
                run: 0,
                passed: true,
            };
            known.past.units.insert(unit.name.clone(), vec![sample]);
            if work > long {
                known.cases.insert(unit.name.clone(), cases);
            }
        }
        seal(&mut known);
        History {
            suites: vec![known],
        }
    }
}

pub(super) fn micros(value: f64) -> Micros {
    Micros(value.round().max(1.0) as u64)
}

pub(super) fn milli(speed: f64) -> u32 {
    (speed * 1000.0).round().clamp(1.0, 1e9) as u32
}
