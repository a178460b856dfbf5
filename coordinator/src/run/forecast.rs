//! What units should take: by the history when they are listed, and by what others took while the run goes on.

use super::{Micros, Run};
use crate::record::Lease;
use evenkeel_proto::ledger::lease_ended::Reason;
use evenkeel_schedule::{Estimate, Experience, Learner, UnitFacts};

/// The speed of a slot that is neither fast nor slow.
pub(super) const USUAL_SPEED: u64 = 1000;

/// What is expected of the units of one suite.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    /// What the history of the suite tells.
    experience: Option<Experience>,
    /// Absent until something has been listed.
    learner: Option<Learner>,
    /// The run's numbers of the suite's units, in the order in which the learner has them.
    units: Vec<u32>,
    /// What ended before all of the suite was known, to be learned from once more when more of it is.
    early: Vec<(u32, Micros, Micros)>,
}

/// What a unit took in this run so far, on all slots that had a part of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// On a slot of usual speed, set-up aside.
    work: Micros,
    /// The least that a part paid for loading it.
    setup: Option<Micros>,
    /// A part of it was lost, so that nobody knows what it would have taken.
    unclear: bool,
}

impl Spent {
    /// A lease of the unit has ended. `speed` is its slot's, in thousandths of what is usual.
    pub(super) fn add(&mut self, lease: &Lease, speed: u64) {
        let (Some(_), Some(ended)) = (lease.begun, lease.ended) else {
            return;
        };
        let usual = |took: Micros| Micros(took.0.saturating_mul(speed) / USUAL_SPEED);
        // So it is where some of it ran twice.
        self.unclear |= ended.reason != Reason::Closed || lease.copied.is_some();
        self.work += usual(lease.span() - ended.setup);
        let setup = usual(ended.setup);
        self.setup = Some(self.setup.map_or(setup, |least| least.min(setup)));
    }
}

impl Run {
    /// Estimates the units of a suite by all that is known of it. `prior` is filled with what they should take by the history
    /// alone, which is what plans are made of.
    pub(super) fn forecast(&mut self, suite: u32) {
        let own = self.experience_of(suite);
        let numbered = (0u32..).zip(&self.record.units);
        let units = numbered.filter(|(_, unit)| unit.suite == suite);
        let (units, facts): (Vec<u32>, Vec<UnitFacts<'_>>) = units
            .map(|(number, unit)| {
                let facts = UnitFacts {
                    name: &unit.name,
                    size: unit.size,
                };
                (number, facts)
            })
            .unzip();
        // While there is more to come, nobody knows whether what is not listed is gone.
        let whole = self.suites[suite as usize].recorded;
        let mut learner = Learner::new(&own, &facts, whole);
        self.prior.resize(self.record.units.len(), Micros::ZERO);
        for (place, &unit) in (0u32..).zip(&units) {
            let Estimate { work, setup, .. } = self.adjusted(suite, learner.estimate(place));
            self.prior[unit as usize] = work + setup;
        }
        let forecast = &mut self.forecasts[suite as usize];
        forecast.experience = Some(own);
        forecast.units = units;
        for &(unit, work, setup) in &forecast.early {
            let place = place_of(&forecast.units, unit);
            learner.observe(place, work, setup);
        }
        if whole {
            forecast.early = Vec::new();
        }
        forecast.learner = Some(learner);
        for place in 0..self.forecasts[suite as usize].units.len() {
            let unit = self.forecasts[suite as usize].units[place];
            self.expect(suite, unit);
        }
    }

    /// What the history tells of a suite, worked out once.
    fn experience_of(&mut self, suite: u32) -> Experience {
        let known = self.forecasts[suite as usize].experience.take();
        known.unwrap_or_else(|| Experience::new(&self.history_of(suite).past))
    }

    /// Takes over what is expected of a unit now.
    fn expect(&mut self, suite: u32, unit: u32) {
        let forecast = &self.forecasts[suite as usize];
        let Some(learner) = &forecast.learner else {
            return;
        };
        let estimate = learner.estimate(place_of(&forecast.units, unit));
        let estimate = self.adjusted(suite, estimate);
        match self.estimates.get_mut(unit as usize) {
            Some(known) if *known != estimate => {
                *known = estimate;
                let work = self.units[unit as usize].work;
                let weight = self.weight(work);
                self.dispatcher.reweigh(work, weight);
            }
            Some(_) => {}
            // Units are numbered as they are listed, and estimated then.
            None => self.estimates.push(estimate),
        }
    }

    fn adjusted(&self, suite: u32, mut estimate: Estimate) -> Estimate {
        if self.suites[suite as usize].bundles {
            // What a unit paid once was the start of a bundle, which most units do not have to pay.
            let Estimate { setup, .. } = estimate;
            estimate.order = estimate.order - setup;
            estimate.high = estimate.high - setup;
            estimate.deadline = estimate.deadline - setup;
            estimate.setup = Micros::ZERO;
        }
        if self.settings.closed_shop && self.shards.len() == 1 {
            // Nothing is to be balanced, and nobody else will come: keep the framework's own order.
            estimate.order = Micros(1);
        }
        estimate
    }

    /// All of a unit has been run: what it took tells of others.
    pub(super) fn learn_from(&mut self, unit: u32) {
        let Spent {
            work,
            setup: Some(setup),
            unclear: false,
        } = self.units[unit as usize].spent
        else {
            return;
        };
        let on_record = &self.record.units[unit as usize];
        let (suite, cases) = (on_record.suite, &on_record.cases);
        // One that fails may end early, or late.
        let failed = |verdict: crate::record::Verdict| verdict.is_failure();
        let fails = cases.iter().any(|case| case.verdict().is_some_and(failed));
        let forecast = &mut self.forecasts[suite as usize];
        let Some(learner) = forecast.learner.as_mut().filter(|_| !fails) else {
            return;
        };
        if !self.suites[suite as usize].recorded {
            forecast.early.push((unit, work, setup));
        }
        let moved = learner.observe(place_of(&forecast.units, unit), work, setup);
        let moved: Vec<u32> = (moved.into_iter())
            .map(|place| forecast.units[place as usize])
            .collect();
        for unit in moved {
            self.expect(suite, unit);
        }
    }
}

/// Where a unit is among those of its suite.
fn place_of(units: &[u32], unit: u32) -> u32 {
    units.partition_point(|&other| other < unit) as u32
}
