//! Dispatch: which unit an asking slot gets, as facts arrive.
//!
//! The dispatcher keeps a target T: when the run should end, from a plan over what is left. An asking slot takes the
//! largest unit that should end on it by T. Units are handed out ahead of need, so that a slot finds its next one waiting
//! when it ends one; the reserve shrinks as less is left, since what is handed out can no longer move.
//!
//! A unit may need a certain kind of process, which a slot that has another one has to start first; locks, which one slot
//! holds at a time; or that nothing else runs. Units that need the same wait in one queue.

use crate::Micros;
use crate::plan::plan;
use std::cmp::Reverse;
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

/// What else a unit needs in order to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needs {
    /// The kind of process. A slot has one of one kind at a time.
    pub kind: u32,
    /// Locks that no other slot holds meanwhile, ascending.
    pub locks: Box<[u32]>,
    /// That nothing else runs meanwhile, on any slot.
    pub exclusive: bool,
    /// What differs in this is not run together in a bundle.
    pub apart: u32,
}

impl Needs {
    /// Whether some other unit may have to wait for it, or it for another one, though slots are free.
    pub fn is_constrained(&self) -> bool {
        self.exclusive || !self.locks.is_empty()
    }
}

/// Where units are short, this much time is kept in a slot's reserve.
const RESERVE: Micros = Micros::from_millis(50);
/// A unit is taken back from a slot only if it would wait there for this long.
const WORTH_TAKING: Micros = Micros::from_millis(20);
/// Near the end, a busy slot gets its next unit this long before it should need it.
const AHEAD: Micros = Micros::from_millis(10);
/// With more units than this waiting, and this many for each slot, the target is the even share of them.
const MANY: usize = 5000;
const FINE: usize = 8;
/// With more than a thousand units waiting, a plan is kept for this long for each thousand of them.
const PLANNING: Micros = Micros::from_millis(2);
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
    /// The kind of process that it has or is going to have.
    kind: u32,
    /// Kinds that it cannot have.
    barred: BTreeSet<u32>,
    running: Option<(u32, Micros)>,
    /// What is known to be left of it: at that time, so much.
    left: Option<(Micros, Micros)>,
    /// When it was given a bundle, and what all of that should take. Which of its units it has at work is not known.
    bundle: Option<(Micros, Micros)>,
    queued: VecDeque<u32>,
    /// When it should be looked at for its next unit, though nothing happens to it.
    due: Option<Micros>,
}

/// A unit that waits: by order; the number breaks ties.
type Entry = (Micros, Reverse<u32>);

/// Units that nobody has and that need the same.
#[derive(Debug, Default)]
struct Queue {
    needs: Needs,
    waiting: BTreeSet<Entry>,
    /// What they should take: those of which something is known, and the others.
    known: Micros,
    guessed: Micros,
}

/// The state of one run's dispatch. See the module's documentation.
#[derive(Debug, Default)]
pub struct Dispatcher {
    /// Of each unit that was put up, with its queue.
    weights: BTreeMap<u32, (Weight, usize)>,
    queues: Vec<Queue>,
    waiting: usize,
    slots: BTreeMap<u32, Slot>,
    /// Who holds a lock, by the lock's number.
    holders: BTreeMap<u32, u32>,
    /// The slot that runs what must run alone.
    alone: Option<u32>,
    /// Nothing runs, and everything is known: what must run alone may start.
    quiet: bool,
    /// What starting a process of a kind takes, as far as it has been seen.
    starts: BTreeMap<u32, Micros>,
    target: Option<Micros>,
    changes: usize,
    /// Slots by when they should be looked at.
    due: BTreeSet<(Micros, u32)>,
    /// Grows with whatever may change what any slot gets.
    version: u64,
    /// The target as it was last planned, and when.
    last_target: Micros,
    planned: Micros,
    was_nearly_over: bool,
    /// Of units whose weight was a guess: guessed and observed time.
    guessed: Micros,
    observed: Micros,
}

impl Queue {
    fn sum(&mut self, weight: Weight) -> &mut Micros {
        if weight.known {
            &mut self.known
        } else {
            &mut self.guessed
        }
    }

    fn remove(&mut self, entry: Entry, weight: Weight) {
        self.waiting.remove(&entry);
        let sum = self.sum(weight);
        *sum = *sum - weight.expected;
    }
}

impl Dispatcher {
    pub fn new() -> Dispatcher {
        Dispatcher::default()
    }

    /// Puts a unit up for dispatch: a new one, or one that came back.
    pub fn add(&mut self, unit: u32, weight: Weight, needs: &Needs) {
        let known = self.queues.iter().position(|queue| queue.needs == *needs);
        let at = known.unwrap_or_else(|| {
            self.queues.push(Queue {
                needs: needs.clone(),
                ..Queue::default()
            });
            self.queues.len() - 1
        });
        let queue = &mut self.queues[at];
        self.version += 1;
        let fresh = queue.waiting.insert((weight.order, Reverse(unit)));
        debug_assert!(fresh, "unit {unit} is waiting already");
        *queue.sum(weight) += weight.expected;
        self.waiting += 1;
        self.weights.insert(unit, (weight, at));
        self.target = None;
    }

    /// Something else is expected of a unit that was put up.
    pub fn reweigh(&mut self, unit: u32, weight: Weight) {
        let Some((known, at)) = self.weights.get_mut(&unit) else {
            return;
        };
        let (before, at) = (std::mem::replace(known, weight), *at);
        let queue = &mut self.queues[at];
        let entry = (before.order, Reverse(unit));
        if queue.waiting.contains(&entry) {
            queue.remove(entry, before);
            queue.waiting.insert((weight.order, Reverse(unit)));
            *queue.sum(weight) += weight.expected;
        }
    }

    /// Takes back every waiting unit that `which` is true of, in no particular order of importance.
    pub fn drain(&mut self, which: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut taken = Vec::new();
        for queue in &mut self.queues {
            let entries: Vec<Entry> = queue.waiting.iter().copied().collect();
            for entry in entries.into_iter().filter(|entry| which(entry.1.0)) {
                queue.remove(entry, self.weights[&entry.1.0].0);
                taken.push(entry.1.0);
            }
        }
        self.waiting -= taken.len();
        self.target = None;
        taken
    }

    /// A slot that will be able to run units soon, with a process of this kind. It is counted on from now on, so that the
    /// slots that are ready before it leave it its share.
    pub fn expect(&mut self, slot: u32, kind: u32) {
        self.slots.entry(slot).or_default().kind = kind;
        self.target = None;
    }

    /// Starting a process of this kind took so long.
    pub fn started(&mut self, kind: u32, took: Micros) {
        let known = self.starts.entry(kind).or_default();
        *known = took.max(*known);
    }

    /// The slot cannot have a process of this kind.
    pub fn bar(&mut self, slot: u32, kind: u32) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.barred.insert(kind);
        }
    }

    /// What a slot that has a process of another kind pays for one of this.
    pub fn start_of(&self, kind: u32) -> Micros {
        self.starts.get(&kind).copied().unwrap_or_default()
    }

    /// Who holds a lock from now on, if anybody.
    pub fn hold(&mut self, lock: u32, holder: Option<u32>) {
        self.version += 1;
        match holder {
            Some(slot) => self.holders.insert(lock, slot),
            None => self.holders.remove(&lock),
        };
    }

    /// Which slot runs what must run alone, if any; and whether nothing runs and everything is known, so that it may start.
    pub fn isolate(&mut self, alone: Option<u32>, quiet: bool) {
        self.version += u64::from(self.alone != alone || self.quiet != quiet);
        self.alone = alone;
        self.quiet = quiet;
    }

    /// A slot that can run units from now on.
    pub fn open(&mut self, slot: u32) {
        self.slots.entry(slot).or_default().ready = true;
        self.target = None;
    }

    /// A slot that is gone. What it held is the caller's to `add` again.
    pub fn close(&mut self, slot: u32) {
        self.forget_due(slot);
        self.slots.remove(&slot);
        self.target = None;
        self.version += 1;
    }

    /// The slot forgets what it held, which is the caller's to `add` again.
    pub fn clear(&mut self, slot: u32) {
        self.forget_due(slot);
        self.version += 1;
        if let Some(slot) = self.slots.get_mut(&slot) {
            *slot = Slot {
                ready: slot.ready,
                kind: slot.kind,
                barred: std::mem::take(&mut slot.barred),
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
        self.note_due(slot, now);
    }

    /// Works out when a slot that is busy with its last unit should be looked at for its next one.
    fn note_due(&mut self, slot: u32, now: Micros) {
        self.forget_due(slot);
        let Some(state) = self.slots.get(&slot) else {
            return;
        };
        // A bundle is followed by the next when it is over.
        if state.running.is_none() || !state.queued.is_empty() || state.bundle.is_some() {
            return;
        }
        let due = self.free_at(state, now) - self.lookahead(state);
        if due <= now {
            return;
        }
        self.due.insert((due, slot));
        if let Some(state) = self.slots.get_mut(&slot) {
            state.due = Some(due);
        }
    }

    fn forget_due(&mut self, slot: u32) {
        if let Some(state) = self.slots.get_mut(&slot)
            && let Some(due) = state.due.take()
        {
            self.due.remove(&(due, slot));
        }
    }

    /// Slots that are to be looked at now for their next unit, though nothing happened to them.
    pub fn take_due(&mut self, now: Micros) -> Vec<u32> {
        let mut slots = Vec::new();
        while let Some(&(due, slot)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, slot));
            if let Some(state) = self.slots.get_mut(&slot) {
                state.due = None;
            }
            slots.push(slot);
        }
        slots
    }

    /// Another number than before where any slot may get something that it did not get then.
    pub fn version(&mut self) -> u64 {
        let nearly_over = self.is_nearly_over();
        if nearly_over != self.was_nearly_over {
            self.was_nearly_over = nearly_over;
            self.version += 1;
        }
        self.version
    }

    /// So much is left of what the slot has at work, from closer by than the unit's weight can tell.
    pub fn progress(&mut self, slot: u32, now: Micros, left: Micros) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.left = Some((now, left));
        }
        self.note_due(slot, now);
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
        let longest = self.queues.iter().filter_map(|queue| queue.waiting.last());
        let &(_, unit) = longest.max()?;
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
            if let Some((weight, _)) = self.weights.get(&unit).filter(|(weight, _)| !weight.known) {
                self.guessed += weight.expected;
                self.observed += now - since;
            }
        }
        self.changes += 1;
        self.note_due(slot, now);
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// How many units nobody has.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes in, without having handed it out, that a slot holds a unit: behind what it holds already.
    pub fn holds(&mut self, slot: u32, unit: u32, weight: Weight, needs: &Needs) {
        self.add(unit, weight, needs);
        let queue = self.weights[&unit].1;
        self.take(queue, (weight.order, Reverse(unit)));
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.queued.push_back(unit);
        }
    }

    /// Whether something waits that needs this kind of process, whoever may run it now.
    pub fn is_waiting_for(&self, kind: u32) -> bool {
        let mut queues = self.queues.iter();
        queues.any(|queue| queue.needs.kind == kind && !queue.waiting.is_empty())
    }

    /// Whether something cannot run before this slot has ended what it has: because of a lock, or because it runs alone and
    /// nothing else is left.
    pub fn is_awaited(&self, slot: u32) -> bool {
        let mut queues = self.queues.iter().filter(|queue| !queue.waiting.is_empty());
        let holds = |lock: &u32| self.holders.get(lock) == Some(&slot);
        queues
            .clone()
            .any(|queue| queue.needs.locks.iter().any(holds))
            || self.waiting > 0 && queues.all(|queue| queue.needs.exclusive)
    }

    /// Whether a slot may run now what needs this.
    fn may_run(&self, slot: u32, needs: &Needs) -> bool {
        let free = |lock: &u32| self.holders.get(lock).is_none_or(|&holder| holder == slot);
        let in_peace = match self.alone {
            Some(alone) => alone == slot && needs.exclusive,
            None if needs.exclusive => {
                let mut others = self.queues.iter().filter(|queue| !queue.needs.exclusive);
                self.quiet && others.all(|queue| queue.waiting.is_empty())
            }
            None => true,
        };
        in_peace && needs.locks.iter().all(free)
    }

    /// The queues of which a slot may run something now.
    fn open_to(&self, slot: u32) -> impl Iterator<Item = (usize, &Queue)> + Clone {
        let queues = self.queues.iter().enumerate();
        let barred = self.slots.get(&slot).map(|slot| &slot.barred);
        queues.filter(move |(_, queue)| {
            let able = barred.is_none_or(|barred| !barred.contains(&queue.needs.kind));
            !queue.waiting.is_empty() && able && self.may_run(slot, &queue.needs)
        })
    }

    /// The kind of process that a slot should have for what it gets next; nothing where it can get nothing now.
    ///
    /// A slot stays with the kind that it has as long as something waits for that. Then it turns to the one of which there is
    /// most for each slot, unless those that have it already would be through sooner than its process has started.
    pub fn kind_for(&self, slot: u32) -> Option<u32> {
        let state = self.slots.get(&slot).filter(|slot| slot.ready)?;
        let mut open = self.open_to(slot);
        if open.any(|(_, queue)| queue.needs.kind == state.kind) {
            return Some(state.kind);
        }
        if !self.is_free(slot) {
            return None;
        }
        let mut kinds: BTreeMap<u32, Micros> = BTreeMap::new();
        for (_, queue) in self.open_to(slot) {
            // What runs alone gains nothing from a second slot.
            if queue.needs.exclusive && self.slots_of(queue.needs.kind) > 0 {
                continue;
            }
            *kinds.entry(queue.needs.kind).or_default() += self.expected_of(queue);
        }
        let worth = kinds
            .into_iter()
            .filter(|&(kind, waiting)| self.is_worth_turning(kind, waiting))
            .map(|(kind, waiting)| (waiting.0 / (self.slots_of(kind) + 1), Reverse(kind)));
        worth.max().map(|(_, kind)| kind.0)
    }

    /// Whether a slot that has another kind of process should start one of this, where so much waits for it.
    pub fn is_worth_turning(&self, kind: u32, waiting: Micros) -> bool {
        match self.slots_of(kind) {
            0 => true,
            slots => Micros(waiting.0 / slots) > self.start_of(kind) + WORTH_TAKING,
        }
    }

    /// Whether the slot has a process of this kind.
    pub fn is_of(&self, slot: u32, kind: u32) -> bool {
        self.slots.get(&slot).is_some_and(|slot| slot.kind == kind)
    }

    fn slots_of(&self, kind: u32) -> u64 {
        let slots = self.slots.values();
        slots
            .filter(|slot| slot.kind == kind && !slot.barred.contains(&kind))
            .count() as u64
    }

    /// From now on the slot has a process of this kind.
    pub fn turn(&mut self, slot: u32, kind: u32) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.kind = kind;
        }
    }

    /// How much depends on an entry of a queue: units that need the same lock run one after the other, so that each of them
    /// counts as long as all of them.
    fn urgency(&self, queue: &Queue, entry: Entry) -> (Micros, Entry) {
        let chains = queue.needs.locks.iter().map(|&lock| self.chain(lock));
        (chains.max().unwrap_or_default().max(entry.0), entry)
    }

    /// What all that waits for a lock should take.
    fn chain(&self, lock: u32) -> Micros {
        let queues = self.queues.iter();
        queues
            .filter(|queue| queue.needs.locks.contains(&lock))
            .map(|queue| self.expected_of(queue))
            .sum()
    }

    /// Whether the slot holds nothing at all.
    pub fn is_free(&self, slot: u32) -> bool {
        self.slots
            .get(&slot)
            .is_some_and(|slot| slot.running.is_none() && slot.queued.is_empty())
    }

    /// The unit of its kind that `slot` should get now, if any. Call it again until it answers `None`, and after every fact.
    pub fn next(&mut self, slot: u32, now: Micros) -> Option<u32> {
        let state = self.slots.get(&slot).filter(|slot| slot.ready)?;
        if self.waiting == 0 {
            return None;
        }
        let kind = state.kind;
        let busy = state.running.is_some() || !state.queued.is_empty();
        let free = self.free_at(state, now);
        if busy && !self.wants_reserve(state, free - now) {
            return None;
        }
        let target = self.target(now);
        // The largest unit that ends here by the target; an idle slot is the first to be free, so it takes the largest
        // of all where none fits.
        let chosen = match self.first_of(slot, kind, target - free) {
            Some(chosen) => chosen,
            None if busy => return None,
            None => self.first_of(slot, kind, Micros(u64::MAX))?,
        };
        let (queue, entry) = chosen;
        self.take(queue, entry);
        self.slots.get_mut(&slot)?.queued.push_back(entry.1.0);
        Some(entry.1.0)
    }

    /// What comes first of all that a slot may run now with a process of this kind and that takes no longer than `most`.
    fn first_of(&self, slot: u32, kind: u32, most: Micros) -> Option<(usize, Entry)> {
        let own = self
            .open_to(slot)
            .filter(|(_, queue)| queue.needs.kind == kind);
        let firsts = own.filter_map(|(at, queue)| {
            let entry = *queue.waiting.range(..=(most, Reverse(0))).next_back()?;
            Some((self.urgency(queue, entry), at))
        });
        firsts.max().map(|((_, entry), at)| (at, entry))
    }

    /// Takes an entry out of its queue.
    fn take(&mut self, queue: usize, entry: Entry) {
        self.queues[queue].remove(entry, self.weights[&entry.1.0].0);
        self.waiting -= 1;
        self.changes += 1;
    }

    /// Units for a slot that runs several at once and pays `startup` each time; nothing while it is busy, or where nothing waits.
    ///
    /// Guided self-scheduling (Polychronopoulos and Kuck, 1987): a part of what is the slot's even share of all that is left, so that
    /// later ones can make up for estimates that were wrong; all of it where starting once more would cost more than that
    /// is worth or where there is no other slot, and less where nothing is known. The largest units first, each that still fits.
    pub fn bundle(&mut self, slot: u32, now: Micros, startup: Micros) -> Vec<u32> {
        let ready = self.slots.get(&slot).filter(|slot| slot.ready);
        let Some(kind) = ready.map(|slot| slot.kind) else {
            return Vec::new();
        };
        if !self.is_free(slot) {
            return Vec::new();
        }
        // What is run together needs the same.
        let Some((at, _)) = self.first_of(slot, kind, Micros(u64::MAX)) else {
            return Vec::new();
        };
        // Every slot that has nothing yet is going to pay for a start, this one too.
        let slots = self.slots.len() as u64;
        let empty = self.slots.values();
        let empty = empty.filter(|slot| slot.running.is_none() && slot.queued.is_empty());
        let starts = Micros(startup.0 * empty.count() as u64 / slots.max(1));
        let share = (self.level(now) - now) + starts - startup;
        let guessed = self.queues[at].guessed > self.queues[at].known;
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
        let mut chosen: Vec<Entry> = Vec::new();
        for &entry in self.queues[at].waiting.iter().rev() {
            let expected = self.expected(entry.1.0);
            if chosen.is_empty() || expected <= room {
                room = room - expected;
                taken += expected;
                chosen.push(entry);
            }
        }
        // What would be left over for a process of its own costs less here than that one's start, unless another slot is there for it.
        let left = self.expected_of(&self.queues[at]) - taken;
        let others = self.slots.iter().filter(|(other, _)| **other != slot);
        let free = others.map(|(_, other)| self.free_at(other, now)).min();
        if left <= startup && free.is_none_or(|free| now + taken <= free) {
            let all = self.queues[at].waiting.iter().rev();
            let rest: Vec<Entry> = all
                .filter(|entry| !chosen.contains(entry))
                .copied()
                .collect();
            taken += left;
            chosen.extend(rest);
        }
        for &entry in &chosen {
            self.take(at, entry);
        }
        let units: Vec<u32> = chosen.into_iter().map(|(_, unit)| unit.0).collect();
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.queued.extend(&units);
            slot.bundle = Some((now, startup + taken));
        }
        units
    }

    /// The unit that waits last behind the longest one at work, where nobody else waits: worth taking back for a slot
    /// that has nothing to do. Nothing where its turn comes soon anyway, and nothing that could not run elsewhere.
    pub fn stranded(&self, now: Micros) -> Option<(u32, u32)> {
        let candidates = self.slots.iter().filter_map(|(slot, state)| {
            let wait = self.residue(state, now)?;
            let last = state.queued.back()?;
            let bound = self.needs_of(*last)?.is_constrained();
            (wait >= WORTH_TAKING && !bound).then_some((wait, *slot, *last))
        });
        candidates.max().map(|(_, slot, unit)| (slot, unit))
    }

    /// What a unit needs that was put up.
    fn needs_of(&self, unit: u32) -> Option<&Needs> {
        let (_, queue) = self.weights.get(&unit)?;
        Some(&self.queues[*queue].needs)
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
        if self.waiting == 0 {
            // Overdue units are looked at again from time to time, as long as an idle slot could take over.
            return self.is_uneven().then(|| now + WORTH_TAKING);
        }
        let soon = (now + Micros(1), 0);
        self.due.range(soon..).next().map(|(due, _)| *due)
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

    fn waiting_expected(&self) -> Micros {
        let queues = self.queues.iter();
        queues.map(|queue| self.expected_of(queue)).sum()
    }

    /// What all that waits in a queue should take.
    fn expected_of(&self, queue: &Queue) -> Micros {
        let guessed = match queue.guessed {
            Micros::ZERO => Micros::ZERO,
            guessed => self.scaled(guessed),
        };
        queue.known + guessed
    }

    fn wants_reserve(&self, slot: &Slot, ahead: Micros) -> bool {
        if slot.queued.is_empty() {
            return ahead <= self.lookahead(slot);
        }
        let fair = Micros(self.waiting_expected().0 / (2 * self.slots.len().max(1) as u64));
        !self.is_nearly_over() && ahead < RESERVE.min(fair)
    }

    fn is_nearly_over(&self) -> bool {
        self.waiting <= 2 * self.slots.len().max(1)
    }

    /// How long before it should need it a slot that is busy with its last unit gets its next one. What is given early cannot
    /// go elsewhere when the one at work takes longer than thought; what is given late is waited for when it takes less.
    fn lookahead(&self, slot: &Slot) -> Micros {
        if self.is_nearly_over() {
            return AHEAD;
        }
        match slot.running.and_then(|(unit, _)| self.weights.get(&unit)) {
            Some((weight, _)) if weight.known => {
                RESERVE.max(Micros(weight.expected.0 / EARLY_SHARE))
            }
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
            Some((weight, _)) if weight.known => weight.expected,
            Some((weight, _)) => self.scaled(weight.expected),
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
        let fresh = self.target.is_some() && self.changes <= self.waiting / 16;
        // While a thousand slots come one after the other, the plan is not made anew for each of them.
        let early = now < self.planned + Micros(PLANNING.0 * (self.waiting as u64 / 1000));
        if fresh || (early && self.last_target > Micros::ZERO) {
            return self.last_target.max(now);
        }
        let queues = self.queues.iter();
        let weights: Vec<Micros> = queues
            .flat_map(|queue| queue.waiting.iter().map(|(order, _)| *order))
            .collect();
        let free: Vec<Micros> = self
            .slots
            .values()
            .map(|slot| self.free_at(slot, now))
            .collect();
        let latest = free.iter().copied().max().unwrap_or(now);
        // What waits for one lock cannot be shared.
        let chains = self.queues.iter().flat_map(|queue| &queue.needs.locks);
        let chain = chains.map(|&lock| self.chain(lock)).max();
        let target = if weights.len() > MANY.max(FINE * free.len()) {
            // With so many for each slot a plan comes to the even share, and costs a slot that asks meanwhile what it takes.
            let held: Micros = free.iter().map(|free| *free - now).sum();
            let all = held + weights.iter().copied().sum();
            let even = now + Micros(all.0 / free.len().max(1) as u64);
            let longest = weights.iter().copied().max().unwrap_or_default();
            let first = free.iter().copied().min().unwrap_or(now);
            even.max(first + longest).max(latest)
        } else {
            plan(&weights, &free).makespan.max(latest)
        };
        let target = target.max(now + chain.unwrap_or_default());
        self.target = Some(target);
        self.last_target = target;
        self.changes = 0;
        self.planned = now;
        self.version += 1;
        target
    }
}
