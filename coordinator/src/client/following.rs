//! Following a run: across restarts of its coordinator and cuts of the connection, each event once.

use super::Remote;
use super::patience::{AskError, Patience};
use evenkeel_proto::v1;
use std::pin::Pin;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use v1::watch_event::Body;

/// A run that is followed.
pub struct Following {
    remote: Remote,
    project: String,
    run: String,
    rows: bool,
    cursor: Cursor,
    patience: Patience,
    stream: Option<Streaming<v1::WatchEvent>>,
    /// It is being attached, however often who waits for what is new stops doing so.
    attaching: Option<Attaching>,
    /// The connection is gone, and it is not tried before this to attach again.
    pause: Option<Instant>,
}

type Attaching = Pin<Box<dyn Future<Output = Result<Streaming<v1::WatchEvent>, Status>> + Send>>;

/// What comes of following a run.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // the large one is the rule
pub enum Seen {
    /// The last is [`Body::Ended`].
    Event(Body),
    /// The connection is gone; the next event comes over another one.
    Cut(Status),
}

impl Following {
    pub(super) fn new(remote: Remote, project: &str, run: &str, rows: bool) -> Following {
        Following {
            patience: remote.patience(),
            remote,
            project: project.to_owned(),
            run: run.to_owned(),
            rows,
            cursor: Cursor::default(),
            stream: None,
            attaching: None,
            pause: None,
        }
    }

    /// Whether the coordinator was not there when it was looked last.
    pub fn is_cut(&self) -> bool {
        self.pause.is_some()
    }

    /// What is new of the run. May be dropped before it has come back, and loses nothing then.
    pub async fn next(&mut self) -> Result<Seen, AskError> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.attach().await?;
                continue;
            };
            let event = match stream.message().await {
                Ok(Some(event)) => event,
                // A stream that ends without a last word was cut because we were too slow: attach again where we were.
                Ok(None) => {
                    self.stream = None;
                    continue;
                }
                Err(status) => {
                    self.stream = None;
                    self.pause = Some(self.patience.next(status.clone())?);
                    return Ok(Seen::Cut(status));
                }
            };
            self.patience.renew();
            if self.cursor.is_new(event.sequence)
                && let Some(body) = event.body
            {
                return Ok(Seen::Event(body));
            }
        }
    }

    async fn attach(&mut self) -> Result<(), AskError> {
        let attaching = self.attaching.get_or_insert_with(|| {
            let request = v1::WatchRequest {
                run: self.run.clone(),
                after: self.cursor.after(),
                rows: self.rows,
                project: self.project.clone(),
            };
            let (mut client, pause) = (self.remote.client(), self.pause);
            Box::pin(async move {
                if let Some(at) = pause {
                    tokio::time::sleep_until(at).await;
                }
                Ok(client.watch(request).await?.into_inner())
            })
        });
        let attached = attaching.await;
        self.attaching = None;
        match attached {
            Ok(stream) => {
                self.stream = Some(stream);
                self.pause = None;
            }
            Err(status) => self.pause = Some(self.patience.next(status)?),
        }
        Ok(())
    }
}

/// How far a watcher has seen: the last row of which it saw something, and how much of that.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    sequence: u64,
    seen: u32,
    /// What of this row comes once more, since it was attached again.
    again: u32,
}

impl Cursor {
    /// Where to attach again.
    fn after(&mut self) -> u64 {
        // It may be tried several times, and be cut again before it has come as far.
        self.again = self.again.max(self.seen);
        self.seen = 0;
        self.sequence.saturating_sub(1)
    }

    /// Whether an event is new.
    fn is_new(&mut self, sequence: u64) -> bool {
        if sequence == 0 {
            return true;
        }
        if sequence != self.sequence {
            (self.sequence, self.seen, self.again) = (sequence, 0, 0);
        }
        self.seen += 1;
        self.seen > self.again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_that_is_cut_again_and_again_sees_each_event_once() {
        // Row 1 shows one thing, row 2 three.
        let events = [1, 2, 2, 2, 3];
        let mut cursor = Cursor::default();
        let mut seen = Vec::new();
        for cut in [2, 0, 0, 2, 1, 0, 5] {
            let after = cursor.after();
            let rest = events.iter().filter(|sequence| **sequence > after);
            for sequence in rest.take(cut) {
                if cursor.is_new(*sequence) {
                    seen.push(*sequence);
                }
            }
        }
        assert_eq!(seen, events);
        assert!(cursor.is_new(0), "what comes of no row is always new");
    }
}
