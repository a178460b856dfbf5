//! Runs on virtual time: random scenes are played to their end, every test once and no constraint broken; what is recorded of a
//! run's inputs leads to the same decisions again; and faults that are planted are seen.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod broken;
mod causes;
mod copies;
mod scenes;

use broken::broken;
use evenkeel_coordinator::rehearsal::{Loss, Model, Scene, Speed, Ways, play, play_noting};
use evenkeel_coordinator::rules::Rules;
use evenkeel_coordinator::run::planted::{Fault, plant};
use evenkeel_coordinator::run::{Effect, Event, Run, Settings};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;
use prost::Message;
use scenes::drawn;

/// How many scenes a test run plays; more on demand through EVENKEEL_SEEDS.
const SEEDS: u64 = 400;

fn seeds() -> std::ops::Range<u64> {
    let wanted = std::env::var("EVENKEEL_SEEDS").ok();
    0..wanted.and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

/// What is wrong with how a scene is played, if anything.
fn wrong(scene: &Scene) -> Option<String> {
    match play(scene) {
        Ok(played) => broken(scene, &played.record),
        Err(stalled) => Some(stalled.to_string()),
    }
}

#[test]
fn every_case_is_run_once_and_no_constraint_is_broken() {
    let wrong = seeds().filter_map(|seed| Some((seed, wrong(&drawn(seed))?)));
    let wrong: Vec<(u64, String)> = wrong.collect();
    assert!(
        wrong.is_empty(),
        "{} scenes: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

/// The bytes of the ledger, and everything that the run took in and answered.
fn noted(scene: &Scene) -> (Vec<u8>, Vec<(Micros, Event, String)>) {
    let mut bytes = Vec::new();
    let mut inputs = Vec::new();
    let mut note = |input: &evenkeel_coordinator::rehearsal::Input<'_>| {
        for effect in input.effects {
            if let Effect::Append(batch) = effect {
                bytes.extend(batch.encode_to_vec());
            }
        }
        let answer = format!("{:?}", input.effects);
        inputs.push((input.at, input.event.clone(), answer));
    };
    play_noting(scene, &mut note).unwrap();
    (bytes, inputs)
}

#[test]
fn a_scene_plays_the_same_twice() {
    for seed in 0..40 {
        assert_eq!(noted(&drawn(seed)).0, noted(&drawn(seed)).0, "seed {seed}");
    }
    assert_ne!(noted(&drawn(1)).0, noted(&drawn(2)).0);
}

/// What a run took in, given to another one, has it decide the same, byte for byte.
#[test]
fn recorded_inputs_lead_to_the_same_decisions() {
    for seed in 0..40 {
        let scene = drawn(seed);
        let (_, inputs) = noted(&scene);
        let suites: Vec<_> = scene
            .suites
            .iter()
            .map(|suite| suite.suite.clone())
            .collect();
        let rules = Rules::new(&suites).unwrap();
        let opened = l::RunOpened {
            project: "rehearsal".to_owned(),
            run: "rehearsal".to_owned(),
            seed: scene.seed,
            suites,
            ..l::RunOpened::default()
        };
        let settings = Settings {
            few: scene.few,
            answer: None,
            ..Settings::default()
        };
        let (mut run, _) = Run::open(opened, rules, settings);
        for (at, event, answer) in inputs {
            let again = run.step(at, event);
            assert_eq!(format!("{again:?}"), answer, "seed {seed} at {at}");
        }
        assert!(run.is_closed());
    }
}

#[test]
fn planted_faults_are_seen() {
    let found = |fault: Fault, least: usize| {
        plant(Some(fault));
        let found = (0..300).filter(|&seed| {
            let seen = std::panic::catch_unwind(|| wrong(&drawn(seed)).is_some());
            seen.unwrap_or(true)
        });
        let found = found.count();
        plant(None);
        assert!(found >= least, "{fault:?} is seen in {found} scenes only");
    };
    found(Fault::DroppedPart, 5);
    found(Fault::LeakedLock, 3);
}

/// What a rehearsal tells of time: slower machines, losses and late joiners cost what they should.
#[test]
fn time_passes_as_it_should() {
    let model = Model {
        files: 40,
        agents: 2,
        slots: 2,
        sigma: 0.3,
        noise: 0.0,
        fresh: 0.0,
        ways: Ways::NONE,
        ..Model::default()
    };
    let scene = model.draw(3);
    let even = scene.work().0 as f64 / 4.0;
    let makespan = |scene: &Scene| play(scene).unwrap().record.schedule().makespan.0 as f64;
    let plain = makespan(&scene);
    assert!((0.999..1.02).contains(&(plain / even)), "{}", plain / even);

    let mut slow = scene.clone();
    slow.agents[0].speed = Speed::constant(500);
    let slowed = makespan(&slow);
    assert!((1.33..1.40).contains(&(slowed / even)), "{}", slowed / even);

    let mut late = scene.clone();
    late.agents[1].joins = Micros((even / 2.0) as u64);
    let delayed = makespan(&late);
    assert!(
        (1.245..1.29).contains(&(delayed / even)),
        "{}",
        delayed / even
    );

    let mut lost = scene.clone();
    lost.agents[1].loss = Some(Loss {
        at: Micros((even / 2.0) as u64),
        noticed: Micros(100_000),
    });
    let alone = makespan(&lost);
    assert!((1.49..1.62).contains(&(alone / even)), "{}", alone / even);
}

/// Without any history the first results of a directory tell what the others in it take.
#[test]
fn what_ends_tells_of_its_neighbours() {
    let model = Model {
        files: 200,
        tests: 1,
        agents: 1,
        slots: 4,
        unknown: true,
        ways: Ways::NONE,
        ..Model::default()
    };
    let mut scene = model.draw(5);
    let is_slow = |name: &str| name.starts_with("slow");
    for (number, unit) in scene.units.iter_mut().enumerate() {
        let directory = if number % 2 > 0 { "slow" } else { "quick" };
        unit.name = format!("{directory}/test_{number}");
        let slow = is_slow(&unit.name);
        unit.cases[0].work = Micros::from_millis(if slow { 4_000 } else { 100 });
    }
    let record = play(&scene).unwrap().record;
    // What leases of slow and of quick units were expected to take, in the order in which they were given.
    let expected = |slow: bool| -> Vec<u64> {
        let of = |unit: u32| is_slow(&record.units[unit as usize].name) == slow;
        let leases = record.leases.iter().filter(|lease| of(lease.unit));
        leases.map(|lease| lease.expected.0).collect()
    };
    let (slow, quick) = (expected(true), expected(false));
    assert_eq!(slow[0], quick[0], "nothing was known of either");
    let last = |of: &[u64]| of[of.len() - 1];
    assert!((2_000_000..8_000_000).contains(&last(&slow)), "{slow:?}");
    assert!(last(&quick) < 400_000, "{quick:?}");
    // So the long ones come first, but for those that were given before anything had ended.
    let begun = |slow: bool| {
        let record = &record;
        let of = move |unit: u32| is_slow(&record.units[unit as usize].name) == slow;
        let leases = record.leases.iter().filter(move |lease| of(lease.unit));
        leases.filter_map(|lease| Some(lease.begun?.at)).max()
    };
    assert!(begun(true) < begun(false));
}
