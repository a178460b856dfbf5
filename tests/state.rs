//! The state directory: shared, ignored by git, refused when it is too new, and read by `runs` and `show`.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::Value;
use support::{Suite, here, named, noop, pytest, text};

#[test]
fn two_runs_share_a_state_directory_at_the_same_time() {
    let suite = Suite::with(&[(
        "test_a.py",
        "def test_ok(): pass\ndef test_bad(): assert 0\n",
    )]);
    let start = |id: &str| {
        let mut run = suite.command(support::EVENKEEL);
        run.args([
            "run",
            "-j",
            "2",
            "--run-id",
            id,
            "--json",
            &format!("{id}.json"),
            "--",
        ])
        .args(pytest(&[]));
        suite.start(run)
    };
    let ids: Vec<String> = (0..4).map(|number| format!("run-{number}")).collect();
    let running: Vec<_> = ids.iter().map(|id| start(id)).collect();
    for run in running {
        run.end()
            .exits(1)
            .says(&["red: 2 tests: 1 passed, 1 failed"]);
    }
    assert_eq!(suite.read(".evenkeel/.gitignore").trim(), "*");
    let runs = suite.evenkeel(&["runs"]);
    for id in &ids {
        let line = runs
            .stdout
            .lines()
            .find(|line| line.starts_with(id.as_str()))
            .unwrap();
        assert!(line.contains("red") && line.contains("2 tests"), "{line}");
    }
    assert_eq!(
        suite
            .evenkeel(&["runs", "--limit", "2"])
            .stdout
            .lines()
            .count(),
        2
    );
    assert_eq!(suite.query("select count(*) from history"), "4\n");

    let shown = suite.evenkeel(&["show", "run-2"]);
    for words in [
        "run-2",
        "red",
        "2 tests: 1 passed, 1 failed",
        "shard 1/2",
        "test_a.py::test_bad",
    ] {
        assert!(
            shown.exits(0).stdout.contains(words),
            "{words}: {}",
            shown.stdout
        );
    }
    suite.evenkeel(&["show", "run"]).exits(2);
    // The same name once more is refused, whatever the first one came to.
    start("run-0")
        .end()
        .exits(2)
        .says(&["run-0 exists already"]);
    suite.nothing_stays();
}

#[test]
fn a_newer_store_is_refused_and_left_as_it_is() {
    let suite = Suite::new();
    suite.noop(&["--run-id", "one"], &[]).exits(0);
    suite.python("import sqlite3\nc = sqlite3.connect('.evenkeel/evenkeel.db')\nc.execute('pragma user_version = 999')\nc.execute('create table from_the_future (x)')\nc.commit()\nc.execute('pragma wal_checkpoint(truncate)')\nc.close()", &[]);
    let before = std::fs::read(suite.root.join(".evenkeel/evenkeel.db")).unwrap();
    suite
        .noop(&[], &[])
        .exits(2)
        .says(&["written by a newer evenkeel", "hint:"]);
    for words in [
        &["runs"][..],
        &["show", "one"],
        &["reproduce", "one", "--shard", "1/1"],
    ] {
        suite
            .evenkeel(words)
            .exits(2)
            .says(&["written by a newer evenkeel"]);
    }
    assert_eq!(
        std::fs::read(suite.root.join(".evenkeel/evenkeel.db")).unwrap(),
        before
    );
    suite.nothing_stays();
}

#[test]
fn a_store_that_is_none_is_infrastructure() {
    let suite = Suite::with(&[(
        ".evenkeel/evenkeel.db",
        "this is no database, and it is long enough to be sure of that\n",
    )]);
    let ended = suite.noop(&[], &[]);
    ended
        .exits(3)
        .says(&["error: the state directory cannot be used"]);
    suite.nothing_stays();
}

#[test]
fn the_second_run_knows_what_the_first_one_took() {
    let suite = Suite::with(&[
        (
            "test_long.py",
            "import time\ndef test_it(): time.sleep(0.4)\n",
        ),
        (
            "test_middle.py",
            "import time\ndef test_it(): time.sleep(0.2)\n",
        ),
        ("test_short.py", "def test_it(): pass\n"),
    ]);
    // What each file's lease was expected to take, and what it took.
    let run = || {
        suite.pytest(&["-j", "2"], &[]).exits(0);
        let events = suite.events();
        let seconds = |file: &str| {
            let of = |name: &'static str| {
                named(&events, name)
                    .find(|event| {
                        text(&event["unit"]) == file
                            && !(name == "lease_ended" && event["start_s"].is_null())
                    })
                    .unwrap()
            };
            let (leased, ended) = (of("leased"), of("lease_ended"));
            let at = |name: &str| ended[name].as_f64().unwrap();
            let took = at("end_s") - at("start_s") - at("waited_s");
            (leased["expected_s"].as_f64().unwrap(), took)
        };
        ["test_long.py", "test_middle.py", "test_short.py"].map(seconds)
    };
    let first = run();
    assert!(
        first.iter().all(|(expected, _)| *expected > 0.0),
        "a unit without history has an estimate: {first:?}"
    );
    let second = run();
    for ((_, took), (expected, _)) in first.iter().zip(&second) {
        // One run is believed but for what runs of a file usually differ by.
        let near = 0.002 + took / 10.0;
        assert!((took - expected).abs() < near, "{first:?} {second:?}");
    }
    // The long one goes first, wherever the alphabet puts it.
    suite.write("test_a_new_one.py", "def test_it(): pass\n");
    suite.pytest(&["-j", "2"], &[]).exits(0);
    let events = suite.events();
    let plan = named(&events, "planned").next().unwrap();
    assert!(
        plan["shards"]
            .as_array()
            .unwrap()
            .iter()
            .any(|shard| shard[0] == "test_long.py"),
        "{plan}"
    );
}

#[test]
fn the_plan_is_the_same_for_the_same_history_and_seed() {
    let plan = || {
        let suite = Suite::new();
        suite
            .noop(&["-j", "3", "--seed", "7"], &["--units", "30"])
            .exits(0);
        let events = suite.events();
        named(&events, "planned").next().unwrap()["shards"].to_string()
    };
    assert_eq!(plan(), plan());
}

#[test]
fn the_gap_in_the_report_is_the_one_that_the_events_give() {
    let suite = Suite::new();
    suite
        .noop(
            &["-j", "3"],
            &["--units", "7", "--cases", "4", "--sleep-us", "9000"],
        )
        .exits(0);
    let report = suite.report();
    let said = suite.python("import sys\nsys.path.insert(0, sys.argv[1])\nimport gap\nseen = gap.check('events.ndjson')\nprint(seen.slots, seen.makespan, seen.bound, seen.gap)", &[&here("parity")]);
    let seen: Vec<f64> = said
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    let schedule = &report.0["schedule"];
    for (name, seen) in ["slots", "makespan_s", "lower_bound_s", "gap"]
        .iter()
        .zip(seen)
    {
        let stated = schedule[*name].as_f64().unwrap();
        assert!(
            (stated - seen).abs() <= 0.001 * seen.max(1.0),
            "{name}: {stated}, by the events {seen}"
        );
    }
    let shards = report.0["shards"].as_array().unwrap();
    let tests: u64 = shards
        .iter()
        .map(|shard| shard["tests"].as_u64().unwrap())
        .sum();
    assert_eq!((shards.len(), tests), (3, report.total("tests")));
}

/// What a busy slot would get in reserve goes to the one that has nothing to do, whichever is asked first.
#[test]
fn a_slot_that_comes_up_late_gets_the_work_that_waits() {
    let suite = Suite::new();
    let late = "test \"$EVENKEEL_SLOT\" = 1 && sleep 0.4; exec \"$@\"";
    let runner = noop(&["--units", "2", "--cases", "1", "--sleep-us", "1500000"]);
    let words = [&["sh", "-c", late, "sh"], &runner[..]].concat();
    suite
        .run(&["-j", "2", "--runner", "protocol"], &words)
        .exits(0);
    let report = suite.report();
    let shards = report.0["shards"].as_array().unwrap();
    assert!(
        shards
            .iter()
            .all(|shard| shard["units"].as_array().unwrap().len() == 1),
        "{shards:#?}"
    );
}

#[test]
fn what_waits_behind_a_long_test_goes_to_a_slot_that_has_nothing_to_do() {
    let suite = Suite::with(&[("test_0.py", "import time\ndef test_it(): time.sleep(3)\n")]);
    for number in 1..7 {
        suite.write(&format!("test_{number}.py"), "def test_it(): pass\n");
    }
    suite.pytest(&["-j", "2"], &[]).exits(0);
    let events = suite.events();
    let end = |event: &Value| event["end_s"].as_f64().unwrap();
    let finished: Vec<&Value> = named(&events, "test_finished").collect();
    let (long, quick): (Vec<&&Value>, Vec<&&Value>) = finished
        .iter()
        .partition(|event| event["file"] == "test_0.py");
    assert_eq!((long.len(), quick.len()), (1, 6));
    assert!(
        quick.iter().all(|event| end(event) < end(long[0]) - 1.0),
        "{finished:?}"
    );
}
