//! Plugins that repeat or end a test.

use crate::support::{named, table, text};
use crate::trial::{Seen, trial};

#[test]
fn reruns_are_one_verdict() {
    let reruns = trial("reruns", &["rerunfailures"]).with(&["--reruns", "2"]);
    let [plain, one, two] = reruns.alike();
    assert_eq!(plain.count("rerun"), 9);
    for seen in [&one, &two] {
        let expected = table(&[
            ("test_reruns.py::test_second_try", "passed"),
            ("test_reruns.py::test_third_try", "passed"),
            ("test_reruns.py::test_never", "failed"),
            ("test_reruns.py::test_set_up_at_the_second_try", "passed"),
            ("test_reruns.py::test_without_reruns", "failed"),
            ("test_reruns.py::test_only_some_errors", "failed"),
            ("test_reruns.py::test_condition", "failed"),
            ("test_reruns.py::test_expected", "skipped"),
            ("test_reruns.py::test_passes", "passed"),
            ("test_scopes.py::test_first", "passed"),
            ("test_scopes.py::test_set_up_anew", "failed"),
            ("test_scopes.py::TestGroup::test_in_class", "passed"),
        ]);
        assert_eq!(seen.outcomes(), expected);
        let never = "test_reruns.py::test_never";
        seen.report().blames(never, "failed", &["try 3"]);
    }
    failures_that_were_taken_back(&two);

    // Where xdist is there, the plugin would look for a server that its controller runs.
    let with_xdist = trial("reruns", &["xdist", "rerunfailures"]).with(&["--reruns", "2"]);
    with_xdist.slots(2).equals(&plain, "with xdist");
}

/// That a test was tried again is not lost: each failure that was taken back stands in its output.
fn failures_that_were_taken_back(seen: &Seen) {
    let report = seen.report();
    for (test, tries) in [
        ("second_try", 2),
        ("third_try", 3),
        ("never", 3),
        ("set_up_at_the_second_try", 2),
        ("passes", 1),
    ] {
        let test = report.test(&format!("test_reruns.py::test_{test}"));
        let outputs = test["output"].as_array().cloned().unwrap_or_default();
        let again: Vec<_> = outputs
            .iter()
            .filter(|output| text(&output["name"]).starts_with("rerun "))
            .collect();
        assert_eq!(again.len() + 1, tries, "{test:#}");
        let told = |output: &&serde_json::Value| text(&output["text"]).contains("test_reruns.py:");
        assert!(again.iter().all(told), "{test:#}");
    }
}

#[test]
fn flaky() {
    let [_, _, two] = trial("flaky", &["flaky"]).alike();
    assert_eq!(
        two.outcomes()["test_one.py::test_passes_twice_of_three"],
        "passed"
    );
}

#[test]
fn retries() {
    let retries = trial("zoo", &["xdist", "pytest-retry"]).with(&["--retries", "1"]);
    let [plain, _, _] = retries.alike();
    assert_eq!(plain.count("retried"), 4);
}

#[test]
fn timeouts_by_signal() {
    let timeout = trial("timeout", &["timeout"]).with(&["test_signal.py", "--timeout=30"]);
    let [_, one, two] = timeout.alike();
    for seen in [one, two] {
        let report = seen.report();
        report.blames(
            "test_signal.py::test_hangs",
            "failed",
            &["Timeout (>0.3s) from pytest-timeout"],
        );
        report.blames(
            "test_signal.py::test_set_up_hangs",
            "error",
            &["Timeout (>0.3s) from pytest-timeout"],
        );
    }
}

/// Plain pytest ends with the process that the plugin ends. Here the rest runs in a new one, as under pytest-xdist. That is no
/// failure that another plugin could run again.
#[test]
fn a_timeout_by_thread_ends_the_process_and_not_the_run() {
    let timeout = trial("timeout", &["timeout", "rerunfailures"]);
    let timeout = timeout.with(&["test_thread.py", "--reruns=2"]);
    timeout.plain().ended.exits(1);
    for slots in [1, 2] {
        let seen = timeout.slots(slots);
        seen.ended.exits(1);
        let expected = table(&[
            ("test_thread.py::test_before", "passed"),
            ("test_thread.py::test_hangs", "error"),
            ("test_thread.py::test_behind", "passed"),
        ]);
        assert_eq!(seen.outcomes(), expected);
        let report = seen.report();
        report.blames(
            "test_thread.py::test_hangs",
            "error",
            &["exited with status 1"],
        );
        let told = report.test("test_thread.py::test_hangs").to_string();
        assert!(
            told.contains("said before it hung") && told.contains("threading.py"),
            "{told}"
        );
        let processes = named(&seen.suite.events(), "process_started").count();
        assert!(processes > 1, "{processes}");
    }
}

#[test]
fn a_session_that_runs_out_of_time_ends_the_run() {
    let timeout =
        trial("timeout", &["timeout"]).with(&["test_session.py", "--session-timeout=0.5"]);
    timeout.plain().ended.exits(1);
    for slots in [1, 2] {
        let seen = timeout.slots(slots);
        let told = [
            "pytest was told to stop after test_session.py",
            "session-timeout",
        ];
        seen.ended.exits(1).says(&told);
        let report = seen.report();
        report.blames("test_session.py::test_some[59]", "not_run", &told);
        assert!((5..50).contains(&report.total("passed")));
    }
}
