//! A Gaussian tree: each unit's level is its group's plus something of its own, each group's is that of the one around it, and so
//! on up to the suite.
//!
//! What is seen of a unit tells of its group, and so of its neighbours; less of those that are further away. Means and variances are
//! exact (belief propagation, Pearl 1988). An observation is passed upwards and an estimate looked up downwards, each in as
//! many steps as groups are nested. What members tell a group is summed in fixed point: it does not depend on the order
//! in which they were heard.

use super::names::{Group, Groups, KINDS, Kind};

/// What is known of a number: its mean and 1 / variance, which is 0 where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Belief {
    pub mean: f64,
    pub precision: f64,
}

impl Belief {
    pub fn new(mean: f64, variance: f64) -> Belief {
        let precision = if variance.is_finite() {
            (1.0 / variance).min(MOST_PRECISE)
        } else {
            0.0
        };
        Belief { mean, precision }
    }

    pub fn variance(self) -> f64 {
        1.0 / self.precision
    }

    /// What is known by both.
    pub fn and(self, other: Belief) -> Belief {
        let precision = self.precision + other.precision;
        if precision == 0.0 {
            return self;
        }
        let weighted = self.mean * self.precision + other.mean * other.precision;
        Belief {
            mean: weighted / precision,
            precision,
        }
    }

    /// What is known of a number that differs from this one by so much.
    fn spread(self, variance: f64) -> Belief {
        Belief {
            mean: self.mean,
            precision: self.precision / (1.0 + self.precision * variance),
        }
    }
}

/// Beyond this nothing is gained, and sums stay far from overflowing.
const MOST_PRECISE: f64 = 1e4;
/// Of the fixed point in which beliefs are summed.
const ONE: f64 = (1u64 << 20) as f64;

/// A sum of beliefs, which takes one back exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    precision: i64,
    weighted: i64,
}

impl Sum {
    fn of(belief: Belief) -> Sum {
        let precision = (belief.precision * ONE).round();
        Sum {
            precision: precision as i64,
            weighted: (precision * belief.mean).round() as i64,
        }
    }

    fn add(&mut self, other: Sum) {
        self.precision += other.precision;
        self.weighted += other.weighted;
    }

    fn without(self, other: Sum) -> Sum {
        Sum {
            precision: self.precision - other.precision,
            weighted: self.weighted - other.weighted,
        }
    }

    fn belief(self) -> Belief {
        match self.precision {
            ..=0 => Belief::default(),
            precision => Belief {
                mean: self.weighted as f64 / precision as f64,
                precision: precision as f64 / ONE,
            },
        }
    }
}

/// Variance of the members of a group around it, by the group's kind: of units, and of groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spreads {
    pub units: [f64; KINDS],
    pub groups: [f64; KINDS],
}

/// What is assumed before anything is known, and as how many members that counts.
pub(super) const ASSUMED: Spreads = Spreads {
    // Root, path, title, word, parameter.
    units: [1.2, 1.0, 0.7, 0.6, 0.4],
    groups: [0.5, 0.4, 0.4, 0.4, 0.4],
};
const MEMBERS: f64 = 10.0;
/// Of the distribution that units are taken to have around their group where it comes to what is known of one of them.
const FREEDOM: f64 = 4.0;
const LEAST_SPREAD: f64 = 1e-3;
const ROUNDS: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Tree {
    groups: Vec<Group>,
    /// What the members of each group tell it.
    sums: Vec<Sum>,
    of_unit: Vec<u32>,
    /// What is known of each unit by itself.
    own: Vec<Belief>,
    root: Belief,
    spreads: Spreads,
}

impl Tree {
    /// `root` is what is known of the suite before anything is known of any unit.
    pub fn new(groups: Groups, own: Vec<Belief>, root: Belief, spreads: Spreads) -> Tree {
        let mut tree = Tree {
            sums: vec![Sum::default(); groups.groups.len()],
            groups: groups.groups,
            of_unit: groups.of_unit,
            own,
            root,
            spreads,
        };
        tree.sum();
        tree
    }

    /// The innermost group that a unit is in.
    pub fn group_of(&self, unit: u32) -> u32 {
        self.of_unit[unit as usize]
    }

    /// How far units of its group are spread.
    fn spread(&self, unit: u32) -> f64 {
        let kind = self.groups[self.of_unit[unit as usize] as usize].kind;
        self.spreads.units[kind as usize]
    }

    fn sum(&mut self) {
        self.sums.fill(Sum::default());
        for unit in 0..self.own.len() {
            let message = self.told_by_unit(unit as u32);
            self.sums[self.of_unit[unit] as usize].add(message);
        }
        for group in (1..self.groups.len()).rev() {
            let message = self.told_by_group(group as u32);
            self.sums[self.groups[group].parent as usize].add(message);
        }
    }

    fn told_by_unit(&self, unit: u32) -> Sum {
        Sum::of(self.own[unit as usize].spread(self.spread(unit)))
    }

    fn told_by_group(&self, group: u32) -> Sum {
        let kind = self.groups[self.groups[group as usize].parent as usize].kind;
        let known = self.sums[group as usize].belief();
        Sum::of(known.spread(self.spreads.groups[kind as usize]))
    }

    pub fn own(&self, unit: u32) -> Belief {
        self.own[unit as usize]
    }

    /// Something else is known of a unit by itself.
    pub fn set(&mut self, unit: u32, own: Belief) {
        let mut before = self.told_by_unit(unit);
        self.own[unit as usize] = own;
        let mut after = self.told_by_unit(unit);
        let mut group = self.of_unit[unit as usize];
        loop {
            let told = (group > 0).then(|| self.told_by_group(group));
            let sum = &mut self.sums[group as usize];
            *sum = sum.without(before);
            sum.add(after);
            let Some(told) = told else {
                return;
            };
            (before, after) = (told, self.told_by_group(group));
            group = self.groups[group as usize].parent;
        }
    }

    pub fn count(&self) -> usize {
        self.groups.len()
    }

    /// The groups around a unit, the outermost first.
    pub fn around(&self, unit: u32) -> Vec<u32> {
        self.path(self.of_unit[unit as usize])
    }

    /// A group and those around it, the outermost first.
    pub fn path(&self, group: u32) -> Vec<u32> {
        let mut path = vec![group];
        while let Some(&group) = path.last()
            && group > 0
        {
            path.push(self.groups[group as usize].parent);
        }
        path.reverse();
        path
    }

    pub fn group(&self, group: u32) -> Group {
        self.groups[group as usize]
    }

    /// What the others tell of a group's level, and what its members do.
    fn above(&self, path: &[u32]) -> Belief {
        let mut above = self.root;
        for pair in path.windows(2) {
            let (around, group) = (pair[0], pair[1]);
            let others = self.sums[around as usize].without(self.told_by_group(group));
            let kind = self.groups[around as usize].kind;
            above = above
                .and(others.belief())
                .spread(self.spreads.groups[kind as usize]);
        }
        above
    }

    /// What is known of a group's level by all units.
    pub fn level(&self, path: &[u32]) -> Belief {
        let last = path.last().copied().unwrap_or_default();
        self.above(path).and(self.sums[last as usize].belief())
    }

    /// What is known of a unit's level, by itself and by its neighbours.
    pub fn level_of(&self, unit: u32) -> Belief {
        self.neighbours(unit).and(self.own(unit))
    }

    /// The same of one that has run before. Where that is far from its neighbours, it is not drawn to them as much as others: as in
    /// Student's t distribution, the spread of each is as large as it shows itself to be.
    pub fn level_of_known(&self, unit: u32) -> Belief {
        let (own, around) = (self.own(unit), self.around_unit(unit));
        let spread = self.spread(unit);
        let square = square(own, around, spread) / spread;
        let wider = (FREEDOM + square) / (FREEDOM + 1.0);
        around.spread(spread * wider).and(own)
    }

    /// What all other units tell of a unit.
    pub fn neighbours(&self, unit: u32) -> Belief {
        self.around_unit(unit).spread(self.spread(unit))
    }

    /// What all other units tell of the group of one.
    fn around_unit(&self, unit: u32) -> Belief {
        let group = self.of_unit[unit as usize];
        let others = self.sums[group as usize].without(self.told_by_unit(unit));
        self.above(&self.path(group)).and(others.belief())
    }

    /// Learns how much members differ from their groups: expectation maximisation (Dempster, Laird and Rubin, 1977).
    pub fn learn(&mut self) -> Spreads {
        for _ in 0..ROUNDS {
            let (mut units, mut groups) = ([(0.0, 0.0); KINDS], [(0.0, 0.0); KINDS]);
            let add = |sums: &mut [(f64, f64); KINDS], kind: Kind, square: f64| {
                sums[kind as usize].0 += square;
                sums[kind as usize].1 += 1.0;
            };
            // What all but its own members tell of each group, the outer ones first.
            let mut above = vec![self.root; self.groups.len()];
            for group in 1..self.groups.len() {
                let parent = self.groups[group].parent as usize;
                let kind = self.groups[parent].kind;
                let others = self.sums[parent].without(self.told_by_group(group as u32));
                let around = above[parent].and(others.belief());
                let spread = self.spreads.groups[kind as usize];
                above[group] = around.spread(spread);
                let known = self.sums[group].belief();
                if known.precision > 0.0 {
                    add(&mut groups, kind, square(known, around, spread));
                }
            }
            for unit in 0..self.own.len() {
                let own = self.own[unit];
                if own.precision == 0.0 {
                    continue;
                }
                let group = self.of_unit[unit] as usize;
                let kind = self.groups[group].kind;
                let others = self.sums[group].without(self.told_by_unit(unit as u32));
                let around = above[group].and(others.belief());
                let spread = self.spread(unit as u32);
                add(&mut units, kind, square(own, around, spread));
            }
            let mean = |(sum, count): (f64, f64), assumed: f64| {
                ((sum + MEMBERS * assumed) / (count + MEMBERS)).max(LEAST_SPREAD)
            };
            self.spreads = Spreads {
                units: std::array::from_fn(|kind| mean(units[kind], ASSUMED.units[kind])),
                groups: std::array::from_fn(|kind| mean(groups[kind], ASSUMED.groups[kind])),
            };
            self.sum();
        }
        self.spreads
    }
}

/// The expected square of a member's deviation from its group, by what is known of both.
fn square(member: Belief, group: Belief, spread: f64) -> f64 {
    let uncertain = member.variance() + group.variance();
    let gain = spread / (spread + uncertain);
    let mean = gain * (member.mean - group.mean);
    mean * mean + spread * (1.0 - gain)
}

#[cfg(test)]
mod tests {
    use super::super::names::groups;
    use super::*;
    use proptest::prelude::*;

    /// What the others tell of each unit and what all do, by inverting the matrix of all covariances.
    fn oracle(names: &[&str], own: &[Belief], root: Belief, spreads: Spreads) -> Vec<(f64, f64)> {
        let Groups { groups, of_unit } = groups(names);
        let around = |unit: usize| {
            let mut path = vec![of_unit[unit]];
            while path[path.len() - 1] > 0 {
                path.push(groups[path[path.len() - 1] as usize].parent);
            }
            path
        };
        let covariance = |one: usize, other: usize| {
            let others = around(other);
            let shared = around(one)
                .into_iter()
                .filter(|group| others.contains(group));
            let spread = |group: u32| match group {
                0 => root.variance(),
                group => {
                    let parent = groups[group as usize].parent;
                    spreads.groups[groups[parent as usize].kind as usize]
                }
            };
            let of_groups: f64 = shared.map(spread).sum();
            let kind = groups[of_unit[one] as usize].kind;
            let of_unit = if one == other {
                spreads.units[kind as usize]
            } else {
                0.0
            };
            of_groups + of_unit
        };
        let known: Vec<usize> = (0..own.len())
            .filter(|&unit| own[unit].precision > 0.0)
            .collect();
        let posterior = |unit: usize| {
            // Solve K x = [values, covariances] by elimination.
            let mut rows: Vec<Vec<f64>> = known
                .iter()
                .map(|&one| {
                    let mut row: Vec<f64> =
                        known.iter().map(|&other| covariance(one, other)).collect();
                    let at = known.iter().position(|&other| other == one).unwrap();
                    row[at] += own[one].variance();
                    row.extend([own[one].mean - root.mean, covariance(one, unit)]);
                    row
                })
                .collect();
            for at in 0..rows.len() {
                let pivot = rows[at].clone();
                for (row, values) in rows.iter_mut().enumerate() {
                    if row != at {
                        let factor = values[at] / pivot[at];
                        values
                            .iter_mut()
                            .zip(&pivot)
                            .for_each(|(value, pivot)| *value -= factor * pivot);
                    }
                }
            }
            let count = rows.len();
            let (mut mean, mut variance) = (root.mean, covariance(unit, unit));
            for (at, &one) in known.iter().enumerate() {
                let covariance = covariance(one, unit);
                mean += covariance * rows[at][count] / rows[at][at];
                variance -= covariance * rows[at][count + 1] / rows[at][at];
            }
            (mean, variance)
        };
        (0..own.len()).map(posterior).collect()
    }

    proptest! {
        #[test]
        fn messages_come_to_what_all_covariances_come_to(
            units in prop::collection::btree_map("[ab]/[cd]_[ef]", (-3.0f64..3.0, 0.05f64..1.0, 0u8..3), 1..8),
            later in (0usize..8, -3.0f64..3.0),
        ) {
            let names: Vec<&str> = units.keys().map(String::as_str).collect();
            let belief = |(mean, variance, known): &(f64, f64, u8)| match known {
                0 => Belief::default(),
                _ => Belief::new(*mean, *variance),
            };
            let mut own: Vec<Belief> = units.values().map(belief).collect();
            let root = Belief::new(0.5, 2.0);
            let mut tree = Tree::new(groups(&names), own.clone(), root, ASSUMED);
            // Something more is seen of one of them, which goes up the tree step by step.
            let unit = later.0 % own.len();
            own[unit] = own[unit].and(Belief::new(later.1, 0.1));
            tree.set(unit as u32, own[unit]);
            for (unit, (mean, variance)) in (0u32..).zip(oracle(&names, &own, root, ASSUMED)) {
                let found = tree.level_of(unit);
                prop_assert!((found.mean - mean).abs() < 1e-3, "{} against {mean}", found.mean);
                prop_assert!((found.variance() - variance).abs() < 1e-3, "{} against {variance}", found.variance());
            }
        }
    }

    #[test]
    fn how_alike_neighbours_are_is_learned() {
        let names: Vec<String> = (0..400)
            .map(|unit| format!("d{:02}/{unit:03}", unit / 20))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // Numbers that look random, with a mean of 0 and a variance of 1.
        let draw = |at: usize| ((at * 7919 % 1009) as f64 / 1009.0 - 0.5) * 12f64.sqrt();
        let learned = |groups_apart: f64, units_apart: f64| {
            let level =
                |unit: usize| groups_apart * draw(unit / 20 + 3) + units_apart * draw(unit + 57);
            let own = (0..400)
                .map(|unit| Belief::new(level(unit), 0.01))
                .collect();
            let root = Belief::new(0.0, 2.0);
            Tree::new(groups(&names), own, root, ASSUMED).learn()
        };
        let path = Kind::Path as usize;
        let alike = learned(2.0, 0.1);
        assert!(alike.units[path] < 0.1, "{alike:?}");
        let unlike = learned(0.1, 2.0);
        assert!(unlike.units[path] > 2.0, "{unlike:?}");
    }
}
