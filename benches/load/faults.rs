//! What faults cost, on real agents and the runner that does nothing: how soon a death is noticed, how soon a coordinator that is started
//! again gives leases.

use super::coordinator::Coordinator;
use super::{EVENKEEL, row};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that is ended with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(directory: &Path, words: &[&str]) -> Ended {
    let mut command = Command::new(EVENKEEL);
    command.args(words).current_dir(directory);
    let silent = [Stdio::null(), Stdio::null(), Stdio::null()];
    let [input, output, errors] = silent;
    let child = command.stdin(input).stdout(output).stderr(errors).spawn();
    Ended(child.expect("the binary starts"))
}

fn agent(directory: &Path, address: &str, name: &str) -> Ended {
    let words = [
        "agent",
        "--coordinator",
        address,
        "--slots",
        "2",
        "--name",
        name,
    ];
    start(directory, &words)
}

struct Run {
    process: Ended,
    events: PathBuf,
}

impl Run {
    fn start(directory: &Path, address: &str, id: &str, noop: &[&str]) -> Run {
        let events = directory.join(format!("{id}.ndjson"));
        let file = events.to_string_lossy().into_owned();
        let options = [
            "run",
            "--coordinator",
            address,
            "--run-id",
            id,
            "--events",
            &file,
        ];
        let command = ["--runner", "protocol", "--", EVENKEEL, "noop-runner"];
        let words = [&options[..], &command, noop].concat();
        Run {
            process: start(directory, &words),
            events,
        }
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        let lines = text.lines().map(serde_json::from_str);
        lines.map_while(Result::ok).collect()
    }

    /// Waits until the events, as text, say so: reading them as JSON would take longer than what is measured.
    fn until(&self, said: impl Fn(&str) -> bool) {
        let by = Instant::now() + Duration::from_secs(120);
        while !said(&std::fs::read_to_string(&self.events).unwrap_or_default()) {
            assert!(Instant::now() < by, "it never came");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(mut self) -> Vec<Value> {
        let status = self.process.0.wait().expect("it ends");
        assert!(status.success(), "the run is not green: {status}");
        self.events()
    }
}

fn count(events: &[Value], name: &str) -> usize {
    events.iter().filter(|event| event["event"] == name).count()
}

fn mentions(text: &str, name: &str) -> usize {
    text.matches(&format!("\"event\":\"{name}\"")).count()
}

fn makespan(events: &[Value]) -> f64 {
    let closed = events.last().expect("a run has events");
    closed["makespan_s"].as_f64().unwrap_or_default()
}

/// An agent is killed and another one takes its place at once.
pub fn death() {
    let coordinator = Coordinator::start(None);
    let (directory, address) = (coordinator.state.clone(), coordinator.address.clone());
    let noop = ["--units", "400", "--cases", "10", "--sleep-us", "5000"];
    let _stays = agent(&directory, &address, "stays");
    let mut dies = agent(&directory, &address, "dies");
    let undisturbed = makespan(&Run::start(&directory, &address, "whole", &noop).end());
    let run = Run::start(&directory, &address, "death", &noop);
    run.until(|text| mentions(text, "test_finished") > 1000);
    dies.0.kill().expect("it runs");
    let killed = Instant::now();
    let _replaces = agent(&directory, &address, "replaces");
    run.until(|text| mentions(text, "agent_gone") == 1);
    let noticed = killed.elapsed();
    let events = run.end();
    row(
        "an agent's death is noticed after",
        &format!("{:.2} s", noticed.as_secs_f64()),
        "5.5 s",
        &format!(
            "a run of {undisturbed:.1} s took {:.1} s, the agent replaced at once",
            makespan(&events)
        ),
    );
}

/// The coordinator is killed in a run of 100,000 cases, and started again.
pub fn restart() {
    let mut coordinator = Coordinator::start(None);
    let (directory, address) = (coordinator.state.clone(), coordinator.address.clone());
    let _agents = ["a", "b"].map(|name| agent(&directory, &address, name));
    let noop = ["--units", "2000", "--cases", "50", "--sleep-us", "300"];
    let run = Run::start(&directory, &address, "restart", &noop);
    run.until(|text| mentions(text, "test_finished") > 50_000);
    coordinator.kill();
    let begun = coordinator.start_again();
    let leases = |text: &str| {
        let recovered = text.find("\"event\":\"recovered\"");
        recovered.is_some_and(|at| mentions(&text[at..], "leased") > 0)
    };
    run.until(leases);
    let leasing = begun.elapsed();
    let events = run.end();
    let finals = events
        .iter()
        .filter(|event| event["event"] == "test_finished" && event["final"] == true)
        .count();
    assert_eq!(finals, 100_000, "each case is decided once");
    row(
        "leasing again after a restart, 100,000 cases",
        &format!("{:.2} s", leasing.as_secs_f64()),
        "2 s",
        &format!(
            "half of them on record; {} attempts in all",
            count(&events, "test_finished")
        ),
    );
}
