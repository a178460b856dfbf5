//! JUnit reports of other tools as durations: which unit and which case a reported test is, in the names that a framework has here.

use crate::record::Outcome;
use crate::store::CaseTime;
use evenkeel_junit::{ReadCase, ReadOutcome, ReadSuite, SuiteTimes, Summary, read};
use evenkeel_schedule::Micros;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a framework's units and cases are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// A unit is a file, a case its node id.
    Pytest,
    /// A unit is a test binary, which reports name as the class.
    Cargo,
    /// A unit is a file, or the suite where no file is named.
    Files,
}

/// What one file gave.
#[derive(Debug)]
pub struct Imported {
    pub path: PathBuf,
    pub summary: Summary,
    pub cases: Vec<CaseTime>,
    /// By unit, what its suites took beyond their cases.
    pub setup: BTreeMap<String, Micros>,
    /// Cases without a time, or without anything that says where they belong.
    pub useless: u64,
}

/// Reads a report. `root` is the directory in which the suite runs.
pub fn import(path: &Path, naming: Naming, root: &Path) -> std::io::Result<Imported> {
    let file = File::open(path)?;
    let mut cases = Vec::new();
    let mut useless = 0;
    let mut files = Files {
        root,
        known: HashMap::new(),
    };
    let mut times = SuiteTimes::default();
    let summary = read(file, |within, case| {
        let took = case.time.map(micros);
        let found = took.zip(address(naming, within, &case, &mut files));
        let Some((took, (unit, id))) = found else {
            useless += 1;
            return;
        };
        times.note(within, &unit, &case);
        cases.push(CaseTime {
            unit,
            id,
            outcome: match case.outcome {
                ReadOutcome::Passed => Outcome::Passed,
                ReadOutcome::Failed => Outcome::Failed,
                ReadOutcome::Error => Outcome::Error,
                ReadOutcome::Skipped => Outcome::Skipped,
            },
            took,
        });
    });
    // A suite that is a unit tells what loading it takes; one that holds several units does not.
    let setup = match naming {
        Naming::Files => times
            .by_owner()
            .into_iter()
            .map(|(unit, taken)| (unit, micros(taken.suites.saturating_sub(taken.cases))))
            .collect(),
        Naming::Pytest | Naming::Cargo => BTreeMap::new(),
    };
    Ok(Imported {
        path: path.to_owned(),
        summary,
        cases,
        setup,
        useless,
    })
}

fn micros(time: Duration) -> Micros {
    Micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// Unit and id of a reported case, where they can be told.
fn address(
    naming: Naming,
    within: &[ReadSuite],
    case: &ReadCase,
    files: &mut Files<'_>,
) -> Option<(String, String)> {
    match naming {
        Naming::Pytest => {
            let (file, classes) = if case.file.is_empty() {
                files.of_class(&case.class)?
            } else {
                // The class repeats the file in dots.
                let dotted = case.file.trim_end_matches(".py").replace('/', ".");
                let classes = case.class.strip_prefix(&dotted).unwrap_or_default();
                (
                    case.file.clone(),
                    classes.trim_start_matches('.').to_owned(),
                )
            };
            let mut id = file.clone();
            for class in classes.split('.').filter(|class| !class.is_empty()) {
                id.push_str("::");
                id.push_str(class);
            }
            Some((file, format!("{id}::{}", case.name)))
        }
        Naming::Cargo => {
            let unit = case.class.clone();
            let id = format!("{unit} {}", case.name);
            (!unit.is_empty()).then_some((unit, id))
        }
        Naming::Files => {
            let named = within.iter().rev().find_map(|suite| {
                let names = [&suite.file, &suite.name];
                names.into_iter().find(|name| !name.is_empty())
            });
            let unit = Some(&case.file).filter(|file| !file.is_empty()).or(named)?;
            let unit = files.relative(unit);
            Some((unit, case.name.clone()))
        }
    }
}

/// Which files the classes of a Python suite stand for.
struct Files<'a> {
    root: &'a Path,
    known: HashMap<String, Option<(String, String)>>,
}

impl Files<'_> {
    /// The file and the classes in it: the longest beginning of the dotted name that is a file here.
    fn of_class(&mut self, class: &str) -> Option<(String, String)> {
        if let Some(known) = self.known.get(class) {
            return known.clone();
        }
        let ends = class.match_indices('.').map(|(at, _)| at);
        let mut ends: Vec<usize> = ends.chain([class.len()]).collect();
        ends.reverse();
        let found = ends.into_iter().find_map(|end| {
            let file = format!("{}.py", class[..end].replace('.', "/"));
            let rest = class[end..].trim_start_matches('.').to_owned();
            self.root.join(&file).is_file().then_some((file, rest))
        });
        self.known.insert(class.to_owned(), found.clone());
        found
    }

    /// A path as it is written within the root.
    fn relative(&self, path: &str) -> String {
        let inside = Path::new(path).strip_prefix(self.root);
        let inside = inside.map_or_else(
            |_| path.to_owned(),
            |path| path.to_string_lossy().into_owned(),
        );
        inside.strip_prefix("./").unwrap_or(&inside).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path) -> Files<'_> {
        Files {
            root,
            known: HashMap::new(),
        }
    }

    fn case(class: &str, name: &str, file: &str) -> ReadCase {
        let text = format!(
            "<testsuite><testcase classname=\"{class}\" name=\"{name}\" file=\"{file}\"/></testsuite>"
        );
        let mut cases = Vec::new();
        read(text.as_bytes(), |_, case| cases.push(case));
        cases.remove(0)
    }

    #[test]
    fn names_of_pytest_lead_back_to_node_ids() {
        let root = std::env::temp_dir().join(format!("evenkeel-import-{}", std::process::id()));
        std::fs::create_dir_all(root.join("tests")).expect("a directory can be made");
        std::fs::write(root.join("tests/test_a.py"), "").expect("a file can be written");
        let mut files = files(&root);
        let mut told = |class: &str, name: &str, file: &str| {
            address(Naming::Pytest, &[], &case(class, name, file), &mut files)
        };
        let expected = |id: &str| Some(("tests/test_a.py".to_owned(), id.to_owned()));
        assert_eq!(
            told("tests.test_a.TestX.TestY", "test_b[1.5]", ""),
            expected("tests/test_a.py::TestX::TestY::test_b[1.5]")
        );
        assert_eq!(
            told("tests.test_a", "test_c", ""),
            expected("tests/test_a.py::test_c")
        );
        assert_eq!(
            told("tests.test_a.TestX", "test_d", "tests/test_a.py"),
            expected("tests/test_a.py::TestX::test_d")
        );
        assert_eq!(told("tests.absent", "test_e", ""), None);
        std::fs::remove_dir_all(&root).ok();
    }

    #[test]
    fn other_names_lead_to_binaries_and_files() {
        let mut files = files(Path::new("/srv/shop"));
        let mut told = |naming, class: &str, file: &str, suite: &str| {
            let within = [ReadSuite {
                name: suite.to_owned(),
                ..ReadSuite::default()
            }];
            address(naming, &within, &case(class, "n", file), &mut files)
        };
        let pair = |unit: &str, id: &str| Some((unit.to_owned(), id.to_owned()));
        assert_eq!(
            told(Naming::Cargo, "a::it", "", ""),
            pair("a::it", "a::it n")
        );
        assert_eq!(told(Naming::Cargo, "", "", "s"), None);
        assert_eq!(
            told(Naming::Files, "c", "/srv/shop/x.js", "s"),
            pair("x.js", "n")
        );
        assert_eq!(told(Naming::Files, "c", "./x.js", "s"), pair("x.js", "n"));
        assert_eq!(told(Naming::Files, "c", "", "s"), pair("s", "n"));
    }
}
