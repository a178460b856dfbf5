//! One world: a clock, what is going to happen, and whom it happens to.

use super::agent::Machine;
use super::check::Ledger;
use super::faults::{Fault, Mix};
use super::hub::{Hub, Word};
use super::model::Model;
use super::network::Session;
use super::planted;
use super::store::Store;
use evenkeel_coordinator::run::{AgentId, Event, FactBody, Run, Settings};
use evenkeel_schedule::Micros;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

/// A run that takes more than this does not come to its end.
const STEPS: u32 = 150_000;
const LONGEST: u64 = 1_800_000_000;

pub enum Happening {
    ArriveUp(usize),
    ArriveDown(usize),
    Heal(usize),
    /// One end of a session sees that it is gone.
    HubNotices(usize),
    AgentNotices(usize),
    Silence(usize, u64),
    Connect(usize, u32),
    Boot(usize),
    Thaw(usize, u32),
    /// An agent that wants to go has waited for long enough.
    Drained(usize, u32),
    /// Of a machine, a slot, and the token of what is to happen there.
    ProcessUp(usize, u64, u64),
    CaseEnds(usize, u64, u64),
    Lists(usize, u64, u32, Box<FactBody>),
    // Of a coordinator that had been started so often.
    ToRun(u32, Box<Word>),
    Free(u32, u64, u32, bool),
    Return(u32, u64, u32),
    Look(u32),
    Overdue(u32, u64),
    History(u32),
    Written(u32),
    Tick(u32),
    Crash(u32),
    Restart,
    Fault(Fault),
}

pub struct World {
    pub mix: Mix,
    pub model: Model,
    pub random: fastrand::Rng,
    pub now: u64,
    /// The world's time at which the run's clock stood at zero.
    pub origin: i64,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    numbers: u64,
    next_tick: Option<u64>,
    pub run: Option<Run>,
    /// How often a coordinator has been started, and how often one was killed.
    pub life: u32,
    pub crashes: u32,
    pub ambushes: u32,
    pub stopped: bool,
    pub ended: bool,
    pub hub: Hub,
    pub machines: Vec<Machine>,
    pub sessions: Vec<Session>,
    /// Which session the run talks to an agent over.
    pub outboxes: HashMap<AgentId, usize>,
    pub history_asked: bool,
    pub store: Store,
    /// What the run has appended, and what of it is durable.
    pub ledger: Ledger,
    pub durable: Ledger,
    pub stored_units: usize,
    /// Slots that cannot be set up for a suite.
    pub unable: HashSet<(usize, u32, u32)>,
    pub budget: super::check::Budget,
    pub attempts: HashMap<(usize, usize), u32>,
    pub carried: Vec<(u32, String)>,
    pub finished: HashMap<u32, Vec<String>>,
    /// Leases as agents saw them, with the kind of process and the cases that they were for.
    pub leases: HashMap<u64, (u32, BTreeSet<usize>)>,
    pub planted: Option<planted::Fault>,
    pub settings: Settings,
    pub talk: bool,
}

/// In half of the worlds the run goes about its slots as it does when there are many, and in a third it waits for no answer.
fn settings(seed: u64) -> Settings {
    Settings {
        few: seed.is_multiple_of(2).then_some(0),
        answer: seed.is_multiple_of(3).then_some(Micros::ZERO),
        ..Settings::default()
    }
}

impl World {
    pub fn new(seed: u64, planted: Option<planted::Fault>) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        let mix = Mix::draw(&mut random);
        let model = Model::draw(&mut random, &mix);
        planted::plant(planted);
        let settings = settings(seed);
        let (run, effects) = Run::open(model.opened.clone(), model.rules(), settings.clone());
        let mut world = World {
            ambushes: mix.ambushes,
            mix,
            model,
            random,
            now: 0,
            origin: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            numbers: 0,
            next_tick: None,
            run: Some(run),
            settings,
            life: 0,
            crashes: 0,
            stopped: false,
            ended: false,
            hub: Hub::default(),
            machines: Vec::new(),
            sessions: Vec::new(),
            outboxes: HashMap::new(),
            history_asked: false,
            store: Store::default(),
            ledger: Ledger::default(),
            durable: Ledger::default(),
            stored_units: 0,
            unable: HashSet::new(),
            budget: super::check::Budget::default(),
            attempts: HashMap::new(),
            carried: Vec::new(),
            finished: HashMap::new(),
            leases: HashMap::new(),
            planted,
            talk: std::env::var_os("EVENKEEL_TALK").is_some(),
        };
        world.register(effects);
        world.populate();
        world
    }

    fn populate(&mut self) {
        let count = self.random.usize(1..4);
        for machine in 0..count {
            let slots = self.random.u32(1..4);
            // One slot of the first can run everything: who is there decides what cannot be run at all.
            for slot in u32::from(machine == 0)..slots {
                for suite in 0..self.model.bundles.len() as u32 {
                    if self.mix.crashes && self.random.u32(0..8) == 0 {
                        self.unable.insert((machine, slot, suite));
                    }
                }
            }
            self.machines.push(Machine {
                name: format!("m{machine}"),
                boot: 0,
                alive: false,
                frozen: None,
                slots,
                clock: self.random.u64(0..10_000_000),
                sick: self.mix.sick && machine > 0 && machine + 1 == count,
                leaving: false,
                session: None,
                hold: None,
                reopened: None,
            });
            let at = self.random.u64(0..50_000);
            self.schedule(at, Happening::Boot(machine));
        }
        for (at, fault) in self.mix.faults.clone() {
            self.schedule(at, Happening::Fault(fault));
        }
    }

    /// Plays to the end, checks what must hold, and returns the ledger.
    pub fn play(mut self) -> Vec<u8> {
        let mut steps = 0;
        while let Some(Reverse((at, order))) = self.queue.pop() {
            steps += 1;
            let ends = steps < STEPS && at < LONGEST;
            if self.talk && !ends {
                eprintln!("{:#?}", self.run);
            }
            assert!(
                ends,
                "the run does not come to its end: {:?}",
                self.run.as_ref().map(|run| run.progress(self.run_now()))
            );
            let happening = self.happenings[order].take();
            self.now = at;
            self.happen(happening.expect("it happens once"));
            if self.ended {
                break;
            }
        }
        if self.talk && !self.ended {
            eprintln!("{:#?}", self.run);
        }
        assert!(
            self.ended,
            "nothing happens any more, and the run is not closed: {:?}",
            self.run.as_ref().map(|run| run.progress(self.run_now()))
        );
        self.check();
        self.store.rows.concat()
    }

    pub fn schedule(&mut self, at: u64, happening: Happening) {
        self.queue
            .push(Reverse((at.max(self.now), self.happenings.len())));
        self.happenings.push(Some(happening));
    }

    /// A number that nothing else has.
    pub fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn run_now(&self) -> Micros {
        Micros((self.now as i64 - self.origin).max(0) as u64)
    }

    /// Whose machine it is that something happens on.
    fn machine_of(&self, happening: &Happening) -> Option<usize> {
        match happening {
            Happening::ArriveDown(session) | Happening::AgentNotices(session) => {
                let session = &self.sessions[*session];
                let own = &self.machines[session.machine];
                Some(session.machine).filter(|_| own.boot == session.boot)
            }
            Happening::Connect(machine, _)
            | Happening::Drained(machine, _)
            | Happening::ProcessUp(machine, ..)
            | Happening::CaseEnds(machine, ..)
            | Happening::Lists(machine, ..) => Some(*machine),
            _ => None,
        }
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(machine) = self.machine_of(&happening)
            && let Some(deferred) = &mut self.machines[machine].frozen
        {
            deferred.push(happening);
            return;
        }
        match happening {
            Happening::ArriveUp(session) => self.arrive_up(session),
            Happening::ArriveDown(session) => self.arrive_down(session),
            Happening::Heal(session) => self.heal(session),
            Happening::HubNotices(session) => self.hub_notices(session),
            Happening::AgentNotices(session) => self.agent_notices(session),
            Happening::Silence(session, since) => self.silence(session, since),
            Happening::Connect(machine, boot) => self.connect(machine, boot),
            Happening::Boot(machine) => self.boot(machine),
            Happening::Thaw(machine, boot) => self.thaw(machine, boot),
            Happening::Drained(machine, boot) => self.drained(machine, boot),
            Happening::ProcessUp(machine, slot, token) => self.process_up(machine, slot, token),
            Happening::CaseEnds(machine, slot, token) => self.case_ends(machine, slot, token),
            Happening::Lists(machine, slot, incarnation, listed) => {
                self.lists(machine, slot, incarnation, *listed);
            }
            Happening::Restart => self.restart(),
            Happening::Fault(fault) => self.strike(fault),
            Happening::ToRun(life, word) if self.lives(life) => self.word(*word),
            Happening::Free(life, agent, slot, unfit) if self.lives(life) => {
                self.free(agent, slot, unfit);
            }
            Happening::Return(life, agent, slot) if self.lives(life) => {
                self.give_back(agent, slot);
            }
            Happening::Look(life) if self.lives(life) => self.look(),
            Happening::Overdue(life, agent) if self.lives(life) => self.overdue(agent),
            Happening::History(life) if self.lives(life) => {
                let history = self.model.history.clone();
                self.step(Event::History(history));
            }
            Happening::Written(life) if self.lives(life) => self.written(),
            Happening::Tick(life) if self.lives(life) => {
                if self.next_tick.is_some_and(|at| at <= self.now) {
                    self.next_tick = None;
                    self.step(Event::Tick);
                }
            }
            Happening::Crash(life) if self.lives(life) => self.crash(),
            Happening::ToRun(..)
            | Happening::Free(..)
            | Happening::Return(..)
            | Happening::Look(_)
            | Happening::Overdue(..)
            | Happening::History(_)
            | Happening::Written(_)
            | Happening::Tick(_)
            | Happening::Crash(_) => {}
        }
    }

    /// Whether this is the coordinator that is there.
    fn lives(&self, life: u32) -> bool {
        self.life == life && self.run.is_some()
    }

    fn strike(&mut self, fault: Fault) {
        if self.talk {
            eprintln!("{} fault: {fault:?}", self.now);
        }
        let machine = self.random.usize(0..self.machines.len());
        let session = self.machines[machine].session;
        match fault {
            Fault::Cut => {
                if let Some(session) = session {
                    self.cut(session);
                }
            }
            Fault::Stall(up, down) => {
                if let Some(session) = session {
                    self.stall(session, up, down);
                }
            }
            Fault::Freeze => self.freeze(machine),
            Fault::Death => self.die(machine),
            Fault::Drain => {
                if self.machines[machine].frozen.is_none() {
                    self.drain(machine);
                }
            }
            Fault::Spare => self.spare(),
            Fault::Crash => self.crash(),
            Fault::Stop => {
                if self.run.is_none() || self.is_closing() {
                    return;
                }
                self.stopped = true;
                let grace = Micros(self.random.u64(0..100_000));
                self.step(Event::Stop {
                    reason: "interrupted".into(),
                    interrupted: true,
                    grace,
                });
            }
        }
    }

    pub fn step(&mut self, event: Event) {
        if self.is_closing() {
            return;
        }
        let now = self.run_now();
        let event = self.perturb_event(event);
        let Some(run) = &mut self.run else { return };
        let effects = run.step(now, event);
        self.perform(effects);
        self.wake();
    }

    pub fn wake(&mut self) {
        let now = self.run_now();
        let Some(run) = &self.run else { return };
        // A wake that is due at once means that the tick changed nothing: the next fact will.
        if let Some(at) = run.wake_at(now).filter(|at| *at > now) {
            let at = (at.0 as i64 + self.origin).max(0) as u64;
            if self
                .next_tick
                .is_none_or(|known| at < known || known < self.now)
            {
                self.next_tick = Some(at);
                self.schedule(at, Happening::Tick(self.life));
            }
        }
    }
}
