//! Any command that writes JUnit: a template is filled in with units and run, and the report says what became of them.
//!
//! A unit is a file, or whatever else the command takes; its cases are known when its report is there. Several units run in one process,
//! as many as the coordinator bundles. Nothing is believed that the report does not say: a unit of which it says nothing is an error.

mod results;
mod runner;
mod settings;
mod template;
mod units;

use std::ffi::OsString;
use std::process::ExitCode;

pub use settings::NAMES as SETTINGS;

/// The command runner: the arguments are the template.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let template: Vec<String> = arguments
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    crate::serve(runner::serve(template))
}
