"""The slot: pytest's hooks, in the order in which a process lives through them, and the loop over leases.

Its life: set-up and walk (`pytest_cmdline_main` to `pytest_collection`), the loop (`pytest_runtestloop`), the end
(`pytest_sessionfinish`, `farewell`). It decides when; how is in the modules beside this one. PYTEST_DONT_REWRITE
"""

import contextlib
import os
import sys

import pytest
from _pytest.config import ConftestImportFailure

from . import options, terminal, worker
from .conversation import BROKEN, Conversation
from .loading import Loader
from .reports import conftest_error
from .teardown import Teardown
from .text import dumps, one_line, trace
from .units import Case
from .verdict import Reports, Verdict
from .walk import Walk
from .wire import now

PROTOCOL = 1


class Slot:
    def __init__(self, wire, config):
        self.wire = wire
        self.config = config
        self.session = None
        self.number = int(os.environ.get("EVENKEEL_SLOT", "0"))
        self.slots = int(os.environ.get("EVENKEEL_SLOTS", "1"))
        self.notes = []
        self.run_wide = {}
        self.walk = Walk()
        self.loader = Loader()
        self.talk = Conversation(wire, self.walk.units, lambda: self.session._setupstate.teardown_exact(None))
        self.teardown = None  # made with the loop, when there is a session to tear down
        self.reports = Reports()  # of the item that runs
        self.looping = False
        self.done = False
        self.broken = None  # why this process must not end well
        self.refused = False

    # Set-up.

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config):
        """As early as all options are known, and before any other plugin acts on them."""
        self.config = config
        wrong = options.refused(config)
        if wrong:
            message, hint = f"{wrong[0]} does not work under Evenkeel", wrong[1]
            self.refuse("unsupported", message, hint)
            raise pytest.UsageError(f"{message}; {hint}")
        self.run_wide, self.notes = options.take_over(config)
        if self.slots > 1:
            worker.become(config, self.number, self.slots)
        yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session):
        self.session = session
        terminal.silence(session.config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session):
        """Called by pytest for the walk, and by the loader for each unit."""
        if self.talk.lease is not None:
            self.loader.collect(session)
            return True
        self.walk.begin(session)
        return None

    def pytest_collectreport(self, report):
        self.loader.heard(report)

    # The loop.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        self.walk.end(self.config, self.loader.take_trouble())
        talk = self.talk
        self.teardown = Teardown(session, talk)
        self.say_hello()
        self.looping = True
        while True:
            if talk.queue:
                self.work(talk.queue.popleft())
            elif talk.idle or talk.stopping:
                self.teardown.let_go()
                if talk.stopping:
                    break
                talk.receive(wait=True)
            else:
                talk.receive(wait=True)
        for message, text in self.teardown.orphans:
            self.give_up(f"an error at the end, after the last test had ended: {message}\n{text}")
        self.done = True
        return True

    def say_hello(self):
        """Only now: a path that does not exist or a filter that cannot be parsed has shown by the end of the walk at the latest."""
        implementation = "Python" if sys.implementation.name == "cpython" else sys.implementation.name
        hello = {
            "event": "hello",
            "protocol": PROTOCOL,
            "runner": "pytest",
            "framework": f"pytest {pytest.__version__}",
            "language": f"{implementation} {'.'.join(map(str, sys.version_info[:3]))}",
            "pid": os.getpid(),
            "at": now(),
            "can": ["list", "revoke", "grant"],
            "notes": self.notes,
            "run_wide": self.run_wide,
        }
        self.talk.send(dumps(hello) + "\n")

    # A lease.

    def work(self, lease):
        talk = self.talk
        talk.lease = lease
        number = lease.number
        talk.send(f'{{"event":"begin","lease":{number},"at":{now()}}}\n')  # out before the unit's own code runs
        unit = lease.unit
        if unit.cases is None:
            self.loader.load(self.session, unit)
        lease.cases = [case for case in unit.cases if lease.admits(case)]
        if not lease.cases and lease.only and unit.cases and unit.cases[0].item is None and len(unit.cases) == 1:
            lease.cases = unit.cases  # nothing of what was asked for could be loaded; the unit's word on that is the answer
        if not lease.cases:
            lease.cases = self.last_word(unit)
        lease.limit = len(lease.cases)
        talk.push_list(f'{{"event":"declare","lease":{number},"cases":[', (case.describe() for case in lease.cases))
        for start in lease.revokes:
            talk.give_back(lease, start)
        talk.receive(wait=False)
        talk.await_grant(lease)
        while lease.next < lease.limit:
            self.run(lease)
        if lease.limit >= len(unit.cases):
            unit.cases = None  # nothing is left of it; a part of a unit is mostly followed by another
        self.wire.push(f'{{"event":"close","lease":{number},"at":{now()},"setup_us":{unit.load_us}}}\n')
        talk.lease = None

    def last_word(self, unit):
        """The cases of a unit that has none. If it is the last, then what was kept for it goes now, and an error in that is
        charged to it: it happened while the unit had its turn, and no other case is left to bear it."""
        talk = self.talk
        talk.receive(wait=False)
        if talk.queue or not (talk.idle or talk.stopping):
            return []
        self.teardown.let_go()
        if not self.teardown.orphans:
            return []
        return [Case(unit.name, 0, None, self.teardown.charge_orphans(Verdict("passed")))]

    # A case.

    def run(self, lease):
        talk, teardown = self.talk, self.teardown
        index = lease.next
        lease.next = index + 1
        case = lease.cases[index]
        talk.send(f'{{"event":"start","lease":{lease.number},"case":{index},"at":{now()}}}\n')
        item = case.item
        if item is None:
            self.end(lease, index, case.verdict)
            talk.receive(wait=False)
            talk.await_grant(lease)
            return
        if index + 1 < lease.limit:
            nextitem = lease.cases[index + 1].item
        elif talk.stopping and not talk.queue:
            nextitem = None
        else:
            nextitem = teardown.ahead
        self.reports = Reports()
        teardown.waited = 0
        teardown.make_room_for(item)
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            self.stay_one()
            talk.receive(wait=False)
            talk.await_grant(lease)  # before the case's end is told: what else is torn down is a part of it
            if nextitem is not None and nextitem is not teardown.ahead and lease.next >= lease.limit:
                teardown.tear_down_further(item)
        except pytest.exit.Exception as error:
            # Plain pytest ends here too. What has not run is not reported; the agent gives it to another process.
            self.end(lease, index, Verdict("error", one_line(f"pytest.exit: {error}")))
            raise
        except KeyboardInterrupt:
            raise  # from outside, most likely; the agent knows better than we what this makes of the case
        except BaseException as error:
            self.end(lease, index, Verdict("error", one_line(f"{type(error).__name__}: {error}"), [("", trace(error))]))
            raise
        self.end(lease, index, teardown.charge_orphans(self.reports.verdict(teardown.waited)))
        session = self.session
        if session.shouldfail or session.shouldstop:
            reason = session.shouldfail or session.shouldstop
            self.give_up(f"pytest was told to stop after {case.id}: {reason}")
            raise session.Failed(reason) if session.shouldfail else session.Interrupted(reason)

    def stay_one(self):
        """A child that a test forked and that came back from it would go on to run the tests that are its parent's to run."""
        if not self.wire.ours():
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(1 if self.reports.failed() else 0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report):
        self.reports.add(report, self.config)

    def end(self, lease, index, verdict):
        self.wire.push(verdict.end(lease.number, index, now()))

    # The end.

    def give_up(self, text):
        """The process must not end as if all were well."""
        self.broken = text
        self.talk.say("error", text)

    def pytest_keyboard_interrupt(self, excinfo):
        self.stopped(f"pytest was stopped: {excinfo.exconly()}")

    def pytest_internalerror(self, excrepr, excinfo):
        self.stopped(f"pytest itself failed: {excinfo.exconly()}\n{excrepr}")

    def stopped(self, text):
        if self.looping and not self.broken:
            self.give_up(text)
        self.broken = self.broken or text

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session):
        outcome = yield
        if outcome.excinfo is not None:
            self.done = False
            self.give_up(f"pytest could not finish: {outcome.excinfo[1]!r}\n{trace(outcome.excinfo[1])}")
        # Outcomes are the agent's to judge; the status says only whether this process did its work.
        if self.done and not self.broken:
            session.exitstatus = 0
        elif session.exitstatus in (0, 1, 5):
            session.exitstatus = BROKEN

    def refuse(self, reason, message, hint=None):
        self.refused = True
        self.talk.refuse(reason, message, hint)

    def farewell(self):
        """The last that is sent. pytest calls it at the end of its configuration, on every way out, with the exception that
        ends it still at hand; the interpreter's exit does, if even that was left out."""
        if self.talk.gone or not self.wire.ours():
            return
        self.talk.gone = True
        error = sys.exc_info()[1]
        if self.done and not self.broken and error is None:
            self.wire.push('{"event":"bye"}\n')
        elif not self.looping and not self.refused:
            if isinstance(error, pytest.UsageError):
                self.refuse("usage", "\n".join(map(str, error.args)))
            elif isinstance(error, ConftestImportFailure):
                self.refuse("usage", conftest_error(error))
            else:
                said = self.broken or (trace(error) if error else "pytest ended before it was ready; its output says why")
                self.refuse("broken", said)
        with contextlib.suppress(OSError):
            self.wire.flush()
