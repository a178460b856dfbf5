//! Dispatch: which unit an asking slot gets, as facts arrive.
//!
//! The dispatcher keeps a target T: when the run should end, from a plan over what is left. An asking slot takes the
//! largest unit that should end on it by T. Units are handed out ahead of need, so that a slot finds its next one waiting
//! when it ends one; the reserve shrinks as less is left, since what is handed out can no longer move.

use crate::Micros;
use crate::plan::plan;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a unit is expected to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Expected time on a slot, set-up included.
    pub expected: Micros,
    /// What orders it among the others: more than `expected` where that is uncertain, or cannot be divided.
    pub order: Micros,
    /// False: `expected` is a guess, to be scaled by how other guesses turned out.
    pub known: bool,
}

/// Where units are short, this much time is kept in a slot's reserve.
const RESERVE: Micros = Micros::from_millis(50);
/// A unit is taken back from a slot only if it would wait there for this long.
const WORTH_TAKING: Micros = Micros::from_millis(20);
/// Near the end, a busy slot gets its next unit this long before it should need it.
const AHEAD: Micros = Micros::from_millis(10);
/// A slot's share that is shorter than so many starts of a bundle is run in one.
const SHORT: u64 = 10;
/// A bundle should run for so many times what its start takes.
const WORTH_A_START: u64 = 2;
/// Earlier on, when this share of what it has at work is left: few units end as early as that.
const EARLY_SHARE: u64 = 4;

#[derive(Debug, Default)]
struct Slot {
    /// It can run units now; until then it is counted on, and gets none.
    ready: bool,
    running: Option<(u32, Micros)>,
    /// What is known to be left of it: at that time, so much.
    left: Option<(Micros, Micros)>,
    /// When it was given a bundle, and what all of that should take. Which of its units it has at work is not known.
    bundle: Option<(Micros, Micros)>,
    queued: VecDeque<u32>,
}

/// The state of one run's dispatch. See the module's documentation.
#[derive(Debug, Default)]
pub struct Dispatcher {
    weights: BTreeMap<u32, Weight>,
    /// Units that nobody has, by order; the number breaks ties.
    waiting: BTreeSet<(Micros, std::cmp::Reverse<u32>)>,
    /// What the waiting units should take: those of which something is known, and the others.
    waiting_known: Micros,
    waiting_guessed: Micros,
    slots: BTreeMap<u32, Slot>,
    target: Option<Micros>,
    changes: usize,
    /// Of units whose weight was a guess: guessed and observed time.
    guessed: Micros,
    observed: Micros,
}

impl Dispatcher {
    pub fn new() -> Dispatcher {
        Dispatcher::default()
    }

    /// Puts a unit up for dispatch: a new one, or one that came back.
    pub fn add(&mut self, unit: u32, weight: Weight) {
        let fresh = self.waiting.insert((weight.order, std::cmp::Reverse(unit)));
        debug_assert!(fresh, "unit {unit} is waiting already");
        *self.waiting_sum(weight) += weight.expected;
        self.weights.insert(unit, weight);
        self.target = None;
    }

    /// Takes every waiting unit back, in no particular order of importance.
    pub fn drain(&mut self) -> Vec<u32> {
        (self.waiting_known, self.waiting_guessed) = (Micros::ZERO, Micros::ZERO);
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|(_, unit)| unit.0)
            .collect()
    }

    /// A slot that will be able to run units soon. It is counted on from now on, so that the slots that are ready before
    /// it leave it its share.
    pub fn expect(&mut self, slot: u32) {
        self.slots.entry(slot).or_default();
        self.target = None;
    }

    /// A slot that can run units from now on.
    pub fn open(&mut self, slot: u32) {
        self.slots.entry(slot).or_default().ready = true;
        self.target = None;
    }

    /// A slot that is gone. What it held is the caller's to `add` again.
    pub fn close(&mut self, slot: u32) {
        self.slots.remove(&slot);
        self.target = None;
    }

    /// The slot forgets what it held, which is the caller's to `add` again.
    pub fn clear(&mut self, slot: u32) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            *slot = Slot {
                ready: slot.ready,
                ..Slot::default()
            };
        }
        self.target = None;
    }

    pub fn begun(&mut self, slot: u32, unit: u32, now: Micros) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.queued.retain(|&queued| queued != unit);
            slot.running = Some((unit, now));
            slot.left = None;
        }
    }

    /// So much is left of what the slot has at work, from closer by than the unit's weight can tell.
    pub fn progress(&mut self, slot: u32, now: Micros, left: Micros) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.left = Some((now, left));
        }
    }

    /// When the slot should have ended what it holds.
    pub fn free(&self, slot: u32, now: Micros) -> Micros {
        self.slots
            .get(&slot)
            .map_or(now, |slot| self.free_at(slot, now))
    }

    /// When the first of the slots, those included that are still to come, should have ended what it holds.
    pub fn earliest_free(&self, now: Micros) -> Micros {
        let free = self.slots.values().map(|slot| self.free_at(slot, now));
        free.min().unwrap_or(now)
    }

    /// The unit that comes first of those that wait, and what it should take.
    pub fn longest_waiting(&self) -> Option<(u32, Micros)> {
        let &(_, unit) = self.waiting.last()?;
        Some((unit.0, self.expected(unit.0)))
    }

    /// When all slots would end if what they hold and what is waiting could be spread evenly over them.
    pub fn level(&self, now: Micros) -> Micros {
        let held: Micros = self
            .slots
            .values()
            .map(|slot| self.free_at(slot, now) - now)
            .sum();
        let all = held + self.waiting_expected();
        now + Micros(all.0 / self.slots.len().max(1) as u64)
    }

    pub fn finished(&mut self, slot: u32, unit: u32, now: Micros) {
        let Some(state) = self.slots.get_mut(&slot) else {
            return;
        };
        state.queued.retain(|&queued| queued != unit);
        if let Some((running, since)) = state.running
            && running == unit
        {
            state.running = None;
            state.left = None;
            if let Some(weight) = self.weights.get(&unit).filter(|weight| !weight.known) {
                self.guessed += weight.expected;
                self.observed += now - since;
            }
        }
        self.changes += 1;
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the slot holds nothing at all.
    pub fn is_free(&self, slot: u32) -> bool {
        self.slots
            .get(&slot)
            .is_some_and(|slot| slot.running.is_none() && slot.queued.is_empty())
    }

    /// The unit that `slot` should get now, if any. Call it again until it answers `None`, and after every fact.
    pub fn next(&mut self, slot: u32, now: Micros) -> Option<u32> {
        let state = self.slots.get(&slot).filter(|slot| slot.ready)?;
        if self.waiting.is_empty() {
            return None;
        }
        let busy = state.running.is_some() || !state.queued.is_empty();
        let free = self.free_at(state, now);
        if busy && !self.wants_reserve(state, free - now) {
            return None;
        }
        let target = self.target(now);
        // The largest unit that ends here by the target; an idle slot is the first to be free, so it takes the largest
        // of all where none fits.
        let fitting = self
            .waiting
            .range(..=(target - free, std::cmp::Reverse(0)))
            .next_back()
            .copied();
        let chosen = match fitting {
            Some(entry) => entry,
            None if busy => return None,
            None => self.waiting.last().copied()?,
        };
        self.waiting.remove(&chosen);
        let unit = chosen.1.0;
        let weight = self.weights[&unit];
        let sum = self.waiting_sum(weight);
        *sum = *sum - weight.expected;
        self.changes += 1;
        self.slots.get_mut(&slot)?.queued.push_back(unit);
        Some(unit)
    }

    /// Units for a slot that runs several at once and pays `startup` each time; nothing while it is busy, or where nothing waits.
    ///
    /// Guided self-scheduling (Polychronopoulos and Kuck, 1987): a part of what is the slot's even share of all that is left, so that
    /// later ones can make up for estimates that were wrong; all of it where starting once more would cost more than that
    /// is worth or where there is no other slot, and less where nothing is known. The largest units first, each that still fits.
    pub fn bundle(&mut self, slot: u32, now: Micros, startup: Micros) -> Vec<u32> {
        let ready = self.slots.get(&slot).is_some_and(|slot| slot.ready);
        if !ready || self.waiting.is_empty() || !self.is_free(slot) {
            return Vec::new();
        }
        // Every slot that has nothing yet is going to pay for a start, this one too.
        let slots = self.slots.len() as u64;
        let empty = self.slots.values();
        let empty = empty.filter(|slot| slot.running.is_none() && slot.queued.is_empty());
        let starts = Micros(startup.0 * empty.count() as u64 / slots.max(1));
        let share = (self.level(now) - now) + starts - startup;
        let guessed = self.waiting_guessed > self.waiting_known;
        let alone = self.slots.len() == 1;
        let budget = if guessed && !alone && startup == Micros::ZERO {
            Micros(share.0 / 2)
        } else if alone || share <= Micros(startup.0 * SHORT) {
            share
        } else {
            Micros(share.0 * 3 / 4)
        };
        let worth = Micros(startup.0 * WORTH_A_START);
        let mut room = budget.max(worth.min(share));
        let mut taken = Micros::ZERO;
        let mut chosen: Vec<(Micros, std::cmp::Reverse<u32>)> = Vec::new();
        for &entry in self.waiting.iter().rev() {
            let expected = self.expected(entry.1.0);
            if chosen.is_empty() || expected <= room {
                room = room - expected;
                taken += expected;
                chosen.push(entry);
            }
        }
        for entry in &chosen {
            self.waiting.remove(entry);
            let weight = self.weights[&entry.1.0];
            let sum = self.waiting_sum(weight);
            *sum = *sum - weight.expected;
        }
        self.changes += chosen.len();
        let units: Vec<u32> = chosen.into_iter().map(|(_, unit)| unit.0).collect();
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.queued.extend(&units);
            slot.bundle = Some((now, startup + taken));
        }
        units
    }

    /// The unit that waits last behind the longest one at work, where nobody else waits: worth taking back for a slot
    /// that has nothing to do. Nothing where its turn comes soon anyway.
    pub fn stranded(&self, now: Micros) -> Option<(u32, u32)> {
        let candidates = self.slots.iter().filter_map(|(slot, state)| {
            let wait = self.residue(state, now)?;
            let last = state.queued.back()?;
            (wait >= WORTH_TAKING).then_some((wait, *slot, *last))
        });
        candidates.max().map(|(_, slot, unit)| (slot, unit))
    }

    /// Whether a slot has nothing while another one holds more than it can run, and could give.
    fn is_uneven(&self) -> bool {
        let mut slots = self.slots.values().filter(|slot| slot.ready);
        slots
            .clone()
            .any(|slot| slot.running.is_none() && slot.queued.is_empty())
            && slots.any(|slot| {
                slot.running.is_some() && !slot.queued.is_empty() && slot.bundle.is_none()
            })
    }

    /// What is left of the unit that a slot has at work. One that is overdue is expected to take as long again as it has
    /// been overdue.
    fn residue(&self, slot: &Slot, now: Micros) -> Option<Micros> {
        let (unit, since) = slot.running?;
        let (at, left) = slot.left.unwrap_or_else(|| (since, self.expected(unit)));
        let elapsed = now - at;
        Some((left - elapsed).max(elapsed - left))
    }

    /// When `next` may answer differently for a busy slot although nothing happened; nothing where only facts matter.
    pub fn wake_at(&self, now: Micros) -> Option<Micros> {
        if self.waiting.is_empty() {
            // Overdue units are looked at again from time to time, as long as an idle slot could take over.
            return self.is_uneven().then(|| now + WORTH_TAKING);
        }
        self.slots
            .values()
            .filter(|slot| slot.running.is_some() && slot.queued.is_empty())
            // A bundle is followed by the next when it is over.
            .filter(|slot| slot.bundle.is_none())
            .map(|slot| self.free_at(slot, now) - self.lookahead(slot))
            .filter(|&due| due > now)
            .min()
    }

    /// Expected time until everything has ended.
    pub fn expected_left(&self, now: Micros) -> Micros {
        let slots = self.slots.len().max(1) as u64;
        let held: Vec<Micros> = self
            .slots
            .values()
            .map(|slot| self.free_at(slot, now) - now)
            .collect();
        let total = self.waiting_expected() + held.iter().copied().sum();
        held.into_iter()
            .max()
            .unwrap_or_default()
            .max(Micros(total.0 / slots))
    }

    fn waiting_sum(&mut self, weight: Weight) -> &mut Micros {
        if weight.known {
            &mut self.waiting_known
        } else {
            &mut self.waiting_guessed
        }
    }

    fn waiting_expected(&self) -> Micros {
        let guessed = match self.waiting_guessed {
            Micros::ZERO => Micros::ZERO,
            guessed => self.scaled(guessed),
        };
        self.waiting_known + guessed
    }

    fn wants_reserve(&self, slot: &Slot, ahead: Micros) -> bool {
        if slot.queued.is_empty() {
            return ahead <= self.lookahead(slot);
        }
        let fair = Micros(self.waiting_expected().0 / (2 * self.slots.len().max(1) as u64));
        !self.is_nearly_over() && ahead < RESERVE.min(fair)
    }

    fn is_nearly_over(&self) -> bool {
        self.waiting.len() <= 2 * self.slots.len().max(1)
    }

    /// How long before it should need it a slot that is busy with its last unit gets its next one. What is given early cannot
    /// go elsewhere when the one at work takes longer than thought; what is given late is waited for when it takes less.
    fn lookahead(&self, slot: &Slot) -> Micros {
        if self.is_nearly_over() {
            return AHEAD;
        }
        match slot.running.and_then(|(unit, _)| self.weights.get(&unit)) {
            Some(weight) if weight.known => RESERVE.max(Micros(weight.expected.0 / EARLY_SHARE)),
            _ => Micros(u64::MAX),
        }
    }

    fn free_at(&self, slot: &Slot, now: Micros) -> Micros {
        let holds = slot.running.is_some() || !slot.queued.is_empty();
        if let Some((since, all)) = slot.bundle.filter(|_| holds) {
            let elapsed = now - since;
            return now + (all - elapsed).max(elapsed - all);
        }
        let running = self.residue(slot, now).unwrap_or_default();
        let queued: Micros = slot.queued.iter().map(|&unit| self.expected(unit)).sum();
        now + running + queued
    }

    fn expected(&self, unit: u32) -> Micros {
        match self.weights.get(&unit) {
            Some(weight) if weight.known => weight.expected,
            Some(weight) => self.scaled(weight.expected),
            None => Micros::ZERO,
        }
    }

    /// A guess, scaled by how the guesses so far turned out.
    fn scaled(&self, guess: Micros) -> Micros {
        if self.guessed == Micros::ZERO {
            return guess;
        }
        let scaled = u128::from(guess.0) * u128::from(self.observed.0) / u128::from(self.guessed.0);
        Micros(u64::try_from(scaled).unwrap_or(u64::MAX).max(1))
    }

    /// The target is planned anew after a share of the units has moved: planning costs as much as sorting what is left.
    fn target(&mut self, now: Micros) -> Micros {
        if let Some(target) = self.target
            && self.changes <= self.waiting.len() / 16
        {
            return target.max(now);
        }
        let weights: Vec<Micros> = self.waiting.iter().map(|(order, _)| *order).collect();
        let free: Vec<Micros> = self
            .slots
            .values()
            .map(|slot| self.free_at(slot, now))
            .collect();
        let latest = free.iter().copied().max().unwrap_or(now);
        let target = plan(&weights, &free).makespan.max(latest);
        self.target = Some(target);
        self.changes = 0;
        target
    }
}
