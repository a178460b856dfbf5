//! MULTIFIT with slots that differ: the smallest makespan, found by bisection, into which first-fit decreasing packs everything.
//!
//! Coffman, Garey and Johnson (1978) for slots of one speed: at most 13/11 of the best (Yue, 1990), and what is left of the range. For several speeds, with the slowest
//! slot first, Friesen and Langston, "Bounds for multifit scheduling on uniform processors" (1983): at most 1.4. Slots that units of few
//! kinds may run on come first, so that what may run anywhere leaves the others to those that may not.

use super::blocks::Blocks;
use super::place::{Draft, Item};
use super::planted::{Fault, is_planted};

/// More halvings of the range do not change a plan that anybody could tell.
const PASSES: usize = 12;

/// The best packing that ends before `upper` and not before `low`, if any is found by placing no more than `placements` blocks.
pub(super) fn multifit(
    blocks: &Blocks<'_>,
    order: &[Item],
    base: &Draft,
    mut low: u64,
    upper: u64,
    placements: usize,
) -> Option<Draft> {
    let passes = PASSES.min(placements / order.len().max(1));
    let mut high = upper;
    let mut best = None;
    let rank = fit_order(blocks);
    for _ in 0..passes {
        if low >= high {
            break;
        }
        let capacity = low + (high - low) / 2;
        let over = if is_planted(Fault::Overfull) {
            capacity + capacity / 8
        } else {
            capacity
        };
        match first_fit(blocks, order, base, &rank, over) {
            Some(packed) => {
                high = packed.last.min(capacity);
                best = Some(packed);
            }
            None => low = capacity + 1,
        }
    }
    best
}

/// Which slots are looked at first.
fn fit_order(blocks: &Blocks<'_>) -> Vec<u32> {
    let mut kinds = vec![0u32; blocks.slots.len()];
    for &slot in blocks.sets.iter().flatten() {
        kinds[slot as usize] += 1;
    }
    let mut order = blocks.sets[0].clone();
    order.sort_by_key(|&slot| {
        (
            kinds[slot as usize],
            blocks.slots[slot as usize].speed_milli,
            slot,
        )
    });
    let mut rank = vec![0; blocks.slots.len()];
    for (at, slot) in (0..).zip(order) {
        rank[slot as usize] = at;
    }
    rank
}

fn first_fit(
    blocks: &Blocks<'_>,
    order: &[Item],
    base: &Draft,
    rank: &[u32],
    capacity: u64,
) -> Option<Draft> {
    let mut draft = base.clone();
    let mut trees: Vec<Option<Space>> = blocks.sets.iter().map(|_| None).collect();
    for &item in order {
        let class = &blocks.classes[item.class as usize];
        let left = |draft: &Draft, slot: u32| {
            let left = capacity.saturating_sub(draft.ends[slot as usize]);
            let work =
                u128::from(left) * u128::from(blocks.slots[slot as usize].speed_milli) / 1000;
            u64::try_from(work).unwrap_or(u64::MAX)
        };
        let tree = trees[class.set].get_or_insert_with(|| {
            let mut slots = blocks.sets[class.set].clone();
            slots.sort_by_key(|&slot| rank[slot as usize]);
            Space::new(slots, |slot| left(&draft, slot))
        });
        let fits = |slot: u32| {
            // What weighs nothing would fit a slot that is ready too late.
            draft.ends[slot as usize] <= capacity
                && (!class.is_particular() || draft.room.allows(blocks, class, slot))
        };
        let slot = tree.first(1, item.weight(), &|slot| left(&draft, slot), &fits)?;
        let end = draft.end_on(blocks, item, slot);
        draft.put(blocks, item, slot, end);
    }
    Some(draft)
}

/// Slots in the order in which they are looked at, with the most space below each node of a binary tree. Space only shrinks, so
/// what a tree has seen is never too little, and several trees share slots as those of [`super::ends`] do.
struct Space {
    slots: Vec<u32>,
    width: usize,
    space: Vec<u64>,
}

impl Space {
    fn new(slots: Vec<u32>, left: impl Fn(u32) -> u64) -> Space {
        let width = slots.len().next_power_of_two();
        let mut space = vec![0; 2 * width];
        for (leaf, &slot) in slots.iter().enumerate() {
            space[width + leaf] = left(slot);
        }
        for node in (1..width).rev() {
            space[node] = space[2 * node].max(space[2 * node + 1]);
        }
        Space {
            slots,
            width,
            space,
        }
    }

    /// The first slot below a node that has space for so much work and fits.
    fn first(
        &mut self,
        node: usize,
        weight: u64,
        left: &impl Fn(u32) -> u64,
        fits: &impl Fn(u32) -> bool,
    ) -> Option<u32> {
        if self.space[node] < weight {
            return None;
        }
        if node < self.width {
            let first = self.first(2 * node, weight, left, fits);
            return first.or_else(|| self.first(2 * node + 1, weight, left, fits));
        }
        let slot = *self.slots.get(node - self.width)?;
        let truth = left(slot);
        if truth < self.space[node] {
            self.set(node, truth);
        }
        (truth >= weight && fits(slot)).then_some(slot)
    }

    fn set(&mut self, mut node: usize, space: u64) {
        self.space[node] = space;
        while node > 1 {
            node /= 2;
            let most = self.space[2 * node].max(self.space[2 * node + 1]);
            if self.space[node] == most {
                break;
            }
            self.space[node] = most;
        }
    }
}
