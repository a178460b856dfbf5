//! What could not be written when a run ended is written when the store and the disk take it again: its last rows, then its reports.
//!
//! A run whose record cannot be written is told to have ended without being green, so its ledger has to come to say the same; else the next
//! coordinator would go on with a run that everybody has been told is over. Until it does, what was told stands in the hub's memory.

use super::blocking;
use super::doors::HubDoor;
use super::error_chain;
use super::hub::Notice;
use crate::record::{Record, Totals};
use crate::report::{self, ReportError};
use crate::store::{RunHandle, Store, StoreError};
use evenkeel_proto::ledger as l;
use l::entry::Body;
use prost::Message;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The pauses between two tries double from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Why something of a run is not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write the outputs {path}")]
    Outputs {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Reports(#[from] ReportError),
}

impl WriteError {
    /// Whether the run is not this coordinator's any more.
    pub(super) fn is_anothers(&self) -> bool {
        matches!(
            self,
            WriteError::Store(
                StoreError::Superseded { .. } | StoreError::Fenced { .. } | StoreError::Gone
            )
        )
    }
}

/// Rows, and the texts that they refer to.
#[derive(Clone, Debug, Default)]
pub(super) struct Unwritten {
    pub rows: Vec<Vec<u8>>,
    pub texts: Vec<u8>,
    /// Where in the run's outputs the texts begin.
    pub at: u64,
}

impl Unwritten {
    /// Takes in a text that follows those that are here.
    pub(super) fn text(&mut self, at: u64, text: &[u8]) {
        if self.texts.is_empty() {
            self.at = at;
        }
        self.texts.extend(text);
    }

    /// Both, this one first.
    pub(super) fn and(mut self, later: Unwritten) -> Unwritten {
        self.rows.extend(later.rows);
        if !later.texts.is_empty() {
            self.text(later.at, &later.texts);
        }
        self
    }

    /// Makes the texts durable. Each has its place, so that a try that failed half-way does not move what comes behind it.
    pub(super) async fn write_texts(&mut self, directory: &Path) -> Result<(), WriteError> {
        if self.texts.is_empty() {
            return Ok(());
        }
        let path = directory.join(report::OUTPUTS);
        let (at, texts) = (self.at, std::mem::take(&mut self.texts));
        let writing = blocking::beside(move || {
            let written = write_at(&path, at, &texts);
            (texts, written.map_err(|source| (path, source)))
        });
        let (texts, written) = writing.await.map_err(|_| StoreError::Gone)?;
        written.map_err(|(path, source)| {
            self.texts = texts;
            WriteError::Outputs { path, source }
        })
    }
}

fn write_at(path: &Path, at: u64, texts: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::OpenOptions::new();
    let file = file.create(true).truncate(false).write(true).open(path)?;
    file.write_all_at(texts, at)?;
    file.sync_data()
}

/// A run that has ended and of which something is not written.
pub(super) struct Rest {
    pub store: Store,
    pub run: RunHandle,
    pub directory: PathBuf,
    pub hub: HubDoor,
    /// Its last rows with its end, where they are not written.
    pub end: Option<End>,
}

/// How the ledger is to end.
pub(super) struct End {
    /// So many rows were stored before.
    pub stored: u64,
    pub unwritten: Unwritten,
    /// What was on its way into the store as the last row, where another one has taken its place: whether it arrived may be in doubt.
    pub before: Option<Vec<u8>>,
    pub closed: l::Closed,
    pub totals: Totals,
}

/// Makes another end of a row that ends a run, so that it is no green one; nothing where it is not green.
pub(super) fn not_green(row: &[u8], reason: &str) -> Option<(Vec<u8>, l::Closed)> {
    let mut batch = l::Batch::decode(row).ok()?;
    let closed = batch
        .entries
        .iter_mut()
        .find_map(|entry| match &mut entry.body {
            Some(Body::Closed(closed)) if closed.exit_code == 0 => Some(closed),
            _ => None,
        })?;
    closed.verdict = "incomplete".to_owned();
    closed.exit_code = 3;
    closed.message = reason.to_owned();
    let closed = closed.clone();
    Some((batch.encode_to_vec(), closed))
}

/// Tries until all is written, or is somebody else's to write.
pub(super) async fn write_later(mut rest: Rest) {
    let number = rest.run.number();
    let mut pause = PAUSES.0;
    loop {
        tokio::time::sleep(pause).await;
        match rest.write().await {
            Ok(()) => return,
            Err(error) if error.is_anothers() => return,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(number, "the end of a run cannot be written yet: {error}");
            }
        }
        pause = (2 * pause).min(PAUSES.1);
    }
}

impl Rest {
    async fn write(&mut self) -> Result<(), WriteError> {
        let number = self.run.number();
        if let Some(end) = &mut self.end {
            end.unwritten.write_texts(&self.directory).await?;
            end.write(&self.store, self.run).await?;
            tracing::info!(number, "the end of a run is in its ledger");
            self.end = None;
            // What is asked of the run from now on is answered from the ledger.
            self.hub.tell(Notice::Written { run: number as u64 });
        }
        let record = record_of(&self.store, self.run).await?;
        write_reports(record, self.directory.clone()).await.1?;
        tracing::info!(number, "the reports of a run are written");
        Ok(())
    }
}

impl End {
    /// Puts what is missing behind what is durable. That may be more than was known: the end of a transaction may have been in doubt.
    async fn write(&self, store: &Store, run: RunHandle) -> Result<(), StoreError> {
        let durable = store.payloads(run, self.stored, i64::MAX as u64).await?;
        let rows = &self.unwritten.rows;
        let Some(missing) = rows.strip_prefix(durable.as_slice()) else {
            let (last, first) = durable.split_last().unwrap_or((const { &Vec::new() }, &[]));
            if self.before.as_ref() == Some(last) && rows.starts_with(first) {
                return Ok(());
            }
            return Err(StoreError::Damaged {
                run: run.number().to_string(),
                sequence: self.stored,
                reason: "it goes on otherwise than its run".to_owned(),
            });
        };
        if missing.is_empty() {
            return Ok(());
        }
        let closing = store.close_run(run, missing.to_vec(), &self.closed, self.totals, Vec::new());
        closing.await
    }
}

/// What the ledger says of a run.
pub(super) async fn record_of(store: &Store, run: RunHandle) -> Result<Record, StoreError> {
    let mut record = Record::default();
    let payloads = store.payloads(run, 0, i64::MAX as u64).await?;
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
    Ok(record)
}

/// Writes a run's reports beside what else is done, and gives its record back.
pub(super) async fn write_reports(
    record: Record,
    directory: PathBuf,
) -> (Record, Result<(), WriteError>) {
    let writing = blocking::beside(move || {
        let written = report::write_all(&record, None, &directory);
        (record, written.map_err(WriteError::from))
    });
    let gone = |_| (Record::default(), Err(StoreError::Gone.into()));
    writing.await.unwrap_or_else(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_places_whatever_a_failed_try_left() {
        let directory = std::env::temp_dir().join(format!("ek-texts-{}", std::process::id()));
        let path = directory.join("outputs");
        write_at(&path, 0, b"first").unwrap();
        // Half of the second got there before the disk was full.
        write_at(&path, 5, b"sec").unwrap();
        let mut unwritten = Unwritten::default();
        unwritten.text(5, b"second");
        let mut later = Unwritten::default();
        later.text(11, b"third");
        let unwritten = unwritten.and(later);
        write_at(&path, unwritten.at, &unwritten.texts).unwrap();
        let found = std::fs::read(&path).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found, b"firstsecondthird");
    }

    #[test]
    fn only_a_green_end_is_made_another() {
        let row = |verdict: &str, exit_code| {
            let closed = l::Closed {
                verdict: verdict.to_owned(),
                exit_code,
                ..l::Closed::default()
            };
            let body = Some(Body::Closed(closed));
            let batch = l::Batch {
                entries: vec![l::Entry { body }],
                ..l::Batch::default()
            };
            batch.encode_to_vec()
        };
        assert_eq!(not_green(&row("red", 1), "full"), None);
        let (other, closed) = not_green(&row("green", 0), "full").unwrap();
        assert_eq!((closed.exit_code, closed.message.as_str()), (3, "full"));
        let batch = l::Batch::decode(other.as_slice()).unwrap();
        assert_eq!(batch.entries[0].body, Some(Body::Closed(closed)));
    }
}
