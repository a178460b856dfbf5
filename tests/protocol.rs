//! The runner protocol: our own runners keep it, and a runner that breaks it never makes a run green.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::{EVENKEEL, Suite, here, named, noop, python, sound};

#[test]
fn the_checker_rejects_each_planted_fault() {
    let suite = Suite::new();
    let mut check = suite.command("python3");
    check.arg(here("conformance/selftest.py"));
    let ended = suite.start(check).end();
    assert!(
        ended.exits(0).stdout.contains(" 0 failed"),
        "{}",
        ended.stdout
    );
}

fn conforms(suite: &Suite, command: &[&str]) {
    let mut check = suite.command("python3");
    check
        .arg(here("conformance/check.py"))
        .args(["--dir", ".", "--"])
        .args(command);
    let ended = suite.start(check).end();
    ended.exits(0);
    assert!(!ended.stdout.contains("broken "), "{}", ended.stdout);
}

#[test]
fn the_noop_runner_conforms() {
    conforms(
        &Suite::new(),
        &noop(&[
            "--units",
            "4",
            "--cases",
            "6",
            "--sleep-us",
            "500",
            "--fail-every",
            "5",
        ]),
    );
}

#[test]
fn the_cargo_runner_conforms() {
    let slow = "macro_rules! tests { ($($name:ident)*) => { $(#[test] fn $name() { std::thread::sleep(std::time::Duration::from_millis(5)); })* } }\n";
    let suite = Suite::with(&[
        (
            "Cargo.toml",
            "[package]\nname = \"kept\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
        ),
        (
            "src/lib.rs",
            &format!(
                "{slow}tests! {{ a b c d e f g h i j k l m n o p }}\n#[test] fn fails() {{ panic!() }}\n#[test] #[ignore] fn q() {{}}\n"
            ),
        ),
        ("tests/it.rs", "#[test] fn one() {}\n#[test] fn two() {}\n"),
    ]);
    conforms(&suite, &[EVENKEEL, "__runner", "cargo", "cargo", "test"]);
}

#[test]
fn the_pytest_runner_conforms() {
    let suite = Suite::with(&[
        (
            "test_a.py",
            "import pytest, time\n@pytest.fixture(scope='module')\ndef held():\n    yield\n@pytest.mark.parametrize('n', range(6))\ndef test_it(n, held): time.sleep(0.002); assert n != 3\n",
        ),
        (
            "test_b.py",
            "import pytest\ndef test_skip(): pytest.skip('no')\ndef test_pass(): print('out')\n",
        ),
        ("test_c.py", "import no_such_module\n"),
    ]);
    // As the agent starts it: the plugin on the path, named behind the word pytest.
    let plugin = here("../agent/runners/pytest");
    let path = format!("PYTHONPATH={plugin}");
    conforms(
        &suite,
        &[
            "env",
            &path,
            python(),
            "-m",
            "pytest",
            "-p",
            "evenkeel_pytest",
            "-p",
            "no:cacheprovider",
            "test_a.py",
            "test_b.py",
            "test_c.py",
        ],
    );
}

/// What a run with two slots on the faulty runner ends with: exit code, passed tests, and words that it says.
#[test]
fn a_faulty_runner_is_named_and_never_green() {
    for (fault, code, passed, words) in [
        ("none", 0, 6, &[][..]),
        ("lists-nothing", 4, 0, &["no test was found"]),
        ("declares-nothing", 0, 4, &[]),
        (
            "closes-without-declaring",
            1,
            4,
            &["ERROR unit-1", "broke the runner protocol"],
        ),
        (
            "exits-0-while-loading",
            1,
            4,
            &[
                "ERROR unit-1",
                "exited with status 0 while it loaded its unit",
            ],
        ),
        (
            "says-no-json",
            1,
            4,
            &["ERROR unit-1::a", "broke the runner protocol"],
        ),
        (
            "dies-at-once",
            3,
            0,
            &["this runner never comes up", "could not be listed"],
        ),
        ("speaks-another-version", 3, 0, &["it speaks version 2"]),
        ("exits-0-when-asked-to-list", 3, 0, &["could not be listed"]),
        ("says-bye-unasked", 3, 0, &["exited with status 0"]),
        (
            "says-bye-instead-of-running",
            3,
            0,
            &["no slot is left", "3 lost"],
        ),
        // A process lost between two tests is nobody's failure: the rest runs elsewhere, and the loss is told.
        (
            "exits-0-between-cases",
            0,
            6,
            &["exited with status 0 between two tests"],
        ),
        (
            "closes-early",
            0,
            6,
            &["broke the runner protocol", "1 cases open"],
        ),
        ("exits-0-after-listing", 0, 6, &["exited with status 0"]),
        ("exits-1-at-the-end", 0, 6, &[]),
        ("lists-a-unit-twice", 3, 0, &["unit-0", "twice"]),
    ] {
        let suite = Suite::new();
        let runner = here("support/runner.py");
        let ended = suite.run(
            &["-j", "2", "--runner", "protocol"],
            &["python3", "-S", &runner, fault],
        );
        println!("{fault}:\n{}", ended.stderr);
        ended.exits(code).says(words);
        let report = suite.report();
        assert_eq!(report.total("passed"), passed, "{fault}");
        assert_eq!(report.0["run"]["verdict"] == "green", code == 0, "{fault}");
        suite.nothing_stays();
    }
}

/// How far a process's clock is from the agent's is known better the more it says. What had already been told stays before
/// what came after it.
#[test]
fn a_test_ends_after_it_starts_however_its_process_counts_time() {
    let suite = Suite::new();
    let runner = here("support/runner.py");
    let arguments = ["python3", "-S", &runner, "its-clock-leaps"];
    suite
        .run(&["-j", "1", "--runner", "protocol"], &arguments)
        .exits(0);
    let events = suite.events();
    sound(&events);
    let units: Vec<_> = named(&events, "lease_ended").collect();
    assert_eq!(units.len(), 3);
    for unit in units {
        assert!(unit["start_s"].as_f64() <= unit["end_s"].as_f64(), "{unit}");
    }
}

/// The report's figures come from what slots did, and a runner that fails does not make them up.
#[test]
fn a_runner_that_always_dies_is_started_a_few_times_only() {
    let suite = Suite::new();
    let runner = here("support/runner.py");
    suite
        .run(
            &["-j", "2", "--runner", "protocol"],
            &["python3", "-S", &runner, "dies-at-once", "starts"],
        )
        .exits(3);
    let starts = suite.read("starts").lines().count();
    assert!((2..=6).contains(&starts), "{starts} starts");
    let events = suite.events();
    assert_eq!(named(&events, "run_closed").next().unwrap()["exit_code"], 3);
}

#[test]
fn the_noop_runner_alone_says_what_it_is_for() {
    let suite = Suite::new();
    let mut command = suite.command(EVENKEEL);
    command.arg("noop-runner").env_remove("EVENKEEL_SOCKET");
    suite
        .start(command)
        .end()
        .exits(2)
        .says(&["EVENKEEL_SOCKET is not set", "hint:"]);
}

/// What the user sets for a runner reaches it, from the file and from the command line, which wins.
#[test]
fn settings_reach_the_runner() {
    let suite = Suite::with(&[(
        "evenkeel.toml",
        "[suite.own]\nrunner = \"protocol\"\ncommand = [\"sh\", \"-c\", \"echo $EVENKEEL_WITH > told; exit 3\"]\n\
         with = { one = \"a b\", two = [\"c\", \"d\"], three = \"e\" }\n",
    )]);
    suite
        .evenkeel(&["run", "-j", "1", "--with", "three=x=y", "--with", "three=z"])
        .exits(3);
    let told = r#"{"one":["a b"],"three":["x=y","z"],"two":["c","d"]}"#;
    assert_eq!(suite.read("told").trim(), told);
}
