"""A pytest plugin that writes down what a test run comes to, as other plugins are told of it, and what the tests themselves
log. Loaded by plain pytest and by slots alike; the records of each process are a file of JSON lines, in their order."""

import io
import json
import os
import re
import sys

import pytest
from _pytest._io import TerminalWriter

_files = {}
_left = ""  # PYTEST_CURRENT_TEST as the last test left it: pytest does not clear it where a tear-down fails
_encode, _getpid = json.JSONEncoder(ensure_ascii=False).encode, os.getpid  # before some test replaces them
_surrogates = re.compile("[\ud800-\udfff]")  # halves of a character, which become U+FFFD in every report of Evenkeel


def record(kind, **fields):
    pid = _getpid()
    if pid not in _files:
        _files[pid] = open(os.path.join(os.environ["CATALOGUE_RECORDS"], "%d.jsonl" % pid), "a", encoding="utf-8")
    _files[pid].write(_surrogates.sub("\ufffd", _encode(dict(fields, kind=kind))) + "\n")
    _files[pid].flush()


def printed(report):
    """The report as pytest prints it."""
    file = io.StringIO()
    writer = TerminalWriter(file)
    writer.hasmarkup = False
    report.toterminal(writer)
    return file.getvalue()


def log(text):
    """For tests and fixtures: a line that plain pytest and Evenkeel must write equally often, on one slot in the same order. What
    begins with a scope (`session`, `package`, `module`, `class`) happens once a process, or not at all where it has no test for it."""
    current = os.environ.get("PYTEST_CURRENT_TEST", "")
    file = "" if current == _left else current.split("::")[0]
    record("log", file=file, source=sys._getframe(1).f_code.co_filename, text=text)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logfinish():
    global _left
    _left = os.environ.get("PYTEST_CURRENT_TEST", "")


def pytest_runtest_logreport(report):
    record(
        "report",
        nodeid=report.nodeid,
        when=report.when,
        outcome=report.outcome,
        type=type(report).__name__,
        wasxfail=getattr(report, "wasxfail", None),
        text=printed(report),
        sections=[list(section) for section in report.sections],
        properties=[list(map(repr, pair)) for pair in report.user_properties],
        location=list(report.location),
    )


def pytest_collectreport(report):
    if report.outcome != "passed":
        sections = [list(section) for section in report.sections]
        record("collect", nodeid=report.nodeid, outcome=report.outcome, text=printed(report), sections=sections)


def pytest_warning_recorded(warning_message, when, nodeid, location):
    record(
        "warning",
        category=warning_message.category.__name__,
        text=str(warning_message.message),
        file=os.path.basename(warning_message.filename),
        line=warning_message.lineno,
        when=when,
        nodeid=nodeid,
    )


def pytest_deselected(items):
    for item in items:
        record("deselected", nodeid=item.nodeid)
