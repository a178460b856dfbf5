//! A slot: one warm process at a time, the leases that it holds, and what it has to tell.
//!
//! The slot's task owns everything here. It keeps the process's next unit at hand, turns the process's events
//! into facts (see [`live`]), watches deadlines, and says how the process ended when it does.

mod ending;
mod events;
mod grant;
mod live;

use crate::batch::Report;
use crate::clock::now_us;
use crate::framework::{Framework, Identity, Role};
use crate::hooks::{self, Failed, Hooks};
use crate::process::{self, Process};
use crate::runner::{Carried, Key, Op, write_op};
use evenkeel_proto::{suite::Suite, v1};
use live::{Killed, Live, Wire};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use v1::fact::Body;
use v1::process_ended::Cause;

/// What a slot is told.
#[derive(Debug)]
pub(crate) enum SlotCommand {
    List {
        kind: u32,
    },
    Lease(v1::Lease),
    Revoke(v1::Revoke),
    Idle {
        ends: u32,
    },
    Recycle,
    Conclude,
    Finish {
        kind: u32,
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
    /// Every kind of process that it may have to start, and the first.
    pub kinds: Arc<[Kind]>,
    pub first: u32,
    /// What suites want done on this machine; all slots of the run share it.
    pub hooks: Arc<Hooks>,
    pub identity: Identity,
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
/// A case that runs for longer than this is shown.
const LONG: Duration = Duration::from_millis(250);

enum Item {
    List(u32),
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
            Item::List(kind) | Item::Finish(kind) => Some(*kind),
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
    closing: bool,
    /// A set-up is under way: of this suite.
    setting_up: Option<(String, JoinHandle<Result<(), Failed>>)>,
    /// Since when a process is being brought up, its set-up included.
    bringing_up: Option<Instant>,
    /// Suites that this slot has been set up for, also where that failed.
    set_up: Vec<String>,
    /// Those where it failed.
    unable: Vec<String>,
    /// It has told the machine that it needs nothing more.
    has_left: bool,
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
            closing: false,
            setting_up: None,
            bringing_up: None,
            set_up: Vec::new(),
            unable: Vec::new(),
            has_left: false,
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
                Wake::Command(None) => self.command(SlotCommand::Close { abort: true }),
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
        let Some(live) = &mut self.live else {
            let Some((_, setting_up)) = &mut self.setting_up else {
                return Wake::Command(commands.recv().await);
            };
            return tokio::select! {
                biased;
                command = commands.recv() => Wake::Command(command),
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
            command = commands.recv() => Wake::Command(command),
            event = async {
                Live::rest(nap).await;
                wire.next(buffer).await
            } => event,
            status = process.wait() => Wake::Exited(status),
            () = sleep_until(timer) => Wake::Timer,
        }
    }

    fn start(&mut self) {
        // What it cannot be set up for was on its way before the coordinator knew; that has given it to others.
        let kinds = Arc::clone(&self.setup.kinds);
        let of = |kind: u32| {
            kinds
                .get(kind as usize)
                .map(|kind| kind.suite.name.as_str())
        };
        if !self.unable.is_empty() && !self.concluded {
            let unable = &self.unable;
            let able = |kind: u32| !unable.iter().any(|suite| Some(suite.as_str()) == of(kind));
            self.queue.retain(|item| item.kind().is_none_or(able));
            if !able(self.kind) && !self.queue.iter().any(|item| item.kind().is_some()) {
                return;
            }
        }
        let wanted = self.queue.iter().find_map(Item::kind);
        // What an agent does not know it cannot start; the coordinator is told what it was given.
        self.kind = wanted
            .filter(|kind| of(*kind).is_some())
            .unwrap_or(self.kind);
        let begun = *self.bringing_up.get_or_insert_with(Instant::now);
        if self.sets_up_first() {
            return;
        }
        self.bringing_up = None;
        let setup = &self.setup;
        let Kind { framework, suite } = &setup.kinds[self.kind as usize];
        let socket = setup
            .sockets
            .join(format!("{}-{}", setup.slot, self.incarnation));
        let role = if self.concluded {
            Role::Finish
        } else {
            Role::Test
        };
        let started = framework
            .spawn(suite, &setup.identity, role, &setup.cache, &setup.guard)
            .and_then(|mut spawn| {
                let kind = ("EVENKEEL_KIND".to_owned(), Some(self.kind.to_string()));
                spawn.environment.push(kind);
                let (process, connected) = Process::start(&spawn, &setup.guard, socket)?;
                Ok(Live::new(process, connected, spawn, begun))
            });
        match started {
            Ok(live) => self.live = Some(live),
            Err(error) => {
                let explanation = format!(
                    "the process could not be started in {}: {error}",
                    suite.directory
                );
                self.queue.clear(); // the coordinator gives it out again
                self.process_ended(Cause::Exited, -1, None, String::new(), explanation, None);
                self.owes_concluded |= self.concluded;
            }
        }
    }

    /// Whether the suite whose process is to be started has to be set up before. It has been begun then.
    fn sets_up_first(&mut self) -> bool {
        let suite = &self.setup.kinds[self.kind as usize].suite;
        let nothing = suite.setup.is_empty()
            && suite.teardown.is_empty()
            && suite.slot_setup.is_empty()
            && suite.slot_teardown.is_empty();
        if nothing || self.concluded || self.set_up.contains(&suite.name) {
            return false;
        }
        let (suite, hooks) = (suite.clone(), Arc::clone(&self.setup.hooks));
        let environment = self.setup.identity.variables();
        let name = suite.name.clone();
        if !(suite.setup.is_empty() && suite.slot_setup.is_empty()) {
            let text = format!("slot {}: setting up suite {name}", self.setup.slot + 1);
            self.log(v1::slot_log::Level::Progress, &text);
        }
        let setting_up = tokio::spawn(async move {
            hooks.set_up(&suite.name).await?;
            hooks::carry_out("slot-setup", &suite.slot_setup, &suite, &environment).await
        });
        self.setting_up = Some((name, setting_up));
        true
    }

    fn has_set_up(&mut self, outcome: Result<(), Failed>) {
        let Some((suite, _)) = self.setting_up.take() else {
            return;
        };
        // Where it failed there may be something to tear down all the same.
        self.set_up.push(suite);
        match outcome {
            Ok(()) => self.start(),
            Err(failed) => {
                self.bringing_up = None;
                self.unable.extend(self.set_up.last().cloned());
                self.queue.clear(); // the coordinator gives it out again
                self.ends += 1;
                let refused = v1::ProcessRefused {
                    kind: self.kind,
                    reason: v1::process_refused::Reason::Setup as i32,
                    message: failed.message,
                    detail: failed.output,
                    ..v1::ProcessRefused::default()
                };
                self.fact(Body::ProcessRefused(refused), true);
            }
        }
    }

    /// Nothing is run here any more: tears down what was set up for this slot, and on the machine if it is the last.
    async fn tear_down(&mut self) {
        if let Some((suite, setting_up)) = self.setting_up.take() {
            setting_up.abort();
            setting_up.await.ok();
            self.set_up.push(suite);
        }
        if std::mem::replace(&mut self.has_left, true) {
            return;
        }
        let environment = self.setup.identity.variables();
        let mut failed = Vec::new();
        for name in std::mem::take(&mut self.set_up).into_iter().rev() {
            let mut kinds = self.setup.kinds.iter();
            let Some(kind) = kinds.find(|kind| kind.suite.name == name) else {
                continue;
            };
            let words = &kind.suite.slot_teardown;
            let torn = hooks::tear_down("slot-teardown", words, &kind.suite, &environment);
            failed.extend(torn.await.err());
        }
        failed.extend(self.setup.hooks.leave().await);
        for Failed { message, output } in failed {
            let text = format!("{message}\n{output}");
            self.log(v1::slot_log::Level::Warning, text.trim_end());
        }
    }

    fn command(&mut self, command: SlotCommand) {
        match command {
            SlotCommand::List { kind } => self.queue.push_back(Item::List(kind)),
            SlotCommand::Idle { ends } if ends != self.ends => {}
            SlotCommand::Idle { .. } => self.queue.push_back(Item::Idle),
            SlotCommand::Recycle => self.queue.push_back(Item::Recycle),
            SlotCommand::Conclude => self.conclude(),
            SlotCommand::Finish {
                kind,
                carried,
                more,
            } => {
                self.carried.extend(carried.into_iter().map(|one| Carried {
                    slot: one.shard,
                    carry: one.carry,
                }));
                if !more {
                    self.queue.push_back(Item::Finish(kind));
                }
            }
            // A lease that crossed the news of a process's end on its way is void already.
            SlotCommand::Lease(lease) if lease.ends != self.ends => {}
            SlotCommand::Lease(lease) => self.queue.push_back(Item::Lease(lease)),
            SlotCommand::Revoke(revoke) => self.revoke(&revoke),
            SlotCommand::Close { abort } => {
                self.closing = true;
                let ready = self.live.as_ref().is_some_and(|live| live.hello);
                if abort || !ready {
                    self.queue.clear();
                    self.kill(
                        Cause::Ended,
                        "ended by the agent, as it was told".to_owned(),
                    );
                }
            }
        }
        if self.live.is_none()
            && self.setting_up.is_none()
            && !self.closing
            && self.queue.iter().any(|item| !matches!(item, Item::Idle))
            && (!self.concluded || self.finishes())
        {
            self.start();
        }
    }

    fn finishes(&self) -> bool {
        self.queue
            .iter()
            .any(|item| matches!(item, Item::Finish(_)))
    }

    /// The process comes to its end when what it holds is done; one that is not ready yet has nothing to say.
    fn conclude(&mut self) {
        self.concluded = true;
        match &self.live {
            Some(live) if live.hello => self.queue.push_back(Item::Conclude),
            Some(_) => {
                self.queue.clear();
                self.kill(Cause::Ended, "it was not needed any more".to_owned());
            }
            None => self.owes_concluded = true,
        }
    }

    fn revoke(&mut self, revoke: &v1::Revoke) {
        let queued = self
            .queue
            .iter()
            .position(|item| matches!(item, Item::Lease(l) if l.lease == revoke.lease));
        if let Some(queued) = queued {
            self.queue.remove(queued);
            let returned = v1::Returned {
                lease: revoke.lease,
                generation: revoke.generation,
                cases: Vec::new(),
                all: true,
            };
            self.fact(Body::Returned(returned), true);
            return;
        }
        let Some(live) = &mut self.live else { return };
        if !live.raise_generation(revoke.lease, revoke.generation) {
            return;
        }
        // What the process may not start yet need not wait for its answer.
        let taken = if live.can_revoke {
            live.take_back(revoke.lease, revoke.from)
        } else {
            Some((revoke.from, Vec::new()))
        };
        let from = taken.as_ref().map_or(revoke.from, |(from, _)| *from);
        if taken.as_ref().is_none_or(|(_, cases)| !cases.is_empty()) {
            live.send(&Op::Revoke {
                lease: revoke.lease,
                from,
            });
        }
        if let Some((_, cases)) = taken {
            let returned = v1::Returned {
                lease: revoke.lease,
                generation: revoke.generation,
                cases,
                all: false,
            };
            self.fact(Body::Returned(returned), true);
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
                Some(Item::List(_)) => {
                    live.list();
                    self.queue.pop_front();
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

    /// The process is gone: take in what it still said, then say how it ended.
    async fn exited(&mut self, status: io::Result<ExitStatus>) {
        const REST: Duration = Duration::from_millis(500);
        let until = tokio::time::Instant::now() + REST;
        // A process that ended before the agent got to its connection may still have said something.
        if let Some(live) = &mut self.live
            && let Wire::Connecting(receiver) = &mut live.wire
            && let Ok(Ok(connected)) = receiver.try_recv()
        {
            live.wire = Wire::Open(connected);
        }
        while let Some(live) = &mut self.live {
            let Wire::Open(connected) = &mut live.wire else {
                break;
            };
            let read =
                tokio::time::timeout_at(until, connected.reader.read_buf(&mut live.buffer)).await;
            match read {
                Ok(Ok(count)) if count > 0 => self.events(),
                _ => break,
            }
        }
        let Some(mut live) = self.live.take() else {
            return;
        };
        let summary = live.ending(status);
        let farewell = live.farewell();
        let was_ready = live.hello || live.refused.is_some();
        if let Some(refused) = live.refused.clone()
            && summary.cause != Cause::Finished
        {
            self.fact(Body::ProcessRefused(refused), true);
        }
        let (stdout, stderr) = live.process.tails().await;
        let tail = if stderr.trim().is_empty() {
            stdout
        } else {
            stderr
        };
        let tail = tail.trim_end().to_owned();
        if summary.cause == Cause::Finished {
            self.process_ended(
                Cause::Finished,
                summary.code,
                None,
                String::new(),
                summary.explanation,
                farewell,
            );
            // A planned end: what is queued behind it stands, and goes to a fresh process.
            if matches!(self.queue.front(), Some(Item::Recycle | Item::Conclude)) {
                self.queue.pop_front();
            }
            if self.concluded {
                self.owes_concluded = true;
            } else if !self.closing || self.queue.iter().any(|item| matches!(item, Item::Lease(_)))
            {
                self.start();
            }
            return;
        }
        self.queue.clear();
        if !was_ready
            && summary.cause == Cause::Exited
            && let Some(mut refused) = self.framework().explain_exit(summary.code, &tail)
        {
            refused.kind = self.kind;
            self.fact(Body::ProcessRefused(refused), true);
        }
        self.process_ended(
            summary.cause,
            summary.code,
            summary.in_flight,
            tail,
            summary.explanation,
            farewell,
        );
        self.owes_concluded |= self.concluded;
    }

    fn process_ended(
        &mut self,
        cause: Cause,
        code: i32,
        in_flight: Option<v1::InFlight>,
        stderr_tail: String,
        explanation: String,
        farewell: Option<v1::Farewell>,
    ) {
        let ended = v1::ProcessEnded {
            kind: self.kind,
            incarnation: self.incarnation,
            cause: cause as i32,
            code,
            in_flight,
            stderr_tail,
            explanation,
            farewell,
        };
        self.incarnation += 1;
        self.ends += u32::from(cause != Cause::Finished);
        self.fact(Body::ProcessEnded(ended), true);
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
        Some(at) => tokio::time::sleep_until(at.into()).await,
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
