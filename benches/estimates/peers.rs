//! How other tools estimate, as far as that is in their source or documentation.

use evenkeel_schedule::{Micros, Past, Sample};

/// A way to estimate: its name, and what it says of a unit with these samples, newest first.
pub struct Peer {
    pub name: &'static str,
    pub known: fn(&[Sample]) -> Option<f64>,
}

/// Of what none of them knows they say the mean of the suite, or nothing, which is counted as the same.
pub const PEERS: [Peer; 3] = [
    Peer {
        name: "mean of the last three (Maelstrom)",
        known: |samples| {
            let last = &samples[..samples.len().min(3)];
            let sum: f64 = last.iter().map(|sample| sample.work.0 as f64).sum();
            (!last.is_empty()).then(|| sum / last.len() as f64)
        },
    },
    Peer {
        name: "the last one (Captain)",
        known: |samples| Some(samples.first()?.work.0 as f64),
    },
    Peer {
        name: "the last success (Firebase)",
        known: |samples| {
            let passed = samples.iter().find(|sample| sample.passed);
            Some(passed?.work.0 as f64)
        },
    },
];

impl Peer {
    /// The estimates of these units.
    pub fn estimates(&self, past: &Past, units: &[&str]) -> Vec<Micros> {
        let known: Vec<f64> = (past.units.values())
            .filter_map(|samples| (self.known)(samples))
            .collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let of = |name: &&str| {
            let samples = past.units.get(*name);
            samples
                .and_then(|samples| (self.known)(samples))
                .unwrap_or(mean)
        };
        units
            .iter()
            .map(|name| Micros(of(name).round() as u64))
            .collect()
    }
}
