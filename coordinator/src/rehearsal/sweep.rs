//! Many rehearsals: how gate time and cost depend on the number of slots, and how many slots a time needs.

use super::play::{Stalled, play};
use super::scene::Scene;
use super::whatif::WhatIf;
use evenkeel_schedule::Micros;
use rayon::prelude::*;

/// What so many slots come to, over all seeds.
#[derive(Clone, Debug)]
pub struct Point {
    pub slots: u32,
    /// From submission to verdict, ascending: one for each seed.
    pub gates: Vec<Micros>,
    /// From the first test's start to the last one's end, ascending.
    pub makespans: Vec<Micros>,
    /// Makespan over bound, ascending.
    pub gaps: Vec<f64>,
    /// What all slots together were there, in microseconds, ascending.
    pub costs: Vec<Micros>,
}

impl Point {
    pub fn gate(&self) -> Micros {
        quantile(&self.gates, 50)
    }

    /// Nineteen of twenty are no longer.
    pub fn late_gate(&self) -> Micros {
        quantile(&self.gates, 95)
    }

    pub fn makespan(&self) -> Micros {
        quantile(&self.makespans, 50)
    }

    pub fn gap(&self) -> f64 {
        quantile(&self.gaps, 50)
    }

    pub fn cost(&self) -> Micros {
        quantile(&self.costs, 50)
    }
}

/// The smallest of ascending values that so many percent of them do not exceed.
fn quantile<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// Plays each number of slots with each seed from 1 on, in parallel. The answer does not depend on how many threads there are.
pub fn sweep(
    recorded: &Scene,
    what: &WhatIf,
    slots: &[u32],
    seeds: u64,
) -> Result<Vec<Point>, Stalled> {
    let all: Vec<(u32, u64)> = slots
        .iter()
        .flat_map(|&slots| (1..=seeds).map(move |seed| (slots, seed)))
        .collect();
    let played = all.par_iter().map(|&(slots, seed)| {
        let what = WhatIf {
            slots: Some(slots),
            ..what.clone()
        };
        let scene = what.applied(recorded, seed);
        let played = play(&scene)?;
        let schedule = played.record.schedule();
        let there = scene.agents.iter().map(|agent| {
            let until = agent
                .loss
                .map_or(played.closed, |loss| loss.at.min(played.closed));
            Micros((until - agent.joins).0 * agent.slots.len() as u64)
        });
        let cost: Micros = there.sum();
        Ok((played.closed, schedule.makespan, schedule.gap(), cost))
    });
    let played = played.collect::<Result<Vec<_>, Stalled>>()?;
    let points = slots.iter().zip(played.chunks(seeds.max(1) as usize));
    let points = points.map(|(&slots, played)| {
        let mut point = Point {
            slots,
            gates: played.iter().map(|played| played.0).collect(),
            makespans: played.iter().map(|played| played.1).collect(),
            gaps: played.iter().map(|played| played.2).collect(),
            costs: played.iter().map(|played| played.3).collect(),
        };
        point.gates.sort_unstable();
        point.makespans.sort_unstable();
        point.gaps.sort_by(f64::total_cmp);
        point.costs.sort_unstable();
        point
    });
    Ok(points.collect())
}

/// The fewest slots with which nineteen of twenty runs have their verdict within a time, and what they come to; nothing where even
/// `most` do not.
pub fn slots_within(
    recorded: &Scene,
    what: &WhatIf,
    within: Micros,
    seeds: u64,
    most: u32,
) -> Result<Option<Point>, Stalled> {
    let one = |slots: u32| -> Result<Point, Stalled> {
        let mut points = sweep(recorded, what, &[slots], seeds)?;
        Ok(points.remove(0))
    };
    let (mut low, mut high) = (0, 1);
    let mut best = loop {
        let point = one(high)?;
        if point.late_gate() <= within {
            break point;
        }
        if high >= most {
            return Ok(None);
        }
        low = high;
        high = (high * 2).min(most);
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let point = one(middle)?;
        if point.late_gate() <= within {
            (high, best) = (middle, point);
        } else {
            low = middle;
        }
    }
    Ok(Some(best))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::Model;

    fn scene() -> Scene {
        Model {
            files: 60,
            sigma: 0.5,
            agents: 1,
            slots: 4,
            ..Model::default()
        }
        .draw(2)
    }

    #[test]
    fn more_slots_take_less_time_and_the_fewest_that_do_are_found() {
        let what = WhatIf::default();
        let points = sweep(&scene(), &what, &[2, 4, 8], 1).unwrap();
        let gates: Vec<u64> = points.iter().map(|point| point.gate().0).collect();
        assert!(gates[0] > gates[1] && gates[1] > gates[2], "{gates:?}");
        let within = points[1].gate() + Micros(1);
        let found = slots_within(&scene(), &what, within, 1, 64)
            .unwrap()
            .unwrap();
        assert_eq!(found.slots, 4);
        let never = slots_within(&scene(), &what, Micros(1000), 1, 64).unwrap();
        assert!(never.is_none());
    }

    #[test]
    fn quantiles_are_of_what_there_is() {
        let sorted: Vec<u64> = (1..=20).collect();
        assert_eq!((quantile(&sorted, 50), quantile(&sorted, 95)), (10, 19));
        assert_eq!(quantile(&[7], 95), 7);
        assert_eq!(quantile::<u64>(&[], 50), 0);
    }
}
