//! The arguments of a test binary, as libtest and its imitators take them.

/// What the user's arguments mean for listing tests and for running some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Harness {
    /// They choose which tests there are: filters, `--skip`, `--exact`.
    selection: Vec<String>,
    /// They are given at listing and at running alike, such as `--ignored`.
    common: Vec<String>,
    /// The user wants to see what passing tests print.
    pub show_output: bool,
    /// What is not passed on, with the reason.
    pub notes: Vec<String>,
    /// With this nothing would be run.
    pub runs_nothing: Option<String>,
}

impl Harness {
    pub(super) fn parse(arguments: &[String]) -> Harness {
        let mut harness = Harness::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let mut value = || value.clone().or_else(|| words.next().cloned());
            match name {
                "--list" | "--help" | "-h" => harness.runs_nothing = Some(name.to_owned()),
                "--skip" => {
                    let skipped = value().unwrap_or_default();
                    harness.selection.extend(["--skip".to_owned(), skipped]);
                }
                "--exact" => harness.selection.push(name.to_owned()),
                "--nocapture" | "--no-capture" | "--show-output" => harness.show_output = true,
                "-q" | "--quiet" => {}
                "--color" | "--format" => drop(value()),
                "--test-threads" => {
                    value();
                    let note = "--test-threads is not passed on: each slot runs one test at a time, and --slots says how many slots there are";
                    harness.notes.push(note.to_owned());
                }
                "--logfile" => {
                    value();
                    let note = "--logfile is not passed on: each process would write it anew; --events writes what happens";
                    harness.notes.push(note.to_owned());
                }
                "-Z" | "--shuffle-seed" => {
                    harness.common.push(name.to_owned());
                    harness.common.extend(value());
                }
                _ if name.starts_with('-') => harness.common.push(word.clone()),
                _ => harness.selection.push(word.clone()),
            }
        }
        harness
    }

    /// Lists what the user has chosen.
    pub(super) fn listing(&self) -> Vec<String> {
        let how = ["--list", "--format", "terse"].map(str::to_owned);
        [&self.common[..], &self.selection[..], &how[..]].concat()
    }

    /// Lists whatever there is.
    pub(super) fn listing_of_all(&self) -> Vec<String> {
        let how = ["--list", "--format", "terse"].map(str::to_owned);
        [&self.common[..], &how[..]].concat()
    }

    /// Runs exactly the tests that are named behind it, one after the other, with all output as it comes.
    pub(super) fn exactly(&self) -> Vec<String> {
        let how = ["--exact"].map(str::to_owned);
        [&self.common[..], &one_by_one(), &how[..]].concat()
    }

    /// As [`Harness::exactly`] for rustdoc, which cannot be told exact names: filters and skips follow.
    pub(super) fn matching(&self) -> Vec<String> {
        [&self.common[..], &one_by_one()].concat()
    }
}

fn one_by_one() -> [String; 6] {
    [
        "--test-threads",
        "1",
        "--nocapture",
        "--format=pretty",
        "--color",
        "never",
    ]
    .map(str::to_owned)
}

/// The tests in a listing in the terse format; nothing where it is none.
pub(super) fn tests_of(listing: &str) -> Option<Vec<String>> {
    let test = |line: &str| {
        let name = line
            .strip_suffix(": test")
            .or_else(|| line.strip_suffix(": benchmark"));
        name.map(str::to_owned)
    };
    listing
        .lines()
        .filter(|line| !line.is_empty())
        .map(test)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn filters_choose_and_other_options_stay() {
        let harness = Harness::parse(&words(
            "parse --skip slow --skip=big --exact --ignored --test-threads=4 -q --nocapture -Z unstable-options",
        ));
        assert_eq!(
            harness.listing(),
            words(
                "--ignored -Z unstable-options parse --skip slow --skip big --exact --list --format terse"
            )
        );
        assert_eq!(
            harness.exactly(),
            words(
                "--ignored -Z unstable-options --test-threads 1 --nocapture --format=pretty --color never --exact"
            )
        );
        assert!(harness.show_output && harness.notes.len() == 1 && harness.runs_nothing.is_none());
    }

    #[test]
    fn an_option_that_runs_nothing_is_seen() {
        let harness = Harness::parse(&words("--list"));
        assert_eq!(harness.runs_nothing.as_deref(), Some("--list"));
    }

    #[test]
    fn a_listing_is_read_line_by_line_or_not_at_all() {
        let listing = "a::b: test\nc d (line 3): test\ne: benchmark\n\n";
        let names = ["a::b", "c d (line 3)", "e"].map(str::to_owned);
        assert_eq!(tests_of(listing), Some(names.to_vec()));
        assert_eq!(tests_of("hello\na: test\n"), None);
        assert_eq!(tests_of(""), Some(Vec::new()));
    }
}
