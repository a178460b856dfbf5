//! Plugins that select or order by the whole list of tests.

use crate::trial::trial;
use std::process::Command;

/// With `--collect whole` they see all tests at once, as in plain pytest.
#[test]
fn parts_of_the_whole() {
    let whole = |plugin, arguments: &[&str]| {
        let trial = trial("zoo", &[plugin]).with(arguments);
        trial.options(&["--collect", "whole"])
    };
    let [plain, _, _] = whole("pytest-split", &["--splits", "3", "--group", "2"]).alike();
    assert!((10..20).contains(&plain.verdicts().len()));
    let groups = ["--test-group-count", "3", "--test-group", "2"];
    let [plain, _] = whole("test-groups", &groups).alike_at_two();
    assert!((10..20).contains(&plain.verdicts().len()));
}

/// Without it, every file is split for itself: all groups together are still every test once.
#[test]
fn groups_are_disjoint_and_complete_without_it() {
    let all = trial("zoo", &[]).plain().verdicts();
    let mut together = std::collections::BTreeMap::new();
    for group in ["1", "2"] {
        let seen = trial("zoo", &["pytest-split"])
            .with(&["--splits", "2", "--group", group])
            .slots(2);
        for (test, outcome) in seen.outcomes() {
            assert!(together.insert(test, outcome).is_none());
        }
    }
    assert_eq!(together, all);
}

#[test]
fn a_test_that_depends_on_another_file() {
    let depends = trial("dependency_across", &["dependency"]);
    let plain = depends.plain();
    depends.slots(1).equals(&plain, "one slot");
}

#[test]
fn only_what_git_says_has_changed() {
    let picked = trial("zoo", &["picked"]).with(&["--picked"]);
    let laid = || {
        let suite = picked.laid();
        let git = |words: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@b.test"])
                .args(words);
            assert!(
                git.current_dir(&suite.root)
                    .output()
                    .unwrap()
                    .status
                    .success(),
                "{words:?}"
            );
        };
        git(&["init", "-q"]);
        git(&[
            "add",
            "pytest.ini",
            "test_one.py",
            "test_two.py",
            "test_three.py",
            "test_four.py",
        ]);
        git(&["commit", "-qm", "all"]);
        let text = suite.read("test_two.py");
        suite.write(
            "test_two.py",
            &format!("{text}\n\ndef test_new():\n    pass\n"),
        );
        suite
    };
    let plain = picked.plain_in(laid());
    assert!(
        plain
            .verdicts()
            .keys()
            .all(|test| test.starts_with("test_two.py"))
    );
    for slots in [1, 2] {
        picked.slots_in(slots, laid()).equals(&plain, "picked");
    }
}

#[test]
fn testmon() {
    let testmon = trial("zoo", &["pytest-testmon"]).with(&["--testmon"]);
    let [plain, one, two] = testmon.alike();
    // It remembers what ran, and that what passed need not run again.
    let plain_again = testmon.plain_in(plain.suite);
    let one_again = testmon.slots_in(1, one.suite);
    one_again.equals(&plain_again, "again");
    assert!(one_again.outcomes().len() < 36);
    // At two slots it keeps nothing, and leaves nothing out.
    let two_again = testmon.slots_in(2, two.suite);
    assert_eq!(two_again.outcomes().len(), 36);
}
