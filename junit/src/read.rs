//! Reads JUnit XML of any dialect, case by case, in bounded memory.
//!
//! There is no standard, only what producers write. So nothing is required but `testcase` elements: suites may be nested, missing or
//! lie about their counts, names may be missing or the same, attributes stand where a producer puts them. A file that is damaged, or cut off,
//! gives every case before the damage and says where it is.

use crate::trim::{Limits, Trim};
use encoding_rs_io::DecodeReaderBytesBuilder;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use std::io::{BufReader, Cursor, Read};
use std::time::Duration;

/// Of a name, a message or another attribute so much is kept, bytes.
const VALUE: usize = 64 << 10;
/// Of a text, a stack trace or an output, so much is kept, bytes.
const TEXT: usize = 256 << 10;
/// Of all outputs and texts of one case so much is kept, bytes.
const CASE: usize = 1 << 20;
/// Stands between the texts of two faults.
const BETWEEN: &str = "\n\n";
/// Of anything that an XML parser holds as one, so much is read, bytes; what is longer is damage.
const EVENT: usize = 2 << 20;
/// Suites within suites whose names are kept; deeper ones are read without them.
const DEPTH: usize = 256;
/// Elements within elements that are remembered. Suites that are deeper are counted, what is deeper in a case is left out.
const PLACES: usize = 1024;
/// Of the names of open elements, which quick-xml remembers though nothing here asks for them, so much is kept, bytes.
const NAMES: usize = 1 << 20;
/// So many bytes are looked at to find out the encoding.
const START: usize = 256;

/// How a case ended, as its report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadOutcome {
    Passed,
    Skipped,
    Failed,
    Error,
}

/// A suite that a case is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSuite {
    pub name: String,
    /// From its `file` or `filepath`, empty where there is none.
    pub file: String,
    /// What the suite says that it took.
    pub time: Option<Duration>,
}

/// A test case as a file reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCase {
    pub name: String,
    /// From `classname`, or `class` where that is missing.
    pub class: String,
    pub file: String,
    /// From 1, 0 where it is not known.
    pub line: u32,
    pub time: Option<Duration>,
    pub outcome: ReadOutcome,
    /// It failed and then passed.
    pub flaky: bool,
    /// Of the failure, the error, or the reason for which it was skipped.
    pub message: String,
    /// The text of the failure or error.
    pub detail: String,
    /// What it printed, by stream.
    pub stdout: String,
    pub stderr: String,
}

/// What a file added up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub cases: u64,
    pub passed: u64,
    pub failed: u64,
    pub errors: u64,
    pub skipped: u64,
    /// Why the rest of the file could not be read, and where.
    pub damage: Option<String>,
    /// Something was too long and is kept in part.
    pub cut: bool,
}

impl Summary {
    fn count(&mut self, outcome: ReadOutcome) {
        self.cases += 1;
        match outcome {
            ReadOutcome::Passed => self.passed += 1,
            ReadOutcome::Skipped => self.skipped += 1,
            ReadOutcome::Failed => self.failed += 1,
            ReadOutcome::Error => self.errors += 1,
        }
    }
}

/// Reads a report and hands over each case with the suites that it is in, outermost first.
///
/// Memory is bounded whatever the input holds: texts and attributes above some hundred KiB are cut, names of suites more than 256 levels
/// deep are left out. Never fails: what cannot be read is in [`Summary::damage`].
pub fn read(input: impl Read, mut each: impl FnMut(&[ReadSuite], ReadCase)) -> Summary {
    let mut input = BufReader::with_capacity(64 << 10, input);
    let mut start = Vec::new();
    // An error comes again with the next read.
    let _ = input.by_ref().take(START as u64).read_to_end(&mut start);
    let encoding = encoding(&start);
    let decoded = DecodeReaderBytesBuilder::new()
        .encoding(Some(encoding))
        .bom_override(true)
        .build(Cursor::new(start).chain(input));
    let limits = Limits {
        text: TEXT,
        value: VALUE,
        markup: VALUE,
        event: EVENT,
    };
    let mut reader = xml(Trim::new(decoded, limits));
    // Bytes before this reader's first, and what it remembers of names.
    let (mut before, mut names) = (0, 0);
    let mut state = State::default();
    let mut summary = Summary::default();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let position = before + reader.buffer_position();
        reader.get_mut().begin();
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(error) => {
                summary.damage = Some(format!("at byte {position}: {error}"));
                break;
            }
        };
        match event {
            Event::Start(tag) => {
                names += tag.name().as_ref().len() + size_of::<usize>();
                state.open(&tag, &mut summary);
            }
            Event::Empty(tag) => {
                state.open(&tag, &mut summary);
                state.close(&mut summary, &mut each);
            }
            Event::End(_) => state.close(&mut summary, &mut each),
            Event::Text(text) => state.text(&String::from_utf8_lossy(&text), &mut summary),
            Event::CData(text) => state.text(&String::from_utf8_lossy(&text), &mut summary),
            Event::GeneralRef(reference) => state.text(&resolved(&reference), &mut summary),
            Event::Eof => {
                if let Some(open) = state.within() {
                    summary.damage = Some(format!("it ends at byte {position} within {open}"));
                }
                break;
            }
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {}
        }
        if names > NAMES {
            (before, names) = (before + reader.buffer_position(), 0);
            reader = xml(reader.into_inner());
        }
    }
    if summary.damage.is_none() && !state.is_junit {
        summary.damage = Some("it has no testsuite element: it is no JUnit report".to_owned());
    }
    summary.cut |= reader.into_inner().cut;
    summary
}

fn xml<R: Read>(input: Trim<R>) -> Reader<Trim<R>> {
    let mut reader = Reader::from_reader(input);
    let config = reader.config_mut();
    config.allow_dangling_amp = true;
    config.allow_unmatched_ends = true;
    config.check_end_names = false;
    reader
}

/// The encoding that a file with this start begins with or declares. A byte-order mark wins over both.
fn encoding(start: &[u8]) -> &'static encoding_rs::Encoding {
    // Without a mark UTF-16 shows by the zero beside the first character.
    match start {
        [b'<', 0, ..] => return encoding_rs::UTF_16LE,
        [0, b'<', ..] => return encoding_rs::UTF_16BE,
        _ => {}
    }
    let declared = || {
        let text = String::from_utf8_lossy(start);
        let declaration = text
            .trim_start()
            .strip_prefix("<?xml")?
            .split("?>")
            .next()?;
        let (_, value) = declaration.split_once("encoding")?;
        let value = value.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next()?;
        let label = value[quote.len_utf8()..].split(quote).next()?;
        encoding_rs::Encoding::for_label(label.as_bytes())
    };
    match declared() {
        // A file whose declaration can be read byte by byte is not in UTF-16, whatever it says.
        Some(encoding) if encoding.is_ascii_compatible() => encoding,
        _ => encoding_rs::UTF_8,
    }
}

#[derive(Debug, Default)]
struct State {
    places: Vec<Place>,
    suites: Vec<ReadSuite>,
    /// Suites that are open and too deep to be remembered, within all that are.
    deeper: usize,
    case: Option<ReadCase>,
    is_junit: bool,
    /// The case is marked as skipped.
    excused: bool,
    /// Bytes of texts that the case has already.
    used: usize,
    text: String,
    /// How deep within something that means nothing here.
    ignored: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Suites,
    Suite {
        kept: bool,
    },
    Case,
    /// A failure or an error, and what it counts as.
    Fault(ReadOutcome),
    /// A fault of an attempt that was repeated.
    Earlier,
    Skipped,
    Stdout,
    Stderr,
}

impl Place {
    fn described(&self) -> &'static str {
        match self {
            Place::Suites => "testsuites",
            Place::Suite { .. } => "a testsuite",
            Place::Case => "a testcase",
            _ => "a test case's details",
        }
    }
}

impl State {
    /// What it is that is open, innermost.
    fn within(&self) -> Option<&'static str> {
        let unknown = self.ignored > 0 && self.is_junit;
        let known = self.places.last().map(Place::described);
        known.or(unknown.then_some("an unknown element"))
    }

    fn open(&mut self, tag: &BytesStart<'_>, summary: &mut Summary) {
        if self.ignored > 0 {
            self.ignored += 1;
            return;
        }
        let name = tag.local_name();
        let in_case = self.case.is_some();
        let is_deep = self.places.len() >= PLACES;
        let place = match name.as_ref() {
            b"testsuites" | b"testrun" | b"testsuite" if !in_case && is_deep => {
                self.deeper += 1;
                summary.cut = true;
                return;
            }
            // A case that is within as many suites as are remembered has as much room again.
            _ if in_case && self.places.len() >= 2 * PLACES => {
                self.ignored = 1;
                summary.cut = true;
                return;
            }
            b"testsuites" | b"testrun" if !in_case => {
                self.is_junit = true;
                Place::Suites
            }
            b"testsuite" if !in_case => {
                self.is_junit = true;
                let kept = self.suites.len() < DEPTH;
                if kept {
                    self.suites.push(suite(tag, &mut summary.cut));
                } else {
                    summary.cut = true;
                }
                Place::Suite { kept }
            }
            b"testcase" if !in_case => {
                self.is_junit = true;
                self.case = Some(case(tag, &mut summary.cut));
                self.used = 0;
                self.excused = false;
                Place::Case
            }
            b"failure" if in_case => self.fault(tag, ReadOutcome::Failed, &mut summary.cut),
            b"error" if in_case => self.fault(tag, ReadOutcome::Error, &mut summary.cut),
            b"flakyFailure" | b"flakyError" if in_case => {
                if let Some(case) = &mut self.case {
                    case.flaky = true;
                }
                Place::Earlier
            }
            b"rerunFailure" | b"rerunError" if in_case => Place::Earlier,
            b"skipped" | b"disabled" | b"ignored" if in_case => {
                let message = attribute(tag, b"message", &mut summary.cut);
                // One that is skipped for its failure was expected to fail.
                if let Some(case) = &mut self.case
                    && case.outcome < ReadOutcome::Error
                {
                    case.outcome = ReadOutcome::Skipped;
                    case.message = message;
                    self.excused = true;
                }
                Place::Skipped
            }
            b"system-out" if in_case => Place::Stdout,
            b"system-err" if in_case => Place::Stderr,
            _ => {
                self.ignored = 1;
                return;
            }
        };
        self.text.clear();
        self.places.push(place);
    }

    fn fault(&mut self, tag: &BytesStart<'_>, outcome: ReadOutcome, cut: &mut bool) -> Place {
        let message = attribute(tag, b"message", cut);
        let kind = attribute(tag, b"type", cut);
        if let Some(case) = &mut self.case {
            // The first failure is the one that tells; an error weighs more.
            let excused = self.excused && outcome == ReadOutcome::Failed;
            if case.outcome < outcome && !excused {
                case.outcome = outcome;
            }
            if case.message.is_empty() {
                case.message = if message.is_empty() { kind } else { message };
            }
        }
        Place::Fault(outcome)
    }

    fn text(&mut self, text: &str, summary: &mut Summary) {
        let wanted = matches!(
            self.places.last(),
            Some(Place::Fault(_) | Place::Skipped | Place::Stdout | Place::Stderr)
        );
        if self.ignored > 0 || !wanted {
            return;
        }
        let room = CASE.saturating_sub(self.used + BETWEEN.len());
        let kept = &text[..floor(text, room)];
        summary.cut |= kept.len() < text.len();
        self.used += kept.len();
        self.text.push_str(kept);
    }

    fn close(&mut self, summary: &mut Summary, each: &mut impl FnMut(&[ReadSuite], ReadCase)) {
        if self.ignored > 0 {
            self.ignored -= 1;
            return;
        }
        if self.deeper > 0 && self.case.is_none() {
            self.deeper -= 1;
            return;
        }
        let Some(place) = self.places.pop() else {
            return;
        };
        match place {
            Place::Suites | Place::Suite { kept: false } | Place::Earlier => {}
            Place::Suite { kept: true } => {
                self.suites.pop();
            }
            Place::Case => {
                if let Some(case) = self.case.take() {
                    summary.count(case.outcome);
                    each(&self.suites, case);
                }
            }
            Place::Fault(_) | Place::Skipped | Place::Stdout | Place::Stderr => {
                let text = std::mem::take(&mut self.text);
                let Some(case) = &mut self.case else { return };
                match place {
                    Place::Fault(_) if text.is_empty() => {}
                    Place::Fault(_) if case.detail.is_empty() => case.detail = text,
                    Place::Fault(_) => {
                        case.detail.push_str(BETWEEN);
                        case.detail.push_str(&text);
                        self.used += BETWEEN.len();
                    }
                    Place::Skipped if case.message.is_empty() => {
                        case.message = text.trim().to_owned();
                    }
                    Place::Stdout => case.stdout.push_str(&text),
                    Place::Stderr => case.stderr.push_str(&text),
                    _ => {}
                }
            }
        }
    }
}

/// The largest position up to this one that parts no character.
fn floor(text: &str, most: usize) -> usize {
    if most >= text.len() {
        return text.len();
    }
    (0..=most)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

fn suite(tag: &BytesStart<'_>, cut: &mut bool) -> ReadSuite {
    let mut suite = ReadSuite::default();
    for_each_attribute(tag, cut, |name, value| match name {
        b"name" => suite.name = value,
        b"file" | b"filepath" => suite.file = value,
        b"time" => suite.time = seconds(&value),
        _ => {}
    });
    suite
}

fn case(tag: &BytesStart<'_>, cut: &mut bool) -> ReadCase {
    let mut case = ReadCase {
        name: String::new(),
        class: String::new(),
        file: String::new(),
        line: 0,
        time: None,
        outcome: ReadOutcome::Passed,
        flaky: false,
        message: String::new(),
        detail: String::new(),
        stdout: String::new(),
        stderr: String::new(),
    };
    for_each_attribute(tag, cut, |name, value| match name {
        b"name" => case.name = value,
        b"classname" => case.class = value,
        b"class" if case.class.is_empty() => case.class = value,
        b"file" | b"filepath" => case.file = value,
        b"line" | b"lineno" => case.line = value.trim().parse().unwrap_or(0),
        b"time" | b"duration" => case.time = seconds(&value),
        // GoogleTest and CTest name here what did not run.
        b"status" | b"result" => {
            let skipped = ["notrun", "skipped", "suppressed", "disabled", "pending"];
            if skipped.contains(&value.to_ascii_lowercase().as_str()) {
                case.outcome = ReadOutcome::Skipped;
            }
        }
        _ => {}
    });
    case
}

fn for_each_attribute(tag: &BytesStart<'_>, cut: &mut bool, mut take: impl FnMut(&[u8], String)) {
    for attribute in tag.attributes().with_checks(false).flatten() {
        let mut value = match attribute.normalized_value(XmlVersion::Implicit1_0) {
            Ok(value) => value.into_owned(),
            // An entity that nobody knows: as it is written.
            Err(_) => String::from_utf8_lossy(&attribute.value).into_owned(),
        };
        // Between quotes that do not belong together there can be more than what passes as a value.
        let end = floor(&value, VALUE);
        *cut |= end < value.len();
        value.truncate(end);
        take(attribute.key.local_name().as_ref(), value);
    }
}

fn attribute(tag: &BytesStart<'_>, wanted: &[u8], cut: &mut bool) -> String {
    let mut found = String::new();
    for_each_attribute(tag, cut, |name, value| {
        if name == wanted {
            found = value;
        }
    });
    found
}

/// What a reference stands for; one that nobody knows stands for itself.
fn resolved(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let name = String::from_utf8_lossy(reference).into_owned();
    match quick_xml::escape::resolve_predefined_entity(&name) {
        Some(text) => text.to_owned(),
        None => format!("&{name};"),
    }
}

/// Seconds as producers write them: `0.5`, `1,234.5` with thousands, `0,5` with a decimal comma, `1e-3`, `0.5s`.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim().trim_end_matches('s').trim_end();
    let plain = match (text.rfind(','), text.rfind('.')) {
        (Some(comma), Some(point)) if comma > point => text.replace('.', "").replace(',', "."),
        (Some(_), Some(_)) => text.replace(',', ""),
        (Some(_), None) => text.replacen(',', ".", 1),
        _ => text.to_owned(),
    };
    let seconds: f64 = plain.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> (Vec<(Vec<String>, ReadCase)>, Summary) {
        let mut cases = Vec::new();
        let summary = read(text, |suites, case| {
            let names = suites.iter().map(|suite| suite.name.clone()).collect();
            cases.push((names, case));
        });
        (cases, summary)
    }

    #[test]
    fn a_cut_file_gives_what_was_whole() {
        let text = "<testsuites><testsuite name=\"a\"><testcase name=\"one\" time=\"0.5\"/><testcase name=\"two\"><failure message=\"m\">de";
        let (cases, summary) = all(text.as_bytes());
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].1.time, Some(Duration::from_millis(500)));
        let damage = summary.damage.expect("it is cut");
        assert!(damage.contains("within"), "{damage}");
    }

    #[test]
    fn every_cut_of_a_file_is_read_without_a_case_too_many() {
        let text = "<?xml version=\"1.0\"?><testsuites><testsuite name=\"s\"><testcase name=\"a\"><system-out><![CDATA[x]]></system-out></testcase><testcase name=\"b\"><error/></testcase></testsuite></testsuites>";
        for end in 0..text.len() {
            let (cases, summary) = all(&text.as_bytes()[..end]);
            assert!(cases.len() <= 2);
            assert!(summary.damage.is_some(), "cut at {end}");
        }
        let (cases, summary) = all(text.as_bytes());
        assert_eq!((cases.len(), summary.damage), (2, None));
    }

    #[test]
    fn outcomes_of_all_dialects_are_told() {
        let text = r#"<testsuite name="s">
            <testcase name="p" classname="c" class="d"/>
            <testcase name="f"><failure message="m" type="T">text &amp; &#x1F600; &odd; &lt;</failure></testcase>
            <testcase name="e"><failure/><error type="Boom"/></testcase>
            <testcase name="s"><skipped>why</skipped></testcase>
            <testcase name="g" status="notrun" result="suppressed"/>
            <testcase name="k"><flakyFailure message="once"><stackTrace>t</stackTrace></flakyFailure></testcase>
            <testcase name="r"><failure message="m"/><rerunFailure/></testcase>
            <testcase name="o"><properties><property name="x"/></properties><system-out>out</system-out><system-err>err</system-err></testcase>
        </testsuite>"#;
        let (cases, summary) = all(text.as_bytes());
        let seen: Vec<ReadOutcome> = cases.iter().map(|(_, case)| case.outcome).collect();
        use ReadOutcome::{Error, Failed, Passed, Skipped};
        assert_eq!(
            seen,
            [
                Passed, Failed, Error, Skipped, Skipped, Passed, Failed, Passed
            ]
        );
        assert_eq!(cases[0].1.class, "c");
        assert_eq!(cases[1].1.detail, "text & \u{1F600} &odd; <");
        assert_eq!(cases[2].1.message, "Boom");
        assert_eq!(cases[3].1.message, "why");
        assert!(cases[5].1.flaky && !cases[6].1.flaky);
        let printed = &cases[7].1;
        assert_eq!(
            (printed.stdout.as_str(), printed.stderr.as_str()),
            ("out", "err")
        );
        assert_eq!(summary.damage, None);
        assert_eq!(
            (
                summary.cases,
                summary.failed,
                summary.errors,
                summary.skipped
            ),
            (8, 2, 1, 2)
        );
    }

    #[test]
    fn any_depth_any_length_and_any_encoding() {
        let deep = [
            "<testsuite name='n'>".repeat(100_000),
            "<testcase name='inside'/>".to_owned(),
            "</testsuite>".repeat(100_000),
        ]
        .concat();
        let (cases, summary) = all(deep.as_bytes());
        assert_eq!((cases.len(), cases[0].0.len()), (1, DEPTH));
        assert!(summary.cut && summary.damage.is_none());

        let long = format!(
            "<testsuite><testcase name=\"{}\"><failure>{}</failure></testcase></testsuite>",
            "n".repeat(1_000_033),
            "t".repeat(3 << 20)
        );
        let (cases, summary) = all(long.as_bytes());
        assert_eq!(
            (cases[0].1.name.len(), cases[0].1.detail.len()),
            (VALUE, TEXT)
        );
        assert!(summary.cut);

        let text = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><testsuite><testcase name=\"\u{e9}\"/></testsuite>";
        let latin: Vec<u8> = text.chars().map(|character| character as u8).collect();
        let (cases, _) = all(&latin);
        assert_eq!(cases[0].1.name, "\u{e9}");
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(all(&wide).0[0].1.name, "\u{e9}");
        let (cases, _) = all(b"\xef\xbb\xbf<testsuite><testcase name=\"\xff\"/></testsuite>");
        assert_eq!(cases[0].1.name, "\u{fffd}");
    }

    #[test]
    fn what_is_no_report_says_so() {
        for text in [
            &b""[..],
            b"hello",
            b"{}",
            b"<html><body/></html>",
            b"\0\0\0",
        ] {
            let (cases, summary) = all(text);
            assert!(cases.is_empty() && summary.damage.is_some(), "{text:?}");
        }
        // An empty report is one.
        assert_eq!(all(b"<testsuites/>").1, Summary::default());
    }

    #[test]
    fn times_are_read_in_every_spelling() {
        for (text, millis) in [
            ("0.5", Some(500)),
            ("1,234.5", Some(1_234_500)),
            ("1.234,5", Some(1_234_500)),
            ("0,5", Some(500)),
            ("1e-3", Some(1)),
            ("2s", Some(2000)),
            ("", None),
            ("-1", None),
            ("NaN", None),
        ] {
            let read = seconds(text).map(|time| time.as_millis());
            assert_eq!(read, millis, "{text:?}");
        }
    }
}
