"""The slot: pytest's hooks, in the order in which a process lives through them, and the loop over leases.

Its life: set-up and walk (`pytest_cmdline_main` to `pytest_collection`), the loop (`pytest_runtestloop`), the end
(`pytest_sessionfinish`, `farewell`). It decides when; how is in the modules beside this one. PYTEST_DONT_REWRITE
"""

import contextlib
import os
import sys

import pytest
from _pytest.config import ConftestImportFailure

from . import finish, groups, options, replay, tee, whole, worker
from .closing import CARRY_LIMIT, Closing
from .conversation import BROKEN, Conversation
from .fixtures import SharedSetup
from .foreign import Watch
from .loading import Loader
from .reports import conftest_error, is_subtest
from .teardown import Teardown
from .terminal import Terminal
from .text import dumps, one_line, trace
from .units import Case, Unit
from .verdict import FAILURES, Reports, Verdict
from .walk import Walk
from .warned import Warned
from .wire import now

PROTOCOL = 1
PATIENCE = 20_000  # microseconds of walking before the slot listens again


class Slot:
    def __init__(self, wire, config, given):
        """`given`: what the agent wants of this process beyond its place in the run."""
        self.wire = wire
        self.config = config
        self.given = given
        self.session = None
        self.number = int(os.environ.get("EVENKEEL_SLOT", "0"))
        self.slots = int(os.environ.get("EVENKEEL_SLOTS", "1"))
        self.concludes = given.get("EVENKEEL_ROLE") == "finish"
        self.whole = given.get("EVENKEEL_COLLECT") == "whole"
        self.run_wide = None
        self.walk = Walk()
        self.loader = Loader(self.walk.units)
        self.talk = Conversation(wire, self.walk.units, lambda: self.session._setupstate.teardown_exact(None))
        self.teardown = None  # made with the loop, when there is a session to tear down
        self.terminal = None
        self.warned = Warned()
        self.shared = SharedSetup()
        self.closing = Closing()
        self.streams = []  # what goes to them is kept, where pytest does not capture
        self.kept = None  # all reports, where the process that concludes the run needs them
        self.reports = Reports()  # of the item that runs
        self.failures = 0
        self.looping = False
        self.worked = False  # a lease has begun
        self.done = False
        self.broken = None  # why this process must not end well
        self.refused = False

    # Set-up.

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(self, early_config):
        if self.concludes:
            finish.disguise(early_config)
        elif self.slots > 1:
            worker.name_run(early_config)
        if getattr(early_config.known_args_namespace, "capture", "no") == "no":
            self.streams = tee.both()
        yield

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config):
        """As early as all options are known, and before any other plugin acts on them."""
        self.config = config
        wrong = options.refused(config)
        if wrong:
            message, hint = f"{wrong[0]} does not work under Evenkeel", wrong[1]
            self.refuse("unsupported", message, hint)
            raise pytest.UsageError(f"{message}; {hint}")
        limit = self.given.get("EVENKEEL_MAX_FAIL")
        self.run_wide = options.RunWide(config, None if limit is None else int(limit))
        self.warned.configure(config.option)
        self.whole = self.whole or self.run_wide.mode == "loadgroup" or whole.needed(config)
        self.loader.group = groups.namer(self.run_wide.mode)
        config.pluginmanager.register(self.shared, "evenkeel-shared-setup")
        worker.share_seeds(config, self.number, self.slots)
        if self.concludes:
            worker.stand_in(config)
        elif self.slots > 1:
            worker.become(config, self.number, self.slots, self.given["private"])
            self.kept = replay.Kept(config) if replay.wanted(config) else None
        yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session):
        self.session = session
        self.terminal = Terminal(session.config)
        self.terminal.silence()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session):
        """Called by pytest at first, then for each piece of the walk and by the loader for each unit."""
        if self.concludes:
            session.items = []
            return True
        if self.walk.walking:
            self.walk.step(session, self.walk.walking)
            return True
        if self.talk.lease is not None:
            self.loader.collect(session)
            return True
        if not self.whole:
            self.walk.begin(session)
        return None

    def pytest_collectreport(self, report):
        self.loader.heard(report)
        self.closing.count(report)
        if self.kept is not None:
            self.kept.add_collected(report)

    def pytest_warning_recorded(self, warning_message, nodeid):
        self.warned.add(warning_message, nodeid)
        if self.terminal is not None and self.terminal.summarised:
            self.terminal.reporter.pytest_warning_recorded(warning_message, nodeid)

    # The loop.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        self.teardown = Teardown(session, self.talk, self.find)
        if self.concludes:
            self.say_hello()
            self.conclude(session)
        else:
            self.end_collection(session)
            self.say_hello()
            self.loop()
        self.terminal.listen()
        self.done = True
        return True

    def end_collection(self, session):
        if self.whole:
            whole.take(session, self.walk, self.loader, self.run_wide.mode)
        else:
            self.walk.begun(session)
            self.walk.troubled(self.loader.take_trouble())

    def walk_on(self, enough):
        """Walks until `enough()` or to the end, by way of the hook, so that whatever plugins wrap around collection is around this."""
        self.walk.walking = enough
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        try:
            with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
                self.config.hook.pytest_collection(session=self.session)
        except BaseException:
            self.looping = self.worked  # before anything has run this is a refusal
            raise
        finally:
            self.walk.walking = None
        self.walk.troubled(self.loader.take_trouble())

    def find(self, lease):
        """The unit of a lease, walked to if that has not been done."""
        if lease.unit is None:
            units = self.walk.units
            if lease.name not in units and not self.walk.complete:
                self.walk_on(lambda: lease.name in units)
            lease.unit = units.get(lease.name) or Unit(lease.name, lease.name)
        return lease.unit

    def walk_a_while(self):
        until = now() + PATIENCE
        self.walk_on(lambda: now() >= until)
        if self.talk.listing:
            self.talk.list_units(more=not self.walk.complete)

    def loop(self):
        talk = self.talk
        self.looping = True
        while True:
            if talk.listing and self.walk.complete:
                talk.list_units(more=False)
            elif not self.walk.complete and (talk.listing or not talk.queue and not talk.stopping):
                self.walk_a_while()
                talk.receive(wait=False)
            elif talk.queue:
                self.work(talk.queue.popleft())
            elif talk.idle or talk.stopping:
                self.teardown.let_go()
                if talk.stopping:
                    break
                talk.receive(wait=True)
            else:
                talk.receive(wait=True)
        for message, text in self.teardown.orphans:
            self.closing.fail(f"an error behind the last test: {message}", text)

    def conclude(self, session):
        talk = self.talk
        self.looping = True
        while not talk.stopping or talk.carried is None:
            talk.receive(wait=True)
        finish.conclude(session, self.closing, self.slots, talk.carried)

    def say_hello(self):
        """Only now: a path that does not exist or a filter that cannot be parsed has shown."""
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
            "notes": self.run_wide.notes,
            "run_wide": self.run_wide.told,
            "closing": True,
            "finish": self.slots > 1 and not self.concludes and finish.needed(self.config),
        }
        self.talk.send(dumps(hello) + "\n")

    # A lease.

    def work(self, lease):
        talk = self.talk
        talk.lease = lease
        number = lease.number
        talk.send(f'{{"event":"begin","lease":{number},"at":{now()}}}\n')  # out before the unit's own code runs
        self.shared.took_us = 0
        self.worked = True
        unit = self.find(lease)
        if self.loader.watch is None and not self.whole and len(self.walk.units) > 1:
            self.loader.watch = Watch(self.config, talk.say)
        if unit.cases is None:
            self.loader.load(self.session, unit)
        lease.cases = [case for case in unit.cases if lease.admits(case)]
        instead = lease.instead()
        if not lease.cases and lease.only and unit.cases and unit.cases[0].item is None and len(unit.cases) == 1:
            lease.cases = unit.cases  # nothing of what was asked for could be loaded; the unit's word on that is the answer
            instead = None
        if not lease.cases:
            lease.cases = self.last_word(unit)
        lease.limit = len(lease.cases)
        tail = "" if instead is None else f',"instead":{dumps(instead)}'
        prefix = self.run_wide.junit_prefix
        talk.push_list(f'{{"event":"declare","lease":{number},"cases":[', (case.describe(prefix) for case in lease.cases), tail)
        for start in lease.revokes:
            talk.give_back(lease, start)
        talk.receive(wait=False)
        talk.await_grant(lease)
        while lease.next < lease.limit:
            if lease.next + 1 == lease.limit and not self.walk.complete:
                # The tear-down of the last one has to know what comes next, and must not load a conftest for that.
                self.walk_on(lambda: False)
            self.run(lease)
        if lease.limit >= len(unit.cases) and not unit.whole:
            unit.cases = None  # nothing is left of it; a part of a unit is mostly followed by another
        self.warned.tell(self.wire)
        setup = unit.load_us + self.shared.took_us
        self.wire.push(f'{{"event":"close","lease":{number},"at":{now()},"setup_us":{setup}}}\n')
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
            self.enough(case.verdict.outcome in FAILURES)
            self.end(lease, index, case.verdict)
            talk.receive(wait=False)
            talk.await_grant(lease)
            return
        if index + 1 < lease.limit:
            nextitem = lease.cases[index + 1].item
        elif (talk.idle or talk.stopping) and not talk.queue:
            nextitem = None
        else:
            nextitem = teardown.ahead
        self.reports = Reports()
        teardown.waited = 0
        teardown.make_room_for(item)
        self.terminal.aside.heard = True
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            self.stay_one()
            self.terminal.aside.heard = False
            talk.receive(wait=False)
            if not self.enough(self.reports.failed() or bool(teardown.orphans)):
                talk.await_grant(lease)  # before the case's end is told: what else is torn down is a part of it
            if talk.full or nextitem is not None and nextitem is not teardown.ahead and lease.next >= lease.limit:
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
        verdict = teardown.charge_orphans(self.reports.verdict(teardown.waited))
        for stream in self.streams:
            verdict.add_output(stream.name, stream.take())
        self.end(lease, index, verdict)
        session = self.session
        if (session.shouldfail or session.shouldstop) and not talk.full:
            reason = session.shouldfail or session.shouldstop
            self.give_up(f"pytest was told to stop after {case.id}: {reason}")
            raise session.Failed(reason) if session.shouldfail else session.Interrupted(reason)

    def enough(self, failed):
        """Whether with this case the run's limit is reached, by this process alone. Then nothing more is begun."""
        if failed:
            self.failures += 1
            if self.failures == self.run_wide.limit:
                self.talk.begin_nothing_more()
        return self.talk.full

    def stay_one(self):
        """A child that a test forked and that came back from it would go on to run the tests that are its parent's to run."""
        if not self.wire.ours():
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(1 if self.reports.failed() else 0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report):
        if not self.concludes:
            self.reports.add(report, self.config)
        if self.kept is not None:
            self.kept.add(report)
        if is_subtest(report) and report.failed and self.failures + 1 == self.run_wide.limit:
            self.session.shouldfail = "a subtest failed"  # by which pytest leaves out the rest of them
        self.closing.count(report)
        if self.terminal.summarised:
            self.terminal.heard(report)

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
    def pytest_sessionfinish(self, session, exitstatus):
        if self.done and not self.broken:
            self.expect_exit(int(exitstatus))
        outcome = yield
        if not self.done or self.broken:
            if session.exitstatus in (0, 1, 5):
                session.exitstatus = BROKEN
            return
        try:
            outcome.get_result()
            if self.kept is None:  # else the process that concludes the run has it all before it
                self.terminal.summarise(exitstatus)
        except (Exception, SystemExit) as error:
            self.object(error, "pytest_sessionfinish")
            outcome.force_result([])
        self.closing.judge(session, self.terminal, int(exitstatus))
        if self.slots > 1 and not self.concludes:
            self.leave_carry(session)
        # Outcomes are the agent's to judge; the status says only whether this process did its work.
        session.exitstatus = 0

    def expect_exit(self, status):
        """Who fears threads that hang leaves by os._exit at the end of the session. That is no crash."""
        plain = os._exit

        def leave(code):
            if not self.talk.gone and self.wire.ours():
                if code not in (0, status):
                    self.closing.fail(f"exit status {code} at the end of the session")
                self.farewell()
            plain(code)

        os._exit = leave

    def leave_carry(self, session):
        if not finish.needed(self.config):
            return
        carry = finish.carry(session, self.config, self.kept and self.kept.take())
        if len(carry) > CARRY_LIMIT:
            self.talk.say("warning", f"what plugins left for the end of the run is lost: {len(carry)} bytes are too many")
            return
        self.closing.carry = carry

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_unconfigure(self):
        outcome = yield
        if self.done and not self.broken and outcome.excinfo is not None:
            self.object(outcome.excinfo[1], "pytest_unconfigure")
            outcome.force_result([])

    def object(self, error, where):
        """An error behind the last test."""
        if not isinstance(error, SystemExit) or error.code:
            self.closing.fail_by(error, where)

    def refuse(self, reason, message, hint=None):
        self.refused = True
        self.talk.refuse(reason, message, hint)

    def leave(self, kind, error, where):
        """Behind all other cleanups of pytest's configuration, with the error of one of them."""
        if self.done and not self.broken and error is not None:
            self.object(error, "the end of the session")
        self.farewell()

    def farewell(self):
        """The last that is sent. pytest calls it at the end of its configuration, on every way out, with the exception that
        ends it still at hand; the interpreter's exit does, if even that was left out."""
        if self.talk.gone or not self.wire.ours():
            return
        self.talk.gone = True
        error = sys.exc_info()[1]
        if self.done and not self.broken:
            if error is not None:
                self.object(error, "the end of the session")
            self.warned.tell(self.wire)
            self.wire.push(self.closing.bye(self.terminal))
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
