//! An agent that lives, and does not end a test that ran past its deadline.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use evenkeel_coordinator::record::Verdict;
use evenkeel_coordinator::run::{
    AgentId, AgentJoined, Command, Effect, Event, Fact, FactBody, History, ProcessStarted, Rules,
    Run, Settings,
};
use evenkeel_proto::{ledger as l, suite::Suite};
use evenkeel_schedule::Micros;

fn seconds(count: u64) -> Micros {
    Micros(count * 1_000_000)
}

struct Agent {
    id: AgentId,
    opening: u64,
    sequence: u64,
}

impl Agent {
    fn tells(&mut self, body: FactBody) -> Event {
        self.sequence += 1;
        Event::Facts {
            agent: self.id,
            opening: self.opening,
            first_sequence: self.sequence,
            sent_at: Micros::ZERO,
            facts: vec![Fact {
                at: Micros::ZERO,
                slot: 0,
                body,
            }],
        }
    }
}

fn commands(effects: Vec<Effect>) -> Vec<Command> {
    let commands = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send { command, .. } => Some(command),
        _ => None,
    });
    commands.collect()
}

#[test]
fn a_test_that_nobody_ends_is_an_error_on_the_coordinators_clock() {
    let suite = Suite {
        name: "unit".into(),
        command: vec!["noop".into()],
        case_timeout_us: seconds(10).0,
        ..Suite::default()
    };
    let opened = l::RunOpened {
        project: "p".into(),
        run: "r".into(),
        suites: vec![suite],
        ..l::RunOpened::default()
    };
    let rules = Rules::new(&opened.suites).unwrap();
    let (mut run, _) = Run::open(opened, rules, Settings::default());
    let joined = AgentJoined {
        agent: AgentId(1),
        name: "a".into(),
        incarnation: "i".into(),
        environment_class: "c".into(),
        slots: vec![0],
        clock: Micros::ZERO,
    };
    let told = commands(run.step(Micros::ZERO, Event::AgentJoined(joined)));
    let opening = told.iter().find_map(|command| match command {
        Command::Open { opening, .. } => Some(*opening),
        _ => None,
    });
    let mut agent = Agent {
        id: AgentId(1),
        opening: opening.unwrap(),
        sequence: 0,
    };
    run.step(seconds(1), Event::History(History::default()));
    let started = FactBody::ProcessStarted(ProcessStarted::default());
    let mut told = told;
    told.extend(commands(run.step(seconds(1), agent.tells(started))));
    let ask = told.iter().find_map(|command| match command {
        Command::List { ask, .. } => Some(*ask),
        _ => None,
    });
    let listed = FactBody::Listed {
        kind: 0,
        ask: ask.unwrap(),
        units: vec![l::Unit {
            name: "test_it".into(),
            ..l::Unit::default()
        }],
        more: false,
    };
    run.step(seconds(1), agent.tells(listed));
    let told = commands(run.step(seconds(1), Event::Stored));
    let lease = told.iter().find_map(|command| match command {
        Command::Lease(lease) => Some(lease.lease),
        _ => None,
    });
    let lease = lease.unwrap();
    run.step(seconds(2), agent.tells(FactBody::UnitBegun { lease }));
    let cases = ["hangs", "behind"].map(|id| l::Case {
        id: id.into(),
        ..l::Case::default()
    });
    let declared = FactBody::Declared {
        lease,
        cases: cases.into(),
        more: false,
        instead: Vec::new(),
    };
    run.step(seconds(2), agent.tells(declared));
    // Time passes. The agent is there, and says nothing of the test.
    let mut closed = None;
    for second in 3..200 {
        let now = seconds(second);
        if run.wake_at(now).is_some_and(|at| at <= now + seconds(1)) {
            let told = commands(run.step(now, Event::Tick));
            if told.contains(&Command::CloseSlot {
                slot: 0,
                abort: true,
            }) {
                closed = Some(second);
                break;
            }
        }
    }
    let closed = closed.expect("the slot is taken from its agent");
    assert!((90..110).contains(&closed), "after {closed} s");
    let unit = &run.record().units[0];
    assert_eq!(unit.cases[0].verdict(), Some(Verdict::Error));
    assert_eq!(
        unit.cases[1].verdict(),
        None,
        "the other one is still to be run"
    );
    let attempt = unit.cases[0].last_attempt().unwrap();
    assert!(
        attempt.message.contains("ran past its deadline"),
        "{}",
        attempt.message
    );
}
