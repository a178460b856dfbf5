//! The plan of a whole problem, in phases: what needs locks, then all that may run side by side, then what must run alone.

use super::Plan;
use super::blocks::{Blocks, Class};
use super::exact::{feasible, improve};
use super::pack::multifit;
use super::place::{Draft, Item, NOWHERE, earliest, largest_first};
use super::planted::{Fault, is_planted};
use super::problem::{PlanError, Problem, takes};
use crate::{Micros, SlotCapacity, lower_bound};
use std::cmp::Reverse;

/// With more blocks than this a plan is good enough when it is this near to the bound, as its reciprocal.
const FEW: usize = 2000;
const NEAR: u64 = 1000;
/// MULTIFIT places no more blocks than this, over all its passes: a few milliseconds.
const PLACEMENTS: usize = 200_000;
/// The exact search is tried with so few blocks, and looks at so many nodes.
const COARSE: usize = 40;
const NODES: u32 = 20_000;
/// An earlier plan is kept where that costs no more than this share of the makespan, as its reciprocal.
const WORTH_MOVING: u64 = 200;

/// Plans all units of a problem. Of slots and orders that make no difference the lower number comes first, so that the same problem has the
/// same plan, byte for byte.
///
/// Units that need locks come first on their slots, in chains, so that the longest chain starts at once. What must run alone comes at
/// the end, when all slots are through. Between the two the plan is the best of LPT by earliest end, LPT with the choosiest
/// units first, and MULTIFIT; with few units the best there is, as far as a bounded search finds it.
///
/// `previous` is a plan of an earlier state of the same problem: a unit stays on its slot while the plan ends no more than half a
/// percent later for that.
///
/// # Errors
/// Where the rules cannot be kept; the error names a unit. Where units have to be apart in many overlapping groups a plan may exist that is not found.
pub fn solve(problem: &Problem<'_>, previous: Option<&Plan>) -> Result<Plan, PlanError> {
    let blocks = Blocks::new(problem)?;
    match phases(&blocks, previous, None) {
        Ok(plan) => Ok(plan),
        // Somebody took the last place of somebody else: those who mind get theirs first.
        Err(_) => {
            let forced = feasible(&blocks)?;
            phases(&blocks, None, Some(&forced)).map_err(|unit| PlanError::NotFound { unit })
        }
    }
}

/// When blocks start that do not simply follow the one before.
#[derive(Default)]
struct Starts {
    locked: Vec<(u32, u64)>,
    alone: Vec<(u32, u64)>,
}

fn phases(
    blocks: &Blocks<'_>,
    previous: Option<&Plan>,
    forced: Option<&[u32]>,
) -> Result<Plan, u32> {
    let plain = |class: &Class| !class.exclusive && class.locks.is_empty();
    let order = largest_first(blocks, plain);
    let mut starts = Starts::default();
    let mut base = Draft::new(blocks);
    if blocks.locks > 0 {
        starts.locked = chains(blocks, &mut base, forced)?;
    }
    let bound = bound(blocks, &order, &base);
    let mut best = side_by_side(blocks, &order, &base, bound, forced)?;
    if let Some(previous) = previous.filter(|_| !is_planted(Fault::Forgetful)) {
        let limit = best.last.saturating_add(best.last / WORTH_MOVING);
        best = kept(blocks, &order, &base, previous, limit).unwrap_or(best);
    }
    if blocks.classes.iter().any(|class| class.exclusive) {
        starts.alone = alone(blocks, &mut best, forced)?;
    }
    Ok(written(blocks, &order, &best, &starts))
}

/// No plan on top of `base` ends before this.
fn bound(blocks: &Blocks<'_>, order: &[Item], base: &Draft) -> u64 {
    // For each set of slots: what may run nowhere else, and the longest of that.
    let mut work = vec![Micros::ZERO; blocks.sets.len()];
    let mut pieces: Vec<Vec<Micros>> = vec![Vec::new(); blocks.sets.len()];
    let sets: Vec<usize> = blocks.classes.iter().map(|class| class.set).collect();
    for item in order {
        let weight = Micros(item.weight());
        let set = sets[item.class as usize];
        for set in std::iter::once(0).chain((set != 0).then_some(set)) {
            work[set] += weight;
            if pieces[set].len() < blocks.sets[set].len() {
                pieces[set].push(weight);
            }
        }
    }
    let bounds = (0..blocks.sets.len()).map(|set| {
        let slots: Vec<SlotCapacity> = blocks.sets[set]
            .iter()
            .map(|&slot| SlotCapacity {
                ready: Micros(base.ends[slot as usize]),
                speed_milli: blocks.slots[slot as usize].speed_milli,
            })
            .collect();
        lower_bound(work[set], &pieces[set], &slots).makespan().0
    });
    bounds.max().unwrap_or_default().max(base.last)
}

/// The best plan found of what may run at any time.
fn side_by_side(
    blocks: &Blocks<'_>,
    order: &[Item],
    base: &Draft,
    bound: u64,
    forced: Option<&[u32]>,
) -> Result<Draft, u32> {
    let near = if order.len() > FEW { bound / NEAR } else { 0 };
    let enough = |draft: &Draft| draft.last <= bound.saturating_add(near);
    let mut best = match choosiest_first(blocks, order) {
        Some(choosiest) => earliest(blocks, choosiest, base.clone(), forced),
        None => Err(0),
    };
    if !best.as_ref().is_ok_and(enough) {
        let other = earliest(blocks, order.iter().copied(), base.clone(), forced);
        best = match (best, other) {
            (Ok(best), Ok(other)) if other.last < best.last => Ok(other),
            (Err(_), other) => other,
            (best, _) => best,
        };
    }
    let mut best = best?;
    if forced.is_none() && !enough(&best) {
        let packed = multifit(blocks, order, base, bound, best.last, PLACEMENTS);
        best = packed
            .filter(|packed| packed.last < best.last || is_planted(Fault::Overfull))
            .unwrap_or(best);
    }
    if forced.is_none() && order.len() <= COARSE && best.last > bound {
        best = improve(blocks, order, base, best.last, bound, NODES).unwrap_or(best);
    }
    Ok(best)
}

/// What minds its company before what only needs labels, and what has fewer slots to choose from first; nothing where all are alike.
fn choosiest_first(blocks: &Blocks<'_>, order: &[Item]) -> Option<Vec<Item>> {
    let choices = |class: &Class| (!class.is_particular(), blocks.sets[class.set].len());
    let choices: Vec<(bool, usize)> = blocks.classes.iter().map(choices).collect();
    let mut ranks = choices.clone();
    ranks.sort_unstable();
    ranks.dedup();
    let rank = |choice| ranks.binary_search(choice).unwrap_or_default();
    let rank_of: Vec<usize> = choices.iter().map(rank).collect();
    let mut by_rank: Vec<Vec<Item>> = vec![Vec::new(); ranks.len()];
    for &item in order {
        by_rank[rank_of[item.class as usize]].push(item);
    }
    let several = by_rank.iter().filter(|items| !items.is_empty()).count() > 1;
    several.then(|| by_rank.concat())
}

/// What an earlier plan had, as far as its slots end by `limit` with it, and the rest where it ends first.
fn kept(
    blocks: &Blocks<'_>,
    order: &[Item],
    base: &Draft,
    previous: &Plan,
    limit: u64,
) -> Option<Draft> {
    let mut was = vec![NOWHERE; blocks.weights.len()];
    for (slot, units) in (0..).zip(&previous.shards).take(blocks.slots.len()) {
        for &unit in units {
            if let Some(was) = was.get_mut(unit as usize) {
                *was = slot;
            }
        }
    }
    let usable = |slot: u32| slot != NOWHERE && blocks.slots[slot as usize].speed_milli > 0;
    let mut draft = base.clone();
    let mut moved = Vec::new();
    for &item in order {
        let slot = was[item.head as usize];
        if usable(slot) && draft.allows(blocks, item, slot) {
            let end = draft.end_on(blocks, item, slot);
            if end <= limit {
                draft.put(blocks, item, slot, end);
                continue;
            }
        }
        moved.push(item);
    }
    let draft = earliest(blocks, moved, draft, None).ok()?;
    (draft.last <= limit).then_some(draft)
}

/// Blocks that need locks, each as soon as a slot and all its locks are free, and where it ends first; of equal ends the one where the slot
/// waits less. Those of the longest chain come first.
fn chains(
    blocks: &Blocks<'_>,
    draft: &mut Draft,
    forced: Option<&[u32]>,
) -> Result<Vec<(u32, u64)>, u32> {
    let mut chains = vec![0u64; blocks.locks];
    let locked = |class: &Class| !class.exclusive && !class.locks.is_empty();
    let mut order = largest_first(blocks, locked);
    for item in &order {
        for &lock in &blocks.class(item.head).locks {
            let chain = &mut chains[lock as usize];
            *chain = chain.saturating_add(item.weight());
        }
    }
    order.sort_by_cached_key(|item| {
        let locks = blocks.class(item.head).locks.iter();
        Reverse(locks.map(|&lock| chains[lock as usize]).max())
    });
    let mut free = vec![0u64; blocks.locks];
    let mut starts = Vec::with_capacity(order.len());
    for item in order {
        let class = blocks.class(item.head);
        let locks = class.locks.iter();
        let unlocked = locks
            .map(|&lock| free[lock as usize])
            .max()
            .unwrap_or_default();
        let unlocked = if is_planted(Fault::EarlyLock) {
            unlocked / 2
        } else {
            unlocked
        };
        let only = forced.map_or(NOWHERE, |forced| forced[item.head as usize]);
        let slots = blocks.sets[class.set].iter().copied();
        let slots = slots.filter(|&slot| only == NOWHERE || only == slot);
        let slots = slots.filter(|&slot| draft.allows(blocks, item, slot));
        let chosen = slots
            .map(|slot| {
                let at = draft.ends[slot as usize];
                let start = at.max(unlocked);
                let took = takes(item.weight(), blocks.slots[slot as usize].speed_milli);
                (start.saturating_add(took), start - at, slot, start)
            })
            .min();
        let (end, _, slot, start) = chosen.ok_or(item.head)?;
        draft.put(blocks, item, slot, end);
        for &lock in &class.locks {
            free[lock as usize] = end;
        }
        starts.push((item.head, start));
    }
    Ok(starts)
}

/// Blocks that run alone, one after the other when everything else has ended, each where it takes least.
fn alone(
    blocks: &Blocks<'_>,
    draft: &mut Draft,
    forced: Option<&[u32]>,
) -> Result<Vec<(u32, u64)>, u32> {
    // A slot that is not ready yet may be at work.
    let mut at = draft.ends.iter().copied().max().unwrap_or_default();
    let mut starts = Vec::new();
    for item in largest_first(blocks, |class| class.exclusive) {
        let set = blocks.sets[blocks.class(item.head).set].iter().copied();
        let only = forced.map_or(NOWHERE, |forced| forced[item.head as usize]);
        let set = set.filter(|&slot| only == NOWHERE || only == slot);
        let slots = set.filter(|&slot| draft.allows(blocks, item, slot));
        let took = |slot: u32| takes(item.weight(), blocks.slots[slot as usize].speed_milli);
        let slot = slots
            .min_by_key(|&slot| (took(slot), slot))
            .ok_or(item.head)?;
        if is_planted(Fault::Accompanied) {
            at = draft.ends[slot as usize];
        }
        let end = at.saturating_add(took(slot));
        draft.put(blocks, item, slot, end);
        starts.push((item.head, at));
        at = end;
    }
    Ok(starts)
}

fn written(blocks: &Blocks<'_>, order: &[Item], draft: &Draft, starts: &Starts) -> Plan {
    let mut counts = vec![0usize; blocks.slots.len()];
    let heads = || {
        let (locked, alone) = (starts.locked.iter(), starts.alone.iter());
        let locked = locked.map(|&(head, start)| (head, Some(start)));
        let free = order.iter().map(|item| (item.head, None));
        locked
            .chain(free)
            .chain(alone.map(|&(head, start)| (head, Some(start))))
    };
    for (head, _) in heads() {
        counts[draft.slot[head as usize] as usize] += blocks.units(&head).len();
    }
    let mut shards: Vec<Vec<u32>> = counts.into_iter().map(Vec::with_capacity).collect();
    let mut at: Vec<u64> = blocks.slots.iter().map(|slot| slot.ready.0).collect();
    let mut held = Vec::new();
    for (head, start) in heads() {
        let slot = draft.slot[head as usize];
        shards[slot as usize].extend(blocks.units(&head));
        if starts.locked.is_empty() && starts.alone.is_empty() {
            continue;
        }
        let at = &mut at[slot as usize];
        if let Some(start) = start.filter(|start| *start > *at) {
            held.push((head, Micros(start)));
            *at = start;
        }
        let speed = blocks.slots[slot as usize].speed_milli;
        *at = at.saturating_add(takes(blocks.weight(head), speed));
    }
    held.sort_unstable();
    if is_planted(Fault::DroppedUnit) {
        shards.iter_mut().rev().find_map(Vec::pop);
    }
    if is_planted(Fault::TwicePlaced)
        && let Some(unit) = shards.iter().find_map(|shard| shard.first().copied())
    {
        shards[0].push(unit);
    }
    let first = draft.ends.first().copied().unwrap_or_default();
    let last = if is_planted(Fault::FirstEnd) {
        first
    } else {
        draft.last
    };
    Plan {
        shards,
        makespan: Micros(last),
        held,
    }
}
