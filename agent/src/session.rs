//! The session with the coordinator: one bidirectional stream, over which slots of this agent serve runs.
//!
//! An [`Agent`] outlives its sessions. When one is cut, slots go on with what they hold and their facts are kept; the next
//! session begins with what is still open, and the coordinator says of each run what of it stands.

use crate::batch::{self, Report, Stream, Way};
use crate::clock::now_us;
use crate::framework::{Identity, recognise};
use crate::hooks::Hooks;
use crate::left::{AgentError, Left};
use crate::machine::{cpu_model, hostname};
use crate::process::{Processes, Stage};
use crate::slot::{Kind, Setup, Slot, SlotCommand};
use crate::sockets::Sockets;
use evenkeel_proto::{MAX_MESSAGE, VERSIONS, v1};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use v1::agent_message::Body as Out;
use v1::agent_service_client::AgentServiceClient;
use v1::coordinator_message::Body as In;

/// What an agent is.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub name: String,
    /// How many processes it keeps at a time, at least one.
    pub slots: u32,
    pub labels: BTreeMap<String, String>,
    /// It serves this run only, of this project if one is named, and goes when that ends.
    pub run: Option<RunName>,
    /// When it is told to go, what runs may finish for this long.
    pub drain: Duration,
    /// A directory that outlives runs.
    pub cache: PathBuf,
    /// The binary whose first argument may be [`crate::guard::ARGUMENT`].
    pub guard: PathBuf,
}

/// A run, as people name it.
#[derive(Clone, Debug)]
pub struct RunName {
    /// Empty where the run's id says it all.
    pub project: String,
    pub run: String,
    /// How long it is waited for.
    pub wait: Duration,
}

/// How many messages may wait for the stream; slots wait then.
const STREAM_QUEUE: usize = 16;
/// How many reports may wait for the batcher.
const REPORT_QUEUE: usize = 64;
/// How many commands may wait for a slot.
const SLOT_QUEUE: usize = 4096;
/// A coordinator that takes the connection has this long to say welcome.
const WELCOME: Duration = Duration::from_secs(10);

/// One process of `evenkeel agent`. See the module's documentation.
pub struct Agent {
    config: AgentConfig,
    incarnation: String,
    /// Shows that it is this incarnation that comes again.
    token: String,
    /// A coordinator has taken it in.
    known: bool,
    sockets: Sockets,
    processes: Processes,
    runs: BTreeMap<u64, OpenRun>,
    /// A slot serves one run at a time, also while an earlier one tears down.
    seats: HashMap<u32, Arc<Mutex<()>>>,
    closed: mpsc::UnboundedSender<Closure>,
    closures: mpsc::UnboundedReceiver<Closure>,
    /// What is to be opened as soon as what it had before of the same run has been closed, and what it is told of that meanwhile. The
    /// coordinator gives leases to what has started only, so that it is little.
    reopened: Vec<v1::CoordinatorMessage>,
    leaving: bool,
    /// What still runs then is broken off, and what cannot be told a little later is given up.
    drain_by: Option<tokio::time::Instant>,
    drained: bool,
    /// The run that it is for is there, or was: it has been given something to do, or told so.
    found: bool,
    dismissed: Option<v1::Dismiss>,
}

/// Something of this agent has come to its end.
enum Closure {
    Slot(u64, u32),
    Run(u64),
}

/// A run in which slots of this agent serve.
struct OpenRun {
    run: String,
    /// Under which it tells what it tells.
    opening: u64,
    kinds: Arc<[Kind]>,
    hooks: Arc<Hooks>,
    identity: Identity,
    slots: HashMap<u32, mpsc::Sender<SlotCommand>>,
    reports: Option<mpsc::Sender<Report>>,
    ways: mpsc::UnboundedSender<Way>,
    /// The highest sequence that the coordinator said it has.
    stored: u64,
    /// Nothing more of it is to be told to anybody.
    over: bool,
}

impl Agent {
    pub fn new(config: AgentConfig) -> Result<Agent, AgentError> {
        let sockets = Sockets::create().map_err(|source| AgentError::Sockets { source })?;
        let (closed, closures) = mpsc::unbounded_channel();
        Ok(Agent {
            config,
            incarnation: incarnation(),
            token: String::new(),
            known: false,
            sockets,
            processes: Processes::System,
            runs: BTreeMap::new(),
            seats: HashMap::new(),
            closed,
            closures,
            reopened: Vec::new(),
            leaving: false,
            drain_by: None,
            drained: false,
            found: false,
            dismissed: None,
        })
    }

    /// The same agent, with processes that are played.
    pub fn on(mut self, stage: Arc<dyn Stage>) -> Agent {
        self.processes = Processes::Played(stage);
        self
    }

    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// Whether slots of it serve a run, also while no session is there.
    pub fn is_busy(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Serves one session: says hello, carries out what it is told, until it is told to go and has, or the connection is lost.
    /// `shutdown` turns true when the agent is to drain and leave. `welcomed` is called when the coordinator has taken it in.
    pub async fn serve(
        &mut self,
        channel: Channel,
        mut shutdown: watch::Receiver<bool>,
        welcomed: impl FnOnce(),
    ) -> Result<Left, AgentError> {
        let mut client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        // The coordinator hears of what is open, and gives what is not anew.
        self.reopened.clear();
        if !self.known {
            // Of one whose welcome got lost the coordinator may know, and it cannot show that it is the same.
            self.incarnation = incarnation();
        }
        let (mut stream, receiver, session) = Stream::new(STREAM_QUEUE);
        stream.send(Out::Hello(self.hello())).await;
        let beginning = async {
            let answer = client.session(ReceiverStream(receiver)).await?;
            let mut incoming = answer.into_inner();
            let first = incoming.message().await?;
            Ok::<_, tonic::Status>((incoming, first))
        };
        let begun = tokio::time::timeout(WELCOME, beginning).await;
        let (mut incoming, first) = begun
            .map_err(|_| AgentError::Cut {
                message: format!("it did not answer within {} s", WELCOME.as_secs()),
            })?
            .map_err(|status| AgentError::of(&status))?;
        let Some(first) = first else {
            return Err(AgentError::Cut {
                message: "it ended the session before it began".to_owned(),
            });
        };
        let Some(In::Welcome(welcome)) = first.body else {
            return Err(AgentError::Protocol {
                what: "a session starts with a welcome",
            });
        };
        welcomed();
        self.known = true;
        if !welcome.token.is_empty() {
            self.token = welcome.token;
        }
        let every = Duration::from_millis(welcome.heartbeat_ms.into());
        let beats = Beats(tokio::spawn(heartbeats(stream.clone(), every)));
        if self.leaving {
            // It was told to go before the session was cut.
            stream.send(Out::Leaving(v1::Leaving {})).await;
        }
        let wait = self.config.run.as_ref().map(|run| run.wait);
        let unneeded = wait
            .filter(|_| !self.found)
            .map(|wait| tokio::time::Instant::now() + wait);
        let left = loop {
            if self.runs.is_empty() {
                if let Some(dismissed) = &self.dismissed {
                    break Left::Dismissed {
                        reason: dismissed.reason.clone(),
                        failed: dismissed.failed,
                    };
                }
                if self.leaving {
                    break Left::Told;
                }
            }
            let message = tokio::select! {
                message = heard(&mut incoming) => message?,
                Some(closure) = self.closures.recv() => {
                    self.has_closed(closure, &stream).await?;
                    continue;
                }
                () = told(&mut shutdown), if !self.leaving => {
                    self.leaving = true;
                    self.drain_by = Some(tokio::time::Instant::now() + self.config.drain);
                    stream.send(Out::Leaving(v1::Leaving {})).await;
                    if welcome.version < 2 {
                        self.close_all(true).await;
                    }
                    continue;
                }
                () = sleep_until(unneeded), if !self.found => {
                    let run = self.config.run.as_ref().map_or("", |run| run.run.as_str());
                    let waited = wait.unwrap_or_default().as_secs();
                    self.dismissed = Some(v1::Dismiss {
                        reason: format!("no run {run} came within {waited} s"),
                        failed: true,
                    });
                    self.found = true;
                    continue;
                }
                () = sleep_until(self.drain_by) => {
                    self.close_all(true).await;
                    self.drain_by = None;
                    if std::mem::replace(&mut self.drained, true) {
                        // Nobody takes what it still has to tell.
                        self.runs.values_mut().for_each(OpenRun::over);
                    } else {
                        self.drain_by = Some(tokio::time::Instant::now() + GOODBYE);
                    }
                    continue;
                }
            };
            self.take(message, &stream).await?;
        };
        let reason = match &left {
            Left::Told => "it was told to go".to_owned(),
            Left::Dismissed { reason, .. } => reason.clone(),
        };
        stream.send(Out::Goodbye(v1::Goodbye { reason })).await;
        drop(beats);
        drop(stream);
        // The goodbye is on its way when the other side has ended the stream.
        let ending = async { while let Ok(Some(_)) = incoming.message().await {} };
        tokio::time::timeout(GOODBYE, ending).await.ok();
        drop(session);
        Ok(left)
    }

    /// Ends everything that it runs, without another word to the coordinator.
    pub async fn end(mut self) {
        self.close_all(true).await;
        for run in self.runs.values_mut() {
            run.over();
        }
        while !self.runs.is_empty() {
            match self.closures.recv().await {
                Some(Closure::Run(number)) => self.runs.remove(&number),
                Some(Closure::Slot(..)) => continue,
                None => return,
            };
        }
    }

    async fn has_closed(&mut self, closure: Closure, stream: &Stream) -> Result<(), AgentError> {
        match closure {
            Closure::Slot(number, slot) => {
                let Some(run) = self.runs.get_mut(&number) else {
                    return Ok(());
                };
                // It may have been opened again meanwhile.
                run.slots
                    .retain(|own, commands| *own != slot || !commands.is_closed());
                if self.leaving && run.slots.is_empty() {
                    run.reports = None;
                }
            }
            Closure::Run(number) => {
                self.runs.remove(&number);
                let again = self
                    .reopened
                    .extract_if(.., |message| message.run == number);
                for message in again.collect::<Vec<_>>() {
                    self.take(message, stream).await?;
                }
            }
        }
        Ok(())
    }

    async fn close_all(&mut self, abort: bool) {
        for run in self.runs.values_mut() {
            run.close(abort).await;
        }
    }

    async fn take(
        &mut self,
        message: v1::CoordinatorMessage,
        stream: &Stream,
    ) -> Result<(), AgentError> {
        // Coordinators before version 2 name no run: they have one at a time.
        let number = match message.run {
            0 => self.runs.keys().next_back().copied().unwrap_or_default(),
            number => number,
        };
        if message.body.as_ref().is_some_and(is_for_slots)
            && self.reopened.iter().any(|waiting| waiting.run == number)
        {
            // They are opened when those of the same run before have closed.
            self.reopened.push(message);
            return Ok(());
        }
        match message.body {
            Some(In::OpenRun(opening)) => self.open(opening, stream).await,
            Some(In::CloseRun(close)) => {
                if let Some(run) = self.runs.get_mut(&number)
                    && (message.run != 0 || run.run == close.run)
                {
                    self.reopened.retain(|waiting| waiting.run != number);
                    run.close(close.abort).await;
                    run.over();
                }
            }
            Some(In::CloseSlot(close)) => {
                if let Some(run) = self.runs.get_mut(&number) {
                    run.close_slot(close.slot, close.abort).await;
                }
            }
            Some(In::Resume(resume)) => {
                if let Some(run) = self.runs.get_mut(&number) {
                    run.resume(resume, stream).await;
                }
            }
            Some(In::Ack(ack)) => {
                if let Some(run) = self.runs.get_mut(&number) {
                    run.stored = run.stored.max(ack.sequence);
                    run.ways.send(Way::Stored(ack.sequence)).ok();
                }
            }
            Some(In::Dismiss(dismiss)) => self.dismissed = Some(dismiss),
            Some(In::RunFound(_)) => self.found = true,
            // Version 2: what it does not know of is a sign of life.
            None => {}
            Some(In::Welcome(_)) => {
                return Err(AgentError::Protocol {
                    what: "a second welcome",
                });
            }
            Some(command) => {
                if let (Some(run), Some((slot, command))) =
                    (self.runs.get(&number), slot_command(command))
                    && let Some(slot) = run.slots.get(&slot)
                {
                    slot.send(command).await.ok();
                }
            }
        }
        Ok(())
    }

    fn hello(&self) -> v1::Hello {
        let (min_version, max_version) = VERSIONS;
        let config = &self.config;
        let run = config.run.as_ref();
        v1::Hello {
            min_version,
            max_version,
            agent: config.name.clone(),
            incarnation: self.incarnation.clone(),
            slots: config.slots,
            labels: config.labels.clone(),
            environment: Some(v1::Environment {
                os: std::env::consts::OS.to_owned(),
                arch: std::env::consts::ARCH.to_owned(),
                cpu: cpu_model(),
                cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
                hostname: hostname(),
                evenkeel: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            capabilities: Vec::new(),
            last_acked: 0,
            clock_us: now_us(),
            run: run.map(|run| run.run.clone()).unwrap_or_default(),
            project: run.map(|run| run.project.clone()).unwrap_or_default(),
            token: self.token.clone(),
            held: self
                .runs
                .iter()
                .filter(|(_, run)| !run.over)
                .map(|(number, run)| v1::Held {
                    number: *number,
                    last_acked: run.stored,
                    opening: run.opening,
                    slots: run.slots.keys().copied().collect(),
                })
                .collect(),
        }
    }

    /// Slots of this agent serve a run from now on, beside those that do already.
    async fn open(&mut self, opening: v1::OpenRun, stream: &Stream) {
        self.found = true;
        let number = match opening.number {
            // Before version 2 runs had no numbers, and one came after the other.
            0 => {
                self.close_all(false).await;
                let last = self.runs.keys().next_back().copied();
                last.unwrap_or_default() + 1
            }
            number => number,
        };
        if let Some(run) = self.runs.get_mut(&number) {
            if run.opening != opening.opening {
                // What it had of the run is not its own any more.
                run.close(true).await;
                run.over();
            }
            if run.reports.is_none() {
                let body = Some(In::OpenRun(opening));
                self.reopened
                    .push(v1::CoordinatorMessage { body, run: number });
                return;
            }
        }
        if !self.runs.contains_key(&number) {
            match self.new_run(number, &opening, stream) {
                Ok(run) => {
                    self.runs.insert(number, run);
                }
                Err((run, refused)) => {
                    let slot = opening.shards.first().map_or(0, |shard| shard.slot);
                    run.say(slot, v1::fact::Body::ProcessRefused(refused)).await;
                    self.runs.insert(number, run);
                    return;
                }
            }
        }
        let Some(run) = self.runs.get_mut(&number) else {
            return;
        };
        run.identity.slots = opening.slots;
        run.identity.several = opening.several || opening.slots > 1;
        run.identity.max_fail = opening.max_fail;
        if !run.hooks.join(opening.shards.len()) {
            run.hooks = hooks(&run.kinds, opening.shards.len(), &run.run);
        }
        let Some(reports) = run.reports.clone() else {
            return;
        };
        for shard in opening.shards {
            let identity = Identity {
                shard: shard.shard,
                ..run.identity.clone()
            };
            let setup = Setup {
                slot: shard.slot,
                run: number,
                kinds: Arc::clone(&run.kinds),
                hooks: Arc::clone(&run.hooks),
                first: shard.kind.min(run.kinds.len() as u32 - 1),
                identity,
                processes: self.processes.clone(),
                guard: self.config.guard.clone(),
                cache: self.config.cache.clone(),
                sockets: self.sockets.0.clone(),
            };
            let (commands, inbox) = mpsc::channel(SLOT_QUEUE);
            run.slots.insert(shard.slot, commands);
            let seat = Arc::clone(self.seats.entry(shard.slot).or_default());
            let (reports, closed) = (reports.clone(), self.closed.clone());
            tokio::spawn(async move {
                let _seat = seat.lock().await;
                let slot = setup.slot;
                Slot::new(setup, reports).run(inbox).await;
                closed.send(Closure::Slot(number, slot)).ok();
            });
        }
    }

    /// A run of which nothing is open yet; what is wrong with it where something is.
    #[allow(clippy::result_large_err)] // both are kept
    fn new_run(
        &self,
        number: u64,
        opening: &v1::OpenRun,
        stream: &Stream,
    ) -> Result<OpenRun, (OpenRun, v1::ProcessRefused)> {
        let (reports, inbox) = mpsc::channel(REPORT_QUEUE);
        let (ways, way) = mpsc::unbounded_channel();
        let stream = stream.clone();
        ways.send(Way::Open { stream, above: 0 }).ok();
        let name = (opening.run.clone(), number, opening.opening);
        let forward = batch::forward(name, inbox, way);
        let closed = self.closed.clone();
        tokio::spawn(async move {
            forward.await;
            closed.send(Closure::Run(number)).ok();
        });
        let mut kinds = Vec::new();
        let mut wrong = None;
        for (number, suite) in (0..).zip(&opening.kinds) {
            match recognise(&suite.command, &suite.runner) {
                Ok(framework) => kinds.push(Kind {
                    framework,
                    suite: suite.clone(),
                }),
                Err(error) => {
                    wrong.get_or_insert(refused(error.to_string(), number));
                }
            }
        }
        if opening.kinds.is_empty() {
            let message = "the coordinator names nothing to run".to_owned();
            wrong.get_or_insert(refused(message, 0));
        }
        let kinds: Arc<[Kind]> = kinds.into();
        let run = OpenRun {
            run: opening.run.clone(),
            opening: opening.opening,
            hooks: hooks(&kinds, 0, &opening.run),
            kinds,
            identity: Identity {
                run: opening.run.clone(),
                shard: 0,
                slots: opening.slots,
                seed: opening.seed,
                max_fail: opening.max_fail,
                several: opening.several || opening.slots > 1,
            },
            slots: HashMap::new(),
            reports: Some(reports),
            ways,
            stored: 0,
            over: false,
        };
        match wrong {
            Some(wrong) => Err((run, wrong)),
            None => Ok(run),
        }
    }
}

/// After its goodbye an agent waits this long for the coordinator to end the session.
const GOODBYE: Duration = Duration::from_secs(2);

/// What suites want done on this machine, once for so many slots.
fn hooks(kinds: &[Kind], slots: usize, run: &str) -> Arc<Hooks> {
    let suites = kinds.iter().map(|kind| &kind.suite);
    let machine = [("EVENKEEL_RUN_ID".to_owned(), run.to_owned())];
    Arc::new(Hooks::new(suites, slots, &machine))
}

/// The next message, or why there is none.
async fn heard(
    incoming: &mut tonic::Streaming<v1::CoordinatorMessage>,
) -> Result<v1::CoordinatorMessage, AgentError> {
    match incoming.message().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(AgentError::Cut {
            message: "it ended the session".to_owned(),
        }),
        Err(status) => Err(AgentError::of(&status)),
    }
}

/// Returns when it is told to go; never, where nobody is left who could tell it.
async fn told(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|down| *down).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Random, one per agent process, and not to be guessed.
fn incarnation() -> String {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    let clock = (std::process::id(), std::time::SystemTime::now());
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&bytes)
        .update(format!("{clock:?} {read:?}").as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Says that the agent is alive until it is dropped.
struct Beats(JoinHandle<()>);

impl Drop for Beats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl OpenRun {
    /// Ends its slots; those that hold something finish it first, unless they are told to break it off.
    async fn close(&mut self, abort: bool) {
        for slot in self.slots.values() {
            slot.send(SlotCommand::Close { abort }).await.ok();
        }
        self.reports = None;
    }

    fn over(&mut self) {
        self.over = true;
        self.ways.send(Way::Over).ok();
    }

    async fn close_slot(&mut self, slot: u32, abort: bool) {
        match self.slots.get(&slot) {
            Some(commands) if !commands.is_closed() => {
                commands.send(SlotCommand::Close { abort }).await.ok();
            }
            // It has gone before, or was never here: whoever asks waits for the answer.
            _ => {
                self.say(slot, v1::fact::Body::SlotClosed(v1::SlotClosed {}))
                    .await
            }
        }
    }

    /// A fact of a slot that has no task.
    async fn say(&self, slot: u32, body: v1::fact::Body) {
        let Some(reports) = &self.reports else { return };
        let fact = v1::Fact {
            at_us: now_us(),
            slot,
            body: Some(body),
        };
        let report = Report {
            facts: vec![fact],
            urgent: true,
        };
        reports.send(report).await.ok();
    }

    /// The coordinator has taken this run up again: it hears what it missed, and each slot what stands.
    async fn resume(&mut self, resume: v1::Resume, stream: &Stream) {
        let way = Way::Open {
            stream: stream.clone(),
            above: resume.sequence,
        };
        self.ways.send(way).ok();
        for standing in resume.slots {
            if let Some(slot) = self.slots.get(&standing.slot) {
                let leases = standing.leases;
                slot.send(SlotCommand::Keep { leases }).await.ok();
            }
        }
    }
}

fn is_for_slots(message: &In) -> bool {
    use In::{Ack, CloseRun, Dismiss, OpenRun, Resume, Welcome};
    !matches!(
        message,
        OpenRun(_) | CloseRun(_) | Resume(_) | Ack(_) | Dismiss(_) | Welcome(_)
    )
}

fn slot_command(body: In) -> Option<(u32, SlotCommand)> {
    Some(match body {
        In::List(list) => (
            list.slot,
            SlotCommand::List {
                kind: list.kind,
                ask: list.ask,
            },
        ),
        In::Lease(lease) => (lease.slot, SlotCommand::Lease(lease)),
        In::Revoke(revoke) => (revoke.slot, SlotCommand::Revoke(revoke)),
        In::Idle(idle) => (idle.slot, SlotCommand::Idle { ends: idle.ends }),
        In::Recycle(recycle) => (recycle.slot, SlotCommand::Recycle),
        In::Cancel(cancel) => (
            cancel.slot,
            SlotCommand::Cancel {
                lease: cancel.lease,
            },
        ),
        In::Conclude(conclude) => (conclude.slot, SlotCommand::Conclude),
        In::Finish(finish) => (
            finish.slot,
            SlotCommand::Finish {
                kind: finish.kind,
                ask: finish.ask,
                carried: finish.carried,
                more: finish.more,
            },
        ),
        In::Welcome(_)
        | In::Ack(_)
        | In::OpenRun(_)
        | In::CloseRun(_)
        | In::CloseSlot(_)
        | In::Resume(_)
        | In::Dismiss(_)
        | In::RunFound(_) => return None,
    })
}

async fn heartbeats(mut stream: Stream, every: Duration) {
    let every = every.max(Duration::from_millis(10));
    loop {
        tokio::time::sleep(every).await;
        let beat = v1::Heartbeat { clock_us: now_us() };
        if !stream.send(Out::Heartbeat(beat)).await {
            return;
        }
    }
}

fn refused(message: String, kind: u32) -> v1::ProcessRefused {
    v1::ProcessRefused {
        kind,
        reason: v1::process_refused::Reason::Usage as i32,
        message,
        ..v1::ProcessRefused::default()
    }
}

/// A bounded queue as the stream that tonic wants.
struct ReceiverStream(mpsc::Receiver<v1::AgentMessage>);

impl tokio_stream::Stream for ReceiverStream {
    type Item = v1::AgentMessage;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<v1::AgentMessage>> {
        self.0.poll_recv(context)
    }
}
