//! For how long it is tried to reach a coordinator, and which failures pass.

use std::error::Error;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

/// The first pause between two tries.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The pauses double up to this.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why a coordinator did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It does not, and will not if it is asked again.
    #[error("the coordinator did not do it")]
    Refused(#[source] Status),
    /// It did not answer for too long.
    #[error("the coordinator is gone, so the run's verdict is not known")]
    Gone(#[source] Status),
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
    until: Option<Instant>,
    pause: Duration,
    lasts: Duration,
}

impl Patience {
    pub(super) fn new(lasts: Duration) -> Patience {
        Patience {
            until: None,
            pause: FIRST_PAUSE,
            lasts,
        }
    }

    /// Something went well: what fails next is counted anew.
    pub fn renew(&mut self) {
        *self = Patience::new(self.lasts);
    }

    /// When it is to be tried again; an error where it has been tried for long enough, or trying again is of no use.
    pub fn next(&mut self, status: Status) -> Result<Instant, AskError> {
        if !is_passing(&status) {
            return Err(AskError::Refused(status));
        }
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.lasts);
        if now >= until {
            return Err(AskError::Gone(status));
        }
        let at = until.min(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(at)
    }

    /// Waits until it is to be tried again.
    pub async fn again(&mut self, status: Status) -> Result<(), AskError> {
        let at = self.next(status)?;
        tokio::time::sleep_until(at).await;
        Ok(())
    }
}
