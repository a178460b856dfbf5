//! A suite of which one file is half: it is divided, in the first run too, and the explanation names it.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::collections::BTreeSet;
use support::Suite;
use support::measured::{measured, sleeping, sleeping_files};

/// 9.6 s of files, and as much in one.
fn skewed() -> Suite {
    let suite = Suite::new();
    for (path, text) in sleeping_files(12, 16) {
        suite.write(&path, &text);
    }
    let times = (0..90).map(|test| (test * 53) % 180 + 17);
    suite.write("test_half.py", &sleeping(times));
    suite
}

/// The gap of a run, how many slots ran tests of the large file, and what is said of it.
fn run(suite: &Suite, slots: &str) -> (f64, usize, String) {
    suite.pytest(&["-j", slots], &[]).exits(0);
    let report = suite.report();
    let of_half = report
        .tests()
        .iter()
        .filter(|test| test["file"] == "test_half.py");
    let shards: BTreeSet<&str> = of_half.filter_map(|test| test["shard"].as_str()).collect();
    let schedule = &report.0["schedule"];
    let explanation = schedule["explanation"].as_str().unwrap().to_owned();
    (schedule["gap"].as_f64().unwrap(), shards.len(), explanation)
}

fn is_divided_and_named(slots: &str) {
    measured(|| {
        let suite = skewed();
        let (_, shards, explanation) = run(&suite, slots);
        if shards < 2 {
            return Err(format!("the first run did not divide it: {explanation}"));
        }
        let (gap, shards, explanation) = run(&suite, slots);
        let named = explanation.contains("test_half.py is ");
        let good = gap <= 1.05 && shards >= 2 && named;
        good.then_some(())
            .ok_or(format!("{gap} on {shards}: {explanation}"))
    });
}

#[test]
fn on_four_slots() {
    is_divided_and_named("4");
}

#[test]
fn on_eight_slots() {
    is_divided_and_named("8");
}
