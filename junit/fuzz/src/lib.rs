//! What the reader of reports promises of any bytes. The fuzz targets and the crate's own tests check it in the same way.

use evenkeel_junit::{ReadCase, ReadOutcome, ReadSuite, Summary};
use std::io::{self, Read};

/// What is kept of an attribute, bytes.
const VALUE: usize = 64 << 10;
/// What is kept of all that a case prints and tells.
const CASE: usize = 1 << 20;
/// Suites around a case that are named.
const DEPTH: usize = 256;
/// This byte, which no XML may hold, stands for a long text: a fuzzer's inputs are too short to reach the bounds.
const MARK: u8 = 1;
const LONG: usize = 240_000;
const MARKS: usize = 8;

type Cases = Vec<(Vec<ReadSuite>, ReadCase)>;

/// Nothing panics, nothing grows past its bounds, and how the bytes arrive makes no difference.
pub fn read(bytes: &[u8]) {
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
        // What is cut stays an element, and so does what is behind it. Not in a document type, nor where the encoding is
        // found only in the shorter one.
        let has_type = bytes
            .windows(3)
            .any(|window| matches!(window, b"<!D" | b"<!d"));
        if bytes.is_ascii() && !is_wide(bytes) && !has_type {
            assert_eq!(short.0.len(), long.0.len(), "cases, of long texts too");
        }
    }
}

/// Of the last two bytes as a place and of what stands before them as a report: the cases before the place are those
/// that the whole report begins with.
pub fn cut(bytes: &[u8]) {
    let Some((report, &where_to)) = bytes.split_last_chunk() else {
        return;
    };
    let at = usize::from(u16::from_le_bytes(where_to)) % (report.len() + 1);
    let beginning = &report[..at];
    let (all, _) = cases(report);
    let (some, cut) = cases(beginning);

    // A case is handed over at its end tag with all that is told of it, its suites' times too: nothing behind changes it.
    assert!(all.starts_with(&some), "cut at {at}: {some:#?} of {all:#?}");

    // Where there is nothing to say of the beginning, nothing is open at the cut: a case put there stands by itself.
    // Not in UTF-16, where the mark would be other characters.
    if cut.damage.is_none() && !is_wide(report) {
        let mark = b"<testcase name=\"mark\"/>";
        let (more, _) = cases(&*[beginning, mark].concat());
        assert_eq!(more.len(), some.len() + 1, "cut at {at} without a word");
        let last = more
            .last()
            .map(|(suites, case)| (suites.len(), &*case.name));
        assert_eq!(last, Some((0, "mark")), "cut at {at} without a word");
    }

    // What cannot be read any further gives the same cases, and never passes for whole.
    let (read, broken) = cases(beginning.chain(Broken));
    assert_eq!(read, some, "cannot be read at {at}");
    assert!(broken.damage.is_some(), "an error at {at} without a word");
}

fn cases(input: impl Read) -> (Cases, Summary) {
    let mut cases = Cases::new();
    let summary = evenkeel_junit::read(input, |suites, case| cases.push((suites.to_vec(), case)));
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
    let elements = bytes
        .windows(9)
        .filter(|window| matches!(window[0], b'<' | b':') && window.ends_with(b"testcase"));
    (!is_wide(bytes)).then(|| elements.count())
}

/// UTF-16, with a mark or without.
fn is_wide(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'<', 0, ..] | [0, b'<', ..]
    )
}

/// Gives one byte at a time, and is interrupted before each; not before the end, where encoding_rs_io would forget the
/// half of a character.
struct Trickle<'a> {
    rest: &'a [u8],
    is_ready: bool,
}

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.is_ready = !self.is_ready;
        if self.is_ready && !self.rest.is_empty() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = into.len().min(1);
        self.rest.read(&mut into[..most])
    }
}

/// A disk that gives no more.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("a broken disk"))
    }
}
