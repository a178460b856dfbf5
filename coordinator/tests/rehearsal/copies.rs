//! What runs twice at the end, on machines that slow down.

use crate::broken::broken;
use crate::scenes::drawn;
use evenkeel_coordinator::rehearsal::{
    Cause, Input, Model, Scene, Speed, causes, dearest, play, play_noting,
};
use evenkeel_coordinator::run::copies::{BUDGET_PERCENT, EVERY};
use evenkeel_coordinator::run::{AgentId, Command, Effect, EndCause, Event, FactBody};
use evenkeel_schedule::Micros;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn allowing(mut scene: Scene, copies: bool) -> Scene {
    let suites = scene.suites.iter_mut();
    suites.for_each(|suite| suite.suite.copies = copies);
    scene
}

/// One of two machines nearly stands still when most has been run.
fn slowing(seed: u64) -> Scene {
    let model = Model {
        files: 60,
        tests: 4,
        agents: 2,
        slots: 3,
        mean: Micros(300_000),
        sigma: 0.5,
        noise: 0.0,
        fresh: 0.0,
        ..Model::default()
    };
    let mut scene = model.draw(seed);
    let even = Micros(scene.work().0 / scene.slots() as u64);
    let at = Micros(even.0 * 9 / 10);
    scene.agents[1].speed = Speed::constant(1000).then(at, 20);
    scene
}

#[test]
fn a_machine_that_stands_still_is_not_waited_for() {
    let sooner = (0..30u64).into_par_iter().map(|seed| {
        let without = play(&allowing(slowing(seed), false)).unwrap().record;
        let scene = allowing(slowing(seed), true);
        let with = play(&scene).unwrap().record;
        assert_eq!(broken(&scene, &with), None, "seed {seed}");
        assert_eq!(without.copies().given, 0);
        let copies = with.copies();
        let (before, after) = (without.schedule().makespan, with.schedule().makespan);
        assert!(
            after <= before + before,
            "seed {seed}: {before} became {after}"
        );
        if copies.won > 0 {
            let lost = causes(&with).unwrap();
            let schedule = with.schedule();
            let gap = schedule.makespan.0 as i64 - schedule.bound.makespan().0 as i64;
            assert_eq!(lost.iter().map(|lost| lost.us).sum::<i64>(), gap);
            assert!(lost.iter().any(|lost| lost.cause == Cause::Copies));
        }
        (copies.won > 0 && after < before, before.0, after.0)
    });
    let sooner: Vec<(bool, u64, u64)> = sooner.collect();
    let count = sooner.iter().filter(|(sooner, ..)| *sooner).count();
    let sum = |of: fn(&(bool, u64, u64)) -> u64| sooner.iter().map(of).sum::<u64>() as f64;
    let share = sum(|run| run.2) / sum(|run| run.1);
    println!(
        "{count} of {} runs end sooner by a copy, all together in {share:.3} of the time",
        sooner.len()
    );
    assert!(count * 4 >= sooner.len() * 3, "{sooner:?}");
    assert!(share < 0.9, "{share}");
}

/// A case stands still for a minute on whoever begins it first.
#[test]
fn what_stands_still_is_not_waited_for_and_its_machine_is_named() {
    for seed in 0..10 {
        let mut scene = slowing(seed);
        for agent in &mut scene.agents {
            agent.speed = Speed::default();
        }
        scene.units[7].cases[2].hangs = Micros(60_000_000);
        let without = play(&allowing(scene.clone(), false)).unwrap().record;
        let scene = allowing(scene, true);
        let with = play(&scene).unwrap().record;
        assert_eq!(broken(&scene, &with), None, "seed {seed}");
        assert_eq!(with.copies().won, 1, "seed {seed}");
        let (before, after) = (without.schedule().makespan, with.schedule().makespan);
        assert!(
            after.0 * 3 < before.0,
            "seed {seed}: {before} became {after}"
        );
        let lost = causes(&with).unwrap();
        let first = dearest(&lost)[0];
        let lease = with.leases.iter().find(|lease| lease.hung()).unwrap();
        let agent = with.shards[lease.shard as usize].agent as usize;
        assert_eq!(first.cause, Cause::Agents, "seed {seed}: {lost:?}");
        assert_eq!(first.what.as_ref(), Some(&with.agents[agent].name));
    }
}

/// A slot whose process has been ended does not run what crossed the news of that.
#[test]
fn what_crosses_the_end_of_a_process_is_not_run_by_the_next() {
    let mut crossed = 0;
    for seed in 0..20 {
        let mut scene = slowing(seed);
        for agent in &mut scene.agents {
            agent.speed = Speed::default();
        }
        scene.units[7].cases[2].hangs = Micros(60_000_000);
        let scene = allowing(scene, true);
        let (mut begun, mut void) = (BTreeSet::new(), BTreeSet::new());
        // Of each slot what it was given since its process ended last, which the run may not have heard of.
        let mut given: BTreeMap<(AgentId, u32), Vec<(u64, u32)>> = BTreeMap::new();
        let mut note = |input: &Input<'_>| {
            if let Event::Facts { agent, facts, .. } = input.event {
                for fact in facts {
                    let given = given.entry((*agent, fact.slot)).or_default();
                    match &fact.body {
                        FactBody::UnitBegun { lease } => {
                            begun.insert(*lease);
                            given.retain(|(given, _)| given != lease);
                        }
                        FactBody::Returned { lease, .. } => {
                            given.retain(|(given, _)| given != lease);
                        }
                        FactBody::ProcessEnded(ended) if ended.cause == EndCause::Ended => {
                            let crossed = given.drain(..).filter(|(_, ends)| *ends == 0);
                            void.extend(crossed.map(|(lease, _)| lease));
                        }
                        _ => {}
                    }
                }
            }
            for effect in input.effects {
                if let Effect::Send {
                    agent,
                    command: Command::Lease(lease),
                } = effect
                {
                    let given = given.entry((*agent, lease.slot)).or_default();
                    given.push((lease.lease, lease.ends));
                }
            }
        };
        let record = play_noting(&scene, &mut note).unwrap().record;
        let known = |lease: &u64| record.lease(*lease).unwrap().begun.is_some();
        assert!(begun.iter().all(known), "seed {seed}");
        assert!(begun.is_disjoint(&void), "seed {seed}");
        crossed += void.len();
    }
    assert!(crossed > 0, "nothing crossed the end of a process");
}

/// Whatever the scene is, each case has one verdict, no rule is broken, and a twentieth is the most that is spent on copies.
#[test]
fn copies_break_nothing_and_cost_a_twentieth() {
    let given: u32 = (0..300u64)
        .into_par_iter()
        .map(|seed| {
            let scene = allowing(drawn(seed), true);
            let record = play(&scene).unwrap().record;
            assert_eq!(broken(&scene, &record), None, "seed {seed}");
            let copies = record.copies();
            let alone = record.leases.iter().filter(|lease| lease.copied.is_none());
            let work: Micros = alone.map(|lease| lease.span()).sum();
            let most = Micros(work.0 * BUDGET_PERCENT / 100) + EVERY + EVERY;
            assert!(copies.spent <= most, "seed {seed}: {copies:?} of {work}");
            copies.given
        })
        .sum();
    println!("{given} copies in 300 scenes");
    assert!(given > 0);
}
