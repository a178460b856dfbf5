//! The hub's part, as small as it can be: which agents are there, which of their slots serve the run, when an agent is given up.
//! What it says to the run and what the run says to it takes a little time, and keeps its order.

use super::network::LOST_AFTER;
use super::world::{Happening, World};
use evenkeel_coordinator::run::{AgentBack, AgentId, AgentJoined, Event};
use evenkeel_schedule::Micros;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Who was there before a coordinator was started again has so long to come back.
const COMING_BACK: u64 = 15_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Seat {
    Free,
    Serves,
    Leaves,
    /// Another run has it.
    Elsewhere,
}

struct Guest {
    machine: Option<usize>,
    incarnation: String,
    seats: Vec<Seat>,
    /// It is there, and stays.
    serves: bool,
    session: Option<usize>,
    /// When it is given up, unless it comes back.
    due: Option<u64>,
    /// It serves the run, or the run awaits it.
    known: bool,
    clock: Micros,
}

#[derive(Default)]
pub struct Hub {
    guests: BTreeMap<u64, Guest>,
    by_incarnation: HashMap<String, u64>,
    unfit: BTreeSet<u64>,
    next: u64,
    to_run: u64,
    to_hub: u64,
    looks_at: u64,
}

/// What reaches the run's task.
pub enum Word {
    Event(Event),
    Joined(AgentJoined, usize),
    Back(AgentBack, usize),
}

impl Hub {
    pub fn forget(&mut self) {
        *self = Hub::default();
    }
}

impl World {
    fn tell_run(&mut self, word: Word) {
        let at = self.now + self.random.u64(0..300);
        self.hub.to_run = self.hub.to_run.max(at);
        let at = self.hub.to_run;
        self.schedule(at, Happening::ToRun(self.life, Box::new(word)));
    }

    pub fn facts_arrive(&mut self, agent: u64, event: Event) {
        // Who does not serve the run has nothing to tell it.
        if self.hub.guests.get(&agent).is_some_and(|guest| guest.known) {
            self.tell_run(Word::Event(event));
        }
    }

    /// A run's notice that a slot is not its own any more.
    pub fn tell_hub(&mut self, agent: u64, slot: u32, unfit: bool) {
        let at = self.now + self.random.u64(0..300);
        self.hub.to_hub = self.hub.to_hub.max(at);
        let at = self.hub.to_hub;
        self.schedule(at, Happening::Free(self.life, agent, slot, unfit));
    }

    pub fn free(&mut self, agent: u64, slot: u32, unfit: bool) {
        if unfit {
            self.hub.unfit.insert(agent);
        }
        let Some(guest) = self.hub.guests.get_mut(&agent) else {
            return;
        };
        let seat = guest.seats.get_mut(slot as usize);
        let Some(seat) = seat.filter(|seat| matches!(seat, Seat::Serves | Seat::Leaves)) else {
            return;
        };
        let asked = std::mem::replace(seat, Seat::Free) == Seat::Leaves;
        if asked {
            *seat = Seat::Elsewhere;
            let at = self.now + self.random.u64(1_000..2_000_000);
            self.schedule(at, Happening::Return(self.life, agent, slot));
        } else if let Some(marked) = guest.seats.iter_mut().find(|seat| **seat == Seat::Leaves) {
            // Which one it can do without the run knows better: another one that was marked stays.
            *marked = Seat::Serves;
        }
        self.look_soon();
    }

    /// Another run gives a slot back.
    pub fn give_back(&mut self, agent: u64, slot: u32) {
        let guest = self.hub.guests.get_mut(&agent);
        let seat = guest.and_then(|guest| guest.seats.get_mut(slot as usize));
        if let Some(seat) = seat.filter(|seat| **seat == Seat::Elsewhere) {
            *seat = Seat::Free;
            self.look_soon();
        }
    }

    fn look_soon(&mut self) {
        self.schedule(self.now, Happening::Look(self.life));
    }

    pub fn hub_connect(
        &mut self,
        session: usize,
        incarnation: String,
        held: Option<(u64, Vec<u32>)>,
        clock: Micros,
    ) {
        let machine = self.sessions[session].machine;
        let known = self.hub.by_incarnation.get(&incarnation).copied();
        let id = known.unwrap_or_else(|| self.number_agent(&incarnation));
        let before = self.hub.guests.remove(&id);
        if let Some(old) = before.as_ref().and_then(|before| before.session) {
            self.sessions[old].open = false;
        }
        let slots = self.machines[machine].slots;
        let mut guest = Guest {
            machine: Some(machine),
            incarnation: incarnation.clone(),
            seats: vec![Seat::Free; slots as usize],
            serves: true,
            session: Some(session),
            due: None,
            known: before.is_some_and(|before| before.known),
            clock,
        };
        self.sessions[session].agent = Some(id);
        match held {
            Some((opening, slots)) => {
                for slot in &slots {
                    guest.seats[*slot as usize] = Seat::Serves;
                }
                guest.known = true;
                let back = AgentBack {
                    agent: AgentId(id),
                    incarnation,
                    opening,
                    slots,
                    clock,
                };
                self.tell_run(Word::Back(back, session));
            }
            None if std::mem::take(&mut guest.known) => {
                self.tell_run(Word::Event(Event::AgentGone {
                    agent: AgentId(id),
                    reason: "it came back without what it had".into(),
                    lost: true,
                }));
            }
            None => {}
        }
        self.hub.guests.insert(id, guest);
        self.tell_matching();
        self.look_soon();
    }

    fn number_agent(&mut self, incarnation: &str) -> u64 {
        self.hub.next += 1;
        let id = self.hub.next;
        self.hub.by_incarnation.insert(incarnation.to_owned(), id);
        id
    }

    /// The hub sees that a connection is gone.
    pub fn hub_cut(&mut self, session: usize) {
        let Some(id) = self.sessions[session].agent else {
            return;
        };
        let now = self.now;
        let Some(guest) = self.hub.guests.get_mut(&id) else {
            return;
        };
        if guest.session != Some(session) {
            return;
        }
        guest.session = None;
        if !guest.known {
            self.remove(id, "its connection is gone", false);
            return;
        }
        guest.due = Some(now + LOST_AFTER);
        self.schedule(now + LOST_AFTER, Happening::Overdue(self.life, id));
        let agent = AgentId(id);
        self.tell_run(Word::Event(Event::AgentCut { agent }));
        self.tell_matching();
    }

    pub fn overdue(&mut self, id: u64) {
        let guest = self.hub.guests.get(&id);
        if guest.is_some_and(|guest| guest.due.is_some_and(|due| due <= self.now)) {
            self.remove(id, "nothing was heard of it", true);
        }
    }

    pub fn hub_gone(&mut self, session: usize, reason: &str, lost: bool) {
        if let Some(id) = self.sessions[session].agent
            && self
                .hub
                .guests
                .get(&id)
                .is_some_and(|guest| guest.session == Some(session))
        {
            self.remove(id, reason, lost);
        }
    }

    fn remove(&mut self, id: u64, reason: &str, lost: bool) {
        let Some(guest) = self.hub.guests.remove(&id) else {
            return;
        };
        self.hub.by_incarnation.remove(&guest.incarnation);
        if guest.known {
            self.tell_run(Word::Event(Event::AgentGone {
                agent: AgentId(id),
                reason: reason.to_owned(),
                lost,
            }));
        }
        self.tell_matching();
        self.look_soon();
    }

    pub fn hub_leaving(&mut self, session: usize) {
        let Some(id) = self.sessions[session].agent else {
            return;
        };
        let Some(guest) = self.hub.guests.get_mut(&id) else {
            return;
        };
        guest.serves = false;
        let mut slots = Vec::new();
        for (slot, seat) in (0..).zip(&mut guest.seats) {
            if matches!(seat, Seat::Serves | Seat::Leaves) {
                *seat = Seat::Leaves;
                slots.push(slot);
            }
        }
        if guest.known {
            let agent = AgentId(id);
            self.tell_run(Word::Event(Event::Release { agent, slots }));
        }
        self.tell_matching();
    }

    fn tell_matching(&mut self) {
        let hub = &self.hub;
        let mut guests = hub.guests.iter();
        let any = guests
            .any(|(id, guest)| guest.serves && guest.session.is_some() && !hub.unfit.contains(id));
        self.tell_run(Word::Event(Event::Matching { any }));
    }

    /// Gives what is free to the run, as far as it can use it; not always all at once.
    pub fn look(&mut self) {
        let Some(run) = &self.run else { return };
        let appetite = run.appetite() as usize;
        let seats = self.hub.guests.values().flat_map(|guest| &guest.seats);
        let mut has = seats.filter(|seat| **seat == Seat::Serves).count();
        let ids: Vec<u64> = self.hub.guests.keys().copied().collect();
        let mut later = false;
        for id in ids {
            if self.hub.unfit.contains(&id) {
                continue;
            }
            let Some(guest) = self.hub.guests.get_mut(&id) else {
                continue;
            };
            let Some(session) = guest.session.filter(|_| guest.serves) else {
                continue;
            };
            // What is on its way back must have arrived first.
            if guest.seats.contains(&Seat::Leaves) {
                continue;
            }
            let mut slots = Vec::new();
            for (slot, seat) in (0..).zip(&mut guest.seats) {
                if *seat != Seat::Free {
                    continue;
                }
                if has >= appetite || self.random.u32(0..4) == 0 {
                    later = true;
                } else {
                    *seat = Seat::Serves;
                    has += 1;
                    slots.push(slot);
                }
            }
            let Some(guest) = self.hub.guests.get_mut(&id).filter(|_| !slots.is_empty()) else {
                continue;
            };
            guest.known = true;
            let (incarnation, clock) = (guest.incarnation.clone(), guest.clock);
            let name = guest
                .machine
                .map(|machine| self.machines[machine].name.clone());
            let joined = AgentJoined {
                agent: AgentId(id),
                name: name.unwrap_or_default(),
                incarnation,
                environment_class: "c".into(),
                slots,
                clock,
            };
            self.tell_run(Word::Joined(joined, session));
        }
        if later && self.hub.looks_at <= self.now {
            self.hub.looks_at = self.now + self.random.u64(1_000..100_000);
            self.schedule(self.hub.looks_at, Happening::Look(self.life));
        }
    }

    /// Another run wants some slots of one agent.
    pub fn spare(&mut self) {
        let serving = self.hub.guests.iter_mut();
        let mut serving: Vec<(&u64, &mut Guest)> = serving
            .filter(|(_, guest)| guest.session.is_some() && guest.seats.contains(&Seat::Serves))
            .collect();
        if serving.is_empty() {
            return;
        }
        let at = self.random.usize(0..serving.len());
        let (id, guest) = &mut serving[at];
        let agent = AgentId(**id);
        let own = guest.seats.iter_mut().filter(|seat| **seat == Seat::Serves);
        let most = self.random.usize(1..4);
        let mut count = 0;
        for seat in own.take(most) {
            *seat = Seat::Leaves;
            count += 1;
        }
        self.tell_run(Word::Event(Event::Spare { agent, count }));
    }

    /// A word reaches the run.
    pub fn word(&mut self, word: Word) {
        if self.is_closing() {
            return;
        }
        match word {
            Word::Event(event) => self.step(event),
            Word::Joined(joined, session) => {
                self.outboxes.insert(joined.agent, session);
                if !std::mem::replace(&mut self.history_asked, true) {
                    let at = self.now + self.random.u64(0..150_000);
                    self.schedule(at, Happening::History(self.life));
                }
                self.step(joined.into());
            }
            Word::Back(back, session) => {
                self.outboxes.insert(back.agent, session);
                self.step(Event::AgentBack(back));
            }
        }
    }

    /// A coordinator that was started again waits for those whom its run knows.
    pub fn hub_take_up(&mut self) {
        let due = self.now + COMING_BACK;
        let (hub, mut awaited) = (&mut self.hub, Vec::new());
        let Some(run) = &mut self.run else { return };
        run.number_awaited(|incarnation| {
            if let Some(&id) = hub.by_incarnation.get(incarnation) {
                return AgentId(id);
            }
            hub.next += 1;
            let id = hub.next;
            hub.by_incarnation.insert(incarnation.to_owned(), id);
            let guest = Guest {
                machine: None,
                incarnation: incarnation.to_owned(),
                seats: Vec::new(),
                serves: false,
                session: None,
                due: Some(due),
                known: true,
                clock: Micros::ZERO,
            };
            hub.guests.insert(id, guest);
            awaited.push(id);
            AgentId(id)
        });
        for id in awaited {
            self.schedule(due, Happening::Overdue(self.life, id));
        }
        self.tell_matching();
    }
}
