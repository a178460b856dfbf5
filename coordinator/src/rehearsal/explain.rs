//! Where a run's time went: what its makespan has above the bound, by causes, and what would buy some of it back.
//!
//! The run is replayed with one cause after the other removed, in a fixed order. What a cause cost is what the makespan shrinks by
//! when it goes; what is left when all are gone is what cannot be divided. So the sum is the gap, whatever the replays come to. What the
//! first replay falls short of is chance, but where an agent broke down it is that agent's.

use super::play::{Stalled, play};
use super::recorded::recorded;
use super::scene::{Agent, Scene, Speed, Unit, Ways};
use super::whatif::WhatIf;
use crate::record::Record;
use evenkeel_schedule::Micros;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What time is lost to, in the order in which causes are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A replay does not come to what the run took: chance, or what is not on record.
    Chance,
    /// What may well fail came first, where that was asked for.
    Order,
    /// What ran twice: below zero, by what the run would have taken longer without it.
    Copies,
    /// Agents that were lost, or slower than the others, or on which something stood still.
    Agents,
    /// Durations that were believed and wrong, or not known.
    Estimates,
    /// Set-up that was paid more than once.
    Setup,
    /// Round trips, the listing, and waiting for what comes next.
    Waiting,
    /// What nothing divides: it began late, or does not fit beside the rest.
    LongUnit,
}

impl Cause {
    /// As it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Chance => "chance",
            Cause::Order => "order",
            Cause::Copies => "copies",
            Cause::Agents => "agents",
            Cause::Estimates => "estimates",
            Cause::Setup => "setup",
            Cause::Waiting => "waiting",
            Cause::LongUnit => "long_unit",
        }
    }
}

/// What one cause cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub cause: Cause,
    /// Microseconds; below zero where it happened to help.
    pub us: i64,
    /// The unit or agent that it was most of all, where one can be named.
    pub what: Option<String>,
}

/// What could be changed before the next run, and what that would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub what: Step,
    /// The makespan with it, and how much less that is.
    pub makespan: Micros,
    pub saved: Micros,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What nothing divides of this unit becomes two halves.
    Split(String),
    /// Loading this unit, or all of them, takes half as long: so much less in all.
    LessSetup { unit: Option<String>, less: Micros },
    /// So many slots instead of those that there were.
    Slots(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    pub makespan: Micros,
    pub bound: Micros,
    /// In the order of [`Cause`]. The sum is makespan less bound.
    pub lost: Vec<Lost>,
    /// The unit that is more than one slot's even share of the work, if any, its part of the work in percent, and how many slots had
    /// parts of it.
    pub dominant: Option<(String, u32, u32)>,
    /// What would help, the cheapest first.
    pub next: Vec<Change>,
}

impl Explained {
    /// The causes that cost something, the dearest first.
    pub fn dearest(&self) -> Vec<&Lost> {
        dearest(&self.lost)
    }
}

/// The causes that cost something, the dearest first.
pub fn dearest(lost: &[Lost]) -> Vec<&Lost> {
    let mut real: Vec<&Lost> = lost.iter().filter(|lost| lost.us > 0).collect();
    real.sort_by_key(|lost| (std::cmp::Reverse(lost.us), lost.cause));
    real
}

/// How often a run is replayed to explain it, about.
const REPLAYS: u64 = 12;
/// What replaying a test takes.
const COST: Micros = Micros(12);
/// An explanation may take this part of what it explains, or what nobody waits for.
const SHARE: u64 = 100;
const UNFELT: Micros = Micros::from_millis(100);
/// What is shorter has nothing to explain.
const SHORTEST: Micros = Micros::from_millis(1_000);
/// A change that saves less than this, in percent of the makespan, is not worth a word.
const WORTH_PERCENT: u64 = 4;
/// More slots are tried in these steps, in percent of what there were.
const MORE_SLOTS: [u32; 3] = [125, 150, 200];

/// Whether explaining a run costs little beside what the run took.
pub fn is_worth_explaining(record: &Record) -> bool {
    let tests = record
        .units
        .iter()
        .map(|unit| unit.cases.len() as u64)
        .sum::<u64>();
    let makespan = record.schedule().makespan;
    makespan >= SHORTEST && tests * COST.0 * REPLAYS <= UNFELT.0.max(makespan.0 / SHARE)
}

/// What can be said of a run that has ended without a replay of it.
pub fn outline(record: &Record) -> Explained {
    let schedule = record.schedule();
    Explained {
        makespan: schedule.makespan,
        bound: schedule.bound.makespan(),
        lost: Vec::new(),
        dominant: dominant(record, &recorded(record)),
        next: Vec::new(),
    }
}

/// Explains a run that has ended. Fails where a replay of it does not come to an end.
pub fn explain(record: &Record) -> Result<Explained, Stalled> {
    let scene = recorded(record);
    let schedule = record.schedule();
    let longest = schedule.longest.map(|longest| longest.unit);
    let changes = changes(&scene, longest);
    let scenes: Vec<&Scene> = changes.iter().map(|(_, scene)| scene).collect();
    let (lost, changed) = rayon::join(|| lost(record, &scene), || makespans(&scenes));
    let steps = changes.into_iter().map(|(step, _)| step);
    Ok(Explained {
        makespan: schedule.makespan,
        bound: schedule.bound.makespan(),
        lost: lost?,
        dominant: dominant(record, &scene),
        next: worth(steps.zip(changed?)),
    })
}

/// What a run that has ended lost to each cause, in the order of [`Cause`]: its makespan less its bound, to the microsecond.
pub fn causes(record: &Record) -> Result<Vec<Lost>, Stalled> {
    lost(record, &recorded(record))
}

fn lost(record: &Record, scene: &Scene) -> Result<Vec<Lost>, Stalled> {
    let schedule = record.schedule();
    let longest = schedule.longest.map(|longest| longest.unit);
    let without = removed(record, scene);
    let steps = makespans(&without.iter().collect::<Vec<_>>())?;
    let causes = [
        Cause::Chance,
        Cause::Order,
        Cause::Copies,
        Cause::Agents,
        Cause::Estimates,
        Cause::Setup,
        Cause::Waiting,
        Cause::LongUnit,
    ];
    let copies = allows_copies(scene);
    let removed = |cause: &Cause| match cause {
        Cause::Order => scene.first_red,
        Cause::Copies => copies,
        _ => true,
    };
    let causes = causes.into_iter().filter(removed);
    let before = [schedule.makespan].into_iter().chain(steps.iter().copied());
    let after = steps.iter().copied().chain([schedule.bound.makespan()]);
    let lost = causes.zip(before.zip(after));
    let lost = lost.map(|(cause, (before, after))| Lost {
        cause,
        us: before.0 as i64 - after.0 as i64,
        what: culprit(record, scene, cause, longest),
    });
    let mut lost: Vec<Lost> = lost.collect();
    if scene.agents.iter().any(breaks_down) && lost[0].us > 0 {
        // What that costs depends on what the agent had at work just then, which no replay repeats to the millisecond.
        let chance = std::mem::take(&mut lost[0].us);
        let agents = lost.iter_mut().find(|lost| lost.cause == Cause::Agents);
        agents.into_iter().for_each(|lost| lost.us += chance);
    }
    Ok(lost)
}

/// Whether an agent is lost before anybody knows, or becomes less than half as fast as it was.
fn breaks_down(agent: &Agent) -> bool {
    let mut most = 0;
    let slows = agent.speed.steps().iter().any(|&(_, speed)| {
        most = speed.max(most);
        speed < most / 2
    });
    let lost = agent
        .loss
        .as_ref()
        .is_some_and(|loss| loss.noticed > Micros::ZERO);
    lost || slows
}

/// Of each scene what it takes.
fn makespans(scenes: &[&Scene]) -> Result<Vec<Micros>, Stalled> {
    let played = scenes.par_iter().map(|scene| {
        let played = play(scene)?;
        Ok(played.record.schedule().makespan)
    });
    played.collect()
}

/// The scene as it was, and then with one cause after the other removed.
fn removed(record: &Record, scene: &Scene) -> Vec<Scene> {
    let mut scenes = vec![scene.clone()];
    let mut less = scene.clone();
    if std::mem::take(&mut less.first_red) {
        scenes.push(less.clone());
    }
    if allows_copies(&less) {
        let suites = less.suites.iter_mut();
        suites.for_each(|suite| suite.suite.copies = false);
        scenes.push(less.clone());
    }
    // As fast all together as they were, so that the work takes what it took.
    let even = Speed::constant(usual_speed(record, scene));
    for agent in &mut less.agents {
        agent.loss = None;
        agent.speed = even.clone();
    }
    nothing_hangs(&mut less);
    scenes.push(less.clone());
    less.history = less.truth();
    scenes.push(less.clone());
    for unit in &mut less.units {
        pay_once(unit);
    }
    less.history = less.truth();
    scenes.push(less.clone());
    less.ways = Ways::NONE;
    for suite in &mut less.suites {
        suite.listing.pieces.clear();
    }
    scenes.push(less);
    scenes
}

/// What stood still once does not.
fn nothing_hangs(scene: &mut Scene) {
    let cases = scene.units.iter_mut().flat_map(|unit| &mut unit.cases);
    cases.for_each(|case| case.hangs = Micros::ZERO);
}

fn allows_copies(scene: &Scene) -> bool {
    scene.suites.iter().any(|suite| suite.suite.copies)
}

/// The speed, in thousandths, at which all the work would have taken what it took.
fn usual_speed(record: &Record, scene: &Scene) -> u32 {
    let (mut took, mut work) = (0u128, 0u128);
    for lease in &record.leases {
        let name = &record.agents[record.shards[lease.shard as usize].agent as usize].name;
        let agent = scene.agents.iter().find(|agent| agent.name == *name);
        let (Some(begun), Some(agent)) = (lease.begun, agent) else {
            continue;
        };
        took += u128::from(lease.span().0);
        work += u128::from(agent.speed.work(begun.at, begun.at + lease.span()).0);
    }
    if took == 0 {
        return 1000;
    }
    u32::try_from(work * 1000 / took).unwrap_or(u32::MAX).max(1)
}

/// What loads a unit becomes a part of its first case: it is paid once, wherever its parts run.
fn pay_once(unit: &mut Unit) {
    let setup = unit.setup();
    if let Some(first) = unit.cases.first_mut() {
        first.between += setup;
        (unit.load, unit.reload, unit.fixture) = (Micros::ZERO, Micros::ZERO, Micros::ZERO);
    }
}

/// Who it was most of all.
fn culprit(record: &Record, scene: &Scene, cause: Cause, longest: Option<u32>) -> Option<String> {
    let name = |unit: u32| record.units[unit as usize].name.to_string();
    match cause {
        Cause::Chance | Cause::Order | Cause::Copies | Cause::Waiting => None,
        Cause::LongUnit => longest.map(name),
        Cause::Agents => {
            let lost = scene.agents.iter().find(|agent| breaks_down(agent));
            let lost = lost.or(scene.agents.iter().find(|agent| agent.loss.is_some()));
            let slowest =
                |agent: &&Agent| agent.speed.steps().iter().map(|(_, speed)| *speed).min();
            let slow = scene.agents.iter().min_by_key(slowest);
            let slow = slow.filter(|agent| slowest(agent) < Some(1000));
            // Where nothing else is known, the one on which something stood still.
            let mut leases = record.leases.iter();
            let hung = leases.find(|lease| lease.hung()).map(|lease| {
                let agent = record.shards[lease.shard as usize].agent;
                record.agents[agent as usize].name.clone()
            });
            lost.or(slow).map(|agent| agent.name.clone()).or(hung)
        }
        Cause::Estimates => {
            let off = scene.units.iter().zip(0..).map(|(unit, number)| {
                let real = unit.work() + unit.setup();
                let leases = record.leases.iter().filter(|lease| lease.unit == number);
                let first = leases.map(|lease| lease.expected).next();
                (real - first.unwrap_or(real), number)
            });
            let most = off.max_by_key(|&(off, number)| (off, std::cmp::Reverse(number)));
            most.filter(|(off, _)| *off > Micros::ZERO)
                .map(|(_, unit)| name(unit))
        }
        Cause::Setup => {
            let mut paid: BTreeMap<u32, (Micros, Micros)> = BTreeMap::new();
            for lease in &record.leases {
                let Some(ended) = lease.ended else { continue };
                let (all, most) = paid.entry(lease.unit).or_default();
                *all += ended.setup;
                *most = ended.setup.max(*most);
            }
            let again = paid
                .into_iter()
                .map(|(unit, (all, most))| (all - most, unit));
            let most = again.max_by_key(|&(again, unit)| (again, std::cmp::Reverse(unit)));
            most.filter(|(again, _)| *again > Micros::ZERO)
                .map(|(_, unit)| name(unit))
        }
    }
}

/// A unit that is more than a slot's even share.
fn dominant(record: &Record, scene: &Scene) -> Option<(String, u32, u32)> {
    let works = scene.units.iter().map(|unit| unit.work() + unit.setup());
    let works: Vec<Micros> = works.collect();
    let all: Micros = works.iter().copied().sum();
    let (largest, work) = (0u32..)
        .zip(works)
        .max_by_key(|&(unit, work)| (work, std::cmp::Reverse(unit)))?;
    let slots = scene.slots() as u64;
    if slots < 2 || work.0 * slots <= all.0 {
        return None;
    }
    let own = record
        .leases
        .iter()
        .filter(|lease| lease.unit == largest && lease.begun.is_some());
    let mut shards: Vec<u32> = own.map(|lease| lease.shard).collect();
    shards.sort_unstable();
    shards.dedup();
    let percent = (work.0 * 100 / all.0.max(1)) as u32;
    let name = record.units[largest as usize].name.to_string();
    Some((name, percent, shards.len() as u32))
}

/// What could be changed: the scene of the next run, which knows what this one learned, as it is and with each change.
fn changes(scene: &Scene, longest: Option<u32>) -> Vec<(Option<Step>, Scene)> {
    let mut base = scene.clone();
    for agent in &mut base.agents {
        agent.loss = None;
    }
    nothing_hangs(&mut base);
    base.history = base.truth();
    let mut changes = vec![(None, base.clone())];
    if let Some(unit) = longest {
        let mut split = base.clone();
        if halve(&mut split, unit) {
            split.history = split.truth();
            let name = split.units[unit as usize].name.clone();
            changes.push((Some(Step::Split(name)), split));
        }
    }
    let less = WhatIf {
        setup: 0.5,
        informed: true,
        ..WhatIf::default()
    };
    let setups = || base.units.iter().map(Unit::setup);
    let all: Micros = setups().sum();
    if all > Micros::ZERO {
        let most = base.units.iter().max_by_key(|unit| unit.setup());
        // Where one unit is most of it, it is named.
        let most = most.filter(|unit| unit.setup().0 * 2 > all.0);
        let step = Step::LessSetup {
            unit: most.map(|unit| unit.name.clone()),
            less: Micros(all.0 / 2),
        };
        changes.push((Some(step), less.applied(&base, 0)));
    }
    let slots = base.slots() as u32;
    for percent in MORE_SLOTS {
        let more = (slots * percent).div_ceil(100).max(slots + 1);
        let what = WhatIf {
            slots: Some(more),
            informed: true,
            ..WhatIf::default()
        };
        changes.push((Some(Step::Slots(more)), what.applied(&base, 0)));
    }
    changes
}

/// Makes two of what nothing divides of a unit. Whether there was anything to be divided.
fn halve(scene: &mut Scene, unit: u32) -> bool {
    let number = scene.units.len();
    let suite = scene.units[unit as usize].suite as usize;
    let undivided = scene.suites[suite].undivided;
    let unit = &mut scene.units[unit as usize];
    if undivided {
        if unit.cases.len() > 1 {
            let mut half = unit.clone();
            half.name = format!("{} (2)", unit.name);
            half.cases = unit.cases.split_off(unit.cases.len() / 2);
            scene.units.push(half);
            return true;
        }
        if let Some(case) = unit.cases.first_mut() {
            case.work = Micros(case.work.0 / 2);
            let mut half = unit.clone();
            half.name = format!("{} ({number})", unit.name);
            scene.units.push(half);
            return true;
        }
        return false;
    }
    let mut groups: BTreeMap<&str, (Micros, Vec<usize>)> = BTreeMap::new();
    for (at, case) in unit.cases.iter().enumerate() {
        let own = if case.group.is_empty() {
            case.id.as_str()
        } else {
            case.group.as_str()
        };
        let (all, cases) = groups.entry(own).or_default();
        *all += case.work;
        cases.push(at);
    }
    let longest = groups.into_values().max_by_key(|(all, _)| *all);
    let Some((_, cases)) = longest else {
        return false;
    };
    match cases[..] {
        [only] => {
            let case = &mut unit.cases[only];
            case.work = Micros(case.work.0 / 2);
            let mut half = case.clone();
            half.id = format!("{} (2)", half.id);
            unit.cases.insert(only + 1, half);
        }
        _ => {
            for &at in &cases[cases.len() / 2..] {
                unit.cases[at].group.push_str(" (2)");
            }
        }
    }
    true
}

/// Changes that save something, the cheapest first; of numbers of slots the smallest that does.
fn worth(changed: impl Iterator<Item = (Option<Step>, Micros)>) -> Vec<Change> {
    let mut base = Micros::ZERO;
    let mut next: Vec<Change> = Vec::new();
    for (step, makespan) in changed {
        let Some(what) = step else {
            base = makespan;
            continue;
        };
        let saved = base - makespan;
        let slots = |change: &Change| matches!(change.what, Step::Slots(_));
        let known = matches!(what, Step::Slots(_)) && next.iter().any(slots);
        if saved.0 * 100 >= base.0 * WORTH_PERCENT && saved > Micros::ZERO && !known {
            next.push(Change {
                what,
                makespan,
                saved,
            });
        }
    }
    next
}
