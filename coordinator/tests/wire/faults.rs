//! What goes wrong, and when.

use fastrand::Rng;
use std::time::Duration;

#[derive(Clone, Debug)]
pub enum Fault {
    /// The coordinator's process is killed; another one is started on the store after this long.
    Restart(Duration),
    /// Another coordinator takes the store over while this one still serves.
    TakeOver,
    /// An agent's process is killed, and another one is started on the machine after this long.
    Kill(usize, Duration),
    /// An agent is told to go; another one is started on the machine after this long.
    Drain(usize, Duration),
    /// Nothing gets through between a machine and the coordinator for this long, from the one to the other or both ways.
    Part(Who, Way, Duration),
    /// What is on its way between them comes later.
    Hold(Who, Duration),
    /// The command line is killed, and started again after this long.
    Hangup(usize, Duration),
    /// A run is cancelled.
    Cancel(usize),
    /// The wall clock is set, by so many seconds.
    Jump(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Agent(usize),
    Client(usize),
}

#[derive(Clone, Copy, Debug)]
pub enum Way {
    Both,
    There,
    Back,
}

/// What a world has of them, by its seed: some worlds have one sort only.
pub fn draw(
    random: &mut Rng,
    agents: usize,
    runs: usize,
    until: Duration,
) -> Vec<(Duration, Fault)> {
    let most = [0, 1, 3, 8][random.usize(0..4)];
    let only = random.bool().then(|| random.u32(0..10));
    let mut faults: Vec<(Duration, Fault)> = (0..most)
        .map(|_| {
            let at = Duration::from_millis(random.u64(0..until.as_millis() as u64));
            let sort = only.unwrap_or_else(|| random.u32(0..12));
            (at, one(random, sort, agents, runs))
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// An agent is cut off for longer than it is waited for.
pub fn lose_one(random: &mut Rng, faults: &mut Vec<(Duration, Fault)>, agents: usize) {
    let at = Duration::from_millis(random.u64(2_000..6_000));
    let pause = Duration::from_millis(random.u64(5_500..9_000));
    let who = Who::Agent(random.usize(0..agents));
    faults.push((at, Fault::Part(who, Way::Both, pause)));
    faults.sort_by_key(|(at, _)| *at);
}

fn one(random: &mut Rng, sort: u32, agents: usize, runs: usize) -> Fault {
    let pause = Duration::from_millis(match random.u32(0..3) {
        0 => random.u64(0..300),
        1 => random.u64(300..4_000),
        _ => random.u64(4_000..9_000),
    });
    let agent = random.usize(0..agents);
    let run = random.usize(0..runs);
    let who = match random.u32(0..3) {
        0 => Who::Client(run),
        _ => Who::Agent(agent),
    };
    let way = match random.u32(0..3) {
        0 => Way::There,
        1 => Way::Back,
        _ => Way::Both,
    };
    match sort {
        0 | 10 => Fault::Restart(pause),
        1 => Fault::TakeOver,
        2 | 11 => Fault::Kill(agent, pause),
        3 => Fault::Drain(agent, pause),
        4 | 5 => Fault::Part(who, way, pause),
        6 => Fault::Hold(who, pause),
        7 => Fault::Hangup(run, pause),
        8 if random.u32(0..3) == 0 => Fault::Cancel(run),
        9 => Fault::Jump(random.i64(-100_000..100_000)),
        _ => Fault::Restart(pause),
    }
}
