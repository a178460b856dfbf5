//! A test that stands still on one slot is run on another one, too, where its suite allows that.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::time::{Duration, Instant};
use support::configured::{command, configured, run};
use support::{EVENKEEL, Running, Suite, here, named, python, text};

/// What stands still does so for a minute: who waits for it does not come near this.
const SOON: Duration = Duration::from_secs(45);

fn sleeping(copies: bool, hang: u32) -> Suite {
    let (python, runner) = (python(), here("support/hangs.py"));
    configured(
        &format!(
            "project = \"p\"\n[suite.unit]\ncommand = [{python:?}, {runner:?}, \"40\", \"0.2\", \"{hang}\", \"ROOT/hang\"]\n\
             runner = \"protocol\"\ncopies = {copies}\n",
        ),
        &[],
    )
}

fn start<'a>(suite: &'a Suite, words: &[&str]) -> Running<'a> {
    let mut command = suite.command(EVENKEEL);
    command.args(words);
    suite.start(command)
}

#[test]
fn with_two_agents_the_run_ends_as_soon_as_the_second_has_run_it() {
    let suite = sleeping(true, 60);
    let mut coordinator = start(
        &suite,
        &[
            "coordinator",
            "--listen",
            "127.0.0.1:0",
            "--state",
            ".evenkeel",
        ],
    );
    let out = coordinator.stdout_path();
    let mut address = String::new();
    coordinator.until("the coordinator's address", || {
        let said = std::fs::read_to_string(&out).unwrap();
        let found = said
            .strip_prefix("listening on ")
            .and_then(|rest| rest.strip_suffix('\n'));
        address = found.unwrap_or_default().to_owned();
        !address.is_empty()
    });
    let agent = |name| {
        start(
            &suite,
            &[
                "agent",
                "--coordinator",
                &address,
                "--name",
                name,
                "--slots",
                "1",
            ],
        )
    };
    let agents = ["port", "starboard"].map(agent);
    let options = ["--coordinator", &address];
    run(&suite, &options).exits(0);
    // A history tells what each should take.
    suite.write("hang", "");
    let before = Instant::now();
    let ended = run(&suite, &options);
    ended.exits(0).says(&[
        "40 passed",
        "1 copy of what took too long ran, 1 ended first",
    ]);
    assert!(before.elapsed() < SOON, "{:?}", before.elapsed());

    let copies = &suite.report().0["schedule"]["copies"];
    assert_eq!(
        (&copies["given"], &copies["won"]),
        (&1.into(), &1.into()),
        "{copies}"
    );
    let events = suite.events();
    let copy = named(&events, "leased")
        .find(|event| !event["copy_of"].is_null())
        .unwrap();
    assert_eq!(text(&copy["unit"]), "unit-0");
    let first = named(&events, "leased")
        .find(|event| event["lease"] == copy["copy_of"])
        .unwrap();
    assert_ne!(first["agent"], copy["agent"]);
    let cancelled: Vec<_> = named(&events, "lease_ended")
        .filter(|event| event["reason"] == "cancelled")
        .collect();
    assert_eq!(cancelled.len(), 1);
    assert_eq!(cancelled[0]["lease"], first["lease"]);
    let decided = named(&events, "test_finished").filter(|event| event["id"] == "unit-0::test");
    assert_eq!(decided.count(), 1);
    // Both agents are there for the next run, which has nothing of this one about it.
    run(&suite, &options).exits(0).says(&["40 passed"]);
    assert_eq!(suite.report().0["schedule"]["copies"]["given"], 0);
    for running in agents.iter().chain([&coordinator]) {
        running.signal(libc::SIGTERM);
    }
}

#[test]
fn a_suite_that_says_nothing_of_it_waits() {
    let suite = sleeping(false, 6);
    run(&suite, &["--slots", "3"]).exits(0);
    suite.write("hang", "");
    let before = Instant::now();
    run(&suite, &["--slots", "3"]).exits(0).says(&["40 passed"]);
    assert!(before.elapsed() > Duration::from_secs(6));
    assert_eq!(suite.report().0["schedule"]["copies"]["given"], 0);
}

#[test]
fn a_warm_process_is_ended_in_the_middle_of_a_test() {
    const SLOW: &str = "\
import os, time, pytest

def stands_still():
    try:
        os.unlink('hang')
    except FileNotFoundError:
        return False
    return True

def test_it():
    time.sleep(60 if stands_still() else 0.3)
";
    const QUICK: &str = "\
import time, pytest

@pytest.mark.parametrize('number', range(6))
def test_quick(number):
    time.sleep(0.3)
";
    let quick: Vec<String> = (0..8)
        .map(|number| format!("test_quick{number}.py"))
        .collect();
    let files: Vec<(&str, &str)> = quick
        .iter()
        .map(|name| (name.as_str(), QUICK))
        .chain([("test_slow.py", SLOW)])
        .collect();
    let suite = configured("[suite.unit]\ncommand = [PYTEST]\ncopies = true\n", &files);
    run(&suite, &["--slots", "3"]).exits(0);
    suite.write("hang", "");
    let before = Instant::now();
    let ended = suite.start(command(&suite, &["--slots", "3"])).end();
    ended.exits(0).says(&[
        "49 passed",
        "1 copy of what took too long ran, 1 ended first",
    ]);
    assert!(before.elapsed() < SOON, "{:?}", before.elapsed());
    let copies = &suite.report().0["schedule"]["copies"];
    assert_eq!(copies["won"], 1, "{copies}");
    suite.nothing_stays();
}
