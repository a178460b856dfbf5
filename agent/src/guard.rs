//! The guard: a small process between the agent and a slot's framework process.
//!
//! It adopts whatever the framework leaves behind (it is their subreaper), and kills all of it when the framework ends or
//! when the agent says so or is gone: the agent holds the other end of the guard's standard input, and its closing is a word
//! too, so that not even `kill -9` of the agent leaves a process behind. It ends the way the framework ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The first argument that makes the binary a guard.
pub const ARGUMENT: &str = "__guard";
/// What the name of an agent's directory for sockets begins with.
pub(crate) const SOCKETS: &str = "evenkeel-";
/// Exit status of a guard that could not start its command; what it wrote to standard error says why.
pub(crate) const CANNOT_START: i32 = 253;

/// Runs the command and never returns. The directory of `socket` is removed when the agent is gone.
pub fn main(socket: OsString, command: &[OsString]) -> ! {
    let status = guard(socket, command);
    end_like(status)
}

fn guard(socket: OsString, command: &[OsString]) -> i32 {
    // SAFETY: plain system calls on this single-threaded process's own attributes.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"evenkeel-guard".as_ptr(), 0, 0, 0);
    }
    let mask = wake_on_child();
    let Some((program, arguments)) = command.split_first() else {
        return CANNOT_START << 8;
    };
    let mut spawn = Command::new(program);
    spawn.args(arguments).stdin(Stdio::null()).process_group(0);
    // SAFETY: the closure makes async-signal-safe system calls only.
    unsafe {
        spawn.pre_exec(|| {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            Ok(())
        });
    }
    let child = match spawn.spawn() {
        Ok(child) => child.id() as libc::pid_t,
        Err(error) => {
            eprintln!("cannot start {}: {error}", program.to_string_lossy());
            return CANNOT_START << 8;
        }
    };
    // The framework's output ends when the framework and its children end, not when the guard does.
    // SAFETY: 1 and 2 belong to this process and nothing uses them from here on.
    unsafe {
        libc::close(1);
        libc::close(2);
    }
    loop {
        if let Some(status) = reap(child) {
            kill_descendants();
            // A child that ends by itself because its agent is gone may be seen before that is.
            if look() == Word::Gone {
                remove_sockets(Path::new(&socket));
            }
            return status;
        }
        let word = listen(&mask);
        if word == Word::None {
            continue;
        }
        kill_descendants();
        if word == Word::Gone {
            // The other slots' guards hear the same: the directory is nobody's any more.
            remove_sockets(Path::new(&socket));
        }
        return libc::SIGKILL;
    }
}

/// The agent's own directory for sockets goes with it; anything that is not surely that stays.
fn remove_sockets(socket: &Path) {
    let directory = socket.parent().filter(|directory| {
        let name = directory.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(SOCKETS)
    });
    if let Some(directory) = directory {
        // The other slots' guards do the same at the same time.
        std::fs::remove_dir_all(directory).ok();
    }
}

/// Blocks SIGCHLD but during `ppoll`, with a handler that does nothing, so that a child's end interrupts the wait.
fn wake_on_child() -> libc::sigset_t {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the structures are plain data that the calls fill in or read.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut());
        let mut child: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut child);
        libc::sigaddset(&mut child, libc::SIGCHLD);
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_BLOCK, &child, &mut before);
        before
    }
}

/// What the agent says through standard input.
#[derive(PartialEq, Eq)]
enum Word {
    None,
    /// A byte: end this process; the agent lives on.
    End,
    /// Closed without a byte: there is no agent any more.
    Gone,
}

/// Waits until a child ends or the agent says something.
fn listen(mask: &libc::sigset_t) -> Word {
    hear(std::ptr::null(), mask)
}

/// What the agent has said by now.
fn look() -> Word {
    let now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    hear(&now, std::ptr::null())
}

fn hear(timeout: *const libc::timespec, mask: *const libc::sigset_t) -> Word {
    let mut input = libc::pollfd {
        fd: 0,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `input` is a local, and what the others point to outlives the call.
    let ready = unsafe { libc::ppoll(&mut input, 1, timeout, mask) };
    if ready <= 0 {
        return Word::None;
    }
    let mut byte = 0u8;
    // SAFETY: reads one byte into a local.
    let read = unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
    if read > 0 { Word::End } else { Word::Gone }
}

/// Collects every child that has ended; the status of `child` if it was among them.
fn reap(child: libc::pid_t) -> Option<i32> {
    let mut found = None;
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if pid <= 0 {
            return found;
        }
        if pid == child {
            found = Some(status);
        }
    }
}

/// Kills everything below this process, also what moved to other groups and sessions, until nothing is left.
fn kill_descendants() {
    // Whatever loses its parent becomes a child of this process: without children there is nothing below.
    if is_childless() {
        return;
    }
    let own = std::process::id() as libc::pid_t;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let doomed = descendants(own);
        if doomed.is_empty() {
            return;
        }
        for pid in doomed {
            // SAFETY: sends a signal to a process that is below this one.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        reap(0);
        std::thread::sleep(Duration::from_millis(1));
        reap(0);
    }
}

fn is_childless() -> bool {
    // SAFETY: asks without changing anything; no memory is written to.
    let asked = unsafe {
        libc::waitid(
            libc::P_ALL,
            0,
            std::ptr::null_mut(),
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
        )
    };
    asked == -1
}

fn descendants(of: libc::pid_t) -> Vec<libc::pid_t> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parents: BTreeMap<libc::pid_t, libc::pid_t> = entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, in parentheses, may hold anything; the state and the parent follow the last one.
            let parent = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            Some((pid, parent))
        })
        .collect();
    let is_below = |mut pid: libc::pid_t| {
        for _ in 0..parents.len() {
            match parents.get(&pid) {
                Some(&parent) if parent == of => return true,
                Some(&parent) => pid = parent,
                None => return false,
            }
        }
        false
    };
    parents
        .keys()
        .copied()
        .filter(|&pid| is_below(pid))
        .collect()
}

fn end_like(status: i32) -> ! {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        // SAFETY: ends this process by the signal, without a core file of its own.
        unsafe {
            let none = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            libc::setrlimit(libc::RLIMIT_CORE, &none);
            libc::signal(signal, libc::SIG_DFL);
            libc::kill(libc::getpid(), signal);
        }
    }
    std::process::exit(libc::WEXITSTATUS(status))
}
