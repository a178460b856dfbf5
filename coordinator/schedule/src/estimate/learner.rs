//! Estimates of a run's units, which get better while the first of them end.

use super::history::Experience;
use super::prior::{Before, Place, prior};
use super::tree::{Belief, Tree};
use super::{DEADLINE, Estimate, Guess, HIGH, exp, log};
use crate::Micros;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a unit before it runs.
#[derive(Clone, Copy, Debug)]
pub struct UnitFacts<'a> {
    pub name: &'a str,
    /// Bytes of source, 0 where unknown.
    pub size: u64,
}

/// A group's members are looked at again when its level has moved by so much,
const NOTICEABLE: f64 = 0.1;
/// and it was heard from so much more often than the last time, in percent.
const MORE: u32 = 150;
/// So many units are looked at again for each one that ends, of a group that has more than those only so many; and so many are
/// passed over on the way to them. What waits has to be put in order again for each, which delays what else is to be done.
const AT_ONCE: usize = 32;
const OF_MANY: usize = 4;
const PASSED_OVER: usize = 1024;
/// So many units are worth knowing what one of them takes before the others start.
const SEVERAL: usize = 4;
/// As how many observations it counts how much units without history are assumed to differ, and their set-up.
const ASSUMED: f64 = 8.0;
/// Who tells of its neighbours goes before what should take four times as long.
const SCOUTS: u16 = 2 * EIGHTHS as u16;
const EIGHTHS: f64 = 8.0;
/// One unit in so many is farther out than so many deviations where that is normal. So many units are looked at for how far that is, and
/// no more than so many times as far is taken for real.
const REMOTE: usize = 400;
const NORMAL: f64 = 2.81;
const SAMPLED: usize = 4_000;
const FARTHEST_REACH: f64 = 2.5;
/// One that is further out than so many deviations tells no more than that.
const FARTHEST: f64 = 4.0;

/// What all units of a suite should take.
///
/// An observation costs time in proportion to how deep groups are nested, and names at most a few dozen units whose estimates
/// have moved: those of a large group follow a few at a time, and again only when it was heard from so much more often.
#[derive(Clone, Debug)]
pub struct Learner {
    tree: Tree,
    /// Of each unit by its number: its place in the order of names.
    places: Vec<u32>,
    /// By place.
    units: Vec<Unit>,
    /// Of new units by place: what they may have been before.
    before: BTreeMap<u32, Before>,
    /// By group.
    marks: Vec<Mark>,
    /// Groups whose members are to be looked at again, the smaller ones first.
    pending: BTreeSet<(u32, u32)>,
    /// How much wider what units with history take is than a log-normal distribution.
    tail: f64,
    /// How far out units without history ended: the sum of squares, in variances that were expected, and how many.
    squares: f64,
    ended: f64,
    /// How much farther out than in a normal distribution the largest of them are to be looked for.
    reach: f64,
    /// By how much the logarithm of their set-up differed from what was expected: the sum, and how many.
    setups: f64,
    set_up: f64,
}

#[derive(Clone, Copy, Debug)]
struct Unit {
    /// Nothing for one that is gone.
    number: Option<u32>,
    /// What the size of its source tells.
    offset: f32,
    /// Variance of one run around its level.
    noise: f32,
    /// The logarithm of its set-up.
    setup: f32,
    /// Its median and its high quantile as they were told last, as logarithms.
    told: (f32, f32),
    known: bool,
    ended: bool,
    /// It is the first of its group, of which nothing is known.
    scout: bool,
}

/// Where a group was when its members were looked at last.
#[derive(Clone, Copy, Debug)]
struct Mark {
    level: f64,
    /// How often it was heard from, and how often it has to be before the next time.
    heard: u32,
    next: u32,
    /// The next of its units to be looked at, while it is pending.
    cursor: u32,
}

impl Learner {
    /// What is expected of these units, which are numbered in this order. `whole`: there are no others, so that what ran
    /// before and is not among them is gone, or has another name now.
    pub fn new(experience: &Experience, facts: &[UnitFacts<'_>], whole: bool) -> Learner {
        let prior = prior(experience, facts, whole);
        let unit = |place: Place| Unit {
            number: place.number,
            offset: place.offset as f32,
            noise: place.noise as f32,
            setup: place.setup as f32,
            told: (0.0, 0.0),
            known: place.known,
            ended: false,
            scout: false,
        };
        let tree = prior.work;
        let mark = |group: u32| Mark {
            level: tree.level(&tree.path(group)).mean,
            heard: 0,
            next: 1,
            cursor: 0,
        };
        let mut learner = Learner {
            marks: (0..tree.count() as u32).map(mark).collect(),
            tree,
            before: prior.before,
            places: prior.places,
            units: prior.units.into_iter().map(unit).collect(),
            pending: BTreeSet::new(),
            tail: experience.tail,
            squares: ASSUMED,
            ended: ASSUMED,
            reach: 1.0,
            setups: 0.0,
            set_up: if experience.is_empty() { 0.0 } else { ASSUMED },
        };
        for place in 0..learner.units.len() as u32 {
            learner.tell(place);
        }
        learner.name_scouts();
        learner.measure_reach();
        learner
    }

    /// How far units with history are from what their neighbours tell of them, beside a normal distribution.
    fn measure_reach(&mut self) {
        let known = (0u32..).zip(&self.units).filter(|(_, unit)| unit.known);
        let apart = known.clone().count() / SAMPLED + 1;
        let far = known.step_by(apart).map(|(place, _)| {
            let (own, around) = (self.tree.own(place), self.tree.neighbours(place));
            (own.mean - around.mean) / (own.variance() + around.variance()).sqrt()
        });
        let mut far: Vec<f64> = far.collect();
        let beyond = far.len() / REMOTE;
        if beyond > 0 {
            far.sort_unstable_by(|a, b| b.total_cmp(a));
            self.reach = (far[beyond] / NORMAL).clamp(1.0, FARTHEST_REACH);
        }
    }

    /// Of each group in which several units wait of which nothing is known, the first is to tell of the others.
    fn name_scouts(&mut self) {
        // How many there are, or nothing where something is known, and the first of them.
        let mut groups: BTreeMap<u32, (Option<usize>, u32)> = BTreeMap::new();
        for place in 0..self.units.len() as u32 {
            let unit = self.units[place as usize];
            let is_new = !unit.known && !self.before.contains_key(&place);
            if is_new && unit.number.is_none() {
                continue;
            }
            let group = self.tree.group_of(place);
            let (count, _) = groups.entry(group).or_insert((Some(0), place));
            *count = count.filter(|_| is_new).map(|count| count + 1);
        }
        let several = |count: &Option<usize>| count.is_some_and(|count| count >= SEVERAL);
        for (_, first) in groups.into_values().filter(|(count, _)| several(count)) {
            self.units[first as usize].scout = true;
        }
    }

    /// What a unit should take, by all that is known now.
    pub fn estimate(&self, unit: u32) -> Estimate {
        let place = self.places[unit as usize];
        let Unit { setup, known, .. } = self.units[place as usize];
        let shift = if known || self.set_up == 0.0 {
            0.0
        } else {
            self.setups / self.set_up
        };
        let setup = exp(f64::from(setup) + shift);
        let guess = self.guess_at(place);
        Estimate {
            early: self.early(place, guess),
            ..guess.with_setup(setup)
        }
    }

    /// See [`Estimate::early`].
    fn early(&self, place: u32, guess: Guess) -> u16 {
        if guess.known {
            return 0;
        }
        let farther =
            guess.sigma * DEADLINE * (self.reach - 1.0) * EIGHTHS / std::f64::consts::LN_2;
        let scouts = self.units[place as usize].scout && {
            let group = self.tree.group_of(place);
            self.marks[group as usize].heard == 0
        };
        farther.round() as u16 + if scouts { SCOUTS } else { 0 }
    }

    /// The same as a distribution, set-up aside.
    pub fn guess(&self, unit: u32) -> Guess {
        self.guess_at(self.places[unit as usize])
    }

    fn guess_at(&self, place: u32) -> Guess {
        let unit = self.units[place as usize];
        let level = match self.before.get(&place) {
            _ if unit.known => self.tree.level_of_known(place),
            Some(before) if !unit.ended => before.or(self.tree.neighbours(place)),
            _ => self.tree.level_of(place),
        };
        let variance = level.variance() + f64::from(unit.noise);
        let scale = if unit.known {
            self.tail
        } else {
            (self.squares / self.ended).sqrt()
        };
        Guess {
            mu: level.mean + f64::from(unit.offset),
            sigma: variance.sqrt() * scale,
            known: unit.known,
        }
    }

    /// Takes in what a unit took, on a slot of the speed that samples are relative to. Returns units whose estimates have moved
    /// noticeably since they were told last, but for those that have ended. A unit counts once.
    pub fn observe(&mut self, unit: u32, work: Micros, setup: Micros) -> Vec<u32> {
        let place = self.places[unit as usize];
        let state = self.units[place as usize];
        if state.ended {
            return Vec::new();
        }
        let work = log(work);
        if !state.known {
            let Guess { mu, sigma, .. } = self.guess_at(place);
            let far = ((work - mu) / sigma).clamp(-FARTHEST, FARTHEST);
            self.squares += far * far * self.squares / self.ended;
            self.ended += 1.0;
            self.setups += log(setup) - f64::from(state.setup);
            self.set_up += 1.0;
        }
        let seen = Belief::new(work - f64::from(state.offset), f64::from(state.noise));
        self.tree.set(place, self.tree.own(place).and(seen));
        self.units[place as usize].ended = true;
        self.mark(place);
        self.look_again()
    }

    /// Notes which of the groups around a unit have moved.
    fn mark(&mut self, place: u32) {
        let path = self.tree.around(place);
        for (depth, &number) in path.iter().enumerate() {
            let mark = &mut self.marks[number as usize];
            mark.heard += 1;
            if mark.heard < mark.next {
                continue;
            }
            let level = self.tree.level(&path[..=depth]).mean;
            if (level - mark.level).abs() < NOTICEABLE {
                continue;
            }
            mark.level = level;
            mark.next = mark.heard * MORE / 100 + 1;
            let group = self.tree.group(number);
            if self.pending.insert((group.end - group.first, number)) {
                mark.cursor = group.first;
            }
        }
    }

    /// Looks at some of the units whose groups have moved.
    fn look_again(&mut self) -> Vec<u32> {
        let mut moved = Vec::new();
        let (mut looked, mut passed) = (0, 0);
        while let Some(&(size, group)) = self.pending.first() {
            let end = self.tree.group(group).end;
            let most = if size as usize > AT_ONCE {
                OF_MANY
            } else {
                AT_ONCE
            };
            let mut cursor = self.marks[group as usize].cursor;
            while cursor < end && looked < most && passed < PASSED_OVER {
                let unit = self.units[cursor as usize];
                match unit.number {
                    Some(number) if !unit.known && !unit.ended => {
                        looked += 1;
                        if self.tell(cursor) {
                            moved.push(number);
                        }
                    }
                    _ => passed += 1,
                }
                cursor += 1;
            }
            self.marks[group as usize].cursor = cursor;
            if cursor < end {
                break;
            }
            self.pending.remove(&(size, group));
        }
        moved
    }

    /// Whether a unit's estimate is noticeably another one than was told last. It counts as told from then on.
    fn tell(&mut self, place: u32) -> bool {
        let Guess { mu, sigma, .. } = self.guess_at(place);
        let high = mu + HIGH * sigma;
        let told = &mut self.units[place as usize].told;
        let moved = |old: f32, new: f64| (f64::from(old) - new).abs() >= NOTICEABLE;
        let moved = moved(told.0, mu) || moved(told.1, high);
        if moved {
            *told = (mu as f32, high as f32);
        }
        moved
    }
}
