//! Giving out: what each slot gets, what is taken back from it, and when it hears that nothing more comes.

use super::{CaseKey, Command, LeaseCommand, Micros, Part, Run, ShardState, Work};
use evenkeel_proto::ledger as l;
use l::entry::Body;

impl Run {
    /// Gives every slot what it should hold now, and tells those for whom there is nothing more.
    pub(super) fn hand_out(&mut self, now: Micros) {
        if self.record.stopped.is_none() {
            if self.settings.script.is_some() {
                for shard in 0..self.shards.len() as u32 {
                    if self.takes_leases(shard) {
                        self.hand_out_script(shard);
                    }
                }
            } else {
                // Who has nothing comes first: a reserve for a busy slot must not be what an idle one could run now. A process
                // that has let go of everything comes last.
                let free = |run: &Run, shard| {
                    run.dispatcher.is_free(shard) && !run.shards[shard as usize].told_idle
                };
                self.hand_out_to(now, 1, free);
                self.hand_out_to(now, usize::MAX, |_, _| true);
            }
        }
        self.take_back(now);
        self.tell_idle();
    }

    fn hand_out_to(&mut self, now: Micros, most: usize, whom: impl Fn(&Run, u32) -> bool) {
        for shard in 0..self.shards.len() as u32 {
            if !self.takes_leases(shard) || !whom(self, shard) {
                continue;
            }
            if self.shards[shard as usize].bundles {
                let works = self.dispatcher.bundle(shard, now, self.startup);
                // What wants a process of its own goes behind the bundle.
                let is_alone =
                    |work: &u32| matches!(self.works[*work as usize].part, Part::Alone(_));
                let (alone, together): (Vec<u32>, Vec<u32>) = works.into_iter().partition(is_alone);
                // What was decided meanwhile is not handed out, and must not be the last of a bundle.
                let (together, decided): (Vec<u32>, Vec<u32>) =
                    together.into_iter().partition(|work| {
                        matches!(self.works[*work as usize].part, Part::Rest)
                            || !self.open_of(*work).is_empty()
                    });
                for work in decided {
                    self.lease(now, shard, work, false);
                }
                let last = together.len().saturating_sub(1);
                for (at, work) in together.into_iter().enumerate() {
                    self.lease(now, shard, work, at < last);
                }
                for work in alone {
                    self.lease(now, shard, work, false);
                }
                continue;
            }
            for _ in 0..most {
                let Some(work) = self.dispatcher.next(shard, now) else {
                    break;
                };
                self.lease(now, shard, work, false);
            }
        }
    }

    /// Tells slots that nothing comes to them any more, so that they let go of what their tests share.
    ///
    /// It must not be taken back, or the slot's process would set up again what lives as long as it does. So it is said
    /// only when nothing can move any more; that costs nothing, since whoever still runs has the same to tear down. What
    /// comes from a lost process all the same is run in a new one.
    fn tell_idle(&mut self) {
        let untold = |shard: &ShardState| shard.ready && !shard.gone && !shard.told_idle;
        if !self.shards.iter().any(untold) {
            return;
        }
        let running = self.record.stopped.is_none() && !self.over;
        let revoking = |shard: &ShardState| shard.revoking.is_some() && !shard.gone;
        let more = running
            && (self.dispatcher.is_waiting()
                || !self.is_listed()
                || self.shards.iter().any(revoking));
        // What is taken back may also come again to the slot that gave it.
        let several = self.serving() > 1 && self.settings.script.is_none();
        let mut shards = 0..self.shards.len() as u32;
        if more || running && several && shards.any(|shard| self.is_movable(shard)) {
            return;
        }
        for shard in 0..self.shards.len() as u32 {
            if untold(&self.shards[shard as usize]) {
                self.shards[shard as usize].told_idle = true;
                let slot = self.record.shards[shard as usize].slot;
                let ends = self.shards[shard as usize].ends;
                self.send_to_shard(shard, Command::Idle { slot, ends });
            }
        }
    }

    /// Whether the slot is one to move work to. A process that has let go of what its tests share is none.
    pub(super) fn could_take(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        state.ready && !state.gone && !state.told_idle && self.dispatcher.is_free(shard)
    }

    /// Whether something that this slot holds may still move to another.
    fn is_movable(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        let moves =
            |&(_, work): &(u64, u32)| !matches!(self.works[work as usize].part, Part::Alone(_));
        // What a bundle holds is with its process.
        let holds = !state.gone && !state.bundles;
        let Some(first) = state.leases.front().filter(|_| holds) else {
            return false;
        };
        state.leases.iter().skip(1).any(moves)
            || moves(first) && !state.waiting && self.has_unstarted(shard)
    }

    /// A slot that is still busy with the listing could run nothing before its end.
    fn takes_leases(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        let lists = self.lister == Some(shard) && !self.listing_complete;
        state.ready && !state.gone && !lists
    }

    /// `more`: the process is given another one together with it.
    fn lease(&mut self, now: Micros, shard: u32, work: u32, more: bool) {
        let Work { unit, part, .. } = self.works[work as usize].clone();
        let lease = self.record.leases.len() as u64 + 1;
        let weight = self.weight(work);
        let expected = weight.expected;
        let left = |number: &u32| {
            self.verdict_of(unit, *number).is_none() && !self.kills.contains_key(&(unit, *number))
        };
        if !matches!(part, Part::Rest) && self.open_of(work).is_empty() {
            // Something else has decided its cases meanwhile.
            self.dispatcher.finished(shard, work, Micros::ZERO);
            self.work_done(work);
            return;
        }
        let (alone, named) = match part {
            Part::Rest => (None, Vec::new()),
            Part::Named(cases) => (None, cases.into_iter().filter(left).collect()),
            Part::Alone(number) => (Some(number), Vec::new()),
        };
        self.append(Body::Leased(l::Leased {
            lease,
            generation: 1,
            unit,
            shard,
            alone,
            expected_us: u32::try_from(expected.0).unwrap_or(u32::MAX),
            named: named.clone(),
        }));
        let on_record = &self.record.units[unit as usize];
        let key = |number: u32| on_record.cases[number as usize].key();
        let only: Vec<CaseKey> = named.into_iter().chain(alone).map(key).collect();
        // The rest of a unit is everything but what has a verdict or is somebody else's.
        let taken = |number: &u32| {
            let case = &on_record.cases[*number as usize];
            case.verdict().is_some()
                || case.is_owned()
                || self.kills.contains_key(&(unit, *number))
                || self.parted.contains(&(unit, *number))
        };
        let skip = if only.is_empty() {
            let numbers = 0..on_record.cases.len() as u32;
            numbers.filter(taken).map(key).collect()
        } else {
            Vec::new()
        };
        let slot = self.record.shards[shard as usize].slot;
        let unit = on_record.name.to_string();
        if alone.is_some() || self.shards[shard as usize].told_idle {
            self.send_to_shard(shard, Command::Recycle { slot });
        }
        let ends = self.shards[shard as usize].ends;
        let command = LeaseCommand {
            slot,
            lease,
            generation: 1,
            unit,
            only,
            skip,
            ends,
            expected: weight.known.then_some(expected),
            shared: self.is_shared(now, shard, work),
            more,
        };
        self.send_to_shard(shard, Command::Lease(command));
        if alone.is_some() {
            self.send_to_shard(shard, Command::Recycle { slot });
        }
        let state = &mut self.shards[shard as usize];
        state.leases.push_back((lease, work));
        state.told_idle = false;
    }

    /// A script is handed out whole, one process after the other.
    fn hand_out_script(&mut self, shard: u32) {
        let (process, position) = self.script_position[shard as usize];
        if shard > 0 || !self.shards[shard as usize].leases.is_empty() {
            return;
        }
        let Some(script) = &self.settings.script else {
            return;
        };
        let processes = script.processes.len();
        let Some(leases) = script.processes.get(process) else {
            self.units.iter_mut().for_each(|unit| unit.open = 0);
            return;
        };
        let leases: Vec<_> = leases.iter().skip(position).cloned().collect();
        self.script_position[shard as usize] = (process + 1, 0);
        let slot = self.record.shards[shard as usize].slot;
        if process > 0 {
            self.send_to_shard(shard, Command::Recycle { slot });
        }
        for scripted in leases {
            let unit = self
                .record
                .units
                .iter()
                .position(|unit| *unit.name == *scripted.unit);
            let unit = unit.expect("the units of a script were listed from it") as u32;
            let lease = self.record.leases.len() as u64 + 1;
            self.append(Body::Leased(l::Leased {
                lease,
                generation: 1,
                unit,
                shard,
                alone: None,
                expected_us: 0,
                named: Vec::new(),
            }));
            let (only, skip, ends) = (scripted.only, Vec::new(), self.shards[shard as usize].ends);
            let command = LeaseCommand {
                slot,
                lease,
                generation: 1,
                unit: scripted.unit,
                only,
                skip,
                ends,
                expected: None,
                shared: false,
                more: false,
            };
            self.send_to_shard(shard, Command::Lease(command));
            self.shards[shard as usize].leases.push_back((lease, unit));
        }
        self.shards[shard as usize].told_idle = process + 1 < processes;
    }

    /// Asks for everything of a lease from this position on that has not started.
    pub(super) fn revoke(&mut self, shard: u32, lease: u64, from: u32) {
        let generation = self.record.lease(lease).map_or(1, |lease| lease.generation) + 1;
        self.append(Body::Revoked(l::Revoked {
            lease,
            generation,
            from,
        }));
        let slot = self.record.shards[shard as usize].slot;
        let command = Command::Revoke {
            slot,
            lease,
            generation,
            from,
        };
        self.send_to_shard(shard, command);
    }

    /// Takes back what waits behind a long unit while another slot has nothing to do, or only its last tear-down.
    fn take_back(&mut self, now: Micros) {
        if self.record.stopped.is_some()
            || self.dispatcher.is_waiting()
            || self.settings.script.is_some()
            || !self.is_listed()
        {
            return;
        }
        let taker = (0..self.shards.len() as u32).any(|shard| self.could_take(shard));
        let Some((shard, work)) = self.dispatcher.stranded(now).filter(|_| taker) else {
            return;
        };
        let state = &self.shards[shard as usize];
        let lease = state.leases.iter().find(|(_, held)| *held == work);
        let Some(&(lease, _)) = lease.filter(|_| state.revoking.is_none()) else {
            return;
        };
        if matches!(self.works[work as usize].part, Part::Alone(_)) || state.bundles {
            return;
        }
        self.shards[shard as usize].revoking = Some(lease);
        self.revoke(shard, lease, 0);
    }
}
