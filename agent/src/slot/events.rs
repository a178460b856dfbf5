//! What a process says, and what that tells: its events, checked against the protocol, become facts.

use super::LOADING;
use super::live::{Context, LeaseState, Live, Running};
use crate::clock::{self, now_us};
use crate::process::Spawn;
use crate::revision::revision;
use crate::runner::{
    End, Hello, Key, Level, MAX_LINE, Objection, Op, Outcome, PROTOCOL, Refusal, RunnerEvent,
    Summary,
};
use evenkeel_proto::{text, v1};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;
use v1::fact::Body;

impl Live {
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
            tokio::time::sleep_until(until).await;
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
                detail,
            } => {
                let reason = match reason {
                    Refusal::Usage => v1::process_refused::Reason::Usage,
                    Refusal::Unsupported => v1::process_refused::Reason::Unsupported,
                    Refusal::Broken => v1::process_refused::Reason::Broken,
                    Refusal::Build => v1::process_refused::Reason::Build,
                };
                self.refused = Some(v1::ProcessRefused {
                    kind: context.kind,
                    reason: reason as i32,
                    message,
                    hint,
                    detail,
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
                let units: Vec<v1::ListedUnit> = units
                    .map(|u| v1::ListedUnit {
                        revision: revision(Path::new(context.directory), &u.unit, &u.path),
                        unit: u.unit,
                        path: u.path,
                        size: u.size,
                    })
                    .collect();
                self.told_units.extend_from_slice(&units);
                fact(
                    now,
                    Body::Listed(v1::Listed {
                        ask: self.ask,
                        kind: context.kind,
                        units,
                        more,
                    }),
                );
                self.urgent |= !more;
            }
            RunnerEvent::Begin { lease, at } => {
                let at = self.alignment.align(at, now);
                let held = self.front(lease)?;
                if held.begun_at.replace(at).is_some() {
                    return Err(format!("lease {lease} began twice"));
                }
                let generation = held.generation;
                // Who runs several units at once tells of their tests when all are over.
                let limit = held.limits.timeout.filter(|_| !self.can_bundle);
                self.deadline = limit.map(|limit| clock::instant(at) + limit.max(LOADING));
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
                if held.limits.slow.is_some() {
                    held.names.extend(cases.iter().map(|case| case.id.clone()));
                }
                let position = (held.done.len() - cases.len()) as u32;
                let groups = (position..).zip(&cases);
                let groups = groups.filter(|(_, case)| !case.group.is_empty());
                held.grouped
                    .extend(groups.map(|(position, case)| (position, case.group.clone())));
                let generation = held.generation;
                let shared = held.shared;
                if !more {
                    self.deadline = None;
                    self.urgent |= shared;
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
                let at = at.max(held.begun_at.unwrap_or(0));
                let limits = held.limits;
                self.running = Some(Running {
                    case,
                    started_at: at,
                    ordinal,
                    shown: false,
                    slow_at: limits.slow.map(|slow| clock::instant(at) + slow),
                });
                self.ordinal += 1;
                let limit = limits.timeout.filter(|_| !self.can_bundle);
                self.deadline = limit.map(|limit| clock::instant(at) + limit);
                self.pace.started(at);
                if case > 0 {
                    self.extend_grant(case + 1);
                }
            }
            RunnerEvent::End(end) => {
                // The run may have had enough.
                self.urgent |= matches!(end.outcome, Outcome::Failed | Outcome::Error);
                let (at, ended, slow) = self.end(end, now)?;
                fact(at, Body::CaseEnded(ended));
                if let Some(text) = slow {
                    let level = v1::slot_log::Level::Warning as i32;
                    fact(at, Body::Log(v1::SlotLog { level, text }));
                }
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
                let at = at.max(begun_at_us).max(held.ended_at);
                let waited_us = held.waited;
                self.leases.pop_front();
                self.pace.pause();
                fact(
                    at,
                    Body::UnitClosed(v1::UnitClosed {
                        lease,
                        generation,
                        begun_at_us,
                        setup_us,
                        waited_us,
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
            RunnerEvent::Waiting { lease, case, at } => {
                let at = self.alignment.align(at, now);
                let running = self.running.as_ref();
                let took = running.map(|running| at.saturating_sub(running.started_at));
                self.begun(lease)?;
                if self.grant_next(case, took) {
                    return Ok(());
                }
                self.waits_since = Some(at);
                self.deadline = None;
                self.waiting = true;
                // With a unit at hand the slot answers by itself.
                if !context.reserve {
                    fact(now, Body::Waiting(v1::Waiting { lease }));
                    self.urgent = true;
                }
            }
            RunnerEvent::Halt { reason } => {
                fact(now, Body::Halt(v1::Halt { reason }));
                self.urgent = true;
            }
            RunnerEvent::Log { level, text } => {
                let level = match level {
                    Level::Progress => v1::slot_log::Level::Progress,
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
        self.can_bundle = can("bundle");
        Ok(v1::ProcessStarted {
            kind: context.kind,
            took_us: u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
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

    /// When it ended, how, and a warning where it took long and that was not said while it ran.
    fn end(&mut self, end: End, now: u64) -> Result<(u64, v1::CaseEnded, Option<String>), String> {
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
        // The clocks may be known better than when it started.
        let at = at.max(running.started_at);
        let held = self.begun(end.lease)?;
        held.done[end.case as usize] = true;
        held.left -= 1;
        held.ended_at = held.ended_at.max(at);
        let took = Duration::from_micros(end.duration_us);
        let slow = held
            .limits
            .slow
            .filter(|slow| running.slow_at.is_some() && took > *slow);
        let name = slow.and_then(|_| held.names.get(end.case as usize));
        let slow = name.map(|name| format!("{name} took {:.1} s", took.as_secs_f64()));
        let silent = end.message.is_empty()
            && end.detail.is_empty()
            && end.output.is_empty()
            && end.properties.is_empty();
        let property = end
            .properties
            .into_iter()
            .map(|(name, value)| v1::Property {
                name,
                value: text::cut(value, text::TEXT),
            });
        let output = end.output.into_iter().map(|output| v1::Output {
            name: output.name,
            text: text::cut(output.text, text::TEXT),
        });
        let told = (!silent).then(|| v1::CaseText {
            message: text::cut(end.message, text::MESSAGE),
            detail: text::cut(end.detail, text::TEXT),
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
            text: told,
            setup_us: end.setup_us,
        };
        Ok((at, ended, slow))
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
            let held = &self.leases[position].0;
            if held.begun_at.is_some() && !(self.can_bundle && held.done.is_empty()) {
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
        "RUSTFLAGS",
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
