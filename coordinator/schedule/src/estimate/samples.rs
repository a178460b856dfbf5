//! What the samples of earlier runs tell of each unit: its level, how sure that is, and how much a run of it varies.
//!
//! A duration's logarithm is the unit's level, plus what all units of that run have in common (a slow day, another kind of
//! machine), plus noise. The level drifts from run to run, so that old samples fade. How much of each there is, is
//! learned from the samples of all units. Sums are taken in the order of names.

use super::{HIGH, Past, PastRun, Sample, log};
use crate::Micros;

/// What is known of a unit: its level with its variance, and the variance of one run of it around that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    pub mean: f64,
    pub variance: f64,
    pub noise: f64,
}

impl Level {
    /// Whether any sample tells of it.
    pub fn is_known(self) -> bool {
        self.variance.is_finite()
    }
}

/// What the samples of one suite have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Variability {
    /// Variance of one run of a unit around its level.
    pub noise: f64,
    /// Variance by which a level moves from one run to the next, and in a day.
    pub drift: f64,
}

/// What is assumed before anything is known, and as how many pairs of samples that counts.
pub(super) const ASSUMED: Variability = Variability {
    noise: 0.04,
    drift: 0.004,
};
const PAIRS: f64 = 12.0;
/// A unit's own noise is that of all units until it has shown about so many differences of its own.
const OWN: f64 = 4.0;
/// However exact a history is, the next run has a little noise.
const LEAST_NOISE: f64 = 1e-4;
const LEAST_DRIFT: f64 = 1e-4;
/// Variance of what one run's units have in common under the circumstances of this run, and under others.
const RUNS: f64 = 0.04;
const CIRCUMSTANCES: f64 = 0.5;
/// How much of what the newest run had in common is expected of the next one.
const STAYS: f64 = 0.2;
/// Variance of a unit's own under other circumstances, and of one that failed: such a one ends early, or late.
const FOREIGN: f64 = 0.05;
const FAILED: f64 = 0.5;
/// An observation that is further out than so many deviations is an accident or a change.
const OUTLIER: f64 = 3.0;
/// It is a change with this probability, as far as one observation can tell.
const CHANGE: f64 = 0.4;
/// A residual that is larger tells of a change or an accident, and nothing about noise or about a run.
const LARGEST: f64 = 1.0;
/// The share of a normal distribution that is less than `HIGH` deviations above its mean.
const HIGH_SHARE: f64 = 0.9332;
/// As how many units it counts that durations are log-normal, and how far they may be seen not to be.
const JUDGED: f64 = 50.0;
const NARROWEST: f64 = 0.8;
const WIDEST: f64 = 2.0;
/// What takes less is within the grain of the scale, and tells nothing of how much what matters varies.
const LONG: Micros = Micros(1_000);
/// How often what depends on each other is worked out in turn.
const ROUNDS: usize = 4;

/// One sample, as a logarithm.
#[derive(Clone, Copy)]
struct Point {
    value: f64,
    run: usize,
    /// Variance beyond that of any sample.
    extra: f64,
}

/// The levels of all units of a history, in the order of their names; and how many times as wide as a normal distribution's the upper
/// end of what they take is.
pub(super) fn levels(past: &Past, of: fn(&Sample) -> Micros) -> (Vec<Level>, f64) {
    let mut units: Vec<Vec<Point>> = (past.units.values())
        .map(|samples| points(past, samples, of))
        .collect();
    let (effects, now) = run_effects(past, &units);
    for point in units.iter_mut().flatten() {
        point.value -= effects[point.run];
    }
    let age = |run: &PastRun| 1.0 + f64::from(run.runs) + f64::from(run.days);
    let ages: Vec<f64> = past.runs.iter().map(age).collect();
    let long = log(LONG);
    let judged: Vec<&[Point]> = (units.iter())
        .filter(|points| points.first().is_some_and(|newest| newest.value > long))
        .map(Vec::as_slice)
        .collect();
    let common = variability(&judged, &ages);
    let level = |points: &Vec<Point>| {
        let level = level(points, &ages, common);
        Level {
            mean: level.mean + now,
            ..level
        }
    };
    let tail = tail(&judged, &ages, common);
    (units.iter().map(level).collect(), tail)
}

/// How the newest samples lie to what those before would have said of them: the quantile that should be 1.5 deviations out.
fn tail(units: &[&[Point]], ages: &[f64], common: Variability) -> f64 {
    let judged = units.iter().filter_map(|points| {
        let (newest, before) = points.split_first()?;
        let level = level(before, ages, common);
        let spread = level.variance + level.noise + newest.extra;
        let far = (newest.value - level.mean) / spread.sqrt();
        level.is_known().then_some(far)
    });
    let mut judged: Vec<f64> = judged.collect();
    judged.sort_unstable_by(f64::total_cmp);
    let count = judged.len() as f64;
    let Some(seen) = judged.get((count * HIGH_SHARE) as usize) else {
        return 1.0;
    };
    let known = count / (count + JUDGED);
    (1.0 + known * (seen / HIGH - 1.0)).clamp(NARROWEST, WIDEST)
}

/// The samples of a unit, newest first: those that passed, if any did.
fn points(past: &Past, samples: &[Sample], of: fn(&Sample) -> Micros) -> Vec<Point> {
    let any_passed = samples.iter().any(|sample| sample.passed);
    let samples = samples.iter().filter(|sample| sample.passed || !any_passed);
    let point = |sample: &Sample| {
        let run = past.runs.get(sample.run as usize)?;
        let failed = if sample.passed { 0.0 } else { FAILED };
        let foreign = if run.circumstances == 0 { 0.0 } else { FOREIGN };
        Some(Point {
            value: log(of(sample)),
            run: sample.run as usize,
            extra: failed + foreign,
        })
    };
    samples.filter_map(point).collect()
}

/// What the units of each run have in common, and what those of the next one should have, beside what is usual under
/// the circumstances of the run that is estimated for.
fn run_effects(past: &Past, units: &[Vec<Point>]) -> (Vec<f64>, f64) {
    let mut effects = vec![0.0; past.runs.len()];
    let own = |run: usize| past.runs[run].circumstances == 0;
    for _ in 0..ROUNDS {
        let mut sums = vec![(0.0, 0.0); past.runs.len()];
        for points in units.iter().filter(|points| points.len() > 1) {
            let values = points.iter().map(|point| point.value - effects[point.run]);
            let mean = values.sum::<f64>() / points.len() as f64;
            for point in points {
                let residual = point.value - mean;
                let usual = effects[point.run];
                sums[point.run].0 += residual.clamp(usual - LARGEST, usual + LARGEST);
                sums[point.run].1 += 1.0;
            }
        }
        for (run, (sum, count)) in sums.into_iter().enumerate() {
            let spread = if own(run) { RUNS } else { CIRCUMSTANCES };
            effects[run] = sum / (count + ASSUMED.noise / spread);
        }
    }
    let like: Vec<usize> = (0..past.runs.len()).filter(|&run| own(run)).collect();
    let like = if like.is_empty() {
        (0..past.runs.len()).collect()
    } else {
        like
    };
    let usual = like.iter().map(|&run| effects[run]).sum::<f64>() / like.len().max(1) as f64;
    effects.iter_mut().for_each(|effect| *effect -= usual);
    let newest = like.first().map_or(0.0, |&run| effects[run]);
    (effects, STAYS * newest)
}

/// How much samples of one unit differ, and how that grows with the time between them: a line through the squares of all
/// differences. Changes and accidents would be most of their sum, and are cut off in turn with working out what is usual.
fn variability(units: &[&[Point]], ages: &[f64]) -> Variability {
    let mut found = ASSUMED;
    for _ in 0..ROUNDS {
        // Normal equations of: square = 2 noise + drift × distance.
        let (mut count, mut x, mut xx, mut y, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let mut add = |weight: f64, distance: f64, square: f64| {
            count += weight;
            x += weight * distance;
            xx += weight * distance * distance;
            y += weight * square;
            xy += weight * distance * square;
        };
        for distance in [1.0, 3.0] {
            let square = 2.0 * ASSUMED.noise + distance * ASSUMED.drift;
            add(PAIRS / 2.0, distance, square);
        }
        for points in units {
            for (at, newer) in points.iter().enumerate() {
                // What is further apart tells the same once more.
                for older in points[at + 1..].iter().take(3) {
                    let distance = (ages[older.run] - ages[newer.run]).max(0.0);
                    let extra = newer.extra + older.extra;
                    let usual = 2.0 * found.noise + distance * found.drift;
                    let square = (newer.value - older.value).powi(2);
                    let most = OUTLIER * OUTLIER * (usual + extra);
                    add(
                        usual / (usual + extra),
                        distance,
                        (square.min(most) - extra).max(0.0),
                    );
                }
            }
        }
        let slope = (count * xy - x * y) / (count * xx - x * x).max(1e-9);
        let drift = slope.max(LEAST_DRIFT);
        let noise = ((y - drift * x) / (2.0 * count)).max(LEAST_NOISE);
        found = Variability { noise, drift };
    }
    found
}

/// A level that drifts, seen through noise: a Kalman filter in one dimension, from the oldest sample to the newest.
fn level(points: &[Point], ages: &[f64], common: Variability) -> Level {
    let noise = own_noise(points, ages, common);
    let mut oldest_first = points.iter().rev();
    let Some(oldest) = oldest_first.next() else {
        return Level {
            mean: 0.0,
            variance: f64::INFINITY,
            noise,
        };
    };
    let mut mean = oldest.value;
    let mut variance = noise + oldest.extra;
    let mut age = ages[oldest.run];
    for point in oldest_first {
        variance += common.drift * (age - ages[point.run]).max(0.0);
        age = ages[point.run];
        let spread = variance + noise + point.extra;
        let gain = variance / spread;
        let innovation = point.value - mean;
        let usual = innovation.abs() <= OUTLIER * spread.sqrt();
        variance *= 1.0 - gain;
        if usual {
            mean += gain * innovation;
        } else {
            mean += gain.max(CHANGE) * innovation;
            variance += CHANGE * (1.0 - CHANGE) * innovation * innovation;
        }
    }
    variance += common.drift * age;
    Level {
        mean,
        variance,
        noise,
    }
}

/// How much runs of this unit vary, as far as it has shown it.
fn own_noise(points: &[Point], ages: &[f64], common: Variability) -> f64 {
    let (mut sum, mut count) = (OWN * common.noise, OWN);
    for pair in points.windows(2) {
        let distance = (ages[pair[1].run] - ages[pair[0].run]).max(0.0);
        let expected = common.drift * distance + pair[0].extra + pair[1].extra;
        let square = (pair[0].value - pair[1].value)
            .powi(2)
            .min(LARGEST * LARGEST);
        sum += (square - expected).max(0.0) / 2.0;
        count += 1.0;
    }
    (sum / count).max(LEAST_NOISE)
}
