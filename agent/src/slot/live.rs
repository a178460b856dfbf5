//! A live process of a slot: its leases, its place in the protocol, and what its events say.

use super::grant::{Grant, Pace};
use super::{CONNECT, GRACE, LONG, PIECE, STOP, Wake, keys, op_line};
use crate::clock::{self, Alignment, now_us};
use crate::process::{Connected, Process, Spawn};
use crate::runner::{Carried, DeclaredCase, Op};
use evenkeel_proto::v1;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::time::Instant;
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

/// How long a case may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) timeout: Option<Duration>,
    pub(super) slow: Option<Duration>,
    /// After its deadline.
    pub(super) grace: Duration,
}

impl Limits {
    fn of(lease: &v1::Lease) -> Limits {
        let limit = |us: u64| (us > 0).then(|| Duration::from_micros(us));
        Limits {
            timeout: limit(lease.timeout_us),
            slow: limit(lease.slow_us),
            grace: limit(lease.grace_us).unwrap_or(GRACE),
        }
    }
}

pub(super) struct LeaseState {
    pub(super) lease: u64,
    pub(super) limits: Limits,
    /// Of the declared cases, where somebody may ask for them.
    pub(super) names: Vec<String>,
    pub(super) generation: u32,
    pub(super) begun_at: Option<u64>,
    /// The latest end of its cases.
    pub(super) ended_at: u64,
    pub(super) declared: bool,
    /// For each declared case whether it has ended or was returned.
    pub(super) done: Vec<bool>,
    pub(super) left: usize,
    pub(super) ids: HashSet<(String, u32)>,
    /// Some of it is going to be taken back as soon as its cases are declared.
    pub(super) shared: bool,
    /// Absent where the process starts cases without asking.
    pub(super) grant: Option<Grant>,
    /// Of the cases that belong to a group: position and name.
    pub(super) grouped: Vec<(u32, String)>,
    /// Of its time, microseconds that passed until the process heard what comes next.
    pub(super) waited: u64,
}

pub(super) struct Running {
    pub(super) case: u32,
    pub(super) started_at: u64,
    pub(super) ordinal: u32,
    pub(super) shown: bool,
    /// When it is to be warned of, if it has not been.
    pub(super) slow_at: Option<Instant>,
}

pub(super) struct Live {
    pub(super) process: Process,
    pub(super) wire: Wire,
    pub(super) buffer: Vec<u8>,
    pub(super) outgoing: Vec<u8>,
    pub(super) hello: bool,
    pub(super) can_revoke: bool,
    pub(super) can_grant: bool,
    /// It runs several units at once, and is given them together.
    pub(super) can_bundle: bool,
    pub(super) pace: Pace,
    /// Nothing is read before this: the process only goes from case to case.
    pub(super) nap: Option<Instant>,
    pub(super) farewell: Option<v1::Farewell>,
    pub(super) pid: u32,
    pub(super) used: bool,
    /// When it was begun to bring it up, its set-up included.
    pub(super) begun: Instant,
    pub(super) started: Instant,
    pub(super) stopping: bool,
    pub(super) stop_by: Option<Instant>,
    pub(super) killed: Option<Killed>,
    pub(super) deadline: Option<Instant>,
    pub(super) last_words: Option<Instant>,
    pub(super) refused: Option<v1::ProcessRefused>,
    pub(super) urgent: bool,
    pub(super) leases: VecDeque<LeaseHandle>,
    pub(super) spawn: Spawn,
    pub(super) told_idle: bool,
    /// Its last case cannot end before it knows what comes next.
    pub(super) waiting: bool,
    /// Since when it waits, by its own word.
    pub(super) waits_since: Option<u64>,
    pub(super) listing: bool,
    pub(super) listed: bool,
    /// The ask that the listing answers.
    pub(super) ask: u64,
    /// Names of the units listed so far.
    pub(super) units: HashSet<String>,
    /// The same as the process told it.
    pub(super) told_units: Vec<v1::ListedUnit>,
    pub(super) bye: bool,
    pub(super) running: Option<Running>,
    pub(super) ordinal: u32,
    pub(super) alignment: Alignment,
}

/// A lease that the process holds, whole or in part.
pub(super) struct LeaseHandle(pub(super) LeaseState);

/// What the slot knows that its process does not.
pub(super) struct Context<'a> {
    pub slot: u32,
    pub incarnation: u32,
    pub kind: u32,
    pub directory: &'a str,
    /// More leases wait behind those that the process holds.
    pub reserve: bool,
}

impl Live {
    pub(super) fn new(
        process: Process,
        connected: oneshot::Receiver<io::Result<Connected>>,
        spawn: Spawn,
        begun: Instant,
    ) -> Live {
        Live {
            process,
            wire: Wire::Connecting(connected),
            buffer: Vec::with_capacity(64 << 10),
            outgoing: Vec::new(),
            hello: false,
            can_revoke: false,
            can_grant: false,
            can_bundle: false,
            pace: Pace::new(),
            nap: None,
            farewell: None,
            pid: 0,
            used: false,
            begun,
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
            waits_since: None,
            listing: false,
            listed: false,
            ask: 0,
            units: HashSet::new(),
            told_units: Vec::new(),
            bye: false,
            running: None,
            ordinal: 0,
            alignment: Alignment::default(),
        }
    }

    pub(super) fn send(&mut self, op: &Op<'_>) {
        op_line(op, &mut self.outgoing);
    }

    /// Asks for the listing. A process lists once: who asks again, since the coordinator was started again, is answered with what
    /// it has told so far, in pieces, and what it still tells is for the last who asked.
    pub(super) fn list(&mut self, kind: u32, ask: u64) -> Vec<v1::Listed> {
        self.ask = ask;
        if !std::mem::replace(&mut self.listing, true) {
            self.send(&Op::List);
            return Vec::new();
        }
        let pieces = self.told_units.chunks(PIECE);
        let mut listed: Vec<v1::Listed> = pieces
            .map(|units| v1::Listed {
                units: units.to_vec(),
                more: true,
                kind,
                ask,
            })
            .collect();
        if self.listed {
            match listed.last_mut() {
                Some(last) => last.more = false,
                None => listed.push(v1::Listed {
                    kind,
                    ask,
                    ..v1::Listed::default()
                }),
            }
        }
        listed
    }

    pub(super) fn idle(&mut self) {
        if !std::mem::replace(&mut self.told_idle, true) {
            self.waits_no_more();
            self.send(&Op::Idle);
        }
    }

    pub(super) fn stop(&mut self) {
        if !self.stopping {
            self.waits_no_more();
            self.stopping = true;
            self.stop_by = Some(Instant::now() + STOP);
            self.send(&Op::Stop);
        }
    }

    pub(super) fn lease(&mut self, lease: v1::Lease) {
        self.used = true;
        self.told_idle = false;
        self.waiting = false;
        self.waits_no_more();
        let limits = Limits::of(&lease);
        let (only, skip) = (keys(lease.only), keys(lease.skip));
        let grant = self.can_grant.then_some(Grant {
            to: 1, // it may be a long one
            taken_from: None,
        });
        self.send(&Op::Run {
            lease: lease.lease,
            unit: &lease.unit,
            only: &only,
            skip: &skip,
            grant: grant.as_ref().map(|grant| grant.to),
            expected_us: lease.expected_us,
            shared: lease.shared,
            more: lease.more && self.can_bundle,
            timeout_us: lease.timeout_us,
            grace_us: lease.grace_us,
        });
        self.leases.push_back(LeaseHandle(LeaseState {
            lease: lease.lease,
            limits,
            names: Vec::new(),
            generation: lease.generation,
            begun_at: None,
            ended_at: 0,
            declared: false,
            done: Vec::new(),
            left: 0,
            ids: HashSet::new(),
            shared: lease.shared,
            grant,
            grouped: Vec::new(),
            waited: 0,
        }));
    }

    /// What it waited for is on its way to it.
    pub(super) fn waits_no_more(&mut self) {
        if let Some(since) = self.waits_since.take()
            && let Some(held) = self.leases.front_mut()
        {
            held.0.waited += now_us().saturating_sub(since);
        }
    }

    /// Whether it has room for a unit: it has none, or waits to hear of the next one.
    pub(super) fn takes_more(&self) -> bool {
        self.leases.is_empty() || self.waiting
    }

    /// Takes back what the process cannot have started: from this position on, not granted yet, and no part of a group that it
    /// keeps a part of. The first position and all of them; nothing where the process has to be asked.
    pub(super) fn take_back(&mut self, lease: u64, from: u32) -> Option<(u32, Vec<u32>)> {
        let held = self.leases.iter_mut().find(|held| held.0.lease == lease);
        let held = held.map(|held| &mut held.0).filter(|held| held.declared)?;
        let from = whole_groups(&held.grouped, from.max(held.grant.as_ref()?.to));
        let open = (from..held.done.len() as u32).filter(|&case| !held.done[case as usize]);
        let cases: Vec<u32> = open.collect();
        if !cases.is_empty() {
            let grant = held.grant.as_mut()?;
            grant.taken_from = Some(grant.taken_from.map_or(from, |taken| taken.min(from)));
        }
        for &case in &cases {
            held.done[case as usize] = true;
        }
        held.left -= cases.len();
        Some((from, cases))
    }

    /// The process cannot go on to a case that it holds; it may now. False where it waits for something else.
    pub(super) fn grant_next(&mut self, case: u32, took: Option<u64>) -> bool {
        let Some(held) = self.leases.front_mut().map(|held| &mut held.0) else {
            return false;
        };
        let Some(grant) = &mut held.grant else {
            return false;
        };
        let mut behind = held.done.iter().zip(0u32..).skip(case as usize + 1);
        let Some((_, next)) = behind.find(|(done, _)| !**done) else {
            return false;
        };
        if let Some(took) = took {
            self.pace.took(took);
        }
        if next >= grant.to {
            let lease = held.lease;
            let most = grant.taken_from.unwrap_or(u32::MAX);
            grant.to = (next + self.pace.window().max(1)).min(most);
            let to = grant.to;
            self.send(&Op::Grant { lease, to });
        }
        true
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

    /// False where the process does not hold the lease any more, or has heard of this already.
    pub(super) fn raise_generation(&mut self, lease: u64, generation: u32) -> bool {
        let held = self.leases.iter_mut().find(|held| held.0.lease == lease);
        let held = held.filter(|held| held.0.generation < generation);
        held.map(|held| held.0.generation = generation).is_some()
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let connect = (!self.hello).then(|| self.started + CONNECT);
        let long = self.running.as_ref().filter(|running| !running.shown);
        let long = long.map(|running| clock::instant(running.started_at) + LONG);
        let slow = self.running.as_ref().and_then(|running| running.slow_at);
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
            slow,
            stop,
            deadline,
            self.last_words,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The running case and what it should have ended in, once, when it has been running for longer.
    pub(super) fn slow(&mut self, now: Instant) -> Option<(String, Duration)> {
        let running = self.running.as_mut()?;
        running.slow_at.take_if(|at| *at <= now)?;
        let held = &self.leases.front()?.0;
        let name = held.names.get(running.case as usize)?;
        Some((name.clone(), held.limits.slow?))
    }

    /// How long the case at work, or the unit that is being loaded, may take.
    pub(super) fn limits(&self) -> Option<Limits> {
        self.leases.front().map(|held| held.0.limits)
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
}

/// The first position from `from` on that separates no group. `grouped`: the positions that belong to one, and its name.
fn whole_groups(grouped: &[(u32, String)], mut from: u32) -> u32 {
    let mut last: HashMap<&str, u32> = HashMap::new();
    for (position, group) in grouped {
        last.insert(group, *position);
    }
    for (position, group) in grouped {
        if *position < from {
            from = from.max(last[group.as_str()] + 1);
        }
    }
    from
}

impl LeaseState {
    /// Ids are not unique in the wild: where a runner does not count occurrences itself, they are counted here.
    pub(super) fn occurrence(&mut self, case: DeclaredCase) -> v1::DeclaredCase {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_goes_behind_every_group_that_it_would_part() {
        let named = |list: &[(u32, &str)]| -> Vec<(u32, String)> {
            let owned = list.iter().map(|(at, group)| (*at, (*group).to_owned()));
            owned.collect()
        };
        assert_eq!(whole_groups(&[], 3), 3);
        let grouped = named(&[(1, "a"), (3, "a"), (6, "b"), (8, "b")]);
        let cuts = [
            (0, 0),
            (1, 1),
            (2, 4),
            (3, 4),
            (4, 4),
            (6, 6),
            (7, 9),
            (9, 9),
        ];
        for (from, cut) in cuts {
            assert_eq!(whole_groups(&grouped, from), cut, "from {from}");
        }
        // One leads to the other.
        let chained = named(&[(0, "a"), (2, "b"), (4, "a"), (6, "b")]);
        assert_eq!(whole_groups(&chained, 1), 7);
    }
}
