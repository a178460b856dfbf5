//! What there is to run, once it has been built: found out by one process of an agent and read by its others.

use super::capture::{Kind, Start};
use super::harness::Harness;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// How a target's tests are listed and run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Speaks {
    Libtest,
    /// A harness of its own, which may take libtest's arguments and print in its format.
    Own,
    /// Nothing that is known: the process is one test, and its exit status the outcome.
    Nothing,
    /// rustdoc, which compiles doctests and runs them behind libtest.
    Rustdoc,
    /// A test binary of a suite that nextest runs: as libtest, and what is chosen was chosen by nextest.
    Nextest,
}

/// What a target has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Tests {
    Named(Vec<String>),
    /// What nextest has chosen, with those that are marked as ignored: to be run all the same, or to be skipped.
    Chosen {
        names: Vec<String>,
        ignored: BTreeSet<String>,
        skipped: BTreeSet<String>,
    },
    /// It is one test as a whole, and the outcome is its exit status.
    Whole,
    /// Why they are not known.
    Unknown(String),
}

/// What was built, and of each target its tests where they are known already.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Built {
    pub targets: Vec<Target>,
    pub tests: BTreeMap<usize, Tests>,
}

/// A test binary, or the doctests of a crate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Target {
    /// Its name as a unit, in the form of nextest's binary ids: `package`, `package::test`, `package::bin/name`.
    pub unit: String,
    pub speaks: Speaks,
    pub program: String,
    /// What the program is always given, before the harness's arguments.
    pub leading: Vec<String>,
    /// The arguments for the harness, as the user gave them.
    pub harness: Vec<String>,
    pub directory: PathBuf,
    /// On top of the slot's own environment; nothing removes.
    pub environment: BTreeMap<String, Option<String>>,
}

impl Target {
    pub(super) fn harness(&self) -> Harness {
        Harness::parse(&self.harness)
    }

    /// Its process with these arguments for the harness.
    pub(super) fn command(&self, harness: &[String]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.leading);
        if self.speaks == Speaks::Rustdoc {
            for argument in harness {
                command.arg("--test-args").arg(argument);
            }
        } else {
            command.args(harness);
        }
        command.current_dir(&self.directory);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .env_remove(super::SOCKET)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// What a start that Cargo meant is as a target. `given` is the environment that Cargo was given.
pub(super) fn target(
    start: Start,
    unit: String,
    speaks: Speaks,
    given: &BTreeMap<String, String>,
) -> Target {
    let mut program = start.program;
    let (leading, harness) = match start.kind {
        Kind::Binary => {
            let mut leading = start.through;
            if !leading.is_empty() {
                let first = leading.remove(0);
                leading.push(std::mem::replace(&mut program, first));
            }
            (leading, start.arguments)
        }
        Kind::Doctests => super::doctests::without_tests(start.arguments),
    };
    let mut environment: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (name, value) in &start.environment {
        if given.get(name) != Some(value) {
            environment.insert(name.clone(), Some(value.clone()));
        }
    }
    for name in given.keys() {
        if !start.environment.contains_key(name) {
            environment.insert(name.clone(), None);
        }
    }
    Target {
        unit,
        speaks,
        program,
        leading,
        harness,
        directory: start.directory,
        environment,
    }
}

/// Files that the processes of one agent share for the length of a run, in the agent's private directory.
pub(super) struct Shared {
    directory: PathBuf,
    run: u64,
}

impl Shared {
    pub(super) fn of_this_run() -> Shared {
        let socket = PathBuf::from(std::env::var_os(super::SOCKET).unwrap_or_default());
        let mut hasher = DefaultHasher::new();
        // Another suite has another build, and another environment may.
        for name in ["EVENKEEL_RUN_ID", "EVENKEEL_SUITE", "EVENKEEL_KIND"] {
            std::env::var_os(name).hash(&mut hasher);
        }
        Shared {
            directory: socket.parent().unwrap_or(Path::new(".")).to_owned(),
            run: hasher.finish(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{:016x}.{name}", self.run))
    }

    /// Held by who builds. Waits for another process that does.
    pub(super) fn lock(&self) -> io::Result<std::fs::File> {
        let file = std::fs::File::create(self.path("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// What another process has written, if one has.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match std::fs::read(self.path(name)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes for the other processes: they see all of it or nothing.
    pub(super) fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let partial = self.path(&format!("{name}.{}", std::process::id()));
        std::fs::write(&partial, serde_json::to_vec(value)?)?;
        std::fs::rename(partial, self.path(name))
    }
}
