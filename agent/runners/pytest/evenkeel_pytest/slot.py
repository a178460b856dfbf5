"""The slot: pytest's hooks, in the order in which a process lives through them, and the loop over leases.

Its life: set-up and walk (`pytest_cmdline_main` to `pytest_collection`), then the loop (`pytest_runtestloop`); the ways out are
ending.py's. It decides when; how is in the modules beside this one. PYTEST_DONT_REWRITE
"""

import contextlib
import os
import sys

import pytest

from . import finish, groups, options, replay, tee, whole, worker
from .closing import Closing
from .conversation import Conversation
from .ending import Ending
from .fixtures import SharedSetup
from .foreign import Watch
from .loading import Loader
from .reports import is_subtest
from .teardown import Teardown
from .surroundings import Surroundings
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
        self.several = self.slots > 1 or "EVENKEEL_PROCESSES" in os.environ  # this process may not be the only one
        self.concludes = given.get("EVENKEEL_ROLE") == "finish"
        self.whole = given.get("EVENKEEL_COLLECT") == "whole"
        self.run_wide = None
        self.walk = Walk()
        self.surroundings = Surroundings()
        self.loader = Loader(self.walk.units, self.surroundings)
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
        self.worked = False  # a lease has begun
        self.ending = Ending(self.talk, self.closing, self.warned, self.carry)

    # Set-up.

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(self, early_config):
        if self.concludes:
            finish.disguise(early_config)
        elif self.several:
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
            self.ending.refuse("unsupported", message, hint)
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
        elif self.several:
            worker.become(config, self.number, self.slots, self.given["private"])
            self.ending.needless = True  # until a lease begins
            self.kept = replay.Kept(config) if replay.wanted(config) else None
            self.ending.summarises = self.kept is None
        yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session):
        self.session = session
        self.terminal = self.ending.terminal = Terminal(session.config)
        self.terminal.silence()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session):
        """Called by pytest at first, then for each piece of the walk and by the loader for each unit."""
        if self.concludes:
            session.items = []
            return True
        if self.walk.walking:
            with self.surroundings.walking():
                self.walk.step(session, self.walk.walking, self.surroundings)
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

    def pytest_plugin_registered(self, plugin):
        if self.terminal is not None:
            self.terminal.met(plugin)

    # The loop.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        self.surroundings.take()
        self.teardown = Teardown(session, self.talk, self.find, self.is_enough, lambda: self.walk.complete)
        if self.concludes:
            self.say_hello()
            self.conclude(session)
        else:
            self.end_collection(session)
            self.say_hello()
            self.loop()
        self.terminal.listen()
        self.ending.done = True
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
            self.ending.looping = self.worked  # before anything has run this is a refusal
            raise
        finally:
            self.walk.walking = None
        self.walk.troubled(self.loader.take_trouble())

    def find(self, lease):
        """The unit of a lease, walked to if that has not been done."""
        if lease.unit is None:
            units = self.walk.units
            if not self.walk.has_whole(lease.name):
                self.walk_on(lambda: self.walk.has_whole(lease.name))
            lease.unit = units.get(lease.name) or Unit(lease.name, lease.name)
        return lease.unit

    def walk_a_while(self):
        until = now() + PATIENCE
        self.walk_on(lambda: now() >= until)
        if self.talk.listing:
            self.talk.list_units(more=not self.walk.complete)

    def loop(self):
        talk = self.talk
        self.ending.looping = True
        while True:
            if talk.listing and self.walk.complete:
                talk.list_units(more=False)
            elif not self.walk.complete and not (talk.full or talk.stopping) and (talk.listing or not talk.queue):
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
        self.ending.looping = True
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
            "finish": self.several and not self.concludes and finish.needed(self.config),
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
        self.ending.needless = False
        unit = self.find(lease)
        if self.loader.watch is None and not self.whole and len(self.walk.units) > 1:
            self.loader.watch = Watch(self.config, talk.say)
        if unit.cases is None:
            self.loader.load(self.session, unit)
        if self.loader.watch is not None:
            self.loader.watch.over(self.session.items)
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
        unit.load_us = 0  # what a further lease of it does not spend
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
        talk.told = False
        talk.send(f'{{"event":"start","lease":{lease.number},"case":{index},"at":{now()}}}\n')
        item = case.item
        if item is None:
            talk.receive(wait=False)
            if not self.enough(case.verdict.outcome in FAILURES):
                talk.await_grant(lease)
            self.end(lease, index, case.verdict)
            self.heed_stop(case)
            return
        if index + 1 < lease.limit:
            nextitem = lease.cases[index + 1].item
        elif (talk.idle or talk.stopping) and not talk.queue:
            nextitem = None
        else:
            nextitem = teardown.ahead
        self.reports = Reports()
        shared = self.shared.took_us
        teardown.waited = 0
        teardown.make_room_for(item)
        teardown.running = item
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
        verdict.setup = self.shared.took_us - shared
        self.end(lease, index, verdict)
        self.heed_stop(case)

    def heed_stop(self, case):
        """Ends the run if a plugin wants the session to end. Plain pytest ends here, whatever is left, and not well even if nothing is."""
        why = self.session.shouldfail or self.session.shouldstop
        if why and not self.talk.full:
            reason = f"pytest was told to stop after {case.id}: {why}"
            self.closing.fail(reason)
            self.talk.halt(reason)

    def is_enough(self):
        """Whether the item at work, by what it has reported so far, brings the run's limit about."""
        return self.failures + 1 == self.run_wide.limit and self.reports.failed()

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

    def carry(self, session):
        """What this process leaves for the one that concludes the run; None where nobody wants it."""
        if not self.several or self.concludes or not finish.needed(self.config):
            return None
        return finish.carry(session, self.config, self.kept and self.kept.take())
