//! What rules ask for, written down once more and as plainly as can be, and the best plan by trying all of them.

use super::Case;
use evenkeel_schedule::{Micros, Plan, Rule, SlotOffer};
use std::collections::BTreeSet;

pub fn takes(weight: Micros, slot: &SlotOffer) -> u64 {
    (weight.0 * 1000).div_ceil(u64::from(slot.speed_milli))
}

/// Of each unit the lowest one with which it stays together.
pub fn joined(case: &Case) -> Vec<u32> {
    let mut of: Vec<u32> = (0..case.weights.len() as u32).collect();
    loop {
        let before = of.clone();
        for rule in &case.rules {
            if let Rule::Together { units } = rule {
                let lowest = units.iter().map(|&unit| of[unit as usize]).min();
                for &unit in units {
                    of[unit as usize] = lowest.expect("a rule is about some unit");
                }
            }
        }
        if of == before {
            return of;
        }
    }
}

/// Whether units may be on these slots, whenever they run.
fn may_be(case: &Case, slot_of: &[u32]) -> bool {
    let slot = |unit: &u32| &case.slots[slot_of[*unit as usize] as usize];
    case.rules.iter().all(|rule| match rule {
        Rule::Needs { units, labels } => units
            .iter()
            .all(|unit| labels.iter().all(|label| slot(unit).labels.contains(label))),
        Rule::Exclusive { .. } | Rule::Lock { .. } => true,
        Rule::Together { units } => {
            let slots: BTreeSet<u32> = units.iter().map(|&unit| slot_of[unit as usize]).collect();
            slots.len() == 1
        }
        Rule::Apart { units } => {
            let units: BTreeSet<u32> = units.iter().copied().collect();
            let slots: BTreeSet<u32> = units.iter().map(|&unit| slot_of[unit as usize]).collect();
            slots.len() == units.len()
        }
        Rule::PerAgent { units, most } => {
            let slots: BTreeSet<u32> = units.iter().map(|&unit| slot_of[unit as usize]).collect();
            let on = |agent: u32| {
                let slots = slots.iter();
                slots
                    .filter(|&&slot| case.slots[slot as usize].agent == agent)
                    .count()
            };
            (0..3).all(|agent| on(agent) <= *most as usize)
        }
    })
}

/// What of a plan is not as it has to be.
pub fn broken(case: &Case, plan: &Plan) -> Option<String> {
    let mut slot_of = vec![u32::MAX; case.weights.len()];
    if plan.shards.len() != case.slots.len() {
        return Some("there is not a shard for each slot".to_owned());
    }
    for (slot, units) in (0..).zip(&plan.shards) {
        for &unit in units {
            if std::mem::replace(&mut slot_of[unit as usize], slot) != u32::MAX {
                return Some(format!("unit {unit} is placed twice"));
            }
        }
    }
    if let Some(unit) = slot_of.iter().position(|slot| *slot == u32::MAX) {
        return Some(format!("unit {unit} is not placed"));
    }
    if !may_be(case, &slot_of) {
        return Some("a rule about places is broken".to_owned());
    }
    let times: Vec<(u64, u64)> = plan
        .times(&case.problem())
        .into_iter()
        .map(|time| time.map(|(_, start, end)| (start.0, end.0)))
        .collect::<Option<_>>()?;
    let last = times.iter().map(|time| time.1).max().unwrap_or_default();
    if plan.makespan.0 != last {
        return Some(format!("it ends at {last}"));
    }
    let beside = |one: u32, other: u32| {
        let ((start, end), (from, to)) = (times[one as usize], times[other as usize]);
        one != other && start < to && from < end
    };
    let count = case.weights.len() as u32;
    for rule in &case.rules {
        for &one in rule.units() {
            let with = match rule {
                Rule::Exclusive { .. } => (0..count).find(|&other| beside(one, other)),
                Rule::Lock { units } => units.iter().copied().find(|&other| beside(one, other)),
                _ => None,
            };
            if let Some(other) = with {
                return Some(format!("unit {one} runs beside unit {other}"));
            }
        }
    }
    // Units of a block follow each other.
    let joined = joined(case);
    for units in &plan.shards {
        let mut seen = BTreeSet::new();
        let blocks = units.iter().map(|&unit| joined[unit as usize]);
        let mut last = None;
        for block in blocks {
            if last != Some(block) && !seen.insert(block) {
                return Some(format!("the units with unit {block} are torn apart"));
            }
            last = Some(block);
        }
    }
    None
}

/// The earliest end of any assignment that keeps all rules but those about locks; what runs alone comes last.
pub fn best_of_all(case: &Case) -> Option<u64> {
    let (units, slots) = (case.weights.len(), case.slots.len());
    let joined = joined(case);
    let mut alone = vec![false; units];
    for rule in &case.rules {
        if let Rule::Exclusive { units } = rule {
            units
                .iter()
                .for_each(|&unit| alone[joined[unit as usize] as usize] = true);
        }
    }
    let mut best = None;
    let mut slot_of = vec![0u32; units];
    loop {
        if may_be(case, &slot_of) {
            let mut ends: Vec<u64> = case.slots.iter().map(|slot| slot.ready.0).collect();
            let (mut behind, mut last) = (0, 0);
            for unit in 0..units {
                let slot = slot_of[unit] as usize;
                let took = takes(case.weights[unit], &case.slots[slot]);
                if alone[joined[unit] as usize] {
                    behind += took;
                } else {
                    ends[slot] += took;
                    last = last.max(ends[slot]);
                }
            }
            if alone.contains(&true) {
                last = ends.iter().copied().max().unwrap_or_default() + behind;
            }
            best = Some(best.map_or(last, |best: u64| best.min(last)));
        }
        // The next assignment, as one counts.
        let Some(at) = slot_of.iter().position(|slot| *slot as usize + 1 < slots) else {
            return best;
        };
        slot_of[..at].fill(0);
        slot_of[at] += 1;
    }
}
