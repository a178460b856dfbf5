//! `evenkeel plan`: nodes that ask nobody come to the same shards, which hold everything once.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use support::*;

/// What a CI provider would say; tests say it themselves.
const VARIABLES: [&str; 12] = [
    "CI_NODE_INDEX",
    "CI_NODE_TOTAL",
    "BUILDKITE_PARALLEL_JOB",
    "BUILDKITE_PARALLEL_JOB_COUNT",
    "CIRCLE_NODE_INDEX",
    "CIRCLE_NODE_TOTAL",
    "SEMAPHORE_JOB_INDEX",
    "SEMAPHORE_JOB_COUNT",
    "BITBUCKET_PARALLEL_STEP",
    "BITBUCKET_PARALLEL_STEP_COUNT",
    "SYSTEM_JOBPOSITIONINPHASE",
    "SYSTEM_TOTALJOBSINPHASE",
];

/// `evenkeel plan` with these words and variables, and this on its standard input.
fn planned(suite: &Suite, words: &[&str], variables: &[(&str, &str)], input: &str) -> Ended {
    suite.write("input.txt", input);
    let mut command = suite.command(EVENKEEL);
    VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.arg("plan").args(words);
    command.envs(variables.iter().copied());
    command.stdin(File::open(suite.root.join("input.txt")).unwrap());
    suite.start(command).end()
}

fn plan(suite: &Suite, words: &[&str]) -> Ended {
    planned(suite, words, &[], "")
}

/// The line with the digests.
fn digests(ended: &Ended) -> String {
    let line = ended.stderr.lines().find(|line| line.starts_with("plan "));
    line.unwrap_or_else(|| panic!("no digests in:\n{}", ended.stderr))
        .to_owned()
}

fn a_suite() -> Suite {
    let suite = Suite::new();
    for number in 0..7 {
        let tests: String = (0..=number)
            .map(|test| format!("def test_{test}(): pass\n"))
            .collect();
        suite.write(&format!("tests/test_{number}.py"), &tests);
    }
    suite.write("tests/deep/test_more.py", "def test_more(): pass\n");
    suite.write("tests/helper.py", "");
    suite
}

#[test]
fn nodes_come_to_shards_that_hold_every_file_once_and_all_tests_run() {
    let suite = a_suite();
    let mut all = Vec::new();
    let mut tests = 0;
    let mut seen = BTreeSet::new();
    for index in ["1", "2", "3"] {
        let words = ["--shards", "3", "--index", index, "--format", "files", "--"];
        let ended = plan(&suite, &[&words[..], &pytest(&["tests"])].concat());
        ended.exits(0);
        seen.insert(digests(&ended));
        let files: Vec<&str> = ended.stdout.lines().collect();
        assert!(files.is_sorted());
        let mut command = suite.command(python());
        command
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
            .args(&files);
        let ran = suite.start(command).end();
        ran.exits(0);
        let last = ran.stdout.lines().last().unwrap();
        tests += last.split(' ').next().unwrap().parse::<u32>().unwrap();
        all.extend(files.into_iter().map(str::to_owned));
    }
    all.sort();
    let mut files: Vec<String> = (0..7)
        .map(|number| format!("tests/test_{number}.py"))
        .collect();
    files.insert(0, "tests/deep/test_more.py".to_owned());
    assert_eq!(all, files, "and no helper");
    assert_eq!(tests, 29);
    assert_eq!(seen.len(), 1, "{seen:?}");
    // Nothing is left where it was planned, and no process.
    assert!(!suite.root.join(".evenkeel").exists());
    suite.nothing_stays();
}

#[test]
fn order_repetition_spelling_and_locale_change_no_byte() {
    let suite = a_suite();
    let names = [
        "tests/test_0.py",
        "tests/test_1.py",
        "tests/test_2.py",
        "tests/Zoë.py",
        "tests/a-b.py",
    ];
    let words = ["--shards", "2", "--index", "2", "--format", "files"];
    let one = plan(&suite, &[&words[..], &names].concat());
    one.exits(0);
    let root = suite.root.to_string_lossy().into_owned();
    let absolute = format!("{root}/tests/test_0.py");
    let spelled = [
        "tests/a-b.py",
        "./tests/Zoë.py",
        "tests//test_2.py",
        &absolute,
        "tests/test_1.py",
    ];
    let lines = format!("{}\n\n{}\r\n", spelled.join("\n"), spelled[1]);
    let nuls = spelled.join("\0");
    let input = [&words[..], &["-"]].concat();
    for other in [
        planned(
            &suite,
            &[&words[..], &spelled].concat(),
            &[("LC_ALL", "tr_TR.UTF-8")],
            "",
        ),
        planned(&suite, &input, &[("LC_ALL", "C")], &lines),
        planned(&suite, &input, &[("LANG", "de_DE.UTF-8")], &nuls),
    ] {
        other.exits(0);
        assert_eq!(other.stdout, one.stdout);
        assert_eq!(other.stderr, one.stderr);
    }
    let null = plan(&suite, &[&words[..], &["-0"], &names].concat());
    assert_eq!(null.stdout, one.stdout.replace('\n', "\0"));
    // One file more is another plan, and the digests say so.
    let more = plan(&suite, &[&words[..], &names, &["tests/test_3.py"]].concat());
    assert_ne!(digests(&more), digests(&one));
}

#[test]
fn durations_balance_the_shards_wherever_they_come_from() {
    let suite = a_suite();
    let cases: String = (0..7)
        .map(|number| {
            let took = [8.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0][number];
            format!("<testcase classname=\"tests.test_{number}\" name=\"test_0\" time=\"{took}\"/>")
        })
        .collect();
    let report = format!("<testsuites><testsuite name=\"pytest\">{cases}</testsuite></testsuites>");
    suite.write("report.xml", &report);
    let words = ["--shards", "2", "--format", "json"];
    let files: Vec<String> = (0..7)
        .map(|number| format!("tests/test_{number}.py"))
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let from_report = plan(
        &suite,
        &[&words[..], &["--timings", "report.xml"], &files].concat(),
    );
    from_report
        .exits(0)
        .says(&["the longest should take 8.00 s"]);
    let read: Value = serde_json::from_str(&from_report.stdout).unwrap();
    assert_eq!(
        (read["schema"].as_u64(), read["makespan_s"].as_f64()),
        (Some(1), Some(8.0))
    );
    let shards = read["split"].as_array().unwrap();
    let sizes: Vec<usize> = shards
        .iter()
        .map(|shard| shard["units"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [1, 6], "the long one by itself: {read}");
    assert_eq!(shards[0]["units"][0]["known"], true);

    // Imported, the history of the state directory says the same, and so does what is exported of it.
    suite
        .evenkeel(&["timings", "import", "--suite", "pytest", "report.xml"])
        .exits(0);
    let from_state = plan(&suite, &[&words[..], &files].concat());
    assert_eq!(from_state.stdout, from_report.stdout);
    let exported = suite.evenkeel(&["timings", "export"]);
    suite.write("timings.json", &exported.stdout);
    let from_export = plan(
        &suite,
        &[&words[..], &["--timings", "timings.json"], &files].concat(),
    );
    assert_eq!(from_export.stdout, from_report.stdout);
    // And a suite that is listed by its command finds its durations by its name.
    let command = [&words[..], &["--"], &pytest(&["tests"])].concat();
    let listed = plan(&suite, &command);
    listed.exits(0).says(&["1 unit without durations"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let makespan = listed["makespan_s"].as_f64().unwrap();
    assert!((8.0..=13.0).contains(&makespan), "{makespan}");
}

#[test]
fn a_unit_that_nothing_is_known_of_is_guessed_and_durations_that_fit_nothing_are_warned_of() {
    let suite = a_suite();
    suite.write(
        "elsewhere.json",
        "{\"suite\":\"pytest\",\"unit\":\"src/tests/test_0.py\",\"work_s\":4.0,\"setup_s\":1.0}\n{\"suite\":\"pytest\",\"unit\":\"src/tests/test_1.py\",\"work_s\":2.0}\n",
    );
    let words = [
        "--shards",
        "2",
        "--timings",
        "elsewhere.json",
        "tests/test_0.py",
        "tests/test_1.py",
    ];
    plan(&suite, &words).exits(0).says(&[
        "warning: of 2 units only 0 have durations, though durations of 2 are known",
        "the plan has tests/test_0.py, the durations have src/tests/test_0.py",
        "2 units without durations",
    ]);
    suite.write("some.json", "{\"unit\":\"tests/test_0.py\",\"work_s\":4.0}\n{\"unit\":\"tests/test_1.py\",\"work_s\":4.0}\n");
    let words = [
        "--shards",
        "3",
        "--timings",
        "some.json",
        "tests/test_0.py",
        "tests/test_1.py",
        "tests/test_2.py",
    ];
    let ended = plan(&suite, &words);
    ended.exits(0).says(&["1 unit without durations: "]);
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    // Its neighbours took four seconds each; what is uncertain is expected to take somewhat more.
    let guess = ended
        .stdout
        .lines()
        .find(|line| line.ends_with("tests/test_2.py (guess)"));
    let guess = guess.unwrap().split_whitespace().next().unwrap();
    let guess: f64 = guess.parse().unwrap();
    assert!((3.0..10.0).contains(&guess), "{guess}");
    suite.write("broken.json", "{\"unit\": 3}\n");
    let ended = plan(&suite, &["--shards", "2", "--timings", "broken.json", "a"]);
    ended
        .exits(2)
        .says(&["broken.json, line 1: these are no durations", "hint:"]);
    let ended = plan(&suite, &["--shards", "2", "--timings", "absent.xml", "a"]);
    ended.exits(2).says(&["cannot read absent.xml"]);
}

#[test]
fn a_node_knows_from_its_provider_which_one_it_is() {
    let suite = Suite::new();
    let words = ["--format", "files", "a", "b", "c"];
    let asked = |variables: &[(&str, &str)]| planned(&suite, &words, variables, "");
    let gitlab = asked(&[("CI_NODE_INDEX", "1"), ("CI_NODE_TOTAL", "3")]);
    gitlab.exits(0).says(&["shard 1/3, as GitLab says"]);
    let circle = asked(&[("CIRCLE_NODE_INDEX", "0"), ("CIRCLE_NODE_TOTAL", "3")]);
    assert_eq!(
        (circle.stdout.as_str(), gitlab.stdout.as_str()),
        ("a\n", "a\n")
    );
    let last = asked(&[
        ("BUILDKITE_PARALLEL_JOB", "2"),
        ("BUILDKITE_PARALLEL_JOB_COUNT", "3"),
    ]);
    assert_eq!(last.stdout, "c\n");
    asked(&[])
        .exits(2)
        .says(&["how many shards are there?", "--shards"]);
    asked(&[("CIRCLE_NODE_INDEX", "3"), ("CIRCLE_NODE_TOTAL", "3")])
        .exits(2)
        .says(&["CIRCLE_NODE_INDEX is 3", "counts from 0"]);
}

#[test]
fn an_empty_shard_is_no_failure_and_an_empty_plan_is_one() {
    let suite = Suite::new();
    for format in ["files", "text", "json"] {
        let ended = plan(
            &suite,
            &[
                "--shards", "4", "--index", "4", "--format", format, "a", "b", "c",
            ],
        );
        ended
            .exits(0)
            .says(&["shard 4/4 is empty: there are fewer units than shards"]);
        match format {
            "files" => assert_eq!(ended.stdout, ""),
            "text" => assert_eq!(ended.stdout, "shard 4/4: 0.000 s, 0 units\n"),
            _ => {
                let read: Value = serde_json::from_str(&ended.stdout).unwrap();
                assert_eq!(read["split"][0]["units"].as_array().unwrap().len(), 0);
            }
        }
    }
    for input in ["", "\n\n", "\0"] {
        let ended = planned(&suite, &["--shards", "2", "-"], &[], input);
        ended.exits(4).says(&["there is no unit to plan"]);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_hint() {
    let suite = a_suite();
    for (words, said) in [
        (
            &["--shards", "2", "--index", "0", "a"][..],
            "there is no shard 0",
        ),
        (
            &["--shards", "2", "--index", "3", "a"],
            "there is no shard 3 of 2",
        ),
        (
            &["--shards", "2", "--format", "files", "a"],
            "the files of which shard?",
        ),
        (&["--shards", "2", "-0", "a"], "--null was given"),
        (&["--shards", "2", "tests"], "tests is a directory"),
        (&["--shards", "2"], "nothing is named that could be planned"),
        (
            &["--shards", "2", "a", "--", "pytest"],
            "units and a command were given",
        ),
        (
            &["--shards", "2", "--index", "1", "--format", "files", "a\nb"],
            "would be read as two",
        ),
        (
            &["--shards", "2", "--", "make", "test"],
            "no framework is recognised",
        ),
    ] {
        let ended = plan(&suite, words);
        ended.exits(2).says(&[said, "hint:"]);
        assert_eq!(ended.stdout, "");
    }
    let words = ["--shards", "2", "--", python(), "-m", "pytest", "absent"];
    plan(&suite, &words)
        .exits(2)
        .says(&["suite pytest could not be listed", "absent"]);
    suite.nothing_stays();
}

#[test]
fn what_one_lock_keeps_apart_is_in_one_shard() {
    let suite = a_suite();
    suite.write(
        "evenkeel.toml",
        &format!(
            "project = \"shop\"\n[suite.unit]\ncommand = [\"{}\", \"-m\", \"pytest\", \"tests\"]\nsetup = [\"false\"]\n[[suite.unit.override]]\nunits = [\"tests/test_[135].py\"]\nlocks = [\"database\"]\n[[suite.unit.override]]\nunits = [\"tests/test_6.py\"]\nexclusive = true\n",
            python()
        ),
    );
    // Its set-up, which fails here, is for running.
    let ended = plan(&suite, &["--shards", "4", "--format", "json"]);
    ended.exits(0).says(&[
        "what needs the lock database takes",
        "1 unit must run alone",
    ]);
    let read: Value = serde_json::from_str(&ended.stdout).unwrap();
    let shards = read["split"].as_array().unwrap();
    let shard_of = |name: &str| {
        let has = |shard: &Value| {
            let units = shard["units"].as_array().unwrap();
            units
                .iter()
                .any(|unit| unit["unit"] == name && unit["suite"] == "unit")
        };
        shards.iter().position(has).unwrap()
    };
    assert_eq!(shard_of("tests/test_1.py"), shard_of("tests/test_3.py"));
    assert_eq!(shard_of("tests/test_1.py"), shard_of("tests/test_5.py"));
    assert_ne!(shard_of("tests/test_1.py"), shard_of("tests/test_0.py"));
}

#[test]
fn names_too_many_for_a_command_line_come_and_go_by_pipes() {
    let suite = Suite::new();
    let names: Vec<String> = (0..60_000)
        .map(|number| format!("a/quite/long/directory/name/of/a/suite/test_{number:05}.py"))
        .collect();
    let input = names.join("\n");
    let mut all = Vec::new();
    for index in ["1", "2"] {
        let ended = planned(
            &suite,
            &["--shards", "2", "--index", index, "--format", "files", "-"],
            &[],
            &input,
        );
        ended.exits(0);
        all.extend(ended.stdout.lines().map(str::to_owned));
    }
    all.sort();
    assert_eq!(all, names);
}
