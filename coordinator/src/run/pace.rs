//! What tests take beside what they should, told to the dispatcher as they end and where one is overdue: by that it notices a machine
//! that becomes slower or faster in the middle.

use super::{Micros, Place, Run};
use evenkeel_schedule::Lap;

/// A case that has run for less is not looked at before it has ended.
const OVERDUE: Micros = Micros::from_millis(1_000);

impl Run {
    /// What a case took that has just ended tells of its machine.
    pub(super) fn pace(&mut self, shard: u32, unit: u32, position: u32, at: Micros, setup: Micros) {
        let since = self.shards[shard as usize].place.since;
        if let Some((expected, known)) = self.known_time(shard, unit, position) {
            let took = at - since - setup;
            let lap = Lap {
                expected,
                took,
                known,
            };
            self.dispatcher.paced(shard, lap, at);
        }
    }

    /// So does one that takes longer than it should.
    pub(super) fn note_lag(&mut self, shard: u32, now: Micros) {
        let state = &self.shards[shard as usize];
        let Some(&(_, work)) = state.leases.front().filter(|_| !state.waiting) else {
            return;
        };
        let (unit, Place { done, since, .. }) = (self.works[work as usize].unit, state.place);
        // What ends is told in batches, and by nobody while the agent is cut off.
        if now - since < OVERDUE || !self.is_reachable(shard) {
            return;
        }
        if let Some((expected, known)) = self.known_time(shard, unit, done) {
            // A third of the cases of a file takes longer than they do on average.
            let expected = if known { expected } else { expected + expected };
            let took = now - since;
            let lap = Lap {
                expected,
                took,
                known,
            };
            self.dispatcher.lags(shard, lap, now);
        }
    }

    /// What a case that a shard has at work should take by the history, and whether it tells of that case, not only of its unit.
    fn known_time(&self, shard: u32, unit: u32, position: u32) -> Option<(Micros, bool)> {
        let state = &self.shards[shard as usize];
        state.place.declared?;
        let &(lease, _) = state.leases.front()?;
        let &number = self.record.lease(lease)?.cases.get(position as usize)?;
        let known = self.units[unit as usize].times.get(number as usize);
        if let Some(&known) = known {
            return Some((known, true));
        }
        let estimate = self.estimates[unit as usize];
        let cases = self.record.units[unit as usize].cases.len().max(1) as u64;
        let each = Micros(estimate.work.0 / cases);
        estimate.known.then_some((each, false))
    }
}
