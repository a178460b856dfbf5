//! `evenkeel simulate` beside runs in earnest: with sleeping tests, so that machines of any size have slots enough.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::Value;
use support::Suite;
use support::measured::{close, measured, sleeping_files};

fn simulated(suite: &Suite, run: &str, slots: &str) -> Value {
    let ended = suite.evenkeel(&["simulate", run, "--slots", slots, "--format", "json"]);
    serde_json::from_str(&ended.exits(0).stdout).unwrap()
}

fn makespan(report: &Value) -> f64 {
    report["schedule"]["makespan_s"].as_f64().unwrap()
}

/// At the slots that a run had its makespan comes out within 5%; at twice as many that of a run on these within 10%.
#[test]
fn a_simulation_comes_to_what_real_runs_took() {
    let suite = Suite::new();
    for (path, text) in sleeping_files(24, 20) {
        suite.write(&path, &text);
    }
    let run = |slots: &str, id: &str| {
        let options = ["-j", slots, "--run-id", id];
        suite.pytest(&options, &[]).exits(0);
        makespan(&suite.report().0)
    };
    let mut tries = 0;
    measured(|| {
        tries += 1;
        let id = |what: &str| format!("{what}-{tries}");
        run("6", &id("first"));
        let six = run("6", &id("six"));
        let twelve = run("12", &id("twelve"));
        let whole = simulated(&suite, &id("six"), "6,12");
        let points = whole["points"].as_array().unwrap();
        let of = |at: usize| points[at]["makespan_s"].as_f64().unwrap();
        close(of(0), six, 0.05 * six)?;
        close(of(1), twelve, 0.10 * twelve)
    });
}

/// What is recorded of a suite is played as the run that comes next, and that takes so long within 10%.
#[test]
fn a_history_is_played_as_the_next_run_would_be() {
    let suite = Suite::new();
    for (path, text) in sleeping_files(24, 20) {
        suite.write(&path, &text);
    }
    let none = suite.evenkeel(&["simulate", "--history"]);
    none.exits(2).says(&["holds no runs"]);
    let neither = suite.evenkeel(&["simulate"]);
    neither.exits(2).says(&["--history"]);
    measured(|| {
        suite.pytest(&["-j", "6"], &[]).exits(0);
        let words = [
            "simulate",
            "--history",
            "--slots",
            "6,12",
            "--format",
            "json",
        ];
        let told = suite.evenkeel(&words);
        let whole: Value = serde_json::from_str(&told.exits(0).stdout).unwrap();
        assert_eq!(
            (&whole["suite"], &whole["run"]),
            (&"pytest".into(), &Value::Null)
        );
        assert_eq!(whole["units"], 24);
        let points = whole["points"].as_array().unwrap();
        for (point, slots) in points.iter().zip(["6", "12"]) {
            suite.pytest(&["-j", slots], &[]).exits(0);
            let real = makespan(&suite.report().0);
            close(point["makespan_s"].as_f64().unwrap(), real, 0.10 * real)?;
        }
        Ok(())
    });
}

/// With the runner that does nothing but sleep, on 32 slots: the gap to the bound.
#[test]
fn the_gap_of_sleeping_tests_is_the_simulated_one() {
    let suite = Suite::new();
    let arguments = ["--units", "256", "--cases", "10", "--sleep-us", "50000"];
    let mut tries = 0;
    measured(|| {
        tries += 1;
        let id = format!("sleepers-{tries}");
        let options = ["-j", "32", "--run-id", &id];
        suite.noop(&options, &arguments).exits(0);
        let real = suite.report().0["schedule"]["gap"].as_f64().unwrap();
        let whole = simulated(&suite, &id, "32");
        close(whole["points"][0]["gap"].as_f64().unwrap(), real, 0.02)
    });
}

#[test]
fn slots_are_found_for_a_time_and_drawn() {
    let suite = Suite::new();
    let arguments = ["--units", "40", "--cases", "5", "--sleep-us", "10000"];
    suite
        .noop(&["-j", "2", "--run-id", "short"], &arguments)
        .exits(0);
    let words = [
        "simulate",
        "short",
        "--within",
        "1s",
        "--slots",
        "1,2",
        "--svg",
        "slots.svg",
        "--boot",
        "100ms",
    ];
    let ended = suite.evenkeel(&words);
    let text = ended.exits(0).stdout.clone();
    let found = text
        .lines()
        .find(|line| line.contains("verdict within 1.0 s"))
        .unwrap();
    let slots: u32 = found.split(' ').next().unwrap().parse().unwrap();
    // Two seconds of work, and a tenth of one to start.
    assert!((2..=4).contains(&slots), "{text}");
    assert!(suite.read("slots.svg").starts_with("<svg "));
    let bad = ["--slow", "2"];
    suite
        .evenkeel(&[&["simulate", "short"][..], &bad].concat())
        .exits(2);
    suite.evenkeel(&["simulate", "none"]).exits(2);
    let luck = [
        "--noise", "20%", "--lose", "50%", "--seeds", "5", "--grow", "10%", "--slow", "50%:0.5",
    ];
    let words = [&["simulate", "short", "--slots", "4"][..], &luck].concat();
    let first = suite.evenkeel(&words).exits(0).stdout.clone();
    assert!(first.contains("p95"), "{first}");
    assert_eq!(
        first,
        suite.evenkeel(&words).exits(0).stdout,
        "the same twice"
    );
}
