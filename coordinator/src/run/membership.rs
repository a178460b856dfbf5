//! Who serves the run: slots that come, agents that are cut off and come back, slots that are wanted elsewhere, machines that are
//! set aside.

use super::{
    AgentBack, AgentId, AgentJoined, AgentState, Awaited, Command, Effect, Level, Micros, Phase,
    Run, ShardState, SuiteHistory,
};
use crate::record::Verdict;
use evenkeel_proto::ledger as l;
use l::entry::Body;
use std::collections::BTreeMap;

/// Slots that no agent has, from this one on: asked to close one, an agent says that it is closed, behind all that it has told
/// before.
pub(super) const FENCES: u32 = 1 << 31;
/// So many failures on an agent on which nothing has passed yet are its own, where elsewhere tests pass.
const SUSPICIOUS: u32 = 10;

impl AgentState {
    pub(super) fn new(id: AgentId, opening: u64, sequence: u64, offset: i64) -> AgentState {
        AgentState {
            id,
            connected: true,
            gone: false,
            opening,
            sequence,
            offset,
            unacknowledged: None,
            fence: 0,
            fenced: false,
            failures: 0,
            passed: false,
            set_aside: false,
        }
    }
}

impl Run {
    pub(super) fn agent_joined(&mut self, now: Micros, joined: AgentJoined) {
        let id = joined.agent;
        if self.is_closed() {
            self.effects.push(Effect::Send {
                agent: id,
                command: Command::Close { abort: false },
            });
            return;
        }
        if self.aborted {
            // Agents have been told that it is over: nothing is begun any more.
            for slot in joined.slots {
                self.freed.push(Effect::Free {
                    agent: id,
                    slot,
                    unfit: false,
                });
            }
            return;
        }
        let lonely = self.without_agents.take();
        let known = self.by_id.get(&id).copied();
        let known = known.filter(|&agent| !self.agents[agent as usize].gone);
        let agent = known.unwrap_or(self.agents.len() as u32);
        if known.is_none() {
            let offset = now.0 as i64 - joined.clock.0 as i64;
            let opening = u64::from(self.record.term) << 32 | u64::from(agent + 1);
            let mut state = AgentState::new(id, opening, 0, offset);
            // It is judged by what it did before it was lost.
            let mut before = self.agents.iter().zip(&self.record.agents).rev();
            if let Some((before, _)) =
                before.find(|(_, on_record)| on_record.incarnation == joined.incarnation)
            {
                state.failures = before.failures;
                (state.passed, state.set_aside) = (before.passed, before.set_aside);
            }
            self.agents.push(state);
            self.by_id.insert(id, agent);
            self.append(Body::AgentJoined(l::AgentJoined {
                agent,
                name: joined.name,
                incarnation: joined.incarnation,
                environment_class: joined.environment_class,
            }));
        }
        let incarnation = self.record.agents[agent as usize].incarnation.clone();
        self.lose_others(now, agent, &incarnation);
        let mut slots = joined.slots;
        self.seated.extend(slots.iter().map(|slot| (agent, *slot)));
        if self.agents[agent as usize].set_aside {
            // Whoever gave them did not know yet.
            for slot in slots {
                self.give_back(agent, slot);
            }
            self.without_agents = lonely;
            return;
        }
        if self.settings.script.is_some() {
            slots.truncate(1);
        }
        let (later, slots) = slots.into_iter().partition(|slot| {
            let before = self.by_slot.get(&(agent, *slot));
            self.agents[agent as usize].fenced
                || before.is_some_and(|&shard| !self.shards[shard as usize].gone)
        });
        let later: Vec<u32> = later;
        let later = later.into_iter().map(|slot| (agent, slot));
        self.rejoining.extend(later);
        self.open_shards(agent, slots);
    }

    /// Slots of an agent become shards of the run.
    fn open_shards(&mut self, agent: u32, slots: Vec<u32>) {
        let first = self.shards.len() as u32;
        for slot in slots {
            let shard = self.shards.len() as u32;
            self.append(Body::ShardOpened(l::ShardOpened { shard, agent, slot }));
            self.by_slot.insert((agent, slot), shard);
            self.shards.push(ShardState::default());
            self.dispatcher.expect_on(agent, shard, 0);
            self.script_position.push((0, 0));
        }
        let shards = first..self.shards.len() as u32;
        if self.suites.len() > 1 && self.history.is_none() {
            self.unopened.extend(shards);
        } else {
            self.open_slots(shards.collect());
        }
    }

    /// Has agents start these slots, each with the kind of process that is going to be needed.
    pub(super) fn open_slots(&mut self, shards: Vec<u32>) {
        let mut by_agent: BTreeMap<u32, Vec<(u32, u32, u32)>> = BTreeMap::new();
        for shard in shards {
            if self.shards[shard as usize].gone {
                continue;
            }
            let kind = self.first_kind(shard);
            self.shards[shard as usize].kind = kind;
            self.dispatcher.turn(shard, kind);
            let on_record = &self.record.shards[shard as usize];
            let own = by_agent.entry(on_record.agent).or_default();
            own.push((on_record.slot, shard, kind));
        }
        let slots = self.serving();
        let concluding = self.is_concluding();
        for (agent, shards) in by_agent {
            let opened: Vec<(u32, u32)> = shards
                .iter()
                .map(|&(slot, shard, _)| (slot, shard))
                .collect();
            let command = Command::Open {
                opening: self.agents[agent as usize].opening,
                slots,
                shards,
                max_fail: Some(self.settings.max_fail).filter(|&limit| limit > 0),
            };
            self.send_to_agent(agent, command);
            // One that comes when nothing is left to run may still have to conclude the run as a whole.
            for (slot, shard) in opened.into_iter().filter(|_| concluding) {
                self.shards[shard as usize].concluding = true;
                self.send_to_agent(agent, Command::Conclude { slot });
            }
        }
    }

    pub(super) fn send_to_agent(&mut self, agent: u32, command: Command) {
        let AgentState { id, connected, .. } = self.agents[agent as usize];
        if connected {
            self.effects.push(Effect::Send { agent: id, command });
        }
    }

    /// Each suite needs somebody who lists it. Then slots go where the history knows of most for each of them.
    fn first_kind(&self, shard: u32) -> u32 {
        let suites = self.suites.len() as u32;
        if let Some(process) = self.script_start(shard) {
            return process;
        }
        if shard < suites {
            return shard;
        }
        let known = self.history.as_ref().map_or(&[][..], |known| &known.suites);
        let work: Vec<Micros> = known.iter().map(SuiteHistory::work).collect();
        if work.iter().all(|work| *work == Micros::ZERO) {
            return shard % suites;
        }
        let share = |suite: u32| {
            let before = self.shards[..shard as usize].iter();
            let have = before
                .filter(|shard| shard.kind == suite && !shard.gone)
                .count() as u64;
            let work = work.get(suite as usize).copied().unwrap_or_default();
            (work.0 / have.max(1), std::cmp::Reverse(suite))
        };
        (0..suites).max_by_key(|&suite| share(suite)).unwrap_or(0)
    }

    /// An agent's slots that the run still has.
    fn shards_of(&self, agent: u32) -> Vec<u32> {
        let own = (0..).zip(&self.record.shards);
        own.filter(|(shard, on_record)| {
            on_record.agent == agent && !self.shards[*shard as usize].gone
        })
        .map(|(shard, _)| shard)
        .collect()
    }

    pub(super) fn agent_cut(&mut self, id: AgentId) {
        if let Some(&agent) = self.by_id.get(&id) {
            self.agents[agent as usize].connected = false;
        }
    }

    /// An agent is here again: it is told what of what it holds stands, and once more what it may not have heard.
    pub(super) fn agent_back(&mut self, now: Micros, back: AgentBack) {
        let agent = (back.opening as u32).wrapping_sub(1);
        let known = self.record.agents.get(agent as usize).filter(|on_record| {
            on_record.incarnation == back.incarnation
                && self.agents[agent as usize].opening == back.opening
        });
        let stands = known.is_some() && !self.agents[agent as usize].gone && !self.is_closed();
        if !stands {
            let own = known.map_or(u32::MAX, |_| agent);
            self.lose_others(now, own, &back.incarnation);
            if own == agent {
                // What it did under leases that it has lost is evidence.
                self.seated.retain(|(holder, _)| *holder != agent);
                let state = &mut self.agents[agent as usize];
                state.id = back.agent;
                let (sequence, slots) = (state.sequence, Vec::new());
                self.effects.push(Effect::Send {
                    agent: back.agent,
                    command: Command::Resume { sequence, slots },
                });
            }
            self.effects.push(Effect::Send {
                agent: back.agent,
                command: Command::Close { abort: true },
            });
            for slot in back.slots {
                self.freed.push(Effect::Free {
                    agent: back.agent,
                    slot,
                    unfit: false,
                });
            }
            return;
        }
        let state = &mut self.agents[agent as usize];
        self.by_id.remove(&state.id);
        state.id = back.agent;
        state.connected = true;
        state.offset = now.0 as i64 - back.clock.0 as i64;
        let sequence = state.sequence;
        self.by_id.insert(back.agent, agent);
        if !self.agents[agent as usize].set_aside {
            self.without_agents = None;
        }
        self.lose_others(now, agent, &back.incarnation);
        // Whoever took the agent in counts as the run's what it has, and nothing else.
        self.seated.retain(|(holder, _)| *holder != agent);
        self.rejoining.retain(|(holder, _)| *holder != agent);
        let seated = back.slots.iter().map(|slot| (agent, *slot));
        self.seated.extend(seated);
        let (own, missing): (Vec<u32>, Vec<u32>) =
            self.shards_of(agent).into_iter().partition(|&shard| {
                let slot = self.record.shards[shard as usize].slot;
                back.slots.contains(&slot)
            });
        let standing = |&shard: &u32| {
            let slot = self.record.shards[shard as usize].slot;
            let leases = self.shards[shard as usize].leases.iter();
            (slot, leases.map(|&(lease, _)| lease).collect())
        };
        let slots = own.iter().map(standing).collect();
        self.send_to_agent(agent, Command::Resume { sequence, slots });
        // It keeps what is not durable yet until it hears that it is.
        let id = self.agents[agent as usize].id;
        self.effects.push(Effect::Ack {
            agent: id,
            sequence,
        });
        let slot_of = |shard: &u32| self.record.shards[*shard as usize].slot;
        let ours: Vec<u32> = own.iter().map(slot_of).collect();
        for slot in back.slots.into_iter().filter(|slot| !ours.contains(slot)) {
            let abort = true;
            self.send_to_agent(agent, Command::CloseSlot { slot, abort });
        }
        for shard in own {
            self.say_again(shard);
        }
        // Either the word that it is the run's got lost, or the slot was closed and what it did is still to be told.
        for &shard in &missing {
            let state = &mut self.shards[shard as usize];
            (state.leaving, state.missing) = (true, true);
            self.dispatcher.close(shard);
            self.miss_listing(shard);
        }
        // Until it has told everything, what it says of a slot may be of one that is not on record.
        let backs = self.agents[agent as usize].fence.wrapping_add(1) & 0xffff;
        let slot = FENCES | (self.record.term & 0x7fff) << 16 | backs;
        let state = &mut self.agents[agent as usize];
        (state.fence, state.fenced) = (slot, true);
        let abort = false;
        self.send_to_agent(agent, Command::CloseSlot { slot, abort });
        if self.aborted {
            self.send_to_agent(agent, Command::Close { abort: true });
        }
    }

    /// Tells a slot what it was told before, as far as it still holds. It takes no harm from hearing it twice.
    fn say_again(&mut self, shard: u32) {
        let slot = self.record.shards[shard as usize].slot;
        let leases: Vec<u64> = self.shards[shard as usize]
            .leases
            .iter()
            .map(|(lease, _)| *lease)
            .collect();
        for lease in leases {
            let on_record = self.record.lease(lease).expect("a live lease is on record");
            let (generation, from) = (on_record.generation, on_record.revoked);
            if let Some(from) = from {
                let command = Command::Revoke {
                    slot,
                    lease,
                    generation,
                    from,
                };
                self.send_to_shard(shard, command);
            }
        }
        let state = &self.shards[shard as usize];
        let (ready, told_idle, leaving) = (state.ready, state.told_idle, state.leaving);
        let (ends, concluding) = (state.ends, state.concluding);
        for suite in 0..self.suites.len() as u32 {
            let state = &self.suites[suite as usize];
            let ask = state.ask;
            if state.lister == Some(shard) && !state.listed {
                let kind = suite;
                self.send_to_shard(shard, Command::List { slot, kind, ask });
            }
        }
        if !ready && !leaving && !self.is_concluding() {
            self.send_to_shard(shard, Command::Recycle { slot });
        }
        if told_idle {
            self.send_to_shard(shard, Command::Idle { slot, ends });
        }
        if leaving {
            let abort = false;
            self.send_to_shard(shard, Command::CloseSlot { slot, abort });
        }
        if concluding {
            match self.phase {
                Phase::Finishing { suite, ask, .. } => self.send_finish(shard, suite, ask),
                Phase::Concluding => self.send_to_shard(shard, Command::Conclude { slot }),
                Phase::Listing | Phase::Running | Phase::Closed => {}
            }
        }
    }

    pub(super) fn agent_gone(&mut self, now: Micros, id: AgentId, reason: &str, lost: bool) {
        // It may be on record twice, where a crash came between its losing the run and its being lost.
        let same: Vec<u32> = (0..)
            .zip(&self.agents)
            .filter(|(_, state)| state.id == id && !state.gone)
            .map(|(agent, _)| agent)
            .collect();
        for agent in same {
            self.lose_agent(now, agent, reason, lost);
        }
    }

    /// An agent has the run under one opening: what the same incarnation had under another, which it does not know of, is lost.
    fn lose_others(&mut self, now: Micros, agent: u32, incarnation: &str) {
        let others: Vec<u32> = (0..)
            .zip(&self.record.agents)
            .filter(|(other, on_record)| *other != agent && on_record.incarnation == incarnation)
            .map(|(other, _)| other)
            .collect();
        for other in others {
            self.lose_agent(now, other, "it came back without what it had", true);
        }
    }

    fn lose_agent(&mut self, now: Micros, agent: u32, reason: &str, lost: bool) {
        let state = &mut self.agents[agent as usize];
        state.connected = false;
        if std::mem::replace(&mut state.gone, true) || self.is_closed() {
            return;
        }
        self.append(Body::AgentGone(l::AgentGone {
            agent,
            reason: reason.to_owned(),
            lost,
        }));
        self.seated.retain(|(holder, _)| *holder != agent);
        self.rejoining.retain(|(holder, _)| *holder != agent);
        let name = self.record.agents[agent as usize].name.clone();
        let own = self.shards_of(agent);
        let served = !own.is_empty();
        for shard in own {
            self.shard_gone(now, shard, lost);
        }
        if lost && served {
            self.note(
                Level::Warning,
                &format!("agent {name} is lost ({reason}); what it held goes elsewhere"),
            );
        }
        self.look_for_agents(now);
    }

    /// A run that nobody is left for waits for somebody, for a while.
    fn look_for_agents(&mut self, now: Micros) {
        if self
            .agents
            .iter()
            .any(|agent| !agent.gone && !agent.set_aside)
        {
            return;
        }
        if self.settings.closed_shop || self.record.stopped.is_some() {
            self.give_up("no agent is left");
        } else {
            self.without_agents = Some(now);
            self.note(
                Level::Warning,
                "no agent is left; waiting up to 60 s for another",
            );
        }
    }

    /// These slots are wanted elsewhere: what has not started is given back, and the slot is closed when what runs has ended.
    pub(super) fn release(&mut self, now: Micros, id: AgentId, slots: &[u32]) {
        if self.is_closed() || self.is_concluding() {
            return;
        }
        let Some(&agent) = self.by_id.get(&id) else {
            return;
        };
        for slot in slots {
            if let Some(&shard) = self.by_slot.get(&(agent, *slot)) {
                self.leave(now, shard);
            }
        }
    }

    fn leave(&mut self, now: Micros, shard: u32) {
        if self.unopened.contains(&shard) {
            // Its agent has not heard of it.
            self.unopened.retain(|unopened| *unopened != shard);
            self.shards[shard as usize].leaving = true;
            self.slot_closed(now, shard);
            return;
        }
        let state = &mut self.shards[shard as usize];
        if state.gone || std::mem::replace(&mut state.leaving, true) {
            return;
        }
        let held: Vec<u64> = state.leases.iter().map(|(lease, _)| *lease).collect();
        self.dispatcher.close(shard);
        self.miss_listing(shard);
        for lease in held {
            self.revoke(shard, lease, 0);
        }
        let slot = self.record.shards[shard as usize].slot;
        let abort = false;
        self.send_to_shard(shard, Command::CloseSlot { slot, abort });
    }

    /// An agent that came back has told all that it had to tell: slots that it came without are none.
    pub(super) fn has_told_all(&mut self, now: Micros, agent: u32, fence: u32) {
        if self.agents[agent as usize].fence != fence {
            return;
        }
        for shard in self.shards_of(agent) {
            if self.shards[shard as usize].missing {
                self.slot_closed(now, shard);
            }
        }
        self.await_stored(now, Awaited::Return { agent, fence });
    }

    /// What an agent that came back had to tell is durable: what it was given meanwhile may be given again. Sooner, a crash could
    /// have a slot opened twice.
    pub(super) fn has_returned(&mut self, agent: u32, fence: u32) {
        let state = &mut self.agents[agent as usize];
        if state.fence != fence || !std::mem::take(&mut state.fenced) {
            return;
        }
        let rejoining: Vec<u32> = (self.rejoining.iter())
            .filter(|(holder, _)| *holder == agent)
            .map(|(_, slot)| *slot)
            .collect();
        for slot in rejoining {
            let before = self.by_slot.get(&(agent, slot));
            if before.is_none_or(|&shard| self.shards[shard as usize].gone) {
                self.give_back(agent, slot);
            }
        }
    }

    /// The agent has closed a slot.
    pub(super) fn slot_closed(&mut self, now: Micros, shard: u32) {
        // One that was asked twice says so twice: the second time it means who had the slot before.
        let state = &self.shards[shard as usize];
        if !(state.gone || state.leaving || state.heard || self.aborted) {
            return;
        }
        if !self.shards[shard as usize].gone {
            self.shard_gone(now, shard, false);
        }
        let on_record = &self.record.shards[shard as usize];
        let (agent, slot) = (on_record.agent, on_record.slot);
        self.give_back(agent, slot);
    }

    /// A slot of an agent is not the run's any more: one that a shard had, or one of which only the agent knew.
    pub(super) fn give_back(&mut self, agent: u32, slot: u32) {
        // What was given too early is given again when the end of what was there before is durable.
        if self.rejoining.contains(&(agent, slot)) && self.agents[agent as usize].fenced {
            return;
        }
        self.rejoining.remove(&(agent, slot));
        if self.seated.remove(&(agent, slot)) {
            let AgentState { id, set_aside, .. } = self.agents[agent as usize];
            self.freed.push(Effect::Free {
                agent: id,
                slot,
                unfit: set_aside,
            });
        }
    }

    /// So many slots of an agent are wanted elsewhere: those that the run can do without most easily go.
    pub(super) fn spare(&mut self, now: Micros, id: AgentId, count: u32) {
        if self.is_closed() || self.is_concluding() {
            return;
        }
        let Some(&agent) = self.by_id.get(&id) else {
            return;
        };
        let own = self.shards_of(agent).into_iter();
        let serving = own.filter(|&shard| !self.shards[shard as usize].leaving);
        let mut serving: Vec<(bool, Micros, std::cmp::Reverse<u32>)> = serving
            .map(|shard| {
                let free = self.dispatcher.free(shard, now);
                (self.lists(shard), free, std::cmp::Reverse(shard))
            })
            .collect();
        serving.sort_unstable();
        for (_, _, std::cmp::Reverse(shard)) in serving.into_iter().take(count as usize) {
            self.leave(now, shard);
        }
    }

    /// How many slots the run could use now.
    pub fn appetite(&self) -> u32 {
        let serving = self
            .shards
            .iter()
            .filter(|shard| !shard.gone && !shard.leaving);
        match self.phase {
            _ if self.aborted => 0,
            Phase::Listing => u32::MAX,
            Phase::Running if self.over || self.record.stopped.is_some() => serving.count() as u32,
            Phase::Running if !self.is_listed() => u32::MAX,
            Phase::Running => {
                let (busy, idle): (Vec<&ShardState>, Vec<&ShardState>) =
                    serving.partition(|shard| !shard.leases.is_empty());
                let mut shards = 0..self.shards.len() as u32;
                let divides = shards.any(|shard| self.could_give(shard));
                // Those that cannot be set up for everything may not be able to run what waits.
                let unable = idle.iter().filter(|shard| !shard.unable.is_empty());
                let idle = if divides { idle.len() } else { unable.count() };
                (busy.len() + idle + self.dispatcher.waiting()) as u32
            }
            Phase::Concluding | Phase::Finishing { .. } => {
                (serving.count() as u32).max(self.wants_conclusion().into())
            }
            Phase::Closed => 0,
        }
    }

    /// A machine on which everything fails at once, while tests pass elsewhere, gets nothing more before it has failed what others
    /// would have run.
    pub(super) fn judge_machine(&mut self, shard: u32, verdict: Verdict) {
        let agent = self.record.shards[shard as usize].agent;
        let state = &mut self.agents[agent as usize];
        if !verdict.is_failure() {
            state.passed |= verdict == Verdict::Passed;
            return;
        }
        state.failures += 1;
        if state.passed || state.set_aside || state.failures < SUSPICIOUS {
            return;
        }
        let mut others = (0..).zip(&self.agents);
        let others = others.any(|(other, state): (u32, _)| {
            other != agent && state.connected && state.passed && !state.set_aside
        });
        if !others {
            return;
        }
        self.agents[agent as usize].set_aside = true;
        let name = &self.record.agents[agent as usize].name;
        let text = format!(
            "agent {name} is set aside: its first {SUSPICIOUS} tests all failed, and elsewhere tests pass"
        );
        self.note(Level::Error, &text);
        let now = self.record.latest;
        for shard in self.shards_of(agent) {
            self.leave(now, shard);
        }
    }
}
