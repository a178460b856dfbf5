//! pytest-xdist 3's two schedulers for single tests, `load` and `worksteal`, as their sources have them.
//!
//! That a worker does not begin its last test before it knows whether another one follows is left out, in their favour.

use crate::model::Instance;
use crate::world::{Fact, Order, Policy};
use std::collections::VecDeque;

/// A worker that has fewer than this is given more, and cannot be stolen from.
const LEAST: usize = 2;
/// Who takes this long for a test is not given more while it has some.
const LONG: u64 = 100_000;

struct Workers {
    pending: VecDeque<u32>,
    /// What each has, the one at work included; nothing where it is gone.
    held: Vec<Option<VecDeque<u32>>>,
    begun: Vec<u64>,
    /// How long the last test of each took.
    took: Vec<u64>,
}

impl Workers {
    fn new(instance: &Instance) -> Workers {
        let slots = instance.speeds.len();
        Workers {
            pending: (0..instance.times.len() as u32).collect(),
            held: vec![Some(VecDeque::new()); slots],
            begun: vec![0; slots],
            took: vec![0; slots],
        }
    }

    fn count(&self) -> usize {
        self.held.iter().flatten().count().max(1)
    }

    fn send(&mut self, slot: usize, count: usize, orders: &mut Vec<Order>) {
        let count = count.min(self.pending.len());
        let units: Vec<u32> = self.pending.drain(..count).collect();
        if let Some(held) = self.held[slot].as_mut().filter(|_| count > 0) {
            held.extend(&units);
            let slot = slot as u32;
            orders.push(Order::Lease { slot, units });
        }
    }

    fn hear(&mut self, fact: &Fact) {
        match *fact {
            Fact::Begun { slot, at, .. } => self.begun[slot as usize] = at,
            Fact::Ended { slot, unit, at } => {
                self.took[slot as usize] = at - self.begun[slot as usize].min(at);
                if let Some(held) = &mut self.held[slot as usize] {
                    held.retain(|other| *other != unit);
                }
            }
            Fact::Gone { slot } => {
                let lost = self.held[slot as usize].take().unwrap_or_default();
                self.pending.extend(lost);
            }
            Fact::Back { slot, unit } => {
                if let Some(held) = &mut self.held[slot as usize] {
                    held.retain(|other| *other != unit);
                    self.pending.push_back(unit);
                }
            }
            Fact::Kept => {}
        }
    }
}

struct Load {
    workers: Workers,
    begun: bool,
}

pub fn load(instance: &Instance) -> Box<dyn Policy> {
    Box::new(Load {
        workers: Workers::new(instance),
        begun: false,
    })
}

impl Policy for Load {
    fn hear(&mut self, _now: u64, facts: &[Fact]) {
        facts.iter().for_each(|fact| self.workers.hear(fact));
    }

    fn decide(&mut self, _now: u64, orders: &mut Vec<Order>) {
        let workers = &mut self.workers;
        let slots = 0..workers.held.len();
        if !std::mem::replace(&mut self.begun, true) {
            let first = (workers.pending.len() / (4 * workers.count())).max(LEAST);
            slots.for_each(|slot| workers.send(slot, first, orders));
            return;
        }
        for slot in slots {
            let Some(held) = workers.held[slot].as_ref().map(VecDeque::len) else {
                continue;
            };
            let each = workers.pending.len() / workers.count();
            let (least, most) = ((each / 4).max(LEAST), (each / 2).max(LEAST));
            let waits = workers.took[slot] >= LONG && held >= LEAST;
            if held < least && !waits {
                workers.send(slot, most - held, orders);
            }
        }
    }
}

struct Steal {
    workers: Workers,
    begun: bool,
    /// How many of the tests that were asked back have not been answered for.
    asked: usize,
}

pub fn worksteal(instance: &Instance) -> Box<dyn Policy> {
    Box::new(Steal {
        workers: Workers::new(instance),
        begun: false,
        asked: 0,
    })
}

impl Steal {
    /// Deals out all that is pending, evenly.
    fn deal(&mut self, slots: &[usize], orders: &mut Vec<Order>) {
        for (at, &slot) in slots.iter().enumerate() {
            let count = self.workers.pending.len() / (slots.len() - at);
            self.workers.send(slot, count, orders);
        }
    }
}

impl Policy for Steal {
    fn hear(&mut self, _now: u64, facts: &[Fact]) {
        for fact in facts {
            if matches!(fact, Fact::Back { .. } | Fact::Kept) {
                self.asked = self.asked.saturating_sub(1);
            }
            if matches!(fact, Fact::Gone { .. }) {
                self.asked = 0;
            }
            self.workers.hear(fact);
        }
    }

    fn decide(&mut self, _now: u64, orders: &mut Vec<Order>) {
        let held =
            |steal: &Steal, slot: usize| steal.workers.held[slot].as_ref().map(VecDeque::len);
        let slots = 0..self.workers.held.len();
        let all: Vec<usize> = slots.filter(|&slot| held(self, slot).is_some()).collect();
        if !std::mem::replace(&mut self.begun, true) {
            self.deal(&all, orders);
            return;
        }
        let idle = all.iter().copied();
        let idle: Vec<usize> = idle
            .filter(|&slot| held(self, slot) < Some(LEAST))
            .collect();
        if idle.is_empty() || self.asked > 0 {
            return;
        }
        self.deal(&idle, orders);
        if idle.iter().all(|&slot| held(self, slot) >= Some(LEAST)) {
            return;
        }
        let most = all
            .iter()
            .copied()
            .max_by_key(|&slot| (held(self, slot), slot));
        let Some((victim, queue)) =
            most.and_then(|slot| Some((slot, self.workers.held[slot].as_ref()?)))
        else {
            return;
        };
        let count = (queue.len() / 2).min(queue.len().saturating_sub(LEAST));
        self.asked = count;
        let slot = victim as u32;
        let stolen = queue.iter().rev().take(count);
        orders.extend(stolen.map(|&unit| Order::Return { slot, unit }));
    }
}
