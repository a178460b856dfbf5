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
        assert!(
            whole.0.len() <= most,
            "{} cases of {most} testcase elements",
            whole.0.len()
        );
    }
    assert_eq!(whole, cases(Trickle(bytes)), "byte by byte");

    let marks = bytes.iter().filter(|&&byte| byte == MARK).count();
    if (1..=MARKS).contains(&marks) {
        let long = vec![b'x'; LONG];
        let pieces: Vec<&[u8]> = bytes.split(|&byte| byte == MARK).collect();
        check(&cases(&*pieces.join(&*long)));
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
        // A case that has no room left has lost something.
        assert!(printed + 3 < CASE || summary.cut, "cut without a word");
    }
}

/// How many elements by the name of testcase there can be. A byte of ASCII is itself in every encoding but UTF-16, and
/// no character becomes one; zeros may be left out.
fn most_cases(bytes: &[u8]) -> Option<usize> {
    let is_wide = matches!(
        bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'<', 0, ..] | [0, b'<', ..]
    );
    let bytes: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != 0).collect();
    let elements = bytes
        .windows(9)
        .filter(|window| matches!(window[0], b'<' | b':') && &window[1..] == b"testcase");
    (!is_wide).then(|| elements.count())
}

/// Gives one byte at a time.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(1);
        self.0.read(&mut into[..most])
    }
}
