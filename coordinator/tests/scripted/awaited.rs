//! Agents that a run waits for.

use crate::play::{Play, seconds};
use evenkeel_coordinator::run::{AgentId, Event};

/// It was left by everybody 50 s ago. Then somebody was there who could have served it, and was cut off.
#[test]
fn who_was_there_a_moment_ago_is_waited_for_from_then_on() {
    let mut play = Play::begin(Play::suite());
    play.step(Event::Matching { any: true });
    play.join(1);
    play.list(1, &["test_it"]);
    play.step(Event::AgentGone {
        agent: AgentId(1),
        reason: "it said goodbye".into(),
        lost: false,
    });
    play.step(Event::Matching { any: false });
    play.pass_time(seconds(50));
    play.step(Event::Matching { any: true });
    play.pass_time(seconds(30));
    play.step(Event::Matching { any: false });
    play.pass_time(seconds(50));
    let open = play.run.record().closed.is_none();
    assert!(open, "nobody was away for 60 s on end");
    play.join(2);
    let lease = play.lease(2).lease;
    play.load(2, lease, &["a"]);
    play.pass(2, lease, 0);
    play.close(2, lease);
    let closed = play.run.record().closed.as_ref();
    assert_eq!(closed.unwrap().verdict, "green");
}

#[test]
fn nobody_is_waited_for_without_end() {
    let mut play = Play::begin(Play::suite());
    play.join(1);
    play.list(1, &["test_it"]);
    play.step(Event::AgentGone {
        agent: AgentId(1),
        reason: "it said goodbye".into(),
        lost: false,
    });
    play.step(Event::Matching { any: false });
    play.pass_time(seconds(61));
    let closed = play.run.record().closed.as_ref();
    assert_eq!(closed.unwrap().exit_code, 3);
}
