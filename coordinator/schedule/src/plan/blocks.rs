//! What is placed as a whole, and what the rules ask of it.
//!
//! Units that stay together are one block, named by the lowest of their numbers; every other unit is a block by itself. Blocks of
//! which the same rules hold are of one class, so that a rule about a hundred thousand units is looked at once.

use super::planted::{Fault, is_planted};
use super::problem::{PlanError, Problem, Rule, SlotOffer};
use crate::Micros;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What the rules ask of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    /// Ascending.
    pub labels: Vec<u32>,
    /// Rules that keep it apart from others, and those with a maximum per agent: each kind numbered by itself.
    pub apart: Vec<u32>,
    pub limits: Vec<u32>,
    pub locks: Vec<u32>,
    pub exclusive: bool,
    /// Which of the sets of slots it may run on.
    pub set: usize,
}

impl Class {
    /// Whether it matters what else its slot or agent has.
    pub(super) fn is_particular(&self) -> bool {
        !self.apart.is_empty() || !self.limits.is_empty()
    }
}

pub(super) struct Blocks<'a> {
    pub slots: &'a [SlotOffer],
    /// By the block's first unit; the others of a block weigh nothing.
    pub weights: Cow<'a, [Micros]>,
    /// The units of each block that has several.
    pub members: BTreeMap<u32, Vec<u32>>,
    /// Of each unit, the one that names its block; empty where no block has several.
    head_of: Vec<u32>,
    /// By unit; empty where there are no rules.
    class_of: Vec<u32>,
    pub classes: Vec<Class>,
    /// Slots that offer the same labels, ascending. The first set has all that take anything.
    pub sets: Vec<Vec<u32>>,
    /// How many rules keep units apart.
    pub aparts: usize,
    /// The maximum of each rule that has one.
    pub limits: Vec<u32>,
    pub locks: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(problem: &Problem<'a>) -> Result<Blocks<'a>, PlanError> {
        let count = problem.weights.len();
        for rule in problem.rules {
            let mut units = rule.units().iter();
            if let Some(&unit) = units.find(|&&unit| unit as usize >= count) {
                return Err(PlanError::NoSuchUnit { unit });
            }
        }
        let all: Vec<u32> = (0..)
            .zip(problem.slots)
            .filter(|(_, slot)| slot.speed_milli > 0)
            .map(|(number, _)| number)
            .collect();
        if all.is_empty() && count > 0 {
            return Err(PlanError::NoSlot { unit: 0 });
        }
        let mut blocks = Blocks {
            slots: problem.slots,
            weights: Cow::Borrowed(problem.weights),
            members: BTreeMap::new(),
            head_of: Vec::new(),
            class_of: Vec::new(),
            classes: vec![Class::default()],
            sets: vec![all],
            aparts: 0,
            limits: Vec::new(),
            locks: 0,
        };
        blocks.join(problem);
        blocks.classify(problem)?;
        blocks.find_sets()?;
        Ok(blocks)
    }

    pub(super) fn class(&self, head: u32) -> &Class {
        &self.classes[self.class_number(head) as usize]
    }

    pub(super) fn class_number(&self, head: u32) -> u32 {
        self.class_of
            .get(head as usize)
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn weight(&self, head: u32) -> u64 {
        self.weights[head as usize].0
    }

    /// The unit that names a unit's block.
    pub(super) fn head(&self, unit: u32) -> u32 {
        self.head_of.get(unit as usize).copied().unwrap_or(unit)
    }

    /// The blocks, by their first units.
    pub(super) fn heads(&self) -> impl Iterator<Item = u32> + '_ {
        let count = u32::try_from(self.weights.len()).expect("a run has fewer than 2^32 units");
        (0..count).filter(|&unit| self.head(unit) == unit)
    }

    /// The units of a block.
    pub(super) fn units<'b>(&'b self, head: &'b u32) -> &'b [u32] {
        self.members
            .get(head)
            .map_or(std::slice::from_ref(head), Vec::as_slice)
    }

    /// Joins what stays together.
    fn join(&mut self, problem: &Problem<'_>) {
        let rules = || {
            let rules = problem.rules.iter();
            rules.filter_map(|rule| match rule {
                Rule::Together { units } if is_planted(Fault::TornApart) => {
                    units.get(..units.len().saturating_sub(1))
                }
                Rule::Together { units } => Some(&units[..]),
                _ => None,
            })
        };
        if rules().next().is_none() {
            return;
        }
        let mut parent: Vec<u32> = (0..problem.weights.len() as u32).collect();
        for units in rules() {
            for pair in units.windows(2) {
                let (one, other) = (root(&mut parent, pair[0]), root(&mut parent, pair[1]));
                parent[one.max(other) as usize] = one.min(other);
            }
        }
        let mut weights = problem.weights.to_vec();
        for unit in 0..parent.len() as u32 {
            let head = root(&mut parent, unit);
            if head != unit {
                let members = self.members.entry(head).or_insert_with(|| vec![head]);
                members.push(unit);
                let weight = std::mem::take(&mut weights[unit as usize]);
                weights[head as usize] += weight;
            }
        }
        self.weights = Cow::Owned(weights);
        self.head_of = parent;
    }

    /// Gives each block the class that the rules make of it.
    fn classify(&mut self, problem: &Problem<'_>) -> Result<(), PlanError> {
        if problem.rules.is_empty() {
            return Ok(());
        }
        self.class_of = vec![0; problem.weights.len()];
        let mut known: BTreeMap<Class, u32> = BTreeMap::from([(Class::default(), 0)]);
        for rule in problem.rules {
            let (aparts, limits, locks) = (
                self.aparts as u32,
                self.limits.len() as u32,
                self.locks as u32,
            );
            match rule {
                Rule::Together { .. } => continue,
                Rule::Apart { units } => {
                    self.keep_apart(units)?;
                    self.aparts += 1;
                }
                Rule::PerAgent { units, most } => {
                    if let (0, Some(&unit)) = (*most, units.first()) {
                        return Err(PlanError::Barred { unit });
                    }
                    self.limits.push(*most);
                }
                Rule::Lock { .. } => self.locks += 1,
                Rule::Needs { .. } | Rule::Exclusive { .. } => {}
            }
            let with = |class: &Class| {
                let mut class = class.clone();
                match rule {
                    Rule::Needs { labels, .. } => {
                        class.labels.extend(labels);
                        class.labels.sort_unstable();
                        class.labels.dedup();
                    }
                    Rule::Exclusive { .. } => class.exclusive = true,
                    Rule::Lock { .. } => class.locks.push(locks),
                    Rule::Apart { .. } => class.apart.push(aparts),
                    Rule::PerAgent { .. } => class.limits.push(limits),
                    Rule::Together { .. } => {}
                }
                class
            };
            // From one class to the other, so that most units cost a look-up each.
            let mut moved: BTreeMap<u32, u32> = BTreeMap::new();
            let mut heads: Vec<u32> = rule.units().iter().map(|&unit| self.head(unit)).collect();
            if !heads.is_sorted_by(|one, other| one < other) {
                heads.sort_unstable();
                heads.dedup();
            }
            for head in heads {
                let was = self.class_of[head as usize];
                let is = *moved.entry(was).or_insert_with(|| {
                    let class = with(&self.classes[was as usize]);
                    *known.entry(class).or_insert_with_key(|class| {
                        self.classes.push(class.clone());
                        self.classes.len() as u32 - 1
                    })
                });
                self.class_of[head as usize] = is;
            }
        }
        Ok(())
    }

    /// Units that have to be apart must be of different blocks.
    fn keep_apart(&self, units: &[u32]) -> Result<(), PlanError> {
        if self.members.is_empty() {
            return Ok(());
        }
        let mut first: BTreeMap<u32, u32> = BTreeMap::new();
        for &unit in units {
            let other = *first.entry(self.head(unit)).or_insert(unit);
            if other != unit {
                return Err(PlanError::TogetherAndApart { unit, other });
            }
        }
        Ok(())
    }

    /// Which slots offer what each class needs.
    fn find_sets(&mut self) -> Result<(), PlanError> {
        let mut known: BTreeMap<Vec<u32>, usize> = BTreeMap::from([(Vec::new(), 0)]);
        let mut bare = None;
        for (number, class) in self.classes.iter_mut().enumerate() {
            if let Some(&set) = known.get(&class.labels) {
                class.set = set;
                continue;
            }
            let offers = |slot: &u32| {
                let has = &self.slots[*slot as usize].labels;
                class.labels.iter().all(|label| has.contains(label))
            };
            let anywhere = is_planted(Fault::AnyLabel);
            let all = self.sets[0].iter().copied();
            let set: Vec<u32> = all.filter(|slot| anywhere || offers(slot)).collect();
            class.set = self.sets.len();
            known.insert(class.labels.clone(), class.set);
            if set.is_empty() {
                bare.get_or_insert(number as u32);
            }
            self.sets.push(set);
        }
        // A class that blocks only passed through on their way to another one asks for nothing.
        let unoffered = |head: u32| self.sets[self.class(head).set].is_empty();
        let unit = bare.and_then(|_| self.heads().find(|&head| unoffered(head)));
        match unit {
            Some(unit) => Err(PlanError::NotOffered {
                unit: unit + u32::from(is_planted(Fault::WrongUnit)),
                labels: self.class(unit).labels.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// The lowest unit that one is joined with; shortens the way there.
fn root(parent: &mut [u32], unit: u32) -> u32 {
    let mut root = unit;
    while parent[root as usize] != root {
        root = parent[root as usize];
    }
    let mut at = unit;
    while parent[at as usize] != root {
        at = std::mem::replace(&mut parent[at as usize], root);
    }
    root
}
