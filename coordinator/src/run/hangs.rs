//! What hangs while others wait, or is to end after all of them: a slot is kept free for a copy of it, so that its own is not lost until
//! the end is near, nor the end waited for.

use super::copies::Late;
use super::{Micros, Run};

/// While others wait, how often it is looked, and how many times as long as it should a test has to take: what a copy costs, they wait.
/// Of what is only known as a part of its file more is needed, and twice as much behind each such copy that was cancelled.
pub(super) const EARLY: Micros = Micros::from_millis(250);
const FAR: u64 = 6;
const FAR_UNKNOWN: u64 = 10;
/// A copy of what should end too late begins so many times before that as it should take.
const LEAD: u64 = 3;
/// What has taken less is not looked at: what agents tell comes in batches.
const LEAST: Micros = Micros::from_millis(1_000);

impl Run {
    /// Whether something waits for slots, so that only what hangs is worth a copy.
    pub(super) fn could_copy_early(&self) -> bool {
        self.dispatcher.is_waiting() && self.may_copy()
    }

    /// While others wait, a slot is kept free for what hangs or is to end after all of them.
    pub(super) fn copy_early(&mut self, now: Micros) {
        let free = self.copying.kept.filter(|&kept| self.could_copy_on(kept));
        let looks = now >= self.next_look();
        if !looks && free.is_none() {
            return;
        }
        if looks {
            self.end_overruns(now);
        }
        let kept = self.copying.kept.take();
        // If it is kept no longer, it is asked for other things.
        self.stir.extend(kept);
        if !self.could_copy_early() {
            return;
        }
        self.copying.looked = Some(now);
        let (room, level) = (self.room(now), self.dispatcher.level(now));
        for late in self.late_ones(now) {
            let hangs = self.hangs(&late);
            if !(hangs || self.ends_late(now, &late, level)) || !self.is_reachable(late.shard) {
                continue;
            }
            let idle = free.filter(|&shard| self.is_worth(&late, shard, Micros::ZERO, room));
            let taker = idle.or_else(|| self.taker(&late, room));
            let Some(next) = taker.or_else(|| self.first_free(now, &late, room)) else {
                continue;
            };
            if self.take_rest(now, &late) {
                self.copying.kept = kept;
                return;
            }
            if taker.is_none() {
                self.copying.kept = Some(next);
                return self.empty(now, next);
            }
            if hangs {
                self.copying.early.insert(self.record.next_lease());
            }
            return self.copy(now, next, late);
        }
    }

    /// Whether what a slot has at work takes so much longer than it should that others are to wait for a copy of it.
    fn hangs(&self, late: &Late) -> bool {
        let known = !self.units[late.unit as usize].times.is_empty();
        let far = if known { FAR } else { FAR_UNKNOWN } << self.copying.vain.min(16);
        let long = late.took >= LEAST && late.took.0 / late.expected.0.max(1) >= far;
        // What comes first on a slot sets up what all share.
        let first = || {
            let begins = self.shards[late.shard as usize].place.first.is_none();
            let leases = self.record.leases.iter();
            let mut own = leases.filter(|lease| lease.shard == late.shard);
            begins && own.all(|lease| lease.ended.is_none())
        };
        long && !first()
    }

    /// Whether it should end later than all others by more than what a copy takes, which begins none too early: where a machine has
    /// become slow, no test needs to take far longer than it should.
    fn ends_late(&self, now: Micros, late: &Late, level: Micros) -> bool {
        let cost = self.setup_of(late.unit) + late.work;
        late.took >= LEAST && now + late.left > level + cost && now + Micros(LEAD * cost.0) >= level
    }

    /// Whether a slot gets nothing but a copy.
    pub(super) fn is_kept(&self, shard: u32) -> bool {
        self.copying.kept == Some(shard)
    }

    /// The slot that ends first what it has at work, of those on which a copy should even so end clearly sooner.
    fn first_free(&self, now: Micros, late: &Late, room: Micros) -> Option<u32> {
        let kind = self.units[late.unit as usize].needs.kind;
        let shards = (0..self.shards.len() as u32).filter(|&shard| {
            let state = &self.shards[shard as usize];
            let serves = !state.told_idle && !self.bundles(shard) && shard != late.shard;
            let kept = serves && self.may_be_kept(shard) && self.dispatcher.is_of(shard, kind);
            let first = state
                .leases
                .front()
                .and_then(|&(lease, _)| self.record.lease(lease));
            let begun = first.is_some_and(|lease| lease.begun.is_some());
            let mut behind = state.leases.iter().skip(1);
            kept && begun
                && behind.all(|lease| {
                    self.moves(lease) && !self.runs_twice(lease.0, &self.works[lease.1 as usize])
                })
        });
        let shards = shards.map(|shard| (self.dispatcher.rests(shard, now) - now, shard));
        let shards = shards.filter(|&(wait, shard)| self.is_worth(late, shard, wait, room));
        shards.min().map(|(_, shard)| shard)
    }

    /// What waits behind what a slot has at work goes elsewhere.
    fn empty(&mut self, now: Micros, shard: u32) {
        let state = &self.shards[shard as usize];
        let behind = state.leases.iter().skip(1).next_back();
        let behind = behind.filter(|_| state.revoking.is_none());
        if let Some(&(lease, _)) = behind {
            self.take(now, shard, lease, 0);
        }
    }
}
