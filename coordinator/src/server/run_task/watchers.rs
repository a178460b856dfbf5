//! Who watches a run, and what is told to them.

use super::RunTask;
use crate::server::metrics;
use evenkeel_proto::v1;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use v1::watch_event::Body as Watched;

/// How often watchers hear of progress, at most.
pub(super) const PROGRESS: Duration = Duration::from_millis(100);

pub(super) struct Watcher {
    pub(super) events: mpsc::Sender<v1::WatchEvent>,
    pub(super) rows: bool,
}

impl RunTask {
    /// Shows rows that follow this one to those who want to see them.
    pub(super) fn show_rows(&mut self, after: u64, rows: &[Vec<u8>]) {
        for (sequence, payload) in (after + 1..).zip(rows) {
            let payload = payload.clone();
            let row = v1::LedgerRow { sequence, payload };
            self.watchers.retain(|watcher| {
                !watcher.rows || offer(&watcher.events, sequence, Watched::Row(row.clone()))
            });
        }
    }

    pub(super) fn tell_watchers(&mut self, sequence: u64, body: Watched) {
        let watching = self.watchers.len();
        self.watchers
            .retain(|watcher| offer(&watcher.events, sequence, body.clone()));
        for _ in self.watchers.len()..watching {
            metrics::watcher_dropped();
        }
    }

    pub(super) fn show_progress(&mut self) {
        if !self.dirty || self.watchers.is_empty() || self.shown.elapsed() < PROGRESS {
            return;
        }
        self.dirty = false;
        self.shown = Instant::now();
        let progress = self.run.progress(self.now());
        let body = Watched::Progress(v1::Progress {
            elapsed_us: progress.elapsed.0,
            expected_left_us: progress.expected_left.unwrap_or_default().0,
            units: progress.units,
            units_done: progress.units_done,
            cases_known: progress.totals.tests,
            passed: progress.totals.passed,
            failed: progress.totals.failed,
            errors: progress.totals.errors,
            skipped: progress.totals.skipped,
            running: progress
                .running
                .into_iter()
                .map(|(shard, what, since)| v1::Running {
                    shard,
                    what,
                    since_us: since.0,
                })
                .collect(),
            phase: progress.phase.to_owned(),
        });
        self.tell_watchers(0, body);
    }
}

/// A watcher that does not keep up is dropped; it attaches again from its cursor.
fn offer(events: &mpsc::Sender<v1::WatchEvent>, sequence: u64, body: Watched) -> bool {
    let body = Some(body);
    events.try_send(v1::WatchEvent { sequence, body }).is_ok()
}
