//! An agent that lives, and does not end a test that ran past its deadline.

use crate::play::{Play, seconds};
use evenkeel_coordinator::record::Verdict;
use evenkeel_coordinator::run::{Command, Event};
use evenkeel_proto::suite::Suite;

#[test]
fn a_test_that_nobody_ends_is_an_error_on_the_coordinators_clock() {
    let mut play = Play::begin(Suite {
        case_timeout_us: seconds(10).0,
        ..Play::suite()
    });
    play.join(1);
    play.list(1, &["test_it"]);
    let lease = play.lease(1).lease;
    play.now = seconds(2);
    play.load(1, lease, &["hangs", "behind"]);
    // Time passes. The agent is there, and says nothing of the test.
    let aborted = Command::CloseSlot {
        slot: 0,
        abort: true,
    };
    let mut closed = None;
    for second in 3..200 {
        play.now = seconds(second);
        let due = play.run.wake_at(play.now);
        if due.is_some_and(|at| at <= play.now + seconds(1)) {
            play.step(Event::Tick);
            if play.told(1).contains(&aborted) {
                closed = Some(second);
                break;
            }
        }
    }
    let closed = closed.expect("the slot is taken from its agent");
    assert!((90..110).contains(&closed), "after {closed} s");
    let unit = &play.run.record().units[0];
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
