//! For how long it is tried to reach a coordinator, and which failures pass.

use super::Remote;
use std::error::Error;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

/// The pauses between tries grow from the first to the second of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why a coordinator did not do what it was asked.
#[derive(Debug)]
pub enum AskError {
    /// It does not, and will not if it is asked again.
    Refused(Status),
    /// It was there, and is no more.
    Gone(Status),
    /// It never answered.
    Unreached(Status),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Refused(status) => write!(f, "refused: {status}"),
            AskError::Gone(status) => write!(f, "it is gone: {status}"),
            AskError::Unreached(status) => write!(f, "nobody answers: {status}"),
        }
    }
}

/// Whether asking again may help: the connection failed, not what was asked.
pub fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled => true,
        // A connection that broke has an error of its own behind it; a coordinator's answer has none.
        Code::Unknown | Code::Internal | Code::DeadlineExceeded => status.source().is_some(),
        _ => false,
    }
}

/// Tries until something that may pass has passed, and not for ever.
pub struct Patience {
    remote: Remote,
    until: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(remote: Remote) -> Patience {
        Patience {
            remote,
            until: None,
            pause: PAUSES.0,
        }
    }

    /// Something went well: what fails next is counted anew.
    pub fn renew(&mut self) {
        self.remote.has_answered();
        self.until = None;
        self.pause = PAUSES.0;
    }

    /// Waits before the next try; an error where it has been tried for long enough, or trying again is of no use.
    pub async fn again(&mut self, status: Status) -> Result<(), AskError> {
        if !is_passing(&status) {
            return Err(AskError::Refused(status));
        }
        let answered = self.remote.answered.load(Ordering::Relaxed);
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.remote.patience);
        if now >= until {
            return Err(match answered {
                true => AskError::Gone(status),
                false => AskError::Unreached(status),
            });
        }
        tokio::time::sleep(self.pause.min(until - now)).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }
}
