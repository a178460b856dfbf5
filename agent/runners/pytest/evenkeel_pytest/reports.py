"""What pytest's reports and errors say, in the words of the protocol.

Reads one report at a time. What several of them come to is verdict.py's. PYTEST_DONT_REWRITE
"""

import contextlib
import io

import pytest
from _pytest._io import TerminalWriter
from _pytest.config import filter_traceback

from .text import clean, one_line


def long_text(report):
    """As pytest prints it. `longreprtext` is the same without the first line's indentation."""
    file = io.StringIO()
    writer = TerminalWriter(file)
    writer.hasmarkup = False
    report.toterminal(writer)
    return file.getvalue().strip("\n").rstrip()


def heading(report, several):
    """Which part of a test its text is about: a phase, where it is one of several that failed, or a subtest."""
    if is_subtest(report):
        return clean(report.head_line or "a subtest")
    return report.when if several else ""


def headline(report):
    """What a failed report says, in one line: the exception's, where pytest knows it, else the likeliest line of its text."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return one_line(str(crash.message))
    text = report.longreprtext.strip()
    if isinstance(report.longrepr, str):
        return one_line(text)
    lines = text.split("\n")
    raised = [line[1:] for line in lines if line.startswith("E ")]
    return one_line(raised[0] if raised else lines[-1])


def is_subtest(report):
    kind = type(report)
    return kind is not pytest.TestReport and "subtest" in kind.__name__.lower()  # one of pytest 9, or of pytest-subtests


def skip_reason(report):
    """Why a report is skipped, in one line."""
    reason = getattr(report, "wasxfail", None)
    if reason is not None:
        reason = reason[len("reason: ") :] if reason.startswith("reason: ") else reason
        return one_line(f"xfail: {reason}" if reason else "xfail")
    longrepr = report.longrepr
    reason = longrepr[2] if isinstance(longrepr, tuple) and len(longrepr) == 3 else report.longreprtext
    return one_line(reason[len("Skipped: ") :] if reason.startswith("Skipped: ") else reason)


def outputs(sections):
    """pytest's "Captured stdout setup" as the protocol's outputs; other plugins' sections keep their names."""
    result = []
    for title, text in sections:
        if not text:
            continue
        words = title.split()
        if len(words) in (2, 3) and words[0] == "Captured":  # of a collector there is no phase
            output = {"name": words[1], "text": text}
            if words[2:] not in ([], ["call"]):
                output["phase"] = words[2]
        else:
            output = {"name": clean(title), "text": text}
        result.append(output)
    return result


def properties(report):
    """What was noted of the test by `record_property`. Anything can stand there; what is no pair of texts is left out."""
    result = []
    for entry in getattr(report, "user_properties", ()):
        with contextlib.suppress(Exception):
            name, value = entry
            result.append((str(name), str(value)))
    return result


def conftest_error(error):
    """What pytest prints when a conftest.py cannot be loaded: without the frames of the import machinery."""
    cause = getattr(error, "cause", None) or error.excinfo[1]  # pytest 8, pytest 7
    info = pytest.ExceptionInfo.from_exc_info((type(cause), cause, cause.__traceback__))
    info.traceback = info.traceback.filter(lambda entry: filter_traceback(entry) and "importlib" not in str(entry.path))
    text = info.getrepr(style="short", chain=False) if info.traceback else info.exconly()
    return f"ImportError while loading conftest '{error.path}'.\n{text}"
