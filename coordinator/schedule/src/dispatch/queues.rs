//! Units that nobody has, in queues of those that need the same.
//!
//! A queue is ordered by classes of eight to an octave of what orders its units, and within a class by what decides whether a unit
//! ends in time. So the first one that ends in time is found without looking at those before it one by one.

use super::needs::{Needs, Weight};
use super::planted::{Fault, is_planted};
use crate::Micros;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A unit that waits: class, high quantile; the number breaks ties.
pub(super) type Entry = (u16, Micros, Reverse<u32>);

/// A class is an eighth of an octave.
pub(super) fn class(order: Micros) -> u16 {
    let order = order.0.max(1);
    let octave = order.ilog2();
    let eighth = if octave >= 3 {
        (order >> (octave - 3)) & 7
    } else {
        (order << (3 - octave)) & 7
    };
    (octave * 8) as u16 + eighth as u16
}

/// Which units start first is decided by what they take where they take long: of those that have run before at the quantile that
/// decides about time, of others twice as far out.
pub(super) fn entry(unit: u32, weight: &Weight) -> Entry {
    // Where the caller has an order of its own, which takes no regard of what units take, it is kept.
    if weight.order < weight.expected {
        return (class(weight.order), weight.order, Reverse(unit));
    }
    let farther = |order: Micros, times: Micros, over: Micros| {
        let order = u128::from(order.0) * u128::from(times.0) / u128::from(over.0.max(1));
        Micros(u64::try_from(order).unwrap_or(u64::MAX))
    };
    let order = if weight.known {
        farther(weight.order, weight.high, weight.expected)
    } else {
        let far = farther(weight.order, weight.order, weight.high);
        farther(far, weight.order, weight.high)
    };
    let early = if is_planted(Fault::NoneEarly) {
        0
    } else {
        weight.early
    };
    (class(order) + early, weight.high, Reverse(unit))
}

/// What is known of each unit that was put up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    pub weight: Weight,
    /// Of the logarithm of its duration, mean and standard deviation.
    pub law: (f64, f64),
    pub queue: u32,
    pub waits: bool,
    /// A slot did not take it: it is left to no slot, whoever has nothing gets it.
    pub refused: bool,
    /// How likely it is to fail, beside others: 0 where nothing says so.
    pub suspicion: u8,
}

/// Units that need the same.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub needs: Needs,
    pub waiting: BTreeSet<Entry>,
    /// Those of them that were refused.
    pub refused: BTreeSet<Entry>,
    /// Those of them that may well fail, the most suspicious last.
    pub suspects: BTreeSet<(u8, Entry)>,
    /// What they should take, and how much of that is not known from before.
    pub expected: Micros,
    pub guessed: Micros,
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    units: Vec<Option<Unit>>,
    pub list: Vec<Queue>,
    by_needs: BTreeMap<Needs, u32>,
    /// Of each kind of process, the queues in which something waits.
    filled: BTreeMap<u32, BTreeSet<u32>>,
    /// What all that waits for a lock should take.
    chains: BTreeMap<u32, Micros>,
    /// What the suspects that wait should take, by how suspicious they are.
    pub suspected: BTreeMap<u8, Micros>,
    pub count: usize,
    /// Those among them that can run beside others.
    pub sociable: usize,
    pub expected: Micros,
}

impl Queue {
    /// The first that takes no longer than `most` by its high quantile, and about no longer than `latest` by what orders it.
    pub fn first_within(&self, most: Micros, latest: Micros) -> Option<Entry> {
        let mut class = class(latest);
        loop {
            let entry = *self
                .waiting
                .range(..=(class, most, Reverse(0)))
                .next_back()?;
            if entry.1 <= most {
                return Some(entry);
            }
            // All of that class take longer, or the class above has none.
            if entry.0 == class {
                class = class.checked_sub(1)?;
            } else {
                class = entry.0;
            }
        }
    }

    /// Those that take less than `most` by what orders them, the largest first.
    pub fn below(&self, most: Micros) -> impl Iterator<Item = &Entry> {
        let end = (class(most), Micros::ZERO, Reverse(u32::MAX));
        self.waiting.range(..end).rev()
    }

    /// Those that take at least about `least` by what orders them, the smallest first.
    pub fn from(&self, least: Micros) -> impl Iterator<Item = &Entry> {
        let start = (class(least), Micros::ZERO, Reverse(u32::MAX));
        self.waiting.range(start..)
    }

    pub fn first(&self) -> Option<Entry> {
        self.waiting.last().copied()
    }
}

impl Queues {
    pub fn unit(&self, unit: u32) -> Option<&Unit> {
        self.units.get(unit as usize)?.as_ref()
    }

    pub fn weight(&self, unit: u32) -> Option<&Weight> {
        Some(&self.unit(unit)?.weight)
    }

    pub fn needs(&self, unit: u32) -> Option<&Needs> {
        Some(&self.list[self.unit(unit)?.queue as usize].needs)
    }

    /// Puts a unit up. One that waits already keeps waiting, with its new weight.
    pub fn add(&mut self, unit: u32, weight: Weight, needs: &Needs) {
        if self.unit(unit).is_some_and(|unit| unit.waits) {
            debug_assert!(false, "unit {unit} is waiting already");
            self.take(unit);
        }
        let at = match self.by_needs.get(needs) {
            Some(&at) => at,
            None => {
                let at = self.list.len() as u32;
                self.by_needs.insert(needs.clone(), at);
                self.list.push(Queue {
                    needs: needs.clone(),
                    ..Queue::default()
                });
                at
            }
        };
        if self.units.len() <= unit as usize {
            self.units.resize(unit as usize + 1, None);
        }
        self.units[unit as usize] = Some(Unit {
            weight,
            law: weight.law(),
            queue: at,
            waits: true,
            refused: false,
            suspicion: 0,
        });
        self.put(unit);
    }

    fn put(&mut self, unit: u32) {
        let Some(Unit {
            weight,
            queue: at,
            refused,
            suspicion,
            ..
        }) = self.unit(unit).copied()
        else {
            return;
        };
        let queue = &mut self.list[at as usize];
        queue.waiting.insert(entry(unit, &weight));
        if refused {
            queue.refused.insert(entry(unit, &weight));
        }
        if suspicion > 0 {
            queue.suspects.insert((suspicion, entry(unit, &weight)));
            *self.suspected.entry(suspicion).or_default() += weight.expected;
        }
        queue.expected += weight.expected;
        if !weight.known {
            queue.guessed += weight.expected;
        }
        for &lock in &queue.needs.locks {
            *self.chains.entry(lock).or_default() += weight.expected;
        }
        self.filled.entry(queue.needs.kind).or_default().insert(at);
        self.count += 1;
        self.sociable += usize::from(!queue.needs.exclusive);
        self.expected += weight.expected;
    }

    /// Takes a unit that waits out of its queue; the answer is no where it does not wait.
    pub fn take(&mut self, unit: u32) -> bool {
        let Some(Some(state)) = self.units.get_mut(unit as usize) else {
            return false;
        };
        if !std::mem::replace(&mut state.waits, false) {
            return false;
        }
        let (at, weight) = (state.queue, state.weight);
        let queue = &mut self.list[at as usize];
        queue.waiting.remove(&entry(unit, &weight));
        if state.refused {
            queue.refused.remove(&entry(unit, &weight));
        }
        let suspicion = state.suspicion;
        if suspicion > 0
            && queue.suspects.remove(&(suspicion, entry(unit, &weight)))
            && let Some(suspected) = self.suspected.get_mut(&suspicion)
        {
            *suspected = *suspected - weight.expected;
        }
        queue.expected = queue.expected - weight.expected;
        if !weight.known {
            queue.guessed = queue.guessed - weight.expected;
        }
        for lock in &queue.needs.locks {
            if let Some(chain) = self.chains.get_mut(lock) {
                *chain = *chain - weight.expected;
            }
        }
        if queue.waiting.is_empty()
            && let Some(filled) = self.filled.get_mut(&queue.needs.kind)
        {
            filled.remove(&at);
            if filled.is_empty() {
                self.filled.remove(&queue.needs.kind);
            }
        }
        self.count -= 1;
        self.sociable -= usize::from(!queue.needs.exclusive);
        self.expected = self.expected - weight.expected;
        true
    }

    /// The unit has another weight from now on, wherever it is.
    pub fn reweigh(&mut self, unit: u32, weight: Weight) {
        let waits = self.take(unit);
        if let Some(Some(state)) = self.units.get_mut(unit as usize) {
            state.weight = weight;
            state.law = weight.law();
            state.waits = waits;
        }
        if waits {
            self.put(unit);
        }
    }

    /// How likely a unit is to fail, wherever it is.
    pub fn suspect(&mut self, unit: u32, suspicion: u8) {
        let waits = self.take(unit);
        if let Some(Some(state)) = self.units.get_mut(unit as usize) {
            state.suspicion = suspicion;
            state.waits = waits;
        }
        if waits {
            self.put(unit);
        }
    }

    pub fn is_suspecting(&self) -> bool {
        self.suspected
            .values()
            .any(|&suspected| suspected > Micros::ZERO)
    }

    /// What all that waits and is at least as suspicious should take.
    pub fn as_suspicious(&self, suspicion: u8) -> Micros {
        self.suspected
            .range(suspicion..)
            .map(|(_, &expected)| expected)
            .sum()
    }

    /// Marks a unit that waits as one that a slot did not take.
    pub fn refuse(&mut self, unit: u32) {
        if let Some(Some(state)) = self.units.get_mut(unit as usize)
            && state.waits
        {
            state.refused = true;
            let queue = &mut self.list[state.queue as usize];
            queue.refused.insert(entry(unit, &state.weight));
        }
    }

    /// What all that waits for a lock should take.
    pub fn chain(&self, lock: u32) -> Micros {
        self.chains.get(&lock).copied().unwrap_or_default()
    }

    pub fn longest_chain(&self) -> Micros {
        self.chains.values().copied().max().unwrap_or_default()
    }

    /// Kinds of which something waits.
    pub fn kinds(&self) -> impl Iterator<Item = u32> + '_ {
        self.filled.keys().copied()
    }

    /// The queues of a kind in which something waits.
    pub fn of_kind(&self, kind: u32) -> impl Iterator<Item = (u32, &Queue)> + Clone {
        let filled = self.filled.get(&kind).into_iter().flatten();
        filled.map(|&at| (at, &self.list[at as usize]))
    }

    /// All queues in which something waits.
    pub fn filled(&self) -> impl Iterator<Item = (u32, &Queue)> + Clone {
        let filled = self.filled.values().flatten();
        filled.map(|&at| (at, &self.list[at as usize]))
    }

    /// How much depends on an entry of a queue: units that need the same lock run one after the other, so that each of them
    /// counts as long as all of them.
    pub fn urgency(&self, queue: &Queue, entry: Entry) -> (u16, Entry) {
        let chains = queue.needs.locks.iter().map(|&lock| self.chain(lock));
        let chain = chains.max().map_or(0, class);
        (chain.max(entry.0), entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_of_the_callers_own_is_kept_whatever_units_take() {
        let weight = |expected: u64, high: u64, known| Weight {
            expected: Micros(expected),
            high: Micros(high),
            order: Micros(1),
            known,
            early: 0,
        };
        let weights = [
            weight(10, 11, true),
            weight(2_000, 9_000, true),
            weight(50_000, 700_000, false),
            weight(20, 20, true),
        ];
        let mut queues = Queues::default();
        for (unit, weight) in (0..).zip(weights) {
            queues.add(unit, weight, &Needs::default());
        }
        let order = queues.list[0].waiting.iter().rev().map(|entry| entry.2.0);
        assert_eq!(order.collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
