"""A pytest plugin that writes down every report: node id, phase and outcome. Loaded by plain pytest and by slots alike."""

import json
import os

_file = None


def pytest_runtest_logreport(report):
    global _file
    if hasattr(report, "node"):
        return  # told again where a process hears what others reported
    if _file is None:
        _file = open(os.path.join(os.environ["RECORDER_DIRECTORY"], "%d.jsonl" % os.getpid()), "a", encoding="utf-8")
    outcome = report.outcome + ("/xfail" if hasattr(report, "wasxfail") else "")
    _file.write(json.dumps([report.nodeid, report.when, outcome]) + "\n")
    _file.flush()
