//! A scene from a run that was recorded: what its tests really took, on which machines, and what the run believed of them.
//!
//! What the ledger does not hold is worked out: how fast machines were, from leases that took longer than they should (see
//! [`super::paces`]); when an agent was lost, from the last that was heard of it.

use super::paces;
use super::scene::{
    Agent, Case, Listing, Loss, Scene, Slot, Speed, Suite, Unit, Ways, known_for_sure, seal,
};
use crate::record::{Attempt, Lease, Record};
use crate::run::{History, SuiteHistory};
use evenkeel_proto::ledger::lease_ended::Reason;
use evenkeel_schedule::Micros;
use std::collections::{BTreeMap, HashMap, HashSet};

/// An agent that is silent for so long is lost, unless a coordinator is told otherwise.
const LOST_AFTER: Micros = Micros::from_millis(5_000);
/// So many alike of the answers that slots waited for say what the way to the coordinator takes.
const ANSWERS: usize = 4;
const LONGEST_WAY: Micros = Micros::from_millis(200);

/// The scene of a run that has ended. Playing it decides anew, and so need not come to the same placement.
pub fn recorded(record: &Record) -> Scene {
    let speeds = paces::speeds(record, |suite| informed(record, suite));
    let mut ran = Ran::of(record);
    let units = ran.units(record, &speeds);
    let mut scene = Scene {
        suites: suites(record),
        units,
        agents: agents(record, &speeds),
        history: History::default(),
        ways: ways(record),
        few: None,
        seed: record.opened.seed,
        first_red: record.opened.first_red,
    };
    scene.history = believed(record, &scene);
    scene
}

/// What ran under a lease: attempts in the order in which they started, with the case of each.
struct Ran<'a> {
    by_lease: Vec<Vec<(&'a Attempt, usize)>>,
}

impl<'a> Ran<'a> {
    fn of(record: &'a Record) -> Ran<'a> {
        let mut by_lease: Vec<Vec<(&Attempt, usize)>> = vec![Vec::new(); record.leases.len()];
        for unit in &record.units {
            for (number, case) in unit.cases.iter().enumerate() {
                for attempt in case.attempts() {
                    let lease = by_lease.get_mut((attempt.lease as usize).wrapping_sub(1));
                    if let Some(lease) = lease {
                        lease.push((attempt, number));
                    }
                }
            }
        }
        for attempts in &mut by_lease {
            attempts.sort_by_key(|(attempt, _)| (attempt.started, attempt.ordinal));
        }
        Ran { by_lease }
    }

    fn units(&mut self, record: &Record, speeds: &[Speed]) -> Vec<Unit> {
        let speed_of = |lease: &Lease| {
            let agent = record.shards[lease.shard as usize].agent;
            &speeds[agent as usize]
        };
        let mut loads: Vec<Vec<u64>> = vec![Vec::new(); record.units.len()];
        let mut reloads: Vec<Vec<u64>> = vec![Vec::new(); record.units.len()];
        let mut fixtures: Vec<Vec<u64>> = vec![Vec::new(); record.units.len()];
        let mut between: Vec<(u64, u64)> = vec![(0, 0); record.units.len()];
        let mut works: Vec<Vec<Micros>> = record
            .units
            .iter()
            .map(|unit| vec![Micros::ZERO; unit.cases.len()])
            .collect();
        let mut seen: HashSet<(u32, u32, u32)> = HashSet::new();
        for (lease, attempts) in record.leases.iter().zip(&self.by_lease) {
            let (Some(begun), Some((first, _))) = (lease.begun, attempts.first()) else {
                continue;
            };
            let unit = lease.unit as usize;
            let speed = speed_of(lease);
            let mut shared = Micros::ZERO;
            let mut measured = Micros::ZERO;
            for (attempt, case) in attempts {
                let own = attempt.duration - attempt.setup;
                let from = attempt.started + attempt.setup;
                works[unit][*case] = speed.work(from, from + own);
                shared += attempt.setup;
                measured += attempt.duration;
            }
            let load = first.started - begun.at;
            let known = (lease.unit, lease.shard, begun.incarnation);
            let of = if seen.insert(known) {
                &mut loads
            } else {
                &mut reloads
            };
            of[unit].push(speed.work(begun.at, begun.at + load).0);
            fixtures[unit].push(speed.work(begun.at, begun.at + shared).0);
            let closed = lease.ended.filter(|ended| ended.reason == Reason::Closed);
            if closed.is_some() {
                let rest = lease.span() - load - measured;
                between[unit].0 += speed.work(begun.at, begun.at + rest).0;
                between[unit].1 += attempts.len() as u64;
            }
        }
        let hangs = self.hangs(record, &works);
        let again = again(&loads, &reloads);
        let units = record.units.iter().enumerate().map(|(number, unit)| {
            let load = median(&mut loads[number]).unwrap_or_default();
            let reload = median(&mut reloads[number]);
            let (rest, count) = between[number];
            let idle = Micros(rest / count.max(1));
            let cases = unit.cases.iter().zip(works[number].iter().zip(0..)).map(
                |(case, (&work, place))| Case {
                    id: case.id.to_string(),
                    occurrence: case.occurrence,
                    group: case.group().unwrap_or_default().to_owned(),
                    work,
                    between: idle,
                    hangs: hangs
                        .get(&(number as u32, place))
                        .copied()
                        .unwrap_or_default(),
                    fails: false,
                },
            );
            Unit {
                suite: unit.suite,
                name: unit.name.to_string(),
                path: unit.path.to_string(),
                size: unit.size,
                load,
                reload: reload.unwrap_or_else(|| again(load)),
                fixture: median(&mut fixtures[number]).unwrap_or_default(),
                closing: Micros::ZERO,
                cases: cases.collect(),
            }
        });
        units.collect()
    }

    /// Cases that a copy ended first: what had them at work was cancelled after so long, beside what they take. How long it would have
    /// been nobody knows.
    fn hangs(&self, record: &Record, works: &[Vec<Micros>]) -> BTreeMap<(u32, u32), Micros> {
        let leases = record.leases.iter().zip(&self.by_lease);
        let originals = leases.filter(|(lease, _)| lease.hung());
        let hangs = originals.filter_map(|(lease, attempts)| {
            let ran = |number: &u32| attempts.iter().any(|(_, case)| *case == *number as usize);
            let case = *lease.cases.iter().find(|number| !ran(number))?;
            let last = attempts.last().map(|(attempt, _)| attempt.ended);
            let since = last.or(lease.begun.map(|begun| begun.at))?;
            let work = works[lease.unit as usize][case as usize];
            Some(((lease.unit, case), lease.ended?.at - since - work))
        });
        hangs.collect()
    }
}

/// What loading a unit once more in a process costs, by those of which it was seen; as much as the first time where it never was.
fn again(loads: &[Vec<u64>], reloads: &[Vec<u64>]) -> impl Fn(Micros) -> Micros + use<> {
    let seen = loads
        .iter()
        .zip(reloads)
        .filter(|(loads, reloads)| !loads.is_empty() && !reloads.is_empty());
    let mean = |times: &[u64]| times.iter().sum::<u64>() / times.len() as u64;
    let (mut first, mut later) = (0, 0);
    for (loads, reloads) in seen {
        first += mean(loads);
        later += mean(reloads);
    }
    move |load| match first {
        0 => load,
        first => Micros((u128::from(load.0) * u128::from(later) / u128::from(first)) as u64),
    }
}

fn median(times: &mut [u64]) -> Option<Micros> {
    times.sort_unstable();
    times.get(times.len() / 2).copied().map(Micros)
}

fn suites(record: &Record) -> Vec<Suite> {
    let suites = (0..).zip(&record.opened.suites).map(|(number, suite)| {
        let processes = record.shards.iter().flat_map(|shard| &shard.processes);
        let own: Vec<_> = processes
            .filter(|process| process.started.suite == number)
            .collect();
        // Those that started when others were at work say more than those that all started at once.
        let starts = |later: bool| -> Vec<u64> {
            let own = own.iter().map(|process| &process.started);
            let own = own.filter(|started| (started.incarnation > 0) == later);
            own.map(|started| started.took_us).collect()
        };
        let start = median(&mut starts(true)).or_else(|| median(&mut starts(false)));
        let of_suite = |lease: &&Lease| record.units[lease.unit as usize].suite == number;
        let mut leases = record.leases.iter().filter(of_suite);
        let waited = leases.any(|lease| lease.ended.is_some_and(|end| end.waited > Micros::ZERO));
        let is_pytest = own
            .iter()
            .any(|process| process.started.framework == "pytest");
        let bundles = own.iter().any(|process| process.started.bundles);
        let mut suite = suite.clone();
        // What is done before and behind is nobody's makespan.
        suite.teardown.clear();
        suite.slot_teardown.clear();
        Suite {
            suite,
            listing: listing(record, number),
            start: start.unwrap_or_default(),
            // What the first of a bundle paid is in its load.
            bundles: bundles.then_some(Micros::ZERO),
            undivided: own.iter().any(|process| process.started.undivided),
            waits: waited || is_pytest,
            grants: waited || is_pytest,
        }
    });
    suites.collect()
}

/// From when the first process of a suite was ready until the first of its units began.
fn listing(record: &Record, suite: u32) -> Listing {
    let processes = record.shards.iter().flat_map(|shard| &shard.processes);
    let own = processes.filter(|process| process.started.suite == suite);
    let ready = own.map(|process| process.started.at_us).min();
    let of_suite = |lease: &&Lease| record.units[lease.unit as usize].suite == suite;
    let begun = record.leases.iter().filter(of_suite);
    let begun = begun.filter_map(|lease| Some(lease.begun?.at.0)).min();
    let took = begun
        .unwrap_or_default()
        .saturating_sub(ready.unwrap_or_default());
    Listing {
        pieces: vec![(Micros(took), 0)],
    }
}

fn agents(record: &Record, speeds: &[Speed]) -> Vec<Agent> {
    let mut agents = Vec::new();
    for ((number, agent), speed) in (0..).zip(&record.agents).zip(speeds) {
        let own = record.shards.iter().filter(|shard| shard.agent == number);
        // One that never had a process served nobody.
        let firsts = own.filter_map(|shard| shard.processes.first());
        let firsts: Vec<_> = firsts.map(|process| &process.started).collect();
        let begun = firsts
            .iter()
            .map(|started| started.at_us.saturating_sub(started.took_us));
        let Some(joins) = begun.min() else { continue };
        let slots = firsts.iter().map(|started| Slot {
            boot: Some(Micros(started.at_us - joins)),
        });
        agents.push(Agent {
            name: agent.name.clone(),
            joins: Micros(joins),
            slots: slots.collect(),
            speed: speed.clone(),
            loss: loss(record, number),
        });
    }
    agents
}

/// An agent that was lost or left with something in hand.
fn loss(record: &Record, agent: u32) -> Option<Loss> {
    let gone = record.agents[agent as usize].gone.as_ref()?;
    let shards = record.shards.iter().filter(|shard| shard.agent == agent);
    let numbers: HashSet<u64> = shards.flat_map(|shard| &shard.leases).copied().collect();
    let own: HashSet<u32> = numbers.iter().map(|&lease| lease as u32).collect();
    let leases = || numbers.iter().filter_map(|&lease| record.lease(lease));
    let ended = |reason: Reason| {
        let ended = leases().filter_map(|lease| lease.ended);
        let ended = ended.filter(move |ended| ended.reason == reason);
        ended.map(|ended| ended.at).max()
    };
    let attempts = record.units.iter().flat_map(|unit| &unit.cases);
    let attempts = attempts.flat_map(|case| case.attempts());
    let heard = attempts
        .filter(|attempt| !attempt.agent_lost)
        .filter(|attempt| own.contains(&attempt.lease))
        .map(|attempt| attempt.ended)
        .max();
    let begun = leases()
        .filter_map(|lease| lease.begun)
        .map(|begun| begun.at)
        .max();
    let last = heard.max(begun)?;
    let noticed = ended(Reason::Lost);
    if !gone.lost {
        return Some(Loss {
            at: noticed.unwrap_or(last).max(last),
            noticed: Micros::ZERO,
        });
    }
    let noticed = noticed?;
    // It was silent for so long; and what ended last may have been told of later than it ended.
    let at = last.max(noticed - LOST_AFTER);
    Some(Loss {
        at,
        noticed: noticed - at,
    })
}

/// What the answers that slots waited for took: twice the way.
fn ways(record: &Record) -> Ways {
    let waited = record
        .leases
        .iter()
        .filter_map(|lease| Some(lease.ended?.waited.0));
    let mut waited: Vec<u64> = waited.filter(|waited| *waited > 0).collect();
    waited.sort_unstable();
    let mut ways = Ways::default();
    // Some found it on its way, and some waited for work: what most of them took is a round trip.
    let near = |least: u64| {
        let end = waited.partition_point(|waited| *waited * 2 <= least * 3);
        &waited[waited.partition_point(|waited| *waited < least)..end]
    };
    let most = waited.iter().map(|&waited| near(waited));
    let most = most.max_by_key(|near| (near.len(), std::cmp::Reverse(near[0])));
    if let Some(most) = most.filter(|most| most.len() >= ANSWERS) {
        ways.way = Micros(most[most.len() / 2] / 2).min(LONGEST_WAY);
    }
    ways
}

/// Whether the run had a history of a suite.
fn informed(record: &Record, suite: u32) -> bool {
    let nothing = *blake3::hash(b"").as_bytes();
    let digest = record.planned.as_ref();
    let digest = digest.map_or(&[][..], |planned| &planned.history_digest);
    let own = digest.chunks(nothing.len()).nth(suite as usize);
    own.is_some_and(|own| own != nothing && own.iter().any(|byte| *byte != 0))
}

/// What the run believed: of each unit what its first lease was expected to take; nothing where it had no history.
fn believed(record: &Record, scene: &Scene) -> History {
    let mut suites: Vec<SuiteHistory> = Vec::new();
    suites.resize_with(record.opened.suites.len(), SuiteHistory::default);
    let mut first: BTreeMap<u32, Micros> = BTreeMap::new();
    for lease in &record.leases {
        let whole = lease.named.is_empty() && lease.alone.is_none();
        if whole && informed(record, record.units[lease.unit as usize].suite) {
            first.entry(lease.unit).or_insert(lease.expected);
        }
    }
    let total: Micros = first.values().copied().sum();
    let long = Micros(total.0 / (4 * scene.slots().max(1) as u64));
    for (unit, expected) in first {
        let on_scene = &scene.units[unit as usize];
        let known = &mut suites[on_scene.suite as usize];
        let setup = on_scene.setup().min(expected);
        let work = expected - setup;
        known.past = known_for_sure(std::mem::take(&mut known.past), on_scene, work, setup);
        if work > long {
            let real = on_scene.work().0.max(1);
            let cases = on_scene.cases.iter().map(|case| {
                let took = u128::from((case.work + case.between).0) * u128::from(work.0);
                (case.key(), Micros((took / u128::from(real)) as u64))
            });
            let cases: HashMap<_, _> = cases.collect();
            known.cases.insert(on_scene.name.clone(), cases);
        }
    }
    for known in &mut suites {
        known.suspects = Some(BTreeMap::new());
    }
    for (unit, why) in record.suspects() {
        let unit = &record.units[unit as usize];
        let suspects = &mut suites[unit.suite as usize].suspects;
        let suspects = suspects.get_or_insert_default();
        suspects.insert(unit.name.to_string(), why);
    }
    suites.iter_mut().for_each(seal);
    History { suites }
}
