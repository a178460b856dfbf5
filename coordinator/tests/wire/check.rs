//! What must hold when a world has come to its end: of the ledgers in the store, of what clients were told, and of how agents left.

use crate::faults::{Fault, Who};
use crate::stage::Floor;
use crate::still;
use crate::suite::{Behaviour, Play, Unit};
use crate::world::{AgentEnd, Log, Plan, Shared};
use evenkeel_agent::Left;
use evenkeel_coordinator::record::{Case, Lease, Outcome, Record, Verdict};
use evenkeel_coordinator::store::{Finding, Store, StoreAddress};
use evenkeel_proto::ledger as l;
use l::entry::Body;
use l::lease_ended::Reason;
use prost::Message;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Within this long, and what messages take, an agent and its processes do what they are told.
const HEARD: Duration = Duration::from_millis(300);
/// How often a case or a unit may be at work when what it runs on is lost.
const CAP: usize = 3;

pub fn check(plan: &Plan, floor: &Floor, seen: &Shared, place: &Path) {
    let runs: Vec<String> = plan.plays.iter().map(|play| play.run.clone()).collect();
    let (ledgers, findings) = read(place, runs);
    assert!(findings.is_empty(), "the store is not whole: {findings:?}");
    let mut seen = seen.lock().expect("it is over");
    for (number, (play, batches)) in plan.plays.iter().zip(&ledgers).enumerate() {
        let (record, lines) = check_ledger(play, batches);
        seen.trace.extend(lines);
        check_client(number, play, batches, &record, &seen);
        check_run(number, plan, play, &record, &seen);
        check_starts(play, &record, floor);
        check_standing(plan, play, &record, floor, &seen);
    }
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    check_agents(plan, &seen);
}

/// What the ledgers say, for who looks for the reason.
pub fn tell(plan: &Plan, place: &Path) {
    for play in &plan.plays {
        let (place, run) = (place.to_owned(), play.run.clone());
        let reading = std::thread::spawn(move || read_open(&place, &run));
        let Ok(Some(batches)) = reading.join() else {
            continue;
        };
        println!("{}", play.run);
        for batch in &batches {
            for entry in &batch.entries {
                println!(
                    "  {:>12} {:?}",
                    batch.at_us,
                    entry.body.as_ref().expect("an entry says something")
                );
            }
        }
    }
}

fn read_open(place: &Path, run: &str) -> Option<Vec<l::Batch>> {
    runtime().block_on(async {
        let address = StoreAddress::Sqlite(place.join("evenkeel.db"));
        let store = Store::inspect(&address, place).await.ok()?;
        let (_, batches) = store.rows(run).await.ok()??;
        Some(batches)
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there is a runtime")
}

/// The ledger of each run, and what the store says of itself. On a thread of its own, on which no simulation is played.
fn read(place: &Path, runs: Vec<String>) -> (Vec<Vec<l::Batch>>, Vec<Finding>) {
    let place: PathBuf = place.to_owned();
    let reading = std::thread::spawn(move || {
        runtime().block_on(async {
            let address = StoreAddress::Sqlite(place.join("evenkeel.db"));
            let store = Store::inspect(&address, &place).await.expect("a store");
            let mut ledgers = Vec::new();
            for run in runs {
                let rows = store.rows(&run).await.expect("its ledger can be read");
                let (row, batches) = rows.unwrap_or_else(|| panic!("{run} is not in the store"));
                assert!(row.closed.is_some(), "{run} was never closed");
                ledgers.push(batches);
            }
            (
                ledgers,
                store
                    .check(|_, _| {})
                    .await
                    .expect("it can be looked through"),
            )
        })
    });
    reading.join().expect("it can be read")
}

/// Each row may be there, read by who trusts nothing that the run says of itself. What of it is the same each time, in lines.
fn check_ledger(play: &Play, batches: &[l::Batch]) -> (Record, Vec<String>) {
    let mut record = Record::default();
    for batch in batches {
        for entry in &batch.entries {
            let body = entry.body.as_ref().expect("an entry says something");
            check_entry(play, &record, body);
            record.apply(entry).expect("the ledger can be read back");
        }
        // Where agents' facts stand is a row's, not an entry's.
        let mut whole = record.clone();
        whole
            .apply_batch(&l::Batch {
                entries: Vec::new(),
                ..batch.clone()
            })
            .ok();
        record = whole;
    }
    let mut lines = Vec::new();
    for (number, lease) in record.leases.iter().enumerate() {
        let (begun, ended) = (lease.begun.as_ref().map(|begun| begun.at.0), lease.ended);
        let ended = ended.map(|ended| (ended.reason, ended.at.0));
        lines.push(format!(
            "{} lease {} unit {} shard {} generation {} {begun:?} {ended:?}",
            play.run,
            number + 1,
            lease.unit,
            lease.shard,
            lease.generation
        ));
    }
    for case in record.units.iter().flat_map(|unit| &unit.cases) {
        let attempts: Vec<_> = case
            .attempts()
            .map(|attempt| {
                (
                    attempt.lease,
                    attempt.outcome,
                    attempt.started.0,
                    attempt.ended.0,
                )
            })
            .collect();
        lines.push(format!(
            "{} {} {:?} {attempts:?}",
            play.run,
            case.id,
            case.verdict()
        ));
    }
    (record, lines)
}

fn check_entry(play: &Play, record: &Record, body: &Body) {
    assert!(
        record.closed.is_none(),
        "{}: something follows the verdict",
        play.run
    );
    match body {
        Body::Attempt(attempt) => {
            let lease = record.lease(attempt.lease).expect("a result has a lease");
            let case = &record.units[lease.unit as usize].cases[attempt.case as usize];
            assert!(
                lease.is_live(),
                "{} has a result under a dead lease",
                case.id
            );
            assert!(
                case.is_owned_by(attempt.lease),
                "{} was somebody else's",
                case.id
            );
            assert_eq!(case.verdict(), None, "{} has a second verdict", case.id);
        }
        Body::Settled(settled) => {
            let unit = &record.units[settled.unit as usize];
            let before = match settled.case {
                Some(case) => unit.cases[case as usize].verdict(),
                None => unit.settled.as_ref().map(|(verdict, _)| *verdict),
            };
            assert_eq!(before, None, "{} is settled twice", unit.name);
        }
        _ => {}
    }
}

/// Who followed a run saw every row of it, once and in order, and was told what its ledger says.
fn check_client(number: usize, play: &Play, batches: &[l::Batch], record: &Record, seen: &Log) {
    let rows = seen.rows.get(&number);
    let rows = rows.unwrap_or_else(|| panic!("nobody saw the end of {}", play.run));
    let sequences: Vec<u64> = rows.iter().map(|row| row.sequence).collect();
    let wanted: Vec<u64> = (1..=batches.len() as u64).collect();
    assert_eq!(sequences, wanted, "{}: what its client saw", play.run);
    for (row, batch) in rows.iter().zip(batches) {
        assert_eq!(
            row.payload,
            batch.encode_to_vec(),
            "{} row {}",
            play.run,
            row.sequence
        );
    }
    let (ended, closed) = (&seen.ended[&number], record.closed.as_ref());
    let closed = closed.expect("a closed run says how");
    assert_eq!(
        (&ended.verdict, ended.exit_code),
        (&closed.verdict, closed.exit_code),
        "{}: what its client was told",
        play.run
    );
}

/// Every planned case has exactly one verdict, and it is the one that it must have.
fn check_run(number: usize, plan: &Plan, play: &Play, record: &Record, seen: &Log) {
    let cancelled = seen.cancelled.contains(&number);
    let mut red = false;
    let mut missing = !record.listed;
    for own in &play.units {
        let mut units = record.units.iter().enumerate();
        let Some((place, unit)) = units.find(|(_, unit)| *unit.name == *own.name) else {
            assert!(cancelled, "{}: {} was never listed", play.run, own.name);
            missing = true;
            continue;
        };
        let broken = losses(record, place as u32) >= CAP;
        if !unit.declared {
            let whole = unit.settled.as_ref().map(|(verdict, _)| *verdict);
            red |= whole == Some(Verdict::Error);
            missing |= matches!(whole, None | Some(Verdict::NotRun | Verdict::Lost));
            assert!(
                cancelled || broken,
                "{}: {} was not declared: {:?}",
                play.run,
                own.name,
                unit.settled
            );
            continue;
        }
        assert_eq!(
            unit.cases.len(),
            own.cases.len(),
            "{}: cases of {}",
            play.run,
            own.name
        );
        let mut names = HashSet::new();
        for case in &unit.cases {
            assert!(names.insert(&*case.id), "{} is there twice", case.id);
            let verdict = case.verdict();
            red |= verdict.is_some_and(Verdict::is_failure);
            missing |= matches!(verdict, None | Some(Verdict::NotRun | Verdict::Lost));
            check_case(own, case, broken, cancelled);
        }
    }
    let closed = record.closed.as_ref().expect("a closed run says how");
    let tests: usize = play.units.iter().map(|unit| unit.cases.len()).sum();
    let lost = record
        .agents
        .iter()
        .any(|agent| agent.gone.as_ref().is_some_and(|gone| gone.lost));
    // Somebody was lost before the run was concluded as a whole.
    let quiet = plan.faults.is_empty() && !play.behaviours().any(|case| case == Behaviour::Poison);
    let unconcluded = closed.exit_code == 3 && play.finish && (lost || !quiet);
    let wanted = if red {
        1
    } else if record.stopped.is_some() {
        130
    } else if missing || unconcluded {
        3
    } else if tests == 0 {
        4
    } else {
        0
    };
    assert!(
        !missing || cancelled,
        "{}: something is missing without a reason: {closed:?}",
        play.run
    );
    assert_eq!(closed.exit_code, wanted, "{}: {closed:?}", play.run);
}

fn check_case(own: &Unit, case: &Case, broken: bool, cancelled: bool) {
    let place: usize = case
        .id
        .rsplit("::")
        .next()
        .and_then(|place| place.parse().ok())
        .expect("a case's id");
    let (behaviour, _) = own.cases[place];
    let verdict = case.verdict();
    let lost = case.attempts().filter(|attempt| attempt.agent_lost).count();
    let capped = verdict == Some(Verdict::Error) && lost >= CAP;
    let left = cancelled
        && matches!(
            verdict,
            Some(Verdict::NotRun | Verdict::Lost | Verdict::Error)
        );
    assert!(
        verdict == Some(behaviour.verdict())
            || capped
            || left
            || broken && verdict == Some(Verdict::Error),
        "{} {behaviour:?} became {verdict:?}: {:?}",
        case.id,
        case.reason
    );
    let decided = case
        .attempts()
        .filter(|attempt| attempt.outcome != Outcome::Killed)
        .count();
    assert!(decided <= 1, "{} was decided {decided} times", case.id);
    assert!(lost <= CAP, "{} took {lost} agents", case.id);
    assert!(
        case.attempts().count() - lost <= 2,
        "{} has too many attempts",
        case.id
    );
}

/// How often something of a unit was at work when what it ran on was lost.
fn losses(record: &Record, unit: u32) -> usize {
    let own = record.leases.iter().filter(|lease| lease.unit == unit);
    let lost = |lease: &&Lease| {
        let ended = lease.ended.map(|ended| ended.reason);
        ended.is_some_and(|reason| matches!(reason, Reason::Lost | Reason::Broken))
    };
    own.filter(lost).count()
}

/// Nothing is run more often than somebody who ran it was lost, or its process ended: an acknowledged result is not repeated.
fn check_starts(play: &Play, record: &Record, floor: &Floor) {
    for unit in &record.units {
        let place = record
            .units
            .iter()
            .position(|own| std::ptr::eq(own, unit))
            .unwrap_or_default();
        let ends = losses(record, place as u32);
        // A lease may be lost from the record with its coordinator, and who ran it before it could tell the next one.
        let forgotten = record.term as usize;
        for case in &unit.cases {
            let key = (play.run.clone(), case.id.to_string());
            let started = floor.started.get(&key).copied().unwrap_or_default() as usize;
            let attempts = case.attempts().count();
            assert!(
                started <= attempts.max(1) + ends + forgotten + record.evidence as usize,
                "{} was started {started} times: {attempts} attempts, {ends} leases lost, {} results of no effect",
                case.id,
                record.evidence
            );
        }
    }
}

/// Who came back has been told which of its leases stand: nothing is begun under one that had ended before that.
fn check_standing(plan: &Plan, play: &Play, record: &Record, floor: &Floor, seen: &Log) {
    if plan
        .faults
        .iter()
        .any(|(_, fault)| matches!(fault, Fault::Jump(_)))
    {
        // When something was on the run's clock is not known.
        return;
    }
    let opened = still::elapsed_at(record.opened.opened_unix_us);
    // A run's clock begins when the store has it, behind what that had to write before.
    let begins = 8 * Duration::from_millis(plan.disk);
    for start in floor.starts.iter().filter(|start| start.run == play.run) {
        let number = start.machine.strip_prefix("agent");
        let number: usize = number.and_then(|own| own.parse().ok()).expect("an agent's");
        let before = seen.welcomed.iter().rev();
        let mut before = before.filter(|(agent, at)| *agent == number && *at < start.at);
        let Some((_, welcomed)) = before.next() else {
            continue;
        };
        let told = *welcomed + 3 * plan.latency.1 + HEARD;
        let ended = record.lease(start.lease).and_then(|lease| lease.ended);
        let Some(ended) = ended.map(|ended| opened + Duration::from_micros(ended.at.0)) else {
            continue;
        };
        let stale = ended + begins + HEARD < *welcomed && told < start.at;
        assert!(
            !stale || !is_calm(plan, number, *welcomed - HEARD.min(*welcomed), told),
            "{} began on {} at {:?} under a lease that had ended at {ended:?}, and it came back at {welcomed:?}",
            start.id,
            start.machine,
            start.at
        );
    }
}

/// Whether nothing happened between an agent and the coordinator.
fn is_calm(plan: &Plan, agent: usize, from: Duration, until: Duration) -> bool {
    !plan.faults.iter().any(|(at, fault)| {
        let lasts = match fault {
            Fault::Part(Who::Agent(own), _, lasts) | Fault::Hold(Who::Agent(own), lasts)
                if *own == agent =>
            {
                *lasts
            }
            Fault::Restart(_) | Fault::TakeOver => Duration::ZERO,
            _ => return false,
        };
        *at <= until && from <= *at + lasts
    })
}

/// Agents leave as they should: who is for one run only worked if that was there to be served, and nobody is refused.
fn check_agents(plan: &Plan, seen: &Log) {
    for (number, at, end) in &seen.left {
        let own = &plan.agents[*number];
        let drained = plan
            .faults
            .iter()
            .any(|(_, fault)| matches!(fault, Fault::Drain(own, _) if own == number));
        match end {
            AgentEnd::Refused(why) => panic!("agent{number} was refused: {why}"),
            AgentEnd::GaveUp(why) => panic!("agent{number} gave up: {why}"),
            AgentEnd::Left(Left::Told) => assert!(drained, "agent{number} left untold"),
            AgentEnd::Left(Left::Dismissed { reason, failed }) => {
                let only = own
                    .only
                    .unwrap_or_else(|| panic!("agent{number} was dismissed: {reason}"));
                let play = &plan.plays[only];
                let fits = play
                    .labels
                    .iter()
                    .all(|(key, value)| own.labels.get(key) == Some(value));
                // One that comes too late is not looked at.
                let late = reason.contains("has ended") && !failed;
                assert!(
                    *failed != fits || late,
                    "agent{number} was dismissed after {at:?}: {reason}"
                );
            }
        }
    }
}
