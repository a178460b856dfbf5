//! The target: when the run should end; and which slot each of the largest units is left to.
//!
//! The target is the fluid finish, when all slots end at once what they hold and what waits, those aside that hold what takes
//! longer. Where the largest units would end later than that, it is when they should: they are placed one after the other, the
//! largest first, each on the slot that ends it first. A slot that asks gets the largest unit that should end there by the target, or
//! that is left to it.
//!
//! A placement costs as much as the slots there are, so that it is kept until a share of them has moved.

use super::queues::{Entry, Queues};
use super::slots::{Slots, scaled};
use crate::Micros;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// So many of the largest units for each slot are placed, on as many times more slots at most: on those that are free first.
const EACH: usize = 2;
/// With thousands of slots no more than so many, by which those that are larger than the target allows are among them.
const ENOUGH: usize = 2_000;
/// The target is later than it should be by this part of what is left.
const MARGIN: u64 = 100;
/// A slot that has nothing and does not come within this time for what is left to it is left nothing more.
pub(super) const PATIENCE: Micros = Micros::from_millis(20);
/// Speeds within a part in so many are alike for a placement.
const ALIKE: u32 = 32;

/// When a slot is free; and slots, the first to be free on top.
type Free = Reverse<(Micros, u32)>;
type ByFree = BinaryHeap<Free>;

/// Where the largest units of a kind go.
#[derive(Debug, Default)]
struct Placement {
    /// By slot, and the largest last.
    left_to: Vec<(u32, Entry)>,
    /// The largest one of all, to which slot it is left, and when it should end there.
    largest: Option<(Entry, u32, Micros)>,
    end: Micros,
    made: Micros,
    changes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Target {
    placements: BTreeMap<u32, Placement>,
    /// The longest time that there ever was to a target.
    span: Micros,
    /// Grows with whatever a placement depends on.
    changes: u64,
    /// The fluid finish, and after how many changes it was worked out.
    level: Option<(Micros, u64)>,
}

impl Target {
    pub fn change(&mut self) {
        self.changes += 1;
    }

    /// Nothing that was worked out holds any more.
    pub fn reset(&mut self) {
        self.changes += 1;
        self.level = None;
        self.placements.clear();
    }

    /// When the run should end, as far as is worked out.
    pub fn get(&mut self, slots: &mut Slots, queues: &Queues, now: Micros) -> Micros {
        let level = match self.level {
            Some((level, changes)) if self.changes == changes => level,
            _ => {
                let mut level = slots.level_but(now, queues.expected);
                let chain = queues.longest_chain();
                if chain > Micros::ZERO {
                    level = level.max(slots.earliest_free(now) + chain);
                }
                self.level = Some((level, self.changes));
                level
            }
        };
        let placed = self.placements.values().map(|placement| placement.end);
        let end = level.max(placed.max().unwrap_or_default()).max(now);
        self.span = self.span.max(end - now);
        end + Micros((end - now).0 / MARGIN)
    }

    /// How long the run takes, about.
    pub fn span(&self) -> Micros {
        self.span
    }

    /// Whether a placement is to be made anew.
    fn is_stale(&self, kind: u32, slots: &Slots, now: Micros) -> bool {
        let Some(placement) = self.placements.get(&kind) else {
            return true;
        };
        let (count, moved) = (slots.count as u64, self.changes - placement.changes);
        let spacing = count * count / 16_000;
        moved > spacing || moved > 0 && now >= placement.made + Micros(count * 10)
    }

    /// Places the largest units of a kind, where that was not done lately. Slots that hold nothing and are left something: they are
    /// to be asked.
    pub fn place(
        &mut self,
        kind: u32,
        slots: &mut Slots,
        queues: &Queues,
        now: Micros,
    ) -> Vec<u32> {
        if !self.is_stale(kind, slots, now) {
            return Vec::new();
        }
        let count = (EACH * slots.count).min(ENOUGH);
        let units = largest(kind, queues, count);
        let mut placement = Placement {
            made: now,
            changes: self.changes,
            ..Placement::default()
        };
        // Slots of about the same speed in the order in which they are free.
        let mut able: BTreeMap<u32, (u32, Vec<Free>)> = BTreeMap::new();
        let busy = slots.busy.iter().copied().take(EACH * count);
        let idle = slots.without().map(|(slot, _)| (now, slot));
        for (free, slot) in idle.chain(busy) {
            let Some(state) = slots.get(slot) else {
                continue;
            };
            let is_able = state.ready && state.kind == kind && !state.barred.contains(&kind);
            if !is_able || state.is_deaf(now) {
                continue;
            }
            let speed = state.speed.milli.max(1);
            let class = speed.ilog2() * ALIKE + (speed << 5 >> speed.ilog2());
            let (_, alike) = able.entry(class).or_insert((speed, Vec::new()));
            alike.push(Reverse((free.max(now), slot)));
        }
        let heaps = able.into_iter();
        let heaps = heaps.map(|(_, (speed, slots))| (speed, ByFree::from(slots)));
        let mut alike: Vec<(u32, ByFree)> = heaps.collect();
        for (entry, expected) in units {
            let ends = (0..).zip(&alike).filter_map(|(class, (speed, heap))| {
                let Reverse((free, _)) = heap.peek()?;
                Some((*free + scaled(expected, 1000, *speed), class))
            });
            let Some((end, class)) = ends.min() else {
                break;
            };
            placement.end = placement.end.max(end);
            let (_, heap): &mut (u32, ByFree) = &mut alike[class];
            if let Some(mut first) = heap.peek_mut() {
                let Reverse((_, slot)) = *first;
                *first = Reverse((end, slot));
                placement.left_to.push((slot, entry));
                placement.largest.get_or_insert((entry, slot, end));
            }
        }
        placement.left_to.sort_unstable();
        let nothing = placement.left_to.iter().map(|(slot, _)| *slot);
        let nothing = nothing.filter(|slot| slots.get(*slot).is_some_and(|slot| slot.is_free()));
        let mut asked: Vec<u32> = nothing.collect();
        asked.dedup();
        asked.retain(|&slot| {
            let state = slots.touch(slot);
            state.is_some_and(|slot| slot.left_something(now))
        });
        self.placements.insert(kind, placement);
        asked
    }

    /// The slot that a unit is left to and when it should end there, if it is the largest of all.
    pub fn end_of(&self, kind: u32, entry: Entry) -> Option<(u32, Micros)> {
        let largest = self.placements.get(&kind)?.largest;
        largest
            .filter(|(largest, ..)| *largest == entry)
            .map(|(_, slot, end)| (slot, end))
    }

    /// The largest unit that waits and is left to a slot.
    pub fn left_to(&self, kind: u32, slot: u32, queues: &Queues) -> Option<Entry> {
        let left = &self.placements.get(&kind)?.left_to;
        let end = left.partition_point(|(other, _)| *other <= slot);
        let own = left[..end]
            .iter()
            .rev()
            .map_while(|(other, entry)| (*other == slot).then_some(*entry));
        // Others may have been given it meanwhile.
        let waits = |entry: &Entry| {
            let unit = queues.unit(entry.2.0).filter(|unit| unit.waits);
            unit.is_some_and(|unit| super::queues::entry(entry.2.0, &unit.weight) == *entry)
        };
        own.into_iter().find(waits)
    }
}

/// The largest units of a kind that nothing but a process of that kind is needed for, with what they should take.
fn largest(kind: u32, queues: &Queues, count: usize) -> Vec<(Entry, Micros)> {
    let free = queues
        .of_kind(kind)
        .filter(|(_, queue)| !queue.needs.is_constrained());
    let mut all: Vec<Entry> = Vec::new();
    for (_, queue) in free {
        all.extend(queue.waiting.iter().rev().take(count));
    }
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.truncate(count);
    let weight = |entry: &Entry| queues.weight(entry.2.0).map(|weight| weight.expected);
    all.iter()
        .filter_map(|entry| Some((*entry, weight(entry)?)))
        .collect()
}
