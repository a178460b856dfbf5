//! Plugins that write a report of the run into a file: with several slots it is one report, of all of them.

use crate::trial::{Seen, trial};
use serde_json::Value;

fn json(seen: &Seen, path: &str) -> Value {
    let files = seen.files();
    let text = files
        .get(path)
        .unwrap_or_else(|| panic!("no {path} in {:?}: {}", files.keys(), seen.ended.stderr));
    serde_json::from_str(text).unwrap()
}

/// What `pick` takes from each of a list, sorted.
fn sorted(list: &[Value], pick: impl Fn(&Value) -> String) -> Vec<String> {
    let mut picked: Vec<_> = list.iter().map(pick).collect();
    picked.sort();
    picked
}

#[test]
fn json_report() {
    let seen = trial("zoo", &["pytest_jsonreport", "metadata"])
        .with(&["--json-report"])
        .alike();
    let [plain, one, two] = seen.map(|seen| {
        let report = json(&seen, ".report.json");
        let tests = report["tests"].as_array().unwrap();
        let phases = |test: &Value, phase: &str| {
            let told = &test[phase];
            format!(
                "{} {} {}",
                told["outcome"], told["crash"]["message"], told["stdout"]
            )
        };
        let tests = sorted(tests, |test| {
            let [setup, call] = ["setup", "call"].map(|phase| phases(test, phase));
            format!("{} {} {setup} {call}", test["nodeid"], test["outcome"])
        });
        (
            report["summary"]["passed"].clone(),
            report["summary"]["total"].clone(),
            tests,
        )
    });
    assert_eq!(one, plain);
    assert_eq!(two, plain);
}

#[test]
fn html() {
    let seen = trial("zoo", &["html", "metadata"])
        .with(&["--html=report.html", "--self-contained-html"])
        .alike();
    let [plain, one, two] = seen.map(|seen| {
        let files = seen.files();
        let page = files
            .get("report.html")
            .unwrap_or_else(|| panic!("no page: {}", seen.ended.stderr));
        let blob = page
            .split("data-jsonblob=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let blob = blob
            .replace("&#34;", "\"")
            .replace("&quot;", "\"")
            .replace("&amp;", "&");
        let blob: Value = serde_json::from_str(&blob).unwrap();
        let tests = blob["tests"].as_object().unwrap();
        let mut rows: Vec<_> = tests
            .iter()
            .flat_map(|(id, rows)| {
                rows.as_array()
                    .unwrap()
                    .iter()
                    .map(move |row| format!("{id} {}", row["result"]))
            })
            .collect();
        rows.sort();
        rows
    });
    assert_eq!(one, plain);
    assert_eq!(two, plain);
}

#[test]
fn report_log() {
    let seen = trial("zoo", &["pytest_reportlog"])
        .with(&["--report-log=log.json"])
        .alike();
    let [plain, one, two] = seen.map(|seen| {
        let files = seen.files();
        let log = files
            .get("log.json")
            .unwrap_or_else(|| panic!("no log: {}", seen.ended.stderr));
        let lines: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let reports: Vec<_> = lines
            .into_iter()
            .filter(|line| line["$report_type"] == "TestReport")
            .collect();
        sorted(&reports, |report| {
            format!(
                "{} {} {}",
                report["nodeid"], report["when"], report["outcome"]
            )
        })
    });
    assert_eq!(one, plain);
    assert_eq!(two, plain);
}

/// pytest-bdd's is empty under pytest-xdist: what it needs does not leave the worker. So it is at one slot only.
#[test]
fn cucumber_json() {
    let bdd = trial("bdd", &["pytest-bdd"]).with(&["--cucumberjson=cucumber.json"]);
    let [plain, one] = [bdd.plain(), bdd.slots(1)].map(|seen| {
        let features = json(&seen, "cucumber.json");
        let scenarios = |feature: &Value| feature["elements"].as_array().unwrap().len();
        sorted(features.as_array().unwrap(), |feature| {
            format!("{} {}", feature["uri"], scenarios(feature))
        })
    });
    assert_eq!(one, plain);
}

#[test]
fn allure() {
    let seen = trial("zoo", &["allure_pytest"])
        .with(&["--alluredir=allure"])
        .alike();
    let [plain, one, two] = seen.map(|seen| {
        let files = seen.files();
        let results = files
            .iter()
            .filter(|(path, _)| path.ends_with("-result.json"));
        let results: Vec<Value> = results
            .map(|(_, text)| serde_json::from_str(text).unwrap())
            .collect();
        sorted(&results, |result| {
            format!(
                "{} {} {}",
                result["fullName"], result["name"], result["status"]
            )
        })
    });
    assert_eq!(one, plain);
    assert_eq!(two, plain);
}
