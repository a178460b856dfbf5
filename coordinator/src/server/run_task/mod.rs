//! The task of one run: it owns the state machine, performs its effects in order, and tells watchers.
//!
//! Rows go to the store one append at a time; what arrives meanwhile waits for the next one, so that a fast run is
//! written in few large transactions. Effects that depend on durability wait in `gated` until their row is stored.

mod durable;
mod ending;
mod watchers;

use super::abandon::{Unwritten, WriteError};
use super::doors::{HubDoor, Outbox, RunDoor, RunInbox};
use super::hub::Notice;
use super::panics;
use super::planted::{Fault, is_planted, panic_if_planted, resumed};
use super::submission::{history_queries, load_history};
use crate::run::{AgentBack, AgentId, AgentJoined, Command, Effect, Event, History, Run};
use crate::store::{RunHandle, Store, StoreError};
use crate::wire::{self, Opening};
use durable::LAZY;
use evenkeel_proto::v1;
use evenkeel_schedule::Micros;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use v1::watch_event::Body as Watched;
use watchers::{PROGRESS, Watcher};

pub(super) enum RunMessage {
    Event(Event),
    Agent {
        joined: AgentJoined,
        outbox: Outbox,
    },
    Back {
        back: AgentBack,
        outbox: Outbox,
    },
    Watch {
        rows: bool,
        events: mpsc::Sender<v1::WatchEvent>,
        attached: tokio::sync::oneshot::Sender<(RunHandle, u64)>,
    },
}

/// Where a run sits: everything around the state machine.
pub(super) struct RunSeat {
    pub store: Store,
    pub handle: RunHandle,
    pub directory: PathBuf,
    pub hub: HubDoor,
    pub opening: Opening,
    pub keep_history: bool,
}

/// A run that is registered in the store with its first rows, or that goes on from what the store holds.
pub(super) struct Opened {
    pub run: Run,
    pub handle: RunHandle,
    pub opening: Opening,
    /// How many rows are stored.
    pub stored: u64,
    pub effects: Vec<Effect>,
    pub history_loaded: bool,
    /// Where its clock stands.
    pub since: Micros,
}

enum Gated {
    Ack { agent: AgentId, sequence: u64 },
    Stored,
    Show(Box<Watched>),
    Free(Notice),
}

struct RunTask {
    seat: RunSeat,
    run: Run,
    started: Instant,
    outboxes: BTreeMap<AgentId, Outbox>,
    watchers: Vec<Watcher>,
    history: Option<JoinHandle<Result<History, StoreError>>>,
    history_loaded: bool,
    // Rows and texts that wait for the next append, those of the append under way, and what waits for them.
    waiting: Unwritten,
    writing: Option<JoinHandle<(Unwritten, Result<(), WriteError>)>>,
    appended: u64,
    stored: u64,
    gated: VecDeque<(u64, Gated)>,
    /// Since when a row has been waiting that nothing waits for.
    unwritten: Option<Instant>,
    closing: bool,
    dirty: bool,
    shown: Instant,
    /// Leases and results of rows that wait to be written.
    counted: (u64, u64),
    /// What the hub was told of how many slots the run could use, and when.
    appetite: (u32, Instant),
    /// It may be another number by now, and it was too early to say so.
    appetite_due: bool,
}

/// How often the hub hears how many slots the run could use, at most.
const APPETITE: Duration = Duration::from_millis(50);

/// The rows among a new run's effects, which are stored as it is registered, and the effects that remain.
pub(super) fn first_rows(effects: Vec<Effect>) -> (Vec<Vec<u8>>, Vec<Effect>) {
    let mut rows = Vec::new();
    let mut rest = Vec::new();
    for effect in effects {
        match effect {
            Effect::Append(batch) => rows.push(batch.encode_to_vec()),
            other => rest.push(other),
        }
    }
    (rows, rest)
}

pub(super) fn spawn(seat: RunSeat, opened: Opened) -> RunDoor {
    let (door, inbox) = RunDoor::new();
    let now = Instant::now();
    let mut task = RunTask {
        seat,
        started: now.checked_sub(opened.since.into()).unwrap_or(now),
        appetite: (opened.run.appetite(), now),
        appetite_due: false,
        run: opened.run,
        outboxes: BTreeMap::new(),
        watchers: Vec::new(),
        history: None,
        history_loaded: opened.history_loaded,
        waiting: Unwritten::default(),
        writing: None,
        appended: opened.stored,
        stored: opened.stored,
        gated: VecDeque::new(),
        unwritten: None,
        closing: false,
        dirty: false,
        shown: now,
        counted: (0, 0),
    };
    let directory = task.seat.directory.clone();
    let serving = async move {
        let mut inbox = inbox;
        panic_if_planted(&task.run.record().opened.run);
        task.perform(opened.effects);
        let failed = task.serve(&mut inbox).await;
        task.dismiss(inbox.close(), failed.is_err());
        task.finish(failed.err()).await;
    };
    tokio::spawn(panics::for_run(directory, serving));
    door
}

impl RunTask {
    fn now(&self) -> Micros {
        self.started.elapsed().into()
    }

    async fn serve(&mut self, inbox: &mut RunInbox) -> Result<(), WriteError> {
        self.release();
        let mut messages = Vec::new();
        loop {
            if self.closing && self.writing.is_none() {
                return Ok(());
            }
            self.write();
            let wake = self
                .run
                .wake_at(self.now())
                .map(|at| self.started + Duration::from(at));
            let show = (self.dirty && !self.watchers.is_empty()).then(|| self.shown + PROGRESS);
            let lazy = self
                .unwritten
                .filter(|_| self.writing.is_none())
                .map(|since| since + LAZY);
            let hunger = self.appetite_due.then(|| self.appetite.1 + APPETITE);
            let timer = [wake, show, lazy, hunger].into_iter().flatten().min();
            tokio::select! {
                biased;
                written = async { self.writing.as_mut().expect("guarded by the condition").await }, if self.writing.is_some() => {
                    self.writing = None;
                    self.has_written(written)?;
                }
                history = async { self.history.as_mut().expect("guarded by the condition").await }, if self.history.is_some() => {
                    self.history = None;
                    let history = history.map_err(|_| StoreError::Gone)??;
                    let effects = self.run.step(self.now(), Event::History(history));
                    self.perform(effects);
                }
                some = inbox.next(&mut messages) => {
                    if !some {
                        return Err(StoreError::Gone.into());
                    }
                    for message in messages.drain(..) {
                        self.message(message);
                    }
                }
                () = sleep_until(timer) => {
                    if wake.is_some_and(|at| at <= Instant::now()) {
                        let effects = self.run.step(self.now(), Event::Tick);
                        self.perform(effects);
                    }
                }
            }
            self.show_progress();
            self.tell_appetite();
        }
    }

    fn message(&mut self, message: RunMessage) {
        match message {
            RunMessage::Event(event) => {
                let effects = self.run.step(self.now(), event);
                self.perform(effects);
            }
            RunMessage::Agent { joined, outbox } => {
                if !self.history_loaded {
                    self.history_loaded = true;
                    self.load_history(&joined);
                }
                self.outboxes.insert(joined.agent, outbox);
                let effects = self.run.step(self.now(), joined.into());
                self.perform(effects);
            }
            RunMessage::Back { back, outbox } => {
                self.outboxes.insert(back.agent, outbox);
                if let Some(resume) = resumed(self.run.record(), &back) {
                    let message = wire::command(resume, &self.seat.opening);
                    self.send(back.agent, message);
                    return;
                }
                let effects = self.run.step(self.now(), Event::AgentBack(back));
                self.perform(effects);
            }
            RunMessage::Watch {
                rows,
                events,
                attached,
            } => {
                if attached.send((self.seat.handle, self.stored)).is_ok() {
                    self.watchers.push(Watcher { events, rows });
                    self.dirty = true;
                }
            }
        }
    }

    /// Reads the history on the side: processes start meanwhile.
    fn load_history(&mut self, joined: &AgentJoined) {
        let machine = (joined.environment_class.as_str(), joined.slots.len() as u32);
        let queries = history_queries(self.run.record(), Some(machine)).unwrap_or_default();
        let store = self.seat.store.clone();
        self.history = Some(tokio::spawn(
            async move { load_history(&store, queries).await },
        ));
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        self.dirty |= !effects.is_empty();
        // What is shown comes of the row that follows it.
        let mut shows = Vec::new();
        for effect in effects {
            match effect {
                Effect::Append(batch) => {
                    self.count(&batch);
                    self.waiting.rows.push(batch.encode_to_vec());
                    self.appended += 1;
                    for show in shows.drain(..) {
                        self.gated
                            .push_back((self.appended, Gated::Show(Box::new(show))));
                    }
                }
                Effect::StoreText { offset, bytes } => self.waiting.text(offset, &bytes),
                Effect::CallWhenStored => self.gated.push_back((self.appended, Gated::Stored)),
                Effect::Ack { agent, sequence } => {
                    let early = is_planted(Fault::AcknowledgedBeforeDurable);
                    let after = if early { 0 } else { self.appended };
                    self.gated
                        .push_back((after, Gated::Ack { agent, sequence }));
                    if early {
                        self.gated
                            .make_contiguous()
                            .sort_by_key(|(after, _)| *after);
                    }
                }
                Effect::Close => self.closing = true,
                Effect::Send { agent, mut command } => {
                    perturb(&mut command);
                    let message = wire::command(command, &self.seat.opening);
                    self.send(agent, message);
                }
                Effect::Show(show) => shows.push(wire::show(show)),
                Effect::Cut { agent, reason } => {
                    self.outboxes.remove(&agent);
                    self.seat.hub.tell(Notice::Cut { agent, reason });
                }
                Effect::Free { agent, slot, unfit } => {
                    let free = Notice::Free {
                        run: self.seat.opening.number,
                        agent,
                        slot,
                        unfit,
                    };
                    self.gated.push_back((self.appended, Gated::Free(free)));
                }
            }
        }
        for show in shows {
            self.tell_watchers(0, show);
        }
        // What waits for nothing new goes at once.
        self.release();
    }

    fn send(&mut self, agent: AgentId, message: v1::CoordinatorMessage) {
        if let Some(outbox) = self.outboxes.get(&agent)
            && !outbox.send(message)
        {
            self.outboxes.remove(&agent);
            self.seat.hub.deaf(agent);
        }
    }

    fn tell_appetite(&mut self) {
        let (told, at) = self.appetite;
        // Nothing else may happen before the hub gives it what it could use.
        self.appetite_due = at.elapsed() < APPETITE;
        if self.appetite_due {
            return;
        }
        let slots = self.run.appetite();
        self.appetite = (slots, Instant::now());
        if slots != told {
            let run = self.seat.opening.number;
            self.seat.hub.tell(Notice::Appetite { run, slots });
        }
    }
}

/// A command as a planted fault has it.
fn perturb(command: &mut Command) {
    if let Command::Resume { sequence, .. } = command
        && is_planted(Fault::HeardEverything)
    {
        *sequence = u64::MAX >> 1;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::submission::Submission;
    use super::*;
    use crate::run::{Fact, FactBody, ProcessStarted};
    use evenkeel_proto::{ledger as l, suite::Suite};
    use v1::coordinator_message::Body as Out;

    fn fact(opening: u64, sequence: u64, body: FactBody) -> Event {
        Event::Facts {
            agent: AgentId(1),
            opening,
            first_sequence: sequence,
            sent_at: Micros::ZERO,
            facts: vec![Fact {
                at: Micros::ZERO,
                slot: 0,
                body,
            }],
        }
    }

    /// What it could use changes while it is too early to say so once more, and then its only agent says nothing.
    #[tokio::test]
    async fn the_hub_hears_what_a_run_could_use_though_nothing_else_happens() {
        let place = std::env::temp_dir().join(format!("ek-appetite-{}", std::process::id()));
        let store = Store::open(&place).await.unwrap();
        let request = v1::SubmitRequest {
            suites: vec![Suite {
                name: "unit".into(),
                command: vec!["noop".into()],
                ..Suite::default()
            }],
            ..v1::SubmitRequest::default()
        };
        let submission = Submission::check(request, &Settings::default(), None).unwrap();
        let opened = submission.open(&store).await.unwrap();
        let (notices, mut noticed) = mpsc::unbounded_channel();
        let seat = RunSeat {
            handle: opened.handle,
            directory: store.run_directory(opened.handle),
            store,
            hub: HubDoor(notices),
            opening: opened.opening.clone(),
            keep_history: false,
        };
        let door = spawn(seat, opened);
        let (outbox, mut told) = Outbox::new(2);
        let joined = AgentJoined {
            agent: AgentId(1),
            name: "agent".into(),
            incarnation: "incarnation".into(),
            environment_class: String::new(),
            slots: vec![0],
            clock: Micros::ZERO,
        };
        door.tell(RunMessage::Agent { joined, outbox });
        let mut opening = 0;
        while let Some(Ok(message)) = told.recv().await {
            match message.body {
                Some(Out::OpenRun(open)) => {
                    opening = open.opening;
                    let started = FactBody::ProcessStarted(ProcessStarted::default());
                    door.event(fact(opening, 1, started));
                }
                Some(Out::List(list)) => {
                    let units = vec![l::Unit {
                        name: "test_it".into(),
                        ..l::Unit::default()
                    }];
                    let listed = FactBody::Listed {
                        kind: 0,
                        ask: list.ask,
                        units,
                        more: false,
                    };
                    door.event(fact(opening, 2, listed));
                }
                Some(Out::Lease(_)) => break,
                _ => {}
            }
        }
        let heard = async {
            loop {
                if let Some(Notice::Appetite { slots: 1, .. }) = noticed.recv().await {
                    return;
                }
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(5), heard).await;
        std::fs::remove_dir_all(&place).unwrap();
        assert!(heard.is_ok(), "it could use one slot, and nobody knows");
    }
}
