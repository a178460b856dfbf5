//! Plans of whole problems against what is known of them otherwise: trying every assignment, simpler algorithms, and the rules
//! themselves. Each planted fault is caught by the same properties.

mod oracle;

use evenkeel_schedule::planted::{Fault, plant};
use evenkeel_schedule::{
    Micros, Plan, PlanError, Problem, Rule, SlotCapacity, SlotOffer, lower_bound, plan, solve,
};
use oracle::{best_of_all, broken, takes};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestError, TestRunner};

#[derive(Clone, Debug)]
pub struct Case {
    weights: Vec<Micros>,
    slots: Vec<SlotOffer>,
    rules: Vec<Rule>,
}

impl Case {
    fn problem(&self) -> Problem<'_> {
        Problem {
            weights: &self.weights,
            slots: &self.slots,
            rules: &self.rules,
        }
    }
}

/// What a case is drawn from. Weights are even and speeds powers of two, so that nothing is rounded.
#[derive(Clone, Copy)]
struct Sizes {
    units: (usize, usize),
    slots: (usize, usize),
    rules: usize,
    most: u64,
    uneven: bool,
    /// Rules are about labels only.
    labels: bool,
    cases: u32,
}

fn cases(sizes: Sizes) -> impl Strategy<Value = Case> {
    let Sizes {
        units,
        slots,
        rules,
        most,
        uneven,
        labels,
        cases: _,
    } = sizes;
    let weights = prop::collection::vec((0..most).prop_map(|w| Micros(2 * w)), units.0..=units.1);
    let speed = if uneven {
        prop::sample::select(vec![1000, 500, 2000, 1000]).boxed()
    } else {
        Just(1000).boxed()
    };
    let ready = if uneven {
        (0u64..10).prop_map(|at| 4 * at).boxed()
    } else {
        Just(0).boxed()
    };
    let slot = (ready, speed, 0u32..3, prop::collection::vec(0u32..3, 0..3));
    let slots = prop::collection::vec(
        slot.prop_map(|(ready, speed_milli, agent, labels)| SlotOffer {
            ready: Micros(ready),
            speed_milli,
            agent,
            labels,
        }),
        slots.0..=slots.1,
    );
    (weights, slots).prop_flat_map(move |(weights, slots)| {
        let count = weights.len() as u32;
        (
            Just(weights),
            Just(slots),
            prop::collection::vec(rule(count, labels), 0..=rules),
        )
            .prop_map(|(weights, slots, rules)| Case {
                weights,
                slots,
                rules,
            })
    })
}

fn rule(count: u32, labels: bool) -> impl Strategy<Value = Rule> {
    let some = move |most: usize| prop::collection::vec(0..count, 1..=most);
    let needs = move |most: usize| {
        (some(most), prop::collection::vec(0u32..3, 1..3))
            .prop_map(|(units, labels)| Rule::Needs { units, labels })
    };
    if labels {
        return needs(40).boxed();
    }
    prop_oneof![
        needs(4),
        some(2).prop_map(|units| Rule::Exclusive { units }),
        some(4).prop_map(|units| Rule::Lock { units }),
        some(3).prop_map(|units| Rule::Together { units }),
        some(4).prop_map(|units| Rule::Apart { units }),
        some(4).prop_map(|units| Rule::Apart { units }),
        (some(5), 0u32..3).prop_map(|(units, most)| Rule::PerAgent { units, most }),
    ]
    .boxed()
}

const SMALL: Sizes = Sizes {
    units: (1, 6),
    slots: (1, 4),
    rules: 4,
    most: 20,
    uneven: true,
    labels: false,
    cases: 1000,
};
/// Units that mind their company, so that the first place is often the wrong one.
const COMPANY: Sizes = Sizes {
    units: (3, 6),
    slots: (2, 3),
    rules: 7,
    ..SMALL
};
const COARSE: Sizes = Sizes {
    units: (4, 7),
    slots: (2, 3),
    rules: 0,
    most: 40,
    uneven: false,
    ..SMALL
};
const MIDDLE: Sizes = Sizes {
    units: (20, 60),
    cases: 50,
    slots: (3, 9),
    rules: 9,
    most: 500,
    ..SMALL
};
const MANY: Sizes = Sizes {
    units: (45, 250),
    cases: 150,
    slots: (2, 20),
    rules: 0,
    most: 5000,
    uneven: false,
    ..SMALL
};

/// A property of plans.
type Property = fn(&Case) -> TestCaseResult;

const PROPERTIES: [(&str, Sizes, Property); 10] = [
    ("rules are kept", SMALL, keeps_the_rules),
    ("rules are kept by larger plans", MIDDLE, keeps_the_rules),
    ("what is possible is found", SMALL, finds_what_is_possible),
    (
        "what minds its company is placed",
        COMPANY,
        finds_what_is_possible,
    ),
    (
        "few units are planned as well as can be",
        COARSE,
        is_the_best_there_is,
    ),
    ("and so they are under rules", SMALL, is_the_best_there_is),
    ("no worse than simpler plans", MANY, beats_simpler_plans),
    (
        "no worse than earliest finish",
        Sizes {
            uneven: true,
            ..MANY
        },
        beats_simpler_plans,
    ),
    (
        "no worse than earliest finish where it may be",
        Sizes {
            rules: 3,
            labels: true,
            ..MANY
        },
        beats_simpler_plans,
    ),
    ("what was planned stays", MANY, stays),
];

/// A plan holds every unit once, keeps all rules, says its makespan, and is the same the next time.
fn keeps_the_rules(case: &Case) -> TestCaseResult {
    let problem = case.problem();
    let solved = solve(&problem, None);
    prop_assert_eq!(
        format!("{:?}", &solved),
        format!("{:?}", solve(&problem, None))
    );
    let Ok(planned) = solved else { return Ok(()) };
    prop_assert_eq!(broken(case, &planned), None, "{:?}", planned);
    // The plan of the same problem before stands, and one of a smaller problem does no harm.
    let again = solve(&problem, Some(&planned)).expect("it was possible before");
    prop_assert_eq!(broken(case, &again), None, "{:?}", again);
    let mut less = planned.clone();
    less.shards.pop();
    let with = solve(&problem, Some(&less)).expect("it was possible before");
    prop_assert_eq!(broken(case, &with), None, "{:?}", with);
    Ok(())
}

/// There is a plan just where trying every assignment finds one; else the unit that is named is one that cannot be placed.
fn finds_what_is_possible(case: &Case) -> TestCaseResult {
    let possible = best_of_all(case);
    match solve(&case.problem(), None) {
        Ok(_) => prop_assert!(possible.is_some()),
        Err(error) => {
            prop_assert_eq!(possible, None, "{}", error);
            let named = format!("unit {}", error.unit());
            prop_assert!(error.to_string().contains(&named));
            prop_assert!(is_to_blame(case, &error), "{}", error);
        }
    }
    Ok(())
}

/// Whether what an error says holds.
fn is_to_blame(case: &Case, error: &PlanError) -> bool {
    let unit = error.unit();
    let joined = oracle::joined(case);
    let block: Vec<u32> = (0..case.weights.len() as u32)
        .filter(|&other| joined.get(unit as usize) == Some(&joined[other as usize]))
        .collect();
    let named = |units: &[u32]| block.iter().any(|unit| units.contains(unit));
    let mut rules = case.rules.iter();
    match error {
        PlanError::NoSlot { .. } => case.slots.iter().all(|slot| slot.speed_milli == 0),
        PlanError::NoSuchUnit { .. } => unit as usize >= case.weights.len(),
        PlanError::NotOffered { labels, .. } => {
            let mut needed: Vec<u32> = Vec::new();
            for rule in &case.rules {
                if let Rule::Needs { units, labels } = rule
                    && named(units)
                {
                    needed.extend(labels);
                }
            }
            needed.sort_unstable();
            needed.dedup();
            let offers = |slot: &SlotOffer| needed.iter().all(|label| slot.labels.contains(label));
            *labels == needed && !case.slots.iter().any(offers)
        }
        PlanError::TogetherAndApart { other, .. } => {
            let both = |rule: &Rule| match rule {
                Rule::Apart { units } => units.contains(&unit) && units.contains(other),
                _ => false,
            };
            unit != *other && block.contains(other) && rules.any(both)
        }
        PlanError::Barred { .. } => rules
            .any(|rule| matches!(rule, Rule::PerAgent { units, most: 0 } if units.contains(&unit))),
        PlanError::Crowded { .. } => {
            rules.any(|rule| matches!(rule, Rule::Apart { units } if named(units)))
        }
        // The unit is one that minds its company.
        PlanError::NotFound { .. } => rules.any(|rule| match rule {
            Rule::Apart { units } | Rule::PerAgent { units, .. } => named(units),
            _ => false,
        }),
    }
}

/// Where no lock delays anything, no assignment ends earlier.
fn is_the_best_there_is(case: &Case) -> TestCaseResult {
    let exclusive = case
        .rules
        .iter()
        .any(|rule| matches!(rule, Rule::Exclusive { .. }));
    let particular = |rule: &Rule| matches!(rule, Rule::Apart { .. } | Rule::PerAgent { .. });
    let timed = case
        .rules
        .iter()
        .any(|rule| matches!(rule, Rule::Lock { .. }))
        || exclusive && case.rules.iter().any(particular);
    if let (false, Ok(planned)) = (timed, solve(&case.problem(), None)) {
        prop_assert_eq!(Some(planned.makespan.0), best_of_all(case), "{:?}", planned);
    }
    Ok(())
}

/// Placing the longest units first, each where it ends first, looking at every slot; and the plan for equal slots.
fn beats_simpler_plans(case: &Case) -> TestCaseResult {
    let problem = case.problem();
    let Ok(planned) = solve(&problem, None) else {
        return Ok(()); // a label that no slot has
    };
    let mut ends: Vec<u64> = case.slots.iter().map(|slot| slot.ready.0).collect();
    let mut order: Vec<usize> = (0..case.weights.len()).collect();
    order.sort_by_key(|&unit| (std::cmp::Reverse(case.weights[unit]), unit));
    let mut last = 0;
    for unit in order {
        let on = |slot: usize| ends[slot] + takes(case.weights[unit], &case.slots[slot]);
        let labels = case.rules.iter().filter_map(|rule| match rule {
            Rule::Needs { units, labels } if units.contains(&(unit as u32)) => Some(labels),
            _ => None,
        });
        let needed: Vec<u32> = labels.flatten().copied().collect();
        let may = |slot: &usize| {
            let has = &case.slots[*slot].labels;
            needed.iter().all(|label| has.contains(label))
        };
        let slot = (0..ends.len())
            .filter(may)
            .min_by_key(|&slot| on(slot))
            .expect("a plan was found");
        ends[slot] = on(slot);
        last = last.max(ends[slot]);
    }
    prop_assert!(
        planned.makespan.0 <= last,
        "{} against {last}",
        planned.makespan
    );
    let capacities: Vec<SlotCapacity> = case
        .slots
        .iter()
        .map(|slot| SlotCapacity {
            ready: slot.ready,
            speed_milli: slot.speed_milli,
        })
        .collect();
    let work = case.weights.iter().copied().sum();
    let bound = lower_bound(work, &case.weights, &capacities).makespan();
    prop_assert!(
        planned.makespan >= bound,
        "{} under {bound}",
        planned.makespan
    );
    if case.rules.is_empty() && case.slots.iter().all(|slot| slot.speed_milli == 1000) {
        let free: Vec<Micros> = case.slots.iter().map(|slot| slot.ready).collect();
        let simple = plan(&case.weights, &free).makespan;
        prop_assert!(
            planned.makespan <= simple,
            "{} against {simple}",
            planned.makespan
        );
    }
    Ok(())
}

/// Where a unit takes something else now, all others stay where they were unless that costs more than half a percent.
fn stays(case: &Case) -> TestCaseResult {
    let before = solve(&case.problem(), None).expect("there are no rules");
    let mut now = case.clone();
    now.weights[0] = Micros(now.weights[0].0 / 2 + 20);
    let fresh = solve(&now.problem(), None).expect("there are no rules");
    let ends = before.shards.iter().zip(&now.slots).map(|(units, slot)| {
        let took = units
            .iter()
            .map(|&unit| takes(now.weights[unit as usize], slot));
        slot.ready.0 + took.sum::<u64>()
    });
    let as_before = ends.max().unwrap_or_default();
    let planned = solve(&now.problem(), Some(&before)).expect("there are no rules");
    prop_assert_eq!(broken(&now, &planned), None);
    let most = fresh.makespan.0 + fresh.makespan.0 / 200;
    prop_assert!(planned.makespan.0 <= most);
    if as_before <= most {
        let sorted = |plan: &Plan| {
            let mut shards = plan.shards.clone();
            shards.iter_mut().for_each(|units| units.sort_unstable());
            shards
        };
        prop_assert_eq!(sorted(&planned), sorted(&before));
    }
    Ok(())
}

/// Whether a property holds for that many cases, the same each time.
fn holds(sizes: Sizes, property: Property, cases: u32, shrink: u32) -> Result<(), TestError<Case>> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: shrink,
        ..Config::default()
    };
    let algorithm = config.rng_algorithm;
    let mut runner = TestRunner::new_with_rng(
        config,
        prop::test_runner::TestRng::deterministic_rng(algorithm),
    );
    runner.run(&self::cases(sizes), |case| property(&case))
}

#[test]
fn every_property_holds() {
    for (name, sizes, property) in PROPERTIES {
        let cases = sizes.cases;
        if let Err(error) = holds(sizes, property, cases, 2000) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn every_planted_fault_is_caught() {
    const FAULTS: [Fault; 19] = [
        Fault::DroppedUnit,
        Fault::TwicePlaced,
        Fault::AnyLabel,
        Fault::TornApart,
        Fault::Shared,
        Fault::OverMaximum,
        Fault::EarlyLock,
        Fault::Accompanied,
        Fault::SmallestFirst,
        Fault::SpeedBlind,
        Fault::ReadyBlind,
        Fault::StaleEnds,
        Fault::Overfull,
        Fault::Overpruned,
        Fault::FirstEnd,
        Fault::Unstable,
        Fault::WrongUnit,
        Fault::NoSecondLook,
        Fault::Forgetful,
    ];
    let mut escaped = Vec::new();
    for fault in FAULTS {
        plant(Some(fault));
        let caught = PROPERTIES.iter().find(|(_, sizes, property)| {
            let cases = sizes.cases;
            matches!(holds(*sizes, *property, cases, 0), Err(TestError::Fail(..)))
        });
        plant(None);
        match caught {
            Some((name, ..)) => println!("{fault:?}: {name}"),
            None => escaped.push(fault),
        }
    }
    assert!(escaped.is_empty(), "nothing notices {escaped:?}");
}

#[test]
fn what_cannot_be_is_said_of_the_unit_that_cannot_be_placed() {
    let plain = SlotOffer::default();
    let with = |labels: &[u32]| SlotOffer {
        labels: labels.to_vec(),
        ..SlotOffer::default()
    };
    let both = |units: &[u32]| units.to_vec();
    let told = |slots: &[SlotOffer], rules: &[Rule]| {
        let weights = [Micros(5); 4];
        let problem = Problem {
            weights: &weights,
            slots,
            rules,
        };
        let error = solve(&problem, None).expect_err("these rules cannot be kept");
        error.to_string()
    };
    assert_eq!(told(&[], &[]), "there is no slot for unit 0");
    let needs = Rule::Needs {
        units: both(&[2]),
        labels: vec![1, 7],
    };
    assert_eq!(
        told(&[with(&[1]), with(&[7])], std::slice::from_ref(&needs)),
        "no slot has all labels that unit 2 needs: 1, 7"
    );
    let together = Rule::Together {
        units: both(&[1, 3]),
    };
    let apart = Rule::Apart {
        units: both(&[0, 3, 1]),
    };
    assert_eq!(
        told(&[plain.clone(), plain.clone()], &[together, apart.clone()]),
        "unit 1 has to stay together with unit 3, and has to be apart from it"
    );
    assert_eq!(
        told(&[plain.clone(), plain.clone()], &[apart]),
        "unit 3 may run on 2 slots, and each of them has to take another unit from which it has to be apart"
    );
    let barred = Rule::PerAgent {
        units: both(&[3]),
        most: 0,
    };
    assert_eq!(
        told(std::slice::from_ref(&plain), &[barred]),
        "no agent may run unit 3: its maximum is 0"
    );
    let unknown = Rule::Lock { units: both(&[4]) };
    assert_eq!(
        told(&[plain], &[unknown]),
        "a rule names unit 4, which there is not"
    );
}

#[test]
fn without_units_there_is_nothing_to_plan() {
    let slots = [SlotOffer::default(), SlotOffer::default()];
    for slots in [&slots[..], &[]] {
        let problem = Problem {
            weights: &[],
            slots,
            rules: &[],
        };
        let planned = solve(&problem, None).expect("nothing is in the way");
        assert_eq!(planned.shards, vec![Vec::<u32>::new(); slots.len()]);
        assert_eq!(planned.makespan, Micros::ZERO);
    }
}

#[test]
fn what_needs_a_rare_slot_has_it_though_it_is_small() {
    // Placed by size alone, the slot with the label would have its share of the others before its own units come.
    let weights: Vec<Micros> = (0..400)
        .map(|unit| Micros(if unit % 4 == 0 { 10 } else { 100 }))
        .collect();
    let units = (0..400).step_by(4).collect();
    let rules = [Rule::Needs {
        units,
        labels: vec![9],
    }];
    let mut slots = vec![SlotOffer::default(); 20];
    slots[7].labels = vec![9];
    let problem = Problem {
        weights: &weights,
        slots: &slots,
        rules: &rules,
    };
    let planned = solve(&problem, None).expect("a slot has the label");
    assert_eq!(
        planned.makespan,
        Micros(1600),
        "sixteen hundreds on nineteen slots, and a thousand and six hundreds on the other"
    );
}

#[test]
fn a_failing_property_is_a_failure_and_no_rejection() {
    let fails: Property = |_| Err(TestCaseError::fail("as it should"));
    assert!(matches!(
        holds(SMALL, fails, 1, 0),
        Err(TestError::Fail(..))
    ));
}
