//! What is to be planned, and why it cannot be.

use super::Plan;
use crate::Micros;

/// What a slot offers to a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotOffer {
    /// From when on it takes units.
    pub ready: Micros,
    /// Thousandths of the reference speed; a slot of speed 0 takes nothing.
    pub speed_milli: u32,
    /// The agent that it is on.
    pub agent: u32,
    /// What its machine has, by the caller's numbers.
    pub labels: Vec<u32>,
}

impl Default for SlotOffer {
    /// Ready at 0, at the reference speed, on agent 0, without labels.
    fn default() -> SlotOffer {
        SlotOffer {
            ready: Micros::ZERO,
            speed_milli: 1000,
            agent: 0,
            labels: Vec::new(),
        }
    }
}

/// What must hold of some units. A unit may be named by any number of rules, and all of them hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// They run on slots that have all of these labels.
    Needs { units: Vec<u32>, labels: Vec<u32> },
    /// While one of them runs nothing else does, on any slot.
    Exclusive { units: Vec<u32> },
    /// One of them runs at a time: they need one lock.
    Lock { units: Vec<u32> },
    /// They run on one slot, one right behind the other.
    Together { units: Vec<u32> },
    /// No two of them run on one slot.
    Apart { units: Vec<u32> },
    /// No agent has more than `most` of them at work at a time. A plan holds this whatever units take: it gives them to no more
    /// slots of an agent than that.
    PerAgent { units: Vec<u32>, most: u32 },
}

impl Rule {
    /// The units that it is about.
    pub fn units(&self) -> &[u32] {
        match self {
            Rule::Needs { units, .. }
            | Rule::Exclusive { units }
            | Rule::Lock { units }
            | Rule::Together { units }
            | Rule::Apart { units }
            | Rule::PerAgent { units, .. } => units,
        }
    }
}

/// Units and slots, each numbered by its place.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// What each unit takes at the reference speed, set-up included.
    pub weights: &'a [Micros],
    pub slots: &'a [SlotOffer],
    pub rules: &'a [Rule],
}

/// Why there is no plan. Each names a unit that cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// No slot takes anything.
    NoSlot { unit: u32 },
    /// A rule names a unit that there is not.
    NoSuchUnit { unit: u32 },
    /// No slot has all of the labels that it, and what stays together with it, needs.
    NotOffered { unit: u32, labels: Vec<u32> },
    /// It has to stay together with a unit from which it has to be apart.
    TogetherAndApart { unit: u32, other: u32 },
    /// No agent may run it: its maximum is none.
    Barred { unit: u32 },
    /// Of the slots that it may run on, each would have another unit from which it has to be apart.
    Crowded { unit: u32, slots: u32 },
    /// No place was found for it that keeps all rules, though none of them rules it out by itself.
    NotFound { unit: u32 },
}

impl PlanError {
    /// The unit that cannot be placed.
    pub fn unit(&self) -> u32 {
        match self {
            PlanError::NoSlot { unit }
            | PlanError::NoSuchUnit { unit }
            | PlanError::NotOffered { unit, .. }
            | PlanError::TogetherAndApart { unit, .. }
            | PlanError::Barred { unit }
            | PlanError::Crowded { unit, .. }
            | PlanError::NotFound { unit } => *unit,
        }
    }
}

impl std::fmt::Display for PlanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PlanError::NoSlot { unit } => write!(f, "there is no slot for unit {unit}"),
            PlanError::NoSuchUnit { unit } => {
                write!(f, "a rule names unit {unit}, which there is not")
            }
            PlanError::NotOffered { unit, labels } => {
                let labels: Vec<String> = labels.iter().map(u32::to_string).collect();
                let labels = labels.join(", ");
                write!(f, "no slot has all labels that unit {unit} needs: {labels}")
            }
            PlanError::TogetherAndApart { unit, other } => write!(
                f,
                "unit {unit} has to stay together with unit {other}, and has to be apart from it"
            ),
            PlanError::Barred { unit } => {
                write!(f, "no agent may run unit {unit}: its maximum is 0")
            }
            PlanError::Crowded { unit, slots } => write!(
                f,
                "unit {unit} may run on {slots} slots, and each of them has to take another unit from which it has to be apart"
            ),
            PlanError::NotFound { unit } => {
                write!(f, "no place was found for unit {unit} that keeps all rules")
            }
        }
    }
}

impl std::error::Error for PlanError {}

/// What a unit of this weight takes on a slot of this speed: whole microseconds, rounded up. The speed is above 0.
pub(super) fn takes(weight: u64, speed_milli: u32) -> u64 {
    if speed_milli == 1000 {
        return weight;
    }
    let speed = u64::from(speed_milli);
    match weight.checked_mul(1000) {
        Some(scaled) => scaled.div_ceil(speed),
        None => {
            let exact = (u128::from(weight) * 1000).div_ceil(u128::from(speed));
            u64::try_from(exact).unwrap_or(u64::MAX)
        }
    }
}

impl Plan {
    /// When each unit starts and ends in this plan of the problem, and on which slot: by the unit's number. Nothing for a unit that the
    /// plan does not have. A slot's ends are rounded up once, not with each unit, so none is later than the plan took it to be.
    pub fn times(&self, problem: &Problem<'_>) -> Vec<Option<(u32, Micros, Micros)>> {
        let mut times = vec![None; problem.weights.len()];
        for ((slot, offer), units) in (0..).zip(problem.slots).zip(&self.shards) {
            let end =
                |since: Micros, work: u64| since + Micros(takes(work, offer.speed_milli.max(1)));
            let (mut since, mut work) = (offer.ready, 0);
            for &unit in units {
                let held = self.held.binary_search_by_key(&unit, |held| held.0);
                if let Ok(found) = held {
                    (since, work) = (self.held[found].1.max(end(since, work)), 0);
                }
                let start = end(since, work);
                work += problem.weights[unit as usize].0;
                times[unit as usize] = Some((slot, start, end(since, work)));
            }
        }
        times
    }
}
