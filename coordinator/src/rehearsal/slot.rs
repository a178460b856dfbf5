//! A slot as it is played: one process at a time, what waits for it, and what it says. It follows commands as an agent's does.

use super::play::{Happening, Stage, Step};
use super::scene;
use crate::record::Outcome;
use crate::run::{
    CaseEnded, Command, EndCause, FactBody, InFlight, LeaseCommand, ProcessEnded, ProcessStarted,
    RunningCase,
};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;
use std::collections::{HashMap, HashSet, VecDeque};

/// Work that an agent grants ahead, what a case is taken to need before one was seen, and what is so long that it is granted
/// singly: as agents have it.
const AHEAD: u64 = 20_000;
const FIRST: u64 = 10_000;
const LONG: u64 = 40_000;

enum Item {
    List(u32, u64),
    Lease(Box<LeaseCommand>),
    Idle,
    Recycle,
    Conclude,
}

impl Item {
    /// The kind of process that it needs, if it needs a certain one.
    fn kind(&self) -> Option<u32> {
        match self {
            Item::List(kind, _) => Some(*kind),
            Item::Lease(lease) => Some(lease.kind),
            Item::Idle | Item::Recycle | Item::Conclude => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Process {
    None,
    Starting,
    Up,
}

/// The lease at work.
struct Running {
    lease: u64,
    generation: u32,
    unit: u32,
    more: bool,
    shared: bool,
    only: Vec<crate::run::CaseKey>,
    skip: Vec<crate::run::CaseKey>,
    /// Places in the unit of what it has, in the order of the declaration.
    cases: Vec<u32>,
    declared: bool,
    begun: Micros,
    /// The case at work, by its position: when it started, and when its own work ended.
    next: usize,
    started: Micros,
    worked: Micros,
    /// What loading and sharing took, in real time.
    setup: Micros,
    fixture: Micros,
    /// Cases below this position may have started.
    granted: usize,
    /// From here on it is asked for as soon as the process listens.
    asked: Option<u32>,
    waits_since: Option<Micros>,
    waited: Micros,
}

pub(super) struct SlotState {
    pub(super) agent: u32,
    pub(super) number: u32,
    /// What the first process takes to start, if that is known.
    boot: Option<Micros>,
    queue: VecDeque<Item>,
    process: Process,
    kind: u32,
    begun: Micros,
    incarnation: u32,
    /// Unplanned ends of its processes.
    ends: u32,
    ordinal: u32,
    idle: bool,
    closing: bool,
    closed: bool,
    running: Option<Running>,
    /// A bundle is under way, whose start is paid.
    in_bundle: bool,
    /// Units that its process has had.
    loaded: HashSet<u32>,
    /// What a case takes, by the moving average that its agent keeps.
    usual: u64,
    /// Of what it is doing.
    pub(super) token: u64,
}

impl SlotState {
    pub(super) fn new(agent: u32, number: u32, boot: Option<Micros>) -> SlotState {
        SlotState {
            agent,
            number,
            boot,
            queue: VecDeque::new(),
            process: Process::None,
            kind: 0,
            begun: Micros::ZERO,
            incarnation: 0,
            ends: 0,
            ordinal: 0,
            idle: false,
            closing: false,
            closed: false,
            running: None,
            in_bundle: false,
            loaded: HashSet::new(),
            usual: FIRST,
            token: 0,
        }
    }

    fn took(&mut self, case: Micros) {
        self.usual = (4 * self.usual + case.0) / 5;
    }

    /// How many cases may be ahead of the one that runs.
    fn window(&self) -> usize {
        let few = u64::from(self.usual <= LONG);
        (AHEAD / self.usual.max(1)).max(few) as usize
    }
}

impl Stage<'_> {
    fn suite(&self, slot: u32) -> &scene::Suite {
        let kind = self.slots[slot as usize].kind;
        &self.scene.suites[self.kinds[kind as usize] as usize]
    }

    /// When work that a slot begins now is done.
    fn after(&self, slot: u32, from: Micros, work: Micros) -> Micros {
        let agent = self.slots[slot as usize].agent;
        self.scene.agents[agent as usize].speed.after(from, work)
    }

    /// What a slot does now ends then.
    fn until(&mut self, slot: u32, at: Micros, step: Step) {
        let state = &mut self.slots[slot as usize];
        state.token += 1;
        let token = state.token;
        self.at(at, Happening::Slot(slot, token, step));
    }

    pub(super) fn open_slot(&mut self, slot: u32, kind: u32) {
        let state = &mut self.slots[slot as usize];
        state.kind = kind;
        if state.process == Process::None {
            self.start(slot);
        }
    }

    fn start(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        let wanted = state.queue.iter().find_map(Item::kind);
        state.kind = wanted.unwrap_or(state.kind);
        state.process = Process::Starting;
        state.begun = self.now;
        let boot = state.boot.take();
        let takes = boot.unwrap_or_else(|| self.suite(slot).start);
        self.until(slot, self.now + takes, Step::Up);
    }

    pub(super) fn slot_step(&mut self, slot: u32, step: Step) {
        match step {
            Step::Up => self.up(slot),
            Step::Lists { kind, ask, piece } => self.lists(slot, kind, ask, piece),
            Step::Loaded => self.loaded(slot),
            Step::CaseEnds => self.case_ends(slot),
            Step::Closes => self.closes(slot),
        }
    }

    fn up(&mut self, slot: u32) {
        let suite = self.suite(slot);
        let (bundles, undivided) = (suite.bundles.is_some(), suite.undivided);
        let now = self.now;
        let state = &mut self.slots[slot as usize];
        state.process = Process::Up;
        state.idle = false;
        state.ordinal = 0;
        state.loaded.clear();
        let started = ProcessStarted {
            kind: state.kind,
            took: now - state.begun,
            incarnation: state.incarnation,
            pid: 1,
            bundles,
            undivided,
            ..ProcessStarted::default()
        };
        self.say(slot, now, FactBody::ProcessStarted(started), true);
        self.advance(slot);
    }

    pub(super) fn slot_told(&mut self, slot: u32, command: Command) {
        let state = &mut self.slots[slot as usize];
        match command {
            Command::List { kind, ask, .. } => state.queue.push_back(Item::List(kind, ask)),
            // What crossed the news of a process's end on its way is void.
            Command::Lease(lease) if lease.ends != state.ends => {}
            Command::Idle { ends, .. } if ends != state.ends => {}
            Command::Lease(lease) => {
                if lease.fresh {
                    state.queue.push_back(Item::Recycle);
                }
                let last = lease.last;
                state.queue.push_back(Item::Lease(Box::new(lease)));
                if last {
                    state.queue.push_back(Item::Recycle);
                }
            }
            Command::Idle { .. } => state.queue.push_back(Item::Idle),
            Command::Recycle { .. } => state.queue.push_back(Item::Recycle),
            Command::Conclude { .. } | Command::Finish { .. } => {
                state.queue.push_back(Item::Conclude);
            }
            Command::Revoke {
                lease,
                generation,
                from,
                ..
            } => self.revoke(slot, lease, generation, from),
            Command::Cancel { lease, .. } => self.cancel(slot, lease),
            Command::CloseSlot { abort, .. } => self.close_slot(slot, abort),
            Command::Open { .. } | Command::Resume { .. } | Command::Close { .. } => {}
        }
        self.go_on(slot);
    }

    /// Starts a process where one is wanted, else does what the one that is there can do now.
    fn go_on(&mut self, slot: u32) {
        let state = &self.slots[slot as usize];
        if state.process == Process::None {
            let wanted = state.queue.iter().any(|item| !matches!(item, Item::Idle));
            if wanted && !state.closing {
                self.start(slot);
            }
            return;
        }
        self.advance(slot);
    }

    fn advance(&mut self, slot: u32) {
        loop {
            let bundles = self.suite(slot).bundles.is_some();
            let state = &mut self.slots[slot as usize];
            if state.process != Process::Up {
                return;
            }
            while matches!(state.queue.front(), Some(Item::Idle)) {
                state.idle = true;
                state.queue.pop_front();
            }
            if let Some(running) = &state.running {
                let knows = state.idle || !state.queue.is_empty() || state.closing;
                if running.waits_since.is_some() && knows {
                    self.finish_case(slot);
                }
                return;
            }
            let wanted = state.queue.front().and_then(Item::kind);
            if wanted.is_some_and(|kind| kind != state.kind) {
                self.ends_in_order(slot);
                return;
            }
            match state.queue.front() {
                None if state.closing => {
                    self.say_closed(slot);
                    return;
                }
                None | Some(Item::Idle) => return,
                Some(Item::Recycle) if state.ordinal == 0 => {
                    state.queue.pop_front();
                }
                Some(Item::Recycle) => {
                    state.queue.pop_front();
                    self.ends_in_order(slot);
                    return;
                }
                Some(Item::Conclude) => {
                    state.queue.pop_front();
                    self.say(slot, self.now, FactBody::Concluded, true);
                }
                Some(&Item::List(kind, ask)) => {
                    state.queue.pop_front();
                    self.list_next(slot, kind, ask, 0, self.now);
                    return;
                }
                // A bundle goes to it whole.
                Some(Item::Lease(_)) if bundles && !has_last(&state.queue) => return,
                Some(Item::Lease(_)) => {
                    if let Some(Item::Lease(lease)) = state.queue.pop_front() {
                        self.begin(slot, *lease);
                    }
                    return;
                }
            }
        }
    }

    fn list_next(&mut self, slot: u32, kind: u32, ask: u64, piece: u32, begun: Micros) {
        let suite = &self.scene.suites[self.kinds[kind as usize] as usize];
        let pieces = &suite.listing.pieces;
        let before = piece.checked_sub(1).map(|before| pieces[before as usize].0);
        let at = pieces
            .get(piece as usize)
            .map_or(Micros::ZERO, |(at, _)| *at);
        let takes = at - before.unwrap_or_default();
        self.until(slot, begun + takes, Step::Lists { kind, ask, piece });
    }

    /// A piece of the listing is known.
    fn lists(&mut self, slot: u32, kind: u32, ask: u64, piece: u32) {
        let suite = self.kinds[kind as usize];
        let pieces = &self.scene.suites[suite as usize].listing.pieces;
        let all = &self.of_suite[suite as usize];
        let before: usize = pieces
            .iter()
            .take(piece as usize)
            .map(|(_, n)| *n as usize)
            .sum();
        let more = (piece as usize) + 1 < pieces.len();
        let count = pieces
            .get(piece as usize)
            .map_or(0, |(_, count)| *count as usize);
        let end = if more {
            (before + count).min(all.len())
        } else {
            all.len()
        };
        let units = all[before.min(end)..end].iter().map(|&unit| {
            let unit = &self.scene.units[unit as usize];
            l::Unit {
                name: unit.name.clone(),
                path: unit.path.clone(),
                size: unit.size,
                ..l::Unit::default()
            }
        });
        let listed = FactBody::Listed {
            kind,
            ask,
            units: units.collect(),
            more,
        };
        self.say(slot, self.now, listed, !more);
        if more {
            self.list_next(slot, kind, ask, piece + 1, self.now);
        } else {
            self.advance(slot);
        }
    }

    fn begin(&mut self, slot: u32, lease: LeaseCommand) {
        let now = self.now;
        let suite = self.kinds[lease.kind as usize];
        let Some(&unit) = self.units.get(&(suite, lease.unit.as_str())) else {
            unreachable!("the run knows units by the listing, which is the scene's");
        };
        let number = lease.lease;
        self.say(slot, now, FactBody::UnitBegun { lease: number }, false);
        let on_scene = &self.scene.units[unit as usize];
        let startup = self.suite(slot).bundles.unwrap_or_default();
        let state = &mut self.slots[slot as usize];
        let load = if state.loaded.insert(unit) {
            on_scene.load
        } else {
            on_scene.reload
        };
        let paid = std::mem::replace(&mut state.in_bundle, lease.more);
        let startup = if paid { Micros::ZERO } else { startup };
        state.idle = false;
        state.running = Some(Running {
            lease: number,
            generation: lease.generation,
            unit,
            more: lease.more,
            shared: lease.shared,
            only: lease.only,
            skip: lease.skip,
            cases: Vec::new(),
            declared: false,
            begun: now,
            next: 0,
            started: now,
            worked: now,
            setup: Micros::ZERO,
            fixture: Micros::ZERO,
            granted: 1,
            asked: None,
            waits_since: None,
            waited: Micros::ZERO,
        });
        let at = self.after(slot, now, load + startup);
        self.until(slot, at, Step::Loaded);
    }

    fn loaded(&mut self, slot: u32) {
        let now = self.now;
        let units = &self.scene.units;
        let Some(running) = self.slots[slot as usize].running.as_mut() else {
            return;
        };
        let unit = &units[running.unit as usize];
        running.setup = now - running.begun;
        running.declared = true;
        let all = 0..unit.cases.len() as u32;
        running.cases = if running.only.is_empty() && running.skip.is_empty() {
            all.collect()
        } else {
            let only: HashSet<(&str, u32)> = keys(&running.only);
            let skip: HashSet<(&str, u32)> = keys(&running.skip);
            let has = |case: &u32| {
                let case = &unit.cases[*case as usize];
                let key = (case.id.as_str(), case.occurrence);
                (only.is_empty() || only.contains(&key)) && !skip.contains(&key)
            };
            all.filter(has).collect()
        };
        let declared = running.cases.iter().map(|&case| {
            let case = &unit.cases[case as usize];
            l::Case {
                id: case.id.clone(),
                occurrence: case.occurrence,
                group: case.group.clone(),
                ..l::Case::default()
            }
        });
        let body = FactBody::Declared {
            lease: running.lease,
            cases: declared.collect(),
            more: false,
            instead: Vec::new(),
        };
        let shared = running.shared;
        self.say(slot, now, body, shared);
        self.answer(slot);
        self.next_case(slot);
    }

    fn next_case(&mut self, slot: u32) {
        let now = self.now;
        let scene = self.scene;
        let grants = self.suite(slot).grants;
        let agent = self.slots[slot as usize].agent;
        let speed = &scene.agents[agent as usize].speed;
        let state = &mut self.slots[slot as usize];
        let window = state.window();
        let Some(running) = state.running.as_mut() else {
            return;
        };
        let unit = &scene.units[running.unit as usize];
        let Some(&number) = running.cases.get(running.next) else {
            let at = speed.after(now, unit.closing);
            self.until(slot, at, Step::Closes);
            return;
        };
        let case = &unit.cases[number as usize];
        let started = running.next + 1;
        if grants && running.next >= running.granted {
            running.granted = running.next + window.max(1);
        } else if grants
            && running.next > 0
            && running.granted - started.min(running.granted) <= window / 2
        {
            running.granted = running.granted.max(started + window);
        }
        running.started = speed.after(now, case.between);
        let shared = if running.next == 0 {
            unit.fixture
        } else {
            Micros::ZERO
        };
        let ready = speed.after(running.started, shared);
        running.fixture = ready - running.started;
        let mut at = speed.after(ready, case.work);
        if case.hangs > Micros::ZERO && self.hung.insert((running.unit, number)) {
            at += case.hangs;
        }
        self.until(slot, at, Step::CaseEnds);
    }

    fn case_ends(&mut self, slot: u32) {
        let now = self.now;
        let waits = self.suite(slot).waits;
        let state = &mut self.slots[slot as usize];
        let Some(running) = state.running.as_mut() else {
            return;
        };
        running.worked = now;
        let last = running.next + 1 == running.cases.len();
        if waits && last && !state.idle && !state.closing && state.queue.is_empty() {
            running.waits_since = Some(now);
            let lease = running.lease;
            self.say(slot, now, FactBody::Waiting { lease }, true);
            // A process that waits listens.
            self.answer(slot);
            return;
        }
        self.finish_case(slot);
    }

    fn finish_case(&mut self, slot: u32) {
        let now = self.now;
        let units = &self.scene.units;
        let state = &mut self.slots[slot as usize];
        let Some(running) = state.running.as_mut() else {
            return;
        };
        if let Some(since) = running.waits_since.take() {
            running.waited += now - since;
        }
        let case = running.cases[running.next];
        let fails = units[running.unit as usize].cases[case as usize].fails;
        let took = running.worked - running.started;
        running.setup += running.fixture;
        let ended = CaseEnded {
            lease: running.lease,
            generation: running.generation,
            case: running.next as u32,
            outcome: if fails {
                Outcome::Failed
            } else {
                Outcome::Passed
            },
            started: running.started,
            duration: took,
            setup: running.fixture,
            ordinal: state.ordinal,
            text: None,
        };
        running.next += 1;
        state.ordinal += 1;
        state.took(took);
        self.say(slot, now, FactBody::CaseEnded(ended), fails);
        self.answer(slot);
        self.next_case(slot);
    }

    fn closes(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        let Some(running) = state.running.take() else {
            return;
        };
        let reserve = state
            .queue
            .iter()
            .any(|item| matches!(item, Item::Lease(_)));
        let closed = FactBody::UnitClosed {
            lease: running.lease,
            setup: running.setup,
            waited: running.waited,
        };
        self.say(slot, self.now, closed, !reserve && !running.more);
        self.advance(slot);
    }

    fn revoke(&mut self, slot: u32, lease: u64, generation: u32, from: u32) {
        let grants = self.suite(slot).grants;
        let state = &mut self.slots[slot as usize];
        let mut queue = state.queue.iter();
        let queued = queue.position(|item| matches!(item, Item::Lease(l) if l.lease == lease));
        if let Some(queued) = queued {
            state.queue.remove(queued);
            let cases = Vec::new();
            let all = true;
            self.say(
                slot,
                self.now,
                FactBody::Returned { lease, cases, all },
                true,
            );
            return;
        }
        let Some(running) = state.running.as_mut() else {
            return;
        };
        if running.lease != lease || running.generation >= generation {
            return;
        }
        running.generation = generation;
        running.asked = Some(from);
        if running.declared && (grants || running.waits_since.is_some()) {
            self.answer(slot);
        }
    }

    /// Gives back what is asked for and has not started.
    fn answer(&mut self, slot: u32) {
        let grants = self.suite(slot).grants;
        let units = &self.scene.units;
        let Some(running) = self.slots[slot as usize].running.as_mut() else {
            return;
        };
        let Some(from) = running.asked.take() else {
            return;
        };
        let unit = &units[running.unit as usize];
        let begun = if grants {
            running.granted.max(running.next)
        } else {
            running.next + usize::from(running.waits_since.is_some())
        };
        let keep = begun.max(from as usize).min(running.cases.len());
        let keep = whole_groups(unit, &running.cases, keep);
        let cases = (keep as u32..running.cases.len() as u32).collect();
        running.cases.truncate(keep);
        let lease = running.lease;
        let all = false;
        self.say(
            slot,
            self.now,
            FactBody::Returned { lease, cases, all },
            true,
        );
    }

    /// A planned end of a process; what waits starts another one.
    fn ends_in_order(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        let ended = ProcessEnded {
            kind: state.kind,
            incarnation: state.incarnation,
            cause: EndCause::Finished,
            in_flight: None,
            explanation: "as it was asked to".to_owned(),
            stderr_tail: String::new(),
            farewell: None,
        };
        state.incarnation += 1;
        state.process = Process::None;
        state.idle = false;
        state.in_bundle = false;
        let closing = state.closing;
        self.say(slot, self.now, FactBody::ProcessEnded(ended), false);
        if !closing {
            self.start(slot);
        }
    }

    /// What is queued is dropped. A process that has it at work is ended in the middle of it, and what waits behind it with it.
    fn cancel(&mut self, slot: u32, lease: u64) {
        let state = &mut self.slots[slot as usize];
        state
            .queue
            .retain(|item| !matches!(item, Item::Lease(queued) if queued.lease == lease));
        let running = state.running.take_if(|running| running.lease == lease);
        let Some(running) = running else { return };
        let at_work = running.declared && running.next < running.cases.len();
        let case = at_work.then_some(RunningCase {
            index: running.next as u32,
            started: running.started,
            ordinal: state.ordinal,
        });
        let ended = ProcessEnded {
            kind: state.kind,
            incarnation: state.incarnation,
            cause: EndCause::Ended,
            in_flight: Some(InFlight {
                lease,
                case,
                loading: !running.declared,
            }),
            explanation: "ended by the agent: it was cancelled".to_owned(),
            stderr_tail: String::new(),
            farewell: None,
        };
        state.incarnation += 1;
        state.ends += 1;
        state.process = Process::None;
        (state.idle, state.in_bundle) = (false, false);
        // Whatever it was to come to does not.
        state.token += 1;
        state.queue.clear();
        let closing = state.closing;
        self.say(slot, self.now, FactBody::ProcessEnded(ended), true);
        if closing {
            self.say_closed(slot);
        }
    }

    pub(super) fn close_slot(&mut self, slot: u32, abort: bool) {
        let state = &mut self.slots[slot as usize];
        state.closing = true;
        if abort || state.process != Process::Up {
            state.queue.clear();
            state.running = None;
            state.token += 1;
            state.process = Process::None;
            self.say_closed(slot);
        }
    }

    fn say_closed(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        if !std::mem::replace(&mut state.closed, true) {
            self.say(slot, self.now, FactBody::SlotClosed, true);
        }
    }
}

/// The first position from `keep` on that separates no group.
fn whole_groups(unit: &scene::Unit, cases: &[u32], mut keep: usize) -> usize {
    let group = |at: usize| unit.cases[cases[at] as usize].group.as_str();
    if (0..cases.len()).all(|at| group(at).is_empty()) {
        return keep;
    }
    let mut last: HashMap<&str, usize> = HashMap::new();
    for at in (0..cases.len()).filter(|&at| !group(at).is_empty()) {
        last.insert(group(at), at);
    }
    let mut at = 0;
    while at < keep {
        if let Some(&last) = last.get(group(at)) {
            keep = keep.max(last + 1);
        }
        at += 1;
    }
    keep
}

fn keys(keys: &[crate::run::CaseKey]) -> HashSet<(&str, u32)> {
    let keys = keys.iter();
    keys.map(|key| (key.id.as_str(), key.occurrence)).collect()
}

/// Whether the queue holds the last lease of those that belong together at its front.
fn has_last(queue: &VecDeque<Item>) -> bool {
    let mut queue = queue.iter();
    queue.any(|item| matches!(item, Item::Lease(lease) if !lease.more))
}
