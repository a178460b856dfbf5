//! What a run costs while it waits for a slow test.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::fs;
use std::time::{Duration, Instant};
use support::{EVENKEEL, Suite};

/// Clock ticks of processor time that a process has had: its own, user and system.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit_once(") ")
        .map_or(Vec::new(), |(_, rest)| rest.split(' ').collect());
    fields.get(11..13).map_or(0, |times| {
        times.iter().map(|time| time.parse::<u64>().unwrap()).sum()
    })
}

#[test]
fn waiting_for_a_slow_test_costs_next_to_nothing() {
    let suite = Suite::with(&[
        (
            "test_slow.py",
            "import time\ndef test_slow():\n    open('ready', 'w').close()\n    time.sleep(3.5)\n",
        ),
        ("test_quick.py", "def test_quick(): pass\n"),
    ]);
    let mut run = suite.start_pytest(&["-j", "2"], &[]);
    run.until("the slow test", || suite.root.join("ready").exists());
    // evenkeel and its guards, not the Pythons.
    let ours: Vec<i32> = suite
        .processes()
        .into_iter()
        .filter(|(_, words)| words.starts_with(EVENKEEL))
        .map(|(pid, _)| pid)
        .collect();
    assert!(
        ours.contains(&run.pid()) && ours.len() >= 2,
        "{:?}",
        suite.processes()
    );
    let settled = Instant::now() + Duration::from_millis(700);
    let measured = settled + Duration::from_secs(2);
    let at = |when: Instant| {
        std::thread::sleep(when.saturating_duration_since(Instant::now())); // time is what is measured here
        ours.iter().map(|pid| ticks(*pid)).sum::<u64>()
    };
    let (before, after) = (at(settled), at(measured));
    run.end().exits(0);
    // A tick is a hundredth of a second.
    assert!(
        after - before <= 2,
        "{} ticks in two seconds",
        after - before
    );
}
