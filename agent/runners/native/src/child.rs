//! A process of a test framework, started by a runner: what it prints is read while the agent is heard.

use crate::RunnerError;
use crate::conversation::Conversation;
use std::io::Write;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// When a process has ended, something that it left behind may still hold its output: it is heard for this long.
const DRAIN: Duration = Duration::from_millis(100);
/// How often it is looked whether a process that was asked to end has done so.
const LOOK: Duration = Duration::from_millis(5);
/// At most so many bytes are read at once.
const PIECE: usize = 64 << 10;

/// The agent's word that a test has run for too long.
pub(crate) struct Abort(Signal);

impl Abort {
    pub(crate) fn listen() -> Result<Abort, RunnerError> {
        let abort = signal(SignalKind::from_raw(6));
        abort.map(Abort).map_err(|source| RunnerError::Io {
            what: "signals cannot be heard".to_owned(),
            source,
        })
    }
}

/// A process with both of its outputs in one pipe, so that what it writes stays in the order in which it wrote it.
pub(crate) struct Running {
    child: Child,
    output: pipe::Receiver,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> std::io::Result<Running> {
        let (reader, writer) = std::io::pipe()?;
        let child = command
            .stdout(Stdio::from(writer.try_clone()?))
            .stderr(Stdio::from(writer))
            .spawn()?;
        // The command holds our copies of the pipe's other end.
        drop(command);
        Ok(Running {
            child,
            output: pipe::Receiver::from_owned_fd(reader.into())?,
        })
    }

    /// Serves until the process has ended. What it prints goes to `took`, with the time at which it was read.
    pub(crate) async fn serve(
        &mut self,
        conversation: &mut Conversation,
        abort: &mut Abort,
        took: &mut dyn FnMut(&mut Conversation, &[u8], Instant),
        last_words: &dyn Fn() -> String,
    ) -> Result<ExitStatus, RunnerError> {
        let mut piece = Vec::with_capacity(PIECE);
        let mut status = None;
        let mut deadline = None;
        // What the test printed goes the way of a process's last words.
        let mut aborted = false;
        let abort_if = |aborted: bool| {
            if aborted {
                let mut stderr = std::io::stderr();
                stderr.write_all(last_words().as_bytes()).ok();
                stderr.flush().ok();
                std::process::abort();
            }
        };
        loop {
            conversation.flush().await?;
            let drained = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = conversation.hear() => if !heard? {
                    // The agent is gone, and with it the right to run anything.
                    return Err(RunnerError::Protocol { what: "it went away".to_owned() });
                },
                read = self.output.read_buf(&mut piece) => {
                    let ended = !matches!(read, Ok(count) if count > 0);
                    took(conversation, &piece, Instant::now());
                    piece.clear();
                    if ended {
                        abort_if(aborted);
                        let status = match status {
                            Some(status) => status,
                            None => self.wait().await?,
                        };
                        return Ok(status);
                    }
                }
                ended = self.child.wait(), if status.is_none() => {
                    status = Some(ended.map_err(waiting)?);
                    deadline = Some(tokio::time::Instant::now() + DRAIN);
                }
                () = drained => {
                    abort_if(aborted);
                    return self.wait().await;
                }
                _ = abort.0.recv() => {
                    // The process is asked to end. When it does not do so in the time that it has, the agent ends it and us.
                    aborted = true;
                    self.ask_to_end();
                }
            }
        }
    }

    fn ask_to_end(&self) {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|pid| libc::pid_t::try_from(pid).ok())
        {
            // SAFETY: a signal to a child that nobody has waited for.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    /// Ends it and all that it started, where it leads a process group of its own. It is asked first, and has `grace` to do so
    /// by itself.
    pub(crate) async fn end_group(&mut self, grace: Duration) {
        let leader = self.child.id();
        if let Some(pid) = leader.and_then(|pid| libc::pid_t::try_from(pid).ok()) {
            let by = Instant::now() + grace;
            // SAFETY: signals to the group that this process was started as the leader of. Nobody has waited for it yet, so
            // that its number is still its own.
            unsafe { libc::kill(-pid, libc::SIGTERM) };
            while Instant::now() < by && !has_ended(pid) {
                tokio::time::sleep(LOOK.min(by - Instant::now())).await;
            }
            unsafe { libc::kill(-pid, libc::SIGKILL) };
        }
        self.child.kill().await.ok();
    }

    async fn wait(&mut self) -> Result<ExitStatus, RunnerError> {
        self.child.wait().await.map_err(waiting)
    }
}

/// Whether a child has ended, without waiting for it.
fn has_ended(pid: libc::pid_t) -> bool {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the structure is plain data that the call fills in.
    unsafe {
        let mut found: libc::siginfo_t = std::mem::zeroed();
        let asked = libc::waitid(libc::P_PID, pid as libc::id_t, &mut found, options);
        asked != 0 || found.si_pid() == pid
    }
}

fn waiting(source: std::io::Error) -> RunnerError {
    RunnerError::Io {
        what: "a test binary's end".to_owned(),
        source,
    }
}

/// How a process ended by itself, in words.
pub(crate) fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("its process exited with status {code}"),
        (None, Some(signal)) => {
            let name = match signal {
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                8 => " (SIGFPE)",
                9 => " (SIGKILL)",
                11 => " (SIGSEGV)",
                15 => " (SIGTERM)",
                _ => "",
            };
            format!("its process was killed by signal {signal}{name}")
        }
        (None, None) => "its process ended".to_owned(),
    }
}
