//! What watchers would have seen of a run, from its rows: for who attaches late, or again.

use crate::record::{Outcome, Record, TextRef};
use crate::report;
use crate::run::{CaseText, Show};
use crate::store::{RunHandle, Store, StoreError};
use crate::wire;
use evenkeel_proto::{ledger as l, v1};
use evenkeel_schedule::Micros;
use l::entry::Body;
use prost::Message;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tokio::sync::mpsc;
use tonic::Status;
use v1::watch_event::Body as Watched;

/// How many rows are read at a time.
const PIECE: u64 = 256;

/// Sends what was to be seen of rows with `after` < sequence ≤ `until`, in order. False where nobody listens any more.
pub(super) async fn replay(
    store: &Store,
    (run, directory): (RunHandle, &Path),
    (after, until): (u64, u64),
    rows: bool,
    events: &mpsc::Sender<Result<v1::WatchEvent, Status>>,
) -> Result<bool, StoreError> {
    let mut record = Record::default();
    let outputs = std::fs::File::open(directory.join(report::OUTPUTS)).ok();
    let mut sequence = 0;
    while sequence < until && after < until {
        let piece = (sequence + PIECE).min(until);
        for payload in store.payloads(run, sequence, piece).await? {
            sequence += 1;
            let batch = l::Batch::decode(payload.as_slice());
            let damaged = |reason: String| StoreError::Damaged {
                run: run.number().to_string(),
                sequence,
                reason,
            };
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            let mut seen = Vec::new();
            for entry in &batch.entries {
                record
                    .apply(entry)
                    .map_err(|error| damaged(error.to_string()))?;
                if sequence > after {
                    seen.extend(seen_of(&record, entry, outputs.as_ref()));
                }
            }
            if sequence <= after {
                continue;
            }
            if rows {
                seen.push(Watched::Row(v1::LedgerRow { sequence, payload }));
            }
            for body in seen {
                let body = Some(body);
                if events
                    .send(Ok(v1::WatchEvent { sequence, body }))
                    .await
                    .is_err()
                {
                    return Ok(false);
                }
            }
        }
        if sequence < piece {
            break;
        }
    }
    Ok(true)
}

/// What an entry shows, as the run showed it when it was written.
fn seen_of(record: &Record, entry: &l::Entry, outputs: Option<&std::fs::File>) -> Option<Watched> {
    match entry.body.as_ref()? {
        Body::Noted(note) => wire::notice(note).map(Watched::Notice),
        Body::Attempt(attempt) => {
            let outcome = Outcome::from_ledger(attempt.outcome).ok()?;
            let lease = record.lease(attempt.lease)?;
            let unit = &record.units[lease.unit as usize];
            let case = unit.cases.get(attempt.case as usize)?;
            let id = record.with_suite(unit.suite, &case.id);
            let text = || text_of(attempt, outputs);
            match outcome {
                Outcome::Failed | Outcome::Error => Some(wire::show(Show::Failure {
                    id,
                    outcome,
                    shard: lease.shard,
                    duration: Micros(attempt.duration_us),
                    text: text(),
                })),
                Outcome::Passed | Outcome::Skipped => {
                    let shows = record
                        .shards
                        .iter()
                        .flat_map(|shard| &shard.processes)
                        .any(|process| process.started.show_output);
                    let output = if shows { text().output } else { Vec::new() };
                    (!output.is_empty()).then(|| {
                        wire::show(Show::Printed {
                            id,
                            shard: lease.shard,
                            output,
                        })
                    })
                }
                Outcome::Killed => None,
            }
        }
        _ => None,
    }
}

fn text_of(attempt: &l::Attempt, outputs: Option<&std::fs::File>) -> CaseText {
    let read = || {
        let place = TextRef::from_bytes(&attempt.text)?;
        let mut bytes = vec![0; place.length as usize];
        outputs?.read_exact_at(&mut bytes, place.offset).ok()?;
        v1::CaseText::decode(bytes.as_slice()).ok()
    };
    let text = read().map(wire::case_text).unwrap_or_default();
    CaseText {
        message: attempt.message.clone(),
        ..text
    }
}
