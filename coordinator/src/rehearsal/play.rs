//! Playing a scene: what happens when, what travels between agents and the run, and the run's own decisions in between.
//!
//! The shell around the state machine is played as the server's is: an effect is performed in its order, what has to be durable
//! takes its time, and timers go off at whole milliseconds.

use super::scene::Scene;
use super::slot::SlotState;
use crate::record::Record;
use crate::rules::Rules;
use crate::run::{AgentId, AgentJoined, Command, Effect, Event, Fact, FactBody, Run, Settings};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Timers go off at multiples of this.
const GRAIN: u64 = 1000;
/// So many timers in a row may go off without anything else happening.
const PATIENCE: u32 = 100_000;

/// A run that was played to its end.
#[derive(Debug)]
pub struct Played {
    pub record: Record,
    /// How many events the run took in.
    pub steps: u64,
    /// When it closed.
    pub closed: Micros,
}

/// The scene cannot be played to its end: nothing happens any more and the run is not over, or its suites cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Stalled {
    #[error("nothing happens any more after {at} with {open} tests without a verdict")]
    Silent { at: Micros, open: usize },
    #[error("the suites of the scene cannot be read")]
    Suites(#[source] crate::rules::PatternError),
}

/// What the run took in, and what came of it.
#[derive(Debug)]
pub struct Input<'a> {
    pub at: Micros,
    pub event: &'a Event,
    pub effects: &'a [Effect],
}

/// Plays a scene to the run's end.
pub fn play(scene: &Scene) -> Result<Played, Stalled> {
    Stage::new(scene, None)?.play()
}

/// The same, with everything that the run takes in told as it does.
pub fn play_noting(scene: &Scene, note: &mut dyn FnMut(&Input<'_>)) -> Result<Played, Stalled> {
    Stage::new(scene, Some(note))?.play()
}

pub(super) enum Happening {
    Joins(u32),
    Cut(u32),
    Gone(u32),
    /// What a slot does comes to its end. Void where the slot has begun something else since, which has another number.
    Slot(u32, u64, Step),
    /// Facts of an agent are sent.
    Send(u32),
    Arrives(Box<Batch>),
    Told(u32, Box<Command>),
    Stored,
    History,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Up,
    Lists { kind: u32, ask: u64, piece: u32 },
    Loaded,
    CaseEnds,
    Closes,
}

pub(super) struct Batch {
    agent: u32,
    first: u64,
    sent: Micros,
    facts: Vec<Fact>,
}

struct Due {
    at: Micros,
    number: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest; of the same time the one that was put in first.
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// An agent's half of its session.
#[derive(Default)]
struct AgentState {
    gone: bool,
    opening: u64,
    facts: Vec<Fact>,
    sequence: u64,
    /// When the next batch goes of which nobody waits for the answer, and whether one is going to.
    next: Micros,
    due: Option<Micros>,
}

pub(super) struct Stage<'a> {
    pub(super) scene: &'a Scene,
    pub(super) now: Micros,
    pub(super) slots: Vec<SlotState>,
    /// Of each agent its first slot among all.
    first_slot: Vec<u32>,
    agents: Vec<AgentState>,
    /// The place of each unit in the scene, by the number of its suite and its name.
    pub(super) units: HashMap<(u32, &'a str), u32>,
    /// Units of each suite, in their order.
    pub(super) of_suite: Vec<Vec<u32>>,
    /// The suite of each kind of process.
    pub(super) kinds: Vec<u32>,
    /// Cases that have hung, by the places of their units in the scene and their own in them.
    pub(super) hung: HashSet<(u32, u32)>,
    run: Run,
    queue: BinaryHeap<Due>,
    numbers: u64,
    steps: u64,
    asked_history: bool,
    note: Option<&'a mut dyn FnMut(&Input<'_>)>,
}

impl<'a> Stage<'a> {
    fn new(
        scene: &'a Scene,
        note: Option<&'a mut dyn FnMut(&Input<'_>)>,
    ) -> Result<Stage<'a>, Stalled> {
        let suites: Vec<_> = scene
            .suites
            .iter()
            .map(|suite| suite.suite.clone())
            .collect();
        let rules = Rules::new(&suites).map_err(Stalled::Suites)?;
        let kinds = (0..rules.kinds_count()).map(|kind| rules.suite_of(kind).unwrap_or_default());
        let kinds = kinds.collect();
        let opened = l::RunOpened {
            project: "rehearsal".to_owned(),
            run: "rehearsal".to_owned(),
            seed: scene.seed,
            suites,
            first_red: scene.first_red,
            ..l::RunOpened::default()
        };
        let settings = Settings {
            few: scene.few,
            answer: None,
            ..Settings::default()
        };
        let (run, effects) = Run::open(opened, rules, settings);
        let mut of_suite = vec![Vec::new(); scene.suites.len()];
        for (number, unit) in (0..).zip(&scene.units) {
            of_suite[unit.suite as usize].push(number);
        }
        let mut slots = Vec::new();
        let mut first_slot = Vec::new();
        for (agent, on_scene) in (0..).zip(&scene.agents) {
            first_slot.push(slots.len() as u32);
            for (number, slot) in (0..).zip(&on_scene.slots) {
                slots.push(SlotState::new(agent, number, slot.boot));
            }
        }
        let names = (0..).zip(&scene.units);
        let units = names.map(|(number, unit)| ((unit.suite, unit.name.as_str()), number));
        let mut stage = Stage {
            units: units.collect(),
            scene,
            now: Micros::ZERO,
            slots,
            first_slot,
            agents: scene.agents.iter().map(|_| AgentState::default()).collect(),
            of_suite,
            kinds,
            hung: HashSet::new(),
            run,
            queue: BinaryHeap::new(),
            numbers: 0,
            steps: 0,
            asked_history: false,
            note,
        };
        for (agent, on_scene) in (0..).zip(&scene.agents) {
            stage.at(on_scene.joins, Happening::Joins(agent));
            if let Some(loss) = on_scene.loss {
                stage.at(loss.at, Happening::Cut(agent));
                stage.at(loss.at + loss.noticed, Happening::Gone(agent));
            }
        }
        stage.perform(effects);
        Ok(stage)
    }

    pub(super) fn at(&mut self, at: Micros, what: Happening) {
        self.numbers += 1;
        let number = self.numbers;
        self.queue.push(Due { at, number, what });
    }

    fn play(mut self) -> Result<Played, Stalled> {
        let mut ticks = 0;
        let mut wake = self.wake();
        while !self.run.is_closed() {
            let next = self.queue.peek().map(|event| event.at);
            let ticks_first = match (wake, next) {
                (Some(wake), Some(next)) => wake < next,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return Err(self.stalled()),
            };
            let steps = self.steps;
            if ticks_first {
                ticks += 1;
                if ticks > PATIENCE {
                    return Err(self.stalled());
                }
                self.now = self.now.max(wake.unwrap_or_default());
                self.step(Event::Tick);
            } else if let Some(event) = self.queue.pop() {
                ticks = 0;
                self.now = self.now.max(event.at);
                self.happen(event.what);
            }
            if self.steps != steps {
                wake = self.wake();
            }
        }
        Ok(Played {
            steps: self.steps,
            closed: self.now,
            record: self.run.into_record(),
        })
    }

    fn wake(&self) -> Option<Micros> {
        let at = self.run.wake_at(self.now)?;
        Some(Micros(
            at.0.max(self.now.0 + 1)
                .div_ceil(GRAIN)
                .saturating_mul(GRAIN),
        ))
    }

    fn stalled(&self) -> Stalled {
        let units = self.run.record().units.iter();
        let open = units.map(|unit| {
            let cases = unit.cases.iter();
            let undecided = cases.filter(|case| case.verdict().is_none()).count();
            undecided + usize::from(!unit.declared)
        });
        Stalled::Silent {
            at: self.now,
            open: open.sum(),
        }
    }

    fn step(&mut self, event: Event) {
        self.steps += 1;
        let noted = self.note.is_some().then(|| event.clone());
        let effects = self.run.step(self.now, event);
        if let (Some(note), Some(event)) = (&mut self.note, &noted) {
            note(&Input {
                at: self.now,
                event,
                effects: &effects,
            });
        }
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let ways = self.scene.ways;
        for effect in effects {
            match effect {
                Effect::Send { agent, command } => {
                    let told = Happening::Told(agent.0 as u32, Box::new(command));
                    self.at(self.now + ways.way, told);
                }
                Effect::CallWhenStored => self.at(self.now + ways.store, Happening::Stored),
                Effect::Append(_)
                | Effect::StoreText { .. }
                | Effect::Ack { .. }
                | Effect::Show(_)
                | Effect::Cut { .. }
                | Effect::Free { .. }
                | Effect::Close => {}
            }
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Joins(agent) => self.joins(agent),
            Happening::Cut(agent) => {
                let state = &mut self.agents[agent as usize];
                state.gone = true;
                state.facts.clear();
                let agent = AgentId(agent.into());
                self.step(Event::AgentCut { agent });
            }
            Happening::Gone(agent) => {
                let agent = AgentId(agent.into());
                let reason = "nothing was heard of it".to_owned();
                let lost = true;
                self.step(Event::AgentGone {
                    agent,
                    reason,
                    lost,
                });
            }
            Happening::Slot(slot, token, step) => {
                let state = &self.slots[slot as usize];
                if state.token == token && !self.agents[state.agent as usize].gone {
                    self.slot_step(slot, step);
                }
            }
            Happening::Send(agent) => self.send(agent),
            Happening::Arrives(batch) => {
                let Batch {
                    agent,
                    first,
                    sent,
                    facts,
                } = *batch;
                self.step(Event::Facts {
                    agent: AgentId(agent.into()),
                    opening: self.agents[agent as usize].opening,
                    first_sequence: first,
                    sent_at: sent,
                    facts,
                });
            }
            Happening::Told(agent, command) => {
                if !self.agents[agent as usize].gone {
                    self.told(agent, *command);
                }
            }
            Happening::Stored => self.step(Event::Stored),
            Happening::History => {
                let history = self.scene.history.clone();
                self.step(Event::History(history));
            }
        }
    }

    fn joins(&mut self, agent: u32) {
        if !std::mem::replace(&mut self.asked_history, true) {
            self.at(self.now + self.scene.ways.history, Happening::History);
        }
        let on_scene = &self.scene.agents[agent as usize];
        self.step(Event::AgentJoined(AgentJoined {
            agent: AgentId(agent.into()),
            name: on_scene.name.clone(),
            incarnation: format!("{agent}"),
            environment_class: String::new(),
            slots: (0..on_scene.slots.len() as u32).collect(),
            clock: self.now,
        }));
    }

    fn told(&mut self, agent: u32, command: Command) {
        let first = self.first_slot[agent as usize];
        match command {
            Command::Open {
                opening, shards, ..
            } => {
                self.agents[agent as usize].opening = opening;
                for (slot, _, kind) in shards {
                    self.open_slot(first + slot, kind);
                }
            }
            Command::Close { abort } => {
                for slot in 0..self.scene.agents[agent as usize].slots.len() as u32 {
                    self.close_slot(first + slot, abort);
                }
            }
            Command::Resume { .. } => {}
            Command::List { slot, .. }
            | Command::Lease(crate::run::LeaseCommand { slot, .. })
            | Command::Revoke { slot, .. }
            | Command::Idle { slot, .. }
            | Command::Recycle { slot }
            | Command::Conclude { slot }
            | Command::Finish { slot, .. }
            | Command::Cancel { slot, .. }
            | Command::CloseSlot { slot, .. } => {
                // An agent that came back would be asked for signs; none does here.
                let slots = self.scene.agents[agent as usize].slots.len();
                if (slot as usize) < slots {
                    self.slot_told(first + slot, command);
                }
            }
        }
    }

    /// A fact of a slot. `urgent`: somebody waits for the answer.
    pub(super) fn say(&mut self, slot: u32, at: Micros, body: FactBody, urgent: bool) {
        let SlotState { agent, number, .. } = self.slots[slot as usize];
        let state = &mut self.agents[agent as usize];
        let slot = number;
        state.facts.push(Fact { at, slot, body });
        let due = if urgent || self.now >= state.next {
            self.now
        } else {
            state.next
        };
        if state.due.is_none_or(|known| due < known) {
            state.due = Some(due);
            self.at(due, Happening::Send(agent));
        }
    }

    fn send(&mut self, agent: u32) {
        let now = self.now;
        let ways = self.scene.ways;
        let state = &mut self.agents[agent as usize];
        // One that was urgent took along what this was to send.
        if state.gone || state.due.is_none_or(|due| due > now) {
            return;
        }
        state.due = None;
        state.next = now + ways.patience;
        let facts = std::mem::take(&mut state.facts);
        if facts.is_empty() {
            return;
        }
        let first = state.sequence + 1;
        state.sequence += facts.len() as u64;
        let batch = Batch {
            agent,
            first,
            sent: now,
            facts,
        };
        self.at(now + ways.way, Happening::Arrives(Box::new(batch)));
    }
}
