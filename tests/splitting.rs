//! Long files: parts of one run on several slots, every test exactly once.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use support::{Suite, named, sound, text};

/// A file whose longest test comes last; the module's fixture says when it is set up and torn down.
const LONG: (&str, &str) = (
    "test_long.py",
    "import os, pytest, time
LOG = open('fixtures.log', 'a', buffering=1)
@pytest.fixture(scope='module', autouse=True)
def module():
    LOG.write(f'up {os.getpid()}\\n')
    yield
    LOG.write(f'down {os.getpid()}\\n')
@pytest.mark.parametrize('n', range(60))
def test_short(n): time.sleep(0.01)
class TestClass:
    @pytest.mark.parametrize('n', range(20))
    def test_method(self, n): time.sleep(0.01)
def test_last(): time.sleep(0.6)
",
);

/// Which shards ran tests of a file, from the events.
fn shards(events: &[Value], file: &str) -> BTreeMap<u64, BTreeSet<String>> {
    let mut shards: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for test in named(events, "test_finished").filter(|test| test["file"] == file) {
        let ran = shards.entry(test["shard"].as_u64().unwrap()).or_default();
        assert!(ran.insert(text(&test["id"])), "{} ran twice", test["id"]);
    }
    shards
}

#[test]
fn no_long_test_waits_behind_another() {
    let long = "import pytest, time\n\
        @pytest.mark.parametrize('n', range(4))\n\
        def test_long(n): time.sleep(2.5)\n";
    let suite = Suite::with(&[("test_long.py", long)]);
    suite.pytest(&["-j", "4"], &[]).exits(0);
    suite.pytest(&["-j", "4"], &[]).exits(0);
    let shards = shards(&suite.events(), "test_long.py");
    assert_eq!(shards.len(), 4, "{shards:?}");
}

/// Four tests of 2 s and forty of 25 ms take four slots 2.25 s, unless whoever has the short ones ends them first: 3 s.
#[test]
fn short_tests_make_room_for_a_long_one() {
    let long = "import pytest, time\n\
        @pytest.mark.parametrize('n', range(4))\n\
        def test_long(n): time.sleep(2)\n";
    let short = "import pytest, time\n\
        @pytest.mark.parametrize('n', range(40))\n\
        def test_short(n): time.sleep(0.025)\n";
    let suite = Suite::with(&[("test_long.py", long), ("test_short.py", short)]);
    suite.pytest(&["-j", "4"], &[]).exits(0);
    suite.pytest(&["-j", "4"], &[]).exits(0);
    let events = suite.events();
    sound(&events);
    let long = named(&events, "test_finished").filter(|test| test["file"] == "test_long.py");
    let starts = long.map(|test| test["start_s"].as_f64().unwrap());
    let starts: Vec<f64> = starts.collect();
    let least = starts.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(starts.iter().all(|start| start - least < 0.7), "{starts:?}");
    assert_eq!(shards(&events, "test_long.py").len(), 4);
}

/// Neither by what a process may start ahead nor by what it starts while it is asked to give back.
#[test]
fn tests_of_a_group_are_never_apart() {
    let body = "import pytest, time\n\
        @pytest.mark.parametrize('n', [\n\
        \x20   pytest.param(n, marks=pytest.mark.xdist_group(f'g{n % 5}') if n % 2 else ()) for n in range(40)\n\
        ])\n\
        def test_it(n): time.sleep(0.2 if n < 6 else 0.01)\n";
    let suite = Suite::with(&[("test_groups.py", body)]);
    for slots in ["4", "3", "4", "2", "4"] {
        suite.pytest(&["-j", slots], &[]).exits(0);
        let events = suite.events();
        sound(&events);
        let mut places: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for test in named(&events, "test_finished").filter(|test| test["group"].is_string()) {
            let shard = test["shard"].as_u64().unwrap();
            places
                .entry(text(&test["group"]))
                .or_default()
                .insert(shard);
        }
        assert_eq!(places.len(), 5);
        assert!(
            places.values().all(|shards| shards.len() == 1),
            "{places:?}"
        );
    }
}

/// Tests that say that they depend on one another would else be skipped, or run in an order that they were not meant for.
#[test]
fn tests_that_are_tied_to_each_other_are_never_apart() {
    let body = "import pytest, time\n\
        @pytest.mark.filterwarnings('ignore')\n\
        @pytest.mark.parametrize('n', [\n\
        \x20   pytest.param(n, marks=pytest.mark.dependency(name=str(n)) if n < 6 else ()) for n in range(12)\n\
        ])\n\
        def test_it(n): time.sleep(0.15)\n";
    let suite = Suite::with(&[("test_tied.py", body)]);
    for _ in 0..3 {
        suite.pytest(&["-j", "3"], &[]).exits(0);
        let mut places: BTreeMap<bool, BTreeSet<u64>> = BTreeMap::new();
        for test in named(&suite.events(), "test_finished") {
            let shard = test["shard"].as_u64().unwrap();
            let tied = test["group"].is_string();
            places.entry(tied).or_default().insert(shard);
        }
        assert_eq!(places[&true].len(), 1, "{places:?}");
        assert!(
            places[&false].len() > 1,
            "the others are shared: {places:?}"
        );
    }
}

/// The time until a slot knows that nothing comes is no work: neither of its last test nor of what later runs expect.
#[test]
fn waiting_is_not_counted() {
    let long = "import time, pytest\n\
        @pytest.fixture(scope='module')\n\
        def dear():\n\
        \x20   open('begun', 'w').close()\n\
        \x20   time.sleep(0.6)\n\
        @pytest.mark.xdist_group('one')\n\
        def test_a(dear): time.sleep(0.6)\n\
        def test_b(dear): pass\n";
    let short = "import os, time\n\
        def test_short():\n\
        \x20   while not os.path.exists('begun'): time.sleep(0.001)\n";
    let suite = Suite::with(&[("test_long.py", long), ("test_short.py", short)]);
    suite.pytest(&["-j", "2"], &[]).exits(0);
    std::fs::remove_file(suite.root.join("begun")).unwrap();
    suite.pytest(&["-j", "2"], &[]).exits(0);
    let events = suite.events();
    let lease = named(&events, "lease_ended").find(|lease| lease["unit"] == "test_short.py");
    let lease = lease.unwrap();
    let number = |name: &str| lease[name].as_f64().unwrap();
    assert!(number("waited_s") > 0.3, "{lease}");
    let worked = number("end_s") - number("start_s") - number("waited_s");
    let samples =
        suite.query("select work_us from history where unit = 'test_short.py' order by id");
    let last: f64 = samples.lines().last().unwrap().trim().parse().unwrap();
    assert!((last / 1e6 - worked).abs() < 0.1, "{samples} of {worked}");
}

/// Also where a slot has ended its own files before it is given a part of another's.
#[test]
fn what_lives_as_long_as_a_slot_is_set_up_once_in_it() {
    let session = "import os, pytest, time\n\
        @pytest.fixture(scope='session', autouse=True)\n\
        def session():\n\
        \x20   time.sleep(0.2)\n\
        \x20   open('session.log', 'a').write(f'up {os.getpid()}\\n')\n\
        \x20   yield\n\
        \x20   open('session.log', 'a').write(f'down {os.getpid()}\\n')\n";
    let suite = Suite::with(&[LONG, ("conftest.py", session)]);
    for file in 0..6 {
        let body = "import time\ndef test_a(): pass\ndef test_b(): time.sleep(0.05)\n";
        suite.write(&format!("test_{file}.py"), body);
    }
    for slots in ["3", "2", "2", "3", "4"] {
        suite.write("session.log", "");
        suite.pytest(&["-j", slots], &[]).exits(0);
        let log = suite.read("session.log");
        let lines: BTreeSet<&str> = log.lines().collect();
        assert_eq!(lines.len(), log.lines().count(), "{log}");
        let ups = lines.iter().filter(|line| line.starts_with("up"));
        assert_eq!(2 * ups.count(), lines.len(), "{log}");
    }
}

#[test]
fn a_long_file_is_shared_by_all_slots_and_its_longest_test_starts_early() {
    let suite = Suite::with(&[LONG]);
    for run in 0..3 {
        suite.write("fixtures.log", "");
        suite
            .pytest(&["-j", "3"], &[])
            .exits(0)
            .says(&["green: 81 tests: 81 passed"]);
        let events = suite.events();
        sound(&events);
        let shards = shards(&events, "test_long.py");
        let count: usize = shards.values().map(BTreeSet::len).sum();
        assert_eq!(count, 81);
        assert_eq!(shards.len(), 3, "every slot had a part: {shards:?}");

        // Set up once a part, torn down as often, and never twice in one.
        let log = suite.read("fixtures.log");
        let parts = named(&events, "lease_ended").filter(|lease| lease["start_s"].is_number());
        let ups = log.lines().filter(|line| line.starts_with("up")).count();
        let downs = log.lines().filter(|line| line.starts_with("down")).count();
        assert_eq!(ups, downs, "{log}");
        assert!((3..=parts.count()).contains(&ups), "{log}");

        if run > 0 {
            // History knows by now which one is long.
            let starts: Vec<f64> = named(&events, "unit_started")
                .map(|begun| begun["start_s"].as_f64().unwrap())
                .collect();
            let first = starts.iter().copied().fold(f64::MAX, f64::min);
            let last = named(&events, "test_finished")
                .find(|test| test["id"] == "test_long.py::test_last")
                .unwrap();
            let waited = last["start_s"].as_f64().unwrap() - first;
            assert!(waited < 0.5, "the longest test waited for {waited} s");
        }
    }
    suite.nothing_stays();
}

#[test]
fn what_waits_behind_a_long_test_runs_elsewhere_meanwhile() {
    let suite = Suite::with(&[(
        "test_one.py",
        "import pytest, time
def test_long(): time.sleep(3)
@pytest.mark.parametrize('n', range(40))
def test_short(n): time.sleep(0.02)
",
    )]);
    suite.pytest(&["-j", "2"], &[]).exits(0);
    let events = suite.events();
    sound(&events);
    let tests: Vec<&Value> = named(&events, "test_finished").collect();
    let long = tests
        .iter()
        .find(|test| test["id"] == "test_one.py::test_long")
        .unwrap();
    let elsewhere = tests
        .iter()
        .filter(|test| {
            test["shard"] != long["shard"] && test["end_s"].as_f64() < long["end_s"].as_f64()
        })
        .count();
    // What was granted already stays; that is little.
    assert!(elsewhere >= 36, "only {elsewhere} of 40 ran meanwhile");
}

#[test]
fn tests_that_differ_from_process_to_process_are_an_error_that_shows_the_difference() {
    let suite = Suite::with(&[(
        "test_random.py",
        "import os, pytest, time
@pytest.mark.parametrize('n', [f'{os.getpid()}-{n}' for n in range(40)])
def test_it(n): time.sleep(0.03)
",
    )]);
    let ended = suite.pytest(&["-j", "2"], &[]);
    ended.exits(1);
    let report = suite.report();
    let message = report.0["tests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|test| test["outcome"] == "error")
        .map(|test| text(&test["message"]))
        .unwrap();
    for words in [
        "test_random.py has other tests in each process",
        "did not find",
        "instead",
    ] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_crash_in_a_part_is_the_crashing_tests_alone() {
    let suite = Suite::with(&[(
        "test_crash.py",
        "import os, pytest, time
@pytest.mark.parametrize('n', range(60))
def test_it(n):
    time.sleep(0.02)
    if n in (7, 40): os._exit(3)
",
    )]);
    for _ in 0..2 {
        suite
            .pytest(&["-j", "3"], &[])
            .exits(1)
            .says(&["60 tests: 58 passed, 2 errors"]);
        let report = suite.report();
        for n in [7, 40] {
            report.blames(
                &format!("test_crash.py::test_it[{n}]"),
                "error",
                &["exited with status 3"],
            );
        }
    }
}

#[test]
fn a_shard_with_parts_is_reproduced_as_it_ran() {
    let suite = Suite::with(&[LONG]);
    suite.pytest(&["-j", "2", "--run-id", "one"], &[]).exits(0);
    let shards = shards(&suite.events(), "test_long.py");
    for (shard, ran) in shards {
        let ended = suite.evenkeel(&[
            "reproduce",
            "one",
            "--shard",
            &format!("{shard}/2"),
            "--state",
            ".evenkeel",
        ]);
        ended
            .exits(0)
            .says(&[&format!("green: {} tests", ran.len())]);
    }
}
