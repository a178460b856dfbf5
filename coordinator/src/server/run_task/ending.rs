//! The end of a run: its last rows, its reports, and who hears of it; also where it cannot be written.

use super::watchers::Watcher;
use super::{RunMessage, RunSeat, RunTask};
use crate::rehearsal::{Explained, explain, is_worth_explaining, outline};
use crate::report::{self, ReportError};
use crate::run::{Command, Effect};
use crate::server::abandon::{End, Rest, WriteError, not_green, write_later, write_reports};
use crate::server::blocking;
use crate::server::ended::ended;
use crate::server::error_chain;
use crate::server::hub::Notice;
use crate::store::{StoreError, samples_of};
use crate::wire;
use evenkeel_proto::v1;
use prost::Message;
use v1::watch_event::Body as Watched;

impl RunTask {
    /// Agents that came when the run was about to end hear that it has: what they hold of it is nobody's.
    pub(super) fn dismiss(&mut self, late: Vec<RunMessage>, failed: bool) {
        for message in late {
            let (agent, outbox) = match message {
                RunMessage::Agent { joined, outbox } => (joined.agent, outbox),
                RunMessage::Back { back, outbox } => (back.agent, outbox),
                RunMessage::Event(_) | RunMessage::Watch { .. } => continue,
            };
            if failed {
                // With the others, as soon as it is known that it cannot go on.
                self.outboxes.insert(agent, outbox);
                continue;
            }
            let close = wire::command(Command::Close { abort: true }, &self.seat.opening);
            // One that does not listen is cut off by the hub.
            let _ = outbox.send(close);
        }
    }

    /// Where the run's time went: by replays, if they take little beside what the run took. What was broken off, or runs again what
    /// one shard did, says nothing about a schedule.
    pub(super) fn explained(&self) -> Option<Explained> {
        let record = self.run.record();
        if record.stopped.is_some() || !self.seat.keep_history {
            return None;
        }
        if !is_worth_explaining(record) {
            return Some(blocking::here(|| outline(record)));
        }
        let explained = blocking::here(|| explain(record));
        explained
            .inspect_err(|error| tracing::warn!("the run cannot be explained: {error}"))
            .ok()
    }

    /// The last thing: the last rows, the reports and the history are written, then everybody hears how it ended.
    pub(super) async fn finish(mut self, failed: Option<WriteError>) {
        let mut failed = failed;
        if let Some(writing) = self.writing.take() {
            let written = self.has_written(writing.await);
            failed = failed.or(written.err());
        }
        let explained = if failed.is_none() {
            self.explained()
        } else {
            None
        };
        let explained = explained.as_ref();
        let closed = match failed {
            Some(error) => Err(error),
            None => self.write_everything(explained).await,
        };
        match closed {
            Ok(reports) => {
                let rows = std::mem::take(&mut self.waiting.rows);
                self.written(rows);
                let last = ended(self.run.record(), explained, self.seat.store.directory());
                if let Err(error) = reports {
                    self.seat.warn_of_reports(&error);
                    self.seat.write_later(None);
                }
                self.seat.tell_end(&last, self.stored, self.watchers);
            }
            // The run is another coordinator's, or the next one's, and goes on there: nobody is told that it has ended.
            Err(error) if error.is_anothers() || self.seat.store.is_superseded() => {}
            Err(error) => self.abandon(&error).await,
        }
    }

    /// Its record cannot be written: it ends here, and whoever is told how hears what the ledger will say.
    pub(super) async fn abandon(self, error: &WriteError) {
        let reason = format!(
            "the run's record could not be written: {}",
            error_chain(error)
        );
        let now = self.now();
        let RunTask {
            seat,
            mut run,
            outboxes,
            watchers,
            waiting: mut unwritten,
            stored,
            ..
        } = self;
        for effect in run.abandon(now, &reason) {
            if let Effect::Append(batch) = effect {
                unwritten.rows.push(batch.encode_to_vec());
            }
        }
        let mut record = run.into_record();
        // What may have arrived, and has not for all that is known, lets nothing pass.
        let mut before = None;
        if let Some(row) = unwritten.rows.last_mut()
            && let Some((other, closed)) = not_green(row, &reason)
        {
            before = Some(std::mem::replace(row, other));
            record.closed = Some(closed);
        }
        for outbox in outboxes.values() {
            let close = wire::command(Command::Close { abort: true }, &seat.opening);
            // One that does not listen is cut off by the hub.
            let _ = outbox.send(close);
        }
        // They may find room where the ledger does not.
        let (record, reports) = write_reports(record, seat.directory.clone()).await;
        if let Err(error) = &reports {
            seat.warn_of_reports(error);
        }
        let last = ended(&record, None, seat.store.directory());
        seat.write_later(Some(End {
            stored,
            unwritten,
            before,
            closed: record.closed.clone().unwrap_or_default(),
            totals: record.totals(),
        }));
        seat.tell_end(&last, stored, watchers);
    }

    /// One transaction for the last rows, the verdict and the history; the reports are made meanwhile, and what came of them comes back.
    pub(super) async fn write_everything(
        &mut self,
        explained: Option<&Explained>,
    ) -> Result<Result<(), ReportError>, WriteError> {
        self.waiting.write_texts(&self.seat.directory).await?;
        let record = self.run.record();
        let seat = &self.seat;
        let samples = if seat.keep_history {
            samples_of(record)
        } else {
            Vec::new()
        };
        let closed = record.closed.clone().unwrap_or_default();
        let rows = self.waiting.rows.clone();
        let closing = seat
            .store
            .close_run(seat.handle, rows, &closed, record.totals(), samples);
        let closing = tokio::spawn(closing);
        let reports = blocking::here(|| report::write_all(record, explained, &seat.directory));
        closing.await.map_err(|_| StoreError::Gone)??;
        Ok(reports)
    }
}

impl RunSeat {
    fn warn_of_reports(&self, error: &dyn std::error::Error) {
        let (run, error) = (&self.opening.run, error_chain(error));
        tracing::warn!(run, "the reports of a run cannot be written yet: {error}");
    }

    /// What is not written is from now on somebody else's to write, the reports behind the ledger's end.
    fn write_later(&self, end: Option<End>) {
        tokio::spawn(write_later(Rest {
            store: self.store.clone(),
            run: self.handle,
            directory: self.directory.clone(),
            hub: self.hub.clone(),
            end,
        }));
    }

    fn tell_end(&self, last: &v1::Ended, rows: u64, watchers: Vec<Watcher>) {
        // The hub hears it first: whoever is told that the run has ended may ask for its reports at once.
        self.hub.tell(Notice::Ended {
            run: self.opening.number,
            ended: Box::new(last.clone()),
            rows,
        });
        for watcher in watchers {
            let (sequence, body) = (0, Some(Watched::Ended(last.clone())));
            // One that is slow to take the rest waits for itself only.
            tokio::spawn(async move {
                let event = v1::WatchEvent { sequence, body };
                watcher.events.send(event).await.ok();
            });
        }
    }
}
