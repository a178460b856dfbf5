//! pytest-cov: what several slots cover is one data file, one verdict and one set of reports.

use crate::support::Suite;
use crate::trial::{Seen, Trial, python, trial};
use std::collections::BTreeSet;

fn suite() -> Trial {
    trial("coverage", &["pytest_cov"]).with(&["--cov=shop"])
}

/// Lines and branches in the data file, as coverage's own library reads them.
fn covered(suite: &Suite) -> String {
    const READ: &str = "
import coverage, os, sys
data = coverage.CoverageData('.coverage')
data.read()
for path in sorted(data.measured_files()):
    print(os.path.relpath(path), sorted(data.lines(path)), sorted(data.arcs(path) or ()))
";
    let mut command = suite.command(python());
    command.args(["-c", READ]);
    let ended = suite.start(command).end();
    ended.exits(0);
    ended.stdout
}

fn beside(seen: &Seen) -> BTreeSet<String> {
    let files = seen.files().into_keys();
    files.filter(|path| path.starts_with(".coverage")).collect()
}

#[test]
fn coverage_is_that_of_plain_pytest() {
    let lines = [1, 2, 5];
    for (trial, numbers) in [
        (suite(), &lines[..]),
        (suite().with(&["--cov-branch"]), &lines[1..2]),
    ] {
        let plain = trial.plain();
        let measured = covered(&plain.suite);
        assert!(measured.contains("shop/child.py"), "{measured}");
        for &slots in numbers {
            let seen = trial.slots(slots);
            seen.equals(&plain, "with coverage");
            seen.ended.exits(0);
            assert_eq!(covered(&seen.suite), measured, "{slots} slots");
            assert_eq!(beside(&seen), beside(&plain), "{slots} slots");
            // The table that pytest-cov prints at its end, of all slots together.
            seen.ended.says(&["TOTAL", "shop/nobody.py"]);
        }
    }
}

/// No slot alone covers as much as the whole.
#[test]
fn a_threshold_is_for_the_whole() {
    let total = total();
    for (slots, threshold) in [(2, total), (2, total + 1), (1, total + 1)] {
        let option = format!("--cov-fail-under={threshold}");
        let seen = suite().with(&[&option]).slots(slots);
        if threshold == total {
            seen.ended.exits(0);
        } else {
            let complaint = format!("less than fail-under={threshold}");
            seen.ended.exits(1).says(&[&complaint]);
            assert_eq!(seen.report().0["run"]["verdict"], "red");
        }
    }
}

/// What plain pytest covers, in percent.
fn total() -> u32 {
    let plain = suite().plain();
    plain.ended.exits(0);
    let mut lines = plain.ended.stdout.lines();
    let total = lines.find(|line| line.starts_with("TOTAL")).unwrap();
    let percent = total.split_whitespace().last().unwrap();
    percent.trim_end_matches('%').parse().unwrap()
}

#[test]
fn reports_of_coverage_are_written_once_and_whole() {
    let trial = suite().with(&[
        "--cov-report=xml",
        "--cov-report=json",
        "--cov-report=html",
        "--cov-report=lcov",
        "--cov-report=term-missing",
    ]);
    let plain = trial.plain();
    // The time of writing, and the place of the suite.
    let comparable = |seen: &Seen, name: &str| {
        let text = seen.files()[name].replace(&*seen.suite.root.to_string_lossy(), "");
        let lines = text.lines().filter(|line| !line.contains("timestamp="));
        lines.collect::<Vec<_>>().join("\n")
    };
    for slots in [1, 2] {
        let seen = trial.slots(slots);
        let files = |seen: &Seen| seen.files().into_keys().collect::<BTreeSet<_>>();
        assert_eq!(files(&seen), files(&plain), "{slots} slots");
        for name in ["coverage.xml", "coverage.lcov"] {
            assert_eq!(
                comparable(&seen, name),
                comparable(&plain, name),
                "{slots} slots"
            );
        }
        let totals = |seen: &Seen| {
            let report: serde_json::Value =
                serde_json::from_str(&seen.files()["coverage.json"]).unwrap();
            report["totals"].clone()
        };
        assert_eq!(totals(&seen), totals(&plain), "{slots} slots");
        seen.ended
            .says(&["6, 11", "Coverage HTML written", "Coverage XML written"]);
    }
}

#[test]
fn coverage_adds_up_with_append() {
    let first = suite().with(&["test_one.py", "test_two.py"]);
    let second = suite().with(&["test_three.py", "test_four.py", "--cov-append"]);
    let plain = second.plain_in(first.plain().suite);
    let seen = second.slots_in(2, first.slots(2).suite);
    assert_eq!(covered(&seen.suite), covered(&plain.suite));
    assert_eq!(beside(&seen), beside(&plain));

    let switched_off = suite().with(&["--no-cov"]).slots(2);
    switched_off.ended.exits(0);
    let settings = BTreeSet::from([".coveragerc".to_owned()]);
    assert_eq!(beside(&switched_off), settings);
}
