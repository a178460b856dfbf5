//! `evenkeel reproduce`: a shard runs again as it ran, and leaves no trace.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::{Suite, text};

const POLLUTER: &str = "import state\ndef test_a(): state.values.append(1)\n";
const VICTIM: &str = "import state\ndef test_b(): assert state.values == []\ndef test_c(): pass\n";

fn polluted() -> Suite {
    Suite::with(&[
        ("state.py", "values = []\n"),
        ("conftest.py", ""),
        ("test_1.py", POLLUTER),
        ("test_2.py", VICTIM),
    ])
}

/// Everything in the store that may not change.
fn books(suite: &Suite) -> Vec<String> {
    let mut books = vec![suite.evenkeel(&["runs"]).stdout];
    for sql in [
        "select * from runs",
        "select count(*), sum(length(payload)) from ledger",
        "select * from history",
        "select * from case_lists",
    ] {
        books.push(suite.query(sql));
    }
    books.push(suite.python("import os\nprint(*sorted(os.path.join(d, f) for d, _, fs in os.walk('.evenkeel/runs') for f in fs))", &[]));
    books
}

#[test]
fn a_polluted_test_fails_again_with_its_shard_and_passes_alone() {
    let suite = polluted();
    suite
        .pytest(
            &["-j", "1", "--run-id", "polluted"],
            &["test_1.py", "test_2.py"],
        )
        .exits(1)
        .says(&["evenkeel reproduce polluted --shard 1/1 --until test_2.py::test_b"]);
    suite.report().blames("test_2.py::test_b", "failed", &[]);
    let before = books(&suite);

    let again = suite.evenkeel(&["reproduce", "polluted", "--shard", "1/1"]);
    again
        .exits(1)
        .says(&["FAILED test_2.py::test_b", "3 tests: 2 passed, 1 failed"]);
    let until = suite.evenkeel(&[
        "reproduce",
        "pollu",
        "--shard",
        "1/1",
        "--until",
        "test_2.py::test_b",
    ]);
    until
        .exits(1)
        .says(&["FAILED test_2.py::test_b", "2 tests: 1 passed, 1 failed"]);
    suite
        .evenkeel(&[
            "reproduce",
            "polluted",
            "--shard",
            "1/1",
            "--until",
            "test_1.py::test_a",
        ])
        .exits(0)
        .says(&["1 test"]);
    assert_eq!(
        books(&suite),
        before,
        "the record and the history are as they were"
    );

    suite.pytest(&["-j", "1"], &["test_2.py"]).exits(0);
    suite.nothing_stays();
}

#[test]
fn a_slots_environment_is_as_it_was() {
    let body = "import os\ndef test_it():\n    names = ['EVENKEEL_RUN_ID', 'EVENKEEL_SLOT', 'EVENKEEL_SLOTS', 'EVENKEEL_SEED', 'PYTHONHASHSEED', 'TEST_ENV_NUMBER', 'PYTEST_XDIST_WORKER', 'PYTEST_XDIST_WORKER_COUNT', 'CI']\n    with open('seen', 'w') as seen: print(*(f'{n}={os.environ.get(n)}' for n in names), hash('x'), file=seen)\n    assert False\n";
    let files: Vec<(String, String)> = (0..3)
        .map(|number| {
            (
                format!("test_{number}.py"),
                body.replace("'seen'", &format!("'seen-{number}'")),
            )
        })
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (&**path, &**text))
        .collect();
    let suite = Suite::with(&files);
    let mut run = suite.run_command(&["-j", "3", "--run-id", "one"], &support::pytest(&[]));
    run.env("CI", "true");
    suite.start(run).end().exits(1);
    let report = suite.report();
    for number in 0..3 {
        let test = report.test(&format!("test_{number}.py::test_it"));
        let seen = suite.read(&format!("seen-{number}"));
        let shard = text(&test["shard"]);
        let slot: u32 = shard.split('/').next().unwrap().parse::<u32>().unwrap() - 1;
        assert!(
            seen.contains(&format!(
                "EVENKEEL_RUN_ID=one EVENKEEL_SLOT={slot} EVENKEEL_SLOTS=3"
            )),
            "{seen}"
        );
        assert!(
            seen.contains(&format!(
                "PYTEST_XDIST_WORKER=gw{slot} PYTEST_XDIST_WORKER_COUNT=3 CI=true"
            )),
            "{seen}"
        );
        suite.write(&format!("seen-{number}"), "");
        suite
            .evenkeel(&[
                "reproduce",
                "one",
                "--shard",
                &shard,
                "--until",
                &format!("test_{number}.py::test_it"),
            ])
            .exits(1);
        assert_eq!(suite.read(&format!("seen-{number}")), seen);
    }
    suite.nothing_stays();
}

#[test]
fn a_crash_comes_back_and_so_do_the_bounds_of_processes() {
    let suite = Suite::with(&[
        (
            "test_1.py",
            "import os\ndef test_first(): os.environ['TRACE'] = 'first'\ndef test_crash(): os._exit(4)\n",
        ),
        // Ran in a fresh process after the crash, and must again.
        (
            "test_2.py",
            "import os\ndef test_fresh(): assert 'TRACE' not in os.environ\n",
        ),
    ]);
    suite
        .pytest(
            &["-j", "1", "--run-id", "crashed"],
            &["test_1.py", "test_2.py"],
        )
        .exits(1);
    let first = suite.report().outcomes();
    let again = suite.evenkeel(&["reproduce", "crashed", "--shard", "1/1"]);
    again.exits(1).says(&[
        "ERROR test_1.py::test_crash",
        "exited with status 4 while this test ran",
        "3 tests: 2 passed, 1 error",
    ]);
    assert_eq!(first["test_2.py::test_fresh"], "passed");
    suite.nothing_stays();
}

/// By a limit of failures, or because a plugin told pytest to stop.
#[test]
fn a_run_that_was_stopped_stops_again() {
    let bodies = [
        (
            "test_1.py",
            "def test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pass\n",
        ),
        ("test_2.py", "def test_d(): pass\n"),
    ];
    let halting = "def pytest_runtest_teardown(item):
    if item.name == 'test_b': item.session.shouldstop = 'enough'\n";
    for (conftest, arguments) in [("", &["-x"][..]), (halting, &[])] {
        let suite = Suite::with(&bodies);
        suite.write("conftest.py", conftest);
        suite
            .pytest(&["-j", "1", "--run-id", "stopped"], arguments)
            .exits(1);
        let first = suite.report();
        assert_eq!((first.total("passed"), first.total("failed")), (1, 1));
        let again = suite.evenkeel(&["reproduce", "stopped", "--shard", "1/1"]);
        again.exits(1).says(&["FAILED test_1.py::test_b"]);
        suite.nothing_stays();
    }
}

#[test]
fn what_cannot_be_reproduced_is_said() {
    let suite = polluted();
    suite.pytest(&["-j", "1", "--run-id", "one"], &[]).exits(1);
    suite
        .pytest(&["-j", "1", "--run-id", "once-more"], &[])
        .exits(1);
    for (words, said) in [
        (&["reproduce", "nine", "--shard", "1/1"][..], "no run"),
        (&["reproduce", "on", "--shard", "1/1"], "more than one"),
        (&["reproduce", "one", "--shard", "2/2"], "has 1 shard"),
        (&["reproduce", "one", "--shard", "0/1"], "is no shard"),
        (
            &[
                "reproduce",
                "one",
                "--shard",
                "1/1",
                "--until",
                "test_9.py::test_x",
            ],
            "did not run test_9.py::test_x",
        ),
        (
            &["reproduce", "one", "--shard", "1/1", "--state", "nowhere"],
            "nowhere",
        ),
    ] {
        suite.evenkeel(words).exits(2).says(&[said]);
    }
}

#[test]
fn the_command_that_a_run_prints_can_be_typed_as_it_is() {
    let suite = Suite::with(&[(
        "tests/test_odd.py",
        "import pytest\n@pytest.mark.parametrize('text', ['plain', \"it's $HOME `id` \\\\ 汉\", 'last\\t\"one\"'])\ndef test_odd(text): assert False\n",
    )]);
    let ended = suite.pytest(
        &["-j", "1", "--state", "the books", "--run-id", "odd"],
        &["tests"],
    );
    ended.exits(1);
    let printed: Vec<&str> = ended
        .stderr
        .lines()
        .filter_map(|line| line.split_once("evenkeel reproduce"))
        .map(|(_, rest)| rest)
        .collect();
    assert_eq!(printed.len(), 1, "{}", ended.stderr);
    let mut shell = suite.command("bash");
    shell.args([
        "-c",
        &format!("\"$0\" reproduce {}", printed[0]),
        support::EVENKEEL,
    ]);
    suite
        .start(shell)
        .end()
        .exits(1)
        .says(&["3 tests: 0 passed, 3 failed"]);
    suite.nothing_stays();
}
