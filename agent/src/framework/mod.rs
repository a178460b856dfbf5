//! Frameworks: how a command is recognised, and how a warm process of it is started.
//!
//! An adapter is two functions: `recognise` (is this command mine?) and `spawn` (how do I start a slot?). Listing, running
//! and reporting is the runner protocol's business and the same for all.

mod cargo;
mod command;
mod protocol;
mod pytest;

use crate::process::Spawn;
use evenkeel_proto::{suite::Suite, v1};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Stands for the exit status of a process that could not even be started.
pub(crate) const CANNOT_START: i32 = -1;

/// Every framework that Evenkeel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    Pytest,
    Cargo,
    /// Any command that writes JUnit; its words are a template.
    Command,
    /// The command is a runner that speaks the protocol by itself.
    Protocol,
}

impl Framework {
    pub const ALL: [Framework; 4] = [
        Framework::Pytest,
        Framework::Cargo,
        Framework::Command,
        Framework::Protocol,
    ];

    /// The name that `--runner` takes.
    pub fn name(self) -> &'static str {
        match self {
            Framework::Pytest => "pytest",
            Framework::Cargo => "cargo",
            Framework::Command => "command",
            Framework::Protocol => "protocol",
        }
    }

    /// The names of the settings that it has; none where whatever is set is for the runner to understand.
    pub fn settings(self) -> Option<&'static [&'static str]> {
        match self {
            Framework::Pytest | Framework::Cargo => Some(&[]),
            Framework::Command => Some(evenkeel_runners::command::SETTINGS),
            Framework::Protocol => None,
        }
    }

    /// Whether each test can have a process of its own.
    pub fn isolates(self) -> bool {
        match self {
            Framework::Pytest | Framework::Command => false,
            Framework::Cargo | Framework::Protocol => true,
        }
    }

    /// What it means that a process of this framework exited by itself before it was ready. Nothing where that can be an
    /// accident, so that trying again makes sense.
    pub(crate) fn explain_exit(self, status: i32, said: &str) -> Option<v1::ProcessRefused> {
        let refused =
            |reason: v1::process_refused::Reason, message: &str, hint: &str| v1::ProcessRefused {
                reason: reason as i32,
                message: message.to_owned(),
                hint: hint.to_owned(),
                ..v1::ProcessRefused::default()
            };
        if status == CANNOT_START {
            let hint = "is the command right, and is it on the PATH?";
            return Some(refused(v1::process_refused::Reason::Broken, said, hint));
        }
        match self {
            Framework::Pytest => {
                pytest::explain_exit(status, said).map(|(reason, hint)| refused(reason, said, hint))
            }
            Framework::Cargo | Framework::Command | Framework::Protocol => None,
        }
    }

    /// Words that have the program which a command starts say its version; nothing where any program may be it.
    pub fn asks_version(self, command: &[String]) -> Option<Vec<String>> {
        match self {
            Framework::Pytest => pytest::asks_version(command),
            Framework::Cargo => cargo::asks_version(command),
            Framework::Command | Framework::Protocol => None,
        }
    }

    fn recognises(self, command: &[String]) -> bool {
        match self {
            Framework::Pytest => pytest::recognises(command),
            Framework::Cargo => cargo::recognises(command),
            Framework::Command | Framework::Protocol => false,
        }
    }

    /// Whether any command can be its.
    fn takes_all(self) -> bool {
        matches!(self, Framework::Command | Framework::Protocol)
    }

    /// How to start a process for one slot. `cache` is a directory that outlives runs, `binary` is Evenkeel's own.
    pub(crate) fn spawn(
        self,
        suite: &Suite,
        identity: &Identity,
        role: Role,
        cache: &Path,
        binary: &Path,
    ) -> io::Result<Spawn> {
        let mut spawn = match self {
            Framework::Pytest => pytest::spawn(suite, identity, cache)?,
            Framework::Cargo => cargo::spawn(suite, binary),
            Framework::Command => command::spawn(suite, binary),
            Framework::Protocol => protocol::spawn(suite),
        };
        let variables = identity.variables().into_iter();
        let variables = variables.map(|(name, value)| (name, Some(value)));
        spawn.environment.extend(variables);
        if suite.isolate {
            let isolate = ("EVENKEEL_ISOLATE".to_owned(), Some("1".to_owned()));
            spawn.environment.push(isolate);
        }
        let name = ("EVENKEEL_SUITE".to_owned(), Some(suite.name.clone()));
        spawn.environment.push(name);
        if !suite.settings.is_empty() {
            let settings: BTreeMap<&str, &[String]> = suite
                .settings
                .iter()
                .map(|setting| (&*setting.name, &*setting.values))
                .collect();
            let settings = serde_json::to_string(&settings)?;
            spawn
                .environment
                .push(("EVENKEEL_WITH".to_owned(), Some(settings)));
        }
        if role == Role::Finish {
            let role = ("EVENKEEL_ROLE".to_owned(), Some("finish".to_owned()));
            spawn.environment.push(role);
        }
        Ok(spawn)
    }
}

/// A command that no adapter takes.
#[derive(Debug, thiserror::Error)]
pub enum RecogniseError {
    #[error("no framework is recognised in the command `{command}`")]
    Unrecognised { command: String },
    #[error("there is no runner named {name:?}; there are: {known}")]
    UnknownRunner { name: String, known: String },
    #[error("the command `{command}` has no word that starts {runner}")]
    NotIts {
        command: String,
        runner: &'static str,
    },
}

/// The framework of a command: the one that was named, else the first that recognises it.
pub fn recognise(command: &[String], runner: &str) -> Result<Framework, RecogniseError> {
    let shown = || command.join(" ");
    if runner.is_empty() {
        return Framework::ALL
            .into_iter()
            .find(|framework| framework.recognises(command))
            .ok_or_else(|| RecogniseError::Unrecognised { command: shown() });
    }
    let named = Framework::ALL
        .into_iter()
        .find(|framework| framework.name() == runner);
    let named = named.ok_or_else(|| RecogniseError::UnknownRunner {
        name: runner.to_owned(),
        known: Framework::ALL.map(Framework::name).join(", "),
    })?;
    if !named.takes_all() && !named.recognises(command) {
        return Err(RecogniseError::NotIts {
            command: shown(),
            runner: named.name(),
        });
    }
    Ok(named)
}

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It runs tests.
    Test,
    /// It concludes the run as a whole.
    Finish,
}

/// Who a slot is within its run.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub run: String,
    pub shard: u32,
    pub slots: u32,
    pub seed: u64,
    /// How many failures end the run, where the user said so to us.
    pub max_fail: Option<u32>,
    /// A suite may have several processes, also where there is one slot.
    pub several: bool,
}

impl Identity {
    /// What tests see of it, under our names and under those that ecosystems read already.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("EVENKEEL_RUN_ID", self.run.clone()),
            ("EVENKEEL_SLOT", self.shard.to_string()),
            ("EVENKEEL_SLOTS", self.slots.to_string()),
            ("EVENKEEL_SEED", (self.seed >> 1).to_string()),
        ];
        if let Some(limit) = self.max_fail {
            variables.push(("EVENKEEL_MAX_FAIL", limit.to_string()));
        }
        if self.several {
            variables.push(("EVENKEEL_PROCESSES", "several".to_owned()));
        }
        if self.slots > 1 {
            let number = if self.shard == 0 {
                String::new()
            } else {
                (self.shard + 1).to_string()
            };
            variables.push(("TEST_ENV_NUMBER", number));
            variables.push(("PYTEST_XDIST_WORKER", format!("gw{}", self.shard)));
            variables.push(("PYTEST_XDIST_WORKER_COUNT", self.slots.to_string()));
        }
        variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}
