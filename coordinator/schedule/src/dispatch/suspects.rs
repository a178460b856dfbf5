//! Units that may well fail: first where the run ends no later by that, or where that is what is wanted.

use super::Dispatcher;
use super::planted::{Fault, is_planted};
use super::queues::Entry;
use crate::Micros;

/// What decides which units come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// That the run ends soon. Suspects come first as long as that costs nothing.
    #[default]
    Balanced,
    /// That failures are known soon: suspects come first.
    FirstRed,
}

/// Suspects come early as long as they are no more than one part in so many of all that waits, the most suspicious first: what is
/// left when they have run has to even out the ends of slots.
const FEW: u64 = 4;
/// What takes no more than this part of the time that is left is not felt at the end, and what takes no more than so long in any case.
const GRAIN: u64 = 400;
const SMALL: Micros = Micros::from_millis(50);
/// Of the shortest units that wait, this one has to be as short, or the one for each slot where there are fewer slots.
const GRAINS: usize = 64;
/// Behind a suspect there must be time for so many like the longest that waits.
const BEHIND: u64 = 2;

impl Dispatcher {
    /// What comes first, from now on.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
        self.version += 1;
    }

    /// A unit that was put up may well fail: the more, the higher the number. 0 takes it back.
    pub fn suspect(&mut self, unit: u32, suspicion: u8) {
        self.queues.suspect(unit, suspicion);
        self.version += 1;
        self.target.change();
    }

    /// The most suspicious unit that the slot may run, if it is to come before others.
    pub(super) fn suspect_for(&mut self, slot: u32, kind: u32, now: Micros) -> Option<u32> {
        if is_planted(Fault::NoSuspects) || !self.queues.is_suspecting() {
            return None;
        }
        let last = self
            .open_to(slot, kind)
            .filter_map(|(_, queue)| queue.suspects.last().copied());
        let (suspicion, entry) = last.max()?;
        let unit = entry.2.0;
        if self.order == Order::FirstRed || is_planted(Fault::SuspectsAnyway) {
            return Some(unit);
        }
        let level = self.level(now);
        let suspected = self.queues.as_suspicious(suspicion);
        let grain = Micros((level - now).0 / GRAIN).max(SMALL);
        // Slots that are out of step come to the same end only by what is short.
        let felt = suspected.0 / self.slots.count.max(1) as u64 > grain.0;
        if suspected.0 > self.queues.expected.0 / FEW
            || felt && !self.has_grains(kind, suspicion, grain)
        {
            return None;
        }
        let most = self.surely_within(slot, now, level)?;
        let (_, first) = self.fitting(slot, kind, now);
        let longest = first.and_then(|(_, entry): (u16, Entry)| self.queues.weight(entry.2.0))?;
        let own = self.queues.weight(unit)?.high;
        let behind = Micros(longest.high.0.saturating_mul(BEHIND));
        (own + behind <= most).then_some(unit)
    }

    /// Whether there are as many units that take no longer than this as there are slots, suspects aside.
    fn has_grains(&self, kind: u32, suspicion: u8, most: Micros) -> bool {
        let wanted = self.slots.count.clamp(1, GRAINS);
        let queues = self.queues.of_kind(kind);
        let shortest = queues.flat_map(|(_, queue)| queue.waiting.iter().take(2 * GRAINS));
        let grains = shortest.filter(|(.., unit)| {
            let unit = self.queues.unit(unit.0);
            unit.is_some_and(|unit| unit.suspicion < suspicion && unit.weight.expected <= most)
        });
        grains.take(wanted).count() == wanted
    }
}
