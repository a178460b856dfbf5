//! What is said of a unit when it is put up: what it should cost, and what else it needs.

use crate::Micros;

/// What a unit is expected to cost, on a slot of the reference speed and with its set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// On average: what loads are summed from.
    pub expected: Micros,
    /// Where it takes 1.5 standard deviations longer than usual: whether it ends in time is decided by this.
    pub high: Micros,
    /// What orders it among the others: more than `expected` where that is uncertain, or cannot be divided.
    pub order: Micros,
    /// Whether it has run before: what has not tells little of a slot's speed.
    pub known: bool,
    /// By how much it starts before what is as large, in classes of eight to an octave.
    pub early: u16,
}

/// The most and the least that a logarithm of a duration is taken to vary, in standard deviations.
const WIDEST: f64 = 3.0;
const NARROWEST: f64 = 0.05;
/// Up to this deviation a law has the mean that was said.
pub(super) const MEANT: f64 = 1.5;

impl Weight {
    /// Of what takes so long and no longer.
    pub fn exact(time: Micros) -> Weight {
        Weight {
            expected: time,
            high: time,
            order: time,
            known: true,
            early: 0,
        }
    }

    /// Mean and standard deviation of the duration's logarithm, from its mean and its quantile, as of a log-normal one.
    ///
    /// That quantile is at exp(μ + 1.5 σ) and the mean at exp(μ + σ²/2), which makes two solutions: the smaller is meant. What
    /// has never run may vary more than that; `order` tells, which is at exp(μ + 2 σ) then.
    pub(super) fn law(&self) -> (f64, f64) {
        let ln = |micros: Micros| (micros.0.max(1) as f64).ln();
        let (expected, high) = (ln(self.expected), ln(self.high));
        let sigma = if self.known || self.order <= self.high {
            1.5 - (2.25 - 2.0 * (high - expected)).max(0.0).sqrt()
        } else {
            2.0 * (ln(self.order) - high)
        };
        let sigma = sigma.clamp(NARROWEST, WIDEST);
        let mean = if sigma > MEANT {
            high - 1.5 * sigma
        } else {
            expected - sigma * sigma / 2.0
        };
        (mean, sigma)
    }
}

/// What else a unit needs in order to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needs {
    /// The kind of process. A slot has one of one kind at a time.
    pub kind: u32,
    /// Locks that no other slot holds meanwhile, ascending.
    pub locks: Box<[u32]>,
    /// That nothing else runs meanwhile, on any slot.
    pub exclusive: bool,
    /// What differs in this is not run together in a bundle.
    pub apart: u32,
}

impl Needs {
    /// Whether some other unit may have to wait for it, or it for another one, though slots are free.
    pub fn is_constrained(&self) -> bool {
        self.exclusive || !self.locks.is_empty()
    }
}
