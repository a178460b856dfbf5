//! A suite's units for who plans without a coordinator: one process is started, asked for them, and ended.

use crate::batch::Report;
use crate::framework::{Identity, RecogniseError, recognise};
use crate::hooks::Hooks;
use crate::process::Processes;
use crate::slot::{Kind, Setup, Slot, SlotCommand};
use crate::sockets::Sockets;
use evenkeel_proto::{suite::Suite, v1};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;
use v1::fact::Body;

/// A unit, as the framework names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUnit {
    pub name: String,
    /// Where it is, below the suite's directory, if it is a file of another name.
    pub path: String,
    /// Bytes of source, 0 where unknown.
    pub size: u64,
}

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Unknown(#[from] RecogniseError),
    #[error("cannot prepare the directory for sockets")]
    Sockets {
        #[source]
        source: io::Error,
    },
    /// The framework says no: the command is wrong, or the tests cannot be built.
    #[error("{message}")]
    Refused {
        message: String,
        hint: String,
        detail: String,
        unbuilt: bool,
    },
    #[error("{explanation}{}{tail}", if tail.is_empty() { "" } else { ": " })]
    Ended { explanation: String, tail: String },
}

/// What a suite has, in the framework's order. Its set-up commands are not run. `cache` outlives this and holds what frameworks need to load our
/// half, `binary` is Evenkeel's own; `warn` is given what the framework wants to be known.
pub async fn list(
    suite: &Suite,
    cache: &Path,
    binary: &Path,
    mut warn: impl FnMut(&str),
) -> Result<Vec<ListedUnit>, ListError> {
    let framework = recognise(&suite.command, &suite.runner)?;
    let sockets = Sockets::create().map_err(|source| ListError::Sockets { source })?;
    let suite = Suite {
        setup: Vec::new(),
        teardown: Vec::new(),
        slot_setup: Vec::new(),
        slot_teardown: Vec::new(),
        ..suite.clone()
    };
    let setup = Setup {
        slot: 0,
        run: 0,
        hooks: Arc::new(Hooks::new(std::iter::once(&suite), 1, &[])),
        kinds: Arc::new([Kind { framework, suite }]),
        first: 0,
        identity: Identity {
            run: "plan".to_owned(),
            shard: 0,
            slots: 1,
            seed: 0,
            max_fail: None,
            several: false,
        },
        processes: Processes::System,
        guard: binary.to_owned(),
        cache: cache.to_owned(),
        sockets: sockets.0.clone(),
    };
    let (reports, mut told) = mpsc::channel::<Report>(16);
    let (commands, inbox) = mpsc::channel(16);
    let slot = tokio::spawn(Slot::new(setup, reports).run(inbox));
    commands
        .send(SlotCommand::List { kind: 0, ask: 1 })
        .await
        .ok();
    let mut units = Vec::new();
    let mut outcome = Err(ListError::Ended {
        explanation: "the framework's process ended before it had listed anything".to_owned(),
        tail: String::new(),
    });
    while let Some(report) = told.recv().await {
        for fact in report.facts {
            match fact.body {
                Some(Body::Listed(listed)) => {
                    units.extend(listed.units.into_iter().map(|unit| ListedUnit {
                        name: unit.unit,
                        path: unit.path,
                        size: unit.size,
                    }));
                    if !listed.more {
                        outcome = Ok(());
                        commands
                            .send(SlotCommand::Close { abort: false })
                            .await
                            .ok();
                    }
                }
                Some(Body::ProcessRefused(refused)) if outcome.is_err() => {
                    let unbuilt = refused.reason() == v1::process_refused::Reason::Build;
                    outcome = Err(ListError::Refused {
                        message: refused.message,
                        hint: refused.hint,
                        detail: refused.detail,
                        unbuilt,
                    });
                    commands.send(SlotCommand::Close { abort: true }).await.ok();
                }
                // What follows a refusal says less.
                Some(Body::ProcessEnded(ended)) if outcome.is_err() => {
                    if !matches!(outcome, Err(ListError::Refused { .. })) {
                        outcome = Err(ListError::Ended {
                            explanation: ended.explanation,
                            tail: ended.stderr_tail,
                        });
                    }
                    commands.send(SlotCommand::Close { abort: true }).await.ok();
                }
                Some(Body::Log(log)) => {
                    use v1::slot_log::Level;
                    if matches!(log.level(), Level::Warning | Level::Error) {
                        warn(&log.text);
                    }
                }
                _ => {}
            }
        }
    }
    slot.await.ok();
    outcome.map(|()| units)
}
