//! Plugins that draw: orders, seeds, examples, and what benchmarks measure.

use crate::support::{EVENKEEL, text};
use crate::trial::{Seen, trial};
use std::collections::BTreeMap;

/// What the tests of each file drew, in the order in which they ran.
fn ran(seen: &Seen) -> BTreeMap<String, String> {
    let files = seen.files().into_iter();
    let ran: BTreeMap<_, _> = files.filter(|(path, _)| path.starts_with("ran/")).collect();
    assert_eq!(ran.len(), 3);
    ran
}

#[test]
fn randomly_with_a_seed_is_plain_pytests_order_within_each_file() {
    // No file is split, so that the order of its tests can be seen.
    let whole_files = trial("randomly", &["xdist", "randomly"]);
    let seeded = whole_files.with(&["--randomly-seed=7"]);
    let plain = seeded.plain();
    for slots in [1, 2] {
        let seen = seeded.with(&["--dist=loadfile"]).slots(slots);
        seen.equals(&plain, "a seed");
        assert_eq!(ran(&seen), ran(&plain), "{slots} slots");
    }
    let off = trial("randomly", &["randomly"]).with(&["-p", "no:randomly"]);
    let first = "test_number[0] ";
    let unshuffled = |seen: Seen| ran(&seen).values().all(|text| text.starts_with(first));
    assert!(unshuffled(off.slots(1)));
}

#[test]
fn randomly_without_a_seed_takes_the_runs() {
    let randomly = trial("randomly", &["xdist", "randomly"]).with(&["--dist=loadfile"]);
    let mut drawn = Vec::new();
    for slots in [1, 2] {
        let seen = randomly.slots(slots);
        seen.ended.exits(0);
        let first = ran(&seen);
        let run = text(&seen.report().0["run"]["id"]);
        let shards = seen.report().0["shards"].clone();

        // The next run can take the same.
        let last = randomly.with(&["--randomly-seed=last"]);
        forget(&seen);
        let again = last.slots_in(slots, seen.suite);
        assert_eq!(ran(&again), first, "{slots} slots");

        // A shard that is run again draws the same, in the same order.
        forget(&again);
        // One that was late has run nothing.
        let ran_some = |shard: &&serde_json::Value| shard["tests"].as_u64() > Some(0);
        for shard in shards.as_array().unwrap().iter().filter(ran_some) {
            let shard = text(&shard["shard"]);
            let mut command = again.suite.command(EVENKEEL);
            command.args(["reproduce", &run, "--shard", &shard]);
            randomly.end(&again.suite, command).exits(0);
        }
        assert_eq!(ran(&again), first, "{slots} slots");
        drawn.push(first);
    }
    assert_ne!(drawn[0], drawn[1], "each run has its own");
}

fn forget(seen: &Seen) {
    std::fs::remove_dir_all(seen.suite.root.join("ran")).unwrap();
}

#[test]
fn random_order() {
    for plugins in [&["random_order"][..], &["xdist", "random_order"]] {
        trial("randomly", plugins).with(&["--random-order"]).alike();
    }
}

#[test]
fn hypothesis() {
    let hypothesis = trial("hypothesis", &["hypothesispytest"])
        .variable("DRAWN", "drawn.txt")
        .with(&["--hypothesis-profile=few", "--hypothesis-show-statistics"]);
    let [plain, one, two] = hypothesis.with(&["--hypothesis-seed=3"]).alike();
    let draws = plain.files()["drawn.txt"].clone();
    assert!(draws.len() > 80, "{draws}");
    for seen in [&one, &two] {
        assert_eq!(seen.files()["drawn.txt"], draws);
        seen.report().blames(
            "test_numbers.py::test_finds_a_failure",
            "failed",
            &["assert 3 < 3"],
        );
        seen.ended.says(&[
            "Hypothesis Statistics",
            "test_numbers.py::test_number:",
            "test_drawn.py::test_draws:",
        ]);
    }
    // With a seed it leaves its database alone. Without one, it keeps what failed, and tries that first the next time.
    let unseeded = hypothesis.slots(2);
    let kept = |seen: &Seen| {
        let files = seen.files().into_keys();
        files
            .filter(|path| path.starts_with(".hypothesis/examples/"))
            .count()
    };
    assert!(kept(&unseeded) > 0);
    let again = hypothesis.slots_in(2, unseeded.suite);
    again.ended.says(&["during reuse phase"]);
}

#[test]
fn benchmarks_run_at_one_slot_and_are_off_at_more() {
    // The first of the slots says that they are off, if it has seen one.
    let benchmark = trial("benchmark", &["benchmark"]).options(&["--collect", "whole"]);
    let [plain, one, two] = benchmark.with(&["--benchmark-json=benchmark.json"]).alike();
    plain.ended.exits(0);
    let names = |seen: &Seen| {
        let written: serde_json::Value =
            serde_json::from_str(&seen.files()["benchmark.json"]).unwrap();
        let list = written["benchmarks"].as_array().unwrap();
        list.iter()
            .map(|one| text(&one["fullname"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&one), names(&plain));
    one.ended.says(&["benchmark: 2 tests", "Rounds"]);
    for test in ["test_one.py::test_speed", "test_two.py::test_speed"] {
        assert_eq!(one.printed(test), "rounds: 5\n");
        // As under pytest-xdist: the function is called once.
        assert_eq!(two.printed(test), "rounds: 1\n");
    }
    two.ended
        .says(&["Benchmarks are automatically disabled because xdist plugin is active"]);
}
