//! Going on with a run whose coordinator ended under it: everything that the run has to know is read off its record.
//!
//! Leases that are on record stand: their agents are expected back, with what they did meanwhile. What was handed out and is
//! not on record is void; its number is never given again (see [`Record::lease`]). What only the lost process knew is asked for
//! anew, or worked out: who lists, who was told what, how far a slot has come.

use super::forecast::USUAL_SPEED;
use super::planted::{Fault, is_planted};
use super::{
    AgentId, AgentState, Effect, Estimate, History, Level, Micros, Part, Phase, Place, Rules, Run,
    Settings, ShardState, Work, split,
};
use crate::record::{ApplyError, Lease, Outcome, Record};
use evenkeel_proto::ledger as l;
use l::entry::Body;
use l::lease_ended::Reason;
use std::collections::BTreeMap;

impl Run {
    /// A run as its ledger tells it, to be gone on with. `history` is needed once anything has been listed; `texts` is how many bytes
    /// of outputs are stored, `now` where its clock stands. The effects are to be performed before any event is sent; what stood is told to agents as they come back.
    pub fn recover(
        record: Record,
        rules: Rules,
        settings: Settings,
        history: Option<History>,
        epoch: u64,
        texts: u64,
        now: Micros,
    ) -> Result<(Run, Vec<Effect>), ApplyError> {
        let mut run = Run::blank(rules, settings);
        run.record = record;
        run.texts_end = texts;
        run.append(Body::Recovered(l::Recovered { epoch }));
        run.recover_agents();
        run.recover_suites();
        if let Some(history) = history {
            run.learn(history);
        }
        run.recover_units();
        run.recover_shards();
        run.recover_judgement();
        run.recover_works(now);
        run.totals = run.record.totals();
        if let Some(stopped) = run.record.stopped.clone() {
            run.stop_at = Some(stopped.until_us)
                .filter(|&until| until > 0)
                .map(Micros);
            run.dispatcher.drain(|_| true);
        }
        run.told_lonely = !run.agents.is_empty();
        if run.agents.iter().all(|agent| agent.gone) && run.told_lonely {
            run.without_agents = Some(now);
        }
        let awaited = run.agents.iter().filter(|agent| !agent.gone).count();
        let text = format!(
            "the coordinator was started again; the run goes on{}",
            match awaited {
                0 => String::new(),
                1 => " as soon as its agent is back".to_owned(),
                several => format!(" as its {several} agents come back"),
            }
        );
        run.note(Level::Info, &text);
        run.advance(now);
        let effects = run.flush(now);
        Ok((run, effects))
    }

    /// Agents that are expected back: their incarnations.
    pub fn awaited(&self) -> Vec<(AgentId, String)> {
        let agents = self.agents.iter().zip(&self.record.agents);
        agents
            .filter(|(state, _)| !state.gone && !state.connected)
            .map(|(state, on_record)| (state.id, on_record.incarnation.clone()))
            .collect()
    }

    /// Gives an agent that is expected back the number under which it is known from now on.
    pub fn number_awaited(&mut self, mut number: impl FnMut(&str) -> AgentId) {
        for (agent, on_record) in (0..).zip(&self.record.agents) {
            let state = &mut self.agents[agent as usize];
            if !state.gone && !state.connected {
                self.by_id.remove(&state.id);
                state.id = number(&on_record.incarnation);
                self.by_id.insert(state.id, agent);
            }
        }
    }

    fn recover_agents(&mut self) {
        for (agent, on_record) in (0u32..).zip(&self.record.agents) {
            let opening = u64::from(on_record.term) << 32 | u64::from(agent + 1);
            // Until it is back it has no number; none is ever as high as these.
            let id = AgentId(u64::MAX - u64::from(agent));
            let mut state = AgentState::new(id, opening, on_record.sequence, 0);
            state.connected = false;
            state.gone = on_record.gone.is_some();
            self.by_id.insert(id, agent);
            self.agents.push(state);
        }
    }

    fn recover_suites(&mut self) {
        for suite in 0..self.suites.len() as u32 {
            let listed = self.record.listed_suites.contains(&suite);
            let state = &mut self.suites[suite as usize];
            (state.listed, state.recorded) = (listed, listed);
        }
        for shard in &self.record.shards {
            for process in &shard.processes {
                let started = &process.started;
                let state = &mut self.suites[started.suite as usize];
                state.finish |= started.finish;
                state.bundles |= started.bundles;
                state.undivided |= started.undivided;
                self.show_output |= started.show_output;
                if self.settings.max_fail == 0 {
                    self.settings.max_fail = started.max_fail;
                }
                self.dispatcher
                    .started(started.kind, Micros(started.took_us));
            }
        }
        for objection in &self.record.objections {
            // A suite that could not be built has nothing else to show.
            self.unbuilt |= self.record.units.is_empty() && !objection.message.is_empty();
        }
    }

    /// Units, what they are expected to take, and what their cases took.
    fn recover_units(&mut self) {
        let units: Vec<(u32, String, String)> = self
            .record
            .units
            .iter()
            .map(|unit| (unit.suite, unit.name.to_string(), unit.path.to_string()))
            .collect();
        for (number, (suite, name, path)) in (0..).zip(&units) {
            self.enrol(number, *suite, name, path);
        }
        self.put_up = units.len() as u32;
        if !units.is_empty() || !self.record.listed_suites.is_empty() {
            self.phase = Phase::Running;
        }
        if units.is_empty() {
            return;
        }
        if self.history.is_none() {
            self.learn(History::default());
        }
        self.estimates = vec![Estimate::default(); units.len()];
        for suite in 0..self.suites.len() as u32 {
            self.suites[suite as usize].startup = self.history_of(suite).longest_setup();
            self.forecast(suite);
        }
        for (number, (suite, name, _)) in (0..).zip(&units) {
            let history = self.history.as_mut().expect("it was learned above");
            let Some(known) = history.suites[*suite as usize].cases.remove(name) else {
                continue;
            };
            let on_record = &self.record.units[number as usize];
            if on_record.declared {
                self.units[number as usize].times = split::times(&on_record.cases, &known);
            } else {
                self.case_times.insert(number, known);
            }
        }
        self.recover_copies();
        for lease in &self.record.leases {
            if let Some(ended) = lease.ended {
                let unit = &mut self.units[lease.unit as usize];
                unit.setup = ended.setup.max(unit.setup);
                // What the speed of its slot was is not on record.
                unit.spent.add(lease, USUAL_SPEED);
            }
        }
        // Copies that had what was left when what they are copies of was lost.
        let heirs: BTreeMap<u32, &Lease> = (self.record.leases.iter())
            .filter_map(|lease| {
                let copy = lease.copied.as_ref()?;
                copy.stands.map(|_| (copy.of as u32, lease))
            })
            .collect();
        let mut killed: Vec<(u32, u32, bool, bool)> = Vec::new();
        for (number, unit) in (0..).zip(&self.record.units) {
            for (case, on_record) in (0..).zip(&unit.cases) {
                let attempts = on_record.attempts();
                for attempt in attempts.filter(|attempt| attempt.outcome == Outcome::Killed) {
                    let lease = self.record.lease_at(attempt.lease);
                    let heir = heirs.get(&attempt.lease);
                    let left = heir.is_some_and(|copy| copy.named.contains(&case));
                    let twice = left || lease.is_some_and(Lease::is_copy);
                    killed.push((number, case, twice, attempt.agent_lost));
                }
            }
        }
        for (number, case, twice, agent_lost) in killed {
            let kills = self.kills_of(number, case, twice);
            if agent_lost {
                kills.agents += 1;
            } else {
                kills.processes += 1;
            }
        }
    }

    fn recover_shards(&mut self) {
        for (shard, on_record) in (0u32..).zip(&self.record.shards) {
            let agent = on_record.agent;
            let last = on_record.processes.last();
            let kind = last.map_or(0, |process| process.started.kind);
            let up = last.is_some_and(|process| process.ended.is_none());
            let gone = on_record.closed || self.agents[agent as usize].gone;
            let mut state = ShardState {
                kind,
                // One that could not be set up for a suite gets leases of others without a process.
                ready: (up || !on_record.unable.is_empty()) && !gone,
                empty: !up && !on_record.unable.is_empty(),
                gone,
                ends: on_record.ends,
                heard: last.is_some() || !on_record.unable.is_empty(),
                closing: on_record
                    .processes
                    .iter()
                    .any(|process| process.started.closing),
                unable: on_record.unable.iter().copied().collect(),
                ..ShardState::default()
            };
            state.place.since = self.record.latest;
            self.by_slot.insert((agent, on_record.slot), shard);
            self.script_position.push((0, 0));
            if !gone {
                self.dispatcher.expect_on(agent, shard, kind);
                if state.ready {
                    self.dispatcher.open(shard);
                }
                for barred in 0..self.rules.kinds().len() as u32 {
                    if let Some(suite) = self.rules.suite_of(barred)
                        && state.unable.contains(&suite)
                    {
                        self.dispatcher.bar(shard, barred);
                    }
                }
            }
            self.slots_gone += u32::from(gone);
            self.shards.push(state);
        }
    }

    /// How tests went on each agent: a machine on which everything fails is not given as many once more.
    fn recover_judgement(&mut self) {
        let record = &self.record;
        for attempt in (record.units.iter())
            .flat_map(|unit| &unit.cases)
            .flat_map(|case| case.attempts())
        {
            let Some(lease) = record.lease_at(attempt.lease) else {
                continue;
            };
            let agent = record.shards[lease.shard as usize].agent;
            let state = &mut self.agents[agent as usize];
            match attempt.outcome {
                Outcome::Passed => state.passed = true,
                Outcome::Failed | Outcome::Error => state.failures += 1,
                Outcome::Skipped | Outcome::Killed => {}
            }
        }
    }

    /// Works, those that are leased and those that wait, from the leases and from who owns which case.
    fn recover_works(&mut self, now: Micros) {
        // The work of the unit as a whole, as far as it has come.
        let mut whole: BTreeMap<u32, Option<Reason>> = BTreeMap::new();
        let mut breaks: BTreeMap<u32, u32> = BTreeMap::new();
        let mut voided: Vec<(u32, u32)> = Vec::new();
        let leases: Vec<(u64, u32)> = (1u32..)
            .zip(&self.record.leases)
            .map(|(number, lease)| {
                let id = u64::from(lease.term) << 32 | u64::from(number);
                (id, number)
            })
            .collect();
        for &(id, number) in &leases {
            let lease = self
                .record
                .lease_at(number)
                .expect("it was counted")
                .clone();
            let rest = lease.alone.is_none() && lease.named.is_empty();
            if rest {
                whole.insert(lease.unit, lease.ended.map(|ended| ended.reason));
            }
            let broken = lease.begun.is_some()
                && !lease.is_copy()
                && matches!(lease.ended, Some(ended) if ended.reason == Reason::Broken);
            let progress = lease
                .cases
                .iter()
                .any(|&case| self.verdict_of(lease.unit, case).is_some());
            let lost = breaks.entry(lease.unit).or_default();
            *lost = if broken && !progress { *lost + 1 } else { 0 };
            if lease.ended.is_some() {
                continue;
            }
            let twice = is_planted(Fault::TwiceRecovered);
            if rest
                && !twice
                && lease.cases.is_empty()
                && self.record.units[lease.unit as usize].declared
            {
                self.void(id, now);
                voided.push((lease.shard, lease.unit));
                whole.insert(lease.unit, Some(Reason::Lost));
                continue;
            }
            let given_back = |case: u32| {
                let case = &self.record.units[lease.unit as usize].cases[case as usize];
                !lease.cases.is_empty() && !case.is_owned_by(id) && case.verdict().is_none()
            };
            let copy_of = lease.copied.as_ref().filter(|copy| copy.stands.is_none());
            let work = match (lease.alone, rest) {
                (None, false) if copy_of.is_some() => {
                    let own = lease.named.iter().copied();
                    let gave_back =
                        |case: &u32| copy_of.is_some_and(|copy| copy.gave_back.contains(case));
                    let own = own.filter(|case| !gave_back(case));
                    let kept = own.filter(|&case| self.verdict_of(lease.unit, case).is_none());
                    let work = self.new_work(lease.unit, Part::Named(kept.collect()));
                    self.works[work as usize].copy_of = copy_of.map(|copy| copy.of);
                    work
                }
                (Some(case), _) if given_back(case) => {
                    self.new_work(lease.unit, Part::Named(Vec::new()))
                }
                (Some(case), _) => self.new_work(lease.unit, Part::Alone(case)),
                (None, true) => self.units[lease.unit as usize].work,
                (None, false) => {
                    let own = lease.named.iter().copied();
                    let cases = &self.record.units[lease.unit as usize].cases;
                    // Before it declares them, what it names is its own by that.
                    let declared = !lease.cases.is_empty();
                    let kept: Vec<u32> = own
                        .filter(|&case| {
                            !declared
                                || cases[case as usize].is_owned_by(id)
                                || cases[case as usize].verdict().is_some()
                        })
                        .collect();
                    self.parted
                        .extend(kept.iter().map(|&case| (lease.unit, case)));
                    self.new_work(lease.unit, Part::Named(kept))
                }
            };
            self.hold(lease.shard, id, work, lease.begun.map(|begun| begun.at));
            self.open_more(lease.unit);
            let state = &mut self.shards[lease.shard as usize];
            if state.leases.len() == 1 && !lease.cases.is_empty() {
                state.place = Place {
                    declared: Some(now),
                    done: 0,
                    since: now,
                    kept: (!lease.is_copy()).then_some(0),
                    ..Place::default()
                };
                let cases = &self.record.units[lease.unit as usize].cases;
                for (at, &case) in (1..).zip(&lease.cases) {
                    let case = &cases[case as usize];
                    // What it has given back another one may have decided.
                    let own = case.is_decided_by(id);
                    let place = &mut self.shards[lease.shard as usize].place;
                    if own {
                        place.done = at;
                    }
                    if own || case.is_owned_by(id) {
                        place.kept = place.kept.map(|_| at);
                    }
                }
            }
        }
        for (shard, unit) in voided {
            self.unlock_unheld(shard, unit);
        }
        for unit in 0..self.units.len() as u32 {
            self.recover_unit(unit, whole.get(&unit).copied(), breaks.get(&unit).copied());
        }
        for shard in 0..self.shards.len() as u32 {
            // It may have been told that nothing more comes.
            let state = &mut self.shards[shard as usize];
            state.told_idle = state.ready && !state.empty && state.leases.is_empty();
        }
        self.keep_quiet();
    }

    /// The rest of a unit of which other parts are about, given out again and not declared yet: which cases it was told to leave
    /// out is not on record, so that it would be a guess what is its own.
    fn void(&mut self, lease: u64, now: Micros) {
        self.append(Body::LeaseEnded(l::LeaseEnded {
            lease,
            reason: Reason::Lost as i32,
            at_us: now.0,
            ..l::LeaseEnded::default()
        }));
    }

    pub(super) fn new_work(&mut self, unit: u32, part: Part) -> u32 {
        self.works.push(Work::new(unit, part));
        self.works.len() as u32 - 1
    }

    /// A lease that stands: its slot holds it.
    fn hold(&mut self, shard: u32, lease: u64, work: u32, begun: Option<Micros>) {
        let weight = self.weight(work);
        let unit = self.works[work as usize].unit;
        let needs = self.units[unit as usize].needs.clone();
        self.dispatcher
            .holds(shard, work, weight, &needs, Micros::ZERO);
        if let Some(at) = begun {
            self.dispatcher.begun(shard, work, at);
            let name = self.record.units[unit as usize].name.to_string();
            self.shards[shard as usize].unit = Some((name, at));
        }
        self.shards[shard as usize].leases.push_back((lease, work));
        self.locks.hold_again(shard, &needs);
        for &lock in &needs.locks {
            self.dispatcher.hold(lock, Some(shard));
        }
        let kind = needs.kind;
        let state = &mut self.shards[shard as usize];
        if begun.is_some() || state.leases.len() == 1 {
            state.kind = kind;
            self.dispatcher.turn(shard, kind);
        }
    }

    /// What of a unit nobody holds goes up again. `whole`: how the last lease of its rest ended, if it has.
    fn recover_unit(&mut self, unit: u32, whole: Option<Option<Reason>>, breaks: Option<u32>) {
        if self.record.units[unit as usize].settled.is_some() {
            return;
        }
        let work = self.units[unit as usize].work;
        self.works[work as usize].breaks = breaks.unwrap_or_default();
        let held = self.shards.iter().flat_map(|shard| &shard.leases);
        let mut alone = Vec::new();
        let mut holds_rest = false;
        for &(_, held) in held {
            let state = &self.works[held as usize];
            if state.unit == unit {
                match &state.part {
                    Part::Alone(case) => alone.push(*case),
                    Part::Rest => holds_rest = true,
                    Part::Named(_) => {}
                }
            }
        }
        let cases = self.record.units[unit as usize].cases.len() as u32;
        let undecided: Vec<u32> = (0..cases)
            .filter(|&case| self.verdict_of(unit, case).is_none())
            .collect();
        // Cases that are to run alone.
        for &case in &undecided {
            if self.kills.contains_key(&(unit, case)) && !alone.contains(&case) {
                let work = self.new_work(unit, Part::Alone(case));
                self.put_up(work);
            }
        }
        let is_done = matches!(whole, Some(Some(Reason::Closed)));
        if !is_done && !holds_rest {
            let declared = self.record.units[unit as usize].declared;
            if !declared || whole.is_none() || !self.open_of(work).is_empty() {
                self.put_up(work);
            }
            self.count_done(unit);
            return;
        }
        // What was given back and waits.
        let waits = |case: &u32| {
            let on_record = &self.record.units[unit as usize].cases[*case as usize];
            !on_record.is_owned()
                && !self.parted.contains(&(unit, *case))
                && !self.kills.contains_key(&(unit, *case))
        };
        let waiting: Vec<u32> = undecided.into_iter().filter(waits).collect();
        if !waiting.is_empty() {
            self.parted.extend(waiting.iter().map(|&case| (unit, case)));
            let work = self.new_work(unit, Part::Named(waiting));
            self.put_up(work);
        }
        self.count_done(unit);
    }

    fn count_done(&mut self, unit: u32) {
        if self.units[unit as usize].open == 0 {
            self.units_done += 1;
            self.learn_from(unit);
        }
    }
}
