//! Giving out: what each slot gets, what is taken back from it, and when it hears that nothing more comes.

use super::{
    CaseKey, Command, LeaseCommand, Micros, Part, Run, ScriptLease, ShardState, UnitState, Work,
};
use evenkeel_proto::ledger as l;
use l::entry::Body;

/// A slot that did not take what it was given is not given anything for so long.
const REFUSED: Micros = Micros::from_millis(5);
/// With no more slots than this, all are looked at each time.
const FEW: u32 = 64;
/// With more, all are looked at as often as this.
pub(super) const LOOK: Micros = Micros::from_millis(50);

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
                self.keep_quiet();
                self.ask_again(now);
                let shards = self.stirred(now);
                self.hand_out_to(&shards, now, 1, free);
                self.hand_out_to(&shards, now, usize::MAX, |_, _| true);
            }
        }
        self.take_back(now);
        self.tell_idle();
    }

    pub(super) fn has_many(&self) -> bool {
        self.shards.len() as u32 > self.settings.few.unwrap_or(FEW)
    }

    /// The slots that may get something now: those that something has happened to or whose time has come, and from time to time, or
    /// when anything has changed that concerns others, all of them.
    fn stirred(&mut self, now: Micros) -> Vec<u32> {
        let version = self.dispatcher.version();
        if !self.has_many()
            || self.stir_all
            || version != self.seen_version
            || now >= self.looked + LOOK
        {
            self.stir_all = false;
            self.stir.clear();
            self.dispatcher.take_due(now);
            self.looked = now;
            self.seen_version = version;
            return (0..self.shards.len() as u32).collect();
        }
        let mut stirred = std::mem::take(&mut self.stir);
        stirred.extend(self.dispatcher.take_due(now));
        stirred.into_iter().collect()
    }

    fn hand_out_to(
        &mut self,
        shards: &[u32],
        now: Micros,
        most: usize,
        whom: impl Fn(&Run, u32) -> bool,
    ) {
        for &shard in shards {
            let refuses = self.shards[shard as usize].refuses_until > now;
            if refuses || self.is_kept(shard) || !self.takes_leases(shard) || !whom(self, shard) {
                continue;
            }
            let Some(kind) = self.dispatcher.kind_for(shard) else {
                continue;
            };
            self.dispatcher.turn(shard, kind);
            let suite = self.rules.suite_of(kind).unwrap_or_default();
            let suite = &self.suites[suite as usize];
            if suite.bundles {
                let works = self.dispatcher.bundle(shard, now, suite.startup);
                let (avoided, works): (Vec<u32>, Vec<u32>) = works
                    .into_iter()
                    .partition(|&work| self.avoids(work, shard));
                for work in avoided {
                    self.dispatcher.finished(shard, work, Micros::ZERO);
                    self.work_again(work);
                    self.dispatcher.refused(shard, work);
                }
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
            let mut avoided = Vec::new();
            for _ in 0..most {
                let Some(work) = self.dispatcher.next(shard, now) else {
                    break;
                };
                if self.avoids(work, shard) {
                    avoided.push(work);
                    self.dispatcher.finished(shard, work, Micros::ZERO);
                    continue;
                }
                self.lease(now, shard, work, false);
            }
            if !avoided.is_empty() {
                // It would be offered the same again at once, and refuse it, for as long as nobody else comes for it.
                self.shards[shard as usize].refuses_until = now + REFUSED;
                self.refusing.insert(shard);
            }
            for work in avoided {
                self.work_again(work);
                self.dispatcher.refused(shard, work);
            }
        }
    }

    /// Slots that refused something a while ago may get something again.
    fn ask_again(&mut self, now: Micros) {
        let shards = &self.shards;
        let refuses = |shard: u32| shards[shard as usize].refuses_until > now;
        self.refusing.retain(|&shard| {
            if !refuses(shard) {
                self.stir.insert(shard);
            }
            refuses(shard)
        });
    }

    /// When a slot that refused something is asked again, if anything waits.
    pub(super) fn asks_again_at(&self, now: Micros) -> Option<Micros> {
        let shards = self
            .refusing
            .iter()
            .map(|&shard| &self.shards[shard as usize]);
        let untils = shards.filter(|shard| !shard.gone);
        let untils = untils.map(|shard| shard.refuses_until);
        let next = untils.filter(|until| *until > now).min();
        next.filter(|_| self.dispatcher.is_waiting())
    }

    /// Tells slots that nothing comes to them any more, so that they let go of what their tests share.
    ///
    /// It must not be taken back, or the slot's process would set up again what lives as long as it does. So it is said
    /// only when nothing can move any more; that costs nothing, since whoever still runs has the same to tear down. What
    /// comes from a lost process all the same is run in a new one.
    ///
    /// A slot hears it before that where others cannot go on without what it holds, or where only another kind of process is
    /// needed any more.
    fn tell_idle(&mut self) {
        let untold = |shard: &ShardState| shard.ready && !shard.gone && !shard.told_idle;
        if !self.shards.iter().any(untold) {
            return;
        }
        let running = self.record.stopped.is_none() && !self.over;
        let kinds = self.rules.kinds_count();
        let gets_more = (0..kinds).map(|kind| self.gets_more(kind, false));
        let gets_more: Vec<bool> = gets_more.collect();
        // While there is more for all of them, only one that waits may be in the way of others.
        let all_get_more = running && gets_more.iter().all(|more| *more);
        let may_be_in_the_way = self.dispatcher.awaits_any() || self.has_copies();
        if all_get_more && !may_be_in_the_way && self.serving() > 1 {
            return;
        }
        let shards = &self.shards;
        self.waiters.retain(|&shard| shards[shard as usize].waiting);
        if all_get_more && (self.waiters.is_empty() || self.serving() > 1) {
            for shard in self.waiters.clone() {
                let told = self.is_in_the_way(shard) || self.waits_in_pair(shard);
                if untold(&self.shards[shard as usize]) && told {
                    self.tell_one_idle(shard);
                }
            }
            return;
        }
        let revoking = |shard: &ShardState| shard.revoking.is_some() && !shard.gone;
        // What is taken back may also come again to the slot that gave it.
        let several = self.serving() > 1 && self.settings.script.is_none();
        let mut shards = 0..self.shards.len() as u32;
        let moving = running
            && (self.shards.iter().any(revoking)
                || several && shards.any(|shard| self.is_movable(shard)));
        let only = self.serving() == 1;
        for shard in 0..self.shards.len() as u32 {
            let kind = self.shards[shard as usize].kind;
            let gets_more = if only && self.shards[shard as usize].waiting {
                self.gets_more(kind, true)
            } else {
                gets_more.get(kind as usize).is_some_and(|more| *more)
            };
            let now = self.is_in_the_way(shard) || self.waits_in_pair(shard);
            let lets_go = !running || now || !moving && !gets_more;
            if untold(&self.shards[shard as usize]) && lets_go {
                self.tell_one_idle(shard);
            }
        }
    }

    fn tell_one_idle(&mut self, shard: u32) {
        self.shards[shard as usize].told_idle = true;
        let slot = self.record.shards[shard as usize].slot;
        let ends = self.shards[shard as usize].ends;
        self.send_to_shard(shard, Command::Idle { slot, ends });
    }

    /// Whether a slot cannot end its last case before it knows what comes next, and nothing can come before it has.
    fn is_in_the_way(&self, shard: u32) -> bool {
        self.shards[shard as usize].waiting
            && self.dispatcher.is_awaited(shard)
            && self.dispatcher.kind_for(shard).is_none()
    }

    /// Whether a process of this kind may be needed for something that waits, or that is not known yet.
    /// `waits`: the only slot there is cannot go on before it knows.
    fn gets_more(&self, kind: u32, waits: bool) -> bool {
        let suite = self
            .rules
            .suite_of(kind)
            .map(|suite| &self.suites[suite as usize]);
        // One that is alone lists when it has ended what it holds, and must not wait for that.
        let known = suite.is_some_and(|suite| suite.listed || waits && suite.lister.is_none())
            && self.unstored.is_empty();
        !known || self.dispatcher.is_waiting_for(kind)
    }

    /// Whether the slot is one to move work to. A process that has let go of what its tests share is none.
    pub(super) fn could_take(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        let serves = state.ready && !state.gone && !state.leaving && !state.told_idle;
        serves && self.is_reachable(shard) && self.dispatcher.is_free(shard)
    }

    /// Whether it is one to move work of this kind to: it can be set up for that.
    pub(super) fn could_take_of(&self, shard: u32, kind: u32) -> bool {
        let unable = &self.shards[shard as usize].unable;
        let able = self
            .rules
            .suite_of(kind)
            .is_none_or(|suite| !unable.contains(&suite));
        able && self.could_take(shard)
    }

    /// Whether something that this slot holds may still move to another.
    fn is_movable(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        // What a bundle holds is with its process.
        let holds = !state.gone && !self.bundles(shard);
        let Some(first) = state.leases.front().filter(|_| holds) else {
            return false;
        };
        let mut behind = state.leases.iter().skip(1);
        behind.any(|lease| self.moves(lease))
            || self.moves(first) && !state.waiting && self.has_unstarted(shard)
    }

    pub(super) fn moves(&self, &(_, work): &(u64, u32)) -> bool {
        let Work { unit, part, .. } = &self.works[work as usize];
        let bound = self.units[*unit as usize].needs.is_constrained();
        !matches!(part, Part::Alone(_)) && !bound
    }

    /// A slot that is still busy with the listing could run nothing before its end.
    pub(super) fn takes_leases(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        state.ready
            && !state.gone
            && !state.leaving
            && self.is_reachable(shard)
            && !self.lists(shard)
    }

    /// Whether the agent of a slot is connected.
    pub(super) fn is_reachable(&self, shard: u32) -> bool {
        let agent = self.record.shards[shard as usize].agent;
        self.agents[agent as usize].connected
    }

    /// `more`: the process is given another one together with it.
    pub(super) fn lease(&mut self, now: Micros, shard: u32, work: u32, more: bool) {
        let Work {
            unit,
            part,
            copy_of,
            ..
        } = self.works[work as usize].clone();
        let lease = self.record.next_lease();
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
        self.lock(shard, lease, unit);
        self.append(Body::Leased(l::Leased {
            lease,
            generation: 1,
            unit,
            shard,
            alone,
            expected_us: u32::try_from(expected.0).unwrap_or(u32::MAX),
            named: named.clone(),
            copy: copy_of.map(|of| l::Copy { of, at_us: now.0 }),
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
        let UnitState { needs, limits, .. } = &self.units[unit as usize];
        let (kind, limits) = (needs.kind, *limits);
        let unit = on_record.name.to_string();
        let state = &mut self.shards[shard as usize];
        // What has no process gets a new one anyway.
        let has_process = !std::mem::take(&mut state.empty);
        let fresh = has_process && (alone.is_some() || state.told_idle);
        if state.told_idle {
            state.fresh = Some(lease);
        }
        let ends = state.ends;
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
            kind,
            fresh,
            last: alone.is_some(),
            limits,
        };
        self.send_to_shard(shard, Command::Lease(command));
        let state = &mut self.shards[shard as usize];
        state.kind = kind;
        state.leases.push_back((lease, work));
        state.told_idle = false;
        self.keep_quiet();
    }

    /// The kind of process that a script begins with.
    pub(super) fn script_start(&self, shard: u32) -> Option<u32> {
        let script = self.settings.script.as_ref().filter(|_| shard == 0)?;
        let first = script.processes.first()?.first()?;
        let unit = self.scripted(first)?;
        Some(self.units[unit as usize].needs.kind)
    }

    fn scripted(&self, lease: &ScriptLease) -> Option<u32> {
        let mut units = (0..).zip(&self.record.units);
        let found = units.find(|(_, unit)| unit.suite == lease.suite && *unit.name == *lease.unit);
        found.map(|(number, _)| number)
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
        let Some(leases) = script.processes.get(process) else {
            self.close_works();
            return;
        };
        let leases: Vec<_> = leases.iter().skip(position).cloned().collect();
        self.script_position[shard as usize] = (process + 1, 0);
        let slot = self.record.shards[shard as usize].slot;
        for (at, scripted) in leases.into_iter().enumerate() {
            let unit = self.scripted(&scripted);
            let unit = unit.expect("the units of a script were listed from it");
            let UnitState { needs, limits, .. } = &self.units[unit as usize];
            let (kind, limits) = (needs.kind, *limits);
            self.shards[shard as usize].kind = kind;
            let lease = self.record.next_lease();
            self.append(Body::Leased(l::Leased {
                lease,
                generation: 1,
                unit,
                shard,
                alone: None,
                expected_us: 0,
                named: Vec::new(),
                copy: None,
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
                kind,
                fresh: process > 0 && at == 0,
                last: false,
                limits,
            };
            self.send_to_shard(shard, Command::Lease(command));
            self.shards[shard as usize].leases.push_back((lease, unit));
        }
        self.shards[shard as usize].told_idle = false;
    }

    /// Takes back everything of a lease from this position on that has not started: it goes up again once it is given back.
    pub(super) fn take(&mut self, now: Micros, shard: u32, lease: u64, from: u32) {
        let state = &mut self.shards[shard as usize];
        (state.revoking, state.asked_at) = (Some(lease), now);
        self.revoke(shard, lease, from);
    }

    /// Asks for everything of a lease from this position on that has not started.
    pub(super) fn revoke(&mut self, shard: u32, lease: u64, from: u32) {
        // Higher than what a coordinator before this one may have asked under, of which no row is left: who was asked before
        // does not answer again.
        let before = self.record.lease(lease).map_or(1, |lease| lease.generation);
        let generation = before.max((self.record.term & 0x7fff) << 16) + 1;
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

    /// Takes back what waits behind a long unit while another slot has nothing to do, or only its last tear-down; or what would end
    /// too late there.
    fn take_back(&mut self, now: Micros) {
        if self.record.stopped.is_some() || self.settings.script.is_some() || !self.is_listed() {
            return;
        }
        // While something waits, what is taken back waits with it, and whoever would end it first gets it.
        let waiting = self.dispatcher.is_waiting();
        let taker = waiting || (0..self.shards.len() as u32).any(|shard| self.could_take(shard));
        if !taker {
            return;
        }
        let Some((shard, work)) = self.dispatcher.stranded(now) else {
            return;
        };
        let state = &self.shards[shard as usize];
        let lease = state.leases.iter().find(|(_, held)| *held == work);
        let Some(&(lease, _)) = lease.filter(|_| state.revoking.is_none()) else {
            return;
        };
        let Work { unit, part, .. } = &self.works[work as usize];
        // Who has loaded the unit begins sooner with another part of it than who has not.
        let first = state
            .leases
            .front()
            .map(|&(_, work)| self.works[work as usize].unit);
        let loaded = first == Some(*unit) && !self.suite_of(*unit).bundles;
        if loaded && self.dispatcher.rests(shard, now) <= now + self.setup_of(*unit) {
            return;
        }
        let kind = self.units[*unit as usize].needs.kind;
        let shards = 0..self.shards.len() as u32;
        let mut takers = shards.filter(|&shard| self.could_take_of(shard, kind));
        let mut any = takers.clone();
        let taken = waiting
            || takers.any(|shard| self.dispatcher.is_of(shard, kind))
            || any.next().is_some() && {
                let expected = self.weight(work).expected;
                self.dispatcher.is_worth_turning(kind, expected)
            };
        if matches!(part, Part::Alone(_)) || self.suite_of(*unit).bundles || !taken {
            return;
        }
        self.take(now, shard, lease, 0);
    }
}
