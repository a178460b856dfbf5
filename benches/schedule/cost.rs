//! What a decision costs, and what a unit takes of memory, with 10,000 slots.

use crate::model::{Instance, Setting};
use crate::rows;
use evenkeel_schedule::{Dispatcher, Micros, Needs, Weight};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Counts what is allocated.
pub struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller guarantees.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller guarantees.
        unsafe { System.dealloc(pointer, layout) }
    }
}

const SLOTS: usize = 10_000;
const UNITS: usize = 500_000;
/// The most that either may be.
const MICROS: f64 = 2.0;
const BYTES: f64 = 200.0;

/// Plays units to their end, with facts that arrive at once, then calls a second dispatcher as the first one was called, and prints what
/// that cost: the dispatcher alone, without the machines that are played.
pub fn print() {
    let setting = Setting {
        units: UNITS,
        slots: SLOTS,
        ..rows::A
    };
    let instance = setting.instance(0);
    let mut played = Recorded {
        dispatcher: open(),
        calls: Vec::new(),
    };
    put_up(&mut played.dispatcher, &instance);
    let end = play(&mut played, &instance);
    let calls = played.calls;

    let before = HELD.load(Ordering::Relaxed);
    let mut dispatcher = open();
    let slots = HELD.load(Ordering::Relaxed);
    put_up(&mut dispatcher, &instance);
    let bytes = (HELD.load(Ordering::Relaxed) - slots) as f64 / UNITS as f64;
    let per_slot = (slots - before) as f64 / SLOTS as f64;
    let begun = spent();
    let decisions = calls
        .iter()
        .filter(|call| call.make(&mut dispatcher))
        .count();
    let micros = (spent() - begun) * 1e6 / decisions as f64;
    assert_eq!(decisions, UNITS, "the same units are given out");
    drop(dispatcher);
    let answers = micros * answering(&calls, &instance);
    let mark = |value: f64, most: f64| if value > most { '*' } else { ' ' };
    eprintln!("\nCost at {SLOTS} slots and {UNITS} units, in time of a processor");
    eprintln!(
        "  a decision: {answers:.2}{} us, at most {MICROS}; with its facts and the looks at the time: {micros:.2} us",
        mark(answers, MICROS)
    );
    eprintln!(
        "  a unit: {bytes:.0}{} bytes, at most {BYTES}; a slot: {per_slot:.0} bytes",
        mark(bytes, BYTES)
    );
    let over = end as f64 / instance.bound as f64;
    eprintln!("  the makespan that was played: {over:.4} of its bound");
}

/// Which part of the same calls' time goes into what a slot is answered that asks.
fn answering(calls: &[Call], instance: &Instance) -> f64 {
    let mut dispatcher = open();
    put_up(&mut dispatcher, instance);
    let (mut asking, mut others) = (Duration::ZERO, Duration::ZERO);
    for call in calls {
        let begun = Instant::now();
        call.make(&mut dispatcher);
        match call {
            Call::Next(..) => asking += begun.elapsed(),
            _ => others += begun.elapsed(),
        }
    }
    // Looking at the clock takes about as long as what is told.
    let (mut looks, count) = (Duration::ZERO, calls.len() as u32);
    for _ in 0..count {
        let begun = Instant::now();
        looks += begun.elapsed();
    }
    let asked = calls.iter().filter(|call| matches!(call, Call::Next(..)));
    let asked = asked.count() as f64 / f64::from(count);
    let asking = asking.as_secs_f64() - looks.as_secs_f64() * asked;
    let others = others.as_secs_f64() - looks.as_secs_f64() * (1.0 - asked);
    asking / (asking + others)
}

fn open() -> Dispatcher {
    let mut dispatcher = Dispatcher::new();
    for slot in 0..SLOTS as u32 {
        dispatcher.expect(slot, 0);
        dispatcher.open(slot);
    }
    dispatcher
}

fn put_up(dispatcher: &mut Dispatcher, instance: &Instance) {
    for (unit, said) in (0..).zip(&instance.history) {
        dispatcher.add(unit, weight(*said), &Needs::default());
    }
}

/// What a dispatcher was asked or told.
#[derive(Clone, Copy)]
enum Call {
    Next(u32, Micros),
    Begun(u32, u32, Micros),
    Finished(u32, u32, Micros),
    Wake(Micros),
    Due(Micros),
}

impl Call {
    /// Whether a unit was given out.
    fn make(self, dispatcher: &mut Dispatcher) -> bool {
        match self {
            Call::Next(slot, now) => return dispatcher.next(slot, now).is_some(),
            Call::Begun(slot, unit, now) => dispatcher.begun(slot, unit, now),
            Call::Finished(slot, unit, now) => dispatcher.finished(slot, unit, now),
            Call::Wake(now) => {
                black_box(dispatcher.wake_at(now));
            }
            Call::Due(now) => {
                black_box(dispatcher.take_due(now));
            }
        }
        false
    }
}

/// A dispatcher, and how it was called.
struct Recorded {
    dispatcher: Dispatcher,
    calls: Vec<Call>,
}

impl Recorded {
    fn next(&mut self, slot: u32, now: u64) -> Option<u32> {
        self.calls.push(Call::Next(slot, Micros(now)));
        self.dispatcher.next(slot, Micros(now))
    }

    fn begun(&mut self, slot: u32, unit: u32, now: u64) {
        self.calls.push(Call::Begun(slot, unit, Micros(now)));
        self.dispatcher.begun(slot, unit, Micros(now));
    }

    fn finished(&mut self, slot: u32, unit: u32, now: u64) {
        self.calls.push(Call::Finished(slot, unit, Micros(now)));
        self.dispatcher.finished(slot, unit, Micros(now));
    }

    fn wake_at(&mut self, now: u64) -> Option<u64> {
        self.calls.push(Call::Wake(Micros(now)));
        self.dispatcher.wake_at(Micros(now)).map(|at| at.0)
    }

    fn take_due(&mut self, now: u64) -> Vec<u32> {
        self.calls.push(Call::Due(Micros(now)));
        self.dispatcher.take_due(Micros(now))
    }
}

/// Seconds that this process has had of a processor.
fn spent() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(answer, 0, "there is such a clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn weight(said: Option<u64>) -> Weight {
    let known = said.is_some();
    let expected = Micros(said.unwrap_or(1_000_000));
    Weight {
        expected,
        high: Micros(expected.0 * if known { 3 } else { 6 } / 2),
        order: Micros(expected.0 * if known { 1 } else { 5 }),
        known,
        early: 0,
    }
}

/// When the last one ended, in microseconds.
fn play(dispatcher: &mut Recorded, instance: &Instance) -> u64 {
    let mut ends = BinaryHeap::new();
    let mut held: Vec<Vec<u32>> = vec![Vec::new(); SLOTS];
    let mut looked: Vec<u32> = (0..SLOTS as u32).collect();
    let mut now = 0;
    loop {
        for slot in std::mem::take(&mut looked) {
            let queue = &mut held[slot as usize];
            while queue.len() < 2 {
                let Some(unit) = dispatcher.next(slot, now) else {
                    break;
                };
                if queue.is_empty() {
                    dispatcher.begun(slot, unit, now);
                    ends.push(Reverse((end(instance, slot, unit, now), slot, unit)));
                }
                queue.push(unit);
            }
        }
        let next = ends.peek().map(|Reverse((end, ..))| *end);
        let wake = dispatcher.wake_at(now);
        match (next, wake) {
            (None, None) => break,
            (Some(at), wake) if wake.is_none_or(|wake| at <= wake) => {
                let Some(Reverse((_, slot, unit))) = ends.pop() else {
                    break;
                };
                now = at;
                let queue = &mut held[slot as usize];
                queue.retain(|other| *other != unit);
                dispatcher.finished(slot, unit, now);
                if let Some(&unit) = queue.first() {
                    dispatcher.begun(slot, unit, now);
                    ends.push(Reverse((end(instance, slot, unit, now), slot, unit)));
                }
                looked.push(slot);
            }
            (_, Some(wake)) => now = wake,
            (Some(_), None) => {}
        }
        looked.extend(dispatcher.take_due(now));
    }
    let waits = dispatcher.dispatcher.is_waiting();
    assert!(!waits, "all units were given out");
    now
}

fn end(instance: &Instance, slot: u32, unit: u32, now: u64) -> u64 {
    let speed = u64::from(instance.speeds[slot as usize]);
    now + (instance.times[unit as usize] * 1000).div_ceil(speed)
}
