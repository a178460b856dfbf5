//! Reports and errors of known content.

use std::error::Error as _;
use std::io;
use std::ops::Range;
use std::time::Duration;

use evenkeel_junit::{
    Case, Counts, Fault, Outcome, Rerun, RerunKind, Source, Suite, Totals, WriteError, write,
};
use roxmltree::Document;

use crate::{Memory, elements, written};

fn fault(message: &'static str, kind: &'static str, detail: &'static str) -> Fault<'static> {
    Fault {
        message: message.into(),
        kind: kind.into(),
        detail: detail.into(),
    }
}

#[test]
fn a_report_looks_like_this() {
    let flaky = Case {
        name: "flaky".into(),
        classname: "a.B".into(),
        reruns: vec![Rerun {
            kind: RerunKind::Error,
            fault: fault("no route", "OSError", "at a.py:3"),
            duration: Duration::from_millis(250),
            system_out: Some("try 1".into()),
            system_err: None,
        }],
        system_out: Some("try 2".into()),
        ..Case::default()
    };
    let failed = Case {
        name: "adds".into(),
        classname: "a.B".into(),
        file: Some("a.py".into()),
        line: Some(7),
        duration: Duration::from_micros(1_500_001),
        outcome: Outcome::Failed(fault("1 != 2\n+1", "AssertionError", "if a < b ]]> c\r\n")),
        properties: vec![("owner".into(), "\"me\"".into())],
        reruns: vec![Rerun {
            kind: RerunKind::Failure,
            fault: fault("", "", ""),
            duration: Duration::ZERO,
            system_out: None,
            system_err: Some("\u{1b}[1m".into()),
        }],
        ..Case::default()
    };
    let skipped = Case {
        name: "later".into(),
        outcome: Outcome::Skipped {
            message: "not on Linux".into(),
        },
        ..Case::default()
    };
    let bare_skip = Case {
        name: "never".into(),
        outcome: Outcome::Skipped { message: "".into() },
        ..Case::default()
    };
    let suite = Suite {
        name: "a.py".into(),
        file: Some("t/a.py".into()),
        hostname: Some("agent-1".into()),
        timestamp: Some(1_700_000_000_123_456),
        properties: vec![("shard".into(), "3/8".into())],
        duration: Duration::from_secs(2),
        ..Suite::default()
    };
    let report = Memory::default()
        .with(suite, vec![flaky, failed, skipped, bare_skip])
        .with(
            Suite {
                name: "empty".into(),
                ..Suite::default()
            },
            Vec::new(),
        );

    let (xml, totals) = written(&report, "run 1");
    assert_eq!(xml, include_str!("report.xml"));
    let counts = Counts {
        tests: 4,
        failures: 1,
        errors: 0,
        skipped: 2,
    };
    assert_eq!(
        totals,
        Totals {
            suites: 2,
            counts,
            duration: Duration::from_secs(2)
        }
    );
}

#[test]
fn a_report_without_suites_is_one() {
    let (xml, totals) = written(&Memory::default(), "");
    let document = Document::parse(&xml).expect("well-formed");
    assert_eq!(document.root_element().attribute("tests"), Some("0"));
    assert_eq!(totals, Totals::default());
}

#[test]
fn extreme_times_are_written() {
    let suite = Suite {
        timestamp: Some(u64::MAX),
        duration: Duration::MAX,
        ..Suite::default()
    };
    let case = Case {
        duration: Duration::MAX,
        ..Case::default()
    };
    let report = Memory::default()
        .with(suite.clone(), vec![case.clone(), case])
        .with(suite, vec![]);
    let (xml, _) = written(&report, "");
    let document = Document::parse(&xml).expect("well-formed");
    let suite = document
        .root_element()
        .first_element_child()
        .expect("a suite");
    assert_eq!(
        suite.attribute("timestamp"),
        Some("9999-12-31T23:59:59.999999Z")
    );
    assert_eq!(suite.attribute("time"), Some("18446744073709551616.000000"));
}

/// Fragments and batches meet at multiples of small powers of two.
#[test]
fn suites_of_any_size_stay_whole() {
    let mut report = Memory::default();
    for tests in [0, 1, 15, 16, 17, 511, 512, 513, 0, 0, 2_000, 3] {
        let case = |number: usize| Case {
            name: number.to_string().into(),
            ..Case::default()
        };
        report = report.with(Suite::default(), (0..tests).map(case).collect());
    }
    let (xml, totals) = written(&report, "");
    let document = Document::parse(&xml).expect("well-formed");
    let suites: Vec<_> = elements(document.root_element()).collect();
    assert_eq!(suites.len(), report.suites());
    for (suite, (header, cases)) in suites.iter().zip(&report.0) {
        assert_eq!(
            suite.attribute("tests"),
            Some(header.counts.tests.to_string().as_str())
        );
        let names = elements(*suite).map(|case| case.attribute("name").expect("a name"));
        assert!(names.eq(cases.iter().map(|case| &*case.name)));
    }
    assert_eq!(totals.counts.tests, 3_588);
}

/// The writer leaves the fragments of a batch that has grown large for later, and must not lose their place.
#[test]
fn large_outputs_stay_in_order() {
    let case = |number: usize| Case {
        name: number.to_string().into(),
        system_out: Some("x".repeat(20_000).into()),
        ..Case::default()
    };
    let report = Memory::default()
        .with(Suite::default(), (0..700).map(case).collect())
        .with(Suite::default(), (700..800).map(case).collect());
    let (xml, _) = written(&report, "");
    let document = Document::parse(&xml).expect("well-formed");
    let cases = document
        .descendants()
        .filter(|node| node.has_tag_name("testcase"));
    let names = cases.map(|case| case.attribute("name").expect("a name").to_owned());
    assert!(names.eq((0..800).map(|number| number.to_string())));
}

#[test]
fn a_wrong_header_is_an_error() {
    let mut report = Memory::default().with(Suite::default(), vec![Case::default()]);
    report.0[0].0.counts.failures = 1;
    let error = write(&report, "", &mut io::sink()).expect_err("one failure stated, none found");
    assert!(matches!(error, WriteError::Miscounted { found, .. } if found.failures == 0));
}

#[test]
fn missing_cases_are_an_error() {
    struct Forgetful;
    impl Source for Forgetful {
        fn suites(&self) -> usize {
            1
        }
        fn suite(&self, _: usize) -> Suite<'_> {
            let counts = Counts {
                tests: 20,
                ..Counts::default()
            };
            Suite {
                name: "s".into(),
                counts,
                ..Suite::default()
            }
        }
        fn cases(&self, _: usize, range: Range<usize>) -> Vec<Case<'_>> {
            vec![Case::default(); range.len().min(5)]
        }
    }
    let error = write(&Forgetful, "", &mut io::sink()).expect_err("cases are missing");
    assert!(
        matches!(error, WriteError::Cases { given: 5, .. }),
        "{error}"
    );
}

#[test]
fn a_full_disk_is_an_error() {
    let report = Memory::default().with(Suite::default(), vec![Case::default(); 10]);
    let mut disk = [0_u8; 200];
    let error = write(&report, "", &mut &mut disk[..]).expect_err("the disk is full");
    assert_eq!(error.to_string(), "cannot write the report");
    assert!(error.source().is_some());
}
