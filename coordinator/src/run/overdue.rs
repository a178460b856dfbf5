//! Deadlines on the coordinator's clock: an agent ends a test that runs past its deadline, and where one does not, though it is alive
//! and says so, its slot is given up and the test is an error. Liveness and a test's deadline are two clocks.

use super::facts::Times;
use super::{CaseText, Command, Level, Micros, Run};
use crate::record::Outcome;

/// An agent has this long to do what it should have done.
const SLACK: Micros = Micros::from_millis(30_000);
/// Loading a unit may take as long as a test, and at least this long.
const LOADING: Micros = Micros::from_millis(60_000);
/// What a test past its deadline has left, where nothing is said.
const GRACE: Micros = Micros::from_millis(2_000);
/// How often it is looked.
const EVERY: Micros = Micros::from_millis(5_000);

impl Run {
    /// When it is looked next for tests that should have been ended, if any test has a deadline.
    pub(super) fn looks_for_overdue_at(&self) -> Option<Micros> {
        let limited = self.limits.iter().any(|limits| limits.timeout.is_some());
        limited.then_some(self.next_overdue)
    }

    pub(super) fn end_overdue(&mut self, now: Micros) {
        if self.looks_for_overdue_at().is_none_or(|at| at > now) {
            return;
        }
        self.next_overdue = now + EVERY;
        for shard in 0..self.shards.len() as u32 {
            if self.overdue_at(shard).is_some_and(|at| at <= now) {
                self.give_up_slot(now, shard);
            }
        }
    }

    /// When what a slot has at work should have been ended for certain.
    fn overdue_at(&self, shard: u32) -> Option<Micros> {
        let state = &self.shards[shard as usize];
        let &(lease, work) = state.leases.front()?;
        let unit = self.works[work as usize].unit;
        // What reports its tests when all are over, and what waits for us, shows no pace.
        if state.gone || state.waiting || !self.is_reachable(shard) || self.suite_of(unit).undivided
        {
            return None;
        }
        let limits = self.units[unit as usize].limits;
        let begun = self.record.lease(lease)?.begun?.at;
        let allowed = limits.timeout?.max(LOADING) + limits.grace.unwrap_or(GRACE) + SLACK;
        Some(state.place.since.max(begun) + allowed)
    }

    fn give_up_slot(&mut self, now: Micros, shard: u32) {
        let slot = self.record.shards[shard as usize].slot;
        let lease = self.shards[shard as usize].leases.front().copied();
        let Some((lease, _)) = lease else { return };
        let since = self.shards[shard as usize].place.since;
        let why = "it ran past its deadline, and its agent did not end it";
        if let Some(number) = self.at_work(lease) {
            let times = Times {
                started: since,
                ended: now,
                duration: now - since,
                setup: Micros::ZERO,
            };
            let text = CaseText {
                message: why.to_owned(),
                ..CaseText::default()
            };
            self.attempt(shard, lease, number, Outcome::Error, times, 0, text);
        }
        self.note(
            Level::Error,
            &format!(
                "slot {} is given up: a test ran past its deadline, and the agent did not end it",
                shard + 1
            ),
        );
        let abort = true;
        self.send_to_shard(shard, Command::CloseSlot { slot, abort });
        self.shard_gone(now, shard, false);
    }

    /// The first case of a lease that is its own and has no verdict: the one at work, as far as is known.
    pub(super) fn at_work(&self, lease: u64) -> Option<u32> {
        let on_record = self.record.lease(lease)?;
        let cases = &self.record.units[on_record.unit as usize].cases;
        let mut open = on_record.cases.iter().filter(|&&number| {
            let case = &cases[number as usize];
            case.verdict().is_none() && case.is_owned_by(lease)
        });
        open.next().copied()
    }
}
