//! Machines with an agent each, as far as a run can see them: what an agent holds of the run, what it keeps until it is
//! acknowledged, what it does when it is cut off, told to go, stopped or killed.

use super::network::{Down, Up};
use super::slot::Slot;
use super::world::{Happening, World};
use evenkeel_coordinator::run::{Command, EndCause, Fact, FactBody};
use evenkeel_schedule::Micros;
use std::collections::VecDeque;

/// How long a machine that was lost or has gone takes to come again, at most.
const BOOT: u64 = 8_000_000;

/// One machine. The agent on it may be started several times.
pub struct Machine {
    pub name: String,
    /// How often its agent has been started.
    pub boot: u32,
    pub alive: bool,
    /// What happens while it stands still is done when it goes on.
    pub frozen: Option<Vec<Happening>>,
    pub slots: u32,
    /// Its clock, as it differs from the world's.
    pub clock: u64,
    /// Everything fails on it.
    pub sick: bool,
    pub leaving: bool,
    /// The session that it thinks it has.
    pub session: Option<usize>,
    pub hold: Option<Hold>,
    /// What is to be opened when what it has of the run has come to its end.
    pub reopened: Option<Command>,
}

/// Facts that are told and not acknowledged, by their sequence.
pub type Kept = VecDeque<(u64, Fact)>;

/// What an agent has of the run.
pub struct Hold {
    pub opening: u64,
    pub slots: Vec<Slot>,
    kept: Kept,
    sequence: u64,
    /// Facts go to this session at once; until the run has taken it up again they are kept only.
    way: Option<usize>,
    /// Nothing new is opened in it.
    shut: bool,
    /// Nobody needs to hear of it.
    over: bool,
}

impl Machine {
    pub fn incarnation(&self) -> String {
        format!("{}.{}", self.name, self.boot)
    }
}

impl World {
    /// The agent tries to begin a session.
    pub fn connect(&mut self, machine: usize, boot: u32) {
        let own = &self.machines[machine];
        if !own.alive || own.boot != boot || own.session.is_some() {
            return;
        }
        if self.run.is_none() {
            self.connect_later(machine);
            return;
        }
        let own = &self.machines[machine];
        let held = own.hold.as_ref().filter(|hold| !hold.over).map(|hold| {
            let slots = hold.slots.iter().filter(|slot| !slot.replaced);
            (hold.opening, slots.map(|slot| slot.number).collect())
        });
        let hello = Up::Hello {
            incarnation: own.incarnation(),
            held,
            clock: Micros(self.now + own.clock),
            leaving: own.leaving,
        };
        let session = self.begin_session(machine, boot);
        self.machines[machine].session = Some(session);
        self.send_up(session, hello);
        self.say_goodbye_if_done(machine);
    }

    pub fn connect_later(&mut self, machine: usize) {
        let at = self.now + self.random.u64(20_000..1_500_000);
        let boot = self.machines[machine].boot;
        self.schedule(at, Happening::Connect(machine, boot));
    }

    /// The agent sees that its session is gone.
    pub fn agent_notices(&mut self, session: usize) {
        let machine = self.sessions[session].machine;
        let own = &mut self.machines[machine];
        if own.session != Some(session) {
            return;
        }
        own.session = None;
        if let Some(hold) = &mut own.hold {
            hold.way = None;
        }
        self.connect_later(machine);
    }

    /// A message of the coordinator has arrived.
    pub fn heard(&mut self, session: usize, message: Down) {
        let machine = self.sessions[session].machine;
        if self.machines[machine].session != Some(session) {
            return;
        }
        match message {
            Down::Ends => self.agent_notices(session),
            Down::Ack(sequence) => {
                self.forget(machine, sequence);
                self.finish_hold(machine);
            }
            Down::Command(command) => {
                if self.talk {
                    eprintln!(
                        "{} -> {}: {command:?}",
                        self.now,
                        self.machines[machine].incarnation()
                    );
                }
                self.command(machine, session, command);
            }
        }
    }

    fn command(&mut self, machine: usize, session: usize, command: Command) {
        match command {
            Command::Open { .. } => self.open(machine, session, command),
            Command::Close { abort } => {
                if self.machines[machine].hold.is_some() {
                    self.machines[machine].reopened = None;
                    self.close_hold(machine, abort);
                }
            }
            Command::CloseSlot { slot, abort } => {
                let Some(hold) = &self.machines[machine].hold else {
                    return;
                };
                match hold.slot(slot) {
                    Some(uid) => self.close_slot(machine, uid, abort),
                    None if !hold.shut => self.tell(machine, slot, FactBody::SlotClosed),
                    None => {}
                }
            }
            Command::Resume { sequence, slots } => {
                if self.planted == Some(super::planted::Fault::ForgottenWhenHeard) {
                    self.forget(machine, sequence);
                }
                let Some(hold) = &mut self.machines[machine].hold else {
                    return;
                };
                hold.way = Some(session);
                // What is not above it has been heard, and is kept until it is durable.
                let unheard = hold.kept.iter().filter(|(kept, _)| *kept > sequence);
                let again: Vec<(u64, Fact)> = unheard.cloned().collect();
                for (sequence, fact) in again {
                    self.send_fact(machine, sequence, fact);
                }
                for (slot, leases) in slots {
                    let hold = self.machines[machine].hold.as_ref();
                    if let Some(uid) = hold.and_then(|hold| hold.slot(slot)) {
                        self.keep(machine, uid, &leases);
                    }
                }
                self.finish_hold(machine);
            }
            Command::List { slot, .. }
            | Command::Revoke { slot, .. }
            | Command::Idle { slot, .. }
            | Command::Recycle { slot }
            | Command::Cancel { slot, .. }
            | Command::Conclude { slot }
            | Command::Finish { slot, .. } => self.tell_slot(machine, slot, command),
            Command::Lease(ref lease) => self.tell_slot(machine, lease.slot, command),
        }
    }

    fn tell_slot(&mut self, machine: usize, slot: u32, command: Command) {
        let hold = self.machines[machine].hold.as_ref();
        if let Some(uid) = hold.and_then(|hold| hold.slot(slot)) {
            self.slot_command(machine, uid, command);
        }
    }

    /// Slots serve the run from now on, beside those that do already.
    fn open(&mut self, machine: usize, session: usize, command: Command) {
        let Command::Open {
            opening,
            ref shards,
            ..
        } = command
        else {
            return;
        };
        if let Some(hold) = &self.machines[machine].hold {
            if hold.opening != opening {
                self.close_hold(machine, true);
            }
            if self.machines[machine]
                .hold
                .as_ref()
                .is_some_and(|hold| hold.shut)
            {
                self.machines[machine].reopened = Some(command);
                return;
            }
        }
        if self.machines[machine].hold.is_none() {
            self.machines[machine].hold = Some(Hold {
                opening,
                slots: Vec::new(),
                kept: VecDeque::new(),
                sequence: 1,
                way: Some(session),
                shut: false,
                over: false,
            });
        }
        for (number, _, kind) in shards.clone() {
            let uid = self.next_number();
            let Some(hold) = &mut self.machines[machine].hold else {
                return;
            };
            // What was there is not heard of any more, and makes room first.
            let before = hold.slot(number);
            let mut slot = Slot::new(uid, number, kind);
            slot.queues_for_seat = before.is_some();
            if let Some(before) = before
                && let Some(before) = hold.slots.iter_mut().find(|slot| slot.uid == before)
            {
                before.replaced = true;
            }
            hold.slots.push(slot);
            match before {
                Some(before) => self.close_slot(machine, before, true),
                None => self.start(machine, uid),
            }
        }
    }

    /// Ends what the agent has of the run; what runs is finished first, unless it is to be broken off.
    fn close_hold(&mut self, machine: usize, abort: bool) {
        let Some(hold) = &mut self.machines[machine].hold else {
            return;
        };
        (hold.shut, hold.over) = (true, true);
        let uids: Vec<u64> = hold.slots.iter().map(|slot| slot.uid).collect();
        for uid in uids {
            self.close_slot(machine, uid, abort);
        }
        self.finish_hold(machine);
    }

    /// A slot has come to its end.
    pub fn slot_ended(&mut self, machine: usize, uid: u64) {
        let leaving = self.machines[machine].leaving;
        let Some(hold) = &mut self.machines[machine].hold else {
            return;
        };
        let Some(at) = hold.slots.iter().position(|slot| slot.uid == uid) else {
            return;
        };
        let number = hold.slots.remove(at).number;
        let next = hold.slots.iter_mut().find(|slot| slot.number == number);
        let next = next.map(|slot| {
            slot.queues_for_seat = false;
            slot.uid
        });
        hold.shut |= leaving && hold.slots.is_empty();
        if let Some(next) = next {
            self.start(machine, next);
            self.end_if_closing(machine, next);
        }
        self.finish_hold(machine);
    }

    /// Where all is told that has to be, nothing of the run is left here.
    fn finish_hold(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        let done = own.hold.as_ref().is_some_and(|hold| {
            hold.shut && hold.slots.is_empty() && (hold.over || hold.kept.is_empty())
        });
        if !done {
            return;
        }
        own.hold = None;
        if let (Some(open), Some(session)) = (own.reopened.take(), own.session) {
            self.open(machine, session, open);
        }
        self.say_goodbye_if_done(machine);
    }

    fn say_goodbye_if_done(&mut self, machine: usize) {
        let own = &self.machines[machine];
        if let (true, None, Some(session)) = (own.leaving, &own.hold, own.session) {
            self.send_up(session, Up::Goodbye);
            self.leave(machine);
        }
    }

    pub fn drain(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        if !own.alive || std::mem::replace(&mut own.leaving, true) {
            return;
        }
        let boot = own.boot;
        let at = self.now + self.random.u64(2_000_000..20_000_000);
        self.schedule(at, Happening::Drained(machine, boot));
        let own = &self.machines[machine];
        if let Some(session) = own.session {
            self.send_up(session, Up::Leaving);
        }
        if let Some(hold) = &mut self.machines[machine].hold {
            hold.shut |= hold.slots.is_empty();
        }
        self.finish_hold(machine);
        self.say_goodbye_if_done(machine);
    }

    /// What still runs is broken off: an agent that wants to go waits only so long.
    pub fn drained(&mut self, machine: usize, boot: u32) {
        let own = &mut self.machines[machine];
        if !own.alive || !own.leaving || own.boot != boot {
            return;
        }
        own.reopened = None;
        let Some(hold) = &mut own.hold else { return };
        hold.shut = true;
        let uids: Vec<u64> = hold.slots.iter().map(|slot| slot.uid).collect();
        for uid in uids {
            self.close_slot(machine, uid, true);
        }
        self.finish_hold(machine);
    }

    /// The agent is there no more. It, or another one of its name, comes again later.
    fn leave(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        own.alive = false;
        own.leaving = false;
        own.session = None;
        own.hold = None;
        own.reopened = None;
        own.frozen = None;
        let at = self.now + self.random.u64(10_000..BOOT);
        self.schedule(at, Happening::Boot(machine));
    }

    pub fn boot(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        own.alive = true;
        own.boot += 1;
        let boot = own.boot;
        self.connect(machine, boot);
    }

    /// The machine is gone at once. Whether the other end sees that depends on who closes the connection.
    pub fn die(&mut self, machine: usize) {
        if !self.machines[machine].alive {
            return;
        }
        if self.talk {
            eprintln!("{} {} dies", self.now, self.machines[machine].incarnation());
        }
        let session = self.machines[machine].session;
        let silent = self.random.bool();
        self.leave(machine);
        if let Some(session) = session {
            self.lose_end(session, silent);
        }
    }

    pub fn freeze(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        if !own.alive || own.frozen.is_some() {
            return;
        }
        own.frozen = Some(Vec::new());
        let (boot, session) = (own.boot, own.session);
        let long = self.random.bool();
        let span = self.random.u64(if long {
            1_000..12_000_000
        } else {
            1_000..1_500_000
        });
        self.schedule(self.now + span, Happening::Thaw(machine, boot));
        if let Some(session) = session {
            self.falls_silent(session);
        }
    }

    pub fn thaw(&mut self, machine: usize, boot: u32) {
        let own = &mut self.machines[machine];
        if own.boot != boot {
            return;
        }
        let (deferred, session) = (own.frozen.take(), own.session);
        for happening in deferred.into_iter().flatten() {
            self.schedule(self.now, happening);
        }
        if let Some(session) = session {
            self.speaks_again(session);
        }
    }

    /// A slot says what happened. It is kept until it is acknowledged.
    pub fn tell(&mut self, machine: usize, slot: u32, body: FactBody) {
        let own = &mut self.machines[machine];
        let fact = Fact {
            at: Micros(self.now + own.clock),
            slot,
            body,
        };
        let Some(hold) = &mut own.hold else { return };
        let sequence = hold.sequence;
        hold.sequence += 1;
        hold.kept.push_back((sequence, fact.clone()));
        self.send_fact(machine, sequence, fact);
    }

    fn send_fact(&mut self, machine: usize, sequence: u64, fact: Fact) {
        let own = &self.machines[machine];
        let Some(hold) = &own.hold else { return };
        if let Some(way) = hold.way.filter(|way| own.session == Some(*way)) {
            let facts = Up::Facts {
                opening: hold.opening,
                first_sequence: sequence,
                sent_at: Micros(self.now + own.clock),
                facts: vec![fact],
            };
            // Now and then a message arrives twice.
            if self.random.u32(0..20) == 0 {
                self.send_up(way, facts.clone());
            }
            self.send_up(way, facts);
        }
    }

    /// The run has everything up to here.
    fn forget(&mut self, machine: usize, sequence: u64) {
        let Some(hold) = &mut self.machines[machine].hold else {
            return;
        };
        let known = hold.kept.partition_point(|(kept, _)| *kept <= sequence);
        let forgotten: Kept = hold.kept.drain(..known).collect();
        if !hold.over {
            self.check_forgotten(&forgotten);
        }
    }

    /// A process is ended by its agent, because it was told to or because what it ran is not its own.
    pub fn end_process(&mut self, machine: usize, uid: u64) {
        self.dies(machine, uid, EndCause::Ended);
    }
}

impl Hold {
    /// Whether what it tells goes to this session at once.
    pub fn is_heard_over(&self, session: usize) -> bool {
        self.way == Some(session) && !self.over
    }

    /// The slot of this number that the coordinator talks to.
    pub fn slot(&self, number: u32) -> Option<u64> {
        let mut slots = self.slots.iter();
        let found = slots.find(|slot| slot.number == number && !slot.replaced);
        found.map(|slot| slot.uid)
    }
}
