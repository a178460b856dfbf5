//! Grants: how many cases of a lease a process may start before it hears more.
//!
//! What is granted cannot be taken back while a case runs, since a process listens between cases only. So it is granted a
//! little ahead of need: enough that it seldom waits, and so little that nearly all of a lease can still go elsewhere while
//! one case takes long. The first case of a lease and those that take long have nothing granted behind them: the process says
//! that it waits, which costs one message each way, and what would have waited behind a long one is free.

use std::time::Duration;

/// Microseconds of work that are granted ahead.
const AHEAD: f64 = 20_000.0;
/// What a case is taken to need before one was seen, microseconds.
const FIRST: f64 = 10_000.0;
/// Cases that take longer than this, microseconds, are granted one by one: a message each way is a small part of it.
const LONG: f64 = 40_000.0;
/// Weight of the newest case in the moving average.
const NEWEST: f64 = 0.2;

/// A pause between two reads.
const NAP: Duration = Duration::from_millis(1);
/// Cases that take longer than this are worth a wake-up each, microseconds.
const SLOW: f64 = 500.0;

/// How fast a process goes through cases.
pub(super) struct Pace {
    usual: f64,
    last: Option<u64>,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace {
            usual: FIRST,
            last: None,
        }
    }

    /// A case starts, at this time in microseconds.
    pub(super) fn started(&mut self, at: u64) {
        if let Some(last) = self.last.replace(at) {
            self.usual += NEWEST * (at.saturating_sub(last) as f64 - self.usual);
        }
    }

    /// What comes next is not the successor of the last case.
    pub(super) fn pause(&mut self) {
        self.last = None;
    }

    /// For how long nothing is missed by not listening, with so many cases before something is due. A process that goes fast
    /// would else wake the agent for every line.
    pub(super) fn nap(&self, before_due: u32) -> Option<Duration> {
        let busy = self.usual * f64::from(before_due);
        let worth = self.usual < SLOW && busy >= 2.0 * NAP.as_micros() as f64;
        worth.then_some(NAP)
    }

    /// A case took this long, microseconds, and the process waits for the next.
    pub(super) fn took(&mut self, duration: u64) {
        self.usual += NEWEST * (duration as f64 - self.usual);
        self.last = None;
    }

    /// How many cases may be ahead of the one that runs.
    pub(super) fn window(&self) -> u32 {
        let few = if self.usual > LONG { 0.0 } else { 1.0 };
        (AHEAD / self.usual.max(1.0)).max(few) as u32
    }
}

/// What a lease's process may start.
pub(super) struct Grant {
    /// Positions below this one.
    pub to: u32,
    /// From here on everything was taken back before the process could start it.
    pub taken_from: Option<u32>,
}

impl Grant {
    /// The new bound where a process that has started this many cases should hear of one.
    pub(super) fn extend(&mut self, started: u32, window: u32) -> Option<u32> {
        let most = self.taken_from.unwrap_or(u32::MAX);
        let to = started.saturating_add(window).min(most);
        if to <= self.to || self.to.saturating_sub(started) > window / 2 {
            return None;
        }
        self.to = to;
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_cases_are_granted_in_bulk_and_slow_ones_singly() {
        let mut pace = Pace::new();
        for case in 0..200 {
            pace.started(case * 50);
        }
        assert!(pace.window() >= 300, "{}", pace.window());
        for case in 0..30 {
            pace.started(10_000 + case * 1_000_000);
        }
        assert_eq!(pace.window(), 0);
        for _ in 0..30 {
            pace.took(20_000);
        }
        assert_eq!(pace.window(), 1);
    }

    #[test]
    fn a_process_is_always_one_case_ahead() {
        let mut grant = Grant {
            to: 1,
            taken_from: None,
        };
        for started in 1..50 {
            assert_eq!(grant.extend(started, 1), Some(started + 1));
        }
        assert_eq!(grant.extend(50, 40), Some(90));
        assert_eq!(grant.extend(51, 40), None);
        assert_eq!(grant.extend(70, 40), Some(110));
        grant.taken_from = Some(130);
        assert_eq!(grant.extend(100, 40), Some(130));
        assert_eq!(grant.extend(129, 40), None);
    }
}
