//! Several suites in one run, over the same slots: one report, one verdict; and what evenkeel.toml says of suites and of
//! some of their units.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use support::configured::{configured, run};
use support::*;

const MANIFEST: &str =
    "[package]\nname = \"calc\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
const CRATE: &str = "
#[test] fn adds() { assert_eq!(1 + 1, 2); }
#[test] fn divides() { assert_eq!(4 / 2, 3); }
#[test] #[ignore] fn later() {}
";
/// Two tests that hold a file which only one at a time may hold.
const HOLDERS: &str = r#"
import os, time
def hold():
    place = os.environ["PLACE"]
    os.close(os.open(place, os.O_CREAT | os.O_EXCL))
    time.sleep(0.03)
    os.remove(place)
def test_one(): hold()
def test_two(): hold()
"#;

/// Suite, test and outcome of each.
fn outcomes(suite: &Suite) -> BTreeSet<(String, String, String)> {
    let report = suite.report();
    let tests = report.tests().iter();
    let all: BTreeSet<_> = tests
        .map(|test| (text(&test["suite"]), key(test), text(&test["outcome"])))
        .collect();
    assert_eq!(
        all.len(),
        report.tests().len(),
        "each test is reported once"
    );
    all
}

fn row(suite: &str, test: &str, outcome: &str) -> (String, String, String) {
    (suite.to_owned(), test.to_owned(), outcome.to_owned())
}

/// Every lock has one holder at a time, whoever is given a unit that needs it holds it, and in the end nobody does.
fn never_held_twice(events: &[Value], needs: impl Fn(&str, &str) -> Vec<&'static str>) {
    let mut holders: BTreeMap<String, Value> = BTreeMap::new();
    let mut taken = 0;
    for event in events {
        match event["event"].as_str().unwrap() {
            "locked" => {
                taken += 1;
                let before = holders.insert(text(&event["lock"]), event["shard"].clone());
                assert!(before.is_none(), "held twice: {event}");
            }
            "unlocked" => {
                let holder = holders.remove(&text(&event["lock"]));
                assert_eq!(holder.as_ref(), Some(&event["shard"]), "{event}");
            }
            "leased" => {
                for lock in needs(&text(&event["suite"]), &text(&event["unit"])) {
                    assert_eq!(holders.get(lock), Some(&event["shard"]), "{event}");
                }
            }
            _ => {}
        }
    }
    assert!(taken > 0 && holders.is_empty(), "{taken} {holders:?}");
}

const TWO: &str = r#"
project = "shop"
[suite.python]
command = [PYTEST, "tests"]
directory = "py"
[suite.rust]
command = ["cargo", "test"]
directory = "rs"
environment = { CARGO_TERM_COLOR = "never" }
"#;

/// Two suites of one framework, each in a directory of its own.
const TWO_PYTESTS: &str = r#"
[suite.first]
command = [PYTEST]
directory = "a"
[suite.second]
command = [PYTEST]
directory = "b"
"#;

#[test]
fn two_frameworks_share_a_run_its_report_and_its_verdict() {
    let suite = configured(
        TWO,
        &[
            (
                "py/tests/test_a.py",
                "def test_one(): pass\ndef test_two(): pass\n",
            ),
            (
                "py/tests/test_b.py",
                "import pytest\n@pytest.mark.skip\ndef test_one(): pass\n",
            ),
            ("rs/Cargo.toml", MANIFEST),
            ("rs/src/lib.rs", CRATE),
        ],
    );
    let wanted = BTreeSet::from([
        row("python", "tests/test_a.py::test_one", "passed"),
        row("python", "tests/test_a.py::test_two", "passed"),
        row("python", "tests/test_b.py::test_one", "skipped"),
        row("rust", "calc adds", "passed"),
        row("rust", "calc divides", "failed"),
        row("rust", "calc later", "skipped"),
    ]);
    for slots in ["1", "2", "5"] {
        let ended = run(&suite, &["-j", slots]);
        ended.exits(1).says(&[
            "FAILED",
            "divides",
            "6 tests: 3 passed, 1 failed, 2 skipped",
        ]);
        assert_eq!(outcomes(&suite), wanted, "{slots} slots");
        let events = suite.events();
        sound(&events);
        let opened = named(&events, "run_opened").next().unwrap();
        assert_eq!(opened["suites"][0]["name"], "python");
        assert_eq!(opened["suites"][1]["name"], "rust");
        let junit = suite.junit();
        assert_eq!((junit.tests, junit.failures, junit.skipped), (6, 1, 2));
        assert!(
            suite
                .read("junit.xml")
                .contains("name=\"python: tests/test_a.py\"")
        );
    }
    // The failing test is run again by its shard's line, in its own suite.
    let told = run(&suite, &["-j", "2"]).stderr;
    let line = told
        .lines()
        .find(|line| line.starts_with("reproduce shard"))
        .unwrap();
    let words: Vec<&str> = line.split("evenkeel ").last().unwrap().split(' ').collect();
    let until = words.iter().position(|word| *word == "--until").unwrap();
    let mut words = words[..until].to_vec();
    words.extend(["--until", "calc divides"]);
    let again = suite.evenkeel(&words);
    again.exits(1).says(&["divides", "1 failed"]);
    // One of them alone.
    run(&suite, &["--suite", "python"]).exits(0);
    assert_eq!(suite.report().total("tests"), 3);
    run(&suite, &["--suite", "pyton"])
        .exits(2)
        .says(&["no suite \"pyton\"", "did you mean `python`"]);
    run(&suite, &["--with", "units=x"])
        .exits(2)
        .says(&["--with was given", "choose one suite: --suite python"]);
    let shown = suite.evenkeel(&["runs"]).stdout;
    assert!(shown.contains("python, rust"), "{shown}");
}

#[test]
fn a_build_that_fails_is_red_and_the_other_suite_is_run() {
    let suite = configured(
        TWO,
        &[
            (
                "py/tests/test_a.py",
                "import time\ndef test_one(): time.sleep(0.5)\n",
            ),
            ("py/tests/test_b.py", "def test_one(): pass\n"),
            ("rs/Cargo.toml", MANIFEST),
            ("rs/src/lib.rs", "#[test] fn a() { let x: u8 = \"no\"; }\n"),
        ],
    );
    for slots in ["1", "2", "3"] {
        run(&suite, &["-j", slots]).exits(5).says(&[
            "suite rust",
            "mismatched types",
            "2 tests: 2 passed",
        ]);
    }
    suite.write("py/tests/test_b.py", "def test_one(): assert False\n");
    run(&suite, &["-j", "2"])
        .exits(1)
        .says(&["1 passed, 1 failed"]);
}

#[test]
fn suites_may_have_tests_of_the_same_name() {
    let file = "import os\ndef test_one(): assert os.environ['EVENKEEL_SUITE'] == 'first'\n";
    let suite = configured(TWO_PYTESTS, &[("a/test_x.py", file), ("b/test_x.py", file)]);
    let wanted = BTreeSet::from([
        row("first", "test_x.py::test_one", "passed"),
        row("second", "test_x.py::test_one", "failed"),
    ]);
    for slots in ["1", "2", "3"] {
        run(&suite, &["-j", slots]).exits(1);
        assert_eq!(outcomes(&suite), wanted, "{slots} slots");
    }
    // A shard is run again with all its processes, and up to the test that failed in its suite.
    let told = run(&suite, &["-j", "1"]).stderr;
    let line = told
        .lines()
        .find(|line| line.starts_with("reproduce shard"))
        .unwrap();
    assert!(
        line.ends_with("--until test_x.py::test_one --suite second"),
        "{line}"
    );
    let words: Vec<&str> = line.split("evenkeel ").last().unwrap().split(' ').collect();
    suite
        .evenkeel(&words)
        .exits(1)
        .says(&["second: test_x.py::test_one", "1 passed, 1 failed"]);
    let whole = words.iter().position(|word| *word == "--until").unwrap();
    suite
        .evenkeel(&words[..whole])
        .exits(1)
        .says(&["1 passed, 1 failed"]);
    let first = [&words[..words.len() - 1], &["first"]].concat();
    suite.evenkeel(&first).exits(0).says(&["1 test: 1 passed"]);
    // Each has a history of its own.
    let rows = suite.query("SELECT DISTINCT suite || ' ' || unit FROM history ORDER BY 1");
    assert_eq!(rows.trim(), "first test_x.py\nsecond test_x.py");
}

#[test]
fn each_suite_gets_the_report_that_its_own_options_ask_for() {
    let text = r#"
[suite.first]
command = [PYTEST, "--junitxml", "own.xml"]
directory = "a"
[suite.second]
command = [PYTEST]
directory = "b"
"#;
    let file = "def test_one(): pass\n";
    let suite = configured(text, &[("a/test_x.py", file), ("b/test_x.py", file)]);
    let mut plain = suite.command(EVENKEEL);
    plain.args(["run", "-j", "2"]);
    suite.start(plain).end().exits(0);
    let own = suite.read("a/own.xml");
    assert!(
        own.contains("<testsuites name=\"first\" tests=\"1\""),
        "{own}"
    );
    assert!(own.contains("<testsuite name=\"test_x.py\""), "{own}");
    // Who asks for the run's report gets that.
    run(&suite, &["-j", "2"]).exits(0);
    assert_eq!(suite.junit().tests, 2);
}

#[test]
fn a_suite_that_finds_nothing_is_not_green_because_of_another() {
    let suite = configured(
        TWO_PYTESTS,
        &[("a/test_x.py", "def test_one(): pass\n"), ("b/x.py", "")],
    );
    for slots in ["1", "2"] {
        run(&suite, &["-j", slots])
            .exits(4)
            .says(&["1 passed", "suite second: no test was found"]);
    }
    suite.write("a/test_x.py", "def test_one(): assert 0\n");
    run(&suite, &[]).exits(1);
}

#[test]
fn a_lock_that_two_suites_name_is_never_held_twice() {
    let text = r#"
[suite.first]
command = [PYTEST]
directory = "a"
environment = { PLACE = "ROOT/held" }
[[suite.first.override]]
units = ["test_db*"]
locks = ["database"]
[suite.second]
command = [PYTEST]
directory = "b"
environment = { PLACE = "ROOT/held" }
locks = ["database", "port"]
[[suite.second.override]]
units = ["test_free*"]
locks = []
"#;
    let free = "import time\ndef test_one(): time.sleep(0.02)\n";
    let suite = configured(text, &[]);
    for number in 0..4 {
        suite.write(&format!("a/test_db{number}.py"), HOLDERS);
        suite.write(&format!("b/test_x{number}.py"), HOLDERS);
        suite.write(&format!("a/test_other{number}.py"), free);
        suite.write(&format!("b/test_free{number}.py"), free);
    }
    let needs = |suite: &str, unit: &str| match (suite, unit) {
        ("first", unit) if unit.starts_with("test_db") => vec!["database"],
        ("second", unit) if !unit.starts_with("test_free") => vec!["database", "port"],
        _ => Vec::new(),
    };
    for slots in ["1", "2", "4", "4"] {
        run(&suite, &["-j", slots]).exits(0);
        assert_eq!(suite.report().total("passed"), 24);
        let events = suite.events();
        sound(&events);
        never_held_twice(&events, needs);
    }
    // Without the lock they do meet.
    let text = suite
        .read("evenkeel.toml")
        .replace("locks = [\"database\", \"port\"]", "");
    suite.write("evenkeel.toml", &text);
    let met = (0..5).any(|_| {
        run(&suite, &["-j", "4"]);
        suite.report().total("failed") > 0
    });
    assert!(
        met,
        "tests that hold the same file are not in each other's way"
    );
}

#[test]
fn what_is_exclusive_runs_beside_nothing_else() {
    let text = r#"
[suite.unit]
command = [PYTEST]
directory = "a"
[[suite.unit.override]]
units = ["test_alone*"]
exclusive = true
[suite.other]
command = [PYTEST]
directory = "b"
"#;
    let counts = "
import os, pathlib, time
def at_work(name):
    mine = pathlib.Path('ROOT/work') / f'{name}-{os.getpid()}'
    mine.parent.mkdir(exist_ok=True)
    mine.touch()
    time.sleep(0.05)
    others = [p.name for p in mine.parent.iterdir() if p != mine]
    mine.unlink()
    return others
";
    let suite = configured(text, &[]);
    let counts = counts.replace("ROOT", &suite.root.to_string_lossy());
    for number in 0..3 {
        let alone = format!(
            "{counts}\ndef test_one(): assert not at_work('alone')\ndef test_two(): assert not at_work('alone')\n"
        );
        suite.write(&format!("a/test_alone{number}.py"), &alone);
        let beside = format!("{counts}\ndef test_one(): at_work('beside')\n");
        suite.write(&format!("a/test_beside{number}.py"), &beside);
        suite.write(&format!("b/test_beside{number}.py"), &beside);
    }
    for slots in ["1", "2", "4"] {
        run(&suite, &["-j", slots]).exits(0);
        assert_eq!(suite.report().total("passed"), 12, "{slots} slots");
        sound(&suite.events());
    }
    let text = suite
        .read("evenkeel.toml")
        .replace("exclusive = true", "exclusive = false");
    suite.write("evenkeel.toml", &text);
    run(&suite, &["-j", "4"]).exits(1);
}

#[test]
fn limits_and_environment_hold_for_the_units_that_a_pattern_names() {
    let text = r#"
[suite.unit]
command = [PYTEST]
timeout = "1s"
slow = "300ms"
environment = { COLOUR = "red", SIZE = "1" }
[[suite.unit.override]]
units = ["long/**"]
timeout = "30s"
slow = "20s"
[[suite.unit.override]]
units = ["**/test_blue*"]
environment = { COLOUR = "blue" }
"#;
    let sleeps = |seconds: &str| format!("import time\ndef test_it(): time.sleep({seconds})\n");
    let coloured = |colour: &str| {
        format!(
            "import os\ndef test_it(): assert (os.environ['COLOUR'], os.environ['SIZE']) == ('{colour}', '1')\n"
        )
    };
    let suite = configured(
        text,
        &[
            ("test_hangs.py", &sleeps("60")),
            ("test_slow.py", &sleeps("0.6")),
            ("long/test_long.py", &sleeps("1.5")),
            ("test_red.py", &coloured("red")),
            ("test_blue.py", &coloured("blue")),
            ("long/test_blue_too.py", &coloured("blue")),
        ],
    );
    for slots in ["1", "2"] {
        let ended = run(&suite, &["-j", slots]);
        ended.exits(1).says(&[
            "test_slow.py::test_it has been running for 0.3 s",
            "timed out after 1 s",
        ]);
        assert!(
            !ended.stderr.contains("test_long.py::test_it has been"),
            "{}",
            ended.stderr
        );
        let report = suite.report();
        report.blames("test_hangs.py::test_it", "error", &["timed out after 1 s"]);
        assert_eq!(report.total("passed"), 5);
    }
}

#[test]
fn what_runs_for_too_long_is_asked_to_end_before_it_is_made_to() {
    let text = r#"
[suite.tool]
command = ["sh", "-c", "trap 'sleep 0.2; echo asked >> ROOT/asked; exit 1' TERM; echo up; sleep 60 & wait", "-", "{units}", "{junit}"]
runner = "command"
with = { units = "*.list" }
timeout = "300ms"
grace = "5s"
"#;
    let suite = configured(text, &[("a.list", "")]);
    run(&suite, &["-j", "1"]).exits(1);
    assert_eq!(suite.read("asked"), "asked\n");
    let text = suite
        .read("evenkeel.toml")
        .replace("grace = \"5s\"", "grace = \"20ms\"");
    suite.write("evenkeel.toml", &text);
    run(&suite, &["-j", "1"]).exits(1);
    assert_eq!(
        suite.read("asked"),
        "asked\n",
        "it was not given the time to answer"
    );
    suite.nothing_stays();
}

#[test]
fn a_test_binary_is_asked_to_end_too() {
    let text = r#"
[suite.rust]
command = ["cargo", "test"]
timeout = "300ms"
grace = "10s"
"#;
    let code = r#"
unsafe extern "C" { fn signal(number: i32, handler: usize) -> usize; fn _exit(status: i32) -> !; }
extern "C" fn asked(_: i32) { std::fs::write("asked", "").unwrap(); unsafe { _exit(3) } }
#[test] fn hangs() { unsafe { signal(15, asked as *const () as usize) }; loop { std::thread::park() } }
#[test] fn passes() {}
"#;
    let suite = configured(text, &[("Cargo.toml", MANIFEST), ("src/lib.rs", code)]);
    let ended = run(&suite, &["-j", "1"]);
    ended.exits(1).says(&["timed out after 0.3 s"]);
    assert!(suite.root.join("asked").exists());
    assert!(ended.took < std::time::Duration::from_secs(9) || suite.report().total("passed") == 1);
    assert_eq!(suite.report().total("passed"), 1);
}

#[test]
fn a_test_that_is_told_of_when_it_is_over_is_warned_of_too() {
    let text = r#"
[suite.tool]
command = ["sh", "-c", "sleep 0.7; for unit in $2; do cases=\"$cases<testcase name='$unit' classname='x' file='$unit' time='0.6'/>\"; done; echo \"<testsuite>$cases</testsuite>\" > $1", "-", "{junit}", "{units}"]
runner = "command"
with = { units = "*.list" }
slow = "300ms"
"#;
    let suite = configured(text, &[("a.list", "")]);
    run(&suite, &["-j", "1"])
        .exits(0)
        .says(&["a.list", "took 0.6 s"]);
}

#[test]
fn units_with_and_without_a_limit_are_not_run_by_one_process() {
    let text = r#"
[suite.tool]
command = ["sh", "-c", "for unit in $2; do case $unit in u3*) sleep 60;; esac; cases=\"$cases<testcase name='t' classname='x' file='$unit'/>\"; done; echo \"<testsuite>$cases</testsuite>\" > $1", "-", "{junit}", "{units}"]
runner = "command"
with = { units = "*.list" }
[[suite.tool.override]]
units = ["u3.list"]
timeout = "300ms"
[[suite.tool.override]]
units = ["no-such-unit"]
locks = ["nothing"]
"#;
    let suite = configured(text, &[]);
    for number in 0..5 {
        suite.write(&format!("u{number}.list"), "");
    }
    let ended = run(&suite, &["-j", "1"]);
    ended.exits(1).says(&[
        "4 passed, 1 error",
        "no unit is named by the override for no-such-unit",
    ]);
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_line_and_what_to_write() {
    // What is written, the line, a word of the message, a word of the hint.
    let mistakes = [
        ("[suite.unit]\ncommand = []\n", 2, "empty", "its words"),
        (
            "[suite.unit]\ncommand = [PYTEST]\nrunner = \"pyttest\"\n",
            3,
            "pyttest",
            "did you mean `pytest`",
        ),
        (
            "[suite.unit]\ncommand = [\"make\", \"test\"]\n",
            2,
            "no framework is recognised",
            "--runner command",
        ),
        (
            "[suite.unit]\nrunner = \"cargo\"\ncommand = [PYTEST]\n",
            3,
            "no word that starts cargo",
            "Evenkeel knows",
        ),
        (
            "[suite.unit]\ncommand = [PYTEST]\ndirectory = \"nowhere\"\n",
            3,
            "no directory",
            "relative to the file",
        ),
        (
            "[suite.unit]\ncommand = [PYTEST]\nslots = 0\n",
            3,
            "0 slots",
            "1 to 4096",
        ),
        (
            "slots = 9999\n[suite.unit]\ncommand = [PYTEST]\n",
            1,
            "9999 slots",
            "1 to 4096",
        ),
        (
            "[suite.unit]\ncommand = [PYTEST]\nisolate = true\n",
            3,
            "not possible with pytest",
            "leave it out",
        ),
        (
            "[suite.unit]\ncommand = [PYTEST]\nwith = { unit = \"a\" }\n",
            3,
            "no setting \"unit\"",
            "leave it out",
        ),
        (
            "[suite.unit]\ncommand = [\"make\"]\nrunner = \"command\"\n[suite.unit.with]\nunit = \"a\"\n",
            5,
            "no setting \"unit\"",
            "did you mean `units`",
        ),
        (
            "[suite.unit]\ncommand = [PYTEST]\nlocks = [\"a\", \"\"]\n",
            3,
            "no name",
            "database",
        ),
        (
            "[suite.unit]\ncommand = [PYTEST]\nsetup = []\n",
            3,
            "empty",
            "its words",
        ),
        (
            "[suite.unit]\ncommand = [PYTEST]\n[[suite.unit.override]]\nunits = []\ntimeout = 3\n",
            3,
            "no unit",
            "units = [",
        ),
        (
            "[suite.unit]\ncommand = [PYTEST]\n[[suite.unit.override]]\nunits = [\"a\"]\n",
            3,
            "says nothing",
            "timeout = ",
        ),
        (
            "[suite.unit]\ncommand = [PYTEST]\n[[suite.unit.override]]\nunits = [\"a\",\n  \"b[\"]\ntimeout = 3\n",
            5,
            "\"b[\" is no pattern",
            "* stands for",
        ),
    ];
    for (text, line, word, hint) in mistakes {
        let suite = configured(text, &[("test_a.py", "def test_one(): pass\n")]);
        let ended = run(&suite, &[]);
        ended.exits(2);
        let said = &ended.stderr;
        let place = format!("evenkeel.toml line {line}: ");
        assert!(
            said.contains(&place) && said.contains(word),
            "{text}\n{said}"
        );
        let hinted = said.lines().skip_while(|line| !line.starts_with("hint: "));
        let hinted: Vec<&str> = hinted.collect();
        assert!(hinted.join("\n").contains(hint), "{text}\n{said}");
    }
    let empty = configured("project = \"x\"\n", &[]);
    run(&empty, &[])
        .exits(2)
        .says(&["no suite is written there", "[suite.NAME]"]);
}
