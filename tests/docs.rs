//! The reference against the code: docs/cli.md is what the binary says of itself, and the other pages leave nothing out.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SUBCOMMANDS: [&str; 19] = [
    "run",
    "watch",
    "cancel",
    "reproduce",
    "runs",
    "show",
    "simulate",
    "timings",
    "timings import",
    "timings show",
    "timings export",
    "plan",
    "doctor",
    "completions",
    "coordinator",
    "agent",
    "store",
    "store check",
    "store prune",
];
const BLESS: &str = "EVENKEEL_BLESS=1 cargo test --test docs";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
}

/// What `evenkeel ARGUMENTS --help` prints, wrapped at a fixed width.
fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(arguments)
        .arg("--help")
        .env("COLUMNS", "100")
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built for this test");
    assert!(output.status.success(), "{arguments:?} --help fails");
    let text = String::from_utf8(output.stdout).expect("help is UTF-8");
    // An option that wraps leaves spaces behind.
    text.lines()
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect()
}

/// The part of a source file between two marks, the first one left out.
fn between<'a>(source: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = source
        .split_once(from)
        .unwrap_or_else(|| panic!("{from:?} is not in the source any more: adapt this test"));
    rest.split_once(to).map_or(rest, |(part, _)| part)
}

/// The exit codes with their meaning, from the enum's documentation and the match that gives the numbers.
fn exit_codes() -> String {
    let source = read("src/exit.rs");
    let numbers = between(&source, "pub fn code(self)", "\n    }\n");
    let mut table = String::from("| code | meaning |\n|---|---|\n");
    let mut meaning: Vec<&str> = Vec::new();
    let mut found = 0;
    for line in between(&source, "pub enum Exit {", "\n}").lines() {
        let line = line.trim();
        if let Some(said) = line.strip_prefix("///") {
            meaning.push(said.trim());
        } else if let Some(variant) = line.strip_suffix(',') {
            let number = between(numbers, &format!("Exit::{variant} => "), ",");
            let number: u8 = number.parse().expect("an exit code is a number");
            writeln!(table, "| {number} | {} |", meaning.join(" ")).expect("a string takes all");
            meaning.clear();
            found += 1;
        }
    }
    assert!(
        found >= 6,
        "only {found} exit codes were found in src/exit.rs"
    );
    table
}

fn command_line_reference() -> String {
    let mut page = String::from(
        "# The command line\n\n\
         Generated from the program: do not edit. To write it anew after a change: `",
    );
    write!(
        page,
        "{BLESS}`.\n\n## evenkeel\n```text\n{}```\n",
        help(&[])
    )
    .expect("a string takes all");
    for subcommand in SUBCOMMANDS {
        write!(
            page,
            "\n## evenkeel {subcommand}\n```text\n{}```\n",
            help(&subcommand.split(' ').collect::<Vec<_>>())
        )
        .expect("a string takes all");
    }
    write!(page, "\n## Exit codes\n{}", exit_codes()).expect("a string takes all");
    page
}

#[test]
fn the_command_line_reference_is_what_the_program_says() {
    let page = command_line_reference();
    let file = path("docs/cli.md");
    if std::env::var_os("EVENKEEL_BLESS").is_some() {
        fs::write(&file, &page).expect("docs/ can be written to");
    }
    assert!(
        fs::read_to_string(&file).unwrap_or_default() == page,
        "docs/cli.md is not what the program says of itself; write it anew with: {BLESS}"
    );
}

#[test]
fn every_subcommand_is_in_the_reference() {
    let text = help(&[]);
    let listed: Vec<&str> = between(&text, "Commands:\n", "\n\n")
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty() && *word != "help")
        .collect();
    let top: Vec<&str> = SUBCOMMANDS
        .into_iter()
        .filter(|name| !name.contains(' '))
        .collect();
    assert_eq!(listed, top);
}

#[test]
fn the_readme_has_the_exit_codes() {
    assert!(
        read("README.md").contains(&exit_codes()),
        "README.md should hold this table:\n{}",
        exit_codes()
    );
}

/// Fails unless each name stands in the page between backticks.
fn named(page: &str, names: &[&str]) {
    assert!(names.len() > 3, "hardly any names for {page}: {names:?}");
    let text = read(page);
    let missing: Vec<&&str> = names
        .iter()
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "{page} says nothing of {missing:?}");
}

/// The keys of every `"key":` in a piece of source.
fn json_keys(source: &str) -> Vec<&str> {
    source
        .split('"')
        .collect::<Vec<_>>()
        .windows(2)
        .filter(|pair| pair[1].starts_with(':'))
        .map(|pair| pair[0])
        .filter(|key| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect()
}

/// The fields of every struct under an attribute that holds `mark`.
fn fields<'a>(source: &'a str, mark: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut marked = false;
    let mut inside = false;
    let mut renamed = None;
    for line in source.lines() {
        if line.starts_with("#[derive(") {
            marked = line.contains(mark);
        } else if line.contains("struct ") && line.ends_with('{') {
            inside = marked && !line.starts_with(' ');
        } else if line.starts_with('}') {
            (marked, inside) = (false, false);
        } else if inside {
            let line = line.trim().trim_start_matches("pub ");
            if let Some((_, rename)) = line.split_once("rename = \"") {
                renamed = rename.split('"').next();
            }
            let name = line.split_once(": ").map(|(name, _)| name);
            if let Some(name) = name.filter(|name| !name.starts_with(['/', '#'])) {
                names.push(renamed.take().unwrap_or(name));
            }
        }
    }
    names
}

#[test]
fn every_event_and_its_fields_are_described() {
    let source = read("src/events.rs");
    let names: Vec<&str> = source
        .split("\"event\": \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    named("docs/events.md", &names);
    named("docs/events.md", &json_keys(&source));
    named("docs/events.md", &["seq", "at_s", "event", "shard"]);
}

#[test]
fn every_field_of_the_json_report_is_described() {
    let source = read("coordinator/src/report/json.rs");
    named("docs/report.md", &fields(&source, "Serialize"));
    named(
        "docs/report.md",
        &[
            "schema", "run", "totals", "schedule", "shards", "notes", "tests",
        ],
    );
}

#[test]
fn every_field_of_a_plan_is_described() {
    named(
        "docs/plan.md",
        &fields(&read("src/plan/written.rs"), "Serialize"),
    );
}

#[test]
fn every_provider_is_described() {
    let source = read("src/plan/node.rs");
    let table = between(&source, "const PROVIDERS", "\n];");
    let mut names = Vec::new();
    for field in ["index: \"", "total: \""] {
        let found = table.split(field).skip(1);
        names.extend(found.filter_map(|rest| rest.split('"').next()));
    }
    named("docs/plan.md", &names);
}

#[test]
fn every_key_of_the_configuration_is_described() {
    let source = read("src/config/mod.rs");
    named("docs/config.md", &fields(&source, "Deserialize"));
}

/// The metrics of the coordinator, as its source has them.
fn metrics() -> String {
    let source = read("coordinator/src/server/metrics.rs");
    let mut table = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    let mut found = 0;
    for metric in source.split("\nmetric!(").skip(1) {
        let strings: Vec<&str> = metric.split('"').skip(1).step_by(2).collect();
        let end = metric.find(");").expect("a macro call ends");
        let strings: Vec<&str> = strings
            .into_iter()
            .filter(|text| metric[..end].contains(&format!("\"{text}\"")))
            .collect();
        let [name, labels @ .., help] = strings.as_slice() else {
            panic!("a metric has a name and a meaning: {metric}");
        };
        let kinds = ["Counter", "Gauge", "Histogram"];
        let kind = kinds.iter().find(|kind| metric[..end].contains(**kind));
        let kind = kind.expect("a metric has a kind").to_lowercase();
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(
            table,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        )
        .expect("a string takes all");
        found += 1;
    }
    assert!(found >= 11, "only {found} metrics were found");
    table
}

#[test]
fn the_metrics_are_described() {
    const BEGIN: &str = "<!-- metrics: generated from the program, as the other references -->\n";
    const END: &str = "<!-- end of metrics -->";
    let page = read("docs/operations.md");
    let is = between(&page, BEGIN, END);
    let wanted = metrics();
    if std::env::var_os("EVENKEEL_BLESS").is_some() {
        let page = page.replace(
            &format!("{BEGIN}{is}{END}"),
            &format!("{BEGIN}{wanted}{END}"),
        );
        fs::write(path("docs/operations.md"), page).expect("docs/ can be written to");
        return;
    }
    assert_eq!(is, wanted, "write it anew with: {BLESS}");
}
