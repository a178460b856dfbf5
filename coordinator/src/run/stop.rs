//! Ending a run early: nothing new starts, what runs may finish, the rest is marked as not run.

use super::{Micros, Phase, Run};
use evenkeel_proto::ledger as l;
use l::entry::Body;

impl Run {
    pub(super) fn stop(&mut self, now: Micros, reason: &str, interrupted: bool, grace: Micros) {
        if self.is_closed() {
            return;
        }
        if grace < Micros::MAX {
            let by = now + grace;
            self.stop_at = Some(self.stop_at.map_or(by, |at| at.min(by)));
        }
        if self.record.stopped.is_some() {
            return;
        }
        self.append(Body::Stopped(l::Stopped {
            reason: reason.to_owned(),
            interrupted,
            until_us: if grace < Micros::MAX {
                (now + grace).0
            } else {
                0
            },
        }));
        self.cancel_copies(now);
        if self.phase == Phase::Listing {
            self.phase = Phase::Running;
            self.close_works();
            self.dispatcher.drain(|_| true);
            return;
        }
        for work in self.dispatcher.drain(|_| true) {
            let unit = self.works[work as usize].unit;
            self.open_less(unit);
        }
        // Give back everything that has not started: queued leases whole, running ones from the next case on.
        let held: Vec<(u32, u64)> = self
            .shards
            .iter()
            .enumerate()
            .flat_map(|(shard, state)| {
                state
                    .leases
                    .iter()
                    .map(move |(lease, _)| (shard as u32, *lease))
            })
            .collect();
        for (shard, lease) in held {
            self.revoke(shard, lease, 0);
        }
    }
}
