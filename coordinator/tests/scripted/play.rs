//! A run, and agents that tell it what the script wants.

use evenkeel_coordinator::record::{Outcome, Record};
use evenkeel_coordinator::run::{
    AgentBack, AgentId, AgentJoined, CaseEnded, Command, Effect, Event, Fact, FactBody, History,
    LeaseCommand, ProcessStarted, Rules, Run, Settings,
};
use evenkeel_proto::{ledger as l, suite::Suite};
use evenkeel_schedule::Micros;
use std::collections::BTreeMap;

pub fn seconds(count: u64) -> Micros {
    Micros(count * 1_000_000)
}

/// An agent of one slot.
struct Own {
    opening: u64,
    sequence: u64,
    told: Vec<Command>,
}

pub struct Play {
    pub run: Run,
    pub now: Micros,
    agents: BTreeMap<u64, Own>,
    rows: Vec<l::Batch>,
    history: History,
}

fn incarnation(agent: u64) -> String {
    format!("incarnation{agent}")
}

impl Play {
    /// A run of one suite, of which nobody has heard yet.
    pub fn begin(suite: Suite) -> Play {
        Play::begin_with(suite, History::default())
    }

    /// The same, and this is what earlier runs know.
    pub fn begin_with(suite: Suite, history: History) -> Play {
        let opened = l::RunOpened {
            project: "p".into(),
            run: "r".into(),
            suites: vec![suite],
            ..l::RunOpened::default()
        };
        let rules = Rules::new(&opened.suites).unwrap();
        let (run, effects) = Run::open(opened, rules, Settings::default());
        let mut play = Play {
            run,
            now: Micros::ZERO,
            agents: BTreeMap::new(),
            rows: Vec::new(),
            history: history.clone(),
        };
        play.perform(effects);
        play.step(Event::History(history));
        play
    }

    /// One of which nothing is particular.
    pub fn suite() -> Suite {
        Suite {
            name: "unit".into(),
            command: vec!["noop".into()],
            ..Suite::default()
        }
    }

    /// What is to be durable is so at once.
    pub fn step(&mut self, event: Event) {
        let effects = self.run.step(self.now, event);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut stored = false;
        for effect in effects {
            match effect {
                Effect::Send { agent, command } => {
                    let own = self.agents.get_mut(&agent.0).unwrap();
                    if let Command::Open { opening, .. } = command {
                        own.opening = opening;
                    }
                    own.told.push(command);
                }
                Effect::CallWhenStored => stored = true,
                Effect::Append(batch) => self.rows.push(batch),
                _ => {}
            }
        }
        if stored {
            self.step(Event::Stored);
        }
    }

    /// Another coordinator goes on with the run, by what is durable.
    pub fn crash(&mut self) {
        let mut record = Record::default();
        for batch in &self.rows {
            record.apply_batch(batch).unwrap();
        }
        let rules = Rules::new(&record.opened.suites).unwrap();
        let (settings, history) = (Settings::default(), Some(self.history.clone()));
        let recovered = Run::recover(record, rules, settings, history, 2, 0, self.now);
        let (run, effects) = recovered.unwrap();
        self.run = run;
        self.run.number_awaited(|own| {
            let number = own.strip_prefix("incarnation").unwrap();
            AgentId(number.parse().unwrap())
        });
        self.perform(effects);
    }

    /// An agent comes, and its slot's process is ready.
    pub fn join(&mut self, agent: u64) {
        let own = Own {
            opening: 0,
            sequence: 0,
            told: Vec::new(),
        };
        self.agents.insert(agent, own);
        self.step(Event::AgentJoined(AgentJoined {
            agent: AgentId(agent),
            name: format!("agent{agent}"),
            incarnation: incarnation(agent),
            environment_class: "c".into(),
            slots: vec![0],
            clock: self.now,
        }));
        self.tell(agent, FactBody::ProcessStarted(ProcessStarted::default()));
    }

    pub fn back(&mut self, agent: u64) {
        let own = &self.agents[&agent];
        self.step(Event::AgentBack(AgentBack {
            agent: AgentId(agent),
            incarnation: incarnation(agent),
            opening: own.opening,
            slots: vec![0],
            clock: self.now,
        }));
    }

    pub fn tell(&mut self, agent: u64, body: FactBody) {
        let own = self.agents.get_mut(&agent).unwrap();
        own.sequence += 1;
        let event = Event::Facts {
            agent: AgentId(agent),
            opening: own.opening,
            first_sequence: own.sequence,
            sent_at: self.now,
            facts: vec![Fact {
                at: self.now,
                slot: 0,
                body,
            }],
        };
        self.step(event);
    }

    /// What an agent was told and has not been looked at.
    pub fn told(&mut self, agent: u64) -> Vec<Command> {
        std::mem::take(&mut self.agents.get_mut(&agent).unwrap().told)
    }

    /// It lists these units, as it was asked.
    pub fn list(&mut self, agent: u64, units: &[&str]) {
        let told = self.told(agent);
        let ask = told.iter().find_map(|command| match command {
            Command::List { ask, .. } => Some(*ask),
            _ => None,
        });
        let units = units.iter().map(|name| l::Unit {
            name: (*name).into(),
            ..l::Unit::default()
        });
        let listed = FactBody::Listed {
            kind: 0,
            ask: ask.expect("it was asked for the listing"),
            units: units.collect(),
            more: false,
        };
        self.tell(agent, listed);
    }

    /// The lease that an agent was given.
    pub fn lease(&mut self, agent: u64) -> LeaseCommand {
        let leases = self.leases(agent);
        leases.into_iter().next().expect("it was given a lease")
    }

    /// Those that it was given.
    pub fn leases(&mut self, agent: u64) -> Vec<LeaseCommand> {
        let told = self.told(agent);
        let leases = told.into_iter().filter_map(|command| match command {
            Command::Lease(lease) => Some(lease),
            _ => None,
        });
        leases.collect()
    }

    /// Its process loads the unit of a lease and finds these cases.
    pub fn load(&mut self, agent: u64, lease: u64, cases: &[&str]) {
        self.tell(agent, FactBody::UnitBegun { lease });
        let cases = cases.iter().map(|id| l::Case {
            id: (*id).into(),
            ..l::Case::default()
        });
        let declared = FactBody::Declared {
            lease,
            cases: cases.collect(),
            more: false,
            instead: Vec::new(),
        };
        self.tell(agent, declared);
    }

    pub fn pass(&mut self, agent: u64, lease: u64, case: u32) {
        let ended = CaseEnded {
            lease,
            generation: 1,
            case,
            outcome: Outcome::Passed,
            started: self.now,
            duration: Micros(1_000),
            setup: Micros::ZERO,
            ordinal: 0,
            text: None,
        };
        self.tell(agent, FactBody::CaseEnded(ended));
    }

    /// Its process has nothing left to do of a lease.
    pub fn close(&mut self, agent: u64, lease: u64) {
        let closed = FactBody::UnitClosed {
            lease,
            setup: Micros::ZERO,
            waited: Micros::ZERO,
        };
        self.tell(agent, closed);
    }

    /// Nothing happens for so long but that the run looks at the clock when it wants to.
    pub fn pass_time(&mut self, by: Micros) {
        let until = self.now + by;
        while let Some(at) = self.run.wake_at(self.now).filter(|at| *at <= until) {
            self.now = at.max(self.now + Micros(1));
            self.step(Event::Tick);
        }
        self.now = until;
    }
}
