//! A live process of a slot: its leases, its place in the protocol, and what its events say.

use super::grant::{Grant, Pace};
use super::{CONNECT, LOADING, LONG, STOP, Wake, keys, op_line};
use crate::clock::{self, Alignment, now_us};
use crate::process::{Connected, Process, Spawn};
use crate::runner::{
    Carried, DeclaredCase, End, Hello, Key, Level, MAX_LINE, Objection, Op, Outcome, PROTOCOL,
    Refusal, RunnerEvent, Summary,
};
use evenkeel_proto::v1;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use v1::fact::Body;
use v1::process_ended::Cause;

/// The connection to the runner.
pub(super) enum Wire {
    Connecting(oneshot::Receiver<io::Result<Connected>>),
    Open(Connected),
    Closed,
}

impl Wire {
    /// Waits for the connection, or for bytes.
    pub(super) async fn next(&mut self, buffer: &mut Vec<u8>) -> Wake {
        match self {
            Wire::Connecting(receiver) => match receiver.await {
                Ok(connected) => Wake::Connected(connected),
                Err(_) => std::future::pending().await,
            },
            Wire::Open(connected) => Wake::Read(connected.reader.read_buf(buffer).await),
            Wire::Closed => std::future::pending().await,
        }
    }
}

/// Why the agent ended a process.
pub(super) struct Killed {
    pub cause: Cause,
    pub explanation: String,
}

struct LeaseState {
    lease: u64,
    generation: u32,
    begun_at: Option<u64>,
    declared: bool,
    /// For each declared case whether it has ended or was returned.
    done: Vec<bool>,
    left: usize,
    ids: HashSet<(String, u32)>,
    /// Absent where the process starts cases without asking.
    grant: Option<Grant>,
}

struct Running {
    case: u32,
    started_at: u64,
    ordinal: u32,
    shown: bool,
}

pub(super) struct Live {
    pub process: Process,
    pub wire: Wire,
    pub buffer: Vec<u8>,
    pub outgoing: Vec<u8>,
    pub hello: bool,
    pub can_revoke: bool,
    can_grant: bool,
    pace: Pace,
    /// Nothing is read before this: the process only goes from case to case.
    nap: Option<Instant>,
    farewell: Option<v1::Farewell>,
    pub pid: u32,
    pub used: bool,
    pub started: Instant,
    pub stopping: bool,
    pub stop_by: Option<Instant>,
    pub killed: Option<Killed>,
    pub deadline: Option<Instant>,
    pub last_words: Option<Instant>,
    pub refused: Option<v1::ProcessRefused>,
    pub urgent: bool,
    pub leases: VecDeque<LeaseHandle>,
    spawn: Spawn,
    told_idle: bool,
    /// Its last case cannot end before it knows what comes next.
    waiting: bool,
    listing: bool,
    listed: bool,
    /// Names of the units listed so far.
    units: HashSet<String>,
    bye: bool,
    running: Option<Running>,
    ordinal: u32,
    alignment: Alignment,
}

/// A lease that the process holds, whole or in part.
pub(super) struct LeaseHandle(LeaseState);

/// What the slot knows that its process does not.
pub(super) struct Context<'a> {
    pub slot: u32,
    pub incarnation: u32,
    pub directory: &'a str,
    pub deadline: Option<Duration>,
    /// More leases wait behind those that the process holds.
    pub reserve: bool,
}

/// How a process ended.
pub(super) struct Ending {
    pub cause: Cause,
    pub code: i32,
    pub in_flight: Option<v1::InFlight>,
    pub explanation: String,
}

impl Live {
    pub(super) fn new(
        process: Process,
        connected: oneshot::Receiver<io::Result<Connected>>,
        spawn: Spawn,
    ) -> Live {
        Live {
            process,
            wire: Wire::Connecting(connected),
            buffer: Vec::with_capacity(64 << 10),
            outgoing: Vec::new(),
            hello: false,
            can_revoke: false,
            can_grant: false,
            pace: Pace::new(),
            nap: None,
            farewell: None,
            pid: 0,
            used: false,
            started: Instant::now(),
            stopping: false,
            stop_by: None,
            killed: None,
            deadline: None,
            last_words: None,
            refused: None,
            urgent: false,
            leases: VecDeque::new(),
            spawn,
            told_idle: false,
            waiting: false,
            listing: false,
            listed: false,
            units: HashSet::new(),
            bye: false,
            running: None,
            ordinal: 0,
            alignment: Alignment::default(),
        }
    }

    pub(super) fn send(&mut self, op: &Op<'_>) {
        op_line(op, &mut self.outgoing);
    }

    pub(super) fn list(&mut self) {
        if !self.listing {
            self.listing = true;
            self.send(&Op::List);
        }
    }

    pub(super) fn idle(&mut self) {
        if !std::mem::replace(&mut self.told_idle, true) {
            self.send(&Op::Idle);
        }
    }

    pub(super) fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.stop_by = Some(Instant::now() + STOP);
            self.send(&Op::Stop);
        }
    }

    pub(super) fn lease(&mut self, lease: v1::Lease) {
        self.used = true;
        self.told_idle = false;
        self.waiting = false;
        let (only, skip) = (keys(lease.only), keys(lease.skip));
        let grant = self.can_grant.then(|| Grant {
            to: self.pace.window(),
            taken_from: None,
        });
        self.send(&Op::Run {
            lease: lease.lease,
            unit: &lease.unit,
            only: &only,
            skip: &skip,
            grant: grant.as_ref().map(|grant| grant.to),
        });
        self.leases.push_back(LeaseHandle(LeaseState {
            lease: lease.lease,
            generation: lease.generation,
            begun_at: None,
            declared: false,
            done: Vec::new(),
            left: 0,
            ids: HashSet::new(),
            grant,
        }));
    }

    /// Whether it has room for a unit: it has none, or waits to hear of the next one.
    pub(super) fn takes_more(&self) -> bool {
        self.leases.is_empty() || self.waiting
    }

    /// Takes back what the process cannot have started: from this position on, and not granted yet. Their positions.
    pub(super) fn take_back(&mut self, lease: u64, from: u32) -> Vec<u32> {
        let held = self.leases.iter_mut().find(|held| held.0.lease == lease);
        let Some(held) = held.map(|held| &mut held.0).filter(|held| held.declared) else {
            return Vec::new();
        };
        let Some(grant) = &mut held.grant else {
            return Vec::new();
        };
        let from = from.max(grant.to);
        grant.taken_from = Some(grant.taken_from.map_or(from, |taken| taken.min(from)));
        let open = (from..held.done.len() as u32).filter(|&case| !held.done[case as usize]);
        let cases: Vec<u32> = open.collect();
        for &case in &cases {
            held.done[case as usize] = true;
        }
        held.left -= cases.len();
        cases
    }

    /// Sends what the process that concludes the run needs, and brings it to its end.
    pub(super) fn conclude_run(&mut self, carried: Vec<Carried>) {
        /// Bytes of one operation, roughly.
        const CHUNK: usize = 8 << 20;
        let mut chunks: Vec<Vec<Carried>> = vec![Vec::new()];
        let mut size = 0;
        for one in carried {
            size += one.carry.len();
            if size > CHUNK && chunks.last().is_some_and(|chunk| !chunk.is_empty()) {
                chunks.push(Vec::new());
                size = one.carry.len();
            }
            chunks.last_mut().expect("there is one").push(one);
        }
        let last = chunks.len() - 1;
        for (number, carried) in chunks.iter().enumerate() {
            self.send(&Op::Finish {
                carried,
                more: number < last,
            });
        }
        self.stop();
    }

    pub(super) fn farewell(&mut self) -> Option<v1::Farewell> {
        self.farewell.take()
    }

    /// False where the process does not hold the lease any more.
    pub(super) fn raise_generation(&mut self, lease: u64, generation: u32) -> bool {
        let held = self.leases.iter_mut().find(|held| held.0.lease == lease);
        held.map(|held| held.0.generation = generation).is_some()
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let connect = (!self.hello).then(|| self.started + CONNECT);
        let long = self.running.as_ref().filter(|running| !running.shown);
        let long = long.map(|running| clock::instant(running.started_at) + LONG);
        let stop = if self.killed.is_none() {
            self.stop_by
        } else {
            None
        };
        let deadline = if self.killed.is_none() {
            self.deadline
        } else {
            None
        };
        [
            connect.filter(|_| self.killed.is_none()),
            long,
            stop,
            deadline,
            self.last_words,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The running case, once, when it has been running for `long`.
    pub(super) fn long_running(&mut self, now: Instant, long: Duration) -> Option<(u64, u32, u32)> {
        let running = self.running.as_mut()?;
        if running.shown || clock::instant(running.started_at) + long > now {
            return None;
        }
        running.shown = true;
        let lease = &self.leases.front()?.0;
        Some((lease.lease, running.case, lease.generation))
    }

    /// Takes every whole line out of the buffer.
    pub(super) fn take_events(
        &mut self,
        context: &Context<'_>,
        facts: &mut Vec<v1::Fact>,
    ) -> Result<(), String> {
        let buffer = std::mem::take(&mut self.buffer);
        let now = now_us();
        let mut rest = &buffer[..];
        let mut events: Vec<RunnerEvent> = Vec::new();
        let mut result = Ok(());
        while let Some(end) = memchr(rest) {
            let (line, behind) = (&rest[..end], &rest[end + 1..]);
            rest = behind;
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(event) => events.push(event),
                Err(error) => {
                    result = Err(format!("{error} in {}", shown(line)));
                    break;
                }
            }
        }
        // The last event of a batch was on its way for the shortest time: it says best how the clocks differ.
        if let Some(at) = events.iter().rev().find_map(RunnerEvent::at) {
            self.alignment.align(at, now);
        }
        let from_case_to_case = events
            .iter()
            .all(|event| matches!(event, RunnerEvent::Start { .. } | RunnerEvent::End(_)));
        for event in events {
            if let Err(broken) = self.event(context, event, now, facts) {
                result = Err(broken);
                break;
            }
        }
        if rest.len() > MAX_LINE {
            result = Err(format!("a line is longer than {MAX_LINE} bytes"));
        }
        let used = buffer.len() - rest.len();
        self.buffer = buffer;
        self.buffer.drain(..used);
        let nap = self.before_due().filter(|_| from_case_to_case);
        self.nap = nap
            .and_then(|cases| self.pace.nap(cases))
            .map(|nap| Instant::now() + nap);
        result
    }

    /// How many cases the process can start before it needs to be heard.
    fn before_due(&self) -> Option<u32> {
        let held = &self.leases.front()?.0;
        let started = self.running.as_ref()?.case + 1;
        let count = held.done.len() as u32;
        let granted = held.grant.as_ref().map_or(count, |grant| grant.to);
        Some(granted.min(count).saturating_sub(started))
    }

    /// Returns when it is worth listening again.
    pub(super) async fn rest(nap: Option<Instant>) {
        if let Some(until) = nap {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    pub(super) fn nap(&mut self) -> Option<Instant> {
        self.nap.take()
    }

    fn event(
        &mut self,
        context: &Context<'_>,
        event: RunnerEvent,
        now: u64,
        facts: &mut Vec<v1::Fact>,
    ) -> Result<(), String> {
        let mut fact = |at_us: u64, body: Body| {
            facts.push(v1::Fact {
                at_us,
                slot: context.slot,
                body: Some(body),
            });
        };
        if self.bye {
            return Err("an event after bye".to_owned());
        }
        match event {
            RunnerEvent::Hello(hello) => {
                let started = self.hello(context, hello)?;
                fact(now, Body::ProcessStarted(started));
                self.urgent = true;
            }
            RunnerEvent::Refused {
                reason,
                message,
                hint,
            } => {
                let reason = match reason {
                    Refusal::Usage => v1::process_refused::Reason::Usage,
                    Refusal::Unsupported => v1::process_refused::Reason::Unsupported,
                    Refusal::Broken => v1::process_refused::Reason::Broken,
                };
                self.refused = Some(v1::ProcessRefused {
                    reason: reason as i32,
                    message,
                    hint,
                });
            }
            _ if !self.hello => return Err("an event before hello".to_owned()),
            RunnerEvent::Listed { units, more } => {
                if !self.listing || self.listed {
                    return Err("a listing that nobody asked for".to_owned());
                }
                self.listed = !more;
                for unit in &units {
                    if !self.units.insert(unit.unit.clone()) {
                        return Err(format!("it lists unit {} twice", unit.unit));
                    }
                }
                let units = units.into_iter();
                let units = units
                    .map(|u| v1::ListedUnit {
                        unit: u.unit,
                        path: u.path,
                        size: u.size,
                    })
                    .collect();
                fact(now, Body::Listed(v1::Listed { units, more }));
                self.urgent |= !more;
            }
            RunnerEvent::Begin { lease, at } => {
                let at = self.alignment.align(at, now);
                let held = self.front(lease)?;
                if held.begun_at.replace(at).is_some() {
                    return Err(format!("lease {lease} began twice"));
                }
                let generation = held.generation;
                self.deadline = context
                    .deadline
                    .map(|limit| clock::instant(at) + limit.max(LOADING));
                fact(at, Body::UnitBegun(v1::UnitBegun { lease, generation }));
            }
            RunnerEvent::Declare {
                lease,
                cases,
                more,
                instead,
            } => {
                let held = self.begun(lease)?;
                if held.declared {
                    return Err(format!("lease {lease} declared its cases twice"));
                }
                held.declared = !more;
                held.done.resize(held.done.len() + cases.len(), false);
                held.left += cases.len();
                let cases: Vec<_> = cases
                    .into_iter()
                    .map(|case| held.occurrence(case))
                    .collect();
                let generation = held.generation;
                if !more {
                    self.deadline = None;
                }
                fact(
                    now,
                    Body::Declared(v1::Declared {
                        lease,
                        generation,
                        cases,
                        more,
                        instead: instead.into_iter().map(wire_key).collect(),
                    }),
                );
            }
            RunnerEvent::Start { lease, case, at } => {
                let at = self.alignment.align(at, now);
                let ordinal = self.ordinal;
                if self.running.is_some() {
                    return Err("a case starts while another one runs".to_owned());
                }
                let held = self.begun(lease)?;
                if !held.declared || held.done.get(case as usize) != Some(&false) {
                    return Err(format!(
                        "case {case} of lease {lease} starts, which was not declared or is done"
                    ));
                }
                if held.grant.as_ref().is_some_and(|grant| case >= grant.to) {
                    return Err(format!(
                        "case {case} of lease {lease} starts, which was not granted"
                    ));
                }
                self.running = Some(Running {
                    case,
                    started_at: at,
                    ordinal,
                    shown: false,
                });
                self.ordinal += 1;
                self.deadline = context.deadline.map(|limit| clock::instant(at) + limit);
                self.pace.started(at);
                self.extend_grant(case + 1);
            }
            RunnerEvent::End(end) => {
                let (at, ended) = self.end(end, now)?;
                fact(at, Body::CaseEnded(ended));
            }
            RunnerEvent::Close {
                lease,
                at,
                setup_us,
            } => {
                let at = self.alignment.align(at, now);
                let held = self.begun(lease)?;
                if !held.declared || held.left > 0 {
                    return Err(format!(
                        "lease {lease} closes with {} cases open",
                        held.left
                    ));
                }
                let (generation, begun_at_us) = (held.generation, held.begun_at.unwrap_or(at));
                self.leases.pop_front();
                self.pace.pause();
                fact(
                    at,
                    Body::UnitClosed(v1::UnitClosed {
                        lease,
                        generation,
                        begun_at_us,
                        setup_us,
                    }),
                );
                self.urgent |= self.leases.is_empty() && !context.reserve;
            }
            RunnerEvent::Returned { lease, cases, all } => {
                let cases = self.returned(lease, cases, all)?;
                let generation = 0;
                fact(
                    now,
                    Body::Returned(v1::Returned {
                        lease,
                        generation,
                        cases,
                        all,
                    }),
                );
                self.urgent = true;
            }
            RunnerEvent::Waiting { lease, .. } => {
                self.deadline = None;
                self.waiting = true;
                // With a unit at hand the slot answers by itself.
                if !context.reserve {
                    fact(now, Body::Waiting(v1::Waiting { lease }));
                    self.urgent = true;
                }
            }
            RunnerEvent::Log { level, text } => {
                let level = match level {
                    Level::Info => v1::slot_log::Level::Info,
                    Level::Warning => v1::slot_log::Level::Warning,
                    Level::Error => v1::slot_log::Level::Error,
                };
                fact(
                    now,
                    Body::Log(v1::SlotLog {
                        level: level as i32,
                        text,
                    }),
                );
            }
            RunnerEvent::Warnings { list } => {
                let list = list.into_iter().map(|warning| v1::Warning {
                    text: warning.text,
                    count: warning.count.max(1),
                    cases: warning.cases,
                });
                let list = list.collect();
                fact(now, Body::Warnings(v1::Warnings { list }));
            }
            RunnerEvent::Bye {
                failed,
                summary,
                carry,
            } => {
                self.bye = true;
                self.farewell = Some(farewell(failed, summary, carry));
            }
        }
        Ok(())
    }

    fn hello(&mut self, context: &Context<'_>, hello: Hello) -> Result<v1::ProcessStarted, String> {
        if hello.protocol != PROTOCOL {
            return Err(format!(
                "it speaks version {}, this agent {PROTOCOL}",
                hello.protocol
            ));
        }
        if std::mem::replace(&mut self.hello, true) {
            return Err("a second hello".to_owned());
        }
        self.pid = hello.pid;
        let can = |what: &str| hello.can.iter().any(|can| can == what);
        self.can_revoke = can("revoke");
        self.can_grant = can("grant") && self.can_revoke;
        Ok(v1::ProcessStarted {
            incarnation: context.incarnation,
            pid: hello.pid,
            argv: self.spawn.argv.clone(),
            directory: context.directory.to_owned(),
            environment: recorded_environment(&self.spawn).collect(),
            runner: hello.runner,
            framework: hello.framework,
            language: hello.language,
            can: hello.can,
            notes: hello.notes,
            max_fail: hello.run_wide.max_fail,
            junit: hello.run_wide.junit,
            closing: hello.closing,
            finish: hello.finish,
            durations: match hello.run_wide.durations {
                None => 0,
                Some(0) => u32::MAX,
                Some(count) => count,
            },
            show_output: hello.run_wide.show_output,
            durations_min_us: (hello.run_wide.durations_min.max(0.0) * 1e6) as u64,
        })
    }

    fn front(&mut self, lease: u64) -> Result<&mut LeaseState, String> {
        match self.leases.front_mut() {
            Some(held) if held.0.lease == lease => Ok(&mut held.0),
            Some(held) => Err(format!(
                "an event for lease {lease}, while {} is next",
                held.0.lease
            )),
            None => Err(format!(
                "an event for lease {lease}, which it does not hold"
            )),
        }
    }

    fn begun(&mut self, lease: u64) -> Result<&mut LeaseState, String> {
        let held = self.front(lease)?;
        if held.begun_at.is_none() {
            return Err(format!("an event for lease {lease} before its begin"));
        }
        Ok(held)
    }

    fn end(&mut self, end: End, now: u64) -> Result<(u64, v1::CaseEnded), String> {
        let at = self.alignment.align(end.at, now);
        let running = self
            .running
            .take()
            .filter(|running| running.case == end.case);
        let Some(running) = running else {
            return Err(format!(
                "case {} of lease {} ends, which was not running",
                end.case, end.lease
            ));
        };
        self.deadline = None;
        let held = self.begun(end.lease)?;
        held.done[end.case as usize] = true;
        held.left -= 1;
        let silent = end.message.is_empty()
            && end.detail.is_empty()
            && end.output.is_empty()
            && end.properties.is_empty();
        let property = end
            .properties
            .into_iter()
            .map(|(name, value)| v1::Property { name, value });
        let output = end.output.into_iter().map(|output| v1::Output {
            name: output.name,
            text: output.text,
        });
        let text = (!silent).then(|| v1::CaseText {
            message: end.message,
            detail: end.detail,
            output: output.collect(),
            property: property.collect(),
        });
        let ended = v1::CaseEnded {
            lease: end.lease,
            generation: held.generation,
            case: end.case,
            outcome: match end.outcome {
                Outcome::Passed => v1::Outcome::Passed,
                Outcome::Failed => v1::Outcome::Failed,
                Outcome::Error => v1::Outcome::Error,
                Outcome::Skipped => v1::Outcome::Skipped,
            } as i32,
            started_at_us: running.started_at,
            duration_us: end.duration_us,
            ordinal: running.ordinal,
            text,
        };
        Ok((at, ended))
    }

    /// The process may start more, now that it has started this many.
    fn extend_grant(&mut self, started: u32) {
        let window = self.pace.window();
        let Some(held) = self.leases.front_mut() else {
            return;
        };
        let held = &mut held.0;
        let (lease, count) = (held.lease, held.done.len() as u32);
        let Some(grant) = &mut held.grant else { return };
        if grant.to >= count {
            return;
        }
        if let Some(to) = grant.extend(started, window) {
            self.send(&Op::Grant { lease, to });
        }
    }

    /// What the process gives back, without what was taken back before.
    fn returned(&mut self, lease: u64, cases: Vec<u32>, all: bool) -> Result<Vec<u32>, String> {
        let Some(position) = self.leases.iter().position(|held| held.0.lease == lease) else {
            return Ok(cases);
        };
        if all {
            if self.leases[position].0.begun_at.is_some() {
                return Err(format!("lease {lease} is returned whole after it began"));
            }
            self.leases.remove(position);
            return Ok(cases);
        }
        let held = &mut self.leases[position].0;
        let taken = held.grant.as_ref().and_then(|grant| grant.taken_from);
        let cases: Vec<u32> = cases
            .into_iter()
            .filter(|&case| taken.is_none_or(|taken| case < taken))
            .collect();
        for &case in &cases {
            match held.done.get_mut(case as usize) {
                Some(done) if !*done => {
                    *done = true;
                    held.left -= 1;
                }
                _ => {
                    return Err(format!(
                        "case {case} of lease {lease} is returned, which is done or unknown"
                    ));
                }
            }
        }
        Ok(cases)
    }

    /// How it ended, and what it was doing.
    pub(super) fn ending(&self, status: io::Result<ExitStatus>) -> Ending {
        let in_flight = self.in_flight();
        let (code, signal) = match &status {
            Ok(status) => (status.code(), status.signal()),
            Err(_) => (None, None),
        };
        let doing = match &in_flight {
            Some(flight) if flight.running => " while this test ran",
            Some(flight) if !flight.settled => " while it loaded its unit",
            Some(_) => " between two tests",
            None if !self.hello => " before it was ready",
            None => "",
        };
        let (cause, code, explanation) = match (&self.killed, signal, code) {
            (Some(killed), ..) => (
                killed.cause,
                code.unwrap_or_default(),
                killed.explanation.clone(),
            ),
            (None, None, Some(code)) if self.bye && self.stopping && self.leases.is_empty() => (
                Cause::Finished,
                code,
                format!("finished with status {code}"),
            ),
            (None, Some(signal), _) => (
                Cause::Signaled,
                signal,
                format!("its process was killed by {}{doing}", signal_name(signal)),
            ),
            (None, None, Some(crate::guard::CANNOT_START)) if !self.hello => (
                Cause::Exited,
                -1,
                "the command cannot be started".to_owned(),
            ),
            (None, None, code) => {
                let code = code.unwrap_or(-1);
                (
                    Cause::Exited,
                    code,
                    format!("its process exited with status {code}{doing}"),
                )
            }
        };
        Ending {
            cause,
            code,
            in_flight,
            explanation,
        }
    }

    /// Whether a case runs, rather than a unit being loaded.
    pub(super) fn runs_a_case(&self) -> bool {
        self.running.is_some()
    }

    fn in_flight(&self) -> Option<v1::InFlight> {
        let held = &self.leases.front()?.0;
        held.begun_at?;
        Some(v1::InFlight {
            lease: held.lease,
            generation: held.generation,
            running: self.running.is_some(),
            case: self.running.as_ref().map_or(0, |running| running.case),
            started_at_us: self
                .running
                .as_ref()
                .map_or(0, |running| running.started_at),
            ordinal: self.running.as_ref().map_or(0, |running| running.ordinal),
            settled: held.declared,
        })
    }
}

impl LeaseState {
    /// Ids are not unique in the wild: where a runner does not count occurrences itself, they are counted here.
    fn occurrence(&mut self, case: DeclaredCase) -> v1::DeclaredCase {
        let mut declared = match case {
            DeclaredCase::Id(id) => v1::DeclaredCase {
                id,
                ..v1::DeclaredCase::default()
            },
            DeclaredCase::Full {
                id,
                n,
                name,
                class,
                file,
                line,
                group,
            } => v1::DeclaredCase {
                id,
                occurrence: n,
                name,
                class,
                file,
                line,
                group,
            },
        };
        while !self.ids.insert((declared.id.clone(), declared.occurrence)) {
            declared.occurrence += 1;
        }
        declared
    }
}

fn wire_key(key: Key) -> v1::CaseKey {
    v1::CaseKey {
        id: key.id,
        occurrence: key.n,
    }
}

fn farewell(failed: Vec<Objection>, summary: Vec<Summary>, carry: String) -> v1::Farewell {
    let failed = failed.into_iter().map(|objection| v1::Objection {
        message: objection.message,
        detail: objection.detail,
    });
    let summary = summary.into_iter().map(|summary| v1::Summary {
        title: summary.title,
        text: summary.text,
    });
    v1::Farewell {
        failed: failed.collect(),
        summary: summary.collect(),
        carry,
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n')
}

/// The beginning of a line, for an error message.
fn shown(line: &[u8]) -> String {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(&line[..line.len().min(MOST)]);
    if line.len() > MOST {
        format!("{text}…")
    } else {
        text.into_owned()
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        libc::SIGHUP => "SIGHUP",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}

/// What Evenkeel set, and what it found of the variables that change how tests behave.
fn recorded_environment(spawn: &Spawn) -> impl Iterator<Item = (String, String)> {
    const FOUND: &[&str] = &[
        "CI",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "VIRTUAL_ENV",
        "PATH",
        "PYTHONHASHSEED",
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONWARNINGS",
        "PYTEST_ADDOPTS",
        "PYTEST_PLUGINS",
        "DJANGO_SETTINGS_MODULE",
        "NODE_ENV",
        "RUST_BACKTRACE",
    ];
    let found = FOUND
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let set = spawn
        .environment
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    found.chain(set).collect::<Vec<_>>().into_iter()
}
