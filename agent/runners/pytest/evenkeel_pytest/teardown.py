"""Tear-down across units: what lives on from one unit to the next, and to whom an error in it belongs.

Within a unit tear-down is pytest's own. PYTEST_DONT_REWRITE
"""

import contextlib
import faulthandler
import signal
import types

import pytest
from _pytest import runner as pytest_runner

from .text import one_line, trace
from .wire import now


class Ahead(pytest.Item):
    """Stands in for the item behind the last of a unit, which nobody knows yet.

    pytest asks the next item for its chain of parents at the moment of tear-down, to keep what both share. By then the agent
    has mostly told what comes next; if not, this is where the slot waits for it. So fixtures of a package or the session live
    across units, and those that must go do so as part of the test that used them last, as in plain pytest. To plugins that
    look at the next item otherwise, this one belongs to the session and to nothing below it.
    """

    cls = function = instance = obj = None
    module = types.ModuleType("evenkeel_next_unit", "Stands in for the next unit's module, which is none that was there before.")
    fixturenames = ()

    def listchain(self):
        return self.teardown.chain_ahead()

    def iter_markers_with_node(self, name=None):  # pytest 7 goes by the chain
        return iter(())

    def reportinfo(self):
        return self.path, None, self.name

    def runtest(self):
        raise NotImplementedError("a stand-in for a test is never run")


class Teardown:
    def __init__(self, session, talk, find, ends, walked):
        self.walked = walked  # whether all units have been found
        self.session = session
        self.talk = talk
        self.find = find  # gives the unit of a lease
        self.ends = ends  # whether the running item's failure ends the run
        self.orphans = []  # errors behind the end of the test that they belong to: (message, text)
        self.running = None  # the item at work
        self.waited = 0  # microseconds of the running item's tear-down that were the agent's
        self.ahead = Ahead.from_parent(session, name="[the next unit's first test]")
        self.ahead.teardown = self

    def chain_ahead(self):
        """The nodes that the next item will want to find set up; waits where that depends on the agent's next word."""
        talk = self.talk
        if not talk.wire.ours():
            return list(self.session._setupstate.stack)[:-1]  # a forked child ends with its test; what it shares is not its own
        talk.receive(wait=False)
        while not talk.queue:
            if talk.idle or talk.stopping or talk.full or self.ends():
                return []
            asked = now()
            talk.tell_waiting(talk.lease)
            with self.time_out():
                talk.receive(wait=True)
            if talk.listing and self.walked():
                talk.list_units(more=False)
            self.waited += max(1, now() - asked)
        lease = talk.queue[0]
        unit = self.find(lease)
        for case in unit.cases or ():
            if case.item is not None and lease.admits(case):
                return case.item.listchain()
        return unit.nodes[0].listchain() if unit.nodes else [self.session]

    @contextlib.contextmanager
    def time_out(self):
        """Inside, the test's own clocks stand still: what is waited for is not its doing. Those that cannot be wound up again
        have done their work, since the test's code is done."""
        item = self.running
        if item is not None:
            cancel = getattr(item, "cancel_timeout", None)  # pytest-timeout's, by thread; by signal it is the timer below
            if cancel is not None and signal.getitimer(signal.ITIMER_REAL)[0] == 0:
                cancel()
            with contextlib.suppress(ValueError):  # without pytest's plugin there is no such setting
                if float(item.config.getini("faulthandler_timeout") or 0) > 0:
                    faulthandler.cancel_dump_traceback_later()
        left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            yield
        finally:
            if left:
                signal.setitimer(signal.ITIMER_REAL, left, interval)

    def make_room_for(self, item):
        """Tears down what was kept for a unit that then did not come. Errors go to this item: the one that they belong to has
        ended, and they must not be lost."""
        stack = list(self.session._setupstate.stack)
        if stack != item.listchain()[: len(stack)]:
            self.tear_down(item)

    def let_go(self):
        """Tears down everything: nothing comes behind."""
        if self.session._setupstate.stack:
            self.tear_down(None)

    def tear_down(self, nextitem):
        try:
            self.session._setupstate.teardown_exact(nextitem)
        except pytest.exit.Exception:
            raise
        except (Exception, pytest.skip.Exception, pytest.fail.Exception, SystemExit) as error:
            self.orphans.append((one_line(f"{type(error).__name__}: {error}"), trace(error)))

    def tear_down_further(self, item):
        """The tests behind this one were given back while it ran: what its tear-down kept for them goes after all, and is part
        of this test still."""
        capture = item.config.pluginmanager.get_plugin("capturemanager")
        with capture.item_capture("teardown", item) if capture else contextlib.nullcontext():
            call = pytest_runner.CallInfo.from_call(
                lambda: self.session._setupstate.teardown_exact(self.ahead),
                when="teardown",
                reraise=(pytest.exit.Exception, KeyboardInterrupt),
            )
        if call.excinfo is not None:
            report = item.ihook.pytest_runtest_makereport(item=item, call=call)
            item.ihook.pytest_runtest_logreport(report=report)

    def charge_orphans(self, verdict):
        orphans, self.orphans = self.orphans, []
        for message, text in orphans:
            verdict.charge("tear-down of an earlier test", message, text)
        return verdict
