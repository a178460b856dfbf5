//! Commands around the tests: what a suite wants done once on this machine before anything of it runs and after
//! everything, and the same in each slot.
//!
//! They run without a guard, since what a set-up leaves running is there to stay until the tear-down ends it.

use evenkeel_proto::suite::Suite;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

/// A tear-down has this long.
const TEARDOWN: Duration = Duration::from_secs(60);
/// So much of what a command that failed wrote is shown, bytes.
const TAIL: u64 = 8 << 10;

/// A command that did not succeed: how it ended, and the end of what it wrote.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub message: String,
    pub output: String,
}

/// What the suites of a run want done on this machine.
pub(crate) struct Hooks {
    suites: Vec<OfSuite>,
    /// Slots that may still need what was set up.
    slots: AtomicUsize,
}

struct OfSuite {
    suite: Suite,
    environment: Vec<(String, String)>,
    set_up: OnceCell<Result<(), Failed>>,
    /// Its set-up has been begun, and may have been broken off.
    begun: AtomicBool,
}

impl Hooks {
    /// `environment` is for the commands of the machine.
    pub(crate) fn new<'a>(
        suites: impl Iterator<Item = &'a Suite>,
        slots: usize,
        environment: &[(String, String)],
    ) -> Hooks {
        let mut all: Vec<OfSuite> = Vec::new();
        for suite in suites {
            // Kinds of processes that differ in their environment are of one suite.
            if !all.iter().any(|known| known.suite.name == suite.name) {
                all.push(OfSuite {
                    suite: suite.clone(),
                    environment: environment.to_vec(),
                    set_up: OnceCell::new(),
                    begun: AtomicBool::new(false),
                });
            }
        }
        Hooks {
            suites: all,
            slots: AtomicUsize::new(slots),
        }
    }

    /// More slots need it. False where the last one has left already: then everything is to be set up anew.
    pub(crate) fn join(&self, slots: usize) -> bool {
        let more = |left: usize| (left > 0).then_some(left + slots);
        self.slots
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// Sets a suite up on this machine, once; whoever comes meanwhile waits.
    pub(crate) async fn set_up(&self, name: &str) -> Result<(), Failed> {
        let Some(of) = self.suites.iter().find(|of| of.suite.name == name) else {
            return Ok(());
        };
        let set_up = of.set_up.get_or_init(|| async {
            if of.begun.swap(true, Ordering::AcqRel) {
                return Err(Failed {
                    message: format!("the setup of suite {name} was broken off"),
                    output: String::new(),
                });
            }
            carry_out("setup", &of.suite.setup, &of.suite, &of.environment).await
        });
        set_up.await.clone()
    }

    /// A slot needs nothing more. When the last one says so, what was set up is torn down, also where that had failed.
    pub(crate) async fn leave(&self) -> Vec<Failed> {
        if self.slots.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Vec::new();
        }
        let mut failed = Vec::new();
        let begun = self.suites.iter().rev();
        for of in begun.filter(|of| of.begun.load(Ordering::Acquire)) {
            let words = &of.suite.teardown;
            let torn = tear_down("teardown", words, &of.suite, &of.environment);
            failed.extend(torn.await.err());
        }
        failed
    }
}

/// As [`carry_out`], for as long as a tear-down may take.
pub(crate) async fn tear_down(
    what: &str,
    words: &[String],
    suite: &Suite,
    environment: &[(String, String)],
) -> Result<(), Failed> {
    let torn = carry_out(what, words, suite, environment);
    tokio::time::timeout(TEARDOWN, torn)
        .await
        .unwrap_or_else(|_| {
            let limit = TEARDOWN.as_secs();
            Err(Failed {
                message: format!(
                    "the {what} of suite {} took longer than {limit} s",
                    suite.name
                ),
                output: String::new(),
            })
        })
}

/// Runs a command in the suite's directory and environment; no words, nothing to do. What is dropped ends it.
pub(crate) async fn carry_out(
    what: &str,
    words: &[String],
    suite: &Suite,
    environment: &[(String, String)],
) -> Result<(), Failed> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    let failed = |how: String, output: String| Failed {
        message: format!(
            "the {what} of suite {} failed: {how} ({})",
            suite.name,
            words.join(" ")
        ),
        output,
    };
    let unstarted =
        |error: std::io::Error| failed(format!("it cannot be started: {error}"), String::new());
    let mut output = scratch().map_err(unstarted)?;
    let child = Command::new(program)
        .args(arguments)
        .current_dir(&suite.directory)
        .envs(&suite.environment)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("EVENKEEL_SUITE", &suite.name)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(unstarted)?)
        .stderr(output.try_clone().map_err(unstarted)?)
        .process_group(0)
        .spawn();
    let mut group = Group(child.map_err(unstarted)?);
    let status = group.0.wait().await.map_err(unstarted)?;
    if status.success() {
        return Ok(());
    }
    let tail = tail_of(&mut output).unwrap_or_default();
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, signal) => format!("it was killed by signal {}", signal.unwrap_or_default()),
    };
    Err(failed(how, tail))
}

/// A command with all that it started, unless that moved away. What is dropped before its end is killed.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.id().and_then(|pid| libc::pid_t::try_from(pid).ok()) {
            // SAFETY: a signal to the group that this child was started as the leader of; nobody has waited for it yet.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
        }
    }
}

/// A file without a name. Not a pipe: what a command leaves running may write on when nobody listens any more.
fn scratch() -> std::io::Result<File> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("evenkeel-hook-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut options = File::options();
    let file = options
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn tail_of(file: &mut File) -> std::io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(setup: &str, teardown: &str) -> Suite {
        let shell = |line: &str| ["sh", "-c", line].map(str::to_owned).to_vec();
        Suite {
            name: "unit".into(),
            directory: std::env::temp_dir().to_string_lossy().into_owned(),
            setup: shell(setup),
            teardown: shell(teardown),
            ..Suite::default()
        }
    }

    #[tokio::test]
    async fn a_machine_is_set_up_once_and_torn_down_by_the_last_slot() {
        let place = std::env::temp_dir().join(format!("evenkeel-hooks-{}", std::process::id()));
        let said = || std::fs::read_to_string(&place).unwrap_or_default();
        let say = |word: &str| format!("echo {word} >> {}", place.display());
        let suite = suite(&say("up"), &say("down"));
        let hooks = Hooks::new([&suite, &suite].into_iter(), 2, &[]);
        let (first, second) = tokio::join!(hooks.set_up("unit"), hooks.set_up("unit"));
        assert!(first.is_ok() && second.is_ok());
        assert!(hooks.leave().await.is_empty());
        assert_eq!(said(), "up\n");
        assert!(hooks.leave().await.is_empty());
        assert_eq!(said(), "up\ndown\n");
        std::fs::remove_file(&place).ok();
    }

    #[tokio::test]
    async fn what_fails_says_how_and_shows_its_output() {
        let suite = suite("echo no room; exit 3", "true");
        let hooks = Hooks::new([&suite].into_iter(), 1, &[]);
        let failed = hooks.set_up("unit").await.expect_err("it exits with 3");
        assert!(
            failed.message.contains("setup of suite unit") && failed.message.contains("status 3")
        );
        assert_eq!(failed.output, "no room");
        // What is left running does not hold it up.
        let suite = self::suite("sleep 30 & exit 0", "true");
        let hooks = Hooks::new([&suite].into_iter(), 1, &[]);
        let begun = std::time::Instant::now();
        assert!(hooks.set_up("unit").await.is_ok());
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
