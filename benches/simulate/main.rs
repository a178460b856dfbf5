//! `cargo bench --bench simulate`: what it takes to play runs on virtual time: a hundred thousand tests on a thousand slots.
//!
//! Each row is the best of three, with the scene drawn and the history made up beforehand, as `evenkeel simulate` has them from a ledger.

use evenkeel_coordinator::rehearsal::{Model, play};
use evenkeel_schedule::Micros;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(2);
const TRIES: usize = 3;

fn main() {
    println!(
        "{:<60} {:>10} {:>10}  note",
        "tests on slots", "measured", "limit"
    );
    let model = |files, tests, agents, slots| Model {
        files,
        tests,
        agents,
        slots,
        mean: Micros::from_millis(500),
        ..Model::default()
    };
    let setup = |model: Model| Model {
        setup: 0.2,
        slow: 0.25,
        ..model
    };
    row(
        "100,000 files of one test, 1,000 agents",
        &model(100_000, 1, 1_000, 1),
    );
    row(
        "5,000 files of 20, 250 agents of 4 slots",
        &model(5_000, 20, 250, 4),
    );
    row(
        "the same with set-up, a quarter of the agents slow",
        &setup(model(5_000, 20, 250, 4)),
    );
}

fn row(what: &str, model: &Model) {
    let scene = model.draw(1);
    let tests: usize = scene.units.iter().map(|unit| unit.cases.len()).sum();
    assert_eq!((tests, scene.slots()), (100_000, 1_000));
    let tries = (0..TRIES).map(|_| {
        let begun = Instant::now();
        let played = play(&scene).expect("it comes to its end");
        (begun.elapsed(), played.record.schedule().gap())
    });
    let (best, gap) = tries
        .min_by_key(|(took, _)| *took)
        .expect("there are some tries");
    let (best, limit) = (best.as_secs_f64(), LIMIT.as_secs_f64());
    println!("{what:<60} {best:>8.2} s {limit:>8.0} s  {gap:.3} of the bound");
}
