//! Ahead of need: when a busy slot gets its next unit, so that it finds that waiting when it ends the one it has.

use super::planted::{Fault, is_planted};
use super::queues::{Queue, class};
use super::slots::Slot;
use super::{AHEAD, Dispatcher};
use crate::Micros;

/// Where units are short, this much time is kept in a slot's reserve.
const RESERVE: Micros = Micros::from_millis(50);
/// Before the end is near it gets it when this share of what it has at work is left: few units end as early as that. And no earlier than this,
const EARLY_SHARE: u64 = 4;
const EARLY: Micros = Micros::from_millis(200);
/// but at once where the first of all takes no more than this part of what the slot has left.
const SLIGHT: u64 = 2;

impl Dispatcher {
    pub(super) fn wants_reserve(&self, slot: u32, now: Micros) -> bool {
        let Some(state) = self.slots.get(slot) else {
            return false;
        };
        let ahead = self.slots.free(slot, now) - now;
        // What was behind what it runs now and came back would only come back again.
        if self.slots.count > 1 && state.gave && state.running.is_some() {
            return false;
        }
        if state.queued.is_empty() {
            return !self.is_nearly_over() || ahead <= self.lookahead(state);
        }
        let each = 2 * self.slots.count.max(1) as u64;
        let fair = Micros(self.queues.expected.0 / each);
        !self.is_nearly_over() && ahead < RESERVE.min(fair)
    }

    /// Whether a busy slot needs its next unit soon, whatever that is. Of one of which nothing is known, what it runs now tells how fast
    /// it is.
    pub(super) fn is_soon_over(&self, slot: u32, now: Micros) -> bool {
        let known = |state: &&Slot| self.slots.count == 1 || !state.speed.unknown;
        self.slots.get(slot).filter(known).is_some_and(|state| {
            let ahead = self.slots.free(slot, now) - now;
            !state.queued.is_empty() || ahead <= self.lookahead(state)
        })
    }

    /// Whether even the first unit, by what orders it, is short beside what a slot has left behind what it holds: any may wait there, since
    /// another one makes up for it where that takes longer than thought. What takes a lock with it does not wait longer than it must, nor
    /// does what may well fail, or anything go before that.
    pub(super) fn are_slight(&mut self, slot: u32, kind: u32, now: Micros) -> bool {
        if is_planted(Fault::NeverAhead) || is_planted(Fault::AnythingAhead) {
            return is_planted(Fault::AnythingAhead);
        }
        if self.queues.is_suspecting() {
            return false;
        }
        let target = self.target.get(&mut self.slots, &self.queues, now);
        let Some(most) = self.surely_within(slot, now, target) else {
            return false;
        };
        let most = class(Micros(most.0 / SLIGHT));
        let mut open = self.open_to(slot, kind);
        let slight = |(_, queue): (u32, &Queue)| {
            let first = queue.first().is_none_or(|(class, ..)| class <= most);
            first && !queue.needs.is_constrained()
        };
        open.all(slight)
    }

    pub(super) fn is_nearly_over(&self) -> bool {
        self.queues.count <= 2 * self.slots.count.max(1)
    }

    /// How long before it should need it a slot that is busy with its last unit gets its next one. What is given early cannot
    /// go elsewhere when the one at work takes longer than thought; what is given late is waited for when it takes less.
    pub(super) fn lookahead(&self, slot: &Slot) -> Micros {
        if self.is_nearly_over() {
            return AHEAD;
        }
        match slot.running.and_then(|(unit, _)| self.queues.weight(unit)) {
            Some(weight) => {
                let share = Micros(slot.takes(weight.expected).0 / EARLY_SHARE);
                RESERVE.max(EARLY.min(share))
            }
            None => EARLY,
        }
    }
}
