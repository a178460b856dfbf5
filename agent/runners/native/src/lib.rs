//! Runners that are part of Evenkeel's own binary: the halves of slots for test frameworks that do not keep an interpreter warm.
//!
//! Each is a process of its own that speaks the runner protocol (docs/runner-protocol.md), as any other runner does. Nothing here
//! knows the agent or the coordinator.

pub mod cargo;
mod child;
pub mod command;
mod conversation;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

/// The first argument that makes the binary a runner; the second one names it.
pub const ARGUMENT: &str = "__runner";

/// Why a runner cannot go on. Its last words go to standard error, which the agent keeps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunnerError {
    #[error("EVENKEEL_SOCKET is not set: this process is started by an agent")]
    NoSocket,
    #[error("the agent's socket")]
    Socket(#[source] std::io::Error),
    #[error("the agent broke the runner protocol: {what}")]
    Protocol { what: String },
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
}

/// Runs the runner that the arguments name, or one of their small helpers.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let name = arguments.next().unwrap_or_default();
    match name.to_str() {
        Some("cargo") => cargo::main(arguments),
        Some("command") => command::main(arguments),
        Some(cargo::CAPTURE) => cargo::capture(arguments),
        _ => {
            eprintln!("error: there is no built-in runner {name:?}");
            ExitCode::from(2)
        }
    }
}

/// Whether the binary was started in the place of rustdoc: under the name that the Cargo runner gave it.
pub fn is_rustdoc(program: &std::path::Path) -> bool {
    program
        .file_name()
        .is_some_and(|name| name == cargo::RUSTDOC)
}

/// Serves on a runtime of this one thread.
pub(crate) fn serve(runner: impl Future<Output = Result<(), RunnerError>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(runner),
        Err(source) => Err(RunnerError::Io {
            what: "the runtime cannot start".to_owned(),
            source,
        }),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("  caused by: {cause}");
                source = cause.source();
            }
            ExitCode::from(3)
        }
    }
}
