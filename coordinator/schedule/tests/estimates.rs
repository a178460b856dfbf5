//! Estimates: what history and neighbours tell, what is learned on the way, and what that costs.

use evenkeel_schedule::{Estimate, Experience, Learner, Micros, Past, PastRun, Sample, UnitFacts};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn facts<'a>(names: &[&'a str]) -> Vec<UnitFacts<'a>> {
    let unit = |&name| UnitFacts { name, size: 0 };
    names.iter().map(unit).collect()
}

fn sample(run: u32, work: u64) -> Sample {
    Sample {
        work: Micros(work),
        setup: Micros(5_000),
        run,
        passed: true,
    }
}

/// Durations of units, newest first, one a run.
fn past(units: &[(&str, &[u64])]) -> Past {
    let runs = units.iter().map(|(_, works)| works.len()).max();
    let run = |runs| PastRun {
        runs,
        ..PastRun::default()
    };
    let samples = |works: &[u64]| {
        (0u32..)
            .zip(works)
            .map(|(run, &work)| sample(run, work))
            .collect()
    };
    Past {
        runs: (0..runs.unwrap_or(0) as u32).map(run).collect(),
        units: units
            .iter()
            .map(|(name, works)| ((*name).to_owned(), samples(works)))
            .collect(),
    }
}

fn learner(past: &Past, names: &[&str]) -> Learner {
    Learner::new(&Experience::new(past), &facts(names), true)
}

fn estimates(past: &Past, names: &[&str]) -> Vec<Estimate> {
    let learner = learner(past, names);
    (0..names.len() as u32)
        .map(|unit| learner.estimate(unit))
        .collect()
}

fn median(learner: &Learner, unit: u32) -> f64 {
    learner.guess(unit).quantile(0.0).0 as f64
}

/// Names of a suite of many files, in directories.
fn many(count: usize) -> Vec<String> {
    (0..count)
        .map(|unit| format!("tests/d{}/test_{unit:05}.py", unit % 7))
        .collect()
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

#[test]
fn an_exact_history_is_kept_and_a_noisy_one_is_drawn_to_its_neighbours() {
    let names = many(60);
    let names = borrowed(&names);
    let long = 50_000_000.0;
    // How much of the way to its neighbours one long unit with a single sample goes, where the others vary by so much.
    let drawn = |noise: f64| {
        let works: Vec<Vec<u64>> = (0..60)
            .map(|unit| {
                let level = 1_000_000.0 * (1.0 + 0.2 * f64::from(unit % 5));
                let run = |run: u32| {
                    (level * (noise * f64::from((unit * 7 + run * 5) % 11) / 5.0 - noise).exp())
                        as u64
                };
                (0..6).map(run).collect()
            })
            .collect();
        let mut units: Vec<(&str, &[u64])> = names
            .iter()
            .copied()
            .zip(works.iter().map(Vec::as_slice))
            .collect();
        let single = [long as u64];
        units[0].1 = &single;
        (long / median(&learner(&past(&units), &names), 0)).ln()
    };
    let (exact, noisy) = (drawn(0.0), drawn(0.8));
    assert!((0.0..0.02).contains(&exact), "{exact}");
    assert!(
        noisy > 4.0 * exact && noisy > 0.02,
        "{noisy} against {exact}"
    );
}

#[test]
fn what_is_known_exactly_is_said_exactly() {
    let names = many(40);
    let works: Vec<[u64; 5]> = (0..40)
        .map(|unit| [2_000 * 3u64.pow(unit % 9); 5])
        .collect();
    let names = borrowed(&names);
    let units: Vec<(&str, &[u64])> = names
        .iter()
        .copied()
        .zip(works.iter().map(|works| &works[..]))
        .collect();
    for (estimate, works) in estimates(&past(&units), &names).iter().zip(&works) {
        let off = (estimate.work.0 as f64 / works[0] as f64).ln();
        assert!(
            off.abs() < 0.02 && estimate.known,
            "{estimate:?} for {works:?}"
        );
        assert!(estimate.setup.0.abs_diff(5_000) < 200, "{estimate:?}");
    }
}

#[test]
fn a_new_unit_takes_after_those_around_it_and_starts_early() {
    let past = past(&[
        ("tests/slow/a.py", &[20_000_000]),
        ("tests/slow/b.py", &[30_000_000]),
        ("tests/slow/c.py", &[25_000_000]),
        ("tests/fast/a.py", &[10_000]),
        ("tests/fast/b.py", &[30_000]),
        ("tests/fast/c.py", &[20_000]),
    ]);
    let mut names: Vec<&str> = past.units.keys().map(String::as_str).collect();
    names.extend(["tests/slow/q.py", "tests/fast/q.py", "elsewhere/q.py"]);
    let all = estimates(&past, &names);
    let [slow, fast, elsewhere] = [all[6], all[7], all[8]];
    assert!(
        slow.work > Micros(8_000_000) && fast.work < Micros(400_000),
        "{slow:?} {fast:?}"
    );
    assert!(
        fast.work < elsewhere.work && elsewhere.work < slow.work,
        "{elsewhere:?}"
    );
    for new in [slow, fast, elsewhere] {
        assert!(
            !new.known && new.order > new.work + new.setup && new.high > new.work,
            "{new:?}"
        );
    }
}

#[test]
fn what_is_old_fades() {
    let names = many(30);
    let names = borrowed(&names);
    // Units go up and down by a fifth from run to run, each in its own way, and stay there.
    let works: Vec<Vec<u64>> = (0..30u32)
        .map(|unit| {
            let step = |run: u32| {
                if (unit * 7 + run * run * 5) % 13 < 6 {
                    0.2
                } else {
                    -0.2
                }
            };
            let level =
                |run: u32| f64::from(3u32.pow(unit % 6)).ln() + (run..6).map(step).sum::<f64>();
            (0..6)
                .map(|run| (100_000.0 * level(run).exp()) as u64)
                .collect()
        })
        .collect();
    let units = names.iter().copied().zip(works.iter().map(Vec::as_slice));
    let mut units: Vec<(&str, &[u64])> = units.collect();
    let single = [1_500_000];
    (units[0].1, units[1].1) = (&single, &single);
    let mut past = past(&units);
    for (name, before) in [(names[0], [1, 2]), (names[1], [4, 5])] {
        let samples = past.units.get_mut(name).unwrap();
        samples.extend(before.map(|run| sample(run, 1_000_000)));
    }
    let learner = learner(&past, &names);
    let (recent, old) = (median(&learner, 0), median(&learner, 1));
    assert!(
        (1_150_000.0..1_500_000.0).contains(&recent),
        "the newest tells most: {recent}"
    );
    assert!(
        old > 1.02 * recent,
        "what is old tells less: {old} against {recent}"
    );
}

#[test]
fn a_slow_day_of_all_units_is_not_the_units() {
    let names = many(50);
    let names = borrowed(&names);
    let works: Vec<[u64; 3]> = (0..50u64)
        .map(|unit| [3, 2, 2].map(|speed| speed * 100_000 * (1 + unit % 5)))
        .collect();
    let units: Vec<(&str, &[u64])> = names
        .iter()
        .copied()
        .zip(works.iter().map(|works| &works[..]))
        .collect();
    let past = past(&units);
    let learner = learner(&past, &names);
    for (unit, works) in (0u32..).zip(&works) {
        let off = median(&learner, unit) / works[1] as f64;
        assert!((1.0..1.3).contains(&off), "{off}");
    }
}

#[test]
fn other_machines_tell_how_units_compare() {
    let names = many(40);
    let names = borrowed(&names);
    let works: Vec<[u64; 2]> = (0..40u64)
        .map(|unit| [1, 3].map(|slower| slower * 50_000 * (1 + unit % 6)))
        .collect();
    let units: Vec<(&str, &[u64])> = names
        .iter()
        .copied()
        .zip(works.iter().map(|works| &works[..]))
        .collect();
    let mut past = past(&units);
    past.runs[1].circumstances = 1;
    // This one ran only on the other machine, three times as long as it would here.
    past.units
        .insert(names[0].to_owned(), vec![sample(1, 60_000_000)]);
    let found = median(&learner(&past, &names), 0);
    assert!((14_000_000.0..24_000_000.0).contains(&found), "{found}");
}

#[test]
fn a_failed_run_tells_nothing_where_one_passed() {
    let mut past = past(&[("a", &[10, 1_000_000]), ("b", &[10])]);
    for name in ["a", "b"] {
        past.units.get_mut(name).unwrap()[0].passed = false;
    }
    let all = estimates(&past, &["a", "b"]);
    assert!(all[0].work > Micros(800_000), "{:?}", all[0]);
    assert!(all[1].known && all[1].work < all[0].work, "{:?}", all[1]);
}

#[test]
fn what_moved_or_has_other_parameters_takes_after_what_it_was() {
    let mut units: Vec<(String, Vec<u64>)> = (0..40u64)
        .map(|unit| {
            (
                format!("old/test_part{unit}.py::test_it"),
                vec![20_000 * (1 + unit % 4)],
            )
        })
        .collect();
    units.push(("old/test_solver.py::test_it".to_owned(), vec![90_000_000]));
    units.push((
        "old/test_part3.py::test_grid[8-8]".to_owned(),
        vec![70_000_000],
    ));
    let units: Vec<(&str, &[u64])> = units
        .iter()
        .map(|(name, works)| (name.as_str(), &works[..]))
        .collect();
    let past = past(&units);
    let gone = |name: &str| name.contains("solver") || name.contains("grid");
    let mut names: Vec<&str> = past
        .units
        .keys()
        .map(String::as_str)
        .filter(|name| !gone(name))
        .collect();
    let count = names.len();
    names.extend([
        "new/test_solver.py::test_it",
        "old/test_part3.py::test_grid[9-9]",
        "new/test_other.py::test_it",
    ]);
    let learner = learner(&past, &names);
    let [moved, parameters, other] = [0, 1, 2].map(|new| median(&learner, (count + new) as u32));
    assert!(moved > 30_000_000.0, "{moved}");
    assert!(parameters > 10_000_000.0, "{parameters}");
    assert!(other < 1_000_000.0, "{other}");
    // Where more may still be listed, nothing is known to be gone.
    let names = facts(&names);
    let early = Learner::new(&Experience::new(&past), &names, false);
    assert!(median(&early, count as u32) < 1_000_000.0);
}

#[test]
fn without_history_the_larger_file_is_longer_and_none_is_free() {
    let nothing = Experience::new(&Past::default());
    let size = |name, size| UnitFacts { name, size };
    let units = [size("big", 100_000), size("small", 100), size("unknown", 0)];
    let learner = Learner::new(&nothing, &units, true);
    let [big, small, unknown] = [0, 1, 2].map(|unit| learner.estimate(unit));
    assert!(big.work > small.work && small.work > Micros::ZERO && unknown.work > Micros::ZERO);
    assert!(!big.known && big.order > big.work);
}

#[test]
fn size_tells_as_much_as_it_has_shown_to() {
    let names = many(60);
    let names = borrowed(&names);
    let size = |unit: u64| 1_000 + 40_000 * (unit % 6);
    let new_against_small = |works: &dyn Fn(u64) -> u64| {
        let works: Vec<[u64; 2]> = (0..60).map(|unit| [works(unit); 2]).collect();
        let units: Vec<(&str, &[u64])> = names
            .iter()
            .copied()
            .zip(works.iter().map(|works| &works[..]))
            .collect();
        let mut facts = facts(&names);
        for (number, unit) in (0..).zip(&mut facts) {
            unit.size = size(number);
        }
        facts.push(UnitFacts {
            name: "tests/d1/test_new.py",
            size: 200_000,
        });
        facts.push(UnitFacts {
            name: "tests/d1/test_new_small.py",
            size: 1_000,
        });
        let learner = Learner::new(&Experience::new(&past(&units)), &facts, true);
        median(&learner, 60) / median(&learner, 61)
    };
    let proportional = new_against_small(&|unit| 20 * size(unit));
    let unrelated = new_against_small(&|unit| 100_000 * (1 + unit / 10));
    assert!(proportional > 8.0, "{proportional}");
    assert!(unrelated < 3.0, "{unrelated}");
}

#[test]
fn neighbours_of_what_ends_are_told() {
    let names = ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"];
    let mut learner = learner(&Past::default(), &names);
    let before = learner.estimate(1);
    let setup = Micros(40_000);
    let moved = learner.observe(0, Micros(30_000_000), setup);
    assert!(
        moved.contains(&1) && moved.contains(&2) && !moved.contains(&0),
        "{moved:?}"
    );
    let (near, far) = (learner.estimate(1), learner.estimate(4));
    assert!(
        near.work.0 > 2 * before.work.0 && far.work < near.work,
        "{near:?} {far:?}"
    );
    assert_eq!(near.setup, setup, "a suite of which nothing was known");
    // It is counted once.
    assert_eq!(learner.observe(0, Micros(1), setup), []);
    assert_eq!(learner.estimate(1), near);
}

#[test]
fn of_what_nothing_is_known_one_of_each_file_tells_first() {
    let names = |file: &str, count: usize| -> Vec<String> {
        (0..count)
            .map(|unit| format!("tests/{file}/{unit}"))
            .collect()
    };
    let files = [("new", 6), ("old", 6), ("two", 2)];
    let all: Vec<String> = files
        .iter()
        .flat_map(|(file, count)| names(file, *count))
        .collect();
    let all = borrowed(&all);
    let scouts = |past: &Past| {
        let learner = learner(past, &all);
        let units = (0..all.len() as u32).filter(|unit| learner.estimate(*unit).early > 0);
        units.map(|unit| all[unit as usize]).collect::<Vec<_>>()
    };
    let before: &[(&str, &[u64])] = &[("tests/old/3", &[1_000_000])];
    assert_eq!(scouts(&past(before)), ["tests/new/0"]);
    assert_eq!(scouts(&Past::default()), ["tests/new/0", "tests/old/0"]);
}

#[test]
fn what_nobody_knows_may_be_as_far_out_as_what_is_known_was() {
    let names = many(1_000);
    let mut all = borrowed(&names);
    all.push("tests/d1/new");
    let early = |works: &dyn Fn(u64) -> u64| {
        let works: Vec<[u64; 2]> = (0..1_000).map(|unit| [works(unit); 2]).collect();
        let units = names
            .iter()
            .map(String::as_str)
            .zip(works.iter().map(|works| &works[..]));
        let new = learner(&past(&units.collect::<Vec<_>>()), &all).estimate(1_000);
        new.early
    };
    // One in a hundred takes four hundred times as long.
    let spread = |unit: u64| 20_000 + 1_000 * (unit * 7919 % 100);
    let even = early(&spread);
    let far = early(&|unit| spread(unit) * if unit * 7919 % 1009 < 10 { 400 } else { 1 });
    assert!(far >= even + 8, "{far} {even}");
}

#[test]
fn a_history_is_not_moved_by_its_neighbours() {
    let names = many(40);
    let names = borrowed(&names);
    let units: Vec<(&str, &[u64])> = names
        .iter()
        .map(|&name| (name, &[1_000_000u64, 1_010_000][..]))
        .collect();
    let mut learner = learner(&past(&units), &names);
    let before = learner.estimate(39);
    for unit in 0..20 {
        assert_eq!(learner.observe(unit, Micros(9_000_000), Micros(5_000)), []);
    }
    let off = learner.estimate(39).work.0 as f64 / before.work.0 as f64;
    // That nine times as long for all of them says nothing of it would be too much.
    assert!((0.95..1.25).contains(&off), "{off}");
}

#[test]
fn no_observation_moves_a_large_group_at_once() {
    const UNITS: usize = 40_000;
    const ENDED: u32 = 24_000;
    let names: Vec<String> = (0..UNITS).map(|unit| format!("unit-{unit}")).collect();
    let mut learner = learner(&Past::default(), &borrowed(&names));
    let mut told: Vec<Estimate> = (0..UNITS as u32)
        .map(|unit| learner.estimate(unit))
        .collect();
    let (mut named, mut most) = (0, 0);
    for unit in 0..ENDED {
        // All take the same, which is far from what was assumed.
        let moved = learner.observe(
            unit,
            Micros(2_000_000 + u64::from(unit % 100)),
            Micros::ZERO,
        );
        named += moved.len();
        most = most.max(moved.len());
        for unit in moved {
            told[unit as usize] = learner.estimate(unit);
        }
    }
    assert!(most <= 4, "{most}");
    assert!((UNITS / 2..=3 * UNITS).contains(&named), "{named}");
    for unit in ENDED..UNITS as u32 {
        let now = learner.estimate(unit);
        let off = (told[unit as usize].work.0 as f64 / now.work.0 as f64).ln();
        assert!(
            off.abs() < 0.2,
            "unit {unit} was told {:?} and is {now:?}",
            told[unit as usize]
        );
        assert!((1_500_000..2_600_000).contains(&now.work.0), "{now:?}");
    }
}

/// A suite with some history, of which some units are gone and others are new.
fn any_past() -> impl Strategy<Value = (BTreeMap<String, Vec<u64>>, Vec<String>)> {
    let name = "[abc]/[de]_[fgh](\\[[0-9]\\])?";
    let samples = prop::collection::vec(prop_oneof![1u64..1_000, 1_000u64..100_000_000], 1..5);
    let history = prop::collection::btree_map(name, samples, 0..25);
    let listed = prop::collection::btree_set(name, 1..25);
    (history, listed).prop_map(|(history, listed)| (history, listed.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn estimates_are_ordered_never_zero_and_the_same_each_time((history, listed) in any_past(), days in 0u32..400) {
        let units: Vec<(&str, &[u64])> = history.iter().map(|(name, works)| (name.as_str(), &works[..])).collect();
        let mut past = past(&units);
        if let Some(oldest) = past.runs.last_mut() {
            oldest.days = days;
            oldest.circumstances = days % 2;
        }
        let names = borrowed(&listed);
        let all = estimates(&past, &names);
        for (estimate, name) in all.iter().zip(&names) {
            prop_assert!(estimate.work > Micros::ZERO);
            prop_assert!(estimate.work + estimate.setup <= estimate.high && estimate.high <= estimate.deadline);
            prop_assert!(estimate.order >= estimate.work + estimate.setup);
            prop_assert_eq!(estimate.known, history.contains_key(*name));
        }
        prop_assert_eq!(all, estimates(&past, &names));
    }

    #[test]
    fn levels_do_not_depend_on_the_order_in_which_units_end((history, listed) in any_past(), seed in 0u64..1_000) {
        let units: Vec<(&str, &[u64])> = history.iter().map(|(name, works)| (name.as_str(), &works[..])).collect();
        let names = borrowed(&listed);
        let mut ended: Vec<(u32, Micros)> = (0..names.len() as u32 / 2)
            .map(|unit| (unit, Micros(1 + (seed + 1) * u64::from(unit + 1) * 7_919 % 5_000_000)))
            .collect();
        let mut forwards = learner(&past(&units), &names);
        let mut backwards = forwards.clone();
        for &(unit, took) in &ended {
            forwards.observe(unit, took, Micros::ZERO);
        }
        ended.reverse();
        for &(unit, took) in &ended {
            backwards.observe(unit, took, Micros::ZERO);
        }
        for unit in 0..names.len() as u32 {
            prop_assert_eq!(forwards.guess(unit).mu, backwards.guess(unit).mu);
        }
    }
}
