//! Slots: one process at a time, what waits for it, and what it says. They follow commands as the agent's own do.

use super::model::Behaviour;
use super::world::{Happening, World};
use evenkeel_coordinator::record::Outcome;
use evenkeel_coordinator::run::{
    CaseEnded, Command, EndCause, FactBody, Farewell, InFlight, LeaseCommand, ProcessEnded,
    ProcessStarted, Refusal, RefusedReason, RunningCase,
};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Item {
    List(u32, u64),
    Lease(LeaseCommand),
    Idle,
    Recycle,
    Conclude,
    Finish(u32, Vec<String>),
}

impl Item {
    fn kind(&self) -> Option<u32> {
        match self {
            Item::List(kind, _) | Item::Finish(kind, _) => Some(*kind),
            Item::Lease(lease) => Some(lease.kind),
            Item::Idle | Item::Recycle | Item::Conclude => None,
        }
    }
}

struct Running {
    lease: u64,
    generation: u32,
    unit: usize,
    /// Indices into the model's cases, in the order of the declaration.
    cases: Vec<usize>,
    next: usize,
    /// The last case is done but for its tear-down.
    waits: bool,
    token: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Process {
    None,
    Starting,
    Up,
}

pub struct Slot {
    pub uid: u64,
    pub number: u32,
    /// Another one has its number: nobody talks to this one any more.
    pub replaced: bool,
    /// The one before it has not made room yet.
    pub queues_for_seat: bool,
    /// Of its process.
    kind: u32,
    queue: VecDeque<Item>,
    running: Option<Running>,
    process: Process,
    incarnation: u32,
    ends: u32,
    ordinal: u32,
    idle: bool,
    concluded: bool,
    closing: bool,
    list_ask: u64,
    finish_ask: u64,
    last_lease: u64,
    /// Suites that it has said it cannot be set up for.
    refused: Vec<u32>,
    token: u64,
}

impl Slot {
    pub fn new(uid: u64, number: u32, kind: u32) -> Slot {
        Slot {
            uid,
            number,
            replaced: false,
            queues_for_seat: false,
            kind,
            queue: VecDeque::new(),
            running: None,
            process: Process::None,
            incarnation: 0,
            ends: 0,
            ordinal: 0,
            idle: false,
            concluded: false,
            closing: false,
            list_ask: 0,
            finish_ask: 0,
            last_lease: 0,
            refused: Vec::new(),
            token: 0,
        }
    }

    fn finishes(&self) -> bool {
        self.queue
            .iter()
            .any(|item| matches!(item, Item::Finish(..)))
    }
}

impl World {
    pub fn slot(&mut self, machine: usize, uid: u64) -> Option<&mut Slot> {
        let hold = self.machines[machine].hold.as_mut()?;
        hold.slots.iter_mut().find(|slot| slot.uid == uid)
    }

    /// A fact of a slot that is there.
    fn say(&mut self, machine: usize, uid: u64, body: FactBody) {
        if let Some(slot) = self.slot(machine, uid) {
            let number = slot.number;
            self.tell(machine, number, body);
        }
    }

    pub fn slot_command(&mut self, machine: usize, uid: u64, command: Command) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        match command {
            Command::List { kind, ask, .. } => {
                // What it was asked before the session was cut it may be asked once more.
                if slot.list_ask != ask {
                    slot.list_ask = ask;
                    slot.queue.push_back(Item::List(kind, ask));
                }
            }
            Command::Lease(lease) => {
                slot.last_lease = slot.last_lease.max(lease.lease);
                // One that crossed the news of a process's end on its way is void already.
                if lease.ends == slot.ends {
                    self.take_lease(machine, uid, lease);
                }
            }
            Command::Idle { ends, .. } => {
                // A process that has run nothing yet has nothing to let go of, and one that was not meant keeps it.
                let any = slot.process == Process::Up || !slot.queue.is_empty();
                if ends == slot.ends && any {
                    slot.queue.push_back(Item::Idle);
                }
            }
            Command::Recycle { .. } => slot.queue.push_back(Item::Recycle),
            Command::Revoke {
                lease,
                from,
                generation,
                ..
            } => self.revoke(machine, uid, lease, generation, from),
            Command::Conclude { .. } => self.conclude(machine, uid),
            Command::Finish {
                kind, ask, carried, ..
            } => {
                if slot.finish_ask != ask {
                    slot.finish_ask = ask;
                    let carried = carried.into_iter().map(|(_, carry)| carry).collect();
                    slot.queue.push_back(Item::Finish(kind, carried));
                }
            }
            Command::Open { .. }
            | Command::CloseSlot { .. }
            | Command::Resume { .. }
            | Command::Close { .. } => unreachable!("those are the agent's"),
        }
        self.go_on(machine, uid);
    }

    fn take_lease(&mut self, machine: usize, uid: u64, lease: LeaseCommand) {
        let again = self.life > 1;
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        let mut before = slot
            .queue
            .iter()
            .rev()
            .filter(|item| !matches!(item, Item::Lease(_)));
        let idle = match before.next() {
            Some(Item::Idle) => true,
            Some(_) => false,
            None => slot.idle,
        };
        // One of another kind gets a process of its own anyway.
        let kinds = slot.queue.iter().rev().filter_map(Item::kind);
        let stays = kinds.chain([slot.kind]).next() == Some(lease.kind);
        if lease.fresh {
            slot.queue.push_back(Item::Recycle);
        }
        // A coordinator that was started again does not know who was told that nothing comes any more.
        assert!(
            again || lease.fresh || !(idle && stays) || slot.process != Process::Up,
            "a process that has let go of what its tests share is given {}",
            lease.unit
        );
        let last = lease.last;
        slot.queue.push_back(Item::Lease(lease));
        if last {
            slot.queue.push_back(Item::Recycle);
        }
    }

    /// Starts a process where one is wanted, else does what the one that is there can do now.
    fn go_on(&mut self, machine: usize, uid: u64) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        if slot.process == Process::None {
            let wanted = slot.queue.iter().any(|item| !matches!(item, Item::Idle));
            if wanted && !slot.closing && (!slot.concluded || slot.finishes()) {
                self.start(machine, uid);
            }
            return;
        }
        self.advance(machine, uid);
    }

    pub fn start(&mut self, machine: usize, uid: u64) {
        let delay = self.random.u64(1_000..80_000);
        let at = self.now + delay;
        let kinds = &self.model.kinds;
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        if slot.queues_for_seat || slot.closing || slot.process != Process::None {
            return;
        }
        if !slot.concluded {
            let able = |kind: u32| !slot.refused.contains(&kinds[kind as usize]);
            slot.queue.retain(|item| item.kind().is_none_or(able));
            if !able(slot.kind) && !slot.queue.iter().any(|item| item.kind().is_some()) {
                return;
            }
        }
        let wanted = slot.queue.iter().find_map(Item::kind);
        slot.kind = wanted.unwrap_or(slot.kind);
        slot.process = Process::Starting;
        slot.token += 1;
        let token = slot.token;
        self.schedule(at, Happening::ProcessUp(machine, uid, token));
    }

    pub fn process_up(&mut self, machine: usize, uid: u64, token: u64) {
        let took = Micros(self.random.u64(1_000..80_000));
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        if slot.process != Process::Starting || slot.token != token {
            return;
        }
        let (kind, number, concluded) = (slot.kind, slot.number, slot.concluded);
        let suite = self.model.suite_of_kind(kind);
        if self.unable.contains(&(machine, number, suite)) && !concluded {
            self.refuse(machine, uid, kind, suite);
            return;
        }
        let closing = self.model.closing;
        let finish = closing && self.model.finish;
        let bundles = self.model.bundles[suite as usize];
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.process = Process::Up;
        slot.ordinal = 0;
        slot.idle = false;
        let started = ProcessStarted {
            kind,
            took,
            incarnation: slot.incarnation,
            pid: 1,
            closing,
            finish,
            bundles,
            undivided: bundles,
            ..ProcessStarted::default()
        };
        self.say(machine, uid, FactBody::ProcessStarted(started));
        self.advance(machine, uid);
    }

    fn refuse(&mut self, machine: usize, uid: u64, kind: u32, suite: u32) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.process = Process::None;
        slot.refused.push(suite);
        slot.queue.clear();
        slot.ends += 1;
        let refusal = Refusal {
            kind,
            reason: RefusedReason::Setup,
            message: "the setup failed".into(),
            hint: String::new(),
            detail: String::new(),
        };
        self.say(machine, uid, FactBody::ProcessRefused(refusal));
    }

    /// Does what the process can do now.
    fn advance(&mut self, machine: usize, uid: u64) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        if slot.process != Process::Up {
            return;
        }
        while matches!(slot.queue.front(), Some(Item::Idle)) {
            slot.idle = true;
            slot.queue.pop_front();
        }
        if let Some(running) = &slot.running {
            let knows = slot.idle || !slot.queue.is_empty() || slot.closing;
            if running.waits && knows {
                self.finish_case(machine, uid);
            }
            return;
        }
        let wanted = slot.queue.front().and_then(Item::kind);
        if wanted.is_some_and(|kind| kind != slot.kind) {
            self.ends_in_order(machine, uid);
            return;
        }
        match slot.queue.pop_front() {
            None if slot.closing => self.ends_in_order(machine, uid),
            None | Some(Item::Idle) => {}
            Some(Item::List(kind, ask)) => {
                self.list(machine, uid, kind, ask);
                self.advance(machine, uid);
            }
            Some(Item::Recycle) if slot.ordinal == 0 => self.advance(machine, uid),
            Some(Item::Recycle | Item::Conclude) => self.ends_in_order(machine, uid),
            Some(Item::Finish(kind, carried)) => {
                slot.ordinal = 0;
                self.finished_with(kind, carried);
                self.ends_in_order(machine, uid);
            }
            Some(Item::Lease(lease)) => self.begin(machine, uid, lease),
        }
    }

    /// In one piece or in several, some of them late.
    fn list(&mut self, machine: usize, uid: u64, kind: u32, ask: u64) {
        let suite = self.model.suite_of_kind(kind);
        let own = self.model.units.iter().filter(|unit| unit.suite == suite);
        let mut units: VecDeque<l::Unit> = own
            .map(|unit| l::Unit {
                name: unit.name.clone(),
                size: 10,
                ..l::Unit::default()
            })
            .collect();
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        let incarnation = slot.incarnation;
        let mut at = self.now;
        loop {
            let size = self.random.usize(0..=units.len());
            let units_here: Vec<l::Unit> = units.drain(..size).collect();
            let more = !units.is_empty();
            let listed = FactBody::Listed {
                kind,
                ask,
                units: units_here,
                more,
            };
            self.schedule(
                at,
                Happening::Lists(machine, uid, incarnation, Box::new(listed)),
            );
            at += self.random.u64(0..200_000);
            if !more {
                break;
            }
        }
    }

    /// A part of a listing comes of the process that was asked for it.
    pub fn lists(&mut self, machine: usize, uid: u64, incarnation: u32, listed: FactBody) {
        let slot = self.slot(machine, uid);
        if slot.is_some_and(|slot| slot.process == Process::Up && slot.incarnation == incarnation) {
            self.say(machine, uid, listed);
        }
    }

    fn begin(&mut self, machine: usize, uid: u64, lease: LeaseCommand) {
        let suite = self.model.suite_of_kind(lease.kind);
        let unit = self.model.find(suite, &lease.unit);
        self.say(machine, uid, FactBody::UnitBegun { lease: lease.lease });
        let model = &self.model.units[unit];
        let cases = cases_of(&lease, model);
        let declared = cases
            .iter()
            .map(|&case| l::Case {
                id: model.key(case).id,
                group: model.group(case),
                ..l::Case::default()
            })
            .collect();
        let kills_loader = model.kills_loader;
        let token = self.next_number();
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.running = Some(Running {
            lease: lease.lease,
            generation: lease.generation,
            unit,
            cases,
            next: 0,
            waits: false,
            token,
        });
        slot.idle = false;
        if kills_loader {
            self.dies(machine, uid, EndCause::Died);
            return;
        }
        let declared = FactBody::Declared {
            lease: lease.lease,
            cases: declared,
            more: false,
            instead: Vec::new(),
        };
        self.say(machine, uid, declared);
        self.next_case(machine, uid);
    }

    fn next_case(&mut self, machine: usize, uid: u64) {
        let token = self.next_number();
        let units = &self.model.units;
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        let Some(running) = slot.running.as_mut() else {
            return;
        };
        let cases = &units[running.unit].cases;
        while let Some(&case) = running.cases.get(running.next)
            && cases[case].0 == Behaviour::Forgotten
        {
            running.next += 1;
        }
        let Some(&case) = running.cases.get(running.next) else {
            let lease = running.lease;
            slot.running = None;
            let closed = FactBody::UnitClosed {
                lease,
                setup: Micros(1),
                waited: Micros::ZERO,
            };
            self.say(machine, uid, closed);
            self.advance(machine, uid);
            return;
        };
        running.token = token;
        let (unit, duration) = (running.unit, cases[case].1);
        *self.attempts.entry((unit, case)).or_default() += 1;
        self.schedule(
            self.now + duration,
            Happening::CaseEnds(machine, uid, token),
        );
    }

    pub fn case_ends(&mut self, machine: usize, uid: u64, token: u64) {
        let units = &self.model.units;
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        let Some(running) = slot
            .running
            .as_mut()
            .filter(|running| running.token == token)
        else {
            return;
        };
        let case = running.cases[running.next];
        match units[running.unit].cases[case].0 {
            Behaviour::Crash => return self.dies(machine, uid, EndCause::Died),
            Behaviour::KilledAlways => {
                return self.dies(machine, uid, EndCause::KilledFromOutside);
            }
            Behaviour::KilledOnce if self.attempts[&(running.unit, case)] == 1 => {
                return self.dies(machine, uid, EndCause::KilledFromOutside);
            }
            Behaviour::Poison => return self.die(machine),
            _ => {}
        }
        let last = running.next + 1 == running.cases.len();
        if last && !slot.idle && !slot.closing && slot.queue.is_empty() {
            running.waits = true;
            let lease = running.lease;
            self.say(machine, uid, FactBody::Waiting { lease });
            return;
        }
        self.finish_case(machine, uid);
    }

    fn finish_case(&mut self, machine: usize, uid: u64) {
        let (units, clock) = (&self.model.units, self.machines[machine].clock);
        let (sick, now) = (self.machines[machine].sick, self.now);
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        let Some(running) = slot.running.as_mut() else {
            return;
        };
        let case = running.cases[running.next];
        let (behaviour, duration) = units[running.unit].cases[case];
        let outcome = match behaviour {
            Behaviour::Pass | Behaviour::KilledOnce if sick => Outcome::Failed,
            Behaviour::Pass | Behaviour::KilledOnce => Outcome::Passed,
            Behaviour::Fail => Outcome::Failed,
            Behaviour::Skip => Outcome::Skipped,
            Behaviour::Crash
            | Behaviour::KilledAlways
            | Behaviour::Forgotten
            | Behaviour::Poison => unreachable!("it does not end by itself"),
        };
        let ended = CaseEnded {
            lease: running.lease,
            generation: running.generation,
            case: running.next as u32,
            outcome,
            started: Micros((now + clock).saturating_sub(duration)),
            duration: Micros(duration),
            setup: Micros::ZERO,
            ordinal: slot.ordinal,
            text: None,
        };
        slot.ordinal += 1;
        running.next += 1;
        running.waits = false;
        let again = CaseEnded {
            outcome: Outcome::Failed,
            ..ended.clone()
        };
        self.say(machine, uid, FactBody::CaseEnded(ended));
        if self.mix.lies && self.random.u32(0..4) == 0 {
            self.say(machine, uid, FactBody::CaseEnded(again));
        }
        self.next_case(machine, uid);
    }

    /// An end that nobody planned, or that the agent makes.
    pub fn dies(&mut self, machine: usize, uid: u64, cause: EndCause) {
        let (units, clock) = (&self.model.units, self.machines[machine].clock);
        let now = self.now + clock;
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        if slot.process == Process::None {
            return;
        }
        let in_flight = slot.running.take().map(|running| {
            let loading = units[running.unit].kills_loader;
            let works = !loading && running.next < running.cases.len();
            InFlight {
                lease: running.lease,
                case: works.then_some(RunningCase {
                    index: running.next as u32,
                    started: Micros(now.saturating_sub(5)),
                    ordinal: slot.ordinal,
                }),
                loading,
            }
        });
        slot.queue.clear();
        slot.ends += 1;
        let ended = self.process_ends(machine, uid, cause, in_flight);
        self.say(machine, uid, FactBody::ProcessEnded(ended));
        self.owes_concluded(machine, uid);
        self.end_if_closing(machine, uid);
    }

    fn process_ends(
        &mut self,
        machine: usize,
        uid: u64,
        cause: EndCause,
        in_flight: Option<InFlight>,
    ) -> ProcessEnded {
        let slot = self.slot(machine, uid).expect("its process ends");
        let ended = ProcessEnded {
            kind: slot.kind,
            incarnation: slot.incarnation,
            cause,
            in_flight,
            explanation: "it died".into(),
            stderr_tail: String::new(),
            farewell: None,
        };
        slot.incarnation += 1;
        slot.process = Process::None;
        slot.idle = false;
        ended
    }

    /// A planned end. A process that ran something has something for the one that concludes the run.
    fn ends_in_order(&mut self, machine: usize, uid: u64) {
        let mut ended = self.process_ends(machine, uid, EndCause::Finished, None);
        let suite = self.model.suite_of_kind(ended.kind);
        let name = self.machines[machine].incarnation();
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        let carry = format!("{name}/{uid}/{}", slot.incarnation);
        let ran = slot.ordinal > 0;
        let starts = !slot.concluded
            && (!slot.closing || slot.queue.iter().any(|item| matches!(item, Item::Lease(_))));
        if ran {
            self.carried.push((suite, carry.clone()));
            ended.farewell = Some(Farewell {
                carry,
                ..Farewell::default()
            });
        }
        self.say(machine, uid, FactBody::ProcessEnded(ended));
        if starts {
            self.start(machine, uid);
        }
        self.owes_concluded(machine, uid);
        self.end_if_closing(machine, uid);
    }

    /// The run is concluded as a whole, with what processes left for that.
    fn finished_with(&mut self, kind: u32, carried: Vec<String>) {
        let suite = self.model.suite_of_kind(kind);
        let before = self.finished.insert(suite, carried);
        assert!(
            before.is_none() || self.life > 1,
            "the run is finished twice"
        );
    }

    fn conclude(&mut self, machine: usize, uid: u64) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.concluded = true;
        if slot.queue.iter().any(|item| matches!(item, Item::Conclude)) {
            return;
        }
        match slot.process {
            Process::Up => slot.queue.push_back(Item::Conclude),
            Process::Starting => self.end_process(machine, uid),
            Process::None => self.owes_concluded(machine, uid),
        }
    }

    fn owes_concluded(&mut self, machine: usize, uid: u64) {
        let slot = self.slot(machine, uid);
        if slot.is_some_and(|slot| slot.concluded && !slot.finishes()) {
            self.say(machine, uid, FactBody::Concluded);
        } else {
            self.go_on(machine, uid);
        }
    }

    /// After the session was cut: what does not stand any more is dropped, and what never arrived is given back.
    pub fn keep(&mut self, machine: usize, uid: u64, leases: &[u64]) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.queue
            .retain(|item| !matches!(item, Item::Lease(lease) if !leases.contains(&lease.lease)));
        let last = slot.last_lease;
        slot.last_lease = leases.iter().copied().fold(last, u64::max);
        for &lease in leases.iter().filter(|lease| **lease > last) {
            let returned = FactBody::Returned {
                lease,
                cases: Vec::new(),
                all: true,
            };
            self.say(machine, uid, returned);
        }
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        match &slot.running {
            Some(running) if !leases.contains(&running.lease) => self.end_process(machine, uid),
            Some(running) if running.waits => {
                let lease = running.lease;
                self.say(machine, uid, FactBody::Waiting { lease });
            }
            _ => {}
        }
        self.go_on(machine, uid);
    }

    fn revoke(&mut self, machine: usize, uid: u64, lease: u64, generation: u32, from: u32) {
        let units = &self.model.units;
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        let mut queue = slot.queue.iter();
        let queued = queue.position(|item| matches!(item, Item::Lease(l) if l.lease == lease));
        if let Some(queued) = queued {
            slot.queue.remove(queued);
            let returned = FactBody::Returned {
                lease,
                cases: Vec::new(),
                all: true,
            };
            self.say(machine, uid, returned);
            return;
        }
        let running = slot.running.as_mut();
        let Some(running) =
            running.filter(|running| running.lease == lease && running.generation < generation)
        else {
            return;
        };
        running.generation = generation;
        let unit = &units[running.unit];
        let mut keep = (running.next + 1)
            .max(from as usize)
            .min(running.cases.len());
        // Cases of one group stay together.
        while let Some(more) = (keep..running.cases.len()).rev().find(|&at| {
            let group = unit.group(running.cases[at]);
            let before = &running.cases[..keep];
            !group.is_empty() && before.iter().any(|&case| unit.group(case) == group)
        }) {
            keep = more + 1;
        }
        let cases: Vec<u32> = (keep as u32..running.cases.len() as u32).collect();
        running.cases.truncate(keep);
        let returned = FactBody::Returned {
            lease,
            cases,
            all: false,
        };
        self.say(machine, uid, returned);
        // Where the case that waits for what follows is the last now, it is known what follows: nothing of this unit.
        self.advance(machine, uid);
    }

    pub fn close_slot(&mut self, machine: usize, uid: u64, abort: bool) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.closing = true;
        if abort || slot.process != Process::Up {
            slot.queue.clear();
            self.end_process(machine, uid);
        }
        self.advance(machine, uid);
        self.end_if_closing(machine, uid);
    }

    /// A slot that is told to close says so when its process is gone.
    pub fn end_if_closing(&mut self, machine: usize, uid: u64) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        if slot.closing && slot.process == Process::None && !slot.queues_for_seat {
            self.say(machine, uid, FactBody::SlotClosed);
            self.slot_ended(machine, uid);
        }
    }
}

/// The cases of its unit that a lease has, by their places in the model.
pub fn cases_of(lease: &LeaseCommand, unit: &super::model::ModelUnit) -> Vec<usize> {
    (0..unit.cases.len())
        .filter(|&case| {
            let key = unit.key(case);
            (lease.only.is_empty() || lease.only.contains(&key)) && !lease.skip.contains(&key)
        })
        .collect()
}
