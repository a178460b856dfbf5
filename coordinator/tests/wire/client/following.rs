//! Following a run: across restarts of its coordinator and cuts of the connection, each event once.

use super::Remote;
use super::patience::{AskError, Patience, is_passing};
use evenkeel_proto::v1;
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
    /// Why there is none any more.
    cut: Option<Status>,
}

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
    pub(crate) fn new(remote: Remote, project: &str, run: &str, rows: bool) -> Following {
        Following {
            patience: remote.patience(),
            remote,
            project: project.to_owned(),
            run: run.to_owned(),
            rows,
            cursor: Cursor::default(),
            stream: None,
            cut: None,
        }
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
                    if !is_passing(&status) {
                        return Err(AskError::Refused(status));
                    }
                    self.cut = Some(status.clone());
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
        if let Some(status) = self.cut.take() {
            self.patience.again(status).await?;
        }
        let request = v1::WatchRequest {
            run: self.run.clone(),
            after: self.cursor.after(),
            rows: self.rows,
            project: self.project.clone(),
        };
        match self.remote.client().watch(request).await {
            Ok(stream) => self.stream = Some(stream.into_inner()),
            Err(status) => self.patience.again(status).await?,
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
