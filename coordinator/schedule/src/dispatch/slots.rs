//! Slots: what each holds, and when it should have ended that.
//!
//! Slots that hold something are kept in the order in which they should have ended it. One that has not ended by then is expected
//! later, by what a log-normal duration has left after so long; that is worked out when its time has come, not at each look.

use super::law::remaining;
use super::needs::MEANT;
use super::paces::Pace;
use super::planted::{Fault, is_planted};
use super::queues::{Queues, Unit};
use super::speeds::{Speed, Speeds};
use super::target::PATIENCE;
use crate::Micros;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

/// Units that a slot was given together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bundle {
    pub since: Micros,
    pub startup: Micros,
    /// What all of it should take at the reference speed, its start aside.
    pub work: Micros,
}

/// How much the sum of many units varies, as the standard deviation of its logarithm.
const SUM: f64 = 0.1;

impl Bundle {
    pub fn law(&self) -> (f64, f64) {
        ((self.work.0.max(1) as f64).ln(), SUM)
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    /// It can run units now; until then it is counted on, and gets none.
    pub ready: bool,
    /// The kind of process that it has or is going to have.
    pub kind: u32,
    /// Kinds that it cannot have.
    pub barred: BTreeSet<u32>,
    pub running: Option<(u32, Micros)>,
    /// What is known to be left of it: at that time, so much of the slot's own time.
    pub left: Option<(Micros, Micros)>,
    /// Some of what it has at work was given back, so that its end tells nothing of its weight.
    pub cut: bool,
    /// When it was given a bundle, and what all of that should take. Which of its units it has at work is not known.
    pub bundle: Option<Bundle>,
    pub queued: VecDeque<u32>,
    /// It gave back what was queued behind what it has at work.
    pub gave: bool,
    pub speed: Speed,
    /// What it has done lately.
    pub pace: Pace,
    /// When it should have ended what it holds, as the order of slots has it.
    free: Option<Micros>,
    /// When something was left to it that holds nothing, and it has not come for that yet.
    left_something: Option<Micros>,
}

impl Slot {
    fn new(speed: Speed) -> Slot {
        Slot {
            ready: false,
            kind: 0,
            barred: BTreeSet::new(),
            running: None,
            left: None,
            cut: false,
            bundle: None,
            queued: VecDeque::new(),
            gave: false,
            speed,
            pace: Pace::default(),
            free: None,
            left_something: None,
        }
    }

    /// Forgets what it held.
    pub fn clear(&mut self) {
        if !is_planted(Fault::StillBusy) {
            self.running = None;
        }
        self.left = None;
        self.cut = false;
        self.bundle = None;
        self.queued.clear();
    }

    /// It asks.
    pub fn came(&mut self) {
        self.left_something = None;
    }

    /// It did not take what it was given, and is left nothing before it asks again.
    pub fn refuse(&mut self) {
        self.left_something = Some(Micros::ZERO);
    }

    /// Whether nothing was left to it before, since it came last.
    pub fn left_something(&mut self, now: Micros) -> bool {
        let before = self
            .left_something
            .replace(self.left_something.unwrap_or(now));
        before.is_none()
    }

    /// Whether it does not come for what is left to it.
    pub fn is_deaf(&self, now: Micros) -> bool {
        let late = |since: Micros| now >= since + PATIENCE;
        self.left_something.is_some_and(late) && !is_planted(Fault::Faithful)
    }

    /// How many units it holds.
    pub fn holds(&self) -> usize {
        usize::from(self.running.is_some()) + self.queued.len()
    }

    /// The kind of process that it has, if it can.
    fn usable(&self) -> Option<u32> {
        Some(self.kind).filter(|kind| !self.barred.contains(kind))
    }

    fn mark(&self) -> Mark {
        Mark {
            free: self.free,
            milli: self.speed.milli,
            laden: self.is_laden(),
            kind: self.usable(),
        }
    }

    fn is_laden(&self) -> bool {
        self.running.is_some() && !self.queued.is_empty()
    }

    pub fn is_free(&self) -> bool {
        self.running.is_none() && self.queued.is_empty()
    }

    /// How long a unit takes here that takes so long at the reference speed.
    pub fn takes(&self, reference: Micros) -> Micros {
        scaled(reference, 1000, self.speed.milli)
    }

    /// How much of a unit is done here by then, at the reference speed.
    pub fn gives(&self, time: Micros) -> Micros {
        scaled(time, self.speed.milli, 1000)
    }

    /// The same where time is short.
    pub fn gives_surely(&self, time: Micros) -> Micros {
        scaled(time, self.speed.careful, 1000)
    }
}

/// As what a slot counts among the others.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    free: Option<Micros>,
    milli: u32,
    laden: bool,
    kind: Option<u32>,
}

/// In 64 bits where they suffice.
fn share(sum: u128, speed: u64) -> Micros {
    Micros(match u64::try_from(sum) {
        Ok(sum) => sum / speed,
        Err(_) => u64::try_from(sum / u128::from(speed)).unwrap_or(u64::MAX),
    })
}

/// The place just before this one in the order of slots.
fn before((free, slot): (Micros, u32)) -> (Micros, u32) {
    match slot.checked_sub(1) {
        Some(slot) => (free, slot),
        None => (free - Micros(1), u32::MAX),
    }
}

/// So many times and one part in so many of a time.
pub(super) fn scaled(time: Micros, times: u32, over: u32) -> Micros {
    let over = u64::from(over.max(1));
    if let Some(product) = time.0.checked_mul(u64::from(times)) {
        return Micros(product / over);
    }
    let scaled = u128::from(time.0) * u128::from(times) / u128::from(over);
    Micros(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    list: Vec<Option<Slot>>,
    pub speeds: Speeds,
    /// Slots by their agents.
    of_agent: BTreeSet<(u32, u32)>,
    pub count: usize,
    /// How many have a process of a kind and can.
    kinds: std::collections::BTreeMap<u32, u64>,
    /// How many are as fast, by thousandths of the reference speed.
    paces: std::collections::BTreeMap<u32, u32>,
    /// Those that hold something, by when they should have ended it.
    pub busy: BTreeSet<(Micros, u32)>,
    /// How many hold nothing.
    pub idle: usize,
    /// Those that hold more than they have at work.
    pub laden: BTreeSet<u32>,
    /// Those of them whose unit takes longer than it should.
    pub overdue: BTreeSet<u32>,
    /// Of all, in thousandths of the reference speed.
    pub speed: u64,
    /// Those that hold something.
    held: Moment,
    late: Late,
}

/// Thousandths of the reference speed of some slots, and these times when they are free.
#[derive(Debug, Default)]
struct Moment {
    speed: u64,
    sum: u128,
}

impl Moment {
    fn add(&mut self, free: Micros, speed: u64) {
        self.speed += speed;
        self.sum += u128::from(speed) * u128::from(free.0);
    }

    fn remove(&mut self, free: Micros, speed: u64) {
        self.speed -= speed;
        self.sum -= u128::from(speed) * u128::from(free.0);
    }
}

/// Slots that hold what takes longer than the level, as it was worked out last: those behind `from` in the order of `busy`. Between two
/// times few slots cross it, so that a level costs next to nothing.
#[derive(Debug, Default)]
struct Late {
    from: (Micros, u32),
    held: Moment,
}

impl Late {
    fn holds(&self, free: Micros, slot: u32) -> bool {
        (free, slot) > self.from
    }
}

impl Slots {
    pub fn get(&self, slot: u32) -> Option<&Slot> {
        self.list.get(slot as usize)?.as_ref()
    }

    /// Changes a slot, and whatever follows from what it holds.
    pub fn change<R>(
        &mut self,
        slot: u32,
        queues: &Queues,
        now: Micros,
        change: impl FnOnce(&mut Slot) -> R,
    ) -> Option<R> {
        let state = self.list.get_mut(slot as usize)?.as_mut()?;
        let before = state.mark();
        let result = change(state);
        state.free = (!state.is_free()).then(|| free_at(state, queues, now));
        let after = state.mark();
        self.count(slot, Some(before), Some(after));
        Some(result)
    }

    /// Adds a slot, if it is not there.
    pub fn open(&mut self, slot: u32, agent: u32) {
        if self.list.len() <= slot as usize {
            self.list.resize_with(slot as usize + 1, || None);
        }
        if self.list[slot as usize].is_none() {
            let state = Slot::new(self.speeds.slot(agent));
            self.of_agent.insert((agent, slot));
            self.count += 1;
            self.count(slot, None, Some(state.mark()));
            self.list[slot as usize] = Some(state);
        }
    }

    pub fn close(&mut self, slot: u32) {
        if let Some(state) = self.list.get_mut(slot as usize).and_then(Option::take) {
            self.count -= 1;
            self.count(slot, Some(state.mark()), None);
            self.of_agent.remove(&(state.speed.agent(), slot));
        }
    }

    pub fn of_agent(&self, agent: u32) -> impl Iterator<Item = u32> {
        let members = self.of_agent.range((agent, 0)..=(agent, u32::MAX));
        members.map(|(_, slot)| *slot)
    }

    /// All slots of an agent have become faster by so much, as a logarithm.
    pub fn shift(&mut self, agent: u32, by: f64, queues: &Queues, now: Micros) {
        let members = self.of_agent(agent);
        let speeds = members.filter_map(|slot| Some((slot, self.get(slot)?.speed)));
        // As they are before any of them is told, since what is told of one tells of its neighbours.
        let before: Vec<(u32, Speed, f64)> = speeds
            .map(|(slot, speed)| (slot, speed, self.speeds.log(&speed)))
            .collect();
        let told = before.into_iter().map(|(slot, speed, log)| {
            let speed = self.speeds.shifted(&speed, log + by);
            (slot, speed)
        });
        let told: Vec<(u32, Speed)> = told.collect();
        for (slot, speed) in told {
            let speed = self.speeds.settled(speed);
            self.change(slot, queues, now, |state| {
                state.speed = speed;
                state.pace = Pace::default();
            });
            if self.laden.contains(&slot) {
                self.overdue.insert(slot);
            }
        }
    }

    /// Changes what nothing else follows from.
    pub fn touch(&mut self, slot: u32) -> Option<&mut Slot> {
        self.list.get_mut(slot as usize)?.as_mut()
    }

    /// A slot counts as this, and no longer as that.
    fn count(&mut self, slot: u32, before: Option<Mark>, after: Option<Mark>) {
        if before == after {
            return;
        }
        let kind = |mark: Option<Mark>| mark.and_then(|mark| mark.kind);
        self.count_kind(kind(before), kind(after));
        let pace = |mark: Option<Mark>| mark.map(|mark| mark.milli);
        self.count_pace(pace(before), pace(after));
        if let Some(Mark { free, milli, .. }) = before {
            let speed = u64::from(milli);
            self.speed -= speed;
            match free {
                Some(free) => {
                    self.busy.remove(&(free, slot));
                    self.held.remove(free, speed);
                    if self.late.holds(free, slot) {
                        self.late.held.remove(free, speed);
                    }
                }
                None => self.idle -= 1,
            }
        }
        if let Some(Mark { free, milli, .. }) = after {
            let speed = u64::from(milli);
            self.speed += speed;
            match free {
                Some(free) => {
                    self.busy.insert((free, slot));
                    self.held.add(free, speed);
                    if self.late.holds(free, slot) {
                        self.late.held.add(free, speed);
                    }
                }
                None => self.idle += 1,
            }
        }
        let laden = |mark: Option<Mark>| mark.is_some_and(|mark| mark.laden);
        if laden(after) && !laden(before) {
            self.laden.insert(slot);
        } else if laden(before) && !laden(after) {
            self.laden.remove(&slot);
            self.overdue.remove(&slot);
        }
    }

    fn count_kind(&mut self, before: Option<u32>, after: Option<u32>) {
        if before == after {
            return;
        }
        if let Some(count) = before.and_then(|kind| self.kinds.get_mut(&kind)) {
            *count -= 1;
        }
        if let Some(kind) = after {
            *self.kinds.entry(kind).or_default() += 1;
        }
    }

    fn count_pace(&mut self, before: Option<u32>, after: Option<u32>) {
        if before == after {
            return;
        }
        if let Some(before) = before
            && let Some(count) = self.paces.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.paces.remove(&before);
            }
        }
        if let Some(after) = after {
            *self.paces.entry(after).or_default() += 1;
        }
    }

    /// In thousandths of the reference speed; 1000 where there is none.
    pub fn fastest(&self) -> u32 {
        self.paces.last_key_value().map_or(1000, |(pace, _)| *pace)
    }

    /// Those that hold nothing, in the order of their numbers.
    pub fn without(&self) -> impl Iterator<Item = (u32, &Slot)> {
        let all = (0..).zip(&self.list);
        all.filter_map(|(slot, state)| Some((slot, state.as_ref()?)))
            .filter(|(_, state)| state.free.is_none())
    }

    /// How many slots have a process of this kind.
    pub fn of_kind(&self, kind: u32) -> u64 {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// Expects those later that should have ended by now and have not. Whether there were any.
    pub fn settle(&mut self, queues: &Queues, now: Micros) -> bool {
        let mut late = false;
        while let Some(&(_, slot)) = self.busy.first().filter(|(free, _)| *free <= now) {
            late = true;
            self.change(slot, queues, now, |_| ());
        }
        late
    }

    pub fn free(&self, slot: u32, now: Micros) -> Micros {
        let free = self.get(slot).and_then(|slot| slot.free);
        free.map_or(now, |free| free.max(now))
    }

    /// When the first of them should have ended what it holds.
    pub fn earliest_free(&self, now: Micros) -> Micros {
        if self.idle > 0 {
            return now;
        }
        let first = self.busy.first();
        first.map_or(now, |(free, _)| now.max(*free))
    }

    /// When all would end if what they hold and so much besides could be spread evenly over them.
    pub fn level(&self, now: Micros, work: Micros) -> Micros {
        match self.speed {
            0 => now,
            speed => share(self.sum(now, work), speed).max(now),
        }
    }

    /// The same, except for those that hold what takes longer than that, which only have to be waited for.
    pub fn level_but(&mut self, now: Micros, work: Micros) -> Micros {
        if self.speed == 0 {
            return now;
        }
        let mut sum = self.sum(now, work) - self.late.held.sum;
        let mut speed = self.speed - self.late.held.speed;
        let mut level = (speed > 0).then(|| share(sum, speed));
        let (list, busy, late) = (&self.list, &self.busy, &mut self.late);
        // Who is no later than the level lowers it, and so does not make anybody late that was not.
        for &(free, slot) in busy.range((Bound::Excluded(late.from), Bound::Unbounded)) {
            if level.is_some_and(|level| level < free) {
                break;
            }
            let own = milli(list, slot);
            late.held.remove(free, own);
            late.from = (free, slot);
            sum += u128::from(own) * u128::from(free.0);
            speed += own;
            level = Some(share(sum, speed));
        }
        let mut level = level.unwrap_or(now);
        for &(free, slot) in busy.range(..=late.from).rev() {
            let own = milli(list, slot);
            if free <= level || speed == own {
                break;
            }
            late.held.add(free, own);
            late.from = before((free, slot));
            sum -= u128::from(own) * u128::from(free.0);
            speed -= own;
            level = share(sum, speed);
        }
        level.max(now)
    }

    /// Speeds times when slots are free, and the work, so that a speed's share of it is a time.
    fn sum(&self, now: Micros, work: Micros) -> u128 {
        let idle = u128::from(self.speed - self.held.speed);
        let overdue = self.busy.iter().take_while(|(free, _)| *free < now);
        // They are not free before now.
        let overdue = overdue
            .map(|(free, slot)| u128::from(milli(&self.list, *slot)) * u128::from((now - *free).0));
        let overdue: u128 = overdue.sum();
        u128::from(work.0) * 1000 + self.held.sum + idle * u128::from(now.0) + overdue
    }
}

fn milli(list: &[Option<Slot>], slot: u32) -> u64 {
    let state = list.get(slot as usize).and_then(Option::as_ref);
    state.map_or(0, |slot| u64::from(slot.speed.milli))
}

/// What is left of the unit that a slot has at work, in its own time.
pub(super) fn residue(slot: &Slot, queues: &Queues, now: Micros) -> Option<Micros> {
    let (unit, since) = slot.running?;
    if let Some((at, left)) = slot.left {
        // What is overdue is expected to take as long again as it has been overdue.
        let elapsed = now - at;
        return Some((left - elapsed).max(elapsed - left));
    }
    let elapsed = slot.gives(now - since);
    let Unit { weight, law, .. } = queues.unit(unit)?;
    // What has just begun takes what was thought of it, to the microsecond, so that the order of slots stays as it is. Of what may take
    // anything the law tells another mean.
    if elapsed == Micros::ZERO && law.1 <= MEANT {
        return Some(slot.takes(weight.expected));
    }
    let left = remaining(*law, elapsed).max(Micros((elapsed - weight.expected).0 / 2));
    Some(slot.takes(left))
}

/// The least that a unit is expected to take longer, once it takes longer than it should.
const LONGER: Micros = Micros::from_millis(1);

fn free_at(slot: &Slot, queues: &Queues, now: Micros) -> Micros {
    if let Some(bundle) = slot.bundle {
        let all = bundle.startup + slot.takes(bundle.work);
        let elapsed = now - bundle.since;
        return now + (all - elapsed).max(elapsed - all).max(LONGER);
    }
    let running = residue(slot, queues, now).unwrap_or_default();
    let queued = slot.queued.iter().filter_map(|&unit| queues.weight(unit));
    let queued: Micros = queued.map(|weight| weight.expected).sum();
    now + (running + slot.takes(queued)).max(LONGER)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the definition has it: who holds what takes longest is left out as long as that is later than the level of the others.
    fn defined(slots: &Slots, now: Micros, work: Micros) -> Micros {
        let all = slots.list.iter().flatten();
        let free = |slot: &Slot| slot.free.map_or(now, |free| free.max(now));
        let mut ends: Vec<(Micros, u64)> = all
            .map(|slot| (free(slot), u64::from(slot.speed.milli)))
            .collect();
        ends.sort_unstable();
        loop {
            let speed: u64 = ends.iter().map(|(_, speed)| speed).sum();
            let busy = ends.iter();
            let busy: u128 = busy
                .map(|(free, speed)| u128::from(*speed) * u128::from(free.0))
                .sum();
            let level = share(busy + u128::from(work.0) * 1000, speed);
            match ends.last() {
                Some((last, _)) if *last > level && ends.len() > 1 => ends.pop(),
                _ => return level.max(now),
            };
        }
    }

    #[test]
    fn a_level_is_that_of_its_definition_whatever_happened_since_the_last_one() {
        let queues = Queues::default();
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for round in 0..200 {
            let mut slots = Slots::default();
            let count = 1 + random(40) as u32;
            let mut now = Micros(1_000);
            for step in 0..300 {
                let slot = random(u64::from(count)) as u32;
                let left = Micros(1 + (1 << random(24)) + random(1_000));
                match random(8) {
                    0 => slots.open(slot, slot),
                    1 => slots.close(slot),
                    2 | 3 => {
                        let pace = 400 + random(1_200) as u32;
                        slots.change(slot, &queues, now, |slot| {
                            slot.speed.milli = pace;
                            slot.clear();
                        });
                    }
                    _ => {
                        slots.change(slot, &queues, now, |slot| {
                            slot.running = Some((0, now));
                            slot.left = Some((now, left));
                        });
                    }
                }
                now += Micros(random(50_000));
                slots.settle(&queues, now);
                let most = 1 << random(28);
                let work = Micros(random(most));
                if slots.count > 0 && random(3) == 0 {
                    let known = defined(&slots, now, work);
                    assert_eq!(slots.level_but(now, work), known, "{round}, {step}");
                }
            }
        }
    }
}
