//! Reads the recorded durations beside this file.
//!
//! A bench takes it in with `#[path = "../traces/mod.rs"] mod traces;`. The traces are part of the binary, so that it runs anywhere.

use flate2::read::GzDecoder;
use std::io::Read;

/// What a framework reported of one test case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub file: String,
    pub name: String,
    /// As reported: 0 where it took less than the report's resolution.
    pub micros: u64,
    pub passed: bool,
}

/// The recorded suites by their names, each with its file.
const RECORDED: [(&str, &[u8]); 9] = [
    ("attrs", include_bytes!("attrs.csv.gz")),
    ("express", include_bytes!("express.csv.gz")),
    ("go-std", include_bytes!("go-std.csv.gz")),
    ("jiff", include_bytes!("jiff.csv.gz")),
    ("more-itertools", include_bytes!("more-itertools.csv.gz")),
    ("networkx", include_bytes!("networkx.csv.gz")),
    ("ripgrep", include_bytes!("ripgrep.csv.gz")),
    ("rubocop-style", include_bytes!("rubocop-style.csv.gz")),
    ("stylelint", include_bytes!("stylelint.csv.gz")),
];

/// All suites by name, each with its cases in the order of the report.
pub fn all() -> Vec<(&'static str, Vec<Case>)> {
    RECORDED
        .iter()
        .map(|&(name, packed)| (name, cases(packed)))
        .collect()
}

/// The cases of a packed trace, in its order. Panics where it is none.
pub fn cases(packed: &[u8]) -> Vec<Case> {
    let mut text = String::new();
    GzDecoder::new(packed)
        .read_to_string(&mut text)
        .expect("a trace is gzip and UTF-8");
    let case = |line: &str| {
        let mut fields = fields(line).into_iter();
        let mut next = || fields.next().expect("a row has four fields");
        let (file, name, seconds, outcome) = (next(), next(), next(), next());
        let seconds: f64 = seconds.parse().expect("the third field is a number");
        Case {
            file,
            name,
            micros: (seconds * 1e6).round() as u64,
            passed: outcome == "passed",
        }
    };
    text.lines().skip(1).map(case).collect()
}

/// The fields of a row. A quoted one may hold commas, and quotes that are doubled; none holds a line's end.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = fields.last_mut().expect("there is a first one");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                last.push('"');
                letters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => last.push(letter),
        }
    }
    fields
}
