//! Several runs on the same agents, agents that come for one run, coordinators that are started again.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use support::serving::{agent, coordinator};
use support::{EVENKEEL, Ended, Running, Suite, named, noop, sound, text};

/// Starts a run of the runner that does nothing, with reports of its own.
fn run<'a>(
    suite: &'a Suite,
    address: &str,
    id: &str,
    more: &[&str],
    words: &[&str],
) -> Running<'a> {
    let mut command = suite.command(EVENKEEL);
    command.args(["run", "--coordinator", address, "--run-id", id]);
    command.args(["--runner", "protocol", "--json", &format!("{id}.json")]);
    command.args(["--events", &format!("{id}.ndjson")]);
    command.args(more).arg("--").args(noop(words));
    suite.start(command)
}

fn finished(suite: &Suite, id: &str) -> usize {
    named(&suite.events_in(&format!("{id}.ndjson")), "test_finished").count()
}

/// Every planned case has exactly one final attempt in the events.
fn each_once(suite: &Suite, id: &str, units: usize, cases: usize) -> Vec<Value> {
    let events = suite.events_in(&format!("{id}.ndjson"));
    let all: BTreeSet<String> = (0..units)
        .flat_map(|unit| (0..cases).map(move |case| format!("unit-{unit}::case-{case}")))
        .collect();
    let finals = named(&events, "test_finished").filter(|event| event["final"] == true);
    let finals: Vec<String> = finals.map(|event| text(&event["id"])).collect();
    assert_eq!(finals.len(), all.len(), "each case is decided once");
    assert_eq!(finals.into_iter().collect::<BTreeSet<_>>(), all);
    let sequences: Vec<u64> = events
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert!(sequences.is_sorted(), "no event comes twice");
    sound(&events);
    events
}

fn leave(running: Running<'_>) -> Ended {
    running.signal(libc::SIGTERM);
    running.end()
}

#[test]
fn a_small_run_is_not_stuck_behind_a_large_one_and_a_gate_comes_first() {
    let suite = Suite::new();
    let (coordinator, address) = coordinator(&suite);
    let agents = ["a", "b"].map(|name| agent(&suite, &address, name, &["--slots", "2"]));
    let mut large = run(
        &suite,
        &address,
        "large",
        &[],
        &["--units", "300", "--cases", "10", "--sleep-us", "5000"],
    );
    large.until("it to be at work", || finished(&suite, "large") > 50);
    let small = run(
        &suite,
        &address,
        "small",
        &[],
        &["--units", "4", "--sleep-us", "2000"],
    );
    small.end().exits(0).says(&["40 passed"]);
    let gate = run(
        &suite,
        &address,
        "gate",
        &["--priority", "10"],
        &["--units", "80", "--cases", "10", "--sleep-us", "4000"],
    );
    gate.end().exits(0).says(&["800 passed"]);
    let before = finished(&suite, "large");
    assert!(before < 3000, "the others did not have to wait for it");
    large.end().exits(0).says(&["3000 passed"]);
    each_once(&suite, "large", 300, 10);
    each_once(&suite, "gate", 80, 10);
    // The gate had all slots for most of its time.
    let events = suite.events_in("gate.ndjson");
    let shards: BTreeSet<String> = named(&events, "test_finished")
        .map(|event| event["shard"].to_string())
        .collect();
    assert_eq!(shards.len(), 4, "the gate gets all four slots");
    for agent in agents {
        leave(agent).exits(0);
    }
    leave(coordinator).exits(0);
    suite.nothing_stays();
}

#[test]
fn a_coordinator_that_is_killed_and_started_again_goes_on() {
    let suite = Suite::new();
    let (mut coordinator_process, address) = coordinator(&suite);
    let agents = ["a", "b"].map(|name| agent(&suite, &address, name, &["--slots", "2"]));
    let mut run = run(
        &suite,
        &address,
        "long",
        &[],
        &[
            "--units",
            "100",
            "--cases",
            "20",
            "--sleep-us",
            "4000",
            "--fail-every",
            "20",
        ],
    );
    for crash in 1..=3 {
        run.until("some more tests", || finished(&suite, "long") > crash * 300);
        coordinator_process.signal(libc::SIGKILL);
        coordinator_process.end();
        (coordinator_process, _) = coordinator(&suite);
    }
    run.end().exits(1).says(&[
        "the coordinator was started again",
        "1900 passed, 100 failed",
    ]);
    let events = each_once(&suite, "long", 100, 20);
    assert_eq!(named(&events, "recovered").count(), 3);
    // Nothing was lost, so nothing was run again.
    assert_eq!(named(&events, "agent_gone").count(), 0);
    for agent in agents {
        leave(agent).exits(0);
    }
    leave(coordinator_process).exits(0);
    suite.nothing_stays();
}

/// Jobs of a matrix: one submits and gates, the others lend their machines to that run; one of them is killed, one is told to
/// go, one comes when it is over.
#[test]
fn a_matrix_of_agents_serves_one_run() {
    let suite = Suite::new();
    let (coordinator, address) = coordinator(&suite);
    let lend = |name: &str| agent(&suite, &address, name, &["--slots", "1", "--run", "ci-77"]);
    let mut early: Vec<Running<'_>> = ["1", "2", "3"].map(&lend).into();
    // Another run is none of theirs.
    let other = run(&suite, &address, "other", &[], &["--units", "1"]);
    let mut run = run(
        &suite,
        &address,
        "ci-77",
        &[],
        &["--units", "120", "--cases", "10", "--sleep-us", "5000"],
    );
    run.until("some tests", || finished(&suite, "ci-77") > 60);
    let late: Vec<Running<'_>> = ["4", "5", "6", "7"].map(&lend).into();
    run.until("more tests", || finished(&suite, "ci-77") > 250);
    early[0].signal(libc::SIGKILL);
    let preempted = early.remove(1);
    leave(preempted).exits(0);
    run.end().exits(0).says(&["agent 1 is lost", "1200 passed"]);
    let events = each_once(&suite, "ci-77", 120, 10);
    let lost: Vec<&Value> = named(&events, "lease_ended")
        .filter(|event| event["reason"] == "lost")
        .collect();
    assert!(!lost.is_empty());
    assert!(lost.iter().all(|event| event["agent"] == "1"));
    let worked: BTreeMap<String, usize> =
        named(&events, "test_finished").fold(BTreeMap::new(), |mut by, event| {
            *by.entry(text(&event["agent"])).or_default() += 1;
            by
        });
    assert_eq!(worked.len(), 7, "{worked:?}");
    early.remove(0).end();
    for agent in early.into_iter().chain(late) {
        agent.end().exits(0).says(&["run ci-77 has ended: green"]);
    }
    lend("8")
        .end()
        .exits(0)
        .says(&["run ci-77 has ended: green"]);
    let standing = agent(&suite, &address, "standing", &["--slots", "1"]);
    other.end().exits(0);
    leave(standing).exits(0);
    agent(
        &suite,
        &address,
        "9",
        &["--run", "never", "--wait", "200ms"],
    )
    .end()
    .exits(3)
    .says(&["no run never came"]);
    leave(coordinator).exits(0);
    suite.nothing_stays();
}

#[test]
fn a_run_may_be_left_watched_shown_and_cancelled() {
    let suite = Suite::new();
    let (coordinator, address) = coordinator(&suite);
    let agent = agent(
        &suite,
        &address,
        "only",
        &["--slots", "2", "--label", "disk=fast"],
    );
    let to = ["--coordinator", &address];
    let detached = suite.evenkeel(
        &[
            &["run"][..],
            &to,
            &[
                "--detach",
                "--run-id",
                "left",
                "--label",
                "disk=fast",
                "--runner",
                "protocol",
                "--",
            ],
            &noop(&["--units", "30", "--sleep-us", "3000", "--fail-every", "10"]),
        ]
        .concat(),
    );
    detached.exits(0);
    assert_eq!(detached.stdout, "left\n");
    let listed = suite.evenkeel(&[&["runs"][..], &to].concat());
    assert!(
        listed.stdout.contains("left") && listed.stdout.contains("running"),
        "{}",
        listed.stdout
    );
    // Submitted again, it is the same run; with other suites it is refused.
    let other = [
        &["run"][..],
        &to,
        &["--run-id", "left", "--runner", "protocol", "--"],
        &noop(&["--units", "1"]),
    ];
    suite
        .evenkeel(&other.concat())
        .exits(2)
        .says(&["left is running with other suites"]);
    let watch = [
        &["watch", "left"][..],
        &to,
        &["--events", "left.ndjson", "--json", "left.json"],
    ];
    suite
        .evenkeel(&watch.concat())
        .exits(1)
        .says(&["270 passed, 30 failed", "case-9"]);
    each_once(&suite, "left", 30, 10);
    // Who comes when it is over sees the same.
    let printed = "evenkeel reproduce left --shard 1/2 --until ";
    let place = format!(" --coordinator {}", to[1]);
    suite
        .evenkeel(&[&["watch", "left"][..], &to].concat())
        .exits(1)
        .says(&["270 passed, 30 failed", printed, &place]);
    let shown = suite.evenkeel(&[&["show", "left"][..], &to].concat());
    shown.exits(0);
    assert!(
        shown.stdout.contains("270 passed, 30 failed"),
        "{}",
        shown.stdout
    );
    suite
        .evenkeel(&[&["reproduce", "left"][..], &to, &["--shard", "1/2"]].concat())
        .says(&["left, shard 1/2 again"]);
    let unserved = [
        &["run"][..],
        &to,
        &[
            "--detach",
            "--run-id",
            "gone",
            "--label",
            "disk=slow",
            "--runner",
            "protocol",
            "--",
        ],
        &noop(&[]),
    ];
    suite.evenkeel(&unserved.concat()).exits(0);
    suite
        .evenkeel(&[&["cancel", "gone"][..], &to, &["--grace", "100ms"]].concat())
        .exits(0);
    suite
        .evenkeel(&[&["watch", "gone"][..], &to].concat())
        .exits(130)
        .says(&["cancelled"]);
    suite
        .evenkeel(&[&["watch", "unheard-of"][..], &to].concat())
        .exits(2)
        .says(&["knows no run"]);
    leave(agent).exits(0);
    leave(coordinator).exits(0);
    suite.nothing_stays();
}

#[test]
fn a_second_coordinator_on_a_store_ends_the_first() {
    let suite = Suite::new();
    let (first, _) = coordinator(&suite);
    let mut command = suite.command(EVENKEEL);
    command.args([
        "coordinator",
        "--listen",
        "127.0.0.1:0",
        "--state",
        ".evenkeel",
    ]);
    let second = suite.start(command);
    first
        .end()
        .exits(3)
        .says(&["this coordinator stops", "has taken over the store"]);
    assert!(support::is_alive(second.pid()));
    leave(second).exits(0);
    suite.nothing_stays();
}

/// An agent that is stopped for a while is lost, and what it says when it goes on is evidence.
#[test]
fn a_stopped_agent_comes_back_too_late() {
    let suite = Suite::new();
    let address = format!("unix:{}", suite.root.join("socket").display());
    let mut command = suite.command(EVENKEEL);
    command.args(["coordinator", "--listen", &address, "--state", ".evenkeel"]);
    command.args(["--lost-after", "1s"]);
    let mut coordinator = suite.start(command);
    let out = coordinator.stdout_path();
    coordinator.until("the coordinator to listen", || {
        std::fs::read_to_string(&out).unwrap().contains("listening")
    });
    let sleepy = agent(&suite, &address, "sleepy", &["--slots", "1"]);
    let awake = agent(&suite, &address, "awake", &["--slots", "1"]);
    let mut run = run(
        &suite,
        &address,
        "nap",
        &[],
        &["--units", "60", "--cases", "10", "--sleep-us", "8000"],
    );
    run.until("some tests", || finished(&suite, "nap") > 40);
    sleepy.signal(libc::SIGSTOP);
    run.until("the loss", || {
        named(&suite.events_in("nap.ndjson"), "agent_gone").count() == 1
    });
    sleepy.signal(libc::SIGCONT);
    run.until("its return", || {
        named(&suite.events_in("nap.ndjson"), "agent_joined").count() == 3
    });
    run.end().exits(0).says(&["600 passed"]);
    each_once(&suite, "nap", 60, 10);
    for agent in [sleepy, awake] {
        leave(agent).exits(0);
    }
    leave(coordinator).exits(0);
    assert!(support::holds(Duration::from_secs(5), || suite
        .processes()
        .is_empty()));
}
