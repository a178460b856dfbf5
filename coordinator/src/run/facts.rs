//! Taking in what agents report.

use super::membership::FENCES;
use super::planted::{Fault, is_planted};
use super::{
    AgentId, AgentJoined, AgentState, CaseEnded, CaseText, Command, Effect, Event, Fact, FactBody,
    Level, Micros, ProcessEnded, ProcessStarted, Refusal, RefusedReason, Run, SPAWNS, ShardState,
    Show,
};
use crate::record::{Outcome, Verdict};
use evenkeel_proto::ledger as l;
use l::entry::Body;
use std::collections::{BTreeSet, HashMap};

impl Run {
    pub(super) fn facts(
        &mut self,
        now: Micros,
        (id, opening): (AgentId, u64),
        first_sequence: u64,
        sent_at: Micros,
        facts: Vec<Fact>,
    ) {
        // Its own, and told by itself.
        let agent = match opening {
            0 => self.by_id.get(&id).copied(),
            opening => (opening as u32).checked_sub(1),
        };
        let named =
            |state: &AgentState| state.id == id && (opening == 0 || state.opening == opening);
        let known = agent.filter(|&agent| self.agents.get(agent as usize).is_some_and(named));
        let Some(agent) = known else {
            return;
        };
        let state = &mut self.agents[agent as usize];
        if first_sequence > state.sequence.saturating_add(1) && opening != 0 {
            let reason = format!(
                "facts {} to {} of the run are missing",
                state.sequence + 1,
                first_sequence - 1
            );
            self.effects.push(Effect::Cut { agent: id, reason });
            return;
        }
        state.offset = state.offset.min(now.0 as i64 - sent_at.0 as i64);
        let seen = state.sequence;
        let last = first_sequence.saturating_add(facts.len() as u64 - u64::from(!facts.is_empty()));
        for (sequence, fact) in (first_sequence..).zip(facts) {
            if sequence > seen && !self.is_closed() {
                self.taken = Some(l::Taken { agent, sequence });
                self.fact(now, agent as usize, fact);
            }
        }
        let sequence = seen.max(last);
        self.agents[agent as usize].sequence = sequence;
        // Also where nothing else came of it: what is acknowledged is never told again, and must not be missed.
        self.taken = (sequence > seen && !self.is_closed()).then_some(l::Taken { agent, sequence });
        self.flush_entries(now);
        if self.agents[agent as usize].gone {
            // What it has of the run from now on is told under another opening, with sequences of its own.
            return;
        }
        if self.suites.iter().any(|suite| !suite.listing.is_empty()) {
            // A listing that waits for the history is nowhere but here.
            self.agents[agent as usize].unacknowledged = Some(sequence);
            return;
        }
        self.effects.push(Effect::Ack {
            agent: id,
            sequence,
        });
    }

    /// Acknowledges what had to wait for a listing to be on record.
    pub(super) fn acknowledge_listings(&mut self) {
        for agent in &mut self.agents {
            if let Some(sequence) = agent.unacknowledged.take() {
                self.effects.push(Effect::Ack {
                    agent: agent.id,
                    sequence,
                });
            }
        }
    }

    fn fact(&mut self, now: Micros, agent: usize, fact: Fact) {
        let Some(&shard) = self.by_slot.get(&(agent as u32, fact.slot)) else {
            match fact.body {
                FactBody::SlotClosed if fact.slot >= FENCES => {
                    self.has_told_all(now, agent as u32, fact.slot);
                }
                FactBody::SlotClosed => self.give_back(agent as u32, fact.slot),
                _ => {}
            }
            return;
        };
        let at = self.run_time(agent, fact.at, now);
        let heard = matches!(fact.body, FactBody::CaseEnded(_) | FactBody::SlotClosed);
        if self.shards[shard as usize].gone && !heard {
            return;
        }
        let own = matches!(
            fact.body,
            FactBody::ProcessStarted(_)
                | FactBody::UnitBegun { .. }
                | FactBody::Declared { .. }
                | FactBody::CaseEnded(_)
                | FactBody::UnitClosed { .. }
                | FactBody::CaseRunning { .. }
                | FactBody::Waiting { .. }
                | FactBody::Log { .. }
        );
        if own {
            self.stir.insert(shard);
        } else {
            self.stir_all = true;
        }
        let starts = matches!(
            fact.body,
            FactBody::ProcessStarted(_) | FactBody::ProcessRefused(_)
        );
        self.shards[shard as usize].heard |= starts;
        match fact.body {
            FactBody::ProcessStarted(started) => self.process_started(shard, at, started),
            FactBody::ProcessRefused(refusal) => self.refuse(now, shard, &refusal),
            FactBody::ProcessEnded(ended) => self.process_ended(now, shard, agent, at, ended),
            FactBody::Listed {
                kind,
                ask,
                units,
                more,
            } => self.listed(now, shard, kind, ask, units, more),
            FactBody::UnitBegun { lease } => self.unit_begun(shard, lease, at),
            FactBody::Declared {
                lease,
                cases,
                more,
                instead,
            } => {
                self.declared(shard, lease, cases, more);
                if !instead.is_empty() {
                    self.note_instead(shard, lease, &instead);
                }
                if !more {
                    self.note_declared(at, shard, lease);
                }
            }
            FactBody::CaseEnded(ended) => {
                let started = self.run_time(agent, ended.started, now);
                self.case_ended(now, shard, at, started, ended);
            }
            FactBody::UnitClosed {
                lease,
                setup,
                waited,
            } => self.unit_closed(shard, lease, at, setup, waited),
            FactBody::Returned { lease, cases, all } => {
                self.returned(now, shard, lease, at, &cases, all)
            }
            FactBody::CaseRunning { lease, case } => {
                if let Some(id) = self.case_id(lease, case) {
                    self.shards[shard as usize].long_case = Some((id, at));
                }
            }
            FactBody::Waiting { lease } => {
                let state = &mut self.shards[shard as usize];
                if let Some(&(_, work)) = state.leases.iter().find(|(live, _)| *live == lease) {
                    state.waiting = true;
                    state.waits_since = at;
                    self.waiters.insert(shard);
                    self.dispatcher.finished(shard, work, at);
                }
            }
            FactBody::Warnings { list } => self.warned(list),
            FactBody::Halt { reason } => self.stop(now, &reason, false, Micros::MAX),
            FactBody::Log {
                level: Level::Progress,
                text,
            } => self.effects.push(Effect::Show(Show::Notice {
                level: Level::Progress,
                text,
            })),
            FactBody::Log { level, text } => self.note_once(level, &text),
            FactBody::Concluded => self.shards[shard as usize].concluding = false,
            FactBody::SlotClosed => self.slot_closed(now, shard),
        }
    }

    /// An agent's time on the run's clock: never in the future.
    pub(super) fn run_time(&self, agent: usize, at: Micros, now: Micros) -> Micros {
        let shifted = i64::try_from(at.0)
            .unwrap_or(i64::MAX)
            .saturating_add(self.agents[agent].offset);
        Micros(u64::try_from(shifted).unwrap_or(0)).min(now)
    }

    fn process_started(&mut self, shard: u32, at: Micros, started: ProcessStarted) {
        for note in &started.notes {
            self.note_once(Level::Info, note);
        }
        if self.settings.max_fail == 0 {
            self.settings.max_fail = started.max_fail;
        }
        let suite = self.rules.suite_of(started.kind).unwrap_or_default();
        self.append(Body::ProcessStarted(l::ProcessStarted {
            shard,
            suite,
            undivided: started.undivided,
            kind: started.kind,
            incarnation: started.incarnation,
            pid: started.pid,
            argv: started.argv,
            directory: started.directory,
            environment: started.environment.into_iter().collect(),
            runner: started.runner,
            framework: started.framework,
            language: started.language,
            at_us: at.0,
            junit: started.junit,
            bundles: started.bundles,
            closing: started.closing,
            finish: started.finish,
            show_output: started.show_output,
            took_us: started.took.0,
            max_fail: started.max_fail,
            durations: started.durations,
            durations_min_us: started.durations_min.0,
        }));
        let state = &mut self.shards[shard as usize];
        state.empty = false;
        self.show_output |= started.show_output;
        state.closing |= started.closing;
        self.suites[suite as usize].finish |= started.finish;
        self.suites[suite as usize].bundles |= started.bundles;
        self.suites[suite as usize].undivided |= started.undivided;
        self.dispatcher.started(started.kind, started.took);
        if !state.ready && !state.gone {
            state.ready = true;
            self.dispatcher.open(shard);
        }
    }

    /// The framework does not take the command: the run cannot go on, anywhere.
    fn refuse(&mut self, now: Micros, shard: u32, refusal: &Refusal) {
        let suite = self.rules.suite_of(refusal.kind).unwrap_or_default();
        if refusal.reason == RefusedReason::Setup {
            self.cannot_set_up(now, shard, suite, refusal);
            return;
        }
        if self.refused.is_some() || self.suites[suite as usize].over {
            return;
        }
        let Refusal {
            kind: _,
            reason,
            message,
            hint,
            detail,
        } = refusal;
        if *reason == RefusedReason::Build {
            self.unbuilt = true;
            self.object(shard, &self.with_suite(suite, message), detail);
            self.end_suite(now, suite);
            return;
        }
        let works_elsewhere = self
            .record
            .shards
            .iter()
            .flat_map(|shard| &shard.processes)
            .any(|process| process.started.suite == suite);
        if *reason == RefusedReason::Broken && works_elsewhere {
            // Then it is this slot's machine that cannot run the suite, not the suite that cannot be run.
            self.note_once(
                Level::Error,
                &format!("slot {} is given up: {message}", shard + 1),
            );
            if !self.shards[shard as usize].gone {
                self.shard_gone(now, shard, false);
            }
            return;
        }
        let message = match reason {
            RefusedReason::Usage
            | RefusedReason::Unsupported
            | RefusedReason::Build
            | RefusedReason::Setup => message.clone(),
            RefusedReason::Broken => format!("the framework does not start: {message}"),
        };
        self.refused = Some((self.with_suite(suite, &message), hint.clone()));
        self.end_work();
    }

    /// A slot was to start a process of a suite and could not be set up for it: it runs nothing of that, and what it held goes
    /// elsewhere.
    fn cannot_set_up(&mut self, now: Micros, shard: u32, suite: u32, refusal: &Refusal) {
        let text = format!("{}\n{}", refusal.message, refusal.detail);
        self.note_once(Level::Error, text.trim_end());
        self.dispatcher.clear(shard);
        self.give_back_all(shard, now);
        self.miss_listing(shard);
        self.append(Body::Unable(l::Unable { shard, suite }));
        let state = &mut self.shards[shard as usize];
        state.ends += 1;
        state.told_idle = false;
        state.empty = true;
        state.unable.insert(suite);
        for kind in 0..self.rules.kinds().len() as u32 {
            if self.rules.suite_of(kind) == Some(suite) {
                self.dispatcher.bar(shard, kind);
            }
        }
        self.open_without_process(shard);
        let able = |shard: &ShardState| !shard.gone && !shard.unable.contains(&suite);
        if !self.shards.iter().any(able) && !self.suites[suite as usize].over {
            self.unconcluded = true;
            self.end_suite(now, suite);
        }
    }

    /// A slot whose first process did not come up gets leases of other suites all the same: they start another one.
    fn open_without_process(&mut self, shard: u32) {
        let state = &mut self.shards[shard as usize];
        if !state.ready && !state.gone {
            state.ready = true;
            self.dispatcher.open(shard);
        }
    }

    /// Says of which suite a message speaks, where there are several.
    pub(super) fn with_suite(&self, suite: u32, message: &str) -> String {
        let text = self.record.with_suite(suite, message);
        let named = text != message;
        if named { format!("suite {text}") } else { text }
    }

    /// A slot that could not bring its process up, or lost it without having done anything.
    pub(super) fn spawn_failed(&mut self, now: Micros, shard: u32, ended: &ProcessEnded) {
        if self.refused.is_some() {
            return;
        }
        let suite = self.rules.suite_of(ended.kind).unwrap_or_default();
        if self.suites[suite as usize].over {
            // There is nothing to start it for. What other suites have for the slot starts another one.
            self.open_without_process(shard);
            return;
        }
        let (explanation, stderr_tail) = (&ended.explanation, &ended.stderr_tail);
        let state = &mut self.shards[shard as usize];
        state.failed_spawns += 1;
        let given_up = state.failed_spawns >= SPAWNS;
        let tail = stderr_tail.trim_end();
        let text = if tail.is_empty() {
            explanation.clone()
        } else {
            format!("{explanation}\n{tail}")
        };
        self.note_once(Level::Error, &text);
        let state = &mut self.suites[suite as usize];
        if state.lister == Some(shard) && !state.listed {
            state.lister = None;
            state.listing.clear();
            state.failed_listings += 1;
            if state.failed_listings >= SPAWNS {
                let text = self.with_suite(suite, &format!("it could not be listed: {text}"));
                self.give_up(&text);
                return;
            }
        }
        if given_up {
            self.note(
                Level::Error,
                &format!(
                    "slot {} is given up: its process does not stay up",
                    shard + 1
                ),
            );
            self.shard_gone(now, shard, false);
            if self.shards.iter().all(|shard| shard.gone) {
                self.give_up("no slot is left that could run a test");
            }
        } else if !self.shards[shard as usize].ready {
            // A slot that was never up gets no lease that would start its process again.
            let slot = self.record.shards[shard as usize].slot;
            self.send_to_shard(shard, Command::Recycle { slot });
        }
    }

    fn unit_begun(&mut self, shard: u32, lease: u64, at: Micros) {
        let Some(work) = self.live_work(shard, lease) else {
            return;
        };
        let incarnation = self.record.shards[shard as usize]
            .processes
            .last()
            .map_or(0, |p| p.started.incarnation);
        self.append(Body::UnitBegun(l::UnitBegun {
            lease,
            incarnation,
            at_us: at.0,
        }));
        self.dispatcher.begun(shard, work, at);
        let unit = &self.record.units[self.works[work as usize].unit as usize];
        let name = unit.name.to_string();
        let state = &mut self.shards[shard as usize];
        state.unit = Some((name, at));
        state.long_case = None;
        state.waiting = false;
        state.failed_spawns = 0;
    }

    fn declared(&mut self, shard: u32, lease: u64, cases: Vec<l::Case>, more: bool) {
        let Some(work) = self.live_work(shard, lease) else {
            return;
        };
        let unit = &self.record.units[self.works[work as usize].unit as usize];
        if !unit.declared || (more && unit.cases.iter().all(|case| case.is_owned_by(lease))) {
            self.append(Body::Declared(l::Declared {
                lease,
                known: Vec::new(),
                cases,
            }));
            return;
        }
        // The unit was declared before, in part or in another process: recognise its cases by id and occurrence.
        let known: HashMap<(&str, u32), u32> = unit
            .cases
            .iter()
            .enumerate()
            .map(|(number, case)| ((&*case.id, case.occurrence), number as u32))
            .collect();
        let (mut numbers, mut fresh, mut order) = (Vec::new(), Vec::new(), Vec::new());
        let next = unit.cases.len() as u32;
        for case in cases {
            match known.get(&(case.id.as_str(), case.occurrence)) {
                Some(&number) => order.push(number),
                None => {
                    order.push(next + fresh.len() as u32);
                    fresh.push(case);
                }
            }
        }
        drop(known);
        // An entry numbers its known cases before its new ones; where they alternate, it takes several entries.
        let mut fresh = fresh.into_iter();
        let mut new_cases = Vec::new();
        for number in order {
            if number < next {
                if !new_cases.is_empty() {
                    let cases = std::mem::take(&mut new_cases);
                    self.append(Body::Declared(l::Declared {
                        lease,
                        known: std::mem::take(&mut numbers),
                        cases,
                    }));
                }
                numbers.push(number);
            } else {
                new_cases.extend(fresh.next());
            }
        }
        self.append(Body::Declared(l::Declared {
            lease,
            known: numbers,
            cases: new_cases,
        }));
    }

    fn case_id(&self, lease: u64, index: u32) -> Option<String> {
        let lease = self.record.lease(lease).filter(|lease| lease.is_live())?;
        let number = *lease.cases.get(index as usize)?;
        Some(
            self.record.units[lease.unit as usize].cases[number as usize]
                .id
                .to_string(),
        )
    }

    /// Compare and set: a result counts if its lease is live, owns the case, and the case has no verdict yet.
    fn case_ended(
        &mut self,
        now: Micros,
        shard: u32,
        at: Micros,
        started: Micros,
        ended: CaseEnded,
    ) {
        let stale = |run: &mut Run, reason: &str| {
            let on_record = run.record.lease(ended.lease);
            let number = on_record.and_then(|lease| lease.cases.get(ended.case as usize).copied());
            let failed = ended.outcome.is_failure();
            let differs = number.filter(|&number| run.differs(ended.lease, number, failed));
            run.append(Body::Evidence(l::Evidence {
                lease: ended.lease,
                generation: ended.generation,
                case: ended.case,
                outcome: ended.outcome.to_ledger() as i32,
                reason: reason.to_owned(),
                differs: differs.is_some(),
            }));
            if let Some(number) = differs {
                run.note_difference(ended.lease, number, ended.outcome.name());
            }
        };
        let on_record = self.record.lease(ended.lease);
        let twice = on_record.is_some_and(|lease| {
            let copied = lease.copied.is_some() || lease.was_cancelled();
            let number = lease.cases.get(ended.case as usize);
            let before = &self.units[lease.unit as usize].copied;
            copied
                || self.record.copy_of(ended.lease).is_some()
                || number.is_some_and(|number| before.contains(number))
        });
        let both = twice && is_planted(Fault::BothCount);
        let let_through = on_record.is_some() && is_planted(Fault::StaleResult) || both;
        if self.live_work(shard, ended.lease).is_none() && !let_through {
            return stale(self, "the lease was not live");
        }
        let lease = self
            .record
            .lease(ended.lease)
            .expect("a live lease is on record");
        let Some(&number) = lease.cases.get(ended.case as usize) else {
            return stale(self, "the case was not declared");
        };
        let case = &self.record.units[lease.unit as usize].cases[number as usize];
        let decided = case.verdict().is_some() && !is_planted(Fault::SecondVerdict) && !both;
        if decided || !self.record.may_decide(ended.lease, number) && !let_through {
            if twice {
                // It goes on to its next one all the same.
                let unit = lease.unit;
                self.note_case_ended(shard, unit, ended.case, at, ended.setup);
                self.shards[shard as usize].long_case = None;
            }
            return stale(self, "the case was somebody else's or had a verdict");
        }
        let text = ended.text.map(|text| *text).unwrap_or_default();
        self.attempt(
            shard,
            ended.lease,
            number,
            ended.outcome,
            Times {
                started,
                ended: at,
                duration: ended.duration,
                setup: ended.setup,
            },
            ended.ordinal,
            text,
        );
        let unit = self.record.lease(ended.lease).map_or(0, |lease| lease.unit);
        self.note_case_ended(shard, unit, ended.case, at, ended.setup);
        self.shards[shard as usize].long_case = None;
        self.stop_at_max_fail(now);
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn attempt(
        &mut self,
        shard: u32,
        lease: u64,
        number: u32,
        outcome: Outcome,
        times: Times,
        ordinal: u32,
        text: CaseText,
    ) {
        let reference = self.keep_text(&text);
        let unit = self
            .record
            .lease(lease)
            .expect("attempts are made under a lease on record")
            .unit;
        let incarnation = self.record.shards[shard as usize]
            .processes
            .last()
            .map_or(0, |p| p.started.incarnation);
        self.append(Body::Attempt(l::Attempt {
            lease,
            case: number,
            outcome: outcome.to_ledger() as i32,
            started_us: times.started.0,
            ended_us: times.ended.0,
            duration_us: times.duration.0,
            setup_us: times.setup.0,
            incarnation,
            ordinal,
            message: text.message.clone(),
            text: reference,
            agent_lost: self.agent_lost,
        }));
        let Some(verdict) = self.verdict_of(unit, number) else {
            return;
        };
        self.totals.add(Some(verdict));
        self.copying.changed.insert(unit);
        self.judge_machine(shard, verdict);
        self.settle_pair(times.ended, lease);
        let case = &self.record.units[unit as usize].cases[number as usize];
        let number = self.record.units[unit as usize].suite;
        if verdict.is_failure() {
            let id = self.record.with_suite(number, &case.id);
            self.effects.push(Effect::Show(Show::Failure {
                id,
                outcome,
                shard,
                duration: times.duration,
                text,
            }));
        } else if self.show_output && !text.output.is_empty() {
            let id = self.record.with_suite(number, &case.id);
            let output = text.output;
            self.effects
                .push(Effect::Show(Show::Printed { id, shard, output }));
        }
    }

    pub(super) fn stop_at_max_fail(&mut self, now: Micros) {
        let limit = self.settings.max_fail;
        if limit > 0 && self.totals.failures() >= limit && self.record.stopped.is_none() {
            let reason = format!(
                "stopped after {} (--max-fail {limit})",
                failures(self.totals.failures())
            );
            self.stop(now, &reason, false, Micros::MAX);
        }
    }

    /// Whether every case that a lease owns has its verdict.
    pub(super) fn open_cases(&self, lease: u64) -> Vec<u32> {
        let Some(on_record) = self.record.lease(lease) else {
            return Vec::new();
        };
        let unit = &self.record.units[on_record.unit as usize];
        let distinct: BTreeSet<u32> = on_record.cases.iter().copied().collect();
        distinct
            .into_iter()
            .filter(|&number| {
                let case = &unit.cases[number as usize];
                case.verdict().is_none() && case.is_owned_by(lease)
            })
            .collect()
    }

    pub(super) fn verdict_of(&self, unit: u32, case: u32) -> Option<Verdict> {
        self.record.units[unit as usize].cases[case as usize].verdict()
    }
}

/// On the run's clock.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub started: Micros,
    pub ended: Micros,
    pub duration: Micros,
    pub setup: Micros,
}

pub(super) fn failures(count: u32) -> String {
    if count == 1 {
        "1 failure".to_owned()
    } else {
        format!("{count} failures")
    }
}

impl From<AgentJoined> for Event {
    fn from(joined: AgentJoined) -> Event {
        Event::AgentJoined(joined)
    }
}
