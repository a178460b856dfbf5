//! A panic ends the process, in whatever task or thread it happens.
//!
//! Tasks that others wait for would be gone, and the rest would look alive: a coordinator that answers heartbeats and decides nothing, a run
//! that never ends. A process that has ended is started again by its supervisor, and goes on with what is stored.

use crate::exit::Exit;
use evenkeel_coordinator::server::blamed;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::time::Duration;

/// To say what happened there is this long, where standard error takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// From now on a panic ends this process with the exit code of a failed infrastructure.
pub fn end_the_process() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name").to_owned();
        let trace = Backtrace::capture();
        let mut text = format!("error: Evenkeel has a defect: thread {name} {panic}\n");
        if trace.status() == BacktraceStatus::Captured {
            text.push_str(&trace.to_string());
        }
        text.push_str("hint: this process ends; started again, it goes on with what is stored\n");
        crate::lines::flush(LAST_WORDS);
        let (blamed, what) = (blamed(), panic.to_string());
        let (said, all) = std::sync::mpsc::sync_channel(1);
        let says = std::thread::Builder::new().spawn(move || {
            if let Some(blamed) = blamed {
                blamed.note(&what).ok();
            }
            std::io::stderr().write_all(text.as_bytes()).ok();
            said.send(()).ok();
        });
        if says.is_ok() {
            all.recv_timeout(LAST_WORDS).ok();
        }
        // SAFETY: ends the process. `exit` would run what may wait for a lock that the panicking thread holds.
        unsafe { libc::_exit(i32::from(Exit::Incomplete.code())) }
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    const CHILD: &str = "EVENKEEL_TEST_PANICS";

    /// This test, started again by itself with the variable set, is the process that panics: in a task that nobody waits for, while
    /// the main thread would wait for ever.
    #[test]
    fn a_panic_in_a_task_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            super::end_the_process();
            let runtime = tokio::runtime::Builder::new_multi_thread().build();
            runtime.unwrap().block_on(async {
                tokio::spawn(async { panic!("nobody looks after this task") });
                std::future::pending::<()>().await;
            });
        }
        let started = Instant::now();
        let ended = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "panics::tests::a_panic_in_a_task_ends_the_process",
            ])
            .arg("--nocapture")
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(3), "{said}");
        assert!(said.contains("nobody looks after this task"), "{said}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
