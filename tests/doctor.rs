//! `evenkeel doctor` says what would be wrong or slow, and a shell can complete the command line.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::*;

fn doctor(suite: &Suite, words: &[&str]) -> Ended {
    suite.evenkeel(&[&["doctor", "--color", "never"], words].concat())
}

/// Standard output has a line with this mark and these words.
#[track_caller]
fn finds(ended: &Ended, mark: &str, words: &str) {
    let mut lines = ended.stdout.lines();
    let found = lines.any(|line| line.trim_start().starts_with(mark) && line.contains(words));
    assert!(found, "no {mark} with {words:?} in:\n{}", ended.stdout);
}

#[test]
fn a_suite_that_works_is_told_from_one_that_does_not() {
    let suite = Suite::with(&[("test_a.py", "def test_one(): pass\n")]);
    let good = format!(
        "[suite.unit]\ncommand = [{:?}, \"-m\", \"pytest\"]\n",
        python()
    );
    suite.write("evenkeel.toml", &good);
    let ended = doctor(&suite, &[]);
    ended.exits(0);
    finds(&ended, "ok", "pytest ");
    finds(&ended, "warning", "no durations are recorded");
    assert!(
        ended.stdout.ends_with("0 errors, 1 warning\n"),
        "{}",
        ended.stdout
    );

    let missing = good.replace(python(), "/no/such/python");
    suite.write("evenkeel.toml", &missing);
    let ended = doctor(&suite, &[]);
    ended.exits(2);
    finds(&ended, "error", "cannot be started");

    let without = good.replace(
        "pytest\"]",
        "pytest\"]\nenvironment = { PYTHONPATH = \"broken\" }",
    );
    suite.write("evenkeel.toml", &without);
    suite.write("broken/pytest.py", "raise SystemExit('no pytest here')\n");
    let ended = doctor(&suite, &[]);
    ended.exits(2);
    finds(&ended, "error", "fails: no pytest here");

    suite.write("evenkeel.toml", &format!("{good}slotz = 3\n"));
    let ended = doctor(&suite, &[]);
    ended.exits(2);
    finds(&ended, "error", "line 3: `slotz = 3`");

    let ended = doctor(
        &suite,
        &[
            "--runner",
            "command",
            "--",
            "no-such-tool",
            "{junit}",
            "{units}",
        ],
    );
    ended.exits(2);
}

#[test]
fn what_makes_a_run_slow_is_named() {
    let suite = Suite::with(&[
        (
            "test_long.py",
            "import time\ndef test_long(): time.sleep(1)\n",
        ),
        (
            "test_db1.py",
            "import time\ndef test_one(): time.sleep(0.6)\ndef test_two(): time.sleep(0.6)\n",
        ),
        (
            "test_load.py",
            "import time\ntime.sleep(1.5)\ndef test_one(): pass\n",
        ),
    ]);
    let text = format!(
        "slots = 8\n[suite.unit]\ncommand = [{:?}, \"-m\", \"pytest\"]\n[[suite.unit.override]]\nunits = [\"test_db*\"]\nlocks = [\"database\"]\n",
        python()
    );
    suite.write("evenkeel.toml", &text);
    suite.evenkeel(&["run"]).exits(0);
    let ended = doctor(&suite, &[]);
    ended.exits(0);
    finds(&ended, "ok", "3 units took");
    finds(&ended, "ok", "on 8 slots");
    finds(
        &ended,
        "warning",
        "test_long.py::test_long alone takes 1.0 s",
    );
    finds(&ended, "warning", "is for loading units");
    finds(
        &ended,
        "warning",
        "what needs the lock database takes 1.2 s",
    );
}

#[test]
fn a_damaged_ledger_is_found() {
    let suite = Suite::new();
    suite.noop(&[], &["--units", "2"]).exits(0);
    finds(&doctor(&suite, &[]), "ok", "1 run recorded");
    suite.query("UPDATE ledger SET payload = x'00' WHERE sequence = 2");
    let ended = doctor(&suite, &[]);
    ended.exits(2);
    finds(&ended, "error", "the ledger of run");
    suite.write("kept", "");
    doctor(&suite, &["--state", "kept/here"]).exits(2);
}

#[test]
fn shells_get_completions_that_they_can_read() {
    let suite = Suite::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = suite.evenkeel(&["completions", shell]);
        ended.exits(0);
        assert!(ended.stdout.contains("reproduce"), "{shell}");
        suite.write(shell, &ended.stdout);
    }
    let script = "source ./bash; COMP_WORDS=(evenkeel run --ev); COMP_CWORD=2; _evenkeel evenkeel --ev run; echo ${COMPREPLY[@]}";
    let mut bash = suite.command("bash");
    bash.args(["-c", script]);
    let completed = suite.start(bash).end();
    completed.exits(0);
    assert_eq!(completed.stdout.trim(), "--events");
}
