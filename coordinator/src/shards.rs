//! A static split: which shard has which units, for nodes that work it out each by itself and have nobody to ask.
//!
//! So it depends on nothing but what the nodes have in common: the units, whatever order they are listed in, what is known of them, and the number of
//! shards. The digests tell whether they do have it in common. What needs one lock is in one shard, since nothing else would keep it apart.

use crate::rules::{PatternError, Rules};
use evenkeel_proto::suite::Suite;
use evenkeel_schedule::{
    Experience, Learner, Micros, Past, PastRun, PlanError, Problem, Rule, Sample, SlotCapacity,
    SlotOffer, UnitFacts, lower_bound, solve,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// A unit that was listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The number of its suite.
    pub suite: u32,
    pub name: String,
    pub path: String,
    /// Bytes of source, 0 where unknown.
    pub size: u64,
}

/// What the units of a suite took, set-up included, by their names.
pub type Durations = BTreeMap<String, Duration>;

/// A unit with what it should take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed {
    pub unit: Listed,
    /// Whole milliseconds, never none.
    pub expected: Micros,
    /// It has been measured; else what is expected is a guess.
    pub known: bool,
}

/// A split of a number of suites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// By suite and name.
    pub units: Vec<Weighed>,
    /// For each shard its units, as positions among them, ascending.
    pub shards: Vec<Vec<u32>>,
    pub makespan: Micros,
    /// No split is shorter than this.
    pub bound: Micros,
    /// Of what was listed: names, and what must not run side by side.
    pub manifest: String,
    /// Of what each unit is expected to take.
    pub durations: String,
    /// Of the two, and of the shards.
    pub plan: String,
    /// What needs one lock, or to run alone, and takes longer than a shard's share: its name and how long.
    pub chains: Vec<(String, Micros)>,
    /// So many units must run alone, which other shards know nothing of.
    pub alone: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Splits units over so many shards, at least one. `durations` is by suite; units that are listed twice count once.
///
/// A unit takes what it took. One without durations is guessed as a run guesses it: from its neighbours and its size.
pub fn split(
    suites: &[Suite],
    listed: Vec<Listed>,
    durations: &[Durations],
    count: u32,
) -> Result<Split, SplitError> {
    let rules = Rules::new(suites)?;
    let units = weighed(listed, durations);
    let weights: Vec<Micros> = units.iter().map(|unit| unit.expected).collect();
    let groups = one_by_one(&rules, &units);
    let together: Vec<Rule> = groups
        .values()
        .map(|units| Rule::Together {
            units: units.clone(),
        })
        .collect();
    let slots = vec![SlotOffer::default(); count as usize];
    let problem = Problem {
        weights: &weights,
        slots: &slots,
        rules: &together,
    };
    let mut planned = solve(&problem, None)?;
    planned
        .shards
        .iter_mut()
        .for_each(|shard| shard.sort_unstable());

    let capacity = SlotCapacity {
        ready: Micros::ZERO,
        speed_milli: 1000,
    };
    let work: Micros = weights.iter().copied().sum();
    let bound = lower_bound(work, &weights, &vec![capacity; count as usize]).makespan();
    let share = Micros(work.0 / u64::from(count.max(1)));
    let together =
        |units: &[u32]| -> Micros { units.iter().map(|&unit| weights[unit as usize]).sum() };
    let chains = groups
        .iter()
        .map(|(name, units)| (name.clone(), together(units)));
    let chains: Vec<(String, Micros)> = chains.filter(|(_, took)| *took > share).collect();

    let mut manifest = blake3::Hasher::new();
    let mut known = blake3::Hasher::new();
    for weighed in &units {
        let suite = suites.get(weighed.unit.suite as usize);
        text(&mut manifest, suite.map_or("", |suite| &suite.name));
        text(&mut manifest, &weighed.unit.name);
        known.update(&weighed.expected.0.to_le_bytes());
        known.update(&[u8::from(weighed.known)]);
    }
    for (name, units) in &groups {
        text(&mut manifest, name);
        units.iter().for_each(|unit| {
            manifest.update(&unit.to_le_bytes());
        });
    }
    let (manifest, known) = (manifest.finalize(), known.finalize());
    let mut plan = blake3::Hasher::new();
    plan.update(manifest.as_bytes()).update(known.as_bytes());
    for shard in &planned.shards {
        plan.update(&(shard.len() as u64).to_le_bytes());
        shard.iter().for_each(|unit| {
            plan.update(&unit.to_le_bytes());
        });
    }
    let short = |digest: blake3::Hash| digest.to_hex()[..12].to_owned();
    Ok(Split {
        shards: planned.shards,
        makespan: planned.makespan,
        bound: bound.max(chains.iter().map(|chain| chain.1).max().unwrap_or_default()),
        manifest: short(manifest),
        durations: short(known),
        plan: short(plan.finalize()),
        chains,
        alone: groups.get(ALONE).map_or(0, Vec::len),
        units,
    })
}

/// The units in their order, each once, with what they should take.
fn weighed(mut listed: Vec<Listed>, durations: &[Durations]) -> Vec<Weighed> {
    listed.sort_unstable();
    listed.dedup_by(|one, other| (one.suite, &one.name) == (other.suite, &other.name));
    let mut units = Vec::with_capacity(listed.len());
    for of_suite in listed.chunk_by(|one, other| one.suite == other.suite) {
        let known = of_suite
            .first()
            .and_then(|unit| durations.get(unit.suite as usize));
        let nothing = Durations::new();
        let known = known.unwrap_or(&nothing);
        let sample = |took: &Duration| Sample {
            work: (*took).into(),
            setup: Micros::ZERO,
            run: 0,
            passed: true,
        };
        let past = Past {
            runs: vec![PastRun::default()],
            units: known
                .iter()
                .map(|(name, took)| (name.clone(), vec![sample(took)]))
                .collect(),
        };
        let facts: Vec<UnitFacts<'_>> = of_suite
            .iter()
            .map(|unit| UnitFacts {
                name: &unit.name,
                size: unit.size,
            })
            .collect();
        let learner = Learner::new(&Experience::new(&past), &facts, true);
        for (place, unit) in (0..).zip(of_suite) {
            let measured = known.get(&unit.name).map(|took| Micros::from(*took));
            let guess = || learner.estimate(place).work;
            units.push(Weighed {
                unit: unit.clone(),
                expected: whole_millis(measured.unwrap_or_else(guess)),
                known: measured.is_some(),
            });
        }
    }
    units
}

/// Logarithms differ in their last digit between machines; in whole milliseconds they do not.
fn whole_millis(micros: Micros) -> Micros {
    Micros::from_millis((micros.0.saturating_add(500) / 1000).max(1))
}

/// What runs alone is kept apart like what needs this.
const ALONE: &str = "what is exclusive";

/// Units of which one runs at a time, by what keeps them apart.
fn one_by_one(rules: &Rules, units: &[Weighed]) -> BTreeMap<String, Vec<u32>> {
    let mut groups: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (number, weighed) in (0..).zip(units) {
        let (needs, _) = rules.of(weighed.unit.suite, &weighed.unit.name, &weighed.unit.path);
        let locks = needs.locks.iter();
        let locks = locks.map(|&lock| format!("what needs the lock {}", rules.lock(lock)));
        let alone = needs.exclusive.then(|| ALONE.to_owned());
        for group in locks.chain(alone) {
            groups.entry(group).or_default().push(number);
        }
    }
    groups
}

fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher
        .update(&(text.len() as u64).to_le_bytes())
        .update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_proto::suite::Override;
    use proptest::prelude::*;

    fn listed(name: &str) -> Listed {
        Listed {
            suite: 0,
            name: name.to_owned(),
            path: String::new(),
            size: 0,
        }
    }

    fn took(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn every_node_comes_to_the_same_shards_and_they_hold_everything_once() {
        let strategy = (
            prop::collection::btree_map(
                "[a-d]{1,2}/[a-z]{1,3}",
                prop::option::of(1u64..5000),
                0..60,
            )
            .prop_flat_map(|units| {
                let names: Vec<String> = units.keys().cloned().collect();
                (Just(units), Just(names).prop_shuffle())
            }),
            1u32..9,
        );
        proptest!(|(((units, order), count) in strategy)| {
            let durations: Durations = units
                .iter()
                .filter_map(|(name, took)| Some((name.clone(), Duration::from_millis((*took)?))))
                .collect();
            let of = |names: Vec<&String>| {
                let listed = names.into_iter().map(|name| listed(name)).collect();
                split(&[], listed, std::slice::from_ref(&durations), count).expect("there are no rules")
            };
            let one = of(units.keys().collect());
            // Another order, and some of them twice.
            let again = order.iter().chain(order.iter().step_by(3));
            prop_assert_eq!(&one, &of(again.collect()));
            let mut all: Vec<u32> = one.shards.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..units.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(one.shards.len(), count as usize);
            prop_assert!(one.units.iter().all(|unit| unit.expected >= Micros::from_millis(1)));
            prop_assert!(one.units.windows(2).all(|pair| pair[0].unit < pair[1].unit));
            prop_assert!(one.makespan >= one.bound);
        });
    }

    #[test]
    fn digests_differ_where_nodes_do() {
        let of = |names: &[&str], millis: u64, count: u32| {
            let durations = Durations::from([("a".to_owned(), took(millis))]);
            let listed = names.iter().map(|name| listed(name)).collect();
            split(&[], listed, &[durations], count).expect("there are no rules")
        };
        let one = of(&["a", "b"], 100, 2);
        let other_units = of(&["a", "c"], 100, 2);
        assert_ne!(one.manifest, other_units.manifest);
        let other_times = of(&["a", "b"], 200, 2);
        assert_eq!(one.manifest, other_times.manifest);
        assert_ne!(one.durations, other_times.durations);
        let other_count = of(&["a", "b"], 100, 3);
        assert_eq!(
            (&one.manifest, &one.durations),
            (&other_count.manifest, &other_count.durations)
        );
        assert_ne!(one.plan, other_count.plan);
        // Names that run into each other are two pairs.
        assert_ne!(
            of(&["ab", "c"], 1, 1).manifest,
            of(&["a", "bc"], 1, 1).manifest
        );
    }

    #[test]
    fn what_needs_one_lock_is_in_one_shard() {
        let suite = Suite {
            name: "unit".into(),
            overrides: vec![
                Override {
                    units: vec!["db/*".into()],
                    locks: Some(evenkeel_proto::suite::Names {
                        names: vec!["database".into()],
                    }),
                    ..Override::default()
                },
                Override {
                    units: vec!["alone*".into()],
                    exclusive: Some(true),
                    ..Override::default()
                },
            ],
            ..Suite::default()
        };
        let names = ["db/a", "x", "db/b", "y", "alone1", "alone2", "z", "db/c"];
        let listed = names.iter().map(|name| listed(name)).collect();
        let split = split(&[suite], listed, &[], 4).expect("the patterns are right");
        let shard_of = |name: &str| {
            let number = split.units.iter().position(|unit| unit.unit.name == name);
            let number = number.expect("it was listed") as u32;
            split
                .shards
                .iter()
                .position(|shard| shard.contains(&number))
        };
        assert_eq!(shard_of("db/a"), shard_of("db/b"));
        assert_eq!(shard_of("db/a"), shard_of("db/c"));
        assert_eq!(shard_of("alone1"), shard_of("alone2"));
        assert_ne!(shard_of("alone1"), shard_of("db/a"));
        assert_eq!(split.alone, 2);
        assert_eq!(split.chains.len(), 1, "{:?}", split.chains);
        assert_eq!(split.chains[0].0, "what needs the lock database");
        assert_eq!(split.makespan, split.bound);
    }
}
