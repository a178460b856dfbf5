//! Tests that take their process with them: each is named as what it is, its neighbours have verdicts, and nothing stays.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::time::Duration;
use support::{EVENKEEL, Suite, holds, is_alive, kill, named, noop, pytest, sound, text};

/// A neighbour in front, what crashes, a neighbour behind.
fn between_neighbours(body: &str) -> String {
    format!(
        "import os, signal, sys, time\ndef test_before(): pass\ndef test_it():\n    {body}\ndef test_behind(): pass\n"
    )
}

#[test]
fn a_test_that_ends_its_process_is_an_error_that_says_how() {
    let suite = Suite::with(&[
        (
            "test_segfault.py",
            &between_neighbours("import ctypes; ctypes.string_at(0)"),
        ),
        ("test_exit_0.py", &between_neighbours("os._exit(0)")),
        ("test_exit_1.py", &between_neighbours("os._exit(1)")),
        ("test_abort.py", &between_neighbours("os.abort()")),
        (
            "test_own_kill.py",
            &between_neighbours("os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"),
        ),
        (
            "test_import.py",
            "import os\nos._exit(3)\ndef test_never(): pass\n",
        ),
        (
            "test_fine.py",
            "def test_one(): pass\ndef test_two(): pass\n",
        ),
    ]);
    for slots in ["1", "3"] {
        suite.pytest(&["-j", slots], &[]).exits(1);
        let report = suite.report();
        for (id, words, attempts) in [
            (
                "test_segfault.py::test_it",
                "killed by signal 11 (SIGSEGV) while this test ran",
                1,
            ),
            (
                "test_exit_0.py::test_it",
                "exited with status 0 while this test ran",
                1,
            ),
            (
                "test_exit_1.py::test_it",
                "exited with status 1 while this test ran",
                1,
            ),
            (
                "test_abort.py::test_it",
                "killed by signal 6 (SIGABRT) while this test ran",
                1,
            ),
            (
                "test_own_kill.py::test_it",
                "killed by signal 9 (SIGKILL)",
                2,
            ),
            (
                "test_import.py",
                "exited with status 3 while it loaded its unit",
                1,
            ),
        ] {
            report.blames(id, "error", &[words]);
            assert_eq!(report.test(id)["attempts"], attempts, "{id}");
        }
        // Where Python's own fault handler had a word, it is kept.
        let segfault = report.test("test_segfault.py::test_it").to_string();
        assert!(
            segfault.contains("Fatal Python error: Segmentation fault"),
            "{segfault}"
        );
        let outcomes = report.outcomes();
        for file in ["segfault", "exit_0", "exit_1", "abort", "own_kill"] {
            for neighbour in ["before", "behind"] {
                assert_eq!(
                    outcomes[&format!("test_{file}.py::test_{neighbour}")],
                    "passed",
                    "{slots} slots: {report:?}",
                    report = outcomes
                );
            }
        }
        assert_eq!(
            (
                outcomes.len(),
                report.total("passed"),
                report.total("errors")
            ),
            (18, 12, 6)
        );
        assert_eq!(suite.junit().errors, 6);
        sound(&suite.events());
        suite.nothing_stays();
    }
}

/// The tear-down of what lives as long as the session is part of the slot's last test.
#[test]
fn a_process_that_dies_in_the_last_tear_down_is_an_error() {
    let suite = Suite::with(&[
        (
            "conftest.py",
            "import os, pytest\n@pytest.fixture(scope='session', autouse=True)\ndef bad():\n    yield\n    os._exit(0)\n",
        ),
        ("test_a.py", "def test_one(): pass\ndef test_two(): pass\n"),
    ]);
    suite.pytest(&["-j", "1"], &[]).exits(1);
    let report = suite.report();
    report.blames(
        "test_a.py::test_two",
        "error",
        &["exited with status 0 while this test ran"],
    );
    assert_eq!(report.total("passed"), 1);
    suite.nothing_stays();
}

#[test]
fn a_test_past_its_deadline_is_an_error_that_shows_where_it_hung() {
    let suite = Suite::with(&[
        ("test_hang.py", &between_neighbours("time.sleep(600)")),
        // Deaf to what can be ignored.
        (
            "test_deaf.py",
            &between_neighbours(
                "signal.signal(signal.SIGABRT, signal.SIG_IGN)\n    while True: time.sleep(600)",
            ),
        ),
        (
            "test_fine.py",
            "import pytest\n@pytest.mark.parametrize('n', range(20))\ndef test_quick(n): pass\n",
        ),
    ]);
    let ended = suite.pytest(&["-j", "2", "--timeout", "0.7"], &[]);
    ended.exits(1).says(&["timed out after 0.7 s"]);
    let report = suite.report();
    for file in ["hang", "deaf"] {
        report.blames(
            &format!("test_{file}.py::test_it"),
            "error",
            &["timed out after 0.7 s (--timeout)"],
        );
    }
    let hang = report.test("test_hang.py::test_it").to_string();
    assert!(hang.contains("in test_it"), "the stack is kept: {hang}");
    assert_eq!(
        (
            report.total("tests"),
            report.total("passed"),
            report.total("errors")
        ),
        (26, 24, 2),
        "{}",
        ended.stderr
    );
    suite.nothing_stays();
}

/// A process that is killed by its own agent must not take the other slots' sockets along.
#[test]
fn a_process_that_is_ended_leaves_the_other_slots_alone() {
    let suite = Suite::new();
    for file in 0..6 {
        suite.write(
            &format!("test_{file}.py"),
            &between_neighbours(
                "signal.signal(signal.SIGABRT, signal.SIG_IGN)\n    time.sleep(600)",
            ),
        );
    }
    let ended = suite.pytest(&["-j", "3", "--timeout", "0.3"], &[]);
    ended.exits(1);
    let report = suite.report();
    assert_eq!(
        (report.total("errors"), report.total("passed")),
        (6, 12),
        "{}",
        ended.stderr
    );
    assert!(
        !ended.stderr.contains("could not be started"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_test_killed_from_outside_runs_again_once_and_alone() {
    let suite = Suite::with(&[
        (
            "test_victim.py",
            "import os, time\ndef test_before(): pass\ndef test_victim():\n    if not os.path.exists('second'):\n        open('second', 'w').close()\n        open('pid', 'w').write(str(os.getpid()))\n        os.rename('pid', 'ready')\n        time.sleep(60)\ndef test_behind(): pass\n",
        ),
        ("test_other.py", "def test_other(): pass\n"),
    ]);
    let mut run = suite.start_pytest(&["-j", "2"], &[]);
    run.until("the victim", || suite.root.join("ready").exists());
    kill(suite.read("ready").parse().unwrap(), libc::SIGKILL);
    run.end().exits(0).says(&[
        "test_victim.py::test_victim",
        "it runs again, once and alone",
    ]);
    let report = suite.report();
    assert_eq!((report.total("passed"), report.total("tests")), (4, 4));
    let victim = report.test("test_victim.py::test_victim");
    assert_eq!(victim["attempts"], 2);
    let events = suite.events();
    let attempts: Vec<_> = named(&events, "test_finished")
        .filter(|event| text(&event["id"]).ends_with("test_victim"))
        .map(|event| (text(&event["outcome"]), event["final"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        attempts,
        [("killed".to_owned(), false), ("passed".to_owned(), true)]
    );
    sound(&events);
    assert!(
        named(&events, "leased")
            .any(|event| event["unit"] == "test_victim.py" && event["alone"] == true)
    );
    suite.nothing_stays();
}

/// Tests with children that do not want to be found: other sessions, no parent.
const GRANDCHILDREN: &str = r#"
import os, subprocess, time

def test_with_children():
    subprocess.Popen(["setsid", "sh", "-c", "sleep 600 & echo $! >> pids; echo $$ >> pids; sleep 600"])
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open("pids", "a") as pids: print(os.getpid(), file=pids)
            time.sleep(600)
        os._exit(0)
    os.wait()
    with open("pids", "a") as pids: print(os.getpid(), file=pids)
    open(f"ready-{os.getpid()}", "w").close()
    time.sleep(600)
"#;

#[test]
fn kill_9_of_evenkeel_leaves_no_process_and_no_socket() {
    let suite = Suite::with(&[("test_a.py", GRANDCHILDREN)]);
    let mut run = suite.start_pytest(&["-j", "2"], &[]);
    let pids = || {
        suite
            .read("pids")
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect::<Vec<i32>>()
    };
    run.until("the test and its children", || pids().len() == 4);
    assert!(pids().iter().all(|pid| is_alive(*pid)));
    assert!(!suite.sockets().is_empty());
    run.signal(libc::SIGKILL);
    run.end().exits(128 + libc::SIGKILL);
    let survivors = || {
        pids()
            .into_iter()
            .filter(|pid| is_alive(*pid))
            .collect::<Vec<_>>()
    };
    assert!(
        holds(Duration::from_secs(5), || survivors().is_empty()),
        "{:?}",
        survivors()
    );
    suite.nothing_stays();

    // What the dead one left is no obstacle.
    suite.noop(&["--state", ".evenkeel"], &[]).exits(0);
    let runs = suite.evenkeel(&["runs"]);
    assert!(
        runs.exits(0).stdout.contains("unfinished"),
        "{}",
        runs.stdout
    );
}

#[test]
fn what_tests_leave_behind_goes_with_their_slot() {
    let suite = Suite::with(&[(
        "test_leaves.py",
        "import subprocess\ndef test_it():\n    subprocess.Popen(['setsid', 'sleep', '600'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n",
    )]);
    let ended = suite.pytest(&[], &[]);
    ended.exits(0);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    suite.nothing_stays();
}

#[test]
fn a_wrapper_around_pytest_changes_nothing() {
    let suite = Suite::with(&[("test_it.py", &between_neighbours("os._exit(7)"))]);
    let words = [&["sh", "-c", "\"$@\"; exit $?", "sh"], &pytest(&[])[..]].concat();
    suite.run(&["-j", "1"], &words).exits(1);
    let report = suite.report();
    report.blames("test_it.py::test_it", "error", &["status 7"]);
    assert_eq!(report.total("passed"), 2);
    suite.nothing_stays();
}

#[test]
fn a_slot_whose_process_never_comes_up_does_not_hold_up_the_rest() {
    let suite = Suite::new();
    // The process of the second slot dies before it says anything, each time.
    let words = [
        &[
            "sh",
            "-c",
            "test \"$EVENKEEL_SLOT\" = 0 && exec \"$@\"; exit 9",
            "sh",
        ],
        &noop(&["--units", "6", "--sleep-us", "20000"])[..],
    ]
    .concat();
    let mut run = suite.command(EVENKEEL);
    run.args([
        "run",
        "-j",
        "2",
        "--json",
        "report.json",
        "--runner",
        "protocol",
        "--",
    ])
    .args(words);
    suite
        .start(run)
        .end()
        .exits(0)
        .says(&["exited with status 9", "slot 2 is given up"]);
    assert_eq!(suite.report().total("passed"), 60);
}
