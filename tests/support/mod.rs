//! What the end-to-end tests share: a suite in a directory of its own, the real binary, readers of what it writes, and the
//! certainty that nothing stays behind.
//!
//! Every process that a suite starts, however deep, carries the suite's mark in its environment. By that mark it is found
//! again, counted, and ended by its pid.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses its own part of this

pub mod configured;
pub mod measured;
pub mod serving;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub const EVENKEEL: &str = env!("CARGO_BIN_EXE_evenkeel");
/// Nothing here takes as long; what does is stuck.
const PATIENCE: Duration = Duration::from_secs(90);
const MARK: &str = "EVENKEEL_E2E";

/// A directory with a suite in it, removed at the end together with every process that came out of it.
pub struct Suite {
    pub root: PathBuf,
    mark: String,
}

impl Suite {
    pub fn new() -> Suite {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!(
            "{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        // Short, since sockets are made below it.
        let root = std::env::temp_dir().join(format!("ek-{mark}"));
        fs::create_dir_all(root.join("tmp")).unwrap();
        Suite { root, mark }
    }

    pub fn with(files: &[(&str, &str)]) -> Suite {
        let suite = Suite::new();
        for (path, text) in files {
            suite.write(path, text);
        }
        suite
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// How many files in the root begin with this.
    pub fn files(&self, prefix: &str) -> usize {
        let names = fs::read_dir(&self.root).unwrap().flatten();
        let names = names.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        names.count()
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// A command that runs in the suite's directory and bears its mark.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        command.env(MARK, &self.mark);
        command.env("TMPDIR", self.root.join("tmp"));
        command.env("XDG_CACHE_HOME", self.root.join("cache"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        // What a suite builds belongs into its own directory.
        for name in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "RUSTFLAGS"] {
            command.env_remove(name);
        }
        for name in ["PYTEST_ADDOPTS", "PYTHONHASHSEED", "PYTHONPATH", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    pub fn start(&self, mut command: Command) -> Running<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let [stdout, stderr] =
            ["out", "err"].map(|name| self.root.join(format!("{name}-{number}.txt")));
        command.stdout(File::create(&stdout).unwrap());
        command.stderr(File::create(&stderr).unwrap());
        let child = command.spawn().unwrap();
        Running {
            suite: self,
            child,
            stdout,
            stderr,
        }
    }

    /// `evenkeel` with these words, to its end.
    pub fn evenkeel(&self, words: &[&str]) -> Ended {
        let mut command = self.command(EVENKEEL);
        command.args(words);
        self.start(command).end()
    }

    /// Starts `evenkeel run` with reports to `report.json`, `junit.xml` and `events.ndjson`.
    pub fn start_run(&self, options: &[&str], command: &[&str]) -> Running<'_> {
        self.start(self.run_command(options, command))
    }

    pub fn run_command(&self, options: &[&str], command: &[&str]) -> Command {
        for report in ["report.json", "junit.xml", "events.ndjson"] {
            fs::remove_file(self.root.join(report)).ok();
        }
        let mut run = self.command(EVENKEEL);
        run.args(["run", "--json", "report.json", "--junit", "junit.xml"]);
        run.args(["--events", "events.ndjson"]);
        run.args(options).arg("--").args(command);
        run
    }

    pub fn run(&self, options: &[&str], command: &[&str]) -> Ended {
        self.start_run(options, command).end()
    }

    /// `evenkeel run OPTIONS -- python -m pytest ARGUMENTS`.
    pub fn pytest(&self, options: &[&str], arguments: &[&str]) -> Ended {
        self.run(options, &pytest(arguments))
    }

    pub fn start_pytest(&self, options: &[&str], arguments: &[&str]) -> Running<'_> {
        self.start_run(options, &pytest(arguments))
    }

    /// `evenkeel run OPTIONS --runner protocol -- evenkeel noop-runner ARGUMENTS`.
    pub fn noop(&self, options: &[&str], arguments: &[&str]) -> Ended {
        self.start_noop(options, arguments).end()
    }

    pub fn start_noop(&self, options: &[&str], arguments: &[&str]) -> Running<'_> {
        let options = [options, &["--runner", "protocol"]].concat();
        self.start_run(&options, &noop(arguments))
    }

    pub fn report(&self) -> Report {
        let text = fs::read_to_string(self.root.join("report.json")).expect("a report was written");
        Report(serde_json::from_str(&text).expect("the report is JSON"))
    }

    pub fn events(&self) -> Vec<Value> {
        self.events_in("events.ndjson")
    }

    /// The events in a file; the last line may be on its way still.
    pub fn events_in(&self, path: &str) -> Vec<Value> {
        let text = self.read(path);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("each event is a line of JSON"))
            .collect()
    }

    /// What Python prints on being given a script and words.
    pub fn python(&self, script: &str, words: &[&str]) -> String {
        let mut command = self.command(python());
        command.args(["-c", script]).args(words);
        let ended = self.start(command).end();
        ended.exits(0);
        ended.stdout
    }

    /// Each test case of the JUnit file as an independent parser reads it: (classname, name, outcome, text of its elements).
    pub fn junit(&self) -> Junit {
        const READ: &str = r#"
import json, sys, xml.etree.ElementTree as etree
root = etree.parse(sys.argv[1]).getroot()
def counts(element):
    return [int(element.get(name) or 0) for name in ("tests", "failures", "errors", "skipped")]
def outcome(case):
    for name in ("failure", "error", "skipped"):
        if case.find(name) is not None:
            return name
    return "passed"
def seen(cases):
    kinds = [outcome(case) for case in cases]
    return [len(kinds)] + [kinds.count(name) for name in ("failure", "error", "skipped")]
wrong = [suite.get("name") for suite in root.iter("testsuite") if counts(suite) != seen(suite.findall("testcase"))]
assert not wrong, wrong
cases = [[case.get("classname"), case.get("name"), outcome(case), "".join(case.itertext())
          + "".join(child.get("message") or "" for child in case)] for case in root.iter("testcase")]
assert counts(root)[:3] == seen(list(root.iter("testcase")))[:3], (root.attrib, seen(list(root.iter("testcase"))))
json.dump({"counts": seen(list(root.iter("testcase"))), "cases": cases}, sys.stdout)
"#;
        let text = self.python(READ, &["junit.xml"]);
        let read: Value = serde_json::from_str(&text).unwrap();
        let number = |index: usize| read["counts"][index].as_u64().unwrap();
        Junit {
            tests: number(0),
            failures: number(1),
            errors: number(2),
            skipped: number(3),
            cases: read["cases"].as_array().unwrap().clone(),
        }
    }

    /// The rows of a query on the store, as Python prints them.
    pub fn query(&self, sql: &str) -> String {
        let script = "import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2]): print(*row)";
        self.python(script, &[".evenkeel/evenkeel.db", sql])
    }

    /// Processes that bear the suite's mark, with their command lines.
    pub fn processes(&self) -> BTreeMap<i32, String> {
        let mark = format!("{MARK}={}\0", self.mark);
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let marked = entries.filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let bears = environment
                .windows(mark.len())
                .any(|window| window == mark.as_bytes());
            let words = fs::read(entry.path().join("cmdline")).ok()?;
            bears.then(|| (pid, String::from_utf8_lossy(&words).replace('\0', " ")))
        });
        marked.collect()
    }

    /// No process and no socket of the suite is left, at the latest after a moment.
    pub fn nothing_stays(&self) {
        let gone = || self.processes().is_empty() && self.sockets().is_empty();
        if !holds(Duration::from_secs(10), gone) {
            panic!("still there: {:?} {:?}", self.processes(), self.sockets());
        }
    }

    /// What evenkeel keeps in the temporary directory.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("tmp")).unwrap().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.to_string_lossy().contains("evenkeel-"))
            .collect()
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.keys().for_each(|pid| kill(*pid, libc::SIGKILL));
            std::thread::sleep(Duration::from_millis(5));
        }
        if std::env::var_os("EVENKEEL_E2E_KEEP").is_none() {
            fs::remove_dir_all(&self.root).ok();
        }
    }
}

/// The words of a pytest command.
pub fn pytest<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let own = [python(), "-m", "pytest", "-p", "no:cacheprovider"];
    [&own, arguments].concat()
}

/// The words of a runner that does nothing.
pub fn noop<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&[EVENKEEL, "noop-runner"], arguments].concat()
}

/// A process that was started and may be at work.
pub struct Running<'a> {
    suite: &'a Suite,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running<'_> {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    pub fn stdout_path(&self) -> PathBuf {
        self.stdout.clone()
    }

    pub fn stderr_path(&self) -> PathBuf {
        self.stderr.clone()
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Waits until the condition holds; it must while the process lives.
    pub fn until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if condition() {
                return;
            }
            let over = self.child.try_wait().unwrap().is_some() || Instant::now() > deadline;
            if over && !condition() {
                panic!("{what} never came; it said:\n{}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ended {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > PATIENCE {
                let left = self.suite.processes();
                left.keys().for_each(|pid| kill(*pid, libc::SIGKILL));
                panic!("no end in sight; it said:\n{}\n{left:?}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Ended {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
            took: began.elapsed(),
        }
    }
}

pub struct Ended {
    status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    /// The exit status was this one; a signal counts as 128 and its number.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Ended {
        let seen = self.status.code();
        let seen = seen.unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default());
        assert_eq!(
            seen, code,
            "exit status; it said:\n{}{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Standard error holds all of these.
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> &Ended {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no {word:?} in:\n{}",
                self.stderr
            );
        }
        self
    }
}

pub struct Report(pub Value);

impl Report {
    /// Outcome by test; a second test of the same name carries its occurrence: `a::b#1`.
    pub fn outcomes(&self) -> BTreeMap<String, String> {
        let tests = self.0["tests"].as_array().unwrap();
        let all: BTreeMap<String, String> = tests
            .iter()
            .map(|test| (key(test), text(&test["outcome"])))
            .collect();
        assert_eq!(all.len(), tests.len(), "each test is reported once");
        all
    }

    pub fn test(&self, id: &str) -> &Value {
        let tests = self.0["tests"].as_array().unwrap();
        let found = tests.iter().find(|test| key(test) == id);
        found.unwrap_or_else(|| panic!("no test {id} in {:#}", self.0["tests"]))
    }

    pub fn tests(&self) -> &Vec<Value> {
        self.0["tests"].as_array().unwrap()
    }

    /// A figure of the totals.
    pub fn total(&self, name: &str) -> u64 {
        self.0["totals"][name].as_u64().unwrap()
    }

    /// The test's message holds all of these.
    #[track_caller]
    pub fn blames(&self, id: &str, outcome: &str, words: &[&str]) {
        let test = self.test(id);
        assert_eq!(test["outcome"], outcome, "{test:#}");
        let message = text(&test["message"]);
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message:?}");
        }
    }
}

pub struct Junit {
    pub tests: u64,
    pub failures: u64,
    pub errors: u64,
    pub skipped: u64,
    pub cases: Vec<Value>,
}

/// A test's id, with its occurrence where that is not the first.
pub fn key(test: &Value) -> String {
    match test["occurrence"].as_u64() {
        Some(number) if number > 0 => format!("{}#{number}", text(&test["id"])),
        _ => text(&test["id"]),
    }
}

pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a text, not {value}"))
        .to_owned()
}

/// The events with this name.
pub fn named<'a>(events: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["event"] == name)
}

/// What holds of every run that came to its end by itself: each lease ends once, under it alone results count, each test
/// gets one verdict, and a slot does one thing at a time.
pub fn sound(events: &[Value]) {
    let mut sequence = 0;
    let mut live: BTreeMap<u64, &Value> = BTreeMap::new();
    let mut verdicts: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut busy: BTreeMap<u64, f64> = BTreeMap::new();
    let unit = |event: &Value| format!("{}: {}", text(&event["suite"]), text(&event["file"]));
    for event in events {
        let number = event["seq"].as_u64().unwrap();
        assert!(number >= sequence, "out of order: {event}");
        sequence = number;
        let lease = event["lease"].as_u64().unwrap_or_default();
        match event["event"].as_str().unwrap() {
            "leased" => assert!(live.insert(lease, event).is_none(), "given twice: {event}"),
            "lease_ended" => assert!(live.remove(&lease).is_some(), "ended twice: {event}"),
            "test_finished" => {
                assert_eq!(live[&lease]["shard"], event["shard"], "{event}");
                assert_eq!(live[&lease]["unit"], event["file"], "{event}");
                if event["final"] == true {
                    *verdicts.entry((unit(event), key(event))).or_default() += 1;
                }
                let (start, end) = (
                    event["start_s"].as_f64().unwrap(),
                    event["end_s"].as_f64().unwrap(),
                );
                assert!(start <= end, "{event}");
                let before = busy.insert(event["shard"].as_u64().unwrap(), end);
                // Two processes of a slot have clocks of their own, which are told apart by a message's delay.
                assert!(
                    before.is_none_or(|before| start >= before - 0.02),
                    "two at a time: {event}"
                );
            }
            "settled" => {
                *verdicts.entry((unit(event), key(event))).or_default() += 1;
            }
            _ => {}
        }
    }
    assert!(live.is_empty(), "never ended: {live:?}");
    let double: Vec<_> = verdicts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(double.is_empty(), "{double:?}");
    assert_eq!(events.last().unwrap()["event"], "run_closed");
}

pub fn table(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    rows.iter()
        .map(|(id, outcome)| ((*id).to_owned(), (*outcome).to_owned()))
        .collect()
}

pub fn kill(pid: i32, signal: i32) {
    assert!(pid > 1);
    // SAFETY: a signal to a process that a test started or was told of by one that it started.
    unsafe { libc::kill(pid, signal) };
}

/// Whether the process is there and more than a corpse.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

/// Whether the condition comes to hold in time.
pub fn holds(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn here(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(path);
    path.to_string_lossy().into_owned()
}

/// A Python that has pytest: the system's, else a private environment that is made once and kept beside the build.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let has_pytest = |python: &str| {
            let script = "import pytest, sys; sys.exit(int(pytest.__version__.split('.')[0]) < 8)";
            let tried = Command::new(python)
                .args(["-c", script])
                .stderr(Stdio::null())
                .status();
            tried.is_ok_and(|status| status.success())
        };
        if has_pytest("python3") {
            return "python3".to_owned();
        }
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(home).unwrap();
        let lock = File::create(home.join("pytest-venv.lock")).unwrap();
        lock.lock().unwrap();
        let home = home.join("pytest-venv");
        let python = home.join("bin/python").to_string_lossy().into_owned();
        if !has_pytest(&python) {
            fs::remove_dir_all(&home).ok();
            let run = |program: &str, words: &[&str]| {
                let status = Command::new(program).args(words).status().unwrap();
                assert!(status.success(), "{program} {words:?}");
            };
            run("python3", &["-m", "venv", &home.to_string_lossy()]);
            run(&python, &["-m", "pip", "install", "--quiet", "pytest==9.*"]);
        }
        python
    })
}
