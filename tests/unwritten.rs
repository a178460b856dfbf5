//! A coordinator whose disk takes nothing more: who waits for a run is told what its ledger comes to say, and what is lost.
//!
//! Its files may not grow beyond a bound, which a full disk looks like from within; the bound is lifted from outside.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::{EVENKEEL, Running, Suite};

const ADDRESS: &str = "unix:socket";

/// A coordinator with files of at most so many KiB, and an agent.
fn serve<'a>(suite: &'a Suite, most: &str) -> [Running<'a>; 2] {
    let mut command = suite.command("sh");
    // A write beyond the bound is an error, and not the end of the process.
    let script = format!("trap '' XFSZ; ulimit -S -f {most}; exec \"$@\"");
    command.args(["-c", &script, "sh", EVENKEEL, "coordinator"]);
    command.args(["--listen", ADDRESS, "--state", ".evenkeel"]);
    let mut coordinator = suite.start(command);
    let out = coordinator.stdout_path();
    coordinator.until("the coordinator to listen", || {
        std::fs::read_to_string(&out).unwrap().contains("listening")
    });
    let mut agent = suite.command(EVENKEEL);
    agent.args(["agent", "--coordinator", ADDRESS, "--slots", "2"]);
    [coordinator, suite.start(agent)]
}

fn run(suite: &Suite, units: &[&str]) -> support::Ended {
    suite.noop(&["--coordinator", ADDRESS, "--run-id", "r"], units)
}

/// The disk has room again.
fn lift(process: &Running) {
    let pid = process.pid();
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the first call reads into a limit, and the second sets what was read, with more of it.
    let lifted = unsafe {
        let read = libc::prlimit(pid, libc::RLIMIT_FSIZE, std::ptr::null(), &mut limit);
        limit.rlim_cur = limit.rlim_max;
        read | libc::prlimit(pid, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut())
    };
    assert_eq!(lifted, 0, "{}", std::io::Error::last_os_error());
}

/// What the ledger's table says of the run, once it does.
fn recorded(suite: &Suite, process: &mut Running) -> String {
    process.until("the end of the run in its ledger", || {
        !suite
            .query("SELECT verdict FROM runs WHERE verdict IS NOT NULL")
            .is_empty()
    });
    let said = suite.query("SELECT verdict || ' ' || exit_code || ' ' || tests FROM runs");
    said.trim().to_owned()
}

fn leave(processes: [Running; 2]) {
    for process in processes.into_iter().rev() {
        process.signal(libc::SIGTERM);
        process.end().exits(0);
    }
}

/// So large that its ledger does not fit.
const LARGE: [&str; 6] = ["--units", "60", "--cases", "50", "--sleep-us", "200"];

#[test]
fn a_run_that_cannot_be_recorded_is_incomplete_and_says_what_is_lost() {
    let suite = Suite::new();
    let [mut coordinator, agent] = serve(&suite, "200");
    run(&suite, &LARGE).exits(3).says(&[
        "the run's record could not be written",
        "no verdict is known of unit-",
        "more",
    ]);
    lift(&coordinator);
    let recorded = recorded(&suite, &mut coordinator);
    assert!(recorded.starts_with("incomplete 3 "), "{recorded}");
    // Who asks later hears the same, and gets the reports.
    let words = [
        "watch",
        "r",
        "--coordinator",
        ADDRESS,
        "--json",
        "report.json",
    ];
    suite
        .evenkeel(&words)
        .exits(3)
        .says(&["could not be written"]);
    let report = suite.report();
    assert!(report.total("lost") > 0);
    assert_eq!(recorded, format!("incomplete 3 {}", report.tests().len()));
    let check = ["store", "check", "--state", ".evenkeel"];
    suite.evenkeel(&check).exits(0);
    leave([coordinator, agent]);
    suite.nothing_stays();
}

#[test]
fn a_failure_that_is_known_stays_one_where_the_run_cannot_be_recorded() {
    let suite = Suite::new();
    let [mut coordinator, agent] = serve(&suite, "200");
    let failing = [&LARGE[..], &["--fail-every", "10"]].concat();
    run(&suite, &failing)
        .exits(1)
        .says(&["could not be written"]);
    lift(&coordinator);
    let recorded = recorded(&suite, &mut coordinator);
    assert!(recorded.starts_with("red 1 "), "{recorded}");
    let words = ["watch", "r", "--coordinator", ADDRESS];
    suite.evenkeel(&words).exits(1);
    leave([coordinator, agent]);
    suite.nothing_stays();
}

/// A report that cannot be written is made of the ledger when it is asked for: the verdict does not depend on it.
#[test]
fn a_report_without_a_file_is_told_all_the_same() {
    let suite = Suite::new();
    // Where it is written before it has its name, something is in the way.
    std::fs::create_dir_all(suite.root.join(".evenkeel/runs/1/report.partial")).unwrap();
    let processes = serve(&suite, "unlimited");
    run(
        &suite,
        &["--units", "3", "--cases", "4", "--fail-every", "4"],
    )
    .exits(1);
    let report = suite.report();
    assert_eq!((report.tests().len(), report.total("failed")), (12, 3));
    assert!(!suite.root.join(".evenkeel/runs/1/report.json").exists());
    leave(processes);
    suite.nothing_stays();
}
