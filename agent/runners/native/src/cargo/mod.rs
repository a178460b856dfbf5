//! Cargo: test binaries are built once and run in batches, several tests of one binary in one process.
//!
//! A unit is a test binary or the doctests of a crate, a case is one test of it. Cargo builds and says what it would start; from
//! there on the binaries are run by this process, each test by its exact name.

mod batch;
mod build;
mod capture;
mod doctests;
mod harness;
mod libtest;
mod nextest;
mod plan;
mod runner;
mod runners;
pub mod words;

use std::ffi::OsString;
use std::process::ExitCode;

/// Where the agent listens.
pub(crate) const SOCKET: &str = "EVENKEEL_SOCKET";
/// The name of the helper that stands in the place of a test binary.
pub(crate) const CAPTURE: &str = "capture";
/// Both arguments of that helper, as Cargo shows them.
const CAPTURED: &str = "__runner capture";
/// The name under which this binary stands in the place of rustdoc.
pub(crate) const RUSTDOC: &str = "evenkeel-rustdoc";
/// Set where every test is to have a process of its own.
pub const ISOLATE: &str = "EVENKEEL_ISOLATE";

/// The Cargo runner: the arguments are the user's command.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let command: Vec<String> = arguments
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    crate::serve(runner::serve(command))
}

/// In the place of a test binary.
pub(crate) fn capture(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    capture::binary(arguments)
}

/// In the place of rustdoc.
pub fn rustdoc(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    capture::rustdoc(arguments)
}
