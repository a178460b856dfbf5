//! The record as a source for the JUnit writer: one suite a unit.

use super::Outputs;
use crate::record::{Attempt, Case, Outcome, Record, Unit, Verdict};
use evenkeel_junit as junit;
use junit::{Counts, Fault, Property, Rerun, RerunKind};
use std::borrow::Cow;
use std::io::Write;
use std::ops::Range;
use std::time::Duration;

/// Writes the report of the whole run, or of one of its suites.
pub(super) fn write(
    record: &Record,
    suite: Option<u32>,
    outputs: &Outputs,
    out: &mut impl Write,
) -> Result<(), junit::WriteError> {
    let units = record.units.iter();
    let units = units.filter(|unit| suite.is_none_or(|suite| suite == unit.suite));
    let several = suite.is_none() && record.opened.suites.len() > 1;
    let source = RecordSource {
        record,
        units: units.collect(),
        several,
        outputs,
    };
    let name = match suite {
        Some(suite) => record.opened.suites[suite as usize].name.clone(),
        None => record.suites(),
    };
    junit::write(&source, &name, out).map(|_| ())
}

struct RecordSource<'a> {
    record: &'a Record,
    units: Vec<&'a Unit>,
    /// It holds units of several suites, which may have the same names.
    several: bool,
    outputs: &'a Outputs,
}

/// A unit without cases that has a verdict as a whole is reported as one case.
fn stands_for_itself(unit: &Unit) -> bool {
    unit.settled.is_some() || !unit.declared
}

fn verdict(case: &Case) -> Verdict {
    case.verdict().unwrap_or(Verdict::Lost)
}

fn count(counts: &mut Counts, verdict: Verdict) {
    counts.tests += 1;
    match verdict {
        Verdict::Passed => {}
        Verdict::Failed => counts.failures += 1,
        // JUnit has no word for a test that nobody ran: lost is an error, left out on purpose is skipped.
        Verdict::Error | Verdict::Lost => counts.errors += 1,
        Verdict::Skipped | Verdict::NotRun => counts.skipped += 1,
    }
}

impl junit::Source for RecordSource<'_> {
    fn suites(&self) -> usize {
        self.units.len()
    }

    fn suite(&self, index: usize) -> junit::Suite<'_> {
        let unit = self.units[index];
        let mut counts = Counts::default();
        let mut duration = Duration::ZERO;
        for case in &unit.cases {
            count(&mut counts, verdict(case));
            duration += case
                .last_attempt()
                .map_or(Duration::ZERO, |attempt| attempt.duration.into());
        }
        if stands_for_itself(unit) {
            count(
                &mut counts,
                unit.settled
                    .as_ref()
                    .map_or(Verdict::Lost, |(verdict, _)| *verdict),
            );
        }
        let opened = &self.record.opened;
        junit::Suite {
            name: self.title(unit),
            file: Some(Cow::Borrowed(&unit.name)),
            timestamp: Some(opened.opened_unix_us),
            properties: vec![
                property("evenkeel.run", opened.run.as_str()),
                property("evenkeel.round", opened.round.to_string()),
                property("evenkeel.suite", self.record.suite_of(unit).name.as_str()),
            ],
            counts,
            duration,
            ..junit::Suite::default()
        }
    }

    fn cases(&self, suite: usize, range: Range<usize>) -> Vec<junit::Case<'_>> {
        let unit = self.units[suite];
        range
            .map(|index| match unit.cases.get(index) {
                Some(case) => self.case(unit, case),
                None => whole(unit),
            })
            .collect()
    }
}

fn property<'a>(name: &'a str, value: impl Into<Cow<'a, str>>) -> Property<'a> {
    (Cow::Borrowed(name), value.into())
}

fn whole(unit: &Unit) -> junit::Case<'_> {
    let (verdict, reason) = unit.settled.clone().unwrap_or((Verdict::Lost, "".into()));
    junit::Case {
        name: Cow::Borrowed(&unit.name),
        classname: Cow::Borrowed(""),
        file: Some(Cow::Borrowed(&unit.name)),
        outcome: without_attempt(verdict, reason.into_string()),
        ..junit::Case::default()
    }
}

fn without_attempt<'a>(verdict: Verdict, reason: String) -> junit::Outcome<'a> {
    let kind = Cow::Borrowed(verdict.name());
    let fault = |message: String| Fault {
        message: Cow::Owned(message),
        kind,
        detail: Cow::Borrowed(""),
    };
    match verdict {
        Verdict::Passed => junit::Outcome::Passed,
        Verdict::Failed => junit::Outcome::Failed(fault(reason)),
        Verdict::Error => junit::Outcome::Error(fault(reason)),
        Verdict::Lost => junit::Outcome::Error(fault(format!("lost: {reason}"))),
        Verdict::Skipped => junit::Outcome::Skipped {
            message: Cow::Owned(reason),
        },
        Verdict::NotRun => junit::Outcome::Skipped {
            message: Cow::Owned(format!("not run: {reason}")),
        },
    }
}

impl RecordSource<'_> {
    /// What a unit is called, with its suite where there are several.
    fn title<'a>(&'a self, unit: &'a Unit) -> Cow<'a, str> {
        if self.several {
            let suite = &self.record.suite_of(unit).name;
            Cow::Owned(format!("{suite}: {}", unit.name))
        } else {
            Cow::Borrowed(&unit.name)
        }
    }

    fn case<'a>(&'a self, unit: &'a Unit, case: &'a Case) -> junit::Case<'a> {
        let (class, name) = names(case);
        let labels = case.labels.as_deref();
        let file = labels
            .map(|labels| &*labels.file)
            .filter(|file| !file.is_empty())
            .unwrap_or(&unit.name);
        let mut report = junit::Case {
            name,
            classname: class,
            file: Some(Cow::Borrowed(file)),
            line: labels.map(|labels| labels.line).filter(|line| *line > 0),
            ..junit::Case::default()
        };
        let mut attempts: Vec<&Attempt> = case.attempts().collect();
        let Some(last) = attempts.pop().filter(|_| case.reason.is_none()) else {
            let reason = case.reason.as_deref().unwrap_or("no verdict came for it");
            report.outcome = without_attempt(verdict(case), reason.to_owned());
            return report;
        };
        let text = last
            .text
            .as_deref()
            .map(|text| self.outputs.read(text))
            .unwrap_or_default();
        let fault = |detail: String| Fault {
            message: Cow::Borrowed(&last.message),
            kind: Cow::Borrowed(verdict(case).name()),
            detail: Cow::Owned(detail),
        };
        report.outcome = match verdict(case) {
            Verdict::Passed => junit::Outcome::Passed,
            Verdict::Failed => junit::Outcome::Failed(fault(text.detail)),
            Verdict::Error | Verdict::Lost => junit::Outcome::Error(fault(text.detail)),
            Verdict::Skipped | Verdict::NotRun => junit::Outcome::Skipped {
                message: Cow::Borrowed(&last.message),
            },
        };
        report.duration = last.duration.into();
        let (mut out, mut err) = (String::new(), String::new());
        for (name, text) in &text.output {
            let target = if name.contains("err") {
                &mut err
            } else {
                &mut out
            };
            if !matches!(name.as_str(), "stdout" | "stderr") {
                target.push_str(&format!("[{name}]\n"));
            }
            target.push_str(text);
        }
        report.system_out = (!out.is_empty()).then_some(Cow::Owned(out));
        report.system_err = (!err.is_empty()).then_some(Cow::Owned(err));
        report.properties = self.properties(last, attempts.len() + 1);
        let own = text.properties.into_iter();
        let own = own.map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)));
        report.properties.extend(own);
        report.reruns = attempts
            .into_iter()
            .map(|attempt| self.rerun(attempt))
            .collect();
        report
    }

    fn properties(&self, attempt: &Attempt, number: usize) -> Vec<Property<'_>> {
        let Some(lease) = self.record.lease(attempt.lease.into()) else {
            return Vec::new();
        };
        let shard = &self.record.shards[lease.shard as usize];
        let agent = &self.record.agents[shard.agent as usize];
        vec![
            property(
                "evenkeel.shard",
                format!("{}/{}", lease.shard + 1, self.record.shards.len()),
            ),
            property("evenkeel.agent", agent.name.as_str()),
            property("evenkeel.incarnation", attempt.incarnation.to_string()),
            property("evenkeel.attempt", number.to_string()),
        ]
    }

    fn rerun(&self, attempt: &Attempt) -> Rerun<'_> {
        let text = attempt
            .text
            .as_deref()
            .map(|text| self.outputs.read(text))
            .unwrap_or_default();
        Rerun {
            kind: if attempt.outcome == Outcome::Failed {
                RerunKind::Failure
            } else {
                RerunKind::Error
            },
            fault: Fault {
                message: Cow::Owned(attempt.message.to_string()),
                kind: Cow::Borrowed("killed"),
                detail: Cow::Owned(text.detail),
            },
            duration: attempt.duration.into(),
            system_out: None,
            system_err: None,
        }
    }
}

/// Class and name: the framework's own where it gave them, else the id split behind its last `::` outside brackets, with
/// the class in dots.
pub(super) fn names(case: &Case) -> (Cow<'_, str>, Cow<'_, str>) {
    let labels = case.labels.as_deref();
    let given = |label: fn(&crate::record::CaseLabels) -> &str| {
        labels.map(label).filter(|label| !label.is_empty())
    };
    let bracket = case.id.find('[').unwrap_or(case.id.len());
    let (class, name) = match case.id[..bracket].rfind("::") {
        Some(at) => (&case.id[..at], &case.id[at + 2..]),
        None => ("", &*case.id),
    };
    let dotted = || {
        let mut parts = class.split("::");
        let file = parts.next().unwrap_or_default();
        let file = file.strip_suffix(".py").unwrap_or(file).replace('/', ".");
        Cow::Owned(parts.fold(file, |dotted, part| dotted + "." + part))
    };
    (
        given(|labels| &labels.class).map_or_else(dotted, Cow::Borrowed),
        Cow::Borrowed(given(|labels| &labels.name).unwrap_or(name)),
    )
}
