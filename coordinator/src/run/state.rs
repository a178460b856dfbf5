//! What a run knows beside its record, and what dies with the process: agents, shards, units and works as they stand.

use super::forecast::Spent;
use super::{AgentId, Limits};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::{Micros, Needs};
use std::collections::{BTreeSet, VecDeque};

/// A piece for the dispatcher.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) unit: u32,
    pub(super) part: Part,
    /// How often in a row it lost its process, with so many cases left.
    pub(super) breaks: u32,
    pub(super) left_at_break: Option<usize>,
    /// The agent that was lost with it: it goes to another one, if there is any.
    pub(super) avoid: Option<u32>,
    /// The live lease that has the same cases. What becomes of them does not depend on this work.
    pub(super) copy_of: Option<u64>,
}

impl Work {
    pub(super) fn new(unit: u32, part: Part) -> Work {
        Work {
            unit,
            part,
            breaks: 0,
            left_at_break: None,
            avoid: None,
            copy_of: None,
        }
    }
}

/// Which cases of a unit a work has.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// All that no other work has. The first is of this kind, so that a case nobody knew is run.
    Rest,
    /// These, in the unit's order.
    Named(Vec<u32>),
    /// This one, in a process of its own.
    Alone(u32),
}

#[derive(Debug)]
pub(super) struct AgentState {
    pub(super) id: AgentId,
    pub(super) connected: bool,
    pub(super) gone: bool,
    /// Under which it tells what it tells, by how often the run had been recovered when it joined.
    pub(super) opening: u64,
    /// The highest sequence that was taken in.
    pub(super) sequence: u64,
    /// Run clock minus agent clock, the smallest seen: the message with the shortest way knows best.
    pub(super) offset: i64,
    /// What may be acknowledged when a listing that is only in memory is on record.
    pub(super) unacknowledged: Option<u64>,
    /// The last sign that it was asked for when it came back, and whether that is still to come.
    pub(super) fence: u32,
    pub(super) fenced: bool,
    /// Failures before anything passed on it.
    pub(super) failures: u32,
    pub(super) passed: bool,
    /// Everything failed on it at once: it gets nothing more.
    pub(super) set_aside: bool,
}

/// What is known of one of the run's suites while it goes on.
#[derive(Debug, Default)]
pub(super) struct SuiteState {
    /// The shard that lists it, and the ask that it answers.
    pub(super) lister: Option<u32>,
    pub(super) ask: u64,
    /// What has been listed and is not on record yet, and whether that is all.
    pub(super) listing: Vec<l::Unit>,
    pub(super) listed: bool,
    /// All of it is on record.
    pub(super) recorded: bool,
    pub(super) failed_listings: u32,
    /// Its processes run several units at once, and are given them together.
    pub(super) bundles: bool,
    /// Its processes divide no unit.
    pub(super) undivided: bool,
    /// What the start of such a bundle costs, as far as is known.
    pub(super) startup: Micros,
    /// Somebody must conclude the run as a whole for it, and somebody has been asked to.
    pub(super) finish: bool,
    pub(super) finished: bool,
    /// Nothing more of it is run: it could not be built.
    pub(super) over: bool,
}

#[derive(Debug, Default)]
pub(super) struct ShardState {
    /// The kind of process that it has or is going to have next.
    pub(super) kind: u32,
    /// Its process is up; it may get leases.
    pub(super) ready: bool,
    /// It will run nothing more in this run.
    pub(super) gone: bool,
    /// It is to be somebody else's as soon as it has ended what it runs.
    pub(super) leaving: bool,
    /// Its agent has come back without it. What it did before is still to be told.
    pub(super) missing: bool,
    /// A process of it has been heard of.
    pub(super) heard: bool,
    /// Suites that it could not be set up for.
    pub(super) unable: BTreeSet<u32>,
    /// It has no process and starts none before it gets a lease.
    pub(super) empty: bool,
    pub(super) told_idle: bool,
    /// The last lease that was to begin a new process because the one before had let go of what its tests share.
    pub(super) fresh: Option<u64>,
    pub(super) failed_spawns: u32,
    /// Unplanned ends of its processes.
    pub(super) ends: u32,
    /// The lease that it was asked to give back, and when.
    pub(super) revoking: Option<u64>,
    pub(super) asked_at: Micros,
    /// A lease that gave nothing back when asked, and how many of its cases had ended then.
    pub(super) stuck: Option<(u64, u32)>,
    /// It is given nothing before that: it has just refused what it was.
    pub(super) refuses_until: Micros,
    /// Live leases in the order in which they were given, with their work.
    pub(super) leases: VecDeque<(u64, u32)>,
    /// For display: the unit at work since then, and its case if that has been running for long.
    pub(super) unit: Option<(String, Micros)>,
    pub(super) long_case: Option<(String, Micros)>,
    pub(super) waiting: bool,
    /// Since when, if it does.
    pub(super) waits_since: Micros,
    /// What is asked back from it makes room for something longer.
    pub(super) makes_room: bool,
    pub(super) place: Place,
    /// Its process is asked to come to its end, and the verdict waits for what it says.
    pub(super) concluding: bool,
    pub(super) closing: bool,
}

/// How far a shard has come in the lease that it has at work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// When all its cases had been declared, and when the first of them had ended.
    pub(super) declared: Option<Micros>,
    pub(super) first: Option<Micros>,
    /// What it took to load the unit and to set up what its cases share, as far as that has been done.
    pub(super) setup: Micros,
    /// How many cases have ended.
    pub(super) done: u32,
    /// It has given back those from this position on.
    pub(super) kept: Option<u32>,
    /// When the last one ended.
    pub(super) since: Micros,
}

#[derive(Clone, Debug, Default)]
pub(super) struct UnitState {
    /// Its work of the kind `Rest`.
    pub(super) work: u32,
    /// Works that are waiting or leased.
    pub(super) open: u32,
    /// What each of its cases should take, by number; empty where no history tells. This and what follows is at the reference speed,
    /// on whichever slot it was seen.
    pub(super) times: Vec<Micros>,
    /// What its cases took in this run.
    pub(super) seen: Seen,
    /// Before one has ended: what the first has taken by now, where the history knows nothing.
    pub(super) assumed: Micros,
    /// What loading it took, the longest seen in this run.
    pub(super) setup: Micros,
    pub(super) loaded: Loaded,
    pub(super) spent: Spent,
    pub(super) needs: Needs,
    pub(super) limits: Limits,
    /// Cases of it that have been at work twice at the same time: not again.
    pub(super) copied: BTreeSet<u32>,
}

/// What loading a unit took, at the reference speed, on each slot where all of a lease has been heard of.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    sum: Micros,
    on: Vec<u32>,
}

impl Loaded {
    /// A slot that has loaded it does not again.
    pub(super) fn add(&mut self, shard: u32, took: Micros) {
        if !self.on.contains(&shard) {
            self.on.push(shard);
            self.sum += took;
        }
    }

    pub(super) fn usual(&self) -> Option<Micros> {
        let count = self.on.len() as u64;
        (count > 0).then(|| Micros(self.sum.0 / count))
    }
}

/// What earlier runs tell of a unit's cases counts as much as so many of them that have ended.
const TOLD: u64 = 4;

/// What cases of a unit took, at the reference speed: those that came first on their slots, which may have set up what others share,
/// and the others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    first: (Micros, u32),
    others: (Micros, u32),
}

impl Seen {
    pub(super) fn add(&mut self, first: bool, took: Micros) {
        let (sum, count) = if first {
            &mut self.first
        } else {
            &mut self.others
        };
        *sum += took;
        *count += 1;
    }

    pub(super) fn any(&self) -> bool {
        self.first.1 + self.others.1 > 0
    }

    /// What one takes on average, where earlier runs tell that it should be so much: nothing before one has ended.
    pub(super) fn usual(&self, known: Option<Micros>) -> Option<Micros> {
        let (sum, count) = if self.others.1 > 0 {
            self.others
        } else {
            self.first
        };
        let told = known.map_or(0, |_| TOLD);
        let sum = sum.0 + known.unwrap_or_default().0 * told;
        self.any().then(|| Micros(sum / (u64::from(count) + told)))
    }
}

/// How often a case was at work when its process was killed from outside, and when its agent was lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kills {
    pub(super) processes: u32,
    pub(super) agents: u32,
}

/// What follows when the rows up to a certain one are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A part of the listing may be leased.
    Listing,
    /// Processes may be told that nothing more comes.
    Conclusion,
    /// An agent that came back, and has given this sign that it has told everything, may be given slots.
    Return { agent: u32, fence: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No unit is known yet that could be run.
    Listing,
    Running,
    /// Nothing is left to run; the processes come to their end.
    Concluding,
    /// This shard's process concludes the run as a whole for a suite; one suite after the other.
    Finishing {
        shard: u32,
        suite: u32,
        ask: u64,
    },
    Closed,
}
