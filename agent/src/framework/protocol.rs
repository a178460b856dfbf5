//! A command that speaks the runner protocol by itself.

use crate::process::Spawn;
use evenkeel_proto::suite::Suite;

pub(super) fn spawn(suite: &Suite) -> Spawn {
    Spawn {
        argv: suite.command.clone(),
        directory: suite.directory.clone().into(),
        environment: suite
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), Some(value.clone())))
            .collect(),
    }
}
