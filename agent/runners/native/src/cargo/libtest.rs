//! What a test binary prints while it runs tests one by one, in libtest's stable format.
//!
//! `test NAME ... ` stands before a test's own output, and `ok`, `FAILED` or `ignored` behind it. Which names can come is known,
//! and a test has ended when the next one starts or the binary sums up: so a test may print what it likes, these very words
//! included. The binary's own sums are compared with what was read.

use crate::wire::{CaseResult, Outcome, Output};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Of a test's output so much is kept at both ends, bytes.
const KEPT: usize = 512 << 10;
/// What stands between a test's name and what it prints.
const DOTS: &[u8] = b" ... ";

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Start {
        case: usize,
        at: Instant,
    },
    End {
        case: usize,
        started: Instant,
        at: Instant,
        /// Of its time, what each process pays once: see [`Reader::note_backtrace`].
        setup: Duration,
        result: CaseResult,
    },
}

/// How many tests passed, failed and were ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl Tally {
    fn of(&mut self, outcome: Outcome) -> &mut usize {
        match outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Skipped => &mut self.ignored,
            Outcome::Failed | Outcome::Error => &mut self.failed,
        }
    }
}

/// What is left when a binary has ended.
#[derive(Debug)]
pub(super) struct Left {
    /// What it was told to run and did not start.
    pub unstarted: Vec<usize>,
    /// The test that ran when it ended, since when, and what that had printed.
    pub broken: Option<(usize, Instant, String)>,
    /// What it printed before it started any test, where it started none.
    pub said: String,
    /// Its own sums, where it came to them, and ours.
    pub sums: Option<Tally>,
    pub counted: Tally,
}

struct Running {
    /// None: it was not asked for, and is only told from the others.
    case: Option<usize>,
    started: Instant,
    panics: bool,
    /// When the first backtrace of this process was begun in it.
    backtrace: Option<Instant>,
}

pub(super) struct Reader {
    /// The tests that have not started, by name. A name may come more than once; one without a position was not asked for.
    waiting: HashMap<String, VecDeque<Option<usize>>>,
    running: Option<Running>,
    /// What was printed since the running test started.
    text: Vec<u8>,
    /// No test starts before this position.
    searched: usize,
    /// Bytes that were left out of the middle of `text`.
    left_out: usize,
    counted: Tally,
    /// What was summed up before the last test: rustdoc runs what it could compile together, sums up, and goes on with the rest.
    summed: Tally,
    /// A backtrace has been printed.
    backtraced: bool,
}

impl Reader {
    /// Reads of these tests: each one's position and name. The others may run, too, where they could not be kept from it.
    pub(super) fn new<'a>(
        tests: impl Iterator<Item = (usize, &'a str)>,
        others: impl Iterator<Item = &'a str>,
    ) -> Reader {
        let mut waiting: HashMap<String, VecDeque<Option<usize>>> = HashMap::new();
        let tests = tests.map(|(case, name)| (Some(case), name));
        for (case, name) in tests.chain(others.map(|name| (None, name))) {
            waiting.entry(name.to_owned()).or_default().push_back(case);
        }
        Reader {
            waiting,
            running: None,
            text: Vec::new(),
            searched: 0,
            left_out: 0,
            counted: Tally::default(),
            summed: Tally::default(),
            backtraced: false,
        }
    }

    /// The test that runs has printed this so far.
    pub(super) fn output_so_far(&self) -> String {
        self.readable(&self.text)
    }

    pub(super) fn feed(&mut self, bytes: &[u8], at: Instant, seen: &mut Vec<Seen>) {
        self.text.extend_from_slice(bytes);
        self.note_backtrace(bytes, at);
        while let Some(dots) = find(&self.text, DOTS, self.searched) {
            let Some((begins, case, panics)) = self.starts_before(dots) else {
                self.searched = dots + DOTS.len();
                continue;
            };
            if let Some(running) = self.running.take() {
                let segment = self.text[..begins].to_vec();
                seen.extend(self.end(&running, &segment, at));
            }
            self.text.drain(..dots + DOTS.len());
            self.searched = 0;
            self.left_out = 0;
            self.running = Some(Running {
                case,
                started: at,
                panics,
                backtrace: None,
            });
            seen.extend(case.map(|case| Seen::Start { case, at }));
            let rest = self.text.clone();
            self.note_backtrace(&rest, at);
        }
        // The dots may have come in part.
        self.searched = self
            .searched
            .max(self.text.len().saturating_sub(DOTS.len() - 1));
        if self.text.len() > 4 * KEPT {
            let end = self.text.len() - KEPT;
            self.text.drain(KEPT..end);
            self.left_out += end - KEPT;
            self.searched = self.text.len() - (DOTS.len() - 1);
        }
    }

    /// The first backtrace of a process loads the binary's debugging information, which can take longer than all of its tests. It
    /// falls to whichever test panics first, also to one that should.
    fn note_backtrace(&mut self, bytes: &[u8], at: Instant) {
        const PANIC: &[u8] = b" panicked at ";
        if self.backtraced {
            return;
        }
        if let Some(running) = &mut self.running
            && running.backtrace.is_none()
            && find(bytes, PANIC, 0).is_some()
        {
            running.backtrace = Some(at);
        }
    }

    /// Whether a test starts right before these dots: where its line begins, which one it is, and whether it should panic.
    fn starts_before(&mut self, dots: usize) -> Option<(usize, Option<usize>, bool)> {
        const WORD: &[u8] = b"test ";
        let line = self.text[..dots]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let mut from = line;
        while let Some(begins) = find(&self.text[..dots], WORD, from) {
            let name = std::str::from_utf8(&self.text[begins + WORD.len()..dots]);
            // Names are padded in some formats.
            if let Some(name) = name.ok().map(str::trim_end) {
                let panics = name.strip_suffix(" - should panic");
                let plain = panics
                    .or_else(|| name.strip_suffix(" - compile fail"))
                    .or_else(|| name.strip_suffix(" - compile"));
                let names = [Some(name), plain].into_iter().flatten();
                for name in names {
                    let cases = self.waiting.get_mut(name);
                    if let Some(case) = cases.and_then(VecDeque::pop_front) {
                        return Some((begins, case, panics.is_some()));
                    }
                }
            }
            from = begins + 1;
        }
        None
    }

    fn end(&mut self, running: &Running, segment: &[u8], at: Instant) -> Option<Seen> {
        let result = match outcome(segment) {
            Some((outcome, message, printed)) => {
                *self.counted.of(outcome) += 1;
                self.summed += sums(&segment[printed..]).unwrap_or_default();
                let output = self.readable(&segment[..printed]);
                match outcome {
                    Outcome::Failed | Outcome::Error => failed(output, running.panics),
                    _ => CaseResult {
                        output: printed_output(output),
                        ..CaseResult::new(outcome, message)
                    },
                }
            }
            None => {
                let message = "the test binary did not say how this test ended";
                CaseResult {
                    output: printed_output(self.readable(segment)),
                    ..CaseResult::new(Outcome::Error, message)
                }
            }
        };
        let shown = running
            .backtrace
            .filter(|_| find(segment, b"stack backtrace:", 0).is_some());
        self.backtraced |= shown.is_some();
        Some(Seen::End {
            case: running.case?,
            started: running.started,
            at,
            setup: shown.map_or(Duration::ZERO, |since| at.saturating_duration_since(since)),
            result,
        })
    }

    /// The binary has ended, and all that it printed was fed.
    pub(super) fn finish(mut self, at: Instant, seen: &mut Vec<Seen>) -> Left {
        let mut sums = None;
        let mut said = String::new();
        let mut broken = None;
        match self.running.take() {
            Some(running) => match self.last_segment() {
                Some((end, summed)) => {
                    sums = Some(summed);
                    let segment = self.text[..end].to_vec();
                    seen.extend(self.end(&running, &segment, at));
                }
                None => {
                    let output = self.readable(&self.text);
                    broken = running.case.map(|case| (case, running.started, output));
                }
            },
            None => said = self.readable(&self.text),
        }
        let mut unstarted: Vec<usize> = self.waiting.into_values().flatten().flatten().collect();
        unstarted.sort_unstable();
        Left {
            unstarted,
            broken,
            said,
            sums,
            counted: self.counted,
        }
    }

    /// Where the last test's own lines end, before a summing up that follows an outcome, and all that the binary has summed up. A
    /// test may print that, too; then the one counts that makes the sums come out.
    fn last_segment(&self) -> Option<(usize, Tally)> {
        let sections = [&b"\n\nfailures:\n"[..], b"\n\ntest result: "];
        let mut ends: Vec<usize> = Vec::new();
        for section in sections {
            let mut from = 0;
            while let Some(at) = find(&self.text, section, from) {
                ends.push(at + 1);
                from = at + 1;
            }
        }
        ends.sort_unstable();
        let summed = |end: usize| {
            let mut summed = self.summed;
            summed += sums(&self.text[end..])?;
            Some((end, summed))
        };
        let comes_out = |&end: &usize| {
            let mut counted = self.counted;
            let (outcome, ..) = outcome(&self.text[..end])?;
            *counted.of(outcome) += 1;
            summed(end).filter(|(_, summed)| counted == *summed)
        };
        let found = ends.iter().find_map(comes_out);
        found.or_else(|| ends.iter().rev().find_map(|&end| summed(end)))
    }

    fn readable(&self, text: &[u8]) -> String {
        if self.left_out == 0 || text.len() <= KEPT {
            return String::from_utf8_lossy(text).into_owned();
        }
        let (head, tail) = text.split_at(KEPT);
        format!(
            "{}\n[{} bytes left out]\n{}",
            String::from_utf8_lossy(head),
            self.left_out,
            String::from_utf8_lossy(tail)
        )
    }
}

pub(super) fn printed_output(text: String) -> Vec<Output> {
    if text.is_empty() {
        return Vec::new();
    }
    vec![Output {
        name: "stdout",
        text,
    }]
}

/// A failed test: its output is what there is to say, the message of its panic in one line.
fn failed(output: String, should_panic: bool) -> CaseResult {
    let panic = panic_message(&output);
    let message = match (panic, should_panic) {
        (None, true) => "the test did not panic as expected".to_owned(),
        (Some(message), true) => format!("the test panicked, but not as expected: {message}"),
        (Some(message), false) => message,
        (None, false) => {
            // A test that returns an error.
            let error = output.lines().find(|line| line.starts_with("Error: "));
            error.unwrap_or("the test failed").to_owned()
        }
    };
    CaseResult {
        detail: output,
        ..CaseResult::new(Outcome::Failed, message)
    }
}

/// What stands behind `thread 'x' (1) panicked at file:line:column:`, or between quotes in the format of older compilers.
fn panic_message(output: &str) -> Option<String> {
    let (_, behind) = output
        .split_once("' panicked at ")
        .or_else(|| output.split_once(") panicked at "))?;
    let first = behind.lines().next()?;
    let message = match first.strip_suffix(':') {
        Some(_) => behind.lines().nth(1).unwrap_or(first),
        None => first,
    };
    Some(message.to_owned())
}

/// How a test ended by what is printed up to the next one: the outcome, the reason where one is given, and where its own output ends.
fn outcome(segment: &[u8]) -> Option<(Outcome, String, usize)> {
    let mut end = segment.len();
    while end > 0 {
        let line_end = end - usize::from(segment[end - 1] == b'\n');
        let begin = segment[..line_end]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        if let Some((outcome, message, printed)) =
            outcome_of_line(&segment[begin..line_end], begin == 0)
        {
            return Some((outcome, message, begin + printed));
        }
        end = begin;
    }
    None
}

fn outcome_of_line(line: &[u8], first: bool) -> Option<(Outcome, String, usize)> {
    let mut line = line.strip_suffix(b"\r").unwrap_or(line);
    // With --report-time the time stands behind the outcome: `ok <0.001s>`.
    if line.ends_with(b">")
        && let Some(at) = line.iter().rposition(|&byte| byte == b'<')
    {
        line = line[..at].trim_ascii_end();
    }
    if first && (line == b"ignored" || line.starts_with(b"ignored, ")) {
        let reason = line.strip_prefix(b"ignored, ").unwrap_or_default();
        let reason = String::from_utf8_lossy(reason).into_owned();
        return Some((Outcome::Skipped, reason, 0));
    }
    // A test whose output has no line break at its end is followed by its outcome on the same line.
    for (word, outcome) in [(&b"ok"[..], Outcome::Passed), (b"FAILED", Outcome::Failed)] {
        if let Some(printed) = line.strip_suffix(word) {
            return Some((outcome, String::new(), printed.len()));
        }
    }
    None
}

/// The sums of each `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 10 filtered out; finished in 0.00s`, together.
fn sums(text: &[u8]) -> Option<Tally> {
    let mut all = None;
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_prefix(b"test result: ");
        let sums = line
            .and_then(|line| std::str::from_utf8(line).ok())
            .and_then(sums_of_line);
        if let Some(sums) = sums {
            *all.get_or_insert_with(Tally::default) += sums;
        }
    }
    all
}

fn sums_of_line(line: &str) -> Option<Tally> {
    let count = |what: &str| -> Option<usize> {
        let counts = line.split(['.', ';']).map(str::trim);
        let count = counts.filter_map(|part| part.strip_suffix(what)).next()?;
        count.trim().parse().ok()
    };
    Some(Tally {
        passed: count(" passed")?,
        failed: count(" failed")?,
        ignored: count(" ignored")?,
    })
}

/// The first occurrence from a position on.
fn find(text: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let first = *what.first()?;
    let mut from = from;
    while let Some(at) = text.get(from..)?.iter().position(|&byte| byte == first) {
        if text[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["a::one", "a::two", "b"];

    /// Feeds a text in pieces of this size; what was seen and what is left.
    fn read(text: &str, size: usize) -> (Vec<(usize, Outcome, String)>, Left) {
        let mut reader = Reader::new(NAMES.iter().copied().enumerate(), ["beside"].into_iter());
        let mut seen = Vec::new();
        let now = Instant::now();
        for piece in text.as_bytes().chunks(size) {
            reader.feed(piece, now, &mut seen);
        }
        let left = reader.finish(now, &mut seen);
        let ended = seen.into_iter().filter_map(|seen| match seen {
            Seen::Start { .. } => None,
            Seen::End { case, result, .. } => {
                let output = result.output.first().map(|output| output.text.clone());
                let text = [result.message, result.detail, output.unwrap_or_default()].concat();
                Some((case, result.outcome, text))
            }
        });
        (ended.collect(), left)
    }

    #[test]
    fn outcomes_come_with_each_tests_own_output() {
        let text = "\nrunning 3 tests\n\
            test a::one ... ok\n\
            test a::two ... \nthread 'a::two' (7) panicked at src/lib.rs:3:5:\nassertion failed: false\nnote: run with x\nFAILED\n\
            test b ... ignored, takes long\n\
            \nfailures:\n\nfailures:\n    a::two\n\n\
            test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s\n\n";
        for size in [1, 2, 7, 4096] {
            let (ended, left) = read(text, size);
            assert_eq!(ended[0], (0, Outcome::Passed, String::new()));
            assert_eq!((ended[1].0, ended[1].1), (1, Outcome::Failed));
            assert!(
                ended[1].2.starts_with("assertion failed: false\nthread"),
                "{}",
                ended[1].2
            );
            assert_eq!(ended[2], (2, Outcome::Skipped, "takes long".to_owned()));
            assert_eq!(left.sums, Some(left.counted));
            assert!(left.unstarted.is_empty() && left.broken.is_none());
        }
    }

    #[test]
    fn a_test_may_print_what_a_harness_prints() {
        let text = "running 3 tests\n\
            test a::one ... test a::one ... ok\ntest z ... FAILED\nwithout a line breakok\n\
            test a::two ... ok\nFAILED\nok\n\
            test b - should panic ... ok\n\ntest result: FAILED. 0 passed; 9 failed; 0 ignored;\nok\n\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n";
        let (ended, left) = read(text, 5);
        let outcomes: Vec<Outcome> = ended.iter().map(|ended| ended.1).collect();
        assert_eq!(outcomes, [Outcome::Passed; 3]);
        assert_eq!(ended[1].2, "ok\nFAILED\n");
        assert_eq!(left.sums, Some(left.counted));
    }

    #[test]
    fn a_process_that_ends_without_summing_up_broke_in_the_test_that_ran() {
        let text = "running 3 tests\ntest a::one ... ok\ntest a::two ... goodbye\nok\n";
        let (ended, left) = read(text, 64);
        assert_eq!(ended.len(), 1);
        let (case, _, output) = left.broken.expect("one ran");
        assert_eq!((case, output.as_str()), (1, "goodbye\nok\n"));
        assert_eq!(left.unstarted, [2]);
        assert_eq!(left.sums, None);
    }

    #[test]
    fn a_binary_may_sum_up_more_than_once() {
        let text = "running 1 test\ntest a::one ... ok\n\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s\n\n\n\
            running 2 tests\ntest a::two - compile fail ... ok\ntest b ... FAILED\n\n\
            failures:\n\nfailures:\n    b\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\n\
            all doctests ran in 0.40s\n";
        for size in [1, 13, 4096] {
            let (ended, left) = read(text, size);
            let outcomes: Vec<Outcome> = ended.iter().map(|ended| ended.1).collect();
            assert_eq!(
                outcomes,
                [Outcome::Passed, Outcome::Passed, Outcome::Failed]
            );
            assert_eq!(left.sums, Some(left.counted));
        }
    }

    /// Its outcome must not be taken for that of the test before it.
    #[test]
    fn a_test_that_was_not_asked_for_is_told_from_the_others() {
        let text = "running 4 tests\ntest a::one ... FAILED\ntest beside ... ok\ntest a::two ... ok\ntest b ... ok\n\n\
            failures:\n\nfailures:\n    a::one\n\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        let (ended, left) = read(text, 11);
        let outcomes: Vec<(usize, Outcome)> =
            ended.iter().map(|ended| (ended.0, ended.1)).collect();
        let passed = Outcome::Passed;
        assert_eq!(outcomes, [(0, Outcome::Failed), (1, passed), (2, passed)]);
        assert_eq!(left.sums, Some(left.counted));
        let (ended, left) = read("test a::one ... ok\ntest beside ... dying", 11);
        assert_eq!(
            (ended.len(), left.broken, left.unstarted),
            (1, None, vec![1, 2])
        );
    }

    #[test]
    fn endless_output_is_kept_at_both_ends() {
        let mut text = "test a::one ... begin\n".to_owned();
        text.push_str(&"0123456789\n".repeat(1 << 19));
        text.push_str("end\nok\ntest a::two ... ok\n");
        let (ended, _) = read(&text, 1 << 16);
        let (_, outcome, output) = &ended[0];
        assert_eq!(*outcome, Outcome::Passed);
        assert!(output.len() < 5 * KEPT && output.starts_with("begin\n"));
        assert!(output.contains("bytes left out]") && output.ends_with("end\n"));
    }

    #[test]
    fn noise_between_tests_does_not_hide_an_outcome() {
        let text = "test a::one ... FAILED\nlate words\ntest a::two ... ok\nnoisetest b ... ok\n\n\
            test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let (ended, left) = read(text, 9);
        let outcomes: Vec<Outcome> = ended.iter().map(|ended| ended.1).collect();
        assert_eq!(
            outcomes,
            [Outcome::Failed, Outcome::Passed, Outcome::Passed]
        );
        assert_eq!(left.sums, Some(left.counted));
    }
}
