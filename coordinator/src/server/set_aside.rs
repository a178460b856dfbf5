//! A run that ends its coordinator each time that it is taken up again is closed without being taken up: its state machine is not asked.

use super::abandon::write_reports;
use super::error_chain;
use super::submission::clock_of;
use crate::record::{Record, Verdict};
use crate::store::{RunHandle, Store};
use evenkeel_proto::ledger as l;
use l::entry::Body;
use prost::Message;

/// Gives what has no verdict one, and the run its own, at best incomplete. `panics`: what has been noted of it.
pub(super) async fn set_aside(
    store: &Store,
    handle: RunHandle,
    record: Record,
    panics: &[String],
) -> Result<String, String> {
    let last = panics.last().map_or("", String::as_str);
    let reason = format!(
        "a defect of Evenkeel that this run brings to light ended the coordinator {} times, the last time: {last}",
        panics.len()
    );
    let now = clock_of(&record);
    let (record, row, closed) = close(record, now.0, &reason).map_err(|error| error.to_string())?;
    let rows = vec![row.encode_to_vec()];
    let closing = store.close_run(handle, rows, &closed, record.totals(), Vec::new());
    closing.await.map_err(|error| error_chain(&error))?;
    let (_, reports) = write_reports(record, store.run_directory(handle)).await;
    if let Err(error) = reports {
        // They are made of the ledger when they are asked for.
        tracing::warn!(
            number = handle.number(),
            "the reports of a run cannot be written: {}",
            error_chain(&error)
        );
    }
    Ok(reason)
}

fn close(
    mut record: Record,
    at_us: u64,
    reason: &str,
) -> Result<(Record, l::Batch, l::Closed), crate::record::ApplyError> {
    let mut entries = Vec::new();
    let mut add = |record: &mut Record, body: Body| {
        let entry = l::Entry { body: Some(body) };
        record.apply(&entry)?;
        entries.push(entry);
        Ok::<_, crate::record::ApplyError>(())
    };
    for (unit, case) in record.unsettled() {
        let settled = l::Settled {
            unit,
            case,
            outcome: Verdict::Lost.name().to_owned(),
            message: reason.to_owned(),
        };
        add(&mut record, Body::Settled(settled))?;
    }
    let red = record.totals().failures() > 0 || !record.objections.is_empty();
    let (verdict, exit_code) = if red { ("red", 1) } else { ("incomplete", 3) };
    let schedule = record.schedule();
    let closed = l::Closed {
        verdict: verdict.to_owned(),
        exit_code,
        makespan_us: schedule.makespan.0,
        lower_bound_us: schedule.bound.makespan().0,
        message: reason.to_owned(),
        ..l::Closed::default()
    };
    add(&mut record, Body::Closed(closed.clone()))?;
    let batch = l::Batch {
        at_us,
        entries,
        taken: None,
    };
    Ok((record, batch, closed))
}
