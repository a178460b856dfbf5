//! Who holds what while units run: named locks, and the run as a whole for what must run alone.
//!
//! A slot takes a lock with the first lease that needs it and keeps it until none of its leases does, so that units which
//! need the same lock follow each other there without a round trip between them. No other slot is given one meanwhile.

use super::Run;
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Needs;
use l::entry::Body;

#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Of each lock who holds it, and for how many of its leases.
    held: Vec<Option<(u32, u32)>>,
    /// The same for the run as a whole.
    alone: Option<(u32, u32)>,
}

impl Locks {
    pub(super) fn new(count: usize) -> Locks {
        Locks {
            held: vec![None; count],
            alone: None,
        }
    }
}

impl Locks {
    /// A lease that stood before a recovery: what it needs is held, and on record.
    pub(super) fn hold_again(&mut self, shard: u32, needs: &Needs) {
        for &lock in &needs.locks {
            take(&mut self.held[lock as usize], shard);
        }
        if needs.exclusive {
            take(&mut self.alone, shard);
        }
    }
}

/// One more lease of a shard needs what it may hold already.
fn take(held: &mut Option<(u32, u32)>, shard: u32) -> bool {
    match held {
        Some((holder, count)) => {
            debug_assert_eq!(*holder, shard, "a lock is given to one slot at a time");
            *count += 1;
            false
        }
        None => {
            *held = Some((shard, 1));
            true
        }
    }
}

/// One lease fewer does. Whether it was the last.
fn release(held: &mut Option<(u32, u32)>) -> bool {
    match held {
        Some((_, count)) if *count > 1 => {
            *count -= 1;
            false
        }
        _ => held.take().is_some(),
    }
}

impl Run {
    /// A lease is about to be given: its slot holds what the unit needs from now on.
    pub(super) fn lock(&mut self, shard: u32, lease: u64, unit: u32) {
        let needs = self.units[unit as usize].needs.clone();
        for &lock in &needs.locks {
            if take(&mut self.locks.held[lock as usize], shard) {
                self.dispatcher.hold(lock, Some(shard));
                let lock = self.rules.lock(lock).to_owned();
                self.append(Body::Locked(l::Locked { lock, shard, lease }));
            }
        }
        if needs.exclusive {
            take(&mut self.locks.alone, shard);
        }
    }

    /// A lease has ended, however it did.
    pub(super) fn unlock(&mut self, shard: u32, lease: u64) {
        let unit = self.record.lease(lease).map_or(0, |lease| lease.unit);
        let needs = self.units[unit as usize].needs.clone();
        for &lock in &needs.locks {
            if release(&mut self.locks.held[lock as usize]) {
                self.dispatcher.hold(lock, None);
                let lock = self.rules.lock(lock).to_owned();
                self.append(Body::Unlocked(l::Unlocked { lock, shard }));
            }
        }
        if needs.exclusive {
            release(&mut self.locks.alone);
        }
    }

    /// A lease that is not taken up again has ended: what nothing else of its slot needs is on record as let go.
    pub(super) fn unlock_unheld(&mut self, shard: u32, unit: u32) {
        let needs = self.units[unit as usize].needs.clone();
        for &lock in &needs.locks {
            if self.locks.held[lock as usize].is_none() {
                let lock = self.rules.lock(lock).to_owned();
                self.append(Body::Unlocked(l::Unlocked { lock, shard }));
            }
        }
    }

    /// Whether a slot holds what the unit needs, a lock or the run as a whole, so that nobody else could run it now.
    pub(super) fn holds_for(&self, shard: u32, unit: u32) -> bool {
        let needs = &self.units[unit as usize].needs;
        let holds = |held: Option<(u32, u32)>| held.is_some_and(|(holder, _)| holder == shard);
        let mut locks = needs.locks.iter();
        locks.any(|&lock| holds(self.locks.held[lock as usize]))
            || needs.exclusive && holds(self.locks.alone)
    }

    /// Tells the dispatcher whether what must run alone runs, or may start.
    pub(super) fn keep_quiet(&mut self) {
        let alone = self.locks.alone.map(|(holder, _)| holder);
        let quiet = self.is_listed() && self.shards.iter().all(|shard| shard.leases.is_empty());
        self.dispatcher.isolate(alone, quiet);
    }
}
