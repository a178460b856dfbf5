//! A process that runs some tests of a target, one after the other.

use super::libtest::{self, Left, Reader, Seen};
use crate::RunnerError;
use crate::conversation::Conversation;
use crate::wire::{CaseResult, Objection, Outcome};
use std::io::Write;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// When a process has ended, something that it left behind may still hold its output: it is heard for this long.
const DRAIN: Duration = Duration::from_millis(100);
/// At most so many bytes are read at once.
const PIECE: usize = 64 << 10;

/// The agent's word that a test has run for too long.
pub(super) struct Abort(Signal);

impl Abort {
    pub(super) fn listen() -> Result<Abort, RunnerError> {
        let abort = signal(SignalKind::from_raw(6));
        abort.map(Abort).map_err(|source| RunnerError::Io {
            what: "signals cannot be heard".to_owned(),
            source,
        })
    }
}

/// What became of a batch.
pub(super) struct Ran {
    /// Tests that the process did not come to.
    pub unstarted: Vec<usize>,
    /// From its start until the first test started, or until it ended.
    pub startup: Duration,
    /// What it paid once, apart from its start.
    pub setup: Duration,
    /// How long it took from its first test on.
    pub running: Duration,
    pub started: usize,
    /// What it said where it started no test at all, and how it ended.
    pub nothing: Option<String>,
    pub objection: Option<Objection>,
}

/// A process with both of its outputs in one pipe, so that what it writes stays in the order in which it wrote it.
struct Running {
    child: Child,
    output: pipe::Receiver,
}

impl Running {
    fn start(mut command: Command) -> std::io::Result<Running> {
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
    async fn serve(
        &mut self,
        conversation: &mut Conversation,
        abort: &mut Abort,
        took: &mut dyn FnMut(&mut Conversation, &[u8], Instant),
        last_words: &dyn Fn() -> String,
    ) -> Result<ExitStatus, RunnerError> {
        let mut piece = Vec::with_capacity(PIECE);
        let mut status = None;
        let mut deadline = None;
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
                () = drained => return self.wait().await,
                _ = abort.0.recv() => {
                    // What the test printed goes the way of a process's last words.
                    let mut stderr = std::io::stderr();
                    stderr.write_all(last_words().as_bytes()).ok();
                    stderr.flush().ok();
                    std::process::abort();
                }
            }
        }
    }

    async fn wait(&mut self) -> Result<ExitStatus, RunnerError> {
        self.child.wait().await.map_err(waiting)
    }
}

fn waiting(source: std::io::Error) -> RunnerError {
    RunnerError::Io {
        what: "a test binary's end".to_owned(),
        source,
    }
}

/// Runs tests of a binary that speaks libtest's format: each one's position and name.
pub(super) async fn run(
    conversation: &mut Conversation,
    abort: &mut Abort,
    command: Command,
    unit: &str,
    tests: &[(usize, String)],
) -> Result<Ran, RunnerError> {
    let began = Instant::now();
    let cases: Vec<usize> = tests.iter().map(|&(case, _)| case).collect();
    let mut running = match Running::start(command) {
        Ok(running) => running,
        Err(error) => {
            return Ok(Ran {
                unstarted: cases,
                startup: began.elapsed(),
                setup: Duration::ZERO,
                running: Duration::ZERO,
                started: 0,
                nothing: Some(format!("it cannot be started: {error}")),
                objection: None,
            });
        }
    };
    let reader = std::cell::RefCell::new(Reader::new(
        tests.iter().map(|(case, name)| (*case, name.as_str())),
    ));
    let mut first = None;
    let mut setup = Duration::ZERO;
    let mut took = |conversation: &mut Conversation, bytes: &[u8], at: Instant| {
        let mut seen = Vec::new();
        reader.borrow_mut().feed(bytes, at, &mut seen);
        if !seen.is_empty() {
            first.get_or_insert(at);
        }
        setup += tell(conversation, seen);
    };
    let last_words = || reader.borrow().output_so_far();
    let status = running
        .serve(conversation, abort, &mut took, &last_words)
        .await?;
    let ended = Instant::now();
    let first = first.unwrap_or(ended);
    let mut seen = Vec::new();
    let left = reader.into_inner().finish(ended, &mut seen);
    setup += tell(conversation, seen);
    let started = tests.len() - left.unstarted.len();
    if let Some((case, since, output)) = &left.broken {
        let message = format!("{} while this test ran", libtest::ending(status));
        let result = CaseResult {
            detail: output.clone(),
            ..CaseResult::new(Outcome::Error, message)
        };
        let span = Span {
            started: *since,
            ended,
            setup: Duration::ZERO,
        };
        end(conversation, *case, span, &result);
    }
    Ok(Ran {
        startup: first - began,
        setup,
        running: ended - first,
        started,
        nothing: (started == 0).then(|| {
            let ending = libtest::ending(status);
            format!("{ending} before it ran a test\n{}", left.said)
        }),
        objection: objection(unit, &left, status),
        unstarted: left.unstarted,
    })
}

/// Runs a binary that is one test as a whole.
pub(super) async fn run_whole(
    conversation: &mut Conversation,
    abort: &mut Abort,
    command: Command,
    case: usize,
) -> Result<(), RunnerError> {
    let began = Instant::now();
    conversation.start(case, conversation.at(began));
    let output = std::cell::RefCell::new(Reader::new(std::iter::empty()));
    let mut took = |_: &mut Conversation, bytes: &[u8], at: Instant| {
        output.borrow_mut().feed(bytes, at, &mut Vec::new());
    };
    let last_words = || output.borrow().output_so_far();
    let result = match Running::start(command) {
        Ok(mut running) => {
            let status = running
                .serve(conversation, abort, &mut took, &last_words)
                .await?;
            let printed = last_words();
            match (status.success(), status.code()) {
                (true, _) => CaseResult {
                    output: libtest::printed_output(printed),
                    ..CaseResult::new(Outcome::Passed, "")
                },
                (false, code) => CaseResult {
                    detail: printed,
                    ..CaseResult::new(
                        code.map_or(Outcome::Error, |_| Outcome::Failed),
                        libtest::ending(status),
                    )
                },
            }
        }
        Err(error) => CaseResult::new(Outcome::Error, format!("it cannot be started: {error}")),
    };
    let span = Span {
        started: began,
        ended: Instant::now(),
        setup: Duration::ZERO,
    };
    end(conversation, case, span, &result);
    Ok(())
}

/// Passes on what was seen; how much of it was set-up.
fn tell(conversation: &mut Conversation, seen: Vec<Seen>) -> Duration {
    let mut setups = Duration::ZERO;
    for seen in seen {
        match seen {
            Seen::Start { case, at } => conversation.start(case, conversation.at(at)),
            Seen::End {
                case,
                started,
                at,
                setup,
                result,
            } => {
                setups += setup;
                let span = Span {
                    started,
                    ended: at,
                    setup,
                };
                end(conversation, case, span, &result);
            }
        }
    }
    setups
}

/// When a test ran, and what of that time set up what its process pays once.
struct Span {
    started: Instant,
    ended: Instant,
    setup: Duration,
}

fn end(conversation: &mut Conversation, case: usize, span: Span, result: &CaseResult) {
    let at = conversation.at(span.ended);
    let duration = at - conversation.at(span.started).min(at);
    let setup = u64::try_from(span.setup.as_micros()).unwrap_or(u64::MAX);
    conversation.end(case, at, (duration, setup.min(duration)), result);
}

/// Why a binary whose tests are all accounted for has failed all the same, if it has.
fn objection(unit: &str, left: &Left, status: ExitStatus) -> Option<Objection> {
    let sums = left.sums?;
    let counted = left.counted;
    if sums != counted {
        return Some(Objection {
            message: format!(
                "{unit} sums up to {} passed, {} failed, {} ignored, but {} passed, {} failed, {} ignored were read from it",
                sums.passed,
                sums.failed,
                sums.ignored,
                counted.passed,
                counted.failed,
                counted.ignored
            ),
            detail: String::new(),
        });
    }
    let as_said = match status.code() {
        Some(0) => sums.failed == 0,
        Some(_) => sums.failed > 0,
        None => false,
    };
    (!as_said).then(|| Objection {
        message: format!("{unit}: {} after its last test", libtest::ending(status)),
        detail: String::new(),
    })
}
