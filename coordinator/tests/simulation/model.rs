//! What there is to run, and what must come out: suites, units and cases, drawn from the seed.

use super::faults::Mix;
use evenkeel_coordinator::run::{CaseKey, History, Rules, SuiteHistory};
use evenkeel_proto::{
    ledger as l,
    suite::{Names, Override, Suite, Variables},
};
use evenkeel_schedule::{Micros, PastRun, Sample};
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    Pass,
    Fail,
    Skip,
    /// The process dies each time.
    Crash,
    /// Killed from outside at the first attempt.
    KilledOnce,
    /// Killed from outside each time.
    KilledAlways,
    /// Its unit closes without a word about it.
    Forgotten,
    /// The whole agent goes down with it each time.
    Poison,
    /// The first time it stands still for seconds.
    Hangs,
    /// The same, and every second time it fails.
    Moody,
}

/// What a case takes that hangs.
const HANG: u64 = 6_000_000;

pub struct ModelUnit {
    pub suite: u32,
    /// Two suites may have units of the same name.
    pub name: String,
    pub locks: Vec<String>,
    pub exclusive: bool,
    /// It has an environment of its own.
    pub apart: bool,
    /// What each case does, and how long it takes.
    pub cases: Vec<(Behaviour, u64)>,
    /// Every fourth case belongs to one of two groups.
    pub grouped: bool,
    pub kills_loader: bool,
}

impl ModelUnit {
    pub fn group(&self, case: usize) -> String {
        let grouped = self.grouped && case.is_multiple_of(4);
        if grouped {
            format!("g{}", case % 8)
        } else {
            String::new()
        }
    }

    pub fn key(&self, case: usize) -> CaseKey {
        CaseKey {
            id: format!("{}::{case}", self.name),
            occurrence: 0,
        }
    }
}

impl Behaviour {
    /// What a case takes that should take `usual`, at its so manieth attempt.
    pub fn takes(self, usual: u64, attempt: u32) -> u64 {
        let hangs = matches!(self, Behaviour::Hangs | Behaviour::Moody) && attempt == 1;
        if hangs { HANG } else { usual }
    }
}

/// The place of a case in its unit, which its id ends with.
pub fn place_of(id: &str) -> Option<usize> {
    id.rsplit("::").next()?.parse().ok()
}

pub struct Model {
    pub units: Vec<ModelUnit>,
    /// Of each suite whether its processes want several units at once.
    pub bundles: Vec<bool>,
    /// Of each kind of process the suite.
    pub kinds: Vec<u32>,
    /// Processes have something to say at their end, and the run as a whole is to be concluded.
    pub closing: bool,
    pub finish: bool,
    pub history: History,
    pub opened: l::RunOpened,
}

impl Model {
    pub fn draw(random: &mut fastrand::Rng, mix: &Mix) -> Model {
        let suites = if random.bool() { 1 } else { random.usize(2..4) };
        let bound = random.u32(0..3) == 0;
        let mut poison = u32::from(mix.poison) + u32::from(mix.poison && random.bool());
        let units: Vec<ModelUnit> = (0..random.usize(0..10))
            .map(|unit| ModelUnit {
                suite: (unit % suites) as u32,
                name: format!("dir{}/unit{}", unit % 3, unit / suites),
                locks: ["a", "b"]
                    .iter()
                    .filter(|_| bound && random.u32(0..3) == 0)
                    .map(|&lock| lock.to_owned())
                    .collect(),
                exclusive: bound && random.u32(0..6) == 0,
                apart: bound && random.u32(0..6) == 0,
                cases: (0..cases(random))
                    .map(|_| {
                        let case = case(random, mix, poison > 0);
                        poison -= u32::from(case.0 == Behaviour::Poison);
                        case
                    })
                    .collect(),
                grouped: random.u32(0..3) == 0,
                kills_loader: mix.crashes && random.u32(0..15) == 0,
            })
            .collect();
        let opened = l::RunOpened {
            project: "p".into(),
            run: "r".into(),
            round: 1,
            suites: (0..suites as u32)
                .map(|suite| described(suite, &units, mix.copies))
                .collect(),
            ..Default::default()
        };
        let rules = Rules::new(&opened.suites).expect("names are patterns");
        let number = |suite: Suite| suite.name.parse().expect("suites are named by numbers");
        let bundling = random.u32(0..4) == 0;
        Model {
            kinds: rules.kinds().into_iter().map(number).collect(),
            closing: random.bool(),
            finish: random.bool(),
            bundles: (0..suites)
                .map(|suite| bundling && (suite == 0 || random.bool()))
                .collect(),
            history: history(random, suites, &units),
            units,
            opened,
        }
    }

    pub fn rules(&self) -> Rules {
        Rules::new(&self.opened.suites).expect("names are patterns")
    }

    pub fn find(&self, suite: u32, name: &str) -> usize {
        let mut units = self.units.iter();
        let found = units.position(|unit| unit.suite == suite && unit.name == name);
        found.expect("a listed unit")
    }

    pub fn unit(&self, suite: u32, name: &str) -> &ModelUnit {
        &self.units[self.find(suite, name)]
    }

    pub fn suite_of_kind(&self, kind: u32) -> u32 {
        self.kinds[kind as usize]
    }
}

/// Mostly few, now and then so many that the unit is split.
fn cases(random: &mut fastrand::Rng) -> usize {
    if random.u32(0..5) == 0 {
        random.usize(9..40)
    } else {
        random.usize(0..7)
    }
}

fn case(random: &mut fastrand::Rng, mix: &Mix, poison: bool) -> (Behaviour, u64) {
    let kinds = if mix.crashes { 30 } else { 20 };
    let behaviour = match random.u32(0..kinds) {
        0 => Behaviour::Fail,
        1 | 2 => Behaviour::Skip,
        3 if mix.lies => Behaviour::Forgotten,
        4 if poison => Behaviour::Poison,
        5 if mix.hangs => Behaviour::Hangs,
        6 if mix.hangs => Behaviour::Moody,
        20 | 21 => Behaviour::Crash,
        22 => Behaviour::KilledOnce,
        23 => Behaviour::KilledAlways,
        _ => Behaviour::Pass,
    };
    let slow = mix.slow && random.u32(0..15) == 0;
    let duration = if slow {
        random.u64(1_000_000..9_000_000)
    } else {
        random.u64(10..if mix.quick { 4_000 } else { 400_000 })
    };
    (behaviour, duration)
}

/// A suite with what holds for its units, each named by a pattern.
fn described(suite: u32, units: &[ModelUnit], copies: bool) -> Suite {
    let own = units.iter().filter(|unit| unit.suite == suite);
    Suite {
        name: suite.to_string(),
        // The last one of several says nothing of it.
        copies: copies && suite < 2,
        overrides: own
            .map(|unit| Override {
                units: vec![unit.name.clone()],
                exclusive: unit.exclusive.then_some(true),
                locks: Some(Names {
                    names: unit.locks.clone(),
                }),
                environment: unit.apart.then(Variables::default),
                ..Override::default()
            })
            .collect(),
        ..Suite::default()
    }
}

/// What earlier runs tell of some of the units, more or less right.
fn history(random: &mut fastrand::Rng, suites: usize, units: &[ModelUnit]) -> History {
    let mut history = History {
        suites: vec![SuiteHistory::default(); suites],
    };
    for unit in units {
        if random.bool() {
            continue;
        }
        let mut known = HashMap::new();
        for (case, (_, duration)) in unit.cases.iter().enumerate() {
            known.insert(unit.key(case), Micros(duration * random.u64(50..200) / 100));
        }
        let sample = Sample {
            work: known.values().copied().sum(),
            setup: Micros(random.u64(0..50_000)),
            run: 0,
            passed: true,
        };
        let own = &mut history.suites[unit.suite as usize];
        own.past.runs = vec![PastRun::default()];
        own.past.units.insert(unit.name.clone(), vec![sample]);
        if random.u32(0..4) > 0 {
            own.cases.insert(unit.name.clone(), known);
        }
    }
    history
}
