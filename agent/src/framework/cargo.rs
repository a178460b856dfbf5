//! Cargo: the user's command is carried out by the runner in our own binary.

use crate::process::Spawn;
use evenkeel_proto::v1;
use evenkeel_runners::cargo::words;
use std::path::Path;

pub(super) fn recognises(command: &[String]) -> bool {
    words::find(command).is_some()
}

/// `binary` is Evenkeel's own.
pub(super) fn spawn(suite: &v1::Suite, binary: &Path) -> Spawn {
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
