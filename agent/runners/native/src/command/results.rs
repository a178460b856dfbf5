//! What a report says of each unit.

use evenkeel_junit::{ReadCase, ReadSuite, SuiteTimes, read};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was reported of a unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Reported {
    pub cases: Vec<ReadCase>,
    /// What its suites say that they took, where they hold nothing else.
    pub time: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Results {
    pub units: HashMap<String, Reported>,
    /// Cases of which it is not known where they belong: the first, and how many.
    pub stray: Option<(String, usize)>,
    /// What of the reports could not be read.
    pub damage: Vec<String>,
}

/// Reads reports on these units. `unit_of` says how a case's unit is made of its parts.
pub(super) fn collect(
    files: &[PathBuf],
    units: &[String],
    unit_of: Option<&str>,
    directory: &Path,
) -> Results {
    let mut results = Results::default();
    let mut owners = Owners {
        units,
        unit_of,
        directory,
        known: HashMap::new(),
    };
    for path in files {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) => {
                results.damage.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        let mut times = SuiteTimes::default();
        let summary = read(file, |within, case| {
            let Some(unit) = owners.of(within, &case) else {
                let stray = results
                    .stray
                    .get_or_insert_with(|| (described(within, &case), 0));
                stray.1 += 1;
                return;
            };
            times.note(within, &unit, &case);
            results.units.entry(unit).or_default().cases.push(case);
        });
        for (unit, taken) in times.by_owner() {
            if let Some(reported) = results.units.get_mut(&unit) {
                reported.time += taken.suites;
            }
        }
        if let Some(damage) = summary.damage {
            results.damage.push(damage);
        }
    }
    for reported in results.units.values_mut() {
        let cases: Duration = reported.cases.iter().filter_map(|case| case.time).sum();
        reported.time = reported.time.max(cases);
    }
    results
}

fn described(within: &[ReadSuite], case: &ReadCase) -> String {
    let suite = within.last().map_or("", |suite| suite.name.as_str());
    format!(
        "suite {suite:?}, class {:?}, file {:?}, name {:?}",
        case.class, case.file, case.name
    )
}

/// To which unit each case belongs.
struct Owners<'a> {
    units: &'a [String],
    unit_of: Option<&'a str>,
    directory: &'a Path,
    known: HashMap<String, Option<String>>,
}

impl Owners<'_> {
    fn of(&mut self, within: &[ReadSuite], case: &ReadCase) -> Option<String> {
        if let [only] = self.units {
            return Some(only.clone());
        }
        if let Some(pattern) = self.unit_of {
            let suite = within.last();
            let filled = pattern
                .replace("{file}", &case.file)
                .replace("{suite_file}", suite.map_or("", |suite| &suite.file))
                .replace("{suite}", suite.map_or("", |suite| &suite.name))
                .replace("{class_path}", &case.class.replace('.', "/"))
                .replace("{class}", &case.class)
                .replace("{name}", &case.name);
            return self.unit(&filled);
        }
        let suites = within
            .iter()
            .rev()
            .flat_map(|suite| [&suite.file, &suite.name]);
        let path = case.class.replace('.', "/");
        let told: Vec<String> = std::iter::once(&case.file)
            .chain(suites)
            .chain([&case.class, &path])
            .filter(|text| !text.is_empty())
            .cloned()
            .collect();
        told.iter().find_map(|text| self.unit(text))
    }

    /// The unit that a text names: the unit itself, its path from elsewhere, or the dotted name of something in it.
    fn unit(&mut self, text: &str) -> Option<String> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        let inside = Path::new(text)
            .strip_prefix(self.directory)
            .map(Path::to_string_lossy);
        let inside = inside.as_deref().unwrap_or(text);
        let plain = inside.strip_prefix("./").unwrap_or(inside);
        let ends = |long: &str, short: &str| {
            let before = long.strip_suffix(short);
            before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
        };
        let stem = |unit: &str| match unit.rsplit_once('.') {
            Some((stem, extension)) if !extension.contains('/') => stem.to_owned(),
            _ => unit.to_owned(),
        };
        let exact = self.units.iter().find(|unit| *unit == plain);
        let by_end = || {
            one(self
                .units
                .iter()
                .filter(|unit| ends(unit, plain) || ends(plain, unit)))
        };
        let by_stem = || {
            one(self.units.iter().filter(|unit| {
                let stem = stem(unit);
                let within = plain.strip_prefix(&*stem);
                within.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }))
        };
        let found = exact.or_else(by_end).or_else(by_stem).cloned();
        self.known.insert(text.to_owned(), found.clone());
        found
    }
}

/// The one element, where there is exactly one.
fn one<'a>(mut all: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(units: &[&str], unit_of: Option<&str>, text: &str) -> Vec<Option<String>> {
        let units: Vec<String> = units.iter().map(|unit| (*unit).to_owned()).collect();
        let mut owners = Owners {
            units: &units,
            unit_of,
            directory: Path::new("/srv/shop"),
            known: HashMap::new(),
        };
        let mut found = Vec::new();
        read(text.as_bytes(), |within, case| {
            found.push(owners.of(within, &case))
        });
        found
    }

    #[test]
    fn a_case_belongs_to_what_its_report_names() {
        let units = ["test/a.js", "test/b.js", "lib/test_c.py"];
        let text = r#"<testsuites>
            <testsuite name="x"><testcase name="1" file="/srv/shop/test/a.js"/></testsuite>
            <testsuite name="./test/b.js"><testcase name="2"/></testsuite>
            <testsuite name="x" file="/elsewhere/test/a.js"><testcase name="3"/></testsuite>
            <testsuite name="x"><testcase name="4" classname="lib.test_c.TestX"/></testsuite>
            <testsuite name="x"><testcase name="5" classname="nothing"/></testsuite>
        </testsuites>"#;
        let expected = [
            Some(units[0]),
            Some(units[1]),
            Some(units[0]),
            Some(units[2]),
            None,
        ];
        let found = owner(&units, None, text);
        let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
        assert_eq!(found, expected);
        // With one unit there is no question.
        assert_eq!(owner(&["a"], None, text), vec![Some("a".to_owned()); 5]);
    }

    #[test]
    fn a_suites_time_is_a_units_only_where_it_holds_nothing_else() {
        let path =
            std::env::temp_dir().join(format!("evenkeel-results-{}.xml", std::process::id()));
        let text = r#"<testsuites>
            <testsuite name="all" time="9"><testcase name="1" file="a" time="1"/><testcase name="2" file="b" time="2"/></testsuite>
            <testsuite name="own" time="4"><testcase name="3" file="a" time="1"/></testsuite>
        </testsuites>"#;
        std::fs::write(&path, text).expect("a file can be written");
        let units = ["a", "b"].map(str::to_owned);
        let results = collect(std::slice::from_ref(&path), &units, None, Path::new("/srv"));
        std::fs::remove_file(&path).ok();
        let seconds = ["a", "b"].map(|unit| results.units[unit].time.as_secs());
        assert_eq!(seconds, [4, 2]);
    }

    #[test]
    fn a_pattern_makes_the_unit_of_a_cases_parts() {
        let text =
            r#"<testsuite name="A"><testcase name="n" classname="org.shop.CartTest"/></testsuite>"#;
        let units = [
            "src/test/java/org/shop/CartTest.java",
            "src/test/java/org/shop/Other.java",
        ];
        let found = owner(&units, Some("src/test/java/{class_path}.java"), text);
        assert_eq!(found, [Some(units[0].to_owned())]);
    }
}
