//! What is on its way to the store, and what waits for it to be there.

use super::{Gated, RunTask};
use crate::run::Event;
use crate::server::abandon::{Unwritten, WriteError};
use crate::server::metrics;
use crate::server::planted::{Fault, is_planted};
use crate::store::StoreError;
use evenkeel_proto::{ledger, v1};
use std::time::Duration;
use tokio::task::JoinError;
use tokio::time::Instant;

/// A row that nothing waits for is written with the next one that something waits for, or after this long.
pub(super) const LAZY: Duration = Duration::from_millis(20);

impl RunTask {
    pub(super) fn count(&mut self, batch: &ledger::Batch) {
        use ledger::entry::Body;
        for entry in &batch.entries {
            match entry.body {
                Some(Body::Leased(_)) => self.counted.0 += 1,
                Some(Body::Attempt(_)) => self.counted.1 += 1,
                _ => {}
            }
        }
    }

    /// Starts the next append, if there is something to append and none is under way.
    pub(super) fn write(&mut self) {
        if self.waiting.rows.is_empty() {
            self.unwritten = None;
            return;
        }
        let since = *self.unwritten.get_or_insert_with(Instant::now);
        if self.writing.is_some() || (self.gated.is_empty() && since.elapsed() < LAZY) {
            return;
        }
        self.unwritten = None;
        let mut waiting = std::mem::take(&mut self.waiting);
        let (leases, results) = std::mem::take(&mut self.counted);
        if is_planted(Fault::ShownBeforeDurable) {
            self.show_rows(self.stored, &waiting.rows);
        }
        let store = self.seat.store.clone();
        let handle = self.seat.handle;
        let directory = self.seat.directory.clone();
        self.writing = Some(tokio::spawn(async move {
            if let Err(error) = waiting.write_texts(&directory).await {
                return (waiting, Err(error));
            }
            let begun = Instant::now();
            let stored = store.append(handle, waiting.rows.clone()).await;
            if stored.is_ok() {
                metrics::stored(waiting.rows.len() as u64, leases, results, begun.elapsed());
            }
            (waiting, stored.map_err(WriteError::from))
        }));
    }

    /// An append has come to its end. What it did not write waits again, before what came meanwhile.
    pub(super) fn has_written(
        &mut self,
        ended: Result<(Unwritten, Result<(), WriteError>), JoinError>,
    ) -> Result<(), WriteError> {
        let (rest, written) = ended.map_err(|_| StoreError::Gone)?;
        match written {
            Ok(()) => self.written(rest.rows),
            Err(error) => {
                self.waiting = rest.and(std::mem::take(&mut self.waiting));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Rows are durable: what waited for each of them goes out, and the row itself behind what it shows.
    pub(super) fn written(&mut self, rows: Vec<Vec<u8>>) {
        for payload in rows {
            self.stored += 1;
            self.release();
            if !is_planted(Fault::ShownBeforeDurable) {
                self.show_rows(self.stored - 1, &[payload]);
            }
        }
    }

    pub(super) fn release(&mut self) {
        while let Some((after, _)) = self.gated.front()
            && *after <= self.stored
        {
            match self.gated.pop_front() {
                Some((_, Gated::Ack { agent, sequence })) => {
                    let body = v1::coordinator_message::Body::Ack(v1::Ack { sequence });
                    let message = v1::CoordinatorMessage {
                        body: Some(body),
                        run: self.seat.opening.number,
                    };
                    self.send(agent, message);
                }
                Some((_, Gated::Stored)) => {
                    let effects = self.run.step(self.now(), Event::Stored);
                    self.perform(effects);
                }
                Some((_, Gated::Free(free))) => self.seat.hub.tell(free),
                Some((sequence, Gated::Show(show))) => self.tell_watchers(sequence, *show),
                None => {}
            }
        }
    }
}
