//! Processes whose standard error is full, or read by nobody, serve all the same, and end as they would.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{EVENKEEL, Running, Suite, named, noop};

/// `evenkeel` with its standard error going there.
fn evenkeel(suite: &Suite, stderr: &str, words: &[&str]) -> Command {
    let mut command = suite.command("sh");
    command.args(["-c", "exec 2>\"$0\"; exec \"$@\"", stderr, EVENKEEL]);
    command.args(words);
    command
}

/// A coordinator, an agent and a run, all of which say things to nobody; the address's suffix is the suite's own socket.
fn serve(suite: &Suite, stderr: &str, more: &[&str]) {
    let socket = format!("unix:{}", suite.root.join("socket").display());
    let words = ["coordinator", "--listen", &socket, "--state", ".evenkeel"];
    let mut coordinator = suite.start(evenkeel(suite, stderr, &[&words[..], more].concat()));
    let out = coordinator.stdout_path();
    coordinator.until("the coordinator to listen", || {
        std::fs::read_to_string(&out).unwrap().contains("listening")
    });
    let words = ["agent", "--coordinator", &socket, "--slots", "2"];
    let agent = suite.start(evenkeel(suite, stderr, &words));
    for (fails, code) in [("0", 0), ("3", 1)] {
        let run = [
            "run",
            "--coordinator",
            &socket,
            "--runner",
            "protocol",
            "--",
        ];
        let units = ["--units", "4", "--cases", "5", "--fail-every", fails];
        let words = [&run[..], &noop(&units)].concat();
        suite
            .start(evenkeel(suite, "/dev/full", &words))
            .end()
            .exits(code);
    }
    for process in [agent, coordinator] {
        process.signal(libc::SIGTERM);
        process.end().exits(0);
    }
    suite.nothing_stays();
}

#[test]
fn a_log_on_a_full_disk_stops_nobody() {
    serve(&Suite::new(), "/dev/full", &[]);
}

/// A pipe as `evenkeel coordinator 2>&1 | something` makes it, full, with something that does not read.
fn blocked(path: &Path) -> File {
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let mut pipe = OpenOptions::new();
    pipe.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let mut pipe = pipe.open(path).unwrap();
    while pipe.write(&[b'.'; 4096]).is_ok() {}
    pipe
}

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let suite = Suite::new();
    let path = suite.root.join("pipe");
    let pipe = blocked(&path);
    serve(&suite, path.to_str().unwrap(), &["--log", "json"]);
    drop(pipe);
}

/// A coordinator whose machine stood still for longer than agents may be silent has what they said meanwhile still to read.
#[test]
fn a_coordinator_that_stood_still_loses_nobody() {
    let suite = Suite::new();
    let socket = format!("unix:{}", suite.root.join("socket").display());
    let words = ["coordinator", "--listen", &socket, "--state", ".evenkeel"];
    let lost_after = ["--lost-after", "1s"];
    let words = [&words[..], &lost_after].concat();
    let coordinator = suite.start(evenkeel(&suite, "coordinator.log", &words));
    let words = ["agent", "--coordinator", &socket, "--slots", "2"];
    let agent = suite.start(evenkeel(&suite, "agent.log", &words));
    let units = ["--units", "40", "--cases", "10", "--sleep-us", "10000"];
    let mut run = suite.start_noop(&["--coordinator", &socket], &units);
    run.until("some tests", || {
        named(&suite.events(), "test_finished").count() > 20
    });
    coordinator.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(2500)); // it stands still for as long as this
    coordinator.signal(libc::SIGCONT);
    run.end().exits(0).says(&["400 passed"]);
    assert_eq!(named(&suite.events(), "agent_gone").count(), 0);
    for process in [agent, coordinator] {
        process.signal(libc::SIGTERM);
        process.end().exits(0);
    }
    suite.nothing_stays();
}

/// What nobody can be told of is told by the exit code.
#[test]
fn an_error_that_cannot_be_said_keeps_its_exit_code() {
    let suite = Suite::new();
    let ends = |words: &[&str], code| {
        let ended: Running<'_> = suite.start(evenkeel(&suite, "/dev/full", words));
        ended.end().exits(code);
    };
    ends(&["run", "--", "no-such-framework"], 2);
    let nobody = ["watch", "x", "--coordinator", "127.0.0.1:1"];
    ends(&[&nobody[..], &["--give-up-after", "100ms"]].concat(), 3);
    suite.nothing_stays();
}
