//! A slot: one warm process at a time, the leases that it holds, and what it has to tell.
//!
//! The slot's task owns everything here. It keeps the process's next unit at hand, turns the process's events
//! into facts (see [`live`]), watches deadlines, and says how the process ended when it does (see [`ending`]). How a process is
//! brought up is in [`starting`], what the coordinator says in [`commands`].

mod commands;
mod ending;
mod events;
mod grant;
mod live;
mod starting;

use crate::batch::Report;
use crate::clock::now_us;
use crate::framework::{Framework, Identity};
use crate::hooks::{Failed, Hooks};
use crate::process::{self, Processes};
use crate::runner::{Carried, Key, Op, write_op};
use evenkeel_proto::{suite::Suite, v1};
use live::{Killed, Live, Wire};
use starting::SetUps;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use v1::fact::Body;
use v1::process_ended::Cause;

/// What a slot is told.
#[derive(Debug)]
pub(crate) enum SlotCommand {
    List {
        kind: u32,
        ask: u64,
    },
    Lease(v1::Lease),
    Revoke(v1::Revoke),
    /// The lease has ended, whatever is still done under it.
    Cancel {
        lease: u64,
    },
    Idle {
        ends: u32,
    },
    Recycle,
    Conclude,
    /// After the session was cut: of what the slot was given just these leases stand.
    Keep {
        leases: Vec<u64>,
    },
    Finish {
        kind: u32,
        ask: u64,
        carried: Vec<v1::Carried>,
        more: bool,
    },
    Close {
        abort: bool,
    },
}

/// What a slot needs to know to start processes.
pub(crate) struct Setup {
    pub slot: u32,
    /// The run's number.
    pub run: u64,
    /// Every kind of process that it may have to start, and the first.
    pub kinds: Arc<[Kind]>,
    pub first: u32,
    /// What suites want done on this machine; all slots of the run share it.
    pub hooks: Arc<Hooks>,
    pub identity: Identity,
    pub processes: Processes,
    /// The binary that guards.
    pub guard: PathBuf,
    /// Outlives runs; holds what frameworks need to load us.
    pub cache: PathBuf,
    /// Private to the agent; holds sockets.
    pub sockets: PathBuf,
}

/// A kind of process.
pub(crate) struct Kind {
    pub framework: Framework,
    pub suite: Suite,
}

/// A process has this long to connect.
const CONNECT: Duration = Duration::from_secs(300);
/// After `stop` a process has this long to tear down and exit.
const STOP: Duration = Duration::from_secs(60);
/// After SIGABRT it has this long to say where it hung, where nothing else is set.
const GRACE: Duration = Duration::from_secs(2);
/// With a deadline for tests, loading a unit may take as long as one, and at least this long.
const LOADING: Duration = Duration::from_secs(60);
/// A listing that is told again goes in pieces of so many units.
const PIECE: usize = 4096;
/// A case that runs for longer than this is shown.
const LONG: Duration = Duration::from_millis(250);

enum Item {
    List(u32, u64),
    Lease(v1::Lease),
    Idle,
    Recycle,
    Conclude,
    Finish(u32),
}

impl Item {
    /// The kind of process that it needs, if it needs a certain one.
    fn kind(&self) -> Option<u32> {
        match self {
            Item::List(kind, _) | Item::Finish(kind) => Some(*kind),
            Item::Lease(lease) => Some(lease.kind),
            Item::Idle | Item::Recycle | Item::Conclude => None,
        }
    }
}

pub(crate) struct Slot {
    setup: Setup,
    reports: mpsc::Sender<Report>,
    facts: Vec<v1::Fact>,
    urgent: bool,
    queue: VecDeque<Item>,
    live: Option<Live>,
    /// Of its process, or of the last one.
    kind: u32,
    incarnation: u32,
    /// Ends of processes that nobody asked for.
    ends: u32,
    /// No process is to be started any more but the one that concludes the run.
    concluded: bool,
    /// What that one needs, as far as it has come.
    carried: Vec<Carried>,
    /// The last asks that it took: for a listing, and for the conclusion of the run.
    list_ask: u64,
    finish_ask: Option<u64>,
    /// The highest lease that it was given.
    last_lease: u64,
    closing: bool,
    /// Nobody is left who could tell it anything.
    alone: bool,
    set_ups: SetUps,
    /// It owes the answer that it is concluded, which goes behind its tear-down.
    owes_concluded: bool,
}

/// What woke the slot.
enum Wake {
    Command(Option<SlotCommand>),
    Connected(io::Result<process::Connected>),
    Read(io::Result<usize>),
    Exited(io::Result<ExitStatus>),
    SetUp(Result<(), Failed>),
    Timer,
}

impl Slot {
    pub(crate) fn new(setup: Setup, reports: mpsc::Sender<Report>) -> Slot {
        Slot {
            kind: setup.first,
            setup,
            reports,
            facts: Vec::new(),
            urgent: false,
            queue: VecDeque::new(),
            live: None,
            incarnation: 0,
            ends: 0,
            concluded: false,
            carried: Vec::new(),
            list_ask: 0,
            finish_ask: None,
            last_lease: 0,
            closing: false,
            alone: false,
            set_ups: SetUps::default(),
            owes_concluded: false,
        }
    }

    /// Serves until it is closed and its process is gone, or until nobody listens any more.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<SlotCommand>) {
        self.start();
        loop {
            self.pump().await;
            if std::mem::take(&mut self.owes_concluded) {
                self.tear_down().await;
                self.fact(Body::Concluded(v1::Concluded {}), true);
            }
            if self.closing && self.live.is_none() {
                self.tear_down().await;
                self.fact(Body::SlotClosed(v1::SlotClosed {}), true);
                self.flush().await;
                return;
            }
            if !self.flush().await {
                // The session is gone: so is the right to run anything.
                if let Some(live) = &mut self.live {
                    live.process.kill();
                }
                self.tear_down().await;
                return;
            }
            match self.wait(&mut commands).await {
                Wake::Command(Some(command)) => self.command(command),
                Wake::Command(None) => {
                    self.alone = true;
                    self.command(SlotCommand::Close { abort: true });
                }
                Wake::Connected(Ok(connected)) => {
                    if let Some(live) = &mut self.live {
                        live.wire = Wire::Open(connected);
                    }
                }
                Wake::Connected(Err(error)) => {
                    self.kill(Cause::Protocol, format!("it did not connect: {error}"))
                }
                // A connection that ends or breaks says little; the process's end, which follows, says how it came.
                Wake::Read(Ok(0) | Err(_)) => {
                    if let Some(live) = &mut self.live {
                        live.wire = Wire::Closed;
                    }
                }
                Wake::Read(Ok(_)) => self.events(),
                Wake::Exited(status) => self.exited(status).await,
                Wake::SetUp(outcome) => self.has_set_up(outcome),
                Wake::Timer => self.timer(),
            }
        }
    }

    async fn wait(&mut self, commands: &mut mpsc::Receiver<SlotCommand>) -> Wake {
        let listens = !self.alone;
        let Some(live) = &mut self.live else {
            let Some((_, setting_up)) = &mut self.set_ups.under_way else {
                return Wake::Command(commands.recv().await);
            };
            return tokio::select! {
                biased;
                command = commands.recv(), if listens => Wake::Command(command),
                outcome = setting_up => Wake::SetUp(outcome.unwrap_or_else(|error| {
                    Err(Failed { message: error.to_string(), output: String::new() })
                })),
            };
        };
        let timer = live.next_timer();
        let nap = live.nap();
        let Live {
            process,
            wire,
            buffer,
            ..
        } = live;
        tokio::select! {
            biased;
            command = commands.recv(), if listens => Wake::Command(command),
            event = async {
                Live::rest(nap).await;
                wire.next(buffer).await
            } => event,
            status = process.wait() => Wake::Exited(status),
            () = sleep_until(timer) => Wake::Timer,
        }
    }

    /// Passes on what the process can take now.
    async fn pump(&mut self) {
        // The process has been given a lease with which another one belongs.
        let mut more = false;
        while let Some(live) = &mut self.live {
            if !live.hello || live.killed.is_some() || live.stopping {
                break;
            }
            // A last case that waits to hear what comes next is told nothing by a listing, and the listing comes behind it.
            if live.waiting && live.listing && !live.listed {
                live.idle();
            }
            // What needs another kind of process waits for this one's end.
            let other = |item: &Item| item.kind().is_some_and(|kind| kind != self.kind);
            match self.queue.front() {
                Some(item) if other(item) => {
                    if !live.leases.is_empty() {
                        live.idle();
                        break;
                    }
                    live.stop();
                }
                Some(Item::Recycle) if !live.used => {
                    self.queue.pop_front();
                }
                Some(Item::Recycle) => {
                    if !live.leases.is_empty() {
                        // The last case before it must not wait for what comes behind it.
                        live.idle();
                        break;
                    }
                    live.stop();
                }
                Some(Item::Conclude) => {
                    if !live.leases.is_empty() {
                        live.idle();
                        break;
                    }
                    live.stop();
                }
                Some(Item::Finish(_)) => {
                    live.conclude_run(std::mem::take(&mut self.carried));
                    self.queue.pop_front();
                }
                Some(&Item::List(kind, ask)) => {
                    let again = live.list(kind, ask);
                    self.queue.pop_front();
                    for listed in again {
                        self.fact(Body::Listed(listed), true);
                    }
                }
                Some(Item::Idle) => {
                    live.idle();
                    self.queue.pop_front();
                }
                // What the process has not been given can still go elsewhere: it gets its next unit when it asks.
                Some(Item::Lease(_)) if !(live.takes_more() || more) => break,
                // A bundle goes to it whole.
                Some(Item::Lease(_)) if live.can_bundle && !has_last(&self.queue) => break,
                Some(Item::Lease(_)) => {
                    if let Some(Item::Lease(lease)) = self.queue.pop_front() {
                        more = lease.more && live.can_bundle;
                        live.lease(lease);
                    }
                }
                None if self.closing => live.stop(),
                None => break,
            }
        }
        let Some(live) = &mut self.live else { return };
        if let Wire::Open(connected) = &mut live.wire
            && !live.outgoing.is_empty()
        {
            let outgoing = std::mem::take(&mut live.outgoing);
            // A failure to write shows as the process's end, which says more.
            connected.writer.write_all(&outgoing).await.ok();
        }
    }

    fn events(&mut self) {
        let Some(live) = &mut self.live else { return };
        // Nothing that a process says after it broke the protocol counts.
        if live
            .killed
            .as_ref()
            .is_some_and(|killed| killed.cause == Cause::Protocol)
        {
            live.buffer.clear();
            return;
        }
        let context = live::Context {
            slot: self.setup.slot,
            incarnation: self.incarnation,
            kind: self.kind,
            directory: &self.setup.kinds[self.kind as usize].suite.directory,
            reserve: self.queue.iter().any(|item| matches!(item, Item::Lease(_))),
        };
        let taken = live.take_events(&context, &mut self.facts);
        self.urgent |= live.urgent;
        live.urgent = false;
        if let Err(broken) = taken {
            self.kill(
                Cause::Protocol,
                format!("it broke the runner protocol: {broken}"),
            );
        }
    }

    fn timer(&mut self) {
        let now = Instant::now();
        let Some(live) = &mut self.live else { return };
        if let Some(at) = live.last_words
            && at <= now
        {
            live.last_words = None;
            live.process.kill();
        }
        if let Some((lease, case, generation)) = live.long_running(now, LONG) {
            let running = v1::CaseRunning {
                lease,
                generation,
                case,
            };
            self.fact(Body::CaseRunning(running), false);
        }
        if let Some((case, limit)) = self.live.as_mut().and_then(|live| live.slow(now)) {
            let text = format!("{case} has been running for {} s", limit.as_secs_f64());
            self.log(v1::slot_log::Level::Warning, &text);
        }
        let Some(live) = &mut self.live else { return };
        if live.killed.is_some() {
            return;
        }
        if live.deadline.is_some_and(|at| at <= now) {
            let limits = live.limits();
            let limit = limits.and_then(|limits| limits.timeout).unwrap_or_default();
            let grace = limits.map_or(GRACE, |limits| limits.grace);
            let explanation = if live.runs_a_case() {
                format!("timed out after {} s (--timeout)", limit.as_secs_f64())
            } else {
                let limit = limit.max(LOADING).as_secs_f64();
                format!("timed out after {limit} s while its unit was loaded (--timeout)")
            };
            live.killed = Some(Killed {
                cause: Cause::Deadline,
                explanation,
            });
            live.deadline = None;
            process::abort(live.pid);
            live.last_words = Some(now + grace);
        } else if !live.hello && live.started + CONNECT <= now {
            let explanation = format!("it did not say hello within {} s", CONNECT.as_secs());
            self.kill(Cause::Protocol, explanation);
        } else if live.stopping && live.stop_by.is_some_and(|at| at <= now) {
            let explanation = format!("its tear-down took longer than {} s", STOP.as_secs());
            self.log(
                v1::slot_log::Level::Warning,
                &format!("slot {}: {explanation}; ended", self.setup.slot + 1),
            );
            self.kill(Cause::Deadline, explanation);
        }
    }

    fn kill(&mut self, cause: Cause, explanation: String) {
        if let Some(live) = &mut self.live {
            live.killed.get_or_insert(Killed { cause, explanation });
            live.process.kill();
        }
    }

    fn framework(&self) -> Framework {
        self.setup.kinds[self.kind as usize].framework
    }

    fn log(&mut self, level: v1::slot_log::Level, text: &str) {
        let log = v1::SlotLog {
            level: level as i32,
            text: text.to_owned(),
        };
        self.fact(Body::Log(log), false);
    }

    fn fact(&mut self, body: Body, urgent: bool) {
        self.facts.push(v1::Fact {
            at_us: now_us(),
            slot: self.setup.slot,
            body: Some(body),
        });
        self.urgent |= urgent;
    }

    /// False once nobody takes reports any more.
    async fn flush(&mut self) -> bool {
        if self.facts.is_empty() {
            return true;
        }
        let report = Report {
            facts: std::mem::take(&mut self.facts),
            urgent: std::mem::take(&mut self.urgent),
        };
        self.reports.send(report).await.is_ok()
    }
}

/// Whether the queue holds the last lease of those that belong together at its front.
fn has_last(queue: &VecDeque<Item>) -> bool {
    queue
        .iter()
        .any(|item| matches!(item, Item::Lease(lease) if !lease.more))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn keys(keys: Vec<v1::CaseKey>) -> Vec<Key> {
    keys.into_iter()
        .map(|key| Key {
            id: key.id,
            n: key.occurrence,
        })
        .collect()
}

fn op_line(op: &Op<'_>, out: &mut Vec<u8>) {
    write_op(op, out);
}
