//! Several slots look to plugins like workers of pytest-xdist, one slot like pytest alone.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::Suite;

/// Each test leaves what it saw, so that two slots take one file each.
const WORKER: &str = "import os, time
def test_it(request, worker_id, testrun_uid):
    time.sleep(0.3)
    given = request.config.workerinput
    assert worker_id == given['workerid'] == os.environ['PYTEST_XDIST_WORKER']
    assert given['workercount'] == 2 == int(os.environ['PYTEST_XDIST_WORKER_COUNT'])
    assert testrun_uid == given['testrunuid'] == os.environ['PYTEST_XDIST_TESTRUNUID'] == os.environ['EVENKEEL_RUN_ID']
    assert isinstance(given['mainargv'], list) and 'cov_master_host' not in given
    open('seen-' + worker_id, 'w')
";

#[test]
fn with_two_slots_each_is_a_worker_and_with_one_nothing_is_faked() {
    let suite = Suite::with(&[("test_a.py", WORKER), ("test_b.py", WORKER)]);
    suite.pytest(&["-j", "2"], &["-p", "no:xdist"]).exits(0);
    assert_eq!((suite.files("seen-gw0"), suite.files("seen-gw1")), (1, 1));

    let suite = Suite::with(&[(
        "test_a.py",
        "import os, pytest
def test_it(request):
    assert not hasattr(request.config, 'workerinput')
    assert not [name for name in os.environ if 'XDIST' in name]
    with pytest.raises(pytest.FixtureLookupError): request.getfixturevalue('worker_id')
",
    )]);
    suite.pytest(&["-j", "1"], &["-p", "no:xdist"]).exits(0);
}

/// What xdist's users write: workers leave something, the controller sums it up and judges it.
const CONTROLLER: &str = "import os, pytest
seen = []
def pytest_sessionfinish(session):
    config = session.config
    if hasattr(config, 'workerinput'):
        config.workeroutput.update(names=config.names, raw=bytes([0, 255]))
    else:
        open('controller', 'a').write('finish ')
def pytest_configure(config): config.names = []
@pytest.fixture(autouse=True)
def note(request): request.config.names.append(request.node.name)
@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    assert node.workeroutput['raw'] == bytes([0, 255]) and error is None
    assert 'PYTEST_XDIST_WORKER' not in os.environ
    seen.append((node.gateway.id, node.workeroutput['names']))
@pytest.hookimpl(hookwrapper=True)
def pytest_runtestloop(session):
    yield
    if seen:
        names = sorted(sum((names for _, names in seen), []))
        terminal = session.config.pluginmanager.get_plugin('terminalreporter')
        terminal.write(f'\\nERROR: {len(seen)} workers ran {names}, {session.testsfailed} failed\\n')
        session.testsfailed += 1
";

#[test]
fn what_workers_leave_reaches_one_controller_which_may_fail_the_run() {
    let suite = Suite::with(&[
        ("conftest.py", CONTROLLER),
        ("test_a.py", "import time\ndef test_a(): time.sleep(0.3)\n"),
        ("test_b.py", "import time\ndef test_b(): time.sleep(0.3)\n"),
    ]);
    let ended = suite.pytest(&["-j", "2"], &[]);
    ended
        .exits(1)
        .says(&["2 workers ran ['test_a', 'test_b'], 0 failed"]);
    assert_eq!(suite.read("controller"), "finish ");
    assert_eq!(suite.report().total("passed"), 2);

    // One slot is pytest alone: there are no workers.
    suite.write("controller", "");
    suite.pytest(&["-j", "1"], &[]).exits(0);
    assert_eq!(suite.read("controller"), "finish ");
    suite.nothing_stays();
}
