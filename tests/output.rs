//! What is written where: events, the terminal, and texts that would break either.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::{EVENKEEL, Suite, noop, pytest, text};

#[test]
fn events_on_standard_output_are_alone_there() {
    let suite = Suite::with(&[(
        "test_a.py",
        "import os\ndef test_ok(): print('to stdout'); os.write(1, b'raw')\ndef test_bad(): assert 0\n",
    )]);
    let mut run = suite.command(EVENKEEL);
    run.args(["run", "-j", "2", "--events", "-", "--"])
        .args(pytest(&["-s"]));
    let ended = suite.start(run).end();
    ended.exits(1);
    let names: Vec<String> = ended
        .stdout
        .lines()
        .map(|line| {
            let event: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(
                event["seq"].as_u64() > Some(0) && event["at_s"].as_f64() >= Some(0.0),
                "{line}"
            );
            text(&event["event"])
        })
        .collect();
    assert_eq!(
        (names[0].as_str(), names.last().unwrap().as_str()),
        ("run_opened", "run_closed")
    );
    for name in [
        "agent_joined",
        "process_started",
        "listed",
        "planned",
        "leased",
        "unit_started",
        "declared",
        "test_finished",
        "lease_ended",
    ] {
        assert!(
            names.iter().any(|seen| seen == name),
            "{name} is not in {names:?}"
        );
    }
    // Without --events nothing at all is there.
    let mut run = suite.command(EVENKEEL);
    run.args(["run", "--"]).args(pytest(&[]));
    assert_eq!(suite.start(run).end().exits(1).stdout, "");
}

#[test]
fn quiet_says_failures_and_the_verdict_only() {
    let suite = Suite::with(&[(
        "test_a.py",
        "def test_ok(): pass\ndef test_bad(): assert 0, 'why'\n",
    )]);
    let ended = suite.pytest(&["-q"], &[]);
    ended
        .exits(1)
        .says(&["FAILED test_a.py::test_bad", "why", "red: 2 tests"]);
    assert!(!ended.stderr.contains("slowest"), "{}", ended.stderr);
    let ended = suite.noop(&["--quiet"], &[]);
    ended.exits(0);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    ended.says(&["green: 100 tests: 100 passed"]);
}

#[test]
fn colours_are_for_those_who_ask() {
    let suite = Suite::new();
    let run = |options: &[&str]| suite.noop(options, &["--units", "1", "--fail-every", "5"]);
    assert!(
        !run(&[]).stderr.contains('\u{1b}'),
        "no terminal, no colours"
    );
    assert!(run(&["--color", "always"]).stderr.contains("\u{1b}["));
    assert!(!run(&["--color", "never"]).stderr.contains('\u{1b}'));
}

#[test]
fn what_tests_print_does_not_steer_the_terminal_and_is_whole_in_the_reports() {
    let nasty =
        "esc\\x1b[31m bell\\x07 nul\\x00 back\\x08 cdata]]> <tag> & ünï 汉 \\U0001f600 \\u009b end";
    let suite = Suite::with(&[(
        "test_nasty.py",
        &format!("def test_nasty():\n    print('{nasty}')\n    assert False, '{nasty}'\n"),
    )]);
    let ended = suite.pytest(&["-j", "1"], &[]);
    ended.exits(1);
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!ended.stderr.contains(control), "{:?}", ended.stderr);
    assert!(
        ended.stderr.contains("cdata]]> <tag> & ünï 汉 😀"),
        "{}",
        ended.stderr
    );

    let test = suite.report().test("test_nasty.py::test_nasty").clone();
    let printed = "esc\u{1b}[31m bell\u{7} nul\0 back\u{8} cdata]]> <tag> & ünï 汉 😀 \u{9b} end\n";
    assert_eq!(test["output"][0]["text"], printed);

    let junit = suite.junit();
    let shown = text(&junit.cases[0][3]);
    // What XML forbids is shown by its picture.
    assert!(
        shown.contains("esc␛[31m bell␇ nul␀ back␈ cdata]]> <tag> & ünï 汉 😀"),
        "{shown}"
    );
}

/// Carriage returns come back from an XML parser as they were written, or visibly replaced.
#[test]
fn carriage_returns_survive_the_junit_report() {
    let suite = Suite::with(&[(
        "test_cr.py",
        "import sys\ndef test_cr():\n    sys.stdout.write('10%\\r20%\\r\\ndone')\n    assert False, 'a\\rb'\n",
    )]);
    suite.pytest(&["-j", "1", "-q"], &[]).exits(1);
    assert_eq!(
        suite.report().test("test_cr.py::test_cr")["output"][0]["text"],
        "10%\r20%\r\ndone"
    );
    let shown = text(&suite.junit().cases[0][3]);
    assert!(shown.contains("10%\r20%\r\ndone"), "{shown:?}");
}

#[test]
fn a_megabyte_of_output_is_kept_and_three_are_cut_with_a_mark() {
    let suite = Suite::with(&[(
        "test_loud.py",
        "def loud(size):\n    print('begin' + 'x' * size + 'end')\n    assert False\ndef test_one(): loud(1_000_000)\ndef test_three(): loud(3_000_000)\n",
    )]);
    let ended = suite.pytest(&["-j", "1"], &[]);
    ended.exits(1);
    assert!(
        ended.stderr.len() < 3_000_000,
        "{} bytes on the terminal",
        ended.stderr.len()
    );
    let report = suite.report();
    let output = |id: &str| text(&report.test(id)["output"][0]["text"]);
    assert_eq!(output("test_loud.py::test_one").len(), 1_000_009);
    let three = output("test_loud.py::test_three");
    assert!(three.starts_with("beginx") && three.ends_with("xend\n"));
    assert!(
        three.contains("bytes left out by Evenkeel") && three.len() < 1_100_000,
        "{}",
        three.len()
    );
    assert_eq!(suite.junit().failures, 2);
}

#[test]
fn a_thousand_failures_do_not_flood_the_log() {
    let suite = Suite::new();
    let ended = suite.run(
        &["--runner", "protocol", "-j", "2"],
        &noop(&["--units", "20", "--cases", "50", "--fail-every", "1"]),
    );
    ended
        .exits(1)
        .says(&["1000 failed", "further failures in one line each"]);
    let lines = ended.stderr.lines().count();
    assert!((1000..1200).contains(&lines), "{lines} lines");
}
