//! A fragment: some consecutive cases of one suite as XML, with the suite's start and end where they belong to it.
//!
//! junit-report builds the fragment; one pass over its events writes the report's own version of it. Everything that
//! the report says beyond junit-report is in [`Pass`], and only there.

use std::slice;
use std::time::Duration;

use junit_report::{OffsetDateTime, Report, TestCase, TestResult, TestSuite};
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer};
use thiserror::Error;

use crate::element::{copy, element, set, set_number, set_time};
use crate::model::{Case, Fault, Outcome, Property, Rerun, RerunKind, Suite};
use crate::text;

/// The last microsecond of the year 9999, where the timestamps end that RFC 3339 can write.
const LAST_TIMESTAMP: u64 = 253_402_300_799_999_999;

/// Why a fragment of a suite could not be written.
#[derive(Debug, Error)]
pub enum FragmentError {
    /// junit-report did not build it.
    #[error("junit-report cannot write the fragment")]
    Build {
        #[source]
        source: junit_report::Error,
    },
    /// What junit-report built is not XML.
    #[error("the fragment that junit-report wrote cannot be read")]
    Enrich {
        #[from]
        source: quick_xml::Error,
    },
    /// What junit-report built does not hold the cases that it was given.
    #[error("junit-report wrote more or fewer test cases than it was given")]
    Unpaired,
}

/// Appends a fragment to `out`. The suite's start is written if there is a `header`, its end if `last`.
pub(crate) fn append(
    header: Option<&Suite<'_>>,
    cases: &[Case<'_>],
    last: bool,
    out: &mut Vec<u8>,
) -> Result<(), FragmentError> {
    let mut report = Report::new();
    report.add_testsuite(test_suite(header, cases));
    let mut built = Vec::with_capacity(256 * (cases.len() + 1));
    report
        .write_xml(&mut built)
        .map_err(|source| FragmentError::Build { source })?;
    drop(report);

    let mut pass = Pass {
        header,
        cases: cases.iter(),
        reruns_due: None,
        last,
        writer: Writer::new(out),
    };
    pass.run(&built)?;
    match pass.cases.next() {
        None => Ok(()),
        Some(_) => Err(FragmentError::Unpaired),
    }
}

/// The suite as junit-report knows it, made field by field because its constructor reads the clock.
fn test_suite(header: Option<&Suite<'_>>, cases: &[Case<'_>]) -> TestSuite {
    let hostname = header.and_then(|suite| suite.hostname.as_deref());
    let timestamp = header.and_then(|suite| suite.timestamp).unwrap_or(0);
    let since_epoch = Duration::from_micros(timestamp.min(LAST_TIMESTAMP));
    TestSuite {
        name: clean(header.map_or("", |suite| &suite.name)),
        package: String::new(),
        timestamp: OffsetDateTime::UNIX_EPOCH + since_epoch,
        hostname: clean(hostname.unwrap_or("")),
        testcases: cases.iter().map(test_case).collect(),
        system_out: None,
        system_err: None,
    }
}

fn test_case(case: &Case<'_>) -> TestCase {
    TestCase {
        name: clean(&case.name),
        // The pass writes the time: here it would be a float of any length, and the suite's sum could overflow.
        time: junit_report::Duration::ZERO,
        result: test_result(&case.outcome),
        classname: Some(clean(&case.classname)),
        filepath: case.file.as_deref().map(clean),
        system_out: case.system_out.as_deref().map(cdata),
        system_err: case.system_err.as_deref().map(cdata),
    }
}

fn test_result(outcome: &Outcome<'_>) -> TestResult {
    let parts = |fault: &Fault<'_>| {
        let cause = (!fault.detail.is_empty()).then(|| cdata(&fault.detail));
        (clean(&fault.kind), clean(&fault.message), cause)
    };
    match outcome {
        Outcome::Passed => TestResult::Success,
        Outcome::Failed(fault) => {
            let (type_, message, cause) = parts(fault);
            TestResult::Failure {
                type_,
                message,
                cause,
            }
        }
        Outcome::Error(fault) => {
            let (type_, message, cause) = parts(fault);
            TestResult::Error {
                type_,
                message,
                cause,
            }
        }
        Outcome::Skipped { message } if message.is_empty() => TestResult::Skipped,
        Outcome::Skipped { message } => TestResult::SkippedWithCause {
            type_: String::new(),
            message: clean(message),
            cause: None,
        },
    }
}

fn clean(raw: &str) -> String {
    text::clean(raw).into_owned()
}

fn cdata(raw: &str) -> String {
    text::cdata(raw).into_owned()
}

/// The pass over the events of what junit-report built.
struct Pass<'a, 'out> {
    header: Option<&'a Suite<'a>>,
    /// The cases whose elements are still to come, in the order of the elements.
    cases: slice::Iter<'a, Case<'a>>,
    /// The case being written, until its earlier attempts are.
    reruns_due: Option<&'a Case<'a>>,
    last: bool,
    writer: Writer<&'out mut Vec<u8>>,
}

impl<'a> Pass<'a, '_> {
    fn run(&mut self, built: &[u8]) -> Result<(), FragmentError> {
        let mut reader = Reader::from_reader(built);
        loop {
            match reader.read_event()? {
                Event::Eof => return Ok(()),
                Event::Decl(_) => {}
                Event::Start(tag) => self.open(&tag, false)?,
                Event::Empty(tag) => self.open(&tag, true)?,
                Event::End(tag) => self.close(tag)?,
                // One run of text, not sections: some readers take an element's first piece for all of it.
                Event::CData(section) => {
                    self.content(&section.decode().map_err(quick_xml::Error::from)?)?
                }
                other => self.emit(other)?,
            }
        }
    }

    fn open(&mut self, tag: &BytesStart<'_>, empty: bool) -> Result<(), FragmentError> {
        match tag.name().as_ref() {
            b"testsuites" => Ok(()),
            b"testsuite" => self.open_suite(tag, empty),
            b"testcase" => self.open_case(tag, empty),
            b"system-out" | b"system-err" => {
                self.reruns()?;
                self.emit(Event::Start(tag.borrow()))
            }
            _ => self.open_result(tag, empty),
        }
    }

    fn close(&mut self, tag: BytesEnd<'_>) -> Result<(), FragmentError> {
        match tag.name().as_ref() {
            b"testsuites" => Ok(()),
            b"testsuite" => self.close_suite(),
            b"testcase" => {
                self.reruns()?;
                self.emit(Event::End(tag))
            }
            _ => self.emit(Event::End(tag)),
        }
    }

    fn open_suite(&mut self, tag: &BytesStart<'_>, empty: bool) -> Result<(), FragmentError> {
        if let Some(suite) = self.header {
            let mut start = element("testsuite");
            for attribute in tag.attributes().with_checks(false) {
                let attribute = attribute.map_err(quick_xml::Error::from)?;
                match attribute.key.as_ref() {
                    b"name" => {
                        copy(&mut start, &attribute)?;
                        if let Some(file) = &suite.file {
                            set(&mut start, "file", file);
                        }
                        set_number(&mut start, "tests", suite.counts.tests);
                        set_number(&mut start, "failures", suite.counts.failures);
                        set_number(&mut start, "errors", suite.counts.errors);
                        set_number(&mut start, "skipped", suite.counts.skipped);
                        set_time(&mut start, suite.duration);
                    }
                    b"timestamp" if suite.timestamp.is_some() => {
                        copy(&mut start, &attribute)?;
                    }
                    b"hostname" if suite.hostname.is_some() => {
                        copy(&mut start, &attribute)?;
                    }
                    _ => {}
                }
            }
            self.line_end()?;
            self.emit(Event::Start(start))?;
            self.properties(&suite.properties)?;
        }
        if empty { self.close_suite() } else { Ok(()) }
    }

    fn close_suite(&mut self) -> Result<(), FragmentError> {
        if self.last {
            self.line_end()?;
            self.emit(Event::End(BytesEnd::new("testsuite")))?;
        }
        Ok(())
    }

    fn open_case(&mut self, tag: &BytesStart<'_>, empty: bool) -> Result<(), FragmentError> {
        let case = self.cases.next().ok_or(FragmentError::Unpaired)?;
        let mut start = element("testcase");
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(quick_xml::Error::from)?;
            if attribute.key.as_ref() != b"time" {
                copy(&mut start, &attribute)?;
            }
        }
        if let Some(line) = case.line {
            set_number(&mut start, "line", line);
        }
        set_time(&mut start, case.duration);

        self.line_end()?;
        self.reruns_due = Some(case);
        if empty && case.properties.is_empty() && case.reruns.is_empty() {
            return self.emit(Event::Empty(start));
        }
        self.emit(Event::Start(start))?;
        self.properties(&case.properties)?;
        if empty {
            self.close(BytesEnd::new("testcase"))
        } else {
            Ok(())
        }
    }

    /// `failure`, `error` or `skipped`. junit-report gives a skip a type, which nobody asked for.
    fn open_result(&mut self, tag: &BytesStart<'_>, empty: bool) -> Result<(), FragmentError> {
        let mut start = tag.to_owned();
        start.clear_attributes();
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(quick_xml::Error::from)?;
            if attribute.key.as_ref() != b"type" || tag.name().as_ref() != b"skipped" {
                copy(&mut start, &attribute)?;
            }
        }
        self.emit(if empty {
            Event::Empty(start)
        } else {
            Event::Start(start)
        })
    }

    fn properties(&mut self, properties: &[Property<'_>]) -> Result<(), FragmentError> {
        if properties.is_empty() {
            return Ok(());
        }
        self.emit(Event::Start(BytesStart::new("properties")))?;
        for (name, value) in properties {
            let mut property = element("property");
            set(&mut property, "name", name);
            set(&mut property, "value", value);
            self.emit(Event::Empty(property))?;
        }
        self.emit(Event::End(BytesEnd::new("properties")))
    }

    /// Writes the case's earlier attempts unless they are written: Surefire's schema has them before the output.
    fn reruns(&mut self) -> Result<(), FragmentError> {
        let Some(case) = self.reruns_due.take() else {
            return Ok(());
        };
        let finally_bad = matches!(case.outcome, Outcome::Failed(_) | Outcome::Error(_));
        for rerun in &case.reruns {
            let name = match (finally_bad, rerun.kind) {
                (true, RerunKind::Failure) => "rerunFailure",
                (true, RerunKind::Error) => "rerunError",
                (false, RerunKind::Failure) => "flakyFailure",
                (false, RerunKind::Error) => "flakyError",
            };
            self.rerun(name, rerun)?;
        }
        Ok(())
    }

    fn rerun(&mut self, name: &'static str, rerun: &Rerun<'_>) -> Result<(), FragmentError> {
        let mut start = element(name);
        set(&mut start, "type", &rerun.fault.kind);
        set(&mut start, "message", &rerun.fault.message);
        set_time(&mut start, rerun.duration);
        self.emit(Event::Start(start))?;
        self.leaf("stackTrace", &rerun.fault.detail)?;
        if let Some(output) = &rerun.system_out {
            self.leaf("system-out", output)?;
        }
        if let Some(output) = &rerun.system_err {
            self.leaf("system-err", output)?;
        }
        self.emit(Event::End(BytesEnd::new(name)))
    }

    /// An element that holds nothing but text.
    fn leaf(&mut self, name: &'static str, raw: &str) -> Result<(), FragmentError> {
        self.emit(Event::Start(BytesStart::new(name)))?;
        self.content(&text::clean(raw))?;
        self.emit(Event::End(BytesEnd::new(name)))
    }

    fn content(&mut self, clean: &str) -> Result<(), FragmentError> {
        let escaped = text::escape_content(clean);
        self.emit(Event::Text(BytesText::from_escaped(escaped)))
    }

    fn line_end(&mut self) -> Result<(), FragmentError> {
        self.emit(Event::Text(BytesText::from_escaped("\n")))
    }

    fn emit(&mut self, event: Event<'_>) -> Result<(), FragmentError> {
        Ok(self
            .writer
            .write_event(event)
            .map_err(quick_xml::Error::from)?)
    }
}
