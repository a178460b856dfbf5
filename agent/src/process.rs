//! One process of a slot: starting it behind its guard, talking to it, ending it.
//!
//! Where processes come from is a seam: the operating system starts them, or a simulation plays them, and the slot sees no difference.

use crate::guard;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream};
use tokio::net::UnixListener;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What to start, as a framework says it.
#[derive(Clone, Debug)]
pub(crate) struct Spawn {
    pub argv: Vec<String>,
    pub directory: PathBuf,
    /// On top of the agent's own environment; `None` removes.
    pub environment: Vec<(String, Option<String>)>,
}

/// How much of a process's standard error is kept for the report of its death, in bytes.
const TAIL: usize = 16 << 10;

/// Where the processes of an agent's slots come from.
#[derive(Clone)]
pub(crate) enum Processes {
    /// The operating system, each behind its guard.
    System,
    Played(Arc<dyn Stage>),
}

/// Plays processes in the place of the operating system.
pub trait Stage: Send + Sync {
    /// A process comes up: what it would be started as, the agent's own environment aside.
    fn enter(&self, argv: &[String], environment: &[(String, Option<String>)]) -> Played;
}

/// A process that is played.
pub struct Played {
    /// The agent's end of the runner's connection, over which the runner protocol is spoken.
    pub connection: DuplexStream,
    /// How it ends. Dropped, it has been killed by SIGKILL.
    pub ended: oneshot::Receiver<ExitStatus>,
    /// Dropped when it is to end at once.
    pub lifeline: oneshot::Sender<()>,
}

pub(crate) enum Process {
    Child(Box<Guarded>),
    Played {
        ended: oneshot::Receiver<ExitStatus>,
        lifeline: Option<oneshot::Sender<()>>,
    },
}

/// A process of the operating system and its guard.
pub(crate) struct Guarded {
    child: Child,
    /// The guard's standard input. A byte tells the guard to end everything, its closing that the agent is gone.
    lifeline: Option<ChildStdin>,
    socket: PathBuf,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

/// A runner that has connected.
pub(crate) struct Connected {
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Processes {
    /// Starts the command behind a guard. The receiver yields the runner's connection once it has connected.
    pub(crate) fn start(
        &self,
        spawn: &Spawn,
        guard: &Path,
        socket: PathBuf,
    ) -> io::Result<(Process, oneshot::Receiver<io::Result<Connected>>)> {
        match self {
            Processes::System => {
                let (guarded, connected) = Guarded::start(spawn, guard, socket)?;
                Ok((Process::Child(Box::new(guarded)), connected))
            }
            Processes::Played(stage) => {
                let played = stage.enter(&spawn.argv, &spawn.environment);
                let (reader, writer) = tokio::io::split(played.connection);
                let (connects, connected) = oneshot::channel();
                let (reader, writer) = (Box::new(reader), Box::new(writer));
                connects.send(Ok(Connected { reader, writer })).ok();
                let process = Process::Played {
                    ended: played.ended,
                    lifeline: Some(played.lifeline),
                };
                Ok((process, connected))
            }
        }
    }
}

impl Guarded {
    fn start(
        spawn: &Spawn,
        guard: &Path,
        socket: PathBuf,
    ) -> io::Result<(Guarded, oneshot::Receiver<io::Result<Connected>>)> {
        std::fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(&socket)?;
        let mut command = Command::new(guard);
        command
            .arg(guard::ARGUMENT)
            .arg(&socket)
            .args(&spawn.argv)
            .current_dir(&spawn.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Signals from the terminal are for the command line, which decides what becomes of the slots.
            .process_group(0)
            .env("EVENKEEL_SOCKET", &socket);
        for (name, value) in &spawn.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command.spawn()?;
        let lifeline = child.stdin.take();
        let stdout = keep_tail(child.stdout.take());
        let stderr = keep_tail(child.stderr.take());
        let (connected, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let accepted = listener.accept().await.map(|(stream, _)| {
                let (reader, writer) = stream.into_split();
                let (reader, writer) = (Box::new(reader), Box::new(writer));
                Connected { reader, writer }
            });
            // Nobody waits any more when the process ended before it connected.
            connected.send(accepted).ok();
        });
        Ok((
            Guarded {
                child,
                lifeline,
                socket,
                stdout,
                stderr,
            },
            receiver,
        ))
    }

    fn kill(&mut self) {
        if let Some(lifeline) = self.lifeline.take() {
            // SAFETY: writes one byte to a pipe that is open and empty, so it cannot block; a guard that ended is no loss.
            unsafe { libc::write(lifeline.as_raw_fd(), [1u8].as_ptr().cast(), 1) };
        }
    }

    async fn tails(self) -> (String, String) {
        std::fs::remove_file(&self.socket).ok();
        (tail_of(self.stdout).await, tail_of(self.stderr).await)
    }
}

impl Process {
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Process::Child(guarded) => guarded.child.wait().await,
            Process::Played { ended, .. } => {
                Ok(ended.await.unwrap_or(ExitStatus::from_raw(libc::SIGKILL)))
            }
        }
    }

    /// Ends the process and everything below it, now.
    pub(crate) fn kill(&mut self) {
        match self {
            Process::Child(guarded) => guarded.kill(),
            Process::Played { lifeline, .. } => drop(lifeline.take()),
        }
    }

    /// What the process wrote last: standard output, standard error. To be called after its end.
    pub(crate) async fn tails(self) -> (String, String) {
        match self {
            Process::Child(guarded) => guarded.tails().await,
            Process::Played { .. } => (String::new(), String::new()),
        }
    }
}

async fn tail_of(reader: JoinHandle<Vec<u8>>) -> String {
    /// A grandchild that escaped may hold the pipe open for ever.
    const PATIENCE: Duration = Duration::from_millis(200);
    match tokio::time::timeout(PATIENCE, reader).await {
        Ok(Ok(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::new(),
    }
}

/// Reads a stream to its end and keeps the last of it.
fn keep_tail(
    stream: Option<impl tokio::io::AsyncRead + Unpin + Send + 'static>,
) -> JoinHandle<Vec<u8>> {
    tokio::spawn(async move {
        let mut kept = Vec::new();
        let Some(mut stream) = stream else {
            return kept;
        };
        let mut buffer = vec![0; 8 << 10];
        while let Ok(count) = stream.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            kept.extend_from_slice(&buffer[..count]);
            if kept.len() > 2 * TAIL {
                kept.drain(..kept.len() - TAIL);
            }
        }
        kept
    })
}

/// Asks a process to dump where it is and die (a framework's fault handler prints on SIGABRT).
pub(crate) fn abort(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 1
    {
        // SAFETY: a signal to a process that this agent's runner named as itself.
        unsafe { libc::kill(pid, libc::SIGABRT) };
    }
}
