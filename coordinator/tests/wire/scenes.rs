//! Worlds that are written down rather than drawn, where a test is about one moment. Each plays by itself, as a seed does, and must keep
//! what all worlds must keep.

use crate::faults::Fault;
use crate::suite::{Behaviour, Play, Unit};
use crate::world::{AgentEnd, AgentPlan, Log, Plan};
use evenkeel_agent::Left;
use std::collections::BTreeMap;
use std::time::Duration;

/// A world, and what is to be seen of it beyond what must hold in all.
pub struct Scene {
    pub name: &'static str,
    pub plan: fn() -> Plan,
    pub look: fn(&Log),
}

pub const SCENES: [Scene; 4] = [
    Scene {
        name: "listing",
        plan: listing,
        look: |_| {},
    },
    Scene {
        name: "unneeded",
        plan: unneeded,
        look: stayed,
    },
    Scene {
        name: "label",
        plan: || lacking(milliseconds(500), milliseconds(100)),
        look: sent_away,
    },
    Scene {
        name: "label, early",
        plan: || lacking(milliseconds(100), milliseconds(500)),
        look: sent_away,
    },
];

const fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One run, in a network that is fast and does not fail.
fn quiet(play: Play, agents: Vec<AgentPlan>) -> Plan {
    Plan {
        plays: vec![play],
        submitted: vec![milliseconds(200)],
        agents,
        faults: Vec::new(),
        twin: None,
        latency: (milliseconds(1), milliseconds(2)),
        tick: milliseconds(2),
        disk: 0,
    }
}

/// Units of tests that pass, by how long each takes.
fn play(units: &[&[u64]]) -> Play {
    let units = units.iter().enumerate().map(|(number, cases)| {
        let cases = cases
            .iter()
            .map(|case| (Behaviour::Pass, milliseconds(*case)));
        Unit {
            name: format!("unit{number}"),
            cases: cases.collect(),
            loads: milliseconds(10),
        }
    });
    Play {
        run: "run0".into(),
        units: units.collect(),
        priority: 0,
        labels: Vec::new(),
        lingers: false,
        grants: true,
        closing: false,
        finish: false,
        listing: Duration::ZERO,
        starts: milliseconds(20),
    }
}

fn agent(comes: Duration) -> AgentPlan {
    AgentPlan {
        slots: 1,
        comes,
        only: None,
        wait: milliseconds(20_000),
        labels: BTreeMap::new(),
    }
}

/// The first agent is lost while it lists. The others have run all that is known of, and their last tests wait to hear what comes
/// next when one of them is asked for the listing in its turn.
fn listing() -> Plan {
    let play = Play {
        lingers: true,
        listing: milliseconds(900),
        ..play(&[&[10], &[10], &[10], &[10], &[10], &[10]])
    };
    let later = agent(milliseconds(100));
    let agents = vec![agent(Duration::ZERO), later.clone(), later];
    let lost = Fault::Kill(0, milliseconds(8_000));
    Plan {
        faults: vec![(milliseconds(2_600), lost)],
        ..quiet(play, agents)
    }
}

/// One agent runs the only test, which takes longer than another one that is for this run would wait for it to be submitted.
fn unneeded() -> Plan {
    let late = AgentPlan {
        only: Some(0),
        wait: milliseconds(500),
        ..agent(milliseconds(800))
    };
    quiet(play(&[&[1_900]]), vec![agent(Duration::ZERO), late])
}

fn end_of(seen: &Log, wanted: usize) -> (Duration, AgentEnd) {
    let mut left = seen.left.iter();
    let left = left.find(|(agent, _, _)| *agent == wanted);
    let (_, at, end) = left.expect("it has left").clone();
    (at, end)
}

fn stayed(seen: &Log) {
    let (at, end) = end_of(seen, 1);
    assert!(at > milliseconds(2_000), "it left after {at:?}: {end:?}");
    let AgentEnd::Left(Left::Dismissed { failed: false, .. }) = end else {
        panic!("its run was there and has ended: {end:?}");
    };
}

/// An agent that is for a run only which wants agents of another kind.
fn lacking(submitted: Duration, comes: Duration) -> Plan {
    let zone = ("zone".to_owned(), "a".to_owned());
    let able = AgentPlan {
        labels: BTreeMap::from([zone.clone()]),
        ..agent(Duration::ZERO)
    };
    let other = AgentPlan {
        only: Some(0),
        ..agent(comes)
    };
    let play = Play {
        labels: vec![zone],
        ..play(&[&[1_000, 1_000, 1_000]])
    };
    Plan {
        submitted: vec![submitted],
        ..quiet(play, vec![able, other])
    }
}

fn sent_away(seen: &Log) {
    let (at, end) = end_of(seen, 1);
    assert!(at < milliseconds(1_000), "it left after {at:?} only");
    match end {
        AgentEnd::Left(Left::Dismissed { reason, failed }) => {
            assert!(failed && reason.contains("zone=a"), "{reason}");
        }
        other => panic!("it was for a run that cannot use it: {other:?}"),
    }
}

fn plays(name: &str) {
    crate::play(name, None, false).unwrap_or_else(|why| panic!("scene {name}: {why}"));
}

#[test]
fn a_listing_that_is_asked_of_a_slot_lets_its_last_test_go() {
    plays("listing");
}

#[test]
fn an_agent_whose_run_does_not_need_it_stays_until_that_has_ended() {
    plays("unneeded");
}

#[test]
fn an_agent_that_lacks_a_label_of_its_run_is_sent_away_at_once() {
    plays("label");
    plays("label, early");
}
