//! A run's state machine in simulated worlds.

mod agent;
mod check;
mod faults;
mod hub;
mod model;
mod network;
mod planted;
mod slot;
mod store;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

/// How many seeds a test run plays; more on demand through EVENKEEL_SEEDS.
const SEEDS: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

#[test]
fn whatever_goes_wrong_no_test_is_lost_and_nothing_is_green_that_is_not() {
    if let Some(seed) = number("EVENKEEL_SEED") {
        World::new(seed, None).play();
        return;
    }
    let seeds = number("EVENKEEL_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if std::panic::catch_unwind(|| World::new(seed, None).play()).is_err() {
                        failed.lock().expect("no other panic").push(seed);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("no other panic");
    failed.sort_unstable();
    let first = failed.first();
    assert!(
        failed.is_empty(),
        "{} seeds fail, among them {:?}; reproduce one with\n  EVENKEEL_TALK=1 EVENKEEL_SEED={} cargo test -p evenkeel-coordinator --test simulation whatever -- --nocapture",
        failed.len(),
        &failed[..failed.len().min(10)],
        first.copied().unwrap_or_default()
    );
}

#[test]
fn the_same_seed_plays_the_same_ledger() {
    for seed in 0..40 {
        assert_eq!(World::new(seed, None).play(), World::new(seed, None).play(), "seed {seed}");
    }
}
