//! One suite of `suites/` with some plugins, tried under plain pytest and under Evenkeel, and what was seen.

use crate::support::{EVENKEEL, Ended, Report, Suite, here, text};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Which suite, with which plugins, arguments and variables.
#[derive(Clone)]
pub struct Trial {
    suite: &'static str,
    plugins: Vec<&'static str>,
    arguments: Vec<String>,
    options: Vec<&'static str>,
    variables: Vec<(String, String)>,
    older: bool,
}

/// How many reports there were with this test, phase and outcome.
pub type Reports = BTreeMap<(String, String, String), usize>;

/// What one run left. Its directory is removed when this goes.
pub struct Seen {
    pub suite: Suite,
    pub ended: Ended,
    pub reports: Reports,
}

pub fn trial(suite: &'static str, plugins: &[&'static str]) -> Trial {
    Trial {
        suite,
        plugins: plugins.to_vec(),
        arguments: Vec::new(),
        options: Vec::new(),
        variables: Vec::new(),
        older: false,
    }
}

impl Trial {
    pub fn with(&self, arguments: &[&str]) -> Trial {
        let mut trial = self.clone();
        let arguments = arguments.iter().map(|word| (*word).to_owned());
        trial.arguments.extend(arguments);
        trial
    }

    /// Options of `evenkeel run`.
    pub fn options(&self, options: &[&'static str]) -> Trial {
        let mut trial = self.clone();
        trial.options.extend(options);
        trial
    }

    pub fn variable(&self, name: &str, value: &str) -> Trial {
        let mut trial = self.clone();
        trial.variables.push((name.to_owned(), value.to_owned()));
        trial
    }

    /// On pytest 8, for what newer ones made superfluous.
    pub fn on_pytest_8(&self) -> Trial {
        let mut trial = self.clone();
        trial.older = true;
        trial
    }

    /// A directory with the suite in it.
    pub fn laid(&self) -> Suite {
        let suite = Suite::new();
        copy(
            Path::new(&here("plugins/suites"))
                .join(self.suite)
                .as_path(),
            &suite.root,
        );
        suite
    }

    /// The suite's own files.
    pub fn laid_files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        gather(&self.laid().root, "", &mut files);
        files
    }

    pub fn plain(&self) -> Seen {
        self.plain_in(self.laid())
    }

    pub fn plain_in(&self, suite: Suite) -> Seen {
        let mut command = suite.command(python());
        command.args(&self.words()[1..]);
        self.see(suite, command)
    }

    pub fn slots(&self, slots: u32) -> Seen {
        self.slots_in(slots, self.laid())
    }

    pub fn slots_in(&self, slots: u32, suite: Suite) -> Seen {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let slots = slots.to_string();
        let options = [&["-j", &*slots], &*self.options].concat();
        let command = suite.run_command(&options, &words);
        let seen = self.see(suite, command);
        let events = seen.suite.events();
        if !events.is_empty() {
            crate::support::sound(&events);
        }
        seen
    }

    /// The command, from the interpreter on.
    pub fn words(&self) -> Vec<String> {
        let own = [python(), "-m", "pytest", "-p", "evenkeel_recorder"];
        let mut words: Vec<String> = own.map(str::to_owned).to_vec();
        for plugin in &self.plugins {
            words.extend(["-p".to_owned(), (*plugin).to_owned()]);
        }
        words.extend(self.arguments.iter().cloned());
        words
    }

    /// Runs the command in the suite's directory and reads what the recorder wrote.
    pub fn see(&self, suite: Suite, command: Command) -> Seen {
        let records = suite.root.join("tmp/records");
        fs::remove_dir_all(&records).ok();
        fs::create_dir_all(&records).unwrap();
        let ended = self.end(&suite, command);
        let reports = read(&records);
        Seen {
            suite,
            ended,
            reports,
        }
    }

    /// Runs the command with what the plugins need, to its end.
    pub fn end(&self, suite: &Suite, mut command: Command) -> Ended {
        let mut path = vec![here("parity")];
        if self.older {
            path.insert(0, home().join("pytest8").to_string_lossy().into_owned());
        }
        command
            .env("PYTHONPATH", path.join(":"))
            .env("RECORDER_DIRECTORY", suite.root.join("tmp/records"))
            .env("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            // Once compiled, the plugins load fast in all these processes.
            .env_remove("PYTHONDONTWRITEBYTECODE")
            .env("PYTHONPYCACHEPREFIX", home().join("bytecode"))
            .env_remove("CI")
            .env_remove("GITHUB_ACTIONS")
            .envs(self.variables.iter().cloned());
        suite.start(command).end()
    }

    /// The suite's reports and verdicts are plain pytest's at two slots. Returns what was seen of both.
    #[track_caller]
    pub fn alike_at_two(&self) -> [Seen; 2] {
        let plain = self.plain();
        let two = self.slots(2);
        two.equals(&plain, &format!("{} at 2 slots", self.suite));
        [plain, two]
    }

    /// They are, at one slot and at two.
    #[track_caller]
    pub fn alike(&self) -> [Seen; 3] {
        let plain = self.plain();
        let slots = [1, 2].map(|slots| {
            let seen = self.slots(slots);
            seen.equals(&plain, &format!("{} at {slots} slots", self.suite));
            seen
        });
        let [one, two] = slots;
        [plain, one, two]
    }
}

impl Seen {
    /// Its reports and verdicts are plain pytest's.
    #[track_caller]
    pub fn equals(&self, plain: &Seen, what: &str) {
        let told = &self.ended.stderr;
        assert!(!plain.reports.is_empty(), "{}", plain.ended.stdout);
        let differ = |these: &Reports, those: &Reports| {
            let only = these
                .iter()
                .filter(|(key, count)| those.get(key) != Some(count));
            only.map(|(key, count)| format!("{key:?}: {count}"))
                .take(9)
                .collect::<Vec<_>>()
        };
        let extra = differ(&self.reports, &plain.reports);
        let missing = differ(&plain.reports, &self.reports);
        assert!(
            extra.is_empty() && missing.is_empty(),
            "{what}: extra {extra:#?}, missing {missing:#?}\n{told}"
        );
        assert_eq!(self.outcomes(), plain.verdicts(), "{what}:\n{told}");
        let red = plain
            .verdicts()
            .values()
            .any(|verdict| verdict == "failed" || verdict == "error");
        if red {
            self.ended.exits(1);
        }
    }

    pub fn outcomes(&self) -> BTreeMap<String, String> {
        self.report().outcomes()
    }

    pub fn report(&self) -> Report {
        self.suite.report()
    }

    /// What plain pytest's reports of each test come to.
    pub fn verdicts(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
        for (id, phase, outcome) in self.reports.keys() {
            all.entry(id.clone()).or_default().push((phase, outcome));
        }
        let verdict = |reports: &[(&str, &str)]| {
            if reports.contains(&("call", "failed")) {
                "failed"
            } else if reports.iter().any(|(_, outcome)| *outcome == "failed") {
                "error"
            } else if reports
                .iter()
                .any(|(_, outcome)| outcome.starts_with("skipped"))
            {
                "skipped"
            } else {
                "passed"
            }
        };
        all.iter()
            .map(|(id, reports)| (id.clone(), verdict(reports).to_owned()))
            .collect()
    }

    /// How many reports have this outcome.
    pub fn count(&self, outcome: &str) -> usize {
        let counted = self
            .reports
            .iter()
            .filter(|((_, _, seen), _)| seen == outcome);
        counted.map(|(_, count)| count).sum()
    }

    /// What each test printed, as the report has it.
    pub fn printed(&self, test: &str) -> String {
        let outputs = self.report().test(test)["output"].as_array().cloned();
        let texts = outputs.unwrap_or_default();
        texts.iter().map(|output| text(&output["text"])).collect()
    }

    /// The files below the suite's directory, without those that Evenkeel, pytest and these tests put there.
    pub fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        gather(&self.suite.root, "", &mut files);
        files
    }
}

/// The interpreter that has the plugins.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| home().join("bin/python").to_string_lossy().into_owned())
}

/// The environment, made if need be.
fn home() -> &'static Path {
    static MADE: OnceLock<()> = OnceLock::new();
    let home = Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/plugins"));
    MADE.get_or_init(|| {
        let status = Command::new(here("plugins/environment")).arg(home).status();
        assert!(
            status.unwrap().success(),
            "tests/plugins/environment failed"
        );
        assert!(Path::new(EVENKEEL).exists());
    });
    home
}

fn read(records: &Path) -> Reports {
    let mut reports = Reports::new();
    for entry in fs::read_dir(records).unwrap().flatten() {
        for line in fs::read_to_string(entry.path()).unwrap().lines() {
            let key: (String, String, String) = serde_json::from_str(line).unwrap();
            *reports.entry(key).or_default() += 1;
        }
    }
    reports
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn gather(directory: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    const OTHERS: [&str; 6] = [
        ".evenkeel",
        ".pytest_cache",
        "__pycache__",
        "tmp",
        "cache",
        "events.ndjson",
    ];
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = prefix.is_empty()
            && (["report.json", "junit.xml"].contains(&&*name)
                || name.ends_with(".txt")
                    && (name.starts_with("out-") || name.starts_with("err-")));
        if ours || OTHERS.contains(&&*name) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            gather(&entry.path(), &format!("{prefix}{name}/"), files);
        } else if kind.is_file() {
            let text = fs::read(entry.path()).unwrap();
            files.insert(
                format!("{prefix}{name}"),
                String::from_utf8_lossy(&text).into_owned(),
            );
        }
    }
}
