//! How others schedule: pulled from a list in chunks of some size, or dealt out in advance.

use crate::model::Instance;
use crate::random::Random;
use crate::world::{Fact, Order, Policy};
use std::cmp::Reverse;
use std::collections::VecDeque;

/// How many units an asking slot gets.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Of(usize),
    /// An even share of what is left (Polychronopoulos and Kuck, 1987).
    Guided,
    /// Rounds that take half of what is left, in equal chunks (Hummel, Schonberg and Flynn, 1992).
    Factoring {
        size: usize,
        left: usize,
    },
}

/// Slots pull from one list.
pub struct Pull {
    list: VecDeque<u32>,
    chunk: Chunk,
    /// How many units a slot has ahead of the one at work.
    ahead: usize,
    held: Vec<Option<VecDeque<u32>>>,
}

impl Pull {
    fn boxed(instance: &Instance, list: Vec<u32>, chunk: Chunk, ahead: usize) -> Box<dyn Policy> {
        let held = instance.speeds.iter().map(|_| Some(VecDeque::new()));
        Box::new(Pull {
            list: list.into(),
            chunk,
            ahead,
            held: held.collect(),
        })
    }

    fn size(&mut self) -> usize {
        let slots = self.held.iter().flatten().count().max(1);
        let left = self.list.len();
        match &mut self.chunk {
            Chunk::Of(size) => *size,
            Chunk::Guided => left.div_ceil(slots),
            Chunk::Factoring { size, left: chunks } => {
                if *chunks == 0 {
                    (*size, *chunks) = (left.div_ceil(2 * slots), slots);
                }
                *chunks -= 1;
                *size
            }
        }
    }
}

impl Policy for Pull {
    fn hear(&mut self, _now: u64, facts: &[Fact]) {
        for fact in facts {
            match *fact {
                Fact::Ended { slot, unit, .. } => {
                    if let Some(held) = &mut self.held[slot as usize] {
                        held.retain(|other| *other != unit);
                    }
                }
                Fact::Gone { slot } => {
                    let lost = self.held[slot as usize].take().unwrap_or_default();
                    lost.into_iter()
                        .rev()
                        .for_each(|unit| self.list.push_front(unit));
                }
                Fact::Begun { .. } | Fact::Back { .. } | Fact::Kept => {}
            }
        }
    }

    fn decide(&mut self, _now: u64, orders: &mut Vec<Order>) {
        for holding in 0..=self.ahead {
            for slot in 0..self.held.len() {
                let asks = self.held[slot]
                    .as_ref()
                    .is_some_and(|held| held.len() == holding);
                if !asks || self.list.is_empty() {
                    continue;
                }
                let size = self.size().min(self.list.len());
                let units: Vec<u32> = self.list.drain(..size).collect();
                if let Some(held) = &mut self.held[slot] {
                    held.extend(&units);
                }
                let slot = slot as u32;
                orders.push(Order::Lease { slot, units });
            }
        }
    }
}

/// Each slot has its list from the start. What a lost one had goes as a whole to whoever is through first.
pub struct Dealt {
    hands: Vec<Vec<u32>>,
    held: Vec<Option<VecDeque<u32>>>,
    orphans: Vec<u32>,
}

impl Dealt {
    fn boxed(hands: Vec<Vec<u32>>) -> Box<dyn Policy> {
        Box::new(Dealt {
            held: hands
                .iter()
                .map(|hand| Some(hand.iter().copied().collect()))
                .collect(),
            hands,
            orphans: Vec::new(),
        })
    }
}

impl Policy for Dealt {
    fn hear(&mut self, _now: u64, facts: &[Fact]) {
        for fact in facts {
            match *fact {
                Fact::Ended { slot, unit, .. } => {
                    if let Some(held) = &mut self.held[slot as usize] {
                        held.retain(|other| *other != unit);
                    }
                }
                Fact::Gone { slot } => {
                    let lost = self.held[slot as usize].take().unwrap_or_default();
                    self.orphans.extend(lost);
                }
                Fact::Begun { .. } | Fact::Back { .. } | Fact::Kept => {}
            }
        }
    }

    fn decide(&mut self, _now: u64, orders: &mut Vec<Order>) {
        for (slot, units) in std::mem::take(&mut self.hands).into_iter().enumerate() {
            let slot = slot as u32;
            orders.push(Order::Lease { slot, units });
        }
        let mut held = self.held.iter_mut().enumerate();
        let idle = held
            .find_map(|(slot, held)| Some((slot, held.as_mut().filter(|held| held.is_empty())?)));
        if let Some((slot, held)) = idle.filter(|_| !self.orphans.is_empty()) {
            let units = std::mem::take(&mut self.orphans);
            held.extend(&units);
            orders.push(Order::Lease {
                slot: slot as u32,
                units,
            });
        }
    }
}

fn listed(instance: &Instance) -> Vec<u32> {
    (0..instance.times.len() as u32).collect()
}

/// What the history says, and for what it says nothing of what it says on average.
fn known(instance: &Instance) -> Vec<u64> {
    let known: Vec<u64> = instance.history.iter().flatten().copied().collect();
    let usual = known
        .iter()
        .sum::<u64>()
        .checked_div(known.len() as u64)
        .unwrap_or(1);
    let said = instance.history.iter();
    said.map(|said| said.unwrap_or(usual)).collect()
}

fn longest_first(instance: &Instance) -> Vec<u32> {
    let known = known(instance);
    let mut list = listed(instance);
    list.sort_by_key(|&unit| (Reverse(known[unit as usize]), unit));
    list
}

pub fn random_pull(instance: &Instance) -> Box<dyn Policy> {
    let mut list = listed(instance);
    Random::of(instance.seed, 5).shuffle(&mut list);
    Pull::boxed(instance, list, Chunk::Of(1), 0)
}

/// ABQ: batches of seven, in the order of the listing.
pub fn sevens(instance: &Instance) -> Box<dyn Policy> {
    Pull::boxed(instance, listed(instance), Chunk::Of(7), 0)
}

/// Maelstrom: the longest first, one at a time.
pub fn lpt_pull(instance: &Instance) -> Box<dyn Policy> {
    Pull::boxed(instance, longest_first(instance), Chunk::Of(1), 0)
}

pub fn lpt_ahead(instance: &Instance) -> Box<dyn Policy> {
    Pull::boxed(instance, longest_first(instance), Chunk::Of(1), 1)
}

pub fn guided(instance: &Instance) -> Box<dyn Policy> {
    Pull::boxed(instance, listed(instance), Chunk::Guided, 0)
}

pub fn factoring(instance: &Instance) -> Box<dyn Policy> {
    Pull::boxed(
        instance,
        listed(instance),
        Chunk::Factoring { size: 0, left: 0 },
        0,
    )
}

pub fn round_robin(instance: &Instance) -> Box<dyn Policy> {
    let mut hands = vec![Vec::new(); instance.speeds.len()];
    let slots = hands.len();
    for unit in listed(instance) {
        hands[unit as usize % slots].push(unit);
    }
    Dealt::boxed(hands)
}

/// By a hash of the unit's name.
pub fn hashed(instance: &Instance) -> Box<dyn Policy> {
    let mut hands = vec![Vec::new(); instance.speeds.len()];
    for unit in listed(instance) {
        let slot = Random::of(u64::from(unit), 6).below(hands.len());
        hands[slot].push(unit);
    }
    Dealt::boxed(hands)
}

/// pytest-split's least duration: the longest first to whoever has least, in the listing's order on each slot.
pub fn least_duration(instance: &Instance) -> Box<dyn Policy> {
    let known = known(instance);
    let mut hands = vec![Vec::new(); instance.speeds.len()];
    let mut loads = vec![0; hands.len()];
    for unit in longest_first(instance) {
        let least = (0..loads.len()).min_by_key(|&slot| loads[slot]);
        let slot = least.expect("there are slots");
        loads[slot] += known[unit as usize];
        hands[slot].push(unit);
    }
    hands.iter_mut().for_each(|hand| hand.sort_unstable());
    Dealt::boxed(hands)
}
