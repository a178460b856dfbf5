//! Probes: small known units that tell how fast a slot is, before it gets what is large.

use super::planted::{Fault, is_planted};
use super::queues::{Entry, Queue};
use super::{Dispatcher, UNMEASURED, measured, speeds};
use crate::Micros;

/// What takes this long, in microseconds, is long beside that.
const TELLING: Micros = Micros(4 * UNMEASURED as u64);
/// What tells how fast a slot is takes this part of the time that is left beside the largest unit, by what orders it; but of all the time
/// that is left no less than the first of these parts and no more than the second.
const SPARED: u64 = 50;
const SMALLEST_PROBE: u64 = 1000;
const USUAL_PROBE: u64 = 150;
/// All that a slot needs of it should take no more than this part; and so many units are looked at for one that has run before.
const LARGEST_PROBE: u64 = 16;
const PROBES: usize = 64;
/// Small units are what fills gaps at the end. Where there are fewer for each slot than this, they tell of slots only for what would not
/// end in time by its high quantile;
const MANY: usize = 30;
/// where there are fewer than this, only if the largest ends later than all work could, by a part in so many.
const FEW: usize = 4;
const SLACK: u64 = 20;

impl Dispatcher {
    /// A small known unit for a slot that has nothing and of whose speed too little is known, where the largest unit may not end here
    /// in time.
    pub(super) fn probe(&mut self, slot: u32, kind: u32, now: Micros) -> Option<u32> {
        let (count, waiting) = (self.slots.count, self.queues.count);
        if count < 2 || !self.slots.get(slot)?.speed.unknown {
            return None;
        }
        let knows = |(_, queue): (u32, &Queue)| queue.guessed < queue.expected;
        if !self.queues.of_kind(kind).any(knows) {
            return None;
        }
        if waiting >= FEW * count {
            self.place_kind(kind, now);
        }
        let left = self.target.get(&mut self.slots, &self.queues, now) - now;
        if waiting < FEW * count {
            let level = self.slots.level_but(now, self.queues.expected) - now;
            if left <= level + Micros(level.0 / SLACK) {
                return None;
            }
        }
        let (fits, first) = self.fitting(slot, kind, now);
        if fits == first {
            return None;
        }
        let (_, largest) = first?;
        if waiting < MANY * count && largest.1 <= self.slots.get(slot)?.gives_surely(left) {
            return None;
        }
        self.telling(slot, kind, left, largest)
            .map(|entry| entry.2.0)
    }

    /// The unit that tells most of a slot's speed for what it takes, where so much time is left: one that is long beside what goes by
    /// around it, or else as long as there is. Nothing where the slot would have to run so many of them that it is felt.
    fn telling(&self, slot: u32, kind: u32, left: Micros, largest: Entry) -> Option<Entry> {
        let (_, queue) = self
            .open_to(slot, kind)
            .find(|(_, queue)| !queue.needs.is_constrained())?;
        if is_planted(Fault::TinyProbes) {
            return queue.waiting.first().copied();
        }
        let most = (left.0 / LARGEST_PROBE) as f64;
        let pays = |entry: &&Entry| {
            let weight = self.queues.weight(entry.2.0);
            weight.is_some_and(|weight| {
                let took = weight.expected.0 as f64;
                let needed = speeds::needed(measured(weight.law().1, took));
                weight.known && needed * (took + UNMEASURED) <= most
            })
        };
        let spared = left - self.queues.weight(largest.2.0)?.order;
        let (least, usual) = (left.0 / SMALLEST_PROBE, left.0 / USUAL_PROBE);
        let small = Micros((spared.0 / SPARED).clamp(least, usual));
        let usual = queue.below(small).take(PROBES).find(pays);
        let usual = usual.filter(|entry| entry.1 >= TELLING);
        let longer = || queue.from(TELLING).take(PROBES).find(pays);
        let shorter = || queue.below(TELLING).take(PROBES).find(pays);
        usual.or_else(longer).or_else(shorter).copied()
    }
}
