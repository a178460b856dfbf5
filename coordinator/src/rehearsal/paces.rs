//! How fast the machines of a recorded run were: from what leases took, beside what they should have taken.
//!
//! A machine that is throttled in the middle shows as a step in the ratio of the two. Steps are found by binary segmentation
//! (Scott and Knott, 1974) on the logarithms, and taken for real only where they are large against the noise.

use super::model::milli;
use super::scene::Speed;
use crate::record::{Lease, Record};
use evenkeel_proto::ledger::lease_ended::Reason;
use evenkeel_schedule::Micros;

/// What is shorter says more about the clock than about the machine.
const SHORTEST: Micros = Micros::from_millis(20);
/// So many leases on each side of a step, and at least this part of what the machine ran.
const LEAST: usize = 3;
const SHARE: f64 = 0.1;
/// A step, or what one machine is slower than the others, is at least this large, as a logarithm.
const WORTH: f64 = 0.18;
/// And so many deviations of a mean of as many leases.
const CERTAIN: f64 = 4.0;
/// No machine changes its speed more often than two to the power of this.
const DEPTH: u32 = 2;

/// A lease: when it ran, for how long, and the logarithm of how much longer it took than it should.
#[derive(Clone, Copy, Debug)]
struct Sight {
    from: Micros,
    to: Micros,
    span: f64,
    log: f64,
}

/// Of each agent of a record how fast it was, by the run's clock; 1 is what most of the work ran at. `informed`: whether the run had a
/// history of a suite, without which what a unit should take is a guess that says nothing of machines.
pub(super) fn speeds(record: &Record, informed: impl Fn(u32) -> bool) -> Vec<Speed> {
    let mut sights: Vec<Vec<Sight>> = vec![Vec::new(); record.agents.len()];
    for (number, lease) in (1u32..).zip(&record.leases) {
        let (Some(begun), Some(ended)) = (lease.begun, lease.ended) else {
            continue;
        };
        let span = lease.span();
        let known = informed(record.units[lease.unit as usize].suite);
        // What a part should take is what the run saw of its unit, on whichever machine that was.
        let whole = lease.named.is_empty() && lease.alone.is_none();
        let expected = kept(record, number, lease);
        let closed = ended.reason == Reason::Closed;
        if !known || !whole || !closed || span < SHORTEST || expected < SHORTEST {
            continue;
        }
        let agent = record.shards[lease.shard as usize].agent;
        sights[agent as usize].push(Sight {
            from: begun.at,
            to: ended.at,
            span: span.0 as f64,
            log: (span.0 as f64 / expected.0 as f64).ln(),
        });
    }
    for sights in &mut sights {
        sights.sort_by_key(|sight| sight.from);
    }
    let noise = noise(&sights);
    let segmented: Vec<Vec<(Micros, f64)>> = sights
        .iter()
        .map(|sights| {
            let mut steps = Vec::new();
            segments(sights, noise, DEPTH, &mut steps);
            steps
        })
        .collect();
    let usual = usual(&sights, &segmented);
    let speeds = sights.iter().zip(segmented).map(|(sights, steps)| {
        // What differs little from the others is as they are.
        let certain = CERTAIN * noise / (sights.len().max(1) as f64).sqrt();
        if steps.len() == 1 && (steps[0].1 - usual).abs() < WORTH.max(certain) {
            return Speed::default();
        }
        let mut logs: Vec<(Micros, f64)> = steps
            .into_iter()
            .map(|(from, log)| (from, usual - log))
            .collect();
        for step in 1..logs.len() {
            refine(sights, usual, &mut logs, step);
        }
        let mut logs = logs.into_iter();
        let first = logs.next().map_or(0.0, |(_, log)| log);
        let mut speed = Speed::constant(milli(first.exp()));
        for (from, log) in logs {
            speed = speed.then(from, milli(log.exp()));
        }
        speed
    });
    speeds.collect()
}

/// What a lease should have taken. One that gave cases back should have taken its part of that.
fn kept(record: &Record, number: u32, lease: &Lease) -> Micros {
    if lease.revoked.is_none() {
        return lease.expected;
    }
    let cases = &record.units[lease.unit as usize].cases;
    let own = lease.cases.iter().filter(|&&case| {
        let mut attempts = cases[case as usize].attempts();
        attempts.any(|attempt| attempt.lease == number)
    });
    let all = lease.cases.len().max(1) as u64;
    Micros(lease.expected.0 * own.count() as u64 / all)
}

/// How finely a step is looked for: in time, and in the logarithm of the speed behind it.
const MOMENTS: u32 = 60;
const SPEEDS: i32 = 20;
const FINENESS: f64 = 0.04;

/// A lease that was at work when the machine changed says when that was, and is no measure of how fast it was before or behind: the step is
/// moved to where all leases together took what they should. `logs`: of each step when it is and the logarithm of the speed from then on.
fn refine(sights: &[Sight], usual: f64, logs: &mut [(Micros, f64)], step: usize) {
    let (before, speed) = (logs[step - 1], logs[step].1);
    let end = logs.get(step + 1).map_or(Micros::MAX, |(from, _)| *from);
    let near: Vec<&Sight> = sights
        .iter()
        .filter(|sight| sight.from >= before.0 && sight.from < end)
        .collect();
    // By the leases that begin before it and end behind it.
    let straddling = near.iter().filter(|sight| sight.from <= logs[step].0);
    let Some(earliest) = straddling.clone().map(|sight| sight.from).max() else {
        return;
    };
    let first = near.iter().filter(|sight| sight.to >= earliest);
    let earliest = first.map(|sight| sight.from).min().unwrap_or(earliest);
    let latest = logs[step]
        .0
        .max(straddling.map(|sight| sight.to).max().unwrap_or_default());
    let off = |at: Micros, log: f64| -> f64 {
        let squares = near.iter().map(|sight| {
            let (left, right) = (at.min(sight.to) - sight.from, sight.to - at.max(sight.from));
            let done = left.0 as f64 * before.1.exp() + right.0 as f64 * log.exp();
            let whole = (sight.to - sight.from).0.max(1) as f64;
            // What it should have taken, by what it did.
            let due = sight.log - usual;
            ((done / whole).max(1e-6).ln() + due).powi(2)
        });
        squares.sum()
    };
    let mut best = (f64::INFINITY, logs[step]);
    for moment in 0..=MOMENTS {
        let room = (latest - earliest).0 * u64::from(moment) / u64::from(MOMENTS);
        let at = earliest + Micros(room);
        for finer in -SPEEDS..=SPEEDS {
            let log = speed + FINENESS * f64::from(finer);
            let off = off(at, log);
            if off < best.0 {
                best = (off, (at, log));
            }
        }
    }
    logs[step] = best.1;
}

/// What most leases took against what they should: a median of a machine, or of a part of its time, that many are near. Machines become
/// slower and not faster, so of two that are about as good it is the faster.
fn usual(sights: &[Vec<Sight>], segmented: &[Vec<(Micros, f64)>]) -> f64 {
    let medians = segmented.iter().flatten().map(|(_, log)| *log);
    let near = |log: f64| {
        let all = sights.iter().flatten();
        all.filter(|sight| (sight.log - log).abs() < WORTH).count()
    };
    let most = medians.clone().map(near).max().unwrap_or_default();
    let good = medians.filter(|&log| near(log) * 3 >= most * 2);
    good.min_by(f64::total_cmp).unwrap_or_default()
}

/// The median, each lease as much as another: one that took far longer than it should is one.
fn median(sights: &[Sight]) -> f64 {
    let mut logs: Vec<f64> = sights.iter().map(|sight| sight.log).collect();
    logs.sort_by(f64::total_cmp);
    logs.get(logs.len() / 2).copied().unwrap_or_default()
}

/// The deviation of one lease from those before and behind it on the same machine, steps left out.
fn noise(sights: &[Vec<Sight>]) -> f64 {
    let pairs = sights.iter().flat_map(|sights| sights.windows(2));
    let mut apart: Vec<f64> = pairs
        .map(|pair| (pair[0].log - pair[1].log).abs())
        .collect();
    if apart.is_empty() {
        return f64::INFINITY;
    }
    apart.sort_by(f64::total_cmp);
    // The median of the difference of two normal numbers is 0.954 deviations of one.
    apart[apart.len() / 2] / 0.954
}

/// Cuts where the two sides differ most, by absolute deviations, of which a single lease that was far off decides none; of each segment from when on it is, and its median.
fn segments(sights: &[Sight], noise: f64, depth: u32, steps: &mut Vec<(Micros, f64)>) {
    let Some(first) = sights.first() else { return };
    let took = |sights: &[Sight]| sights.iter().map(|sight| sight.span).sum::<f64>();
    let all = took(sights);
    let cut = (LEAST..(sights.len() + 1).saturating_sub(LEAST)).filter_map(|at| {
        let (left, right) = sights.split_at(at);
        if took(left).min(took(right)) < all * SHARE {
            return None;
        }
        let (before, behind) = (median(left), median(right));
        let off = |sights: &[Sight], from: f64| -> f64 {
            sights.iter().map(|sight| (sight.log - from).abs()).sum()
        };
        let off = off(left, before) + off(right, behind);
        let weight = (left.len() * right.len()) as f64 / sights.len() as f64;
        let step = (before - behind).abs();
        Some((-off, (step, step * weight.sqrt()), at))
    });
    let best = cut.max_by(|a, b| a.0.total_cmp(&b.0).then(b.2.cmp(&a.2)));
    match best {
        Some((_, (step, strength), at))
            if depth > 0 && step >= WORTH && strength >= CERTAIN * noise =>
        {
            segments(&sights[..at], noise, depth - 1, steps);
            segments(&sights[at..], noise, depth - 1, steps);
        }
        _ => steps.push((first.from, median(sights))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sights(logs: &[f64]) -> Vec<Sight> {
        let times = (0..).map(|at| Micros(at * 1000));
        let sights = times.zip(logs).map(|(from, &log)| Sight {
            from,
            to: from + Micros(1000),
            span: 1000.0,
            log,
        });
        sights.collect()
    }

    #[test]
    fn a_step_is_found_where_it_is_and_noise_is_none() {
        let wobble = |at: usize| if at.is_multiple_of(2) { 0.02 } else { -0.02 };
        let logs: Vec<f64> = (0..20)
            .map(|at| wobble(at) + if at >= 12 { 1.1 } else { 0.0 })
            .collect();
        let sights = sights(&logs);
        let mut steps = Vec::new();
        segments(
            &sights,
            noise(std::slice::from_ref(&sights)),
            DEPTH,
            &mut steps,
        );
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert_eq!(steps[1].0, Micros(12_000));
        assert!((steps[1].1 - steps[0].1 - 1.1).abs() < 0.05);

        // One that was at work when it happened took longer only in part.
        let slow = 3f64.ln();
        let straddling = [
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            2f64.ln(),
            slow,
            slow,
            slow,
            slow,
            slow,
        ];
        let sights: Vec<Sight> = self::sights(&straddling);
        let mut logs = vec![(Micros(0), 0.0), (Micros(5_000), -1.0)];
        refine(&sights, 0.0, &mut logs, 1);
        let (at, log) = logs[1];
        assert!(
            at.0.abs_diff(5_250) < 100 && (log + 1.0986).abs() < 0.05,
            "{at} {log}"
        );

        let noisy: Vec<f64> = (0..20).map(|at| wobble(at) * 20.0).collect();
        let noisy = self::sights(&noisy);
        let mut steps = Vec::new();
        segments(
            &noisy,
            noise(std::slice::from_ref(&noisy)),
            DEPTH,
            &mut steps,
        );
        assert_eq!(steps.len(), 1, "{steps:?}");
    }
}
