//! Any bytes as a report: nothing panics, nothing grows past its bounds, and how the bytes arrive makes no difference.

#![no_main]

use evenkeel_junit::{ReadCase, ReadOutcome, ReadSuite, Summary, read};
use libfuzzer_sys::fuzz_target;
use std::io::{self, Read};

/// What is kept of an attribute, bytes. A character that the cut parts becomes U+FFFD, which can be two bytes longer.
const VALUE: usize = (64 << 10) + 2;
/// What is kept of all that a case prints and tells.
const CASE: usize = 1 << 20;
/// Suites around a case that are named.
const DEPTH: usize = 256;
/// This byte, which no XML may hold, stands for a long text: a fuzzer's inputs are too short to reach the bounds.
const MARK: u8 = 1;
const LONG: usize = 240_000;
const MARKS: usize = 8;

type Cases = Vec<(Vec<ReadSuite>, ReadCase)>;

fuzz_target!(|bytes: &[u8]| {
    let whole = cases(bytes);
    check(&whole);
    if let Some(most) = most_cases(bytes) {
        let found = whole.0.len();
        assert!(found <= most, "{found} cases of {most} testcase elements");
    }
    let trickle = Trickle {
        rest: bytes,
        is_ready: false,
    };
    assert_eq!(whole, cases(trickle), "byte by byte");

    let marks = bytes.iter().filter(|&&byte| byte == MARK).count();
    if (1..=MARKS).contains(&marks) {
        let long = vec![b'x'; LONG];
        let pieces: Vec<&[u8]> = bytes.split(|&byte| byte == MARK).collect();
        let short = cases(&*pieces.join(&b'x'));
        let long = cases(&*pieces.join(&*long));
        check(&long);
        // What is cut stays an element, and so does what is behind it. Of a document type so much is not promised.
        let has_type = bytes
            .windows(3)
            .any(|window| matches!(window, b"<!D" | b"<!d"));
        assert!(
            has_type || short.0.len() == long.0.len(),
            "{} cases, of long texts {}",
            short.0.len(),
            long.0.len()
        );
    }
});

fn cases(input: impl Read) -> (Cases, Summary) {
    let mut cases = Cases::new();
    let summary = read(input, |suites, case| cases.push((suites.to_vec(), case)));
    (cases, summary)
}

/// What the reader promises of every input.
fn check((cases, summary): &(Cases, Summary)) {
    let of = |outcome| {
        let those = cases.iter().filter(|(_, case)| case.outcome == outcome);
        those.count() as u64
    };
    assert_eq!(summary.cases, cases.len() as u64);
    assert_eq!(summary.passed, of(ReadOutcome::Passed));
    assert_eq!(summary.failed, of(ReadOutcome::Failed));
    assert_eq!(summary.errors, of(ReadOutcome::Error));
    assert_eq!(summary.skipped, of(ReadOutcome::Skipped));
    let damage = summary.damage.as_deref().unwrap_or("none");
    assert!(!damage.is_empty() && damage.len() < 1 << 10, "{damage}");
    for (suites, case) in cases {
        assert!(suites.len() <= DEPTH);
        let of_suites = suites.iter().flat_map(|suite| [&suite.name, &suite.file]);
        let of_case = [&case.name, &case.class, &case.file];
        assert!(of_suites.chain(of_case).all(|value| value.len() <= VALUE));
        let printed = case.detail.len() + case.stdout.len() + case.stderr.len();
        assert!(printed <= CASE, "{printed} bytes of texts");
        // The message may be the text of a `skipped` element.
        assert!(case.message.len() <= CASE);
        // Texts end a few bytes before the bound only if it is what ended them: no character is longer than four bytes,
        // and two are kept for what parts the texts of faults.
        assert!(printed + 6 < CASE || summary.cut, "cut without a word");
    }
}

/// How many elements by the name of testcase there can be. A byte of ASCII is itself in every encoding but UTF-16, and
/// no other character becomes one.
fn most_cases(bytes: &[u8]) -> Option<usize> {
    let is_wide = matches!(
        bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'<', 0, ..] | [0, b'<', ..]
    );
    let elements = bytes
        .windows(9)
        .filter(|window| matches!(window[0], b'<' | b':') && window.ends_with(b"testcase"));
    (!is_wide).then(|| elements.count())
}

/// Gives one byte at a time, and is interrupted before each.
struct Trickle<'a> {
    rest: &'a [u8],
    is_ready: bool,
}

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.is_ready = !self.is_ready;
        if self.is_ready {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = into.len().min(1);
        self.rest.read(&mut into[..most])
    }
}
