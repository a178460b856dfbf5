//! What the coordinator says: queued for the process, or answered in its place.

use super::{Item, Slot, SlotCommand};
use crate::runner::{Carried, Op};
use evenkeel_proto::v1;
use v1::fact::Body;
use v1::process_ended::Cause;

impl Slot {
    pub(super) fn command(&mut self, command: SlotCommand) {
        match command {
            // What it was asked before the session was cut it may be asked once more.
            SlotCommand::List { ask, .. } if ask != 0 && ask == self.list_ask => {}
            SlotCommand::List { kind, ask } => {
                self.list_ask = ask;
                self.queue.push_back(Item::List(kind, ask));
            }
            SlotCommand::Idle { ends } if ends != self.ends => {}
            SlotCommand::Idle { .. } => self.queue.push_back(Item::Idle),
            SlotCommand::Recycle => self.queue.push_back(Item::Recycle),
            SlotCommand::Conclude => self.conclude(),
            SlotCommand::Keep { leases } => self.keep(&leases),
            SlotCommand::Finish { ask, .. } if self.finish_ask == Some(ask) && ask != 0 => {}
            SlotCommand::Finish {
                kind,
                ask,
                carried,
                more,
            } => {
                self.carried.extend(carried.into_iter().map(|one| Carried {
                    slot: one.shard,
                    carry: one.carry,
                }));
                if !more {
                    self.finish_ask = Some(ask);
                    self.queue.push_back(Item::Finish(kind));
                }
            }
            // A lease that crossed the news of a process's end on its way is void already.
            SlotCommand::Lease(lease) if lease.ends != self.ends => {
                self.last_lease = self.last_lease.max(lease.lease);
            }
            SlotCommand::Lease(lease) => {
                self.last_lease = self.last_lease.max(lease.lease);
                if lease.fresh {
                    self.queue.push_back(Item::Recycle);
                }
                let last = lease.last;
                self.queue.push_back(Item::Lease(lease));
                if last {
                    self.queue.push_back(Item::Recycle);
                }
            }
            SlotCommand::Revoke(revoke) => self.revoke(&revoke),
            SlotCommand::Cancel { lease } => self.cancel(lease),
            SlotCommand::Close { abort } => {
                self.closing = true;
                let ready = self.live.as_ref().is_some_and(|live| live.hello);
                if abort || !ready {
                    self.queue.clear();
                    self.kill(
                        Cause::Ended,
                        "ended by the agent, as it was told".to_owned(),
                    );
                }
            }
        }
        if self.live.is_none()
            && self.set_ups.under_way.is_none()
            && !self.closing
            && self.queue.iter().any(|item| !matches!(item, Item::Idle))
            && (!self.concluded || self.finishes())
        {
            self.start();
        }
    }

    pub(super) fn finishes(&self) -> bool {
        self.queue
            .iter()
            .any(|item| matches!(item, Item::Finish(_)))
    }

    /// The process comes to its end when what it holds is done; one that is not ready yet has nothing to say.
    pub(super) fn conclude(&mut self) {
        self.concluded = true;
        if self.queue.iter().any(|item| matches!(item, Item::Conclude)) {
            return;
        }
        match &self.live {
            Some(live) if live.hello => self.queue.push_back(Item::Conclude),
            Some(_) => {
                self.queue.clear();
                self.kill(Cause::Ended, "it was not needed any more".to_owned());
            }
            None => self.owes_concluded = true,
        }
    }

    /// After the session was cut: what does not stand any more is dropped, and what never arrived is given back.
    pub(super) fn keep(&mut self, leases: &[u64]) {
        self.queue
            .retain(|item| !matches!(item, Item::Lease(lease) if !leases.contains(&lease.lease)));
        let unknown: Vec<u64> = leases
            .iter()
            .copied()
            .filter(|&lease| lease > self.last_lease)
            .collect();
        for lease in unknown {
            self.last_lease = lease;
            let returned = v1::Returned {
                lease,
                generation: 1,
                cases: Vec::new(),
                all: true,
            };
            self.fact(Body::Returned(returned), true);
        }
        let Some(live) = &self.live else { return };
        let mut held = live.leases.iter().map(|held| held.0.lease);
        if held.any(|lease| !leases.contains(&lease)) {
            self.kill(
                Cause::Ended,
                "ended by the agent: what it ran is not its own any more".to_owned(),
            );
        } else if live.waiting
            && let Some(held) = live.leases.front()
        {
            // Whoever took over may not have heard of it.
            let waiting = v1::Waiting {
                lease: held.0.lease,
            };
            self.fact(Body::Waiting(waiting), true);
        }
    }

    /// What is queued is dropped. A process listens between its tests only, so one that has the lease is ended: the other half of what
    /// ran twice has decided it, and nobody is to wait for this one.
    fn cancel(&mut self, lease: u64) {
        self.queue
            .retain(|item| !matches!(item, Item::Lease(queued) if queued.lease == lease));
        let mut held = self.live.iter().flat_map(|live| &live.leases);
        if held.any(|held| held.0.lease == lease) {
            self.kill(
                Cause::Ended,
                "ended by the agent: what it ran was decided elsewhere".to_owned(),
            );
        }
    }

    pub(super) fn revoke(&mut self, revoke: &v1::Revoke) {
        let queued = self
            .queue
            .iter()
            .position(|item| matches!(item, Item::Lease(l) if l.lease == revoke.lease));
        if let Some(queued) = queued {
            self.queue.remove(queued);
            let returned = v1::Returned {
                lease: revoke.lease,
                generation: revoke.generation,
                cases: Vec::new(),
                all: true,
            };
            self.fact(Body::Returned(returned), true);
            return;
        }
        let Some(live) = &mut self.live else { return };
        if !live.raise_generation(revoke.lease, revoke.generation) {
            return;
        }
        // What the process may not start yet need not wait for its answer.
        let taken = if live.can_revoke {
            live.take_back(revoke.lease, revoke.from)
        } else {
            Some((revoke.from, Vec::new()))
        };
        let from = taken.as_ref().map_or(revoke.from, |(from, _)| *from);
        if taken.as_ref().is_none_or(|(_, cases)| !cases.is_empty()) {
            live.send(&Op::Revoke {
                lease: revoke.lease,
                from,
            });
        }
        if let Some((_, cases)) = taken {
            let returned = v1::Returned {
                lease: revoke.lease,
                generation: revoke.generation,
                cases,
                all: false,
            };
            self.fact(Body::Returned(returned), true);
        }
    }
}
