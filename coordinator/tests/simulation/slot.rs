//! Slots: one process at a time, what waits for it, and what it says. They follow commands as the agent's own do.

mod process;

use super::world::{Happening, World};
use evenkeel_coordinator::run::{Command, FactBody, LeaseCommand};
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
    /// What the case at work takes, and whether it is going to fail.
    takes: u64,
    fails: bool,
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

    /// Leases that it has, at work and waiting.
    pub fn holds(&self) -> impl Iterator<Item = u64> + '_ {
        let queued = self.queue.iter().filter_map(|item| match item {
            Item::Lease(lease) => Some(lease.lease),
            _ => None,
        });
        let running = self.running.iter().map(|running| running.lease);
        running.chain(queued)
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
    pub(super) fn say(&mut self, machine: usize, uid: u64, body: FactBody) {
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
            Command::Cancel { lease, .. } => self.cancel(machine, uid, lease),
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

    /// A lease has ended: nothing of it is run any more.
    fn cancel(&mut self, machine: usize, uid: u64, lease: u64) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.queue
            .retain(|item| !matches!(item, Item::Lease(queued) if queued.lease == lease));
        if slot
            .running
            .as_ref()
            .is_some_and(|running| running.lease == lease)
        {
            self.end_process(machine, uid);
        }
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
