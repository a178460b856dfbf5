//! The agent's monotonic clock, and how a runner's clock is read on it.

use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Microseconds since the agent first asked.
pub(crate) fn now_us() -> u64 {
    us(Instant::now())
}

pub(crate) fn us(instant: Instant) -> u64 {
    let since = instant.saturating_duration_since(*ORIGIN.get_or_init(Instant::now));
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn instant(us: u64) -> Instant {
    *ORIGIN.get_or_init(Instant::now) + Duration::from_micros(us)
}

/// Maps a process's own clock to the agent's. The two differ by a constant; a message can only arrive late, so the
/// smallest difference seen is the best guess of it. A better guess shifts what is told from then on to earlier: who says that
/// one thing came after another has to see to it.
#[derive(Debug, Default)]
pub(crate) struct Alignment {
    offset: Option<i64>,
}

impl Alignment {
    /// `at` on the process's clock was heard of at `now` on the agent's: where on the agent's clock was it?
    pub(crate) fn align(&mut self, at: u64, now: u64) -> u64 {
        let seen = (now as i64).saturating_sub_unsigned(at);
        let offset = self.offset.map_or(seen, |offset| offset.min(seen));
        self.offset = Some(offset);
        u64::try_from((at as i64).saturating_add(offset)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_message_does_not_shift_what_happened() {
        let mut alignment = Alignment::default();
        assert_eq!(alignment.align(1_000, 51_000), 51_000);
        assert_eq!(alignment.align(2_000, 51_500), 51_500);
        assert_eq!(alignment.align(3_000, 90_000), 52_500);
    }

    #[test]
    fn a_better_guess_shifts_what_is_told_after_it() {
        let mut alignment = Alignment::default();
        let start = alignment.align(1_000, 51_900);
        alignment.align(3_000, 53_000);
        assert_eq!((start, alignment.align(1_100, 53_000)), (51_900, 51_100));
    }
}
