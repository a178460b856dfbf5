//! What becomes of each kind of test: the same on any number of slots, in all three records of a run, and as plain pytest says.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::collections::BTreeMap;
use support::{EVENKEEL, Suite, here, key, named, python, sound, table, text};

fn zoo() -> Suite {
    Suite::with(&[
        (
            "conftest.py",
            "def pytest_configure(config):\n    config.addinivalue_line('markers', 'odd: a mark')\n",
        ),
        (
            "tests/test_kinds.py",
            r#"
import pytest

@pytest.fixture
def broken_setup():
    raise RuntimeError("no set-up")

@pytest.fixture
def broken_teardown():
    yield
    raise RuntimeError("no tear-down")

def test_pass(): print("said by a test that passes")
def test_fail(): assert [1, 2] == [1, 3], "numbers differ"
def test_raise(): raise ValueError("bad")
def test_setup_error(broken_setup): pass
def test_teardown_error(broken_teardown): pass
def test_fail_and_teardown_error(broken_teardown): assert False
@pytest.mark.skip(reason="not today")
def test_skip_mark(): pass
def test_skip_call(): pytest.skip("not now")
@pytest.mark.xfail(reason="known")
def test_xfail(): assert False
@pytest.mark.xfail
def test_xpass(): pass
@pytest.mark.xfail(strict=True)
def test_xpass_strict(): pass
def test_system_exit(): raise SystemExit(0)
"#,
        ),
        (
            "tests/test_ids.py",
            r#"
import pytest

@pytest.mark.parametrize("value", ["ünï", "a b", "a::b", "[x]", "</testcase>", "tab\there", "nul\0", "", "esc\x1b[31m", "汉"])
def test_odd(value): pass
@pytest.mark.parametrize("value", [1, 2], ids=["same", "same"])
def test_same(value): pass

class TestGroup:
    def setup_class(cls): cls.ready = True
    def test_in_class(self): assert self.ready
    class TestInner:
        @pytest.mark.parametrize("a, b", [(1, 2), (2, 2)])
        def test_deep(self, a, b): assert a == b
"#,
        ),
        (
            "tests/test_unittest.py",
            "import unittest\nclass TestOld(unittest.TestCase):\n    def test_ok(self): pass\n    def test_bad(self): self.assertEqual(1, 2)\n    @unittest.expectedFailure\n    def test_expected(self): self.fail()\n",
        ),
        (
            "tests/test_broken_import.py",
            "import there_is_no_such_module\ndef test_never(): pass\n",
        ),
        ("tests/test_broken_syntax.py", "def test_never(:\n"),
        (
            "tests/test_module_skip.py",
            "import pytest\npytest.skip('not here', allow_module_level=True)\ndef test_never(): pass\n",
        ),
        ("tests/test_no_tests.py", "VALUE = 1\n"),
        ("tests/sub/test_kinds_too.py", "def test_pass(): pass\n"),
    ])
}

fn expected() -> BTreeMap<String, String> {
    table(&[
        ("tests/test_kinds.py::test_pass", "passed"),
        ("tests/test_kinds.py::test_fail", "failed"),
        ("tests/test_kinds.py::test_raise", "failed"),
        ("tests/test_kinds.py::test_setup_error", "error"),
        ("tests/test_kinds.py::test_teardown_error", "error"),
        (
            "tests/test_kinds.py::test_fail_and_teardown_error",
            "failed",
        ),
        ("tests/test_kinds.py::test_skip_mark", "skipped"),
        ("tests/test_kinds.py::test_skip_call", "skipped"),
        ("tests/test_kinds.py::test_xfail", "skipped"),
        ("tests/test_kinds.py::test_xpass", "passed"),
        ("tests/test_kinds.py::test_xpass_strict", "failed"),
        ("tests/test_kinds.py::test_system_exit", "failed"),
        (r"tests/test_ids.py::test_odd[\xfcn\xef]", "passed"),
        ("tests/test_ids.py::test_odd[a b]", "passed"),
        ("tests/test_ids.py::test_odd[a::b]", "passed"),
        ("tests/test_ids.py::test_odd[[x]]", "passed"),
        ("tests/test_ids.py::test_odd[</testcase>]", "passed"),
        (r"tests/test_ids.py::test_odd[tab\there]", "passed"),
        (r"tests/test_ids.py::test_odd[nul\x00]", "passed"),
        ("tests/test_ids.py::test_odd[]", "passed"),
        (r"tests/test_ids.py::test_odd[esc\x1b[31m]", "passed"),
        (r"tests/test_ids.py::test_odd[\u6c49]", "passed"),
        ("tests/test_ids.py::test_same[same0]", "passed"),
        ("tests/test_ids.py::test_same[same1]", "passed"),
        ("tests/test_ids.py::TestGroup::test_in_class", "passed"),
        (
            "tests/test_ids.py::TestGroup::TestInner::test_deep[1-2]",
            "failed",
        ),
        (
            "tests/test_ids.py::TestGroup::TestInner::test_deep[2-2]",
            "passed",
        ),
        ("tests/test_unittest.py::TestOld::test_ok", "passed"),
        ("tests/test_unittest.py::TestOld::test_bad", "failed"),
        ("tests/test_unittest.py::TestOld::test_expected", "skipped"),
        ("tests/test_broken_import.py", "error"),
        ("tests/test_broken_syntax.py", "error"),
        ("tests/test_module_skip.py", "skipped"),
        ("tests/sub/test_kinds_too.py::test_pass", "passed"),
    ])
}

#[test]
fn every_kind_of_outcome_is_the_same_on_any_number_of_slots_and_in_every_record() {
    let suite = zoo();
    let expected = expected();
    let count = |outcome: &str| expected.values().filter(|seen| *seen == outcome).count() as u64;
    for slots in ["1", "2", "5"] {
        let ended = suite.pytest(&["-j", slots], &["tests"]);
        ended.exits(1);
        let report = suite.report();
        assert_eq!(report.outcomes(), expected, "{slots} slots");
        for (total, outcome) in [
            ("passed", "passed"),
            ("failed", "failed"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ] {
            assert_eq!(report.total(total), count(outcome), "{total}");
        }
        assert_eq!(report.total("tests"), expected.len() as u64);
        assert_eq!(report.0["run"]["verdict"], "red");
        assert_eq!(report.0["schedule"]["slots"].to_string(), slots);

        let junit = suite.junit();
        assert_eq!(junit.tests, report.total("tests"));
        assert_eq!(junit.failures, report.total("failed"));
        assert_eq!(junit.errors, report.total("errors"));
        assert_eq!(junit.skipped, report.total("skipped"));
        let names = junit
            .cases
            .iter()
            .map(|case| text(&case[1]))
            .collect::<Vec<_>>();
        assert!(
            names.contains(&"test_odd[</testcase>]".to_owned()),
            "{names:?}"
        );

        let events = suite.events();
        let last: BTreeMap<String, String> = named(&events, "test_finished")
            .chain(named(&events, "settled"))
            .map(|event| (key(event), text(&event["outcome"])))
            .collect();
        assert_eq!(last, expected, "{slots} slots, events");
        sound(&events);
        suite.nothing_stays();
    }
}

#[test]
fn messages_and_output_are_pytests_own() {
    let suite = zoo();
    suite
        .pytest(
            &["-j", "2"],
            &["tests/test_kinds.py", "tests/test_broken_import.py"],
        )
        .exits(1);
    let report = suite.report();
    report.blames(
        "tests/test_kinds.py::test_fail",
        "failed",
        &["numbers differ"],
    );
    report.blames(
        "tests/test_kinds.py::test_setup_error",
        "error",
        &["no set-up"],
    );
    report.blames(
        "tests/test_kinds.py::test_skip_mark",
        "skipped",
        &["not today"],
    );
    report.blames("tests/test_kinds.py::test_xfail", "skipped", &["known"]);
    report.blames(
        "tests/test_kinds.py::test_xpass_strict",
        "failed",
        &["XPASS(strict)"],
    );
    report.blames(
        "tests/test_broken_import.py",
        "error",
        &["there_is_no_such_module"],
    );
    let both = report.test("tests/test_kinds.py::test_fail_and_teardown_error");
    assert!(text(&both["detail"]).contains("no tear-down"), "{both}");
    let passed = &report.test("tests/test_kinds.py::test_pass")["output"];
    assert_eq!(passed[0]["text"], "said by a test that passes\n");
}

#[test]
fn ids_that_pytest_gives_twice_are_two_tests() {
    let suite = Suite::with(&[(
        "test_twice.py",
        "def test_it(): pass\ndef test_not(): assert False\n",
    )]);
    suite
        .pytest(
            &["-j", "2"],
            &["--keep-duplicates", "test_twice.py", "test_twice.py"],
        )
        .exits(1);
    let expected = table(&[
        ("test_twice.py::test_it", "passed"),
        ("test_twice.py::test_it#1", "passed"),
        ("test_twice.py::test_not", "failed"),
        ("test_twice.py::test_not#1", "failed"),
    ]);
    assert_eq!(suite.report().outcomes(), expected);
}

#[test]
fn arguments_pick_what_they_pick_in_plain_pytest() {
    let suite = zoo();
    for (arguments, count) in [
        // Three of these are the files that cannot be loaded or skip themselves: they have no tests to be picked from.
        (&["tests", "-k", "deep or system_exit"][..], 6),
        (
            &[
                "tests/test_kinds.py::test_pass",
                "tests/test_ids.py::TestGroup",
            ],
            4,
        ),
        (
            &["tests/sub", "tests/test_unittest.py::TestOld::test_ok"],
            2,
        ),
        (
            &[
                "tests",
                "--ignore-glob=*broken*",
                "--deselect",
                "tests/test_ids.py",
                "-k",
                "test_pass",
            ],
            3,
        ),
    ] {
        suite.pytest(&["-j", "2"], arguments);
        let outcomes = suite.report().outcomes();
        assert_eq!(outcomes.len(), count, "{arguments:?}: {outcomes:?}");
    }
}

#[test]
fn reports_of_all_phases_equal_those_of_plain_pytest() {
    let suite = zoo();
    let mut compare = suite.command(python());
    compare.arg(here("parity/compare.py")).args([
        "--evenkeel",
        EVENKEEL,
        "--plain-runs",
        "1",
        "--no-gap",
    ]);
    compare.args(["--slots", "1,5", "--dir", ".", "--"]);
    // Without it plain pytest runs nothing once a file cannot be loaded.
    compare.args(["--continue-on-collection-errors", "tests"]);
    let ended = suite.start(compare).end();
    ended.exits(0);
    assert!(
        ended.stdout.contains("4 passed, 0 failed"),
        "{}",
        ended.stdout
    );
}
