//! The tail: what is done when nothing is left to hand out.

use super::planted::{Fault, is_planted};
use super::slots::residue;
use super::{Dispatcher, WORTH_TAKING};
use crate::Micros;

impl Dispatcher {
    /// The unit that waits last behind the longest one at work, with its slot: worth taking back for a slot that has nothing to do.
    /// While something waits, only what would end later than the target. Nothing where its turn comes soon anyway, and nothing
    /// that could not run elsewhere.
    pub fn stranded(&mut self, now: Micros) -> Option<(u32, u32)> {
        if is_planted(Fault::NeverBack) {
            return None;
        }
        if self.queues.count == 0 {
            let laden = self
                .slots
                .laden
                .iter()
                .filter_map(|&slot| self.waits_behind(slot, now));
            return laden.max().map(|(_, slot, unit)| (slot, unit));
        }
        if self.slots.overdue.is_empty() {
            return None;
        }
        let target = self.target.get(&mut self.slots, &self.queues, now);
        // Most slots may be overdue by a little; few should end later than the target.
        let late = self.slots.busy.range((target, u32::MAX)..);
        let late = late.filter(|(_, slot)| self.slots.overdue.contains(slot));
        let late = late.filter_map(|&(_, slot)| self.waits_behind(slot, now));
        late.max().map(|(_, slot, unit)| (slot, unit))
    }

    /// What waits last on a slot, and for how long at least.
    fn waits_behind(&self, slot: u32, now: Micros) -> Option<(Micros, u32, u32)> {
        let state = self.slots.get(slot).filter(|slot| slot.bundle.is_none())?;
        let wait = residue(state, &self.queues, now)?;
        let last = *state.queued.back()?;
        let bound = self.queues.needs(last)?.is_constrained();
        (wait >= WORTH_TAKING && !bound).then_some((wait, slot, last))
    }

    /// Whether a slot has nothing while another one holds more than it can run, and could give.
    pub(super) fn is_uneven(&self) -> bool {
        let gives = |slot: &u32| {
            self.slots
                .get(*slot)
                .is_some_and(|slot| slot.ready && slot.bundle.is_none())
        };
        self.slots.laden.iter().any(gives) && self.slots.without().any(|(_, slot)| slot.ready)
    }
}
