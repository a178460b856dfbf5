//! A small world for the dispatcher: slots that join, are lost, lose their process, do not ask or do not take; and what must hold.

use evenkeel_schedule::{Dispatcher, Micros, Needs, Order, Weight};
use std::collections::BTreeMap;

/// One unit of a script, times in microseconds.
#[derive(Clone, Debug)]
pub struct Unit {
    pub expected: u64,
    pub actual: u64,
    pub known: bool,
    pub needs: Needs,
    /// How likely it is to fail, 0 where nothing says so.
    pub suspicion: u8,
}

/// What happens to a slot, or to a unit that waits, at some time.
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    Join {
        speed: u32,
    },
    Lose(u32),
    /// Its process ends: what it held goes up again.
    Clear(u32),
    /// It does not take the next unit that it is given.
    Refuse(u32),
    Reweigh {
        unit: u32,
        factor: u32,
    },
}

#[derive(Clone, Debug)]
pub struct Script {
    pub units: Vec<Unit>,
    /// Speeds in thousandths of those that are there from the start.
    pub slots: Vec<u32>,
    /// A kind of process that the second slot cannot have.
    pub barred: Option<u32>,
    /// The first slot is there and never asks.
    pub mute: bool,
    pub order: Order,
    pub happenings: Vec<(u64, Happening)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    Given(u32),
    Done,
}

struct Slot {
    speed: u64,
    held: Vec<u32>,
    /// When it ends what it has at work.
    ends: Option<u64>,
    refuses: bool,
    gone: bool,
}

/// Who ran what until when, in the order of the ends.
#[derive(Debug, Default, PartialEq)]
pub struct Played {
    pub runs: Vec<(u32, u32, u64)>,
}

struct World<'a> {
    script: &'a Script,
    dispatcher: Dispatcher,
    states: Vec<State>,
    slots: Vec<Slot>,
    now: u64,
    /// Slots that something happened to.
    stirred: Vec<u32>,
    version: u64,
    played: Played,
}

/// How often the world may be woken without anything else happening.
const WAKES: usize = 2_000;

/// Plays a script to its end. It panics where something does not hold.
pub fn play(script: &Script) -> Played {
    let mut world = World {
        script,
        dispatcher: Dispatcher::new(),
        states: vec![State::Waiting; script.units.len()],
        slots: Vec::new(),
        now: 0,
        stirred: Vec::new(),
        version: 0,
        played: Played::default(),
    };
    world.dispatcher.set_order(script.order);
    for &speed in &script.slots {
        world.join(speed);
    }
    if let Some(kind) = script.barred {
        world.dispatcher.bar(1, kind);
    }
    for unit in 0..script.units.len() as u32 {
        world.put_up(unit);
    }
    world.run();
    world.played
}

pub fn weight(unit: &Unit, factor: u64) -> Weight {
    let expected = Micros(unit.expected * factor);
    Weight {
        expected,
        high: Micros(expected.0 * if unit.known { 3 } else { 8 } / 2),
        order: Micros(expected.0 * if unit.known { 1 } else { 8 }),
        known: unit.known,
        early: if unit.known {
            0
        } else {
            (unit.expected % 32) as u16
        },
    }
}

impl World<'_> {
    fn join(&mut self, speed: u32) {
        let slot = self.slots.len() as u32;
        self.slots.push(Slot {
            speed: u64::from(speed),
            held: Vec::new(),
            ends: None,
            refuses: false,
            gone: false,
        });
        self.dispatcher.expect(slot, 0);
        self.dispatcher.open(slot);
        self.stirred.push(slot);
    }

    fn put_up(&mut self, unit: u32) {
        self.states[unit as usize] = State::Waiting;
        let state = &self.script.units[unit as usize];
        self.dispatcher.add(unit, weight(state, 1), &state.needs);
        self.dispatcher.suspect(unit, state.suspicion);
    }

    fn run(&mut self) {
        let mut happenings = self.script.happenings.clone();
        happenings.sort_by_key(|(at, _)| *at);
        let mut happenings = happenings.into_iter().peekable();
        let mut wakes = 0;
        while self.states.iter().any(|state| *state != State::Done) {
            self.ask();
            self.check_stall();
            let ends = (0..).zip(&self.slots);
            let ends = ends.filter_map(|(slot, state)| Some((state.ends?, slot)));
            let end: Option<(u64, u32)> = ends.min();
            let happens = happenings.peek().map(|(at, _)| (*at).max(self.now));
            let wake = self.dispatcher.wake_at(Micros(self.now)).map(|at| at.0);
            assert!(
                wake.is_none_or(|at| at > self.now),
                "a wake-up is later than now"
            );
            let others = end.map(|(at, _)| at).into_iter().chain(happens).min();
            if let Some(at) = wake.filter(|at| others.is_none_or(|other| *at < other)) {
                wakes += 1;
                assert!(wakes < WAKES, "it is woken for ever");
                self.now = at;
                continue;
            }
            wakes = 0;
            if let Some(at) = happens.filter(|at| end.is_none_or(|(end, _)| *at <= end)) {
                self.now = at;
                if let Some((_, happening)) = happenings.next() {
                    self.happen(happening);
                }
            } else if let Some((at, slot)) = end {
                self.now = at;
                self.end(slot);
            } else {
                // Whoever is left cannot run what is left.
                assert!(!self.could_go_on(), "a stall: {:?}", self.states);
                self.join(1000);
            }
        }
    }

    fn serves(&self, slot: u32) -> bool {
        let mute = self.script.mute && slot == 0;
        !mute && !self.slots[slot as usize].gone
    }

    /// Asks those that something happened to, as a run with many slots does.
    fn ask(&mut self) {
        self.isolate();
        let mut asked: Vec<u32> = self.dispatcher.take_due(Micros(self.now));
        asked.append(&mut self.stirred);
        let version = self.dispatcher.version();
        if version != self.version {
            self.version = version;
            asked.extend(0..self.slots.len() as u32);
        }
        asked.sort_unstable();
        asked.dedup();
        for &slot in &asked {
            if self.serves(slot) && self.dispatcher.is_free(slot) {
                self.give(slot, 1);
            }
        }
        for &slot in &asked {
            if self.serves(slot) {
                self.give(slot, 3);
            }
        }
        if let Some((slot, unit)) = self.dispatcher.stranded(Micros(self.now)) {
            let state = &mut self.slots[slot as usize];
            let at = state.held.iter().rposition(|held| *held == unit);
            assert!(
                at.is_some_and(|at| at > 0),
                "what is taken back waits behind another one"
            );
            state.held.retain(|held| *held != unit);
            self.dispatcher.finished(slot, unit, Micros(self.now));
            self.put_up(unit);
            self.stirred.extend(0..self.slots.len() as u32);
        }
    }

    fn isolate(&mut self) {
        let holds = |slot: &Slot| !slot.held.is_empty();
        let quiet = !self.slots.iter().any(holds);
        let alone = (0..).zip(&self.slots).find_map(|(slot, state)| {
            let first = *state.held.first()?;
            self.script.units[first as usize]
                .needs
                .exclusive
                .then_some(slot)
        });
        self.dispatcher.isolate(alone, quiet);
    }

    fn give(&mut self, slot: u32, most: usize) {
        let mut refused = Vec::new();
        for _ in 0..most {
            let Some(kind) = self.dispatcher.kind_for(slot) else {
                break;
            };
            self.dispatcher.turn(slot, kind);
            let Some(unit) = self.dispatcher.next(slot, Micros(self.now)) else {
                break;
            };
            self.check_given(slot, unit);
            if std::mem::take(&mut self.slots[slot as usize].refuses) {
                self.dispatcher.finished(slot, unit, Micros::ZERO);
                refused.push(unit);
                continue;
            }
            self.states[unit as usize] = State::Given(slot);
            for &lock in &self.script.units[unit as usize].needs.locks {
                self.dispatcher.hold(lock, Some(slot));
            }
            self.slots[slot as usize].held.push(unit);
            self.isolate();
            self.begin(slot);
        }
        for unit in refused {
            self.put_up(unit);
            self.dispatcher.refused(slot, unit);
        }
    }

    fn check_given(&self, slot: u32, unit: u32) {
        assert_eq!(
            self.states[unit as usize],
            State::Waiting,
            "unit {unit} is given to {slot} and nobody has it"
        );
        let needs = &self.script.units[unit as usize].needs;
        let barred = self.script.barred.filter(|_| slot == 1);
        assert_ne!(barred, Some(needs.kind), "a slot gets what it can run");
        for (other, state) in (0u32..)
            .zip(&self.slots)
            .filter(|(other, _)| *other != slot)
        {
            for &held in &state.held {
                let held = &self.script.units[held as usize].needs;
                let shared = needs.locks.iter().any(|lock| held.locks.contains(lock));
                assert!(!shared, "a lock has one holder: {slot} and {other}");
                assert!(
                    !needs.exclusive && !held.exclusive,
                    "what runs alone runs alone"
                );
            }
        }
    }

    fn begin(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        let Some(&unit) = state.held.first().filter(|_| state.ends.is_none()) else {
            return;
        };
        let took = (self.script.units[unit as usize].actual * 1000).div_ceil(state.speed);
        state.ends = Some(self.now + took.max(1));
        self.dispatcher.begun(slot, unit, Micros(self.now));
    }

    fn end(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        state.ends = None;
        let unit = state.held.remove(0);
        self.states[unit as usize] = State::Done;
        self.played.runs.push((unit, slot, self.now));
        self.dispatcher.finished(slot, unit, Micros(self.now));
        self.release();
        self.begin(slot);
        self.stirred.push(slot);
    }

    /// Locks that nobody needs any more are free.
    fn release(&mut self) {
        for lock in 0..LOCKS {
            let needs = |unit: &u32| {
                self.script.units[*unit as usize]
                    .needs
                    .locks
                    .contains(&lock)
            };
            if !self.slots.iter().any(|slot| slot.held.iter().any(needs)) {
                self.dispatcher.hold(lock, None);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Join { speed } => self.join(speed),
            Happening::Refuse(slot) => {
                if let Some(slot) = self.slots.get_mut(slot as usize) {
                    slot.refuses = true;
                }
            }
            Happening::Reweigh { unit, factor } => {
                if let Some(state) = self.script.units.get(unit as usize) {
                    self.dispatcher
                        .reweigh(unit, weight(state, u64::from(factor)));
                }
            }
            Happening::Lose(slot) | Happening::Clear(slot) => {
                let Some(state) = self.slots.get_mut(slot as usize).filter(|slot| !slot.gone)
                else {
                    return;
                };
                state.ends = None;
                let held = std::mem::take(&mut state.held);
                if matches!(happening, Happening::Lose(_)) {
                    state.gone = true;
                    self.dispatcher.close(slot);
                } else {
                    self.dispatcher.clear(slot);
                    self.stirred.push(slot);
                }
                self.release();
                held.into_iter().for_each(|unit| self.put_up(unit));
            }
        }
    }

    /// As long as something waits that a slot could run now, a slot has something or somebody is woken.
    fn check_stall(&self) {
        let busy = self.slots.iter().any(|slot| slot.ends.is_some());
        let woken = self.dispatcher.wake_at(Micros(self.now)).is_some();
        assert!(
            busy || woken || !self.could_go_on(),
            "units wait, nobody runs and nobody is woken: {:?}",
            self.states
        );
    }

    /// Whether something waits that one of those that ask could run, where nothing runs. What runs alone comes last.
    fn could_go_on(&self) -> bool {
        let units = self.script.units.iter().zip(&self.states);
        let waiting = units.filter(|(_, state)| **state == State::Waiting);
        let sociable = waiting.clone().any(|(unit, _)| !unit.needs.exclusive);
        let able = |unit: &Unit| {
            (0..self.slots.len() as u32).any(|slot| {
                let barred = self.script.barred.filter(|_| slot == 1);
                self.serves(slot) && barred != Some(unit.needs.kind)
            })
        };
        let mut waiting = waiting.filter(|(unit, _)| !unit.needs.exclusive || !sociable);
        waiting.any(|(unit, _)| able(unit))
    }
}

pub const LOCKS: u32 = 2;

/// How often each unit ran.
pub fn times(played: &Played) -> BTreeMap<u32, u32> {
    let mut times = BTreeMap::new();
    for (unit, ..) in &played.runs {
        *times.entry(*unit).or_default() += 1;
    }
    times
}
