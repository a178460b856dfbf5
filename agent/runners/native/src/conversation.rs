//! A runner's side of the runner protocol: what it was asked to do, what it holds, and what it has to tell.
//!
//! Operations are heard whenever the runner waits for something. What concerns leases that have not begun, or cases that
//! have not been claimed for a process, is answered here at once.

use crate::RunnerError;
use crate::wire::{Case, CaseResult, Event, Key, Lease, Level, Objection, Op, Unit};
use std::collections::{HashSet, VecDeque};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Cases in one line of a declaration.
const CHUNK: usize = 2000;
/// So many cases are named where others were asked for.
const INSTEAD: usize = 1000;

/// What to do next.
pub(crate) enum Task {
    List,
    Run(Lease),
    Stop,
}

pub(crate) struct Conversation {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// The beginning of a line that has not come whole yet.
    line: Vec<u8>,
    out: Vec<u8>,
    tasks: VecDeque<Task>,
    /// Revokes of leases that are queued, each with the position from which on it is to be given back.
    early: Vec<(u64, usize)>,
    /// The last lease of a bundle whose first have been taken was given back.
    cut: bool,
    current: Option<Current>,
    origin: Instant,
}

/// The lease that has begun.
struct Current {
    lease: u64,
    cases: Vec<Case>,
    states: Vec<State>,
    /// No case before this one is free.
    first_free: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// A process has been told to run it.
    Claimed,
    Done,
    Returned,
}

impl Conversation {
    /// Connects to the agent that started this process. No child of this process sees how.
    pub(crate) async fn connect() -> Result<Conversation, RunnerError> {
        let socket = std::env::var_os(crate::cargo::SOCKET).ok_or(RunnerError::NoSocket)?;
        let stream = UnixStream::connect(socket)
            .await
            .map_err(RunnerError::Socket)?;
        let (reader, writer) = stream.into_split();
        Ok(Conversation {
            reader: BufReader::new(reader),
            writer,
            line: Vec::new(),
            out: Vec::new(),
            tasks: VecDeque::new(),
            early: Vec::new(),
            cut: false,
            current: None,
            origin: Instant::now(),
        })
    }

    /// A time as the protocol writes it: microseconds since this process connected.
    pub(crate) fn at(&self, time: Instant) -> u64 {
        let elapsed = time.saturating_duration_since(self.origin);
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn say(&mut self, event: &Event<'_>) {
        serde_json::to_writer(&mut self.out, event).expect("events are plain data");
        self.out.push(b'\n');
    }

    /// Sends what has been said.
    pub(crate) async fn flush(&mut self) -> Result<(), RunnerError> {
        if !self.out.is_empty() {
            self.writer
                .write_all(&self.out)
                .await
                .map_err(RunnerError::Socket)?;
            self.out.clear();
        }
        Ok(())
    }

    /// The next thing to do.
    pub(crate) async fn next_task(&mut self) -> Result<Task, RunnerError> {
        loop {
            if let Some(task) = self.tasks.pop_front() {
                return Ok(task);
            }
            self.flush().await?;
            if !self.hear().await? {
                return Ok(Task::Stop);
            }
        }
    }

    /// The next lease of the bundle that has been begun to be taken, which stays queued; none where there is no more of it.
    pub(crate) async fn next_of_bundle(&mut self) -> Result<Option<&Lease>, RunnerError> {
        while self.tasks.is_empty() && !std::mem::take(&mut self.cut) {
            self.flush().await?;
            if !self.hear().await? {
                break;
            }
        }
        Ok(match self.tasks.front() {
            Some(Task::Run(lease)) => Some(lease),
            _ => None,
        })
    }

    /// Takes the lease that is queued first.
    pub(crate) fn take_run(&mut self) -> Option<Lease> {
        match self.tasks.pop_front()? {
            Task::Run(lease) => Some(lease),
            other => {
                self.tasks.push_front(other);
                None
            }
        }
    }

    /// Waits for an operation and takes it in; false once the agent is gone. May be dropped while it waits.
    pub(crate) async fn hear(&mut self) -> Result<bool, RunnerError> {
        let read = self.reader.read_until(b'\n', &mut self.line).await;
        if read.map_err(RunnerError::Socket)? == 0 {
            return Ok(false);
        }
        let op = serde_json::from_slice(&self.line).map_err(|error| RunnerError::Protocol {
            what: error.to_string(),
        })?;
        self.line.clear();
        match op {
            Op::List => self.tasks.push_back(Task::List),
            Op::Run(lease) => self.tasks.push_back(Task::Run(lease)),
            Op::Stop => self.tasks.push_back(Task::Stop),
            Op::Idle => {}
            Op::Revoke { lease, from } => self.revoke(lease, from),
        }
        Ok(true)
    }

    fn revoke(&mut self, lease: u64, from: usize) {
        let queued = self
            .tasks
            .iter()
            .position(|task| matches!(task, Task::Run(queued) if queued.lease == lease));
        let current = self
            .current
            .as_mut()
            .filter(|current| current.lease == lease);
        let (cases, all) = match (queued, current) {
            (Some(queued), _) if from == 0 => {
                if let Some(Task::Run(gone)) = self.tasks.remove(queued) {
                    // The one before it is the last of the bundle now, whoever holds it.
                    let before = queued.checked_sub(1).and_then(|at| self.tasks.get_mut(at));
                    match before {
                        Some(Task::Run(before)) => before.more &= gone.more,
                        _ => self.cut |= !gone.more,
                    }
                }
                (Vec::new(), true)
            }
            // What it has is not known before it is loaded.
            (Some(_), _) => return self.early.push((lease, from)),
            (None, Some(current)) => (current.give_back(from), false),
            (None, None) => (Vec::new(), false),
        };
        self.say(&Event::Returned {
            lease,
            cases: &cases,
            all,
        });
    }

    /// Gives a lease back of which nothing was declared, unasked: it is to be run apart from others.
    pub(crate) fn give_back_unrun(&mut self, lease: &Lease) {
        self.say(&Event::Returned {
            lease: lease.lease,
            cases: &[],
            all: true,
        });
    }

    pub(crate) fn log(&mut self, level: Level, text: &str) {
        self.say(&Event::Log { level, text });
    }

    pub(crate) fn listed(&mut self, units: &[Unit], more: bool) {
        self.say(&Event::Listed { units, more });
    }

    pub(crate) fn begin(&mut self, lease: &Lease, at: u64) {
        self.say(&Event::Begin {
            lease: lease.lease,
            at,
        });
    }

    /// Declares what of a unit's cases the lease has.
    pub(crate) fn declare(&mut self, lease: &Lease, unit: Vec<Case>) {
        let named = |keys: &[Key]| -> HashSet<Key> { keys.iter().cloned().collect() };
        let (only, skip) = (named(&lease.only), named(&lease.skip));
        let mut instead: Vec<Key> = unit.iter().take(INSTEAD).map(Case::key).collect();
        let cases: Vec<Case> = if only.is_empty() && skip.is_empty() {
            unit
        } else {
            let wanted = |case: &Case| {
                let key = case.key();
                (only.is_empty() || only.contains(&key)) && !skip.contains(&key)
            };
            unit.into_iter().filter(wanted).collect()
        };
        if cases.len() >= only.len() {
            instead.clear();
        }
        let mut chunks = cases.chunks(CHUNK).peekable();
        if chunks.peek().is_none() {
            self.say_declared(lease.lease, &[], false, &instead);
        }
        while let Some(chunk) = chunks.next() {
            let more = chunks.peek().is_some();
            let instead: &[Key] = if more { &[] } else { &instead };
            self.say_declared(lease.lease, chunk, more, instead);
        }
        self.current = Some(Current {
            lease: lease.lease,
            states: vec![State::Free; cases.len()],
            cases,
            first_free: 0,
        });
        let revoked = |&mut (revoked, _): &mut (u64, usize)| revoked == lease.lease;
        let early: Vec<(u64, usize)> = self.early.extract_if(.., revoked).collect();
        for (lease, from) in early {
            self.revoke(lease, from);
        }
    }

    fn say_declared(&mut self, lease: u64, cases: &[Case], more: bool, instead: &[Key]) {
        self.say(&Event::Declare {
            lease,
            cases,
            more,
            instead,
        });
    }

    /// The next cases that are free, at most so many but all of a group: a process is going to run them.
    pub(crate) fn claim(&mut self, most: usize) -> Vec<usize> {
        let Some(current) = &mut self.current else {
            return Vec::new();
        };
        let mut claimed: Vec<usize> = Vec::new();
        for case in current.first_free..current.cases.len() {
            if current.states[case] != State::Free {
                continue;
            }
            let group = &current.cases[case].group;
            let torn = !group.is_empty()
                && claimed
                    .last()
                    .is_some_and(|&last| current.cases[last].group == *group);
            if claimed.len() >= most && !torn {
                break;
            }
            current.states[case] = State::Claimed;
            current.first_free = case + 1;
            claimed.push(case);
        }
        claimed
    }

    /// Waits until some of the lease that has begun has been taken back, but not for long.
    pub(crate) async fn hear_of_sharing(&mut self) -> Result<(), RunnerError> {
        /// A round to the coordinator and back takes a few milliseconds.
        const PATIENCE: std::time::Duration = std::time::Duration::from_millis(50);
        self.flush().await?;
        let before = self.free();
        let until = tokio::time::Instant::now() + PATIENCE;
        while self.free() == before {
            let Ok(heard) = tokio::time::timeout_at(until, self.hear()).await else {
                break;
            };
            if !heard? {
                break;
            }
        }
        self.flush().await
    }

    /// How many cases no process has been told to run.
    pub(crate) fn free(&self) -> usize {
        let states = self.current.iter().flat_map(|current| &current.states);
        states.filter(|&&state| state == State::Free).count()
    }

    /// What was claimed and has not been run is free again.
    pub(crate) fn release(&mut self, cases: &[usize]) {
        if let Some(current) = &mut self.current {
            for &case in cases {
                current.states[case] = State::Free;
                current.first_free = current.first_free.min(case);
            }
        }
    }

    pub(crate) fn case(&self, case: usize) -> &Case {
        let current = self.current.as_ref().expect("a lease has begun");
        &current.cases[case]
    }

    pub(crate) fn start(&mut self, case: usize, at: u64) {
        let lease = self.current.as_ref().map_or(0, |current| current.lease);
        self.say(&Event::Start { lease, case, at });
    }

    /// `took` is the case's duration and what of it was set-up, both in microseconds.
    pub(crate) fn end(&mut self, case: usize, at: u64, took: (u64, u64), result: &CaseResult) {
        let Some(current) = &mut self.current else {
            return;
        };
        current.states[case] = State::Done;
        let lease = current.lease;
        self.say(&Event::End {
            lease,
            case,
            at,
            duration_us: took.0,
            setup_us: took.1,
            result,
        });
    }

    pub(crate) fn close(&mut self, setup_us: u64) {
        self.close_at(self.at(Instant::now()), setup_us);
    }

    pub(crate) fn close_at(&mut self, at: u64, setup_us: u64) {
        if let Some(current) = self.current.take() {
            self.say(&Event::Close {
                lease: current.lease,
                at,
                setup_us,
            });
        }
    }

    pub(crate) async fn bye(mut self, failed: &[Objection]) -> Result<(), RunnerError> {
        self.say(&Event::Bye { failed });
        self.flush().await
    }
}

impl Current {
    /// Every case from this one on that no process has been told to run, but no part of a group that is kept.
    fn give_back(&mut self, from: usize) -> Vec<usize> {
        let kept: HashSet<&str> = (0..self.cases.len())
            .filter(|&case| case < from || self.states[case] != State::Free)
            .map(|case| self.cases[case].group.as_str())
            .filter(|group| !group.is_empty())
            .collect();
        let given: Vec<usize> = (from..self.cases.len())
            .filter(|&case| self.states[case] == State::Free)
            .filter(|&case| !kept.contains(self.cases[case].group.as_str()))
            .collect();
        for &case in &given {
            self.states[case] = State::Returned;
        }
        given
    }
}
