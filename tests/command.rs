//! Any command that writes JUnit: its units are balanced, its tests counted, and what it does not report is never a pass.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::collections::{BTreeMap, BTreeSet};
use support::*;

/// A test tool: each line of a file is a test, with its outcome and how long it takes. It can be told to misbehave.
const TOOL: &str = r#"
import os, sys, time
from xml.sax.saxutils import quoteattr
junit, units = sys.argv[1], sys.argv[2:]
with open("starts", "a") as starts:
    print(len(units), file=starts)
time.sleep(0.05)
suites, status = [], 0
def write():
    with open(junit, "w") as file:
        file.write("<testsuites>" + "".join(suites) + "</testsuites>")
for unit in units:
    cases = []
    for line in open(unit):
        name, outcome, seconds = line.split()
        if outcome == "dies":
            write()
            os.kill(os.getpid(), 9)
        if outcome == "tears":
            write()
            with open(junit) as file: whole = file.read()
            with open(junit, "w") as file: file.write(whole.replace("</testsuites>", "<testsuite name='s' file=%s><testcase name='half'/><testca" % quoteattr(unit)))
            sys.exit(0)
        if outcome == "exits":
            write()
            print("giving up")
            sys.exit(0)
        if outcome == "hangs":
            print("hanging", flush=True)
            time.sleep(1000)
        if outcome == "status":
            status = int(seconds)
            continue
        time.sleep(float(seconds))
        inner = {"passed": "", "skipped": "<skipped message='not now'/>", "failed": "<failure message='wrong'>at line 1</failure>"}[outcome]
        status = status or int(outcome == "failed")
        cases.append(f"<testcase name={quoteattr(name)} classname='things' time='{seconds}'>{inner}</testcase>")
    file = "" if os.environ.get("STRAY") else f" file={quoteattr(unit)}"
    suites.append(f"<testsuite name='s'{file}>" + "".join(cases) + "</testsuite>")
write()
print("done")
sys.exit(status)
"#;

fn suite(files: &[(&str, &str)]) -> Suite {
    let suite = Suite::with(&[("tool.py", TOOL)]);
    for (path, text) in files {
        suite.write(path, text);
    }
    suite
}

const COMMAND: [&str; 4] = ["python3", "tool.py", "{junit}", "{units}"];

fn run(suite: &Suite, options: &[&str]) -> Ended {
    let own = ["--runner", "command", "--with", "units=t/*.txt"];
    suite.run(&[&own, options].concat(), &COMMAND)
}

#[test]
fn tests_are_those_of_the_reports_and_the_second_run_is_balanced() {
    let mut files: Vec<(String, String)> = (0..12)
        .map(|number| {
            let text = "a passed 0.02\na passed 0.01\nb skipped 0\n";
            (format!("t/{number:02}.txt"), text.to_owned())
        })
        .collect();
    files.push((
        "t/99.txt".to_owned(),
        "long passed 0.4\nbad failed 0.01\n".to_owned(),
    ));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (&**path, &**text))
        .collect();
    let suite = suite(&files);
    for attempt in 0..3 {
        let ended = run(&suite, &["-j", "2"]);
        ended
            .exits(1)
            .says(&["FAILED t/99.txt::things::bad", "wrong"]);
        let report = suite.report();
        let totals = ["tests", "passed", "failed", "skipped"].map(|name| report.total(name));
        assert_eq!(totals, [12 * 3 + 2, 12 * 2 + 1, 1, 12]);
        assert_eq!(report.test("t/03.txt::things::a#1")["outcome"], "passed");
        if attempt > 0 {
            let events = suite.events();
            let first = named(&events, "leased").next().unwrap();
            assert_eq!(first["unit"], "t/99.txt", "the longest starts first");
            // What both slots are given at first should take the same time, by what was measured.
            let given = events
                .iter()
                .take_while(|event| event["event"] != "lease_ended");
            let mut shares = BTreeMap::new();
            for lease in given.filter(|event| event["event"] == "leased") {
                *shares
                    .entry(lease["shard"].as_u64().unwrap())
                    .or_insert(0.0) += lease["expected_s"].as_f64().unwrap();
            }
            let (least, most) = (
                shares.values().copied().fold(f64::INFINITY, f64::min),
                shares.values().copied().fold(0.0, f64::max),
            );
            assert!(
                shares.len() == 2 && most < 1.3 * least,
                "{shares:?} in run {attempt}"
            );
        }
        suite.nothing_stays();
    }
    // Several units share a start.
    let starts: usize = suite.read("starts").lines().count();
    assert!(starts < 3 * 13, "{starts} starts for 3 runs of 13 units");
}

#[test]
fn what_is_not_reported_is_never_a_pass() {
    let suite = suite(&[
        ("t/a.txt", "one passed 0\n"),
        ("t/b.txt", "two passed 0\nthree exits 0\n"),
        ("t/c.txt", "four passed 0\n"),
        ("t/d.txt", "five dies 0\n"),
        ("t/e.txt", "six passed 0\n"),
        ("t/f.txt", ""),
        ("t/g.txt", "seven passed 0\neight status 3\n"),
    ]);
    for slots in ["1", "2"] {
        run(&suite, &["-j", slots]).exits(1);
        let report = suite.report();
        for (unit, test) in [("a", "one"), ("c", "four"), ("e", "six"), ("g", "seven")] {
            let id = format!("t/{unit}.txt::things::{test}");
            assert_eq!(report.test(&id)["outcome"], "passed", "{id}");
        }
        report.blames("t/b.txt", "error", &["status 0", "reported no test"]);
        report.blames("t/d.txt", "error", &["SIGKILL"]);
        report.blames("t/f.txt", "error", &["reported no test"]);
        let blamed: BTreeSet<String> = report
            .tests()
            .iter()
            .filter(|test| test["outcome"] == "error")
            .map(key)
            .collect();
        assert_eq!(
            blamed.iter().map(String::as_str).collect::<Vec<_>>(),
            ["t/b.txt", "t/d.txt", "t/f.txt", "t/g.txt"]
        );
        report.blames("t/g.txt", "error", &["status 3", "although no test failed"]);
        suite.nothing_stays();
    }
    // One unit a process, or several: the same is blamed.
    run(&suite, &["-j", "1", "--with", "together=1"]).exits(1);
    assert_eq!(suite.report().total("errors"), 4);
}

/// A report that breaks off may lack tests of a unit that it names.
#[test]
fn a_torn_report_is_never_a_pass() {
    let suite = suite(&[
        ("t/a.txt", "one passed 0\n"),
        ("t/b.txt", "two tears 0\n"),
        ("t/c.txt", "three passed 0\n"),
    ]);
    run(&suite, &["-j", "1"]).exits(1);
    let report = suite.report();
    report.blames("t/b.txt", "error", &["cannot be read to its end"]);
    assert_eq!((report.total("errors"), report.total("tests")), (1, 4));
    assert_eq!(report.test("t/c.txt::things::three")["outcome"], "passed");
}

#[test]
fn a_unit_past_its_deadline_is_ended_and_its_neighbours_run() {
    let suite = suite(&[
        ("t/a.txt", "one passed 0\n"),
        ("t/b.txt", "two hangs 0\n"),
        ("t/c.txt", "three passed 0\n"),
    ]);
    let ended = run(&suite, &["-j", "1", "--timeout", "1s"]);
    ended.exits(1).says(&["hanging"]);
    let report = suite.report();
    report.blames("t/b.txt", "error", &["longer than 1.0 s"]);
    assert_eq!(report.total("passed"), 2);
    suite.nothing_stays();
}

/// What hangs is not the shell that was started but what that started.
#[test]
fn what_a_hung_command_started_goes_with_it() {
    let suite = suite(&[("t/a.txt", "one hangs 0\n"), ("t/b.txt", "two passed 0\n")]);
    let command = [
        "sh",
        "-c",
        "python3 tool.py \"$@\"; true",
        "-",
        "{junit}",
        "{unit}",
    ];
    let options = [
        "-j",
        "1",
        "--timeout",
        "1s",
        "--runner",
        "command",
        "--with",
        "units=t/*.txt",
    ];
    let mut running = suite.start_run(&options, &command);
    // While the second unit runs, or behind it, nothing of the first is left.
    running.until("the second unit", || {
        suite.read("starts").lines().count() == 2
    });
    let left = suite.processes();
    let hung = left
        .values()
        .filter(|words| words.starts_with("python3") && words.contains("t/a.txt"));
    assert_eq!(hung.count(), 0, "{left:?}");
    running.end().exits(1);
    assert_eq!(suite.report().total("passed"), 1);
}

/// What is queued behind the first process of a bundle is given back.
#[test]
fn a_limit_of_failures_stops_what_has_not_begun() {
    let files: Vec<(String, String)> = (0..12)
        .map(|number| (format!("t/{number:02}.txt"), "bad failed 0\n".to_owned()))
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (&**path, &**text))
        .collect();
    let suite = suite(&files);
    let options = ["-j", "1", "--max-fail", "1", "--with", "together=2"];
    run(&suite, &options).exits(1).says(&["--max-fail 1"]);
    let starts = suite.read("starts").lines().count();
    assert!(starts <= 2, "{starts} processes for a limit of one failure");
    assert!(suite.report().total("not_run") >= 8);
    suite.nothing_stays();
}

#[test]
fn tests_that_cannot_be_told_apart_are_run_unit_by_unit() {
    let suite = suite(&[
        ("t/a.txt", "one passed 0\n"),
        ("t/b.txt", "two passed 0\n"),
        ("t/c.txt", "three passed 0\n"),
        (
            "evenkeel.toml",
            "[suite.tool]\nrunner = \"command\"\ncommand = [\"python3\", \"tool.py\", \"{junit}\", \"{units}\"]\n\
             environment = { STRAY = \"1\" }\nwith = { units = \"t/*.txt\" }\n",
        ),
    ]);
    let ended = suite.evenkeel(&["run", "-j", "1", "--json", "report.json"]);
    ended.exits(0).says(&["belong to no unit", "match"]);
    let report = suite.report();
    let tests: Vec<String> = report.tests().iter().map(key).collect();
    assert_eq!(
        tests,
        [
            "t/a.txt::things::one",
            "t/b.txt::things::two",
            "t/c.txt::things::three"
        ]
    );
}

#[test]
fn units_come_from_a_command_or_a_file_and_go_by_file_or_variable() {
    let suite = suite(&[
        ("x/a b.txt", "one passed 0\n"),
        ("x/c.txt", "two passed 0\n"),
        ("list", "x/a b.txt\n\nx/c.txt\nx/c.txt\n"),
    ]);
    let by_file = [
        "sh",
        "-c",
        "xargs -d '\\n' python3 tool.py {junit} < {units_file}",
    ];
    let ended = suite.run(
        &[
            "-j",
            "1",
            "--runner",
            "command",
            "--with",
            "units-file=list",
        ],
        &by_file,
    );
    ended.exits(0);
    assert_eq!(suite.report().total("passed"), 2);
    let by_variable = ["sh", "-c", "python3 tool.py \"$OUT\" \"$UNIT\""];
    let options = [
        "-j",
        "2",
        "--runner",
        "command",
        "--with",
        "units-from=ls x/*",
        "--with",
        "environment=UNIT={unit}",
        "--with",
        "environment=OUT={junit}",
    ];
    suite.run(&options, &by_variable).exits(0);
    assert_eq!(suite.report().total("passed"), 2);
}

#[test]
fn what_is_set_wrong_is_said() {
    let suite = suite(&[("t/a.txt", "one passed 0\n")]);
    for (options, command, said) in [
        (&[][..], &["tool", "{units}"][..], "which units are there"),
        (
            &["--with", "units=t/*"],
            &["tool", "{units}"],
            "write {junit}",
        ),
        (
            &["--with", "units=t/*"],
            &["tool", "{files}", "{junit}"],
            "{files}",
        ),
        (&["--with", "units=["], &COMMAND, "the pattern"),
        (
            &["--with", "units-from=false"],
            &COMMAND,
            "that lists units failed",
        ),
        (
            &["--with", "unit=t/*"],
            &COMMAND,
            "no setting \"unit\" for command",
        ),
    ] {
        let options = [&["--runner", "command"], options].concat();
        suite.run(&options, command).exits(2).says(&[said, "hint:"]);
    }
    // A second pattern adds to the first; no unit at all is nothing that ran.
    run(&suite, &["--with", "units=absent/*"]).exits(0);
    let none = ["--runner", "command", "--with", "units=absent/*"];
    suite.run(&none, &COMMAND).exits(4);
}
