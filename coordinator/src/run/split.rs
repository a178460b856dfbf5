//! Long units: when cases that have not started are taken back from their slot, and what becomes of them.
//!
//! A unit is split only after a process declared its cases: the lease that declared them shrinks, and what it gives back
//! goes up again as named parts. So every case is in exactly one part, and the first lease, which loaded the unit without
//! a list, has run or given back whatever was there.

use super::planted::{Fault, is_planted};
use super::{CaseKey, Micros, Part, Place, Run, Work};
use evenkeel_schedule::{Experience, Learner, Past, PastRun, Piece, Sample, UnitFacts, split};
use std::collections::{BTreeSet, HashMap};

/// Less than this is not worth a part of its own.
pub(super) const WORTH: Micros = Micros::from_millis(20);
/// With more to hand out, a slot may end this much later than the others before its unit is split, in percent of what is left.
const SLACK_PERCENT: u64 = 2;
/// How often running units are looked at when a slot has nothing to do.
const EVERY: Micros = Micros::from_millis(5);
/// How often at most while there is something to do for all.
const EARLY: Micros = Micros::from_millis(20);
/// With many slots, so much later for each of them.
const LOOKING: Micros = Micros(10);
/// A unit of which nothing is known is not split before a case of it has ended, or has run for this long.
const EVIDENCE: Micros = Micros::from_millis(50);
/// What is loaded for the first time in a run costs what it did in earlier ones, unless it is seen to take more than so many times that.
const DEARER: u64 = 4;
/// How many cases a message names.
const NAMED: usize = 3;

/// The running lease of a shard, as far as it has come.
struct Left {
    lease: u64,
    /// Position in the lease's declaration of the first case that may not have started.
    first: usize,
    /// Numbers of the cases that have not started.
    numbers: Vec<u32>,
    /// What the case at work still takes, and that with all of the above: on this slot.
    residue: Micros,
    total: Micros,
}

impl Run {
    /// What a case should take on a slot of the reference speed: by its history, else like its neighbours.
    fn case_time(&self, unit: u32, number: u32) -> Micros {
        let state = &self.units[unit as usize];
        let known = state.times.get(number as usize).copied();
        known.unwrap_or_else(|| {
            let cases = self.record.units[unit as usize].cases.len().max(1) as u64;
            let estimate = &self.estimates[unit as usize];
            let guess = Micros(estimate.work.0 / cases);
            let usual = state.seen.usual(estimate.known.then_some(guess));
            usual.unwrap_or(guess.max(state.assumed))
        })
    }

    pub(super) fn expected_of(&self, unit: u32, cases: &[u32]) -> Micros {
        cases.iter().map(|&case| self.case_time(unit, case)).sum()
    }

    /// What loading the unit costs once more: what it cost in this run, else by its history, else as far as can be seen by now.
    pub(super) fn setup_of(&self, unit: u32) -> Micros {
        let estimate = self.estimates[unit as usize];
        let state = &self.units[unit as usize];
        // Of a unit that has only begun to tell the slot may be slower than is thought.
        let told = estimate.known && state.setup.0 <= DEARER * estimate.setup.0;
        let known = if told { estimate.setup } else { state.setup };
        state.loaded.usual().unwrap_or(known)
    }

    /// Whether a unit is going to be split as soon as this slot has declared its cases, by what is recorded of it.
    pub(super) fn is_shared(&self, now: Micros, shard: u32, work: u32) -> bool {
        let Work { unit, part, .. } = &self.works[work as usize];
        matches!(part, Part::Rest)
            && self.case_times.contains_key(unit)
            && !self.units[*unit as usize].needs.is_constrained()
            && self.serving() > 1
            && self.dispatcher.free(shard, now) > self.dispatcher.level(now) + WORTH
    }

    /// A lease has declared all its cases.
    pub(super) fn note_declared(&mut self, now: Micros, shard: u32, lease: u64) {
        let Some(work) = self.live_work(shard, lease) else {
            return;
        };
        let unit = self.works[work as usize].unit;
        let begun = self.record.lease(lease).and_then(|lease| lease.begun);
        let setup = begun.map_or(Micros::ZERO, |begun| now - begun.at);
        let usual = self.dispatcher.at_reference(shard, setup);
        let state = &mut self.units[unit as usize];
        state.setup = state.setup.max(usual);
        self.shards[shard as usize].place = Place {
            declared: Some(now),
            since: now,
            setup,
            ..Place::default()
        };
        if let Some(known) = self.case_times.remove(&unit) {
            self.units[unit as usize].times =
                times(&self.record.units[unit as usize].cases, &known);
        }
        let known = !self.units[unit as usize].times.is_empty();
        if known && matches!(self.works[work as usize].part, Part::Rest) {
            self.split_if_long(now, shard);
        }
    }

    /// The case at this position of a shard's lease has ended. `setup` of its time was for what cases of the unit share.
    pub(super) fn note_case_ended(
        &mut self,
        shard: u32,
        unit: u32,
        position: u32,
        at: Micros,
        setup: Micros,
    ) {
        self.pace(shard, unit, position, at, setup);
        let state = &mut self.units[unit as usize];
        let place = &mut self.shards[shard as usize].place;
        let before = std::mem::replace(&mut place.since, at);
        place.done = place.done.max(position + 1);
        place.setup += setup;
        let loaded = self.dispatcher.at_reference(shard, place.setup);
        state.setup = state.setup.max(loaded);
        let Some(declared) = place.declared else {
            return;
        };
        // The first case sets up more than the others, also what lives longer than the unit.
        let first = place.first.is_none();
        let since = if first { declared + setup } else { before };
        place.first.get_or_insert(at);
        let took = self.dispatcher.at_reference(shard, at - since);
        self.units[unit as usize].seen.add(first, took);
    }

    /// What is left of the lease that a shard has at work.
    fn left(&self, shard: u32, now: Micros) -> Option<Left> {
        let state = &self.shards[shard as usize];
        state.place.declared?;
        let &(lease, work) = state.leases.front()?;
        let work = &self.works[work as usize];
        // A lease of which nothing came back when it was asked has more to give only when it has come further.
        let stuck = state.stuck == Some((lease, state.place.done));
        // What is not divided is with its process; and what needs a lock, or to be alone,
        // runs nowhere else meanwhile.
        let bound = self.suite_of(work.unit).undivided
            || self.units[work.unit as usize].needs.is_constrained()
            || self.runs_twice(lease, work);
        let over = state.gone || state.waiting || bound || stuck;
        if over || state.revoking.is_some() || matches!(work.part, Part::Alone(_)) {
            return None;
        }
        let cases = &self.record.lease(lease)?.cases;
        let running = state.place.done as usize;
        let elapsed = now - state.place.since;
        let residue = cases.get(running).map_or(Micros::ZERO, |&number| {
            let expected = self
                .dispatcher
                .takes(shard, self.case_time(work.unit, number));
            // One that is overdue is expected to take as long again as it has been overdue.
            (expected - elapsed).max(elapsed - expected)
        });
        let first = running + 1;
        let unit = &self.record.units[work.unit as usize];
        let numbers: Vec<u32> = cases
            .get(first..)
            .unwrap_or_default()
            .iter()
            .copied()
            .take_while(|&number| unit.cases[number as usize].is_owned_by(lease))
            .collect();
        let rest = self.expected_of(work.unit, &numbers);
        let total = residue + self.dispatcher.takes(shard, rest);
        Some(Left {
            lease,
            first,
            numbers,
            residue,
            total,
        })
    }

    fn pieces(&self, unit: u32, numbers: &[u32], started: &[u32]) -> Vec<Piece> {
        let cases = &self.record.units[unit as usize].cases;
        let started: BTreeSet<&str> = started
            .iter()
            .filter_map(|&number| cases[number as usize].group())
            .collect();
        let mut groups: HashMap<&str, u32> = HashMap::new();
        let (mut class, mut name) = (0, "");
        numbers
            .iter()
            .map(|&number| {
                let case = &cases[number as usize];
                let own = case.labels.as_ref().map_or("", |labels| &labels.class);
                if own != name {
                    (class, name) = (class + 1, own);
                }
                let next = groups.len() as u32;
                let group = case.group();
                Piece {
                    expected: self.case_time(unit, number),
                    class,
                    group: group.map(|group| *groups.entry(group).or_insert(next)),
                    bound: group.is_some_and(|group| started.contains(group)),
                }
            })
            .collect()
    }

    /// Those that have not started.
    fn pieces_left(&self, left: &Left) -> Vec<Piece> {
        let on_record = self.record.lease(left.lease);
        let on_record = on_record.expect("a live lease is on record");
        let started = &on_record.cases[..left.first.min(on_record.cases.len())];
        self.pieces(on_record.unit, &left.numbers, started)
    }

    /// Whether all cases of a part belong together.
    pub(super) fn is_one_block(&self, work: u32) -> bool {
        let Work { unit, part, .. } = &self.works[work as usize];
        let cases = &self.record.units[*unit as usize].cases;
        match part {
            Part::Rest => false,
            Part::Alone(_) => true,
            Part::Named(numbers) => {
                let mut groups = numbers.iter().map(|&number| cases[number as usize].group());
                let first = groups.next().flatten();
                groups.all(|group| group.is_some() && group == first)
            }
        }
    }

    /// Whether a slot that has this kind of process has nothing to do.
    fn has_taker(&self, kind: u32) -> bool {
        let mut shards = 0..self.shards.len() as u32;
        shards.any(|shard| self.could_take_of(shard, kind) && self.dispatcher.is_of(shard, kind))
    }

    pub(super) fn serving(&self) -> u32 {
        self.shards.len() as u32 - self.slots_gone
    }

    /// Takes back from a shard what it could not end by the time the others should, if that is worth it.
    /// Whether it was.
    fn split_if_long(&mut self, now: Micros, shard: u32) -> bool {
        let slots = u64::from(self.serving());
        let Some(left) = self
            .left(shard, now)
            .filter(|left| slots > 1 && !left.numbers.is_empty())
        else {
            return false;
        };
        let Some(work) = self.live_work(shard, left.lease) else {
            return false;
        };
        let unit = self.works[work as usize].unit;
        self.dispatcher.progress(shard, now, left.total);
        let waiting = self.dispatcher.is_waiting();
        let kind = self.units[unit as usize].needs.kind;
        // Where no slot of its kind has nothing to do, one of another kind has to start a process for what is taken back.
        let start = if waiting || self.has_taker(kind) {
            Micros::ZERO
        } else {
            self.dispatcher.start_of(kind)
        };
        let setup = self.setup_of(unit) + start;
        let level = self.dispatcher.level(now);
        let free = self.dispatcher.free(shard, now);
        let slack = if waiting {
            WORTH.max(Micros((level - now).0 * SLACK_PERCENT / 100))
        } else {
            WORTH
        };
        // Each part pays the set-up again, and all slots share that.
        let share = level + Micros(setup.0 * (slots - 1) / slots);
        let least = if waiting { level + setup } else { share };
        if free <= least + slack {
            return false;
        }
        // What else the slot holds, it keeps.
        let behind = free - (now + left.total);
        let room = share - now;
        let pieces = self.pieces_left(&left);
        let parts = (slots - 1) as usize;
        let Some(split) = split(
            &pieces,
            self.dispatcher
                .at_reference(shard, room - behind - left.residue),
            room - setup,
            setup,
            parts,
        ) else {
            return false;
        };
        let moved: Micros = pieces[split.keep..]
            .iter()
            .map(|piece| piece.expected)
            .sum();
        let gain = if waiting { moved - setup } else { moved };
        let taken = start == Micros::ZERO || self.dispatcher.is_worth_turning(kind, moved);
        if gain <= WORTH || !taken {
            return false;
        }
        self.shards[shard as usize].makes_room = false;
        self.take(now, shard, left.lease, (left.first + split.keep) as u32);
        true
    }

    /// The longest running unit is shared: when there is nothing left to hand out and a slot has nothing to do, and before
    /// that when it turns out longer than thought, so that its long cases start while others still have something to do.
    pub(super) fn split_the_longest(&mut self, now: Micros) {
        let early = self.could_split_early();
        let due = if early {
            now >= self.next_early_split
        } else {
            now >= self.next_split && self.could_split()
        };
        if !due {
            return;
        }
        let mut longest: Option<(Micros, u32)> = None;
        for shard in 0..self.shards.len() as u32 {
            self.note_lag(shard, now);
            if !self.shows_its_pace(shard, now, early) {
                continue;
            }
            self.assume_its_pace(shard, now);
            let Some(left) = self.left(shard, now) else {
                continue;
            };
            self.dispatcher.progress(shard, now, left.total);
            if !left.numbers.is_empty() && longest.is_none_or(|(most, _)| left.total > most) {
                longest = Some((left.total, shard));
            }
        }
        let split = longest.is_some_and(|(_, shard)| self.split_if_long(now, shard));
        if early {
            if !split {
                self.make_room(now);
            }
            let left = self.dispatcher.level(now) - now;
            self.next_early_split = now + EARLY.max(Micros(left.0 / 64)) + self.looking();
            return;
        }
        // What could not be split will not soon; and looking costs as much as there are cases.
        let unsplit = longest
            .filter(|_| !split)
            .map_or(Micros::ZERO, |(left, _)| left);
        self.next_split = now + EVERY.max(Micros(unsplit.0 / 128)) + self.looking();
    }

    /// With many slots it is looked less often, since each is looked at.
    pub(super) fn looking(&self) -> Micros {
        let slots = self.shards.len() as u64;
        Micros(if self.has_many() {
            slots * LOOKING.0
        } else {
            0
        })
    }

    /// Where a long case that waits would end late on whichever slot is free first, and a slot has something shorter at work
    /// that can wait: that goes up again in parts, and the slot has room for the long one.
    ///
    /// Only for what cannot be divided, which never has to make room itself, so this comes to an end.
    fn make_room(&mut self, now: Micros) {
        let Some((long, expected)) = self.dispatcher.longest_waiting() else {
            return;
        };
        let free = self.dispatcher.earliest_free(now);
        let late = free + expected - self.dispatcher.level(now);
        if late <= WORTH || !self.is_one_block(long) {
            return;
        }
        let mut soonest: Option<(Micros, u32, Left, u32)> = None;
        for shard in 0..self.shards.len() as u32 {
            if self.shards[shard as usize].leases.len() > 1
                || !self.shows_its_pace(shard, now, false)
            {
                continue;
            }
            let Some(left) = self.left(shard, now) else {
                continue;
            };
            let Some(work) = self.live_work(shard, left.lease) else {
                continue;
            };
            let setup = self.setup_of(self.works[work as usize].unit);
            let pieces = self.pieces_left(&left);
            // As much as its groups allow.
            let Some(split) = split(&pieces, Micros::ZERO, left.total, setup, 1) else {
                continue;
            };
            let kept = pieces[..split.keep].iter().map(|piece| piece.expected);
            let stays = left.residue + self.dispatcher.takes(shard, kept.sum());
            let sooner = free - (now + stays);
            let worth = late.min(sooner) > WORTH + setup && expected > left.total + setup;
            if worth && soonest.as_ref().is_none_or(|(least, ..)| stays < *least) {
                let from = (left.first + split.keep) as u32;
                soonest = Some((stays, shard, left, from));
            }
        }
        if let Some((_, shard, left, from)) = soonest {
            self.shards[shard as usize].makes_room = true;
            self.take(now, shard, left.lease, from);
        }
    }

    /// Whether the history, or unless `known` at least the run, shows how long cases of the unit at work take.
    fn shows_its_pace(&self, shard: u32, now: Micros, known: bool) -> bool {
        let place = &self.shards[shard as usize].place;
        let work = self.shards[shard as usize].leases.front();
        let unit = work.map(|&(_, work)| &self.units[self.works[work as usize].unit as usize]);
        unit.is_some_and(|unit| !unit.times.is_empty() || !known && unit.seen.any())
            || !known && now - place.since >= EVIDENCE
    }

    /// Where nothing else is known, the cases of a unit are thought to take as long as its first has taken by now.
    fn assume_its_pace(&mut self, shard: u32, now: Micros) {
        let state = &self.shards[shard as usize];
        let Some(&(_, work)) = state.leases.front() else {
            return;
        };
        let unit = self.works[work as usize].unit as usize;
        let begun = state.place.declared.is_some() && !state.waiting;
        if begun && !self.estimates[unit].known {
            let assumed = &mut self.units[unit].assumed;
            let elapsed = now - state.place.since;
            *assumed = (*assumed).max(self.dispatcher.at_reference(shard, elapsed));
        }
    }

    /// Whether there is still something to hand out, so that a part of a unit would find its place among it.
    fn could_split_early(&self) -> bool {
        self.record.stopped.is_none()
            && self.settings.script.is_none()
            && self.dispatcher.is_waiting()
            && self.is_listed()
    }

    /// Whether a slot has nothing to do and nothing is waiting for it.
    pub(super) fn could_split(&self) -> bool {
        self.record.stopped.is_none()
            && self.settings.script.is_none()
            && !self.dispatcher.is_waiting()
            && self.is_listed()
            && (0..self.shards.len() as u32).any(|shard| self.could_take(shard))
    }

    /// Whether a slot may be asked for a part of what it has at work.
    pub(super) fn could_give(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        let place = &state.place;
        let lease = state.leases.front().map(|&(lease, _)| (lease, place.done));
        let known = place.declared.is_some() && !state.waiting && lease != state.stuck;
        known && state.revoking.is_none() && self.has_unstarted(shard)
    }

    /// Whether the lease that a slot has at work has cases, known or not, that have not started and may move.
    pub(super) fn has_unstarted(&self, shard: u32) -> bool {
        let state = &self.shards[shard as usize];
        let Some(&(lease, work)) = state.leases.front() else {
            return false;
        };
        let unit = self.works[work as usize].unit;
        let bound = self.suite_of(unit).undivided
            || self.units[unit as usize].needs.is_constrained()
            || self.runs_twice(lease, &self.works[work as usize]);
        if bound {
            return false;
        }
        if state.place.declared.is_none() {
            return true;
        }
        let Some(on_record) = self.record.lease(lease) else {
            return false;
        };
        let cases = &self.record.units[on_record.unit as usize].cases;
        let unstarted = on_record.cases.get(state.place.done as usize + 1..);
        let owned = unstarted.unwrap_or_default();
        // What was given back is always the end of it.
        let end = owned.partition_point(|&number| cases[number as usize].is_owned_by(lease));
        let Some(&last) = owned[..end].last() else {
            return false;
        };
        // A cut leaves behind whatever is before one that cannot move.
        let Some(group) = cases[last as usize].group() else {
            return true;
        };
        let mut started = on_record.cases.iter().take(state.place.done as usize + 1);
        !started.any(|&number| cases[number as usize].group() == Some(group))
    }

    /// Cases that a work gave back go up again, in parts.
    pub(super) fn part(&mut self, now: Micros, shard: u32, work: u32, numbers: Vec<u32>) {
        let unit = self.works[work as usize].unit;
        if let Part::Alone(case) = self.works[work as usize].part {
            // What is to run alone does so wherever it goes, and nothing of it is left here.
            let mut again = Work::new(unit, Part::Alone(case));
            again.avoid = self.works[work as usize].avoid;
            self.works[work as usize].part = Part::Named(Vec::new());
            self.works.push(again);
            self.dispatcher.cut(shard);
            self.put_up(self.works.len() as u32 - 1);
            return;
        }
        if let Part::Named(cases) = &mut self.works[work as usize].part {
            let given: BTreeSet<u32> = numbers.iter().copied().collect();
            cases.retain(|number| !given.contains(number));
        }
        self.parted
            .extend(numbers.iter().map(|&number| (unit, number)));
        self.dispatcher.cut(shard);
        if let Some(left) = self.left(shard, now) {
            self.dispatcher.progress(shard, now, left.total);
        }
        let slots = self.serving().max(1);
        let setup = self.setup_of(unit);
        let total = self.expected_of(unit, &numbers);
        // As it was cut: whoever gave it back keeps its share, and each of the others pays the set-up.
        let kept = self
            .left(shard, now)
            .map_or(Micros::ZERO, |left| left.total);
        let keeps = kept.0 * 2 * u64::from(slots) > (total + kept).0;
        let takers = slots.saturating_sub(u32::from(keeps)).max(1);
        let all = total + Micros(setup.0 * u64::from(takers));
        let level = self.dispatcher.level(now) + Micros(all.0 / u64::from(slots));
        let pieces = self.pieces(unit, &numbers, &[]);
        let size = (level - now - setup).max(WORTH);
        let parts = match split(&pieces, Micros::ZERO, size, setup, takers as usize) {
            Some(split) if split.keep == 0 => split.parts,
            _ => vec![(0..numbers.len() as u32).collect()],
        };
        let dropped = usize::from(parts.len() > 1 && is_planted(Fault::DroppedPart));
        let put_up = parts.len() - dropped;
        let parts: Vec<Vec<u32>> = parts
            .into_iter()
            .take(put_up)
            .map(|part| part.iter().map(|&at| numbers[at as usize]).collect())
            .collect();
        let makes_room = std::mem::take(&mut self.shards[shard as usize].makes_room);
        let stays = self.stays(now, shard, unit, level, &parts);
        let stays = stays.filter(|_| !makes_room);
        for (at, cases) in parts.into_iter().enumerate() {
            let work = self.new_work(unit, Part::Named(cases));
            if Some(at) == stays {
                self.goes_on(now, shard, work);
            } else {
                self.put_up(work);
            }
        }
        // Should a slot make room for one of them?
        self.next_early_split = self.next_early_split.min(now + EARLY);
    }

    /// The longest part that a slot, which has loaded the unit, would end in time without loading it once more.
    fn stays(
        &self,
        now: Micros,
        shard: u32,
        unit: u32,
        level: Micros,
        parts: &[Vec<u32>],
    ) -> Option<usize> {
        let state = &self.shards[shard as usize];
        let serves = self.takes_leases(shard) && !state.told_idle && !self.is_kept(shard);
        // Whoever gave back all that it had does not get it again: it might never run any of it.
        let runs = state.place.done > 0 || self.is_at_work(shard);
        if !serves || !runs || state.leases.len() > 1 || self.is_late(shard, now) {
            return None;
        }
        let room = level - self.dispatcher.free(shard, now);
        let takes = |cases: &[u32]| self.dispatcher.takes(shard, self.expected_of(unit, cases));
        let parts = parts.iter().map(|cases| takes(cases)).enumerate();
        let fits = parts.filter(|&(_, takes)| takes <= room);
        fits.max_by_key(|&(at, takes)| (takes, std::cmp::Reverse(at)))
            .map(|(at, _)| at)
    }

    /// Whether anything that a slot has at work is still its own.
    fn is_at_work(&self, shard: u32) -> bool {
        let Some(&(lease, _)) = self.shards[shard as usize].leases.front() else {
            return false;
        };
        let Some(on_record) = self.record.lease(lease) else {
            return false;
        };
        let cases = &self.record.units[on_record.unit as usize].cases;
        let mut own = on_record.cases.iter();
        own.any(|&number| cases[number as usize].is_owned_by(lease))
    }

    /// Whether the case that a slot has at work takes longer than it should.
    fn is_late(&self, shard: u32, now: Micros) -> bool {
        let state = &self.shards[shard as usize];
        let on_record = state
            .leases
            .front()
            .and_then(|&(lease, _)| self.record.lease(lease));
        let case = on_record.and_then(|lease| {
            let number = *lease.cases.get(state.place.done as usize)?;
            Some(self.case_time(lease.unit, number))
        });
        case.is_some_and(|case| now - state.place.since > self.dispatcher.takes(shard, case))
    }

    /// A slot that has loaded a unit goes on with a part of it that it gave back.
    fn goes_on(&mut self, now: Micros, shard: u32, work: u32) {
        let unit = self.works[work as usize].unit;
        self.open_more(unit);
        let loaded = self.setup_of(unit);
        let mut weight = self.weight(work);
        weight.expected = weight.expected - loaded;
        weight.order = weight.order - loaded;
        weight.high = super::high_of(weight.expected);
        let needs = self.units[unit as usize].needs.clone();
        self.dispatcher.holds(shard, work, weight, &needs, now);
        self.lease(now, shard, work, false);
    }

    /// Remembers that a process does not have a case that its lease names, and what it has instead.
    pub(super) fn note_instead(&mut self, shard: u32, lease: u64, instead: &[CaseKey]) {
        let Some(on_record) = self.record.lease(lease) else {
            return;
        };
        let unit = &self.record.units[on_record.unit as usize];
        let known: BTreeSet<CaseKey> = unit.cases.iter().map(|case| case.key()).collect();
        let here: BTreeSet<&CaseKey> = instead.iter().collect();
        let only_here: Vec<&str> = instead
            .iter()
            .filter(|key| !known.contains(*key))
            .map(|key| key.id.as_str())
            .collect();
        let only_there: Vec<&str> = on_record
            .named
            .iter()
            .map(|&number| &unit.cases[number as usize])
            .filter(|case| !here.contains(&case.key()))
            .map(|case| &*case.id)
            .collect();
        let text = format!(
            "{} has other tests in each process: slot {} did not find {}{}. What a suite is parametrised with must not \
             depend on chance, on time or on the order of a set; or keep the file in one piece (an xdist_group, --dist loadfile)",
            unit.name,
            shard + 1,
            some(&only_there),
            if only_here.is_empty() {
                String::new()
            } else {
                format!(" and found {} instead", some(&only_here))
            },
        );
        self.differences.insert(lease, text);
    }
}

fn some(names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What each case takes; those without a sample what their neighbours tell of them, or what they were called before.
pub(super) fn times(
    cases: &[crate::record::Case],
    known: &HashMap<CaseKey, Micros>,
) -> Vec<Micros> {
    let keys: Vec<CaseKey> = cases.iter().map(|case| case.key()).collect();
    times_of(&keys, known)
}

fn times_of(cases: &[CaseKey], known: &HashMap<CaseKey, Micros>) -> Vec<Micros> {
    let of = |key: &CaseKey| known.get(key).copied();
    let times: Vec<Option<Micros>> = cases.iter().map(of).collect();
    if times.iter().all(Option::is_some) {
        return times.into_iter().flatten().collect();
    }
    // The first of a name stands for all.
    let sample = |took: Micros| Sample {
        work: took,
        setup: Micros::ZERO,
        run: 0,
        passed: true,
    };
    let named = known.iter().filter(|(key, _)| key.occurrence == 0);
    let past = Past {
        runs: vec![PastRun::default()],
        units: named
            .map(|(key, &took)| (key.id.clone(), vec![sample(took)]))
            .collect(),
    };
    let facts = cases.iter().map(|key| UnitFacts {
        name: &key.id,
        size: 0,
    });
    let facts: Vec<UnitFacts<'_>> = facts.collect();
    let learner = Learner::new(&Experience::new(&past), &facts, true);
    let guess = |case: u32| learner.estimate(case).work;
    let times = (0u32..).zip(times);
    times
        .map(|(case, known)| known.unwrap_or_else(|| guess(case)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_with_other_parameters_takes_what_it_took_with_those_before() {
        let key = |id: &str| CaseKey {
            id: id.to_owned(),
            occurrence: 0,
        };
        let quick = (0..20).map(|case| (key(&format!("t.py::test_quick_{case}")), Micros(2_000)));
        let mut known: HashMap<CaseKey, Micros> = quick.collect();
        known.insert(key("t.py::test_grid[10]"), Micros(3_000_000));
        known.insert(key("t.py::test_grid[20]"), Micros(4_000_000));
        let cases = [
            "t.py::test_quick_3",
            "t.py::test_grid[30]",
            "t.py::test_quick_x",
        ]
        .map(key);
        let times = times_of(&cases, &known);
        assert_eq!(times[0], Micros(2_000), "what was measured stands");
        assert!(times[1] > Micros(1_000_000), "{times:?}");
        assert!(times[2] < Micros(100_000), "{times:?}");
    }
}
