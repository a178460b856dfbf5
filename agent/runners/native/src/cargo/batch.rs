//! A process that runs some tests of a target, one after the other.

use super::libtest::{self, Left, Reader, Seen};
use crate::RunnerError;
use crate::child::{Abort, Running, ending};
use crate::conversation::Conversation;
use crate::wire::{CaseResult, Objection, Outcome};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::process::Command;

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

/// Runs tests of a binary that speaks libtest's format: each one's position and name. `others` may run beside them.
pub(super) async fn run(
    conversation: &mut Conversation,
    abort: &mut Abort,
    command: Command,
    unit: &str,
    tests: &[(usize, String)],
    others: &[&str],
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
        others.iter().copied(),
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
        let message = format!("{} while this test ran", ending(status));
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
            let ending = ending(status);
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
    let output = std::cell::RefCell::new(Reader::new(std::iter::empty(), std::iter::empty()));
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
                        ending(status),
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
        message: format!("{unit}: {} after its last test", ending(status)),
        detail: String::new(),
    })
}
