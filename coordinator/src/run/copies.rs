//! Copies: near the end a slot that has nothing to do may run once more what takes too long on another one, where it should end it
//! clearly sooner. Which cases, when, on which slot, and what becomes of the two. What hangs before the end is near: `hangs`.
//!
//! Both leases are live, and the first result of each case counts, whoever tells it; what the other one tells is evidence. Where all
//! is decided, the other lease is cancelled, so that nobody waits for it. A copy is never more than that as long as what it copies
//! lives: it owns no case, goes up again nowhere, and when it ends undecided nothing is lost. When the other lease is lost, the copy
//! has the cases alone and is a lease like any other.
//!
//! A test that runs beside itself is the suite's to allow. What holds a lock, is exclusive, belongs to a group, or took a process or
//! an agent down never does, nor what a process runs whose end the run has to hear of.

use super::planted::{Fault, is_planted};
use super::split::WORTH;
use super::state::Kills;
use super::{Command, Level, Micros, Part, Phase, Run, Work, hangs};
use evenkeel_proto::ledger as l;
use l::entry::Body;
use l::lease_ended::Reason;
use std::collections::BTreeSet;

/// What slots spend on copies is no more than this part of what they spend on everything else, in percent.
pub const BUDGET_PERCENT: u64 = 5;
/// How often it is looked.
pub const EVERY: Micros = Micros::from_millis(20);
/// A copy should end sooner by this much at least, and by half of what it takes.
const SOONER: Micros = Micros::from_millis(50);

/// A slot that was asked to give something back is not waited for longer than this: what hangs may be what should answer.
const ANSWER: Micros = Micros::from_millis(1_000);
/// What is not known by itself may take so long at least.
const UNKNOWN: Micros = Micros::from_millis(1_000);

/// Slot time of leases that have ended, and what is looked for.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// Of those that were the only ones of their cases.
    work: Micros,
    /// Of copies, while they were that.
    spent: Micros,
    /// When it was looked last.
    pub(super) looked: Option<Micros>,
    /// A slot that gets nothing else when it is free, while others wait: it is the first to be, and something else hangs.
    pub(super) kept: Option<u32>,
    /// Units of which a case was decided or given back, or a copy ended, since that was looked at last.
    pub(super) changed: BTreeSet<u32>,
    /// Copies that were given while others waited, and how many of them were cancelled.
    pub(super) early: BTreeSet<u64>,
    pub(super) vain: u32,
}

impl Copying {
    /// A lease has ended.
    pub(super) fn ended(&mut self, lease: &crate::record::Lease) {
        let Some(ended) = lease.ended else { return };
        match &lease.copied {
            None => self.work += lease.span(),
            Some(copy) => {
                self.spent += lease.spent_as_copy(ended.at);
                let alone = copy.stands.map(|since| ended.at - since);
                self.work += alone.unwrap_or_default();
            }
        }
    }
}

/// What a slot has at work and may take long.
pub(super) struct Late {
    pub(super) shard: u32,
    pub(super) lease: u64,
    pub(super) unit: u32,
    /// What its first case has taken, and should.
    pub(super) took: Micros,
    pub(super) expected: Micros,
    /// Cases without a verdict, as far as they are not to go elsewhere first.
    numbers: Vec<u32>,
    /// Others are.
    gives: bool,
    /// When its slot should have ended them, from now, and what they take on a slot of usual speed.
    pub(super) left: Micros,
    pub(super) work: Micros,
}

impl Run {
    /// When it is looked next for what takes too long, or for a copy that does.
    pub(super) fn looks_for_copies_at(&self, now: Micros) -> Option<Micros> {
        let kept = self.copying.kept.is_some() && self.phase == Phase::Running;
        let early = kept || self.could_copy_early();
        let looks = early || self.has_copies() || self.could_copy();
        looks.then(|| self.next_look().max(now + Micros(1)))
    }

    pub(super) fn next_look(&self) -> Micros {
        let every = match (self.dispatcher.is_waiting(), self.has_copies()) {
            (true, false) => hangs::EARLY + self.looking(),
            (true, true) => EVERY + self.looking(),
            (false, _) => EVERY,
        };
        let looked = self.copying.looked;
        looked.map_or(Micros::ZERO, |looked| looked + every)
    }

    pub(super) fn has_copies(&self) -> bool {
        self.record.pairs().next().is_some()
    }

    pub(super) fn may_copy(&self) -> bool {
        self.rules.any_copies()
            && self.phase == Phase::Running
            && !self.over
            && self.record.stopped.is_none()
            && self.settings.script.is_none()
            && self.is_listed()
    }

    fn could_copy(&self) -> bool {
        let shards = || 0..self.shards.len() as u32;
        !self.dispatcher.is_waiting()
            && self.may_copy()
            && shards().any(|shard| !self.shards[shard as usize].leases.is_empty())
            && shards().any(|shard| self.could_copy_on(shard))
    }

    /// Whether a slot has nothing to do, or cannot end its last case before it knows what comes next. One whose process has let go of
    /// what its tests share gets a new one.
    pub(super) fn could_copy_on(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        let waits = state.waiting && state.leases.len() == 1;
        let free = waits || state.leases.is_empty();
        free && self.dispatcher.is_free(shard) && self.may_be_kept(shard)
    }

    pub(super) fn may_be_kept(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        let serves = state.ready && !state.gone && !state.leaving;
        serves && self.is_reachable(shard) && !self.lists(shard)
    }

    /// Starts copies where they are worth it, and ends those that have used up what may be spent on them.
    pub(super) fn copy_what_is_late(&mut self, now: Micros) {
        if now < self.next_look() {
            return;
        }
        self.end_overruns(now);
        if self.has_copies() || self.could_copy() {
            self.copying.looked = Some(now);
        }
        if !self.could_copy() {
            return;
        }
        for late in self.late_ones(now) {
            let room = self.room(now);
            if let Some(taker) = self.taker(&late, room) {
                if self.take_rest(now, &late) {
                    return;
                }
                self.copy(now, taker, late);
            }
        }
    }

    /// Asks for what is behind a case that takes too long and goes elsewhere. Whether there is any.
    pub(super) fn take_rest(&mut self, now: Micros, late: &Late) -> bool {
        if late.gives {
            let from = self.shards[late.shard as usize].place.done + 1;
            self.take(now, late.shard, late.lease, from);
        }
        late.gives
    }

    /// What slots have at work, that which ends last first.
    pub(super) fn late_ones(&self, now: Micros) -> Vec<Late> {
        let shards = 0..self.shards.len() as u32;
        let mut late: Vec<Late> = shards.filter_map(|shard| self.late(now, shard)).collect();
        late.sort_by_key(|late| (std::cmp::Reverse(late.left), late.shard));
        late
    }

    /// What a slot has at work, if that may be run twice.
    fn late(&self, now: Micros, shard: u32) -> Option<Late> {
        let state = &self.shards[shard as usize];
        let &(lease, work) = state.leases.front()?;
        let Work {
            unit,
            part,
            copy_of,
            ..
        } = &self.works[work as usize];
        let unit = *unit;
        let suite = self.suite_of(unit);
        let needs = &self.units[unit as usize].needs;
        let bound = needs.is_constrained() && !is_planted(Fault::CopiedLocked);
        let whole = suite.undivided || suite.bundles || suite.finish;
        let allowed = self.rules.copies(self.record.units[unit as usize].suite);
        let asked = state.revoking.is_some()
            && now < state.asked_at + self.settings.answer.unwrap_or(ANSWER);
        let busy = copy_of.is_some() || state.waiting || asked || matches!(part, Part::Alone(_));
        if !allowed || bound || whole || busy || suite.over {
            return None;
        }
        state.place.declared?;
        let on_record = self.record.lease(lease)?;
        if self.may_still_give_back(on_record.generation) {
            return None;
        }
        let cases = &self.record.units[unit as usize].cases;
        let mut numbers = self.undecided_of(lease);
        let rest = self.expected_of(unit, numbers.get(1..).unwrap_or_default());
        // What takes half as long as loading the unit once more goes elsewhere by itself first: of what runs twice nothing moves.
        let worth = WORTH.max(Micros(self.setup_of(unit).0 / 2));
        let gives = rest > worth && self.could_give(shard);
        if gives {
            numbers.truncate(1);
        }
        let suspect = |number: &u32| {
            let key = (unit, *number);
            let grouped = cases[*number as usize].group().is_some();
            let twice = self.units[unit as usize].copied.contains(number);
            grouped || twice || self.kills.contains_key(&key) || self.copy_kills.contains_key(&key)
        };
        let &first = numbers.first()?;
        if numbers.iter().any(suspect) {
            return None;
        }
        let here = |work: Micros| scaled(work, self.dispatcher.speed(shard));
        let (mut one, rest) = (
            self.expected_of(unit, &[first]),
            self.expected_of(unit, &numbers[1..]),
        );
        if self.units[unit as usize].times.is_empty() {
            // Of the cases of a file many take longer than they do on average, and one of them may not be like the others.
            one = (one + one).max(UNKNOWN);
        }
        let elapsed = now - state.place.since;
        // The first case of a unit sets up what they share.
        let shared = if state.place.first.is_none() {
            here(self.setup_of(unit))
        } else {
            Micros::ZERO
        };
        Some(Late {
            shard,
            lease,
            unit,
            took: elapsed,
            expected: here(one) + shared,
            numbers,
            gives,
            left: remaining(here(one), elapsed) + here(rest),
            work: one + rest,
        })
    }

    /// Whether a coordinator before this one asked for some of a lease: its answer may be under way, and is not waited for.
    fn may_still_give_back(&self, generation: u32) -> bool {
        generation > 1 && generation >> 16 != self.record.term & 0x7fff
    }

    /// The slot on which a copy should end clearly sooner, if there is one that has nothing to do: rather on another machine.
    pub(super) fn taker(&self, late: &Late, room: Micros) -> Option<u32> {
        let of = self.record.shards[late.shard as usize].agent;
        let shards = (0..self.shards.len() as u32).filter(|&shard| self.could_copy_on(shard));
        let shards = shards.filter(|&shard| self.is_worth(late, shard, Micros::ZERO, room));
        let order = |&shard: &u32| {
            let same = self.record.shards[shard as usize].agent == of;
            (same, self.cost(late, shard), shard)
        };
        shards.min_by_key(order)
    }

    /// What a copy should take on a slot.
    fn cost(&self, late: &Late, shard: u32) -> Micros {
        let kind = self.units[late.unit as usize].needs.kind;
        let state = &self.shards[shard as usize];
        let fresh = state.told_idle || state.empty || !self.dispatcher.is_of(shard, kind);
        let start = if fresh {
            self.dispatcher.start_of(kind)
        } else {
            Micros::ZERO
        };
        let load = self.setup_of(late.unit) + late.work;
        start + scaled(load, self.dispatcher.speed(shard))
    }

    /// Whether a copy should end clearly sooner there, where the slot is free in so long, and takes no more than `room`.
    pub(super) fn is_worth(&self, late: &Late, shard: u32, wait: Micros, room: Micros) -> bool {
        let suite = self.record.units[late.unit as usize].suite;
        let cost = self.cost(late, shard);
        let sooner = SOONER.max(Micros(cost.0 / 2));
        !self.shards[shard as usize].unable.contains(&suite)
            && wait + cost + sooner < late.left
            && (cost <= room || is_planted(Fault::CopiedBeyondBudget))
    }

    /// What may still be spent on another copy.
    pub(super) fn room(&self, now: Micros) -> Micros {
        self.budget(now) - self.promised(now)
    }

    pub(super) fn copy(&mut self, now: Micros, shard: u32, late: Late) {
        let Late {
            lease,
            unit,
            numbers,
            ..
        } = late;
        self.units[unit as usize].copied.extend(&numbers);
        let work = self.new_work(unit, Part::Named(numbers));
        self.works[work as usize].copy_of = Some(lease);
        self.open_more(unit);
        let weight = self.weight(work);
        let needs = self.units[unit as usize].needs.clone();
        self.dispatcher.turn(shard, needs.kind);
        self.dispatcher.holds(shard, work, weight, &needs, now);
        let name = self.record.units[unit as usize].name.to_string();
        let text = format!(
            "{name} takes longer than it should on slot {}: slot {} runs what is left of it, too, and whoever ends first counts",
            late.shard + 1,
            shard + 1
        );
        self.note(Level::Info, &text);
        self.lease(now, shard, work, false);
    }

    /// What may be spent on copies by now, of slots' time.
    fn budget(&self, now: Micros) -> Micros {
        // A slot that waits for what comes next does nothing.
        let until = self.shards.iter().map(|shard| {
            if shard.waiting {
                shard.waits_since
            } else {
                now
            }
        });
        let running = self.shards.iter().zip(until).flat_map(|(shard, until)| {
            let leases = shard
                .leases
                .iter()
                .filter_map(|&(lease, _)| self.record.lease(lease));
            leases
                .filter(|lease| !lease.is_copy())
                .filter_map(move |lease| {
                    let copied = lease.copied.as_ref().and_then(|copy| copy.stands);
                    Some(until - copied.or(lease.begun.map(|begun| begun.at))?)
                })
        });
        let work = self.copying.work + running.sum();
        Micros(work.0 * BUDGET_PERCENT / 100)
    }

    /// What has been spent on copies by now.
    fn spent_on_copies(&self, now: Micros) -> Micros {
        let live = self.at_work_now().map(|lease| lease.spent_as_copy(now));
        self.copying.spent + live.sum()
    }

    /// The same, with what those that run should still take.
    fn promised(&self, now: Micros) -> Micros {
        let live = self.at_work_now().map(|lease| {
            let spent = lease.spent_as_copy(now);
            let expected = lease.is_copy().then_some(lease.expected);
            spent.max(expected.unwrap_or_default())
        });
        self.copying.spent + live.sum()
    }

    /// Live leases, those included that wait on their slots.
    fn at_work_now(&self) -> impl Iterator<Item = &crate::record::Lease> {
        let leases = self.shards.iter().flat_map(|shard| &shard.leases);
        leases.filter_map(|&(lease, _)| self.record.lease(lease))
    }

    /// Ends copies, the last given first, while more is spent on them than may be.
    pub(super) fn end_overruns(&mut self, now: Micros) {
        while let Some((_, copy)) = self.record.pairs().max_by_key(|(_, copy)| *copy) {
            if self.spent_on_copies(now) <= self.budget(now)
                || is_planted(Fault::CopiedBeyondBudget)
            {
                return;
            }
            self.cancel(now, copy);
        }
    }

    /// No copy is worth anything any more.
    pub(super) fn cancel_copies(&mut self, now: Micros) {
        let copies: Vec<u64> = self.record.pairs().map(|(_, copy)| copy).collect();
        for copy in copies {
            self.cancel(now, copy);
        }
    }

    /// A lease is not needed any more. Its slot is told to end what it does; nobody waits for that.
    pub(super) fn cancel(&mut self, at: Micros, lease: u64) {
        self.copying.vain += u32::from(self.copying.early.remove(&lease));
        self.cancel_for(at, lease, Reason::Cancelled);
    }

    fn cancel_for(&mut self, at: Micros, lease: u64, reason: Reason) {
        let Some(shard) = self.record.lease(lease).map(|lease| lease.shard) else {
            return;
        };
        let Some(work) = self.live_work(shard, lease) else {
            return;
        };
        let leases = &self.shards[shard as usize].leases;
        let first = leases.front().is_some_and(|(first, _)| *first == lease);
        let declared = first && self.shards[shard as usize].place.declared.is_some();
        self.end_lease(shard, lease, reason, at);
        // When it ended tells nothing of the slot's speed.
        self.dispatcher.cut(shard);
        self.dispatcher.finished(shard, work, at);
        let state = &mut self.shards[shard as usize];
        if first {
            (state.unit, state.long_case, state.waiting) = (None, None, false);
            state.place = super::Place::default();
        }
        let slot = self.record.shards[shard as usize].slot;
        self.send_to_shard(shard, Command::Cancel { slot, lease });
        if is_planted(Fault::LoserAgain) {
            self.works[work as usize].copy_of = None;
            self.work_again(work);
            return;
        }
        if declared && self.works[work as usize].copy_of.is_none() {
            // Of what it names, or was declared before, some may not be there in its process.
            self.miss(lease, work);
        }
        self.work_done(work);
    }

    /// A case of a lease has its verdict. Where that was the last of what two leases had, the other one is not needed any more.
    pub(super) fn settle_pair(&mut self, at: Micros, lease: u64) {
        if let Some(copy) = self.record.copy_of(lease) {
            if self.undecided_of_copy(copy).is_empty() {
                self.cancel(at, copy);
            }
            return;
        }
        let copied = self.record.lease(lease).and_then(|own| own.copied.as_ref());
        let Some(of) = copied.map(|copy| copy.of) else {
            return;
        };
        // What the copy has given back is still the other one's.
        if self.record.copy_of(of) == Some(lease) && self.undecided_of(of).is_empty() {
            self.cancel(at, of);
        }
    }

    /// Where one of two leases is at work on a case that the other one has decided, and has no other, it is not needed any more; where
    /// it has, those go elsewhere. It may hang in it.
    pub(super) fn end_spent(&mut self, now: Micros) {
        for unit in std::mem::take(&mut self.copying.changed) {
            if !self.units[unit as usize].copied.is_empty() {
                self.end_spent_of(now, unit);
            }
        }
    }

    fn end_spent_of(&mut self, now: Micros, unit: u32) {
        for shard in 0..self.shards.len() as u32 {
            let state = &self.shards[shard as usize];
            let own = |&&(_, work): &&(u64, u32)| self.works[work as usize].unit == unit;
            let Some(&(lease, work)) = state.leases.front().filter(own) else {
                continue;
            };
            let cases = self.record.lease(lease).map(|lease| &lease.cases[..]);
            let cases = cases.unwrap_or_default();
            let kept = state.place.kept.map_or(cases.len(), |kept| kept as usize);
            let from = state.place.done as usize;
            let left = cases.get(from..kept).unwrap_or_default();
            let decided = |number: &u32| self.verdict_of(unit, *number).is_some();
            let open = |number: &u32| !decided(number) && self.record.may_decide(lease, *number);
            let known = state.place.declared.is_some() && !state.waiting;
            if !known || !left.first().is_some_and(decided) {
                continue;
            }
            let is_copy = self.works[work as usize].copy_of.is_some();
            let more = is_copy && !self.undecided_of_copy(lease).is_empty();
            if !more && !cases.iter().any(open) {
                self.cancel(now, lease);
            } else if self.could_give(shard) {
                self.take(now, shard, lease, from as u32 + 1);
            }
        }
    }

    /// Cases that a lease has and that have no verdict.
    fn undecided_of(&self, lease: u64) -> Vec<u32> {
        let Some(on_record) = self.record.lease(lease) else {
            return Vec::new();
        };
        let cases = &self.record.units[on_record.unit as usize].cases;
        let own = on_record.cases.iter().copied().filter(|&number| {
            let case = &cases[number as usize];
            case.is_owned_by(lease) && case.verdict().is_none()
        });
        own.collect()
    }

    /// Cases of a copy that have no verdict.
    fn undecided_of_copy(&self, copy: u64) -> Vec<u32> {
        let shard = self.record.lease(copy).map_or(0, |copy| copy.shard);
        let Some(work) = self.live_work(shard, copy) else {
            return Vec::new();
        };
        let Work { unit, part, .. } = &self.works[work as usize];
        let Part::Named(cases) = part else {
            return Vec::new();
        };
        let cases = cases.iter().copied();
        cases
            .filter(|&number| self.verdict_of(*unit, number).is_none())
            .collect()
    }

    /// Whether a copy has its cases alone from now on.
    pub(super) fn stands(&self, copy: u64) -> bool {
        let copied = self
            .record
            .lease(copy)
            .and_then(|copy| copy.copied.as_ref());
        copied.is_some_and(|copy| copy.stands.is_some())
    }

    /// Whether what a lease has is at work twice: nothing of it moves.
    pub(super) fn runs_twice(&self, lease: u64, work: &Work) -> bool {
        work.copy_of.is_some() || self.record.copy_of(lease).is_some()
    }

    /// Whether a slot cannot end the last case of something that runs twice before it knows what comes next. It is told that nothing
    /// does, whatever may: that its result counts is worth more than its process.
    pub(super) fn waits_in_pair(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        let waits = state.waiting && state.leases.len() == 1;
        let first = state.leases.front().filter(|_| waits);
        first.is_some_and(|&(lease, work)| self.runs_twice(lease, &self.works[work as usize]))
    }

    /// Cases of a lease are given back that runs beside another one, or is a copy. Whether nothing more is to be done: a copy's go
    /// on under the other lease. What is given back of the other one is not the copy's any more either, and a copy that has not
    /// loaded it yet, and so would run it beside whoever gets it, is none any more.
    pub(super) fn give_back_of_pair(
        &mut self,
        at: Micros,
        shard: u32,
        (lease, work): (u64, u32),
        numbers: &[u32],
    ) -> bool {
        let own = self.works[work as usize].copy_of.is_some();
        let copy = self.record.copy_of(lease);
        let on_record = copy.and_then(|copy| Some((copy, self.record.lease(copy)?)));
        let copy = on_record.map(|(copy, on)| (copy, on.shard, on.cases.is_empty()));
        let work = match copy {
            Some((copy, shard, _)) => self.live_work(shard, copy),
            None => Some(work).filter(|_| own),
        };
        if let Some(work) = work
            && let Part::Named(cases) = &mut self.works[work as usize].part
        {
            let had = cases.len();
            cases.retain(|number| !numbers.contains(number));
            let less = cases.len() < had;
            if let Some((copy, _, true)) = copy.filter(|_| less) {
                self.cancel_for(at, copy, Reason::Returned);
            }
        }
        if own {
            self.shards[shard as usize].revoking = None;
            let cases = numbers.to_vec();
            self.append(Body::Returned(l::Returned { lease, cases }));
        }
        own
    }

    /// Of a lease and its copy the first was lost: the copy is the only one from now on, and has what was left.
    pub(super) fn stand(&mut self, lost: Option<u32>, copy: u64) {
        let shard = self.record.lease(copy).map_or(0, |copy| copy.shard);
        let Some(work) = self.live_work(shard, copy) else {
            return;
        };
        let unit = self.works[work as usize].unit;
        self.works[work as usize].copy_of = None;
        let Part::Named(cases) = self.works[work as usize].part.clone() else {
            return;
        };
        let open = cases.into_iter().filter(|&number| {
            let alone = self.kills.contains_key(&(unit, number));
            self.verdict_of(unit, number).is_none() && !alone
        });
        let open: Vec<u32> = open.collect();
        self.parted
            .extend(open.iter().map(|&number| (unit, number)));
        if let Some(lost) = lost
            && let Part::Named(own) = &mut self.works[lost as usize].part
        {
            own.retain(|number| !open.contains(number));
        }
        self.works[work as usize].part = Part::Named(open);
    }

    /// Whether the copy of a lease has a case that would else run once more, alone.
    pub(super) fn is_left_to_copy(&self, lease: u64, number: u32) -> bool {
        let copy = self.record.copy_of(lease);
        copy.is_some_and(|copy| self.undecided_of_copy(copy).contains(&number))
    }

    /// How often a case took down what ran it. `twice`: it is at work under another lease all the same, so that it does not run alone
    /// for that; it counts as soon as that one has the same to tell.
    pub(super) fn kills_of(&mut self, unit: u32, number: u32, twice: bool) -> &mut Kills {
        let key = (unit, number);
        if twice {
            return self.copy_kills.entry(key).or_default();
        }
        let before = self.copy_kills.remove(&key).unwrap_or_default();
        let kills = self.kills.entry(key).or_default();
        kills.processes += before.processes;
        kills.agents += before.agents;
        kills
    }

    /// Where a result came that does not count: whether its case ran twice, and this one says that it failed and the other does not,
    /// or the other way round.
    pub(super) fn differs(&self, lease: u64, number: u32, failed: bool) -> bool {
        let Some(on_record) = self.record.lease(lease) else {
            return false;
        };
        let case = &self.record.units[on_record.unit as usize].cases[number as usize];
        let of = |lease: u64| on_record.copied.as_ref().is_some_and(|own| own.of == lease);
        let decided = case.last_attempt().map(|attempt| attempt.lease);
        let other = decided.and_then(|decided| {
            let at = self.record.lease_at(decided)?;
            let number = u64::from(at.term) << 32 | u64::from(decided);
            let copied = at.copied.as_ref().is_some_and(|other| other.of == lease);
            Some(copied || of(number))
        });
        let verdict = case.verdict().map(crate::record::Verdict::is_failure);
        other == Some(true) && verdict.is_some_and(|verdict| verdict != failed)
    }

    pub(super) fn note_difference(&mut self, lease: u64, number: u32, outcome: &str) {
        let Some(on_record) = self.record.lease(lease) else {
            return;
        };
        let (unit, shard) = (on_record.unit, on_record.shard);
        let on_record = &self.record.units[unit as usize];
        let case = &on_record.cases[number as usize];
        let (Some(verdict), Some(other)) = (case.verdict(), self.record.shard_of(case)) else {
            return;
        };
        let id = self.record.with_suite(on_record.suite, &case.id);
        let text = format!(
            "{id} ran twice and did not end alike: {verdict} on slot {}, which was first and counts, {outcome} on slot {}",
            other + 1,
            shard + 1
        );
        self.note(Level::Warning, &text);
    }

    /// What was spent before a recovery, and which units had a copy.
    pub(super) fn recover_copies(&mut self) {
        let leases = std::mem::take(&mut self.record.leases);
        for lease in &leases {
            self.copying.ended(lease);
            if lease.copied.is_some() && !lease.never_loaded() {
                self.units[lease.unit as usize].copied.extend(&lease.named);
            }
        }
        self.record.leases = leases;
    }
}

/// On a slot of this speed.
fn scaled(work: Micros, speed: u64) -> Micros {
    Micros(work.0.saturating_mul(1000) / speed.max(1))
}

/// What is left of something that should take this long and has run for so long. What is overdue is expected to take as long again as
/// it has: the mean of what is left where few take far longer than most (a Pareto law whose variance is just infinite).
fn remaining(expected: Micros, elapsed: Micros) -> Micros {
    if elapsed > expected {
        elapsed
    } else {
        expected - elapsed
    }
}
