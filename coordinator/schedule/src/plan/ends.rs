//! Which slot would end a unit first: a tree over the slots that may run it, that need not be told what others do to them.
//!
//! While units are placed the end of a slot only grows, so an end that a tree has seen is never too late: a tree looks at what a slot
//! really has when it comes to it. So several trees, one for each set of slots, share slots at no cost.

use super::planted::{Fault, is_planted};
use super::problem::takes;

/// Above every end: there is no slot here.
const NONE: u64 = u64::MAX;
/// Fixed-point digits of what a microsecond of work takes at least.
const PACE_BITS: u32 = 32;

/// Another reference weight is taken for a unit that differs from it by more than this share, as its reciprocal.
const NEAR: u64 = 64;

/// A slot that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    leaf: usize,
    pub slot: u32,
    /// When the unit ends there.
    pub end: u64,
}

/// Slots, the fastest first, in the leaves of a binary tree. Each node knows when a unit of a reference weight ends at the earliest on a slot below it; for
/// one of nearly that weight this says nearly exactly where not to look.
pub(super) struct Ends {
    /// The slot of each leaf, and its speed.
    slots: Vec<u32>,
    speeds: Vec<u32>,
    /// How many leaves there are, a power of two; the node of leaf i is `width + i`, the root 1.
    width: usize,
    nodes: Vec<Node>,
    /// All slots are of one speed: then the reference weight is 0, and the slot that is free first is right for all.
    even: bool,
    reference: u64,
}

#[derive(Clone, Copy)]
struct Node {
    /// The least end of a unit of the reference weight on a slot below it.
    end: u64,
    /// What a unit takes on any of these slots, per microsecond of its weight: at least, and at most.
    fast: u64,
    slow: u64,
}

impl Ends {
    /// `speeds` and `ends` are by slot; speeds are above 0.
    pub(super) fn new(slots: &[u32], speeds: &[u32], ends: &[u64]) -> Ends {
        let mut slots = slots.to_vec();
        slots.sort_by_key(|&slot| (std::cmp::Reverse(speeds[slot as usize]), slot));
        let width = slots.len().next_power_of_two();
        let speeds: Vec<u32> = slots.iter().map(|&slot| speeds[slot as usize]).collect();
        let leaf = |leaf: usize| {
            let speed = speeds.get(leaf).or(speeds.last()).copied();
            let pace = (1000u64 << PACE_BITS) / u64::from(speed.unwrap_or(1000));
            Node {
                end: NONE,
                fast: pace,
                slow: pace + 1,
            }
        };
        let mut nodes = vec![leaf(0); 2 * width];
        for node in (1..2 * width).rev() {
            nodes[node] = match node.checked_sub(width) {
                Some(at) => leaf(at),
                None => Node {
                    slow: nodes[2 * node + 1].slow,
                    ..nodes[2 * node]
                },
            };
        }
        let mut tree = Ends {
            width,
            nodes,
            even: speeds.first() == speeds.last(),
            speeds,
            slots,
            reference: 0,
        };
        tree.refer(0, ends);
        tree
    }

    /// The slot on which a unit of this weight ends first, and when, by what slots really have; equal ends go to the faster slot, then to the lower
    /// number. `allowed` rules slots out.
    pub(super) fn find(
        &mut self,
        weight: u64,
        truth: &[u64],
        mut allowed: impl FnMut(u32) -> bool,
    ) -> Option<Found> {
        let near = self.reference / NEAR;
        if !self.even && weight.abs_diff(self.reference) > near {
            self.refer(weight, truth);
        }
        let mut best = None;
        self.search(1, weight, truth, &mut allowed, &mut best);
        best.map(|(end, leaf)| Found {
            leaf,
            slot: self.slots[leaf],
            end,
        })
    }

    /// As [`Ends::find`], where every slot is allowed.
    pub(super) fn find_any(&mut self, weight: u64, truth: &[u64]) -> Option<Found> {
        if !self.even && !is_planted(Fault::SpeedBlind) {
            return self.find(weight, truth, |_| true);
        }
        loop {
            let least = self.nodes[1].end;
            if least == NONE {
                return None;
            }
            let mut node = 1;
            while node < self.width {
                node = 2 * node + usize::from(self.nodes[2 * node].end != least);
            }
            let leaf = node - self.width;
            let slot = self.slots[leaf];
            let end = truth[slot as usize];
            if end == least || is_planted(Fault::StaleEnds) {
                let end = end.saturating_add(takes(weight, self.speeds[leaf]));
                return Some(Found { leaf, slot, end });
            }
            self.set(leaf, end);
        }
    }

    /// The unit for which the slot was found runs there. Other trees find that out by themselves.
    pub(super) fn fill(&mut self, found: Found) {
        self.set(found.leaf, self.end_of_reference(found.leaf, found.end));
    }

    /// Looks below a node.
    fn search(
        &mut self,
        node: usize,
        weight: u64,
        truth: &[u64],
        allowed: &mut impl FnMut(u32) -> bool,
        best: &mut Option<(u64, usize)>,
    ) {
        if node < self.width {
            let (left, right) = (2 * node, 2 * node + 1);
            let mut near = (self.low(left, weight), left);
            let mut far = (self.low(right, weight), right);
            if far < near {
                std::mem::swap(&mut near, &mut far);
            }
            for (low, child) in [near, far] {
                let worse = |best: (u64, usize)| {
                    low > best.0 || low == best.0 && self.first_leaf(child) >= best.1
                };
                if low < NONE && !best.is_some_and(worse) {
                    self.search(child, weight, truth, allowed, best);
                }
            }
            return;
        }
        let leaf = node - self.width;
        let Some(&slot) = self.slots.get(leaf) else {
            return;
        };
        let at = truth[slot as usize];
        let end = self.end_of_reference(leaf, at);
        if self.nodes[node].end != end {
            self.set(leaf, end);
        }
        let here = (at.saturating_add(takes(weight, self.speeds[leaf])), leaf);
        if best.is_none_or(|best| here < best) && allowed(slot) {
            *best = Some(here);
        }
    }

    /// No unit of this weight ends earlier on any slot below the node.
    fn low(&self, node: usize, weight: u64) -> u64 {
        let Node { end, fast, slow } = self.nodes[node];
        match weight.checked_sub(self.reference) {
            Some(more) => end.saturating_add(paced(more, fast)),
            None if end == NONE => NONE,
            None => end.saturating_sub(paced(self.reference - weight, slow).saturating_add(1)),
        }
    }

    fn first_leaf(&self, node: usize) -> usize {
        let levels = self.width.ilog2() - node.ilog2();
        (node << levels) - self.width
    }

    /// When a unit of the reference weight ends on a slot that is free at some time; a little early.
    fn end_of_reference(&self, leaf: usize, at: u64) -> u64 {
        let pace = self.nodes[self.width + leaf].fast;
        at.saturating_add(paced(self.reference, pace)).min(NONE - 1)
    }

    /// Takes another reference weight.
    fn refer(&mut self, reference: u64, truth: &[u64]) {
        self.reference = reference;
        for leaf in 0..self.slots.len() {
            let end = self.end_of_reference(leaf, truth[self.slots[leaf] as usize]);
            self.nodes[self.width + leaf].end = end;
        }
        for node in (1..self.width).rev() {
            let (left, right) = (self.nodes[2 * node].end, self.nodes[2 * node + 1].end);
            self.nodes[node].end = left.min(right);
        }
    }

    fn set(&mut self, leaf: usize, end: u64) {
        let mut node = self.width + leaf;
        self.nodes[node].end = end;
        while node > 1 {
            node /= 2;
            let (left, right) = (self.nodes[2 * node].end, self.nodes[2 * node + 1].end);
            if self.nodes[node].end == left.min(right) {
                break;
            }
            self.nodes[node].end = left.min(right);
        }
    }
}

/// What a weight takes at a pace, rounded down.
fn paced(weight: u64, pace: u64) -> u64 {
    let took = (u128::from(weight) * u128::from(pace)) >> PACE_BITS;
    u64::try_from(took).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many units, some of which fit every third slot only, against looking at each slot.
    #[test]
    fn trees_that_share_slots_find_what_looking_at_each_slot_finds() {
        let mut random = 7u64;
        let mut draw = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        for speeds in [
            vec![1000; 13],
            (0..13).map(|slot| 400 + 150 * (slot % 5)).collect(),
        ] {
            let all: Vec<u32> = (0..13).collect();
            let some: Vec<u32> = all.iter().copied().filter(|slot| slot % 3 == 0).collect();
            let mut truth = vec![0; 13];
            let mut trees = [&all, &some].map(|slots| Ends::new(slots, &speeds, &truth));
            for _ in 0..2000 {
                let (weight, of, barred) = (draw(50), draw(2) as usize, draw(26) as u32);
                let slots = [&all, &some][of].iter().filter(|&&slot| slot != barred);
                let end = |slot: u32| truth[slot as usize] + takes(weight, speeds[slot as usize]);
                let wanted = slots
                    .map(|&slot| (end(slot), std::cmp::Reverse(speeds[slot as usize]), slot))
                    .min()
                    .map(|(end, _, slot)| (slot, end));
                let found = match barred {
                    13.. => trees[of].find_any(weight, &truth),
                    _ => trees[of].find(weight, &truth, |slot| slot != barred),
                };
                let told = found.map(|found| (found.slot, found.end));
                assert_eq!(told, wanted, "{speeds:?} {truth:?}");
                let found = found.expect("there are several slots");
                truth[found.slot as usize] = found.end;
                if draw(2) == 0 {
                    trees[of].fill(found);
                }
            }
        }
    }
}
