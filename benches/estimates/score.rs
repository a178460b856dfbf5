//! Scores: how far estimates are from what units took, and how often that is below their quantiles.

use evenkeel_schedule::{Guess, Micros};
use std::collections::BTreeMap;
use std::fmt;

/// What is shorter is not judged: the traces do not tell how short it is, and it does not matter.
const LEAST: u64 = 1000;
/// Quantiles in standard deviations, and what share should be below each.
const QUANTILES: [(f64, &str); 4] = [(0.0, "50.0"), (1.0, "84.1"), (1.5, "93.3"), (3.0, "99.9")];
const OWN: &str = "Evenkeel";

#[derive(Clone, Copy, Default)]
struct Sums {
    count: f64,
    error: f64,
    near: f64,
    below: [f64; 4],
}

/// Sums by what was estimated and who did it.
#[derive(Default)]
pub struct Scores(BTreeMap<(&'static str, &'static str), Sums>);

impl Scores {
    pub fn add(&mut self, row: &'static str, who: &'static str, estimate: Micros, took: Micros) {
        if took.0 < LEAST {
            return;
        }
        let error = (estimate.0.max(LEAST) as f64 / took.0 as f64).ln().abs();
        let sums = self.0.entry((row, who)).or_default();
        sums.count += 1.0;
        sums.error += error;
        sums.near += f64::from(u8::from(error <= 1.5f64.ln()));
    }

    pub fn add_guess(&mut self, row: &'static str, guess: Guess, took: Micros) {
        self.add(row, OWN, guess.quantile(0.0), took);
        if let Some(sums) = self.0.get_mut(&(row, OWN)).filter(|_| took.0 >= LEAST) {
            for (below, (deviations, _)) in sums.below.iter_mut().zip(QUANTILES) {
                *below += f64::from(u8::from(took <= guess.quantile(deviations)));
            }
        }
    }
}

/// Scores of several histories.
#[derive(Default)]
pub struct Table {
    sums: BTreeMap<(&'static str, &'static str), Sums>,
}

impl Table {
    pub fn add(&mut self, scores: &Scores) {
        for (key, sums) in &scores.0 {
            self.sums.entry(*key).or_default().add(*sums, 1.0);
        }
    }

    /// A large suite counts as much as a small one, unless that has too few units of a kind to tell anything.
    pub fn add_suite(&mut self, suite: &Table) {
        for (key, sums) in &suite.sums {
            if sums.count >= 30.0 {
                let own = self.sums.entry(*key).or_default();
                own.add(*sums, 1.0 / sums.count);
            }
        }
    }
}

impl Sums {
    fn add(&mut self, other: Sums, weight: f64) {
        self.count += weight * other.count;
        self.error += weight * other.error;
        self.near += weight * other.near;
        for (below, other) in self.below.iter_mut().zip(other.below) {
            *below += weight * other;
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<78} {:>9} {:>9}", "", "mean |log", "within")?;
        let wanted = QUANTILES.map(|(_, share)| format!("{share:>6}"));
        writeln!(f, "   share below the quantile for")?;
        writeln!(
            f,
            "{:<78} {:>9} {:>9}  {}",
            "",
            "error|",
            "50%",
            wanted.join(" ")
        )?;
        for ((row, who), sums) in &self.sums {
            let share = |sum: f64| 100.0 * sum / sums.count;
            write!(
                f,
                "{row:<38} {who:<39} {:>9.3} {:>8.1}%",
                sums.error / sums.count,
                share(sums.near)
            )?;
            if *who == OWN {
                let below = sums.below.map(|below| format!("{:>6.1}", share(below)));
                write!(f, "  {}", below.join(" "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
