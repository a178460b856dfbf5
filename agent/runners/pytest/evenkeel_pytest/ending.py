"""The ways out of the process, and the last word on each.

Whatever ends pytest passes here: the end of the session, an error before it, os._exit behind the last test. What is then said on
the run is closing.py's. PYTEST_DONT_REWRITE
"""

import contextlib
import os
import sys

import pytest
from _pytest.config import ConftestImportFailure

from .closing import CARRY_LIMIT
from .conversation import BROKEN
from .reports import conftest_error
from .text import trace


class Ending:
    def __init__(self, talk, closing, warned, carry):
        """`carry(session)`: what is left for the process that concludes the run."""
        self.talk = talk
        self.closing = closing
        self.warned = warned
        self.carry = carry
        self.terminal = None  # from the session's start on
        self.summarises = True  # else the process that concludes the run has all that a summary is made of
        self.needless = False  # one of several slots, which has run nothing
        self.looping = False
        self.done = False
        self.broken = None  # why this process must not end well
        self.refused = False

    def ends_well(self):
        return self.done and not self.broken

    def give_up(self, text):
        """The process must not end as if all were well."""
        self.broken = text
        self.talk.say("error", text)

    def refuse(self, reason, message, hint=None):
        self.refused = True
        self.talk.refuse(reason, message, hint)

    def pytest_keyboard_interrupt(self, excinfo):
        self.stopped(f"pytest was stopped: {excinfo.exconly()}")

    def pytest_internalerror(self, excrepr, excinfo):
        self.stopped(f"pytest itself failed: {excinfo.exconly()}\n{excrepr}")

    def stopped(self, text):
        if self.looping and not self.broken:
            self.give_up(text)
        self.broken = self.broken or text

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session, exitstatus):
        if self.ends_well():
            self.expect_exit(int(exitstatus))
        outcome = yield
        if not self.ends_well():
            if session.exitstatus in (0, 1, 5):
                session.exitstatus = BROKEN
            return
        try:
            outcome.get_result()
            if self.summarises:
                self.terminal.summarise(exitstatus)
        except (Exception, SystemExit) as error:
            self.object(error, "pytest_sessionfinish")
            outcome.force_result([])
        self.closing.judge(session, self.terminal, int(exitstatus))
        self.leave_carry(session)
        # Outcomes are the agent's to judge; the status says only whether this process did its work.
        session.exitstatus = 0

    def expect_exit(self, status):
        """Who fears threads that hang leaves by os._exit at the end of the session. That is no crash."""
        plain = os._exit

        def leave(code):
            if not self.talk.gone and self.talk.wire.ours():
                if code not in (0, status):
                    self.closing.fail(f"exit status {code} at the end of the session")
                self.farewell()
            plain(code)

        os._exit = leave

    def leave_carry(self, session):
        carry = self.carry(session)
        if carry is not None and len(carry) > CARRY_LIMIT:
            self.talk.say("warning", f"what plugins left for the end of the run is lost: {len(carry)} bytes are too many")
            carry = None
        self.closing.carry = carry

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_unconfigure(self):
        outcome = yield
        if self.ends_well() and outcome.excinfo is not None:
            self.object(outcome.excinfo[1], "pytest_unconfigure")
            outcome.force_result([])

    def object(self, error, where):
        """An error behind the last test."""
        if not isinstance(error, SystemExit) or error.code:
            self.closing.fail_by(error, where)

    def leave(self, kind, error, where):
        """Behind all other cleanups of pytest's configuration, with the error of one of them."""
        if self.ends_well() and error is not None:
            self.object(error, "the end of the session")
        self.farewell()

    def farewell(self):
        """The last that is sent. pytest calls it at the end of its configuration, on every way out, with the exception that
        ends it still at hand; the interpreter's exit does, if even that was left out."""
        wire = self.talk.wire
        if self.talk.gone or not wire.ours():
            return
        self.talk.gone = True
        error = sys.exc_info()[1]
        if self.ends_well():
            if error is not None:
                self.object(error, "the end of the session")
            self.warned.tell(wire)
            if self.needless:
                self.closing.failed.clear()  # what hooks find wrong where nothing has run is not wrong with the run
            wire.push(self.closing.bye(self.terminal))
        elif not self.looping and not self.refused:
            if isinstance(error, pytest.UsageError):
                self.refuse("usage", "\n".join(map(str, error.args)))
            elif isinstance(error, ConftestImportFailure):
                self.refuse("usage", conftest_error(error))
            else:
                said = self.broken or (trace(error) if error else "pytest ended before it was ready; its output says why")
                self.refuse("broken", said)
        with contextlib.suppress(OSError):
            wire.flush()
