//! Plugins that add fixtures, marks and hooks to single tests, or another look to the terminal: it is enough that all reports are
//! those of plain pytest, at one slot and at two.

use crate::trial::trial;

#[test]
fn fixtures_and_helpers() {
    let plugins = [
        "pytest_mock",
        "freezer",
        "socket",
        "pytest-subprocess",
        "pytest_httpserver",
        "requests_mock",
        "pytest_httpx",
        "check",
        "env",
        "pytest_lazyfixture",
        "pytest-datadir",
        "pytest-factoryboy",
        "unordered",
        "clarity",
        "console-scripts",
        "loguru",
    ];
    let [plain, one, _] = trial("fixtures", &plugins).alike();
    // Each file has a test that passes and, but for a few, one that does not; so the plugins were at work.
    assert!(plain.count("failed") >= 10 && plain.count("passed") >= 60);
    let report = one.report();
    report.blames(
        "test_httpx.py::test_not_asked",
        "error",
        &["following responses are mocked but not requested"],
    );
    report.blames(
        "test_check.py::test_two_failures",
        "failed",
        &["check 1 == 2: first"],
    );
}

#[test]
fn asyncio_in_both_modes_with_all_scopes_of_loops() {
    let asyncio = trial("asyncio", &["asyncio"]);
    let [_, _, strict] = asyncio.with(&["-o", "asyncio_mode=strict"]).alike();
    let [_, auto] = asyncio.with(&["-o", "asyncio_mode=auto"]).alike_at_two();
    for seen in [strict, auto] {
        let test = "test_strict.py::test_error_behind";
        seen.report().blames(test, "error", &["no tear-down"]);
    }
}

#[test]
fn anyio_trio_and_flask() {
    trial("async_frameworks", &["anyio", "trio", "flask"]).alike();
}

#[test]
fn aiohttp() {
    trial("aiohttp", &["asyncio", "aiohttp"]).alike();
}

#[test]
fn bdd() {
    let bdd = trial("bdd", &["pytest-bdd"]);
    let [_, one, _] = bdd.alike();
    let test = "test_basket.py::test_a_wrong_count";
    one.report().blames(test, "failed", &["assert 1 == 2"]);
    // Tags are marks.
    bdd.with(&["-m", "slow"]).alike_at_two();
}

#[test]
fn marks_that_order_and_depend_within_a_file() {
    trial("order", &["pytest_order"]).alike();
    trial("dependency", &["dependency"]).alike();
}

#[test]
fn each_test_several_times() {
    trial("zoo", &["repeat"]).with(&["--count", "3"]).alike();
    let threads = trial("zoo", &["run-parallel"]).with(&["--parallel-threads", "2"]);
    threads.alike_at_two();
}

#[test]
fn each_test_in_a_child() {
    let forked = trial("zoo", &["pytest_forked"]);
    forked.with(&["--forked"]).alike_at_two();
}

/// A plugin that would make a red run green is not heard.
#[test]
fn an_exit_code_is_evenkeels() {
    let suppressed =
        trial("zoo", &["custom_exit_code"]).with(&["--suppress-tests-failed-exit-code"]);
    suppressed.slots(1).ended.exits(1);
}

/// They draw on a terminal that a slot does not have; the tests must not notice.
#[test]
fn another_look() {
    let plugins = [
        "sugar",
        "instafail",
        "pretty",
        "rich",
        "icdiff",
        "clarity",
        "metadata",
    ];
    trial("zoo", &plugins)
        .with(&["--instafail", "--rich", "--metadata", "key", "value"])
        .alike();
}

#[test]
fn subtests_of_the_plugin() {
    trial("subtests", &["subtests"]).on_pytest_8().alike();
}

/// Loaded all at once, as they are where they are installed in one environment.
#[test]
fn all_at_once() {
    let plugins = [
        "xdist",
        "asyncio",
        "pytest_mock",
        "pytest_cov",
        "timeout",
        "rerunfailures",
        "hypothesispytest",
        "benchmark",
        "syrupy",
        "pytest-bdd",
        "env",
        "sugar",
        "html",
        "metadata",
        "pytest_jsonreport",
        "pytest_order",
        "pytest-split",
        "socket",
        "instafail",
        "clarity",
        "dependency",
        "repeat",
        "picked",
        "anyio",
        "random_order",
    ];
    trial("zoo", &plugins).alike_at_two();
}
