"""Loading a unit: what Session.perform_collect does with all files, for one.

Owns the way from a unit's nodes to its cases. Which of them run is the lease's. PYTEST_DONT_REWRITE
"""

import pytest
from _pytest import runner as pytest_runner

from .foreign import FileItems
from .reports import headline, long_text, outputs, skip_reason
from .text import clean, one_line, trace
from .units import Case
from .verdict import Verdict
from .walk import namesakes
from .wire import now


class Loader:
    def __init__(self, units, surroundings):
        self.units = units  # by name, in pytest's order
        self.surroundings = surroundings
        self.namesakes = {}  # unit -> those before it whose modules have the same name
        self.compared = 0  # of so many units
        self.unit = None  # the one at work
        self.group = None  # names the group of an item; set when the options are known
        self.loaded = False  # whether a unit was
        self.watch = None  # on hooks of others, where they are called file by file
        self.trouble = []  # reports of collectors that failed or were skipped

    def heard(self, report):
        if not report.passed:
            self.trouble.append(report)

    def take_trouble(self):
        trouble, self.trouble = self.trouble, []
        return trouble

    def load(self, session, unit):
        """Collects the unit's items by way of the hook, so that whatever plugins wrap around collection (filters for warnings,
        log files) is around this too; the slot's implementation of it calls `collect`."""
        for elder in self.elders(session.config, unit):
            if not elder.loaded:
                self.load(session, elder)
        started = now()
        unit.loaded = True
        self.unit = unit
        self.trouble = []
        items, broken = [], None  # a line and a text
        try:
            if unit.nodes:
                with self.surroundings.importing(unit.place):
                    session.config.hook.pytest_collection(session=session)
                items = session.items
            elif not unit.reports:
                text = f"there is no unit {unit.name} here"
                broken = (text, text)
        except pytest.exit.Exception:
            raise  # ends plain pytest too; the agent takes it for an error of this unit
        except (pytest.UsageError, session.Failed, session.Interrupted) as error:
            if isinstance(error, session.Interrupted) and not session.shouldstop:
                raise  # from outside
            text = "\n".join(map(str, error.args))
            broken = (one_line(text), text)
        except (Exception, SystemExit) as error:
            broken = (one_line(f"{type(error).__name__}: {error}"), trace(error))
        unit.cases = self.cases(unit, unit.reports + self.take_trouble(), items, broken)
        unit.load_us = now() - started

    def elders(self, config, unit):
        """Units that are to be loaded before this one. Of several modules with one name pytest loads the first, and complains of the
        others; which is the first must not depend on what a process is given."""
        if self.compared != len(self.units) and config.getoption("importmode") != "importlib":
            self.compared = len(self.units)  # the walk has come further; whatever is before a unit is found before it
            self.namesakes = namesakes(self.units.values())
        return self.namesakes.get(unit, ())

    def cases(self, unit, reports, items, broken):
        cases = []
        told = {}
        own = {node.nodeid for node in unit.nodes}
        for report in reports:
            name = unit.name if report.nodeid in own else clean(report.nodeid) or "."
            told.setdefault(name, []).append(report)
        if broken is not None:
            told.setdefault(unit.name, [])
        for name, about in told.items():
            cases.append(Case(name, 0, None, self.word(about, broken if name == unit.name else None)))
        seen = {case.id: 1 for case in cases}
        for item in items:
            id = clean(item.nodeid)
            n = seen.get(id, 0)
            seen[id] = n + 1
            cases.append(Case(id, n, item, group=self.group(item)))
        return cases

    @staticmethod
    def word(reports, broken):
        """The verdict on what could not be collected: a unit, or a class in it."""
        failed = [report for report in reports if report.failed]
        if not failed and broken is None:
            return Verdict("skipped", skip_reason(reports[0]))
        message = headline(failed[0]) if failed else broken[0]
        details = [("" if len(failed) == 1 else clean(report.nodeid), long_text(report)) for report in failed]
        if broken is not None:
            details.append(("loading" if failed else "", broken[1]))
        return Verdict("error", message, details, [output for report in failed for output in outputs(report.sections)])

    def collect(self, session):
        getattr(session, "_collection_cache", {}).clear()
        items = session.items = FileItems()
        unit = self.unit
        if self.watch is not None and self.loaded:
            self.watch.finished()
        self.loaded = True
        nodes, named = unit.nodes, []
        if unit.names:
            # The walk met the file once for its names, at last; before that as often as other arguments hold it.
            kinds = len({type(node) for node in nodes})
            nodes, named = nodes[:-kinds], nodes[-kinds:]
        missing = []
        for node in nodes:
            items.extend(session.genitems(node))
        seen = {}
        for names in unit.names:
            found = [match for node in named for match in self.match(node, names, seen)]
            for node in found:
                items.extend(session.genitems(node))
            if not found and not self.trouble:
                missing.append(f"not found: {'::'.join([unit.path, *names])}\n(no match in any of {named!r})")
        if missing:
            raise pytest.UsageError(*missing)
        if items:  # a suite has some, or pytest says so; what others do with the list may rely on it
            self.call_hooks(session, items)
        session.testscollected += len(items)

    @staticmethod
    def call_hooks(session, items):
        hook = session.config.hook
        # pytest takes the end of a collection for the end of the walk, and forgets the fixtures of what is still to be walked.
        pending = getattr(getattr(session, "_fixturemanager", None), "_pending_conftests", {})
        kept = dict(pending)
        try:
            hook.pytest_collection_modifyitems(session=session, config=session.config, items=items)
        finally:
            hook.pytest_collection_finish(session=session)
            pending.update(kept)

    def match(self, node, names, seen):
        """The nodes below this one that the names lead to, as Session.collect finds them. `seen` makes two arguments with the
        same class share it."""
        if not names:
            return [node]
        if not isinstance(node, pytest.Collector):
            return []
        report = seen.get(node)
        if report is None:
            report = seen[node] = pytest_runner.collect_one_node(node)
            if not report.passed:
                node.ihook.pytest_collectreport(report=report)
        found = []
        for child in report.result if report.passed else ():
            if child.name == names[0] or child.name.split("[")[0] == names[0]:
                found.extend(self.match(child, names[1:], seen))
        return found
