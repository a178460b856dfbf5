//! A test case, its attempts and its final verdict.

use super::ApplyError;
use crate::run::CaseKey;
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;
use std::fmt;

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    Error,
    Skipped,
    /// Its process was killed from outside. Never final: the case is repeated once.
    Killed,
}

impl Outcome {
    pub fn is_failure(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::Error | Outcome::Killed)
    }

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Error => "error",
            Outcome::Skipped => "skipped",
            Outcome::Killed => "killed",
        }
    }

    pub fn to_ledger(self) -> l::Outcome {
        match self {
            Outcome::Passed => l::Outcome::Passed,
            Outcome::Failed => l::Outcome::Failed,
            Outcome::Error => l::Outcome::Error,
            Outcome::Skipped => l::Outcome::Skipped,
            Outcome::Killed => l::Outcome::Killed,
        }
    }

    pub fn from_ledger(value: i32) -> Result<Outcome, ApplyError> {
        match l::Outcome::try_from(value) {
            Ok(l::Outcome::Passed) => Ok(Outcome::Passed),
            Ok(l::Outcome::Failed) => Ok(Outcome::Failed),
            Ok(l::Outcome::Error) => Ok(Outcome::Error),
            Ok(l::Outcome::Skipped) => Ok(Outcome::Skipped),
            Ok(l::Outcome::Killed) => Ok(Outcome::Killed),
            Ok(l::Outcome::Unspecified) | Err(_) => Err(ApplyError::UnknownValue {
                what: "an outcome",
                value: value.into(),
            }),
        }
    }

    fn verdict(self) -> Option<Verdict> {
        match self {
            Outcome::Passed => Some(Verdict::Passed),
            Outcome::Failed => Some(Verdict::Failed),
            Outcome::Error => Some(Verdict::Error),
            Outcome::Skipped => Some(Verdict::Skipped),
            Outcome::Killed => None,
        }
    }
}

/// What is finally said of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Passed,
    Failed,
    Error,
    Skipped,
    /// Left out on purpose: the run was stopped first.
    NotRun,
    /// Planned, and nobody said how it ended.
    Lost,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Error => "error",
            Verdict::Skipped => "skipped",
            Verdict::NotRun => "not_run",
            Verdict::Lost => "lost",
        }
    }

    pub fn parse(name: &str) -> Option<Verdict> {
        use Verdict::{Error, Failed, Lost, NotRun, Passed, Skipped};
        [Passed, Failed, Error, Skipped, NotRun, Lost]
            .into_iter()
            .find(|verdict| verdict.name() == name)
    }

    pub fn is_failure(self) -> bool {
        matches!(self, Verdict::Failed | Verdict::Error)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the texts of an attempt lie in the run's store of outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRef {
    pub digest: [u8; 32],
    pub offset: u64,
    pub length: u32,
}

impl TextRef {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.digest.to_vec();
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<TextRef> {
        let (digest, rest) = bytes.split_first_chunk::<32>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let length = rest.try_into().ok()?;
        Some(TextRef {
            digest: *digest,
            offset: u64::from_le_bytes(*offset),
            length: u32::from_le_bytes(length),
        })
    }
}

#[derive(Clone, Debug)]
pub struct Attempt {
    /// The lower half of the lease's number.
    pub lease: u32,
    pub outcome: Outcome,
    pub started: Micros,
    pub ended: Micros,
    /// As the framework measured it.
    pub duration: Micros,
    /// Of that, what set up things that cases of its unit share.
    pub setup: Micros,
    /// It ended with its agent, not with its process.
    pub agent_lost: bool,
    pub incarnation: u32,
    /// How many cases its process had started before.
    pub ordinal: u32,
    pub message: Box<str>,
    pub text: Option<Box<TextRef>>,
}

/// What a report calls a case, where its framework has names of its own for that.
#[derive(Clone, Debug, Default)]
pub struct CaseLabels {
    pub name: Box<str>,
    pub class: Box<str>,
    pub file: Box<str>,
    pub line: u32,
    /// Cases of one unit with the same group are never run in different places; empty for none.
    pub group: Box<str>,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub id: Box<str>,
    pub occurrence: u32,
    pub labels: Option<Box<CaseLabels>>,
    /// The lease that may give this case its verdict, 0 for none.
    pub(super) owner: u32,
    verdict: Option<Verdict>,
    /// Why, where no attempt says it.
    pub reason: Option<Box<str>>,
    first: Option<Attempt>,
    later: Vec<Attempt>,
}

/// A lease by the lower half of its number: they are counted from 1, and a run has fewer than 2^32 of them.
pub(super) fn owner(lease: u64) -> u32 {
    lease as u32
}

impl Case {
    pub(super) fn declared(case: &l::Case, owner: u32) -> Case {
        let plain = case.name.is_empty()
            && case.class.is_empty()
            && case.file.is_empty()
            && case.line == 0
            && case.group.is_empty();
        let labels = (!plain).then(|| {
            Box::new(CaseLabels {
                name: case.name.as_str().into(),
                class: case.class.as_str().into(),
                file: case.file.as_str().into(),
                line: case.line,
                group: case.group.as_str().into(),
            })
        });
        Case {
            id: case.id.as_str().into(),
            occurrence: case.occurrence,
            labels,
            owner,
            verdict: None,
            reason: None,
            first: None,
            later: Vec::new(),
        }
    }

    pub(super) fn attempt(&mut self, attempt: &l::Attempt) -> Result<(), ApplyError> {
        let outcome = Outcome::from_ledger(attempt.outcome)?;
        let attempt = Attempt {
            lease: owner(attempt.lease),
            outcome,
            started: Micros(attempt.started_us),
            ended: Micros(attempt.ended_us),
            duration: Micros(attempt.duration_us),
            setup: Micros(attempt.setup_us),
            agent_lost: attempt.agent_lost,
            incarnation: attempt.incarnation,
            ordinal: attempt.ordinal,
            message: attempt.message.as_str().into(),
            text: TextRef::from_bytes(&attempt.text).map(Box::new),
        };
        if self.first.is_none() {
            self.first = Some(attempt);
        } else {
            self.later.push(attempt);
        }
        self.verdict = self.verdict.or(outcome.verdict());
        Ok(())
    }

    pub(super) fn settle(&mut self, verdict: Verdict, reason: &str) {
        self.verdict = Some(verdict);
        self.reason = Some(reason.into());
    }

    pub fn key(&self) -> CaseKey {
        CaseKey {
            id: self.id.to_string(),
            occurrence: self.occurrence,
        }
    }

    /// The group that it must not be separated from.
    pub fn group(&self) -> Option<&str> {
        let group = &*self.labels.as_ref()?.group;
        (!group.is_empty()).then_some(group)
    }

    pub fn is_owned_by(&self, lease: u64) -> bool {
        self.owner != 0 && self.owner == owner(lease)
    }

    pub fn is_owned(&self) -> bool {
        self.owner != 0
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = &Attempt> + Clone {
        self.first.iter().chain(&self.later)
    }

    pub fn is_decided_by(&self, lease: u64) -> bool {
        let last = self.last_attempt().filter(|_| self.verdict.is_some());
        last.is_some_and(|attempt| attempt.lease == owner(lease))
    }

    /// The attempt that decided, or the last one.
    pub fn last_attempt(&self) -> Option<&Attempt> {
        self.later.last().or(self.first.as_ref())
    }
}
