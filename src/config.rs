//! `evenkeel.toml`: what to run when the command line does not say it.

use crate::cli::{Collect, parse_duration};
use crate::exit::Failure;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const FILE: &str = "evenkeel.toml";

/// The file, as written. docs/config.md describes its keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names the project in the history. Default: the repository's name.
    pub project: Option<String>,
    /// The suites, by name.
    #[serde(default)]
    pub suite: BTreeMap<String, Suite>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    pub command: Words,
    /// Relative to the file.
    pub directory: Option<PathBuf>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    pub runner: Option<String>,
    pub slots: Option<u32>,
    #[serde(default, deserialize_with = "timeout")]
    pub timeout: Option<Duration>,
    pub collect: Option<Collect>,
    #[serde(default)]
    pub isolate: bool,
    /// Settings of the runner, by its own names.
    #[serde(default)]
    pub with: BTreeMap<String, Values>,
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
            .map(|(name, values)| (name.clone(), values.list()))
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

fn timeout<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
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
    let parsed = parse_duration(&text);
    parsed.map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "{text:?} is no duration above zero; write 30, \"90s\" or \"2m\""
        ))
    })
}

/// The file in a directory or the nearest above it, with where it was found.
fn find(directory: &Path) -> Result<Option<(PathBuf, Config)>, Failure> {
    let Some(path) = directory
        .ancestors()
        .map(|above| above.join(FILE))
        .find(|path| path.is_file())
    else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::usage(format!("cannot read {}", path.display())).caused_by(error)
    })?;
    let config = toml::from_str(&text).map_err(|error| explain(&path, &text, &error))?;
    Ok(Some((path, config)))
}

/// Where a suite runs, what is configured for it, and where its records are.
pub struct Place {
    /// The directory that was named, or the current one.
    pub root: PathBuf,
    /// The configuration, with the path of its file.
    pub found: Option<(PathBuf, Config)>,
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
        let found = find(&root)?;
        let home = found.as_ref().and_then(|(path, _)| path.parent());
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
        let configured = self
            .found
            .as_ref()
            .and_then(|(_, config)| config.project.clone());
        configured.unwrap_or_else(|| crate::project::name(&self.home))
    }
}

/// The line, what is wrong with it, and what was probably meant.
fn explain(path: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let line = error
        .span()
        .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let at = line.map_or_else(String::new, |line| {
        let shown = text.lines().nth(line - 1).unwrap_or_default();
        format!(" line {line}: `{}`", shown.trim())
    });
    let message = error.message();
    let failure = Failure::usage(format!("{}{at}: {message}", path.display()));
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((wrong, known)) if message.starts_with("unknown field") => {
            let near = known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(wrong, known), known))
                .min()
                .filter(|(distance, _)| *distance <= 3);
            let hint = near.map_or_else(
                || format!("known keys here: {}", known.join(", ")),
                |(_, near)| format!("did you mean `{near}`? known keys here: {}", known.join(", ")),
            );
            failure.with_hint(hint)
        }
        _ => failure.with_hint(
            "a suite looks like this:\n  [suite.unit]\n  command = [\"pytest\", \"tests\"]\n  timeout = \"60s\"",
        ),
    }
}

impl Config {
    /// The one suite that the file holds.
    pub fn only_suite(&self, path: &Path) -> Result<(&str, &Suite), Failure> {
        let mut suites = self.suite.iter();
        match (suites.next(), suites.next()) {
            (Some((name, suite)), None) => Ok((name, suite)),
            (None, _) => Err(Failure::usage(format!("{} names no suite", path.display()))
                .with_hint("add [suite.NAME] with a command, or give the command: evenkeel run -- pytest tests")),
            (Some(_), Some(_)) => Err(Failure::usage(format!(
                "{} names several suites, and a run takes one for now",
                path.display()
            ))
            .with_hint("keep one [suite.NAME] per file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> Failure {
        let error = toml::from_str::<Config>(text).expect_err("this configuration is wrong");
        explain(Path::new(FILE), text, &error)
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
        let failure = failure("[suite.unit]\ncommand = \"pytest\"\nslotz = 4\n");
        let text = failure.to_string();
        assert!(text.contains("line 3") && text.contains("slotz"), "{text}");
        assert!(
            failure
                .hint()
                .is_some_and(|hint| hint.contains("did you mean `slots`")),
            "{:?}",
            failure.hint()
        );
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
            assert_eq!(
                config.suite["unit"].timeout.map(|t| t.as_secs_f64()),
                Some(seconds),
                "{written}"
            );
        }
        let text =
            failure("[suite.unit]\ncommand = [\"pytest\"]\ntimeout = \"soon\"\n").to_string();
        assert!(
            text.contains("line 3") && text.contains("no duration"),
            "{text}"
        );
    }

    #[test]
    fn two_suites_are_refused_for_now() {
        let config: Config = toml::from_str(
            "[suite.a]\ncommand = \"pytest a\"\n[suite.b]\ncommand = \"pytest b\"\n",
        )
        .expect("a valid file");
        assert!(config.only_suite(Path::new(FILE)).is_err());
    }
}
