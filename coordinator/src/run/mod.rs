//! A run as a pure state machine: [`Run::step`] takes an event and the time, and says what to do.
//!
//! The run owns its [`Record`] and changes it only through entries that it appends to the ledger, so that what it knows
//! and what the ledger holds cannot differ. It does no IO and reads no clock. Beside the record it keeps only what dies
//! with the process: who is connected, what the dispatcher holds, what was promised to whom.

mod close;
mod conclude;
pub mod copies;
mod event;
mod facts;
mod forecast;
mod hand_out;
mod hangs;
mod leases;
mod listing;
mod locks;
mod membership;
mod overdue;
mod pace;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
mod progress;
mod recovery;
mod split;
mod state;
mod stop;
mod suspects;

pub use crate::rules::{Limits, PatternError, Rules};
pub use event::{
    AgentBack, AgentId, AgentJoined, CaseEnded, CaseKey, CaseText, Command, Effect, EndCause,
    Event, Fact, FactBody, Farewell, InFlight, LeaseCommand, Level, ProcessEnded, ProcessStarted,
    Refusal, RefusedReason, RunningCase, Show,
};
pub use progress::Progress;
pub use suspects::Lately;

use crate::record::{Record, Suspicion, Totals};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::{Dispatcher, Estimate, Micros, Past, Weight};
use forecast::Forecast;
use l::entry::Body;
use prost::Message;
use state::{
    AgentState, Awaited, Kills, Part, Phase, Place, ShardState, SuiteState, UnitState, Work,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Exit codes of red runs: some test or the framework failed, or there were no tests because the build failed.
pub(crate) const RED: u32 = 1;
pub(crate) const UNBUILT: u32 = 5;
/// How often a case may lose its process to a kill from outside before it is an error.
const KILLS: u32 = 2;
/// How often a case may be at work when its agent is lost before it is an error.
const LOSSES: u32 = 3;
/// How often a unit may lose its process or agent without any of its cases making progress.
const BREAKS: u32 = 3;
/// How often a slot's process may fail to come up, or die without doing anything, before the slot is given up.
const SPAWNS: u32 = 3;
/// A run that nobody serves says so after this long.
const FIRST_AGENT: Micros = Micros::from_millis(5_000);
/// How long a run waits for a new agent after it lost the last one.
const WITHOUT_AGENTS: Micros = Micros::from_millis(60_000);

/// What earlier runs tell about a run's suites, in their order.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub suites: Vec<SuiteHistory>,
}

/// What earlier runs tell about units of one suite.
#[derive(Clone, Debug, Default)]
pub struct SuiteHistory {
    pub past: Past,
    /// Of the units that may be too long to stay whole: what each case takes.
    pub cases: HashMap<String, HashMap<CaseKey, Micros>>,
    /// What its units were like when they ran last.
    pub lately: BTreeMap<String, Lately>,
    /// Which units may well fail, where that is not to be worked out: in a rehearsal.
    pub suspects: Option<BTreeMap<String, Suspicion>>,
    /// Digest of everything above: plans are equal where manifest, digest and seed are.
    pub digest: [u8; 32],
}

/// What a shard ran, to be run again in the same order: its processes, each with its leases.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub processes: Vec<Vec<ScriptLease>>,
}

#[derive(Clone, Debug)]
pub struct ScriptLease {
    /// The number of the unit's suite.
    pub suite: u32,
    pub unit: String,
    pub path: String,
    /// Where not empty, just these cases.
    pub only: Vec<CaseKey>,
}

#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// End the run after this many failed cases, 0 for never.
    pub max_fail: u32,
    /// A run whose agents all went away ends at once instead of waiting for another: nobody else can come.
    pub closed_shop: bool,
    /// Run this instead of what the framework lists.
    pub script: Option<Script>,
    /// With no more slots than this, all are looked at whenever anything happens.
    pub few: Option<u32>,
    /// What hangs on a slot that was asked to give something back may be copied when it has not answered for so long; a second if
    /// nothing is said.
    pub answer: Option<Micros>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Run {
    record: Record,
    rules: Rules,
    settings: Settings,
    suites: Vec<SuiteState>,
    locks: locks::Locks,
    /// What different units have as limits.
    limits: Vec<Limits>,
    /// Slots that wait for the history, which tells what to start on them.
    unopened: Vec<u32>,
    /// Absent until it has been read; estimates wait for it.
    history: Option<History>,
    phase: Phase,
    agents: Vec<AgentState>,
    /// Agents by their numbers, and the shard that each of their slots has.
    by_id: HashMap<AgentId, u32>,
    by_slot: HashMap<(u32, u32), u32>,
    /// Slots that are counted as the run's: each is given back once.
    seated: BTreeSet<(u32, u32)>,
    /// Given to the run while what they were before is not at its end: they are given back then.
    rejoining: BTreeSet<(u32, u32)>,
    /// Given back by the current step.
    freed: Vec<Effect>,
    shards: Vec<ShardState>,
    /// Asks for listings and conclusions so far.
    asks: u64,
    /// What the last step took in: agent and sequence.
    taken: Option<l::Taken>,
    units: Vec<UnitState>,
    /// Works of all units that are waiting or leased.
    works_open: u32,
    /// Slots that something has happened to since work was last handed out; all of them; when all were last looked at, and
    /// what the dispatcher had then.
    stir: BTreeSet<u32>,
    stir_all: bool,
    /// How many slots are gone.
    slots_gone: u32,
    /// Slots that have just refused what they were given.
    refusing: BTreeSet<u32>,
    /// Slots that cannot go on before they know what comes next, and some that could not.
    waiters: BTreeSet<u32>,
    looked: Micros,
    seen_version: u64,
    works: Vec<Work>,
    /// By suite, once anything of it has been listed.
    forecasts: Vec<Forecast>,
    /// What each unit should take by the history alone.
    prior: Vec<Micros>,
    /// What it should take by what is known now.
    estimates: Vec<Estimate>,
    dispatcher: Dispatcher,
    /// Of each part of the listing that is on its way into the store, how many units there are up to its end.
    unstored: VecDeque<u32>,
    /// Units that have been put up.
    put_up: u32,
    kills: BTreeMap<(u32, u32), Kills>,
    /// The same of copies of cases whose own leases go on.
    copy_kills: BTreeMap<(u32, u32), Kills>,
    copying: copies::Copying,
    /// What is being recorded is the loss of an agent.
    agent_lost: bool,
    /// Cases that a named part has, waiting or leased.
    parted: BTreeSet<(u32, u32)>,
    /// What each case took, of the units that may be too long.
    case_times: HashMap<u32, HashMap<CaseKey, Micros>>,
    /// Of leases whose process has other cases than the one before: what differs.
    differences: HashMap<u64, String>,
    /// When it is worth looking again for something to split.
    next_split: Micros,
    next_early_split: Micros,
    texts: HashMap<[u8; 32], (u64, u32)>,
    texts_end: u64,
    totals: Totals,
    units_done: u32,
    /// When it is looked next for tests that should have been ended.
    next_overdue: Micros,
    stop_at: Option<Micros>,
    aborted: bool,
    without_agents: Option<Micros>,
    /// Somebody is there who could serve it, and may be busy with other runs.
    matching: bool,
    told_lonely: bool,
    refused: Option<(String, String)>,
    /// The tests could not be built.
    unbuilt: bool,
    /// What the framework says at the end of the run did not come.
    unconcluded: bool,
    /// Nothing more is run, whatever is left.
    over: bool,
    /// Why its record can be written no more.
    abandoned: Option<String>,
    /// All that was run is on its way into the store, and has arrived there: processes may be told that nothing more comes.
    settling: bool,
    settled: bool,
    /// What is on its way into the store, and waited for.
    awaited: VecDeque<Awaited>,
    shown: Vec<String>,
    show_output: bool,
    script_position: Vec<(usize, usize)>,
    // What the current step has produced so far.
    entries: Vec<l::Entry>,
    effects: Vec<Effect>,
}

impl Run {
    /// A run that nothing has happened to yet. The returned effects are to be performed before any event is sent.
    pub fn open(opened: l::RunOpened, rules: Rules, settings: Settings) -> (Run, Vec<Effect>) {
        let mut run = Run::blank(rules, settings);
        run.append(Body::RunOpened(opened));
        if let Some(script) = run.settings.script.clone() {
            for lease in script.processes.iter().flatten() {
                let units = &mut run.suites[lease.suite as usize].listing;
                if !units.iter().any(|unit| unit.name == lease.unit) {
                    units.push(l::Unit {
                        name: lease.unit.clone(),
                        path: lease.path.clone(),
                        suite: lease.suite,
                        ..l::Unit::default()
                    });
                }
            }
            run.suites.iter_mut().for_each(|suite| suite.listed = true);
            run.learn(History::default());
            run.take_listings(Micros::ZERO);
        }
        let effects = run.flush(Micros::ZERO);
        (run, effects)
    }

    fn blank(rules: Rules, settings: Settings) -> Run {
        let suites = 0..rules.count();
        Run {
            record: Record::default(),
            suites: suites.clone().map(|_| SuiteState::default()).collect(),
            locks: locks::Locks::new(rules.locks()),
            limits: Vec::new(),
            rules,
            settings,
            unopened: Vec::new(),
            history: None,
            phase: Phase::Listing,
            agents: Vec::new(),
            by_id: HashMap::new(),
            by_slot: HashMap::new(),
            seated: BTreeSet::new(),
            rejoining: BTreeSet::new(),
            freed: Vec::new(),
            shards: Vec::new(),
            asks: 0,
            taken: None,
            units: Vec::new(),
            works_open: 0,
            stir: BTreeSet::new(),
            stir_all: true,
            slots_gone: 0,
            refusing: BTreeSet::new(),
            waiters: BTreeSet::new(),
            looked: Micros::ZERO,
            seen_version: 0,
            works: Vec::new(),
            forecasts: suites.map(|_| Forecast::default()).collect(),
            prior: Vec::new(),
            estimates: Vec::new(),
            dispatcher: Dispatcher::new(),
            unstored: VecDeque::new(),
            put_up: 0,
            kills: BTreeMap::new(),
            copy_kills: BTreeMap::new(),
            copying: copies::Copying::default(),
            agent_lost: false,
            parted: BTreeSet::new(),
            case_times: HashMap::new(),
            differences: HashMap::new(),
            next_split: Micros::ZERO,
            next_early_split: Micros::ZERO,
            texts: HashMap::new(),
            texts_end: 0,
            totals: Totals::default(),
            units_done: 0,
            next_overdue: Micros::ZERO,
            stop_at: None,
            aborted: false,
            without_agents: None,
            matching: false,
            told_lonely: false,
            refused: None,
            unbuilt: false,
            unconcluded: false,
            over: false,
            abandoned: None,
            settling: false,
            settled: false,
            awaited: VecDeque::new(),
            shown: Vec::new(),
            show_output: false,
            script_position: Vec::new(),
            entries: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    pub fn into_record(self) -> Record {
        self.record
    }

    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Takes one event in. `now` is microseconds since the run was opened and never goes back.
    pub fn step(&mut self, now: Micros, event: Event) -> Vec<Effect> {
        self.stir_all |= !matches!(event, Event::Facts { .. } | Event::Tick);
        match event {
            Event::History(history) => {
                self.learn(history);
                let unopened = std::mem::take(&mut self.unopened);
                self.open_slots(unopened);
                self.take_listings(now);
            }
            Event::AgentJoined(joined) => self.agent_joined(now, joined),
            Event::AgentCut { agent } => self.agent_cut(agent),
            Event::AgentBack(back) => self.agent_back(now, back),
            Event::Release { agent, slots } => self.release(now, agent, &slots),
            Event::Spare { agent, count } => self.spare(now, agent, count),
            Event::Matching { any } => {
                if std::mem::replace(&mut self.matching, any) && !any {
                    // Who was there a moment ago may come back: it is waited for from now on.
                    self.without_agents = self.without_agents.map(|_| now);
                }
            }
            Event::AgentGone {
                agent,
                reason,
                lost,
            } => self.agent_gone(now, agent, &reason, lost),
            Event::Facts {
                agent,
                opening,
                first_sequence,
                sent_at,
                facts,
            } => {
                self.facts(now, (agent, opening), first_sequence, sent_at, facts);
            }
            Event::Stored => self.stored(),
            Event::Stop {
                reason,
                interrupted,
                grace,
            } => self.stop(now, &reason, interrupted, grace),
            Event::Tick => self.tick(now),
        }
        self.advance(now);
        self.flush(now)
    }

    /// When the run wants a [`Event::Tick`] at the latest, if nothing else happens.
    pub fn wake_at(&self, now: Micros) -> Option<Micros> {
        if self.is_closed() {
            return None;
        }
        let dispatch = if self.phase == Phase::Running {
            self.dispatcher.wake_at(now)
        } else {
            None
        };
        let split = (self.phase == Phase::Running
            && self.could_split()
            && (0..self.shards.len() as u32).any(|shard| self.could_give(shard)))
        .then(|| self.next_split.max(now + Micros(1)));
        let look = self.phase == Phase::Running && self.has_many() && self.dispatcher.is_waiting();
        let look = look.then(|| (self.looked + hand_out::LOOK).max(now + Micros(1)));
        let abort = self.stop_at.filter(|_| !self.aborted);
        let lonely = self.without_agents.filter(|_| !self.matching);
        let lonely = lonely.map(|since| since + WITHOUT_AGENTS);
        let first = self.awaits_first_agent().then_some(FIRST_AGENT);
        let overdue = self.looks_for_overdue_at();
        let copies = self.looks_for_copies_at(now);
        let again = self.asks_again_at(now);
        [
            dispatch, split, look, abort, lonely, first, overdue, copies, again,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn awaits_first_agent(&self) -> bool {
        self.agents.is_empty() && !self.settings.closed_shop && !self.told_lonely && !self.matching
    }

    fn tick(&mut self, now: Micros) {
        self.end_overdue(now);
        if self.stop_at.is_some_and(|at| at <= now) && !self.aborted {
            self.aborted = true;
            self.send_all(&Command::Close { abort: true });
        }
        if self.awaits_first_agent() && now >= FIRST_AGENT {
            self.told_lonely = true;
            self.note(
                Level::Warning,
                "no agent has joined yet; waiting for one (evenkeel agent --coordinator ADDR)",
            );
        }
        if self
            .without_agents
            .is_some_and(|since| !self.matching && since + WITHOUT_AGENTS <= now)
        {
            self.give_up("no agent came back");
        }
    }

    /// Hands out what can be handed out, and closes the run when nothing is left. Called after every event.
    fn advance(&mut self, now: Micros) {
        match self.phase {
            Phase::Listing => self.ask_for_listing(now),
            Phase::Running => {
                self.ask_for_listing(now);
                self.end_spent(now);
                self.copy_early(now);
                self.hand_out(now);
                self.split_the_longest(now);
                self.copy_what_is_late(now);
                let over = self.over || self.record.stopped.is_some();
                if self.works_open() == 0 && (over || self.is_listed()) {
                    self.conclude(now);
                }
            }
            Phase::Concluding => self.finish(now),
            Phase::Finishing { shard, .. } => {
                if !self.shards[shard as usize].concluding {
                    self.finish(now);
                }
            }
            Phase::Closed => {}
        }
    }

    fn works_open(&self) -> u32 {
        if self.record.stopped.is_some() {
            // What is not handed out will not be any more.
            return self
                .shards
                .iter()
                .map(|shard| shard.leases.len() as u32)
                .sum();
        }
        self.works_open
    }

    /// One more work of a unit is waiting or leased.
    fn open_more(&mut self, unit: u32) {
        if self.over {
            return;
        }
        self.units[unit as usize].open += 1;
        self.works_open += 1;
    }

    /// One work fewer is. Where nothing more is run, none was.
    fn open_less(&mut self, unit: u32) {
        if self.over {
            return;
        }
        self.units[unit as usize].open -= 1;
        self.works_open -= 1;
    }

    /// None is any more.
    fn close_works(&mut self) {
        self.units.iter_mut().for_each(|unit| unit.open = 0);
        self.works_open = 0;
    }

    fn weight(&self, work: u32) -> Weight {
        let Work { unit, part, .. } = &self.works[work as usize];
        let estimate = self.estimates[*unit as usize];
        let expected = match part {
            Part::Rest => {
                let expected = estimate.work + estimate.setup;
                return Weight {
                    expected,
                    high: estimate.high,
                    order: estimate.order,
                    known: estimate.known,
                    early: estimate.early,
                };
            }
            Part::Named(cases) => self.setup_of(*unit) + self.expected_of(*unit, cases),
            Part::Alone(_) => estimate.setup + Micros::from_millis(1),
        };
        // What cannot be divided any more goes before what can: at the end that is still shared.
        let premium = 1 + u64::from(self.is_one_block(work));
        Weight {
            expected,
            high: high_of(expected),
            order: Micros(expected.0 * premium),
            // What took a process down tells nothing of how fast a slot is.
            known: !matches!(part, Part::Alone(_)),
            early: 0,
        }
    }

    fn put_up(&mut self, work: u32) {
        let weight = self.weight(work);
        let unit = self.works[work as usize].unit as usize;
        self.dispatcher.add(work, weight, &self.units[unit].needs);
        self.hasten(work, unit as u32);
        self.open_more(unit as u32);
    }

    fn give_up(&mut self, reason: &str) {
        self.note(Level::Error, reason);
        self.end_work();
    }

    /// Nothing more is run; the run closes with what it has.
    fn end_work(&mut self) {
        self.without_agents = None;
        self.over = true;
        if self.phase == Phase::Listing {
            self.phase = Phase::Running;
        }
        self.dispatcher.drain(|_| true);
        self.close_works();
    }

    /// Nothing more of a suite is run; the others go on.
    fn end_suite(&mut self, now: Micros, suite: u32) {
        self.suites[suite as usize].over = true;
        if self.suites.iter().all(|suite| suite.over) {
            self.end_work();
            return;
        }
        let (works, units) = (&self.works, &self.record.units);
        let suite_of = |work: u32| units[works[work as usize].unit as usize].suite;
        for work in self.dispatcher.drain(|work| suite_of(work) == suite) {
            let unit = self.works[work as usize].unit;
            self.open_less(unit);
        }
        let state = &mut self.suites[suite as usize];
        if !state.listed {
            state.listing.clear();
            state.listed = true;
            self.take_listing(now, suite);
        }
    }

    /// Appends an entry to the row that this step writes, and to the record.
    fn append(&mut self, body: Body) {
        let entry = l::Entry { body: Some(body) };
        self.record
            .apply(&entry)
            .expect("a run only appends entries that fit its own record");
        self.entries.push(entry);
    }

    fn flush_entries(&mut self, now: Micros) {
        if !self.entries.is_empty() || self.taken.is_some() {
            self.record.latest = now;
            let entries = std::mem::take(&mut self.entries);
            let taken = self.taken.take();
            self.effects.push(Effect::Append(l::Batch {
                at_us: now.0,
                entries,
                taken,
            }));
        }
    }

    /// What follows once everything up to here is durable.
    fn await_stored(&mut self, now: Micros, what: Awaited) {
        self.flush_entries(now);
        self.awaited.push_back(what);
        self.effects.push(Effect::CallWhenStored);
    }

    fn stored(&mut self) {
        match self.awaited.pop_front() {
            Some(Awaited::Listing) => self.listing_stored(),
            Some(Awaited::Conclusion) => self.settled = true,
            Some(Awaited::Return { agent, fence }) => self.has_returned(agent, fence),
            None => {}
        }
    }

    fn flush(&mut self, now: Micros) -> Vec<Effect> {
        self.flush_entries(now);
        self.effects.append(&mut self.freed);
        std::mem::take(&mut self.effects)
    }

    /// Keeps the texts of an attempt outside the ledger; equal ones once.
    fn keep_text(&mut self, text: &CaseText) -> Vec<u8> {
        if text.detail.is_empty() && text.output.is_empty() && text.properties.is_empty() {
            return Vec::new();
        }
        let mut message = crate::wire::case_text_out(text.clone());
        message.message.clear(); // it is in the ledger
        let bytes = message.encode_to_vec();
        let digest = *blake3::hash(&bytes).as_bytes();
        let length = u32::try_from(bytes.len()).expect("the wire bounds a message far below 4 GiB");
        let end = self.texts_end;
        let (offset, length) = *self.texts.entry(digest).or_insert((end, length));
        if offset == end {
            self.texts_end += bytes.len() as u64;
            self.effects.push(Effect::StoreText { offset, bytes });
        }
        crate::record::TextRef {
            digest,
            offset,
            length,
        }
        .to_bytes()
    }

    fn note(&mut self, level: Level, text: &str) {
        self.append(Body::Noted(l::Noted {
            level: level as u32,
            text: text.to_owned(),
        }));
        self.effects.push(Effect::Show(Show::Notice {
            level,
            text: text.to_owned(),
        }));
    }

    fn note_once(&mut self, level: Level, text: &str) {
        if !self.shown.iter().any(|shown| shown == text) {
            self.shown.push(text.to_owned());
            self.note(level, text);
        }
    }

    /// The suite that a unit belongs to.
    fn suite_of(&self, unit: u32) -> &SuiteState {
        &self.suites[self.record.units[unit as usize].suite as usize]
    }

    /// Whether what the shard has at work, or would get next, is run by a process that is given several units together.
    fn bundles(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        match state.leases.front() {
            Some(&(_, work)) => self.suite_of(self.works[work as usize].unit).bundles,
            None => {
                let suite = self.rules.suite_of(state.kind);
                suite.is_some_and(|suite| self.suites[suite as usize].bundles)
            }
        }
    }

    fn send_to_shard(&mut self, shard: u32, command: Command) {
        let agent = self.record.shards[shard as usize].agent as usize;
        let AgentState { id, connected, .. } = self.agents[agent];
        if connected {
            self.effects.push(Effect::Send { agent: id, command });
        }
    }

    fn send_all(&mut self, command: &Command) {
        for agent in self.agents.iter().filter(|agent| agent.connected) {
            self.effects.push(Effect::Send {
                agent: agent.id,
                command: command.clone(),
            });
        }
    }
}

/// What takes longer than expected takes up to so much.
fn high_of(expected: Micros) -> Micros {
    Micros(expected.0 * 3 / 2)
}
