//! Paces: whether a machine has become slower or faster in the middle of the run, which all its slots show at once.
//!
//! What ends on a slot tells of its speed little by little, so that one odd unit does not mislead, and a slot that has become slow ends
//! nothing for a while. But each part of a unit that ends tells something at once, and it is no accident where most slots of a machine
//! are beside what was thought of them in the same direction. One slot alone never tells that: a test may hang.

use super::planted::{Fault, is_planted};
use super::{Dispatcher, UNMEASURED};
use crate::Micros;

/// What a slot has done lately: each part of a unit counts so much less with each that follows.
const FADES: f64 = 0.9;
/// A slot is beside what was thought where it takes so many times as long, or as little, as a logarithm,
const BESIDE: f64 = 0.4;
/// and where that is so many standard deviations.
const UNLIKELY: f64 = 2.0;
/// How much a part varies, as a share of what it should take: where it ran by itself before, and where only all of its unit is known.
const KNOWN: f64 = 0.35;
const GUESSED: f64 = 1.0;

/// What parts of units took on a slot lately, in microseconds, beside what they should have at the reference speed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    expected: f64,
    took: f64,
    /// Variance of what was expected.
    variance: f64,
    /// What it has at work now, where that takes longer than it should.
    late: Option<Lap>,
}

/// A part of a unit as it was run: what it should take at the reference speed, and took.
#[derive(Clone, Copy, Debug)]
pub struct Lap {
    pub expected: Micros,
    pub took: Micros,
    /// It is known what it took by itself before, not only what all of its unit did.
    pub known: bool,
}

impl Pace {
    fn add(&mut self, lap: Lap) {
        let Lap { expected, took, .. } = lap;
        let share = if lap.known { KNOWN } else { GUESSED };
        let deviation = (expected.0 as f64 * share).hypot(UNMEASURED);
        self.late = None;
        self.expected = self.expected * FADES + expected.0 as f64;
        self.took = self.took * FADES + took.0 as f64;
        self.variance = self.variance * FADES * FADES + deviation * deviation;
    }

    /// What was at work is not any more.
    pub fn begin(&mut self) {
        self.late = None;
    }

    /// The logarithm of the slot's speed by this alone, and its standard deviation.
    fn log(&self) -> Option<(f64, f64)> {
        let mut all = *self;
        if let Some(late) = self.late {
            all.add(late);
        }
        let tells = all.expected > 0.0 && all.took > 0.0;
        tells.then(|| {
            let deviation = all.variance.sqrt() / all.expected;
            ((all.expected / all.took).ln(), deviation)
        })
    }
}

impl Dispatcher {
    /// A part of the unit that a slot has at work has ended.
    pub fn paced(&mut self, slot: u32, lap: Lap, now: Micros) {
        let Some(state) = self.slots.touch(slot) else {
            return;
        };
        state.pace.add(lap);
        self.compare(slot, now);
    }

    /// What a slot has at work has taken so long by now.
    pub fn lags(&mut self, slot: u32, lap: Lap, now: Micros) {
        let Some(state) = self.slots.touch(slot) else {
            return;
        };
        if state.takes(lap.expected) < lap.took {
            state.pace.late = Some(lap);
            self.compare(slot, now);
        }
    }

    /// Whether most slots of a slot's agent are beside what was thought of them: then they have become faster or slower.
    fn compare(&mut self, slot: u32, now: Micros) {
        let Some(state) = self
            .slots
            .get(slot)
            .filter(|slot| slot.pace_beside().is_some())
        else {
            return;
        };
        let agent = state.speed.agent();
        let members = self.slots.of_agent(agent);
        let busy = members.filter_map(|slot| self.slots.get(slot).filter(|slot| !slot.is_free()));
        let (mut count, mut logs) = (0, Vec::new());
        for state in busy {
            count += 1;
            logs.extend(state.pace_beside());
        }
        let either = is_planted(Fault::EitherWay);
        let slower = logs.iter().filter(|beside| **beside < 0.0).count();
        let most = slower.max(logs.len() - slower);
        let most = if either { logs.len() } else { most };
        let alone = most < 2 || 2 * most <= count;
        if is_planted(Fault::Steady) || alone && !is_planted(Fault::OneTells) {
            return;
        }
        let is_slower = slower == most;
        logs.retain(|beside| either || (*beside < 0.0) == is_slower);
        logs.sort_unstable_by(f64::total_cmp);
        self.slots
            .shift(agent, logs[logs.len() / 2], &self.queues, now);
        self.target.change();
        self.version += 1;
    }
}

impl super::slots::Slot {
    /// How much faster it is lately than was thought, as a logarithm, where that is more than chance.
    fn pace_beside(&self) -> Option<f64> {
        let known = (f64::from(self.speed.milli.max(1)) / 1000.0).ln();
        let (log, deviation) = self.pace.log()?;
        let beside = log - known;
        let least = BESIDE.max(UNLIKELY * deviation);
        (beside.abs() >= least).then_some(beside)
    }
}
