//! Slots: what each holds, and when it should have ended that.
//!
//! Slots that hold something are kept in the order in which they should have ended it. One that has not ended by then is expected
//! later, by what a log-normal duration has left after so long; that is worked out when its time has come, not at each look.

use super::law::remaining;
use super::planted::{Fault, is_planted};
use super::queues::Queues;
use super::speeds::{Speed, Speeds};
use super::target::PATIENCE;
use crate::Micros;
use std::collections::{BTreeSet, VecDeque};

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
    /// When it should be looked at for its next unit, though nothing happens to it.
    pub due: Option<Micros>,
    pub speed: Speed,
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
            due: None,
            speed,
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

/// In 64 bits where they suffice.
fn divided(sum: u128, by: u128) -> u128 {
    match (u64::try_from(sum), u64::try_from(by)) {
        (Ok(sum), Ok(by)) => u128::from(sum / by),
        _ => sum / by,
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
    /// Thousandths of the reference speed: of all, of those that hold something, and these times when they are free.
    pub speed: u64,
    busy_speed: u64,
    moment: u128,
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
        let mut state = self.list.get_mut(slot as usize)?.take()?;
        self.forget(slot, &state);
        let (kind, pace) = (state.usable(), state.speed.milli);
        let result = change(&mut state);
        self.count_kind(kind, state.usable());
        self.count_pace(Some(pace), Some(state.speed.milli));
        state.free = (!state.is_free()).then(|| free_at(&state, queues, now));
        self.note(slot, &state);
        self.list[slot as usize] = Some(state);
        Some(result)
    }

    /// Adds a slot, if it is not there.
    pub fn open(&mut self, slot: u32, agent: u32) {
        if self.list.len() <= slot as usize {
            self.list.resize_with(slot as usize + 1, || None);
        }
        if self.list[slot as usize].is_none() {
            let state = Slot::new(self.speeds.slot(agent));
            self.count += 1;
            self.count_kind(None, state.usable());
            self.count_pace(None, Some(state.speed.milli));
            self.note(slot, &state);
            self.list[slot as usize] = Some(state);
        }
    }

    pub fn close(&mut self, slot: u32) {
        if let Some(state) = self.list.get_mut(slot as usize).and_then(Option::take) {
            self.count -= 1;
            self.count_kind(state.usable(), None);
            self.count_pace(Some(state.speed.milli), None);
            self.forget(slot, &state);
            self.overdue.remove(&slot);
        }
    }

    /// Changes what nothing else follows from.
    pub fn touch(&mut self, slot: u32) -> Option<&mut Slot> {
        self.list.get_mut(slot as usize)?.as_mut()
    }

    fn note(&mut self, slot: u32, state: &Slot) {
        let speed = u64::from(state.speed.milli);
        self.speed += speed;
        match state.free {
            Some(free) => {
                self.busy.insert((free, slot));
                self.busy_speed += speed;
                self.moment += u128::from(speed) * u128::from(free.0);
            }
            None => self.idle += 1,
        }
        if state.is_laden() {
            self.laden.insert(slot);
        } else {
            self.overdue.remove(&slot);
        }
    }

    fn forget(&mut self, slot: u32, state: &Slot) {
        let speed = u64::from(state.speed.milli);
        self.speed -= speed;
        match state.free {
            Some(free) => {
                self.busy.remove(&(free, slot));
                self.busy_speed -= speed;
                self.moment -= u128::from(speed) * u128::from(free.0);
            }
            None => self.idle -= 1,
        }
        if state.is_laden() {
            self.laden.remove(&slot);
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

    /// When all would end if what they hold and so much besides could be spread evenly over them; `but`: except for those that
    /// hold what takes longer than that, which only have to be waited for.
    pub fn level(&self, now: Micros, work: Micros, but: bool) -> Micros {
        self.level_of(now, work, but).0
    }

    /// The same, with how many slots had to be looked at for that.
    pub fn level_of(&self, now: Micros, work: Micros, but: bool) -> (Micros, usize) {
        let idle = u128::from(self.speed - self.busy_speed);
        let mut speed = u128::from(self.speed);
        if speed == 0 {
            return (now, 0);
        }
        let mut looked = 0;
        let mut sum = u128::from(work.0) * 1000 + self.moment + idle * u128::from(now.0);
        let mut late = self.busy.iter();
        while let Some((free, slot)) = late.next().filter(|(free, _)| *free < now) {
            // They are not free before now.
            let own = self.get(*slot).map_or(0, |slot| slot.speed.milli);
            sum += u128::from(own) * u128::from((now - *free).0);
        }
        let mut level = divided(sum, speed);
        for &(free, slot) in self.busy.iter().rev() {
            let own = u128::from(self.get(slot).map_or(0, |slot| slot.speed.milli));
            if !but || u128::from(free.0) <= level || speed == own {
                break;
            }
            looked += 1;
            sum -= own * u128::from(free.0);
            speed -= own;
            level = divided(sum, speed);
        }
        let level = Micros(u64::try_from(level).unwrap_or(u64::MAX)).max(now);
        (level, looked)
    }
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
    let weight = queues.weight(unit)?;
    let law = weight.law();
    let left = remaining(law, elapsed).max(Micros((elapsed - weight.expected).0 / 2));
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
