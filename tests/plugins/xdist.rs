//! A suite that was run by pytest-xdist: its command, what its tests find, and the recipes of xdist's manual.

use crate::support::text;
use crate::trial::{Seen, trial};
use std::collections::BTreeSet;

/// The command of a team that used pytest-xdist runs as it is, and says what becomes of its options.
#[test]
fn xdist_in_the_command() {
    let zoo = trial("zoo", &["xdist"]);
    let plain = zoo.plain();
    for (arguments, slots, note) in [
        (&["-n", "2"][..], 1, ""),
        (
            &["-n", "auto", "--maxprocesses", "3", "--dist", "worksteal"],
            2,
            "",
        ),
        (
            &["--tx", "2*popen", "--dist", "loadscope"],
            2,
            "--dist loadscope: ",
        ),
        (
            &["-n3", "--dist=loadfile", "--max-worker-restart=1"],
            2,
            "--dist loadfile: ",
        ),
        (&["-n", "2", "--dist", "each"], 2, ""),
    ] {
        let seen = zoo.with(arguments).slots(slots);
        seen.equals(&plain, &format!("{arguments:?}"));
        seen.ended
            .says(&["Evenkeel's own slots take its place", note]);
    }
    let looping = trial("zoo", &["xdist", "xdist.looponfail"]);
    let looping = looping.with(&["--looponfail"]).slots(2);
    looping
        .ended
        .exits(2)
        .says(&["-f does not work under Evenkeel"]);
}

#[test]
fn tests_of_a_group_run_in_one_slot() {
    let groups = trial("groups", &["xdist"]).with(&["--dist=loadgroup"]);
    let plain = groups.plain();
    let seen = groups.slots(2);
    seen.equals(&plain, "groups");
    let report = seen.report();
    let tests = plain.verdicts().into_keys();
    let grouped = tests.filter(|test| !test.ends_with("test_alone"));
    let shards: BTreeSet<String> = grouped
        .map(|test| text(&report.test(&test)["shard"]))
        .collect();
    assert_eq!(shards.len(), 1, "{shards:?}");
}

/// There is no controller while tests run. What workers left is told to one when all is done; what it would have told them before is
/// missing, and the error says why.
#[test]
fn hooks_of_the_controller() {
    let called = |seen: &Seen| {
        let files = seen.files();
        let lines = files.get("called.txt").cloned().unwrap_or_default();
        lines.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let hooks = trial("hooks", &["xdist"]).with(&["-n", "auto"]);
    assert!(called(&hooks.slots(1)).is_empty());
    let two = hooks.slots(2);
    let each = ["gw0", "gw1"].map(|id| {
        [
            format!("configure_node {id}"),
            format!("testnodedown {id} None"),
        ]
    });
    assert_eq!(called(&two), each.concat());
    two.report().blames(
        "test_one.py::test_what_a_controller_would_have_set",
        "failed",
        &["no controller has set 'url'"],
    );
}

/// What a worker of pytest-xdist shows to the tests, a slot shows too; and at one slot, nothing.
#[test]
fn the_place_of_a_slot() {
    let test = "test_place.py::test_place";
    let [one, bare] = [&["xdist"][..], &[]].map(|plugins| trial("place", plugins).slots(1));
    one.ended.exits(0);
    assert_eq!(one.printed(test), "None None master False\n");
    let missing = ["fixture 'worker_id' not found"];
    bare.report().blames(test, "error", &missing);
    let named = trial("place", &["xdist"]).with(&["--testrunuid=mine"]);
    let named = named.variable("EXPECTED_TESTRUNUID", "mine");
    for place in [named, trial("place", &[])] {
        let two = place.slots(2);
        two.ended.exits(0);
        let place = two.printed(test);
        let places = ["gw0 2 gw0 True\n", "gw1 2 gw1 True\n"];
        assert!(places.contains(&&*place), "{place}");
    }
}

/// What xdist's manual makes once a run, with a lock in the parent of the base of temporary directories, is made once a run here,
/// too, and anew in the next.
#[test]
fn made_once_a_run_behind_a_lock() {
    let made = |seen: &Seen| seen.files()["made.txt"].lines().count();
    let lock = trial("lock", &["xdist"]);
    let first = lock.slots(2);
    first.ended.exits(0);
    assert_eq!(made(&first), 1);
    let second = lock.slots_in(2, first.suite);
    second.ended.exits(0);
    assert_eq!(made(&second), 2);
    // The same where the user names the base.
    let based = lock.with(&["--basetemp=base"]);
    let third = based.slots_in(2, second.suite);
    third.ended.exits(0);
    assert_eq!(made(&third), 3);
    let fourth = based.slots_in(2, third.suite);
    fourth.ended.exits(0);
    assert_eq!(made(&fourth), 4);
}
