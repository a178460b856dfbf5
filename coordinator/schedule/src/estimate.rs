//! What a unit should take, from what it took before.

use crate::Micros;
use std::collections::BTreeMap;

/// One earlier execution of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub work: Micros,
    pub setup: Micros,
}

/// What is known of a unit before it runs.
#[derive(Clone, Debug)]
pub struct UnitFacts<'a> {
    pub name: &'a str,
    /// Bytes of source, 0 where unknown.
    pub size: u64,
    /// Newest first.
    pub samples: &'a [Sample],
}

/// The expected cost of a unit. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub work: Micros,
    pub setup: Micros,
    /// What orders units: the expectation where there is history, a high quantile where there is none, since what is
    /// uncertain should start early.
    pub order: Micros,
    pub known: bool,
}

/// Weight of the newest sample in the moving average of logarithms.
const NEWEST: f64 = 0.4;
/// How many samples of a directory weigh as much as the whole suite.
const SHRINK: f64 = 3.0;
/// A unit without any history in its suite: this, plus `PER_BYTE_NS` for each byte of its source.
const DEFAULT: Micros = Micros(50_000);
const PER_BYTE_NS: u64 = 20_000;

/// Estimates every unit, in the order given.
///
/// A unit with history: the exponentially weighted mean of the logarithms of its durations, newest sample first. A unit
/// without: its directory's mean logarithm, shrunk towards the suite's by how few neighbours there are; and it is ordered
/// by the mean plus two standard deviations. A suite without any history: by the size of the source.
pub fn estimate(units: &[UnitFacts<'_>]) -> Vec<Estimate> {
    let known: Vec<Option<(f64, f64)>> =
        units.iter().map(|unit| of_samples(unit.samples)).collect();

    let mut suite = Moments::default();
    let mut directories: BTreeMap<&str, Moments> = BTreeMap::new();
    let mut setups = Moments::default();
    for (unit, logs) in units.iter().zip(&known) {
        if let Some((work, setup)) = *logs {
            suite.add(work);
            setups.add(setup);
            directories
                .entry(directory(unit.name))
                .or_default()
                .add(work);
        }
    }

    let guess = |unit: &UnitFacts<'_>| -> Estimate {
        if suite.count == 0.0 {
            let work = DEFAULT + Micros(unit.size.saturating_mul(PER_BYTE_NS) / 1000);
            return Estimate {
                work,
                setup: Micros::ZERO,
                order: work,
                known: false,
            };
        }
        let near = directories
            .get(directory(unit.name))
            .copied()
            .unwrap_or_default();
        let mean = (near.sum + SHRINK * suite.mean()) / (near.count + SHRINK);
        let order = mean + 2.0 * suite.deviation();
        Estimate {
            work: exp(mean),
            setup: exp(setups.mean()),
            order: exp(order),
            known: false,
        }
    };

    units
        .iter()
        .zip(&known)
        .map(|(unit, logs)| match *logs {
            Some((work, setup)) => {
                let (work, setup) = (exp(work), exp(setup));
                Estimate {
                    work,
                    setup,
                    order: work + setup,
                    known: true,
                }
            }
            None => guess(unit),
        })
        .collect()
}

fn of_samples(samples: &[Sample]) -> Option<(f64, f64)> {
    let mut samples = samples.iter().rev();
    let oldest = samples.next()?;
    let mut logs = (ln(oldest.work), ln(oldest.setup));
    for sample in samples {
        logs.0 += NEWEST * (ln(sample.work) - logs.0);
        logs.1 += NEWEST * (ln(sample.setup) - logs.1);
    }
    Some(logs)
}

fn ln(micros: Micros) -> f64 {
    (micros.0.max(1) as f64).ln()
}

fn exp(log: f64) -> Micros {
    Micros((log.exp().round() as u64).max(1))
}

fn directory(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    fn deviation(&self) -> f64 {
        (self.squares / self.count.max(1.0) - self.mean().powi(2))
            .max(0.0)
            .sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit<'a>(name: &'a str, samples: &'a [Sample]) -> UnitFacts<'a> {
        UnitFacts {
            name,
            size: 0,
            samples,
        }
    }

    #[test]
    fn history_decides_where_there_is_some() {
        let samples = [Sample {
            work: Micros(2_000_000),
            setup: Micros(10_000),
        }];
        let known = estimate(&[unit("a/x", &samples)])[0];
        assert!(known.known);
        assert!(known.work.0.abs_diff(2_000_000) <= 1 && known.setup.0.abs_diff(10_000) <= 1);
    }

    #[test]
    fn a_new_unit_takes_after_its_directory() {
        let slow = [Sample {
            work: Micros(10_000_000),
            setup: Micros(1),
        }];
        let fast = [Sample {
            work: Micros(1_000),
            setup: Micros(1),
        }];
        let all = estimate(&[
            unit("slow/a", &slow),
            unit("slow/b", &slow),
            unit("fast/a", &fast),
            unit("fast/b", &fast),
            unit("slow/new", &[]),
            unit("fast/new", &[]),
        ]);
        assert!(all[4].work > all[5].work);
        assert!(all[5].order > all[5].work, "what is uncertain starts early");
    }

    #[test]
    fn without_history_the_larger_file_is_longer_and_none_is_free() {
        let mut big = unit("big", &[]);
        big.size = 100_000;
        let all = estimate(&[big, unit("empty", &[])]);
        assert!(all[0].work > all[1].work && all[1].work > Micros::ZERO);
    }

    #[test]
    fn the_newest_sample_weighs_most() {
        let samples = [
            Sample {
                work: Micros(4_000),
                setup: Micros(1),
            },
            Sample {
                work: Micros(1_000),
                setup: Micros(1),
            },
            Sample {
                work: Micros(1_000),
                setup: Micros(1),
            },
        ];
        let work = estimate(&[unit("a", &samples)])[0].work;
        assert!(work > Micros(1_500) && work < Micros(4_000), "{work}");
    }
}
