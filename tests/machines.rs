//! Runs in earnest on machines that are not alike, and what a simulation of the same comes to.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::Value;
use std::time::Duration;
use support::measured::{close, measured, sleeping_files};
use support::serving::{agent, agent_in, coordinator};
use support::{EVENKEEL, Running, Suite, named};

const FILES: usize = 24;
const TESTS: usize = 20;

/// Machines of two slots, the last of which has these variables.
fn machines<'a>(suite: &'a Suite, address: &str, last: &[(&str, &str)]) -> Vec<Running<'a>> {
    let slots = ["--slots", "2"];
    let others = (0..3).map(|machine| agent(suite, address, &format!("m{machine}"), &slots));
    let mut all: Vec<Running<'a>> = others.collect();
    all.push(agent_in(suite, address, "last", &slots, last));
    all
}

fn start<'a>(suite: &'a Suite, address: &str, id: &str) -> Running<'a> {
    suite.start_pytest(&["--coordinator", address, "--run-id", id], &[])
}

/// Of the last run.
fn schedule(suite: &Suite) -> Value {
    suite.report().0["schedule"].clone()
}

/// The makespan of a simulation of the last run, and its own, on the machines that it had.
fn both(suite: &Suite, address: &str, id: &str) -> (f64, f64) {
    let mut command = suite.command(EVENKEEL);
    command.args(["simulate", id, "--coordinator", address]);
    command.args(["--slots", "8", "--format", "json"]);
    let ended = suite.start(command).end();
    let simulated: Value = serde_json::from_str(&ended.exits(0).stdout).unwrap();
    let simulated = simulated["points"][0]["makespan_s"].as_f64().unwrap();
    (simulated, schedule(suite)["makespan_s"].as_f64().unwrap())
}

fn suite() -> Suite {
    let suite = Suite::new();
    for (path, text) in sleeping_files(FILES as u64, TESTS as u64) {
        suite.write(&path, &text);
    }
    suite
}

/// One machine takes three times as long for everything.
#[test]
fn a_throttled_machine_costs_what_the_simulation_says() {
    let suite = suite();
    let (_coordinator, address) = coordinator(&suite);
    let _machines = machines(&suite, &address, &[("SLOWER", "3")]);
    let mut tries = 0;
    measured(|| {
        tries += 1;
        let id = format!("throttled-{tries}");
        start(&suite, &address, &id).end().exits(0);
        let (simulated, real) = both(&suite, &address, &id);
        close(simulated, real, 0.05 * real)?;
        let lost = schedule(&suite)["lost"].clone();
        let agents = lost.as_array().unwrap().iter();
        let named = agents.filter(|lost| lost["cause"] == "agents" && lost["what"] == "last");
        (named.count() == 1).then_some(()).ok_or(format!("{lost}"))
    });
}

/// A machine is killed when most is done; what it had is run by the others once they are sure that it is gone.
#[test]
fn a_machine_that_is_killed_costs_what_the_simulation_says() {
    let suite = suite();
    let (_coordinator, address) = coordinator(&suite);
    let mut machines = machines(&suite, &address, &[]);
    let mut tries = 0;
    let mut victim = "last".to_owned();
    measured(|| {
        tries += 1;
        // It has come by then, where it comes at all in time for the run.
        std::thread::sleep(Duration::from_secs(1));
        let id = format!("killed-{tries}");
        let mut run = start(&suite, &address, &id);
        let finished = |suite: &Suite| -> Vec<Value> {
            let events = suite.events();
            named(&events, "test_finished").cloned().collect()
        };
        run.until("four fifths of the tests", || {
            finished(&suite).len() >= FILES * TESTS * 4 / 5
        });
        machines.pop().unwrap().signal(libc::SIGKILL);
        run.end().exits(0);
        let had = finished(&suite)
            .iter()
            .any(|event| event["agent"] == *victim);
        let late = format!("{victim} came too late");
        victim = format!("spare-{tries}");
        machines.push(agent(&suite, &address, &victim, &["--slots", "2"]));
        if !had {
            return Err(late);
        }
        let (simulated, real) = both(&suite, &address, &id);
        close(simulated, real, 0.05 * real)
    });
}
