//! Whatever characters stand in whatever place, a parser reads them back.

use std::borrow::Cow;
use std::time::Duration;

use evenkeel_junit::{Case, Fault, Outcome, Property, Rerun, RerunKind, Suite};
use proptest::prelude::*;
use roxmltree::{Document, Node};

use crate::{Memory, elements, written};

/// What the crate's documentation promises for a string, written a second time.
fn expected(raw: &str) -> String {
    let replaced = |c: char| match u32::from(c) {
        0x9 | 0xA | 0xD => c,
        code @ 0..0x20 => char::from_u32(0x2400 + code).expect("a picture"),
        0xFFFE | 0xFFFF => '\u{fffd}',
        _ => c,
    };
    raw.chars().map(replaced).collect()
}

/// Any characters, with those that XML treats specially at least half of the time.
fn text() -> impl Strategy<Value = Cow<'static, str>> {
    const SPECIAL: &[&str] = &[
        "]]>",
        "]]",
        "]",
        ">",
        "<",
        "&",
        "\"",
        "'",
        "\t",
        "\n",
        "\r",
        "\r\n",
        " ",
        "\0",
        "\u{1b}",
        "\u{b}",
        "\u{1f}",
        "\u{7f}",
        "\u{85}",
        "\u{9f}",
        "\u{2028}",
        "\u{feff}",
        "\u{fffd}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{1ffff}",
        "<![CDATA[",
        "<!--",
        "-->",
        "<?",
        "?>",
        "&#10;",
        "&lt;",
        "&x;",
        "</testcase>",
        "é",
        "測",
        "🙂",
    ];
    let piece = prop_oneof![
        proptest::sample::select(SPECIAL).prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into())
}

fn maybe_text() -> impl Strategy<Value = Option<Cow<'static, str>>> {
    proptest::option::of(text())
}

fn properties() -> impl Strategy<Value = Vec<Property<'static>>> {
    proptest::collection::vec((text(), text()), 0..3)
}

fn any_fault() -> impl Strategy<Value = Fault<'static>> {
    (text(), text(), text()).prop_map(|(message, kind, detail)| Fault {
        message,
        kind,
        detail,
    })
}

fn outcome() -> impl Strategy<Value = Outcome<'static>> {
    prop_oneof![
        Just(Outcome::Passed),
        any_fault().prop_map(Outcome::Failed),
        any_fault().prop_map(Outcome::Error),
        text().prop_map(|message| Outcome::Skipped { message }),
    ]
}

fn rerun() -> impl Strategy<Value = Rerun<'static>> {
    let kind = prop_oneof![Just(RerunKind::Failure), Just(RerunKind::Error)];
    (kind, any_fault(), maybe_text(), maybe_text()).prop_map(
        |(kind, fault, system_out, system_err)| Rerun {
            kind,
            fault,
            duration: Duration::from_micros(5),
            system_out,
            system_err,
        },
    )
}

fn case() -> impl Strategy<Value = Case<'static>> {
    let place = (
        text(),
        text(),
        maybe_text(),
        any::<Option<u32>>(),
        0..u64::from(u32::MAX),
    );
    let reruns = proptest::collection::vec(rerun(), 0..3);
    let rest = (outcome(), maybe_text(), maybe_text(), properties(), reruns);
    (place, rest).prop_map(|((name, classname, file, line, micros), rest)| {
        let (outcome, system_out, system_err, properties, reruns) = rest;
        let duration = Duration::from_micros(micros);
        Case {
            name,
            classname,
            file,
            line,
            duration,
            outcome,
            system_out,
            system_err,
            properties,
            reruns,
        }
    })
}

fn suite() -> impl Strategy<Value = Suite<'static>> {
    (
        text(),
        maybe_text(),
        maybe_text(),
        any::<Option<u64>>(),
        properties(),
    )
        .prop_map(|(name, file, hostname, timestamp, properties)| Suite {
            name,
            file,
            hostname,
            timestamp,
            properties,
            ..Suite::default()
        })
}

/// The text that an element holds, in one piece.
fn content(node: Node<'_, '_>) -> String {
    assert!(node.children().count() <= 1 && node.children().all(|child| child.is_text()));
    node.text().unwrap_or("").to_owned()
}

fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.attribute(name).map(str::to_owned)
}

fn maybe(raw: &Option<Cow<'_, str>>) -> Option<String> {
    raw.as_deref().map(expected)
}

fn check_properties<'a, 'i: 'a>(
    children: &mut impl Iterator<Item = Node<'a, 'i>>,
    given: &[Property<'_>],
) {
    if given.is_empty() {
        return;
    }
    let properties = children.next().expect("properties come first");
    assert_eq!(properties.tag_name().name(), "properties");
    let read: Vec<_> = elements(properties)
        .map(|p| (attribute(p, "name"), attribute(p, "value")))
        .collect();
    let wanted: Vec<_> = given
        .iter()
        .map(|(n, v)| (Some(expected(n)), Some(expected(v))))
        .collect();
    assert_eq!(read, wanted);
}

fn check_outputs<'a, 'i: 'a>(
    children: &mut impl Iterator<Item = Node<'a, 'i>>,
    out: &Option<Cow<'_, str>>,
    err: &Option<Cow<'_, str>>,
) {
    for (name, output) in [("system-out", out), ("system-err", err)] {
        if output.is_some() {
            let node = children.next().expect("an output");
            assert_eq!(node.tag_name().name(), name);
            assert_eq!(Some(content(node)), maybe(output));
        }
    }
    assert!(children.next().is_none());
}

fn check_fault(node: Node<'_, '_>, name: &str, fault: &Fault<'_>) {
    assert_eq!(node.tag_name().name(), name);
    assert_eq!(attribute(node, "message"), Some(expected(&fault.message)));
    assert_eq!(attribute(node, "type"), Some(expected(&fault.kind)));
}

fn check_case(node: Node<'_, '_>, case: &Case<'_>) {
    assert_eq!(attribute(node, "name"), Some(expected(&case.name)));
    assert_eq!(
        attribute(node, "classname"),
        Some(expected(&case.classname))
    );
    assert_eq!(attribute(node, "file"), maybe(&case.file));
    assert_eq!(
        attribute(node, "line"),
        case.line.map(|line| line.to_string())
    );
    let micros = case.duration.as_micros();
    let time = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    assert_eq!(attribute(node, "time"), Some(time));

    let mut children = elements(node);
    check_properties(&mut children, &case.properties);
    let prefix = match &case.outcome {
        Outcome::Passed => "flaky",
        Outcome::Failed(fault) | Outcome::Error(fault) => {
            let node = children.next().expect("a failure or error");
            let failed = matches!(case.outcome, Outcome::Failed(_));
            check_fault(node, if failed { "failure" } else { "error" }, fault);
            assert_eq!(content(node), expected(&fault.detail));
            "rerun"
        }
        Outcome::Skipped { message } => {
            let node = children.next().expect("a skip");
            assert_eq!(node.tag_name().name(), "skipped");
            assert_eq!(
                attribute(node, "message").unwrap_or_default(),
                expected(message)
            );
            assert_eq!(attribute(node, "type"), None);
            "flaky"
        }
    };
    for rerun in &case.reruns {
        let node = children.next().expect("an earlier attempt");
        check_fault(node, &format!("{prefix}{:?}", rerun.kind), &rerun.fault);
        let mut inner = elements(node);
        let trace = inner.next().expect("a stack trace");
        assert_eq!(trace.tag_name().name(), "stackTrace");
        assert_eq!(content(trace), expected(&rerun.fault.detail));
        check_outputs(&mut inner, &rerun.system_out, &rerun.system_err);
    }
    check_outputs(&mut children, &case.system_out, &case.system_err);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_parser_reads_what_was_given(
        name in text(),
        suites in proptest::collection::vec((suite(), proptest::collection::vec(case(), 0..4)), 0..4),
    ) {
        let report = suites.into_iter().fold(Memory::default(), |report, (suite, cases)| report.with(suite, cases));
        let (xml, totals) = written(&report, &name);
        let document = Document::parse(&xml).expect("well-formed");
        let root = document.root_element();
        prop_assert_eq!(attribute(root, "name"), Some(expected(&name)));
        prop_assert_eq!(attribute(root, "tests"), Some(totals.counts.tests.to_string()));
        prop_assert_eq!(elements(root).count(), report.0.len());

        for (node, (suite, cases)) in elements(root).zip(&report.0) {
            prop_assert_eq!(attribute(node, "name"), Some(expected(&suite.name)));
            prop_assert_eq!(attribute(node, "file"), maybe(&suite.file));
            prop_assert_eq!(attribute(node, "hostname"), maybe(&suite.hostname));
            prop_assert_eq!(attribute(node, "timestamp").is_some(), suite.timestamp.is_some());
            prop_assert_eq!(attribute(node, "failures"), Some(suite.counts.failures.to_string()));
            prop_assert_eq!(attribute(node, "errors"), Some(suite.counts.errors.to_string()));
            prop_assert_eq!(attribute(node, "skipped"), Some(suite.counts.skipped.to_string()));
            let mut children = elements(node);
            check_properties(&mut children, &suite.properties);
            let children: Vec<_> = children.collect();
            prop_assert_eq!(children.len(), cases.len());
            for (node, case) in children.into_iter().zip(cases) {
                check_case(node, case);
            }
        }
    }
}
