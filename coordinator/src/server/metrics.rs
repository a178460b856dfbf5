//! What the coordinator counts. Where nobody has installed a recorder, counting costs next to nothing.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric's name, kind, labels and meaning.
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! metric {
    ($constant:ident, $name:literal, $kind:ident, [$($label:literal),*], $help:literal) => {
        const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };
    };
}

metric!(RUNS, "evenkeel_runs", Gauge, [], "Runs that go on.");
metric!(
    ENDED,
    "evenkeel_runs_ended_total",
    Counter,
    ["verdict"],
    "Runs that ended, by verdict."
);
metric!(
    AGENTS,
    "evenkeel_agents",
    Gauge,
    [],
    "Agents that are connected."
);
metric!(
    SLOTS,
    "evenkeel_slots",
    Gauge,
    ["state"],
    "Slots of connected agents: free, or serving a run."
);
metric!(
    LOST,
    "evenkeel_agents_lost_total",
    Counter,
    [],
    "Agents that were given up."
);
metric!(
    REFUSED,
    "evenkeel_agents_refused_total",
    Counter,
    [],
    "Sessions that ended because of what an agent sent."
);
metric!(
    LEASES,
    "evenkeel_leases_total",
    Counter,
    [],
    "Leases that were given."
);
metric!(
    RESULTS,
    "evenkeel_results_total",
    Counter,
    [],
    "Results of tests that were accepted."
);
metric!(
    ROWS,
    "evenkeel_ledger_rows_total",
    Counter,
    [],
    "Rows of ledgers that became durable."
);
metric!(
    APPEND,
    "evenkeel_append_seconds",
    Histogram,
    [],
    "How long an append to a ledger takes until it is durable."
);
metric!(
    WATCHERS,
    "evenkeel_watchers_dropped_total",
    Counter,
    [],
    "Watchers that were cut off because they did not keep up."
);

/// All of them, as docs/operations.md has them.
pub const ALL: [&Metric; 11] = [
    &RUNS, &ENDED, &AGENTS, &SLOTS, &LOST, &REFUSED, &LEASES, &RESULTS, &ROWS, &APPEND, &WATCHERS,
];

/// Tells the recorder what they mean.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
}

pub(super) fn runs(count: usize) {
    gauge!(RUNS.name).set(count as f64);
}

pub(super) fn run_ended(verdict: &str) {
    counter!(ENDED.name, "verdict" => verdict.to_owned()).increment(1);
}

pub(super) fn agents(connected: usize, free: usize, serving: usize) {
    gauge!(AGENTS.name).set(connected as f64);
    gauge!(SLOTS.name, "state" => "free").set(free as f64);
    gauge!(SLOTS.name, "state" => "serving").set(serving as f64);
}

pub(super) fn agent_lost() {
    counter!(LOST.name).increment(1);
}

pub(super) fn agent_refused() {
    counter!(REFUSED.name).increment(1);
}

/// Rows have become durable: what they hold of leases and results.
pub(super) fn stored(rows: u64, leases: u64, results: u64, took: Duration) {
    counter!(ROWS.name).increment(rows);
    counter!(LEASES.name).increment(leases);
    counter!(RESULTS.name).increment(results);
    histogram!(APPEND.name).record(took.as_secs_f64());
}

pub(super) fn watcher_dropped() {
    counter!(WATCHERS.name).increment(1);
}
