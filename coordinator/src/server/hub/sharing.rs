//! Who has which slots: what the pure function in `seats` says, carried out.

use super::{Hub, TURN};
use crate::run::{AgentJoined, Event};
use crate::server::metrics;
use crate::server::run_task::RunMessage;
use crate::server::seats::{Claim, Member, Seat, share};
use std::collections::BTreeMap;
use tokio::time::Instant;

impl Hub {
    pub(super) fn share(&mut self) {
        self.look = None;
        let now = Instant::now();
        let passed = now.duration_since(self.shared).as_secs_f64();
        self.shared = now;
        if self.runs.is_empty() {
            return;
        }
        let mut members = BTreeMap::new();
        for (id, agent) in &self.agents {
            for seat in &agent.member.seats {
                if let Some(live) = seat.run().and_then(|run| self.runs.get_mut(&run)) {
                    live.claim.served += passed;
                }
            }
            let serves = agent.member.serves && agent.outbox.is_some();
            let member = Member {
                serves,
                ..agent.member.clone()
            };
            members.insert(*id, member);
        }
        let claims: BTreeMap<u64, Claim> = self
            .runs
            .iter()
            .map(|(number, live)| (*number, live.claim.clone()))
            .collect();
        let shares = share(&members, &claims);
        for ((run, id), slots) in shares.give {
            let (Some(agent), Some(live)) = (self.agents.get_mut(&id), self.runs.get(&run)) else {
                continue;
            };
            let Some(outbox) = agent.outbox.clone() else {
                continue;
            };
            for slot in &slots {
                agent.member.seats[*slot as usize] = Seat::Serves(run);
            }
            agent.runs.insert(run);
            let joined = AgentJoined {
                agent: id,
                name: agent.name.clone(),
                incarnation: agent.incarnation.clone(),
                environment_class: agent.environment_class.clone(),
                slots,
                clock: agent.clock,
            };
            live.door.tell(RunMessage::Agent { joined, outbox });
        }
        for (run, (count, agents)) in shares.ask {
            let Some(live) = self.runs.get(&run) else {
                continue;
            };
            // The run knows which it can do without; until it has said so, it is not asked again.
            let mut left = count;
            for id in &agents {
                let Some(agent) = self.agents.get_mut(id) else {
                    continue;
                };
                let seats = agent.member.seats.iter_mut();
                let own: Vec<&mut Seat> = seats
                    .filter(|seat| **seat == Seat::Serves(run))
                    .take(left as usize)
                    .collect();
                left -= own.len() as u32;
                let count = own.len() as u32;
                own.into_iter().for_each(|seat| *seat = Seat::Leaves(run));
                live.door.event(Event::Spare { agent: *id, count });
            }
        }
        if self.runs.len() > 1 {
            self.look = Some(now + TURN);
        }
    }

    /// Counts who is there and who serves.
    pub(super) fn count(&self) {
        let connected = self.agents.values().filter(|agent| agent.outbox.is_some());
        let seats = connected.clone().flat_map(|agent| &agent.member.seats);
        let serving = seats.clone().filter(|seat| **seat != Seat::Free).count();
        metrics::agents(connected.count(), seats.count() - serving, serving);
    }
}

/// Whether it is to be looked again who should have what, where what a run could use was the first of these and is now the second: what
/// one leaves another may want, and one that is alone may want what nobody has.
pub(super) fn is_worth_a_look<'a>(
    runs: usize,
    (before, now): (u32, u32),
    mut seats: impl Iterator<Item = &'a Seat>,
) -> bool {
    runs > 1 || before < now && seats.any(|seat| *seat == Seat::Free)
}

/// A run has given a slot back. Which one it can do without it knows better than who asked: another one that was marked stays.
pub(super) fn free(seats: &mut [Seat], slot: u32, run: u64) {
    let Some(seat) = seats
        .get_mut(slot as usize)
        .filter(|seat| seat.run() == Some(run))
    else {
        return;
    };
    let asked = std::mem::replace(seat, Seat::Free) == Seat::Leaves(run);
    if !asked && let Some(marked) = seats.iter_mut().find(|seat| **seat == Seat::Leaves(run)) {
        *marked = Seat::Serves(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_alone_gets_what_it_could_not_use_before() {
        let seats = [Seat::Serves(1), Seat::Free];
        assert!(is_worth_a_look(1, (0, 1), seats.iter()));
        assert!(!is_worth_a_look(1, (2, 1), seats.iter()), "it keeps it");
        assert!(
            !is_worth_a_look(1, (1, 2), seats[..1].iter()),
            "none is free"
        );
        assert!(is_worth_a_look(2, (2, 1), seats.iter()));
    }
}
