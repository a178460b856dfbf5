import os


def test_place(request, worker_id, testrun_uid):
    environ = os.environ.get
    print(environ("PYTEST_XDIST_WORKER"), environ("PYTEST_XDIST_WORKER_COUNT"), worker_id, hasattr(request.config, "workerinput"))
    assert testrun_uid == environ("EXPECTED_TESTRUNUID", testrun_uid)
    if hasattr(request.config, "workerinput"):
        assert request.config.workerinput["workerid"] == worker_id
        assert request.config.workerinput["workercount"] == 2
        assert request.config.workerinput["testrunuid"] == testrun_uid
