"""pytest's own terminal report, silenced, since a slot's output belongs to the tests; and what others write at the end.

Verdicts, failures, warnings and durations are the agent's to show. What other plugins print when all tests are done (a report on
coverage, statistics, files that were written) is kept and sent as it is. PYTEST_DONT_REWRITE
"""

import contextlib
import io
import re

import pytest

from . import tee
from .foreign import others

# pytest's own statuses at which it has a summary written: passed, failed, interrupted, usage error, no tests.
SUMMARISED = (0, 1, 2, 4, 5)
# What keeps the reporter as other plugins expect to find it.
HEARD = ("pytest_report_teststatus", "pytest_sessionstart", "pytest_report_header")
# Whoever has one of these may ask the reporter what there was.
LOOK_BACK = ("pytest_terminal_summary", "pytest_sessionfinish", "pytest_unconfigure")
_separator = re.compile(r"=+ (.+?) =+")
_verdict = re.compile(r"(?:ERROR|FAIL):? +(.+)")


class Aside(io.TextIOBase):
    """Where pytest's own talk goes: nowhere, but for what is said while a test runs. That is part of the slot's output: a plugin
    that ends its process then has said why."""

    encoding = "utf-8"

    def __init__(self, below):
        self.below = below
        self.heard = False

    def write(self, text):
        if self.heard:
            self.below.write(text)
        return len(text)

    def flush(self):
        if self.heard:
            self.below.flush()


class Text(io.StringIO):
    encoding = "utf-8"


class Terminal:
    def __init__(self, config):
        self.config = config
        self.reporter = config.pluginmanager.get_plugin("terminalreporter")
        self.writer = getattr(self.reporter, "_tw", None)
        self.aside = Aside(None)
        self.summarised = False  # whether somebody wants to look at all reports at the end
        self.printed = []  # the standard streams, from the end of the tests on
        self.text = Text()

    def silence(self):
        """Keeps the reporter for those who ask for it, but neither hears it nor pays for it."""
        pluginmanager = self.config.pluginmanager
        if self.writer is not None:
            self.aside = self.writer._file = Aside(self.writer._file)
            self.writer.hasmarkup = False
        for reporter in (self.reporter, pluginmanager.get_plugin("terminalprogress")):
            if reporter is None:
                continue
            for hook in pluginmanager.get_hookcallers(reporter) or ():
                if hook.name not in HEARD:
                    with contextlib.suppress(AttributeError, ValueError):
                        hook._remove_plugin(reporter)
        for plugin in pluginmanager.get_plugins():
            self.met(plugin)

    def met(self, plugin):
        """A plugin has come that may look at the reports at the end."""
        if self.reporter is None or self.summarised:
            return
        for name in LOOK_BACK:
            function = getattr(plugin, name, None)
            own = ("_pytest.", f"{__package__}.")
            if function is not None and not str(getattr(function, "__module__", "")).startswith(own):
                self.summarised = True

    def heard(self, report):
        """Files a report under its category, as the reporter would: summaries count them."""
        if type(report) is pytest.TestReport and report.outcome == "passed" and not hasattr(report, "wasxfail"):
            category = "passed" if report.when == "call" else ""
        else:
            category = self.config.hook.pytest_report_teststatus(report=report, config=self.config)[0]
        self.reporter.stats.setdefault(category, []).append(report)

    def listen(self):
        """From here on, what is written is kept: all tests are done."""
        if self.writer is not None:
            self.writer._file = self.text
            self.reporter._numcollected = self.reporter._session.testscollected
        with contextlib.suppress(AttributeError, ValueError):  # not a stream of the usual kind
            self.printed = tee.both()

    def summarise(self, exitstatus):
        """Calls the hook, as the reporter does behind all others at the end of the session."""
        if not others(self.config.hook.pytest_terminal_summary) or exitstatus not in SUMMARISED:
            return
        own = type(self.reporter).pytest_terminal_summary.__code__
        if self.reporter.no_summary and "no_summary" not in own.co_names:  # until pytest 9 it silenced everybody
            return
        self.take_printed()
        self.config.hook.pytest_terminal_summary(
            terminalreporter=self.reporter, exitstatus=exitstatus, config=self.config
        )

    def take_printed(self):
        for stream in self.printed:
            self.text.write(stream.take())

    def sections(self):
        """What was written, as (title, text)."""
        self.take_printed()
        found = [("pytest", [])]
        for line in self.text.getvalue().split("\n"):
            separator = _separator.fullmatch(line)
            if separator and len(line) > 40:
                found.append((separator.group(1), []))
            else:
                found[-1][1].append(line.rstrip())
        return [(title, "\n".join(lines).strip("\n")) for title, lines in found if any(lines)]

    def judgement(self):
        """The line in which a plugin says that the run fails, if one does."""
        lines = self.text.getvalue().split("\n")
        return next((said.group(1) for said in map(_verdict.match, lines) if said), None)
