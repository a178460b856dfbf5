//! The words: failures, progress and the end of a run as text.

use anstyle::{AnsiColor, Style};
use evenkeel_proto::v1;
use std::fmt::Write;
use std::time::Duration;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    pub fn new(on: bool) -> Paint {
        Paint { on }
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.on {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    pub fn red(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default().bold(), text)
    }

    pub fn green(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default().bold(), text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default().bold(), text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }
}

/// As much of one failure's text is printed, in lines: its head and its tail.
const HEAD: usize = 40;
const TAIL: usize = 40;

pub(super) fn failure(paint: Paint, failure: &v1::Failure, full: bool) -> String {
    let label = match failure.outcome() {
        v1::Outcome::Error => "ERROR",
        _ => "FAILED",
    };
    let seconds = failure.duration_us as f64 / 1e6;
    let mut text = format!(
        "{} {} ({seconds:.2} s, shard {})",
        paint.red(label),
        printable(&failure.id),
        failure.shard + 1
    );
    let Some(said) = &failure.text else {
        return text;
    };
    if !full {
        if !said.message.is_empty() {
            write!(text, ": {}", printable(&said.message)).ok();
        }
        return text;
    }
    // Most frameworks say in the long text what they say in the line; a process that ended says other things.
    if !said.detail.contains(said.message.trim()) {
        indent(&mut text, &said.message);
    }
    let detail = if said.detail.is_empty() {
        &said.message
    } else {
        &said.detail
    };
    indent(&mut text, detail);
    for output in &said.output {
        write!(
            text,
            "\n    {}",
            paint.dim(&format!("--- {} ---", output.name))
        )
        .ok();
        indent(&mut text, &output.text);
    }
    text
}

pub(super) fn printed(paint: Paint, printed: &v1::Printed, playing: u32) -> String {
    let mut text = paint.dim(&format!(
        "{} (shard {})",
        printable(&printed.id),
        printed.shard + playing + 1
    ));
    for output in &printed.output {
        indent(&mut text, &output.text);
    }
    text
}

fn indent(text: &mut String, block: &str) {
    let lines: Vec<&str> = block.trim_end().lines().collect();
    let cut = lines.len() > HEAD + TAIL + 1;
    for (number, line) in lines.iter().enumerate() {
        if cut && number == HEAD {
            write!(
                text,
                "\n    [… {} lines, see the report …]",
                lines.len() - HEAD - TAIL
            )
            .ok();
        }
        if !cut || number < HEAD || number >= lines.len() - TAIL {
            write!(text, "\n    {}", printable(line)).ok();
        }
    }
}

/// What tests print must not steer the terminal; tabs stay.
fn printable(line: &str) -> String {
    line.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

pub(super) fn progress_line(progress: &v1::Progress, since: Duration) -> String {
    let elapsed = Duration::from_micros(progress.elapsed_us) + since;
    let mut line = format!("{:.0} s", elapsed.as_secs_f64());
    if progress.phase != "running" {
        write!(line, ", {}", progress.phase).ok();
    }
    write!(
        line,
        ", {}/{} units, {} passed",
        progress.units_done, progress.units, progress.passed
    )
    .ok();
    for (count, word) in [
        (progress.failed, "failed"),
        (progress.errors, "errors"),
        (progress.skipped, "skipped"),
    ] {
        if count > 0 {
            write!(line, ", {count} {word}").ok();
        }
    }
    let left = Duration::from_micros(progress.expected_left_us).saturating_sub(since);
    if left >= Duration::from_secs(1) {
        write!(line, ", about {:.0} s left", left.as_secs_f64().ceil()).ok();
    }
    line
}

pub fn totals_line(totals: &v1::Totals) -> String {
    let tests = if totals.tests == 1 { "test" } else { "tests" };
    let mut line = format!("{} {tests}: {} passed", totals.tests, totals.passed);
    for (count, word) in [
        (totals.failed, "failed"),
        (
            totals.errors,
            if totals.errors == 1 {
                "error"
            } else {
                "errors"
            },
        ),
        (totals.skipped, "skipped"),
        (totals.not_run, "not run"),
        (totals.lost, "lost"),
    ] {
        if count > 0 {
            write!(line, ", {count} {word}").ok();
        }
    }
    line
}

pub(super) fn ended(
    paint: Paint,
    quiet: bool,
    ended: &v1::Ended,
    run: &str,
    place: &str,
) -> String {
    let mut text = String::new();
    let totals = ended.totals.unwrap_or_default();
    if !quiet {
        warnings(&mut text, paint, &ended.warnings);
        for summary in &ended.summaries {
            writeln!(
                text,
                "{}",
                paint.dim(&format!("--- {} ---", printable(&summary.title)))
            )
            .ok();
            for line in summary.text.trim_end().lines() {
                writeln!(text, "{}", printable(line)).ok();
            }
        }
    }
    for objection in &ended.objections {
        write!(
            text,
            "{} {}",
            paint.red("FAILED"),
            printable(&objection.message)
        )
        .ok();
        indent(&mut text, &objection.detail);
        text.push('\n');
    }
    if (!quiet || ended.durations) && totals.tests > 0 && !ended.slowest.is_empty() {
        text.push_str("slowest tests:\n");
        for slow in &ended.slowest {
            let seconds = slow.duration_us as f64 / 1e6;
            writeln!(text, "  {seconds:>8.2} s  {}", printable(&slow.id)).ok();
        }
    }
    if !quiet && totals.tests > 0 && !ended.explanation.is_empty() {
        writeln!(text, "{}", ended.explanation).ok();
    }
    if let Some(first) = ended.first_red.as_ref().filter(|_| !quiet) {
        let comma = if first.suspect.is_empty() { "" } else { ", " };
        writeln!(
            text,
            "first failure known after {:.2} s of tests: {} ({}{comma}APFD {:.2})",
            first.after_us as f64 / 1e6,
            printable(&first.id),
            first.suspect,
            first.apfd,
        )
        .ok();
    }
    for failing in &ended.failing {
        writeln!(
            text,
            "reproduce shard {k}/{n} ({count}): evenkeel reproduce {run} --shard {k}/{n} --until {until}{suite}{place}",
            k = failing.shard + 1,
            n = failing.shards,
            count = if failing.failures == 1 { "1 failure".to_owned() } else { format!("{} failures", failing.failures) },
            until = quoted(&failing.until),
            suite = match failing.suite.as_str() {
                "" => String::new(),
                suite => format!(" --suite {}", quoted(suite)),
            },
        )
        .ok();
    }
    let word = match ended.verdict.as_str() {
        "green" => paint.green("green"),
        "red" => paint.red("red"),
        // Bad usage is no verdict on anything.
        _ if ended.exit_code == 2 => paint.red("error"),
        other => paint.yellow(other),
    };
    let message = ended.message.trim_end();
    match (totals.tests, message.is_empty()) {
        (0, false) => write!(text, "{word}: {message}").ok(),
        (_, false) => write!(text, "{word}: {} — {message}", totals_line(&totals)).ok(),
        (_, true) => write!(text, "{word}: {}", totals_line(&totals)).ok(),
    };
    text.push('\n');
    if !ended.hint.is_empty() {
        writeln!(text, "hint: {}", ended.hint).ok();
    }
    text
}

/// Of a warning so many tests are named.
const NAMED: usize = 3;

fn warnings(text: &mut String, paint: Paint, warnings: &[v1::Warning]) {
    for warning in warnings {
        let mut tests = warning.cases.clone();
        tests.dedup();
        tests.truncate(NAMED);
        let count = warning.count as usize;
        let more = if count > tests.len() {
            format!(" ({count} in all)")
        } else {
            String::new()
        };
        let of = if tests.is_empty() {
            String::new()
        } else {
            format!(" {}{more}", printable(&tests.join(", ")))
        };
        write!(text, "{}{of}", paint.yellow("warning:")).ok();
        indent(text, &warning.text);
        text.push('\n');
    }
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '/' | '.' | '_' | '-' | ':' | '=' | '+' | ',' | '@' | '%')
    };
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if word.chars().any(char::is_control) {
        // $'…' takes control characters without breaking the line.
        let escaped: String = word
            .chars()
            .map(|c| match c {
                '\\' => "\\\\".to_owned(),
                '\'' => "\\'".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\t' => "\\t".to_owned(),
                c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
                c => c.to_string(),
            })
            .collect();
        return format!("$'{escaped}'");
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        let words = [
            "plain::test_a",
            "a b",
            "it's",
            "tests/a.py::test[x;rm -rf]",
            "line\nbreak\u{1b}",
            "ünï",
            "",
        ];
        for word in words {
            let command = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("bash")
                .args(["-c", &command])
                .output()
                .expect("bash runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{command}");
        }
    }

    #[test]
    fn a_long_failure_keeps_its_head_and_tail() {
        let detail: String = (0..500).map(|n| format!("line {n}\n")).collect();
        let said = v1::CaseText {
            detail,
            ..v1::CaseText::default()
        };
        let failed = v1::Failure {
            id: "t".to_owned(),
            text: Some(said),
            ..v1::Failure::default()
        };
        let text = failure(Paint::new(false), &failed, true);
        assert!(
            text.contains("line 0\n") && text.contains("line 499") && text.contains("420 lines"),
            "{text}"
        );
        assert!(text.lines().count() < 90);
    }
}
