//! What a unit should take, from what it and others took before, and from what others take now.
//!
//! All is on logarithms of durations. What the samples of a unit tell is worked out in `samples`: its level, how sure that is,
//! and how much a run of it varies. `tree` shares that with its neighbours: units in one file, directory and suite are alike, as
//! far as the history shows that they are (empirical Bayes). `names` says who is whose neighbour, `renamed` who was called
//! otherwise. A [`Learner`] goes on learning while units end.
//!
//! Durations are rounded to whole microseconds here; nothing that is planned from them holds floating point.

mod history;
mod learner;
mod names;
mod prior;
mod renamed;
mod samples;
mod size;
mod tree;

pub use history::{Experience, Past, PastRun, Sample};
pub use learner::{Learner, UnitFacts};

use crate::Micros;

/// The expected cost of a unit. Nothing but the set-up is ever zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// What it takes on average, set-up aside: what loads are summed from.
    pub work: Micros,
    /// What loading it takes.
    pub setup: Micros,
    /// Work and set-up, where it takes 1.5 standard deviations longer than usual: more than 14 of 15 take.
    pub high: Micros,
    /// Three standard deviations: what takes longer than that is not as it was.
    pub deadline: Micros,
    /// What orders units: the expectation where there is history, a high quantile where there is none, since what is
    /// uncertain should start early.
    pub order: Micros,
    /// Whether it has run before.
    pub known: bool,
    /// By how much it should start before what is as large, in eighths of an octave: where it is one of those that are new and may be farther
    /// out than `order` tells, or the one of its neighbours, of which nothing is known either, that tells of the others.
    pub early: u16,
}

/// The logarithm of a duration, and its standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    pub mu: f64,
    pub sigma: f64,
    pub known: bool,
}

/// Beyond this deviation the mean of a lognormal is all in its tail, which nobody has seen.
const WIDEST: f64 = 1.4;
/// Deviations of the quantiles.
const HIGH: f64 = 1.5;
const EARLY: f64 = 2.0;
const DEADLINE: f64 = 3.0;
/// Durations are taken this much longer before the logarithm is taken: differences that are smaller mean nothing.
const GRAIN: f64 = 1000.0;

impl Guess {
    /// The quantile that is so many standard deviations above the median.
    pub fn quantile(self, deviations: f64) -> Micros {
        exp(self.mu + deviations * self.sigma).max(Micros(1))
    }

    pub fn mean(self) -> Micros {
        let sigma = self.sigma.min(WIDEST);
        exp(self.mu + sigma * sigma / 2.0).max(Micros(1))
    }

    fn with_setup(self, setup: Micros) -> Estimate {
        let work = self.mean();
        let at = |deviations| self.quantile(deviations).max(work) + setup;
        Estimate {
            work,
            setup,
            high: at(HIGH),
            deadline: at(DEADLINE),
            order: if self.known { work + setup } else { at(EARLY) },
            known: self.known,
            early: 0,
        }
    }
}

fn log(micros: Micros) -> f64 {
    (micros.0 as f64 + GRAIN).ln()
}

/// A day at most.
fn exp(log: f64) -> Micros {
    const DAY: f64 = 86_400e6;
    Micros((log.exp() - GRAIN).round().clamp(0.0, DAY) as u64)
}
