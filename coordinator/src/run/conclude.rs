//! The end of a run on which the framework has a word to say: processes are brought to their end and heard before the
//! verdict, and one more process concludes what concerns all of them (the coverage of the whole, for example).

use super::{Awaited, Command, EndCause, Level, Micros, Phase, ProcessEnded, Run};
use evenkeel_proto::{ledger as l, suite::Suite};
use l::Warned;
use l::entry::Body;

/// Bytes of what is carried in one message, roughly.
const CARRIED_AT_ONCE: usize = 8 << 20;
/// So many tests are remembered for a warning.
const CASES_OF_A_WARNING: usize = 10;

impl Run {
    pub(super) fn is_concluding(&self) -> bool {
        matches!(self.phase, Phase::Concluding | Phase::Finishing { .. })
    }

    /// Everything has been run. The verdict follows at once, unless the framework wants to be heard.
    pub(super) fn conclude(&mut self, now: Micros) {
        let interrupted = self
            .record
            .stopped
            .as_ref()
            .is_some_and(|stopped| stopped.interrupted);
        // What tears down says so before the verdict if something is wrong.
        let tears_down =
            |suite: &Suite| !(suite.teardown.is_empty() && suite.slot_teardown.is_empty());
        let wanted = self.shards.iter().any(|shard| shard.closing)
            || self.record.opened.suites.iter().any(tears_down);
        if !wanted || interrupted || self.refused.is_some() {
            self.close(now);
            return;
        }
        // A process that is concluded runs nothing more: what it has run must not be forgotten in a crash.
        if !self.settled {
            if !std::mem::replace(&mut self.settling, true) {
                self.await_stored(now, Awaited::Conclusion);
            }
            return;
        }
        self.phase = Phase::Concluding;
        for shard in 0..self.shards.len() as u32 {
            let state = &mut self.shards[shard as usize];
            if !state.gone && !state.leaving {
                state.concluding = true;
                let slot = self.record.shards[shard as usize].slot;
                self.send_to_shard(shard, Command::Conclude { slot });
            }
        }
        self.finish(now);
    }

    /// Once all processes have been heard, one concludes the whole where that is wanted.
    pub(super) fn finish(&mut self, now: Micros) {
        if self.shards.iter().any(|shard| shard.concluding) {
            return;
        }
        let wanted = self
            .suites
            .iter()
            .position(|suite| suite.finish && !suite.finished);
        let Some(suite) = wanted.filter(|_| self.settings.script.is_none()) else {
            self.close(now);
            return;
        };
        let mut shards = (0..).zip(&self.shards);
        let able = shards
            .find(|(shard, state)| !state.gone && !state.leaving && self.is_reachable(*shard));
        let able = able.map(|(shard, _)| shard);
        if able.is_none() && self.may_be_given_a_slot() {
            // Its slots serve other runs, or are cut off. It is hungry for one, and goes on when it has it.
            self.phase = Phase::Concluding;
            return;
        }
        self.suites[suite].finished = true;
        let Some(shard) = able else {
            self.unconcluded = true;
            self.note(
                Level::Error,
                "no slot is left that could conclude the run as a whole",
            );
            self.close(now);
            return;
        };
        let (suite, ask) = (suite as u32, self.next_ask());
        self.phase = Phase::Finishing { shard, suite, ask };
        self.shards[shard as usize].concluding = true;
        self.send_finish(shard, suite, ask);
    }

    /// Whether somebody is there, or is awaited, who has slots that could yet serve the run.
    fn may_be_given_a_slot(&self) -> bool {
        let stopped = self.record.stopped.is_some();
        let mut agents = self.agents.iter();
        let any = agents.any(|agent| !agent.gone && !agent.set_aside);
        !stopped && !self.settings.closed_shop && (any || self.without_agents.is_some())
    }

    /// Whether a slot is wanted that concludes the run as a whole.
    pub(super) fn wants_conclusion(&self) -> bool {
        let mut suites = self.suites.iter();
        self.settings.script.is_none() && suites.any(|suite| suite.finish && !suite.finished)
    }

    /// Numbers what is asked of slots, so that the answer to an ask before a recovery is not taken for another's.
    pub(super) fn next_ask(&mut self) -> u64 {
        self.asks += 1;
        u64::from(self.record.term) << 32 | self.asks
    }

    /// Hands what processes left for it to the one that concludes the run for a suite, in pieces.
    pub(super) fn send_finish(&mut self, shard: u32, suite: u32, ask: u64) {
        let mut chunks: Vec<Vec<(u32, String)>> = vec![Vec::new()];
        let mut size = 0;
        let own = self.record.carried.iter();
        for carried in own.filter(|carried| carried.suite == suite) {
            size += carried.carry.len();
            if size > CARRIED_AT_ONCE {
                chunks.push(Vec::new());
                size = carried.carry.len();
            }
            let chunk = chunks.last_mut().expect("there is one");
            chunk.push((carried.shard, carried.carry.clone()));
        }
        let slot = self.record.shards[shard as usize].slot;
        let last = chunks.len() - 1;
        for (number, carried) in chunks.into_iter().enumerate() {
            let command = Command::Finish {
                slot,
                kind: suite,
                ask,
                carried,
                more: number < last,
            };
            self.send_to_shard(shard, command);
        }
    }

    /// What a process that ended said at its end.
    pub(super) fn take_farewell(&mut self, shard: u32, ended: &ProcessEnded) {
        let suite = self.rules.suite_of(ended.kind).unwrap_or_default();
        let finish = self.suites[suite as usize].finish;
        let awaited = self.shards[shard as usize].concluding;
        let lost = match ended.cause {
            EndCause::Finished | EndCause::Ended => false,
            EndCause::Died
            | EndCause::Deadline
            | EndCause::Protocol
            | EndCause::KilledFromOutside => true,
        };
        if lost && ended.farewell.is_none() && finish {
            // Whoever concludes the run has to know that it has not heard of everything.
            self.carry(shard, suite, "");
        }
        if let Some(farewell) = &ended.farewell {
            if !farewell.carry.is_empty() {
                self.carry(shard, suite, &farewell.carry);
            }
            for (message, detail) in &farewell.failed {
                self.object(shard, message, detail);
            }
            for (title, text) in &farewell.summary {
                self.append(Body::Summarised(l::Summarised {
                    shard,
                    title: title.clone(),
                    text: text.clone(),
                }));
            }
        }
        // What it was doing was somebody else's meanwhile: how that ended is nobody's failure.
        let flight = ended
            .in_flight
            .and_then(|flight| self.record.lease(flight.lease));
        let void = flight.is_some_and(|lease| lease.was_cancelled() || lease.never_loaded());
        if !awaited || void {
            return;
        }
        match ended.cause {
            // One that was not ready yet has nothing to say.
            EndCause::Finished | EndCause::Ended => {}
            EndCause::KilledFromOutside => self.miss_farewell(shard, &ended.explanation),
            EndCause::Died | EndCause::Deadline | EndCause::Protocol => {
                let message = format!(
                    "slot {} failed after its last test: {}",
                    shard + 1,
                    ended.explanation
                );
                self.object(shard, &message, &ended.stderr_tail);
            }
        }
    }

    fn carry(&mut self, shard: u32, suite: u32, carry: &str) {
        self.append(Body::Carried(l::Carried {
            shard,
            suite,
            carry: carry.to_owned(),
        }));
    }

    pub(super) fn object(&mut self, shard: u32, message: &str, detail: &str) {
        let known = &self.record.objections;
        if known.iter().any(|objection| objection.message == message) {
            return;
        }
        self.append(Body::Objected(l::Objected {
            shard,
            message: message.to_owned(),
            detail: detail.to_owned(),
        }));
    }

    /// A process was lost after its last test. Its tests stand; a run that could not be concluded as a whole does not.
    pub(super) fn miss_farewell(&mut self, shard: u32, why: &str) {
        self.unconcluded |= matches!(self.phase, Phase::Finishing { .. });
        let text = format!(
            "slot {} was lost after its last test ({why}): what its framework would have said at its end is not known",
            shard + 1
        );
        self.note(Level::Warning, &text);
    }

    pub(super) fn warned(&mut self, list: Vec<Warned>) {
        for mut warning in list {
            let known = self.record.warnings.iter();
            let named = known
                .filter(|known| known.text == warning.text)
                .map(|known| known.cases.len())
                .sum();
            warning
                .cases
                .truncate(CASES_OF_A_WARNING.saturating_sub(named));
            self.append(Body::Warned(warning));
        }
    }
}
