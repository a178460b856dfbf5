//! A coordinator and agents as processes of their own.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use support::serving::coordinator_at as coordinator;
use support::{EVENKEEL, Running, Suite, named, noop, pytest, serving, sound, text};

fn agent<'a>(suite: &'a Suite, address: &str, name: &str, slots: &str) -> Running<'a> {
    serving::agent(suite, address, name, &["--slots", slots])
}

/// Each case of the noop runner has exactly one final attempt in the events and one line in the report.
fn each_has_one_verdict(suite: &Suite, events: &[Value], units: usize, cases: usize) {
    let all: BTreeSet<String> = (0..units)
        .flat_map(|unit| (0..cases).map(move |case| format!("unit-{unit}::case-{case}")))
        .collect();
    let finished: Vec<String> = named(events, "test_finished")
        .filter(|event| event["final"] == true)
        .map(|event| text(&event["id"]))
        .collect();
    assert_eq!(finished.len(), all.len());
    assert_eq!(finished.into_iter().collect::<BTreeSet<_>>(), all);
    assert_eq!(
        suite
            .report()
            .outcomes()
            .into_keys()
            .collect::<BTreeSet<_>>(),
        all
    );
}

#[test]
fn an_agent_that_is_killed_costs_no_verdict() {
    let suite = Suite::new();
    let (coordinator, address) = coordinator(&suite, "127.0.0.1:0");
    let agents = ["port", "starboard"].map(|name| agent(&suite, &address, name, "2"));
    let mut run = suite.start_noop(
        &["--coordinator", &address],
        &["--units", "50", "--cases", "20", "--sleep-us", "4000"],
    );
    run.until("a third of the tests", || {
        named(&suite.events(), "test_finished").count() > 300
    });
    agents[0].signal(libc::SIGKILL);
    run.end()
        .exits(0)
        .says(&["agent port is lost", "1000 passed"]);

    let events = suite.events();
    each_has_one_verdict(&suite, &events, 50, 20);
    sound(&events);
    let lost: Vec<&Value> = named(&events, "lease_ended")
        .filter(|event| event["reason"] == "lost")
        .collect();
    assert!(!lost.is_empty());
    for lease in lost {
        assert_eq!(lease["agent"], "port");
        let moved = named(&events, "leased").any(|event| {
            event["unit"] == lease["unit"]
                && event["agent"] == "starboard"
                && event["lease"].as_u64() > lease["lease"].as_u64()
        });
        assert!(moved, "{lease}");
    }
    assert!(
        named(&events, "agent_gone").any(|event| event["agent"] == "port" && event["lost"] == true)
    );

    // The processes of the lost agent went with it; the others go when they are told.
    run_down(&suite, [&agents[1], &coordinator]);
    suite.nothing_stays();
}

/// Asks in order, and waits until all are gone.
fn run_down(suite: &Suite, running: [&Running<'_>; 2]) {
    running
        .iter()
        .for_each(|running| running.signal(libc::SIGTERM));
    let gone = || {
        running
            .iter()
            .all(|running| !support::is_alive(running.pid()))
    };
    assert!(
        support::holds(std::time::Duration::from_secs(10), gone),
        "{:?}",
        suite.processes()
    );
}

#[test]
fn two_runs_at_the_same_time_and_one_after_them_over_a_unix_socket() {
    let suite = Suite::with(&[(
        "test_it.py",
        // How many slots it has when its first process starts depends on what the other run needs by then.
        "import os\ndef test_ok(): assert 0 <= int(os.environ['EVENKEEL_SLOT']) < int(os.environ['EVENKEEL_SLOTS']) <= 2\ndef test_bad(): assert False\n",
    )]);
    let address = format!("unix:{}", suite.root.join("socket").display());
    let (coordinator, said) = coordinator(&suite, &address);
    assert_eq!(said, address);
    let agent = agent(&suite, &address, "only", "2");
    let start = |id: &str, command: &[&str], runner: &str| {
        let mut run = suite.command(EVENKEEL);
        run.args([
            "run",
            "--coordinator",
            &address,
            "--runner",
            runner,
            "--run-id",
            id,
        ]);
        run.args([
            "--json",
            &format!("{id}.json"),
            "--events",
            &format!("{id}.ndjson"),
            "--",
        ])
        .args(command);
        suite.start(run)
    };
    let first = start(
        "first",
        &noop(&["--units", "20", "--sleep-us", "2000"]),
        "protocol",
    );
    let second = start("second", &pytest(&[]), "pytest");
    first.end().exits(0).says(&["200 passed"]);
    second
        .end()
        .exits(1)
        .says(&["red: 2 tests: 1 passed, 1 failed"]);
    start("third", &noop(&["--units", "3"]), "protocol")
        .end()
        .exits(0)
        .says(&["30 passed"]);
    let again = [
        "run",
        "--coordinator",
        &address,
        "--run-id",
        "third",
        "--runner",
        "protocol",
        "--",
    ];
    suite
        .evenkeel(&[&again, &noop(&[])[..]].concat())
        .exits(2)
        .says(&["third exists already"]);
    let runs = suite.evenkeel(&["runs"]);
    for (run, verdict) in [("first", "green"), ("second", "red"), ("third", "green")] {
        let line = runs
            .stdout
            .lines()
            .find(|line| line.starts_with(run))
            .unwrap_or_default();
        assert!(line.contains(verdict), "{}", runs.stdout);
    }
    for run in ["first", "second", "third"] {
        let events = suite.events_in(&format!("{run}.ndjson"));
        assert_eq!(events[0]["run"], *run);
        assert_eq!(events.last().unwrap()["event"], "run_closed");
    }
    run_down(&suite, [&agent, &coordinator]);
    assert!(!suite.root.join("socket").exists());
    suite.nothing_stays();
}

#[test]
fn work_waits_for_an_agent_and_an_agent_for_its_coordinator() {
    let suite = Suite::new();
    let address = format!("unix:{}", suite.root.join("socket").display());
    let mut agent = agent(&suite, &address, "early", "1");
    let stderr = agent.stderr_path();
    agent.until("its complaint", || {
        std::fs::read_to_string(&stderr)
            .unwrap()
            .contains("trying again")
    });
    let (coordinator, _) = coordinator(&suite, &address);
    let run = suite.start_noop(&["--coordinator", &address], &[]);
    run.end().exits(0);
    run_down(&suite, [&agent, &coordinator]);
    suite.nothing_stays();
}

#[test]
fn an_agent_that_is_told_to_go_gives_back_what_it_holds() {
    let suite = Suite::new();
    let (coordinator, address) = coordinator(&suite, "127.0.0.1:0");
    let (leaving, staying) = (
        agent(&suite, &address, "leaving", "1"),
        agent(&suite, &address, "staying", "1"),
    );
    let mut run = suite.start_noop(
        &["--coordinator", &address],
        &["--units", "20", "--cases", "20", "--sleep-us", "4000"],
    );
    let mut by_agent: BTreeMap<String, usize> = BTreeMap::new();
    run.until("both at work", || {
        by_agent.clear();
        let events = suite.events();
        named(&events, "test_finished")
            .for_each(|event| *by_agent.entry(text(&event["agent"])).or_default() += 1);
        by_agent.len() == 2
    });
    leaving.signal(libc::SIGTERM);
    leaving.end().exits(0);
    run.end().exits(0);
    each_has_one_verdict(&suite, &suite.events(), 20, 20);
    run_down(&suite, [&staying, &coordinator]);
    suite.nothing_stays();
}

#[test]
fn a_run_that_has_lost_its_only_agent_goes_on_with_the_next() {
    let suite = Suite::new();
    let (coordinator, address) = coordinator(&suite, "127.0.0.1:0");
    let first = agent(&suite, &address, "first", "1");
    let mut run = suite.start_noop(
        &["--coordinator", &address],
        &["--units", "10", "--cases", "10", "--sleep-us", "5000"],
    );
    run.until("some tests", || {
        named(&suite.events(), "test_finished").count() > 15
    });
    first.signal(libc::SIGKILL);
    let stderr = run.stderr_path();
    run.until("the loss", || {
        std::fs::read_to_string(&stderr)
            .unwrap()
            .contains("no agent is left")
    });
    let second = agent(&suite, &address, "second", "2");
    run.end().exits(0);
    let events = suite.events();
    each_has_one_verdict(&suite, &events, 10, 10);
    sound(&events);
    run_down(&suite, [&second, &coordinator]);
    suite.nothing_stays();
}

#[test]
fn beyond_this_machine_everything_is_refused() {
    let suite = Suite::new();
    let run = [
        &[
            "run",
            "--coordinator",
            "10.0.0.1:7450",
            "--runner",
            "protocol",
            "--",
        ],
        &noop(&[])[..],
    ]
    .concat();
    for words in [
        &["coordinator", "--listen", "0.0.0.0:0"][..],
        &["coordinator", "--listen", "[::]:0"],
        &["agent", "--coordinator", "192.0.2.1:7450"],
        &run,
    ] {
        suite.evenkeel(words).exits(2).says(&[
            "can be reached from other machines",
            "hint: use a loopback address",
            "--insecure",
        ]);
    }
    suite
        .evenkeel(&["coordinator", "--listen", "nonsense"])
        .exits(2)
        .says(&["is no address"]);
    let nobody = [
        &[
            "run",
            "--coordinator",
            "127.0.0.1:1",
            "--give-up-after",
            "1s",
            "--runner",
            "protocol",
            "--",
        ],
        &noop(&[])[..],
    ]
    .concat();
    suite
        .evenkeel(&nobody)
        .exits(3)
        .says(&["no coordinator answers at 127.0.0.1:1"]);
    suite.nothing_stays();
}

/// A coordinator that dies under a run and does not come back: the run's verdict is not known, so it is not green.
#[test]
fn a_coordinator_that_does_not_come_back_is_no_verdict() {
    let suite = Suite::new();
    let (coordinator, address) = coordinator(&suite, "127.0.0.1:0");
    let agent = serving::agent(
        &suite,
        &address,
        "only",
        &["--slots", "1", "--give-up-after", "1s"],
    );
    let mut run = suite.start_noop(
        &["--coordinator", &address, "--give-up-after", "1s"],
        &["--units", "50", "--sleep-us", "10000"],
    );
    run.until("some tests", || {
        named(&suite.events(), "test_finished").count() > 3
    });
    coordinator.signal(libc::SIGKILL);
    run.end().exits(3).says(&["the coordinator is gone"]);
    agent
        .end()
        .exits(3)
        .says(&["what it holds goes on", "no coordinator answers"]);
    suite.nothing_stays();
}
