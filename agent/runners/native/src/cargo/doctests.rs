//! Doctests: rustdoc compiles and runs them, and takes no exact names, only words without spaces that names contain.

use std::collections::BTreeSet;

/// Parts what rustdoc was given into its own arguments and those for the tests. Of the tool that tests are run with only
/// the user's own runner stays.
pub(super) fn without_tests(arguments: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut own, mut tests, mut tool) = (Vec::new(), Vec::new(), Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument.clone(), None),
        };
        match name.as_str() {
            "--test-args" => {
                let given = value.or_else(|| arguments.next()).unwrap_or_default();
                tests.extend(given.split_whitespace().map(str::to_owned));
            }
            "--test-runtool" | "--test-runtool-arg" => {
                tool.extend(value.or_else(|| arguments.next()));
            }
            _ => own.push(argument),
        }
    }
    // Ours, its two words, and how many words of the user's follow.
    let is_ours = tool.get(1).is_some_and(|word| word == crate::ARGUMENT);
    let theirs = if is_ours {
        tool.split_off(tool.len().min(4))
    } else {
        tool
    };
    for (at, word) in theirs.into_iter().enumerate() {
        let option = if at == 0 {
            "--test-runtool"
        } else {
            "--test-runtool-arg"
        };
        own.extend([option.to_owned(), word]);
    }
    (own, tests)
}

/// The crate whose doctests these arguments are for.
pub(super) fn crate_name(arguments: &[String]) -> Option<&str> {
    let at = arguments.iter().position(|word| word == "--crate-name")?;
    arguments.get(at + 1).map(String::as_str)
}

/// Filters and skips that choose the wanted names out of all, and as few others as words without spaces allow. What they choose
/// beyond the wanted is run and not counted.
pub(super) fn select(all: &[&str], wanted: &BTreeSet<&str>) -> Vec<String> {
    let others: Vec<&str> = all
        .iter()
        .copied()
        .filter(|name| !wanted.contains(name))
        .collect();
    if others.is_empty() {
        return Vec::new();
    }
    let mut filters: Vec<&str> = Vec::new();
    for name in wanted {
        if filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        let meets = |word: &&str| others.iter().filter(|other| other.contains(*word)).count();
        let best = name
            .split_whitespace()
            .min_by_key(|word| (meets(word), std::cmp::Reverse(word.len())));
        filters.extend(best);
    }
    let chosen = others
        .iter()
        .filter(|other| filters.iter().any(|filter| other.contains(filter)));
    let mut skips: Vec<&str> = Vec::new();
    for other in chosen {
        if skips.iter().any(|skip| other.contains(skip)) {
            continue;
        }
        let harmless = |word: &&str| !wanted.iter().any(|name| name.contains(*word));
        skips.extend(other.split_whitespace().find(harmless));
    }
    let skips = skips
        .into_iter()
        .flat_map(|skip| ["--skip".to_owned(), skip.to_owned()]);
    filters
        .into_iter()
        .map(str::to_owned)
        .chain(skips)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 6] = [
        "src/a.rs - one (line 3)",
        "src/a.rs - one (line 13)",
        "src/a.rs - one::two (line 30)",
        "src/b.rs - (line 3)",
        "src/b.rs - three (line 130)",
        "README.md - (line 3)",
    ];

    /// What libtest makes of the arguments.
    fn chosen(arguments: &[String]) -> BTreeSet<&'static str> {
        let (mut filters, mut skips) = (Vec::new(), Vec::new());
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--skip" => skips.extend(words.next()),
                _ => filters.push(word),
            }
        }
        ALL.into_iter()
            .filter(|name| filters.is_empty() || filters.iter().any(|word| name.contains(&***word)))
            .filter(|name| !skips.iter().any(|word| name.contains(&***word)))
            .collect()
    }

    #[test]
    fn every_wanted_test_is_chosen_and_nearly_nothing_else() {
        let mut beyond = 0;
        for mask in 1..1u32 << ALL.len() {
            let wanted: BTreeSet<&str> = (0..ALL.len())
                .filter(|bit| mask & (1 << bit) != 0)
                .map(|bit| ALL[bit])
                .collect();
            let arguments = select(&ALL, &wanted);
            assert!(arguments.iter().all(|word| !word.contains(' ')));
            let chosen = chosen(&arguments);
            assert!(chosen.is_superset(&wanted), "{wanted:?}: {arguments:?}");
            beyond += chosen.len() - wanted.len();
        }
        assert!(beyond < 16, "{beyond} tests too many in 63 choices");
    }

    #[test]
    fn arguments_for_the_tests_are_told_from_rustdocs_own() {
        let given = [
            "--crate-name",
            "a",
            "--test",
            "src/lib.rs",
            "--test-runtool",
            "/opt/e",
            "--test-runtool-arg=__runner",
            "--test-runtool-arg",
            "capture",
            "--test-runtool-arg=2",
            "--test-runtool-arg=env",
            "--test-runtool-arg=A=1",
            "--test-args",
            "--skip",
            "--test-args=b c",
        ];
        let (own, tests) = without_tests(given.map(str::to_owned).to_vec());
        assert_eq!(crate_name(&own), Some("a"));
        let rest = ["--test-runtool", "env", "--test-runtool-arg", "A=1"];
        assert_eq!(own[..4], ["--crate-name", "a", "--test", "src/lib.rs"]);
        assert_eq!(own[4..], rest);
        assert_eq!(tests, ["--skip", "b", "c"]);
    }
}
