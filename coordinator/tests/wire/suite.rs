//! What there is to run, drawn from the seed: suites, units, cases, and what must come out of each.

use evenkeel_coordinator::record::Verdict;
use evenkeel_proto::suite::Suite;
use fastrand::Rng;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Pass,
    Fail,
    Skip,
    /// The process dies of it each time.
    Crash,
    /// Its process is killed from outside, the first time.
    KilledOnce,
    /// It never ends by itself.
    Hang,
    /// The machine goes down with it each time.
    Poison,
}

impl Behaviour {
    /// The verdict, where nothing but the test itself goes wrong.
    pub fn verdict(self) -> Verdict {
        match self {
            Behaviour::Pass | Behaviour::KilledOnce => Verdict::Passed,
            Behaviour::Fail => Verdict::Failed,
            Behaviour::Skip => Verdict::Skipped,
            Behaviour::Crash | Behaviour::Hang | Behaviour::Poison => Verdict::Error,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Unit {
    pub name: String,
    pub cases: Vec<(Behaviour, Duration)>,
    pub loads: Duration,
}

impl Unit {
    pub fn id(&self, case: usize) -> String {
        format!("{}::{case}", self.name)
    }
}

/// What one run has to run, and how its processes are.
#[derive(Clone, Debug)]
pub struct Play {
    pub run: String,
    pub units: Vec<Unit>,
    pub priority: i32,
    pub labels: Vec<(String, String)>,
    /// The last case of a process waits until it is known what comes next.
    pub lingers: bool,
    pub grants: bool,
    pub closing: bool,
    pub finish: bool,
    /// Between two pieces of a listing.
    pub listing: Duration,
    pub starts: Duration,
}

/// A test's deadline, where there is one that hangs.
const DEADLINE: Duration = Duration::from_secs(2);

impl Play {
    pub fn draw(random: &mut Rng, number: usize, poison: bool, few: bool) -> Play {
        let count = if few {
            random.usize(1..4)
        } else {
            random.usize(0..12)
        };
        let slow = random.u32(0..3) == 0;
        let mut poison = poison;
        let units = (0..count)
            .map(|unit| Unit {
                name: format!("unit{unit}"),
                loads: Duration::from_millis(random.u64(0..60)),
                cases: (0..cases(random))
                    .map(|_| {
                        let case = draw_case(random, slow, poison);
                        poison &= case.0 != Behaviour::Poison;
                        case
                    })
                    .collect(),
            })
            .collect();
        let closing = random.bool();
        Play {
            run: format!("run{number}"),
            units,
            priority: random.i32(0..2),
            labels: Vec::new(),
            lingers: random.bool(),
            grants: random.u32(0..4) > 0,
            closing,
            finish: closing && random.bool(),
            listing: Duration::from_millis(if random.bool() {
                0
            } else {
                random.u64(50..900)
            }),
            starts: Duration::from_millis(random.u64(5..200)),
        }
    }

    /// Units that take a while, as many as can be run when all is well again.
    pub fn lengthen(&mut self, random: &mut Rng) {
        self.units.truncate(3);
        for unit in &mut self.units {
            unit.cases.truncate(3);
            let more = (0..random.usize(8..14)).map(|_| {
                let duration = Duration::from_millis(random.u64(500..1_900));
                (Behaviour::Pass, duration)
            });
            unit.cases.extend(more);
        }
    }

    pub fn suites(&self) -> Vec<Suite> {
        vec![Suite {
            name: "played".into(),
            runner: "protocol".into(),
            command: vec!["played".into(), self.run.clone()],
            directory: "/".into(),
            case_timeout_us: DEADLINE.as_micros() as u64,
            grace_us: 100_000,
            ..Suite::default()
        }]
    }

    pub fn behaviours(&self) -> impl Iterator<Item = Behaviour> + '_ {
        let cases = self.units.iter().flat_map(|unit| &unit.cases);
        cases.map(|(behaviour, _)| *behaviour)
    }
}

/// Mostly few, now and then so many that the unit is split.
fn cases(random: &mut Rng) -> usize {
    match random.u32(0..3) {
        0 => random.usize(0..25),
        _ => random.usize(0..6),
    }
}

fn draw_case(random: &mut Rng, slow: bool, poison: bool) -> (Behaviour, Duration) {
    let behaviour = match random.u32(0..60) {
        0 => Behaviour::Fail,
        1 | 2 => Behaviour::Skip,
        3 => Behaviour::Crash,
        4 => Behaviour::KilledOnce,
        5 if random.bool() => Behaviour::Hang,
        6 | 7 if poison => Behaviour::Poison,
        _ => Behaviour::Pass,
    };
    let most = if slow { 1_500_000 } else { 200_000 };
    let duration = match random.u32(0..4) {
        0 => random.u64(10..most),
        _ => random.u64(10..most / 10),
    };
    (behaviour, Duration::from_micros(duration))
}
