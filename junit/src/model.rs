//! What a report says: suites, their cases, and how the writer asks for them.
//!
//! All strings may hold any characters; the crate's documentation says what becomes of those that XML forbids.

use std::borrow::Cow;
use std::fmt;
use std::ops::{AddAssign, Range};
use std::time::Duration;

/// The suites and cases of a report, asked for piece by piece so that no report is in memory whole.
///
/// The writer asks for each suite's header twice (the report's first line holds the totals) and for each case once, from
/// several threads, in no particular order. Answers must not change while a report is written.
pub trait Source: Sync {
    /// Number of suites in the report.
    fn suites(&self) -> usize;

    /// The header of suite `index`, which is below [`Source::suites`].
    fn suite(&self, index: usize) -> Suite<'_>;

    /// The cases `range` of suite `suite`, exactly `range.len()` of them.
    ///
    /// A range is never empty and ends at most at the suite's [`Counts::tests`]. It is short, some tens of cases at most,
    /// so that a source may well load what it answers.
    fn cases(&self, suite: usize, range: Range<usize>) -> Vec<Case<'_>>;
}

/// A name and its value.
pub type Property<'a> = (Cow<'a, str>, Cow<'a, str>);

/// How many cases a suite or report has. A case counts once, by its final outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All cases, whatever their outcome.
    pub tests: usize,
    /// Cases that [failed](Outcome::Failed).
    pub failures: usize,
    /// Cases that ended in an [error](Outcome::Error).
    pub errors: usize,
    /// Cases that were [skipped](Outcome::Skipped).
    pub skipped: usize,
}

impl Counts {
    /// Counts one more case.
    pub fn count(&mut self, outcome: &Outcome<'_>) {
        self.tests += 1;
        match outcome {
            Outcome::Passed => {}
            Outcome::Failed(_) => self.failures += 1,
            Outcome::Error(_) => self.errors += 1,
            Outcome::Skipped { .. } => self.skipped += 1,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.tests += other.tests;
        self.failures += other.failures;
        self.errors += other.errors;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tests, {} failures, {} errors, {} skipped",
            self.tests, self.failures, self.errors, self.skipped
        )
    }
}

/// What a whole report adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of suites.
    pub suites: usize,
    /// All suites' cases.
    pub counts: Counts,
    /// Sum of the suites' durations, not the time that the run took on the wall.
    pub duration: Duration,
}

impl Totals {
    pub(crate) fn add(&mut self, suite: &Suite<'_>) {
        self.suites += 1;
        self.counts += suite.counts;
        self.duration = self.duration.saturating_add(suite.duration);
    }
}

/// A suite's header.
#[derive(Debug, Clone, Default)]
pub struct Suite<'a> {
    pub name: Cow<'a, str>,
    /// Path of the suite's file, if it is one file.
    pub file: Option<Cow<'a, str>>,
    /// Machine that ran the suite.
    pub hostname: Option<Cow<'a, str>>,
    /// Start, in microseconds since the Unix epoch; later than the year 9999 is written as that year's end.
    pub timestamp: Option<u64>,
    pub properties: Vec<Property<'a>>,
    /// Must agree with the suite's cases: [`write`](crate::write()) checks it.
    pub counts: Counts,
    /// Time that the suite took, set-up included. Written to the microsecond.
    pub duration: Duration,
}

/// A test case with its final outcome.
#[derive(Debug, Clone, Default)]
pub struct Case<'a> {
    pub name: Cow<'a, str>,
    pub classname: Cow<'a, str>,
    pub file: Option<Cow<'a, str>>,
    /// Line in `file`, counted from one.
    pub line: Option<u32>,
    /// Time of the attempt that gave the outcome. Written to the microsecond.
    pub duration: Duration,
    pub outcome: Outcome<'a>,
    pub system_out: Option<Cow<'a, str>>,
    pub system_err: Option<Cow<'a, str>>,
    pub properties: Vec<Property<'a>>,
    /// The attempts that failed besides the one that gave the outcome, in the order in which they are to be read.
    pub reruns: Vec<Rerun<'a>>,
}

/// How a case finally ended.
#[derive(Debug, Clone, Default)]
pub enum Outcome<'a> {
    #[default]
    Passed,
    /// The test's own assertion failed.
    Failed(Fault<'a>),
    /// Something went wrong that the test did not check for.
    Error(Fault<'a>),
    Skipped {
        /// The reason; no attribute is written for an empty one.
        message: Cow<'a, str>,
    },
}

/// What went wrong in an attempt.
#[derive(Debug, Clone, Default)]
pub struct Fault<'a> {
    /// One line, by custom.
    pub message: Cow<'a, str>,
    /// The attribute `type`: an exception's class, for example.
    pub kind: Cow<'a, str>,
    /// Stack trace or difference, as text.
    pub detail: Cow<'a, str>,
}

/// An attempt that failed, of a case that was tried again (elements of Surefire's report schema).
///
/// With a final failure or error it is written as `rerunFailure` or `rerunError`, otherwise as `flakyFailure` or
/// `flakyError`. The attribute `time` is an extension that nextest writes too.
#[derive(Debug, Clone)]
pub struct Rerun<'a> {
    pub kind: RerunKind,
    pub fault: Fault<'a>,
    /// Time of this attempt. Written to the microsecond.
    pub duration: Duration,
    pub system_out: Option<Cow<'a, str>>,
    pub system_err: Option<Cow<'a, str>>,
}

/// Whether an attempt failed an assertion or broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RerunKind {
    Failure,
    Error,
}
