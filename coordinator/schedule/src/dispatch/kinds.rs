//! What a slot may run: kinds of processes, locks, and what runs alone.

use super::planted::{Fault, is_planted};
use super::queues::Queue;
use super::{Dispatcher, Needs, WORTH_TAKING};
use crate::Micros;
use std::cmp::Reverse;
use std::collections::BTreeMap;

impl Dispatcher {
    /// The slot cannot have a process of this kind.
    pub fn bar(&mut self, slot: u32, kind: u32) {
        self.slots.change(slot, &self.queues, Micros::ZERO, |slot| {
            slot.barred.insert(kind)
        });
        self.target.reset();
    }

    /// Whether something waits that needs this kind of process, whoever may run it now.
    pub fn is_waiting_for(&self, kind: u32) -> bool {
        self.queues.of_kind(kind).next().is_some()
    }

    /// Whether there may be a slot that [`Self::is_awaited`].
    pub fn awaits_any(&self) -> bool {
        !self.holders.is_empty() || self.queues.count > 0 && self.queues.sociable == 0
    }

    /// Whether something cannot run before this slot has ended what it has: because of a lock, or because it runs alone and
    /// nothing else is left.
    pub fn is_awaited(&self, slot: u32) -> bool {
        let holds = |lock: &u32| self.holders.get(lock) == Some(&slot);
        let mut queues = self.queues.filled();
        queues.any(|(_, queue)| queue.needs.locks.iter().any(holds))
            || self.queues.count > 0 && self.queues.sociable == 0
    }

    /// Whether a slot may run now what needs this.
    pub(super) fn may_run(&self, slot: u32, needs: &Needs) -> bool {
        let free = |lock: &u32| self.holders.get(lock).is_none_or(|&holder| holder == slot);
        let in_peace = match self.alone {
            _ if is_planted(Fault::Accompanied) => true,
            Some(alone) => alone == slot && needs.exclusive,
            None if needs.exclusive => self.quiet && self.queues.sociable == 0,
            None => true,
        };
        in_peace && (is_planted(Fault::LockBlind) || needs.locks.iter().all(free))
    }

    /// The queues of a kind of which a slot may run something now.
    pub(super) fn open_to(
        &self,
        slot: u32,
        kind: u32,
    ) -> impl Iterator<Item = (u32, &Queue)> + Clone {
        let barred = self
            .slots
            .get(slot)
            .is_none_or(|slot| slot.barred.contains(&kind));
        let barred = barred && !is_planted(Fault::BarBlind);
        let queues = self.queues.of_kind(kind).filter(move |_| !barred);
        queues.filter(move |(_, queue)| self.may_run(slot, &queue.needs))
    }

    /// The kind of process that a slot should have for what it gets next; nothing where it can get nothing now.
    ///
    /// A slot stays with the kind that it has as long as something waits for that. Then it turns to the one of which there is
    /// most for each slot, unless those that have it already would be through sooner than its process has started.
    pub fn kind_for(&self, slot: u32) -> Option<u32> {
        let state = self.slots.get(slot).filter(|slot| slot.ready)?;
        if self.open_to(slot, state.kind).next().is_some() {
            return Some(state.kind);
        }
        if !state.is_free() {
            return None;
        }
        let mut kinds: BTreeMap<u32, Micros> = BTreeMap::new();
        for kind in self.queues.kinds() {
            for (_, queue) in self.open_to(slot, kind) {
                // What runs alone gains nothing from a second slot.
                if !queue.needs.exclusive || self.slots.of_kind(kind) == 0 {
                    *kinds.entry(kind).or_default() += queue.expected;
                }
            }
        }
        let worth = kinds
            .into_iter()
            .filter(|&(kind, waiting)| self.is_worth_turning(kind, waiting))
            .map(|(kind, waiting)| (waiting.0 / (self.slots.of_kind(kind) + 1), Reverse(kind)));
        worth.max().map(|(_, kind)| kind.0)
    }

    /// Whether a slot that has another kind of process should start one of this, where so much waits for it.
    pub fn is_worth_turning(&self, kind: u32, waiting: Micros) -> bool {
        match self.slots.of_kind(kind) {
            0 => true,
            slots => Micros(waiting.0 / slots) > self.start_of(kind) + WORTH_TAKING,
        }
    }

    /// Whether the slot has a process of this kind.
    pub fn is_of(&self, slot: u32, kind: u32) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.kind == kind)
    }

    /// From now on the slot has a process of this kind.
    pub fn turn(&mut self, slot: u32, kind: u32) {
        if self.slots.get(slot).is_some_and(|slot| slot.kind != kind) {
            self.slots
                .change(slot, &self.queues, Micros::ZERO, |slot| slot.kind = kind);
            self.target.reset();
        }
    }
}
