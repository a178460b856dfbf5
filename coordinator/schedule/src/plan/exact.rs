//! The best plan there is for a few coarse blocks, and whether there is one at all for particular ones: depth first, within a budget of nodes.

use super::blocks::Blocks;
use super::place::{Draft, Item, NOWHERE};
use super::planted::{Fault, is_planted};
use super::problem::PlanError;
use std::collections::BTreeMap;

/// Looks for a plan that ends before `best`, until one ends by `bound`, which none can beat, or so many nodes were looked at. Blocks are tried in
/// their order on the slots where they end first; what cannot end in time, or leaves less room than the rest needs, is not followed.
pub(super) fn improve(
    blocks: &Blocks<'_>,
    order: &[Item],
    base: &Draft,
    best: u64,
    bound: u64,
    nodes: u32,
) -> Option<Draft> {
    let mut rest: Vec<u128> = vec![0];
    for item in order.iter().rev() {
        let behind = rest.last().copied().unwrap_or_default();
        rest.push(behind + u128::from(item.weight()) * 1000);
    }
    rest.reverse();
    let mut search = Search {
        blocks,
        order,
        rest,
        alike: alike(blocks),
        draft: base.clone(),
        best,
        bound,
        nodes,
        found: None,
    };
    search.place(0);
    search.found
}

struct Search<'a> {
    blocks: &'a Blocks<'a>,
    order: &'a [Item],
    /// The work from this block on, in thousandths.
    rest: Vec<u128>,
    /// Slots of one number are the same to every block, but for when they end.
    alike: Vec<u32>,
    draft: Draft,
    best: u64,
    bound: u64,
    nodes: u32,
    found: Option<Draft>,
}

impl Search<'_> {
    fn place(&mut self, depth: usize) {
        let Some(&item) = self.order.get(depth) else {
            self.best = self.draft.last;
            self.found = Some(self.draft.clone());
            return;
        };
        let Some(nodes) = self.nodes.checked_sub(1) else {
            return;
        };
        self.nodes = nodes;
        if self.space() < self.rest[depth] {
            return;
        }
        let blocks = self.blocks;
        let class = &blocks.classes[item.class as usize];
        let mut choices: Vec<(u64, u32)> = Vec::new();
        for &slot in &blocks.sets[class.set] {
            let end = self.draft.end_on(blocks, item, slot);
            let same = |&(_, other): &(u64, u32)| {
                self.alike[other as usize] == self.alike[slot as usize]
                    && self.draft.ends[other as usize] == self.draft.ends[slot as usize]
            };
            let worse = is_planted(Fault::Overpruned)
                && end + self.order.last().map_or(0, |item| item.weight()) >= self.best;
            if end < self.best
                && !worse
                && !choices.iter().any(same)
                && self.draft.allows(blocks, item, slot)
            {
                choices.push((end, slot));
            }
        }
        choices.sort_unstable();
        for (end, slot) in choices {
            if end >= self.best || self.best <= self.bound {
                return;
            }
            let (before, last) = (self.draft.ends[slot as usize], self.draft.last);
            self.draft.put(blocks, item, slot, end);
            self.place(depth + 1);
            self.draft.ends[slot as usize] = before;
            self.draft.last = last;
            self.draft.slot[item.head as usize] = NOWHERE;
            if class.is_particular() {
                self.draft.room.release(blocks, class, slot);
            }
        }
    }

    /// How much work ends before the best plan so far does, in thousandths.
    fn space(&self) -> u128 {
        let slots = self.blocks.sets[0].iter();
        slots
            .map(|&slot| {
                let left = (self.best - 1).saturating_sub(self.draft.ends[slot as usize]);
                u128::from(left) * u128::from(self.blocks.slots[slot as usize].speed_milli)
            })
            .sum()
    }
}

/// Numbers slots so that those of one number can stand for each other. Where blocks mind their company every slot is its own.
fn alike(blocks: &Blocks<'_>) -> Vec<u32> {
    let particular = blocks.aparts > 0 || !blocks.limits.is_empty();
    let mut kinds: BTreeMap<(u32, Vec<bool>), u32> = BTreeMap::new();
    let slots = (0..).zip(blocks.slots);
    slots
        .map(|(slot, offer)| {
            if particular {
                return slot;
            }
            let within = blocks
                .sets
                .iter()
                .map(|set| set.binary_search(&slot).is_ok());
            let next = kinds.len() as u32;
            *kinds
                .entry((offer.speed_milli, within.collect()))
                .or_insert(next)
        })
        .collect()
}

/// So many places are looked at before it is given up: a fraction of a second.
const LOOKS: u64 = 20_000_000;

/// Slots for the blocks that mind their company, by their first units: some that keep all rules, whatever they make of the makespan. What has the
/// fewest slots left is placed first (Brélaz, "New methods to color the vertices of a graph", 1979).
pub(super) fn feasible(blocks: &Blocks<'_>) -> Result<Vec<u32>, PlanError> {
    let items = blocks.heads().map(|head| Item::new(blocks, head));
    let particular = |item: &Item| blocks.classes[item.class as usize].is_particular();
    let particular: Vec<Item> = items.filter(particular).collect();
    crowded(blocks, &particular)?;
    let planted = is_planted(Fault::NoSecondLook);
    let mut attempt = Attempt {
        blocks,
        looks: if planted { 1 } else { LOOKS },
        particular: &particular,
        draft: Draft::new(blocks),
        stuck: (0, particular.first().map_or(0, |item| item.head)),
    };
    if attempt.settle(0) {
        return Ok(attempt.draft.slot);
    }
    Err(PlanError::NotFound {
        unit: attempt.stuck.1,
    })
}

struct Attempt<'a> {
    blocks: &'a Blocks<'a>,
    particular: &'a [Item],
    draft: Draft,
    looks: u64,
    /// With how many placed it came furthest, and what found no place then.
    stuck: (usize, u32),
}

impl Attempt<'_> {
    /// Places what has no place yet; `placed` have one.
    fn settle(&mut self, placed: usize) -> bool {
        let open = self.particular.iter().copied();
        let open = open.filter(|item| self.draft.slot[item.head as usize] == NOWHERE);
        let next = open
            .map(|item| (item, self.choices(item)))
            .min_by_key(|(item, slots)| (slots.len(), item.head));
        let looked = (self.particular.len() - placed) * self.blocks.slots.len();
        self.looks = self.looks.saturating_sub(looked as u64);
        let Some((item, slots)) = next else {
            return true;
        };
        if slots.is_empty() && placed >= self.stuck.0 {
            self.stuck = (placed, item.head);
        }
        for (end, slot) in slots {
            if self.looks == 0 {
                return false;
            }
            let before = self.draft.ends[slot as usize];
            self.draft.put(self.blocks, item, slot, end);
            if self.settle(placed + 1) {
                return true;
            }
            self.draft.ends[slot as usize] = before;
            self.draft.slot[item.head as usize] = NOWHERE;
            let class = &self.blocks.classes[item.class as usize];
            self.draft.room.release(self.blocks, class, slot);
        }
        false
    }

    /// Where a block may go now, and where it would end there; the earliest first.
    fn choices(&self, item: Item) -> Vec<(u64, u32)> {
        let class = &self.blocks.classes[item.class as usize];
        let set = self.blocks.sets[class.set].iter().copied();
        let allowed = set.filter(|&slot| self.draft.allows(self.blocks, item, slot));
        let mut slots: Vec<(u64, u32)> = allowed
            .map(|slot| (self.draft.end_on(self.blocks, item, slot), slot))
            .collect();
        slots.sort_unstable();
        slots
    }
}

/// Fails where a rule keeps more blocks apart than there are slots for them: no matching gives each a slot of its own (Kuhn, 1955).
fn crowded(blocks: &Blocks<'_>, particular: &[Item]) -> Result<(), PlanError> {
    for rule in 0..blocks.aparts as u32 {
        let heads = particular.iter().map(|item| item.head);
        let heads = heads.filter(|&head| blocks.class(head).apart.contains(&rule));
        let mut taken: BTreeMap<u32, u32> = BTreeMap::new();
        for head in heads {
            let mut seen = vec![false; blocks.slots.len()];
            if !matches(blocks, head, &mut taken, &mut seen) {
                let slots = blocks.sets[blocks.class(head).set].len() as u32;
                let unit = head + u32::from(is_planted(Fault::WrongUnit));
                return Err(PlanError::Crowded { unit, slots });
            }
        }
    }
    Ok(())
}

/// Whether a block finds a slot of its own, if others move.
fn matches(
    blocks: &Blocks<'_>,
    head: u32,
    taken: &mut BTreeMap<u32, u32>,
    seen: &mut [bool],
) -> bool {
    for &slot in &blocks.sets[blocks.class(head).set] {
        if std::mem::replace(&mut seen[slot as usize], true) {
            continue;
        }
        let holder = taken.get(&slot).copied();
        if holder.is_none_or(|holder| matches(blocks, holder, taken, seen)) {
            taken.insert(slot, head);
            return true;
        }
    }
    false
}
