//! What pytest and its plugins say when all tests are done, on any number of slots.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::{Suite, named, python, text};

const TWO: [(&str, &str); 2] = [
    ("test_a.py", "def test_a(): pass\n"),
    ("test_b.py", "def test_b(): pass\n"),
];

fn suite(conftest: &str) -> Suite {
    let suite = Suite::with(&TWO);
    suite.write("conftest.py", conftest);
    suite
}

#[test]
fn what_plugins_print_at_the_end_is_shown_once_if_it_is_the_same() {
    let suite = suite(
        "def pytest_sessionfinish(): print('written to out.html')
def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_sep('=', 'statistics')
    terminalreporter.write_line('nothing odd', red=True)
    if terminalreporter.config.option.verbose:
        terminalreporter.write_line(f'passed: {len(terminalreporter.stats.get(\"passed\", []))}')
",
    );
    for slots in ["1", "2"] {
        let ended = suite.pytest(&["-j", slots], &[]);
        ended
            .exits(0)
            .says(&["written to out.html", "statistics", "nothing odd"]);
        assert_eq!(ended.stderr.matches("nothing odd").count(), 1);
        assert!(!ended.stderr.contains('\x1b'), "{}", ended.stderr);
    }
    let ended = suite.pytest(&["-j", "1"], &["-v"]);
    ended.exits(0).says(&["passed: 2"]);
}

#[test]
fn a_run_that_a_plugin_fails_is_red() {
    for (conftest, words) in [
        (
            "def pytest_sessionfinish(session): session.exitstatus = 7\n",
            &["exit status 7"][..],
        ),
        (
            "def pytest_sessionfinish(): raise ValueError('no room for the report')\n",
            &["pytest_sessionfinish: ValueError: no room for the report"],
        ),
        (
            "import pytest
@pytest.hookimpl(hookwrapper=True)
def pytest_runtestloop(session):
    yield
    session.config.pluginmanager.get_plugin('terminalreporter').write('\\nERROR: too little covered\\n')
    session.testsfailed += 1
",
            &["too little covered"],
        ),
        (
            "import pytest
@pytest.fixture(scope='session', autouse=True)
def held():
    yield
    raise OSError('cannot let go')
",
            &["cannot let go"],
        ),
        (
            "def pytest_unconfigure(): raise KeyError('left over')\n",
            &["pytest_unconfigure: KeyError: 'left over'"],
        ),
        (
            "def pytest_configure(config): config.add_cleanup(lambda: 1 / 0)\n",
            &["ZeroDivisionError"],
        ),
    ] {
        let suite = suite(conftest);
        for slots in ["1", "2"] {
            suite.pytest(&["-j", slots], &[]).exits(1).says(words);
        }
    }
}

#[test]
fn to_leave_by_exit_at_the_end_is_no_crash() {
    for (conftest, code) in [
        ("import os\ndef pytest_unconfigure(): os._exit(0)\n", 0),
        (
            "import os\ndef pytest_sessionfinish(exitstatus): os._exit(exitstatus)\n",
            0,
        ),
        ("import os\ndef pytest_sessionfinish(): os._exit(9)\n", 1),
        ("import sys\ndef pytest_unconfigure(): sys.exit(0)\n", 0),
    ] {
        let suite = suite(conftest);
        for slots in ["1", "2"] {
            suite.pytest(&["-j", slots], &[]).exits(code);
        }
    }
}

#[test]
fn a_warning_is_told_once_with_its_tests() {
    let suite = Suite::with(&[
        (
            "helper.py",
            "import warnings\ndef call(): warnings.warn('call is old', DeprecationWarning)\n",
        ),
        (
            "test_a.py",
            "import helper, pytest\n@pytest.mark.parametrize('n', range(15))\ndef test_a(n): helper.call()\n",
        ),
        ("test_b.py", "import helper\ndef test_b(): helper.call()\n"),
    ]);
    for slots in ["1", "2"] {
        let ended = suite.pytest(&["-j", slots], &[]);
        ended
            .exits(0)
            .says(&["helper.py:2: DeprecationWarning: call is old"]);
        assert_eq!(
            ended.stderr.matches("call is old").count(),
            2,
            "{}",
            ended.stderr
        ); // and the source line
        let report = suite.report();
        let warnings = report.0["framework"]["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0]["count"], 16);
    }
    for quiet in [&["--disable-warnings"][..], &["-p", "no:warnings"]] {
        let ended = suite.pytest(&["-j", "1"], quiet);
        assert!(
            !ended.exits(0).stderr.contains("is old\n"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn without_capture_the_report_has_what_tests_print_and_streams_are_as_ever() {
    const SEEN: &str = "import os, sys
def test_it():
    print('from the test')
    sys.stdout.buffer.write(b'bytes\\n')
    sys.stderr.write('beside\\n')
    with open(os.environ['SEEN'], 'w') as file:
        for s in (sys.stdout, sys.stderr):
            print(type(s), s.name, s.mode, s.encoding, s.errors, s.isatty(), s.fileno(), s.line_buffering, s.writable(), file=file)
def test_quiet(): pass
";
    let suite = Suite::with(&[("test_it.py", SEEN)]);
    let words = support::pytest(&["-s"]);
    let mut run = suite.run_command(&["-j", "1"], &words);
    run.env("SEEN", "seen");
    suite.start(run).end().exits(0);
    let report = suite.report();
    let output = &report.test("test_it.py::test_it")["output"];
    let told: Vec<(String, String)> = output
        .as_array()
        .unwrap()
        .iter()
        .map(|part| (text(&part["name"]), text(&part["text"])))
        .collect();
    let due = [("stdout", "from the test\nbytes\n"), ("stderr", "beside\n")];
    assert_eq!(
        told,
        due.map(|(name, text)| (name.to_owned(), text.to_owned()))
    );
    assert_eq!(
        report.test("test_it.py::test_quiet")["output"]
            .as_array()
            .map_or(0, Vec::len),
        0
    );

    let mut plain = suite.command(words[0]);
    plain.args(&words[1..]).env("SEEN", "plain");
    suite.start(plain).end().exits(0);
    assert_eq!(suite.read("seen"), suite.read("plain"));
}

#[test]
fn a_limit_is_kept_to_the_test_and_what_was_held_is_let_go_within_it() {
    let body = "import pytest
@pytest.fixture(scope='module')
def held():
    yield
    raise OSError('cannot let go')
def test_1(held): pass
def test_2(held): assert 0
def test_3(held): open('third', 'w')
";
    let suite = Suite::with(&[("test_a.py", body), ("test_b.py", body)]);
    for (options, arguments) in [
        (&["-j", "1"][..], &["-x"][..]),
        (&["-j", "1", "--max-fail", "1"], &["--maxfail", "9"]),
    ] {
        suite.pytest(options, arguments).exits(1);
        let tests = suite.report();
        assert_eq!(suite.files("third"), 0);
        assert_eq!(tests.test("test_a.py::test_1")["outcome"], "passed");
        let failed = tests.test("test_a.py::test_2");
        assert_eq!(failed["outcome"], "failed");
        assert!(
            text(&failed["detail"]).contains("cannot let go"),
            "{failed:#}"
        );
        assert_eq!(tests.total("not_run"), 2, "{:#}", tests.0["totals"]);
        let started = suite.events();
        let finished = named(&started, "test_finished").count();
        assert_eq!(finished, 2);
    }
}

#[test]
fn a_plugin_that_stops_the_session_stops_the_run() {
    let many: String = (0..40)
        .map(|number| format!("def test_{number}(): time.sleep(0.03)\n"))
        .collect();
    let body = format!("import time\n{many}");
    let suite = Suite::with(&[("test_a.py", &body), ("test_b.py", &body)]);
    // Where nothing is left to stop, it still is no good end.
    for (word, at, files, plainly) in [
        ("shouldstop", "test_5", &[][..], 2),
        ("shouldfail", "test_5", &[], 1),
        ("shouldstop", "test_39", &["test_a.py"], 2),
    ] {
        suite.write(
            "conftest.py",
            &format!(
                "def pytest_runtest_teardown(item):
    if item.nodeid == 'test_a.py::{at}':
        item.session.{word} = 'out of time'
"
            ),
        );
        let mut plain = suite.command(python());
        plain.args(["-m", "pytest"]).args(files);
        suite.start(plain).end().exits(plainly);
        for slots in ["1", "2"] {
            let said = format!("pytest was told to stop after test_a.py::{at}: out of time");
            suite.pytest(&["-j", slots], files).exits(1).says(&[&said]);
            let report = suite.report();
            assert_eq!(report.0["run"]["verdict"], "red");
            assert_eq!(report.total("failed") + report.total("errors"), 0);
            assert_eq!(
                report.test(&format!("test_a.py::{at}"))["outcome"],
                "passed"
            );
            if files.is_empty() {
                report.blames("test_a.py::test_39", "not_run", &[&said]);
            } else if slots == "1" {
                assert_eq!(report.total("passed"), 40);
            } else {
                // The other slot may still have one at work, or about to start.
                let not_run = report.total("not_run");
                assert_eq!(report.total("passed") + not_run, 40);
                assert!(not_run <= 3, "{not_run}");
            }
        }
    }
}

#[test]
fn a_plugin_that_stops_the_collection_stops_the_run() {
    let suite = suite(
        "def pytest_collectreport(report):
    if report.nodeid == 'test_a.py':
        import conftest
        conftest.session.shouldstop = 'enough of this'
def pytest_sessionstart(session):
    import conftest
    conftest.session = session
",
    );
    for number in 0..6 {
        suite.write(
            &format!("test_more_{number}.py"),
            "import time\ndef test_it(): time.sleep(0.2)\n",
        );
    }
    suite.write("test_a.py", "raise ValueError('not today')\n");
    let mut plain = suite.command(python());
    plain.args(["-m", "pytest"]);
    suite.start(plain).end().exits(2);
    let ended = suite.pytest(&["-j", "1"], &[]);
    let said = "pytest was told to stop after test_a.py: enough of this";
    ended.exits(1).says(&[said]);
    let report = suite.report();
    report.blames("test_a.py", "error", &["not today"]);
    assert_eq!(report.total("errors"), 1);
    report.blames("test_more_5.py", "not_run", &[said]);
    suite.nothing_stays();
}
