//! What is expected of each unit of a run before the first of them has ended.

use super::history::Experience;
use super::learner::UnitFacts;
use super::log;
use super::names::groups;
use super::renamed::namesakes;
use super::samples::{ASSUMED, Level};
use super::size::by_size;
use super::tree::{Belief, Tree};
use crate::Micros;
use std::collections::BTreeMap;

/// Variance between what a unit took and what it takes under another name.
const MOVED: f64 = 0.05;
/// Names that have so much in common are one unit's with even odds; and how sharply that changes around it.
const EVEN: f64 = 0.35;
const SHARPNESS: f64 = 15.0;

/// Units and those that are gone, in the order of their names.
pub(super) struct Prior {
    /// Of each unit by its number: its place in that order.
    pub places: Vec<u32>,
    pub units: Vec<Place>,
    /// Levels of work, less what the size of a unit's source tells.
    pub work: Tree,
    /// Of new units by their place: what they may have been before.
    pub before: BTreeMap<u32, Before>,
}

/// What a new unit took under another name, if that was its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub odds: f64,
    pub mean: f64,
    pub variance: f64,
}

impl Before {
    fn new(tree: &Tree, gone: u32, odds: f64) -> Before {
        let level = tree.level_of_known(gone);
        Before {
            odds,
            mean: level.mean,
            variance: level.variance() + MOVED,
        }
    }

    /// What is known of the unit, where its neighbours tell this: mean and variance of the mixture.
    pub fn or(self, neighbours: Belief) -> Belief {
        let Before {
            odds,
            mean,
            variance,
        } = self;
        let both = odds * mean + (1.0 - odds) * neighbours.mean;
        let apart = odds * (1.0 - odds) * (mean - neighbours.mean).powi(2);
        let spread = odds * variance + (1.0 - odds) * neighbours.variance() + apart;
        Belief::new(both, spread)
    }
}

pub(super) struct Place {
    /// Nothing for one that is gone.
    pub number: Option<u32>,
    /// What the size of its source tells.
    pub offset: f64,
    /// Variance of one run around its level.
    pub noise: f64,
    /// The logarithm of its set-up.
    pub setup: f64,
    pub known: bool,
}

/// `whole`: there are no other units than these, so that what ran before and is not among them is gone, or has another name now.
pub(super) fn prior(experience: &Experience, facts: &[UnitFacts<'_>], whole: bool) -> Prior {
    let mut names: Vec<&str> = facts.iter().map(|unit| unit.name).collect();
    names.extend(experience.names.iter().map(String::as_str));
    names.sort_unstable();
    names.dedup();
    let place = |name: &str| names.partition_point(|other| *other < name);
    let places: Vec<u32> = facts.iter().map(|unit| place(unit.name) as u32).collect();
    let mut past = vec![None; names.len()];
    for (at, name) in experience.names.iter().enumerate() {
        past[place(name)] = Some(at).filter(|&at| experience.work[at].is_known());
    }

    let level = |levels: &[Level], place: usize| past[place].map(|at: usize| levels[at]);
    let known: Vec<Option<f64>> = places
        .iter()
        .map(|&place| Some(level(&experience.work, place as usize)?.mean))
        .collect();
    let (offsets, usual) = by_size(facts, &known);
    let mut units: Vec<Place> = (0..names.len())
        .map(|place| Place {
            number: None,
            offset: 0.0,
            noise: level(&experience.work, place).map_or(ASSUMED.noise, |level| level.noise),
            setup: 0.0,
            known: past[place].is_some(),
        })
        .collect();
    for (number, (&place, offset)) in (0u32..).zip(places.iter().zip(offsets)) {
        let unit = &mut units[place as usize];
        (unit.number, unit.offset) = (Some(number), offset);
    }

    let own = |levels: &[Level], offset: &dyn Fn(usize) -> f64| -> Vec<Belief> {
        let own = |place| match level(levels, place) {
            Some(level) => Belief::new(level.mean - offset(place), level.variance),
            None => Belief::default(),
        };
        (0..names.len()).map(own).collect()
    };
    let groups = groups(&names);
    let mut work_root = experience.work_root;
    if experience.is_empty() {
        work_root.mean = usual;
    }
    let own_work = own(&experience.work, &|place| units[place].offset);
    let own_setup = own(&experience.setup, &|_| 0.0);
    let work = Tree::new(groups.clone(), own_work, work_root, experience.work_spreads);
    let (root, spreads) = (experience.setup_root, experience.setup_spreads);
    let setup = Tree::new(groups, own_setup, root, spreads);
    let renamed = match whole {
        true => renamed(&names, &units),
        false => Vec::new(),
    };
    let before = |tree: &Tree| -> BTreeMap<u32, Before> {
        let renamed = renamed.iter();
        renamed
            .map(|&(new, gone, odds)| (new, Before::new(tree, gone, odds)))
            .collect()
    };
    let setups_before = before(&setup);
    for (place, unit) in (0u32..).zip(&mut units) {
        unit.setup = match experience.is_empty() {
            true => log(Micros::ZERO),
            false => match setups_before.get(&place) {
                Some(before) => before.or(setup.neighbours(place)).mean,
                None => setup.level_of(place).mean,
            },
        };
    }
    Prior {
        places,
        units,
        before: before(&work),
        work,
    }
}

/// New units that may have had another name: their place, that of the unit that is gone, and how likely it is.
fn renamed(names: &[&str], units: &[Place]) -> Vec<(u32, u32, f64)> {
    let all = (0u32..).zip(units);
    let of = |which: &dyn Fn(&Place) -> bool| -> Vec<u32> {
        let those = all.clone().filter(|(_, unit)| which(unit));
        those.map(|(place, _)| place).collect()
    };
    let new = of(&|unit| !unit.known);
    let gone = of(&|unit| unit.number.is_none());
    let named = |places: &[u32]| -> Vec<&str> {
        places.iter().map(|&place| names[place as usize]).collect()
    };
    let found = namesakes(&named(&new), &named(&gone), names);
    let found = new.iter().zip(found).filter_map(|(&new, namesake)| {
        let namesake = namesake?;
        let odds = 1.0 / (1.0 + (SHARPNESS * (EVEN - namesake.likeness)).exp());
        Some((new, gone[namesake.gone], odds))
    });
    found.collect()
}
