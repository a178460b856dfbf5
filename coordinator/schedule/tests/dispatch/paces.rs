//! Machines that become slower or faster in the middle of the run, as the parts of what their slots have at work tell it.

use evenkeel_schedule::{Dispatcher, Lap, Micros, Needs, Weight};

/// Slots of the first machine; the second has one.
const SLOTS: u32 = 4;
const OTHER: u32 = SLOTS;
const SECOND: u64 = 1_000_000;

/// Two machines. The first `busy` slots have something at work.
fn machines(busy: u32) -> Dispatcher {
    let mut dispatcher = Dispatcher::new();
    for slot in 0..=SLOTS {
        dispatcher.expect_on(slot / SLOTS, slot, 0);
        dispatcher.open(slot);
    }
    let weight = Weight {
        expected: Micros(100 * SECOND),
        high: Micros(150 * SECOND),
        order: Micros(100 * SECOND),
        known: true,
        early: 0,
    };
    for slot in 0..busy {
        dispatcher.holds(slot, slot, weight, &Needs::default(), Micros::ZERO);
        dispatcher.begun(slot, slot, Micros::ZERO);
    }
    dispatcher
}

/// What should take a second took so many milliseconds.
fn lap(took: u64, known: bool) -> Lap {
    Lap {
        expected: Micros(SECOND),
        took: Micros(took * 1000),
        known,
    }
}

/// Each slot in turn ends so many parts that took so many milliseconds instead of a second.
fn paced(dispatcher: &mut Dispatcher, parts: u64, took: &[u64], known: bool) {
    for part in 0..parts {
        for (slot, &took) in (0..).zip(took) {
            dispatcher.paced(slot, lap(took, known), Micros((part + 1) * SECOND));
        }
    }
}

fn speeds(dispatcher: &Dispatcher) -> Vec<u64> {
    (0..SLOTS).map(|slot| dispatcher.speed(slot)).collect()
}

/// All slots of a machine take three times as long: so will what they begin next, also where that has told nothing yet.
pub fn a_machine_slows_down() -> bool {
    let mut dispatcher = machines(SLOTS);
    paced(&mut dispatcher, 2, &[3000; 3], true);
    let slow = speeds(&dispatcher)
        .iter()
        .all(|speed| (300..420).contains(speed));
    slow && dispatcher.speed(OTHER) > 700
}

/// The same where nothing has ended since, by what is at work.
pub fn a_machine_nearly_stands_still() -> bool {
    let mut dispatcher = machines(SLOTS);
    for slot in 0..SLOTS {
        dispatcher.lags(slot, lap(10_000, true), Micros(10 * SECOND));
    }
    speeds(&dispatcher).iter().all(|speed| *speed < 200)
}

/// One slot is slower than was thought, by far and for long; its neighbours are as they were, or tell nothing.
pub fn one_slot_alone_tells_nothing() -> bool {
    [&[10_000, 1000, 1000, 1000][..], &[10_000][..]]
        .iter()
        .all(|took| {
            let mut dispatcher = machines(took.len() as u32);
            paced(&mut dispatcher, 10, took, true);
            dispatcher.lags(0, lap(60_000, true), Micros(70 * SECOND));
            speeds(&dispatcher) == [1000; SLOTS as usize]
        })
}

/// As many slots are slower than was thought as are faster: that is what they run, and not their machine.
pub fn both_directions_tell_nothing() -> bool {
    let mut dispatcher = machines(SLOTS);
    paced(&mut dispatcher, 3, &[3000, 333, 3000, 333], true);
    speeds(&dispatcher) == [1000; SLOTS as usize]
}

#[test]
fn a_machine_that_slows_down_is_noticed_by_its_slots_together() {
    assert!(a_machine_slows_down());
    assert!(a_machine_nearly_stands_still());
}

#[test]
fn a_machine_that_is_itself_again_is_noticed_as_well() {
    let mut dispatcher = machines(SLOTS);
    paced(&mut dispatcher, 2, &[3000; 4], true);
    let slow = speeds(&dispatcher);
    assert!(slow.iter().all(|speed| *speed < 420), "{slow:?}");
    paced(&mut dispatcher, 4, &[1000; 4], true);
    let fast = speeds(&dispatcher);
    assert!(fast.iter().all(|speed| *speed > 600), "{fast:?}");
}

#[test]
fn one_slot_alone_does_not_tell_of_its_machine() {
    assert!(one_slot_alone_tells_nothing());
}

#[test]
fn slots_that_differ_in_both_directions_do_not_tell_of_their_machine() {
    assert!(both_directions_tell_nothing());
}

#[test]
fn slots_that_have_nothing_at_work_have_no_voice() {
    let mut dispatcher = machines(2);
    paced(&mut dispatcher, 2, &[3000; 2], true);
    let slow = speeds(&dispatcher);
    assert!(slow.iter().all(|speed| *speed < 450), "{slow:?}");

    let mut dispatcher = machines(SLOTS);
    paced(&mut dispatcher, 2, &[3000; 2], true);
    assert_eq!(speeds(&dispatcher), [1000; 4], "two of four are not most");
}

/// What parts take by themselves is not known where only their unit has run before: it takes more of them to tell.
#[test]
fn what_is_only_guessed_tells_less() {
    let told = |parts: u64, known: bool| {
        let mut dispatcher = machines(SLOTS);
        paced(&mut dispatcher, parts, &[3000; 4], known);
        speeds(&dispatcher) != [1000; 4]
    };
    assert!(told(1, true));
    assert!(!told(1, false));
    assert!(told(6, false));
}
