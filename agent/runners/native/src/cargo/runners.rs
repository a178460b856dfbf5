//! What Cargo is told to start test binaries with: this binary, and behind it what the user's configuration names.

use super::build::Refused;
use crate::wire::Refusal;
use cargo_config2::{Config, Walk};
use std::path::Path;

/// Options for Cargo that put this binary in the place of every target's runner.
pub(super) fn options(
    own: &Path,
    directory: &Path,
    user: &[String],
) -> Result<Vec<String>, Refused> {
    let configured = if mentions_runner(directory, user) {
        configured(directory, user).map_err(|error| {
            let message = format!("Cargo's configuration cannot be read: {error}");
            Refused::new(
                Refusal::Usage,
                message,
                "does the same command work without Evenkeel?",
            )
        })?
    } else {
        Vec::new()
    };
    if user.iter().any(|word| word.contains(".runner")) {
        let message = "a runner that is given with --config is not supported";
        let hint = "write it into .cargo/config.toml";
        return Err(Refused::new(Refusal::Unsupported, message, hint));
    }
    let mut options = vec!["--config".to_owned(), setting("cfg(all())", own, &[])];
    if !configured.is_empty() {
        // A runner for a triple goes before one for a condition, and two conditions that hold are an error.
        options.clear();
    }
    for (triple, runner) in configured {
        options.extend(["--config".to_owned(), setting(&triple, own, &runner)]);
    }
    Ok(options)
}

/// The setting for one target. What JSON calls a list of strings, TOML does too.
fn setting(target: &str, own: &Path, through: &[String]) -> String {
    let first = [
        own.to_string_lossy().into_owned(),
        crate::ARGUMENT.to_owned(),
        super::CAPTURE.to_owned(),
        through.len().to_string(),
    ];
    let words = serde_json::json!([&first[..], through].concat());
    format!("target.'{target}'.runner={words}")
}

/// Whether anything could say that there is one. Asking for it properly takes the compiler.
fn mentions_runner(directory: &Path, user: &[String]) -> bool {
    let is_variable = |name: &str| name.starts_with("CARGO_TARGET_") && name.ends_with("_RUNNER");
    std::env::vars_os().any(|(name, _)| is_variable(&name.to_string_lossy()))
        || user.iter().any(|word| word.contains("runner"))
        || Walk::new(directory)
            .any(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains("runner")))
}

/// The targets that tests are built for, each with the user's runner; empty where none has one.
fn configured(
    directory: &Path,
    user: &[String],
) -> Result<Vec<(String, Vec<String>)>, cargo_config2::Error> {
    let config = Config::load_with_cwd(directory)?;
    let mut words = user.to_vec();
    let mut named: Vec<String> = Vec::new();
    while let Some(target) = super::words::take_value(&mut words, "--target") {
        named.push(target);
    }
    let mut found = Vec::new();
    let mut any = false;
    for triple in config.build_target_for_config(named.iter().map(String::as_str))? {
        let runner = config.runner(&triple)?;
        any |= runner.is_some();
        let runner = runner.map_or_else(Vec::new, |runner| {
            let program = runner.path.to_string_lossy().into_owned();
            let arguments = runner.args.iter();
            std::iter::once(program)
                .chain(arguments.map(|word| word.to_string_lossy().into_owned()))
                .collect()
        });
        found.push((triple.triple().to_owned(), runner));
    }
    Ok(if any { found } else { Vec::new() })
}
