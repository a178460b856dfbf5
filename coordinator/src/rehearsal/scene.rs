//! What is played: the tests with what they really take, the machines with how fast they really are, and what the run believes.
//!
//! All times are microseconds. Work is at speed 1; a machine of half that speed takes twice as long.

use crate::run::{CaseKey, History, SuiteHistory};
use evenkeel_proto::suite;
use evenkeel_schedule::{Micros, Past, PastRun, Sample};

/// Everything that a run on virtual time depends on.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    pub suites: Vec<Suite>,
    pub units: Vec<Unit>,
    pub agents: Vec<Agent>,
    /// What the run believes of the units, which may be wrong.
    pub history: History,
    pub ways: Ways,
    /// With no more slots than this the run looks at all of them each time; its own default where nothing is said.
    pub few: Option<u32>,
    /// The run's own seed.
    pub seed: u64,
    /// What may well fail runs first.
    pub first_red: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// What the run knows of it: name, locks, what is exclusive, environments.
    pub suite: suite::Suite,
    pub listing: Listing,
    /// Starting a process of it, where the slot does not say otherwise.
    pub start: Micros,
    /// Its processes run several units together; the first of them pays this.
    pub bundles: Option<Micros>,
    /// Its processes divide no unit.
    pub undivided: bool,
    /// A process cannot end its last case before it knows what comes next.
    pub waits: bool,
    /// A process starts only what it was granted, so that its agent answers in its place when something is taken back.
    pub grants: bool,
}

impl Suite {
    /// One that was not recorded: its units are known as soon as its first process is there, which divides them as pytest's do.
    pub fn made_up(name: &str) -> Suite {
        Suite {
            suite: suite::Suite {
                name: name.to_owned(),
                command: vec![name.to_owned()],
                ..suite::Suite::default()
            },
            listing: Listing {
                pieces: vec![(Micros::ZERO, 0)],
            },
            waits: true,
            grants: true,
            ..Suite::default()
        }
    }
}

/// When the units of a suite are known, counted from when a process was asked for them.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Of each piece when it comes, and how many units it has. What is left comes with the last one.
    pub pieces: Vec<(Micros, u32)>,
}

#[derive(Clone, Debug, Default)]
pub struct Unit {
    pub suite: u32,
    pub name: String,
    pub path: String,
    /// Bytes of source.
    pub size: u64,
    /// Loading it in a process that has not had it yet.
    pub load: Micros,
    /// Loading it once more in the same process.
    pub reload: Micros,
    /// What its cases share and the first that runs in a lease sets up.
    pub fixture: Micros,
    /// At the end of a lease, behind its last case.
    pub closing: Micros,
    pub cases: Vec<Case>,
}

#[derive(Clone, Debug, Default)]
pub struct Case {
    pub id: String,
    pub occurrence: u32,
    /// Cases with the same group are never apart; empty for none.
    pub group: String,
    /// As the framework measures it.
    pub work: Micros,
    /// Before it, in nobody's measure: a process's own doing between two cases.
    pub between: Micros,
    /// Who begins it first waits for so long in it, however fast the machine is; whoever runs it besides does not.
    pub hangs: Micros,
    pub fails: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub name: String,
    /// When it joins the run.
    pub joins: Micros,
    pub slots: Vec<Slot>,
    pub speed: Speed,
    pub loss: Option<Loss>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    /// What its first process takes to start, in real time; what its suite says where nothing is said here.
    pub boot: Option<Micros>,
}

/// An agent is gone.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    pub at: Micros,
    /// How long the run takes to notice. Its connection is cut at once.
    pub noticed: Micros,
}

/// How fast a machine is, which may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speed {
    /// From when on, in thousandths. The first is from the beginning.
    steps: Vec<(Micros, u32)>,
}

/// What a message takes, and what else is between deciding something and its happening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// From agent to coordinator, or back.
    pub way: Micros,
    /// Facts of which nobody waits for the answer are sent together, this long after those before.
    pub patience: Micros,
    /// Until something is durable.
    pub store: Micros,
    /// Until the history has been read, from when the first agent joins.
    pub history: Micros,
}

impl Default for Ways {
    /// As they are between processes of one machine, with a disk that takes a few milliseconds to flush.
    fn default() -> Ways {
        Ways {
            way: Micros(300),
            patience: Micros::from_millis(20),
            store: Micros::from_millis(3),
            history: Micros::from_millis(2),
        }
    }
}

impl Ways {
    /// Nothing takes any time.
    pub const NONE: Ways = Ways {
        way: Micros::ZERO,
        patience: Micros::ZERO,
        store: Micros::ZERO,
        history: Micros::ZERO,
    };
}

/// The slowest that a machine may be, in thousandths: what is slower would never end anything.
const SLOWEST: u32 = 1;

impl Default for Speed {
    fn default() -> Speed {
        Speed::constant(1000)
    }
}

impl Speed {
    /// In thousandths.
    pub fn constant(milli: u32) -> Speed {
        Speed {
            steps: vec![(Micros::ZERO, milli.max(SLOWEST))],
        }
    }

    /// From a time on it is another one. Times are given in ascending order.
    #[must_use]
    pub fn then(mut self, from: Micros, milli: u32) -> Speed {
        let milli = milli.max(SLOWEST);
        match self.steps.last_mut() {
            Some(last) if last.0 >= from => last.1 = milli,
            _ => self.steps.push((from, milli)),
        }
        self
    }

    /// So many thousandths of what it is, at any time.
    #[must_use]
    pub fn times(mut self, milli: u32) -> Speed {
        for (_, speed) in &mut self.steps {
            let slower = u64::from(*speed) * u64::from(milli) / 1000;
            *speed = u32::try_from(slower).unwrap_or(u32::MAX).max(SLOWEST);
        }
        self
    }

    /// In thousandths.
    pub fn at(&self, time: Micros) -> u32 {
        let next = self.steps.partition_point(|(from, _)| *from <= time);
        self.steps[next.saturating_sub(1)].1
    }

    pub fn steps(&self) -> &[(Micros, u32)] {
        &self.steps
    }

    /// When so much work has been done that is begun at this time.
    pub fn after(&self, begun: Micros, work: Micros) -> Micros {
        if let [(_, 1000)] = self.steps[..] {
            return begun + work;
        }
        let mut now = begun;
        let mut left = u128::from(work.0) * 1000;
        let first = self.steps.partition_point(|(from, _)| *from <= now);
        for at in first.saturating_sub(1).. {
            let speed = u128::from(self.steps[at].1);
            let until = self.steps.get(at + 1).map(|(from, _)| *from);
            let needed = left.div_ceil(speed);
            match until.map(|until| until - now) {
                Some(room) if needed > u128::from(room.0) => {
                    left -= speed * u128::from(room.0);
                    now += room;
                }
                _ => return now + Micros(u64::try_from(needed).unwrap_or(u64::MAX)),
            }
        }
        unreachable!("the last step has no end")
    }

    /// What is done between two times, at speed 1.
    pub fn work(&self, from: Micros, to: Micros) -> Micros {
        let ends = self.steps.iter().skip(1).map(|(from, _)| *from);
        let spans = self.steps.iter().zip(ends.chain([Micros::MAX]));
        let done: u128 = spans
            .map(|(&(begin, speed), end)| {
                let span = end.min(to) - begin.max(from);
                u128::from(span.0) * u128::from(speed)
            })
            .sum();
        Micros(u64::try_from(done / 1000).unwrap_or(u64::MAX))
    }
}

impl Unit {
    /// What its cases take, at speed 1, without what loads it or is shared.
    pub fn work(&self) -> Micros {
        let cases = self.cases.iter();
        cases.map(|case| case.work + case.between).sum::<Micros>() + self.closing
    }

    /// What a process pays before its first case.
    pub fn setup(&self) -> Micros {
        self.load + self.fixture
    }
}

impl Case {
    pub fn key(&self) -> CaseKey {
        CaseKey {
            id: self.id.clone(),
            occurrence: self.occurrence,
        }
    }
}

impl Scene {
    /// How many slots there are in all.
    pub fn slots(&self) -> usize {
        self.agents.iter().map(|agent| agent.slots.len()).sum()
    }

    /// What all the work takes at speed 1, each unit loaded once.
    pub fn work(&self) -> Micros {
        let units = self.units.iter();
        units.map(|unit| unit.work() + unit.setup()).sum()
    }

    /// The history that knows everything as it is: of each unit what it takes, and of those that may be shared each case.
    pub fn truth(&self) -> History {
        let mut suites: Vec<SuiteHistory> = Vec::new();
        suites.resize_with(self.suites.len(), SuiteHistory::default);
        let total: Micros = self.units.iter().map(Unit::work).sum();
        let long = Micros(total.0 / (4 * self.slots().max(1) as u64));
        for unit in &self.units {
            let known = &mut suites[unit.suite as usize];
            known.past = known_for_sure(
                std::mem::take(&mut known.past),
                unit,
                unit.work(),
                unit.setup(),
            );
            if unit.work() > long {
                let cases = unit.cases.iter();
                let cases = cases.map(|case| (case.key(), case.work + case.between));
                known.cases.insert(unit.name.clone(), cases.collect());
            }
        }
        for (known, before) in suites.iter_mut().zip(&self.history.suites) {
            known.suspects = before.suspects.clone();
        }
        suites.iter_mut().for_each(seal);
        History { suites }
    }
}

/// So many runs in which a unit took the same leave little doubt that it does.
const SURE: u32 = 5;

/// A past in which the unit took this, again and again.
pub(super) fn known_for_sure(mut past: Past, unit: &Unit, work: Micros, setup: Micros) -> Past {
    let run = |runs| PastRun {
        runs,
        ..PastRun::default()
    };
    past.runs = (0..SURE).map(run).collect();
    let sample = |run| Sample {
        work,
        setup,
        run,
        passed: true,
    };
    past.units
        .insert(unit.name.clone(), (0..SURE).map(sample).collect());
    past
}

/// Gives a history that was made up its digest: a run tells by it whether it had one.
pub(super) fn seal(known: &mut SuiteHistory) {
    let mut hasher = blake3::Hasher::new();
    for (name, samples) in &known.past.units {
        hasher.update(name.as_bytes());
        for sample in samples {
            hasher.update(&sample.work.0.to_le_bytes());
            hasher.update(&sample.setup.0.to_le_bytes());
        }
    }
    known.digest = *hasher.finalize().as_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slows_down_takes_longer_for_the_rest() {
        let speed = Speed::constant(1000)
            .then(Micros(100), 500)
            .then(Micros(200), 2000);
        assert_eq!(speed.after(Micros(0), Micros(100)), Micros(100));
        assert_eq!(speed.after(Micros(50), Micros(75)), Micros(150));
        assert_eq!(speed.after(Micros(50), Micros(120)), Micros(210));
        assert_eq!(
            speed.after(Micros(300), Micros(7)),
            Micros(304),
            "rounded up"
        );
        assert_eq!(speed.after(Micros(300), Micros(0)), Micros(300));
        for (from, work) in [(0, 5), (90, 40), (150, 99), (20, 500)] {
            let end = speed.after(Micros(from), Micros(work));
            let done = speed.work(Micros(from), end);
            assert!(done.0.abs_diff(work) <= 2, "{from} {work} {done}");
        }
        assert_eq!((speed.at(Micros(99)), speed.at(Micros(100))), (1000, 500));
        assert_eq!(speed.times(500).at(Micros(500)), 1000);
    }

    #[test]
    fn a_machine_that_stands_still_goes_on_for_ever_slowly() {
        let speed = Speed::constant(0);
        assert_eq!(speed.after(Micros(0), Micros(3)), Micros(3000));
    }
}
