//! The door: generated wire types in, core types out, and back. What the protocol does not allow is refused here.

use crate::record::Outcome;
use crate::run::{
    CaseEnded, CaseKey, CaseText, Command, EndCause, Fact, FactBody, Farewell, InFlight,
    LeaseCommand, Level, ProcessEnded, ProcessStarted, Refusal, RefusedReason, RunningCase, Show,
};
use evenkeel_proto::text::{MESSAGE, TEXT, cut};
use evenkeel_proto::{ledger as l, suite::Suite, v1};
use evenkeel_schedule::Micros;
use v1::coordinator_message::Body as Out;
use v1::fact::Body as In;
use v1::watch_event::Body as Watched;

/// A message that the protocol does not allow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{what} is missing")]
    Missing { what: &'static str },
    #[error("{what} has the unknown value {value}")]
    Unknown { what: &'static str, value: i32 },
}

pub(crate) fn fact(fact: v1::Fact) -> Result<Fact, WireError> {
    let body = match fact.body.ok_or(WireError::Missing {
        what: "the body of a fact",
    })? {
        In::ProcessStarted(started) => FactBody::ProcessStarted(ProcessStarted {
            kind: started.kind,
            took: Micros(started.took_us),
            incarnation: started.incarnation,
            pid: started.pid,
            argv: started.argv,
            directory: started.directory,
            environment: started.environment.into_iter().collect(),
            runner: started.runner,
            framework: started.framework,
            language: started.language,
            notes: started.notes,
            max_fail: started.max_fail,
            junit: started.junit,
            closing: started.closing,
            finish: started.finish,
            bundles: started.can.iter().any(|can| can == "bundle"),
            undivided: started
                .can
                .iter()
                .any(|can| can == "whole" || can == "bundle"),
            durations: started.durations,
            durations_min: Micros(started.durations_min_us),
            show_output: started.show_output,
        }),
        In::ProcessRefused(refused) => FactBody::ProcessRefused(Refusal {
            kind: refused.kind,
            reason: match refused.reason() {
                v1::process_refused::Reason::Usage => RefusedReason::Usage,
                v1::process_refused::Reason::Unsupported => RefusedReason::Unsupported,
                v1::process_refused::Reason::Broken => RefusedReason::Broken,
                v1::process_refused::Reason::Build => RefusedReason::Build,
                v1::process_refused::Reason::Setup => RefusedReason::Setup,
                v1::process_refused::Reason::Unspecified => {
                    return Err(WireError::Unknown {
                        what: "a refusal",
                        value: refused.reason,
                    });
                }
            },
            message: refused.message,
            hint: refused.hint,
            detail: refused.detail,
        }),
        In::ProcessEnded(ended) => FactBody::ProcessEnded(process_ended(ended)?),
        In::Listed(listed) => FactBody::Listed {
            kind: listed.kind,
            ask: listed.ask,
            units: listed
                .units
                .into_iter()
                .map(|unit| l::Unit {
                    name: unit.unit,
                    path: unit.path,
                    size: unit.size,
                    revision: unit.revision,
                    suite: 0, // the run knows it by the kind
                })
                .collect(),
            more: listed.more,
        },
        In::UnitBegun(begun) => FactBody::UnitBegun { lease: begun.lease },
        In::Declared(declared) => FactBody::Declared {
            lease: declared.lease,
            cases: declared
                .cases
                .into_iter()
                .map(|case| l::Case {
                    id: case.id,
                    occurrence: case.occurrence,
                    name: case.name,
                    class: case.class,
                    file: case.file,
                    line: case.line,
                    group: case.group,
                })
                .collect(),
            more: declared.more,
            instead: declared.instead.into_iter().map(case_key).collect(),
        },
        In::CaseEnded(ended) => FactBody::CaseEnded(CaseEnded {
            lease: ended.lease,
            generation: ended.generation,
            case: ended.case,
            outcome: outcome(ended.outcome)?,
            started: Micros(ended.started_at_us),
            duration: Micros(ended.duration_us),
            setup: Micros(ended.setup_us),
            ordinal: ended.ordinal,
            text: ended.text.map(|text| Box::new(case_text(text))),
        }),
        In::UnitClosed(closed) => FactBody::UnitClosed {
            lease: closed.lease,
            setup: Micros(closed.setup_us),
            waited: Micros(closed.waited_us),
        },
        In::Returned(returned) => FactBody::Returned {
            lease: returned.lease,
            cases: returned.cases,
            all: returned.all,
        },
        In::CaseRunning(running) => FactBody::CaseRunning {
            lease: running.lease,
            case: running.case,
        },
        In::Waiting(waiting) => FactBody::Waiting {
            lease: waiting.lease,
        },
        In::Halt(halt) => FactBody::Halt {
            reason: halt.reason,
        },
        In::Log(log) => FactBody::Log {
            level: level(log.level)?,
            text: log.text,
        },
        In::Warnings(warnings) => FactBody::Warnings {
            list: warnings
                .list
                .into_iter()
                .map(|warning| l::Warned {
                    text: warning.text,
                    cases: warning.cases,
                    count: warning.count,
                })
                .collect(),
        },
        In::Concluded(_) => FactBody::Concluded,
        In::SlotClosed(_) => FactBody::SlotClosed,
    };
    Ok(Fact {
        at: Micros(fact.at_us),
        slot: fact.slot,
        body,
    })
}

fn process_ended(ended: v1::ProcessEnded) -> Result<ProcessEnded, WireError> {
    use v1::process_ended::Cause;
    /// What a shell reports for a child that SIGKILL ended.
    const SHELL_KILLED: i32 = 128 + 9;
    let cause = match ended.cause() {
        Cause::Finished => EndCause::Finished,
        Cause::Signaled if ended.code == 9 => EndCause::KilledFromOutside,
        Cause::Exited if ended.code == SHELL_KILLED => EndCause::KilledFromOutside,
        Cause::Exited | Cause::Signaled => EndCause::Died,
        Cause::Deadline => EndCause::Deadline,
        Cause::Protocol => EndCause::Protocol,
        Cause::Ended => EndCause::Ended,
        Cause::Unspecified => {
            return Err(WireError::Unknown {
                what: "a process's end",
                value: ended.cause,
            });
        }
    };
    Ok(ProcessEnded {
        kind: ended.kind,
        incarnation: ended.incarnation,
        cause,
        in_flight: ended.in_flight.map(|flight| InFlight {
            lease: flight.lease,
            case: flight.running.then_some(RunningCase {
                index: flight.case,
                started: Micros(flight.started_at_us),
                ordinal: flight.ordinal,
            }),
            loading: !flight.settled,
        }),
        explanation: ended.explanation,
        stderr_tail: ended.stderr_tail,
        farewell: ended.farewell.map(|farewell| Farewell {
            failed: farewell
                .failed
                .into_iter()
                .map(|objection| (objection.message, objection.detail))
                .collect(),
            summary: farewell
                .summary
                .into_iter()
                .map(|summary| (summary.title, summary.text))
                .collect(),
            carry: farewell.carry,
        }),
    })
}

fn case_key(key: v1::CaseKey) -> CaseKey {
    CaseKey {
        id: key.id,
        occurrence: key.occurrence,
    }
}

fn case_key_out(key: CaseKey) -> v1::CaseKey {
    v1::CaseKey {
        id: key.id,
        occurrence: key.occurrence,
    }
}

fn outcome(value: i32) -> Result<Outcome, WireError> {
    match v1::Outcome::try_from(value) {
        Ok(v1::Outcome::Passed) => Ok(Outcome::Passed),
        Ok(v1::Outcome::Failed) => Ok(Outcome::Failed),
        Ok(v1::Outcome::Error) => Ok(Outcome::Error),
        Ok(v1::Outcome::Skipped) => Ok(Outcome::Skipped),
        Ok(v1::Outcome::Unspecified) | Err(_) => Err(WireError::Unknown {
            what: "an outcome",
            value,
        }),
    }
}

fn level(value: i32) -> Result<Level, WireError> {
    match v1::slot_log::Level::try_from(value) {
        Ok(v1::slot_log::Level::Info) => Ok(Level::Info),
        Ok(v1::slot_log::Level::Warning) => Ok(Level::Warning),
        Ok(v1::slot_log::Level::Error) => Ok(Level::Error),
        Ok(v1::slot_log::Level::Progress) => Ok(Level::Progress),
        Ok(v1::slot_log::Level::Unspecified) | Err(_) => Err(WireError::Unknown {
            what: "a log level",
            value,
        }),
    }
}

pub(crate) fn case_text(text: v1::CaseText) -> CaseText {
    CaseText {
        // An agent that is not ours may not have bounded them.
        message: cut(text.message, MESSAGE),
        detail: cut(text.detail, TEXT),
        output: text
            .output
            .into_iter()
            .map(|output| (output.name, cut(output.text, TEXT)))
            .collect(),
        properties: text
            .property
            .into_iter()
            .map(|property| (property.name, cut(property.value, TEXT)))
            .collect(),
    }
}

pub(crate) fn case_text_out(text: CaseText) -> v1::CaseText {
    v1::CaseText {
        message: text.message,
        detail: text.detail,
        output: text
            .output
            .into_iter()
            .map(|(name, text)| v1::Output { name, text })
            .collect(),
        property: text
            .properties
            .into_iter()
            .map(|(name, value)| v1::Property { name, value })
            .collect(),
    }
}

pub(crate) fn outcome_out(outcome: Outcome) -> v1::Outcome {
    match outcome {
        Outcome::Passed => v1::Outcome::Passed,
        Outcome::Failed => v1::Outcome::Failed,
        // The wire's clients see verdicts; an attempt that is repeated is never shown as one.
        Outcome::Error | Outcome::Killed => v1::Outcome::Error,
        Outcome::Skipped => v1::Outcome::Skipped,
    }
}

pub(crate) fn level_out(level: Level) -> v1::slot_log::Level {
    match level {
        Level::Info => v1::slot_log::Level::Info,
        Level::Warning => v1::slot_log::Level::Warning,
        Level::Error => v1::slot_log::Level::Error,
        Level::Progress => v1::slot_log::Level::Progress,
    }
}

/// Something that a run shows, as a watcher sees it.
pub(crate) fn show(show: Show) -> Watched {
    match show {
        Show::Failure {
            id,
            outcome,
            shard,
            duration,
            text,
        } => Watched::Failure(v1::Failure {
            id,
            outcome: outcome_out(outcome) as i32,
            shard,
            duration_us: duration.0,
            text: Some(case_text_out(text)),
        }),
        Show::Printed { id, shard, output } => Watched::Printed(v1::Printed {
            id,
            shard,
            output: output
                .into_iter()
                .map(|(name, text)| v1::Output { name, text })
                .collect(),
        }),
        Show::Notice { level, text } => Watched::Notice(v1::Notice {
            level: level_out(level) as i32,
            text,
        }),
    }
}

/// A note on record as a watcher sees it.
pub(crate) fn notice(note: &l::Noted) -> Option<v1::Notice> {
    let levels = [Level::Info, Level::Warning, Level::Error];
    let level = levels
        .into_iter()
        .find(|level| *level as u32 == note.level)?;
    Some(v1::Notice {
        level: level_out(level) as i32,
        text: note.text.clone(),
    })
}

/// What every slot of a run has to know to start its processes.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub run: String,
    /// Unique in the store.
    pub number: u64,
    /// Every kind of process that the run may need.
    pub kinds: Vec<Suite>,
    pub seed: u64,
    /// A slot that plays another run's shard carries that one's number and count.
    pub identity: Option<(u32, u32)>,
}

pub(crate) fn command(command: Command, opening: &Opening) -> v1::CoordinatorMessage {
    let key = case_key_out;
    let body = match command {
        Command::Open {
            opening: number,
            slots,
            shards,
            max_fail,
        } => {
            let (slots, first) = opening
                .identity
                .map_or((slots, 0), |(shard, slots)| (slots, shard));
            Out::OpenRun(v1::OpenRun {
                run: opening.run.clone(),
                number: opening.number,
                opening: number,
                kinds: opening.kinds.clone(),
                several: slots > 1 || opening.kinds.len() > 1,
                seed: opening.seed,
                slots,
                shards: shards
                    .into_iter()
                    .map(|(slot, shard, kind)| v1::SlotShard {
                        slot,
                        shard: shard + first,
                        kind,
                    })
                    .collect(),
                max_fail,
            })
        }
        Command::List { slot, kind, ask } => Out::List(v1::List { slot, kind, ask }),
        Command::Lease(LeaseCommand {
            slot,
            lease,
            generation,
            unit,
            only,
            skip,
            ends,
            expected,
            shared,
            more,
            kind,
            fresh,
            last,
            limits,
        }) => Out::Lease(v1::Lease {
            kind,
            fresh,
            last,
            timeout_us: limits.timeout.unwrap_or_default().0,
            slow_us: limits.slow.unwrap_or_default().0,
            grace_us: limits.grace.unwrap_or_default().0,
            slot,
            lease,
            generation,
            unit,
            only: only.into_iter().map(key).collect(),
            skip: skip.into_iter().map(key).collect(),
            ends,
            expected_us: expected.map_or(0, |expected| expected.0),
            shared,
            more,
        }),
        Command::Revoke {
            slot,
            lease,
            generation,
            from,
        } => Out::Revoke(v1::Revoke {
            slot,
            lease,
            generation,
            from,
        }),
        Command::Idle { slot, ends } => Out::Idle(v1::Idle { slot, ends }),
        Command::Recycle { slot } => Out::Recycle(v1::Recycle { slot }),
        Command::Conclude { slot } => Out::Conclude(v1::Conclude { slot }),
        Command::Finish {
            slot,
            kind,
            ask,
            carried,
            more,
        } => Out::Finish(v1::Finish {
            kind,
            ask,
            more,
            slot,
            carried: carried
                .into_iter()
                .map(|(shard, carry)| v1::Carried { shard, carry })
                .collect(),
        }),
        Command::Cancel { slot, lease } => Out::Cancel(v1::Cancel { slot, lease }),
        Command::CloseSlot { slot, abort } => Out::CloseSlot(v1::CloseSlot { slot, abort }),
        Command::Resume { sequence, slots } => Out::Resume(v1::Resume {
            sequence,
            slots: slots
                .into_iter()
                .map(|(slot, leases)| v1::Standing { slot, leases })
                .collect(),
        }),
        Command::Close { abort } => Out::CloseRun(v1::CloseRun {
            run: opening.run.clone(),
            abort,
        }),
    };
    v1::CoordinatorMessage {
        body: Some(body),
        run: opening.number,
    }
}

pub(crate) fn totals(totals: crate::record::Totals) -> v1::Totals {
    v1::Totals {
        tests: totals.tests,
        passed: totals.passed,
        failed: totals.failed,
        errors: totals.errors,
        skipped: totals.skipped,
        not_run: totals.not_run,
        lost: totals.lost,
    }
}
