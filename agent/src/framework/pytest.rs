//! pytest: the user's own command with our plugin loaded into it.

use super::Identity;
use crate::process::Spawn;
use evenkeel_proto::{suite::Suite, v1};
use std::io;
use std::path::{Path, PathBuf};
use v1::process_refused::Reason;

const PACKAGE: &str = "evenkeel_pytest";

/// The half of the slot that lives inside pytest: a package, as (file, text).
const FILES: &[(&str, &str)] = &[
    (
        "__init__.py",
        include_str!("../../runners/pytest/evenkeel_pytest/__init__.py"),
    ),
    (
        "basetemp.py",
        include_str!("../../runners/pytest/evenkeel_pytest/basetemp.py"),
    ),
    (
        "bytecode.py",
        include_str!("../../runners/pytest/evenkeel_pytest/bytecode.py"),
    ),
    (
        "closing.py",
        include_str!("../../runners/pytest/evenkeel_pytest/closing.py"),
    ),
    (
        "conversation.py",
        include_str!("../../runners/pytest/evenkeel_pytest/conversation.py"),
    ),
    (
        "coverage.py",
        include_str!("../../runners/pytest/evenkeel_pytest/coverage.py"),
    ),
    (
        "ending.py",
        include_str!("../../runners/pytest/evenkeel_pytest/ending.py"),
    ),
    (
        "finish.py",
        include_str!("../../runners/pytest/evenkeel_pytest/finish.py"),
    ),
    (
        "fixtures.py",
        include_str!("../../runners/pytest/evenkeel_pytest/fixtures.py"),
    ),
    (
        "foreign.py",
        include_str!("../../runners/pytest/evenkeel_pytest/foreign.py"),
    ),
    (
        "groups.py",
        include_str!("../../runners/pytest/evenkeel_pytest/groups.py"),
    ),
    (
        "loading.py",
        include_str!("../../runners/pytest/evenkeel_pytest/loading.py"),
    ),
    (
        "options.py",
        include_str!("../../runners/pytest/evenkeel_pytest/options.py"),
    ),
    (
        "replay.py",
        include_str!("../../runners/pytest/evenkeel_pytest/replay.py"),
    ),
    (
        "reports.py",
        include_str!("../../runners/pytest/evenkeel_pytest/reports.py"),
    ),
    (
        "slot.py",
        include_str!("../../runners/pytest/evenkeel_pytest/slot.py"),
    ),
    (
        "surroundings.py",
        include_str!("../../runners/pytest/evenkeel_pytest/surroundings.py"),
    ),
    (
        "teardown.py",
        include_str!("../../runners/pytest/evenkeel_pytest/teardown.py"),
    ),
    (
        "tee.py",
        include_str!("../../runners/pytest/evenkeel_pytest/tee.py"),
    ),
    (
        "terminal.py",
        include_str!("../../runners/pytest/evenkeel_pytest/terminal.py"),
    ),
    (
        "text.py",
        include_str!("../../runners/pytest/evenkeel_pytest/text.py"),
    ),
    (
        "units.py",
        include_str!("../../runners/pytest/evenkeel_pytest/units.py"),
    ),
    (
        "verdict.py",
        include_str!("../../runners/pytest/evenkeel_pytest/verdict.py"),
    ),
    (
        "walk.py",
        include_str!("../../runners/pytest/evenkeel_pytest/walk.py"),
    ),
    (
        "warned.py",
        include_str!("../../runners/pytest/evenkeel_pytest/warned.py"),
    ),
    (
        "whole.py",
        include_str!("../../runners/pytest/evenkeel_pytest/whole.py"),
    ),
    (
        "wire.py",
        include_str!("../../runners/pytest/evenkeel_pytest/wire.py"),
    ),
    (
        "worker.py",
        include_str!("../../runners/pytest/evenkeel_pytest/worker.py"),
    ),
];

pub(super) fn recognises(command: &[String]) -> bool {
    behind_pytest(command).is_some()
}

pub(super) fn asks_version(command: &[String]) -> Option<Vec<String>> {
    let start = &command[..behind_pytest(command)?];
    Some([start, &["--version".to_owned()]].concat())
}

/// Where pytest's own arguments begin: behind a word `pytest` or `py.test`, with whatever wrapper in front of it, or
/// behind `-m pytest`.
fn behind_pytest(command: &[String]) -> Option<usize> {
    /// Options of wrappers whose value may be the word pytest without its being started.
    const TAKE_A_VALUE: [&str; 6] = [
        "--with",
        "--from",
        "--group",
        "--only-group",
        "--extra",
        "--package",
    ];
    let is_pytest = |word: &str| matches!(word.rsplit('/').next(), Some("pytest" | "py.test"));
    command.iter().enumerate().find_map(|(at, word)| {
        let named =
            is_pytest(word) && (at == 0 || !TAKE_A_VALUE.contains(&command[at - 1].as_str()));
        named.then_some(at + 1)
    })
}

pub(super) fn spawn(suite: &Suite, identity: &Identity, cache: &Path) -> io::Result<Spawn> {
    let directory = install(cache, identity.shard)?;
    let mut argv = suite.command.clone();
    if let Some(at) = behind_pytest(&argv) {
        argv.splice(at..at, ["-p".to_owned(), PACKAGE.to_owned()]);
    }
    let mut environment: Vec<(String, Option<String>)> = suite
        .environment
        .iter()
        .map(|(name, value)| (name.clone(), Some(value.clone())))
        .collect();
    let given = |name: &str| {
        suite
            .environment
            .get(name)
            .cloned()
            .or_else(|| std::env::var(name).ok())
    };

    // The plugin takes its directory out again before any test can see it.
    let own = directory.to_string_lossy().into_owned();
    let path = match given("PYTHONPATH").filter(|path| !path.is_empty()) {
        Some(theirs) => {
            environment.push(("EVENKEEL_PYTHONPATH_WAS".to_owned(), Some(theirs.clone())));
            format!("{own}:{theirs}")
        }
        None => own,
    };
    environment.push(("PYTHONPATH".to_owned(), Some(path)));
    let bytecode = std::path::absolute(cache.join("bytecode"))?;
    let bytecode = bytecode.to_string_lossy().into_owned();
    environment.push(("EVENKEEL_BYTECODE".to_owned(), Some(bytecode)));
    if suite.whole {
        environment.push(("EVENKEEL_COLLECT".to_owned(), Some("whole".to_owned())));
    }
    // One hash seed a run: ids of parametrised tests that come out of sets are then the same in every slot.
    if given("PYTHONHASHSEED").is_none() {
        let seed = identity.seed % (u64::from(u32::MAX) + 1);
        environment.push(("PYTHONHASHSEED".to_owned(), Some(seed.to_string())));
    }
    Ok(Spawn {
        argv,
        directory: suite.directory.clone().into(),
        environment,
    })
}

/// Puts the plugin where Python can load it. The directory is named by content, so that versions do not disturb each
/// other and Python's bytecode cache is used again.
fn install(cache: &Path, shard: u32) -> io::Result<PathBuf> {
    let mut digest = blake3::Hasher::new();
    for (name, text) in FILES {
        digest.update(name.as_bytes());
        digest.update(&text.len().to_le_bytes());
        digest.update(text.as_bytes());
    }
    let directory = cache
        .join("runners")
        .join(&digest.finalize().to_hex()[..16]);
    let package = directory.join(PACKAGE);
    // File by file, so that one which somebody has cleared away comes back.
    for (name, text) in FILES {
        let file = package.join(name);
        if !file.exists() {
            std::fs::create_dir_all(&package)?;
            // Slots of one process, and other processes, may be doing the same.
            let partial = package.join(format!("{name}.{}-{shard}.partial", std::process::id()));
            std::fs::write(&partial, text)?;
            std::fs::rename(&partial, &file)?;
        }
    }
    Ok(directory)
}

/// Before our plugin was loaded pytest has its own ways to say that it cannot go on.
pub(super) fn explain_exit(status: i32, said: &str) -> Option<(Reason, &'static str)> {
    /// pytest's own code for a usage error.
    const USAGE: i32 = 4;
    if said.contains("No module named pytest") {
        let hint = "install it for this Python (python -m pip install pytest), or name the Python that has it: evenkeel run -- .venv/bin/python -m pytest";
        return Some((Reason::Broken, hint));
    }
    match status {
        0 => None,
        USAGE => Some((
            Reason::Usage,
            "the same command without Evenkeel says the same",
        )),
        _ => Some((
            Reason::Broken,
            "does the same command work without Evenkeel?",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Vec<String> {
        command.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn pytest_is_found_behind_its_wrappers() {
        for (command, at) in [
            ("pytest tests", Some(1)),
            ("/venv/bin/pytest", Some(1)),
            ("python3 -m pytest -q", Some(3)),
            ("uv run --frozen pytest tests", Some(4)),
            ("poetry run pytest", Some(3)),
            ("env A=1 py.test", Some(3)),
            ("cargo test", None),
            ("tool --with pytest", None),
        ] {
            assert_eq!(behind_pytest(&words(command)), at, "{command}");
        }
    }

    #[test]
    fn the_whole_package_is_embedded_and_old_pythons_can_read_it() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("runners/pytest/evenkeel_pytest");
        let mut found: Vec<String> = std::fs::read_dir(&source)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".py"))
            .collect();
        found.sort();
        let embedded: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(found, embedded);
        // pytest rewrites the asserts of what it loads by name, but for files that ask it not to.
        assert!(
            FILES
                .iter()
                .all(|(_, text)| text.contains("PYTEST_DONT_REWRITE"))
        );

        const PARSE: &str = "import ast, sys\nfor name in sys.argv[1:]: ast.parse(open(name).read(), name, feature_version=(3, 8))";
        let parsed = std::process::Command::new("python3")
            .args(["-c", PARSE])
            .args(found.iter().map(|name| source.join(name)))
            .status()
            .unwrap();
        assert!(parsed.success(), "not the syntax of Python 3.8");
    }
}
