//! Tests that must stay together, and plugins that must see all of them.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::collections::{BTreeMap, BTreeSet};
use support::{Suite, named, sound, text};

const FILE: &str = "import pytest
class TestClass:
    def test_m1(self): pass
    def test_m2(self): pass
def test_f(): pass
@pytest.mark.xdist_group('db')
def test_g1(): pass
@pytest.mark.xdist_group(name='db')
def test_g2(): pass
";
/// pytest-xdist's option, for an environment that has no pytest-xdist.
const DIST: &str = "def pytest_addoption(parser): parser.addoption('--dist', default='no')
def pytest_configure(config): config.addinivalue_line('markers', 'xdist_group: together')
";

/// The groups of a run: unit, id, group.
fn groups(suite: &Suite) -> BTreeSet<(String, String, String)> {
    let events = suite.events();
    sound(&events);
    let finished = named(&events, "test_finished");
    let group = |test: &serde_json::Value| test["group"].as_str().unwrap_or("").to_owned();
    finished
        .map(|test| (text(&test["file"]), text(&test["id"]), group(test)))
        .collect()
}

#[test]
fn marks_and_modes_name_groups() {
    let suite = Suite::with(&[
        ("conftest.py", DIST),
        ("test_a.py", FILE),
        ("test_b.py", FILE),
    ]);
    let modes: [(&str, [&str; 4]); 4] = [
        ("no", ["", "", "db", "test_a.py"]),
        ("worksteal", ["", "", "db", "test_a.py"]),
        (
            "loadfile",
            ["test_a.py", "test_a.py", "test_a.py", "test_a.py"],
        ),
        (
            "loadscope",
            [
                "test_a.py::TestClass",
                "test_a.py",
                "test_a.py",
                "test_a.py",
            ],
        ),
    ];
    for (mode, [method, function, marked, unit]) in modes {
        let arguments = ["-p", "no:xdist", "--dist", mode];
        suite.pytest(&["-j", "2"], &arguments).exits(0);
        let groups = groups(&suite);
        assert_eq!(groups.len(), 10, "{mode}: {groups:?}");
        for (test, group) in [
            ("TestClass::test_m1", method),
            ("test_f", function),
            ("test_g1", marked),
            ("test_g2", marked),
        ] {
            let row = (
                unit.to_owned(),
                format!("test_a.py::{test}"),
                group.to_owned(),
            );
            assert!(groups.contains(&row), "{mode}: no {row:?} in {groups:?}");
        }
    }

    // A group of several files is a unit, which one slot runs.
    let arguments = ["-p", "no:xdist", "--dist", "loadgroup"];
    let ended = suite.pytest(&["-j", "2"], &arguments);
    ended.exits(0).says(&["--dist loadgroup", "from all files"]);
    let groups = groups(&suite);
    let together: Vec<&str> = groups
        .iter()
        .filter(|(unit, ..)| unit == "@db")
        .map(|(_, id, _)| &**id)
        .collect();
    let due = [
        "test_a.py::test_g1",
        "test_a.py::test_g2",
        "test_b.py::test_g1",
        "test_b.py::test_g2",
    ];
    assert_eq!(together, due);
    assert_eq!(groups.len(), 10);
}

/// A plugin of the kind that needs all tests: it keeps every other one of the list.
const EVERY_OTHER: &str = "def pytest_collection_modifyitems(config, items):
    gone = items[1::2]
    config.hook.pytest_deselected(items=gone)
    items[:] = items[::2]
";

#[test]
fn a_plugin_that_needs_all_tests_is_named_and_gets_them_on_demand() {
    let file = "def test_1(): pass\ndef test_2(): pass\ndef test_3(): pass\n";
    let suite = Suite::with(&[
        ("conftest.py", EVERY_OTHER),
        ("test_a.py", file),
        ("test_b.py", file),
        ("test_c.py", "def broken(:\n"),
    ]);
    let told = "conftest.py deselects tests in pytest_collection_modifyitems";
    let ended = suite.pytest(&["-j", "2"], &[]);
    ended.exits(1).says(&[told, "collect = \"whole\""]);
    assert_eq!(ended.stderr.matches(told).count(), 1);
    let ran = |suite: &Suite| suite.report().outcomes();
    assert!(ran(&suite).contains_key("test_b.py::test_1"));

    let whole: BTreeMap<String, String> = support::table(&[
        ("test_a.py::test_1", "passed"),
        ("test_a.py::test_3", "passed"),
        ("test_b.py::test_2", "passed"),
        ("test_c.py", "error"),
    ]);
    for slots in ["1", "2"] {
        let ended = suite.pytest(&["-j", slots, "--collect", "whole"], &[]);
        assert!(
            !ended.exits(1).stderr.contains("modifyitems"),
            "{}",
            ended.stderr
        );
        assert_eq!(ran(&suite), whole);
        sound(&suite.events());
    }

    // Own filters are pytest's business, and the same for each file.
    suite.write("conftest.py", "");
    let ended = suite.pytest(&["-j", "2"], &["-k", "test_1"]);
    assert!(!ended.stderr.contains("modifyitems"), "{}", ended.stderr);
}
