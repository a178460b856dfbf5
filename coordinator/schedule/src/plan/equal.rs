//! Plans for slots of one speed and units that fit each of them.

use super::Plan;
use crate::Micros;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Above this product of units and slots MULTIFIT is not tried: LPT is then within a fraction of a percent anyway.
const MULTIFIT_LIMIT: usize = 400_000;

/// The better of LPT and MULTIFIT for equal slots. `free[j]` is when slot j can start; `weights[i]` is what unit i takes.
/// Without slots the plan is empty and its makespan zero.
pub fn plan(weights: &[Micros], free: &[Micros]) -> Plan {
    let first = lpt(weights, free);
    if weights.len().saturating_mul(free.len()) > MULTIFIT_LIMIT {
        return first;
    }
    match multifit(weights, free, first.makespan) {
        Some(better) if better.makespan < first.makespan => better,
        _ => first,
    }
}

/// Longest processing time first: the largest unit left goes to the slot that is free first. On slots that are all free
/// at once its makespan is at most 4/3 − 1/(3m) of the best (Graham, "Bounds on multiprocessing timing anomalies", 1969).
pub fn lpt(weights: &[Micros], free: &[Micros]) -> Plan {
    let mut shards = vec![Vec::new(); free.len()];
    let mut slots: BinaryHeap<Reverse<(Micros, usize)>> = free
        .iter()
        .enumerate()
        .map(|(slot, &at)| Reverse((at, slot)))
        .collect();
    let mut makespan = Micros::ZERO;
    for unit in largest_first(weights) {
        let Some(Reverse((at, slot))) = slots.pop() else {
            break;
        };
        let end = at + weights[unit as usize];
        shards[slot].push(unit);
        makespan = makespan.max(end);
        slots.push(Reverse((end, slot)));
    }
    Plan {
        shards,
        makespan,
        held: Vec::new(),
    }
}

/// MULTIFIT: the smallest capacity, found by bisection, into which first-fit decreasing packs everything (Coffman, Garey
/// and Johnson, "An application of bin-packing to multiprocessor scheduling", 1978). Looks below `upper` only and returns
/// nothing where no such packing is found.
pub fn multifit(weights: &[Micros], free: &[Micros], upper: Micros) -> Option<Plan> {
    let slots = u64::try_from(free.len()).ok().filter(|&m| m > 0)?;
    let order = largest_first(weights);
    let total: Micros = weights.iter().chain(free).copied().sum();
    let longest = order
        .first()
        .map_or(Micros::ZERO, |&unit| weights[unit as usize]);
    let first_free = free.iter().copied().min().unwrap_or_default();
    let mut low = Micros(total.0 / slots).max(first_free + longest).0;
    let mut high = upper.0;
    let mut best = None;
    for _ in 0..12 {
        if low >= high {
            break;
        }
        let capacity = low + (high - low) / 2;
        match first_fit(weights, &order, free, Micros(capacity)) {
            Some(packed) => {
                high = packed.makespan.0.min(capacity);
                best = Some(packed);
            }
            None => low = capacity + 1,
        }
    }
    best
}

fn first_fit(weights: &[Micros], order: &[u32], free: &[Micros], capacity: Micros) -> Option<Plan> {
    let mut shards = vec![Vec::new(); free.len()];
    let mut ends = free.to_vec();
    let mut makespan = Micros::ZERO;
    for &unit in order {
        let weight = weights[unit as usize];
        let slot = ends.iter().position(|&end| end + weight <= capacity)?;
        ends[slot] += weight;
        makespan = makespan.max(ends[slot]);
        shards[slot].push(unit);
    }
    Some(Plan {
        shards,
        makespan,
        held: Vec::new(),
    })
}

fn largest_first(weights: &[Micros]) -> Vec<u32> {
    let count = u32::try_from(weights.len()).expect("a run has fewer than 2^32 units");
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_by_key(|&unit| (Reverse(weights[unit as usize]), unit));
    order
}
