//! The user's command: where Cargo's own words are in it.

use std::ops::Range;

/// What of Cargo runs the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `cargo test`
    Test,
    /// `cargo nextest run`
    Nextest,
}

/// Positions in a command: `cargo +nightly --locked test -p a -- --skip b` behind any wrapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    pub tool: Tool,
    /// The word that starts Cargo, with the toolchain behind it if one is named.
    pub cargo: Range<usize>,
    /// `test`, or `nextest run`.
    pub subcommand: Range<usize>,
    /// What is between the subcommand and `--`.
    pub options: Range<usize>,
    /// What is behind `--`, for the test binaries.
    pub harness: Range<usize>,
}

/// Options of Cargo itself that take the next word.
const TAKE_A_VALUE: [&str; 4] = ["--color", "--config", "-C", "-Z"];

/// Finds Cargo in a command. Nothing where it is not there, or where it does not run tests.
pub fn find(command: &[String]) -> Option<Words> {
    (0..command.len()).find_map(|at| words_at(command, at))
}

fn words_at(command: &[String], at: usize) -> Option<Words> {
    let word = |at: usize| command.get(at).map(String::as_str);
    if command[at].rsplit('/').next() != Some("cargo") {
        return None;
    }
    let mut next = at + 1;
    if word(next).is_some_and(|word| word.starts_with('+')) {
        next += 1;
    }
    let cargo = at..next;
    while let Some(option) = word(next).filter(|word| word.starts_with('-')) {
        next += if TAKE_A_VALUE.contains(&option) { 2 } else { 1 };
    }
    let (tool, length) = match (word(next)?, word(next + 1)) {
        ("test" | "t", _) => (Tool::Test, 1),
        ("nextest", Some("run" | "r")) => (Tool::Nextest, 2),
        _ => return None,
    };
    let subcommand = next..next + length;
    let rest = &command[subcommand.end..];
    let separator = rest.iter().position(|word| word == "--");
    let end = subcommand.end + separator.unwrap_or(rest.len());
    Some(Words {
        tool,
        cargo,
        options: subcommand.end..end,
        subcommand,
        harness: (end + usize::from(separator.is_some())).min(command.len())..command.len(),
    })
}

/// Takes an option with a value out of some words; what it was set to last.
pub(super) fn take_value(words: &mut Vec<String>, name: &str) -> Option<String> {
    let mut value = None;
    let prefix = format!("{name}=");
    while let Some(at) = words
        .iter()
        .position(|word| word == name || word.starts_with(&prefix))
    {
        let word = words.remove(at);
        value = match word.strip_prefix(&prefix) {
            Some(given) => Some(given.to_owned()),
            None => (at < words.len()).then(|| words.remove(at)),
        };
    }
    value
}

/// Takes an option without a value out of some words; whether it was there.
pub(super) fn take_flag(words: &mut Vec<String>, name: &str) -> bool {
    let before = words.len();
    words.retain(|word| word != name);
    words.len() < before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn cargo_is_found_behind_wrappers_and_before_its_options() {
        let line = "nice cargo +nightly --config a=1 --locked test -p b -- --skip c";
        let words = find(&command(line)).expect("it is there");
        assert_eq!(
            words,
            Words {
                tool: Tool::Test,
                cargo: 1..3,
                subcommand: 6..7,
                options: 7..9,
                harness: 10..12,
            }
        );
        let words = find(&command("cargo nextest run -p a")).expect("it is there");
        assert_eq!((words.tool, words.options), (Tool::Nextest, 3..5));
        assert!(words.harness.is_empty());
    }

    #[test]
    fn what_runs_no_tests_is_not_taken() {
        for line in [
            "cargo build",
            "cargo nextest list",
            "pytest cargo test",
            "cargo",
        ] {
            let found = find(&command(line));
            let taken = found.is_some() && line != "pytest cargo test";
            assert!(!taken, "{line}: {found:?}");
        }
    }

    #[test]
    fn options_are_taken_out_in_both_forms() {
        let mut words = command("--format json -p a --format=pretty --no-run");
        assert_eq!(
            take_value(&mut words, "--format").as_deref(),
            Some("pretty")
        );
        assert!(take_flag(&mut words, "--no-run") && !take_flag(&mut words, "--doc"));
        assert_eq!(words, command("-p a"));
    }
}
