//! What Cargo would start, with which arguments, where, and in which environment.
//!
//! Cargo is told that this binary is the runner of its targets and that it is rustdoc; each start is then a line in a file
//! instead of a test that runs. So nothing of what Cargo does for a test process has to be known here.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The file that starts are written to.
pub(super) const FILE: &str = "EVENKEEL_CAPTURE";
/// Set where what is captured has to be started all the same: nextest asks binaries for their tests.
pub(super) const START: &str = "EVENKEEL_CAPTURE_START";
/// The rustdoc that does what is not captured.
pub(super) const REAL_RUSTDOC: &str = "EVENKEEL_CAPTURE_RUSTDOC";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Binary,
    Doctests,
}

/// A process that Cargo meant to start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub kind: Kind,
    /// The user's own runner with its arguments, behind which the program is started.
    #[serde(default)]
    pub through: Vec<String>,
    pub program: String,
    pub arguments: Vec<String>,
    pub directory: PathBuf,
    pub environment: BTreeMap<String, String>,
}

/// In the place of a test binary. The first argument says how many of those behind it are the user's own runner; then follow
/// the binary's path and its arguments.
pub(crate) fn binary(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let length = arguments.next().unwrap_or_default();
    let length: usize = length.to_string_lossy().parse().unwrap_or(0);
    let through: Vec<OsString> = arguments.by_ref().take(length).collect();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let recorded = record(
        Kind::Binary,
        &through,
        program.clone(),
        arguments.iter().cloned(),
    );
    if std::env::var_os(START).is_none() || recorded != ExitCode::SUCCESS {
        return recorded;
    }
    let mut words = through.iter().chain([&program]).chain(&arguments);
    let Some(first) = words.next() else {
        return ExitCode::FAILURE;
    };
    let error = Command::new(first).args(words).exec();
    eprintln!("cannot start {}: {error}", program.to_string_lossy());
    ExitCode::FAILURE
}

/// In the place of rustdoc: tests are recorded, everything else is rustdoc's own business.
pub(crate) fn rustdoc(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let real = std::env::var_os(REAL_RUSTDOC).unwrap_or_else(|| "rustdoc".into());
    if arguments.iter().any(|argument| argument == "--test") {
        return record(Kind::Doctests, &[], real, arguments.into_iter());
    }
    let error = Command::new(&real).args(arguments).exec();
    eprintln!("cannot start {}: {error}", real.to_string_lossy());
    ExitCode::FAILURE
}

fn record(
    kind: Kind,
    through: &[OsString],
    program: OsString,
    arguments: impl Iterator<Item = OsString>,
) -> ExitCode {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    let start = Start {
        kind,
        through: through.iter().cloned().map(text).collect(),
        program: text(program),
        arguments: arguments.map(text).collect(),
        directory: std::env::current_dir().unwrap_or_default(),
        environment: environment(),
    };
    let written = std::env::var_os(FILE)
        .ok_or_else(|| std::io::Error::other(format!("{FILE} is not set")))
        .and_then(|file| std::fs::OpenOptions::new().append(true).open(file))
        .and_then(|mut file| {
            let mut line = serde_json::to_vec(&start)?;
            line.push(b'\n');
            file.write_all(&line)
        });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("what Cargo starts cannot be written down: {error}");
            ExitCode::FAILURE
        }
    }
}

/// This process's environment, as text.
pub(super) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect()
}
