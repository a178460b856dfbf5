//! How a run ends: the verdict, the exit code, and what is said of a command that cannot run.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::{EVENKEEL, Suite, noop, pytest, python, table};

const GREEN: (&str, &str) = (
    "test_green.py",
    "def test_one(): pass\ndef test_two(): pass\n",
);
const RED: (&str, &str) = (
    "test_red.py",
    "def test_bad(): assert False\ndef test_good(): pass\n",
);

#[test]
fn green_is_0_and_red_is_1() {
    let suite = Suite::with(&[GREEN, RED]);
    let ended = suite.pytest(&[], &["test_green.py"]);
    ended.exits(0).says(&["green: 2 tests: 2 passed"]);
    assert_eq!(suite.report().0["run"]["verdict"], "green");

    let ended = suite.pytest(&["--run-id", "one"], &[]);
    ended.exits(1).says(&[
        "FAILED test_red.py::test_bad",
        "red: 4 tests: 3 passed, 1 failed",
        "evenkeel reproduce one --shard",
    ]);
    assert_eq!(
        ended.stderr.matches("FAILED").count(),
        1,
        "a failure is told once"
    );
    suite.nothing_stays();
}

#[test]
fn how_early_a_failure_was_known_is_said() {
    let suite = Suite::with(&[(
        "test_four.py",
        "import time\n\
         def test_a(): time.sleep(0.05)\n\
         def test_b(): assert False\n\
         def test_c(): time.sleep(0.05)\n\
         def test_d(): assert False\n",
    )]);
    let ended = suite.pytest(&["--slots", "1"], &[]);
    ended.exits(1).says(&[
        "first failure known after 0.",
        "test_four.py::test_b (APFD 0.38)",
    ]);
    let report = suite.report();
    let first = &report.0["first_red"];
    assert_eq!(first["test"], "test_four.py::test_b");
    // The second and the fourth of four: 1 - 6/8 + 1/8.
    assert_eq!(first["apfd"], 0.375);
    let after = first["after_s"].as_f64().unwrap();
    let took = report.0["schedule"]["makespan_s"].as_f64().unwrap();
    assert!(after >= 0.05 && after + 0.05 <= took, "{after} of {took}");

    suite.pytest(&["--slots", "1"], &["-k", "test_a"]).exits(0);
    assert!(suite.report().0["first_red"].is_null());
}

/// Each of these ends with 2 and a line that says what is wrong; nothing is run.
#[test]
fn bad_usage_is_2() {
    let suite = Suite::with(&[GREEN]);
    let python = python();
    let green = [python, "-m", "pytest", "test_green.py"];
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&["--slots", "0"], &green, &["--slots", "0"]),
        (&["--no-such-option"], &green, &["--no-such-option"]),
        (&["--timeout", "soon"], &green, &["no duration"]),
        (
            &["--root", "nowhere"],
            &green,
            &["--root nowhere is no directory"],
        ),
        (&["--run-id", "../escape"], &green, &["is no run id"]),
        (
            &["--runner", "jest"],
            &green,
            &[
                "no runner named \"jest\"",
                "pytest, cargo, command, protocol",
            ],
        ),
        (
            &["--runner", "pytest"],
            &["make", "test"],
            &["no word that starts pytest"],
        ),
        (
            &[],
            &["make", "test"],
            &["no framework is recognised", "make test", "hint:"],
        ),
        (
            &[],
            &[],
            &["no command was given", "evenkeel.toml", "hint:"],
        ),
        (
            &[],
            &[python, "-m", "pytest", "--no-such-option"],
            &["unrecognized arguments: --no-such-option"],
        ),
        (
            &[],
            &[python, "-m", "pytest", "nowhere.py"],
            &["nowhere.py"],
        ),
        (&[], &[python, "-m", "pytest", "-k", "one and ("], &["-k"]),
        (
            &[],
            &[python, "-m", "pytest", "--collect-only"],
            &["--collect-only does not work", "hint:"],
        ),
        (
            &["--with", "units=a"],
            &[python, "-m", "pytest"],
            &["no setting \"units\" for pytest", "hint:"],
        ),
        (
            &["--isolate"],
            &[python, "-m", "pytest"],
            &["--isolate is not possible with pytest"],
        ),
        (
            &[],
            &[python, "-m", "pytest", "--lf"],
            &["--lf does not work", "hint:"],
        ),
    ];
    for (options, command, words) in cases {
        let mut run = suite.command(EVENKEEL);
        run.arg("run").args(*options);
        if !command.is_empty() {
            run.arg("--").args(*command);
        }
        let ended = suite.start(run).end();
        ended.exits(2).says(words);
        assert!(!ended.stderr.contains("passed, "), "{}", ended.stderr);
    }
    suite.nothing_stays();
}

#[test]
fn a_python_without_pytest_is_named_and_nothing_is_a_verdict() {
    let suite = Suite::with(&[GREEN]);
    // -S leaves out site-packages, where pytest is.
    let ended = suite.run(&["-j", "2"], &["python3", "-S", "-m", "pytest"]);
    ended
        .exits(2)
        .says(&["No module named pytest", "hint: install it for this Python"]);
    let told = ended.stderr.matches("No module named pytest").count();
    assert_eq!(told, 1, "{}", ended.stderr);

    let ended = suite.run(&["-j", "2"], &["/nowhere/python3", "-m", "pytest"]);
    ended
        .exits(2)
        .says(&["cannot start /nowhere/python3", "hint:"]);
    suite.nothing_stays();
}

#[test]
fn a_test_that_the_command_names_and_that_is_not_there_is_an_error() {
    let suite = Suite::with(&[GREEN]);
    suite
        .pytest(&[], &["test_green.py::test_none"])
        .exits(1)
        .says(&["not found", "test_green.py::test_none"]);
}

#[test]
fn nothing_ran_is_4() {
    let suite = Suite::with(&[("test_empty.py", "VALUE = 1\n"), GREEN]);
    suite
        .pytest(&[], &["test_empty.py"])
        .exits(4)
        .says(&["no test was found"]);
    suite.pytest(&[], &["-k", "matches_nothing"]).exits(4);
    suite.write("empty/readme.txt", "");
    suite.pytest(&[], &["empty"]).exits(4);
    let report = suite.report();
    assert_eq!(
        (report.total("tests"), &report.0["run"]["exit_code"]),
        (0, &4.into())
    );
    assert_eq!(suite.junit().tests, 0);
}

#[test]
fn max_fail_stops_early_and_counts_what_it_left_out() {
    let suite = Suite::new();
    let arguments = [
        "--units",
        "40",
        "--cases",
        "5",
        "--fail-every",
        "1",
        "--sleep-us",
        "2000",
    ];
    suite
        .noop(&["-j", "2", "--max-fail", "3"], &arguments)
        .exits(1)
        .says(&[" not run"]);
    let report = suite.report();
    report.blames("unit-39", "not_run", &["stopped after", "--max-fail 3"]);
    assert_eq!(report.0["run"]["verdict"], "red");
    let (failed, left) = (report.total("failed"), report.total("not_run"));
    assert!((3..=12).contains(&failed), "{failed} failed");
    // A unit that was never loaded counts as one test.
    let units_left = report
        .outcomes()
        .keys()
        .filter(|id| !id.contains("::") && id.starts_with("unit-"))
        .count();
    assert!(
        left >= 20 && units_left >= 20,
        "{left} not run, {units_left} units"
    );
    assert_eq!(
        report.total("tests"),
        report.total("passed") + failed + left
    );
    assert_eq!(report.total("lost") + report.total("errors"), 0);
    suite.nothing_stays();
}

#[test]
fn pytests_own_maxfail_is_honoured_run_wide() {
    let suite = Suite::new();
    for file in 0..8 {
        let body = "import time\ndef test_a(): time.sleep(0.02); assert 0\ndef test_b(): time.sleep(0.02)\n";
        suite.write(&format!("test_{file}.py"), body);
    }
    suite.pytest(&["-j", "2"], &["-x"]).exits(1);
    let report = suite.report();
    assert!(
        report.total("failed") <= 2 && report.total("not_run") >= 5,
        "{}",
        report.0["totals"]
    );
}

/// It is the last of its slot, whose tear-down waits for word of what comes next: the other slot is not done.
#[test]
fn the_last_failure_of_a_slot_is_known_at_once() {
    let long = "import pytest, time\n\
        @pytest.fixture(scope='module')\n\
        def dear(): time.sleep(1)\n\
        @pytest.mark.parametrize('n', range(8))\n\
        def test_long(dear, n): time.sleep(0.1)\n";
    let suite = Suite::with(&[
        ("test_long.py", long),
        ("test_red.py", "def test_bad(): assert 0\n"),
    ]);
    suite.pytest(&["-j", "2"], &[]).exits(1);
    // Now the set-up is known, which keeps the long file in one piece.
    suite.pytest(&["-j", "2"], &["-x"]).exits(1);
    let report = suite.report();
    assert!(report.total("not_run") >= 6, "{}", report.0["totals"]);
}

#[test]
fn the_configuration_file_says_what_runs() {
    let suite = Suite::with(&[GREEN]);
    let words = pytest(&["test_green.py"])
        .iter()
        .map(|word| format!("{word:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    suite.write(
        "sub/evenkeel.toml",
        &format!("project = \"boat\"\n[suite.unit]\ncommand = [{words}]\ndirectory = \"..\"\nslots = 1\ntimeout = \"30s\"\nenvironment = {{ COLOUR = \"blue\" }}\n"),
    );
    suite.write(
        "test_green.py",
        "import os\ndef test_one(): assert os.environ['COLOUR'] == 'blue'\n",
    );
    let run = |words: &[&str]| {
        let mut run = suite.command(EVENKEEL);
        run.current_dir(suite.root.join("sub"))
            .args(["run", "--json", "report.json"])
            .args(words);
        suite.start(run).end()
    };
    run(&[]).exits(0);
    let report: serde_json::Value = serde_json::from_str(&suite.read("sub/report.json")).unwrap();
    assert_eq!(
        (&report["run"]["project"], &report["run"]["suite"]),
        (&"boat".into(), &"unit".into())
    );
    assert_eq!(report["schedule"]["slots"], 1);
    assert!(
        suite.root.join("sub/.evenkeel/evenkeel.db").exists(),
        "the state is beside the file"
    );

    suite.write(
        "sub/evenkeel.toml",
        "[suite.unit]\ncommand = [\"pytest\"]\nslotz = 4\n",
    );
    run(&[])
        .exits(2)
        .says(&["evenkeel.toml line 3", "slotz", "did you mean `slots`"]);
    suite.write("sub/evenkeel.toml", "[suite.unit]\nslots = 4\n");
    run(&[]).exits(2).says(&["command"]);
    suite.write("sub/evenkeel.toml", "[suite.unit\n");
    run(&[]).exits(2).says(&["line 1"]);
}

#[test]
fn a_report_that_cannot_be_written_is_not_green() {
    let suite = Suite::with(&[GREEN, ("file", "")]);
    for (option, path, code) in [
        ("--json", "file/report", 3),
        ("--junit", "file/report", 3),
        ("--events", "nowhere/events", 2),
    ] {
        let mut run = suite.command(EVENKEEL);
        run.args(["run", option, path, "--runner", "protocol", "--"])
            .args(noop(&["--units", "1"]));
        suite.start(run).end().exits(code).says(&["error:", path]);
    }
    // What is known to have failed has, whether or not it can be written down.
    let mut run = suite.command(EVENKEEL);
    run.args(["run", "--json", "file/report", "--runner", "protocol", "--"])
        .args(noop(&["--fail-every", "5"]));
    suite.start(run).end().exits(1).says(&["error:", "red: "]);
    suite.nothing_stays();
}

#[test]
fn outcomes_do_not_depend_on_the_seed() {
    let suite = Suite::with(&[(
        "test_sets.py",
        "import os, pytest\n@pytest.mark.parametrize('name', sorted({'a', 'b', 'c'}, key=hash))\ndef test_set(name): pass\ndef test_seed(): assert os.environ['PYTHONHASHSEED'] == os.environ['WANTED']\n",
    )]);
    for seed in ["0", "4294967297"] {
        let mut command = suite.run_command(&["-j", "2", "--seed", seed], &pytest(&[]));
        command.env(
            "WANTED",
            (seed.parse::<u64>().unwrap() % (1 << 32)).to_string(),
        );
        suite.start(command).end().exits(0);
        let report = suite.report();
        let sets = ["a", "b", "c"].map(|name| format!("test_sets.py::test_set[{name}]"));
        let mut rows: Vec<(&str, &str)> = sets.iter().map(|id| (&**id, "passed")).collect();
        rows.push(("test_sets.py::test_seed", "passed"));
        assert_eq!(report.outcomes(), table(&rows));
    }
}

#[test]
fn pytests_own_junit_file_and_another_root_are_honoured_run_wide() {
    let suite = Suite::with(&[("sub/test_green.py", GREEN.1), ("sub/test_red.py", RED.1)]);
    let mut run = suite.command(EVENKEEL);
    run.args(["run", "-j", "2", "--root", "sub", "--"])
        .args(pytest(&["--junitxml=own/junit.xml"]));
    suite.start(run).end().exits(1);
    std::fs::copy(
        suite.root.join("sub/own/junit.xml"),
        suite.root.join("junit.xml"),
    )
    .unwrap();
    let junit = suite.junit();
    assert_eq!((junit.tests, junit.failures), (4, 1));
    assert!(suite.root.join("sub/.evenkeel").is_dir());
}

/// Whatever keeps the slots from coming up ends the run: it does not wait for what cannot come.
#[test]
fn slots_that_cannot_be_made_are_an_infrastructure_fault() {
    let suite = Suite::with(&[GREEN]);
    let run_in = |directory: &str| {
        let mut run = suite.run_command(&["-j", "2"], &pytest(&[]));
        run.env("TMPDIR", suite.root.join(directory));
        suite.start(run).end()
    };
    run_in("nowhere")
        .exits(3)
        .says(&["error: the local agent failed"]);
    // A name that leaves no room for a socket's path is no reason to fail.
    let long = "l".repeat(120);
    std::fs::create_dir(suite.root.join(&long)).unwrap();
    run_in(&long).exits(0);
}
