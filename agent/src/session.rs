//! The session with the coordinator: one bidirectional stream, one run at a time.

use crate::batch::{self, Report};
use crate::clock::now_us;
use crate::framework::{Identity, recognise};
use crate::hooks::Hooks;
use crate::slot::{Kind, Setup, Slot, SlotCommand};
use evenkeel_proto::{MAX_MESSAGE, VERSIONS, v1};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
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
    /// A directory that outlives runs.
    pub cache: PathBuf,
    /// The binary whose first argument may be [`crate::guard::ARGUMENT`].
    pub guard: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the coordinator ended the session: {message}")]
    Ended { message: String },
    #[error("the coordinator sent a message that is not allowed: {what}")]
    Protocol { what: &'static str },
    #[error("cannot prepare the directory for sockets")]
    Sockets {
        #[source]
        source: io::Error,
    },
}

/// How many messages may wait for the stream; slots wait then.
const STREAM_QUEUE: usize = 16;
/// How many reports may wait for the batcher.
const REPORT_QUEUE: usize = 64;
/// How many commands may wait for a slot.
const SLOT_QUEUE: usize = 1024;

struct OpenRun {
    run: String,
    slots: HashMap<u32, mpsc::Sender<SlotCommand>>,
    tasks: Vec<JoinHandle<()>>,
    /// Ends with the number of the next fact.
    forward: JoinHandle<u64>,
}

/// Serves one session: says hello, carries out what it is told, until the coordinator ends it or `shutdown` turns true.
/// Every process that it started is gone when it returns.
pub async fn serve(
    channel: Channel,
    config: &AgentConfig,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let sockets = Sockets::create().map_err(|source| AgentError::Sockets { source })?;
    let mut client = AgentServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let (stream, receiver) = mpsc::channel(STREAM_QUEUE);
    let ended = |status: tonic::Status| AgentError::Ended {
        message: status.message().to_owned(),
    };
    send(&stream, Out::Hello(hello(config))).await;
    let mut incoming = client
        .session(ReceiverStream(receiver))
        .await
        .map_err(ended)?
        .into_inner();
    let Some(In::Welcome(welcome)) = incoming
        .message()
        .await
        .map_err(ended)?
        .and_then(|message| message.body)
    else {
        return Err(AgentError::Protocol {
            what: "a session starts with a welcome",
        });
    };
    let heartbeats = tokio::spawn(heartbeats(
        stream.clone(),
        Duration::from_millis(welcome.heartbeat_ms.into()),
    ));

    let mut open: Option<OpenRun> = None;
    let mut sequence = 1;
    let result = loop {
        let message = tokio::select! {
            message = incoming.message() => message,
            _ = shutdown.wait_for(|down| *down) => break Ok(()),
        };
        let body = match message {
            Ok(Some(message)) => message.body,
            Ok(None) => break Ok(()),
            Err(status) => break Err(ended(status)),
        };
        match body {
            Some(In::OpenRun(opening)) => {
                if let Some(last) = open.take() {
                    sequence = last.close(false).await;
                }
                open = Some(start(opening, config, &sockets, sequence, &stream).await);
            }
            Some(In::CloseRun(close)) => {
                if let Some(run) = open.take_if(|run| run.run == close.run) {
                    sequence = run.close(close.abort).await;
                }
            }
            Some(In::Ack(_)) => {}
            Some(In::Welcome(_)) | None => {
                break Err(AgentError::Protocol {
                    what: "a second welcome",
                });
            }
            Some(command) => {
                if let (Some(run), Some((slot, command))) = (&open, slot_command(command))
                    && let Some(slot) = run.slots.get(&slot)
                {
                    slot.send(command).await.ok();
                }
            }
        }
    };
    if let Some(run) = open {
        run.close(true).await;
    }
    send(
        &stream,
        Out::Goodbye(v1::Goodbye {
            reason: "it was told to go".to_owned(),
        }),
    )
    .await;
    heartbeats.abort();
    result
}

fn slot_command(body: In) -> Option<(u32, SlotCommand)> {
    Some(match body {
        In::List(list) => (list.slot, SlotCommand::List { kind: list.kind }),
        In::Lease(lease) => (lease.slot, SlotCommand::Lease(lease)),
        In::Revoke(revoke) => (revoke.slot, SlotCommand::Revoke(revoke)),
        In::Idle(idle) => (idle.slot, SlotCommand::Idle { ends: idle.ends }),
        In::Recycle(recycle) => (recycle.slot, SlotCommand::Recycle),
        In::Conclude(conclude) => (conclude.slot, SlotCommand::Conclude),
        In::Finish(finish) => (
            finish.slot,
            SlotCommand::Finish {
                kind: finish.kind,
                carried: finish.carried,
                more: finish.more,
            },
        ),
        In::Welcome(_) | In::Ack(_) | In::OpenRun(_) | In::CloseRun(_) => return None,
    })
}

async fn send(stream: &mpsc::Sender<v1::AgentMessage>, body: Out) {
    // A stream that is gone shows on its other half.
    stream
        .send(v1::AgentMessage { body: Some(body) })
        .await
        .ok();
}

fn hello(config: &AgentConfig) -> v1::Hello {
    let (min_version, max_version) = VERSIONS;
    v1::Hello {
        min_version,
        max_version,
        agent: config.name.clone(),
        incarnation: format!("{}-{}", std::process::id(), now_us()),
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
    }
}

fn cpu_model() -> String {
    use std::io::BufRead;
    let Ok(file) = std::fs::File::open("/proc/cpuinfo") else {
        return String::new();
    };
    let lines = io::BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .take(16);
    let mut models = lines.filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    models.next().unwrap_or_default()
}

/// The name of this machine, empty where it has none.
pub(crate) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

async fn heartbeats(stream: mpsc::Sender<v1::AgentMessage>, every: Duration) {
    let every = every.max(Duration::from_millis(10));
    loop {
        tokio::time::sleep(every).await;
        send(
            &stream,
            Out::Heartbeat(v1::Heartbeat { clock_us: now_us() }),
        )
        .await;
    }
}

async fn start(
    opening: v1::OpenRun,
    config: &AgentConfig,
    sockets: &Sockets,
    sequence: u64,
    stream: &mpsc::Sender<v1::AgentMessage>,
) -> OpenRun {
    let (reports, inbox) = mpsc::channel(REPORT_QUEUE);
    let forward = tokio::spawn(batch::forward(
        opening.run.clone(),
        sequence,
        inbox,
        stream.clone(),
    ));
    let mut run = OpenRun {
        run: opening.run.clone(),
        slots: HashMap::new(),
        tasks: Vec::new(),
        forward,
    };
    let kinds = opening.kinds.into_iter();
    let kinds: Result<Vec<Kind>, v1::ProcessRefused> = (0..)
        .zip(kinds)
        .map(
            |(number, suite)| match recognise(&suite.command, &suite.runner) {
                Ok(framework) => Ok(Kind { framework, suite }),
                Err(error) => Err(refused(error.to_string(), number)),
            },
        )
        .collect();
    let kinds = kinds.and_then(|kinds| {
        if kinds.is_empty() {
            let message = "the coordinator names nothing to run".to_owned();
            return Err(refused(message, 0));
        }
        Ok(kinds)
    });
    match kinds {
        Ok(kinds) => {
            let kinds: Arc<[Kind]> = kinds.into();
            let suites = kinds.iter().map(|kind| &kind.suite);
            let machine = [("EVENKEEL_RUN_ID".to_owned(), opening.run.clone())];
            let hooks = Arc::new(Hooks::new(suites, opening.shards.len(), &machine));
            for shard in opening.shards {
                let setup = Setup {
                    slot: shard.slot,
                    kinds: Arc::clone(&kinds),
                    hooks: Arc::clone(&hooks),
                    first: shard.kind.min(kinds.len() as u32 - 1),
                    identity: Identity {
                        run: opening.run.clone(),
                        shard: shard.shard,
                        slots: opening.slots,
                        seed: opening.seed,
                        max_fail: opening.max_fail,
                        several: opening.several || opening.slots > 1,
                    },
                    guard: config.guard.clone(),
                    cache: config.cache.clone(),
                    sockets: sockets.0.clone(),
                };
                let (commands, inbox) = mpsc::channel(SLOT_QUEUE);
                run.slots.insert(shard.slot, commands);
                run.tasks
                    .push(tokio::spawn(Slot::new(setup, reports.clone()).run(inbox)));
            }
        }
        Err(refused) => {
            let slot = opening.shards.first().map_or(0, |shard| shard.slot);
            let fact = v1::Fact {
                at_us: now_us(),
                slot,
                body: Some(v1::fact::Body::ProcessRefused(refused)),
            };
            reports
                .send(Report {
                    facts: vec![fact],
                    urgent: true,
                })
                .await
                .ok();
        }
    }
    run
}

fn refused(message: String, kind: u32) -> v1::ProcessRefused {
    v1::ProcessRefused {
        kind,
        reason: v1::process_refused::Reason::Usage as i32,
        message,
        ..v1::ProcessRefused::default()
    }
}

impl OpenRun {
    /// Ends every slot and waits until their processes are gone and their last facts are on the stream.
    async fn close(self, abort: bool) -> u64 {
        for slot in self.slots.values() {
            slot.send(SlotCommand::Close { abort }).await.ok();
        }
        for task in self.tasks {
            task.await.ok();
        }
        self.forward.await.unwrap_or(1)
    }
}

/// A temporary directory with a longer name than this leaves no room for a socket's path.
const LONG: usize = 64;

/// A private directory with a short name: a socket's path has at most 107 bytes.
struct Sockets(PathBuf);

impl Sockets {
    fn create() -> io::Result<Sockets> {
        use std::os::unix::fs::DirBuilderExt;
        use std::sync::atomic::{AtomicU32, Ordering};
        static SESSIONS: AtomicU32 = AtomicU32::new(0);
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let temporary = match std::env::temp_dir() {
            long if long.is_dir() && long.as_os_str().len() > LONG => PathBuf::from("/tmp"),
            fits => fits,
        };
        let path = temporary.join(format!(
            "{}{}-{session}",
            crate::guard::SOCKETS,
            std::process::id()
        ));
        std::fs::remove_dir_all(&path).ok();
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Sockets(path))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
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
