//! Suites that evenkeel.toml describes.

use super::{EVENKEEL, Ended, Suite, python};
use std::process::Command;

/// With this evenkeel.toml, in which PYTEST stands for a command's first words, and ROOT for the suite's directory.
pub fn configured(text: &str, files: &[(&str, &str)]) -> Suite {
    let suite = Suite::with(files);
    let text = text.replace(
        "PYTEST",
        &format!(
            "{:?}, \"-m\", \"pytest\", \"-p\", \"no:cacheprovider\"",
            python()
        ),
    );
    suite.write(
        "evenkeel.toml",
        &text.replace("ROOT", &suite.root.to_string_lossy()),
    );
    suite
}

/// Runs what the file says, with all that can be looked at afterwards.
pub fn run(suite: &Suite, options: &[&str]) -> Ended {
    suite.start(command(suite, options)).end()
}

pub fn command(suite: &Suite, options: &[&str]) -> Command {
    let mut command = suite.command(EVENKEEL);
    command.arg("run");
    command.args([
        "--json",
        "report.json",
        "--junit",
        "junit.xml",
        "--events",
        "events.ndjson",
    ]);
    command.args(options);
    command
}
