//! Leases: what happens when they end in one of their five ways.

use super::facts::Times;
use super::planted::{Fault, is_planted};
use super::{
    BREAKS, CaseText, EndCause, KILLS, LOSSES, Level, Micros, Part, Place, ProcessEnded, Run,
    RunningCase, Work,
};
use crate::record::{Outcome, Verdict};
use evenkeel_proto::ledger as l;
use l::entry::Body;
use l::lease_ended::Reason;

impl Run {
    /// The work of a lease, if it is live and this shard's.
    pub(super) fn live_work(&self, shard: u32, lease: u64) -> Option<u32> {
        let live = self.shards[shard as usize].leases.iter();
        live.clone()
            .find(|(number, _)| *number == lease)
            .map(|&(_, work)| work)
    }

    pub(super) fn end_lease(&mut self, shard: u32, lease: u64, reason: Reason, at: Micros) {
        self.end_lease_with(
            shard,
            l::LeaseEnded {
                lease,
                reason: reason as i32,
                at_us: at.0,
                ..l::LeaseEnded::default()
            },
        );
    }

    fn end_lease_with(&mut self, shard: u32, ended: l::LeaseEnded) {
        let lease = ended.lease;
        let revoking = &mut self.shards[shard as usize].revoking;
        *revoking = revoking.filter(|revoked| *revoked != lease);
        let work = self.live_work(shard, lease);
        self.shards[shard as usize]
            .leases
            .retain(|(number, _)| *number != lease);
        let lost = ended.reason == Reason::Lost as i32;
        let copy = self.record.copy_of(lease);
        self.append(Body::LeaseEnded(ended));
        let on_record = self.record.lease(lease);
        let on_record = on_record.expect("a lease that ends is on record");
        let unit = on_record.unit as usize;
        let speed = self.dispatcher.speed(shard);
        self.units[unit].spent.add(on_record, speed);
        self.copying.ended(on_record);
        if on_record.copied.is_some() {
            self.copying.changed.insert(on_record.unit);
        }
        if on_record.copied.is_some() && on_record.never_loaded() {
            // Nothing has been at work twice.
            let copied = &mut self.units[unit].copied;
            copied.retain(|number| !on_record.named.contains(number));
        }
        if let Some(copy) = copy
            && self.stands(copy)
        {
            self.stand(work, copy);
        }
        if !(lost && is_planted(Fault::LeakedLock)) {
            self.unlock(shard, lease);
        }
    }

    pub(super) fn work_done(&mut self, work: u32) {
        if self.settings.script.is_some() {
            return;
        }
        let unit = self.works[work as usize].unit as usize;
        self.open_less(unit as u32);
        let Work { part, copy_of, .. } = &self.works[work as usize];
        if let (Part::Named(cases), None) = (part, copy_of) {
            for number in cases {
                self.parted.remove(&(unit as u32, *number));
            }
        }
        if self.units[unit].open == 0 {
            self.units_done += 1;
            self.learn_from(unit as u32);
        }
    }

    /// The work goes back to the dispatcher, or comes to its end because the run stops.
    pub(super) fn work_again(&mut self, work: u32) {
        if self.settings.script.is_some() {
            return;
        }
        // A copy leaves nothing behind.
        if self.record.stopped.is_some() || self.works[work as usize].copy_of.is_some() {
            self.work_done(work);
        } else {
            let weight = self.weight(work);
            let unit = self.works[work as usize].unit;
            if self.suite_of(unit).over {
                self.work_done(work);
                return;
            }
            self.dispatcher
                .add(work, weight, &self.units[unit as usize].needs);
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn unit_closed(
        &mut self,
        shard: u32,
        lease: u64,
        at: Micros,
        setup: Micros,
        waited: Micros,
    ) {
        let Some(work) = self.live_work(shard, lease) else {
            return;
        };
        let unit = self.works[work as usize].unit;
        let suite = self.record.units[unit as usize].suite;
        let suite = &mut self.suites[suite as usize];
        if suite.bundles {
            suite.startup = suite.startup.max(setup);
        }
        let open = self.open_cases(lease);
        let copy = self.record.copy_of(lease);
        self.end_lease_with(
            shard,
            l::LeaseEnded {
                lease,
                reason: Reason::Closed as i32,
                setup_us: setup.0,
                at_us: at.0,
                waited_us: waited.0,
            },
        );
        // Units of a bundle are told of when all are over.
        self.dispatcher.finished(shard, work, at);
        let state = &mut self.shards[shard as usize];
        state.unit = None;
        state.waiting = false;
        state.place = Place::default();
        let usual = self.dispatcher.at_reference(shard, setup);
        let unit = &mut self.units[self.works[work as usize].unit as usize];
        unit.setup = unit.setup.max(usual);
        unit.loaded.add(shard, usual);
        let Work { unit, copy_of, .. } = self.works[work as usize];
        if copy_of.is_some() {
            // What it has not decided is the other lease's, which goes on.
            self.work_done(work);
            return;
        }
        for number in open {
            self.settle(
                unit,
                Some(number),
                Verdict::Lost,
                "its unit closed without a result for it",
            );
        }
        if let Some(copy) = copy {
            self.cancel(at, copy);
        }
        self.miss(lease, work);
        if self.record.units[unit as usize].declared {
            self.work_done(work);
        } else {
            // A lease that closes without a declaration is a runner that broke its protocol; the agent ends such runners.
            self.settle(
                unit,
                None,
                Verdict::Lost,
                "its unit closed without having declared its cases",
            );
            self.work_done(work);
        }
    }

    /// All that a work had has been run: what of it has no verdict was not there.
    pub(super) fn miss(&mut self, lease: u64, work: u32) {
        if self.record.stopped.is_some() || self.settings.script.is_some() {
            return;
        }
        let Work { unit, part, .. } = self.works[work as usize].clone();
        match part {
            Part::Rest => self.miss_undeclared(unit),
            Part::Named(cases) => self.miss_named(unit, lease, &cases),
            Part::Alone(_) => {}
        }
    }

    /// All that is left of the unit has been run: what has neither verdict nor owner was declared once and then no more.
    fn miss_undeclared(&mut self, unit: u32) {
        let state = &self.record.units[unit as usize];
        let missing: Vec<u32> = state
            .cases
            .iter()
            .enumerate()
            .filter(|(number, case)| {
                let key = (unit, *number as u32);
                case.verdict().is_none()
                    && !case.is_owned()
                    && !self.kills.contains_key(&key)
                    && !self.parted.contains(&key)
            })
            .map(|(number, _)| number as u32)
            .collect();
        for number in missing {
            self.settle(
                unit,
                Some(number),
                Verdict::Error,
                "the unit declared this case at first and not when it was loaded again: its cases differ from process to process",
            );
        }
    }

    /// A named part has been run: what it names and has no verdict is not there in the process that ran it.
    fn miss_named(&mut self, unit: u32, lease: u64, cases: &[u32]) {
        let why = self.differences.remove(&lease);
        let why = why.unwrap_or_else(|| {
            "the unit declared this case in one process and not in another".to_owned()
        });
        for &number in cases {
            let alone = self.kills.contains_key(&(unit, number));
            if self.verdict_of(unit, number).is_none() && !alone {
                self.settle(unit, Some(number), Verdict::Error, &why);
            }
        }
    }

    pub(super) fn returned(
        &mut self,
        now: Micros,
        shard: u32,
        lease: u64,
        at: Micros,
        cases: &[u32],
        all: bool,
    ) {
        let Some(work) = self.live_work(shard, lease) else {
            return;
        };
        if all {
            // Where it never arrived, the process is the one that it was to take the place of.
            let state = &mut self.shards[shard as usize];
            state.told_idle |= state.fresh == Some(lease);
            self.end_lease(shard, lease, Reason::Returned, at);
            self.dispatcher.finished(shard, work, now);
            let unit = self.works[work as usize].unit;
            if self.suite_of(unit).bundles {
                // Its process could not tell it from others: it gets one of its own.
                self.units[unit as usize].needs.apart = u32::MAX - unit;
                let state = &mut self.shards[shard as usize];
                (state.unit, state.place) = (None, Place::default());
            }
            self.work_again(work);
            return;
        }
        if self.shards[shard as usize].revoking == Some(lease) {
            self.shards[shard as usize].revoking = None;
        }
        let on_record = self.record.lease(lease).expect("a live lease is on record");
        let unit = on_record.unit;
        let numbers: Vec<u32> = cases
            .iter()
            .filter_map(|&case| on_record.cases.get(case as usize).copied())
            .collect();
        let first = self.shards[shard as usize].leases.front();
        if first.is_some_and(|(first, _)| *first == lease) {
            let kept = cases.iter().min().copied();
            let place = &mut self.shards[shard as usize].place;
            place.kept = kept.or(place.kept);
        }
        self.copying.changed.insert(unit);
        if self.give_back_of_pair(at, shard, (lease, work), &numbers) {
            return;
        }
        match self
            .record
            .stopped
            .as_ref()
            .map(|stopped| stopped.reason.clone())
        {
            Some(why) => {
                for number in numbers {
                    if self.verdict_of(unit, number).is_none() {
                        self.settle(unit, Some(number), Verdict::NotRun, &why);
                    }
                }
            }
            None if numbers.is_empty() => {
                let state = &mut self.shards[shard as usize];
                state.stuck = Some((lease, state.place.done));
            }
            None => {
                let cases = numbers.clone();
                self.append(Body::Returned(l::Returned { lease, cases }));
                self.part(now, shard, work, numbers);
            }
        }
    }

    pub(super) fn process_ended(
        &mut self,
        now: Micros,
        shard: u32,
        agent: usize,
        at: Micros,
        ended: ProcessEnded,
    ) {
        self.append(Body::ProcessEnded(l::ProcessEnded {
            shard,
            incarnation: ended.incarnation,
            explanation: ended.explanation.clone(),
            at_us: at.0,
            unplanned: ended.cause != EndCause::Finished && !self.is_concluding(),
        }));
        let state = &mut self.shards[shard as usize];
        state.unit = None;
        state.long_case = None;
        state.waiting = false;
        state.place = Place::default();
        let held: Vec<(u64, u32)> = state.leases.iter().copied().collect();
        self.take_farewell(shard, &ended);
        if ended.cause == EndCause::Finished || self.is_concluding() {
            return;
        }
        self.shards[shard as usize].ends += 1;
        let in_flight = ended
            .in_flight
            .filter(|flight| held.iter().any(|(lease, _)| *lease == flight.lease));
        let broken = in_flight.map(|flight| flight.lease);
        if let Some(flight) = in_flight {
            let started = flight
                .case
                .map(|running| self.run_time(agent, running.started, now));
            self.blame(
                now,
                shard,
                at,
                flight.lease,
                flight.case.zip(started),
                flight.loading,
                &ended,
            );
        }
        self.dispatcher.clear(shard);
        for (lease, work) in held {
            let begun = self
                .record
                .lease(lease)
                .is_some_and(|lease| lease.begun.is_some());
            let reason = if Some(lease) == broken || begun {
                Reason::Broken
            } else {
                Reason::Returned
            };
            self.end_lease(shard, lease, reason, at);
            if reason == Reason::Broken {
                self.after_break(work);
            } else {
                self.work_again(work);
            }
        }
        self.shards[shard as usize].told_idle = false;
        // One that died under a lease of which no row is left did something all the same.
        if ended.in_flight.is_none() && ended.cause != EndCause::Ended {
            self.spawn_failed(now, shard, &ended);
        }
        self.miss_listing(shard);
    }

    /// What a slot holds goes up again: none of it has begun.
    pub(super) fn give_back_all(&mut self, shard: u32, at: Micros) {
        let held: Vec<(u64, u32)> = self.shards[shard as usize].leases.iter().copied().collect();
        for (lease, work) in held {
            self.end_lease(shard, lease, Reason::Returned, at);
            self.work_again(work);
        }
    }

    /// Whoever lists now what this shard was to list begins anew.
    pub(super) fn miss_listing(&mut self, shard: u32) {
        let suites = self.suites.iter_mut();
        for suite in suites.filter(|suite| suite.lister == Some(shard) && !suite.listed) {
            suite.lister = None;
            suite.listing.clear();
        }
    }

    /// Decides what a process's end says about the case that it was running, or the unit that it was loading.
    #[allow(clippy::too_many_arguments)]
    fn blame(
        &mut self,
        now: Micros,
        shard: u32,
        at: Micros,
        lease: u64,
        running: Option<(RunningCase, Micros)>,
        loading: bool,
        ended: &ProcessEnded,
    ) {
        if ended.cause == EndCause::Ended {
            return;
        }
        let on_record = self.record.lease(lease).expect("a held lease is on record");
        let unit = on_record.unit;
        let text = CaseText {
            message: ended.explanation.clone(),
            detail: String::new(),
            output: if ended.stderr_tail.is_empty() {
                Vec::new()
            } else {
                vec![(
                    "the process's standard error".to_owned(),
                    ended.stderr_tail.clone(),
                )]
            },
            properties: Vec::new(),
        };
        let outside = ended.cause == EndCause::KilledFromOutside;
        if let Some((case, started)) = running {
            let Some(&number) = on_record.cases.get(case.index as usize) else {
                return;
            };
            let is_copy = on_record.is_copy();
            let foreign = !self.record.may_decide(lease, number);
            if self.verdict_of(unit, number).is_some() || foreign {
                return;
            }
            let to_copy = self.is_left_to_copy(lease, number);
            let again = outside && self.settings.script.is_none() && {
                let kills = self.kills_of(unit, number, is_copy || to_copy);
                kills.processes += 1;
                kills.processes < KILLS
            };
            let outcome = if again {
                Outcome::Killed
            } else {
                Outcome::Error
            };
            let times = Times {
                started,
                ended: at,
                duration: at - started,
                setup: Micros::ZERO,
            };
            self.attempt(shard, lease, number, outcome, times, case.ordinal, text);
            if is_copy {
                // Its case runs on under the other lease, or has its verdict.
                self.stop_at_max_fail(now);
                return;
            }
            let held = self.live_work(shard, lease);
            // One that ran alone goes up again as what its lease held.
            let is_alone =
                held.is_some_and(|work| matches!(self.works[work as usize].part, Part::Alone(_)));
            if again {
                let id = &self.record.units[unit as usize].cases[number as usize].id;
                let follows = if to_copy {
                    "it is at work elsewhere, too"
                } else {
                    "it runs again, once and alone"
                };
                let text = format!("{id}: {}; {follows}", ended.explanation);
                self.note(Level::Warning, &text);
            }
            if again && !is_alone && !to_copy {
                let work = self.works.len() as u32;
                self.works.push(Work::new(unit, Part::Alone(number)));
                self.open_more(unit);
                self.work_again(work);
            }
            self.stop_at_max_fail(now);
        } else if on_record.is_copy() {
            // What it was to run is at work under another lease.
        } else if loading && !outside {
            self.settle_unit_error(unit, shard, lease, at, text);
        } else {
            // Nobody's failure, and nothing to be silent about either.
            let name = self.record.units[unit as usize].name.to_string();
            let text = format!(
                "{name}: {}; what is left of it runs elsewhere",
                ended.explanation
            );
            self.note(Level::Warning, &text);
        }
    }

    /// A unit that kills whoever loads it: one case stands for it, unless cases of it are known already.
    fn settle_unit_error(&mut self, unit: u32, shard: u32, lease: u64, at: Micros, text: CaseText) {
        if !self.record.units[unit as usize].declared {
            let name = self.record.units[unit as usize].name.to_string();
            let begun = self
                .record
                .lease(lease)
                .and_then(|lease| lease.begun)
                .map_or(at, |begun| begun.at);
            self.append(Body::Declared(l::Declared {
                lease,
                known: Vec::new(),
                cases: vec![l::Case {
                    id: name,
                    ..l::Case::default()
                }],
            }));
            let times = Times {
                started: begun,
                ended: at,
                duration: at - begun,
                setup: Micros::ZERO,
            };
            self.attempt(shard, lease, 0, Outcome::Error, times, 0, text);
            return;
        }
        let Some(work) = self.live_work(shard, lease) else {
            return;
        };
        for number in self.open_of(work) {
            self.settle(unit, Some(number), Verdict::Error, &text.message);
        }
    }

    /// The known cases of a work that have no verdict and are not to run alone.
    pub(super) fn open_of(&self, work: u32) -> Vec<u32> {
        let Work { unit, part, .. } = &self.works[work as usize];
        let known = 0..self.record.units[*unit as usize].cases.len() as u32;
        let open = |number: &u32| self.verdict_of(*unit, *number).is_none();
        let alone = |number: &u32| self.kills.contains_key(&(*unit, *number));
        match part {
            Part::Alone(number) => [*number].into_iter().filter(open).collect(),
            Part::Named(cases) => {
                let cases = cases.iter().copied();
                cases.filter(|n| open(n) && !alone(n)).collect()
            }
            Part::Rest => known
                .filter(|n| open(n) && !alone(n) && !self.parted.contains(&(*unit, *n)))
                .collect(),
        }
    }

    /// Whether anything of a work that had begun is without a verdict.
    fn is_left(&self, work: u32) -> bool {
        let Work { unit, part, .. } = &self.works[work as usize];
        let unknown = matches!(part, Part::Rest) && !self.record.units[*unit as usize].declared;
        unknown || !self.open_of(work).is_empty()
    }

    /// A lease whose process died under it. What is left of its work goes up again, as long as that leads anywhere.
    fn after_break(&mut self, work: u32) {
        let Work { unit, copy_of, .. } = self.works[work as usize];
        if copy_of.is_some() || !self.is_left(work) {
            self.work_done(work);
            return;
        }
        let left = self.open_of(work).len();
        let state = &mut self.works[work as usize];
        // Something came of it where less is left: a result, or a case that is to blame.
        let stuck = state.left_at_break.replace(left) == Some(left) || left == 0;
        state.breaks = if stuck { state.breaks + 1 } else { 1 };
        if state.breaks < BREAKS {
            self.work_again(work);
            return;
        }
        let name = self.record.units[unit as usize].name.to_string();
        let why = format!("{name} lost {BREAKS} processes in a row without finishing a test");
        self.note(Level::Error, &why);
        let open = self.open_of(work);
        if open.is_empty() {
            self.settle(unit, None, Verdict::Error, &why);
        }
        for number in open {
            self.settle(unit, Some(number), Verdict::Error, &why);
        }
        self.work_done(work);
    }

    /// The slot will run nothing more: what it held goes elsewhere, as often as it takes: a lost agent is not the unit's doing.
    pub(super) fn shard_gone(&mut self, now: Micros, shard: u32, lost: bool) {
        if !lost {
            self.append(Body::ShardClosed(l::ShardClosed { shard }));
        }
        let state = &mut self.shards[shard as usize];
        self.slots_gone += u32::from(!std::mem::replace(&mut state.gone, true));
        state.ready = false;
        state.unit = None;
        state.long_case = None;
        let since = std::mem::take(&mut state.place).since;
        let unheard = std::mem::take(&mut state.concluding);
        let held: Vec<(u64, u32)> = state.leases.iter().copied().collect();
        if unheard {
            self.miss_farewell(shard, "its agent is gone");
        }
        self.dispatcher.close(shard);
        for (lease, work) in held {
            let begun = self
                .record
                .lease(lease)
                .is_some_and(|lease| lease.begun.is_some());
            if lost && begun {
                self.suspect(now, since, shard, lease);
            }
            self.end_lease(shard, lease, Reason::Lost, now);
            if lost {
                self.works[work as usize].avoid = Some(self.record.shards[shard as usize].agent);
            }
            if begun {
                self.after_break(work);
            } else {
                self.work_again(work);
            }
        }
        self.miss_listing(shard);
    }

    /// A case that was at work when its agent was lost may be what took the agent down: it runs again alone, and is an error when
    /// it has taken several down.
    fn suspect(&mut self, now: Micros, since: Micros, shard: u32, lease: u64) {
        let on_record = self.record.lease(lease).expect("a held lease is on record");
        let unit = on_record.unit;
        let cases = &self.record.units[unit as usize].cases;
        let begun = on_record.begun.map_or(now, |begun| begun.at);
        let is_copy = on_record.is_copy();
        let mut open = on_record.cases.iter().filter(|&&number| {
            let case = &cases[number as usize];
            case.verdict().is_none() && self.record.may_decide(lease, number)
        });
        let Some(&number) = open.next() else {
            return;
        };
        let id = cases[number as usize].id.to_string();
        let started = since.max(begun);
        let agent = self.record.shards[shard as usize].agent as usize;
        let name = self.record.agents[agent].name.clone();
        let to_copy = self.is_left_to_copy(lease, number);
        let kills = self.kills_of(unit, number, is_copy || to_copy);
        kills.agents += 1;
        let again = kills.agents < LOSSES || is_planted(Fault::EndlessLosses);
        let times = Times {
            started,
            ended: now,
            duration: now - started,
            setup: Micros::ZERO,
        };
        let text = CaseText {
            message: if again {
                format!("agent {name} was lost while it ran")
            } else {
                format!("{LOSSES} agents were lost while it ran, {name} the last")
            },
            ..CaseText::default()
        };
        let outcome = if again {
            Outcome::Killed
        } else {
            Outcome::Error
        };
        self.agent_lost = true;
        self.attempt(shard, lease, number, outcome, times, 0, text);
        self.agent_lost = false;
        if is_copy {
            self.stop_at_max_fail(now);
            return;
        }
        let held = self.live_work(shard, lease);
        let is_alone =
            held.is_some_and(|work| matches!(self.works[work as usize].part, Part::Alone(_)));
        if again && !is_alone && !to_copy {
            let work = self.works.len() as u32;
            let mut alone = Work::new(unit, Part::Alone(number));
            alone.avoid = Some(agent as u32);
            self.works.push(alone);
            self.open_more(unit);
            self.work_again(work);
        } else if !again {
            let text = format!(
                "{LOSSES} agents were lost while {id} ran; it is an error, and the run goes on without it"
            );
            self.note(Level::Error, &text);
        }
        self.stop_at_max_fail(now);
    }

    /// Whether a work was lost with the agent of this slot, or with one of the same name, and somebody else is there for it.
    pub(super) fn avoids(&self, work: u32, shard: u32) -> bool {
        let Some(lost) = self.works[work as usize].avoid else {
            return false;
        };
        if is_planted(Fault::SameAgentAgain) {
            return false;
        }
        let name = &self.record.agents[lost as usize].name;
        let same = |shard: usize| {
            let agent = self.record.shards[shard].agent;
            agent == lost || self.record.agents[agent as usize].name == *name
        };
        let unit = self.works[work as usize].unit as usize;
        let (suite, kind) = (self.record.units[unit].suite, self.units[unit].needs.kind);
        // One that would not start a process for it would leave it waiting for ever.
        let other = |other: usize| {
            let state = &self.shards[other];
            let serves = state.ready && !state.gone && !state.leaving;
            let able = !state.unable.contains(&suite);
            let (shard, dispatcher) = (other as u32, &self.dispatcher);
            let takes =
                || dispatcher.is_of(shard, kind) || dispatcher.kind_for(shard) == Some(kind);
            serves && able && !same(other) && self.is_reachable(shard) && takes()
        };
        let bound = self.holds_for(shard, unit as u32);
        same(shard as usize) && !bound && (0..self.shards.len()).any(other)
    }
}
