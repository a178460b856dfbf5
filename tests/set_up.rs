//! What a suite's own commands set up, once and in each slot, and tear down again.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::collections::BTreeMap;
use support::configured::{command, configured, run};

const HOOKS: &str = r#"
[suite.unit]
command = [PYTEST]
environment = { LOG = "ROOT/log" }
setup = ["sh", "-c", "echo setup >> $LOG"]
teardown = ["sh", "-c", "echo teardown >> $LOG"]
slot-setup = ["sh", "-c", "echo slot-setup $EVENKEEL_SLOT >> $LOG"]
slot-teardown = ["sh", "-c", "echo slot-teardown $EVENKEEL_SLOT >> $LOG"]
"#;
const LOGS: &str = "import os, time\ndef test_one():\n    open(os.environ['LOG'], 'a').write('test\\n')\n    time.sleep(0.2)\n";

/// The log's lines, each kind counted, the order of kinds checked.
fn in_order(log: &str) -> BTreeMap<String, usize> {
    let rank = |line: &str| {
        let kinds = ["setup", "slot-setup", "test", "slot-teardown", "teardown"];
        let first = line.split(' ').next().unwrap();
        kinds.iter().position(|kind| *kind == first).unwrap()
    };
    let mut counts = BTreeMap::new();
    let (mut up, mut down) = (0, false);
    for line in log.lines() {
        *counts.entry(line.to_owned()).or_insert(0) += 1;
        match rank(line) {
            0 => assert!(counts.len() == 1, "{log}"),
            1 => up += 1,
            2 => assert!(up > 0 && !down, "{log}"),
            3 => down = true,
            _ => assert!(down, "{log}"),
        }
    }
    assert_eq!(log.lines().last(), Some("teardown"), "{log}");
    counts
}

#[test]
fn a_suite_is_set_up_once_and_in_each_slot_and_torn_down_the_other_way_round() {
    let suite = configured(HOOKS, &[]);
    for number in 0..4 {
        suite.write(&format!("test_{number}.py"), LOGS);
    }
    run(&suite, &["-j", "2"]).exits(0);
    let counts = in_order(&suite.read("log"));
    let wanted = [
        ("setup", 1),
        ("slot-setup 0", 1),
        ("slot-setup 1", 1),
        ("slot-teardown 0", 1),
        ("slot-teardown 1", 1),
        ("teardown", 1),
        ("test", 4),
    ];
    let wanted: BTreeMap<String, usize> =
        wanted.map(|(line, count)| (line.to_owned(), count)).into();
    assert_eq!(counts, wanted);

    // A tear-down that fails does not change the verdict, and is heard.
    let text = suite.read("evenkeel.toml");
    let broken = text.replace("echo teardown >> $LOG", "echo no way; exit 7");
    suite.write("evenkeel.toml", &broken);
    run(&suite, &["-j", "2"]).exits(0).says(&[
        "the teardown of suite unit failed",
        "status 7",
        "no way",
    ]);

    // One that is interrupted is torn down too.
    suite.write("evenkeel.toml", &text);
    suite.write(
        "test_0.py",
        "import time\ndef test_one(): time.sleep(100)\n",
    );
    suite.write("log", "");
    let mut running = suite.start(command(&suite, &["-j", "2"]));
    running.until("a test", || suite.read("log").contains("test\n"));
    running.signal(libc::SIGINT);
    running.end().exits(130);
    let counts = in_order(&suite.read("log"));
    assert_eq!((counts["teardown"], counts["slot-teardown 0"]), (1, 1));
    suite.nothing_stays();
}

#[test]
fn a_set_up_that_fails_is_no_verdict_and_its_output_is_shown() {
    let suite = configured(HOOKS, &[("test_a.py", LOGS)]);
    let text = suite.read("evenkeel.toml");
    for (from, what) in [
        (
            "echo setup >> $LOG",
            "the setup of suite unit failed: it exited with status 3",
        ),
        (
            "echo slot-setup $EVENKEEL_SLOT >> $LOG",
            "the slot-setup of suite unit failed: it exited with status 3",
        ),
    ] {
        suite.write("log", "");
        suite.write(
            "evenkeel.toml",
            &text.replacen(from, "echo no database >&2; exit 3", 1),
        );
        run(&suite, &["-j", "2"])
            .exits(3)
            .says(&[what, "no database"]);
        let log = suite.read("log");
        assert!(
            !log.contains("test\n") && log.ends_with("teardown\n"),
            "{log}"
        );
    }
    suite.write(
        "evenkeel.toml",
        &text.replacen(
            "\"sh\", \"-c\", \"echo setup",
            "\"/no/such/program\", \"echo setup",
            1,
        ),
    );
    for _ in 0..5 {
        // A run that ends at once says why, too.
        run(&suite, &[])
            .exits(3)
            .says(&["the setup of suite unit failed: it cannot be started"]);
        assert_eq!(suite.events().last().unwrap()["event"], "run_closed");
    }
}

#[test]
fn a_set_up_that_fails_leaves_the_other_suites_alone() {
    let text = r#"
[suite.first]
command = [PYTEST]
directory = "a"
setup = ["sh", "-c", "exit 4"]
[suite.second]
command = [PYTEST]
directory = "b"
slot-setup = ["sh", "-c", "true"]
[suite.third]
command = [PYTEST]
directory = "c"
"#;
    let file = "def test_one(): pass\n";
    let suite = configured(
        text,
        &[
            ("a/test_x.py", file),
            ("b/test_x.py", file),
            ("c/test_x.py", file),
        ],
    );
    for slots in ["1", "2", "5"] {
        let ended = run(&suite, &["-j", slots]);
        ended.exits(3).says(&["2 passed"]);
        let told = ended
            .stderr
            .matches("error: the setup of suite first failed")
            .count();
        assert_eq!(told, 1, "{}", ended.stderr);
    }
}

#[test]
fn what_was_being_set_up_when_the_run_was_interrupted_is_torn_down() {
    let suite = configured(HOOKS, &[("test_a.py", LOGS)]);
    let text = suite.read("evenkeel.toml");
    let slow = text.replace("echo setup >> $LOG", "echo setup >> $LOG; sleep 60");
    suite.write("evenkeel.toml", &slow);
    let mut running = suite.start(command(&suite, &["-j", "2"]));
    running.until("the set-up", || suite.read("log").contains("setup\n"));
    running.signal(libc::SIGINT);
    let ended = running.end();
    ended.exits(130);
    assert!(
        suite.read("log").ends_with("teardown\n"),
        "{}",
        suite.read("log")
    );
    assert_eq!(
        suite.read("log").matches("\nsetup").count(),
        0,
        "{}",
        suite.read("log")
    );
    suite.nothing_stays();
}
