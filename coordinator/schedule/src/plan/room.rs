//! Where units that are particular about their company may still go.

use super::blocks::{Blocks, Class};
use super::planted::{Fault, is_planted};
use std::collections::BTreeMap;

/// Which slots have units of which groups. Groups are allotted memory when one of their units is placed.
#[derive(Clone, Default)]
pub(super) struct Room {
    /// By rule: the slots that have one of its units, a bit each.
    apart: Vec<Vec<u64>>,
    /// By rule: how many of its units each slot has.
    limited: Vec<Vec<u32>>,
    /// By rule and agent: how many of its slots have any.
    used: BTreeMap<(u32, u32), u32>,
}

impl Room {
    pub(super) fn new(blocks: &Blocks<'_>) -> Room {
        Room {
            apart: vec![Vec::new(); blocks.aparts],
            limited: vec![Vec::new(); blocks.limits.len()],
            used: BTreeMap::new(),
        }
    }

    /// Whether the rules about its company let a block of this class run on a slot.
    pub(super) fn allows(&self, blocks: &Blocks<'_>, class: &Class, slot: u32) -> bool {
        let bit = |words: &Vec<u64>| {
            words
                .get(slot as usize / 64)
                .is_some_and(|word| word >> (slot % 64) & 1 == 1)
        };
        let apart = class
            .apart
            .iter()
            .all(|&rule| !bit(&self.apart[rule as usize]));
        let agent = blocks.slots[slot as usize].agent;
        let fits = |&rule: &u32| {
            let here = self.limited[rule as usize].get(slot as usize);
            let most = blocks.limits[rule as usize] + u32::from(is_planted(Fault::OverMaximum));
            here.is_some_and(|&count| count > 0)
                || self.used.get(&(rule, agent)).copied().unwrap_or_default() < most
        };
        (apart || is_planted(Fault::Shared)) && class.limits.iter().all(fits)
    }

    pub(super) fn take(&mut self, blocks: &Blocks<'_>, class: &Class, slot: u32) {
        let count = blocks.slots.len();
        for &rule in &class.apart {
            let words = &mut self.apart[rule as usize];
            words.resize(count.div_ceil(64), 0);
            words[slot as usize / 64] |= 1 << (slot % 64);
        }
        for &rule in &class.limits {
            let counts = &mut self.limited[rule as usize];
            counts.resize(count, 0);
            counts[slot as usize] += 1;
            if counts[slot as usize] == 1 {
                let agent = blocks.slots[slot as usize].agent;
                *self.used.entry((rule, agent)).or_default() += 1;
            }
        }
    }

    /// Takes back what [`Room::take`] did.
    pub(super) fn release(&mut self, blocks: &Blocks<'_>, class: &Class, slot: u32) {
        for &rule in &class.apart {
            self.apart[rule as usize][slot as usize / 64] &= !(1 << (slot % 64));
        }
        for &rule in &class.limits {
            let count = &mut self.limited[rule as usize][slot as usize];
            *count -= 1;
            if *count == 0 {
                let agent = blocks.slots[slot as usize].agent;
                *self.used.entry((rule, agent)).or_default() -= 1;
            }
        }
    }
}
