//! What may well fail is known, told, and run early.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::{Value, json};
use support::{Suite, named, sound, text};

const LONG: &str = "import time\ndef test_it(): time.sleep(0.2)\n";
const SHORT: &str = "def test_it(): pass\n";

/// Twelve files of 0.2 s, and sixteen short ones, of which one fails, one takes its process down, one is changed and one added after
/// the run that is made here.
fn suite() -> Suite {
    let suite = Suite::new();
    for number in 0..12 {
        suite.write(&format!("test_long_{number}.py"), LONG);
    }
    suite.write("test_fails.py", "def test_it(): assert False\n");
    let dies = "import os\ndef test_it(): os._exit(3)\n";
    suite.write("test_dies.py", dies);
    suite.write("test_changed.py", SHORT);
    for number in 0..12 {
        suite.write(&format!("test_same_{number}.py"), SHORT);
    }
    suite.pytest(&["-j", "2"], &[]).exits(1);
    let first = suite.report().0;
    let nothing = json!({"failed_last": 0, "changed": 0, "new": 0, "failed_before": 0});
    assert_eq!(first["schedule"]["suspects"], nothing);
    suite.write("test_changed.py", "def test_it(): assert True\n");
    suite.write("test_new.py", SHORT);
    suite
}

/// The files in the order in which their tests started.
fn order(suite: &Suite) -> Vec<String> {
    let events = suite.events();
    sound(&events);
    let mut starts: Vec<(f64, String)> = named(&events, "test_finished")
        .map(|test| (test["start_s"].as_f64().unwrap(), text(&test["file"])))
        .collect();
    starts.sort_by(|one, other| one.0.total_cmp(&other.0));
    starts.into_iter().map(|(_, file)| file).collect()
}

const SUSPECTS: [&str; 4] = [
    "test_fails.py",
    "test_dies.py",
    "test_changed.py",
    "test_new.py",
];

fn told(report: &Value) {
    let four = json!({"failed_last": 2, "changed": 1, "new": 1, "failed_before": 0});
    assert_eq!(report["schedule"]["suspects"], four);
    assert_eq!(report["first_red"]["suspect"], "failed_last");
}

#[test]
fn what_may_well_fail_runs_early_where_that_costs_nothing() {
    let suite = suite();
    suite
        .pytest(&["-j", "2"], &[])
        .exits(1)
        .says(&["failed last time"]);
    let report = suite.report().0;
    told(&report);
    assert_eq!(report["schedule"]["order"], "balanced");
    let order = order(&suite);
    let early = |file: &&str| order[..order.len() / 2].iter().any(|ran| ran == file);
    assert!(SUSPECTS.iter().all(early), "{order:?}");
}

#[test]
fn what_may_well_fail_runs_first_where_that_is_asked_for() {
    let suite = suite();
    suite
        .pytest(&["-j", "2", "--order", "first-red"], &[])
        .exits(1);
    let report = suite.report().0;
    told(&report);
    assert_eq!(report["schedule"]["order"], "first-red");
    let order = order(&suite);
    // Nobody waits for them: a slot whose process is gone, or that has not heard of them yet, leaves the other something else to run.
    let first = |file: &&str| order[..8].iter().any(|ran| ran == file);
    assert!(SUSPECTS.iter().all(first), "{order:?}");
    // Passed since, or as it was when it failed.
    suite.write("test_fails.py", SHORT);
    suite.pytest(&["-j", "2"], &[]).exits(1);
    suite.pytest(&["-j", "2"], &[]).exits(1);
    let report = suite.report().0;
    let counts = json!({"failed_last": 1, "changed": 0, "new": 0, "failed_before": 1});
    assert_eq!(report["schedule"]["suspects"], counts);
}
