//! A report and a beginning of it: the cases before the cut are those that the whole report begins with.

#![no_main]

use evenkeel_junit::{ReadCase, ReadSuite, Summary, read};
use libfuzzer_sys::fuzz_target;
use std::io::{self, Read};

type Cases = Vec<(Vec<ReadSuite>, ReadCase)>;

// The last two bytes say where to cut what stands before them.
fuzz_target!(|bytes: &[u8]| {
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
    let is_wide = matches!(
        report,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'<', 0, ..] | [0, b'<', ..]
    );
    if cut.damage.is_none() && !is_wide {
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
});

fn cases(report: impl Read) -> (Cases, Summary) {
    let mut cases = Cases::new();
    let summary = read(report, |suites, case| cases.push((suites.to_vec(), case)));
    (cases, summary)
}

/// A disk that gives no more.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("a broken disk"))
    }
}
