//! What is compared: the settings with the limits that they are to keep, and the policies.

use crate::model::{Instance, Setting, Times};
use crate::world::Policy;
use crate::{ours, peers, xdist};
use evenkeel_schedule::Micros;

/// The most that a row's mean, 95th percentile and worst makespan over the bound may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub mean: f64,
    pub p95: f64,
    pub worst: f64,
}

const fn limits(mean: f64, p95: f64, worst: f64) -> Option<Limits> {
    Some(Limits { mean, p95, worst })
}

const NORMAL: Times = Times::LogNormal {
    sigma: 1.2,
    cap: None,
};

/// What all rows begin from: 5,000 units on 20 slots, of which a quarter is slow, and a history that is off by 30%.
pub const A: Setting = Setting {
    name: "A",
    units: 5000,
    slots: 20,
    times: NORMAL,
    noise: 0.3,
    new: 0.05,
    slow: 0.25,
    lost_at: None,
    lease: Micros::ZERO,
};

pub const ROWS: [(Setting, &str, Option<Limits>); 10] = [
    (A, "5,000 on 20", limits(1.001, 1.002, 1.01)),
    (
        Setting {
            name: "B",
            units: 400,
            times: Times::LogNormal {
                sigma: 1.2,
                cap: Some(0.2),
            },
            ..A
        },
        "400 on 20, none over 20% of a fair share",
        limits(1.005, 1.01, 1.03),
    ),
    (
        Setting {
            name: "B0",
            units: 400,
            ..A
        },
        "400 on 20, any length",
        None,
    ),
    (
        Setting {
            name: "C",
            slots: 100,
            ..A
        },
        "5,000 on 100",
        limits(1.002, 1.004, 1.02),
    ),
    (
        Setting {
            name: "D",
            units: 1000,
            slots: 25,
            times: Times::Even,
            noise: 0.0,
            new: 0.0,
            slow: 0.0,
            ..A
        },
        "1,000 of 0.5-1.5 s on 25, known",
        limits(1.0005, 1.001, 1.02),
    ),
    (
        Setting {
            name: "D'",
            units: 1000,
            slots: 25,
            times: Times::Even,
            new: 0.0,
            slow: 0.0,
            ..A
        },
        "the same, 30% noise",
        limits(1.01, 1.015, 1.02),
    ),
    (
        Setting {
            name: "E",
            new: 1.0,
            slow: 0.0,
            ..A
        },
        "5,000 on 20 equal slots, no history",
        limits(1.004, 1.012, 1.05),
    ),
    (
        Setting {
            name: "F",
            lost_at: Some(0.8),
            ..A
        },
        "as A, one slot lost at 80%",
        limits(1.002, 1.004, 1.02),
    ),
    (
        Setting {
            name: "G",
            units: 20_000,
            lease: Micros::from_millis(200),
            ..A
        },
        "20,000 on 20, 0.2 s a lease",
        limits(1.004, 1.008, 1.03),
    ),
    (
        Setting {
            name: "I",
            units: 1000,
            slots: 50,
            times: Times::LogNormal {
                sigma: 2.0,
                cap: None,
            },
            new: 1.0,
            ..A
        },
        "1,000 on 50, sigma 2.0, no history",
        limits(1.05, 1.12, 1.3),
    ),
];

/// How a policy is made for an instance.
pub type Make = fn(&Instance) -> Box<dyn Policy>;

pub const OURS: &str = "evenkeel";

pub const POLICIES: [(&str, Make); 14] = [
    (OURS, ours::one_ahead),
    ("evenkeel, a 20th suspects", ours::with_suspects),
    ("evenkeel, those first", ours::suspects_first),
    ("random pull", peers::random_pull),
    ("FIFO in sevens (ABQ)", peers::sevens),
    ("LPT pull (Maelstrom)", peers::lpt_pull),
    ("LPT, one ahead", peers::lpt_ahead),
    ("round-robin", peers::round_robin),
    ("hash", peers::hashed),
    ("least duration (pytest-split)", peers::least_duration),
    ("load (xdist)", xdist::load),
    ("worksteal (xdist)", xdist::worksteal),
    ("guided self-scheduling", peers::guided),
    ("factoring", peers::factoring),
];
