//! Durations from elsewhere: what is imported balances the first run, and what is recorded can be shown and taken away.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::Value;
use support::*;

const SLOW: &str = "import time\ndef test_slow(): time.sleep(0.4)\n";
const FAST: &str = "def test_a(): pass\nclass TestX:\n    def test_b(self): pass\n";

fn exported(suite: &Suite, words: &[&str]) -> Vec<Value> {
    let ended = suite.evenkeel(&[&["timings", "export"], words].concat());
    ended.exits(0);
    let lines = ended.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_another_tool_measured_plans_the_first_run() {
    let suite = Suite::with(&[("tests/test_fast.py", FAST), ("tests/test_slow.py", SLOW)]);
    // Two machines had a report each; one of them was cut off.
    suite.write(
        "one.xml",
        r#"<testsuites><testsuite name="pytest"><testcase classname="tests.test_fast" name="test_a" time="0.010"/>
           <testcase classname="tests.test_fast.TestX" name="test_b" time="0.020"/>
           <testcase classname="tests.test_gone" name="test_c" time="1"/></testsuite></testsuites>"#,
    );
    suite.write(
        "two.xml",
        r#"<testsuites><testsuite name="pytest"><testcase classname="tests.test_slow" name="test_slow" time="7.5"/><testcase classname="tests.te"#,
    );
    let ended = suite.evenkeel(&[
        "timings", "import", "--suite", "pytest", "one.xml", "two.xml",
    ]);
    ended.exits(3).says(&[
        "two.xml: at byte",
        "one.xml: 1 of 3 tests have no time",
        "imported 3 tests in 2 units of suite pytest",
    ]);
    let units = exported(&suite, &[]);
    let told: Vec<(&str, f64, bool)> = units
        .iter()
        .map(|unit| {
            let name = unit["unit"].as_str().unwrap();
            let work = unit["work_s"].as_f64().unwrap();
            (name, work, unit["imported"].as_bool().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("tests/test_fast.py", 0.03, true),
            ("tests/test_slow.py", 7.5, true)
        ]
    );
    assert_eq!(
        units[0]["tests"][0]["id"],
        "tests/test_fast.py::TestX::test_b"
    );

    suite.pytest(&["-j", "2"], &["tests"]).exits(0);
    // The longest goes first, as the import says, and what was leased was expected to take what was imported.
    let events = suite.events();
    let first = named(&events, "leased").next().unwrap();
    assert_eq!(first["unit"], "tests/test_slow.py");
    let expected = first["expected_s"].as_f64().unwrap();
    assert!((7.0..8.0).contains(&expected), "{first}");

    // From then on what was measured here counts.
    let units = exported(&suite, &["--suite", "pytest"]);
    let slow = units
        .iter()
        .find(|unit| unit["unit"] == "tests/test_slow.py")
        .unwrap();
    assert_eq!(
        (slow["imported"].as_bool(), slow["samples"].as_u64()),
        (Some(false), Some(2))
    );
    assert!(slow["work_s"].as_f64().unwrap() < 2.0, "{slow}");
    let shown = suite.evenkeel(&["timings", "show"]);
    shown.exits(0);
    let second = shown.stdout.lines().nth(1).unwrap();
    assert!(second.ends_with("tests/test_slow.py"), "{}", shown.stdout);
}

#[test]
fn an_import_that_gives_nothing_says_why() {
    let suite = Suite::with(&[("tests/test_fast.py", FAST)]);
    suite.write("page.xml", "<html><body/></html>");
    for (words, code, said) in [
        (&["one.xml"][..], 2, "which suite"),
        (
            &["--suite", "pytest", "absent.xml"],
            2,
            "cannot read absent.xml",
        ),
        (
            &["--suite", "pytest", "page.xml"],
            2,
            "no test with a time was found",
        ),
    ] {
        let ended = suite.evenkeel(&[&["timings", "import"], words].concat());
        ended.exits(code).says(&[said]);
    }
    suite
        .evenkeel(&["timings", "show"])
        .exits(2)
        .says(&["hint:"]);
}
