//! Sessions between agents and the coordinator: what is on its way, in order, and how a connection is lost.
//!
//! Within one connection nothing overtakes anything, and nothing arrives behind something that did not.

use super::world::{Happening, World};
use evenkeel_coordinator::run::{Command, Event, Fact};
use evenkeel_schedule::Micros;
use std::collections::VecDeque;

/// An agent of which nothing is heard for so long is given up.
pub const LOST_AFTER: u64 = 5_000_000;

#[derive(Clone, Debug)]
pub enum Up {
    Hello {
        incarnation: String,
        /// What it has of the run: the opening, and its slots.
        held: Option<(u64, Vec<u32>)>,
        clock: Micros,
        /// It is on its way out: whoever takes it in may be somebody else than who heard it the first time.
        leaving: bool,
    },
    Facts {
        opening: u64,
        first_sequence: u64,
        sent_at: Micros,
        facts: Vec<Fact>,
    },
    Leaving,
    Goodbye,
}

#[derive(Clone, Debug)]
pub enum Down {
    Command(Command),
    Ack(u64),
    /// The coordinator has ended the session.
    Ends,
}

/// One direction of a session.
struct Way<T> {
    waiting: VecDeque<(u64, T)>,
    latest: u64,
    stalled: bool,
    /// Nothing goes in any more; what is on its way arrives.
    shut: bool,
}

impl<T> Way<T> {
    fn new() -> Way<T> {
        Way {
            waiting: VecDeque::new(),
            latest: 0,
            stalled: false,
            shut: false,
        }
    }

    fn lose(&mut self) {
        self.waiting.clear();
        self.shut = true;
    }
}

pub struct Session {
    pub machine: usize,
    pub boot: u32,
    /// Of the coordinator that it is with, how often that had been started.
    pub life: u32,
    up: Way<Up>,
    down: Way<Down>,
    /// The hub has taken it in, as this agent.
    pub agent: Option<u64>,
    /// The coordinator takes it for open.
    pub open: bool,
    /// The agent's end is gone with its machine.
    dead: bool,
    /// Since when nothing is heard.
    silent_since: Option<u64>,
}

impl World {
    pub fn begin_session(&mut self, machine: usize, boot: u32) -> usize {
        self.sessions.push(Session {
            machine,
            boot,
            life: self.life,
            up: Way::new(),
            down: Way::new(),
            agent: None,
            open: true,
            dead: false,
            silent_since: None,
        });
        self.sessions.len() - 1
    }

    pub fn send_up(&mut self, session: usize, message: Up) {
        let delay = self.random.u64(50..20_000);
        let way = &mut self.sessions[session].up;
        if !way.shut {
            way.latest = way.latest.max(self.now + delay);
            way.waiting.push_back((way.latest, message));
            let at = way.latest;
            self.schedule(at, Happening::ArriveUp(session));
        }
    }

    pub fn send_down(&mut self, session: usize, message: Down) {
        let delay = self.random.u64(50..20_000);
        let way = &mut self.sessions[session].down;
        if !way.shut {
            way.latest = way.latest.max(self.now + delay);
            way.waiting.push_back((way.latest, message));
            let at = way.latest;
            self.schedule(at, Happening::ArriveDown(session));
        }
    }

    pub fn arrive_up(&mut self, session: usize) {
        let now = self.now;
        let own = &mut self.sessions[session];
        if own.up.stalled || !own.open || own.life != self.life || self.run.is_none() {
            return;
        }
        if own.up.waiting.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, message)) = own.up.waiting.pop_front()
        {
            self.take_in(session, message);
        }
    }

    pub fn arrive_down(&mut self, session: usize) {
        let now = self.now;
        let own = &mut self.sessions[session];
        if own.down.stalled {
            return;
        }
        if own.down.waiting.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, message)) = own.down.waiting.pop_front()
        {
            self.heard(session, message);
        }
    }

    /// What an agent says reaches the coordinator.
    fn take_in(&mut self, session: usize, message: Up) {
        if self.talk && !matches!(message, Up::Facts { .. }) {
            let machine = self.sessions[session].machine;
            eprintln!(
                "{} <- {}: {message:?}",
                self.now, self.machines[machine].name
            );
        }
        match message {
            Up::Hello {
                incarnation,
                held,
                clock,
                leaving,
            } => {
                self.hub_connect(session, incarnation, held, clock);
                if leaving {
                    self.hub_leaving(session);
                }
            }
            Up::Facts {
                opening,
                first_sequence,
                sent_at,
                facts,
            } => {
                if self.talk {
                    let machine = self.sessions[session].machine;
                    let name = &self.machines[machine].name;
                    for fact in &facts {
                        eprintln!(
                            "{} <- {name}/{}: {first_sequence} {:?}",
                            self.now, fact.slot, fact.body
                        );
                    }
                }
                if let Some(agent) = self.sessions[session].agent {
                    let event = Event::Facts {
                        agent: evenkeel_coordinator::run::AgentId(agent),
                        opening,
                        first_sequence,
                        sent_at,
                        facts,
                    };
                    self.facts_arrive(agent, event);
                }
            }
            Up::Leaving => self.hub_leaving(session),
            Up::Goodbye => {
                self.sessions[session].open = false;
                self.hub_gone(session, "it was told to go", false);
            }
        }
    }

    /// The connection is gone with all that is on its way. The coordinator may see that later than the agent.
    pub fn cut(&mut self, session: usize) {
        let own = &mut self.sessions[session];
        own.up.lose();
        own.down.lose();
        let late = if self.random.bool() { 3_000_000 } else { 1_000 };
        let at = self.now + self.random.u64(0..late);
        self.schedule(at, Happening::HubNotices(session));
        let at = self.now + self.random.u64(0..50_000);
        self.schedule(at, Happening::AgentNotices(session));
    }

    /// The agent's end of a connection is gone. `silent`: with the machine, so that nobody says so.
    pub fn lose_end(&mut self, session: usize, silent: bool) {
        let own = &mut self.sessions[session];
        own.down.lose();
        if silent {
            own.up.lose();
            own.dead = true;
            self.falls_silent(session);
        } else {
            own.up.shut = true;
            let at = own.up.latest.max(self.now) + 1;
            self.schedule(at, Happening::HubNotices(session));
        }
    }

    /// Nothing gets through any more for a while.
    pub fn stall(&mut self, session: usize, up: bool, down: bool) {
        let own = &mut self.sessions[session];
        own.up.stalled |= up;
        own.down.stalled |= down;
        let long = self.random.bool();
        let span = self.random.u64(if long {
            1_000..12_000_000
        } else {
            1_000..1_500_000
        });
        self.schedule(self.now + span, Happening::Heal(session));
        if up {
            self.falls_silent(session);
        }
    }

    pub fn heal(&mut self, session: usize) {
        let own = &mut self.sessions[session];
        own.up.stalled = false;
        own.down.stalled = false;
        let (now, up, down) = (self.now, own.up.waiting.len(), own.down.waiting.len());
        let due = |at: u64| at.max(now);
        let ups: Vec<u64> = own.up.waiting.iter().map(|(at, _)| due(*at)).collect();
        let downs: Vec<u64> = own.down.waiting.iter().map(|(at, _)| due(*at)).collect();
        debug_assert_eq!((ups.len(), downs.len()), (up, down));
        for at in ups {
            self.schedule(at, Happening::ArriveUp(session));
        }
        for at in downs {
            self.schedule(at, Happening::ArriveDown(session));
        }
        self.speaks_again(session);
    }

    pub fn falls_silent(&mut self, session: usize) {
        let now = self.now;
        let own = &mut self.sessions[session];
        let since = *own.silent_since.get_or_insert(now);
        self.schedule(since + LOST_AFTER, Happening::Silence(session, since));
    }

    pub fn speaks_again(&mut self, session: usize) {
        let machine = self.sessions[session].machine;
        let frozen = self.machines[machine].frozen.is_some();
        let own = &mut self.sessions[session];
        if !own.up.stalled && !frozen && !own.dead {
            own.silent_since = None;
        }
    }

    /// Nothing was heard for so long: the coordinator ends the session.
    pub fn silence(&mut self, session: usize, since: u64) {
        let own = &mut self.sessions[session];
        if own.silent_since != Some(since) || !own.open || own.life != self.life {
            return;
        }
        self.end_session(session);
        self.hub_gone(session, "nothing was heard of it", true);
    }

    /// The coordinator ends a session; what it has said before arrives.
    pub fn end_session(&mut self, session: usize) {
        self.sessions[session].open = false;
        self.sessions[session].up.lose();
        self.send_down(session, Down::Ends);
        self.sessions[session].down.shut = true;
    }

    pub fn hub_notices(&mut self, session: usize) {
        let own = &mut self.sessions[session];
        if std::mem::replace(&mut own.open, false) && own.life == self.life {
            self.hub_cut(session);
        }
    }

    /// The coordinator is killed: what it has sent arrives, what was sent to it does not.
    pub fn drop_sessions(&mut self) {
        for session in 0..self.sessions.len() {
            let own = &mut self.sessions[session];
            if own.life == self.life && !own.up.shut {
                self.end_session(session);
            }
        }
    }
}
