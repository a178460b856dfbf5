//! When slots should be looked at, though nothing happens to them: each at one time at most.
//!
//! Times change far more often than they come, so that a heap is kept of all that were said, in which those are passed over that hold
//! no longer. The one on top always holds.

use crate::Micros;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// So many times are kept for each slot that has one, and so many more, before those go that hold no longer.
const EACH: usize = 4;
const AT_LEAST: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Due {
    said: BinaryHeap<Reverse<(Micros, u32)>>,
    /// Of each slot.
    times: Vec<Option<Micros>>,
    count: usize,
}

impl Due {
    fn holds(&self, &Reverse((at, slot)): &Reverse<(Micros, u32)>) -> bool {
        self.times.get(slot as usize) == Some(&Some(at))
    }

    /// The slot should be looked at then, and no more when it should have been before.
    pub fn set(&mut self, slot: u32, at: Micros) {
        if self.holds(&Reverse((at, slot))) {
            return;
        }
        self.forget(slot);
        if self.times.len() <= slot as usize {
            self.times.resize(slot as usize + 1, None);
        }
        self.times[slot as usize] = Some(at);
        self.count += 1;
        self.said.push(Reverse((at, slot)));
        if self.said.len() > EACH * self.count + AT_LEAST {
            let mut all = std::mem::take(&mut self.said).into_vec();
            all.retain(|said| self.holds(said));
            all.sort_unstable();
            all.dedup();
            self.said = all.into();
        }
    }

    pub fn forget(&mut self, slot: u32) {
        if self
            .times
            .get_mut(slot as usize)
            .and_then(Option::take)
            .is_some()
        {
            self.count -= 1;
            while self.said.peek().is_some_and(|said| !self.holds(said)) {
                self.said.pop();
            }
        }
    }

    /// The first slot whose time has come. It has none from then on.
    pub fn take(&mut self, now: Micros) -> Option<u32> {
        let &Reverse((_, slot)) = self.said.peek().filter(|said| said.0.0 <= now)?;
        self.forget(slot);
        Some(slot)
    }

    /// The first time that is still to come. Where others have come and were not taken, all are looked at.
    pub fn after(&self, now: Micros) -> Option<Micros> {
        let comes = |said: &&Reverse<(Micros, u32)>| said.0.0 > now && self.holds(said);
        let first = self.said.peek().filter(comes);
        let first = first.or_else(|| self.said.iter().filter(comes).max());
        first.map(|said| said.0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Copy, Debug)]
    enum Call {
        Set(u32, u64),
        Forget(u32),
        Take(u64),
        After(u64),
    }

    const SLOTS: u32 = 12;

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            4 => (0..SLOTS, 0u64..40).prop_map(|(slot, at)| Call::Set(slot, at)),
            1 => (0..SLOTS).prop_map(Call::Forget),
            1 => (0u64..40).prop_map(Call::Take),
            2 => (0u64..40).prop_map(Call::After),
        ]
    }

    proptest! {
        #[test]
        fn it_answers_as_a_list_of_the_times_would(calls in prop::collection::vec(call(), 0..600)) {
            let mut due = Due::default();
            let mut times: BTreeMap<u32, u64> = BTreeMap::new();
            for call in calls {
                match call {
                    Call::Set(slot, at) => {
                        due.set(slot, Micros(at));
                        times.insert(slot, at);
                    }
                    Call::Forget(slot) => {
                        due.forget(slot);
                        times.remove(&slot);
                    }
                    Call::Take(now) => {
                        // Of those of one time it is not said which comes first.
                        let first = times.values().min().filter(|at| **at <= now).copied();
                        let taken = due.take(Micros(now));
                        prop_assert_eq!(taken.and_then(|slot| times.remove(&slot)), first);
                    }
                    Call::After(now) => {
                        let next = times.values().filter(|at| **at > now).min();
                        prop_assert_eq!(due.after(Micros(now)), next.map(|at| Micros(*at)));
                    }
                }
                prop_assert_eq!(due.count, times.len());
                prop_assert!(due.said.len() <= EACH * SLOTS as usize + AT_LEAST);
            }
        }
    }
}
