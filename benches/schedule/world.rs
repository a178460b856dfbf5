//! The machines: a discrete-event simulation of slots at the ends of round trips, and of a coordinator that hears of them.
//!
//! A lease takes half a round trip to its slot, a fact half of one back. A slot runs what it holds one after the other. What a policy
//! decides with is what it heard: it never sees a time before it has passed.

use crate::model::Instance;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Half of a round trip, in microseconds.
pub const WAY: u64 = 1000;

/// What a coordinator hears from a slot, and when it happened.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    Begun {
        slot: u32,
        unit: u32,
        at: u64,
    },
    Ended {
        slot: u32,
        unit: u32,
        at: u64,
    },
    /// The slot no longer has it, and has not ended it.
    Back {
        slot: u32,
        unit: u32,
    },
    /// It was asked for and is at work or over.
    Kept,
    Gone {
        slot: u32,
    },
}

/// What it tells a slot.
#[derive(Clone, Debug)]
pub enum Order {
    /// To run these, together under one lease.
    Lease { slot: u32, units: Vec<u32> },
    /// To give back what it has not begun.
    Return { slot: u32, unit: u32 },
}

/// What decides, from what it hears.
pub trait Policy {
    fn hear(&mut self, now: u64, facts: &[Fact]);
    fn decide(&mut self, now: u64, orders: &mut Vec<Order>);
    /// When it wants to decide although it heard nothing.
    fn wake_at(&self, _now: u64) -> Option<u64> {
        None
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub makespan: u64,
    /// What was run in vain, as a share of the work.
    pub vain: f64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ends { slot: u32, start: u64 },
    Told { slot: u32, order: u64 },
    Heard { facts: u64 },
    Lost { slot: u32 },
    Wake,
}

#[derive(Default)]
struct Slot {
    /// With whether it is the first of its lease.
    queue: VecDeque<(u32, bool)>,
    running: Option<(u32, u64)>,
    gone: bool,
}

/// What a unit takes on a slot that begins with it now, in microseconds.
type Takes<'a> = dyn FnMut(u32, u32, u64) -> u64 + 'a;

struct World<'a> {
    instance: &'a Instance,
    takes: &'a mut Takes<'a>,
    slots: Vec<Slot>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    orders: Vec<Option<Order>>,
    facts: Vec<Vec<Fact>>,
    done: Vec<bool>,
    open: usize,
    outcome: Outcome,
    vain: u64,
}

/// Plays a policy to its end. It panics where a unit is left and nothing more happens.
pub fn play(instance: &Instance, policy: &mut dyn Policy) -> Outcome {
    let mut takes = |slot: u32, unit: u32, _| {
        let speed = u64::from(instance.speeds[slot as usize]);
        (instance.times[unit as usize] * 1000).div_ceil(speed)
    };
    play_where(instance, policy, &mut takes)
}

/// The same where what a unit takes depends on more than its slot's speed.
pub fn play_where<'a>(
    instance: &'a Instance,
    policy: &mut dyn Policy,
    takes: &'a mut Takes<'a>,
) -> Outcome {
    let mut world = World {
        instance,
        takes,
        slots: instance.speeds.iter().map(|_| Slot::default()).collect(),
        events: BinaryHeap::new(),
        sequence: 0,
        orders: Vec::new(),
        facts: Vec::new(),
        done: vec![false; instance.times.len()],
        open: instance.times.len(),
        outcome: Outcome::default(),
        vain: 0,
    };
    if let Some((slot, at)) = instance.lost {
        world.schedule(at, Event::Lost { slot });
    }
    world.run(policy);
    let work: u64 = instance.times.iter().sum();
    world.outcome.vain = world.vain as f64 / work as f64;
    world.outcome
}

impl World<'_> {
    fn run(&mut self, policy: &mut dyn Policy) {
        let mut woken = None;
        self.decide(0, policy, &mut woken);
        while self.open > 0 {
            let Some(Reverse((now, _, event))) = self.events.pop() else {
                panic!("{} units are left and nothing happens", self.open);
            };
            match event {
                Event::Ends { slot, start } => self.ends(now, slot, start),
                Event::Told { slot, order } => self.told(now, slot, order),
                Event::Lost { slot } => self.lost(now, slot),
                Event::Heard { facts } => {
                    let facts = std::mem::take(&mut self.facts[facts as usize]);
                    policy.hear(now, &facts);
                    self.decide(now, policy, &mut woken);
                }
                Event::Wake => {
                    if woken == Some(now) {
                        woken = None;
                        self.decide(now, policy, &mut woken);
                    }
                }
            }
        }
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn decide(&mut self, now: u64, policy: &mut dyn Policy, woken: &mut Option<u64>) {
        let mut orders = Vec::new();
        policy.decide(now, &mut orders);
        for order in orders {
            let (Order::Lease { slot, .. } | Order::Return { slot, .. }) = order;
            self.orders.push(Some(order));
            let order = self.orders.len() as u64 - 1;
            self.schedule(now + WAY, Event::Told { slot, order });
        }
        let wake = policy.wake_at(now).map(|at| at.max(now + 1));
        if let Some(at) = wake.filter(|at| woken.is_none_or(|known| known <= now || *at < known)) {
            *woken = Some(at);
            self.schedule(at, Event::Wake);
        }
    }

    fn tell(&mut self, now: u64, facts: Vec<Fact>) {
        if !facts.is_empty() {
            self.facts.push(facts);
            let facts = self.facts.len() as u64 - 1;
            self.schedule(now + WAY, Event::Heard { facts });
        }
    }

    fn told(&mut self, now: u64, slot: u32, order: u64) {
        let order = self.orders[order as usize].take().expect("told once");
        let state = &mut self.slots[slot as usize];
        let mut facts = Vec::new();
        match order {
            Order::Lease { units, .. } if state.gone => {
                let back = units.into_iter().map(|unit| Fact::Back { slot, unit });
                facts.extend(back);
            }
            Order::Lease { units, .. } => {
                let units = units.into_iter().enumerate();
                state.queue.extend(units.map(|(at, unit)| (unit, at == 0)));
            }
            Order::Return { unit, .. } => {
                let queued = state.queue.len();
                state.queue.retain(|(held, _)| *held != unit);
                if state.queue.len() < queued {
                    facts.push(Fact::Back { slot, unit });
                } else {
                    facts.push(Fact::Kept);
                }
            }
        }
        self.start(now, slot, &mut facts);
        self.tell(now, facts);
    }

    fn start(&mut self, now: u64, slot: u32, facts: &mut Vec<Fact>) {
        let state = &mut self.slots[slot as usize];
        if state.running.is_some() || state.gone {
            return;
        }
        let Some((unit, first)) = state.queue.pop_front() else {
            return;
        };
        state.running = Some((unit, now));
        let lease = if first { self.instance.lease } else { 0 };
        let took = lease + (self.takes)(slot, unit, now + lease);
        self.schedule(now + took, Event::Ends { slot, start: now });
        let at = now + lease;
        let begun = Fact::Begun { slot, unit, at };
        if lease == 0 {
            facts.push(begun);
        } else {
            self.tell(at, vec![begun]);
        }
    }

    fn ends(&mut self, now: u64, slot: u32, start: u64) {
        let state = &mut self.slots[slot as usize];
        let Some((unit, _)) = state
            .running
            .filter(|(_, since)| *since == start && !state.gone)
        else {
            // What was cancelled or lost meanwhile.
            return;
        };
        state.running = None;
        if std::mem::replace(&mut self.done[unit as usize], true) {
            self.vain += now - start;
        } else {
            self.open -= 1;
            self.outcome.makespan = now;
        }
        let mut facts = vec![Fact::Ended {
            slot,
            unit,
            at: now,
        }];
        self.start(now, slot, &mut facts);
        self.tell(now, facts);
    }

    fn lost(&mut self, now: u64, slot: u32) {
        let state = &mut self.slots[slot as usize];
        state.gone = true;
        state.queue.clear();
        if let Some((_, start)) = state.running.take() {
            self.vain += now - start;
        }
        self.tell(now, vec![Fact::Gone { slot }]);
    }
}
