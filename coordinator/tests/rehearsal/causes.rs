//! Runs that lose time to a cause that is known, because it was planted.

use evenkeel_coordinator::rehearsal::{
    Cause, Draw, Loss, Lost, Model, Scene, Speed, Ways, causes, dearest, play,
};
use evenkeel_schedule::Micros;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Nothing is lost: many short tests, known times, equal machines that answer at once.
fn calm(draw: &mut Draw) -> Model {
    Model {
        files: 24 + draw.below(12) as u32,
        tests: 3 + draw.below(3) as u32,
        agents: 2,
        slots: 2,
        mean: Micros(200_000),
        sigma: 0.5,
        noise: 0.0,
        fresh: 0.0,
        ways: Ways {
            way: Micros(200),
            ..Ways::default()
        },
        ..Model::default()
    }
}

fn planted(cause: Cause, seed: u64) -> Scene {
    let mut draw = Draw::new(seed).apart(cause as u64 + 100);
    let model = calm(&mut draw);
    let mut scene = model.draw(seed);
    let even = Micros(scene.work().0 / scene.slots() as u64);
    match cause {
        Cause::Agents if draw.below(2) == 0 => {
            let at = Micros(even.0 * (50 + draw.below(30)) / 100);
            let noticed = Micros(1_000_000 + draw.below(4_000_000));
            scene.agents[1].loss = Some(Loss { at, noticed });
        }
        Cause::Agents => {
            // Nearly stands still from some time on.
            let at = Micros(even.0 * (60 + draw.below(20)) / 100);
            scene.agents[1].speed = Speed::constant(1000).then(at, 60);
        }
        Cause::Estimates => {
            // One that nothing divides is believed to be the shortest, and starts last.
            let unit = draw.below(scene.units.len() as u64) as usize;
            let long = Micros(even.0 * (40 + draw.below(40)) / 100);
            let unit = &mut scene.units[unit];
            unit.cases.truncate(1);
            unit.cases[0].work = long;
            let name = unit.name.clone();
            scene.history = scene.truth();
            let known = &mut scene.history.suites[0];
            known.cases.remove(&name);
            if let Some(samples) = known.past.units.get_mut(&name) {
                samples
                    .iter_mut()
                    .for_each(|sample| sample.work = Micros(20_000));
            }
        }
        Cause::Setup => {
            // One file is half of all, and loading it takes long.
            let more = scene.work();
            let unit = &mut scene.units[0];
            let own = unit.work().0.max(1);
            for case in &mut unit.cases {
                case.work = Micros(case.work.0 * more.0 / own);
            }
            let cases: Vec<_> = unit
                .cases
                .iter()
                .flat_map(|case| {
                    (0..30).map(move |part| {
                        let mut case = case.clone();
                        case.id = format!("{}[{part}]", case.id);
                        case.work = Micros(case.work.0 / 30);
                        case
                    })
                })
                .collect();
            unit.cases = cases;
            unit.load = Micros(even.0 * (15 + draw.below(20)) / 100);
            unit.reload = unit.load;
            scene.history = scene.truth();
        }
        Cause::LongUnit => {
            // One more of equal pieces than there are slots.
            scene.units.truncate(scene.slots() + 1);
            let long = Micros(1_000_000 + draw.below(3_000_000));
            for unit in &mut scene.units {
                unit.cases.truncate(1);
                unit.cases[0].work = long;
            }
            scene.history = scene.truth();
        }
        Cause::Waiting => {
            scene.ways.way = Micros(80_000 + draw.below(100_000));
            for unit in &mut scene.units {
                for case in &mut unit.cases {
                    case.work = Micros(case.work.0 / 20);
                }
            }
            scene.history = scene.truth();
        }
        Cause::Chance | Cause::Order | Cause::Copies => {}
    }
    scene
}

const PLANTED: [Cause; 5] = [
    Cause::Agents,
    Cause::Estimates,
    Cause::Setup,
    Cause::Waiting,
    Cause::LongUnit,
];
/// Of each cause; more on demand through EVENKEEL_CAUSES.
const RUNS: u64 = 30;

/// The seconds add up to the gap, and what is named first is what was planted.
#[test]
fn explanations_add_up_and_name_the_cause() {
    let wanted = std::env::var("EVENKEEL_CAUSES").ok();
    let runs = wanted.and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let all: Vec<(Cause, u64)> = PLANTED
        .into_iter()
        .flat_map(|cause| (0..runs).map(move |seed| (cause, seed)))
        .collect();
    let explained: Vec<(Cause, u64, i64, Vec<Lost>)> = all
        .into_par_iter()
        .map(|(cause, seed)| {
            let played = play(&planted(cause, seed)).unwrap();
            let schedule = played.record.schedule();
            let gap = schedule.makespan.0 as i64 - schedule.bound.makespan().0 as i64;
            (cause, seed, gap, causes(&played.record).unwrap())
        })
        .collect();
    let mut named: BTreeMap<Cause, u64> = BTreeMap::new();
    let mut others: BTreeMap<(Cause, Option<Cause>), Vec<u64>> = BTreeMap::new();
    for (cause, seed, gap, lost) in &explained {
        let sum: i64 = lost.iter().map(|lost| lost.us).sum();
        assert_eq!(sum, *gap, "{cause:?} {seed}");
        let first = dearest(lost).first().map(|lost| lost.cause);
        if first == Some(*cause) {
            *named.entry(*cause).or_default() += 1;
        } else {
            others.entry((*cause, first)).or_default().push(*seed);
        }
    }
    let right: u64 = named.values().sum();
    let share = right as f64 / explained.len() as f64;
    println!(
        "the planted cause is named first in {:.1}% of {} runs: {named:?}; others: {others:?}",
        share * 100.0,
        explained.len()
    );
    assert!(share >= 0.95, "{share}: {named:?}, {others:?}");
    let least = named.values().min().copied().unwrap_or_default();
    assert!(
        named.len() == PLANTED.len() && least * 10 >= runs * 8,
        "{named:?}"
    );
}
