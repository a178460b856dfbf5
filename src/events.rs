//! `--events`: the ledger's rows as JSON, one object a line, as they are stored. docs/events.md is the reference.

use crate::exit::Failure;
use evenkeel_coordinator::record::{Outcome, Record};
use evenkeel_proto::{ledger as l, v1};
use l::entry::Body;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Follows a run by applying its rows to a record of its own.
pub struct EventWriter {
    out: BufWriter<Box<dyn Write + Send>>,
    path: PathBuf,
    record: Record,
}

impl EventWriter {
    /// `-` is standard output.
    pub fn open(path: &Path) -> Result<EventWriter, Failure> {
        let out: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let file = File::create(path).map_err(|error| {
                Failure::usage(format!(
                    "the events cannot be written to {}",
                    path.display()
                ))
                .caused_by(error)
            })?;
            Box::new(file)
        };
        let out = BufWriter::new(out);
        Ok(EventWriter {
            out,
            path: path.to_owned(),
            record: Record::default(),
        })
    }

    fn failed(&self, error: io::Error) -> Failure {
        Failure::infrastructure(
            format!("the events cannot be written to {}", self.path.display()),
            error,
        )
    }

    pub fn row(&mut self, row: &v1::LedgerRow) -> Result<(), Failure> {
        let damaged = |error: &dyn std::fmt::Display| {
            Failure::infrastructure(
                "the coordinator sent a row that cannot be read",
                error.to_string(),
            )
        };
        let batch: l::Batch =
            prost::Message::decode(&row.payload[..]).map_err(|error| damaged(&error))?;
        for entry in &batch.entries {
            self.record.apply(entry).map_err(|error| damaged(&error))?;
            let Some(body) = &entry.body else { continue };
            for mut event in describe(&self.record, body) {
                event["seq"] = json!(row.sequence);
                event["at_s"] = seconds(batch.at_us);
                serde_json::to_writer(&mut self.out, &event)
                    .map_err(|error| self.failed(error.into()))?;
                self.out
                    .write_all(b"\n")
                    .map_err(|error| self.failed(error))?;
            }
        }
        self.out.flush().map_err(|error| self.failed(error))
    }

    pub fn close(mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| self.failed(error))
    }
}

fn seconds(us: u64) -> Value {
    json!(us as f64 / 1e6)
}

/// The events of an entry that has just been applied.
fn describe(record: &Record, body: &Body) -> Vec<Value> {
    let unit_name = |unit: u32| record.units[unit as usize].name.to_string();
    let suite_name = |unit: u32| &record.suite_of(&record.units[unit as usize]).name;
    let shard_name = |shard: u32| json!(shard + 1);
    let agent_of = |shard: u32| {
        record.agents[record.shards[shard as usize].agent as usize]
            .name
            .clone()
    };
    let event = match body {
        Body::RunOpened(opened) => json!({
            "event": "run_opened", "run": opened.run, "project": opened.project, "round": opened.round,
            "suites": record.opened.suites.iter().map(|suite| json!({
                "name": suite.name, "command": suite.command, "directory": suite.directory,
            })).collect::<Vec<Value>>(),
            "seed": opened.seed, "opened_unix_s": seconds(opened.opened_unix_us),
        }),
        Body::AgentJoined(joined) => {
            json!({"event": "agent_joined", "agent": joined.name, "incarnation": joined.incarnation})
        }
        Body::AgentGone(gone) => json!({
            "event": "agent_gone", "agent": record.agents[gone.agent as usize].name, "reason": gone.reason,
            "lost": gone.lost,
        }),
        Body::ShardOpened(opened) => json!({
            "event": "shard_opened", "shard": shard_name(opened.shard), "agent": agent_of(opened.shard),
            "slot": opened.slot,
        }),
        Body::ShardClosed(closed) => json!({
            "event": "shard_closed", "shard": shard_name(closed.shard), "agent": agent_of(closed.shard),
        }),
        Body::Unable(unable) => json!({
            "event": "shard_unable", "shard": shard_name(unable.shard), "agent": agent_of(unable.shard),
            "suite": record.opened.suites[unable.suite as usize].name,
        }),
        Body::Recovered(recovered) => json!({"event": "recovered", "epoch": recovered.epoch}),
        // What processes leave for each other is theirs.
        Body::Carried(_) => return Vec::new(),
        Body::ProcessStarted(started) => json!({
            "event": "process_started", "shard": shard_name(started.shard), "incarnation": started.incarnation,
            "pid": started.pid, "ready_s": seconds(started.at_us),
            "suite": record.opened.suites[started.suite as usize].name,
        }),
        Body::ProcessEnded(ended) => json!({
            "event": "process_ended", "shard": shard_name(ended.shard), "incarnation": ended.incarnation,
            "explanation": ended.explanation,
        }),
        Body::Listed(listed) => {
            let units: Vec<&str> = listed.units.iter().map(|unit| unit.name.as_str()).collect();
            // An entry holds units of one suite.
            let suite = listed.units.first().map(|unit| unit.suite);
            let suite = suite.map(|suite| &record.opened.suites[suite as usize].name);
            json!({"event": "listed", "suite": suite, "units": units})
        }
        Body::Planned(planned) => {
            let shards: Vec<Vec<String>> = planned
                .shards
                .iter()
                .map(|shard| shard.units.iter().map(|unit| unit_name(*unit)).collect())
                .collect();
            json!({"event": "planned", "shards": shards, "expected_makespan_s": seconds(planned.expected_makespan_us)})
        }
        Body::Leased(leased) => json!({
            "event": "leased", "lease": leased.lease, "generation": leased.generation, "unit": unit_name(leased.unit),
            "suite": suite_name(leased.unit),
            "shard": shard_name(leased.shard), "agent": agent_of(leased.shard),
            "expected_s": seconds(leased.expected_us.into()), "alone": leased.alone.is_some(),
            "named": leased.named.len(), "copy_of": leased.copy.as_ref().map(|copy| copy.of),
        }),
        Body::Revoked(revoked) => json!({
            "event": "revoked", "lease": revoked.lease, "generation": revoked.generation, "from": revoked.from,
        }),
        Body::UnitBegun(begun) => {
            let Some(lease) = record.lease(begun.lease) else {
                return Vec::new();
            };
            json!({
                "event": "unit_started", "lease": begun.lease, "unit": unit_name(lease.unit),
                "suite": suite_name(lease.unit),
                "shard": shard_name(lease.shard), "start_s": seconds(begun.at_us),
            })
        }
        Body::Declared(declared) => json!({
            "event": "declared", "lease": declared.lease, "cases": declared.cases.len() + declared.known.len(),
        }),
        Body::Attempt(attempt) => {
            let Some(lease) = record.lease(attempt.lease) else {
                return Vec::new();
            };
            let unit = &record.units[lease.unit as usize];
            let case = &unit.cases[attempt.case as usize];
            let outcome = match Outcome::from_ledger(attempt.outcome) {
                Ok(Outcome::Passed) => "passed",
                Ok(Outcome::Failed) => "failed",
                Ok(Outcome::Skipped) => "skipped",
                Ok(Outcome::Killed) => "killed",
                Ok(Outcome::Error) | Err(_) => "error",
            };
            json!({
                "event": "test_finished", "id": &*case.id, "occurrence": case.occurrence, "file": &*unit.name,
                "suite": suite_name(lease.unit),
                "outcome": outcome, "final": outcome != "killed", "start_s": seconds(attempt.started_us),
                "end_s": seconds(attempt.ended_us), "duration_s": seconds(attempt.duration_us),
                "shard": shard_name(lease.shard), "agent": agent_of(lease.shard), "lease": attempt.lease,
                "incarnation": attempt.incarnation, "attempt": case.attempts().count(), "message": attempt.message,
                "group": case.group(),
            })
        }
        Body::LeaseEnded(ended) => {
            let Some(lease) = record.lease(ended.lease) else {
                return Vec::new();
            };
            let reason = match ended.reason() {
                l::lease_ended::Reason::Closed => "closed",
                l::lease_ended::Reason::Returned => "returned",
                l::lease_ended::Reason::Broken => "broken",
                l::lease_ended::Reason::Lost => "lost",
                l::lease_ended::Reason::Cancelled => "cancelled",
                l::lease_ended::Reason::Unspecified => "unknown",
            };
            let begun = lease.begun.map(|begun| seconds(begun.at.0));
            json!({
                "event": "lease_ended", "lease": ended.lease, "unit": unit_name(lease.unit),
                "suite": suite_name(lease.unit),
                "shard": shard_name(lease.shard), "agent": agent_of(lease.shard), "reason": reason,
                "start_s": begun, "end_s": seconds(ended.at_us), "setup_s": seconds(ended.setup_us),
                "waited_s": seconds(ended.waited_us),
            })
        }
        Body::Returned(returned) => json!({
            "event": "returned", "lease": returned.lease, "cases": returned.cases.len(),
        }),
        Body::Objected(objected) => json!({
            "event": "objected", "shard": shard_name(objected.shard), "message": objected.message,
        }),
        Body::Summarised(summary) => json!({
            "event": "summarised", "shard": shard_name(summary.shard), "title": summary.title, "text": summary.text,
        }),
        Body::Warned(warned) => {
            json!({"event": "warned", "text": warned.text, "tests": warned.cases})
        }
        Body::Noted(noted) => json!({"event": "note", "text": noted.text}),
        Body::Stopped(stopped) => {
            json!({"event": "stopped", "reason": stopped.reason, "interrupted": stopped.interrupted})
        }
        Body::Settled(settled) => {
            let unit = &record.units[settled.unit as usize];
            let id = settled
                .case
                .map_or(&unit.name, |case| &unit.cases[case as usize].id);
            json!({
                "event": "settled", "id": &**id, "file": &*unit.name, "outcome": settled.outcome,
                "suite": suite_name(settled.unit), "message": settled.message,
            })
        }
        Body::Closed(closed) => json!({
            "event": "run_closed", "verdict": closed.verdict, "exit_code": closed.exit_code,
            "makespan_s": seconds(closed.makespan_us), "lower_bound_s": seconds(closed.lower_bound_us),
            "message": closed.message,
        }),
        Body::Locked(locked) => json!({
            "event": "locked", "lock": locked.lock, "shard": shard_name(locked.shard), "lease": locked.lease,
        }),
        Body::Unlocked(unlocked) => json!({
            "event": "unlocked", "lock": unlocked.lock, "shard": shard_name(unlocked.shard),
        }),
        Body::Evidence(evidence) => json!({
            "event": "evidence", "lease": evidence.lease, "case": evidence.case, "reason": evidence.reason,
            "differs": evidence.differs,
        }),
    };
    vec![event]
}
