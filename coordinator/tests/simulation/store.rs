//! The store of the run's rows, and the shell around the state machine that waits for it: what is durable, what waits to be, and
//! what a coordinator that is killed leaves behind.

use super::check::Ledger;
use super::network::Down;
use super::world::{Happening, World};
use evenkeel_coordinator::record::Record;
use evenkeel_coordinator::run::{AgentId, Command, Effect, Event, Run};
use evenkeel_proto::ledger as l;
use prost::Message;
use std::collections::VecDeque;

enum Gated {
    Ack { agent: AgentId, sequence: u64 },
    Stored,
    Free { agent: u64, slot: u32, unfit: bool },
}

#[derive(Default)]
pub struct Store {
    /// As they were written. Those up to `durable` survive a crash.
    pub rows: Vec<Vec<u8>>,
    pub durable: usize,
    /// An append is under way, of the rows up to here.
    writing: Option<usize>,
    gated: VecDeque<(usize, Gated)>,
    /// The verdict is there: what is left goes into one transaction.
    closing: bool,
    /// Bytes of outputs.
    texts: u64,
}

impl World {
    pub fn perform(&mut self, effects: Vec<Effect>) {
        let mut leased = Vec::new();
        for effect in effects {
            match effect {
                Effect::Append(batch) => self.append(batch),
                Effect::StoreText { offset, bytes } => {
                    assert_eq!(offset, self.store.texts, "texts lie one behind the other");
                    self.store.texts += bytes.len() as u64;
                }
                Effect::CallWhenStored => {
                    let after = self.store.rows.len();
                    self.store.gated.push_back((after, Gated::Stored));
                }
                Effect::Ack { agent, sequence } => {
                    let after = match self.planted {
                        Some(super::planted::Fault::AcknowledgedBeforeStored) => 0,
                        _ => self.store.rows.len(),
                    };
                    let ack = (after, Gated::Ack { agent, sequence });
                    if after == 0 {
                        self.store.gated.push_front(ack);
                    } else {
                        self.store.gated.push_back(ack);
                    }
                }
                Effect::Send { agent, command } => {
                    if let Command::Lease(lease) = &command {
                        leased.push((agent, lease.clone()));
                    }
                    self.may_be_ambushed(&command);
                    if let Some(&session) = self.outboxes.get(&agent) {
                        let command = self.perturb_command(command);
                        self.send_down(session, Down::Command(command));
                    }
                }
                Effect::Close => {
                    self.check_quiet_slots();
                    self.store.closing = true;
                }
                // Nobody here tells what cannot be.
                Effect::Cut { agent, reason } => {
                    panic!("agent {} is cut off: {reason}", agent.0);
                }
                Effect::Free { agent, slot, unfit } => {
                    let after = self.store.rows.len();
                    let agent = agent.0;
                    let free = Gated::Free { agent, slot, unfit };
                    self.store.gated.push_back((after, free));
                }
                Effect::Show(_) => {}
            }
        }
        for (agent, lease) in leased {
            self.check_lease(agent, &lease);
        }
        self.release();
        self.write();
    }

    fn append(&mut self, batch: l::Batch) {
        let batch = self.perturb_batch(batch);
        if self.talk {
            for entry in &batch.entries {
                eprintln!("{} == {:?}", self.now, entry.body);
            }
        }
        self.ledger.apply(&batch, Some(&self.model));
        self.budget.check(&self.ledger.record, &batch);
        self.store.rows.push(batch.encode_to_vec());
        if self.ambushes > 0 && self.life > 0 && self.random.u32(0..50) == 0 {
            self.ambushes -= 1;
            self.schedule(self.now, Happening::Crash(self.life));
        }
    }

    /// The worst moments to be killed at are those at which something irrevocable has been said.
    fn may_be_ambushed(&mut self, command: &Command) {
        let worst = matches!(
            command,
            Command::Conclude { .. } | Command::Finish { .. } | Command::CloseSlot { .. }
        );
        if worst && self.ambushes > 0 && self.random.u32(0..4) == 0 {
            self.ambushes -= 1;
            let late = if self.random.bool() { 5_000 } else { 100_000 };
            let at = self.now + self.random.u64(0..late);
            self.schedule(at, Happening::Crash(self.life));
        }
    }

    /// Starts the next append, if there is something to append and none is under way.
    pub fn write(&mut self) {
        let store = &mut self.store;
        let more = store.durable < store.rows.len();
        if store.writing.is_some() || !(more || store.closing) {
            return;
        }
        store.writing = Some(store.rows.len());
        let slow = self.mix.slow_store || self.random.u32(0..10) == 0;
        let at = self.now
            + self
                .random
                .u64(if slow { 1_000..250_000 } else { 100..15_000 });
        self.schedule(at, Happening::Written(self.life));
    }

    pub fn written(&mut self) {
        let Some(upto) = self.store.writing.take() else {
            return;
        };
        self.make_durable(upto);
        if self.store.closing && self.durable.record.closed.is_some() {
            self.ended = true;
            return;
        }
        self.release();
        self.write();
    }

    fn make_durable(&mut self, upto: usize) {
        for row in self.store.durable..upto {
            let batch = l::Batch::decode(&*self.store.rows[row]).expect("a row can be read");
            self.durable.apply(&batch, None);
        }
        self.store.durable = self.store.durable.max(upto);
    }

    /// What waited for rows that are durable goes out.
    fn release(&mut self) {
        while let Some((after, _)) = self.store.gated.front()
            && *after <= self.store.durable
        {
            match self.store.gated.pop_front() {
                Some((_, Gated::Ack { agent, sequence })) => {
                    if let Some(&session) = self.outboxes.get(&agent) {
                        self.send_down(session, Down::Ack(sequence));
                    }
                }
                Some((_, Gated::Free { agent, slot, unfit })) => {
                    self.tell_hub(agent, slot, unfit);
                }
                Some((_, Gated::Stored)) => {
                    self.stored_units = self.durable.record.units.len();
                    self.step(Event::Stored);
                }
                None => {}
            }
        }
    }

    pub fn is_closing(&self) -> bool {
        self.store.closing
    }

    /// The first rows are in the store before anybody hears of the run.
    pub fn register(&mut self, effects: Vec<Effect>) {
        self.perform(effects);
        self.make_durable(self.store.rows.len());
        self.store.writing = None;
        self.life = 1;
    }

    /// The coordinator is killed. Rows that were not durable are gone; those on their way may have arrived.
    pub fn crash(&mut self) {
        if self.run.is_none() || self.ended {
            return;
        }
        if self.talk {
            eprintln!("{} the coordinator is killed", self.now);
        }
        self.drop_sessions();
        self.run = None;
        self.outboxes.clear();
        self.hub.forget();
        if let Some(upto) = self.store.writing.take()
            && self.random.bool()
        {
            self.make_durable(upto);
        }
        self.store.rows.truncate(self.store.durable);
        self.store.gated.clear();
        self.store.closing = false;
        self.crashes += 1;
        if self.durable.record.closed.is_some() {
            self.ended = true;
            return;
        }
        let long = self.random.u32(0..3) == 0;
        let span = self.random.u64(if long {
            10_000..9_000_000
        } else {
            10_000..500_000
        });
        self.schedule(self.now + span, Happening::Restart);
    }

    /// A coordinator goes on with what the store holds, read from its bytes.
    pub fn restart(&mut self) {
        self.life += 1;
        let mut record = Record::default();
        for row in &self.store.rows {
            let batch = l::Batch::decode(&**row).expect("a row can be read");
            record
                .apply_batch(&batch)
                .expect("the ledger can be read back");
        }
        self.ledger = Ledger::clone(&self.durable);
        self.stored_units = record.units.len();
        // Its clock may say anything, but the run's never goes back.
        let jump = self.random.i64(-2_000_000..2_000_000);
        let clock = (self.now as i64 - self.origin + jump).max(record.latest.0 as i64);
        self.origin = self.now as i64 - clock;
        let known = !record.agents.is_empty();
        self.history_asked = known;
        let history = known.then(|| self.model.history.clone());
        let texts = self.store.texts;
        let recovered = Run::recover(
            record,
            self.model.rules(),
            self.settings.clone(),
            history,
            u64::from(self.life),
            texts,
            self.run_now(),
        );
        let (run, effects) = recovered.expect("the run can be gone on with");
        self.run = Some(run);
        self.hub_take_up();
        self.perform(effects);
        self.wake();
    }
}
