//! Dispatch: which unit an asking slot gets, as facts arrive.
//!
//! The dispatcher keeps a target: when the run should end (`target`). An asking slot takes the largest unit that should end on it by
//! then, or that no other slot would end earlier. Units are handed out ahead of need, so that a slot finds its next one waiting when
//! it ends one; near the end only just before, since what is handed out can no longer move (`ahead`).
//!
//! What may well fail comes before that where the run ends no later by it (`suspects`).
//!
//! A unit may need a certain kind of process, which a slot that has another one has to start first; locks, which one slot
//! holds at a time; or that nothing else runs. Units that need the same wait in one queue (`queues`). How fast slots are is learned
//! from what ends on them (`speeds`), at first by small units before they get what is large (`probes`), and where a machine changes in the
//! middle from the parts of what its slots have at work (`paces`); what units should take is the caller's to learn and to say.
//!
//! No call looks at all units or all slots, but for a placement that many changes share, and for the next time to wake up where others
//! have come and were not taken.

mod ahead;
mod bundles;
mod due;
mod kinds;
mod law;
mod needs;
mod paces;
pub mod planted;
mod probes;
mod queues;
mod slots;
mod speeds;
mod suspects;
mod tail;
mod target;

pub use needs::{Needs, Weight};
pub use paces::Lap;
pub use suspects::Order;

use crate::Micros;
use due::Due;
use planted::{Fault, is_planted};
use queues::{Entry, Queue, Queues};
use slots::{Slot, Slots, scaled};
use std::collections::{BTreeMap, BTreeSet};
use target::Target;

/// A unit is taken back from a slot only if it would wait there for this long.
const WORTH_TAKING: Micros = Micros::from_millis(20);
/// With more slots than this a placement is made only where it can tell anything.
const THOUSANDS: usize = 500;
/// Near the end, a busy slot gets its next unit this long before it should need it.
const AHEAD: Micros = Micros::from_millis(10);
/// What goes by around a unit besides it, in microseconds: one that is as short tells little of its slot.
const UNMEASURED: f64 = 2000.0;
/// What takes longer than this part of the run, in percent, has to end within this part of the time in which others have to: where it
/// takes longer than thought, nothing makes up for that.
const LONG_PERCENT: u64 = 40;
const SURELY: u64 = 2;
/// What is far from sure may end later than the target by this part of the run, where it takes as long as its order says.
const SURPRISE: u64 = 20;

/// The deviation of the logarithm of what a unit takes that varies by `sigma` itself, as it is measured: `took` in microseconds.
fn measured(sigma: f64, took: f64) -> f64 {
    sigma.hypot(UNMEASURED / took)
}

/// The state of one run's dispatch. See the module's documentation.
#[derive(Debug, Default)]
pub struct Dispatcher {
    queues: Queues,
    slots: Slots,
    target: Target,
    order: Order,
    /// Who holds a lock, by the lock's number.
    holders: BTreeMap<u32, u32>,
    /// The slot that runs what must run alone.
    alone: Option<u32>,
    /// Nothing runs, and everything is known: what must run alone may start.
    quiet: bool,
    /// What starting a process of a kind takes, as far as it has been seen.
    starts: BTreeMap<u32, Micros>,
    /// When slots should be looked at.
    due: Due,
    /// Slots that have nothing, and get nothing since what waits is left to others.
    deferring: BTreeSet<u32>,
    /// Slots that have nothing and are left something, by when they should have come for it.
    awaited: BTreeSet<(Micros, u32)>,
    /// Grows with whatever may change what any slot gets.
    version: u64,
    was_nearly_over: bool,
}

impl Dispatcher {
    pub fn new() -> Dispatcher {
        Dispatcher::default()
    }

    /// Puts a unit up for dispatch: a new one, or one that came back.
    pub fn add(&mut self, unit: u32, weight: Weight, needs: &Needs) {
        if is_planted(Fault::NotAgain) && self.queues.unit(unit).is_some() {
            return;
        }
        self.queues.add(unit, weight, needs);
        self.version += 1;
        self.target.reset();
    }

    /// A slot did not take a unit that waits again, for reasons of the caller's: it goes to whoever has nothing, without regard for
    /// who would end it first, and nothing is left to that slot before it asks again.
    pub fn refused(&mut self, slot: u32, unit: u32) {
        self.queues.refuse(unit);
        if let Some(slot) = self.slots.touch(slot) {
            slot.refuse();
        }
        self.target.change();
    }

    /// The unit should take something else than was thought, as far as it has not been handed out.
    pub fn reweigh(&mut self, unit: u32, weight: Weight) {
        self.queues.reweigh(unit, weight);
        self.target.change();
    }

    /// Takes back every waiting unit that `which` is true of, in no particular order of importance.
    pub fn drain(&mut self, which: impl Fn(u32) -> bool) -> Vec<u32> {
        let entries = self.queues.filled().flat_map(|(_, queue)| &queue.waiting);
        let taken: Vec<u32> = entries
            .map(|entry| entry.2.0)
            .filter(|&unit| which(unit))
            .collect();
        for &unit in &taken {
            self.queues.take(unit);
        }
        self.target.reset();
        taken
    }

    /// A slot that will be able to run units soon, with a process of this kind. It is counted on from now on, so that the
    /// slots that are ready before it leave it its share.
    pub fn expect(&mut self, slot: u32, kind: u32) {
        self.expect_on(slot, slot, kind);
    }

    /// The same, where what is known of the speed of an agent's other slots says something of this one's.
    pub fn expect_on(&mut self, agent: u32, slot: u32, kind: u32) {
        self.slots.open(slot, agent);
        self.turn(slot, kind);
        self.target.reset();
    }

    /// Starting a process of this kind took so long.
    pub fn started(&mut self, kind: u32, took: Micros) {
        let known = self.starts.entry(kind).or_default();
        *known = took.max(*known);
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
        self.slots.open(slot, slot);
        self.slots
            .change(slot, &self.queues, Micros::ZERO, |slot| slot.ready = true);
        self.target.reset();
    }

    /// A slot that is gone. What it held is the caller's to `add` again.
    pub fn close(&mut self, slot: u32) {
        self.due.forget(slot);
        self.slots.close(slot);
        self.deferring.remove(&slot);
        self.target.reset();
        self.version += 1;
    }

    /// The slot forgets what it held, which is the caller's to `add` again.
    pub fn clear(&mut self, slot: u32) {
        self.due.forget(slot);
        self.version += 1;
        self.slots
            .change(slot, &self.queues, Micros::ZERO, Slot::clear);
        self.target.reset();
    }

    pub fn begun(&mut self, slot: u32, unit: u32, now: Micros) {
        self.slots.change(slot, &self.queues, now, |slot| {
            slot.queued.retain(|&queued| queued != unit);
            slot.running = Some((unit, now));
            slot.pace.begin();
            slot.gave = false;
            slot.left = None;
            slot.cut = false;
        });
        self.target.change();
        self.note_due(slot, now);
    }

    /// Works out when a slot that is busy with its last unit should be looked at for its next one.
    fn note_due(&mut self, slot: u32, now: Micros) {
        let Some(state) = self.slots.get(slot) else {
            return;
        };
        // A bundle is followed by the next when it is over.
        if state.running.is_none() || state.bundle.is_some() {
            return self.due.forget(slot);
        }
        let due = if state.queued.is_empty() {
            self.slots.free(slot, now) - self.lookahead(state)
        } else {
            // Should it take longer than this, what waits behind it is better off elsewhere.
            let residue = slots::residue(state, &self.queues, now);
            now + residue.unwrap_or_default() + AHEAD
        };
        if due > now {
            self.due.set(slot, due);
        } else {
            self.due.forget(slot);
        }
    }

    /// Slots that are to be looked at now for their next unit, though nothing happened to them.
    pub fn take_due(&mut self, now: Micros) -> Vec<u32> {
        self.settle(now);
        if self.defers() {
            self.place(now);
        }
        let mut slots = Vec::new();
        while let Some(slot) = self.due.take(now) {
            if self.slots.laden.contains(&slot) {
                self.slots.change(slot, &self.queues, now, |_| ());
                self.target.change();
                self.slots.overdue.insert(slot);
                self.note_due(slot, now);
            }
            slots.push(slot);
        }
        slots
    }

    /// Takes in that time has passed. Whether anything is later than it was expected, or a slot did not come.
    fn settle(&mut self, now: Micros) -> bool {
        let late = self.slots.settle(&self.queues, now);
        if late {
            self.target.change();
        }
        late | self.forget_deaf(now)
    }

    fn defers(&self) -> bool {
        !self.deferring.is_empty() && self.queues.count > 0
    }

    /// Works out anew to whom the largest units are left, and has those asked that have nothing.
    fn place(&mut self, now: Micros) {
        let kinds: Vec<u32> = self.queues.kinds().collect();
        for kind in kinds {
            self.place_kind(kind, now);
        }
    }

    fn place_kind(&mut self, kind: u32, now: Micros) {
        for slot in self.target.place(kind, &mut self.slots, &self.queues, now) {
            if is_planted(Fault::NobodyAsked) {
                continue;
            }
            self.due.set(slot, now + Micros(1));
            self.awaited.insert((now + target::PATIENCE, slot));
        }
    }

    /// Whether a slot did not come for what is left to it: it is left nothing more.
    fn forget_deaf(&mut self, now: Micros) -> bool {
        let mut any = false;
        while let Some(&(at, slot)) = self.awaited.first().filter(|(at, _)| *at <= now) {
            self.awaited.remove(&(at, slot));
            any |= self.slots.get(slot).is_some_and(|slot| slot.is_deaf(now));
        }
        if any {
            self.target.change();
        }
        any
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

    /// So much is left of what the slot has at work, in its own time, from closer by than the unit's weight can tell.
    pub fn progress(&mut self, slot: u32, now: Micros, left: Micros) {
        self.slots.change(slot, &self.queues, now, |slot| {
            slot.left = Some((now, left))
        });
        self.target.change();
        self.note_due(slot, now);
    }

    /// Some of what the slot has at work was taken back, so that the time of its end says nothing of the slot's speed.
    pub fn cut(&mut self, slot: u32) {
        if let Some(slot) = self.slots.touch(slot) {
            slot.cut = true;
        }
    }

    /// When the slot should have ended what it holds.
    pub fn free(&self, slot: u32, now: Micros) -> Micros {
        self.slots.free(slot, now)
    }

    /// When the slot should have ended what it has at work.
    pub fn rests(&self, slot: u32, now: Micros) -> Micros {
        let slot = self.slots.get(slot);
        let residue = slot.and_then(|slot| slots::residue(slot, &self.queues, now));
        now + residue.unwrap_or_default()
    }

    /// When the first of the slots, those included that are still to come, should have ended what it holds.
    pub fn earliest_free(&self, now: Micros) -> Micros {
        self.slots.earliest_free(now)
    }

    /// The unit that comes first of those that wait, and what it should take.
    pub fn longest_waiting(&self) -> Option<(u32, Micros)> {
        let firsts = self.queues.filled().filter_map(|(_, queue)| queue.first());
        let unit = firsts.max()?.2.0;
        Some((unit, self.queues.weight(unit)?.expected))
    }

    /// When all slots would end if what they hold and what is waiting could be spread evenly over them.
    pub fn level(&self, now: Micros) -> Micros {
        self.slots.level(now, self.queues.expected)
    }

    /// What a unit that took so long there would have taken at the reference speed.
    pub fn at_reference(&self, slot: u32, took: Micros) -> Micros {
        self.slots.get(slot).map_or(took, |slot| slot.gives(took))
    }

    /// How long it takes there what takes so long at the reference speed.
    pub fn takes(&self, slot: u32, reference: Micros) -> Micros {
        let slot = self.slots.get(slot);
        slot.map_or(reference, |slot| slot.takes(reference))
    }

    /// How fast the slot is, in thousandths of the reference speed.
    pub fn speed(&self, slot: u32) -> u64 {
        let slot = self.slots.get(slot);
        slot.map_or(1000, |slot| u64::from(slot.speed.milli))
    }

    pub fn finished(&mut self, slot: u32, unit: u32, now: Micros) {
        let Some(state) = self.slots.get(slot) else {
            return;
        };
        let ran = state.running.filter(|(running, _)| *running == unit);
        let (speed, is_last) = (state.speed, state.holds() == 1);
        let told = match state.bundle {
            Some(bundle) => Some(bundle.law()).filter(|_| is_last),
            None => ran.and_then(|_| Some(self.queues.unit(unit)?.law)),
        };
        let since = state.bundle.map(|bundle| bundle.since + bundle.startup);
        let since = since.or(ran.map(|(_, since)| since)).unwrap_or(now);
        let told = told.filter(|_| !state.cut && now > since);
        let speed = told.map(|(mean, sigma)| {
            let took = (now - since).0 as f64;
            let sigma = measured(sigma, took);
            self.slots.speeds.learn(&speed, (mean, sigma), took.ln())
        });
        self.slots.change(slot, &self.queues, now, |slot| {
            let held = slot.queued.len();
            slot.queued.retain(|&queued| queued != unit);
            slot.gave |= slot.queued.len() < held && slot.bundle.is_none();
            if ran.is_some() {
                slot.running = None;
                slot.left = None;
                slot.cut = false;
            }
            if slot.is_free() {
                slot.bundle = None;
            }
            if let Some(speed) = speed {
                slot.speed = speed;
            }
        });
        self.target.change();
        self.note_due(slot, now);
    }

    pub fn is_waiting(&self) -> bool {
        self.queues.count > 0
    }

    /// How many units nobody has.
    pub fn waiting(&self) -> usize {
        self.queues.count
    }

    /// Takes in, without having handed it out, that a slot holds a unit: behind what it holds already.
    pub fn holds(&mut self, slot: u32, unit: u32, weight: Weight, needs: &Needs, now: Micros) {
        self.add(unit, weight, needs);
        self.take(slot, unit, now);
    }

    /// Whether the slot holds nothing at all.
    pub fn is_free(&self, slot: u32) -> bool {
        self.slots.get(slot).is_some_and(Slot::is_free)
    }

    /// The unit of its kind that `slot` should get now, if any. Call it again until it answers `None`, and after every fact.
    pub fn next(&mut self, slot: u32, now: Micros) -> Option<u32> {
        self.settle(now);
        let state = self.slots.touch(slot).filter(|slot| slot.ready)?;
        state.came();
        let (kind, busy) = (state.kind, !state.is_free());
        if self.queues.count == 0 || busy && !self.wants_reserve(slot, now) {
            return None;
        }
        if busy && !self.is_soon_over(slot, now) && !self.are_slight(slot, kind, now) {
            return None;
        }
        let suspect = self.suspect_for(slot, kind, now);
        let probe = suspect.or_else(|| (!busy).then(|| self.probe(slot, kind, now)).flatten());
        let unit = probe.or_else(|| self.choose(slot, kind, now));
        let Some(unit) = unit else {
            if !busy {
                self.deferring.insert(slot);
            }
            return None;
        };
        self.take(slot, unit, now);
        Some(unit)
    }

    /// The first of the units that a slot may run now and that should end there by the target, or that are left to it.
    fn choose(&mut self, slot: u32, kind: u32, now: Micros) -> Option<u32> {
        let (fits, first) = self.fitting(slot, kind, now);
        let chosen = if fits.is_some() && fits == first {
            fits
        } else if first.is_some_and(|(_, entry)| self.is_as_fast(slot, entry)) {
            first
        } else {
            self.place_kind(kind, now);
            let (fits, first) = self.fitting(slot, kind, now);
            let nobody = is_planted(Fault::LeftToNobody);
            let left = self.left_to(slot, kind).filter(|_| !nobody);
            let first =
                first.filter(|(_, entry)| !nobody && self.is_as_good(slot, kind, *entry, now));
            // What is left to a slot is not put behind something that may yet take longer, nor anything else before it.
            let soon = self.slots.free(slot, now) <= now + AHEAD;
            if !soon && left.is_some() && left > fits {
                return None;
            }
            let anyway = self.anyway(slot, kind);
            fits.max(left).max(anyway).max(first)
        };
        chosen.map(|(_, entry)| entry.2.0)
    }

    /// The first one that ends there by the target, and the first one of all.
    #[allow(clippy::type_complexity)]
    fn fitting(
        &mut self,
        slot: u32,
        kind: u32,
        now: Micros,
    ) -> (Option<(u16, Entry)>, Option<(u16, Entry)>) {
        let target = self.target.get(&mut self.slots, &self.queues, now);
        let Some(most) = self.surely_within(slot, now, target) else {
            return (None, None);
        };
        let long = self.slots.get(slot).map_or(Micros::ZERO, |state| {
            let span = self.target.span().0;
            state.gives_surely(Micros(span / 100 * LONG_PERCENT))
        });
        let surely = if is_planted(Fault::JustInTime) {
            most
        } else {
            Micros(most.0 / SURELY)
        };
        let most = most.min(long.max(surely));
        let latest = most + Micros(self.target.span().0 / SURPRISE);
        let open = self.open_to(slot, kind);
        let urgent = |queue: &Queue, entry: Entry| self.queues.urgency(queue, entry);
        // What has run before surprises little, whatever else puts it before others.
        let sure = |entry: &Entry| {
            let weight = self.queues.weight(entry.2.0);
            entry.1 <= most && weight.is_some_and(|weight| weight.known)
        };
        let within = |queue: &Queue| {
            let first = queue.first().filter(sure);
            first.or_else(|| queue.first_within(most, latest))
        };
        let fits = open
            .clone()
            .filter_map(|(_, queue)| Some(urgent(queue, within(queue)?)));
        let all = open.filter_map(|(_, queue)| Some(urgent(queue, queue.first()?)));
        (fits.max(), all.max())
    }

    /// The work that surely ends on a slot by a time, behind what it has.
    fn surely_within(&self, slot: u32, now: Micros, end: Micros) -> Option<Micros> {
        let free = self.slots.free(slot, now);
        // What is put behind something waits as long again as it should, or it does not end in time.
        Some((self.slots.get(slot)?).gives_surely(end - free - (free - now)))
    }

    /// Whether, among thousands of slots, one that can begin at once what is a guess anyway is as fast as any, as far as that is sure:
    /// then it is not known that anybody would end it earlier, and it need not be worked out to whom it is left.
    fn is_as_fast(&self, slot: u32, entry: Entry) -> bool {
        let (Some(state), Some(weight)) = (self.slots.get(slot), self.queues.weight(entry.2.0))
        else {
            return false;
        };
        let fastest = scaled(weight.expected, 1000, self.slots.fastest());
        let spread = scaled(fastest, state.speed.unsure, 1000);
        self.slots.count > THOUSANDS
            && state.is_free()
            && !weight.known
            && state.takes(weight.expected) <= fastest + spread
    }

    /// Whether a slot that can begin with the largest unit of all would end it about as early as whom it is left to: by no more
    /// later than the speeds of both are uncertain. Otherwise it would be left now to this one and now to that one, and to none of them long.
    fn is_as_good(&self, slot: u32, kind: u32, entry: Entry, now: Micros) -> bool {
        let Some((other, end)) = self.target.end_of(kind, entry) else {
            // It is left to nobody, so that nobody else would come for it.
            return self.is_free(slot) && !is_planted(Fault::LeftToNobody);
        };
        let (Some(state), Some(weight)) = (self.slots.get(slot), self.queues.weight(entry.2.0))
        else {
            return false;
        };
        let own = state.takes(weight.expected) + (self.slots.free(slot, now) - now);
        // Of a slot that nothing is known of yet, the doubt is no reason: it would get what is largest before others are known.
        let unsure = if state.speed.unknown {
            0.0
        } else {
            let other = self.slots.get(other).map_or(0, |other| other.speed.unsure);
            f64::from(state.speed.unsure).hypot(f64::from(other)) / 1000.0
        };
        let spread = Micros(((end - now).0 as f64 * unsure) as u64);
        self.slots.free(slot, now) <= now + AHEAD && own <= (end - now) + spread
    }

    /// The first one that is left to the slot.
    fn left_to(&mut self, slot: u32, kind: u32) -> Option<(u16, Entry)> {
        let entry = self.target.left_to(kind, slot, &self.queues)?;
        let needs = self.queues.needs(entry.2.0)?;
        self.may_run(slot, needs).then_some((entry.0, entry))
    }

    /// The first one that a slot that has nothing gets whenever it may run it: what others may not, or did not take.
    fn anyway(&self, slot: u32, kind: u32) -> Option<(u16, Entry)> {
        if !self.is_free(slot) {
            return None;
        }
        let open = self.open_to(slot, kind).filter_map(|(_, queue)| {
            let entry = if queue.needs.is_constrained() {
                queue.first()?
            } else {
                queue.refused.last().copied()?
            };
            Some(self.queues.urgency(queue, entry))
        });
        open.max()
    }

    /// A slot is given a unit.
    fn take(&mut self, slot: u32, unit: u32, now: Micros) {
        if !is_planted(Fault::KeptWaiting) {
            self.queues.take(unit);
        }
        self.deferring.remove(&slot);
        self.slots.change(slot, &self.queues, now, |slot| {
            slot.came();
            slot.queued.push_back(unit);
        });
        self.target.change();
        self.note_due(slot, now);
    }

    /// When `next` may answer differently for a slot although nothing happened; nothing where only facts matter.
    pub fn wake_at(&self, now: Micros) -> Option<Micros> {
        if self.queues.count == 0 {
            // Overdue units are looked at again from time to time, as long as an idle slot could take over.
            return self.is_uneven().then(|| now + WORTH_TAKING);
        }
        let soon = now + Micros(1);
        let due = self.due.after(now);
        let late = self.slots.busy.first().filter(|_| self.defers());
        let late = late.map(|(free, _)| (*free).max(soon));
        // Whoever does not come for what is left to it is left nothing more.
        let deaf = self.awaited.first().map(|(at, _)| (*at).max(soon));
        [due, late, deaf].into_iter().flatten().min()
    }

    /// Expected time until everything has ended.
    pub fn expected_left(&self, now: Micros) -> Micros {
        let last = self.slots.busy.last().map_or(now, |(free, _)| *free);
        self.level(now).max(last) - now
    }
}
