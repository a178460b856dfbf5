//! What is compared: the settings with the limits that they are to keep, and the policies.

use crate::model::Instance;
use crate::scenes::Setting;
use crate::world::Policy;
use crate::{peers, xdist};

/// The most that a row's mean, 95th percentile and worst makespan over the bound may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub mean: f64,
    pub p95: f64,
    pub worst: f64,
}

pub const LIMITS: Limits = Limits {
    mean: 1.03,
    p95: 1.06,
    worst: 1.15,
};

pub const ROWS: [(Setting, &str); 3] = [
    (
        Setting {
            name: "HA",
            tests: 5000,
            each: 20,
            slots: 20,
            cap: None,
        },
        "5,000 in 250 files on 20",
    ),
    (
        Setting {
            name: "HB",
            tests: 400,
            each: 20,
            slots: 20,
            cap: Some(0.2),
        },
        "400 in 20 files on 20, none over 20% of a fair share",
    ),
    (
        Setting {
            name: "HB1",
            tests: 400,
            each: 4,
            slots: 20,
            cap: Some(0.2),
        },
        "the same in 100 files",
    ),
];

/// How a policy is made for an instance.
pub type Make = fn(&Instance) -> Box<dyn Policy>;

pub const OURS: &str = "evenkeel";

/// With whether their units are whole files.
pub const POLICIES: [(&str, bool, Make); 11] = [
    ("LPT pull of files (Maelstrom)", true, peers::lpt_pull),
    ("LPT of files, one ahead", true, peers::lpt_ahead),
    ("random pull of files", true, peers::random_pull),
    ("round-robin by file", true, peers::round_robin),
    ("least duration by file", true, peers::least_duration),
    ("LPT pull of tests", false, peers::lpt_pull),
    ("FIFO in sevens (ABQ)", false, peers::sevens),
    ("load (xdist)", false, xdist::load),
    ("worksteal (xdist)", false, xdist::worksteal),
    ("guided self-scheduling", false, peers::guided),
    ("factoring", false, peers::factoring),
];
