//! Reports as real producers write them: every case is found, with the outcome that the producer itself gave it.

use evenkeel_junit::{ReadOutcome, Summary, read};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where a producer's console knows what its report does not say: the counts that the report has.
const REPORT_SAYS: [(&str, [u64; 6]); 3] = [
    // A program that is missing is skipped in the report, and failed on the console.
    ("ctest-notrun.xml", [2, 1, 0, 0, 1, 0]),
    // A test that is to be written looks like one that passed.
    ("jest-junit-todo.xml", [6, 4, 1, 0, 1, 0]),
    // Retries leave no trace without an option.
    ("playwright.xml", [8, 4, 1, 1, 2, 0]),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialects")
}

/// Tests, passed, failed, errors, skipped, flaky.
fn counts(path: &Path) -> ([u64; 6], Summary) {
    let mut flaky = 0;
    let mut outcomes: BTreeMap<ReadOutcome, u64> = BTreeMap::new();
    let summary = read(File::open(path).expect("the file is there"), |_, case| {
        flaky += u64::from(case.flaky);
        *outcomes.entry(case.outcome).or_default() += 1;
    });
    let of = |outcome| outcomes.get(&outcome).copied().unwrap_or_default();
    let Summary {
        cases,
        passed,
        failed,
        errors,
        skipped,
        ..
    } = summary;
    assert_eq!(
        (passed, failed, errors, skipped),
        (
            of(ReadOutcome::Passed),
            of(ReadOutcome::Failed),
            of(ReadOutcome::Error),
            of(ReadOutcome::Skipped)
        )
    );
    ([cases, passed, failed, errors, skipped, flaky], summary)
}

#[test]
fn every_dialect_is_read_to_its_producers_counts() {
    let table = fs::read_to_string(directory().join("counts.tsv")).expect("the table is there");
    let mut lines = table.lines();
    let header = lines.next().expect("a header");
    assert!(header.starts_with("file\ttests\tpassed\tfailed\terrors\tskipped\tflaky"));
    let mut seen = 0;
    let mut wrong = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let told: Vec<u64> = fields[1..7]
            .iter()
            .map(|field| field.parse().expect("a count"))
            .collect();
        let excepted = REPORT_SAYS.iter().find(|(file, _)| *file == fields[0]);
        let expected = excepted.map_or(told, |(_, counts)| counts.to_vec());
        let (found, summary) = counts(&directory().join(fields[0]));
        if found[..] != expected[..] || summary.damage.is_some() || summary.cut {
            wrong.push(format!(
                "{}: {found:?} for {expected:?}, {:?}",
                fields[0], summary.damage
            ));
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen >= 15, "only {seen} reports are in the table");
}

#[test]
fn no_report_is_left_out_of_the_table() {
    let table = fs::read_to_string(directory().join("counts.tsv")).expect("the table is there");
    let files = fs::read_dir(directory()).expect("the directory is there");
    for file in files.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let known = table
            .lines()
            .any(|line| line.split('\t').next() == Some(&name));
        assert!(known || !name.ends_with(".xml"), "{name} has no counts");
    }
}

/// A report that is cut anywhere gives a beginning of its cases and says so.
#[test]
fn a_cut_report_gives_a_beginning_of_its_cases() {
    for file in fs::read_dir(directory())
        .expect("the directory is there")
        .flatten()
    {
        if file
            .path()
            .extension()
            .is_none_or(|extension| extension != "xml")
        {
            continue;
        }
        let text = fs::read(file.path()).expect("a report");
        let names = |text: &[u8]| {
            let mut names = Vec::new();
            let summary = read(text, |_, case| {
                names.push((case.class, case.name, case.outcome))
            });
            (names, summary.damage)
        };
        let (all, _) = names(&text);
        for end in (0..text.len()).step_by(37) {
            let (some, damage) = names(&text[..end]);
            assert!(all.starts_with(&some), "{:?} cut at {end}", file.path());
            let whole = some.len() == all.len();
            assert!(damage.is_some() || whole, "{:?} cut at {end}", file.path());
        }
    }
}
