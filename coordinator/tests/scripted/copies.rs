//! A test that takes longer than it should on one slot, and what a second one does about it.

use crate::play::{Play, seconds};
use evenkeel_coordinator::record::{Outcome, Verdict};
use evenkeel_coordinator::run::{
    AgentId, CaseEnded, CaseKey, Command, EndCause, Event, FactBody, History, InFlight,
    ProcessEnded, ProcessStarted, RunningCase, SuiteHistory,
};
use evenkeel_proto::suite::Suite;
use evenkeel_schedule::{Micros, PastRun, Sample};
use std::collections::HashMap;

/// So many units take a second each, and one more has a case that should take as long, and stands still.
const OTHERS: u64 = 40;
/// A short case of the same unit, where it has one.
const BEHIND: &str = "behind";
/// One that takes as long as the late one should.
const AS_LONG: &str = "as long";

fn suite() -> Suite {
    Suite {
        copies: true,
        ..Play::suite()
    }
}

/// Earlier runs know of all of them, and of the last one what its case takes.
fn history() -> History {
    let mut known = SuiteHistory::default();
    known.past.runs = vec![PastRun::default()];
    let names = (0..OTHERS).map(|number| format!("other{number}"));
    for name in names.chain(["late".to_owned()]) {
        let sample = Sample {
            work: seconds(1),
            setup: Micros::ZERO,
            run: 0,
            passed: true,
        };
        known.past.units.insert(name.clone(), vec![sample]);
        let key = CaseKey {
            id: name.clone(),
            occurrence: 0,
        };
        let mut cases = HashMap::from([(key, seconds(1))]);
        if name == "late" {
            let key = CaseKey {
                id: BEHIND.to_owned(),
                occurrence: 0,
            };
            cases.insert(key, Micros(1_000));
            let key = CaseKey {
                id: AS_LONG.to_owned(),
                occurrence: 0,
            };
            cases.insert(key, seconds(1));
        }
        known.cases.insert(name, cases);
    }
    History {
        suites: vec![known],
    }
}

/// The late case is at work, and another slot may have been given it, too, which it has not loaded yet.
struct Late {
    play: Play,
    /// On this agent under this lease, and on the other one under that.
    on: u64,
    lease: u64,
    other: u64,
    copy: Option<u64>,
}

/// All that two slots run but the late case.
fn all_but_the_late_one(suite: Suite) -> Late {
    all_but_the_late_ones(suite, &["late"])
}

/// The same where the unit of the late case has these.
fn all_but_the_late_ones(suite: Suite, cases: &[&str]) -> Late {
    all_but_the_late_ones_by(history(), suite, cases)
}

/// The same where earlier runs know that.
fn all_but_the_late_ones_by(history: History, suite: Suite, cases: &[&str]) -> Late {
    let names = (0..OTHERS).map(|number| format!("other{number}"));
    let names: Vec<String> = names.chain(["late".to_owned()]).collect();
    played(Play::begin_with(suite, history), &names, cases)
}

/// The late one begins when so many others have begun, so that some wait, and when a copy of it may be spent by what was run.
fn hanging_behind(others: usize, history: History) -> Late {
    let names = (0..OTHERS).map(|number| format!("other{number}"));
    let mut names: Vec<String> = names.collect();
    names.insert(others, "late".to_owned());
    played(Play::begin_with(suite(), history), &names, &["late"])
}

fn hanging(history: History) -> Late {
    hanging_behind(20, history)
}

fn played(mut play: Play, names: &[String], cases: &[&str]) -> Late {
    play.join(1);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    play.list(1, &names);
    play.join(2);
    let mut late: Vec<(u64, u64)> = Vec::new();
    let mut quiet = 0;
    // Each agent runs what it is given, the late one aside, and gives back what waits behind that.
    while quiet < 1_000 {
        quiet += 1;
        for agent in [1, 2] {
            for command in play.told(agent) {
                let lease = match command {
                    Command::Lease(lease) => lease,
                    Command::Revoke { lease, .. } if !late.contains(&(agent, lease)) => {
                        quiet = 0;
                        let returned = FactBody::Returned {
                            lease,
                            cases: Vec::new(),
                            all: true,
                        };
                        play.tell(agent, returned);
                        continue;
                    }
                    _ => continue,
                };
                quiet = 0;
                if late.iter().any(|(on, _)| *on == agent) {
                    continue;
                }
                if lease.unit == "late" {
                    if late.is_empty() {
                        play.load(agent, lease.lease, cases);
                    }
                    late.push((agent, lease.lease));
                    continue;
                }
                play.load(agent, lease.lease, &[&lease.unit]);
                play.pass_time(seconds(1));
                play.pass(agent, lease.lease, 0);
                play.close(agent, lease.lease);
            }
        }
        if late.len() == 2 {
            break;
        }
        play.pass_time(Micros(10_000));
    }
    let (on, lease) = late[0];
    let copy = late.get(1).map(|&(other, copy)| {
        assert_ne!(on, other, "it is run once more, and elsewhere");
        copy
    });
    Late {
        play,
        on,
        lease,
        other: 3 - on,
        copy,
    }
}

/// The other agent was given the late case, too, and has loaded it.
struct Twice {
    play: Play,
    on: u64,
    lease: u64,
    other: u64,
    copy: u64,
}

fn copied() -> Twice {
    copied_of(&["late"])
}

fn copied_of(cases: &[&str]) -> Twice {
    let Late {
        mut play,
        on,
        lease,
        other,
        copy,
    } = all_but_the_late_ones(suite(), cases);
    let copy = copy.expect("it is run once more");
    play.load(other, copy, cases);
    let record = play.run.record();
    let copied = record.lease(copy).unwrap().copied.as_ref();
    assert_eq!(copied.map(|copy| copy.of), Some(lease));
    Twice {
        play,
        on,
        lease,
        other,
        copy,
    }
}

fn cancelled(play: &mut Play, agent: u64, lease: u64) -> bool {
    let cancel = Command::Cancel { slot: 0, lease };
    play.told(agent).contains(&cancel)
}

/// Its process was ended, as it was asked, and there is another one.
fn begins_anew(play: &mut Play, agent: u64) {
    let ended = ProcessEnded {
        kind: 0,
        incarnation: 0,
        cause: EndCause::Ended,
        in_flight: None,
        explanation: "ended by the agent".into(),
        stderr_tail: String::new(),
        farewell: None,
    };
    play.tell(agent, FactBody::ProcessEnded(ended));
    play.tell(agent, FactBody::ProcessStarted(ProcessStarted::default()));
}

/// The second case of a lease comes back.
fn give_back(play: &mut Play, agent: u64, lease: u64) {
    let returned = FactBody::Returned {
        lease,
        cases: vec![1],
        all: false,
    };
    play.tell(agent, returned);
}

/// An agent is given the short case by itself, and with it the run is over.
fn ends_with_what_was_behind(play: &mut Play, agent: u64) {
    let part = play.lease(agent);
    assert!(part.only.len() <= 1, "{part:?}");
    play.load(agent, part.lease, &[BEHIND]);
    play.pass(agent, part.lease, 0);
    play.close(agent, part.lease);
    assert_eq!(
        (verdict_of(play, 1), closed(play)),
        (Some(Verdict::Passed), "green")
    );
}

fn fail(play: &mut Play, agent: u64, lease: u64) {
    let ended = CaseEnded {
        lease,
        generation: 1,
        case: 0,
        outcome: Outcome::Failed,
        started: play.now,
        duration: Micros(1_000),
        setup: Micros::ZERO,
        ordinal: 0,
        text: None,
    };
    play.tell(agent, FactBody::CaseEnded(ended));
}

fn lose(play: &mut Play, agent: u64) {
    play.step(Event::AgentGone {
        agent: AgentId(agent),
        reason: "nothing was heard of it".into(),
        lost: true,
    });
}

fn verdict(play: &Play) -> Option<Verdict> {
    verdict_of(play, 0)
}

fn verdict_of(play: &Play, case: usize) -> Option<Verdict> {
    let mut units = play.run.record().units.iter();
    let late = units
        .find(|unit| &*unit.name == "late")
        .expect("it was listed");
    late.cases[case].verdict()
}

fn closed(play: &Play) -> &str {
    let closed = play.run.record().closed.as_ref();
    &closed.expect("nothing is waited for").verdict
}

#[test]
fn the_second_one_ends_first_and_nobody_waits_for_the_other() {
    let Twice {
        mut play,
        on,
        lease,
        other,
        copy,
    } = copied();
    play.pass_time(seconds(1));
    play.pass(other, copy, 0);
    assert!(cancelled(&mut play, on, lease));
    play.close(other, copy);
    assert_eq!(
        (verdict(&play), closed(&play)),
        (Some(Verdict::Passed), "green")
    );
    let copies = play.run.record().copies();
    assert_eq!((copies.given, copies.won, copies.stood), (1, 1, 0));
    assert!(
        copies.spent >= seconds(1) && copies.spent < Micros(1_100_000),
        "{copies:?}"
    );
}

#[test]
fn the_first_one_ends_first_and_the_second_is_cancelled() {
    let Twice {
        mut play,
        on,
        lease,
        other,
        copy,
    } = copied();
    play.pass(on, lease, 0);
    assert!(cancelled(&mut play, other, copy));
    play.close(on, lease);
    assert_eq!(
        (verdict(&play), closed(&play)),
        (Some(Verdict::Passed), "green")
    );
    assert_eq!(play.run.record().copies().won, 0);
}

#[test]
fn a_failure_that_came_first_stays_one_and_that_they_differ_is_told() {
    let Twice {
        mut play,
        on,
        lease,
        other,
        copy,
    } = copied();
    fail(&mut play, on, lease);
    play.pass(other, copy, 0);
    play.close(on, lease);
    assert_eq!(
        (verdict(&play), closed(&play)),
        (Some(Verdict::Failed), "red")
    );
    let record = play.run.record();
    let differing: Vec<Outcome> = record.differing.iter().map(|other| other.outcome).collect();
    assert_eq!(differing, [Outcome::Passed]);
    let told = record
        .notes
        .iter()
        .any(|note| note.text.contains("did not end alike"));
    assert!(told, "{:?}", record.notes);
}

/// The second one's slot is told to go, gives back what it has not started, and ends what it has.
fn given_back_by_the_second() -> Twice {
    let mut twice = copied_of(&["late", BEHIND]);
    let Twice {
        ref mut play,
        other,
        copy,
        ..
    } = twice;
    play.step(Event::Release {
        agent: AgentId(other),
        slots: vec![0],
    });
    give_back(play, other, copy);
    twice
}

#[test]
fn what_the_second_one_gave_back_is_still_run_by_the_first() {
    let Twice {
        mut play,
        on,
        lease,
        other,
        copy,
    } = given_back_by_the_second();
    play.pass(other, copy, 0);
    play.close(other, copy);
    assert!(!cancelled(&mut play, on, lease), "one case is its alone");
    assert_eq!(verdict_of(&play, 1), None);
    play.pass(on, lease, 0);
    play.pass(on, lease, 1);
    play.close(on, lease);
    assert_eq!(
        (verdict_of(&play, 1), closed(&play)),
        (Some(Verdict::Passed), "green")
    );
}

/// The first one's slot is told to go, and gives back what it has not started. The second has loaded that, too.
#[test]
fn what_the_first_one_gave_back_is_run_by_whoever_gets_it() {
    let Twice {
        mut play,
        on,
        lease,
        other,
        copy,
    } = copied_of(&["late", BEHIND]);
    play.step(Event::Release {
        agent: AgentId(on),
        slots: vec![0],
    });
    give_back(&mut play, on, lease);
    play.pass(other, copy, 0);
    assert!(cancelled(&mut play, on, lease));
    play.pass(other, copy, 1);
    assert_eq!(verdict_of(&play, 1), None, "it is not the second's");
    play.close(other, copy);
    ends_with_what_was_behind(&mut play, other);
}

/// The second one has decided the case in which the first hangs, and is lost before it has run the other.
#[test]
fn what_hangs_in_what_is_decided_gives_back_the_others() {
    let Twice {
        mut play,
        on,
        lease,
        other,
        copy,
    } = copied_of(&["late", BEHIND]);
    play.pass(other, copy, 0);
    play.told(on);
    lose(&mut play, other);
    let asked = |command: &Command| matches!(command, Command::Revoke { from: 1, .. });
    assert!(play.told(on).iter().any(asked));
    give_back(&mut play, on, lease);
    assert!(cancelled(&mut play, on, lease));
    begins_anew(&mut play, on);
    ends_with_what_was_behind(&mut play, on);
}

/// `crash`: the coordinator was lost meanwhile.
fn given_back_and_the_first_is_lost(crash: bool) {
    let Twice {
        mut play,
        on,
        other,
        copy,
        ..
    } = given_back_by_the_second();
    if crash {
        play.crash();
        play.back(1);
        play.back(2);
        play.step(Event::Release {
            agent: AgentId(other),
            slots: vec![0],
        });
    }
    lose(&mut play, on);
    play.pass(other, copy, 0);
    play.close(other, copy);
    play.join(3);
    ends_with_what_was_behind(&mut play, 3);
    assert_eq!(verdict(&play), Some(Verdict::Passed));
}

#[test]
fn what_the_second_one_gave_back_runs_elsewhere_when_the_first_is_lost() {
    given_back_and_the_first_is_lost(false);
}

#[test]
fn that_it_gave_back_something_is_known_to_another_coordinator() {
    given_back_and_the_first_is_lost(true);
}

#[test]
fn when_the_first_one_is_lost_the_second_stands() {
    let Twice {
        mut play,
        on,
        other,
        copy,
        ..
    } = copied();
    lose(&mut play, on);
    assert!(play.leases(other).is_empty(), "it is at work already");
    play.pass(other, copy, 0);
    play.close(other, copy);
    assert_eq!(
        (verdict(&play), closed(&play)),
        (Some(Verdict::Passed), "green")
    );
    let copies = play.run.record().copies();
    assert_eq!((copies.won, copies.stood), (0, 1));
}

#[test]
fn when_the_second_one_is_lost_the_first_goes_on_as_if_nothing_had_been() {
    let Twice {
        mut play,
        on,
        lease,
        other,
        ..
    } = copied();
    lose(&mut play, other);
    play.join(3);
    play.pass_time(seconds(60));
    assert!(
        play.leases(3).is_empty(),
        "it is not copied twice, nor run again"
    );
    play.pass(on, lease, 0);
    play.close(on, lease);
    assert_eq!(
        (verdict(&play), closed(&play)),
        (Some(Verdict::Passed), "green")
    );
}

#[test]
fn what_kills_both_of_them_is_an_error() {
    let Twice {
        mut play,
        on,
        lease,
        other,
        copy,
    } = copied();
    for (agent, lease) in [(on, lease), (other, copy)] {
        let ended = ProcessEnded {
            kind: 0,
            incarnation: 0,
            cause: EndCause::KilledFromOutside,
            in_flight: Some(InFlight {
                lease,
                case: Some(RunningCase {
                    index: 0,
                    started: play.now,
                    ordinal: 0,
                }),
                loading: false,
            }),
            explanation: "killed".into(),
            stderr_tail: String::new(),
            farewell: None,
        };
        play.tell(agent, FactBody::ProcessEnded(ended));
    }
    assert_eq!(
        (verdict(&play), closed(&play)),
        (Some(Verdict::Error), "red")
    );
}

#[test]
fn both_are_there_when_the_coordinator_was_lost_meanwhile() {
    let Twice {
        mut play,
        on,
        lease,
        other,
        copy,
    } = copied();
    play.crash();
    play.back(1);
    play.back(2);
    play.pass(other, copy, 0);
    assert!(cancelled(&mut play, on, lease));
    play.close(other, copy);
    assert_eq!(
        (verdict(&play), closed(&play)),
        (Some(Verdict::Passed), "green")
    );
}

#[test]
fn what_another_coordinator_asked_for_some_of_is_not_copied() {
    let mut play = Play::begin_with(suite(), history());
    play.join(1);
    play.list(1, &["late"]);
    play.join(2);
    let lease = play.lease(1).lease;
    play.load(1, lease, &["late", AS_LONG]);
    let asked = |command: &Command| matches!(command, Command::Revoke { from: 1, .. });
    assert!(play.told(1).iter().any(asked), "the second slot is free");
    play.crash();
    play.back(1);
    play.back(2);
    play.pass_time(seconds(60));
    assert!(play.leases(2).is_empty(), "the answer may be under way");
    give_back(&mut play, 1, lease);
    let part = play.lease(2);
    assert_eq!(part.only.len(), 1, "what was given back");
    play.load(2, part.lease, &[AS_LONG]);
    play.pass(2, part.lease, 0);
    play.close(2, part.lease);
    play.pass(1, lease, 0);
    play.close(1, lease);
    assert_eq!(closed(&play), "green");
}

/// What has no verdict, and how long the late case has been at work.
fn waits(play: &Play, lease: u64) -> (usize, Micros) {
    let record = play.run.record();
    let open = record.units.iter().filter(|unit| {
        let decided = |case: &evenkeel_coordinator::record::Case| case.verdict().is_some();
        unit.cases.is_empty() || !unit.cases.iter().all(decided)
    });
    let begun = record.lease(lease).unwrap().begun.unwrap().at;
    (open.count(), play.now - begun)
}

/// What hangs is run once more, and that one ends first. How many units had no verdict then, for how long the first had run, and what is
/// played on.
fn run_once_more(late: Late) -> (usize, Micros, Play, u64) {
    let Late {
        mut play,
        on,
        lease,
        other,
        copy,
    } = late;
    let copy = copy.expect("it is run once more");
    let (open, late) = waits(&play, lease);
    play.load(other, copy, &["late"]);
    play.pass(other, copy, 0);
    assert!(cancelled(&mut play, on, lease));
    play.close(other, copy);
    assert_eq!(verdict(&play), Some(Verdict::Passed));
    assert_eq!(play.run.record().copies().won, 1);
    (open, late, play, other)
}

#[test]
fn what_hangs_is_run_once_more_while_others_wait() {
    let (open, late, mut play, other) = run_once_more(hanging(history()));
    assert!(open > 10, "{open} wait");
    assert!(late >= seconds(6) && late < seconds(9), "{late}");
    assert!(!play.leases(other).is_empty(), "its slot goes on");
}

/// Long before it takes far longer than it should it is going to end after all others.
#[test]
fn what_is_to_end_last_is_run_once_more_before_the_others_have_begun() {
    let late = hanging_behind(OTHERS as usize - 4, history());
    let (open, late, _, _) = run_once_more(late);
    assert!(open > 1, "{open} wait");
    assert!(late >= seconds(2) && late < seconds(5), "{late}");
}

/// A slot's process ended before the copy came there.
#[test]
fn what_never_came_where_it_was_to_run_once_more_is_given_again() {
    let Late {
        mut play,
        other,
        copy,
        ..
    } = all_but_the_late_one(suite());
    let copy = copy.expect("it is run once more");
    begins_anew(&mut play, other);
    play.pass_time(seconds(1));
    let again = play.lease(other);
    assert!(again.unit == "late" && again.lease != copy, "{again:?}");
    play.load(other, again.lease, &["late"]);
    play.pass(other, again.lease, 0);
    play.close(other, again.lease);
    assert_eq!(closed(&play), "green");
    assert_eq!(play.run.record().copies().won, 1);
}

/// The first one was asked for the second case of two, and does not answer. The second slot is to run both, too.
fn without_answer() -> (Play, u64, u64) {
    let mut play = Play::begin_with(suite(), history());
    play.join(1);
    play.list(1, &["late"]);
    play.join(2);
    let lease = play.lease(1).lease;
    play.load(1, lease, &["late", AS_LONG]);
    let asked = |command: &Command| matches!(command, Command::Revoke { from: 1, .. });
    assert!(play.told(1).iter().any(asked), "the second slot is free");
    let mut copy = None;
    while copy.is_none() && play.now < seconds(60) {
        play.pass_time(Micros(100_000));
        copy = play.leases(2).pop();
    }
    let copy = copy.expect("it is run once more");
    assert_eq!(copy.only.len(), 2);
    (play, lease, copy.lease)
}

/// What was given back is run, by whoever gets it.
fn goes_on(play: &mut Play) {
    play.pass_time(seconds(1));
    let leases = [1, 2].map(|agent| (agent, play.leases(agent).pop()));
    let part = leases
        .into_iter()
        .find_map(|(agent, lease)| Some((agent, lease?)));
    let (agent, part) = part.expect("what was given back goes on");
    assert_eq!(part.only.len(), 1);
    assert_eq!(part.only[0].id, AS_LONG);
    play.load(agent, part.lease, &[AS_LONG]);
    play.pass(agent, part.lease, 0);
    play.close(agent, part.lease);
    assert_eq!(closed(play), "green");
}

/// What hangs may be just what should give back the others.
#[test]
fn what_does_not_answer_is_run_once_more_with_all_that_it_has() {
    let (mut play, lease, copy) = without_answer();
    play.load(2, copy, &["late", AS_LONG]);
    play.pass(2, copy, 0);
    play.pass(2, copy, 1);
    play.close(2, copy);
    assert!(cancelled(&mut play, 1, lease));
    assert_eq!(closed(&play), "green");
}

#[test]
fn what_answers_when_its_case_is_decided_elsewhere_is_not_waited_for() {
    let (mut play, lease, copy) = without_answer();
    play.load(2, copy, &["late", AS_LONG]);
    play.pass(2, copy, 0);
    assert!(!cancelled(&mut play, 1, lease), "it has another one");
    give_back(&mut play, 1, lease);
    assert!(cancelled(&mut play, 1, lease));
    play.close(2, copy);
    begins_anew(&mut play, 1);
    goes_on(&mut play);
}

#[test]
fn what_answers_before_it_is_loaded_elsewhere_runs_it_alone() {
    let (mut play, lease, copy) = without_answer();
    give_back(&mut play, 1, lease);
    assert!(cancelled(&mut play, 2, copy));
    begins_anew(&mut play, 2);
    play.pass(1, lease, 0);
    play.close(1, lease);
    goes_on(&mut play);
    assert_eq!(play.run.record().copies().given, 0);
}

/// While others wait nobody knows how long it should take.
#[test]
fn what_no_earlier_run_knows_is_run_once_more_when_it_takes_far_longer_than_others() {
    let (open, late, play, _) = run_once_more(hanging(History::default()));
    assert_eq!(open, 1);
    assert!(late >= seconds(10), "{late}");
    assert_eq!(closed(&play), "green");
}

/// Of files it is known what they take, and not of their tests: one of those may well take twice as long as they do on average.
#[test]
fn of_a_file_a_test_that_takes_too_long_is_run_once_more_though_its_own_time_is_not_known() {
    let mut history = history();
    history.suites[0].cases.clear();
    let Late {
        play, lease, copy, ..
    } = all_but_the_late_ones_by(history, suite(), &["late"]);
    assert!(copy.is_some());
    let late = play.now - play.run.record().lease(lease).unwrap().begun.unwrap().at;
    assert!(late > seconds(3), "{late}");
}

#[test]
fn a_suite_that_says_nothing_of_it_is_run_once() {
    let Late {
        mut play,
        on,
        lease,
        copy,
        ..
    } = all_but_the_late_one(Play::suite());
    play.pass_time(seconds(60));
    assert!(copy.is_none() && play.leases(3 - on).is_empty());
    play.pass(on, lease, 0);
    play.close(on, lease);
    assert_eq!(closed(&play), "green");
}

#[test]
fn one_that_takes_too_long_as_well_is_ended_when_a_twentieth_has_been_spent() {
    let Twice {
        mut play,
        lease,
        other,
        copy,
        ..
    } = copied();
    play.pass_time(seconds(30));
    assert!(cancelled(&mut play, other, copy));
    let record = play.run.record();
    let work: Micros = record
        .leases
        .iter()
        .filter(|lease| lease.copied.is_none())
        .map(|lease| lease.span())
        .sum();
    let at_work = play.now - record.lease(lease).unwrap().begun.unwrap().at;
    let spent = record.copies().spent;
    assert!(
        spent.0 * 20 <= (work + at_work).0,
        "{spent} of {work} and {at_work}"
    );
    assert!(spent > seconds(2), "{spent}");
}
