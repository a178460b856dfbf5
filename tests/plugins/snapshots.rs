//! Plugins that keep snapshots beside the tests: what they write and remove is what plain pytest writes and removes.

use crate::support::Suite;
use crate::trial::{Seen, Trial, trial};
use std::collections::BTreeMap;

/// The files as they are after the plain run, at one slot and at two.
#[track_caller]
fn same_files(trial: &Trial, prepare: impl Fn(&Suite)) -> [Seen; 3] {
    let laid = || {
        let suite = trial.laid();
        prepare(&suite);
        suite
    };
    let plain = trial.plain_in(laid());
    let files = snapshots(&plain);
    let slots = [1, 2].map(|slots| {
        let seen = trial.slots_in(slots, laid());
        seen.equals(&plain, &format!("{slots} slots"));
        assert_eq!(
            snapshots(&seen),
            files,
            "{slots} slots: {}",
            seen.ended.stderr
        );
        seen
    });
    let [one, two] = slots;
    [plain, one, two]
}

fn snapshots(seen: &Seen) -> BTreeMap<String, String> {
    seen.files()
}

/// Lays the suite's files after a first update by plain pytest.
fn updated(trial: &Trial, option: &str) -> BTreeMap<String, String> {
    let seen = trial.with(&[option]).plain();
    let laid = seen.files();
    assert!(laid.len() > 4, "{laid:?}");
    laid
}

fn lay(suite: &Suite, files: &BTreeMap<String, String>) {
    for (path, text) in files {
        suite.write(path, text);
    }
}

#[test]
fn syrupy() {
    let syrupy = trial("syrupy", &["syrupy"]);
    // Nothing is there yet: every assertion fails, and nothing is written.
    let [_, two] = syrupy.alike_at_two();
    assert_eq!(two.files(), syrupy.laid_files());
    let [plain, one, two] = same_files(&syrupy.with(&["--snapshot-update"]), |_| ());
    let files = plain.files();
    for seen in [plain, one, two] {
        seen.ended.exits(0);
        let written = |path: &&String| path.ends_with(".ambr");
        assert_eq!(seen.files().keys().filter(written).count(), 3);
    }
    // One differs.
    let red = same_files(&syrupy, |suite| {
        lay(suite, &files);
        let path = "__snapshots__/test_two.ambr";
        suite.write(path, &files[path].replace("'apple': 1", "'apple': 9"));
    });
    let test = "test_two.py::test_prices";
    let words = ["[+ received] == [- snapshot]"];
    red[2].report().blames(test, "failed", &words);
}

/// A snapshot that no test asked for: plain pytest fails without `--snapshot-update`, and removes it with it. That takes a look at
/// all slots together: what one has not used another may have.
#[test]
fn syrupy_judges_unused_snapshots_by_the_whole_run() {
    let syrupy = trial("syrupy", &["syrupy"]);
    let used = updated(&syrupy, "--snapshot-update");
    let mut files = used.clone();
    let unused = "# name: test_that_is_gone\n  1\n# ---\n";
    files
        .get_mut("__snapshots__/test_two.ambr")
        .unwrap()
        .push_str(unused);
    files.insert(
        "__snapshots__/test_gone.ambr".to_owned(),
        format!("# serializer version: 1\n{unused}"),
    );
    for (plugins, argument, exits) in [
        (&["syrupy"][..], "--snapshot-details", 1),
        (&["xdist", "syrupy"], "--snapshot-update", 0),
    ] {
        let whole = trial("syrupy", plugins)
            .with(&[argument])
            .options(&["--collect", "whole"]);
        for seen in same_files(&whole, |suite| lay(suite, &files)) {
            seen.ended.exits(exits);
        }
    }
    // File by file, some may be overlooked; what is used is never removed.
    let update = syrupy.with(&["--snapshot-update"]);
    let suite = update.laid();
    lay(&suite, &files);
    let seen = update.slots_in(2, suite);
    seen.ended.exits(0);
    for (path, text) in used {
        assert!(seen.files()[&path].starts_with(&text), "{path}");
    }
}

#[test]
fn pytest_snapshot() {
    let snapshot = trial("snapshot", &["snapshot"]);
    let [plain, _, _] = same_files(&snapshot.with(&["--snapshot-update"]), |_| ());
    let files = plain.files();
    for seen in same_files(&snapshot, |suite| lay(suite, &files)) {
        seen.ended.exits(0);
    }
}

#[test]
fn regressions() {
    let regressions = trial("regressions", &["regressions", "pytest-datadir"]);
    let [plain, _, _] = same_files(&regressions, |_| ());
    let suite = regressions.laid();
    lay(&suite, &plain.files());
    regressions.slots_in(2, suite).ended.exits(0);
}

/// It rewrites test files in the end, and refuses that under pytest-xdist; so it does at several slots.
#[test]
fn inline_snapshot() {
    let inline = trial("inline_snapshot", &["inline_snapshot"]);
    let plain = inline.plain();
    let one = inline.slots(1);
    one.equals(&plain, "inline-snapshot");
    let create = inline.with(&["--inline-snapshot=create,fix"]);
    let plain = create.plain();
    let one = create.slots(1);
    one.equals(&plain, "inline-snapshot");
    assert_eq!(one.files(), plain.files());
    assert!(one.files()["test_two.py"].contains("snapshot(2)"));

    let two = inline.slots(2);
    assert_eq!(two.outcomes()["test_one.py::test_right"], "passed");
    assert_eq!(two.outcomes()["test_one.py::test_wrong"], "failed");
    let refused = create.slots(2);
    refused
        .ended
        .exits(2)
        .says(&["cannot be combined with xdist"]);
    assert_eq!(refused.files(), create.laid_files());
}
