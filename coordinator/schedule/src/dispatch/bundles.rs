//! Bundles: units that are leased together, where each lease costs something.

use super::Dispatcher;
use super::queues::Entry;
use super::slots::Bundle;
use crate::Micros;

/// A slot's share that is shorter than so many starts of a bundle is run in one.
const SHORT: u64 = 10;
/// A bundle should run for so many times what its start takes.
const WORTH_A_START: u64 = 2;
/// Standard deviation of what nobody has run before, in thousandths.
const GUESSED: u64 = 250;

impl Dispatcher {
    /// Units for a slot that runs several at once and pays `startup` each time; nothing while it is busy, or where nothing waits.
    ///
    /// Guided self-scheduling (Polychronopoulos and Kuck, 1987): a part of what is the slot's even share of all that is left, so that
    /// later ones can make up for estimates that were wrong: the less the surer its speed and its units are. All of it where starting
    /// once more would cost more than that is worth or where there is no other slot. The largest units first, each that still fits.
    pub fn bundle(&mut self, slot: u32, now: Micros, startup: Micros) -> Vec<u32> {
        self.settle(now);
        let Some(state) = self
            .slots
            .touch(slot)
            .filter(|slot| slot.ready && slot.is_free())
        else {
            return Vec::new();
        };
        state.came();
        let (kind, speed) = (state.kind, state.speed);
        // What is run together needs the same.
        let open = self.open_to(slot, kind);
        let firsts =
            open.filter_map(|(at, queue)| Some((self.queues.urgency(queue, queue.first()?), at)));
        let Some((_, at)) = firsts.max() else {
            return Vec::new();
        };
        let level = self.slots.level_but(now, self.queues.expected);
        let queue = &self.queues.list[at as usize];
        let Some(state) = self.slots.get(slot) else {
            return Vec::new();
        };
        // Every slot that has nothing yet is going to pay for a start, this one too.
        let slots = self.slots.count as u64;
        let starts = Micros(startup.0 * self.slots.idle as u64 / slots.max(1));
        let time = (level - now) + starts - startup;
        let share = state.gives(time);
        let guessed = queue.guessed.0.saturating_mul(2) > queue.expected.0;
        let unsure = 2 * (u64::from(speed.unsure) + if guessed { GUESSED } else { 0 });
        let alone = self.slots.count == 1;
        let budget = if alone || !guessed && time <= Micros(startup.0 * SHORT) {
            share
        } else {
            Micros(share.0 / 1000 * (1000u64.saturating_sub(unsure)).max(400))
        };
        let worth = Micros(startup.0 * WORTH_A_START);
        let mut room = budget.max(state.gives(worth).min(share));
        let mut taken = Micros::ZERO;
        let mut chosen: Vec<Entry> = Vec::new();
        let mut last = queue.waiting.last().copied();
        while let Some(entry) = last {
            let expected = self
                .queues
                .weight(entry.2.0)
                .map_or(Micros::ZERO, |weight| weight.expected);
            if chosen.is_empty() || expected <= room {
                room = room - expected;
                taken += expected;
                chosen.push(entry);
            }
            last = queue.waiting.range(..entry).next_back().copied();
        }
        // What would be left over for a process of its own costs less here than that one's start, unless another slot is there for it.
        let left = queue.expected - taken;
        let others = self.slots.idle > 1;
        let free = self
            .slots
            .busy
            .first()
            .map(|(free, _)| *free)
            .filter(|_| !others);
        let until = now + state.takes(taken);
        let nobody = !others && free.is_none_or(|free| until <= free);
        if state.takes(left) <= startup && nobody {
            let kept: std::collections::BTreeSet<Entry> = chosen.iter().copied().collect();
            chosen.extend(
                queue
                    .waiting
                    .iter()
                    .rev()
                    .filter(|entry| !kept.contains(entry))
                    .copied(),
            );
            taken += left;
        }
        let units: Vec<u32> = chosen.into_iter().map(|entry| entry.2.0).collect();
        for &unit in &units {
            self.take(slot, unit, now);
        }
        let bundle = Bundle {
            since: now,
            startup,
            work: taken,
        };
        self.slots
            .change(slot, &self.queues, now, |slot| slot.bundle = Some(bundle));
        units
    }
}
