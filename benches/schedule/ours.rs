//! The dispatcher and the estimates of the coordinator, called as its run calls them.

use crate::estimates::Estimates;
use crate::model::Instance;
use crate::random::Random;
use crate::world::{Fact, Order, Policy};
use evenkeel_schedule::{Dispatcher, Micros, Needs};

/// With no more slots than this, the run looks at all of them each time; with more, from time to time.
const FEW: usize = 64;
const LOOK: u64 = 50_000;
/// What their random numbers are for.
const SUSPECTS: u64 = 77;

pub struct Ours {
    dispatcher: Dispatcher,
    estimates: Estimates,
    /// When each slot began its unit.
    begun: Vec<u64>,
    /// What each slot holds, in its order; nothing where it is gone.
    held: Vec<Option<Vec<u32>>>,
    stirred: Vec<u32>,
    stir_all: bool,
    looked: u64,
    version: u64,
    /// What a lease costs, where that is worth bundling.
    lease: Micros,
    /// How many units a slot may have ahead of the one at work.
    ahead: usize,
    asked: Option<(u32, u32)>,
}

/// One unit ahead of the one at work.
pub fn one_ahead(instance: &Instance) -> Box<dyn Policy> {
    Box::new(Ours::new(instance, 1))
}

/// One unit in twenty may well fail, whatever it takes: with them early where that costs nothing, and with them first.
pub fn with_suspects(instance: &Instance) -> Box<dyn Policy> {
    Box::new(Ours::suspecting(
        instance,
        evenkeel_schedule::Order::Balanced,
    ))
}

pub fn suspects_first(instance: &Instance) -> Box<dyn Policy> {
    Box::new(Ours::suspecting(
        instance,
        evenkeel_schedule::Order::FirstRed,
    ))
}

/// As many as the dispatcher likes.
pub fn freely(instance: &Instance) -> Box<dyn Policy> {
    Box::new(Ours::new(instance, usize::MAX))
}

impl Ours {
    fn suspecting(instance: &Instance, order: evenkeel_schedule::Order) -> Ours {
        let mut ours = Ours::new(instance, 1);
        ours.dispatcher.set_order(order);
        let mut draw = Random::of(instance.times.len() as u64, SUSPECTS);
        for unit in 0..instance.times.len() as u32 {
            if draw.below(20) == 0 {
                ours.dispatcher.suspect(unit, 1);
            }
        }
        ours
    }

    fn new(instance: &Instance, ahead: usize) -> Ours {
        let mut dispatcher = Dispatcher::new();
        let slots = instance.speeds.len() as u32;
        (0..slots).for_each(|slot| dispatcher.expect(slot, 0));
        let estimates = Estimates::new(instance);
        for unit in 0..instance.times.len() as u32 {
            dispatcher.add(unit, estimates.weight(unit), &Needs::default());
        }
        (0..slots).for_each(|slot| dispatcher.open(slot));
        Ours {
            dispatcher,
            estimates,
            begun: vec![0; slots as usize],
            held: vec![Some(Vec::new()); slots as usize],
            stirred: Vec::new(),
            stir_all: true,
            looked: 0,
            version: 0,
            lease: Micros(instance.lease),
            ahead,
            asked: None,
        }
    }

    fn again(&mut self, unit: u32) {
        let weight = self.estimates.weight(unit);
        self.dispatcher.add(unit, weight, &Needs::default());
    }

    /// The slots that may get something now.
    fn looks_at(&mut self, now: u64) -> Vec<u32> {
        let version = self.dispatcher.version();
        let all = self.held.len() <= FEW || self.stir_all || version != self.version;
        let due = self.dispatcher.take_due(Micros(now));
        let mut stirred = std::mem::take(&mut self.stirred);
        if all || now >= self.looked + LOOK {
            (self.stir_all, self.looked, self.version) = (false, now, version);
            return (0..self.held.len() as u32).collect();
        }
        stirred.extend(due);
        stirred.sort_unstable();
        stirred.dedup();
        stirred
    }

    fn give(&mut self, now: u64, slot: u32, most: usize, orders: &mut Vec<Order>) {
        if self.lease > Micros::ZERO {
            let units = self.dispatcher.bundle(slot, Micros(now), self.lease);
            self.lease_out(slot, units, orders);
            return;
        }
        for _ in 0..most {
            let held = self.held[slot as usize].as_ref().map_or(0, Vec::len);
            if held > self.ahead {
                return;
            }
            let Some(unit) = self.dispatcher.next(slot, Micros(now)) else {
                return;
            };
            self.lease_out(slot, vec![unit], orders);
        }
    }

    fn lease_out(&mut self, slot: u32, units: Vec<u32>, orders: &mut Vec<Order>) {
        if let Some(held) = self.held[slot as usize]
            .as_mut()
            .filter(|_| !units.is_empty())
        {
            held.extend(&units);
            orders.push(Order::Lease { slot, units });
        }
    }

    /// What waits behind a long unit while another slot has nothing is asked back.
    fn take_back(&mut self, now: u64, orders: &mut Vec<Order>) {
        let taker = (0..self.held.len() as u32).any(|slot| self.dispatcher.is_free(slot));
        if !taker && !self.dispatcher.is_waiting() {
            return;
        }
        if self.asked.is_some() || self.lease > Micros::ZERO {
            return;
        }
        if let Some((slot, unit)) = self.dispatcher.stranded(Micros(now)) {
            self.asked = Some((slot, unit));
            orders.push(Order::Return { slot, unit });
        }
    }
}

impl Policy for Ours {
    fn hear(&mut self, now: u64, facts: &[Fact]) {
        for fact in facts {
            match *fact {
                Fact::Begun { slot, unit, at } => {
                    self.dispatcher.begun(slot, unit, Micros(at));
                    self.begun[slot as usize] = at;
                    self.stirred.push(slot);
                }
                Fact::Ended { slot, unit, at } => {
                    let took = Micros(at - self.begun[slot as usize].min(at));
                    let work = self.dispatcher.at_reference(slot, took);
                    self.dispatcher.finished(slot, unit, Micros(at));
                    for moved in self.estimates.observe(unit, work) {
                        self.dispatcher.reweigh(moved, self.estimates.weight(moved));
                    }
                    if let Some(held) = &mut self.held[slot as usize] {
                        held.retain(|other| *other != unit);
                    }
                    self.stirred.push(slot);
                }
                Fact::Back { slot, unit } => {
                    let Some(held) = &mut self.held[slot as usize] else {
                        continue;
                    };
                    held.retain(|other| *other != unit);
                    self.dispatcher.finished(slot, unit, Micros(now));
                    self.again(unit);
                    self.asked = None;
                    self.stir_all = true;
                }
                Fact::Kept => self.asked = None,
                Fact::Gone { slot } => {
                    self.dispatcher.close(slot);
                    let lost = self.held[slot as usize].take().unwrap_or_default();
                    lost.into_iter().for_each(|unit| self.again(unit));
                    self.asked = self.asked.filter(|(asked, _)| *asked != slot);
                    self.stir_all = true;
                }
            }
        }
    }

    fn decide(&mut self, now: u64, orders: &mut Vec<Order>) {
        let slots = self.looks_at(now);
        for &slot in &slots {
            if self.dispatcher.is_free(slot) {
                self.give(now, slot, 1, orders);
            }
        }
        for &slot in &slots {
            self.give(now, slot, usize::MAX, orders);
        }
        self.take_back(now, orders);
    }

    fn wake_at(&self, now: u64) -> Option<u64> {
        // As the run does: with many slots all are looked at from time to time.
        let many = self.held.len() > FEW && self.dispatcher.is_waiting();
        let look = many.then_some(self.looked + LOOK);
        let wake = self.dispatcher.wake_at(Micros(now)).map(|at| at.0);
        wake.into_iter().chain(look).min()
    }
}
