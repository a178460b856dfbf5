//! The real server and the real agent over a simulated network: gRPC over turmoil's TCP, SQLite on the disk, the hub,
//! the run's tasks, the agent's session and its slots, the client that attaches again. Played is only what a slot starts, a process that
//! speaks the runner protocol ([`stage`]). A seed draws what there is to run, who runs it, and what goes wrong ([`suite`], [`faults`]);
//! [`world`] plays it on virtual time, [`check`] says what must hold. Worlds about one moment are written down ([`scenes`]).
//!
//! Agent and coordinator meet here and nowhere else: neither crate knows the other, and that holds for what is built of them. A test of
//! what they say to each other needs both.
//!
//! Each seed is played by a process of its own: tokio numbers tasks for all of a process, and drops those of a crashed host in an order
//! that depends on the numbers. [`still`] sees to the clocks and random numbers of that process.
//!
//! `EVENKEEL_SEED=7 cargo test -p evenkeel-coordinator --test wire whatever -- --nocapture` plays one seed and prints what happens;
//! EVENKEEL_SEEDS says how many to play.

mod check;
mod faults;
mod net;
mod planted;
mod scenes;
mod stage;
mod still;
mod suite;
mod twin;
mod world;

use planted::Fault;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many seeds a test run plays; more on demand through EVENKEEL_SEEDS.
const SEEDS: u64 = 200;
/// A planted fault must be seen within so many seeds.
const ATTEMPTS: u64 = 60;
/// What the process that plays a world is told: the seed or the scene, and the number of a planted fault or nothing.
const PLAYED: &str = "EVENKEEL_WIRE";
/// Around the trace that it prints, in what the test harness prints.
const MARK: &str = "~~~";

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

fn on_all_cores(work: impl Fn() + Sync) {
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(&work);
        }
    });
}

/// How a seed or a scene came out: its trace, or what is wrong with it.
fn play(world: &str, fault: Option<usize>, talk: bool) -> Result<String, String> {
    let binary = std::env::current_exe().expect("a test knows its binary");
    let fault = fault.map_or(String::new(), |fault| fault.to_string());
    let mut command = Command::new(binary);
    command
        .args([
            "--exact",
            "a_world_by_itself",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(PLAYED, format!("{world};{fault};{}", u8::from(talk)))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    if talk {
        command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    }
    let output = command.output().expect("the test's binary can be started");
    if output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        let trace = said.split(MARK).nth(1).unwrap_or_default();
        return Ok(trace.to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines = said
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let why: Vec<&str> = lines.by_ref().skip(1).take(3).collect();
    Err(format!("{} ({})", why.join(" "), output.status))
}

/// Played by the process that is started for it; nothing otherwise.
#[test]
fn a_world_by_itself() {
    let Ok(played) = std::env::var(PLAYED) else {
        return;
    };
    let words: Vec<&str> = played.split(';').collect();
    let fault = words[1]
        .parse::<usize>()
        .ok()
        .map(|fault| planted::FAULTS[fault]);
    let talk = words[2] == "1";
    let scene = scenes::SCENES.iter().find(|scene| scene.name == words[0]);
    let trace = match scene {
        Some(scene) => world::play_scene(scene, talk),
        None => world::play(words[0].parse().expect("a seed"), fault, talk),
    };
    if !talk {
        println!("{MARK}{trace}{MARK}");
    }
}

#[test]
fn whatever_goes_wrong_no_test_is_lost_and_nothing_is_green_that_is_not() {
    if let Some(seed) = number("EVENKEEL_SEED") {
        play(&seed.to_string(), None, true)
            .unwrap_or_else(|why| panic!("seed {seed} fails: {why}"));
        return;
    }
    let seeds = number("EVENKEEL_SEEDS").unwrap_or(SEEDS);
    let first = number("EVENKEEL_FIRST").unwrap_or(0);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    on_all_cores(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            if let Err(why) = play(&seed.to_string(), None, false) {
                eprintln!("seed {seed}: {why}");
                failed.lock().expect("nobody panics with it").push(seed);
            }
        }
    });
    let mut failed = failed.into_inner().expect("nobody panics with it");
    failed.sort_unstable();
    let Some(first) = failed.first() else { return };
    panic!(
        "{} of {seeds} seeds fail, the first {:?}; play one alone with\n  EVENKEEL_SEED={first} cargo test -p evenkeel-coordinator --test wire whatever -- --nocapture",
        failed.len(),
        &failed[..failed.len().min(10)],
    );
}

#[test]
fn the_same_seed_plays_the_same() {
    let next = AtomicU64::new(0);
    on_all_cores(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= 4 {
                return;
            }
            let again = || play(&seed.to_string(), None, false);
            assert_eq!(again(), again(), "seed {seed}");
        }
    });
}

#[test]
fn every_planted_fault_is_seen() {
    let next = AtomicUsize::new(0);
    let seen = Mutex::new(Vec::<(Fault, Option<(u64, String)>)>::new());
    on_all_cores(|| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&fault) = planted::FAULTS.get(number) else {
                return;
            };
            let caught = (0..ATTEMPTS).find_map(|seed| {
                let played = play(&seed.to_string(), Some(number), false);
                played.err().map(|why| (seed, why))
            });
            let mut seen = seen.lock().expect("nobody panics with it");
            seen.push((fault, caught));
        }
    });
    let seen = seen.into_inner().expect("nobody panics with it");
    for (fault, caught) in &seen {
        match caught {
            Some((seed, why)) => println!("{fault:?} is seen with seed {seed}: {why}"),
            None => println!("{fault:?} is not seen within {ATTEMPTS} seeds"),
        }
    }
    assert_eq!(seen.len(), planted::FAULTS.len());
    let missed: Vec<_> = seen.iter().filter(|(_, caught)| caught.is_none()).collect();
    assert!(missed.is_empty(), "nobody sees {missed:?}");
}
