//! Rounds in which processes are killed and stopped, disks run full and networks are cut, and the checker that judges them.
//!
//! `tests/chaos/run.py` plays as many rounds as one has time for; `tests/chaos/check.py` judges any run.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::{EVENKEEL, Suite, here, python};

/// A round that fails says itself what went wrong in it and by which command it is repeated.
fn round(seed: u32) {
    let suite = Suite::new();
    let root = suite.root.to_string_lossy().into_owned();
    let mut command = suite.command(python());
    command.arg(here("chaos/run.py"));
    command.args(["--rounds", "1", "--seed", &seed.to_string()]);
    command.args(["--binary", EVENKEEL, "--python", python()]);
    // What is kept of a round that fails outlives this test.
    let place = std::env::temp_dir();
    command.args(["--directory", &place.to_string_lossy()]);
    let ended = suite.start(command).end();
    println!("{}", ended.stdout.replace(&root, "."));
    ended.exits(0);
    suite.nothing_stays();
}

#[test]
fn nothing_is_lost_in_a_round_with_a_full_disk() {
    round(1);
}

#[test]
fn nothing_is_lost_in_a_round_with_a_network_that_is_cut() {
    round(4);
}

#[test]
fn nothing_is_lost_in_a_round_of_kills_and_stops() {
    round(7);
}

/// Each way to damage a run that is good otherwise is found by the checker, and by the rule that it breaks.
#[test]
fn the_checker_finds_what_is_wrong() {
    let suite = Suite::new();
    let words = [
        "--units",
        "12",
        "--cases",
        "10",
        "--fail-every",
        "7",
        "--sleep-us",
        "500",
    ];
    suite
        .noop(&["-j", "3", "--run-id", "good"], &words)
        .exits(1);
    let mut command = suite.command(python());
    command.arg(here("chaos/selftest.py"));
    command.arg(&suite.root).args(["good", "12,10,7"]);
    suite.start(command).end().exits(0);
    suite.nothing_stays();
}

/// Listing goes on file by file while the coordinator is killed: what was told of it to nobody is told once more.
#[test]
fn a_listing_that_no_coordinator_took_in_is_told_again() {
    let suite = Suite::new();
    suite.write(
        "conftest.py",
        "import time\n\ndef pytest_ignore_collect(collection_path):\n    open('walked', 'a').write('.')\n    time.sleep(0.15)\n",
    );
    for file in 0..10 {
        let text = format!("def test_{file}():\n    pass\n");
        suite.write(&format!("t/test_{file}.py"), &text);
    }
    let address = format!("unix:{}", suite.root.join("socket").display());
    let coordinator = || {
        let mut command = suite.command(EVENKEEL);
        command.args(["coordinator", "--listen", &address, "--state", ".evenkeel"]);
        let mut running = suite.start(command);
        let out = running.stdout_path();
        running.until("the coordinator to listen", || {
            std::fs::read_to_string(&out).unwrap().contains("listening")
        });
        running
    };
    let first = coordinator();
    let mut agent = suite.command(EVENKEEL);
    agent.args(["agent", "--coordinator", &address, "--slots", "1"]);
    let agent = suite.start(agent);
    let mut run = suite.command(EVENKEEL);
    run.args([
        "run",
        "--coordinator",
        &address,
        "--json",
        "report.json",
        "--",
    ]);
    run.args(support::pytest(&["t"]));
    let mut run = suite.start(run);
    // It is stopped before it hears of the first file, and never goes on.
    run.until("the process to look for tests", || {
        !suite.read("walked").is_empty()
    });
    first.signal(libc::SIGSTOP);
    run.until("more files", || suite.read("walked").len() > 4);
    first.signal(libc::SIGKILL);
    first.end();
    let second = coordinator();
    run.end().exits(0).says(&["10 passed"]);
    assert_eq!(suite.report().tests().len(), 10);
    for process in [agent, second] {
        process.signal(libc::SIGTERM);
        process.end().exits(0);
    }
    suite.nothing_stays();
}
