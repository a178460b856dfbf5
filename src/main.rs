//! The command line: a file per subcommand; each parses, calls one crate, and prints.

// Who cannot say something goes on all the same: `say!` and `lines`, which never panic.
#![warn(clippy::print_stderr)]

/// Says a line on standard error, to a person: where that is gone or full, nothing is said.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        writeln!(std::io::stderr(), $($text)*).ok();
    }};
}

mod agent;
mod cancel;
mod cli;
mod config;
mod connect;
mod coordinator;
mod doctor;
mod events;
mod exit;
mod lines;
mod noop_runner;
mod observe;
mod panics;
mod plan;
mod project;
mod remote;
mod render;
mod replay;
mod run;
mod show;
mod simulate;
mod store;
mod suites;
mod timings;
mod watch;

use clap::Parser;
use exit::{Exit, Failure};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// What a process that ends has still to say may take this long.
const LAST_LINES: std::time::Duration = std::time::Duration::from_secs(1);

fn main() -> ExitCode {
    // A guard is this binary too: it must be up in a millisecond and needs nothing of what follows.
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == evenkeel_agent::guard::ARGUMENT)
    {
        let socket = arguments.next().unwrap_or_default();
        let command: Vec<OsString> = arguments.collect();
        evenkeel_agent::guard::main(socket, &command);
    }
    if let Some(status) = builtin_runner() {
        return status;
    }
    let cli = cli::Cli::parse();
    if let cli::Command::NoopRunner(args) = &cli.command {
        return noop_runner::main(args);
    }
    panics::end_the_process();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::infrastructure("the runtime cannot start", error)),
    };
    if matches!(
        cli.command,
        cli::Command::Runs(_)
            | cli::Command::Show(_)
            | cli::Command::Simulate(_)
            | cli::Command::Timings(_)
            | cli::Command::Doctor(_)
            | cli::Command::Completions(_)
    ) {
        // These print and end: when nobody reads on (`| head`), they end too.
        // SAFETY: sets a signal's disposition before anything that could depend on it.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    let outcome = runtime.block_on(async {
        match cli.command {
            cli::Command::Run(args) => run::run(args).await,
            cli::Command::Watch(args) => watch::watch(args).await,
            cli::Command::Cancel(args) => cancel::cancel(args).await,
            cli::Command::Store(args) => store::store(args).await,
            cli::Command::Reproduce(args) => replay::reproduce(args).await,
            cli::Command::Runs(args) => show::runs(args).await,
            cli::Command::Show(args) => show::show(args).await,
            cli::Command::Simulate(args) => simulate::simulate(args).await,
            cli::Command::Timings(args) => timings::timings(args).await,
            cli::Command::Plan(args) => plan::plan(args).await,
            cli::Command::Doctor(args) => doctor::doctor(args).await,
            cli::Command::Completions(args) => Ok(cli::completions(&args)),
            cli::Command::Coordinator(args) => coordinator::coordinator(args).await,
            cli::Command::Agent(args) => agent::agent(args).await,
            cli::Command::NoopRunner(_) => unreachable!("handled before the runtime started"),
        }
    });
    // What is still running on other threads (a closing store, a slow watcher) has nothing left to say.
    runtime.shutdown_background();
    lines::flush(LAST_LINES);
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => report(&failure),
    }
}

/// A slot's half may be this binary, too, and so may what that has Cargo start.
fn builtin_runner() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    if evenkeel_runners::is_rustdoc(Path::new(&program)) {
        return Some(evenkeel_runners::cargo::rustdoc(arguments));
    }
    let first = arguments.next()?;
    (first == evenkeel_runners::ARGUMENT).then(|| evenkeel_runners::main(arguments))
}

fn report(failure: &Failure) -> ExitCode {
    failure.print();
    Exit::from(failure).into()
}
