//! What is played: files of tests with what loading them takes, machines that are not alike and do not stay as they are, a
//! history that is older than both, and one test that hangs.

use crate::model::Instance;
use evenkeel_coordinator::rehearsal::{Agent, Case, Draw, Scene, Slot, Speed, Suite, Unit, Ways};
use evenkeel_coordinator::run::{CaseKey, History, SuiteHistory};
use evenkeel_schedule::{Micros, PastRun, Sample};
use std::collections::HashMap;

/// Deviation of the logarithm of a test's duration, of which a file's tests share half of the variance; the mean is a second.
const SIGMA: f64 = 1.2;
/// Deviation of the logarithm between what a test took last time and what it would take today on the same machine.
const NOISE: f64 = 0.3;
/// Files of which nothing is recorded.
const NEW: f64 = 0.05;
/// Since the last run each file has become slower, by at most this share.
const OLDER: f64 = 0.2;
/// Loading all files once takes this share of what all tests take. Deviation of the logarithm of one file's.
const SETUP: f64 = 0.2;
const SETUP_SIGMA: f64 = 0.5;
/// Slots of a machine, the share of machines that are slow, and how fast these are.
const SLOTS: usize = 5;
const SLOW: f64 = 0.25;
const SLOW_SPEED: f64 = 0.6;
/// A machine's speed wanders for all of the run and is noisy besides, the same for whatever runs on it: steps of this length,
/// deviations of the logarithm of what one step adds and of what it has by itself.
const STEP: Micros = Micros(2_000_000);
const WANDERS: f64 = 0.02;
const NOISY: f64 = 0.1;
/// When half of the time is over that all of it should take, one machine slows down to this part of its speed.
const SLOWS_AT: f64 = 0.5;
const SLOWED: f64 = 1.0 / 3.0;
/// One test hangs for so long.
const HANGS: Micros = Micros(60_000_000);
/// Of a file that takes more than a slot's even share divided by this, a run is told what its tests took.
const SHARES: u64 = 4;
/// Speeds are drawn for so many times what all should take.
const FORESEEN: u64 = 6;

/// What is left out, in order to see what it costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Without {
    pub setup: bool,
    pub drift: bool,
    pub noise: bool,
    pub slowdown: bool,
    pub slow: bool,
    pub hang: bool,
    pub copies: bool,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub tests: usize,
    /// Of each file.
    pub each: usize,
    pub slots: usize,
    /// The most that a test may take, as a share of what each slot gets.
    pub cap: Option<f64>,
}

/// Of each file that has run before what loading it took then, and its tests.
type Before = HashMap<String, (Micros, HashMap<CaseKey, Micros>)>;

/// One seed of a row.
pub struct Reality {
    pub scene: Scene,
    before: Before,
    /// The least that any schedule could take.
    pub bound: Micros,
    /// The least where files that do not fit on one slot are loaded on as many as they need.
    pub least: Micros,
}

impl Setting {
    pub fn drawn(&self, seed: u64, without: Without) -> Reality {
        let draw = Draw::new(seed);
        let units = self.units(&draw, without);
        let mut suite = Suite::made_up("reality");
        // Its tests may run beside themselves.
        suite.suite.copies = !without.copies;
        let mut scene = Scene {
            suites: vec![suite],
            units,
            ways: Ways {
                way: Micros(1000),
                ..Ways::default()
            },
            seed,
            ..Scene::default()
        };
        let before = before(&scene, &draw, without);
        scene.agents = self.agents(&scene, &draw, without);
        // Which files are long depends on how many slots share them.
        scene.history = history(&scene, &before);
        let (bound, least) = (bound(&scene), least(&scene));
        if !without.hang {
            hang(&mut scene, &draw);
        }
        Reality {
            scene,
            before,
            bound,
            least,
        }
    }

    fn units(&self, draw: &Draw, without: Without) -> Vec<Unit> {
        let mut times = draw.apart(1);
        let half = SIGMA / std::f64::consts::SQRT_2;
        let median = 1e6 * (-SIGMA * SIGMA / 2.0).exp();
        let count = self.tests.div_ceil(self.each);
        let mut units: Vec<Unit> = (0..count)
            .map(|file| {
                let shared = times.factor(half);
                let cases = (0..self.each).map(|test| Case {
                    id: format!("f{file}::t{test}"),
                    work: micros(median * shared * times.factor(half)),
                    ..Case::default()
                });
                Unit {
                    name: format!("d{}/f{file}", file % 10),
                    size: 1000,
                    cases: cases.collect(),
                    ..Unit::default()
                }
            })
            .collect();
        if let Some(cap) = self.cap {
            let share = cap / self.slots as f64;
            let all = |most: f64| {
                let cases = units.iter().flat_map(|unit| &unit.cases);
                cases.map(|case| most.min(case.work.0 as f64)).sum::<f64>()
            };
            // What is cut off makes the share smaller, by less each time.
            let mut most = share * all(f64::MAX);
            for _ in 0..50 {
                most = share * all(most);
            }
            let cases = units.iter_mut().flat_map(|unit| &mut unit.cases);
            cases.for_each(|case| case.work = case.work.min(micros(most)));
        }
        if !without.setup {
            let mut setups = draw.apart(2);
            let drawn: Vec<f64> = units.iter().map(|_| setups.factor(SETUP_SIGMA)).collect();
            let work: Micros = units.iter().map(Unit::work).sum();
            let scale = SETUP * work.0 as f64 / drawn.iter().sum::<f64>();
            for (unit, drawn) in units.iter_mut().zip(drawn) {
                unit.load = micros(drawn * scale);
            }
        }
        units
    }

    fn agents(&self, scene: &Scene, draw: &Draw, without: Without) -> Vec<Agent> {
        let count = self.slots / SLOTS;
        let mut slow: Vec<bool> = (0..count)
            .map(|agent| (agent as f64) < SLOW * count as f64)
            .collect();
        let mut whose = draw.apart(3);
        whose.shuffle(&mut slow);
        let slows_down = whose.below(count as u64) as usize;
        let even = Micros(scene.work().0 / self.slots as u64);
        let steps = (even.0 * FORESEEN / STEP.0).max(1);
        let mut agents: Vec<Agent> = (0..count)
            .map(|agent| {
                let mut air = draw.apart(100 + agent as u64);
                let base = if slow[agent] && !without.slow {
                    SLOW_SPEED
                } else {
                    1.0
                };
                let mut drifted = base;
                let mut next = || {
                    let noise = air.factor(NOISY);
                    drifted *= air.factor(WANDERS);
                    let drifted = if without.drift { base } else { drifted };
                    milli(drifted * if without.noise { 1.0 } else { noise })
                };
                let mut speed = Speed::constant(next());
                for step in 1..steps {
                    speed = speed.then(Micros(step * STEP.0), next());
                }
                Agent {
                    name: format!("agent-{agent}"),
                    slots: vec![Slot::default(); SLOTS],
                    speed,
                    ..Agent::default()
                }
            })
            .collect();
        if !without.slowdown {
            let whole = fluid(&agents, scene.work());
            let at = Micros((whole.0 as f64 * SLOWS_AT) as u64);
            let before = &agents[slows_down].speed;
            let slowed = |speed: u32| milli(f64::from(speed) / 1000.0 * SLOWED);
            let mut speed = Speed::constant(before.at(Micros::ZERO));
            for &(from, now) in before.steps().iter().filter(|(from, _)| *from < at) {
                speed = speed.then(from, now);
            }
            speed = speed.then(at, slowed(before.at(at)));
            for &(from, now) in before.steps().iter().filter(|(from, _)| *from > at) {
                speed = speed.then(from, slowed(now));
            }
            agents[slows_down].speed = speed;
        }
        agents
    }
}

/// What the last run saw: what everything took before it became what it is, with noise.
fn before(scene: &Scene, draw: &Draw, without: Without) -> Before {
    let mut draw = draw.apart(4);
    let mut before = Before::new();
    for unit in &scene.units {
        let since = 1.0 + OLDER * draw.unit();
        let since = if without.drift { 1.0 } else { since };
        let mut took = |work: Micros| micros(work.0 as f64 / since * draw.factor(NOISE));
        let cases = unit.cases.iter();
        let cases: HashMap<_, _> = cases.map(|case| (case.key(), took(case.work))).collect();
        let load = took(unit.load);
        if draw.unit() >= NEW {
            before.insert(unit.name.clone(), (load, cases));
        }
    }
    before
}

/// What a run gets of that from its store: each file, and the tests of those that take long.
fn history(scene: &Scene, before: &Before) -> History {
    let mut known = SuiteHistory::default();
    known.past.runs = vec![PastRun::default()];
    let work = |(_, cases): &(Micros, HashMap<CaseKey, Micros>)| cases.values().copied().sum();
    let total: Micros = before.values().map(work).sum();
    for unit in &scene.units {
        let Some(took) = before.get(&unit.name) else {
            continue;
        };
        let work: Micros = work(took);
        let sample = Sample {
            work,
            setup: took.0,
            run: 0,
            passed: true,
        };
        known.past.units.insert(unit.name.clone(), vec![sample]);
        if work.0 * SHARES * scene.slots() as u64 > total.0 {
            known.cases.insert(unit.name.clone(), took.1.clone());
        }
    }
    known.digest = [1; 32];
    History {
        suites: vec![known],
    }
}

/// One of all tests, whatever it takes else.
fn hang(scene: &mut Scene, draw: &Draw) {
    let tests: u64 = scene.units.iter().map(|unit| unit.cases.len() as u64).sum();
    let which = draw.apart(5).below(tests) as usize;
    let mut cases = scene.units.iter_mut().flat_map(|unit| &mut unit.cases);
    if let Some(case) = cases.nth(which) {
        case.hangs = HANGS;
    }
}

fn speeds(agents: &[Agent]) -> impl Iterator<Item = &Speed> {
    let slots = agents
        .iter()
        .flat_map(|agent| agent.slots.iter().map(move |_| agent));
    slots.map(|agent| &agent.speed)
}

/// The first time at which something is true that stays true.
fn first(mut is_enough: impl FnMut(Micros) -> bool) -> Micros {
    let (mut low, mut high) = (0, 1 << 20);
    while !is_enough(Micros(high)) {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_enough(Micros(middle)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Micros(high)
}

/// When all slots together have done so much.
fn fluid(agents: &[Agent], work: Micros) -> Micros {
    first(|time| {
        let done = speeds(agents).map(|speed| speed.work(Micros::ZERO, time));
        done.sum::<Micros>() >= work
    })
}

/// The larger of when all slots together have done all the work with each file loaded once, and over k when the k that do most have
/// done the k longest of what nothing divides: a test with what loads its file. The hang is in neither: it is nobody's work, and a
/// test that were begun once more elsewhere would not hang there.
fn bound(scene: &Scene) -> Micros {
    let units = scene.units.iter();
    let mut pieces: Vec<Micros> = units
        .flat_map(|unit| {
            let longest = unit.cases.iter().map(|case| case.work).max();
            let rest = unit.cases.iter().map(|case| case.work);
            // Loading may be shared by the tests of a file, so that it counts for one of them.
            let mut seen = false;
            rest.map(move |work| {
                let first = Some(work) == longest && !std::mem::replace(&mut seen, true);
                work + if first { unit.load } else { Micros::ZERO }
            })
        })
        .collect();
    pieces.sort_unstable_by(|a, b| b.cmp(a));
    pieces.truncate(scene.slots());
    let pieces = first(|time| {
        let mut done: Vec<Micros> = speeds(&scene.agents)
            .map(|speed| speed.work(Micros::ZERO, time))
            .collect();
        done.sort_unstable_by(|a, b| b.cmp(a));
        let (mut longest, mut most) = (Micros::ZERO, Micros::ZERO);
        pieces.iter().zip(done).all(|(&piece, done)| {
            (longest, most) = (longest + piece, most + done);
            most >= longest
        })
    });
    pieces.max(fluid(&scene.agents, scene.work()))
}

/// The same where a file that does not fit on one slot is loaded on as many as it needs at least: no schedule that divides files can
/// take less either. It says how much of a gap was there to be lost.
fn least(scene: &Scene) -> Micros {
    first(|time| {
        let mut done: Vec<Micros> = speeds(&scene.agents)
            .map(|speed| speed.work(Micros::ZERO, time))
            .collect();
        done.sort_unstable_by(|a, b| b.cmp(a));
        let mut needed = Micros::ZERO;
        for unit in &scene.units {
            let mut left = unit.work();
            needed += left;
            for &done in &done {
                left = left - (done - unit.load);
                needed += unit.load;
                if left == Micros::ZERO {
                    break;
                }
            }
            if left > Micros::ZERO {
                return false;
            }
        }
        needed <= done.into_iter().sum()
    })
}

impl Reality {
    /// As other policies see it: a unit is a test, or all of a file.
    pub fn instance(&self, whole_files: bool) -> (Instance, Vec<Vec<(u32, u32)>>) {
        let units = (0u32..).zip(&self.scene.units);
        let mut members: Vec<Vec<(u32, u32)>> = Vec::new();
        let (mut times, mut past, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for (file, unit) in units {
            let before = self.before.get(&unit.name);
            let all: Vec<u32> = (0..unit.cases.len() as u32).collect();
            let units = if whole_files {
                vec![all]
            } else {
                all.into_iter().map(|case| vec![case]).collect()
            };
            for own in units {
                let of = |&case: &u32| &unit.cases[case as usize];
                times.push(own.iter().map(|case| of(case).work.0).sum());
                let took = before.map(|(load, cases)| {
                    let took = own.iter().map(|case| cases.get(&of(case).key()).copied());
                    let took: Micros = took.map(Option::unwrap_or_default).sum();
                    let load = if whole_files { *load } else { Micros::ZERO };
                    (took + load).0
                });
                past.push(took);
                files.push(file);
                members.push(own.into_iter().map(|case| (file, case)).collect());
            }
        }
        let slots = vec![1000; self.scene.slots()];
        let seed = self.scene.seed;
        let instance = Instance::new(times, past, files, slots, None, 0, seed);
        (instance, members)
    }

    /// What units of an instance take where they run: a slot loads each file once, and the test that hangs does so once.
    pub fn takes(&self, members: Vec<Vec<(u32, u32)>>) -> impl FnMut(u32, u32, u64) -> u64 {
        let speeds: Vec<&Speed> = speeds(&self.scene.agents).collect();
        let mut loaded = std::collections::HashSet::new();
        move |slot, unit, now| {
            let mut at = Micros(now);
            for &(file, case) in &members[unit as usize] {
                let on_scene = &self.scene.units[file as usize];
                let case = &on_scene.cases[case as usize];
                let load = if loaded.insert((slot, file)) {
                    on_scene.load
                } else {
                    Micros::ZERO
                };
                at = speeds[slot as usize].after(at, load + case.work) + case.hangs;
            }
            at.0 - now
        }
    }
}

fn micros(value: f64) -> Micros {
    Micros(value.round().max(1.0) as u64)
}

fn milli(speed: f64) -> u32 {
    (speed * 1000.0).round().clamp(1.0, 1e9) as u32
}
