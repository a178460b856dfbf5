//! pytest: the user's own command with our plugin loaded into it.

use super::Identity;
use crate::process::Spawn;
use evenkeel_proto::v1;
use std::io;
use std::path::{Path, PathBuf};
use v1::process_refused::Reason;

/// The half of the slot that lives inside pytest.
const PLUGIN: &str = include_str!("../../runners/pytest/evenkeel_pytest.py");
const MODULE: &str = "evenkeel_pytest";

pub(super) fn recognises(command: &[String]) -> bool {
    behind_pytest(command).is_some()
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

pub(super) fn spawn(suite: &v1::Suite, identity: &Identity, cache: &Path) -> io::Result<Spawn> {
    let directory = install(cache, identity.shard)?;
    let mut argv = suite.command.clone();
    if let Some(at) = behind_pytest(&argv) {
        argv.splice(at..at, ["-p".to_owned(), MODULE.to_owned()]);
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
    let digest = blake3::hash(PLUGIN.as_bytes()).to_hex();
    let directory = cache.join("runners").join(&digest[..16]);
    let file = directory.join(format!("{MODULE}.py"));
    if !file.exists() {
        std::fs::create_dir_all(&directory)?;
        // Slots of one process, and other processes, may be doing the same.
        let own = format!("{MODULE}.{}-{shard}.partial", std::process::id());
        let partial = directory.join(own);
        std::fs::write(&partial, PLUGIN)?;
        std::fs::rename(&partial, &file)?;
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
}
