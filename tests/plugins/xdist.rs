//! A suite that was run by pytest-xdist: its command, what its tests find, and the recipes of xdist's manual.

use crate::trial::{Seen, trial};

/// The command of a team that used pytest-xdist runs as it is.
#[test]
fn xdist_in_the_command() {
    let plain = trial("zoo", &["xdist"]).plain();
    for arguments in [
        &["-n", "2"][..],
        &["-n", "auto", "--dist", "loadfile", "--maxprocesses", "3"],
        &["--tx", "2*popen", "-d"],
    ] {
        for slots in [1, 2] {
            let seen = trial("zoo", &["xdist"]).with(arguments).slots(slots);
            seen.equals(&plain, &format!("{arguments:?}"));
            seen.ended.says(&["Evenkeel's own slots take its place"]);
        }
    }
}

/// What a worker of pytest-xdist shows to the tests, a slot shows too; and at one slot, nothing.
#[test]
fn the_place_of_a_slot() {
    let test = "test_place.py::test_place";
    let [one, bare] = [&["xdist"][..], &[]].map(|plugins| trial("place", plugins).slots(1));
    one.ended.exits(0);
    assert_eq!(one.printed(test), "None None master False\n");
    bare.report()
        .blames(test, "error", &["fixture 'worker_id' not found"]);
    for plugins in [&["xdist"][..], &[]] {
        let two = trial("place", plugins).slots(2);
        two.ended.exits(0);
        let place = two.printed(test);
        assert!(
            ["gw0 2 gw0 True\n", "gw1 2 gw1 True\n"].contains(&&*place),
            "{place}"
        );
    }
}

/// What xdist's manual makes once a run with a lock in the parent of the base of temporary directories, is made once a run here,
/// too, and anew in the next.
#[test]
fn made_once_a_run_behind_a_lock() {
    let made = |seen: &Seen| seen.files()["made.txt"].lines().count();
    for arguments in [&[][..], &["--basetemp=base"]] {
        let lock = trial("lock", &["xdist"]).with(arguments);
        let first = lock.slots(2);
        first.ended.exits(0);
        assert_eq!(made(&first), 1, "{arguments:?}");
        let second = lock.slots_in(2, first.suite);
        second.ended.exits(0);
        assert_eq!(made(&second), 2, "{arguments:?}");
        let alone = lock.slots_in(1, second.suite);
        alone.ended.exits(0);
        assert_eq!(made(&alone), 3, "{arguments:?}");
    }
}
