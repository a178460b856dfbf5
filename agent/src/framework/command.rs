//! Any command that writes JUnit: the template is filled in and run by the runner in our own binary.

use crate::process::Spawn;
use evenkeel_proto::suite::Suite;
use std::path::Path;

/// `binary` is Evenkeel's own.
pub(super) fn spawn(suite: &Suite, binary: &Path) -> Spawn {
    let own = [
        binary.to_string_lossy().into_owned(),
        evenkeel_runners::ARGUMENT.to_owned(),
        "command".to_owned(),
    ];
    Spawn {
        argv: [&own[..], &suite.command[..]].concat(),
        ..super::protocol::spawn(suite)
    }
}
