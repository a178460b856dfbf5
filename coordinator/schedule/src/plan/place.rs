//! Placing blocks one after the other, each where it ends first.

use super::blocks::{Blocks, Class};
use super::ends::Ends;
use super::planted::{Fault, is_planted};
use super::problem::takes;
use super::room::Room;
use crate::Micros;

/// The slot of a unit that has none yet.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A block in the order in which it is placed, with what that needs: there may be a million, and looking each up takes longer than placing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    /// Its weight taken from the largest that there is, so that the heaviest comes first.
    lightness: u64,
    pub head: u32,
    pub class: u32,
}

impl Item {
    pub(super) fn new(blocks: &Blocks<'_>, head: u32) -> Item {
        Item {
            lightness: u64::MAX - blocks.weight(head),
            head,
            class: blocks.class_number(head),
        }
    }

    /// Weight and number as one number, which sorts faster than two.
    fn key(self) -> u128 {
        u128::from(self.lightness) << 32 | u128::from(self.head)
    }

    pub(super) fn weight(self) -> u64 {
        u64::MAX - self.lightness
    }
}

/// A plan that is being made.
#[derive(Clone)]
pub(super) struct Draft {
    /// By a block's first unit.
    pub slot: Vec<u32>,
    /// When each slot has done what it has been given, in microseconds.
    pub ends: Vec<u64>,
    /// The last end of a block.
    pub last: u64,
    pub room: Room,
}

impl Draft {
    pub(super) fn new(blocks: &Blocks<'_>) -> Draft {
        let ready = |ready: Micros| {
            if is_planted(Fault::ReadyBlind) {
                0
            } else {
                ready.0
            }
        };
        Draft {
            slot: vec![NOWHERE; blocks.weights.len()],
            ends: blocks.slots.iter().map(|slot| ready(slot.ready)).collect(),
            last: 0,
            room: Room::new(blocks),
        }
    }

    /// Gives a block to a slot, where it ends then.
    pub(super) fn put(&mut self, blocks: &Blocks<'_>, item: Item, slot: u32, end: u64) {
        self.slot[item.head as usize] = slot;
        self.ends[slot as usize] = end;
        self.last = self.last.max(end);
        let class = &blocks.classes[item.class as usize];
        if class.is_particular() {
            self.room.take(blocks, class, slot);
        }
    }

    /// Where a block would end on a slot, whoever may be there.
    pub(super) fn end_on(&self, blocks: &Blocks<'_>, item: Item, slot: u32) -> u64 {
        let speed = blocks.slots[slot as usize].speed_milli;
        self.ends[slot as usize].saturating_add(takes(item.weight(), speed))
    }

    /// Whether the rules let a block run on a slot, beside what it has.
    pub(super) fn allows(&self, blocks: &Blocks<'_>, item: Item, slot: u32) -> bool {
        let class = &blocks.classes[item.class as usize];
        let offered = class.set == 0 || blocks.sets[class.set].binary_search(&slot).is_ok();
        offered && (!class.is_particular() || self.room.allows(blocks, class, slot))
    }
}

/// Longest processing time first, where `order` says so: each block goes to the slot, of those that it may run on, where it ends first. On slots of one
/// speed that is Graham's LPT (1969); on slots of several it is within 19/12 of the best (Dobson, "Scheduling independent tasks on
/// uniform processors", 1984). `forced` are slots of units that may go nowhere else. Fails with a block that finds no slot.
pub(super) fn earliest(
    blocks: &Blocks<'_>,
    order: impl IntoIterator<Item = Item>,
    mut draft: Draft,
    forced: Option<&[u32]>,
) -> Result<Draft, u32> {
    let speeds: Vec<u32> = blocks.slots.iter().map(|slot| slot.speed_milli).collect();
    let mut trees: Vec<Option<Ends>> = blocks.sets.iter().map(|_| None).collect();
    for item in order {
        let class = &blocks.classes[item.class as usize];
        let only = forced.map_or(NOWHERE, |forced| forced[item.head as usize]);
        if only != NOWHERE {
            let end = draft.end_on(blocks, item, only);
            draft.put(blocks, item, only, end);
            continue;
        }
        let tree = trees[class.set]
            .get_or_insert_with(|| Ends::new(&blocks.sets[class.set], &speeds, &draft.ends));
        let found = if class.is_particular() {
            tree.find(item.weight(), &draft.ends, |slot| {
                draft.room.allows(blocks, class, slot)
            })
        } else {
            tree.find_any(item.weight(), &draft.ends)
        };
        let found = found.ok_or(item.head)?;
        draft.put(blocks, item, found.slot, found.end);
        tree.fill(found);
    }
    Ok(draft)
}

/// The blocks by weight, the largest first; equal ones by their numbers.
pub(super) fn largest_first(blocks: &Blocks<'_>, of: impl Fn(&Class) -> bool) -> Vec<Item> {
    let heads = blocks.heads().map(|head| Item::new(blocks, head));
    let of = |item: &Item| of(&blocks.classes[item.class as usize]);
    let mut items: Vec<Item> = heads.filter(of).collect();
    items.sort_unstable_by_key(|item| item.key());
    if is_planted(Fault::SmallestFirst) {
        items.reverse();
    }
    if is_planted(Fault::Unstable) && super::planted::chance().is_multiple_of(2) {
        items.sort_by_key(|item| (item.lightness, std::cmp::Reverse(item.head)));
    }
    items
}
