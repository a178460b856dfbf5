//! `evenkeel.toml`: what to run when the command line does not say it.

mod source;

use crate::cli::{Collect, parse_duration};
use crate::exit::Failure;
use serde::Deserialize;
pub use source::{Source, did_you_mean};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

pub const FILE: &str = "evenkeel.toml";

/// The file, as written. docs/config.md describes its keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names the project in the history. Default: the repository's name.
    pub project: Option<String>,
    /// Slots of a run.
    pub slots: Option<Spanned<u32>>,
    /// The suites, by name.
    #[serde(default)]
    suite: BTreeMap<String, Spanned<Suite>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    pub command: Spanned<Words>,
    /// Relative to the file.
    pub directory: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub environment: BTreeMap<Spanned<String>, String>,
    pub runner: Option<Spanned<String>>,
    pub slots: Option<Spanned<u32>>,
    pub collect: Option<Collect>,
    pub isolate: Option<Spanned<bool>>,
    /// Settings of the runner, by its own names.
    #[serde(default)]
    pub with: BTreeMap<Spanned<String>, Values>,
    /// A command, once before anything of the suite, and once after everything.
    pub setup: Option<Spanned<Words>>,
    pub teardown: Option<Spanned<Words>>,
    /// The same in each slot.
    #[serde(rename = "slot-setup")]
    pub slot_setup: Option<Spanned<Words>>,
    #[serde(rename = "slot-teardown")]
    pub slot_teardown: Option<Spanned<Words>>,
    pub timeout: Option<Limit>,
    pub slow: Option<Limit>,
    pub grace: Option<Limit>,
    #[serde(default)]
    pub exclusive: bool,
    /// A test may run beside itself.
    #[serde(default)]
    pub copies: bool,
    #[serde(default)]
    pub locks: Vec<Spanned<String>>,
    #[serde(default, rename = "override")]
    pub overrides: Vec<Spanned<Override>>,
}

/// What holds for some units in place of what holds for their suite.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Patterns on names and paths.
    pub units: Vec<Spanned<String>>,
    pub timeout: Option<Limit>,
    pub slow: Option<Limit>,
    pub grace: Option<Limit>,
    pub exclusive: Option<bool>,
    pub locks: Option<Vec<Spanned<String>>>,
    pub environment: Option<BTreeMap<Spanned<String>, String>>,
}

/// One value of a setting, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub enum Values {
    One(String),
    Several(Vec<String>),
}

impl Values {
    fn list(&self) -> Vec<String> {
        match self {
            Values::One(value) => vec![value.clone()],
            Values::Several(values) => values.clone(),
        }
    }
}

impl Suite {
    /// The runner's settings: those of the command line win, name by name.
    pub fn settings(&self, given: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
        let own = self.with.iter();
        let mut settings: BTreeMap<String, Vec<String>> = own
            .map(|(name, values)| (name.get_ref().clone(), values.list()))
            .collect();
        settings.extend(settings_of(given));
        settings
    }
}

/// Settings as the command line gives them, the values of each in their order.
pub fn settings_of(given: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in given {
        settings
            .entry(name.clone())
            .or_default()
            .push(value.clone());
    }
    settings
}

/// A command: a list of words, or one string that is split at spaces.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a list of words (or one string without quoting)"
)]
pub enum Words {
    List(Vec<String>),
    Line(String),
}

impl Words {
    pub fn list(&self) -> Vec<String> {
        match self {
            Words::List(words) => words.clone(),
            Words::Line(line) => line.split_whitespace().map(str::to_owned).collect(),
        }
    }
}

/// A duration above zero: seconds, or a number with a unit.
#[derive(Clone, Copy, Debug)]
pub struct Limit(pub Duration);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a duration: seconds, or a string such as \"90s\""
        )]
        enum Written {
            Seconds(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Seconds(seconds) => seconds.to_string(),
            Written::Text(text) => text,
        };
        parse_duration(&text).map(Limit).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is no duration above zero; write 30, \"90s\" or \"2m\""
            ))
        })
    }
}

/// A file that was found, and what it says.
pub struct Found {
    pub source: Source,
    pub config: Config,
}

impl Found {
    /// The file in a directory or the nearest above it.
    fn near(directory: &Path) -> Result<Option<Found>, Failure> {
        let mut above = directory.ancestors().map(|above| above.join(FILE));
        let Some(path) = above.find(|path| path.is_file()) else {
            return Ok(None);
        };
        let source = Source::read(&path)?;
        let config = source.parse()?;
        Ok(Some(Found { source, config }))
    }
}

/// Where suites run, what is configured for them, and where their records are.
pub struct Place {
    /// The directory that was named, or the current one.
    pub root: PathBuf,
    /// The configuration.
    pub found: Option<Found>,
    /// The file's directory, or the root.
    pub home: PathBuf,
    pub state: PathBuf,
}

impl Place {
    pub fn find(root: Option<&Path>, state: Option<&Path>) -> Result<Place, Failure> {
        let here = std::env::current_dir().map_err(|error| {
            Failure::usage("the current directory is not there any more").caused_by(error)
        })?;
        let no_directory =
            |root: &Path| Failure::usage(format!("--root {} is no directory", root.display()));
        let root = match root {
            Some(root) => {
                let whole = here.join(root).canonicalize();
                whole.map_err(|error| no_directory(root).caused_by(error))?
            }
            None => here.clone(),
        };
        if !root.is_dir() {
            return Err(no_directory(&root));
        }
        let found = Found::near(&root)?;
        let home = found.as_ref().and_then(|found| found.source.path.parent());
        let home = home.unwrap_or(&root).to_owned();
        Ok(Place {
            state: state.map_or_else(|| home.join(".evenkeel"), |state| here.join(state)),
            root,
            found,
            home,
        })
    }

    /// The project's name: as it is configured, else as the checkout tells.
    pub fn project(&self) -> String {
        let configured = self.found.as_ref();
        let configured = configured.and_then(|found| found.config.project.clone());
        configured.unwrap_or_else(|| crate::project::name(&self.home))
    }
}

impl Config {
    /// The suites with their names, in the order in which they are written.
    pub fn suites(&self) -> Vec<(&str, &Spanned<Suite>)> {
        let named = self.suite.iter();
        let mut suites: Vec<(&str, &Spanned<Suite>)> =
            named.map(|(name, suite)| (name.as_str(), suite)).collect();
        suites.sort_by_key(|(_, suite)| suite.span().start);
        suites
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> Failure {
        let parsed = Source::of_text(text).parse::<Config>();
        parsed.expect_err("this configuration is wrong")
    }

    /// What is written wrong, the line that must be named, a word of the message, and one of the hint.
    const WRONG: &[(&str, usize, &str, &str)] = &[
        (
            "[suite.unit]\ncommand = \"pytest\"\nslotz = 4\n",
            3,
            "slotz",
            "did you mean `slots`",
        ),
        ("projet = \"x\"\n", 1, "projet", "did you mean `project`"),
        ("[suite.unit]\nslots = 4\n", 1, "command", "command = ["),
        (
            "[suite.unit]\ncommand = 4\n",
            2,
            "list of words",
            "command = [",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\nslots = \"four\"\n",
            3,
            "invalid type",
            "slots = 4",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\nslots = -1\n",
            3,
            "invalid value",
            "slots = 4",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\ntimeout = \"soon\"\n",
            3,
            "no duration",
            "timeout = ",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\nslow = 0\n",
            3,
            "no duration",
            "slow = ",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\ncollect = \"some\"\n",
            3,
            "some",
            "collect = ",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\nlocks = \"db\"\n",
            3,
            "invalid type",
            "locks = [",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\nenvironment = { A = 1 }\n",
            3,
            "invalid type",
            "environment = {",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\nwith = { units = 1 }\n",
            3,
            "list of strings",
            "with = {",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\n",
            2,
            "invalid",
            "command = [",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\ncommand = \"pytest\"\n",
            3,
            "duplicate",
            "command = [",
        ),
        ("[suite.unit\ncommand = \"pytest\"\n", 1, "", "[suite.unit]"),
        (
            "[suite.unit]\ncommand = \"pytest\"\n[[suite.unit.override]]\ntimeout = 3\n",
            3,
            "units",
            "units = [",
        ),
        (
            "[suite.unit]\ncommand = \"pytest\"\n[[suite.unit.override]]\nunits = [\"a\"]\nisolate = true\n",
            5,
            "isolate",
            "known here: units",
        ),
    ];

    #[test]
    fn each_kind_of_mistake_is_named_with_its_line_and_what_to_write() {
        for &(text, line, word, hint) in WRONG {
            let failure = failure(text);
            let message = failure.to_string();
            let shown = failure.hint().unwrap_or_default();
            assert!(
                message.contains(&format!("line {line}:")) && message.contains(word),
                "{text}\n{message}"
            );
            assert!(shown.contains(hint), "{text}\n{message}\n{shown}");
        }
    }

    #[test]
    fn a_duration_takes_numbers_and_units() {
        for (written, seconds) in [
            ("30", 30.0),
            ("\"90s\"", 90.0),
            ("\"2m\"", 120.0),
            ("0.5", 0.5),
            ("\"500ms\"", 0.5),
        ] {
            let text = format!("[suite.unit]\ncommand = [\"pytest\"]\ntimeout = {written}\n");
            let config: Config = toml::from_str(&text).expect("a valid file");
            let (_, suite) = config.suites()[0];
            let timeout = suite.get_ref().timeout;
            assert_eq!(
                timeout.map(|limit| limit.0.as_secs_f64()),
                Some(seconds),
                "{written}"
            );
        }
    }

    #[test]
    fn suites_keep_the_order_in_which_they_are_written() {
        let text = "[suite.b]\ncommand = \"pytest b\"\n[suite.a]\ncommand = \"pytest a\"\n";
        let config: Config = toml::from_str(text).expect("a valid file");
        let names: Vec<&str> = config.suites().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
