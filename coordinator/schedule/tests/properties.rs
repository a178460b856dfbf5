//! Properties of plans and dispatch: everything is placed exactly once, the same way each time, within proven bounds.

use evenkeel_schedule::{
    Dispatcher, Micros, Needs, SlotCapacity, Weight, lower_bound, lpt, multifit, plan,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn micros(values: &[u64]) -> Vec<Micros> {
    values.iter().copied().map(Micros).collect()
}

/// The best makespan there is, by trying every assignment.
fn brute_force(weights: &[u64], slots: usize) -> u64 {
    fn place(weights: &[u64], loads: &mut Vec<u64>, best: &mut u64) {
        let Some((first, rest)) = weights.split_first() else {
            *best = (*best).min(loads.iter().copied().max().unwrap_or(0));
            return;
        };
        for slot in 0..loads.len() {
            // Equal loads are alike: trying one of them is enough.
            if loads[..slot].contains(&loads[slot]) || loads[slot] + first >= *best {
                continue;
            }
            loads[slot] += first;
            place(rest, loads, best);
            loads[slot] -= first;
        }
    }
    let mut best = weights.iter().sum::<u64>() + 1;
    place(weights, &mut vec![0; slots], &mut best);
    best
}

fn placed_once(shards: &[Vec<u32>], count: usize) -> bool {
    let mut all: Vec<u32> = shards.iter().flatten().copied().collect();
    all.sort_unstable();
    all == (0..count as u32).collect::<Vec<_>>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn lpt_keeps_grahams_bound(weights in prop::collection::vec(1u64..1000, 1..9), slots in 1usize..5) {
        let best = brute_force(&weights, slots);
        let planned = lpt(&micros(&weights), &vec![Micros::ZERO; slots]);
        prop_assert!(placed_once(&planned.shards, weights.len()));
        // 4/3 - 1/(3m), in whole numbers.
        let m = slots as u64;
        prop_assert!(planned.makespan.0 * 3 * m <= best * (4 * m - 1), "{} against {best}", planned.makespan.0);
        prop_assert!(planned.makespan.0 >= best);
    }

    #[test]
    fn multifit_keeps_its_bound_and_the_plan_is_the_better_of_the_two(
        weights in prop::collection::vec(1u64..1000, 1..9),
        slots in 1usize..5,
    ) {
        let best = brute_force(&weights, slots);
        let free = vec![Micros::ZERO; slots];
        let first = lpt(&micros(&weights), &free);
        let packed = multifit(&micros(&weights), &free, first.makespan);
        if let Some(packed) = &packed {
            prop_assert!(placed_once(&packed.shards, weights.len()));
            // 13/11 (Yue 1990), plus what twelve halvings of the range leave.
            prop_assert!(packed.makespan.0 * 11 <= best * 13 + 11, "{} against {best}", packed.makespan.0);
        }
        let chosen = plan(&micros(&weights), &free);
        prop_assert!(placed_once(&chosen.shards, weights.len()));
        let better = packed.map_or(first.makespan, |packed| packed.makespan.min(first.makespan));
        prop_assert_eq!(chosen.makespan, better);
    }

    #[test]
    fn no_plan_is_better_than_the_lower_bound(
        weights in prop::collection::vec(1u64..1000, 1..30),
        slots in 1usize..6,
    ) {
        let capacity = vec![SlotCapacity { ready: Micros::ZERO, speed_milli: 1000 }; slots];
        let bound = lower_bound(micros(&weights).into_iter().sum(), &micros(&weights), &capacity).makespan();
        prop_assert!(plan(&micros(&weights), &vec![Micros::ZERO; slots]).makespan >= bound);
    }

    #[test]
    fn plans_are_equal_byte_for_byte(weights in prop::collection::vec(1u64..50, 0..200), slots in 0usize..9) {
        let free = vec![Micros::ZERO; slots];
        let bytes = |plan: evenkeel_schedule::Plan| format!("{plan:?}").into_bytes();
        prop_assert_eq!(bytes(plan(&micros(&weights), &free)), bytes(plan(&micros(&weights), &free)));
    }

    #[test]
    fn dispatch_places_each_unit_exactly_once_and_never_stalls(
        weights in prop::collection::vec((1u64..5_000_000, 1u64..5_000_000, any::<bool>()), 0..80),
        slots in 1u32..8,
        losses in prop::collection::vec(any::<bool>(), 0..200),
    ) {
        let played = play(&weights, slots, &losses);
        prop_assert_eq!(&played, &play(&weights, slots, &losses));
        let ran: Vec<u32> = played.runs.iter().map(|(unit, _)| *unit).collect();
        let mut sorted = ran.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..weights.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn known_units_on_equal_slots_end_within_a_unit_of_the_bound(
        weights in prop::collection::vec(100_000u64..10_000_000, 1..60),
        slots in 1u32..6,
    ) {
        let exact: Vec<(u64, u64, bool)> = weights.iter().map(|&w| (w, w, true)).collect();
        let played = play(&exact, slots, &[]);
        let capacity = vec![SlotCapacity { ready: Micros::ZERO, speed_milli: 1000 }; slots as usize];
        let bound = lower_bound(micros(&weights).into_iter().sum(), &micros(&weights), &capacity).makespan();
        // A list schedule is at most one unit over the fluid bound (Graham 1966); each hand-over costs a step of the clock.
        let longest = weights.iter().copied().max().unwrap_or(0);
        prop_assert!(played.end <= bound.0 + longest, "{} against {}", played.end, bound.0);
    }
}

#[derive(Debug, PartialEq)]
struct Played {
    /// Unit and slot, in the order in which they ended.
    runs: Vec<(u32, u32)>,
    end: u64,
}

/// Plays dispatch on virtual time: units take their actual time; where `losses` says so, a unit that ends is lost instead
/// and comes back once.
fn play(weights: &[(u64, u64, bool)], slots: u32, losses: &[bool]) -> Played {
    let mut dispatcher = Dispatcher::new();
    let weight = |unit: u32| {
        let (expected, _, known) = weights[unit as usize];
        Weight {
            expected: Micros(expected),
            high: Micros(expected * 3 / 2),
            order: Micros(expected * 3 / 2),
            known,
            early: if known { 0 } else { (expected % 32) as u16 },
        }
    };
    for slot in 0..slots {
        dispatcher.expect(slot, 0);
        dispatcher.open(slot);
    }
    for unit in 0..weights.len() as u32 {
        dispatcher.add(unit, weight(unit), &Needs::default());
    }
    let mut queues: BTreeMap<u32, Vec<u32>> = (0..slots).map(|slot| (slot, Vec::new())).collect();
    let mut running: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    let mut lost = std::collections::BTreeSet::new();
    let mut losses = losses.iter().copied();
    let mut played = Played {
        runs: Vec::new(),
        end: 0,
    };
    let mut now = 0;
    loop {
        for slot in 0..slots {
            while let Some(unit) = dispatcher.next(slot, Micros(now)) {
                queues.entry(slot).or_default().push(unit);
            }
            if !running.contains_key(&slot) && !queues[&slot].is_empty() {
                let unit = queues.entry(slot).or_default().remove(0);
                dispatcher.begun(slot, unit, Micros(now));
                running.insert(slot, (unit, now + weights[unit as usize].1));
            }
        }
        let Some((&slot, &(unit, end))) =
            running.iter().min_by_key(|(slot, (_, end))| (*end, **slot))
        else {
            assert!(
                !dispatcher.is_waiting(),
                "units wait and nobody runs: a stall"
            );
            return played;
        };
        if let Some(wake) = dispatcher
            .wake_at(Micros(now))
            .filter(|wake| wake.0 > now && wake.0 < end)
        {
            now = wake.0;
            continue;
        }
        now = end;
        running.remove(&slot);
        if losses.next().unwrap_or(false) && lost.insert(unit) {
            // The slot loses its process: what it ran and what it held come back.
            dispatcher.clear(slot);
            for held in std::mem::take(queues.entry(slot).or_default())
                .into_iter()
                .chain([unit])
            {
                dispatcher.add(held, weight(held), &Needs::default());
            }
        } else {
            dispatcher.finished(slot, unit, Micros(now));
            played.runs.push((unit, slot));
            played.end = now;
        }
    }
}

/// Runs bundles to their ends on slots that keep to the estimates: how often each unit ran, how many bundles there were, and the end.
fn run_bundles(weights: &[u64], slots: u32, startup: u64, known: bool) -> (Vec<u32>, u64, u64) {
    let mut dispatcher = Dispatcher::new();
    for (unit, &expected) in (0..).zip(weights) {
        let expected = Micros(expected);
        dispatcher.add(
            unit,
            Weight {
                expected,
                high: expected,
                order: expected,
                known,
                early: 0,
            },
            &Needs::default(),
        );
    }
    (0..slots).for_each(|slot| dispatcher.open(slot));
    let mut ran = vec![0; weights.len()];
    let mut busy: BTreeMap<u32, (u64, Vec<u32>)> = BTreeMap::new();
    let (mut now, mut bundles) = (0, 0);
    loop {
        for slot in 0..slots {
            let units = dispatcher.bundle(slot, Micros(now), Micros(startup));
            assert!(units.is_empty() || !busy.contains_key(&slot));
            if let Some(&first) = units.first() {
                bundles += 1;
                dispatcher.begun(slot, first, Micros(now));
                let took: u64 = units.iter().map(|&unit| weights[unit as usize]).sum();
                busy.insert(slot, (now + startup + took, units));
            }
        }
        let Some((&slot, _)) = busy.iter().min_by_key(|(_, (end, _))| *end) else {
            return (ran, bundles, now);
        };
        let (end, units) = busy.remove(&slot).expect("it is the first to end");
        let took: u64 = units.iter().map(|&unit| weights[unit as usize]).sum();
        let mut at = end - took;
        for unit in units {
            ran[unit as usize] += 1;
            dispatcher.begun(slot, unit, Micros(at));
            at += weights[unit as usize];
            dispatcher.finished(slot, unit, Micros(at));
        }
        now = end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn bundles_hold_every_unit_once_and_are_few_and_level(
        weights in prop::collection::vec(1u64..1_000_000, 1..80),
        slots in 1u32..6,
        startup in 0u64..500_000,
        known in any::<bool>(),
    ) {
        let (ran, bundles, end) = run_bundles(&weights, slots, startup, known);
        prop_assert!(ran.iter().all(|&times| times == 1), "{ran:?}");
        // Nothing starts later than when all would be done if it were level, but for what starts cost on the way.
        let total: u64 = weights.iter().sum();
        let longest = weights.iter().max().copied().unwrap_or_default();
        let starts = startup * bundles.div_ceil(u64::from(slots)) + startup;
        prop_assert!(end <= total / u64::from(slots) + longest + starts, "{end}: {total} {longest} {bundles}");
        // A bundle but the last ones of each slot is worth its start.
        if let Some(worth) = total.checked_div(startup) {
            let most = worth + 3 * u64::from(slots);
            prop_assert!(bundles <= most, "{bundles} for {total} at {startup}");
        }
    }
}
