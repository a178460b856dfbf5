//! A case that runs alone since an agent was lost with it, and whose slot is wanted elsewhere.

use crate::play::{Play, seconds};
use evenkeel_coordinator::record::Verdict;
use evenkeel_coordinator::run::{AgentId, Command, Event, FactBody};

/// The case has been leased to the second agent, by itself, and that has given it back.
fn given_back() -> (Play, u64) {
    let mut play = Play::begin(Play::suite());
    play.join(1);
    play.list(1, &["test_it"]);
    let lease = play.lease(1).lease;
    play.load(1, lease, &["takes_it_down"]);
    play.now = seconds(6);
    play.step(Event::AgentGone {
        agent: AgentId(1),
        reason: "nothing was heard of it".into(),
        lost: true,
    });
    play.join(2);
    let lease = play.lease(2);
    assert_eq!(lease.only.len(), 1, "it runs alone");
    let lease = lease.lease;
    play.load(2, lease, &["takes_it_down"]);
    play.step(Event::Release {
        agent: AgentId(2),
        slots: vec![0],
    });
    let revoked = |command: &Command| matches!(command, Command::Revoke { from: 0, .. });
    assert!(play.told(2).iter().any(revoked));
    let returned = FactBody::Returned {
        lease,
        cases: vec![0],
        all: false,
    };
    play.tell(2, returned);
    (play, lease)
}

/// Somebody else runs it, and so it ends.
fn runs_elsewhere(mut play: Play) {
    play.join(3);
    let lease = play.lease(3);
    assert_eq!(lease.only.len(), 1, "it runs alone here too");
    let lease = lease.lease;
    play.load(3, lease, &["takes_it_down"]);
    play.pass(3, lease, 0);
    play.close(3, lease);
    let record = play.run.record();
    let case = &record.units[0].cases[0];
    assert_eq!(case.verdict(), Some(Verdict::Passed));
    let closed = record.closed.as_ref().expect("nothing is left to run");
    assert_eq!(closed.verdict, "green");
}

#[test]
fn it_runs_elsewhere_when_its_slot_has_given_it_back() {
    let (mut play, lease) = given_back();
    play.close(2, lease);
    play.tell(2, FactBody::SlotClosed);
    runs_elsewhere(play);
}

#[test]
fn it_runs_once_where_who_gave_it_back_is_lost() {
    let (mut play, _) = given_back();
    play.step(Event::AgentGone {
        agent: AgentId(2),
        reason: "nothing was heard of it".into(),
        lost: true,
    });
    runs_elsewhere(play);
}

#[test]
fn it_runs_elsewhere_where_the_coordinator_was_lost_meanwhile() {
    let (mut play, lease) = given_back();
    play.crash();
    play.back(2);
    play.close(2, lease);
    play.tell(2, FactBody::SlotClosed);
    runs_elsewhere(play);
}
