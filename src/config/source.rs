//! The file as it was written: where in it something is wrong, and what was probably meant.

use crate::exit::Failure;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration file with its text.
pub struct Source {
    pub path: PathBuf,
    text: String,
}

/// What each key looks like, for who wrote something else.
const EXAMPLES: &[(&str, &str)] = &[
    ("project", "project = \"shop\""),
    ("slots", "slots = 4"),
    ("command", "command = [\"pytest\", \"tests\"]"),
    ("directory", "directory = \"backend\""),
    ("environment", "environment = { TZ = \"UTC\", CI = \"1\" }"),
    ("runner", "runner = \"pytest\""),
    ("timeout", "timeout = \"90s\""),
    ("slow", "slow = \"10s\""),
    ("grace", "grace = \"5s\""),
    ("collect", "collect = \"whole\""),
    ("isolate", "isolate = true"),
    ("exclusive", "exclusive = true"),
    ("copies", "copies = true"),
    ("locks", "locks = [\"database\"]"),
    ("with", "with = { units = \"spec/**/*_spec.rb\" }"),
    (
        "setup",
        "setup = [\"docker\", \"compose\", \"up\", \"--wait\"]",
    ),
    ("teardown", "teardown = [\"docker\", \"compose\", \"down\"]"),
    ("slot-setup", "slot-setup = [\"scripts/create-database\"]"),
    (
        "slot-teardown",
        "slot-teardown = [\"scripts/drop-database\"]",
    ),
    ("units", "units = [\"tests/slow/**\"]"),
    (
        "override",
        "[[suite.unit.override]]\n  units = [\"tests/slow/**\"]\n  timeout = \"10m\"",
    ),
];
const A_SUITE: &str = "a suite looks like this:\n  [suite.unit]\n  command = [\"pytest\", \"tests\"]\n  timeout = \"60s\"";

impl Source {
    pub fn read(path: &Path) -> Result<Source, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read {}", path.display())).caused_by(error)
        })?;
        Ok(Source {
            path: path.to_owned(),
            text,
        })
    }

    #[cfg(test)]
    pub fn of_text(text: &str) -> Source {
        Source {
            path: super::FILE.into(),
            text: text.to_owned(),
        }
    }

    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        toml::from_str(&self.text).map_err(|error| self.explain(&error))
    }

    /// A message about this place of the file.
    pub fn wrong(&self, span: Range<usize>, message: &str) -> Failure {
        Failure::usage(format!(
            "{}{}: {message}",
            self.path.display(),
            self.at(&span)
        ))
    }

    /// A message about the file as a whole.
    pub fn lacks(&self, message: &str) -> Failure {
        Failure::usage(format!("{}: {message}", self.path.display()))
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        before.iter().filter(|&&byte| byte == b'\n').count()
    }

    fn at(&self, span: &Range<usize>) -> String {
        let line = self.line(span);
        let shown = self.text.lines().nth(line).unwrap_or_default();
        format!(" line {}: `{}`", line + 1, shown.trim())
    }

    /// The line, what is wrong with it, and what was probably meant.
    fn explain(&self, error: &toml::de::Error) -> Failure {
        let message = error.message();
        let span = error.span();
        let failure = match &span {
            Some(span) => self.wrong(span.clone(), message),
            None => self.lacks(message),
        };
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        match quoted.split_first() {
            Some((wrong, known)) if message.starts_with("unknown field") => {
                failure.with_hint(did_you_mean(wrong, known))
            }
            _ => failure
                .with_hint(span.map_or_else(|| A_SUITE.to_owned(), |span| self.example(&span))),
        }
    }

    /// What the key on this line looks like where it is right.
    fn example(&self, span: &Range<usize>) -> String {
        let line = self.text.lines().nth(self.line(span)).unwrap_or_default();
        let table = line.trim().trim_matches(['[', ']']).rsplit('.').next();
        let key = line.split_once('=').map(|(key, _)| key.trim()).or(table);
        let known = EXAMPLES.iter().find(|(name, _)| Some(*name) == key);
        known.map_or_else(
            || A_SUITE.to_owned(),
            |(_, example)| format!("write it like this:\n  {example}"),
        )
    }
}

/// Names that are not far from one that is unknown, and all that there are.
pub fn did_you_mean(wrong: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(wrong, known), known))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let all = format!("known here: {}", known.join(", "));
    near.map_or_else(
        || all.clone(),
        |(_, near)| format!("did you mean `{near}`? {all}"),
    )
}
