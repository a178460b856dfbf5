//! A small world around one run: agents with slots that follow commands as real ones do, a network that delays, and faults.

use evenkeel_coordinator::record::{Lease, Outcome, Record, Verdict};
use evenkeel_coordinator::run::{
    AgentId, AgentJoined, CaseEnded, CaseKey, Command, Effect, EndCause, Event, Fact, FactBody,
    Farewell, History, InFlight, LeaseCommand, ProcessEnded, ProcessStarted, Refusal,
    RefusedReason, Rules, Run, RunningCase, Settings, SuiteHistory,
};
use evenkeel_proto::{
    ledger as l,
    suite::{Names, Override, Suite, Variables},
};
use evenkeel_schedule::{Micros, Sample};
use prost::Message;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Cases and units that end their process.
    pub crashes: bool,
    /// How many agents are lost on the way; at least one stays.
    pub losses: u32,
    /// The run is interrupted at some moment.
    pub stop: bool,
    /// Results that come twice and differ, and cases that are never heard of again.
    pub lies: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaviour {
    Pass,
    Fail,
    Skip,
    /// The process dies each time.
    Crash,
    /// Killed from outside at the first attempt.
    KilledOnce,
    /// Killed from outside each time.
    KilledAlways,
    /// Its unit closes without a word about it.
    Forgotten,
}

struct ModelUnit {
    suite: u32,
    /// Two suites may have units of the same name.
    name: String,
    locks: Vec<String>,
    exclusive: bool,
    /// It has an environment of its own.
    apart: bool,
    cases: Vec<(Behaviour, u64)>,
    /// Every fourth case belongs to one of two groups.
    grouped: bool,
    kills_loader: bool,
}

impl ModelUnit {
    fn group(&self, case: usize) -> String {
        let grouped = self.grouped && case.is_multiple_of(4);
        if grouped {
            format!("g{}", case % 8)
        } else {
            String::new()
        }
    }
}

#[derive(Clone, Debug)]
enum Item {
    List(u32, u64),
    Lease(LeaseCommand),
    Idle,
    Recycle,
}

struct Running {
    lease: u64,
    unit: usize,
    /// Indices into the model's cases, in the order of the declaration.
    cases: Vec<usize>,
    next: usize,
    /// The last case is done but for its tear-down.
    waits: bool,
    token: u64,
}

#[derive(Default)]
struct Slot {
    /// Of its process.
    kind: u32,
    queue: VecDeque<Item>,
    running: Option<Running>,
    up: bool,
    incarnation: u32,
    ends: u32,
    ordinal: u32,
    idle: bool,
    closed: bool,
}

struct Agent {
    slots: Vec<Slot>,
    alive: bool,
    opening: u64,
    sequence: u64,
    closing: bool,
}

enum Happening {
    ToAgent(usize, Command),
    ToRun(Event),
    /// A part of what a process that is still there lists.
    Lists(usize, usize, (u32, u64), Vec<l::Unit>, bool),
    /// The case that runs on a slot ends, if the token is still the one.
    CaseEnds(usize, usize, u64),
    ProcessUp(usize, usize),
    LoseAgent(usize),
    Stored,
    Tick,
    Stop,
}

pub struct World {
    /// Of each suite whether its processes want several units at once.
    bundles: Vec<bool>,
    /// Of each kind of process the suite.
    kinds: Vec<u32>,
    /// Slots that cannot be set up for a suite.
    unable: HashSet<(usize, usize, u32)>,
    /// Those that have said so.
    refused: HashSet<(usize, usize, u32)>,
    /// Who holds what, as the ledger says it.
    locks: HashMap<String, u32>,
    random: fastrand::Rng,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: HashMap<u64, Happening>,
    order: u64,
    run: Run,
    units: Vec<ModelUnit>,
    agents: Vec<Agent>,
    attempts: HashMap<(usize, usize), u32>,
    ledger: Vec<u8>,
    record: Record,
    closed: bool,
    stopped: bool,
    crashes: bool,
    lies: bool,
    losses: bool,
    /// Of each part of the listing on its way into the store the units up to its end, and those that are in it.
    storing: VecDeque<usize>,
    stored: usize,
    last_stored: u64,
    /// Processes have something to say at their end, and the run as a whole is to be concluded.
    closing: bool,
    finish: bool,
    carried: Vec<(u32, String)>,
    finished: HashMap<u32, Vec<String>>,
    texts: u64,
    /// The latest arrival on each way, so that messages keep their order.
    arrivals: HashMap<(usize, bool), u64>,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        let suites = if random.bool() { 1 } else { random.usize(2..4) };
        let bound = random.u32(0..3) == 0;
        let units: Vec<ModelUnit> = (0..random.usize(0..12))
            .map(|unit| ModelUnit {
                suite: (unit % suites) as u32,
                name: format!("dir{}/unit{}", unit % 3, unit / suites),
                locks: ["a", "b"]
                    .iter()
                    .filter(|_| bound && random.u32(0..3) == 0)
                    .map(|&lock| lock.to_owned())
                    .collect(),
                exclusive: bound && random.u32(0..6) == 0,
                apart: bound && random.u32(0..6) == 0,
                cases: (0..cases(&mut random))
                    .map(|_| (behaviour(&mut random, faults), random.u64(10..400_000)))
                    .collect(),
                grouped: random.u32(0..3) == 0,
                kills_loader: faults.crashes && random.u32(0..15) == 0,
            })
            .collect();
        let opened = l::RunOpened {
            project: "p".into(),
            run: "r".into(),
            round: 1,
            suites: (0..suites as u32)
                .map(|suite| described(suite, &units))
                .collect(),
            ..Default::default()
        };
        let rules = Rules::new(&opened.suites).expect("names are patterns");
        let number = |suite: Suite| suite.name.parse().expect("suites are named by numbers");
        let kinds = rules.kinds().into_iter().map(number).collect();
        let bundling = random.u32(0..4) == 0;
        let (closing, finish) = (random.bool(), random.bool());
        let bundles = (0..suites)
            .map(|suite| bundling && (suite == 0 || random.bool()))
            .collect();
        let history = history(&mut random, suites, &units);
        let (run, effects) = Run::open(
            opened,
            rules,
            Settings {
                few: random.bool().then_some(0),
                ..Settings::default()
            },
        );
        let mut world = World {
            random,
            now: 0,
            queue: BinaryHeap::new(),
            happenings: HashMap::new(),
            order: 0,
            run,
            units,
            agents: Vec::new(),
            attempts: HashMap::new(),
            ledger: Vec::new(),
            record: Record::default(),
            closed: false,
            stopped: false,
            crashes: faults.crashes,
            lies: faults.lies,
            losses: faults.losses > 0,
            storing: VecDeque::new(),
            stored: 0,
            last_stored: 0,
            bundles,
            kinds,
            unable: HashSet::new(),
            refused: HashSet::new(),
            locks: HashMap::new(),
            closing,
            finish,
            carried: Vec::new(),
            finished: HashMap::new(),
            texts: 0,
            arrivals: HashMap::new(),
        };
        world.perform(effects);
        let at = world.random.u64(0..150_000);
        world.schedule(at, Happening::ToRun(Event::History(history)));
        let agents = faults.losses as usize + 1 + world.random.usize(0..2);
        for agent in 0..agents {
            let slots = world.random.usize(1..4);
            // One slot of each agent can run everything: who is there decides what cannot be run at all.
            for slot in 0..slots {
                for suite in 0..suites as u32 {
                    if faults.crashes && slot > 0 && world.random.u32(0..8) == 0 {
                        world.unable.insert((agent, slot, suite));
                    }
                }
            }
            world.agents.push(Agent {
                slots: (0..slots).map(|_| Slot::default()).collect(),
                alive: true,
                opening: 0,
                sequence: 1,
                closing: false,
            });
            let joined = AgentJoined {
                agent: AgentId(agent as u64),
                name: format!("a{agent}"),
                incarnation: "i".into(),
                environment_class: "c".into(),
                slots: (0..slots as u32).collect(),
                clock: Micros(0),
            };
            let at = world.random.u64(0..50_000);
            world.schedule(at, Happening::ToRun(joined.into()));
        }
        for agent in 0..faults.losses as usize {
            let at = world.random.u64(60_000..2_000_000);
            world.schedule(at, Happening::LoseAgent(agent));
        }
        if faults.stop {
            let at = world.random.u64(0..2_000_000);
            world.schedule(at, Happening::Stop);
        }
        world
    }

    /// Plays to the end, checks what must hold, and returns the ledger.
    pub fn play(mut self) -> Vec<u8> {
        let mut steps = 0;
        while let Some(Reverse((at, order))) = self.queue.pop() {
            steps += 1;
            assert!(
                steps < 200_000 && at < 3_600_000_000,
                "the run does not come to its end"
            );
            let Some(happening) = self.happenings.remove(&order) else {
                continue;
            };
            self.now = at;
            self.happen(happening);
            if self.closed {
                break;
            }
        }
        assert!(
            self.closed,
            "nothing happens any more, and the run is not closed: {:?}",
            self.run.progress(Micros(self.now))
        );
        self.check();
        self.ledger
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((at.max(self.now), self.order)));
        self.happenings.insert(self.order, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToRun(event) => self.step(event),
            Happening::Stored => {
                let stored = self.storing.pop_front();
                self.stored = stored.expect("something is being stored");
                self.step(Event::Stored);
            }
            Happening::Tick => self.step(Event::Tick),
            Happening::Stop => {
                self.stopped = true;
                let grace = Micros(self.random.u64(0..100_000));
                self.step(Event::Stop {
                    reason: "interrupted".into(),
                    interrupted: true,
                    grace,
                });
            }
            Happening::LoseAgent(agent) => {
                self.agents[agent].alive = false;
                let delay = self.random.u64(0..500_000);
                let gone = Event::AgentGone {
                    agent: AgentId(agent as u64),
                    reason: "silence".into(),
                    lost: true,
                };
                self.schedule(self.now + delay, Happening::ToRun(gone));
            }
            Happening::Lists(agent, slot, (kind, ask), units, more) if self.agents[agent].alive => {
                let listed = FactBody::Listed {
                    kind,
                    ask,
                    units,
                    more,
                };
                self.tell(agent, slot, listed);
            }
            Happening::ToAgent(agent, command) if self.agents[agent].alive => {
                self.command(agent, command)
            }
            Happening::ProcessUp(agent, slot) if self.agents[agent].alive => {
                self.process_up(agent, slot)
            }
            Happening::CaseEnds(agent, slot, token) if self.agents[agent].alive => {
                self.case_ends(agent, slot, token)
            }
            Happening::ToAgent(..)
            | Happening::Lists(..)
            | Happening::ProcessUp(..)
            | Happening::CaseEnds(..) => {}
        }
    }

    fn step(&mut self, event: Event) {
        let effects = self.run.step(Micros(self.now), event);
        self.perform(effects);
        // A wake that is due at once means that the tick changed nothing: the next fact will.
        if let Some(at) = self
            .run
            .wake_at(Micros(self.now))
            .filter(|at| at.0 > self.now)
        {
            self.schedule(at.0, Happening::Tick);
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append(batch) => {
                    for entry in &batch.entries {
                        self.check_locks(entry);
                        self.record
                            .apply(entry)
                            .expect("the ledger can be read back");
                    }
                    self.record.latest = Micros(batch.at_us);
                    self.ledger.extend(batch.encode_to_vec());
                }
                Effect::StoreText { offset, bytes } => {
                    assert_eq!(offset, self.texts, "texts lie one behind the other");
                    self.texts += bytes.len() as u64;
                }
                Effect::CallWhenStored => {
                    let delay = self.random.u64(0..5_000);
                    self.storing.push_back(self.record.units.len());
                    self.last_stored = self.last_stored.max(self.now + delay);
                    self.schedule(self.last_stored, Happening::Stored);
                }
                Effect::Send { agent, command } => {
                    if let Command::Lease(lease) = &command {
                        let mut units = self.record.units.iter();
                        let suite = self.kinds[lease.kind as usize];
                        let number =
                            units.position(|unit| unit.suite == suite && *unit.name == *lease.unit);
                        assert!(
                            number.is_some_and(|number| number < self.stored),
                            "unit {} is leased before its listing is stored",
                            lease.unit
                        );
                    }
                    let at = self.arrival(agent.0 as usize, true);
                    self.schedule(at, Happening::ToAgent(agent.0 as usize, command));
                }
                Effect::Close => self.closed = true,
                Effect::Cut { reason, .. } => panic!("an agent is cut off: {reason}"),
                Effect::Ack { .. } | Effect::Show(_) | Effect::Free { .. } => {}
            }
        }
    }

    /// Who is given a unit holds its locks, nobody else does, and what must be alone is.
    fn check_locks(&mut self, entry: &l::Entry) {
        use l::entry::Body;
        match &entry.body {
            Some(Body::Locked(locked)) => {
                let before = self.locks.insert(locked.lock.clone(), locked.shard);
                assert_eq!(before, None, "lock {} is held twice", locked.lock);
            }
            Some(Body::Unlocked(unlocked)) => {
                let holder = self.locks.remove(&unlocked.lock);
                assert_eq!(holder, Some(unlocked.shard), "lock {}", unlocked.lock);
            }
            Some(Body::Leased(leased)) => {
                let unit = &self.record.units[leased.unit as usize];
                let model = self.model(unit.suite, &unit.name);
                for lock in &model.locks {
                    assert_eq!(self.locks.get(lock), Some(&leased.shard), "lock {lock}");
                }
                let live = self.record.leases.iter().filter(|lease| lease.is_live());
                for other in live.filter(|other| other.shard != leased.shard) {
                    let unit = &self.record.units[other.unit as usize];
                    let beside = self.model(unit.suite, &unit.name);
                    let alone = model.exclusive || beside.exclusive;
                    assert!(!alone, "{} runs beside {}", beside.name, model.name);
                }
            }
            _ => {}
        }
    }

    fn model(&self, suite: u32, name: &str) -> &ModelUnit {
        let mut units = self.units.iter();
        let found = units.find(|unit| unit.suite == suite && unit.name == name);
        found.expect("a listed unit")
    }

    fn arrival(&mut self, agent: usize, to_agent: bool) -> u64 {
        let at = self.now + self.random.u64(50..20_000);
        let last = self.arrivals.entry((agent, to_agent)).or_default();
        *last = at.max(*last);
        *last
    }

    fn tell(&mut self, agent: usize, slot: usize, body: FactBody) {
        if std::env::var_os("EVENKEEL_TALK").is_some() {
            eprintln!("{} <- {agent}/{slot}: {body:?}", self.now);
        }
        let sequence = self.agents[agent].sequence;
        self.agents[agent].sequence += 1;
        let fact = Fact {
            at: Micros(self.now),
            slot: slot as u32,
            body,
        };
        let at = self.arrival(agent, false);
        let event = Event::Facts {
            agent: AgentId(agent as u64),
            opening: self.agents[agent].opening,
            first_sequence: sequence,
            sent_at: Micros(self.now),
            facts: vec![fact],
        };
        self.schedule(at, Happening::ToRun(event.clone()));
        // Now and then a message arrives twice.
        if self.random.u32(0..20) == 0 {
            self.schedule(at + 1, Happening::ToRun(event));
        }
    }

    fn command(&mut self, agent: usize, command: Command) {
        if std::env::var_os("EVENKEEL_TALK").is_some() {
            eprintln!("{} -> {agent}: {command:?}", self.now);
        }
        match command {
            Command::Open {
                shards, opening, ..
            } => {
                self.agents[agent].opening = opening;
                for (slot, _, kind) in shards {
                    self.agents[agent].slots[slot as usize].kind = kind;
                    self.start(agent, slot as usize);
                }
            }
            Command::List { slot, kind, ask } => {
                let state = &mut self.agents[agent].slots[slot as usize];
                state.queue.push_back(Item::List(kind, ask));
                self.advance(agent, slot as usize);
            }
            Command::Lease(lease) => {
                let slot = lease.slot as usize;
                let state = &mut self.agents[agent].slots[slot];
                if lease.ends == state.ends && !state.closed {
                    let last = state.queue.iter().rev();
                    let mut last = last.filter(|item| !matches!(item, Item::Lease(_)));
                    let idle = match last.next() {
                        Some(Item::Idle) => true,
                        Some(_) => false,
                        None => state.idle,
                    };
                    // One of another kind gets a process of its own anyway.
                    let kinds = state.queue.iter().rev().filter_map(|item| match item {
                        Item::List(kind, _) => Some(*kind),
                        Item::Lease(lease) => Some(lease.kind),
                        Item::Idle | Item::Recycle => None,
                    });
                    let stays = kinds.chain([state.kind]).next() == Some(lease.kind);
                    if lease.fresh {
                        state.queue.push_back(Item::Recycle);
                    }
                    let idle = idle && !lease.fresh;
                    let last = lease.last;
                    assert!(
                        !(idle && stays),
                        "a process that has let go of what its tests share is given {}",
                        lease.unit
                    );
                    state.queue.push_back(Item::Lease(lease));
                    if last {
                        state.queue.push_back(Item::Recycle);
                    }
                    self.advance(agent, slot);
                }
            }
            Command::Resume { .. } | Command::CloseSlot { .. } => {
                unreachable!("nobody is cut off or asked to leave")
            }
            Command::Recycle { slot } => {
                self.agents[agent].slots[slot as usize]
                    .queue
                    .push_back(Item::Recycle);
                self.advance(agent, slot as usize);
            }
            Command::Idle { slot, ends } => {
                let state = &mut self.agents[agent].slots[slot as usize];
                // A process that has run nothing yet has nothing to let go of, and one that was not meant keeps it.
                if ends == state.ends && (state.up || !state.queue.is_empty()) {
                    state.queue.push_back(Item::Idle);
                }
                self.advance(agent, slot as usize);
            }
            Command::Revoke {
                slot, lease, from, ..
            } => self.revoke(agent, slot as usize, lease, from),
            Command::Conclude { slot } => {
                let state = &mut self.agents[agent].slots[slot as usize];
                assert!(state.running.is_none(), "concluded while it works");
                state.closed = true;
                if state.up {
                    self.says_goodbye(agent, slot as usize);
                }
                self.tell(agent, slot as usize, FactBody::Concluded);
            }
            Command::Finish {
                slot,
                kind,
                carried,
                ..
            } => {
                let carried = carried.into_iter().map(|(_, carry)| carry).collect();
                let before = self.finished.insert(self.kinds[kind as usize], carried);
                assert!(before.is_none(), "the run is finished twice");
                self.agents[agent].slots[slot as usize].kind = kind;
                self.agents[agent].slots[slot as usize].ordinal = 0;
                self.says_goodbye(agent, slot as usize);
                self.tell(agent, slot as usize, FactBody::Concluded);
            }
            Command::Close { abort } => {
                self.agents[agent].closing = true;
                for slot in 0..self.agents[agent].slots.len() {
                    if abort && self.agents[agent].slots[slot].up {
                        self.dies(agent, slot, EndCause::Ended);
                    }
                    self.agents[agent].slots[slot].closed = true;
                    self.tell(agent, slot, FactBody::SlotClosed);
                }
            }
        }
    }

    fn start(&mut self, agent: usize, slot: usize) {
        let delay = self.random.u64(1_000..80_000);
        self.schedule(self.now + delay, Happening::ProcessUp(agent, slot));
    }

    fn process_up(&mut self, agent: usize, slot: usize) {
        let state = &mut self.agents[agent].slots[slot];
        if state.up || state.closed {
            return;
        }
        if self
            .unable
            .contains(&(agent, slot, self.kinds[state.kind as usize]))
        {
            let suite = self.kinds[state.kind as usize];
            if !self.refused.insert((agent, slot, suite)) {
                let given = state.queue.iter().any(|item| {
                    matches!(item, Item::Lease(lease) if self.kinds[lease.kind as usize] == suite)
                });
                assert!(!given, "a slot is given what it said that it cannot run");
                let kinds = &self.kinds;
                state.queue.retain(
                    |item| !matches!(item, Item::List(kind, _) if kinds[*kind as usize] == suite),
                );
                if state
                    .queue
                    .iter()
                    .any(|item| matches!(item, Item::List(..) | Item::Lease(_)))
                {
                    self.advance(agent, slot);
                }
                return;
            }
            state.queue.clear();
            state.ends += 1;
            let refusal = Refusal {
                kind: state.kind,
                reason: RefusedReason::Setup,
                message: "the setup failed".into(),
                hint: String::new(),
                detail: String::new(),
            };
            self.tell(agent, slot, FactBody::ProcessRefused(refusal));
            return;
        }
        state.up = true;
        state.ordinal = 0;
        let incarnation = state.incarnation;
        let kind = state.kind;
        let started = ProcessStarted {
            kind,
            took: Micros(self.random.u64(1_000..80_000)),
            incarnation,
            pid: 1,
            closing: self.closing,
            finish: self.closing && self.finish,
            bundles: self.bundles[self.kinds[kind as usize] as usize],
            undivided: self.bundles[self.kinds[kind as usize] as usize],
            ..ProcessStarted::default()
        };
        self.tell(agent, slot, FactBody::ProcessStarted(started));
        self.advance(agent, slot);
    }

    /// Does what the slot can do now.
    fn advance(&mut self, agent: usize, slot: usize) {
        let state = &mut self.agents[agent].slots[slot];
        if !state.up {
            let wanted = state.queue.iter().find_map(|item| match item {
                Item::List(kind, _) => Some(*kind),
                Item::Lease(lease) => Some(lease.kind),
                Item::Idle | Item::Recycle => None,
            });
            state.kind = wanted.unwrap_or(state.kind);
            if !state.queue.is_empty() && !state.closed {
                self.start(agent, slot);
            }
            return;
        }
        while matches!(state.queue.front(), Some(Item::Idle)) {
            state.idle = true;
            state.queue.pop_front();
        }
        if let Some(running) = &state.running {
            let knows = state.idle || !state.queue.is_empty();
            if running.waits && knows {
                self.finish_case(agent, slot);
            }
            return;
        }
        let wanted = match state.queue.front() {
            Some(Item::List(kind, _)) => *kind,
            Some(Item::Lease(lease)) => lease.kind,
            None | Some(Item::Idle | Item::Recycle) => state.kind,
        };
        if wanted != state.kind {
            self.says_goodbye(agent, slot);
            self.agents[agent].slots[slot].kind = wanted;
            self.start(agent, slot);
            return;
        }
        match state.queue.pop_front() {
            None | Some(Item::Idle) => {}
            Some(Item::List(kind, ask)) => {
                self.list(agent, slot, kind, ask);
                self.advance(agent, slot);
            }
            Some(Item::Recycle) => {
                self.says_goodbye(agent, slot);
                self.start(agent, slot);
            }
            Some(Item::Lease(lease)) => self.begin(agent, slot, lease),
        }
    }

    /// In one piece or in several, some of them late.
    fn list(&mut self, agent: usize, slot: usize, kind: u32, ask: u64) {
        let suite = self.kinds[kind as usize];
        let own = self.units.iter().filter(|unit| unit.suite == suite);
        let mut units: VecDeque<l::Unit> = own
            .map(|unit| l::Unit {
                name: unit.name.clone(),
                size: 10,
                ..l::Unit::default()
            })
            .collect();
        let mut at = self.now;
        loop {
            let size = self.random.usize(0..=units.len());
            let chunk: Vec<l::Unit> = units.drain(..size).collect();
            let more = !units.is_empty();
            self.schedule(at, Happening::Lists(agent, slot, (kind, ask), chunk, more));
            at += self.random.u64(0..200_000);
            if !more {
                break;
            }
        }
    }

    fn begin(&mut self, agent: usize, slot: usize, lease: LeaseCommand) {
        let suite = self.kinds[lease.kind as usize];
        assert_eq!(self.agents[agent].slots[slot].kind, lease.kind);
        let unit = self
            .units
            .iter()
            .position(|unit| unit.suite == suite && unit.name == lease.unit)
            .expect("a listed unit");
        self.tell(agent, slot, FactBody::UnitBegun { lease: lease.lease });
        let key = |case: usize| CaseKey {
            id: format!("{}::{case}", self.units[unit].name),
            occurrence: 0,
        };
        let cases: Vec<usize> = (0..self.units[unit].cases.len())
            .filter(|&case| {
                (lease.only.is_empty() || lease.only.contains(&key(case)))
                    && !lease.skip.contains(&key(case))
            })
            .collect();
        let token = self.order;
        let declared = cases
            .iter()
            .map(|&case| l::Case {
                id: key(case).id,
                group: self.units[unit].group(case),
                ..l::Case::default()
            })
            .collect();
        self.agents[agent].slots[slot].running = Some(Running {
            lease: lease.lease,
            unit,
            cases,
            next: 0,
            waits: false,
            token,
        });
        if self.units[unit].kills_loader {
            self.dies(agent, slot, EndCause::Died);
            return;
        }
        self.tell(
            agent,
            slot,
            FactBody::Declared {
                lease: lease.lease,
                cases: declared,
                more: false,
                instead: Vec::new(),
            },
        );
        self.next_case(agent, slot);
    }

    fn next_case(&mut self, agent: usize, slot: usize) {
        let units = &self.units;
        let state = &mut self.agents[agent].slots[slot];
        let running = state.running.as_mut().expect("a lease runs");
        while let Some(&case) = running.cases.get(running.next)
            && units[running.unit].cases[case].0 == Behaviour::Forgotten
        {
            running.next += 1;
        }
        let Some(&case) = running.cases.get(running.next) else {
            let lease = running.lease;
            state.running = None;
            self.tell(
                agent,
                slot,
                FactBody::UnitClosed {
                    lease,
                    setup: Micros(1),
                    waited: Micros::ZERO,
                },
            );
            self.advance(agent, slot);
            return;
        };
        let (unit, duration) = (running.unit, self.units[running.unit].cases[case].1);
        *self.attempts.entry((unit, case)).or_default() += 1;
        self.order += 1;
        running.token = self.order;
        let token = running.token;
        self.schedule(self.now + duration, Happening::CaseEnds(agent, slot, token));
    }

    fn case_ends(&mut self, agent: usize, slot: usize, token: u64) {
        let state = &mut self.agents[agent].slots[slot];
        let Some(running) = state
            .running
            .as_mut()
            .filter(|running| running.token == token)
        else {
            return;
        };
        let case = running.cases[running.next];
        let behaviour = self.units[running.unit].cases[case].0;
        let attempt = self.attempts[&(running.unit, case)];
        match behaviour {
            Behaviour::Crash => return self.dies(agent, slot, EndCause::Died),
            Behaviour::KilledAlways => return self.dies(agent, slot, EndCause::KilledFromOutside),
            Behaviour::KilledOnce if attempt == 1 => {
                return self.dies(agent, slot, EndCause::KilledFromOutside);
            }
            _ => {}
        }
        let last = running.next + 1 == running.cases.len();
        if last && !state.idle && state.queue.is_empty() {
            running.waits = true;
            let lease = running.lease;
            self.tell(agent, slot, FactBody::Waiting { lease });
            return;
        }
        self.finish_case(agent, slot);
    }

    fn finish_case(&mut self, agent: usize, slot: usize) {
        let state = &mut self.agents[agent].slots[slot];
        let running = state.running.as_mut().expect("a case runs");
        let case = running.cases[running.next];
        let (behaviour, duration) = self.units[running.unit].cases[case];
        let outcome = match behaviour {
            Behaviour::Pass | Behaviour::KilledOnce => Outcome::Passed,
            Behaviour::Fail => Outcome::Failed,
            Behaviour::Skip => Outcome::Skipped,
            Behaviour::Crash | Behaviour::KilledAlways | Behaviour::Forgotten => {
                unreachable!("it does not end by itself")
            }
        };
        let ended = CaseEnded {
            lease: running.lease,
            generation: 1,
            case: running.next as u32,
            outcome,
            started: Micros(self.now.saturating_sub(duration)),
            duration: Micros(duration),
            setup: Micros::ZERO,
            ordinal: state.ordinal,
            text: None,
        };
        state.ordinal += 1;
        running.next += 1;
        running.waits = false;
        let again = CaseEnded {
            outcome: Outcome::Failed,
            ..ended.clone()
        };
        self.tell(agent, slot, FactBody::CaseEnded(ended));
        if self.lies && self.random.u32(0..4) == 0 {
            self.tell(agent, slot, FactBody::CaseEnded(again));
        }
        self.next_case(agent, slot);
    }

    fn dies(&mut self, agent: usize, slot: usize, cause: EndCause) {
        let now = self.now;
        let state = &mut self.agents[agent].slots[slot];
        let in_flight = state.running.take().map(|running| InFlight {
            lease: running.lease,
            case: (!self.units[running.unit].kills_loader && running.next < running.cases.len())
                .then_some(RunningCase {
                    index: running.next as u32,
                    started: Micros(now.saturating_sub(5)),
                    ordinal: state.ordinal,
                }),
            loading: self.units[running.unit].kills_loader,
        });
        let ended = ended(state.kind, state.incarnation, cause, in_flight);
        state.incarnation += 1;
        state.ends += 1;
        state.up = false;
        state.idle = false;
        state.queue.clear();
        self.tell(agent, slot, FactBody::ProcessEnded(ended));
    }

    /// A planned end. A process that ran something has something for the one that concludes the run.
    fn says_goodbye(&mut self, agent: usize, slot: usize) {
        let state = &mut self.agents[agent].slots[slot];
        let mut ended = ended(state.kind, state.incarnation, EndCause::Finished, None);
        let suite = self.kinds[state.kind as usize];
        if state.ordinal > 0 {
            let carry = format!("{agent}/{slot}/{}", state.incarnation);
            self.carried.push((suite, carry.clone()));
            ended.farewell = Some(Farewell {
                carry,
                ..Farewell::default()
            });
        }
        state.incarnation += 1;
        state.up = false;
        state.idle = false;
        self.tell(agent, slot, FactBody::ProcessEnded(ended));
    }

    fn revoke(&mut self, agent: usize, slot: usize, lease: u64, from: u32) {
        let state = &mut self.agents[agent].slots[slot];
        let queued = state
            .queue
            .iter()
            .position(|item| matches!(item, Item::Lease(l) if l.lease == lease));
        let (cases, all) = if let Some(queued) = queued {
            state.queue.remove(queued);
            (Vec::new(), true)
        } else if let Some(running) = state
            .running
            .as_mut()
            .filter(|running| running.lease == lease)
        {
            let keep = (running.next + 1)
                .max(from as usize)
                .min(running.cases.len());
            let given: Vec<u32> = (keep as u32..running.cases.len() as u32).collect();
            running.cases.truncate(keep);
            (given, false)
        } else {
            (Vec::new(), false)
        };
        self.tell(agent, slot, FactBody::Returned { lease, cases, all });
        self.advance(agent, slot);
    }

    /// No process of a suite ever came up.
    fn unstarted(&self, suite: u32) -> bool {
        let mut processes = self.record.shards.iter().flat_map(|shard| &shard.processes);
        processes.all(|process| process.started.suite != suite)
    }

    fn check(&self) {
        let live = self.run.record();
        assert_eq!(
            live.totals(),
            self.record.totals(),
            "what the run knows and what its ledger says differ"
        );
        let closed = self.record.closed.as_ref().expect("a closed run says how");
        let mut expected_cases = vec![0; self.bundles.len()];
        let mut red = false;
        for (number, model) in self.units.iter().enumerate() {
            let Some(unit) = self
                .record
                .units
                .iter()
                .find(|unit| unit.suite == model.suite && *unit.name == *model.name)
            else {
                assert!(self.stopped, "unit {} was never listed", model.name);
                continue;
            };
            if model.kills_loader {
                let cases: Vec<_> = unit
                    .cases
                    .iter()
                    .map(|case| (&*case.id, case.verdict()))
                    .collect();
                let whole = unit.settled.as_ref().map(|(verdict, _)| *verdict);
                let named = cases == [(&*model.name, Some(Verdict::Error))];
                assert!(
                    named
                        || whole.is_some_and(
                            |v| v == Verdict::Error || (self.stopped && v == Verdict::NotRun)
                        ),
                    "{cases:?} {whole:?}"
                );
                red |= named || whole == Some(Verdict::Error);
                expected_cases[model.suite as usize] += 1;
                continue;
            }
            if !unit.declared {
                assert!(self.stopped, "unit {} was not declared", model.name);
                assert_eq!(
                    unit.settled.as_ref().map(|(verdict, _)| *verdict),
                    Some(Verdict::NotRun)
                );
                continue;
            }
            assert_eq!(
                unit.cases.len(),
                model.cases.len(),
                "unit {} has its cases exactly once",
                model.name
            );
            for (index, case) in unit.cases.iter().enumerate() {
                let place: usize = case
                    .id
                    .rsplit("::")
                    .next()
                    .and_then(|n| n.parse().ok())
                    .expect("a case's id");
                let behaviour = model.cases[place].0;
                let wanted = match behaviour {
                    Behaviour::Pass | Behaviour::KilledOnce => Verdict::Passed,
                    Behaviour::Fail => Verdict::Failed,
                    Behaviour::Skip => Verdict::Skipped,
                    Behaviour::Crash | Behaviour::KilledAlways => Verdict::Error,
                    Behaviour::Forgotten => Verdict::Lost,
                };
                let verdict = case.verdict();
                let excused = self.stopped && verdict == Some(Verdict::NotRun);
                assert!(
                    verdict == Some(wanted) || excused,
                    "{} {behaviour:?} became {verdict:?} ({index} of unit {number}): {:?}",
                    case.id,
                    case.reason
                );
                red |= verdict.is_some_and(Verdict::is_failure);
                let decided = case
                    .attempts()
                    .filter(|attempt| attempt.outcome != Outcome::Killed)
                    .count();
                assert!(decided <= 1, "{} was decided {decided} times", case.id);
                let lost = case.attempts().filter(|attempt| attempt.agent_lost);
                assert!(
                    lost.clone().count() <= 3,
                    "{} took too many agents",
                    case.id
                );
                assert!(
                    case.attempts().count() - lost.count() <= 2,
                    "{} has too many attempts",
                    case.id
                );
                expected_cases[model.suite as usize] += 1;
            }
        }
        for unit in &self.record.units {
            let model = self.model(unit.suite, &unit.name);
            let ends = [
                Behaviour::Crash,
                Behaviour::KilledOnce,
                Behaviour::KilledAlways,
            ];
            let mut cases = model.cases.iter();
            let crashes =
                model.kills_loader || cases.any(|(behaviour, _)| ends.contains(behaviour));
            let mut places: HashMap<&str, u32> = HashMap::new();
            for case in unit.cases.iter().filter(|_| !crashes && !self.losses) {
                if let (Some(group), Some(shard)) = (case.group(), self.record.shard_of(case)) {
                    let place = *places.entry(group).or_insert(shard);
                    assert_eq!(place, shard, "group {group} of {} was separated", unit.name);
                }
            }
        }
        let mut again = 0;
        for (before, lease) in self
            .record
            .leases
            .iter()
            .zip(self.record.leases.iter().skip(1))
        {
            let what = |lease: &Lease| (lease.unit, lease.shard, lease.alone, lease.named.clone());
            let same = what(before) == what(lease);
            let unbegun = before.begun.is_none() && before.ended.is_some();
            // A bundle that loses its process may hold the same the next time.
            again = if unbegun && same && !self.bundles.contains(&true) {
                again + 1
            } else {
                0
            };
            assert!(
                again < 4,
                "unit {} goes to and fro between a slot and nobody",
                lease.unit
            );
        }
        for shard in &self.record.shards {
            // Each suite may have to be listed, and each kind to be run.
            let reasons = if self.kinds.len() == 1 {
                1
            } else {
                3 * self.kinds.len()
            };
            let bound = self
                .units
                .iter()
                .any(|unit| unit.exclusive || !unit.locks.is_empty());
            let needless = shard.processes.len() > reasons && !self.crashes && !self.losses;
            assert!(
                !needless || bound,
                "a slot was given a new process without a reason"
            );
        }
        for suite in 0..self.bundles.len() as u32 {
            let of_suite = self.carried.iter().filter(|(of, _)| *of == suite);
            let heard: Vec<&String> = of_suite.map(|(_, carry)| carry).collect();
            if let Some(finished) = self.finished.get(&suite) {
                // An empty one stands for a process that was lost.
                let mut finished: Vec<&String> = finished.iter().collect();
                finished.retain(|carry| !carry.is_empty());
                assert!(finished.iter().all(|carry| heard.contains(carry)));
                assert!(
                    self.losses || finished.len() == heard.len(),
                    "{finished:?} of {heard:?}"
                );
            } else {
                let wanted = self.closing && self.finish;
                assert!(!wanted || self.losses || self.stopped || self.unstarted(suite));
            }
        }
        let incomplete =
            self.record.totals().not_run + self.record.totals().lost > 0 || !self.record.listed;
        // The last agents were lost before the run was concluded as a whole.
        let unconcluded = self.losses && self.closing && self.finish && closed.exit_code == 3;
        let wanted = if red {
            1
        } else if self.record.stopped.is_some() {
            130
        } else if incomplete || unconcluded {
            3
        } else if expected_cases.contains(&0) {
            4
        } else {
            0
        };
        assert!(
            !incomplete || self.stopped || self.lies,
            "something is missing without a reason"
        );
        assert_eq!(
            closed.exit_code,
            wanted,
            "verdict {} with {:?}",
            closed.verdict,
            self.record.totals()
        );
        assert!(
            !(incomplete && closed.exit_code == 0),
            "green although something is missing"
        );
    }
}

/// Mostly few, now and then so many that the unit is split.
fn cases(random: &mut fastrand::Rng) -> usize {
    if random.u32(0..4) == 0 {
        random.usize(9..60)
    } else {
        random.usize(0..9)
    }
}

/// A suite with what holds for its units, each named by a pattern.
fn described(suite: u32, units: &[ModelUnit]) -> Suite {
    let own = units.iter().filter(|unit| unit.suite == suite);
    Suite {
        name: suite.to_string(),
        overrides: own
            .map(|unit| Override {
                units: vec![unit.name.clone()],
                exclusive: unit.exclusive.then_some(true),
                locks: Some(Names {
                    names: unit.locks.clone(),
                }),
                environment: unit.apart.then(Variables::default),
                ..Override::default()
            })
            .collect(),
        ..Suite::default()
    }
}

/// What earlier runs tell of some of the units, more or less right.
fn history(random: &mut fastrand::Rng, suites: usize, units: &[ModelUnit]) -> History {
    let mut history = History {
        suites: vec![SuiteHistory::default(); suites],
    };
    for unit in units {
        if random.bool() {
            continue;
        }
        let mut known = HashMap::new();
        for (case, (_, duration)) in unit.cases.iter().enumerate() {
            let key = CaseKey {
                id: format!("{}::{case}", unit.name),
                occurrence: 0,
            };
            known.insert(key, Micros(duration * random.u64(50..200) / 100));
        }
        let sample = Sample {
            work: known.values().copied().sum(),
            setup: Micros(random.u64(0..50_000)),
        };
        let own = &mut history.suites[unit.suite as usize];
        own.samples.insert(unit.name.clone(), vec![sample]);
        if random.u32(0..4) > 0 {
            own.cases.insert(unit.name.clone(), known);
        }
    }
    history
}

fn behaviour(random: &mut fastrand::Rng, faults: Faults) -> Behaviour {
    let kinds = if faults.crashes { 30 } else { 20 };
    match random.u32(0..kinds) {
        0 => Behaviour::Fail,
        1 | 2 => Behaviour::Skip,
        3 if faults.lies => Behaviour::Forgotten,
        20 | 21 => Behaviour::Crash,
        22 => Behaviour::KilledOnce,
        23 => Behaviour::KilledAlways,
        _ => Behaviour::Pass,
    }
}

fn ended(
    kind: u32,
    incarnation: u32,
    cause: EndCause,
    in_flight: Option<InFlight>,
) -> ProcessEnded {
    ProcessEnded {
        kind,
        incarnation,
        cause,
        in_flight,
        explanation: "it died".into(),
        stderr_tail: String::new(),
        farewell: None,
    }
}
