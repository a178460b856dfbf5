//! SIGINT and SIGTERM: what runs may finish, a report is written, and a second one ends everything at once.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::time::Duration;
use support::{EVENKEEL, Running, Suite, pytest};

/// The first test of each file says that it is there and goes on for a while; the rest would take minutes.
const SLOW: &str = "import os, time, pytest\ndef test_first():\n    open(f'ready-{os.getpid()}', 'w').close()\n    while not os.path.exists('go'): time.sleep(0.01)\n@pytest.mark.parametrize('n', range(500))\ndef test_more(n): time.sleep(0.3)\n";

fn suite() -> Suite {
    Suite::with(&[
        ("test_a.py", SLOW),
        ("test_b.py", SLOW),
        ("test_c.py", SLOW),
    ])
}

fn both_run(suite: &Suite, run: &mut Running<'_>) {
    run.until("both first tests", || suite.files("ready-") == 2);
}

#[test]
fn the_first_signal_lets_what_runs_finish_and_reports_the_rest_as_not_run() {
    for (signal, name) in [(libc::SIGINT, "SIGINT"), (libc::SIGTERM, "SIGTERM")] {
        let suite = suite();
        let mut run = suite.start_pytest(&["-j", "2"], &[]);
        both_run(&suite, &mut run);
        run.signal(signal);
        let heard = format!("{name}: finishing what runs");
        let stderr = run.stderr_path();
        run.until("the word on the signal", || {
            std::fs::read_to_string(&stderr).unwrap().contains(&heard)
        });
        suite.write("go", "");
        let ended = run.end();
        ended
            .exits(130)
            .says(&["incomplete", &format!("interrupted by {name}")]);
        let report = suite.report();
        assert_eq!(report.0["run"]["exit_code"], 130);
        let outcomes = report.outcomes();
        let finished = ["a", "b", "c"].iter().filter(|file| {
            outcomes
                .get(&format!("test_{file}.py::test_first"))
                .is_some_and(|outcome| outcome == "passed")
        });
        assert_eq!(finished.count(), 2, "what ran has finished");
        assert!(report.total("passed") <= 6, "{}", report.0["totals"]);
        assert_eq!(
            report.total("tests"),
            report.total("passed") + report.total("not_run")
        );
        assert!(report.total("not_run") >= 990);
        assert_eq!(suite.junit().skipped, report.total("not_run"));
        suite.nothing_stays();
    }
}

#[test]
fn what_does_not_finish_within_the_grace_is_ended() {
    let suite = suite();
    let mut run = suite.start_pytest(&["-j", "2"], &[]);
    both_run(&suite, &mut run);
    run.signal(libc::SIGTERM);
    let ended = run.end();
    ended.exits(130);
    assert!(
        ended.took > Duration::from_secs(4) && ended.took < Duration::from_secs(20),
        "{:?}",
        ended.took
    );
    let report = suite.report();
    assert_eq!(
        (report.total("passed"), report.total("errors")),
        (0, 0),
        "{}",
        report.0["totals"]
    );
    suite.nothing_stays();
}

#[test]
fn the_second_signal_ends_at_once() {
    let suite = suite();
    let mut run = suite.start_pytest(&["-j", "2"], &[]);
    both_run(&suite, &mut run);
    run.signal(libc::SIGINT);
    let stderr = run.stderr_path();
    run.until("the word on the signal", || {
        std::fs::read_to_string(&stderr)
            .unwrap()
            .contains("SIGINT: finishing")
    });
    run.signal(libc::SIGINT);
    let ended = run.end();
    ended.exits(130);
    assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
    suite.nothing_stays();
}

/// The run has stopped by itself, and waits for what runs: the first signal bounds that.
#[test]
fn a_signal_bounds_the_wait_of_a_run_that_has_stopped() {
    let hangs = "import time\ndef test_hangs():\n    open('ready-hang', 'w').close()\n    time.sleep(600)\n";
    let fails = "import os, time\ndef test_bad():\n    while not os.path.exists('ready-hang'): time.sleep(0.01)\n    assert 0\n";
    let suite = Suite::with(&[("test_a.py", hangs), ("test_b.py", fails)]);
    let mut run = suite.start_pytest(&["-j", "2"], &["-x"]);
    let stderr = run.stderr_path();
    run.until("the failure", || {
        let said = std::fs::read_to_string(&stderr).unwrap();
        said.contains("FAILED test_b.py::test_bad")
    });
    run.signal(libc::SIGINT);
    let ended = run.end();
    ended.exits(1);
    assert!(ended.took < Duration::from_secs(15), "{:?}", ended.took);
    suite.nothing_stays();
}

#[test]
fn a_failure_before_the_signal_keeps_the_run_red() {
    let suite = suite();
    suite.write(
        "test_a.py",
        &format!("def test_bad(): assert False\n{SLOW}"),
    );
    let mut run = suite.start_pytest(&["-j", "1"], &["test_a.py"]);
    run.until("the second test", || suite.files("ready-") == 1);
    run.signal(libc::SIGINT);
    suite.write("go", "");
    run.end().exits(1).says(&["red:", "1 failed"]);
    assert!(suite.report().total("not_run") >= 490);
    suite.nothing_stays();
}

/// Before the first test: nobody waits for a listing that is slow.
#[test]
fn a_signal_while_the_suite_is_being_listed_ends_the_run() {
    let suite = Suite::with(&[
        (
            "conftest.py",
            "import time\nopen('loading', 'w').close()\ntime.sleep(600)\n",
        ),
        ("test_a.py", SLOW),
    ]);
    let mut run = suite.command(EVENKEEL);
    run.args(["run", "--json", "report.json", "-j", "2", "--"])
        .args(pytest(&[]));
    let mut run = suite.start(run);
    run.until("the conftest", || suite.root.join("loading").exists());
    run.signal(libc::SIGTERM);
    run.end().exits(130);
    assert_eq!(suite.report().0["run"]["verdict"], "incomplete");
    suite.nothing_stays();
}
