//! Cargo: the user's command is carried out by the runner in our own binary.

use crate::process::Spawn;
use evenkeel_proto::suite::Suite;
use evenkeel_runners::cargo::words;
use std::path::Path;

pub(super) fn recognises(command: &[String]) -> bool {
    words::find(command).is_some()
}

pub(super) fn asks_version(command: &[String]) -> Option<Vec<String>> {
    let found = words::find(command)?;
    let mut question = command[..found.cargo.end].to_vec();
    if found.tool == words::Tool::Nextest {
        question.push("nextest".to_owned());
    }
    question.push("--version".to_owned());
    Some(question)
}

/// `binary` is Evenkeel's own.
pub(super) fn spawn(suite: &Suite, binary: &Path) -> Spawn {
    let own = [
        binary.to_string_lossy().into_owned(),
        evenkeel_runners::ARGUMENT.to_owned(),
        "cargo".to_owned(),
    ];
    Spawn {
        argv: [&own[..], &suite.command[..]].concat(),
        ..super::protocol::spawn(suite)
    }
}
