//! Running the binary and asking the kernel what it used.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub struct Used {
    pub wall: Duration,
    /// Of the process and everything it waited for.
    pub cpu: Duration,
    /// The largest resident size of the process itself.
    pub peak_kib: i64,
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(super::EVENKEEL);
    command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Runs the binary to its end, which must be a green one.
#[allow(clippy::zombie_processes)] // waited for by wait4, which also says what it used
pub fn run(directory: &Path, arguments: &[&str]) -> Used {
    let started = Instant::now();
    let child = command(directory, arguments)
        .spawn()
        .expect("the binary starts");
    let mut status = 0;
    // SAFETY: all zeroes is a valid rusage, and the call fills it in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals that outlive the call.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
    let wall = started.elapsed();
    assert!(
        waited > 0 && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "{arguments:?}: status {status}"
    );
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    Used {
        wall,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_kib: usage.ru_maxrss,
    }
}

/// The share of a core that the binary and its guards use in a window that opens `after` its start.
pub fn idle_share(directory: &Path, arguments: &[&str], after: Duration, window: Duration) -> f64 {
    let mut child = command(directory, arguments)
        .spawn()
        .expect("the binary starts");
    std::thread::sleep(after);
    let before = on_cpu(child.id());
    let started = Instant::now();
    std::thread::sleep(window);
    let used = on_cpu(child.id()) - before;
    let share = used.as_secs_f64() / started.elapsed().as_secs_f64();
    assert!(child.wait().expect("the run ends").success());
    share
}

/// Time on a CPU of a process, its threads and its children that are guards.
fn on_cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    let mut total = Duration::ZERO;
    for task in tasks.flatten() {
        let schedstat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let nanos = schedstat
            .split_whitespace()
            .next()
            .and_then(|nanos| nanos.parse().ok())
            .unwrap_or(0);
        total += Duration::from_nanos(nanos);
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        total += children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .map(on_cpu_of_one)
            .sum::<Duration>();
    }
    total
}

fn on_cpu_of_one(pid: u32) -> Duration {
    let schedstat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    Duration::from_nanos(
        schedstat
            .split_whitespace()
            .next()
            .and_then(|nanos| nanos.parse().ok())
            .unwrap_or(0),
    )
}
