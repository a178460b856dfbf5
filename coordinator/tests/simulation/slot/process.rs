//! A slot's process: how it comes up, what it lists, runs and says, and how it ends.

use super::{Item, Process, Running, cases_of};
use crate::model::Behaviour;
use crate::world::{Happening, World};
use evenkeel_coordinator::record::Outcome;
use evenkeel_coordinator::run::{
    CaseEnded, EndCause, FactBody, Farewell, InFlight, LeaseCommand, ProcessEnded, ProcessStarted,
    Refusal, RefusedReason, RunningCase,
};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;
use std::collections::VecDeque;

impl World {
    pub fn process_up(&mut self, machine: usize, uid: u64, token: u64) {
        let took = Micros(self.random.u64(1_000..80_000));
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        if slot.process != Process::Starting || slot.token != token {
            return;
        }
        let (kind, number, concluded) = (slot.kind, slot.number, slot.concluded);
        let suite = self.model.suite_of_kind(kind);
        if self.unable.contains(&(machine, number, suite)) && !concluded {
            self.refuse(machine, uid, kind, suite);
            return;
        }
        let closing = self.model.closing;
        let finish = closing && self.model.finish;
        let bundles = self.model.bundles[suite as usize];
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.process = Process::Up;
        slot.ordinal = 0;
        slot.idle = false;
        let started = ProcessStarted {
            kind,
            took,
            incarnation: slot.incarnation,
            pid: 1,
            closing,
            finish,
            bundles,
            undivided: bundles,
            ..ProcessStarted::default()
        };
        self.say(machine, uid, FactBody::ProcessStarted(started));
        self.advance(machine, uid);
    }

    pub(super) fn refuse(&mut self, machine: usize, uid: u64, kind: u32, suite: u32) {
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.process = Process::None;
        slot.refused.push(suite);
        slot.queue.clear();
        slot.ends += 1;
        let refusal = Refusal {
            kind,
            reason: RefusedReason::Setup,
            message: "the setup failed".into(),
            hint: String::new(),
            detail: String::new(),
        };
        self.say(machine, uid, FactBody::ProcessRefused(refusal));
    }

    /// In one piece or in several, some of them late.
    pub(super) fn list(&mut self, machine: usize, uid: u64, kind: u32, ask: u64) {
        let suite = self.model.suite_of_kind(kind);
        let own = self.model.units.iter().filter(|unit| unit.suite == suite);
        let mut units: VecDeque<l::Unit> = own
            .map(|unit| l::Unit {
                name: unit.name.clone(),
                size: 10,
                ..l::Unit::default()
            })
            .collect();
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        let incarnation = slot.incarnation;
        let mut at = self.now;
        loop {
            let size = self.random.usize(0..=units.len());
            let units_here: Vec<l::Unit> = units.drain(..size).collect();
            let more = !units.is_empty();
            let listed = FactBody::Listed {
                kind,
                ask,
                units: units_here,
                more,
            };
            self.schedule(
                at,
                Happening::Lists(machine, uid, incarnation, Box::new(listed)),
            );
            at += self.random.u64(0..200_000);
            if !more {
                break;
            }
        }
    }

    /// A part of a listing comes of the process that was asked for it.
    pub fn lists(&mut self, machine: usize, uid: u64, incarnation: u32, listed: FactBody) {
        let slot = self.slot(machine, uid);
        if slot.is_some_and(|slot| slot.process == Process::Up && slot.incarnation == incarnation) {
            self.say(machine, uid, listed);
        }
    }

    pub(super) fn begin(&mut self, machine: usize, uid: u64, lease: LeaseCommand) {
        let suite = self.model.suite_of_kind(lease.kind);
        let unit = self.model.find(suite, &lease.unit);
        self.say(machine, uid, FactBody::UnitBegun { lease: lease.lease });
        let model = &self.model.units[unit];
        let cases = cases_of(&lease, model);
        let declared = cases
            .iter()
            .map(|&case| l::Case {
                id: model.key(case).id,
                group: model.group(case),
                ..l::Case::default()
            })
            .collect();
        let kills_loader = model.kills_loader;
        let token = self.next_number();
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        slot.running = Some(Running {
            lease: lease.lease,
            generation: lease.generation,
            unit,
            cases,
            next: 0,
            waits: false,
            takes: 0,
            fails: false,
            token,
        });
        slot.idle = false;
        if kills_loader {
            self.dies(machine, uid, EndCause::Died);
            return;
        }
        let declared = FactBody::Declared {
            lease: lease.lease,
            cases: declared,
            more: false,
            instead: Vec::new(),
        };
        self.say(machine, uid, declared);
        self.next_case(machine, uid);
    }

    pub(super) fn next_case(&mut self, machine: usize, uid: u64) {
        let token = self.next_number();
        let units = &self.model.units;
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        let Some(running) = slot.running.as_mut() else {
            return;
        };
        let cases = &units[running.unit].cases;
        while let Some(&case) = running.cases.get(running.next)
            && cases[case].0 == Behaviour::Forgotten
        {
            running.next += 1;
        }
        let Some(&case) = running.cases.get(running.next) else {
            let lease = running.lease;
            slot.running = None;
            let closed = FactBody::UnitClosed {
                lease,
                setup: Micros(1),
                waited: Micros::ZERO,
            };
            self.say(machine, uid, closed);
            self.advance(machine, uid);
            return;
        };
        running.token = token;
        let (behaviour, usual) = cases[case];
        let attempt = self.attempts.entry((running.unit, case)).or_default();
        *attempt += 1;
        let duration = behaviour.takes(usual, *attempt);
        running.takes = duration;
        running.fails = behaviour == Behaviour::Fail
            || behaviour == Behaviour::Moody && attempt.is_multiple_of(2);
        self.schedule(
            self.now + duration,
            Happening::CaseEnds(machine, uid, token),
        );
    }

    pub fn case_ends(&mut self, machine: usize, uid: u64, token: u64) {
        let units = &self.model.units;
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        let Some(running) = slot
            .running
            .as_mut()
            .filter(|running| running.token == token)
        else {
            return;
        };
        let case = running.cases[running.next];
        match units[running.unit].cases[case].0 {
            Behaviour::Crash => return self.dies(machine, uid, EndCause::Died),
            Behaviour::KilledAlways => {
                return self.dies(machine, uid, EndCause::KilledFromOutside);
            }
            Behaviour::KilledOnce if self.attempts[&(running.unit, case)] == 1 => {
                return self.dies(machine, uid, EndCause::KilledFromOutside);
            }
            Behaviour::Poison => return self.die(machine),
            _ => {}
        }
        let last = running.next + 1 == running.cases.len();
        if last && !slot.idle && !slot.closing && slot.queue.is_empty() {
            running.waits = true;
            let lease = running.lease;
            self.say(machine, uid, FactBody::Waiting { lease });
            return;
        }
        self.finish_case(machine, uid);
    }

    pub(super) fn finish_case(&mut self, machine: usize, uid: u64) {
        let (units, clock) = (&self.model.units, self.machines[machine].clock);
        let (sick, now) = (self.machines[machine].sick, self.now);
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        let Some(running) = slot.running.as_mut() else {
            return;
        };
        let case = running.cases[running.next];
        let (behaviour, _) = units[running.unit].cases[case];
        let duration = running.takes;
        let outcome = match behaviour {
            _ if running.fails => Outcome::Failed,
            Behaviour::Pass | Behaviour::KilledOnce | Behaviour::Hangs | Behaviour::Moody
                if sick =>
            {
                Outcome::Failed
            }
            Behaviour::Pass | Behaviour::KilledOnce | Behaviour::Hangs | Behaviour::Moody => {
                Outcome::Passed
            }
            Behaviour::Fail => Outcome::Failed,
            Behaviour::Skip => Outcome::Skipped,
            Behaviour::Crash
            | Behaviour::KilledAlways
            | Behaviour::Forgotten
            | Behaviour::Poison => unreachable!("it does not end by itself"),
        };
        let ended = CaseEnded {
            lease: running.lease,
            generation: running.generation,
            case: running.next as u32,
            outcome,
            started: Micros((now + clock).saturating_sub(duration)),
            duration: Micros(duration),
            setup: Micros::ZERO,
            ordinal: slot.ordinal,
            text: None,
        };
        slot.ordinal += 1;
        running.next += 1;
        running.waits = false;
        let again = CaseEnded {
            outcome: Outcome::Failed,
            ..ended.clone()
        };
        self.say(machine, uid, FactBody::CaseEnded(ended));
        if self.mix.lies && self.random.u32(0..4) == 0 {
            self.say(machine, uid, FactBody::CaseEnded(again));
        }
        self.next_case(machine, uid);
    }

    /// An end that nobody planned, or that the agent makes.
    pub fn dies(&mut self, machine: usize, uid: u64, cause: EndCause) {
        let (units, clock) = (&self.model.units, self.machines[machine].clock);
        let now = self.now + clock;
        let Some(hold) = self.machines[machine].hold.as_mut() else {
            return;
        };
        let Some(slot) = hold.slots.iter_mut().find(|slot| slot.uid == uid) else {
            return;
        };
        if slot.process == Process::None {
            return;
        }
        let in_flight = slot.running.take().map(|running| {
            let loading = units[running.unit].kills_loader;
            let works = !loading && running.next < running.cases.len();
            InFlight {
                lease: running.lease,
                case: works.then_some(RunningCase {
                    index: running.next as u32,
                    started: Micros(now.saturating_sub(5)),
                    ordinal: slot.ordinal,
                }),
                loading,
            }
        });
        slot.queue.clear();
        slot.ends += 1;
        let ended = self.process_ends(machine, uid, cause, in_flight);
        self.say(machine, uid, FactBody::ProcessEnded(ended));
        self.owes_concluded(machine, uid);
        self.end_if_closing(machine, uid);
    }

    pub(super) fn process_ends(
        &mut self,
        machine: usize,
        uid: u64,
        cause: EndCause,
        in_flight: Option<InFlight>,
    ) -> ProcessEnded {
        let slot = self.slot(machine, uid).expect("its process ends");
        let ended = ProcessEnded {
            kind: slot.kind,
            incarnation: slot.incarnation,
            cause,
            in_flight,
            explanation: "it died".into(),
            stderr_tail: String::new(),
            farewell: None,
        };
        slot.incarnation += 1;
        slot.process = Process::None;
        slot.idle = false;
        ended
    }

    /// A planned end. A process that ran something has something for the one that concludes the run.
    pub(super) fn ends_in_order(&mut self, machine: usize, uid: u64) {
        let mut ended = self.process_ends(machine, uid, EndCause::Finished, None);
        let suite = self.model.suite_of_kind(ended.kind);
        let name = self.machines[machine].incarnation();
        let Some(slot) = self.slot(machine, uid) else {
            return;
        };
        let carry = format!("{name}/{uid}/{}", slot.incarnation);
        let ran = slot.ordinal > 0;
        let starts = !slot.concluded
            && (!slot.closing || slot.queue.iter().any(|item| matches!(item, Item::Lease(_))));
        if ran {
            self.carried.push((suite, carry.clone()));
            ended.farewell = Some(Farewell {
                carry,
                ..Farewell::default()
            });
        }
        self.say(machine, uid, FactBody::ProcessEnded(ended));
        if starts {
            self.start(machine, uid);
        }
        self.owes_concluded(machine, uid);
        self.end_if_closing(machine, uid);
    }

    /// The run is concluded as a whole, with what processes left for that.
    pub(super) fn finished_with(&mut self, kind: u32, carried: Vec<String>) {
        let suite = self.model.suite_of_kind(kind);
        let before = self.finished.insert(suite, carried);
        assert!(
            before.is_none() || self.life > 1,
            "the run is finished twice"
        );
    }
}
