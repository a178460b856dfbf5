//! `cargo nextest run`: nextest builds, lists and chooses; each test it chose is run in a process of its own, as nextest does.

use super::build::Refused;
use super::words::{take_flag, take_value};
use crate::wire::{Refusal, RunWide};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options of `nextest run` that say how results are shown. They have no meaning here and take a value.
const SHOWING: [&str; 11] = [
    "--failure-output",
    "--success-output",
    "--status-level",
    "--final-status-level",
    "--show-progress",
    "--max-progress-running",
    "--message-format",
    "--message-format-version",
    "--no-tests",
    "--user-config-file",
    "--flaky-result",
];
/// The same without a value.
const SHOWING_FLAGS: [&str; 3] = [
    "--hide-progress-bar",
    "--no-output-indent",
    "--no-input-handler",
];
/// What would change which attempts are made, or wants a terminal.
const UNSUPPORTED: [&str; 7] = [
    "--retries",
    "--stress-count",
    "--stress-duration",
    "--debugger",
    "--tracer",
    "--interceptor",
    "--rerun",
];

/// The options of `nextest run` as those of `nextest list`, and what else they ask for.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub list: Vec<String>,
    pub run_wide: RunWide,
    pub notes: Vec<String>,
}

pub(super) fn options(run: &[String]) -> Result<Options, Refused> {
    let mut list = run.to_vec();
    let mut options = Options::default();
    for name in ["--no-run", "--help", "-h"] {
        if take_flag(&mut list, name) {
            let message = format!("with {name} nextest runs no test");
            return Err(Refused::new(Refusal::Usage, message, "leave it out"));
        }
    }
    for name in UNSUPPORTED {
        let given = |word: &String| word.split('=').next() == Some(name);
        if list.iter().any(given) {
            let message = format!("{name} of nextest is not supported");
            return Err(Refused::new(Refusal::Unsupported, message, "leave it out"));
        }
    }
    for name in SHOWING {
        take_value(&mut list, name);
    }
    for name in SHOWING_FLAGS {
        take_flag(&mut list, name);
    }
    for name in ["--test-threads", "--jobs", "-j"] {
        if take_value(&mut list, name).is_some() {
            options.notes.push(unused(name));
        }
    }
    let attached = |word: &String| {
        let number = word.strip_prefix("-j");
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let before = list.len();
    list.retain(|word| !attached(word));
    if list.len() < before {
        options.notes.push(unused("-j"));
    }
    for name in ["--no-capture", "--nocapture"] {
        options.run_wide.show_output |= take_flag(&mut list, name);
    }
    if let Some(most) = take_value(&mut list, "--max-fail") {
        let most = most.split(':').next().unwrap_or_default();
        options.run_wide.max_fail = most.parse().ok().filter(|&most: &u32| most > 0);
    }
    for name in ["--fail-fast", "--ff"] {
        if take_flag(&mut list, name) {
            options.run_wide.max_fail = Some(1);
        }
    }
    for name in ["--no-fail-fast", "--nff"] {
        take_flag(&mut list, name);
    }
    options.list = list;
    Ok(options)
}

fn unused(name: &str) -> String {
    format!(
        "{name} is not passed on: each slot runs one test at a time, and --slots says how many slots there are"
    )
}

/// What `nextest list --message-format json` prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Listing {
    pub rust_suites: BTreeMap<String, Suite>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Suite {
    pub binary_path: String,
    pub cwd: PathBuf,
    pub testcases: BTreeMap<String, Testcase>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Testcase {
    pub ignored: bool,
    pub filter_match: FilterMatch,
}

#[derive(Debug, Deserialize)]
pub(super) struct FilterMatch {
    pub status: String,
    #[serde(default)]
    pub reason: String,
}

impl Testcase {
    /// It is run, or nextest would name it as skipped because it is marked so.
    pub(super) fn belongs(&self) -> bool {
        self.filter_match.status == "matches"
            || (self.ignored && self.filter_match.reason == "ignored")
    }

    pub(super) fn is_run(&self) -> bool {
        self.filter_match.status == "matches"
    }
}

/// What nextest sets for every test.
pub(super) fn environment(binary: &str, test: &str) -> [(&'static str, String); 11] {
    let run = std::env::var("EVENKEEL_RUN_ID").unwrap_or_default();
    let slot = std::env::var("EVENKEEL_SLOT").unwrap_or_default();
    let slots = std::env::var("EVENKEEL_SLOTS").unwrap_or_default();
    let text = str::to_owned;
    [
        ("NEXTEST", text("1")),
        ("NEXTEST_EXECUTION_MODE", text("process-per-test")),
        ("NEXTEST_RUN_ID", uuid(&run)),
        ("NEXTEST_BINARY_ID", text(binary)),
        ("NEXTEST_TEST_NAME", text(test)),
        ("NEXTEST_ATTEMPT", text("1")),
        ("NEXTEST_TOTAL_ATTEMPTS", text("1")),
        ("NEXTEST_TEST_GLOBAL_SLOT", slot),
        ("NEXTEST_TEST_GROUP", text("@global")),
        ("NEXTEST_TEST_GROUP_SLOT", text("none")),
        ("NEXTEST_TEST_THREADS", slots),
    ]
}

/// A UUID of the eighth version, in which an application may put what it likes: a digest of the run's id.
fn uuid(run: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, run).hash(&mut hasher);
        hasher.finish()
    };
    let (high, low) = (half(0), half(1));
    format!(
        "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_only_a_run_knows_is_kept_from_the_listing() {
        let line =
            "-p a -j4 --fail-fast --no-capture -E test(b) --test-threads 4 --status-level=all";
        let options = options(&words(line)).expect("they are fine");
        assert_eq!(options.list, words("-p a -E test(b)"));
        assert_eq!(options.run_wide.max_fail, Some(1));
        assert!(options.run_wide.show_output && options.notes.len() == 2);
        assert!(super::options(&words("--retries 2")).is_err());
        assert!(super::options(&words("--retries")).is_err());
        assert!(super::options(&words("--no-run")).is_err());
    }

    #[test]
    fn a_listing_names_what_is_run_and_what_is_ignored() {
        let text = r#"{"rust-build-meta":{},"test-count":3,"rust-suites":{"a":{"package-name":"a","binary-path":"/t/a-1","cwd":"/w",
            "status":"listed","testcases":{
            "x":{"kind":"test","ignored":false,"filter-match":{"status":"matches"}},
            "y":{"kind":"test","ignored":true,"filter-match":{"status":"mismatch","reason":"ignored"}},
            "z":{"kind":"test","ignored":false,"filter-match":{"status":"mismatch","reason":"expression"}}}}}}"#;
        let listing: Listing = serde_json::from_str(text).expect("it is nextest's");
        let cases = &listing.rust_suites["a"].testcases;
        let seen = ["x", "y", "z"].map(|name| (cases[name].belongs(), cases[name].is_run()));
        assert_eq!(seen, [(true, true), (true, false), (false, false)]);
    }

    #[test]
    fn a_runs_uuid_is_one() {
        let id = uuid("20261126-200117-f835");
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "8");
        assert_ne!(id, uuid("another"));
    }
}
