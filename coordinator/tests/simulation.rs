//! The run's state machine against simulated agents: seeded faults, a model of what must come out, and the ledger read
//! back. A failing seed is printed and reproduces with `EVENKEEL_SEED=n cargo test -p evenkeel-coordinator --test simulation`.

#[path = "simulation/world.rs"]
mod world;

use world::{Faults, World};

/// How many seeds a test run plays; more on demand through EVENKEEL_SEEDS.
const SEEDS: u64 = 600;

fn seeds() -> Vec<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    match number("EVENKEEL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("EVENKEEL_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

fn play(faults: Faults) {
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(|| World::new(seed, faults).play());
        if let Err(panic) = outcome {
            eprintln!("seed {seed} failed with {faults:?}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn without_faults_every_case_gets_the_models_verdict() {
    play(Faults {
        crashes: false,
        losses: 0,
        stop: false,
        lies: false,
    });
}

#[test]
fn crashing_cases_are_named_and_their_neighbours_run() {
    play(Faults {
        crashes: true,
        losses: 0,
        stop: false,
        lies: false,
    });
}

#[test]
fn losing_agents_loses_no_case() {
    play(Faults {
        crashes: true,
        losses: 2,
        stop: false,
        lies: false,
    });
}

#[test]
fn a_stopped_run_accounts_for_everything() {
    play(Faults {
        crashes: true,
        losses: 1,
        stop: true,
        lies: false,
    });
}

#[test]
fn second_results_do_not_count_and_missing_ones_are_not_green() {
    play(Faults {
        crashes: true,
        losses: 0,
        stop: false,
        lies: true,
    });
}

#[test]
fn the_same_seed_plays_the_same_ledger() {
    for seed in 0..40 {
        let faults = Faults {
            crashes: true,
            losses: 2,
            stop: seed % 2 == 0,
            lies: false,
        };
        assert_eq!(
            World::new(seed, faults).play(),
            World::new(seed, faults).play(),
            "seed {seed}"
        );
    }
}
