//! A run whose record could not be written has been called incomplete, and stays that: as soon as the store takes rows again, its ledger says
//! so, too. Else the next coordinator would go on with a run that everybody has been told is over.

use crate::record::Record;
use crate::store::{RunHandle, Store, StoreError};
use evenkeel_proto::ledger as l;
use prost::Message;
use std::time::Duration;

/// How often it is tried.
const PAUSE: Duration = Duration::from_secs(2);

/// Tries until it is written, or is somebody else's to write.
pub(super) async fn abandon(store: Store, run: RunHandle, reason: String) {
    loop {
        match close(&store, run, &reason).await {
            Ok(()) => {
                tracing::info!(
                    number = run.number(),
                    "a run that could not be written is closed"
                );
                return;
            }
            Err(StoreError::Superseded { .. } | StoreError::Fenced { .. } | StoreError::Gone) => {
                return;
            }
            Err(error) => {
                tracing::warn!(number = run.number(), "a run cannot be closed yet: {error}");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Puts an end behind what is durable of the run.
async fn close(store: &Store, run: RunHandle, reason: &str) -> Result<(), StoreError> {
    let mut record = Record::default();
    let payloads = store.payloads(run, 0, u64::MAX >> 1).await?;
    for (sequence, payload) in (1..).zip(&payloads) {
        let damaged = |reason: String| StoreError::Damaged {
            run: run.number().to_string(),
            sequence,
            reason,
        };
        let batch = l::Batch::decode(payload.as_slice());
        let batch = batch.map_err(|error| damaged(error.to_string()))?;
        let applied = record.apply_batch(&batch);
        applied.map_err(|error| damaged(error.to_string()))?;
    }
    if record.closed.is_some() {
        return Ok(());
    }
    let red = record.totals().failures() > 0;
    let closed = l::Closed {
        verdict: if red { "red" } else { "incomplete" }.to_owned(),
        exit_code: if red { 1 } else { 3 },
        message: reason.to_owned(),
        ..l::Closed::default()
    };
    let batch = l::Batch {
        at_us: record.latest.0,
        entries: vec![l::Entry {
            body: Some(l::entry::Body::Closed(closed.clone())),
        }],
        taken: None,
    };
    let rows = vec![batch.encode_to_vec()];
    store
        .close_run(run, rows, &closed, record.totals(), Vec::new())
        .await
}
